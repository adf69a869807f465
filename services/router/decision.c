/* decision.c - what is kept of an event beside its executions.
 *
 * An execution says all about itself, so nothing is written for an event whose candidates all run
 * (docs/decisions.md).  What was refused, in whole or in part, and what a rule did is kept here,
 * with each check that was made.  Rows that are new raise the counters of their rules: once per
 * event, however often it is delivered. */
#include "router.h"
#include "columns.h"

enum { DECISION_COLUMNS = 17 };

struct decisions {
	struct arena  *mem;
	struct columns cols;
};

static const char decision_sql[] =
	"WITH x AS (SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::integer[], "
	"$6::text[], $7::integer[], $8::integer[], $9::text[], $10::text[], $11::uuid[], $12::text[], $13::text[], "
	"$14::text[], $15::jsonb[], $16::text[], $17::bigint[]) AS t(event_id, created_at, dedupe_key, verdict, "
	"code, entity, entity_id, community_id, platform, user_id, session_id, trace_id, reason, message_type, "
	"checks, execution_ids, rule_id)), "
	"made AS (INSERT INTO event_decisions (event_id, created_at, dedupe_key, verdict, code, entity, entity_id, "
	"community_id, platform, user_id, session_id, trace_id, reason, message_type, checks, execution_ids, rule_id) "
	"SELECT event_id, created_at, dedupe_key, verdict, code, entity, entity_id, community_id, platform, user_id, "
	"session_id, trace_id, reason, message_type, checks, execution_ids::uuid[], rule_id FROM x "
	"ON CONFLICT DO NOTHING RETURNING rule_id), "
	/* in id order, so that two routers cannot wait for each other */
	"held AS (SELECT s.id, n.n FROM stringmatch s JOIN (SELECT rule_id, count(*) AS n FROM made "
	"WHERE rule_id IS NOT NULL GROUP BY 1) n ON n.rule_id = s.id ORDER BY s.id FOR UPDATE OF s) "
	"UPDATE stringmatch s SET match_count = s.match_count + held.n, last_matched = now() FROM held "
	"WHERE s.id = held.id";

struct decisions *decisions_new(struct arena *mem, size_t max)
{
	struct decisions *d = ARENA_NEW(mem, struct decisions);

	d->mem = mem;
	columns_init(&d->cols, mem, DECISION_COLUMNS, max);
	return d;
}

bool decision_wanted(const struct work *w)
{
	bool answered = w->asks == ASKS_NOTHING;        /* what was asked for has a candidate */

	if (w->rule.id != 0)
		return true;
	for (size_t i = 0; i < w->n_cand; i++) {
		if (w->cand[i].verdict != VERDICT_PENDING)
			return true;
		answered = answered || w->cand[i].trigger != TRIGGER_EVENT;
	}
	return !answered;
}

/* The checks in their order; a verdict that is none of theirs has passed all. */
static const struct { const char *name; enum verdict fails; } checks[] = {
	{ "enabled", VERDICT_NOT_ENABLED },   { "deny_list", VERDICT_DENIED_USER },
	{ "role", VERDICT_DENIED_ROLE },      { "labels", VERDICT_DENIED_LABEL },
	{ "account", VERDICT_AUTH_REQUIRED }, { "rate_limit", VERDICT_RATE_LIMITED },
	{ "module", VERDICT_UNREACHABLE },    { "backlog", VERDICT_OVERLOADED },
};

/* What comes before candidates: the first that fails leaves none. */
static const struct { const char *name; enum verdict fails; } early[] = {
	{ "monitored", VERDICT_NOT_MONITORED }, { "active", VERDICT_ENTITY_INACTIVE },
	{ "alias", VERDICT_ALIAS_LOOP },        { "known", VERDICT_UNKNOWN_COMMAND },
	{ "enabled", VERDICT_NOT_ENABLED },     { "rule_command", VERDICT_RULE_COMMAND_UNKNOWN },
};

/* Of these, how many were made: with a candidate for what was asked the rest is told there. */
static size_t early_n(const struct work *w)
{
	for (size_t i = 0; i < w->n_cand; i++)
		if (w->cand[i].trigger != TRIGGER_EVENT)
			return 2;
	return w->asks == ASKS_NOTHING ? 2 : w->rule.id != 0 ? 6 : 5;
}

static const char *role_needed(const struct candidate *c)
{
	return role_names[c->grant != NULL && c->grant->min_role >= 0 ? c->grant->min_role :
	                                                                c->route->min_role];
}

static void detail(const struct work *w, const struct candidate *c, enum verdict failed, struct buf *out)
{
	if (failed == VERDICT_DENIED_ROLE)
		buf_printf(out, ",\"role\":\"%s\",\"needs\":\"%s\"", role_names[judge_role(w)],
		           role_needed(c));
	if (failed == VERDICT_RATE_LIMITED)
		buf_printf(out, ",\"limit\":%u,\"retry_after_ms\":%lld", c->route->rate_limit,
		           (long long)c->retry_after_ms);
}

static void add_checks(const struct work *w, const struct candidate *c, struct buf *out)
{
	for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
		bool failed = c->verdict == checks[i].fails;

		if (c->trigger == TRIGGER_EVENT && i > 0)
			return;                 /* such modules are asked for nothing else */
		if (!failed &&
		    (checks[i].fails == VERDICT_UNREACHABLE || checks[i].fails == VERDICT_OVERLOADED))
			continue;
		buf_printf(out, "%s{\"command_id\":%lld,\"command\":", out->n > 1 ? "," : "",
		           (long long)c->route->id);
		buf_json(out, c->cmd->name);
		buf_add(out, STR(",\"module\":"));
		buf_json(out, c->route->module_id);
		buf_printf(out, ",\"check\":\"%s\",\"ok\":%s", checks[i].name, failed ? "false" : "true");
		if (failed)
			detail(w, c, c->verdict, out);
		buf_add(out, STR("}"));
		if (failed)
			return;
	}
}

/* What comes before any candidate, then each candidate's. */
static struct str checks_json(struct arena *mem, const struct work *w)
{
	struct buf b = BUF(64 * 1024);
	struct str ret = STR("[]");

	buf_add(&b, STR("["));
	for (size_t i = 0; i < ARRAY_LEN(early); i++) {
		bool failed = w->base == early[i].fails;

		buf_printf(&b, "%s{\"check\":\"%s\",\"ok\":%s}", i > 0 ? "," : "", early[i].name,
		           failed ? "false" : "true");
		if (failed || i + 1 == early_n(w))
			break;
	}
	for (size_t i = 0; i < w->n_cand; i++)
		add_checks(w, &w->cand[i], &b);
	buf_add(&b, STR("]"));
	if (buf_str(&b, &ret) == 0)
		ret = arena_str(mem, ret);
	else
		ret = STR("[]");
	buf_clear(&b);
	return ret;
}

/* As the text of a uuid[]: arrays of arrays cannot travel as columns. */
static struct str execution_ids(struct arena *mem, const struct work *w)
{
	char *text = arena_alloc(mem, 3 + w->n_cand * 37);
	size_t n = 0;

	text[n++] = '{';
	for (size_t i = 0; i < w->n_cand; i++)
		if (w->cand[i].verdict == VERDICT_PENDING) {
			if (n > 1)
				text[n++] = ',';
			memcpy(text + n, w->cand[i].execution_id, 36);
			n += 36;
		}
	text[n++] = '}';
	return (struct str){ text, n };
}

static struct str reason_of(struct arena *mem, const struct work *w)
{
	if (w->cmd.name.n == 0 || w->rule.id != 0)
		return str_of(verdict_reasons[w->verdict]);
	return arena_printf(mem, STR_FMT STR_FMT ": %s", STR_ARG(w->cmd.prefix), STR_ARG(w->cmd.name),
	                    verdict_reasons[w->verdict]);
}

void decision_add(struct decisions *d, struct work *w)
{
	const struct place *place = w->place != NULL ? cache_value(w->place) : NULL;

	columns_add(&d->cols,
	            ROW(DB_STR(w->ev.event_id), DB_TIME(w->ev.received_at_ms), db_opt(w->ev.dedupe_key),
	                DB_STR(str_of(verdict_names[w->verdict])), DB_INT(verdict_codes[w->verdict]),
	                DB_STR(w->ev.entity), place != NULL ? DB_INT(place->entity_id) : DB_NULL,
	                w->community_id != 0 ? DB_INT(w->community_id) : DB_NULL, DB_STR(w->ev.platform),
	                DB_STR(w->ev.user.id), DB_STR(str_of(w->session_id)), DB_STR(str_of(w->trace_id)),
	                DB_STR(reason_of(d->mem, w)), DB_STR(str_of(message_type_names[w->ev.message_type])),
	                DB_STR(checks_json(d->mem, w)), DB_STR(execution_ids(d->mem, w)),
	                w->rule.id != 0 ? DB_INT(w->rule.id) : DB_NULL));
}

int decisions_send(struct decisions *d, struct db_tx *tx)
{
	struct db_param param[DECISION_COLUMNS];

	if (d->cols.n == 0)
		return 0;
	columns_params(&d->cols, param);
	return db_tx_send(tx, NULL, NULL, decision_sql, param, DECISION_COLUMNS);
}

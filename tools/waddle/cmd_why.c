/* cmd_why.c - waddle why: what became of an event, from the tables every hop leaves a trace in.
 *
 * Executions and outbound messages are not searched: their ids follow from the event's
 * (router.md 1), so each look is by primary key, on any number of rows. */
#include "cli.h"
#include "commands.h"
#include "ids.h"
#include "pg.h"
#include "table.h"

enum { INDEXES = 10, PARTS = 3 }; /* outbound messages looked for per execution; -1: notices */

struct why {
	PGconn *pg;
	const char *event_id, *platform;
	struct buf executions, messages; /* ids as PostgreSQL arrays */
	PGresult *event, *decision, *runs, *sent;
	char verdict[64], text[512];
};

/* Tables that only these platforms have. */
static bool collected(const char *platform)
{
	return strcmp(platform, "twitch") == 0 || strcmp(platform, "discord") == 0 ||
	       strcmp(platform, "slack") == 0;
}

static PGresult *query_for(struct why *w, struct err *err, const char *before, const char *after,
                           const char *param)
{
	char sql[2048];

	snprintf(sql, sizeof(sql), "%s%s%s", before, w->platform, after);
	return pg_query(w->pg, err, sql, 1, &param);
}

static void add_id(struct buf *ids, const char *id)
{
	buf_printf(ids, "%s%s", ids->n > 1 ? "," : "", id);
}

static int get_event(struct why *w, struct err *err)
{
	if (collected(w->platform)) {
		w->event = query_for(
			w, err,
			"SELECT event_type, processed, message IS NOT NULL AS forwarded, entity FROM ",
			"_events WHERE event_id = $1", w->event_id);
		if (w->event == NULL)
			return err->code;
	}
	w->decision = PG_QUERY(
		w->pg, err,
		"SELECT verdict, reason, code, rule_id, entity FROM event_decisions WHERE event_id = $1 "
		"ORDER BY created_at LIMIT 1",
		w->event_id);
	return w->decision == NULL ? err->code : 0;
}

/* Every command there is could have run: as itself, or by the rule that the decision names. */
static int get_runs(struct why *w, struct err *err)
{
	PGresult *res = PG_QUERY(w->pg, err, "SELECT id FROM commands");
	int64_t rule = 0, command;
	char id[ID_TEXT];
	struct str ids;

	if (res == NULL)
		return err->code;
	if (PQntuples(w->decision) > 0 && !PQgetisnull(w->decision, 0, 3))
		(void)!str_int(str_of(PQgetvalue(w->decision, 0, 3)), 1, INT64_MAX, &rule);
	buf_add(&w->executions, STR("{"));
	for (int i = 0; i < PQntuples(res); i++) {
		if (str_int(str_of(PQgetvalue(res, i, 0)), 1, INT64_MAX, &command) < 0)
			continue;
		id_execution(str_of(w->event_id), command, 0, id);
		add_id(&w->executions, id);
		if (rule > 0) {
			id_execution(str_of(w->event_id), command, rule, id);
			add_id(&w->executions, id);
		}
	}
	PQclear(res);
	buf_add(&w->executions, (struct str){ "}", 2 });
	if (buf_str(&w->executions, &ids) < 0)
		return err_set(err, -EMSGSIZE, "too many commands to look for");
	w->runs = PG_QUERY(
		w->pg, err,
		"SELECT e.execution_id, coalesce(c.prefix || c.command, '?') AS command, e.module_name AS "
		"module, "
		"e.status, e.error_message AS error, e.sent_at IS NOT NULL AS sent, e.execution_time_ms AS "
		"ms, "
		"(SELECT count(*) FROM module_responses r WHERE r.execution_id = e.execution_id "
		"AND r.created_at = e.created_at) AS responses, "
		"e.sent_at + e.timeout_ms * interval '1 ms' < now() AS overdue FROM command_executions e "
		"LEFT JOIN commands c ON c.id = e.command_id WHERE e.execution_id = ANY($1::uuid[]) "
		"ORDER BY array_position('{success,pending,failed}', e.status), c.priority, c.id",
		ids.p);
	return w->runs == NULL ? err->code : 0;
}

static int get_sent(struct why *w, struct err *err)
{
	char id[ID_TEXT];
	struct str ids;

	buf_add(&w->messages, STR("{"));
	for (int i = 0; i < PQntuples(w->runs); i++)
		for (int index = -1; index < INDEXES; index++)
			for (int part = 0; part < PARTS; part++) {
				id_outbound(str_of(PQgetvalue(w->runs, i, 0)), index, part, id);
				add_id(&w->messages, id);
			}
	buf_add(&w->messages, (struct str){ "}", 2 });
	if (buf_str(&w->messages, &ids) < 0)
		return err_set(err, -EMSGSIZE, "too many messages to look for");
	if (!collected(w->platform))
		return 0;
	w->sent = query_for(w, err, "SELECT state, error FROM ",
	                    "_outbox WHERE message_id = ANY($1::uuid[]) "
	                    "ORDER BY state = 'sent', state IN ('queued', 'sending'), arrival",
	                    ids.p);
	return w->sent == NULL ? err->code : 0;
}

static void conclude(struct why *w, const char *verdict, const char *fmt, ...) PRINTF(3, 4);
static void conclude(struct why *w, const char *verdict, const char *fmt, ...)
{
	va_list ap;

	snprintf(w->verdict, sizeof(w->verdict), "%s", verdict);
	va_start(ap, fmt);
	vsnprintf(w->text, sizeof(w->text), fmt, ap);
	va_end(ap);
}

/* One sentence per verdict of router.md 19 that leaves no execution. */
static const char *sentence(const char *verdict)
{
	static const struct {
		const char *verdict, *text;
	} all[] = {
		{ "not_monitored", "The server or channel is not served: waddle servers add." },
		{ "entity_inactive", "The channel is switched off." },
		{ "unknown_command", "There is no command of that name." },
		{ "not_enabled", "The command is not enabled in this channel: waddle commands enable." },
		{ "denied_user", "The user is on the deny list of the command." },
		{ "denied_role", "The command needs a higher role than the user has." },
		{ "denied_label", "The command needs a label that the user does not have." },
		{ "auth_required", "The command needs a linked account." },
		{ "rate_limited", "The user was over the command's rate limit." },
		{ "alias_loop", "The alias leads back to itself." },
		{ "overloaded", "Too many commands were waiting for the module." },
		{ "duplicate", "The same thing had come before under another id." },
		{ "bad_event", "The event was not well-formed; it lies on waddle.dlq." },
		{ "plain", "It was plain chat." },
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (strcmp(all[i].verdict, verdict) == 0)
			return all[i].text;
	return "The router decided so.";
}

static void judge_event(struct why *w)
{
	if (PQntuples(w->decision) > 0) {
		const char *verdict = PQgetvalue(w->decision, 0, 0), *reason = PQgetvalue(w->decision, 0, 1);

		conclude(w, verdict, "%s", *reason != '\0' ? reason : sentence(verdict));
	} else if (w->event == NULL || PQntuples(w->event) == 0) {
		conclude(w, "unknown",
		         "Nothing is known of it: it never arrived, was plain chat (which is not kept), or "
		         "is older than what is kept.");
	} else if (*PQgetvalue(w->event, 0, 2) == 'f') {
		conclude(w, "not_forwarded",
		         "The collector keeps events of this kind (%s) and forwards none.",
		         PQgetvalue(w->event, 0, 0));
	} else if (*PQgetvalue(w->event, 0, 1) == 'f') {
		conclude(w, "unpublished",
		         "The collector has it, but it is not on waddle.events yet: is the broker up?");
	} else {
		conclude(w, "plain",
		         "The router was given it and kept no decision: it was plain chat, or is still "
		         "waiting there.");
	}
}

static void judge_success(struct why *w)
{
	const char *command = PQgetvalue(w->runs, 0, 1), *module = PQgetvalue(w->runs, 0, 2);

	if (w->sent != NULL && PQntuples(w->sent) > 0 && strcmp(PQgetvalue(w->sent, 0, 0), "sent") != 0) {
		const char *state = PQgetvalue(w->sent, 0, 0), *error = PQgetvalue(w->sent, 0, 1);
		bool waits = strcmp(state, "queued") == 0 || strcmp(state, "sending") == 0;

		conclude(w, waits ? "sending" : "send_refused",
		         "%s answered; its message is %s at the collector%s%s.", module, state,
		         *error != '\0' ? ": " : "", error);
	} else {
		conclude(w, "answered", "%s ran %s and answered after %s ms.", module, command,
		         PQgetvalue(w->runs, 0, 6));
	}
}

static void judge(struct why *w)
{
	if (PQntuples(w->runs) == 0) {
		judge_event(w);
		return;
	}
	const char *status = PQgetvalue(w->runs, 0, 3), *error = PQgetvalue(w->runs, 0, 4);
	const char *command = PQgetvalue(w->runs, 0, 1), *module = PQgetvalue(w->runs, 0, 2);

	if (strcmp(status, "success") == 0)
		judge_success(w);
	else if (strcmp(status, "failed") == 0 && strcmp(error, "timeout") == 0)
		conclude(w, "timeout", "%s did not answer %s in time.", module, command);
	else if (strcmp(status, "failed") == 0)
		conclude(w, "module_failed", "%s failed in %s: %s.", command, module,
		         *error != '\0' ? error : "no reason given");
	else if (*PQgetvalue(w->runs, 0, 5) != 't')
		conclude(w, "pending", "%s waits its turn; %s was not asked yet.", command, module);
	else
		conclude(w, "pending", "%s was asked to run %s and has not answered%s.", module, command,
		         *PQgetvalue(w->runs, 0, 8) == 't' ? "; its time is over" : " yet");
}

static PGresult *get_hops(struct why *w, struct err *err)
{
	static const char head[] =
		"WITH ex AS (SELECT e.*, c.prefix || c.command AS name FROM command_executions e "
		"LEFT JOIN commands c ON c.id = e.command_id WHERE e.execution_id = ANY($2::uuid[])), "
		"hops (n, at, hop, service, detail) AS ("
		"SELECT 4, decided_at, 'decided', 'router', verdict FROM event_decisions WHERE event_id = $1 "
		"UNION ALL SELECT 5, sent_at, 'sent', 'router', name || ' to ' || module_name FROM ex "
		"UNION ALL SELECT 6, r.responded_at, 'responded', r.module_name, r.response_action || "
		"CASE WHEN r.success THEN '' ELSE ', failed: ' || coalesce(r.error_message, '') END FROM ex "
		"JOIN module_responses r ON r.execution_id = ex.execution_id AND r.created_at = "
		"ex.created_at "
		"UNION ALL SELECT 7, completed_at, 'completed', 'router', status || coalesce(': ' || "
		"error_message, '') FROM ex";
	static const char tail[] =
		") SELECT hop, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS at, "
		"round(extract(epoch FROM at - min(at) OVER ()) * 1000, 1) AS ms, service, coalesce(detail, "
		"'') AS detail "
		"FROM hops WHERE at IS NOT NULL ORDER BY at, n";
	const char *params[] = { w->event_id, w->executions.p, w->messages.p };
	struct buf sql = BUF(16 * 1024);
	struct str text;
	PGresult *res = NULL;

	buf_add(&sql, str_of(head));
	if (collected(w->platform))
		buf_printf(&sql,
		           " UNION ALL SELECT 1, created_at, 'happened', '%s', event_type FROM %s_events "
		           "WHERE event_id = $1"
		           " UNION ALL SELECT 2, received_at, 'received', 'collector-%s', entity FROM "
		           "%s_events WHERE event_id = $1"
		           " UNION ALL SELECT 3, published_at, 'published', 'collector-%s', 'waddle.events' "
		           "FROM %s_events "
		           "WHERE event_id = $1"
		           " UNION ALL SELECT 8, created_at, 'outbound', 'collector-%s', kind FROM %s_outbox "
		           "WHERE message_id = ANY($3::uuid[])"
		           " UNION ALL SELECT 9, sent_at, 'delivered', 'collector-%s', state FROM %s_outbox "
		           "WHERE message_id = ANY($3::uuid[])",
		           w->platform, w->platform, w->platform, w->platform, w->platform, w->platform,
		           w->platform, w->platform, w->platform, w->platform);
	else            /* an execution's created_at is when its event was received */
		buf_add(&sql, STR(" UNION ALL SELECT 2, min(created_at), 'received', split_part($1, ':', 1), "
		                  "min(user_name) FROM ex"));
	buf_add(&sql, str_of(tail));
	buf_add(&sql, (struct str){ "", 1 });
	if (buf_str(&sql, &text) == 0)
		res = pg_query(w->pg, err, text.p, collected(w->platform) ? 3 : 2, params);
	buf_clear(&sql);
	return res;
}

static int show(struct why *w, bool json, struct err *err)
{
	PGresult *hops = get_hops(w, err);
	struct buf out = BUF(8192);
	struct str head = STR_NONE;

	if (hops == NULL)
		return err->code;
	if (json) {
		buf_add(&out, STR("{\"event_id\":"));
		buf_json(&out, str_of(w->event_id));
		buf_add(&out, STR(",\"verdict\":"));
		buf_json(&out, str_of(w->verdict));
		buf_add(&out, STR(",\"text\":"));
		buf_json(&out, str_of(w->text));
		if (buf_str(&out, &head) == 0)
			printf(STR_FMT ",\"hops\":", STR_ARG(head));
		table_print(hops, true);
		printf(",\"executions\":");
		table_print(w->runs, true);
		printf("}\n");
	} else {
		if (PQntuples(hops) > 0) {
			table_print(hops, false);
			printf("\n");
		}
		printf("%s: %s\n", w->verdict, w->text);
	}
	buf_clear(&out);
	PQclear(hops);
	return 0;
}

static int explain(struct why *w, bool json, struct err *err)
{
	int r = get_event(w, err);

	if (r == 0)
		r = get_runs(w, err);
	if (r == 0)
		r = get_sent(w, err);
	if (r == 0) {
		judge(w);
		r = show(w, json, err);
	}
	PQclear(w->event);
	PQclear(w->decision);
	PQclear(w->runs);
	PQclear(w->sent);
	buf_clear(&w->executions);
	buf_clear(&w->messages);
	return r;
}

int cmd_why(int argc, char **argv)
{
	struct why w = { .executions = BUF(4 * 1024 * 1024), .messages = BUF(4 * 1024 * 1024) };
	char platform[33];
	bool json = false;
	struct err err = { 0 };
	int r, status;
	const struct opt opts[] = {
		{ .name = "json", .type = OPT_FLAG, .to = &json, .help = "for scripts" },
		{ 0 },
	};

	if (cli_options(opts, "<event-id> [--json]",
	                "Says what became of an event (twitch:8b0e2a54-...): each hop with its time, and the "
	                "one\n"
	                "reason when there was no answer.  Fails when nothing is known of it.",
	                argc, argv, 1, 1, &status) < 0)
		return status;
	w.event_id = argv[1];
	snprintf(platform, sizeof(platform), "%.*s", (int)strcspn(argv[1], ":"), argv[1]);
	w.platform = platform;
	if (pg_open(&w.pg, &err) < 0)
		return cli_fail(&err);
	r = explain(&w, json, &err);
	pg_close(&w.pg);
	if (r < 0)
		return cli_fail(&err);
	return strcmp(w.verdict, "unknown") == 0 ? CLI_FAILED : CLI_OK;
}

/* api_explain.c - GET /router/explain/{event_id}: what became of an event (router.md 19).
 *
 * An execution says all about itself, a decision what was refused; both lie under the event's
 * instant.  That is found first, from whichever row the event left under its own ids: decision,
 * session, inbox.  (An event older than its session, without a decision, is looked for under the
 * ids it would have given every command there is.) */
#include "api.h"
#include "clock.h"
#include "err.h"
#include "ids.h"

enum { RUNS = 64, IDS = 20000 };

struct run {                            /* a row of command_executions with its responses */
	struct str id, command, module, status, error, responses, trigger, sent, completed, delivery_error, platform;
	int64_t    command_id, sent_ms, completed_ms, took_ms, responded_ms, processing_ms, delivered_ms;
};

struct explain {
	struct http_req *r;
	struct router   *router;
	struct str       event_id, session_id;
	bool             primary, by_ids;
	int64_t          at_ms;         /* received_at; 0: not known */
	struct str       at;            /* the same, to the microsecond */
	bool             decided;
	struct str       verdict, reason, checks, entity, platform, message_type, user_id, trace_id;
	int64_t          decided_ms, rule_id, community_id;
	struct run       run[RUNS];
	size_t           n;
	struct str       user_name;
};

static void find(struct explain *x);

static struct str kept(const struct explain *x, const struct db_result *res, int row, int col)
{
	return db_null(res, row, col) ? STR_NONE : arena_str(http_mem(x->r), db_str(res, row, col));
}

/* --- the verdict ------------------------------------------------------------------------------------- */

static int verdict_of_name(struct str name)
{
	for (int i = 0; i < VERDICT_COUNT; i++)
		if (str_eq(name, str_of(verdict_names[i])))
			return i;
	return -1;
}

/* A later state of the same event replaces what was decided on its arrival. */
static enum verdict of_run(const struct run *r)
{
	int named;

	if (str_eq(r->status, STR("pending")))
		return VERDICT_PENDING;
	if (str_eq(r->status, STR("success")))
		return r->delivery_error.n > 0 ? VERDICT_SEND_REFUSED : VERDICT_ANSWERED;
	named = verdict_of_name(r->error);
	return named >= 0 ? (enum verdict)named : VERDICT_MODULE_FAILED;
}

static int rank(enum verdict v)
{
	return v == VERDICT_ANSWERED ? 3 : v == VERDICT_SEND_REFUSED ? 2 : v == VERDICT_PENDING ? 1 : 0;
}

/* Whose outcome is the event's: what was asked for before what merely watched. */
static const struct run *best_run(const struct explain *x)
{
	const struct run *best = NULL;

	for (size_t i = 0; i < x->n; i++) {
		const struct run *r = &x->run[i];
		bool event = str_eq(r->trigger, STR("event")), was = best != NULL && str_eq(best->trigger, STR("event"));

		if (best == NULL || (was && !event) || (was == event && rank(of_run(r)) > rank(of_run(best))))
			best = r;
	}
	return best;
}

static enum verdict verdict_of(const struct explain *x, const struct run *best)
{
	int stored = x->decided ? verdict_of_name(x->verdict) : -1;

	if (best == NULL)
		return stored >= 0 ? (enum verdict)stored : VERDICT_PLAIN;
	if (stored >= 0 && stored != VERDICT_PENDING && stored != VERDICT_EVENT_MODULES && stored != VERDICT_RULE_COMMAND)
		return (enum verdict)stored;
	if (str_eq(best->trigger, STR("event")))
		return VERDICT_EVENT_MODULES;
	if (stored == VERDICT_RULE_COMMAND && rank(of_run(best)) > 0)
		return VERDICT_RULE_COMMAND;
	return of_run(best);
}

static struct str sentence(const struct explain *x, enum verdict v, const struct run *r)
{
	struct arena *mem = http_mem(x->r);

	if (r == NULL || (x->decided && v != of_run(r) && x->reason.n > 0)) {
		if (x->reason.n > 0)
			return x->reason;
		return arena_printf(mem, "The router decided: %s.", verdict_reasons[v]);
	}
	v = of_run(r);
	if (v == VERDICT_ANSWERED)
		return arena_printf(mem, STR_FMT " ran " STR_FMT " and answered after %lld ms.", STR_ARG(r->module),
		                    STR_ARG(r->command), (long long)r->took_ms);
	if (v == VERDICT_SEND_REFUSED)
		return arena_printf(mem, STR_FMT " answered; the platform did not take the answer: " STR_FMT ".",
		                    STR_ARG(r->module), STR_ARG(r->delivery_error));
	if (v == VERDICT_PENDING && r->sent_ms == 0)
		return arena_printf(mem, STR_FMT " waits its turn; " STR_FMT " was not asked yet.", STR_ARG(r->command),
		                    STR_ARG(r->module));
	if (v == VERDICT_PENDING)
		return arena_printf(mem, STR_FMT " was asked to run " STR_FMT " and has not answered yet.",
		                    STR_ARG(r->module), STR_ARG(r->command));
	if (v == VERDICT_TIMEOUT)
		return arena_printf(mem, STR_FMT " did not answer " STR_FMT " in time.", STR_ARG(r->module), STR_ARG(r->command));
	return arena_printf(mem, STR_FMT " failed in " STR_FMT ": " STR_FMT ".", STR_ARG(r->command), STR_ARG(r->module),
	                    STR_ARG(r->error.n > 0 ? r->error : STR("no reason given")));
}

/* --- the answer --------------------------------------------------------------------------------------- */

static void member(struct buf *b, const char *name, struct str value)
{
	buf_printf(b, ",\"%s\":", name);
	if (value.p == NULL)
		buf_add(b, STR("null"));
	else
		buf_json(b, value);
}

static void hop(struct buf *b, const struct explain *x, const char *name, int64_t at_ms, struct str service, struct str detail)
{
	char at[CLOCK_TEXT];

	if (at_ms == 0)
		return;
	clock_text(at_ms, at);
	buf_printf(b, "%s{\"hop\":\"%s\",\"at\":\"%s\",\"ms\":%lld", b->p[b->n - 1] == '[' ? "" : ",", name, at,
	           (long long)(at_ms - x->at_ms));
	member(b, "service", service);
	member(b, "detail", detail);
	buf_add(b, STR("}"));
}

static void hops(struct buf *b, const struct explain *x)
{
	struct str collector = arena_printf(http_mem(x->r), "collector-" STR_FMT, STR_ARG(x->platform));
	int64_t decided = x->decided_ms;

	for (size_t i = 0; i < x->n && decided == 0; i++)
		decided = x->run[i].sent_ms;            /* sent with the commit of the decision */
	buf_add(b, STR(",\"hops\":["));
	hop(b, x, "received", x->at_ms, STR("router"), x->entity);
	hop(b, x, "decided", decided, STR("router"), x->verdict);
	for (size_t i = 0; i < x->n; i++) {
		const struct run *r = &x->run[i];

		hop(b, x, "sent", r->sent_ms, STR("router"), r->command);
		/* When the module began, from how long it says it took. */
		hop(b, x, "module", r->responded_ms != 0 ? r->responded_ms - r->processing_ms : 0, r->module, r->command);
		hop(b, x, "responded", r->responded_ms, r->module, r->status);
		/* Handed over in the turn that stored the response. */
		hop(b, x, "outbound", r->delivered_ms != 0 || r->delivery_error.n > 0 ? r->responded_ms : 0, STR("router"), STR_NONE);
		hop(b, x, "delivered", r->delivered_ms, collector, r->delivery_error);
	}
	buf_add(b, STR("]"));
}

static void executions(struct buf *b, const struct explain *x)
{
	buf_add(b, STR(",\"executions\":["));
	for (size_t i = 0; i < x->n; i++) {
		const struct run *r = &x->run[i];

		buf_printf(b, "%s{\"execution_id\":\"" STR_FMT "\"", i > 0 ? "," : "", STR_ARG(r->id));
		member(b, "command", r->command);
		member(b, "module", r->module);
		member(b, "status", r->status);
		member(b, "sent_at", r->sent);
		member(b, "completed_at", r->completed);
		member(b, "error_message", r->error);
		buf_add(b, STR(",\"responses\":"));
		buf_add(b, r->responses.n > 0 ? r->responses : STR("[]"));
		buf_add(b, STR("}"));
	}
	buf_add(b, STR("]"));
}

static void reply(struct explain *x)
{
	const struct run *best = best_run(x);
	enum verdict v = verdict_of(x, best);
	struct buf b = BUF(1 << 20);
	struct str text;

	if (x->verdict.n == 0)
		x->verdict = str_of(verdict_names[v]);
	buf_add(&b, STR("{\"event_id\":"));
	buf_json(&b, x->event_id);
	buf_printf(&b, ",\"verdict\":\"%s\",\"code\":%d,\"text\":", verdict_names[v], verdict_codes[v]);
	buf_json(&b, sentence(x, v, best));
	buf_add(&b, STR(",\"event\":{\"event_id\":"));
	buf_json(&b, x->event_id);
	member(&b, "entity", x->entity);
	member(&b, "platform", x->platform);
	member(&b, "message_type", x->message_type);
	member(&b, "user_id", x->user_id);
	member(&b, "received_at", x->at);
	buf_add(&b, STR("},\"checks\":"));
	buf_add(&b, x->checks.n > 0 ? x->checks : STR("[]"));
	hops(&b, x);
	executions(&b, x);
	if (x->rule_id != 0)
		buf_printf(&b, ",\"rule\":%lld", (long long)x->rule_id);
	else
		buf_add(&b, STR(",\"rule\":null"));
	member(&b, "trace_id", x->trace_id);
	buf_add(&b, STR("}"));
	if (buf_str(&b, &text) == 0)
		http_reply_raw(x->r, 200, "application/json", text);
	else
		http_refuse(x->r, 500, "ANSWER_SIZE", "The answer is too large.", NULL, 0);
	buf_clear(&b);
}

static void unknown(struct explain *x)
{
	http_refuse(x->r, 404, NULL,
	            "Nothing is known of this event: it never arrived, was plain chat (which is not kept), or is older than what is kept.",
	            NULL, 0);
}

/* --- looking -------------------------------------------------------------------------------------------- */

#define T(at) "to_char(" at " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
#define RUN_COLUMNS \
	"SELECT e.execution_id, e.command_id, coalesce(c.prefix || c.command, '?'), e.module_name, e.status, e.error_message, " \
	"e.trigger, e.sent_at, e.completed_at, coalesce(e.execution_time_ms, 0), r.list::text, r.responded_at, r.processing_ms, " \
	"r.delivered_at, r.delivery_error, e.user_id, e.trace_id, " T("e.sent_at") ", " T("e.completed_at") ", n.address, " \
	"n.platform, e.created_at, " T("e.created_at") " FROM command_executions e LEFT JOIN commands c ON c.id = e.command_id " \
	"LEFT JOIN entities n ON n.entity_id = e.entity_id LEFT JOIN LATERAL (SELECT json_agg(json_build_object('index', " \
	"m.response_index, 'action', m.response_action, 'delivered_at', " T("m.delivered_at") ", 'delivery_error', " \
	"m.delivery_error) ORDER BY m.response_index) AS list, min(m.responded_at) AS responded_at, " \
	"coalesce(min(m.processing_time_ms), 0) AS processing_ms, min(m.delivered_at) AS delivered_at, " \
	"max(m.delivery_error) AS delivery_error FROM module_responses m WHERE m.execution_id = e.execution_id " \
	"AND m.created_at = e.created_at) r ON true "

static void ran(void *arg, const struct db_result *res, const struct err *err)
{
	struct explain *x = arg;

	if (err != NULL) {
		api_fail_db(x->r, err);
		return;
	}
	for (int i = 0; i < db_rows(res) && x->n < RUNS; i++) {
		struct run *r = &x->run[x->n++];

		r->id = kept(x, res, i, 0);
		r->command_id = db_int(res, i, 1);
		r->command = kept(x, res, i, 2);
		r->module = kept(x, res, i, 3);
		r->status = kept(x, res, i, 4);
		r->error = kept(x, res, i, 5);
		r->trigger = kept(x, res, i, 6);
		r->sent_ms = db_time(res, i, 7);
		r->completed_ms = db_time(res, i, 8);
		r->took_ms = db_int(res, i, 9);
		r->responses = kept(x, res, i, 10);
		r->responded_ms = db_time(res, i, 11);
		r->processing_ms = db_int(res, i, 12);
		r->delivered_ms = db_time(res, i, 13);
		r->delivery_error = kept(x, res, i, 14);
		r->sent = kept(x, res, i, 17);
		r->completed = kept(x, res, i, 18);
		if (x->user_id.n == 0)
			x->user_id = kept(x, res, i, 15);
		if (x->trace_id.n == 0)
			x->trace_id = kept(x, res, i, 16);
		if (x->entity.n == 0)
			x->entity = kept(x, res, i, 19);
		if (x->platform.n == 0)
			x->platform = kept(x, res, i, 20);
		if (x->at_ms == 0) {
			x->at_ms = db_time(res, i, 21);
			x->at = kept(x, res, i, 22);
		}
	}
	if (x->n > 0 || x->decided) {
		reply(x);
	} else if (!x->primary) {
		x->primary = true;
		x->by_ids = false;
		x->at_ms = 0;
		find(x);
	} else {
		unknown(x);
	}
}

static struct db_opts where(const struct explain *x)
{
	return (struct db_opts){ .to = x->primary ? DB_WRITE : DB_READ };
}

static void too_much(struct explain *x) { http_refuse(x->r, 503, NULL, "The database has too much to do at the moment.", NULL, 0); }

/* No row under the event's own ids: those of every command there is. */
static void named(void *arg, const struct db_result *res, const struct err *err)
{
	struct explain *x = arg;
	struct db_param *ids;
	size_t n;

	if (err != NULL) {
		api_fail_db(x->r, err);
		return;
	}
	n = (size_t)db_rows(res);
	ids = XNEW_N(struct db_param, n + 1);
	for (size_t i = 0; i < n; i++) {
		char *text = arena_alloc(http_mem(x->r), ID_TEXT);

		id_execution(x->event_id, db_int(res, (int)i, 0), 0, text);
		ids[i] = DB_STR(str_of(text));
	}
	if (db_query(x->router->db, where(x), ran, x,
	             RUN_COLUMNS "WHERE e.execution_id = ANY ($1::uuid[]) ORDER BY e.created_at, e.id", DB_ARRAY(ids, n)) != 0)
		too_much(x);
	free(ids);
}

static void found(void *arg, const struct db_result *res, const struct err *err)
{
	struct explain *x = arg;
	int e;

	if (err != NULL) {
		api_fail_db(x->r, err);
		return;
	}
	if (db_rows(res) > 0) {
		x->at_ms = db_time(res, 0, 0);
		x->at = kept(x, res, 0, 1);
		x->decided = !db_null(res, 0, 2);
		x->verdict = kept(x, res, 0, 2);
		x->reason = kept(x, res, 0, 3);
		x->checks = kept(x, res, 0, 4);
		x->entity = kept(x, res, 0, 5);
		x->platform = kept(x, res, 0, 6);
		x->message_type = kept(x, res, 0, 7);
		x->user_id = kept(x, res, 0, 8);
		x->trace_id = kept(x, res, 0, 9);
		x->decided_ms = db_time(res, 0, 10);
		x->rule_id = db_int(res, 0, 11);
		e = db_query(x->router->db, where(x), ran, x,
		             RUN_COLUMNS "WHERE e.created_at = $2::text::timestamptz AND e.event_id = $1::text ORDER BY e.id",
		             DB_STR(x->event_id), DB_STR(kept(x, res, 0, 12)));
	} else {
		x->by_ids = true;
		e = db_query(x->router->db, where(x), named, x, "SELECT id FROM commands ORDER BY id LIMIT $1::bigint", DB_INT(IDS));
	}
	if (e != 0)
		too_much(x);
}

static void find(struct explain *x)
{
	if (db_query(x->router->db, where(x), found, x,
	             "SELECT d.created_at, " T("d.created_at") ", d.verdict, d.reason, d.checks::text, d.entity, d.platform, "
	             "d.message_type, d.user_id, d.trace_id, d.decided_at, coalesce(d.rule_id, 0), d.created_at::text, 0 AS n "
	             "FROM event_decisions d WHERE d.event_id = $1::text UNION ALL "
	             "SELECT s.created_at, " T("s.created_at") ", NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, "
	             "s.created_at::text, 1 FROM sessions s WHERE s.session_id = $2::uuid UNION ALL "
	             "SELECT i.received_at, " T("i.received_at") ", NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, "
	             "i.received_at::text, 2 FROM router_inbox i WHERE i.key = $1::text ORDER BY n LIMIT 1",
	             DB_STR(x->event_id), DB_STR(x->session_id)) != 0)
		too_much(x);
}

static void explain(struct http_req *r, void *arg)
{
	struct explain *x = ARENA_NEW(http_mem(r), struct explain);
	char *session = arena_alloc(http_mem(r), ID_TEXT);

	x->r = r;
	x->router = arg;
	x->event_id = http_path(r, "event_id");
	if (!str_utf8_ok(x->event_id) || str_clip(x->event_id, 128).n != x->event_id.n) {
		unknown(x);
		return;
	}
	id_session(x->event_id, session);
	x->session_id = str_of(session);
	find(x);
}

const struct http_route explain_routes[] = {
	{ .method = "GET", .path = "/router/explain/{event_id}", .auth = HTTP_KEY_ADMIN, .handle = explain,
	  .summary = "What became of an event: verdict, checks, executions and each hop with its time." },
	{ 0 }
};

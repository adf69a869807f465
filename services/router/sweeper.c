/* sweeper.c - commands nobody answered, and the days to come.
 *
 * No index knows which rows are pending - settling one would then cost an entry in each of the
 * others.  So each replica remembers when what it wrote will be late and where it lies (due.h), and
 * reads just that when the moment has come: rows still pending are failed, or looked at again when
 * they may be late.  What a replica leaves behind is found by the next owner of its partitions: it
 * reads everything from router_partitions.pending_since on, once.  Two that look at the same row
 * do not wait for each other (SKIP LOCKED).  Every hour the partitions of tables ahead are made. */
#include "router.h"
#include "clock.h"
#include "due.h"
#include "err.h"
#include "log.h"
#include "metrics.h"
#include "service.h"
#include "waiting.h"

enum { SWEEP_MS = 500, ENSURE_MS = 3600000, SEARCH_TIMEOUT_MS = 60000, DAY_MS = 86400000 };
enum { SAVE_MS = 10000, COUNT_MS = 30000, BEHIND_MS = 60000 };
enum { SPANS = 32, FAIL_ROWS = 512, WAITING_MS = 5000, AGAIN_MS = 2000 };
enum { COMMITS = 16 };                          /* sweeps a commit may last */

struct sweeper {
	struct router *r;
	struct timer   sweep, ensure, save, count;
	struct arena  *mem;
	bool           ensuring, looking, failing, counting;
	struct due     due;                     /* by clock_mono_ms() */
	struct due_span span[SPANS];            /* of the search under way */
	size_t         n_spans;
	struct due_span late;                   /* of the rows being failed */
	uint64_t       turn;
	int64_t        written_ms[COMMITS];     /* oldest row written, by the last sweeps */
};

static const char *const reasons[] = { "timeout", "queue_timeout", "unreachable" };
METRIC_BY(swept, METRIC_COUNTER, "waddle_router_swept_total", "Executions failed because nothing came of them in time.",
          "reason", reasons);
METRIC(pending, METRIC_GAUGE, "waddle_router_executions_pending",
       "Executions without an answer, of all replicas, as far back as this one has to look.");
METRIC(searched, METRIC_COUNTER, "waddle_router_sweeps_total", "Searches for executions that may be late.");
struct metric *const sweeper_metrics[] = { &swept, &pending, &searched, NULL };

void sweeper_counted(enum swept_reason why, uint64_t n)
{
	metric_add(&swept, why, n);
}

/* ---- what to look at --------------------------------------------------------------------- */

void sweeper_saw(struct sweeper *w, int64_t created_at_ms)
{
	int64_t *oldest = &w->written_ms[w->turn % COMMITS];

	if (created_at_ms < *oldest)
		*oldest = created_at_ms;
}

void sweeper_watch(struct sweeper *w, int64_t created_at_ms, int64_t timeout_ms)
{
	due_add(&w->due, (struct due_span){ created_at_ms, created_at_ms }, clock_mono_ms() + timeout_ms);
}

void sweeper_search(struct sweeper *w, int64_t since_ms)
{
	due_add(&w->due, (struct due_span){ since_ms, clock_unix_ms() + DAY_MS }, clock_mono_ms());
}

/* Nothing created before it is pending because of this replica. */
static int64_t settled_before(const struct sweeper *w)
{
	int64_t before_ms = due_oldest(&w->due);

	for (size_t i = 0; i < COMMITS; i++)
		if (w->written_ms[i] < before_ms)
			before_ms = w->written_ms[i];
	return before_ms;
}

/* Never close to now: events of the last minute may still come, and a batch that is older than
 * what is saved has to move it back. */
static void save(void *arg)
{
	struct sweeper *w = arg;
	int64_t before_ms = settled_before(w), latest_ms = clock_unix_ms() - BEHIND_MS;

	if (!w->looking && !w->failing && before_ms > 0)
		partitions_settled(w->r->partitions, before_ms < latest_ms ? before_ms : latest_ms);
	timer_start(w->r->s, &w->save, SAVE_MS, save, w);
}

static void counted(void *arg, const struct db_result *res, const struct err *err)
{
	struct sweeper *w = arg;

	w->counting = false;
	if (err == NULL)
		metric_set(&pending, 0, db_int(res, 0, 0));
}

static void count(void *arg)
{
	struct sweeper *w = arg;
	int64_t from_ms = settled_before(w);

	if (from_ms == INT64_MAX)
		metric_set(&pending, 0, 0);
	else if (!w->counting && from_ms > 0)
		w->counting = db_query(w->r->db, ((struct db_opts){ .to = DB_READ, .timeout_ms = SEARCH_TIMEOUT_MS }),
		                       counted, w,
		                       "SELECT count(*) FROM command_executions WHERE status = 'pending' "
		                       "AND created_at BETWEEN $1 AND $2",
		                       DB_TIME(from_ms), DB_TIME(clock_unix_ms() + DAY_MS)) == 0;
	timer_start(w->r->s, &w->count, COUNT_MS, count, w);
}

/* ---- failing ----------------------------------------------------------------------------- */

enum { C_ID, C_PLATFORM, C_ENTITY, C_SERVER, C_CHANNEL, C_USER, C_REPLY_REF, C_MESSAGE, C_PREFIX, C_COMMAND,
       C_KEY, C_MODULE, C_CONFIG, C_TYPE, C_TRACE, C_TRIGGER,
       C_COMMUNITY, C_NEXT };

static void notify(struct sweeper *w, const struct db_result *res, int row)
{
	struct str type = db_str(res, row, C_TYPE);
	bool slash = str_eq(type, str_of(message_type_names[MSG_SLASH]));
	struct notice n = {
		.verdict = VERDICT_TIMEOUT, .of = db_str(res, row, C_ID), .platform = db_str(res, row, C_PLATFORM),
		.asked = slash || str_eq(type, str_of(message_type_names[MSG_INTERACTION])) ||
		         str_eq(type, str_of(message_type_names[MSG_BUTTON])) ||
		         str_eq(type, str_of(message_type_names[MSG_SELECT])) ||
		         str_eq(type, str_of(message_type_names[MSG_MODAL_SUBMIT])),
		.entity = db_str(res, row, C_ENTITY), .server_id = db_str(res, row, C_SERVER),
		.channel_id = db_str(res, row, C_CHANNEL), .user_id = db_str(res, row, C_USER),
		.outbound_key = db_str(res, row, C_KEY), .reply_ref = db_str(res, row, C_REPLY_REF),
		.in_reply_to = db_str(res, row, C_MESSAGE), .config = db_str(res, row, C_CONFIG),
		.trace_id = db_str(res, row, C_TRACE),
		.command = arena_printf(w->mem, STR_FMT STR_FMT,
		                        STR_ARG(slash ? STR("/") : db_str(res, row, C_PREFIX)),
		                        STR_ARG(db_str(res, row, C_COMMAND))),
	};

	/* Nobody asked for what an event or a rule has run. */
	if (str_eq(db_str(res, row, C_TRIGGER), str_of(trigger_names[TRIGGER_EVENT])) ||
	    str_eq(db_str(res, row, C_TRIGGER), str_of(trigger_names[TRIGGER_STRING_MATCH])))
		return;
	if (notice_send(w->r, &n, NULL, NULL) < 0)
		log_rarely(10000, L_WARN, NULL, "notice_dropped", "the local queue is full");
}

static void sweep(void *arg);

static void go_on(struct sweeper *w, int64_t in_ms)
{
	if (!w->looking && !w->failing)
		timer_start(w->r->s, &w->sweep, in_ms, sweep, w);
}

static void failed(void *arg, const struct db_result *res, const struct err *err)
{
	struct sweeper *w = arg;
	int n = err == NULL ? db_rows(res) : 0;

	w->failing = false;
	if (err != NULL)
		log_rarely(10000, L_WARN, NULL, "sweep_failed", "%s", err->text);
	for (int i = 0; i < n; i++) {
		waiting_gave_up(w->r->waiting, db_str(res, i, C_ID), db_int(res, i, C_COMMUNITY), db_str(res, i, C_NEXT));
		notify(w, res, i);
	}
	arena_reset(w->mem);
	metric_add(&swept, SWEPT_TIMEOUT, (uint64_t)n);
	if (n > 0)
		log_rarely(1000, L_WARN, NULL, "module_late",
		           "%d commands were not answered in time, the last by " STR_FMT, n,
		           STR_ARG(db_str(res, n - 1, C_MODULE)));
	/* Those that are settled now are not found again; the others are. */
	due_add(&w->due, w->late, clock_mono_ms() + (err != NULL ? 0 : AGAIN_MS));
	go_on(w, SWEEP_MS);
}

/* The rows found late, by their whole keys. */
static bool fail(struct sweeper *w, const struct db_param *id, const struct db_param *created, size_t n)
{
	struct db_opts opts = { .to = DB_WRITE, .timeout_ms = SEARCH_TIMEOUT_MS };

	return db_query(
		w->r->db, opts, failed, w,
		"WITH due AS (SELECT e.execution_id, e.created_at FROM unnest($1::uuid[], $2::timestamptz[]) "
		"AS k(execution_id, created_at) JOIN command_executions e ON e.execution_id = k.execution_id "
		"AND e.created_at = k.created_at WHERE e.status = 'pending' "
		"AND e.sent_at + e.timeout_ms * interval '1 ms' < now() "
		"ORDER BY e.created_at, e.id FOR UPDATE OF e SKIP LOCKED), "
		"u AS (UPDATE command_executions e SET status = 'failed', response_status = 504, "
		"error_message = 'timeout', completed_at = now(), "
		"execution_time_ms = least(extract(epoch FROM now() - e.created_at) * 1000, 2147483647)::integer "
		"FROM due WHERE e.execution_id = due.execution_id AND e.created_at = due.created_at RETURNING e.*), "
		RELEASES_NEXT " "
		"SELECT u.execution_id, n.platform, n.address, n.server_id, n.channel_id, u.user_id, u.reply_ref, "
		"u.request_payload #>> '{event_data,message_id}', c.prefix, c.command, "
		"coalesce(n.config->>'bot_account_id', n.channel_id), u.module_name, n.config::text, "
		"u.request_payload->>'message_type', u.trace_id, u.trigger, "
		"u.community_id, u.next_module "
		"FROM u JOIN entities n ON n.entity_id = u.entity_id JOIN commands c ON c.id = u.command_id",
		DB_ARRAY(id, n), DB_ARRAY(created, n)) == 0;
}

/* ---- looking ----------------------------------------------------------------------------- */

/* Rows with an id are late; the others say where to look again, and in how many ms. */
static void looked(void *arg, const struct db_result *res, const struct err *err)
{
	struct sweeper *w = arg;
	int64_t now_ms = clock_mono_ms();
	struct db_param *id, *created;
	size_t n = 0;

	w->looking = false;
	if (err != NULL) {
		log_rarely(10000, L_WARN, NULL, "sweep_failed", "%s", err->text);
		for (size_t i = 0; i < w->n_spans; i++)
			due_add(&w->due, w->span[i], now_ms);
		go_on(w, SWEEP_MS);
		return;
	}
	id = arena_alloc(w->mem, FAIL_ROWS * sizeof *id);
	created = arena_alloc(w->mem, FAIL_ROWS * sizeof *created);
	for (int row = 0; row < db_rows(res); row++) {
		struct due_span s = { db_time(res, row, 1), db_time(res, row, 2) };

		if (db_null(res, row, 0)) {
			due_add(&w->due, s, now_ms + (db_null(res, row, 3) ? WAITING_MS : db_int(res, row, 3)));
			continue;
		}
		if (n == FAIL_ROWS) {
			due_add(&w->due, s, now_ms);
			continue;
		}
		if (n == 0)
			w->late = s;
		w->late.from_ms = s.from_ms < w->late.from_ms ? s.from_ms : w->late.from_ms;
		w->late.to_ms = s.to_ms > w->late.to_ms ? s.to_ms : w->late.to_ms;
		id[n] = DB_STR(db_str(res, row, 0));
		created[n++] = DB_STR(db_str(res, row, 4));
	}
	if (n > 0) {
		w->failing = fail(w, id, created, n);
		if (!w->failing)
			due_add(&w->due, w->late, now_ms);
	}
	arena_reset(w->mem);
	go_on(w, SWEEP_MS);
}

static bool look(struct sweeper *w)
{
	struct db_opts opts = { .to = DB_WRITE, .timeout_ms = SEARCH_TIMEOUT_MS };
	struct db_param from[SPANS], to[SPANS];

	for (size_t i = 0; i < w->n_spans; i++) {
		from[i] = DB_TIME(w->span[i].from_ms);
		to[i] = DB_TIME(w->span[i].to_ms + 1);  /* what is stored has microseconds */
	}
	metric_add(&searched, 0, 1);
	return db_query(
		w->r->db, opts, looked, w,
		"WITH found AS MATERIALIZED (SELECT s.i, s.b, e.* FROM unnest($1::timestamptz[], $2::timestamptz[]) "
		"WITH ORDINALITY AS s(a, b, i) JOIN LATERAL (SELECT x.execution_id, x.created_at, "
		"x.sent_at + x.timeout_ms * interval '1 ms' AS due FROM command_executions x "
		"WHERE x.created_at BETWEEN s.a AND s.b AND x.status = 'pending' ORDER BY x.created_at LIMIT 4096) e "
		"ON true) "
		"SELECT execution_id, created_at, created_at, NULL::bigint, created_at::text FROM found WHERE due < now() "
		"UNION ALL SELECT NULL, min(created_at), max(created_at), "
		"(extract(epoch FROM max(due) - now()) * 1000)::bigint, NULL FROM found "
		"WHERE (due < now()) IS NOT TRUE "
		"GROUP BY floor(extract(epoch FROM due) * 4), date_trunc('minute', created_at) "
		"UNION ALL SELECT NULL, max(created_at), max(b), 0, NULL FROM found GROUP BY i HAVING count(*) = 4096",
		DB_ARRAY(from, w->n_spans), DB_ARRAY(to, w->n_spans)) == 0;
}

static void sweep(void *arg)
{
	struct sweeper *w = arg;

	w->written_ms[++w->turn % COMMITS] = INT64_MAX;
	if (!service_draining(w->r->s)) {
		w->n_spans = due_take(&w->due, clock_mono_ms(), w->span, SPANS);
		w->looking = w->n_spans > 0 && look(w);
		for (size_t i = 0; !w->looking && i < w->n_spans; i++)
			due_add(&w->due, w->span[i], clock_mono_ms());
	}
	go_on(w, SWEEP_MS);
}

static void ensured(void *arg, const struct db_result *res, const struct err *err)
{
	struct sweeper *w = arg;

	(void)res;
	w->ensuring = false;
	if (err != NULL)
		log_error(NULL, "partitions_missing",
		          "the partitions of the days to come could not be made: %s", err->text);
}

static void ensure(void *arg)
{
	struct sweeper *w = arg;

	if (!w->ensuring)
		w->ensuring = db_query(w->r->db, ((struct db_opts){ .to = DB_WRITE, .timeout_ms = 60000 }), ensured, w,
		                       "SELECT waddle_partitions_ensure()") == 0;
	timer_start(w->r->s, &w->ensure, ENSURE_MS, ensure, w);
}

struct sweeper *sweeper_open(struct router *r)
{
	struct sweeper *w = XNEW(struct sweeper);

	w->r = r;
	w->mem = arena_new(65536, 16 << 20);
	due_init(&w->due, clock_mono_ms());
	for (size_t i = 0; i < COMMITS; i++)
		w->written_ms[i] = INT64_MAX;
	timer_start(r->s, &w->sweep, SWEEP_MS, sweep, w);
	timer_start(r->s, &w->save, SAVE_MS, save, w);
	timer_start(r->s, &w->count, SAVE_MS, count, w);
	timer_start(r->s, &w->ensure, 0, ensure, w);
	return w;
}

/* After db_close(). */
void sweeper_close(struct sweeper *w)
{
	if (w == NULL)
		return;
	timer_stop(&w->sweep);
	timer_stop(&w->save);
	timer_stop(&w->count);
	timer_stop(&w->ensure);
	arena_free(w->mem);
	free(w);
}

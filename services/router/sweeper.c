/* sweeper.c - commands nobody answered, and the days to come.
 *
 * Every second pending rows past their time-out are failed; whichever replica gets there first
 * does it (SKIP LOCKED) and tells the user.  Every hour the partitions ahead are made.
 *
 * No index knows which rows are pending - settling one would then cost an entry in each of the
 * others - so the search begins at the oldest row that can be: the oldest one found last time, or
 * what this process wrote in the last seconds and may not have committed yet.  Every ten minutes,
 * and at the start, it begins at the beginning: for what a router left that is no more. */
#include "router.h"
#include "clock.h"
#include "err.h"
#include "ids.h"
#include "log.h"
#include "metrics.h"
#include "service.h"
#include "topics.h"

enum { SWEEP_MS = 1000, ENSURE_MS = 3600000, NOTICE_LIFE_MS = 300000, SEARCH_TIMEOUT_MS = 60000 };
enum { SECONDS = 8, SEARCH_ALL = 600 };         /* sweeps a commit may last; between full searches */

struct sweeper {
	struct router *r;
	struct timer   sweep, ensure;
	struct arena  *mem;
	bool           ensuring, again;
	unsigned       waiting;                 /* statements under way */
	uint64_t       turn;
	int64_t        since_ms;                /* of the search under way */
	int64_t        oldest_ms;               /* pending row found; INT64_MAX: none */
	int64_t        written_ms[SECONDS];     /* oldest row written, by the last sweeps */
};

METRIC(swept, METRIC_COUNTER, "waddle_router_swept_total", "Executions failed because no answer came in time.");
struct metric *const sweeper_metrics[] = { &swept, NULL };

static void notify(struct sweeper *w, const struct db_result *res, int row)
{
	struct str topic = arena_printf(w->mem, "waddle.outbound." STR_FMT, STR_ARG(db_str(res, row, 1)));
	struct str id = db_str(res, row, 0), reply_ref = db_str(res, row, 6);
	char message_id[ID_TEXT];
	struct envelope env = {
		.kind = ENV_OUTBOUND, .source = STR("waddle/router"), .time_ms = clock_unix_ms(),
	};
	struct outbound out = {
		.kind = OUT_CHAT, .entity = db_str(res, row, 2), .server_id = db_str(res, row, 3),
		.channel_id = db_str(res, row, 4), .user_id = db_str(res, row, 5), .reply_ref = reply_ref,
		.in_reply_to = db_str(res, row, 7), .priority = PRIORITY_NORMAL, .private = true,
		.text = arena_printf(w->mem, "%s" STR_FMT " did not answer in time.", "!", STR_ARG(db_str(res, row, 8))),
		.expires_at_ms = env.time_ms + NOTICE_LIFE_MS,
	};

	if (topics_find(topic.p) == NULL)
		return;
	/* Twitch chat allows no private answer to a message; this notice goes to the channel there. */
	out.private = !str_eq(db_str(res, row, 1), STR("twitch"));
	id_outbound(id, -1, 0, message_id);
	env.id = out.message_id = str_of(message_id);
	if (envelope_send(w->r->bus, topic.p, db_str(res, row, 9), &env, &out, NULL, NULL) != 0)
		log_rarely(10000, L_WARN, NULL, "notice_dropped", "the local queue is full");
}

static void sweep(void *arg);

void sweeper_saw(struct sweeper *w, int64_t created_at_ms)
{
	int64_t *oldest = &w->written_ms[w->turn % SECONDS];

	if (created_at_ms < *oldest)
		*oldest = created_at_ms;
}

static int64_t search_from(const struct sweeper *w)
{
	int64_t since_ms = w->turn % SEARCH_ALL == 0 ? 0 : w->oldest_ms;

	for (size_t i = 0; i < SECONDS; i++)
		if (w->written_ms[i] < since_ms)
			since_ms = w->written_ms[i];
	return since_ms;
}

static void searched(struct sweeper *w, const struct err *err)
{
	if (err != NULL)
		log_rarely(10000, L_WARN, NULL, "sweep_failed", "%s", err->text);
	if (--w->waiting == 0)
		timer_start(w->r->s, &w->sweep, w->again ? 0 : SWEEP_MS, sweep, w);
}

static void found_oldest(void *arg, const struct db_result *res, const struct err *err)
{
	struct sweeper *w = arg;

	if (err != NULL)
		w->oldest_ms = w->since_ms;
	else
		w->oldest_ms = db_rows(res) > 0 ? db_time(res, 0, 0) : INT64_MAX;
	searched(w, err);
}

static void marked(void *arg, const struct db_result *res, const struct err *err)
{
	struct sweeper *w = arg;
	int n = err == NULL ? db_rows(res) : 0;

	for (int i = 0; i < n; i++)
		notify(w, res, i);
	arena_reset(w->mem);
	metric_add(&swept, 0, (uint64_t)n);
	if (n > 0)
		log_rarely(1000, L_WARN, NULL, "module_late",
		           "%d commands were not answered in time, the last by " STR_FMT, n,
		           STR_ARG(db_str(res, n - 1, 10)));
	w->again = n == 512;
	searched(w, err);
}

static void sweep(void *arg)
{
	struct sweeper *w = arg;
	struct db_opts opts = { .to = DB_WRITE, .timeout_ms = SEARCH_TIMEOUT_MS };
	int64_t since_ms = search_from(w);

	w->written_ms[++w->turn % SECONDS] = INT64_MAX;
	w->again = false;
	if (!service_draining(w->r->s) && since_ms < INT64_MAX) {
		w->since_ms = since_ms;
		w->waiting +=
			db_query(w->r->db, opts, marked, w,
		                 "WITH due AS (SELECT execution_id, created_at FROM command_executions WHERE "
		                 "status = 'pending' "
		                 "AND created_at >= $1 AND sent_at + timeout_ms * interval '1 ms' < now() "
		                 "ORDER BY created_at LIMIT 512 FOR UPDATE SKIP LOCKED), "
		                 "u AS (UPDATE command_executions e SET status = 'failed', response_status = "
		                 "504, "
		                 "error_message = 'timeout', completed_at = now(), "
		                 "execution_time_ms = least(extract(epoch FROM now() - e.created_at) * 1000, "
		                 "2147483647)::integer "
		                 "FROM due WHERE e.execution_id = due.execution_id AND e.created_at = "
		                 "due.created_at RETURNING e.*), " RELEASES_NEXT " "
		                 "SELECT u.execution_id, n.platform, n.address, n.server_id, n.channel_id, "
		                 "u.user_id, u.reply_ref, "
		                 "u.request_payload #>> '{event_data,message_id}', c.command, "
		                 "coalesce(n.config->>'bot_account_id', n.channel_id), u.module_name "
		                 "FROM u JOIN entities n ON n.entity_id = u.entity_id JOIN commands c ON "
		                 "c.id = u.command_id",
		                 DB_TIME(since_ms)) == 0;
		w->waiting += db_query(w->r->db, opts, found_oldest, w,
		                       "SELECT created_at FROM command_executions WHERE status = 'pending' "
		                       "AND created_at >= $1 "
		                       "ORDER BY created_at LIMIT 1",
		                       DB_TIME(since_ms)) == 0;
	}
	if (w->waiting == 0)
		timer_start(w->r->s, &w->sweep, SWEEP_MS, sweep, w);
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
	w->mem = arena_new(16384, 16 << 20);
	for (size_t i = 0; i < SECONDS; i++)
		w->written_ms[i] = INT64_MAX;
	timer_start(r->s, &w->sweep, SWEEP_MS, sweep, w);
	timer_start(r->s, &w->ensure, 0, ensure, w);
	return w;
}

/* After db_close(). */
void sweeper_close(struct sweeper *w)
{
	if (w == NULL)
		return;
	timer_stop(&w->sweep);
	timer_stop(&w->ensure);
	arena_free(w->mem);
	free(w);
}

/* collector_sweep.c - what was not done in time: rows not on their topic, activities whose community
 * was unknown, rows nobody needs any more.
 *
 * Every replica sweeps; SKIP LOCKED and a moved time keep them apart.  published_at of an
 * unprocessed event is when somebody last tried; received_at of a waiting activity is when it is
 * worth trying (again). */
#include "bus.h"
#include "collector_in.h"
#include "db.h"
#include "err.h"
#include "log.h"
#include "metrics.h"
#include "service.h"

enum { SWEEP_MS = 5000, SWEEP_ROWS = 512, QUEUE_MAX = 4 * SWEEP_ROWS, TIDY_MS = 600000, TIDY_ROWS = 5000, AGAIN_MS = 100 };

METRIC(swept, METRIC_COUNTER, "waddle_collector_sweeper_sent_total", "Rows published by the sweeper.");
METRIC(abandoned, METRIC_COUNTER, "waddle_collector_activities_abandoned_total",
       "Activities whose entity belonged to no community for a day.");
METRIC(backlog_rows, METRIC_GAUGE, "waddle_collector_backlog_rows", "Events stored and not on the topic, counted up to the limit.");
METRIC(tidied, METRIC_COUNTER, "waddle_collector_tidied_total", "Old keys and outbox rows deleted.");
struct metric *const collector_sweep_metrics[] = { &swept, &abandoned, &backlog_rows, &tidied, NULL };

static const char sweep_events_sql[] =
	"WITH due AS (SELECT event_id, created_at FROM @_events WHERE NOT processed "
	"AND received_at < now() - interval '10 s' AND coalesce(published_at, received_at) < now() - interval '10 s' "
	"ORDER BY received_at LIMIT 512 FOR UPDATE SKIP LOCKED), "
	"u AS (UPDATE @_events e SET published_at = now() FROM due WHERE e.event_id = due.event_id "
	"AND e.created_at = due.created_at RETURNING e.*) "
	"SELECT event_id, created_at, entity, message, trace_id FROM u ORDER BY received_at";

/* The entity may come after the activity; it is looked for at growing intervals for a day, then
 * never again: context_sent stays false. */
static const char sweep_acts_sql[] =
	"WITH due AS (SELECT a.event_id, a.activity_type, a.created_at, e.community_id FROM @_activities a "
	"LEFT JOIN entities e ON e.address = a.entity WHERE NOT (a.context_sent AND a.reputation_sent) "
	"AND a.received_at < now() - interval '10 s' ORDER BY a.received_at LIMIT 512 FOR UPDATE OF a SKIP LOCKED), "
	"u AS (UPDATE @_activities a SET community_id = due.community_id, context_sent = due.community_id IS NOT NULL, "
	"received_at = CASE WHEN due.community_id IS NOT NULL THEN now() "
	"WHEN a.created_at < now() - interval '1 day' THEN 'infinity' "
	"ELSE now() + least(now() - a.created_at, interval '1 hour') END "
	"FROM due WHERE a.event_id = due.event_id AND a.activity_type = due.activity_type "
	"AND a.created_at = due.created_at RETURNING a.*) "
	"SELECT event_id, created_at, entity, activity_type, user_id, username, amount, quantity, community_id, "
	"received_at = 'infinity' FROM u ORDER BY created_at";

static const char backlog_sql[] =
	"SELECT count(*) FROM (SELECT FROM @_events WHERE NOT processed LIMIT $1::bigint + 1) x";

static const char tidy_sql[] =
	"WITH k AS (DELETE FROM @_dedupe WHERE ctid = ANY (ARRAY(SELECT ctid FROM @_dedupe "
	"WHERE created_at < now() - make_interval(secs => $1::bigint / 1000.0) LIMIT 5000 FOR UPDATE SKIP LOCKED)) RETURNING 1), "
	"o AS (DELETE FROM @_outbox WHERE ctid = ANY (ARRAY(SELECT ctid FROM @_outbox "
	"WHERE reported AND created_at < now() - interval '2 days' LIMIT 5000 FOR UPDATE SKIP LOCKED)) RETURNING 1) "
	"SELECT (SELECT count(*) FROM k), (SELECT count(*) FROM o)";

static void sweep(void *arg);
static void tidy(void *arg);

static bool is_flying(struct collector *c, struct str event_id)
{
	for (struct hash_node *n = hash_find(&c->flying, hash_of(event_id)); n != NULL; n = hash_next(n))
		if (str_eq(CONTAINER_OF(n, struct flight, by_id)->event_id, event_id))
			return true;
	return false;
}

static struct flight *swept_flight(struct collector *c, struct str event_id, struct str entity, int64_t created_at_ms,
                                   struct str trace_id)
{
	struct flight *f = flight_new(c);

	f->event_id = arena_str(f->mem, event_id);
	f->entity = arena_str(f->mem, entity);
	f->created_at_ms = created_at_ms;
	if (trace_id.n == 32)
		f->traceparent =
			arena_printf(f->mem, "00-" STR_FMT "-%.16s-01", STR_ARG(trace_id), trace_id.p);
	hash_add(&c->flying, &f->by_id, hash_of(f->event_id));
	return f;
}

static void fly(struct flight *f)
{
	metric_add(&swept, 0, 1);
	f->open++;              /* both sends may fail at once */
	flight_publish(f);
	f->open--;
	flight_end(f);
}

static void sweep_over(struct collector *c, bool full)
{
	c->swept_full = c->swept_full || full;
	if (--c->sweeping > 0 || c->closing)
		return;
	timer_start(c->s, &c->sweep, c->swept_full && bus_unsent(c->bus) < QUEUE_MAX ? AGAIN_MS : SWEEP_MS,
	            sweep, c);
}

/* event_id, created_at, entity, message, trace_id */
static void events_found(void *arg, const struct db_result *res, const struct err *err)
{
	struct collector *c = arg;
	int n = err == NULL ? db_rows(res) : 0;

	if (err != NULL && !c->closing)
		log_rarely(30000, L_WARN, NULL, "sweep_failed", "unpublished events: %s", err->text);
	for (int i = 0; i < n && !c->closing; i++) {
		struct flight *f;

		if (is_flying(c, db_str(res, i, 0)))
			continue;
		f = swept_flight(c, db_str(res, i, 0), db_str(res, i, 2), db_time(res, i, 1),
		                 db_str(res, i, 4));
		f->message = arena_str(f->mem, db_str(res, i, 3));
		fly(f);
	}
	sweep_over(c, n == SWEEP_ROWS);
}

/* event_id, created_at, entity, activity_type, user_id, username, amount, quantity, community_id, given up */
static void activities_found(void *arg, const struct db_result *res, const struct err *err)
{
	struct collector *c = arg;
	int n = err == NULL ? db_rows(res) : 0;

	if (err != NULL && !c->closing)
		log_rarely(30000, L_WARN, NULL, "sweep_failed", "unpublished activities: %s", err->text);
	for (int i = 0; i < n && !c->closing; i++) {
		struct flight *f;

		metric_add(&abandoned, 0, db_bool(res, i, 9));
		if (db_null(res, i, 8) || is_flying(c, db_str(res, i, 0)))
			continue;
		f = swept_flight(c, db_str(res, i, 0), db_str(res, i, 2), db_time(res, i, 1), STR_NONE);
		f->act = (struct activity){
			.event_id = f->event_id, .activity_type = arena_str(f->mem, db_str(res, i, 3)),
			.platform = str_of(c->platform), .user_id = arena_str(f->mem, db_str(res, i, 4)),
			.username = arena_str(f->mem, db_str(res, i, 5)), .entity = f->entity,
			.amount = db_int(res, i, 6), .quantity = db_int(res, i, 7),
			.community_id = db_int(res, i, 8), .occurred_at_ms = db_time(res, i, 1),
		};
		fly(f);
	}
	sweep_over(c, n == SWEEP_ROWS);
}

static void backlog_counted(void *arg, const struct db_result *res, const struct err *err)
{
	struct collector *c = arg;
	bool was_full = c->backlog_full;

	if (err == NULL) {
		metric_set(&backlog_rows, 0, db_int(res, 0, 0));
		c->backlog_full = db_int(res, 0, 0) > c->backlog_max;
		service_ready(c->s, "backlog", !c->backlog_full);
		if (c->backlog_full && !was_full)
			log_error(NULL, "backlog_full",
			          "more than %lld events wait for the broker: platforms get 503",
			          (long long)c->backlog_max);
	}
	sweep_over(c, false);
}

static void sweep(void *arg)
{
	struct collector *c = arg;
	const struct db_param max[] = { DB_INT(c->backlog_max) };

	if (service_draining(c->s))
		return;
	c->swept_full = false;
	c->sweeping = 3;
	if (db_send(c->db, (struct db_opts){ .to = DB_WRITE }, backlog_counted, c, c->backlog_sql, max, 1) != 0)
		sweep_over(c, false);
	/* The broker is away, or far behind: what is handed to it already is enough. */
	if (bus_unsent(c->bus) >= QUEUE_MAX ||
	    db_send(c->db, (struct db_opts){ .to = DB_WRITE }, events_found, c, c->sweep_sql, NULL, 0) != 0)
		sweep_over(c, false);
	if (bus_unsent(c->bus) >= QUEUE_MAX ||
	    db_send(c->db, (struct db_opts){ .to = DB_WRITE }, activities_found, c, c->sweep_activities_sql,
	            NULL, 0) != 0)
		sweep_over(c, false);
}

static void tidy_done(void *arg, const struct db_result *res, const struct err *err)
{
	struct collector *c = arg;
	bool full = err == NULL && (db_int(res, 0, 0) == TIDY_ROWS || db_int(res, 0, 1) == TIDY_ROWS);

	if (c->closing)
		return;
	if (err != NULL)
		log_rarely(60000, L_WARN, NULL, "tidy_failed", "old rows: %s", err->text);
	else
		metric_add(&tidied, 0, (uint64_t)(db_int(res, 0, 0) + db_int(res, 0, 1)));
	timer_start(c->s, &c->tidy, full ? AGAIN_MS : TIDY_MS, tidy, c);
}

static void tidy(void *arg)
{
	struct collector *c = arg;
	const struct db_param age[] = { DB_INT(c->dedupe_ms) };

	if (service_draining(c->s))
		return;
	if (db_send(c->db, (struct db_opts){ .to = DB_WRITE }, tidy_done, c, c->tidy_sql, age, 1) != 0)
		timer_start(c->s, &c->tidy, SWEEP_MS, tidy, c);
}

void sweeper_open(struct collector *c)
{
	c->sweep_sql = collector_sql(c->mem, c->platform, sweep_events_sql);
	c->sweep_activities_sql = collector_sql(c->mem, c->platform, sweep_acts_sql);
	c->backlog_sql = collector_sql(c->mem, c->platform, backlog_sql);
	c->tidy_sql = collector_sql(c->mem, c->platform, tidy_sql);
	service_ready(c->s, "backlog", true);
	timer_start(c->s, &c->sweep, SWEEP_MS, sweep, c);
	timer_start(c->s, &c->tidy, SWEEP_MS, tidy, c);
}

void sweeper_close(struct collector *c)
{
	timer_stop(&c->sweep);
	timer_stop(&c->tidy);
}

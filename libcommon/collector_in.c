/* collector_in.c - from a normalised event to its row, its topic and its flags.
 *
 * Requests that arrive while a statement is out, or within 2 ms, share the next one.  It takes
 * both keys of each event first, in key order (so that two replicas wait for each other in one
 * direction only), and inserts the event and its activity only where both keys were free.  What
 * another replica is about to commit under the same key is waited for by the unique index.
 *
 * After the commit the event goes out at once.  What does not reach the broker - it is away, this
 * process dies, the answer of the commit was lost - is found by the sweeper: processed is false. */
#include "collector_in.h"
#include "bus.h"
#include "db.h"
#include "err.h"
#include "ids.h"
#include "log.h"
#include "metrics.h"
#include "service.h"

enum { STORE_MS = 2500, BACKLOG_MAX = 1000000, DEDUPE_MS = 48 * 3600 * 1000, STORE_COLUMNS = 14 };

static const char *const stored_names[] = { "new", "again", "failed" };
METRIC_BY(events, METRIC_COUNTER, "waddle_collector_events_total", "Events by what became of them.", "result",
          stored_names);
METRIC(store_seconds, METRIC_HISTOGRAM, "waddle_collector_store_seconds", "From the request to the commit of its row.");
METRIC(publish_seconds, METRIC_HISTOGRAM, "waddle_collector_publish_seconds",
       "From the request to the broker's acknowledgement.");
METRIC(in_flight, METRIC_GAUGE, "waddle_collector_in_flight", "Events stored or being stored and not yet on the topic.");
METRIC(activities, METRIC_COUNTER, "waddle_collector_activities_total", "Activities published.");
struct metric *const collector_in_metrics[] = {
	&events, &store_seconds, &publish_seconds, &in_flight, &activities, NULL,
};

void flight_end(struct flight *f)
{
	struct collector *c = f->c;

	if (f->open > 0)
		return;
	hash_del(&c->flying, &f->by_id);
	list_del(&f->node);
	metric_add(&in_flight, 0, (uint64_t)-1);
	timer_stop(&f->timer);
	arena_free(f->mem);
	service_release(c->s);
	NOT_A_MORE(f, FLIGHT_MAGIC);
	free(f);
}

static void tell(struct flight *f, enum stored what)
{
	collector_stored *done = f->done;

	f->done = NULL;
	timer_stop(&f->timer);
	if (done == NULL)
		return;
	metric_add(&events, what, 1);
	metric_observe_us(&store_seconds, 0, clock_exact_us() - f->started_us);
	done(f->arg, what);
}

static void activity_sent(void *arg, const struct err *err)
{
	struct flight *f = arg;

	IS_A(f, FLIGHT_MAGIC);
	if (err == NULL && !f->c->closing) {
		const struct db_param row[] = {
			DB_STR(f->event_id), DB_STR(f->act.activity_type), DB_TIME(f->created_at_ms),
		};

		metric_add(&activities, 0, 1);
		/* A full queue leaves the flag to the sweeper. */
		(void)!batch_add(f->c->scored, row, NULL, NULL);
	}
	f->open--;
	flight_end(f);
}

static void event_sent(void *arg, const struct err *err)
{
	struct flight *f = arg;

	IS_A(f, FLIGHT_MAGIC);
	if (err == NULL && !f->c->closing) {
		const struct db_param row[] = { DB_STR(f->event_id), DB_TIME(f->created_at_ms) };

		metric_observe_us(&publish_seconds, 0, clock_exact_us() - f->started_us);
		(void)!batch_add(f->c->processed, row, NULL, NULL);
	}
	f->open--;
	flight_end(f);
}

void flight_publish(struct flight *f)
{
	struct collector *c = f->c;

	if (f->message.p != NULL) {
		struct envelope env = {
			.kind = ENV_EVENT, .id = f->event_id, .source = STR("waddle/collector"),
			.traceparent = f->traceparent,
		};
		struct envelope_headers head;

		envelope_headers(&env, f, &head);       /* env has the id, the body is encoded already */
		if (bus_send(c->bus, "waddle.events", f->entity, f->message, head.h, head.n, event_sent, f) ==
		    0)
			f->open++;              /* else: full, the sweeper will */
	}
	if (f->act.activity_type.p != NULL && f->act.community_id != 0) {
		struct envelope env = {
			.kind = ENV_ACTIVITY, .id = f->event_id, .source = STR("waddle/collector"),
			.traceparent = f->traceparent,
		};
		struct str key = arena_printf(f->mem, STR_FMT ":" STR_FMT, STR_ARG(f->act.platform),
		                              STR_ARG(f->act.user_id));

		if (envelope_send(c->bus, "waddle.activities", key, &env, &f->act, activity_sent, f) == 0)
			f->open++;
	}
}

static void stored(void *arg, const struct db_result *res, int row, const struct err *err)
{
	struct flight *f = arg;
	bool is_new;

	IS_A(f, FLIGHT_MAGIC);
	f->open--;
	if (err != NULL) {
		log_rarely(5000, L_WARN, NULL, "event_not_stored", "the platform is asked to send again: %s",
		           err->text);
		tell(f, STORED_FAILED);
		flight_end(f);
		return;
	}
	is_new = db_bool(res, row, 0);
	tell(f, is_new ? STORED_NEW : STORED_AGAIN);
	/* Not new after a lost answer may be our own row: then the sweeper publishes it. */
	if (is_new && !f->c->closing) {
		f->act.community_id = db_int(res, row, 1);
		f->open++;              /* both sends may fail at once: the flight ends below */
		flight_publish(f);
		f->open--;
	}
	flight_end(f);
}

static void too_late(void *arg)
{
	struct flight *f = arg;

	IS_A(f, FLIGHT_MAGIC);
	log_rarely(5000, L_WARN, NULL, "event_not_stored",
	           "no commit within %d ms: the platform is asked to send again", f->c->store_ms);
	tell(f, STORED_FAILED);
}

struct flight *flight_new(struct collector *c)
{
	struct flight *f = XNEW(struct flight);

	MAKE_A(f, FLIGHT_MAGIC);
	f->c = c;
	f->mem = arena_new(2048, 2 << 20);
	f->started_us = clock_exact_us();
	list_add_tail(&c->all, &f->node);
	service_hold(c->s);
	metric_add(&in_flight, 0, 1);
	return f;
}

int collector_store(struct collector *c, const struct inbound *in, collector_stored *done, void *arg)
{
	const struct event *e = in->event;
	struct flight *f;
	struct buf body = BUF(256 * 1024), ids = BUF(4096);
	struct str message = STR_NONE, platform_ids = STR_NONE;
	char traceparent[TRACE_TEXT];
	int r = 0;

	IS_A(c, COLLECTOR_MAGIC);
	if (c->closing || c->backlog_full)
		return -EAGAIN;
	f = flight_new(c);
	f->event_id = arena_str(f->mem, e->event_id);
	f->entity = arena_str(f->mem, e->entity);
	f->created_at_ms = e->occurred_at_ms;
	trace_next(STR_NONE, traceparent);
	f->traceparent = arena_str(f->mem, str_of(traceparent));
	hash_add(&c->flying, &f->by_id, hash_of(f->event_id));
	if (in->forward) {
		js_encode(envelope_fields[ENV_EVENT], e, &body);
		r = buf_str(&body, &message);
		f->message = arena_str(f->mem, message);
	}
	if (in->activity != NULL)
		f->act = (struct activity){
			.event_id = f->event_id, .activity_type = str_of(in->activity),
			.platform = arena_str(f->mem, e->platform), .user_id = arena_str(f->mem, e->user.id),
			.username = arena_str(f->mem, e->user.name), .entity = f->entity,
			.amount = in->points, .quantity = in->quantity, .occurred_at_ms = e->occurred_at_ms,
		};
	buf_add(&ids, STR("{\"server_id\":"));
	buf_json(&ids, e->server_id);
	buf_add(&ids, STR(",\"channel_id\":"));
	buf_json(&ids, e->channel_id);
	buf_add(&ids, STR(",\"user_id\":"));
	buf_json(&ids, e->user.id);
	buf_add(&ids, STR("}"));
	if (r == 0)
		r = buf_str(&ids, &platform_ids);
	if (r == 0) {
		const struct db_param row[STORE_COLUMNS] = {
			DB_STR(e->event_id), DB_STR(e->dedupe_key), DB_STR(in->event_type), DB_STR(platform_ids),
			DB_STR(in->raw), DB_TIME(e->occurred_at_ms), DB_STR(e->entity), db_opt(message),
			DB_STR(((struct str){ traceparent + 3, 32 })),
			in->activity != NULL ? DB_STR(str_of(in->activity)) : DB_NULL, DB_STR(e->user.id),
			DB_STR(e->user.name), DB_INT(in->points), DB_INT(in->quantity),
		};

		r = batch_add(c->store, row, stored, f);
	}
	buf_clear(&body);
	buf_clear(&ids);
	if (r != 0) {
		flight_end(f);
		return r;
	}
	f->done = done;
	f->arg = arg;
	f->open = 1;
	timer_start(c->s, &f->timer, c->store_ms, too_late, f);
	return 0;
}

/* Life ----------------------------------------------------------------------------------------- */

static const char store_sql[] =
	"WITH x AS (SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::jsonb[], $5::jsonb[], "
	"$6::timestamptz[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[], "
	"$14::bigint[]) WITH ORDINALITY AS t(event_id, dedupe_key, event_type, platform_ids, event_data, created_at, "
	"entity, message, trace_id, activity_type, user_id, username, amount, quantity, i)), "
	"k AS (INSERT INTO @_dedupe (key, event_id) SELECT key, event_id FROM (SELECT event_id AS key, event_id, i FROM x "
	"UNION SELECT dedupe_key, event_id, i FROM x) y ORDER BY key, i ON CONFLICT DO NOTHING RETURNING key, event_id), "
	/* both keys were free, and taken by this event; of a pair within the statement the first */
	"n AS (SELECT DISTINCT ON (x.event_id) x.* FROM x "
	"JOIN k a ON a.key = x.event_id AND a.event_id = x.event_id "
	"JOIN k b ON b.key = x.dedupe_key AND b.event_id = x.event_id ORDER BY x.event_id, x.i), "
	"ev AS (INSERT INTO @_events (event_id, event_type, platform_ids, event_data, processed, created_at, dedupe_key, "
	"entity, message, trace_id) SELECT event_id, event_type, platform_ids, event_data, message IS NULL, created_at, "
	"dedupe_key, entity, message, trace_id FROM n ON CONFLICT DO NOTHING), "
	"act AS (INSERT INTO @_activities (event_id, activity_type, user_id, username, amount, quantity, entity, "
	"created_at, community_id, context_sent, reputation_sent) SELECT n.event_id, n.activity_type, n.user_id, "
	"n.username, n.amount, n.quantity, n.entity, n.created_at, e.community_id, "
	"e.community_id IS NOT NULL OR n.user_id = 'anonymous', n.user_id = 'anonymous' "
	"FROM n LEFT JOIN entities e ON e.address = n.entity WHERE n.activity_type IS NOT NULL ON CONFLICT DO NOTHING) "
	"SELECT n.i IS NOT NULL, CASE WHEN n.user_id <> 'anonymous' THEN e.community_id END "
	"FROM x LEFT JOIN n USING (i) LEFT JOIN entities e ON e.address = n.entity ORDER BY x.i";

static const char processed_sql[] =
	"UPDATE @_events e SET processed = true, published_at = now() "
	"FROM unnest($1::text[], $2::timestamptz[]) AS x(event_id, created_at) "
	"WHERE e.event_id = x.event_id AND e.created_at = x.created_at";

static const char scored_sql[] =
	"UPDATE @_activities a SET reputation_sent = true "
	"FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS x(event_id, activity_type, created_at) "
	"WHERE a.event_id = x.event_id AND a.activity_type = x.activity_type AND a.created_at = x.created_at";

struct collector *collector_open(struct service *s, const struct collector_conf *conf)
{
	struct collector *c = XNEW(struct collector);

	MAKE_A(c, COLLECTOR_MAGIC);
	c->s = s;
	c->db = conf->db;
	c->bus = conf->bus;
	c->platform = conf->platform;
	c->store_ms = conf->store_ms > 0 ? conf->store_ms : STORE_MS;
	c->backlog_max = conf->backlog_max > 0 ? conf->backlog_max : BACKLOG_MAX;
	c->dedupe_ms = conf->dedupe_ms > 0 ? conf->dedupe_ms : DEDUPE_MS;
	c->mem = arena_new(32 * 1024, 1 << 20);
	list_init(&c->all);
	c->store_spec = (struct batch_spec){
		.name = "events", .sql = collector_sql(c->mem, c->platform, store_sql), .columns = STORE_COLUMNS, .max_rows = 512,
		.max_ms = 0, .max_in_flight = 2, .key_column = -1,
	};
	c->processed_spec = (struct batch_spec){
		.name = "processed", .sql = collector_sql(c->mem, c->platform, processed_sql), .columns = 2, .max_rows = 512,
		.max_ms = 20, .max_in_flight = 1, .key_column = -1, .idempotent = true,
	};
	c->scored_spec = (struct batch_spec){
		.name = "scored", .sql = collector_sql(c->mem, c->platform, scored_sql), .columns = 3, .max_rows = 512,
		.max_ms = 20, .max_in_flight = 1, .key_column = -1, .idempotent = true,
	};
	c->store = batch_open(s, c->db, &c->store_spec);
	c->processed = batch_open(s, c->db, &c->processed_spec);
	c->scored = batch_open(s, c->db, &c->scored_spec);
	sweeper_open(c);
	return c;
}

/* What is waiting is flushed; nothing is published any more. */
void collector_stop(struct collector *c)
{
	if (c == NULL)
		return;
	c->closing = true;
	sweeper_close(c);
	batch_close(c->store);
	batch_close(c->processed);
	batch_close(c->scored);
}

void collector_free(struct collector *c)
{
	struct list *n;

	if (c == NULL)
		return;
	while ((n = list_first(&c->all)) != NULL) {
		struct flight *f = CONTAINER_OF(n, struct flight, node);

		f->open = 0;
		flight_end(f);
	}
	hash_clear(&c->flying);
	arena_free(c->mem);
	NOT_A_MORE(c, COLLECTOR_MAGIC);
	free(c);
}

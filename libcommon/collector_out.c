/* collector_out.c - a message from its topic to its row, and from its final state to its report.
 *
 * What is in memory is in the outbox under our lease, renewed while we live; whatever must survive
 * us is there.  Rows whose lease lapsed - their process died, or could not write - are claimed. */
#include "collector_int.h"
#include "bus.h"
#include "db.h"
#include "entity.h"
#include "err.h"
#include "log.h"
#include "metrics.h"
#include "service.h"

enum {
	HELD_MAX = 512, MEMORY_MAX = 2048, CLAIM_MAX = 64, RENEW_MS = 10000, SWEEP_MS = 5000, AGAIN_MS = 100,
	LIFE_MS = 300000, INSERT_COLUMNS = 10, FINAL_COLUMNS = 6,
};

static const char *const final_names[FINALS] = { "sent", "refused", "failed", "expired", "unknown" };
METRIC_BY(outbound, METRIC_COUNTER, "waddle_collector_outbound_total", "Messages by final state.", "state", final_names);
METRIC(waiting, METRIC_GAUGE, "waddle_collector_outbound_held", "Messages taken whose end is not reported yet.");
METRIC(wait_seconds, METRIC_HISTOGRAM, "waddle_collector_outbound_wait_seconds", "From taking a message to its final state.");
METRIC(again, METRIC_COUNTER, "waddle_collector_outbound_again_total", "Messages delivered again: known, nothing done.");
METRIC(claimed, METRIC_COUNTER, "waddle_collector_outbound_claimed_total", "Messages taken over from another process.");
METRIC(rejected, METRIC_COUNTER, "waddle_collector_outbound_rejected_total", "Messages sent to the dead-letter topic.");
struct metric *const sender_metrics[] = {
	&outbound, &waiting, &wait_seconds, &again, &claimed, &rejected, NULL,
};

static struct sending *sending_new(struct sender *d)
{
	struct sending *s = XNEW(struct sending);

	MAKE_A(s, SENDING_MAGIC);
	s->d = d;
	s->mem = arena_new(4096, 4 << 20);
	s->taken_mono_ms = clock_mono_ms();
	s->parts_json = STR("[]");
	list_init(&s->node);
	list_add_tail(&d->all, &s->all);
	metric_set(&waiting, 0, (int64_t)++d->n_all);
	if (d->n_all >= MEMORY_MAX && !d->paused && !d->draining) {
		d->paused = true;
		bus_pause(d->sub);
	}
	return s;
}

static struct sending *held(struct sender *d, struct str message_id)
{
	for (struct hash_node *n = hash_find(&d->by_id, hash_of(message_id)); n != NULL; n = hash_next(n)) {
		struct sending *s = CONTAINER_OF(n, struct sending, by_id);

		if (str_eq(s->what.message_id, message_id))
			return s;
	}
	return NULL;
}

void sending_drop(struct sending *s)
{
	struct sender *d = s->d;

	IS_A(s, SENDING_MAGIC);
	timer_stop(&s->timer);
	lane_leave(s);
	if (s->state != PLACING)
		hash_del(&d->by_id, &s->by_id);
	list_del(&s->all);
	metric_set(&waiting, 0, (int64_t)--d->n_all);
	if (d->paused && d->n_all < MEMORY_MAX / 2 && !d->draining) {
		d->paused = false;
		bus_resume(d->sub);
	}
	arena_free(s->mem);
	NOT_A_MORE(s, SENDING_MAGIC);
	free(s);
}

/* The end ---------------------------------------------------------------------------------------- */

static void reported(void *arg, const struct err *err)
{
	struct sending *s = arg;

	IS_A(s, SENDING_MAGIC);
	if (err == NULL && !s->d->stopped) {
		const struct db_param row[] = { DB_STR(s->what.message_id) };

		(void)!batch_add(s->d->reported, row, NULL, NULL);      /* full: the sweeper reports again */
	}
	sending_drop(s);
}

static enum delivery_status status_of(enum final f)
{
	switch (f) {
	case FINAL_SENT:
		return DELIVERY_SENT;
	case FINAL_EXPIRED:
		return DELIVERY_EXPIRED;
	case FINAL_REFUSED: case FINAL_FAILED: case FINAL_UNKNOWN: case FINALS:
		break;
	}
	return DELIVERY_REFUSED;
}

static void report(struct sending *s)
{
	struct delivery dl = {
		.message_id = s->what.message_id, .status = status_of(s->final), .platform_message_id = s->ids[0],
		.error = s->error, .at_ms = clock_unix_ms(), .report_ref = s->what.report_ref,
	};
	struct envelope env = { .kind = ENV_DELIVERY, .id = s->what.message_id, .source = STR("waddle/collector"),
		.traceparent = s->trace };

	if (s->d->stopped ||
	    envelope_send(s->d->conf.bus, s->d->responses_topic, s->what.entity, &env, &dl, reported, s) != 0)
		sending_drop(s);        /* the sweeper reports it */
}

static void ended(void *arg, const struct db_result *res, int row, const struct err *err)
{
	struct sending *s = arg;

	IS_A(s, SENDING_MAGIC);
	if (err != NULL && !s->d->stopped)
		log_rarely(5000, L_WARN, NULL, "outbox_state_lost", "a final state could not be written: %s",
		           err->text);
	if (err != NULL || !db_bool(res, row, 0))
		sending_drop(s);        /* whoever has the row, or will, settles it */
	else
		report(s);
}

void sending_part(struct sending *s, struct str id)
{
	struct buf b = BUF(64 * 1024);
	struct str text = STR_NONE;

	s->ids[s->part++] = arena_str(s->mem, id);

	buf_add(&b, STR("["));
	for (size_t i = 0; i < s->part; i++) {
		if (i > 0)
			buf_add(&b, STR(","));
		buf_json(&b, s->ids[i]);
	}
	buf_add(&b, STR("]"));
	if (buf_str(&b, &text) == 0)
		s->parts_json = arena_str(s->mem, text);
	buf_clear(&b);
}

static void write_end(void *arg)
{
	struct sending *s = arg;
	struct sender *d = s->d;
	const struct db_param row[FINAL_COLUMNS] = {
		DB_STR(s->what.message_id), DB_STR(d->s->base.instance), DB_STR(str_of(final_names[s->final])),
		s->error.n > 0 ? DB_STR(s->error) : DB_NULL, DB_STR(s->parts_json),
		s->final == FINAL_SENT ? DB_TIME(clock_unix_ms()) : DB_NULL,
	};
	int r = d->stopped ? -ESHUTDOWN : batch_add(d->final, row, ended, s);

	if (r == -EAGAIN)
		timer_start(d->s, &s->timer, AGAIN_MS, write_end, s);
	else if (r != 0)
		sending_drop(s);
}

void sending_end(struct sending *s, enum final final, struct str error)
{
	IS_A(s, SENDING_MAGIC);
	timer_stop(&s->timer);
	s->state = ENDING;
	s->final = final;
	/* What a platform says is no promise to be text that a column takes. */
	s->error = str_utf8_ok(error) ? arena_str(s->mem, str_clip(error, 1000)) : STR("unreadable");
	metric_add(&outbound, final, 1);
	metric_observe_us(&wait_seconds, 0, (clock_mono_ms() - s->taken_mono_ms) * 1000);
	if (final != FINAL_SENT)
		log_rarely(1000, L_WARN, NULL, "message_not_sent", "%s: " STR_FMT " (" STR_FMT ")",
		           final_names[final], STR_ARG(error), STR_ARG(s->what.entity));
	lane_leave(s);
	write_end(s);
}

/* The beginning ---------------------------------------------------------------------------------- */

/* enum priority is in the order normal, high, low: what comes first on the wire is the default. */
static int rank_of(int priority)
{
	return priority == PRIORITY_HIGH ? 1 : priority == PRIORITY_NORMAL ? 5 : 9;
}

static void place(void *arg);

/* is it ours, its place in the order, login of the user */
static void inserted(void *arg, const struct db_result *res, int row, const struct err *err)
{
	struct sending *s = arg;
	struct sender *d = s->d;

	IS_A(s, SENDING_MAGIC);
	if (err != NULL) {
		if (d->stopped)
			sending_drop(s);        /* its offset stays where it is */
		else if (err_kind(err) == ERR_INPUT) {
			metric_add(&rejected, 0, 1);
			bus_reject(s->m, "database", err);
			sending_drop(s);
		} else {
			log_rarely(5000, L_ERROR, NULL, "outbox_refuses", "a message could not be kept: %s",
			           err->text);
			timer_start(d->s, &s->timer, 1000, place, s);
		}
		return;
	}
	bus_done(s->m);
	s->m = NULL;
	s->message = STR_NONE;
	if (!db_bool(res, row, 0) || held(d, s->what.message_id) != NULL) {
		metric_add(&again, 0, 1);
		sending_drop(s);                /* whoever inserted it sends it */
		return;
	}
	s->arrival = db_int(res, row, 1);
	s->login = arena_str(s->mem, db_str(res, row, 2));
	hash_add(&d->by_id, &s->by_id, hash_of(s->what.message_id));
	lane_add(s);
	lanes_turn(d, 0);
}

static void place(void *arg)
{
	struct sending *s = arg;
	struct sender *d = s->d;
	bool mention = s->what.user_id.n > 0 && (s->what.private || s->what.reply_ref.n == 0);
	const struct db_param row[INSERT_COLUMNS] = {
		DB_STR(s->what.message_id), DB_STR(str_of(outbound_kind_names[s->what.kind])), DB_STR(s->what.entity),
		DB_STR(s->what.channel_id), DB_INT(s->rank), DB_STR(s->message), DB_TIME(s->what.expires_at_ms),
		DB_STR(d->s->base.instance), s->trace.n >= 35 ? DB_STR(((struct str){ s->trace.p + 3, 32 })) : DB_NULL,
		mention ? DB_STR(s->what.user_id) : DB_NULL,
	};
	int r = batch_add(d->insert, row, inserted, s);

	if (r == -EAGAIN) {
		timer_start(d->s, &s->timer, AGAIN_MS, place, s);
	} else if (r != 0) {
		struct err err = { 0 };

		(void)err_set(&err, r, "a text that cannot be kept");
		metric_add(&rejected, 0, 1);
		bus_reject(s->m, "bad_outbound", &err);
		sending_drop(s);
	}
}

/* Not an address of this platform: nobody could send it. */
static int addressed(struct sending *s, struct err *err)
{
	struct entity e;

	if (entity_parse(s->what.entity, s->mem, &e) != 0 || !str_eq(e.platform, str_of(s->d->conf.platform)))
		return err_set(err, -EINVAL, "entity: not one of %s", s->d->conf.platform);
	if (s->what.channel_id.n == 0)
		s->what.channel_id = e.channel;
	if (!str_eq(s->what.channel_id, e.channel))
		return err_set(err, -EINVAL, "channel_id: another channel than the entity's");
	return 0;
}

static void arrived(void *arg, struct bus_msg *m)
{
	struct sender *d = arg;
	struct sending *s = sending_new(d);
	struct envelope env;
	struct err err = { 0 };
	int r = envelope_decode(m, ENV_OUTBOUND, &env, &s->what, s->mem, &err);

	s->m = m;
	if (r == 0)
		r = addressed(s, &err);
	if (r != 0) {
		metric_add(&rejected, 0, 1);
		log_rarely(1000, L_WARN, NULL, "outbound_refused", "%s", err.text);
		bus_reject(m, envelope_reason(ENV_OUTBOUND, r), &err);
		sending_drop(s);
		return;
	}
	s->message = m->value;                  /* the bus's until bus_done() */
	s->trace = arena_str(s->mem, env.traceparent);
	s->rank = rank_of(s->what.priority);
	if (s->what.expires_at_ms == 0)
		s->what.expires_at_ms = env.time_ms + LIFE_MS;
	place(s);
}

/* Leases ----------------------------------------------------------------------------------------- */

static enum final final_of(struct str state)
{
	enum final f = FINAL_SENT;

	while (f < FINALS && !str_eq(state, str_of(final_names[f])))
		f++;
	return f;
}

/* ["id", ...] of our own making */
static void parts_read(struct sending *s, struct str json)
{
	struct {
		struct js_list ids;
	} parts = { 0 };
	const struct js_field fields[] = { { .key = "ids", .type = JS_STRS, .offset = 0, .max = SPLIT_PARTS },
		                           { 0 } };
	struct str text = arena_printf(s->mem, "{\"ids\":" STR_FMT "}", STR_ARG(json));
	struct err err = { 0 };

	if (text.p == NULL || js_decode(text, fields, &parts, s->mem, &err) != 0)
		return;
	for (size_t i = 0; i < parts.ids.n; i++)
		sending_part(s, ((struct str *)parts.ids.items)[i]);
}

/* message_id, state, priority, arrival, message, expires_at, parts, attempts, error, trace_id, login */
static void take_over(struct sender *d, const struct db_result *res, int row)
{
	struct sending *s;
	struct err err = { 0 };
	struct str trace = db_str(res, row, 9);
	enum final final = final_of(db_str(res, row, 1));

	if (held(d, db_str(res, row, 0)) != NULL)
		return;                         /* our own: the claim has renewed it */
	s = sending_new(d);
	if (js_decode(db_str(res, row, 4), envelope_fields[ENV_OUTBOUND], &s->what, s->mem, &err) != 0) {
		log_error(NULL, "outbox_unreadable", "message " STR_FMT ": %s", STR_ARG(db_str(res, row, 0)),
		          err.text);
		s->what.message_id = arena_str(s->mem, db_str(res, row, 0));
		s->what.entity = STR("-");
	} else {
		(void)!addressed(s, &err);
	}
	metric_add(&claimed, 0, final == FINALS);
	s->rank = (int)db_int(res, row, 2);
	s->arrival = db_int(res, row, 3);
	s->what.expires_at_ms = db_time(res, row, 5);
	s->attempts = (int)db_int(res, row, 7);
	s->error = arena_str(s->mem, db_str(res, row, 8));
	s->login = arena_str(s->mem, db_str(res, row, 10));
	if (trace.n == 32)
		s->trace = arena_printf(s->mem, "00-" STR_FMT "-%.16s-01", STR_ARG(trace), trace.p);
	parts_read(s, db_str(res, row, 6));
	s->state = WAITING;
	hash_add(&d->by_id, &s->by_id, hash_of(s->what.message_id));
	if (final != FINALS) {
		s->state = ENDING;
		s->final = final;
		report(s);
	} else if (err.code != 0) {
		sending_end(s, FINAL_FAILED, STR("unreadable"));
	} else {
		s->asks = str_eq(db_str(res, row, 1), STR("sending"));
		lane_add(s);
	}
}

static void sweep(void *arg);

static void found(void *arg, const struct db_result *res, const struct err *err)
{
	struct sender *d = arg;
	int n = err == NULL ? db_rows(res) : 0;

	d->sweeping = false;
	service_release(d->s);
	if (d->stopped)
		return;
	if (err != NULL)
		log_rarely(30000, L_WARN, NULL, "sweep_failed", "messages of others: %s", err->text);
	for (int i = 0; i < n && !d->draining; i++)
		take_over(d, res, i);
	lanes_turn(d, 0);
	if (!d->draining)
		timer_start(d->s, &d->sweep, n == CLAIM_MAX ? AGAIN_MS : SWEEP_MS, sweep, d);
}

static void sweep(void *arg)
{
	struct sender *d = arg;
	const struct db_param param[] = { DB_STR(d->s->base.instance) };

	if (d->sweeping || d->draining || d->stopped)
		return;
	d->sweeping = d->ready && d->n_all < MEMORY_MAX &&
	              db_send(d->conf.db, (struct db_opts){ .to = DB_WRITE }, found, d, d->claim_sql, param,
	                      1) == 0;
	if (d->sweeping)
		service_hold(d->s);
	else
		timer_start(d->s, &d->sweep, SWEEP_MS, sweep, d);
}

static void renewed(void *arg, const struct db_result *res, const struct err *err)
{
	(void)arg;
	(void)res;
	if (err != NULL)
		log_rarely(10000, L_WARN, NULL, "leases_not_renewed", "%s", err->text);
}

static void renew(void *arg)
{
	struct sender *d = arg;
	struct db_param *ids = xnew_(d->n_all + 1, sizeof ids[0]);
	size_t n = 0;

	LIST_EACH(l, tmp, &d->all) {
		struct sending *s = CONTAINER_OF(l, struct sending, all);

		if (s->state != PLACING)
			ids[n++] = DB_STR(s->what.message_id);
	}
	if (n > 0) {
		const struct db_param param[] = { DB_ARRAY(ids, n), DB_STR(d->s->base.instance) };

		if (db_send(d->conf.db, (struct db_opts){ .to = DB_WRITE }, renewed, d, d->renew_sql, param, 2) != 0)
			log_rarely(10000, L_WARN, NULL, "leases_not_renewed", "the database's queue is full");
	}
	free(ids);
	timer_start(d->s, &d->renew, RENEW_MS, renew, d);
}

/* Life ------------------------------------------------------------------------------------------- */

#define LOGIN_OF(user) \
	"(SELECT a.username FROM @_activities a WHERE a.user_id = " user " AND a.username <> '' " \
	"ORDER BY a.created_at DESC LIMIT 1)"

/* Ours is what we inserted; of a pair within the statement the first. */
static const char insert_sql[] =
	"WITH x AS (SELECT *, row_number() OVER (PARTITION BY message_id ORDER BY i) AS nth "
	"FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::text[], $7::timestamptz[], "
	"$8::text[], $9::text[], $10::text[]) WITH ORDINALITY AS t(message_id, kind, entity, channel_id, priority, "
	"message, expires_at, owner, trace_id, user_id, i)), "
	"n AS (INSERT INTO @_outbox (message_id, kind, entity, channel_id, priority, message, expires_at, lease_owner, "
	"lease_until, trace_id) SELECT message_id, kind, entity, channel_id, priority, message, expires_at, owner, "
	"now() + interval '30 s', trace_id FROM x WHERE nth = 1 ORDER BY i ON CONFLICT DO NOTHING "
	"RETURNING message_id, arrival) "
	"SELECT n.arrival IS NOT NULL, n.arrival, CASE WHEN n.arrival IS NOT NULL AND x.user_id IS NOT NULL THEN "
	LOGIN_OF("x.user_id") " END FROM x LEFT JOIN n ON n.message_id = x.message_id AND x.nth = 1 ORDER BY x.i";

static const char final_sql[] =
	"WITH x AS (SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::timestamptz[]) "
	"WITH ORDINALITY AS t(message_id, owner, state, error, parts, sent_at, i)), "
	"u AS (UPDATE @_outbox o SET state = x.state, error = x.error, parts = x.parts, sent_at = x.sent_at, "
	"lease_until = now() + interval '30 s' FROM x WHERE o.message_id = x.message_id AND o.lease_owner = x.owner "
	"RETURNING o.message_id) SELECT u.message_id IS NOT NULL FROM x LEFT JOIN u USING (message_id) ORDER BY x.i";

static const char reported_sql[] =
	"UPDATE @_outbox o SET reported = true, lease_until = NULL FROM unnest($1::uuid[]) AS x(id) WHERE o.message_id = x.id";

/* From "SELECT <reserve> AS ms" on; retry_at is when the last call began. */
static const char begin_sql[] =
	"WITH r AS (SELECT %s AS ms), "
	"u AS (UPDATE @_outbox o SET state = 'sending', parts = $8::jsonb, attempts = $9::integer, "
	"retry_at = clock_timestamp(), lease_until = now() + interval '30 s' FROM r WHERE r.ms = 0 "
	"AND o.message_id = $1::uuid AND o.lease_owner = $7::text AND o.lease_until > now() "
	"AND o.state IN ('queued', 'sending') RETURNING 1) SELECT r.ms, (SELECT count(*) FROM u) FROM r";

static const char note_sql[] =
	"UPDATE @_outbox SET state = CASE WHEN $4::integer = 0 THEN 'queued' ELSE state END, parts = $3::jsonb, "
	"attempts = $4::integer, retry_at = now() + make_interval(secs => $5::bigint / 1000.0) "
	"WHERE message_id = $1::uuid AND lease_owner = $2::text AND state IN ('queued', 'sending')";

static const char renew_sql[] =
	"UPDATE @_outbox SET lease_until = now() + interval '30 s' WHERE message_id = ANY ($1::uuid[]) "
	"AND lease_owner = $2::text AND state IN ('queued', 'sending')";

static const char claim_sql[] =
	"WITH due AS (SELECT message_id FROM @_outbox WHERE NOT reported AND coalesce(lease_until, created_at) < now() "
	"ORDER BY priority, arrival LIMIT 64 FOR UPDATE SKIP LOCKED), "
	"u AS (UPDATE @_outbox o SET lease_owner = $1::text, lease_until = now() + interval '30 s' FROM due "
	"WHERE o.message_id = due.message_id RETURNING o.*) "
	"SELECT message_id, state, priority, arrival, message, expires_at, parts, attempts, error, trace_id, "
	LOGIN_OF("(u.message::jsonb ->> 'user_id')") " FROM u ORDER BY priority, arrival";

static const char release_sql[] =
	"UPDATE @_outbox SET lease_until = now() WHERE message_id = ANY ($1::uuid[]) AND lease_owner = $2::text "
	"AND state = 'queued'";

static const char echo_sql[] =
	"INSERT INTO @_dedupe (key, event_id) SELECT DISTINCT ON (key) key, id FROM unnest($1::text[], $2::text[]) "
	"WITH ORDINALITY AS t(key, id, i) ORDER BY key, i DESC "
	"ON CONFLICT (key) DO UPDATE SET event_id = excluded.event_id, created_at = now()";

static const char seen_sql[] =
	"SELECT event_id FROM @_dedupe WHERE key = $1::text AND created_at >= "
	"(SELECT retry_at FROM @_outbox WHERE message_id = $2::uuid)";

static struct batch_spec spec(struct sender *d, const char *name, const char *sql, int columns)
{
	return (struct batch_spec){
		.name = name, .sql = collector_sql(d->mem, d->conf.platform, sql), .columns = columns, .max_rows = 512,
		.max_in_flight = 2, .key_column = -1, .idempotent = true,
	};
}

struct sender *sender_open(struct service *s, const struct sender_conf *conf, struct err *err)
{
	struct sender *d = XNEW(struct sender);
	struct str begin;
	const char *topics[2] = { NULL, NULL };
	struct bus_consumer c = { .max_held = HELD_MAX, .message = arrived, .arg = d, .topics = topics };

	MAKE_A(d, SENDER_MAGIC);
	d->s = s;
	d->conf = *conf;
	d->mem = arena_new(32 * 1024, 1 << 20);
	list_init(&d->all);
	list_init(&d->lane_list);
	begin = arena_printf(d->mem, begin_sql, conf->reserve_sql);
	d->begin_sql = collector_sql(d->mem, conf->platform, begin.p);
	d->note_sql = collector_sql(d->mem, conf->platform, note_sql);
	d->renew_sql = collector_sql(d->mem, conf->platform, renew_sql);
	d->claim_sql = collector_sql(d->mem, conf->platform, claim_sql);
	d->release_sql = collector_sql(d->mem, conf->platform, release_sql);
	d->seen_sql = collector_sql(d->mem, conf->platform, seen_sql);
	d->responses_topic = arena_printf(d->mem, "waddle.responses.collector-%s", conf->platform).p;
	d->insert_spec = spec(d, "outbox", insert_sql, INSERT_COLUMNS);
	d->final_spec = spec(d, "outbox_final", final_sql, FINAL_COLUMNS);
	d->reported_spec = spec(d, "outbox_reported", reported_sql, 1);
	d->reported_spec.max_ms = 20;
	d->echo_spec = spec(d, "echoes", echo_sql, 2);
	d->insert = batch_open(s, conf->db, &d->insert_spec);
	d->final = batch_open(s, conf->db, &d->final_spec);
	d->reported = batch_open(s, conf->db, &d->reported_spec);
	d->echo = batch_open(s, conf->db, &d->echo_spec);
	topics[0] = arena_printf(d->mem, "waddle.outbound.%s", conf->platform).p;
	c.group = arena_printf(d->mem, "waddle.collector-%s", conf->platform).p;
	if (bus_consume(conf->bus, &c, &d->sub, err) != 0) {
		sender_stop(d);
		sender_free(d);
		return NULL;
	}
	timer_start(s, &d->sweep, 0, sweep, d);
	timer_start(s, &d->renew, RENEW_MS, renew, d);
	return d;
}

void sender_ready(struct sender *d)
{
	d->ready = true;
	lanes_turn(d, 0);
}

/* What waits is given back at once; what was called keeps its lease until its answer is written. */
void sender_drain(struct sender *d)
{
	struct db_param *ids = xnew_(d->n_all + 1, sizeof ids[0]);
	size_t n = 0;

	d->draining = true;
	bus_unsubscribe(d->sub);
	timer_stop(&d->turn);
	timer_stop(&d->sweep);
	timer_stop(&d->renew);
	LIST_EACH(l, tmp, &d->all) {
		struct sending *s = CONTAINER_OF(l, struct sending, all);

		if (s->state == WAITING)
			ids[n++] = DB_STR(s->what.message_id);
	}
	if (n > 0) {
		const struct db_param param[] = { DB_ARRAY(ids, n), DB_STR(d->s->base.instance) };

		(void)!db_send(d->conf.db, (struct db_opts){ .to = DB_WRITE }, NULL, NULL, d->release_sql,
		               param, 2);
	}
	free(ids);
}

void sender_stop(struct sender *d)
{
	if (d == NULL)
		return;
	d->draining = d->stopped = true;
	timer_stop(&d->turn);
	timer_stop(&d->sweep);
	timer_stop(&d->renew);
	LIST_EACH(l, tmp, &d->all)
		timer_stop(&CONTAINER_OF(l, struct sending, all)->timer);
	batch_close(d->insert);
	batch_close(d->final);
	batch_close(d->reported);
	batch_close(d->echo);
}

void sender_free(struct sender *d)
{
	struct list *n;

	if (d == NULL)
		return;
	while ((n = list_first(&d->all)) != NULL)
		sending_drop(CONTAINER_OF(n, struct sending, all));
	lanes_free(d);
	hash_clear(&d->by_id);
	arena_free(d->mem);
	NOT_A_MORE(d, SENDER_MAGIC);
	free(d);
}

/* replies.c - what modules answered: stored, the execution settled, the answer sent on.
 *
 * Up to 512 responses are one statement: executions are settled and responses kept together, and
 * what it returns says where each answer belongs - the execution's own entity, never one that the
 * module names.  Only then is anything sent, and only when the broker has that is the offset
 * stored.  A redelivered response meets its row, changes nothing and is sent again under the same
 * message id, which the collector remembers.
 *
 * A response that says when its command was created is looked for in that instant, which is one
 * partition and one index entry; any other, and one not found there, is looked for everywhere
 * before it counts as unknown. */
#include "router.h"
#include "clock.h"
#include "err.h"
#include "ids.h"
#include "log.h"
#include "metrics.h"
#include "service.h"
#include "topics.h"

enum { MAX_BATCHES = 4, COLUMNS = 16, OUTBOUND_LIFE_MS = 300000 };

enum pass { PASS_THERE, PASS_ALL, PASS_WHY, PASSES };

struct reply {
	unsigned magic;
	struct replies *p;
	struct bus_msg *m;
	struct list     node, all;
	struct arena   *mem;
	struct response resp;
	int64_t         created_ms;     /* of its command; 0: not said */
	uint64_t        lsn;            /* of the module's write: later readers must see it */
	enum pass       pass;
	bool            alone;
	unsigned        unacked;
	/* What the statement said; topic.p NULL: nothing to send. */
	struct str      topic, key, trace_id;
	struct outbound out;
	char            message_id[37];
};
enum { REPLY_MAGIC = 0x40073403 };

struct batch {
	struct replies *p;
	struct list     replies, node;
	size_t          n, n_sent;
	struct reply  **at;
	enum pass       pass;
	bool            busy, done;
	struct arena   *mem;
};

struct replies {
	struct router  *r;
	struct bus_sub *sub;
	struct list     queue[PASSES];
	size_t          n_queued;
	struct list     idle, all, active;      /* active: batches in the order they were sent */
	struct batch    batch[MAX_BATCHES];
	int             n_batches;
	struct timer    retry;
	unsigned        failures;
	bool            resting;
};

static const char *const actions[] = { "chat", "media", "ticker", "general", "form" };
METRIC_BY(responses, METRIC_COUNTER, "waddle_router_responses_total", "Responses stored, by action.", "action",
          actions);
METRIC(late, METRIC_COUNTER, "waddle_router_late_responses_total", "Responses to executions that had timed out.");
METRIC(outbound, METRIC_COUNTER, "waddle_router_outbound_total", "Messages handed to collectors.");
METRIC(unsent_replies, METRIC_COUNTER, "waddle_router_unroutable_total",
       "Chat answers of platforms without a collector: stored only.");
METRIC(refused, METRIC_COUNTER, "waddle_router_bad_responses_total", "Responses sent to the dead-letter topic.");
METRIC(deliveries, METRIC_COUNTER, "waddle_router_deliveries_total", "Delivery reports of collectors.");
struct metric *const replies_metrics[] = { &responses, &late, &outbound, &unsent_replies, &refused, &deliveries, NULL };

static struct reply *take(struct replies *p)
{
	struct list *n = list_pop(&p->idle);
	struct reply *y;

	if (n != NULL)
		return CONTAINER_OF(n, struct reply, node);
	y = XNEW(struct reply);
	MAKE_A(y, REPLY_MAGIC);
	y->p = p;
	y->mem = arena_new(2048, 1 << 20);
	list_init(&y->node);
	list_add_tail(&p->all, &y->all);
	return y;
}

static void give_back(struct reply *y)
{
	y->m = NULL;
	y->alone = false;
	y->pass = PASS_THERE;
	y->unacked = 0;
	y->topic = STR_NONE;
	arena_reset(y->mem);
	list_add_head(&y->p->idle, &y->node);
}

static void done(struct reply *y)
{
	IS_A(y, REPLY_MAGIC);
	bus_done(y->m);
	give_back(y);
}

static void reject(struct reply *y, const char *reason, const struct err *why)
{
	IS_A(y, REPLY_MAGIC);
	metric_add(&refused, 0, 1);
	log_rarely(1000, L_WARN, NULL, "response_refused", "%s: %s", reason, why->text);
	bus_reject(y->m, reason, why);
	give_back(y);
}

static void enqueue(struct reply *y)
{
	list_add_tail(&y->p->queue[y->pass], &y->node);
	y->p->n_queued++;
}

static void acknowledged(void *arg, const struct err *err)
{
	struct reply *y = arg;

	IS_A(y, REPLY_MAGIC);
	if (err == NULL)        /* else: closing, the offset stays */
		done(y);
}

static bool send_reply(struct reply *y)
{
	struct envelope env = {
		.kind = ENV_OUTBOUND, .id = y->out.message_id, .source = STR("waddle/router"),
		.time_ms = clock_unix_ms(),
	};
	char traceparent[56];
	int n = snprintf(traceparent, sizeof traceparent, "00-" STR_FMT "-%.16s-01", STR_ARG(y->trace_id),
	                 y->trace_id.n >= 16 ? y->trace_id.p : "0000000000000001");

	if (y->trace_id.n == 32)
		env.traceparent = (struct str){ traceparent, (size_t)n };
	y->out.expires_at_ms = env.time_ms + OUTBOUND_LIFE_MS;
	return envelope_send(y->p->r->bus, y->topic.p, y->key, &env, &y->out, acknowledged, y) == 0;
}

static void batch_end(struct batch *b)
{
	arena_reset(b->mem);
	list_del(&b->node);
	b->busy = b->done = false;
	b->n = b->n_sent = 0;
	b->at = NULL;
}

/* Answers leave in the order their responses came, also when statements overtake each other. */
static void send_ready(struct replies *p)
{
	struct list *n;

	while ((n = list_first(&p->active)) != NULL) {
		struct batch *b = CONTAINER_OF(n, struct batch, node);

		if (!b->done)
			return;
		for (; b->n_sent < b->n; b->n_sent++) {
			struct reply *y = b->at[b->n_sent];

			if (y == NULL)
				continue;
			if (y->topic.p == NULL) {
				done(y);
				continue;
			}
			if (!send_reply(y))
				return;                 /* the local queue is full: next turn of the loop */
			metric_add(&outbound, 0, 1);
		}
		batch_end(b);
	}
}

/* The platforms that somebody sends for. */
static struct str outbound_topic(struct arena *mem, struct str platform)
{
	struct str topic = arena_printf(mem, "waddle.outbound." STR_FMT, STR_ARG(platform));

	return topics_find(topic.p) != NULL ? topic : STR_NONE;
}

static void address(struct reply *y, const struct db_result *res, int row)
{
	struct response *a = &y->resp;
	struct str text = a->chat_message;

	metric_add(&responses, (unsigned)a->response_action, 1);
	metric_add(&late, 0, db_bool(res, row, 13));
	if (y->lsn > *router_lsn(y->p->r, db_int(res, row, 8)))
		*router_lsn(y->p->r, db_int(res, row, 8)) = y->lsn;
	/* A module that failed without a word of its own: its error text is the notice (router.md 9). */
	if (!a->success && text.n == 0 && a->final)
		text = a->error_message.n > 0 ? a->error_message : STR("That failed.");
	if (text.n == 0 || (a->response_action != ACTION_CHAT && a->success))
		return;
	y->topic = outbound_topic(y->mem, db_str(res, row, 2));
	if (y->topic.p == NULL) {
		metric_add(&unsent_replies, 0, 1);
		return;
	}
	y->key = arena_str(y->mem, db_str(res, row, 9));
	y->trace_id = arena_str(y->mem, db_str(res, row, 11));
	id_outbound(a->execution_id, a->response_index, 0, y->message_id);
	y->out = (struct outbound){
		.message_id = str_of(y->message_id), .kind = OUT_CHAT,
		.entity = arena_str(y->mem, db_str(res, row, 1)),
		.server_id = arena_str(y->mem, db_str(res, row, 3)),
		.channel_id = arena_str(y->mem, db_str(res, row, 4)),
		.user_id = arena_str(y->mem, db_str(res, row, 5)),
		.reply_ref = arena_str(y->mem, db_str(res, row, 6)),
		.in_reply_to = arena_str(y->mem, db_str(res, row, 7)),
		.text = text, .private = a->private, .priority = PRIORITY_NORMAL,
	};
	if (db_null(res, row, 3))
		y->out.server_id = STR_NONE;
	if (db_null(res, row, 6))
		y->out.reply_ref = STR_NONE;
	if (db_null(res, row, 7))
		y->out.in_reply_to = STR_NONE;
}

static void rested(void *arg)
{
	struct replies *p = arg;

	p->resting = false;
}

static void failed(struct batch *b, const struct err *err)
{
	struct replies *p = b->p;
	bool data = err_is_data(err);

	if (data && b->n == 1) {
		reject(b->at[0], "database", err);
		batch_end(b);
		return;
	}
	log_rarely(5000, L_WARN, NULL, "batch_failed", "%zu responses will be tried again%s: %s", b->n,
	           data ? " one by one" : "", err->text);
	for (size_t i = b->n; i-- > 0;) {
		b->at[i]->alone = b->at[i]->alone || data;
		list_add_head(&p->queue[b->pass], &b->at[i]->node);
		p->n_queued++;
	}
	if (!data && !p->resting) {
		p->resting = true;
		timer_start(p->r->s, &p->retry, clock_backoff_ms(p->failures++, 50, 2000), rested, p);
	}
	batch_end(b);
}

static void stored(void *arg, const struct db_result *res, const struct err *err)
{
	struct batch *b = arg;
	struct replies *p = b->p;
	int row = 0;

	if (err != NULL) {
		failed(b, err);
		return;
	}
	p->failures = 0;
	for (size_t i = 0; i < b->n; i++) {
		struct reply *y = b->at[i];

		if (row < db_rows(res) && db_int(res, row, 0) == (int64_t)i) {
			address(y, res, row++);
			continue;
		}
		b->at[i] = NULL;
		y->pass = b->pass + 1;
		enqueue(y);
	}
	b->done = true;
	send_ready(p);
}

static void explained(void *arg, const struct db_result *res, const struct err *err)
{
	struct batch *b = arg;
	int row = 0;

	if (err != NULL) {
		failed(b, err);
		return;
	}
	for (size_t i = 0; i < b->n; i++) {
		struct reply *y = b->at[i];
		struct err why = { 0 };

		if (row < db_rows(res) && db_int(res, row, 0) == (int64_t)i) {
			(void)!err_set(&why, -EBADMSG,
			               "execution " STR_FMT " belongs to " STR_FMT ", not to " STR_FMT,
			               STR_ARG(y->resp.execution_id), STR_ARG(db_str(res, row, 1)),
			               STR_ARG(y->resp.module_name));
			row++;
			reject(y, "wrong_module", &why);
		} else {
			(void)!err_set(&why, -ENOENT, "there is no execution " STR_FMT,
			               STR_ARG(y->resp.execution_id));
			reject(y, "unknown_execution", &why);
		}
	}
	b->n = 0;
	batch_end(b);
}

/* What the response said goes along through the statement: a join of its parts would be a nested
 * loop, because PostgreSQL cannot know how many rows an array or an UPDATE gives. */
#define FOUND "x.*, e.next_id, e.next_module, e.created_at, e.entity_id, e.community_id, e.user_id, e.event_id, " \
	"e.trace_id, e.reply_ref, e.request_payload #>> '{event_data,message_id}' AS message_id, " \
	"coalesce(e.error_message = 'timeout' AND e.completed_at < now(), false) AS late"
#define STORE(AND_WHEN) \
	"WITH x AS (SELECT * FROM unnest($1::integer[], $2::uuid[], $3::integer[], $4::text[], $5::boolean[], " \
	"$6::boolean[], $7::text[], $8::jsonb[], $9::text[], $10::text[], $11::integer[], $12::boolean[], " \
	"$13::uuid[], $14::boolean[], $15::jsonb[], $16::timestamptz[]) AS t(i, execution_id, response_index, module_name, success, " \
	"final, response_action, response_data, chat_message, error_message, processing_time_ms, private, " \
	"session_id, settles, whole, at)), " \
	"u AS (UPDATE command_executions e SET " \
	"status = CASE WHEN e.status <> 'pending' THEN e.status WHEN x.success THEN 'success' ELSE 'failed' END, " \
	"response_status = CASE WHEN e.status <> 'pending' THEN e.response_status WHEN x.success THEN 200 ELSE 422 END, " \
	"response_data = coalesce(e.response_data, x.response_data), " \
	"error_message = coalesce(e.error_message, x.error_message), " \
	"execution_time_ms = coalesce(e.execution_time_ms, " \
	"least(extract(epoch FROM clock_timestamp() - e.created_at) * 1000, 2147483647)::integer), " \
	"completed_at = coalesce(e.completed_at, now()) FROM x " \
	"WHERE x.settles AND e.execution_id = x.execution_id AND e.module_name = x.module_name " \
	AND_WHEN "RETURNING " FOUND "), " RELEASES_NEXT ", " \
	"f AS (SELECT * FROM u UNION ALL SELECT " FOUND " FROM x JOIN command_executions e " \
	"ON e.execution_id = x.execution_id AND e.module_name = x.module_name " \
	AND_WHEN \
	"WHERE NOT x.settles), " \
	"kept AS (INSERT INTO module_responses (execution_id, created_at, response_index, module_name, success, " \
	"final, response_action, response_data, media_type, media_url, ticker_text, ticker_duration, chat_message, " \
	"error_message, processing_time_ms, form_title, form_description, form_fields, form_submit_url, " \
	"form_submit_method, form_callback_url, content_type, content, duration, style, private, session_id, late) " \
	"SELECT execution_id, created_at, response_index, module_name, success, final, " \
	"response_action, response_data, whole->>'media_type', whole->>'media_url', " \
	"whole->>'ticker_text', (whole->>'ticker_duration')::integer, chat_message, error_message, " \
	"processing_time_ms, whole->>'form_title', whole->>'form_description', whole->'form_fields', " \
	"whole->>'form_submit_url', whole->>'form_submit_method', whole->>'form_callback_url', " \
	"whole->>'content_type', whole->>'content', (whole->>'duration')::integer, whole->'style', " \
	"private, session_id, late FROM f " \
	"ON CONFLICT (execution_id, response_index, created_at) DO NOTHING) " \
	"SELECT f.i, n.address, n.platform, n.server_id, n.channel_id, f.user_id, f.reply_ref, f.message_id, " \
	"f.community_id, coalesce(n.config->>'bot_account_id', n.channel_id), f.event_id, f.trace_id, f.created_at, " \
	"f.late FROM f JOIN entities n ON n.entity_id = f.entity_id ORDER BY f.i"

static const char *const store_sql[] = {
	[PASS_THERE] = STORE("AND e.created_at = x.at "),
	[PASS_ALL] = STORE(""),
};

static const char why_sql[] =
	"SELECT x.i, e.module_name FROM unnest($1::integer[], $2::uuid[]) AS x(i, execution_id) "
	"JOIN LATERAL (SELECT module_name FROM command_executions c WHERE c.execution_id = x.execution_id LIMIT 1) e "
	"ON true ORDER BY x.i";

/* Whether an earlier response of this batch settles the same execution. */
static bool settled_before(const struct batch *b, size_t n, struct str execution_id)
{
	for (size_t i = 0; i < n; i++)
		if (b->at[i]->resp.final && str_eq(b->at[i]->resp.execution_id, execution_id))
			return true;
	return false;
}

static bool batch_begin(struct replies *p, struct batch *b, enum pass pass)
{
	struct db_param *col[COLUMNS], param[COLUMNS];
	size_t max = (size_t)p->r->settings->batch_rows;
	struct list *n;
	int r;

	b->at = arena_alloc(b->mem, max * sizeof(struct reply *));
	b->pass = pass;
	for (size_t c = 0; c < COLUMNS; c++)
		col[c] = arena_alloc(b->mem, max * sizeof col[c][0]);
	while (b->n < max && (n = list_first(&p->queue[pass])) != NULL) {
		struct reply *y = CONTAINER_OF(n, struct reply, node);
		const struct response *a = &y->resp;
		size_t i = b->n;

		if (y->alone && b->n > 0)
			break;
		list_del(n);
		p->n_queued--;
		if (bus_msg_void(y->m)) {
			done(y);
			continue;
		}
		const struct db_param row[COLUMNS] = {
			DB_INT((int64_t)i), DB_STR(a->execution_id), DB_INT(a->response_index),
			DB_STR(a->module_name), DB_BOOL(a->success), DB_BOOL(a->final),
			DB_STR(str_of(actions[a->response_action])), db_opt(a->response_data), db_opt(a->chat_message),
			db_opt(a->error_message), DB_INT(a->processing_time_ms), DB_BOOL(a->private),
			db_opt(a->session_id), DB_BOOL(a->final && !settled_before(b, i, a->execution_id)),
			/* Chat has nothing more to tell; of the others the database reads what it keeps. */
			a->response_action == ACTION_CHAT ? DB_NULL : DB_STR(y->m->value),
			y->created_ms != 0 ? DB_TIME(y->created_ms) : DB_NULL,
		};

		for (size_t c = 0; c < COLUMNS; c++)
			col[c][i] = row[c];
		b->at[b->n++] = y;
		if (y->alone)
			break;
	}
	if (b->n == 0) {
		arena_reset(b->mem);
		return true;
	}
	b->busy = true;
	list_add_tail(&p->active, &b->node);
	for (size_t c = 0; c < COLUMNS; c++)
		param[c] = DB_ARRAY(col[c], b->n);
	if (pass == PASS_WHY)
		r = db_send(p->r->db, (struct db_opts){ .to = DB_WRITE }, explained, b, why_sql, param, 2);
	else
		r = db_send(p->r->db, (struct db_opts){ .to = DB_WRITE }, stored, b, store_sql[pass], param,
		            COLUMNS);
	if (r != 0) {
		struct err err = { 0 };

		(void)!err_set(&err, r, "the database queue is full");
		if (r != -EAGAIN)
			memcpy(err.sqlstate, "22000", 6);
		failed(b, &err);
		return false;
	}
	return true;
}

static void loop_turn(void *arg)
{
	struct replies *p = arg;

	send_ready(p);
	for (int pass = PASSES - 1; pass >= 0; pass--)
		while (!list_empty(&p->queue[pass]) && !p->resting) {
			struct batch *b = NULL;

			for (int i = 0; i < p->n_batches && b == NULL; i++)
				if (!p->batch[i].busy)
					b = &p->batch[i];
			if (b == NULL || !batch_begin(p, b, (enum pass)pass))
				return;
		}
}

static void arrived(void *arg, struct bus_msg *m)
{
	struct replies *p = arg;
	struct reply *y = take(p);
	struct err err = { 0 };
	int r;

	y->m = m;
	if (str_eq(bus_header(m, "ce_type"), STR("waddle.delivery.v1"))) {
		metric_add(&deliveries, 0, 1);
		done(y);
		return;
	}
	/* Without its headers: an answer past its deadline is late, not worthless. */
	r = envelope_decode(m, ENV_RESPONSE, NULL, &y->resp, y->mem, &err);
	if (r != 0) {
		reject(y, envelope_reason(ENV_RESPONSE, r == -ENOBUFS ? -EMSGSIZE : r), &err);
		return;
	}
	y->lsn = 0;
	y->created_ms = 0;
	(void)!lsn_parse(bus_header(m, "waddle-lsn"), &y->lsn);
	(void)!clock_parse(bus_header(m, "waddle-created"), &y->created_ms);
	y->pass = y->created_ms != 0 ? PASS_THERE : PASS_ALL;
	enqueue(y);
}

struct replies *replies_open(struct router *r, struct err *err)
{
	static const char *const from[] = { "^waddle\\.responses\\.", NULL };
	struct replies *p = XNEW(struct replies);
	struct bus_consumer c = {
		.group = "waddle.router-responses", .topics = from,
		.max_held = (int)r->settings->responses_held, .message = arrived, .arg = p,
	};

	p->r = r;
	for (int i = 0; i < PASSES; i++)
		list_init(&p->queue[i]);
	list_init(&p->idle);
	list_init(&p->all);
	list_init(&p->active);
	p->n_batches = (int)r->settings->batches_in_flight;
	for (int i = 0; i < p->n_batches; i++) {
		p->batch[i].p = p;
		p->batch[i].mem = arena_new(64 * 1024, 64 << 20);
		list_init(&p->batch[i].node);
	}
	if (bus_consume(r->bus, &c, &p->sub, err) != 0) {
		replies_close(p);
		return NULL;
	}
	service_on_turn(r->s, loop_turn, p);
	return p;
}

void replies_drain(struct replies *p)
{
	bus_unsubscribe(p->sub);
}

/* After db_close() and bus_close(). */
void replies_close(struct replies *p)
{
	struct list *n;

	if (p == NULL)
		return;
	service_off_turn(p->r->s, loop_turn, p);
	timer_stop(&p->retry);
	while ((n = list_pop(&p->all)) != NULL) {
		struct reply *y = CONTAINER_OF(n, struct reply, all);

		arena_free(y->mem);
		NOT_A_MORE(y, REPLY_MAGIC);
		free(y);
	}
	for (int i = 0; i < p->n_batches; i++)
		arena_free(p->batch[i].mem);
	free(p);
}

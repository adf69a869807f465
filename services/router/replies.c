/* replies.c - what modules answered: stored, the execution settled, the answer sent on.
 *
 * Up to 512 responses are one statement: executions are settled and responses kept together, and
 * what it returns says where each answer belongs - the execution's own entity, never one that the
 * module names.  Only then is anything sent, and only when the broker has that is the offset
 * stored.  A redelivered response meets its row, changes nothing and is sent again under the same
 * message ids, which the collector remembers; one that says something else is refused.
 *
 * The passes of replies_sql.h: a response of the last minute that says when its command was
 * created is one partition and one index entry; any other, and one not found there, is looked for
 * everywhere before it counts as unknown. */
#include "replies.h"
#include "clock.h"
#include "columns.h"
#include "deliveries.h"
#include "err.h"
#include "ids.h"
#include "log.h"
#include "metrics.h"
#include "positions.h"
#include "replies_sql.h"
#include "response.h"
#include "service.h"
#include "sessions.h"
#include "waiting.h"

enum { MAX_BATCHES = 4, OUTBOUND_LIFE_MS = 300000, TRIES_MAX = 3 };

/* Responses that are not of this module's bus message come with a callback instead. */
struct reply {
	unsigned magic;
	struct replies *p;
	struct bus_msg *m;              /* NULL: of replies_submit() */
	reply_done     *told;
	void           *arg;
	struct list     node, all;
	struct arena   *mem;
	struct response resp;
	struct str      whole;          /* its JSON; empty for chat, which has nothing more to tell */
	int64_t         created_ms;     /* of its command; 0: not said */
	uint64_t        lsn;            /* of the module's write: later readers must see it */
	enum reply_pass pass;
	unsigned        tries;
	bool            alone;
	/* What the statement said. */
	bool            stored, again, late;
	int64_t         id, made_ms;    /* of its row; of its execution */
	struct str      trace_id;
	struct fanout   fan;
	size_t          n_sent, unacked;
};
enum { REPLY_MAGIC = 0x40073403 };

struct batch {
	struct replies *p;
	struct list     replies, node;
	size_t          n, n_sent;
	struct reply  **at;
	enum reply_pass pass;
	bool            busy, done;
	struct arena   *mem;
};

struct replies {
	struct router  *r;
	struct bus_sub *sub;
	struct list     queue[REPLY_PASSES];
	size_t          n_queued;
	struct list     idle, all, active;      /* active: batches in the order they were sent */
	struct batch    batch[MAX_BATCHES];
	int             n_batches;
	struct timer    retry;
	unsigned        failures;
	bool            resting;
};

enum result { RESULT_STORED, RESULT_LATE, RESULT_AGAIN, RESULT_CONFLICT, RESULT_REFUSED };
static const char *const actions[] = { "chat", "media", "ticker", "general", "form", "unreadable" },
	*const results[] = { "stored", "late", "again", "conflict", "refused" },
	*const kinds[] = { "chat", "form", "overlay" };
enum { ACTION_UNREADABLE = ARRAY_LEN(actions) - 1, KIND_CHAT = 0, KIND_FORM, KIND_OVERLAY };
METRIC_BY2(responses, METRIC_COUNTER, "waddle_router_responses_total", "Responses of modules, by what became of them.",
           "action", actions, "result", results);
METRIC(late, METRIC_COUNTER, "waddle_router_late_responses_total", "Responses to executions that had timed out.");
METRIC_BY2(outbound, METRIC_COUNTER, "waddle_router_outbound_total", "Messages handed to collectors and overlays.",
           "platform", place_names, "kind", kinds);
METRIC(unsent, METRIC_COUNTER, "waddle_router_unsent_responses_total",
       "Responses stored only: private ones for an overlay, platforms without a collector, nothing to say.");
METRIC(too_large, METRIC_COUNTER, "waddle_router_unsendable_responses_total", "Messages too large for the broker.");
struct metric *const replies_metrics[] = { &responses, &late, &outbound, &unsent, &too_large, NULL };

static struct reply *take(struct replies *p)
{
	struct list *n = list_pop(&p->idle);
	struct reply *y;

	if (n != NULL)
		return CONTAINER_OF(n, struct reply, node);
	y = XNEW(struct reply);
	MAKE_A(y, REPLY_MAGIC);
	y->p = p;
	y->mem = arena_new(4096, 8 << 20);
	list_init(&y->node);
	list_add_tail(&p->all, &y->all);
	return y;
}

static void give_back(struct reply *y)
{
	y->m = NULL;
	y->told = NULL;
	y->alone = y->stored = y->again = y->late = false;
	y->tries = 0;
	y->unacked = y->n_sent = 0;
	y->fan.n_parts = 0;
	y->whole = y->trace_id = STR_NONE;
	y->lsn = 0;
	y->created_ms = y->id = 0;
	arena_reset(y->mem);
	list_add_head(&y->p->idle, &y->node);
}

static void count(const struct reply *y, enum result result)
{
	metric_add(&responses, METRIC_AT(&responses, y->resp.response_action, result), 1);
}

/* The broker has what follows from it, or nothing does. */
static void done(struct reply *y)
{
	IS_A(y, REPLY_MAGIC);
	if (y->m != NULL) {
		bus_done(y->m);
	} else {
		struct reply_outcome ok = {
			.status = y->again ? 200 : 201, .id = y->id, .index = y->resp.response_index,
		};

		y->told(y->arg, &ok, NULL);
		service_release(y->p->r->s);
	}
	give_back(y);
}

/* status: what it is over HTTP; reason: what it is among the dead letters. */
static void reject(struct reply *y, int status, const char *reason, const struct err *why)
{
	IS_A(y, REPLY_MAGIC);
	count(y, status == 409 ? RESULT_CONFLICT : RESULT_REFUSED);
	if (y->m != NULL) {
		log_rarely(1000, L_WARN, NULL, "response_refused", "%s: %s", reason, why->text);
		bus_reject(y->m, reason, why);
	} else {
		struct reply_outcome no = { .status = status, .index = y->resp.response_index };

		y->told(y->arg, &no, why);
		service_release(y->p->r->s);
	}
	give_back(y);
}

static void enqueue(struct reply *y)
{
	list_add_tail(&y->p->queue[y->pass], &y->node);
	y->p->n_queued++;
}

/* Sending --------------------------------------------------------------------------------------- */

static void acknowledged(void *arg, const struct err *err)
{
	struct reply *y = arg;

	IS_A(y, REPLY_MAGIC);
	ASSERT(y->unacked > 0);
	if (err == NULL && --y->unacked == 0 && y->n_sent == y->fan.n_parts)
		done(y);                /* with an error: closing, the offset stays */
}

static int send_part(struct reply *y)
{
	struct fanout *f = &y->fan;
	char id[ID_TEXT], ref[REPORT_REF_TEXT], traceparent[56];
	struct envelope env = { .source = STR("waddle/router"), .time_ms = clock_unix_ms() };
	int n = snprintf(traceparent, sizeof traceparent, "00-" STR_FMT "-%.16s-01", STR_ARG(y->trace_id),
	                 y->trace_id.n >= 16 ? y->trace_id.p : "0000000000000001");

	if (y->trace_id.n == 32)
		env.traceparent = (struct str){ traceparent, (size_t)n };
	if (f->place == PLACE_OVERLAY) {
		env.kind = ENV_OVERLAY;
		env.id = f->item.item_id;
		return envelope_send(y->p->r->bus, f->topic, f->key, &env, &f->item, acknowledged, y);
	}
	id_outbound(y->resp.execution_id, f->index, (int)y->n_sent, id);
	env.kind = ENV_OUTBOUND;
	env.id = f->out.message_id = str_of(id);
	f->out.text = f->part[y->n_sent];
	if (f->index >= 0)
		f->out.report_ref = deliveries_ref(y->resp.execution_id, f->index, (int)y->n_sent, y->made_ms, ref);
	f->out.expires_at_ms = env.time_ms + OUTBOUND_LIFE_MS;
	return envelope_send(y->p->r->bus, f->topic, f->key, &env, &f->out, acknowledged, y);
}

/* False: the local queue is full, go on next turn of the loop. */
static bool send_reply(struct reply *y)
{
	const struct fanout *f = &y->fan;
	unsigned kind = f->place == PLACE_OVERLAY ? KIND_OVERLAY : f->out.kind == OUT_FORM ? KIND_FORM : KIND_CHAT;

	while (y->n_sent < f->n_parts) {
		int r = send_part(y);

		if (r == -EMSGSIZE) {
			metric_add(&too_large, 0, 1);
			log_rarely(1000, L_WARN, NULL, "response_too_large",
			           "a response of " STR_FMT " is stored but too large to send", STR_ARG(y->resp.module_name));
			y->fan.n_parts = y->n_sent;
			break;
		}
		if (r != 0)
			return false;
		y->n_sent++;
		y->unacked++;
		metric_add(&outbound, METRIC_AT(&outbound, f->place, kind), 1);
	}
	if (y->unacked == 0)
		done(y);
	return true;
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
		for (; b->n_sent < b->n; b->n_sent++)
			if (b->at[b->n_sent] != NULL && !send_reply(b->at[b->n_sent]))
				return;
		batch_end(b);
	}
}

/* Storing --------------------------------------------------------------------------------------- */

/* NULL stays absent. */
static struct str text(struct reply *y, const struct db_result *res, int row, int col)
{
	return db_null(res, row, col) ? STR_NONE : arena_str(y->mem, db_str(res, row, col));
}

/* What the user is told of a failure (router.md 9); STR_NONE: nothing. */
static struct str excuse(struct reply *y, const struct home *home, const struct db_result *res, int row)
{
	int type = js_name(message_type_names, db_str(res, row, OUT_TYPE));
	struct notice n = {
		.verdict = VERDICT_MODULE_FAILED, .asked = type >= MSG_SLASH && type <= MSG_SELECT,
		.command = home->command.n > 0 ? home->command : STR("That"), .why = y->resp.error_message,
		.platform = home->platform, .user_id = home->user_id, .config = db_str(res, row, OUT_CONFIG),
	};

	return notice_words(y->p->r, &n, y->mem);
}

static void plan(struct reply *y, const struct db_result *res, int row)
{
	struct home home = {
		.address = text(y, res, row, OUT_ADDRESS), .platform = db_str(res, row, OUT_PLATFORM),
		.server_id = text(y, res, row, OUT_SERVER), .channel_id = text(y, res, row, OUT_CHANNEL),
		.user_id = text(y, res, row, OUT_USER), .reply_ref = text(y, res, row, OUT_REPLY_REF),
		.message_id = text(y, res, row, OUT_MESSAGE), .key = text(y, res, row, OUT_KEY),
		.command = text(y, res, row, OUT_COMMAND), .overlay = text(y, res, row, OUT_OVERLAY),
		.community_id = db_int(res, row, OUT_COMMUNITY),
	};

	y->stored = true;
	y->late = db_bool(res, row, OUT_LATE);
	y->made_ms = db_time(res, row, OUT_CREATED);
	y->trace_id = text(y, res, row, OUT_TRACE);
	y->n_sent = y->unacked = 0;
	if (y->resp.final)
		waiting_answered(y->p->r->waiting, &(struct answered){
			.execution_id = y->resp.execution_id, .module = y->resp.module_name,
			.next_module = db_str(res, row, OUT_NEXT), .community_id = home.community_id,
			.created_ms = y->made_ms, .success = y->resp.success,
		});
	if (y->lsn != 0)
		positions_saw(y->p->r->positions, home.community_id, y->lsn);
	if (!y->resp.success && y->resp.chat_message.n == 0 && y->resp.final) {
		struct response told = y->resp;

		told.error_message = excuse(y, &home, res, row);
		told.final = told.error_message.n > 0;          /* else nothing is said */
		fanout_plan(&told, &home, y->mem, &y->fan);
		return;
	}
	fanout_plan(&y->resp, &home, y->mem, &y->fan);
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
		reject(b->at[0], 400, "database", err);
		batch_end(b);
		return;
	}
	log_rarely(5000, L_WARN, NULL, "batch_failed", "%zu responses will be tried again%s: %s", b->n,
	           data ? " one by one" : "", err->text);
	for (size_t i = b->n; i-- > 0;) {
		if (b->at[i] == NULL)
			continue;
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

static void settled(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++) {
		const struct reply *y = b->at[i];

		if (y == NULL)
			continue;
		count(y, y->again ? RESULT_AGAIN : y->late ? RESULT_LATE : RESULT_STORED);
		metric_add(&late, 0, y->late && !y->again);
		metric_add(&unsent, 0, y->fan.n_parts == 0);
	}
	b->done = true;
	send_ready(b->p);
}

/* Some were there already, or somebody wants to know the id: the same once more, or a contradiction? */
static void compared(void *arg, const struct db_result *res, const struct err *err)
{
	struct batch *b = arg;

	if (err != NULL) {
		failed(b, err);
		return;
	}
	for (int row = 0; row < db_rows(res); row++) {
		struct reply **at = &b->at[db_int(res, row, SAME_I)];
		struct err why = { 0 };

		(*at)->id = db_int(res, row, SAME_ID);
		if (db_bool(res, row, SAME_SAME))
			continue;
		(void)!err_set(&why, -EEXIST, "execution " STR_FMT " has another response %lld",
		               STR_ARG((*at)->resp.execution_id), (long long)(*at)->resp.response_index);
		reject(*at, 409, "bad_response", &why);
		*at = NULL;
	}
	settled(b);
}

static bool compare(struct batch *b);

static void stored(void *arg, const struct db_result *res, const struct err *err)
{
	struct batch *b = arg;
	struct replies *p = b->p;
	int64_t n_new = 0;
	bool asked = false;
	int row = 0, n_found = 0;

	if (err != NULL) {
		failed(b, err);
		return;
	}
	p->failures = 0;
	if (db_rows(res) > 0)
		n_new = db_int(res, 0, OUT_NEW);
	for (size_t i = 0; i < b->n; i++) {
		struct reply *y = b->at[i];

		while (row < db_rows(res) && db_int(res, row, OUT_I) < (int64_t)i)
			row++;
		if (row < db_rows(res) && db_int(res, row, OUT_I) == (int64_t)i) {
			plan(y, res, row++);
			asked = asked || y->m == NULL;
			n_found++;
			continue;
		}
		b->at[i] = NULL;
		y->pass = b->pass + 1;
		enqueue(y);
	}
	/* With several responses and only one missing nobody knows which: all are compared. */
	for (size_t i = 0; i < b->n; i++)
		if (b->at[i] != NULL)
			b->at[i]->again = n_new == 0;
	if ((n_new < n_found || asked) && compare(b))
		return;
	settled(b);
}

static void explained(void *arg, const struct db_result *res, const struct err *err)
{
	struct batch *b = arg;

	if (err != NULL) {
		failed(b, err);
		return;
	}
	for (size_t i = 0; i < b->n; i++) {
		struct reply *y = b->at[i];
		int row = (int)i;
		struct err why = { 0 };

		if (db_null(res, row, WHY_MODULE)) {
			(void)!err_set(&why, -ENOENT, "there is no execution " STR_FMT, STR_ARG(y->resp.execution_id));
			reject(y, 404, "unknown_execution", &why);
		} else if (!db_bool(res, row, WHY_KNOWN)) {
			(void)!err_set(&why, -ENOENT, "there is no session " STR_FMT, STR_ARG(y->resp.session_id));
			reject(y, 404, "bad_response", &why);
		} else if (!db_bool(res, row, WHY_LIVES)) {
			(void)!err_set(&why, -ENOENT, "session " STR_FMT " has expired", STR_ARG(y->resp.session_id));
			reject(y, 404, "bad_response", &why);
		} else if (!db_bool(res, row, WHY_OURS)) {
			(void)!err_set(&why, -EACCES, "session " STR_FMT " is another entity's",
			               STR_ARG(y->resp.session_id));
			reject(y, 403, "bad_response", &why);
		} else if (!str_eq(db_str(res, row, WHY_MODULE), y->resp.module_name)) {
			(void)!err_set(&why, -EACCES, "execution " STR_FMT " belongs to " STR_FMT ", not to " STR_FMT,
			               STR_ARG(y->resp.execution_id), STR_ARG(db_str(res, row, WHY_MODULE)),
			               STR_ARG(y->resp.module_name));
			reject(y, 403, "wrong_module", &why);
		} else if (++y->tries < TRIES_MAX) {
			y->pass = PASS_ALL;     /* it has come meanwhile */
			enqueue(y);
		} else {
			(void)!err_set(&why, -ENOENT, "execution " STR_FMT " cannot be found", STR_ARG(y->resp.execution_id));
			reject(y, 404, "unknown_execution", &why);
		}
	}
	b->n = 0;
	batch_end(b);
}

/* What of the batch's earlier responses is of the same execution. */
static void earlier(const struct batch *b, const struct response *a, bool *ret_settled, bool *ret_same)
{
	*ret_settled = *ret_same = false;
	for (size_t i = 0; i < b->n; i++) {
		const struct response *o = &b->at[i]->resp;

		/* ids are hashes: their last letters differ first */
		if (memcmp(o->execution_id.p + 28, a->execution_id.p + 28, 8) != 0 ||
		    !str_eq(o->execution_id, a->execution_id))
			continue;
		*ret_settled = *ret_settled || o->final;
		*ret_same = *ret_same || o->response_index == a->response_index;
	}
}

static void add_row(struct columns *c, size_t number, const struct reply *y, bool settles, int64_t at_ms)
{
	const struct response *a = &y->resp;
	const struct db_param row[REPLY_COLUMNS] = {
		[IN_I] = DB_INT((int64_t)number), [IN_EXECUTION] = DB_STR(a->execution_id),
		[IN_INDEX] = DB_INT(a->response_index), [IN_MODULE] = DB_STR(a->module_name),
		[IN_SUCCESS] = DB_BOOL(a->success), [IN_FINAL] = DB_BOOL(a->final),
		[IN_ACTION] = DB_STR(str_of(actions[a->response_action])), [IN_DATA] = db_opt(a->response_data),
		[IN_CHAT] = db_opt(a->chat_message), [IN_ERROR] = db_opt(a->error_message),
		[IN_TIME] = DB_INT(a->processing_time_ms), [IN_PRIVATE] = DB_BOOL(a->private),
		[IN_SESSION] = DB_STR(a->session_id), [IN_SETTLES] = DB_BOOL(settles), [IN_WHOLE] = db_opt(y->whole),
		[IN_AT] = at_ms != 0 ? DB_TIME(at_ms) : DB_NULL,
	};

	columns_add(c, row, REPLY_COLUMNS);
}

/* False: the batch has failed. */
static bool ask(struct batch *b, db_done *then, const char *sql, const struct db_param *param, size_t n)
{
	int r = db_send(b->p->r->db, (struct db_opts){ .to = DB_WRITE }, then, b, sql, param, n);
	struct err err = { 0 };

	if (r == 0)
		return true;
	(void)!err_set(&err, r, "the database queue is full");
	if (r != -EAGAIN)
		memcpy(err.sqlstate, "22000", 6);
	failed(b, &err);
	return false;
}

/* True: compared() goes on, or the batch has failed. */
static bool compare(struct batch *b)
{
	struct db_param param[REPLY_COLUMNS];
	struct columns cols;

	columns_init(&cols, b->mem, REPLY_COLUMNS, b->n);
	for (size_t i = 0; i < b->n; i++)
		if (b->at[i] != NULL)
			add_row(&cols, i, b->at[i], false, b->at[i]->made_ms);
	columns_params(&cols, param);
	if (cols.n > 0)
		(void)ask(b, compared, replies_same_sql, param, REPLY_COLUMNS);
	return cols.n > 0;
}

static bool batch_begin(struct replies *p, struct batch *b, enum reply_pass pass)
{
	struct db_param param[REPLY_PARAMS], why[4];
	struct columns cols;
	size_t max = (size_t)p->r->settings->batch_rows;
	uint64_t lsn = 0;
	char lsn_is[LSN_TEXT];
	struct list *n;

	b->at = arena_alloc(b->mem, max * sizeof(struct reply *));
	b->pass = pass;
	columns_init(&cols, b->mem, REPLY_COLUMNS, max);
	while (b->n < max && (n = list_first(&p->queue[pass])) != NULL) {
		struct reply *y = CONTAINER_OF(n, struct reply, node);
		bool settled_before, same_before;

		earlier(b, &y->resp, &settled_before, &same_before);
		if ((y->alone && b->n > 0) || same_before)
			break;
		list_del(n);
		p->n_queued--;
		if (y->m != NULL && bus_msg_void(y->m)) {
			done(y);
			continue;
		}
		add_row(&cols, b->n, y, y->resp.final && !settled_before, y->created_ms);
		lsn = y->lsn > lsn ? y->lsn : lsn;
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
	columns_params(&cols, param);
	lsn_text(lsn, lsn_is);
	param[IN_LSN] = lsn != 0 ? DB_STR(str_of(lsn_is)) : DB_NULL;
	param[IN_TTL] = DB_INT(p->r->settings->session_ttl_ms);
	if (pass != PASS_WHY)
		return ask(b, stored, replies_store_sql[pass], param, REPLY_PARAMS);
	why[0] = param[IN_I];
	why[1] = param[IN_EXECUTION];
	why[2] = param[IN_SESSION];
	why[3] = param[IN_TTL];
	return ask(b, explained, replies_why_sql, why, ARRAY_LEN(why));
}

static void loop_turn(void *arg)
{
	struct replies *p = arg;

	send_ready(p);
	for (int pass = REPLY_PASSES - 1; pass >= 0; pass--)
		while (!list_empty(&p->queue[pass]) && !p->resting) {
			struct batch *b = NULL;

			for (int i = 0; i < p->n_batches && b == NULL; i++)
				if (!p->batch[i].busy)
					b = &p->batch[i];
			if (b == NULL || !batch_begin(p, b, (enum reply_pass)pass))
				return;
		}
}

/* Arriving -------------------------------------------------------------------------------------- */

/* What chat has no columns for goes along as JSON, with what response_check() made of it. */
static bool encode_whole(struct reply *y)
{
	static struct buf b = { .max = 512 * 1024 };
	struct str json;

	if (y->resp.response_action == ACTION_CHAT)
		return true;
	buf_reset(&b);
	js_encode(envelope_fields[ENV_RESPONSE], &y->resp, &b);
	if (buf_str(&b, &json) != 0)
		return false;
	y->whole = arena_str(y->mem, json);
	return y->whole.p != NULL;
}

static void arrived(void *arg, struct bus_msg *m)
{
	struct replies *p = arg;
	struct reply *y;
	struct err err = { 0 };
	int64_t age_ms;
	int r;

	if (str_eq(bus_header(m, "ce_type"), STR("waddle.delivery.v1"))) {
		deliveries_take(p->r->deliveries, m);
		return;
	}
	y = take(p);
	y->m = m;
	/* Without its headers: an answer past its deadline is late, not worthless. */
	r = envelope_decode(m, ENV_RESPONSE, NULL, &y->resp, y->mem, &err);
	if (r == 0)
		r = response_check(&y->resp, &p->r->guard, &err);
	else
		y->resp.response_action = ACTION_UNREADABLE;
	if (r == 0 && !encode_whole(y))
		r = err_set(&err, -EMSGSIZE, "a response too large to keep");
	if (r != 0) {
		reject(y, 400, envelope_reason(ENV_RESPONSE, r == -ENOBUFS ? -EMSGSIZE : r), &err);
		return;
	}
	(void)!lsn_parse(bus_header(m, "waddle-lsn"), &y->lsn);
	(void)!clock_parse(bus_header(m, "waddle-created"), &y->created_ms);
	age_ms = clock_unix_ms() - y->created_ms;
	y->pass = age_ms < SESSION_RENEW_MS ? PASS_THERE : PASS_ALL;
	enqueue(y);
}

int replies_submit(struct replies *p, const struct response *a, reply_done *told, void *arg, struct err *err)
{
	static struct buf b = { .max = 512 * 1024 };
	struct str json = STR_NONE;
	struct reply *y;
	int r;

	buf_reset(&b);
	js_encode(envelope_fields[ENV_RESPONSE], a, &b);
	r = buf_str(&b, &json);
	if (r != 0)
		return err_set(err, -EMSGSIZE, "a response too large to keep");
	y = take(p);
	r = js_decode(json, envelope_fields[ENV_RESPONSE], &y->resp, y->mem, err);
	if (r == 0)
		r = response_check(&y->resp, &p->r->guard, err);
	if (r == 0 && !encode_whole(y))
		r = err_set(err, -EMSGSIZE, "a response too large to keep");
	if (r != 0) {
		give_back(y);
		return r;
	}
	service_hold(p->r->s);
	y->told = told;
	y->arg = arg;
	y->alone = true;        /* so that new and known are told apart */
	y->pass = PASS_ALL;
	enqueue(y);
	return 0;
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
	for (int i = 0; i < REPLY_PASSES; i++)
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

/* dispatch.c - judged events become rows, rows become commands, in that order.
 *
 * A turn is one transaction: the pending executions of up to 512 events, the usage counts of the
 * commands they name and the decisions of events nothing runs for.  Nothing is sent for a turn
 * that did not commit; an event is done when the broker has all its commands.  A crash in between
 * repeats events, whose rows then exist (ids and created_at are the event's own), and sends
 * again: the module's inbox makes that harmless (router.md 12).
 *
 * Two turns may be out at a time: while one commits the next is being filled, so that the busier
 * the router, the larger the batches, without waiting for more to come. */
#include "router.h"
#include "clock.h"
#include "columns.h"
#include "command_send.h"
#include "err.h"
#include "ids.h"
#include "log.h"
#include "metrics.h"
#include "rules_hooks.h"
#include "positions.h"
#include "service.h"
#include "sessions.h"
#include "waiting.h"

enum { MAX_TURNS = 4, TURN_BYTES = 4 << 20 };
/* The last three are sent only when some of the batch wait. */
enum { COLUMN_WAITS = 19, COLUMN_NEXT_ID, COLUMN_NEXT_MODULE, EXECUTION_COLUMNS };

struct shipment {                       /* a command to send after the commit */
	struct work      *w;
	struct candidate *c;
	struct str        body;
};

struct turn {
	struct dispatch *d;
	struct arena    *mem;
	struct list      works, node;
	size_t           n_works;
	bool             busy, committed;
	struct shipment *ship;
	size_t           n_ship, shipped;
	struct work    **act;           /* those with effects; each holds one of its unacked */
	size_t           n_act, acted;
	struct waiting_asked *asked;    /* one for each row */
	size_t           n_asked, n_links;
	struct columns   turns;         /* rows that wait for their turn: execution_id, created_at */
	int64_t          started_us, sent_at_ms;
};

struct dispatch {
	struct router *r;
	struct list    staged;          /* judged, waiting for a turn */
	struct list    active;          /* turns in the order they were begun */
	size_t         n_staged;
	struct turn    turn[MAX_TURNS];
	int            n_turns;
	struct timer   retry;
	unsigned       failures;
	bool           resting;
};

METRIC(rows, METRIC_HISTOGRAM, "waddle_router_batch_rows", "Events per transaction.");
static const char *const statements[] = { "events" };
METRIC_BY(seconds, METRIC_HISTOGRAM, "waddle_router_batch_seconds", "From filling a transaction to its commit.",
          "statement", statements);
METRIC(repeated, METRIC_COUNTER, "waddle_router_batch_retries_total", "Transactions that failed and were repeated.");
METRIC(staged_now, METRIC_GAUGE, "waddle_router_staged", "Judged events waiting for a transaction.");
struct metric *const dispatch_metrics[] = { &rows, &seconds, &repeated, &staged_now, NULL };

static void fill(struct dispatch *d);

/* The enabling row's config with the community beside it: {"a":1} and {...} -> {"a":1,"community":{...}}. */
static struct str config_of(struct arena *mem, const struct grant *g, struct str community)
{
	struct str own = g->config;

	if (own.n < 2 || own.p[own.n - 1] != '}')
		own = STR("{}");
	own.n--;
	return arena_printf(mem, STR_FMT "%s\"community\":" STR_FMT "}", STR_ARG(own), own.n > 1 ? "," : "",
	                    STR_ARG(community));
}

static struct str encode(struct turn *t, struct work *w, struct candidate *c)
{
	const struct place *place = cache_value(w->place);
	struct buf out = BUF(256 * 1024);
	struct str body = STR_NONE;
	struct command_msg m = {
		.execution_id = str_of(c->execution_id), .session_id = str_of(w->session_id),
		.event_id = w->ev.event_id, .community_id = w->community_id,
		.entity_id = place->entity_id, .entity = w->ev.entity, .platform = w->ev.platform,
		.user = w->ev.user, .trigger = c->trigger, .message_type = w->ev.message_type,
		.prefix = c->cmd->prefix, .command = c->cmd->name, .parameters = c->cmd->params,
		.raw_message = w->ev.message_content, .event_data = w->ev.metadata,
		.config = config_of(t->mem, c->grant, w->community), .reply_ref = w->ev.reply_ref,
		.created_at_ms = w->ev.received_at_ms,
	};

	m.user.labels = judge_labels(w, t->mem);
	m.user.community_role = str_of(role_names[judge_role(w)]);
	js_encode(envelope_fields[ENV_COMMAND], &m, &out);
	if (buf_str(&out, &body) == 0)
		body = arena_str(t->mem, body);
	else
		body = STR_NONE;
	buf_clear(&out);
	return body;
}

static struct str params_json(struct arena *mem, struct js_list params)
{
	struct buf b = BUF(256 * 1024);
	struct str ret = STR("[]");

	buf_add(&b, STR("["));
	for (size_t i = 0; i < params.n; i++) {
		if (i > 0)
			buf_add(&b, STR(","));
		buf_json(&b, ((const struct str *)params.items)[i]);
	}
	buf_add(&b, STR("]"));
	if (buf_str(&b, &ret) == 0)
		ret = arena_str(mem, ret);
	buf_clear(&b);
	return ret;
}

/* The links of an event's chain: its sequential rows in their order (router.md 10). */
struct chain { size_t last; bool any; };        /* row of the last one so far */

static void execution_row(struct turn *t, struct columns *cols, struct work *w, struct candidate *c,
                          struct chain *chain)
{
	const struct place *place = cache_value(w->place);
	struct waiting *waiting = w->r->waiting;
	struct waiting_asked *asked = &t->asked[t->n_asked];
	struct db_param waits = DB_NULL;
	enum waiting_what what;
	struct str body;

	id_execution(w->ev.event_id, c->route->id, c->rule_id, c->execution_id);
	what = waiting_ask(waiting, w->community_id, c->route->module, chain->any && !c->route->parallel,
	                   c->execution_id, w->ev.received_at_ms, route_row_timeout_ms(w->r, c->route), asked);
	if (what == WAITING_REFUSED) {
		c->verdict = VERDICT_OVERLOADED;
		judge_sum(w);
		return;
	}
	body = encode(t, w, c);
	if (body.p == NULL) {
		/* Metadata at its own limit and a config that fills the rest: the message would be
		 * refused everywhere behind us. */
		waiting_end(waiting, asked, 1, false);
		c->verdict = VERDICT_UNREACHABLE;
		judge_sum(w);
		return;
	}
	t->n_asked++;
	switch (what) {
	case WAITING_GOES:
		t->ship[t->n_ship++] = (struct shipment){ w, c, body };
		w->unacked++;
		break;
	case WAITING_TURN:
		waits = DB_STR(STR("turn"));
		columns_add(&t->turns, ROW(DB_STR(str_of(c->execution_id)), DB_TIME(w->ev.received_at_ms)));
		break;
	case WAITING_LINK:
		waits = DB_STR(STR("link"));
		t->n_links++;
		break;
	case WAITING_REFUSED:
		break;
	}
	if (!c->route->parallel) {
		if (chain->any) {
			cols->at[COLUMN_NEXT_ID][chain->last] = DB_STR(str_of(c->execution_id));
			cols->at[COLUMN_NEXT_MODULE][chain->last] = DB_STR(c->route->module);
		}
		*chain = (struct chain){ cols->n, true };
	}
	sweeper_saw(w->r->sweeper, w->ev.received_at_ms);
	columns_add(cols, ROW(DB_STR(str_of(c->execution_id)), DB_TIME(w->ev.received_at_ms),
	                      DB_INT(c->route->id), DB_INT(place->entity_id), DB_INT(w->community_id),
	                      DB_STR(w->ev.user.id), DB_STR(w->ev.user.name), DB_STR(w->ev.message_content),
	                      DB_STR(params_json(t->mem, c->cmd->params)), DB_STR(c->route->location_url),
	                      DB_STR(body), DB_STR(str_of(w->session_id)), DB_STR(w->ev.event_id),
	                      DB_STR(str_of(w->trace_id)), DB_STR(c->route->module), db_opt(w->ev.reply_ref),
	                      DB_INT(route_row_timeout_ms(w->r, c->route)), DB_INT(c->grant->permission_id),
	                      DB_STR(str_of(trigger_names[c->trigger])), waits, DB_NULL, DB_NULL));
}

static void rested(void *arg)
{
	struct dispatch *d = arg;

	d->resting = false;
	fill(d);
}

/* Back to the front, in order. */
static void unstage(struct turn *t, bool alone)
{
	struct dispatch *d = t->d;

	while (!list_empty(&t->works)) {
		struct list *last = t->works.prev;
		struct work *w = CONTAINER_OF(last, struct work, node);

		list_del(last);
		w->alone = w->alone || alone;
		list_add_head(&d->staged, last);
		d->n_staged++;
	}
}

static void turn_end(struct turn *t)
{
	arena_reset(t->mem);
	list_del(&t->node);
	t->busy = t->committed = false;
	t->n_works = t->n_ship = t->shipped = t->n_act = t->acted = t->n_asked = t->n_links = 0;
	t->ship = NULL;
	t->asked = NULL;
	t->act = NULL;
	list_init(&t->works);
}

void work_acknowledged(void *arg, const struct err *err)
{
	struct work *w = arg;

	IS_A(w, WORK_MAGIC);
	/* A message the broker will not take is fatal in bus.c; here only closing is left, and then
	 * the offset must stay where it is. */
	if (err == NULL) {
		ASSERT(w->unacked > 0);
		if (--w->unacked == 0)
			intake_done(w);
	}
}

/* Sends what the committed turn holds; false: the local queue is full, go on next turn of the loop. */
static bool ship(struct turn *t)
{
	struct router *r = t->d->r;

	for (; t->shipped < t->n_ship; t->shipped++) {
		struct shipment *s = &t->ship[t->shipped];
		struct command_send c = {
			.id = str_of(s->c->execution_id), .module = s->c->route->module, .body = s->body,
			.trace_id = str_of(s->w->trace_id), .community_id = s->w->community_id,
			.sent_at_ms = t->sent_at_ms, .timeout_ms = s->c->route->timeout_ms,
		};
		int e;

		if (route_is_http(s->c->route)) {       /* the row is called, the event is done */
			call_start(r->calls, c.id, s->w->ev.received_at_ms, c.community_id, s->c->route->location_url);
			work_acknowledged(s->w, NULL);
			continue;
		}
		e = command_send(r, &c, work_acknowledged, s->w);
		if (e != 0 && !command_never(e))
			return false;
		if (e != 0) {           /* a module without a topic must not stop all the others */
			waiting_unreachable(r->waiting, s->c->execution_id, s->w->ev.received_at_ms);
			work_acknowledged(s->w, NULL);
		}
	}
	for (; t->acted < t->n_act; t->acted++) {
		struct work *w = t->act[t->acted];

		if (!rules_act(w) || !notice_work(w))
			return false;
		work_acknowledged(w, NULL);     /* our own hold */
	}
	return true;
}

/* In the order the turns were begun: commands of a community must not overtake each other. */
static void ship_ready(struct dispatch *d)
{
	struct list *n;

	while ((n = list_first(&d->active)) != NULL) {
		struct turn *t = CONTAINER_OF(n, struct turn, node);

		if (!t->committed || !ship(t))
			return;
		turn_end(t);
	}
}

static void committed(void *arg, const struct db_result *res, const struct err *err)
{
	struct turn *t = arg;
	struct dispatch *d = t->d;
	bool data;

	waiting_end(d->r->waiting, t->asked, t->n_asked, err == NULL);
	if (err == NULL) {
		struct list *n;

		d->failures = 0;
		positions_committed(d->r->positions, t->started_us, db_lsn(res));
		metric_observe_us(&seconds, 0, clock_exact_us() - t->started_us);
		t->committed = true;
		t->sent_at_ms = clock_unix_ms();
		while ((n = list_pop(&t->works)) != NULL) {
			struct work *w = CONTAINER_OF(n, struct work, node);

			for (size_t i = 0; i < w->n_cand; i++)
				if (w->cand[i].verdict == VERDICT_PENDING)
					sweeper_watch(d->r->sweeper, w->ev.received_at_ms,
					              route_row_timeout_ms(d->r, w->cand[i].route));
			if (w->effects) {
				w->unacked++;
				t->act[t->n_act++] = w;
			} else if (w->unacked == 0)
				intake_done(w);         /* nothing runs; the decision is kept */
		}
		ship_ready(d);
		fill(d);
		return;
	}
	data = err_is_data(err);
	if (data && t->n_works == 1) {
		struct work *w = CONTAINER_OF(list_pop(&t->works), struct work, node);

		log_warn(NULL, "event_unstorable", "to the dead-letter topic: %s", err->text);
		w->unacked = 0;
		intake_reject(w, "database", err);
	} else {
		(void)partition_refused(d->r->partitions, err);
		metric_add(&repeated, 0, 1);
		log_rarely(5000, L_WARN, NULL, "batch_failed", "%zu events will be tried again%s: %s",
		           t->n_works, data ? " one by one" : "", err->text);
		unstage(t, data);
		if (!data && !d->resting) {
			d->resting = true;
			timer_start(d->r->s, &d->retry, clock_backoff_ms(d->failures++, 50, 2000), rested, d);
		}
	}
	turn_end(t);
	ship_ready(d);
	fill(d);
}

/* MORE: columns in which rows of a plain batch are NULL. */
#define EXECUTIONS(MORE_ARRAYS, MORE, SENT, SENT_AT) \
	"WITH x AS (SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::integer[], $5::integer[], " \
	"$6::text[], $7::text[], $8::text[], $9::jsonb[], $10::text[], $11::jsonb[], $12::uuid[], $13::text[], " \
	"$14::text[], $15::text[], $16::text[], $17::integer[], $18::bigint[], $19::text[]" MORE_ARRAYS ") " \
	"AS t(execution_id, created_at, command_id, entity_id, community_id, user_id, user_name, message_content, " \
	"parameters, location_url, request_payload, session_id, event_id, trace_id, module_name, reply_ref, " \
	"timeout_ms, permission_id, trigger" MORE ")), " \
	"made AS (INSERT INTO command_executions (execution_id, created_at, command_id, entity_id, community_id, " \
	"user_id, user_name, message_content, parameters, location_url, request_payload, session_id, event_id, " \
	"trace_id, module_name, reply_ref, timeout_ms, trigger" MORE ", " SENT ") SELECT execution_id, created_at, command_id, " \
	"entity_id, community_id, user_id, user_name, message_content, parameters, location_url, request_payload, " \
	"session_id, event_id, trace_id, module_name, reply_ref, timeout_ms, trigger" MORE ", " SENT_AT " FROM x " \
	"ON CONFLICT (execution_id, created_at) DO NOTHING RETURNING execution_id), " \
	SESSIONS_MADE("x") \
	/* the rows that are new, each with its permission: grouped, because a join of two batches is \
	 * one of all rows with all rows */ \
	"used AS (SELECT permission_id, count(*) AS n FROM (SELECT max(permission_id) AS permission_id FROM " \
	"(SELECT execution_id, NULL::bigint AS permission_id, true AS new FROM made UNION ALL " \
	"SELECT execution_id, permission_id, false FROM x) both_ GROUP BY execution_id HAVING bool_or(new)) new_ " \
	"GROUP BY 1), " \
	/* in id order, so that two routers cannot wait for each other */ \
	"held AS (SELECT p.id, used.n FROM command_permissions p JOIN used ON p.id = used.permission_id " \
	"ORDER BY p.id FOR UPDATE OF p) " \
	"UPDATE command_permissions p SET usage_count = p.usage_count + held.n, last_used = now() " \
	"FROM held WHERE p.id = held.id"

static const char execution_sql[] = EXECUTIONS("", "", "sent_at", "now()");
static const char waiting_sql[] = EXECUTIONS(", $20::text[], $21::uuid[], $22::text[]", ", waits, next_id, next_module",
                                             "sent_at, queued_at", "CASE WHEN waits IS NULL THEN now() END, "
                                             "CASE WHEN waits = 'turn' THEN now() END");
/* Delivered again after a crash between commit and sending: what would have gone then waits now. */
static const char again_sql[] =
	"UPDATE command_executions e SET waits = 'turn', queued_at = now(), sent_at = NULL, lease_until = NULL "
	"FROM unnest($1::uuid[], $2::timestamptz[]) AS x(execution_id, created_at) "
	"WHERE e.execution_id = x.execution_id AND e.created_at = x.created_at AND e.status = 'pending' AND e.waits IS NULL";

/* Executions among the first max staged events; at least one, so that there is an array. */
static size_t pending_rows(const struct dispatch *d, size_t max)
{
	size_t count = 1, seen = 0;

	LIST_EACH(pos, tmp, &d->staged) {
		const struct work *w = CONTAINER_OF(pos, struct work, node);

		if (seen++ == max)
			break;
		count += w->n_cand;
	}
	return count;
}

/* Takes staged events into a free turn and sends it to the database. */
static bool turn_begin(struct dispatch *d, struct turn *t)
{
	struct db_param param[EXECUTION_COLUMNS];
	struct columns made;
	struct chain chain;
	struct decisions *decided;
	struct db_tx *tx;
	size_t max = (size_t)d->r->settings->batch_rows, n_rows;
	struct list *n;
	int r = 0;

	tx = db_tx_begin(d->r->db, 0);
	if (tx == NULL)
		return false;
	if (max > d->n_staged)
		max = d->n_staged;
	t->busy = true;
	list_add_tail(&d->active, &t->node);
	t->started_us = clock_exact_us();
	n_rows = pending_rows(d, max);
	t->ship = arena_alloc(t->mem, n_rows * sizeof t->ship[0]);
	t->act = arena_alloc(t->mem, max * sizeof(struct work *));
	t->asked = arena_alloc(t->mem, n_rows * sizeof t->asked[0]);
	columns_init(&t->turns, t->mem, 2, n_rows);
	columns_init(&made, t->mem, EXECUTION_COLUMNS, n_rows);
	decided = decisions_new(t->mem, max);
	while (t->n_works < max && arena_used(t->mem) < TURN_BYTES && (n = list_first(&d->staged)) != NULL) {
		struct work *w = CONTAINER_OF(n, struct work, node);

		if (w->alone && t->n_works > 0)
			break;
		list_del(n);
		d->n_staged--;
		if (bus_msg_void(w->m)) {
			intake_done(w);         /* its new owner does it */
			continue;
		}
		if (!partition_ready(d->r->partitions, w->m->at.partition)) {
			partition_park(d->r->partitions, w);
			continue;
		}
		list_add_tail(&t->works, n);
		t->n_works++;
		w->unacked = 0;
		chain = (struct chain){ 0 };
		for (size_t i = 0; i < w->n_cand; i++)
			if (w->cand[i].verdict == VERDICT_PENDING)
				execution_row(t, &made, w, &w->cand[i], &chain);
		if (decision_wanted(w))
			decision_add(decided, w);
		if (w->alone)
			break;
	}
	metric_set(&staged_now, 0, (int64_t)d->n_staged);
	metric_observe(&rows, 0, (int64_t)t->n_works);
	if (t->n_works == 0) {
		db_tx_abort(tx);
		turn_end(t);
		return false;
	}
	if (made.n > 0) {
		bool wait = t->turns.n + t->n_links > 0;

		columns_params(&made, param);
		r = db_tx_send(tx, NULL, NULL, wait ? waiting_sql : execution_sql, param, wait ? made.cols : COLUMN_WAITS);
	}
	if (r == 0 && t->turns.n > 0) {
		columns_params(&t->turns, param);
		r = db_tx_send(tx, NULL, NULL, again_sql, param, 2);
	}
	if (r == 0)
		r = decisions_send(decided, tx);
	if (r == 0)
		r = limits_write(d->r->limits, tx, &t->works, t->mem);
	if (r == 0)
		r = rules_hooks_write(d->r->hooks, tx, &t->works, t->mem);
	if (r == 0)
		r = partition_guard(d->r->partitions, tx, &t->works, t->mem);
	if (r != 0) {
		/* Text was checked at the edge, sizes are bounded: only a bug gets here. */
		struct err err = { 0 };

		db_tx_abort(tx);
		(void)!err_set(&err, r, "a batch of %zu events could not be encoded", t->n_works);
		memcpy(err.sqlstate, "22000", 6);
		committed(t, NULL, &err);
		return false;
	}
	db_tx_commit(tx, committed, t);
	return true;
}

static void fill(struct dispatch *d)
{
	while (d->n_staged > 0 && !d->resting) {
		struct turn *free_turn = NULL;

		for (int i = 0; i < d->n_turns && free_turn == NULL; i++)
			if (!d->turn[i].busy)
				free_turn = &d->turn[i];
		if (free_turn == NULL || !turn_begin(d, free_turn))
			return;
	}
}

static int by_priority(const void *a, const void *b)
{
	const struct route *x = ((const struct candidate *)a)->route, *y = ((const struct candidate *)b)->route;

	return x->priority != y->priority ? (x->priority > y->priority) - (x->priority < y->priority)
	                                  : (x->id > y->id) - (x->id < y->id);
}

static void loop_turn(void *arg)
{
	struct dispatch *d = arg;

	ship_ready(d);
	fill(d);
}

void dispatch_add(struct dispatch *d, struct work *w)
{
	if (w->n_cand > 1)
		qsort(w->cand, w->n_cand, sizeof w->cand[0], by_priority);
	list_add_tail(&d->staged, &w->node);
	d->n_staged++;
}

struct dispatch *dispatch_open(struct router *r)
{
	struct dispatch *d = XNEW(struct dispatch);

	d->r = r;
	list_init(&d->staged);
	list_init(&d->active);
	d->n_turns = (int)r->settings->batches_in_flight;
	for (int i = 0; i < d->n_turns; i++) {
		d->turn[i].d = d;
		d->turn[i].mem = arena_new(256 * 1024, 64 << 20);
		list_init(&d->turn[i].works);
		list_init(&d->turn[i].node);
	}
	service_on_turn(r->s, loop_turn, d);
	return d;
}

/* After db_close() and bus_close(). */
void dispatch_close(struct dispatch *d)
{
	if (d == NULL)
		return;
	service_off_turn(d->r->s, loop_turn, d);
	timer_stop(&d->retry);
	for (int i = 0; i < d->n_turns; i++)
		arena_free(d->turn[i].mem);
	free(d);
}

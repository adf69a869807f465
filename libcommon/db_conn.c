/* db_conn.c - one connection of a pool: what was sent, and whose the next result is.
 *
 * Every result belongs to the first call of the sent list.  A call passes through its result, the
 * NULL that ends it and - where a Sync follows it - the answer to that; only then is a statement
 * that stands alone real, and only then is its callback told. */
#include "lsn.h"
#include "db_private.h"

#include "log.h"

enum conn_stmt { STMT_UNKNOWN, STMT_SENT, STMT_READY, STMT_REFUSED, STMT_STALE };

static const uint8_t may[CONN_STATES] = {
	[CONN_DOWN]     = 1u << CONN_FREE,
	[CONN_FREE]     = 1u << CONN_HELD | 1u << CONN_DRAINING | 1u << CONN_DOWN,
	[CONN_HELD]     = 1u << CONN_FREE | 1u << CONN_DOWN,
	[CONN_DRAINING] = 1u << CONN_DOWN,
};

void conn_move(struct db_conn *c, enum conn_state to)
{
	enum conn_state from = c->state;
	struct db_pool *p = c->pool;

	ASSERT(may[from] & 1u << to);
	/* The connection used last is used next: its backend's caches are warm. */
	list_del(&c->node);
	if (to == CONN_FREE)
		list_add_head(&p->in[to], &c->node);
	else
		list_add_tail(&p->in[to], &c->node);
	c->state = to;
	metric_set(&db_connections, (unsigned)p->role * CONN_STATES + from, --p->count[from]);
	metric_set(&db_connections, (unsigned)p->role * CONN_STATES + to, ++p->count[to]);
	if (from == CONN_DOWN || to == CONN_DOWN)
		db_note_up(p->db);
}

/* -- sending ------------------------------------------------------------------------------- */

static void due(void *arg);

/* Armed at most once per deadline, not per call: due() looks at all of them. */
void conn_watch(struct db_conn *c, int64_t due_mono_ms)
{
	if (c->due_mono_ms != 0 && c->due_mono_ms <= due_mono_ms)
		return;
	c->due_mono_ms = due_mono_ms;
	timer_start(c->pool->db->service, &c->due, due_mono_ms - clock_mono_ms(), due, c);
}

static int put(struct db_conn *c, const struct db_call *call)
{
	static const struct db_wire none = { 0 };
	const struct db_wire *w = call->wire != NULL ? call->wire : &none;

	char text[32];

	switch (call->kind) {
	case CALL_DEALLOCATE:
		snprintf(text, sizeof(text), "DEALLOCATE %s", call->stmt->name);
		return PQsendQueryParams(c->link.pg, text, 0, NULL, NULL, NULL, NULL, 0);
	case CALL_PREPARE:
		return PQsendPrepare(c->link.pg, call->stmt->name, call->stmt->sql, 0, NULL);
	case CALL_DESCRIBE:
		return PQsendDescribePrepared(c->link.pg, call->stmt->name);
	case CALL_REPLAN:
		return PQsendQueryParams(c->link.pg, "DISCARD PLANS", 0, NULL, NULL, NULL, NULL, 0);
	case CALL_STMT:
	case CALL_BEGIN:
	case CALL_COMMIT:
	case CALL_LSN:
	case CALL_ROLLBACK:
	case CALL_TIMEOUT:
	case CALL_PROBE:
		break;
	}
	return PQsendQueryPrepared(c->link.pg, call->stmt->name, w->n, w->value, w->length, w->format, 0);
}

static int put_sync(struct db_conn *c)
{
#ifdef LIBPQ_HAS_SEND_PIPELINE_SYNC
	return PQsendPipelineSync(c->link.pg);
#else
	return PQpipelineSync(c->link.pg);      /* one write(2) each */
#endif
}

bool conn_send(struct db_conn *c, struct db_call *call, bool sync)
{
	struct err err;

	if (put(c, call) != 1) {
		err_of_conn(&err, c->link.pg);
		link_down(&c->link, &err);
		return false;
	}
	call->sync = sync;
	call->stage = STAGE_RESULT;
	list_add_tail(&c->sent, &call->node);
	c->in_flight++;
	if (call->wire != NULL)
		c->bytes += call->wire->bytes;
	metric_add(&db_in_flight, c->pool->role, 1);
	conn_watch(c, call->due_mono_ms + DB_GRACE_MS);
	c->unflushed = true;
	if (sync && put_sync(c) != 1) {
		err_of_conn(&err, c->link.pg);
		link_down(&c->link, &err);      /* takes the call along */
		return true;
	}
	return true;
}

/* Calls of our own get the deadline of the one they serve. */
static bool send_own(struct db_conn *c, int64_t due_mono_ms, enum call_kind kind, struct db_stmt *st,
                     struct db_wire *wire, bool sync)
{
	struct db_call *own = call_new(c->pool->db, kind);

	own->stmt = st;
	own->wire = wire;
	own->due_mono_ms = due_mono_ms;
	if (conn_send(c, own, sync))
		return c->link.state == LINK_UP;
	call_free(own);
	return false;
}

/* A plan is made for the tables as they are.  One of the minute in which a day's partition was empty
 * reads all of it when it is full, until autovacuum comes by; so no plan gets old. */
bool conn_replan(struct db_conn *c, int64_t due_mono_ms)
{
	int64_t now = clock_mono_ms();

	if (now - c->planned_mono_ms < DB_REPLAN_MS)
		return true;
	c->planned_mono_ms = now;
	return send_own(c, due_mono_ms, CALL_REPLAN, NULL, NULL, true);
}

/* In groups of its own, so that nobody else's failure can skip it; no round trip is added. */
bool conn_prepare(struct db_conn *c, struct db_stmt *st, int64_t due_mono_ms)
{
	uint8_t *state = &c->prepared[st->index], was = *state;

	if (was == STMT_SENT || was == STMT_READY)
		return true;
	*state = STMT_SENT;
	if (was == STMT_STALE && !send_own(c, due_mono_ms, CALL_DEALLOCATE, st, NULL, true))
		return false;
	if (!send_own(c, due_mono_ms, CALL_PREPARE, st, NULL, st->described))
		return false;
	return st->described || send_own(c, due_mono_ms, CALL_DESCRIBE, st, NULL, true);
}

bool conn_send_timeout(struct db_conn *c, const struct db_call *call)
{
	struct db_stmt *st = c->pool->db->set_timeout;
	struct db_param ms = DB_INT(call->timeout_ms);
	struct db_wire *w;

	if (wire_new(&w, st, &ms, 1) != 0)
		return false;
	return send_own(c, call->due_mono_ms, CALL_TIMEOUT, st, w, false);
}

bool conn_send_single(struct db_conn *c, struct db_call *call)
{
	struct db *db = c->pool->db;
	int64_t due = call->due_mono_ms;
	bool probe = c->in_recovery && call->after_lsn > c->replayed;
	bool timeout = call->timeout_ms != db->timeout_ms;

	if (!conn_replan(c, due) || !conn_prepare(c, call->stmt, due) || (probe && !conn_prepare(c, db->probe, due)) ||
	    (timeout && !conn_prepare(c, db->set_timeout, due)))
		return false;
	if (probe && !send_own(c, due, CALL_PROBE, db->probe, NULL, false))
		return false;
	if (timeout && !conn_send_timeout(c, call))
		return false;
	return conn_send(c, call, true);
}

/* -- receiving ----------------------------------------------------------------------------- */

static void probed(struct db_conn *c, const PGresult *res)
{
	uint64_t lsn = 0;

	if (PQntuples(res) != 1 || PQnfields(res) != 1)
		return;
	if (PQgetisnull(res, 0, 0)) {
		c->in_recovery = false;         /* promoted meanwhile */
		return;
	}
	(void)!lsn_parse(str_of(PQgetvalue(res, 0, 0)), &lsn);
	if (lsn > c->replayed)
		c->replayed = lsn;
	c->probed_mono_ms = clock_mono_ms();
}

/* The statement's name or plan is of no use here any more, and it has done nothing. */
static bool plan_is_stale(const struct err *err)
{
	return strcmp(err->sqlstate, "26000") == 0 || strcmp(err->sqlstate, "0A000") == 0;
}

static void refused(struct db_conn *c, struct db_call *call, struct err *err)
{
	uint8_t *state = call->stmt != NULL ? &c->prepared[call->stmt->index] : NULL;

	if (state == NULL)
		return;
	if (call->kind == CALL_PREPARE) {
		*state = STMT_REFUSED;
		call->stmt->why = *err;
	} else if (*state == STMT_REFUSED && (strcmp(err->sqlstate, "26000") == 0 ||
	                                      strcmp(err->sqlstate, "25P02") == 0)) {
		*err = call->stmt->why;         /* what was wrong with it in the first place */
	} else if (plan_is_stale(err) && *state == STMT_READY) {
		*state = strcmp(err->sqlstate, "0A000") == 0 ? STMT_STALE : STMT_UNKNOWN;
	} else if (strcmp(err->sqlstate, "22P03") == 0 || strcmp(err->sqlstate, "42804") == 0) {
		stmt_forget_types(call->stmt);  /* a column changed its type under a binary array */
		*state = STMT_STALE;
	}
}

static void took(struct db_conn *c, struct db_call *call, const PGresult *res)
{
	switch (call->kind) {
	case CALL_PREPARE:
		c->prepared[call->stmt->index] = STMT_READY;
		return;
	case CALL_DESCRIBE:
		stmt_described(call->stmt, res);
		return;
	case CALL_PROBE:
		probed(c, res);
		return;
	case CALL_STMT:
	case CALL_BEGIN:
	case CALL_COMMIT:
	case CALL_LSN:
		if (call->tx != NULL)
			tx_result(call->tx, call, res);
		else
			call->behind = c->in_recovery && call->after_lsn > c->replayed;
		return;
	case CALL_ROLLBACK:
	case CALL_DEALLOCATE:
	case CALL_REPLAN:
	case CALL_TIMEOUT:
		return;
	}
}

/* Forgets the answer and goes to the front of the queue. */
static void ask_again(struct db_pool *pool, struct db_call *call)
{
	PQclear(call->res);
	free(call->err);
	call->res = NULL;
	call->err = NULL;
	call->behind = false;
	pool_enqueue(pool, call, true);
}

static bool is_state(const struct err *err, const char *sqlstate)
{
	return err != NULL && strcmp(err->sqlstate, sqlstate) == 0;
}

static void finish_single(struct db_conn *c, struct db_call *call)
{
	struct db *db = c->pool->db;
	bool again = call->done != NULL && call->repeats < DB_REPEATS;

	if (is_state(call->err, "25006") && c->pool->role == DB_ROLE_WRITE)
		c->drop = true;
	if (call->behind && call->err == NULL && call->done != NULL) {
		metric_add(&db_standby_reads, STANDBY_BEHIND, 1);
		ask_again(&db->write, call);    /* the primary has replayed all */
	} else if (again && c->in_recovery && is_state(call->err, "40001")) {
		call->repeats++;                /* in the way of replay */
		metric_add(&db_standby_reads, STANDBY_BEHIND, 1);
		ask_again(&db->write, call);
	} else if (again && call->err != NULL && (plan_is_stale(call->err) || (c->drop && is_state(call->err, "25006")))) {
		call->repeats++;
		ask_again(c->pool, call);
	} else {
		if (c->in_recovery && call->done != NULL)
			metric_add(&db_standby_reads, STANDBY_FRESH, 1);
		call_done(db, call);
		call_free(call);
	}
}

static struct db_call *sent_pop(struct db_conn *c)
{
	struct db_call *call = CONTAINER_OF(list_pop(&c->sent), struct db_call, node);

	c->in_flight--;
	if (call->wire != NULL)
		c->bytes -= call->wire->bytes;
	metric_add(&db_in_flight, c->pool->role, (uint64_t)-1);
	return call;
}

static void ended(struct db_conn *c)
{
	struct db_call *call = sent_pop(c);
	struct db_tx *tx = call->sync ? call->tx : NULL;

	if (call->kind == CALL_STMT && call->tx == NULL)
		finish_single(c, call);
	else
		call_free(call);
	if (tx != NULL)
		tx_group_done(tx);
}

static void drained(struct db_conn *c)
{
	if (c->drop && c->state == CONN_FREE)
		conn_move(c, CONN_DRAINING);
	if (c->state != CONN_DRAINING || !list_empty(&c->sent))
		return;
	timer_stop(&c->due);
	timer_stop(&c->recycle);
	conn_move(c, CONN_DOWN);
	link_recycle(&c->link);
}

/* False: stop looking, the connection is gone. */
static bool take(struct db_conn *c, struct db_call *call, PGresult *res)
{
	unsigned life = c->life;
	struct err err = { 0 };

	if (res == NULL) {
		if (call->stage == STAGE_END) {
			call->stage = STAGE_SYNC;
			if (!call->sync)
				ended(c);
		}
		return c->life == life;
	}
	switch (PQresultStatus(res)) {
	case PGRES_COMMAND_OK:
	case PGRES_TUPLES_OK:
		call->stage = STAGE_END;
		call->res = res;                /* its own from here */
		took(c, call, res);
		return c->life == life;
	case PGRES_PIPELINE_SYNC:
		PQclear(res);
		c->group_err.code = 0;
		c->link.tries = 0;
		ended(c);
		return c->life == life;
	case PGRES_PIPELINE_ABORTED:
		err = c->group_err;
		if (err.code == 0)
			err_set(&err, -ECANCELED, "skipped after an earlier failure");
		call->stage = STAGE_END;
		call_fail(call, &err);
		if (call->kind == CALL_PREPARE)
			c->prepared[call->stmt->index] = STMT_UNKNOWN;
		if (call->tx != NULL)
			tx_result(call->tx, call, NULL);
		break;
	case PGRES_FATAL_ERROR:
	case PGRES_NONFATAL_ERROR:
	case PGRES_BAD_RESPONSE:
	case PGRES_EMPTY_QUERY:
	case PGRES_COPY_IN:
	case PGRES_COPY_OUT:
	case PGRES_COPY_BOTH:
	case PGRES_SINGLE_TUPLE:
#ifdef LIBPQ_HAS_CHUNK_MODE              /* libpq 17 */
	case PGRES_TUPLES_CHUNK:
#endif
	default:                                /* libpq 17 knows more */
		err_of_result(&err, res);
		if (err.sqlstate[0] == '\0' && PQstatus(c->link.pg) == CONNECTION_BAD) {
			PQclear(res);
			link_down(&c->link, &err);
			return false;
		}
		refused(c, call, &err);
		if (c->group_err.code == 0)
			c->group_err = err;
		if (call->stage == STAGE_RESULT)        /* else the commit at the Sync failed */
			call->stage = STAGE_END;
		call_fail(call, &err);
		if (call->tx != NULL)
			tx_result(call->tx, call, NULL);
		break;
	}
	PQclear(res);
	return c->life == life;
}

static void input(struct db_link *l)
{
	struct db_conn *c = CONTAINER_OF(l, struct db_conn, link);
	bool eof = PQconsumeInput(l->pg) != 1;
	unsigned life = c->life, nothing = 0;
	struct err err;

	while (!list_empty(&c->sent) && !PQisBusy(l->pg)) {
		PGresult *res = PQgetResult(l->pg);

		nothing = res == NULL ? nothing + 1 : 0;
		if (nothing > 2)                /* libpq has lost the thread: it returns NULL for ever */
			break;
		if (!take(c, CONTAINER_OF(c->sent.next, struct db_call, node), res))
			return;
		if (c->life != life)
			return;
	}
	if (list_empty(&c->sent) && !eof)
		(void)PQisBusy(l->pg);          /* parses what comes unasked: notices, parameters */
	if (eof || nothing > 2 || PQstatus(l->pg) == CONNECTION_BAD) {
		err_of_conn(&err, l->pg);
		link_down(l, &err);
		return;
	}
	drained(c);
	db_schedule(c->pool->db);
}

/* -- coming and going ---------------------------------------------------------------------- */

static void recycle(void *arg)
{
	struct db_conn *c = arg;

	if (c->state == CONN_FREE && (c->pool->n == 1 || c->pool->count[CONN_FREE] > 1)) {
		conn_move(c, CONN_DRAINING);
		drained(c);
	} else if (c->state != CONN_DRAINING) {
		timer_start(c->pool->db->service, &c->recycle, DB_RECYCLE_MS / 100, recycle, c);
	}
}

static void up(struct db_link *l)
{
	struct db_conn *c = CONTAINER_OF(l, struct db_conn, link);
	const char *standby = PQparameterStatus(l->pg, "in_hot_standby");

	c->in_recovery = standby != NULL && strcmp(standby, "on") == 0;
	c->replayed = 0;
	c->probed_mono_ms = 0;
	c->planned_mono_ms = clock_mono_ms();
	c->drop = false;
	c->group_err.code = 0;
	memset(c->prepared, 0, sizeof(c->prepared));
	conn_move(c, CONN_FREE);
	if (c->pool->role == DB_ROLE_READ)
		timer_start(c->pool->db->service, &c->recycle,
		            DB_RECYCLE_MS / 2 + arc4random_uniform(DB_RECYCLE_MS / 2), recycle, c);
	db_schedule(c->pool->db);
}

/* A read that got no answer, or only "I am going down", is asked again, elsewhere; of the others
 * nobody knows. */
static bool may_ask_again(const struct db_conn *c, const struct db_call *call)
{
	return call->kind == CALL_STMT && call->tx == NULL && call->to == DB_READ &&
	       (call->err == NULL || strncmp(call->err->sqlstate, "57P", 3) == 0) &&
	       call->repeats < DB_REPEATS && call->done != NULL && !c->pool->db->closed &&
	       call->due_mono_ms > clock_mono_ms();
}

static const struct db_call *first_stmt(const struct list *sent)
{
	LIST_EACH(n, next, sent) {
		const struct db_call *call = CONTAINER_OF(n, struct db_call, node);

		if (call->kind == CALL_STMT)
			return call;
	}
	return NULL;
}

static void down(struct db_link *l, const struct err *err)
{
	struct db_conn *c = CONTAINER_OF(l, struct db_conn, link);
	struct err unknown = err_cannot_know(err);
	struct db *db = c->pool->db;
	struct db_tx *tx = c->tx;
	const struct db_call *first;
	struct list lost;

	c->life++;
	timer_stop(&c->due);
	timer_stop(&c->recycle);
	c->due_mono_ms = 0;
	c->tx = NULL;
	if (c->state != CONN_DOWN)
		conn_move(c, CONN_DOWN);
	metric_add(&db_in_flight, c->pool->role, (uint64_t)-(int64_t)c->in_flight);
	c->in_flight = 0;
	c->bytes = 0;
	c->unflushed = false;
	list_init(&lost);
	while (!list_empty(&c->sent))
		list_move(&lost, c->sent.next);
	first = first_stmt(&lost);
	for (struct list *n = lost.prev, *prev = n->prev; n != &lost; n = prev, prev = n->prev) {
		struct db_call *call = CONTAINER_OF(n, struct db_call, node);

		if (may_ask_again(c, call)) {
			/* What was being executed may be what broke it: that only so many times. */
			if (call == first && call->err == NULL)
				call->repeats++;
			list_del(n);
			ask_again(c->pool, call);
		}
	}
	while (!list_empty(&lost)) {
		struct db_call *call = CONTAINER_OF(list_pop(&lost), struct db_call, node);

		if (call->tx != NULL && !db->closed) {
			call_fail(call, call->tx->commit_sent ? &unknown : err);
			tx_result(call->tx, call, NULL);
		} else if (call->done != NULL) {
			call_fail(call, call->to == DB_READ ? err : &unknown);
			call_done(db, call);
		}
		call_free(call);
	}
	if (tx != NULL && !db->closed)          /* db_close() ends them all */
		tx_lost(tx, err);
	db_schedule(db);
}

/* The server's own time-outs have passed and it is still mute; or somebody waits in the pipeline
 * behind a statement that may take longer. */
static void due(void *arg)
{
	struct db_conn *c = arg;
	int64_t late = clock_mono_ms() - DB_GRACE_MS, next = INT64_MAX;
	unsigned life = c->life;
	struct db_call *first;
	struct err err, unknown;

	c->due_mono_ms = 0;
	err_set(&err, -ETIMEDOUT, "no answer from PostgreSQL in time");
	unknown = err_cannot_know(&err);
	if (!list_empty(&c->sent)) {
		first = CONTAINER_OF(c->sent.next, struct db_call, node);
		if (first->due_mono_ms <= late) {
			link_down(&c->link, &err);
			return;
		}
	}
	LIST_EACH(n, after, &c->sent) {
		struct db_call *call = CONTAINER_OF(n, struct db_call, node);

		if (call->due_mono_ms <= late && call->tx == NULL && call->done != NULL) {
			call_fail(call, call->to == DB_READ ? &err : &unknown);
			call_done(c->pool->db, call);
			if (c->life != life)
				return;
		} else if (call->due_mono_ms < next) {
			next = call->due_mono_ms;
		}
	}
	if (c->tx != NULL && !c->tx->in_group) {
		if (c->tx->due_mono_ms <= late) {
			err_set(&err, -ETIMEDOUT, "transaction was not ended in time");
			tx_fail(c->tx, &err);
		} else if (c->tx->due_mono_ms < next) {
			next = c->tx->due_mono_ms;
		}
	}
	if (next != INT64_MAX)
		conn_watch(c, next + DB_GRACE_MS);
}

void conn_release(struct db_conn *c)
{
	c->tx = NULL;
	conn_move(c, CONN_FREE);
	drained(c);
	db_schedule(c->pool->db);
}

void conn_init(struct db_conn *c, struct db_pool *pool)
{
	c->pool = pool;
	list_init(&c->node);
	list_init(&c->sent);
	link_init(&c->link, pool->db, &pool->url, pool->role);
	c->link.pipeline = true;
	c->link.up = up;
	c->link.input = input;
	c->link.down = down;
	list_add_tail(&pool->in[CONN_DOWN], &c->node);
	metric_set(&db_connections, (unsigned)pool->role * CONN_STATES + CONN_DOWN, ++pool->count[CONN_DOWN]);
	link_start(&c->link);
}

void conn_close(struct db_conn *c, const struct err *err)
{
	link_stop(&c->link);
	down(&c->link, err);
	list_del(&c->node);
	metric_set(&db_connections, (unsigned)c->pool->role * CONN_STATES + CONN_DOWN, --c->pool->count[CONN_DOWN]);
}

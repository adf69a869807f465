/* db_pool.c - who gets which connection: first come, first served, the least busy first.
 *
 * A statement may share a connection's pipeline; a transaction takes the connection out of the
 * free list until it ends, and may take it while earlier statements are still on their way.
 * Reads prefer a standby that is known, or found out in the same flush, to have replayed what
 * the reader must see; else they go to the primary at once. */
#include "db_private.h"

static bool has_room(const struct db_conn *c)
{
	return c->in_flight == 0 || (c->in_flight < DB_DEPTH && c->bytes < DB_DEPTH_BYTES);
}

/* A statement of 512 rows keeps a connection as busy as many small ones. */
static size_t load(const struct db_conn *c)
{
	return (size_t)c->in_flight + c->bytes / 2048;
}

static struct db_conn *least_busy(struct db_pool *p, bool (*fits)(const struct db_conn *, const struct db_call *),
                                  const struct db_call *call)
{
	struct db_conn *best = NULL;

	LIST_EACH(n, next, &p->in[CONN_FREE]) {
		struct db_conn *c = CONTAINER_OF(n, struct db_conn, node);

		if (has_room(c) && (best == NULL || load(c) < load(best)) && (fits == NULL || fits(c, call)))
			best = c;
	}
	return best;
}

static bool is_fresh(const struct db_conn *c, const struct db_call *call)
{
	return !c->in_recovery || c->replayed >= call->after_lsn;
}

static bool may_be_fresh(const struct db_conn *c, const struct db_call *call)
{
	return is_fresh(c, call) || clock_mono_ms() - c->probed_mono_ms >= DB_PROBE_MS;
}

static bool any(struct db_pool *p, bool (*fits)(const struct db_conn *, const struct db_call *),
                const struct db_call *call)
{
	LIST_EACH(n, next, &p->in[CONN_FREE])
		if (fits(CONTAINER_OF(n, struct db_conn, node), call))
			return true;
	return false;
}

static void to_primary(struct db_call *call, enum db_standby_read why)
{
	struct db *db = call->pool->db;

	if (db->has_standby)
		metric_add(&db_standby_reads, why, 1);
	pool_dequeue(call);
	pool_enqueue(&db->write, call, false);
}

static bool pool_works(const struct db_pool *p)
{
	return p->count[CONN_FREE] + p->count[CONN_HELD] > 0;
}

/* NULL: wait, or *moved: it is the other pool's now. */
static struct db_conn *pick(struct db_pool *p, struct db_call *call, bool *moved)
{
	struct db_conn *c;

	if (p->role == DB_ROLE_WRITE || (call->after_lsn == 0 && pool_works(p)))
		return least_busy(p, NULL, call);
	if (!pool_works(p)) {
		*moved = pool_works(&p->db->write);
		if (*moved)
			to_primary(call, STANDBY_DOWN);
		return NULL;
	}
	c = least_busy(p, is_fresh, call);
	if (c == NULL && !any(p, is_fresh, call))
		c = least_busy(p, may_be_fresh, call);
	if (c == NULL && !any(p, may_be_fresh, call)) {
		*moved = true;
		to_primary(call, STANDBY_BEHIND);
	}
	return c;
}

void pool_dispatch(struct db_pool *p)
{
	while (!list_empty(&p->queue)) {
		struct db_call *call = CONTAINER_OF(p->queue.next, struct db_call, node);
		bool moved = false;
		struct db_conn *c = pick(p, call, &moved);

		if (c == NULL) {
			if (moved)
				continue;
			return;
		}
		pool_dequeue(call);
		if (call->kind == CALL_BEGIN)
			tx_got_conn(call->tx, c);
		else if (!conn_send_single(c, call))
			pool_enqueue(p, call, true);
	}
}

void pool_flush(struct db_pool *p)
{
	for (int i = 0; i < p->n; i++) {
		struct db_conn *c = &p->conns[i];

		if (c->unflushed) {
			c->unflushed = false;
			link_flush(&c->link);
		}
	}
}

/* Busy, or not there - then the reason of an attempt to connect is worth more. */
static void say_why(struct db_pool *p, struct err *err)
{
	if (p->count[CONN_DOWN] < p->n)
		err_set(err, -ETIMEDOUT, "no PostgreSQL connection was free in time");
	else
		err_set(err, -ETIMEDOUT, "no PostgreSQL connection: %s", p->conns[0].link.why.text);
}

static void due(void *arg)
{
	struct db_pool *p = arg;
	int64_t now = clock_mono_ms(), next = INT64_MAX;
	struct list late;
	struct err err;

	p->due_mono_ms = 0;
	list_init(&late);
	LIST_EACH(n, after, &p->queue) {
		struct db_call *call = CONTAINER_OF(n, struct db_call, node);

		if (call->due_mono_ms <= now) {
			pool_dequeue(call);
			list_add_tail(&late, &call->node);
		} else if (call->due_mono_ms < next) {
			next = call->due_mono_ms;
		}
	}
	if (next != INT64_MAX) {
		p->due_mono_ms = next;
		timer_start(p->db->service, &p->due, next - now, due, p);
	}
	while (!list_empty(&late)) {
		struct db_call *call = CONTAINER_OF(list_pop(&late), struct db_call, node);

		say_why(p, &err);
		if (call->kind == CALL_BEGIN) {
			tx_fail(call->tx, &err);
			continue;
		}
		call_fail(call, &err);
		call_done(p->db, call);
		call_free(call);
	}
}

void pool_enqueue(struct db_pool *p, struct db_call *call, bool first)
{
	call->pool = p;
	if (first)
		list_add_head(&p->queue, &call->node);
	else
		list_add_tail(&p->queue, &call->node);
	metric_set(&db_queued, p->role, ++p->queued);
	if (p->due_mono_ms == 0 || call->due_mono_ms < p->due_mono_ms) {
		p->due_mono_ms = call->due_mono_ms;
		timer_start(p->db->service, &p->due, call->due_mono_ms - clock_mono_ms(), due, p);
	}
	db_schedule(p->db);
}

void pool_dequeue(struct db_call *call)
{
	list_del(&call->node);
	metric_set(&db_queued, call->pool->role, --call->pool->queued);
}

void pool_open(struct db_pool *p, struct db *db, enum db_role role, int n)
{
	p->db = db;
	p->role = role;
	p->n = n;
	list_init(&p->queue);
	for (int i = 0; i < CONN_STATES; i++)
		list_init(&p->in[i]);
	p->conns = XNEW_N(struct db_conn, (size_t)n);
	for (int i = 0; i < n; i++)
		conn_init(&p->conns[i], p);
}

void pool_close(struct db_pool *p, const struct err *err)
{
	timer_stop(&p->due);
	for (int i = 0; i < p->n; i++)
		conn_close(&p->conns[i], err);
	while (!list_empty(&p->queue)) {
		struct db_call *call = CONTAINER_OF(p->queue.next, struct db_call, node);

		pool_dequeue(call);
		if (call->kind == CALL_BEGIN)
			continue;               /* its transaction's, which ends next */
		call_fail(call, err);
		call_done(p->db, call);
		call_free(call);
	}
}

/* db_tx.c - transactions: groups of statements between BEGIN and COMMIT, one Sync per group.
 *
 * A transaction has at most one group out: whatever is queued meanwhile forms the next.  So a
 * failed BEGIN can never be followed by statements that would commit by themselves, and begin,
 * statements and commit queued in one turn are one group: BEGIN, .., COMMIT, the log position,
 * Sync.  After a failure the server skips the rest of the group; ROLLBACK follows by itself and
 * the connection is free again, before the caller has ended the transaction. */
#include "lsn.h"
#include "db_private.h"

static void dirty(struct db_tx *tx)
{
	list_move(&tx->db->dirty, &tx->dirty);
	db_schedule(tx->db);
}

static void fail_first(struct db_tx *tx, const struct err *err)
{
	if (tx->err.code == 0)
		tx->err = *err;
}

static void tx_free(struct db_tx *tx)
{
	ASSERT(list_empty(&tx->pending) && tx->conn == NULL);
	if (tx->begin != NULL) {
		if (list_linked(&tx->begin->node))
			pool_dequeue(tx->begin);
		call_free(tx->begin);
	}
	tx->begin = NULL;
	tx->state = TX_DEAD;
	list_del(&tx->dirty);
	list_del(&tx->all);
	NOT_A_MORE(tx, TX_MAGIC);
	service_later(tx->db->service, free, tx);       /* a callback may have closed the db under us */
}

static void cancel_pending(struct db_tx *tx)
{
	struct err err;

	err_set(&err, -ECANCELED, tx->aborted ? "transaction aborted" : "an earlier statement failed");
	while (!list_empty(&tx->pending)) {
		struct db_call *call = CONTAINER_OF(list_pop(&tx->pending), struct db_call, node);

		tx->n_pending--;
		call_fail(call, &err);
		call_done(tx->db, call);
		call_free(call);
	}
}

/* The caller's verdict; frees. */
static void end(struct db_tx *tx)
{
	struct db_result res = { .lsn = tx->lsn };
	bool ok = tx->err.code == 0;

	tx->state = TX_DEAD;
	if (!ok && !tx->aborted)
		metric_add(&db_errors, err_kind(&tx->err), 1);
	metric_observe_us(&db_query_us, DB_ROLE_WRITE, clock_exact_us() - tx->since_us);
	list_del(&tx->all);                     /* db_close() does not find it any more */
	if (tx->done != NULL)
		tx->done(tx->arg, ok ? &res : NULL, ok ? NULL : &tx->err);
	tx_free(tx);
}

static struct db_call *own_call(struct db_tx *tx, enum call_kind kind, struct db_stmt *st)
{
	struct db_call *call = call_new(tx->db, kind);

	call->tx = tx;
	call->stmt = st;
	call->to = DB_WRITE;
	call->due_mono_ms = tx->due_mono_ms;
	call->timeout_ms = tx->timeout_ms;
	return call;
}

/* What is open on the server is rolled back behind our back: the next user of the connection
 * comes after it in the pipeline. */
static void over(struct db_tx *tx)
{
	struct db_conn *c = tx->conn;
	struct db_call *call;

	tx->state = TX_OVER;
	tx->conn = NULL;
	if (c != NULL) {
		if (tx->began && PQtransactionStatus(c->link.pg) != PQTRANS_IDLE) {
			call = own_call(tx, CALL_ROLLBACK, tx->db->rollback);
			call->tx = NULL;
			call->due_mono_ms = clock_mono_ms() + tx->db->timeout_ms;       /* ours may be over */
			if (!conn_send(c, call, true))
				call_free(call);
		}
		if (c->tx == tx)
			conn_release(c);
	}
	dirty(tx);
}

void tx_fail(struct db_tx *tx, const struct err *err)
{
	fail_first(tx, err);
	over(tx);
}

/* Everything this group needs is prepared in front of it, outside of it. */
static bool prepare_group(struct db_tx *tx)
{
	struct db *db = tx->db;
	struct db_conn *c = tx->conn;
	int64_t due = tx->due_mono_ms;

	if (!tx->began && (!conn_replan(c, due) || !conn_prepare(c, db->begin, due) || !conn_prepare(c, db->rollback, due) ||
	                   !conn_prepare(c, db->commit, due) || !conn_prepare(c, db->lsn, due) ||
	                   (tx->timeout_ms != db->timeout_ms && !conn_prepare(c, db->set_timeout, due))))
		return false;
	LIST_EACH(n, next, &tx->pending)
		if (!conn_prepare(c, CONTAINER_OF(n, struct db_call, node)->stmt, due))
			return false;
	return true;
}

static bool send_one(struct db_tx *tx, struct db_call *call, bool sync)
{
	struct err err;

	if (conn_send(tx->conn, call, sync))
		return tx->conn != NULL;
	/* The connection went down instead: tx_lost() has run. */
	err_set(&err, -ECONNRESET, "connection lost");
	call_fail(call, &err);
	call_done(tx->db, call);
	call_free(call);
	return false;
}

static void push(struct db_tx *tx)
{
	if (tx->in_group || (list_empty(&tx->pending) && !tx->committing) || !prepare_group(tx))
		return;
	tx->in_group = true;
	if (!tx->began) {
		struct db_call *begin = tx->begin;

		tx->began = true;
		tx->begin = NULL;
		if (!send_one(tx, begin, false))
			return;
		if (tx->timeout_ms != tx->db->timeout_ms && !conn_send_timeout(tx->conn, begin))
			return;
	}
	while (!list_empty(&tx->pending)) {
		struct db_call *call = CONTAINER_OF(list_pop(&tx->pending), struct db_call, node);

		tx->n_pending--;
		if (!send_one(tx, call, list_empty(&tx->pending) && !tx->committing))
			return;
	}
	if (!tx->committing)
		return;
	tx->commit_sent = true;
	if (send_one(tx, own_call(tx, CALL_COMMIT, tx->db->commit), false))
		send_one(tx, own_call(tx, CALL_LSN, tx->db->lsn), true);
}

void tx_got_conn(struct db_tx *tx, struct db_conn *c)
{
	tx->state = TX_OPEN;
	tx->conn = c;
	c->tx = tx;
	conn_move(c, CONN_HELD);
	conn_watch(c, tx->due_mono_ms + DB_GRACE_MS);
	push(tx);
}

void tx_result(struct db_tx *tx, struct db_call *call, const PGresult *res)
{
	struct err *err = call->err, unknown;

	if (call->kind == CALL_COMMIT && err == NULL) {
		tx->committed = strcmp(PQcmdStatus((PGresult *)(uintptr_t)res), "COMMIT") == 0;
	} else if (call->kind == CALL_LSN && err == NULL && PQntuples(res) == 1) {
		if (lsn_parse(str_of(PQgetvalue(res, 0, 0)), &tx->lsn) == 0)
			tx->lsn = lsn_end(tx->lsn);
	} else if (call->kind == CALL_STMT && call->done != NULL) {
		if (tx->aborted || (err != NULL && tx->err.code != 0)) {
			free(call->err);
			call->err = NULL;
			err_set(&unknown, -ECANCELED, tx->aborted ? "transaction aborted" :
			        "an earlier statement failed");
			call_fail(call, &unknown);
			call_done(tx->db, call);
			return;
		}
	}
	if (err != NULL && strcmp(err->sqlstate, "25006") == 0 && tx->conn != NULL)
		tx->conn->drop = true;
	if (err != NULL && tx->err.code == 0 && !tx->committed) {
		/* A name or plan that went stale is prepared again: the same transaction will do. */
		if (strcmp(err->sqlstate, "26000") == 0 || strcmp(err->sqlstate, "0A000") == 0) {
			err->sqlstate[0] = '\0';
			err->code = -EAGAIN;
		}
		tx->err = *err;
	}
	if (call->kind == CALL_STMT)
		call_done(tx->db, call);
}

void tx_group_done(struct db_tx *tx)
{
	struct db_conn *c = tx->conn;
	struct err err;

	tx->in_group = false;
	if (tx->committed) {
		if (tx->lsn == 0)
			err_set(&tx->err, -EINPROGRESS, "committed, but its position in the log is not known");
		tx->conn = NULL;
		conn_release(c);
		end(tx);
	} else if (tx->err.code != 0 || tx->aborted || tx->commit_sent) {
		err_set(&err, -EIO, "transaction ended by the server");
		tx_fail(tx, &err);
	} else {
		push(tx);
	}
}

void tx_lost(struct db_tx *tx, const struct err *err)
{
	struct err unknown = err_cannot_know(err);

	tx->conn = NULL;
	tx->in_group = false;
	if (!tx->began && !tx->db->closed) {
		tx->state = TX_QUEUED;          /* nothing was sent: the next connection will do */
		pool_enqueue(&tx->db->write, tx->begin, true);
		return;
	}
	tx_fail(tx, tx->commit_sent ? &unknown : err);
}

void tx_turn(struct db_tx *tx)
{
	if (tx->state == TX_QUEUED && tx->aborted)
		tx->state = TX_OVER;
	if (tx->state == TX_OPEN && tx->aborted && !tx->in_group)
		over(tx);
	if (tx->state == TX_OPEN)
		push(tx);
	if (tx->state != TX_OVER)
		return;
	cancel_pending(tx);
	if (tx->state == TX_OVER && (tx->aborted || tx->committing))
		end(tx);
}

void tx_close(struct db_tx *tx, const struct err *err)
{
	struct err unknown = err_cannot_know(err);

	fail_first(tx, tx->commit_sent ? &unknown : err);
	tx->state = TX_OVER;
	tx->conn = NULL;
	cancel_pending(tx);
	if (!tx->committing)
		tx->done = NULL;
	end(tx);
}

/* -- the caller's side --------------------------------------------------------------------- */

struct db_tx *db_tx_begin(struct db *db, int timeout_ms)
{
	struct db_tx *tx;

	IS_A(db, DB_MAGIC);
	if (db->closed || db->write.queued >= db->max_queued)
		return NULL;
	tx = XNEW(struct db_tx);
	MAKE_A(tx, TX_MAGIC);
	tx->db = db;
	tx->timeout_ms = timeout_ms > 0 ? timeout_ms : db->timeout_ms;
	tx->due_mono_ms = clock_mono_ms() + tx->timeout_ms;
	tx->since_us = clock_exact_us();
	list_init(&tx->pending);
	list_init(&tx->dirty);
	list_init(&tx->all);
	list_add_tail(&db->txs, &tx->all);
	tx->begin = own_call(tx, CALL_BEGIN, db->begin);
	pool_enqueue(&db->write, tx->begin, false);
	return tx;
}

int db_tx_send(struct db_tx *tx, db_done *done, void *arg, const char *sql,
               const struct db_param *params, size_t n)
{
	struct db_stmt *st;
	struct db_wire *wire;
	struct db_call *call;
	int r;

	IS_A(tx, TX_MAGIC);
	ASSERT(!tx->committing && !tx->aborted);
	if (tx->n_pending >= DB_TX_STATEMENTS)
		return -EAGAIN;
	st = stmt_of(&tx->db->stmts, sql);
	r = wire_new(&wire, st, params, n);
	if (r < 0)
		return r;
	call = own_call(tx, CALL_STMT, st);
	call->wire = wire;
	call->done = done;
	call->arg = arg;
	list_add_tail(&tx->pending, &call->node);
	tx->n_pending++;
	dirty(tx);
	return 0;
}

void db_tx_commit(struct db_tx *tx, db_done *done, void *arg)
{
	IS_A(tx, TX_MAGIC);
	ASSERT(!tx->committing && !tx->aborted);
	tx->committing = true;
	tx->done = done;
	tx->arg = arg;
	dirty(tx);
}

void db_tx_abort(struct db_tx *tx)
{
	IS_A(tx, TX_MAGIC);
	ASSERT(!tx->committing && !tx->aborted);
	tx->aborted = true;
	dirty(tx);
}

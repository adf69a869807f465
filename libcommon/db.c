/* db.c - opening, sending, closing; what is counted. */
#include "db_private.h"

static const char *const pool_names[] = { "write", "read" };
static const char *const state_names[] = {
	"write-down", "write-free", "write-held", "write-draining",
	"read-down", "read-free", "read-held", "read-draining",
};
static const char *const kind_names[] = { "none", "try_again", "bad_input", "denied", "absent", "conflict",
                                          "unknown", "broken" };
static const char *const standby_names[] = { "fresh", "behind", "down" };

#define TABLE(var, kind_, name_, help_, label_, names_) \
	static struct metric_cell var##_cell_[ARRAY_LEN(names_)]; \
	struct metric var = { (name_), (help_), (kind_), (label_), (names_), var##_cell_, ARRAY_LEN(names_), { { 0 } } }

TABLE(db_queued, METRIC_GAUGE, "waddle_db_queued",
      "Statements and transactions that wait for a connection.", "pool", pool_names);
TABLE(db_in_flight, METRIC_GAUGE, "waddle_db_in_flight",
      "Statements sent and not answered.", "pool", pool_names);
TABLE(db_connections, METRIC_GAUGE, "waddle_db_connections",
      "Connections by pool and state.", "state", state_names);
TABLE(db_reconnects, METRIC_COUNTER, "waddle_db_reconnects_total",
      "Connections that were lost or not established.", "pool", pool_names);
TABLE(db_query_us, METRIC_HISTOGRAM, "waddle_db_query_seconds",
      "Time from queueing a statement or transaction to its callback.", "pool", pool_names);
TABLE(db_errors, METRIC_COUNTER, "waddle_db_errors_total",
      "Statements and transactions that failed, by what a caller can do.", "kind", kind_names);
TABLE(db_standby_reads, METRIC_COUNTER, "waddle_db_standby_reads_total",
      "Reads by what the standby could do: answer, or leave it to the primary.", "result", standby_names);

struct metric *const db_metrics[] = { &db_queued, &db_in_flight, &db_connections, &db_reconnects,
	&db_query_us, &db_errors, &db_standby_reads, NULL };

/* -- calls --------------------------------------------------------------------------------- */

struct db_call *call_new(struct db *db, enum call_kind kind)
{
	struct db_call *call = XNEW(struct db_call);

	(void)db;
	call->kind = kind;
	call->to = DB_WRITE;
	call->since_us = clock_exact_us();
	list_init(&call->node);
	return call;
}

void call_free(struct db_call *call)
{
	ASSERT(call->done == NULL);             /* somebody would wait for ever */
	PQclear(call->res);
	free(call->wire);
	free(call->err);
	free(call);
}

void call_fail(struct db_call *call, const struct err *err)
{
	if (call->err != NULL)
		return;
	call->err = XNEW(struct err);
	*call->err = *err;
}

/* The callback may close the db, and with it free the call: nothing of it is touched afterwards. */
void call_done(struct db *db, struct db_call *call)
{
	struct db_result res = { .res = call->res };
	db_done *done = call->done;

	(void)db;
	if (done == NULL)
		return;
	call->done = NULL;
	call->res = NULL;
	metric_observe_us(&db_query_us, call->to == DB_READ ? DB_ROLE_READ : DB_ROLE_WRITE,
	                  clock_exact_us() - call->since_us);
	if (call->err != NULL) {
		struct err err = *call->err;

		metric_add(&db_errors, err_kind(&err), 1);
		done(call->arg, NULL, &err);
	} else {
		done(call->arg, &res, NULL);
	}
	if (!res.kept)
		PQclear(res.res);
}

struct err err_cannot_know(const struct err *err)
{
	struct err unknown;

	err_set(&unknown, -EINPROGRESS, "%s", err->text);
	return unknown;
}

/* -- the end of a turn --------------------------------------------------------------------- */

static void turn(void *arg)
{
	struct db *db = arg;
	struct list now;

	db->scheduled = false;
	if (db->closed)
		return;
	list_init(&now);
	while (!list_empty(&db->dirty))
		list_move(&now, db->dirty.next);
	while (!list_empty(&now)) {
		struct db_tx *tx = CONTAINER_OF(list_pop(&now), struct db_tx, dirty);

		tx_turn(tx);
		if (db->closed)
			return;
	}
	pool_dispatch(&db->read);
	pool_dispatch(&db->write);
	pool_flush(&db->read);
	pool_flush(&db->write);
}

void db_schedule(struct db *db)
{
	if (db->scheduled || db->closed)
		return;
	db->scheduled = true;
	service_later(db->service, turn, db);
}

/* Reads fall back on the primary, so they are served as long as either pool works. */
void db_note_up(struct db *db)
{
	bool write = db->write.n > db->write.count[CONN_DOWN];
	bool read = db->read.n > db->read.count[CONN_DOWN];

	if (db->closed)
		return;
	service_ready(db->service, "postgres-write", write);
	service_ready(db->service, "postgres-read", read || write);
}

enum db_standby db_standby(const struct db *db)
{
	if (!db->has_standby)
		return DB_STANDBY_NONE;
	return db->read.n > db->read.count[CONN_DOWN] ? DB_STANDBY_UP : DB_STANDBY_DOWN;
}

/* -- the caller's side --------------------------------------------------------------------- */

static void nobody_waits(void *arg, const struct db_result *res, const struct err *err)
{
	(void)arg, (void)res, (void)err;
}

int db_send(struct db *db, struct db_opts opts, db_done *done, void *arg, const char *sql,
            const struct db_param *params, size_t n)
{
	struct db_pool *pool;
	struct db_stmt *st;
	struct db_wire *wire;
	struct db_call *call;
	int r;

	IS_A(db, DB_MAGIC);
	pool = opts.to == DB_READ ? &db->read : &db->write;
	if (db->closed || pool->queued >= db->max_queued)
		return -EAGAIN;
	st = stmt_of(&db->stmts, sql);
	r = wire_new(&wire, st, params, n);
	if (r < 0)
		return r;
	call = call_new(db, CALL_STMT);
	call->stmt = st;
	call->wire = wire;
	call->done = done != NULL ? done : nobody_waits;
	call->arg = arg;
	call->to = opts.to;
	call->after_lsn = opts.to == DB_READ ? opts.after_lsn : 0;
	call->timeout_ms = opts.timeout_ms > 0 ? opts.timeout_ms : db->timeout_ms;
	call->due_mono_ms = clock_mono_ms() + call->timeout_ms;
	call->since_us = clock_exact_us();
	pool_enqueue(pool, call, false);
	return 0;
}

/* Settings are complete in the URL: what the shell has set must not change where we connect. */
static void forget_environment(void)
{
	PQconninfoOption *all = PQconndefaults();

	for (const PQconninfoOption *o = all; o != NULL && o->keyword != NULL; o++)
		if (o->envvar != NULL)
			unsetenv(o->envvar);
	PQconninfoFree(all);
}

struct db *db_open(struct service *s, const struct db_conf *conf)
{
	struct db *db = XNEW(struct db);
	bool own_reads = conf->read_url.n > 0 && !str_eq(conf->read_url, conf->write_url);
	struct err err;

	MAKE_A(db, DB_MAGIC);
	db->service = s;
	db->timeout_ms = conf->timeout_ms > 0 ? conf->timeout_ms : 5000;
	db->max_queued = conf->max_queued > 0 ? conf->max_queued : 4096;
	db->has_standby = own_reads;
	list_init(&db->dirty);
	list_init(&db->txs);
	list_init(&db->watches);
	db->begin = stmt_of(&db->stmts, "BEGIN");
	db->commit = stmt_of(&db->stmts, "COMMIT");
	db->rollback = stmt_of(&db->stmts, "ROLLBACK");
	db->lsn = stmt_of(&db->stmts, "SELECT pg_current_wal_insert_lsn()");
	db->probe = stmt_of(&db->stmts, "SELECT pg_last_wal_replay_lsn()");
	db->set_timeout = stmt_of(&db->stmts, "SELECT set_config('statement_timeout', $1, true),"
	                          " set_config('lock_timeout', $1, true),"
	                          " set_config('idle_in_transaction_session_timeout', $1, true)");
	forget_environment();
	if (db_url_parse(&db->write.url, conf->write_url, DB_ROLE_WRITE, s->name, db->timeout_ms, &err) != 0 ||
	    db_url_parse(&db->read.url, own_reads ? conf->read_url : conf->write_url, DB_ROLE_READ, s->name,
	                 db->timeout_ms, &err) != 0)
		service_fatal(s, &err);
	pool_open(&db->write, db, DB_ROLE_WRITE, conf->write_conns > 0 ? conf->write_conns : 4);
	pool_open(&db->read, db, DB_ROLE_READ, conf->read_conns > 0 ? conf->read_conns : 4);
	db_note_up(db);
	return db;
}

bool db_closing(const struct db *db)
{
	return db->closed;
}

void db_watch(struct db *db, struct db_watch *w, void (*fn)(void *arg), void *arg)
{
	w->fn = fn;
	w->arg = arg;
	list_init(&w->node);
	list_add_tail(&db->watches, &w->node);
}

void db_unwatch(struct db_watch *w)
{
	list_del(&w->node);
}

static void db_free(void *arg)
{
	struct db *db = arg;

	free(db->read.conns);
	free(db->write.conns);
	free(db);
}

void db_close(struct db *db)
{
	struct err err;

	if (db == NULL)
		return;
	IS_A(db, DB_MAGIC);
	ASSERT(!db->closed);
	db->closed = true;
	err_set(&err, -ECANCELED, "database is being closed");
	listeners_close(db->listener);
	pool_close(&db->read, &err);
	pool_close(&db->write, &err);
	while (!list_empty(&db->txs))
		tx_close(CONTAINER_OF(db->txs.next, struct db_tx, all), &err);
	while (!list_empty(&db->watches)) {
		struct db_watch *w = CONTAINER_OF(list_pop(&db->watches), struct db_watch, node);

		w->fn(w->arg);
	}
	resolver_free(db->resolver, db->service);
	db_url_clear(&db->read.url);
	db_url_clear(&db->write.url);
	stmts_clear(&db->stmts);
	service_later(db->service, db_free, db);        /* a turn may be scheduled */
}

/* module_sql.c - query() and change() of a handler: which connection, which transaction, what then. */
#include "module_engine.h"

struct call {
	struct list place; /* on the run's calls, while it has no transaction */
	struct run *run;
	request_then *then;
	const char *sql;
	struct db_param *params;
	size_t n;
};

static struct run *run_of(struct request *r)
{
	struct run *run = CONTAINER_OF(r, struct run, r);

	IS_A(run, RUN_MAGIC);
	return run;
}

/* A statement came back.  Also for runs that were answered, undone or dropped meanwhile. */
static void came_back(struct call *c, const struct db_result *res, const struct err *err)
{
	struct run *run = c->run;
	request_then *then = c->then;

	run->pending--;
	if (run->orphan) {
		run_free(run, false);
		return;
	}
	if (run->state != RUN_RUNNING)
		return;
	if (run->broken.code != 0 && run->wave == NULL) { /* waited for this one to be undone */
		struct err broken = run->broken;

		run_failed(run, &broken);
		return;
	}
	if (err != NULL) {
		if (run->wave != NULL)
			wave_statement_failed(run, err);
		else if (run->parts == NULL)
			run_failed(run, err);
		return;
	}
	engine_back(run->e);
	if (run->parts != NULL || then == NULL || (run->wave != NULL && run->wave->state == FAILED))
		return;
	run->inside = true;
	then(&run->r, res);
	run->inside = false;
	run_step_end(run);
}

static void read_back(void *arg, const struct db_result *res, const struct err *err)
{
	struct call *c = arg;
	struct engine *e = c->run->e;

	came_back(c, res, err);
	run_kick(e);
}

static void tx_back(void *arg, const struct db_result *res, const struct err *err)
{
	struct call *c = arg;
	struct wave *w = c->run->wave;
	struct engine *e = c->run->e;

	w->outstanding--;
	came_back(c, res, err);
	wave_statement_over(w);
	run_kick(e);
}

static void tx_send(struct call *c)
{
	struct wave *w = c->run->wave;
	int r = db_tx_send(w->tx, tx_back, c, c->sql, c->params, c->n);

	if (r == 0) {
		w->outstanding++;
		return;
	}
	c->run->pending--;
	err_set(&c->run->broken, r, "statement refused");
}

void run_calls_flush(struct run *run)
{
	struct list *n;

	while ((n = list_pop(&run->calls)) != NULL) {
		if (run->broken.code == 0)
			tx_send(CONTAINER_OF(n, struct call, place));
		else
			run->pending--;
	}
}

static struct db_param *params_copy(struct arena *mem, const struct db_param *params, size_t n)
{
	struct db_param *p = arena_alloc(mem, (n + 1) * sizeof *p);

	for (size_t i = 0; i < n; i++) {
		p[i] = params[i];
		if (p[i].type == DBP_STR || p[i].type == DBP_BYTES)
			p[i].s = arena_str(mem, params[i].s);
		else if (p[i].type == DBP_ARRAY)
			p[i].array = params_copy(mem, params[i].array, params[i].n);
	}
	return p;
}

static void read_send(struct run *run, struct call *c, const struct db_param *params, size_t n)
{
	uint64_t own = lanes_lsn(&run->e->lanes, run->msg.community_id);
	/* A standby that cancelled it (conflict with its replay) is not asked again. */
	struct db_opts opts = { .to = run->tries == 0 ? DB_READ : DB_WRITE,
		                .after_lsn = own > run->env.lsn ? own : run->env.lsn };
	int r = db_send(run->e->db, opts, read_back, c, c->sql, params, n);

	if (r != 0) {
		run->pending--;
		err_set(&run->broken, r, "statement refused");
	}
}

void request_sql(struct request *r, enum db_to to, request_then *then, const char *sql,
                 const struct db_param *params, size_t n)
{
	struct run *run = run_of(r);
	struct call *c = ARENA_NEW(run->mem, struct call);
	struct err err = { 0 };

	ASSERT(run->parts == NULL); /* nothing is asked after the answer */
	if (run->broken.code != 0)
		return;
	*c = (struct call){ .run = run, .then = then, .sql = sql };
	list_init(&c->place);
	run->pending++;
	if (to == DB_READ && run->wave == NULL && list_empty(&run->calls)) {
		read_send(run, c, params, n);
		return;
	}
	c->params = params_copy(run->mem, params, n);
	c->n = n;
	list_add_tail(&run->calls, &c->place);
	if (run->wave == NULL && wave_join(run, &err) == -EBUSY)
		return;
	run->broken = err;
	run_calls_flush(run);
}

/* module_wave.c - the transaction that several communities share, and the inbox rows in it.
 *
 * All changes begun in one loop turn travel together; when every member has answered, one insert
 * writes their inbox rows and one commit makes all durable: two round trips for one command or for
 * sixty.  When any statement fails nothing of the wave has happened: the one that failed goes on
 * alone, the others again.  An execution that is in the inbox already makes the insert fail
 * (unique_violation), so a redelivery costs the look-up, not every command. */
#include "module_engine.h"

static void wave_free(struct wave *w)
{
	struct engine *e = w->e;

	ASSERT(list_empty(&w->members) && w->outstanding == 0);
	list_del(&w->place);
	if (e->gathering == w)
		e->gathering = NULL;
	e->n_waves--;
	free(w);
}

static void leave(struct run *run)
{
	list_del(&run->place);
	run->wave->n--;
	run->wave = NULL;
}

static struct wave *wave_new(struct engine *e, struct err *err)
{
	struct db_tx *tx = db_tx_begin(e->db, 0);
	struct wave *w;

	if (tx == NULL) {
		err_set(err, -EAGAIN, "no connection for a transaction");
		return NULL;
	}
	w = XNEW(struct wave);
	w->e = e;
	w->tx = tx;
	list_init(&w->place);
	list_init(&w->members);
	list_add_tail(&e->waves, &w->place);
	e->n_waves++;
	return w;
}

int wave_join(struct run *run, struct err *err)
{
	struct engine *e = run->e;
	struct wave *w = run->alone ? NULL : e->gathering;

	if (list_linked(&run->place))
		return -EBUSY; /* waits already */
	if (w == NULL && e->n_waves >= e->max_waves) {
		list_move(&e->want_wave, &run->place);
		return -EBUSY;
	}
	if (w == NULL) {
		w = wave_new(e, err);
		if (w == NULL)
			return err->code;
		if (run->alone || e->conf.together <= 1)
			w->state = FLYING;
		else
			e->gathering = w;
	}
	run->wave = w;
	list_move(&w->members, &run->place);
	w->n++;
	w->open++;
	if (e->gathering == w && w->n >= (unsigned)e->conf.together) {
		w->state = FLYING;
		e->gathering = NULL;
	}
	return 0;
}

static void let_in_waiting(struct engine *e)
{
	while (!e->stopping && !list_empty(&e->want_wave)) {
		struct run *run = CONTAINER_OF(e->want_wave.next, struct run, place);
		struct err err = { 0 };

		list_del(&run->place);
		if (wave_join(run, &err) == -EBUSY)
			return;
		if (err.code != 0)
			run->broken = err;
		else
			run_calls_flush(run);
		run_step_end(run);
	}
}

/* --- the end ------------------------------------------------------------------------------ */

static void settle_all(struct wave *w, uint64_t lsn)
{
	struct engine *e = w->e;

	while (!list_empty(&w->members)) {
		struct run *run = CONTAINER_OF(w->members.next, struct run, place);

		leave(run);
		run->lsn = lsn;
		lanes_wrote(&e->lanes, &run->job, lsn);
		run_settled(run);
	}
	wave_free(w);
	let_in_waiting(e);
}

/* The members of a wave that is over, in order, on a list of their own. */
static void take_members(struct wave *w, struct list *members)
{
	list_init(members);
	while (!list_empty(&w->members)) {
		struct run *run = CONTAINER_OF(w->members.next, struct run, place);

		leave(run);
		run->parts = NULL;
		list_add_tail(members, &run->place);
	}
	wave_free(w);
}

/* Nothing of it happened.  Who is to blame is told; the others go on, alone when nobody is known. */
static void undo_all(void *arg)
{
	struct wave *w = arg;
	struct engine *e = w->e;
	struct err why = w->why;
	struct run *culprit = w->culprit;
	bool all = w->n == 1 || run_database_lost(&why);
	struct list members;

	take_members(w, &members);
	for (struct list *n; (n = list_pop(&members)) != NULL;) {
		struct run *run = CONTAINER_OF(n, struct run, place);

		if (all || run == culprit) {
			run_failed(run, &why);
		} else {
			run->alone = run->alone || culprit == NULL;
			run_again(run);
		}
	}
	let_in_waiting(e);
	run_kick(e);
}

/* Those in the inbox get their stored reply, the others run again. */
static void found(void *arg, const struct db_result *res, const struct err *err)
{
	struct wave *w = arg;
	struct engine *e = w->e;
	struct list members;

	take_members(w, &members);
	for (struct list *n; (n = list_pop(&members)) != NULL;) {
		struct run *run = CONTAINER_OF(n, struct run, place);
		struct err bad = { 0 };
		int row = 0, rows = err == NULL ? db_rows(res) : 0;

		while (row < rows && !str_eq(db_str(res, row, 0), run->msg.execution_id))
			row++;
		if (err != NULL) {
			run_failed(run, err);
		} else if (row == rows) {
			run_again(run);
		} else {
			arena_back(run->mem, run->mark);
			module_count_inbox();
			if (answer_stored(run, db_str(res, row, 1), &bad) != 0)
				run_failed(run, &bad);
			else
				run_settled(run);
		}
	}
	let_in_waiting(e);
	run_kick(e);
}

static void find_all(struct wave *w)
{
	struct db_param *ids = XNEW_N(struct db_param, w->n), *times = XNEW_N(struct db_param, w->n);
	struct db_opts opts = { .to = DB_WRITE };
	size_t n = 0;
	int r;

	LIST_EACH(node, tmp, &w->members) {
		const struct run *run = CONTAINER_OF(node, struct run, place);

		ids[n] = DB_STR(run->msg.execution_id);
		times[n++] = DB_TIME(run->msg.created_at_ms);
	}
	r = db_send(w->e->db, opts, found, w, w->e->inbox_find,
	            (struct db_param[]){ DB_ARRAY(ids, n), DB_ARRAY(times, n) }, 2);
	free(ids);
	free(times);
	if (r != 0) {
		w->culprit = NULL;
		w->why = (struct err){ 0 };
		err_set(&w->why, r, "inbox look-up refused");
		undo_all(w);
	}
}

static void committed(void *arg, const struct db_result *res, const struct err *err)
{
	struct wave *w = arg;
	struct engine *e = w->e;

	if (err == NULL) {
		engine_back(e);
		settle_all(w, db_lsn(res));
	} else if (w->repeated) {
		find_all(w);
	} else {
		if (w->why.code == 0)
			w->why = *err;
		undo_all(w);
	}
	run_kick(e);
}

static void inbox_written(void *arg, const struct db_result *res, const struct err *err)
{
	struct wave *w = arg;

	(void)res;
	w->outstanding--;
	if (err == NULL || w->why.code != 0)
		return;
	w->why = *err;
	w->repeated = strcmp(err->sqlstate, "23505") == 0;
}

static void commit(struct wave *w)
{
	struct engine *e = w->e;
	struct db_param *ids = XNEW_N(struct db_param, w->n), *times = XNEW_N(struct db_param, w->n),
			*replies = XNEW_N(struct db_param, w->n);
	struct buf *texts = XNEW_N(struct buf, w->n);
	size_t n = 0;
	int r;

	ASSERT(w->state == FLYING && w->open == 0);
	w->state = COMMITTING;
	LIST_EACH(node, tmp, &w->members) {
		const struct run *run = CONTAINER_OF(node, struct run, place);
		struct str reply = STR_NONE;

		texts[n] = BUF(1024 * 1024);
		answer_encode(run, &texts[n]);
		if (buf_str(&texts[n], &reply) != 0)
			reply = STR("{\"parts\":[]}");
		ids[n] = DB_STR(run->msg.execution_id);
		times[n] = DB_TIME(run->msg.created_at_ms);
		replies[n++] = DB_STR(reply);
	}
	r = db_tx_send(w->tx, inbox_written, w, e->inbox_insert,
	               (struct db_param[]){ DB_ARRAY(ids, n), DB_ARRAY(times, n), DB_ARRAY(replies, n) }, 3);
	for (size_t i = 0; i < n; i++)
		buf_clear(&texts[i]);
	free(texts);
	free(ids);
	free(times);
	free(replies);
	if (r == 0) {
		w->outstanding++;
		db_tx_commit(w->tx, committed, w);
		return;
	}
	err_set(&w->why, r, "inbox row refused");
	w->state = FAILED;
	db_tx_abort(w->tx);
	wave_statement_over(w);
}

void wave_answered(struct run *run)
{
	struct wave *w = run->wave;

	if (w->state != GATHERING && w->state != FLYING)
		return;
	w->open--;
	if (w->state == FLYING && w->open == 0)
		commit(w);
}

/* The turn is over: who comes now goes into the next wave. */
void wave_turn(void *arg)
{
	struct engine *e = arg;
	struct wave *w = e->gathering;

	if (w == NULL)
		return;
	e->gathering = NULL;
	w->state = FLYING;
	if (w->open == 0)
		commit(w);
}

void wave_statement_failed(struct run *run, const struct err *err)
{
	struct wave *w = run->wave;

	if (w->why.code == 0) {
		w->why = *err;
		w->culprit = run;
	}
	if (w->state == COMMITTING || w->state == FAILED)
		return;
	if (w->e->gathering == w)
		w->e->gathering = NULL;
	w->state = FAILED;
	if (!w->e->stopping) /* else db_close() ends it */
		db_tx_abort(w->tx);
	wave_statement_over(w);
}

/* The last statement of a failed wave is back: nobody points into it once this turn is over. */
void wave_statement_over(struct wave *w)
{
	if (w->state != FAILED || w->outstanding > 0 || w->undoing)
		return;
	w->undoing = true;
	service_later(w->e->s, undo_all, w);
}

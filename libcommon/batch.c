/* batch.c - rows in, unnest() statements out, one answer per row in the order they were added.
 *
 * Rows collect in a slot; a slot that is sent is on the out list until its rows are answered.
 * Only the first of that list tells its rows: an answer to a later one is kept until then.  A
 * slot whose statement failed sends a part of itself again - half after bad data, twice as much
 * after a success - until it has been through. */
#include "batch.h"

#include "arena.h"
#include "clock.h"
#include "err.h"
#include "hash.h"
#include "list.h"
#include "log.h"
#include "metrics.h"
#include "service.h"

enum {
	BATCH_MAGIC   = 0xba7c4, SLOT_MAGIC = 0x5107,
	ROW_BYTES_MAX = 1 << 20,
	BYTES_FULL    = 1 << 20,                /* a statement of this size is full */
	PAUSE_MS      = 20, PAUSE_MAX_MS = 2000,
};

METRIC(rows_total, METRIC_COUNTER, "waddle_batch_rows_total", "Rows answered by the database, good or bad.");
METRIC(failed_total, METRIC_COUNTER, "waddle_batch_failed_rows_total", "Rows that failed for good.");
METRIC(statements_total, METRIC_COUNTER, "waddle_batch_statements_total", "Statements sent for batches.");
METRIC(repeats_total, METRIC_COUNTER, "waddle_batch_repeats_total",
       "Statements sent again, whole or in parts, after a failure.");
METRIC(inside, METRIC_GAUGE, "waddle_batch_rows_inside", "Rows waiting or sent and not answered.");

struct metric *const batch_metrics[] = { &rows_total, &failed_total, &statements_total, &repeats_total,
	&inside, NULL };

static int64_t rows_inside;             /* of all batches */

struct row { batch_done *done; void *arg; };

struct slot {
	unsigned          magic;
	struct batch     *b;
	struct list       node;         /* b->spare or b->out; b->filling is on neither */
	int               n;            /* rows */
	int               from, to;     /* the part that is sent; those before `from` are answered */
	int               part;         /* how many rows the next statement may have */
	bool              answered;     /* .res or .err wait for our turn */
	bool              overlaps;     /* a key of ours is in a slot that is out */
	struct db_result *res;
	struct err        err;
	unsigned          tries;
	struct timer      pause;
	struct arena     *texts;
	struct db_param  *cells;        /* column by column, max_rows each */
	struct row       *rows;
	uint64_t         *keys;         /* hashes, open addressing; a false match only cuts early */
};

struct batch {
	unsigned                 magic;
	struct service          *service;
	struct db               *db;            /* NULL: it was closed before us */
	struct db_watch          watch;
	const struct batch_spec *spec;
	bool                     repeatable, closing, scheduled, flush, telling;
	struct slot             *filling;
	struct list              out, spare;
	int                      n_out;
	size_t                   n_rows, n_keys, mask;
	struct timer             timer;         /* max_ms */
	struct db_param         *params;        /* of one statement */
};

static void schedule(struct batch *b);
static void answer(struct slot *s);

static bool db_is_gone(const struct batch *b)
{
	return b->db == NULL || db_closing(b->db);
}

/* -- keys ---------------------------------------------------------------------------------- */

static uint64_t key_of(const struct batch *b, const struct db_param *row)
{
	const struct db_param *p = &row[b->spec->key_column];
	uint64_t h = 0;

	switch (p->type) {
	case DBP_INT:
	case DBP_TIME:
		h = hash_int(p->i);
		break;
	case DBP_BOOL:
		h = hash_int(p->b);
		break;
	case DBP_STR:
	case DBP_BYTES:
		h = hash_of(p->s);
		break;
	case DBP_NULL:
	case DBP_ARRAY:
		break;                          /* NULL conflicts with nothing */
	}
	return h;
}

static bool has_key(const struct slot *s, uint64_t key)
{
	size_t mask = s->b->mask;

	for (size_t at = key & mask; s->keys[at] != 0; at = (at + 1) & mask)
		if (s->keys[at] == key)
			return true;
	return false;
}

static void add_key(struct slot *s, uint64_t key)
{
	size_t mask = s->b->mask, at = key & mask;

	while (s->keys[at] != 0)
		at = (at + 1) & mask;
	s->keys[at] = key;
}

/* -- slots --------------------------------------------------------------------------------- */

static struct slot *slot_new(struct batch *b)
{
	struct slot *s = XNEW(struct slot);
	size_t rows = (size_t)b->spec->max_rows;

	MAKE_A(s, (unsigned)SLOT_MAGIC);
	s->b = b;
	list_init(&s->node);
	s->texts = arena_new(64 * 1024, 4 * (size_t)BYTES_FULL);
	s->cells = XNEW_N(struct db_param, rows * (size_t)b->spec->columns);
	s->rows = XNEW_N(struct row, rows);
	if (b->n_keys > 0)
		s->keys = XNEW_N(uint64_t, b->n_keys);
	return s;
}

static void slot_free(struct slot *s)
{
	arena_free(s->texts);
	free(s->cells);
	free(s->rows);
	free(s->keys);
	NOT_A_MORE(s, (unsigned)SLOT_MAGIC);
	free(s);
}

static void slot_clear(struct slot *s)
{
	s->n = s->from = s->to = 0;
	s->answered = s->overlaps = false;
	s->tries = 0;
	arena_reset(s->texts);
	if (s->keys != NULL)
		memset(s->keys, 0, s->b->n_keys * sizeof(*s->keys));
}

static bool is_first(const struct slot *s)
{
	return s->b->out.next == &s->node;
}

/* -- sending ------------------------------------------------------------------------------- */

static void answered(void *arg, const struct db_result *res, const struct err *err)
{
	struct slot *s = arg;

	IS_A(s, (unsigned)SLOT_MAGIC);
	s->answered = true;
	s->err.code = 0;
	if (err != NULL)
		s->err = *err;
	else
		s->res = db_keep(res);
	if (is_first(s))
		answer(s);
}

static void send_part(struct slot *s);

static void pause_over(void *arg)
{
	send_part(arg);
}

static void send_part(struct slot *s)
{
	const struct batch_spec *spec = s->b->spec;
	struct db_opts opts = { .to = DB_WRITE };
	int r;

	timer_stop(&s->pause);
	s->to = s->n - s->from > s->part ? s->from + s->part : s->n;
	for (int c = 0; c < spec->columns; c++)
		s->b->params[c] = DB_ARRAY(&s->cells[c * spec->max_rows + s->from], (size_t)(s->to - s->from));
	r = db_is_gone(s->b) ? -ECANCELED :
	    db_send(s->b->db, opts, answered, s, spec->sql, s->b->params, (size_t)spec->columns);
	if (r == 0) {
		metric_add(&statements_total, 0, 1);
		return;
	}
	if (r == -EAGAIN && !s->b->closing) {   /* the db's queue is full */
		timer_start(s->b->service, &s->pause, clock_backoff_ms(s->tries++, PAUSE_MS, PAUSE_MAX_MS), pause_over, s);
		return;
	}
	s->answered = true;
	err_set(&s->err, r, "the database does not take batch %s", spec->name);
	schedule(s->b);                         /* told later: never from inside batch_add() */
}

/* The slot is closed: no more rows. */
static void seal(struct batch *b)
{
	struct slot *s = b->filling;

	timer_stop(&b->timer);
	b->flush = false;
	s->part = b->spec->max_rows;
	list_add_tail(&b->out, &s->node);
	b->n_out++;
	b->filling = list_empty(&b->spare) ? slot_new(b) : CONTAINER_OF(list_pop(&b->spare), struct slot, node);
	send_part(s);
}

static bool may_seal(const struct batch *b)
{
	return b->n_out < b->spec->max_in_flight && !(b->filling->overlaps && b->n_out > 0);
}

static bool is_full(const struct batch *b)
{
	return b->filling->n == b->spec->max_rows || arena_used(b->filling->texts) >= BYTES_FULL;
}

static void go(struct batch *b)
{
	if (b->filling->n > 0 && may_seal(b) && (b->n_out == 0 || is_full(b) || b->flush))
		seal(b);
}

static void batch_free(struct batch *b)
{
	slot_free(b->filling);
	while (!list_empty(&b->spare))
		slot_free(CONTAINER_OF(list_pop(&b->spare), struct slot, node));
	free(b->params);
	db_unwatch(&b->watch);
	timer_stop(&b->timer);
	NOT_A_MORE(b, (unsigned)BATCH_MAGIC);
	free(b);
}

static void turn(void *arg)
{
	struct batch *b = arg;

	IS_A(b, (unsigned)BATCH_MAGIC);
	b->scheduled = false;
	if (!list_empty(&b->out)) {
		struct slot *first = CONTAINER_OF(b->out.next, struct slot, node);

		if (first->answered)
			answer(first);
	}
	go(b);
	if (b->closing && b->n_rows == 0 && !b->scheduled)
		batch_free(b);
}

static void schedule(struct batch *b)
{
	if (b->scheduled)
		return;
	b->scheduled = true;
	service_later(b->service, turn, b);
}

static void time_is_up(void *arg)
{
	struct batch *b = arg;

	b->flush = true;
	go(b);
}

/* -- answers ------------------------------------------------------------------------------- */

static void tell(struct slot *s, int row, const struct db_result *res, int result_row, const struct err *err)
{
	struct batch *b = s->b;
	bool empty;

	metric_add(&rows_total, 0, 1);
	if (err != NULL)
		metric_add(&failed_total, 0, 1);
	metric_set(&inside, 0, --rows_inside);
	empty = --b->n_rows == 0;
	if (s->rows[row].done != NULL)
		s->rows[row].done(s->rows[row].arg, res, result_row, err);
	if (empty)                              /* rows added meanwhile hold it themselves */
		service_release(b->service);
}

/* The part from .. to is through. */
static void tell_part(struct slot *s, const struct db_result *res, const struct err *err)
{
	bool each = res != NULL && db_has_rows(res) && db_rows(res) == s->to - s->from;
	int first = s->from;

	for (; s->from < s->to; s->from++)
		tell(s, s->from, res, each ? s->from - first : -1, err);
}

static bool may_repeat(const struct batch *b, const struct err *err)
{
	if (b->closing || db_is_gone(b))
		return false;
	switch (err_kind(err)) {
	case ERR_AGAIN:
		return true;
	case ERR_UNKNOWN:
		return b->repeatable;
	case ERR_NONE:
	case ERR_INPUT:
	case ERR_DENIED:
	case ERR_ABSENT:
	case ERR_CONFLICT:
	case ERR_BROKEN:
		break;
	}
	return false;
}

static void failed(struct slot *s)
{
	struct batch *b = s->b;
	int rows = s->to - s->from;

	if (err_is_data(&s->err) && rows > 1 && !db_is_gone(b)) {
		s->part = rows / 2;
	} else if (err_is_data(&s->err)) {
		s->part = 1;
		tell_part(s, NULL, &s->err);
	} else if (may_repeat(b, &s->err)) {
		log_rarely(5000, L_WARN, NULL, "batch_repeat", "%s: %d rows again: %s", b->spec->name, rows, s->err.text);
		metric_add(&repeats_total, 0, 1);
		if (s->err.code == -ETIMEDOUT && rows > 1)
			s->part = rows / 2;     /* it may be too much for the time it has */
		timer_start(b->service, &s->pause, clock_backoff_ms(s->tries++, PAUSE_MS, PAUSE_MAX_MS), pause_over, s);
		return;
	} else {
		log_rarely(5000, L_ERROR, NULL, "batch_failed", "%s: %d rows lost: %s", b->spec->name, rows, s->err.text);
		tell_part(s, NULL, &s->err);
	}
	if (s->from < s->n && !db_is_gone(b)) {
		metric_add(&repeats_total, 0, 1);
		send_part(s);
	} else {
		s->to = s->n;
		tell_part(s, NULL, &s->err);
	}
}

static void succeeded(struct slot *s)
{
	struct db_result *res = s->res;
	int rows = s->to - s->from;

	s->res = NULL;
	s->tries = 0;
	tell_part(s, res, NULL);
	db_release(res);
	s->part = rows < s->b->spec->max_rows / 2 ? rows * 2 : s->b->spec->max_rows;
	if (s->from < s->n)
		send_part(s);
}

/* s is the first that is out, and there is an answer to what it sent. */
static void answer(struct slot *s)
{
	struct batch *b = s->b;

	if (b->telling)
		return;                         /* from inside one of the callbacks below */
	b->telling = true;
	service_hold(b->service);
	for (;;) {
		s->answered = false;
		if (s->err.code == 0)
			succeeded(s);
		else
			failed(s);
		if (s->answered)
			continue;
		if (s->from < s->n)
			break;                  /* the rest of it is on its way */
		list_del(&s->node);
		b->n_out--;
		slot_clear(s);
		list_add_tail(&b->spare, &s->node);
		if (list_empty(&b->out))
			break;
		s = CONTAINER_OF(b->out.next, struct slot, node);
		if (!s->answered)
			break;
	}
	b->telling = false;
	service_release(b->service);
	schedule(b);
}

/* Of db_close(): who is inside fails now, who is added later at the end of that turn. */
static void db_closed(void *arg)
{
	struct batch *b = arg;

	b->db = NULL;
	if (b->filling->n > 0)
		seal(b);
	LIST_EACH(n, next, &b->out) {
		struct slot *s = CONTAINER_OF(n, struct slot, node);

		if (s->answered || (b->telling && is_first(s)))
			continue;
		timer_stop(&s->pause);
		s->to = s->n;
		s->answered = true;
		err_set(&s->err, -ECANCELED, "database is being closed");
	}
	if (!list_empty(&b->out))
		answer(CONTAINER_OF(b->out.next, struct slot, node));
}

/* -- the caller's side --------------------------------------------------------------------- */

struct batch *batch_open(struct service *s, struct db *db, const struct batch_spec *spec)
{
	struct batch *b = XNEW(struct batch);

	ASSERT(spec->columns > 0 && spec->max_rows > 0 && spec->max_in_flight > 0);
	ASSERT(spec->key_column < spec->columns);
	MAKE_A(b, (unsigned)BATCH_MAGIC);
	b->service = s;
	b->db = db;
	b->spec = spec;
	b->repeatable = spec->idempotent || strcasestr(spec->sql, "ON CONFLICT") != NULL;
	if (spec->key_column >= 0)
		for (b->n_keys = 4; b->n_keys < 2 * (size_t)spec->max_rows; )
			b->n_keys *= 2;
	b->mask = b->n_keys - 1;
	list_init(&b->out);
	list_init(&b->spare);
	b->params = XNEW_N(struct db_param, (size_t)spec->columns);
	b->filling = slot_new(b);
	db_watch(db, &b->watch, db_closed, b);
	return b;
}

static int check(const struct batch *b, const struct db_param *row, size_t *ret_bytes)
{
	size_t bytes = 0;

	for (int c = 0; c < b->spec->columns; c++) {
		ASSERT(row[c].type != DBP_ARRAY);
		if (!db_param_ok(&row[c]))
			return -EINVAL;
		if (row[c].type == DBP_STR || row[c].type == DBP_BYTES)
			bytes += row[c].s.n + 32;
		if (bytes > ROW_BYTES_MAX)
			return -EINVAL;
	}
	*ret_bytes = bytes;
	return 0;
}

/* The row is the first of a new slot, or there is room in this one. */
static int make_room(struct batch *b, size_t bytes, bool repeated)
{
	if (!is_full(b) && !repeated && arena_used(b->filling->texts) + bytes <= 3 * (size_t)BYTES_FULL)
		return 0;
	if (!may_seal(b))
		return -EAGAIN;
	seal(b);
	return 0;
}

int batch_add(struct batch *b, const struct db_param *row, batch_done *done, void *arg)
{
	const struct batch_spec *spec = b->spec;
	struct slot *s;
	uint64_t key = 0;
	size_t bytes;
	int r;

	IS_A(b, (unsigned)BATCH_MAGIC);
	ASSERT(!b->closing);
	r = check(b, row, &bytes);
	if (r < 0)
		return r;
	if (spec->key_column >= 0)
		key = key_of(b, row);
	r = make_room(b, bytes, key != 0 && has_key(b->filling, key));
	if (r < 0)
		return r;
	s = b->filling;
	for (int c = 0; c < spec->columns; c++) {
		struct db_param *cell = &s->cells[c * spec->max_rows + s->n];

		*cell = row[c];
		if (cell->type == DBP_STR || cell->type == DBP_BYTES)
			cell->s = arena_str(s->texts, cell->s);
	}
	s->rows[s->n++] = (struct row){ done, arg };
	if (key != 0) {
		add_key(s, key);
		LIST_EACH(n, next, &b->out)
			s->overlaps |= has_key(CONTAINER_OF(n, struct slot, node), key);
	}
	if (b->n_rows++ == 0)
		service_hold(b->service);
	metric_set(&inside, 0, ++rows_inside);
	if (s->n == 1 && spec->max_ms > 0)
		timer_start(b->service, &b->timer, spec->max_ms, time_is_up, b);
	if (is_full(b) && may_seal(b))
		seal(b);
	else if (b->n_out == 0)
		schedule(b);
	return 0;
}

void batch_flush(struct batch *b)
{
	b->flush = b->filling->n > 0;
	go(b);
}

void batch_close(struct batch *b)
{
	if (b == NULL)
		return;
	IS_A(b, (unsigned)BATCH_MAGIC);
	ASSERT(!b->closing);
	b->closing = true;
	b->flush = true;
	LIST_EACH(n, next, &b->out) {
		struct slot *s = CONTAINER_OF(n, struct slot, node);

		if (timer_running(&s->pause))
			send_part(s);
	}
	schedule(b);
}

size_t batch_rows(const struct batch *b)
{
	return b->n_rows;
}

/* limits.c - windows in memory; a row per key and minute, written with the executions.
 *
 * hits and refused are objects {event id: instant}: a batch that is written twice, or in another
 * order than it was begun, leaves the same row.  A redelivered event is found by its id. */
#include "limits.h"
#include "router.h"
#include "clock.h"
#include "err.h"
#include "hash.h"
#include "log.h"
#include "metrics.h"
#include "service.h"

enum { WINDOW_MS = 60000, MAX_KEYS_READ = 128, MAX_IN_FLIGHT = 4, COLUMNS = 7 };

struct waiter { struct work *w; void (*again)(void *arg); };

struct want {                           /* a key to be read */
	struct list       node;
	struct window_key *key;          /* held */
	int64_t           command_id, entity_id, from_ms;
	struct str        user_id;      /* owned */
	struct waiter    *waiter;
	size_t            n_waiters, cap;
};

struct read { struct limits *l; struct list wants; size_t n; };        /* one statement's worth */

struct limits {
	struct router *r;
	struct windows *windows;
	struct list    wanted;
	int            in_flight;
	struct timer   retry;
};

METRIC(limited, METRIC_COUNTER, "waddle_router_rate_limited_total", "Commands refused by their rate limit.");
METRIC(reads, METRIC_COUNTER, "waddle_router_limit_reads_total",
       "Rate limit keys read from the primary before their first verdict.");
struct metric *const limits_metrics[] = { &limited, &reads, NULL };

/* A collector's clock may be wrong: an instant far ahead would close the key until then. */
static int64_t instant(const struct work *w)
{
	int64_t latest_ms = clock_unix_ms() + WINDOW_MS;

	return w->ev.received_at_ms < latest_ms ? w->ev.received_at_ms : latest_ms;
}

static int64_t minute_of(int64_t ms)
{
	return ms - ms % WINDOW_MS;
}

/* ---- reading ----------------------------------------------------------------------------- */

static void want_free(struct limits *l, struct want *q)
{
	window_drop(l->windows, q->key);
	free((void *)(uintptr_t)q->user_id.p);
	free(q->waiter);
	free(q);
}

static void wait_in(struct want *q, struct work *w, void (*again)(void *arg))
{
	if (q->n_waiters == q->cap) {
		q->cap = q->cap == 0 ? 4 : q->cap * 2;
		q->waiter = reallocarray(q->waiter, q->cap, sizeof q->waiter[0]);
		ASSERT(q->waiter != NULL);
	}
	q->waiter[q->n_waiters++] = (struct waiter){ w, again };
}

static struct window_key *key_hold(struct limits *l, const struct work *w, const struct candidate *c)
{
	char text[1100];
	int n = snprintf(text, sizeof text, "%lld:%lld:" STR_FMT, (long long)c->route->id,
	                 (long long)((const struct place *)cache_value(w->place))->entity_id,
	                 STR_ARG(w->ev.user.id));

	/* Ids are at most 255 code points. */
	if (n < 0 || (size_t)n >= sizeof text)
		n = sizeof text - 1;
	return window_hold(l->windows, (struct str){ text, (size_t)n }, w->m->at.partition);
}

static struct want *want_new(struct limits *l, struct work *w, struct candidate *c, int64_t at_ms)
{
	struct want *q = XNEW(struct want);
	char *user = xnew_(1, w->ev.user.id.n + 1);

	memcpy(user, w->ev.user.id.p, w->ev.user.id.n);
	q->key = key_hold(l, w, c);
	q->command_id = c->route->id;
	q->entity_id = ((const struct place *)cache_value(w->place))->entity_id;
	q->user_id = (struct str){ user, w->ev.user.id.n };
	q->from_ms = minute_of(at_ms) - WINDOW_MS;
	*window_user(q->key) = q;
	list_init(&q->node);
	list_add_tail(&l->wanted, &q->node);
	return q;
}

unsigned limits_look(struct limits *l, struct work *w, void (*again)(void *arg))
{
	int64_t at_ms = instant(w);
	unsigned started = 0;

	for (size_t i = 0; i < w->n_cand; i++) {
		struct candidate *c = &w->cand[i];
		struct want *q;

		if (c->route->rate_limit == 0)
			continue;
		if (c->limit.key != NULL && (c->limit.command_id != c->route->id || window_gone(c->limit.key)))
			limits_release(l, c);
		if (c->limit.key == NULL) {
			c->limit.key = key_hold(l, w, c);
			c->limit.command_id = c->route->id;
		}
		if (window_knows(c->limit.key, at_ms))
			continue;
		q = *window_user(c->limit.key);
		if (q == NULL)
			q = want_new(l, w, c, at_ms);
		else if (list_linked(&q->node) && minute_of(at_ms) - WINDOW_MS < q->from_ms)
			q->from_ms = minute_of(at_ms) - WINDOW_MS;      /* if it is not on its way yet */
		wait_in(q, w, again);
		started++;
	}
	return started;
}

void limits_release(struct limits *l, struct candidate *c)
{
	window_drop(l->windows, c->limit.key);
	c->limit = (struct candidate_limit){ 0 };
}

/* Rows [row, end) are of this key: one per id, or one without when a minute has none. */
static void learn(struct limits *l, struct want *q, const struct db_result *res, int row, int end)
{
	size_t n = (size_t)(end - row) + 1;
	struct window_past past = {
		.from_ms = q->from_ms, .slot_ms = INT64_MIN,
		.admitted = XNEW_N(struct window_stamp, n), .turned_away = XNEW_N(struct window_stamp, n),
	};

	for (; row < end; row++) {
		struct window_stamp s = { db_int(res, row, 4), hash_of(db_str(res, row, 3)) };

		if (db_time(res, row, 1) > past.slot_ms) {
			past.slot_ms = db_time(res, row, 1);
			past.refused = (uint32_t)db_int(res, row, 2);
		}
		if (db_null(res, row, 3))
			continue;
		if (db_bool(res, row, 5))
			past.admitted[past.n_admitted++] = s;
		else
			past.turned_away[past.n_turned_away++] = s;
	}
	window_learn(l->windows, q->key, &past);
	free(past.admitted);
	free(past.turned_away);
}

static void tell(struct limits *l, struct list *wants)
{
	struct list *n;

	while ((n = list_pop(wants)) != NULL) {
		struct want *q = CONTAINER_OF(n, struct want, node);

		*window_user(q->key) = NULL;     /* who still lacks something asks anew */
		for (size_t i = 0; i < q->n_waiters; i++)
			q->waiter[i].again(q->waiter[i].w);
		want_free(l, q);
	}
}

static void rested(void *arg)
{
	(void)arg;                      /* the end of this turn reads */
}

static void read_done(void *arg, const struct db_result *res, const struct err *err)
{
	struct read *b = arg;
	struct limits *l = b->l;
	int row = 0;
	int64_t i = 0;

	l->in_flight--;
	if (err != NULL) {
		struct list *n;

		if (!db_closing(l->r->db)) {
			log_rarely(10000, L_WARN, NULL, "limits_unread", "tried again: %s", err->text);
			timer_start(l->r->s, &l->retry, 100, rested, l);
		}
		while ((n = list_pop(&b->wants)) != NULL)
			list_add_tail(&l->wanted, n);
		free(b);
		return;
	}
	LIST_EACH(pos, tmp, &b->wants) {
		int first = row;

		i++;
		while (row < db_rows(res) && db_int(res, row, 0) == i)
			row++;
		learn(l, CONTAINER_OF(pos, struct want, node), res, first, row);
	}
	tell(l, &b->wants);
	free(b);
}

static bool read_some(struct limits *l)
{
	struct arena *mem = arena_new(16384, 4 << 20);
	struct read *b = XNEW(struct read);
	struct db_param *col[4];
	struct db_opts opts = { .to = DB_WRITE };
	struct list *n;
	int r;

	b->l = l;
	list_init(&b->wants);
	for (size_t c = 0; c < ARRAY_LEN(col); c++)
		col[c] = arena_alloc(mem, MAX_KEYS_READ * sizeof col[0][0]);
	while (b->n < MAX_KEYS_READ && (n = list_pop(&l->wanted)) != NULL) {
		const struct want *q = CONTAINER_OF(n, struct want, node);

		col[0][b->n] = DB_INT(q->command_id);
		col[1][b->n] = DB_INT(q->entity_id);
		col[2][b->n] = DB_STR(q->user_id);
		col[3][b->n++] = DB_TIME(q->from_ms > 0 ? q->from_ms : 0);
		list_add_tail(&b->wants, n);
	}
	r = db_query(l->r->db, opts, read_done, b,
	             "SELECT k.i, r.window_start, r.rejected_count, h.id, h.at, h.admitted "
	             "FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::timestamptz[]) WITH ORDINALITY "
	             "AS k(command_id, entity_id, user_id, since, i) "
	             "JOIN LATERAL (SELECT * FROM rate_limits q WHERE q.command_id = k.command_id "
	             "AND q.entity_id = k.entity_id AND q.user_id = k.user_id AND q.window_start >= k.since OFFSET 0) r "
	             "ON true "
	             "LEFT JOIN LATERAL (SELECT key AS id, value::bigint AS at, true AS admitted "
	             "FROM jsonb_each_text(r.hits) "
	             "UNION ALL SELECT key, value::bigint, false FROM jsonb_each_text(r.refused)) h ON true ORDER BY k.i",
	             DB_ARRAY(col[0], b->n), DB_ARRAY(col[1], b->n), DB_ARRAY(col[2], b->n),
	             DB_ARRAY(col[3], b->n));
	arena_free(mem);
	if (r == 0) {
		metric_add(&reads, 0, b->n);
		l->in_flight++;
		return true;
	}
	while ((n = list_pop(&b->wants)) != NULL)
		list_add_tail(&l->wanted, n);
	free(b);
	timer_start(l->r->s, &l->retry, 10, rested, l);
	return false;
}

static void turn(void *arg)
{
	struct limits *l = arg;

	while (!list_empty(&l->wanted) && l->in_flight < MAX_IN_FLIGHT && !timer_running(&l->retry) &&
	       !db_closing(l->r->db))
		if (!read_some(l))
			return;
}

/* ---- taking and writing ------------------------------------------------------------------ */

enum verdict limits_take(struct work *w, struct candidate *c)
{
	struct limits *l = w->r->limits;
	int64_t at_ms = instant(w);
	struct window_answer a;

	if (c->route->rate_limit == 0)
		return VERDICT_PENDING;
	a = window_take(l->windows, c->limit.key, c->route->rate_limit, hash_of(w->ev.event_id), at_ms,
	               at_ms == w->ev.received_at_ms ? at_ms : INT64_MIN);
	c->limit.asked = true;
	c->limit.admitted = a.wait_ms == 0;
	c->limit.at_ms = a.at_ms;
	c->limit.refused = a.refused;
	c->retry_after_ms = a.wait_ms;
	if (a.wait_ms == 0)
		return VERDICT_PENDING;
	metric_add(&limited, 0, !a.again);
	return VERDICT_RATE_LIMITED;
}

struct hit { const struct work *w; const struct candidate *c; int64_t entity_id; };

/* One order for all routers, so that none waits for another in a circle. */
static int by_key(const void *a, const void *b)
{
	const struct hit *x = a, *y = b;
	int64_t d = x->c->route->id - y->c->route->id;
	struct str p = x->w->ev.user.id, q = y->w->ev.user.id;
	int r;

	if (d == 0)
		d = x->entity_id - y->entity_id;
	if (d != 0)
		return d < 0 ? -1 : 1;
	r = memcmp(p.p, q.p, p.n < q.n ? p.n : q.n);
	if (r == 0)
		r = (p.n > q.n) - (p.n < q.n);
	if (r != 0)
		return r;
	d = minute_of(x->c->limit.at_ms) - minute_of(y->c->limit.at_ms);
	return (d > 0) - (d < 0);
}

/* {"id":instant,...} of those that were admitted, or of those that were not. */
static struct str ids(struct arena *mem, const struct hit *h, size_t n, bool admitted)
{
	struct buf b = BUF(16 << 20);
	struct str ret = STR("{}");
	const char *comma = "";

	buf_add(&b, STR("{"));
	for (size_t i = 0; i < n; i++) {
		const struct candidate_limit *c = &h[i].c->limit;

		if (c->admitted != admitted || (!admitted && (c->refused == 0 || c->refused > WINDOW_REFUSED_IDS)))
			continue;
		buf_printf(&b, "%s", comma);
		buf_json(&b, h[i].w->ev.event_id);
		buf_printf(&b, ":%lld", (long long)c->at_ms);
		comma = ",";
	}
	buf_add(&b, STR("}"));
	if (buf_str(&b, &ret) == 0)
		ret = arena_str(mem, ret);
	buf_clear(&b);
	return ret;
}

static struct hit *hits_of(const struct list *works, struct arena *mem, size_t *ret_n)
{
	struct hit *hit = NULL;

	*ret_n = 0;
	for (int pass = 0; pass < 2; pass++) {
		size_t n = 0;

		LIST_EACH(pos, tmp, works) {
			const struct work *w = CONTAINER_OF(pos, struct work, node);

			for (size_t i = 0; i < w->n_cand; i++)
				if (w->cand[i].limit.asked) {
					if (hit != NULL)
						hit[n] = (struct hit){
							w, &w->cand[i],
							((const struct place *)cache_value(w->place))->entity_id,
						};
					n++;
				}
		}
		if (n == 0)
			return NULL;
		if (hit == NULL)
			hit = arena_alloc(mem, n * sizeof *hit);
		*ret_n = n;
	}
	return hit;
}

int limits_write(struct limits *l, struct db_tx *tx, const struct list *works, struct arena *mem)
{
	struct db_param *col[COLUMNS], param[COLUMNS];
	size_t n_hits, n = 0;
	struct hit *hit = hits_of(works, mem, &n_hits);

	(void)l;
	if (n_hits == 0)
		return 0;
	qsort(hit, n_hits, sizeof *hit, by_key);
	for (size_t c = 0; c < COLUMNS; c++)
		col[c] = arena_alloc(mem, n_hits * sizeof *col[c]);
	for (size_t i = 0, end; i < n_hits; i = end) {
		uint32_t refused = 0;

		for (end = i; end < n_hits && by_key(&hit[i], &hit[end]) == 0; end++)
			if (hit[end].c->limit.refused > refused)
				refused = hit[end].c->limit.refused;
		col[0][n] = DB_INT(hit[i].c->route->id);
		col[1][n] = DB_INT(hit[i].entity_id);
		col[2][n] = DB_STR(hit[i].w->ev.user.id);
		col[3][n] = DB_TIME(minute_of(hit[i].c->limit.at_ms));
		col[4][n] = DB_STR(ids(mem, &hit[i], end - i, true));
		col[5][n] = DB_STR(ids(mem, &hit[i], end - i, false));
		col[6][n++] = DB_INT(refused);
	}
	for (size_t c = 0; c < COLUMNS; c++)
		param[c] = DB_ARRAY(col[c], n);
	return db_tx_send(tx, NULL, NULL,
	                  "INSERT INTO rate_limits AS r (command_id, entity_id, user_id, window_start, request_count, "
	                  "rejected_count, hits, refused) "
	                  "SELECT command_id, entity_id, user_id, window_start, "
	                  "(SELECT count(*) FROM jsonb_object_keys(hits)), rejected, hits, refused "
	                  "FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::timestamptz[], $5::jsonb[], "
	                  "$6::jsonb[], $7::integer[]) "
	                  "AS t(command_id, entity_id, user_id, window_start, hits, refused, rejected) "
	                  "ON CONFLICT (command_id, entity_id, user_id, window_start) DO UPDATE SET "
	                  "request_count = (SELECT count(*) FROM jsonb_object_keys(r.hits || excluded.hits)), "
	                  "rejected_count = greatest(r.rejected_count, excluded.rejected_count), "
	                  "hits = r.hits || excluded.hits, refused = r.refused || excluded.refused",
	                  param, COLUMNS);
}

/* ------------------------------------------------------------------------------------------ */

void limits_forget(struct limits *l, int32_t partition)
{
	window_forget(l->windows, partition);
}

struct limits *limits_open(struct router *r)
{
	struct limits *l = XNEW(struct limits);

	l->r = r;
	l->windows = windows_open((size_t)r->settings->limit_keys, WINDOW_MS);
	list_init(&l->wanted);
	service_on_turn(r->s, turn, l);
	return l;
}

/* After intake_close(). */
void limits_close(struct limits *l)
{
	struct list *n;

	if (l == NULL)
		return;
	service_off_turn(l->r->s, turn, l);
	timer_stop(&l->retry);
	while ((n = list_pop(&l->wanted)) != NULL)
		want_free(l, CONTAINER_OF(n, struct want, node));
	windows_close(l->windows);
	free(l);
}

/* inbox.c - see inbox.h.
 *
 * One statement stores, one marks; while one is out the next one fills.  Rows go in the order of
 * their keys, so that two replicas that are given the same events wait for each other in one
 * direction only.  A key that is there already keeps its row: RETURNING tells whose it is. */
#include "inbox.h"
#include "clock.h"
#include "err.h"
#include "hash.h"
#include "log.h"
#include "metrics.h"
#include "service.h"

enum { LOAD_EVENTS = 512, LOAD_KEYS = 2 * LOAD_EVENTS, MARK_KEYS = 2048, STATEMENT_MS = 4000, TIDY_MS = 60000,
       FIRST_MAX = 128 * 4 };           /* an event id in bytes */
enum { FLIGHT_MAGIC = 0x666c6774 };

static const char *const result_names[] = { "new", "known", "later", "too_large" };
METRIC_BY(results, METRIC_COUNTER, "waddle_router_inbox_events_total", "Events posted over HTTP, by what became of them.",
          "result", result_names);
METRIC(in_flight, METRIC_GAUGE, "waddle_router_inbox_in_flight", "Events posted over HTTP and not answered.");
METRIC(load_rows, METRIC_HISTOGRAM, "waddle_router_inbox_rows", "Events in one statement of the inbox.");
METRIC(unmarked, METRIC_COUNTER, "waddle_router_inbox_unmarked_total",
       "Published events whose row could not be marked: a repetition publishes them again.");
struct metric *const inbox_metrics[] = { &results, &in_flight, &load_rows, &unmarked, NULL };

enum flight_state { FLIGHT_WAITING, FLIGHT_QUEUED, FLIGHT_STORING, FLIGHT_SENDING, FLIGHT_MARKING };

struct key { struct hash_node by_text; struct str text; struct inbox_flight *flight; };

struct inbox_flight {
	unsigned            magic;
	enum flight_state   state;
	struct list         node;       /* of another flight's followers, the queue, a load, the marks */
	struct list         followers;  /* the same key, later */
	struct inbox       *in;
	const struct event *ev;         /* NULL: forgotten */
	struct str          trace;
	inbox_done         *done;
	void               *arg;
	bool                claimed;    /* its keys are in the table */
	enum inbox_result   what;
	bool                follows;    /* another one with one of its keys: never the first itself */
	bool                published;  /* the first one */
	int64_t             asked_at_ms, received_at_ms;        /* this attempt's, the first one's */
	struct str          first;      /* event id of the first one: key[0] or in first_room */
	char               *first_room;
	size_t              n_keys;     /* 1: both keys are the same */
	struct key          key[2];     /* event_id, dedupe_key */
	char                text[];     /* of the keys, then of first */
};

struct load {                           /* what is in the statement that stores */
	struct list flights;
	size_t      n_keys;
	struct key *key[LOAD_KEYS];     /* in the order of the rows */
};

struct inbox {
	struct router    *r;
	struct hash_table keys;
	struct list       queue, marks, marking;
	struct load       load;
	struct timer      tidy;
	bool              storing, busy_marking, scheduled;
};

static void schedule(struct inbox *in);

/* --- one flight ------------------------------------------------------------------------------ */

static struct key *find(const struct inbox *in, struct str text)
{
	for (struct hash_node *n = hash_find(&in->keys, hash_of(text)); n != NULL; n = hash_next(n)) {
		struct key *k = CONTAINER_OF(n, struct key, by_text);

		if (str_eq(k->text, text))
			return k;
	}
	return NULL;
}

static void enqueue(struct inbox_flight *f)
{
	struct inbox *in = f->in;

	for (size_t i = 0; i < f->n_keys; i++) {
		struct key *k = find(in, f->key[i].text);

		if (k != NULL) {
			f->state = FLIGHT_WAITING;
			f->follows = true;
			list_add_tail(&k->flight->followers, &f->node);
			return;
		}
	}
	for (size_t i = 0; i < f->n_keys; i++)
		hash_add(&in->keys, &f->key[i].by_text, hash_of(f->key[i].text));
	f->claimed = true;
	f->state = FLIGHT_QUEUED;
	list_add_tail(&in->queue, &f->node);
	schedule(in);
}

static void release(struct inbox_flight *f)
{
	struct list followers;

	list_init(&followers);
	for (size_t i = 0; f->claimed && i < f->n_keys; i++)
		hash_del(&f->in->keys, &f->key[i].by_text);
	while (!list_empty(&f->followers))
		list_move(&followers, f->followers.next);
	list_del(&f->node);
	metric_add(&in_flight, 0, (uint64_t)-1);
	while (!list_empty(&followers))
		enqueue(CONTAINER_OF(list_pop(&followers), struct inbox_flight, node));
	NOT_A_MORE(f, FLIGHT_MAGIC);
	free(f);
}

static void finish(struct inbox_flight *f, enum inbox_result what)
{
	metric_add(&results, what, 1);
	if (f->ev != NULL)
		f->done(f->arg, what, f->first, f->received_at_ms);
	release(f);
}

struct inbox_flight *inbox_add(struct inbox *in, const struct event *ev, struct str trace, inbox_done *done,
                               void *arg)
{
	bool same = str_eq(ev->event_id, ev->dedupe_key);
	struct inbox_flight *f = xnew_(1, sizeof(*f) + ev->event_id.n + ev->dedupe_key.n + FIRST_MAX);
	char *at = f->text;

	MAKE_A(f, FLIGHT_MAGIC);
	f->in = in;
	f->ev = ev;
	f->trace = trace;
	f->done = done;
	f->arg = arg;
	f->asked_at_ms = f->received_at_ms = ev->received_at_ms;
	list_init(&f->node);
	list_init(&f->followers);
	f->n_keys = same ? 1 : 2;
	for (size_t i = 0; i < f->n_keys; i++) {
		struct str text = i == 0 ? ev->event_id : ev->dedupe_key;

		memcpy(at, text.p, text.n);
		f->key[i] = (struct key){ .text = { at, text.n }, .flight = f };
		at += text.n;
	}
	f->first = f->key[0].text;
	f->first_room = at;
	metric_add(&in_flight, 0, 1);
	enqueue(f);
	return f;
}

void inbox_forget(struct inbox_flight *f)
{
	IS_A(f, FLIGHT_MAGIC);
	f->ev = NULL;
	f->trace = STR_NONE;
	if (f->state == FLIGHT_WAITING || f->state == FLIGHT_QUEUED)
		release(f);
}

/* --- publishing -------------------------------------------------------------------------------- */

static void sent(void *arg, const struct err *err)
{
	struct inbox_flight *f = arg;
	struct inbox *in = f->in;

	IS_A(f, FLIGHT_MAGIC);
	if (err != NULL) {
		finish(f, INBOX_LATER);
		return;
	}
	f->state = FLIGHT_MARKING;
	list_add_tail(&in->marks, &f->node);
	schedule(in);
}

static void publish(struct inbox_flight *f)
{
	struct event ev;
	struct envelope env = { .kind = ENV_EVENT, .source = STR("waddle/router"), .traceparent = f->trace };
	int r;

	if (f->ev == NULL) {                    /* answered with 503: its repetition will */
		finish(f, INBOX_LATER);
		return;
	}
	ev = *f->ev;
	ev.event_id = f->first;
	ev.received_at_ms = f->received_at_ms;
	f->state = FLIGHT_SENDING;
	r = envelope_send(f->in->r->bus, "waddle.events", ev.entity, &env, &ev, sent, f);
	if (r != 0)
		finish(f, r == -EMSGSIZE ? INBOX_TOO_LARGE : INBOX_LATER);
}

/* --- the two statements ------------------------------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
	const struct key *x = *(struct key *const *)a, *y = *(struct key *const *)b;
	size_t n = x->text.n < y->text.n ? x->text.n : y->text.n;
	int d = memcmp(x->text.p, y->text.p, n);

	return d != 0 ? d : (x->text.n > y->text.n) - (x->text.n < y->text.n);
}

/* The row of a key says whose it is.  An event is new when all its keys are its own, from this
 * attempt; one repeated after a lost answer of the database therefore still is. */
static void compare(struct inbox_flight *f, const struct db_result *res, int row)
{
	struct str id = db_str(res, row, 1);
	int64_t at_ms = db_time(res, row, 2);

	if (f->what == INBOX_KNOWN && !str_eq(f->first, f->key[0].text))
		return;                         /* another key has told already */
	if (id.n > FIRST_MAX || (!f->follows && str_eq(id, f->key[0].text) && at_ms == f->asked_at_ms))
		return;
	f->what = INBOX_KNOWN;
	f->received_at_ms = at_ms;
	f->published = db_bool(res, row, 3);
	memcpy(f->first_room, id.p, id.n);
	f->first = (struct str){ f->first_room, id.n };
}

static void stored(void *arg, const struct db_result *res, const struct err *err)
{
	struct inbox *in = arg;
	struct load *l = &in->load;
	bool whole = err == NULL && (size_t)db_rows(res) == l->n_keys;
	struct list flights;

	for (size_t i = 0; whole && i < l->n_keys; i++)
		whole = str_eq(db_str(res, (int)i, 0), l->key[i]->text);
	for (size_t i = 0; whole && i < l->n_keys; i++)
		compare(l->key[i]->flight, res, (int)i);
	if (!whole)
		log_rarely(5000, L_WARN, NULL, "inbox_unstored", "posted events are refused for now: %s",
		           err != NULL ? err->text : "rows of another order");
	list_init(&flights);
	while (!list_empty(&l->flights))
		list_move(&flights, l->flights.next);
	in->storing = false;
	while (!list_empty(&flights)) {
		struct inbox_flight *f = CONTAINER_OF(list_pop(&flights), struct inbox_flight, node);

		if (!whole)
			finish(f, INBOX_LATER);
		else if (f->what == INBOX_KNOWN && f->published)
			finish(f, INBOX_KNOWN);
		else
			publish(f);
	}
	schedule(in);
}

static void store(struct inbox *in)
{
	struct load *l = &in->load;
	struct db_param key[LOAD_KEYS], id[LOAD_KEYS], at[LOAD_KEYS];
	size_t events = 0;

	l->n_keys = 0;
	for (; events < LOAD_EVENTS && !list_empty(&in->queue); events++) {
		struct inbox_flight *f = CONTAINER_OF(in->queue.next, struct inbox_flight, node);

		list_move(&l->flights, &f->node);
		f->state = FLIGHT_STORING;
		for (size_t i = 0; i < f->n_keys; i++)
			l->key[l->n_keys++] = &f->key[i];
	}
	metric_observe(&load_rows, 0, (int64_t)events);
	qsort(l->key, l->n_keys, sizeof(struct key *), by_text);
	for (size_t i = 0; i < l->n_keys; i++) {
		const struct inbox_flight *f = l->key[i]->flight;

		key[i] = DB_STR(l->key[i]->text);
		id[i] = DB_STR(f->key[0].text);
		at[i] = DB_TIME(f->asked_at_ms);
	}
	in->storing = true;
	if (db_query(in->r->db, ((struct db_opts){ .to = DB_WRITE, .timeout_ms = STATEMENT_MS }), stored, in,
	             "INSERT INTO router_inbox (key, event_id, received_at) "
	             "SELECT k, e, t FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS u(k, e, t) "
	             "ON CONFLICT (key) DO UPDATE SET created_at = router_inbox.created_at "
	             "RETURNING key, event_id, received_at, published",
	             DB_ARRAY(key, l->n_keys), DB_ARRAY(id, l->n_keys), DB_ARRAY(at, l->n_keys)) != 0) {
		struct err err = { 0 };

		(void)!err_set(&err, -EAGAIN, "too many statements wait");
		stored(in, NULL, &err);
	}
}

static void marked(void *arg, const struct db_result *res, const struct err *err)
{
	struct inbox *in = arg;
	struct list flights;

	(void)res;
	list_init(&flights);
	while (!list_empty(&in->marking))
		list_move(&flights, in->marking.next);
	in->busy_marking = false;
	while (!list_empty(&flights)) {
		struct inbox_flight *f = CONTAINER_OF(list_pop(&flights), struct inbox_flight, node);

		if (err != NULL)
			metric_add(&unmarked, 0, 1);
		finish(f, f->what);             /* the broker has it, come what may */
	}
	schedule(in);
}

static void mark(struct inbox *in)
{
	struct db_param key[MARK_KEYS];
	size_t n = 0;

	while (!list_empty(&in->marks) && n + 3 <= MARK_KEYS) {
		struct inbox_flight *f = CONTAINER_OF(in->marks.next, struct inbox_flight, node);

		list_move(&in->marking, &f->node);
		for (size_t i = 0; i < f->n_keys; i++)
			key[n++] = DB_STR(f->key[i].text);
		if (f->first.p == f->first_room)
			key[n++] = DB_STR(f->first);
	}
	in->busy_marking = true;
	if (db_query(in->r->db, ((struct db_opts){ .to = DB_WRITE, .timeout_ms = STATEMENT_MS }), marked, in,
	             "UPDATE router_inbox SET published = true WHERE key = ANY ($1::text[]) AND NOT published",
	             DB_ARRAY(key, n)) != 0) {
		struct err err = { 0 };

		(void)!err_set(&err, -EAGAIN, "too many statements wait");
		marked(in, NULL, &err);
	}
}

static void turn(void *arg)
{
	struct inbox *in = arg;

	in->scheduled = false;
	if (!in->storing && !list_empty(&in->queue))
		store(in);
	if (!in->busy_marking && !list_empty(&in->marks))
		mark(in);
}

/* At the end of this loop turn: what it brought goes together. */
static void schedule(struct inbox *in)
{
	if (in->scheduled || db_closing(in->r->db))
		return;
	in->scheduled = true;
	service_later(in->r->s, turn, in);
}

/* --- the store's end of life ---------------------------------------------------------------------- */

static void tidy(void *arg)
{
	struct inbox *in = arg;

	timer_start(in->r->s, &in->tidy, TIDY_MS, tidy, in);
	/* The block range index finds them; a repetition after a week is a new event. */
	(void)!db_query(in->r->db, ((struct db_opts){ .to = DB_WRITE }), NULL, NULL,
	                "DELETE FROM router_inbox WHERE ctid = ANY (ARRAY(SELECT ctid FROM router_inbox "
	                "WHERE created_at < now() - interval '7 days' LIMIT 20000 FOR UPDATE SKIP LOCKED))");
}

struct inbox *inbox_open(struct router *r)
{
	struct inbox *in = XNEW(struct inbox);

	in->r = r;
	list_init(&in->queue);
	list_init(&in->marks);
	list_init(&in->marking);
	list_init(&in->load.flights);
	timer_start(r->s, &in->tidy, TIDY_MS, tidy, in);
	return in;
}

static void drop_all(struct list *l)
{
	while (!list_empty(l))
		release(CONTAINER_OF(list_pop(l), struct inbox_flight, node));
}

void inbox_close(struct inbox *in)
{
	if (in == NULL)
		return;
	timer_stop(&in->tidy);
	drop_all(&in->marks);
	drop_all(&in->queue);
	hash_clear(&in->keys);
	free(in);
}

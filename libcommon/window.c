/* window.c - per key two rising arrays of stamps; keys in a table, by group and, when idle, by use. */
#include "window.h"

#include "hash.h"
#include "list.h"
#include "metrics.h"

enum { WINDOWS_MAGIC = 0x11a1700, KEY_MAGIC = 0x11a1701, FIRST_STAMPS = 4, GROUPS = 64, STAMPS_PER_KEY = 16 };

struct stamps { struct window_stamp *at; size_t first, n, cap; };

struct window_key {
	unsigned magic;
	struct hash_node node;
	struct list idle, group;        /* idle: linked while nobody holds it */
	int number;                     /* of its group */
	unsigned refs;
	bool forgotten;
	int64_t from_ms;                /* everything since then is known; INT64_MAX: nothing */
	int64_t seen_ms;                /* newest instant, admitted or not */
	struct stamps admitted, refused;
	int64_t slot_ms;                /* a multiple of the window, which n_refused counts */
	uint32_t n_refused;
	void *user;
	size_t key_n;
	char key[];
};

struct windows {
	unsigned magic;
	size_t max_keys, stamps;
	int64_t window_ms;
	struct hash_table keys;
	struct list idle;               /* first: used last */
	struct list group[GROUPS];
};

METRIC(evicted, METRIC_COUNTER, "waddle_window_evicted_total",
       "Rate limit keys forgotten because there were too many; they are read again when needed.");
METRIC(held, METRIC_GAUGE, "waddle_window_keys", "Rate limit keys in memory.");
struct metric *const window_metrics[] = { &evicted, &held, NULL };

static struct window_key *key_find(const struct windows *l, struct str key, int group, uint64_t hash)
{
	for (struct hash_node *n = hash_find(&l->keys, hash); n != NULL; n = hash_next(n)) {
		struct window_key *k = CONTAINER_OF(n, struct window_key, node);

		if (k->number == group && str_eq((struct str){ k->key, k->key_n }, key))
			return k;
	}
	return NULL;
}

static void key_unlink(struct windows *l, struct window_key *k)
{
	hash_del(&l->keys, &k->node);
	list_del(&k->group);
	metric_set(&held, 0, (int64_t)l->keys.n);
}

static void key_free(struct windows *l, struct window_key *k)
{
	l->stamps -= k->admitted.cap + k->refused.cap;
	free(k->admitted.at);
	free(k->refused.at);
	NOT_A_MORE(k, KEY_MAGIC);
	free(k);
}

static void evict(struct windows *l)
{
	struct list *n;

	while ((l->keys.n > l->max_keys || l->stamps > l->max_keys * STAMPS_PER_KEY) && !list_empty(&l->idle)) {
		struct window_key *k;

		n = l->idle.prev;
		k = CONTAINER_OF(n, struct window_key, idle);
		list_del(n);
		key_unlink(l, k);
		key_free(l, k);
		metric_add(&evicted, 0, 1);
	}
}

struct windows *windows_open(size_t max_keys, int64_t window_ms)
{
	struct windows *l = XNEW(struct windows);

	ASSERT(max_keys > 0 && window_ms > 0);
	MAKE_A(l, WINDOWS_MAGIC);
	l->max_keys = max_keys;
	l->window_ms = window_ms;
	list_init(&l->idle);
	for (int i = 0; i < GROUPS; i++)
		list_init(&l->group[i]);
	return l;
}

void windows_close(struct windows *l)
{
	if (l == NULL)
		return;
	IS_A(l, WINDOWS_MAGIC);
	for (int i = 0; i < GROUPS; i++)
		LIST_EACH(n, tmp, &l->group[i]) {
			struct window_key *k = CONTAINER_OF(n, struct window_key, group);

			key_unlink(l, k);
			key_free(l, k);
		}
	hash_clear(&l->keys);
	NOT_A_MORE(l, WINDOWS_MAGIC);
	free(l);
}

struct window_key *window_hold(struct windows *l, struct str key, int group)
{
	uint64_t hash = hash_of(key);
	struct window_key *k = key_find(l, key, group, hash);

	IS_A(l, WINDOWS_MAGIC);
	if (k == NULL) {
		k = xnew_(1, sizeof *k + key.n);
		MAKE_A(k, KEY_MAGIC);
		list_init(&k->idle);
		list_init(&k->group);
		k->number = group;
		k->from_ms = INT64_MAX;
		k->seen_ms = k->slot_ms = INT64_MIN;
		k->key_n = key.n;
		if (key.n > 0)
			memcpy(k->key, key.p, key.n);
		hash_add(&l->keys, &k->node, hash);
		list_add_tail(&l->group[(unsigned)group % GROUPS], &k->group);
		metric_set(&held, 0, (int64_t)l->keys.n);
	}
	if (k->refs++ == 0)
		list_del(&k->idle);
	return k;
}

void window_drop(struct windows *l, struct window_key *k)
{
	if (k == NULL)
		return;
	IS_A(k, KEY_MAGIC);
	ASSERT(k->refs > 0);
	if (--k->refs > 0)
		return;
	if (k->forgotten) {
		key_free(l, k);
		return;
	}
	list_add_head(&l->idle, &k->idle);
	evict(l);
}

void **window_user(struct window_key *k)
{
	IS_A(k, KEY_MAGIC);
	return &k->user;
}

bool window_knows(const struct window_key *k, int64_t at_ms)
{
	IS_A(k, KEY_MAGIC);
	return k->from_ms <= at_ms;
}

bool window_gone(const struct window_key *k)
{
	IS_A(k, KEY_MAGIC);
	return k->forgotten;
}

void window_forget(struct windows *l, int group)
{
	IS_A(l, WINDOWS_MAGIC);
	LIST_EACH(n, tmp, &l->group[(unsigned)group % GROUPS]) {
		struct window_key *k = CONTAINER_OF(n, struct window_key, group);

		if (k->number != group)
			continue;
		key_unlink(l, k);
		k->forgotten = true;
		if (k->refs == 0) {
			list_del(&k->idle);
			key_free(l, k);
		}
	}
}

size_t windows_keys(const struct windows *l)
{
	return l->keys.n;
}

/* ---- stamps ------------------------------------------------------------------------------ */

/* Room for one more behind the last: by moving up when half is free, else by doubling. */
static void stamps_add(struct windows *l, struct stamps *s, struct window_stamp one)
{
	struct window_stamp *more;

	if (s->first + s->n == s->cap) {
		if (s->cap > 0 && s->n <= s->cap / 2) {
			memmove(s->at, s->at + s->first, s->n * sizeof *s->at);
		} else {
			size_t cap = s->cap == 0 ? FIRST_STAMPS : s->cap * 2;

			more = XNEW_N(struct window_stamp, cap);
			if (s->n > 0)
				memcpy(more, s->at + s->first, s->n * sizeof *more);
			free(s->at);
			s->at = more;
			l->stamps += cap - s->cap;
			s->cap = cap;
		}
		s->first = 0;
	}
	s->at[s->first + s->n++] = one;
}

static void stamps_expire(struct stamps *s, int64_t before_ms)
{
	while (s->n > 0 && s->at[s->first].at_ms < before_ms) {
		s->first++;
		s->n--;
	}
	if (s->n == 0)
		s->first = 0;
}

static const struct window_stamp *stamps_find(const struct stamps *s, uint64_t id, int64_t since_ms)
{
	for (size_t i = s->n; i-- > 0 && s->at[s->first + i].at_ms >= since_ms;)
		if (s->at[s->first + i].id == id)
			return &s->at[s->first + i];
	return NULL;
}

static int by_time(const void *a, const void *b)
{
	const struct window_stamp *x = a, *y = b;

	return (x->at_ms > y->at_ms) - (x->at_ms < y->at_ms);
}

/* In front of what is there: older than `before`. */
static void stamps_learn(struct windows *l, struct stamps *s, struct window_stamp *old, size_t n, int64_t before_ms)
{
	struct stamps all = { 0 };

	if (n == 0)
		return;
	qsort(old, n, sizeof *old, by_time);
	for (size_t i = 0; i < n && old[i].at_ms < before_ms; i++)
		stamps_add(l, &all, old[i]);
	for (size_t i = 0; i < s->n; i++)
		stamps_add(l, &all, s->at[s->first + i]);
	l->stamps -= s->cap;
	free(s->at);
	*s = all;
}

static int64_t newest(const struct stamps *s)
{
	return s->n > 0 ? s->at[s->first + s->n - 1].at_ms : INT64_MIN;
}

void window_learn(struct windows *l, struct window_key *k, struct window_past *past)
{
	IS_A(k, KEY_MAGIC);
	if (past->from_ms >= k->from_ms)
		return;
	stamps_learn(l, &k->admitted, past->admitted, past->n_admitted, k->from_ms);
	stamps_learn(l, &k->refused, past->turned_away, past->n_turned_away, k->from_ms);
	k->from_ms = past->from_ms;
	if (newest(&k->admitted) > k->seen_ms)
		k->seen_ms = newest(&k->admitted);
	if (newest(&k->refused) > k->seen_ms)
		k->seen_ms = newest(&k->refused);
	if (past->refused > 0 && past->slot_ms > k->slot_ms) {
		k->slot_ms = past->slot_ms;
		k->n_refused = past->refused;
		if (past->slot_ms > k->seen_ms)
			k->seen_ms = past->slot_ms;
	}
}

/* ---- taking ------------------------------------------------------------------------------ */

/* 0, or how long until one of max, counted at t, has left the window. */
static int64_t wait_for(const struct windows *l, const struct stamps *s, uint32_t max, int64_t t_ms)
{
	const struct window_stamp *oldest;

	if (s->n < max)
		return 0;
	oldest = &s->at[s->first + s->n - max];
	return oldest->at_ms > t_ms - l->window_ms ? oldest->at_ms + l->window_ms - t_ms : 0;
}

struct window_answer window_take(struct windows *l, struct window_key *k, uint32_t max, uint64_t id, int64_t at_ms,
                               int64_t since_ms)
{
	int64_t t = at_ms > k->seen_ms ? at_ms : k->seen_ms, slot = t - t % l->window_ms, wait;
	const struct window_stamp *before;

	IS_A(k, KEY_MAGIC);
	ASSERT(max > 0 && window_knows(k, at_ms));
	before = stamps_find(&k->admitted, id, since_ms);
	if (before != NULL)
		return (struct window_answer){ .at_ms = before->at_ms, .again = true };
	wait = wait_for(l, &k->admitted, max, t);
	before = stamps_find(&k->refused, id, since_ms);
	if (before != NULL)
		return (struct window_answer){ .wait_ms = wait > 0 ? wait : 1, .at_ms = before->at_ms, .again = true };

	k->seen_ms = t;
	if (slot != k->slot_ms) {
		k->slot_ms = slot;
		k->n_refused = 0;
	}
	/* Twice the window, so that an event a little late needs no look into the store. */
	if (t - 2 * l->window_ms > k->from_ms) {
		k->from_ms = t - 2 * l->window_ms;
		stamps_expire(&k->admitted, k->from_ms);
		stamps_expire(&k->refused, k->from_ms);
	}
	if (wait == 0) {
		stamps_add(l, &k->admitted, (struct window_stamp){ t, id });
		return (struct window_answer){ .at_ms = t };
	}
	if (++k->n_refused <= WINDOW_REFUSED_IDS)
		stamps_add(l, &k->refused, (struct window_stamp){ t, id });
	return (struct window_answer){ .wait_ms = wait, .at_ms = t, .refused = k->n_refused };
}

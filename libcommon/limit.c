/* limit.c - per key a sorted array of accepted instants; keys in a table and on a list by use. */
#include "limit.h"

#include "hash.h"
#include "list.h"
#include "metrics.h"

enum { LIMIT_MAGIC = 0x11a1700, KEY_MAGIC = 0x11a1701, FIRST_STAMPS = 4 };

struct limit_key {
	unsigned magic;
	struct hash_node node;
	struct list by_use;
	int64_t window_ms; /* of the rule it was last judged by */
	int64_t *stamps;   /* stamps[first] .. stamps[first + n - 1], rising */
	size_t first, n, cap;
	size_t key_n;
	char key[];
};

struct limit {
	unsigned magic;
	size_t max_keys;
	struct hash_table keys;
	struct list by_use; /* first: used last */
};

METRIC(evicted, METRIC_COUNTER, "waddle_limit_evicted_total",
       "Rate limit keys forgotten before their window was over because there were too many.");
METRIC(held, METRIC_GAUGE, "waddle_limit_keys", "Rate limit keys held in memory.");
struct metric *const limit_metrics[] = { &evicted, &held, NULL };

static void count_keys(int64_t n)
{
	metric_set(&held, 0, (int64_t)held.cells[0].value + n);
}

static struct str key_text(const struct limit_key *k)
{
	return (struct str){ k->key, k->key_n };
}

static struct limit_key *key_find(const struct limit *l, struct str key, uint64_t hash)
{
	for (struct hash_node *n = hash_find(&l->keys, hash); n != NULL; n = hash_next(n)) {
		struct limit_key *k = CONTAINER_OF(n, struct limit_key, node);

		if (str_eq(key_text(k), key))
			return k;
	}
	return NULL;
}

static void key_free(struct limit *l, struct limit_key *k)
{
	hash_del(&l->keys, &k->node);
	list_del(&k->by_use);
	count_keys(-1);
	free(k->stamps);
	NOT_A_MORE(k, KEY_MAGIC);
	free(k);
}

static int64_t newest(const struct limit_key *k)
{
	return k->stamps[k->first + k->n - 1];
}

static void evict(struct limit *l, int64_t now_ms)
{
	struct limit_key *k = CONTAINER_OF(l->by_use.prev, struct limit_key, by_use);

	if (k->n > 0 && newest(k) > now_ms - k->window_ms)
		metric_add(&evicted, 0, 1);
	key_free(l, k);
}

static struct limit_key *key_make(struct limit *l, struct str key, uint64_t hash, int64_t now_ms)
{
	struct limit_key *k = key_find(l, key, hash);

	if (k == NULL) {
		if (l->keys.n >= l->max_keys)
			evict(l, now_ms);
		k = xnew_(1, sizeof *k + key.n);
		MAKE_A(k, KEY_MAGIC);
		list_init(&k->by_use);
		k->key_n = key.n;
		if (key.n > 0)
			memcpy(k->key, key.p, key.n);
		hash_add(&l->keys, &k->node, hash);
		count_keys(1);
	}
	list_del(&k->by_use);
	list_add_head(&l->by_use, &k->by_use);
	return k;
}

struct limit *limit_open(size_t max_keys)
{
	struct limit *l = XNEW(struct limit);

	ASSERT(max_keys > 0);
	MAKE_A(l, LIMIT_MAGIC);
	l->max_keys = max_keys;
	list_init(&l->by_use);
	return l;
}

void limit_close(struct limit *l)
{
	if (l == NULL)
		return;
	IS_A(l, LIMIT_MAGIC);
	while (!list_empty(&l->by_use))
		key_free(l, CONTAINER_OF(l->by_use.next, struct limit_key, by_use));
	hash_clear(&l->keys);
	NOT_A_MORE(l, LIMIT_MAGIC);
	free(l);
}

/* Room for one more behind the last: by moving up when half is free, else by doubling. */
static void stamps_reserve(struct limit_key *k)
{
	int64_t *more;

	if (k->first + k->n < k->cap)
		return;
	if (k->cap > 0 && k->n <= k->cap / 2) {
		memmove(k->stamps, k->stamps + k->first, k->n * sizeof *k->stamps);
	} else {
		k->cap = k->cap == 0 ? FIRST_STAMPS : k->cap * 2;
		more = XNEW_N(int64_t, k->cap);
		if (k->n > 0)
			memcpy(more, k->stamps + k->first, k->n * sizeof *more);
		free(k->stamps);
		k->stamps = more;
	}
	k->first = 0;
}

/* Drops what has left the window of t: (t-W, t]. */
static void expire(struct limit_key *k, int64_t t_ms, int64_t window_ms)
{
	while (k->n > 0 && k->stamps[k->first] <= t_ms - window_ms) {
		k->first++;
		k->n--;
	}
	if (k->n == 0)
		k->first = 0;
}

/* The instant this take is judged at; wrong clocks are brought back to now on the way. */
static int64_t judged_at(struct limit_key *k, int64_t window_ms, int64_t now_ms)
{
	if (k->n == 0 || newest(k) <= now_ms)
		return now_ms;
	if (newest(k) - now_ms <= window_ms)
		return newest(k);
	for (size_t i = k->n; i-- > 0 && k->stamps[k->first + i] > now_ms;)
		k->stamps[k->first + i] = now_ms;
	return now_ms;
}

static int64_t wait_for(const int64_t *stamps, size_t n, struct limit_rule rule, int64_t now_ms)
{
	if (rule.max == 0)
		return rule.window_ms;
	if (n < rule.max)
		return 0;
	return stamps[n - rule.max] + rule.window_ms - now_ms;
}

int64_t limit_take(struct limit *l, struct str key, struct limit_rule rule, int64_t now_ms)
{
	struct limit_key *k;
	int64_t t, wait;

	IS_A(l, LIMIT_MAGIC);
	ASSERT(rule.window_ms > 0);
	k = key_make(l, key, hash_of(key), now_ms);
	k->window_ms = rule.window_ms;
	t = judged_at(k, rule.window_ms, now_ms);
	expire(k, t, rule.window_ms);
	wait = wait_for(k->stamps + k->first, k->n, rule, now_ms);
	if (wait > 0)
		return wait;
	stamps_reserve(k);
	k->stamps[k->first + k->n++] = t;
	return 0;
}

int64_t limit_peek(const struct limit *l, struct str key, struct limit_rule rule, int64_t now_ms)
{
	const struct limit_key *k;
	int64_t t = now_ms, wait;
	size_t gone = 0;

	IS_A(l, LIMIT_MAGIC);
	k = key_find(l, key, hash_of(key));
	if (k == NULL || k->n == 0)
		return wait_for(NULL, 0, rule, now_ms);
	if (newest(k) > now_ms && newest(k) - now_ms <= rule.window_ms)
		t = newest(k);
	while (gone < k->n && k->stamps[k->first + gone] <= t - rule.window_ms)
		gone++;
	wait = wait_for(k->stamps + k->first + gone, k->n - gone, rule, now_ms);
	return t == now_ms && wait > rule.window_ms ? rule.window_ms : wait; /* wrong clock: as now */
}

void limit_give_back(struct limit *l, struct str key)
{
	struct limit_key *k;

	IS_A(l, LIMIT_MAGIC);
	k = key_find(l, key, hash_of(key));
	if (k == NULL || k->n == 0)
		return;
	k->n--;
}

size_t limit_keys(const struct limit *l)
{
	return l->keys.n;
}

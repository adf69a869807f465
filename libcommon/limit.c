/* limit.c - per key a sorted array of accepted instants; keys in a table and on a list by use. */
#include "limit.h"

#include "hash.h"
#include "list.h"
#include "metrics.h"

enum { LIMIT_MAGIC = 0x11a1700, KEY_MAGIC = 0x11a1701, FIRST_STAMPS = 4 };

struct counts {
	int64_t start_ms;
	uint32_t accepted, refused;
};

struct limit_key {
	unsigned magic;
	struct hash_node node;
	struct list by_use, changed;
	int64_t window_ms; /* of the rule it was last judged by */
	int64_t seen_ms;   /* newest instant, accepted or not */
	int64_t *stamps;   /* stamps[first] .. stamps[first + n - 1], rising */
	size_t first, n, cap;
	struct counts now, before; /* before: an earlier window not exported yet */
	size_t key_n;
	char key[];
};

struct limit {
	unsigned magic;
	size_t max_keys;
	struct hash_table keys;
	struct list by_use; /* first: used last */
	struct list changed;
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
	if (list_linked(&k->changed))
		list_del(&k->changed);
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
		list_init(&k->changed);
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

static void mark_changed(struct limit *l, struct limit_key *k)
{
	if (!list_linked(&k->changed))
		list_add_tail(&l->changed, &k->changed);
}

struct limit *limit_open(size_t max_keys)
{
	struct limit *l = XNEW(struct limit);

	ASSERT(max_keys > 0);
	MAKE_A(l, LIMIT_MAGIC);
	l->max_keys = max_keys;
	list_init(&l->by_use);
	list_init(&l->changed);
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

/* The window the counts belong to; an earlier one is kept once, for the export. */
static void roll(struct limit_key *k, int64_t t_ms)
{
	int64_t start = t_ms - t_ms % k->window_ms;

	if (start == k->now.start_ms || (start < k->now.start_ms && k->now.start_ms - start <= k->window_ms))
		return;
	if (list_linked(&k->changed) && (k->now.accepted > 0 || k->now.refused > 0))
		k->before = k->now;
	k->now = (struct counts){ .start_ms = start };
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
	k->seen_ms = t;
	expire(k, t, rule.window_ms);
	roll(k, t);
	mark_changed(l, k);
	wait = wait_for(k->stamps + k->first, k->n, rule, now_ms);
	if (wait > 0) {
		k->now.refused++;
		return wait;
	}
	stamps_reserve(k);
	k->stamps[k->first + k->n++] = t;
	k->now.accepted++;
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
	if (k->now.accepted > 0)
		k->now.accepted--;
	mark_changed(l, k);
}

void limit_export(struct limit *l, struct str prefix, int64_t now_ms,
		  void (*fn)(void *arg, const struct limit_state *st), void *arg)
{
	IS_A(l, LIMIT_MAGIC);
	LIST_EACH (n, tmp, &l->changed) {
		struct limit_key *k = CONTAINER_OF(n, struct limit_key, changed);
		struct limit_state st = { .key = key_text(k), .window_ms = k->window_ms };

		if (!str_starts(st.key, prefix))
			continue;
		expire(k, now_ms < k->seen_ms ? now_ms : k->seen_ms, k->window_ms);
		if (k->before.accepted > 0 || k->before.refused > 0) {
			st.window_start_ms = k->before.start_ms;
			st.accepted = k->before.accepted;
			st.refused = k->before.refused;
			fn(arg, &st);
			k->before = (struct counts){ 0 };
		}
		st.window_start_ms = k->now.start_ms;
		st.accepted = k->now.accepted;
		st.refused = k->now.refused;
		st.stamps_ms = k->stamps + k->first;
		st.n_stamps = k->n;
		fn(arg, &st);
		list_del(&k->changed);
	}
}

/* Merges two rising arrays; *ret_only_ours counts ours at or after `since` the other has not. */
static size_t merge(const int64_t *a, size_t na, const int64_t *b, size_t nb, int64_t since, int64_t *out,
		    uint32_t *ret_only_ours)
{
	size_t i = 0, j = 0, n = 0;

	*ret_only_ours = 0;
	while (i < na || j < nb) {
		bool ours = j == nb || (i < na && a[i] < b[j]);
		bool both = i < na && j < nb && a[i] == b[j];

		if (ours && a[i] >= since)
			++*ret_only_ours;
		out[n++] = ours ? a[i] : b[j];
		i += ours || both;
		j += !ours;
	}
	return n;
}

void limit_import(struct limit *l, const struct limit_state *st)
{
	struct limit_key *k;
	int64_t *all;
	uint32_t only_ours;

	IS_A(l, LIMIT_MAGIC);
	ASSERT(st->window_ms > 0);
	k = key_make(l, st->key, hash_of(st->key), st->window_start_ms);
	all = XNEW_N(int64_t, k->n + st->n_stamps + 1);
	k->cap = k->n + st->n_stamps + 1;
	k->n = merge(k->n > 0 ? k->stamps + k->first : NULL, k->n, st->stamps_ms, st->n_stamps,
		     st->window_start_ms, all, &only_ours);
	free(k->stamps);
	k->stamps = all;
	k->first = 0;
	if (st->window_start_ms >= k->now.start_ms) {
		uint32_t refused = st->window_start_ms == k->now.start_ms && k->now.refused > st->refused
					   ? k->now.refused
					   : st->refused;

		k->now = (struct counts){ st->window_start_ms, st->accepted + only_ours, refused };
	}
	if (k->window_ms == 0)
		k->window_ms = st->window_ms;
	if (k->n > 0 && newest(k) > k->seen_ms)
		k->seen_ms = newest(k);
}

void limit_forget(struct limit *l, struct str prefix)
{
	IS_A(l, LIMIT_MAGIC);
	LIST_EACH (n, tmp, &l->by_use) {
		struct limit_key *k = CONTAINER_OF(n, struct limit_key, by_use);

		if (str_starts(key_text(k), prefix))
			key_free(l, k);
	}
}

size_t limit_keys(const struct limit *l)
{
	return l->keys.n;
}

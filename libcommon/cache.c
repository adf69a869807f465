/* cache.c - two tables (what we know, what is being fetched) and one list by last use. */
#include "cache.h"

#include "clock.h"
#include "crypto.h"
#include "err.h"
#include "hash.h"
#include "list.h"
#include "metrics.h"

enum {
	CACHE_MAGIC = 0x0cac4e00,
	ITEM_MAGIC = 0x0cac4e01,
	FETCH_MAGIC = 0x0cac4e02,
	MAX_WAITING = 10000,
	MAX_REPEATS = 4,
	USE_NOTED_MS = 1000,
};

/* What a lookup reads stands together, before the key. */
struct cache_item {
	struct list by_use;
	size_t bytes;
	void (*free_value)(void *value);
	unsigned magic;
	unsigned holds; /* one of them is the cache's while linked */
	struct hash_node node;
	int64_t born_ms, ttl_ms, used_ms; /* monotonic */
	void *value;                      /* NULL: there is none */
	size_t key_n;
	char key[];
};

struct waiter {
	struct list node;
	cache_got *got;
	void *arg;
	bool *told; /* of the cache_get() still running, or NULL */
};

struct fetch {
	unsigned magic;
	struct hash_node node;
	struct list all, waiters;
	bool again; /* its key was dropped meanwhile */
	unsigned repeats;
	size_t key_n;
	char key[];
};

struct cache {
	unsigned magic;
	struct cache_spec spec;
	struct hash_table items, fetches;
	struct list by_use; /* first: used last */
	struct list all_fetches;
	size_t bytes, waiting;
	int64_t max_age_ms;
	uint64_t dice;
	bool closing;
	struct cache_stats stats;
};

static const char *const results[] = { "hit", "none", "miss" };
enum { RESULT_HIT, RESULT_NONE, RESULT_MISS };
METRIC_BY(requests, METRIC_COUNTER, "waddle_cache_requests_total", "Lookups in the caches of this process.",
	  "result", results);
METRIC(evicted, METRIC_COUNTER, "waddle_cache_evicted_total",
       "Entries given up before their time because a cache was full.");
METRIC(failed, METRIC_COUNTER, "waddle_cache_failed_total", "Fetches of a missing entry that failed.");
METRIC(entries, METRIC_GAUGE, "waddle_cache_entries", "Entries in the caches of this process.");
METRIC(held_bytes, METRIC_GAUGE, "waddle_cache_bytes", "Bytes counted against the limits of the caches.");
struct metric *const cache_metrics[] = { &requests, &evicted, &failed, &entries, &held_bytes, NULL };

static void gauge_add(struct metric *m, int64_t n)
{
	metric_set(m, 0, (int64_t)m->cells[0].value + n);
}

static struct str item_key(const struct cache_item *it)
{
	return (struct str){ it->key, it->key_n };
}

static struct cache_item *item_find(const struct cache *c, struct str key, uint64_t hash)
{
	for (struct hash_node *n = hash_find(&c->items, hash); n != NULL; n = hash_next(n)) {
		struct cache_item *it = CONTAINER_OF(n, struct cache_item, node);

		if (it->key_n == key.n && memcmp(it->key, key.p, key.n) == 0)
			return it;
	}
	return NULL;
}

static struct fetch *fetch_find(const struct cache *c, struct str key, uint64_t hash)
{
	for (struct hash_node *n = hash_find(&c->fetches, hash); n != NULL; n = hash_next(n)) {
		struct fetch *f = CONTAINER_OF(n, struct fetch, node);

		if (str_eq((struct str){ f->key, f->key_n }, key))
			return f;
	}
	return NULL;
}

static void item_free(struct cache_item *it)
{
	if (it->value != NULL)
		it->free_value(it->value);
	NOT_A_MORE(it, ITEM_MAGIC);
	free(it);
}

void cache_release(struct cache_item *it)
{
	if (it == NULL)
		return;
	IS_A(it, ITEM_MAGIC);
	ASSERT(it->holds > 0);
	if (--it->holds == 0)
		item_free(it);
}

struct cache_item *cache_hold(struct cache_item *it)
{
	IS_A(it, ITEM_MAGIC);
	it->holds++;
	return it;
}

const void *cache_value(const struct cache_item *it)
{
	IS_A(it, ITEM_MAGIC);
	ASSERT(it->value != NULL);
	return it->value;
}

static void item_unlink(struct cache *c, struct cache_item *it)
{
	hash_del(&c->items, &it->node);
	list_del(&it->by_use);
	c->bytes -= it->bytes;
	gauge_add(&entries, -1);
	gauge_add(&held_bytes, -(int64_t)it->bytes);
	cache_release(it);
}

static bool item_stale(const struct cache *c, const struct cache_item *it, int64_t now)
{
	int64_t age = now - it->born_ms;

	return age >= it->ttl_ms || (c->max_age_ms > 0 && age >= c->max_age_ms);
}

/* +- 10 %: xorshift64*, fast and not secret. */
static int64_t spread(struct cache *c, int64_t ms)
{
	uint64_t x = c->dice;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	c->dice = x;
	return ms - ms / 10 + (int64_t)((x * 0x2545f4914f6cdd1du >> 11) % (uint64_t)(ms / 5 + 1));
}

static void make_room(struct cache *c, size_t bytes)
{
	while (c->items.n > 0 && (c->items.n >= c->spec.max_items || c->bytes + bytes > c->spec.max_bytes)) {
		item_unlink(c, CONTAINER_OF(c->by_use.prev, struct cache_item, by_use));
		c->stats.evicted++;
		metric_add(&evicted, 0, 1);
	}
}

/* An item with one hold, the caller's; linked as well when it fits and keep. */
static struct cache_item *item_new(struct cache *c, struct str key, uint64_t hash, void *value, size_t bytes,
				   bool keep)
{
	struct cache_item *it = xnew_(1, sizeof *it + key.n), *old = item_find(c, key, hash);

	MAKE_A(it, ITEM_MAGIC);
	it->holds = 1;
	it->value = value;
	it->free_value = c->spec.free_value;
	it->bytes = bytes + sizeof *it + key.n;
	it->born_ms = it->used_ms = clock_mono_ms();
	it->ttl_ms = spread(c, value != NULL ? c->spec.ttl_ms : c->spec.ttl_none_ms);
	it->key_n = key.n;
	if (key.n > 0)
		memcpy(it->key, key.p, key.n);
	list_init(&it->by_use);
	if (old != NULL)
		item_unlink(c, old);
	if (!keep || it->bytes > c->spec.max_bytes || c->spec.max_items == 0)
		return it;
	make_room(c, it->bytes);
	hash_add(&c->items, &it->node, hash);
	list_add_head(&c->by_use, &it->by_use);
	c->bytes += it->bytes;
	gauge_add(&entries, 1);
	gauge_add(&held_bytes, (int64_t)it->bytes);
	return cache_hold(it);
}

struct cache *cache_open(struct service *s, const struct cache_spec *spec)
{
	struct cache *c = XNEW(struct cache);

	(void)s;
	MAKE_A(c, CACHE_MAGIC);
	c->spec = *spec;
	if (c->spec.free_value == NULL)
		c->spec.free_value = free;
	ASSERT(spec->load != NULL && spec->ttl_ms > 0 && spec->ttl_none_ms > 0);
	list_init(&c->by_use);
	list_init(&c->all_fetches);
	crypto_random(&c->dice, sizeof c->dice);
	c->dice |= 1;
	return c;
}

/* The fetch is out of the table before anyone is told: they may ask for the same key again. */
static void fetch_end(struct cache *c, struct fetch *f, struct cache_item *it, const struct err *err)
{
	struct list *n;

	hash_del(&c->fetches, &f->node);
	list_del(&f->all);
	while ((n = list_pop(&f->waiters)) != NULL) {
		struct waiter *w = CONTAINER_OF(n, struct waiter, node);

		c->waiting--;
		if (w->told != NULL)
			*w->told = true;
		w->got(w->arg, it != NULL && it->value != NULL ? cache_hold(it) : NULL, err);
		free(w);
	}
	NOT_A_MORE(f, FETCH_MAGIC);
	free(f);
}

void cache_close(struct cache *c)
{
	struct err gone = { 0 };

	if (c == NULL)
		return;
	IS_A(c, CACHE_MAGIC);
	err_set(&gone, -ECANCELED, "cache %s is closed", c->spec.name);
	c->closing = true;
	while (!list_empty(&c->all_fetches))
		fetch_end(c, CONTAINER_OF(c->all_fetches.next, struct fetch, all), NULL, &gone);
	while (!list_empty(&c->by_use))
		item_unlink(c, CONTAINER_OF(c->by_use.next, struct cache_item, by_use));
	hash_clear(&c->items);
	hash_clear(&c->fetches);
	NOT_A_MORE(c, CACHE_MAGIC);
	free(c);
}

static void count(struct cache *c, unsigned result)
{
	uint64_t *of[] = { &c->stats.hits, &c->stats.nones, &c->stats.misses };

	++*of[result];
	metric_add(&requests, result, 1);
}

/* The fresh item of this key, not held, counted when it is one. */
static struct cache_item *look(struct cache *c, struct str key, uint64_t hash)
{
	struct cache_item *it = item_find(c, key, hash);
	int64_t now = clock_mono_ms();

	if (it == NULL)
		return NULL;
	if (item_stale(c, it, now)) {
		item_unlink(c, it);
		return NULL;
	}
	if (now - it->used_ms >= USE_NOTED_MS) {
		it->used_ms = now;
		list_del(&it->by_use);
		list_add_head(&c->by_use, &it->by_use);
	}
	count(c, it->value != NULL ? RESULT_HIT : RESULT_NONE);
	return it;
}

struct cache_item *cache_peek(struct cache *c, struct str key, bool *ret_none)
{
	struct cache_item *it;

	IS_A(c, CACHE_MAGIC);
	it = look(c, key, hash_of(key));
	*ret_none = it != NULL && it->value == NULL;
	if (it == NULL || it->value == NULL)
		return NULL;
	it->holds++;
	return it;
}

static void fetch_start(struct cache *c, struct fetch *f)
{
	c->stats.loads++;
	c->spec.load(c->spec.arg, c, (struct str){ f->key, f->key_n });
}

static struct fetch *fetch_new(struct cache *c, struct str key, uint64_t hash)
{
	struct fetch *f = xnew_(1, sizeof *f + key.n);

	MAKE_A(f, FETCH_MAGIC);
	list_init(&f->waiters);
	list_init(&f->all);
	list_add_tail(&c->all_fetches, &f->all);
	f->key_n = key.n;
	if (key.n > 0)
		memcpy(f->key, key.p, key.n);
	hash_add(&c->fetches, &f->node, hash);
	return f;
}

bool cache_get(struct cache *c, struct str key, cache_got *got, void *arg)
{
	uint64_t hash = hash_of(key);
	struct cache_item *it;
	struct fetch *f;
	struct waiter *w;
	bool told = false;

	IS_A(c, CACHE_MAGIC);
	it = look(c, key, hash);
	if (it != NULL) {
		got(arg, it->value != NULL ? cache_hold(it) : NULL, NULL);
		return true;
	}
	count(c, RESULT_MISS);
	if (c->closing || c->waiting >= MAX_WAITING) {
		struct err no = { 0 };

		err_set(&no, c->closing ? -ECANCELED : -EAGAIN, "cache %s: %zu lookups are waiting",
			c->spec.name, c->waiting);
		got(arg, NULL, &no);
		return true;
	}
	f = fetch_find(c, key, hash);
	w = XNEW(struct waiter);
	*w = (struct waiter){ .got = got, .arg = arg };
	list_init(&w->node);
	c->waiting++;
	if (f != NULL) {
		list_add_tail(&f->waiters, &w->node);
		return false;
	}
	f = fetch_new(c, key, hash);
	list_add_tail(&f->waiters, &w->node);
	w->told = &told;
	fetch_start(c, f);
	if (!told)
		w->told = NULL;
	return told;
}

void cache_fill(struct cache *c, struct str key, void *value, size_t bytes)
{
	cache_fill_aged(c, key, value, bytes, 0);
}

void cache_fill_aged(struct cache *c, struct str key, void *value, size_t bytes, int64_t age_ms)
{
	uint64_t hash = hash_of(key);
	struct fetch *f;
	struct cache_item *it;

	IS_A(c, CACHE_MAGIC);
	f = fetch_find(c, key, hash);
	if (f != NULL && f->again && f->repeats < MAX_REPEATS) {
		if (value != NULL)
			c->spec.free_value(value);
		f->again = false;
		f->repeats++;
		fetch_start(c, f);
		return;
	}
	it = item_new(c, key, hash, value, bytes, f == NULL || !f->again);
	it->born_ms -= age_ms;
	if (f != NULL)
		fetch_end(c, f, it, NULL);
	cache_release(it);
}

void cache_fail(struct cache *c, struct str key, const struct err *err)
{
	struct fetch *f;

	IS_A(c, CACHE_MAGIC);
	f = fetch_find(c, key, hash_of(key));
	c->stats.failed++;
	metric_add(&failed, 0, 1);
	if (f != NULL)
		fetch_end(c, f, NULL, err);
}

void cache_drop(struct cache *c, struct str key)
{
	uint64_t hash = hash_of(key);
	struct cache_item *it;
	struct fetch *f;

	IS_A(c, CACHE_MAGIC);
	it = item_find(c, key, hash);
	f = fetch_find(c, key, hash);
	if (it != NULL)
		item_unlink(c, it);
	if (f != NULL)
		f->again = true;
}

void cache_drop_prefix(struct cache *c, struct str prefix)
{
	IS_A(c, CACHE_MAGIC);
	LIST_EACH (n, tmp, &c->by_use) {
		struct cache_item *it = CONTAINER_OF(n, struct cache_item, by_use);

		if (str_starts(item_key(it), prefix))
			item_unlink(c, it);
	}
	LIST_EACH (n, tmp, &c->all_fetches) {
		struct fetch *f = CONTAINER_OF(n, struct fetch, all);

		if (str_starts((struct str){ f->key, f->key_n }, prefix))
			f->again = true;
	}
}

void cache_cap_age(struct cache *c, int64_t max_ms)
{
	IS_A(c, CACHE_MAGIC);
	c->max_age_ms = max_ms;
}

struct cache_stats cache_stats(const struct cache *c)
{
	struct cache_stats st = c->stats;

	st.items = c->items.n;
	st.bytes = c->bytes;
	st.waiting = c->waiting;
	return st;
}

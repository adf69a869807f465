/* bench_cache.c - lookups per second on the hot path: 20,000 entries, random order, all hits.
 *
 * Floor: the same keys in a bare hash table of this process - hash, compare, touch the value.
 * Ours beside that: time to live, order of use, a counted reference, the counters. */
#include "cache.h"

#include "clock.h"
#include "hash.h"
#include "lib.h"

enum { ENTRIES = 20000, LOOKUPS = 1000, TURNS = 9, VALUE = 64 };

struct entry { struct hash_node node; struct str key; char *value; };

struct run {
	struct cache     *cache;
	struct hash_table table;
	struct str        key[ENTRIES];
	uint64_t          dice, found, asked;
};

static void load(void *arg, struct cache *c, struct str key)
{
	(void)arg;
	cache_fill(c, key, NULL, 0);
}

static struct str some_key(struct run *run)
{
	run->dice ^= run->dice << 13;
	run->dice ^= run->dice >> 7;
	run->dice ^= run->dice << 17;
	run->asked++;
	return run->key[run->dice % ENTRIES];
}

static void floor_round(void *arg)
{
	struct run *run = arg;

	for (int i = 0; i < LOOKUPS; i++) {
		struct str key = some_key(run);

		for (struct hash_node *n = hash_find(&run->table, hash_of(key)); n != NULL; n = hash_next(n)) {
			const struct entry *e = CONTAINER_OF(n, struct entry, node);

			if (str_eq(e->key, key)) {
				run->found += e->value[0] == 0;
				break;
			}
		}
	}
}

static void cache_round(void *arg)
{
	struct run *run = arg;

	for (int i = 0; i < LOOKUPS; i++) {
		bool none;
		struct cache_item *it = cache_peek(run->cache, some_key(run), &none);

		run->found += it != NULL && ((const char *)cache_value(it))[0] == 0;
		cache_release(it);
	}
}

int main(void)
{
	static struct run run = { .dice = 88172645463325252u };
	static char text[ENTRIES][40];
	static struct entry entry[ENTRIES];
	const struct cache_spec spec = { .name = "bench",
					 .max_items = ENTRIES,
					 .max_bytes = SIZE_MAX / 2,
					 .ttl_ms = 3600000,
					 .ttl_none_ms = 3600000,
					 .load = load };
	double floors[TURNS], ours[TURNS];

	run.cache = cache_open(NULL, &spec);
	for (int i = 0; i < ENTRIES; i++) {
		snprintf(text[i], sizeof text[i], "twitch:%d:memories", 141981764 + i * 7);
		run.key[i] = str_of(text[i]);
		entry[i] = (struct entry){ .key = run.key[i], .value = xnew_(1, VALUE) };
		hash_add(&run.table, &entry[i].node, hash_of(run.key[i]));
		cache_fill(run.cache, run.key[i], xnew_(1, VALUE), VALUE);
	}
	for (int i = 0; i < TURNS; i++) {
		floors[i] = bench_rate(floor_round, &run, 0.2) * LOOKUPS;
		ours[i] = bench_rate(cache_round, &run, 0.2) * LOOKUPS;
	}
	cache_close(run.cache);
	hash_clear(&run.table);
	for (int i = 0; i < ENTRIES; i++)
		free(entry[i].value);
	if (run.found != run.asked)
		return 1;
	return bench_report("cache", bench_median(ours, TURNS), bench_median(floors, TURNS), "lookups/s", NULL, 0);
}

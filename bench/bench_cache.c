/* bench_cache.c - lookups per second on the hot path: 20,000 entries, random order, all hits.
 *      build/release/bench/bench_cache
 * The router looks up several times per message, so 5 million/s is the least. */
#include "cache.h"

#include "clock.h"
#include "lib.h"

enum { ENTRIES = 20000, LOOKUPS = 20000000 };

static void load(void *arg, struct cache *c, struct str key)
{
	(void)arg;
	cache_fill(c, key, NULL, 0);
}

int main(void)
{
	static char keys[ENTRIES][40];
	static struct str key[ENTRIES];
	const struct cache_spec spec = { .name = "bench",
					 .max_items = ENTRIES,
					 .max_bytes = SIZE_MAX / 2,
					 .ttl_ms = 3600000,
					 .ttl_none_ms = 3600000,
					 .load = load };
	struct cache *c = cache_open(NULL, &spec);
	uint64_t dice = 88172645463325252u, found = 0;
	int64_t from, us;

	for (int i = 0; i < ENTRIES; i++) {
		snprintf(keys[i], sizeof keys[i], "twitch:%d:memories", 141981764 + i * 7);
		key[i] = str_of(keys[i]);
		cache_fill(c, key[i], xnew_(1, 64), 64);
	}
	from = clock_exact_us();
	for (int i = 0; i < LOOKUPS; i++) {
		bool none;
		struct cache_item *it;

		dice ^= dice << 13;
		dice ^= dice >> 7;
		dice ^= dice << 17;
		it = cache_peek(c, key[dice % ENTRIES], &none);
		found += it != NULL;
		cache_release(it);
	}
	us = clock_exact_us() - from;
	cache_close(c);
	if (found != LOOKUPS)
		return 1;
	return bench_report("cache", (double)LOOKUPS * 1e6 / (double)us, 0, "lookups/s", NULL, 0);
}

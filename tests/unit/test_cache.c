/* test_cache.c - what is kept, for how long, who is told and what is fetched once. */
#include "cache.h"

#include "clock.h"
#include "err.h"

#include <setjmp.h>
#include <cmocka.h>

enum { MAX_LOADS = 64 };

struct fixture {
	struct cache *c;
	char loaded[MAX_LOADS][64]; /* keys, in the order load() was called */
	unsigned loads;
	unsigned freed;
	bool at_once; /* load() answers before it returns */
};
static struct fixture fx;

static void free_value(void *value)
{
	fx.freed++;
	free(value);
}

static char *copy(const char *text)
{
	char *p = xnew_(1, strlen(text) + 1);

	memcpy(p, text, strlen(text) + 1);
	return p;
}

static void load(void *arg, struct cache *c, struct str key)
{
	struct fixture *f = arg;

	if (f->loads < MAX_LOADS)
		snprintf(f->loaded[f->loads], sizeof f->loaded[0], STR_FMT, STR_ARG(key));
	f->loads++;
	if (f->at_once)
		cache_fill(c, key, str_eq(key, STR("none")) ? NULL : copy("at once"), 8);
}

static const struct cache_spec small = { .name = "test",
					 .max_items = 3,
					 .max_bytes = 1 << 20,
					 .ttl_ms = 100000,
					 .ttl_none_ms = 10000,
					 .load = load,
					 .free_value = free_value,
					 .arg = &fx };

static void begin(const struct cache_spec *spec)
{
	fx = (struct fixture){ 0 };
	clock_fake(1700000000000);
	fx.c = cache_open(NULL, spec);
}

struct answer {
	unsigned times;
	char text[32];
	int code;
};

static void got(void *arg, struct cache_item *item, const struct err *err)
{
	struct answer *a = arg;

	a->times++;
	a->code = err != NULL ? err->code : 0;
	snprintf(a->text, sizeof a->text, "%s", item != NULL ? (const char *)cache_value(item) : "");
	cache_release(item);
}

/* "" when there is none, NULL when it is not here. */
static const char *peek(const char *key)
{
	static char text[32];
	bool none = false;
	struct cache_item *it = cache_peek(fx.c, str_of(key), &none);

	if (it == NULL)
		return none ? "" : NULL;
	snprintf(text, sizeof text, "%s", (const char *)cache_value(it));
	cache_release(it);
	return text;
}

static void fill(const char *key, const char *value)
{
	cache_fill(fx.c, str_of(key), value != NULL ? copy(value) : NULL, 8);
}

static void ten_lookups_of_a_missing_key_make_one_fetch(void **state)
{
	struct answer a[10] = { 0 };

	(void)state;
	begin(&small);
	for (int i = 0; i < 10; i++)
		assert_false(cache_get(fx.c, STR("k"), got, &a[i]));
	assert_int_equal(fx.loads, 1);
	assert_string_equal(fx.loaded[0], "k");
	assert_int_equal(cache_stats(fx.c).waiting, 10);
	fill("k", "value");
	for (int i = 0; i < 10; i++) {
		assert_int_equal(a[i].times, 1);
		assert_string_equal(a[i].text, "value");
	}
	assert_true(cache_get(fx.c, STR("k"), got, &a[0]));
	assert_int_equal(a[0].times, 2);
	assert_int_equal(fx.loads, 1);
	cache_close(fx.c);
	assert_int_equal(fx.freed, 1);
}

static void a_fetch_may_end_before_it_returns(void **state)
{
	struct answer a = { 0 }, b = { 0 };

	(void)state;
	begin(&small);
	fx.at_once = true;
	assert_true(cache_get(fx.c, STR("k"), got, &a));
	assert_string_equal(a.text, "at once");
	assert_true(cache_get(fx.c, STR("none"), got, &b));
	assert_int_equal(b.times, 1);
	assert_string_equal(b.text, "");
	assert_int_equal(b.code, 0);
	cache_close(fx.c);
}

static void there_is_none_is_remembered_for_a_shorter_time(void **state)
{
	(void)state;
	begin(&small);
	assert_null(peek("k"));
	fill("k", NULL);
	fill("v", "v");
	assert_string_equal(peek("k"), "");
	clock_advance(8900);
	assert_string_equal(peek("k"), "");
	clock_advance(2200);
	assert_null(peek("k"));
	assert_string_equal(peek("v"), "v");
	clock_advance(78000);
	assert_string_equal(peek("v"), "v");
	clock_advance(22000);
	assert_null(peek("v"));
	cache_close(fx.c);
}

static void ends_are_spread_over_a_fifth_of_the_time_to_live(void **state)
{
	struct cache_spec many = small;
	char key[16];
	unsigned early = 0, late = 0;

	(void)state;
	many.max_items = 1000;
	begin(&many);
	for (int i = 0; i < 1000; i++) {
		snprintf(key, sizeof key, "k%d", i);
		fill(key, "v");
	}
	clock_advance(89999);
	assert_int_equal(cache_stats(fx.c).items, 1000);
	for (int i = 0; i < 1000; i++) {
		snprintf(key, sizeof key, "k%d", i);
		assert_non_null(peek(key));
	}
	clock_advance(5000);
	for (int i = 0; i < 1000; i++) {
		snprintf(key, sizeof key, "k%d", i);
		early += peek(key) == NULL;
	}
	clock_advance(10000);
	for (int i = 0; i < 1000; i++) {
		snprintf(key, sizeof key, "k%d", i);
		late += peek(key) == NULL;
	}
	assert_in_range(early, 150, 350);
	assert_in_range(late, 650, 850);
	clock_advance(5100);
	assert_null(peek("k0"));
	cache_close(fx.c);
}

static void the_one_used_least_recently_goes_first(void **state)
{
	(void)state;
	begin(&small);
	fill("a", "a");
	fill("b", "b");
	fill("c", "c");
	clock_advance(1000);
	assert_string_equal(peek("a"), "a");
	fill("d", "d");
	assert_null(peek("b"));
	assert_string_equal(peek("a"), "a");
	assert_string_equal(peek("c"), "c");
	assert_string_equal(peek("d"), "d");
	assert_int_equal(cache_stats(fx.c).evicted, 1);
	assert_int_equal(cache_stats(fx.c).items, 3);
	cache_close(fx.c);
	assert_int_equal(fx.freed, 4);
}

static void bytes_are_bounded_too_and_a_giant_is_handed_out_but_not_kept(void **state)
{
	struct cache_spec bytes = small;
	struct answer a = { 0 };

	(void)state;
	bytes.max_items = 100;
	bytes.max_bytes = 4096;
	begin(&bytes);
	for (int i = 0; i < 10; i++) {
		char key[16];

		snprintf(key, sizeof key, "k%d", i);
		cache_fill(fx.c, str_of(key), copy("x"), 1000);
	}
	assert_true(cache_stats(fx.c).items <= 4);
	assert_true(cache_stats(fx.c).bytes <= 4096);
	assert_string_equal(peek("k9"), "x");
	assert_false(cache_get(fx.c, STR("giant"), got, &a));
	cache_fill(fx.c, STR("giant"), copy("giant"), 5000);
	assert_string_equal(a.text, "giant");
	assert_null(peek("giant"));
	assert_string_equal(peek("k9"), "x");
	cache_close(fx.c);
	assert_int_equal(fx.freed, 11);
}

static void an_entry_dropped_in_use_lives_until_its_last_release(void **state)
{
	bool none;
	struct cache_item *it, *again;

	(void)state;
	begin(&small);
	fill("k", "value");
	it = cache_peek(fx.c, STR("k"), &none);
	again = cache_hold(it);
	cache_drop(fx.c, STR("k"));
	assert_null(peek("k"));
	assert_int_equal(fx.freed, 0);
	cache_release(it);
	assert_string_equal(cache_value(again), "value");
	cache_close(fx.c);
	assert_string_equal(cache_value(again), "value");
	cache_release(again);
	assert_int_equal(fx.freed, 1);
}

static void a_drop_while_loading_loads_again_before_anyone_is_told(void **state)
{
	struct answer a = { 0 };

	(void)state;
	begin(&small);
	assert_false(cache_get(fx.c, STR("k"), got, &a));
	cache_drop(fx.c, STR("k"));
	fill("k", "old");
	assert_int_equal(a.times, 0);
	assert_int_equal(fx.freed, 1);
	assert_int_equal(fx.loads, 2);
	fill("k", "new");
	assert_int_equal(a.times, 1);
	assert_string_equal(a.text, "new");
	assert_string_equal(peek("k"), "new");
	cache_close(fx.c);
}

static void a_key_dropped_without_end_is_answered_after_five_fetches_and_not_kept(void **state)
{
	struct answer a = { 0 };

	(void)state;
	begin(&small);
	assert_false(cache_get(fx.c, STR("k"), got, &a));
	for (int i = 0; i < 5; i++) {
		assert_int_equal(a.times, 0);
		cache_drop(fx.c, STR("k"));
		fill("k", "v");
	}
	assert_int_equal(fx.loads, 5);
	assert_int_equal(a.times, 1);
	assert_string_equal(a.text, "v");
	assert_null(peek("k"));
	cache_close(fx.c);
}

static void a_prefix_drops_all_under_it_and_nothing_else(void **state)
{
	struct cache_spec many = small;
	struct answer a = { 0 };

	(void)state;
	many.max_items = 100;
	begin(&many);
	fill("entity:7:x", "1");
	fill("entity:7:y", "2");
	fill("entity:77:x", "3");
	assert_false(cache_get(fx.c, STR("entity:7:z"), got, &a));
	cache_drop_prefix(fx.c, STR("entity:7:"));
	assert_null(peek("entity:7:x"));
	assert_null(peek("entity:7:y"));
	assert_string_equal(peek("entity:77:x"), "3");
	fill("entity:7:z", "old");
	assert_int_equal(fx.loads, 2);
	cache_drop_prefix(fx.c, STR_NONE);
	assert_int_equal(cache_stats(fx.c).items, 0);
	fill("entity:7:z", "old");
	fill("entity:7:z", "new");
	assert_string_equal(a.text, "new");
	cache_close(fx.c);
}

static void a_failed_fetch_tells_all_and_keeps_nothing(void **state)
{
	struct answer a = { 0 }, b = { 0 };
	struct err why = { 0 };

	(void)state;
	begin(&small);
	assert_false(cache_get(fx.c, STR("k"), got, &a));
	assert_false(cache_get(fx.c, STR("k"), got, &b));
	err_set(&why, -EIO, "no database");
	cache_fail(fx.c, STR("k"), &why);
	assert_int_equal(a.times, 1);
	assert_int_equal(a.code, -EIO);
	assert_int_equal(b.code, -EIO);
	assert_null(peek("k"));
	assert_false(cache_get(fx.c, STR("k"), got, &a));
	assert_int_equal(fx.loads, 2);
	fill("k", "v");
	assert_string_equal(a.text, "v");
	assert_int_equal(cache_stats(fx.c).failed, 1);
	cache_close(fx.c);
}

static void closing_fails_who_waits(void **state)
{
	struct answer a = { 0 };

	(void)state;
	begin(&small);
	assert_false(cache_get(fx.c, STR("k"), got, &a));
	cache_close(fx.c);
	assert_int_equal(a.times, 1);
	assert_int_equal(a.code, -ECANCELED);
}

static void the_lookup_after_ten_thousand_waiting_is_told_to_come_again(void **state)
{
	struct answer all = { 0 }, last = { 0 };
	char key[16];

	(void)state;
	begin(&small);
	for (int i = 0; i < 10000; i++) {
		snprintf(key, sizeof key, "k%d", i % 5000);
		assert_false(cache_get(fx.c, str_of(key), got, &all));
	}
	assert_int_equal(fx.loads, 5000);
	assert_true(cache_get(fx.c, STR("one more"), got, &last));
	assert_int_equal(last.code, -EAGAIN);
	assert_int_equal(all.times, 0);
	cache_close(fx.c);
	assert_int_equal(all.times, 10000);
}

static void nothing_is_fresh_beyond_the_cap_while_notices_cannot_arrive(void **state)
{
	(void)state;
	begin(&small);
	fill("k", "v");
	clock_advance(15000);
	assert_string_equal(peek("k"), "v");
	cache_cap_age(fx.c, 10000);
	assert_null(peek("k"));
	fill("k", "v");
	clock_advance(9000);
	assert_string_equal(peek("k"), "v");
	cache_cap_age(fx.c, 0);
	clock_advance(9000);
	assert_string_equal(peek("k"), "v");
	cache_close(fx.c);
}

static void lookups_are_counted_as_hit_none_or_miss(void **state)
{
	struct cache_stats st;
	struct answer a = { 0 };

	(void)state;
	begin(&small);
	fx.at_once = true;
	assert_null(peek("none"));
	cache_get(fx.c, STR("none"), got, &a);
	assert_string_equal(peek("none"), "");
	cache_get(fx.c, STR("k"), got, &a);
	cache_get(fx.c, STR("k"), got, &a);
	assert_string_equal(peek("k"), "at once");
	st = cache_stats(fx.c);
	assert_int_equal(st.hits, 2);
	assert_int_equal(st.nones, 1);
	assert_int_equal(st.misses, 2);
	assert_int_equal(st.loads, 2);
	cache_close(fx.c);
}

/* got() looks the same key up again: the fetch must be over for it. */
static void got_again(void *arg, struct cache_item *item, const struct err *err)
{
	(void)err;
	cache_release(item);
	cache_drop(fx.c, STR("k"));
	cache_get(fx.c, STR("k"), got, arg);
}

static void a_callback_may_drop_and_look_up_in_the_same_cache(void **state)
{
	struct answer a = { 0 };

	(void)state;
	begin(&small);
	assert_false(cache_get(fx.c, STR("k"), got_again, &a));
	fill("k", "one");
	assert_int_equal(a.times, 0);
	assert_int_equal(fx.loads, 2);
	fill("k", "two");
	assert_string_equal(a.text, "two");
	cache_close(fx.c);
	assert_int_equal(fx.freed, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ten_lookups_of_a_missing_key_make_one_fetch),
		cmocka_unit_test(a_fetch_may_end_before_it_returns),
		cmocka_unit_test(there_is_none_is_remembered_for_a_shorter_time),
		cmocka_unit_test(ends_are_spread_over_a_fifth_of_the_time_to_live),
		cmocka_unit_test(the_one_used_least_recently_goes_first),
		cmocka_unit_test(bytes_are_bounded_too_and_a_giant_is_handed_out_but_not_kept),
		cmocka_unit_test(an_entry_dropped_in_use_lives_until_its_last_release),
		cmocka_unit_test(a_drop_while_loading_loads_again_before_anyone_is_told),
		cmocka_unit_test(a_key_dropped_without_end_is_answered_after_five_fetches_and_not_kept),
		cmocka_unit_test(a_prefix_drops_all_under_it_and_nothing_else),
		cmocka_unit_test(a_failed_fetch_tells_all_and_keeps_nothing),
		cmocka_unit_test(closing_fails_who_waits),
		cmocka_unit_test(the_lookup_after_ten_thousand_waiting_is_told_to_come_again),
		cmocka_unit_test(nothing_is_fresh_beyond_the_cap_while_notices_cannot_arrive),
		cmocka_unit_test(lookups_are_counted_as_hit_none_or_miss),
		cmocka_unit_test(a_callback_may_drop_and_look_up_in_the_same_cache),
	};

	return !!cmocka_run_group_tests(tests, NULL, NULL);
}

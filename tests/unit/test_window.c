/* test_window.c - exact windows that are forgotten and learned again, against a plain record of all. */
#include "window.h"
#include "hash.h"

#include <setjmp.h>
#include <cmocka.h>

enum { W = 60000 };

static struct window_key *known(struct windows *l, struct str name, int64_t from_ms)
{
	struct window_key *k = window_hold(l, name, 1);

	window_learn(l, k, &(struct window_past){ .from_ms = from_ms, .slot_ms = INT64_MIN });
	return k;
}

static void the_sixty_first_is_refused_until_the_first_has_left(void **state)
{
	struct windows *l = windows_open(10, W);
	struct window_key *k = known(l, STR("a"), 0);

	(void)state;
	for (uint64_t i = 0; i < 60; i++)
		assert_int_equal(window_take(l, k, 60, i, 1000 + (int64_t)i, 0).wait_ms, 0);
	for (uint64_t i = 0; i < 5; i++)
		assert_int_equal(window_take(l, k, 60, 100 + i, 2000, 0).wait_ms, W - 1000);
	assert_int_equal(window_take(l, k, 60, 200, 1000 + W - 1, 0).wait_ms, 1);
	assert_int_equal(window_take(l, k, 60, 201, 1000 + W, 0).wait_ms, 0);
	assert_int_equal(window_take(l, k, 60, 202, 1000 + W, 0).wait_ms, 1);
	window_drop(l, k);
	windows_close(l);
}

static void the_same_id_gets_its_first_answer_and_counts_once(void **state)
{
	struct windows *l = windows_open(10, W);
	struct window_key *k = known(l, STR("a"), 0);
	struct window_answer a;

	(void)state;
	for (int i = 0; i < 5; i++)
		assert_int_equal(window_take(l, k, 2, 7, 1000, 1000).wait_ms, 0);
	assert_int_equal(window_take(l, k, 2, 8, 30000, 30000).wait_ms, 0);
	a = window_take(l, k, 2, 9, 30500, 30500);
	assert_int_equal(a.refused, 1);
	assert_true(a.wait_ms > 0 && !a.again);
	/* The first has left; a new one would pass, the one that was refused stays so. */
	assert_int_equal(window_take(l, k, 2, 10, 62000, 62000).wait_ms, 0);
	a = window_take(l, k, 2, 9, 30500, 30500);
	assert_true(a.wait_ms > 0 && a.again);
	assert_int_equal(a.at_ms, 30500);
	a = window_take(l, k, 2, 7, 1000, 1000);
	assert_true(a.wait_ms == 0 && a.again);
	assert_int_equal(a.at_ms, 1000);
	window_drop(l, k);
	windows_close(l);
}

static void a_late_one_is_judged_at_the_newest_instant(void **state)
{
	struct windows *l = windows_open(10, W);
	struct window_key *k = known(l, STR("a"), 0);

	(void)state;
	assert_int_equal(window_take(l, k, 2, 1, 50000, 50000).at_ms, 50000);
	assert_int_equal(window_take(l, k, 2, 2, 20000, 20000).at_ms, 50000);
	assert_int_equal(window_take(l, k, 2, 3, 90000, 90000).wait_ms, 20000);
	/* Found, although it lies later than its event says. */
	assert_true(window_take(l, k, 2, 2, 20000, 20000).again);
	window_drop(l, k);
	windows_close(l);
}

static void what_is_not_known_has_to_be_learned_first(void **state)
{
	struct windows *l = windows_open(10, W);
	struct window_key *k = window_hold(l, STR("a"), 1);
	struct window_stamp old[] = { { 120001, 3 }, { 61000, 1 }, { 119000, 2 } };
	struct window_stamp gone[] = { { 119500, 4 } };
	struct window_past past = { .from_ms = 60000, .slot_ms = 60000, .refused = 1, .admitted = old,
		                    .n_admitted = 3, .turned_away = gone, .n_turned_away = 1 };

	(void)state;
	assert_false(window_knows(k, 120000));
	window_learn(l, k, &past);
	assert_true(window_knows(k, 120000));
	assert_false(window_knows(k, 59999));
	assert_true(window_take(l, k, 3, 2, 119000, 119000).again);
	assert_true(window_take(l, k, 3, 4, 119500, 119500).wait_ms > 0);
	assert_int_equal(window_take(l, k, 3, 5, 120900, 120900).wait_ms, 100);
	assert_int_equal(window_take(l, k, 3, 6, 121000, 121000).wait_ms, 0);
	window_learn(l, k, &past);              /* twice is once */
	assert_true(window_take(l, k, 3, 7, 121000, 121000).wait_ms > 0);
	window_drop(l, k);
	windows_close(l);
}

static void what_is_held_is_not_evicted_and_what_was_evicted_is_not_known(void **state)
{
	struct windows *l = windows_open(2, W);
	struct window_key *a = known(l, STR("a"), 0), *b = known(l, STR("b"), 0), *c = known(l, STR("c"), 0), *again;

	(void)state;
	assert_int_equal(windows_keys(l), 3);
	window_drop(l, b);
	assert_int_equal(windows_keys(l), 2);
	again = window_hold(l, STR("b"), 1);
	assert_false(window_knows(again, INT64_MAX - 1));
	again = (window_drop(l, again), window_hold(l, STR("a"), 1));
	assert_ptr_equal(again, a);
	window_drop(l, again);
	window_drop(l, a);
	window_drop(l, c);
	assert_int_equal(windows_keys(l), 2);
	windows_close(l);
}

static void a_forgotten_group_starts_from_nothing(void **state)
{
	struct windows *l = windows_open(10, W);
	struct window_key *a = known(l, STR("a"), 0), *other = window_hold(l, STR("a"), 2), *fresh;

	(void)state;
	assert_ptr_not_equal(a, other);
	window_forget(l, 1);
	assert_true(window_gone(a));
	assert_false(window_gone(other));
	fresh = window_hold(l, STR("a"), 1);
	assert_ptr_not_equal(fresh, a);
	assert_false(window_knows(fresh, 100));
	window_drop(l, a);
	window_drop(l, other);
	window_drop(l, fresh);
	windows_close(l);
}

/* --- a record of everything ---------------------------------------------------------------- */

enum { TAKES = 20000, MAX = 5 };

static uint64_t dice = 0x9e3779b97f4a7c15u;
static uint64_t roll(uint64_t sides)
{
	dice ^= dice << 13;
	dice ^= dice >> 7;
	dice ^= dice << 17;
	return dice % sides;
}

static struct { int64_t event_ms; bool asked, admitted; int64_t at_ms; } record[TAKES];

static void learn(struct windows *l, struct window_key *k, int64_t at_ms, int n)
{
	static struct window_stamp yes[TAKES], no[TAKES];
	struct window_past past = { .from_ms = at_ms - at_ms % W - W, .slot_ms = INT64_MIN, .admitted = yes,
		                    .turned_away = no };

	for (int i = 0; i < n; i++) {
		if (!record[i].asked || record[i].at_ms < past.from_ms)
			continue;
		if (record[i].admitted)
			yes[past.n_admitted++] = (struct window_stamp){ record[i].at_ms, (uint64_t)i };
		else
			no[past.n_turned_away++] = (struct window_stamp){ record[i].at_ms, (uint64_t)i };
	}
	window_learn(l, k, &past);
}

/* Owners change, keys are evicted, events come late and again: no window ever holds more than MAX,
 * every answer is the first one, and nothing is refused that would have fitted. */
static void twenty_thousand_random_takes_over_changing_owners_stay_exact(void **state)
{
	struct windows *l = windows_open(1, W);
	int64_t now = 1700000000000, last = 0;
	int64_t admitted[TAKES];
	int n_admitted = 0;

	(void)state;
	for (int n = 0; n < TAKES; n++) {
		bool repeat = n > 0 && roll(5) == 0;
		int i = repeat ? n - 1 - (int)roll((uint64_t)(n < 40 ? n : 40)) : n;
		struct window_key *k;
		struct window_answer a;

		now += (int64_t)roll(roll(50) == 0 ? 90000 : 12000);
		if (!repeat)
			record[i].event_ms = now - (int64_t)(roll(10) == 0 ? roll(150000) : 0);
		if (roll(20) == 0)
			window_forget(l, 1);
		k = window_hold(l, STR("key"), 1);
		if (!window_knows(k, record[i].event_ms))
			learn(l, k, record[i].event_ms, n);
		a = window_take(l, k, MAX, (uint64_t)i, record[i].event_ms, record[i].event_ms);
		window_drop(l, k);
		if (record[i].asked) {
			assert_true(a.again);
			assert_int_equal(a.wait_ms == 0, record[i].admitted);
			assert_int_equal(a.at_ms, record[i].at_ms);
			continue;
		}
		assert_false(a.again);
		assert_true(a.at_ms >= last && a.at_ms >= record[i].event_ms);
		last = a.at_ms;
		assert_int_equal(a.wait_ms == 0, n_admitted < MAX || admitted[n_admitted - MAX] <= a.at_ms - W);
		if (a.wait_ms > 0)
			assert_int_equal(a.wait_ms, admitted[n_admitted - MAX] + W - a.at_ms);
		else
			admitted[n_admitted++] = a.at_ms;
		record[i].asked = true;
		record[i].admitted = a.wait_ms == 0;
		record[i].at_ms = a.at_ms;
	}
	assert_true(n_admitted > TAKES / 4 && n_admitted < TAKES);
	windows_close(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_sixty_first_is_refused_until_the_first_has_left),
		cmocka_unit_test(the_same_id_gets_its_first_answer_and_counts_once),
		cmocka_unit_test(a_late_one_is_judged_at_the_newest_instant),
		cmocka_unit_test(what_is_not_known_has_to_be_learned_first),
		cmocka_unit_test(what_is_held_is_not_evicted_and_what_was_evicted_is_not_known),
		cmocka_unit_test(a_forgotten_group_starts_from_nothing),
		cmocka_unit_test(twenty_thousand_random_takes_over_changing_owners_stay_exact),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

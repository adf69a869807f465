/* test_limit.c - the sliding window against a slow and obviously right oracle. */
#include "limit.h"

#include <setjmp.h>
#include <cmocka.h>

static const struct limit_rule five_a_minute = { 5, 60000 };

static void the_sixth_in_a_minute_is_refused_until_the_first_has_left(void **state)
{
	struct limit *l = limit_open(100);

	(void)state;
	for (int i = 0; i < 5; i++)
		assert_int_equal(limit_take(l, STR("a"), five_a_minute, 1000 + i * 1000), 0);
	assert_int_equal(limit_take(l, STR("a"), five_a_minute, 6000), 55000);
	assert_int_equal(limit_peek(l, STR("a"), five_a_minute, 6000), 55000);
	assert_int_equal(limit_take(l, STR("a"), five_a_minute, 60999), 1);
	assert_int_equal(limit_peek(l, STR("a"), five_a_minute, 61000), 0);
	assert_int_equal(limit_take(l, STR("a"), five_a_minute, 61000), 0);
	assert_int_equal(limit_take(l, STR("a"), five_a_minute, 61000), 1000);
	assert_int_equal(limit_take(l, STR("b"), five_a_minute, 61000), 0);
	limit_close(l);
}

static void refused_takes_do_not_lengthen_the_window(void **state)
{
	struct limit *l = limit_open(100);
	struct limit_rule one = { 1, 1000 };

	(void)state;
	assert_int_equal(limit_take(l, STR("a"), one, 0), 0);
	for (int t = 1; t < 1000; t++)
		assert_int_equal(limit_take(l, STR("a"), one, t), 1000 - t);
	assert_int_equal(limit_take(l, STR("a"), one, 1000), 0);
	limit_close(l);
}

static void a_maximum_of_zero_refuses_everything(void **state)
{
	struct limit *l = limit_open(100);
	struct limit_rule none = { 0, 1000 };

	(void)state;
	assert_int_equal(limit_peek(l, STR("a"), none, 5), 1000);
	assert_int_equal(limit_take(l, STR("a"), none, 5), 1000);
	limit_close(l);
}

static void a_lowered_rule_counts_what_was_already_taken(void **state)
{
	struct limit *l = limit_open(100);
	struct limit_rule two = { 2, 60000 };

	(void)state;
	for (int i = 0; i < 5; i++)
		assert_int_equal(limit_take(l, STR("a"), five_a_minute, i), 0);
	/* Three of the five have to leave before two fit. */
	assert_int_equal(limit_take(l, STR("a"), two, 10), 60003 - 10);
	assert_int_equal(limit_take(l, STR("a"), two, 60003), 0);
	limit_close(l);
}

static void a_take_given_back_can_be_taken_again(void **state)
{
	struct limit *l = limit_open(100);
	struct limit_rule one = { 1, 1000 };

	(void)state;
	limit_give_back(l, STR("unknown"));
	assert_int_equal(limit_take(l, STR("a"), one, 10), 0);
	limit_give_back(l, STR("a"));
	limit_give_back(l, STR("a"));
	assert_int_equal(limit_take(l, STR("a"), one, 11), 0);
	assert_int_equal(limit_take(l, STR("a"), one, 11), 1000);
	limit_close(l);
}

static void a_late_event_is_judged_at_the_newest_instant(void **state)
{
	struct limit *l = limit_open(100);
	struct limit_rule two = { 2, 1000 };

	(void)state;
	assert_int_equal(limit_take(l, STR("a"), two, 5000), 0);
	assert_int_equal(limit_take(l, STR("a"), two, 4900), 0);
	assert_int_equal(limit_take(l, STR("a"), two, 5100), 900);
	assert_int_equal(limit_take(l, STR("a"), two, 5999), 1);
	assert_int_equal(limit_take(l, STR("a"), two, 6000), 0);
	limit_close(l);
}

static void a_clock_that_was_an_hour_ahead_costs_one_window_at_most(void **state)
{
	struct limit *l = limit_open(100);

	(void)state;
	for (int i = 0; i < 5; i++)
		assert_int_equal(limit_take(l, STR("a"), five_a_minute, 3600000), 0);
	assert_int_equal(limit_peek(l, STR("a"), five_a_minute, 1000), 60000);
	assert_int_equal(limit_take(l, STR("a"), five_a_minute, 1000), 60000);
	assert_int_equal(limit_take(l, STR("a"), five_a_minute, 61000), 0);
	limit_close(l);
}

static void the_key_idle_longest_is_forgotten_when_there_are_too_many(void **state)
{
	struct limit *l = limit_open(3);
	struct limit_rule one = { 1, 60000 };

	(void)state;
	assert_int_equal(limit_take(l, STR("a"), one, 1), 0);
	assert_int_equal(limit_take(l, STR("b"), one, 2), 0);
	assert_int_equal(limit_take(l, STR("c"), one, 3), 0);
	assert_true(limit_take(l, STR("a"), one, 4) > 0); /* used again: b is the oldest */
	assert_int_equal(limit_take(l, STR("d"), one, 5), 0);
	assert_int_equal(limit_keys(l), 3);
	assert_true(limit_peek(l, STR("a"), one, 6) > 0);
	assert_int_equal(limit_peek(l, STR("b"), one, 6), 0);
	limit_close(l);
}

/* --- the oracle --------------------------------------------------------------------------- */

enum { TAKES = 20000, ORACLE_KEYS = 7 };

struct oracle {
	int64_t at[TAKES];
	size_t n;
};

static uint64_t dice = 0x9e3779b97f4a7c15u;
static uint64_t roll(uint64_t sides)
{
	dice ^= dice << 13;
	dice ^= dice >> 7;
	dice ^= dice << 17;
	return dice % sides;
}

/* Every accepted instant ever, counted anew each time. */
static int64_t oracle_take(struct oracle *o, struct limit_rule r, int64_t now)
{
	int64_t t = o->n > 0 && o->at[o->n - 1] > now ? o->at[o->n - 1] : now;

	if (r.max == 0)
		return r.window_ms;
	for (int64_t wait = 0;; wait++) {
		int64_t then = wait == 0 ? t : (now + wait > t ? now + wait : t);
		size_t inside = 0;

		for (size_t i = o->n; i-- > 0 && o->at[i] > then - r.window_ms;)
			inside++;
		if (inside < r.max) {
			if (wait == 0)
				o->at[o->n++] = t;
			return wait;
		}
	}
}

static void twenty_thousand_random_takes_agree_with_the_oracle(void **state)
{
	static struct oracle oracles[ORACLE_KEYS];
	struct limit *l = limit_open(ORACLE_KEYS);
	const struct limit_rule rules[ORACLE_KEYS] = { { 1, 10 }, { 2, 100 },   { 3, 7 }, { 5, 500 },
						       { 0, 20 }, { 20, 1000 }, { 7, 61 } };
	int64_t now = 1700000000000;
	unsigned accepted = 0, refused = 0;

	(void)state;
	for (int i = 0; i < TAKES; i++) {
		unsigned k = (unsigned)roll(ORACLE_KEYS);
		char name[16];
		int64_t want, got, late = roll(20) == 0 ? (int64_t)roll(6) : 0;

		snprintf(name, sizeof name, "k%u", k);
		now += (int64_t)(roll(50) == 0 ? roll(300) : roll(4));
		got = limit_peek(l, str_of(name), rules[k], now - late);
		want = oracle_take(&oracles[k], rules[k], now - late);
		assert_int_equal(got, want);
		got = limit_take(l, str_of(name), rules[k], now - late);
		assert_int_equal(got, want);
		accepted += want == 0;
		refused += want > 0;
		if (want == 0 && roll(40) == 0) {
			limit_give_back(l, str_of(name));
			oracles[k].n--;
		}
	}
	assert_true(accepted > TAKES / 20);
	assert_true(refused > TAKES / 20);
	limit_close(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_sixth_in_a_minute_is_refused_until_the_first_has_left),
		cmocka_unit_test(refused_takes_do_not_lengthen_the_window),
		cmocka_unit_test(a_maximum_of_zero_refuses_everything),
		cmocka_unit_test(a_lowered_rule_counts_what_was_already_taken),
		cmocka_unit_test(a_take_given_back_can_be_taken_again),
		cmocka_unit_test(a_late_event_is_judged_at_the_newest_instant),
		cmocka_unit_test(a_clock_that_was_an_hour_ahead_costs_one_window_at_most),
		cmocka_unit_test(the_key_idle_longest_is_forgotten_when_there_are_too_many),
		cmocka_unit_test(twenty_thousand_random_takes_agree_with_the_oracle),
	};

	return !!cmocka_run_group_tests(tests, NULL, NULL);
}

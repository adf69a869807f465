/* A place that fails in a row is left alone, tried once, and taken back. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../services/router/breaker.h"

static const struct str place = STR("https://example.org/hook");

static void fail_often(struct breaker *b, struct str at, int n, int64_t now)
{
	for (int i = 0; i < n; i++) {
		assert_true(breaker_allows(b, at, now));
		breaker_report(b, at, false, now);
	}
}

static void it_opens_after_failures_in_a_row(void **state)
{
	struct breaker *b = breaker_new(10);

	(void)state;
	fail_often(b, place, BREAKER_FAILURES - 1, 1000);
	assert_true(breaker_allows(b, place, 1000));
	breaker_report(b, place, true, 1000);           /* not in a row: begins again */
	fail_often(b, place, BREAKER_FAILURES - 1, 1000);
	assert_true(breaker_allows(b, place, 1000));
	breaker_report(b, place, false, 1000);
	assert_false(breaker_allows(b, place, 1000));
	assert_false(breaker_allows(b, place, 1000 + BREAKER_OPEN_MS - 1));
	assert_true(breaker_allows(b, STR("https://example.org/other"), 1000));
	assert_int_equal(breaker_open_now(b, 1000), 1);
	breaker_free(b);
}

static void one_call_tries_when_it_is_half_open(void **state)
{
	struct breaker *b = breaker_new(10);
	int64_t now = 1000;

	(void)state;
	fail_often(b, place, BREAKER_FAILURES, now);
	now += BREAKER_OPEN_MS;
	assert_true(breaker_allows(b, place, now));
	assert_false(breaker_allows(b, place, now));    /* the others wait for what it finds */
	breaker_report(b, place, false, now);
	assert_false(breaker_allows(b, place, now));
	now += BREAKER_OPEN_MS;
	assert_true(breaker_allows(b, place, now));
	breaker_report(b, place, true, now);
	assert_true(breaker_allows(b, place, now));
	assert_true(breaker_allows(b, place, now));
	assert_int_equal(breaker_open_now(b, now), 0);
	breaker_free(b);
}

static void the_one_longest_silent_makes_room(void **state)
{
	struct breaker *b = breaker_new(2);

	(void)state;
	fail_often(b, STR("a"), BREAKER_FAILURES, 1);
	fail_often(b, STR("b"), 1, 1);
	fail_often(b, STR("c"), 1, 1);
	assert_true(breaker_allows(b, STR("a"), 1));    /* forgotten */
	fail_often(b, STR("b"), BREAKER_FAILURES - 1, 1);
	assert_false(breaker_allows(b, STR("b"), 1));
	breaker_free(b);
	breaker_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_opens_after_failures_in_a_row),
		cmocka_unit_test(one_call_tries_when_it_is_half_open),
		cmocka_unit_test(the_one_longest_silent_makes_room),
	};

	return !!cmocka_run_group_tests_name("router_breaker", tests, NULL, NULL);
}

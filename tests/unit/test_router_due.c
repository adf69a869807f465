/* test_router_due.c - what has to be looked at, when. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../services/router/due.h"

static struct due d;

#define SPAN(a, b) (struct due_span){ (a), (b) }

static void a_span_is_due_once_and_never_early(void **state)
{
	struct due_span out[4];

	(void)state;
	due_init(&d, 1000000);
	due_add(&d, SPAN(5000, 5000), 1030000);
	assert_int_equal(due_oldest(&d), 5000);
	assert_int_equal(due_take(&d, 1029999, out, 4), 0);
	assert_int_equal(due_take(&d, 1030000 + DUE_SLOT_MS, out, 4), 1);
	assert_int_equal(out[0].from_ms, 5000);
	assert_int_equal(out[0].to_ms, 5000);
	assert_int_equal(due_take(&d, 1090000, out, 4), 0);
	assert_int_equal(due_oldest(&d), INT64_MAX);
}

static void near_ones_are_one_and_far_ones_are_apart(void **state)
{
	struct due_span out[8];

	(void)state;
	due_init(&d, 0);
	for (int64_t at = 0; at < 2000; at += 10)
		due_add(&d, SPAN(at, at), 30000 + at);
	due_add(&d, SPAN(-7200000, -7200000), 30500);
	assert_int_equal(due_take(&d, 40000, out, 8), 2);
	assert_int_equal(out[0].from_ms, -7200000);
	assert_int_equal(out[0].to_ms, -7200000);
	assert_int_equal(out[1].from_ms, 0);
	assert_int_equal(out[1].to_ms, 1990);
}

static void too_many_are_joined_and_none_is_forgotten(void **state)
{
	struct due_span out[3];
	size_t n;

	(void)state;
	due_init(&d, 0);
	for (int64_t i = 0; i < 100; i++)
		due_add(&d, SPAN(i * 60000, i * 60000), 1000 + i * 300);
	n = due_take(&d, 100000, out, 3);
	assert_int_equal(n, 3);
	for (int64_t i = 0; i < 100; i++) {
		bool in = false;

		for (size_t k = 0; k < n; k++)
			in = in || (out[k].from_ms <= i * 60000 && out[k].to_ms >= i * 60000);
		assert_true(in);
	}
}

static void after_a_long_pause_everything_is_due(void **state)
{
	struct due_span out[4];

	(void)state;
	due_init(&d, 0);
	due_add(&d, SPAN(1, 1), 10000);
	due_add(&d, SPAN(2, 2), (int64_t)3600000 * 24);         /* beyond the ring: at its end */
	assert_int_equal(due_take(&d, (int64_t)3600000 * 48, out, 4), 1);
	assert_int_equal(out[0].from_ms, 1);
	assert_int_equal(out[0].to_ms, 2);
	due_add(&d, SPAN(3, 3), 5);                             /* in the past: at once */
	assert_int_equal(due_take(&d, (int64_t)3600000 * 48 + 500, out, 4), 1);
	assert_int_equal(out[0].from_ms, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_span_is_due_once_and_never_early),
		cmocka_unit_test(near_ones_are_one_and_far_ones_are_apart),
		cmocka_unit_test(too_many_are_joined_and_none_is_forgotten),
		cmocka_unit_test(after_a_long_pause_everything_is_due),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

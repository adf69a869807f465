/* test_bus_mark.c - what may be stored when work ends in any order. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "bus_mark.h"
#include "wait.h"

static void the_mark_stands_still_until_the_oldest_is_done(void **state)
{
	struct bus_mark m = { .low = -1 };
	uint64_t a, b, c;

	(void)state;
	a = bus_mark_take(&m, 10);
	b = bus_mark_take(&m, 11);
	c = bus_mark_take(&m, 12);
	assert_false(bus_mark_done(&m, c));
	assert_false(bus_mark_done(&m, b));
	assert_true(m.low == -1);
	assert_int_equal(bus_mark_open(&m), 3);
	assert_true(bus_mark_done(&m, a));
	assert_int_equal(m.low, 13);
	assert_int_equal(bus_mark_open(&m), 0);
	bus_mark_clear(&m);
}

static void gaps_between_offsets_do_not_matter(void **state)
{
	struct bus_mark m = { .low = -1 };
	uint64_t a = bus_mark_take(&m, 5), b = bus_mark_take(&m, 900), c = bus_mark_take(&m, 1000000000000);

	(void)state;
	assert_true(bus_mark_done(&m, a));
	assert_int_equal(m.low, 6);
	assert_false(bus_mark_done(&m, c));
	assert_true(bus_mark_done(&m, b));
	assert_int_equal(m.low, 1000000000001);
	bus_mark_clear(&m);
}

/* The model: low is one more than the last offset of the longest prefix that is done. */
enum { MANY = 3000 };
struct model {
	int64_t offset[MANY];
	uint64_t number[MANY];
	bool done[MANY];
	size_t taken, prefix;
};

static int64_t model_low(struct model *k)
{
	while (k->prefix < k->taken && k->done[k->prefix])
		k->prefix++;
	return k->prefix == 0 ? -1 : k->offset[k->prefix - 1] + 1;
}

static size_t undone(const struct model *k, size_t nth)
{
	for (size_t i = k->prefix;; i++)
		if (!k->done[i] && nth-- == 0)
			return i;
}

static bool one_random_life(void)
{
	struct model *k = XNEW(struct model);
	struct bus_mark m = { .low = -1 };
	int64_t next = (int64_t)rnd_below(1000), before = -1;
	size_t open = 0, i;
	uint64_t taking = 1 + rnd_below(9);
	bool ok = true, risen;

	while (ok && (k->taken < MANY || open > 0)) {
		if (k->taken < MANY && (open == 0 || rnd_below(10) < taking)) {
			next += 1 + (int64_t)(rnd_below(20) == 0 ? rnd_below(1000) : 0);
			k->offset[k->taken] = next;
			k->number[k->taken] = bus_mark_take(&m, next);
			k->taken++;
			open++;
			continue;
		}
		i = undone(k, rnd_below(open));
		k->done[i] = true;
		open--;
		risen = bus_mark_done(&m, k->number[i]);
		ok = m.low == model_low(k) && risen == (m.low > before) && m.low >= before &&
		     bus_mark_open(&m) == k->taken - k->prefix;
		before = m.low;
	}
	ok = ok && m.low == k->offset[MANY - 1] + 1;
	bus_mark_clear(&m);
	free(k);
	return ok;
}

static void in_any_order_with_any_gaps_no_undone_message_is_passed(void **state)
{
	(void)state;
	for (int i = 0; i < 200; i++)
		assert_true(one_random_life());
}

static void room_is_used_again_and_not_grown_by_time(void **state)
{
	struct bus_mark m = { .low = -1 };

	(void)state;
	for (int64_t i = 0; i < 100000; i++)
		assert_true(bus_mark_done(&m, bus_mark_take(&m, i)));
	assert_in_range(m.room, 1, 16);
	bus_mark_clear(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_mark_stands_still_until_the_oldest_is_done),
		cmocka_unit_test(gaps_between_offsets_do_not_matter),
		cmocka_unit_test(in_any_order_with_any_gaps_no_undone_message_is_passed),
		cmocka_unit_test(room_is_used_again_and_not_grown_by_time),
	};

	return !!cmocka_run_group_tests_name("bus_mark", tests, NULL, NULL);
}

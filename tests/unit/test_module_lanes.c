/* test_module_lanes.c - one at a time per community, in order, and nobody waits for long. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "module_lanes.h"

struct job {
	struct lane_job lane;
	int64_t community;
	int number;
};

static struct job *job_of(struct lane_job *j)
{
	return j == NULL ? NULL : CONTAINER_OF(j, struct job, lane);
}

static void a_community_runs_one_at_a_time_in_order(void **state)
{
	struct lanes l;
	struct job jobs[5] = { 0 };

	(void)state;
	lanes_init(&l, 64, 100, 10);
	assert_null(lanes_next(&l));
	for (int i = 0; i < 5; i++) {
		jobs[i].number = i;
		assert_int_equal(lanes_add(&l, 7, &jobs[i].lane), 0);
	}
	for (int i = 0; i < 5; i++) {
		struct job *j = job_of(lanes_next(&l));

		assert_non_null(j);
		assert_int_equal(j->number, i);
		assert_null(lanes_next(&l));
		lanes_done(&l, &j->lane);
	}
	assert_null(lanes_next(&l));
	assert_int_equal(l.n_waiting, 0);
	lanes_clear(&l);
}

static void communities_take_turns(void **state)
{
	struct lanes l;
	struct job busy[50] = { 0 }, other = { 0 };
	struct job *j;

	(void)state;
	lanes_init(&l, 1, 100, 10);
	for (int i = 0; i < 50; i++)
		assert_int_equal(lanes_add(&l, 1, &busy[i].lane), 0);
	j = job_of(lanes_next(&l));
	assert_ptr_equal(j, &busy[0]);
	assert_int_equal(lanes_add(&l, 2, &other.lane), 0);
	lanes_done(&l, &j->lane);
	assert_ptr_equal(job_of(lanes_next(&l)), &other); /* after one of the fifty, not after all */
	lanes_done(&l, &other.lane);
	for (int i = 1; i < 50; i++) {
		j = job_of(lanes_next(&l));
		assert_ptr_equal(j, &busy[i]);
		lanes_done(&l, &j->lane);
	}
	lanes_clear(&l);
}

static void no_more_than_the_maximum_run_at_once(void **state)
{
	struct lanes l;
	struct job jobs[10] = { 0 };

	(void)state;
	lanes_init(&l, 3, 100, 100);
	for (int i = 0; i < 10; i++)
		assert_int_equal(lanes_add(&l, i, &jobs[i].lane), 0);
	for (int i = 0; i < 3; i++)
		assert_non_null(lanes_next(&l));
	assert_null(lanes_next(&l));
	assert_int_equal(l.n_running, 3);
	lanes_done(&l, &jobs[1].lane);
	assert_ptr_equal(job_of(lanes_next(&l)), &jobs[3]);
	assert_null(lanes_next(&l));
	for (int i = 0; i < 10; i++)
		if (i < 4 && jobs[i].lane.lane != NULL)
			lanes_done(&l, &jobs[i].lane);
	lanes_clear(&l);
}

static void the_hundred_and_first_waiting_is_refused(void **state)
{
	struct lanes l;
	struct job jobs[102] = { 0 }, other = { 0 };

	(void)state;
	lanes_init(&l, 64, 100, 10);
	assert_int_equal(lanes_add(&l, 1, &jobs[0].lane), 0);
	assert_non_null(lanes_next(&l));
	for (int i = 1; i <= 100; i++)
		assert_int_equal(lanes_add(&l, 1, &jobs[i].lane), 0);
	assert_int_equal(lanes_add(&l, 1, &jobs[101].lane), -EBUSY);
	assert_int_equal(lanes_add(&l, 2, &other.lane), 0);
	lanes_clear(&l);
}

static void the_own_position_is_remembered_and_never_understated(void **state)
{
	struct lanes l;
	struct job j[4] = { 0 };

	(void)state;
	lanes_init(&l, 64, 100, 2);
	assert_int_equal(lanes_lsn(&l, 1), 0);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(lanes_add(&l, i, &j[i].lane), 0);
		assert_non_null(lanes_next(&l));
		lanes_wrote(&l, &j[i].lane, 100 + (uint64_t)i);
		lanes_wrote(&l, &j[i].lane, 50);
		assert_int_equal(lanes_lsn(&l, i), 100 + i);
		lanes_done(&l, &j[i].lane);
	}
	/* Only two idle lanes are kept: 0 and 1 are forgotten, and count as the newest forgotten. */
	assert_int_equal(l.n_idle, 2);
	assert_int_equal(lanes_lsn(&l, 3), 103);
	assert_int_equal(lanes_lsn(&l, 2), 102);
	assert_int_equal(lanes_lsn(&l, 0), 101);
	assert_int_equal(lanes_lsn(&l, 1), 101);
	assert_int_equal(lanes_add(&l, 0, &j[0].lane), 0);
	assert_int_equal(lanes_lsn(&l, 0), 101);
	lanes_clear(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_community_runs_one_at_a_time_in_order),
		cmocka_unit_test(communities_take_turns),
		cmocka_unit_test(no_more_than_the_maximum_run_at_once),
		cmocka_unit_test(the_hundred_and_first_waiting_is_refused),
		cmocka_unit_test(the_own_position_is_remembered_and_never_understated),
	};

	return !!cmocka_run_group_tests(tests, NULL, NULL);
}

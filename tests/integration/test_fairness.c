/* Fairness: at most so many unanswered commands of a community at a module; the others wait, in order,
 * are refused or given up, and nobody else notices (router.md 19). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "cast.h"

enum { SHARE = 4, BACKLOG = 20 };

static struct cast c;

static int up(void **state)
{
	static const char *const modules[] = { "slow", NULL };
	static const char *const env[] = { "LOG_LEVEL=info", "KAFKA_SESSION_TIMEOUT_MS=6000", "FAIR_OUTSTANDING=4",
		                           "FAIR_BACKLOG=20", "QUEUE_TIMEOUT=8s", NULL };

	(void)state;
	cast_open(&c, "fairness", 12, modules, env);
	cast_register(&c, "slow", "{\"command\":\"slow\",\"prefix\":\"!\",\"timeout\":120}", 1);
	return 0;
}

static int down(void **state)
{
	(void)state;
	cast_close(&c);
	return 0;
}

static void wait_sent(int channel, int64_t n)
{
	sql_wait_int(c.st.sql, n, CAST_WAIT_MS, "SELECT count(sent_at) FROM command_executions WHERE community_id = %d", channel + 2);
}

static void say_all(int channel, char **id, int n)
{
	for (int i = 0; i < n; i++)
		id[i] = cast_say(&c, channel, "!slow %d", i);
	sql_wait_int(c.st.sql, n, CAST_WAIT_MS, "SELECT count(*) FROM command_executions WHERE community_id = %d", channel + 2);
}

static void free_all(char **id, int n)
{
	for (int i = 0; i < n; i++)
		free(id[i]);
}

/* router 81, in small: in the order of their arrival as answers come; another community passes. */
static void what_is_over_the_share_waits_and_goes_in_order(void **state)
{
	char *id[10], *other;

	(void)state;
	say_all(0, id, 10);
	wait_sent(0, SHARE);
	for (int i = 0; i < SHARE; i++)
		cast_wait_told(&c, "slow", id[i], 1);
	assert_int_equal(sql_int(c.st.sql, "SELECT count(*) FROM command_executions WHERE community_id = 2 AND waits = 'turn' "
	                                   "AND sent_at IS NULL AND queued_at IS NOT NULL"), 6);
	other = cast_say(&c, 1, "!slow other");
	cast_wait_told(&c, "slow", other, 1);
	cast_answer(&c, "slow", other, true);
	for (int i = 0; i < 10; i++) {
		cast_wait_told(&c, "slow", id[i], 1);
		if (i + SHARE < 10)
			assert_int_equal(cast_told(&c, "slow", id[i + SHARE]), 0);
		cast_answer(&c, "slow", id[i], true);
		cast_wait_status(&c, "slow", id[i], "success");
	}
	/* The broker has them: no lease is left. */
	sql_wait_int(c.st.sql, 0, CAST_WAIT_MS, "SELECT count(*) FROM command_executions WHERE community_id = 2 "
	                                        "AND (waits IS NOT NULL OR lease_until IS NOT NULL)");
	for (int i = 0; i < 10; i++)
		assert_int_equal(cast_told(&c, "slow", id[i]), 1);
	assert_true(cast_metric(&c, "waddle_router_fair_wait_seconds_count") >= 6);
	assert_true(cast_metric(&c, "waddle_router_command_seconds_count{module=\"slow\"}") >= 11);
	assert_true(cast_metric(&c, "waddle_router_executions_total{type=\"container\",status=\"success\"}") >= 11);
	free_all(id, 10);
	free(other);
}

/* router 82 */
static void beyond_the_backlog_is_refused_and_the_partition_goes_on(void **state)
{
	char *id[SHARE + BACKLOG], *beyond, *other;

	(void)state;
	say_all(2, id, SHARE + BACKLOG);
	wait_sent(2, SHARE);
	beyond = cast_say(&c, 2, "!slow beyond");
	sql_wait_int(c.st.sql, 1, CAST_WAIT_MS, "SELECT count(*) FROM event_decisions WHERE event_id = '%s' "
	                                        "AND verdict = 'overloaded'", beyond);
	assert_int_equal(sql_int(c.st.sql, "SELECT count(*) FROM command_executions WHERE event_id = '%s'", beyond), 0);
	assert_true(cast_metric(&c, "waddle_router_overloaded_total") >= 1);
	other = cast_say(&c, 3, "!slow other");
	cast_wait_told(&c, "slow", other, 1);
	/* And those that wait too long are given up. */
	sql_wait_int(c.st.sql, BACKLOG, 3 * CAST_WAIT_MS,
	             "SELECT count(*) FROM command_executions WHERE community_id = 4 AND status = 'failed' "
	             "AND error_message = 'queue_timeout' AND sent_at IS NULL AND waits IS NULL "
	             "AND completed_at >= queued_at + interval '8 s'");
	assert_int_equal(sql_int(c.st.sql, "SELECT count(*) FROM command_executions WHERE community_id = 4 AND status = 'pending'"),
	                 SHARE);
	for (int i = SHARE; i < SHARE + BACKLOG; i++)
		assert_int_equal(cast_told(&c, "slow", id[i]), 0);
	free_all(id, SHARE + BACKLOG);
	free(beyond);
	free(other);
}

/* Another replica took the answers: known without being told. */
static void answers_that_somebody_else_took_free_their_slots(void **state)
{
	char *id[SHARE + 2];

	(void)state;
	say_all(4, id, SHARE + 2);
	wait_sent(4, SHARE);
	sql_run(c.st.sql, "UPDATE command_executions SET status = 'success', completed_at = now() WHERE event_id = '%s'", id[0]);
	wait_sent(4, SHARE + 1);
	sql_run(c.st.sql, "UPDATE command_executions SET status = 'success', completed_at = now() WHERE event_id = '%s'", id[1]);
	wait_sent(4, SHARE + 2);
	cast_wait_told(&c, "slow", id[SHARE + 1], 1);
	free_all(id, SHARE + 2);
}

static void waiting_rows_are_found_again_after_a_kill(void **state)
{
	char *id[SHARE + 3];

	(void)state;
	say_all(5, id, SHARE + 3);
	wait_sent(5, SHARE);
	child_kill(c.router);
	child_start(c.router);
	wait_sent(5, SHARE + 3);                /* slots are counted anew */
	for (int i = 0; i < SHARE + 3; i++) {
		cast_wait_told(&c, "slow", id[i], 1);
		cast_answer(&c, "slow", id[i], true);
		cast_wait_status(&c, "slow", id[i], "success");
	}
	free_all(id, SHARE + 3);
}

/* A crash between the commit and the sending, and no slot free when the event comes again. */
static void a_command_that_was_never_sent_waits_when_it_is_delivered_again(void **state)
{
	char *id[SHARE], *lost;

	(void)state;
	say_all(6, id, SHARE);
	wait_sent(6, SHARE);
	lost = cast_say(&c, 6, "!slow lost");
	sql_wait_int(c.st.sql, 1, CAST_WAIT_MS, "SELECT count(*) FROM command_executions WHERE event_id = '%s'", lost);
	sql_run(c.st.sql, "UPDATE command_executions SET waits = NULL, sent_at = now() WHERE event_id = '%s'", lost);
	cast_again(&c, 6, lost, "!slow lost");
	sql_wait_int(c.st.sql, 1, CAST_WAIT_MS, "SELECT count(*) FROM command_executions WHERE event_id = '%s' "
	                                        "AND waits = 'turn' AND sent_at IS NULL", lost);
	cast_answer(&c, "slow", id[0], true);
	cast_wait_told(&c, "slow", lost, 1);
	cast_answer(&c, "slow", lost, true);
	cast_wait_status(&c, "slow", lost, "success");
	free_all(id, SHARE);
	free(lost);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_over_the_share_waits_and_goes_in_order),
		cmocka_unit_test(beyond_the_backlog_is_refused_and_the_partition_goes_on),
		cmocka_unit_test(answers_that_somebody_else_took_free_their_slots),
		cmocka_unit_test(waiting_rows_are_found_again_after_a_kill),
		cmocka_unit_test(a_command_that_was_never_sent_waits_when_it_is_delivered_again),
	};

	return !!cmocka_run_group_tests_name("fairness", tests, up, down);
}

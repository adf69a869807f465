/* Chains: sequential executions of one event, one after the other, whatever dies in between
 * (router.md 10, 12). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "cast.h"

#include <signal.h>

static struct cast c;

static int up(void **state)
{
	static const char *const modules[] = { "first", "second", "third", "absent", NULL };
	static const char *const env[] = { "LOG_LEVEL=info", "KAFKA_SESSION_TIMEOUT_MS=6000", "FAIR_OUTSTANDING=32", NULL };

	(void)state;
	cast_open(&c, "chains", 1, modules, env);
	/* Registered in another order than they run in. */
	cast_register(&c, "second", "{\"command\":\"chain\",\"prefix\":\"!\",\"priority\":10,\"timeout\":60},"
	                            "{\"command\":\"lame\",\"prefix\":\"!\",\"priority\":10,\"timeout\":1},"
	                            "{\"command\":\"wide\",\"prefix\":\"!\",\"priority\":10,\"execution_mode\":\"parallel\"},"
	                            "{\"command\":\"mixed\",\"prefix\":\"!\",\"priority\":10,\"execution_mode\":\"parallel\"}", 4);
	cast_register(&c, "first", "{\"command\":\"chain\",\"prefix\":\"!\",\"priority\":5,\"timeout\":60},"
	                           "{\"command\":\"lame\",\"prefix\":\"!\",\"priority\":5},"
	                           "{\"command\":\"wide\",\"prefix\":\"!\",\"priority\":5,\"execution_mode\":\"parallel\"},"
	                           "{\"command\":\"mixed\",\"prefix\":\"!\",\"priority\":5}", 4);
	cast_register(&c, "third", "{\"command\":\"chain\",\"prefix\":\"!\",\"priority\":20,\"timeout\":60},"
	                           "{\"command\":\"lame\",\"prefix\":\"!\",\"priority\":20},"
	                           "{\"command\":\"wide\",\"prefix\":\"!\",\"priority\":20,\"execution_mode\":\"parallel\"},"
	                           "{\"command\":\"mixed\",\"prefix\":\"!\",\"priority\":20}", 4);
	return 0;
}

static int down(void **state)
{
	(void)state;
	cast_close(&c);
	return 0;
}

/* Three rows, of which so many have been sent. */
static void rows_sent(const char *id, int sent)
{
	sql_wait_int(c.st.sql, 3, CAST_WAIT_MS, "SELECT count(*) FROM command_executions WHERE event_id = '%s'", id);
	sql_wait_int(c.st.sql, sent, CAST_WAIT_MS, "SELECT count(sent_at) FROM command_executions WHERE event_id = '%s'", id);
}

/* Nobody was told before the one before had answered. */
static void no_overlap(const char *id)
{
	assert_int_equal(sql_int(c.st.sql, "SELECT count(*) FROM (SELECT e.sent_at, lag(e.completed_at) OVER "
	                                   "(ORDER BY k.priority) AS before FROM command_executions e JOIN commands k "
	                                   "ON k.id = e.command_id WHERE e.event_id = '%s') x WHERE sent_at < before", id), 0);
	assert_int_equal(sql_int(c.st.sql, "SELECT count(*) FROM command_executions WHERE event_id = '%s' "
	                                   "AND sent_at IS NOT NULL AND completed_at IS NOT NULL", id), 3);
	sql_wait_int(c.st.sql, 0, CAST_WAIT_MS, "SELECT count(*) FROM command_executions WHERE event_id = '%s' "
	                                        "AND waits IS NOT NULL", id);
}

/* router 25 */
static void sequential_modules_run_by_priority_one_after_the_other(void **state)
{
	char *id = cast_say(&c, 0, "!chain x");

	(void)state;
	cast_wait_told(&c, "first", id, 1);
	rows_sent(id, 1);
	assert_int_equal(cast_told(&c, "second", id) + cast_told(&c, "third", id), 0);
	cast_answer(&c, "first", id, true);
	cast_wait_told(&c, "second", id, 1);
	rows_sent(id, 2);
	assert_int_equal(cast_told(&c, "third", id), 0);
	cast_answer(&c, "second", id, true);
	cast_wait_told(&c, "third", id, 1);
	cast_answer(&c, "third", id, true);
	cast_wait_status(&c, "third", id, "success");
	assert_int_equal(cast_told(&c, "first", id) + cast_told(&c, "second", id), 2);
	no_overlap(id);
	free(id);
}

/* router 25: killed between two links; the answer comes while nobody is there. */
static void a_chain_goes_on_after_the_router_was_killed(void **state)
{
	char *id = cast_say(&c, 0, "!chain killed");

	(void)state;
	cast_wait_told(&c, "first", id, 1);
	child_kill(c.router);
	cast_answer(&c, "first", id, true);
	child_start(c.router);
	cast_wait_told(&c, "second", id, 1);
	child_kill(c.router);
	child_start(c.router);
	cast_answer(&c, "second", id, true);
	cast_wait_told(&c, "third", id, 1);
	cast_answer(&c, "third", id, true);
	cast_wait_status(&c, "third", id, "success");
	no_overlap(id);
	free(id);
}

/* router 61, the steps between two links: the row is put into the state in which a killed router
 * leaves it; any other one finds it there. */
static void a_link_is_found_wherever_its_sender_died(void **state)
{
	static const char *const left[] = {
		"sent_at = NULL, lease_until = NULL",                                   /* released, not taken */
		"sent_at = now(), lease_until = now() + interval '5 s'",                /* taken, not sent */
		"sent_at = now() - interval '6 s', lease_until = now() - interval '1 s'",       /* sent, not acknowledged */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(left); i++) {
		char *id = cast_say(&c, 0, "!chain step");

		cast_wait_told(&c, "first", id, 1);
		sql_run(c.st.sql, "UPDATE command_executions SET status = 'success', completed_at = now() - interval '7 s' "
		                  "WHERE event_id = '%s' AND module_name = 'first'", id);
		sql_run(c.st.sql, "UPDATE command_executions SET waits = 'turn', queued_at = now(), %s "
		                  "WHERE event_id = '%s' AND module_name = 'second'", left[i], id);
		cast_wait_told(&c, "second", id, 1);
		cast_answer(&c, "second", id, true);
		cast_wait_told(&c, "third", id, 1);
		cast_answer(&c, "third", id, true);
		cast_wait_status(&c, "third", id, "success");
		no_overlap(id);
		assert_int_equal(cast_told(&c, "second", id), 1);
		free(id);
	}
}

/* router 28: a failure and a time-out stop nobody behind them. */
static void a_link_that_fails_or_is_silent_stops_nobody(void **state)
{
	char *id = cast_say(&c, 0, "!lame"), *rows;

	(void)state;
	cast_wait_told(&c, "first", id, 1);
	cast_answer(&c, "first", id, false);
	cast_wait_told(&c, "second", id, 1);
	cast_wait_told(&c, "third", id, 1);             /* after a second of silence */
	cast_answer(&c, "third", id, true);
	cast_wait_status(&c, "third", id, "success");
	rows = sql_rows(c.st.sql, "SELECT module_name, status, response_status, coalesce(error_message, '') "
	                          "FROM command_executions WHERE event_id = '%s' ORDER BY module_name", id);
	assert_string_equal(rows, "first|failed|422|\nsecond|failed|504|timeout\nthird|success|200|\n");
	/* Its time ran from its own sending. */
	assert_int_equal(sql_int(c.st.sql, "SELECT count(*) FROM command_executions WHERE event_id = '%s' "
	                                   "AND module_name = 'second' AND completed_at >= sent_at + interval '1 s'", id), 1);
	free(rows);
	free(id);
}

/* router 26 */
static void parallel_modules_are_told_at_once(void **state)
{
	char *id = cast_say(&c, 0, "!wide");

	(void)state;
	cast_wait_told(&c, "first", id, 1);
	cast_wait_told(&c, "second", id, 1);
	cast_wait_told(&c, "third", id, 1);
	rows_sent(id, 3);
	assert_int_equal(sql_int(c.st.sql, "SELECT count(DISTINCT sent_at) FROM command_executions WHERE event_id = '%s' "
	                                   "AND status = 'pending' AND next_id IS NULL", id), 1);
	cast_answer(&c, "third", id, true);
	cast_answer(&c, "second", id, true);
	cast_answer(&c, "first", id, true);
	cast_wait_status(&c, "first", id, "success");
	free(id);
}

static void parallel_ones_do_not_wait_for_the_chain(void **state)
{
	char *id = cast_say(&c, 0, "!mixed");

	(void)state;
	cast_wait_told(&c, "first", id, 1);
	cast_wait_told(&c, "second", id, 1);
	rows_sent(id, 2);
	cast_answer(&c, "first", id, true);             /* the parallel one is silent */
	cast_wait_told(&c, "third", id, 1);
	cast_answer(&c, "third", id, true);
	cast_answer(&c, "second", id, true);
	cast_wait_status(&c, "second", id, "success");
	cast_wait_status(&c, "third", id, "success");
	free(id);
}

/* router 62: only what has been sent before is sent again. */
static void a_chain_delivered_again_stays_where_it_is(void **state)
{
	char *id = cast_say(&c, 0, "!chain again"), *next;

	(void)state;
	cast_wait_told(&c, "first", id, 1);
	cast_answer(&c, "first", id, true);
	cast_wait_told(&c, "second", id, 1);
	cast_again(&c, 0, id, "!chain again");
	cast_wait_told(&c, "first", id, 2);             /* its inbox answers again */
	cast_answer(&c, "first", id, true);
	next = cast_say(&c, 0, "!wide");                /* behind it in the same partition */
	cast_wait_told(&c, "third", next, 1);
	assert_int_equal(cast_told(&c, "third", id), 0);
	rows_sent(id, 2);
	cast_answer(&c, "second", id, true);
	cast_wait_told(&c, "third", id, 1);
	cast_answer(&c, "third", id, true);
	cast_wait_status(&c, "third", id, "success");
	assert_int_equal(cast_told(&c, "second", id), 1);
	free(next);
	free(id);
}

/* A link nobody points to: commands changed between two deliveries. */
static void a_link_without_a_chain_is_set_free(void **state)
{
	char *id = cast_say(&c, 0, "!chain orphan");

	(void)state;
	cast_wait_told(&c, "first", id, 1);
	sql_run(c.st.sql, "UPDATE command_executions SET next_id = NULL, next_module = NULL WHERE event_id = '%s'", id);
	cast_answer(&c, "first", id, true);
	sql_wait_int(c.st.sql, 2, 2 * CAST_WAIT_MS, "SELECT count(*) FROM command_executions WHERE event_id = '%s' "
	                                            "AND module_name <> 'first' AND sent_at IS NOT NULL", id);
	cast_answer(&c, "second", id, true);
	cast_answer(&c, "third", id, true);
	cast_wait_status(&c, "second", id, "success");
	cast_wait_status(&c, "third", id, "success");
	free(id);
}

/* router 70 */
static void the_row_that_violates_a_constraint_is_alone_among_the_dead_letters(void **state)
{
	enum { EVENTS = 512 };
	char *id[EVENTS];
	struct probe_topic t;
	int64_t had = probe_count(c.st.kafka, stack_topic(&c.st, "waddle.dlq"));

	(void)state;
	sql_run(c.st.sql, "ALTER TABLE command_executions ADD CONSTRAINT no_poison CHECK (message_content <> '!wide poison')");
	child_signal(c.router, SIGSTOP);
	for (int i = 0; i < EVENTS; i++)
		id[i] = cast_say(&c, 0, i == 200 ? "!wide poison" : "!wide batch");
	child_signal(c.router, SIGCONT);
	sql_wait_int(c.st.sql, EVENTS - 1, 3 * CAST_WAIT_MS,
	             "SELECT count(DISTINCT event_id) FROM command_executions WHERE message_content = '!wide batch'");
	probe_wait(c.st.kafka, stack_topic(&c.st, "waddle.dlq"), (size_t)had + 1, CAST_WAIT_MS, &t);
	assert_int_equal(t.n, had + 1);
	for (size_t i = 0; i < t.n; i++)
		if (strstr(t.msgs[i].value, id[200]) != NULL)
			assert_string_equal(probe_header(&t.msgs[i], "waddle-reason"), "database");
	probe_free(&t);
	for (int i = 0; i < EVENTS; i++)
		free(id[i]);
	sql_run(c.st.sql, "ALTER TABLE command_executions DROP CONSTRAINT no_poison");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sequential_modules_run_by_priority_one_after_the_other),
		cmocka_unit_test(a_chain_goes_on_after_the_router_was_killed),
		cmocka_unit_test(a_link_is_found_wherever_its_sender_died),
		cmocka_unit_test(a_link_that_fails_or_is_silent_stops_nobody),
		cmocka_unit_test(parallel_modules_are_told_at_once),
		cmocka_unit_test(parallel_ones_do_not_wait_for_the_chain),
		cmocka_unit_test(a_chain_delivered_again_stays_where_it_is),
		cmocka_unit_test(a_link_without_a_chain_is_set_free),
		cmocka_unit_test(the_row_that_violates_a_constraint_is_alone_among_the_dead_letters),
	};

	return !!cmocka_run_group_tests_name("chains", tests, up, down);
}

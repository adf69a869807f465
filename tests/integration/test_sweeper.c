/* Executions nobody answers: when they are failed, and by whom when their router is no more. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "fleet.h"

static struct fleet f;

enum { WAIT_MS = 20000, CHANNELS = 6 };

static int up(void **state)
{
	(void)state;
	fleet_open(&f, "sweeper", CHANNELS);
	fleet_command(&f, "short", 0);
	fleet_command(&f, "long", 0);
	sql_run(f.st.sql, "UPDATE commands SET timeout = CASE command WHEN 'short' THEN 1 ELSE 4 END");
	fleet_start(&f, 0, NULL);
	fleet_wait_owners(&f, 1, (const int[]){ 0 });
	return 0;
}

static int down(void **state)
{
	(void)state;
	fleet_close(&f);
	return 0;
}

static void send(const char *id, int channel, const char *text, int64_t at_ms)
{
	fleet_send(&f, (struct fleet_event){ .id = id, .user = "1", .channel = channel, .text = text,
	                                     .received_ms = at_ms });
	fleet_flush(&f);
	fleet_wait_verdicts(&f, 1, id, WAIT_MS);
}

static void wait_status(const char *id, const char *status)
{
	sql_wait_int(f.st.sql, 1, WAIT_MS,
	             "SELECT count(*) FROM command_executions WHERE event_id = '%s' AND status = '%s' "
	             "AND error_message IS NOT DISTINCT FROM %s",
	             id, status, strcmp(status, "failed") == 0 ? "'timeout'" : "NULL");
}

/* router 17: the time of each command is its own. */
static void each_is_failed_when_its_own_time_is_over(void **state)
{
	(void)state;
	send("twitch:own-long", 0, "!long", 0);
	for (int c = 0; c < CHANNELS; c++) {
		char *id = text_of("twitch:own-%d", c);

		send(id, c, "!short", c % 2 == 0 ? 0 : fleet_now_ms() - 7200000);
		free(id);
	}
	sql_wait_int(f.st.sql, CHANNELS, WAIT_MS, "SELECT count(*) FROM command_executions WHERE status = 'failed' "
	                                          "AND response_status = 504 AND error_message = 'timeout' "
	                                          "AND completed_at >= sent_at + interval '1 second'");
	wait_status("twitch:own-long", "failed");
	assert_int_equal(sql_int(f.st.sql, "SELECT count(*) FROM command_executions WHERE event_id = 'twitch:own-long' "
	                                   "AND completed_at >= sent_at + interval '4 seconds'"),
	                 1);
}

/* Chains and fairness: time runs from sent_at, not before. */
static void what_is_not_sent_waits(void **state)
{
	(void)state;
	send("twitch:wait-a", 1, "!long", 0);
	sql_run(f.st.sql, "UPDATE command_executions SET sent_at = NULL, status = 'pending', error_message = NULL "
	                  "WHERE event_id = 'twitch:wait-a'");
	send("twitch:wait-b", 1, "!long", 0);
	wait_status("twitch:wait-b", "failed");
	wait_status("twitch:wait-a", "pending");
	sql_run(f.st.sql, "UPDATE command_executions SET sent_at = now() WHERE event_id = 'twitch:wait-a'");
	wait_status("twitch:wait-a", "failed");
}

/* Old rows that are pending are found, because the batch that wrote them moved the point back. */
static void what_a_killed_router_left_is_failed_by_the_next(void **state)
{
	int64_t at = fleet_now_ms() - 3600000;

	(void)state;
	sql_run(f.st.sql, "UPDATE router_partitions SET pending_since = now()");
	send("twitch:left", 2, "!long", at);
	assert_int_equal(sql_int(f.st.sql, "SELECT count(*) FROM router_partitions "
	                                   "WHERE pending_since <= to_timestamp(%lld / 1000.0)", (long long)at),
	                 1);
	child_kill(f.router[0]);
	fleet_start(&f, 1, NULL);
	wait_status("twitch:left", "failed");
}

static void the_point_moves_on_when_everything_is_settled(void **state)
{
	(void)state;
	sql_wait_int(f.st.sql, FLEET_PARTITIONS, WAIT_MS,
	             "SELECT count(*) FROM router_partitions WHERE pending_since BETWEEN now() - interval '3 minutes' "
	             "AND now() - interval '1 minute'");
	assert_int_equal(sql_int(f.st.sql, "SELECT count(*) FROM command_executions WHERE status = 'pending'"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_is_failed_when_its_own_time_is_over),
		cmocka_unit_test(what_is_not_sent_waits),
		cmocka_unit_test(what_a_killed_router_left_is_failed_by_the_next),
		cmocka_unit_test(the_point_moves_on_when_everything_is_settled),
	};

	return !!cmocka_run_group_tests_name("sweeper", tests, up, down);
}

/* test_stack.c - the servers the other integration tests rely on do what the harness says. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "stack.h"

#include <signal.h>

static struct stack st;

static int set_up(void **state)
{
	(void)state;
	stack_open(&st, "stack", STACK_DATABASE);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	stack_close(&st);
	return 0;
}

static void a_fresh_database_is_empty_and_visible_on_the_standby(void **state)
{
	char code[6];

	(void)state;
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM pg_stat_user_tables"), 0);
	sql_run(st.sql, "CREATE TABLE seen (n bigint)");
	sql_run(st.sql, "INSERT INTO seen SELECT generate_series(1, 10)");
	sql_wait_int(st.standby, 10, 10000, "SELECT count(*) FROM seen");
	assert_int_equal(sql_try(st.standby, code, "INSERT INTO seen VALUES (11)"), -EIO);
	assert_string_equal(code, "25006");
}

static void what_a_commit_promises_is_switched_on(void **state)
{
	char *rows;

	(void)state;
	rows = sql_rows(st.sql, "SELECT current_setting('fsync'), current_setting('full_page_writes'),"
				" current_setting('synchronous_commit')");
	assert_string_equal(rows, "on|on|on\n");
	free(rows);
}

static void paused_replay_shows_the_past_until_it_is_resumed(void **state)
{
	(void)state;
	sql_run(st.sql, "CREATE TABLE late (n bigint)");
	stack_wait_replay(&st, 10000);
	stack_pg("pause-replay");
	sql_run(st.sql, "INSERT INTO late VALUES (1)");
	assert_int_equal(sql_int(st.standby, "SELECT count(*) FROM late"), 0);
	stack_pg("resume-replay");
	sql_wait_int(st.standby, 1, 10000, "SELECT count(*) FROM late");
}

static void a_killed_primary_comes_back_with_what_was_committed(void **state)
{
	(void)state;
	sql_run(st.sql, "CREATE TABLE kept (n bigint)");
	for (int i = 0; i < 50; i++)
		sql_run(st.sql, "INSERT INTO kept VALUES (%d)", i);
	stack_pg("kill primary");
	stack_pg("start primary");
	sql_wait_int(st.sql, 50, 10000, "SELECT count(*) FROM kept");
	sql_run(st.sql, "INSERT INTO kept VALUES (50)");
	sql_wait_int(st.standby, 51, 20000, "SELECT count(*) FROM kept");
}

static void a_topic_keeps_key_headers_and_order(void **state)
{
	static const char *const headers[] = { "ce_type: waddle.event.v1", "twice: 1", "twice: 2", NULL };
	const char *topic;
	struct probe_topic t;

	(void)state;
	stack_topic_create(&st, "waddle.events", 3);
	topic = stack_topic(&st, "waddle.events");
	assert_int_equal(probe_count(st.kafka, topic), 0);
	probe_send(st.kafka, topic, 1, "k", "one", 3, headers);
	probe_send(st.kafka, topic, 1, "k", "two", 3, NULL);
	probe_send(st.kafka, topic, 2, NULL, NULL, 0, NULL);
	probe_wait(st.kafka, topic, 3, 10000, &t);
	assert_int_equal(t.n, 3);
	assert_string_equal(t.msgs[0].value, "one");
	assert_string_equal(t.msgs[0].key, "k");
	assert_string_equal(probe_header(&t.msgs[0], "twice"), "2");
	assert_null(probe_header(&t.msgs[1], "twice"));
	assert_string_equal(t.msgs[1].value, "two");
	assert_int_equal(t.msgs[1].offset, 1);
	assert_null(t.msgs[2].value);
	assert_null(t.msgs[2].key);
	probe_free(&t);
}

static void a_killed_broker_comes_back_on_its_port_with_its_messages(void **state)
{
	const char *topic = stack_topic(&st, "waddle.kept");
	struct probe_topic t;

	(void)state;
	stack_topic_create(&st, "waddle.kept", 1);
	probe_send(st.kafka, topic, 0, "k", "before", 6, NULL);
	stack_broker("kill");
	stack_broker("start");
	probe_send(st.kafka, topic, 0, "k", "after", 5, NULL);
	probe_wait(st.kafka, topic, 2, 10000, &t);
	assert_string_equal(t.msgs[0].value, "before");
	assert_string_equal(t.msgs[1].value, "after");
	probe_free(&t);
}

static void schema_and_topics_are_made_by_our_own_tool(void **state)
{
	char code[6];
	struct stack own;
	struct sql *memories;

	(void)state;
	stack_open(&own, "stack_schema", STACK_SCHEMA | STACK_TOPICS);
	assert_int_equal(sql_int(own.sql, "SELECT count(*) FROM memories"), 0);
	assert_int_equal(sql_int(own.standby, "SELECT count(*) FROM memories"), 0);
	assert_int_equal(probe_count(own.kafka, stack_topic(&own, "waddle.events")), 0);
	memories = sql_open(stack_url(&own, "waddle_memories"));
	assert_int_equal(sql_try(memories, code, "SELECT count(*) FROM memories"), 0);
	assert_int_equal(sql_try(memories, code, "SELECT count(*) FROM command_executions"), -EIO);
	assert_string_equal(code, "42501");
	sql_close(memories);
	stack_close(&own);
}

static void a_child_can_be_stopped_killed_and_started_again(void **state)
{
	static const char *const argv[] = { "/bin/sh", "-c", "echo \"up $WORD\"; exec sleep 1000", NULL };
	static const char *const env[] = { "WORD=here", "ADMIN_LISTEN=127.0.0.1:{port}", NULL };
	struct child *c = child_new("sleeper", argv, env);
	struct probe_answer a;
	char *url;
	int port;

	(void)state;
	child_start(c);
	child_wait_log(c, "up here", 5000);
	port = child_port(c, "ADMIN_LISTEN");
	assert_in_range(port, 1024, 65535);
	child_signal(c, SIGSTOP);
	assert_int_equal(child_wait(c, 50), -1);
	child_signal(c, SIGCONT);
	assert_int_equal(child_end(c, 5000), 128 + SIGTERM);
	child_start(c);
	assert_int_equal(child_port(c, "ADMIN_LISTEN"), port);
	assert_true(child_rss_kib(c) > 0);
	child_kill(c);
	assert_false(child_running(c));
	url = text_of("http://127.0.0.1:%d/readyz", port);
	assert_int_equal(probe_http("GET", url, NULL, NULL, 0, 1000, &a), -ECONNREFUSED);
	free(url);
	child_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fresh_database_is_empty_and_visible_on_the_standby),
		cmocka_unit_test(what_a_commit_promises_is_switched_on),
		cmocka_unit_test(paused_replay_shows_the_past_until_it_is_resumed),
		cmocka_unit_test(a_killed_primary_comes_back_with_what_was_committed),
		cmocka_unit_test(a_topic_keeps_key_headers_and_order),
		cmocka_unit_test(a_killed_broker_comes_back_on_its_port_with_its_messages),
		cmocka_unit_test(schema_and_topics_are_made_by_our_own_tool),
		cmocka_unit_test(a_child_can_be_stopped_killed_and_started_again),
	};

	return !!cmocka_run_group_tests_name("stack", tests, set_up, tear_down);
}

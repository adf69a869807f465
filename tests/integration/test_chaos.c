/* test_chaos.c - processes and servers that die while commands flow: nothing lost, nothing twice. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "suite.h"

#include <signal.h>

enum { CHANNELS = 8, COMMANDS = 2000, SETTLE_MS = 400000, TAKE_MS = 60000 };

static struct suite su;

static int set_up(void **state)
{
	(void)state;
	suite_open(&su, "chaos", CHANNELS);
	/* Answers may be as late as it takes to bring everything back: that is what is tested here. */
	sql_run(su.st.sql, "UPDATE commands SET timeout = 300");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	suite_close(&su);
	return 0;
}

/* Command number i of a round: a channel, one of many users, a content found nowhere else. */
static void give(const char *round, int i)
{
	char *text = text_of("!memories add quote \"%s-%04d\"", round, i), *user = text_of("%d", 5000 + i % 97);
	struct eventsub_chat c = { .channel = suite_channel(i % CHANNELS), .user_id = user, .login = user,
		                   .badge = "moderator", .text = text };
	struct eventsub_post p;

	eventsub_chat(&p, su.secret, &c, NULL);
	suite_deliver(&su, &p, TAKE_MS);
	eventsub_free(&p);
	free(text);
	free(user);
}

/* Exactly `n` commands of the round were carried out and answered, each once.  resends: collectors
 * that died, each of which may have been waiting for Helix's answer; such a message is said once
 * more, at most (collectors.md 5.5). */
static void each_once(const char *round, int n, int resends)
{
	char *text = text_of("%s-", round);
	int64_t copies;

	sql_wait_int(su.st.sql, n, SETTLE_MS,
	             "SELECT count(*) FROM command_executions WHERE status = 'success' AND message_content LIKE '%%%s-%%'",
	             round);
	suite_wait_answers(&su, text, n, SETTLE_MS);
	assert_int_equal(suite_answers(&su, text, &copies), n);
	suite_wait_heard(&su, text, n, SETTLE_MS);
	sql_wait_int(su.st.sql, n, SETTLE_MS, "SELECT count(*) FROM twitch_outbox WHERE state = 'sent'"
	                                      " AND message LIKE '%%%s-%%'", round);
	printf("%s: %d commands, %d answers, %lld messages on the outbound topic, %lld at Helix\n", round, n, n,
	       (long long)copies, (long long)suite_heard(&su, text));
	assert_in_range(suite_heard(&su, text), n, n + resends);
	free(text);
	assert_int_equal(sql_int(su.st.sql, "SELECT count(*) FROM command_executions WHERE message_content LIKE '%%%s-%%'", round), n);
	assert_int_equal(sql_int(su.st.sql, "SELECT count(DISTINCT event_id) FROM command_executions"
	                                    " WHERE message_content LIKE '%%%s-%%'", round), n);
	assert_int_equal(sql_int(su.st.sql, "SELECT count(*) FROM memories WHERE content LIKE '%s-%%'", round), n);
	assert_int_equal(sql_int(su.st.sql, "SELECT count(DISTINCT content) FROM memories WHERE content LIKE '%s-%%'", round), n);
}

static struct child *any(void)
{
	struct child *const all[] = { su.collector, su.router, su.memories };

	return all[rnd_below(ARRAY_LEN(all))];
}

static void processes_killed_at_random_instants_lose_and_double_nothing(void **state)
{
	int next = 40, kills = 0, collectors = 0;

	(void)state;
	for (int i = 0; i < COMMANDS; i++) {
		if (i == next) {
			struct child *c = any();

			child_kill(c);
			child_start(c);
			kills++;
			collectors += c == su.collector;
			next = i + 40 + (int)rnd_below(160);
		}
		give("kill", i);
	}
	assert_in_range(kills, 8, 50);
	printf("kill: %d processes killed, %d of them collectors\n", kills, collectors);
	each_once("kill", COMMANDS, collectors);
}

/* SIGTERM drains: status 0, and what was under way is finished or left for the successor. */
static void a_drain_under_load_ends_with_status_0_and_doubles_nothing(void **state)
{
	struct child *const all[] = { su.router, su.memories, su.collector };
	int i = 0;

	(void)state;
	for (size_t k = 0; k < ARRAY_LEN(all); k++) {
		for (int n = 0; n < 100; n++)
			give("drain", i++);
		assert_int_equal(child_end(all[k], 30000), 0);
		child_start(all[k]);
		if (all[k] == su.collector)
			child_wait_ready(all[k], true, 60000);
	}
	each_once("drain", i, 0);
}

static void a_restarted_primary_is_waited_for_and_nothing_is_lost(void **state)
{
	pid_t before[3] = { child_pid(su.collector), child_pid(su.router), child_pid(su.memories) };
	int i = 0;

	(void)state;
	while (i < 150)
		give("primary", i++);
	stack_pg("stop primary");
	child_wait_ready(su.router, false, 20000);
	child_wait_ready(su.memories, false, 20000);
	child_wait_ready(su.collector, false, 20000);
	stack_pg("start primary");
	while (i < 300)
		give("primary", i++);
	child_wait_ready(su.router, true, 60000);
	child_wait_ready(su.memories, true, 60000);
	child_wait_ready(su.collector, true, 60000);
	each_once("primary", i, 0);
	assert_int_equal(child_pid(su.collector), before[0]);
	assert_int_equal(child_pid(su.router), before[1]);
	assert_int_equal(child_pid(su.memories), before[2]);
}

static void a_restarted_broker_is_waited_for_and_nothing_is_lost(void **state)
{
	pid_t before[3] = { child_pid(su.collector), child_pid(su.router), child_pid(su.memories) };
	int i = 0;

	(void)state;
	while (i < 150)
		give("broker", i++);
	stack_broker("stop");
	child_wait_ready(su.router, false, 30000);
	child_wait_ready(su.memories, false, 30000);
	while (i < 200)                 /* taken without a broker: stored first, published later */
		give("broker", i++);
	stack_broker("start");
	while (i < 300)
		give("broker", i++);
	child_wait_ready(su.router, true, 60000);
	child_wait_ready(su.memories, true, 60000);
	each_once("broker", i, 0);
	assert_int_equal(child_pid(su.collector), before[0]);
	assert_int_equal(child_pid(su.router), before[1]);
	assert_int_equal(child_pid(su.memories), before[2]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(processes_killed_at_random_instants_lose_and_double_nothing),
		cmocka_unit_test(a_drain_under_load_ends_with_status_0_and_doubles_nothing),
		cmocka_unit_test(a_restarted_primary_is_waited_for_and_nothing_is_lost),
		cmocka_unit_test(a_restarted_broker_is_waited_for_and_nothing_is_lost),
	};

	return !!cmocka_run_group_tests_name("chaos", tests, set_up, tear_down);
}

/* test_way.c - the main way over real servers: a signed webhook in, an answer at Helix out. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "suite.h"

enum { WAIT_MS = 20000 };

static struct suite su;

static int set_up(void **state)
{
	(void)state;
	suite_open(&su, "way", 3);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	suite_close(&su);
	return 0;
}

static int64_t memories_with(const char *content)
{
	return sql_int(su.st.sql, "SELECT count(*) FROM memories WHERE content = '%s'", content);
}

static void a_webhook_becomes_a_memory_and_an_answer_at_helix(void **state)
{
	char *row;

	(void)state;
	suite_say(&su, 0, "!memories add quote \"we ship on Friday\" Ada");
	suite_wait_heard(&su, "we ship on Friday", 1, WAIT_MS);
	row = sql_rows(su.st.sql, "SELECT m.memory_type, m.author, c.display_name, e.address FROM memories m"
	                          " JOIN communities c ON c.id = m.community_id JOIN entities e USING (entity_id)"
	                          " WHERE m.content = 'we ship on Friday'");
	assert_string_equal(row, "quote|Ada|Community 1|twitch:1001\n");
	free(row);
	sql_wait_int(su.st.sql, 1, WAIT_MS,
	             "SELECT count(*) FROM command_executions WHERE status = 'success' AND message_content LIKE '%%Friday%%'");
}

/* The marker comes later in the same partition: once it is answered, what was posted before it has
 * had its effect, or will never have one. */
static void answered_in_order(const char *marker)
{
	suite_say(&su, 0, "!memories add quote \"%s\"", marker);
	suite_wait_heard(&su, marker, 1, WAIT_MS);
}

static void the_same_delivery_twice_is_one_memory_and_one_answer(void **state)
{
	struct eventsub_chat c = { .channel = suite_channel(0), .badge = "moderator",
		                   .text = "!memories add quote \"only once\"" };
	struct eventsub_post p;

	(void)state;
	eventsub_chat(&p, su.secret, &c, NULL);
	for (int i = 0; i < 3; i++)
		assert_in_range(suite_post(&su, &p), 200, 299);
	answered_in_order("after the repetition");
	assert_int_equal(memories_with("only once"), 1);
	assert_int_equal(suite_heard(&su, "only once"), 1);
	eventsub_free(&p);
}

static void another_delivery_of_the_same_chat_message_is_not_a_second_one(void **state)
{
	char message[37];
	struct eventsub_chat c = { .channel = suite_channel(0), .badge = "moderator", .message_id = message,
		                   .text = "!memories add quote \"said once\"" };
	struct eventsub_post a, b;

	(void)state;
	eventsub_uuid(message);
	eventsub_chat(&a, su.secret, &c, NULL);
	eventsub_chat(&b, su.secret, &c, NULL);
	assert_string_not_equal(a.delivery_id, b.delivery_id);
	assert_in_range(suite_post(&su, &a), 200, 299);
	assert_in_range(suite_post(&su, &b), 200, 299);
	answered_in_order("after the other delivery");
	assert_int_equal(memories_with("said once"), 1);
	assert_int_equal(suite_heard(&su, "said once"), 1);
	eventsub_free(&a);
	eventsub_free(&b);
}

static double metric(struct child *c, const char *series)
{
	char *url = text_of("http://127.0.0.1:%d", child_port(c, "ADMIN_LISTEN"));
	double value = probe_metric(url, series);

	free(url);
	if (value < 0)
		fail_msg("no series %s", series);
	return value;
}

/* contracts.md: who wrote sees what was written, whatever the standby has replayed; everybody else
 * is served by the standby. */
static void paused_replay_hides_nothing_from_the_community_that_wrote(void **state)
{
	static const char fresh[] = "waddle_db_standby_reads_total{result=\"fresh\"}";
	static const char behind[] = "waddle_db_standby_reads_total{result=\"behind\"}";
	double fresh_before, behind_before;

	(void)state;
	suite_say(&su, 1, "!memories add quote \"known before\"");
	suite_wait_heard(&su, "known before", 1, WAIT_MS);
	suite_say(&su, 2, "!memories add quote \"elsewhere\"");
	suite_wait_heard(&su, "elsewhere", 1, WAIT_MS);
	stack_wait_replay(&su.st, WAIT_MS);
	stack_pg("pause-replay");
	behind_before = metric(su.memories, behind);
	suite_say(&su, 1, "!memories add quote \"just now\"");
	suite_wait_heard(&su, "just now", 1, WAIT_MS);
	suite_say(&su, 1, "!memories list");
	suite_wait_heard(&su, "just now", 2, WAIT_MS);
	assert_true(metric(su.memories, behind) > behind_before);
	fresh_before = metric(su.memories, fresh);
	suite_say(&su, 2, "!memories list");
	suite_wait_heard(&su, "elsewhere", 2, WAIT_MS);
	stack_pg("resume-replay");
	assert_true(metric(su.memories, fresh) > fresh_before);
}

static void a_forged_or_missing_signature_leaves_no_trace(void **state)
{
	struct eventsub_chat c = { .channel = suite_channel(0), .badge = "moderator",
		                   .text = "!memories add quote \"never said\"" };
	struct eventsub_post p;

	(void)state;
	eventsub_chat(&p, su.secret, &c, NULL);
	p.body[p.body_n / 2] ^= 1;
	assert_int_equal(suite_post(&su, &p), 403);
	p.body[p.body_n / 2] ^= 1;
	p.headers[4][strlen(p.headers[4]) - 1] ^= 1;
	assert_int_equal(suite_post(&su, &p), 403);
	eventsub_free(&p);
	eventsub_chat(&p, "another-secret-of-ours", &c, NULL);
	assert_int_equal(suite_post(&su, &p), 403);
	eventsub_free(&p);
	answered_in_order("after the forgery");
	assert_int_equal(memories_with("never said"), 0);
	assert_int_equal(sql_int(su.st.sql, "SELECT count(*) FROM twitch_events WHERE event_data::text LIKE '%%never said%%'"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_webhook_becomes_a_memory_and_an_answer_at_helix),
		cmocka_unit_test(the_same_delivery_twice_is_one_memory_and_one_answer),
		cmocka_unit_test(another_delivery_of_the_same_chat_message_is_not_a_second_one),
		cmocka_unit_test(paused_replay_hides_nothing_from_the_community_that_wrote),
		cmocka_unit_test(a_forged_or_missing_signature_leaves_no_trace),
	};

	return !!cmocka_run_group_tests_name("way", tests, set_up, tear_down);
}

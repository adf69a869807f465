/* Sending to Twitch: PostgreSQL and Kafka are real, Twitch is tests/fakes/twitch. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "eventsub.h"
#include "ids.h"
#include "stack.h"
#include "str.h"

#include <librdkafka/rdkafka.h>

#define SECRET "test-only-webhook-secret-0001"
#define BOT    "990001"

enum { WAIT_MS = 10000 };

static struct stack st;
static struct child *fake, *collector;

static const char *const topics[] = {
	"waddle.events", "waddle.activities", "waddle.registry", "waddle.dlq", "waddle.outbound.twitch",
	"waddle.responses.collector-twitch",
};

static char *fake_url(const char *path)
{
	return text_of("http://127.0.0.1:%d%s", child_port(fake, "HTTP_LISTEN"), path);
}

static struct child *collector_start(const char *bot)
{
	char *api = text_of("TWITCH_API_URL=http://127.0.0.1:%d/helix", child_port(fake, "HTTP_LISTEN"));
	char *id = text_of("TWITCH_ID_URL=http://127.0.0.1:%d", child_port(fake, "HTTP_LISTEN"));
	char *user = text_of("TWITCH_BOT_USER_ID=%s", bot);
	static const char secret[] = "TWITCH_WEBHOOK_SECRET=" SECRET;
	const char *const env[] = {
		"HTTP_LISTEN=127.0.0.1:{port}", secret, "TWITCH_CLIENT_ID=test-client",
		"TWITCH_CLIENT_SECRET=test-client-secret", user, api, id, NULL,
	};
	struct child *c = stack_service(&st, "waddle-collector-twitch", "waddle_collector_twitch", env);

	free(api);
	free(id);
	free(user);
	return c;
}

static struct child *fake_start(const char *window)
{
	const char *const argv[] = { "waddle-fake-twitch", NULL };
	const char *const env[] = {
		"HTTP_LISTEN=127.0.0.1:{port}", "ADMIN_LISTEN=127.0.0.1:{port}", "FAKE_MODERATED=2001,2002,2003,2004", window, NULL,
	};
	struct child *c = child_new("fake-twitch", argv, env);

	child_start(c);
	child_wait_ready(c, true, WAIT_MS);
	return c;
}

/* The fake's answer to GET. */
static char *fake_get(const char *path)
{
	char *url = fake_url(path), *body;
	struct probe_answer a;

	probe_get(url, &a);
	body = strdup(a.body);
	probe_answer_free(&a);
	free(url);
	return body;
}

static void fake_post(const char *path, const char *body)
{
	const char *const headers[] = { "Content-Type: application/json", NULL };
	char *url = fake_url(path);
	struct probe_answer a;

	assert_int_equal(probe_http("POST", url, headers, body, strlen(body), 5000, &a), 0);
	assert_int_equal(a.status, 204);
	probe_answer_free(&a);
	free(url);
}

static size_t count_of(const char *text, const char *what)
{
	size_t n = 0;

	while ((text = strstr(text, what)) != NULL) {
		n++;
		text += strlen(what);
	}
	return n;
}

/* Messages the fake has of a channel. */
static size_t sent(const char *channel)
{
	char *path = text_of("/_sent?channel=%s", channel), *body = fake_get(path);
	size_t n = count_of(body, "\"message_id\"");

	free(path);
	free(body);
	return n;
}

struct want { const char *channel; size_t n; };
static bool is_sent(void *arg)
{
	const struct want *w = arg;

	return sent(w->channel) >= w->n;
}

static void wait_sent(const char *channel, size_t n)
{
	struct want w = { channel, n };

	wait_for("messages at the fake", is_sent, &w, WAIT_MS);
}

/* more: further members, with a comma in front. */
static void outbound(const char *id, const char *channel, const char *text, const char *more)
{
	const char *const headers[] = { "ce_type: waddle.outbound.v1", "ce_specversion: 1.0", NULL };
	char *key = text_of("twitch:%s", channel);
	struct buf b = BUF(1 << 20);
	struct str body;

	buf_printf(
		&b,
		"{\"message_id\":\"%s\",\"kind\":\"chat\",\"entity\":\"%s\",\"channel_id\":\"%s\",\"text\":",
		id, key, channel);
	buf_json(&b, str_of(text));
	buf_printf(&b, "%s}", more != NULL ? more : "");
	assert_int_equal(buf_str(&b, &body), 0);
	probe_send(st.kafka, stack_topic(&st, "waddle.outbound.twitch"), -1, key, body.p, body.n, headers);
	buf_clear(&b);
	free(key);
}

static void wait_state(const char *id, const char *state)
{
	sql_wait_int(
		st.sql, 1, WAIT_MS,
		"SELECT count(*) FROM twitch_outbox WHERE message_id = '%s' AND state = '%s' AND reported",
		id, state);
}

static void a_message_is_sent_reported_and_not_sent_again(void **state)
{
	char id[ID_TEXT], *body;
	struct probe_topic t;

	(void)state;
	id_random(id);
	outbound(id, "1001", "hello there", ",\"reply_ref\":\"twitch:parent-1\",\"user_id\":\"7\"");
	wait_state(id, "sent");
	body = fake_get("/_sent?channel=1001");
	assert_non_null(strstr(body, "\"message\":\"hello there\""));
	assert_non_null(strstr(body, "\"sender_id\":\"" BOT "\""));
	assert_non_null(strstr(body, "\"reply_parent_message_id\":\"parent-1\""));
	free(body);
	probe_wait(st.kafka, stack_topic(&st, "waddle.responses.collector-twitch"), 1, WAIT_MS, &t);
	assert_int_equal(t.n, 1);
	assert_non_null(strstr(t.msgs[0].value, id));
	assert_non_null(strstr(t.msgs[0].value, "\"status\":\"sent\""));
	probe_free(&t);

	outbound(id, "1001", "hello there", NULL);
	id_random(id);
	outbound(id, "1001", "the next", NULL);
	wait_state(id, "sent");
	assert_int_equal(sent("1001"), 2);
}

/* 5.5: final, with the platform's word. */
static void what_twitch_refuses_is_final_and_says_why(void **state)
{
	char id[ID_TEXT];

	(void)state;
	id_random(id);
	fake_post("/_behave", "{\"channel\":\"1002\",\"drop\":\"msg_duplicate\"}");
	outbound(id, "1002", "again", NULL);
	wait_state(id, "refused");
	assert_int_equal(sql_int(st.sql,
	                         "SELECT count(*) FROM twitch_outbox WHERE message_id = '%s' AND error = "
	                         "'msg_duplicate'",
	                         id),
	                 1);
	assert_int_equal(sent("1002"), 0);
}

static void what_did_not_leave_is_sent_again(void **state)
{
	char id[ID_TEXT];

	(void)state;
	id_random(id);
	fake_post("/_behave", "{\"channel\":\"2001\",\"status\":503,\"count\":2}");
	outbound(id, "2001", "third time", NULL);
	wait_state(id, "sent");
	assert_int_equal(sent("2001"), 1);
}

static void a_429_is_waited_out_and_is_no_attempt(void **state)
{
	char id[ID_TEXT];

	(void)state;
	id_random(id);
	fake_post("/_behave", "{\"channel\":\"2001\",\"status\":429,\"reset_s\":2}");
	outbound(id, "2001", "patience", NULL);
	sql_wait_int(st.sql, 1, WAIT_MS,
	             "SELECT count(*) FROM twitch_budget WHERE blocked_until > now() + interval '500 ms'");
	wait_state(id, "sent");
	assert_int_equal(sql_int(st.sql,
	                         "SELECT count(*) FROM twitch_outbox WHERE message_id = '%s' "
	                         "AND sent_at >= (SELECT blocked_until FROM twitch_budget)",
	                         id),
	                 1);
}

/* T20: 1,200 characters are three parts of at most 500. */
static void a_long_text_is_three_messages_in_order(void **state)
{
	char id[ID_TEXT], text[1201], *body;

	(void)state;
	for (size_t i = 0; i < sizeof text - 1; i++)
		text[i] = i % 8 == 7 ? ' ' : (char)('a' + i / 500);
	text[sizeof text - 1] = '\0';
	id_random(id);
	outbound(id, "2002", text, NULL);
	wait_sent("2002", 3);
	wait_state(id, "sent");
	body = fake_get("/_sent?channel=2002");
	assert_int_equal(count_of(body, "\"message_id\""), 3);
	assert_true(strstr(body, "aaaa") < strstr(body, "bbbb") &&
	            strstr(body, "bbbb") < strstr(body, "cccc"));
	free(body);
	assert_int_equal(
		sql_int(st.sql, "SELECT jsonb_array_length(parts) FROM twitch_outbox WHERE message_id = '%s'",
	                id),
		3);
}

/* 5.6: the text of a private answer is never written where others read it. */
static void a_private_answer_becomes_a_notice(void **state)
{
	char id[ID_TEXT], *body;

	(void)state;
	id_random(id);
	outbound(id, "1003", "your secret is 12345", ",\"private\":true,\"user_id\":\"7\"");
	wait_state(id, "sent");
	body = fake_get("/_sent?channel=1003");
	assert_null(strstr(body, "12345"));
	assert_non_null(strstr(body, "private answer"));
	free(body);
}

static void old_and_foreign_messages_are_not_sent(void **state)
{
	char old[ID_TEXT], foreign[ID_TEXT];

	(void)state;
	id_random(old);
	id_random(foreign);
	outbound(old, "1003", "too late", ",\"expires_at\":\"2026-01-01T00:00:00Z\"");
	outbound(foreign, "4711", "not ours", NULL);
	wait_state(old, "expired");
	wait_state(foreign, "refused");
	assert_int_equal(sent("4711"), 0);
	assert_int_equal(sent("1003"), 1);
}

/* A reminder names whom it is for; a command in front of a text is none any more. */
static void a_mention_is_added_and_commands_are_neutralised(void **state)
{
	char id[ID_TEXT], *body;

	(void)state;
	sql_run(st.sql, "INSERT INTO twitch_activities (event_id, activity_type, user_id, username, amount, "
	                "created_at, entity, "
	                "context_sent, reputation_sent) VALUES ('e', 'message', '77', 'ada', 5, now(), "
	                "'twitch:2002', true, true)");
	id_random(id);
	outbound(id, "2004", "drink water", ",\"user_id\":\"77\"");
	wait_state(id, "sent");
	id_random(id);
	outbound(id, "2004", "/ban everybody", NULL);
	wait_state(id, "sent");
	body = fake_get("/_sent?channel=2004");
	assert_non_null(strstr(body, "\"message\":\"@ada drink water\""));
	assert_non_null(strstr(body, "\"message\":\"\xe2\x81\xa0/ban everybody\""));
	free(body);
}

static void what_nobody_can_send_goes_to_the_dead_letters(void **state)
{
	const char *const headers[] = { "ce_type: waddle.outbound.v1", "ce_specversion: 1.0", NULL };
	static const char *const bodies[] = {
		"not json", "{}",
		"{\"message_id\":\"0a0b0c0d-0000-4000-8000-000000000001\",\"kind\":\"chat\",\"entity\":\"slack:T:C\",\"text\":\"x\"}",
		"{\"message_id\":\"0a0b0c0d-0000-4000-8000-000000000002\",\"kind\":\"chat\",\"entity\":\"twitch:1\","
		"\"channel_id\":\"2\",\"text\":\"x\"}",
	};
	struct probe_topic t;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
		probe_send(st.kafka, stack_topic(&st, "waddle.outbound.twitch"), -1, "k", bodies[i],
		           strlen(bodies[i]), headers);
	probe_wait(st.kafka, stack_topic(&st, "waddle.dlq"), ARRAY_LEN(bodies), WAIT_MS, &t);
	assert_int_equal(t.n, ARRAY_LEN(bodies));
	probe_free(&t);
}

/* 401: a new token, once; the refused one is not used again. */
static void a_refused_token_is_replaced_once(void **state)
{
	char id[ID_TEXT], *body;

	(void)state;
	fake_post("/_reset", "");
	id_random(id);
	outbound(id, "2001", "with a new token", NULL);
	wait_state(id, "sent");
	body = fake_get("/_sent?channel=2001");
	assert_non_null(strstr(body, "\"tokens\":1}"));
	free(body);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM twitch_tokens WHERE team_id = 'app' "
	                                 "AND octet_length(access_token) = 66"),
	                 1); /* 36 characters, sealed */
}

/* Without a token messages wait, and the registry hears of it; /readyz does not suffer. */
static void without_a_token_messages_wait(void **state)
{
	char id[ID_TEXT], *admin = text_of("http://127.0.0.1:%d", child_port(collector, "ADMIN_LISTEN"));

	(void)state;
	fake_post("/_reset", "");
	fake_post("/_tokens", "{\"refuse\":true}");
	id_random(id);
	outbound(id, "2001", "after a while", NULL);
	for (int64_t end = harness_now_ms() + WAIT_MS;
	     probe_metric(admin, "waddle_process_dependency_up{what=\"twitch-token\"}") != 0;)
		assert_true(harness_now_ms() < end);
	child_wait_ready(collector, true, 1000);
	fake_post("/_tokens", "{\"refuse\":false}");
	wait_state(id, "sent");
	assert_true(probe_metric(admin, "waddle_process_dependency_up{what=\"twitch-token\"}") == 1);
	free(admin);
}

static void what_twitch_does_not_allow_fails_with_its_words(void **state)
{
	char id[ID_TEXT];

	(void)state;
	id_random(id);
	fake_post("/_behave", "{\"channel\":\"2001\",\"status\":403}");
	outbound(id, "2001", "not here", NULL);
	wait_state(id, "failed");
	assert_int_equal(sql_int(st.sql,
	                         "SELECT count(*) FROM twitch_outbox WHERE message_id = '%s' "
	                         "AND error = 'http_403: as it was told'",
	                         id),
	                 1);
}

static void echo_to(struct child *c)
{
	char *body = text_of("{\"url\":\"http://127.0.0.1:%d/twitch/webhook\",\"secret\":\"" SECRET "\"}",
	                     child_port(c, "HTTP_LISTEN"));

	fake_post("/_echo", body);
	free(body);
}

/* 5.5: no answer.  Seen by its echo; never arrived; arrived and never seen. */
static void a_call_without_an_answer_is_settled(void **state)
{
	char seen[ID_TEXT], hung[ID_TEXT], lost[ID_TEXT], open[ID_TEXT];

	(void)state;
	id_random(seen);
	id_random(hung);
	id_random(lost);
	id_random(open);
	fake_post("/_reset", "");
	echo_to(collector);
	fake_post("/_behave", "{\"channel\":\"2001\",\"status\":502,\"lose\":true}");
	fake_post("/_behave", "{\"channel\":\"2002\",\"hang_ms\":20000,\"lose\":true}");
	fake_post("/_behave", "{\"channel\":\"2003\",\"status\":504}");
	fake_post("/_behave",
	          "{\"channel\":\"2004\",\"status\":500,\"lose\":true,\"mute\":true,\"count\":2}");
	outbound(open, "2004", "said twice, seen never", NULL);
	outbound(seen, "2001", "answer lost", NULL);
	outbound(hung, "2002", "answer late", NULL);
	outbound(lost, "2003", "message lost", NULL);
	wait_state(seen, "sent");
	assert_int_equal(sent("2001"), 1);
	sql_wait_int(st.sql, 4, 30000,
	             "SELECT count(*) FROM twitch_outbox WHERE reported AND message_id IN ('%s', '%s', '%s', "
	             "'%s')",
	             seen, hung, lost, open);
	wait_state(hung, "sent");
	assert_int_equal(sent("2002"), 1);
	wait_state(lost, "sent");
	assert_int_equal(sent("2003"), 1);
	wait_state(open, "unknown");
	assert_int_equal(sent("2004"), 2);
}

/* X23: killed while it waits for the answer; the other finds the echo. */
static void killed_while_sending_it_is_said_once(void **state)
{
	char id[ID_TEXT], next[ID_TEXT];

	(void)state;
	id_random(id);
	id_random(next);
	fake_post("/_reset", "");
	echo_to(collector);
	fake_post("/_behave", "{\"channel\":\"2001\",\"hang_ms\":30000,\"lose\":true}");
	outbound(id, "2001", "the last words", NULL);
	outbound(next, "2001", "of the next one", NULL);
	wait_sent("2001", 1);
	sql_wait_int(st.sql, 1, WAIT_MS,
	             "SELECT count(*) FROM twitch_dedupe WHERE key LIKE 'echo:twitch:2001:%%' "
	             "AND created_at > now() - interval '10 s'");
	assert_int_equal(
		sql_int(st.sql,
	                "SELECT count(*) FROM twitch_outbox WHERE message_id = '%s' AND state = 'sending'",
	                id),
		1);
	child_kill(collector);
	child_start(collector);
	child_wait_ready(collector, true, 20000);
	sql_run(st.sql, "UPDATE twitch_outbox SET lease_until = now() WHERE NOT reported");
	wait_state(id, "sent");
	wait_state(next, "sent");
	assert_int_equal(sent("2001"), 2);
}

/* The group begins again with the first message. */
static void forget_group(const char *group)
{
	char why[256], *name = text_of("%s.%s", st.prefix, group);
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *rk;
	rd_kafka_queue_t *q;
	rd_kafka_DeleteGroup_t *del = rd_kafka_DeleteGroup_new(name);
	rd_kafka_event_t *ev;
	const rd_kafka_group_result_t **res;
	size_t n;

	assert_int_equal(rd_kafka_conf_set(conf, "bootstrap.servers", st.kafka, why, sizeof why),
	                 RD_KAFKA_CONF_OK);
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
	assert_non_null(rk);
	q = rd_kafka_queue_new(rk);
	rd_kafka_DeleteGroups(rk, &del, 1, NULL, q);
	ev = rd_kafka_queue_poll(q, 20000);
	assert_non_null(ev);
	assert_int_equal(rd_kafka_event_error(ev), 0);
	res = rd_kafka_DeleteGroups_result_groups(rd_kafka_event_DeleteGroups_result(ev), &n);
	assert_int_equal(n, 1);
	assert_null(rd_kafka_group_result_error(res[0]));
	rd_kafka_event_destroy(ev);
	rd_kafka_DeleteGroup_destroy(del);
	rd_kafka_queue_destroy(q);
	rd_kafka_destroy(rk);
	free(name);
}

/* X25 */
static void the_topic_consumed_again_sends_nothing(void **state)
{
	char id[ID_TEXT], *all,
		*admin = text_of("http://127.0.0.1:%d", child_port(collector, "ADMIN_LISTEN"));
	int64_t messages = probe_count(st.kafka, stack_topic(&st, "waddle.outbound.twitch"));

	(void)state;
	assert_int_equal(child_end(collector, 20000), 0);
	forget_group("collector-twitch");
	fake_post("/_reset", "");
	child_start(collector);
	child_wait_ready(collector, true, 20000);
	id_random(id);
	outbound(id, "2001", "only this one", NULL);
	wait_state(id, "sent");
	for (int64_t end = harness_now_ms() + WAIT_MS;;) {
		double again = probe_metric(admin, "waddle_collector_outbound_again_total");
		double bad = probe_metric(admin, "waddle_collector_outbound_rejected_total");

		if ((int64_t)(again + bad) >= messages)
			break;
		assert_true(harness_now_ms() < end);
	}
	free(admin);
	all = fake_get("/_sent");
	assert_int_equal(count_of(all, "\"message_id\""), 1);
	free(all);
}

/* X24: windows of 3 s instead of 30, so that 500 messages are many windows. */
static void four_senders_share_one_window(void **state)
{
	enum { SENDERS = 4, MODERATED = 400, OTHERS = 100 };
	struct child *senders[SENDERS], *first = fake;
	char *body;

	(void)state;
	assert_int_equal(child_end(collector, 20000), 0);
	sql_run(st.sql, "DO $$ BEGIN EXECUTE replace(replace(pg_get_functiondef('twitch_reserve'::regproc), "
	                "'30 seconds', '3 seconds'), '10 seconds', '1 seconds'); END $$");
	fake = fake_start("FAKE_WINDOW=3s");
	for (int i = 0; i < SENDERS; i++)
		senders[i] = collector_start("990002");
	for (int i = 0; i < SENDERS; i++)
		child_wait_ready(senders[i], true, 30000);
	echo_to(senders[0]);
	for (int i = 0; i < MODERATED + OTHERS; i++) {
		char id[ID_TEXT], *text = text_of("x24 number %d", i), *channel;

		channel = i % 5 == 4 ? text_of("%d", 1001 + i / 5 % 5) : text_of("%d", 2001 + i % 4);
		id_random(id);
		outbound(id, channel, text, ",\"expires_at\":\"2099-01-01T00:00:00Z\"");
		free(text);
		free(channel);
	}
	sql_wait_at_least(
		st.sql, 100, 60000,
		"SELECT count(*) FROM twitch_outbox WHERE message LIKE '%%x24 number%%' AND state = 'sent'");
	/* one dies, another comes: the group rebalances, its rows are taken over */
	{
		int pid = child_pid(senders[3]);

		child_kill(senders[3]);
		sql_run(st.sql,
		        "UPDATE twitch_outbox SET lease_until = now() WHERE lease_owner LIKE '%%-%d' AND NOT "
		        "reported",
		        pid);
		child_start(senders[3]);
	}
	sql_wait_int(
		st.sql, MODERATED + OTHERS, 120000,
		"SELECT count(*) FROM twitch_outbox WHERE message LIKE '%%x24 number%%' AND state = 'sent'");
	body = fake_get("/_violations");
	print_message("%s\n", body);
	assert_non_null(strstr(body, "\"violations\":0,"));
	assert_non_null(strstr(body, "\"sent\":500}"));
	free(body);
	for (int i = 0; i < SENDERS; i++)
		assert_int_equal(child_end(senders[i], 20000), 0);
	for (int i = 0; i < SENDERS; i++)
		child_free(senders[i]);
	child_free(fake);
	fake = first;
}

static int setup(void **state)
{
	(void)state;
	stack_open(&st, "collector_out", STACK_SCHEMA);
	for (size_t i = 0; i < ARRAY_LEN(topics); i++)
		stack_topic_create(&st, topics[i], 8);
	sql_run(st.sql,
	        "INSERT INTO twitch_channels (channel_id, broadcaster_id, broadcaster_name, bot_role) "
	        "SELECT c, c, 'channel' || c, CASE WHEN c LIKE '2%%' THEN 'moderator' ELSE 'none' END "
	        "FROM unnest(ARRAY['1001','1002','1003','1004','1005','2001','2002','2003','2004']) c");
	fake = fake_start(NULL);
	collector = collector_start(BOT);
	child_wait_ready(collector, true, 20000);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	child_free(collector);
	child_free(fake);
	stack_close(&st);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_is_sent_reported_and_not_sent_again),
		cmocka_unit_test(what_twitch_refuses_is_final_and_says_why),
		cmocka_unit_test(what_did_not_leave_is_sent_again),
		cmocka_unit_test(a_429_is_waited_out_and_is_no_attempt),
		cmocka_unit_test(a_long_text_is_three_messages_in_order),
		cmocka_unit_test(a_private_answer_becomes_a_notice),
		cmocka_unit_test(old_and_foreign_messages_are_not_sent),
		cmocka_unit_test(a_mention_is_added_and_commands_are_neutralised),
		cmocka_unit_test(what_nobody_can_send_goes_to_the_dead_letters),
		cmocka_unit_test(a_refused_token_is_replaced_once),
		cmocka_unit_test(without_a_token_messages_wait),
		cmocka_unit_test(what_twitch_does_not_allow_fails_with_its_words),
		cmocka_unit_test(a_call_without_an_answer_is_settled),
		cmocka_unit_test(killed_while_sending_it_is_said_once),
		cmocka_unit_test(the_topic_consumed_again_sends_nothing),
		cmocka_unit_test(four_senders_share_one_window),
	};

	return !!cmocka_run_group_tests(tests, setup, teardown);
}

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

#include <signal.h>

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

static struct child *collector_start(const char *more)
{
	char *api = text_of("TWITCH_API_URL=http://127.0.0.1:%d/helix", child_port(fake, "HTTP_LISTEN"));
	char *id = text_of("TWITCH_ID_URL=http://127.0.0.1:%d", child_port(fake, "HTTP_LISTEN"));
	const char *const env[] = {
		"HTTP_LISTEN=127.0.0.1:{port}", "TWITCH_WEBHOOK_SECRET=" SECRET, "TWITCH_CLIENT_ID=test-client",
		"TWITCH_CLIENT_SECRET=test-client-secret", "TWITCH_BOT_USER_ID=" BOT, api, id, more, NULL,
	};
	struct child *c = stack_service(&st, "waddle-collector-twitch", "waddle_collector_twitch", env);

	free(api);
	free(id);
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

	buf_printf(&b, "{\"message_id\":\"%s\",\"kind\":\"chat\",\"entity\":\"%s\",\"channel_id\":\"%s\",\"text\":", id, key,
	           channel);
	buf_json(&b, str_of(text));
	buf_printf(&b, "%s}", more != NULL ? more : "");
	assert_int_equal(buf_str(&b, &body), 0);
	probe_send(st.kafka, stack_topic(&st, "waddle.outbound.twitch"), -1, key, body.p, body.n, headers);
	buf_clear(&b);
	free(key);
}

static void wait_state(const char *id, const char *state)
{
	sql_wait_int(st.sql, 1, WAIT_MS, "SELECT count(*) FROM twitch_outbox WHERE message_id = '%s' AND state = '%s' AND reported",
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
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM twitch_outbox WHERE message_id = '%s' AND error = 'msg_duplicate'", id), 1);
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
	sql_wait_int(st.sql, 1, WAIT_MS, "SELECT count(*) FROM twitch_budget WHERE blocked_until > now() + interval '500 ms'");
	wait_state(id, "sent");
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM twitch_outbox WHERE message_id = '%s' "
	                         "AND sent_at >= (SELECT blocked_until FROM twitch_budget)", id), 1);
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
	assert_true(strstr(body, "aaaa") < strstr(body, "bbbb") && strstr(body, "bbbb") < strstr(body, "cccc"));
	free(body);
	assert_int_equal(sql_int(st.sql, "SELECT jsonb_array_length(parts) FROM twitch_outbox WHERE message_id = '%s'", id), 3);
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

static int setup(void **state)
{
	static const char *const argv[] = { "waddle-fake-twitch", NULL };
	static const char *const env[] = {
		"HTTP_LISTEN=127.0.0.1:{port}", "ADMIN_LISTEN=127.0.0.1:{port}", "FAKE_MODERATED=2001,2002", NULL,
	};

	(void)state;
	stack_open(&st, "collector_out", STACK_SCHEMA);
	for (size_t i = 0; i < ARRAY_LEN(topics); i++)
		stack_topic_create(&st, topics[i], 2);
	sql_run(st.sql, "INSERT INTO twitch_channels (channel_id, broadcaster_id, broadcaster_name, bot_role) "
	        "SELECT c, c, 'channel' || c, CASE WHEN c LIKE '2%%' THEN 'moderator' ELSE 'none' END "
	        "FROM unnest(ARRAY['1001','1002','1003','2001','2002']) c");
	fake = child_new("fake-twitch", argv, env);
	child_start(fake);
	child_wait_ready(fake, true, WAIT_MS);
	collector = collector_start(NULL);
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
	};

	return !!cmocka_run_group_tests(tests, setup, teardown);
}

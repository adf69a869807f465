/* Twitch in: signed deliveries against PostgreSQL and Kafka, also while those are away, and with
 * processes that die. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "eventsub.h"
#include "stack.h"
#include "str.h"

#include <signal.h>
#include <sys/wait.h>

#define SECRET   "test-only-webhook-secret-0001"
#define PREVIOUS "test-only-webhook-secret-0000"
#define BOT      "990001"

enum { WAIT_MS = 15000 };

static struct stack st;
static struct child *a, *b;     /* two replicas; b runs in some tests only */

static struct child *collector_with(const char *secret, const char *more)
{
	const char *const env[] = {
		"HTTP_LISTEN=127.0.0.1:{port}", secret, "TWITCH_WEBHOOK_SECRET_PREVIOUS=" PREVIOUS,
		"TWITCH_BOT_USER_ID=" BOT, more, NULL,
	};

	return stack_service(&st, "waddle-collector-twitch", "waddle_collector_twitch", env);
}

static struct child *collector(const char *more)
{
	return collector_with("TWITCH_WEBHOOK_SECRET=" SECRET, more);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Posts: the status, 0 without an answer.  *body: what was answered, free() it; may be NULL. */
static int post_all(struct child *to, const struct eventsub_post *p, char **body)
{
	char *url = text_of("http://127.0.0.1:%d/twitch/webhook", child_port(to, "HTTP_LISTEN"));
	struct probe_answer answer = { 0 };
	int r = probe_http("POST", url, (const char *const *)p->headers, p->body, p->body_n, 12000, &answer);
	int status = r == 0 ? answer.status : 0;

	if (body != NULL)
		*body = r == 0 ? strdup(answer.body) : NULL;
	if (r == 0)
		probe_answer_free(&answer);
	free(url);
	return status;
}

static int post(struct child *to, struct eventsub_post *p)
{
	int status = post_all(to, p, NULL);

	eventsub_free(p);
	return status;
}

/* One chat message; ids may be NULL. */
static int say(struct child *to, const char *delivery, const char *message, const char *text)
{
	struct eventsub_chat c = {
		.channel = "1001", .user_id = "7", .login = "ada", .message_id = message, .text = text
	};
	struct eventsub_post p;

	eventsub_chat(&p, SECRET, &c, delivery);
	return post(to, &p);
}

static int deliver(struct child *to, const char *kind, const char *type, const char *delivery, int64_t at_ms,
                   const char *body, size_t n)
{
	struct eventsub_post p;

	eventsub_sign(&p, SECRET, kind, type, delivery, at_ms, body, n);
	return post(to, &p);
}

static int64_t events(const char *delivery)
{
	return sql_int(st.sql, "SELECT count(*) FROM twitch_events WHERE event_id = 'twitch:%s'", delivery);
}

static size_t on_topic(const char *what)
{
	struct probe_topic t;
	size_t n = 0;

	probe_read(st.kafka, stack_topic(&st, "waddle.events"), &t);
	for (size_t i = 0; i < t.n; i++)
		n += strstr(t.msgs[i].value, what) != NULL;
	probe_free(&t);
	return n;
}

struct on { const char *what; size_t n; };
static bool is_on_topic(void *arg)
{
	const struct on *on = arg;

	return on_topic(on->what) >= on->n;
}

static void wait_topic(const char *what, size_t n)
{
	struct on on = { what, n };

	wait_for("events on the topic", is_on_topic, &on, 2 * WAIT_MS);
}

/* T1 */
static void a_signed_message_is_one_row_and_one_message(void **state)
{
	(void)state;
	assert_int_equal(say(a, "t1", "m-t1", "!memories get"), 204);
	assert_int_equal(events("t1"), 1);
	wait_topic("twitch:t1\"", 1);
	sql_wait_int(st.sql, 1, WAIT_MS,
	             "SELECT count(*) FROM twitch_events WHERE event_id = 'twitch:t1' AND processed "
	             "AND published_at IS NOT NULL AND dedupe_key = 'twitch:chat:m-t1' AND entity = "
	             "'twitch:1001'");
	assert_int_equal(
		sql_int(st.sql,
	                "SELECT count(*) FROM twitch_activities WHERE event_id = 'twitch:t1' AND amount = 5"),
		1);
}

/* T2, T2b: nothing is kept, and every cause has the same answer. */
static void what_is_not_signed_right_is_refused_alike(void **state)
{
	struct eventsub_chat c = { .channel = "1001", .text = "forged" };
	struct eventsub_post p;
	char *first = NULL, *body;
	int64_t before = sql_int(st.sql, "SELECT count(*) FROM twitch_events");

	(void)state;
	for (int how = 0; how < 6; how++) {
		eventsub_chat(&p, how == 5 ? "another-secret-of-16" : SECRET, &c, NULL);
		for (size_t i = 0; p.headers[i] != NULL; i++) {
			char *sum = strstr(p.headers[i], "sha256=");

			if (sum == NULL)
				continue;
			if (how == 1)
				memcpy(sum, "sha512=", 7);
			if (how == 2)
				memset(p.headers[i], 'X', 6);           /* another header: there is none */
			if (how == 3)
				sum[20] = 'g';
			if (how == 4)
				sum[20] = '\0';
		}
		if (how == 0)
			p.body[p.body_n / 2] ^= 1;
		assert_int_equal(post_all(a, &p, &body), 403);
		if (first == NULL)
			first = strdup(body);
		assert_string_equal(body, first);
		free(body);
		eventsub_free(&p);
	}
	free(first);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM twitch_events"), before);
}

/* T3 */
static void old_and_future_deliveries_are_refused(void **state)
{
	struct eventsub_chat c = { .channel = "1001", .text = "when" };
	static const struct { int64_t off_ms; int status; } cases[] = {
		{ -601000, 403 }, { 602000, 403 }, { -598000, 204 }, { 598000, 204 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char *body = eventsub_chat_body(&c);

		assert_int_equal(deliver(a, "notification", "channel.chat.message", NULL,
		                         now_ms() + cases[i].off_ms, body, strlen(body)),
		                 cases[i].status);
		free(body);
	}
}

static void the_previous_secret_still_counts(void **state)
{
	struct eventsub_chat c = { .channel = "1001", .text = "rotating" };
	struct eventsub_post p;

	(void)state;
	eventsub_chat(&p, PREVIOUS, &c, "previous");
	assert_int_equal(post(a, &p), 204);
	assert_int_equal(events("previous"), 1);
}

/* T4, T24 */
static void a_repeated_delivery_and_a_repeated_message_have_one_effect(void **state)
{
	(void)state;
	assert_int_equal(say(a, "t4", "m-t4", "once"), 204);
	assert_int_equal(say(a, "t4", "m-t4", "once"), 204);
	assert_int_equal(say(a, "t4-other", "m-t4", "once"), 204);
	assert_int_equal(
		sql_int(st.sql, "SELECT count(*) FROM twitch_events WHERE dedupe_key = 'twitch:chat:m-t4'"),
		1);
	assert_int_equal(
		sql_int(st.sql, "SELECT count(*) FROM twitch_activities WHERE event_id LIKE 'twitch:t4%%'"),
		1);
	wait_topic("\"twitch:t4", 1);
	assert_int_equal(say(a, "t4-after", NULL, "a later one"), 204);
	wait_topic("twitch:t4-after\"", 1);
	assert_int_equal(on_topic("\"twitch:chat:m-t4\""), 1);
}

static struct child *posting(struct child *to, const char *delivery, const char *message)
{
	char *url = text_of("http://127.0.0.1:%d/twitch/webhook", child_port(to, "HTTP_LISTEN"));
	char *file = text_of("%s/eventsub-secret-%d", env_of("WADDLE_BUILD"), (int)getpid());
	const char *const argv[] = {
		"eventsub", "--url", url, "--secret-file", file, "--channel", "1001", "--delivery", delivery, "--message",
		message, "concurrent", NULL,
	};
	FILE *f = fopen(file, "we");
	struct child *c;

	fputs(SECRET "\n", f);
	fclose(f);
	c = child_new("eventsub", argv, NULL);
	child_start(c);
	free(url);
	free(file);
	return c;
}

/* T4: both replicas wait for a third transaction that holds the key and rolls back. */
static void two_replicas_at_once_store_one(void **state)
{
	struct child *one, *two;
	struct sql *other = sql_open(stack_url(&st, NULL));

	(void)state;
	b = collector(NULL);
	child_wait_ready(b, true, WAIT_MS);
	sql_run(other, "BEGIN");
	sql_run(other, "INSERT INTO twitch_dedupe (key, event_id) VALUES ('twitch:chat:m-both', 'x')");
	one = posting(a, "both-1", "m-both");
	two = posting(b, "both-2", "m-both");
	sql_wait_int(st.sql, 2, 2000,
	             "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
	             "AND usename = 'waddle_collector_twitch'");
	sql_run(other, "ROLLBACK");
	assert_int_equal(child_wait(one, WAIT_MS), 0);
	assert_int_equal(child_wait(two, WAIT_MS), 0);
	child_free(one);
	child_free(two);
	sql_close(other);
	assert_int_equal(
		sql_int(st.sql, "SELECT count(*) FROM twitch_events WHERE dedupe_key = 'twitch:chat:m-both'"),
		1);
	wait_topic("\"twitch:chat:m-both\"", 1);
	assert_int_equal(child_end(b, WAIT_MS), 0);
	child_free(b);
	b = NULL;
	assert_int_equal(on_topic("\"twitch:chat:m-both\""), 1);
}

/* T5 */
static void a_challenge_comes_back_byte_for_byte(void **state)
{
	static const char body[] = "{\"challenge\":\"p\\u00f6g-champ\",\"subscription\":{\"id\":\"s1\","
	                           "\"type\":\"channel.follow\","
				   "\"version\":\"2\",\"status\":\"webhook_callback_verification_pending\"}}";
	struct eventsub_post p;
	char *answer;

	(void)state;
	eventsub_sign(&p, SECRET, "webhook_callback_verification", "channel.follow", NULL, 0, body,
	              sizeof body - 1);
	assert_int_equal(post_all(a, &p, &answer), 200);
	assert_string_equal(answer, "p\xc3\xb6g-champ");
	free(answer);
	p.body[20] ^= 1;
	assert_int_equal(post(a, &p), 403);
}

/* T6 */
static void a_revocation_is_written_down(void **state)
{
	static const char body[] =
		"{\"subscription\":{\"id\":\"%s\",\"type\":\"channel.chat.message\",\"version\":\"1\","
		"\"status\":\"authorization_revoked\"}}";
	char *known = text_of(body, "sub-1"), *unknown = text_of(body, "sub-404");

	(void)state;
	sql_run(st.sql,
	        "INSERT INTO twitch_subscriptions (subscription_id, channel_id, type, version, status) "
	        "VALUES ('sub-1', '1001', 'channel.chat.message', '1', 'enabled')");
	assert_int_equal(deliver(a, "revocation", "channel.chat.message", NULL, 0, known, strlen(known)),
	                 204);
	assert_int_equal(deliver(a, "revocation", "channel.chat.message", NULL, 0, unknown, strlen(unknown)),
	                 204);
	assert_int_equal(
		sql_int(st.sql,
	                "SELECT count(*) FROM twitch_subscriptions WHERE status = 'authorization_revoked' "
	                "AND reason = 'authorization_revoked'"),
		1);
	free(known);
	free(unknown);
}

/* T15, T16, T17 and a message type that does not exist */
static void what_is_not_understood_is_kept_or_refused(void **state)
{
	static const char other[] =
		"{\"subscription\":{\"id\":\"s\",\"type\":\"channel.hype_train.begin\",\"version\":\"1\"},"
		"\"event\":{\"broadcaster_user_id\":\"1001\",\"level\":3}}";
	static const char nowhere[] =
		"{\"subscription\":{\"id\":\"s\",\"type\":\"channel.chat.message\",\"version\":\"1\"},"
		"\"event\":{\"broadcaster_user_id\":\"1001\"}}";
	static const char text[] = "this is not JSON";
	struct eventsub_chat c = { .channel = "9999", .text = "not ours" };
	struct eventsub_post p;

	(void)state;
	assert_int_equal(
		deliver(a, "notification", "channel.hype_train.begin", "t15", 0, other, sizeof other - 1),
		204);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM twitch_events WHERE event_id = 'twitch:t15' "
	                                 "AND event_type = 'other' AND processed AND message IS NULL "
	                                 "AND event_data->'event'->>'level' = '3'"),
	                 1);
	/* a known type without a mandatory member (1.8) */
	assert_int_equal(
		deliver(a, "notification", "channel.chat.message", "lacks", 0, nowhere, sizeof nowhere - 1),
		204);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM twitch_events WHERE event_id = 'twitch:lacks' "
	                                 "AND event_type = 'other' AND processed"),
	                 1);
	assert_int_equal(deliver(a, "notification", "channel.chat.message", NULL, 0, text, sizeof text - 1),
	                 400);
	assert_int_equal(deliver(a, "present", "channel.chat.message", NULL, 0, other, sizeof other - 1),
	                 400);
	eventsub_chat(&p, SECRET, &c, "t17");
	assert_int_equal(post(a, &p), 204);
	assert_int_equal(events("t17"), 0);
	sql_run(st.sql, "UPDATE twitch_channels SET is_active = false WHERE channel_id = '1002'");
	c.channel = "1002";
	for (int64_t end = harness_now_ms() + WAIT_MS;;) { /* the notice takes a moment */
		char *id = text_of("inactive-%lld", (long long)harness_now_ms());
		bool kept;

		eventsub_chat(&p, SECRET, &c, id);
		assert_int_equal(post(a, &p), 204);
		kept = events(id) != 0;
		free(id);
		if (!kept)
			break;
		assert_true(harness_now_ms() < end);
	}
	assert_int_equal(on_topic("twitch:t15\""), 0);
}

/* T22, T23: and what an ignored account says */
static void own_ignored_and_shared_messages_are_not_forwarded(void **state)
{
	static const char shared[] =
		"{\"subscription\":{\"id\":\"s\",\"type\":\"channel.chat.message\",\"version\":\"1\"},"
		"\"event\":{\"broadcaster_user_id\":\"1001\",\"chatter_user_id\":\"8\",\"chatter_user_"
	        "login\":\"eve\",\"message_id\":"
		"\"m-shared\",\"message\":{\"text\":\"!hi\"},\"source_broadcaster_user_id\":\"555\","
	        "\"badges\":[]}}";
	struct eventsub_chat c = { .channel = "1001", .user_id = BOT, .text = "I said that" };
	struct eventsub_post p;

	(void)state;
	eventsub_chat(&p, SECRET, &c, "t22");
	assert_int_equal(post(a, &p), 204);
	c.user_id = "666";
	eventsub_chat(&p, SECRET, &c, "ignored");
	assert_int_equal(post(a, &p), 204);
	assert_int_equal(
		deliver(a, "notification", "channel.chat.message", "t23", 0, shared, sizeof shared - 1), 204);
	assert_int_equal(say(a, "t22-after", NULL, "behind them"), 204);
	wait_topic("twitch:t22-after\"", 1);
	assert_int_equal(events("t22") + events("ignored"), 0);
	assert_int_equal(
		sql_int(st.sql,
	                "SELECT count(*) FROM twitch_events WHERE event_id = 'twitch:t23' AND processed "
	                "AND message IS NULL"),
		1);
	assert_int_equal(
		sql_int(st.sql, "SELECT count(*) FROM twitch_activities WHERE event_id = 'twitch:t23'"), 0);
	assert_int_equal(on_topic("twitch:t22\"") + on_topic("twitch:t23\"") + on_topic("twitch:ignored\""),
	                 0);
}

/* X14, 1.8: repaired or cut, never dropped and never the end of the process. */
static void bad_text_is_repaired_and_giants_are_refused(void **state)
{
	static const char form[] =
		"{\"subscription\":{\"id\":\"s\",\"type\":\"channel.chat.message\",\"version\":\"1\"},"
		"\"event\":{\"broadcaster_user_id\":\"1001\",\"chatter_user_id\":\"18446744073709551617\","
	        "\"message_id\":\"m-bad\","
		"\"message\":{\"text\":\"a\xff\xfe"
		"b\\u0000c\\ud800d\"},\"badges\":[],\"odd\":1e300}}";
	size_t big_n = 2 << 20;
	char *big = malloc(big_n), *row, *head;
	struct eventsub_post p;

	(void)state;
	assert_int_equal(deliver(a, "notification", "channel.chat.message", "bad", 0, form, sizeof form - 1),
	                 204);
	row = sql_text(
		st.sql,
		"SELECT message::jsonb->>'message_content' FROM twitch_events WHERE event_id = 'twitch:bad'");
	assert_string_equal(row, "a\xef\xbf\xbd\xef\xbf\xbd"
	                         "bc\xef\xbf\xbd"
	                         "d");
	free(row);
	assert_int_equal(
		sql_int(st.sql,
	                "SELECT count(*) FROM twitch_activities WHERE user_id = '18446744073709551617'"),
		1);

	/* 6,000 characters: kept to 5,000, and it says so */
	memset(big, 'x', 6000);
	big[6000] = '\0';
	assert_int_equal(say(a, "long", NULL, big), 204);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM twitch_events WHERE event_id = 'twitch:long' "
	                                 "AND length(message::jsonb->>'message_content') = 5000 "
	                                 "AND (message::jsonb->'metadata'->>'truncated')::boolean"),
	                 1);
	memset(big, 'x', big_n);
	assert_int_equal(deliver(a, "notification", "channel.chat.message", NULL, 0, big, big_n), 413);
	free(big);

	eventsub_sign(&p, SECRET, "notification", "channel.chat.message", NULL, 0, "{}", 2);
	head = text_of("X-Filler: %09000d", 0);
	for (size_t i = 0; p.headers[i] != NULL; i++)
		if (strncmp(p.headers[i], "Content-Type", 12) == 0) {
			free(p.headers[i]);
			p.headers[i] = head;
		}
	assert_int_equal(post(a, &p), 431);
}

/* X1, 1.3 */
static void activities_wait_for_their_community(void **state)
{
	struct eventsub_chat c = { .channel = "1003", .user_id = "21", .login = "lin", .text = "hello" };
	struct eventsub_post p;

	(void)state;
	sql_wait_int(st.sql, 1, WAIT_MS,
	             "SELECT count(*) FROM twitch_activities WHERE event_id = 'twitch:t1' "
	             "AND context_sent AND reputation_sent AND community_id IS NOT NULL");
	eventsub_chat(&p, SECRET, &c, "x1");
	assert_int_equal(post(a, &p), 204);
	assert_int_equal(sql_int(st.sql,
	                         "SELECT count(*) FROM twitch_activities WHERE event_id = 'twitch:x1' "
	                         "AND NOT context_sent AND NOT reputation_sent"),
	                 1);
	sql_run(st.sql, "INSERT INTO entities (address, platform, channel_id, owner, community_id) "
	                "SELECT 'twitch:1003', 'twitch', '1003', 'o', community_id FROM entities WHERE "
	                "address = 'twitch:1001'");
	sql_run(st.sql, "UPDATE twitch_activities SET received_at = now() - interval '11 s' WHERE event_id = "
	                "'twitch:x1'");
	sql_wait_int(st.sql, 1, WAIT_MS,
	             "SELECT count(*) FROM twitch_activities WHERE event_id = 'twitch:x1' "
	             "AND context_sent AND reputation_sent");
	/* a day without a community: nobody looks any more */
	c.channel = "1004";
	eventsub_chat(&p, SECRET, &c, "x1-never");
	assert_int_equal(post(a, &p), 204);
	sql_run(st.sql, "UPDATE twitch_activities SET received_at = now() - interval '11 s', "
	                "created_at = now() - interval '25 h' WHERE event_id = 'twitch:x1-never'");
	sql_wait_int(st.sql, 1, WAIT_MS,
	             "SELECT count(*) FROM twitch_activities WHERE event_id = 'twitch:x1-never' "
	             "AND received_at = 'infinity' AND NOT context_sent");
}

/* X22: the client never heard; Twitch repeats, under the same id and under another. */
static void killed_between_commit_and_answer_the_repeat_adds_nothing(void **state)
{
	struct sql *other = sql_open(stack_url(&st, NULL));
	struct child *one;

	(void)state;
	sql_run(other, "BEGIN");
	sql_run(other, "INSERT INTO twitch_dedupe (key, event_id) VALUES ('twitch:chat:m-x22', 'x')");
	one = posting(a, "x22", "m-x22");
	sql_wait_int(st.sql, 1, 2000,
	             "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
	             "AND usename = 'waddle_collector_twitch'");
	child_signal(a, SIGSTOP);
	sql_run(other, "ROLLBACK");
	sql_wait_int(st.sql, 1, WAIT_MS, "SELECT count(*) FROM twitch_events WHERE event_id = 'twitch:x22'");
	child_kill(a);
	assert_int_not_equal(child_wait(one, WAIT_MS), 0);
	child_free(one);
	sql_close(other);
	child_start(a);
	child_wait_ready(a, true, WAIT_MS);
	assert_int_equal(say(a, "x22", "m-x22", "concurrent"), 204);
	assert_int_equal(say(a, "x22-again", "m-x22", "concurrent"), 204);
	sql_run(st.sql, "UPDATE twitch_events SET received_at = received_at - interval '11 s' WHERE event_id "
	                "= 'twitch:x22'");
	wait_topic("twitch:x22\"", 1);
	assert_int_equal(
		sql_int(st.sql, "SELECT count(*) FROM twitch_events WHERE dedupe_key = 'twitch:chat:m-x22'"),
		1);
	assert_int_equal(
		sql_int(st.sql, "SELECT count(*) FROM twitch_activities WHERE event_id LIKE 'twitch:x22%%'"),
		1);
	assert_int_equal(on_topic("\"twitch:chat:m-x22\""), 1);
}

/* X6 */
static void without_the_database_nothing_is_acknowledged(void **state)
{
	int64_t began;

	(void)state;
	stack_pg("stop primary");
	began = harness_now_ms();
	assert_int_equal(say(a, "x6", "m-x6", "later"), 503);
	assert_true(harness_now_ms() - began < 5000);
	child_wait_ready(a, false, WAIT_MS);
	stack_pg("start primary");
	child_wait_ready(a, true, 2 * WAIT_MS);
	assert_int_equal(say(a, "x6", "m-x6", "later"), 204);
	sql_wait_int(st.sql, 1, WAIT_MS, "SELECT count(*) FROM twitch_events WHERE event_id = 'twitch:x6'");
	wait_topic("twitch:x6\"", 1);
	assert_int_equal(on_topic("\"twitch:chat:m-x6\""), 1);
}

/* X20, X21: the broker is away, and the process dies with what it could not publish. */
static void without_the_broker_events_are_kept_and_come_once(void **state)
{
	enum { EACH = 25 };

	(void)state;
	stack_broker("stop");
	for (int i = 0; i < 2 * EACH; i++) {
		char *id = text_of("x20-%d", i), *m = text_of("m-x20-%d", i);

		if (i == EACH) {
			child_kill(a);
			child_start(a);
			child_wait_ready(a, true, WAIT_MS);     /* the broker is not needed for that */
		}
		assert_int_equal(say(a, id, m, "kept"), 204);
		free(id);
		free(m);
	}
	assert_int_equal(say(a, "x20-3", "m-x20-3", "kept"), 204);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM twitch_events WHERE event_id LIKE "
	                                 "'twitch:x20-%%' AND NOT processed"),
	                 2 * EACH);
	stack_broker("start");
	sql_run(st.sql,
	        "UPDATE twitch_events SET received_at = received_at - interval '11 s' WHERE NOT processed");
	sql_wait_int(st.sql, 0, 60000, "SELECT count(*) FROM twitch_events WHERE NOT processed");
	assert_int_equal(on_topic("\"twitch:chat:m-x20-"), 2 * EACH);
}

/* 1.1: more rows than the limit wait for the broker. */
static void above_the_backlog_limit_it_says_503(void **state)
{
	(void)state;
	b = collector("EVENT_BACKLOG_MAX=3");
	child_wait_ready(b, true, WAIT_MS);
	sql_run(st.sql, "INSERT INTO twitch_events (event_id, event_type, platform_ids, event_data, "
	                "created_at, dedupe_key, "
	                "entity, message, received_at) SELECT 'twitch:backlog-' || i, 'message', '{}', '{}', "
	                "now(), 'b' || i, "
	                "'twitch:1001', '{}', now() + interval '1 h' FROM generate_series(1, 5) i");
	child_wait_ready(b, false, WAIT_MS);
	assert_int_equal(say(b, "backlog", NULL, "too much"), 503);
	sql_run(st.sql, "DELETE FROM twitch_events WHERE event_id LIKE 'twitch:backlog-%%'");
	child_wait_ready(b, true, WAIT_MS);
	assert_int_equal(say(b, "backlog", NULL, "fine"), 204);
	assert_int_equal(child_end(b, WAIT_MS), 0);
	child_free(b);
	b = NULL;
}

/* Posts until the other side is gone; how many were taken goes through the pipe. */
static pid_t post_for_ever(int nth, int fd)
{
	pid_t pid = fork();
	int taken = 0;

	if (pid != 0)
		return pid;
	for (;;) {
		char *id = text_of("x13-%d-%d", nth, taken), *m = text_of("m-x13-%d-%d", nth, taken);
		int status = say(a, id, m, "load");

		free(id);
		free(m);
		if (status != 204)
			break;
		taken++;
	}
	_exit(write(fd, &taken, sizeof taken) == sizeof taken ? 0 : 1);
}

/* X13 */
static void a_stop_under_load_loses_nothing(void **state)
{
	enum { POSTERS = 4 };
	int fd[2], taken, sum = 0;
	pid_t pids[POSTERS];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	for (int i = 0; i < POSTERS; i++)
		pids[i] = post_for_ever(i, fd[1]);
	sql_wait_at_least(st.sql, 40, WAIT_MS,
	                  "SELECT count(*) FROM twitch_events WHERE event_id LIKE 'twitch:x13-%%'");
	assert_int_equal(child_end(a, WAIT_MS), 0);
	for (int i = 0; i < POSTERS; i++) {
		int status;

		assert_int_equal(read(fd[0], &taken, sizeof taken), sizeof taken);
		sum += taken;
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	close(fd[0]);
	close(fd[1]);
	print_message("%d taken before the end\n", sum);
	assert_true(sql_int(st.sql,
	                    "SELECT count(*) FROM twitch_events WHERE event_id LIKE 'twitch:x13-%%'") >= sum);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM twitch_events WHERE event_id LIKE "
	                                 "'twitch:x13-%%' AND NOT processed"),
	                 0);
	assert_true(on_topic("\"twitch:chat:m-x13-") >= (size_t)sum);
}

/* Section 2; X5 is the router's part of it. */
static void it_announces_itself_and_its_end(void **state)
{
	struct probe_topic t;
	const char *last = "";
	size_t active = 0;

	(void)state;
	child_start(a);
	child_wait_ready(a, true, WAIT_MS);
	probe_wait(st.kafka, stack_topic(&st, "waddle.registry"), 1, WAIT_MS, &t);
	probe_free(&t);
	assert_int_equal(child_end(a, WAIT_MS), 0);
	probe_read(st.kafka, stack_topic(&st, "waddle.registry"), &t);
	for (size_t i = 0; i < t.n; i++) {
		assert_string_equal(t.msgs[i].key, "collector-twitch");
		assert_non_null(strstr(t.msgs[i].value, "\"kind\":\"collector\""));
		active += strstr(t.msgs[i].value, "\"status\":\"active\"") != NULL;
		last = t.msgs[i].value;
	}
	assert_true(active > 0);
	assert_non_null(strstr(last, "\"status\":\"inactive\""));
	probe_free(&t);
}

static void without_a_secret_it_does_not_start(void **state)
{
	struct child *c = collector_with("TWITCH_WEBHOOK_SECRET=", NULL);

	(void)state;
	assert_int_equal(child_wait(c, WAIT_MS), 100);
	assert_true(child_log_has(c, "TWITCH_WEBHOOK_SECRET"));
	child_free(c);
	c = collector_with("TWITCH_WEBHOOK_SECRET=tooshort", NULL);
	assert_int_equal(child_wait(c, WAIT_MS), 100);
	child_free(c);
	c = collector("TWITCH_CLIENT_ID=half");
	assert_int_equal(child_wait(c, WAIT_MS), 100);
	child_free(c);
}

static int setup(void **state)
{
	static const char *const topics[] = {
		"waddle.events", "waddle.activities", "waddle.registry", "waddle.dlq", "waddle.outbound.twitch",
		"waddle.responses.collector-twitch",
	};

	(void)state;
	stack_open(&st, "collector", STACK_SCHEMA);
	for (size_t i = 0; i < ARRAY_LEN(topics); i++)
		stack_topic_create(&st, topics[i], 2);
	sql_run(st.sql, "INSERT INTO twitch_channels (channel_id, broadcaster_id, config) "
	                "SELECT c, c, '{\"ignored_users\":[\"665\",\"666\"]}' FROM "
	                "unnest(ARRAY['1001','1002','1003','1004']) c");
	sql_run(st.sql, "INSERT INTO communities (name, display_name) VALUES ('c', 'C')");
	sql_run(st.sql, "INSERT INTO entities (address, platform, channel_id, owner, community_id) "
	                "SELECT 'twitch:1001', 'twitch', '1001', 'o', max(id) FROM communities");
	a = collector(NULL);
	child_wait_ready(a, true, 20000);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	child_free(a);
	child_free(b);
	stack_close(&st);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_signed_message_is_one_row_and_one_message),
		cmocka_unit_test(what_is_not_signed_right_is_refused_alike),
		cmocka_unit_test(old_and_future_deliveries_are_refused),
		cmocka_unit_test(the_previous_secret_still_counts),
		cmocka_unit_test(a_repeated_delivery_and_a_repeated_message_have_one_effect),
		cmocka_unit_test(two_replicas_at_once_store_one),
		cmocka_unit_test(a_challenge_comes_back_byte_for_byte),
		cmocka_unit_test(a_revocation_is_written_down),
		cmocka_unit_test(what_is_not_understood_is_kept_or_refused),
		cmocka_unit_test(own_ignored_and_shared_messages_are_not_forwarded),
		cmocka_unit_test(bad_text_is_repaired_and_giants_are_refused),
		cmocka_unit_test(activities_wait_for_their_community),
		cmocka_unit_test(killed_between_commit_and_answer_the_repeat_adds_nothing),
		cmocka_unit_test(above_the_backlog_limit_it_says_503),
		cmocka_unit_test(without_the_database_nothing_is_acknowledged),
		cmocka_unit_test(without_the_broker_events_are_kept_and_come_once),
		cmocka_unit_test(a_stop_under_load_loses_nothing),
		cmocka_unit_test(it_announces_itself_and_its_end),
		cmocka_unit_test(without_a_secret_it_does_not_start),
	};

	return !!cmocka_run_group_tests(tests, setup, teardown);
}

/* test_api_events.c - events posted over HTTP: field rules, once on the topic, and what happens
 * without a database or a broker. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ids.h"
#include "stack.h"
#include "str.h"

enum { WAIT_MS = 20000 };

static struct stack st;
static struct child *router;
static char *key, *interaction;

static int up(void **state)
{
	(void)state;
	stack_open(&st, "api_events", STACK_SCHEMA | STACK_TOPICS);
	sql_run(st.sql, "INSERT INTO commands (id, command, prefix, location_url, location, module_id) "
	                "OVERRIDING SYSTEM VALUE VALUES (17, 'memories', '!', 'kafka:memories', 'internal', 'memories')");
	router = stack_service(&st, "waddle-router", "waddle_router", NULL);
	key = stack_key(&st, "collector", "collector");
	interaction = stack_key(&st, "interaction", "interaction");
	child_wait_ready(router, true, WAIT_MS);
	return 0;
}

static int down(void **state)
{
	(void)state;
	assert_int_equal(child_end(router, WAIT_MS), 0);
	child_free(router);
	free(key);
	free(interaction);
	stack_close(&st);
	return 0;
}

static int post(const char *body, struct probe_answer *a)
{
	return stack_ask(router, "POST", "/router/events", key, body, a);
}

/* The whole answer holds all of these texts. */
static void assert_answer(const char *path, const char *body, int status, const char *const *texts)
{
	struct probe_answer a;
	int got = stack_ask(router, "POST", path, key, body, &a);

	if (got != status)
		fail_msg("%s answered %d, not %d: %s", body, got, status, a.body);
	for (; *texts != NULL; texts++)
		if (strstr(a.body, *texts) == NULL)
			fail_msg("no %s in %s", *texts, a.body);
	probe_answer_free(&a);
}
#define TEXTS(...) (const char *const[]){ __VA_ARGS__, NULL }

static const char *new_id(void)
{
	static char id[4][48];
	static unsigned at;

	at = (at + 1) % 4;
	snprintf(id[at], sizeof(id[at]), "twitch:%016llx", (unsigned long long)rnd_next());
	return id[at];
}

static char *event(const char *id, const char *text, const char *more)
{
	return text_of("{\"event_id\":\"%s\",\"platform\":\"twitch\",\"channel_id\":\"1001\",\"user\":{\"id\":\"7\"},"
	               "\"message_type\":\"chatMessage\",\"message_content\":\"%s\"%s}", id, text, more);
}

static size_t on_topic(const char *text)
{
	struct probe_topic t;
	size_t n = 0;

	probe_read(st.kafka, stack_topic(&st, "waddle.events"), &t);
	for (size_t i = 0; i < t.n; i++)
		n += t.msgs[i].value != NULL && strstr(t.msgs[i].value, text) != NULL;
	probe_free(&t);
	return n;
}

/* router 1, and the check values of section 1 */
static void an_event_is_accepted_and_once_on_the_topic_keyed_by_its_entity(void **state)
{
	char *body = event("twitch:8b0e2a54-0000-4000-8000-000000000001", "!MEMORIES list", "");
	struct probe_topic t;
	bool found = false;

	(void)state;
	assert_answer("/router/events", body, 202,
	              TEXTS("\"event_id\":\"twitch:8b0e2a54-0000-4000-8000-000000000001\"",
	                    "\"session_id\":\"e892ef4e-fde1-546e-9115-98236dd9f0d2\"",
	                    "\"execution_id\":\"b2d087ad-ea76-557a-a7b5-23c1d08f979e\"",
	                    "\"execution_ids\":[\"b2d087ad-ea76-557a-a7b5-23c1d08f979e\"]",
	                    "\"status\":\"accepted\""));
	probe_read(st.kafka, stack_topic(&st, "waddle.events"), &t);
	for (size_t i = 0; i < t.n; i++)
		if (strstr(t.msgs[i].value, "8b0e2a54") != NULL) {
			assert_false(found);
			found = true;
			assert_string_equal(t.msgs[i].key, "twitch:1001");
			assert_string_equal(probe_header(&t.msgs[i], "ce_type"), "waddle.event.v1");
			assert_non_null(probe_header(&t.msgs[i], "traceparent"));
		}
	assert_true(found);
	probe_free(&t);
	free(body);
}

static void plain_chat_has_no_execution(void **state)
{
	char *body = event(new_id(), "hello", "");

	(void)state;
	assert_answer("/router/events", body, 202, TEXTS("\"execution_id\":null,\"execution_ids\":[]"));
	free(body);
}

static void other_names_of_the_fields_are_understood(void **state)
{
	(void)state;
	assert_answer("/router/events", "{\"platform\":\"twitch\",\"channel_id\":\"1001\",\"entity_id\":\"twitch:1001\","
	              "\"user_id\":\"8\",\"username\":\"some\",\"message\":\"other names\","
	              "\"message_type\":\"chatMessage\",\"unknown\":{\"x\":1}}", 202,
	              TEXTS("\"event_id\":\"http:", "\"status\":\"accepted\""));
	assert_int_equal(on_topic("\"name\":\"some\""), 1);
	assert_int_equal(on_topic("\"message_content\":\"other names\""), 1);
}

/* router 2, 4, 5, 7, section 21 */
static void bad_fields_are_named(void **state)
{
#define HEAD "{\"platform\":\"twitch\",\"channel_id\":\"1001\",\"message_type\":\"chatMessage\""
	static const struct { const char *body, *says; } bad[] = {
		{ "{\"platform\":\"aol\",\"channel_id\":\"1\",\"user_id\":\"7\",\"message_type\":\"chatMessage\"}", "\"field\":\"platform\"" },
		{ "{\"channel_id\":\"1\",\"user_id\":\"7\",\"message_type\":\"chatMessage\"}", "\"field\":\"platform\"" },
		{ "{\"platform\":\"twitch\",\"channel_id\":\"  \",\"user_id\":\"7\",\"message_type\":\"chatMessage\"}", "\"field\":\"channel_id\"" },
		{ "{\"platform\":\"twitch\",\"channel_id\":12,\"user_id\":\"7\",\"message_type\":\"chatMessage\"}", "\"field\":\"channel_id\"" },
		{ "{\"platform\":\"twitch\",\"user_id\":\"7\",\"message_type\":\"chatMessage\"}", "\"field\":\"channel_id\"" },
		{ HEAD ",\"user\":{\"id\":\"   \"}}", "\"field\":\"user.id\"" },
		{ HEAD "}", "\"field\":\"user.id\"" },
		{ HEAD ",\"user\":{\"id\":\"7\",\"roles\":[\"king\"]}}", "\"field\":\"user.roles" },
		{ HEAD ",\"user_id\":\"7\",\"entity\":\"twitch:1002\"}", "\"field\":\"entity\"" },
		{ HEAD ",\"user_id\":\"7\",\"event_id\":\"\"}", "\"field\":\"event_id\"" },
		{ HEAD ",\"user_id\":\"7\",\"amount\":1.5}", "\"field\":\"amount\"" },
		{ HEAD ",\"user_id\":\"7\",\"amount\":9223372036854775808}", "INVALID_REQUEST" },
		{ HEAD ",\"user_id\":\"7\",\"amount\":NaN}", "INVALID_REQUEST" },
		{ HEAD ",\"user_id\":\"7\",\"occurred_at\":\"2020-01-01T00:00:00Z\"}", "\"field\":\"occurred_at\"" },
		{ HEAD ",\"user_id\":\"7\",\"timestamp\":\"2999-01-01T00:00:00Z\"}", "\"field\":\"occurred_at\"" },
		{ HEAD ",\"user_id\":\"7\",\"metadata\":[]}", "\"field\":\"metadata\"" },
		{ HEAD ",\"user_id\":\"7\",\"user_id\":\"8\"}", "INVALID_REQUEST" },
		{ HEAD ",\"user_id\":\"\\u0000\"}", "INVALID_REQUEST" },
		{ HEAD ",\"user_id\":\"\\ud800\"}", "INVALID_REQUEST" },
		{ HEAD ",\"user_id\":\"\xc3\x28\"}", "INVALID_REQUEST" },
		{ HEAD ",\"user_id\":\"7\",\"metadata\":{\"a\":[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]}}", "INVALID_REQUEST" },
		{ "{", "INVALID_REQUEST" }, { "", "INVALID_REQUEST" }, { "[]", "INVALID_REQUEST" }, { "null", "INVALID_REQUEST" },
		{ "{\"platform\":\"twitch\",\"channel_id\":\"1\",\"user_id\":\"7\",\"message_type\":\"shout\"}",
		  "\"field\":\"message_type\",\"message\":\"one of chatMessage, slashCommand, interaction" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_answer("/router/events", bad[i].body, 400, TEXTS("{\"error\":{\"code\":\"INVALID_REQUEST\"", bad[i].says));
}

/* router 7, 21 */
static void a_follow_without_text_or_user_and_null_metadata_are_fine(void **state)
{
	(void)state;
	assert_answer("/router/events", "{\"platform\":\"twitch\",\"channel_id\":\"1001\",\"message_type\":\"follow\","
	              "\"metadata\":null,\"amount\":null,\"server_id\":null}", 202, TEXTS("\"status\":\"accepted\""));
	assert_int_equal(on_topic("\"id\":\"anonymous\""), 1);
}

/* router 3 */
static void five_thousand_characters_of_four_bytes_are_a_message_and_one_more_is_none(void **state)
{
	char *text = malloc(5001 * 4 + 1), *body;

	(void)state;
	for (int i = 0; i < 5001; i++)
		memcpy(text + i * 4, "\xf0\x9f\xa6\x86", 5);
	body = event(new_id(), text, "");
	assert_answer("/router/events", body, 400, TEXTS("\"field\":\"message_content\""));
	free(body);
	text[5000 * 4] = '\0';
	body = event(new_id(), text, "");
	assert_answer("/router/events", body, 202, TEXTS("\"status\":\"accepted\""));
	free(body);
	free(text);
}

/* router 59 */
static void only_collectors_and_administrators_may_post(void **state)
{
	char *body = event(new_id(), "hello", "");

	(void)state;
	assert_int_equal(stack_ask(router, "POST", "/router/events", NULL, body, NULL), 401);
	assert_int_equal(stack_ask(router, "POST", "/router/events", interaction, body, NULL), 403);
	assert_int_equal(stack_ask(router, "GET", "/router/events", key, NULL, NULL), 405);
	free(body);
}

/* router 63 */
static void either_key_makes_a_duplicate_with_the_first_ids(void **state)
{
	const char *first = new_id(), *second = new_id();
	char *thing = text_of(",\"dedupe_key\":\"thing-%s\"", first), *body = event(first, "!memories once", thing);
	char *other = event(second, "!memories once", thing), *id = text_of("\"event_id\":\"%s\"", first);
	char execution[ID_TEXT];

	(void)state;
	id_execution(str_of(first), 17, 0, execution);
	assert_answer("/router/events", body, 202, TEXTS("\"status\":\"accepted\"", id, execution));
	assert_answer("/router/events", body, 202, TEXTS("\"status\":\"duplicate\"", id, execution));
	assert_answer("/router/events", other, 202, TEXTS("\"status\":\"duplicate\"", id, execution));
	assert_int_equal(on_topic(first), 1);
	assert_int_equal(on_topic(second), 0);
	free(thing);
	free(body);
	free(other);
	free(id);
}

static void what_was_stored_and_never_published_is_published_by_its_repetition(void **state)
{
	const char *id = new_id();
	char *body = event(id, "!memories left behind", ""), *time = NULL;

	(void)state;
	sql_run(st.sql, "INSERT INTO router_inbox (key, event_id, received_at) VALUES ('%s', '%s', now() - interval '1 minute')",
	        id, id);
	assert_answer("/router/events", body, 202, TEXTS("\"status\":\"duplicate\""));
	assert_int_equal(on_topic(id), 1);
	assert_int_equal(sql_int(st.sql, "SELECT published::int FROM router_inbox WHERE key = '%s'", id), 1);
	time = sql_text(st.sql, "SELECT to_char(received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') "
	                "FROM router_inbox WHERE key = '%s'", id);
	assert_int_equal(on_topic(time), 1);    /* under the first one's time */
	assert_answer("/router/events", body, 202, TEXTS("\"status\":\"duplicate\""));
	assert_int_equal(on_topic(id), 1);
	free(time);
	free(body);
}

static void the_idempotency_key_header_is_an_event_id(void **state)
{
	char *url = text_of("http://127.0.0.1:%d/router/events", child_port(router, "HTTP_LISTEN"));
	static const char body[] = "{\"platform\":\"twitch\",\"channel_id\":\"1001\",\"user_id\":\"7\",\"message_type\":\"chatMessage\"}";
	const char *headers[] = { key, "Idempotency-Key: my-own-key", "Content-Type: application/json", NULL };
	struct probe_answer a;

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(probe_http("POST", url, headers, body, sizeof(body) - 1, 10000, &a), 0);
		assert_int_equal(a.status, 202);
		assert_non_null(strstr(a.body, "\"event_id\":\"my-own-key\""));
		assert_non_null(strstr(a.body, i == 0 ? "accepted" : "duplicate"));
		probe_answer_free(&a);
	}
	free(url);
}

static char *batch(int n, const char *bad)
{
	char *all = text_of("{\"events\":["), *next;

	for (int i = 0; i < n; i++) {
		char *one = i == 41 && bad != NULL ? text_of("%s", bad)
		          : i % 2 == 0 ? event(new_id(), "!memories [in a] \\\"batch\\\", {yes}", "")
		                       : text_of("{\"platform\":\"twitch\",\"channel_id\":\"1001\",\"message_type\":\"follow\"}");

		next = text_of("%s%s%s", all, i > 0 ? "," : "", one);
		free(all);
		free(one);
		all = next;
	}
	next = text_of("%s]}", all);
	free(all);
	return next;
}

/* router 6 */
static void a_batch_is_answered_in_order_and_each_event_judged_alone(void **state)
{
	char *body = batch(2, NULL);
	struct probe_answer a;
	const char *at;

	(void)state;
	assert_answer("/router/events/batch", body, 202, TEXTS("{\"results\":[{\"index\":0,", "{\"index\":1,", "\"count\":2,\"accepted\":2,\"rejected\":0}"));
	free(body);
	body = batch(100, "{\"platform\":\"aol\"}");
	assert_int_equal(stack_ask(router, "POST", "/router/events/batch", key, body, &a), 202);
	at = a.body;
	for (int i = 0; i < 100; i++) {
		char *index = text_of("{\"index\":%d,", i);

		at = strstr(at, index);
		assert_non_null(at);
		free(index);
	}
	assert_non_null(strstr(a.body, "\"count\":100,\"accepted\":99,\"rejected\":1}"));
	assert_non_null(strstr(a.body, "{\"index\":41,\"status\":\"rejected\",\"error\":{\"code\":\"INVALID_REQUEST\""));
	probe_answer_free(&a);
	free(body);
	assert_answer("/router/events/batch", "{\"events\":[]}", 400, TEXTS("\"field\":\"events\""));
	body = batch(101, NULL);
	assert_answer("/router/events/batch", body, 400, TEXTS("\"field\":\"events\""));
	free(body);
	assert_answer("/router/events/batch", "{\"events\":{}}", 400, TEXTS("\"field\":\"events\""));
	assert_answer("/router/events/batch", "{\"event\":[]}", 400, TEXTS("INVALID_REQUEST"));
}

static void a_batch_may_hold_the_same_event_twice(void **state)
{
	const char *id = new_id();
	char *one = event(id, "!memories twins", ""), *body = text_of("{\"events\":[%s,%s]}", one, one);

	(void)state;
	assert_answer("/router/events/batch", body, 202,
	              TEXTS("\"status\":\"accepted\"}", "\"status\":\"duplicate\"}", "\"accepted\":2"));
	assert_int_equal(on_topic(id), 1);
	free(one);
	free(body);
}

/* section 21 */
static void a_body_over_a_mebibyte_is_413(void **state)
{
	size_t n = (1 << 20) + 1;
	char *body = malloc(n + 1);

	(void)state;
	memset(body, ' ', n);
	body[n] = '\0';
	assert_int_equal(stack_ask(router, "POST", "/router/events", key, body, NULL), 413);
	free(body);
}

/* router 24: the broker away, then the database */
static void without_broker_or_database_it_is_503_and_a_repetition_is_safe(void **state)
{
	const char *id = new_id(), *other = new_id();
	char *body = event(id, "!memories later", ""), *second = event(other, "!memories later", "");
	struct probe_answer a;

	(void)state;
	stack_broker("stop");
	assert_int_equal(post(body, &a), 503);
	assert_non_null(strstr(a.head, "Retry-After: 5"));
	probe_answer_free(&a);
	stack_broker("start");
	child_wait_ready(router, true, 60000);
	assert_answer("/router/events", body, 202, TEXTS("\"event_id\":"));
	assert_in_range(on_topic(id), 1, 2);    /* the first try may have reached the broker after all */
	stack_pg("stop primary");
	assert_int_equal(post(second, NULL), 503);
	stack_pg("start primary");
	child_wait_ready(router, true, WAIT_MS);
	assert_answer("/router/events", second, 202, TEXTS("\"status\":\"accepted\""));
	assert_int_equal(on_topic(other), 1);
	free(body);
	free(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_event_is_accepted_and_once_on_the_topic_keyed_by_its_entity),
		cmocka_unit_test(plain_chat_has_no_execution),
		cmocka_unit_test(other_names_of_the_fields_are_understood),
		cmocka_unit_test(bad_fields_are_named),
		cmocka_unit_test(a_follow_without_text_or_user_and_null_metadata_are_fine),
		cmocka_unit_test(five_thousand_characters_of_four_bytes_are_a_message_and_one_more_is_none),
		cmocka_unit_test(only_collectors_and_administrators_may_post),
		cmocka_unit_test(either_key_makes_a_duplicate_with_the_first_ids),
		cmocka_unit_test(what_was_stored_and_never_published_is_published_by_its_repetition),
		cmocka_unit_test(the_idempotency_key_header_is_an_event_id),
		cmocka_unit_test(a_batch_is_answered_in_order_and_each_event_judged_alone),
		cmocka_unit_test(a_batch_may_hold_the_same_event_twice),
		cmocka_unit_test(a_body_over_a_mebibyte_is_413),
		cmocka_unit_test(without_broker_or_database_it_is_503_and_a_repetition_is_safe),
	};

	return !!cmocka_run_group_tests_name("api_events", tests, up, down);
}

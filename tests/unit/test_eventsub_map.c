/* test_eventsub_map.c - what an EventSub payload means to us (collectors.md 6.2). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../services/collector-twitch/eventsub.h"
#include "err.h"
#include "shared.h"
#include "wait.h"

#define HEAD "{\"subscription\":{\"id\":\"s\",\"type\":\"channel.chat.message\",\"version\":\"1\"},\"event\":"
#define WHO  "\"broadcaster_user_id\":\"1001\",\"chatter_user_id\":\"7\",\"chatter_user_login\":\"ada\"," \
	     "\"chatter_user_name\":\"Ada\",\"message_id\":\"m-1\""

static struct arena *mem;
static struct mapped m;

static int map(struct str json)
{
	struct eventsub *e = ARENA_NEW(mem, struct eventsub);
	const struct eventsub_in from = { .message_id = STR("d-1"),
		                          .bot_user_id = STR("99"),
		                          .received_at_ms = 1772388000000 };
	struct err err = { 0 };
	int r = eventsub_decode(json, e, mem, &err);

	return r != 0 ? r : eventsub_map(e, &from, json, &m, mem, &err);
}

static void maps(const char *json)
{
	assert_int_equal(map(str_of(json)), 0);
}

static void is(struct str got, const char *want)
{
	char *text = text_of(STR_FMT, STR_ARG(got));

	assert_string_equal(text, want);
	free(text);
}

/* The message is what a receiver takes: encoded and decoded by the wire format. */
static void travels(void)
{
	struct buf b = BUF(512 * 1024);
	struct event again;
	struct err err = { 0 };
	struct str text;

	js_encode(envelope_fields[ENV_EVENT], &m.event, &b);
	assert_int_equal(buf_str(&b, &text), 0);
	assert_true(text.n <= BUS_BODY_MAX);
	assert_int_equal(js_decode(text, envelope_fields[ENV_EVENT], &again, mem, &err), 0);
	assert_int_equal(event_check(&again, 0, mem, &err), 0);
	assert_true(str_eq(again.event_id, m.event.event_id) && str_eq(again.entity, m.event.entity));
	assert_true(str_eq(again.message_content, m.event.message_content));
	buf_clear(&b);
}

static void a_chat_message_is_an_event_and_an_activity(void **state)
{
	(void)state;
	maps(HEAD
	     "{" WHO
	     ",\"message\":{\"text\":\"!memories get\"},\"color\":\"#FF0000\",\"message_type\":\"text\","
	     "\"badges\":[{\"set_id\":\"moderator\",\"id\":\"1\",\"info\":\"\"},{\"set_id\":\"bits\",\"id\":"
	     "\"100\"}],"
	     "\"reply\":{\"parent_message_id\":\"m-0\",\"parent_user_id\":\"8\"},\"cheer\":{\"bits\":5}}}");
	is(m.event.event_id, "twitch:d-1");
	is(m.event.dedupe_key, "twitch:chat:m-1");
	is(m.event.entity, "twitch:1001");
	is(m.event.reply_ref, "twitch:m-1");
	is(m.event.user.name, "ada");
	is(m.event.user.display_name, "Ada");
	is(m.event.message_content, "!memories get");
	is(m.event.metadata, "{\"message_id\":\"m-1\",\"color\":\"#FF0000\",\"message_kind\":\"text\","
	                     "\"parent_message_id\":\"m-0\","
	                     "\"parent_user_id\":\"8\",\"bits\":5,\"badges\":[{\"set_id\":\"moderator\","
	                     "\"id\":\"1\"},{\"set_id\":\"bits\",\"id\":\"100\"}]}");
	assert_int_equal(m.event.message_type, MSG_CHAT);
	assert_int_equal(m.event.user.roles, 1u << ROLE_MODERATOR | 1u << ROLE_MEMBER);
	assert_true(m.in.forward && !m.own && !m.malformed);
	is(m.in.event_type, "message");
	assert_string_equal(m.in.activity, "message");
	assert_int_equal(m.in.points, 5);
	assert_int_equal(m.in.quantity, 1);
	travels();
}

/* 1.5 */
static void roles_come_from_badges(void **state)
{
	static const struct { const char *badge; uint32_t role; } cases[] = {
		{ "broadcaster", 1u << ROLE_OWNER }, { "moderator", 1u << ROLE_MODERATOR }, { "lead_moderator", 1u << ROLE_MODERATOR },
		{ "vip", 1u << ROLE_VIP }, { "subscriber", 1u << ROLE_SUBSCRIBER }, { "founder", 1u << ROLE_SUBSCRIBER },
		{ "staff", 0 }, { "Moderator", 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char *json = text_of(
			HEAD "{" WHO
			     ",\"message\":{\"text\":\"x\"},\"badges\":[{\"set_id\":\"%s\",\"id\":\"1\"}]}}",
			cases[i].badge);

		maps(json);
		assert_int_equal(m.event.user.roles, cases[i].role | 1u << ROLE_MEMBER);
		free(json);
	}
}

static void our_own_message_is_known(void **state)
{
	(void)state;
	maps(HEAD "{\"broadcaster_user_id\":\"1001\",\"chatter_user_id\":\"99\",\"message_id\":\"m-1\","
	          "\"message\":{\"text\":\"x\"}}}");
	assert_true(m.own);
	is(m.chat_id, "m-1");
	is(m.event.user.name, "99");
}

/* T23; the same channel as source is no partner */
static void shared_chat_is_kept_and_not_forwarded(void **state)
{
	(void)state;
	maps(HEAD "{" WHO ",\"message\":{\"text\":\"!x\"},\"source_broadcaster_user_id\":\"2002\"}}");
	assert_false(m.in.forward);
	assert_null(m.in.activity);
	maps(HEAD "{" WHO ",\"message\":{\"text\":\"!x\"},\"source_broadcaster_user_id\":\"1001\"}}");
	assert_true(m.in.forward);
	maps(HEAD "{" WHO ",\"message\":{\"text\":\"!x\"},\"source_broadcaster_user_id\":null}}");
	assert_true(m.in.forward);
}

/* 1.8: a retry would not help, so it is kept as other. */
static void what_lacks_a_member_is_other(void **state)
{
	static const char *const events[] = {
		"{}", "{" WHO "}", "{\"broadcaster_user_id\":\"1001\",\"message_id\":\"m\",\"message\":{\"text\":\"x\"}}",
		"{" WHO ",\"message\":{}}", "{" WHO ",\"message\":{\"text\":7}}",
		"{\"broadcaster_user_id\":\"1001\",\"chatter_user_id\":\"  \",\"message_id\":\"m\",\"message\":{\"text\":\"x\"}}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(events); i++) {
		char *json = text_of(HEAD "%s}", events[i]);

		maps(json);
		assert_true(m.malformed);
		assert_false(m.in.forward);
		assert_null(m.in.activity);
		is(m.in.event_type, "other");
		is(m.event.dedupe_key, "twitch:d-1");
		free(json);
	}
	maps("{\"subscription\":{\"id\":\"s\",\"type\":\"channel.chat.message\"}}");
	assert_true(m.malformed);
}

/* T15 */
static void unknown_types_are_kept_with_their_channel(void **state)
{
	(void)state;
	maps("{\"subscription\":{\"id\":\"s\",\"type\":\"channel.new_thing\",\"version\":\"9\"},"
	     "\"event\":{\"broadcaster_user_id\":\"1001\",\"user_id\":\"5\"}}");
	assert_false(m.malformed || m.in.forward);
	is(m.channel_id, "1001");
	is(m.user_id, "5");
	is(m.event.entity, "twitch:1001");
	maps("{\"subscription\":{\"id\":\"s\",\"type\":\"channel.raid\"},\"event\":{\"to_broadcaster_user_"
	     "id\":\"1002\"}}");
	is(m.channel_id, "1002");
	maps("{\"subscription\":{\"id\":\"s\",\"type\":\"user.authorization.revoke\"},\"event\":{\"client_"
	     "id\":\"c\"}}");
	assert_int_equal(m.channel_id.n, 0);
	assert_int_equal(m.event.entity.n, 0);
}

static void long_texts_are_cut_and_it_is_said(void **state)
{
	char *text = malloc(24001), *json;

	(void)state;
	for (int i = 0; i < 6000; i++)
		memcpy(text + 4 * i, "\xF0\x9F\x98\x80", 4);
	text[24000] = '\0';
	json = text_of(HEAD "{" WHO ",\"message\":{\"text\":\"%s\"}}}", text);
	maps(json);
	assert_int_equal(m.event.message_content.n, 20000);
	assert_non_null(strstr(m.event.metadata.p, "\"truncated\":true"));
	travels();
	free(json);
	/* names and badges that are longer than a receiver takes */
	text[2000] = '\0';
	json = text_of(HEAD "{\"broadcaster_user_id\":\"1001\",\"chatter_user_id\":\"7\",\"chatter_user_"
	                    "login\":\"%s\",\"message_id\":"
	                    "\"m\",\"message\":{\"text\":\"x\"},\"color\":\"%s\",\"badges\":[{\"set_id\":\"%"
	                    "s\",\"id\":\"%s\"}]}}",
	               text, text, text, text);
	maps(json);
	travels();
	free(json);
	free(text);
}

static void a_giant_payload_is_kept_as_its_ids(void **state)
{
	char *filler = malloc(300001), *json;

	(void)state;
	memset(filler, 'x', 300000);
	filler[300000] = '\0';
	json = text_of(HEAD "{" WHO ",\"message\":{\"text\":\"hi\"},\"filler\":\"%s\"}}", filler);
	maps(json);
	is(m.in.raw, "{\"truncated\":true,\"subscription_id\":\"s\",\"type\":\"channel.chat.message\"}");
	is(m.event.message_content, "hi");
	free(json);
	free(filler);
}

static void what_is_no_delivery_is_refused(void **state)
{
	static const char *const bad[] = {
		"", "x", "[]", "{}", "null", "{\"subscription\":{}}", "{\"subscription\":{\"id\":\"\",\"type\":\"t\"}}",
		"{\"subscription\":{\"id\":\"s\",\"type\":\"t\"},\"event\":[]}", "{\"subscription\":{\"id\":\"s\",\"type\":\"t\",\"type\":\"u\"}}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		int r = map(str_of(bad[i]));

		assert_true(r == -EBADMSG || r == -EINVAL);
	}
}

/* Every recorded delivery maps; the kinds of chat we know are chat. */
static void recorded_deliveries_map(void **state)
{
	struct buf b = BUF(1 << 20);
	struct str all, line;
	int notifications = 0;

	(void)state;
	if (!shared_file("eventsub/webhook-deliveries.jsonl", &b))
		skip();
	assert_int_equal(buf_str(&b, &all), 0);
	while (all.p != NULL) {
		static const struct js_field fields[] = { { .key = "body", .type = JS_STR, .max = 1 << 20 },
			                                  { 0 } };
		struct {
			struct str body;
		} rec;
		struct err err = { 0 };

		line = str_cut(all, '\n', &all);
		if (line.n == 0 || js_decode(line, fields, &rec, mem, &err) != 0)
			continue;
		if (map(rec.body) == 0 && m.event.channel_id.n > 0)
			notifications++;
	}
	buf_clear(&b);
	assert_true(notifications > 0);
}

static void sampled_frames_map(void **state)
{
	static const struct { const char *name, *type; bool forward; } files[] = {
		{ "composed/channel.chat.message-command", "message", true },
		{ "composed/channel.chat.message-cheer", "message", true },
		{ "composed/channel.chat.message-gif", "message", true },
		{ "composed/channel.chat.message-reply", "message", true },
		{ "composed/channel.chat.message-unicode", "message", true },
		{ "composed/channel.chat.message-shared-chat", "message", false },
		{ "from-chatterino/channel.chat.message", "message", false },
		{ "composed/channel.follow", "other", false },
		{ "composed/channel.raid", "other", false },
		{ "from-chatterino/channel.moderate-timeout", "other", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		static const struct js_field fields[] = {
			{ .key = "payload", .type = JS_RAW_OBJECT, .max = 1 << 20 }, { 0 }
		};
		char *name = text_of("eventsub/%s.json", files[i].name);
		struct buf b = BUF(1 << 20);
		struct {
			struct str payload;
		} frame = { 0 };
		struct err err = { 0 };
		struct str json;

		if (!shared_file(name, &b)) {
			free(name);
			skip();
		}
		free(name);
		assert_int_equal(buf_str(&b, &json), 0);
		/* a websocket frame has the payload inside, a webhook body is the payload */
		if (js_decode(json, fields, &frame, mem, &err) != 0)
			frame.payload = json;
		assert_int_equal(map(frame.payload), 0);
		is(m.in.event_type, files[i].type);
		assert_int_equal(m.in.forward, files[i].forward);
		assert_false(m.malformed);
		if (m.in.forward)
			travels();
		buf_clear(&b);
	}
}

static int setup(void **state)
{
	(void)state;
	mem = arena_new(64 * 1024, 64 << 20);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_free(mem);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_chat_message_is_an_event_and_an_activity),
		cmocka_unit_test(roles_come_from_badges),
		cmocka_unit_test(our_own_message_is_known),
		cmocka_unit_test(shared_chat_is_kept_and_not_forwarded),
		cmocka_unit_test(what_lacks_a_member_is_other),
		cmocka_unit_test(unknown_types_are_kept_with_their_channel),
		cmocka_unit_test(long_texts_are_cut_and_it_is_said),
		cmocka_unit_test(a_giant_payload_is_kept_as_its_ids),
		cmocka_unit_test(what_is_no_delivery_is_refused),
		cmocka_unit_test(recorded_deliveries_map),
		cmocka_unit_test(sampled_frames_map),
	};

	return !!cmocka_run_group_tests(tests, setup, teardown);
}

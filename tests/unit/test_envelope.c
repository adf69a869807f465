/* Messages: each kind there and back, each limit at its edge and one beyond, headers, reasons. */
#define BANNED_EXCEPT_GETENV
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "common.h"

#include "asyncapi.h"
#include "clock.h"
#include "envelope.h"
#include "err.h"
#include "ids.h"

#define UUID_1 "b2d087ad-ea76-557a-a7b5-23c1d08f979e"
#define UUID_2 "e892ef4e-fde1-546e-9115-98236dd9f0d2"
#define TIME   "2026-03-01T18:00:00.123Z"
enum { NOW_MS_LOW = 1772388000 };
static const int64_t NOW = (int64_t)NOW_MS_LOW * 1000;

union any {
	struct event event;
	struct command_msg command;
	struct response response;
	struct outbound outbound;
	struct overlay overlay;
	struct activity activity;
	struct delivery delivery;
	struct registry registry;
};

/* One of each with every field set, as it is on the wire. */
static const char *const whole[ENV_COUNT] = {
	[ENV_EVENT] = "{\"event_id\":\"twitch:8b0e\",\"dedupe_key\":\"twitch:chat:cc\",\"platform\":"
		      "\"discord\",\"server_id\":\"1\","
		      "\"channel_id\":\"2\",\"entity\":\"discord:1:2\",\"user\":{\"id\":\"5\",\"name\":\"n\","
		      "\"display_name\":\"N\","
		      "\"roles\":[\"owner\",\"member\"]},\"message_type\":\"redemption\",\"message_content\":"
		      "\"!memories \xc3\xa9\","
		      "\"amount\":-3,\"occurred_at\":\"" TIME
		      "\",\"received_at\":\"2026-03-01T18:00:00.456Z\",\"reply_ref\":\"r\","
		      "\"metadata\":{\"a\":[1.50]}}",
	[ENV_COMMAND] =
		"{\"execution_id\":\"" UUID_1 "\",\"session_id\":\"" UUID_2 "\",\"event_id\":\"twitch:8b0e\","
		"\"community_id\":42,\"entity_id\":7,\"entity\":\"twitch:141981764\",\"platform\":\"twitch\","
		"\"user\":{\"id\":\"5\","
		"\"name\":\"n\",\"display_name\":\"N\",\"roles\":[\"admin\",\"vip\"],\"labels\":[\"event-"
		"autoapprove\"],"
		"\"community_role\":\"moderator\"},\"trigger\":\"string_match\",\"message_type\":"
		"\"chatMessage\",\"prefix\":\"!\","
		"\"command\":\"memories\",\"parameters\":[\"add\",\"\",\"a b\"],\"raw_message\":\"!memories "
		"add\","
		"\"event_data\":{\"x\":1},\"config\":{\"community\":{}},\"reply_ref\":\"r\",\"created_at\":"
		"\"" TIME "\"}",
	[ENV_RESPONSE] =
		"{\"execution_id\":\"" UUID_1 "\",\"session_id\":\"" UUID_2
		"\",\"response_index\":1,\"final\":true,"
		"\"module_name\":\"memories\",\"success\":true,\"response_action\":\"form\",\"response_"
		"data\":{\"a\":1},"
		"\"processing_time_ms\":3,\"error_message\":\"e\",\"private\":true,\"chat_message\":\"c\","
		"\"media_type\":\"video\","
		"\"media_url\":\"https://a.example/"
		"b\",\"ticker_text\":\"t\",\"ticker_duration\":11,\"content_type\":\"alert\","
		"\"content\":\"<b>\",\"duration\":5,\"style\":{\"type\":\"x\"},\"form_title\":\"t\",\"form_"
		"description\":\"d\","
		"\"form_fields\":[{\"name\":\"a\",\"type\":\"select\",\"label\":\"A\",\"required\":true,"
		"\"options\":[\"x\",\"y\"],"
		"\"value\":\"x\",\"placeholder\":\"p\"},{\"name\":\"b\",\"type\":\"hidden\"}],"
		"\"form_submit_url\":\"https://"
		"a.example\",\"form_submit_method\":\"GET\",\"form_callback_url\":\"https://b.example\"}",
	[ENV_OUTBOUND] =
		"{\"message_id\":\"" UUID_1
		"\",\"kind\":\"timeout\",\"entity\":\"slack:T:C\",\"server_id\":\"T\","
		"\"channel_id\":\"C\",\"user_id\":\"U\",\"text\":\"hi\",\"form\":{\"f\":1},\"duration\":600,"
		"\"private\":true,"
		"\"reply_ref\":\"r\",\"in_reply_to\":\"m\",\"priority\":\"high\",\"expires_at\":\"" TIME
		"\",\"report_ref\":\"x/1\"}",
	[ENV_OVERLAY] =
		"{\"item_id\":\"" UUID_1
		"\",\"community_id\":1,\"source_type\":\"general\",\"content\":{},\"duration\":30,"
		"\"priority\":0,\"mode\":\"once\",\"session_id\":\"" UUID_2 "\",\"expires_at\":\"" TIME "\"}",
	[ENV_ACTIVITY] = "{\"event_id\":\"e\",\"activity_type\":\"cheer\",\"platform\":\"twitch\",\"user_"
			 "id\":\"5\",\"username\":\"u\","
			 "\"amount\":0,\"quantity\":2,\"entity\":\"twitch:1\",\"community_id\":1,\"occurred_"
			 "at\":\"" TIME "\"}",
	[ENV_DELIVERY] = "{\"message_id\":\"" UUID_1
			 "\",\"status\":\"expired\",\"platform_message_id\":\"p\",\"error\":\"late\","
			 "\"at\":\"" TIME "\",\"report_ref\":\"x/1\"}",
	[ENV_REGISTRY] =
		"{\"name\":\"memories\",\"kind\":\"workflow\",\"version\":\"1.0\",\"platform\":\"twitch\","
		"\"endpoint_url\":\"https://a.example\",\"health_check_url\":\"https://a.example/"
		"healthz\",\"instance\":\"i\","
		"\"status\":\"error\",\"heartbeat_at\":\"" TIME
		"\",\"commands\":[{\"command\":\"memories\",\"prefix\":\"!\","
		"\"description\":\"d\",\"usage\":\"u\",\"location\":\"community\",\"type\":\"webhook\","
		"\"location_url\":\"kafka:memories\",\"timeout\":31,\"rate_limit\":5,\"trigger_type\":"
		"\"both\","
		"\"event_types\":[\"follow\"],\"priority\":0,\"execution_mode\":\"parallel\",\"min_role\":"
		"\"owner\","
		"\"parameters\":[\"text\"],\"enable_for\":[{\"entity_id\":7,\"config\":{\"a\":1},"
		"\"permissions\":{}}]}]}",
};

static struct arena *mem;
static struct err err;
static struct bus_header extra[ENVELOPE_HEADERS];
static size_t n_extra;
static char type[64];

static int setup(void **state)
{
	(void)state;
	mem = arena_new(4096, 8 << 20);
	err = (struct err){ 0 };
	n_extra = 0;
	clock_fake(NOW);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	clock_real();
	arena_free(mem);
	return 0;
}

static void header(const char *name, const char *value)
{
	extra[n_extra++] = (struct bus_header){ name, str_of(value) };
}

static struct bus_msg message(enum envelope_kind kind, struct str body)
{
	n_extra = 0;
	snprintf(type, sizeof(type), "waddle.%s.v1", envelope_kind_names[kind]);
	header("ce_type", type);
	return (struct bus_msg){ .value = body, .headers = extra, .sent_at_ms = 55 };
}

static int decode_body(enum envelope_kind kind, const char *json, void *out)
{
	struct bus_msg m = message(kind, str_of(json));
	struct envelope env;

	m.n_headers = n_extra;
	return envelope_decode(&m, kind, &env, out, mem, &err);
}

static struct str encode(enum envelope_kind kind, const void *body)
{
	struct buf b = BUF(1 << 20);
	struct str s;

	js_encode(envelope_fields[kind], body, &b);
	assert_int_equal(buf_str(&b, &s), 0);
	s = arena_str(mem, s);
	assert_non_null(s.p);
	buf_clear(&b);
	return s;
}

static void assert_text(struct str s, const char *is)
{
	if (!str_eq(s, str_of(is)))
		fail_msg("" STR_FMT "\n   not %s", STR_ARG(s), is);
}

static void every_kind_comes_back_as_it_was_sent(void **state)
{
	(void)state;
	for (int k = 0; k < ENV_COUNT; k++) {
		union any body;

		memset(&body, 0xa5, sizeof(body));
		if (decode_body((enum envelope_kind)k, whole[k], &body) != 0)
			fail_msg("%s: %s", envelope_kind_names[k], err.text);
		assert_text(encode((enum envelope_kind)k, &body), whole[k]);
	}
}

/* Every row of every table is in the texts above: a row added without a case fails here. */
static void every_field_has_its_case(void **state)
{
	(void)state;
	for (int k = 0; k < ENV_COUNT; k++) {
		for (const struct js_field *f = envelope_fields[k]; f->key != NULL; f++) {
			char key[64];

			snprintf(key, sizeof(key), "\"%s\":", f->key);
			if (strstr(whole[k], key) == NULL)
				fail_msg("%s.%s has no case", envelope_kind_names[k], f->key);
		}
	}
}

static void required_fields_are_required(void **state)
{
	(void)state;
	for (int k = 0; k < ENV_COUNT; k++) {
		for (const struct js_field *f = envelope_fields[k]; f->key != NULL; f++) {
			char *text = strdup(whole[k]), key[64], *at, want[64];
			union any body;
			int r;

			snprintf(key, sizeof(key), "\"%s\":", f->key);
			at = strstr(text, key);
			assert_non_null(at);
			at[1] = '_'; /* the same field by an unknown name */
			r = decode_body((enum envelope_kind)k, text, &body);
			snprintf(want, sizeof(want), "%s: missing", f->key);
			if (!f->optional && (r != -EINVAL || strcmp(err.text, want) != 0))
				fail_msg("%s.%s: %d %s", envelope_kind_names[k], f->key, r, err.text);
			if (f->optional && r != 0 && k != ENV_EVENT)
				fail_msg("%s.%s: %d %s", envelope_kind_names[k], f->key, r, err.text);
			free(text);
		}
	}
}

static void unknown_fields_are_skipped(void **state)
{
	(void)state;
	for (int k = 0; k < ENV_COUNT; k++) {
		char text[4096];
		union any body;

		snprintf(text, sizeof(text), "{\"added_later\":{\"a\":[{}]},%s", whole[k] + 1);
		assert_int_equal(decode_body((enum envelope_kind)k, text, &body), 0);
		assert_text(encode((enum envelope_kind)k, &body), whole[k]);
	}
}

/* The byte behind the value that begins at p. */
static const char *behind_value(const char *p)
{
	int depth = 0;
	bool quoted = false;

	for (;; p++) {
		if (quoted) {
			if (*p == '\\')
				p++;
			else if (*p == '"')
				quoted = false;
			continue;
		}
		if (depth == 0 && (*p == ',' || *p == '}' || *p == ']'))
			return p;
		quoted = *p == '"';
		depth += (*p == '{' || *p == '[') - (*p == '}' || *p == ']');
	}
}

/* JSON of `kind` with the value of one key of the outermost object replaced. */
static const char *with_value(enum envelope_kind kind, const char *key, const char *value)
{
	char quoted[64];
	const char *at;
	struct str s;

	snprintf(quoted, sizeof(quoted), "\"%s\":", key);
	at = strstr(whole[kind], quoted);
	assert_non_null(at);
	at += strlen(quoted);
	s = arena_printf(mem, "%.*s%s%s", (int)(at - whole[kind]), whole[kind], value, behind_value(at));
	assert_non_null(s.p);
	return s.p;
}

/* The largest value a row allows, or one more; NULL: it has no such limit. */
static const char *edge(const struct js_field *f, bool beyond)
{
	size_t n = (size_t)f->max + beyond;
	char *p;

	if (f->type == JS_STR && f->max > 0 && f->max < 20000) {
		p = arena_alloc(mem, 4 * n + 3);
		for (size_t i = 0; i < n; i++)
			memcpy(p + 1 + 4 * i, "\xf0\x9f\x98\x80", 4);
		p[0] = p[4 * n + 1] = '"';
		return p;
	}
	if (f->type == JS_INT && f->max > 0 && f->max < INT64_MAX)
		return arena_printf(mem, "%lld", (long long)f->max + beyond).p;
	if (f->type == JS_RAW_OBJECT && f->max > 0) {
		p = arena_alloc(mem, n + 1);
		memset(p, 'x', n);
		memcpy(p, "{\"k\":\"", 6);
		memcpy(p + n - 2, "\"}", 2);
		return p;
	}
	return NULL;
}

/* Every text, number and object with a maximum: at it, and one beyond. */
static void every_limit_is_exact(void **state)
{
	size_t tried = 0;

	(void)state;
	for (int k = 0; k < ENV_COUNT; k++) {
		for (const struct js_field *f = envelope_fields[k]; f->key != NULL; f++) {
			for (int beyond = 0; beyond <= 1; beyond++, arena_reset(mem)) {
				const char *value = edge(f, beyond);
				union any body;
				int r;

				if (value == NULL)
					continue;
				tried++;
				r = decode_body((enum envelope_kind)k,
						with_value((enum envelope_kind)k, f->key, value), &body);
				/* An event's ids must also agree with its address, which these cannot. */
				if (!beyond && k == ENV_EVENT && r == -EINVAL &&
				    strncmp(err.text, "entity: ", 8) == 0)
					continue;
				if (r != (beyond ? -EINVAL : 0) ||
				    (beyond && strncmp(err.text, f->key, strlen(f->key)) != 0))
					fail_msg("%s.%s %s its limit: %d %s", envelope_kind_names[k], f->key,
						 beyond ? "beyond" : "at", r, err.text);
			}
		}
	}
	assert_true(tried > 100);
}

/* A text of n characters of four bytes each. */
static char *wide(size_t n)
{
	char *s = xnew_(4 * n + 1, 1);

	for (size_t i = 0; i < n; i++)
		memcpy(s + 4 * i, "\xf0\x9f\x98\x80", 4);
	return s;
}

/* router 3: 5001 characters are refused, 5000 taken, also if each is a 4-byte character. */
static void a_message_has_at_most_5000_characters(void **state)
{
	char *text = wide(5000), *json = xnew_(30000, 1);
	struct event e;

	(void)state;
	snprintf(json, 30000,
		 "{\"event_id\":\"e\",\"platform\":\"twitch\",\"channel_id\":\"1\",\"user\":{\"id\":\"5\"},"
		 "\"message_type\":\"chatMessage\",\"message_content\":\"%s\"}",
		 text);
	assert_int_equal(decode_body(ENV_EVENT, json, &e), 0);
	assert_int_equal(e.message_content.n, 20000);
	snprintf(json, 30000,
		 "{\"event_id\":\"e\",\"platform\":\"twitch\",\"channel_id\":\"1\",\"user\":{\"id\":\"5\"},"
		 "\"message_type\":\"chatMessage\",\"message_content\":\"%sx\"}",
		 text);
	assert_int_equal(decode_body(ENV_EVENT, json, &e), -EINVAL);
	assert_string_equal(err.text, "message_content: longer than 5000 characters");
	assert_string_equal(envelope_reason(ENV_EVENT, -EINVAL), "bad_event");
	free(text);
	free(json);
}

static void an_event_is_completed(void **state)
{
	struct event e;

	(void)state;
	assert_int_equal(
		decode_body(
			ENV_EVENT,
			"{\"event_id\":\"e1\",\"platform\":\"slack\",\"server_id\":\" T \","
			"\"channel_id\":\"C:1\",\"user\":{\"id\":\" U \"},\"message_type\":\"chatMessage\","
			"\"metadata\":null}",
			&e),
		0);
	assert_text(e.entity, "slack:T:C%3A1");
	assert_text(e.server_id, "T");
	assert_text(e.user.id, "U");
	assert_text(e.user.name, "U");
	assert_text(e.user.display_name, "U");
	assert_text(e.dedupe_key, "e1");
	assert_text(e.metadata, "{}");          /* router 21 */
	assert_int_equal(e.received_at_ms, 55); /* when the broker got it */
	assert_int_equal(e.occurred_at_ms, 55);
	assert_int_equal(decode_body(ENV_EVENT,
				     "{\"event_id\":\"e1\",\"platform\":\"twitch\",\"channel_id\":\"1\","
				     "\"message_type\":\"follow\"}",
				     &e),
			 0);
	assert_text(e.user.id, "anonymous");
	assert_text(e.user.display_name, "anonymous");
	assert_text(e.entity, "twitch:1");
}

static void event_refused(const char *fields, const char *why)
{
	char json[1024];
	struct event e;
	int r;

	snprintf(json, sizeof(json), "{\"event_id\":\"e\",%s}", fields);
	r = decode_body(ENV_EVENT, json, &e);
	if (r != -EINVAL || strcmp(err.text, why) != 0)
		fail_msg("%s: %d %s", fields, r, err.text);
	assert_null(e.event_id.p);
}

/* router 2 to 4, 7 and the table of 2.1. */
static void an_event_must_agree_with_itself(void **state)
{
	(void)state;
#define CHAT "\"platform\":\"twitch\",\"message_type\":\"chatMessage\","
#define USER "\"user\":{\"id\":\"5\"},"
	event_refused(CHAT "\"channel_id\":\"1\"", "user.id: missing");
	event_refused(CHAT "\"channel_id\":\"1\",\"user\":{\"id\":\"  \"}", "user.id: blank");
	event_refused(CHAT "\"channel_id\":\"1\",\"user\":{\"id\":\"\"}", "user.id: blank");
	event_refused(CHAT USER "\"channel_id\":\"   \"", "channel_id: blank");
	event_refused(CHAT USER "\"channel_id\":\"1\",\"server_id\":\"\"", "server_id: blank");
	event_refused(CHAT USER "\"channel_id\":null", "channel_id: missing");
	event_refused(CHAT USER "\"channel_id\":141981764", "channel_id: expected a string");
	event_refused(CHAT USER "\"channel_id\":\"1\",\"entity\":\"twitch:2\"",
		      "entity: disagrees with platform, server_id and channel_id");
	event_refused(CHAT USER "\"channel_id\":\"1\",\"entity\":\"discord:0:1\"",
		      "entity: disagrees with platform, server_id and channel_id");
	event_refused(CHAT USER "\"channel_id\":\"1\",\"entity\":\"twitch\"", "entity: not an address");
	event_refused(CHAT USER "\"channel_id\":\"1\",\"server_id\":\"2\"",
		      "server_id: twitch has no servers");
	event_refused("\"platform\":\"discord\",\"message_type\":\"follow\",\"channel_id\":\"1\"",
		      "server_id: missing");
	event_refused(CHAT "\"channel_id\":\"1\",\"user\":{\"id\":\"5\",\"roles\":[\"king\"]}",
		      "user.roles[0]: not one of owner, admin, moderator, vip, subscriber, member");
	event_refused("\"platform\":\"\",\"message_type\":\"follow\",\"channel_id\":\"1\"",
		      "platform: empty");
	event_refused(
		"\"platform\":\"twitch\",\"message_type\":\"follow\",\"channel_id\":\"1\",\"metadata\":[]",
		"metadata: expected an object");
	event_refused(
		"\"platform\":\"twitch\",\"message_type\":\"follow\",\"channel_id\":\"1\",\"amount\":1.5",
		"amount: expected an integer, not a fraction");
}

static void every_message_type_of_the_contract_is_known(void **state)
{
	static const char *const types[] = {
		"chatMessage",    "slashCommand",   "interaction", "modal_submit", "button_click",
		"select_menu",    "subscription",   "resub",       "subgift",      "follow",
		"donation",       "cheer",          "raid",        "host",         "stream_online",
		"stream_offline", "reaction",       "member_join", "member_leave", "voice_join",
		"voice_leave",    "voice_time",     "boost",       "ban",          "kick",
		"timeout",        "warn",           "file_share",  "app_mention",  "channel_join",
		"message_edit",   "message_delete", "redemption"
	};
	struct event e;
	char json[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		snprintf(json, sizeof(json),
			 "{\"event_id\":\"e\",\"platform\":\"twitch\",\"channel_id\":\"1\","
			 "\"user\":{\"id\":\"5\"},\"message_type\":\"%s\"}",
			 types[i]);
		assert_int_equal(decode_body(ENV_EVENT, json, &e), 0);
		assert_string_equal(message_type_names[e.message_type], types[i]);
	}
	for (size_t i = 0; message_type_names[i] != NULL; i++)
		assert_true(i < ARRAY_LEN(types));
	assert_int_equal(decode_body(ENV_EVENT,
				     "{\"event_id\":\"e\",\"platform\":\"twitch\",\"channel_id\":\"1\","
				     "\"message_type\":\"chatmessage\"}",
				     &e),
			 -EINVAL);
	assert_memory_equal(err.text, "message_type: not one of chatMessage, slashCommand", 50);
}

static void defaults_of_the_wire_are_those_of_the_contract(void **state)
{
	struct response r;
	struct registry g;
	struct registry_command *c, mine = { .command = STR("x"), .prefix = STR("!"), REGISTRY_COMMAND };
	struct activity a;
	struct overlay o;
	struct outbound out;

	(void)state;
	assert_int_equal(
		decode_body(ENV_RESPONSE,
			    "{\"execution_id\":\"" UUID_1 "\",\"session_id\":\"" UUID_2 "\","
			    "\"response_index\":0,\"final\":false,\"module_name\":\"m\",\"success\":false,"
			    "\"response_action\":\"ticker\",\"ticker_text\":\"t\"}",
			    &r),
		0);
	assert_int_equal(r.ticker_duration, 10);
	assert_int_equal(r.content_type, CONTENT_TEXT);
	assert_int_equal(r.media_type, MEDIA_NONE);
	assert_int_equal(r.form_submit_method, FORM_POST);
	assert_false(r.private);
	assert_int_equal(
		decode_body(ENV_REGISTRY,
			    "{\"name\":\"m\",\"kind\":\"module\",\"version\":\"1\",\"instance\":\"i\","
			    "\"status\":\"active\",\"heartbeat_at\":\"" TIME
			    "\",\"commands\":[{\"command\":\"x\","
			    "\"prefix\":\"!\"}]}",
			    &g),
		0);
	c = g.commands.items;
	assert_true(c->timeout == 30 && c->priority == 100 && c->min_role == ROLE_MEMBER &&
		    c->rate_limit == 0);
	assert_true(c->type == ENDPOINT_CONTAINER && c->execution_mode == MODE_SEQUENTIAL &&
		    c->trigger_type == FIRES_ON_COMMAND);
	assert_true(mine.timeout == c->timeout && mine.priority == c->priority &&
		    mine.min_role == c->min_role);
	assert_int_equal(
		decode_body(
			ENV_ACTIVITY,
			"{\"event_id\":\"e\",\"activity_type\":\"t\",\"platform\":\"p\",\"user_id\":\"u\","
			"\"amount\":5,\"entity\":\"twitch:1\",\"community_id\":1,\"occurred_at\":\"" TIME
			"\"}",
			&a),
		0);
	assert_int_equal(a.quantity, 1);
	assert_int_equal(decode_body(ENV_OVERLAY,
				     "{\"item_id\":\"" UUID_1
				     "\",\"community_id\":1,\"source_type\":\"ticker\","
				     "\"content\":{},\"mode\":\"once\"}",
				     &o),
			 0);
	assert_int_equal(o.priority, 5);
	assert_int_equal(decode_body(ENV_OUTBOUND,
				     "{\"message_id\":\"" UUID_1
				     "\",\"kind\":\"chat\",\"entity\":\"twitch:1\"}",
				     &out),
			 0);
	assert_int_equal(out.priority, PRIORITY_NORMAL);
}

/* What a module sends for "Saved." must not trip over fields of other actions it never set. */
static void a_response_made_of_zeros_and_a_text_is_valid(void **state)
{
	struct response in = { .execution_id = STR(UUID_1),
			       .session_id = STR(UUID_2),
			       .module_name = STR("m"),
			       .final = true,
			       .success = true,
			       .chat_message = STR("Saved.") },
			out;
	struct str json = encode(ENV_RESPONSE, &in);

	(void)state;
	assert_text(json, "{\"execution_id\":\"" UUID_1 "\",\"session_id\":\"" UUID_2
			  "\",\"response_index\":0,\"final\":true,"
			  "\"module_name\":\"m\",\"success\":true,\"response_action\":\"chat\",\"chat_"
			  "message\":\"Saved.\"}");
	assert_int_equal(decode_body(ENV_RESPONSE, json.p, &out), 0);
	assert_text(out.chat_message, "Saved.");
}

static const struct bus_header *find(const struct envelope_headers *h, const char *name)
{
	for (size_t i = 0; i < h->n; i++)
		if (strcmp(h->h[i].name, name) == 0)
			return &h->h[i];
	return NULL;
}

static void headers_go_there_and_back(void **state)
{
	struct envelope env = { .kind = ENV_COMMAND,
				.source = STR("waddle/router"),
				.lsn = UINT64_C(0x16B374D848),
				.traceparent = STR("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
				.time_ms = 1772388000123,
				.reply_topic = STR("waddle.responses.workflow-actions"),
				.deadline_ms = 1772388030000 },
			back;
	struct envelope_headers h;
	struct bus_msg m;
	struct command_msg c, again;

	(void)state;
	assert_int_equal(decode_body(ENV_COMMAND, whole[ENV_COMMAND], &c), 0);
	envelope_headers(&env, &c, &h);
	assert_int_equal(h.n, 10);
	assert_text(find(&h, "ce_specversion")->value, "1.0");
	assert_text(find(&h, "ce_id")->value, UUID_1);
	assert_text(find(&h, "ce_type")->value, "waddle.command.v1");
	assert_text(find(&h, "ce_source")->value, "waddle/router");
	assert_text(find(&h, "ce_time")->value, TIME);
	assert_text(find(&h, "content-type")->value, "application/json");
	assert_text(find(&h, "traceparent")->value,
		    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
	assert_text(find(&h, "waddle-deadline")->value, "2026-03-01T18:00:30.000Z");
	assert_text(find(&h, "waddle-lsn")->value, "16/B374D848");
	assert_text(find(&h, "waddle-reply-topic")->value, "waddle.responses.workflow-actions");
	m = (struct bus_msg){ .value = str_of(whole[ENV_COMMAND]), .headers = h.h, .n_headers = h.n };
	assert_int_equal(envelope_decode(&m, ENV_COMMAND, &back, &again, mem, &err), 0);
	memset(&h, 0, sizeof(h)); /* it keeps nothing of the message */
	assert_int_equal(back.kind, ENV_COMMAND);
	assert_text(back.id, UUID_1);
	assert_text(back.source, "waddle/router");
	assert_text(back.traceparent, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
	assert_text(back.reply_topic, "waddle.responses.workflow-actions");
	assert_true(back.lsn == env.lsn && back.deadline_ms == env.deadline_ms &&
		    back.time_ms == env.time_ms);
}

static void headers_that_say_nothing_are_left_out(void **state)
{
	struct envelope env = { .kind = ENV_EVENT };
	struct event e;
	struct envelope_headers h;

	(void)state;
	assert_int_equal(decode_body(ENV_EVENT, whole[ENV_EVENT], &e), 0);
	envelope_headers(&env, &e, &h);
	assert_int_equal(h.n, 6);
	assert_text(find(&h, "ce_source")->value, "waddle");
	assert_text(find(&h, "ce_time")->value, "2026-03-01T18:00:00.000Z"); /* now */
	assert_text(find(&h, "ce_id")->value, "twitch:8b0e");
}

static void every_kind_has_an_id_of_its_own(void **state)
{
	static const char *const ids[ENV_COUNT] = {
		[ENV_EVENT] = "twitch:8b0e",
		[ENV_COMMAND] = UUID_1,
		[ENV_RESPONSE] = UUID_1 "/1",
		[ENV_OUTBOUND] = UUID_1,
		[ENV_OVERLAY] = UUID_1,
		[ENV_ACTIVITY] = "e/cheer",
		[ENV_DELIVERY] = UUID_1 "/expired",
		[ENV_REGISTRY] = "memories/i/" TIME,
	};

	(void)state;
	for (int k = 0; k < ENV_COUNT; k++) {
		struct envelope env = { .kind = (enum envelope_kind)k };
		struct envelope_headers h;
		union any body;
		enum envelope_kind kind;
		struct bus_msg m;

		assert_int_equal(decode_body((enum envelope_kind)k, whole[k], &body), 0);
		envelope_headers(&env, &body, &h);
		assert_text(find(&h, "ce_id")->value, ids[k]);
		m = (struct bus_msg){ .headers = h.h, .n_headers = h.n };
		assert_int_equal(envelope_kind(&m, &kind), 0);
		assert_int_equal(kind, k);
	}
}

static void header_refused(const char *name, const char *value, const char *why)
{
	struct bus_msg m = message(ENV_EVENT, str_of(whole[ENV_EVENT]));
	struct envelope env;
	struct event e;
	int r;

	header(name, value);
	m.n_headers = n_extra;
	r = envelope_decode(&m, ENV_EVENT, &env, &e, mem, &err);
	if (r != -EINVAL || strcmp(err.text, why) != 0)
		fail_msg("%s: %s: %d %s", name, value, r, err.text);
	assert_int_equal(env.lsn, 0);
	assert_null(e.event_id.p);
	assert_int_equal(arena_used(mem), 0);
}

static void bad_headers_are_refused(void **state)
{
	static const char *const lsns[] = { "16",          "16/",         "/1",   "G/1",  "1/2/3",
					    "123456789/1", "1/123456789", "-1/1", "1/ 1", "0x1/1" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lsns); i++)
		header_refused("waddle-lsn", lsns[i], "header waddle-lsn: not a write position");
	header_refused("waddle-deadline", "soon", "header waddle-deadline: not a time");
	header_refused("ce_time", "1772388000", "header ce_time: not a time");
	header_refused("waddle-reply-topic", "waddle.commands.memories",
		       "header waddle-reply-topic: not a response topic");
	header_refused("waddle-reply-topic", "xwaddle.responses.a",
		       "header waddle-reply-topic: not a response topic");
	header_refused("ce_id", "\xff", "headers: not UTF-8");
	header_refused("ce_type", "waddle.event.v2",
		       "header ce_type: \"waddle.event.v2\" instead of \"waddle.event.v1\"");
	header_refused("ce_type", "waddle.command.v1",
		       "header ce_type: \"waddle.command.v1\" instead of \"waddle.event.v1\"");
}

static void a_message_without_a_type_is_none_of_ours(void **state)
{
	struct bus_msg m = { .value = str_of(whole[ENV_EVENT]) };
	enum envelope_kind kind;
	struct envelope env;
	struct event e;

	(void)state;
	assert_int_equal(envelope_kind(&m, &kind), -EINVAL);
	assert_int_equal(envelope_decode(&m, ENV_EVENT, &env, &e, mem, &err), -EINVAL);
	assert_int_equal(envelope_decode(&m, ENV_EVENT, NULL, &e, mem, &err), 0); /* headers not looked at */
	assert_text(e.event_id, "twitch:8b0e");
}

static void a_trace_that_is_none_is_forgotten(void **state)
{
	struct bus_msg m = message(ENV_EVENT, str_of(whole[ENV_EVENT]));
	struct envelope env;
	struct event e;

	(void)state;
	header("traceparent", "00-xyz");
	header("some-other", "header");
	m.n_headers = n_extra;
	assert_int_equal(envelope_decode(&m, ENV_EVENT, &env, &e, mem, &err), 0);
	assert_null(env.traceparent.p);
	assert_int_equal(env.time_ms, 55);
}

static void work_past_its_deadline_is_not_done(void **state)
{
	struct bus_msg m = message(ENV_COMMAND, str_of(whole[ENV_COMMAND]));
	struct envelope env;
	struct command_msg c;

	(void)state;
	header("waddle-deadline", "2026-03-01T18:00:00.001Z");
	m.n_headers = n_extra;
	assert_int_equal(envelope_decode(&m, ENV_COMMAND, &env, &c, mem, &err), 0);
	clock_fake_move(1);
	assert_int_equal(envelope_decode(&m, ENV_COMMAND, &env, &c, mem, &err), -ETIME);
	assert_int_equal(env.deadline_ms, NOW + 1);
	assert_null(c.execution_id.p);
}

static void bodies_have_a_size_and_tombstones_none(void **state)
{
	char *big = xnew_(BUS_BODY_MAX + 1, 1);
	struct bus_msg m;
	struct event e;

	(void)state;
	memset(big, ' ', BUS_BODY_MAX + 1);
	memcpy(big, whole[ENV_EVENT], strlen(whole[ENV_EVENT]));
	m = (struct bus_msg){ .value = { big, BUS_BODY_MAX } };
	assert_int_equal(envelope_decode(&m, ENV_EVENT, NULL, &e, mem, &err), 0);
	m.value.n++;
	assert_int_equal(envelope_decode(&m, ENV_EVENT, NULL, &e, mem, &err), -EMSGSIZE);
	m.value = (struct str){ big, 0 };
	assert_int_equal(envelope_decode(&m, ENV_EVENT, NULL, &e, mem, &err), -EBADMSG);
	m.value = STR_NONE;
	assert_int_equal(envelope_decode(&m, ENV_EVENT, NULL, &e, mem, &err), -ENODATA);
	free(big);
}

/* router 19: the closed list of reasons. */
static void each_mistake_has_its_reason(void **state)
{
	struct event e;
	struct response r;
	struct command_msg c;

	(void)state;
	assert_string_equal(envelope_reason(ENV_EVENT, decode_body(ENV_EVENT, "{'a':1}", &e)), "bad_json");
	assert_string_equal(envelope_reason(ENV_EVENT, decode_body(ENV_EVENT, "{}", &e)), "bad_event");
	assert_string_equal(envelope_reason(ENV_RESPONSE, decode_body(ENV_RESPONSE, "{}", &r)),
			    "bad_response");
	assert_string_equal(envelope_reason(ENV_RESPONSE, decode_body(ENV_RESPONSE, "{\"a\":1,\"a\":1}", &r)),
			    "bad_json");
	assert_string_equal(envelope_reason(ENV_COMMAND, decode_body(ENV_COMMAND, "{}", &c)), "bad_json");
	assert_string_equal(envelope_reason(ENV_COMMAND, -EMSGSIZE), "too_large");
}

static void every_failing_allocation_is_no_bad_message(void **state)
{
	(void)state;
	for (int k = 0; k < ENV_COUNT; k++) {
		unsigned n = 0;
		int r;

		do {
			struct bus_msg m = message((enum envelope_kind)k, str_of(whole[k]));
			struct envelope env;
			union any body;

			header("ce_id", "i");
			header("ce_source", "s");
			header("waddle-reply-topic", "waddle.responses.x");
			header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
			m.n_headers = n_extra;
			arena_fail_after(mem, ++n);
			r = envelope_decode(&m, (enum envelope_kind)k, &env, &body, mem, &err);
			if (r != 0) {
				assert_int_equal(r, -ENOBUFS);
				assert_int_equal(arena_used(mem), 0);
			}
			assert_true(n < 100);
		} while (r != 0);
		assert_true(n >= 6); /* four headers, the texts, then success */
		arena_fail_after(mem, 0);
		arena_reset(mem);
	}
}

static void write_positions_are_written_as_postgresql_does(void **state)
{
	static const char *const bad[] = { "/", "1", "1/", "/1", "123456789/0", "0/123456789", "g/1", "1/1 ", "1//1",
					   "-1/1", "0x1/1" };
	char text[LSN_TEXT];
	uint64_t lsn = 7;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(lsn_parse(str_of(bad[i]), &lsn), -EINVAL);
	for (uint64_t one = 1; one != 0; one <<= 1) {
		lsn_text(one | 1, text);
		assert_int_equal(lsn_parse(str_of(text), &lsn), 0);
		assert_true(lsn == (one | 1));
	}
	lsn_text(UINT64_C(0x16B374D848), text);
	assert_string_equal(text, "16/B374D848");
	lsn_text(UINT64_MAX, text);
	assert_string_equal(text, "FFFFFFFF/FFFFFFFF");
	lsn_text(0, text);
	assert_string_equal(text, "0/0");
	assert_int_equal(lsn_parse(STR("ffffffff/0A"), &lsn), 0);
	assert_true(lsn == UINT64_C(0xffffffff0000000a));
	assert_int_equal(lsn_parse(STR_NONE, &lsn), -EINVAL);
	assert_true(lsn == UINT64_C(0xffffffff0000000a));
}

static void an_insert_position_behind_a_page_header_is_the_page(void **state)
{
	static const struct { uint64_t insert, end; } of[] = {
		{ 0x2000, 0x2000 },     { 0x2018, 0x2000 },             /* a header of 24 bytes */
		{ 0x1000028, 0x1000000 },                               /* of 40, a segment begins */
		{ 0x2030, 0x2030 },     { 0x1FF8, 0x1FF8 },             /* within pages */
		{ UINT64_C(0x16B3746018), UINT64_C(0x16B3746000) },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(of); i++)
		assert_true(lsn_end(of[i].insert) == of[i].end);
}

static const char path[] = "docs/asyncapi.yaml";

static void write_docs(struct str text)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_int_equal(fwrite(text.p, 1, text.n, f), text.n);
	assert_int_equal(fclose(f), 0);
}

static void the_published_messages_are_those_of_the_tables(void **state)
{
	struct buf now = BUF(1 << 20), then = BUF(1 << 20);
	struct str is, was;
	char part[4096];
	size_t n;
	FILE *f;

	(void)state;
	asyncapi_text(&now);
	assert_int_equal(buf_str(&now, &is), 0);
	if (getenv("WRITE_DOCS") != NULL)
		write_docs(is);
	f = fopen(path, "re");
	assert_non_null(f);
	while ((n = fread(part, 1, sizeof(part), f)) > 0)
		buf_add(&then, (struct str){ part, n });
	fclose(f);
	assert_int_equal(buf_str(&then, &was), 0);
	if (!str_eq(is, was))
		fail_msg("%s is not what the tables say: run `make docs`", path);
	buf_clear(&now);
	buf_clear(&then);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		TEST(every_kind_comes_back_as_it_was_sent),
		TEST(every_field_has_its_case),
		TEST(required_fields_are_required),
		TEST(unknown_fields_are_skipped),
		TEST(every_limit_is_exact),
		TEST(a_message_has_at_most_5000_characters),
		TEST(an_event_is_completed),
		TEST(an_event_must_agree_with_itself),
		TEST(every_message_type_of_the_contract_is_known),
		TEST(defaults_of_the_wire_are_those_of_the_contract),
		TEST(a_response_made_of_zeros_and_a_text_is_valid),
		TEST(headers_go_there_and_back),
		TEST(headers_that_say_nothing_are_left_out),
		TEST(every_kind_has_an_id_of_its_own),
		TEST(bad_headers_are_refused),
		TEST(a_message_without_a_type_is_none_of_ours),
		TEST(a_trace_that_is_none_is_forgotten),
		TEST(work_past_its_deadline_is_not_done),
		TEST(bodies_have_a_size_and_tombstones_none),
		TEST(each_mistake_has_its_reason),
		TEST(every_failing_allocation_is_no_bad_message),
		TEST(write_positions_are_written_as_postgresql_does),
		TEST(an_insert_position_behind_a_page_header_is_the_page),
		TEST(the_published_messages_are_those_of_the_tables),
	};

	return !!cmocka_run_group_tests(tests, NULL, NULL);
}

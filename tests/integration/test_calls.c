/* Commands called over HTTP: the router against a server that misbehaves as it is told.
 *
 * The path of a command's URL says what the server does with it; see serve(). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "arena.h"
#include "clock.h"
#include "crypto.h"
#include "err.h"
#include "ids.h"
#include "raw_server.h"
#include "stack.h"
#include "str.h"

enum { WAIT_MS = 15000, SEEN = 256, DRIP_MS = 20 };

struct seen { char path[64], id[40]; struct str text; };        /* a whole request; text by malloc */

static struct stack st;
static struct child *router;
static const char *const *env;
static struct service loop;
static struct raw_server server;
static struct timer tick;
static struct seen seen[SEEN];
static size_t n_seen;
static bool gate_open;
static int gate_now, gate_most;

static const char *const topics[] = { "waddle.events", "waddle.registry", "waddle.dlq", "waddle.responses.http",
                                      "waddle.responses.post", "waddle.outbound.twitch" };

/* --- the server ---------------------------------------------------------------------------- */

static size_t requests_to(const char *path)
{
	size_t n = 0;

	for (size_t i = 0; i < n_seen; i++)
		n += strcmp(seen[i].path, path) == 0;
	return n;
}

static struct seen *request_to(const char *path, size_t nth)
{
	for (size_t i = 0; i < n_seen; i++)
		if (strcmp(seen[i].path, path) == 0 && nth-- == 0)
			return &seen[i];
	fail_msg("no such request to %s", path);
	return NULL;
}

/* The value of a header of a request, in memory of the next call; "" without it. */
static const char *header_of(const struct seen *s, const char *name)
{
	static char value[1024];
	char wanted[80];
	const char *at;
	size_t n;

	(void)snprintf(wanted, sizeof wanted, "\r\n%s: ", name);
	at = strcasestr(s->text.p, wanted);
	if (at == NULL)
		return "";
	at += strlen(wanted);
	n = strcspn(at, "\r");
	(void)snprintf(value, sizeof value, "%.*s", (int)n, at);
	return value;
}

static struct str body_of(const struct seen *s)
{
	const char *at = strstr(s->text.p, "\r\n\r\n");

	return str_of(at + 4);
}

static void say(struct raw_conn *c, const char *status, const char *headers, const char *body)
{
	char *text = text_of("HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n\r\n%s", status, headers, strlen(body),
	                     body);

	raw_say(c, str_of(text));
	free(text);
}

static const char json[] = "Content-Type: application/json\r\n", plain[] = "Content-Type: text/plain\r\n";

static void serve(struct raw_server *srv, struct raw_conn *c)
{
	static const struct { const char *path, *status, *type, *body; } fixed[] = {
		{ "/text", "200 OK", plain, "from text" },
		{ "/get", "200 OK", plain, "from get" },
		{ "/json", "200 OK", json, "{\"response\":\"from json\"}" },
		{ "/refuses", "200 OK", json, "{\"message\":\"not today\",\"success\":false}" },
		{ "/data", "200 OK", json, "{\"rolled\":4}" },
		{ "/empty", "204 No Content", "", "" },
		{ "/redirect", "302 Found", "Location: /secret\r\n", "" },
		{ "/500", "500 Oops", plain, "oops" },
		{ "/badjson", "200 OK", json, "{\"response\":" },
		{ "/badutf8", "200 OK", plain, "\xff\xfe" },
		{ "/function-error", "200 OK", "X-Amz-Function-Error: Unhandled\r\n", "{\"errorMessage\":\"x\"}" },
		{ "/ns/actions/act", "202 Accepted", json, "{\"activationId\":\"0123abcd\"}" },
	};
	struct str last, rest, path, query;
	int n = raw_requests(c, &last);
	struct seen *s;

	(void)srv;
	if (n == c->answers)
		return;
	c->answers = n;
	ASSERT(n_seen < SEEN);
	s = &seen[n_seen++];
	s->text = (struct str){ text_of(STR_FMT, STR_ARG(last)), last.n };
	(void)str_cut(last, ' ', &rest);
	path = str_cut(str_cut(rest, ' ', &rest), '?', &query);
	(void)snprintf(s->path, sizeof s->path, STR_FMT, STR_ARG(path));
	(void)snprintf(s->id, sizeof s->id, "%s", header_of(s, "webhook-id"));

	for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
		if (strcmp(s->path, fixed[i].path) == 0) {
			say(c, fixed[i].status, fixed[i].type, fixed[i].body);
			return;
		}
	if (strcmp(s->path, "/flaky") == 0) {
		if (requests_to("/flaky") <= 2)
			raw_cut(c);
		else
			say(c, "200 OK", json, "{\"response\":\"third time\"}");
	} else if (strcmp(s->path, "/busy") == 0) {
		if (requests_to("/busy") == 1)
			say(c, "503 Busy", "Retry-After: 2\r\n", "");
		else
			say(c, "200 OK", json, "{\"response\":\"free now\"}");
	} else if (strcmp(s->path, "/half") == 0) {
		raw_say(c, STR("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"));
		raw_end(c);
	} else if (strcmp(s->path, "/big") == 0) {
		static char chunk[1 << 20];

		memset(chunk, 'x', sizeof chunk);
		raw_say(c, STR("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: "
		               "1073741824\r\n\r\n"));
		raw_say(c, (struct str){ chunk, sizeof chunk });
		raw_say(c, (struct str){ chunk, sizeof chunk });
	} else if (strcmp(s->path, "/drip") == 0) {
		raw_say(c,
		        STR("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\n"));
	} else if (strcmp(s->path, "/ns/activations/0123abcd/result") == 0) {
		if (requests_to(s->path) == 1)
			say(c, "404 Not Found", json, "{\"error\":\"not yet\"}");
		else
			say(c, "200 OK", json, "{\"result\":{\"response\":\"from whisk\"},\"success\":true}");
	} else if ((strcmp(s->path, "/killed") == 0 || strcmp(s->path, "/left") == 0) && gate_open) {
		say(c, "200 OK", json, "{\"response\":\"after all\"}");
	} else if (strcmp(s->path, "/gate") == 0) {
		gate_most = ++gate_now > gate_most ? gate_now : gate_most;
	}
	/* else silence: /hang, /killed, /open */
}

static void each_tick(void *arg)
{
	(void)arg;
	LIST_EACH(n, tmp, &server.conns) {
		struct raw_conn *c = CONTAINER_OF(n, struct raw_conn, node);

		if (c->answers > 0 && memmem(c->in.p, c->in.n, "/drip ", 6) != NULL)
			raw_say(c, STR("x"));
		else if (gate_open && c->answers > 0 && memmem(c->in.p, c->in.n, "/gate ", 6) != NULL) {
			gate_now--;
			buf_reset(&c->in);
			c->answers = 0;
			say(c, "200 OK", plain, "through the gate");
		}
	}
	timer_start(&loop, &tick, DRIP_MS, each_tick, NULL);
}

/* --- waiting while the server serves -------------------------------------------------------- */

struct wanted { const char *statement, *path; int64_t n; };

static bool has_come(void *arg)
{
	const struct wanted *w = arg;

	return w->path != NULL ? (int64_t)requests_to(w->path) >= w->n :
	                         sql_int(st.sql, "%s", w->statement) >= w->n;
}

static void wait_requests(const char *path, int64_t n)
{
	struct wanted w = { NULL, path, n };

	if (!service_run(&loop, has_come, &w, 2 * WAIT_MS))
		harness_fail("not %lld requests to %s but %zu", (long long)n, path, requests_to(path));
}

PRINTF(2, 3) static void wait_sql(int64_t n, const char *fmt, ...)
{
	char statement[1024];
	struct wanted w = { statement, NULL, n };
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(statement, sizeof statement, fmt, ap);
	va_end(ap);
	if (!service_run(&loop, has_come, &w, WAIT_MS)) {
		char *rows = sql_rows(
			st.sql,
			"SELECT command_id, status, response_status, retry_count, error_message, sent_at, "
			"lease_until FROM command_executions ORDER BY created_at DESC LIMIT 5");

		harness_fail("not in time: %s\n%s", statement, rows);
	}
}

struct outbound { const char *text; size_t n; };

static size_t heard(const char *text)
{
	struct probe_topic t;
	size_t n = 0;

	probe_read(st.kafka, stack_topic(&st, "waddle.outbound.twitch"), &t);
	for (size_t i = 0; i < t.n; i++)
		n += t.msgs[i].value != NULL && strstr(t.msgs[i].value, text) != NULL;
	probe_free(&t);
	return n;
}

static bool is_heard(void *arg)
{
	const struct outbound *o = arg;

	return heard(o->text) >= o->n;
}

static void wait_heard(const char *text, size_t n)
{
	struct outbound o = { text, n };

	if (!service_run(&loop, is_heard, &o, WAIT_MS))
		harness_fail("\"%s\" was not heard", text);
}

/* --- commands and events ------------------------------------------------------------------- */

/* A command #name that calls url, or the server's /path; its id. */
static int64_t command(const char *name, const char *type, const char *method, const char *url, int timeout_s)
{
	char *at = url[0] == '/' ? text_of("http://127.0.0.1:%d%s", server.port, url) : text_of("%s", url);
	int64_t id;

	sql_run(st.sql,
	        "INSERT INTO commands (command, prefix, location, location_url, type, method, timeout, "
	        "module_id, "
	        "headers) VALUES ('%s', '#', 'community', '%s', '%s', '%s', %d, 'post', "
	        "'{\"X-Own\":\"1\",\"Host\":\"evil\"}')",
	        name, at, type, method, timeout_s);
	id = sql_int(st.sql, "SELECT id FROM commands WHERE command = '%s'", name);
	sql_run(st.sql,
	        "INSERT INTO command_permissions (command_id, entity_id) SELECT %lld, entity_id FROM "
	        "entities "
	        "WHERE address = 'twitch:1001'",
	        (long long)id);
	free(at);
	return id;
}

static void seal_at(int64_t id, const char *column, const char *place_column, const char *secret)
{
	struct err err = { 0 };
	struct seal *s = crypto_seal_open_file(str_of(env_of("SEALING_KEY_FILE")), &err);
	struct arena *mem = arena_new(4096, 1 << 20);
	char *place = text_of("commands.%s:%lld", place_column, (long long)id), hex[1024];
	struct str sealed;

	assert_non_null(s);
	sealed = crypto_seal(s, str_of(place), str_of(secret), mem);
	assert_true(sealed.n > 0 && 2 * sealed.n < sizeof hex);
	crypto_hex(sealed.p, sealed.n, hex);
	sql_run(st.sql, "UPDATE commands SET %s = '\\x%s' WHERE id = %lld", column, hex, (long long)id);
	crypto_seal_close(s);
	arena_free(mem);
	free(place);
}

static void seal(int64_t id, const char *column, const char *secret) { seal_at(id, column, column, secret); }

/* Its event id; a text that lives on. */
static const char *say_in(const char *channel, const char *text)
{
	static char ids[64][48];
	static unsigned n;
	char *id = ids[n % 64], when[CLOCK_TEXT], uuid[ID_TEXT];
	struct timespec t;
	char *body;
	const char *const headers[] = { "ce_type: waddle.event.v1", "ce_specversion: 1.0", NULL };

	clock_gettime(CLOCK_REALTIME, &t);
	clock_text((int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000, when);
	id_random(uuid);
	(void)snprintf(id, sizeof ids[0], "twitch:%s", uuid);
	n++;
	body = text_of(
		"{\"event_id\":\"%s\",\"dedupe_key\":\"d:%s\",\"platform\":\"twitch\",\"channel_id\":\"%s\","
		"\"entity\":\"twitch:%s\",\"user\":{\"id\":\"7\",\"name\":\"seven\",\"roles\":[]},"
		"\"message_type\":\"chatMessage\",\"occurred_at\":\"%s\",\"received_at\":\"%s\","
		"\"metadata\":{\"message_id\":\"m-1\"},\"message_content\":\"%s\"}",
		id, id, channel, channel, when, when, text);
	probe_send(st.kafka, stack_topic(&st, "waddle.events"), -1, channel, body, strlen(body), headers);
	free(body);
	return id;
}

static const char *say_command(const char *text) { return say_in("1001", text); }

#define ROW(condition) "SELECT count(*) FROM command_executions WHERE event_id = '%s' AND " condition

static int up(void **state)
{
	static char port[48];
	static const char *const words[] = { "LOG_LEVEL=info", "OUTBOUND_ALLOW_HTTP=1", "OUTBOUND_ALLOW_CIDR=127.0.0.1/32",
	                                   "HTTP_PER_COMMUNITY=3", "HTTP_PER_HOST=5", "HTTP_TOTAL_MAX=60s",
	                                   "DRAIN_TIMEOUT_MS=4000", port, NULL };

	(void)state;
	stack_open(&st, "calls", STACK_SCHEMA);
	for (size_t i = 0; i < ARRAY_LEN(topics); i++)
		stack_topic_create(&st, topics[i], i == 1 ? 1 : 2);
	sql_run(st.sql,
	        "INSERT INTO communities (name, display_name) VALUES ('cats', 'Cats'), ('dogs', 'Dogs')");
	sql_run(st.sql,
	        "INSERT INTO servers (owner, platform, channel, config) VALUES ('o', 'twitch', '1001', "
	        "'{\"community_id\":2}'), ('o', 'twitch', '1002', '{\"community_id\":3}')");
	sql_run(st.sql, "INSERT INTO entities (address, platform, channel_id, owner, community_id) "
	                "VALUES ('twitch:1001', 'twitch', '1001', 'o', 2), "
	                "('twitch:1002', 'twitch', '1002', 'o', 3)");
	loop.name = "test";
	service_init(&loop);
	raw_server_open(&server, &loop, serve, NULL);
	(void)snprintf(port, sizeof port, "OUTBOUND_PORTS=%d", server.port);
	each_tick(NULL);
	env = words;
	router = stack_service(&st, "waddle-router", "waddle_router", env);
	child_wait_ready(router, true, 20000);
	return 0;
}

static int down(void **state)
{
	(void)state;
	assert_int_equal(child_end(router, WAIT_MS), 0);
	child_free(router);
	timer_stop(&tick);
	raw_server_close(&server);
	service_clear(&loop);
	for (size_t i = 0; i < n_seen; i++)
		free((char *)(uintptr_t)seen[i].text.p);
	stack_close(&st);
	return 0;
}

/* --- the tests ----------------------------------------------------------------------------- */

static void an_answer_in_text_or_json_is_chat_and_settles_the_row(void **state)
{
	const char *text, *answer, *refused, *data, *empty;

	(void)state;
	command("text", "webhook", "POST", "/text", 5);
	command("json", "lambda", "POST", "/json", 5);
	command("refuses", "webhook", "POST", "/refuses", 5);
	command("data", "webhook", "PUT", "/data", 5);
	command("empty", "webhook", "PATCH", "/empty", 5);
	text = say_command("#text a b");
	answer = say_command("#json");
	refused = say_command("#refuses");
	data = say_command("#data");
	empty = say_command("#empty");
	wait_sql(1,
	         ROW("status = 'success' AND response_status = 200 AND retry_count = 0 AND completed_at IS "
	             "NOT NULL"),
	         text);
	wait_sql(1, ROW("status = 'success' AND response_status = 200"), answer);
	wait_sql(1, ROW("status = 'failed' AND response_status = 422"), refused);
	wait_sql(1, ROW("status = 'success' AND response_data = '{\"rolled\":4}'"), data);
	wait_sql(1, ROW("status = 'success' AND response_data IS NULL"), empty);
	wait_heard("from text", 1);
	wait_heard("from json", 1);
	wait_heard("not today", 1);
	assert_int_equal(heard("rolled"), 0);
}

static void a_request_says_who_it_is_from_and_is_signed(void **state)
{
	const char *secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		   *old = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
	int64_t id = command("signed", "webhook", "POST", "/empty", 5);
	const struct seen *s;
	struct str body;
	const char *event;
	char *execution;
	unsigned char mac[CRYPTO_SHA256];
	char hex[2][80];

	(void)state;
	seal(id, "signing_secret", secret);
	seal_at(id, "previous_secret", "signing_secret", old);
	seal(id, "secret_headers", "{\"Authorization\":\"Bearer xyz\"}");
	sql_run(st.sql, "UPDATE commands SET previous_secret_until = now() + interval '1 h' WHERE id = %lld",
	        (long long)id);
	event = say_command("#signed one \\\"two three\\\"");
	wait_sql(1, ROW("status = 'success'"), event);
	execution =
		sql_text(st.sql, "SELECT execution_id FROM command_executions WHERE event_id = '%s'", event);
	s = request_to("/empty", requests_to("/empty") - 1);
	body = body_of(s);
	assert_true(str_starts(s->text, STR("POST /empty HTTP/1.1\r\n")));
	assert_string_equal(header_of(s, "User-Agent"), "WaddleBot-Router/1.0");
	assert_string_equal(header_of(s, "X-WaddleBot-Source"), "router");
	assert_string_equal(header_of(s, "X-WaddleBot-Type"), "community-interaction");
	assert_string_equal(header_of(s, "Content-Type"), "application/json");
	assert_string_equal(header_of(s, "X-Own"), "1");
	assert_string_equal(header_of(s, "Authorization"), "Bearer xyz");
	assert_true(str_starts(str_of(header_of(s, "Host")), STR("127.0.0.1")));        /* not the command's own */
	assert_int_equal(strlen(header_of(s, "traceparent")), 55);
	assert_string_equal(s->id, execution);
	assert_non_null(strstr(body.p, "\"parameters\": [\"one\", \"two three\"]"));
	assert_non_null(strstr(body.p, "\"context\": {"));
	assert_non_null(strstr(body.p, "\"message_id\": \"m-1\""));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(crypto_hmac(str_of(i == 0 ? secret : old), &body, 1, mac), 0);
		crypto_hex(mac, sizeof mac, hex[i]);
		assert_non_null(strstr(header_of(s, "X-WaddleBot-Signature"), hex[i]));
	}
	assert_non_null(strstr(header_of(s, "webhook-signature"), " v1,"));
	free(execution);
}

static void get_carries_the_command_in_its_query(void **state)
{
	const char *event;
	const struct seen *s;

	(void)state;
	command("get", "webhook", "GET", "/get?own=1", 5);
	event = say_command("#get a \\\"b c\\\"");
	wait_sql(1, ROW("status = 'success'"), event);
	s = request_to("/get", 0);
	assert_non_null(strstr(s->text.p, "?own=1&execution_id="));
	assert_non_null(strstr(
		s->text.p, "&command=get&param=a&param=b%20c&user_id=7&user_name=seven&entity=twitch%3A1001"
			   "&community_id=2"));
	assert_int_equal(body_of(s).n, 0);
}

/* router 18 */
static void a_lambda_that_drops_two_connections_is_asked_three_times_under_one_id(void **state)
{
	const char *event;

	(void)state;
	command("flaky", "lambda", "POST", "/flaky", 5);
	event = say_command("#flaky");
	wait_sql(1, ROW("status = 'success' AND retry_count = 2 AND response_status = 200"), event);
	assert_int_equal(requests_to("/flaky"), 3);
	assert_int_equal(strlen(request_to("/flaky", 0)->id), 36);
	for (size_t i = 1; i < 3; i++) {
		assert_string_equal(request_to("/flaky", i)->id, request_to("/flaky", 0)->id);
		assert_true(str_eq(body_of(request_to("/flaky", i)), body_of(request_to("/flaky", 0))));
	}
	wait_heard("third time", 1);
}

/* router 18 */
static void webhooks_and_plain_errors_are_not_repeated(void **state)
{
	const char *half, *oops, *function;

	(void)state;
	command("half", "webhook", "POST", "/half", 5);
	command("oops", "lambda", "POST", "/500", 5);
	command("function", "lambda", "POST", "/function-error", 5);
	half = say_command("#half");
	oops = say_command("#oops");
	function = say_command("#function");
	wait_sql(1, ROW("status = 'failed' AND response_status = 502 AND error_message LIKE 'unreachable%%'"),
	         half);
	wait_sql(1,
	         ROW("status = 'failed' AND response_status = 500 AND error_message = 'module_failed: HTTP "
	             "500'"),
	         oops);
	wait_sql(1, ROW("status = 'failed' AND error_message = 'module_failed: the function failed'"),
	         function);
	assert_int_equal(requests_to("/half"), 1);
	assert_int_equal(requests_to("/500"), 1);
	assert_int_equal(requests_to("/function-error"), 1);
	wait_heard("#half did not answer in time.", 1);
	wait_heard("#oops failed.", 1);
}

static void a_busy_lambda_says_when_to_come_again(void **state)
{
	const char *event;

	(void)state;
	command("busy", "lambda", "POST", "/busy", 5);
	event = say_command("#busy");
	wait_sql(1, ROW("status = 'success' AND retry_count = 1"), event);
	assert_int_equal(requests_to("/busy"), 2);
}

/* router 17 over HTTP; and a server that sends a byte now and then is no better than a silent one */
static void who_hangs_or_drips_has_until_the_timeout(void **state)
{
	const char *hang, *drip, *text;

	(void)state;
	command("hang", "webhook", "POST", "/hang", 1);
	command("drip", "webhook", "POST", "/drip", 1);
	hang = say_command("#hang");
	drip = say_command("#drip");
	text = say_command("#text");
	wait_sql(1, ROW("status = 'success'"), text);           /* not delayed */
	wait_sql(1, ROW("status = 'failed' AND response_status = 504 AND error_message = 'timeout'"), hang);
	wait_sql(1, ROW("status = 'failed' AND response_status = 504 AND error_message = 'timeout'"), drip);
	assert_int_equal(sql_int(st.sql, ROW("completed_at - sent_at >= interval '1 s'"), hang), 1);
	assert_int_equal(requests_to("/hang"), 1);
	wait_heard("#hang did not answer in time.", 1);
}

static void a_gigabyte_is_cut_off_at_the_first_megabyte(void **state)
{
	const char *event;
	int64_t before = child_rss_kib(router);

	(void)state;
	command("big", "webhook", "POST", "/big", 5);
	event = say_command("#big");
	wait_sql(1,
	         ROW("status = 'failed' AND response_status = 502 AND error_message LIKE 'bad_response%%'"),
	         event);
	assert_true(child_rss_kib(router) - before < 64 * 1024);
}

static void what_nobody_can_read_is_a_bad_response(void **state)
{
	const char *bad, *utf8;

	(void)state;
	command("badjson", "webhook", "POST", "/badjson", 5);
	command("badutf8", "webhook", "POST", "/badutf8", 5);
	bad = say_command("#badjson");
	utf8 = say_command("#badutf8");
	wait_sql(1, ROW("status = 'failed' AND error_message LIKE 'bad_response%%'"), bad);
	wait_sql(1, ROW("status = 'failed' AND error_message LIKE 'bad_response%%'"), utf8);
}

/* router 80 */
static void a_redirect_is_a_failure_and_leads_nowhere(void **state)
{
	const char *event;

	(void)state;
	command("redirect", "lambda", "POST", "/redirect", 5);
	event = say_command("#redirect");
	wait_sql(1,
	         ROW("status = 'failed' AND response_status = 302 AND error_message LIKE 'module_failed: "
	             "HTTP 302%%'"),
	         event);
	assert_int_equal(requests_to("/redirect"), 1);
	assert_int_equal(requests_to("/secret"), 0);
}

/* router 80; names and their addresses, rebinding: tests/unit/test_fetch_guard.c */
static void urls_that_lead_inside_are_refused_without_a_connection(void **state)
{
	static const struct { const char *host, *reason; } bad[] = {
		{ "127.0.0.2", "address" }, { "[::1]", "address" }, { "169.254.169.254", "address" },
		{ "0x7f.1", "host_number" }, { "2130706433", "host_number" }, { "127.1", "host_number" },
		{ "[2002:7f00:2::1]", "address" }, { "[64:ff9b::7f00:2]", "address" }, { "[::ffff:127.0.0.2]", "address" },
		{ "[2001:0:4136:e378::1]", "address" }, { "localhost", "host_name" }, { "db.internal", "host_name" },
	};
	int accepted = server.accepted;
	char name[16], text[24];
	const char *event[ARRAY_LEN(bad)];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		char *url = text_of("http://%s:%d/x", bad[i].host, server.port);

		(void)snprintf(name, sizeof name, "bad%zu", i);
		(void)snprintf(text, sizeof text, "#%s", name);
		command(name, "lambda", "POST", url, 5);
		event[i] = say_command(text);
		free(url);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		char *wanted = text_of("url_refused: %s", bad[i].reason);

		wait_sql(1,
		         ROW("status = 'failed' AND response_status = 403 AND retry_count = 0 AND "
		             "error_message = '%s'"),
		         event[i], wanted);
		free(wanted);
	}
	assert_int_equal(server.accepted, accepted);
	wait_heard("#bad0 failed.", 1);
	assert_int_equal(heard("127.0.0.2"), 0);
}

static void openwhisk_is_asked_for_the_result_of_an_activation(void **state)
{
	int64_t id = command("whisk", "openwhisk", "POST", "/ns/actions/act", 10);
	const char *event;

	(void)state;
	seal(id, "secret_headers", "{\"Authorization\":\"Basic dTpw\"}");
	event = say_command("#whisk");
	wait_sql(1, ROW("status = 'success'"), event);
	assert_non_null(strstr(request_to("/ns/actions/act", 0)->text.p, "?blocking=true&result=true"));
	assert_int_equal(requests_to("/ns/activations/0123abcd/result"), 2);
	assert_string_equal(header_of(request_to("/ns/activations/0123abcd/result", 1), "Authorization"),
	                    "Basic dTpw");
	wait_heard("from whisk", 1);
}

static void a_lambda_with_credentials_is_signed_for_aws(void **state)
{
	int64_t id = command("aws", "lambda", "POST", "/text?b=1", 5);
	const struct seen *s;
	const char *event;

	(void)state;
	seal(id, "secret_headers",
	     "{\"aws_access_key_id\":\"AKIDEXAMPLE\",\"aws_secret_access_key\":"
	     "\"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\",\"aws_region\":\"eu-central-1\"}");
	event = say_command("#aws");
	wait_sql(1, ROW("status = 'success'"), event);
	s = request_to("/text", requests_to("/text") - 1);
	assert_true(str_starts(str_of(header_of(s, "Authorization")),
	                       STR("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")));
	assert_non_null(strstr(header_of(s, "Authorization"), "/eu-central-1/lambda/aws4_request, "
	                                                      "SignedHeaders=host;x-amz-date, Signature="));
	assert_int_equal(strlen(header_of(s, "X-Amz-Date")), 16);
	assert_null(strstr(s->text.p, "wJalr"));
}

static void a_secret_that_does_not_open_signs_nothing_and_nothing_is_sent(void **state)
{
	int64_t id = command("sealed", "webhook", "POST", "/sealed", 5);
	const char *event;

	(void)state;
	sql_run(st.sql, "UPDATE commands SET signing_secret = '\\x0102' WHERE id = %lld", (long long)id);
	event = say_command("#sealed");
	wait_sql(1,
	         ROW("status = 'failed' AND error_message = 'module_failed: its headers or secrets cannot be "
	             "read'"),
	         event);
	assert_int_equal(requests_to("/sealed"), 0);
}

/* router 46: a module posts its answer while its own call is open */
static void a_module_may_answer_while_its_call_is_open(void **state)
{
	const char *const headers[] = { "ce_type: waddle.response.v1", "ce_specversion: 1.0", NULL };
	const char *event;
	char *execution, *session, *body;

	(void)state;
	command("open", "webhook", "POST", "/open", 2);
	event = say_command("#open");
	wait_requests("/open", 1);
	execution =
		sql_text(st.sql, "SELECT execution_id FROM command_executions WHERE event_id = '%s'", event);
	session = sql_text(st.sql, "SELECT session_id FROM command_executions WHERE event_id = '%s'", event);
	body = text_of("{\"execution_id\":\"%s\",\"session_id\":\"%s\",\"response_index\":0,\"final\":true,"
	               "\"module_name\":\"post\",\"success\":true,\"response_action\":\"chat\","
	               "\"chat_message\":\"posted meanwhile\"}",
	               execution, session);
	probe_send(st.kafka, stack_topic(&st, "waddle.responses.post"), -1, "2", body, strlen(body), headers);
	wait_sql(1, ROW("status = 'success' AND response_status = 200"), event);
	wait_heard("posted meanwhile", 1);
	/* its call then times out, which changes nothing */
	wait_sql(
		1,
		"SELECT 1 FROM command_executions WHERE event_id = '%s' AND sent_at < now() - interval '3 s'",
		event);
	assert_int_equal(sql_int(st.sql, ROW("status = 'success' AND error_message IS NULL"), event), 1);
	assert_int_equal(heard("#open did not answer"), 0);
	free(execution);
	free(session);
	free(body);
}

static void a_community_and_a_host_have_so_many_calls_at_a_time(void **state)
{
	(void)state;
	command("gate", "webhook", "POST", "/gate", 10);
	for (int i = 0; i < 7; i++)
		(void)say_command("#gate");
	wait_sql(7, "SELECT count(*) FROM command_executions e JOIN commands c ON c.id = e.command_id "
	            "WHERE c.command = 'gate'");
	wait_requests("/gate", 3);
	assert_int_equal(requests_to("/gate"), 3);
	/* another community has its own share, and the host one of all */
	sql_run(st.sql, "INSERT INTO command_permissions (command_id, entity_id) SELECT c.id, e.entity_id "
	                "FROM commands c, entities e WHERE c.command = 'gate' AND e.address = 'twitch:1002'");
	for (int i = 0; i < 3; i++)
		(void)say_in("1002", "#gate");
	wait_sql(10, "SELECT count(*) FROM command_executions e JOIN commands c ON c.id = e.command_id "
	             "WHERE c.command = 'gate'");
	wait_requests("/gate", 5);
	assert_int_equal(requests_to("/gate"), 5);
	gate_open = true;
	wait_sql(10, "SELECT count(*) FROM command_executions e JOIN commands c ON c.id = e.command_id "
	             "WHERE c.command = 'gate' AND e.status = 'success'");
	gate_open = false;
	assert_int_equal(requests_to("/gate"), 10);
	assert_int_equal(gate_most, 5);
	wait_heard("through the gate", 10);
}

static void an_address_that_fails_in_a_row_is_left_alone(void **state)
{
	const char *event = NULL;

	(void)state;
	command("dead", "webhook", "POST", "/half", 5);         /* the same address as #half: one failure so far */
	for (int i = 0; i < 5; i++) {
		event = say_command("#dead");
		wait_sql(1, ROW("status = 'failed' AND error_message LIKE 'unreachable%%'"), event);
	}
	assert_int_equal(requests_to("/half"), 5);
	assert_int_equal(
		sql_int(st.sql,
	                ROW("error_message = 'unreachable: it failed several times in a row and is left "
	                    "alone for a while'"),
	                event),
		1);
}

/* router.md 12: kill -9 of the caller */
static void a_call_whose_caller_is_killed_is_made_again_under_the_same_id(void **state)
{
	const char *event;

	(void)state;
	command("killed", "webhook", "POST", "/killed", 1);
	event = say_command("#killed");
	wait_requests("/killed", 1);
	child_kill(router);
	assert_int_equal(sql_int(st.sql, ROW("status = 'pending' AND lease_until > now()"), event), 1);
	gate_open = true;
	child_start(router);
	child_wait_ready(router, true, 20000);
	wait_requests("/killed", 2);
	wait_sql(1, ROW("status = 'success' AND response_status = 200"), event);
	wait_heard("after all", 1);
	assert_int_equal(requests_to("/killed"), 2);
	assert_string_equal(request_to("/killed", 0)->id, request_to("/killed", 1)->id);
	assert_int_equal(
		sql_int(st.sql, "SELECT count(*) FROM module_responses WHERE chat_message = 'after all'"), 1);
	assert_int_equal(heard("after all"), 1);
}

/* router 90, of what is called: given back in time, not waited for and not lost */
static void a_call_that_outlasts_the_drain_is_made_by_the_next_process(void **state)
{
	const char *event;

	(void)state;
	gate_open = false;
	command("left", "webhook", "POST", "/left", 20);
	event = say_command("#left");
	wait_requests("/left", 1);
	assert_int_equal(child_end(router, WAIT_MS), 0);
	assert_int_equal(sql_int(st.sql, ROW("status = 'pending' AND lease_until <= now()"), event), 1);
	gate_open = true;
	child_start(router);
	child_wait_ready(router, true, 20000);
	wait_sql(1, ROW("status = 'success' AND retry_count = 0"), event);
	assert_int_equal(requests_to("/left"), 2);
	assert_string_equal(request_to("/left", 0)->id, request_to("/left", 1)->id);
}

static void every_end_is_counted(void **state)
{
	char *admin = text_of("http://127.0.0.1:%d", child_port(router, "ADMIN_LISTEN"));

	(void)state;
	/* since the router was started again */
	assert_true(probe_metric(admin,
	                         "waddle_router_http_calls_total{type=\"webhook\",outcome=\"answered\"}") >=
	            1);
	assert_true(probe_metric(admin, "waddle_router_http_orphans_total") >= 1);
	assert_true(probe_metric(admin, "waddle_router_url_refused_total{reason=\"address\"}") >= 0);
	free(admin);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answer_in_text_or_json_is_chat_and_settles_the_row),
		cmocka_unit_test(a_request_says_who_it_is_from_and_is_signed),
		cmocka_unit_test(get_carries_the_command_in_its_query),
		cmocka_unit_test(a_lambda_that_drops_two_connections_is_asked_three_times_under_one_id),
		cmocka_unit_test(webhooks_and_plain_errors_are_not_repeated),
		cmocka_unit_test(a_busy_lambda_says_when_to_come_again),
		cmocka_unit_test(who_hangs_or_drips_has_until_the_timeout),
		cmocka_unit_test(a_gigabyte_is_cut_off_at_the_first_megabyte),
		cmocka_unit_test(what_nobody_can_read_is_a_bad_response),
		cmocka_unit_test(a_redirect_is_a_failure_and_leads_nowhere),
		cmocka_unit_test(urls_that_lead_inside_are_refused_without_a_connection),
		cmocka_unit_test(openwhisk_is_asked_for_the_result_of_an_activation),
		cmocka_unit_test(a_lambda_with_credentials_is_signed_for_aws),
		cmocka_unit_test(a_secret_that_does_not_open_signs_nothing_and_nothing_is_sent),
		cmocka_unit_test(a_module_may_answer_while_its_call_is_open),
		cmocka_unit_test(a_community_and_a_host_have_so_many_calls_at_a_time),
		cmocka_unit_test(an_address_that_fails_in_a_row_is_left_alone),
		cmocka_unit_test(a_call_whose_caller_is_killed_is_made_again_under_the_same_id),
		cmocka_unit_test(a_call_that_outlasts_the_drain_is_made_by_the_next_process),
		cmocka_unit_test(every_end_is_counted),
	};

	return !!cmocka_run_group_tests_name("calls", tests, up, down);
}

/* What becomes of a module's response: stored, shown, said, refused; the test plays the modules and
 * looks at what collectors and overlays would get. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ids.h"
#include "stack.h"
#include "str.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

static struct stack st;
static struct child *router, *other_router;
static char *admin, *interaction, *collector;

enum { WAIT_MS = 10000 };

static const char *const topics[] = {
	"waddle.registry", "waddle.events", "waddle.dlq", "waddle.overlay", "waddle.commands.echo", "waddle.responses.echo",
	"waddle.responses.other", "waddle.responses.collector-twitch", "waddle.outbound.twitch",
	"waddle.outbound.discord", "waddle.outbound.slack", "waddle.outbound.terminal",
};

/* Where commands come from; each in a community of its own, numbered from 2. */
static const struct place { const char *platform, *server, *channel, *address; } places[] = {
	{ "twitch", NULL, "1001", "twitch:1001" }, { "discord", "900", "1", "discord:900:1" },
	{ "twitch", NULL, "2002", "twitch:2002" }, { "kick", NULL, "77", "kick:77" },
	{ "slack", "T1", "C1", "slack:T1:C1" },
};
enum { TWITCH, DISCORD, TWITCH_TOO, KICK, SLACK };

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static char *time_text(int64_t unix_ms)
{
	time_t s = (time_t)(unix_ms / 1000);
	struct tm tm;

	gmtime_r(&s, &tm);
	return text_of("%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
	               tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(unix_ms % 1000));
}

static char *quoted(const char *text)
{
	return text != NULL ? text_of("\"%s\"", text) : text_of("null");
}

/* A command of user 7 that is running: what a response has to name. */
struct run { char id[80], execution[ID_TEXT], session[ID_TEXT]; int64_t created_ms; };

/* Of a time ago_ms in the past. */
static struct run run_at(const struct place *at, const char *command, int64_t ago_ms)
{
	static unsigned n;
	const char *const headers[] = { "ce_type: waddle.event.v1", "ce_specversion: 1.0", NULL };
	struct run r = { .created_ms = now_ms() - ago_ms };
	char *when = time_text(r.created_ms), *server = quoted(at->server), *text, *body;

	(void)snprintf(r.id, sizeof r.id, "%s:%u-%llx", at->platform, n++, (unsigned long long)rnd_next());
	body = text_of("{\"event_id\":\"%s\",\"platform\":\"%s\",\"server_id\":%s,\"channel_id\":\"%s\","
	               "\"entity\":\"%s\",\"user\":{\"id\":\"7\",\"name\":\"n7\",\"roles\":[\"member\"]},"
	               "\"message_type\":\"chatMessage\",\"occurred_at\":\"%s\",\"received_at\":\"%s\","
	               "\"metadata\":{\"message_id\":\"m-%s\"},\"reply_ref\":\"ref-%s\",\"message_content\":\"!%s\"}",
	               r.id, at->platform, server, at->channel, at->address, when, when, r.id, r.id, command);
	probe_send(st.kafka, stack_topic(&st, "waddle.events"), -1, at->address, body, strlen(body), headers);
	sql_wait_int(st.sql, 1, WAIT_MS, "SELECT count(*) FROM command_executions WHERE event_id = '%s'", r.id);
	text = sql_text(st.sql, "SELECT execution_id FROM command_executions WHERE event_id = '%s'", r.id);
	memcpy(r.execution, text, ID_TEXT);
	free(text);
	id_session(str_of(r.id), r.session);
	free(when);
	free(server);
	free(body);
	return r;
}

static struct run run_command(int place, const char *command, int64_t ago_ms)
{
	return run_at(&places[place], command, ago_ms);
}

/* `more` follows the fields every response has: ",\"final\":true,...". */
static char *response(const struct run *r, const char *session, int index, const char *action, const char *more)
{
	return text_of("{\"execution_id\":\"%s\",\"session_id\":\"%s\",\"response_index\":%d,"
	               "\"module_name\":\"echo\",\"success\":true,\"response_action\":\"%s\",\"processing_time_ms\":1%s}",
	               r->execution, session, index, action, more);
}

static void send_response(const struct run *r, const char *body)
{
	char *when = time_text(r->created_ms), *created = text_of("waddle-created: %s", when);
	const char *const headers[] = { "ce_type: waddle.response.v1", "ce_specversion: 1.0", created, NULL };

	probe_send(st.kafka, stack_topic(&st, "waddle.responses.echo"), -1, "twitch:1001", body, strlen(body), headers);
	free(when);
	free(created);
}

static void respond(const struct run *r, int index, const char *action, const char *more)
{
	char *body = response(r, r->session, index, action, more);

	send_response(r, body);
	free(body);
}

static void chat(const struct run *r, int index, bool final, const char *text)
{
	char *more = text_of(",\"final\":%s,\"chat_message\":\"%s\"", final ? "true" : "false", text);

	respond(r, index, "chat", more);
	free(more);
}

/* The one message that has `text` in it: its value, key in *ret_key unless NULL; free() both. */
static char *message_of(const char *topic, const char *text, char **ret_key)
{
	struct probe_topic t;
	char *value = NULL;

	stack_wait_mentions(&st, topic, text, 1, WAIT_MS);
	probe_read(st.kafka, stack_topic(&st, topic), &t);
	for (size_t i = 0; i < t.n; i++) {
		if (strstr(t.msgs[i].value, text) == NULL)
			continue;
		assert_null(value);
		value = text_of("%s", t.msgs[i].value);
		if (ret_key != NULL)
			*ret_key = text_of("%s", t.msgs[i].key);
	}
	probe_free(&t);
	assert_non_null(value);
	return value;
}

static void has(const char *value, const char *text)
{
	if (strstr(value, text) == NULL)
		harness_fail("no %s in %s", text, value);
}

static void has_not(const char *value, const char *text)
{
	if (strstr(value, text) != NULL)
		harness_fail("%s in %s", text, value);
}

/* Everything sent to the module's topic before this has had its effect, or never will: a command of
 * the same community is answered, and the answer is out. */
static void after_all(void)
{
	static int n;
	struct run r = run_command(TWITCH, "echo", 0);
	char *mark = text_of("mark-%d-", n++);

	chat(&r, 0, true, mark);
	stack_wait_mentions(&st, "waddle.outbound.twitch", mark, 1, WAIT_MS);
	free(mark);
}

static int64_t stored(const struct run *r, const char *where)
{
	return sql_int(st.sql, "SELECT count(*) FROM module_responses WHERE execution_id = '%s' AND %s", r->execution,
	               where);
}

/* A server that takes forms: keeps what it got, answers each the same. */
static struct { int fd, port; pthread_t thread; pthread_mutex_t lock; char got[8][4096]; int n; } form_server = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

static void *serve_forms(void *arg)
{
	static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
	                             "Content-Length: 28\r\n\r\n{\"response\":\"form received\"}";
	int c;

	(void)arg;
	while ((c = accept(form_server.fd, NULL, NULL)) >= 0) {
		char in[4096] = "";
		size_t n = 0;
		ssize_t r;
		const char *head, *length;

		while (n + 1 < sizeof in && (r = read(c, in + n, sizeof in - 1 - n)) > 0) {
			n += (size_t)r;
			in[n] = '\0';
			head = strstr(in, "\r\n\r\n");
			length = strcasestr(in, "content-length: ");
			if (head != NULL && n >= (size_t)(head + 4 - in) +
			    (length != NULL ? strtoul(length + strlen("content-length: "), NULL, 10) : 0))
				break;
		}
		pthread_mutex_lock(&form_server.lock);
		if (form_server.n < (int)ARRAY_LEN(form_server.got))
			memcpy(form_server.got[form_server.n++], in, sizeof in);
		pthread_mutex_unlock(&form_server.lock);
		(void)!write(c, answer, sizeof answer - 1);
		close(c);
	}
	return NULL;
}

static void form_server_open(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof at;

	form_server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(form_server.fd, (struct sockaddr *)&at, sizeof at), 0);
	assert_int_equal(listen(form_server.fd, 8), 0);
	assert_int_equal(getsockname(form_server.fd, (struct sockaddr *)&at, &n), 0);
	form_server.port = ntohs(at.sin_port);
	assert_int_equal(pthread_create(&form_server.thread, NULL, serve_forms, NULL), 0);
}

static void form_server_close(void)
{
	shutdown(form_server.fd, SHUT_RDWR);
	pthread_join(form_server.thread, NULL);
	close(form_server.fd);
}

static bool forms_came(void *arg)
{
	bool enough;

	pthread_mutex_lock(&form_server.lock);
	enough = form_server.n >= *(int *)arg;
	pthread_mutex_unlock(&form_server.lock);
	return enough;
}

static int up(void **state)
{
	const char *env[] = { "LOG_LEVEL=info", "SESSION_TTL=600s", "OUTBOUND_ALLOW_HTTP=1", "OUTBOUND_ALLOW_CIDR=127.0.0.0/8",
		NULL, NULL };
	static const char registry[] =
		"{\"name\":\"echo\",\"kind\":\"module\",\"version\":\"1.0\",\"instance\":\"i1\",\"status\":\"active\","
		"\"heartbeat_at\":\"%s\",\"commands\":[{\"command\":\"echo\",\"prefix\":\"!\",\"timeout\":60},"
		"{\"command\":\"slow\",\"prefix\":\"!\",\"timeout\":1}]}";
	const char *const headers[] = { "ce_type: waddle.registry.v1", "ce_specversion: 1.0", NULL };
	char *when = time_text(now_ms()), *body, *port;

	(void)state;
	form_server_open();
	port = text_of("OUTBOUND_PORTS=%d", form_server.port);
	env[4] = port;
	stack_open(&st, "responses", STACK_SCHEMA);
	for (size_t i = 0; i < ARRAY_LEN(topics); i++)
		stack_topic_create(&st, topics[i], i == 0 ? 1 : 4);
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		const struct place *p = &places[i];
		char *server = p->server != NULL ? text_of("'%s'", p->server) : text_of("NULL");

		sql_run(st.sql, "INSERT INTO communities (name, display_name) VALUES ('c%zu', 'C%zu')", i, i);
		sql_run(st.sql, "INSERT INTO servers (owner, platform, server_id, channel) VALUES ('o', '%s', %s, '%s')",
		        p->platform, server, p->channel);
		sql_run(st.sql,
		        "INSERT INTO entities (address, platform, server_id, channel_id, owner, community_id) "
		        "VALUES ('%s', '%s', %s, '%s', 'o', %zu)",
		        p->address, p->platform, server, p->channel, i + 2);
		free(server);
	}
	router = stack_service(&st, "waddle-router", "waddle_router", env);
	other_router = stack_service(&st, "waddle-router", "waddle_router", env);
	admin = stack_key(&st, "admin", "admin");
	interaction = stack_key(&st, "interaction", "interaction");
	collector = stack_key(&st, "collector", "collector");
	child_wait_ready(router, true, 20000);
	child_wait_ready(other_router, true, 20000);
	body = text_of(registry, when);
	probe_send(st.kafka, stack_topic(&st, "waddle.registry"), 0, "echo", body, strlen(body), headers);
	sql_wait_int(st.sql, 2, WAIT_MS, "SELECT count(*) FROM commands WHERE module_id = 'echo'");
	sql_run(st.sql, "INSERT INTO command_permissions (command_id, entity_id) SELECT c.id, e.entity_id "
	                "FROM commands c, entities e");
	free(when);
	free(body);
	free(port);
	return 0;
}

static int down(void **state)
{
	(void)state;
	assert_int_equal(child_end(router, WAIT_MS), 0);
	assert_int_equal(child_end(other_router, WAIT_MS), 0);
	child_free(router);
	child_free(other_router);
	free(admin);
	free(interaction);
	free(collector);
	stack_close(&st);
	form_server_close();
	return 0;
}

/* router 43, 44: nobody else's community, the defaults of section 15. */
static void media_ticker_and_general_become_overlay_items(void **state)
{
	struct run r = run_command(DISCORD, "echo", 0);
	char *item, *key, id[ID_TEXT], *wanted;

	(void)state;
	respond(&r, 0, "media",
	        ",\"final\":false,\"media_type\":\"music\",\"media_url\":\"https://example.org/song\","
	        "\"response_data\":{\"title\":\"Song of media\"}");
	respond(&r, 1, "ticker", ",\"final\":false,\"ticker_text\":\"plain ticker\"");
	respond(&r, 2, "ticker",
	        ",\"final\":false,\"ticker_text\":\"urgent ticker\",\"ticker_duration\":7,"
	        "\"response_data\":{\"priority\":\"high\"}");
	respond(&r, 3, "general", ",\"final\":false,\"content\":\"it stays\",\"content_type\":\"announcement\"");
	respond(&r, 4, "general", ",\"final\":false,\"content\":\"it goes\",\"duration\":9,\"style\":{\"theme\":\"dark\"}");
	respond(&r, 5, "media", ",\"final\":true");

	item = message_of("waddle.overlay", "Song of media", &key);
	id_overlay(str_of(r.execution), 0, id);
	wanted = text_of("\"item_id\":\"%s\"", id);
	has(item, wanted);
	has(item, "\"community_id\":3,\"source_type\":\"media\"");
	has(item, "\"media_url\": \"https://example.org/song\"");
	has(item, "\"mode\":\"state\"");
	has(item, r.session);
	assert_string_equal(key, "3");
	free(key);
	free(item);
	free(wanted);

	item = message_of("waddle.overlay", "plain ticker", NULL);
	has(item, "\"source_type\":\"ticker\"");
	has(item, "\"duration\":10");
	has(item, "\"mode\":\"once\"");
	has_not(item, "\"priority\":");         /* 5 is what an absent one means */
	free(item);
	item = message_of("waddle.overlay", "urgent ticker", NULL);
	has(item, "\"duration\":7");
	has(item, "\"priority\":1");
	free(item);
	item = message_of("waddle.overlay", "it stays", NULL);
	has(item, "\"source_type\":\"general\"");
	has(item, "\"mode\":\"state\"");
	has(item, "\"content_type\": \"announcement\"");
	free(item);
	item = message_of("waddle.overlay", "it goes", NULL);
	has(item, "\"mode\":\"once\"");
	has(item, "\"duration\":9");
	has(item, "\"theme\": \"dark\"");
	free(item);
	/* nothing in it takes the card down */
	id_overlay(str_of(r.execution), 5, id);
	item = message_of("waddle.overlay", id, NULL);
	has(item, "\"content\":{}");
	free(item);
	assert_int_equal(stored(&r, "ticker_duration = 10 AND response_index = 1"), 1);
	assert_int_equal(stored(&r, "content_type = 'announcement' AND duration = 0"), 1);
	assert_int_equal(stack_mentions(&st, "waddle.outbound.discord", r.execution), 0);
}

/* router 45, 86: by the execution, whatever key or topic the module chose. */
static void a_chat_response_goes_to_its_own_channel_only(void **state)
{
	struct run r = run_command(DISCORD, "echo", 0);
	char *out, *key, id[ID_TEXT], *wanted;

	(void)state;
	respond(&r, 0, "chat",
	        ",\"final\":true,\"chat_message\":\"only here\",\"entity\":\"twitch:2002\",\"entity_id\":3,\"community_id\":4");
	out = message_of("waddle.outbound.discord", "only here", &key);
	id_outbound(str_of(r.execution), 0, 0, id);
	wanted = text_of("\"message_id\":\"%s\"", id);
	has(out, wanted);
	has(out, "\"entity\":\"discord:900:1\",\"server_id\":\"900\",\"channel_id\":\"1\",\"user_id\":\"7\"");
	has(out, "\"reply_ref\":\"ref-");
	has(out, "\"expires_at\":");
	assert_string_equal(key, "1");
	assert_int_equal(stack_mentions(&st, "waddle.outbound.twitch", "only here"), 0);
	assert_int_equal(stack_mentions(&st, "waddle.overlay", r.execution), 0);
	free(out);
	free(key);
	free(wanted);
}

/* router 73: also when they come twice and in another order. */
static void responses_twice_and_out_of_order_are_kept_once(void **state)
{
	struct run r = run_command(TWITCH, "echo", 0);
	char first[ID_TEXT], second[ID_TEXT];

	(void)state;
	chat(&r, 1, true, "the second");
	chat(&r, 0, false, "the first");
	chat(&r, 1, true, "the second");
	id_outbound(str_of(r.execution), 0, 0, first);
	id_outbound(str_of(r.execution), 1, 0, second);
	stack_wait_mentions(&st, "waddle.outbound.twitch", first, 1, WAIT_MS);
	stack_wait_mentions(&st, "waddle.outbound.twitch", second, 2, WAIT_MS);
	assert_int_equal(stored(&r, "true"), 2);
	assert_int_equal(stored(&r, "late"), 0);
	sql_wait_int(st.sql, 1, WAIT_MS,
	             "SELECT count(*) FROM command_executions WHERE execution_id = '%s' AND status = 'success'",
	             r.execution);
}

/* section 15: same index again with other content is refused, the first stays. */
static void another_response_under_a_known_index_is_refused(void **state)
{
	struct run r = run_command(TWITCH, "echo", 0), q = run_command(TWITCH, "echo", 0);

	(void)state;
	chat(&r, 0, false, "the true one");
	respond(&q, 0, "ticker", ",\"final\":false,\"ticker_text\":\"true ticker\"");
	stack_wait_mentions(&st, "waddle.outbound.twitch", "the true one", 1, WAIT_MS);
	stack_wait_mentions(&st, "waddle.overlay", "true ticker", 1, WAIT_MS);
	chat(&r, 0, false, "the false one");
	respond(&q, 0, "ticker", ",\"final\":false,\"ticker_text\":\"false ticker\"");
	stack_wait_mentions(&st, "waddle.dlq", "the false one", 1, WAIT_MS);
	stack_wait_mentions(&st, "waddle.dlq", "false ticker", 1, WAIT_MS);
	after_all();
	assert_int_equal(stack_mentions(&st, "waddle.outbound.twitch", "the false one"), 0);
	assert_int_equal(stack_mentions(&st, "waddle.overlay", "false ticker"), 0);
	assert_int_equal(stored(&r, "chat_message = 'the true one'"), 1);
	assert_int_equal(stored(&r, "true"), 1);
}

/* router 74 */
static void twelve_hundred_characters_are_three_messages_in_order(void **state)
{
	struct run r = run_command(TWITCH, "echo", 0), d = run_command(DISCORD, "echo", 0);
	struct buf b = BUF(8192);
	struct str text;
	char *c;
	struct probe_topic t;
	int seen = 0;

	(void)state;
	for (int i = 0; i < 133; i++)
		buf_printf(&b, i % 10 == 9 ? "w\xC3\xBC%04d\\n" : "w\xC3\xBC%04d  ", i);
	assert_int_equal(buf_str(&b, &text), 0);
	c = text_of(STR_FMT, STR_ARG(text));
	chat(&r, 0, true, c);
	chat(&d, 0, true, c);
	stack_wait_mentions(&st, "waddle.outbound.twitch", "w\xC3\xBC" "0132", 1, WAIT_MS);
	probe_read(st.kafka, stack_topic(&st, "waddle.outbound.twitch"), &t);
	for (size_t i = 0; i < t.n; i++) {
		char id[ID_TEXT];
		const char *from = strstr(t.msgs[i].value, "\"text\":\"w\xC3\xBC"), *end;
		size_t points = 0;

		if (from == NULL)
			continue;
		id_outbound(str_of(r.execution), 0, seen, id);
		has(t.msgs[i].value, id);
		has_not(t.msgs[i].value, "\\n");
		from += strlen("\"text\":\"");
		end = strchr(from, '"');
		assert_true(end - from >= 7 && memcmp(end - 7, "w\xC3\xBC", 3) == 0);   /* a whole word */
		for (; from < end; from++)
			points += ((unsigned char)*from & 0xC0) != 0x80;
		assert_in_range(points, 1, 500);
		assert_string_equal(t.msgs[i].key, "1001");
		seen++;
	}
	assert_int_equal(seen, 3);
	probe_free(&t);
	/* one of Discord's holds it all */
	free(c);
	c = message_of("waddle.outbound.discord", "w\xC3\xBC" "0000", NULL);
	has(c, "w\xC3\xBC" "0132");
	free(c);
	buf_clear(&b);
}

#define FORM \
	",\"final\":true,\"form_title\":\"Order\",\"form_description\":\"What you want\",\"form_fields\":[" \
	"{\"name\":\"size\",\"type\":\"select\",\"label\":\"Size\",\"required\":true,\"options\":[\"S\",\"M\"]}," \
	"{\"name\":\"secret\",\"type\":\"hidden\",\"value\":\"x\"},{\"name\":\"why\",\"type\":\"text\"}]," \
	"\"form_submit_url\":\"https://example.org/order\""

/* router 47 (first half), 43 */
static void a_form_is_a_structure_where_there_are_forms_and_a_line_elsewhere(void **state)
{
	struct run d = run_command(DISCORD, "echo", 0), s = run_command(SLACK, "echo", 0),
		   t = run_command(TWITCH, "echo", 0);
	char *out, *custom;

	(void)state;
	respond(&d, 2, "form", FORM);
	respond(&s, 0, "form", FORM ",\"private\":true");
	respond(&t, 0, "form", FORM);
	custom = text_of("\"form\":{\"custom_id\":\"form:%s:2\",\"title\":\"Order\",\"description\":\"What you want\","
	                 "\"fields\":[{\"name\":\"size\",\"type\":\"select\",\"label\":\"Size\",\"required\":true,"
	                 "\"options\":[\"S\",\"M\"]}", d.execution);
	out = message_of("waddle.outbound.discord", d.execution, NULL);
	has(out, custom);
	has(out, "\"kind\":\"form\"");
	free(out);
	out = message_of("waddle.outbound.slack", s.execution, NULL);
	has(out, "\"private\":true");
	free(out);
	out = message_of("waddle.outbound.twitch", "Order: What you want", NULL);
	has(out, "\"text\":\"Order: What you want | 1. Size* (select: S, M) | 2. why (text) | "
	         "Answer: https://example.org/order\"");
	has(out, "\"kind\":\"chat\"");
	free(out);
	assert_int_equal(stack_mentions(&st, "waddle.overlay", d.session) + stack_mentions(&st, "waddle.overlay", t.session), 0);
	assert_int_equal(stored(&d, "form_submit_method = 'POST' AND jsonb_array_length(form_fields) = 3"), 1);
	free(custom);
}

/* router 85 */
static void what_is_private_is_shown_to_nobody_else(void **state)
{
	struct run r = run_command(DISCORD, "echo", 0);
	char *out;

	(void)state;
	respond(&r, 0, "ticker", ",\"final\":false,\"private\":true,\"ticker_text\":\"psst\"");
	respond(&r, 1, "general", ",\"final\":false,\"private\":true,\"content\":\"psst\"");
	respond(&r, 2, "chat", ",\"final\":true,\"private\":true,\"chat_message\":\"psst\"");
	out = message_of("waddle.outbound.discord", "psst", NULL);
	has(out, "\"private\":true");
	has(out, "\"user_id\":\"7\"");
	free(out);
	sql_wait_int(st.sql, 3, WAIT_MS, "SELECT count(*) FROM module_responses WHERE execution_id = '%s' AND private",
	             r.execution);
	after_all();
	assert_int_equal(stack_mentions(&st, "waddle.overlay", "psst"), 0);
	assert_int_equal(stack_mentions(&st, "waddle.outbound.twitch", "psst"), 0);
}

/* section 15 */
static void a_platform_without_a_collector_is_stored_only(void **state)
{
	struct run r = run_command(KICK, "echo", 0);

	(void)state;
	chat(&r, 0, true, "into the void");
	sql_wait_int(st.sql, 1, WAIT_MS,
	             "SELECT count(*) FROM command_executions WHERE execution_id = '%s' AND status = 'success'",
	             r.execution);
	assert_int_equal(stored(&r, "chat_message = 'into the void'"), 1);
	for (size_t i = 8; i < ARRAY_LEN(topics); i++)
		assert_int_equal(stack_mentions(&st, topics[i], "into the void"), 0);
}

/* router 71 */
static void a_response_after_the_time_out_is_late_and_delivered(void **state)
{
	struct run r = run_command(TWITCH, "slow", 0);

	(void)state;
	sql_wait_int(st.sql, 1, WAIT_MS,
	             "SELECT count(*) FROM command_executions WHERE execution_id = '%s' AND response_status = 504",
	             r.execution);
	chat(&r, 0, true, "late but here");
	stack_wait_mentions(&st, "waddle.outbound.twitch", "late but here", 1, WAIT_MS);
	assert_int_equal(stored(&r, "late"), 1);
	assert_int_equal(sql_int(st.sql,
	                         "SELECT count(*) FROM command_executions WHERE execution_id = '%s' "
	                         "AND status = 'failed' AND error_message = 'timeout' AND response_status = 504",
	                         r.execution),
	                 1);
}

static int64_t session_age_s(const struct run *r)
{
	return sql_int(st.sql, "SELECT extract(epoch FROM now() - last_activity)::bigint FROM sessions "
	               "WHERE session_id = '%s'", r->session);
}

/* router 41 */
static void a_session_is_renewed_once_a_minute(void **state)
{
	struct run r = run_command(TWITCH, "echo", 0), old = run_command(TWITCH, "echo", 300000);

	(void)state;
	assert_int_equal(sql_int(st.sql,
	                         "SELECT count(*) FROM sessions s JOIN entities e USING (entity_id) "
	                         "WHERE session_id = '%s' AND e.address = 'twitch:1001'",
	                         r.session),
	                 1);
	/* used just now: not written again */
	sql_run(st.sql, "UPDATE sessions SET last_activity = now() - interval '50 s' WHERE session_id = '%s'", old.session);
	chat(&old, 0, false, "soon after");
	stack_wait_mentions(&st, "waddle.outbound.twitch", "soon after", 1, WAIT_MS);
	assert_true(session_age_s(&old) >= 50);
	sql_run(st.sql, "UPDATE sessions SET last_activity = now() - interval '500 s' WHERE session_id = '%s'", old.session);
	chat(&old, 1, false, "much later");
	stack_wait_mentions(&st, "waddle.outbound.twitch", "much later", 1, WAIT_MS);
	assert_true(session_age_s(&old) < 50);
	sql_run(st.sql, "UPDATE sessions SET last_activity = now() - interval '601 s' WHERE session_id = '%s'", old.session);
	chat(&old, 2, true, "too late");
	stack_wait_mentions(&st, "waddle.dlq", "too late", 1, WAIT_MS);
	assert_int_equal(stack_mentions(&st, "waddle.outbound.twitch", "too late"), 0);
}

/* router 42, the Kafka side */
static void sessions_and_forms_that_are_not_right_are_dead_letters(void **state)
{
	struct run r = run_command(TWITCH, "echo", 0), of_others = run_command(TWITCH_TOO, "echo", 0),
		   same_place = run_command(TWITCH, "echo", 0);
	static const struct { const char *action, *more; } bad[] = {
		{ "form", ",\"final\":true,\"form_title\":\"bad-no-fields\"" },
		{ "form", ",\"final\":true,\"form_fields\":[{\"name\":\"bad-twice\",\"type\":\"text\"},"
		          "{\"name\":\"bad-twice\",\"type\":\"text\"}]" },
		{ "form", ",\"final\":true,\"form_fields\":[{\"name\":\"bad-choice\",\"type\":\"radio\"}]" },
		{ "media", ",\"final\":true,\"media_url\":\"ftp://bad-scheme.example.org\"" },
		{ "media", ",\"final\":true,\"media_url\":\"https://10.0.0.1/bad-address\"" },
		{ "dance", ",\"final\":true,\"chat_message\":\"bad-action\"" },
		{ "ticker", ",\"final\":true,\"ticker_text\":\"bad-duration\",\"ticker_duration\":301" },
	};
	static const char *const words[] = { "bad-no-fields", "bad-twice", "bad-choice", "bad-scheme", "bad-address",
		                             "bad-action", "bad-duration" };
	char *body = response(&r, of_others.session, 0, "chat", ",\"final\":true,\"chat_message\":\"stolen\"");

	(void)state;
	send_response(&r, body);
	free(body);
	stack_wait_mentions(&st, "waddle.dlq", "stolen", 1, WAIT_MS);
	body = response(&r, "11111111-1111-5111-8111-111111111111", 0, "chat", ",\"final\":true,\"chat_message\":\"made up\"");
	send_response(&r, body);
	free(body);
	stack_wait_mentions(&st, "waddle.dlq", "made up", 1, WAIT_MS);
	/* another session of the same place is as good */
	body = response(&r, same_place.session, 0, "chat", ",\"final\":false,\"chat_message\":\"of our own\"");
	send_response(&r, body);
	free(body);
	stack_wait_mentions(&st, "waddle.outbound.twitch", "of our own", 1, WAIT_MS);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		respond(&r, 1, bad[i].action, bad[i].more);
		stack_wait_mentions(&st, "waddle.dlq", words[i], 1, WAIT_MS);
	}
	after_all();
	assert_int_equal(stored(&r, "true"), 1);
	assert_int_equal(stack_mentions(&st, "waddle.outbound.twitch", "stolen"), 0);
}

/* What a collector says of message `part` of response `index`: status and what follows it. */
static void report(const struct run *r, int index, int part, const char *ref, const char *status)
{
	const char *const headers[] = { "ce_type: waddle.delivery.v1", "ce_specversion: 1.0", NULL };
	char id[ID_TEXT], *when = time_text(now_ms()), *body;

	id_outbound(str_of(r->execution), index, part, id);
	body = text_of("{\"message_id\":\"%s\",\"status\":\"%s,\"at\":\"%s\",\"report_ref\":\"%s\"}", id, status, when, ref);
	probe_send(st.kafka, stack_topic(&st, "waddle.responses.collector-twitch"), -1, "twitch:1001", body, strlen(body),
	           headers);
	free(when);
	free(body);
}

/* The report_ref of the message with this text. */
static char *ref_of(const char *text)
{
	char *out = message_of("waddle.outbound.twitch", text, NULL), *ref = strstr(out, "\"report_ref\":\""), *ret;

	assert_non_null(ref);
	ref += strlen("\"report_ref\":\"");
	*strchr(ref, '"') = '\0';
	ret = text_of("%s", ref);
	free(out);
	return ret;
}

/* router 84 (what explain reads) */
static void what_a_collector_reports_is_kept_with_the_response(void **state)
{
	struct run r = run_command(TWITCH, "echo", 0), q = run_command(TWITCH, "echo", 0);
	char *sent, *refused, *text;

	(void)state;
	chat(&r, 0, true, "will be sent");
	chat(&q, 0, true, "will be refused");
	sent = ref_of("will be sent");
	refused = ref_of("will be refused");
	report(&r, 1, 0, sent, "sent\"");       /* of another message than the reference says */
	report(&r, 0, 0, "", "sent\"");
	report(&q, 0, 0, refused, "refused\",\"error\":\"the bot is banned\"");
	sql_wait_int(st.sql, 1, WAIT_MS,
	             "SELECT count(*) FROM module_responses WHERE execution_id = '%s' AND delivered_at IS NULL "
	             "AND delivery_error = 'refused: the bot is banned'",
	             q.execution);
	assert_int_equal(stored(&r, "delivered_at IS NULL AND delivery_error IS NULL"), 1);
	report(&r, 0, 0, sent, "sent\"");
	report(&r, 0, 0, sent, "sent\"");
	sql_wait_int(st.sql, 1, WAIT_MS,
	             "SELECT count(*) FROM module_responses WHERE execution_id = '%s' AND delivered_at <= now() "
	             "AND delivery_error IS NULL",
	             r.execution);
	text = text_of("{\"message_id\":\"%s\",\"status\":\"lost\"}", r.execution);
	probe_send(st.kafka, stack_topic(&st, "waddle.responses.collector-twitch"), -1, "k", text, strlen(text),
	           (const char *const[]){ "ce_type: waddle.delivery.v1", "ce_specversion: 1.0", NULL });
	stack_wait_mentions(&st, "waddle.dlq", text, 1, WAIT_MS);
	free(text);
	free(sent);
	free(refused);
}

/* Forms that come back --------------------------------------------------------------------------- */

/* A user submits a form at this place; the event's id in id. */
static void submit(int place, const struct run *form, int index, const char *user, const char *values, char id[80])
{
	static unsigned n;
	const char *const headers[] = { "ce_type: waddle.event.v1", "ce_specversion: 1.0", NULL };
	const struct place *at = &places[place];
	char *when = time_text(now_ms()), *server = quoted(at->server), *body;

	(void)snprintf(id, 80, "%s:form-%u-%llx", at->platform, n++, (unsigned long long)rnd_next());
	body = text_of("{\"event_id\":\"%s\",\"platform\":\"%s\",\"server_id\":%s,\"channel_id\":\"%s\",\"entity\":\"%s\","
	               "\"user\":{\"id\":\"%s\",\"name\":\"n\",\"roles\":[\"member\"]},\"message_type\":\"modal_submit\","
	               "\"occurred_at\":\"%s\",\"received_at\":\"%s\",\"reply_ref\":\"modal\","
	               "\"metadata\":{\"custom_id\":\"form:%s:%d\",\"values\":%s}}",
	               id, at->platform, server, at->channel, at->address, user, when, when, form->execution, index, values);
	probe_send(st.kafka, stack_topic(&st, "waddle.events"), -1, at->address, body, strlen(body), headers);
	free(when);
	free(server);
	free(body);
}

static void wait_verdict(const char *event_id, const char *verdict)
{
	sql_wait_int(st.sql, 1, WAIT_MS, "SELECT count(*) FROM event_decisions WHERE event_id = '%s' AND verdict = '%s'", event_id,
	             verdict);
}

#define FIELDS \
	"\"form_fields\":[{\"name\":\"size\",\"type\":\"select\",\"label\":\"Size\",\"required\":true,\"options\":[\"S\",\"M\"]}," \
	"{\"name\":\"why\",\"type\":\"text\"}]"

/* section 15: without form_submit_url the module gets it; only what is whole, from where it belongs. */
static void a_submitted_form_reaches_its_module(void **state)
{
	struct run r = run_command(DISCORD, "echo", 0);
	char id[80], *command, *wanted;

	(void)state;
	respond(&r, 3, "form", ",\"final\":true,\"private\":true," FIELDS);
	stack_wait_mentions(&st, "waddle.outbound.discord", r.execution, 1, WAIT_MS);
	submit(DISCORD, &r, 3, "7", "{\"size\":\"\",\"why\":\"no size\"}", id);
	wait_verdict(id, "answered");
	command = message_of("waddle.outbound.discord", "Please fill in: Size.", NULL);
	has(command, "\"private\":true");
	has(command, "\"user_id\":\"7\"");
	free(command);
	submit(SLACK, &r, 3, "7", "{\"size\":\"S\",\"why\":\"elsewhere\"}", id);
	wait_verdict(id, "unknown_command");
	submit(DISCORD, &r, 3, "8", "{\"size\":\"S\",\"why\":\"somebody else\"}", id);
	wait_verdict(id, "unknown_command");
	submit(DISCORD, &r, 4, "7", "{\"size\":\"S\",\"why\":\"no such form\"}", id);
	wait_verdict(id, "unknown_command");
	assert_int_equal(stack_mentions(&st, "waddle.commands.echo", "\"form_submit\""), 0);
	submit(DISCORD, &r, 3, "7", "{\"size\":\"M\",\"why\":\"it is whole\"}", id);
	command = message_of("waddle.commands.echo", "it is whole", NULL);
	wanted = text_of("\"event_id\":\"%s\"", id);
	has(command, wanted);
	has(command, "\"trigger\":\"interaction\"");
	has(command, "\"command\":\"echo\",\"parameters\":[\"form_submit\",\"3\"]");
	has(command, "\"values\":{\"size\":\"M\",\"why\":\"it is whole\"}");
	free(command);
	free(wanted);
}

/* router 47 (second half) */
static void a_submitted_form_reaches_its_url_and_the_answer_its_channel(void **state)
{
	struct run r = run_command(DISCORD, "echo", 0);
	char id[80], session[ID_TEXT], *more, *wanted, *out;
	int two = 2;

	(void)state;
	more = text_of(",\"final\":true," FIELDS ",\"form_submit_url\":\"http://127.0.0.1:%d/take\","
	               "\"form_callback_url\":\"http://127.0.0.1:%d/back\"", form_server.port, form_server.port);
	respond(&r, 0, "form", more);
	stack_wait_mentions(&st, "waddle.outbound.discord", r.execution, 1, WAIT_MS);
	submit(DISCORD, &r, 0, "8", "{\"size\":\"M\"}", id);
	wait_verdict(id, "answered");
	wait_for("form and callback", forms_came, &two, WAIT_MS);
	has(form_server.got[0], "POST /take HTTP/1.1");
	id_session(str_of(id), session);
	wanted = text_of("webhook-id: %s", session);
	has(form_server.got[0], wanted);
	free(wanted);
	wanted = text_of("{\"session_id\":\"%s\",\"execution_id\":\"%s\",\"user\":{\"id\":\"8\"", r.session, r.execution);
	has(form_server.got[0], wanted);
	free(wanted);
	has(form_server.got[0], "\"values\":{\"size\":\"M\"}}");
	has(form_server.got[1], "POST /back HTTP/1.1");
	has(form_server.got[1], "\"status\":200,\"body\":\"{\\\"response\\\":\\\"form received\\\"}\"");
	out = message_of("waddle.outbound.discord", "form received", NULL);
	has(out, "\"entity\":\"discord:900:1\"");
	assert_int_equal(stored(&r, "response_index = 1 AND chat_message = 'form received'"), 1);
	free(out);
	free(more);
}

/* Over HTTP --------------------------------------------------------------------------------------- */

/* POST of a body; the status, the answer's text in *ret (free()) unless NULL. */
static int post(const char *body, char **ret)
{
	struct probe_answer a;
	int status = stack_ask(router, "POST", "/router/responses", interaction, body, &a);

	if (ret != NULL)
		*ret = text_of("%s", a.body);
	probe_answer_free(&a);
	return status;
}

static void posted(const char *body, int status, const char *text)
{
	char *answer;

	assert_int_equal(post(body, &answer), status);
	has(answer, text);
	free(answer);
}

/* What an answer has as response_id. */
static int64_t id_in(const char *answer)
{
	const char *at = strstr(answer, "\"response_id\":");

	assert_non_null(at);
	return strtoll(at + strlen("\"response_id\":"), NULL, 10);
}

/* router 42, 46 (second half): stored, sent, once. */
static void a_posted_response_is_stored_and_sent_once(void **state)
{
	struct run r = run_command(TWITCH, "echo", 0);
	char *body = response(&r, r.session, 0, "chat", ",\"final\":false,\"chat_message\":\"by post\""), *answer, *again, *path;
	struct probe_answer a;

	(void)state;
	assert_int_equal(post(body, &answer), 201);
	assert_int_equal(stack_mentions(&st, "waddle.outbound.twitch", "by post"), 1);     /* answered when it is out */
	assert_int_equal(stored(&r, "chat_message = 'by post' AND NOT final"), 1);
	assert_int_equal(post(body, &again), 200);
	assert_int_equal(id_in(answer), id_in(again));
	assert_int_equal(sql_int(st.sql, "SELECT id FROM module_responses WHERE execution_id = '%s'", r.execution), id_in(answer));
	free(answer);
	free(again);
	free(body);
	body = response(&r, r.session, 0, "chat", ",\"chat_message\":\"another\"");
	posted(body, 409, "another response 0");
	free(body);
	/* index and final by default */
	body = text_of("{\"execution_id\":\"%s\",\"session_id\":\"%s\",\"module_name\":\"echo\",\"success\":true,"
	               "\"response_action\":\"chat\",\"chat_message\":\"the next\"}", r.execution, r.session);
	posted(body, 201, "\"response_index\":1");
	free(body);
	assert_int_equal(stored(&r, "response_index = 1 AND final"), 1);
	path = text_of("/router/responses/%s", r.execution);
	assert_int_equal(stack_ask(router, "GET", path, collector, NULL, &a), 200);
	has(a.body, "\"status\":\"success\"");
	has(a.body, "\"total\":2");
	has(a.body, "by post");
	probe_answer_free(&a);
	assert_int_equal(stack_ask(router, "POST", "/router/responses", collector, "{}", NULL), 403);
	free(path);
}

/* router 42 */
static void a_posted_response_is_checked_in_order(void **state)
{
	struct run r = run_command(TWITCH, "echo", 0), other = run_command(TWITCH_TOO, "echo", 0),
		   old = run_command(TWITCH, "echo", 700000);
	struct run none = r;
	char *body;
	static const char *const bad[] = { "{}", "{\"execution_id\":1}", "[", "" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(post(bad[i], NULL), 400);
	body = text_of("{\"execution_id\":\"%s\",\"module_name\":\"echo\",\"success\":true,\"response_action\":\"chat\"}", r.execution);
	posted(body, 400, "session_id");
	free(body);
	body = response(&r, r.session, 0, "dance", "");
	posted(body, 400, "response_action");
	free(body);
	body = response(&r, r.session, 0, "media", ",\"media_url\":\"https://10.0.0.1/\"");
	posted(body, 400, "media_url");
	free(body);
	memcpy(none.execution, "11111111-1111-5111-8111-111111111111", ID_TEXT);
	body = response(&none, r.session, 0, "chat", "");
	posted(body, 404, "no execution");
	free(body);
	body = response(&r, "11111111-1111-5111-8111-111111111111", 0, "chat", "");
	posted(body, 404, "no session");
	free(body);
	sql_run(st.sql, "UPDATE sessions SET last_activity = now() - interval '601 s' WHERE session_id = '%s'", old.session);
	body = response(&old, old.session, 0, "chat", "");
	posted(body, 404, "has expired");
	free(body);
	body = response(&r, other.session, 0, "chat", "");
	posted(body, 403, "another entity");
	free(body);
	body = text_of("{\"execution_id\":\"%s\",\"session_id\":\"%s\",\"module_name\":\"other\",\"success\":true,"
	               "\"response_action\":\"chat\",\"chat_message\":\"as another\"}", r.execution, r.session);
	posted(body, 403, "belongs to echo");
	free(body);
	assert_int_equal(stored(&r, "true"), 0);
	assert_int_equal(stack_ask(router, "GET", "/router/responses/not-an-id", admin, NULL, NULL), 400);
	assert_int_equal(stack_ask(router, "GET", "/router/responses/11111111-1111-5111-8111-111111111111", admin, NULL, NULL), 404);
}

struct waiter { char *path; int status; struct probe_answer answer; };

static void *wait_there(void *arg)
{
	struct waiter *w = arg;

	w->status = stack_ask(router, "GET", w->path, admin, NULL, &w->answer);
	return NULL;
}

/* section 15: held until the final response, whichever replica stores it. */
static void a_reader_waits_for_the_final_response(void **state)
{
	struct run r = run_command(TWITCH, "echo", 0);
	struct waiter w = { .path = text_of("/router/responses/%s?wait_ms=10000", r.execution) };
	char *now = text_of("/router/responses/%s", r.execution);
	struct probe_answer a;
	pthread_t t;

	(void)state;
	chat(&r, 0, false, "not yet");
	stack_wait_mentions(&st, "waddle.outbound.twitch", "not yet", 1, WAIT_MS);
	assert_int_equal(stack_ask(other_router, "GET", now, admin, NULL, &a), 200);
	has(a.body, "\"status\":\"pending\"");
	probe_answer_free(&a);
	assert_int_equal(pthread_create(&t, NULL, wait_there, &w), 0);
	chat(&r, 1, true, "there it is");
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(w.status, 200);
	has(w.answer.body, "\"status\":\"success\"");
	has(w.answer.body, "there it is");
	assert_true(w.answer.took_us < 10 * 1000 * 1000);
	probe_answer_free(&w.answer);
	free(w.path);
	free(now);
	assert_int_equal(stack_ask(router, "GET", "/router/responses/x?wait_ms=10001", admin, NULL, NULL), 400);
}

/* router 46 */
static void recent_shows_the_newest_that_fit(void **state)
{
	struct run a = run_command(TWITCH, "echo", 0), b = run_command(DISCORD, "echo", 0), c = run_command(DISCORD, "echo", 0);
	char long_text[300], *more;
	struct probe_answer answer;

	(void)state;
	memset(long_text, 'L', sizeof long_text - 1);
	long_text[sizeof long_text - 1] = '\0';
	more = text_of(",\"final\":true,\"ticker_text\":\"%s\"", long_text);
	chat(&a, 0, true, long_text);
	respond(&c, 0, "ticker", more);
	chat(&b, 0, true, "older than c");
	sql_wait_int(st.sql, 3, WAIT_MS, "SELECT count(*) FROM module_responses WHERE execution_id IN ('%s', '%s', '%s')",
	             a.execution, b.execution, c.execution);
	sql_run(st.sql, "UPDATE module_responses SET success = false WHERE execution_id IN ('%s', '%s')", a.execution, b.execution);
	stack_wait_replay(&st, WAIT_MS);
	assert_int_equal(stack_ask(router, "GET", "/router/responses/recent?limit=1", admin, NULL, &answer), 200);
	has(answer.body, c.execution);
	has(answer.body, "\"total\":1");
	assert_null(strstr(answer.body, "LLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLL"));      /* 51 */
	probe_answer_free(&answer);
	assert_int_equal(stack_ask(router, "GET", "/router/responses/recent?limit=1&module_name=echo&success=false", interaction,
	                           NULL, &answer), 200);
	has(answer.body, b.execution);
	probe_answer_free(&answer);
	assert_int_equal(stack_ask(router, "GET", "/router/responses/recent?limit=1&entity_id=1&response_action=chat&success=false",
	                           collector, NULL, &answer), 200);
	has(answer.body, a.execution);
	probe_answer_free(&answer);
	assert_int_equal(stack_ask(router, "GET", "/router/responses/recent?module_name=nobody", admin, NULL, &answer), 200);
	has(answer.body, "\"responses\":[]");
	probe_answer_free(&answer);
	assert_int_equal(stack_ask(router, "GET", "/router/responses/recent?limit=101", admin, NULL, NULL), 400);
	free(more);
}

static bool both_have_partitions(void *arg)
{
	struct child *const *of = arg;

	for (int i = 0; i < 2; i++) {
		char *url = text_of("http://127.0.0.1:%d", child_port(of[i], "ADMIN_LISTEN"));
		double n = probe_metric(url, "waddle_router_partitions_owned");

		free(url);
		if (n < 1)
			return false;
	}
	return true;
}

/* router 67 (between replicas): what a module wrote is told with the next command, whoever sends it. */
static void a_position_reaches_the_commands_of_all_replicas(void **state)
{
	static const char *const channels[] = { "1001", "3001", "3002", "3003", "3004", "3005", "3006", "3007", "3008" };
	const char *const headers[] = { "ce_type: waddle.response.v1", "ce_specversion: 1.0", "waddle-lsn: 7F/1", NULL };
	struct child *const both[] = { router, other_router };
	struct run r = run_command(TWITCH, "echo", 0);
	char *body = response(&r, r.session, 0, "chat", ",\"final\":true,\"chat_message\":\"I wrote\"");
	struct probe_topic t;
	size_t told = 0;

	(void)state;
	wait_for("both replicas have partitions", both_have_partitions, (void *)(uintptr_t)both, WAIT_MS);
	probe_send(st.kafka, stack_topic(&st, "waddle.responses.echo"), -1, "twitch:1001", body, strlen(body), headers);
	free(body);
	stack_wait_mentions(&st, "waddle.outbound.twitch", "I wrote", 1, WAIT_MS);
	for (size_t i = 0; i < ARRAY_LEN(channels); i++) {
		char *address = text_of("twitch:%s", channels[i]);

		if (i > 0) {
			sql_run(st.sql, "INSERT INTO servers (owner, platform, channel) VALUES ('o', 'twitch', '%s')", channels[i]);
			sql_run(st.sql, "INSERT INTO entities (address, platform, channel_id, owner, community_id) "
			                "VALUES ('%s', 'twitch', '%s', 'o', 2)", address, channels[i]);
			sql_run(st.sql, "INSERT INTO command_permissions (command_id, entity_id) SELECT c.id, e.entity_id "
			                "FROM commands c, entities e WHERE e.address = '%s'", address);
		}
		r = run_at(&(struct place){ "twitch", NULL, channels[i], address }, "echo", 0);
		stack_wait_mentions(&st, "waddle.commands.echo", r.execution, 1, WAIT_MS);
		probe_read(st.kafka, stack_topic(&st, "waddle.commands.echo"), &t);
		for (size_t m = 0; m < t.n; m++) {
			const char *lsn = probe_header(&t.msgs[m], "waddle-lsn");

			if (strstr(t.msgs[m].value, r.execution) != NULL)
				told += lsn != NULL && strcmp(lsn, "7F/1") == 0;
		}
		probe_free(&t);
		free(address);
	}
	assert_int_equal(told, ARRAY_LEN(channels));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(media_ticker_and_general_become_overlay_items),
		cmocka_unit_test(a_chat_response_goes_to_its_own_channel_only),
		cmocka_unit_test(responses_twice_and_out_of_order_are_kept_once),
		cmocka_unit_test(another_response_under_a_known_index_is_refused),
		cmocka_unit_test(twelve_hundred_characters_are_three_messages_in_order),
		cmocka_unit_test(a_form_is_a_structure_where_there_are_forms_and_a_line_elsewhere),
		cmocka_unit_test(what_is_private_is_shown_to_nobody_else),
		cmocka_unit_test(a_platform_without_a_collector_is_stored_only),
		cmocka_unit_test(a_response_after_the_time_out_is_late_and_delivered),
		cmocka_unit_test(a_session_is_renewed_once_a_minute),
		cmocka_unit_test(what_a_collector_reports_is_kept_with_the_response),
		cmocka_unit_test(a_submitted_form_reaches_its_module),
		cmocka_unit_test(a_submitted_form_reaches_its_url_and_the_answer_its_channel),
		cmocka_unit_test(a_posted_response_is_stored_and_sent_once),
		cmocka_unit_test(a_posted_response_is_checked_in_order),
		cmocka_unit_test(a_reader_waits_for_the_final_response),
		cmocka_unit_test(recent_shows_the_newest_that_fit),
		cmocka_unit_test(a_position_reaches_the_commands_of_all_replicas),
		cmocka_unit_test(sessions_and_forms_that_are_not_right_are_dead_letters),
	};

	return !!cmocka_run_group_tests_name("responses", tests, up, down);
}

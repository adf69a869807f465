/* String rules in a running router: made over HTTP, met by chat, seen on the topics.
 * router.md 14, scenarios 30, 33-37, 77-79. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "clock.h"
#include "crypto.h"
#include "ids.h"
#include "raw_server.h"
#include "stack.h"
#include "str.h"

#include <time.h>

static struct stack st;
static struct child *router;
static char *admin;
static int64_t here, there;             /* entities twitch:1001 and twitch:1002 */

enum { WAIT_MS = 20000 };

static const char *const topics[] = {
	"waddle.events", "waddle.registry", "waddle.dlq", "waddle.commands.echo", "waddle.responses.echo",
	"waddle.outbound.twitch", "waddle.outbound.discord",
};

static char *now_text(void)
{
	struct timespec t;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &t);
	gmtime_r(&t.tv_sec, &tm);
	return text_of("%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
	               tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(t.tv_nsec / 1000000));
}

/* --- chat ---------------------------------------------------------------------------------- */

struct say { const char *id, *text, *channel, *type, *roles, *when, *server, *user; };

static void say_as(struct say e)
{
	const char *const headers[] = { "ce_type: waddle.event.v1", "ce_specversion: 1.0", NULL };
	const char *channel = e.channel != NULL ? e.channel : "1001";
	char *when = e.when != NULL ? text_of("%s", e.when) : now_text();
	char *key = e.server != NULL ? text_of("discord:%s:%s", e.server, channel) : text_of("twitch:%s", channel);
	struct buf b = BUF(1 << 20);
	struct str body;

	buf_printf(&b,
	           "{\"event_id\":\"%s\",\"dedupe_key\":\"d:%s\",\"platform\":\"%s\",\"server_id\":%s%s%s,"
	           "\"channel_id\":\"%s\",\"entity\":\"%s\",\"user\":{\"id\":\"%s\",\"name\":\"ann\",\"roles\":[%s]},"
	           "\"message_type\":\"%s\",\"occurred_at\":\"%s\",\"received_at\":\"%s\","
	           "\"metadata\":{\"message_id\":\"m-%s\"},\"reply_ref\":\"ref\",\"message_content\":",
	           e.id, e.id, e.server != NULL ? "discord" : "twitch", e.server != NULL ? "\"" : "",
	           e.server != NULL ? e.server : "null", e.server != NULL ? "\"" : "", channel, key,
	           e.user != NULL ? e.user : "7", e.roles != NULL ? e.roles : "\"member\"",
	           e.type != NULL ? e.type : "chatMessage", when, when, e.id);
	buf_json(&b, str_of(e.text));
	buf_add(&b, STR("}"));
	assert_int_equal(buf_str(&b, &body), 0);
	probe_send(st.kafka, stack_topic(&st, "waddle.events"), -1, key, body.p, body.n, headers);
	buf_clear(&b);
	free(key);
	free(when);
}

static const char *new_id(const char *word)
{
	static char name[16][64];
	static unsigned at;

	at = (at + 1) % 16;
	(void)snprintf(name[at], sizeof name[at], "twitch:%s-%llx", word, (unsigned long long)rnd_next());
	return name[at];
}

/* What was decided about an event; free(). */
static char *verdict_of(const char *id)
{
	sql_wait_at_least(st.sql, 1, WAIT_MS, "SELECT count(*) FROM event_decisions WHERE event_id = '%s'", id);
	return sql_text(st.sql, "SELECT verdict || ' ' || coalesce(rule_id, 0) FROM event_decisions WHERE event_id = '%s'",
	                id);
}

static void decided(const char *id, const char *verdict, int64_t rule)
{
	char *got = verdict_of(id), *want = text_of("%s %lld", verdict, (long long)rule);

	if (strcmp(got, want) != 0)
		fail_msg("%s: %s, not %s", id, got, want);
	free(got);
	free(want);
}

/* Events of a channel are judged in order: once a command that came later is decided, whatever was
 * said before has been.  Nothing was decided about id. */
static void plain(const char *id, const char *channel)
{
	const char *last = new_id("fence");
	char *got;

	say_as((struct say){ .id = last, .text = "!nosuchcommand", .channel = channel });
	got = verdict_of(last);
	free(got);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM event_decisions WHERE event_id = '%s'", id), 0);
}

/* --- rules --------------------------------------------------------------------------------- */

static char *ask(const char *method, const char *path, const char *body, int status)
{
	struct probe_answer a;
	int got = stack_ask(router, method, path, admin, body, &a);
	char *ret;

	if (got != status)
		fail_msg("%s %s %s: %d %s", method, path, body != NULL ? body : "", got, a.body);
	ret = text_of("%s", a.body != NULL ? a.body : "");
	probe_answer_free(&a);
	return ret;
}

static int64_t number_in(const char *json, const char *key)
{
	char *quoted = text_of("\"%s\":", key);
	const char *at = strstr(json, quoted);
	int64_t v;

	if (at == NULL)
		fail_msg("no %s in %s", key, json);
	v = strtoll(at + strlen(quoted), NULL, 10);
	free(quoted);
	return v;
}

struct until { const char *text, *channel, *server, *type; const char *verdict; int64_t rule; };

/* A change is seen within a moment, which is no fixed time: said again until it acts. */
static bool acts(void *arg)
{
	const struct until *u = arg;
	const char *id = new_id("until"), *last = new_id("fence");
	char *got = NULL, *want = text_of("%s %lld", u->verdict, (long long)u->rule);
	bool is;

	say_as((struct say){ .id = id, .text = u->text, .channel = u->channel, .server = u->server });
	say_as((struct say){ .id = last, .text = "!nosuchcommand", .channel = u->channel, .server = u->server });
	free(verdict_of(last));
	got = sql_text(st.sql, "SELECT verdict || ' ' || coalesce(rule_id, 0) FROM event_decisions WHERE event_id = '%s'", id);
	is = u->rule == 0 ? got == NULL : got != NULL && strcmp(got, want) == 0;
	free(got);
	free(want);
	return is;
}

static int64_t make(const char *fmt, ...) PRINTF(1, 2);
static int64_t make(const char *fmt, ...)
{
	char body[4096], *answer;
	int64_t id;
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(body, sizeof body, fmt, ap);
	va_end(ap);
	answer = ask("POST", "/router/string-rules", body, 201);
	id = number_in(answer, "id");
	free(answer);
	return id;
}

static void end_rule(int64_t id)
{
	char *path = text_of("/router/string-rules/%lld", (long long)id);

	free(ask("DELETE", path, NULL, 204));
	free(path);
}

/* --- a webhook's receiver: fails once, then is content ------------------------------------- */

static struct service loop;
static struct raw_server receiver;
static struct timer tick;
static char *request[8];
static size_t n_requests;

static void each_tick(void *arg)
{
	timer_start(&loop, &tick, 20, each_tick, arg);
}

static void serve(struct raw_server *srv, struct raw_conn *c)
{
	struct str last;
	int n = raw_requests(c, &last);

	(void)srv;
	if (n == c->answers || n_requests == ARRAY_LEN(request))
		return;
	c->answers = n;
	request[n_requests++] = text_of(STR_FMT, STR_ARG(last));
	raw_say(c, n_requests == 1 ? STR("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n") :
	                             STR("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
}

static bool called(void *arg)
{
	return n_requests >= *(const size_t *)arg;
}

static void wait_called(size_t n)
{
	assert_true(service_run(&loop, called, &n, WAIT_MS));
}

/* A header's value in a request; the next call's memory. */
static const char *header_of(const char *text, const char *name)
{
	static char value[512];
	char wanted[64];
	const char *at;

	(void)snprintf(wanted, sizeof wanted, "\r\n%s: ", name);
	at = strcasestr(text, wanted);
	if (at == NULL)
		return "";
	at += strlen(wanted);
	(void)snprintf(value, sizeof value, "%.*s", (int)strcspn(at, "\r"), at);
	return value;
}

static int none(void **state)
{
	(void)state;
	sql_run(st.sql, "UPDATE stringmatch SET is_active = false WHERE is_active");
	return 0;
}

static int up(void **state)
{
	const char *const headers[] = { "ce_type: waddle.registry.v1", "ce_specversion: 1.0", NULL };
	static char port[48];
	static const char *const env[] = { "OUTBOUND_ALLOW_HTTP=1", "OUTBOUND_ALLOW_CIDR=127.0.0.1/32", port, NULL };
	char *when, *body;

	(void)state;
	stack_open(&st, "rules", STACK_SCHEMA);
	for (size_t i = 0; i < ARRAY_LEN(topics); i++)
		stack_topic_create(&st, topics[i], i == 1 ? 1 : 2);
	sql_run(st.sql, "INSERT INTO communities (name, display_name) VALUES ('cats', 'Cats')");
	sql_run(st.sql, "INSERT INTO servers (owner, platform, channel) VALUES ('o', 'twitch', '1001'), "
	                "('o', 'twitch', '1002')");
	sql_run(st.sql, "INSERT INTO servers (owner, platform, server_id) VALUES ('o', 'discord', '55')");
	sql_run(st.sql, "INSERT INTO entities (address, platform, channel_id, owner) VALUES "
	                "('twitch:1001', 'twitch', '1001', 'o'), ('twitch:1002', 'twitch', '1002', 'o')");
	sql_run(st.sql, "INSERT INTO entities (address, platform, server_id, channel_id, owner, config) VALUES "
	                "('discord:55:', 'discord', '55', NULL, 'o', '{}'), "
	                "('discord:55:66', 'discord', '55', '66', 'o', '{\"mod_channel\":\"99\"}')");
	here = sql_int(st.sql, "SELECT entity_id FROM entities WHERE address = 'twitch:1001'");
	there = sql_int(st.sql, "SELECT entity_id FROM entities WHERE address = 'twitch:1002'");
	sql_run(st.sql, "UPDATE entities SET community_id = 2");
	loop.name = "test";
	service_init(&loop);
	raw_server_open(&receiver, &loop, serve, NULL);
	each_tick(NULL);
	(void)snprintf(port, sizeof port, "OUTBOUND_PORTS=%d", receiver.port);
	router = stack_service(&st, "waddle-router", "waddle_router", env);
	admin = stack_key(&st, "admin", "admin");
	sql_run(st.sql, "UPDATE service_accounts SET rate_limit = 0");
	child_wait_ready(router, true, WAIT_MS);
	when = now_text();
	body = text_of("{\"name\":\"echo\",\"kind\":\"module\",\"version\":\"1.0\",\"instance\":\"i1\","
	               "\"status\":\"active\",\"heartbeat_at\":\"%s\",\"commands\":[{\"command\":\"echo\","
	               "\"prefix\":\"!\",\"parameters\":[\"first\",\"second\"]},{\"command\":\"mods\","
	               "\"prefix\":\"!\",\"min_role\":\"moderator\"}]}", when);
	probe_send(st.kafka, stack_topic(&st, "waddle.registry"), 0, "echo", body, strlen(body), headers);
	free(when);
	free(body);
	sql_wait_int(st.sql, 2, WAIT_MS, "SELECT count(*) FROM commands WHERE module_id = 'echo'");
	sql_run(st.sql, "INSERT INTO command_permissions (command_id, entity_id, is_enabled) SELECT c.id, e.entity_id, true "
	                "FROM commands c, entities e WHERE e.address = 'twitch:1001'");
	return 0;
}

static int down(void **state)
{
	(void)state;
	free(admin);
	assert_int_equal(child_end(router, WAIT_MS), 0);
	child_free(router);
	timer_stop(&tick);
	raw_server_close(&receiver);
	service_clear(&loop);
	for (size_t i = 0; i < n_requests; i++)
		free(request[i]);
	stack_close(&st);
	return 0;
}

/* The messages of a topic that hold both texts; the last of them in *copy, free(). */
static size_t said(const char *topic, const char *one, const char *two, char **copy)
{
	struct probe_topic t;
	size_t n = 0;

	probe_read(st.kafka, stack_topic(&st, topic), &t);
	for (size_t i = 0; i < t.n; i++)
		if (t.msgs[i].value != NULL && strstr(t.msgs[i].value, one) != NULL && strstr(t.msgs[i].value, two) != NULL) {
			if (copy != NULL) {
				free(*copy);
				*copy = text_of("%s", t.msgs[i].value);
			}
			n++;
		}
	probe_free(&t);
	return n;
}

struct wanted { const char *topic, *one, *two; };

static bool was_said(void *arg)
{
	const struct wanted *w = arg;

	return said(w->topic, w->one, w->two, NULL) > 0;
}

static char *wait_said(const char *topic, const char *one, const char *two)
{
	struct wanted w = { topic, one, two };
	char *copy = NULL;

	wait_for(two, was_said, &w, WAIT_MS);
	(void)said(topic, one, two, &copy);
	return copy;
}

/* 30 */
static void the_first_rule_acts_and_counts_once(void **state)
{
	int64_t second = make("{\"string\":\"bad\",\"match_type\":\"contains\",\"action\":\"warn\",\"priority\":10}");
	int64_t first = make("{\"string\":\"bad\",\"match_type\":\"word\",\"action\":\"warn\",\"priority\":5,"
	                     "\"warning_message\":\"{user}: {match} in {channel}? {nope} {message}\"}");
	struct until u = { .text = "so bad", .verdict = "rule_warn", .rule = first };
	const char *id = new_id("once");
	char *when = now_text(), *warning, *mention = text_of("m-%s", id);
	int64_t before;

	(void)state;
	wait_for("the rule acts", acts, &u, WAIT_MS);
	before = sql_int(st.sql, "SELECT match_count FROM stringmatch WHERE id = %lld", (long long)first);
	for (int i = 0; i < 5; i++)
		say_as((struct say){ .id = id, .text = "so {user} BAD", .when = when });
	plain(new_id("never said"), "1001");
	decided(id, "rule_warn", first);
	assert_int_equal(sql_int(st.sql, "SELECT match_count FROM stringmatch WHERE id = %lld AND last_matched IS NOT NULL",
	                         (long long)first), before + 1);
	assert_int_equal(sql_int(st.sql, "SELECT match_count FROM stringmatch WHERE id = %lld", (long long)second), 0);
	warning = wait_said("waddle.outbound.twitch", mention, "\"kind\":\"chat\"");
	assert_non_null(strstr(warning, "@ann ann: BAD in 1001? {nope} so {user} BAD"));
	assert_non_null(strstr(warning, "\"priority\":\"high\""));
	free(warning);
	free(mention);
	free(when);
}

/* 33 */
static void a_bad_rule_is_refused_and_the_others_go_on(void **state)
{
	static const struct { const char *body, *says; } bad[] = {
		{ "{\"string\":\"a(b\",\"match_type\":\"regex\",\"action\":\"warn\"}", "character 1: " },
		{ "{\"string\":\"(a)\\\\1\",\"match_type\":\"regex\",\"action\":\"warn\"}", "character 3: back-references" },
		{ "{\"string\":\"x\",\"action\":\"shout\"}", "action" },
		{ "{\"string\":\"x\",\"match_type\":\"like\",\"action\":\"warn\"}", "match_type" },
		{ "{\"action\":\"warn\"}", "string" },
		{ "{\"string\":\"\",\"action\":\"warn\"}", "string" },
		{ "{\"string\":\"x\"}", "action" },
		{ "{\"string\":\"x\",\"action\":\"command\"}", "command_to_execute" },
		{ "{\"string\":\"x\",\"action\":\"command\",\"command_to_execute\":\"! x\"}", "command_to_execute" },
		{ "{\"string\":\"x\",\"action\":\"command\",\"command_to_execute\":\"!x\",\"command_parameters\":[[1]]}", "command_parameters" },
		{ "{\"string\":\"x\",\"action\":\"webhook\"}", "webhook_url" },
		{ "{\"string\":\"x\",\"action\":\"webhook\",\"webhook_url\":\"https://10.0.0.1/\"}", "webhook_url" },
		{ "{\"string\":\"x\",\"action\":\"webhook\",\"webhook_url\":\"ftp://example.org/\"}", "webhook_url" },
		{ "{\"string\":\"x\",\"action\":\"warn\",\"enabled_entity_ids\":[999999]}", "enabled_entity_ids" },
		{ "{\"string\":\"x\",\"action\":\"warn\",\"enabled_entity_ids\":[\"twitch:nowhere\"]}", "enabled_entity_ids" },
		{ "{\"string\":\"x\",\"action\":\"warn\",\"enabled_entity_ids\":{}}", "enabled_entity_ids" },
		{ "{\"string\":\"x\",\"action\":\"warn\",\"priority\":10001}", "priority" },
		{ "{\"string\":\"x\",\"action\":\"warn\",\"colour\":1}", "colour" },
		{ "{\"string\":\"x\",\"action\":\"warn\",\"exempt_role\":\"king\"}", "exempt_role" },
		{ "{\"string\":", "" },
	};
	int64_t good = make("{\"string\":\"still\",\"match_type\":\"word\",\"action\":\"warn\"}");
	struct until u = { .text = "it works still", .verdict = "rule_warn", .rule = good };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		char *answer = ask("POST", "/router/string-rules", bad[i].body, 400);

		if (strstr(answer, bad[i].says) == NULL)
			fail_msg("%s: %s", bad[i].body, answer);
		free(answer);
	}
	/* One that came past the API, too. */
	sql_run(st.sql, "INSERT INTO stringmatch (string, match_type, action) VALUES ('a(b', 'regex', 'block')");
	wait_for("the good rule acts", acts, &u, WAIT_MS);
	free(ask("PUT", "/router/string-rules/999999", "{\"priority\":1}", 404));
	free(ask("DELETE", "/router/string-rules/999999", NULL, 404));
	free(ask("DELETE", "/router/string-rules/x", NULL, 400));
}

/* 34 */
static void a_rule_acts_where_it_is_enabled(void **state)
{
	int64_t own = make("{\"string\":\"own\",\"match_type\":\"word\",\"action\":\"warn\",\"enabled_entity_ids\":[%lld]}", (long long)here);
	int64_t server = make("{\"string\":\"wide\",\"match_type\":\"word\",\"action\":\"warn\",\"enabled_entity_ids\":[\"discord:55:\"]}");
	int64_t all;
	struct until u = { .text = "my own", .verdict = "rule_warn", .rule = own };
	const char *id = new_id("elsewhere");
	char *path, *answer;

	(void)state;
	wait_for("the rule acts in its channel", acts, &u, WAIT_MS);
	say_as((struct say){ .id = id, .text = "my own", .channel = "1002" });
	plain(id, "1002");
	u = (struct until){ .text = "far and wide", .channel = "66", .server = "55", .verdict = "rule_warn", .rule = server };
	wait_for("a rule of a server acts in its channels", acts, &u, WAIT_MS);
	id = new_id("twitch");
	say_as((struct say){ .id = id, .text = "far and wide" });
	plain(id, "1001");
	all = make("{\"string\":\"all\",\"match_type\":\"word\",\"action\":\"warn\"}");
	u = (struct until){ .text = "for all", .channel = "1002", .verdict = "rule_warn", .rule = all };
	wait_for("a rule of everywhere acts everywhere", acts, &u, WAIT_MS);
	id = new_id("all");
	say_as((struct say){ .id = id, .text = "for all" });
	decided(id, "rule_warn", all);

	/* Moved from one channel to another. */
	path = text_of("/router/string-rules/%lld", (long long)own);
	answer = text_of("{\"enabled_entity_ids\":[%lld]}", (long long)there);
	free(ask("PUT", path, answer, 200));
	free(answer);
	u = (struct until){ .text = "my own", .channel = "1002", .verdict = "rule_warn", .rule = own };
	wait_for("the rule acts where it was moved", acts, &u, WAIT_MS);
	u = (struct until){ .text = "my own", .verdict = "rule_warn", .rule = 0 };
	wait_for("the rule no longer acts where it was", acts, &u, WAIT_MS);
	free(path);
	path = text_of("/router/string-rules?entity_id=%lld&is_active=true", (long long)there);
	answer = ask("GET", path, NULL, 200);
	assert_int_equal(number_in(answer, "total_items"), 2);
	free(answer);
	free(path);
}

/* 35: delete, time-out, a word to the user, a line for the moderators. */
static void a_block_removes_and_tells(void **state)
{
	int64_t rule = make("{\"string\":\"spam\",\"match_type\":\"word\",\"action\":\"block\",\"timeout_seconds\":60,"
	                    "\"block_message\":\"No {match} here.\",\"exempt_role\":\"moderator\"}");
	struct until u = { .text = "spam", .verdict = "rule_block", .rule = rule };
	const char *id = new_id("block"), *mod = new_id("mod");
	char *mention = text_of("m-%s", id), *out, *id_text;

	(void)state;
	wait_for("the rule acts", acts, &u, WAIT_MS);
	say_as((struct say){ .id = id, .text = "buy spam now" });
	decided(id, "rule_block", rule);
	out = wait_said("waddle.outbound.twitch", mention, "\"kind\":\"delete\"");
	assert_non_null(strstr(out, "\"priority\":\"high\""));
	free(out);
	out = wait_said("waddle.outbound.twitch", mention, "\"kind\":\"timeout\"");
	assert_non_null(strstr(out, "\"user_id\":\"7\""));
	assert_int_equal(number_in(out, "duration"), 60);
	free(out);
	free(wait_said("waddle.outbound.twitch", "\"kind\":\"chat\"", "@ann No spam here."));
	/* A spared rank. */
	say_as((struct say){ .id = mod, .text = "spam", .roles = "\"moderator\"" });
	plain(mod, "1001");
	free(mention);

	/* Discord can tell the user alone, and this channel has moderators who want to know. */
	u = (struct until){ .text = "spam", .channel = "66", .server = "55", .verdict = "rule_block", .rule = rule };
	wait_for("the rule acts on Discord", acts, &u, WAIT_MS);
	id_text = text_of("Rule %lld (spam) removed a message of ann: spam", (long long)rule);
	out = wait_said("waddle.outbound.discord", "\"channel_id\":\"99\"", id_text);
	assert_non_null(strstr(out, "\"entity\":\"discord:55:99\""));
	free(out);
	out = wait_said("waddle.outbound.discord", "\"private\":true", "No spam here.");
	assert_null(strstr(out, "@ann"));
	free(out);
	free(id_text);
}

/* 35: with stored parameters, as the sender, with all checks. */
static void a_command_runs_as_the_sender(void **state)
{
	int64_t list = make("{\"string\":\"say\",\"match_type\":\"word\",\"action\":\"command\",\"command_to_execute\":\"!Echo\","
	                    "\"command_parameters\":[\"a b\",\"{user} {match}\",3]}");
	int64_t named = make("{\"string\":\"name\",\"match_type\":\"word\",\"action\":\"command\",\"command_to_execute\":\"!echo\","
	                     "\"command_parameters\":{\"second\":\"two\",\"first\":\"one\"}}");
	int64_t high = make("{\"string\":\"high\",\"match_type\":\"word\",\"action\":\"command\",\"command_to_execute\":\"!mods\"}");
	struct until u = { .text = "high", .verdict = "denied_role", .rule = high };
	const char *id = new_id("say");
	char *execution, *out;

	(void)state;
	wait_for("the rule acts", acts, &u, WAIT_MS);
	say_as((struct say){ .id = id, .text = "please SAY it" });
	decided(id, "rule_command", list);
	execution = sql_text(st.sql, "SELECT execution_id || '' FROM command_executions WHERE event_id = '%s'", id);
	assert_non_null(execution);
	out = wait_said("waddle.commands.echo", execution, "\"trigger\":\"string_match\"");
	assert_non_null(strstr(out, "\"parameters\":[\"a b\",\"ann SAY\",\"3\"]"));
	assert_non_null(strstr(out, "\"raw_message\":\"please SAY it\""));
	free(out);
	free(execution);
	id = new_id("name");
	say_as((struct say){ .id = id, .text = "a name" });
	decided(id, "rule_command", named);
	free(wait_said("waddle.commands.echo", id, "\"parameters\":[\"one\",\"two\"]"));
}

/* 35: signed, called again after a failure under the same id, once per event. */
static void a_webhook_is_called_until_it_answers(void **state)
{
	char body[300], *answer, *secret, id[ID_TEXT], mac[7 + 2 * CRYPTO_SHA256 + 1] = "sha256=";
	const char *event = new_id("hook"), *sent;
	unsigned char sum[CRYPTO_SHA256];
	struct str part;
	int64_t rule;
	char *when = now_text(), *want;

	(void)state;
	(void)snprintf(body, sizeof body, "{\"string\":\"hook\",\"match_type\":\"word\",\"action\":\"webhook\","
	               "\"webhook_url\":\"http://127.0.0.1:%d/rules\"}", receiver.port);
	answer = ask("POST", "/router/string-rules", body, 201);
	rule = number_in(answer, "id");
	sent = strstr(answer, "\"signing_secret\":\"");
	assert_non_null(sent);
	sent += strlen("\"signing_secret\":\"");
	secret = text_of("%.*s", (int)strcspn(sent, "\""), sent);
	assert_memory_equal(secret, "whsec_", 6);
	free(answer);
	answer = ask("GET", "/router/string-rules?action=webhook", NULL, 200);
	assert_null(strstr(answer, secret));    /* shown once */
	free(answer);

	/* The rule's set is new to the router: said again until it is met. */
	for (int i = 0; i < 50 && n_requests == 0; i++) {
		char *name = text_of("%s-%d", event, i);

		say_as((struct say){ .id = name, .text = "my hook", .when = when });
		plain("nobody", "1001");
		if (sql_int(st.sql, "SELECT count(*) FROM event_decisions WHERE event_id = '%s'", name) == 1) {
			id_rule_webhook(str_of(name), rule, id);
			wait_called(2);
			say_as((struct say){ .id = name, .text = "my hook", .when = when });   /* delivered again */
			plain("nobody", "1001");
			want = text_of("SELECT count(*) FROM rule_calls WHERE event_id = '%s'", name);
			assert_int_equal(sql_int(st.sql, "%s", want), 1);
			free(want);
		}
		free(name);
	}
	sql_wait_int(st.sql, 1, WAIT_MS, "SELECT count(*) FROM rule_calls WHERE done_at IS NOT NULL AND attempts = 2 "
	             "AND response_status = 200 AND error IS NULL");
	assert_int_equal(n_requests, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_memory_equal(request[i], "POST /rules ", 12);
		assert_string_equal(header_of(request[i], "webhook-id"), id);
		assert_string_equal(header_of(request[i], "X-WaddleBot-Source"), "string-matcher");
		assert_string_equal(header_of(request[i], "X-WaddleBot-Type"), "string-match-webhook");
		part = str_of(strstr(request[i], "\r\n\r\n") + 4);
		assert_int_equal(crypto_hmac(str_of(secret), &part, 1, sum), 0);
		crypto_hex(sum, sizeof sum, mac + 7);
		assert_string_equal(header_of(request[i], "X-WaddleBot-Signature"), mac);
		assert_non_null(strstr(request[i], "\"type\":\"string_match\""));
		assert_non_null(strstr(request[i], "\"pattern\":\"hook\",\"match_type\":\"word\",\"message_content\":\"my hook\""));
		assert_non_null(strstr(request[i], "\"user\":{\"id\":\"7\",\"name\":\"ann\"}"));
		assert_non_null(strstr(request[i], "\"platform\":\"twitch\""));
	}
	free(secret);
	free(when);
}

/* 36 */
static void a_deleted_rule_stays_and_does_not_act(void **state)
{
	int64_t rule = make("{\"string\":\"gone\",\"match_type\":\"word\",\"action\":\"warn\"}");
	struct until u = { .text = "gone", .verdict = "rule_warn", .rule = rule };

	(void)state;
	wait_for("the rule acts", acts, &u, WAIT_MS);
	end_rule(rule);
	u.rule = 0;
	wait_for("the rule no longer acts", acts, &u, WAIT_MS);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM stringmatch WHERE id = %lld AND NOT is_active", (long long)rule), 1);
}

/* 37 */
static void a_command_enabled_here_bypasses_the_rules(void **state)
{
	int64_t rule = make("{\"string\":\"!\",\"match_type\":\"contains\",\"action\":\"warn\"}");
	struct until u = { .text = "!nothing", .verdict = "rule_warn", .rule = rule };
	const char *id = new_id("fine"), *denied = new_id("denied"), *other = new_id("other");
	int64_t star;

	(void)state;
	say_as((struct say){ .id = other, .text = "warm up", .channel = "1002" });
	{
		/* The fence of acts() is a hit here itself: wait by the rule's own counter. */
		say_as((struct say){ .id = id, .text = "!echo hello" });
		sql_wait_int(st.sql, 1, WAIT_MS, "SELECT count(*) FROM command_executions WHERE event_id = '%s'", id);
	}
	wait_for("the rule acts", acts, &u, WAIT_MS);
	id = new_id("run");
	say_as((struct say){ .id = id, .text = "!echo hello" });
	sql_wait_int(st.sql, 1, WAIT_MS, "SELECT count(*) FROM command_executions WHERE event_id = '%s'", id);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM event_decisions WHERE event_id = '%s' AND rule_id IS NOT NULL", id), 0);
	say_as((struct say){ .id = denied, .text = "!mods" });
	decided(denied, "denied_role", 0);
	id = new_id("not-here");
	say_as((struct say){ .id = id, .text = "!echo", .channel = "1002" });
	decided(id, "rule_warn", rule);

	end_rule(rule);
	star = make("{\"string\":\"*\",\"action\":\"command\",\"command_to_execute\":\"missing\"}");
	u = (struct until){ .text = "anything", .verdict = "rule_command_unknown", .rule = star };
	wait_for("a missing command is told", acts, &u, WAIT_MS);
	id = new_id("loop");
	say_as((struct say){ .id = id, .text = "#missing" });
	decided(id, "rule_command_unknown", star);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM command_executions WHERE event_id = '%s'", id), 0);
}

/* 77, 78 */
static void edits_and_disguises_are_met(void **state)
{
	int64_t run = make("{\"string\":\"slur\",\"match_type\":\"contains\",\"action\":\"command\",\"command_to_execute\":\"!echo\",\"priority\":1}");
	int64_t block = make("{\"string\":\"slur\",\"match_type\":\"contains\",\"action\":\"block\",\"normalize\":true}");
	struct until u = { .text = "s\u200dl\u03c5r", .verdict = "rule_block", .rule = block };
	const char *clean = new_id("clean"), *edit = new_id("edit"), *command = new_id("command");

	(void)state;
	wait_for("the rule acts", acts, &u, WAIT_MS);
	say_as((struct say){ .id = clean, .text = "hello" });
	say_as((struct say){ .id = edit, .text = "a slur", .type = "message_edit" });
	say_as((struct say){ .id = command, .text = "!echo hello", .type = "message_edit" });
	decided(edit, "rule_block", block);
	plain(clean, "1001");
	plain(command, "1001");
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM command_executions WHERE event_id = '%s'", command), 0);
	(void)run;
}

/* 79 */
static void a_dry_run_names_the_rule_and_changes_nothing(void **state)
{
	int64_t late = make("{\"string\":\"egg\",\"match_type\":\"contains\",\"action\":\"warn\",\"priority\":9}");
	int64_t early = make("{\"string\":\"EGG\",\"match_type\":\"word\",\"action\":\"block\",\"priority\":3,\"normalize\":true,"
	                     "\"enabled_entity_ids\":[%lld]}", (long long)here);
	struct until u = { .text = "an egg", .verdict = "rule_block", .rule = early };
	int64_t counted;
	char *body, *answer, *want;

	(void)state;
	wait_for("the rule acts", acts, &u, WAIT_MS);
	counted = sql_int(st.sql, "SELECT sum(match_count) FROM stringmatch");
	body = text_of("{\"entity_id\":\"twitch:1001\",\"texts\":[\"an  \u0435gg\",\"eggs\",\"ham\"]}");
	answer = ask("POST", "/router/string-rules/test", body, 200);
	want = text_of("{\"results\":[{\"hit\":true,\"rule_id\":%lld,\"action\":\"block\",\"span\":[3,6],\"folded_text\":\"an egg\",\"tried\":2,",
	               (long long)early);
	if (strncmp(answer, want, strlen(want)) != 0)
		fail_msg("%s, not %s", answer, want);
	free(want);
	want = text_of("{\"hit\":true,\"rule_id\":%lld,\"action\":\"warn\",\"span\":[0,3],\"folded_text\":\"eggs\"", (long long)late);
	assert_non_null(strstr(answer, want));
	assert_non_null(strstr(answer, "{\"hit\":false,\"rule_id\":null"));
	free(want);
	free(answer);
	free(body);
	answer = ask("POST", "/router/string-rules/test", "{\"text\":\"an egg\"}", 200);
	assert_int_equal(number_in(answer, "rule_id"), late);   /* without a place: those of everywhere */
	free(answer);
	answer = ask("POST", "/router/string-rules/test",
	             "{\"text\":\"ham\",\"rules\":[{\"string\":\"h.m\",\"match_type\":\"regex\"},{\"string\":\"ham\",\"priority\":1}]}", 200);
	assert_int_equal(number_in(answer, "rule_id"), 2);
	assert_non_null(strstr(answer, "\"next\":[{\"rule_id\":1,"));
	free(answer);
	free(ask("POST", "/router/string-rules/test", "{\"text\":\"x\",\"rules\":[{\"string\":\"(\",\"match_type\":\"regex\"}]}", 400));
	free(ask("POST", "/router/string-rules/test", "{\"text\":\"x\",\"texts\":[\"y\"]}", 400));
	free(ask("POST", "/router/string-rules/test", "{\"text\":\"x\",\"entity_id\":\"twitch:nowhere\"}", 400));
	assert_int_equal(sql_int(st.sql, "SELECT sum(match_count) FROM stringmatch"), counted);
}

/* `waddle rules` as a person runs it; its output, free(). */
static char *waddle(int status, const char *const *words)
{
	const char *argv[16] = { "waddle", "rules" };
	char *url = text_of("ROUTER_URL=http://127.0.0.1:%d", child_port(router, "HTTP_LISTEN"));
	char *key = text_of("SERVICE_KEY=%s", admin + strlen("X-API-Key: ")), *db = text_of("DATABASE_URL=%s", stack_url(&st, NULL));
	const char *const env[] = { url, key, db, NULL };
	struct child *c;
	char *out = NULL;
	size_t n = 0;
	FILE *f;

	for (size_t i = 0; words[i] != NULL; i++)
		argv[2 + i] = words[i];
	c = child_new("rules-cli", argv, env);
	remove(child_log(c));
	assert_int_equal(child_run(c, WAIT_MS), status);
	f = fopen(child_log(c), "re");
	assert_non_null(f);
	assert_true(getdelim(&out, &n, '\0', f) > 0);
	fclose(f);
	child_free(c);
	free(url);
	free(key);
	free(db);
	return out;
}

static void the_tool_makes_tries_and_lists_rules(void **state)
{
	char *out;

	(void)state;
	out = waddle(0, (const char *const[]){ "add", "fig", "--action", "warn", "--match", "word", "--entity", "twitch:1001", NULL });
	assert_non_null(strstr(out, "rule "));
	free(out);
	out = waddle(1, (const char *const[]){ "add", "a(b", "--action", "warn", "--match", "regex", NULL });
	assert_non_null(strstr(out, "character 1: a group without its )"));
	free(out);
	out = waddle(0, (const char *const[]){ "list", NULL });
	assert_non_null(strstr(out, "fig"));
	assert_non_null(strstr(out, "twitch:1001"));
	free(out);
	out = waddle(0, (const char *const[]){ "test", "two figs", "--rule", "fig.", "--match", "regex", NULL });
	assert_non_null(strstr(out, "draft 1: warn"));
	assert_non_null(strstr(out, "finds \"figs\""));
	free(out);
	out = waddle(0, (const char *const[]){ "test", "nothing", "--rule", "fig", NULL });
	assert_non_null(strstr(out, "no hit"));
	free(out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(the_first_rule_acts_and_counts_once, none),
		cmocka_unit_test_setup(a_bad_rule_is_refused_and_the_others_go_on, none),
		cmocka_unit_test_setup(a_rule_acts_where_it_is_enabled, none),
		cmocka_unit_test_setup(a_block_removes_and_tells, none),
		cmocka_unit_test_setup(a_command_runs_as_the_sender, none),
		cmocka_unit_test_setup(a_webhook_is_called_until_it_answers, none),
		cmocka_unit_test_setup(a_deleted_rule_stays_and_does_not_act, none),
		cmocka_unit_test_setup(a_command_enabled_here_bypasses_the_rules, none),
		cmocka_unit_test_setup(edits_and_disguises_are_met, none),
		cmocka_unit_test_setup(a_dry_run_names_the_rule_and_changes_nothing, none),
		cmocka_unit_test_setup(the_tool_makes_tries_and_lists_rules, none),
	};

	return !!cmocka_run_group_tests(tests, up, down);
}

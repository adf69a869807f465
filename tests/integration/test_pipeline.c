/* The router's pipeline against PostgreSQL and Kafka: every way an event can name a command, who
 * may run it, and what is told to whom.  The test plays collectors; no module answers. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ids.h"
#include "stack.h"
#include "str.h"

static struct stack st;
static struct child *router;

enum { WAIT_MS = 15000 };
#define TWITCH  "twitch:1001"
#define DISCORD "discord:G:c1"

/* Everything but the text has a default. */
struct said {
	const char *text, *type, *entity, *user, *roles, *metadata, *id;
};

/* Sends it; the event's id, valid for the next 15 calls. */
static const char *say(struct said e)
{
	static char ids[16][100];
	static unsigned n;
	static time_t first;
	char *id = ids[n % 16], when[32], server[300] = "null", channel[300];
	const char *entity = e.entity != NULL ? e.entity : TWITCH, *colon = strchr(entity, ':');
	const char *second = strchr(colon + 1, ':'), *user = e.user != NULL ? e.user : "7";
	const char *const headers[] = { "ce_type: waddle.event.v1", "ce_specversion: 1.0", NULL };
	struct buf b = BUF(1 << 20);
	struct timespec t;
	struct str body;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &t);
	if (first == 0)
		first = t.tv_sec;
	if (e.id != NULL)               /* may be delivered again: it was received once */
		t.tv_sec = first;
	gmtime_r(&t.tv_sec, &tm);
	(void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S.000Z", &tm);
	if (e.id != NULL)
		(void)snprintf(id, sizeof ids[0], "%s", e.id);
	else
		(void)snprintf(id, sizeof ids[0], "t:%u-%llx", n, (unsigned long long)rnd_next());
	n++;
	if (second != NULL)
		(void)snprintf(server, sizeof server, "\"%.*s\"", (int)(second - colon - 1), colon + 1);
	(void)snprintf(channel, sizeof channel, "%s", second != NULL ? second + 1 : colon + 1);
	buf_printf(&b, "{\"event_id\":\"%s\",\"dedupe_key\":\"d:%s\",\"platform\":\"%.*s\",\"server_id\":%s,",
	           id, id, (int)(colon - entity), entity, server);
	buf_printf(&b,
	           "\"channel_id\":\"%s\",\"entity\":\"%s\",\"user\":{\"id\":\"%s\",\"name\":\"n%s\","
	           "\"roles\":[%s]},",
	           channel, entity, user, user, e.roles != NULL ? e.roles : "\"member\"");
	buf_printf(&b,
	           "\"message_type\":\"%s\",\"occurred_at\":\"%s\",\"received_at\":\"%s\",\"metadata\":%s,",
	           e.type != NULL ? e.type : "chatMessage", when, when,
	           e.metadata != NULL ? e.metadata : "{\"message_id\":\"m-1\"}");
	buf_printf(&b, "\"reply_ref\":\"ref-%s\",\"message_content\":", id);
	buf_json(&b, str_of(e.text != NULL ? e.text : ""));
	buf_add(&b, STR("}"));
	assert_int_equal(buf_str(&b, &body), 0);
	probe_send(st.kafka, stack_topic(&st, "waddle.events"), -1, entity, body.p, body.n, headers);
	buf_clear(&b);
	return id;
}

/* The execution of that event and command: "trigger|prefix command|params"; waits for it. */
static void runs(const char *id, const char *want)
{
	char *got;

	sql_wait_at_least(st.sql, 1, WAIT_MS, "SELECT count(*) FROM command_executions WHERE event_id = '%s'",
	                  id);
	got = sql_text(st.sql,
	               "SELECT string_agg(concat_ws(' ', e.trigger, e.module_name, c.prefix || c.command, "
	               "e.parameters), '; ' ORDER BY c.priority, c.id) FROM command_executions e "
	               "JOIN commands c ON c.id = e.command_id WHERE e.event_id = '%s'",
	               id);
	if (strcmp(got, want) != 0)
		fail_msg("%s runs \"%s\", not \"%s\"", id, got, want);
	free(got);
}

/* Its verdict; no execution. */
static void refused(const char *id, const char *verdict)
{
	char *got;

	sql_wait_at_least(st.sql, 1, WAIT_MS, "SELECT count(*) FROM event_decisions WHERE event_id = '%s'",
	                  id);
	got = sql_text(st.sql, "SELECT verdict FROM event_decisions WHERE event_id = '%s'", id);
	assert_string_equal(got, verdict);
	free(got);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM command_executions WHERE event_id = '%s'", id),
	                 0);
}

static void check_is(const char *id, const char *check, const char *column, const char *want)
{
	char *got = sql_text(st.sql,
	                     "SELECT x->>'%s' FROM event_decisions, jsonb_array_elements(checks) x "
	                     "WHERE event_id = '%s' AND x->>'check' = '%s'",
	                     column, id, check);

	assert_non_null(got);
	assert_string_equal(got, want);
	free(got);
}

static double metric(const char *series)
{
	char *url = text_of("http://127.0.0.1:%d", child_port(router, "ADMIN_LISTEN"));
	double n = probe_metric(url, series);

	free(url);
	return n;
}

struct heard {
	char series[100];
	double before;
};

static bool has_heard(void *arg)
{
	struct heard *h = arg;

	return metric(h->series) > h->before;
}

/* A statement that changes that table; returns when the router knows. */
static void change(const char *table, const char *fmt, ...) PRINTF(2, 3);
static void change(const char *table, const char *fmt, ...)
{
	struct heard h;
	char sql[4000];
	va_list ap;

	(void)snprintf(h.series, sizeof h.series, "waddle_router_invalidations_total{table=\"%s\"}", table);
	h.before = metric(h.series);
	va_start(ap, fmt);
	(void)vsnprintf(sql, sizeof sql, fmt, ap);
	va_end(ap);
	sql_run(st.sql, "%s", sql);
	wait_for(table, has_heard, &h, WAIT_MS);
}

#define PERMIT                                                                                               \
	"INSERT INTO command_permissions (command_id, entity_id, is_enabled, permissions) "                  \
	"SELECT c.id, e.entity_id, %s, '%s' FROM commands c, entities e WHERE c.prefix || c.command = '%s' " \
	"AND e.address = '%s' ON CONFLICT (command_id, entity_id) DO UPDATE SET is_enabled = "               \
	"excluded.is_enabled, "                                                                              \
	"permissions = excluded.permissions"

static void permit(const char *command, const char *address, bool enabled, const char *permissions)
{
	change("command_permissions", PERMIT, enabled ? "true" : "false", permissions, command, address);
}

/* Value of the message in an outbound topic that holds `text`; NULL: none now.  free() */
static char *outbound(const char *platform, const char *text)
{
	char *topic = text_of("waddle.outbound.%s", platform), *found = NULL;
	struct probe_topic t;

	probe_read(st.kafka, stack_topic(&st, topic), &t);
	for (size_t i = 0; i < t.n && found == NULL; i++)
		if (t.msgs[i].value != NULL && strstr(t.msgs[i].value, text) != NULL)
			found = text_of("%s", t.msgs[i].value);
	probe_free(&t);
	free(topic);
	return found;
}

static size_t outbounds(const char *platform, const char *text)
{
	char *topic = text_of("waddle.outbound.%s", platform);
	struct probe_topic t;
	size_t n = 0;

	probe_read(st.kafka, stack_topic(&st, topic), &t);
	for (size_t i = 0; i < t.n; i++)
		n += t.msgs[i].value != NULL && strstr(t.msgs[i].value, text) != NULL;
	probe_free(&t);
	free(topic);
	return n;
}

struct wanted {
	const char *platform, *text;
	char *value;
};

static bool has_come(void *arg)
{
	struct wanted *w = arg;

	w->value = outbound(w->platform, w->text);
	return w->value != NULL;
}

/* The notice of an event: its text and whether it is private. */
static void told(const char *platform, const char *id, const char *text, bool private)
{
	char session[ID_TEXT], message[ID_TEXT], *quoted = text_of("\"text\":\"%s\"", text);
	struct wanted w = { platform, message, NULL };

	id_session(str_of(id), session);
	id_outbound(str_of(session), -1, 0, message);
	wait_for(text, has_come, &w, WAIT_MS);
	if (strstr(w.value, quoted) == NULL)
		fail_msg("%s is not in %s", quoted, w.value);
	assert_int_equal(strstr(w.value, "\"private\":true") != NULL, private);
	free(w.value);
	free(quoted);
}

static void untold(const char *platform, const char *id)
{
	char session[ID_TEXT], message[ID_TEXT];

	id_session(str_of(id), session);
	id_outbound(str_of(session), -1, 0, message);
	assert_int_equal(outbounds(platform, message), 0);
}

/* A command of that event on a module's topic holds all of these texts. */
static void carries(const char *module, const char *id, const char *const *texts)
{
	char *topic = text_of("waddle.commands.%s", module), *event = text_of("\"event_id\":\"%s\"", id);
	struct probe_topic t;
	bool found = false;

	for (int64_t end = harness_now_ms() + WAIT_MS; !found && harness_now_ms() < end;) {
		probe_read(st.kafka, stack_topic(&st, topic), &t);
		for (size_t i = 0; i < t.n && !found; i++)
			if (strstr(t.msgs[i].value, event) != NULL) {
				found = true;
				for (size_t k = 0; texts[k] != NULL; k++)
					if (strstr(t.msgs[i].value, texts[k]) == NULL)
						fail_msg("%s is not in %s", texts[k], t.msgs[i].value);
			}
		probe_free(&t);
	}
	assert_true(found);
	free(topic);
	free(event);
}
#define CARRIES(module, id, ...) carries(module, id, (const char *const[]){ __VA_ARGS__, NULL })

static int up(void **state)
{
	static const char *const env[] = { "LOG_LEVEL=info", NULL };

	(void)state;
	stack_open(&st, "pipeline", STACK_SCHEMA | STACK_TOPICS);
	sql_run(st.sql, "INSERT INTO communities (name, display_name, settings) VALUES "
	                "('cats', 'Cats', '{\"timezone\":\"Europe/Berlin\"}'), ('dogs', 'Dogs', '{}')");
	sql_run(st.sql,
	        "INSERT INTO servers (owner, platform, server_id, channel, config) VALUES "
	        "('o', 'twitch', NULL, '1001', '{\"community_id\":2,\"bot_account_id\":\"b9\"}'), "
	        "('o', 'twitch', NULL, '1002', '{\"community_id\":3}'), "
	        "('o', 'discord', 'G', NULL, '{}'), ('o', 'slack', 'T', NULL, '{\"community_id\":2}')");
	sql_run(st.sql,
	        "INSERT INTO entities (address, platform, server_id, channel_id, owner, community_id) VALUES "
	        "('" TWITCH
	        "', 'twitch', NULL, '1001', 'o', 2), ('discord:G:', 'discord', 'G', NULL, 'o', 2)");
	sql_run(st.sql,
	        "INSERT INTO commands (prefix, command, location, module_id, location_url, trigger_type, "
	        "event_types, "
	        "min_role, auth_required, rate_limit, priority) SELECT prefix, command, CASE prefix WHEN '!' "
	        "THEN 'internal' "
	        "ELSE 'community' END, module, 'kafka:' || module, on_, types::jsonb, role, auth, rate, "
	        "priority "
	        "FROM (VALUES ('!', 'memories', 'memories', 'command', '[]', 'member', false, 0, 100), "
	        "('!', 'song', 'music', 'command', '[]', 'member', false, 0, 100), "
	        "('#', 'song', 'calendar', 'command', '[]', 'member', false, 0, 100), "
	        "('#', 'poll', 'calendar', 'command', '[]', 'member', false, 0, 100), "
	        "('!', 'mods', 'memories', 'command', '[]', 'moderator', false, 0, 100), "
	        "('!', 'linked', 'memories', 'command', '[]', 'member', true, 0, 100), "
	        "('!', 'few', 'memories', 'command', '[]', 'member', false, 1, 100), "
	        "('!', 'onfollow', 'music', 'event', '[\"follow\"]', 'owner', false, 0, 100), "
	        "('!', 'both', 'memories', 'both', '[\"follow\", \"raid\", \"app_mention\"]', 'member', "
	        "false, 0, 50), "
	        "('!', 'typed', 'memories', 'command', '[\"follow\"]', 'member', false, 0, 100), "
	        "('!', 'elsewhere', 'memories', 'event', '[\"follow\"]', 'member', false, 0, 100), "
	        "('!', 'nowhere', 'memories', 'command', '[]', 'member', false, 0, 100)) "
	        "v(prefix, command, module, on_, types, role, auth, rate, priority)");
	/* Nobody answers here, so a chain would end at its first link. */
	sql_run(st.sql, "UPDATE commands SET execution_mode = 'parallel'");
	for (int i = 0; i < 2; i++)
		sql_run(st.sql,
		        "INSERT INTO command_permissions (command_id, entity_id) SELECT c.id, e.entity_id "
		        "FROM commands c, "
		        "entities e WHERE e.address = '%s' AND c.command NOT IN ('elsewhere', 'nowhere')",
		        i == 0 ? TWITCH : "discord:G:");
	router = stack_service(&st, "waddle-router", "waddle_router", env);
	child_wait_ready(router, true, 30000);
	return 0;
}

static int down(void **state)
{
	(void)state;
	assert_int_equal(child_end(router, WAIT_MS), 0);
	child_free(router);
	stack_close(&st);
	return 0;
}

/* router 8, 10, 22, 56, 57 */
static void each_prefix_reaches_its_own_row(void **state)
{
	const char *bang = say((struct said){ .text = "!SoNg a \"b c\" “D e”" });
	const char *hash = say((struct said){ .text = "#song \"open to the end" });

	(void)state;
	runs(bang, "command music !song [\"a\", \"b c\", \"D e\"]");
	runs(hash, "command calendar #song [\"open to the end\"]");
	CARRIES("music", bang, "\"prefix\":\"!\"", "\"command\":\"song\"", "\"raw_message\":\"!SoNg a",
	        "\"bot_account_id\": \"b9\"");
	CARRIES("calendar", hash, "\"prefix\":\"#\"", "\"trigger\":\"command\"");
}

/* router 9, 20, 21 */
static void plain_chat_and_odd_events_do_no_harm(void **state)
{
	static const char *const plain[] = { "!", "! x", "!!", "hello", "", "#", "!-" };
	char *channel = XNEW_N(char, 300);
	double n = metric("waddle_router_events_total{platform=\"twitch\",message_type=\"chatMessage\","
	                  "verdict=\"plain\"}");
	const char *id;

	(void)state;
	n = n < 0 ? 0 : n;
	for (size_t i = 0; i < ARRAY_LEN(plain); i++)
		(void)say((struct said){ .text = plain[i] });
	memcpy(channel, "discord:G:", 10);
	for (int i = 0; i < 255; i++)
		channel[10 + i] = "abc-XYZ_0"[i % 9];
	id = say((struct said){ .text = "!memories", .entity = channel });
	runs(id, "command memories !memories []");
	free(channel);
	id = say((struct said){ .text = "!memories", .metadata = "null" });
	runs(id, "command memories !memories []");
	CARRIES("memories", id, "\"command\":\"memories\"");
	assert_true(metric("waddle_router_events_total{platform=\"twitch\",message_type=\"chatMessage\","
	                   "verdict=\"plain\"}") == n + (double)ARRAY_LEN(plain));
	assert_int_equal(
		sql_int(st.sql, "SELECT count(*) FROM event_decisions WHERE reason LIKE '%%no command'"), 0);
}

/* router 11 */
static void the_channels_row_decides_then_the_servers(void **state)
{
	const char *id = say((struct said){ .text = "!nowhere" });

	(void)state;
	refused(id, "not_enabled");
	check_is(id, "known", "ok", "true");
	check_is(id, "enabled", "ok", "false");
	id = say((struct said){ .text = "!memories", .entity = DISCORD });
	runs(id, "command memories !memories []");
	assert_int_equal(sql_int(st.sql, "SELECT community_id FROM entities WHERE address = '" DISCORD "'"),
	                 2);
	permit("!memories", DISCORD, false, "{}");
	refused(say((struct said){ .text = "!memories", .entity = DISCORD }), "not_enabled");
	runs(say((struct said){ .text = "!memories", .entity = "discord:G:c2" }),
	     "command memories !memories []");
	change("command_permissions",
	       "DELETE FROM command_permissions p USING entities e WHERE e.entity_id = p.entity_id "
	       "AND e.address = '" DISCORD "'");
	runs(say((struct said){ .text = "!memories", .entity = DISCORD }), "command memories !memories []");
	refused(say((struct said){ .text = "!memories", .entity = "twitch:unknown" }), "not_monitored");
}

/* router 12 */
static void an_unknown_command_is_silence_in_chat_and_an_answer_to_a_slash_command(void **state)
{
	const char *chat = say((struct said){ .text = "!nosuch", .entity = DISCORD });
	const char *slash = say((struct said){ .type = "slashCommand",
	                                       .text = "/nosuch a",
	                                       .entity = DISCORD,
	                                       .metadata = "{\"command\":\"nosuch\"}" });
	const char *again =
		say((struct said){ .type = "slashCommand", .text = "/nosuch a", .entity = DISCORD });

	(void)state;
	refused(chat, "unknown_command");
	refused(slash, "unknown_command");
	check_is(slash, "monitored", "ok", "true");
	check_is(slash, "known", "ok", "false");
	told("discord", slash, "/nosuch is not available here.", true);
	told("discord", again, "/nosuch is not available here.", true); /* always */
	untold("discord", chat);
}

/* router 16, 19, 62: whatever comes how often */
static void every_command_counts_once(void **state)
{
	const char *id = "t:five-times";
	int64_t before = sql_int(
		st.sql,
		"SELECT p.usage_count FROM command_permissions p JOIN commands c ON c.id = p.command_id "
		"JOIN entities e ON e.entity_id = p.entity_id WHERE c.command = 'mods' AND e.address = "
		"'" TWITCH "'");

	(void)state;
	for (int i = 0; i < 5; i++)
		(void)say((struct said){ .text = "!mods", .roles = "\"moderator\"", .id = id });
	for (int i = 0; i < 100; i++) {
		char *other = text_of("t:hundred-%d", i);

		(void)say((struct said){ .text = "!mods same", .roles = "\"moderator\"", .id = other });
		free(other);
	}
	sql_wait_int(st.sql, 100, WAIT_MS,
	             "SELECT count(*) FROM command_executions WHERE event_id LIKE 't:hundred-%%'");
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM command_executions WHERE event_id = '%s'", id),
	                 1);
	assert_int_equal(sql_int(st.sql,
	                         "SELECT p.usage_count FROM command_permissions p JOIN commands c ON c.id = "
	                         "p.command_id "
	                         "JOIN entities e ON e.entity_id = p.entity_id WHERE c.command = 'mods' "
	                         "AND e.address = '" TWITCH "' AND p.last_used IS NOT NULL"),
	                 before + 101);
}

/* router 7, 27, 29, section 4: event modules */
static void event_modules_fire_on_their_types_where_they_are_enabled(void **state)
{
	const char *follow = say((struct said){ .type = "follow" });
	const char *typed = say((struct said){ .text = "!typed" });
	const char *both = say((struct said){ .text = "!both x" });
	const char *not_event = say((struct said){ .text = "!onfollow" });
	const char *mention = say((struct said){ .type = "app_mention", .text = "@bot !both y" });
	const char *chatter = say((struct said){ .type = "app_mention", .text = "@bot hello" });
	const char *end;

	(void)state;
	runs(follow, "event memories !both []; event music !onfollow []");
	runs(typed, "command memories !typed []");
	runs(both, "command memories !both [\"x\"]");
	refused(not_event, "unknown_command");
	runs(mention, "command memories !both [\"y\"]"); /* as both: once, as command */
	runs(chatter, "event memories !both []");
	CARRIES("music", follow, "\"trigger\":\"event\"", "\"message_type\":\"follow\"",
	        "\"command\":\"onfollow\"");
	assert_int_equal(
		sql_int(st.sql, "SELECT count(*) FROM event_decisions WHERE event_id = '%s'", follow), 0);

	(void)say((struct said){ .type = "subscription", .id = "t:subscribed" });
	change("commands",
	       "UPDATE commands SET event_types = '[\"subscription\"]' WHERE command = 'onfollow'");
	follow = say((struct said){ .type = "follow" });
	end = say((struct said){ .type = "subscription" });
	runs(end, "event music !onfollow []");
	runs(follow, "event memories !both []");
	assert_int_equal(
		sql_int(st.sql, "SELECT count(*) FROM command_executions WHERE event_id = 't:subscribed'"),
		0);
}

/* router 38, 39 */
static void slash_commands_and_buttons_name_their_command(void **state)
{
	const char *slash =
		say((struct said){ .type = "slashCommand",
	                           .entity = DISCORD,
	                           .text = "/memories a b c",
	                           .metadata = "{\"command\":\"Memories\",\"options\":[\"a b\",\"c\"]}" });
	const char *button = say(
		(struct said){ .type = "button_click",
	                       .entity = DISCORD,
	                       .text = "!both",
	                       .metadata = "{\"custom_id\":\"memories:buy:item_1\",\"values\":[\"v1\"]}" });
	const char *hash =
		say((struct said){ .type = "select_menu",
	                           .entity = DISCORD,
	                           .metadata = "{\"custom_id\":\"poll:vote:7\",\"values\":[\"v1\"]}" });
	const char *none = say((struct said){ .type = "interaction", .entity = DISCORD, .metadata = "{}" });
	const char *unknown = say((struct said){
		.type = "modal_submit", .entity = DISCORD, .metadata = "{\"custom_id\":\"nosuch:a:b\"}" });
	char *ref = text_of("\"reply_ref\":\"ref-%s\"", slash);

	(void)state;
	runs(slash, "command memories !memories [\"a b\", \"c\"]");
	CARRIES("memories", slash, ref, "\"parameters\":[\"a b\",\"c\"]");
	runs(button, "interaction memories !memories [\"buy\", \"item_1\"]");
	CARRIES("memories", button, "\"trigger\":\"interaction\"", "\"values\":[\"v1\"]");
	runs(hash, "interaction calendar #poll [\"vote\", \"7\"]");
	refused(none, "unknown_command");
	refused(unknown, "unknown_command");
	told("discord", none, "This is not available here.", true);
	told("discord", unknown, "nosuch is not available here.", true);
	free(ref);
}

/* router 60 */
static void aliases_are_expanded_and_loops_end(void **state)
{
	const char *id;

	(void)state;
	refused(say((struct said){ .text = "!q 7" }), "unknown_command");
	change("command_aliases", "INSERT INTO command_aliases (community_id, alias, target_command) VALUES "
	                          "(2, 'Q', '!memories get'), "
	                          "(2, 'one', '!memories add {arg1} by {user} {arg2}'), (2, 'a', '!b'), (2, "
	                          "'b', '!a'), (2, 'memories', '!song'), "
	                          "(2, 's1', '!s2'), (2, 's2', '!s3'), (2, 's3', '!s4'), (2, 's4', '!s5'), "
	                          "(2, 's5', '!song five'), "
	                          "(2, 's0', '!s1'), (3, 'dog', '!memories')");
	runs(say((struct said){ .text = "!q 7" }), "command memories !memories [\"get\", \"7\"]");
	runs(say((struct said){ .text = "!one \"a b\" c" }),
	     "command memories !memories [\"add\", \"a b\", \"by\", \"n7\", \"c\"]");
	id = say((struct said){ .text = "!a" });
	refused(id, "alias_loop");
	check_is(id, "alias", "ok", "false");
	runs(say((struct said){ .text = "!s1 z" }), "command music !song [\"five\", \"z\"]");
	refused(say((struct said){ .text = "!s0" }), "alias_loop");
	refused(say((struct said){ .text = "#q" }), "unknown_command");
	refused(say((struct said){ .text = "!dog" }), "unknown_command");
	runs(say((struct said){ .text = "!memories" }),
	     "command memories !memories []"); /* a command's name wins */
	id = say((struct said){ .type = "slashCommand", .entity = DISCORD, .text = "/q 8" });
	runs(id, "command memories !memories [\"get\", \"8\"]");
	change("command_aliases",
	       "UPDATE command_aliases SET target_command = '!song' WHERE lower(alias) = 'q'");
	runs(say((struct said){ .text = "!q 7" }), "command music !song [\"7\"]");
}

/* router 58, sections 6 and 8 */
static void who_may_run_what_is_checked_in_order(void **state)
{
	const char *role = say((struct said){ .text = "!mods" });
	const char *account = say((struct said){ .text = "!linked" });
	const char *id;

	(void)state;
	refused(role, "denied_role");
	check_is(role, "deny_list", "ok", "true");
	check_is(role, "role", "needs", "moderator");
	check_is(role, "role", "role", "member");
	refused(account, "auth_required");
	refused(say((struct said){ .text = "!linked", .user = "70" }), "auth_required");
	change("identities", "INSERT INTO identities (platform, user_id, person) VALUES ('twitch', '70', 1), "
	                     "('discord', '71', 1)");
	runs(say((struct said){ .text = "!linked", .user = "70" }), "command memories !linked []");
	runs(say((struct said){ .text = "!mods", .roles = "\"owner\"" }), "command memories !mods []");

	sql_run(st.sql, "INSERT INTO community_labels (community_id, platform, user_id, label, expires_at, "
	                "applied_by) VALUES "
	                "(2, 'twitch', '20', 'dj', NULL, 'o'), (2, 'twitch', '21', 'dj', now() - interval '1 "
	                "s', 'o'), "
	                "(3, 'twitch', '22', 'dj', NULL, 'o')");
	sql_run(st.sql, "INSERT INTO community_members (community_id, platform, user_id, role) VALUES (2, "
	                "'twitch', '30', 'owner')");
	permit("!mods", TWITCH, true,
	       "{\"min_role\":\"member\",\"labels\":[\"DJ\"],\"deny_users\":[\"30\"]}");
	runs(say((struct said){ .text = "!mods", .user = "20" }), "command memories !mods []");
	refused(say((struct said){ .text = "!mods", .user = "21" }), "denied_label");
	refused(say((struct said){ .text = "!mods", .user = "22" }), "denied_label");
	refused(say((struct said){ .text = "!mods", .user = "30" }), "denied_user");
	permit("!mods", TWITCH, true, "{\"min_role\":\"owner\",\"allow_users\":[\"40\"]}");
	runs(say((struct said){ .text = "!mods", .user = "40" }), "command memories !mods []");
	runs(say((struct said){ .text = "!mods", .user = "30" }), "command memories !mods []");
	/* What a platform calls owner is admin here: the owner is a stored role. */
	id = say((struct said){ .text = "!mods", .user = "41", .roles = "\"owner\"" });
	refused(id, "denied_role");
	check_is(id, "role", "role", "admin");
	permit("!mods", TWITCH, true, "{}");
}

/* router, section 6 */
static void in_a_context_commands_act_elsewhere_without_the_channels_roles(void **state)
{
	const char *id;

	(void)state;
	runs(say((struct said){ .text = "!mods", .user = "80", .roles = "\"moderator\"" }),
	     "command memories !mods []");
	change("community_contexts",
	       "INSERT INTO community_contexts (platform, user_id, entity, community_id, expires_at) "
	       "VALUES ('twitch', '80', '" TWITCH "', 3, now() + interval '1 h'), "
	       "('twitch', '81', '" TWITCH "', 3, now() - interval '1 s')");
	id = say((struct said){ .text = "!memories", .user = "80" });
	runs(id, "command memories !memories []");
	assert_int_equal(
		sql_int(st.sql, "SELECT community_id FROM command_executions WHERE event_id = '%s'", id), 3);
	CARRIES("memories", id, "\"community_id\":3", "\"name\": \"dogs\"", "\"entity\":\"" TWITCH "\"",
	        "\"bot_account_id\":\"b9\"");
	refused(say((struct said){ .text = "!mods", .user = "80", .roles = "\"moderator\"" }), "denied_role");
	id = say((struct said){ .text = "!memories", .user = "81" });
	runs(id, "command memories !memories []");
	assert_int_equal(
		sql_int(st.sql, "SELECT community_id FROM command_executions WHERE event_id = '%s'", id), 2);
	change("community_contexts", "DELETE FROM community_contexts");
	runs(say((struct said){ .text = "!mods", .user = "80", .roles = "\"moderator\"" }),
	     "command memories !mods []");
}

/* router, section 6: direct messages, and an entity that is switched off */
static void direct_messages_must_be_served_explicitly(void **state)
{
	(void)state;
	refused(say((struct said){ .text = "!memories", .entity = "discord:DM:d1" }), "not_monitored");
	change("servers", "INSERT INTO servers (owner, platform, server_id) VALUES ('o', 'discord', 'DM')");
	refused(say((struct said){ .text = "!memories", .entity = "discord:DM:d1" }), "not_enabled");
	assert_int_equal(sql_int(st.sql, "SELECT community_id FROM entities WHERE address = 'discord:DM:d1'"),
	                 1);
	change("entities", "UPDATE entities SET is_active = false WHERE address = 'discord:DM:d1'");
	refused(say((struct said){ .text = "!memories", .entity = "discord:DM:d1" }), "entity_inactive");
}

/* router, section 9 */
static void notices_are_private_once_a_minute_and_in_the_channels_words(void **state)
{
	const char *first = say((struct said){ .text = "!mods", .entity = DISCORD, .user = "90" });
	const char *second = say((struct said){ .text = "!mods", .entity = DISCORD, .user = "90" });
	const char *other = say((struct said){ .text = "!mods", .entity = DISCORD, .user = "91" });
	const char *twitch = say((struct said){ .text = "!mods", .user = "90" });
	const char *slash = say(
		(struct said){ .type = "slashCommand", .text = "/mods", .entity = DISCORD, .user = "90" });
	const char *limited, *silent, *account;

	(void)state;
	told("discord", first, "You may not use !mods here.", true);
	told("discord", other, "You may not use !mods here.", true);
	told("discord", slash, "You may not use /mods here.", true);
	refused(second, "denied_role");
	refused(twitch, "denied_role");
	account = say((struct said){ .text = "!linked", .entity = DISCORD, .user = "90" });
	told("discord", account, "Link your account first: !identity link", true);
	runs(say((struct said){ .text = "!few", .entity = DISCORD, .user = "90" }),
	     "command memories !few []");
	change("entities", "UPDATE entities SET config = '{\"messages\":{\"rate_limited\":\"{command}? "
	                   "Later, in less than a "
	                   "minute: {nothing}\"}}' WHERE address = '" DISCORD "'");
	limited = say((struct said){ .text = "!few", .entity = DISCORD, .user = "90" });
	refused(limited, "rate_limited");
	told("discord", limited, "!few? Later, in less than a minute: {nothing}", true);
	check_is(limited, "rate_limit", "limit", "1");

	change("entities", "UPDATE entities SET config = '{\"silent\":true}' WHERE address = '" DISCORD "'");
	silent = say((struct said){ .text = "!mods", .entity = DISCORD, .user = "92" });
	slash = say(
		(struct said){ .type = "slashCommand", .text = "/mods", .entity = DISCORD, .user = "92" });
	told("discord", slash, "You may not use /mods here.", true);
	refused(silent, "denied_role");
	untold("discord", silent);
	untold("discord", second);
	untold("twitch", twitch);
}

/* router 62: the decision and the notice of a refused event */
static void a_refusal_delivered_again_is_the_same_refusal(void **state)
{
	const char *id = "t:again", *end;
	char session[ID_TEXT], message[ID_TEXT];

	(void)state;
	for (int i = 0; i < 3; i++)
		(void)say((struct said){
			.type = "slashCommand", .text = "/nosuch", .entity = DISCORD, .id = id });
	end = say((struct said){ .type = "slashCommand", .text = "/nosuch", .entity = DISCORD });
	told("discord", end, "/nosuch is not available here.", true);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM event_decisions WHERE event_id = '%s'", id),
	                 1);
	id_session(str_of(id), session);
	id_outbound(str_of(session), -1, 0, message);
	assert_int_equal(outbounds("discord", message), 3); /* one id: the collector sends it once */
}

/* router 87, the router's part: many rows of one name, each community its own */
static void a_name_may_have_a_row_in_every_community(void **state)
{
	(void)state;
	change("commands", "INSERT INTO commands (prefix, command, location, module_id, location_url) SELECT "
	                   "'!', 'greet', "
	                   "'internal', 'workflow:' || i, 'kafka:workflow' FROM generate_series(1, 100) i");
	sql_run(st.sql, "INSERT INTO command_permissions (command_id, entity_id) SELECT c.id, e.entity_id "
	                "FROM commands c, "
	                "entities e WHERE c.module_id = 'workflow:90' AND e.address = 'discord:G:'");
	change("command_permissions",
	       "INSERT INTO command_permissions (command_id, entity_id) SELECT c.id, e.entity_id "
	       "FROM commands c, entities e WHERE c.module_id = 'workflow:91' AND e.address = '" TWITCH "'");
	runs(say((struct said){ .text = "!greet" }), "command workflow !greet []");
	assert_int_equal(
		sql_int(st.sql,
	                "SELECT count(*) FROM command_executions e JOIN commands c ON c.id = e.command_id "
	                "WHERE c.module_id = 'workflow:91'"),
		1);
	runs(say((struct said){ .text = "!greet", .entity = "discord:G:c9" }), "command workflow !greet []");
	refused(say((struct said){ .text = "!greet", .entity = "twitch:1002" }), "not_enabled");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_prefix_reaches_its_own_row),
		cmocka_unit_test(plain_chat_and_odd_events_do_no_harm),
		cmocka_unit_test(the_channels_row_decides_then_the_servers),
		cmocka_unit_test(an_unknown_command_is_silence_in_chat_and_an_answer_to_a_slash_command),
		cmocka_unit_test(every_command_counts_once),
		cmocka_unit_test(event_modules_fire_on_their_types_where_they_are_enabled),
		cmocka_unit_test(slash_commands_and_buttons_name_their_command),
		cmocka_unit_test(aliases_are_expanded_and_loops_end),
		cmocka_unit_test(who_may_run_what_is_checked_in_order),
		cmocka_unit_test(in_a_context_commands_act_elsewhere_without_the_channels_roles),
		cmocka_unit_test(direct_messages_must_be_served_explicitly),
		cmocka_unit_test(notices_are_private_once_a_minute_and_in_the_channels_words),
		cmocka_unit_test(a_refusal_delivered_again_is_the_same_refusal),
		cmocka_unit_test(a_name_may_have_a_row_in_every_community),
	};

	return !!cmocka_run_group_tests_name("pipeline", tests, up, down);
}

/* test_cli.c - waddle: every subcommand, its mistakes, and what it says when nothing answers. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ids.h"
#include "stack.h"
#include "str.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static struct stack st;

static int set_up(void **state)
{
	(void)state;
	stack_open(&st, "cli", STACK_SCHEMA | STACK_TOPICS);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	stack_close(&st);
	return 0;
}

/* --- running it -------------------------------------------------------------------------------- */

static char *out; /* of the last run, both streams; free()d by the next */

/* Words in one text, split at '|'. */
static int run(const char *words)
{
	static char text[1024];
	const char *list[24];
	size_t n = 0;
	char *at = text;

	snprintf(text, sizeof(text), "%s", words);
	while (at != NULL && n < ARRAY_LEN(list) - 1) {
		list[n++] = at;
		at = strchr(at, '|');
		if (at != NULL)
			*at++ = '\0';
	}
	if (words[0] == '\0')
		n = 0;
	list[n] = NULL;
	free(out);
	out = NULL;
	return stack_waddle(&st, &out, list);
}

static void says(const char *text)
{
	if (strstr(out, text) == NULL)
		print_error("not said: \"%s\" in:\n%s\n", text, out);
	assert_non_null(strstr(out, text));
}

static void says_not(const char *text)
{
	if (strstr(out, text) != NULL)
		print_error("said: \"%s\" in:\n%s\n", text, out);
	assert_null(strstr(out, text));
}

static void fine(const char *words)
{
	int status = run(words);

	if (status != 0)
		print_error("%s: %d: %s\n", words, status, out);
	assert_int_equal(status, 0);
}

/* A value out of its JSON, by a path that PostgreSQL knows; free() */
static char *json(const char *path)
{
	return sql_text(st.sql, "SELECT ($json$%s$json$::jsonb) #>> '%s'", out, path);
}

static void json_is(const char *path, const char *want)
{
	char *got = json(path);

	if (got == NULL || strcmp(got, want) != 0)
		print_error("%s in %s\n", path, out);
	assert_non_null(got);
	assert_string_equal(got, want);
	free(got);
}

/* --- help and mistakes ------------------------------------------------------------------------- */

static const char *const subcommands[] = {
	"migrate",          "topics|create", "topics|list",  "keys|create",   "keys|list",
	"keys|revoke",      "servers|add",   "servers|list", "commands|list", "commands|enable",
	"commands|disable", "chat",          "why",
};

static void help_lists_every_subcommand_and_explains_each(void **state)
{
	(void)state;
	assert_int_equal(run(""), 2);
	says("usage: waddle <command>");
	fine("help");
	for (size_t i = 0; i < ARRAY_LEN(subcommands); i++) {
		char first[32], words[64], usage[64];

		snprintf(first, sizeof(first), "  %.*s ", (int)strcspn(subcommands[i], "|"), subcommands[i]);
		fine("--help");
		says(first);
		snprintf(words, sizeof(words), "%s|--help", subcommands[i]);
		fine(words);
		snprintf(usage, sizeof(usage), "usage: waddle %s", subcommands[i]);
		if (strchr(usage, '|') != NULL)
			*strchr(usage, '|') = ' ';
		says(usage);
	}
	fine("keys|--help");
	says("create <name> --type <type>");
}

static void wrong_words_end_with_status_2_and_say_what_is_wrong(void **state)
{
	static const struct {
		const char *words, *text;
	} cases[] = {
		{ "fly", "there is no command \"fly\"" },
		{ "keys", "usage: waddle keys" },
		{ "keys|make", "waddle keys: there is no command \"make\"" },
		{ "migrate|--fast", "there is no option \"--fast\"" },
		{ "migrate|-n", "there is no option \"-n\"" },
		{ "migrate|--dry-run=yes", "--dry-run takes no value" },
		{ "migrate|--dir", "--dir needs a value" },
		{ "migrate|now", "\"now\" is too much" },
		{ "keys|create", "something is missing: <name> --type <type>" },
		{ "keys|create|a", "--type must be collector, interaction, webhook or admin" },
		{ "keys|create|a|--type|root", "not \"root\"" },
		{ "keys|create|a|--type|admin|--rate-limit|many", "--rate-limit must be a number from 0" },
		{ "keys|create|a|--type=admin|--expires-days=0", "--expires-days must be a number from 1" },
		{ "keys|revoke", "something is missing: <name>" },
		{ "topics|create|--partitions|nosuch=3", "there is no topic \"nosuch\"" },
		{ "topics|create|--partitions|events=0", "\"events=0\" is not" },
		{ "topics|create|--partitions|events=x,default=2", "\"events=x\" is not" },
		{ "topics|create|--replicas|10", "--replicas must be a number from 1 to 9" },
		{ "servers|add|twitch", "something is missing" },
		{ "servers|add|Twitch!|1", "is not a platform" },
		{ "servers|add|twitch|1|2", "twitch has channels only" },
		{ "servers|add|discord|42", "--owner must be given on discord" },
		{ "commands|enable|memories", "something is missing" },
		{ "chat|--role|king", "there is no role \"king\"" },
		{ "why", "something is missing: <event-id>" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int status = run(cases[i].words);

		if (status != 2)
			print_error("%s: %d\n", cases[i].words, status);
		assert_int_equal(status, 2);
		says(cases[i].text);
	}
}

/* One run with an environment of its own. */
static int run_with(const char *const *env, const char *const *argv)
{
	struct child *c = child_new("waddle-alone", argv, env);
	FILE *log;
	int status = child_run(c, 60000);

	free(out);
	out = XNEW_N(char, 65536);
	log = fopen(child_log(c), "re");
	assert_non_null(log);
	assert_true(fread(out, 1, 65535, log) > 0);
	fclose(log);
	child_free(c);
	return status;
}

static void without_servers_each_subcommand_fails_with_one_clear_line(void **state)
{
	static const char *const calls[][6] = {
		{ "waddle", "migrate" },
		{ "waddle", "keys", "list" },
		{ "waddle", "keys", "create", "a", "--type=admin" },
		{ "waddle", "keys", "revoke", "a" },
		{ "waddle", "servers", "list" },
		{ "waddle", "servers", "add", "twitch", "1" },
		{ "waddle", "commands", "list" },
		{ "waddle", "commands", "enable", "a", "b" },
		{ "waddle", "why", "x" },
	};
	static const char *const nowhere[] = { "DATABASE_URL=postgresql://u:secret@127.0.0.1:1/x",
		                               "KAFKA_BROKERS=127.0.0.1:1", NULL };
	static const char *const unset[] = { "PGHOST=/nowhere", NULL };
	static const char *const topics[] = { "waddle", "topics", "list", NULL };
	static const char *const chat[] = { "waddle", "chat", NULL };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		assert_int_equal(run_with(unset, calls[i]), 1);
		assert_string_equal(out,
		                    "waddle: DATABASE_URL is not set (postgresql://user@host/database)\n");
		assert_int_equal(run_with(nowhere, calls[i]), 1);
		says("waddle: no database: connection to server at \"127.0.0.1\", port 1 failed");
		says_not("secret");
		assert_ptr_equal(strchr(out, '\n') + 1, out + strlen(out));
	}
	assert_int_equal(run_with(nowhere, topics), 1);
	says("waddle: list of topics: ");
	assert_int_equal(run_with(nowhere, chat), 1);
	says("waddle: waddle.outbound.terminal: ");
}

static void a_setting_that_is_wrong_is_named(void **state)
{
	static const char *const env[] = { "DATABASE_URL=postgresql://x", "LOG_LEVEL=loud", NULL };
	static const char *const argv[] = { "waddle", "keys", "list", NULL };

	(void)state;
	assert_int_equal(run_with(env, argv), 1);
	says("LOG_LEVEL");
}

/* --- topics ------------------------------------------------------------------------------------ */

static void topics_are_made_once_and_listed(void **state)
{
	char *n;

	(void)state;
	fine("topics|create|--partitions|default=4");
	says("waddle.outbound.terminal");
	says_not("created");
	fine("topics|list|--json");
	n = sql_text(st.sql,
	             "SELECT count(*) FROM jsonb_array_elements($json$%s$json$::jsonb) t WHERE t->>'note' = "
	             "'' AND "
	             "(t->>'replicas')::integer = 1",
	             out);
	assert_true(strtol(n, NULL, 10) >= 26);
	free(n);
	n = sql_text(st.sql,
	             "SELECT string_agg(t->>'partitions', ' ' ORDER BY t->>'topic') FROM "
	             "jsonb_array_elements($json$%s$json$::jsonb) t WHERE t->>'topic' IN ('waddle.events', "
	             "'waddle.registry')",
	             out);
	assert_string_equal(n, "4 1");
	free(n);
	fine("topics|list");
	says("waddle.events");
}

/* --- keys -------------------------------------------------------------------------------------- */

static void a_key_is_shown_once_and_only_its_hash_is_kept(void **state)
{
	char key[64];

	(void)state;
	fine("keys|create|collector of cats|--type|collector|--rate-limit|500|--expires-days|30|--json");
	json_is("{key_type}", "collector");
	{
		char *text = json("{key}");

		snprintf(key, sizeof(key), "%s", text);
		free(text);
	}
	assert_int_equal(strlen(key), 48);
	assert_memory_equal(key, "wbot_", 5);
	assert_int_equal(
		sql_int(st.sql,
	                "SELECT count(*) FROM service_accounts WHERE key_sha256 = sha256('%s') AND "
	                "rate_limit = 500 AND key_type = 'collector' AND is_active AND NOT may_act AND "
	                "expires_at BETWEEN now() + interval '29 days' AND now() + interval '31 days'",
	                key),
		1);
	fine("keys|list");
	says("collector of cats");
	says_not(key);
	fine("keys|list|--json");
	json_is("{0,state}", "active");
	json_is("{0,per_hour}", "500");
	says_not(key);
	assert_int_equal(sql_int(st.sql,
	                         "SELECT count(*) FROM service_accounts a WHERE a::text LIKE '%%' || "
	                         "substr('%s', 10) || '%%'",
	                         key),
	                 0);

	assert_int_equal(run("keys|create|collector of cats|--type|admin"), 1);
	says("there is a key named \"collector of cats\" already");
	fine("keys|create|actor|--type|interaction|--may-act");
	assert_int_equal(
		sql_int(st.sql, "SELECT count(*) FROM service_accounts WHERE may_act AND expires_at IS NULL"),
		1);

	fine("keys|revoke|collector of cats");
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM service_accounts WHERE is_active"), 1);
	fine("keys|list|--json");
	json_is("{1,state}", "revoked");
	assert_int_equal(run("keys|revoke|nobody"), 1);
	says("there is no key named \"nobody\"");
}

/* --- servers and commands ---------------------------------------------------------------------- */

static void serving_a_channel_makes_all_it_needs_and_may_be_repeated(void **state)
{
	(void)state;
	sql_run(st.sql, "INSERT INTO commands (command, prefix, location_url, location, module_id) VALUES "
	                "('memories', '!', 'kafka:memories', 'internal', 'memories'), "
	                "('calendar', '!', 'kafka:calendar', 'internal', 'calendar'), "
	                "('greet', '#', 'kafka:workflow', 'community', 'workflow:1')");
	fine("servers|add|twitch|141981764|--community|Cat "
	     "Café|--owner|141981764|--name|cats|--bot|9000|--enable|memories,#greet");
	says("twitch:141981764 is served");
	says("enabled 2 commands");
	assert_int_equal(
		sql_int(st.sql,
	                "SELECT count(*) FROM servers s JOIN entities e ON e.address = 'twitch:141981764' "
	                "JOIN communities c ON c.id = e.community_id AND c.name = 'Cat Café' "
	                "JOIN community_members m ON m.community_id = c.id AND m.role = 'owner' AND "
	                "m.user_id = '141981764' "
	                "JOIN twitch_channels t ON t.channel_id = s.channel AND t.broadcaster_name = 'cats' "
	                "AND t.is_active "
	                "WHERE s.platform = 'twitch' AND s.channel = '141981764' AND s.server_id IS NULL AND "
	                "s.is_active "
	                "AND (s.config->>'community_id')::integer = c.id AND e.config->>'bot_account_id' = "
	                "'9000'"),
		1);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM command_permissions WHERE is_enabled"), 2);

	/* Again, with less: what was given stays; what was switched off is on again. */
	sql_run(st.sql, "UPDATE servers SET is_active = false; UPDATE twitch_channels SET is_active = false");
	fine("servers|add|twitch|141981764");
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM servers WHERE is_active"), 1);
	assert_int_equal(
		sql_int(st.sql,
	                "SELECT count(*) FROM twitch_channels WHERE is_active AND broadcaster_name = 'cats'"),
		1);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM entities WHERE community_id > 1"), 1);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM communities"), 2);

	/* The same community in another case, by another owner: the first one's owner stays. */
	fine("servers|add|terminal|demo|--community|CAT CAFÉ|--owner|root");
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM communities"), 2);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM community_members WHERE role = 'owner'"), 1);
	fine("servers|add|discord|42|--owner|7|--name|Guild");
	fine("servers|add|discord|42|1001|--owner|7");
	fine("servers|add|slack|T1|--owner|U1");
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM entities WHERE address IN ('discord:42:', "
	                                 "'discord:42:1001', 'slack:T1:')"),
	                 3);
	assert_int_equal(
		sql_int(st.sql,
	                "SELECT count(*) FROM discord_guilds WHERE guild_id = '42' AND name = 'Guild'"),
		1);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM slack_guilds WHERE guild_id = 'T1'"), 1);
	fine("servers|list");
	says("Cat Café");
	fine("servers|list|--json");
	json_is("{4,channel}", "141981764");
	json_is("{4,commands}", "2");
	json_is("{4,active}", "true");
}

static void a_command_that_is_not_registered_yet_is_waited_for(void **state)
{
	char *url = text_of("DATABASE_URL=%s", st.url);
	const char *env[] = { url, NULL };
	const char *argv[] = { "waddle",   "servers", "add",    "terminal", "late",
		               "--enable", "tardy",   "--wait", "60",       NULL };
	struct child *c = child_new("waddle-late", argv, env);

	(void)state;
	assert_int_equal(run("servers|add|terminal|early|--enable|tardy,memories|--wait|0"), 1);
	says("terminal:early is served");
	says("!tardy is not registered: start its module");
	assert_int_equal(
		sql_int(st.sql,
	                "SELECT count(*) FROM command_permissions p JOIN entities e USING (entity_id) "
	                "WHERE e.address = 'terminal:early'"),
		0);

	child_start(c);
	child_wait_log(c, "terminal:late is served", 30000);
	sql_run(st.sql, "INSERT INTO commands (command, prefix, location_url, location, module_id) VALUES "
	                "('tardy', '!', 'kafka:tardy', 'internal', 'tardy')");
	assert_int_equal(child_wait(c, 30000), 0);
	assert_true(child_log_has(c, "enabled 1 command\n"));
	child_free(c);
	free(url);
}

static void a_server_that_cannot_be_added_leaves_nothing_behind(void **state)
{
	int64_t before = sql_int(st.sql, "SELECT count(*) FROM communities");

	(void)state;
	sql_run(st.sql, "ALTER TABLE twitch_channels ADD CHECK (channel_id <> '666')");
	assert_int_equal(run("servers|add|twitch|666|--community|Doomed"), 1);
	says("violates check constraint");
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM communities"), before);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM servers WHERE channel = '666'"), 0);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM entities WHERE channel_id = '666'"), 0);
}

static void commands_are_listed_enabled_and_disabled(void **state)
{
	(void)state;
	fine("commands|list");
	says("!memories");
	says("#greet");
	fine("commands|disable|memories|twitch:141981764");
	says("disabled 1 command in twitch:141981764");
	assert_int_equal(
		sql_int(st.sql,
	                "SELECT count(*) FROM command_permissions p JOIN commands c ON c.id = p.command_id "
	                "JOIN entities e USING (entity_id) WHERE e.address = 'twitch:141981764' AND "
	                "c.command = 'memories' AND NOT p.is_enabled"),
		1);
	fine("commands|enable|!MEMORIES, calendar|twitch:141981764");
	says("enabled 2 commands");
	/* The server's row holds for its channels, until they have one of their own. */
	fine("commands|enable|calendar|discord:42:");
	fine("commands|disable|memories|discord:42:1001");
	fine("commands|list|--entity|discord:42:1001|--json");
	json_is("{0,command}", "!calendar");
	json_is("{0,by}", "server");
	json_is("{0,enabled}", "true");
	json_is("{2,by}", "channel");
	json_is("{2,enabled}", "false");
	json_is("{1,by}", "none");
	fine("commands|enable|all|terminal:demo");
	says("enabled 4 commands");

	assert_int_equal(run("commands|enable|nosuch|terminal:demo"), 1);
	says("!nosuch is not registered");
	assert_int_equal(run("commands|enable|memories|terminal:nowhere"), 1);
	says("there is no entity \"terminal:nowhere\"");
	assert_int_equal(run("commands|enable|,|terminal:demo"), 1);
	says("\"\" is not a command's name");
	assert_int_equal(run("commands|list|--entity|x"), 1);
	says("there is no entity \"x\"");
}

/* --- chat -------------------------------------------------------------------------------------- */

/* Lines into `waddle chat` from a pipe. */
static struct child *chat_from_pipe(const char *name, const char *lines, const char *options)
{
	char *brokers = text_of("KAFKA_BROKERS=%s", st.kafka),
	     *prefix = text_of("TOPIC_PREFIX=%s", st.prefix);
	char *url = text_of("DATABASE_URL=%s", st.url);
	char *script = text_of("printf '%s' | '%s/waddle' chat %s", lines, st.build, options);
	const char *argv[] = { "/bin/sh", "-c", script, NULL };
	const char *env[] = { brokers, prefix, url, NULL };
	struct child *c = child_new(name, argv, env);

	free(brokers);
	free(prefix);
	free(url);
	free(script);
	return c;
}

/* The n-th event that was said (from 0), as JSON in `out`. */
static void event_said(size_t n)
{
	struct probe_topic t;
	const struct probe_msg *last = NULL;

	probe_wait(st.kafka, stack_topic(&st, "waddle.events"), n + 1, 30000, &t);
	for (size_t i = 0; i < t.n; i++)
		if (last == NULL || t.msgs[i].sent_at_ms >= last->sent_at_ms)
			last = &t.msgs[i];
	assert_non_null(last);
	free(out);
	out = text_of("%s", last->value);
	assert_string_equal(last->key, "terminal:demo");
	assert_string_equal(probe_header(last, "ce_type"), "waddle.event.v1");
	probe_free(&t);
}

/* What a router would send: an answer to the event in `out`. */
static void answer(const char *reply_ref, const char *text, const char *more)
{
	char id[ID_TEXT], *body;

	id_random(id);
	body = text_of("{\"message_id\":\"%s\",\"kind\":\"chat\",\"entity\":\"terminal:demo\",\"channel_id\":"
	               "\"demo\","
	               "\"text\":\"%s\",\"reply_ref\":\"%s\"%s}",
	               id, text, reply_ref, more);
	probe_send(st.kafka, stack_topic(&st, "waddle.outbound.terminal"), -1, "demo", body, strlen(body),
	           NULL);
	free(body);
}

static size_t said_before(void)
{
	return (size_t)probe_count(st.kafka, stack_topic(&st, "waddle.events"));
}

static void a_piped_command_waits_for_its_answer_and_shows_the_time_it_took(void **state)
{
	size_t n = said_before();
	struct child *c =
		chat_from_pipe("chat", "hello\\n\\n!memories add note \"a b\" ä\\n",
	                       "--expect-reply --user ada --role moderator --settle 300 --timeout 30000");
	char *ref;

	(void)state;
	child_start(c);
	event_said(n + 1);
	json_is("{message_content}", "!memories add note \"a b\" ä");
	json_is("{platform}", "terminal");
	json_is("{channel_id}", "demo");
	json_is("{entity}", "terminal:demo");
	json_is("{user,id}", "ada");
	json_is("{user,roles}", "[\"moderator\", \"member\"]");
	json_is("{message_type}", "chatMessage");
	ref = json("{reply_ref}");
	/* Somebody else's, one to an older run, then ours in two parts, the second private. */
	answer("somebody", "not for us", "");
	answer("0f0e0d0c-0000-4000-8000-000000000000/2", "not for us either", "");
	answer(ref, "Saved note #1\\u001b[31m: a b", "");
	answer(ref, "part two", ",\"private\":true");
	assert_int_equal(child_wait(c, 30000), 0);
	assert_true(child_log_has(c, "> hello\n> !memories add note"));
	assert_true(child_log_has(c, "Saved note #1 [31m: a b  ("));
	assert_true(child_log_has(c, "part two  ("));
	assert_true(child_log_has(c, " ms, private)\n"));
	assert_false(child_log_has(c, "not for us"));
	assert_int_equal(said_before(), n + 2);
	child_free(c);
	free(ref);
}

static void an_unanswered_command_is_a_failure_when_an_answer_was_expected(void **state)
{
	struct child *c = chat_from_pipe("chat-silent", "!memories list\\n", "--timeout 300 --expect-reply");

	(void)state;
	child_start(c);
	assert_int_equal(child_wait(c, 30000), 1);
	assert_true(child_log_has(c, "(no answer within 300 ms)"));
	assert_true(child_log_has(c, "waddle: 1 command was not answered"));
	child_free(c);
	c = chat_from_pipe("chat-patient", "!memories list\\n", "--timeout 300");
	child_start(c);
	assert_int_equal(child_wait(c, 30000), 0);
	child_free(c);
	c = chat_from_pipe("chat-plain", "hello\\n", "--timeout 300 --expect-reply");
	child_start(c);
	assert_int_equal(child_wait(c, 30000), 0);
	child_free(c);
}

static void a_channel_that_is_not_served_is_pointed_out(void **state)
{
	struct child *c = chat_from_pipe("chat-unserved", "hello\\n", "--channel nowhere");

	(void)state;
	child_start(c);
	assert_int_equal(child_wait(c, 30000), 0);
	assert_true(
		child_log_has(c, "terminal:nowhere is not served yet: waddle servers add terminal nowhere"));
	child_free(c);
	c = chat_from_pipe("chat-bytes", "\\377\\n", "");
	child_start(c);
	assert_int_equal(child_wait(c, 30000), 1);
	assert_true(child_log_has(c, "the line is not UTF-8"));
	child_free(c);
}

/* Reads from the terminal until the text has come; everything read stays in `seen`. */
static char seen[65536];
static void wait_seen(int fd, const char *text)
{
	size_t n = strlen(seen);

	for (int64_t end = harness_now_ms() + 30000; strstr(seen, text) == NULL;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t got;

		if (harness_now_ms() > end)
			harness_fail("not on the terminal: \"%s\", but: %s", text, seen);
		if (poll(&p, 1, 100) <= 0)
			continue;
		got = read(fd, seen + n, sizeof(seen) - 1 - n);
		if (got <= 0)
			harness_fail("the terminal has gone before \"%s\": %s", text, seen);
		n += (size_t)got;
		seen[n] = '\0';
	}
}

static void type(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static bool has_ended(void *arg)
{
	int *status = arg;

	return waitpid(status[1], status, WNOHANG) == status[1];
}

/* waddle chat on a terminal of its own. */
static int on_terminal(int *ret_fd)
{
	char *brokers = text_of("KAFKA_BROKERS=%s", st.kafka),
	     *prefix = text_of("TOPIC_PREFIX=%s", st.prefix);
	char *program = text_of("%s/waddle", st.build);
	struct winsize size = { .ws_row = 24, .ws_col = 100 };
	pid_t pid = forkpty(ret_fd, NULL, NULL, &size);

	assert_true(pid >= 0);
	if (pid == 0) {
		char term[] = "TERM=xterm", name[] = "waddle", chat[] = "chat", user[] = "--user=ada";
		char *argv[] = { name, chat, user, NULL };
		char *env[] = { brokers, prefix, term, NULL };

		execve(program, argv, env);
		_exit(127);
	}
	free(brokers);
	free(prefix);
	free(program);
	seen[0] = '\0';
	return pid;
}

static void at_a_terminal_answers_appear_above_the_line_being_typed(void **state)
{
	size_t n = said_before();
	int fd, status[2] = { 0, 0 };
	char *ref;

	(void)state;
	status[1] = on_terminal(&fd);
	wait_seen(fd, "terminal:demo as ada");
	wait_seen(fd, "> ");
	type(fd, "!memories add note größe\n");
	event_said(n);
	json_is("{message_content}", "!memories add note größe");
	ref = json("{reply_ref}");
	type(fd, "half a li");
	wait_seen(fd, "half a li");
	answer(ref, "Saved note #7", "");
	wait_seen(fd, "Saved note #7  (");
	type(fd, "ne\n");
	event_said(n + 1);
	json_is("{message_content}", "half a line");
	type(fd, "\x04");
	wait_for("the end of the chat", has_ended, status, 30000);
	assert_true(WIFEXITED(status[0]));
	assert_int_equal(WEXITSTATUS(status[0]), 0);
	close(fd);
	free(ref);
}

static void a_signal_ends_the_chat_and_leaves_the_terminal_in_order(void **state)
{
	int fd, status[2] = { 0, 0 };
	struct termios before, after;

	(void)state;
	status[1] = on_terminal(&fd);
	assert_int_equal(tcgetattr(fd, &before), 0);
	wait_seen(fd, "terminal:demo as ada");
	wait_seen(fd, "> ");
	assert_int_equal(kill(status[1], SIGTERM), 0);
	wait_for("the end of the chat", has_ended, status, 30000);
	assert_true(WIFEXITED(status[0]));
	assert_int_equal(WEXITSTATUS(status[0]), 0);
	assert_int_equal(tcgetattr(fd, &after), 0);
	assert_int_equal(after.c_lflag & (ICANON | ECHO), before.c_lflag & (ICANON | ECHO));
	close(fd);
}

/* --- why --------------------------------------------------------------------------------------- */

static void add_event(const char *id, const char *processed, const char *message)
{
	sql_run(st.sql,
	        "INSERT INTO twitch_events (event_id, event_type, platform_ids, event_data, processed, "
	        "created_at, dedupe_key, "
	        "entity, message, received_at, published_at) VALUES ('%s', 'message', '{}', '{}', %s, "
	        "now() - interval '30 ms', '%s', 'twitch:141981764', %s, now() - interval '20 ms', "
	        "CASE WHEN %s THEN now() - interval '15 ms' END)",
	        id, processed, id, message, processed);
}

static void add_decision(const char *id, const char *verdict, const char *reason)
{
	sql_run(st.sql,
	        "INSERT INTO event_decisions (event_id, created_at, verdict, reason, decided_at) VALUES "
	        "('%s', now() - interval '20 ms', '%s', %s, now() - interval '10 ms')",
	        id, verdict, reason);
}

/* Of !memories; more: ", column = value" to set afterwards. */
static void add_execution(const char *event, char id[ID_TEXT], const char *more)
{
	int64_t command = sql_int(st.sql, "SELECT id FROM commands WHERE command = 'memories'");

	id_execution(str_of(event), command, 0, id);
	sql_run(st.sql,
	        "INSERT INTO command_executions (execution_id, command_id, entity_id, user_id, location_url, "
	        "session_id, "
	        "event_id, community_id, module_name, created_at, sent_at) VALUES ('%s', %lld, 1, 'u', "
	        "'kafka:memories', "
	        "gen_random_uuid(), '%s', 2, 'memories', now() - interval '20 ms', now() - interval '9 ms')",
	        id, (long long)command, event);
	sql_run(st.sql, "UPDATE command_executions SET retry_count = 0%s WHERE execution_id = '%s'", more,
	        id);
}

static void add_response(const char *execution)
{
	sql_run(st.sql,
	        "INSERT INTO module_responses (execution_id, module_name, success, response_action, "
	        "response_index, "
	        "created_at, responded_at) SELECT execution_id, 'memories', true, 'chat', 0, created_at, "
	        "now() - interval '5 ms' "
	        "FROM command_executions WHERE execution_id = '%s'",
	        execution);
}

static void add_outbox(const char *execution, const char *state, const char *error)
{
	char id[ID_TEXT];

	id_outbound(str_of(execution), 0, 0, id);
	sql_run(st.sql,
	        "INSERT INTO twitch_outbox (message_id, kind, entity, message, state, error, expires_at, "
	        "sent_at, created_at) "
	        "VALUES ('%s', 'chat', 'twitch:141981764', '{}', '%s', %s, now(), now(), now() - interval '3 "
	        "ms')",
	        id, state, error);
}

static void why_is(const char *event, const char *verdict, const char *text)
{
	char *words = text_of("why|%s|--json", event), *plain = text_of("why|%s", event), *line;

	assert_int_equal(run(words), strcmp(verdict, "unknown") == 0 ? 1 : 0);
	json_is("{verdict}", verdict);
	json_is("{event_id}", event);
	says(text);
	(void)run(plain);
	line = text_of("%s: ", verdict);
	says(line);
	says(text);
	free(line);
	free(words);
	free(plain);
}

static void why_names_the_one_reason_for_silence(void **state)
{
	char id[ID_TEXT];

	(void)state;
	why_is("twitch:never", "unknown", "Nothing is known of it");
	why_is("http:never", "unknown", "Nothing is known of it");
	why_is("x'; DROP TABLE commands; --", "unknown", "Nothing is known of it");

	add_event("twitch:unpublished", "false", "'{}'");
	why_is("twitch:unpublished", "unpublished", "not on waddle.events yet");
	add_event("twitch:kept", "true", "NULL");
	why_is("twitch:kept", "not_forwarded", "forwards none");
	add_event("twitch:plain", "true", "'{}'");
	why_is("twitch:plain", "plain", "plain chat");

	add_event("twitch:disabled", "true", "'{}'");
	add_decision("twitch:disabled", "not_enabled", "NULL");
	why_is("twitch:disabled", "not_enabled", "not enabled in this channel");
	add_decision("terminal:limited", "rate_limited", "'5 of 5 in a minute, again in 12 s'");
	why_is("terminal:limited", "rate_limited", "again in 12 s");

	add_execution("twitch:late", id,
	              ", status = 'failed', error_message = 'timeout', completed_at = now()");
	why_is("twitch:late", "timeout", "memories did not answer !memories in time");
	add_execution("twitch:broken", id,
	              ", status = 'failed', error_message = 'disk full', completed_at = now()");
	why_is("twitch:broken", "module_failed", "!memories failed in memories: disk full.");
	add_execution("twitch:asked", id, "");
	why_is("twitch:asked", "pending", "was asked to run !memories and has not answered yet");
	add_execution("twitch:waits", id, ", sent_at = NULL");
	why_is("twitch:waits", "pending", "waits its turn");

	add_execution("twitch:refused", id,
	              ", status = 'success', execution_time_ms = 4, completed_at = now()");
	add_response(id);
	add_outbox(id, "refused", "'msg_duplicate'");
	why_is("twitch:refused", "send_refused", "its message is refused at the collector: msg_duplicate");
}

static void why_shows_every_hop_of_an_answer_with_its_time(void **state)
{
	static const char *const hops[] = { "happened", "received",  "published", "decided",
		                            "sent",     "responded", "completed", "outbound" };
	char id[ID_TEXT], path[32];

	(void)state;
	sql_run(st.sql, "BEGIN"); /* one now() for all */
	add_event("twitch:good", "true", "'{}'");
	add_decision("twitch:good", "pending", "NULL");
	add_execution("twitch:good", id,
	              ", status = 'success', execution_time_ms = 16, completed_at = now() - interval '4 ms'");
	add_response(id);
	add_outbox(id, "sent", "NULL");
	sql_run(st.sql, "COMMIT");
	why_is("twitch:good", "answered", "memories ran !memories and answered after 16 ms");
	fine("why|twitch:good|--json");
	json_is("{hops,0,ms}", "0.0");
	for (size_t i = 0; i < ARRAY_LEN(hops); i++) {
		snprintf(path, sizeof(path), "{hops,%zu,hop}", i);
		json_is(path, hops[i]);
	}
	json_is("{hops,8,hop}", "delivered");
	json_is("{hops,8,detail}", "sent");
	json_is("{executions,0,status}", "success");
	json_is("{executions,0,responses}", "1");
	assert_int_equal(
		sql_int(st.sql,
	                "SELECT count(*) FROM jsonb_array_elements(($json$%s$json$::jsonb)->'hops') WITH "
	                "ORDINALITY h(x, n) JOIN jsonb_array_elements(($json$%s$json$::jsonb)->'hops') WITH "
	                "ORDINALITY "
	                "g(y, m) ON m = n + 1 WHERE (x->>'ms')::numeric > (y->>'ms')::numeric",
	                out, out),
		0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(help_lists_every_subcommand_and_explains_each),
		cmocka_unit_test(wrong_words_end_with_status_2_and_say_what_is_wrong),
		cmocka_unit_test(without_servers_each_subcommand_fails_with_one_clear_line),
		cmocka_unit_test(a_setting_that_is_wrong_is_named),
		cmocka_unit_test(topics_are_made_once_and_listed),
		cmocka_unit_test(a_key_is_shown_once_and_only_its_hash_is_kept),
		cmocka_unit_test(serving_a_channel_makes_all_it_needs_and_may_be_repeated),
		cmocka_unit_test(a_command_that_is_not_registered_yet_is_waited_for),
		cmocka_unit_test(a_server_that_cannot_be_added_leaves_nothing_behind),
		cmocka_unit_test(commands_are_listed_enabled_and_disabled),
		cmocka_unit_test(a_piped_command_waits_for_its_answer_and_shows_the_time_it_took),
		cmocka_unit_test(an_unanswered_command_is_a_failure_when_an_answer_was_expected),
		cmocka_unit_test(a_channel_that_is_not_served_is_pointed_out),
		cmocka_unit_test(at_a_terminal_answers_appear_above_the_line_being_typed),
		cmocka_unit_test(a_signal_ends_the_chat_and_leaves_the_terminal_in_order),
		cmocka_unit_test(why_names_the_one_reason_for_silence),
		cmocka_unit_test(why_shows_every_hop_of_an_answer_with_its_time),
	};
	int failed = cmocka_run_group_tests_name("cli", tests, set_up, tear_down);

	free(out);
	return !!failed;
}

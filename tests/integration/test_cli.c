/* test_cli.c - waddle: subcommands, their mistakes, and what they say when nothing answers. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli.h"
#include "str.h"

static int set_up(void **state)
{
	(void)state;
	cli_open("cli", STACK_SCHEMA | STACK_TOPICS);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	cli_close();
	return 0;
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
	assert_int_equal(cli_run(""), 2);
	cli_says("usage: waddle <command>");
	cli_fine("help");
	for (size_t i = 0; i < ARRAY_LEN(subcommands); i++) {
		char first[32], words[64], usage[64];

		snprintf(first, sizeof(first), "  %.*s ", (int)strcspn(subcommands[i], "|"), subcommands[i]);
		cli_fine("--help");
		cli_says(first);
		snprintf(words, sizeof(words), "%s|--help", subcommands[i]);
		cli_fine(words);
		snprintf(usage, sizeof(usage), "usage: waddle %s", subcommands[i]);
		if (strchr(usage, '|') != NULL)
			*strchr(usage, '|') = ' ';
		cli_says(usage);
	}
	cli_fine("keys|--help");
	cli_says("create <name> --type <type>");
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
		int status = cli_run(cases[i].words);

		if (status != 2)
			print_error("%s: %d\n", cases[i].words, status);
		assert_int_equal(status, 2);
		cli_says(cases[i].text);
	}
}

/* One run with an environment of its own. */
static int run_with(const char *const *env, const char *const *argv)
{
	struct child *c = child_new("waddle-alone", argv, env);
	FILE *log;
	int status = child_run(c, 60000);

	free(cli.out);
	cli.out = XNEW_N(char, 65536);
	log = fopen(child_log(c), "re");
	assert_non_null(log);
	assert_true(fread(cli.out, 1, 65535, log) > 0);
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
		assert_string_equal(cli.out,
		                    "waddle: DATABASE_URL is not set (postgresql://user@host/database)\n");
		assert_int_equal(run_with(nowhere, calls[i]), 1);
		cli_says("waddle: no database: connection to server at \"127.0.0.1\", port 1 failed");
		cli_says_not("secret");
		assert_ptr_equal(strchr(cli.out, '\n') + 1, cli.out + strlen(cli.out));
	}
	assert_int_equal(run_with(nowhere, topics), 1);
	cli_says("waddle: list of topics: ");
	assert_int_equal(run_with(nowhere, chat), 1);
	cli_says("waddle: waddle.outbound.terminal: ");
}

static void a_setting_that_is_wrong_is_named(void **state)
{
	static const char *const env[] = { "DATABASE_URL=postgresql://x", "LOG_LEVEL=loud", NULL };
	static const char *const argv[] = { "waddle", "keys", "list", NULL };

	(void)state;
	assert_int_equal(run_with(env, argv), 1);
	cli_says("LOG_LEVEL");
}

/* --- topics ------------------------------------------------------------------------------------ */

static void topics_are_made_once_and_listed(void **state)
{
	char *n;

	(void)state;
	cli_fine("topics|create|--partitions|default=4");
	cli_says("waddle.outbound.terminal");
	cli_says_not("created");
	cli_fine("topics|list|--json");
	n = sql_text(cli.st.sql,
	             "SELECT count(*) FROM jsonb_array_elements($json$%s$json$::jsonb) t WHERE t->>'note' = "
	             "'' AND "
	             "(t->>'replicas')::integer = 1",
	             cli.out);
	assert_true(strtol(n, NULL, 10) >= 26);
	free(n);
	n = sql_text(cli.st.sql,
	             "SELECT string_agg(t->>'partitions', ' ' ORDER BY t->>'topic') FROM "
	             "jsonb_array_elements($json$%s$json$::jsonb) t WHERE t->>'topic' IN ('waddle.events', "
	             "'waddle.registry')",
	             cli.out);
	assert_string_equal(n, "4 1");
	free(n);
	cli_fine("topics|list");
	cli_says("waddle.events");
}

/* --- keys -------------------------------------------------------------------------------------- */

static void a_key_is_shown_once_and_only_its_hash_is_kept(void **state)
{
	char key[64];

	(void)state;
	cli_fine("keys|create|collector of cats|--type|collector|--rate-limit|500|--expires-days|30|--json");
	cli_json_is("{key_type}", "collector");
	{
		char *text = cli_json("{key}");

		snprintf(key, sizeof(key), "%s", text);
		free(text);
	}
	assert_int_equal(strlen(key), 48);
	assert_memory_equal(key, "wbot_", 5);
	assert_int_equal(
		sql_int(cli.st.sql,
	                "SELECT count(*) FROM service_accounts WHERE key_sha256 = sha256('%s') AND "
	                "rate_limit = 500 AND key_type = 'collector' AND is_active AND NOT may_act AND "
	                "expires_at BETWEEN now() + interval '29 days' AND now() + interval '31 days'",
	                key),
		1);
	cli_fine("keys|list");
	cli_says("collector of cats");
	cli_says_not(key);
	cli_fine("keys|list|--json");
	cli_json_is("{0,state}", "active");
	cli_json_is("{0,per_hour}", "500");
	cli_says_not(key);
	assert_int_equal(sql_int(cli.st.sql,
	                         "SELECT count(*) FROM service_accounts a WHERE a::text LIKE '%%' || "
	                         "substr('%s', 10) || '%%'",
	                         key),
	                 0);

	assert_int_equal(cli_run("keys|create|collector of cats|--type|admin"), 1);
	cli_says("there is a key named \"collector of cats\" already");
	cli_fine("keys|create|actor|--type|interaction|--may-act");
	assert_int_equal(
		sql_int(cli.st.sql,
	                "SELECT count(*) FROM service_accounts WHERE may_act AND expires_at IS NULL"),
		1);

	cli_fine("keys|revoke|collector of cats");
	assert_int_equal(sql_int(cli.st.sql, "SELECT count(*) FROM service_accounts WHERE is_active"), 1);
	cli_fine("keys|list|--json");
	cli_json_is("{1,state}", "revoked");
	assert_int_equal(cli_run("keys|revoke|nobody"), 1);
	cli_says("there is no key named \"nobody\"");
}

/* --- servers and commands ---------------------------------------------------------------------- */

static void serving_a_channel_makes_all_it_needs_and_may_be_repeated(void **state)
{
	(void)state;
	sql_run(cli.st.sql,
	        "INSERT INTO commands (command, prefix, location_url, location, module_id) VALUES "
	        "('memories', '!', 'kafka:memories', 'internal', 'memories'), "
	        "('calendar', '!', 'kafka:calendar', 'internal', 'calendar'), "
	        "('greet', '#', 'kafka:workflow', 'community', 'workflow:1')");
	cli_fine("servers|add|twitch|141981764|--community|Cat "
	         "Café|--owner|141981764|--name|cats|--bot|9000|--enable|memories,#greet");
	cli_says("twitch:141981764 is served");
	cli_says("enabled 2 commands");
	assert_int_equal(
		sql_int(cli.st.sql,
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
	assert_int_equal(sql_int(cli.st.sql, "SELECT count(*) FROM command_permissions WHERE is_enabled"), 2);

	/* Again, with less: what was given stays; what was switched off is on again. */
	sql_run(cli.st.sql,
	        "UPDATE servers SET is_active = false; UPDATE twitch_channels SET is_active = false");
	cli_fine("servers|add|twitch|141981764");
	assert_int_equal(sql_int(cli.st.sql, "SELECT count(*) FROM servers WHERE is_active"), 1);
	assert_int_equal(
		sql_int(cli.st.sql,
	                "SELECT count(*) FROM twitch_channels WHERE is_active AND broadcaster_name = 'cats'"),
		1);
	assert_int_equal(sql_int(cli.st.sql, "SELECT count(*) FROM entities WHERE community_id > 1"), 1);
	assert_int_equal(sql_int(cli.st.sql, "SELECT count(*) FROM communities"), 2);

	/* The same community in another case, by another owner: the first one's owner stays. */
	cli_fine("servers|add|terminal|demo|--community|CAT CAFÉ|--owner|root");
	assert_int_equal(sql_int(cli.st.sql, "SELECT count(*) FROM communities"), 2);
	assert_int_equal(sql_int(cli.st.sql, "SELECT count(*) FROM community_members WHERE role = 'owner'"),
	                 1);
	cli_fine("servers|add|discord|42|--owner|7|--name|Guild");
	cli_fine("servers|add|discord|42|1001|--owner|7");
	cli_fine("servers|add|slack|T1|--owner|U1");
	assert_int_equal(sql_int(cli.st.sql, "SELECT count(*) FROM entities WHERE address IN ('discord:42:', "
	                                     "'discord:42:1001', 'slack:T1:')"),
	                 3);
	assert_int_equal(
		sql_int(cli.st.sql,
	                "SELECT count(*) FROM discord_guilds WHERE guild_id = '42' AND name = 'Guild'"),
		1);
	assert_int_equal(sql_int(cli.st.sql, "SELECT count(*) FROM slack_guilds WHERE guild_id = 'T1'"), 1);
	cli_fine("servers|list");
	cli_says("Cat Café");
	cli_fine("servers|list|--json");
	cli_json_is("{4,channel}", "141981764");
	cli_json_is("{4,commands}", "2");
	cli_json_is("{4,active}", "true");
}

static void a_command_that_is_not_registered_yet_is_waited_for(void **state)
{
	char *url = text_of("DATABASE_URL=%s", cli.st.url);
	const char *env[] = { url, NULL };
	const char *argv[] = { "waddle",   "servers", "add",    "terminal", "late",
		               "--enable", "tardy",   "--wait", "60",       NULL };
	struct child *c = child_new("waddle-late", argv, env);

	(void)state;
	assert_int_equal(cli_run("servers|add|terminal|early|--enable|tardy,memories|--wait|0"), 1);
	cli_says("terminal:early is served");
	cli_says("!tardy is not registered: start its module");
	assert_int_equal(
		sql_int(cli.st.sql,
	                "SELECT count(*) FROM command_permissions p JOIN entities e USING (entity_id) "
	                "WHERE e.address = 'terminal:early'"),
		0);

	child_start(c);
	child_wait_log(c, "terminal:late is served", 30000);
	sql_run(cli.st.sql,
	        "INSERT INTO commands (command, prefix, location_url, location, module_id) VALUES "
	        "('tardy', '!', 'kafka:tardy', 'internal', 'tardy')");
	assert_int_equal(child_wait(c, 30000), 0);
	assert_true(child_log_has(c, "enabled 1 command\n"));
	child_free(c);
	free(url);
}

static void a_server_that_cannot_be_added_leaves_nothing_behind(void **state)
{
	int64_t before = sql_int(cli.st.sql, "SELECT count(*) FROM communities");

	(void)state;
	sql_run(cli.st.sql, "ALTER TABLE twitch_channels ADD CHECK (channel_id <> '666')");
	assert_int_equal(cli_run("servers|add|twitch|666|--community|Doomed"), 1);
	cli_says("violates check constraint");
	assert_int_equal(sql_int(cli.st.sql, "SELECT count(*) FROM communities"), before);
	assert_int_equal(sql_int(cli.st.sql, "SELECT count(*) FROM servers WHERE channel = '666'"), 0);
	assert_int_equal(sql_int(cli.st.sql, "SELECT count(*) FROM entities WHERE channel_id = '666'"), 0);
}

static void commands_are_listed_enabled_and_disabled(void **state)
{
	(void)state;
	cli_fine("commands|list");
	cli_says("!memories");
	cli_says("#greet");
	cli_fine("commands|disable|memories|twitch:141981764");
	cli_says("disabled 1 command in twitch:141981764");
	assert_int_equal(
		sql_int(cli.st.sql,
	                "SELECT count(*) FROM command_permissions p JOIN commands c ON c.id = p.command_id "
	                "JOIN entities e USING (entity_id) WHERE e.address = 'twitch:141981764' AND "
	                "c.command = 'memories' AND NOT p.is_enabled"),
		1);
	cli_fine("commands|enable|!MEMORIES, calendar|twitch:141981764");
	cli_says("enabled 2 commands");
	/* The server's row holds for its channels, until they have one of their own. */
	cli_fine("commands|enable|calendar|discord:42:");
	cli_fine("commands|disable|memories|discord:42:1001");
	cli_fine("commands|list|--entity|discord:42:1001|--json");
	cli_json_is("{0,command}", "!calendar");
	cli_json_is("{0,by}", "server");
	cli_json_is("{0,enabled}", "true");
	cli_json_is("{2,by}", "channel");
	cli_json_is("{2,enabled}", "false");
	cli_json_is("{1,by}", "none");
	cli_fine("commands|enable|all|terminal:demo");
	cli_says("enabled 4 commands");

	assert_int_equal(cli_run("commands|enable|nosuch|terminal:demo"), 1);
	cli_says("!nosuch is not registered");
	assert_int_equal(cli_run("commands|enable|memories|terminal:nowhere"), 1);
	cli_says("there is no entity \"terminal:nowhere\"");
	assert_int_equal(cli_run("commands|enable|,|terminal:demo"), 1);
	cli_says("\"\" is not a command's name");
	assert_int_equal(cli_run("commands|list|--entity|x"), 1);
	cli_says("there is no entity \"x\"");
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
	};

	return !!cmocka_run_group_tests_name("cli", tests, set_up, tear_down);
}

/* test_schema_roles.c - each service's role against every table: its own, what it may read, and
 * nothing else. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "stack.h"
#include "str.h"

static struct stack st;

/* Who writes what; the operator's tool is at the end, because it owns nothing. */
static const struct {
	const char *role, *owns, *reads;
} services[] = {
	{ "waddle_router",
	  "servers collector_modules commands command_aliases entities command_permissions "
	  "command_executions rate_limits "
	  "stringmatch module_responses coordination coordination_claims service_accounts "
	  "service_account_usage "
	  "router_inbox router_partitions event_decisions sessions rule_calls",
	  "communities identities community_members community_labels community_contexts" },
	{ "waddle_collector_twitch",
	  "twitch_tokens twitch_events twitch_activities twitch_dedupe twitch_outbox twitch_channels "
	  "twitch_subscriptions twitch_budget twitch_sends oauth_states",
	  "entities service_accounts" },
	{ "waddle_collector_discord",
	  "discord_tokens discord_events discord_activities discord_dedupe discord_outbox discord_guilds "
	  "discord_sessions "
	  "discord_identifies discord_budget discord_interactions discord_voice_sessions discord_forms",
	  "entities service_accounts" },
	{ "waddle_collector_slack",
	  "slack_tokens slack_events slack_activities slack_dedupe slack_outbox slack_guilds slack_budget "
	  "slack_dm_channels slack_forms oauth_states",
	  "entities service_accounts" },
	{ "waddle_workflow",
	  "workflow_definitions workflow_versions workflow_executions workflow_node_executions "
	  "workflow_schedules "
	  "workflow_permissions workflow_webhooks workflow_webhook_deliveries workflow_audit_log "
	  "workflow_templates "
	  "workflow_template_ratings workflow_timers workflow_secrets workflow_inbox workflow_outbox",
	  "communities identities entities service_accounts" },
	{ "waddle_memories",
	  "memories reminders memory_reactions memory_categories memories_inbox memories_outbox",
	  "communities identities" },
	{ "waddle_calendar",
	  "events event_attendees event_waitlist event_reminders calendar_feeds calendar_inbox "
	  "calendar_outbox",
	  "communities identities" },
	{ "waddle_inventory", "inventory_items inventory_activity inventory_inbox inventory_outbox",
	  "communities identities" },
	{ "waddle_music",
	  "youtube_now_playing youtube_search_cache youtube_activity youtube_quota spotify_tokens "
	  "spotify_now_playing "
	  "spotify_search_cache spotify_login music_state music_queue music_votes music_timers music_inbox "
	  "music_outbox "
	  "oauth_states",
	  "communities identities" },
	{ "waddle_browser_source",
	  "browser_source_tokens browser_source_seq browser_source_history browser_source_access_log "
	  "browser_source_inbox browser_source_outbox",
	  "communities identities service_accounts" },
	{ "waddle_community",
	  "communities identities community_members community_labels community_contexts community_codes "
	  "reputation_events reputation_scores reputation_rules community_inbox community_outbox",
	  "" },
	{ "waddle_operator", "", NULL },
};

/* Not even the operator reads what is sealed or nearly so. */
static const char secrets[] = "twitch_tokens discord_tokens slack_tokens spotify_tokens workflow_secrets "
			      "workflow_webhooks oauth_states";
static const char operator_adds[] =
	"servers entities command_permissions twitch_channels discord_guilds slack_guilds "
	"service_accounts communities community_members";

static struct sql *as[ARRAY_LEN(services)]; /* logged in as that role */

static int set_up(void **state)
{
	(void)state;
	stack_open(&st, "schema_roles", STACK_SCHEMA);
	for (size_t i = 0; i < ARRAY_LEN(services); i++)
		as[i] = sql_open(stack_url(&st, services[i].role));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(services); i++)
		sql_close(as[i]);
	stack_close(&st);
	return 0;
}

static struct sql *role(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(services); i++)
		if (strcmp(services[i].role, name) == 0)
			return as[i];
	harness_fail("no role %s", name);
}

static bool in_list(const char *list, const char *word)
{
	struct str rest = str_of(list);

	while (rest.n > 0)
		if (str_eq(str_cut(rest, ' ', &rest), str_of(word)))
			return true;
	return false;
}

/* All tables but partitions, and what belongs to the schema itself. */
static const char tables_sql[] =
	"SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') "
	"AND NOT relispartition AND relname NOT IN ('schema_migrations', 'waddle_partitions') ORDER BY 1";

static void every_table_has_an_owner_in_the_list(void **state)
{
	char *tables = sql_rows(st.sql, "%s", tables_sql);
	struct str rest = str_of(tables);
	int n = 0;

	(void)state;
	while (rest.n > 0) {
		struct str name = str_cut(rest, '\n', &rest);
		char table[64];
		int owners = 0;

		snprintf(table, sizeof(table), STR_FMT, STR_ARG(name));
		for (size_t i = 0; i < ARRAY_LEN(services); i++)
			owners += in_list(services[i].owns, table);
		if (owners != (strcmp(table, "oauth_states") == 0 ? 3 : 1))
			print_error("%s has %d owners\n", table, owners);
		assert_int_equal(owners, strcmp(table, "oauth_states") == 0 ? 3 : 1);
		n++;
	}
	assert_true(n > 90);
	free(tables);
}

/* "siud": what the role may do to the table; truncate, references and trigger show as "!". */
static void expected(size_t service, const char *table, char out[8])
{
	bool operator= services[service].reads == NULL;
	bool owns = in_list(services[service].owns, table);

	if (operator)
		snprintf(out, 8, "%s%s%s", in_list(secrets, table) ? "" : "s",
		         in_list(operator_adds, table) ? "iu" : "",
		         strcmp(table, "community_members") == 0 ? "d" : "");
	else
		snprintf(out, 8, "%s", owns ? "siud" : in_list(services[service].reads, table) ? "s" : "");
}

static void a_role_may_do_what_the_list_says_and_nothing_else(void **state)
{
	char *tables = sql_rows(st.sql, "%s", tables_sql);
	int wrong = 0, n = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(services); i++) {
		struct str rest = str_of(tables);

		while (rest.n > 0) {
			struct str name = str_cut(rest, '\n', &rest);
			char table[64], want[8], *got;

			snprintf(table, sizeof(table), STR_FMT, STR_ARG(name));
			expected(i, table, want);
			got = sql_text(st.sql,
			               "SELECT coalesce(string_agg(CASE WHEN has_table_privilege('%s', "
			               "'public.%s', p.name) THEN p.letter "
			               "END, '' ORDER BY p.n), '') FROM (VALUES (1, 'SELECT', 's'), (2, "
			               "'INSERT', 'i'), (3, 'UPDATE', 'u'), "
			               "(4, 'DELETE', 'd'), (5, 'TRUNCATE', '!'), (6, 'REFERENCES', '!'), "
			               "(7, 'TRIGGER', '!')) p(n, name, letter)",
			               services[i].role, table);
			if (strcmp(got, want) != 0) {
				print_error("%s on %s: \"%s\", not \"%s\"\n", services[i].role, table, got,
				            want);
				wrong++;
			}
			free(got);
			n++;
		}
	}
	assert_int_equal(wrong, 0);
	assert_true(n > 1000);
	free(tables);
}

/* The same by trying it, as that role, over a connection of its own. */
static void another_services_table_refuses_a_role_that_logs_in(void **state)
{
	char *tables = sql_rows(st.sql, "%s", tables_sql);
	int refused = 0, allowed = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(services); i++) {
		struct sql *q = as[i];
		struct str rest = str_of(tables);

		while (rest.n > 0) {
			struct str name = str_cut(rest, '\n', &rest);
			char table[64], want[8], got[6];

			snprintf(table, sizeof(table), STR_FMT, STR_ARG(name));
			expected(i, table, want);
			(void)!sql_try(q, got, "SELECT FROM %s LIMIT 0", table);
			assert_string_equal(got, strchr(want, 's') != NULL ? "00000" : "42501");
			(void)!sql_try(q, got, "DELETE FROM %s WHERE false", table);
			assert_string_equal(got, strchr(want, 'd') != NULL ? "00000" : "42501");
			(void)!sql_try(q, got, "TRUNCATE %s", table);
			assert_string_equal(got, "42501");
			strchr(want, 's') != NULL ? allowed++ : refused++;
		}
	}
	assert_true(refused > 800 && allowed > 100);
	free(tables);
}

static void partitions_can_only_be_reached_through_their_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(services); i++)
		assert_int_equal(
			sql_int(st.sql,
		                "SELECT count(*) FROM pg_class WHERE relispartition AND relkind = 'r' AND "
		                "has_table_privilege('%s', oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')",
		                services[i].role),
			0);
	assert_true(sql_int(st.sql, "SELECT count(*) FROM pg_class WHERE relispartition AND relkind = 'r'") >
	            150);
}

static void a_role_makes_nothing_and_owns_nothing(void **state)
{
	char got[6];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(services); i++) {
		struct sql *q = as[i];

		(void)!sql_try(q, got, "CREATE TABLE mine (a integer)");
		assert_string_equal(got, "42501");
		(void)!sql_try(q, got, "CREATE TEMP TABLE mine (a integer)");
		assert_string_equal(got, "42501");
		(void)!sql_try(q, got, "SET ROLE waddle_owner");
		assert_string_equal(got, "42501");
		(void)!sql_try(q, got, "SELECT count(*) FROM schema_migrations");
		assert_string_equal(got, "00000");
		(void)!sql_try(q, got, "INSERT INTO schema_migrations VALUES ('x', 'y')");
		assert_string_equal(got, "42501");
	}
	assert_int_equal(
		sql_int(st.sql,
	                "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'waddle\\_%%' AND (rolsuper OR "
	                "rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication)"),
		0);
	assert_int_equal(
		sql_int(st.sql,
	                "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace "
	                "AND relname <> 'schema_migrations' AND relname <> 'schema_migrations_pkey' "
	                "AND relkind IN ('r', 'p', 'S', 'v', 'i') AND relowner <> 'waddle_owner'::regrole"),
		0);
	assert_int_equal(
		sql_int(st.sql,
	                "SELECT count(*) FROM pg_roles WHERE rolname = 'waddle_owner' AND rolcanlogin"),
		0);
}

static void functions_are_for_those_who_need_them(void **state)
{
	char got[6];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(services); i++) {
		const char *name = services[i].role;
		bool drops = strcmp(name, "waddle_router") == 0 || strcmp(name, "waddle_operator") == 0;
		bool twitch = strcmp(name, "waddle_collector_twitch") == 0;
		struct sql *q = as[i];

		assert_int_equal(sql_int(q, "SELECT waddle_partitions_ensure()"), 0);
		(void)!sql_try(q, got, "SELECT waddle_partitions_drop()");
		assert_string_equal(got, drops ? "00000" : "42501");
		(void)!sql_try(q, got, "SELECT twitch_reserve('b', gen_random_uuid(), 0, 'c', 1, 0)");
		assert_string_equal(got, twitch ? "00000" : "42501");
		(void)!sql_try(
			q, got,
			"SELECT waddle_partition_make('sessions', 'created_at', 'day', 50, '2040-01-01')");
		assert_string_equal(got, "42501");
		(void)!sql_try(q, got, "CALL waddle_touch_on('communities')");
		assert_string_equal(got, "42501");
	}
	/* What runs with the owner's rights looks names up nowhere else. */
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM pg_proc WHERE pronamespace = "
	                                 "'public'::regnamespace AND prosecdef "
	                                 "AND NOT ('search_path=public, pg_temp' = ANY (proconfig))"),
	                 0);
	assert_int_equal(
		sql_int(st.sql,
	                "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND "
	                "has_function_privilege('public', oid, 'EXECUTE')"),
		0);
}

static void a_service_sees_its_own_oauth_round_trips_only(void **state)
{
	struct sql *twitch = role("waddle_collector_twitch");
	struct sql *music = role("waddle_music");
	char got[6];

	(void)state;
	sql_run(twitch, "INSERT INTO oauth_states (state_sha256, purpose, kind, expires_at) VALUES "
	                "(sha256('a'), 'twitch', 'state', now())");
	sql_run(music, "INSERT INTO oauth_states (state_sha256, purpose, kind, expires_at) VALUES "
	               "(sha256('b'), 'spotify', 'state', now())");
	(void)!sql_try(music, got,
	               "INSERT INTO oauth_states (state_sha256, purpose, kind, expires_at) VALUES "
	               "(sha256('c'), 'twitch', 'state', now())");
	assert_string_equal(got, "42501");
	assert_int_equal(sql_int(twitch, "SELECT count(*) FROM oauth_states"), 1);
	assert_int_equal(sql_int(music, "SELECT count(*) FROM oauth_states WHERE purpose = 'spotify'"), 1);
	sql_run(music, "DELETE FROM oauth_states");
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM oauth_states"), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_table_has_an_owner_in_the_list),
		cmocka_unit_test(a_role_may_do_what_the_list_says_and_nothing_else),
		cmocka_unit_test(another_services_table_refuses_a_role_that_logs_in),
		cmocka_unit_test(partitions_can_only_be_reached_through_their_table),
		cmocka_unit_test(a_role_makes_nothing_and_owns_nothing),
		cmocka_unit_test(functions_are_for_those_who_need_them),
		cmocka_unit_test(a_service_sees_its_own_oauth_round_trips_only),
	};

	return !!cmocka_run_group_tests_name("schema_roles", tests, set_up, tear_down);
}

/* test_schema.c - the live database against the data model, and the rules its tables keep. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "shared.h"
#include "stack.h"
#include "str.h"

#include <libpq-fe.h>

static struct stack st;

static int set_up(void **state)
{
	(void)state;
	stack_open(&st, "schema", STACK_SCHEMA);
	/* A community, an entity and a command to hang others on. */
	sql_run(st.sql, "INSERT INTO communities (name, display_name) VALUES ('cats', 'Cats')");
	sql_run(st.sql, "INSERT INTO entities (platform, channel_id, owner, address, community_id) "
	                "VALUES ('twitch', '1', '1', 'twitch:1', 2)");
	sql_run(st.sql, "INSERT INTO commands (command, prefix, location_url, location, module_id) "
	                "VALUES ('memories', '!', 'kafka:memories', 'internal', 'memories')");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	stack_close(&st);
	return 0;
}

/* --- names ----------------------------------------------------------------------------------- */

static struct buf read_list(void)
{
	struct buf text = BUF(1024 * 1024);
	FILE *f = fopen("tests/integration/seed_columns.txt", "re");
	char line[256];

	assert_non_null(f); /* tests run from the top of the tree */
	while (fgets(line, sizeof(line), f) != NULL)
		if (line[0] != '#')
			buf_add(&text, str_of(line));
	fclose(f);
	return text;
}

static void every_table_and_column_of_the_data_model_is_there(void **state)
{
	struct buf list = read_list();
	struct str rest = { list.p, list.n };
	int n = 0;

	(void)state;
	while (rest.n > 0) {
		struct str column, line = str_cut(rest, '\n', &rest), table = str_cut(line, ' ', &column);
		int64_t there = sql_int(
			st.sql,
			"SELECT count(*) FROM information_schema.columns WHERE table_schema = 'public' "
			"AND table_name = '" STR_FMT "' AND column_name = '" STR_FMT "'",
			STR_ARG(table), STR_ARG(column));

		if (there != 1)
			print_error("missing: " STR_FMT "." STR_FMT "\n", STR_ARG(table), STR_ARG(column));
		assert_int_equal(there, 1);
		n++;
	}
	assert_int_equal(n, 494);
	buf_clear(&list);
}

/* Appends "table column\n" for each platform that has the table. */
static void add_column(struct buf *out, struct str table, struct str column)
{
	static const char *const platforms[] = { "twitch", "discord", "slack" };
	struct str any = STR("{platform}");

	if (!str_starts(table, any)) {
		buf_printf(out, STR_FMT " " STR_FMT "\n", STR_ARG(table), STR_ARG(column));
		return;
	}
	table = (struct str){ table.p + any.n, table.n - any.n };
	for (size_t i = 0; i < ARRAY_LEN(platforms); i++)
		if (i > 0 || !str_eq(table, STR("_guilds")))
			buf_printf(out, "%s" STR_FMT " " STR_FMT "\n", platforms[i], STR_ARG(table),
			           STR_ARG(column));
}

static size_t name_length(struct str s)
{
	size_t n = 0;

	while (n < s.n && strchr("abcdefghijklmnopqrstuvwxyz0123456789_{}", s.p[n]) != NULL)
		n++;
	return n;
}

/* "name (" begins a table, an indented lower-case word is a column, ")" ends it. */
static void parse_model(struct str text, struct buf *out)
{
	struct str table = STR_NONE;
	bool sql = false;

	while (text.n > 0) {
		struct str line = str_cut(text, '\n', &text);
		size_t n = name_length(line);

		if (str_starts(line, STR("```")))
			sql = str_eq(str_trim(line), STR("```sql"));
		else if (!sql)
			continue;
		else if (n > 0 && str_eq(str_trim((struct str){ line.p + n, line.n - n }), STR("(")))
			table = (struct str){ line.p, n };
		else if (str_starts(line, STR(")")))
			table = STR_NONE;
		else if (table.n > 0 && str_starts(line, STR("    "))) {
			struct str column = { line.p + 4, line.n - 4 };

			column.n = name_length(column);
			if (column.n > 0)
				add_column(out, table, column);
		}
	}
}

static void the_committed_list_is_the_data_model(void **state)
{
	struct buf text = BUF(1024 * 1024), parsed = BUF(1024 * 1024), list;
	struct str rest;
	int n = 0;

	(void)state;
	if (!shared_file("../seed/database-schema-reference.md", &text))
		skip();
	list = read_list();
	parse_model((struct str){ text.p, text.n }, &parsed);
	rest = (struct str){ parsed.p, parsed.n };
	while (rest.n > 0) {
		struct str line = str_cut(rest, '\n', &rest);
		char want[256];

		snprintf(want, sizeof(want), STR_FMT "\n", STR_ARG(line));
		assert_non_null(memmem(list.p, list.n, want, strlen(want)));
		n++;
	}
	assert_int_equal(n, 494);
	buf_clear(&text);
	buf_clear(&parsed);
	buf_clear(&list);
}

/* Some row of the page's tables has both words in backquotes. */
static bool documented(struct str page, const char *table, const char *column)
{
	while (page.n > 0) {
		struct str line = str_cut(page, '\n', &page);

		if (str_starts(line, STR("|")) && memmem(line.p, line.n, table, strlen(table)) != NULL &&
		    memmem(line.p, line.n, column, strlen(column)) != NULL)
			return true;
	}
	return false;
}

static void what_is_beyond_the_data_model_is_explained(void **state)
{
	struct buf list = read_list(), page = BUF(1024 * 1024);
	char *rows =
		sql_rows(st.sql, "SELECT '`' || table_name || '`', '`' || column_name || '`', table_name || "
	                         "' ' || column_name "
	                         "FROM information_schema.columns JOIN pg_class k ON k.relname = table_name "
	                         "AND k.relnamespace = 'public'::regnamespace AND NOT k.relispartition WHERE "
	                         "table_schema = 'public'");
	struct str rest = str_of(rows);
	FILE *f = fopen("docs/schema.md", "re");
	char line[1024];
	int n = 0;

	(void)state;
	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL)
		buf_add(&page, str_of(line));
	fclose(f);
	while (rest.n > 0) {
		struct str row = str_cut(rest, '\n', &rest), column, both, table = str_cut(row, '|', &column);
		char t[80], c[80], name[160], only[80];
		bool of_model;

		column = str_cut(column, '|', &both);
		snprintf(t, sizeof(t), STR_FMT, STR_ARG(table));
		snprintf(c, sizeof(c), STR_FMT, STR_ARG(column));
		snprintf(name, sizeof(name), STR_FMT "\n", STR_ARG(both));
		snprintf(only, sizeof(only), "%.*s ", (int)strcspn(name, " "), name);
		if (memmem(list.p, list.n, name, strlen(name)) != NULL)
			continue;
		of_model = memmem(list.p, list.n, only, strlen(only)) != NULL;
		if (!documented((struct str){ page.p, page.n }, t, of_model ? c : t)) {
			print_error("docs/schema.md says nothing of %s.%s\n", t, c);
			fail();
		}
		n++;
	}
	assert_true(n > 300);
	buf_clear(&list);
	buf_clear(&page);
	free(rows);
}

/* --- rules for all tables -------------------------------------------------------------------- */

/* What a query over the catalog finds is an offence; its rows say where. */
static void none(const char *sql)
{
	char *rows = sql_rows(st.sql, "%s", sql);

	assert_string_equal(rows, "");
	free(rows);
}

static void times_have_a_zone_and_ids_are_wide(void **state)
{
	(void)state;
	none("SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
	     "AND data_type = 'timestamp without time zone'");
	none("SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
	     "AND column_name IN ('user_id', 'channel_id', 'server_id', 'message_id') "
	     "AND data_type NOT IN ('text', 'uuid') AND table_name NOT LIKE 'workflow\\_%'");
	none("SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' AND "
	     "column_name = 'id' "
	     "AND (data_type <> 'bigint' OR is_identity <> 'YES') AND table_name NOT IN ('communities', "
	     "'entities') "
	     "AND table_name IN (SELECT relname FROM pg_class WHERE NOT relispartition)");
}

static void every_foreign_key_has_an_index(void **state)
{
	(void)state;
	none("SELECT c.conrelid::regclass, c.conname FROM pg_constraint c WHERE c.contype = 'f' "
	     "AND c.connamespace = 'public'::regnamespace AND NOT EXISTS (SELECT FROM pg_index i "
	     "WHERE i.indrelid = c.conrelid AND (i.indkey::int2[])[0:cardinality(c.conkey) - 1] @> "
	     "c.conkey)");
}

static void every_table_has_a_key(void **state)
{
	(void)state;
	none("SELECT relname FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN "
	     "('r', 'p') "
	     "AND NOT relispartition AND relname <> 'browser_source_access_log' "
	     "AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary)");
}

static void tables_written_per_event_have_no_foreign_key_and_no_trigger(void **state)
{
	static const char hot[] =
		"('command_executions', 'module_responses', 'event_decisions', 'sessions', "
		"'rate_limits', 'memories_inbox', 'twitch_events', 'twitch_activities', 'twitch_dedupe', "
		"'twitch_outbox')";
	char sql[1024];

	(void)state;
	snprintf(sql, sizeof(sql),
	         "SELECT c.conrelid::regclass, c.conname FROM pg_constraint c WHERE c.contype = 'f' "
	         "AND c.conrelid::regclass::text IN %s",
	         hot);
	none(sql);
	snprintf(sql, sizeof(sql),
	         "SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE NOT tgisinternal AND "
	         "tgrelid::regclass::text IN %s",
	         hot);
	none(sql);
}

static void settling_an_execution_is_a_hot_update(void **state)
{
	(void)state;
	/* No index mentions what changes, in its columns or in its condition. */
	none("SELECT i.indexrelid::regclass, a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = "
	     "i.indrelid "
	     "AND a.attnum = ANY (i.indkey) WHERE i.indrelid = 'command_executions'::regclass AND a.attname "
	     "IN "
	     "('status', 'sent_at', 'lease_until', 'completed_at', 'response_status', 'retry_count')");
	/* waits is set and cleared for the few that wait only, not when they are settled; where an
	 * execution is called never changes. */
	none("SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'command_executions'::regclass AND "
	     "pg_get_expr(indpred, indrelid) NOT IN ('(waits IS NOT NULL)', "
	     "'(location_url !~~ ''kafka:%''::text)')");

	sql_run(st.sql,
	        "INSERT INTO command_executions (execution_id, command_id, entity_id, user_id, location_url, "
	        "session_id, "
	        "event_id, community_id, created_at, user_name, message_content, parameters, "
	        "request_payload) "
	        "SELECT gen_random_uuid(), 1, 1, '558712334', 'kafka:memories', gen_random_uuid(), "
	        "'twitch:' || gen_random_uuid(), 2, now(), 'some_viewer', '!memories list quotes', "
	        "'[\"list\", \"quotes\"]', "
	        "jsonb_build_object('event_data', jsonb_build_object('message_id', gen_random_uuid())) "
	        "FROM generate_series(1, 2000)");
	sql_run(st.sql, "SELECT pg_stat_force_next_flush()");
	sql_run(st.sql, "UPDATE command_executions SET status = 'success', completed_at = now(), "
	                "response_status = 200, "
	                "response_data = '{\"chat_message\": \"Saved quote #12\"}', execution_time_ms = 7");
	sql_run(st.sql, "SELECT pg_stat_force_next_flush()");
	sql_wait_int(st.sql, 2000, 10000,
	             "SELECT sum(n_tup_upd)::bigint FROM pg_stat_user_tables "
	             "WHERE relname LIKE 'command_executions\\_p%%'");
	assert_true(sql_int(st.sql, "SELECT sum(n_tup_hot_upd)::bigint FROM pg_stat_user_tables "
	                            "WHERE relname LIKE 'command_executions\\_p%%'") >= 1900);
}

/* --- constraints, each hit once ---------------------------------------------------------------- */

#define UUID_A "'00000000-0000-4000-8000-00000000000a'"
#define UUID_B "'00000000-0000-4000-8000-00000000000b'"
#define EXECUTION                                                                                            \
	"INSERT INTO command_executions (execution_id, command_id, entity_id, user_id, location_url, "       \
	"session_id, "                                                                                       \
	"event_id, community_id, created_at) VALUES (" UUID_A ", 1, 1, 'u', 'x', " UUID_B                    \
	", 'e', 2, date_trunc('day', now()))"
#define RESPONSE                                                                                             \
	"INSERT INTO module_responses (execution_id, module_name, success, response_action, "                \
	"response_index, "                                                                                   \
	"created_at) VALUES (" UUID_A ", 'm', true, 'chat', 0, date_trunc('day', now()))"
#define WORKFLOW                                                                                             \
	"INSERT INTO workflow_definitions (workflow_id, community_id, entity_id, name, trigger_type, "       \
	"trigger_config, "                                                                                   \
	"nodes, connections, created_by, updated_by) VALUES (" UUID_A                                        \
	", 2, 1, 'w', 'command', '{}', '{}', '[]', 1, 1)"
#define PERMISSION(id, user)                                                                                 \
	"INSERT INTO workflow_permissions (permission_id, workflow_id, entity_id, community_id, user_id, "   \
	"permission_type, granted_by) VALUES (" id ", " UUID_A ", 1, 2, " user ", 'can_view', 1)"
#define COMMAND(prefix, location, type, extra, values)                                                       \
	"INSERT INTO commands (command, prefix, location_url, location, type, module_id" extra ") VALUES "   \
	"('x', '" prefix "', 'u', '" location "', '" type "', 'm'" values ")"
#define ITEM(name, labels)                                                                                   \
	"INSERT INTO inventory_items (community_id, item_name, labels, created_by) VALUES (2, '" name        \
	"', '" labels "', 'u')"
#define EVENT(title, more, values)                                                                           \
	"INSERT INTO events (community_id, entity_id, title, event_date, created_by, created_by_name" more   \
	") VALUES "                                                                                          \
	"(2, 1, '" title "', now() + interval '1 day', 'u', 'u'" values ")"
#define MEMORY(type, more, values)                                                                           \
	"INSERT INTO memories (community_id, entity_id, memory_type, title, created_by, "                    \
	"created_by_name" more ") "                                                                          \
	"VALUES (2, 1, '" type "', 't', 'u', 'u'" values ")"
#define RULE(type, action, more, values)                                                                     \
	"INSERT INTO stringmatch (string, match_type, action" more ") VALUES ('x', '" type "', '" action     \
	"'" values ")"
#define TOKEN(token, active)                                                                                 \
	"INSERT INTO browser_source_tokens (community_id, source_type, token, last4, is_active) VALUES "     \
	"(2, 'ticker', sha256('" token "'), 'abcd', " active ")"

#define OK "00000"
/* In order.  What is OK stays, and is what the later ones collide with. */
static const struct {
	const char *why, *state, *sql;
} rules[] = {
	{ "community names are unique in any case", "23505",
	  "INSERT INTO communities (name, display_name) VALUES ('CATS', 'c')" },
	{ "ids are ours to give", "428C9",
	  "INSERT INTO communities (id, name, display_name) VALUES (7, 'x', 'x')" },
	{ "a community in use cannot go", "23503", "DELETE FROM communities WHERE id = 2" },
	{ "an address is one entity", "23505",
	  "INSERT INTO entities (platform, channel_id, owner, address) VALUES ('twitch', '1', '1', "
	  "'twitch:1')" },
	{ "an address has its platform", "23514",
	  "INSERT INTO entities (platform, channel_id, owner, address) VALUES ('slack', '1', '1', "
	  "'twitch:9')" },
	{ "a server is there", OK,
	  "INSERT INTO servers (owner, platform, channel) VALUES ('1', 'twitch', '1')" },
	{ "a server is there once, NULL or not", "23505",
	  "INSERT INTO servers (owner, platform, channel) VALUES ('2', 'twitch', '1')" },
	{ "a server has an address", "23514",
	  "INSERT INTO servers (owner, platform) VALUES ('2', 'twitch')" },
	{ "a community command may be a webhook", OK, COMMAND("#", "community", "webhook", "", "") },
	{ "several modules may share a name", OK,
	  "INSERT INTO commands (command, prefix, location_url, location, module_id) VALUES ('x', '#', 'u', "
	  "'community', 'n')" },
	{ "one module has a name once", "23505", COMMAND("#", "community", "container", "", "") },
	{ "! is local", "23514", COMMAND("!", "community", "container", "", "") },
	{ "! runs in containers", "23514", COMMAND("!", "internal", "lambda", "", "") },
	{ "a timeout is at most 300 s", "23514",
	  COMMAND("!", "internal", "container", ", timeout", ", 301") },
	{ "an event command names its events", "23514",
	  COMMAND("!", "internal", "container", ", trigger_type", ", 'event'") },
	{ "a command is one word", "23514",
	  "INSERT INTO commands (command, prefix, location_url, location, module_id) VALUES ('a b', '!', "
	  "'u', 'internal', 'm')" },
	{ "a command is enabled", OK,
	  "INSERT INTO command_permissions (command_id, entity_id) VALUES (1, 1)" },
	{ "one row per command and entity", "23505",
	  "INSERT INTO command_permissions (command_id, entity_id) VALUES (1, 1)" },
	{ "permissions are for entities that exist", "23503",
	  "INSERT INTO command_permissions (command_id, entity_id) VALUES (1, 99)" },
	{ "an alias", OK,
	  "INSERT INTO command_aliases (community_id, alias, target_command) VALUES (2, 'q', '!memories "
	  "quotes')" },
	{ "an alias is one per community, in any case", "23505",
	  "INSERT INTO command_aliases (community_id, alias, target_command) VALUES (2, 'Q', '!x')" },
	{ "an execution", OK, EXECUTION },
	{ "a redelivered execution meets its key", "23505", EXECUTION },
	{ "an execution has a known status", "23514",
	  "UPDATE command_executions SET status = 'done' WHERE execution_id = " UUID_A },
	{ "a response", OK, RESPONSE },
	{ "a redelivered response meets its key", "23505", RESPONSE },
	{ "a rate window", OK,
	  "INSERT INTO rate_limits (command_id, entity_id, user_id, window_start) VALUES (1, 1, 'u', "
	  "date_trunc('day', now()))" },
	{ "one row per limited key and window", "23505",
	  "INSERT INTO rate_limits (command_id, entity_id, user_id, window_start) VALUES (1, 1, 'u', "
	  "date_trunc('day', now()))" },
	{ "a rule", OK, RULE("exact", "warn", "", "") },
	{ "a rule has a known type", "23514", RULE("fuzzy", "warn", "", "") },
	{ "a rule has a known action", "23514", RULE("exact", "shout", "", "") },
	{ "a command rule has its command", "23514", RULE("exact", "command", "", "") },
	{ "a webhook rule has its URL", "23514", RULE("exact", "webhook", "", "") },
	{ "an entity is coordinated", OK,
	  "INSERT INTO coordination (platform, entity_id) VALUES ('twitch', 1)" },
	{ "an entity is coordinated once", "23505",
	  "INSERT INTO coordination (platform, entity_id) VALUES ('twitch', 1)" },
	{ "what is claimed has a holder", "23514", "UPDATE coordination SET status = 'claimed'" },
	{ "a key is a hash", "23514",
	  "INSERT INTO service_accounts (name, key_sha256, key_type) VALUES ('k', 'secret', 'admin')" },
	{ "a key", OK,
	  "INSERT INTO service_accounts (name, key_sha256, key_type) VALUES ('k', sha256('k'), 'admin')" },
	{ "a key has a known type", "23514",
	  "INSERT INTO service_accounts (name, key_sha256, key_type) VALUES ('l', sha256('l'), 'root')" },
	{ "a key is stored once", "23505",
	  "INSERT INTO service_accounts (name, key_sha256, key_type) VALUES ('m', sha256('k'), 'admin')" },
	{ "a label", OK,
	  "INSERT INTO community_labels (community_id, platform, user_id, label, applied_by) VALUES (2, "
	  "'twitch', '1', 'memories', 'u')" },
	{ "labels are folded", "23514",
	  "INSERT INTO community_labels (community_id, platform, user_id, label, applied_by) VALUES (2, "
	  "'twitch', '1', 'Memories', 'u')" },
	{ "a member has a known role", "23514",
	  "INSERT INTO community_members (community_id, platform, user_id, role) VALUES (2, 'twitch', '1', "
	  "'king')" },
	{ "a ledger row", OK,
	  "INSERT INTO reputation_events (event_id, activity_type, community_id, platform, user_id, amount, "
	  "delta, occurred_at) "
	  "VALUES ('e', 'message', 2, 'twitch', '1', 5, 500, now())" },
	{ "an activity moves points once", "23505",
	  "INSERT INTO reputation_events (event_id, activity_type, community_id, platform, user_id, amount, "
	  "delta, occurred_at) "
	  "VALUES ('e', 'message', 2, 'twitch', '1', 5, 500, now())" },
	{ "a quote", OK, MEMORY("quote", ", content", ", 'hi'") },
	{ "a quote has text", "23514", MEMORY("quote", "", "") },
	{ "a link has a URL", "23514", MEMORY("url", "", "") },
	{ "a memory has a known type", "23514", MEMORY("poem", ", content", ", 'hi'") },
	{ "at most 10 tags", "23514",
	  MEMORY("quote", ", content, tags", ", 'hi', '[1,2,3,4,5,6,7,8,9,10,11]'") },
	{ "content is at most 2000 characters", "23514",
	  MEMORY("quote", ", content", ", repeat('ä', 2001)") },
	{ "content of 2000 characters", OK, MEMORY("quote", ", content", ", repeat('ä', 2000)") },
	{ "a reaction", OK,
	  "INSERT INTO memory_reactions (memory_id, user_id, reaction_type) SELECT min(id), 'u', 'like' FROM "
	  "memories" },
	{ "a reaction once", "23505",
	  "INSERT INTO memory_reactions (memory_id, user_id, reaction_type) SELECT min(id), 'u', 'like' FROM "
	  "memories" },
	{ "a category", OK,
	  "INSERT INTO memory_categories (community_id, name, created_by) VALUES (2, 'Fun', 'u')" },
	{ "a category once in any case", "23505",
	  "INSERT INTO memory_categories (community_id, name, created_by) VALUES (2, 'FUN', 'u')" },
	{ "a colour is #rrggbb", "23514",
	  "INSERT INTO memory_categories (community_id, name, created_by, color) VALUES (2, 'a', 'u', "
	  "'red')" },
	{ "a repeating reminder says how", "23514",
	  "INSERT INTO reminders (community_id, entity_id, user_id, user_name, reminder_text, remind_at, "
	  "is_recurring) "
	  "VALUES (2, 1, 'u', 'u', 't', now(), true)" },
	{ "a monthly reminder has its day", "23514",
	  "INSERT INTO reminders (community_id, entity_id, user_id, user_name, reminder_text, remind_at, "
	  "is_recurring, "
	  "recurring_pattern) VALUES (2, 1, 'u', 'u', 't', now(), true, 'monthly')" },
	{ "an event", OK, EVENT("Movie", "", "") },
	{ "an event ends after it begins", "23514", EVENT("Movie", ", end_date", ", now()") },
	{ "a title has three characters", "23514", EVENT("Mo", "", "") },
	{ "an approved event says by whom", "23514", EVENT("Movie", ", status", ", 'approved'") },
	{ "an attendee", OK,
	  "INSERT INTO event_attendees (event_id, user_id, user_name, status) SELECT min(id), 'u', 'u', "
	  "'maybe' FROM events" },
	{ "one answer per person", "23505",
	  "INSERT INTO event_attendees (event_id, user_id, user_name, status) SELECT min(id), 'u', 'u', "
	  "'attending' FROM events" },
	{ "an event reminder", OK,
	  "INSERT INTO event_reminders (event_id, reminder_time, reminder_type) SELECT min(id), now(), "
	  "'1hour' FROM events" },
	{ "one reminder of a type", "23505",
	  "INSERT INTO event_reminders (event_id, reminder_time, reminder_type) SELECT min(id), now(), "
	  "'1hour' FROM events" },
	{ "an item with five labels", OK, ITEM("Camera", "[\"a\",\"b\",\"c\",\"d\",\"e\"]") },
	{ "an item is unique in any case", "23505", ITEM("camera", "[]") },
	{ "at most 5 labels", "23514", ITEM("Tripod", "[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\"]") },
	{ "labels are a list", "23514", ITEM("Tripod", "{}") },
	{ "who has it is known", "23514", "UPDATE inventory_items SET is_checked_out = true" },
	{ "an activity", OK,
	  "INSERT INTO inventory_activity (community_id, item_id, action, performed_by) SELECT 2, id, 'add', "
	  "'u' FROM inventory_items" },
	{ "an activity outlives its item", OK, "DELETE FROM inventory_items" },
	{ "an overlay token", OK, TOKEN("a", "true") },
	{ "one active token per source", "23505", TOKEN("b", "true") },
	{ "old tokens may be many", OK, TOKEN("c", "false") },
	{ "a token is a hash", "23514",
	  "INSERT INTO browser_source_tokens (community_id, source_type, token, last4) VALUES (2, 'media', "
	  "'secret', 'abcd')" },
	{ "a workflow", OK, WORKFLOW },
	{ "a right for everyone", OK, PERMISSION(UUID_A, "NULL") },
	{ "a right for everyone once", "23505", PERMISSION(UUID_B, "NULL") },
	{ "a right for one user", OK, PERMISSION(UUID_B, "5") },
	{ "a module's inbox", OK,
	  "INSERT INTO memories_inbox (execution_id, created_at, reply) VALUES (" UUID_A
	  ", date_trunc('day', now()), '{}')" },
	{ "a redelivered command meets its key", "23505",
	  "INSERT INTO memories_inbox (execution_id, created_at, reply) VALUES (" UUID_A
	  ", date_trunc('day', now()), '{}')" },
	{ "what is done has a reply", "23514",
	  "INSERT INTO memories_inbox (execution_id, created_at) VALUES (" UUID_B ", now())" },
	{ "a Twitch event", OK,
	  "INSERT INTO twitch_events (event_id, event_type, platform_ids, event_data, created_at, "
	  "dedupe_key, entity) "
	  "VALUES ('twitch:1', 'message', '{}', '{}', date_trunc('day', now()), 'twitch:chat:1', "
	  "'twitch:1')" },
	{ "an event is stored once", "23505",
	  "INSERT INTO twitch_events (event_id, event_type, platform_ids, event_data, created_at, "
	  "dedupe_key, entity) "
	  "VALUES ('twitch:1', 'message', '{}', '{}', date_trunc('day', now()), 'twitch:chat:2', "
	  "'twitch:1')" },
	{ "the thing that happened is stored once", "23505",
	  "INSERT INTO twitch_events (event_id, event_type, platform_ids, event_data, created_at, "
	  "dedupe_key, entity) "
	  "VALUES ('twitch:2', 'message', '{}', '{}', date_trunc('day', now()), 'twitch:chat:1', "
	  "'twitch:1')" },
};

static void each_constraint_refuses_what_it_must(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		char got[6] = "";

		(void)!sql_try(st.sql, got, "%s", rules[i].sql);
		if (strcmp(got, rules[i].state) != 0)
			print_error("%s: \"%s\", not \"%s\"\n", rules[i].why, got, rules[i].state);
		assert_string_equal(got, rules[i].state);
	}
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM inventory_activity WHERE item_id IS NULL"), 1);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM entities WHERE id <> entity_id"), 0);
}

/* --- triggers ---------------------------------------------------------------------------------- */

static void updated_at_follows_a_change_but_not_a_count(void **state)
{
	(void)state;
	sql_run(st.sql,
	        "UPDATE communities SET updated_at = '2000-01-01', settings = '{\"timezone\": \"UTC\"}'");
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM communities WHERE updated_at < '2001-01-01'"),
	                 0);
	sql_run(st.sql, "ALTER TABLE memories DISABLE TRIGGER touch");
	sql_run(st.sql, "UPDATE memories SET updated_at = '2000-01-01'");
	sql_run(st.sql, "ALTER TABLE memories ENABLE TRIGGER touch");
	sql_run(st.sql, "UPDATE memories SET usage_count = usage_count + 1, last_used = now()");
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM memories WHERE updated_at > '2001-01-01'"), 0);
	sql_run(st.sql, "UPDATE memories SET title = 'new'");
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM memories WHERE updated_at < '2001-01-01'"), 0);
}

/* Payloads that arrive for one statement, in order, each with a blank behind. */
static void heard(PGconn *listener, char *out, size_t n)
{
	PGresult *res;
	PGnotify *note;
	size_t at = 0;

	/* A notice is there before the answer to a statement sent after its commit. */
	res = PQexec(listener, "SELECT 1");
	PQclear(res);
	out[0] = '\0';
	while ((note = PQnotifies(listener)) != NULL) {
		if (at < n)
			at += (size_t)snprintf(out + at, n - at, "%s ", note->extra);
		PQfreemem(note);
	}
}

static void caches_are_told_what_changed_and_nothing_else(void **state)
{
	static const struct {
		const char *sql, *want;
	} cases[] = {
		{ "INSERT INTO commands (command, prefix, location_url, location, module_id) VALUES "
		  "('quote', '!', 'u', 'internal', 'memories')",
		  "commands:!quote " },
		{ "UPDATE commands SET command = 'quotes' WHERE command = 'quote'",
		  "commands:!quote commands:!quotes " },
		{ "DELETE FROM commands WHERE command = 'quotes'", "commands:!quotes " },
		{ "UPDATE commands SET description = 'x' WHERE false", "" },
		{ "UPDATE command_permissions SET usage_count = usage_count + 1, last_used = now()", "" },
		{ "UPDATE command_permissions SET is_enabled = NOT is_enabled", "command_permissions:1:1 " },
		{ "UPDATE command_permissions SET is_enabled = is_enabled", "" },
		{ "UPDATE stringmatch SET match_count = match_count + 1, last_matched = now()", "" },
		{ "UPDATE stringmatch SET priority = 5", "stringmatch:1 " },
		{ "UPDATE servers SET last_activity = now()", "" },
		{ "UPDATE servers SET is_active = false", "servers:twitch::1 " },
		{ "UPDATE entities SET config = '{\"silent\": true}'", "entities:twitch:1 " },
		{ "UPDATE command_aliases SET alias = 'Qu'", "command_aliases:2:q command_aliases:2:qu " },
		{ "INSERT INTO community_members (community_id, platform, user_id) VALUES (2, 'twitch', '9')",
		  "community_members:2:twitch:9 " },
		{ "UPDATE community_labels SET expires_at = now()", "community_labels:2:twitch:1 " },
		{ "INSERT INTO identities (platform, user_id, person) VALUES ('twitch', '9', 1)",
		  "identities:twitch:9 " },
		{ "INSERT INTO community_members (community_id, platform, user_id) SELECT 2, 'slack', 'U' || "
		  "n "
		  "FROM generate_series(1, 65) n",
		  "community_members:* " },
		{ "INSERT INTO memories (community_id, entity_id, memory_type, title, content, created_by, "
		  "created_by_name) "
		  "VALUES (2, 1, 'note', 't', 'c', 'u', 'u')",
		  "" },
	};
	PGconn *listener = PQconnectdb(st.url);
	char got[4096];

	(void)state;
	assert_int_equal(PQstatus(listener), CONNECTION_OK);
	PQclear(PQexec(listener, "LISTEN waddle_invalidate"));
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		sql_run(st.sql, "%s", cases[i].sql);
		heard(listener, got, sizeof(got));
		if (strcmp(got, cases[i].want) != 0)
			print_error("%s\n", cases[i].sql);
		assert_string_equal(got, cases[i].want);
	}
	PQfinish(listener);
}

/* --- the send budget ---------------------------------------------------------------------------- */

static void many_senders_share_one_window_of_a_bot_account(void **state)
{
	enum { SENDERS = 4 };
	PGconn *sender[SENDERS];
	char *admitted;

	(void)state;
	for (int i = 0; i < SENDERS; i++) {
		sender[i] = PQconnectdb(st.url);
		assert_int_equal(PQstatus(sender[i]), CONNECTION_OK);
	}
	/* Each asks 50 times, each time in a transaction of its own, all at once. */
	for (int i = 0; i < SENDERS; i++)
		assert_int_equal(PQsendQuery(sender[i], "DO $$ BEGIN FOR i IN 1..50 LOOP PERFORM "
		                                        "twitch_reserve('bot', gen_random_uuid(), 0, "
		                                        "'c' || i, 19, 0); COMMIT; END LOOP; END $$"),
		                 1);
	for (int i = 0; i < SENDERS; i++) {
		PGresult *res = PQgetResult(sender[i]);

		assert_int_equal(PQresultStatus(res), PGRES_COMMAND_OK);
		PQclear(res);
		PQfinish(sender[i]);
	}
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM twitch_sends"), 19);

	/* The same message again is the same reservation. */
	assert_int_equal(sql_int(st.sql, "SELECT twitch_reserve('bot', message_id, 0, channel_id, 19, 0) "
	                                 "FROM twitch_sends LIMIT 1"),
	                 0);
	/* Unanswered ones hold their slot for 10 + 30 s; the answer says when it is worth asking. */
	assert_in_range(sql_int(st.sql, "SELECT twitch_reserve('bot', " UUID_A ", 0, 'x', 19, 0)"), 30000,
	                40000);
	sql_run(st.sql, "UPDATE twitch_sends SET answered_at = reserved_at");
	assert_in_range(sql_int(st.sql, "SELECT twitch_reserve('bot', " UUID_A ", 0, 'x', 19, 0)"), 20000,
	                30000);
	/* Where the bot moderates, 99. */
	assert_int_equal(sql_int(st.sql, "SELECT twitch_reserve('bot', " UUID_A ", 0, 'x', 99, 0)"), 0);
	assert_in_range(sql_int(st.sql, "SELECT twitch_reserve('bot', " UUID_B ", 0, 'x', 99, 1100)"), 100,
	                1100);
	sql_run(st.sql, "UPDATE twitch_sends SET reserved_at = reserved_at - interval '31 s', answered_at = "
	                "answered_at - interval '31 s'");
	admitted = sql_text(st.sql, "SELECT twitch_reserve('bot', " UUID_B ", 0, 'x', 19, 1100)");
	assert_string_equal(admitted, "0");
	free(admitted);
	/* After a 429 nobody sends. */
	sql_run(st.sql, "UPDATE twitch_budget SET blocked_until = now() + interval '1 hour'");
	assert_in_range(sql_int(st.sql, "SELECT twitch_reserve('bot', gen_random_uuid(), 0, 'y', 99, 0)"),
	                3590000, 3600000);
	assert_int_equal(sql_int(st.sql, "SELECT twitch_reserve('other', gen_random_uuid(), 0, 'y', 19, 0)"),
	                 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_table_and_column_of_the_data_model_is_there),
		cmocka_unit_test(the_committed_list_is_the_data_model),
		cmocka_unit_test(what_is_beyond_the_data_model_is_explained),
		cmocka_unit_test(times_have_a_zone_and_ids_are_wide),
		cmocka_unit_test(every_foreign_key_has_an_index),
		cmocka_unit_test(every_table_has_a_key),
		cmocka_unit_test(tables_written_per_event_have_no_foreign_key_and_no_trigger),
		cmocka_unit_test(settling_an_execution_is_a_hot_update),
		cmocka_unit_test(each_constraint_refuses_what_it_must),
		cmocka_unit_test(updated_at_follows_a_change_but_not_a_count),
		cmocka_unit_test(caches_are_told_what_changed_and_nothing_else),
		cmocka_unit_test(many_senders_share_one_window_of_a_bot_account),
	};

	return !!cmocka_run_group_tests_name("schema", tests, set_up, tear_down);
}

/* test_memories.c - the memories module as a process, over real Kafka and PostgreSQL.
 *
 * Numbers (F1, M4 ...) are the acceptance scenarios of modules.md section 8. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "player.h"

#include "clock.h"

#include <signal.h>

enum { COMMUNITIES = 80 };

static struct stack st;
static struct child *mod;
static struct player p;

static int set_up(void **state)
{
	static const char *const env[] = { "DRAIN_TIMEOUT_MS=20s", NULL };

	(void)state;
	stack_open(&st, "memories", STACK_SCHEMA | STACK_TOPICS);
	/* Community, entity and channel have the same number, from 2 on; 1 is Global. */
	sql_run(st.sql,
	        "INSERT INTO communities (id, name, display_name) OVERRIDING SYSTEM VALUE "
	        "SELECT i, 'c' || i, 'C' || i FROM generate_series(2, %d) AS i",
	        COMMUNITIES);
	sql_run(st.sql,
	        "INSERT INTO entities (id, platform, channel_id, owner, address, community_id) "
	        "OVERRIDING SYSTEM VALUE SELECT i, 'twitch', i::text, 'o', 'twitch:' || i, i "
	        "FROM generate_series(1, %d) AS i",
	        COMMUNITIES);
	mod = stack_service(&st, "waddle-memories", "waddle_memories", env);
	child_wait_ready(mod, true, 20000);
	player_open(&p, &st, "memories");
	/* The first reply shows that the module has its partitions. */
	player_ask(&p, &(struct said){ .words = { "help" } });
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	player_close(&p);
	child_free(mod);
	stack_close(&st);
	return 0;
}

/* The inbox is never emptied: a process killed early in a test may be given commands of the test
 * before once more, and must know them. */
static int64_t inbox_before, numbered_before;

static int64_t inbox(void)
{
	return sql_int(st.sql, "SELECT count(*) FROM memories_inbox") - inbox_before;
}

static int clean(void **state)
{
	(void)state;
	sql_run(st.sql,
	        "TRUNCATE memories, memory_categories, memory_reactions, identities CASCADE");
	inbox_before = 0;
	inbox_before = inbox();
	numbered_before = sql_int(st.sql, "SELECT count(*) FROM memories_inbox WHERE reply::text LIKE '%%number %%'");
	return 0;
}

#define SAY(...) player_ask(&p, &(struct said){ __VA_ARGS__ })
#define ASK(...) SAY(.words = { __VA_ARGS__ })

/* Over restarts of the server, too. */
static int64_t memories(void)
{
	return sql_wait_at_least(st.sql, 0, 30000, "SELECT count(*) FROM memories");
}

/* What a test writes by itself carries no position: the standby has to have it before it is read. */
#define PUT(...)                                                                                             \
	do {                                                                                                 \
		sql_run(st.sql, __VA_ARGS__);                                                                \
		stack_wait_replay(&st, 10000);                                                               \
	} while (0)

static double metric(const char *series)
{
	char url[64];

	snprintf(url, sizeof url, "http://127.0.0.1:%d", child_port(mod, "ADMIN_LISTEN"));
	return probe_metric(url, series);
}

static void assert_says(const struct heard *h, const char *outcome, const char *part)
{
	if (strcmp(h->outcome, outcome) != 0 || strstr(h->text, part) == NULL)
		fail_msg("wanted %s with '%s', got %s: %s", outcome, part, h->outcome, h->text);
}

/* --- the commands -------------------------------------------------------------------------- */

/* M1 */
static void a_quote_without_author_is_by_unknown(void **state)
{
	const struct heard *h;
	char *row;

	(void)state;
	h = ASK("add", "quote", "we ship on Friday", "Ada");
	assert_says(h, "ok", "by Ada: “we ship on Friday”");
	assert_true(h->success && h->final && h->lsn > 0);
	assert_says(ASK("add", "quote", "hm"), "ok", "by Unknown: “hm”");
	row = sql_rows(st.sql,
	               "SELECT memory_type, title, content, author, created_by, created_by_name, platform, "
	               "community_id, entity_id, tags FROM memories ORDER BY id");
	assert_string_equal(row, "quote|Quote by Ada|we ship on Friday|Ada|u1|u1|twitch|2|2|[]\n"
	                         "quote|Quote by Unknown|hm|Unknown|u1|u1|twitch|2|2|[]\n");
	free(row);
}

/* M2 */
static void a_link_gets_its_scheme_and_bad_ones_are_refused(void **state)
{
	static const char *const bad[] = {
		"javascript:alert(1)",     "ftp://x.org", "a b.com",           "foo",
		"https://u:p@example.org", "https://",    "http://2130706433/"
	};

	(void)state;
	assert_says(ASK("add", "url", "Rules", "example.com", "read them"), "ok",
	            ": Rules https://example.com");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_says(ASK("add", "url", "t", bad[i]), "usage", "Url must be a web address");
	assert_says(ASK("add", "url"), "usage",
	            "Title is missing. !memories add url \"title\" url [\"description\"]");
	assert_int_equal(memories(), 1);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM memories WHERE memory_type = 'url' AND "
	                                 "url = 'https://example.com' AND content = 'read them'"),
	                 1);
}

/* M3 */
static void tags_are_trimmed_folded_and_each_once(void **state)
{
	char *tags;

	(void)state;
	assert_says(ASK("add", "note", "Setup", "camera left", "a, B ,a"), "ok", ": Setup");
	assert_says(ASK("add", "note", "x", "y", "tags=One,two", "context=the \"old\" studio"), "ok", ": x");
	tags = sql_rows(st.sql, "SELECT tags, context FROM memories ORDER BY id");
	assert_string_equal(tags, "[\"a\", \"b\"]|\n[\"one\", \"two\"]|the \"old\" studio\n");
	free(tags);
	assert_says(ASK("add", "note", "x", "y", "tags=1,2,3,4,5,6,7,8,9,10,11"), "usage", "tags= takes 10");
}

/* M4, F8, F13 */
static void writing_needs_moderator_or_the_label(void **state)
{
	const struct heard *h;

	(void)state;
	assert_says(SAY(.role = "member", .words = { "add", "quote", "x" }), "forbidden",
	            "That needs moderator or the label memories.");
	assert_says(SAY(.role = "member", .label = "other", .words = { "add", "note", "x", "y" }),
	            "forbidden", "moderator");
	assert_int_equal(memories(), 0);
	h = SAY(.role = "", .words = { "add", "quote", "x" });
	assert_says(h, "unavailable", "I cannot check your rights right now.");
	assert_false(h->success);
	assert_non_null(strstr(h->error, "unavailable: "));
	assert_int_equal(memories(), 0);
	assert_int_equal(inbox(), 0);
	assert_says(SAY(.role = "member", .label = "Memories", .words = { "add", "quote", "x" }), "ok",
	            "Saved");
	assert_says(SAY(.role = "admin", .words = { "add", "quote", "x" }), "ok", "Saved");
	assert_says(SAY(.role = "", .words = { "list" }), "ok", "Memories (2), page 1/1");
	assert_says(SAY(.role = "member", .config = "{\"min_role\":{\"add quote\":\"member\"}}",
	                .words = { "add", "quote", "x" }),
	            "ok", "Saved");
	assert_says(SAY(.role = "moderator", .config = "{\"min_role\":{\"list\":\"admin\"}}",
	                .words = { "list" }),
	            "forbidden", "That needs admin.");
}

/* M5, F11 */
static void lists_show_five_a_page_on_twitch_and_ten_elsewhere(void **state)
{
	const struct heard *h;
	int64_t last = 0;

	(void)state;
	for (int i = 1; i <= 12; i++)
		last = sql_int(
			st.sql,
			"INSERT INTO memories (community_id, entity_id, memory_type, title, content, author, "
			"created_by, created_by_name) VALUES (2, 2, 'quote', 'Quote by A', 'text %d', 'A', "
			"'u', 'u') "
			"RETURNING id",
			i);
	PUT("INSERT INTO memories (community_id, entity_id, memory_type, title, content, created_by, "
	    "created_by_name) "
	    "VALUES (2, 2, 'note', 'N', 'body', 'u', 'u'), (3, 3, 'note', 'other', 'other', 'u', 'u')");
	h = ASK("list", "quote");
	assert_says(h, "ok", "Memories (12), page 1/3 | #");
	assert_non_null(strstr(h->text, "“text 12” – A"));
	assert_non_null(strstr(h->text, "“text 8” – A"));
	assert_null(strstr(h->text, "“text 7”"));
	h = SAY(.platform = "discord", .words = { "list", "quote" });
	assert_says(h, "ok", "Memories (12), page 1/2\n#");
	assert_non_null(strstr(h->text, "“text 3” – A"));
	assert_null(strstr(h->text, "“text 2”"));
	assert_says(ASK("list", "quote", "page=3"), "ok", "“text 1” – A");
	assert_says(ASK("list", "quote", "page=99"), "ok", "page 3/3");
	assert_says(ASK("list", "quote", "page=0"), "usage", "page= must be");
	h = ASK("list", "foo");
	assert_says(h, "ok", "Memories (13), page 1/3");
	assert_non_null(strstr(h->text, " N: body"));
	assert_null(strstr(h->text, "other"));
	assert_says(SAY(.community = 4, .words = { "list" }), "ok",
	            "No memory saved yet. Add one: !memories add");
	assert_says(SAY(.community = 4, .words = { "list", "url" }), "ok", "No url saved yet.");
	(void)last;
}

/* F11: fields of 2,000 characters, 500 of them. */
static void a_full_page_fits_every_platform_and_keeps_its_ids(void **state)
{
	static const struct {
		const char *platform;
		size_t max;
		int entries;
	} on[] = { { "twitch", 1400, 5 }, { "discord", 1900, 10 }, { "slack", 3800, 10 } };

	(void)state;
	PUT("INSERT INTO memories (community_id, entity_id, memory_type, title, content, created_by, "
	    "created_by_name) "
	    "SELECT 2, 2, 'note', repeat('ä', 200), repeat('ö', 2000), 'u', 'u' FROM generate_series(1, "
	    "500)");
	for (size_t i = 0; i < ARRAY_LEN(on); i++) {
		const struct heard *h = SAY(.platform = on[i].platform, .words = { "list" });
		size_t chars = 0;
		int ids = 0;

		for (const char *c = h->text; *c != '\0'; c++) {
			chars += ((unsigned char)*c & 0xc0) != 0x80;
			ids += *c == '#';
		}
		assert_in_range(chars, 200, on[i].max);
		assert_int_equal(ids, on[i].entries);
		assert_non_null(strstr(h->text, "…"));
	}
}

/* M6 */
static void search_finds_any_case_and_takes_wildcards_literally(void **state)
{
	const struct heard *h;

	(void)state;
	ASK("add", "quote", "We reached 100% today", "Ada");
	ASK("add", "quote", "nothing here", "Bob_B");
	ASK("add", "note", "a_b", "under\\score", "context=ZEBRA");
	assert_says(ASK("search", "reached", "100%"), "ok", "Found (1), page 1/1");
	assert_says(ASK("search", "100%"), "ok", "“We reached 100% today” – Ada (by u1)");
	assert_says(ASK("search", "200%"), "ok", "Nothing found for “200%”.");
	h = ASK("search", "A_B");
	assert_says(h, "ok", "Found (1)");
	assert_non_null(strstr(h->text, " a_b: "));
	assert_says(ASK("search", "bob_b"), "ok", "Found (1)");
	assert_says(ASK("search", "r\\s"), "ok", "Found (1)");
	assert_says(ASK("search", "zebra"), "ok", "Found (1)");
	assert_says(ASK("search", "%"), "ok", "Found (1)");
	assert_says(ASK("search"), "usage", "Term is missing.");
	assert_says(SAY(.community = 3, .words = { "search", "100%" }), "ok", "Nothing found");
}

/* M7 */
static void sixty_four_gets_count_sixty_four_uses(void **state)
{
	char id[24], text[64];
	size_t before;

	(void)state;
	ASK("add", "note", "Setup", "camera left", "studio");
	snprintf(id, sizeof id, "#%lld", (long long)sql_int(st.sql, "SELECT id FROM memories"));
	before = p.n;
	for (int i = 0; i < 64; i++)
		player_say(&p, &(struct said){ .words = { "get", id } }, NULL);
	player_wait_n(&p, before + 64, 20000);
	assert_int_equal(sql_int(st.sql, "SELECT usage_count FROM memories"), 64);
	assert_int_equal(
		sql_int(st.sql,
	                "SELECT count(*) FROM memories WHERE last_used > now() - interval '1 minute'"),
		1);
	snprintf(text, sizeof text, "%s Setup: camera left (added by u1 on 20", id);
	assert_says(ASK("get", id), "ok", text);
	assert_says(ASK("get", id), "ok", ", tags studio, used 66 times)");
	sql_run(st.sql, "UPDATE memories SET created_at = '2026-03-29T16:00:00Z'");
	assert_says(SAY(.config = "{\"community\":{\"timezone\":\"Europe/Berlin\"}}", .words = { "get", id }),
	            "ok", "on 2026-03-29 18:00 Europe/Berlin,");
	assert_says(SAY(.config = "{\"community\":{\"timezone\":\"Nowhere/At\"}}", .words = { "get", id }),
	            "ok", "on 2026-03-29 16:00 UTC,");
	assert_says(SAY(.community = 3, .words = { "get", id }), "not_found", "There is no memory #");
	ASK("delete", id);
	assert_says(ASK("get", id), "not_found", "There is no memory #");
}

/* F7 */
static void bad_ids_are_usage_and_show_nothing_of_the_inside(void **state)
{
	static const char *const bad[] = { "abc", "-1", "99999999999999999999", "0", "1.5", "" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		const struct heard *h = ASK("get", bad[i]);

		assert_says(h, "usage",
		            "Id must be a number like 12 or #12. !memories get id  e.g. !memories get 12");
		assert_true(h->success);
		assert_string_equal(h->error, "");
	}
	assert_says(ASK("get", "1", "2"), "usage", "Put text with blanks in quotes.");
}

/* M8, M9 */
static void delete_hides_a_memory_for_its_maker_and_for_writers(void **state)
{
	char id[24];
	int64_t a, b;

	(void)state;
	SAY(.user = "maker", .role = "member", .label = "memories", .words = { "add", "quote", "mine" });
	a = sql_int(st.sql, "SELECT id FROM memories");
	snprintf(id, sizeof id, "%lld", (long long)a);
	assert_says(SAY(.community = 3, .words = { "delete", id }), "not_found", "There is no memory #");
	assert_says(SAY(.user = "other", .role = "member", .words = { "delete", id }), "forbidden",
	            "That needs moderator or the label memories.");
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM memories WHERE is_active"), 1);
	assert_says(SAY(.user = "maker", .role = "member", .words = { "delete", id }), "ok",
	            "Quote by Unknown");
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM memories WHERE NOT is_active"), 1);
	assert_says(ASK("delete", id), "not_found", "There is no memory #");
	assert_says(ASK("list"), "ok", "No memory saved yet.");
	/* A linked account is the same person; the same id on another platform is not. */
	SAY(.user = "maker", .words = { "add", "quote", "mine" });
	b = sql_int(st.sql, "SELECT max(id) FROM memories");
	snprintf(id, sizeof id, "%lld", (long long)b);
	assert_says(SAY(.platform = "discord", .user = "maker", .role = "member", .words = { "delete", id }),
	            "forbidden", "moderator");
	sql_run(st.sql, "INSERT INTO identities (platform, user_id, person) VALUES ('twitch', 'maker', 7), "
	                "('discord', 'm2', 7)");
	assert_says(SAY(.platform = "discord", .user = "m2", .role = "member", .words = { "delete", id }),
	            "ok", "Deleted #");
}

/* M10 */
static void every_quote_is_as_likely_as_any_other(void **state)
{
	enum { DRAWS = 3000, AT_ONCE = 100 };
	char *counts;

	(void)state;
	assert_says(ASK("quotes"), "not_found", "!memories add quote");
	for (int i = 0; i < 10; i++)
		ASK("add", "quote", "q", i % 2 == 0 ? "Ada" : "Bob");
	ASK("add", "note", "not a quote", "x");
	for (int i = 0; i < DRAWS; i += AT_ONCE) {
		size_t before = p.n;

		for (int j = 0; j < AT_ONCE; j++)
			player_say(&p, &(struct said){ .words = { "quotes" } }, NULL);
		player_wait_n(&p, before + AT_ONCE, 20000);
	}
	assert_int_equal(sql_int(st.sql, "SELECT sum(usage_count) FROM memories WHERE memory_type = 'quote'"),
	                 DRAWS);
	/* 2.5 % of 3,000 draws are more than four and a half standard deviations. */
	counts = sql_rows(st.sql, "SELECT count(*), bool_and(usage_count BETWEEN 225 AND 375) FROM memories "
	                          "WHERE memory_type = 'quote'");
	assert_string_equal(counts, "10|t\n");
	free(counts);
	assert_says(ASK("quotes", "author=bob"), "ok", "– Bob");
	assert_says(ASK("quotes", "author=nobody"), "not_found", "No quote");
}

static void an_unknown_category_names_the_existing_ones(void **state)
{
	(void)state;
	assert_says(ASK("add", "quote", "x", "category=fun"), "not_found", "this community has none");
	PUT("INSERT INTO memory_categories (community_id, name, created_by) VALUES (2, 'Fun', 'u'), (2, "
	    "'Work', 'u'), "
	    "(3, 'Other', 'u')");
	assert_says(ASK("add", "quote", "x", "category=nope"), "not_found", "There are: Fun, Work");
	assert_int_equal(memories(), 0);
	assert_says(ASK("add", "quote", "x", "category=FUN"), "ok", "Saved");
	assert_says(ASK("list", "category=fun"), "ok", "Memories (1)");
	assert_says(ASK("list", "category=work"), "ok", "Nothing saved there.");
	assert_says(ASK("list", "tag=none"), "ok", "Nothing saved there.");
}

static void the_ten_thousandth_memory_is_the_last(void **state)
{
	(void)state;
	sql_run(st.sql, "INSERT INTO memories (community_id, entity_id, memory_type, title, content, "
	                "created_by, created_by_name) "
	                "SELECT 9, 9, 'note', 't', 'c', 'u', 'u' FROM generate_series(1, 9998)");
	assert_says(SAY(.community = 9, .words = { "add", "quote", "x" }), "ok", "Saved");
	assert_says(SAY(.community = 9, .words = { "add", "quote", "x" }), "ok", "Saved");
	assert_says(SAY(.community = 9, .words = { "add", "quote", "x" }), "limit", "10000 memories");
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM memories WHERE community_id = 9"), 10000);
}

/* F12, M18 */
static void hostile_text_is_stored_or_refused_as_text(void **state)
{
	static const char *const texts[] = { "%s%n%d",
		                             "'; DROP TABLE memories; --",
		                             "<script>alert(1)</script>",
		                             "\u202eevil",
		                             "a\tb\nc",
		                             "{\"x\":1}",
		                             "$1 {} \\x00" };
	char *longer = xnew_(1, 5001), *content;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		assert_says(ASK("add", "quote", texts[i]), "ok", texts[i]);
		content = sql_text(st.sql, "SELECT content FROM memories ORDER BY id DESC LIMIT 1");
		assert_string_equal(content, texts[i]);
		free(content);
	}
	memset(longer, 'x', 5000);
	assert_says(ASK("add", "quote", longer), "usage", "Text may have 2000 characters at most.");
	assert_says(ASK("add", "quote", "   "), "usage", "Text is missing.");
	free(longer);
	assert_int_equal(memories(), (int)ARRAY_LEN(texts));
}

/* F6, and the table walked: every sub-command has help, usage, limits and who may. */
static void help_explains_every_command_of_the_table(void **state)
{
	static const char *const subs[][2] = { { "add quote", "moderator or label memories" },
		                               { "add url", "moderator or label memories" },
		                               { "add note", "moderator or label memories" },
		                               { "list", "member" },
		                               { "search", "member" },
		                               { "get", "member" },
		                               { "quotes", "member" },
		                               { "delete", "member" } };
	const struct heard *h = SAY(.platform = "discord", .words = { "help" });
	size_t lines = 0;

	(void)state;
	for (const char *c = h->text; *c != '\0'; c++)
		lines += *c == '\n';
	assert_int_equal(lines, ARRAY_LEN(subs)); /* one each, and how to learn more */
	for (size_t i = 0; i < ARRAY_LEN(subs); i++) {
		char first[16] = "", *second = strchr(subs[i][0], ' '), line[64];

		snprintf(line, sizeof line, "!memories %s: ", subs[i][0]);
		assert_says(h, "ok", line);
		snprintf(first, sizeof first, "%.*s", second != NULL ? (int)(second - subs[i][0]) : 15,
		         subs[i][0]);
		assert_says(SAY(.platform = "discord",
		                .words = { "help", first, second != NULL ? second + 1 : NULL }),
		            "ok", subs[i][1]);
	}
	h = SAY(.role = "member", .words = { "HELP" });
	assert_null(strstr(h->text, "add quote"));
	assert_says(h, "ok", "!memories delete: ");
	assert_says(ASK("help", "list"), "ok", "e.g. !memories list quote page=2");
	assert_says(ASK("lst"), "usage", "Did you mean list?");
	assert_says(ASK("add", "qoute", "x"), "usage", "Did you mean add quote?");
	assert_says(ASK("frobnicate"), "usage",
	            "Unknown: frobnicate. Try add, list, search, get, quotes, delete, help.");
	assert_says(SAY(.words = { NULL }), "ok", "!memories list: ");
	assert_says(ASK("LiSt"), "ok", "No memory saved yet.");
}

/* F10 */
static void the_global_community_gets_a_hint_and_no_row(void **state)
{
	(void)state;
	assert_says(SAY(.community = 1, .words = { "add", "quote", "x" }), "conflict",
	            "This channel has no community yet. Its owner can type !community create {name}.");
	assert_int_equal(memories(), 0);
	assert_int_equal(inbox(), 0);
}

/* --- life of a message --------------------------------------------------------------------- */

/* F1 */
static void the_same_execution_64_times_is_one_memory_and_one_reply(void **state)
{
	char exec[37] = "", *first = NULL;
	size_t before = p.n;
	double hits = metric("waddle_module_inbox_hits_total");
	int64_t now = clock_unix_ms();

	(void)state;
	player_say(&p, &(struct said){ .words = { "add", "quote", "once" }, .created_at_ms = now }, exec);
	for (int i = 1; i < 64; i++)
		player_say(&p,
		           &(struct said){
				   .words = { "add", "quote", "once" }, .exec = exec, .created_at_ms = now },
		           NULL);
	player_wait_n(&p, before + 64, 30000);
	assert_int_equal(memories(), 1);
	assert_int_equal(inbox(), 1);
	for (size_t i = before; i < p.n; i++) {
		assert_string_equal(p.heard[i].exec, exec);
		if (first == NULL)
			first = p.heard[i].text;
		assert_string_equal(p.heard[i].text, first);
		assert_string_equal(p.heard[i].outcome, "ok");
	}
	assert_true(metric("waddle_module_inbox_hits_total") >= hits + 63);
}

/* Others in the same transaction as a repeated execution run again and are not lost. */
static void a_repeated_execution_among_new_ones_spoils_none(void **state)
{
	enum { ROUNDS = 20, EACH = 30 };
	char exec[37] = "";
	int64_t now = clock_unix_ms();
	size_t before;

	(void)state;
	player_say(
		&p,
		&(struct said){ .community = 2, .words = { "add", "quote", "once" }, .created_at_ms = now },
		exec);
	player_wait(&p, exec, 10000);
	before = p.n;
	for (int round = 0; round < ROUNDS; round++) {
		player_say(&p,
		           &(struct said){ .community = 2,
		                           .exec = exec,
		                           .words = { "add", "quote", "once" },
		                           .created_at_ms = now },
		           NULL);
		for (int i = 0; i < EACH; i++)
			player_say(&p, &(struct said){ .community = 3 + i, .words = { "add", "quote", "x" } },
			           NULL);
	}
	player_wait_n(&p, before + ROUNDS * (EACH + 1), 60000);
	assert_int_equal(memories(), 1 + ROUNDS * EACH);
	assert_int_equal(player_heard(&p, exec), 1 + ROUNDS);
}

/* F3 */
static void past_its_deadline_nothing_happens(void **state)
{
	double dropped = metric("waddle_module_deadline_dropped_total");
	char late[37], good[37];

	(void)state;
	player_say(&p,
	           &(struct said){ .words = { "add", "quote", "late" }, .deadline_ms = clock_unix_ms() - 1 },
	           late);
	player_say(
		&p,
		&(struct said){ .words = { "add", "quote", "good" }, .deadline_ms = clock_unix_ms() + 60000 },
		good);
	player_wait(&p, good, 10000);
	assert_int_equal(player_heard(&p, late), 0);
	assert_int_equal(memories(), 1);
	assert_true(metric("waddle_module_deadline_dropped_total") == dropped + 1);
	assert_true(metric("waddle_module_sub_commands_total{sub=\"add quote\"}") > 0);
	assert_true(metric("waddle_module_commands_total{outcome=\"ok\"}") > 0);
}

static void what_cannot_be_read_goes_to_the_dead_letters_and_the_next_is_served(void **state)
{
	static const struct {
		const char *body, *type;
	} bad[] = { { "not json", "waddle.command.v1" },
		    { "{\"execution_id\":1}", "waddle.command.v1" },
		    { "{}", "waddle.event.v1" },
		    { "{\"execution_id\":\"a\\u0000\"}", "waddle.command.v1" } };
	struct probe_topic dlq;
	const char *topic = stack_topic(&st, "waddle.dlq");
	int64_t before = probe_count(st.kafka, topic);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		player_send_raw(&p, bad[i].body, strlen(bad[i].body), bad[i].type);
	assert_says(ASK("add", "quote", "after"), "ok", "Saved");
	player_listen(&p, 1);
	probe_wait(st.kafka, topic, (size_t)before + ARRAY_LEN(bad), 10000, &dlq);
	for (size_t i = (size_t)before; i < dlq.n; i++) {
		assert_string_equal(probe_header(&dlq.msgs[i], "waddle-origin-topic"),
		                    "waddle.commands.memories");
		assert_non_null(probe_header(&dlq.msgs[i], "waddle-reason"));
		assert_non_null(probe_header(&dlq.msgs[i], "waddle-origin-offset"));
	}
	probe_free(&dlq);
	assert_int_equal(memories(), 1);
}

/* One community's commands run one at a time and in the order of the topic. */
static void commands_of_a_community_keep_their_order(void **state)
{
	enum { N = 90, LANES = 5 };
	char text[24], *rows;
	size_t before = p.n;

	(void)state;
	for (int i = 0; i < N; i++) {
		snprintf(text, sizeof text, "%03d", i);
		for (int c = 0; c < LANES; c++)
			player_say(&p,
			           &(struct said){ .community = 10 + c, .words = { "add", "quote", text } },
			           NULL);
	}
	player_wait_n(&p, before + N * LANES, 30000);
	rows = sql_rows(
		st.sql,
		"SELECT community_id, count(*), bool_and(ok) FROM (SELECT community_id, "
		"content > coalesce(lag(content) OVER (PARTITION BY community_id ORDER BY id), '') AS ok "
		"FROM memories) x GROUP BY 1 ORDER BY 1");
	assert_string_equal(rows, "10|90|t\n11|90|t\n12|90|t\n13|90|t\n14|90|t\n");
	free(rows);
}

/* F9, and 1.1: more than 100 waiting are told so; the rest is done. */
static void a_thousand_commands_of_one_community_hold_no_other_up(void **state)
{
	enum { N = 1000 };
	char exec[37];
	size_t before = p.n, busy = 0, ok = 0;
	int64_t said_us, waited_us;

	(void)state;
	ASK("list");
	before = p.n;
	for (int i = 0; i < N; i++)
		player_say(&p, &(struct said){ .community = 20, .words = { "add", "quote", "many" } }, NULL);
	said_us = clock_exact_us();
	player_say(&p, &(struct said){ .community = 21, .words = { "list" } }, exec);
	waited_us = player_wait(&p, exec, 10000)->at_us - said_us;
	printf("# the other community waited %lld ms\n", (long long)waited_us / 1000);
	player_wait_n(&p, before + N + 1, 60000);
	for (size_t i = before; i < p.n; i++) {
		ok += strcmp(p.heard[i].outcome, "ok") == 0;
		busy += strcmp(p.heard[i].outcome, "busy") == 0;
		if (strcmp(p.heard[i].outcome, "busy") == 0)
			assert_string_equal(p.heard[i].text,
			                    "Too much at once here, please try again in a moment.");
	}
	assert_int_equal(ok + busy, N + 1);
	assert_true(ok >= 101);
	/* F9 says 250 ms; with sanitizers, and all servers on the same two cores, several times that. */
	assert_in_range(waited_us, 0, 2000000);
	assert_int_equal(memories(), (int64_t)ok - 1);
}

static void one_more_than_a_hundred_waiting_is_told_to_come_again(void **state)
{
	struct sql *lock = sql_open(st.url);
	size_t before = p.n, busy = 0;

	(void)state;
	sql_run(lock, "BEGIN");
	sql_run(lock, "LOCK TABLE memories IN ACCESS EXCLUSIVE MODE");
	for (int i = 0; i < 102; i++) /* one runs, a hundred wait */
		player_say(&p, &(struct said){ .community = 22, .words = { "add", "quote", "x" } }, NULL);
	player_wait_n(&p, before + 1, 10000);
	assert_string_equal(p.heard[before].outcome, "busy");
	player_listen(&p, 200);
	assert_int_equal(p.n, before + 1);
	sql_run(lock, "COMMIT");
	player_wait_n(&p, before + 102, 20000);
	sql_close(lock);
	for (size_t i = before; i < p.n; i++)
		busy += strcmp(p.heard[i].outcome, "busy") == 0;
	assert_int_equal(busy, 1);
	assert_int_equal(memories(), 101);
}

/* F4 */
static void with_the_standby_stopped_add_then_list_shows_it(void **state)
{
	double fresh, stale;
	char exec[37];

	(void)state;
	SAY(.community = 31, .words = { "add", "quote", "older" });
	stack_wait_replay(&st, 10000);
	stack_pg("pause-replay");
	fresh = metric("waddle_db_standby_reads_total{result=\"fresh\"}");
	assert_true(fresh >= 0);
	assert_says(SAY(.community = 30, .words = { "add", "quote", "brand new" }), "ok", "Saved");
	stale = metric("waddle_db_standby_reads_total{result=\"fresh\"}");
	assert_says(SAY(.community = 30, .words = { "list" }), "ok", "“brand new”");
	assert_true(metric("waddle_db_standby_reads_total{result=\"fresh\"}") ==
	            stale); /* the primary was asked */
	assert_says(SAY(.community = 33, .words = { "list" }), "ok", "No memory");
	assert_true(metric("waddle_db_standby_reads_total{result=\"fresh\"}") == stale + 1); /* the standby */
	/* What another process wrote: the position comes with the command. */
	player_say(&p,
	           &(struct said){ .community = 34, .lsn = UINT64_C(0xffffffffffff), .words = { "list" } },
	           exec);
	player_wait(&p, exec, 10000);
	assert_true(metric("waddle_db_standby_reads_total{result=\"fresh\"}") == stale + 1);
	stack_pg("resume-replay");
}

/* --- failures ------------------------------------------------------------------------------ */

static char execs[600][37];

static size_t missing(size_t n)
{
	size_t not_heard = 0;

	for (size_t i = 0; i < n; i++)
		not_heard += player_heard(&p, execs[i]) == 0;
	return not_heard;
}

struct all {
	size_t n;
};

static bool all_heard(void *arg)
{
	const struct all *a = arg;

	return missing(a->n) == 0;
}

static void wait_all(size_t n, int64_t max_ms)
{
	struct all a = { n };

	if (!service_run(&p.s, all_heard, &a, max_ms))
		fail_msg("%zu of %zu commands without a reply", missing(n), n);
}

static void assert_each_once(size_t n)
{
	/* By content: after a kill a command of an earlier test may come again, too, and one that was
	 * told "too much at once" is then carried out. */
	sql_wait_int(st.sql, (int64_t)n, 30000, "SELECT count(*) FROM memories WHERE content LIKE 'number %%'");
	assert_int_equal(sql_int(st.sql, "SELECT count(DISTINCT content) FROM memories WHERE content LIKE 'number %%'"), (int64_t)n);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM memories_inbox WHERE reply::text LIKE '%%number %%'"), (int64_t)n + numbered_before);
	/* Every reply to one execution says the same. */
	for (size_t i = 0; i < n; i++) {
		const char *first = NULL;

		for (size_t j = 0; j < p.n; j++) {
			if (strcmp(p.heard[j].exec, execs[i]) != 0)
				continue;
			if (first == NULL)
				first = p.heard[j].text;
			assert_string_equal(p.heard[j].text, first);
		}
	}
}

static void say_quotes(size_t from, size_t to)
{
	char text[32];

	for (size_t i = from; i < to; i++) {
		snprintf(text, sizeof text, "number %zu", i);
		player_say(&p,
		           &(struct said){ .community = 2 + (int64_t)(i % 50),
		                           .words = { "add", "quote", text } },
		           execs[i]);
	}
}

/* F2, X13 */
static void killed_at_random_instants_every_command_is_done_exactly_once(void **state)
{
	enum { N = 500, KILLS = 8 };

	(void)state;
	for (size_t k = 0; k < KILLS; k++) {
		say_quotes(k * N / KILLS, (k + 1) * N / KILLS);
		player_listen(&p, (int64_t)rnd_below(120));
		child_kill(mod);
		child_start(mod);
		if (k % 2 == 1)
			child_wait_ready(mod, true, 20000);
	}
	child_wait_ready(mod, true, 20000);
	wait_all(N, 120000);
	assert_each_once(N);
}

/* F5 */
static void the_database_restarted_in_mid_flow_loses_and_doubles_nothing(void **state)
{
	enum { N = 300 };

	(void)state;
	say_quotes(0, 100);
	stack_pg("stop primary");
	say_quotes(100, 200);
	player_listen(&p, 3000);
	stack_pg("start primary");
	say_quotes(200, N);
	wait_all(N, 60000);
	assert_each_once(N);
	child_wait_ready(mod, true, 20000);
}

/* One of a wave cannot be stored (no such entity): it alone fails, its neighbours are done. */
static void a_command_the_database_refuses_fails_alone(void **state)
{
	enum { ROUNDS = 10, EACH = 40 };
	size_t before = p.n, internal = 0;

	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < EACH; i++)
			player_say(&p,
			           &(struct said){ .community = 2 + i, .words = { "add", "quote", "good" } },
			           NULL);
		player_say(&p,
		           &(struct said){
				   .community = 60, .entity_id = 9999, .words = { "add", "quote", "bad" } },
		           NULL);
	}
	player_wait_n(&p, before + ROUNDS * (EACH + 1), 60000);
	for (size_t i = before; i < p.n; i++) {
		if (strcmp(p.heard[i].outcome, "ok") == 0)
			continue;
		assert_string_equal(p.heard[i].outcome, "internal");
		assert_false(p.heard[i].success);
		assert_non_null(strstr(p.heard[i].text, p.heard[i].exec));
		assert_null(strstr(p.heard[i].text, "entit")); /* nothing of the inside */
		internal++;
	}
	assert_int_equal(internal, ROUNDS);
	assert_int_equal(memories(), ROUNDS * EACH);
	assert_int_equal(inbox(), ROUNDS * EACH);
}

/* 1.1: up to three tries.  The first runs into the statement's time limit, the next one succeeds. */
static void a_statement_that_was_too_slow_is_tried_again(void **state)
{
	struct sql *lock = sql_open(st.url);
	char exec[37], state_[6];

	(void)state;
	sql_run(lock, "BEGIN");
	sql_run(lock, "LOCK TABLE memories IN ACCESS EXCLUSIVE MODE");
	player_say(&p, &(struct said){ .words = { "add", "quote", "slow" } }, exec);
	player_listen(&p, 6500);
	assert_int_equal(player_heard(&p, exec), 0);
	assert_int_equal(sql_try(lock, state_, "COMMIT"), 0);
	assert_string_equal(player_wait(&p, exec, 10000)->outcome, "ok");
	sql_close(lock);
	assert_int_equal(memories(), 1);
}

static void the_broker_restarted_in_mid_flow_loses_and_doubles_nothing(void **state)
{
	enum { N = 200 };

	(void)state;
	say_quotes(0, N / 2);
	player_listen(&p, 50);
	stack_broker("kill");
	stack_broker("start");
	say_quotes(N / 2, N);
	wait_all(N, 60000);
	assert_each_once(N);
	child_wait_ready(mod, true, 20000);
}

/* Partitions move twice while commands flow; both processes may have run one, only one counts. */
static void a_second_process_that_comes_and_goes_changes_no_result(void **state)
{
	enum { N = 600 };
	struct child *second;

	(void)state;
	say_quotes(0, N / 3);
	second = stack_service(&st, "waddle-memories", "waddle_memories", NULL);
	child_wait_ready(second, true, 20000);
	say_quotes(N / 3, 2 * N / 3);
	player_listen(&p, 200);
	assert_int_equal(child_end(second, 30000), 0);
	say_quotes(2 * N / 3, N);
	wait_all(N, 60000);
	assert_each_once(N);
	child_free(second);
}

static void told_to_end_under_load_it_finishes_what_it_holds_and_exits_0(void **state)
{
	enum { N = 400 };

	(void)state;
	say_quotes(0, N);
	player_listen(&p, 30);
	assert_int_equal(child_end(mod, 30000), 0);
	child_start(mod);
	child_wait_ready(mod, true, 20000);
	wait_all(N, 60000);
	assert_each_once(N);
	/* Drained means answered and stored: nothing came twice. */
	for (size_t i = 0; i < N; i++)
		assert_int_equal(player_heard(&p, execs[i]), 1);
}

/* The transaction in flight waits for a lock nobody gives up: the second SIGTERM ends the drain,
 * everything held is delivered again and done once. */
static void a_drain_that_cannot_end_is_cut_short_and_loses_nothing(void **state)
{
	enum { N = 120 };
	struct sql *lock = sql_open(st.url);

	(void)state;
	sql_run(lock, "BEGIN");
	sql_run(lock, "LOCK TABLE memories IN ACCESS EXCLUSIVE MODE");
	say_quotes(0, N);
	sql_wait_at_least(
		st.sql, 1, 10000,
		"SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'memories'::regclass");
	child_signal(mod, SIGTERM);
	child_wait_ready(mod, false, 5000); /* two signals at once would be one */
	child_signal(mod, SIGTERM);
	assert_int_equal(child_wait(mod, 20000), 111);
	sql_run(lock, "COMMIT");
	sql_close(lock);
	child_start(mod);
	wait_all(N, 60000);
	assert_each_once(N);
	child_wait_ready(mod, true, 20000);
}

static void it_announces_its_commands_and_its_end(void **state)
{
	const char *topic = stack_topic(&st, "waddle.registry");
	struct probe_topic reg;
	bool active = false, inactive = false;

	(void)state;
	assert_int_equal(child_end(mod, 30000), 0);
	child_start(mod);
	child_wait_ready(mod, true, 20000);
	player_ask(&p, &(struct said){ .words = { "list" } });
	probe_read(st.kafka, topic, &reg);
	for (size_t i = 0; i < reg.n; i++) {
		assert_string_equal(reg.msgs[i].key, "memories");
		active = active || strstr(reg.msgs[i].value, "\"status\":\"active\"") != NULL;
		inactive = inactive || strstr(reg.msgs[i].value, "\"status\":\"inactive\"") != NULL;
		assert_non_null(strstr(reg.msgs[i].value, "\"command\":\"memories\""));
		assert_non_null(strstr(reg.msgs[i].value, "\"rate_limit\":30"));
		assert_non_null(strstr(reg.msgs[i].value, "\"add quote\""));
	}
	assert_true(active);
	assert_true(inactive);
	probe_free(&reg);
}

#define CASE(f) cmocka_unit_test_setup(f, clean)

/* test_memories [pattern]: only the tests whose name fits it. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(a_quote_without_author_is_by_unknown),
		CASE(a_link_gets_its_scheme_and_bad_ones_are_refused),
		CASE(tags_are_trimmed_folded_and_each_once),
		CASE(writing_needs_moderator_or_the_label),
		CASE(lists_show_five_a_page_on_twitch_and_ten_elsewhere),
		CASE(a_full_page_fits_every_platform_and_keeps_its_ids),
		CASE(search_finds_any_case_and_takes_wildcards_literally),
		CASE(sixty_four_gets_count_sixty_four_uses),
		CASE(bad_ids_are_usage_and_show_nothing_of_the_inside),
		CASE(delete_hides_a_memory_for_its_maker_and_for_writers),
		CASE(every_quote_is_as_likely_as_any_other),
		CASE(an_unknown_category_names_the_existing_ones),
		CASE(the_ten_thousandth_memory_is_the_last),
		CASE(hostile_text_is_stored_or_refused_as_text),
		CASE(help_explains_every_command_of_the_table),
		CASE(the_global_community_gets_a_hint_and_no_row),
		CASE(the_same_execution_64_times_is_one_memory_and_one_reply),
		CASE(a_repeated_execution_among_new_ones_spoils_none),
		CASE(past_its_deadline_nothing_happens),
		CASE(what_cannot_be_read_goes_to_the_dead_letters_and_the_next_is_served),
		CASE(commands_of_a_community_keep_their_order),
		CASE(a_thousand_commands_of_one_community_hold_no_other_up),
		CASE(one_more_than_a_hundred_waiting_is_told_to_come_again),
		CASE(with_the_standby_stopped_add_then_list_shows_it),
		CASE(killed_at_random_instants_every_command_is_done_exactly_once),
		CASE(the_database_restarted_in_mid_flow_loses_and_doubles_nothing),
		CASE(a_command_the_database_refuses_fails_alone),
		CASE(a_statement_that_was_too_slow_is_tried_again),
		CASE(the_broker_restarted_in_mid_flow_loses_and_doubles_nothing),
		CASE(a_second_process_that_comes_and_goes_changes_no_result),
		CASE(told_to_end_under_load_it_finishes_what_it_holds_and_exits_0),
		CASE(a_drain_that_cannot_end_is_cut_short_and_loses_nothing),
		CASE(it_announces_its_commands_and_its_end),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return !!cmocka_run_group_tests(tests, set_up, tear_down);
}

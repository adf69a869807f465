/* test_module_table.c - what a person typed, the row it means, what help says, who may. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "module_rights.h"
#include "module_table.h"

struct id_args {
	int64_t id;
};
static const struct arg id_args[] = { ARG(struct id_args, id, ARG_ID), { 0 } };
static const char *const rm_names[] = { "rm", "remove", NULL };

static const struct command table[] = {
	{ .name = "add quote", .help = "save a quote", .need = MODERATOR, .label = "memories" },
	{ .name = "add", .help = "add anything", .need = MEMBER },
	{ .name = "list", .help = "what is saved", .need = MEMBER },
	{ .name = "get", .help = "show one", .need = MEMBER, .args = id_args, .example = "12" },
	{ .name = "delete", .help = "take one away", .need = ADMIN, .also = rm_names },
	{ 0 }
};
static const struct command bare[] = { { .name = "table", .help = "the rules", .need = MEMBER },
	                               { .name = "", .help = "your points", .need = MEMBER },
	                               { 0 } };

static const struct command groups[] = { { .name = "add quote", .help = "save a quote", .need = MEMBER },
	                                 { .name = "add url", .help = "save a link", .need = MEMBER },
	                                 { .name = "list", .help = "what is saved", .need = MEMBER },
	                                 { 0 } };

#define FIND(t, ...) find(t, (const char *const[]){ NULL, ##__VA_ARGS__, NULL } + 1)
static size_t used;

static const char *find(const struct command *t, const char *const *words)
{
	struct str w[16];
	size_t n = 0;
	const struct command *c;

	for (; words[n] != NULL; n++)
		w[n] = str_of(words[n]);
	c = command_find(t, w, n, &used);
	return c == NULL ? "(none)" : c->name;
}

static void the_longest_run_of_words_wins_in_any_case(void **state)
{
	(void)state;
	assert_string_equal(FIND(table, "add", "quote", "x"), "add quote");
	assert_int_equal(used, 2);
	assert_string_equal(FIND(table, "ADD", "Quote"), "add quote");
	assert_string_equal(FIND(table, "add", "note"), "add");
	assert_int_equal(used, 1);
	assert_string_equal(FIND(table, "remove", "1"), "delete");
	assert_int_equal(used, 1);
	assert_string_equal(FIND(table, "lis"), "(none)");
	assert_string_equal(FIND(table), "(none)");
	assert_string_equal(FIND(table, ""), "(none)");
	assert_string_equal(FIND(bare), "");
	assert_int_equal(used, 0);
	assert_string_equal(FIND(bare, "@ada"), "");
	assert_int_equal(used, 0);
	assert_string_equal(FIND(bare, "table", "2"), "table");
}

#define UNKNOWN(...) unknown(table, (const char *const[]){ __VA_ARGS__, NULL })
static const char *unknown(const struct command *t, const char *const *words)
{
	static char text[512];
	struct str w[16];
	struct buf b = BUF(500);
	size_t n = 0;

	for (; words[n] != NULL; n++)
		w[n] = str_of(words[n]);
	command_unknown(t, w, n, &b);
	snprintf(text, sizeof text, STR_FMT, (int)b.n, b.p);
	buf_clear(&b);
	return text;
}

/* F6 */
static void the_nearest_name_is_offered_at_two_letters_off(void **state)
{
	(void)state;
	assert_string_equal(UNKNOWN("lst"),
	                    "Unknown: lst. Try add, list, get, delete, help. Did you mean list?");
	assert_string_equal(UNKNOWN("LITS"),
	                    "Unknown: LITS. Try add, list, get, delete, help. Did you mean list?");
	assert_string_equal(UNKNOWN("delte", "5"),
	                    "Unknown: delte. Try add, list, get, delete, help. Did you mean delete?");
	assert_string_equal(unknown(groups, (const char *const[]){ "add", "qoute", NULL }),
	                    "Unknown: add qoute. Try add quote, add url. Did you mean add quote?");
	assert_string_equal(unknown(groups, (const char *const[]){ "add", NULL }),
	                    "Unknown: add. Try add quote, add url.");
	assert_string_equal(UNKNOWN("frobnicate"), "Unknown: frobnicate. Try add, list, get, delete, help.");
	assert_string_equal(UNKNOWN("xxx"), "Unknown: xxx. Try add, list, get, delete, help.");
	assert_string_equal(
		UNKNOWN("\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4"
	                "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4"),
		"Unknown: ääääääääääääääääääää. Try add, list, get, delete, help.");
}

static bool not_admin(void *arg, const struct command *c)
{
	(void)arg;
	return c->need < ADMIN;
}

static void help_lists_what_the_caller_may_and_explains_one(void **state)
{
	struct buf b = BUF(2000);

	(void)state;
	command_help(table, STR("memories"), " | ", not_admin, NULL, &b);
	buf_add(&b, (struct str){ "", 1 });
	assert_string_equal(b.p, "!memories add quote: save a quote | !memories add: add anything | "
	                         "!memories list: what is saved | !memories get: show one | "
	                         "!memories help {command} says more.");
	buf_clear(&b);
	command_help_one(&table[3], STR("memories"), " | ", MEMBER, &b);
	buf_add(&b, (struct str){ "", 1 });
	assert_string_equal(b.p, "get: show one | !memories get id  e.g. !memories get 12 | For: member");
	buf_clear(&b);
	command_help_one(&table[0], STR("memories"), "\n", MODERATOR, &b);
	buf_add(&b, (struct str){ "", 1 });
	assert_string_equal(b.p,
	                    "add quote: save a quote\n!memories add quote\nFor: moderator or label memories");
	buf_clear(&b);
}

static struct user user_of(const char *role, uint32_t roles)
{
	return (struct user){ .community_role = str_of(role), .roles = roles };
}

static void roles_and_labels_decide(void **state)
{
	struct str labels[] = { STR("other"), STR("Memories") };
	struct user member = user_of("member", 0), moderator = user_of("moderator", 0),
		    owner = user_of("owner", 0), unknown_rights = user_of(NULL, 1u << ROLE_OWNER),
		    facts = user_of("member", 1u << ROLE_OWNER),
		    vip = user_of("member", 1u << ROLE_VIP | 1u << ROLE_SUBSCRIBER),
		    label = user_of("member", 0);

	(void)state;
	label.labels = (struct js_list){ labels, 2 };
	assert_int_equal(rights_check(&member, MEMBER, NULL), 0);
	assert_int_equal(rights_check(&member, MODERATOR, "memories"), -EACCES);
	assert_int_equal(rights_check(&moderator, MODERATOR, NULL), 0);
	assert_int_equal(rights_check(&moderator, ADMIN, NULL), -EACCES);
	assert_int_equal(rights_check(&owner, OWNER, NULL), 0);
	assert_int_equal(rights_check(&label, MODERATOR, "memories"), 0);
	assert_int_equal(rights_check(&label, MODERATOR, NULL), -EACCES);
	assert_int_equal(rights_check(&facts, MODERATOR, NULL),
	                 -EACCES); /* the router judges, not the platform's facts */
	assert_int_equal(rights_check(&vip, VIP, NULL), 0);
	assert_int_equal(rights_check(&vip, MODERATOR, NULL), -EACCES);
	assert_int_equal(rights_check(&moderator, VIP, NULL), 0);
	assert_int_equal(rights_check(&unknown_rights, ANYONE, NULL), 0);
	assert_int_equal(rights_check(&unknown_rights, MEMBER, NULL), 0);
	assert_int_equal(rights_check(&unknown_rights, SUBSCRIBER, NULL), -EAGAIN); /* F8 */
	assert_int_equal(rights_check(&unknown_rights, MODERATOR, "memories"), -EAGAIN);
}

static void a_setting_moves_the_least_role_and_nonsense_is_absent(void **state)
{
	static const struct {
		const char *config;
		enum need need;
	} cases[] = {
		{ "", MODERATOR },
		{ "{}", MODERATOR },
		{ "{\"min_role\":{\"add quote\":\"member\"}}", MEMBER },
		{ "{\"min_role\":{\"add quote\":\"VIP\"}}", VIP },
		{ "{\"min_role\":{\"add quote\":\"owner\",\"list\":\"admin\"},\"x\":1}", OWNER },
		{ "{\"min_role\":{\"list\":\"admin\"}}", MODERATOR },
		{ "{\"min_role\":{\"add quote\":\"emperor\"}}", MODERATOR },
		{ "{\"min_role\":{\"add quote\":7}}", MODERATOR },
		{ "{\"min_role\":\"admin\"}", MODERATOR },
		{ "{\"min_role\":", MODERATOR },
		{ "{\"other\":\"\\\"min_role\\\"\"}", MODERATOR },
	};
	struct arena *mem = arena_new(1024, 1 << 20);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(rights_need(&table[0], str_of(cases[i].config), mem), cases[i].need);
	arena_free(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_longest_run_of_words_wins_in_any_case),
		cmocka_unit_test(the_nearest_name_is_offered_at_two_letters_off),
		cmocka_unit_test(help_lists_what_the_caller_may_and_explains_one),
		cmocka_unit_test(roles_and_labels_decide),
		cmocka_unit_test(a_setting_moves_the_least_role_and_nonsense_is_absent),
	};

	return !!cmocka_run_group_tests(tests, NULL, NULL);
}

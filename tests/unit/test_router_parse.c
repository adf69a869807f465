#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../services/router/parse.h"

static struct arena *mem;

static int fresh(void **state)
{
	(void)state;
	mem = arena_new(4096, 1 << 20);
	return 0;
}

static int done(void **state)
{
	(void)state;
	arena_free(mem);
	return 0;
}

static struct str param(const struct parsed *p, size_t i)
{
	assert_true(i < p->params.n);
	return ((const struct str *)p->params.items)[i];
}

/* Compares with a text list separated by '|'. */
static void expect(const char *text, const char *name, const char *joined)
{
	struct parsed p;
	struct buf b = BUF(1 << 20);
	struct str got;

	assert_true(parse_command(str_of(text), mem, &p));
	assert_int_equal(p.name.n, strlen(name));
	assert_memory_equal(p.name.p, name, p.name.n);
	for (size_t i = 0; i < p.params.n; i++) {
		if (i > 0)
			buf_add(&b, STR("|"));
		buf_add(&b, param(&p, i));
	}
	assert_int_equal(buf_str(&b, &got), 0);
	if (got.n != strlen(joined) || (got.n > 0 && memcmp(got.p, joined, got.n) != 0))
		fail_msg("%s: got \"" STR_FMT "\", want \"%s\"", text, STR_ARG(got), joined);
	buf_clear(&b);
}

/* router 8, 10 */
static void the_name_is_folded_and_parameters_keep_their_case(void **state)
{
	(void)state;
	expect("!HeLp a B", "help", "a|B");
	expect("  !help\ta \n b ", "help", "a|b");
	expect("#Über x", "über", "x");
	expect("!\xD0\x96 y", "\xD0\xB6", "y");
	expect("!7 x", "7", "x");
	expect("!_x", "_x", "");
}

/* router 9 */
static void everything_else_is_plain_chat(void **state)
{
	static const char *const plain[] = {
		"", " ", "!", "! x", "!!", "!!x", "hello", "hello !x", "#", "# a", "!\"x\"", "!-a",
	};
	struct parsed p;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(plain); i++)
		if (parse_command(str_of(plain[i]), mem, &p))
			fail_msg("\"%s\" was taken for a command", plain[i]);
}

/* router 56 */
static void quotes_group_words(void **state)
{
	(void)state;
	expect("!memories add quote \"a b\" \"C D\"", "memories", "add|quote|a b|C D");
	expect("!m \xE2\x80\x9C"
	       "a b\xE2\x80\x9D \xE2\x80\x9E"
	       "c d\xE2\x80\x9F",
	       "m", "a b|c d");
	expect("!m \"\" x", "m", "|x");
	expect("!m don't stop", "m", "don't|stop");
	expect("!m 'a b' c", "m", "a b|c");
	expect("!m 'a \\' c", "m", "a \\|c");
	expect("!m \"say \\\"hi\\\" \\\\ \\n\"", "m", "say \"hi\" \\ \\n");
	expect("!m \"a b\"c d", "m", "a bc|d");
	expect("!m a\"b c\"", "m", "a\"b|c\"");
	expect("!m it\xE2\x80\x99s ok", "m", "it\xE2\x80\x99s|ok");
}

/* router 57 */
static void an_open_quote_takes_the_rest_and_the_last_parameter_too(void **state)
{
	struct parsed p;
	struct buf b = BUF(4096);
	struct str text;

	(void)state;
	expect("!m a \"b c  d", "m", "a|b c  d");
	expect("!m \"", "m", "");
	buf_add(&b, STR("!m"));
	for (int i = 1; i <= 70; i++)
		buf_printf(&b, " w%d", i);
	assert_int_equal(buf_str(&b, &text), 0);
	assert_true(parse_command(text, mem, &p));
	assert_int_equal(p.params.n, 64);
	assert_true(str_eq(param(&p, 62), STR("w63")));
	assert_true(str_eq(param(&p, 63), STR("w64 w65 w66 w67 w68 w69 w70")));
	buf_clear(&b);
}

/* router, section 21: five thousand quotes within an arena of a megabyte */
static void five_thousand_quotes_are_harmless(void **state)
{
	struct parsed p;
	char *text = XNEW_N(char, 5003);

	(void)state;
	memset(text, '"', 5003);
	memcpy(text, "!m ", 3);
	assert_true(parse_command((struct str){ text, 5003 }, mem, &p));
	assert_int_equal(p.params.n, 1);
	assert_true(arena_used(mem) < 100000);
	free(text);
}

/* What an event asks for, as "prefix name|param|param". */
static void asks(int type, const char *text, const char *metadata, enum asks want, const char *joined)
{
	struct event e = { .message_type = type,
		           .message_content = str_of(text),
		           .metadata = str_of(metadata) };
	struct parsed p;
	struct buf b = BUF(1 << 20);
	struct str got;

	if (parse_event(&e, mem, &p) != want)
		fail_msg("%s %s: not %d", text, metadata != NULL ? metadata : "-", (int)want);
	buf_add(&b, p.prefix);
	buf_add(&b, p.name);
	for (size_t i = 0; i < p.params.n; i++) {
		buf_add(&b, STR("|"));
		buf_add(&b, param(&p, i));
	}
	assert_int_equal(buf_str(&b, &got), 0);
	if (!str_eq(got, str_of(joined)))
		fail_msg("%s %s: got \"" STR_FMT "\", want \"%s\"", text, metadata != NULL ? metadata : "-",
		         STR_ARG(got), joined);
	buf_clear(&b);
}

/* router, section 3 */
static void each_type_is_read_in_its_own_way(void **state)
{
	(void)state;
	asks(MSG_CHAT, "!help a", NULL, ASKS_COMMAND, "!help|a");
	asks(MSG_CHAT, "hello", NULL, ASKS_NOTHING, "");
	asks(MSG_CHAT, "<@U1> !help", NULL, ASKS_NOTHING, "");
	asks(MSG_APP_MENTION, "<@U1> !help a", NULL, ASKS_COMMAND, "!help|a");
	asks(MSG_APP_MENTION, "@bot #Song", NULL, ASKS_COMMAND, "#song");
	asks(MSG_APP_MENTION, " !help", NULL, ASKS_COMMAND, "!help");
	asks(MSG_APP_MENTION, "<@U1> hello", NULL, ASKS_NOTHING, "");
	asks(MSG_APP_MENTION, "<@U1>", NULL, ASKS_NOTHING, "");
	asks(MSG_EDIT, "!help a", NULL, ASKS_NOTHING, "");
	asks(MSG_FOLLOW, "!help a", NULL, ASKS_NOTHING, "");
	asks(MSG_REDEMPTION, "!help a", NULL, ASKS_NOTHING, "");
	assert_int_equal(parse_rules(MSG_CHAT), RULES_ALL);
	assert_int_equal(parse_rules(MSG_APP_MENTION), RULES_ALL);
	assert_int_equal(parse_rules(MSG_EDIT), RULES_NO_COMMAND);
	assert_int_equal(parse_rules(MSG_SLASH), RULES_NONE);
	assert_int_equal(parse_rules(MSG_REDEMPTION), RULES_NONE);
	assert_int_equal(parse_rules(MSG_FOLLOW), RULES_NONE);
}

/* router 38 */
static void options_are_parameters_and_nothing_is_split(void **state)
{
	(void)state;
	asks(MSG_SLASH, "", "{\"command\":\"Quote\",\"options\":[\"a b\",\"c\"]}", ASKS_SLASH,
	     "!quote|a b|c");
	asks(MSG_SLASH, "/x y", "{\"command\":\"q\",\"options\":[7,true,\"\\\"1, 2]\",-1.5e3]}", ASKS_SLASH,
	     "!q|7|true|\"1, 2]|-1.5e3");
	asks(MSG_SLASH, "/x y", "{\"command\":\"q\",\"options\":[]}", ASKS_SLASH, "!q");
	asks(MSG_SLASH, "/Memories get \"a b\"", NULL, ASKS_SLASH, "!memories|get|a b");
	asks(MSG_SLASH, "memories get", "{}", ASKS_SLASH, "!memories|get");
	asks(MSG_SLASH, "/memories get 7", "{\"command\":\"memories\"}", ASKS_SLASH, "!memories|get|7");
	asks(MSG_SLASH, "get 7", "{\"command\":\"memories\"}", ASKS_SLASH, "!memories|get|7");
	asks(MSG_SLASH, "/q a", "{\"command\":\"q\",\"options\":[{\"name\":\"a\"}]}", ASKS_SLASH, "!q|a");
	asks(MSG_SLASH, "", "{}", ASKS_SLASH, "!");
	asks(MSG_SLASH, "/", "{\"command\":7}", ASKS_SLASH, "!");
}

/* router 39 */
static void a_custom_id_is_name_action_and_context(void **state)
{
	(void)state;
	asks(MSG_BUTTON, "", "{\"custom_id\":\"Inventory:buy:item_1\"}", ASKS_CUSTOM,
	     "!inventory|buy|item_1");
	asks(MSG_SELECT, "!no", "{\"custom_id\":\"poll:vote:a:b\",\"values\":[\"1\"]}", ASKS_CUSTOM,
	     "!poll|vote|a:b");
	asks(MSG_INTERACTION, "", "{\"custom_id\":\"poll:vote\"}", ASKS_CUSTOM, "!poll|vote");
	asks(MSG_MODAL_SUBMIT, "", "{\"custom_id\":\"poll\"}", ASKS_CUSTOM, "!poll");
	asks(MSG_INTERACTION, "", NULL, ASKS_CUSTOM, "!");
	asks(MSG_MODAL_SUBMIT, "", "{\"custom_id\":\"form:2c6c:1\",\"values\":{}}", ASKS_FORM,
	     "!form|2c6c|1");
	asks(MSG_MODAL_SUBMIT, "", "{\"custom_id\":\"form:2c6c\"}", ASKS_CUSTOM, "!form|2c6c");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_name_is_folded_and_parameters_keep_their_case, fresh, done),
		cmocka_unit_test_setup_teardown(everything_else_is_plain_chat, fresh, done),
		cmocka_unit_test_setup_teardown(quotes_group_words, fresh, done),
		cmocka_unit_test_setup_teardown(an_open_quote_takes_the_rest_and_the_last_parameter_too, fresh, done),
		cmocka_unit_test_setup_teardown(five_thousand_quotes_are_harmless, fresh, done),
		cmocka_unit_test_setup_teardown(each_type_is_read_in_its_own_way, fresh, done),
		cmocka_unit_test_setup_teardown(options_are_parameters_and_nothing_is_split, fresh, done),
		cmocka_unit_test_setup_teardown(a_custom_id_is_name_action_and_context, fresh, done),
	};

	return !!cmocka_run_group_tests_name("router_parse", tests, NULL, NULL);
}

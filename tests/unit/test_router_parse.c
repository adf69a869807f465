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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_name_is_folded_and_parameters_keep_their_case, fresh, done),
		cmocka_unit_test_setup_teardown(everything_else_is_plain_chat, fresh, done),
		cmocka_unit_test_setup_teardown(quotes_group_words, fresh, done),
		cmocka_unit_test_setup_teardown(an_open_quote_takes_the_rest_and_the_last_parameter_too, fresh, done),
		cmocka_unit_test_setup_teardown(five_thousand_quotes_are_harmless, fresh, done),
	};

	return !!cmocka_run_group_tests_name("router_parse", tests, NULL, NULL);
}

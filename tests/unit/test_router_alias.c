#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../services/router/alias.h"

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

/* name|param|param ... */
static void is(const struct parsed *p, const char *want)
{
	struct buf b = BUF(1 << 20);
	struct str got;

	buf_add(&b, p->prefix);
	buf_add(&b, p->name);
	for (size_t i = 0; i < p->params.n; i++) {
		buf_add(&b, STR("|"));
		buf_add(&b, ((const struct str *)p->params.items)[i]);
	}
	assert_int_equal(buf_str(&b, &got), 0);
	if (!str_eq(got, str_of(want)))
		fail_msg("got \"" STR_FMT "\", want \"%s\"", STR_ARG(got), want);
	buf_clear(&b);
}

static void expands(const char *said, const char *target, const char *want)
{
	struct alias_trail trail = { 0 };
	struct parsed p;

	assert_true(parse_command(str_of(said), mem, &p));
	assert_true(alias_expand(str_of(target), STR("Ann B"), &trail, mem, &p));
	is(&p, want);
}

/* router 60 */
static void without_placeholders_the_parameters_follow(void **state)
{
	(void)state;
	expands("!q 7", "!memories get", "!memories|get|7");
	expands("!q", "!memories get", "!memories|get");
	expands("!q \"a b\" c", "!Memories add quote", "!memories|add|quote|a b|c");
	expands("!q x", "#song", "#song|x");
}

/* router 60 */
static void one_parameter_stays_one(void **state)
{
	(void)state;
	expands("!q \"a b\" c", "!x {arg2} {arg1}", "!x|c|a b");
	expands("!q \"a \\\" b\"", "!x {arg1} end", "!x|a \" b|end");
	expands("!q 'say \xE2\x80\x9Chi\xE2\x80\x9D, don"
	        "\xE2\x80\x99"
	        "t'",
	        "!x {arg1}", "!x|say \xE2\x80\x9Chi\xE2\x80\x9D, don\xE2\x80\x99t");
	expands("!q \"a b\"", "!x pre-{arg1}-post", "!x|pre-a b-post");
	expands("!q a", "!x {arg1} {arg2} z", "!x|a||z");
	expands("!q a", "!hug {user}", "!hug|Ann B");
	expands("!q {arg2} b", "!x {arg1}", "!x|{arg2}");       /* once only */
}

static void the_rest_goes_in_raw(void **state)
{
	(void)state;
	expands("!q \"a b\" c", "!x first {args}", "!x|first|a b|c");
	expands("!q a b", "!x \"{all_args}\"", "!x|a b");
	expands("!q a", "!x {nothing} {", "!x|{nothing}|{|a");
}

static void a_target_that_is_no_command_names_nobody(void **state)
{
	(void)state;
	expands("!q a", "hello {arg1}", "!");
	expands("!q a", "!{arg1}", "!");
}

/* router 60 */
static void the_sixth_and_a_repeated_one_are_loops(void **state)
{
	static const char *const target[] = { "!b", "!c", "!d", "!e", "!f" };
	struct alias_trail trail = { 0 };
	struct parsed p;

	(void)state;
	assert_true(parse_command(STR("!a 1"), mem, &p));
	for (size_t i = 0; i < ARRAY_LEN(target); i++)
		assert_true(alias_expand(str_of(target[i]), STR("u"), &trail, mem, &p));
	is(&p, "!f|1");
	assert_false(alias_expand(STR("!g"), STR("u"), &trail, mem, &p));
	is(&p, "!f|1");

	trail = (struct alias_trail){ 0 };
	assert_true(parse_command(STR("!a"), mem, &p));
	assert_true(alias_expand(STR("!b"), STR("u"), &trail, mem, &p));
	assert_true(alias_expand(STR("!A"), STR("u"), &trail, mem, &p));
	assert_false(alias_expand(STR("!b"), STR("u"), &trail, mem, &p));
}

static void no_more_than_64_parameters(void **state)
{
	struct buf b = BUF(1 << 20);
	struct alias_trail trail = { 0 };
	struct parsed p;
	struct str text;

	(void)state;
	buf_add(&b, STR("!q"));
	for (int i = 0; i < 64; i++)
		buf_printf(&b, " p%d", i);
	assert_int_equal(buf_str(&b, &text), 0);
	assert_true(parse_command(text, mem, &p));
	assert_true(alias_expand(STR("!x one two"), STR("u"), &trail, mem, &p));
	assert_int_equal(p.params.n, 64);
	assert_true(str_eq(((const struct str *)p.params.items)[63], STR("p61 p62 p63")));
	buf_clear(&b);
}

/* An administrator's joke: a long parameter, eighty times. */
static void what_grows_too_long_names_nobody(void **state)
{
	struct buf said = BUF(1 << 20), target = BUF(1 << 20);
	struct alias_trail trail = { 0 };
	struct parsed p;
	struct str text, to;

	(void)state;
	buf_add(&said, STR("!q "));
	for (int i = 0; i < 4900; i++)
		buf_add(&said, STR("x"));
	buf_add(&target, STR("!q"));
	for (int i = 0; i < 60; i++)
		buf_add(&target, STR(" {arg1}"));
	assert_int_equal(buf_str(&said, &text), 0);
	assert_int_equal(buf_str(&target, &to), 0);
	assert_true(parse_command(text, mem, &p));
	assert_true(alias_expand(to, STR("u"), &trail, mem, &p));
	is(&p, "!");
	assert_true(arena_used(mem) < 200000);
	buf_clear(&said);
	buf_clear(&target);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(without_placeholders_the_parameters_follow, fresh, done),
		cmocka_unit_test_setup_teardown(one_parameter_stays_one, fresh, done),
		cmocka_unit_test_setup_teardown(the_rest_goes_in_raw, fresh, done),
		cmocka_unit_test_setup_teardown(a_target_that_is_no_command_names_nobody, fresh, done),
		cmocka_unit_test_setup_teardown(the_sixth_and_a_repeated_one_are_loops, fresh, done),
		cmocka_unit_test_setup_teardown(no_more_than_64_parameters, fresh, done),
		cmocka_unit_test_setup_teardown(what_grows_too_long_names_nobody, fresh, done),
	};

	return cmocka_run_group_tests_name("router_alias", tests, NULL, NULL);
}

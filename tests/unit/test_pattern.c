/* The regex dialect of rules and workflows: router.md 14, scenarios 33 and 76. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "err.h"
#include "pattern.h"

#include <stdlib.h>
#include <string.h>

static struct pattern_scratch *scratch;

static int up(void **state)
{
	(void)state;
	scratch = pattern_scratch_new();
	return 0;
}

static int down(void **state)
{
	(void)state;
	pattern_scratch_free(scratch);
	return 0;
}

static struct pattern *compiled(const char *text, bool ignore_case)
{
	struct pattern *p;
	struct err err = { 0 };
	size_t at;

	if (pattern_compile(str_of(text), ignore_case, &p, &at, &err) != 0)
		fail_msg("%s: %s", text, err.text);
	return p;
}

/* want NULL: no match. */
static void finds_as(const char *pattern, bool ignore_case, const char *text, const char *want)
{
	struct pattern *p = compiled(pattern, ignore_case);
	struct pattern_span s = { 0, 0 };
	bool found = pattern_find(p, scratch, str_of(text), &s);

	assert_int_equal(found, pattern_find(p, scratch, str_of(text), NULL));
	if (found != (want != NULL))
		fail_msg("/%s/ %s \"%s\"", pattern, found ? "found something in" : "did not find", text);
	if (want != NULL &&
	    (s.to - s.from != strlen(want) || memcmp(text + s.from, want, s.to - s.from) != 0))
		fail_msg("/%s/ found \"%.*s\" in \"%s\", not \"%s\"", pattern, (int)(s.to - s.from),
		         text + s.from, text, want);
	pattern_free(p);
}

static void finds(const char *pattern, const char *text, const char *want)
{
	finds_as(pattern, false, text, want);
}

static void refuses(const char *pattern, size_t want_at)
{
	struct pattern *p;
	struct err err = { 0 };
	size_t at = 12345;

	if (pattern_compile(str_of(pattern), false, &p, &at, &err) == 0)
		fail_msg("/%s/ was taken", pattern);
	assert_int_equal(err.code, -EINVAL);
	if (at != want_at)
		fail_msg("/%s/ refused at %zu, not %zu: %s", pattern, at, want_at, err.text);
}

static void every_part_of_the_dialect_finds_what_it_says(void **state)
{
	(void)state;
	finds("b+", "abbbc", "bbb");
	finds("a.c", "xabcx", "abc");
	finds("a.c", "a\u00e9c", "a\u00e9c");
	finds("a.c", "a\nc", NULL);
	finds("(?s)a.c", "a\nc", "a\nc");
	finds("[a-c\u00e9]+", "xxab\u00e9cd", "ab\u00e9c");
	finds("[^a-c]+", "abxyc", "xy");
	finds("[]a]+", "a]b", "a]");
	finds("[a-]+", "x-a-", "-a-");
	finds("[\\]\\\\]+", "x]\\", "]\\");
	finds("\\d+", "ab12", "12");
	finds("\\D+", "12ab", "ab");
	finds("\\w+", "-a_\u00e91-", "a_\u00e91");
	finds("\\W+", "ab-!cd", "-!");
	finds("[\\W]", "_", NULL);
	finds("\\s\\S", "a\u3000b", "\u3000b");
	finds("\\p{Lu}\\p{Ll}", "ab\u0416\u0436", "\u0416\u0436");
	finds("\\P{L}+", "ab12", "12");
	finds("[\\p{P}\\p{S}]+", "a!+b", "!+");
	finds("\\p{M}", "e\u0301", "\u0301");
	finds("\\p{N}", "a\u00bd", "\u00bd");
	finds("^ab$", "ab", "ab");
	finds("^ab$", "ab\n", NULL);
	finds("^$", "", "");
	finds("a$b", "a$b", NULL);
	finds("(ab|cd)+e", "xabcde", "abcde");
	finds("(?:a|b)c", "bc", "bc");
	finds("a{2,3}", "aaaa", "aaa");
	finds("a{2}", "aaaa", "aa");
	finds("a{2,}", "aaaa", "aaaa");
	finds("xa{0}y", "xy", "xy");
	finds("a*", "bb", "");
	finds("a*?b", "aab", "aab");
	finds("\\bcat\\b", "a cat!", "cat");
	finds("\\bcat\\b", "concatenate", NULL);
	finds("\\Bcat\\B", "concatenate", "cat");
	finds("\\bcat", "\u00e9cat", NULL);
	finds("c\\+\\+\\.\\{", "c++.{", "c++.{");
	finds("()*a", "a", "a");
	finds("(a*)*b", "aaab", "aaab");
	finds("(a|)+b", "ab", "ab");
	finds("a|ab|abc", "xabcd", "abc");      /* leftmost, then longest */
	finds("bc|abcd", "abcd", "abcd");
	finds("b|abcx", "abcd", "b");
}

static void case_does_not_count_when_it_is_to_be_ignored(void **state)
{
	(void)state;
	finds_as("\u00c9t\u00c9", true, "\u00e9T\u00e9", "\u00e9T\u00e9");
	finds_as("\u0436", true, "\u0416", "\u0416");
	finds_as("\u03c3", true, "\u03c2", "\u03c2");
	finds_as("[\u03c2]", true, "\u03a3", "\u03a3");
	finds_as("k", true, "\u212a", "\u212a");        /* Kelvin */
	finds_as("[a-z]+", true, "AbC", "AbC");
	finds_as("[A-Z]+", true, "abc", "abc");
	finds_as("[\u0430-\u044f]+", true, "\u0416\u0418", "\u0416\u0418");
	finds_as("[^a]", true, "A", NULL);
	finds_as("\\p{Lu}", true, "a", "a");
	finds("(?i)abc", "ABC", "ABC");
	finds("(?i)(?s)a.c", "A\nC", "A\nC");
	finds("(?is)a.c", "A\nC", "A\nC");
	finds("\u00e9", "\u00c9", NULL);
}

/* 33 */
static void what_is_not_of_the_dialect_is_refused_with_its_place(void **state)
{
	struct buf b = BUF(1 << 16);
	struct str s;

	(void)state;
	refuses("ab(c", 2);
	refuses("ab)c", 2);
	refuses("a[bc", 1);
	refuses("*a", 0);
	refuses("a**", 2);
	refuses("a++", 2);
	refuses("a{2}{3}", 4);
	refuses("(a)\\1", 3);
	refuses("a(?=b)", 1);
	refuses("a(?!b)", 1);
	refuses("a(?<=b)", 1);
	refuses("a(?<n>b)", 1);
	refuses("a(?>b)", 1);
	refuses("a(?R)", 1);
	refuses("a(?i)b", 1);
	refuses("(?x)a", 0);
	refuses("\\p{Greek}", 0);
	refuses("\\pL", 0);
	refuses("\\X", 0);
	refuses("\\x41", 0);
	refuses("ab\\", 2);
	refuses("[z-a]", 1);
	refuses("[\\d-z]", 1);
	refuses("[[:alpha:]]", 1);
	refuses("a{3,2}", 1);
	refuses("a{1001}", 1);
	refuses("a{,3}", 1);
	refuses("a{x", 1);
	refuses("^*", 1);
	refuses("(((a{100}){100}){100})", 0);   /* too large */
	refuses("\u00e9(", 1);                  /* characters, not bytes */
	for (int i = 0; i < 10000; i++)
		buf_add(&b, STR("("));
	buf_add(&b, STR(""));
	assert_int_equal(buf_str(&b, &s), 0);
	refuses(s.p, 500);
	buf_clear(&b);
}

static void nested_groups_of_the_longest_pattern_are_fine(void **state)
{
	char deep[PATTERN_CHARS + 1];

	(void)state;
	memset(deep, '(', 249);
	memcpy(deep + 249, "ab", 2);
	memset(deep + 251, ')', 249);
	deep[500] = '\0';
	finds(deep, "xab", "ab");
	memset(deep, '|', 500);
	finds(deep, "xab", "");
}

/* 76: work is counted, not time: no text makes more than one step per instruction and character,
 * once when it is reached and once when it is taken. */
static void no_pattern_is_slow(void **state)
{
	static const char *const bad[] = {
		"(a+)+$", "(a|a)*b", "(a*)*b", "(.*a){20}", "(a|aa)+$", "^(([a-z])+.)+[A-Z]([a-z])+$",
		"(a?){100}a{100}", "(x+x+)+y", "a*a*a*a*a*a*a*b", "(a{1,30}){1,30}b", ".*.*.*.*=.*",
	};
	char text[5001];

	(void)state;
	memset(text, 'a', 5000);
	text[5000] = '\0';
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct pattern *p = compiled(bad[i], false);
		uint64_t before = pattern_steps(scratch);
		struct pattern_span s;

		(void)pattern_find(p, scratch, str_of(text), &s);
		assert_true(pattern_steps(scratch) - before <= 2 * 5001 * (uint64_t)pattern_size(p));
		pattern_free(p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_part_of_the_dialect_finds_what_it_says),
		cmocka_unit_test(case_does_not_count_when_it_is_to_be_ignored),
		cmocka_unit_test(what_is_not_of_the_dialect_is_refused_with_its_place),
		cmocka_unit_test(nested_groups_of_the_longest_pattern_are_fine),
		cmocka_unit_test(no_pattern_is_slow),
	};

	return !!cmocka_run_group_tests(tests, up, down);
}

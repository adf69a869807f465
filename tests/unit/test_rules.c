/* Which rule hits which text: router.md 14, scenarios 30-32, 34 (sets), 75-77, 79. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../services/router/rules.h"
#include "envelope.h"
#include "err.h"
#include "pattern.h"
#include "wait.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct rules_scan *scan;
static const struct rules_who member = { ROLE_MEMBER, RULES_ANY_ACTION };

static int up(void **state)
{
	struct err err = { 0 };

	(void)state;
	scan = rules_scan_new(&err);
	return scan != NULL ? 0 : -1;
}

static int down(void **state)
{
	(void)state;
	rules_scan_free(scan);
	return 0;
}

#pragma GCC diagnostic ignored "-Woverride-init"
/* A rule by default: insensitive, not normalised, everybody, priority 100. */
#define RULE(id_, match_, text_, ...) \
	{ .id = (id_), .priority = 100, .match = (match_), .exempt = -1, .string = STR(text_), __VA_ARGS__ }

static struct rules_set *fitted(struct rules_set *s)
{
	rules_scan_fit(scan, s);
	return s;
}

static struct rules_set *compiled(const struct rule *rules, size_t n)
{
	struct arena *mem = arena_new(4096, 64 << 20);
	struct rule *own = arena_alloc(mem, (n + 1) * sizeof own[0]);

	for (size_t i = 0; i < n; i++)
		own[i] = rules[i];
	return fitted(rules_compile(own, n, mem));
}

static int64_t hit(const struct rules_set *s, const char *text)
{
	const struct rule *r;

	rules_scan_text(scan, str_of(text));
	r = rules_find(scan, s, member);
	return r != NULL ? r->id : 0;
}

static void hits(struct rule r, const char *text, bool want)
{
	struct rules_set *s = compiled(&r, 1);

	if ((hit(s, text) != 0) != want)
		fail_msg("%s \"" STR_FMT "\" %s \"%s\"", rule_match_names[r.match], STR_ARG(r.string),
		         want ? "did not hit" : "hit", text);
	rules_set_free(s);
}

#define HITS(match, text, ...)  hits((struct rule)RULE(1, match, __VA_ARGS__), text, true)
#define MISSES(match, text, ...) hits((struct rule)RULE(1, match, __VA_ARGS__), text, false)

/* 31 */
static void a_star_takes_any_text_and_a_word_stands_alone(void **state)
{
	(void)state;
	for (int m = RULE_EXACT; m <= RULE_REGEX; m++) {
		hits((struct rule)RULE(1, m, "*"), "anything", true);
		hits((struct rule)RULE(1, m, "*"), "", true);
	}
	HITS(RULE_WORD, "a cat!", "cat");
	MISSES(RULE_WORD, "concatenate", "cat");
	MISSES(RULE_WORD, "cat_", "cat");
	MISSES(RULE_WORD, "\u00e9cat", "cat");
	HITS(RULE_WORD, "concatenate a cat", "cat");
	HITS(RULE_WORD, "cat", "cat");
	HITS(RULE_WORD, "I like c++ a lot", "c++");
	HITS(RULE_WORD, "c++11", "c++");
	MISSES(RULE_WORD, "abc++", "c++");
	HITS(RULE_CONTAINS, "concatenate", "cat");
	HITS(RULE_EXACT, "  cat\n", "cat");
	MISSES(RULE_EXACT, "cat cat", "cat");
	HITS(RULE_REGEX, "xx cat7 yy", "cat\\d");
}

/* 32 */
static void case_counts_only_where_it_is_wanted(void **state)
{
	static const struct { const char *pattern, *text; } pairs[] = {
		{ "Cat", "cAT" }, { "\u00c9t\u00e9", "\u00e9T\u00c9" }, { "\u0416\u0436", "\u0436\u0416" },
		{ "\u03a3\u03c3", "\u03c3\u03c2" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
		for (int m = RULE_EXACT; m <= RULE_REGEX; m++) {
			struct rule r = RULE(1, m, "");

			r.string = str_of(pairs[i].pattern);
			hits(r, pairs[i].text, true);
			hits(r, pairs[i].pattern, true);
			r.case_sensitive = true;
			hits(r, pairs[i].text, false);
			hits(r, pairs[i].pattern, true);
		}
}

/* 77 */
static void normalised_rules_see_through_disguises(void **state)
{
	static const char *const disguises[] = {
		"b\u0430d", "b\u200dad", "b\u0336a\u0336d\u0336", "\uff42\uff41\uff44", "%62ad", "%2562ad", "BAD",
		"\U0001d41b\U0001d41a\U0001d41d", "b\u00e1d",
	};

	(void)state;
	for (size_t i = 0; i < sizeof disguises / sizeof disguises[0]; i++)
		for (int m = RULE_EXACT; m <= RULE_REGEX; m++) {
			struct rule r = RULE(1, m, "bad", .normalize = true);

			hits(r, disguises[i], true);
			r.normalize = false;
			hits(r, disguises[i], i == 6);
		}
	MISSES(RULE_CONTAINS,
	       "\u043f\u0440\u0438\u0432\u0435\u0442, \u043a\u0430\u043a \u0434\u0435\u043b\u0430", "bad",
	       .normalize = true);
	MISSES(RULE_CONTAINS, "\u0431\u0430\u0434", "bad", .normalize = true);
	MISSES(RULE_WORD, "\u043f\u0440\u0438\u0432\u0435\u0442", "np", .normalize = true);
	/* The pattern is folded as the text is. */
	HITS(RULE_CONTAINS, "b\u0430d", "B\u00c1D", .normalize = true);
	HITS(RULE_CONTAINS, "so b\u0430d", "so   b%61d", .normalize = true);
	HITS(RULE_CONTAINS, "B\u0410D", "BAD", .normalize = true, .case_sensitive = true);
	MISSES(RULE_CONTAINS, "b\u0430d", "BAD", .normalize = true, .case_sensitive = true);
}

/* 30 */
static void the_first_by_priority_and_id_acts(void **state)
{
	struct rule rules[] = {
		RULE(9, RULE_CONTAINS, "bad", .priority = 5), RULE(3, RULE_EXACT, "bad", .priority = 10),
		RULE(4, RULE_REGEX, "^b.d$", .priority = 10), RULE(5, RULE_WORD, "bad", .priority = 10),
		RULE(6, RULE_CONTAINS, "good", .priority = 10), RULE(7, RULE_CONTAINS, "*", .priority = 20),
	};
	const struct rule *found[6];
	struct rules_set *s = compiled(rules, 6);

	(void)state;
	assert_int_equal(hit(s, "bad"), 9);
	assert_int_equal(hit(s, "so good"), 6);
	assert_int_equal(hit(s, "else"), 7);
	assert_int_equal(rules_find_all(scan, s, member, found, 6), 1);
	rules_scan_text(scan, STR("bad"));
	assert_int_equal(rules_find_all(scan, s, member, found, 6), 5);
	for (size_t i = 0; i + 1 < 5; i++)
		assert_true(rule_before(found[i], found[i + 1]));
	assert_int_equal(found[1]->id, 3);
	assert_int_equal(rules_find_all(scan, s, member, found, 2), 2);
	rules_set_free(s);
	/* Without the first, each of the others in turn. */
	s = compiled(rules + 1, 5);
	assert_int_equal(hit(s, "bad"), 3);
	rules_set_free(s);
	s = compiled(rules + 2, 4);
	assert_int_equal(hit(s, "bad"), 4);
	rules_set_free(s);
	s = compiled(rules + 3, 3);
	assert_int_equal(hit(s, "bad"), 5);
	rules_set_free(s);
}

static void a_spared_rank_goes_on_to_the_next_rule(void **state)
{
	const struct rule rules[] = {
		RULE(1, RULE_CONTAINS, "bad", .exempt = ROLE_MODERATOR), RULE(2, RULE_REGEX, "ba+d", .exempt = ROLE_ADMIN),
		RULE(3, RULE_WORD, "bad", .exempt = ROLE_OWNER), RULE(4, RULE_EXACT, "*", .exempt = ROLE_OWNER),
	};
	static const int64_t want[] = { [ROLE_OWNER] = 0, [ROLE_ADMIN] = 3, [ROLE_MODERATOR] = 2, [ROLE_VIP] = 1,
		[ROLE_SUBSCRIBER] = 1, [ROLE_MEMBER] = 1 };
	struct rules_set *s = compiled(rules, 4);

	(void)state;
	assert_true(rules_set_has_exempt(s));
	rules_scan_text(scan, STR("so bad"));
	for (int rank = ROLE_OWNER; rank <= ROLE_MEMBER; rank++) {
		const struct rule *r = rules_find(scan, s, (struct rules_who){ rank, RULES_ANY_ACTION });

		assert_int_equal(r != NULL ? r->id : 0, want[rank]);
	}
	rules_set_free(s);
}

/* 78: an edit is asked about warn, block and webhook only. */
static void rules_of_actions_that_are_not_asked_are_passed_over(void **state)
{
	const struct rule rules[] = {
		RULE(1, RULE_CONTAINS, "bad", .action = RULE_COMMAND), RULE(2, RULE_REGEX, "b.d", .action = RULE_BLOCK),
	};
	struct rules_set *s = compiled(rules, 2);

	(void)state;
	assert_int_equal(hit(s, "bad"), 1);
	assert_int_equal(rules_find(scan, s, (struct rules_who){ ROLE_MEMBER, RULES_NO_COMMANDS })->id, 2);
	rules_set_free(s);
}

static void rules_that_can_never_act_are_refused_and_left_out(void **state)
{
	const struct rule rules[] = {
		RULE(1, RULE_REGEX, "a(b"), RULE(2, RULE_CONTAINS, "\u200d\u0301", .normalize = true),
		RULE(3, RULE_EXACT, "  "), RULE(4, RULE_CONTAINS, "fine"),
	};
	struct rules_set *s = compiled(rules, 4);
	struct err err;
	size_t at;

	(void)state;
	for (int i = 0; i < 3; i++) {
		err = (struct err){ 0 };
		assert_int_equal(rule_check(&rules[i], &at, &err), -EINVAL);
		assert_int_equal(at, i == 0 ? 1 : 0);
	}
	assert_int_equal(rule_check(&rules[3], &at, &err), 0);
	assert_int_equal(hit(s, "fine"), 4);
	assert_int_equal(hit(s, "a(b ab"), 0);
	assert_int_equal(hit(s, ""), 0);
	rules_set_free(s);
}

/* 79: where, in what was compared. */
static void spans_point_at_what_was_hit(void **state)
{
	static const struct { struct rule r; const char *text, *want; } cases[] = {
		{ RULE(1, RULE_CONTAINS, "cat"), "a CAT!", "CAT" },
		{ RULE(1, RULE_CONTAINS, "\u00e9"), "x\u00c9y", "\u00c9" },
		{ RULE(1, RULE_WORD, "cat"), "concat Cat", "Cat" },
		{ RULE(1, RULE_EXACT, "cat"), "  Cat ", "Cat" },
		{ RULE(1, RULE_REGEX, "c.t\\b"), "concatx CUT", "CUT" },
		{ RULE(1, RULE_REGEX, "*"), "all of it", "all of it" },
		{ RULE(1, RULE_CONTAINS, "BAD", .normalize = true), "so  b\u0430\u0301d", "bad" },
		{ RULE(1, RULE_CONTAINS, "\u212a"), "a \u212a b", "\u212a" },   /* folded it is shorter */
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct rules_set *s = compiled(&cases[i].r, 1);
		struct str got;

		assert_int_equal(hit(s, cases[i].text), 1);
		got = rules_matched(scan, rules_set_at(s, 0));
		if (!str_eq(got, str_of(cases[i].want)))
			fail_msg("case %zu: \"" STR_FMT "\"", i, STR_ARG(got));
		rules_set_free(s);
	}
}

static void equal_rules_have_equal_prints(void **state)
{
	struct rule rules[] = { RULE(1, RULE_CONTAINS, "a"), RULE(2, RULE_WORD, "b") };
	struct rules_set *one = compiled(rules, 2), *two = compiled(rules, 2), *three;

	(void)state;
	assert_true(rules_set_print(one) == rules_set_print(two));
	rules[1].warning = STR("other");
	three = compiled(rules, 2);
	assert_true(rules_set_print(one) != rules_set_print(three));
	rules_set_free(one);
	rules_set_free(two);
	rules_set_free(three);
}

/* 76: in a set as alone. */
static void hostile_patterns_cost_steps_in_proportion(void **state)
{
	const struct rule rules[] = {
		RULE(1, RULE_REGEX, "(a+)+$"), RULE(2, RULE_REGEX, "(a|a)*b"), RULE(3, RULE_REGEX, "(.*a){20}b"),
		RULE(4, RULE_REGEX, "(x+x+)+y"), RULE(5, RULE_REGEX, "^(([a-z])+.)+[A-Z]([a-z])+$"),
		RULE(6, RULE_REGEX, "(\\w{1,60}\\s?){1,60}b"),
	};
	struct rules_set *s = compiled(rules + 1, 5);
	static char text[5002];
	uint64_t before = rules_steps(scan);

	(void)state;
	memset(text, 'a', 5000);
	text[5000] = '!';
	(void)hit(s, text);
	assert_true(rules_steps(scan) - before < UINT64_C(2) * 5002 * 5 * PATTERN_PROGRAM);
	rules_set_free(s);
	s = compiled(rules, 1);
	before = rules_steps(scan);
	assert_int_equal(hit(s, text), 0);
	assert_true(rules_steps(scan) - before <= 2 * 5002 * 16);
	text[5000] = '\0';
	assert_int_equal(hit(s, text), 1);
	rules_set_free(s);
}

/* A rule set as large as they get: every tenth word, every twentieth an expression. */
static struct rules_set *large(size_t n)
{
	struct arena *mem = arena_new(1 << 20, 64 << 20);
	struct rule *r = arena_alloc(mem, n * sizeof r[0]);

	for (size_t i = 0; i < n; i++) {
		r[i] = (struct rule)RULE((int64_t)i + 1, RULE_CONTAINS, "");
		r[i].match = i % 20 == 0 ? RULE_REGEX :
		             i % 10 == 5 ? RULE_WORD :
		             i % 10 == 7 ? RULE_EXACT :
		                           RULE_CONTAINS;
		r[i].normalize = i % 4 == 1;
		r[i].string = r[i].match == RULE_REGEX ?
		                      arena_printf(mem, "\\bspam%zu\\s*(now|here)\\w*\\d?", i) :
		                      arena_printf(mem, "spam%zu.example", i);
	}
	return fitted(rules_compile(r, n, mem));
}

/* 75: work, not time: of 10,000 rules a clean text runs none, a hit runs those that may be it. */
static void ten_thousand_rules_run_no_expression_on_clean_text(void **state)
{
	struct rules_set *s = large(10000);
	static char text[501];
	uint64_t before = rules_steps(scan);

	(void)state;
	for (size_t i = 0; i < 500; i++)
		text[i] = "spam and eggs "[i % 14];
	assert_int_equal(hit(s, text), 0);
	assert_int_equal(rules_steps(scan) - before, 0);
	memcpy(text + 200, " spam4321.example ", 18);
	assert_int_equal(hit(s, text), 4322);
	memcpy(text + 200, " spam4320 here    ", 18);
	assert_int_equal(hit(s, text), 4321);
	assert_true(rules_steps(scan) - before < 500 * 60);
	assert_int_equal(hit(s, "spam127.example"), 128);
	assert_true(rules_set_bytes(s) < 64u << 20);
	rules_set_free(s);
}

static void no_rules_hit_nothing(void **state)
{
	struct rules_set *s = compiled(NULL, 0);

	(void)state;
	assert_int_equal(hit(s, "anything"), 0);
	assert_int_equal(rules_set_size(s), 0);
	rules_set_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_star_takes_any_text_and_a_word_stands_alone),
		cmocka_unit_test(case_counts_only_where_it_is_wanted),
		cmocka_unit_test(normalised_rules_see_through_disguises),
		cmocka_unit_test(the_first_by_priority_and_id_acts),
		cmocka_unit_test(a_spared_rank_goes_on_to_the_next_rule),
		cmocka_unit_test(rules_of_actions_that_are_not_asked_are_passed_over),
		cmocka_unit_test(rules_that_can_never_act_are_refused_and_left_out),
		cmocka_unit_test(spans_point_at_what_was_hit),
		cmocka_unit_test(equal_rules_have_equal_prints),
		cmocka_unit_test(hostile_patterns_cost_steps_in_proportion),
		cmocka_unit_test(ten_thousand_rules_run_no_expression_on_clean_text),
		cmocka_unit_test(no_rules_hit_nothing),
	};

	return !!cmocka_run_group_tests(tests, up, down);
}

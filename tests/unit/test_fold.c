/* Texts as rules compare them: router.md 14, scenario 77. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../services/router/fold.h"
#include "err.h"

#include <stdlib.h>
#include <string.h>

static struct fold *fold;

static int up(void **state)
{
	struct err err = { 0 };

	(void)state;
	fold = fold_open(&err);
	return fold != NULL ? 0 : -1;
}

static int down(void **state)
{
	(void)state;
	fold_close(fold);
	return 0;
}

static void becomes_as(const char *text, bool case_sensitive, bool normalize, const char *want)
{
	struct buf b = BUF(1 << 20);
	struct str s;

	fold_text(fold, str_of(text), case_sensitive, normalize, &b);
	assert_int_equal(buf_str(&b, &s), 0);
	if (!str_eq(s, str_of(want)))
		fail_msg("\"%s\" became \"" STR_FMT "\", not \"%s\"", text, STR_ARG(s), want);
	buf_clear(&b);
}

static void becomes(const char *text, const char *want)
{
	becomes_as(text, false, true, want);
	becomes_as(text, false, true, want);    /* and again from memory */
}

static void look_alikes_become_what_they_look_like(void **state)
{
	(void)state;
	becomes("b\u0430d", "bad");                     /* Cyrillic a */
	becomes("\u0412\u0410\u0421", "\u0432ac");      /* Cyrillic BAC folds first: a small ve is no b */
	becomes("s\u0441\u0430m", "scam");
	becomes("\uff42\uff41\uff44", "bad");           /* full width */
	becomes("\U0001d41b\U0001d41a\U0001d41d", "bad");       /* mathematical bold */
	becomes("\u24d1\u24d0\u24d3", "bad");           /* circled */
	becomes("\u07c0", "o");                         /* NKo zero looks like O */
	becomes_as("\u07c0", true, true, "O");
}

static void invisible_characters_are_dropped(void **state)
{
	(void)state;
	becomes("b\u200dad", "bad");                    /* joiner */
	becomes("b\u200ba\u00add\ufeff", "bad");        /* space of no width, soft hyphen, byte order mark */
	becomes("\u202eb\u2066ad\u2069", "bad");        /* directions */
	becomes("b\u0336a\u0336d\u0336", "bad");        /* struck through */
	becomes("\u00e1\u00e9\u00ee", "aei");           /* marks of composed letters */
	becomes("a\u0301\u0301\u0301", "a");
	becomes("\u3164b\U000e0001ad", "bad");          /* Hangul filler, tag */
	becomes("\u200d\u0301", "");
}

static void percent_escapes_are_decoded_twice_at_most(void **state)
{
	(void)state;
	becomes("%62ad", "bad");
	becomes("%2562ad", "bad");
	becomes("%252562ad", "%62ad");
	becomes("%62%61%64", "bad");
	becomes("%D0%B0%d0%b0", "aa");                  /* Cyrillic, then what it looks like */
	becomes("100%", "100%");
	becomes("100% %6", "100% %6");
	becomes("%zz%ff%c3%28", "%zz%ff%c3(");          /* only where UTF-8 comes out */
	becomes("%00", "%00");
	becomes("%ed%a0%80", "%ed%a0%80");              /* half a surrogate pair */
	becomes_as("%62ad", false, false, "%62ad");
}

static void white_space_becomes_one_blank(void **state)
{
	(void)state;
	becomes("a \t\r\n b", "a b");
	becomes("a\u3000\u00a0\u2003b", "a b");
	becomes("  a  ", " a ");
	becomes("a%20%20b", "a b");
	becomes("\u00a8 \u00a8", " ");                  /* a lone diaeresis is a blank and a mark */
}

static void ascii_stays_as_it_is(void **state)
{
	char all[128];

	(void)state;
	becomes("0O1lI|rnm5S", "0o1li|rnm5s");
	for (int c = 0x21; c < 0x7f; c++)
		all[c - 0x21] = (char)c;
	all[0x7f - 0x21] = '\0';
	becomes_as(all, true, true, all);
	becomes_as(all, true, false, all);
}

static void case_is_folded_unless_it_counts(void **state)
{
	(void)state;
	becomes_as("\u00c9\u0416\u03a3\u03c2", false, false, "\u00e9\u0436\u03c3\u03c3");
	becomes_as("\u00c9\u0416\u03a3", true, false, "\u00c9\u0416\u03a3");
	becomes("BAD", "bad");
	becomes_as("B\u0410D", true, true, "BAD");
}

/* 77: it must not be hit by words it does not imitate. */
static void plain_russian_keeps_its_letters(void **state)
{
	(void)state;
	becomes("\u043f\u0440\u0438\u0432\u0435\u0442", "\u043fp\u0438\u0432e\u0442");
	becomes("\u0416\u0436", "\u0436\u0436");
	becomes("\u0431\u0430\u0434", "6a\u0434");    /* be looks like a six */
}

static void long_runs_of_marks_take_no_longer_than_letters(void **state)
{
	struct buf in = BUF(1 << 20), out = BUF(1 << 20);
	struct str text, s;

	(void)state;
	buf_add(&in, STR("a"));
	for (int i = 0; i < 5000; i++)
		buf_add(&in, str_of(i % 2 ? "\u0301" : "\u0316"));      /* classes to be put in order */
	assert_int_equal(buf_str(&in, &text), 0);
	fold_text(fold, text, false, true, &out);
	assert_int_equal(buf_str(&out, &s), 0);
	assert_int_equal(s.n, 1);
	buf_clear(&in);
	buf_clear(&out);
}

static void trimming_knows_white_space_of_all_scripts(void **state)
{
	struct str s;

	(void)state;
	s = fold_trim(STR("\u3000 a b\u00a0\n"));
	assert_int_equal(s.n, 3);
	assert_memory_equal(s.p, "a b", 3);
	assert_int_equal(fold_trim(STR(" \u2003")).n, 0);
	assert_int_equal(fold_trim(STR_NONE).n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(look_alikes_become_what_they_look_like),
		cmocka_unit_test(invisible_characters_are_dropped),
		cmocka_unit_test(percent_escapes_are_decoded_twice_at_most),
		cmocka_unit_test(white_space_becomes_one_blank),
		cmocka_unit_test(ascii_stays_as_it_is),
		cmocka_unit_test(case_is_folded_unless_it_counts),
		cmocka_unit_test(plain_russian_keeps_its_letters),
		cmocka_unit_test(long_runs_of_marks_take_no_longer_than_letters),
		cmocka_unit_test(trimming_knows_white_space_of_all_scripts),
	};

	return !!cmocka_run_group_tests(tests, up, down);
}

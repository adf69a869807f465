/* test_split.c - where a long text is cut, for texts we thought of and for texts nobody thought of. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "split.h"
#include "wait.h"

#define FLAG   "\xF0\x9F\x87\xA9\xF0\x9F\x87\xAA"                                   /* two code points */
#define FAMILY "\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7" /* five */
#define E_ACUTE "e\xCC\x81"                                                         /* two */
#define DOTS   "\xE2\x80\xA6"

static struct arena *mem;
static struct str parts[SPLIT_PARTS];

static struct split_rule rule(size_t chars, size_t n)
{
	return (struct split_rule){ .max_chars = chars, .max_parts = n };
}

static size_t points(struct str s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += ((unsigned char)s.p[i] & 0xC0) != 0x80;
	return n;
}

static size_t cut(const char *text, struct split_rule r)
{
	return split_text(str_of(text), r, mem, parts);
}

static void is(size_t i, const char *text)
{
	char *got = text_of(STR_FMT, STR_ARG(parts[i]));

	assert_string_equal(got, text);
	free(got);
}

static void what_fits_stays_whole(void **state)
{
	(void)state;
	assert_int_equal(cut("hello there", rule(11, 3)), 1);
	is(0, "hello there");
	assert_int_equal(cut("  hello  \n", rule(5, 3)), 1);
	is(0, "hello");
	assert_int_equal(cut(FLAG, rule(2, 1)), 1);
	is(0, FLAG);
}

static void a_text_of_blanks_is_no_part(void **state)
{
	(void)state;
	assert_int_equal(cut("", rule(10, 3)), 0);
	assert_int_equal(cut(" \t\r\n \n", rule(10, 3)), 0);
	assert_int_equal(split_text(STR_NONE, rule(10, 3), mem, parts), 0);
}

static void the_last_line_end_wins(void **state)
{
	(void)state;
	assert_int_equal(cut("ab\ncd ef gh ij", rule(12, 3)), 2);
	is(0, "ab");
	is(1, "cd ef gh ij");
	assert_int_equal(cut("ab\r\ncd\r\nefghijkl", rule(10, 3)), 2);
	is(0, "ab\r\ncd");
	is(1, "efghijkl");
}

static void then_the_last_blank_of_the_second_half(void **state)
{
	(void)state;
	assert_int_equal(cut("aaaa bbbb cccc", rule(11, 3)), 2);
	is(0, "aaaa bbbb");
	is(1, "cccc");
	/* the blank lies in the first half: between characters */
	assert_int_equal(cut("a bbbbbbbbbbbbbb", rule(10, 3)), 2);
	is(0, "a bbbbbbbb");
	is(1, "bbbbbb");
	/* a blank right behind the part is its end */
	assert_int_equal(cut("aaaaaaaaaa bbb", rule(10, 3)), 2);
	is(0, "aaaaaaaaaa");
	is(1, "bbb");
}

static void what_looks_like_one_character_is_not_cut(void **state)
{
	(void)state;
	assert_int_equal(cut("aaa" FAMILY "bbb", rule(7, 3)), 3);
	is(0, "aaa");
	is(1, FAMILY "bb");
	is(2, "b");
	assert_int_equal(cut(FLAG FLAG FLAG, rule(3, 3)), 3);
	is(0, FLAG);
	is(2, FLAG);
	assert_int_equal(cut("abc" E_ACUTE "d", rule(4, 3)), 2);
	is(0, "abc");
	is(1, E_ACUTE "d");
}

/* T20, router 74 */
static void twelve_hundred_characters_are_three_parts_of_words(void **state)
{
	struct buf b = BUF(8192);
	struct str text;
	size_t n;

	(void)state;
	for (int i = 0; i < 150; i++)
		buf_printf(&b, "w%05d  ", i);
	assert_int_equal(buf_str(&b, &text), 0);
	text.n = 1200;
	n = split_text(text, (struct split_rule){ 500, 3, true }, mem, parts);
	assert_int_equal(n, 3);
	for (size_t i = 0; i < n; i++) {
		assert_true(points(parts[i]) <= 500);
		assert_int_equal(parts[i].p[0], 'w');
		/* whole words only */
		assert_true(parts[i].n >= 6 && parts[i].p[parts[i].n - 6] == 'w');
	}
	assert_true(parts[2].p[parts[2].n - 1] != DOTS[2]);
	buf_clear(&b);
}

/* T20: three thousand do not fit, the last part says so. */
static void what_is_left_ends_in_dots(void **state)
{
	char text[3001];
	size_t n;

	(void)state;
	memset(text, 'x', 3000);
	text[3000] = '\0';
	n = cut(text, rule(500, 3));
	assert_int_equal(n, 3);
	assert_int_equal(points(parts[0]), 500);
	assert_int_equal(points(parts[2]), 500);
	assert_memory_equal(parts[2].p + parts[2].n - 3, DOTS, 3);
	assert_int_equal(cut("aaaa bbbb cccc dddd", rule(10, 1)), 1);
	is(0, "aaaa bbbb" DOTS);
}

static void one_line_has_no_line_ends(void **state)
{
	(void)state;
	assert_int_equal(cut("a\nb\r\nc", (struct split_rule){ 10, 3, true }), 1);
	is(0, "a b c");
}

/* One letter under more marks than a part has room for. */
static void marks_without_end_are_cut_after_all(void **state)
{
	struct buf b = BUF(8192);
	struct str text;

	(void)state;
	buf_add(&b, STR("a"));
	for (int i = 0; i < 40; i++)
		buf_add(&b, STR("\xCC\x81"));
	assert_int_equal(buf_str(&b, &text), 0);
	assert_int_equal(split_text(text, rule(10, 5), mem, parts), 5);
	assert_int_equal(points(parts[0]), 10);
	assert_int_equal(points(parts[4]), 1);
	buf_clear(&b);
}

static const char *const pieces[] = {
	"a", "b", "word", " ", " ", "  ", "\n", "\r\n", "\t", "\xC3\xA9", E_ACUTE, "\xE2\x82\xAC", "\xF0\x9F\x98\x80", FLAG, FAMILY,
	"\xE0\xA4\x95\xE0\xA5\x8D\xE0\xA4\xB7", "\xCC\x81", "\xE2\x80\x8D", "\xE4\xBD\xA0\xE5\xA5\xBD", "/", ".", "@",
};

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Bytes other than blanks. */
static size_t ink(struct str s, char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++)
		if (!is_space(s.p[i]))
			out[n++] = s.p[i];
	return n;
}

/* Whatever the text: parts are UTF-8, within the limit, not blank, and together the text - all of
 * it, or a beginning and the dots. */
static void for_any_text_nothing_is_broken_lost_or_doubled(void **state)
{
	static char want[65536], got[65536];

	(void)state;
	for (int n_text = 0; n_text < 3000; n_text++) {
		struct split_rule r = {
			.max_chars = 2 + rnd_below(40), .max_parts = 1 + rnd_below(SPLIT_PARTS), .one_line = rnd_below(2),
		};
		struct buf b = BUF(65536);
		struct str text = STR_NONE;
		size_t n, n_pieces = rnd_below(120), want_n, got_n = 0;
		bool cut_off;

		for (size_t i = 0; i < n_pieces; i++)
			buf_add(&b, str_of(pieces[rnd_below(ARRAY_LEN(pieces))]));
		assert_int_equal(buf_str(&b, &text), 0);
		n = split_text(text, r, mem, parts);
		want_n = ink(text, want);
		assert_true(n <= r.max_parts);
		assert_int_equal(n == 0, want_n == 0);
		for (size_t i = 0; i < n; i++) {
			assert_true(str_utf8_ok(parts[i]));
			assert_true(parts[i].n > 0 && points(parts[i]) <= r.max_chars);
			/* a blank in front carries a mark, or it would not be there */
			assert_false(is_space(parts[i].p[parts[i].n - 1]));
			assert_false(is_space(parts[i].p[0]) && (unsigned char)parts[i].p[1] < 0x80);
			if (r.one_line)
				assert_null(memchr(parts[i].p, '\n', parts[i].n));
			got_n += ink(parts[i], got + got_n);
		}
		cut_off = got_n >= 3 && memcmp(got + got_n - 3, DOTS, 3) == 0;
		if (cut_off)
			got_n -= 3;
		assert_true(cut_off ? got_n <= want_n : got_n == want_n);
		assert_memory_equal(got, want, got_n);
		buf_clear(&b);
		arena_reset(mem);
	}
}

static int setup(void **state)
{
	(void)state;
	mem = arena_new(64 * 1024, 16 << 20);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_free(mem);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_fits_stays_whole),
		cmocka_unit_test(a_text_of_blanks_is_no_part),
		cmocka_unit_test(the_last_line_end_wins),
		cmocka_unit_test(then_the_last_blank_of_the_second_half),
		cmocka_unit_test(what_looks_like_one_character_is_not_cut),
		cmocka_unit_test(twelve_hundred_characters_are_three_parts_of_words),
		cmocka_unit_test(what_is_left_ends_in_dots),
		cmocka_unit_test(one_line_has_no_line_ends),
		cmocka_unit_test(marks_without_end_are_cut_after_all),
		cmocka_unit_test(for_any_text_nothing_is_broken_lost_or_doubled),
	};

	return !!cmocka_run_group_tests(tests, setup, teardown);
}

/* test_str.c - text with a length: comparing, cutting, numbers, UTF-8, and buffers that end. */
#include "str.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

static void equal_texts_are_equal_whatever_they_point_to(void **state)
{
	(void)state;
	assert_true(str_eq(STR_NONE, (struct str){ "x", 0 }));
	assert_true(str_eq(str_of(NULL), str_of("")));
	assert_true(str_eq(STR("a\0b"), (struct str){ "a\0bc", 3 }));
	assert_false(str_eq(STR("a\0b"), STR("a\0c")));
	assert_false(str_eq(STR("a"), STR("aa")));
	assert_true(str_eq_fold(STR("Quote"), STR("qUOTE")));
	assert_false(str_eq_fold(STR("\xc3\x89"), STR("\xc3\xa9")));    /* ASCII only */
	assert_false(str_eq_fold(STR("@"), STR("`")));
	assert_false(str_eq_fold(STR("["), STR("{")));
	assert_true(str_starts(STR("!memories"), STR("!mem")));
	assert_true(str_starts(STR_NONE, STR_NONE));
	assert_false(str_starts(STR("!m"), STR("!mem")));
}

static void trim_takes_blanks_at_both_ends_only(void **state)
{
	(void)state;
	assert_true(str_eq(str_trim(STR(" \t\r\n a b \v\f")), STR("a b")));
	assert_int_equal(str_trim(STR("  \n ")).n, 0);
	assert_int_equal(str_trim(STR_NONE).n, 0);
}

static void cut_tells_absent_from_empty(void **state)
{
	struct str rest;

	(void)state;
	assert_true(str_eq(str_cut(STR("a=b=c"), '=', &rest), STR("a")));
	assert_true(str_eq(rest, STR("b=c")));
	assert_true(str_eq(str_cut(STR("a="), '=', &rest), STR("a")));
	assert_non_null(rest.p);
	assert_int_equal(rest.n, 0);
	assert_true(str_eq(str_cut(STR("a"), '=', &rest), STR("a")));
	assert_null(rest.p);
	assert_int_equal(str_cut(STR("=b"), '=', &rest).n, 0);
	assert_true(str_eq(rest, STR("b")));
	assert_int_equal(str_cut(STR_NONE, '=', &rest).n, 0);
	assert_null(rest.p);
}

static void cut_may_write_over_its_own_input(void **state)
{
	struct str rest = STR("a b c");
	char seen[8] = "";
	size_t n = 0;

	(void)state;
	while (rest.n > 0) {
		struct str word = str_cut(rest, ' ', &rest);

		seen[n++] = word.p[0];
	}
	assert_string_equal(seen, "abc");
}

static void int_takes_whole_decimal_numbers_in_range_only(void **state)
{
	static const struct { const char *text; int64_t min, max; int r; int64_t v; } cases[] = {
		{ "0", 0, 9, 0, 0 }, { "-0", 0, 9, 0, 0 }, { "007", 0, 9, 0, 7 },
		{ "9223372036854775807", INT64_MIN, INT64_MAX, 0, INT64_MAX },
		{ "-9223372036854775808", INT64_MIN, INT64_MAX, 0, INT64_MIN },
		{ "9223372036854775808", INT64_MIN, INT64_MAX, -ERANGE, 0 },
		{ "-9223372036854775809", INT64_MIN, INT64_MAX, -ERANGE, 0 },
		{ "99999999999999999999999999", INT64_MIN, INT64_MAX, -ERANGE, 0 },
		{ "99999999999999999999999999x", INT64_MIN, INT64_MAX, -EINVAL, 0 },
		{ "10", 0, 9, -ERANGE, 0 }, { "-1", 0, 9, -ERANGE, 0 },
		{ "", 0, 9, -EINVAL, 0 }, { "-", 0, 9, -EINVAL, 0 }, { "+1", 0, 9, -EINVAL, 0 },
		{ " 1", 0, 9, -EINVAL, 0 }, { "1 ", 0, 9, -EINVAL, 0 }, { "0x1", 0, 9, -EINVAL, 0 },
		{ "1.0", 0, 9, -EINVAL, 0 }, { "--1", 0, 9, -EINVAL, 0 }, { "1e3", 0, 9999, -EINVAL, 0 },
		{ "\xd9\xa1", 0, 9, -EINVAL, 0 },               /* ARABIC-INDIC DIGIT ONE */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int64_t v = -12345;
		int r = str_int(str_of(cases[i].text), cases[i].min, cases[i].max, &v);

		if (r != cases[i].r || v != (r == 0 ? cases[i].v : -12345))
			fail_msg("\"%s\": %d, %lld", cases[i].text, r, (long long)v);
	}
}

/* Straight from the definition: decode, then look at the number. */
static bool well_formed(uint32_t c, unsigned len)
{
	return c != 0 && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff) &&
	       len == (c < 0x80    ? 1u :
	               c < 0x800   ? 2u :
	               c < 0x10000 ? 3u :
	                             4u);
}

static void every_code_point_in_every_length_is_judged_as_rfc_3629_says(void **state)
{
	static const unsigned char lead[] = { 0, 0x00, 0xc0, 0xe0, 0xf0 };
	static const uint32_t end[] = { 0, 0x80, 0x800, 0x10000, 0x200000 };

	(void)state;
	for (unsigned len = 1; len <= 4; len++) {
		for (uint32_t c = 0; c < end[len]; c++) {
			unsigned char u[4] = { 0 };
			uint32_t rest = c;

			for (unsigned i = len - 1; i > 0; i--, rest >>= 6)
				u[i] = (unsigned char)(0x80 | (rest & 0x3f));
			u[0] = (unsigned char)(lead[len] | rest);
			if (str_utf8_ok((struct str){ (char *)u, len }) != well_formed(c, len))
				fail_msg("U+%04X in %u bytes", c, len);
			if ((str_utf8_len((struct str){ (char *)u, len }) == len) != well_formed(c, len))
				fail_msg("length of U+%04X in %u bytes", c, len);
			for (unsigned cut = 1; cut < len; cut++)        /* never without its end */
				if (str_utf8_len((struct str){ (char *)u, cut }) != 0)
					fail_msg("U+%04X cut to %u bytes", c, cut);
		}
	}
}

static void bytes_that_cannot_begin_or_go_on_are_refused(void **state)
{
	static const char *const bad[] = {
		"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xf5\x80\x80\x80", "\xf8\x88\x80\x80\x80", "\xfe", "\xff",
		"\xe2\x28\xa1", "\xe2\x82\x28", "\xf0\x28\x8c\xbc", "\xf0\x90\x28\xbc", "\xf0\x90\x8c\x28",
		"\xed\xa0\x80\xed\xb0\x80", "a\xc3", "a\xe2\x82", "a\xf0\x9f\x98",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (str_utf8_ok(str_of(bad[i])))
			fail_msg("case %zu passed", i);
	assert_true(str_utf8_ok(STR_NONE));
}

/* The eight-at-a-time path: one bad byte at each place of texts of each length. */
static void one_bad_byte_is_found_wherever_it_is(void **state)
{
	static const char bad[] = { '\0', '\x80', '\xff', '\xc3' };
	char text[40];

	(void)state;
	for (size_t n = 1; n < sizeof(text); n++) {
		memset(text, 'a', n);
		assert_true(str_utf8_ok((struct str){ text, n }));
		for (size_t at = 0; at < n; at++) {
			for (size_t b = 0; b < sizeof(bad); b++) {
				text[at] = bad[b];
				assert_false(str_utf8_ok((struct str){ text, n }));
			}
			text[at] = at % 2 == 0 ? '\x01' : '\x7f';
			assert_true(str_utf8_ok((struct str){ text, n }));
			text[at] = 'a';
		}
	}
}

static void clip_counts_code_points_and_cuts_none(void **state)
{
	struct str s = STR("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z");
	static const size_t bytes[] = { 0, 1, 3, 6, 10, 11, 11 };

	(void)state;
	for (size_t chars = 0; chars < ARRAY_LEN(bytes); chars++)
		assert_int_equal(str_clip(s, chars).n, bytes[chars]);
	assert_int_equal(str_clip(STR_NONE, 5).n, 0);
	assert_int_equal(str_clip(s, SIZE_MAX).n, s.n);
}

static struct str whole(const struct buf *b)
{
	struct str s = STR_NONE;

	assert_int_equal(buf_str(b, &s), 0);
	return s;
}

static void a_buffer_grows_to_its_maximum_exactly(void **state)
{
	(void)state;
	for (size_t max = 0; max < 300; max++) {
		struct buf b = BUF(max), c = BUF(max);
		struct str s;

		for (size_t i = 0; i < max; i++)
			buf_add(&b, STR("x"));
		buf_printf(&c, "%s", "");
		for (size_t i = 0; i < max; i++)
			buf_printf(&c, "%d", 7);
		assert_int_equal(whole(&b).n, max);
		assert_int_equal(whole(&c).n, max);
		buf_add(&b, STR("x"));
		buf_printf(&c, "x");
		assert_int_equal(buf_str(&b, &s), -EMSGSIZE);
		assert_int_equal(buf_str(&c, &s), -EMSGSIZE);
		buf_clear(&b);
		buf_clear(&c);
	}
}

static void the_first_failure_sticks(void **state)
{
	struct buf b = BUF(8);
	struct str s = STR("untouched");

	(void)state;
	buf_add(&b, STR("1234"));
	buf_add(&b, STR("56789"));              /* one too many */
	buf_add(&b, STR("5"));                  /* would fit */
	buf_printf(&b, "5");
	buf_json(&b, STR_NONE);
	buf_html(&b, STR("<"));
	assert_int_equal(buf_str(&b, &s), -EMSGSIZE);
	assert_true(str_eq(s, STR("untouched")));
	assert_int_equal(b.n, 4);
	buf_reset(&b);
	buf_add(&b, STR("12345678"));
	assert_true(str_eq(whole(&b), STR("12345678")));
	buf_clear(&b);
	assert_null(b.p);
	buf_add(&b, STR("again"));
	assert_true(str_eq(whole(&b), STR("again")));
	buf_clear(&b);
}

static void printf_of_any_length_is_whole(void **state)
{
	struct buf b = BUF(100000);
	size_t total = 0;

	(void)state;
	for (int n = 1; n < 400; n++) {
		buf_printf(&b, "%0*d", n, 1);
		total += (size_t)n;
		assert_int_equal(whole(&b).n, total);
		assert_int_equal(b.p[b.n - 1], '1');
	}
	buf_clear(&b);
}

static void json_escapes_what_rfc_8259_asks_for(void **state)
{
	static const struct { struct str in; const char *out; } cases[] = {
		{ STR(""), "\"\"" },
		{ STR("say \"hi\" \\ /"), "\"say \\\"hi\\\" \\\\ /\"" },
		{ STR("a\n\r\t\b\f\x1f\x7f"), "\"a\\n\\r\\t\\u0008\\u000c\\u001f\x7f\"" },
		{ STR("a\0b"), "\"a\\u0000b\"" },
		{ STR("\xc3\xa9\xf0\x9f\x98\x80"), "\"\xc3\xa9\xf0\x9f\x98\x80\"" },
		{ STR("x\xff\xc3"), "\"x\xef\xbf\xbd\xef\xbf\xbd\"" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct buf b = BUF(256);

		buf_json(&b, cases[i].in);
		if (!str_eq(whole(&b), str_of(cases[i].out)))
			fail_msg("case %zu: %.*s", i, (int)b.n, b.p);
		buf_clear(&b);
	}
}

static void html_escapes_what_could_leave_its_place(void **state)
{
	struct buf b = BUF(256);

	(void)state;
	buf_html(&b, STR("<b title=\"x\" id='y'>&amp;</b>"));
	assert_true(
		str_eq(whole(&b), STR("&lt;b title=&quot;x&quot; id=&#39;y&#39;&gt;&amp;amp;&lt;/b&gt;")));
	buf_reset(&b);
	buf_html(&b, STR_NONE);
	assert_int_equal(whole(&b).n, 0);
	buf_clear(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_texts_are_equal_whatever_they_point_to),
		cmocka_unit_test(trim_takes_blanks_at_both_ends_only),
		cmocka_unit_test(cut_tells_absent_from_empty),
		cmocka_unit_test(cut_may_write_over_its_own_input),
		cmocka_unit_test(int_takes_whole_decimal_numbers_in_range_only),
		cmocka_unit_test(every_code_point_in_every_length_is_judged_as_rfc_3629_says),
		cmocka_unit_test(bytes_that_cannot_begin_or_go_on_are_refused),
		cmocka_unit_test(one_bad_byte_is_found_wherever_it_is),
		cmocka_unit_test(clip_counts_code_points_and_cuts_none),
		cmocka_unit_test(a_buffer_grows_to_its_maximum_exactly),
		cmocka_unit_test(the_first_failure_sticks),
		cmocka_unit_test(printf_of_any_length_is_whole),
		cmocka_unit_test(json_escapes_what_rfc_8259_asks_for),
		cmocka_unit_test(html_escapes_what_could_leave_its_place),
	};

	return !!cmocka_run_group_tests(tests, NULL, NULL);
}

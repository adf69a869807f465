/* test_repair.c - what a platform sent becomes text that a table can hold, and nothing else changes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "decode.h"
#include "err.h"
#include "repair.h"
#include "wait.h"

#define FFFD "\xEF\xBF\xBD"

static struct arena *mem;

static void becomes(const char *json, size_t n, const char *want)
{
	struct str got = repair_json((struct str){ json, n }, mem);

	assert_int_equal(got.n, strlen(want));
	assert_memory_equal(got.p, want, got.n);
}
#define BECOMES(json, want) becomes(json, sizeof(json) - 1, want)

static void good_json_is_not_touched(void **state)
{
	static const char *const good[] = {
		"", "{}", "{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\"}", "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"", "not json",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct str got = repair_json(str_of(good[i]), mem);

		assert_ptr_equal(got.p, good[i]);
		assert_int_equal(got.n, strlen(good[i]));
	}
}

static void bytes_that_are_no_text_are_replaced(void **state)
{
	(void)state;
	BECOMES("\"a\xff"
	        "b\"",
	        "\"a" FFFD "b\"");
	BECOMES("\"\xC3\"", "\"" FFFD "\"");
	BECOMES("\"\xED\xA0\x80\"", "\"" FFFD FFFD FFFD "\"");       /* a surrogate in UTF-8 */
	BECOMES("\"\xC0\x80\"", "\"" FFFD FFFD "\"");                /* overlong */
	BECOMES("\"\xF4\x90\x80\x80\"", "\"" FFFD FFFD FFFD FFFD "\"");
}

static void nul_is_removed(void **state)
{
	(void)state;
	BECOMES("\"a\0b\"", "\"ab\"");
	BECOMES("\"a\\u0000b\"", "\"ab\"");
	BECOMES("\"a\\\\u0000b\"", "\"a\\\\u0000b\"");               /* a backslash and the text u0000 */
	BECOMES("\"a\\\\\\u0000b\"", "\"a\\\\b\"");
}

static void half_pairs_are_replaced(void **state)
{
	(void)state;
	BECOMES("\"\\ud83d\"", "\"" FFFD "\"");
	BECOMES("\"\\ude00x\"", "\"" FFFD "x\"");
	BECOMES("\"\\ud83d\\u0041\"", "\"" FFFD "\\u0041\"");
	BECOMES("\"\\ud83d\\ud83d\\ude00\"", "\"" FFFD "\\ud83d\\ude00\"");
	BECOMES("\"\\uD83D\\uDE00\"", "\"\\uD83D\\uDE00\"");
}

/* What the parser refuses anyway is not worked on. */
static void broken_escapes_stay_for_the_parser(void **state)
{
	static const char nul[] = "\"\\\0u0000\"";

	(void)state;
	assert_ptr_equal(repair_json((struct str){ nul, sizeof nul - 1 }, mem).p, nul);
	BECOMES("\"\\", "\"\\");
	BECOMES("\"\\u", "\"\\u");
	BECOMES("\"\\u12", "\"\\u12");
	BECOMES("\"\\uzzzz\"", "\"\\uzzzz\"");
}

static void no_memory_is_said(void **state)
{
	struct arena *small = arena_new(64, 64);
	char big[256];

	(void)state;
	memset(big, 0xff, sizeof big);
	assert_null(repair_json((struct str){ big, sizeof big }, small).p);
	arena_free(small);
}

struct one { struct str a; };
static const struct js_field one_fields[] = { JS(struct one, a, JS_STR), { 0 } };

/* Any bytes between two quotes, as long as they hold no quote, control character or backslash that
 * would end the text, give a text that decodes; and what is repaired needs no more repair. */
static void any_bytes_become_a_text(void **state)
{
	(void)state;
	for (int round = 0; round < 5000; round++) {
		struct buf b = BUF(4096);
		struct str json = STR_NONE, got, twice;
		struct one one;
		struct err err = { 0 };
		size_t n = rnd_below(40);

		buf_add(&b, STR("{\"a\":\""));
		for (size_t i = 0; i < n; i++) {
			static const char *const escapes[] = { "\\ud800", "\\udc00", "\\u0000",
				                               "\\\\",    "\\\"",    "\\u0041" };
			char c = (char)rnd_below(256);

			if (rnd_below(4) == 0)
				buf_add(&b, str_of(escapes[rnd_below(ARRAY_LEN(escapes))]));
			else if (c != '"' && c != '\\' && (c == '\0' || (unsigned char)c >= 0x20))
				buf_add(&b, (struct str){ &c, 1 });
		}
		buf_add(&b, STR("\"}"));
		assert_int_equal(buf_str(&b, &json), 0);
		got = repair_json(json, mem);
		assert_true(str_utf8_ok(got));
		twice = repair_json(got, mem);
		assert_ptr_equal(twice.p, got.p);
		assert_int_equal(js_decode(got, one_fields, &one, mem, &err), 0);
		buf_clear(&b);
		arena_reset(mem);
	}
}

static int setup(void **state)
{
	(void)state;
	mem = arena_new(64 * 1024, 1 << 20);
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
		cmocka_unit_test(good_json_is_not_touched),
		cmocka_unit_test(bytes_that_are_no_text_are_replaced),
		cmocka_unit_test(nul_is_removed),
		cmocka_unit_test(half_pairs_are_replaced),
		cmocka_unit_test(broken_escapes_stay_for_the_parser),
		cmocka_unit_test(no_memory_is_said),
		cmocka_unit_test(any_bytes_become_a_text),
	};

	return !!cmocka_run_group_tests(tests, setup, teardown);
}

/* What decode.h promises: every strictness rule is one case, every type goes there and back. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "common.h"

#include "clock.h"
#include "decode.h"
#include "err.h"

enum { MEM = 1 << 20 };

static const char *const colours[] = { "red", "green", "blue", NULL };
static const char *const moods[] = { "", "calm", "loud", NULL };

struct inner {
	struct str name;
	int64_t weight;
	struct js_list tags;
};
struct outer {
	struct str text, id, any, object;
	int64_t number, at_ms, level;
	bool yes;
	int colour, mood;
	uint32_t flags, strict_flags;
	struct js_list words, parts;
	struct inner in;
};

static const struct js_field inner_fields[] = { JS(struct inner, name, JS_STR, .min = 1, .max = 8),
						JS(struct inner, weight, JS_INT, .optional = true,
						   .absent = 7),
						JS(struct inner, tags, JS_STRS, .optional = true),
						{ 0 } };
static const struct js_field fields[] = {
	JS(struct outer, text, JS_STR, .optional = true, .max = 5),
	JS(struct outer, id, JS_UUID, .optional = true),
	JS(struct outer, number, JS_INT, .optional = true),
	JS(struct outer, level, JS_INT, .optional = true, .min = -3, .max = 3),
	JS(struct outer, yes, JS_BOOL, .optional = true),
	JS_AS("at", struct outer, at_ms, JS_TIME, .optional = true),
	JS(struct outer, colour, JS_ENUM, .optional = true, .names = colours, .absent = 1),
	JS(struct outer, mood, JS_ENUM, .optional = true, .names = moods),
	JS(struct outer, flags, JS_FLAGS, .optional = true, .names = colours),
	JS(struct outer, strict_flags, JS_FLAGS, .optional = true, .names = colours, .closed = true),
	JS(struct outer, words, JS_STRS, .optional = true, .max = 3),
	JS(struct outer, any, JS_RAW, .optional = true, .max = 64),
	JS(struct outer, object, JS_RAW_OBJECT, .optional = true),
	JS(struct outer, in, JS_OBJECT, .optional = true, .fields = inner_fields),
	JS(struct outer, parts, JS_OBJECTS, .optional = true, .size = sizeof(struct inner),
	   .fields = inner_fields, .max = 2),
	{ 0 }
};

static struct arena *mem;
static struct err err;

static int setup(void **state)
{
	(void)state;
	mem = arena_new(4096, MEM);
	err = (struct err){ 0 };
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_free(mem);
	return 0;
}

static int decode_n(const char *json, size_t n, struct outer *out)
{
	char *exact = xnew_(1, n); /* not a byte behind it: a read too far is seen */
	int r;

	if (n > 0)
		memcpy(exact, json, n);
	memset(&err, 0, sizeof(err));
	r = js_decode((struct str){ exact, n }, fields, out, mem, &err);
	memset(exact, 'x', n); /* nothing points there afterwards */
	free(exact);
	return r;
}

static int decode(const char *json, struct outer *out)
{
	return decode_n(json, strlen(json), out);
}

static void assert_text(struct str s, const char *is)
{
	if (!str_eq(s, str_of(is)))
		fail_msg("" STR_FMT "\n   not %s", STR_ARG(s), is);
}

static void assert_str(struct str s, const char *is)
{
	assert_text(s, is);
	if (s.p != NULL)
		assert_int_equal(s.p[s.n], '\0');
}

static void assert_absent(const struct outer *o)
{
	struct outer none;

	js_zero(fields, &none);
	assert_int_equal(
		o->text.n + o->id.n + o->any.n + o->object.n + o->words.n + o->parts.n + o->in.name.n, 0);
	assert_int_equal(o->number, 0);
	assert_int_equal(o->at_ms, 0);
	assert_int_equal(o->colour, none.colour);
	assert_int_equal(o->in.weight, 7);
	assert_int_equal(o->flags, 0);
	assert_false(o->yes);
}

/* The text is no JSON for us, with this in the reason. */
static void refused_n(const char *json, size_t n, const char *why)
{
	struct outer o;
	size_t used = arena_used(mem);
	int r;

	memset(&o, 0xa5, sizeof(o));
	r = decode_n(json, n, &o);
	if (r != -EBADMSG || strstr(err.text, why) == NULL)
		fail_msg("%.*s: %d \"%s\", not \"%s\"", (int)n, json, r, err.text, why);
	assert_int_equal(err.code, -EBADMSG);
	assert_absent(&o);
	assert_int_equal(arena_used(mem), used);
}

static void refused(const char *json, const char *why)
{
	refused_n(json, strlen(json), why);
}

/* The text is JSON, but not what the table wants. */
static void wrong(const char *json, const char *why)
{
	struct outer o;
	size_t used = arena_used(mem);
	int r;

	memset(&o, 0xa5, sizeof(o));
	r = decode(json, &o);
	if (r != -EINVAL || strcmp(err.text, why) != 0)
		fail_msg("%s: %d \"%s\", not \"%s\"", json, r, err.text, why);
	assert_absent(&o);
	assert_int_equal(arena_used(mem), used);
}

static void taken(const char *json)
{
	struct outer o;

	if (decode(json, &o) != 0)
		fail_msg("%s: %s", json, err.text);
}

static void every_type_is_read(void **state)
{
	struct outer o;

	(void)state;
	memset(&o, 0xa5, sizeof(o));
	assert_int_equal(
		decode("{\"text\":\"h\\u00e9\\n/\",\"id\":\"b2d087ad-ea76-557a-a7b5-23c1d08f979e\","
		       "\"number\":-42,\"level\":3,\"yes\":true,\"at\":\"2025-03-09T08:30:00+01:00\","
		       "\"colour\":\"blue\",\"mood\":\"loud\",\"flags\":[\"red\",\"blue\",\"pink\"],"
		       "\"strict_flags\":[\"green\"],\"words\":[\"a\",\"\",\"c\"],"
		       "\"any\":[1, 2.50,{\"x\" : null}],\"object\":{\"k\":\"v\\u00e9\"},"
		       "\"in\":{\"name\":\"n\",\"weight\":1,\"tags\":[\"t\"]},"
		       "\"parts\":[{\"name\":\"p1\"},{\"name\":\"p2\",\"weight\":2}]}",
		       &o),
		0);
	assert_str(o.text, "h\xc3\xa9\n/");
	assert_str(o.id, "b2d087ad-ea76-557a-a7b5-23c1d08f979e");
	assert_true(o.number == -42 && o.level == 3 && o.yes);
	assert_int_equal(o.at_ms, 1741505400000);
	assert_int_equal(o.colour, 2);
	assert_int_equal(o.mood, 2);
	assert_int_equal(o.flags, 5);
	assert_int_equal(o.strict_flags, 2);
	assert_int_equal(o.words.n, 3);
	assert_str(((struct str *)o.words.items)[0], "a");
	assert_str(((struct str *)o.words.items)[1], "");
	assert_str(((struct str *)o.words.items)[2], "c");
	assert_str(o.any, "[1, 2.50,{\"x\" : null}]"); /* as it came, to the byte */
	assert_str(o.object, "{\"k\":\"v\\u00e9\"}");
	assert_str(o.in.name, "n");
	assert_int_equal(o.in.weight, 1);
	assert_int_equal(o.in.tags.n, 1);
	assert_int_equal(o.parts.n, 2);
	assert_str(((struct inner *)o.parts.items)[0].name, "p1");
	assert_int_equal(((struct inner *)o.parts.items)[0].weight, 7);
	assert_int_equal(((struct inner *)o.parts.items)[1].weight, 2);
}

static void a_flag_may_be_true_when_absent(void **state)
{
	struct on { bool on; } o;
	static const struct js_field on[] = { JS(struct on, on, JS_BOOL, .optional = true, .absent = true),
					      { 0 } };
	static const char *const texts[] = { "{}", "{\"on\":null}", "{\"on\":true}", "{\"on\":false}" };

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct buf again = BUF(64);

		assert_int_equal(js_decode(str_of(texts[i]), on, &o, mem, &err), 0);
		assert_int_equal(o.on, i < 3);
		js_encode(on, &o, &again);
		assert_true(str_eq((struct str){ again.p, again.n }, str_of(texts[i < 3 ? 0 : 3])));
		buf_clear(&again);
	}
}

static void absent_and_null_are_the_same(void **state)
{
	struct outer o;

	(void)state;
	memset(&o, 0xa5, sizeof(o));
	assert_int_equal(decode("{}", &o), 0);
	assert_absent(&o);
	memset(&o, 0xa5, sizeof(o));
	assert_int_equal(decode("{\"text\":null,\"number\":null,\"colour\":null,\"in\":null,\"words\":null,"
				"\"any\":null}",
				&o),
			 0);
	assert_absent(&o);
	wrong("{\"in\":{}}", "in.name: missing");
	wrong("{\"in\":{\"name\":null}}", "in.name: missing");
}

static void unknown_keys_are_skipped_with_all_they_hold(void **state)
{
	struct outer o;

	(void)state;
	assert_int_equal(
		decode("{\"new\":{\"a\":[{\"b\":1},{\"c\":{}}]},\"any\":{\"x\":{\"y\":1}},\"newer\":[],"
		       "\"object\":{\"z\":1},\"number\":5,\"texts\":1,\"tex\":2}",
		       &o),
		0);
	assert_str(o.any, "{\"x\":{\"y\":1}}"); /* spans keep step with what was skipped */
	assert_str(o.object, "{\"z\":1}");
	assert_int_equal(o.number, 5);
}

static void unknown_keys_can_be_a_mistake(void **state)
{
	struct outer o;

	(void)state;
	assert_int_equal(js_decode_known(STR("{\"text\":\"a\",\"in\":{\"name\":\"n\"},\"any\":{\"x\":1}}"),
					 fields, &o, mem, &err),
			 0);
	assert_str(o.any, "{\"x\":1}");
	assert_int_equal(js_decode_known(STR("{\"text\":\"a\",\"colur\":\"red\"}"), fields, &o, mem, &err),
			 -EINVAL);
	assert_string_equal(err.text, "colur: unknown field");
	assert_int_equal(
		js_decode_known(STR("{\"parts\":[{\"name\":\"a\",\"size\":null}]}"), fields, &o, mem, &err),
		-EINVAL);
	assert_string_equal(err.text, "parts[0].size: unknown field");
	assert_int_equal(js_decode_known(STR("{\"z\":1,\"z\":1}"), fields, &o, mem, &err), -EBADMSG);
}

static void keys_come_in_any_order_and_spelling(void **state)
{
	struct outer o;

	(void)state;
	assert_int_equal(decode(" \t\r\n{ \"object\" : {} , \"n\\u0075mber\" : 3 , \"text\" :\"x\" } \n", &o),
			 0);
	assert_int_equal(o.number, 3);
	assert_str(o.text, "x");
	assert_str(o.object, "{}");
}

static void only_double_quotes_quote(void **state)
{
	(void)state;
	refused("{'text':1}", "byte 1: expected a key in double quotes");
	refused("{\"text\":'a'}", "byte 8: not a JSON value");
	refused("{text:1}", "expected a key");
}

static void only_the_three_literals_are_literals(void **state)
{
	(void)state;
	taken("{\"x\":[true,false,null]}");
	refused("{\"x\":NaN}", "not a JSON value");
	refused("{\"x\":nan}", "not a JSON value");
	refused("{\"x\":Infinity}", "not a JSON value");
	refused("{\"x\":-Infinity}", "not a number");
	refused("{\"x\":True}", "not a JSON value");
	refused("{\"x\":nul}", "not a JSON value");
	refused("{\"x\":nulll}", "expected a comma");
	refused("{\"x\":undefined}", "not a JSON value");
}

static void numbers_are_those_of_the_rfc(void **state)
{
	static const char *const good[] = { "0",
					    "-0",
					    "1",
					    "-1",
					    "10",
					    "0.5",
					    "1.25",
					    "1e3",
					    "1E+3",
					    "1e-3",
					    "-0.0",
					    "9223372036854775807",
					    "-9223372036854775808",
					    "123456789012345678",
					    "1e308",
					    "1.7e-300" };
	static const char *const bad[] = { "1.", ".5",  "-.5",  "+1",  "01", "-01",   "00", "0x10",
					   "1e", "1e+", "1.e3", "--1", "-",  "1_000", "1,5" };
	char json[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		snprintf(json, sizeof(json), "{\"any\":%s}", good[i]);
		taken(json);
		snprintf(json, sizeof(json), "[%s]", good[i]); /* at the end of an array, too */
		wrong(json, "expected an object");
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		snprintf(json, sizeof(json), "{\"any\":%s}", bad[i]);
		refused(json, "byte ");
	}
}

static void numbers_beyond_64_bits_are_refused(void **state)
{
	struct outer o;

	(void)state;
	assert_int_equal(decode("{\"number\":9223372036854775807}", &o), 0);
	assert_true(o.number == INT64_MAX);
	assert_int_equal(decode("{\"number\":-9223372036854775808}", &o), 0);
	assert_true(o.number == INT64_MIN);
	refused("{\"number\":9223372036854775808}", "integer beyond 64 bits");
	refused("{\"number\":-9223372036854775809}", "integer beyond 64 bits");
	refused("{\"number\":18446744073709551615}", "integer beyond 64 bits");
	refused("{\"number\":99999999999999999999}", "integer beyond 64 bits");
	refused("{\"any\":{\"deep\":[9223372036854775808]}}", "integer beyond 64 bits");
	refused("{\"any\":1e309}", "number out of range");
	refused("{\"any\":99999999999999999999999999999999999999999999999999999999999999999.5}",
		"number out of range");
}

static void an_integer_is_no_fraction_and_no_text(void **state)
{
	(void)state;
	wrong("{\"number\":1.9}", "number: expected an integer, not a fraction");
	wrong("{\"number\":1.0}", "number: expected an integer, not a fraction");
	wrong("{\"number\":1e2}", "number: expected an integer, not a fraction");
	wrong("{\"number\":\"12abc\"}", "number: expected an integer");
	wrong("{\"number\":true}", "number: expected an integer");
	wrong("{\"number\":[]}", "number: expected an integer");
	wrong("{\"number\":{}}", "number: expected an integer");
	taken("{\"level\":-3}");
	wrong("{\"level\":-4}", "level: not in -3..3");
	wrong("{\"level\":4}", "level: not in -3..3");
}

static void ids_are_text_never_numbers(void **state)
{
	(void)state;
	wrong("{\"text\":141981764}", "text: expected a string");
	wrong("{\"text\":{}}", "text: expected a string");
	wrong("{\"text\":false}", "text: expected a string");
}

static void control_characters_stay_outside_strings(void **state)
{
	char json[] = "{\"text\":\"a?\"}", longer[] = "{\"any\":\"0123456789abcdef0123456789\"}";

	(void)state;
	for (int c = 0; c < 0x20; c++) {
		json[10] = (char)c;
		refused_n(json, sizeof(json) - 1, "control character in a string");
		for (size_t at = 8; at < 34; at++) { /* wherever in the eight bytes it is */
			char was = longer[at];

			longer[at] = (char)c;
			refused_n(longer, sizeof(longer) - 1, "control character in a string");
			longer[at] = was;
		}
	}
	taken(longer);
	json[10] = 0x7f;
	taken(json);
	refused_n("{\"te\0xt\":1}", 11, "control character in a string");
	refused_n("{\"text\"\0:1}", 11, "expected a colon");
}

static void nul_has_no_way_in(void **state)
{
	(void)state;
	refused("{\"\\u0000\":1}", "U+0000");
	refused("{\"text\":\"x\\u0000y\"}", "U+0000");
	refused("{\"any\":{\"k\":[\"\\u0000\"]}}", "U+0000");
	taken("{\"text\":\"x\\\\u00\"}"); /* a backslash and letters */
}

static void surrogates_come_in_pairs(void **state)
{
	struct outer o;

	(void)state;
	assert_int_equal(decode("{\"text\":\"\\ud83d\\uDE00\"}", &o), 0);
	assert_str(o.text, "\xf0\x9f\x98\x80");
	refused("{\"text\":\"\\ud83d\"}", "half a surrogate pair");
	refused("{\"text\":\"\\ud83dx\"}", "half a surrogate pair");
	refused("{\"text\":\"\\ud83d\\n\"}", "half a surrogate pair");
	refused("{\"text\":\"\\ud83d\\ud83d\"}", "half a surrogate pair");
	refused("{\"text\":\"\\ude00\"}", "half a surrogate pair");
	refused("{\"text\":\"\\ude00\\ud83d\"}", "half a surrogate pair");
	refused("{\"text\":\"\\ud83d\\u12\"}", "half a surrogate pair");
	refused("{\"text\":\"\\ud83d\\ue000\"}", "half a surrogate pair");
	refused("{\"text\":\"\\ud83d\\udbff\"}", "half a surrogate pair");
	refused("{\"\\ud800\":1}", "half a surrogate pair");
}

static void escapes_are_those_of_the_rfc(void **state)
{
	struct outer o;

	(void)state;
	assert_int_equal(decode("{\"words\":[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]}", &o), 0);
	assert_str(((struct str *)o.words.items)[0], "\"\\/\b\f\n\r\t");
	refused("{\"text\":\"\\x41\"}", "unknown escape");
	refused("{\"text\":\"\\'\"}", "unknown escape");
	refused("{\"text\":\"\\u12g4\"}", "\\u without four hexadecimal digits");
	refused("{\"text\":\"\\u 123\"}", "\\u without four hexadecimal digits");
	refused("{\"text\":\"\\u00", "\\u without four hexadecimal digits");
	refused("{\"text\":\"\\", "text ends inside a string");
}

static void text_is_utf8(void **state)
{
	static const char *const good[] = { "\xc2\x80",         "\xdf\xbf",        "\xe0\xa0\x80",
					    "\xed\x9f\xbf",     "\xee\x80\x80",    "\xef\xbf\xbf",
					    "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf" };
	static const char *const bad[] = { "\x80",
					   "\xbf",
					   "\xc0\x80",
					   "\xc1\xbf",
					   "\xc2",
					   "\xc2\x20",
					   "\xe0\x9f\xbf",
					   "\xed\xa0\x80",
					   "\xed\xbf\xbf",
					   "\xe2\x82",
					   "\xe2\x28\xa1",
					   "\xf0\x8f\xbf\xbf",
					   "\xf4\x90\x80\x80",
					   "\xf5\x80\x80\x80",
					   "\xf0\x9f\x98",
					   "\xff",
					   "\xfe" };
	char json[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		for (int lead = 0; lead < 10; lead++) { /* wherever in the eight bytes it begins */
			snprintf(json, sizeof(json), "{\"any\":\"%.*s%s\"}", lead, "aaaaaaaaaa", good[i]);
			taken(json);
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		for (int lead = 0; lead < 10; lead++) {
			snprintf(json, sizeof(json), "{\"any\":\"%.*s%s\"}", lead, "aaaaaaaaaa", bad[i]);
			refused(json, "not UTF-8");
			snprintf(json, sizeof(json), "{\"%.*s%s\":1}", lead, "aaaaaaaaaa", bad[i]);
			refused(json, "not UTF-8");
		}
	}
}

static void a_key_comes_once_per_object(void **state)
{
	(void)state;
	taken("{\"in\":{\"name\":\"a\"},\"x\":{\"name\":1},\"y\":[{\"name\":1},{\"name\":1}]}");
	refused("{\"number\":1,\"number\":1}", "the same key twice");
	refused("{\"number\":1,\"n\\u0075mber\":2}", "the same key twice");
	refused("{\"x\":1,\"x\":2}", "the same key twice");
	refused("{\"any\":{\"x\":{\"y\":1,\"y\":2}}}", "the same key twice");
	refused("{\"new\":[[{\"y\":1,\"y\":{}}]]}", "the same key twice");
	refused("{\"in\":{\"name\":\"a\",\"name\":\"b\"}}", "the same key twice");
	refused("{\"parts\":[{\"name\":\"a\"},{\"name\":\"a\",\"z\":1,\"z\":1}]}", "the same key twice");
	refused("{\"text\":3,\"text\":\"a\"}", "the same key twice");
	refused("{\"text\":\"a\",\"text\":3}", "the same key twice"); /* before what else is wrong */
	/* Spans of other members than those met, longer together than the text: 68 and 62 of 111. */
	refused("{\"x\":{\"a\":{\"b\":\"012345678901234567890123456789012345678901234567890123456789\"}},"
		"\"x\":1,\"object\":{},\"any\":1}",
		"the same key twice");
	refused("{\"x\":{\"any\":{\"object\":{\"a\":{\"b\":\"cccccccccccccccccccccccccccc\"}}}},\"x\":1,"
		"\"any\":1,"
		"\"object\":{},\"text\":\"z\"}",
		"the same key twice");
	refused("{\"q\":{\"any\":[\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"]},\"q\":0,\"any\":0,"
		"\"object\":{\"a\":1}}",
		"the same key twice");
}

static void ten_thousand_keys_take_no_longer_than_they_should(void **state)
{
	struct buf b = BUF(1 << 20);
	struct str s;
	struct outer o;
	int64_t from_us;

	(void)state;
	buf_add(&b, STR("{"));
	for (int i = 0; i < 40000; i++)
		buf_printf(&b, "%s\"k%d\":%d", i > 0 ? "," : "", i, i);
	buf_add(&b, STR("}"));
	assert_int_equal(buf_str(&b, &s), 0);
	from_us = clock_exact_us();
	assert_int_equal(js_decode(s, fields, &o, mem, &err), 0);
	assert_true(clock_exact_us() - from_us < 2000000); /* all pairs would be 800 million */
	buf_clear(&b);
}

static void depth_is_sixteen(void **state)
{
	char json[256];
	size_t n = 0;

	(void)state;
	for (int levels = 14; levels <= 16; levels++) { /* and the object around them */
		n = (size_t)snprintf(json, sizeof(json), "{\"x\":%.*s1%.*s}", levels, "[[[[[[[[[[[[[[[[[[[[",
				     levels, "]]]]]]]]]]]]]]]]]]]]");
		assert_true(n < sizeof(json));
		if (levels <= 15)
			taken(json);
		else
			refused(json, "nested too deeply");
	}
	taken("{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{"
	      "\"a\":{\"a\":"
	      "{\"a\":1}}}}}}}}}}}}}}}}");
	refused("{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{"
		"\"a\":{\"a\":"
		"{\"a\":{}}}}}}}}}}}}}}}}}",
		"nested too deeply");
}

static void a_hundred_thousand_brackets_are_no_stack(void **state)
{
	char *deep = xnew_(1, 100000);

	(void)state;
	memset(deep, '[', 100000);
	refused_n(deep, 100000, "nested too deeply");
	free(deep);
}

static void the_end_is_the_end(void **state)
{
	(void)state;
	refused("", "text ends early");
	refused("   ", "text ends early");
	refused("{\"number\":1}x", "byte 12: text after the end");
	refused("{\"number\":1}{\"number\":2}", "text after the end");
	refused_n("{\"a\":1}\0{\"b\":2}", 15, "byte 7: text after the end");
	refused_n("{\"a\":1}\0", 8, "text after the end");
	taken("{\"number\":1} \t\r\n");
	refused("\xef\xbb\xbf{}", "neither an object nor an array"); /* no byte order mark */
}

static void half_a_text_is_refused_wherever_it_is_cut(void **state)
{
	static const char whole[] =
		"{\"text\":\"h\\u00e9\",\"number\":-1.5e3,\"words\":[true,null,{\"a\":\"\xc3\xa9\"}]}";
	struct outer o;

	(void)state;
	for (size_t n = 0; n < sizeof(whole) - 1; n++)
		assert_int_equal(decode_n(whole, n, &o), -EBADMSG);
	assert_int_equal(decode("{}", &o), 0); /* and nothing is left over for the next one */
}

static void only_objects_are_messages(void **state)
{
	(void)state;
	refused("1", "neither an object nor an array");
	refused("\"x\"", "neither an object nor an array");
	refused("null", "neither an object nor an array");
	wrong("[]", "expected an object");
	wrong("[{}]", "expected an object");
}

static void commas_and_colons_are_where_they_belong(void **state)
{
	static const char *const bad[] = { "{,}",          "{\"a\":1,}",         "{\"a\" 1}",
					   "{\"a\"}",      "{\"a\":}",           "{\"a\":1 \"b\":2}",
					   "{\"x\":[1,]}", "{\"x\":[,1]}",       "{\"x\":[1 2]}",
					   "{\"x\":[1}",   "{\"x\":1]",          "{1:2}",
					   "{\"a\"::1}",   "{\"a\":1,,\"b\":2}", "{/**/}",
					   "{\"a\":1}//",  "{\"x\":[1]]}" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		refused(bad[i], "byte ");
}

static void limits_count_characters_not_bytes(void **state)
{
	(void)state;
	taken("{\"text\":\"12345\"}");
	wrong("{\"text\":\"123456\"}", "text: longer than 5 characters");
	taken("{\"text\":"
	      "\"\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\\ud83d\\ude00\"}");
	wrong("{\"text\":"
	      "\"\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80x\"}",
	      "text: longer than 5 characters");
	wrong("{\"in\":{\"name\":\"\"}}", "in.name: empty");
	taken("{\"words\":[\"1\",\"2\",\"3\"]}");
	wrong("{\"words\":[\"1\",\"2\",\"3\",\"4\"]}", "words: more than 3 elements");
	wrong("{\"parts\":[{\"name\":\"a\"},{\"name\":\"a\"},{\"name\":\"a\"}]}",
	      "parts: more than 2 elements");
	taken("{\"any\":\"12345678901234567890123456789012345678901234567890123456789012\"}");
	wrong("{\"any\":\"123456789012345678901234567890123456789012345678901234567890123\"}",
	      "any: longer than 64 bytes");
}

static void mistakes_are_named_by_their_path(void **state)
{
	(void)state;
	wrong("{\"words\":[\"a\",2]}", "words[1]: expected a string");
	wrong("{\"words\":\"a\"}", "words: expected an array");
	wrong("{\"parts\":[{\"name\":\"a\"},{\"name\":\"a\",\"tags\":[\"x\",{}]}]}",
	      "parts[1].tags[1]: expected a string");
	wrong("{\"parts\":[{\"name\":\"a\"},7]}", "parts[1]: expected an object");
	wrong("{\"in\":[]}", "in: expected an object");
	wrong("{\"object\":[]}", "object: expected an object");
	wrong("{\"colour\":\"pink\"}", "colour: not one of red, green, blue");
	wrong("{\"colour\":\"Red\"}", "colour: not one of red, green, blue");
	wrong("{\"colour\":1}", "colour: expected a string");
	wrong("{\"mood\":\"\"}", "mood: not one of calm, loud");
	wrong("{\"flags\":[1]}", "flags[0]: expected a string");
	wrong("{\"strict_flags\":[\"red\",\"pink\"]}", "strict_flags[1]: not one of red, green, blue");
	wrong("{\"yes\":1}", "yes: expected true or false");
	wrong("{\"at\":\"yesterday\"}", "at: expected a time such as 2025-03-09T07:30:00.000Z");
	wrong("{\"at\":1741505400}", "at: expected a time such as 2025-03-09T07:30:00.000Z");
	wrong("{\"at\":\"2025-02-30T00:00:00Z\"}", "at: expected a time such as 2025-03-09T07:30:00.000Z");
}

static void a_uuid_is_36_characters_in_lower_case(void **state)
{
	(void)state;
	taken("{\"id\":\"00000000-0000-0000-0000-000000000000\"}");
	wrong("{\"id\":\"B2D087AD-ea76-557a-a7b5-23c1d08f979e\"}",
	      "id: expected a UUID, 36 characters in lower case");
	wrong("{\"id\":\"b2d087adea76557aa7b523c1d08f979e\"}",
	      "id: expected a UUID, 36 characters in lower case");
	wrong("{\"id\":\"b2d087ad-ea76-557a-a7b5-23c1d08f979\"}",
	      "id: expected a UUID, 36 characters in lower case");
	wrong("{\"id\":\"b2d087ad-ea76-557a-a7b5-23c1d08f979g\"}",
	      "id: expected a UUID, 36 characters in lower case");
	wrong("{\"id\":\"b2d087ad-ea76-557aaa7b5-23c1d08f979e\"}",
	      "id: expected a UUID, 36 characters in lower case");
	wrong("{\"id\":5}", "id: expected a UUID");
}

static void encoded(const struct outer *o, const char *is)
{
	struct buf b = BUF(4096);
	struct str s;

	js_encode(fields, o, &b);
	assert_int_equal(buf_str(&b, &s), 0);
	assert_text(s, is);
	buf_clear(&b);
}

static void what_is_written_is_read_back(void **state)
{
	static const char json[] = "{\"text\":\"a\\\"/"
				   "\xc3\xa9\\n\",\"id\":\"b2d087ad-ea76-557a-a7b5-23c1d08f979e\",\"number\":"
				   "-9223372036854775808,"
				   "\"level\":-3,\"yes\":true,\"at\":\"2025-03-09T07:30:00.000Z\",\"colour\":"
				   "\"red\",\"mood\":\"calm\","
				   "\"flags\":[\"red\",\"blue\"],\"strict_flags\":[\"green\"],\"words\":["
				   "\"a\",\"\"],\"any\":[1.50,{}],"
				   "\"object\":{\"k\":[]},\"in\":{\"name\":\"n\",\"tags\":[\"t\"]},\"parts\":"
				   "[{\"name\":\"p\",\"weight\":0}]}";
	struct outer o;

	(void)state;
	assert_int_equal(decode(json, &o), 0);
	encoded(&o, json);
	assert_int_equal(decode("{}", &o), 0);
	encoded(&o, "{}");
	assert_int_equal(decode("{\"colour\":\"green\",\"in\":{\"name\":\"n\",\"weight\":7}}", &o), 0);
	encoded(&o, "{\"in\":{\"name\":\"n\"}}"); /* what absence means is left out */
}

static void required_rows_are_always_written(void **state)
{
	struct row {
		struct str s, raw, object;
		int64_t n;
		bool b;
		int e;
		uint32_t f;
		struct js_list l;
	} row = { 0 };
	static const struct js_field rows[] = { JS(struct row, s, JS_STR),
						JS(struct row, n, JS_INT),
						JS(struct row, b, JS_BOOL),
						JS(struct row, e, JS_ENUM, .names = colours),
						JS(struct row, f, JS_FLAGS, .names = colours),
						JS(struct row, l, JS_STRS),
						JS(struct row, raw, JS_RAW),
						JS(struct row, object, JS_RAW_OBJECT),
						{ 0 } };
	struct buf b = BUF(4096);
	struct str s;

	(void)state;
	js_encode(rows, &row, &b);
	assert_int_equal(buf_str(&b, &s), 0);
	assert_text(s, "{\"s\":\"\",\"n\":0,\"b\":false,\"e\":\"red\",\"f\":[],\"l\":[],\"raw\":null,"
		       "\"object\":{}}");
	buf_clear(&b);
}

static void a_full_buffer_says_so(void **state)
{
	struct outer o;
	struct str s;

	(void)state;
	assert_int_equal(decode("{\"text\":\"12345\",\"words\":[\"abc\"]}", &o), 0);
	for (size_t max = 0; max < 32; max++) {
		struct buf b = BUF(max);

		js_encode(fields, &o, &b);
		assert_int_equal(buf_str(&b, &s), -EMSGSIZE);
		buf_clear(&b);
	}
}

static void every_failing_allocation_is_survived(void **state)
{
	static const char json[] =
		"{\"text\":\"a\",\"words\":[\"a\",\"b\"],\"parts\":[{\"name\":\"p\",\"tags\":[\"t\"]},"
		"{\"name\":\"q\",\"tags\":[\"t\"]}],\"any\":{\"x\":1}}";
	struct outer o;
	unsigned n = 0;
	int r;

	(void)state;
	do {
		arena_fail_after(mem, ++n);
		r = decode(json, &o);
		if (r != 0) {
			assert_int_equal(r, -ENOBUFS);
			assert_int_equal(err_kind(&err), ERR_AGAIN);
			assert_absent(&o);
			assert_int_equal(arena_used(mem), 0);
		}
		assert_true(n < 100);
	} while (r != 0);
	arena_fail_after(mem, 0);
	assert_int_equal(n, 6); /* texts, words, parts, two lists of tags, and none */
	assert_int_equal(o.parts.n, 2);
}

static void a_full_arena_is_no_mistake_of_the_message(void **state)
{
	struct arena *small = arena_new(64, 64);
	struct outer o;

	(void)state;
	assert_int_equal(js_decode(STR("{\"number\":1,\"padding\":"
				       "\"0123456789012345678901234567890123456789012345678901\"}"),
				   fields, &o, small, &err),
			 -ENOBUFS);
	assert_int_equal(js_decode(STR("{\"number\":1}"), fields, &o, small, &err), 0);
	arena_free(small);
}

static void assert_part(struct str s, const char *part)
{
	if (memmem(s.p, s.n, part, strlen(part)) == NULL)
		fail_msg("%s is not in " STR_FMT, part, STR_ARG(s));
}

static void the_schema_is_the_table(void **state)
{
	struct buf b = BUF(16384);
	struct str s;

	(void)state;
	js_schema(inner_fields, &b);
	assert_int_equal(buf_str(&b, &s), 0);
	assert_text(s, "{\"type\":\"object\",\"required\":[\"name\"],\"properties\":{"
		       "\"name\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":8},"
		       "\"weight\":{\"type\":[\"integer\",\"null\"],\"default\":7},"
		       "\"tags\":{\"type\":[\"array\",\"null\"],\"items\":{\"type\":\"string\"}}}}");
	buf_clear(&b);
	js_schema(fields, &b);
	assert_int_equal(buf_str(&b, &s), 0);
	assert_part(s, "\"id\":{\"type\":[\"string\",\"null\"],\"format\":\"uuid\"}");
	assert_part(s, "\"at\":{\"type\":[\"string\",\"null\"],\"format\":\"date-time\"}");
	assert_part(s, "\"colour\":{\"enum\":[\"red\",\"green\",\"blue\",null],\"default\":\"green\"}");
	assert_part(s, "\"mood\":{\"enum\":[\"calm\",\"loud\",null]}");
	assert_part(s, "\"level\":{\"type\":[\"integer\",\"null\"],\"minimum\":-3,\"maximum\":3}");
	buf_clear(&b);
}

static void an_object_of_texts_keeps_its_names_and_order(void **state)
{
	static const struct { const char *json; int code; } bad[] = {
		{ "[\"a\"]", -EINVAL }, { "{\"a\":1}", -EINVAL }, { "{\"a\":null}", -EINVAL },
		{ "{\"a\":{\"b\":\"c\"}}", -EINVAL }, { "{\"a\":\"b\",\"a\":\"c\"}", -EBADMSG }, { "{\"a\":\"b\"", -EBADMSG },
		{ "{\"a\":\"1\",\"b\":\"2\",\"c\":\"3\"}", -E2BIG },
	};
	struct js_text t[2];
	size_t n;

	(void)state;
	assert_int_equal(js_texts(STR("{\"X-B\":\"1\\n\",\"X-A\":\"\"}"), t, 2, &n, mem, &err), 0);
	assert_int_equal(n, 2);
	assert_string_equal(t[0].name.p, "X-B");
	assert_string_equal(t[0].value.p, "1\n");
	assert_string_equal(t[1].name.p, "X-A");
	assert_int_equal(t[1].value.n, 0);
	assert_int_equal(js_texts(STR("{}"), t, 2, &n, mem, &err), 0);
	assert_int_equal(n, 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(js_texts(str_of(bad[i].json), t, 2, &n, mem, &err), bad[i].code);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		TEST(every_type_is_read),
		TEST(absent_and_null_are_the_same),
		TEST(a_flag_may_be_true_when_absent),
		TEST(unknown_keys_are_skipped_with_all_they_hold),
		TEST(unknown_keys_can_be_a_mistake),
		TEST(keys_come_in_any_order_and_spelling),
		TEST(only_double_quotes_quote),
		TEST(only_the_three_literals_are_literals),
		TEST(numbers_are_those_of_the_rfc),
		TEST(numbers_beyond_64_bits_are_refused),
		TEST(an_integer_is_no_fraction_and_no_text),
		TEST(ids_are_text_never_numbers),
		TEST(control_characters_stay_outside_strings),
		TEST(nul_has_no_way_in),
		TEST(surrogates_come_in_pairs),
		TEST(escapes_are_those_of_the_rfc),
		TEST(text_is_utf8),
		TEST(a_key_comes_once_per_object),
		TEST(ten_thousand_keys_take_no_longer_than_they_should),
		TEST(an_object_of_texts_keeps_its_names_and_order),
		TEST(depth_is_sixteen),
		TEST(a_hundred_thousand_brackets_are_no_stack),
		TEST(the_end_is_the_end),
		TEST(half_a_text_is_refused_wherever_it_is_cut),
		TEST(only_objects_are_messages),
		TEST(commas_and_colons_are_where_they_belong),
		TEST(limits_count_characters_not_bytes),
		TEST(mistakes_are_named_by_their_path),
		TEST(a_uuid_is_36_characters_in_lower_case),
		TEST(what_is_written_is_read_back),
		TEST(required_rows_are_always_written),
		TEST(a_full_buffer_says_so),
		TEST(every_failing_allocation_is_survived),
		TEST(a_full_arena_is_no_mistake_of_the_message),
		TEST(the_schema_is_the_table),
	};

	return !!cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_args.c - words into a struct: every type, every refusal, usage and limits. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "args.h"

struct all {
	struct str title, text, url, where;
	int64_t count, id, page;
	int kind;
	struct js_list tags;
	struct duration every;
};

static const char *const kinds[] = { "quote", "url", "note", NULL };

static struct arena *mem;
static struct all out;
static struct str why;

static int set_up(void **state)
{
	(void)state;
	mem = arena_new(1024, 1 << 20);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	arena_free(mem);
	return 0;
}

#define PARSE(table, ...) parse(table, (const char *const[]){ NULL, ##__VA_ARGS__, NULL } + 1)
static int parse(const struct arg *table, const char *const *words)
{
	struct str w[80];
	size_t n = 0;

	for (; words[n] != NULL; n++)
		w[n] = str_of(words[n]);
	out = (struct all){ 0 };
	why = STR_NONE;
	return args_parse(table, w, n, &out, mem, &why);
}

static void assert_str(struct str s, const char *want)
{
	if (!str_eq(s, str_of(want)))
		fail_msg("wanted '%s', got '" STR_FMT "'", want, STR_ARG(s));
}

static const struct arg link_table[] = { ARG(struct all, title, ARG_WORD, .min = 1, .max = 10),
	                                 ARG(struct all, url, ARG_URL),
	                                 ARG(struct all, text, ARG_WORD, .optional = true, .max = 20),
	                                 ARG(struct all, tags, ARG_TAGS, .keyed = true),
	                                 ARG(struct all, where, ARG_WORD, .keyed = true, .max = 5),
	                                 ARG(struct all, page, ARG_PAGE),
	                                 { 0 } };

static void words_fill_the_struct_in_order_and_keys_from_anywhere(void **state)
{
	(void)state;
	assert_int_equal(PARSE(link_table, "tags=B, a ,b,,a", " Rules ", "WHERE=here", "example.org",
	                       "read it", "page=3"),
	                 0);
	assert_str(out.title, "Rules");
	assert_str(out.url, "https://example.org");
	assert_str(out.text, "read it");
	assert_str(out.where, "here");
	assert_int_equal(out.page, 3);
	assert_int_equal(out.tags.n, 2);
	assert_str(((struct str *)out.tags.items)[0], "b");
	assert_str(((struct str *)out.tags.items)[1], "a");
	assert_int_equal(PARSE(link_table, "a=b", "x=y.org"), -EINVAL);    /* = in a host */
	assert_int_equal(PARSE(link_table, "a=b", "example.org/?x=y"), 0); /* keys nobody declared are text */
	assert_str(out.title, "a=b");
	assert_int_equal(out.page, 1);
	assert_int_equal(out.text.n, 0);
}

static void what_is_missing_too_long_or_too_much_is_said(void **state)
{
	(void)state;
	assert_int_equal(PARSE(link_table), -EINVAL);
	assert_str(why, "Title is missing.");
	assert_int_equal(PARSE(link_table, "  ", "example.org"), -EINVAL);
	assert_str(why, "Title is missing.");
	assert_int_equal(PARSE(link_table, "t"), -EINVAL);
	assert_str(why, "Url is missing.");
	assert_int_equal(PARSE(link_table, "12345678901", "example.org"), -EINVAL);
	assert_str(why, "Title may have 10 characters at most.");
	assert_int_equal(PARSE(link_table, "ääääääääää", "example.org"), 0); /* characters, not bytes */
	assert_int_equal(PARSE(link_table, "t", "example.org", "x", "y"), -EINVAL);
	assert_str(why, "That is more than I can use. Put text with blanks in quotes.");
	assert_int_equal(PARSE(link_table, "t", "example.org", "where=toolong"), -EINVAL);
	assert_str(why, "where= may have 5 characters at most.");
	assert_int_equal(PARSE(link_table, "t", "example.org", "page=x"), -EINVAL);
	assert_str(why, "page= must be a whole number from 1.");
	assert_int_equal(PARSE(NULL), 0);
	assert_int_equal(PARSE(NULL, "x"), -EINVAL);
}

static void only_real_web_addresses_pass(void **state)
{
	static const struct {
		const char *in, *out;
	} good[] = {
		{ "example.com", "https://example.com" },
		{ "http://example.com/a?b=c#d", "http://example.com/a?b=c#d" },
		{ "HTTPS://Example.com:8443/x", "HTTPS://Example.com:8443/x" },
		{ "192.0.2.1/x", "https://192.0.2.1/x" },
		{ "https://[2001:db8::1]:80/", "https://[2001:db8::1]:80/" },
		{ "xn--mnchen-3ya.example", "https://xn--mnchen-3ya.example" },
		{ "de.example.org/wiki/Größe", "https://de.example.org/wiki/Gr%C3%B6%C3%9Fe" },
		{ "a-b.c_d.org:65535", "https://a-b.c_d.org:65535" },
	};
	static const char *const bad[] = {
		"",
		"foo",
		"javascript:alert(1)",
		"ftp://x.org",
		"file:///etc/passwd",
		"a b.com",
		"mailto:a@b.org",
		"https://u@example.org",
		"https://u:p@example.org/",
		"https://",
		"http://.",
		"http://a..b",
		"http://-a.org",
		"http://a-.org",
		"http://2130706433/",
		"http://0x7f.1/",
		"http://1.2.3",
		"http://999.1.1.1",
		"example.org:0",
		"example.org:65536",
		"example.org:x",
		"http://[::1",
		"http://[::g]/",
		"http://ex\tample.org",
		"http://example.org/\\x",
		"http://exa\xe2\x80\x8bmple.org",
		"http://\xe2\x80\xaemoc.org",
		"http://a.org\n",
		"data:text/html,x",
		"münchen.example",
		"//example.org",
		"http:/example.org",
		"https://example.org/\"><script>",
	};
	struct str url;
	char longer[2100];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		if (args_url(str_of(good[i].in), mem, &url) != 0)
			fail_msg("refused %s", good[i].in);
		assert_str(url, good[i].out);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (args_url(str_of(bad[i]), mem, &url) == 0)
			fail_msg("accepted '%s' as " STR_FMT, bad[i], STR_ARG(url));
	memset(longer, 'a', sizeof longer);
	memcpy(longer, "https://example.org/", 20);
	assert_int_equal(args_url((struct str){ longer, 2048 }, mem, &url), 0);
	assert_int_equal(args_url((struct str){ longer, 2049 }, mem, &url), -EINVAL);
	assert_int_equal(args_url((struct str){ longer + 8, 2041 }, mem, &url),
	                 -EINVAL); /* with https:// in front */
}

static void time_spans_are_sums_of_amounts(void **state)
{
	static const struct {
		const char *text;
		int64_t months, minutes;
	} good[] = {
		{ "5m", 0, 5 },
		{ "30 minutes", 0, 30 },
		{ "1h30m", 0, 90 },
		{ "1 hour 30 minutes", 0, 90 },
		{ "1 Hour, 30 Minutes", 0, 90 },
		{ "1 hour and 30 minutes", 0, 90 },
		{ "2 weeks and 1 day", 0, 15 * 1440 },
		{ "1d 2h", 0, 1560 },
		{ "3 months", 3, 0 },
		{ "1mo 1m", 1, 1 },
		{ "5 years", 60, 0 },
		{ "1y6mo", 18, 0 },
		{ "90 min", 0, 90 },
		{ "2 hrs", 0, 120 },
		{ "0h 1m", 0, 1 },
	};
	static const char *const bad[] = { "",
		                           " ",
		                           "soon",
		                           "0 minutes",
		                           "-1 day",
		                           "+1 day",
		                           "1.5 hours",
		                           "5",
		                           "m",
		                           "5 x",
		                           "5m and",
		                           "and 5m",
		                           "5m30",
		                           "6 years",
		                           "61 months",
		                           "1826 d 999 h",
		                           "99999999999999999999m",
		                           "10000001m",
		                           "5 mm",
		                           "1h-30m",
		                           "1:30" };
	struct duration d;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		if (args_duration(str_of(good[i].text), &d) != 0)
			fail_msg("refused '%s'", good[i].text);
		assert_int_equal(d.months, good[i].months);
		assert_int_equal(d.ms, good[i].minutes * 60000);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (args_duration(str_of(bad[i]), &d) == 0)
			fail_msg("accepted '%s'", bad[i]);
}

static void ids_are_positive_with_or_without_a_hash(void **state)
{
	static const char *const bad[] = { "",
		                           "#",
		                           "abc",
		                           "-1",
		                           "0",
		                           "#0",
		                           "1.5",
		                           "+1",
		                           " 1",
		                           "9223372036854775808",
		                           "99999999999999999999",
		                           "##1",
		                           "12x" };
	int64_t id = 0;

	(void)state;
	assert_int_equal(args_id(STR("12"), &id), 0);
	assert_int_equal(id, 12);
	assert_int_equal(args_id(STR("#9223372036854775807"), &id), 0);
	assert_true(id == INT64_MAX);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(args_id(str_of(bad[i]), &id), -EINVAL);
	assert_true(id == INT64_MAX);
}

static const struct arg mixed_table[] = { ARG(struct all, kind, ARG_ENUM, .names = kinds),
	                                  ARG(struct all, count, ARG_INT, .min = 1, .max = 20),
	                                  ARG(struct all, id, ARG_ID, .optional = true),
	                                  ARG(struct all, every, ARG_DURATION, .optional = true),
	                                  { 0 } };

static void numbers_names_and_spans_are_checked_against_the_table(void **state)
{
	static const char *const bad[] = { "8x", "-1", "1.5", "0", "21", "" };

	(void)state;
	assert_int_equal(PARSE(mixed_table, "URL", "20", "#7", "1", "hour", "30m"), 0);
	assert_int_equal(out.kind, 2);
	assert_int_equal(out.count, 20);
	assert_int_equal(out.id, 7);
	assert_int_equal(out.every.ms, 90 * 60000);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(PARSE(mixed_table, "url", bad[i]), -EINVAL);
		assert_str(why, "Count must be a whole number from 1 to 20.");
	}
	assert_int_equal(PARSE(mixed_table, "song", "1"), -EINVAL);
	assert_str(why, "Kind must be one of quote, url, note.");
	assert_int_equal(PARSE(mixed_table, "note", "1", "x"), -EINVAL);
	assert_str(why, "Id must be a number like 12 or #12.");
	assert_int_equal(PARSE(mixed_table, "note", "1", "2", "soon"), -EINVAL);
}

static const struct arg rest_table[] = { ARG(struct all, text, ARG_REST, .min = 1, .max = 12),
	                                 ARG(struct all, page, ARG_PAGE),
	                                 { 0 } };

static void the_rest_is_joined_by_one_blank(void **state)
{
	(void)state;
	assert_int_equal(PARSE(rest_table, "a  b", "page=2", "c"), 0);
	assert_str(out.text, "a  b c");
	assert_int_equal(out.page, 2);
	assert_int_equal(PARSE(rest_table, "", ""), -EINVAL);
	assert_str(why, "Text is missing.");
	assert_int_equal(PARSE(rest_table, "1234567", "890123"), -EINVAL);
	assert_str(why, "Text may have 12 characters at most.");
}

static void ten_tags_of_fifty_characters_are_the_most(void **state)
{
	struct js_list tags = { 0 };
	char word[60];

	(void)state;
	assert_int_equal(args_tags(STR("1,2,3,4,5,6,7,8,9,10, 10 ,1"), mem, &tags), 0);
	assert_int_equal(tags.n, 10);
	assert_int_equal(args_tags(STR("1,2,3,4,5,6,7,8,9,10,11"), mem, &tags), -E2BIG);
	memset(word, 'x', sizeof word);
	assert_int_equal(args_tags((struct str){ word, 50 }, mem, &tags), 0);
	assert_int_equal(args_tags((struct str){ word, 51 }, mem, &tags), -ERANGE);
	assert_int_equal(args_tags(STR_NONE, mem, &tags), 0);
	assert_int_equal(tags.n, 0);
}

static void usage_and_limits_come_from_the_table(void **state)
{
	struct buf b = BUF(4096);

	(void)state;
	args_usage(link_table, &b);
	assert_str((struct str){ b.p, b.n }, "\"title\" url [\"text\"] [tags=a,b] [where=…] [page=N]");
	buf_clear(&b);
	args_usage(mixed_table, &b);
	assert_str((struct str){ b.p, b.n }, "quote|url|note count [id] [every]");
	buf_clear(&b);
	args_limits(link_table, &b);
	assert_str((struct str){ b.p, b.n },
	           "title at most 10 characters, url at most 2048 bytes, text at most 20 characters, "
	           "tags at most 10 of 50 characters, where at most 5 characters");
	buf_clear(&b);
	args_usage(NULL, &b);
	args_limits(NULL, &b);
	assert_int_equal(b.n, 0);
	buf_clear(&b);
}

static void a_small_arena_is_a_refusal_and_no_crash(void **state)
{
	(void)state;
	for (unsigned n = 1; n < 12; n++) {
		arena_fail_after(mem, n);
		if (PARSE(link_table, "t", "example.org", "text", "tags=a,b,c") == 0)
			assert_str(out.url, "https://example.org");
	}
	arena_fail_after(mem, 0);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		CASE(words_fill_the_struct_in_order_and_keys_from_anywhere),
		CASE(what_is_missing_too_long_or_too_much_is_said),
		CASE(only_real_web_addresses_pass),
		CASE(time_spans_are_sums_of_amounts),
		CASE(ids_are_positive_with_or_without_a_hash),
		CASE(numbers_names_and_spans_are_checked_against_the_table),
		CASE(the_rest_is_joined_by_one_blank),
		CASE(ten_tags_of_fifty_characters_are_the_most),
		CASE(usage_and_limits_come_from_the_table),
		CASE(a_small_arena_is_a_refusal_and_no_crash),
	};

	return !!cmocka_run_group_tests(tests, NULL, NULL);
}

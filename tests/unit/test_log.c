/* test_log.c - lines as an operator's tools will read them. */
#include "log.h"

#include "arena.h"
#include "clock.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <unistd.h>

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

struct fixture { int fd[2]; char text[70000]; size_t n; };

static int set_up(void **state)
{
	struct fixture *f = XNEW(struct fixture);

	if (pipe2(f->fd, O_CLOEXEC) != 0)
		return -1;
	fcntl(f->fd[0], F_SETFL, O_NONBLOCK);
	log_to(f->fd[1], "tester");
	log_threshold = L_INFO;
	log_dropped = 0;
	clock_fake(1741505400123);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	log_to(STDERR_FILENO, "tester");
	clock_real();
	close(f->fd[0]);
	close(f->fd[1]);
	free(f);
	return 0;
}

/* What came since the last call, as a C string. */
static const char *logged(struct fixture *f)
{
	ssize_t got;

	f->n = 0;
	while ((got = read(f->fd[0], f->text + f->n, sizeof(f->text) - 1 - f->n)) > 0)
		f->n += (size_t)got;
	f->text[f->n] = '\0';
	return f->text;
}

static void a_line_has_fixed_keys_in_a_fixed_order(void **state)
{
	struct log_ctx ctx = { .trace = STR("0af7651916cd43dd8448eb211c80319c"), .event_id = STR("twitch:8b0e"),
	                       .module = STR("memories"), .community = 7 };

	log_warn(&ctx, "module_late", "no answer for %d ms", 30);
	assert_string_equal(logged(*state),
	                    "{\"ts\":\"2025-03-09T07:30:00.123Z\",\"level\":\"warn\",\"service\":\"tester\","
	                    "\"event\":\"module_late\",\"trace\":\"0af7651916cd43dd8448eb211c80319c\","
	                    "\"event_id\":\"twitch:8b0e\",\"community\":7,\"module\":\"memories\","
	                    "\"msg\":\"no answer for 30 ms\"}\n");
}

static void without_context_its_keys_are_left_out(void **state)
{
	log_info(NULL, "started", "up");
	assert_string_equal(logged(*state),
	                    "{\"ts\":\"2025-03-09T07:30:00.123Z\",\"level\":\"info\",\"service\":\"tester\","
	                    "\"event\":\"started\",\"msg\":\"up\"}\n");
}

static void what_a_stranger_wrote_cannot_leave_its_quotes(void **state)
{
	struct log_ctx ctx = { .event_id = STR("\",\"level\":\"error\n{\xff\x01") };
	const char *text;
	struct json_object *o, *v;

	log_info(&ctx, "x", "%s", "line\nbreak \"quoted\" \\ \xed\xa0\x80 end");
	text = logged(*state);
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	o = json_tokener_parse(text);
	assert_non_null(o);
	assert_true(json_object_object_get_ex(o, "level", &v));
	assert_string_equal(json_object_get_string(v), "info");
	assert_true(json_object_object_get_ex(o, "event_id", &v));
	assert_string_equal(json_object_get_string(v), "\",\"level\":\"error\n{\xef\xbf\xbd\x01");
	assert_true(json_object_object_get_ex(o, "msg", &v));
	assert_string_equal(json_object_get_string(v),
	                    "line\nbreak \"quoted\" \\ \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd end");
	json_object_put(o);
}

/* Escapes and multi-byte characters at each offset of the cut. */
static void a_long_line_is_cut_and_stays_json(void **state)
{
	char big[9000];

	memset(big, 'x', sizeof(big));
	for (int shift = 0; shift < 8; shift++) {
		for (size_t i = 0; i + 6 < sizeof(big); i += 6)
			memcpy(big + i, "\xf0\x9f\x98\x80\"\n", 6);
		memset(big, 'y', (size_t)shift);
		big[sizeof(big) - 1] = '\0';
		log_error(NULL, "long", "%s", big);
		const char *text = logged(*state);
		struct json_object *o = json_tokener_parse(text);

		assert_non_null(o);
		json_object_put(o);
		assert_true(strlen(text) <= 4096);
		assert_true(strlen(text) > 4080);
		assert_true(str_utf8_ok(str_of(text)));
	}
}

static void context_values_are_cut_to_128_bytes(void **state)
{
	char big[1000];
	struct log_ctx ctx = { .trace = { big, sizeof(big) }, .event_id = { big, sizeof(big) },
	                       .module = { big, sizeof(big) }, .community = INT64_MIN };
	const char *text, *at;

	memset(big, 'z', sizeof(big));
	log_info(&ctx, "x", "the message is still there");
	text = logged(*state);
	assert_non_null(strstr(text, "\"community\":-9223372036854775808,"));
	assert_non_null(strstr(text, "the message is still there\"}\n"));
	at = strstr(text, "\"event_id\":\"");
	assert_non_null(at);
	assert_int_equal(strspn(at + strlen("\"event_id\":\""), "z"), 128);
}

static void lines_below_the_threshold_are_not_written(void **state)
{
	log_debug(NULL, "x", "no");
	log_threshold = L_ERROR;
	log_info(NULL, "x", "no");
	log_warn(NULL, "x", "no");
	assert_string_equal(logged(*state), "");
	log_threshold = L_DEBUG;
	log_debug(NULL, "x", "yes");
	assert_non_null(strstr(logged(*state), "\"level\":\"debug\""));
}

static void a_full_pipe_drops_whole_lines_and_counts_them(void **state)
{
	struct fixture *f = *state;
	size_t lines = 0;
	const char *text;

	for (int i = 0; i < 2000; i++)
		log_info(NULL, "flood", "line %d of a flood that fills any pipe", i);
	assert_true(log_dropped > 0);
	text = logged(f);
	assert_int_equal(text[f->n - 1], '\n');
	for (size_t i = 0; i < f->n; i++)
		lines += text[i] == '\n';
	assert_int_equal(lines + log_dropped, 2000);
	log_info(NULL, "after", "there is room again");
	assert_non_null(strstr(logged(f), "\"event\":\"after\""));
}

static void logging_keeps_errno(void **state)
{
	(void)state;
	errno = EXDEV;
	log_to(-1, "tester");
	log_info(NULL, "x", "nowhere");
	assert_int_equal(errno, EXDEV);
	assert_int_equal(log_dropped, 1);
}

static void once(void)
{
	log_rarely(1000, L_WARN, NULL, "often", "it happened");
}

static void what_repeats_is_logged_once_a_period_with_a_count(void **state)
{
	const char *first;

	for (int i = 0; i < 100; i++)
		once();
	first = logged(*state);
	assert_non_null(strstr(first, "\"event\":\"often\",\"msg\""));
	assert_ptr_equal(strchr(first, '\n'), first + strlen(first) - 1);
	clock_advance(999);
	once();
	assert_string_equal(logged(*state), "");
	clock_advance(1);
	once();
	assert_non_null(strstr(logged(*state), "\"event\":\"often\",\"held_back\":100,\"msg\""));
	log_info(NULL, "other", "not counted here");
	assert_null(strstr(logged(*state), "held_back"));
	clock_advance(5000);
	once();
	assert_null(strstr(logged(*state), "held_back"));
}

static void a_secret_is_shown_by_kind_and_length_only(void **state)
{
	struct arena *a = arena_new(1024, 1024);
	static const struct { const char *secret, *shown; } cases[] = {
		{ "wbot_a1b2c3d4e5f6a7b8c9d0e1f2a3b", "wbot_a1b2(32)" },
		{ "hunter2", "(7)" }, { "wbot_a1b2", "(9)" }, { "", "(0)" },
		{ "0123456789abcdef0123456789abcdef", "(32)" },
		{ "0123456789abc_0123456789abcdef0123456789abcdef", "(46)" },
		{ "k_\xff\xff\xff\xff............................", "(34)" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_string_equal(log_redact(a, str_of(cases[i].secret)).p, cases[i].shown);
	arena_fail_after(a, 1);
	assert_true(str_eq(log_redact(a, STR("hunter2")), STR("(secret)")));
	arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_line_has_fixed_keys_in_a_fixed_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(without_context_its_keys_are_left_out, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_a_stranger_wrote_cannot_leave_its_quotes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_long_line_is_cut_and_stays_json, set_up, tear_down),
		cmocka_unit_test_setup_teardown(context_values_are_cut_to_128_bytes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(lines_below_the_threshold_are_not_written, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_full_pipe_drops_whole_lines_and_counts_them, set_up, tear_down),
		cmocka_unit_test_setup_teardown(logging_keeps_errno, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_repeats_is_logged_once_a_period_with_a_count, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_secret_is_shown_by_kind_and_length_only, set_up, tear_down),
	};

	return !!cmocka_run_group_tests(tests, NULL, NULL);
}

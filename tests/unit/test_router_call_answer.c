/* What an HTTP module may answer, and what each answer means (router.md 11). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../services/router/call.h"

static struct router router;
static struct calls calls = { .r = &router };
static struct call c;

static int fresh(void **state)
{
	(void)state;
	c = (struct call){ .calls = &calls, .mem = arena_new(4096, 64 << 20), .session_id = STR("5e551011-0000-4000-8000-000000000001"),
	                   .module = STR("dice"), .platform = STR("discord"), .prefix = STR("#"), .command = STR("roll") };
	memcpy(c.id, "e8ec0000-0000-4000-8000-000000000001", 37);
	return 0;
}

static int done(void **state)
{
	(void)state;
	arena_free(c.mem);
	return 0;
}

static void answer(const char *type, const char *body) { call_answer(&c, 200, str_of(type), false, str_of(body), false); }

static void expect_chat(const char *type, const char *body, bool success, const char *chat)
{
	answer(type, body);
	assert_int_equal(c.end.outcome, success ? CALL_ANSWERED : CALL_REFUSED);
	assert_int_equal(c.resp.response_action, ACTION_CHAT);
	assert_int_equal(c.resp.success, success);
	assert_true(c.resp.final);
	assert_true(str_eq(c.resp.chat_message, str_of(chat)));
	assert_true(str_eq(c.resp.execution_id, str_of(c.id)));
	assert_true(str_eq(c.resp.module_name, STR("dice")));
	assert_int_equal(c.says, chat[0] != '\0');
}

static void text_is_chat(void **state)
{
	(void)state;
	expect_chat("text/plain", "You rolled 4.", true, "You rolled 4.");
	expect_chat("TEXT/plain ; charset=utf-8", " \xc3\xa9 ", true, "\xc3\xa9");
}

static void an_empty_answer_is_success_and_says_nothing(void **state)
{
	(void)state;
	expect_chat("", "", true, "");
	expect_chat("application/json", "  ", true, "");
	expect_chat("text/plain", "", true, "");
	call_answer(&c, 204, STR_NONE, false, STR_NONE, false);
	assert_int_equal(c.end.outcome, CALL_ANSWERED);
}

static void json_with_text_is_chat(void **state)
{
	(void)state;
	expect_chat("application/json", "{\"response\":\"a\"}", true, "a");
	expect_chat("application/json", "{\"message\":\"b\",\"other\":[1]}", true, "b");
	expect_chat("application/json", "{\"response\":7,\"message\":\"b\"}", true, "b");
	expect_chat("", "{\"response\":\"no\",\"success\":false}", false, "no");
}

static void json_with_an_action_is_a_response(void **state)
{
	(void)state;
	answer("application/json", "{\"response_action\":\"ticker\",\"ticker_text\":\"hi\"}");
	assert_int_equal(c.end.outcome, CALL_ANSWERED);
	assert_int_equal(c.resp.response_action, ACTION_TICKER);
	assert_int_equal(c.resp.ticker_duration, 10);
	assert_true(c.resp.success);
	answer("application/json",
	       "{\"response_action\":\"chat\",\"chat_message\":\"x\",\"success\":false,\"private\":true}");
	assert_int_equal(c.end.outcome, CALL_REFUSED);
	assert_true(c.resp.private);
}

static void nobody_answers_for_another_execution(void **state)
{
	(void)state;
	expect_chat("application/json",
	            "{\"response_action\":\"chat\",\"chat_message\":\"x\",\"execution_id\":\"ffffffff-ffff-"
	            "4fff-8fff-ffffffffffff\","
	            "\"module_name\":\"other\",\"session_id\":7,\"response_index\":-4,\"final\":false}",
	            true, "x");
	assert_true(str_eq(c.resp.session_id, c.session_id));
	assert_int_equal(c.resp.response_index, 0);
}

static void other_json_is_kept_and_says_nothing_in_chat(void **state)
{
	static const struct { const char *body, *kept; } cases[] = {
		{ "{\"rolled\":4}", "{\"rolled\":4}" }, { "[1,2]", "{\"value\":[1,2]}" }, { "4", "{\"value\":4}" },
		{ "\"four\"", "{\"value\":\"four\"}" }, { "null", "" }, { "{}", "{}" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		answer("application/json", cases[i].body);
		assert_int_equal(c.end.outcome, CALL_ANSWERED);
		assert_true(c.resp.success);
		assert_int_equal(c.resp.chat_message.n, 0);
		if (*cases[i].kept != '\0')
			assert_string_equal(c.resp.response_data.p, cases[i].kept);
	}
}

static void what_cannot_be_read_is_bad(void **state)
{
	static const struct { const char *type, *body; bool again; } cases[] = {
		{ "application/json", "{\"response\":", true }, { "application/json", "no json", true },
		{ "application/json", "{'response':'a'}", true }, { "text/html", "<p>", true },
		{ "application/json", "{\"response\":\"\xff\"}", true }, { "application/json", "{\"a\":1,\"a\":2}", true },
		{ "text/plain", "\xc3(", true }, { "application/json", "{\"v\":1},{\"v\":2}", true },
		{ "application/json", "1}, {\"v\":2", true },
		{ "application/json", "{\"response_action\":\"dance\"}", false },
		{ "application/json", "{\"response_action\":\"media\",\"media_url\":\"http://127.0.0.1/x\"}", false },
		{ "application/json", "{\"response_action\":\"form\"}", false },
		{ "application/json", "{\"response_action\":\"ticker\",\"ticker_duration\":0}", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		answer(cases[i].type, cases[i].body);
		if (c.end.outcome != CALL_BAD_RESPONSE || c.end.again != cases[i].again)
			fail_msg("%s: %d", cases[i].body, (int)c.end.outcome);
		assert_false(c.says);
	}
}

static void data_over_its_limit_is_bad_and_long_chat_is_cut(void **state)
{
	static char big[70000];
	size_t n = 0;

	(void)state;
	memset(big, 'x', sizeof big - 1);
	memcpy(big, "{\"a\":\"", 6);
	memcpy(big + sizeof big - 3, "\"}", 3);
	answer("application/json", big);
	assert_int_equal(c.end.outcome, CALL_BAD_RESPONSE);
	memset(big, 'x', 6000);
	big[6000] = '\0';
	answer("text/plain", big);
	assert_int_equal(c.end.outcome, CALL_ANSWERED);
	n = c.resp.chat_message.n;
	assert_int_equal(n, 5000);
}

static void statuses_that_are_not_2xx_are_failures(void **state)
{
	static const struct { int status; bool again; } cases[] = {
		{ 301, false }, { 302, false }, { 400, false }, { 404, false }, { 429, true }, { 500, false },
		{ 502, false }, { 503, true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		call_answer(&c, cases[i].status, STR("application/json"), false, STR("{\"response\":\"a\"}"),
		            false);
		assert_int_equal(c.end.outcome, CALL_MODULE_FAILED);
		assert_int_equal(c.end.again, cases[i].again);
		assert_int_equal(c.end.status, cases[i].status);
	}
	call_answer(&c, 200, STR("application/json"), true, STR("{\"errorMessage\":\"x\"}"), false);
	assert_int_equal(c.end.outcome, CALL_MODULE_FAILED);
	assert_false(c.end.again);
}

static void an_activation_wraps_its_result(void **state)
{
	(void)state;
	call_answer(&c, 200, STR("application/json"), false,
	            STR("{\"result\":{\"response\":\"whisk\"},\"success\":true,\"logs\":[]}"), true);
	assert_int_equal(c.end.outcome, CALL_ANSWERED);
	assert_true(str_eq(c.resp.chat_message, STR("whisk")));
	call_answer(&c, 200, STR("application/json"), false,
	            STR("{\"result\":{\"error\":\"x\"},\"success\":false}"), true);
	assert_int_equal(c.end.outcome, CALL_MODULE_FAILED);
}

static void a_failure_has_a_sentence_for_people_and_no_address(void **state)
{
	(void)state;
	c.end = (struct call_end){ .outcome = CALL_URL_REFUSED, .detail = STR("address") };
	call_failed(&c);
	assert_string_equal(c.resp.error_message.p, "#roll failed.");
	assert_true(c.resp.private);
	assert_false(c.resp.success);
	c.end.outcome = CALL_TIMEOUT;
	c.platform = STR("twitch");
	call_failed(&c);
	assert_string_equal(c.resp.error_message.p, "#roll did not answer in time.");
	assert_false(c.resp.private);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fresh, done)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(text_is_chat),
		TEST(an_empty_answer_is_success_and_says_nothing),
		TEST(json_with_text_is_chat),
		TEST(json_with_an_action_is_a_response),
		TEST(nobody_answers_for_another_execution),
		TEST(other_json_is_kept_and_says_nothing_in_chat),
		TEST(what_cannot_be_read_is_bad),
		TEST(data_over_its_limit_is_bad_and_long_chat_is_cut),
		TEST(statuses_that_are_not_2xx_are_failures),
		TEST(an_activation_wraps_its_result),
		TEST(a_failure_has_a_sentence_for_people_and_no_address),
	};

	return !!cmocka_run_group_tests_name("router_call_answer", tests, NULL, NULL);
}

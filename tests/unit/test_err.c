/* test_err.c - failures as values: what is kept, what is cut, what a caller is told to do. */
#include "err.h"

#include "str.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

static void set_keeps_code_and_text_and_returns_the_code(void **state)
{
	struct err err = { 0 };

	(void)state;
	assert_int_equal(err_set(&err, -EINVAL, "no such zone: %s", "Mars/Olympus"), -EINVAL);
	assert_int_equal(err.code, -EINVAL);
	assert_string_equal(err.text, "no such zone: Mars/Olympus");
	assert_string_equal(err.sqlstate, "");
}

static void set_forgets_an_older_sqlstate(void **state)
{
	struct err err = { .sqlstate = "23505" };

	(void)state;
	err_set(&err, -ENOENT, "gone");
	assert_int_equal(err_kind(&err), ERR_ABSENT);
}

static void nobody_has_to_want_the_reason(void **state)
{
	(void)state;
	assert_int_equal(err_set(NULL, -EPERM, "no %d", 1), -EPERM);
	errno = ENOENT;
	assert_int_equal(err_sys(NULL, "no %d", 1), -ENOENT);
	assert_true(err_wrap(NULL, "no %d", 1) < 0);
}

static void sys_appends_the_words_for_errno(void **state)
{
	struct err err = { 0 };

	(void)state;
	errno = ENOENT;
	assert_int_equal(err_sys(&err, "open %s", "x.conf"), -ENOENT);
	assert_string_equal(err.text, "open x.conf: No such file or directory");
	errno = 0;
	assert_int_equal(err_sys(&err, "nothing was wrong"), -EIO);
}

static void text_is_never_empty(void **state)
{
	struct err err = { 0 };

	(void)state;
	err_set(&err, -EINVAL, "%s", "");
	assert_true(err.text[0] != '\0');
	err_set(&err, -EINVAL, "%s", "\n\t ");
	assert_true(err.text[0] != '\0');
	errno = 100000;
	err_sys(&err, "%s", "");
	assert_true(err.text[0] != '\0');
}

static void wrap_puts_context_in_front_and_keeps_the_code(void **state)
{
	struct err err = { 0 };

	(void)state;
	err_set(&err, -EINVAL, "unknown key");
	assert_int_equal(err_wrap(&err, "line %d", 3), -EINVAL);
	assert_int_equal(err_wrap(&err, "settings x.conf"), -EINVAL);
	assert_string_equal(err.text, "settings x.conf: line 3: unknown key");
}

static void text_is_one_line_without_control_characters(void **state)
{
	struct err err = { 0 };

	(void)state;
	err_set(&err, -EINVAL, "first\nsecond\r\x1b[31mred\x7f\n");
	assert_string_equal(err.text, "first second  [31mred");
}

static void bytes_that_are_no_utf8_become_question_marks(void **state)
{
	struct err err = { 0 };

	(void)state;
	err_set(&err, -EINVAL, "caf\xc3\xa9 caf\xe9 ok \xed\xa0\x80.....");
	assert_string_equal(err.text, "caf\xc3\xa9 caf? ok ???.....");
}

/* Every length, so that the cut falls on each byte of a character once. */
static void a_long_text_is_cut_between_characters(void **state)
{
	char padding[300], text[900];
	struct err err;

	(void)state;
	memset(padding, 'x', sizeof(padding));
	for (int n = 230; n < 250; n++) {
		snprintf(text, sizeof(text), "%.*s\xf0\x9f\x98\x80\xf0\x9f\x98\x80", n, padding);
		memset(&err, 0, sizeof(err));
		err_set(&err, -EINVAL, "%s", text);
		assert_true(strlen(err.text) < sizeof(err.text));
		assert_true(strlen(err.text) >= sizeof(err.text) - 4);
		assert_true(str_utf8_ok(str_of(err.text)));
		assert_null(strchr(err.text, '?'));
	}
	for (int i = 0; i < 20; i++)
		err_wrap(&err, "deeper \xc3\xa9 and deeper %d", i);
	assert_true(str_utf8_ok(str_of(err.text)));
	assert_true(str_starts(str_of(err.text), STR("deeper \xc3\xa9 and deeper 19: ")));
}

static void a_row_s_own_data_is_told_from_everything_else(void **state)
{
	static const char *const data[] = { "21000", "22P02", "23505", "44000", "54000" },
				 *const other[] = { "", "08006", "25006", "40001", "42P01", "53100", "57014" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(data); i++) {
		struct err err = { .code = -EINVAL };

		memcpy(err.sqlstate, data[i], 6);
		assert_true(err_is_data(&err));
	}
	for (size_t i = 0; i < ARRAY_LEN(other); i++) {
		struct err err = { .code = -EINVAL };

		memcpy(err.sqlstate, other[i], strlen(other[i]) + 1);
		assert_false(err_is_data(&err));
	}
}

static void each_code_and_sqlstate_tells_what_to_do(void **state)
{
	static const struct { int code; const char *sqlstate; enum err_kind kind; int status; } cases[] = {
		{ 0, "", ERR_NONE, 200 },
		{ -EAGAIN, "", ERR_AGAIN, 503 }, { -ECONNREFUSED, "", ERR_AGAIN, 503 },
		{ -ETIMEDOUT, "", ERR_AGAIN, 503 }, { -ECANCELED, "", ERR_AGAIN, 503 },
		{ -EADDRINUSE, "", ERR_AGAIN, 503 },
		{ -EINVAL, "", ERR_INPUT, 400 }, { -EBADMSG, "", ERR_INPUT, 400 },
		{ -EMSGSIZE, "", ERR_INPUT, 413 }, { -ETIME, "", ERR_INPUT, 400 },
		{ -EACCES, "", ERR_DENIED, 403 }, { -EPERM, "", ERR_DENIED, 403 },
		{ -ENOENT, "", ERR_ABSENT, 404 },
		{ -EEXIST, "", ERR_CONFLICT, 409 }, { -ESTALE, "", ERR_CONFLICT, 409 },
		{ -EINPROGRESS, "", ERR_UNKNOWN, 500 },
		{ -ENOKEY, "", ERR_BROKEN, 500 }, { -EIO, "", ERR_BROKEN, 500 }, { -77777, "", ERR_BROKEN, 500 },
		/* the server's word counts more than the code */
		{ -EIO, "23505", ERR_CONFLICT, 409 }, { -EIO, "23503", ERR_CONFLICT, 409 },
		{ -EIO, "23514", ERR_INPUT, 400 }, { -EIO, "22021", ERR_INPUT, 400 },
		{ -EIO, "40001", ERR_AGAIN, 503 }, { -EIO, "40P01", ERR_AGAIN, 503 },
		{ -EIO, "40003", ERR_UNKNOWN, 500 }, { -EIO, "08007", ERR_UNKNOWN, 500 },
		{ -EIO, "08006", ERR_AGAIN, 503 }, { -EIO, "25006", ERR_AGAIN, 503 },
		{ -EIO, "53300", ERR_AGAIN, 503 }, { -EIO, "57P01", ERR_AGAIN, 503 },
		{ -EIO, "57014", ERR_AGAIN, 503 }, { -EIO, "55P03", ERR_AGAIN, 503 },
		{ -EIO, "P0002", ERR_ABSENT, 404 },
		{ -EAGAIN, "42P01", ERR_BROKEN, 500 }, { -EIO, "28P01", ERR_BROKEN, 500 },
		{ -EIO, "42501", ERR_BROKEN, 500 }, { -EIO, "XX000", ERR_BROKEN, 500 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err err = { .code = cases[i].code };

		memcpy(err.sqlstate, cases[i].sqlstate, strlen(cases[i].sqlstate) + 1);
		if (err_kind(&err) != cases[i].kind || err_http_status(&err) != cases[i].status)
			fail_msg("%d %s: kind %s, status %d", cases[i].code, cases[i].sqlstate,
			         err_kind_name(err_kind(&err)), err_http_status(&err));
	}
}

static void every_kind_has_a_name_of_its_own(void **state)
{
	(void)state;
	for (int a = ERR_NONE; a <= ERR_BROKEN; a++)
		for (int b = ERR_NONE; b < a; b++)
			assert_string_not_equal(err_kind_name((enum err_kind)a),
			                        err_kind_name((enum err_kind)b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_keeps_code_and_text_and_returns_the_code),
		cmocka_unit_test(set_forgets_an_older_sqlstate),
		cmocka_unit_test(a_row_s_own_data_is_told_from_everything_else),
		cmocka_unit_test(nobody_has_to_want_the_reason),
		cmocka_unit_test(sys_appends_the_words_for_errno),
		cmocka_unit_test(text_is_never_empty),
		cmocka_unit_test(wrap_puts_context_in_front_and_keeps_the_code),
		cmocka_unit_test(text_is_one_line_without_control_characters),
		cmocka_unit_test(bytes_that_are_no_utf8_become_question_marks),
		cmocka_unit_test(a_long_text_is_cut_between_characters),
		cmocka_unit_test(each_code_and_sqlstate_tells_what_to_do),
		cmocka_unit_test(every_kind_has_a_name_of_its_own),
	};

	return !!cmocka_run_group_tests(tests, NULL, NULL);
}

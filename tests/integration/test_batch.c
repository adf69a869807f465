/* test_batch.c - rows through unnest() on a real server: order, bad rows, cuts, lost connections. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "batch.h"
#include "db_fixture.h"
#include "wait.h"

enum { ROWS = 4096 };

static struct db_fixture f;

struct row_got { int calls, result_row, order; bool ok; struct err err; int64_t returned; };
static struct row_got got[ROWS];
static int n_told;

static const struct batch_spec keyed = {
	.name = "keyed", .columns = 3, .max_rows = 512, .max_in_flight = 2, .key_column = 0,
	.sql = "INSERT INTO keyed (id, word, at) SELECT * FROM unnest($1::bigint[], $2::text[], $3::timestamptz[])"
	       " ON CONFLICT (id) DO UPDATE SET word = excluded.word, times = keyed.times + 1 RETURNING id",
};
static const struct batch_spec plain = {
	.name = "plain", .columns = 2, .max_rows = 512, .max_in_flight = 2, .key_column = -1,
	.sql = "INSERT INTO plain (id, word) SELECT * FROM unnest($1::bigint[], $2::text[])",
};

static int set_up(void **state)
{
	(void)state;
	stack_open(&f.st, "batch", STACK_DATABASE);
	sql_run(f.st.sql, "CREATE TABLE keyed (id bigint PRIMARY KEY, word text NOT NULL CHECK (word <> 'bad'),"
	        " at timestamptz, times int NOT NULL DEFAULT 1)");
	sql_run(f.st.sql, "CREATE TABLE plain (id bigint, word text CHECK (word <> 'bad'))");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	stack_close(&f.st);
	return 0;
}

static int open_db(void **state)
{
	(void)state;
	memset(got, 0, sizeof(got));
	n_told = 0;
	sql_run(f.st.sql, "TRUNCATE keyed, plain");
	fixture_open(&f, (struct db_conf){ 0 }, false);
	return 0;
}

static int close_db(void **state)
{
	(void)state;
	fixture_close(&f);
	return 0;
}

static void row_done(void *arg, const struct db_result *res, int result_row, const struct err *err)
{
	struct row_got *g = arg;

	g->calls++;
	g->order = ++n_told;
	g->ok = err == NULL;
	g->result_row = result_row;
	if (err != NULL)
		g->err = *err;
	else if (result_row >= 0)
		g->returned = db_int(res, result_row, 0);
}

static int add(struct batch *b, int i, int64_t id, const char *word)
{
	struct db_param row[3] = { DB_INT(id), DB_STR(str_of(word)), DB_TIME(1700000000000 + i) };

	return batch_add(b, row, row_done, &got[i]);
}

static bool all_told(void *arg)
{
	return n_told >= *(int *)arg;
}

static void wait_told(int n)
{
	if (!service_run(&f.s, all_told, &n, 20000))
		harness_fail("%d of %d rows answered", n_told, n);
}

static void each_row_is_answered_once_in_order_with_its_own_result(void **state)
{
	struct batch *b = batch_open(&f.s, f.db, &keyed);
	int full = 0;

	(void)state;
	for (int i = 0; i < ROWS; i++) {
		while (add(b, i, i, "word") == -EAGAIN) {
			full++;
			wait_told(n_told + 1);
		}
	}
	wait_told(ROWS);
	assert_true(full > 0);
	for (int i = 0; i < ROWS; i++) {
		assert_int_equal(got[i].calls, 1);
		assert_true(got[i].ok);
		assert_int_equal(got[i].order, i + 1);
		assert_int_equal(got[i].returned, i);
	}
	assert_int_equal(batch_rows(b), 0);
	batch_close(b);
	assert_int_equal(sql_int(f.st.sql, "SELECT count(*) FROM keyed"), ROWS);
}

static void one_bad_row_among_512_fails_alone(void **state)
{
	struct batch *b = batch_open(&f.s, f.db, &keyed);

	(void)state;
	for (int i = 0; i < 512; i++)
		assert_int_equal(add(b, i, i, i == 300 ? "bad" : "good"), 0);
	wait_told(512);
	for (int i = 0; i < 512; i++) {
		assert_int_equal(got[i].calls, 1);
		assert_int_equal(got[i].ok, i != 300);
		assert_int_equal(got[i].order, i + 1);
	}
	assert_string_equal(got[300].err.sqlstate, "23514");
	batch_close(b);
	assert_int_equal(sql_int(f.st.sql, "SELECT count(*) FROM keyed"), 511);
}

static void when_all_rows_are_bad_all_fail_and_the_next_batch_works(void **state)
{
	struct batch *b = batch_open(&f.s, f.db, &keyed);

	(void)state;
	for (int i = 0; i < 100; i++)
		assert_int_equal(add(b, i, i, "bad"), 0);
	wait_told(100);
	for (int i = 0; i < 100; i++)
		assert_string_equal(got[i].err.sqlstate, "23514");
	assert_int_equal(add(b, 100, 100, "good"), 0);
	wait_told(101);
	assert_true(got[100].ok);
	batch_close(b);
}

static void a_repeated_key_cuts_the_batch_and_the_last_value_stays(void **state)
{
	struct batch *b = batch_open(&f.s, f.db, &keyed);
	char word[16];

	(void)state;
	for (int i = 0; i < 300; i++) {
		snprintf(word, sizeof(word), "w%d", i);
		while (add(b, i, i % 7, word) == -EAGAIN)
			wait_told(n_told + 1);
	}
	wait_told(300);
	for (int i = 0; i < 300; i++)
		assert_true(got[i].ok && got[i].order == i + 1 && got[i].returned == i % 7);
	batch_close(b);
	assert_int_equal(sql_int(f.st.sql, "SELECT sum(times) FROM keyed"), 300);
	for (int i = 293; i < 300; i++)
		assert_int_equal(sql_int(f.st.sql, "SELECT count(*) FROM keyed WHERE id = %d AND word = 'w%d'", i % 7, i), 1);
}

static void a_text_that_is_no_utf8_is_refused_and_hurts_nobody(void **state)
{
	struct batch *b = batch_open(&f.s, f.db, &keyed);
	struct db_param nul[3] = { DB_INT(1), DB_STR(((struct str){ "a\0b", 3 })), DB_TIME(0) };

	(void)state;
	assert_int_equal(add(b, 0, 0, "first"), 0);
	assert_int_equal(add(b, 1, 1, "\xed\xa0\x80"), -EINVAL);
	assert_int_equal(batch_add(b, nul, row_done, &got[1]), -EINVAL);
	assert_int_equal(add(b, 2, 2, "last"), 0);
	wait_told(2);
	assert_true(got[0].ok && got[2].ok);
	assert_int_equal(got[1].calls, 0);
	batch_close(b);
}

static void a_lost_connection_repeats_what_may_be_repeated(void **state)
{
	struct batch *b = batch_open(&f.s, f.db, &keyed);
	struct sql *lock;

	(void)state;
	fixture_connected(&f);
	lock = fixture_lock(&f, "keyed");
	for (int i = 0; i < 1024; i++)
		assert_int_equal(add(b, i, i, "word"), 0);
	fixture_wait_blocked(&f, 2);
	fixture_terminate(&f);
	sql_close(lock);
	wait_told(1024);
	for (int i = 0; i < 1024; i++)
		assert_true(got[i].ok && got[i].calls == 1 && got[i].order == i + 1);
	batch_close(b);
	assert_int_equal(sql_int(f.st.sql, "SELECT count(*) FROM keyed"), 1024);
}

/* Terminated while it waits the server says so; killed, it says nothing and nobody knows. */
static void a_lost_connection_fails_what_may_not_be_repeated_as_unknown(void **state)
{
	struct batch *b = batch_open(&f.s, f.db, &plain);

	(void)state;
	fixture_connected(&f);
	for (int i = 0; i < 10; i++)
		assert_int_equal(add(b, i, i, "word"), 0);
	wait_told(10);
	stack_pg("kill primary");
	for (int i = 10; i < 20; i++)
		assert_int_equal(add(b, i, i, "word"), 0);
	stack_pg("start primary");
	wait_told(20);
	for (int i = 10; i < 20; i++)
		assert_true(got[i].calls == 1 && (got[i].ok || err_kind(&got[i].err) == ERR_UNKNOWN));
	batch_close(b);
}

static void full_means_again_until_a_row_is_answered(void **state)
{
	struct batch *b = batch_open(&f.s, f.db, &keyed);
	struct sql *lock;
	int n = 0;

	(void)state;
	fixture_connected(&f);
	lock = fixture_lock(&f, "keyed");
	while (n < ROWS && add(b, n, n, "word") == 0)
		n++;
	assert_int_equal(n, 3 * 512);
	assert_int_equal(batch_rows(b), 3 * 512);
	fixture_wait_blocked(&f, 2);
	assert_int_equal(add(b, n, n, "word"), -EAGAIN);
	sql_close(lock);
	wait_told(1);
	assert_int_equal(add(b, n, n, "word"), 0);
	wait_told(n + 1);
	for (int i = 0; i <= n; i++)
		assert_true(got[i].ok && got[i].order == i + 1);
	batch_close(b);
}

static void closing_sends_what_is_inside_and_answers_it(void **state)
{
	struct batch *b = batch_open(&f.s, f.db, &keyed);

	(void)state;
	for (int i = 0; i < 700; i++)
		assert_int_equal(add(b, i, i, "word"), 0);
	batch_close(b);
	wait_told(700);
	for (int i = 0; i < 700; i++)
		assert_true(got[i].ok);
	assert_int_equal(sql_int(f.st.sql, "SELECT count(*) FROM keyed"), 700);
}

static void closing_the_db_first_fails_every_row_once(void **state)
{
	struct batch *b = batch_open(&f.s, f.db, &keyed);
	struct sql *lock;

	(void)state;
	fixture_connected(&f);
	lock = fixture_lock(&f, "keyed");
	for (int i = 0; i < 1500; i++)
		assert_int_equal(add(b, i, i, "word"), 0);
	fixture_wait_blocked(&f, 2);
	batch_close(b);
	fixture_close(&f);
	sql_close(lock);
	fixture_open(&f, (struct db_conf){ 0 }, false);
	for (int i = 0; i < 1500; i++)
		assert_true(got[i].calls == 1 && !got[i].ok);
}

static struct batch *closing_batch;

static void close_all(void *arg, const struct db_result *res, int result_row, const struct err *err)
{
	row_done(arg, res, result_row, err);
	if (n_told != 600)
		return;
	batch_close(closing_batch);
	db_close(f.db);
	f.db = NULL;
}

static void batch_and_db_may_be_closed_from_a_row(void **state)
{
	(void)state;
	closing_batch = batch_open(&f.s, f.db, &keyed);
	for (int i = 0; i < 1400; i++) {
		struct db_param row[3] = { DB_INT(i), DB_STR(STR("word")), DB_TIME(0) };

		assert_int_equal(batch_add(closing_batch, row, close_all, &got[i]), 0);
	}
	wait_told(1400);
	for (int i = 0; i < 1400; i++)
		assert_true(got[i].calls == 1 && got[i].order == i + 1);
	assert_true(got[511].ok && !got[1399].ok);
}

static void a_batch_that_waits_for_its_time_goes_with_it(void **state)
{
	static const struct batch_spec timed = {
		.name = "timed", .columns = 2, .max_rows = 512, .max_in_flight = 2, .max_ms = 50, .key_column = -1,
		.sql = "INSERT INTO plain (id, word) SELECT * FROM unnest($1::bigint[], $2::text[])",
	};
	struct batch *b = batch_open(&f.s, f.db, &timed);
	struct sql *lock;

	(void)state;
	fixture_connected(&f);
	lock = fixture_lock(&f, "plain");
	assert_int_equal(add(b, 0, 0, "first"), 0);
	fixture_wait_blocked(&f, 1);
	assert_int_equal(add(b, 1, 1, "second"), 0);
	fixture_wait_blocked(&f, 2);            /* without an answer to the first */
	sql_close(lock);
	wait_told(2);
	assert_true(got[0].ok && got[1].ok);
	batch_close(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(each_row_is_answered_once_in_order_with_its_own_result, open_db, close_db),
		cmocka_unit_test_setup_teardown(one_bad_row_among_512_fails_alone, open_db, close_db),
		cmocka_unit_test_setup_teardown(when_all_rows_are_bad_all_fail_and_the_next_batch_works, open_db, close_db),
		cmocka_unit_test_setup_teardown(a_repeated_key_cuts_the_batch_and_the_last_value_stays, open_db, close_db),
		cmocka_unit_test_setup_teardown(a_text_that_is_no_utf8_is_refused_and_hurts_nobody, open_db, close_db),
		cmocka_unit_test_setup_teardown(a_lost_connection_repeats_what_may_be_repeated, open_db, close_db),
		cmocka_unit_test_setup_teardown(full_means_again_until_a_row_is_answered, open_db, close_db),
		cmocka_unit_test_setup_teardown(closing_sends_what_is_inside_and_answers_it, open_db, close_db),
		cmocka_unit_test_setup_teardown(closing_the_db_first_fails_every_row_once, open_db, close_db),
		cmocka_unit_test_setup_teardown(batch_and_db_may_be_closed_from_a_row, open_db, close_db),
		cmocka_unit_test_setup_teardown(a_batch_that_waits_for_its_time_goes_with_it, open_db, close_db),
		cmocka_unit_test_setup_teardown(a_lost_connection_fails_what_may_not_be_repeated_as_unknown, open_db, close_db),
	};

	return !!cmocka_run_group_tests_name("batch", tests, set_up, tear_down);
}

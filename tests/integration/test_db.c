/* test_db.c - statements on a working server: values, errors, pipelining, limits. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "arena.h"
#include "db_fixture.h"
#include "wait.h"

static struct db_fixture f;

static const struct db_opts writing = { .to = DB_WRITE }, reading = { .to = DB_READ };

static int set_up(void **state)
{
	(void)state;
	stack_open(&f.st, "db", STACK_DATABASE);
	sql_run(f.st.sql, "CREATE TABLE t (id bigint PRIMARY KEY, word text NOT NULL)");
	fixture_open(&f, (struct db_conf){ 0 }, false);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	fixture_close(&f);
	stack_close(&f.st);
	return 0;
}

static void a_statement_answers_from_both_pools(void **state)
{
	struct db_got got[2] = { 0 };

	(void)state;
	assert_int_equal(db_query(f.db, writing, db_got, &got[0], "SELECT $1::bigint + 1", DB_INT(41)), 0);
	assert_int_equal(db_query(f.db, reading, db_got, &got[1], "SELECT 'read'"), 0);
	assert_int_equal(got[0].calls + got[1].calls, 0);
	fixture_wait(&f, got, 2, 10000);
	assert_true(got[0].ok);
	assert_int_equal(got[0].n, 42);
	assert_string_equal(got[1].text, "read");
}

/* -- values -------------------------------------------------------------------------------- */

/* Sent twice: the first time as an array literal, then in binary, since its type is known. */
#define BOTH_FORMS(type, array, want) \
	do { \
		struct db_param p_ = (array); \
		struct db_got got_[2] = { 0 }; \
		for (int i_ = 0; i_ < 2; i_++) { \
			assert_int_equal(db_send(f.db, writing, db_got, &got_[i_], "SELECT $1::" type "[]::text", &p_, 1), 0); \
			fixture_wait(&f, &got_[i_], 1, 5000); \
			assert_true(got_[i_].ok); \
			assert_string_equal(got_[i_].text, want); \
		} \
	} while (0)

static void arrays_arrive_the_same_as_text_and_in_binary(void **state)
{
	struct db_param ints[] = { DB_INT(1), DB_NULL, DB_INT(-32768) };
	struct db_param longs[] = { DB_INT(INT64_MIN), DB_INT(INT64_MAX) };
	struct db_param texts[] = { DB_STR(STR("a\"b\\c")), DB_STR(STR("NULL")), DB_NULL, DB_STR(STR_NONE),
	                            DB_STR(STR("{,} \t\n'$1")), DB_STR(STR("\xf0\x9f\x8e\x89")) };
	struct db_param times[] = { DB_TIME(0), DB_TIME(946684800000), DB_TIME(253402300799999) };
	struct db_param bools[] = { DB_BOOL(true), DB_BOOL(false), DB_NULL };
	struct db_param uuids[] = { DB_STR(STR("00112233-4455-6677-8899-AABBCCDDEEFF")) };
	struct db_param jsons[] = { DB_STR(STR("{\"a\": [1, null]}")), DB_NULL };
	struct db_param bytes[] = { DB_BYTES(STR("\\\x00\xff")), DB_BYTES(STR_NONE) };

	(void)state;
	BOTH_FORMS("smallint", DB_ARRAY(ints, 3), "{1,NULL,-32768}");
	BOTH_FORMS("int", DB_ARRAY(ints, 3), "{1,NULL,-32768}");
	BOTH_FORMS("bigint", DB_ARRAY(longs, 2), "{-9223372036854775808,9223372036854775807}");
	BOTH_FORMS("numeric", DB_ARRAY(ints, 3), "{1,NULL,-32768}");
	BOTH_FORMS("text", DB_ARRAY(texts, 6), "{\"a\\\"b\\\\c\",\"NULL\",NULL,\"\",\"{,} \t\n'$1\",\xf0\x9f\x8e\x89}");
	BOTH_FORMS("timestamptz", DB_ARRAY(times, 3), "{\"1970-01-01 00:00:00+00\",\"2000-01-01 00:00:00+00\",\"9999-12-31 ");
	BOTH_FORMS("boolean", DB_ARRAY(bools, 3), "{t,f,NULL}");
	BOTH_FORMS("uuid", DB_ARRAY(uuids, 1), "{00112233-4455-6677-8899-aabbccddeeff}");
	BOTH_FORMS("jsonb", DB_ARRAY(jsons, 2), "{\"{\\\"a\\\": [1, null]}\",NULL}");
	BOTH_FORMS("bytea", DB_ARRAY(bytes, 2), "{\"\\\\x5c00ff\",\"\\\\x\"}");
	BOTH_FORMS("text", DB_ARRAY(texts, 0), "{}");
}

struct values {
	int calls, rows;
	bool has_rows, null, yes;
	int64_t big, when, day, before, ever, nothing;
	struct str none;
	char text[16];
};

static void read_values(void *arg, const struct db_result *res, const struct err *err)
{
	struct values *v = arg;

	v->calls++;
	if (err != NULL)
		return;
	v->rows = db_rows(res);
	v->has_rows = db_has_rows(res);
	v->big = db_int(res, 0, 0);
	v->when = db_time(res, 0, 1);
	v->day = db_time(res, 0, 2);
	v->before = db_time(res, 0, 3);
	v->ever = db_time(res, 0, 4);
	v->yes = db_bool(res, 0, 5);
	snprintf(v->text, sizeof(v->text), STR_FMT, STR_ARG(db_str(res, 0, 6)));
	v->null = db_null(res, 0, 7) && !db_null(res, 0, 6);
	v->none = db_str(res, 0, 7);
	v->nothing = db_int(res, 0, 7) + db_time(res, 0, 7) + db_bool(res, 0, 7);
}

static bool values_read(void *arg)
{
	return ((const struct values *)arg)->calls > 0;
}

static void values_are_read_as_what_they_are(void **state)
{
	struct values v = { .none = STR("x") };

	(void)state;
	assert_int_equal(db_query(f.db, reading, read_values, &v, "SELECT $1::bigint, $2::timestamptz, '2024-02-29'::date,"
	                          " '1969-12-31 23:59:59.999Z'::timestamptz, 'infinity'::timestamptz, true, 'caf\u00e9', NULL"
	                          " FROM generate_series(1, 3)", DB_INT(INT64_MIN), DB_TIME(1741505400123)), 0);
	assert_true(service_run(&f.s, values_read, &v, 5000));
	assert_int_equal(v.rows, 3);
	assert_true(v.has_rows && v.null && v.yes && v.none.p == NULL && v.nothing == 0);
	assert_true(v.big == INT64_MIN);
	assert_true(v.when == 1741505400123);
	assert_true(v.day == 1709164800000);
	assert_true(v.before == -1);
	assert_true(v.ever == INT64_MAX);
	assert_string_equal(v.text, "caf\xc3\xa9");
}

static void every_day_of_the_calendar_is_the_day_postgresql_says(void **state)
{
	struct values v;

	(void)state;
	for (int64_t day = 0; day < 2932896; day += 9973) {
		v = (struct values){ .none = STR("x") };
		assert_int_equal(db_query(f.db, reading, read_values, &v, "SELECT (extract(epoch FROM $1::timestamptz) * 1000)::bigint,"
		                          " $1::timestamptz, $1::timestamptz::date, $1::timestamptz - interval '100 years',"
		                          " 'infinity'::timestamptz, true, '', NULL", DB_TIME(day * 86400000 + 7)), 0);
		assert_true(service_run(&f.s, values_read, &v, 5000));
		assert_true(v.big == v.when && v.when == v.day + 7 && v.day == day * 86400000);
	}
}

struct bytes { int calls; struct arena *mem; struct str full, empty, none, large; };

static void read_bytes(void *arg, const struct db_result *res, const struct err *err)
{
	struct bytes *b = arg;

	b->calls++;
	if (err != NULL)
		return;
	b->full = db_bytes(res, 0, 0, b->mem);
	b->empty = db_bytes(res, 0, 1, b->mem);
	b->none = db_bytes(res, 0, 2, b->mem);
	b->large = db_bytes(res, 0, 3, b->mem);
}

static bool bytes_read(void *arg)
{
	return ((const struct bytes *)arg)->calls > 0;
}

static void bytes_come_back_as_they_were(void **state)
{
	struct bytes b = { .mem = arena_new(1024, 4096) };
	char all[256];

	(void)state;
	for (int i = 0; i < 256; i++)
		all[i] = (char)i;
	assert_int_equal(db_query(f.db, reading, read_bytes, &b, "SELECT $1::bytea, ''::bytea, NULL::bytea,"
	                          " decode(repeat('00', 10000), 'hex')", DB_BYTES(((struct str){ all, 256 }))), 0);
	assert_true(service_run(&f.s, bytes_read, &b, 5000));
	assert_int_equal(b.full.n, 256);
	assert_memory_equal(b.full.p, all, 256);
	assert_true(b.empty.n == 0 && b.empty.p != NULL && b.none.p == NULL && b.large.p == NULL);
	arena_free(b.mem);
}

static void affected_rows_are_counted_without_returning(void **state)
{
	struct db_got got;

	(void)state;
	got = fixture_ask(&f, writing, "INSERT INTO t SELECT n, 'x' FROM generate_series(5001, 5020) n");
	assert_int_equal(got.rows, 20);
	got = fixture_ask(&f, writing, "DELETE FROM t WHERE id > 5000");
	assert_int_equal(got.rows, 20);
	got = fixture_ask(&f, writing, "SELECT 1 WHERE false");
	assert_true(got.ok && got.rows == 0);
}

static void a_large_value_goes_both_ways(void **state)
{
	enum { BIG = 8 << 20 };
	char *big = xnew_(1, BIG);
	struct db_got got = { 0 };

	(void)state;
	memset(big, 'x', BIG);
	assert_int_equal(db_query(f.db, writing, db_got, &got, "SELECT length($1::text), $1::text",
	                          DB_STR(((struct str){ big, BIG }))), 0);
	free(big);                      /* copied */
	fixture_wait(&f, &got, 1, 20000);
	assert_int_equal(got.n, BIG);
}

static void an_error_among_many_touches_nobody_else(void **state)
{
	struct db_got got[200] = { 0 };

	(void)state;
	for (int i = 0; i < 200; i++)
		assert_int_equal(db_query(f.db, writing, db_got, &got[i], "INSERT INTO t VALUES ($1, $2)",
		                          DB_INT(i % 100), DB_STR(STR("word"))), 0);
	fixture_wait(&f, got, 200, 10000);
	assert_int_equal(sql_int(f.st.sql, "SELECT count(*) FROM t"), 100);
	for (int i = 0; i < 200; i++)
		assert_int_equal(got[i].calls, 1);
	for (int i = 0; i < 100; i++) {
		assert_true(got[i].ok != got[i + 100].ok);
		assert_string_equal(got[i].ok ? got[i + 100].err.sqlstate : got[i].err.sqlstate, "23505");
	}
}

static void a_transaction_commits_with_a_position_in_the_log(void **state)
{
	struct db_got got[3] = { 0 };
	struct db_tx *tx = db_tx_begin(f.db, 0);

	(void)state;
	assert_non_null(tx);
	assert_int_equal(db_tx_query(tx, db_got, &got[0], "INSERT INTO t VALUES ($1, 'a') RETURNING id", DB_INT(1001)), 0);
	assert_int_equal(db_tx_query(tx, db_got, &got[1], "INSERT INTO t VALUES ($1, 'b')", DB_INT(1002)), 0);
	db_tx_commit(tx, db_got, &got[2]);
	fixture_wait(&f, got, 3, 10000);
	assert_true(got[0].ok && got[1].ok && got[2].ok);
	assert_int_equal(got[0].n, 1001);
	assert_int_equal(got[1].rows, 1);
	assert_true(got[2].lsn > 0);
	assert_true(got[0].order < got[1].order && got[1].order < got[2].order);
	assert_int_equal(sql_int(f.st.sql, "SELECT count(*) FROM t WHERE id > 1000"), 2);
}

static void a_failed_statement_fails_the_transaction(void **state)
{
	struct db_got got[4] = { 0 };
	struct db_tx *tx = db_tx_begin(f.db, 0);

	(void)state;
	assert_int_equal(db_tx_query(tx, db_got, &got[0], "INSERT INTO t VALUES ($1, 'a')", DB_INT(2001)), 0);
	assert_int_equal(db_tx_query(tx, db_got, &got[1], "INSERT INTO t VALUES ($1, 'b')", DB_INT(2001)), 0);
	assert_int_equal(db_tx_query(tx, db_got, &got[2], "INSERT INTO t VALUES ($1, 'c')", DB_INT(2002)), 0);
	db_tx_commit(tx, db_got, &got[3]);
	fixture_wait(&f, got, 4, 10000);
	assert_true(got[0].ok);
	assert_string_equal(got[1].err.sqlstate, "23505");
	assert_int_equal(got[2].err.code, -ECANCELED);
	assert_string_equal(got[3].err.sqlstate, "23505");
	assert_int_equal(sql_int(f.st.sql, "SELECT count(*) FROM t WHERE id > 2000"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_statement_answers_from_both_pools),
		cmocka_unit_test(arrays_arrive_the_same_as_text_and_in_binary),
		cmocka_unit_test(values_are_read_as_what_they_are),
		cmocka_unit_test(every_day_of_the_calendar_is_the_day_postgresql_says),
		cmocka_unit_test(bytes_come_back_as_they_were),
		cmocka_unit_test(affected_rows_are_counted_without_returning),
		cmocka_unit_test(a_large_value_goes_both_ways),
		cmocka_unit_test(an_error_among_many_touches_nobody_else),
		cmocka_unit_test(a_transaction_commits_with_a_position_in_the_log),
		cmocka_unit_test(a_failed_statement_fails_the_transaction),
	};

	return !!cmocka_run_group_tests_name("db", tests, set_up, tear_down);
}

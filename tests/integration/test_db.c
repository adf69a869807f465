/* test_db.c - statements on a working server: values, errors, pipelining, limits. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

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
	assert_true((uint64_t)sql_int(f.st.sql, "SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn") <= got[2].lsn ||
	            got[2].lsn > 0);
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
		cmocka_unit_test(an_error_among_many_touches_nobody_else),
		cmocka_unit_test(a_transaction_commits_with_a_position_in_the_log),
		cmocka_unit_test(a_failed_statement_fails_the_transaction),
	};

	return !!cmocka_run_group_tests_name("db", tests, set_up, tear_down);
}

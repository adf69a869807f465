/* test_db_tx.c - transactions: all or nothing, in order, and an honest verdict. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "lsn.h"
#include "db_fixture.h"
#include "wait.h"

static struct db_fixture f;

static int set_up(void **state)
{
	(void)state;
	stack_open(&f.st, "db_tx", STACK_DATABASE);
	sql_run(f.st.sql, "CREATE TABLE t (id bigint PRIMARY KEY)");
	sql_run(f.st.sql, "CREATE TABLE other (t bigint REFERENCES t DEFERRABLE INITIALLY DEFERRED)");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	stack_close(&f.st);
	return 0;
}

static void open_with(struct db_conf conf)
{
	sql_run(f.st.sql, "TRUNCATE t, other");
	fixture_open(&f, conf, false);
	fixture_connected(&f);
}

static struct db_tx *begin(void)
{
	struct db_tx *tx = db_tx_begin(f.db, 0);

	if (tx == NULL)
		harness_fail("the queue is full");
	return tx;
}

static void insert(struct db_tx *tx, int64_t id, struct db_got *got)
{
	if (db_tx_query(tx, got != NULL ? db_got : NULL, got, "INSERT INTO t VALUES ($1)", DB_INT(id)) != 0)
		harness_fail("not taken");
}

static int64_t rows(void)
{
	return sql_int(f.st.sql, "SELECT count(*) FROM t");
}

static bool nothing_held(struct db_fixture *fix, int64_t n)
{
	(void)fix, (void)n;
	return fixture_metric("waddle_db_connections{state=\"write-held\"}") == 0 &&
	       fixture_metric("waddle_db_in_flight{pool=\"write\"}") == 0;
}

static void assert_all_free(void)
{
	fixture_until(&f, "every connection is free again", nothing_held, 0, 5000);
	assert_int_equal(sql_int(f.st.sql, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
				 " AND application_name = 'test' AND state LIKE 'idle in%%'"), 0);
}

/* -- order --------------------------------------------------------------------------------- */

struct chain { struct db_tx *tx; int steps; struct db_got got; };

static void next_step(void *arg, const struct db_result *res, const struct err *err)
{
	struct chain *c = arg;

	if (err != NULL) {
		c->steps = -1000;
		db_tx_commit(c->tx, db_got, &c->got);
		return;
	}
	if (++c->steps == 10) {
		db_tx_commit(c->tx, db_got, &c->got);
		return;
	}
	if (db_tx_query(c->tx, next_step, c, "INSERT INTO t SELECT $1::bigint + $2 RETURNING id",
			DB_INT(db_int(res, 0, 0)), DB_INT(1)) != 0)
		c->steps = -2000;
}

static void a_statement_can_be_queued_from_the_answer_to_an_earlier_one(void **state)
{
	struct chain c = { 0 };

	(void)state;
	open_with((struct db_conf){ .write_conns = 1 });
	c.tx = begin();
	assert_int_equal(db_tx_query(c.tx, next_step, &c, "INSERT INTO t VALUES (100) RETURNING id"), 0);
	fixture_wait(&f, &c.got, 1, 5000);
	assert_true(c.got.ok && c.got.lsn > 0);
	assert_int_equal(c.steps, 10);
	assert_int_equal(sql_int(f.st.sql, "SELECT sum(id) FROM t"), 1045);
	assert_all_free();
	fixture_close(&f);
}

static void transactions_wait_for_a_connection_in_the_order_they_began(void **state)
{
	struct db_got got[100] = { 0 };

	(void)state;
	open_with((struct db_conf){ .write_conns = 1 });
	for (int i = 0; i < 100; i++) {
		struct db_tx *tx = begin();

		insert(tx, i, NULL);
		db_tx_commit(tx, db_got, &got[i]);
	}
	fixture_wait(&f, got, 100, 10000);
	for (int i = 0; i < 100; i++) {
		assert_true(got[i].ok && got[i].calls == 1);
		assert_true(i == 0 || (got[i].order > got[i - 1].order && got[i].lsn >= got[i - 1].lsn));
	}
	assert_int_equal(rows(), 100);
	fixture_close(&f);
}

static void single_statements_and_transactions_share_the_connections(void **state)
{
	struct db_got got[300] = { 0 };
	int64_t expected = 0;

	(void)state;
	open_with((struct db_conf){ .write_conns = 3 });
	for (int i = 0; i < 300; i++) {
		if (i % 3 != 0) {
			assert_int_equal(db_query(f.db, (struct db_opts){ .to = DB_WRITE }, db_got, &got[i],
						  "INSERT INTO t VALUES ($1)", DB_INT(i)), 0);
			expected++;
		} else {
			struct db_tx *tx = begin();

			insert(tx, i, NULL);
			if (i % 2 == 0)         /* a failing one must not disturb its neighbours */
				insert(tx, i, NULL);
			else
				expected++;
			db_tx_commit(tx, db_got, &got[i]);
		}
	}
	fixture_wait(&f, got, 300, 10000);
	for (int i = 0; i < 300; i++)
		assert_int_equal(got[i].ok, i % 6 != 0);
	assert_int_equal(rows(), expected);
	assert_all_free();
	fixture_close(&f);
}

static void the_position_of_a_commit_is_after_its_record(void **state)
{
	struct db_got got = { 0 };

	(void)state;
	open_with((struct db_conf){ 0 });
	for (int i = 0; i < 50; i++) {
		struct db_tx *tx = begin();
		char lsn[24];

		memset(&got, 0, sizeof(got));
		insert(tx, i, NULL);
		db_tx_commit(tx, db_got, &got);
		fixture_wait(&f, &got, 1, 5000);
		assert_true(got.ok);
		/* Once the standby has replayed so far the row must be there. */
		lsn_text(got.lsn, lsn);
		sql_wait_int(f.st.standby, 1, 10000, "SELECT (pg_last_wal_replay_lsn() >= '%s')::int", lsn);
		assert_int_equal(sql_int(f.st.standby, "SELECT count(*) FROM t WHERE id = %d", i), 1);
	}
	fixture_close(&f);
}

static int64_t insert_position(struct sql *primary)
{
	return sql_int(primary, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn");
}

/* Logs a message of n bytes; returns how far it moved the log. */
static int64_t pad(struct sql *primary, int64_t n)
{
	int64_t before = insert_position(primary);

	sql_run(primary, "SELECT pg_logical_emit_message(false, '', repeat('x', %lld))", (long long)n);
	return insert_position(primary) - before;
}

static struct db_got one_commit(int id)
{
	struct db_got got = { 0 };
	struct db_tx *tx = begin();

	insert(tx, id, NULL);
	db_tx_commit(tx, db_got, &got);
	fixture_wait(&f, &got, 1, 5000);
	assert_true(got.ok);
	return got;
}

/* The position behind such a commit is the next page's header, and the standby comes there only
 * with the next record. */
static void a_commit_that_fills_its_page_needs_no_further_record(void **state)
{
	enum { PAGE = 8192 };
	struct sql *primary = sql_open(env_of("TEST_PG_PRIMARY"));
	int64_t record = INT64_MAX, commit = INT64_MAX;
	struct db_got got = { 0 };
	bool filled = false;
	int id = 0;

	(void)state;
	open_with((struct db_conf){ 0 });
	for (int i = 0; i < 5; i++) {
		int64_t before = insert_position(primary);

		one_commit(id++);
		int64_t took = insert_position(primary) - before, moved = pad(primary, 8);

		commit = took < commit ? took : commit;
		record = moved < record ? moved : record;
	}
	for (int i = 0; i < 100 && !filled; i++) {
		int64_t room = PAGE - insert_position(primary) % PAGE - commit;

		if (room < record) {
			pad(primary, PAGE / 2);
			continue;
		}
		pad(primary, 8 + room - record);
		if (insert_position(primary) % PAGE != PAGE - commit)
			continue;               /* PostgreSQL itself wrote something */
		got = one_commit(id++);
		filled = got.lsn % PAGE == 0;
	}
	assert_true(filled);
	sql_wait_int(f.st.standby, 1, 5000, "SELECT (pg_last_wal_replay_lsn() >= '0/0'::pg_lsn + %llu)::int",
	             (unsigned long long)got.lsn);
	assert_int_equal(sql_int(f.st.standby, "SELECT count(*) FROM t WHERE id = %d", id - 1), 1);
	sql_close(primary);
	fixture_close(&f);
}

/* -- failures ------------------------------------------------------------------------------ */

static void a_failure_in_a_later_turn_cancels_what_is_queued(void **state)
{
	struct db_got got[4] = { 0 };
	struct db_tx *tx;

	(void)state;
	open_with((struct db_conf){ .write_conns = 1 });
	tx = begin();
	insert(tx, 1, &got[0]);
	fixture_wait(&f, got, 1, 5000);
	assert_true(got[0].ok);
	insert(tx, 1, &got[1]);
	fixture_wait(&f, &got[1], 1, 5000);
	assert_string_equal(got[1].err.sqlstate, "23505");
	assert_all_free();              /* before its owner has said anything */
	insert(tx, 2, &got[2]);
	assert_int_equal(got[2].calls, 0);
	fixture_wait(&f, &got[2], 1, 5000);
	assert_int_equal(got[2].err.code, -ECANCELED);
	db_tx_commit(tx, db_got, &got[3]);
	assert_int_equal(got[3].calls, 0);
	fixture_wait(&f, &got[3], 1, 5000);
	assert_string_equal(got[3].err.sqlstate, "23505");
	assert_int_equal(rows(), 0);
	fixture_close(&f);
}

static void a_constraint_checked_at_commit_fails_the_commit(void **state)
{
	struct db_got got[2] = { 0 };
	struct db_tx *tx;

	(void)state;
	open_with((struct db_conf){ .write_conns = 1 });
	tx = begin();
	assert_int_equal(db_tx_query(tx, db_got, &got[0], "INSERT INTO other VALUES (77)"), 0);
	db_tx_commit(tx, db_got, &got[1]);
	fixture_wait(&f, got, 2, 5000);
	assert_true(got[0].ok);
	assert_string_equal(got[1].err.sqlstate, "23503");
	assert_int_equal(err_kind(&got[1].err), ERR_CONFLICT);
	assert_all_free();
	fixture_close(&f);
}

static void an_aborted_transaction_leaves_nothing_and_cancels_its_statements(void **state)
{
	struct db_got got[6] = { 0 };
	struct db_tx *never_sent, *sent, *answered;

	(void)state;
	open_with((struct db_conf){ .write_conns = 1 });
	answered = begin();
	insert(answered, 1, &got[0]);
	fixture_wait(&f, got, 1, 5000);
	insert(answered, 2, &got[1]);
	db_tx_abort(answered);
	assert_int_equal(got[1].calls, 0);
	sent = begin();
	insert(sent, 3, &got[2]);
	never_sent = begin();
	insert(never_sent, 4, &got[3]);
	db_tx_abort(never_sent);
	fixture_wait(&f, got, 4, 5000);
	assert_int_equal(got[1].err.code, -ECANCELED);
	assert_true(got[2].ok);
	assert_int_equal(got[3].err.code, -ECANCELED);
	insert(sent, 5, &got[4]);
	fixture_turns(&f, 0);
	db_tx_abort(sent);
	fixture_wait(&f, &got[4], 1, 5000);
	assert_all_free();
	assert_int_equal(rows(), 0);
	assert_true(fixture_ask(&f, (struct db_opts){ .to = DB_WRITE }, "INSERT INTO t VALUES (6)").ok);
	for (int i = 0; i < 5; i++)
		assert_int_equal(got[i].calls, 1);
	fixture_close(&f);
}

static void an_empty_transaction_commits(void **state)
{
	struct db_got got = { 0 };

	(void)state;
	open_with((struct db_conf){ 0 });
	db_tx_commit(begin(), db_got, &got);
	fixture_wait(&f, &got, 1, 5000);
	assert_true(got.ok && got.lsn > 0);
	fixture_close(&f);
}

static void who_forgets_to_end_a_transaction_loses_it_but_not_the_connection(void **state)
{
	struct db_got got[3] = { 0 };
	struct db_tx *tx;

	(void)state;
	open_with((struct db_conf){ .write_conns = 1, .timeout_ms = 400 });
	tx = begin();
	insert(tx, 1, &got[0]);
	fixture_wait(&f, got, 1, 5000);
	assert_true(got[0].ok);
	/* Waits behind it, longer than that one may take. */
	assert_int_equal(db_query(f.db, ((struct db_opts){ .to = DB_WRITE, .timeout_ms = 5000 }), db_got, &got[1],
				  "SELECT count(*) FROM t"), 0);
	fixture_wait(&f, &got[1], 1, 5000);
	assert_true(got[1].ok);
	assert_int_equal(got[1].n, 0);
	db_tx_commit(tx, db_got, &got[2]);
	fixture_wait(&f, &got[2], 1, 5000);
	assert_int_equal(got[2].err.code, -ETIMEDOUT);
	assert_int_equal(err_kind(&got[2].err), ERR_AGAIN);
	fixture_close(&f);
}

static void a_transaction_that_gets_no_connection_in_time_fails(void **state)
{
	struct db_got got[3] = { 0 };
	struct sql *lock;
	struct db_tx *tx;

	(void)state;
	open_with((struct db_conf){ .write_conns = 1 });
	lock = fixture_lock(&f, "t");
	tx = begin();
	insert(tx, 1, NULL);
	db_tx_commit(tx, db_got, &got[0]);
	tx = db_tx_begin(f.db, 200);
	assert_non_null(tx);
	insert(tx, 2, &got[1]);
	db_tx_commit(tx, db_got, &got[2]);
	fixture_wait(&f, &got[1], 2, 3000);
	assert_int_equal(got[1].err.code, -ECANCELED);
	assert_int_equal(got[2].err.code, -ETIMEDOUT);
	assert_true(got[1].order < got[2].order);
	sql_close(lock);
	fixture_wait(&f, got, 1, 5000);
	assert_true(got[0].ok);
	fixture_close(&f);
}

static void its_own_timeout_ends_a_statement_inside(void **state)
{
	struct db_got got[2] = { 0 };
	struct db_tx *tx;

	(void)state;
	open_with((struct db_conf){ .write_conns = 1 });
	tx = db_tx_begin(f.db, 200);
	assert_non_null(tx);
	assert_int_equal(db_tx_query(tx, db_got, &got[0], "SELECT pg_sleep(10)"), 0);
	db_tx_commit(tx, db_got, &got[1]);
	fixture_wait(&f, got, 2, 2000);
	assert_string_equal(got[0].err.sqlstate, "57014");
	assert_string_equal(got[1].err.sqlstate, "57014");
	assert_string_equal(fixture_ask(&f, (struct db_opts){ .to = DB_WRITE }, "SHOW statement_timeout").text, "5s");
	fixture_close(&f);
}

/* -- lost connections ---------------------------------------------------------------------- */

static void lost_before_commit_was_sent_means_nothing_happened(void **state)
{
	struct db_got got[3] = { 0 };
	struct db_tx *tx;

	(void)state;
	open_with((struct db_conf){ .write_conns = 1 });
	tx = begin();
	insert(tx, 1, &got[0]);
	fixture_wait(&f, got, 1, 5000);
	stack_pg("kill primary");
	insert(tx, 2, &got[1]);
	fixture_wait(&f, &got[1], 1, 5000);
	assert_false(got[1].ok);
	assert_int_equal(err_kind(&got[1].err), ERR_AGAIN);
	db_tx_commit(tx, db_got, &got[2]);
	fixture_wait(&f, &got[2], 1, 5000);
	assert_int_equal(err_kind(&got[2].err), ERR_AGAIN);
	stack_pg("start primary");
	sql_wait_int(f.st.sql, 0, 10000, "SELECT count(*) FROM t");
	fixture_close(&f);
}

/* A commit that hangs in a deferred trigger when the server is killed: nobody knows. */
static void lost_after_commit_was_sent_is_unknown(void **state)
{
	struct db_got got = { 0 };
	struct sql *lock;
	struct db_tx *tx;

	(void)state;
	open_with((struct db_conf){ .write_conns = 1 });
	lock = sql_open(f.st.url);
	sql_run(lock, "SELECT pg_advisory_lock(42)");
	sql_run(f.st.sql, "CREATE OR REPLACE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS"
		" 'BEGIN PERFORM pg_advisory_lock(42); RETURN NULL; END'");
	sql_run(f.st.sql, "CREATE CONSTRAINT TRIGGER hang AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED"
		" FOR EACH ROW EXECUTE FUNCTION hang()");
	tx = begin();
	insert(tx, 1, NULL);
	db_tx_commit(tx, db_got, &got);
	fixture_wait_blocked(&f, 1);
	stack_pg("kill primary");
	fixture_wait(&f, &got, 1, 5000);
	assert_int_equal(err_kind(&got.err), ERR_UNKNOWN);
	stack_pg("start primary");
	sql_close(lock);
	sql_wait_int(f.st.sql, 0, 10000, "SELECT count(*) FROM t");
	sql_run(f.st.sql, "DROP TRIGGER hang ON t");
	fixture_close(&f);
}

static void begun_but_not_sent_it_moves_to_another_connection(void **state)
{
	struct db_got got = { 0 };
	struct db_tx *tx;

	(void)state;
	open_with((struct db_conf){ .write_conns = 1 });
	tx = begin();
	fixture_turns(&f, 20);          /* it has a connection, nothing was sent on it */
	fixture_terminate(&f);
	fixture_turns(&f, 100);
	insert(tx, 1, NULL);
	db_tx_commit(tx, db_got, &got);
	fixture_wait(&f, &got, 1, 5000);
	assert_true(got.ok);
	assert_int_equal(rows(), 1);
	fixture_close(&f);
}

static void a_plan_that_became_invalid_fails_the_transaction_for_now(void **state)
{
	struct db_got got[2] = { 0 };

	(void)state;
	sql_run(f.st.sql, "DROP TABLE IF EXISTS shape");
	sql_run(f.st.sql, "CREATE TABLE shape (a int)");
	open_with((struct db_conf){ .write_conns = 1 });
	for (int round = 0; round < 3; round++) {
		struct db_tx *tx = begin();

		memset(got, 0, sizeof(got));
		assert_int_equal(db_tx_query(tx, db_got, &got[0], "SELECT * FROM shape"), 0);
		db_tx_commit(tx, db_got, &got[1]);
		fixture_wait(&f, got, 2, 5000);
		assert_int_equal(got[1].ok, round != 1);
		assert_true(round != 1 || err_kind(&got[1].err) == ERR_AGAIN);
		if (round == 0)
			sql_run(f.st.sql, "ALTER TABLE shape ADD COLUMN b text");
	}
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_statement_can_be_queued_from_the_answer_to_an_earlier_one),
		cmocka_unit_test(transactions_wait_for_a_connection_in_the_order_they_began),
		cmocka_unit_test(single_statements_and_transactions_share_the_connections),
		cmocka_unit_test(the_position_of_a_commit_is_after_its_record),
		cmocka_unit_test(a_commit_that_fills_its_page_needs_no_further_record),
		cmocka_unit_test(a_failure_in_a_later_turn_cancels_what_is_queued),
		cmocka_unit_test(a_constraint_checked_at_commit_fails_the_commit),
		cmocka_unit_test(an_aborted_transaction_leaves_nothing_and_cancels_its_statements),
		cmocka_unit_test(an_empty_transaction_commits),
		cmocka_unit_test(who_forgets_to_end_a_transaction_loses_it_but_not_the_connection),
		cmocka_unit_test(a_transaction_that_gets_no_connection_in_time_fails),
		cmocka_unit_test(its_own_timeout_ends_a_statement_inside),
		cmocka_unit_test(begun_but_not_sent_it_moves_to_another_connection),
		cmocka_unit_test(a_plan_that_became_invalid_fails_the_transaction_for_now),
		cmocka_unit_test(lost_before_commit_was_sent_means_nothing_happened),
		cmocka_unit_test(lost_after_commit_was_sent_is_unknown),
	};

	return !!cmocka_run_group_tests_name("db_tx", tests, set_up, tear_down);
}

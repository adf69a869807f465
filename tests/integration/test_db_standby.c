/* test_db_standby.c - who may read the past: read-your-writes by position in the log. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "clock.h"
#include "db_fixture.h"
#include "wait.h"

static struct db_fixture f;
static double fresh, behind, down;

static int set_up(void **state)
{
	(void)state;
	stack_open(&f.st, "db_standby", STACK_DATABASE);
	sql_run(f.st.sql, "CREATE TABLE t (id bigint PRIMARY KEY)");
	stack_wait_replay(&f.st, 10000);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	stack_close(&f.st);
	return 0;
}

static void remember(void)
{
	fresh = fixture_metric("waddle_db_standby_reads_total{result=\"fresh\"}");
	behind = fixture_metric("waddle_db_standby_reads_total{result=\"behind\"}");
	down = fixture_metric("waddle_db_standby_reads_total{result=\"down\"}");
}

static void assert_counted(int more_fresh, int more_behind, int more_down)
{
	assert_int_equal(fixture_metric("waddle_db_standby_reads_total{result=\"fresh\"}") - fresh, more_fresh);
	assert_int_equal(fixture_metric("waddle_db_standby_reads_total{result=\"behind\"}") - behind, more_behind);
	assert_int_equal(fixture_metric("waddle_db_standby_reads_total{result=\"down\"}") - down, more_down);
	remember();
}

static int open_db(void **state)
{
	(void)state;
	sql_run(f.st.sql, "TRUNCATE t");
	stack_wait_replay(&f.st, 10000);
	fixture_open(&f, (struct db_conf){ .read_conns = 2 }, true);
	fixture_connected(&f);
	remember();
	return 0;
}

static int close_db(void **state)
{
	(void)state;
	fixture_close(&f);
	return 0;
}

static uint64_t insert(int64_t id)
{
	struct db_tx *tx = db_tx_begin(f.db, 0);
	struct db_got got = { 0 };

	if (tx == NULL || db_tx_query(tx, NULL, NULL, "INSERT INTO t VALUES ($1)", DB_INT(id)) != 0)
		harness_fail("not taken");
	db_tx_commit(tx, db_got, &got);
	fixture_wait(&f, &got, 1, 10000);
	if (!got.ok)
		harness_fail("not committed: %s", got.err.text);
	return got.lsn;
}

static struct db_got count_rows(uint64_t after_lsn)
{
	return fixture_ask(&f, (struct db_opts){ .to = DB_READ, .after_lsn = after_lsn },
			   "SELECT count(*), pg_is_in_recovery() FROM t");
}

static bool on_standby(void)
{
	return strcmp(fixture_ask(&f, (struct db_opts){ .to = DB_READ }, "SELECT pg_is_in_recovery()").text, "t") == 0;
}

static void reads_without_a_position_use_the_standby(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++)
		assert_true(on_standby());
	assert_counted(10, 0, 0);
}

static void a_reader_always_sees_what_its_writer_wrote(void **state)
{
	(void)state;
	for (int i = 1; i <= 100; i++)
		assert_int_equal(count_rows(insert(i)).n, i);
	assert_int_equal(fixture_metric("waddle_db_standby_reads_total{result=\"fresh\"}") - fresh +
			 fixture_metric("waddle_db_standby_reads_total{result=\"behind\"}") - behind, 100);
}

static void a_position_long_replayed_is_read_on_the_standby(void **state)
{
	uint64_t lsn = insert(1);

	(void)state;
	stack_wait_replay(&f.st, 10000);
	for (int i = 0; i < 10; i++)
		assert_int_equal(count_rows(lsn).n, 1);
	assert_counted(10, 0, 0);
}

/* router: standby replay paused - what was just written is read, unrelated reads stay there. */
static void while_replay_is_paused_the_writer_reads_the_primary_and_others_the_standby(void **state)
{
	struct db_got got[40] = { 0 };
	uint64_t lsn;

	(void)state;
	stack_pg("pause-replay");
	lsn = insert(1);
	assert_int_equal(count_rows(lsn).n, 1);
	assert_counted(0, 1, 0);
	assert_int_equal(count_rows(0).n, 0);
	assert_true(on_standby());
	assert_counted(2, 0, 0);
	for (int i = 0; i < 40; i++)
		assert_int_equal(db_query(f.db, ((struct db_opts){ .to = DB_READ, .after_lsn = lsn }), db_got, &got[i],
					  "SELECT count(*) FROM t"), 0);
	fixture_wait(&f, got, 40, 10000);
	for (int i = 0; i < 40; i++)
		assert_int_equal(got[i].n, 1);
	assert_counted(0, 40, 0);
	stack_pg("resume-replay");
	stack_wait_replay(&f.st, 10000);
	fixture_turns(&f, 20);          /* a standby seen behind is asked again after 10 ms */
	assert_int_equal(count_rows(lsn).n, 1);
	assert_counted(1, 0, 0);
}

static bool reads_are_down(struct db_fixture *fix, int64_t n)
{
	(void)fix;
	return fixture_metric("waddle_db_connections{state=\"read-down\"}") == (double)n;
}

static void reads_go_on_while_the_standby_is_down_and_return_to_it(void **state)
{
	struct db_got got[20] = { 0 };

	(void)state;
	for (int i = 0; i < 20; i++)
		assert_int_equal(db_query(f.db, (struct db_opts){ .to = DB_READ }, db_got, &got[i], "SELECT $1::bigint, pg_sleep(0.05)",
					  DB_INT(i)), 0);
	fixture_turns(&f, 20);          /* some of them are at the standby now */
	stack_pg("kill standby");
	fixture_wait(&f, got, 20, 10000);
	for (int i = 0; i < 20; i++)
		assert_true(got[i].ok && got[i].calls == 1 && got[i].n == i);
	remember();
	assert_false(on_standby());
	assert_int_equal(count_rows(insert(1)).n, 1);
	assert_counted(0, 0, 2);
	stack_pg("start standby");
	fixture_until(&f, "the standby is used again", reads_are_down, 0, 20000);
	assert_true(on_standby());
	assert_counted(1, 0, 0);
}

static void the_standby_serves_reads_while_the_primary_is_down(void **state)
{
	(void)state;
	stack_pg("stop primary");
	assert_true(on_standby());
	assert_counted(1, 0, 0);
	stack_pg("start primary");
	sql_wait_int(f.st.sql, 1, 10000, "SELECT 1");
	assert_true(insert(5) > 0);
}

static void of_several_read_hosts_the_standby_is_taken(void **state)
{
	char *at = strstr(f.st.url, "127.0.0.1:"), *end, *url;

	(void)state;
	fixture_close(&f);
	assert_non_null(at);
	end = strrchr(at, '/');
	url = text_of("%.*s,%s", (int)(end - f.st.url), f.st.url, strstr(f.st.read_url, "127.0.0.1:"));
	fixture_open(&f, (struct db_conf){ .read_url = str_of(url), .read_conns = 4 }, true);
	fixture_connected(&f);
	for (int i = 0; i < 8; i++)
		assert_true(on_standby());
	free(url);
}

static bool none_of_them(struct db_fixture *fix, int64_t n)
{
	(void)n;
	return fixture_metric("waddle_db_connections{state=\"read-free\"}") == 2 &&
	       sql_int(fix->st.standby, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test'"
		       " AND datname = current_database() AND pid = ANY(ARRAY[%s])", fix->s.priv != NULL ?
		       (const char *)fix->s.priv : "0") == 0;
}

static void read_connections_are_renewed_every_few_minutes(void **state)
{
	char *pids = sql_text(f.st.standby, "SELECT string_agg(pid::text, ',') FROM pg_stat_activity WHERE"
			      " application_name = 'test' AND datname = current_database()");

	(void)state;
	assert_non_null(strchr(pids, ','));
	f.s.priv = pids;
	clock_fake(1700000000000);
	for (int i = 0; i < 320; i++) {         /* one of them at a time; reads go on */
		clock_advance(1000);
		fixture_turns(&f, 1);
		if (i % 20 == 0)
			assert_true(fixture_ask(&f, (struct db_opts){ .to = DB_READ }, "SELECT 1").ok);
	}
	clock_real();
	fixture_until(&f, "both connections are others", none_of_them, 0, 10000);
	assert_true(on_standby());
	free(pids);
}

static void a_write_connection_never_goes_to_a_standby(void **state)
{
	struct db_got got = { 0 };

	(void)state;
	fixture_close(&f);
	fixture_open(&f, (struct db_conf){ .write_url = str_of(f.st.read_url), .timeout_ms = 500 }, false);
	assert_int_equal(db_query(f.db, (struct db_opts){ .to = DB_WRITE }, db_got, &got, "SELECT 1"), 0);
	fixture_wait(&f, &got, 1, 5000);
	assert_int_equal(got.err.code, -ETIMEDOUT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(reads_without_a_position_use_the_standby, open_db, close_db),
		cmocka_unit_test_setup_teardown(a_reader_always_sees_what_its_writer_wrote, open_db, close_db),
		cmocka_unit_test_setup_teardown(a_position_long_replayed_is_read_on_the_standby, open_db, close_db),
		cmocka_unit_test_setup_teardown(while_replay_is_paused_the_writer_reads_the_primary_and_others_the_standby,
						open_db, close_db),
		cmocka_unit_test_setup_teardown(reads_go_on_while_the_standby_is_down_and_return_to_it, open_db, close_db),
		cmocka_unit_test_setup_teardown(the_standby_serves_reads_while_the_primary_is_down, open_db, close_db),
		cmocka_unit_test_setup_teardown(of_several_read_hosts_the_standby_is_taken, open_db, close_db),
		cmocka_unit_test_setup_teardown(read_connections_are_renewed_every_few_minutes, open_db, close_db),
		cmocka_unit_test_setup_teardown(a_write_connection_never_goes_to_a_standby, open_db, close_db),
	};

	return !!cmocka_run_group_tests_name("db_standby", tests, set_up, tear_down);
}

/* test_db_failures.c - every way a statement can fail, each callback exactly once, the loop alive. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "db_fixture.h"
#include "wait.h"

static struct db_fixture f;

static const struct db_opts writing = { .to = DB_WRITE }, reading = { .to = DB_READ };

static int set_up(void **state)
{
	(void)state;
	stack_open(&f.st, "db_failures", STACK_DATABASE);
	sql_run(f.st.sql, "CREATE TABLE t (id bigint PRIMARY KEY)");
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
	sql_run(f.st.sql, "TRUNCATE t");
	fixture_open(&f, conf, false);
}

/* -- a clock that ticks while all this happens --------------------------------------------- */

struct ticker { struct timer timer; int64_t last_us, worst_us; };

static void tick(void *arg)
{
	struct ticker *t = arg;
	int64_t now = clock_exact_us();

	if (t->last_us != 0 && now - t->last_us > t->worst_us)
		t->worst_us = now - t->last_us;
	t->last_us = now;
	timer_start(&f.s, &t->timer, 5, tick, t);
}

/* -- not connected ------------------------------------------------------------------------- */

static void nobody_listens_and_the_statement_ends_with_its_time(void **state)
{
	struct db_got got[2] = { 0 };
	char url[64];

	(void)state;
	snprintf(url, sizeof(url), "postgresql://u:p@127.0.0.1:%d/d", free_port());
	fixture_open(&f, (struct db_conf){ .write_url = str_of(url), .timeout_ms = 300 }, false);
	assert_int_equal(db_query(f.db, writing, db_got, &got[0], "SELECT 1"), 0);
	assert_int_equal(db_query(f.db, reading, db_got, &got[1], "SELECT 1"), 0);
	fixture_wait(&f, got, 2, 5000);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(got[i].err.code, -ETIMEDOUT);
		assert_int_equal(err_kind(&got[i].err), ERR_AGAIN);
		assert_non_null(strstr(got[i].err.text, "Connection refused"));
	}
	assert_true(fixture_metric("waddle_db_reconnects_total{pool=\"write\"}") > 0);
	fixture_close(&f);
	assert_int_equal(got[0].calls + got[1].calls, 2);
}

struct mute { int fd, n; };

static bool two_attempts(void *arg)
{
	struct mute *m = arg;
	int fd = accept4(m->fd, NULL, NULL, SOCK_NONBLOCK);

	m->n += fd >= 0;                /* left open: never answered */
	return m->n >= 2;
}

static void a_mute_server_costs_one_attempt_and_no_tick(void **state)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct mute m = { .fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) };
	struct ticker ticker = { 0 };
	socklen_t n = sizeof(at);
	int64_t start;
	char url[64];

	(void)state;
	assert_int_equal(bind(m.fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(m.fd, 8), 0);
	assert_int_equal(getsockname(m.fd, (struct sockaddr *)&at, &n), 0);
	snprintf(url, sizeof(url), "postgresql://u:p@127.0.0.1:%d/d", ntohs(at.sin_port));
	start = harness_now_ms();
	fixture_open(&f, (struct db_conf){ .write_url = str_of(url), .write_conns = 1, .read_conns = 1 }, false);
	tick(&ticker);
	m.n = -1;                       /* the two of the pools, then one of them again */
	assert_true(service_run(&f.s, two_attempts, &m, 12000));
	assert_true(harness_now_ms() - start > 4500);
	assert_true(ticker.worst_us < 200000);
	timer_stop(&ticker.timer);
	fixture_close(&f);
	close(m.fd);
}

static void a_host_name_is_resolved_without_blocking(void **state)
{
	char *url = text_of("%s", f.st.url), *at, *name;
	struct db_got got = { 0 };

	(void)state;
	at = strstr(url, "127.0.0.1");
	assert_non_null(at);
	name = text_of("%.*slocalhost%s", (int)(at - url), url, at + strlen("127.0.0.1"));
	open_with((struct db_conf){ .write_url = str_of(name) });
	assert_int_equal(db_query(f.db, writing, db_got, &got, "SELECT 7"), 0);
	fixture_wait(&f, &got, 1, 10000);
	assert_int_equal(got.n, 7);
	fixture_close(&f);
	free(name);
	free(url);
}

static void a_name_that_does_not_exist_is_an_error_like_any_other(void **state)
{
	struct db_got got = { 0 };

	(void)state;
	for (int ms = 1; ms < 400; ms *= 4) {   /* closed while it is being resolved, too */
		memset(&got, 0, sizeof(got));
		fixture_open(&f, (struct db_conf){ .write_url = STR("postgresql://u@db.invalid/d"), .timeout_ms = ms }, false);
		assert_int_equal(db_query(f.db, writing, db_got, &got, "SELECT 1"), 0);
		fixture_wait(&f, &got, 1, 5000);
		assert_int_equal(got.err.code, -ETIMEDOUT);
		fixture_close(&f);
	}
}

static void of_two_hosts_the_one_that_answers_is_found(void **state)
{
	char *at = strstr(f.st.url, "127.0.0.1:"), *slash, *url;
	struct db_got got = { 0 };

	(void)state;
	assert_non_null(at);
	slash = strchr(at, '/');
	url = text_of("%.*s127.0.0.1:%d,%s", (int)(at - f.st.url), f.st.url, free_port(), at);
	assert_non_null(slash);
	open_with((struct db_conf){ .write_url = str_of(url) });
	for (int i = 0; i < 4; i++) {
		got = fixture_ask(&f, writing, "SELECT 5");
		assert_int_equal(got.n, 5);
	}
	fixture_close(&f);
	free(url);
}

/* -- refused ------------------------------------------------------------------------------- */

static void texts_that_postgresql_cannot_store_are_refused_at_once(void **state)
{
	struct db_param nul = DB_STR(((struct str){ "a\0b", 3 })), bad = DB_STR(STR("\xc0\x80"));
	struct db_param far = DB_TIME(INT64_MAX), in = DB_ARRAY(&bad, 1);

	(void)state;
	open_with((struct db_conf){ 0 });
	assert_int_equal(db_send(f.db, writing, db_got, NULL, "SELECT $1::text", &nul, 1), -EINVAL);
	assert_int_equal(db_send(f.db, writing, db_got, NULL, "SELECT $1::text", &bad, 1), -EINVAL);
	assert_int_equal(db_send(f.db, writing, db_got, NULL, "SELECT $1::timestamptz", &far, 1), -EINVAL);
	assert_int_equal(db_send(f.db, writing, db_got, NULL, "SELECT $1::text[]", &in, 1), -EINVAL);
	fixture_close(&f);
}

static void a_full_queue_says_again_and_resumes(void **state)
{
	struct db_got got[200] = { 0 };
	struct sql *lock;
	int n = 0, r = 0;

	(void)state;
	open_with((struct db_conf){ .write_conns = 1, .max_queued = 20 });
	fixture_connected(&f);
	lock = fixture_lock(&f, "t");
	while (n < 200 && r == 0) {
		r = db_query(f.db, writing, db_got, &got[n], "INSERT INTO t VALUES ($1)", DB_INT(n));
		n += r == 0;
		fixture_turns(&f, 1);
	}
	assert_int_equal(r, -EAGAIN);
	assert_true(n > 20 && n < 100);
	assert_true(fixture_metric("waddle_db_queued{pool=\"write\"}") == 20);
	assert_null(n < 200 ? db_tx_begin(f.db, 0) : NULL);
	sql_close(lock);
	fixture_wait(&f, got, n, 10000);
	for (int i = 0; i < n; i++)
		assert_true(got[i].ok && got[i].calls == 1);
	assert_int_equal(db_query(f.db, writing, db_got, &got[n], "INSERT INTO t VALUES ($1)", DB_INT(n)), 0);
	fixture_wait(&f, &got[n], 1, 5000);
	fixture_close(&f);
}

static void a_missing_table_fails_and_is_found_once_it_is_there(void **state)
{
	struct db_got got[3] = { 0 };

	(void)state;
	sql_run(f.st.sql, "DROP TABLE IF EXISTS later");
	open_with((struct db_conf){ .write_conns = 1 });
	for (int round = 0; round < 2; round++) {
		memset(got, 0, sizeof(got));
		for (int i = 0; i < 3; i++)
			assert_int_equal(db_query(f.db, writing, db_got, &got[i], "SELECT count(*) FROM later"), 0);
		fixture_wait(&f, got, 3, 5000);
		for (int i = 0; i < 3; i++) {
			assert_int_equal(got[i].ok, round == 1);
			assert_string_equal(got[i].err.sqlstate, round == 1 ? "" : "42P01");
		}
		sql_run(f.st.sql, "CREATE TABLE IF NOT EXISTS later (n int)");
	}
	fixture_close(&f);
}

static void a_plan_that_became_invalid_is_prepared_again(void **state)
{
	struct db_got got[40] = { 0 };

	(void)state;
	sql_run(f.st.sql, "DROP TABLE IF EXISTS shape");
	sql_run(f.st.sql, "CREATE TABLE shape (a int)");
	sql_run(f.st.sql, "INSERT INTO shape VALUES (1)");
	open_with((struct db_conf){ .write_conns = 1 });
	for (int round = 0; round < 4; round++) {
		for (int i = round * 10; i < round * 10 + 10; i++)
			assert_int_equal(db_query(f.db, writing, db_got, &got[i], "SELECT * FROM shape"), 0);
		fixture_wait(&f, got + round * 10, 10, 5000);
		for (int i = round * 10; i < round * 10 + 10; i++)
			assert_true(got[i].ok && got[i].calls == 1);
		if (round == 0)
			sql_run(f.st.sql, "ALTER TABLE shape ADD COLUMN b text");       /* 0A000 */
		else if (round == 1)
			assert_true(fixture_ask(&f, writing, "DEALLOCATE ALL").ok);     /* 26000 */
		else
			sql_run(f.st.sql, "ALTER TABLE shape ALTER COLUMN a TYPE bigint");
	}
	fixture_close(&f);
}

static void an_array_of_a_changed_type_fails_once_and_then_works(void **state)
{
	struct db_param one = DB_INT(1), array = DB_ARRAY(&one, 1);
	struct db_got got = { 0 };
	int failures = 0;

	(void)state;
	sql_run(f.st.sql, "DROP TABLE IF EXISTS typed");
	sql_run(f.st.sql, "CREATE TABLE typed (n bigint)");
	sql_run(f.st.sql, "INSERT INTO typed VALUES (1)");
	open_with((struct db_conf){ .write_conns = 1 });
	for (int i = 0; i < 6; i++) {
		memset(&got, 0, sizeof(got));
		assert_int_equal(db_send(f.db, writing, db_got, &got, "SELECT count(*) FROM typed WHERE n = ANY($1)", &array, 1), 0);
		fixture_wait(&f, &got, 1, 5000);
		failures += !got.ok;
		assert_true(got.ok ? got.n == 1 : i == 3);
		if (i == 2)
			sql_run(f.st.sql, "ALTER TABLE typed ALTER COLUMN n TYPE int");
	}
	assert_true(failures <= 1);
	fixture_close(&f);
}

static void a_constraint_checked_at_commit_fails_the_single_statement(void **state)
{
	struct db_got got[3] = { 0 };

	(void)state;
	sql_run(f.st.sql, "DROP TABLE IF EXISTS child");
	open_with((struct db_conf){ .write_conns = 1 });
	sql_run(f.st.sql, "CREATE TABLE child (t bigint REFERENCES t DEFERRABLE INITIALLY DEFERRED)");
	assert_int_equal(db_query(f.db, writing, db_got, &got[0], "SELECT 1"), 0);
	assert_int_equal(db_query(f.db, writing, db_got, &got[1], "INSERT INTO child VALUES ($1)", DB_INT(99)), 0);
	assert_int_equal(db_query(f.db, writing, db_got, &got[2], "SELECT 2"), 0);
	fixture_wait(&f, got, 3, 5000);
	assert_true(got[0].ok && got[2].ok);
	assert_string_equal(got[1].err.sqlstate, "23503");
	assert_int_equal(fixture_ask(&f, writing, "SELECT 3").n, 3);
	fixture_close(&f);
	sql_run(f.st.sql, "DROP TABLE child");
}

/* -- time ---------------------------------------------------------------------------------- */

static void a_slow_statement_is_ended_by_the_server_and_the_connection_stays(void **state)
{
	struct db_got pid, got;
	int64_t start;

	(void)state;
	open_with((struct db_conf){ .write_conns = 1, .timeout_ms = 400 });
	pid = fixture_ask(&f, writing, "SELECT pg_backend_pid()");
	start = harness_now_ms();
	got = fixture_ask(&f, writing, "SELECT pg_sleep(20)");
	assert_string_equal(got.err.sqlstate, "57014");
	assert_int_equal(err_kind(&got.err), ERR_AGAIN);
	assert_true(harness_now_ms() - start < 2000);
	/* A time-out of its own, shorter and longer than the pool's; the next one has the pool's again. */
	got = fixture_ask(&f, (struct db_opts){ .to = DB_WRITE, .timeout_ms = 100 }, "SELECT pg_sleep(0.3)");
	assert_string_equal(got.err.sqlstate, "57014");
	got = fixture_ask(&f, (struct db_opts){ .to = DB_WRITE, .timeout_ms = 5000 }, "SELECT pg_sleep(0.7)");
	assert_true(got.ok);
	got = fixture_ask(&f, writing, "SELECT pg_sleep(0.7)");
	assert_string_equal(got.err.sqlstate, "57014");
	assert_int_equal(fixture_ask(&f, writing, "SELECT pg_backend_pid()").n, pid.n);
	fixture_close(&f);
}

static void a_stopped_server_ends_statements_in_time_while_the_loop_ticks(void **state)
{
	struct db_got got[21] = { 0 };
	struct ticker ticker = { 0 };
	struct db_tx *tx;
	int64_t start;

	(void)state;
	open_with((struct db_conf){ .write_conns = 2, .read_conns = 2, .timeout_ms = 500 });
	fixture_connected(&f);
	fixture_signal(&f, SIGSTOP);
	start = harness_now_ms();
	tick(&ticker);
	for (int i = 0; i < 10; i++)
		assert_int_equal(db_query(f.db, writing, db_got, &got[i], "INSERT INTO t VALUES ($1)", DB_INT(i)), 0);
	for (int i = 10; i < 20; i++)
		assert_int_equal(db_query(f.db, reading, db_got, &got[i], "SELECT $1::bigint", DB_INT(i)), 0);
	tx = db_tx_begin(f.db, 0);
	assert_non_null(tx);
	db_tx_commit(tx, db_got, &got[20]);
	fixture_wait(&f, got, 21, 5000);
	assert_true(harness_now_ms() - start < 2000);
	assert_true(ticker.worst_us < 200000);
	timer_stop(&ticker.timer);
	for (int i = 0; i < 21; i++)
		assert_true(got[i].calls == 1 && !got[i].ok);
	for (int i = 0; i < 10; i++)
		assert_int_equal(err_kind(&got[i].err), ERR_UNKNOWN);
	for (int i = 10; i < 20; i++)
		assert_int_equal(got[i].err.code, -ETIMEDOUT);
	fixture_signal(&f, SIGCONT);
	assert_true(fixture_ask(&f, writing, "SELECT 1").ok);
	fixture_close(&f);
}

/* -- connections that break ---------------------------------------------------------------- */

static void a_terminated_server_process_answers_everybody_once_and_reads_again(void **state)
{
	struct db_got got[40] = { 0 };
	struct sql *lock;

	(void)state;
	open_with((struct db_conf){ .write_conns = 2, .read_conns = 2 });
	fixture_connected(&f);
	lock = fixture_lock(&f, "t");
	for (int i = 0; i < 20; i++)
		assert_int_equal(db_query(f.db, writing, db_got, &got[i], "INSERT INTO t VALUES ($1)", DB_INT(i)), 0);
	for (int i = 20; i < 40; i++)
		assert_int_equal(db_query(f.db, reading, db_got, &got[i], "SELECT count(*) FROM t"), 0);
	fixture_wait_blocked(&f, 4);
	fixture_terminate(&f);
	sql_close(lock);
	fixture_wait(&f, got, 40, 10000);
	for (int i = 0; i < 20; i++) {
		assert_true(got[i].calls == 1 && !got[i].ok);
		/* The two being executed were told so; the others got no word. */
		assert_true(strcmp(got[i].err.sqlstate, "57P01") == 0 || err_kind(&got[i].err) == ERR_UNKNOWN);
	}
	for (int i = 20; i < 40; i++)
		assert_true(got[i].calls == 1 && got[i].ok);
	assert_int_equal(sql_int(f.st.sql, "SELECT count(*) FROM t"), 0);
	assert_true(fixture_ask(&f, writing, "INSERT INTO t VALUES (1)").ok);
	fixture_close(&f);
}

static void a_connection_that_leads_to_a_standby_is_dropped_and_the_write_repeated(void **state)
{
	struct db_got pid, got;

	(void)state;
	open_with((struct db_conf){ .write_conns = 1 });
	pid = fixture_ask(&f, writing, "SELECT pg_backend_pid()");
	/* What a demoted primary does: the session can only read from now on. */
	assert_true(fixture_ask(&f, writing, "SET default_transaction_read_only = on").ok);
	got = fixture_ask(&f, writing, "INSERT INTO t VALUES (1)");
	assert_true(got.ok);
	assert_int_not_equal(fixture_ask(&f, writing, "SELECT pg_backend_pid()").n, pid.n);
	assert_int_equal(sql_int(f.st.sql, "SELECT count(*) FROM t"), 1);
	fixture_close(&f);
}

static void a_transaction_on_a_standby_fails_and_the_connection_is_dropped(void **state)
{
	struct db_got pid, got = { 0 };
	struct db_tx *tx;

	(void)state;
	open_with((struct db_conf){ .write_conns = 1 });
	pid = fixture_ask(&f, writing, "SELECT pg_backend_pid()");
	assert_true(fixture_ask(&f, writing, "SET default_transaction_read_only = on").ok);
	for (int round = 0; round < 2; round++) {
		memset(&got, 0, sizeof(got));
		tx = db_tx_begin(f.db, 0);
		assert_non_null(tx);
		assert_int_equal(db_tx_query(tx, NULL, NULL, "INSERT INTO t VALUES (1)"), 0);
		db_tx_commit(tx, db_got, &got);
		fixture_wait(&f, &got, 1, 5000);
		assert_int_equal(got.ok, round == 1);
		assert_true(round == 1 || err_kind(&got.err) == ERR_AGAIN);
	}
	assert_int_not_equal(fixture_ask(&f, writing, "SELECT pg_backend_pid()").n, pid.n);
	fixture_close(&f);
}

static void a_read_must_not_write(void **state)
{
	(void)state;
	open_with((struct db_conf){ 0 });
	fixture_connected(&f);
	assert_string_equal(fixture_ask(&f, reading, "INSERT INTO t VALUES (1)").err.sqlstate, "25006");
	fixture_close(&f);
}

static void closing_answers_everything_queued_and_sent_once(void **state)
{
	struct db_got got[302] = { 0 };
	struct db_tx *tx, *open;
	struct sql *lock;

	(void)state;
	open_with((struct db_conf){ .write_conns = 2 });
	fixture_connected(&f);
	lock = fixture_lock(&f, "t");
	tx = db_tx_begin(f.db, 0);
	assert_non_null(tx);
	assert_int_equal(db_tx_query(tx, db_got, &got[300], "INSERT INTO t VALUES ($1)", DB_INT(300)), 0);
	db_tx_commit(tx, db_got, &got[301]);
	for (int i = 0; i < 300; i++)
		assert_int_equal(db_query(f.db, i % 3 == 0 ? reading : writing, db_got, &got[i],
		                          "SELECT count(*) FROM t WHERE id = $1", DB_INT(i)), 0);
	open = db_tx_begin(f.db, 0);            /* its owner never hears of it again */
	assert_non_null(open);
	fixture_wait_blocked(&f, 2);
	fixture_close(&f);
	sql_close(lock);
	for (int i = 0; i < 302; i++)
		assert_true(got[i].calls == 1 && !got[i].ok);
}

/* -- closing from inside a callback ---------------------------------------------------------- */

enum { CROWD = 90 };
static struct { struct db_got got[CROWD]; int at, n; } crowd;

static void close_at(void *arg, const struct db_result *res, const struct err *err)
{
	db_got(arg, res, err);
	if (++crowd.n == crowd.at) {
		db_close(f.db);
		f.db = NULL;
	}
}

static void the_db_may_be_closed_from_any_callback(void **state)
{
	(void)state;
	for (int at = 1; at <= CROWD; at += 4) {
		memset(&crowd, 0, sizeof(crowd));
		crowd.at = at;
		open_with((struct db_conf){ .write_conns = 2, .read_conns = 1 });
		fixture_connected(&f);
		for (int i = 0; i < CROWD; i += 3) {
			struct db_tx *tx = db_tx_begin(f.db, 0);

			assert_non_null(tx);
			assert_int_equal(db_tx_query(tx, close_at, &crowd.got[i], "INSERT INTO t VALUES ($1)", DB_INT(i)), 0);
			if (i % 2 == 0) /* and a failure that rolls back */
				assert_int_equal(db_tx_query(tx, NULL, NULL, "INSERT INTO t VALUES ($1)", DB_INT(i)), 0);
			db_tx_commit(tx, close_at, &crowd.got[i + 1]);
			assert_int_equal(db_query(f.db, i % 2 == 0 ? reading : writing, close_at, &crowd.got[i + 2],
			                          "SELECT $1::bigint", DB_INT(i)), 0);
		}
		fixture_wait(&f, crowd.got, CROWD, 10000);
		for (int i = 0; i < CROWD; i++)
			assert_int_equal(crowd.got[i].calls, 1);
		assert_null(f.db);
		fixture_close(&f);
	}
}

/* The server is ended at the n-th callback, for every n: whoever was told success is in the
 * table, whoever was told a failure other than "unknown" is not, and everybody was told once. */
enum { FLOW = 60 };
struct flow { struct db_got got[FLOW]; struct db_tx *tx[FLOW]; int64_t at, n; bool crash; };
static struct flow flow;

static void flow_done(void *arg, const struct db_result *res, const struct err *err)
{
	db_got(arg, res, err);
	if (++flow.n != flow.at)
		return;
	if (flow.crash)
		stack_pg("kill primary");
	else
		fixture_terminate(&f);
}

static void flows(bool crash, int64_t step)
{
	int64_t lied, unknown = 0, failed = 0, told = 0;

	for (int64_t at = 1; at <= FLOW; at += step, told += FLOW) {
		memset(&flow, 0, sizeof(flow));
		flow.at = at;
		flow.crash = crash;
		open_with((struct db_conf){ .write_conns = 3, .timeout_ms = 2000 });
		fixture_connected(&f);
		for (int i = 0; i < FLOW; i++) {
			if (i % 2 == 0) {
				assert_int_equal(db_query(f.db, writing, flow_done, &flow.got[i],
				                          "INSERT INTO t VALUES ($1)", DB_INT(i)), 0);
				continue;
			}
			flow.tx[i] = db_tx_begin(f.db, 0);
			assert_non_null(flow.tx[i]);
			assert_int_equal(db_tx_query(flow.tx[i], NULL, NULL, "INSERT INTO t VALUES ($1)", DB_INT(i)), 0);
			assert_int_equal(db_tx_query(flow.tx[i], NULL, NULL, "INSERT INTO t VALUES ($1)", DB_INT(i + 1000)), 0);
			db_tx_commit(flow.tx[i], flow_done, &flow.got[i]);
		}
		fixture_wait(&f, flow.got, FLOW, 10000);
		if (crash) {
			stack_pg("start primary");
			sql_wait_at_least(f.st.sql, 0, 20000, "SELECT count(*) FROM t");
		}
		lied = 0;
		for (int i = 0; i < FLOW; i++) {
			const struct db_got *g = &flow.got[i];
			bool is_unknown = !g->ok && err_kind(&g->err) == ERR_UNKNOWN;
			int64_t there = sql_int(f.st.sql, "SELECT count(*) FROM t WHERE id %% 1000 = %d", i);
			int64_t all = i % 2 == 0 ? 1 : 2;

			lied += g->calls != 1 || (there != 0 && there != all);
			lied += !is_unknown && (there == all) != g->ok;
			unknown += is_unknown;
			failed += !g->ok;
		}
		assert_int_equal(lied, 0);
		fixture_close(&f);
	}
	assert_true(failed > 0);
	print_message("          %lld of %lld failed, %lld of them unknown\n", (long long)failed, (long long)told,
	              (long long)unknown);
}

static void whatever_instant_the_connections_are_terminated_nobody_is_told_a_lie(void **state)
{
	(void)state;
	flows(false, 3);
}

static void whatever_instant_the_server_crashes_nobody_is_told_a_lie(void **state)
{
	(void)state;
	flows(true, 20);
}

static void the_primary_restarts_and_work_resumes(void **state)
{
	struct db_got got[2] = { 0 };

	(void)state;
	open_with((struct db_conf){ .timeout_ms = 20000 });
	fixture_connected(&f);
	stack_pg("kill primary");
	assert_int_equal(db_query(f.db, writing, db_got, &got[0], "INSERT INTO t VALUES (70)"), 0);
	fixture_turns(&f, 300);
	/* Sent into a connection that was dead, or waiting for one that works. */
	assert_true(got[0].calls == 0 || err_kind(&got[0].err) == ERR_UNKNOWN);
	assert_int_equal(db_query(f.db, writing, db_got, &got[1], "INSERT INTO t VALUES (71)"), 0);
	fixture_turns(&f, 300);
	assert_int_equal(got[1].calls, 0);
	stack_pg("start primary");
	fixture_wait(&f, got, 2, 20000);
	assert_true(got[1].ok);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_listens_and_the_statement_ends_with_its_time),
		cmocka_unit_test(a_mute_server_costs_one_attempt_and_no_tick),
		cmocka_unit_test(a_host_name_is_resolved_without_blocking),
		cmocka_unit_test(a_name_that_does_not_exist_is_an_error_like_any_other),
		cmocka_unit_test(of_two_hosts_the_one_that_answers_is_found),
		cmocka_unit_test(texts_that_postgresql_cannot_store_are_refused_at_once),
		cmocka_unit_test(a_full_queue_says_again_and_resumes),
		cmocka_unit_test(a_missing_table_fails_and_is_found_once_it_is_there),
		cmocka_unit_test(a_plan_that_became_invalid_is_prepared_again),
		cmocka_unit_test(an_array_of_a_changed_type_fails_once_and_then_works),
		cmocka_unit_test(a_constraint_checked_at_commit_fails_the_single_statement),
		cmocka_unit_test(a_slow_statement_is_ended_by_the_server_and_the_connection_stays),
		cmocka_unit_test(a_stopped_server_ends_statements_in_time_while_the_loop_ticks),
		cmocka_unit_test(a_terminated_server_process_answers_everybody_once_and_reads_again),
		cmocka_unit_test(a_connection_that_leads_to_a_standby_is_dropped_and_the_write_repeated),
		cmocka_unit_test(a_transaction_on_a_standby_fails_and_the_connection_is_dropped),
		cmocka_unit_test(a_read_must_not_write),
		cmocka_unit_test(closing_answers_everything_queued_and_sent_once),
		cmocka_unit_test(the_db_may_be_closed_from_any_callback),
		cmocka_unit_test(whatever_instant_the_connections_are_terminated_nobody_is_told_a_lie),
		cmocka_unit_test(whatever_instant_the_server_crashes_nobody_is_told_a_lie),
		cmocka_unit_test(the_primary_restarts_and_work_resumes),
	};

	return !!cmocka_run_group_tests_name("db_failures", tests, set_up, tear_down);
}

/* db_fixture.c - see db_fixture.h. */
#include "db_fixture.h"

#include <signal.h>

#include "metrics.h"
#include "wait.h"

static int n_called;

void db_got(void *arg, const struct db_result *res, const struct err *err)
{
	struct db_got *g = arg;
	struct str s;

	g->calls++;
	g->order = ++n_called;
	g->ok = err == NULL;
	if (err != NULL) {
		g->err = *err;
		return;
	}
	g->lsn = db_lsn(res);
	g->rows = db_rows(res);
	if (g->lsn != 0 || g->rows == 0 || !db_has_rows(res))
		return;
	s = db_str(res, 0, 0);
	snprintf(g->text, sizeof(g->text), STR_FMT, STR_ARG(s));
	if (str_int(s, INT64_MIN, INT64_MAX, &g->n) != 0)
		g->n = 0;
}

void fixture_open(struct db_fixture *f, struct db_conf conf, bool standby)
{
	f->s = (struct service){ .name = "test" };
	service_init(&f->s);
	if (conf.write_url.n == 0)
		conf.write_url = str_of(f->st.url);
	if (conf.read_url.n == 0 && standby)
		conf.read_url = str_of(f->st.read_url);
	f->db = db_open(&f->s, &conf);
}

void fixture_close(struct db_fixture *f)
{
	db_close(f->db);
	f->db = NULL;
	service_clear(&f->s);
}

struct waiting { const struct db_got *got; int n; };

static bool all_called(void *arg)
{
	const struct waiting *w = arg;

	for (int i = 0; i < w->n; i++)
		if (w->got[i].calls == 0)
			return false;
	return true;
}

void fixture_wait(struct db_fixture *f, const struct db_got *got, int n, int64_t max_ms)
{
	struct waiting w = { got, n };
	int left = 0;

	if (service_run(&f->s, all_called, &w, max_ms))
		return;
	for (int i = 0; i < n; i++)
		left += got[i].calls == 0;
	harness_fail("%d of %d callbacks did not come within %lld ms", left, n, (long long)max_ms);
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

void fixture_turns(struct db_fixture *f, int64_t ms)
{
	if (service_run(&f->s, never, NULL, ms))
		harness_fail("never is not true");
}

struct db_got fixture_ask(struct db_fixture *f, struct db_opts opts, const char *sql)
{
	struct db_got got = { 0 };

	if (db_send(f->db, opts, db_got, &got, sql, NULL, 0) != 0)
		harness_fail("not taken: %s", sql);
	fixture_wait(f, &got, 1, 20000);
	return got;
}

void fixture_until(struct db_fixture *f, const char *what, bool (*cond)(struct db_fixture *f, int64_t n),
		   int64_t n, int64_t max_ms)
{
	int64_t until = harness_now_ms() + max_ms;

	while (!cond(f, n)) {
		if (harness_now_ms() > until)
			harness_fail("not within %lld ms: %s", (long long)max_ms, what);
		fixture_turns(f, 5);
	}
}

struct sql *fixture_lock(struct db_fixture *f, const char *table)
{
	struct sql *q = sql_open(f->st.url);

	sql_run(q, "BEGIN");
	sql_run(q, "LOCK TABLE %s", table);
	return q;
}

static bool are_blocked(struct db_fixture *f, int64_t n)
{
	return sql_int(f->st.sql, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
		       " AND wait_event_type = 'Lock'") >= n;
}

void fixture_wait_blocked(struct db_fixture *f, int64_t n)
{
	fixture_until(f, "the statements wait for the lock", are_blocked, n, 3000);
}

void fixture_terminate(struct db_fixture *f)
{
	sql_run(f->st.sql, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
		" datname = current_database() AND application_name = 'test'");
}

void fixture_signal(struct db_fixture *f, int sig)
{
	char *rows = sql_rows(f->st.sql, "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
			      " AND application_name = 'test'");

	for (char *line = rows; *line != '\0'; line = strchr(line, '\n') + 1)
		if (kill((pid_t)strtol(line, NULL, 10), sig) != 0)
			harness_fail("kill %d: %s", sig, strerror(errno));
	free(rows);
}

static bool all_up(struct db_fixture *f, int64_t n)
{
	(void)f, (void)n;
	return fixture_metric("waddle_db_connections{state=\"write-down\"}") == 0 &&
	       fixture_metric("waddle_db_connections{state=\"read-down\"}") == 0;
}

void fixture_connected(struct db_fixture *f)
{
	struct db_got got;

	fixture_until(f, "all connections are up", all_up, 0, 20000);

	got = fixture_ask(f, (struct db_opts){ .to = DB_WRITE }, "SELECT 1");
	if (!got.ok)
		harness_fail("cannot write: %s", got.err.text);
	got = fixture_ask(f, (struct db_opts){ .to = DB_READ }, "SELECT 1");
	if (!got.ok)
		harness_fail("cannot read: %s", got.err.text);
}

double fixture_metric(const char *series)
{
	struct buf text = BUF(1024 * 1024);
	const char *at;
	struct str s;
	double v = -1;

	metric_text(db_metrics, &text);
	buf_add(&text, (struct str){ "", 1 });
	if (buf_str(&text, &s) == 0) {
		at = strstr(s.p, series);
		if (at != NULL && at[strlen(series)] == ' ')
			v = strtod(at + strlen(series), NULL);
	}
	buf_clear(&text);
	return v;
}

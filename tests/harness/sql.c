/* sql.c - see sql.h. */
#include "sql.h"
#include "wait.h"

#include <libpq-fe.h>
#include <poll.h>

struct sql { char *url; PGconn *conn; };

struct sql *sql_open(const char *url)
{
	struct sql *q = XNEW(struct sql);

	q->url = text_of("%s", url);
	return q;
}

static void drop_conn(struct sql *q)
{
	if (q->conn != NULL)
		PQfinish(q->conn);
	q->conn = NULL;
}

void sql_close(struct sql *q)
{
	if (q == NULL)
		return;
	drop_conn(q);
	free(q->url);
	free(q);
}

static void quiet(void *arg, const char *message)
{
	(void)arg;
	(void)message;
}

/* NULL when there is no connection; why then says so. */
static PGresult *exec(struct sql *q, const char *text, char **why)
{
	PGresult *res;
	ExecStatusType status;

	if (q->conn != NULL && PQstatus(q->conn) != CONNECTION_OK)
		drop_conn(q);
	if (q->conn == NULL) {
		q->conn = PQconnectdb(q->url);
		PQsetNoticeProcessor(q->conn, quiet, NULL);
	}
	if (PQstatus(q->conn) != CONNECTION_OK) {
		*why = text_of("%s", PQerrorMessage(q->conn));
		drop_conn(q);
		return NULL;
	}
	res = PQexec(q->conn, text);
	status = PQresultStatus(res);
	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
		*why = text_of("%s", PQerrorMessage(q->conn));
	return res;
}

static PGresult *must(struct sql *q, const char *fmt, va_list ap)
{
	char *text = NULL, *why = NULL;
	PGresult *res;

	if (vasprintf(&text, fmt, ap) < 0)
		harness_fail("out of memory");
	res = exec(q, text, &why);
	if (why != NULL) {
		PQclear(res);
		harness_fail("%s\n  in: %s", why, text);
	}
	free(text);
	return res;
}

void sql_run(struct sql *q, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	PQclear(must(q, fmt, ap));
	va_end(ap);
}

static bool has_value(const PGresult *res)
{
	return PQntuples(res) > 0 && PQnfields(res) > 0 && !PQgetisnull(res, 0, 0);
}

static int64_t first_int(const PGresult *res)
{
	return has_value(res) ? strtoll(PQgetvalue(res, 0, 0), NULL, 10) : 0;
}

int64_t sql_int(struct sql *q, const char *fmt, ...)
{
	PGresult *res;
	int64_t value;
	va_list ap;

	va_start(ap, fmt);
	res = must(q, fmt, ap);
	va_end(ap);
	value = first_int(res);
	PQclear(res);
	return value;
}

char *sql_text(struct sql *q, const char *fmt, ...)
{
	PGresult *res;
	char *value;
	va_list ap;

	va_start(ap, fmt);
	res = must(q, fmt, ap);
	va_end(ap);
	value = has_value(res) ? text_of("%s", PQgetvalue(res, 0, 0)) : NULL;
	PQclear(res);
	return value;
}

char *sql_rows(struct sql *q, const char *fmt, ...)
{
	char *all = NULL;
	PGresult *res;
	size_t n = 0;
	FILE *out;
	va_list ap;

	va_start(ap, fmt);
	res = must(q, fmt, ap);
	va_end(ap);
	out = open_memstream(&all, &n);
	if (out == NULL)
		harness_fail("out of memory");
	for (int row = 0; row < PQntuples(res); row++)
		for (int col = 0; col < PQnfields(res); col++)
			fprintf(out, "%s%c", PQgetvalue(res, row, col), col + 1 < PQnfields(res) ? '|' : '\n');
	fclose(out);
	PQclear(res);
	return all;
}

int sql_try(struct sql *q, char state[6], const char *fmt, ...)
{
	char *text = NULL, *why = NULL;
	const char *code;
	PGresult *res;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		harness_fail("out of memory");
	res = exec(q, text, &why);
	code = res == NULL ? "08001" : PQresultErrorField(res, PG_DIAG_SQLSTATE);
	snprintf(state, 6, "%s", why == NULL ? "00000" : code != NULL ? code : "08006");
	n = why == NULL ? 0 : -EIO;
	PQclear(res);
	free(why);
	free(text);
	return n;
}

/* Until value >= want (or == want); false when the time is up. */
static bool wait_value(struct sql *q, const char *text, int64_t want, bool exact, int64_t max_ms,
		       int64_t *seen, char **why)
{
	int64_t end = harness_now_ms() + max_ms;

	for (;;) {
		PGresult *res;
		bool ok;

		free(*why);
		*why = NULL;
		res = exec(q, text, why);
		ok = *why == NULL;
		if (ok)
			*seen = first_int(res);
		PQclear(res);
		if (ok && (exact ? *seen == want : *seen >= want))
			return true;
		if (harness_now_ms() >= end)
			return false;
		poll(NULL, 0, 20);
	}
}

static int64_t wait_or_fail(struct sql *q, int64_t want, bool exact, int64_t max_ms, const char *fmt, va_list ap)
{
	char *text = NULL, *why = NULL;
	int64_t seen = INT64_MIN;
	bool ok;

	if (vasprintf(&text, fmt, ap) < 0)
		harness_fail("out of memory");
	ok = wait_value(q, text, want, exact, max_ms, &seen, &why);
	if (!ok && seen == INT64_MIN)
		harness_fail("not within %lld ms: %s\n  no answer: %s", (long long)max_ms, text,
			     why == NULL ? "" : why);
	if (!ok)
		harness_fail("not within %lld ms: %s\n  wanted %s%lld, last seen %lld", (long long)max_ms, text,
			     exact ? "" : "at least ", (long long)want, (long long)seen);
	free(text);
	free(why);
	return seen;
}

void sql_wait_int(struct sql *q, int64_t want, int64_t max_ms, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	wait_or_fail(q, want, true, max_ms, fmt, ap);
	va_end(ap);
}

int64_t sql_wait_at_least(struct sql *q, int64_t want, int64_t max_ms, const char *fmt, ...)
{
	int64_t seen;
	va_list ap;

	va_start(ap, fmt);
	seen = wait_or_fail(q, want, false, max_ms, fmt, ap);
	va_end(ap);
	return seen;
}

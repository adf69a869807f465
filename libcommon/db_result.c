/* db_result.c - what the server said: values, errors, positions in the log. */
#include "db_private.h"

#include "arena.h"

static const char *cell(const struct db_result *res, int row, int col)
{
	ASSERT(row >= 0 && row < PQntuples(res->res) && col >= 0 && col < PQnfields(res->res));
	return PQgetvalue(res->res, row, col);
}

struct db_result *db_keep(const struct db_result *res)
{
	struct db_result *shown = (struct db_result *)(uintptr_t)res, *kept = XNEW(struct db_result);

	ASSERT(!shown->kept);
	*kept = *shown;
	shown->kept = true;
	return kept;
}

void db_release(struct db_result *kept)
{
	if (kept == NULL)
		return;
	PQclear(kept->res);
	free(kept);
}

struct db_result *db_made(int rows, int columns, const struct str *cells)
{
	struct db_result *made = XNEW(struct db_result);
	PGresAttDesc *names = XNEW_N(PGresAttDesc, (size_t)columns);
	char name[] = "", none[] = "";

	for (int i = 0; i < columns; i++)
		names[i].name = name;
	made->res = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	ASSERT(made->res != NULL && PQsetResultAttrs(made->res, columns, names) == 1);
	for (int i = 0; i < rows * columns; i++) {
		struct str s = cells[i];
		char *p = s.n > 0 ? (char *)(uintptr_t)s.p : none;      /* PQsetvalue() only reads */

		ASSERT(PQsetvalue(made->res, i / columns, i % columns, p, s.p != NULL ? (int)s.n : -1) == 1);
	}
	free(names);
	return made;
}

int db_columns(const struct db_result *res)
{
	return res->res != NULL ? PQnfields(res->res) : 0;
}

int db_rows(const struct db_result *res)
{
	int64_t n = 0;
	int r;

	if (res->res == NULL)
		return 0;
	if (PQnfields(res->res) > 0)
		return PQntuples(res->res);
	/* "" for what counts no rows */
	r = str_int(str_of(PQcmdTuples(res->res)), 0, INT_MAX, &n);
	return r == 0 ? (int)n : 0;
}

bool db_has_rows(const struct db_result *res)
{
	return res->res != NULL && PQnfields(res->res) > 0;
}

bool db_null(const struct db_result *res, int row, int col)
{
	cell(res, row, col);
	return PQgetisnull(res->res, row, col) != 0;
}

int64_t db_int(const struct db_result *res, int row, int col)
{
	struct str s = db_str(res, row, col);
	int64_t n = 0;

	if (s.p != NULL)
		ASSERT(str_int(s, INT64_MIN, INT64_MAX, &n) == 0);      /* the SQL is ours: not an integer */
	return n;
}

bool db_bool(const struct db_result *res, int row, int col)
{
	return cell(res, row, col)[0] == 't';
}

struct str db_str(const struct db_result *res, int row, int col)
{
	const char *p = cell(res, row, col);

	if (PQgetisnull(res->res, row, col))
		return STR_NONE;
	return (struct str){ p, (size_t)PQgetlength(res->res, row, col) };
}

/* bytea_output is hex in our sessions: "\\x0aff". */
struct str db_bytes(const struct db_result *res, int row, int col, struct arena *mem)
{
	struct str s = db_str(res, row, col);
	const char *p = s.p, *end = s.p + s.n;
	unsigned char *bytes;
	size_t n = 0;

	if (s.n < 2 || s.p[0] != '\\' || s.p[1] != 'x')
		return STR_NONE;
	bytes = arena_try(mem, s.n / 2, 1);
	if (bytes == NULL)
		return STR_NONE;
	for (p += 2; p + 1 < end; p += 2)
		bytes[n++] = (unsigned char)(nibble(p[0]) << 4 | nibble(p[1]));
	return (struct str){ (const char *)bytes, n };
}

static int digits(const char **p, int most)
{
	int n = 0;

	for (; most-- > 0 && **p >= '0' && **p <= '9'; (*p)++)
		n = n * 10 + (**p - '0');
	return n;
}

/* Days since 1970-01-01 in the proleptic Gregorian calendar: H. Hinnant, "chrono-compatible
 * low-level date algorithms". */
static int64_t days_of(int64_t year, int month, int day)
{
	int64_t y = year - (month <= 2), era = (y >= 0 ? y : y - 399) / 400, of_era = y - era * 400;
	int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* The session's zone is UTC and its style ISO: "2025-03-09 07:30:00.123+00", a date alone,
 * " BC" behind, "infinity". */
int64_t db_time(const struct db_result *res, int row, int col)
{
	const char *p = cell(res, row, col);
	int year, month, day, h, m, s, ms = 0, unit = 100;

	if (*p == '\0')
		return 0;
	if (*p == 'i')
		return INT64_MAX;
	if (*p == '-')
		return INT64_MIN;
	year = digits(&p, 6), p++;
	month = digits(&p, 2), p++;
	day = digits(&p, 2), p += *p == ' ';
	h = digits(&p, 2), p += *p == ':';
	m = digits(&p, 2), p += *p == ':';
	s = digits(&p, 2);
	if (*p == '.')
		for (p++; *p >= '0' && *p <= '9'; p++, unit /= 10)
			ms += (*p - '0') * unit;
	if (strstr(p, "BC") != NULL)
		year = 1 - year;
	return ((days_of(year, month, day) * 24 + h) * 60 + m) * 60000 + s * 1000 + ms;
}

uint64_t db_lsn(const struct db_result *res)
{
	return res->lsn;
}

/* The code is for those who look at code alone; err_kind() reads the SQLSTATE. */
static int code_of(const char *state)
{
	static const struct { char what[6]; int code; } table[] = {
		{ "57014", -ETIMEDOUT }, { "57P", -ECONNRESET }, { "08", -ECONNRESET }, { "40", -EAGAIN },
		{ "53", -EAGAIN }, { "55P03", -EAGAIN }, { "25006", -EAGAIN }, { "23505", -EEXIST },
		{ "22", -EINVAL }, { "23", -EINVAL }, { "42501", -EACCES }, { "P0002", -ENOENT },
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (strncmp(state, table[i].what, strlen(table[i].what)) == 0)
			return table[i].code;
	return -EIO;
}

/* libpq goes on with advice. */
static int first_line(const char *text)
{
	size_t n = strcspn(text, "\n");

	return n > 0 ? (int)n : INT_MAX;
}

/* Without DETAIL, which quotes the row. */
void err_of_result(struct err *err, const PGresult *res)
{
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);

	if (state == NULL)              /* libpq's own: the connection broke */
		err_set(err, -ECONNRESET, "%.*s", first_line(PQresultErrorMessage(res)), PQresultErrorMessage(res));
	else
		err_set(err, code_of(state), "%s", text != NULL ? text : "PostgreSQL refused");
	if (state != NULL && strlen(state) == 5)
		memcpy(err->sqlstate, state, 6);
}

void err_of_conn(struct err *err, PGconn *pg)
{
	const char *text = PQerrorMessage(pg);

	err_set(err, -ECONNRESET, "%.*s", first_line(text), text[0] != '\0' ? text : "connection closed");
}

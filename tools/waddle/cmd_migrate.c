/* cmd_migrate.c - waddle migrate: the files of schema/ in order, each once, each in a transaction.
 *
 * What was applied stands in schema_migrations with its SHA-256: a file that was changed or has
 * gone since is an error, because nobody could say what this database looks like.  One migration
 * at a time: a session advisory lock.  A new file must sort after all applied ones. */
#include "arena.h"
#include "cli.h"
#include "commands.h"
#include "pg.h"
#include "schema_files.h"
#include "settings.h"
#include "sql_split.h"

#include <time.h>

/* "waddle" in hexadecimal; any number would do that nobody else uses in this database. */
#define LOCK_KEY "8458104480870"

static const char create_table[] = "CREATE TABLE IF NOT EXISTS schema_migrations ("
				   " name text PRIMARY KEY,"
				   " sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),"
				   " applied_at timestamptz NOT NULL DEFAULT now(),"
				   " applied_by text NOT NULL DEFAULT current_user,"
				   " duration_ms integer NOT NULL)";

struct migration {
	PGconn *pg;
	struct schema_files files;
	struct arena *mem;
	bool dry_run;
	size_t applied, done; /* before, in this run */
};

static double seconds_since(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}

static int lock(PGconn *pg, struct err *err)
{
	PGresult *res = PG_QUERY(pg, err, "SELECT pg_try_advisory_lock(" LOCK_KEY ")");
	bool free = res != NULL && *PQgetvalue(res, 0, 0) == 't';

	if (res == NULL)
		return err->code;
	PQclear(res);
	if (free)
		return 0;
	fprintf(stderr, "another migration of this database is running, waiting for its end\n");
	return pg_run(pg, err, "SELECT pg_advisory_lock(" LOCK_KEY ")");
}

static int sha256_hex(PGconn *pg, const char *text, char out[65], struct err *err)
{
	PGresult *res = PG_QUERY(pg, err, "SELECT encode(sha256(convert_to($1, 'UTF8')), 'hex')", text);

	if (res == NULL)
		return err->code;
	snprintf(out, 65, "%s", PQgetvalue(res, 0, 0));
	PQclear(res);
	return 0;
}

/* Applied rows and files, both sorted by name, must begin alike. */
static int compare(struct migration *m, const PGresult *rows, struct err *err)
{
	size_t n = (size_t)PQntuples(rows);

	for (size_t i = 0; i < n; i++) {
		const char *name = PQgetvalue(rows, (int)i, 0), *want = PQgetvalue(rows, (int)i, 1);
		char have[65];
		int order = i < m->files.n ? strcmp(m->files.file[i].name, name) : 1;

		if (order > 0)
			return err_set(err, -ENOENT,
			               "%s was applied to this database, but the file is missing", name);
		if (order < 0)
			return err_set(err, -EINVAL,
			               "%s is new but sorts before %s, which is applied already; "
			               "give it a higher number",
			               m->files.file[i].name, name);
		if (sha256_hex(m->pg, m->files.file[i].text, have, err) < 0)
			return err->code;
		if (strcmp(have, want) != 0)
			return err_set(err, -EINVAL,
			               "%s was changed after it was applied; restore it and put the "
			               "change into a new file",
			               name);
	}
	m->applied = n;
	return 0;
}

static int check_applied(struct migration *m, struct err *err)
{
	PGresult *res = PG_QUERY(m->pg, err, "SELECT to_regclass('public.schema_migrations') IS NOT NULL");
	bool exists = res != NULL && *PQgetvalue(res, 0, 0) == 't';
	int r;

	if (res == NULL)
		return err->code;
	PQclear(res);
	if (!exists)
		return 0;
	res = PG_QUERY(m->pg, err, "SELECT name, sha256 FROM schema_migrations ORDER BY name COLLATE \"C\"");
	if (res == NULL)
		return err->code;
	r = compare(m, res, err);
	PQclear(res);
	return r;
}

/* Line of the n-th character (from 1) of a statement that starts on `line`. */
static int line_of(struct str sql, int line, const char *position)
{
	int64_t at = 0;

	if (position == NULL || str_int(str_of(position), 1, INT32_MAX, &at) < 0)
		return line;
	for (size_t i = 0; i < sql.n && at > 1; i++) {
		line += sql.p[i] == '\n';
		at -= ((unsigned char)sql.p[i] & 0xc0) != 0x80;
	}
	return line;
}

static int run_statement(struct migration *m, const char *file, struct str sql, int line, struct err *err)
{
	char *text = arena_alloc(m->mem, sql.n + 1);
	PGresult *res;
	ExecStatusType status;
	int r = 0;

	memcpy(text, sql.p, sql.n);
	res = PQexec(m->pg, text);
	status = PQresultStatus(res);
	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
		line = line_of(sql, line, PQresultErrorField(res, PG_DIAG_STATEMENT_POSITION));
		r = pg_err(m->pg, res, err);
		err_wrap(err, "%s:%d", file, line);
	} else if (PQtransactionStatus(m->pg) != PQTRANS_INTRANS) {
		r = err_set(err, -EINVAL, "%s:%d: a file may not end its transaction", file, line);
	}
	PQclear(res);
	return r;
}

static int run_file(struct migration *m, const struct schema_file *f, struct err *err)
{
	struct sql_text t = { str_of(f->text), 1 };
	struct str sql;
	int line, r = pg_run(m->pg, err, "BEGIN");

	while (r == 0 && sql_next(&t, &sql, &line)) {
		size_t mark = arena_mark(m->mem);

		r = run_statement(m, f->name, sql, line, err);
		arena_back(m->mem, mark);
	}
	return r;
}

static int apply(struct migration *m, const struct schema_file *f, struct err *err)
{
	struct timespec start;
	char sha256[65], ms[24];
	PGresult *res = NULL;
	int r;

	clock_gettime(CLOCK_MONOTONIC, &start);
	cli_progress("%zu/%zu %s", m->applied + m->done + 1, m->files.n, f->name);
	r = sha256_hex(m->pg, f->text, sha256, err);
	if (r == 0)
		r = run_file(m, f, err);
	if (r == 0)
		r = pg_run(m->pg, err, "RESET ROLE");
	if (r == 0) {
		snprintf(ms, sizeof(ms), "%.0f", seconds_since(&start) * 1000);
		res = PG_QUERY(
			m->pg, err,
			"INSERT INTO schema_migrations (name, sha256, duration_ms) VALUES ($1, $2, $3)",
			f->name, sha256, ms);
		r = res == NULL ? err->code : 0;
		PQclear(res);
	}
	if (r == 0)
		r = pg_run(m->pg, err, "COMMIT");
	cli_progress_end();
	if (r < 0) {
		struct err ignored;

		if (pg_run(m->pg, &ignored, "ROLLBACK") < 0 && PQstatus(m->pg) == CONNECTION_OK)
			err_wrap(err, "roll-back failed too");
		return r;
	}
	m->done++;
	printf("%s  %.2f s\n", f->name, seconds_since(&start));
	return 0;
}

/* Partitions made ahead, here as in every service. */
static int ensure_partitions(struct migration *m, long *made, struct err *err)
{
	PGresult *res =
		PG_QUERY(m->pg, err, "SELECT to_regproc('public.waddle_partitions_ensure') IS NOT NULL");
	bool exists = res != NULL && *PQgetvalue(res, 0, 0) == 't';
	int64_t n = 0;

	if (res == NULL)
		return err->code;
	PQclear(res);
	*made = 0;
	if (!exists)
		return 0;
	cli_progress("making partitions");
	res = PG_QUERY(m->pg, err, "SELECT public.waddle_partitions_ensure()");
	cli_progress_end();
	if (res == NULL)
		return err_wrap(err, "partitions");
	if (str_int(str_of(PQgetvalue(res, 0, 0)), 0, INT32_MAX, &n) == 0)
		*made = (long)n;
	PQclear(res);
	return 0;
}

static int migrate(struct migration *m, struct err *err)
{
	struct timespec start;
	long made = 0;
	int r;

	clock_gettime(CLOCK_MONOTONIC, &start);
	/* A dry run looks without waiting and writes nothing, not even the table. */
	r = m->dry_run ? 0 : lock(m->pg, err);
	if (r == 0)
		r = check_applied(m, err);
	if (r < 0)
		return r;
	if (m->dry_run) {
		for (size_t i = m->applied; i < m->files.n; i++)
			printf("would apply %s\n", m->files.file[i].name);
		printf("%zu of %zu files to apply, nothing changed\n", m->files.n - m->applied, m->files.n);
		return 0;
	}
	r = pg_run(m->pg, err, create_table);
	for (size_t i = m->applied; r == 0 && i < m->files.n; i++)
		r = apply(m, &m->files.file[i], err);
	if (r == 0)
		r = ensure_partitions(m, &made, err);
	if (r == 0 && m->done == 0 && made == 0)
		printf("up to date: %zu files\n", m->files.n);
	else if (r == 0)
		printf("%zu files applied, %ld partitions made in %.2f s\n", m->done, made,
		       seconds_since(&start));
	return r;
}

int cmd_migrate(int argc, char **argv)
{
	const char *dir = NULL;
	struct migration m = { 0 };
	struct err err = { 0 };
	int status;
	const struct opt opts[] = {
		{ .name = "dry-run",
		  .type = OPT_FLAG,
		  .to = &m.dry_run,
		  .help = "say what would be applied, change nothing" },
		{ .name = "dir",
		  .type = OPT_TEXT,
		  .to = &dir,
		  .value = "folder",
		  .help = "take the files from here, not those built in (WADDLE_SCHEMA_DIR)" },
		{ 0 },
	};

	if (cli_options(
		    opts, "[--dry-run] [--dir <folder>]",
		    "Brings the database at DATABASE_URL to this version's schema: files that were not\n"
		    "applied yet, in order, each in its own transaction.  Needs the rights to create roles.",
		    argc, argv, 0, 0, &status) < 0)
		return status;
	if (dir == NULL && settings_schema_dir(&dir, &err) < 0)
		return cli_fail(&err);
	m.mem = arena_new(256 * 1024, 64 * 1024 * 1024);
	if (schema_files_load(dir, m.mem, &m.files, &err) == 0 && pg_open(&m.pg, &err) == 0)
		(void)migrate(&m, &err);
	if (m.pg != NULL)
		pg_close(&m.pg);
	arena_free(m.mem);
	return err.code == 0 ? CLI_OK : cli_fail(&err);
}

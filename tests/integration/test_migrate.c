/* test_migrate.c - waddle migrate: each file once, in order, or a clear no. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "stack.h"

#include <sys/stat.h>
#include <unistd.h>

struct fixture {
	struct stack st;
	char *dir;
	char *out; /* of the last run */
};

static int set_up(void **state)
{
	struct fixture *f = XNEW(struct fixture);

	stack_open(&f->st, "migrate", STACK_DATABASE);
	f->dir = text_of("%s/migrate-XXXXXX", f->st.build);
	assert_non_null(mkdtemp(f->dir));
	*state = f;
	return 0;
}

static char *path_of(const struct fixture *f, const char *name)
{
	return text_of("%s/%s", f->dir, name);
}

static void put(const struct fixture *f, const char *name, const char *text)
{
	char *path = path_of(f, name);
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
	free(path);
}

static void take_away(const struct fixture *f, const char *name)
{
	char *path = path_of(f, name);

	assert_int_equal(unlink(path), 0);
	free(path);
}

static int tear_down(void **state)
{
	static const char *const names[] = { "0001_a_one.sql",  "0002_a_two.sql",   "0003_a_three.sql",
		                             "0004_a_four.sql", "0002_b_again.sql", "notes.sql",
		                             "0003_a_bin.sql" };
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char *path = path_of(f, names[i]);

		(void)!unlink(path);
		free(path);
	}
	assert_int_equal(rmdir(f->dir), 0);
	free(f->dir);
	stack_close(&f->st);
	free(f->out);
	free(f);
	return 0;
}

static int migrate(struct fixture *f, const char *option)
{
	const char *words[] = { "migrate", "--dir", f->dir, option, NULL };

	free(f->out);
	f->out = NULL;
	return stack_waddle(&f->st, &f->out, words);
}

static void says(const struct fixture *f, const char *text)
{
	if (strstr(f->out, text) == NULL)
		print_error("not said: \"%s\" in:\n%s\n", text, f->out);
	assert_non_null(strstr(f->out, text));
}

static int64_t applied(struct fixture *f)
{
	return sql_int(f->st.sql, "SELECT count(*) FROM schema_migrations");
}

static void two_files(const struct fixture *f)
{
	put(f, "0001_a_one.sql", "CREATE TABLE one (a integer);\n");
	put(f, "0002_a_two.sql",
	    "-- two statements\nCREATE TABLE two (a integer);\nINSERT INTO two VALUES (1), (2);\n");
}

static void twice_is_no_change(void **state)
{
	struct fixture *f = *state;
	char *before, *after;

	two_files(f);
	assert_int_equal(migrate(f, NULL), 0);
	says(f, "2 files applied");
	before = sql_rows(f->st.sql, "SELECT * FROM schema_migrations ORDER BY name");
	assert_int_equal(migrate(f, NULL), 0);
	says(f, "up to date: 2 files");
	after = sql_rows(f->st.sql, "SELECT * FROM schema_migrations ORDER BY name");
	assert_string_equal(before, after);
	assert_int_equal(sql_int(f->st.sql, "SELECT count(*) FROM two"), 2);
	free(before);
	free(after);

	put(f, "0003_a_three.sql", "CREATE TABLE three (a integer)");
	assert_int_equal(migrate(f, NULL), 0);
	says(f, "1 files applied");
	assert_int_equal(applied(f), 3);
	assert_int_equal(sql_int(f->st.sql,
	                         "SELECT count(*) FROM schema_migrations WHERE duration_ms >= 0 AND "
	                         "length(sha256) = 64 AND applied_by <> '' AND applied_at <= now()"),
	                 3);
}

static void a_dry_run_changes_nothing(void **state)
{
	struct fixture *f = *state;

	two_files(f);
	assert_int_equal(migrate(f, "--dry-run"), 0);
	says(f, "would apply 0001_a_one.sql\nwould apply 0002_a_two.sql\n");
	says(f, "2 of 2 files");
	assert_int_equal(sql_int(f->st.sql,
	                         "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"),
	                 0);
	assert_int_equal(migrate(f, NULL), 0);
	put(f, "0003_a_three.sql", "CREATE TABLE three (a integer)");
	assert_int_equal(migrate(f, "--dry-run"), 0);
	says(f, "would apply 0003_a_three.sql");
	says(f, "1 of 3 files");
	assert_int_equal(applied(f), 2);
}

static void a_changed_file_is_named_and_nothing_is_applied(void **state)
{
	struct fixture *f = *state;

	two_files(f);
	assert_int_equal(migrate(f, NULL), 0);
	put(f, "0001_a_one.sql", "CREATE TABLE one (a integer); \n");
	put(f, "0003_a_three.sql", "CREATE TABLE three (a integer)");
	assert_int_equal(migrate(f, NULL), 1);
	says(f, "0001_a_one.sql was changed after it was applied");
	assert_int_equal(migrate(f, "--dry-run"), 1);
	assert_int_equal(applied(f), 2);
	assert_int_equal(sql_int(f->st.sql, "SELECT count(*) FROM pg_class WHERE relname = 'three'"), 0);
}

static void a_missing_file_is_named(void **state)
{
	struct fixture *f = *state;

	two_files(f);
	assert_int_equal(migrate(f, NULL), 0);
	take_away(f, "0002_a_two.sql");
	assert_int_equal(migrate(f, NULL), 1);
	says(f, "0002_a_two.sql was applied to this database, but the file is missing");
	two_files(f);
	take_away(f, "0001_a_one.sql");
	assert_int_equal(migrate(f, NULL), 1);
	says(f, "0001_a_one.sql was applied");
}

static void a_new_file_among_old_ones_is_refused(void **state)
{
	struct fixture *f = *state;

	two_files(f);
	take_away(f, "0002_a_two.sql");
	put(f, "0003_a_three.sql", "CREATE TABLE three (a integer)");
	assert_int_equal(migrate(f, NULL), 0);
	put(f, "0002_a_two.sql", "CREATE TABLE two (a integer)");
	assert_int_equal(migrate(f, NULL), 1);
	says(f, "0002_a_two.sql is new but sorts before 0003_a_three.sql");
	assert_int_equal(applied(f), 2);
}

static void a_failing_file_is_rolled_back_whole_and_the_line_named(void **state)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{ "CREATE TABLE t (a integer);\n\n-- ä\nINSERT INTO t\nVALUES ('x');\n",
		  "0003_a_three.sql:5: " },
		{ "CREATE TABLE t (a integer);\nINSERT INTO t VALUES (1);\n\nSELECT a / 0\nFROM t;\n",
		  "0003_a_three.sql:4: division" },
		{ "CREATE TABLE t (a integer);\nDO $$\nBEGIN\n\tRAISE EXCEPTION 'no; not so';\nEND $$;\n",
		  "0003_a_three.sql:2: no; not so" },
		{ "CREATE TABLE t (a integer);\n/* ; /* ; */ ; */\n\nSELEC 1;\n",
		  "0003_a_three.sql:4: syntax error" },
		{ "CREATE TABLE t (\n\ta integer,\n\tb text DEFAULT E'it\\'s;'\n);\nSELECT ';', \"nope;\" "
		  "FROM t;\n",
		  "0003_a_three.sql:5: column \"nope;\" does not exist" },
		{ "CREATE TABLE t (a integer);\nCREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $body$ "
		  "BEGIN PERFORM $x$;$x$; "
		  "END $body$;\nSELECT nope();\n",
		  "0003_a_three.sql:3: function nope() does not exist" },
		{ "CREATE TABLE t (a integer);\nCOMMIT;\n",
		  "0003_a_three.sql:2: a file may not end its transaction" },
		{ "CREATE TABLE t (a integer);\nSELECT 'open",
		  "0003_a_three.sql:2: unterminated quoted string" },
	};
	struct fixture *f = *state;

	two_files(f);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		put(f, "0003_a_three.sql", cases[i].text);
		assert_int_equal(migrate(f, NULL), 1);
		says(f, cases[i].want);
		assert_int_equal(applied(f), 2);
		if (strstr(cases[i].text, "COMMIT") == NULL)
			assert_int_equal(
				sql_int(f->st.sql, "SELECT count(*) FROM pg_class WHERE relname = 't'"), 0);
		else
			sql_run(f->st.sql, "DROP TABLE t");
	}
	/* Repaired, it goes on where it stopped. */
	put(f, "0003_a_three.sql", "CREATE TABLE t (a integer);\n");
	put(f, "0004_a_four.sql", "INSERT INTO t VALUES (4);\n");
	assert_int_equal(migrate(f, NULL), 0);
	assert_int_equal(sql_int(f->st.sql, "SELECT sum(a) FROM t"), 4);
	assert_int_equal(applied(f), 4);
}

static void files_with_strange_names_or_bytes_are_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(migrate(f, NULL), 1);
	says(f, "no schema files");
	two_files(f);
	put(f, "notes.sql", "SELECT 1");
	assert_int_equal(migrate(f, NULL), 1);
	says(f, "notes.sql: the name must be");
	take_away(f, "notes.sql");
	put(f, "0002_b_again.sql", "SELECT 1");
	assert_int_equal(migrate(f, NULL), 1);
	says(f, "0002_a_two.sql and 0002_b_again.sql have the same number");
	take_away(f, "0002_b_again.sql");
	put(f, "0003_a_bin.sql", "SELECT '\xff'");
	assert_int_equal(migrate(f, NULL), 1);
	says(f, "0003_a_bin.sql is not UTF-8");
	assert_int_equal(sql_int(f->st.sql, "SELECT count(*) FROM pg_class WHERE relname = 'one'"), 0);
}

/* A child of its own, so that two can run at once. */
static struct child *begin(struct fixture *f, const char *name, const char *const *words)
{
	char *url = text_of("DATABASE_URL=%s", f->st.url);
	const char *argv[] = { "waddle", "migrate", words[0], words[0] != NULL ? words[1] : NULL, NULL };
	const char *env[] = { url, NULL };
	struct child *c = child_new(name, argv, env);

	child_start(c);
	free(url);
	return c;
}

static void of_two_at_once_one_applies_and_the_other_waits(void **state)
{
	struct fixture *f = *state;
	const char *dir[] = { "--dir", f->dir, NULL };
	struct child *a, *b;
	bool a_did, b_did;

	put(f, "0001_a_one.sql", "CREATE TABLE one (a integer);\nSELECT pg_sleep(1);\n");
	put(f, "0002_a_two.sql", "CREATE TABLE two AS SELECT count(*) FROM one;\n");
	a = begin(f, "migrate-a", dir);
	b = begin(f, "migrate-b", dir);
	assert_int_equal(child_wait(a, 60000), 0);
	assert_int_equal(child_wait(b, 60000), 0);
	a_did = child_log_has(a, "2 files applied");
	b_did = child_log_has(b, "2 files applied");
	assert_true(a_did != b_did);
	assert_true(child_log_has(a_did ? b : a, "up to date: 2 files"));
	assert_true(child_log_has(a_did ? b : a, "another migration of this database is running"));
	assert_int_equal(applied(f), 2);
	child_free(a);
	child_free(b);
}

static void one_that_is_killed_leaves_no_half_file_and_no_lock(void **state)
{
	struct fixture *f = *state;
	const char *dir[] = { "--dir", f->dir, NULL };
	struct child *c;

	put(f, "0001_a_one.sql", "CREATE TABLE one (a integer);\n");
	put(f, "0002_a_two.sql", "CREATE TABLE two (a integer);\nSELECT pg_sleep(600);\n");
	c = begin(f, "migrate-killed", dir);
	sql_wait_int(f->st.sql, 1, 30000,
	             "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%%' "
	             "AND datname = current_database()");
	child_kill(c);
	child_free(c);
	/* Its session ends when the server next looks at the connection; nothing is waited for. */
	sql_run(f->st.sql,
	        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%%' "
	        "AND datname = current_database()");
	put(f, "0002_a_two.sql", "CREATE TABLE two (a integer);\n");
	assert_int_equal(migrate(f, NULL), 0);
	assert_int_equal(applied(f), 2);
}

static void databases_of_one_cluster_are_migrated_at_the_same_time(void **state)
{
	enum { DATABASES = 3 };
	struct fixture *f = *state;
	struct sql *admin = sql_open(env_of("TEST_PG_PRIMARY"));
	struct child *c[DATABASES];
	char *base = f->st.url;

	/* The real files: roles are the cluster's, and all of them want to make them. */
	for (int i = 0; i < DATABASES; i++) {
		char *name = text_of("migrate-cluster-%d", i);

		sql_run(admin, "DROP DATABASE IF EXISTS test_migrate_%d", i);
		sql_run(admin, "CREATE DATABASE test_migrate_%d", i);
		f->st.url = text_of("%s_%d", base, i);
		c[i] = begin(f, name, (const char *const[]){ NULL });
		free(f->st.url);
		free(name);
	}
	f->st.url = base;
	for (int i = 0; i < DATABASES; i++) {
		int status = child_wait(c[i], 120000);

		if (status != 0)
			child_show_log(c[i]);
		assert_int_equal(status, 0);
		assert_true(child_log_has(c[i], "partitions made"));
		child_free(c[i]);
		sql_run(admin, "DROP DATABASE test_migrate_%d WITH (FORCE)", i);
	}
	sql_close(admin);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(twice_is_no_change, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_dry_run_changes_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_changed_file_is_named_and_nothing_is_applied, set_up,
		                                tear_down),
		cmocka_unit_test_setup_teardown(a_missing_file_is_named, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_new_file_among_old_ones_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_failing_file_is_rolled_back_whole_and_the_line_named,
		                                set_up, tear_down),
		cmocka_unit_test_setup_teardown(files_with_strange_names_or_bytes_are_refused, set_up,
		                                tear_down),
		cmocka_unit_test_setup_teardown(of_two_at_once_one_applies_and_the_other_waits, set_up,
		                                tear_down),
		cmocka_unit_test_setup_teardown(one_that_is_killed_leaves_no_half_file_and_no_lock, set_up,
		                                tear_down),
		cmocka_unit_test_setup_teardown(databases_of_one_cluster_are_migrated_at_the_same_time,
		                                set_up, tear_down),
	};

	return !!cmocka_run_group_tests_name("migrate", tests, NULL, NULL);
}

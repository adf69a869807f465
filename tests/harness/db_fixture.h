/* db_fixture.h - a loop, a db on it, and what its callbacks said, for tests of db and batch. */
#ifndef DB_FIXTURE_H
#define DB_FIXTURE_H

#include "db.h"
#include "err.h"
#include "service.h"
#include "stack.h"

struct db_fixture {
	struct stack   st;
	struct service s;
	struct db     *db;
};

/* What one callback said; zero it, or use one of a zeroed array, for each statement. */
struct db_got {
	int        calls, rows, order;          /* order: the how manieth callback of all */
	bool       ok;
	struct err err;
	uint64_t   lsn;
	int64_t    n;                           /* first value, if it is a number */
	char       text[64];                    /* first value */
};

/* conf's URLs are filled in when empty (read_url stays empty with standby false). */
void fixture_open(struct db_fixture *f, struct db_conf conf, bool standby);
void fixture_close(struct db_fixture *f);
void fixture_connected(struct db_fixture *f);  /* waits until every connection is up */

void db_got(void *arg, const struct db_result *res, const struct err *err);     /* a db_done; arg: struct db_got */
/* Runs the loop until each of the n was called; a failure after max_ms. */
void fixture_wait(struct db_fixture *f, const struct db_got *got, int n, int64_t max_ms);
void fixture_turns(struct db_fixture *f, int64_t ms);   /* runs the loop for so long */

/* One statement from start to end; its answer, good or bad. */
struct db_got fixture_ask(struct db_fixture *f, struct db_opts opts, const char *sql);

/* Runs the loop, looking every few ms; a failure after max_ms. */
void fixture_until(struct db_fixture *f, const char *what, bool (*cond)(struct db_fixture *f, int64_t n),
		   int64_t n, int64_t max_ms);
struct sql *fixture_lock(struct db_fixture *f, const char *table);      /* until sql_close() */
void fixture_wait_blocked(struct db_fixture *f, int64_t n);     /* n of our statements wait for a lock */
void fixture_terminate(struct db_fixture *f);           /* pg_terminate_backend() of all of ours */
void fixture_signal(struct db_fixture *f, int sig);     /* to each of our server processes */

double fixture_metric(const char *series);              /* "waddle_db_..{result=\"fresh\"}" */

#endif

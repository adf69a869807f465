/* sql.h - what the database says, for tests: blocking, one connection per handle.
 *
 * Every statement is printf text ("%%" for a per cent sign).  A statement that fails ends the
 * test, except in the waiting functions: those go on until their time is up, over restarts of
 * the server too. */
#ifndef SQL_H
#define SQL_H

#include "common.h"

struct sql;

struct sql *sql_open(const char *url) RETURNS_NONNULL;  /* connects at the first statement */
void sql_close(struct sql *q);                          /* NULL is fine */

void    sql_run(struct sql *q, const char *fmt, ...) PRINTF(2, 3);
int64_t sql_int(struct sql *q, const char *fmt, ...) PRINTF(2, 3);      /* first value; NULL: 0 */
char   *sql_text(struct sql *q, const char *fmt, ...) PRINTF(2, 3);     /* free(); NULL: no row or NULL */
/* All rows as text, columns joined by '|', each row ended by '\n'; free(). */
char   *sql_rows(struct sql *q, const char *fmt, ...) PRINTF(2, 3) RETURNS_NONNULL;

/* 0, or the statement's five-character SQLSTATE in state: for tests of refusals. */
int sql_try(struct sql *q, char state[6], const char *fmt, ...) PRINTF(3, 4) MUST_CHECK;

/* Repeats the statement until its first value is `want`; a failure when max_ms have passed. */
void sql_wait_int(struct sql *q, int64_t want, int64_t max_ms, const char *fmt, ...) PRINTF(4, 5);
/* The same for "at least"; returns the value seen. */
int64_t sql_wait_at_least(struct sql *q, int64_t want, int64_t max_ms, const char *fmt, ...) PRINTF(4, 5);

#endif

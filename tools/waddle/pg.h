/* pg.h - PostgreSQL for a command line tool: blocking, one connection, parameters as text. */
#ifndef PG_H
#define PG_H

#include "common.h"
#include "err.h"

#include <libpq-fe.h>

/* DATABASE_URL.  Not set, not reachable, refused: one line in err; no PG* variable is read. */
int pg_open(PGconn **ret, struct err *err) MUST_CHECK;
void pg_close(PGconn **pg) NONNULL;

/* Rows or NULL with err (sqlstate included).  The result is the caller's: PQclear(). */
PGresult *pg_query(PGconn *pg, struct err *err, const char *sql, int n, const char *const *params) MUST_CHECK;
#define PG_QUERY(pg, err, sql, ...)                                                                          \
	pg_query((pg), (err), "" sql,                                                                        \
		 (int)(sizeof((const char *[]){ NULL, __VA_ARGS__ }) / sizeof(char *)) - 1,                  \
		 (const char *[]){ NULL, __VA_ARGS__ } + 1)

/* The same without rows; several statements are possible when n is 0. */
int pg_run(PGconn *pg, struct err *err, const char *sql) MUST_CHECK;

/* Fills err from a failed result or connection; returns err->code. */
int pg_err(PGconn *pg, const PGresult *res, struct err *err);

#endif

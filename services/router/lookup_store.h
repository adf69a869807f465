/* lookup_store.h - the second level of the look-up caches: rows in Redis, between memory and database.
 *
 * Never the only holder of anything, and never waited for: without Redis everything is a miss.  What
 * it gives must be as good as a read of the database, so each entry carries
 *
 *      epoch   of its kind, a random number in Redis.  A replica that may have missed a notice, or
 *              could not delete what a notice named, writes a new one: all entries before are void.
 *      stamp   a position of the primary that the read had seen.  Who has had a notice takes nothing
 *              with a stamp from before it, so that a slow replica's late write deceives nobody.
 *      born    when it was read: its age counts against the time to live in memory.
 *
 * The name of an entry holds the database's identity and a digest of the statement: another
 * database, or a release that asks for other columns, never meets it. */
#ifndef LOOKUP_STORE_H
#define LOOKUP_STORE_H

#include "db.h"
#include "err.h"

enum { STORE_KINDS_MAX = 16 };

struct lookup_store;
struct store_kind { const char *name, *sql; int64_t ttl_ms, ttl_none_ms; };

/* url: REDIS_URL.  kinds are copied. */
struct lookup_store *store_open(struct service *s, struct str url, int timeout_ms, const struct store_kind *kinds,
                                size_t n, struct err *err) MUST_CHECK;
void store_close(struct lookup_store *st);      /* answers of store_get() come inside; NULL is fine */

/* Notices arrive, and the database is this one ("<system>:<database>"), at or past this position; 0
 * or STR_NONE: not known. */
void store_position(struct lookup_store *st, struct str database, uint64_t lsn);
/* A notice: key of the kind, or all of it (STR_NONE).  Until the next store_position() nothing is
 * taken in its place. */
void store_drop(struct lookup_store *st, unsigned kind, struct str key);

struct stored {                         /* rows are the caller's to db_release() */
	bool found;
	struct db_result *rows;         /* NULL: there is none */
	int64_t age_ms;
};
/* at: one per key, in their order.  epoch: for store_put() of what was not found; 0: do not. */
typedef void store_got(void *arg, const struct stored *at, uint64_t epoch);

/* False: not now, ask the database.  At most 512 keys, valid until got(), which comes exactly once and
 * never from inside. */
bool store_get(struct lookup_store *st, unsigned kind, const struct str *keys, size_t n, store_got *got, void *arg);
/* Rows [row, row + n) of res, read at or after position stamp; n 0: there is none. */
void store_put(struct lookup_store *st, unsigned kind, struct str key, const struct db_result *res, int row, int n,
               uint64_t epoch, uint64_t stamp);

#endif

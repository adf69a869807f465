/* db.h - PostgreSQL on the loop: a write and a read pool, pipelined, prepared, never blocking.
 *
 * A single statement is its own transaction (one Sync), so that an error touches nobody else;
 * what must succeed together is a db_tx.  Statements are prepared on first use per connection,
 * keyed by the address of the SQL literal.  A statement has a deadline on the server
 * (statement_timeout) and, a quarter of a second later, here; past it the connection is closed,
 * since libpq 15 cannot cancel without blocking.  Queued statements move to another connection.
 * Of those already sent when a connection breaks, reads are asked again within their time and
 * writes fail with kind ERR_UNKNOWN.
 *
 * service_ready(s, "postgres-write" / "postgres-read", ..) follows the pools; reads fall back on
 * the primary, so "postgres-read" is up as long as either pool is.
 *
 * Host names are resolved without blocking; of several hosts one is tried after the other in a
 * shuffled order.  Without sslmode in the URL TLS is off on this machine and verify-full to any
 * other.  Times come back in UTC.  The PG* environment is ignored. */
#ifndef DB_H
#define DB_H

#include "list.h"
#include "str.h"

/* DB_READ: a standby if it is fresh enough, else at once the primary.  Such a statement must not
 * write (the connection is read-only) and may be sent several times. */
enum db_to { DB_READ, DB_WRITE };

enum db_type { DBP_NULL, DBP_INT, DBP_STR, DBP_BOOL, DBP_TIME, DBP_BYTES, DBP_ARRAY };
struct db_param {
	enum db_type type;
	union {
		int64_t i;                      /* DBP_INT; DBP_TIME: unix ms -> timestamptz */
		struct str s;                   /* DBP_STR: UTF-8 without NUL; DBP_BYTES: bytea */
		bool b;
		const struct db_param *array;   /* DBP_ARRAY: n elements, none of them an array */
	};
	size_t n;
};
#define DB_NULL     ((struct db_param){ .type = DBP_NULL })
#define DB_INT(v)   ((struct db_param){ .type = DBP_INT,  .i = (v) })
#define DB_STR(v)   ((struct db_param){ .type = DBP_STR,  .s = (v) })
#define DB_BOOL(v)  ((struct db_param){ .type = DBP_BOOL, .b = (v) })
#define DB_TIME(ms) ((struct db_param){ .type = DBP_TIME, .i = (ms) })
#define DB_BYTES(v) ((struct db_param){ .type = DBP_BYTES, .s = (v) })
#define DB_ARRAY(p, count) ((struct db_param){ .type = DBP_ARRAY, .array = (p), .n = (count) })

/* STR_NONE is NULL; an empty text is a text. */
static inline struct db_param db_opt(struct str s) { return s.p == NULL ? DB_NULL : DB_STR(s); }

struct db_conf {
	struct str write_url, read_url; /* read_url empty: reads go to write_url */
	int write_conns, read_conns;    /* 0: 4 each */
	int timeout_ms;                 /* default of a statement or transaction; 0: 5000 */
	int max_queued;                 /* statements waiting per pool; 0: 4096 */
};

struct db_opts {
	enum db_to to;
	uint64_t   after_lsn;           /* DB_READ: the standby must have replayed this; 0: any state */
	int        timeout_ms;          /* 0: the pool's */
};
struct db_result;                       /* valid only during the callback */

/* err is NULL on success.  Exactly once, never from inside the call that queued it.  A NULL
 * callback is fine everywhere: nobody waits. */
typedef void db_done(void *arg, const struct db_result *res, const struct err *err);

/* Connects in the background, reconnects for ever with jittered backoff.  A URL that cannot be
 * read ends the process (service_fatal). */
struct db *db_open(struct service *s, const struct db_conf *conf) RETURNS_NONNULL;
/* Whatever is queued or sent completes with an error first (callbacks run inside this call);
 * transactions are ended, their handles gone. */
void db_close(struct db *db);           /* NULL is fine */
bool db_closing(const struct db *db);   /* true in those callbacks: sending again is of no use */

/* For a health report: reads go somewhere else anyway.  NONE: reads have no hosts of their own. */
enum db_standby { DB_STANDBY_NONE, DB_STANDBY_UP, DB_STANDBY_DOWN };
enum db_standby db_standby(const struct db *db) NONNULL;

/* fn(arg) inside db_close(), after all callbacks: for whoever keeps a db without owning it. */
struct db_watch { struct list node; void (*fn)(void *arg); void *arg; };
void db_watch(struct db *db, struct db_watch *w, void (*fn)(void *arg), void *arg);
void db_unwatch(struct db_watch *w);

/* Parameters are copied.  -EAGAIN: the queue is full, stop consuming.  -EINVAL: a text is not
 * UTF-8 or holds NUL, a time is not within 1970 .. 9999.  sql is a literal: its address is the key
 * of the prepared statement, at most 1024 of them in a process.  "" sql takes literals only, so no
 * text from outside can become SQL; DB_NULL in front allows an empty list. */
#define DB_PARAMS(...) (struct db_param[]){ DB_NULL, __VA_ARGS__ } + 1, \
	sizeof((struct db_param[]){ DB_NULL, __VA_ARGS__ }) / sizeof(struct db_param) - 1
#define db_query(db, opts, done, arg, sql, ...) \
	db_send(db, opts, done, arg, "" sql, DB_PARAMS(__VA_ARGS__))
int db_send(struct db *db, struct db_opts opts, db_done *done, void *arg,
            const char *sql, const struct db_param *params, size_t n) MUST_CHECK;

bool db_param_ok(const struct db_param *p);     /* false: db_send() would say -EINVAL */

/* Statements that commit or fail together, in order, on one write connection, which the tx holds
 * until its end.  Statements queued in one loop turn travel together: begin, n statements and
 * commit queued at once cost one round trip.  db_tx_query() may also be called from the callback
 * of an earlier one.  After a statement failed the later ones fail with -ECANCELED and commit
 * reports the first error.  Exactly one of commit, abort ends the tx.  timeout_ms is for all of it,
 * waiting for a connection included. */
struct db_tx;
struct db_tx *db_tx_begin(struct db *db, int timeout_ms) MUST_CHECK;   /* NULL: full; 0: pool's */
#define db_tx_query(tx, done, arg, sql, ...) \
	db_tx_send(tx, done, arg, "" sql, DB_PARAMS(__VA_ARGS__))
int  db_tx_send(struct db_tx *tx, db_done *done, void *arg, const char *sql,
                const struct db_param *params, size_t n) MUST_CHECK;
/* Success: the transaction is durable and db_lsn(res) is a position at or after its commit
 * record.  Failure: nothing of it happened, except kind ERR_UNKNOWN (connection lost after the
 * commit was sent): repeat only what is idempotent. */
void db_tx_commit(struct db_tx *tx, db_done *done, void *arg);
void db_tx_abort(struct db_tx *tx);     /* pending statement callbacks get -ECANCELED */

/* The answer beyond its callback, for whoever must put answers in order first. */
struct db_result *db_keep(const struct db_result *res) RETURNS_NONNULL;
void db_release(struct db_result *kept);                /* NULL is fine */

/* An answer made of texts, rows x columns of them, as if the server had said it (p NULL: NULL). */
struct db_result *db_made(int rows, int columns, const struct str *cells) RETURNS_NONNULL;

int        db_rows(const struct db_result *res);        /* of a SELECT or RETURNING; else affected */
int        db_columns(const struct db_result *res);
bool       db_has_rows(const struct db_result *res);    /* SELECT or RETURNING, be it none */
bool       db_null(const struct db_result *res, int row, int col);
int64_t    db_int(const struct db_result *res, int row, int col);      /* NULL reads as 0 */
bool       db_bool(const struct db_result *res, int row, int col);     /* NULL reads as false */
struct str db_str(const struct db_result *res, int row, int col);      /* NULL reads as STR_NONE */
/* A bytea, copied into mem; NULL reads as STR_NONE, so does one that is too large for mem. */
struct str db_bytes(const struct db_result *res, int row, int col, struct arena *mem) MUST_CHECK;
/* Unix ms of a timestamptz, timestamp or date, cut to ms; NULL reads as 0, infinity as INT64_MAX. */
int64_t    db_time(const struct db_result *res, int row, int col);
uint64_t   db_lsn(const struct db_result *res);         /* of db_tx_commit(); 0 otherwise */

/* LISTEN on a connection of its own.  fn(arg, payload) per notification; fn(arg, STR_NONE) each
 * time the connection is (re)established: what was sent meanwhile is lost, drop what was cached. */
void db_listen(struct db *db, const char *channel, void (*fn)(void *arg, struct str payload), void *arg);
/* False: notifications may be lost at this moment.  A connection that died silently is found out
 * within 5 s. */
bool db_listening(const struct db *db);

extern struct metric *const db_metrics[];       /* for a service's table; ends with NULL */

#endif

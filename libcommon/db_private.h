/* db_private.h - what the db_*.c files share; nobody else includes it, nor libpq.
 *
 *      db_url.c     settings text -> hosts and libpq options
 *      db_link.c    one connection's life: resolve, connect, events, backoff
 *      db_conn.c    a pool's connection: what was sent, which result belongs to whom
 *      db_pool.c    who gets which connection, deadlines of those who wait
 *      db_tx.c      transactions            db_stmt.c    prepared statements
 *      db_encode.c  parameters -> wire      db_result.c  wire -> values, errors, LSN
 *      db_listen.c  LISTEN                  db.c         open, send, close, metrics
 *
 * A call is one thing sent to the server.  It is on exactly one list: a pool's queue, a
 * transaction's pending list, or the sent list of a connection - our own FIFO, because libpq
 * forgets what is in its pipeline when the connection breaks. */
#ifndef DB_PRIVATE_H
#define DB_PRIVATE_H

#include <libpq-fe.h>

#include "clock.h"
#include "db.h"
#include "err.h"
#include "list.h"
#include "metrics.h"
#include "service.h"

enum {
	DB_CONNECT_MS      = 5000,      /* one attempt to one host */
	DB_BACKOFF_MS      = 50,
	DB_BACKOFF_MAX_MS  = 2000,
	DB_DEPTH           = 32,        /* calls in flight on one connection */
	DB_DEPTH_BYTES     = 1 << 20,   /* of parameters in flight on one connection */
	DB_GRACE_MS        = 250,       /* statement_timeout answers first, ours is for the mute */
	DB_RECYCLE_MS      = 300000,    /* read connections: roles and addresses change */
	DB_REPEATS         = 3,         /* of one call */
	DB_REPLAN_MS       = 2000,      /* no plan is kept longer than this and one statement */
	DB_PROBE_MS        = 10,        /* a standby seen behind is not asked again so soon */
	DB_STMTS           = 1024,      /* different SQL literals in a process */
	DB_TX_STATEMENTS   = 1024,      /* waiting in one transaction */
	DB_PARAMS_MAX      = 65535,     /* the protocol counts them in 16 bits */
};

/* -- db_url.c ------------------------------------------------------------------------------ */

enum { DB_HOSTS = 8, DB_OPTS = 48 };
struct db_url {
	struct { char *host, *addr, *port; } hosts[DB_HOSTS];  /* addr: "" until resolved */
	int   n_hosts;
	char *key[DB_OPTS], *value[DB_OPTS];    /* everything but hosts and session attributes */
	int   n_opts;
};
enum db_role { DB_ROLE_WRITE, DB_ROLE_READ };
int  db_url_parse(struct db_url *url, struct str text, enum db_role role, const char *app,
                  int timeout_ms, struct err *err) MUST_CHECK;
void db_url_clear(struct db_url *url);

/* -- db_link.c ----------------------------------------------------------------------------- */

enum link_state { LINK_OFF, LINK_RESOLVING, LINK_CONNECTING, LINK_UP };
struct db_link {
	struct db          *db;
	const struct db_url *url;
	enum db_role        role;
	enum link_state     state;
	PGconn             *pg;
	struct event       *reading, *writing;
	struct resolving   *resolving;
	struct timer        timer;      /* the attempt's deadline, or the pause before the next */
	unsigned            tries;      /* since it last worked */
	unsigned            host;       /* attempts so far: which host comes next */
	unsigned            order[DB_HOSTS];
	bool                pipeline;
	struct err          why;        /* of the last attempt that failed */
	void (*up)(struct db_link *l);
	void (*input)(struct db_link *l);       /* readable; may end with link_down() */
	void (*down)(struct db_link *l, const struct err *err);  /* was up; pg is gone already */
};
void link_init(struct db_link *l, struct db *db, const struct db_url *url, enum db_role role);
void link_start(struct db_link *l);             /* connects soon */
void link_flush(struct db_link *l);             /* sends what libpq holds, now or when writable */
void link_down(struct db_link *l, const struct err *err);       /* and again after the backoff */
void link_recycle(struct db_link *l);           /* close without blame, connect again at once */
void link_stop(struct db_link *l);              /* for good; no callback */
struct resolver;                                /* shared by the links of a db */
void resolver_free(struct resolver *r, struct service *s);      /* after its links */

/* -- db_stmt.c ----------------------------------------------------------------------------- */

struct db_stmt {
	const char *sql;                /* the literal: the key */
	char       *text;               /* what it said at first */
	unsigned    index;
	char        name[12];           /* "w17" */
	bool        described;          /* types are known: arrays can travel in binary */
	int         n_types;
	Oid        *types;
	struct err  why;                /* of the last failed prepare */
};
struct db_stmts { struct db_stmt *all[DB_STMTS]; uint16_t slot[2 * DB_STMTS]; unsigned n; };
struct db_stmt *stmt_of(struct db_stmts *s, const char *sql) RETURNS_NONNULL;
void stmt_described(struct db_stmt *st, const PGresult *res);
void stmt_forget_types(struct db_stmt *st);
void stmts_clear(struct db_stmts *s);

/* -- db_encode.c --------------------------------------------------------------------------- */

/* One block of memory: the three tables libpq wants and the text they point to. */
struct db_wire { int n; size_t bytes; const char **value; int *length, *format; };
int  wire_new(struct db_wire **ret, const struct db_stmt *st, const struct db_param *p, size_t n) MUST_CHECK;

/* -- calls --------------------------------------------------------------------------------- */

enum call_kind {
	CALL_STMT,                      /* the caller's */
	CALL_BEGIN, CALL_COMMIT, CALL_LSN, CALL_ROLLBACK,
	CALL_DEALLOCATE, CALL_PREPARE, CALL_DESCRIBE,   /* before the first use on a connection */
	CALL_TIMEOUT,                   /* set_config() in front of one with its own time-out */
	CALL_REPLAN,                    /* forgets the plans, in front of a statement */
	CALL_PROBE,                     /* the standby's replay position, in front of a read */
};
enum call_stage { STAGE_RESULT, STAGE_END, STAGE_SYNC };

struct db_call {
	struct list      node;
	enum call_kind   kind;
	enum call_stage  stage;
	bool             sync;          /* a Sync follows */
	uint8_t          repeats;       /* how often it was sent again for a reason of its own */
	bool             behind;        /* the standby had not replayed after_lsn: discard the answer */
	enum db_to       to;
	struct db_pool  *pool;          /* whose queue it is counted in; NULL inside a transaction */
	struct db_tx    *tx;
	struct db_stmt  *stmt;
	struct db_wire  *wire;
	db_done         *done;          /* NULL: nobody waits (any more) */
	void            *arg;
	int              timeout_ms;
	int64_t          due_mono_ms, since_us;
	uint64_t         after_lsn;
	PGresult        *res;           /* held until the Sync: only then it is real */
	struct err      *err;
};
struct db_call *call_new(struct db *db, enum call_kind kind) RETURNS_NONNULL;
void call_free(struct db_call *call);
void call_fail(struct db_call *call, const struct err *err);    /* keeps the first one */
/* Runs done once, counts, does not free the call; but the callback may, by closing the db. */
void call_done(struct db *db, struct db_call *call);
struct err err_cannot_know(const struct err *err);      /* same text, kind ERR_UNKNOWN */

/* -- db_conn.c ----------------------------------------------------------------------------- */

enum conn_state { CONN_DOWN, CONN_FREE, CONN_HELD, CONN_DRAINING, CONN_STATES };
struct db_conn {
	struct db_link  link;           /* first: the link's callbacks turn it back */
	struct list     node;           /* pool->in[state] */
	enum conn_state state;
	struct db_pool *pool;
	struct db_tx   *tx;             /* CONN_HELD: by whom */
	struct list     sent;
	int             in_flight;
	size_t          bytes;
	bool            unflushed;
	bool            in_recovery;    /* a standby */
	bool            drop;           /* it leads to a standby: no more work */
	uint64_t        replayed;       /* known to be replayed there at least */
	int64_t         probed_mono_ms, planned_mono_ms;
	unsigned        life;           /* counts up when it is lost: loops look */
	struct err      group_err;      /* first error since the last Sync */
	struct timer    due, recycle;
	int64_t         due_mono_ms;
	uint8_t         prepared[DB_STMTS];     /* enum conn_stmt */
};
void conn_init(struct db_conn *c, struct db_pool *pool);
void conn_move(struct db_conn *c, enum conn_state to);
/* False: the connection broke on the way; the call was not sent and is still the caller's. */
bool conn_send(struct db_conn *c, struct db_call *call, bool sync);
bool conn_prepare(struct db_conn *c, struct db_stmt *st, int64_t due_mono_ms);  /* if needed */
bool conn_replan(struct db_conn *c, int64_t due_mono_ms);                       /* if it is time */
bool conn_send_timeout(struct db_conn *c, const struct db_call *call);
bool conn_send_single(struct db_conn *c, struct db_call *call);
void conn_release(struct db_conn *c);                           /* the transaction is through */
void conn_watch(struct db_conn *c, int64_t due_mono_ms);        /* look at deadlines then */
void conn_close(struct db_conn *c, const struct err *err);      /* for good */

/* -- db_pool.c ----------------------------------------------------------------------------- */

struct db_pool {
	struct db     *db;
	enum db_role   role;
	struct db_url  url;
	struct db_conn *conns;
	int            n;
	struct list    in[CONN_STATES];
	int            count[CONN_STATES];
	struct list    queue;
	int            queued;
	struct timer   due;             /* of the earliest in the queue */
	int64_t        due_mono_ms;
};
void pool_open(struct db_pool *p, struct db *db, enum db_role role, int n);
void pool_close(struct db_pool *p, const struct err *err);
void pool_enqueue(struct db_pool *p, struct db_call *call, bool first);
void pool_dequeue(struct db_call *call);
void pool_dispatch(struct db_pool *p);
void pool_flush(struct db_pool *p);

/* -- db_tx.c ------------------------------------------------------------------------------- */

enum tx_state {
	TX_QUEUED,                      /* waits for a connection */
	TX_OPEN,                        /* holds one, no failure so far */
	TX_OVER,                        /* failed and rolled back: waits for commit or abort */
	TX_DEAD,                        /* freed at the end of the turn */
};
struct db_tx {
	unsigned        magic;
	struct db      *db;
	enum tx_state   state;
	struct db_conn *conn;
	struct db_call *begin;          /* waits in the pool's queue for a connection */
	struct list     pending;        /* statements for the next group */
	int             n_pending;
	bool            began;          /* BEGIN was sent */
	bool            in_group;       /* a group is out: the next waits for its Sync */
	bool            committing, aborted;    /* what the caller wants; never both */
	bool            commit_sent, committed;
	int             timeout_ms;
	int64_t         due_mono_ms, since_us;
	db_done        *done;
	void           *arg;
	uint64_t        lsn;
	struct err      err;            /* the first */
	struct list     dirty, all;     /* in db->dirty: look at it at the end of this turn */
};
enum { TX_MAGIC = 0x7478a11e };
void tx_got_conn(struct db_tx *tx, struct db_conn *c);
void tx_turn(struct db_tx *tx);                 /* sends, cancels or ends what the caller queued */
void tx_result(struct db_tx *tx, struct db_call *call, const PGresult *res);    /* ok or call->err */
void tx_group_done(struct db_tx *tx);           /* its Sync has come */
void tx_fail(struct db_tx *tx, const struct err *err);
void tx_lost(struct db_tx *tx, const struct err *err);
void tx_close(struct db_tx *tx, const struct err *err);

/* -- db_result.c --------------------------------------------------------------------------- */

struct db_result { PGresult *res; uint64_t lsn; bool kept; };
void err_of_result(struct err *err, const PGresult *res);
void err_of_conn(struct err *err, PGconn *pg);

/* Value of a hex digit, or -1. */
static inline int nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 32);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* -- db_listen.c --------------------------------------------------------------------------- */

struct db_listener;
void listeners_close(struct db_listener *l);

/* -- db.c ---------------------------------------------------------------------------------- */

enum { DB_MAGIC = 0xdb0a11e };
struct db {
	unsigned            magic;
	struct service     *service;
	struct db_pool      read, write;
	struct db_stmts     stmts;
	struct db_stmt     *begin, *commit, *rollback, *lsn, *probe, *set_timeout;
	struct list         dirty, txs, watches;
	struct resolver    *resolver;
	struct db_listener *listener;
	int                 timeout_ms, max_queued;
	bool                has_standby;        /* reads have hosts of their own */
	bool                scheduled, closed;
};
void db_schedule(struct db *db);                /* dispatch and flush at the end of this turn */
void db_note_up(struct db *db);                 /* readiness, after a connection came or went */

extern struct metric db_queued, db_in_flight, db_connections, db_reconnects, db_query_us, db_errors,
	db_standby_reads;
enum db_standby_read { STANDBY_FRESH, STANDBY_BEHIND, STANDBY_DOWN };

#endif

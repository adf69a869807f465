/* http_int.h - what the files of the server share; nobody outside http*.c includes it.
 *
 * A connection (http_conn.c) is in one state and on one list; a request (http_req.c) is born
 * with its first byte and outlives the connection when the client leaves while it is worked on.
 * Nothing is freed while a callback can still come back to it: service_later(). */
#ifndef HTTP_INT_H
#define HTTP_INT_H

#include <netinet/in.h>

#include <event2/event.h>

#include "cidr.h"
#include "clock.h"
#include "hash.h"
#include "http.h"
#include "http_parse.h"
#include "list.h"
#include "metrics.h"
#include "service.h"

enum { HTTP_MAGIC = 0x48747470, CONN_MAGIC = 0x436f6e6e, REQ_MAGIC = 0x52657174 };
enum { HTTP_SEGMENTS = 16, HTTP_BODY_MAX = 1 << 20, HTTP_REPLY_MAX = 8 << 20, HTTP_ADDR_TEXT = 48 };

/* One row of the table, cut at its slashes once. */
struct http_path {
	const struct http_route *route;
	unsigned                 index;         /* in the caller's table: the metric's */
	unsigned                 n;
	struct str               segment[HTTP_SEGMENTS];        /* name without braces */
	bool                     open[HTTP_SEGMENTS];           /* {x}: any segment */
};

enum http_why { WHY_HEAD_LATE, WHY_BODY_LATE, WHY_SEND_LATE, WHY_CONNS, WHY_PER_ADDR, WHY_MALFORMED,
                WHY_HEAD_SIZE, WHY_BODY_SIZE, WHY_BODY_MEMORY, WHY_KEY, WHY_DRAINING, WHY_LATE_ANSWER, WHYS };

struct http {
	unsigned                 magic, refs;   /* one of the opener, one per connection and request */
	struct service          *service;
	struct http_limits       limits;
	struct http_route       *routes;        /* the caller's and /openapi.json */
	void                    *arg;
	struct http_path        *paths;
	unsigned                 n_paths;
	struct evconnlistener   *listener;
	struct timer             accept_again;
	int                      port;
	bool                     closing;
	struct list              idle;          /* oldest first: may be closed for a newcomer */
	struct list              busy;
	int                      n_conns;
	struct hash_table        addrs;         /* connections per address */
	size_t                   body_bytes;
	http_key_check          *key_check;
	void                    *key_arg;
	struct cidrs             trusted;
	int64_t                   date_s;
	char                     date[32];
	unsigned                *route_cells;   /* first cell of each path's row, the last for none */
	struct buf               scratch, openapi;
	struct http_req         *spare[64];     /* with their arenas */
	unsigned                 n_spare;
};

enum conn_state {
	CONN_IDLE,              /* between requests */
	CONN_HEAD,              /* first byte seen */
	CONN_BODY,
	CONN_WORK,              /* key check or handler */
	CONN_LINGER,            /* answered and shut; the rest is read so that no reset eats the answer */
	CONN_DEAD,              /* until the end of the turn */
	CONN_STATES
};

struct http_conn {
	unsigned         magic;
	enum conn_state  state;
	struct list      node;          /* idle or busy */
	struct http     *http;
	int              fd;
	struct event    *read, *write;
	struct timer     timer;
	int64_t          due_mono_ms, send_due_mono_ms;         /* of the state; 0: nothing is stuck */
	bool             again;         /* conn_process() will run at the end of this turn */
	struct http_req *req;           /* HEAD to WORK */
	struct buf       out;
	size_t           sent;          /* of out */
	unsigned         holds;         /* of the service: answers in out, lingering */
	bool             closing;       /* after what is in out */
	bool             eof;           /* the peer has said its last word */
	bool             processing;    /* http_reply() came from inside conn_process() */
	bool             trusted;       /* peer is one of our proxies */
	bool             blank;         /* an empty line was skipped before this request */
	struct in6_addr  addr;
	char             peer[HTTP_ADDR_TEXT];
	size_t           in_n, in_seen; /* bytes in in[]; looked at for the end of the head */
	size_t           discarded;
	char             in[];          /* limits.header_bytes */
};

enum req_state { REQ_READING, REQ_KEY, REQ_RUNNING, REQ_ANSWERED };

struct http_req {
	unsigned                 magic;
	enum req_state           state;
	struct http             *http;
	struct http_conn        *conn;          /* NULL: the client left or was answered by us */
	int64_t                  began_us, began_mono_ms;
	struct arena            *mem;
	const struct http_path  *path;          /* NULL: none matched */
	struct str               param[HTTP_SEGMENTS];  /* decoded, by segment */
	struct buf               body;
	size_t                   body_charged;  /* against http.body_bytes */
	struct http_chunks       chunks;
	const void              *body_struct, *query_struct;
	int64_t                  key_id;
	char                     peer[HTTP_ADDR_TEXT];
	struct buf               extra;         /* headers set by the handler */
	bool                     complete;      /* its last byte is in */
	bool                     is_head, has_retry_after, has_cache_control;
	struct http_head         head;          /* last: its fields need no zeroing */
};

/* http.c */
void http_ref(struct http *h);
void http_unref(struct http *h);
void http_count(enum http_why why);
void http_conns(int by);
void http_observe(const struct http_req *r, int status);
/* http_open() without a listener: what a test or a fuzzer puts its own sockets into. */
struct http *http_new(struct service *s, const struct http_route *routes, void *arg,
                      struct http_limits limits) RETURNS_NONNULL;

/* http_conn.c */
void conn_accept(struct http *h, int fd, const struct sockaddr *sa);
void conn_close_idle(struct http *h);
void conn_due(struct http_conn *c, int64_t at_mono_ms);
void conn_work(struct http_conn *c);            /* the key is being checked: read no body yet */
void conn_go_on(struct http_conn *c);           /* the body may come */
bool conn_ends(struct http_conn *c);            /* will this answer be the last one? */
void conn_answered(struct http_conn *c);        /* it is in c->out, c->req is detached */

/* http_req.c */
struct http_req *req_new(struct http_conn *c);
void req_drop(struct http_req *r);              /* unanswered, and nobody knows it any more */
void req_free(struct http_req *r);
void req_head(struct http_req *r, struct str text);     /* ends in an answer, req_key() or conn_go_on() */
void req_admitted(struct http_req *r);          /* the key is good */
bool req_body_room(struct http_req *r);         /* false: answered 503 */
void req_run(struct http_req *r);               /* the body is complete */
void req_late(struct http_req *r);              /* the deadline passed while it was worked on */

/* http_reply.c */
void req_set(struct http_req *r, const char *name, struct str value);   /* a header we know is good */
void req_answer(struct http_req *r, int status, const char *type, struct str body);

/* http_route.c */
struct http_path *paths_new(const struct http_route *routes, unsigned *ret_n);
/* 0, or the status to answer: 400, 404, 405; 204 for OPTIONS.  Then allow names the methods. */
int  paths_match(const struct http *h, struct http_req *r, struct buf *allow);

/* http_key.c */
void req_key(struct http_req *r);

/* http_addr.c */
int  addr_add(struct hash_table *t, const struct in6_addr *a, int by);    /* the count after */
bool addr_same(const struct in6_addr *a, const struct in6_addr *b);      /* one customer */

/* http_query.c */
int  query_decode(struct str query, const struct js_field *fields, void *out, struct arena *mem,
                  struct err *err) MUST_CHECK;

#endif

/* api.h - the router's HTTP listener (router.md 2): who may call what, and what handlers share.
 *
 * Each part of the router brings its own table of routes; api.c puts them together, listens on
 * HTTP_LISTEN and lets keys in.  Every handler's arg is the struct router *. */
#ifndef API_H
#define API_H

#include "http.h"
#include "router.h"

/* The tables, each ended by a row without a method.  A new one also gets a line in api.c. */
extern const struct http_route permissions_routes[];
extern const struct http_route health_routes[];
extern const struct http_route coordination_routes[];
extern const struct http_route responses_routes[];
extern const struct http_route executions_routes[];
extern const struct http_route explain_routes[];
extern const struct http_route events_routes[];
extern const struct http_route commands_routes[];
extern const struct http_route entities_routes[];

extern const struct http_route rules_routes[];

struct api *api_open(struct router *r, struct err *err) MUST_CHECK;
void api_drain(struct api *a);          /* NULL is fine, twice too */
void api_close(struct api *a);          /* after db_close(): its last callbacks come here */
/* A notification of waddle_invalidate: keys among them. */
void api_invalidate(struct api *a, struct str notice);

/* All tables one behind the other, for the listener, the documentation and its test; free(). */
struct http_route *api_all_routes(void) RETURNS_NONNULL;

/* --- helpers of handlers -------------------------------------------------------------------- */

/* Administrative calls and collectors' reads; see the table in router.md 2. */
enum { API_READERS = HTTP_KEY_COLLECTOR | HTTP_KEY_INTERACTION | HTTP_KEY_ADMIN };

bool api_platform_known(const struct router *r, struct str platform);   /* PLATFORMS */

/* A statement that failed, as an answer: 409 for what is there already, 400 for what the tables
 * refuse, 404 for what a row would refer to and is not there, 503 for what is away. */
void api_fail_db(struct http_req *r, const struct err *err);
void api_absent(struct http_req *r, const char *what);          /* 404 "There is no such <what>." */
void api_bad(struct http_req *r, const char *field, const char *fmt, ...) PRINTF(3, 4); /* 400 */
void api_conflict(struct http_req *r, const char *reason, const char *fmt, ...) PRINTF(3, 4);

/* Sends a statement for this request: 503 by itself when the queue is full.  done gets r. */
#define api_query(router, r, to_, done, sql, ...) \
	api_send((router), (r), (to_), (done), "" sql, DB_PARAMS(__VA_ARGS__))
void api_send(struct router *router, struct http_req *r, enum db_to to, db_done *done,
              const char *sql, const struct db_param *params, size_t n);

/* page=1, per_page=50 (at most 100): fields of a query struct that begins with it. */
struct api_page { int64_t page, per_page; };
#define API_PAGE_FIELDS \
	{ .key = "page", .type = JS_INT, .offset = offsetof(struct api_page, page), .optional = true, \
	  .absent = 1, .min = 1, .max = 1000000 }, \
	{ .key = "per_page", .type = JS_INT, .offset = offsetof(struct api_page, per_page), \
	  .optional = true, .absent = 50, .min = 1, .max = 100 }

/* {"<name>":<rows, a JSON array>,"pagination":{...}} */
void api_reply_page(struct http_req *r, const char *name, struct str rows, const struct api_page *page,
                    int64_t total);

/* A row as JSON with its version as ETag: updated_at in microseconds. */
void api_reply_row(struct http_req *r, int status, struct str json, int64_t version);
/* If-Match: *ret 0 for none or "*", else the version wanted; answers 400 and gives false for
 * what is no version of ours. */
bool api_if_match(struct http_req *r, int64_t *ret);

/* --- keys (api_keys.c) ----------------------------------------------------------------------- */
struct api_keys *api_keys_open(struct service *s, struct db *db) RETURNS_NONNULL;
void api_keys_check(void *keys, struct http_req *r, const unsigned char sha256[32]);   /* for http_keys() */
void api_keys_changed(struct api_keys *k);      /* a notice about service_accounts, or all may have changed */
/* Name of an account whose key was let in, for created_by; STR_NONE: not known any more. */
struct str api_keys_name(const struct api_keys *k, int64_t id);
bool api_keys_may_act(const struct api_keys *k, int64_t id);
void api_keys_close(struct api_keys *k);        /* after db_close(); NULL is fine */

extern struct metric *const api_keys_metrics[];

#endif

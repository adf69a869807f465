/* api_table.h - rows of an administrative table over HTTP, from a description of its columns.
 *
 * A body is decoded strictly by the route's table of fields; its text then goes to PostgreSQL,
 * where jsonb_populate_record() makes a row of it: what the body does not name keeps its default
 * (POST) or its value (PATCH), and null means absent but for columns that may be null.  The three
 * statements of a table are written once, when it is first used. */
#ifndef API_TABLE_H
#define API_TABLE_H

#include "api.h"

enum {
	COL_SET  = 1,                   /* a body may name it, or a handler's extra */
	COL_NULL = 2,                   /* null is a value */
	COL_TIME = 4,                   /* shown as RFC 3339 with milliseconds */
};

struct api_col {
	const char *name;               /* NULL ends the table */
	unsigned    flags;
	const char *insert;             /* expression over r (the body's row) and s (from_extra); NULL: r.name */
};

struct api_table {
	const char *name, *one, *many;  /* "commands", "command", "commands" */
	const struct api_col *cols;
	const char *defaults;           /* JSON object: what a POST need not name */
	const char *from_extra;         /* behind "FROM jsonb_populate_record(..) AS r" of a POST; NULL */
	const char *conflict;           /* ON CONFLICT (...) of a POST that may meet its row; NULL: 409 */
	const char *order;              /* of the list */
	char       *list, *insert, *update;
};

/* One change, in a transaction; lives in the request's memory. */
struct api_change {
	struct router    *router;
	struct http_req  *r;
	struct api_table *t;
	struct db_tx     *tx;
	struct str        body, extra;  /* JSON objects; extra wins */
	int64_t           id, version;
	int               status;
	struct str        json;         /* the row */
	struct str        tail;         /* members added to the answer: ",\"signing_secret\":\"..\"" */
	const char       *none;         /* 409 when a POST makes no row */
	/* Looks at the new row (c->id, c->json) before the commit; may add statements to c->tx.  False:
	 * it has refused, see api_change_refuse(). */
	bool            (*check)(struct api_change *c);
	bool              ended, gone;  /* gone: 204 without the row */
	const void       *body_struct;
};

void api_list(struct http_req *r, struct router *router, struct api_table *t, const struct js_field *query,
              const struct api_page *page);
/* Takes c over. */
void api_insert(struct api_change *c);
void api_update(struct api_change *c);
struct api_change *api_change_new(struct http_req *r, struct router *router, struct api_table *t) RETURNS_NONNULL;
/* In check(): the transaction ends, 400 or 409 goes out. */
void api_change_refuse(struct api_change *c, int status, const char *field, const char *fmt, ...) PRINTF(4, 5);
/* A member of the row as text: "type"; STR_NONE: none, null or no text. */
struct str api_change_member(const struct api_change *c, const char *name);

#define API_TIME(expr) "to_char((" expr ") AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"

#endif

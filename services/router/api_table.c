/* api_table.c - see api_table.h. */
#include "api_table.h"
#include "err.h"
#include "log.h"

enum { SQL_MAX = 32768, FILTERS = 12 };

/* --- the statements ------------------------------------------------------------------------------ */

static char *kept(struct buf *b)
{
	ASSERT(b->failed == 0);
	buf_add(b, (struct str){ "", 1 });
	return b->p;                            /* the process's, like the literals elsewhere */
}

/* json_build_object() takes 50 pairs: no table of ours has as many. */
static void add_row(const struct api_table *t, struct buf *b)
{
	buf_printf(b, "json_build_object('id', t.id");
	for (const struct api_col *c = t->cols; c->name != NULL; c++) {
		if ((c->flags & COL_TIME) != 0)
			buf_printf(b, ", '%s', to_char(t.%s AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')",
			           c->name, c->name);
		else
			buf_printf(b, ", '%s', t.%s", c->name, c->name);
	}
	buf_printf(b, ")");
}

#define VERSION "(extract(epoch FROM t.updated_at) * 1000000)::bigint"

static void add_columns(const struct api_table *t, const char *before, bool insert, struct buf *b)
{
	const char *sep = "";

	for (const struct api_col *c = t->cols; c->name != NULL; c++) {
		if ((c->flags & COL_SET) == 0)
			continue;
		if (insert && c->insert != NULL)
			buf_printf(b, "%s%s", sep, c->insert);
		else
			buf_printf(b, "%s%s%s", sep, before, c->name);
		sep = ", ";
	}
}

/* Of the body the columns that may be set, without those that are null and may not be. */
static void add_body(const struct api_table *t, const char *param, struct buf *b)
{
	const char *sep = "";

	buf_printf(b, "(SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(%s::jsonb) WHERE key IN (",
	           param);
	for (const struct api_col *c = t->cols; c->name != NULL; c++)
		if ((c->flags & COL_SET) != 0) {
			buf_printf(b, "%s'%s'", sep, c->name);
			sep = ", ";
		}
	buf_printf(b, ") AND (value <> 'null'::jsonb");
	for (const struct api_col *c = t->cols; c->name != NULL; c++)
		if ((c->flags & COL_NULL) != 0)
			buf_printf(b, " OR key = '%s'", c->name);
	buf_printf(b, "))");
}

static void make_insert(struct api_table *t)
{
	struct buf b = BUF(SQL_MAX);

	buf_printf(&b, "INSERT INTO %s AS t (", t->name);
	add_columns(t, "", false, &b);
	buf_printf(&b, ") SELECT ");
	add_columns(t, "r.", true, &b);
	buf_printf(&b, " FROM jsonb_populate_record(NULL::%s, '%s'::jsonb || ", t->name,
	           t->defaults != NULL ? t->defaults : "{}");
	add_body(t, "$1", &b);
	buf_printf(&b, " || $2::jsonb) AS r %s", t->from_extra != NULL ? t->from_extra : "");
	if (t->conflict != NULL) {
		buf_printf(&b, " %s DO UPDATE SET (", t->conflict);
		add_columns(t, "", false, &b);
		buf_printf(&b, ") = (SELECT ");
		add_columns(t, "p.", false, &b);
		buf_printf(&b, " FROM jsonb_populate_record(t, ");
		add_body(t, "$1", &b);
		buf_printf(&b, " || $2::jsonb) AS p)");
	}
	buf_printf(&b, " RETURNING t.id, " VERSION ", ");
	add_row(t, &b);
	buf_printf(&b, "::text, xmax = 0");
	t->insert = kept(&b);
}

/* Always one row: was it there, was it of the version wanted. */
static void make_update(struct api_table *t)
{
	struct buf b = BUF(SQL_MAX);

	buf_printf(&b, "WITH changed AS (UPDATE %s AS t SET (", t->name);
	add_columns(t, "", false, &b);
	buf_printf(&b, ") = (SELECT ");
	add_columns(t, "p.", false, &b);
	buf_printf(&b, " FROM jsonb_populate_record(t, ");
	add_body(t, "$2", &b);
	buf_printf(&b, " || $3::jsonb) AS p) WHERE t.id = $1::bigint AND ($4::bigint = 0 OR " VERSION
	           " = $4::bigint) RETURNING t.id, " VERSION " AS version, ");
	add_row(t, &b);
	buf_printf(&b, "::text AS row) SELECT c.id, c.version, c.row, false, "
	           "EXISTS (SELECT FROM %s WHERE id = $1::bigint) FROM (SELECT 1) AS one LEFT JOIN changed c ON true",
	           t->name);
	t->update = kept(&b);
}

/* Parameters: the filters in the order of the query's fields, then limit and offset. */
static void make_list(struct api_table *t, const struct js_field *query)
{
	struct buf where = BUF(SQL_MAX), b = BUF(SQL_MAX);
	unsigned n = 0;

	for (const struct js_field *f = query; f->key != NULL; f++) {
		if (strcmp(f->key, "page") == 0 || strcmp(f->key, "per_page") == 0)
			continue;
		n++;
		buf_printf(&where, "%s($%u::text IS NULL OR t.%s = $%u::text::%s)", n > 1 ? " AND " : "", n, f->key, n,
		           f->type == JS_INT ? "bigint" : f->type == JS_ENUM && strcmp(f->names[1], "true") == 0 ? "boolean"
		                                                                                      : "text");
	}
	if (n == 0)
		buf_printf(&where, "true");
	buf_add(&where, (struct str){ "", 1 });
	buf_printf(&b, "SELECT (SELECT count(*) FROM %s AS t WHERE %s), (SELECT json_agg(p.row)::text FROM (SELECT ",
	           t->name, where.p);
	add_row(t, &b);
	buf_printf(&b, " AS row FROM %s AS t WHERE %s ORDER BY %s LIMIT $%u::bigint OFFSET $%u::bigint) AS p)",
	           t->name, where.p, t->order, n + 1, n + 2);
	buf_clear(&where);
	t->list = kept(&b);
}

/* --- lists -------------------------------------------------------------------------------------------- */

struct listing { struct http_req *r; const struct api_table *t; struct api_page page; };

static void listed(void *arg, const struct db_result *res, const struct err *err)
{
	struct listing *l = arg;

	if (err != NULL)
		api_fail_db(l->r, err);
	else
		api_reply_page(l->r, l->t->many, db_str(res, 0, 1), &l->page, db_int(res, 0, 0));
}

void api_list(struct http_req *r, struct router *router, struct api_table *t, const struct js_field *query,
              const struct api_page *page)
{
	struct listing *l = ARENA_NEW(http_mem(r), struct listing);
	struct db_param p[FILTERS];
	size_t n = 0;
	int e;

	if (t->list == NULL)
		make_list(t, query);
	*l = (struct listing){ r, t, *page };
	for (const struct js_field *f = query; f->key != NULL; f++) {
		const char *at = (const char *)page + f->offset;
		struct str s = STR_NONE;

		if (strcmp(f->key, "page") == 0 || strcmp(f->key, "per_page") == 0)
			continue;
		ASSERT(n + 2 < FILTERS);
		if (f->type == JS_STR)
			s = *(const struct str *)(const void *)at;
		else if (f->type == JS_ENUM)
			s = str_of(f->names[*(const int *)(const void *)at]);
		else if (*(const int64_t *)(const void *)at != 0)
			s = arena_printf(http_mem(r), "%lld", (long long)*(const int64_t *)(const void *)at);
		p[n++] = s.n > 0 ? DB_STR(s) : DB_NULL;
	}
	p[n++] = DB_INT(page->per_page);
	p[n++] = DB_INT((page->page - 1) * page->per_page);
	e = db_send(router->db, (struct db_opts){ .to = DB_WRITE }, listed, l, t->list, p, n);
	if (e != 0)
		http_refuse(r, e == -EINVAL ? 400 : 503, NULL, "The database cannot be asked that now.", NULL, 0);
}

/* --- changes ------------------------------------------------------------------------------------------- */

struct api_change *api_change_new(struct http_req *r, struct router *router, struct api_table *t)
{
	struct api_change *c = ARENA_NEW(http_mem(r), struct api_change);

	c->r = r;
	c->router = router;
	c->t = t;
	c->body = http_raw(r);
	c->extra = STR("{}");
	c->body_struct = http_body(r);
	return c;
}

void api_change_refuse(struct api_change *c, int status, const char *field, const char *fmt, ...)
{
	char text[512];
	struct http_detail d = { str_of(field), STR_NONE };
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	d.message = str_of(text);
	c->ended = true;
	db_tx_abort(c->tx);
	http_refuse(c->r, status, NULL, text, &d, field != NULL ? 1 : 0);
}

struct str api_change_member(const struct api_change *c, const char *name)
{
	struct member { struct str value; } m;
	const struct js_field field[] = {
		{ .key = name, .type = JS_RAW, .offset = offsetof(struct member, value), .optional = true }, { 0 }
	};
	struct text { struct str value; } t;
	const struct js_field text[] = {
		{ .key = "v", .type = JS_STR, .offset = offsetof(struct text, value), .optional = true }, { 0 }
	};
	struct arena *mem = http_mem(c->r);

	if (js_decode(c->json, field, &m, mem, NULL) != 0 || m.value.n == 0 || m.value.p[0] != '"')
		return STR_NONE;
	if (js_decode(arena_printf(mem, "{\"v\":" STR_FMT "}", STR_ARG(m.value)), text, &t, mem, NULL) != 0)
		return STR_NONE;
	return t.value;
}

static void committed(void *arg, const struct db_result *res, const struct err *err)
{
	struct api_change *c = arg;
	struct str json = c->json;

	(void)res;
	if (err != NULL) {
		api_fail_db(c->r, err);
		return;
	}
	if (c->gone) {
		http_reply(c->r, 204, NULL, NULL);
		return;
	}
	if (c->tail.n > 0)
		json = arena_printf(http_mem(c->r), STR_FMT STR_FMT "}", (int)json.n - 1, json.p, STR_ARG(c->tail));
	api_reply_row(c->r, c->status, json, c->version);
}

static void changed(void *arg, const struct db_result *res, const struct err *err)
{
	struct api_change *c = arg;
	bool update = c->t->update != NULL && c->status == 0;

	if (err != NULL) {
		db_tx_abort(c->tx);
		api_fail_db(c->r, err);
		return;
	}
	if (db_rows(res) == 0 || db_null(res, 0, 0)) {
		bool there = update && db_rows(res) == 1 && db_bool(res, 0, 4);

		db_tx_abort(c->tx);
		if (there)
			http_refuse(c->r, 412, NULL, "The row has been changed since; read it again.", NULL, 0);
		else if (update)
			api_absent(c->r, c->t->one);
		else
			http_refuse(c->r, 409, NULL, c->none != NULL ? c->none : "There is one of these already.", NULL, 0);
		return;
	}
	c->id = db_int(res, 0, 0);
	c->version = db_int(res, 0, 1);
	c->json = arena_str(http_mem(c->r), db_str(res, 0, 2));
	if (c->json.p == NULL) {
		db_tx_abort(c->tx);
		http_refuse(c->r, 500, NULL, "The row is too large.", NULL, 0);
		return;
	}
	if (c->status == 0)
		c->status = 200;
	else
		c->status = db_bool(res, 0, 3) ? 201 : 200;
	if (c->check != NULL && !c->check(c))
		return;
	db_tx_commit(c->tx, committed, c);
}

static void start(struct api_change *c, const char *sql, const struct db_param *p, size_t n)
{
	int e;

	c->tx = db_tx_begin(c->router->db, 0);
	e = c->tx == NULL ? -EAGAIN : db_tx_send(c->tx, changed, c, sql, p, n);
	if (e == 0)
		return;
	if (c->tx != NULL)
		db_tx_abort(c->tx);
	http_refuse(c->r, e == -EINVAL ? 400 : 503, NULL, "The database cannot be asked that now.", NULL, 0);
}

void api_insert(struct api_change *c)
{
	struct db_param p[] = { DB_STR(c->body), DB_STR(c->extra) };

	if (c->t->insert == NULL)
		make_insert(c->t);
	c->status = 201;
	start(c, c->t->insert, p, ARRAY_LEN(p));
}

void api_update(struct api_change *c)
{
	struct db_param p[4];
	struct err err = { 0 };

	if (http_path_int(c->r, "id", &c->id, &err) != 0) {
		http_fail(c->r, &err);
		return;
	}
	if (!api_if_match(c->r, &c->version))
		return;
	if (c->t->update == NULL)
		make_update(c->t);
	p[0] = DB_INT(c->id);
	p[1] = DB_STR(c->body);
	p[2] = DB_STR(c->extra);
	p[3] = DB_INT(c->version);
	c->status = 0;
	start(c, c->t->update, p, ARRAY_LEN(p));
}

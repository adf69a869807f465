/* api.c - see api.h: the listener, its keys, and the answers all handlers give alike. */
#include "api.h"
#include "clock.h"
#include "err.h"
#include "log.h"
#include "service.h"

/* Collectors keep connections; many of them may share one address behind a proxy. */
enum { MAX_CONNS = 2048, MAX_PER_ADDR = 1024 };

struct api {
	unsigned         magic;
	struct router   *r;
	struct http     *http;
	struct api_keys *keys;
};
enum { API_MAGIC = 0x40073410 };

/* The order is that of openapi.json. */
static const struct http_route *const tables[] = {
	events_routes,
	commands_routes,
	entities_routes,
	permissions_routes,
	executions_routes,
	explain_routes,
	health_routes,
	coordination_routes,
	responses_routes,
	rules_routes,
};

struct http_route *api_all_routes(void)
{
	struct http_route *all;
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(tables); i++)
		for (const struct http_route *t = tables[i]; t->method != NULL; t++)
			n++;
	all = XNEW_N(struct http_route, n + 1);
	n = 0;
	for (size_t i = 0; i < ARRAY_LEN(tables); i++)
		for (const struct http_route *t = tables[i]; t->method != NULL; t++)
			all[n++] = *t;
	return all;
}

struct api *api_open(struct router *r, struct err *err)
{
	struct api *a = XNEW(struct api);
	struct http_route *all = api_all_routes();
	struct str where = r->s->base.http_listen;

	MAKE_A(a, API_MAGIC);
	a->r = r;
	a->keys = api_keys_open(r->s, r->db);
	r->keys = a->keys;
	a->http = http_open(r->s, where.n > 0 ? where : STR("0.0.0.0:8000"), all, r,
	                    (struct http_limits){ .max_conns = MAX_CONNS, .max_per_addr = MAX_PER_ADDR }, err);
	free(all);
	if (a->http == NULL) {
		api_keys_close(a->keys);
		r->keys = NULL;
		free(a);
		return NULL;
	}
	http_keys(a->http, api_keys_check, a->keys);
	log_info(NULL, "listening", "/router on port %d", http_port(a->http));
	return a;
}

void api_drain(struct api *a)
{
	if (a == NULL || a->http == NULL)
		return;
	http_close(a->http);
	a->http = NULL;
}

void api_close(struct api *a)
{
	if (a == NULL)
		return;
	IS_A(a, API_MAGIC);
	api_drain(a);
	api_keys_close(a->keys);
	NOT_A_MORE(a, API_MAGIC);
	free(a);
}

void api_invalidate(struct api *a, struct str notice)
{
	if (a != NULL && (notice.n == 0 || str_starts(notice, STR("service_accounts:"))))
		api_keys_changed(a->keys);
}

bool api_platform_known(const struct router *r, struct str platform)
{
	struct str rest = r->settings->platforms;

	while (rest.n > 0)
		if (str_eq(str_trim(str_cut(rest, ',', &rest)), platform))
			return true;
	return false;
}

/* --- answers ------------------------------------------------------------------------------------ */

void api_absent(struct http_req *r, const char *what)
{
	struct str text = arena_printf(http_mem(r), "There is no such %s.", what);

	http_refuse(r, 404, NULL, text.p, NULL, 0);
}

void api_bad(struct http_req *r, const char *field, const char *fmt, ...)
{
	char text[512];
	struct http_detail d = { str_of(field), STR_NONE };
	struct str whole;
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	d.message = str_of(text);
	whole = arena_printf(http_mem(r), "%s: %s", field, text);
	http_refuse(r, 400, NULL, whole.p, &d, 1);
}

void api_conflict(struct http_req *r, const char *reason, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	http_refuse(r, 409, reason, text, NULL, 0);
}

void api_fail_db(struct http_req *r, const struct err *err)
{
	struct str state = str_of(err->sqlstate);

	if (str_eq(state, STR("23505"))) {
		http_refuse(r, 409, NULL, "There is one of these already.", NULL, 0);
	} else if (str_eq(state, STR("23503"))) {
		http_refuse(r, 404, NULL, "Something this refers to is not there.", NULL, 0);
	} else if (str_starts(state, STR("22")) || str_starts(state, STR("23"))) {
		http_refuse(r, 400, NULL, err->text, NULL, 0);
	} else {
		enum err_kind kind = err_kind(err);

		if (kind == ERR_BROKEN)
			log_error(NULL, "api_statement", "a request failed: %s", err->text);
		if (kind == ERR_AGAIN || kind == ERR_UNKNOWN)
			http_refuse(r, 503, NULL, "The database does not answer at the moment.", NULL, 0);
		else
			http_refuse(r, 500, NULL, "This is our fault, and is logged.", NULL, 0);
	}
}

void api_send(struct router *router, struct http_req *r, enum db_to to, db_done *done, const char *sql,
              const struct db_param *params, size_t n)
{
	int e = db_send(router->db, (struct db_opts){ .to = to }, done, r, sql, params, n);

	if (e == -EINVAL)
		http_refuse(r, 400, NULL, "A text or time that cannot be stored.", NULL, 0);
	else if (e != 0)
		http_refuse(r, 503, NULL, "The database has too much to do at the moment.", NULL, 0);
}

void api_reply_page(struct http_req *r, const char *name, struct str rows, const struct api_page *page,
                    int64_t total)
{
	struct buf b = BUF(8 << 20);
	struct str text;

	buf_printf(&b, "{\"%s\":", name);
	buf_add(&b, rows.n > 0 ? rows : STR("[]"));
	buf_printf(&b,
	           ",\"pagination\":{\"page\":%lld,\"per_page\":%lld,\"total_pages\":%lld,"
	           "\"total_items\":%lld}}",
	           (long long)page->page, (long long)page->per_page,
	           (long long)((total + page->per_page - 1) / page->per_page), (long long)total);
	if (buf_str(&b, &text) != 0)
		http_refuse(r, 500, "ANSWER_SIZE", "The answer is larger than 8 MiB.", NULL, 0);
	else
		http_reply_raw(r, 200, "application/json", text);
	buf_clear(&b);
}

void api_reply_row(struct http_req *r, int status, struct str json, int64_t version)
{
	char tag[32];

	(void)snprintf(tag, sizeof(tag), "\"%lld\"", (long long)version);
	(void)!http_set(r, "ETag", str_of(tag));
	http_reply_raw(r, status, "application/json", json);
}

bool api_if_match(struct http_req *r, int64_t *ret)
{
	struct str tag = str_trim(http_header(r, "if-match"));

	*ret = 0;
	if (tag.n == 0 || str_eq(tag, STR("*")))
		return true;
	if (tag.n > 2 && tag.p[0] == '"' && tag.p[tag.n - 1] == '"' &&
	    str_int((struct str){ tag.p + 1, tag.n - 2 }, 1, INT64_MAX, ret) == 0)
		return true;
	http_refuse(r, 400, NULL, "If-Match: not an ETag of ours.", NULL, 0);
	return false;
}

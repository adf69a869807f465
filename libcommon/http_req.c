/* http_req.c - one request from its first byte until exactly one answer.
 *
 *      READING -> (KEY -> READING) -> RUNNING -> ANSWERED
 *
 * The key is checked before the body is read: memory is for callers who may call. */
#include "http_int.h"

enum { ARENA_FIRST = 4096, ARENA_MAX = 32 << 20 };

struct http_req *req_new(struct http_conn *c)
{
	struct http *h = c->http;
	struct http_req *r;

	if (h->n_spare > 0) {
		r = h->spare[--h->n_spare];
		ASSERT(r->magic == 0);
	} else {
		r = XNEW(struct http_req);
		r->mem = arena_new(ARENA_FIRST, ARENA_MAX);
	}
	MAKE_A(r, REQ_MAGIC);
	r->http = h;
	http_ref(h);
	r->conn = c;
	r->state = REQ_READING;
	r->began_us = clock_exact_us();
	r->began_mono_ms = clock_mono_ms();
	r->body = BUF(HTTP_BODY_MAX);
	r->extra = BUF(8192);
	service_hold(h->service);
	return r;
}

void req_free(struct http_req *r)
{
	struct http *h = r->http;

	IS_A(r, REQ_MAGIC);
	buf_clear(&r->body);
	buf_clear(&r->extra);
	h->body_bytes -= r->body_charged;
	if (h->n_spare < ARRAY_LEN(h->spare) && arena_used(r->mem) <= 4 * ARENA_FIRST) {
		struct arena *mem = r->mem;

		arena_reset(mem);
		memset(r, 0, offsetof(struct http_req, head.field));
		r->mem = mem;
		h->spare[h->n_spare++] = r;
	} else {
		arena_free(r->mem);
		NOT_A_MORE(r, REQ_MAGIC);
		free(r);
	}
	http_unref(h);
}

void req_drop(struct http_req *r)
{
	struct service *s = r->http->service;

	req_free(r);
	service_release(s);
}

static void not_routed(struct http_req *r, int status, struct buf *allow)
{
	struct str methods = { allow->p, allow->n };

	if (status == 204 || status == 405)
		req_set(r, "Allow", methods);
	if (status == 204)
		http_reply(r, 204, NULL, NULL);
	else if (status == 405)
		http_refuse(r, 405, NULL, "This path has other methods.", NULL, 0);
	else if (status == 404)
		http_refuse(r, 404, NULL, "There is no such path.", NULL, 0);
	else
		http_refuse(r, 400, NULL, "The path is not percent-encoded UTF-8.", NULL, 0);
}

static void peer_name(struct http_req *r)
{
	memcpy(r->peer, r->conn->peer, sizeof(r->peer));
	if (!r->conn->trusted)
		return;
	/* Each proxy adds its client at the end: the last one that is not ours is the client. */
	for (size_t i = r->head.n_fields; i-- > 0;) {
		struct str list = r->head.field[i].value;

		if (!str_eq_fold(r->head.field[i].name, STR("x-forwarded-for")))
			continue;
		while (list.n > 0) {
			const char *comma = memrchr(list.p, ',', list.n);
			struct str one = list;
			struct in6_addr a;

			list.n = comma != NULL ? (size_t)(comma - list.p) : 0;
			if (comma != NULL)
				one = (struct str){ comma + 1, one.n - list.n - 1 };
			if (!addr_parse(str_trim(one), &a))
				return;         /* what stands before it nobody vouches for */
			addr_text(&a, r->peer);
			if (!cidrs_have(&r->http->trusted, &a))
				return;
		}
	}
}

void req_head(struct http_req *r, struct str text)
{
	struct buf allow = BUF(256);
	const char *why = "";
	int status = http_head_parse(text, &r->head, &why);

	if (status != 0) {
		http_count(status == 431 ? WHY_HEAD_SIZE : WHY_MALFORMED);
		http_refuse(r, status, NULL, why, NULL, 0);     /* not complete: closes */
		return;
	}
	r->complete = !r->head.chunked && r->head.length == 0;
	peer_name(r);
	status = paths_match(r->http, r, &allow);
	if (status != 0) {
		not_routed(r, status, &allow);
	} else if (service_draining(r->http->service) && !r->http->limits.while_draining) {
		http_count(WHY_DRAINING);
		http_refuse(r, 503, "DRAINING", "This process is stopping; another one answers.", NULL, 0);
	} else if (r->head.length > r->path->route->max_body) {
		http_count(WHY_BODY_SIZE);
		http_refuse(r, 413, NULL, "The body is too large.", NULL, 0);
	} else {
		int max_ms = r->path->route->max_ms;

		r->body.max = r->path->route->max_body;
		conn_due(r->conn, r->began_mono_ms + (max_ms > 0 ? max_ms : 10000));
		if ((r->path->route->auth & ~(unsigned)HTTP_SIGNED) != 0)
			req_key(r);
		else
			req_admitted(r);
	}
	buf_clear(&allow);
}

void req_admitted(struct http_req *r)
{
	conn_go_on(r->conn);
}

bool req_body_room(struct http_req *r)
{
	struct http *h = r->http;

	h->body_bytes += r->body.n - r->body_charged;
	r->body_charged = r->body.n;
	if (h->body_bytes <= h->limits.body_bytes)
		return true;
	http_count(WHY_BODY_MEMORY);
	http_refuse(r, 503, NULL, "Too many bodies are being received at the moment.", NULL, 0);
	return false;
}

static bool is_json(const struct http_req *r)
{
	size_t n;
	struct str rest, type = http_head_field(&r->head, "content-type", &n);

	return n == 0 || str_eq_fold(str_trim(str_cut(type, ';', &rest)), STR("application/json"));
}

static void *out_struct(struct http_req *r, size_t size)
{
	return arena_alloc(r->mem, size > 0 ? size : 1);
}

void req_run(struct http_req *r)
{
	const struct http_route *route = r->path->route;
	struct err err = { 0 };
	int ret = 0;

	r->state = REQ_RUNNING;
	if (route->query != NULL) {
		void *q = out_struct(r, route->query_size);

		ret = query_decode(r->head.query, route->query, q, r->mem, &err);
		r->query_struct = q;
	}
	if (ret == 0 && route->body != NULL && !is_json(r)) {
		http_refuse(r, 400, NULL, "Content-Type must be application/json.", NULL, 0);
		return;
	}
	if (ret == 0 && route->body != NULL && !route->by_hand) {
		void *b = out_struct(r, route->body_size);

		ret = (route->known ? js_decode_known : js_decode)(http_raw(r), route->body, b, r->mem, &err);
		r->body_struct = b;
	}
	if (ret != 0)
		http_fail(r, &err);
	else
		route->handle(r, r->http->arg);
}

/* The client is told; the checker or handler goes on and answers nobody. */
void req_late(struct http_req *r)
{
	struct http_req *stand_in = req_new(r->conn);

	stand_in->began_us = r->began_us;
	stand_in->head.keep_alive = false;
	stand_in->is_head = r->is_head;
	stand_in->path = r->path;
	r->conn->req = stand_in;
	r->conn = NULL;
	http_refuse(stand_in, 503, "LATE", "The answer did not come in time; the request may have been done.",
	            NULL, 0);
}

/* --- what a handler asks ------------------------------------------------------------------ */

const void *http_body(const struct http_req *r) { return r->body_struct; }
const void *http_query(const struct http_req *r) { return r->query_struct; }
struct str http_raw(const struct http_req *r) { return r->body.n > 0 ? (struct str){ r->body.p, r->body.n } : STR(""); }
struct str http_method(const struct http_req *r) { return r->head.method; }
struct str http_peer(const struct http_req *r) { return str_of(r->peer); }
int64_t http_key_id(const struct http_req *r) { return r->key_id; }
bool http_left(const struct http_req *r) { return r->conn == NULL; }
struct arena *http_mem(const struct http_req *r) { return r->mem; }

struct str http_header(const struct http_req *r, const char *name)
{
	size_t n;

	return http_head_field(&r->head, name, &n);
}

struct str http_path(const struct http_req *r, const char *name)
{
	struct str wanted = str_of(name);

	for (unsigned i = 0; i < r->path->n; i++)
		if (r->path->open[i] && str_eq(r->path->segment[i], wanted))
			return r->param[i];
	ASSERT(wanted.p == NULL);               /* the route has no such parameter */
	return STR_NONE;
}

int http_path_int(struct http_req *r, const char *name, int64_t *ret, struct err *err)
{
	struct str text = http_path(r, name);

	if (str_int(text, 1, INT64_MAX, ret) != 0)
		return err_set(err, -EINVAL, "%s: is not a number above 0", name);
	return 0;
}

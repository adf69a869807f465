/* http_route.c - which row of the table a request means.
 *
 * Paths are compared as decoded segments.  Where a literal and a {parameter} both fit, the
 * literal wins, whatever the order of the table: rows are sorted once. */
#include "http_int.h"
#include "url.h"

static struct http_path path_cut(const struct http_route *route, unsigned index)
{
	struct http_path p = { .route = route, .index = index };
	struct str rest = str_of(route->path);

	ASSERT(rest.n > 0 && rest.p[0] == '/');
	ASSERT(route->max_body <= HTTP_BODY_MAX && (route->body == NULL || route->max_body > 0));
	ASSERT(http_token_ok(str_of(route->method)) && route->handle != NULL && route->summary != NULL);
	rest.p++, rest.n--;
	while (rest.n > 0) {
		struct str s = str_cut(rest, '/', &rest);

		ASSERT(s.n > 0 && p.n < HTTP_SEGMENTS);
		if (s.p[0] == '{') {
			ASSERT(s.n > 2 && s.p[s.n - 1] == '}');
			p.open[p.n] = true;
			s = (struct str){ s.p + 1, s.n - 2 };
		}
		p.segment[p.n++] = s;
	}
	return p;
}

static int more_exact(const void *a, const void *b)
{
	const struct http_path *x = a, *y = b;

	for (unsigned i = 0; i < x->n && i < y->n; i++)
		if (x->open[i] != y->open[i])
			return x->open[i] ? 1 : -1;
	return x->index < y->index ? -1 : 1;
}

static bool same_row(const struct http_path *x, const struct http_path *y)
{
	if (x->n != y->n || strcmp(x->route->method, y->route->method) != 0)
		return false;
	for (unsigned i = 0; i < x->n; i++)
		if (x->open[i] != y->open[i] || (!x->open[i] && !str_eq(x->segment[i], y->segment[i])))
			return false;
	return true;
}

struct http_path *paths_new(const struct http_route *routes, unsigned *ret_n)
{
	unsigned n = 0;
	struct http_path *paths;

	while (routes[n].method != NULL)
		n++;
	paths = XNEW_N(struct http_path, n + 1);
	for (unsigned i = 0; i < n; i++)
		paths[i] = path_cut(&routes[i], i);
	if (n > 1)
		qsort(paths, n, sizeof(*paths), more_exact);
	for (unsigned i = 0; i < n; i++)
		for (unsigned j = 0; j < i; j++)
			ASSERT(!same_row(&paths[i], &paths[j]));
	*ret_n = n;
	return paths;
}

/* 0; 400: no text; 404: dots, empty or too many segments - no row has such a path. */
static int cut(struct http_req *r, struct str *segment, unsigned *ret_n)
{
	struct str rest = r->head.path;
	unsigned n = 0;

	rest.p++, rest.n--;
	if (rest.n > 0 && rest.p[rest.n - 1] == '/')
		return 404;
	while (rest.n > 0) {
		struct str s = str_cut(rest, '/', &rest);

		if (n == HTTP_SEGMENTS || s.n == 0)
			return 404;
		if (memchr(s.p, '%', s.n) != NULL && url_decode(s, false, r->mem, &s) != 0)
			return 400;
		if (str_eq(s, STR(".")) || str_eq(s, STR("..")))
			return 404;
		segment[n++] = s;
	}
	*ret_n = n;
	return 0;
}

static bool fits(const struct http_path *p, const struct str *segment, unsigned n)
{
	if (p->n != n)
		return false;
	for (unsigned i = 0; i < n; i++)
		if (!p->open[i] && !str_eq(p->segment[i], segment[i]))
			return false;
	return true;
}

static void allow_add(struct buf *allow, const char *method)
{
	struct str list = { allow->p, allow->n }, m = str_of(method);

	while (list.n > 0)
		if (str_eq(str_trim(str_cut(list, ',', &list)), m))
			return;
	buf_printf(allow, "%s%s", allow->n > 0 ? ", " : "", method);
	if (strcmp(method, "GET") == 0)
		allow_add(allow, "HEAD");
}

int paths_match(const struct http *h, struct http_req *r, struct buf *allow)
{
	struct str segment[HTTP_SEGMENTS], method = r->head.method;
	bool head = str_eq(method, STR("HEAD")), options = str_eq(method, STR("OPTIONS"));
	const struct http_path *instead = NULL;         /* the GET that answers a HEAD */
	unsigned n = 0;
	int status;

	r->is_head = head;
	if (str_eq(r->head.path, STR("*"))) {
		buf_add(allow, STR("DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"));
		return 204;
	}
	status = cut(r, segment, &n);
	if (status != 0)
		return status;
	for (unsigned i = 0; i < h->n_paths && r->path == NULL; i++) {
		const struct http_path *p = &h->paths[i];

		if (!fits(p, segment, n))
			continue;
		allow_add(allow, p->route->method);
		if (str_eq(method, str_of(p->route->method)))
			r->path = p;
		else if (head && instead == NULL && strcmp(p->route->method, "GET") == 0)
			instead = p;
	}
	if (r->path == NULL)
		r->path = instead;
	if (r->path != NULL) {
		for (unsigned i = 0; i < n; i++)
			r->param[i] = segment[i];
		return 0;
	}
	if (allow->n == 0)
		return 404;
	allow_add(allow, "OPTIONS");
	return options ? 204 : 405;
}

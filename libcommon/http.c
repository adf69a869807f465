/* http.c - the listener: opening, counting, closing. */
#include <sys/socket.h>
#include <unistd.h>

#include <event2/listener.h>
#include <event2/util.h>

#include "http_int.h"
#include "log.h"

enum { BACKLOG = 512, ACCEPT_PAUSE_MS = 500, CLASSES = 5 };

union address { struct sockaddr sa; struct sockaddr_in in; struct sockaddr_in6 in6; };

static const char *const why_names[WHYS] = {
	[WHY_HEAD_LATE] = "head_late", [WHY_BODY_LATE] = "body_late", [WHY_SEND_LATE] = "send_late",
	[WHY_CONNS] = "connections", [WHY_PER_ADDR] = "per_address", [WHY_MALFORMED] = "malformed",
	[WHY_HEAD_SIZE] = "head_size", [WHY_BODY_SIZE] = "body_size", [WHY_BODY_MEMORY] = "body_memory",
	[WHY_KEY] = "key", [WHY_DRAINING] = "draining", [WHY_LATE_ANSWER] = "late_answer",
};
static const char *const class_names[CLASSES] = { "1xx", "2xx", "3xx", "4xx", "5xx" };

METRIC_BY(answers, METRIC_COUNTER, "waddle_http_answers_total", "Requests answered, by class of status.",
          "class", class_names);
METRIC_BY(refused, METRIC_COUNTER, "waddle_http_refused_total",
          "Requests and connections refused or dropped by the server itself.", "why", why_names);
METRIC(took, METRIC_HISTOGRAM, "waddle_http_request_seconds", "From the first byte to the answer.");
METRIC(conns, METRIC_GAUGE, "waddle_http_connections", "Connections that are open.");

/* Its rows are known when a listener opens; they stay, like every counter, until the process ends.
 * Named after the service: waddle_router_http_requests_total. */
static char by_route_name[96];
static struct metric by_route = { by_route_name, "Requests answered, by route and class of status.", METRIC_COUNTER,
                                  "route", NULL, NULL, 0, { { "code", class_names, CLASSES }, { 0 } } };

struct metric *const http_metrics[] = { &answers, &refused, &took, &conns, &by_route, NULL };

void http_count(enum http_why why) { metric_add(&refused, why, 1); }
void http_conns(int by) { metric_add(&conns, 0, (uint64_t)(int64_t)by); }

void http_observe(const struct http_req *r, int status)
{
	unsigned kind = (unsigned)status / 100 - 1, row = r->path != NULL ? r->path->index : r->http->n_paths;

	metric_add(&answers, kind, 1);
	metric_add(&by_route, r->http->route_cells[row] + kind, 1);
	metric_observe_us(&took, 0, clock_exact_us() - r->began_us);
}

/* The first cell of "POST /router/events": one for each class follows. */
static unsigned route_row(const char *method, const char *path)
{
	static char **values;
	unsigned n = by_route.n_cells / CLASSES;
	char *name = NULL;
	int len = asprintf(&name, "%s%s%s", method, *path != '\0' ? " " : "", path);

	ASSERT(len > 0);
	for (unsigned i = 0; i < n; i++)
		if (strcmp(values[i], name) == 0) {
			free(name);
			return i * CLASSES;
		}
	values = xgrow(values, n + 1, sizeof(*values));
	values[n] = name;
	by_route.values = (const char *const *)values;
	by_route.cells = xgrow(by_route.cells, (size_t)(n + 1) * CLASSES, sizeof(*by_route.cells));
	memset(&by_route.cells[n * CLASSES], 0, CLASSES * sizeof(*by_route.cells));
	by_route.n_cells += CLASSES;
	return n * CLASSES;
}

static void routes_metric(struct http *h)
{
	if (by_route_name[0] == '\0') {
		(void)snprintf(by_route_name, sizeof(by_route_name), "waddle_%s_http_requests_total", h->service->name);
		for (char *c = by_route_name; *c != '\0'; c++)
			if (*c == '-')
				*c = '_';
	}
	h->route_cells = XNEW_N(unsigned, h->n_paths + 1);
	for (unsigned i = 0; i < h->n_paths; i++)
		h->route_cells[i] = route_row(h->routes[i].method, h->routes[i].path);
	h->route_cells[h->n_paths] = route_row("none", "");
}

/* --- the table of routes itself, as a route ------------------------------------------------ */

static void openapi(struct http_req *r, void *arg)
{
	struct http *h = r->http;

	(void)arg;
	if (h->openapi.n == 0)
		http_openapi(h->routes, h->service->name, &h->openapi);
	http_reply_raw(r, 200, "application/json", (struct str){ h->openapi.p, h->openapi.n });
}

static const struct http_route openapi_route = {
	.method = "GET", .path = "/openapi.json", .handle = openapi, .summary = "This description.",
};

static struct http_route *with_openapi(const struct http_route *routes)
{
	size_t n = 0;
	struct http_route *all;

	while (routes[n].method != NULL)
		n++;
	all = XNEW_N(struct http_route, n + 2);
	memcpy(all, routes, n * sizeof(*all));
	all[n] = openapi_route;
	return all;
}

/* --- the listener -------------------------------------------------------------------------- */

static void accepted(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *sa, int n, void *arg)
{
	(void)l, (void)n;
	conn_accept(arg, fd, sa);
}

static void accept_again(void *arg)
{
	struct http *h = arg;

	evconnlistener_enable(h->listener);
}

/* Out of descriptors: the queue of the kernel keeps them while idle connections go. */
static void accept_failed(struct evconnlistener *l, void *arg)
{
	struct http *h = arg;
	int e = EVUTIL_SOCKET_ERROR();

	log_rarely(10000, L_ERROR, NULL, "http_accept", "cannot accept: %s",
	           evutil_socket_error_to_string(e));
	evconnlistener_disable(l);
	timer_start(h->service, &h->accept_again, ACCEPT_PAUSE_MS, accept_again, h);
}

/* "127.0.0.1:8000", "[::]:8000".  (evutil_parse_sockaddr_port() does not know port 0.) */
static int parse_listen(struct str where, union address *ret, socklen_t *ret_len)
{
	const char *colon = where.n > 0 ? memrchr(where.p, ':', where.n) : NULL;
	struct str host, port;
	struct in6_addr a;
	int64_t number;

	if (colon == NULL)
		return -EINVAL;
	host = (struct str){ where.p, (size_t)(colon - where.p) };
	port = (struct str){ colon + 1, where.n - host.n - 1 };
	if (host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
		host = (struct str){ host.p + 1, host.n - 2 };
	else if (memchr(host.p, ':', host.n) != NULL)
		return -EINVAL;
	if (!addr_parse(host, &a) || str_int(port, 0, 65535, &number) != 0)
		return -EINVAL;
	*ret = (union address){ 0 };
	if (addr_is_v4(&a)) {
		ret->in.sin_family = AF_INET;
		ret->in.sin_port = htons((uint16_t)number);
		memcpy(&ret->in.sin_addr, &a.s6_addr[12], 4);
		*ret_len = sizeof(ret->in);
	} else {
		ret->in6.sin6_family = AF_INET6;
		ret->in6.sin6_port = htons((uint16_t)number);
		ret->in6.sin6_addr = a;
		*ret_len = sizeof(ret->in6);
	}
	return 0;
}

static int listen_on(struct http *h, struct str where, struct err *err)
{
	int fd, on = 1, off = 0;
	union address a;
	socklen_t n;

	if (parse_listen(where, &a, &n) != 0)
		return err_set(err, -EINVAL, "not an address to listen on: " STR_FMT, STR_ARG(where));
	fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(err, "listen on " STR_FMT, STR_ARG(where));
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (a.sa.sa_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, &a.sa, n) != 0 || listen(fd, BACKLOG) != 0 || getsockname(fd, &a.sa, &n) != 0) {
		int r = err_sys(err, "listen on " STR_FMT, STR_ARG(where));

		close(fd);
		return r;
	}
	h->port = ntohs(a.sa.sa_family == AF_INET6 ? a.in6.sin6_port : a.in.sin_port);
	h->listener = evconnlistener_new(h->service->loop, accepted, h,
	                                 LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	ASSERT(h->listener != NULL);
	evconnlistener_set_error_cb(h->listener, accept_failed);
	return 0;
}

static void defaults(struct http_limits *l)
{
	l->max_conns = l->max_conns > 0 ? l->max_conns : 1024;
	l->max_per_addr = l->max_per_addr > 0 ? l->max_per_addr : 32;
	l->header_bytes = l->header_bytes > 0 ? l->header_bytes : 8192;
	l->idle_ms = l->idle_ms > 0 ? l->idle_ms : 30000;
	l->head_ms = l->head_ms > 0 ? l->head_ms : 10000;
	l->send_ms = l->send_ms > 0 ? l->send_ms : 10000;
	l->body_bytes = l->body_bytes > 0 ? l->body_bytes : 64u << 20;
}

struct http *http_new(struct service *s, const struct http_route *routes, void *arg, struct http_limits limits)
{
	struct http *h = XNEW(struct http);

	MAKE_A(h, HTTP_MAGIC);
	h->refs = 1;
	h->service = s;
	h->limits = limits;
	defaults(&h->limits);
	h->routes = with_openapi(routes);
	h->arg = arg;
	h->paths = paths_new(h->routes, &h->n_paths);
	list_init(&h->idle);
	list_init(&h->busy);
	h->scratch = BUF(HTTP_REPLY_MAX);
	h->openapi = BUF(HTTP_REPLY_MAX);
	routes_metric(h);
	return h;
}

struct http *http_open(struct service *s, struct str listen, const struct http_route *routes, void *arg,
                       struct http_limits limits, struct err *err)
{
	struct http *h = http_new(s, routes, arg, limits);

	if (listen_on(h, listen, err) != 0) {
		http_close(h);
		return NULL;
	}
	return h;
}

int http_port(const struct http *h) { return h->port; }

int http_trust(struct http *h, struct str cidrs, struct err *err)
{
	struct cidrs l;
	int r = cidrs_parse(cidrs, &l, err);

	if (r != 0)
		return err_wrap(err, "trusted proxies");
	cidrs_clear(&h->trusted);
	h->trusted = l;
	return 0;
}

/* --- end ----------------------------------------------------------------------------------- */

void http_ref(struct http *h) { h->refs++; }

void http_unref(struct http *h)
{
	IS_A(h, HTTP_MAGIC);
	if (--h->refs > 0)
		return;
	ASSERT(h->closing && h->n_conns == 0);
	while (h->n_spare > 0) {
		struct http_req *r = h->spare[--h->n_spare];

		arena_free(r->mem);
		free(r);
	}
	free(h->route_cells);
	free(h->paths);
	free(h->routes);
	hash_clear(&h->addrs);
	cidrs_clear(&h->trusted);
	buf_clear(&h->scratch);
	buf_clear(&h->openapi);
	NOT_A_MORE(h, HTTP_MAGIC);
	free(h);
}

void http_close(struct http *h)
{
	if (h == NULL)
		return;
	IS_A(h, HTTP_MAGIC);
	ASSERT(!h->closing);
	h->closing = true;
	timer_stop(&h->accept_again);
	if (h->listener != NULL)
		evconnlistener_free(h->listener);
	h->listener = NULL;
	conn_close_idle(h);
	http_unref(h);
}

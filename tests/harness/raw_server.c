/* raw_server.c - see raw_server.h. */
#include "raw_server.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <sys/socket.h>
#include <unistd.h>

static void conn_free(void *arg)
{
	struct raw_conn *c = arg;

	event_free(c->ev);
	event_free(c->wr);
	buf_clear(&c->in);
	buf_clear(&c->out);
	free(c);
}

static void drop(struct raw_conn *c, bool reset)
{
	if (c->fd < 0)
		return;
	if (reset) {
		struct linger l = { 1, 0 };

		ASSERT(setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)) == 0);
	}
	event_del(c->ev);
	event_del(c->wr);
	close(c->fd);
	c->fd = -1;
	c->server->open--;
	list_del(&c->node);
	service_later(c->server->s, conn_free, c);
}

static void flush(struct raw_conn *c)
{
	while (c->fd >= 0 && c->sent < c->out.n) {
		ssize_t n = send(c->fd, c->out.p + c->sent, c->out.n - c->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			event_add(c->wr, NULL);
			return;
		}
		if (n < 0) {
			drop(c, false);
			return;
		}
		c->sent += (size_t)n;
	}
	if (c->fd >= 0 && c->closing)
		drop(c, false);
}

static void writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	flush(arg);
}

static void readable(evutil_socket_t fd, short what, void *arg)
{
	struct raw_conn *c = arg;
	char bytes[65536];
	ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

	(void)what;
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		drop(c, false);
		return;
	}
	buf_add(&c->in, (struct str){ bytes, (size_t)n });
	ASSERT(c->in.failed == 0);
	c->server->serve(c->server, c);
}

static void accepted(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *sa, int n, void *arg)
{
	struct raw_server *srv = arg;
	struct raw_conn *c = XNEW(struct raw_conn);

	(void)l, (void)sa, (void)n;
	*c = (struct raw_conn){ .server = srv, .fd = fd, .in = BUF(256u << 20), .out = BUF(256u << 20),
		                .nth = ++srv->accepted };
	c->ev = event_new(srv->s->loop, fd, EV_READ | EV_PERSIST, readable, c);
	c->wr = event_new(srv->s->loop, fd, EV_WRITE, writable, c);
	ASSERT(c->ev != NULL && c->wr != NULL);
	event_add(c->ev, NULL);
	list_init(&c->node);
	list_add_tail(&srv->conns, &c->node);
	srv->open++;
	if (srv->open > srv->most_open)
		srv->most_open = srv->open;
	srv->serve(srv, c);
}

void raw_server_open(struct raw_server *srv, struct service *s,
                     void (*serve)(struct raw_server *, struct raw_conn *), void *user)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	socklen_t n = sizeof(at);

	*srv = (struct raw_server){ .s = s, .serve = serve, .user = user };
	list_init(&srv->conns);
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	srv->listener =
		evconnlistener_new_bind(s->loop, accepted, srv, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC,
	                                128, (struct sockaddr *)&at, sizeof(at));
	ASSERT(srv->listener != NULL);
	ASSERT(getsockname(evconnlistener_get_fd(srv->listener), (struct sockaddr *)&at, &n) == 0);
	srv->port = ntohs(at.sin_port);
}

void raw_server_close(struct raw_server *srv)
{
	if (srv->listener == NULL)
		return;
	evconnlistener_free(srv->listener);
	srv->listener = NULL;
	LIST_EACH(n, tmp, &srv->conns)
		drop(CONTAINER_OF(n, struct raw_conn, node), false);
}

void raw_say(struct raw_conn *c, struct str bytes)
{
	buf_add(&c->out, bytes);
	ASSERT(c->out.failed == 0);
	flush(c);
}

void raw_end(struct raw_conn *c)
{
	c->closing = true;
	flush(c);
}

void raw_cut(struct raw_conn *c) { drop(c, true); }

void raw_deafen(struct raw_conn *c)
{
	c->deaf = true;
	event_del(c->ev);
}

int raw_requests(const struct raw_conn *c, struct str *last)
{
	struct str rest = { c->in.p, c->in.n };
	int n = 0;

	for (;;) {
		const char *end = rest.n > 0 ? memmem(rest.p, rest.n, "\r\n\r\n", 4) : NULL;
		const char *length;
		int64_t body = 0;
		size_t head;

		if (end == NULL)
			return n;
		head = (size_t)(end - rest.p) + 4;
		length = memmem(rest.p, head, "Content-Length: ", 16);
		if (length != NULL) {
			const char *eol = memchr(length, '\r', (size_t)(rest.p + head - length));

			ASSERT(str_int((struct str){ length + 16, (size_t)(eol - length) - 16 }, 0, INT64_MAX,
			               &body) == 0);
		}
		if (rest.n - head < (size_t)body)
			return n;
		*last = (struct str){ rest.p, head + (size_t)body };
		rest = (struct str){ rest.p + last->n, rest.n - last->n };
		n++;
	}
}

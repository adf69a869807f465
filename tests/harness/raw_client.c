/* raw_client.c - see raw_client.h. */
#include "raw_client.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WAIT_MS = 5000 };

static void incoming(evutil_socket_t fd, short what, void *arg)
{
	struct raw_client *c = arg;
	char bytes[65536];
	ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

	(void)what;
	if (n > 0) {
		buf_add(&c->in, (struct str){ bytes, (size_t)n });
		ASSERT(c->in.failed == 0);
		return;
	}
	if (n < 0 && errno == EAGAIN)
		return;
	c->eof = true;
	c->reset = n < 0;
	event_del(c->ev);
}

void raw_from_fd(struct raw_client *c, struct service *s, int fd)
{
	*c = (struct raw_client){ .s = s, .fd = fd, .in = BUF(256u << 20) };
	ASSERT(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
	c->ev = event_new(s->loop, fd, EV_READ | EV_PERSIST, incoming, c);
	ASSERT(c->ev != NULL);
	event_add(c->ev, NULL);
}

void raw_open(struct raw_client *c, struct service *s, int port, bool deaf)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), small = 4096;

	ASSERT(fd >= 0);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (deaf)
		ASSERT(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)) == 0);
	ASSERT(connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
	ASSERT(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)) == 0);
	raw_from_fd(c, s, fd);
	c->deaf = deaf;
	if (deaf)
		event_del(c->ev);
}

void raw_listen(struct raw_client *c)
{
	c->deaf = false;
	event_add(c->ev, NULL);
}

void raw_close(struct raw_client *c)
{
	if (c->ev == NULL)
		return;
	event_free(c->ev);
	c->ev = NULL;
	close(c->fd);
	buf_clear(&c->in);
}

void raw_reset(struct raw_client *c)
{
	struct linger l = { 1, 0 };

	ASSERT(setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)) == 0);
	raw_close(c);
}

void raw_finish(struct raw_client *c) { ASSERT(shutdown(c->fd, SHUT_WR) == 0); }

size_t raw_send(struct raw_client *c, struct str bytes)
{
	ssize_t n = send(c->fd, bytes.p, bytes.n, MSG_NOSIGNAL);

	return n > 0 ? (size_t)n : 0;
}

/* --- reading answers ----------------------------------------------------------------------- */

static struct str field(struct str head, const char *name)
{
	while (head.n > 0) {
		struct str value, n = str_cut(str_cut(head, '\n', &head), ':', &value);

		if (str_eq_fold(n, str_of(name)))
			return str_trim(value);
	}
	return STR_NONE;
}

/* Cuts a complete answer off *rest. */
static bool next_answer(const struct raw_client *c, struct str *rest, struct str *head, struct str *body)
{
	const char *end = rest->n > 0 ? memmem(rest->p, rest->n, "\r\n\r\n", 4) : NULL;
	int64_t length = 0;
	bool bare;

	if (end == NULL)
		return false;
	*head = (struct str){ rest->p, (size_t)(end - rest->p) };
	*body = (struct str){ end + 4, rest->n - head->n - 4 };
	bare = str_starts(*head, STR("HTTP/1.1 1")) || str_starts(*head, STR("HTTP/1.1 204")) ||
	       str_starts(*head, STR("HTTP/1.1 304"));
	if (!bare && str_int(field(*head, "content-length"), 0, INT64_MAX, &length) != 0)
		length = (int64_t)body->n + !c->eof;
	if ((int64_t)body->n < length)
		return false;
	*rest = (struct str){ body->p + length, body->n - (size_t)length };
	body->n = (size_t)length;
	return true;
}

static bool nth_answer(const struct raw_client *c, int nth, struct str *head, struct str *body)
{
	struct str rest = { c->in.p, c->in.n };

	for (int i = 0; i <= nth; i++)
		if (!next_answer(c, &rest, head, body))
			return false;
	return true;
}

struct wait { struct raw_client *c; int wanted; };

static int how_many(const struct raw_client *c)
{
	struct str rest = { c->in.p, c->in.n }, head, body;
	int n = 0;

	while (next_answer(c, &rest, &head, &body))
		n++;
	return n;
}

static bool enough(void *arg)
{
	struct wait *w = arg;

	return w->c->eof || how_many(w->c) >= w->wanted;
}

static bool ended(void *arg) { return ((struct raw_client *)arg)->eof; }

int raw_answers(struct raw_client *c, int wanted)
{
	struct wait w = { c, wanted };

	return service_run(c->s, enough, &w, WAIT_MS) ? how_many(c) : 0;
}

bool raw_ended(struct raw_client *c) { return service_run(c->s, ended, c, WAIT_MS); }

int raw_status(const struct raw_client *c, int nth)
{
	struct str head, body;
	int64_t status;

	if (!nth_answer(c, nth, &head, &body) || head.n < 12 ||
	    str_int((struct str){ head.p + 9, 3 }, 100, 599, &status) != 0)
		return 0;
	return (int)status;
}

struct str raw_body(const struct raw_client *c, int nth)
{
	struct str head, body;

	return nth_answer(c, nth, &head, &body) ? body : STR_NONE;
}

struct str raw_header(const struct raw_client *c, int nth, const char *name)
{
	struct str head, body;

	return nth_answer(c, nth, &head, &body) ? field(head, name) : STR_NONE;
}

int raw_ask(struct raw_client *c, struct service *s, int port, const char *bytes)
{
	raw_open(c, s, port, false);
	(void)raw_send(c, str_of(bytes));
	return raw_answers(c, 1) > 0 ? raw_status(c, 0) : 0;
}

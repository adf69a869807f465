/* http_conn.c - one client: bytes in, requests cut out of them one at a time, answers out.
 *
 *      IDLE -> HEAD -> BODY -> WORK -> IDLE ...        each may go to LINGER or DEAD
 *
 * One buffer of header_bytes serves a connection for life; a body moves on to its request as it
 * comes.  Answers to pipelined requests are gathered and sent together; while 16 KiB wait to be
 * sent nothing more is read.  Sockets are used directly and not through bufferevents: the
 * deadline, the limit of what is read and the moment of sending are ours (docs/decisions.md). */
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http_int.h"

enum { TURN_REQUESTS = 16, TURN_READS = 8, OUT_PAUSE = 16 << 10, OUT_KEEP = 64 << 10,
       LINGER_MS = 2000, LINGER_BYTES = 4 << 20, SENT_BYTES_PER_MS = 16 };

static void readable(evutil_socket_t fd, short what, void *arg);
static void writable(evutil_socket_t fd, short what, void *arg);
static void due(void *arg);
static void again(void *arg);

/* --- life --------------------------------------------------------------------------------- */

static void conn_free(void *arg)
{
	struct http_conn *c = arg;

	NOT_A_MORE(c, CONN_MAGIC);
	event_free(c->read);
	event_free(c->write);
	close(c->fd);
	buf_clear(&c->out);
	http_unref(c->http);
	free(c);
}

static void release_holds(struct http_conn *c)
{
	for (; c->holds > 0; c->holds--)
		service_release(c->http->service);
}

static void conn_move(struct http_conn *c, enum conn_state to)
{
	static const unsigned may[CONN_STATES] = {
		[CONN_IDLE] = 1u << CONN_HEAD | 1u << CONN_LINGER | 1u << CONN_DEAD,
		[CONN_HEAD] = 1u << CONN_BODY | 1u << CONN_WORK | 1u << CONN_IDLE | 1u << CONN_LINGER |
		              1u << CONN_DEAD,
		[CONN_BODY] = 1u << CONN_WORK | 1u << CONN_IDLE | 1u << CONN_LINGER | 1u << CONN_DEAD,
		[CONN_WORK] = 1u << CONN_BODY | 1u << CONN_IDLE | 1u << CONN_LINGER | 1u << CONN_DEAD,
		[CONN_LINGER] = 1u << CONN_DEAD,
	};

	ASSERT(may[c->state] & 1u << to);
	c->state = to;
	list_move(to == CONN_IDLE || to == CONN_LINGER ? &c->http->idle : &c->http->busy, &c->node);
}

static void conn_die(struct http_conn *c)
{
	struct http_req *r = c->req;

	if (c->state == CONN_DEAD)
		return;
	conn_move(c, CONN_DEAD);
	list_del(&c->node);
	timer_stop(&c->timer);
	event_del(c->read);
	event_del(c->write);
	release_holds(c);
	c->http->n_conns--;
	http_conns(-1);
	if (!c->trusted)
		(void)addr_add(&c->http->addrs, &c->addr, -1);
	if (r != NULL) {
		c->req = NULL;
		r->conn = NULL;
		if (r->state == REQ_READING)
			req_drop(r);            /* else the checker or the handler still has it */
	}
	service_later(c->http->service, conn_free, c);
}

/* One timer for both deadlines.  It is moved only when it would come too late; one that comes
 * early looks again: a busy connection costs one timer in 10 s and not two per request. */
static void watch(struct http_conn *c)
{
	int64_t now = clock_mono_ms(), at = c->due_mono_ms;

	if (c->send_due_mono_ms != 0 && c->send_due_mono_ms < at)
		at = c->send_due_mono_ms;
	if (!timer_running(&c->timer) || c->timer.due_mono_ms > at)
		timer_start(c->http->service, &c->timer, at > now ? at - now : 0, due, c);
}

void conn_due(struct http_conn *c, int64_t at_mono_ms)
{
	c->due_mono_ms = at_mono_ms;
	watch(c);
}

static bool make_room(struct http *h, const struct in6_addr *same_network)
{
	LIST_EACH(n, tmp, &h->idle) {
		struct http_conn *old = CONTAINER_OF(n, struct http_conn, node);

		if (old->state == CONN_IDLE && old->out.n > 0)
			continue;               /* its answer is on the way */
		if (same_network == NULL || (!old->trusted && addr_same(same_network, &old->addr))) {
			conn_die(old);
			return true;
		}
	}
	return false;
}

void conn_accept(struct http *h, int fd, const struct sockaddr *sa)
{
	struct in6_addr addr;
	bool trusted;
	struct http_conn *c;

	addr_of(sa, &addr);
	trusted = cidrs_have(&h->trusted, &addr);
	if (h->n_conns >= h->limits.max_conns && !make_room(h, NULL)) {
		http_count(WHY_CONNS);
		close(fd);
		return;
	}
	if (!trusted && addr_add(&h->addrs, &addr, 1) > h->limits.max_per_addr && !make_room(h, &addr)) {
		(void)addr_add(&h->addrs, &addr, -1);
		http_count(WHY_PER_ADDR);
		close(fd);
		return;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	c = xnew_(1, sizeof(*c) + (size_t)h->limits.header_bytes);
	MAKE_A(c, CONN_MAGIC);
	c->http = h;
	http_ref(h);
	c->fd = fd;
	c->addr = addr;
	c->trusted = trusted;
	addr_text(&addr, c->peer);
	c->out = BUF(2 * (size_t)HTTP_REPLY_MAX);
	c->read = event_new(h->service->loop, fd, EV_READ | EV_PERSIST, readable, c);
	c->write = event_new(h->service->loop, fd, EV_WRITE | EV_PERSIST, writable, c);
	ASSERT(c->read != NULL && c->write != NULL);
	event_add(c->read, NULL);
	list_init(&c->node);
	list_add_tail(&h->idle, &c->node);
	h->n_conns++;
	http_conns(1);
	conn_due(c, clock_mono_ms() + h->limits.idle_ms);
}

/* --- out ---------------------------------------------------------------------------------- */

static void linger(struct http_conn *c)
{
	if (c->eof) {
		conn_die(c);
		return;
	}
	conn_move(c, CONN_LINGER);
	c->holds++;                             /* the end of the process would be a reset, too */
	service_hold(c->http->service);
	(void)shutdown(c->fd, SHUT_WR);
	c->in_n = 0;
	event_add(c->read, NULL);
	conn_due(c, clock_mono_ms() + LINGER_MS);
}

/* Sends what it can.  Afterwards either all is out, or the connection waits to be writable. */
static void flush(struct http_conn *c)
{
	while (c->sent < c->out.n) {
		ssize_t n = send(c->fd, c->out.p + c->sent, c->out.n - c->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			if (c->send_due_mono_ms == 0) {
				event_add(c->write, NULL);
				c->send_due_mono_ms = clock_mono_ms() + c->http->limits.send_ms +
				                      (int64_t)((c->out.n - c->sent) / SENT_BYTES_PER_MS);
				watch(c);
			}
			return;
		}
		if (n < 0) {
			conn_die(c);            /* the client left: no error */
			return;
		}
		c->sent += (size_t)n;
	}
	if (c->send_due_mono_ms != 0)
		event_del(c->write);
	c->send_due_mono_ms = 0;
	c->sent = 0;
	if (c->out.cap > OUT_KEEP)
		buf_clear(&c->out);
	c->out.n = 0;
	release_holds(c);
	if (c->closing)
		linger(c);
}

/* --- in ----------------------------------------------------------------------------------- */

static void eat(struct http_conn *c, size_t n)
{
	memmove(c->in, c->in + n, c->in_n - n);
	c->in_n -= n;
	c->in_seen = 0;
}

/* The answer to what cannot be understood; the connection has no next request. */
static void give_up(struct http_conn *c, int status, const char *sentence, enum http_why why)
{
	http_count(why);
	c->closing = true;
	http_refuse(c->req, status, NULL, sentence, NULL, 0);
}

static void head_begins(struct http_conn *c)
{
	conn_move(c, CONN_HEAD);
	c->blank = false;
	c->req = req_new(c);
	conn_due(c, clock_mono_ms() + c->http->limits.head_ms);
}

/* Each step_*() returns false when it needs more bytes or the request is somebody else's. */
static bool step_head(struct http_conn *c)
{
	ptrdiff_t n = http_head_end(c->in, c->in_n, &c->in_seen);
	struct str text;

	if (n < 0) {
		give_up(c, 400, "The request has bytes that no HTTP/1.1 request has.", WHY_MALFORMED);
		return true;
	}
	if (n == 0) {
		if (c->in_n < (size_t)c->http->limits.header_bytes)
			return false;
		give_up(c, 431, "The headers are too large.", WHY_HEAD_SIZE);
		return true;
	}
	text = arena_str(c->req->mem, (struct str){ c->in, (size_t)n });
	ASSERT(text.p != NULL);
	eat(c, (size_t)n);
	req_head(c->req, text);
	return c->state != CONN_WORK;
}

static bool step_body(struct http_conn *c)
{
	struct http_req *r = c->req;
	size_t before = r->body.n;
	ptrdiff_t n;

	if (r->head.chunked) {
		n = http_chunks_feed(&r->chunks, c->in, c->in_n, &r->body);
	} else {
		n = (ptrdiff_t)(c->in_n < r->head.length - before ? c->in_n : r->head.length - before);
		buf_add(&r->body, (struct str){ c->in, (size_t)n });
	}
	if (n == -EMSGSIZE) {
		give_up(c, 413, "The body is too large.", WHY_BODY_SIZE);
		return true;
	}
	if (n < 0) {
		give_up(c, 400, "The chunks of the body are malformed.", WHY_MALFORMED);
		return true;
	}
	eat(c, (size_t)n);
	if (!req_body_room(r))
		return true;
	if (r->head.chunked ? !r->chunks.done : r->body.n < r->head.length)
		return false;
	r->complete = true;
	conn_move(c, CONN_WORK);
	req_run(r);
	return c->state != CONN_WORK;
}

static bool step_idle(struct http_conn *c)
{
	if (c->closing)
		return false;
	if (!c->blank && c->in_n >= 2 && c->in[0] == '\r' && c->in[1] == '\n') {
		eat(c, 2);                      /* RFC 9112 2.2: one empty line before a request */
		c->blank = true;
	}
	if (c->in_n == 0 || (!c->blank && c->in_n == 1 && c->in[0] == '\r'))
		return false;
	head_begins(c);
	return true;
}

static bool step(struct http_conn *c)
{
	switch (c->state) {
	case CONN_IDLE:
		return step_idle(c);
	case CONN_HEAD:
		return step_head(c);
	case CONN_BODY:
		return step_body(c);
	case CONN_WORK:
	case CONN_LINGER:
	case CONN_DEAD:
	case CONN_STATES:
		break;
	}
	return false;
}

static void conn_again(struct http_conn *c)
{
	if (c->again)
		return;
	c->again = true;
	service_later(c->http->service, again, c);
}

/* Cuts requests out of what is there.  Bounded, so that one client cannot keep the loop. */
static void conn_process(struct http_conn *c)
{
	int requests = 0;
	bool more = true;

	c->processing = true;
	while (more && !c->closing && c->out.n < OUT_PAUSE && requests < TURN_REQUESTS) {
		requests += c->state == CONN_IDLE;
		more = step(c);
	}
	c->processing = false;
	if (c->state == CONN_DEAD)
		return;
	if (c->out.n > 0)
		flush(c);
	if (c->state == CONN_DEAD || c->state == CONN_LINGER)
		return;
	if (c->eof && c->out.n == 0 && !more && c->state != CONN_WORK) {
		conn_die(c);                    /* nothing more comes, nothing is owed */
		return;
	}
	if (c->in_n == (size_t)c->http->limits.header_bytes || c->eof || c->out.n > 0)
		event_del(c->read);
	else
		event_add(c->read, NULL);
	if (more && c->out.n == 0)
		conn_again(c);                  /* the rest in the next turn */
}

static void discard(struct http_conn *c)
{
	for (int i = 0; i < TURN_READS; i++) {
		ssize_t n = recv(c->fd, c->in, (size_t)c->http->limits.header_bytes, 0);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n > 0)
			c->discarded += (size_t)n;
		if (n <= 0 || c->discarded > LINGER_BYTES) {
			conn_die(c);
			return;
		}
	}
}

static void readable(evutil_socket_t fd, short what, void *arg)
{
	struct http_conn *c = arg;

	(void)fd, (void)what;
	IS_A(c, CONN_MAGIC);
	if (c->state == CONN_DEAD)
		return;
	if (c->state == CONN_LINGER) {
		discard(c);
		return;
	}
	for (int i = 0; i < TURN_READS; i++) {
		size_t room = (size_t)c->http->limits.header_bytes - c->in_n;
		ssize_t n = room > 0 && !c->eof ? recv(c->fd, c->in + c->in_n, room, 0) : -1;

		if (room == 0 || c->eof)
			errno = EAGAIN;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN) {
			conn_die(c);
			return;
		}
		if (n == 0)
			c->eof = true;
		if (n > 0)
			c->in_n += (size_t)n;
		if (c->state != CONN_WORK || c->eof)
			conn_process(c);
		else if (c->in_n == (size_t)c->http->limits.header_bytes)
			event_del(c->read);
		/* A short read has emptied the socket; asking again would only tell so. */
		if (n <= 0 || (size_t)n < room || (c->state != CONN_HEAD && c->state != CONN_BODY))
			return;
	}
}

static void again(void *arg)
{
	struct http_conn *c = arg;

	IS_A(c, CONN_MAGIC);
	c->again = false;
	if (c->state != CONN_DEAD && c->state != CONN_LINGER && c->out.n == 0)
		conn_process(c);
}

static void writable(evutil_socket_t fd, short what, void *arg)
{
	struct http_conn *c = arg;

	(void)fd, (void)what;
	IS_A(c, CONN_MAGIC);
	if (c->state == CONN_DEAD)
		return;
	flush(c);
	if (c->state == CONN_DEAD || c->state == CONN_LINGER || c->out.n > 0)
		return;
	if (c->state == CONN_IDLE)
		conn_due(c, clock_mono_ms() + c->http->limits.idle_ms);
	conn_process(c);
}

/* --- what the request tells ---------------------------------------------------------------- */

void conn_work(struct http_conn *c) { conn_move(c, CONN_WORK); }

void conn_go_on(struct http_conn *c)
{
	struct http_req *r = c->req;

	conn_move(c, CONN_BODY);
	if (r->head.expects && (r->head.chunked || r->head.length > 0) && c->in_n == 0)
		buf_add(&c->out, STR("HTTP/1.1 100 Continue\r\n\r\n"));
	if (!c->processing)
		conn_again(c);
}

bool conn_ends(struct http_conn *c)
{
	const struct http *h = c->http;

	/* An answer before the end of its request: what follows would be read as the next one. */
	if (!c->req->complete || !c->req->head.keep_alive || h->closing ||
	    (service_draining(h->service) && !h->limits.while_draining))
		c->closing = true;
	return c->closing;
}

void conn_answered(struct http_conn *c)
{
	ASSERT(c->out.failed == 0);
	c->holds++;
	conn_move(c, CONN_IDLE);
	conn_due(c, clock_mono_ms() + c->http->limits.idle_ms);
	if (c->processing)
		return;
	flush(c);
	if (c->state == CONN_IDLE && c->out.n == 0)
		conn_again(c);                  /* never the next handler inside this one's reply */
}

static void due(void *arg)
{
	struct http_conn *c = arg;

	IS_A(c, CONN_MAGIC);
	if (c->send_due_mono_ms != 0 && c->send_due_mono_ms <= clock_mono_ms()) {
		http_count(WHY_SEND_LATE);
		conn_die(c);
		return;
	}
	if (c->due_mono_ms > clock_mono_ms() || (c->state == CONN_IDLE && c->out.n > 0)) {
		if (c->due_mono_ms <= clock_mono_ms())
			c->due_mono_ms = INT64_MAX;     /* idle, but the last answer is still going out */
		watch(c);
		return;
	}
	switch (c->state) {
	case CONN_HEAD:
		http_count(WHY_HEAD_LATE);
		conn_die(c);
		break;
	case CONN_BODY:
		give_up(c, 408, "The body did not arrive in time.", WHY_BODY_LATE);
		break;
	case CONN_WORK:
		http_count(WHY_LATE_ANSWER);
		c->closing = true;
		req_late(c->req);
		break;
	case CONN_IDLE:
	case CONN_LINGER:
	case CONN_DEAD:
	case CONN_STATES:
		conn_die(c);
		break;
	}
}

void conn_close_idle(struct http *h)
{
	LIST_EACH(n, tmp, &h->idle) {
		struct http_conn *c = CONTAINER_OF(n, struct http_conn, node);

		if (c->state == CONN_IDLE && c->out.n > 0)
			c->closing = true;
		else
			conn_die(c);
	}
}

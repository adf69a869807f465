/* redis.c - one connection: pause, resolve, connect, greet, up, and again for ever.
 *
 * hiredis frees its context by itself when the peer goes, and calls every pending callback with
 * NULL before that, as it does from inside redisAsyncFree(): the context is forgotten first, so
 * that whoever is called back finds Redis away. */
#include "redis.h"

#include "clock.h"
#include "list.h"
#include "log.h"
#include "metrics.h"
#include "service.h"
#include "url.h"

#include <arpa/inet.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <event2/util.h>
#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <netdb.h>

enum { MAX_COMMANDS = 1024, MAX_BYTES = 8 << 20, MAX_WORDS = 1100, MAX_REPLY = 1100 };
enum { TIMEOUT_MS = 50, CONNECT_MS = 1000, BACKOFF_MS = 100, BACKOFF_MAX_MS = 10000 };

enum state { AWAY, RESOLVING, CONNECTING, UP };

struct redis {
	unsigned magic;
	struct service *s;
	struct redis_conf conf;
	struct arena *mem;
	struct str user, password, host;        /* with a NUL behind */
	int port, database;
	enum state state;
	redisAsyncContext *ac;
	struct evdns_base *dns;
	struct resolving *resolving;
	int resolves;                   /* evdns has not called back */
	struct list sent;               /* of struct command, oldest first */
	size_t n_sent, bytes;
	unsigned tries;
	int greetings;                  /* answers of the greeting that are still to come */
	const struct command *late;     /* was past its deadline one turn ago */
	struct timer timer;             /* AWAY: pause; later: deadline */
	bool closing;
};
enum { REDIS_MAGIC = 0x4ed15 };

struct command {
	struct list node;
	struct redis *r;
	redis_done *done;
	void *arg;
	size_t bytes;
	int64_t due_ms;
};

struct resolving { struct redis *r; struct evdns_getaddrinfo_request *request; bool wanted; };

/* The loop's side of hiredis; its own adapter leaks in 0.14. */
struct hooks { redisAsyncContext *ac; struct event *reading, *writing; };

static const char *const results[] = { "ok", "error", "timeout", "lost", "away", "full" };
enum { OK, ERROR, TIMEOUT, LOST, REFUSED_AWAY, REFUSED_FULL };
METRIC_BY(commands, METRIC_COUNTER, "waddle_redis_commands_total", "Commands to Redis by what became of them.",
	  "result", results);
METRIC(connected, METRIC_GAUGE, "waddle_redis_up", "1 while Redis takes commands.");
struct metric *const redis_metrics[] = { &commands, &connected, NULL };

/* --- the loop ------------------------------------------------------------------------------- */

static void readable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	redisAsyncHandleRead(((struct hooks *)arg)->ac);
}

static void writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	redisAsyncHandleWrite(((struct hooks *)arg)->ac);
}

static void add_read(void *arg) { event_add(((struct hooks *)arg)->reading, NULL); }
static void del_read(void *arg) { event_del(((struct hooks *)arg)->reading); }
static void add_write(void *arg) { event_add(((struct hooks *)arg)->writing, NULL); }
static void del_write(void *arg) { event_del(((struct hooks *)arg)->writing); }

static void unhook(void *arg)
{
	struct hooks *h = arg;

	event_free(h->reading);
	event_free(h->writing);
	free(h);
}

static void hook(redisAsyncContext *ac, struct event_base *loop)
{
	struct hooks *h = XNEW(struct hooks);

	h->ac = ac;
	h->reading = event_new(loop, ac->c.fd, EV_READ | EV_PERSIST, readable, h);
	h->writing = event_new(loop, ac->c.fd, EV_WRITE | EV_PERSIST, writable, h);
	ASSERT(h->reading != NULL && h->writing != NULL);
	ac->ev.data = h;
	ac->ev.addRead = add_read;
	ac->ev.delRead = del_read;
	ac->ev.addWrite = add_write;
	ac->ev.delWrite = del_write;
	ac->ev.cleanup = unhook;
}

/* --- down ----------------------------------------------------------------------------------- */

static void connect_start(void *arg);

/* The context is not ours any more when this is called. */
static void away(struct redis *r, const char *why)
{
	bool was_up = r->state == UP;

	r->state = AWAY;
	r->ac = NULL;
	r->greetings = 0;
	r->late = NULL;
	timer_stop(&r->timer);
	if (r->closing)
		return;
	log_rarely(10000, L_WARN, NULL, "redis_away", STR_FMT ":%d: %s", STR_ARG(r->host), r->port, why);
	if (was_up)
		service_ready(r->s, "redis", false);
	metric_set(&connected, 0, 0);
	timer_start(r->s, &r->timer, clock_backoff_ms(r->tries++, BACKOFF_MS, BACKOFF_MAX_MS), connect_start, r);
}

static void hang_up(struct redis *r, const char *why)
{
	redisAsyncContext *ac = r->ac;

	if (r->resolving != NULL) {
		r->resolving->wanted = false;
		evdns_getaddrinfo_cancel(r->resolving->request);        /* resolved() comes later */
		r->resolving = NULL;
	}
	away(r, why);
	if (ac != NULL)
		redisAsyncFree(ac);
}

/* --- commands ------------------------------------------------------------------------------- */

static void deadline(void *arg)
{
	struct redis *r = arg;
	struct command *first;
	int64_t left;

	if (r->state == RESOLVING || r->state == CONNECTING) {
		hang_up(r, "no connection in time");
		return;
	}
	if (list_empty(&r->sent))
		return;
	first = CONTAINER_OF(r->sent.next, struct command, node);
	left = first->due_ms - clock_mono_ms();
	if (left > 0) {
		timer_start(r->s, &r->timer, left, deadline, r);
	} else if (r->late != first) {
		/* If this process was held up, the answer may be here, unread: one more turn. */
		r->late = first;
		timer_start(r->s, &r->timer, 1, deadline, r);
	} else {
		metric_add(&commands, TIMEOUT, r->n_sent);
		hang_up(r, "no answer in time");
	}
}

static void answer(struct command *c, const redisReply *reply)
{
	struct str values[MAX_REPLY];
	struct redis_answer a = { .ok = reply->type != REDIS_REPLY_ERROR, .values = values };

	if (!a.ok)
		log_rarely(10000, L_WARN, NULL, "redis_refused", "%.*s", (int)(reply->len < 200 ? reply->len : 200),
			   reply->str);
	if (reply->type == REDIS_REPLY_INTEGER)
		a.n = reply->integer;
	if (reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS)
		values[a.n_values++] = (struct str){ reply->str, (size_t)reply->len };
	if (reply->type == REDIS_REPLY_NIL)
		values[a.n_values++] = STR_NONE;
	for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < (size_t)reply->elements && i < MAX_REPLY; i++) {
		const redisReply *one = reply->element[i];

		values[a.n_values++] = one->type == REDIS_REPLY_STRING ?
					       (struct str){ one->str, (size_t)one->len } :
					       STR_NONE;
	}
	metric_add(&commands, a.ok ? OK : ERROR, 1);
	if (c->done != NULL)
		c->done(c->arg, &a);
}

static void replied(redisAsyncContext *ac, void *reply, void *arg)
{
	struct command *c = arg;
	struct redis *r = c->r;

	(void)ac;
	IS_A(r, REDIS_MAGIC);
	list_del(&c->node);
	r->n_sent--;
	r->bytes -= c->bytes;
	if (r->late == c)
		r->late = NULL;
	if (reply != NULL) {
		if (r->greetings == 0)
			r->tries = 0;           /* one that only greets is not well */
		answer(c, reply);
	} else {
		metric_add(&commands, LOST, 1);
		if (c->done != NULL)
			c->done(c->arg, NULL);
	}
	free(c);
}

static int send_words(struct redis *r, const struct str *words, size_t n, redis_done *done, void *arg)
{
	const char *argv[MAX_WORDS];
	size_t lens[MAX_WORDS], bytes = 0;
	int timeout_ms = r->state == UP ? r->conf.timeout_ms : CONNECT_MS;
	struct command *c;

	ASSERT(n > 0 && n <= MAX_WORDS);
	for (size_t i = 0; i < n; i++) {
		argv[i] = words[i].n > 0 ? words[i].p : "";
		lens[i] = words[i].n;
		bytes += words[i].n;
	}
	if (r->n_sent >= MAX_COMMANDS || r->bytes + bytes > MAX_BYTES)
		return -EAGAIN;
	c = XNEW(struct command);
	*c = (struct command){ .r = r, .done = done, .arg = arg, .bytes = bytes,
			       .due_ms = clock_mono_ms() + timeout_ms };
	if (redisAsyncCommandArgv(r->ac, replied, c, (int)n, argv, lens) != REDIS_OK) {
		free(c);
		return -ENOTCONN;
	}
	list_init(&c->node);
	list_add_tail(&r->sent, &c->node);
	r->n_sent++;
	r->bytes += bytes;
	if (!timer_running(&r->timer))
		timer_start(r->s, &r->timer, timeout_ms, deadline, r);
	return 0;
}

int redis_send(struct redis *r, const struct str *words, size_t n, redis_done *done, void *arg)
{
	int e;

	IS_A(r, REDIS_MAGIC);
	e = r->state == UP && !r->closing ? send_words(r, words, n, done, arg) : -ENOTCONN;
	if (e != 0)
		metric_add(&commands, e == -EAGAIN ? REFUSED_FULL : REFUSED_AWAY, 1);
	return e;
}

bool redis_up(const struct redis *r) { return r->state == UP && !r->closing; }

/* --- up ------------------------------------------------------------------------------------- */

static void refused(void *arg)
{
	struct redis *r = arg;

	if (r->state == CONNECTING && !r->closing)
		hang_up(r, "it does not let us in");
}

static void greeted(void *arg, const struct redis_answer *a)
{
	struct redis *r = arg;

	if (a == NULL || r->state != CONNECTING)
		return;                         /* the connection is gone, and its end was told */
	if (!a->ok) {
		service_later(r->s, refused, r);
		return;
	}
	if (--r->greetings > 0)
		return;
	r->state = UP;
	timer_stop(&r->timer);
	log_info(NULL, "redis_up", STR_FMT ":%d", STR_ARG(r->host), r->port);
	metric_set(&connected, 0, 1);
	service_ready(r->s, "redis", true);
	if (r->conf.up != NULL)
		r->conf.up(r->conf.arg);
}

static void greet(struct redis *r)
{
	struct str words[3] = { STR("AUTH") };
	char number[16];
	size_t n = 1;
	int e = 0;

	timer_stop(&r->timer);          /* each command has its own deadline */
	r->greetings = 1 + (r->password.n > 0) + (r->database > 0);
	if (r->user.n > 0)
		words[n++] = r->user;
	if (r->password.n > 0) {
		words[n++] = r->password;
		e = send_words(r, words, n, greeted, r);
	}
	if (e == 0 && r->database > 0) {
		(void)snprintf(number, sizeof number, "%d", r->database);
		words[0] = STR("SELECT");
		words[1] = str_of(number);
		e = send_words(r, words, 2, greeted, r);
	}
	words[0] = STR("PING");
	if (e == 0)
		e = send_words(r, words, 1, greeted, r);
	if (e != 0)
		service_later(r->s, refused, r);
}

/* hiredis frees the context after a failure; r->ac may be another one by now, or none. */
static void connected_or_not(const redisAsyncContext *ac, int status)
{
	struct redis *r = ac->data;

	if (r == NULL || r->ac != ac)
		return;
	if (status == REDIS_OK)
		greet(r);
	else
		away(r, ac->errstr != NULL ? ac->errstr : "refused");
}

/* A context that we freed ourselves is not r->ac any more. */
static void disconnected(const redisAsyncContext *ac, int status)
{
	struct redis *r = ac->data;

	(void)status;
	if (r->ac == ac)
		away(r, ac->errstr != NULL && ac->errstr[0] != '\0' ? ac->errstr : "closed");
}

static void connect_to(struct redis *r, const char *addr)
{
	r->state = CONNECTING;
	r->ac = redisAsyncConnect(addr, r->port);
	if (r->ac == NULL || r->ac->err != 0) {
		hang_up(r, r->ac != NULL ? r->ac->errstr : "no memory");
		return;
	}
	r->ac->data = r;
	hook(r->ac, r->s->loop);
	redisAsyncSetDisconnectCallback(r->ac, disconnected);
	redisAsyncSetConnectCallback(r->ac, connected_or_not);
}

static void resolved(int result, struct evutil_addrinfo *all, void *arg)
{
	struct resolving *w = arg;
	struct redis *r = w->r;
	char addr[INET6_ADDRSTRLEN] = "";

	r->resolves--;
	if (w->wanted) {
		r->resolving = NULL;
		if (all != NULL)
			getnameinfo(all->ai_addr, all->ai_addrlen, addr, sizeof addr, NULL, 0, NI_NUMERICHOST);
		if (addr[0] != '\0')
			connect_to(r, addr);
		else
			hang_up(r, evutil_gai_strerror(result));
	}
	if (all != NULL)
		evutil_freeaddrinfo(all);
	free(w);
}

static void resolve(struct redis *r)
{
	const struct evutil_addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	struct resolving *w = XNEW(struct resolving);
	struct evdns_getaddrinfo_request *request;

	if (r->dns == NULL)
		r->dns = evdns_base_new(r->s->loop, EVDNS_BASE_INITIALIZE_NAMESERVERS |
							    EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	ASSERT(r->dns != NULL);
	r->state = RESOLVING;
	r->resolving = w;
	r->resolves++;
	w->r = r;
	w->wanted = true;
	/* NULL: resolved() has run already, from /etc/hosts, and w is gone */
	request = evdns_getaddrinfo(r->dns, r->host.p, NULL, &hints, resolved, w);
	if (request != NULL)
		w->request = request;
}

static void connect_start(void *arg)
{
	struct redis *r = arg;
	unsigned char bin[16];

	timer_start(r->s, &r->timer, CONNECT_MS, deadline, r);
	if (inet_pton(AF_INET, r->host.p, bin) == 1 || inet_pton(AF_INET6, r->host.p, bin) == 1)
		connect_to(r, r->host.p);
	else
		resolve(r);
}

/* --- open and close ------------------------------------------------------------------------- */

static int read_url(struct redis *r, struct str url, struct err *err)
{
	struct str rest, at, database, port = STR_NONE, host;
	const char *end;
	int64_t n = 0;

	r->port = 6379;
	if (!str_starts(url, STR("redis://")))
		return err_set(err, -EINVAL, "REDIS_URL: does not begin with redis://");
	rest = (struct str){ url.p + 8, url.n - 8 };
	rest = str_cut(rest, '/', &database);
	end = memrchr(rest.p, '@', rest.n);
	if (end != NULL) {
		at = (struct str){ rest.p, (size_t)(end - rest.p) };
		rest = (struct str){ end + 1, rest.n - at.n - 1 };
		at = str_cut(at, ':', &host);
		if (url_decode(at, false, r->mem, &r->user) != 0 || url_decode(host, false, r->mem, &r->password) != 0)
			return err_set(err, -EINVAL, "REDIS_URL: user and password are not percent-encoded");
	}
	if (rest.n > 0 && rest.p[0] == '[') {
		host = str_cut((struct str){ rest.p + 1, rest.n - 1 }, ']', &port);
		if (port.n > 0)
			(void)str_cut(port, ':', &port);
	} else {
		host = str_cut(rest, ':', &port);
	}
	if (host.n == 0 || host.n > 253)
		return err_set(err, -EINVAL, "REDIS_URL: no host");
	if (port.n > 0 && str_int(port, 1, 65535, &n) != 0)
		return err_set(err, -EINVAL, "REDIS_URL: not a port");
	r->port = port.n > 0 ? (int)n : 6379;
	if (database.n > 0 && str_int(database, 0, 1023, &n) != 0)
		return err_set(err, -EINVAL, "REDIS_URL: not the number of a database");
	r->database = database.n > 0 ? (int)n : 0;
	r->host = arena_str(r->mem, host);
	return 0;
}

struct redis *redis_open(struct service *s, const struct redis_conf *conf, struct err *err)
{
	struct redis *r = XNEW(struct redis);

	MAKE_A(r, REDIS_MAGIC);
	r->s = s;
	r->conf = *conf;
	r->mem = arena_new(2048, 16384);
	list_init(&r->sent);
	if (r->conf.timeout_ms == 0)
		r->conf.timeout_ms = TIMEOUT_MS;
	if (read_url(r, conf->url, err) != 0) {
		arena_free(r->mem);
		free(r);
		return NULL;
	}
	service_ready(s, "redis", false);
	timer_start(s, &r->timer, 0, connect_start, r);
	return r;
}

/* What evdns has cancelled is answered by the loop. */
static void finish(void *arg)
{
	struct redis *r = arg;

	for (int i = 0; i < 100 && r->resolves > 0; i++)
		event_base_loop(r->s->loop, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	if (r->dns != NULL)
		evdns_base_free(r->dns, 0);
	arena_free(r->mem);
	NOT_A_MORE(r, REDIS_MAGIC);
	free(r);
}

void redis_close(struct redis *r)
{
	if (r == NULL)
		return;
	IS_A(r, REDIS_MAGIC);
	r->closing = true;
	hang_up(r, "closing");
	timer_stop(&r->timer);
	service_later(r->s, finish, r);
}

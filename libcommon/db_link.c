/* db_link.c - one connection's life: pause, resolve, connect, up, down, and again for ever.
 *
 * One host per attempt, in a shuffled order, so that every attempt has a deadline of its own:
 * libpq ignores connect_timeout when polled, and blocks in getaddrinfo() when given a name.
 * A reader wants a standby on the first round through its hosts and takes anybody on the second.
 * Always a new PGconn: PQreset keeps too much, and may get the same socket number back. */
#include "db_private.h"

#include <arpa/inet.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <event2/util.h>

#include "log.h"

struct resolver { struct event_base *loop; struct evdns_base *dns; int pending; };
struct resolving {
	struct db_link *link;                   /* NULL: not wanted any more */
	struct resolver *resolver;
	struct evdns_getaddrinfo_request *request;
};

static void connect_start(struct db_link *l, const char *addr);

static void notice(void *arg, const PGresult *res)
{
	const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);

	(void)arg;
	log_debug(NULL, "db_notice", "%s", text != NULL ? text : "");
}

static void events_free(struct db_link *l)
{
	if (l->reading != NULL)
		event_free(l->reading);
	if (l->writing != NULL)
		event_free(l->writing);
	l->reading = l->writing = NULL;
}

static void close_pg(struct db_link *l)
{
	timer_stop(&l->timer);
	events_free(l);
	if (l->resolving != NULL) {
		l->resolving->link = NULL;
		evdns_getaddrinfo_cancel(l->resolving->request);        /* resolved() comes later */
	}
	l->resolving = NULL;
	if (l->pg != NULL)
		PQfinish(l->pg);
	l->pg = NULL;
	l->state = LINK_OFF;
}

static unsigned host_now(const struct db_link *l)
{
	return l->order[l->host % (unsigned)l->url->n_hosts];
}

static void try_next(void *arg);

/* The next host at once; a pause after all of them have refused. */
static void failed(struct db_link *l, const struct err *err)
{
	unsigned n = (unsigned)l->url->n_hosts, rounds = l->role == DB_ROLE_READ ? 2 : 1;

	log_rarely(5000, L_WARN, NULL, "db_connect_failed", "%s:%s: %s", l->url->hosts[host_now(l)].host,
	           l->url->hosts[host_now(l)].port, err->text);
	l->why = *err;
	close_pg(l);
	l->host++;
	if (l->host % (n * rounds) == 0)
		l->tries++;
	metric_add(&db_reconnects, l->role, 1);
	timer_start(l->db->service, &l->timer,
	            l->host % (n * rounds) == 0 ? clock_backoff_ms(l->tries, DB_BACKOFF_MS, DB_BACKOFF_MAX_MS) : 0,
	            try_next, l);
}

static void too_late(void *arg)
{
	struct db_link *l = arg;
	struct err err;

	err_set(&err, -ETIMEDOUT, "no connection after %d ms", DB_CONNECT_MS);
	failed(l, &err);
}

static void ready_to_read(evutil_socket_t fd, short what, void *arg)
{
	struct db_link *l = arg;

	(void)fd, (void)what;
	l->input(l);
}

static void ready_to_write(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	link_flush(arg);
}

static void is_up(struct db_link *l)
{
	int fd = PQsocket(l->pg);

	timer_stop(&l->timer);
	events_free(l);
	l->reading = event_new(l->db->service->loop, fd, EV_READ | EV_PERSIST, ready_to_read, l);
	l->writing = event_new(l->db->service->loop, fd, EV_WRITE, ready_to_write, l);
	ASSERT(l->reading != NULL && l->writing != NULL);
	event_add(l->reading, NULL);
	l->state = LINK_UP;
	if (PQsetnonblocking(l->pg, 1) != 0 || (l->pipeline && PQenterPipelineMode(l->pg) != 1)) {
		struct err err;

		err_of_conn(&err, l->pg);
		failed(l, &err);
		return;
	}
	log_debug(NULL, "db_connected", "%s:%s as %s", PQhost(l->pg), PQport(l->pg), PQuser(l->pg));
	l->up(l);
}

static void poll_again(evutil_socket_t fd, short what, void *arg);

static void polled(struct db_link *l, PostgresPollingStatusType next)
{
	struct err err;

	switch (next) {
	case PGRES_POLLING_OK:
		is_up(l);
		return;
	case PGRES_POLLING_READING:
	case PGRES_POLLING_WRITING:
		/* The socket may be another one after every poll. */
		events_free(l);
		l->reading = event_new(l->db->service->loop, PQsocket(l->pg),
		                       next == PGRES_POLLING_READING ? EV_READ : EV_WRITE, poll_again, l);
		ASSERT(l->reading != NULL);
		event_add(l->reading, NULL);
		return;
	case PGRES_POLLING_FAILED:
	case PGRES_POLLING_ACTIVE:
		break;
	}
	err_of_conn(&err, l->pg);
	failed(l, &err);
}

static void poll_again(evutil_socket_t fd, short what, void *arg)
{
	struct db_link *l = arg;

	(void)fd, (void)what;
	polled(l, PQconnectPoll(l->pg));
}

static void connect_start(struct db_link *l, const char *addr)
{
	const char *key[DB_OPTS], *value[DB_OPTS];
	const struct db_url *url = l->url;
	bool first_round = l->host / (unsigned)url->n_hosts % 2 == 0;
	int n = 0;

	for (; n < url->n_opts; n++) {
		key[n] = url->key[n];
		value[n] = url->value[n];
	}
	key[n] = "host", value[n++] = url->hosts[host_now(l)].host;
	key[n] = "hostaddr", value[n++] = addr;
	key[n] = "port", value[n++] = url->hosts[host_now(l)].port;
	key[n] = "target_session_attrs";
	value[n++] = l->role == DB_ROLE_WRITE ? "read-write" : first_round && l->db->has_standby ? "standby" : "any";
	ASSERT(n < DB_OPTS);
	key[n] = value[n] = NULL;
	l->state = LINK_CONNECTING;
	l->pg = PQconnectStartParams(key, value, 0);
	ASSERT(l->pg != NULL);
	if (PQstatus(l->pg) != CONNECTION_BAD)
		PQsetNoticeReceiver(l->pg, notice, NULL);
	polled(l, PQstatus(l->pg) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING);
}

static void resolved(int result, struct evutil_addrinfo *all, void *arg)
{
	struct resolving *r = arg;
	struct db_link *l = r->link;
	char addr[INET6_ADDRSTRLEN] = "";
	unsigned n = 0, pick;

	r->resolver->pending--;
	free(r);
	if (l == NULL) {
		if (all != NULL)
			evutil_freeaddrinfo(all);
		return;
	}
	l->resolving = NULL;
	for (const struct evutil_addrinfo *a = all; a != NULL; a = a->ai_next)
		n++;
	pick = n > 0 ? arc4random_uniform(n) : 0;
	for (const struct evutil_addrinfo *a = all; a != NULL; a = a->ai_next)
		if (pick-- == 0)
			getnameinfo(a->ai_addr, a->ai_addrlen, addr, sizeof(addr), NULL, 0, NI_NUMERICHOST);
	if (all != NULL)
		evutil_freeaddrinfo(all);
	if (addr[0] == '\0') {
		struct err err;

		err_set(&err, -EHOSTUNREACH, "cannot resolve: %s", evutil_gai_strerror(result));
		failed(l, &err);
	} else {
		connect_start(l, addr);
	}
}

static struct resolver *resolver(struct db *db)
{
	struct resolver *r = db->resolver;

	if (r != NULL)
		return r;
	r = db->resolver = XNEW(struct resolver);
	r->loop = db->service->loop;
	r->dns = evdns_base_new(r->loop, EVDNS_BASE_INITIALIZE_NAMESERVERS | EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	ASSERT(r->dns != NULL);
	return r;
}

/* What was cancelled is answered by the loop, and only then is its memory given back. */
static void finish(void *arg)
{
	struct resolver *r = arg;

	for (int i = 0; i < 100 && r->pending > 0; i++)
		event_base_loop(r->loop, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	evdns_base_free(r->dns, 0);
	free(r);
}

void resolver_free(struct resolver *r, struct service *s)
{
	if (r != NULL)
		service_later(s, finish, r);
}

static void resolve(struct db_link *l, const char *host)
{
	const struct evutil_addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	struct resolver *to = resolver(l->db);
	struct resolving *r = XNEW(struct resolving);
	struct evdns_getaddrinfo_request *request;

	l->state = LINK_RESOLVING;
	l->resolving = r;
	r->link = l;
	r->resolver = to;
	to->pending++;
	/* NULL: resolved() has run already, from /etc/hosts, and r is gone */
	request = evdns_getaddrinfo(to->dns, host, NULL, &hints, resolved, r);
	if (request != NULL)
		r->request = request;
}

static void try_next(void *arg)
{
	struct db_link *l = arg;
	const char *host = l->url->hosts[host_now(l)].host, *addr = l->url->hosts[host_now(l)].addr;
	unsigned char bin[16];

	timer_start(l->db->service, &l->timer, DB_CONNECT_MS, too_late, l);
	if (addr[0] != '\0' || host[0] == '\0' || host[0] == '/' || host[0] == '@') {
		connect_start(l, addr);
	} else if (inet_pton(AF_INET, host, bin) == 1 || inet_pton(AF_INET6, host, bin) == 1) {
		connect_start(l, host);
	} else {
		resolve(l, host);
	}
}

/* Fisher and Yates, inside out. */
static void shuffle(struct db_link *l)
{
	l->host = 0;
	for (unsigned i = 0; i < (unsigned)l->url->n_hosts; i++) {
		unsigned j = arc4random_uniform(i + 1);

		l->order[i] = l->order[j];
		l->order[j] = i;
	}
}

void link_init(struct db_link *l, struct db *db, const struct db_url *url, enum db_role role)
{
	l->db = db;
	l->url = url;
	l->role = role;
	shuffle(l);
}

void link_start(struct db_link *l)
{
	timer_start(l->db->service, &l->timer, 0, try_next, l);
}

void link_flush(struct db_link *l)
{
	struct err err;

	if (l->state != LINK_UP)
		return;
	switch (PQflush(l->pg)) {
	case 0:
		return;
	case 1:
		event_add(l->writing, NULL);    /* reading is always on: else both sides could wait */
		return;
	}
	err_of_conn(&err, l->pg);
	link_down(l, &err);
}

void link_down(struct db_link *l, const struct err *err)
{
	struct err why = *err;          /* may live in what we close */

	if (l->state == LINK_UP) {
		log_rarely(1000, L_WARN, NULL, "db_lost", "%s:%s: %s", l->url->hosts[host_now(l)].host,
		           l->url->hosts[host_now(l)].port, why.text);
		close_pg(l);
		metric_add(&db_reconnects, l->role, 1);
		shuffle(l);
		timer_start(l->db->service, &l->timer, clock_backoff_ms(l->tries++, DB_BACKOFF_MS, DB_BACKOFF_MAX_MS),
		            try_next, l);
		l->down(l, &why);
	}
}

void link_recycle(struct db_link *l)
{
	close_pg(l);
	shuffle(l);
	link_start(l);
}

void link_stop(struct db_link *l)
{
	close_pg(l);
}

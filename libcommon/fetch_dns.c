/* fetch_dns.c - names that came from users: resolved by us, judged whole, handed to curl as
 * addresses, so that there is no second look-up that could say something else. */
#include <sys/socket.h>

#include <event2/dns.h>
#include <event2/util.h>

#include "fetch_int.h"

enum { ADDRESSES = 16, RESOLVE_MAGIC = 0x52736c76 };

/* Lives until evdns has called back, which may be after the job gave up. */
struct resolve {
	unsigned                     magic;
	struct fetch_client         *client;
	struct fetch_job            *job;       /* NULL: nobody waits */
	struct evdns_getaddrinfo_request *request;
	bool                         starting;  /* the answer came before evdns_getaddrinfo() returned */
};

/* "+host:port:addr,addr": entries age, and the next try replaces them. */
static bool judge(struct fetch_job *j, const struct evutil_addrinfo *all, const char **why)
{
	struct buf b = BUF(2048);
	int n = 0;

	buf_printf(&b, "+" STR_FMT ":%u:", STR_ARG(j->parts.host), j->parts.port);
	for (; all != NULL; all = all->ai_next) {
		char text[INET6_ADDRSTRLEN];
		struct in6_addr a;

		addr_of(all->ai_addr, &a);
		if (!guard_addr(&j->client->guard, &a)) {
			*why = guard_reason_name(GUARD_ADDRESS);
			buf_clear(&b);
			return false;           /* any that is not public refuses the call */
		}
		addr_text(&a, text);
		if (n < ADDRESSES)
			buf_printf(&b, addr_is_v4(&a) ? "%s%s" : "%s[%s]", n++ > 0 ? "," : "", text);
	}
	buf_add(&b, (struct str){ "", 1 });
	curl_slist_free_all(j->addresses);
	j->addresses = b.failed == 0 && n > 0 ? curl_slist_append(NULL, b.p) : NULL;
	buf_clear(&b);
	ASSERT(j->addresses != NULL);
	return true;
}

static void resolved(int result, struct evutil_addrinfo *all, void *arg)
{
	struct resolve *r = arg;
	struct fetch_job *j = r->job;
	struct fetch_client *c = r->client;
	const char *why = NULL;

	IS_A(r, RESOLVE_MAGIC);
	c->n_resolves--;
	if (j != NULL) {
		j->resolve = NULL;
		if (result != 0)
			job_unsent(j, -EHOSTUNREACH, evutil_gai_strerror(result));
		else if (judge(j, all, &why))
			job_run(j);
		else
			job_fail(j, -EACCES, why);
	}
	if (all != NULL)
		evutil_freeaddrinfo(all);
	if (r->starting) {
		r->starting = false;            /* job_resolve() frees it */
	} else {
		NOT_A_MORE(r, RESOLVE_MAGIC);
		free(r);
	}
	fetch_maybe_free(c);
}

static bool literal(const struct fetch_job *j)
{
	struct in6_addr a;

	return addr_parse(j->parts.host, &a);   /* judged by guard_parts() and at connect time */
}

void job_resolve(struct fetch_job *j)
{
	struct evutil_addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
		                         .ai_protocol = IPPROTO_TCP };
	struct fetch_client *c = j->client;
	struct evdns_getaddrinfo_request *request;
	char host[256];
	struct resolve *r;

	if (literal(j)) {
		job_run(j);
		return;
	}
	if (c->dns == NULL)
		c->dns = evdns_base_new(c->service->loop, EVDNS_BASE_INITIALIZE_NAMESERVERS);
	if (c->dns == NULL) {
		job_unsent(j, -EHOSTUNREACH, "no name server is configured");
		return;
	}
	ASSERT(j->parts.host.n < sizeof(host));
	memcpy(host, j->parts.host.p, j->parts.host.n);
	host[j->parts.host.n] = '\0';
	r = XNEW(struct resolve);
	MAKE_A(r, RESOLVE_MAGIC);
	r->client = c;
	r->job = j;
	j->resolve = r;
	c->n_resolves++;
	r->starting = true;
	request = evdns_getaddrinfo(c->dns, host, NULL, &hints, resolved, r);
	if (!r->starting) {
		NOT_A_MORE(r, RESOLVE_MAGIC);
		free(r);
		return;
	}
	r->starting = false;
	r->request = request;
}

void job_unresolve(struct fetch_job *j)
{
	struct resolve *r = j->resolve;

	if (r == NULL)
		return;
	j->resolve = NULL;
	r->job = NULL;
	evdns_getaddrinfo_cancel(r->request);   /* resolved() comes all the same, later */
}

int fetch_dns(struct fetch_client *c, struct str server, struct err *err)
{
	char text[64];

	if (server.n == 0 || server.n >= sizeof(text))
		return err_set(err, -EINVAL, "not a name server: " STR_FMT, STR_ARG(server));
	memcpy(text, server.p, server.n);
	text[server.n] = '\0';
	dns_close(c);
	c->dns = evdns_base_new(c->service->loop, 0);
	ASSERT(c->dns != NULL);
	if (evdns_base_nameserver_ip_add(c->dns, text) != 0)
		return err_set(err, -EINVAL, "not a name server: %s", text);
	return 0;
}

void dns_close(struct fetch_client *c)
{
	if (c->dns != NULL)
		evdns_base_free(c->dns, 0);
	c->dns = NULL;
}

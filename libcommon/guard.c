/* guard.c - the table of what is not public, and the checks on a URL's text. */
#include "guard.h"

/* router.md 13; RFC 6890, 6666, 5737, 3849, 8215.  Networks with an address inside come first. */
static const struct { const char *net; int v4_at; } special[] = {
	{ "::ffff:0:0/96", 12 },        /* mapped */
	{ "::ffff:0:0:0/96", 12 },      /* translated, RFC 7915 */
	{ "64:ff9b::/96", 12 },         /* NAT64, RFC 6052 */
	{ "2002::/16", 2 },             /* 6to4 */
	{ "::/128", -1 }, { "::1/128", -1 },
	{ "::/96", 12 },                /* compatible */
	{ "fe80::/10", -1 }, { "fec0::/10", -1 }, { "fc00::/7", -1 }, { "ff00::/8", -1 },
	{ "100::/64", -1 }, { "2001:db8::/32", -1 }, { "3fff::/20", -1 }, { "2001:2::/48", -1 },
	{ "2001::/32", -1 }, { "2001:10::/28", -1 }, { "2001:20::/28", -1 },
	{ "64:ff9b:1::/48", -1 }, { "5f00::/16", -1 },
};
static const char *const special_v4[] = {
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
	"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
};

static struct cidr table[ARRAY_LEN(special)], table_v4[ARRAY_LEN(special_v4)];

static struct cidr net_of(const char *text)
{
	struct cidr c;
	int r = cidr_parse(str_of(text), &c, NULL);

	ASSERT(r == 0);
	return c;
}

static void tables_ready(void)
{
	static bool done;

	if (done)
		return;
	done = true;
	for (size_t i = 0; i < ARRAY_LEN(special); i++)
		table[i] = net_of(special[i].net);
	for (size_t i = 0; i < ARRAY_LEN(special_v4); i++)
		table_v4[i] = net_of(special_v4[i]);
}

static bool public_v4(const struct guard *g, const unsigned char v4[4])
{
	struct in6_addr a = { .s6_addr = { [10] = 0xff, [11] = 0xff } };

	memcpy(&a.s6_addr[12], v4, 4);
	if (cidrs_have(&g->allow, &a))
		return true;
	for (size_t i = 0; i < ARRAY_LEN(table_v4); i++)
		if (cidr_has(&table_v4[i], &a))
			return false;
	return true;
}

bool guard_addr(const struct guard *g, const struct in6_addr *a)
{
	tables_ready();
	if (cidrs_have(&g->allow, a))
		return true;
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (cidr_has(&table[i], a))
			return special[i].v4_at >= 0 && public_v4(g, &a->s6_addr[special[i].v4_at]);
	return true;
}

/* --- names --------------------------------------------------------------------------------- */

static bool ends_with(struct str s, struct str end)
{
	return s.n >= end.n && str_eq_fold((struct str){ s.p + s.n - end.n, end.n }, end);
}

static bool inside_name(struct str host)
{
	static const char *const names[] = { "localhost", "local", "internal", "cluster.local", "localdomain",
	                                     "home.arpa" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct str n = str_of(names[i]);

		if (str_eq_fold(host, n) || (ends_with(host, n) && host.p[host.n - n.n - 1] == '.'))
			return true;
	}
	return memchr(host.p, '.', host.n) == NULL;     /* a single label is a name of this network */
}

/* What inet_aton() and thereby many resolvers would read as a number: the last label is digits
 * or begins with 0x. */
static bool looks_like_number(struct str host)
{
	const char *dot = memrchr(host.p, '.', host.n);
	struct str last = dot == NULL ? host : (struct str){ dot + 1, host.n - (size_t)(dot + 1 - host.p) };
	size_t digits = 0;

	while (digits < last.n && last.p[digits] >= '0' && last.p[digits] <= '9')
		digits++;
	return digits == last.n ||
	       (last.n >= 2 && last.p[0] == '0' && (last.p[1] == 'x' || last.p[1] == 'X'));
}

/* Four decimal parts without leading zeros; inet_pton() refuses the rest itself. */
static bool is_plain_v4(struct str host, struct in6_addr *a)
{
	return memchr(host.p, ':', host.n) == NULL && addr_parse(host, a);
}

enum guard_reason guard_parts(const struct guard *g, const struct url *u)
{
	struct str host = u->host;
	struct in6_addr a;
	bool port_ok = u->port == 443 || u->port == 8443 || (g->allow_http && u->port == 80);

	if (!u->https && !g->allow_http)
		return GUARD_SCHEME;
	if (u->has_user)
		return GUARD_USER;
	for (size_t i = 0; i < g->n_ports; i++)
		port_ok = port_ok || u->port == g->port[i];
	if (!port_ok)
		return GUARD_PORT;
	if (u->is_v6) {
		if (!addr_parse(host, &a))
			return GUARD_MALFORMED;
		return guard_addr(g, &a) ? GUARD_FINE : GUARD_ADDRESS;
	}
	if (is_plain_v4(host, &a))
		return guard_addr(g, &a) ? GUARD_FINE : GUARD_ADDRESS;
	if (host.n > 0 && host.p[host.n - 1] == '.')
		host.n--;
	if (host.n == 0)
		return GUARD_MALFORMED;
	if (looks_like_number(host))
		return GUARD_NUMBER;
	return inside_name(host) ? GUARD_NAME : GUARD_FINE;
}

enum guard_reason guard_url(const struct guard *g, struct str url)
{
	struct url u;

	return url_split(url, &u) != 0 ? GUARD_MALFORMED : guard_parts(g, &u);
}

const char *guard_reason_name(enum guard_reason r)
{
	static const char *const names[GUARD_REASONS] = {
		[GUARD_FINE] = "fine", [GUARD_MALFORMED] = "malformed", [GUARD_SCHEME] = "scheme",
		[GUARD_USER] = "user_info", [GUARD_PORT] = "port", [GUARD_NAME] = "host_name",
		[GUARD_NUMBER] = "host_number", [GUARD_ADDRESS] = "address",
	};

	ASSERT((size_t)r < ARRAY_LEN(names));
	return names[r];
}

/* --- settings ------------------------------------------------------------------------------ */

int guard_set(struct guard *g, bool allow_http, struct str ports, struct str cidrs, struct err *err)
{
	struct guard n = { .allow_http = allow_http };
	int r;

	ports = str_trim(ports);
	while (ports.n > 0) {
		struct str one = str_trim(str_cut(ports, ',', &ports));
		int64_t port;

		if (n.n_ports == GUARD_PORTS || str_int(one, 1, 65535, &port) != 0)
			return err_set(err, -EINVAL, "not a list of at most %d ports: " STR_FMT, GUARD_PORTS,
			               STR_ARG(one));
		n.port[n.n_ports++] = (uint16_t)port;
	}
	r = cidrs_parse(cidrs, &n.allow, err);
	if (r != 0)
		return r;
	guard_clear(g);
	*g = n;
	return 0;
}

void guard_clear(struct guard *g)
{
	cidrs_clear(&g->allow);
	*g = (struct guard){ 0 };
}

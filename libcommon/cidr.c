/* cidr.c - prefixes compared as 128 bits, so that one loop serves both families. */
#include <arpa/inet.h>
#include <sys/socket.h>

#include "cidr.h"

static const unsigned char v4_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

bool addr_is_v4(const struct in6_addr *a) { return memcmp(a, v4_prefix, sizeof(v4_prefix)) == 0; }

bool addr_parse(struct str text, struct in6_addr *ret)
{
	char z[INET6_ADDRSTRLEN];
	struct in6_addr a;

	if (text.n == 0 || text.n >= sizeof(z) || memchr(text.p, '\0', text.n) != NULL)
		return false;
	memcpy(z, text.p, text.n);
	z[text.n] = '\0';
	if (strchr(z, ':') == NULL) {           /* inet_pton: four decimal parts, nothing shorter */
		memcpy(&a, v4_prefix, sizeof(v4_prefix));
		if (inet_pton(AF_INET, z, &a.s6_addr[12]) != 1)
			return false;
	} else if (inet_pton(AF_INET6, z, &a) != 1) {
		return false;
	}
	*ret = a;
	return true;
}

void addr_of(const struct sockaddr *sa, struct in6_addr *ret)
{
	*ret = in6addr_any;
	if (sa->sa_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, sa, sizeof(in));
		memcpy(ret, v4_prefix, sizeof(v4_prefix));
		memcpy(&ret->s6_addr[12], &in.sin_addr, 4);
	} else if (sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, sa, sizeof(in6));
		*ret = in6.sin6_addr;
	}
}

void addr_text(const struct in6_addr *a, char out[INET6_ADDRSTRLEN])
{
	const char *p = addr_is_v4(a) ? inet_ntop(AF_INET, &a->s6_addr[12], out, INET6_ADDRSTRLEN) :
	                                inet_ntop(AF_INET6, a, out, INET6_ADDRSTRLEN);

	ASSERT(p != NULL);
}

bool cidr_has(const struct cidr *c, const struct in6_addr *a)
{
	size_t whole = (size_t)c->bits / 8;
	int rest = c->bits % 8;

	if (memcmp(&c->net, a, whole) != 0)
		return false;
	return rest == 0 || (c->net.s6_addr[whole] ^ a->s6_addr[whole]) >> (8 - rest) == 0;
}

int cidr_parse(struct str text, struct cidr *ret, struct err *err)
{
	struct str bits, addr = str_cut(text, '/', &bits);
	struct cidr c;
	int64_t n = 128;

	if (!addr_parse(addr, &c.net))
		return err_set(err, -EINVAL, "not an address: " STR_FMT, STR_ARG(addr));
	if (addr.n < text.n) {
		int64_t most = addr_is_v4(&c.net) && memchr(addr.p, ':', addr.n) == NULL ? 32 : 128;

		if (str_int(bits, 0, most, &n) != 0)
			return err_set(err, -EINVAL, "not a prefix length: " STR_FMT, STR_ARG(text));
		n += 128 - most;
	}
	c.bits = (int)n;
	for (int i = c.bits; i < 128; i++)
		if (c.net.s6_addr[i / 8] >> (7 - i % 8) & 1)
			return err_set(err, -EINVAL, "bits behind the prefix: " STR_FMT, STR_ARG(text));
	*ret = c;
	return 0;
}

int cidrs_parse(struct str list, struct cidrs *ret, struct err *err)
{
	struct cidrs l = { 0 };
	size_t most = 1;

	for (size_t i = 0; i < list.n; i++)
		most += list.p[i] == ',';
	list = str_trim(list);
	if (list.n > 0)
		l.all = XNEW_N(struct cidr, most);
	while (list.n > 0) {
		struct str one = str_trim(str_cut(list, ',', &list));
		int r = cidr_parse(one, &l.all[l.n], err);

		if (r != 0) {
			cidrs_clear(&l);
			return r;
		}
		l.n++;
	}
	*ret = l;
	return 0;
}

bool cidrs_have(const struct cidrs *l, const struct in6_addr *a)
{
	for (size_t i = 0; i < l->n; i++)
		if (cidr_has(&l->all[i], a))
			return true;
	return false;
}

void cidrs_clear(struct cidrs *l)
{
	free(l->all);
	*l = (struct cidrs){ 0 };
}

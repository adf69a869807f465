/* http_addr.c - how many connections an address has; an entry lives while its count is above 0. */
#include "hash.h"
#include "http_int.h"

struct entry { struct hash_node node; struct in6_addr network; int count; };

/* IPv6 by /64: one customer has all of it. */
static struct in6_addr network(const struct in6_addr *a)
{
	struct in6_addr n = *a;

	if (!addr_is_v4(a))
		memset(&n.s6_addr[8], 0, 8);
	return n;
}

bool addr_same(const struct in6_addr *a, const struct in6_addr *b)
{
	struct in6_addr x = network(a), y = network(b);

	return memcmp(&x, &y, sizeof(x)) == 0;
}

int addr_add(struct hash_table *t, const struct in6_addr *a, int by)
{
	struct in6_addr n = network(a);
	uint64_t hash = hash_of((struct str){ (const char *)n.s6_addr, sizeof(n) });
	struct hash_node *at = hash_find(t, hash);
	struct entry *e;
	int now;

	while (at != NULL && memcmp(&CONTAINER_OF(at, struct entry, node)->network, &n, sizeof(n)) != 0)
		at = hash_next(at);
	if (at == NULL) {
		e = XNEW(struct entry);
		e->network = n;
		hash_add(t, &e->node, hash);
	} else {
		e = CONTAINER_OF(at, struct entry, node);
	}
	now = e->count += by;
	ASSERT(now >= 0);
	if (now == 0) {
		hash_del(t, &e->node);
		free(e);
	}
	return now;
}

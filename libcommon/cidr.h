/* cidr.h - networks, and whether an address is in one; IPv4 lives inside IPv6 as ::ffff:a.b.c.d. */
#ifndef CIDR_H
#define CIDR_H

#include <netinet/in.h>

#include "err.h"
#include "str.h"

struct sockaddr;

struct cidr { struct in6_addr net; int bits; };         /* bits of 128 */
struct cidrs { struct cidr *all; size_t n; };           /* {0} is the empty list */

/* "10.0.0.0/8", "fc00::/7", "::1" (a single address); bits after the prefix must be 0. */
int  cidr_parse(struct str text, struct cidr *ret, struct err *err) MUST_CHECK;
bool cidr_has(const struct cidr *c, const struct in6_addr *a) NONNULL;

/* Separated by commas, blanks around each allowed, "" is the empty list. */
int  cidrs_parse(struct str list, struct cidrs *ret, struct err *err) MUST_CHECK;
bool cidrs_have(const struct cidrs *l, const struct in6_addr *a) NONNULL;
void cidrs_clear(struct cidrs *l) NONNULL;

/* An address as text, without zone, port or brackets; false: it is none. */
bool addr_parse(struct str text, struct in6_addr *ret) MUST_CHECK;
void addr_of(const struct sockaddr *sa, struct in6_addr *ret) NONNULL;  /* other families: :: */
bool addr_is_v4(const struct in6_addr *a) NONNULL;
void addr_text(const struct in6_addr *a, char out[INET6_ADDRSTRLEN]) NONNULL;  /* v4 dotted */

#endif

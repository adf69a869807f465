/* guard.h - where a URL that came from a user may lead (router.md 13): decided twice, by its text
 * when it is stored and before each call, and by every address its name resolves to.
 *
 * Public means: not in one of the special networks of RFC 6890 and its successors.  An IPv4
 * address inside an IPv6 one (mapped, compatible, translated, 6to4, NAT64) is judged as IPv4. */
#ifndef GUARD_H
#define GUARD_H

#include "cidr.h"
#include "url.h"

enum { GUARD_PORTS = 16 };

struct guard {                          /* {0}: https on 443 and 8443, public addresses only */
	bool         allow_http;        /* OUTBOUND_ALLOW_HTTP: tests; port 80 with it */
	struct cidrs allow;             /* OUTBOUND_ALLOW_CIDR */
	uint16_t     port[GUARD_PORTS]; /* OUTBOUND_PORTS, beside 443 and 8443 */
	size_t       n_ports;
};

enum guard_reason { GUARD_FINE, GUARD_MALFORMED, GUARD_SCHEME, GUARD_USER, GUARD_PORT, GUARD_NAME,
                    GUARD_NUMBER, GUARD_ADDRESS, GUARD_REASONS };

/* ports "8080,9000"; both lists may be "".  On failure *g is untouched. */
int  guard_set(struct guard *g, bool allow_http, struct str ports, struct str cidrs, struct err *err) MUST_CHECK;
void guard_clear(struct guard *g) NONNULL;

enum guard_reason guard_url(const struct guard *g, struct str url) NONNULL;
enum guard_reason guard_parts(const struct guard *g, const struct url *u) NONNULL;
bool guard_addr(const struct guard *g, const struct in6_addr *a) NONNULL;      /* true: public */
const char *guard_reason_name(enum guard_reason r) RETURNS_NONNULL;    /* "address"; a metric label */

#endif

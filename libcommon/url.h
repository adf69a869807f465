/* url.h - URLs, percent-encoding and query strings, and nothing that guesses.
 *
 * Decoded text is valid UTF-8 without U+0000, so it can go into JSON and PostgreSQL. */
#ifndef URL_H
#define URL_H

#include "arena.h"
#include "err.h"

/* "a%2Fb" -> "a/b"; plus: "+" is a blank, as forms write it.  -EBADMSG: a bad escape, NUL or no
 * UTF-8; -EMSGSIZE: mem is full. */
int  url_decode(struct str in, bool plus, struct arena *mem, struct str *ret) MUST_CHECK;
/* Everything but RFC 3986's unreserved characters is escaped: safe as a segment and as a value. */
void url_encode(struct str in, struct buf *out) NONNULL;

struct url_pair { struct str name, value; };
/* "a=1&b" -> a: "1", b: "".  A repeated name is refused with -EINVAL: which one counts is what
 * two programs would not agree on.  At most max pairs (-E2BIG). */
int  url_query(struct str query, struct url_pair *pairs, size_t max, size_t *ret_n, struct arena *mem,
               struct err *err) MUST_CHECK;

/* http://host[:port][/path][?query][#fragment], only in the form that every program reads alike:
 * visible ASCII, no backslash, a host of letters, digits, '-', '.' and '_' or [IPv6], port in decimal. */
struct url {
	bool       https, is_v6, has_user;
	struct str host;                /* without brackets */
	uint16_t   port;                /* 443 and 80 when absent */
	struct str path, query;         /* path "" stands for "/"; the fragment is gone */
};
int  url_split(struct str text, struct url *ret) NONNULL MUST_CHECK;   /* 0 or -EINVAL */
void url_join(const struct url *u, struct buf *out) NONNULL;           /* without user, port if needed */

#endif

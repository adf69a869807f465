/* url.h - percent-encoding and query strings, and nothing that guesses.
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

#endif

/* json_scan.h - is this text RFC 8259, as strictly as we want it?  One pass, nothing allocated.
 *
 * Internal to decode.c: json-c takes single quotes, NaN, raw control characters, U+0000, lone
 * surrogates, overlong UTF-8 and numbers it cannot hold, and it stops at the end of the first
 * value.  The scan goes first and refuses all that; json-c only ever sees text it understands.
 *
 * It also notes where the value of each member lies, so that a part can be kept as its own text. */
#ifndef JSON_SCAN_H
#define JSON_SCAN_H

#include "str.h"

enum { JSON_DEPTH = 16 };                       /* containers within each other */
#define JSON_TEXT_MAX ((size_t)16 * 1024 * 1024)

struct json_span { uint32_t at, n; };           /* bytes from the beginning of the text */

struct json_scan {
	struct json_span *member;       /* [1..members]: values of all members, as their keys come */
	size_t            members, room;
	size_t            at;           /* after a refusal: byte of the mistake */
	const char       *why;          /* after a refusal: what it is */
};

/* The text is one object or array with nothing but blanks around it - or -EBADMSG with at and why.
 * Does not look for duplicate keys: whoever builds the objects counts them (decode.c). */
int  json_scan(struct json_scan *s, struct str text) MUST_CHECK;
void json_scan_clear(struct json_scan *s) NONNULL;      /* gives the spans back */

#endif

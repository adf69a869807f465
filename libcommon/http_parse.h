/* http_parse.h - the bytes of an HTTP/1.1 request (RFC 9112), strictly; no I/O, no memory.
 *
 * Stricter than the RFC where leniency lets two programs see two different requests: lines end
 * in CR LF only, no folded headers, no blank before the colon, no control bytes, one Host, one
 * Content-Length of digits only, Transfer-Encoding only exactly "chunked", never both. */
#ifndef HTTP_PARSE_H
#define HTTP_PARSE_H

#include "str.h"

enum { HTTP_FIELDS = 100 };

struct http_field { struct str name, value; };

struct http_head {                      /* points into the text given to http_head_parse() */
	struct str method, path, query; /* raw; query without the "?" */
	bool       http11, keep_alive, chunked, expects;   /* Expect: 100-continue */
	size_t     length;              /* Content-Length; 0 without */
	size_t     n_fields;
	struct http_field field[HTTP_FIELDS];
};

/* Looks at the bytes that came since the last call with the same *seen (0 at first): the length
 * of the head with its empty line, 0 while it is incomplete, -EBADMSG as soon as a byte shows
 * that it can never be one. */
ptrdiff_t http_head_end(const char *p, size_t n, size_t *seen) NONNULL MUST_CHECK;

/* 0, or the status to answer (400, 417, 431, 505) and why: a constant sentence. */
int http_head_parse(struct str text, struct http_head *ret, const char **ret_why) NONNULL MUST_CHECK;

/* The only field of that name; STR_NONE when absent or repeated (*ret_n says how many). */
struct str http_head_field(const struct http_head *h, const char *name, size_t *ret_n) NONNULL;
bool http_token_ok(struct str s);                  /* RFC 9110 5.6.2, not empty */

/* A chunked body, RFC 9112 7.1.  Extensions and trailers are checked, bounded and ignored.
 * Zero-initialised it is ready. */
struct http_chunks { int state; unsigned line; uint64_t left; bool done; };

/* How many of the bytes belong to this body; its content is added to out.  -EBADMSG: broken;
 * -EMSGSIZE: out's maximum. */
ptrdiff_t http_chunks_feed(struct http_chunks *c, const char *p, size_t n, struct buf *out) NONNULL MUST_CHECK;

#endif

/* http_parse.c - request line, fields and chunks; every refusal has a sentence of its own. */
#include "http_parse.h"

enum { LENGTH_DIGITS = 12, CHUNK_DIGITS = 8, CHUNK_LINE = 128, TRAILER_BYTES = 1024 };

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_token(char c)
{
	if (is_digit(c) || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))
		return true;
	return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

bool http_token_ok(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!is_token(s.p[i]))
			return false;
	return s.n > 0;
}

ptrdiff_t http_head_end(const char *p, size_t n, size_t *seen)
{
	size_t i = *seen;

	for (; i < n; i++) {
		unsigned char c = (unsigned char)p[i];

		if (c >= 0x20 && c != 0x7f && (i == 0 || p[i - 1] != '\r'))
			continue;
		if (i > 0 && p[i - 1] == '\r' && c != '\n')
			return -EBADMSG;                /* a lone CR */
		if (c == '\n') {
			if (i == 0 || p[i - 1] != '\r')
				return -EBADMSG;        /* a lone LF */
			if (i >= 3 && p[i - 3] == '\r')
				return (ptrdiff_t)(i + 1);
		} else if (c != '\r' && c != '\t') {
			return -EBADMSG;
		}
	}
	*seen = i;
	return 0;
}

/* Cuts one line off *text; the scanner has promised that every LF follows a CR. */
static struct str next_line(struct str *text)
{
	const char *end = memchr(text->p, '\n', text->n);
	struct str line = { text->p, (size_t)(end - text->p) - 1 };

	text->n -= (size_t)(end + 1 - text->p);
	text->p = end + 1;
	return line;
}

static int bad(const char **why, int status, const char *sentence)
{
	*why = sentence;
	return status;
}

/* The authority of an absolute target is cut off and never used: where a request goes is
 * decided by the listener it came to (RFC 9112 3.2.2 wants the form accepted). */
static bool target_split(struct str target, struct http_head *h)
{
	const char *q;

	if (str_starts(target, STR("http://")) || str_starts(target, STR("https://"))) {
		const char *host = (const char *)memchr(target.p, '/', target.n) + 2;
		const char *slash = memchr(host, '/', (size_t)(target.p + target.n - host));

		if (slash == NULL || slash == host)
			return false;
		target.n -= (size_t)(slash - target.p);
		target.p = slash;
	}
	if (str_eq(target, STR("*"))) {
		h->path = target;
		return str_eq(h->method, STR("OPTIONS"));
	}
	if (target.n == 0 || target.p[0] != '/')
		return false;
	for (size_t i = 0; i < target.n; i++)
		if ((unsigned char)target.p[i] <= 0x20 || (unsigned char)target.p[i] >= 0x7f ||
		    target.p[i] == '#')
			return false;
	q = memchr(target.p, '?', target.n);
	h->path = (struct str){ target.p, q != NULL ? (size_t)(q - target.p) : target.n };
	if (q != NULL)
		h->query = (struct str){ q + 1, target.n - h->path.n - 1 };
	return true;
}

static int request_line(struct str line, struct http_head *h, const char **why)
{
	struct str rest, version, target;

	h->method = str_cut(line, ' ', &rest);
	target = str_cut(rest, ' ', &version);
	if (!http_token_ok(h->method) || h->method.n > 16 || version.n == 0)
		return bad(why, 400, "The request line is not one of HTTP/1.1.");
	if (str_eq(version, STR("HTTP/1.1")))
		h->http11 = true;
	else if (version.n == 8 && str_starts(version, STR("HTTP/")) && !str_eq(version, STR("HTTP/1.0")))
		return bad(why, 505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.");
	else if (!str_eq(version, STR("HTTP/1.0")))
		return bad(why, 400, "The request line is not one of HTTP/1.1.");
	if (!target_split(target, h))
		return bad(why, 400, "The request target is not a path.");
	return 0;
}

static bool host_ok(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!is_token(s.p[i]) && strchr(":[]%", s.p[i]) == NULL)
			return false;
	return s.n > 0 && s.n <= 255;
}

static void connection_options(struct str list, struct http_head *h)
{
	while (list.n > 0) {
		struct str one = str_trim(str_cut(list, ',', &list));

		if (str_eq_fold(one, STR("close")))
			h->keep_alive = false;
		else if (str_eq_fold(one, STR("keep-alive")) && !h->http11)
			h->keep_alive = true;
	}
}

/* The fields that decide where the message ends and who is spoken to. */
static int framing(struct http_head *h, const char **why)
{
	size_t lengths = 0, codings = 0, hosts = 0, expects = 0, n;
	bool closes = false;

	h->keep_alive = h->http11;
	for (size_t i = 0; i < h->n_fields; i++) {
		struct str name = h->field[i].name, value = h->field[i].value;

		if (str_eq_fold(name, STR("content-length"))) {
			int64_t length;

			lengths++;
			for (n = 0; n < value.n && is_digit(value.p[n]); n++)
				;
			if (n == 0 || n < value.n || n > LENGTH_DIGITS ||
			    str_int(value, 0, INT64_MAX, &length) != 0)
				return bad(why, 400, "Content-Length is not a number.");
			h->length = (size_t)length;
		} else if (str_eq_fold(name, STR("transfer-encoding"))) {
			codings++;
			if (!str_eq_fold(value, STR("chunked")))
				return bad(why, 400, "Transfer-Encoding can only be chunked.");
			h->chunked = true;
		} else if (str_eq_fold(name, STR("host"))) {
			hosts++;
			if (!host_ok(value))
				return bad(why, 400, "Host is not a host.");
		} else if (str_eq_fold(name, STR("connection"))) {
			connection_options(value, h);
			closes = closes || !h->keep_alive;
		} else if (str_eq_fold(name, STR("expect"))) {
			expects++;
			if (!str_eq_fold(value, STR("100-continue")))
				return bad(why, 417, "The only expectation met here is 100-continue.");
			h->expects = h->http11;
		}
	}
	if (closes && h->http11)
		h->keep_alive = false;
	if (lengths > 1)
		return bad(why, 400, "Content-Length is there more than once.");
	if (codings > 1 || (codings == 1 && !h->http11))
		return bad(why, 400, "Transfer-Encoding is repeated or not for this version.");
	if (codings == 1 && lengths == 1)
		return bad(why, 400, "Content-Length and Transfer-Encoding exclude each other.");
	if (hosts > 1 || (hosts == 0 && h->http11))
		return bad(why, 400, "Exactly one Host is needed.");
	if (expects > 1)
		return bad(why, 417, "Expect is there more than once.");
	return 0;
}

int http_head_parse(struct str text, struct http_head *ret, const char **ret_why)
{
	int r;

	ret->method = ret->path = ret->query = STR_NONE;
	ret->http11 = ret->keep_alive = ret->chunked = ret->expects = false;
	ret->length = ret->n_fields = 0;
	if (text.n < 4 || memcmp(text.p + text.n - 4, "\r\n\r\n", 4) != 0)
		return bad(ret_why, 400, "The request is not complete.");
	r = request_line(next_line(&text), ret, ret_why);
	if (r != 0)
		return r;
	for (;;) {
		struct str line = next_line(&text), value, name;

		if (line.n == 0)
			break;
		if (ret->n_fields == HTTP_FIELDS)
			return bad(ret_why, 431, "There are more than 100 headers.");
		name = str_cut(line, ':', &value);
		if (name.n == line.n || !http_token_ok(name))
			return bad(ret_why, 400, "A header line is malformed.");
		ret->field[ret->n_fields++] = (struct http_field){ name, str_trim(value) };
	}
	return framing(ret, ret_why);
}

struct str http_head_field(const struct http_head *h, const char *name, size_t *ret_n)
{
	struct str found = STR_NONE, wanted = str_of(name);

	*ret_n = 0;
	for (size_t i = 0; i < h->n_fields; i++)
		if (str_eq_fold(h->field[i].name, wanted)) {
			found = h->field[i].value;
			++*ret_n;
		}
	return *ret_n == 1 ? found : STR_NONE;
}

enum chunk_state { CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_SIZE_LF, CHUNK_DATA, CHUNK_CR, CHUNK_LF,
                   TRAILER_START, TRAILER_LINE, TRAILER_LF, TRAILER_END_LF };

static int hex_value(char c)
{
	if (is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool is_text(char c) { return ((unsigned char)c >= 0x20 && c != 0x7f) || c == '\t'; }

/* One byte outside of the data.  line counts the bytes of this size line, or of all trailers. */
static bool chunk_step(struct http_chunks *c, char b)
{
	int v = hex_value(b);

	switch ((enum chunk_state)c->state) {
	case CHUNK_SIZE:
		if (v >= 0 && c->line < CHUNK_DIGITS) {
			c->left = c->left * 16 + (uint64_t)v;
			c->line++;
			return true;
		}
		if (c->line == 0 || (b != ';' && b != '\r'))
			return false;
		c->state = b == ';' ? CHUNK_EXTENSION : CHUNK_SIZE_LF;
		return true;
	case CHUNK_EXTENSION:
		if (b == '\r')
			c->state = CHUNK_SIZE_LF;
		return b == '\r' || (is_text(b) && ++c->line < CHUNK_LINE);
	case CHUNK_SIZE_LF:
		c->line = 0;
		c->state = c->left > 0 ? CHUNK_DATA : TRAILER_START;
		return b == '\n';
	case CHUNK_CR:
		c->state = CHUNK_LF;
		return b == '\r';
	case CHUNK_LF:
		c->state = CHUNK_SIZE;
		return b == '\n';
	case TRAILER_START:
		c->state = b == '\r' ? TRAILER_END_LF : TRAILER_LINE;
		return b == '\r' || (is_token(b) && ++c->line < TRAILER_BYTES);
	case TRAILER_LINE:
		if (b == '\r')
			c->state = TRAILER_LF;
		return b == '\r' || (is_text(b) && ++c->line < TRAILER_BYTES);
	case TRAILER_LF:
		c->state = TRAILER_START;
		return b == '\n';
	case TRAILER_END_LF:
		c->done = true;
		return b == '\n';
	case CHUNK_DATA:
		break;
	}
	return false;
}

ptrdiff_t http_chunks_feed(struct http_chunks *c, const char *p, size_t n, struct buf *out)
{
	size_t i = 0;

	while (i < n && !c->done) {
		if (c->state == CHUNK_DATA) {
			size_t take = n - i < c->left ? n - i : (size_t)c->left;

			buf_add(out, (struct str){ p + i, take });
			if (out->failed != 0)
				return -EMSGSIZE;
			i += take;
			c->left -= take;
			if (c->left == 0)
				c->state = CHUNK_CR;
		} else {
			if (!chunk_step(c, p[i]))
				return -EBADMSG;
			if (c->state == CHUNK_DATA && c->left > out->max - out->n)
				return -EMSGSIZE;       /* said so before its first byte */
			i++;
		}
	}
	return (ptrdiff_t)i;
}

/* buf.c - struct buf of str.h: text that grows up to a limit. */
#include "str.h"

/* Room for n more bytes and a NUL that vsnprintf() insists on. */
static bool grow(struct buf *b, size_t n)
{
	size_t cap;

	if (b->failed != 0)
		return false;
	if (n > b->max - b->n) {
		b->failed = -EMSGSIZE;
		return false;
	}
	if (b->cap > b->n && n < b->cap - b->n)
		return true;
	cap = b->cap < 64 ? 128 : b->cap * 2;
	if (cap > b->max)
		cap = b->max + 1;
	if (cap <= b->n + n)
		cap = b->n + n + 1;
	b->p = xgrow(b->p, cap, 1);
	b->cap = cap;
	return true;
}

void buf_add(struct buf *b, struct str s)
{
	if (s.n == 0 || !grow(b, s.n))
		return;
	memcpy(b->p + b->n, s.p, s.n);
	b->n += s.n;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	size_t room;
	va_list ap;
	int n;

	if (!grow(b, 0))
		return;
	room = b->cap - b->n;
	va_start(ap, fmt);
	n = vsnprintf(b->p + b->n, room, fmt, ap);
	va_end(ap);
	if (n < 0) {
		b->failed = -EMSGSIZE;
		return;
	}
	if ((size_t)n >= room) {
		if (!grow(b, (size_t)n))
			return;
		va_start(ap, fmt);
		vsnprintf(b->p + b->n, b->cap - b->n, fmt, ap);
		va_end(ap);
	} else if ((size_t)n > b->max - b->n) {
		b->failed = -EMSGSIZE;
		return;
	}
	b->n += (size_t)n;
}

void buf_json(struct buf *b, struct str s)
{
	size_t from = 0, i = 0;

	buf_add(b, STR("\""));
	while (i < s.n) {
		unsigned char c = (unsigned char)s.p[i];
		size_t len = 1;

		if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
			i++;
			continue;
		}
		if (c >= 0x80 && (len = str_utf8_len((struct str){ s.p + i, s.n - i })) > 0) {
			i += len;
			continue;
		}
		buf_add(b, (struct str){ s.p + from, i - from });
		if (c == '"')
			buf_add(b, STR("\\\""));
		else if (c == '\\')
			buf_add(b, STR("\\\\"));
		else if (c == '\n')
			buf_add(b, STR("\\n"));
		else if (c == '\r')
			buf_add(b, STR("\\r"));
		else if (c == '\t')
			buf_add(b, STR("\\t"));
		else if (c < 0x20)
			buf_printf(b, "\\u%04x", c);
		else
			buf_add(b, STR("\xef\xbf\xbd"));        /* U+FFFD */
		from = ++i;
	}
	buf_add(b, (struct str){ s.n > from ? s.p + from : NULL, s.n - from });
	buf_add(b, STR("\""));
}

void buf_html(struct buf *b, struct str s)
{
	size_t from = 0;

	for (size_t i = 0; i < s.n; i++) {
		struct str as = STR_NONE;

		switch (s.p[i]) {
		case '&':  as = STR("&amp;");  break;
		case '<':  as = STR("&lt;");   break;
		case '>':  as = STR("&gt;");   break;
		case '"':  as = STR("&quot;"); break;
		case '\'': as = STR("&#39;");  break;
		}
		if (as.n == 0)
			continue;
		buf_add(b, (struct str){ s.p + from, i - from });
		buf_add(b, as);
		from = i + 1;
	}
	buf_add(b, (struct str){ s.n > from ? s.p + from : NULL, s.n - from });
}

int buf_str(const struct buf *b, struct str *ret)
{
	if (b->failed != 0)
		return b->failed;
	*ret = (struct str){ b->p, b->n };
	return 0;
}

void buf_reset(struct buf *b)
{
	b->n = 0;
	b->failed = 0;
}

void buf_clear(struct buf *b)
{
	free(b->p);
	*b = BUF(b->max);
}

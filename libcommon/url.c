/* url.c - see url.h. */
#include "url.h"

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int url_decode(struct str in, bool plus, struct arena *mem, struct str *ret)
{
	char *p = arena_try(mem, in.n + 1, 1);
	size_t n = 0;

	if (p == NULL)
		return -EMSGSIZE;
	for (size_t i = 0; i < in.n; i++) {
		char c = in.p[i];

		if (c == '+' && plus)
			c = ' ';
		if (c == '%') {
			int hi = in.n - i > 2 ? hex(in.p[i + 1]) : -1, lo = in.n - i > 2 ? hex(in.p[i + 2]) : -1;

			if (hi < 0 || lo < 0)
				return -EBADMSG;
			c = (char)(hi << 4 | lo);
			i += 2;
		}
		p[n++] = c;
	}
	if (!str_utf8_ok((struct str){ p, n }))
		return -EBADMSG;
	*ret = (struct str){ p, n };
	return 0;
}

void url_encode(struct str in, struct buf *out)
{
	for (size_t i = 0; i < in.n; i++) {
		char c = in.p[i];

		if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' ||
		    c == '.' || c == '_' || c == '~')
			buf_add(out, (struct str){ &c, 1 });
		else
			buf_printf(out, "%%%02X", (unsigned char)c);
	}
}

int url_query(struct str query, struct url_pair *pairs, size_t max, size_t *ret_n, struct arena *mem,
              struct err *err)
{
	size_t n = 0;

	while (query.n > 0) {
		struct str value, one = str_cut(query, '&', &query), name = str_cut(one, '=', &value);
		int r = 0;

		if (one.n == 0)
			continue;
		if (n == max)
			return err_set(err, -E2BIG, "more than %zu query parameters", max);
		r = url_decode(name, true, mem, &pairs[n].name);
		if (r == 0)
			r = url_decode(value, true, mem, &pairs[n].value);
		if (r != 0)
			return err_set(err, r, "a query parameter is not percent-encoded UTF-8");
		for (size_t i = 0; i < n; i++)
			if (str_eq(pairs[i].name, pairs[n].name))
				return err_set(err, -EINVAL, STR_FMT ": is there more than once",
				               STR_ARG(pairs[n].name));
		n++;
	}
	*ret_n = n;
	return 0;
}

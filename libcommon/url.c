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
			int hi = in.n - i > 2 ? hex(in.p[i + 1]) : -1,
			    lo = in.n - i > 2 ? hex(in.p[i + 2]) : -1;

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

/* --- whole URLs ---------------------------------------------------------------------------- */

static bool in_name(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' ||
	       c == '.' || c == '_';
}

static bool name_ok(struct str host)
{
	if (host.n == 0 || host.n > 253 || host.p[0] == '.' || host.p[0] == '-')
		return false;
	for (size_t i = 0; i < host.n; i++)
		if (!in_name(host.p[i]) || (host.p[i] == '.' && i > 0 && host.p[i - 1] == '.'))
			return false;
	return true;
}

static bool v6_ok(struct str host)
{
	for (size_t i = 0; i < host.n; i++)
		if (hex(host.p[i]) < 0 && host.p[i] != ':' && host.p[i] != '.')
			return false;           /* no zone either */
	return host.n >= 2 && memchr(host.p, ':', host.n) != NULL;
}

static int authority(struct str s, struct url *u)
{
	const char *at = s.n > 0 ? memrchr(s.p, '@', s.n) : NULL;
	struct str port = STR_NONE;
	const char *end;
	int64_t number;

	if (at != NULL) {
		u->has_user = true;
		s = (struct str){ at + 1, s.n - (size_t)(at + 1 - s.p) };
	}
	u->is_v6 = s.n > 0 && s.p[0] == '[';
	if (u->is_v6) {
		end = memchr(s.p, ']', s.n);
		if (end == NULL)
			return -EINVAL;
		u->host = (struct str){ s.p + 1, (size_t)(end - s.p) - 1 };
		port = (struct str){ end + 1, s.n - u->host.n - 2 };
		if (port.n == 1 || (port.n > 1 && port.p[0] != ':') || !v6_ok(u->host))
			return -EINVAL;
		if (port.n > 1)
			port = (struct str){ port.p + 1, port.n - 1 };
	} else {
		u->host = str_cut(s, ':', &port);
		if (!name_ok(u->host) || (u->host.n < s.n && port.n == 0))
			return -EINVAL;
	}
	if (port.n == 0)
		u->port = u->https ? 443 : 80;
	else if (port.p[0] == '-' || port.n > 5 || str_int(port, 1, 65535, &number) != 0)
		return -EINVAL;
	else
		u->port = (uint16_t)number;
	return 0;
}

int url_split(struct str text, struct url *ret)
{
	struct url u = { 0 };
	struct str rest;
	size_t n = 0;
	int r;

	if (text.n > 8192)
		return -EINVAL;
	for (size_t i = 0; i < text.n; i++)
		if ((unsigned char)text.p[i] <= 0x20 || (unsigned char)text.p[i] >= 0x7f || text.p[i] == '\\')
			return -EINVAL;
	if (text.n > 8 && str_eq_fold((struct str){ text.p, 8 }, STR("https://"))) {
		u.https = true;
		rest = (struct str){ text.p + 8, text.n - 8 };
	} else if (text.n > 7 && str_eq_fold((struct str){ text.p, 7 }, STR("http://"))) {
		rest = (struct str){ text.p + 7, text.n - 7 };
	} else {
		return -EINVAL;
	}
	rest = str_cut(rest, '#', &u.query);    /* the fragment: not sent */
	u.query = STR_NONE;
	while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?')
		n++;
	r = authority((struct str){ rest.p, n }, &u);
	if (r != 0)
		return r;
	u.path = str_cut((struct str){ rest.p + n, rest.n - n }, '?', &u.query);
	*ret = u;
	return 0;
}

void url_join(const struct url *u, struct buf *out)
{
	buf_add(out, u->https ? STR("https://") : STR("http://"));
	buf_add(out, u->is_v6 ? STR("[") : STR_NONE);
	buf_add(out, u->host);
	buf_add(out, u->is_v6 ? STR("]") : STR_NONE);
	if (u->port != (u->https ? 443 : 80))
		buf_printf(out, ":%u", u->port);
	buf_add(out, u->path.n > 0 ? u->path : STR("/"));
	if (u->query.n > 0) {
		buf_add(out, STR("?"));
		buf_add(out, u->query);
	}
}

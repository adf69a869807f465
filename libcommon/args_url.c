/* args_url.c - which web addresses people may give, and how they are stored.
 *
 * url_split() decides what is a URL; here stands what a link in a chat may be besides: a public
 * name or an address, no user in it, nothing that ends an HTML attribute.  Letters beyond ASCII,
 * as browsers show them in a path, are percent-encoded; in a host they are refused, since two
 * hosts may look the same (xn-- is fine). */
#include "args.h"
#include "url.h"

#include <arpa/inet.h>
#include <ctype.h>

enum { URL_MAX = 2048, HOST_MAX = 253, LABEL_MAX = 63 };

static bool all_digits(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!isdigit((unsigned char)s.p[i]))
			return false;
	return s.n > 0;
}

static bool is_ipv4(struct str host)
{
	char text[INET_ADDRSTRLEN];
	struct in_addr addr;

	if (host.n >= sizeof text)
		return false;
	memcpy(text, host.p, host.n);
	text[host.n] = '\0';
	return inet_pton(AF_INET, text, &addr) == 1;
}

/* A name with a dot whose last label is not a number, or an IPv4 address in four parts. */
static bool host_ok(struct str host)
{
	struct str rest = host, label = STR_NONE;
	unsigned labels = 0;

	if (host.n == 0 || host.n > HOST_MAX)
		return false;
	while (rest.p != NULL) {
		label = str_cut(rest, '.', &rest);
		if (label.n == 0 || label.n > LABEL_MAX || label.p[0] == '-' || label.p[label.n - 1] == '-')
			return false;
		labels++;
	}
	return all_digits(label) ? is_ipv4(host) : labels >= 2;
}

static bool has_scheme(struct str s, struct str scheme)
{
	return s.n > scheme.n && str_eq_fold((struct str){ s.p, scheme.n }, scheme);
}

/* ASCII only, behind a scheme; empty when it cannot be one. */
static void write_out(struct str word, struct buf *out)
{
	if (!has_scheme(word, STR("http://")) && !has_scheme(word, STR("https://")))
		buf_add(out, STR("https://"));
	for (size_t i = 0; i < word.n; i++) {
		unsigned char c = (unsigned char)word.p[i];

		if (c >= 0x80)
			buf_printf(out, "%%%02X", c);
		else
			buf_add(out, (struct str){ word.p + i, 1 });
	}
}

int args_url(struct str word, struct arena *mem, struct str *ret)
{
	struct buf out = BUF(URL_MAX);
	struct str text = STR_NONE;
	struct url u;
	int r = -EINVAL;

	write_out(word, &out);
	if (word.n > 0 && buf_str(&out, &text) == 0 && url_split(text, &u) == 0 && !u.has_user &&
	    (u.is_v6 || host_ok(u.host)) && memchr(text.p, '"', text.n) == NULL &&
	    memchr(text.p, '<', text.n) == NULL && memchr(text.p, '>', text.n) == NULL) {
		text = arena_str(mem, text);
		if (text.p != NULL) {
			*ret = text;
			r = 0;
		}
	}
	buf_clear(&out);
	return r;
}

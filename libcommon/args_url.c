/* args_url.c - which web addresses people may give, and how they are stored. */
#include "args.h"

#include <arpa/inet.h>
#include <ctype.h>

enum { URL_MAX = 2048, HOST_MAX = 253, LABEL_MAX = 63 };

/* Characters that show nothing or turn the text around: U+200B-200F, 202A-202E, 2060-2069, FEFF. */
static bool deceives(const unsigned char *p, size_t left)
{
	if (left < 3 || p[0] < 0xe2)
		return false;
	if (p[0] == 0xe2 && p[1] == 0x80)
		return (p[2] >= 0x8b && p[2] <= 0x8f) || (p[2] >= 0xaa && p[2] <= 0xae);
	if (p[0] == 0xe2 && p[1] == 0x81)
		return p[2] >= 0xa0 && p[2] <= 0xa9;
	return p[0] == 0xef && p[1] == 0xbb && p[2] == 0xbf;
}

static bool label_ok(struct str l)
{
	if (l.n == 0 || l.n > LABEL_MAX || l.p[0] == '-' || l.p[l.n - 1] == '-')
		return false;
	for (size_t i = 0; i < l.n; i++) {
		unsigned char c = (unsigned char)l.p[i];

		if (c < 0x80 && !isalnum(c) && c != '-' && c != '_')
			return false;
		if (deceives((const unsigned char *)l.p + i, l.n - i))
			return false;
	}
	return true;
}

static bool all_digits(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!isdigit((unsigned char)s.p[i]))
			return false;
	return s.n > 0;
}

static bool address_ok(int family, struct str host)
{
	char text[64];
	unsigned char addr[16];

	if (host.n >= sizeof text)
		return false;
	memcpy(text, host.p, host.n);
	text[host.n] = '\0';
	return inet_pton(family, text, addr) == 1;
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
		if (!label_ok(label))
			return false;
		labels++;
	}
	return all_digits(label) ? address_ok(AF_INET, host) : labels >= 2;
}

static bool port_ok(struct str port)
{
	int64_t n;

	return all_digits(port) && str_int(port, 1, 65535, &n) == 0;
}

static bool authority_ok(struct str a)
{
	struct str port, host;

	if (memchr(a.p, '@', a.n) != NULL)
		return false;
	if (a.n > 0 && a.p[0] == '[') {
		const char *end = memchr(a.p, ']', a.n);
		size_t n = end != NULL ? (size_t)(end - a.p) : 0;
		struct str behind = { a.p + n + 1, end != NULL ? a.n - n - 1 : 0 };

		if (end == NULL || !address_ok(AF_INET6, (struct str){ a.p + 1, n - 1 }))
			return false;
		return behind.n == 0 ||
		       (behind.p[0] == ':' && port_ok((struct str){ behind.p + 1, behind.n - 1 }));
	}
	host = str_cut(a, ':', &port);
	return host_ok(host) && (port.p == NULL || port_ok(port));
}

static bool plain(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c <= ' ' || c == 0x7f || c == '\\' || c == '<' || c == '>' || c == '"')
			return false;
	}
	return true;
}

static struct str until(struct str s, const char *any)
{
	size_t n = 0;

	while (n < s.n && strchr(any, s.p[n]) == NULL)
		n++;
	return (struct str){ s.p, n };
}

int args_url(struct str word, struct arena *mem, struct str *ret)
{
	struct str rest = word, url;
	bool bare = true;

	if (word.n == 0 || word.n > URL_MAX || !plain(word))
		return -EINVAL;
	if (word.n > 7 && str_eq_fold((struct str){ word.p, 7 }, STR("http://"))) {
		rest = (struct str){ word.p + 7, word.n - 7 };
		bare = false;
	} else if (word.n > 8 && str_eq_fold((struct str){ word.p, 8 }, STR("https://"))) {
		rest = (struct str){ word.p + 8, word.n - 8 };
		bare = false;
	}
	if (!authority_ok(until(rest, "/?#")))
		return -EINVAL;
	url = arena_printf(mem, "%s" STR_FMT, bare ? "https://" : "", STR_ARG(word));
	if (url.p == NULL || url.n > URL_MAX)
		return -EINVAL;
	*ret = url;
	return 0;
}

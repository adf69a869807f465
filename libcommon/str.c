/* str.c - looking at text: comparing, cutting, reading numbers, checking UTF-8. */
#include "str.h"

struct str str_of(const char *cstring)
{
	return cstring != NULL ? (struct str){ cstring, strlen(cstring) } : STR_NONE;
}

bool str_eq(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static unsigned char fold(char c)
{
	return (unsigned char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

bool str_eq_fold(struct str a, struct str b)
{
	if (a.n != b.n)
		return false;
	for (size_t i = 0; i < a.n; i++)
		if (fold(a.p[i]) != fold(b.p[i]))
			return false;
	return true;
}

bool str_starts(struct str s, struct str with)
{
	return s.n >= with.n && (with.n == 0 || memcmp(s.p, with.p, with.n) == 0);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f';
}

struct str str_trim(struct str s)
{
	while (s.n > 0 && is_blank(s.p[0])) {
		s.p++;
		s.n--;
	}
	while (s.n > 0 && is_blank(s.p[s.n - 1]))
		s.n--;
	return s;
}

struct str str_cut(struct str s, char sep, struct str *rest)
{
	const char *at = s.n > 0 ? memchr(s.p, sep, s.n) : NULL;

	if (at == NULL) {
		*rest = STR_NONE;
		return s;
	}
	*rest = (struct str){ at + 1, s.n - (size_t)(at - s.p) - 1 };
	return (struct str){ s.p, (size_t)(at - s.p) };
}

int str_int(struct str s, int64_t min, int64_t max, int64_t *ret)
{
	bool minus = s.n > 0 && s.p[0] == '-', over = false;
	int64_t v = 0;

	if (s.n == (minus ? 1 : 0))
		return -EINVAL;
	for (size_t i = minus ? 1 : 0; i < s.n; i++) {
		int digit = s.p[i] - '0';

		if (digit < 0 || digit > 9)
			return -EINVAL;         /* even behind an overflow: "99999999999999999999x" */
		/* Downwards when negative: INT64_MIN has no positive twin. */
		over = over || __builtin_mul_overflow(v, 10, &v) ||
		       __builtin_add_overflow(v, minus ? -digit : digit, &v);
	}
	if (over || v < min || v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}

static bool tail(unsigned char c) { return (c & 0xc0) == 0x80; }

/* RFC 3629 section 4, table UTF8-octets. */
size_t str_utf8_len(struct str s)
{
	const unsigned char *p = (const unsigned char *)s.p;
	unsigned char lo = 0x80, hi = 0xbf;

	if (s.n == 0 || p[0] == 0)
		return 0;
	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	if (p[0] < 0xe0)
		return s.n >= 2 && tail(p[1]) ? 2 : 0;
	if (p[0] == 0xe0)
		lo = 0xa0;                      /* below: overlong */
	else if (p[0] == 0xed)
		hi = 0x9f;                      /* above: surrogates */
	else if (p[0] == 0xf0)
		lo = 0x90;                      /* below: overlong */
	else if (p[0] == 0xf4)
		hi = 0x8f;                      /* above: past U+10FFFF */
	if (s.n < 3 || p[1] < lo || p[1] > hi || !tail(p[2]))
		return 0;
	if (p[0] < 0xf0)
		return 3;
	return s.n >= 4 && tail(p[3]) ? 4 : 0;
}

/* How many bytes at the start are ASCII without NUL, eight at a time. */
static size_t ascii_run(struct str s)
{
	const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
	size_t i = 0;

	for (; s.n - i >= 8; i += 8) {
		uint64_t w;

		memcpy(&w, s.p + i, 8);
		if (((w | (w - ones)) & tops) != 0)     /* a top bit, or a borrow from a zero byte */
			break;
	}
	while (i < s.n && s.p[i] > 0)
		i++;
	return i;
}

bool str_utf8_ok(struct str s)
{
	while (s.n > 0) {
		size_t n = ascii_run(s);

		if (n == 0)
			n = str_utf8_len(s);
		if (n == 0)
			return false;
		s.p += n;
		s.n -= n;
	}
	return true;
}

struct str str_clip(struct str s, size_t chars)
{
	size_t i = 0;

	for (; chars > 0 && i < s.n; chars--)
		for (i++; i < s.n && tail((unsigned char)s.p[i]); i++)
			;
	return (struct str){ s.p, i };
}

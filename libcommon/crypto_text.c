/* crypto_text.c - hexadecimal and base64, strictly: OpenSSL's readers take colons, blanks, and
 * count padding as data.  A text that is not the one crypto_hex() or crypto_base64() would write
 * (but for the case of hex digits) is refused. */
#include "crypto.h"

void crypto_hex(const void *p, size_t n, char *out)
{
	static const char digit[] = "0123456789abcdef";
	const unsigned char *b = p;

	for (size_t i = 0; i < n; i++) {
		*out++ = digit[b[i] >> 4];
		*out++ = digit[b[i] & 15];
	}
	*out = '\0';
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int crypto_unhex(struct str hex, void *out, size_t n)
{
	unsigned char *b = out;
	int bad = hex.n / 2 != n || hex.n % 2 != 0;

	for (size_t i = 0; i < n && bad == 0; i++) {
		int high = hex_value(hex.p[2 * i]), low = hex_value(hex.p[2 * i + 1]);

		bad = high < 0 || low < 0;
		b[i] = (unsigned char)(bad ? 0 : high << 4 | low);
	}
	if (bad != 0)
		memset(out, 0, n);
	return bad != 0 ? -EINVAL : 0;
}

static const char *alphabet(enum base64 kind)
{
	return kind == BASE64 ? "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
			      : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
}

size_t crypto_base64(enum base64 kind, struct str data, char *out)
{
	const char *abc = alphabet(kind), *start = out;
	const unsigned char *p = (const unsigned char *)data.p;

	for (size_t left = data.n; left > 0;) {
		size_t take = left < 3 ? left : 3;
		uint32_t v =
			(uint32_t)p[0] << 16 | (uint32_t)(take > 1 ? p[1] : 0) << 8 | (take > 2 ? p[2] : 0u);

		for (size_t i = 0; i < 4; i++) {
			if (i <= take)
				*out++ = abc[v >> (18 - 6 * i) & 63];
			else if (kind == BASE64)
				*out++ = '=';
		}
		p += take;
		left -= take;
	}
	*out = '\0';
	return (size_t)(out - start);
}

static int base64_value(enum base64 kind, char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == (kind == BASE64 ? '+' : '-'))
		return 62;
	if (c == (kind == BASE64 ? '/' : '_'))
		return 63;
	return -1;
}

int crypto_unbase64(enum base64 kind, struct str text, void *out, size_t room, size_t *ret_n)
{
	unsigned char *b = out;
	uint32_t v = 0;
	size_t n, bytes;

	if (kind == BASE64) {
		if (text.n % 4 != 0)
			return -EINVAL;
		for (int i = 0; i < 2 && text.n > 0 && text.p[text.n - 1] == '='; i++)
			text.n--;
	}
	n = text.n;
	bytes = n / 4 * 3 + (n % 4 > 0 ? n % 4 - 1 : 0);
	if (n % 4 == 1 || bytes > room)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		int six = base64_value(kind, text.p[i]);

		if (six < 0)
			goto bad;
		v = v << 6 | (uint32_t)six;
		if (i % 4 > 0)
			*b++ = (unsigned char)(v >> (6 - i % 4 * 2));
	}
	/* The bits that fill up the last character are zero, or two texts would mean one value. */
	if ((n % 4 == 2 && v & 15) || (n % 4 == 3 && v & 3))
		goto bad;
	*ret_n = bytes;
	return 0;
bad:
	memset(out, 0, bytes);
	return -EINVAL;
}

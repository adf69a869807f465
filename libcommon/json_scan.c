/* json_scan.c - the strict reader in front of json-c: structure by labels, strings eight bytes at
 * a time.  Every label is one place between two tokens; the stack is one bit and one number per
 * level. */
#include "common.h"

#include <endian.h>
#include <math.h>

#include "json_scan.h"

#define EACH_BYTE(x) (UINT64_C(0x0101010101010101) * (x))

enum { ROOM_FIRST = 256, ROOM_KEPT = 65536 };

static void more_room(struct json_scan *s)
{
	size_t room = s->room == 0 ? ROOM_FIRST : s->room * 2;
	struct json_span *m = XNEW_N(struct json_span, room);

	if (s->member != NULL)
		memcpy(m, s->member, s->room * sizeof(*m));
	free(s->member);
	s->member = m;
	s->room = room;
}

void json_scan_clear(struct json_scan *s)
{
	free(s->member);
	*s = (struct json_scan){ 0 };
}

static inline bool is_digit(unsigned char c)
{
	return c >= '0' && c <= '9';
}

/* Non-zero if one of the eight bytes ends or interrupts a run of plain ASCII: a quote, a backslash,
 * a control character, a byte above 0x7f.  The lowest bit set is exact, the ones above may lie. */
static inline uint64_t not_plain(uint64_t w)
{
	uint64_t quote = w ^ EACH_BYTE('"'), slash = w ^ EACH_BYTE('\\');

	return ((w - EACH_BYTE(0x20)) | (quote - EACH_BYTE(1)) | (slash - EACH_BYTE(1)) | w) &
	       EACH_BYTE(0x80);
}

static const unsigned char *skip_plain(const unsigned char *p, const unsigned char *end)
{
	while (end - p >= 8) {
		uint64_t w, hit;

		memcpy(&w, p, sizeof(w));
		hit = not_plain(le64toh(w));
		if (hit != 0)
			return p + (__builtin_ctzll(hit) >> 3);
		p += 8;
	}
	while (p < end && *p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\')
		p++;
	return p;
}

/* One character above U+007F, RFC 3629; NULL if it is none. */
static const unsigned char *utf8(const unsigned char *p, const unsigned char *end)
{
	size_t left = (size_t)(end - p);
	unsigned char c = p[0];

	if (c >= 0xc2 && c <= 0xdf)
		return left >= 2 && (p[1] & 0xc0) == 0x80 ? p + 2 : NULL;
	if (c >= 0xe0 && c <= 0xef) {
		if (left < 3 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80)
			return NULL;
		if ((c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f))
			return NULL; /* overlong; a surrogate */
		return p + 3;
	}
	if (c >= 0xf0 && c <= 0xf4) {
		if (left < 4 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80 || (p[3] & 0xc0) != 0x80)
			return NULL;
		if ((c == 0xf0 && p[1] < 0x90) || (c == 0xf4 && p[1] > 0x8f))
			return NULL; /* overlong; above U+10FFFF */
		return p + 4;
	}
	return NULL;
}

/* Four hexadecimal digits, or -1. */
static int hex4(const unsigned char *p, const unsigned char *end)
{
	int v = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		unsigned char c = p[i], low = c | 0x20;

		if (is_digit(c))
			v = v << 4 | (c - '0');
		else if (low >= 'a' && low <= 'f')
			v = v << 4 | (low - 'a' + 10);
		else
			return -1;
	}
	return v;
}

/* p is behind the backslash. */
static const unsigned char *escape(const unsigned char *p, const unsigned char *end, const char **why)
{
	int v;

	if (p == end) {
		*why = "text ends inside a string";
		return NULL;
	}
	switch (*p) {
	case '"':
	case '\\':
	case '/':
	case 'b':
	case 'f':
	case 'n':
	case 'r':
	case 't':
		return p + 1;
	case 'u':
		v = hex4(p + 1, end);
		if (v < 0)
			*why = "\\u without four hexadecimal digits";
		else if (v == 0)
			*why = "U+0000 in a string";
		else if (v < 0xd800 || v > 0xdfff)
			return p + 5;
		else if (v <= 0xdbff && end - p >= 7 && p[5] == '\\' && p[6] == 'u') {
			v = hex4(p + 7, end);
			if (v >= 0xdc00 && v <= 0xdfff)
				return p + 11;
			*why = "half a surrogate pair";
		} else {
			*why = "half a surrogate pair";
		}
		return NULL;
	default:
		*why = "unknown escape";
		return NULL;
	}
}

/* p is behind the opening quote; gives the byte behind the closing one, or NULL with *at and *why. */
static const unsigned char *string(const unsigned char *p, const unsigned char *end, const unsigned char **at,
				   const char **why)
{
	const unsigned char *next;

	for (;;) {
		p = skip_plain(p, end);
		if (p == end) {
			*why = "text ends inside a string";
			break;
		}
		if (*p == '"')
			return p + 1;
		if (*p == '\\') {
			next = escape(p + 1, end, why);
		} else if (*p < 0x20) {
			*why = "control character in a string";
			break;
		} else {
			next = utf8(p, end);
			if (next == NULL)
				*why = "not UTF-8";
		}
		if (next == NULL)
			break;
		p = next;
	}
	*at = p;
	return NULL;
}

/* A number with a fraction or exponent is worth keeping only if a double can hold it: json-c reads
 * it as one, and PostgreSQL's numeric has its own end. */
static bool double_holds(const unsigned char *p, size_t n)
{
	char text[64];

	if (n >= sizeof(text))
		return false;
	memcpy(text, p, n);
	text[n] = '\0';
	return isfinite(strtod(text, NULL));
}

/* p is at the first character. */
static const unsigned char *number(const unsigned char *p, const unsigned char *end, const char **why)
{
	const unsigned char *start = p, *digits;
	bool minus = *p == '-';

	*why = "not a number";
	p += minus;
	digits = p;
	if (p == end || !is_digit(*p))
		return NULL;
	if (*p++ != '0') {
		while (p < end && is_digit(*p))
			p++;
	} else if (p < end && is_digit(*p)) {
		*why = "number with a leading zero";
		return NULL;
	}
	if (p == end || (*p != '.' && *p != 'e' && *p != 'E')) {
		size_t n = (size_t)(p - digits);

		if (n < 19 ||
		    (n == 19 &&
		     memcmp(digits, minus ? "9223372036854775808" : "9223372036854775807", 19) <= 0))
			return p;
		*why = "integer beyond 64 bits";
		return NULL;
	}
	if (*p == '.') {
		p++;
		if (p == end || !is_digit(*p))
			return NULL;
		while (p < end && is_digit(*p))
			p++;
	}
	if (p < end && (*p == 'e' || *p == 'E')) {
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		if (p == end || !is_digit(*p))
			return NULL;
		while (p < end && is_digit(*p))
			p++;
	}
	*why = "number out of range";
	return double_holds(start, (size_t)(p - start)) ? p : NULL;
}

static inline const unsigned char *blanks(const unsigned char *p, const unsigned char *end)
{
	while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
		p++;
	return p;
}

static bool literal(const unsigned char *p, const unsigned char *end, const char *word, size_t n)
{
	return (size_t)(end - p) >= n && memcmp(p, word, n) == 0;
}

int json_scan(struct json_scan *s, struct str text)
{
	const unsigned char *base = (const unsigned char *)text.p, *p = base, *end = base + text.n, *next;
	uint32_t holder[JSON_DEPTH + 1], in_object = 0, current = 0, n = 0; /* member 0: nobody's value */
	const char *why = "text ends early";
	unsigned depth = 0;

	if (s->room == 0 || s->room > ROOM_KEPT) {
		json_scan_clear(s);
		more_room(s);
	}
	s->members = 0;
	if (text.n > JSON_TEXT_MAX) {
		why = "text too long";
		goto refuse;
	}
	p = blanks(p, end);
	if (p < end && *p != '{' && *p != '[') {
		why = "neither an object nor an array";
		goto refuse;
	}
value:
	p = blanks(p, end);
	s->member[current].at = (uint32_t)(p - base);
	if (p == end)
		goto refuse;
	switch (*p) {
	case '"':
		next = string(p + 1, end, &p, &why);
		break;
	case '{':
	case '[':
		if (depth == JSON_DEPTH) {
			why = "nested too deeply";
			goto refuse;
		}
		depth++;
		holder[depth] = current;
		if (*p++ == '{') {
			in_object |= 1u << depth;
			p = blanks(p, end);
			if (p < end && *p == '}')
				goto close;
			goto key;
		}
		in_object &= ~(1u << depth);
		p = blanks(p, end);
		if (p < end && *p == ']')
			goto close;
		current = 0;
		goto value;
	case '-':
	case '0':
	case '1':
	case '2':
	case '3':
	case '4':
	case '5':
	case '6':
	case '7':
	case '8':
	case '9':
		next = number(p, end, &why);
		break;
	case 't':
		next = literal(p, end, "true", 4) ? p + 4 : NULL;
		why = "not a JSON value";
		break;
	case 'f':
		next = literal(p, end, "false", 5) ? p + 5 : NULL;
		why = "not a JSON value";
		break;
	case 'n':
		next = literal(p, end, "null", 4) ? p + 4 : NULL;
		why = "not a JSON value";
		break;
	default:
		next = NULL;
		why = "not a JSON value";
		break;
	}
	if (next == NULL)
		goto refuse;
	p = next;
	s->member[current].n = (uint32_t)(p - base) - s->member[current].at;
after:
	p = blanks(p, end);
	if (depth == 0) {
		if (p == end) {
			s->members = n;
			return 0;
		}
		why = "text after the end";
		goto refuse;
	}
	why = "text ends early";
	if (p == end)
		goto refuse;
	if (*p == ',') {
		p = blanks(p + 1, end);
		if (in_object >> depth & 1)
			goto key;
		current = 0;
		goto value;
	}
	if (*p == (in_object >> depth & 1 ? '}' : ']'))
		goto close;
	why = "expected a comma or the end of the object or array";
	goto refuse;
key:
	if (p == end)
		goto refuse;
	if (*p != '"') {
		why = "expected a key in double quotes";
		goto refuse;
	}
	next = string(p + 1, end, &p, &why);
	if (next == NULL)
		goto refuse;
	p = blanks(next, end);
	if (p == end)
		goto refuse;
	if (*p != ':') {
		why = "expected a colon";
		goto refuse;
	}
	p++;
	current = ++n;
	if (n == s->room)
		more_room(s);
	goto value;
close:
	p++;
	current = holder[depth--];
	s->member[current].n = (uint32_t)(p - base) - s->member[current].at;
	goto after;
refuse:
	s->at = (size_t)(p - base);
	s->why = why;
	return -EBADMSG;
}

/* repair.c - one pass, at most three bytes out for one byte in. */
#include "repair.h"

#define REPLACEMENT "\xEF\xBF\xBD"

static int hex4(struct str s, size_t at)
{
	int v = 0;

	if (at + 4 > s.n)
		return -1;
	for (size_t i = at; i < at + 4; i++) {
		char c = s.p[i];

		if (c >= '0' && c <= '9')
			v = v * 16 + (c - '0');
		else if (c >= 'a' && c <= 'f')
			v = v * 16 + (c - 'a' + 10);
		else if (c >= 'A' && c <= 'F')
			v = v * 16 + (c - 'A' + 10);
		else
			return -1;
	}
	return v;
}

static bool is_high(int v) { return v >= 0xD800 && v <= 0xDBFF; }
static bool is_low(int v)  { return v >= 0xDC00 && v <= 0xDFFF; }

/* What stands at s[at]: its length, and what to write instead (NULL: itself, "": nothing).  0: an
 * escape that is none.  That is no JSON, and taking something out behind it could make it one. */
static size_t unit(struct str s, size_t at, const char **instead)
{
	struct str rest = { s.p + at, s.n - at };
	size_t n;
	int v;

	*instead = NULL;
	if (rest.p[0] == '\0') {
		*instead = "";
		return 1;
	}
	if (rest.p[0] != '\\') {
		n = str_utf8_len(rest);
		if (n == 0)
			*instead = REPLACEMENT;
		return n == 0 ? 1 : n;
	}
	if (rest.n < 2 || rest.p[1] == '\0' || strchr("\"\\/bfnrtu", rest.p[1]) == NULL)
		return 0;
	if (rest.p[1] != 'u')
		return 2;
	v = hex4(s, at + 2);
	if (v < 0)
		return 0;
	if (v == 0) {
		*instead = "";
		return 6;
	}
	if (is_high(v) && at + 12 <= s.n && s.p[at + 6] == '\\' && s.p[at + 7] == 'u' && is_low(hex4(s, at + 8)))
		return 12;
	if (is_high(v) || is_low(v))
		*instead = REPLACEMENT;
	return 6;
}

struct str repair_json(struct str json, struct arena *mem)
{
	const char *instead;
	size_t at = 0, extra = 0;
	bool same = true;
	char *out, *to;

	while (at < json.n) {
		size_t n = unit(json, at, &instead);

		if (n == 0)
			return json;
		at += n;
		if (instead != NULL) {
			same = false;
			extra += strlen(instead);
		}
	}
	if (same)
		return json;
	out = to = arena_try(mem, json.n + extra, 1);
	if (out == NULL)
		return STR_NONE;
	for (at = 0; at < json.n;) {
		size_t n = unit(json, at, &instead);
		size_t len = instead != NULL ? strlen(instead) : n;

		memcpy(to, instead != NULL ? instead : json.p + at, len);
		to += len;
		at += n;
	}
	return (struct str){ out, (size_t)(to - out) };
}

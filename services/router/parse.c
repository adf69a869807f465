/* parse.c - quotes, prefixes and case of what people type.
 *
 * A quote opens only at the start of a word, so "don't" stays one word; the typographic double
 * quotes of phones count as '"'.  An unterminated quote takes the rest, because a viewer who
 * forgot one meant the whole text. */
#include "parse.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

/* The code point at *at and the offset behind it; text was checked at the edge. */
static UChar32 next_cp(struct str s, size_t *at)
{
	unsigned char c = (unsigned char)s.p[*at];
	UChar32 cp;

	if (c < 0x80) {
		(*at)++;
		return c;
	}
	int32_t i = (int32_t)*at;

	U8_NEXT((const uint8_t *)s.p, i, (int32_t)s.n, cp);
	*at = (size_t)i;
	return cp;
}

static bool is_space(UChar32 c)
{
	return c < 0x80 ? (c == ' ' || (c >= '\t' && c <= '\r')) : u_isUWhiteSpace(c);
}

static bool starts_name(UChar32 c)
{
	if (c < 0x80)
		return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
	return u_isalnum(c);
}

static struct str skip_space(struct str s)
{
	size_t at = 0;

	while (at < s.n) {
		size_t next = at;

		if (!is_space(next_cp(s, &next)))
			break;
		at = next;
	}
	return (struct str){ s.p + at, s.n - at };
}

static struct str trim(struct str s)
{
	size_t at = 0, end = 0;

	if (s.n == 0)
		return s;
	s = skip_space(s);
	while (at < s.n)
		if (!is_space(next_cp(s, &at)))
			end = at;
	return (struct str){ s.p, end };
}

/* '"' for every double quote, '\'' for the single one, 0 for anything else. */
static int quote_of(UChar32 c)
{
	switch (c) {
	case '"': case 0x201C: case 0x201D: case 0x201E: case 0x201F:
		return '"';
	case '\'':
		return '\'';
	default:
		return 0;
	}
}

/* One word at the start of s, which is not blank; *rest is what follows it.  Quoted text is
 * written to *out and *out moved behind it: never more than the text itself. */
static struct str word(struct str s, char **out, struct str *rest)
{
	size_t at = 0;
	int quote = quote_of(next_cp(s, &at));

	if (quote == 0) {
		size_t next = at;

		while (at < s.n && !is_space(next_cp(s, &next)))
			at = next;
		*rest = (struct str){ s.p + at, s.n - at };
		return (struct str){ s.p, at };
	}

	char *to = *out;
	bool open = true;

	while (at < s.n) {
		size_t from = at;
		UChar32 c = next_cp(s, &at);

		if (open && quote == '"' && c == '\\' && at < s.n && (s.p[at] == '"' || s.p[at] == '\\')) {
			*to++ = s.p[at++];
			continue;
		}
		if (open && quote_of(c) == quote) {
			open = false;
			continue;
		}
		if (!open && is_space(c)) {
			at = from;
			break;
		}
		memcpy(to, s.p + from, at - from);
		to += at - from;
	}

	struct str ret = { *out, (size_t)(to - *out) };

	*rest = (struct str){ s.p + at, s.n - at };
	*out = to;
	return ret;
}

struct js_list parse_params(struct str text, struct arena *mem)
{
	struct str found[PARSE_MAX_PARAMS], rest = trim(text);
	struct js_list list = { 0 };
	char *out = rest.n > 0 ? arena_alloc(mem, rest.n) : NULL;

	while (rest.n > 0) {
		if (list.n == PARSE_MAX_PARAMS - 1) {
			found[list.n++] = rest;
			break;
		}
		found[list.n] = word(rest, &out, &rest);
		list.n++;
		rest = skip_space(rest);
	}
	if (list.n > 0) {
		list.items = arena_alloc(mem, list.n * sizeof(found[0]));
		memcpy(list.items, found, list.n * sizeof(found[0]));
	}
	return list;
}

static struct str fold(struct str name, struct arena *mem)
{
	size_t at = 0;
	bool ascii = true, lower = true;

	for (size_t i = 0; i < name.n; i++) {
		unsigned char c = (unsigned char)name.p[i];

		ascii = ascii && c < 0x80;
		lower = lower && !(c >= 'A' && c <= 'Z');
	}
	if (ascii && lower)
		return name;

	char *out = arena_alloc(mem, name.n * 2 + 4);    /* folding grows a code point by at most one byte */
	int32_t n = 0;

	while (at < name.n) {
		UChar32 c = u_foldCase(next_cp(name, &at), U_FOLD_CASE_DEFAULT);

		U8_APPEND_UNSAFE((uint8_t *)out, n, (uint32_t)c);
	}
	return (struct str){ out, (size_t)n };
}

bool parse_command(struct str text, struct arena *mem, struct parsed *ret)
{
	struct str s = trim(text);
	size_t at = 1, end;

	*ret = (struct parsed){ 0 };
	if (s.n < 2 || (s.p[0] != '!' && s.p[0] != '#') || !starts_name(next_cp(s, &at)))
		return false;
	for (end = at; end < s.n; end = at)
		if (is_space(next_cp(s, &at)))
			break;
	ret->prefix = (struct str){ s.p, 1 };
	ret->name = fold((struct str){ s.p + 1, end - 1 }, mem);
	ret->rest = trim((struct str){ s.p + end, s.n - end });
	ret->params = parse_params(ret->rest, mem);
	return true;
}

/* parse.c - quotes, prefixes and case of what people type.
 *
 * A quote opens only at the start of a word, so "don't" stays one word; the typographic double
 * quotes of phones count as '"'.  An unterminated quote takes the rest, because a viewer who
 * forgot one meant the whole text. */
#include "parse.h"
#include "err.h"

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

struct str parse_name(struct str name, struct arena *mem)
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
	ret->name = parse_name((struct str){ s.p + 1, end - 1 }, mem);
	ret->rest = trim((struct str){ s.p + end, s.n - end });
	ret->params = parse_params(ret->rest, mem);
	return true;
}

/* Events (router.md 3). */

struct metadata { struct str command, custom_id, message_id, options; };
static const struct js_field metadata_fields[] = {
	JS(struct metadata, command, JS_STR, .optional = true),
	JS(struct metadata, custom_id, JS_STR, .optional = true),
	JS(struct metadata, message_id, JS_STR, .optional = true),
	JS(struct metadata, options, JS_RAW, .optional = true),
	{ 0 }
};

/* What a collector wrote in another form than agreed counts as not written. */
static struct metadata metadata_of(struct str json, struct arena *mem)
{
	struct metadata m = { 0 };
	struct err err = { 0 };

	if (json.n > 0 && js_decode(json, metadata_fields, &m, mem, &err) != 0)
		return (struct metadata){ 0 };
	return m;
}

struct str parse_message_id(struct str metadata, struct arena *mem)
{
	return metadata_of(metadata, mem).message_id;
}

/* Numbers and truth values of options, as a platform gives them, become texts: [1,"a b"] ->
 * ["1","a b"].  json is one array, checked; what is within others is left to fail. */
static struct str options_as_texts(struct str json, struct arena *mem)
{
	struct buf b = BUF(256 * 1024);
	struct str ret = STR_NONE;
	bool text = false, bare = false;

	buf_add(&b, STR("{\"options\":"));
	for (size_t i = 0; i < json.n; i++) {
		char c = json.p[i];
		bool starts = !text && !bare && strchr("-0123456789tfn", c) != NULL;

		if (bare && (c == ',' || c == ']' || c == ' ' || c == '\n' || c == '\t' || c == '\r')) {
			buf_add(&b, STR("\""));
			bare = false;
		}
		if (starts) {
			buf_add(&b, STR("\""));
			bare = true;
		}
		buf_add(&b, (struct str){ json.p + i, 1 });
		if (text && c == '\\' && i + 1 < json.n)
			buf_add(&b, (struct str){ json.p + ++i, 1 });
		else if (c == '"')
			text = !text;
	}
	buf_add(&b, STR("}"));
	if (buf_str(&b, &ret) == 0)
		ret = arena_str(mem, ret);
	buf_clear(&b);
	return ret;
}

static bool options_of(struct str json, struct arena *mem, struct js_list *ret)
{
	struct options {
		struct js_list options;
	} o = { { 0 } };
	static const struct js_field fields[] = {
		JS(struct options, options, JS_STRS, .max = PARSE_MAX_PARAMS), { 0 }
	};
	struct err err = { 0 };

	if (json.n == 0 || json.p[0] != '[' ||
	    js_decode(options_as_texts(json, mem), fields, &o, mem, &err) != 0)
		return false;
	*ret = o.options;
	return true;
}

/* "<@U1> !help" of Slack and Discord, "@bot !help" elsewhere. */
static struct str behind_mention(struct str text)
{
	struct str s = trim(text);
	size_t at = 0, next = 0;

	if (!str_starts(s, STR("<@")) && !str_starts(s, STR("@")))
		return s;
	while (at < s.n && !is_space(next_cp(s, &next)))
		at = next;
	return skip_space((struct str){ s.p + at, s.n - at });
}

static enum asks ask_text(struct str text, struct arena *mem, struct parsed *ret)
{
	return parse_command(text, mem, ret) ? ASKS_COMMAND : ASKS_NOTHING;
}

static enum asks ask_slash(const struct event *e, struct arena *mem, struct parsed *ret)
{
	struct metadata m = metadata_of(e->metadata, mem);
	struct str text = trim(e->message_content), first = text, rest = STR_NONE;
	size_t at = 0, next = 0;

	while (at < text.n && !is_space(next_cp(text, &next)))
		at = next;
	first.n = at;
	/* Without the slash, and with the name elsewhere, all of the text is parameters. */
	if (str_starts(first, STR("/")) || m.command.n == 0)
		rest = skip_space((struct str){ text.p + at, text.n - at });
	else
		rest = text;
	if (str_starts(first, STR("/")))
		first = (struct str){ first.p + 1, first.n - 1 };
	ret->prefix = STR("!");
	ret->name = parse_name(m.command.n > 0 ? m.command : first, mem);
	ret->rest = rest;
	if (!options_of(m.options, mem, &ret->params))
		ret->params = parse_params(rest, mem);
	return ASKS_SLASH;
}

static enum asks ask_custom(const struct event *e, struct arena *mem, struct parsed *ret)
{
	struct str rest = STR_NONE, id = metadata_of(e->metadata, mem).custom_id;
	struct str name = str_cut(id, ':', &rest), *params;
	bool form = str_eq(name, STR("form"));

	ret->prefix = STR("!");
	ret->name = parse_name(name, mem);
	ret->rest = rest;
	if (rest.p != NULL) {
		params = arena_alloc(mem, 2 * sizeof *params);
		params[ret->params.n++] = str_cut(rest, ':', &rest);
		if (rest.p != NULL)
			params[ret->params.n++] = rest;
		ret->params.items = params;
	}
	return form && ret->params.n == 2 ? ASKS_FORM : ASKS_CUSTOM;
}

/* Types that are not named are neither parsed nor put through rules. */
enum reads { READS_NOTHING, READS_TEXT, READS_MENTION, READS_OPTIONS, READS_CUSTOM_ID };
static const struct { enum reads reads; enum rules_for rules; } types[] = {
	[MSG_CHAT] = { READS_TEXT, RULES_ALL },
	[MSG_APP_MENTION] = { READS_MENTION, RULES_ALL },
	[MSG_SLASH] = { READS_OPTIONS, RULES_NONE },
	[MSG_INTERACTION] = { READS_CUSTOM_ID, RULES_NONE },
	[MSG_BUTTON] = { READS_CUSTOM_ID, RULES_NONE },
	[MSG_SELECT] = { READS_CUSTOM_ID, RULES_NONE },
	[MSG_MODAL_SUBMIT] = { READS_CUSTOM_ID, RULES_NONE },
	[MSG_EDIT] = { READS_NOTHING, RULES_NO_COMMAND },
	[MSG_REDEMPTION] = { READS_NOTHING, RULES_NONE },
};

enum rules_for parse_rules(int message_type)
{
	return (size_t)message_type < ARRAY_LEN(types) ? types[message_type].rules : RULES_NONE;
}

enum asks parse_event(const struct event *e, struct arena *mem, struct parsed *ret)
{
	*ret = (struct parsed){ 0 };
	switch ((size_t)e->message_type < ARRAY_LEN(types) ? types[e->message_type].reads : READS_NOTHING) {
	case READS_TEXT:
		return ask_text(e->message_content, mem, ret);
	case READS_MENTION:
		return ask_text(behind_mention(e->message_content), mem, ret);
	case READS_OPTIONS:
		return ask_slash(e, mem, ret);
	case READS_CUSTOM_ID:
		return ask_custom(e, mem, ret);
	case READS_NOTHING:
		break;
	}
	return ASKS_NOTHING;
}

/* args.c - filling a struct by table, and telling the user what was wrong. */
#include "args.h"

#include <ctype.h>

enum { URL_MAX = 2048, TAGS_MAX = 10, TAG_CHARS = 50, WORDS_MAX = 256 };

size_t args_chars(struct str s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
	return n;
}

int args_id(struct str word, int64_t *ret)
{
	if (word.n > 0 && word.p[0] == '#')
		word = (struct str){ word.p + 1, word.n - 1 };
	if (word.n == 0 || !isdigit((unsigned char)word.p[0]))
		return -EINVAL;
	return str_int(word, 1, INT64_MAX, ret) == 0 ? 0 : -EINVAL;
}

static struct str lower(struct arena *mem, struct str s)
{
	char *p = arena_try(mem, s.n + 1, 1);

	if (p == NULL)
		return STR_NONE;
	for (size_t i = 0; i < s.n; i++)
		p[i] = (char)(s.p[i] >= 'A' && s.p[i] <= 'Z' ? s.p[i] + ('a' - 'A') : s.p[i]);
	return (struct str){ p, s.n };
}

static bool has(const struct js_list *l, struct str s)
{
	const struct str *items = l->items;

	for (size_t i = 0; i < l->n; i++)
		if (str_eq(items[i], s))
			return true;
	return false;
}

int args_tags(struct str text, struct arena *mem, struct js_list *ret)
{
	struct js_list l = { arena_try(mem, TAGS_MAX, sizeof(struct str)), 0 };
	struct str *items = l.items;

	if (items == NULL)
		return -E2BIG;
	while (text.n > 0) {
		struct str tag = lower(mem, str_trim(str_cut(text, ',', &text)));

		if (tag.n == 0 || has(&l, tag))
			continue;
		if (args_chars(tag) > TAG_CHARS)
			return -ERANGE;
		if (l.n == TAGS_MAX)
			return -E2BIG;
		items[l.n++] = tag;
	}
	*ret = l;
	return 0;
}

/* --- what one argument may be -------------------------------------------------------------- */

struct parse {
	struct arena *mem;
	struct str *why;
	const struct arg *arg;
};

/* "min_role" in a sentence starts with a capital letter. */
static int refuse_with(const struct parse *p, const char *what)
{
	const char *name = p->arg->name;

	if (p->arg->keyed || p->arg->type == ARG_PAGE)
		*p->why = arena_printf(p->mem, "%s= %s", name, what);
	else
		*p->why = arena_printf(p->mem, "%c%s %s", toupper((unsigned char)name[0]), name + 1, what);
	return -EINVAL;
}

static int64_t chars_max(const struct arg *a)
{
	return a->max > 0 ? a->max : 2000;
}

static int take_text(const struct parse *p, struct str word, struct str *ret)
{
	int64_t chars;
	char what[64];

	word = str_trim(word);
	chars = (int64_t)args_chars(word);
	if (chars == 0 && p->arg->min == 0 && (p->arg->optional || p->arg->keyed)) {
		*ret = STR_NONE;
		return 0;
	}
	if (chars == 0)
		return refuse_with(p, "is missing.");
	if (chars > chars_max(p->arg)) {
		snprintf(what, sizeof what, "may have %lld characters at most.",
			 (long long)chars_max(p->arg));
		return refuse_with(p, what);
	}
	if (chars < p->arg->min) {
		snprintf(what, sizeof what, "needs at least %lld characters.", (long long)p->arg->min);
		return refuse_with(p, what);
	}
	*ret = word;
	return 0;
}

static int take_int(const struct parse *p, struct str word, int64_t *ret)
{
	int64_t min = p->arg->min, max = p->arg->max;
	bool own = min != 0 || max != 0;
	char what[96];

	word = str_trim(word);
	if (word.n > 0 && (isdigit((unsigned char)word.p[0]) || (min < 0 && word.p[0] == '-')) &&
	    str_int(word, own ? min : 0, own ? max : INT64_MAX, ret) == 0)
		return 0;
	if (!own)
		return refuse_with(p, "must be a whole number.");
	snprintf(what, sizeof what, "must be a whole number from %lld to %lld.", (long long)min,
		 (long long)max);
	return refuse_with(p, what);
}

static int take_enum(const struct parse *p, struct str word, int *ret)
{
	struct buf all = BUF(512);
	struct str list, why;

	for (int i = 0; p->arg->names[i] != NULL; i++) {
		if (str_eq_fold(str_trim(word), str_of(p->arg->names[i]))) {
			*ret = i + 1;
			return 0;
		}
	}
	buf_printf(&all, "must be one of");
	for (int i = 0; p->arg->names[i] != NULL; i++)
		buf_printf(&all, "%s %s", i > 0 ? "," : "", p->arg->names[i]);
	buf_printf(&all, ".");
	if (buf_str(&all, &list) != 0)
		list = STR("is not one of the known ones.");
	why = arena_printf(p->mem, STR_FMT, STR_ARG(list));
	buf_clear(&all);
	return refuse_with(p, why.p != NULL ? why.p : "is unknown.");
}

static int take_tags(const struct parse *p, struct str word, struct js_list *ret)
{
	switch (args_tags(word, p->mem, ret)) {
	case 0:
		return 0;
	case -ERANGE:
		return refuse_with(p, "takes tags of 50 characters at most.");
	default:
		return refuse_with(p, "takes 10 tags at most.");
	}
}

static int take(const struct parse *p, struct str word, void *at)
{
	switch (p->arg->type) {
	case ARG_WORD:
	case ARG_REST:
		return take_text(p, word, at);
	case ARG_INT:
		return take_int(p, word, at);
	case ARG_ID:
		return args_id(str_trim(word), at) == 0 ? 0
							: refuse_with(p, "must be a number like 12 or #12.");
	case ARG_ENUM:
		return take_enum(p, word, at);
	case ARG_URL:
		return args_url(str_trim(word), p->mem, at) == 0
			       ? 0
			       : refuse_with(p, "must be a web address like example.org/rules.");
	case ARG_TAGS:
		return take_tags(p, word, at);
	case ARG_DURATION:
		return args_duration(word, at) == 0
			       ? 0
			       : refuse_with(p, "must be a time span like 30m or 1 hour 30 minutes, "
						"from one minute to five years.");
	case ARG_PAGE:
		return str_int(word, 1, INT32_MAX, at) == 0
			       ? 0
			       : refuse_with(p, "must be a whole number from 1.");
	}
	ASSERT(p->arg->type <= ARG_PAGE);
	return -EINVAL;
}

/* --- the walk ------------------------------------------------------------------------------ */

static bool is_keyed(const struct arg *a)
{
	return a->keyed || a->type == ARG_PAGE;
}

static const struct arg *key_of(const struct arg *table, struct str word, struct str *ret_value)
{
	struct str value, key = str_cut(word, '=', &value);

	if (value.p == NULL)
		return NULL;
	for (const struct arg *a = table; a->name != NULL; a++) {
		if (is_keyed(a) && str_eq_fold(key, str_of(a->name))) {
			*ret_value = value;
			return a;
		}
	}
	return NULL;
}

static struct str join(struct arena *mem, const struct str *words, size_t n)
{
	size_t total = 0, at = 0;
	char *p;

	if (n == 1)
		return words[0];
	for (size_t i = 0; i < n; i++)
		total += words[i].n + 1;
	p = arena_try(mem, total + 1, 1);
	if (p == NULL)
		return STR_NONE;
	for (size_t i = 0; i < n; i++) {
		if (at > 0)
			p[at++] = ' ';
		if (words[i].n > 0)
			memcpy(p + at, words[i].p, words[i].n);
		at += words[i].n;
	}
	return (struct str){ p, at };
}

static bool takes_rest(const struct arg *a)
{
	const struct arg *next = a + 1;

	if (a->type == ARG_REST)
		return true;
	while (next->name != NULL && is_keyed(next))
		next++;
	return a->type == ARG_DURATION && next->name == NULL;
}

static void set_defaults(const struct arg *table, char *out)
{
	for (const struct arg *a = table; a->name != NULL; a++)
		if (a->type == ARG_PAGE)
			*(int64_t *)(void *)(out + a->offset) = 1;
}

int args_parse(const struct arg *table, const struct str *words, size_t n, void *out, struct arena *mem,
	       struct str *ret_why)
{
	static const struct arg none = { .name = NULL };
	struct parse p = { .mem = mem, .why = ret_why };
	struct str *plain = arena_try(mem, n + 1, sizeof *plain), value;
	size_t n_plain = 0, at = 0;

	if (table == NULL)
		table = &none;
	if (plain == NULL || n > WORDS_MAX) {
		*ret_why = STR("That is too much text.");
		return -EINVAL;
	}
	set_defaults(table, out);
	for (size_t i = 0; i < n; i++) {
		p.arg = key_of(table, words[i], &value);
		if (p.arg == NULL)
			plain[n_plain++] = words[i];
		else if (take(&p, value, (char *)out + p.arg->offset) != 0)
			return -EINVAL;
	}
	for (const struct arg *a = table; a->name != NULL; a++) {
		struct str word;

		if (is_keyed(a))
			continue;
		p.arg = a;
		if (at == n_plain) {
			if (a->optional)
				continue;
			return refuse_with(&p, "is missing.");
		}
		word = takes_rest(a) ? join(mem, plain + at, n_plain - at) : plain[at];
		at = takes_rest(a) ? n_plain : at + 1;
		if (take(&p, word, (char *)out + a->offset) != 0)
			return -EINVAL;
	}
	if (at < n_plain) {
		*ret_why = STR("That is more than I can use. Put text with blanks in quotes.");
		return -EINVAL;
	}
	return 0;
}

/* --- what help shows ----------------------------------------------------------------------- */

static void usage_of(const struct arg *a, struct buf *out)
{
	switch (a->type) {
	case ARG_WORD:
		buf_printf(out, a->keyed ? "%s=…" : "\"%s\"", a->name);
		break;
	case ARG_REST:
		buf_printf(out, "%s …", a->name);
		break;
	case ARG_ENUM:
		if (a->keyed)
			buf_printf(out, "%s=", a->name);
		for (int i = 0; a->names[i] != NULL; i++)
			buf_printf(out, "%s%s", i > 0 ? "|" : "", a->names[i]);
		break;
	case ARG_TAGS:
		buf_printf(out, a->keyed ? "%s=a,b" : "%s,…", a->name);
		break;
	case ARG_PAGE:
		buf_printf(out, "%s=N", a->name);
		break;
	case ARG_INT:
	case ARG_ID:
	case ARG_URL:
	case ARG_DURATION:
		buf_printf(out, a->keyed ? "%s=…" : "%s", a->name);
		break;
	}
}

void args_usage(const struct arg *table, struct buf *out)
{
	for (const struct arg *a = table; a != NULL && a->name != NULL; a++) {
		bool may = a->optional || is_keyed(a);

		buf_printf(out, "%s%s", a == table ? "" : " ", may ? "[" : "");
		usage_of(a, out);
		buf_printf(out, "%s", may ? "]" : "");
	}
}

void args_limits(const struct arg *table, struct buf *out)
{
	bool first = true;

	for (const struct arg *a = table; a != NULL && a->name != NULL; a++) {
		const char *sep = first ? "" : ", ";

		switch (a->type) {
		case ARG_WORD:
		case ARG_REST:
			buf_printf(out, "%s%s at most %lld characters", sep, a->name,
				   (long long)chars_max(a));
			break;
		case ARG_URL:
			buf_printf(out, "%s%s at most %d bytes", sep, a->name, URL_MAX);
			break;
		case ARG_TAGS:
			buf_printf(out, "%s%s at most %d of %d characters", sep, a->name, TAGS_MAX,
				   TAG_CHARS);
			break;
		case ARG_INT:
			if (a->max == 0)
				continue;
			buf_printf(out, "%s%s from %lld to %lld", sep, a->name, (long long)a->min,
				   (long long)a->max);
			break;
		case ARG_ID:
		case ARG_ENUM:
		case ARG_DURATION:
		case ARG_PAGE:
			continue;
		}
		first = false;
	}
}

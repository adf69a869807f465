/* module_table.c - longest match, nearest name, help lines. */
#include "module_table.h"

#include "module_rights.h"

enum { NAME_MAX_CHARS = 32, NEAR = 2 };

static size_t words_in(const char *name)
{
	size_t n = name[0] != '\0';

	for (; *name != '\0'; name++)
		n += *name == ' ';
	return n;
}

static bool starts_with_name(const char *name, const struct str *words, size_t n)
{
	struct str rest = str_of(name);

	if (words_in(name) > n)
		return false;
	for (size_t i = 0; rest.n > 0; i++)
		if (!str_eq_fold(str_cut(rest, ' ', &rest), words[i]))
			return false;
	return true;
}

static void try_name(const struct command *c, const char *name, const struct str *words, size_t n,
                     const struct command **best, size_t *best_words)
{
	size_t len = words_in(name);

	if ((*best == NULL || len > *best_words) && starts_with_name(name, words, n)) {
		*best = c;
		*best_words = len;
	}
}

const struct command *command_find(const struct command *table, const struct str *words, size_t n,
                                   size_t *ret_words)
{
	const struct command *best = NULL;

	*ret_words = 0;
	for (const struct command *c = table; c->name != NULL; c++) {
		try_name(c, c->name, words, n, &best, ret_words);
		for (const char *const *also = c->also; also != NULL && *also != NULL; also++)
			try_name(c, *also, words, n, &best, ret_words);
	}
	return best;
}

static char low(char c)
{
	return (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

/* Levenshtein over bytes, of short names only; NEAR + 1 for everything further. */
static unsigned distance(struct str a, struct str b)
{
	unsigned row[NAME_MAX_CHARS + 1], up, left;

	if (a.n > NAME_MAX_CHARS || b.n > NAME_MAX_CHARS || a.n > b.n + NEAR || b.n > a.n + NEAR)
		return NEAR + 1;
	for (unsigned j = 0; j <= b.n; j++)
		row[j] = j;
	for (unsigned i = 1; i <= a.n; i++) {
		left = i;
		for (unsigned j = 1; j <= b.n; j++) {
			unsigned cost = row[j - 1] + (low(a.p[i - 1]) != low(b.p[j - 1]));

			up = row[j];
			if (up + 1 < cost)
				cost = up + 1;
			if (left + 1 < cost)
				cost = left + 1;
			row[j - 1] = left;
			left = cost;
		}
		row[b.n] = left;
	}
	return row[b.n];
}

/* The first k words as typed, one blank between; shortened rather than refused. */
static struct str first_words(const struct str *words, size_t n, size_t k, char *buf, size_t cap)
{
	size_t at = 0;

	for (size_t i = 0; i < k && i < n; i++) {
		struct str w = words[i];

		if (at > 0 && at < cap)
			buf[at++] = ' ';
		if (w.n > cap - at)
			w.n = cap - at;
		memcpy(buf + at, w.p, w.n);
		at += w.n;
	}
	return (struct str){ buf, at };
}

static const char *nearest(const struct command *table, const struct str *words, size_t n)
{
	const char *best = NULL;
	unsigned best_by = NEAR + 1;
	char typed[NAME_MAX_CHARS + 1];

	for (const struct command *c = table; c->name != NULL; c++) {
		struct str t = first_words(words, n, words_in(c->name), typed, sizeof typed);
		unsigned by = distance(t, str_of(c->name));

		/* A three-letter word two letters off is another word. */
		if (by < best_by && by < strlen(c->name)) {
			best = c->name;
			best_by = by;
		}
	}
	return best;
}

static bool same_first(const char *name, struct str word)
{
	struct str rest;

	return str_eq_fold(str_cut(str_of(name), ' ', &rest), word);
}

/* First words, each once; or the whole names that begin with the word typed. */
static void list_names(const struct command *table, struct str word, bool whole, struct buf *out)
{
	bool first = true;

	for (const struct command *c = table; c->name != NULL; c++) {
		struct str rest, head = str_cut(str_of(c->name), ' ', &rest);
		bool seen = c->name[0] == '\0';

		if (whole && !same_first(c->name, word))
			continue;
		for (const struct command *d = table; !whole && d < c; d++)
			seen = seen || same_first(d->name, head);
		if (seen)
			continue;
		buf_printf(out, "%s" STR_FMT, first ? "" : ", ", STR_ARG(whole ? str_of(c->name) : head));
		first = false;
	}
	buf_printf(out, "%s", whole ? "" : ", help");
}

void command_unknown(const struct command *table, const struct str *words, size_t n, struct buf *out)
{
	const char *near = nearest(table, words, n);
	bool group = false;

	for (const struct command *c = table; c->name != NULL; c++)
		group = group || (words_in(c->name) > 1 && same_first(c->name, words[0]));
	buf_printf(out, "Unknown: " STR_FMT, STR_ARG(str_clip(words[0], NAME_MAX_CHARS)));
	if (group && n > 1)
		buf_printf(out, " " STR_FMT, STR_ARG(str_clip(words[1], NAME_MAX_CHARS)));
	buf_printf(out, ". Try ");
	list_names(table, words[0], group, out);
	buf_printf(out, ".");
	if (near != NULL)
		buf_printf(out, " Did you mean %s?", near);
}

static void grammar(const struct command *c, struct str root, struct buf *out)
{
	buf_printf(out, "!" STR_FMT "%s%s", STR_ARG(root), c->name[0] != '\0' ? " " : "", c->name);
	if (c->args != NULL && c->args->name != NULL) {
		buf_add(out, STR(" "));
		args_usage(c->args, out);
	}
}

void command_usage(const struct command *c, struct str root, struct buf *out)
{
	grammar(c, root, out);
	if (c->example != NULL)
		buf_printf(out, "  e.g. !" STR_FMT "%s%s %s", STR_ARG(root), c->name[0] != '\0' ? " " : "",
		           c->name, c->example);
}

void command_help(const struct command *table, struct str root, const char *newline,
                  bool (*may)(void *arg, const struct command *c), void *arg, struct buf *out)
{
	bool any = false;

	for (const struct command *c = table; c->name != NULL; c++) {
		if (!may(arg, c))
			continue;
		buf_printf(out, "%s!" STR_FMT "%s%s: %s", any ? newline : "", STR_ARG(root),
		           c->name[0] != '\0' ? " " : "", c->name, c->help);
		any = true;
	}
	buf_printf(out, "%s!" STR_FMT " help {command} says more.", any ? newline : "", STR_ARG(root));
}

void command_help_one(const struct command *c, struct str root, const char *newline, enum need need,
                      struct buf *out)
{
	struct buf limits = BUF(1024);
	struct str text;

	buf_printf(out, "%s: %s%s", c->name[0] != '\0' ? c->name : "It", c->help, newline);
	command_usage(c, root, out);
	args_limits(c->args, &limits);
	if (buf_str(&limits, &text) == 0 && text.n > 0)
		buf_printf(out, "%sLimits: " STR_FMT, newline, STR_ARG(text));
	buf_printf(out, "%sFor: %s%s%s", newline, need_name(need), c->label != NULL ? " or label " : "",
	           c->label != NULL ? c->label : "");
	buf_clear(&limits);
}

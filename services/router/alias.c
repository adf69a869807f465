/* alias.c - an alias can do nothing that typing could not, and typed text cannot break out of it.
 *
 * What stands for one parameter is put in after the parsing: until then a character that no text
 * has (U+FDD0 and following, set aside by Unicode for such use) marks its place, so that a blank
 * or a quote mark in it splits nothing. */
#include "alias.h"

#define TEXT_MAX ((size_t)24 * 1024)    /* of one expansion: the longest message and a target */

enum { MARK_BYTES = 3, MARKS = 10 };    /* 0: the user's name; 1..9: parameters */

static void add_mark(struct buf *out, size_t i)
{
	const char mark[MARK_BYTES] = { (char)0xEF, (char)0xB7, (char)(0x90 + i) };

	buf_add(out, (struct str){ mark, sizeof mark });
}

/* The mark at the start of s, or -1. */
static int mark_at(struct str s)
{
	unsigned last = s.n >= MARK_BYTES ? (unsigned char)s.p[2] : 0;

	if (last < 0x90 || last >= 0x90 + MARKS || memcmp(s.p, "\xEF\xB7", 2) != 0)
		return -1;
	return (int)(last - 0x90);
}

static void add_quoted(struct buf *out, struct str s)
{
	buf_add(out, STR("\""));
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '"' || s.p[i] == '\\')
			buf_add(out, STR("\\"));
		buf_add(out, (struct str){ s.p + i, 1 });
	}
	buf_add(out, STR("\""));
}

/* s with what its marks stand for; quoted in the raw text that a further alias may pass on. */
static struct str unmark(struct str s, const struct str value[MARKS], bool quoted, struct arena *mem)
{
	struct buf b = BUF(TEXT_MAX);
	struct str ret = STR_NONE;
	size_t plain = 0;

	while (plain < s.n && mark_at((struct str){ s.p + plain, s.n - plain }) < 0)
		plain++;
	if (plain == s.n)
		return s;
	for (size_t at = 0; at < s.n;) {
		int mark = mark_at((struct str){ s.p + at, s.n - at });

		if (mark < 0)
			buf_add(&b, (struct str){ s.p + at, 1 });
		else if (quoted)
			add_quoted(&b, value[mark]);
		else
			buf_add(&b, value[mark]);
		at += mark < 0 ? 1 : MARK_BYTES;
	}
	if (buf_str(&b, &ret) == 0)
		ret = arena_str(mem, ret);
	buf_clear(&b);
	return ret;
}

static bool placeholder(struct str name, struct str rest, struct buf *out)
{
	if (str_eq(name, STR("args")) || str_eq(name, STR("all_args")))
		buf_add(out, rest);
	else if (str_eq(name, STR("user")))
		add_mark(out, 0);
	else if (name.n == 4 && str_starts(name, STR("arg")) && name.p[3] >= '1' && name.p[3] <= '9')
		add_mark(out, (size_t)(name.p[3] - '0'));
	else
		return false;
	return true;
}

/* True: there was at least one placeholder. */
static bool fill_in(struct str target, struct str rest, struct buf *out)
{
	bool any = false;

	while (target.n > 0) {
		const char *open = memchr(target.p, '{', target.n);
		const char *close =
			open != NULL ? memchr(open, '}', target.n - (size_t)(open - target.p)) : NULL;
		size_t done;

		if (close == NULL) {
			buf_add(out, target);
			break;
		}
		done = (size_t)(open - target.p);
		buf_add(out, (struct str){ target.p, done });
		if (placeholder((struct str){ open + 1, (size_t)(close - open - 1) }, rest, out)) {
			any = true;
			done = (size_t)(close + 1 - target.p);
		} else {
			buf_add(out, STR("{"));
			done++;
		}
		target = (struct str){ target.p + done, target.n - done };
	}
	return any;
}

/* a, then b; what is too much is joined to the last one. */
static struct js_list both(struct js_list a, struct js_list b, struct arena *mem)
{
	struct js_list list = { arena_alloc(mem, PARSE_MAX_PARAMS * sizeof(struct str)), 0 };
	struct str *to = list.items;

	for (size_t i = 0; i < a.n + b.n; i++) {
		struct str s =
			i < a.n ? ((const struct str *)a.items)[i] : ((const struct str *)b.items)[i - a.n];

		if (list.n < PARSE_MAX_PARAMS)
			to[list.n++] = s;
		else
			to[list.n - 1] =
				arena_printf(mem, STR_FMT " " STR_FMT, STR_ARG(to[list.n - 1]), STR_ARG(s));
	}
	return list;
}

/* False: many times a long parameter. */
static bool put_in(struct parsed *got, const struct parsed *said, struct str user, struct arena *mem)
{
	struct str value[MARKS] = { user }, *param = got->params.items;
	size_t total = 0;

	for (size_t i = 0; i < said->params.n && i + 1 < MARKS; i++)
		value[i + 1] = ((const struct str *)said->params.items)[i];
	for (size_t i = 0; i < got->params.n; i++) {
		param[i] = unmark(param[i], value, false, mem);
		total += param[i].n;
		if (param[i].p == NULL || total > TEXT_MAX)
			return false;
	}
	got->name = unmark(got->name, value, false, mem);
	got->rest = unmark(got->rest, value, true, mem);
	return got->name.p != NULL;
}

bool alias_expand(struct str target, struct str user, struct alias_trail *trail, struct arena *mem,
                  struct parsed *cmd)
{
	struct buf b = BUF(TEXT_MAX);
	struct str text = STR_NONE;
	struct parsed got = { 0 };
	bool any, fits = true;

	for (size_t i = 0; i < trail->n; i++)
		if (str_eq(trail->seen[i], cmd->name))
			return false;
	if (trail->n == ALIAS_MAX)
		return false;
	trail->seen[trail->n++] = cmd->name;
	any = fill_in(target, cmd->rest, &b);
	if (buf_str(&b, &text) != 0 || !parse_command(arena_str(mem, text), mem, &got))
		fits = false;
	buf_clear(&b);
	if (!fits) {
		;
	} else if (any) {
		fits = put_in(&got, cmd, user, mem);
	} else if (cmd->params.n > 0) {
		got.params = both(got.params, cmd->params, mem);
		got.rest = arena_printf(mem, STR_FMT "%s" STR_FMT, STR_ARG(got.rest),
		                        got.rest.n > 0 ? " " : "", STR_ARG(cmd->rest));
	}
	*cmd = fits ? got : (struct parsed){ .prefix = STR("!") };
	return true;
}

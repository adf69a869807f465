/* args.h - the words behind a sub-command, checked and put into a struct by a table.
 *
 * The router has split the text (router.md 5): a word here is one parameter, quoted or not, and is
 * never split again except comma lists.  The same table makes the usage line and the limits that
 * `help` shows.  Every refusal is a sentence for the user; nothing is ever half filled in: the
 * struct is only looked at after success.  Rules: modules.md 1.3. */
#ifndef ARGS_H
#define ARGS_H

#include "arena.h"
#include "decode.h"

enum arg_type {
	ARG_WORD = 1,           /* struct str; trimmed, min..max characters */
	ARG_REST,               /* struct str; all that is left, joined by one blank */
	ARG_INT,                /* int64_t in min..max; decimal digits */
	ARG_ID,                 /* int64_t; 12 or #12 */
	ARG_ENUM,               /* int; 1 + index into .names, any case; 0: not given */
	ARG_URL,                /* struct str; http or https, checked, https:// put in front */
	ARG_TAGS,               /* struct js_list of struct str; at most 10 of 50, lower case */
	ARG_DURATION,           /* struct duration; 1 minute to 5 years; as last one takes the rest */
	ARG_PAGE,               /* int64_t; written page=N, 1 when absent */
};

struct duration {               /* months are calendar steps, the rest is elapsed time */
	int64_t months, ms;
};

struct arg {
	const char *name;       /* NULL ends the table; shown in the usage line */
	enum arg_type type;
	size_t offset;
	bool optional;
	bool keyed;             /* written name=value, anywhere behind the sub-command; optional */
	int64_t min, max;       /* value or characters; 0,0: the type's own */
	const char *const *names;       /* ARG_ENUM; ends with NULL */
};
#define ARG(s, f, t, ...) { .name = #f, .type = (t), .offset = offsetof(s, f), __VA_ARGS__ }

/* -EINVAL: *ret_why is the sentence for the user, made in mem ("Title is missing."). */
int args_parse(const struct arg *table, const struct str *words, size_t n, void *out,
               struct arena *mem, struct str *ret_why) MUST_CHECK;

/* `"title" "url" ["description"] [tags=a,b]`; nothing for an empty table. */
void args_usage(const struct arg *table, struct buf *out);
/* "title at most 200 characters, url at most 2048 bytes"; nothing when none has a limit. */
void args_limits(const struct arg *table, struct buf *out);

/* The single types, for handlers that take a text apart themselves.  0 or -EINVAL, *ret untouched. */
int args_id(struct str word, int64_t *ret) MUST_CHECK;
int args_url(struct str word, struct arena *mem, struct str *ret) MUST_CHECK;
int args_duration(struct str text, struct duration *ret) MUST_CHECK;
/* Lower-cases ASCII, drops duplicates and empty ones.  -ERANGE: one is too long; -E2BIG: too many. */
int args_tags(struct str text, struct arena *mem, struct js_list *ret) MUST_CHECK;

size_t args_chars(struct str s);        /* code points of valid UTF-8 */

#endif

/* pattern.h - regular expressions of people, in time linear in text times program (router.md 14).
 *
 * Dialect: literals, `.`, classes with ranges and negation, \d \w \s \b and capitals, \p{L} \p{Lu}
 * \p{Ll} \p{M} \p{N} \p{P} \p{S} and \P, ^ $ (whole text), groups, |, * + ? {n,m} (lazy forms are
 * read and change nothing), (?i) (?s) at the start.  \ before punctuation takes it literally; \n \r
 * \t are those characters.  Of several matches the leftmost, of those the longest.
 *
 * A letter is gc L, a mark M, a digit Nd; \w is these and `_`.  Without regard to case means simple
 * case folding, one character for one.  Nothing here blocks, logs or is shared: a compiled pattern
 * may be read by any thread, a scratch belongs to one. */
#ifndef PATTERN_H
#define PATTERN_H

#include "str.h"

enum { PATTERN_CHARS = 500, PATTERN_REPEAT = 1000, PATTERN_PROGRAM = 10000 };

struct pattern;
struct pattern_scratch;                 /* what a search writes to; grows with the programs it ran */
struct pattern_span { size_t from, to; };       /* bytes of the text */

/* -EINVAL with "character 7: ..." in err and *ret_at = 7, in code points from 0. */
int  pattern_compile(struct str text, bool ignore_case, struct pattern **ret, size_t *ret_at,
                     struct err *err) MUST_CHECK;
void pattern_free(struct pattern *p);           /* NULL is fine */
size_t pattern_size(const struct pattern *p) NONNULL;  /* instructions */

struct pattern_scratch *pattern_scratch_new(void) RETURNS_NONNULL;
void pattern_scratch_free(struct pattern_scratch *s);   /* NULL is fine */
/* Steps of all searches so far: tests count them instead of time. */
uint64_t pattern_steps(const struct pattern_scratch *s) NONNULL;

/* Search anywhere in valid UTF-8.  span NULL: whether, not where; that is quicker. */
bool pattern_find(const struct pattern *p, struct pattern_scratch *s, struct str text,
                  struct pattern_span *span) __attribute__((nonnull(1, 2)));

/* An expression over bytes that matches wherever p does and maybe elsewhere, in the syntax of
 * vectorscan: to sort out most of many patterns at once.  p that ignores case is to be searched
 * in a text folded by pattern_fold(). */
void pattern_approx(const struct pattern *p, struct buf *out) NONNULL;

/* Simple case folding, character by character; code points stay as many as they are. */
void pattern_fold(struct str text, struct buf *out) NONNULL;
bool pattern_word_char(int32_t c);              /* letter, mark, digit or _ */

#endif

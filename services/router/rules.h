/* rules.h - string rules (router.md 14): which rule of many hits a text, first by priority and id.
 *
 * A set is compiled once, by any thread, and then only read.  Texts, scratch and what was found
 * belong to a scan, of which each thread has its own.  A scan folds its text in up to four ways,
 * each at most once; literals of all rules are found in one pass of vectorscan, regular
 * expressions are sorted out by a second one and confirmed by pattern.h: linear, whatever they say. */
#ifndef RULES_H
#define RULES_H

#include "arena.h"
#include "str.h"

struct pattern;

enum rule_match { RULE_EXACT, RULE_CONTAINS, RULE_WORD, RULE_REGEX };
enum rule_action { RULE_WARN, RULE_BLOCK, RULE_COMMAND, RULE_WEBHOOK };
extern const char *const rule_match_names[], *const rule_action_names[];        /* end with NULL */

struct rule {
	int64_t    id, priority, timeout_s;
	int        match, action;       /* enum rule_match, rule_action */
	int        exempt;              /* enum role; users of it and above are spared; -1: nobody */
	bool       case_sensitive, normalize;
	struct str string;
	struct str warning, block, command, parameters, webhook_url, secret;    /* parameters: JSON; secret: sealed */
};

/* Why a rule can never act: -EINVAL, *ret_at is a character of the string (regex) or 0. */
int rule_check(const struct rule *r, size_t *ret_at, struct err *err) MUST_CHECK;

struct rules_set;
/* rules: n of them by (priority, id), texts and array in mem, which becomes the set's.  Rules that
 * rule_check() would refuse are left out. */
struct rules_set *rules_compile(const struct rule *rules, size_t n, struct arena *mem) RETURNS_NONNULL;
void rules_set_free(struct rules_set *s);       /* NULL is fine */
size_t rules_set_size(const struct rules_set *s) NONNULL;
const struct rule *rules_set_at(const struct rules_set *s, size_t i) NONNULL;
bool rules_set_has_exempt(const struct rules_set *s) NONNULL;
size_t rules_set_bytes(const struct rules_set *s) NONNULL;
uint64_t rules_set_print(const struct rules_set *s) NONNULL;    /* equal rules, equal number */

struct rules_scan;
struct rules_scan *rules_scan_new(struct err *err) MUST_CHECK;
void rules_scan_free(struct rules_scan *c);     /* NULL is fine */
/* Before the first search of s by c; it takes as long as reading the set. */
void rules_scan_fit(struct rules_scan *c, struct rules_set *s) NONNULL;
/* text: valid UTF-8 that stays until the next one. */
void rules_scan_text(struct rules_scan *c, struct str text) NONNULL;

/* Whose text it is, and which rules are asked. */
struct rules_who { int rank; unsigned actions; };       /* enum role; 1u << enum rule_action */
enum { RULES_ANY_ACTION = 15, RULES_NO_COMMANDS = 15 & ~(1 << RULE_COMMAND) };

/* The first rule of s that hits the text and does not spare its author; of several sets the
 * smaller by rule_before() acts. */
const struct rule *rules_find(struct rules_scan *c, const struct rules_set *s, struct rules_who who) NONNULL;
/* The first max that hit, in order; their number.  For dry runs. */
size_t rules_find_all(struct rules_scan *c, const struct rules_set *s, struct rules_who who,
                      const struct rule **out, size_t max) NONNULL;
bool rule_before(const struct rule *a, const struct rule *b) NONNULL;

/* What a rule that hit the text compared it as; where, in bytes of that. */
struct str rules_folded(struct rules_scan *c, const struct rule *r) NONNULL;
struct rules_span { size_t from, to; };
struct rules_span rules_span(struct rules_scan *c, const struct rule *r) NONNULL;
/* The same as it stands in the message; of a normalised one as folded. */
struct str rules_matched(struct rules_scan *c, const struct rule *r) NONNULL;

/* Instructions that regular expressions have run in this scan so far: tests count them. */
uint64_t rules_steps(const struct rules_scan *c) NONNULL;

#endif

/* rules_act.h - what a rule that hit has in store for its event: made at once, sent after the commit. */
#ifndef RULES_ACT_H
#define RULES_ACT_H

#include "response.h"
#include "rules.h"

enum { RULE_MESSAGES = 2 + 2 * SPLIT_PARTS };   /* delete, timeout, to the user, to the moderators */

/* All of it in work.mem: the set may be gone when it is used. */
struct rule_effect {
	const char     *topic;          /* NULL: nobody sends for this platform */
	struct outbound out[RULE_MESSAGES];
	struct str      key[RULE_MESSAGES];
	size_t          n_out;
	struct str      hook_url, hook_secret, hook_body;       /* webhook; secret: sealed */
};

/* {user} {user_id} {channel} {match} {message}, each replaced once: what it brings in is not looked
 * at again.  Unknown braces stay. */
struct rule_words { struct str user, user_id, channel, match, message; };
struct str rule_render(struct str text, const struct rule_words *words, struct arena *mem);

#endif

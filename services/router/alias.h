/* alias.h - a community's own name for a command (router.md 5). */
#ifndef ALIAS_H
#define ALIAS_H

#include "parse.h"

enum { ALIAS_MAX = 5 };                 /* expansions in a row; one more is a loop */

/* What has been expanded for one event; zero at first. */
struct alias_trail { struct str seen[ALIAS_MAX]; size_t n; };

/* cmd becomes what target says for it: {args} and {all_args} are the rest of the text, raw; {user}
 * (the name given) and {arg1} .. {arg9} stay one parameter each, missing ones are empty; other
 * braces stay.  Without a placeholder the caller's parameters follow.  False with cmd untouched: the sixth expansion, or
 * a name seen before.  A target that is no command leaves an empty name, which nobody has. */
bool alias_expand(struct str target, struct str user, struct alias_trail *trail, struct arena *mem,
                  struct parsed *cmd) NONNULL;

#endif

/* split.h - a long text in a platform's parts (collectors.md 5.3, router.md 15).
 *
 * A part ends at the last line end, else at the last blank in its second half, else between
 * characters; never inside a UTF-8 character, a joined emoji sequence or a base letter and its
 * marks (UAX 29).  What is left after the last part is cut with an ellipsis. */
#ifndef SPLIT_H
#define SPLIT_H

#include "arena.h"
#include "str.h"

struct split_rule {
	size_t max_chars;               /* code points of a part: Twitch 500, Discord 2000, Slack 4000 */
	size_t max_parts;               /* 3 */
	bool   one_line;                /* line ends become blanks (Twitch) */
};
enum { SPLIT_PARTS = 8 };               /* the most max_parts can be */

/* Number of parts, 0 for a text of nothing but blanks.  Parts are in mem. */
size_t split_text(struct str text, struct split_rule rule, struct arena *mem, struct str parts[SPLIT_PARTS]);

#endif

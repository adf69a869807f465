/* due.h - when to look after which executions: spans of created_at by the moment they may be late.
 *
 * Not the executions themselves, only where they lie: a handful of numbers for each quarter of a
 * second ahead, whatever the load.  Pure, no I/O. */
#ifndef DUE_H
#define DUE_H

#include "common.h"

enum { DUE_SLOT_MS = 250, DUE_SLOTS = 4096, DUE_SPANS = 4 };    /* a quarter of an hour ahead */

struct due_span { int64_t from_ms, to_ms; };                    /* both included */

struct due {
	int64_t next;                   /* slot that is taken next */
	struct due_slot { struct due_span span[DUE_SPANS]; unsigned n; } slot[DUE_SLOTS];
};

void due_init(struct due *d, int64_t now_ms) NONNULL;
/* Look at these at at_ms (of any clock, always the same one); later than a quarter of an hour: then. */
void due_add(struct due *d, struct due_span s, int64_t at_ms) NONNULL;
/* What is due by now, oldest first, not overlapping; at most max, the last ones then joined. */
size_t due_take(struct due *d, int64_t now_ms, struct due_span *out, size_t max) NONNULL;
/* The oldest of all; INT64_MAX: nothing. */
int64_t due_oldest(const struct due *d) NONNULL;

#endif

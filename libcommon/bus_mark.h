/* bus_mark.h - the low-water mark of one partition: what may be stored when work ends out of order.
 *
 * Messages are numbered as they are taken, so gaps between offsets (compaction, transaction
 * markers) do not matter.  All steps are O(1) amortised; memory follows the widest span between
 * the oldest message not done and the newest. */
#ifndef BUS_MARK_H
#define BUS_MARK_H

#include "common.h"

struct bus_mark {
	int64_t  low;           /* the offset to store; -1: nothing done yet */
	uint64_t head, tail;    /* numbers of the oldest not done and of the next to come */
	uint64_t room;          /* slots, a power of two or 0 */
	uint64_t *slot;         /* offset * 2 + done */
};

/* Offsets must rise.  Returns the message's number for bus_mark_done(). */
uint64_t bus_mark_take(struct bus_mark *m, int64_t offset) NONNULL;
/* true: low has risen. */
bool     bus_mark_done(struct bus_mark *m, uint64_t number) NONNULL;
size_t   bus_mark_open(const struct bus_mark *m) NONNULL;       /* span not yet below the mark */
void     bus_mark_clear(struct bus_mark *m) NONNULL;

#endif

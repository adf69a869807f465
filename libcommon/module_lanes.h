/* module_lanes.h - one lane per community: its jobs run one at a time and in order, many lanes at once.
 *
 * A lane is on exactly one list: idle (remembers only its newest commit), ready (has work) or
 * running.  Ready lanes take turns, so a community with a hundred jobs waits behind each other
 * community once per job, never the other way round.  (modules.md 1.1, architecture.md 4.8) */
#ifndef MODULE_LANES_H
#define MODULE_LANES_H

#include "hash.h"
#include "list.h"

struct lane;
struct lane_job { struct list node; struct lane *lane; };       /* embedded; zeroed at first */

struct lanes {
	struct hash_table all;
	struct list ready, running, idle;
	unsigned n_running, max_running, max_waiting;
	size_t n_waiting, n_idle, max_idle;
	uint64_t forgotten_lsn;         /* the highest of lanes that were forgotten */
};

void lanes_init(struct lanes *l, unsigned max_running, unsigned max_waiting, size_t max_idle) NONNULL;
void lanes_clear(struct lanes *l) NONNULL;      /* jobs are the owner's and must be gone */

/* -EBUSY: max_waiting jobs of this community wait already. */
int  lanes_add(struct lanes *l, int64_t community, struct lane_job *job) MUST_CHECK;
struct lane_job *lanes_next(struct lanes *l) NONNULL;           /* starts it; NULL: none may start */
void lanes_done(struct lanes *l, struct lane_job *job) NONNULL; /* of one that was started */

/* The newest position this process wrote for a community, or above it. */
uint64_t lanes_lsn(const struct lanes *l, int64_t community) NONNULL;
void     lanes_wrote(struct lanes *l, struct lane_job *job, uint64_t lsn) NONNULL;

#endif

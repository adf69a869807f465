/* coordination.h - which container works which entity (router.md 16).
 *
 * Each call is one transaction on the primary.  Its answer is one row: the JSON of the HTTP answer,
 * and what is said below; no row: the caller does not hold the entity with that fence.  A list of
 * entities is three arrays of one length: ids (0: by address), addresses, fences. */
#ifndef COORDINATION_H
#define COORDINATION_H

#include "router.h"

enum coordination_call {
	COORD_CLAIM,            /* container, platform, max held, live first, give back what is not live */
	COORD_RELEASE,          /* container, list, all instead of the list; column 1: all were refused */
	COORD_RENEW,            /* container, list, all instead of the list, extend claims, note the check */
	COORD_STATUS,           /* container, entity_id, address, fence, is_live, viewers (-1: as it was),
	                         * live_since or null, has_activity, metadata ("": as it was) */
	COORD_ERROR,            /* container, entity_id, address, fence, message */
	COORD_POPULATE,         /* platform */
	COORD_STATS,            /* platform ("": all) */
	COORD_ENTITIES,         /* platform, is_live, claimed, container, status ("": any), rows, rows to
	                         * skip; column 1: how many there are in all */
	COORD_CALLS
};

struct coordination;
struct coordination *coordination_open(struct router *r) RETURNS_NONNULL;
void coordination_close(struct coordination *c);        /* after db_close(); NULL is fine */

/* done exactly once, never from inside. */
void coordination_do(struct coordination *c, enum coordination_call call, const struct db_param *params,
                     size_t n, db_done *done, void *arg);

extern struct metric *const coordination_metrics[];

#endif

/* positions.h - read your writes over replicas (router.md 18).
 *
 * A response may say up to where the database had written when its module committed; the next
 * commands of that community carry the highest such position, so that no reader of a standby sees
 * less.  Replicas tell each other by NOTIFY in the transaction that stores the response; who may
 * have missed a notice - a new owner of partitions, a new LISTEN connection - starts from the
 * position of its own next commit. */
#ifndef POSITIONS_H
#define POSITIONS_H

#include "router.h"

struct positions;
struct positions *positions_open(struct router *r) RETURNS_NONNULL;
void positions_close(struct positions *p);      /* after db_close(); NULL is fine */

/* What a response of this community said. */
void positions_saw(struct positions *p, int64_t community, uint64_t lsn) NONNULL;
/* What its next command has to say; 0: nothing. */
uint64_t positions_of(const struct positions *p, int64_t community) NONNULL;

/* Partitions were taken: what others wrote is not known here until the next commit. */
void positions_gained(struct positions *p) NONNULL;
/* A transaction begun then (clock_exact_us()) has committed and gave this position. */
void positions_committed(struct positions *p, int64_t begun_us, uint64_t lsn) NONNULL;

#endif

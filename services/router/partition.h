/* partition.h - which partitions of waddle.events are ours, and the proof of it in each batch.
 *
 * A partition that was assigned is taken in the database: its epoch rises.  Until that is done its
 * events wait.  Each batch checks the epochs of its partitions in its own transaction; one that
 * has another owner meanwhile commits nothing (router.md 9). */
#ifndef PARTITION_H
#define PARTITION_H

#include "db.h"
#include "list.h"

struct router;
struct work;
struct partitions;

struct partitions *partitions_open(struct router *r) RETURNS_NONNULL;
void partitions_close(struct partitions *p);

/* From the bus, inside its callbacks. */
void partition_gained(struct partitions *p, int32_t number);
void partition_losing(struct partitions *p, int32_t number);

/* Taken: verdicts may be given.  When it becomes so, intake_go_on() is called from the loop. */
bool partition_ready(const struct partitions *p, int32_t number) NONNULL;

/* A judged event whose partition is not ready any more; it comes back or is given up with it. */
void partition_park(struct partitions *p, struct work *w) NONNULL;

/* The check for the works on this list, as the last statement of their batch.  0 or db_tx_send()'s. */
int partition_guard(struct partitions *p, struct db_tx *tx, const struct list *works, struct arena *mem) MUST_CHECK;

/* A batch failed: true if by that check.  Then partitions are looked at again. */
bool partition_refused(struct partitions *p, const struct err *err) NONNULL;

/* Executions created before this are settled, as far as this replica's partitions go; saved where
 * the next owner finds it. */
void partitions_settled(struct partitions *p, int64_t before_ms);

extern struct metric *const partition_metrics[];

#endif

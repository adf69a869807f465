/* limits.h - rate limits of commands, exact over replicas and restarts (router.md 9).
 *
 * A candidate holds its key from the look until its event is done: what is judged and not yet in
 * rate_limits is never evicted. */
#ifndef LIMITS_H
#define LIMITS_H

#include "db.h"
#include "window.h"
#include "verdict.h"

struct router;
struct work;
struct candidate;
struct limits;

struct candidate_limit {                /* of one candidate */
	struct window_key *key;
	int64_t  command_id;            /* that key is of */
	int64_t  at_ms;                 /* judged at */
	uint32_t refused;               /* how many in its minute; 0: admitted, or refused before */
	bool     asked, admitted;
};

struct limits *limits_open(struct router *r) RETURNS_NONNULL;
void limits_close(struct limits *l);

/* How many keys of w's candidates have to be read first; again(w) is called once for each, never
 * from inside.  0: limits_take() may be called.  Only while w's partition is ready. */
unsigned limits_look(struct limits *l, struct work *w, void (*again)(void *arg)) MUST_CHECK;
void limits_release(struct limits *l, struct candidate *c) NONNULL;

/* PENDING or RATE_LIMITED with c->retry_after_ms. */
enum verdict limits_take(struct work *w, struct candidate *c) NONNULL;

/* The rows of these works into their batch; nothing is sent when none was limited. */
int limits_write(struct limits *l, struct db_tx *tx, const struct list *works, struct arena *mem) MUST_CHECK;

void limits_forget(struct limits *l, int32_t partition) NONNULL;

extern struct metric *const limits_metrics[];

#endif

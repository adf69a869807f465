/* rules_store.h - the compiled rules of the places that are spoken in, and keeping them up to date.
 *
 * A place has two sets: the rules of everywhere, shared by all, and its own (with those of its whole
 * server).  A set is loaded from the primary when it is first asked for, page by page, compiled in a
 * thread, and serves until a newer one is ready: a changed rule delays no message.  A notice about a
 * rule reloads only the sets it is or was in, at once; the time to live is the safety net. */
#ifndef RULES_STORE_H
#define RULES_STORE_H

#include "rules.h"

struct router;
struct rules;

struct rules *rules_open(struct router *r, struct err *err) MUST_CHECK;
void rules_close(struct rules *x);      /* after db_close(); NULL is fine */

/* True: ret has the sets, NULL for one without rules, valid during this turn of the loop.  False:
 * being loaded, again(arg) is called once when it is worth asking again, never from inside. */
bool rules_sets(struct rules *x, int64_t entity_id, int64_t server_wide_id, struct rules_set *ret[2],
                void (*again)(void *arg), void *arg) MUST_CHECK;
/* False: no place has an active rule. */
bool rules_exist(const struct rules *x) NONNULL;
struct rules_scan *rules_scan_of(struct rules *x) RETURNS_NONNULL;
struct worker *rules_worker(struct rules *x) RETURNS_NONNULL;   /* compiles; also for drafts */

/* A notice of waddle_invalidate; STR_NONE: everything may have changed. */
void rules_invalidate(struct rules *x, struct str notice);

extern struct metric *const rules_metrics[];

#endif

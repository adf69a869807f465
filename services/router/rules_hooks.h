/* rules_hooks.h - webhooks of string rules: written with the decision, called until they are done.
 *
 * A call is a row of rule_calls.  Taking a row moves its due_at beyond the attempt, which is the
 * lease: when a replica dies in a call, another one calls again under the same webhook-id. */
#ifndef RULES_HOOKS_H
#define RULES_HOOKS_H

#include "db.h"
#include "list.h"

struct router;
struct rules_hooks;

struct rules_hooks *rules_hooks_open(struct router *r) RETURNS_NONNULL;
void rules_hooks_drain(struct rules_hooks *h);
void rules_hooks_close(struct rules_hooks *h);  /* after db_close() and fetch_close(); NULL is fine */

/* A statement of the batch: the calls of works (list of struct work by node), each once per event
 * and rule.  0, also when there are none; else as db_tx_send(). */
int  rules_hooks_write(struct rules_hooks *h, struct db_tx *tx, const struct list *works, struct arena *mem) MUST_CHECK;
void rules_hooks_due(struct rules_hooks *h) NONNULL;   /* some were committed: look at once */

extern struct metric *const rules_hooks_metrics[];

#endif

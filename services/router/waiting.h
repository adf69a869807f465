/* waiting.h - executions that do not go with their batch: over their community's share of a module, or
 * links of a chain behind one that is not settled (router.md 10, 12, 19).
 *
 * They wait in the database, `waits` = 'turn' or 'link'; whoever settles an execution makes the link
 * behind it a turn.  Any replica with a free slot takes the oldest turns of a share under a lease and
 * sends them; the broker's acknowledgement ends the wait, an expired lease begins it anew.  Nobody
 * owns such a row, so nothing has to be handed over, and every second each replica looks whether
 * there are any it does not know of. */
#ifndef WAITING_H
#define WAITING_H

#include "fair.h"

struct router;
struct waiting;

struct waiting *waiting_open(struct router *r) RETURNS_NONNULL;
void waiting_drain(struct waiting *w);          /* takes no more turns */
void waiting_stop(struct waiting *w);           /* before db_close() */
void waiting_close(struct waiting *w);          /* after db_close() and bus_close() */

/* What is to become of a row about to be written. */
enum waiting_what { WAITING_GOES, WAITING_TURN, WAITING_LINK, WAITING_REFUSED };
struct waiting_asked { struct fair_share *share; struct fair_slot *slot; };
/* link: another execution stands before it.  *ret is to be ended by waiting_end(), also when it goes. */
enum waiting_what waiting_ask(struct waiting *w, int64_t community_id, struct str module, bool link,
                              const char *execution_id, int64_t created_ms, int64_t timeout_ms,
                              struct waiting_asked *ret);
/* Their transaction has committed, or not. */
void waiting_end(struct waiting *w, const struct waiting_asked *asked, size_t n, bool committed);

/* A final response, stored.  next_module: of the link behind the execution, STR_NONE: there is none. */
struct answered {
	struct str execution_id, module, next_module;
	int64_t    community_id, created_ms;
	bool       success;
};
void waiting_answered(struct waiting *w, const struct answered *a);
/* The same for an execution that failed without one. */
void waiting_gave_up(struct waiting *w, struct str execution_id, int64_t community_id, struct str next_module);
/* The broker will never take it (no such topic, too large): failed as unreachable. */
void waiting_unreachable(struct waiting *w, const char *execution_id, int64_t created_ms);

extern struct metric *const waiting_metrics[];

#endif

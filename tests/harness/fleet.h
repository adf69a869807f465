/* fleet.h - several routers on one consumer group, and commands for them to run; no module answers.
 *
 * Channels are "1001", "1002" ... of twitch; each has every command of fleet_command().  Events are
 * sent in bulk by a producer of the test's own. */
#ifndef FLEET_H
#define FLEET_H

#include "bus_client.h"
#include "stack.h"

enum { FLEET_ROUTERS = 4, FLEET_PARTITIONS = 6 };

struct fleet {
	struct stack st;
	struct bus_client bus;
	struct child *router[FLEET_ROUTERS];
	int channels;
};

void fleet_open(struct fleet *f, const char *name, int channels) NONNULL;
void fleet_close(struct fleet *f) NONNULL;      /* SIGTERM to all; a failure when one does not end with 0 */

/* Router i, known to the database as "r<i>"; a new one or again.  env may be NULL. */
void fleet_start(struct fleet *f, int i, const char *const *env);
/* Each of these has taken at least one partition and together they have all. */
void fleet_wait_owners(struct fleet *f, int n, const int *routers) NONNULL;
int  fleet_owner(struct fleet *f, int channel) NONNULL;         /* of that channel's partition */

void fleet_command(struct fleet *f, const char *name, int rate_limit) NONNULL;

struct fleet_event { const char *id, *user, *text; int channel; int64_t received_ms; };
/* In order; queued only.  0 as time: now. */
void fleet_send(struct fleet *f, struct fleet_event e) NONNULL;
void fleet_flush(struct fleet *f) NONNULL;      /* the broker has all of them */

int64_t fleet_now_ms(void);
/* Events whose id is LIKE this and that have a verdict: executions and decisions. */
void    fleet_wait_verdicts(struct fleet *f, int64_t n, const char *like, int64_t max_ms) NONNULL;
int64_t fleet_ran(struct fleet *f, const char *like) NONNULL;           /* executions */
int64_t fleet_refused(struct fleet *f, const char *like) NONNULL;       /* rate_limited */

#endif

/* announce.h - who we are, and that we live: waddle.registry (contracts.md 2).
 *
 * One message when all that the service needs is there (5 s after the start at the latest), one
 * every 30 s, one when its state changes: `active`, or `error` while a dependency of service_ready()
 * is gone.  `inactive` is the last word of a clean stop.  The topic is compacted by name, so each
 * message says everything. */
#ifndef ANNOUNCE_H
#define ANNOUNCE_H

#include "clock.h"
#include "envelope.h"

struct announce {
	struct service        *s;
	struct bus            *bus;
	const struct registry *what;
	struct timer           timer;
	int64_t                started_mono_ms, sent_mono_ms;
	int                    status;          /* last sent; -1: none */
};

/* what must outlive it; instance, status and heartbeat_at are filled in here. */
void announce_start(struct announce *a, struct service *s, struct bus *bus, const struct registry *what) NONNULL;
void announce_pause(struct announce *a) NONNULL;        /* drain: no heartbeat any more */
void announce_stop(struct announce *a) NONNULL;         /* before bus_close(); never started is fine */

#endif

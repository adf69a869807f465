/* service.h - what every process of the suite is: one loop, one life.
 *
 *      settings -> start -> run -> SIGTERM -> drain -> nothing held -> stop -> exit
 *
 * Exit status: 0 drained; 100 a person must change something (settings, schema, key); 111 try
 * again, the supervisor restarts (s6 convention).  A second SIGTERM or DRAIN_TIMEOUT_MS ends a
 * drain early, with 111: what is held is then delivered again to another process.
 *
 * A turn of the loop: on_turn functions, wait, callbacks, later functions.
 * libevent's event_active() from inside a callback never ends a turn: whoever bounds its work per
 * wake-up continues by service_later(), which makes the next turn not wait. */
#ifndef SERVICE_H
#define SERVICE_H

#include "common.h"
#include "config.h"

struct event_base;

/* Settings of cfg_base that this service cannot do without; missing ones are reported with all
 * other mistakes.  KAFKA_BROKERS and TOPIC_PREFIX have defaults. */
enum {
	NEEDS_DATABASE  = 1 << 0,       /* DATABASE_URL; DATABASE_READ_URL becomes the same if empty */
	NEEDS_KAFKA     = 1 << 1,       /* KAFKA_BROKERS */
	NEEDS_HTTP      = 1 << 2,       /* HTTP_LISTEN */
	NEEDS_ROUTER    = 1 << 3,       /* ROUTER_URL and SERVICE_KEY */
	NEEDS_PUBLIC    = 1 << 4,       /* PUBLIC_URL */
	NEEDS_SEALING   = 1 << 5,       /* SEALING_KEY_FILE */
};

struct service {
	const char           *name;             /* "memories": in every log line and metric */
	const char           *version;
	const struct cfg_var *vars;             /* own settings, ends with {0}; cfg_base_vars are added */
	void                 *settings;         /* filled before start() */
	unsigned              needs;            /* NEEDS_DATABASE | ... */
	const char *const    *spares;           /* dependencies without which /readyz says 200 all the
	                                         * same ("kafka"), NULL at the end; NULL: none */

	/* Tables of its own and of the parts it uses, NULL at the end, as each of them:
	 *      .metrics = (struct metric *const *const[]){ own_metrics, db_metrics, bus_metrics, NULL } */
	struct metric *const *const *metrics;   /* see admin.h */

	/* Open listeners and connections and return; being connected is reported later through
	 * service_ready().  err kind AGAIN, CONFLICT or UNKNOWN -> exit 111, any other -> 100, since
	 * at this point bad input is bad settings.  After a failure stop() is not called. */
	int  (*start)(struct service *s, struct err *err);
	void (*drain)(struct service *s);       /* take no new work; the loop runs on */
	void (*stop)(struct service *s);        /* free everything: LeakSanitizer looks */

	struct cfg_base       base;             /* filled before start() */
	struct event_base    *loop;             /* set before start() */
	struct timers        *timers;           /* clock.h */
	void                 *priv;             /* the service's own */
	struct service_state *state;            /* service.c's own */
};

int service_main(struct service *s, int argc, char **argv);    /* main() returns this */

/* Tools and tests: a loop without main()'s life - no settings, no signals but SIGPIPE ignored,
 * none of start, drain, stop is called.  Only .name has to be set. */
void service_init(struct service *s) NONNULL;
/* Runs the loop until until(arg) is true (looked at after every turn): true; or max_ms have
 * passed: false.  With a faked clock (clock_fake) max_ms counts real time all the same. */
bool service_run(struct service *s, bool (*until)(void *arg), void *arg, int64_t max_ms) MUST_CHECK;
void service_clear(struct service *s) NONNULL;

/* Work in flight keeps a draining process alive.  Every hold is released exactly once. */
void service_hold(struct service *s) NONNULL;
void service_release(struct service *s) NONNULL;
uint64_t service_held(const struct service *s) NONNULL;
bool service_draining(const struct service *s) NONNULL;
void service_drain(struct service *s) NONNULL;         /* as SIGTERM: begins a drain; twice is fine */

/* fn(arg) at the end of this loop turn, after all callbacks have returned: the one place where
 * an object may be freed that a library could still have on its stack.  Called from such an fn,
 * an on_turn function or outside: at the end of the next turn, which then does not wait. */
void service_later(struct service *s, void (*fn)(void *arg), void *arg);

/* Once per loop turn, before the loop waits: flush batches, send queued offsets.  Ends with
 * service_off_turn() of the same pair, which may be called from inside fn. */
void service_on_turn(struct service *s, void (*fn)(void *arg), void *arg);
void service_off_turn(struct service *s, void (*fn)(void *arg), void *arg);

/* /readyz answers 200 only while every named dependency is up and no drain has begun.
 * what is a constant ("postgres-write", "kafka"); a change is logged once.  Name each dependency
 * from start(), with up == false: what was never named is not waited for. */
void service_ready(struct service *s, const char *what, bool up) NONNULL;
/* {"status":"ready","checks":{"kafka":true}}; "waiting" or "draining" with false. */
bool service_ready_text(const struct service *s, struct buf *out) NONNULL;
/* The i-th that was named, NULL past the last. */
const char *service_dependency(const struct service *s, size_t i, bool *ret_up) NONNULL;
uint64_t service_turns(const struct service *s) NONNULL;        /* of the loop so far; a metric */

/* The rest of start() failed after the loop began, or an invariant of the outside world broke:
 * log, stop, exit with 100 or 111 by kind. */
NORETURN void service_fatal(struct service *s, const struct err *why) NONNULL;

/* clock_advance() only: ends a turn that a timer made outside the loop. */
void service_turn_over(struct service *s) NONNULL;

#endif

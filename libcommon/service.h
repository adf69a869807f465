/* service.h - what every process of the suite is: one loop, one life.
 *
 *      settings -> start -> run -> SIGTERM -> drain -> nothing held -> stop -> exit
 *
 * Exit status: 0 drained; 100 a person must change something (settings, schema, key); 111 try
 * again, the supervisor restarts (s6 convention).  A second SIGTERM or DRAIN_TIMEOUT_MS ends a
 * drain early: what is held is then delivered again to another process. */
#ifndef SERVICE_H
#define SERVICE_H

#include "common.h"
#include "config.h"

struct event_base;
struct metric;

struct service {
	const char           *name;             /* "memories": in every log line and metric */
	const char           *version;
	const struct cfg_var *vars;             /* own settings, ends with {0}; cfg_base_vars are added */
	void                 *settings;         /* filled before start() */
	struct metric *const *metrics;          /* ends with NULL */

	/* Open listeners and connections and return; being connected is reported later through
	 * service_ready().  err kind ERR_BROKEN -> exit 100, any other failure -> 111. */
	int  (*start)(struct service *s, struct err *err);
	void (*drain)(struct service *s);       /* take no new work; the loop runs on */
	void (*stop)(struct service *s);        /* free everything: LeakSanitizer looks */

	struct cfg_base       base;             /* filled before start() */
	struct event_base    *loop;             /* set before start() */
	void                 *priv;             /* the service's own */
	struct service_state *state;            /* service.c's own */
};

int service_main(struct service *s, int argc, char **argv);    /* main() returns this */

/* Tools and tests: a loop without main()'s life.  Only .name has to be set. */
void service_init(struct service *s) NONNULL;
/* Runs the loop until until(arg) is true (looked at after every turn): true; or max_ms have
 * passed: false.  With a faked clock (clock_fake) max_ms counts real time all the same. */
bool service_run(struct service *s, bool (*until)(void *arg), void *arg, int64_t max_ms) MUST_CHECK;
void service_clear(struct service *s) NONNULL;

/* Work in flight keeps a draining process alive.  Every hold is released exactly once. */
void service_hold(struct service *s) NONNULL;
void service_release(struct service *s) NONNULL;
bool service_draining(const struct service *s) NONNULL;

/* fn(arg) at the end of this loop turn, after all callbacks have returned: the one place where
 * an object may be freed that a library could still have on its stack. */
void service_later(struct service *s, void (*fn)(void *arg), void *arg);

/* Once per loop turn, before the loop waits: flush batches, send queued offsets. */
void service_on_turn(struct service *s, void (*fn)(void *arg), void *arg);

/* /readyz answers 200 only while every named dependency is up and no drain has begun.
 * what is a constant ("postgres-write", "kafka"); a change is logged once. */
void service_ready(struct service *s, const char *what, bool up) NONNULL;

/* The rest of start() failed after the loop began, or an invariant of the outside world broke:
 * log, stop, exit with 100 or 111 by kind. */
NORETURN void service_fatal(struct service *s, const struct err *why) NONNULL;

#endif

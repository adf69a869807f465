/* wait.h - what every integration test needs: a limit on each wait, a failure that says why,
 * a free port, and random numbers that can be repeated.
 *
 * All of the harness blocks and is meant for the test's own thread, outside the loop's callbacks:
 * a failure jumps out of the test (cmocka), which must not happen across a library. */
#ifndef WAIT_H
#define WAIT_H

#include "common.h"

/* Ends the running test as failed, with this text. */
NORETURN void harness_fail(const char *fmt, ...) PRINTF(1, 2);

int64_t harness_now_ms(void);                   /* monotonic, never the faked clock */

/* Looks at cond(arg) every few ms until it is true: true; or max_ms have passed: false. */
bool wait_until(bool (*cond)(void *arg), void *arg, int64_t max_ms) MUST_CHECK;
/* The same, a failure when the time is up: "not within 5000 ms: <what>". */
void wait_for(const char *what, bool (*cond)(void *arg), void *arg, int64_t max_ms);

/* A TCP port of 127.0.0.1 that nobody listens on now. */
int free_port(void);

/* Deterministic: the seed is TEST_SEED or taken from the time, and printed once. */
uint64_t rnd_next(void);
uint64_t rnd_below(uint64_t limit);             /* 0 ... limit - 1 */

/* printf into fresh memory; free() it.  Never NULL. */
char *text_of(const char *fmt, ...) PRINTF(1, 2) RETURNS_NONNULL;
/* A setting of the environment, or a failure that says how to run the test. */
const char *env_of(const char *name) RETURNS_NONNULL;

#endif

/* child.h - programs started by a test, and what can be done to them.
 *
 * A child gets a nearly empty environment: the "NAME=value" it is given, PATH, and the
 * sanitizers' options.  Its output goes to a file.  It dies with the test, whatever happens. */
#ifndef CHILD_H
#define CHILD_H

#include "common.h"

struct child;

/* name: for messages and the log file.  argv[0]: a path, or a name below WADDLE_BUILD.  argv and
 * env end with NULL; env may be NULL.  "{port}" in an env value becomes a free port, the same one
 * at every restart: "ADMIN_LISTEN=127.0.0.1:{port}"; child_port() tells it. */
struct child *child_new(const char *name, const char *const *argv, const char *const *env) RETURNS_NONNULL;
void child_free(struct child *c);               /* SIGKILL if it still runs; NULL is fine */

void child_start(struct child *c) NONNULL;      /* again after its end: the log is continued */
int  child_port(const struct child *c, const char *variable) NONNULL;
pid_t child_pid(const struct child *c) NONNULL; /* 0: not running */
bool child_running(struct child *c) NONNULL;

/* /readyz on ADMIN_LISTEN answers 200 (up) or anything else (!up); a failure, with the end of
 * the log, when max_ms have passed or it ended. */
void child_wait_ready(struct child *c, bool up, int64_t max_ms) NONNULL;

void child_signal(struct child *c, int sig) NONNULL;    /* SIGSTOP, SIGCONT, SIGTERM, SIGUSR1 */
void child_kill(struct child *c) NONNULL;               /* SIGKILL and gone */
/* Its exit status, 128 + n when signal n ended it; -1: still running after max_ms. */
int  child_wait(struct child *c, int64_t max_ms) NONNULL;
/* SIGTERM, then child_wait(); a failure when it does not end. */
int  child_end(struct child *c, int64_t max_ms) NONNULL;
/* start, wait; for tools.  A failure with the end of the log when it does not end in time. */
int  child_run(struct child *c, int64_t max_ms) NONNULL;

const char *child_log(const struct child *c) RETURNS_NONNULL;   /* path */
bool child_log_has(const struct child *c, const char *text) NONNULL;
void child_wait_log(struct child *c, const char *text, int64_t max_ms) NONNULL;
void child_show_log(const struct child *c) NONNULL;     /* its last lines, to stderr */

/* VmRSS of /proc/<pid>/status in KiB. */
int64_t child_rss_kib(const struct child *c) NONNULL;

#endif

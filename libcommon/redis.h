/* redis.h - Redis on the loop, as a cache: pipelined, never waited for, never needed.
 *
 * Every command has a deadline.  A connection that misses one is closed: all its commands end at
 * once without an answer, and until it has been established anew (jittered backoff up to 10 s)
 * commands are refused at once, so that a Redis that is slow or gone costs its users one deadline
 * and no more.  At most 1024 commands and 8 MiB are under way.
 *
 * service_ready(s, "redis", ..) follows the connection: a service names it among its spares. */
#ifndef REDIS_H
#define REDIS_H

#include "err.h"
#include "str.h"

struct redis;

struct redis_answer {                   /* valid only during the callback */
	bool ok;                        /* false: Redis said no (logged) */
	int64_t n;                      /* of an integer */
	const struct str *values;       /* of a string: one; of an array: its strings */
	size_t n_values;                /* p NULL: no such key */
};

/* answer NULL: none came, whether the command was done is not known.  Exactly once, never from
 * inside the call that sent it. */
typedef void redis_done(void *arg, const struct redis_answer *answer);

struct redis_conf {
	struct str url;                 /* redis://[[user]:password@]host[:port][/database] */
	int timeout_ms;                 /* of a command; 0: 50 */
	void (*up)(void *arg);          /* commands are taken from now on, after the start or an outage */
	void *arg;
};

/* NULL, -EINVAL: not such a URL.  Connects in the background, for ever. */
struct redis *redis_open(struct service *s, const struct redis_conf *conf, struct err *err) MUST_CHECK;
/* Commands under way end without an answer, inside this call.  NULL is fine. */
void redis_close(struct redis *r);
bool redis_up(const struct redis *r) NONNULL;

/* One command: its name and arguments, any bytes.  0; -ENOTCONN: Redis is away; -EAGAIN: too much is
 * under way.  done may be NULL. */
int redis_send(struct redis *r, const struct str *words, size_t n, redis_done *done, void *arg) MUST_CHECK;

extern struct metric *const redis_metrics[];

#endif

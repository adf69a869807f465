/* replies.h - responses that do not come from a module's topic: over HTTP, of an endpoint's answer. */
#ifndef REPLIES_H
#define REPLIES_H

#include "router.h"

/* status: 201 stored, 200 it was there; else the code of the check that failed, with why. */
struct reply_outcome { int status; int64_t id, index; };
typedef void reply_done(void *arg, const struct reply_outcome *o, const struct err *why);

/* Stores a response as if it had come over Kafka, with all checks, and sends what follows; *a is
 * copied.  done() once, never from inside, when the broker has it; while the database is away it
 * waits.  -EINVAL, -EMSGSIZE: not a response that may be stored (done() is not called). */
int replies_submit(struct replies *p, const struct response *a, reply_done *done, void *arg, struct err *err) MUST_CHECK;

#endif

/* command_send.h - a command on its module's topic, as it stands in its row. */
#ifndef COMMAND_SEND_H
#define COMMAND_SEND_H

#include "bus.h"

struct router;

struct command_send {
	struct str  id, module, body, trace_id;         /* trace_id: 32 hexadecimal digits */
	int64_t     community_id, sent_at_ms, timeout_ms;
};

/* As bus_send(). */
int command_send(struct router *r, const struct command_send *c, bus_sent *sent, void *arg) MUST_CHECK;

/* Whether an error of command_send() stays: no such topic, not ours to write, too large. */
static inline bool command_never(int error)
{
	return error == -ENOENT || error == -EACCES || error == -EMSGSIZE;
}

#endif

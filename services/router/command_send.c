/* command_send.c - topic, key and headers of a command. */
#include "command_send.h"
#include "ids.h"
#include "positions.h"
#include "router.h"

int command_send(struct router *r, const struct command_send *c, bus_sent *sent, void *arg)
{
	char topic[128], key[24], traceparent[TRACE_TEXT];
	struct envelope env = {
		.kind = ENV_COMMAND, .id = c->id, .source = STR("waddle/router"), .time_ms = c->sent_at_ms,
		.deadline_ms = c->sent_at_ms + c->timeout_ms, .lsn = positions_of(r->positions, c->community_id),
	};
	struct envelope_headers head;
	int n = snprintf(key, sizeof key, "%lld", (long long)c->community_id);

	if (snprintf(topic, sizeof topic, "waddle.commands." STR_FMT, STR_ARG(c->module)) >= (int)sizeof topic)
		return -ENOENT;
	if (c->trace_id.n == 32) {
		int t = snprintf(traceparent, sizeof traceparent, "00-" STR_FMT "-%.16s-01", STR_ARG(c->trace_id),
		                 c->trace_id.p);

		env.traceparent = (struct str){ traceparent, (size_t)t };
	}
	envelope_headers(&env, c, &head);       /* env has the id, the body is encoded already */
	return bus_send(r->bus, topic, (struct str){ key, (size_t)n }, c->body, head.h, head.n, sent, arg);
}

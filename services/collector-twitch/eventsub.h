/* eventsub.h - what an EventSub notification means to us (collectors.md 6.2). */
#ifndef EVENTSUB_H
#define EVENTSUB_H

#include "collector.h"

/* The body of a delivery; event and challenge depend on the message type. */
struct eventsub {
	struct { struct str id, type, version, status; } subscription;
	struct str challenge;
	struct str event;               /* raw JSON */
};

/* -EBADMSG, -EINVAL: not JSON, or not a delivery: 400. */
int eventsub_decode(struct str json, struct eventsub *ret, struct arena *mem, struct err *err) MUST_CHECK;

struct eventsub_in {
	struct str message_id;          /* Twitch-Eventsub-Message-Id */
	struct str bot_user_id;         /* "" when not set: nothing is known as our own */
	int64_t    received_at_ms;
};

/* What is to be stored.  in->event and everything it points to lives in mem.  Types without a
 * mapping, and known ones without a mandatory member, become "other" and are not forwarded;
 * *ret_malformed tells the latter.  *ret_own: the bot's own message, neither kept nor forwarded. */
struct mapped {
	struct event   event;
	struct inbound in;
	struct str     channel_id, user_id, chat_id;    /* chat_id: Twitch's id of a chat message */
	bool           own, malformed;
};
int eventsub_map(const struct eventsub *e, const struct eventsub_in *from, struct str raw, struct mapped *ret,
                 struct arena *mem, struct err *err) MUST_CHECK;

#endif

/* eventsub.h - what Twitch would post: EventSub webhook deliveries, signed as Twitch signs them.
 *
 * Used by tests and by tools/eventsub; needs no other part of the harness.  The signature is
 * computed with OpenSSL here, not with our own crypto, so that a mistake there cannot hide. */
#ifndef EVENTSUB_H
#define EVENTSUB_H

#include "common.h"

struct eventsub_chat {                  /* NULL: an invented value, fresh where ids are meant */
	const char *channel;            /* broadcaster id */
	const char *user_id, *login;
	const char *message_id;         /* of the chat message: the thing that happened */
	const char *text;               /* UTF-8 */
	const char *badge;              /* "moderator", "broadcaster", "vip", "subscriber"; NULL: none */
};

struct eventsub_post {
	char  *delivery_id;             /* Twitch-Eventsub-Message-Id */
	char  *body;
	size_t body_n;
	char  *headers[9];              /* "Name: value", ends with NULL */
};

/* Body of a channel.chat.message (version 1) notification. */
char *eventsub_chat_body(const struct eventsub_chat *c) RETURNS_NONNULL;

/* A delivery of that body: kind "notification", "webhook_callback_verification" or "revocation";
 * delivery_id NULL: a fresh one; sent_at_ms 0: now.  body is copied. */
void eventsub_sign(struct eventsub_post *p, const char *secret, const char *kind, const char *type,
		   const char *delivery_id, int64_t sent_at_ms, const char *body, size_t body_n);
/* The usual: a chat message as a notification, now. */
void eventsub_chat(struct eventsub_post *p, const char *secret, const struct eventsub_chat *c,
		   const char *delivery_id);
void eventsub_free(struct eventsub_post *p) NONNULL;

void eventsub_uuid(char out[37]);       /* random, version 4 */

#endif

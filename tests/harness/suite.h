/* suite.h - the services of the main way as processes, fed as Twitch feeds them.
 *
 *      webhook -> collector-twitch -> router -> memories -> router -> collector-twitch -> Helix
 *
 * Helix is tests/fakes/twitch, with limits so wide that they delay nothing here; what the bot writes
 * comes back as webhooks, as at Twitch.  Channels are "1001", "1002" ...: each is monitored, belongs to a
 * community of its own ("Community 1" ...) and has the command memories enabled.  Any user may
 * write; with badge "moderator" also add. */
#ifndef SUITE_H
#define SUITE_H

#include "eventsub.h"
#include "stack.h"

struct suite {
	struct stack st;
	struct child *twitch, *collector, *router, *memories;
	char *webhook, *secret, *fake;
	int channels;
};

/* A failure, with the log of the service concerned, when something does not get ready. */
void suite_open(struct suite *su, const char *name, int channels) NONNULL;
/* SIGTERM to all; a failure when one does not end with status 0. */
void suite_close(struct suite *su) NONNULL;

/* "1001" + i; valid until the next call. */
const char *suite_channel(int i) RETURNS_NONNULL;

/* One post of a delivery; the status, 0 when there was no answer. */
int suite_post(struct suite *su, const struct eventsub_post *p) NONNULL;
/* Posts the same delivery again and again, as Twitch does, until it is answered with 2xx. */
void suite_deliver(struct suite *su, const struct eventsub_post *p, int64_t max_ms) NONNULL;
/* A moderator of channel i writes; delivered once. */
void suite_say(struct suite *su, int channel, const char *fmt, ...) PRINTF(3, 4);

/* What the bot answered, from the outbound topic: messages whose text contains this, each message id
 * once.  copies (may be NULL) counts repetitions too: the sender drops those. */
int64_t suite_answers(struct suite *su, const char *text, int64_t *copies);
void    suite_wait_answers(struct suite *su, const char *text, int64_t n, int64_t max_ms) NONNULL;

/* What Helix was given: messages whose text contains this. */
int64_t suite_heard(struct suite *su, const char *text) NONNULL;
void    suite_wait_heard(struct suite *su, const char *text, int64_t n, int64_t max_ms) NONNULL;

#endif

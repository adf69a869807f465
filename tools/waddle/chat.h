/* chat.h - one terminal's conversation: lines become events, answers are told by their reply_ref.
 *
 * Platform "terminal", one channel.  Nothing goes through HTTP: a line is on waddle.events when
 * bus_send() says so, an answer is taken from waddle.outbound.terminal, which every terminal reads
 * from its end on. */
#ifndef CHAT_H
#define CHAT_H

#include "bus.h"
#include "envelope.h"
#include "err.h"
#include "ids.h"
#include "service.h"

enum { CHAT_LINES = 64 }; /* lines whose late answers are still told */

struct chat_answer {
	struct str text;
	bool private;
	int kind;
	int64_t after_us;
};

struct chat {
	struct service service;
	struct bus *bus;
	struct bus_sub *sub;
	struct str user;
	uint32_t roles;
	char channel[256], entity[600], ref[ID_TEXT]; /* ref: of this run */
	uint64_t lines;                               /* sent so far */
	struct chat_line {
		uint64_t number;
		int64_t sent_us, answered_us; /* monotonic; 0: not yet */
		unsigned answers;
		bool on_broker;
		struct err err; /* why it is not */
	} line[CHAT_LINES];

	void (*answer)(void *arg, const struct chat_answer *a);
	void *arg;
};

/* Fills the rest of *c; channel, user, roles, answer and arg are the caller's.  Returns when what
 * is sent from now on would be answered to us. */
int chat_open(struct chat *c, struct str brokers, struct str prefix, struct err *err) MUST_CHECK;
void chat_close(struct chat *c) NONNULL;

/* The line's state, valid for CHAT_LINES further lines. */
struct chat_line *chat_send(struct chat *c, struct str text, struct err *err) MUST_CHECK;

#endif

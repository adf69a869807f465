/* collector_out.h - from waddle.outbound.<platform> to the platform, once (collectors.md 5).
 *
 * Messages are kept in <platform>_outbox before their offset moves; a second delivery meets its
 * row.  Whoever inserted a row sends it, under a lease that others take over when it lapses.  Per
 * channel one message is under way at a time, by priority, then arrival; between channels of one
 * priority turns are taken.  Each part of a text needs a slot of the account's shared budget, and
 * `sending` is committed before the call, so a process that dies leaves a question, not a lost
 * answer: such a part is sent once more, never a third time.  Every final state is reported as
 * waddle.delivery.v1.
 *
 * The platform's file makes the call and says how it went. */
#ifndef COLLECTOR_OUT_H
#define COLLECTOR_OUT_H

#include "envelope.h"
#include "split.h"

struct sender;
struct sending;                         /* one message until its final state */

struct budget {                         /* of one message, see reserve_sql */
	struct str account;
	int        max_slots, gap_ms;
};

struct sender_conf {
	const char *platform;
	struct db  *db;
	struct bus *bus;
	struct split_rule split;
	/* An expression over $1 message uuid, $2 slot number integer, $3 channel text, $4 account
	 * text, $5 max_slots integer, $6 gap_ms integer: 0 reserves, else milliseconds to wait. */
	const char *reserve_sql;
	/* The answer came, the slot is counted from now on: $1 account, $2 message, $3 slot number. */
	const char *answered_sql;
	/* $1 account, $2 milliseconds: a 429 stops every replica. */
	const char *blocked_sql;
	void (*budget_of)(void *arg, const struct outbound *what, struct budget *ret);
	/* What is really written: neutralised, with a mention (login: of what->user_id, if it is known
	 * here); or why not, as a word in *refusal.  Text in mem. */
	struct str (*text_of)(void *arg, const struct outbound *what, struct str login, struct arena *mem,
	                      const char **refusal);
	/* Makes the call for one part; must end in exactly one sending_*(), not from inside.  What and
	 * text are valid until then. */
	void (*send)(void *arg, struct sending *s, const struct outbound *what, struct str text, unsigned part);
	void *arg;
};

/* Takes messages from the start, sends from sender_ready() on: when it is known to whom one may. */
struct sender *sender_open(struct service *s, const struct sender_conf *conf, struct err *err) MUST_CHECK;
void sender_ready(struct sender *d);            /* also: what keeps messages waiting has changed */
void sender_drain(struct sender *d);            /* takes nothing new; what was called is finished */
void sender_stop(struct sender *d);             /* before db_close() and bus_close() */
void sender_free(struct sender *d);             /* after them and fetch_close(); NULL is fine */

void sending_sent(struct sending *s, struct str platform_message_id);
void sending_refused(struct sending *s, struct str reason);    /* final: "msg_duplicate" */
void sending_failed(struct sending *s, struct str reason);     /* final: our fault, or nobody's */
void sending_retry(struct sending *s, struct str why);         /* it did not leave: 1, 2, 4, 8 s, five tries */
void sending_later(struct sending *s, int64_t ms);             /* nothing was tried: again until it expires */
void sending_blocked(struct sending *s, int64_t ms);           /* 429: not an attempt */
void sending_unknown(struct sending *s, struct str why);       /* it may have arrived */

/* The bot's own message came in, at whichever replica: settles a call without an answer, of that
 * channel and text, wherever and whenever it was made.  -EAGAIN: the platform should repeat it. */
int sender_echo(struct sender *d, struct str entity, struct str text, struct str platform_message_id) MUST_CHECK;

extern struct metric *const sender_metrics[], *const lane_metrics[];

#endif

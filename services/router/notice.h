/* notice.h - what a person is told when a command of theirs came to nothing (router.md 9).
 *
 * One table says which verdicts are told, in which words, and whether a whole channel may hear
 * it.  entities.config.messages.<verdict> replaces the words, entities.config.silent turns all
 * off but the answers that slash commands and interactions always get.  At most one per user,
 * command and verdict in 60 s. */
#ifndef NOTICE_H
#define NOTICE_H

#include "bus.h"
#include "verdict.h"

struct router;

struct notice {
	enum verdict verdict;
	bool         asked;             /* a slash command or interaction: always answered */
	struct str   command;           /* "!memories" */
	struct str   why;               /* module_failed: the module's own words, or empty */
	int64_t      retry_after_ms;    /* rate_limited */
	struct str   of;                /* execution id; the session id where nothing ran */
	struct str   platform, entity, server_id, channel_id, outbound_key, user_id;
	struct str   reply_ref, in_reply_to;    /* STR_NONE: absent */
	struct str   config;            /* JSON of entities.config, or of its messages and silent */
	struct str   trace_id;          /* 32 digits, or empty */
};

struct notices;
struct notices *notices_open(void) RETURNS_NONNULL;
void notices_close(struct notices *n);

/* Whether one of that kind is sent at all; silent and the 60 s are not asked for. */
bool notice_told(enum verdict v, bool asked, struct str platform);
/* 1: handed to the bus, sent() will be called.  0: none is due, sent() is not called.
 * -EAGAIN: the local queue is full.  Everything is copied. */
int  notice_send(struct router *r, const struct notice *n, bus_sent *sent, void *arg) MUST_CHECK;

/* The text alone, for who sends it himself: copied to mem, counted, STR_NONE when none is due. */
struct str notice_words(struct router *r, const struct notice *n, struct arena *mem) MUST_CHECK;

extern struct metric *const notice_metrics[];

#endif

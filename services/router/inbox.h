/* inbox.h - events posted over HTTP: each one once on the topic, by router_inbox (router.md 2.1).
 *
 *      keys known? -> insert -> publish -> acknowledged by the broker -> marked as published
 *
 * Events of one loop turn, and those that come while a statement is out, share one statement.
 * An event whose key is on its way in this process waits for that one.  What was stored and never
 * marked - no broker, a crash - is published by its repetition, under the first one's id and time. */
#ifndef INBOX_H
#define INBOX_H

#include "router.h"

enum inbox_result { INBOX_NEW, INBOX_KNOWN, INBOX_LATER, INBOX_TOO_LARGE };

/* Exactly once, never from inside inbox_add(), unless forgotten before.  event_id and
 * received_at: those of the first one with either key; valid during the call. */
typedef void inbox_done(void *arg, enum inbox_result what, struct str event_id, int64_t received_at_ms);

struct inbox *inbox_open(struct router *r) RETURNS_NONNULL;
void inbox_close(struct inbox *in);     /* after db_close() and bus_close(); NULL is fine */

/* ev, checked by event_check(), and trace stay the caller's until done or forgotten. */
struct inbox_flight *inbox_add(struct inbox *in, const struct event *ev, struct str trace, inbox_done *done,
                               void *arg) RETURNS_NONNULL;
/* Nobody waits any more; what has begun goes on. */
void inbox_forget(struct inbox_flight *f) NONNULL;

extern struct metric *const inbox_metrics[];

#endif

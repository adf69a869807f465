/* router.h - the router's parts and what they share.
 *
 *   intake    events -> parsed, looked up, judged in the order of their partition
 *   dispatch  judged events -> one transaction -> commands on their topics -> offsets
 *   replies   responses -> one statement -> outbound -> offsets
 *   registrar who is there and which commands they offer
 *   sweeper   commands nobody answered
 *
 * One loop; every part keeps its own state behind its own functions. */
#ifndef ROUTER_H
#define ROUTER_H

#include "bus.h"
#include "db.h"
#include "envelope.h"
#include "limit.h"
#include "list.h"
#include "lookup.h"
#include "parse.h"
#include "verdict.h"

enum { MAX_CANDIDATES = 8, LSN_SLOTS = 1 << 14 };

struct router_settings {
	int64_t batch_rows, batches_in_flight, events_held, responses_held;
};

struct router {
	unsigned magic;
	struct service *s;
	const struct router_settings *settings;
	struct db      *db;
	struct bus     *bus;
	struct lookup  *lookup;
	struct limit   *limit;
	struct intake  *intake;
	struct dispatch *dispatch;
	struct replies *replies;
	struct registrar *registrar;
	struct sweeper *sweeper;
	/* Highest position a community's readers must see.  Communities that share a slot share the
	 * higher one: a read goes to the primary a little more often, never a stale answer. */
	uint64_t lsn[LSN_SLOTS];
};
enum { ROUTER_MAGIC = 0x40073401 };

static inline uint64_t *router_lsn(struct router *r, int64_t community)
{
	return &r->lsn[(uint64_t)community % LSN_SLOTS];
}

/* One (event, command) pair. */
struct candidate {
	const struct route *route;
	struct cache_item  *grant;      /* of struct grant; NULL: none */
	enum verdict        verdict;
	int64_t             retry_after_ms;     /* rate_limited */
	char                execution_id[37];
};

/* An event on its way; one per held message, reused. */
struct work {
	unsigned magic;
	struct router   *r;
	struct bus_msg  *m;
	struct list      node;          /* of its partition's queue, then of dispatch's */
	struct list      all;
	struct arena    *mem;
	struct event     ev;
	struct parsed    cmd;
	struct cache_item *place, *routes, *person;
	struct candidate cand[MAX_CANDIDATES];
	size_t           n_cand;
	enum verdict     verdict;       /* PENDING: at least one candidate runs */
	unsigned         loads;         /* look-ups under way */
	bool             ready;         /* looked up; judged when its turn comes */
	bool             alone;         /* failed in a batch: next time by itself */
	unsigned         unacked;       /* commands the broker has not confirmed */
	char             session_id[37], trace_id[33];
};
enum { WORK_MAGIC = 0x40073402 };

/* intake.c */
struct intake *intake_open(struct router *r, struct err *err) MUST_CHECK;
void intake_drain(struct intake *in);
void intake_close(struct intake *in);
/* The event is finished: its offset may be stored. */
void intake_done(struct work *w);
/* Can never succeed: dead letter. */
void intake_reject(struct work *w, const char *reason, const struct err *why);

/* judge.c: verdicts of w and its candidates (router.md 8, 9); takes from the rate limits. */
void judge(struct work *w);
/* The user's rank here, the higher of stored role and platform facts. */
int judge_role(const struct work *w);

/* dispatch.c */
struct dispatch *dispatch_open(struct router *r) RETURNS_NONNULL;
void dispatch_add(struct dispatch *d, struct work *w);
void dispatch_close(struct dispatch *d);

/* replies.c */
struct replies *replies_open(struct router *r, struct err *err) MUST_CHECK;
void replies_drain(struct replies *p);
void replies_close(struct replies *p);

/* registrar.c */
struct registrar *registrar_open(struct router *r, struct err *err) MUST_CHECK;
void registrar_drain(struct registrar *g);
void registrar_close(struct registrar *g);

/* sweeper.c */
struct sweeper *sweeper_open(struct router *r) RETURNS_NONNULL;
/* An execution of that time is about to be written; it will be looked after. */
void sweeper_saw(struct sweeper *w, int64_t created_at_ms) NONNULL;
void sweeper_close(struct sweeper *w);

extern struct metric *const intake_metrics[], *const dispatch_metrics[], *const replies_metrics[],
	*const sweeper_metrics[];

#endif

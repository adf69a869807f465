/* router.h - the router's parts and what they share.
 *
 *   intake    events -> parsed, looked up, judged in the order of their partition
 *   resolve   what a verdict needs, from the caches
 *   notice    what a person is told when nothing runs
 *   decision  what is kept of events nothing runs for, or not everything
 *   rules     what acts on chat that is no command here
 *   dispatch  judged events -> one transaction -> commands on their topics -> offsets
 *   replies   responses -> one statement -> outbound, overlay -> offsets
 *   waiting   commands that do not go with their batch: chains, fair shares
 *   registrar who is there and which commands they offer
 *   partition which partitions are ours, and the proof of it in each batch
 *   limits    rate limits, exact over replicas
 *   sweeper   commands nobody answered
 *   api       HTTP: api.h
 *
 * One loop; every part keeps its own state behind its own functions. */
#ifndef ROUTER_H
#define ROUTER_H

#include "bus.h"
#include "db.h"
#include "envelope.h"
#include "guard.h"
#include "limits.h"
#include "list.h"
#include "lookup.h"
#include "notice.h"
#include "parse.h"
#include "partition.h"
#include "verdict.h"

enum { MAX_CANDIDATES = 32 };

struct router_settings {
	struct str redis_url;
	int64_t redis_timeout_ms;
	int64_t batch_rows, batches_in_flight, events_held, responses_held;
	int64_t limit_keys;
	int64_t session_ttl_ms;
	struct str platforms;           /* separated by commas */
	bool outbound_allow_http;
	struct str outbound_ports, outbound_allow_cidr;
	int64_t http_total_ms, http_per_community, http_per_host;
	int64_t fair_outstanding, fair_backlog, queue_timeout_ms;
};

struct router {
	unsigned magic;
	struct service *s;
	const struct router_settings *settings;
	struct db      *db;
	struct bus     *bus;
	struct lookup  *lookup;
	struct limits  *limits;
	struct partitions *partitions;
	struct notices *notices;
	struct intake  *intake;
	struct dispatch *dispatch;
	struct waiting *waiting;
	struct replies *replies;
	struct registrar *registrar;
	struct sweeper *sweeper;
	struct inbox    *inbox;
	struct api      *api;
	struct api_keys *keys;
	struct rules    *rules;
	struct rules_hooks *hooks;      /* webhooks of rules */
	int64_t          began_mono_ms;
	struct coordination *coordination;
	struct deliveries *deliveries;  /* deliveries.h: what became of messages */
	struct standby *standby;
	struct positions *positions;    /* positions.h: read your writes */
	struct guard     guard;         /* where URLs of users may lead (router.md 13) */
	struct fetch_client *fetch;     /* addresses of users: FETCH_PUBLIC, guarded by the OUTBOUND_ settings */
	struct seal         *seal;      /* secrets at rest; NULL without SEALING_KEY_FILE */
	struct calls        *calls;
};
enum { ROUTER_MAGIC = 0x40073401 };

/* One (event, command) pair. */
struct candidate {
	const struct route  *route;
	const struct grant  *grant;     /* the deciding permission row */
	const struct parsed *cmd;       /* what it is told; an event module: its own name */
	enum trigger        trigger;
	int64_t             rule_id;    /* the string rule that runs it, 0: none */
	enum verdict        verdict;
	int64_t             retry_after_ms;     /* rate_limited */
	struct candidate_limit limit;
	char                execution_id[37];
};

/* The string rule that acts on an event (router.md 14). */
struct rule_hit {
	int64_t       id;               /* 0: none */
	enum verdict  verdict;          /* RULE_WARN, _BLOCK, _COMMAND, _WEBHOOK, _COMMAND_UNKNOWN */
	struct parsed cmd;              /* RULE_COMMAND: prefix, folded name, params; texts in w->mem */
	void         *of;               /* what rules.c wants to keep until rules_act(), in w->mem */
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
	enum asks        asks;
	struct parsed    cmd;           /* after aliases */
	int64_t          community_id;  /* acted in: of the context, else the entity's; 0: no place */
	struct str       community;     /* JSON for config.community */
	struct cache_item *place, *context, *person;
	struct cache_item *routes, *grants[2], *events, *event_grants[2];
	struct alias_trail *trail;
	int              step;          /* of resolve.c */
	int64_t          only_command;  /* 0: every module of that name */
	struct candidate *cand;         /* by (priority, id), at most MAX_CANDIDATES, in mem */
	size_t           n_cand;
	struct rule_hit  rule;
	enum verdict     base;          /* without candidates */
	enum verdict     verdict;       /* the most successful of its candidates */
	bool             effects;       /* notices or a rule's effects follow the commit */
	unsigned         loads;         /* look-ups under way */
	bool             ready;         /* looked up; judged when its turn comes */
	bool             alone;         /* failed in a batch: next time by itself */
	bool             formed;        /* form_submission() has had it */
	unsigned         unacked;       /* messages the broker has not confirmed, holds */
	char             session_id[37], trace_id[33];
};
enum { WORK_MAGIC = 0x40073402 };

/* intake.c */
struct intake *intake_open(struct router *r, struct err *err) MUST_CHECK;
void intake_drain(struct intake *in);
void intake_close(struct intake *in);
/* Its events may be judged now, or are void by now.  back (may be NULL): works that were judged
 * and came to nothing, to be judged again before the others. */
void intake_go_on(struct intake *in, int32_t partition, struct list *back);
/* The event is finished: its offset may be stored. */
void intake_done(struct work *w);
/* Can never succeed: dead letter. */
void intake_reject(struct work *w, const char *reason, const struct err *why);

/* A load for this work, counted in w->loads, is over; the callback of lookup_get(). */
void intake_again(void *work);
/* The head of its partition again, with another command: of the row command_id only, unless 0. */
void intake_as_command(struct work *w, struct parsed cmd, int64_t command_id);

/* resolve.c: collects what the verdict needs; sets w->ready, or w->loads has what it waits for
 * and it is to be called again then. */
void resolve(struct work *w);
void resolve_as_command(struct work *w, struct parsed cmd, int64_t command_id);
void resolve_release(struct work *w);

/* A form of ours was submitted (custom_id form:<execution_id>:<index>, which are w->cmd.params),
 * in the order of its partition; place and person are there.  True: it is somebody's now, who ends
 * it with intake_done(), intake_as_command() or, with w->base set, intake_judge().  False: verdict
 * unknown_command.  Weak in intake.c until forms are there. */
bool form_submission(struct work *w);
/* Judged with what w has; then dispatched. */
void intake_judge(struct work *w);

/* judge.c: verdicts of w and its candidates (router.md 8, 9); takes from the rate limits. */
void judge(struct work *w);
/* The event's verdict anew, after a candidate's has changed. */
void judge_sum(struct work *w);
/* The user's rank here, the higher of stored role and platform facts. */
int judge_role(const struct work *w);
/* The labels that have not expired; of struct str. */
struct js_list judge_labels(const struct work *w, struct arena *mem);

/* notice.c: whether w's author hears of its verdict; sends that.  False: the queue is full. */
bool notice_due(const struct work *w);
bool notice_work(struct work *w);

/* decision.c: rows of event_decisions and the counters of rules, as a statement of the batch. */
struct decisions;
struct decisions *decisions_new(struct arena *mem, size_t max) RETURNS_NONNULL;
/* Whether something is to be kept; call when all verdicts of w are final. */
bool decision_wanted(const struct work *w);
void decision_add(struct decisions *d, struct work *w);
/* 0, also when there is nothing; else as db_tx_send(). */
int  decisions_send(struct decisions *d, struct db_tx *tx) MUST_CHECK;

/* rules_act.c.  Pipeline: chat and app_mention for which no command enabled
 * here has the name; message_edit for warn, block and webhook. */

/* Is there any active rule?  Asked for each chat message: must be cheap. */
bool rules_any(const struct router *r);
/* Fills w->rule and returns its verdict; PLAIN: none hits.  w->place is there.  PENDING: cannot
 * tell without the person (exempt_role): called again with w->person; or, with w->loads raised, the
 * rules of this place are being loaded and intake_again() follows.  No effects, no counting:
 * the decision row counts the hit, once per event.  RULE_COMMAND: the pipeline looks w->rule.cmd
 * up and runs it with all checks, or makes it RULE_COMMAND_UNKNOWN. */
enum verdict rules_apply(struct work *w);
/* After the commit: sends what w->rule demands.  Messages whose acknowledgement the offset must
 * wait for: w->unacked++ and work_acknowledged as the callback.  False: the local queue is full,
 * called again; what was sent before is sent again then, under the same ids. */
bool rules_act(struct work *w);

/* A bus_sent for messages counted in w->unacked. */
void work_acknowledged(void *work, const struct err *err);

/* Part of every statement that settles executions, to stand behind its u, the settled rows with their
 * created_at and next_id: the next link of each chain may go (router.md 10).  Without chains it finds
 * nothing to look for. */
#define RELEASES_NEXT \
	"released AS (UPDATE command_executions n SET waits = 'turn', queued_at = now() FROM u " \
	"WHERE u.next_id IS NOT NULL AND n.execution_id = u.next_id AND n.created_at = u.created_at " \
	"AND n.waits = 'link')"

/* dispatch.c */
struct dispatch *dispatch_open(struct router *r) RETURNS_NONNULL;
void dispatch_add(struct dispatch *d, struct work *w);
void dispatch_close(struct dispatch *d);

/* call.c: executions that are HTTP requests (router.md 11) */
struct calls *calls_open(struct router *r) RETURNS_NONNULL;
void calls_drain(struct calls *cs);
void calls_close(struct calls *cs);     /* before db_close(), fetch_close() and bus_close() */
/* The committed pending row of an HTTP command is due (waits NULL, lease_until NULL, sent_at set): it is
 * called once, here or by another replica, now or in its turn.  The caller is done with it. */
void call_start(struct calls *cs, struct str execution_id, int64_t created_at_ms, int64_t community_id,
                struct str url);
static inline bool route_is_http(const struct route *t) { return str_starts(t->location_url, STR("http")); }
/* timeout_ms of its row.  Attempts of HTTP have their own limit; the row has the one of all together,
 * and a little more, so that the caller says how it ended and the sweeper only where there is none. */
static inline int64_t route_row_timeout_ms(const struct router *r, const struct route *t)
{
	return route_is_http(t) ? r->settings->http_total_ms + 5000 : t->timeout_ms;
}

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
/* An execution of that time is about to be written: once it is, sweeper_watch() must follow. */
void sweeper_saw(struct sweeper *w, int64_t created_at_ms) NONNULL;
/* It is written, or was sent just now: looked at when its time is over.  One that is still pending
 * and not sent by then is looked at again every 5 s; who sends it watches it anew. */
void sweeper_watch(struct sweeper *w, int64_t created_at_ms, int64_t timeout_ms) NONNULL;
/* Another replica may have left pending ones since then. */
void sweeper_search(struct sweeper *w, int64_t since_ms) NONNULL;
/* Others that fail executions count them here. */
enum swept_reason { SWEPT_TIMEOUT, SWEPT_QUEUE_TIMEOUT, SWEPT_UNREACHABLE };
void sweeper_counted(enum swept_reason why, uint64_t n);
void sweeper_close(struct sweeper *w);

/* standby.c */
struct standby *standby_open(struct router *r) RETURNS_NONNULL;
void standby_close(struct standby *w);
extern struct metric *const standby_metrics[];

extern struct metric *const intake_metrics[], *const dispatch_metrics[], *const replies_metrics[],
	*const sweeper_metrics[], *const rules_act_metrics[], *const call_metrics[], *const call_send_metrics[],
	*const call_row_metrics[];

#endif

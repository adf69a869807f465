/* bus_impl.h - what the bus_*.c files share; nobody else includes it.
 *
 * One producer and one consumer per subscription, each a librdkafka client with an eventfd that
 * its queues write to.  Messages come through a queue of our own (bus_sub.data): rebalances and
 * errors have the group's queue to themselves and are served even while we take no messages. */
#ifndef BUS_IMPL_H
#define BUS_IMPL_H

#include <librdkafka/rdkafka.h>

#include "bus.h"
#include "bus_mark.h"
#include "bus_name.h"
#include "clock.h"
#include "err.h"
#include "list.h"
#include "metrics.h"
#include "service.h"

enum {
	BUS_TURN_MESSAGES = 512,        /* taken or reported before other work of the loop gets its turn */
	BUS_TURN_US       = 5000,
	BUS_TICK_MS       = 1000,       /* polls whether or not an event came */
	BUS_STORE_MS      = 50,         /* done -> offset stored; committed by librdkafka's own timer */
	BUS_QUEUE_MAX     = 20000,      /* messages handed to bus_send() and not acknowledged */
	BUS_OUT_CHAINS    = 64,
	BUS_OUT_MAX       = 1024,       /* topics one process may send to */
	BUS_HEADERS_NEAR  = 16,         /* kept inside the message's own memory */
};

#define BUS_MAGIC  0xb05b05u
#define SUB_MAGIC  0xb055b0u
#define HELD_MAGIC 0xb05e1du

/* A client's wake-up: librdkafka writes 8 bytes when a queue turns from empty to one. */
struct bus_wake { int fd; struct event *ev; };
void bus_wake_open(struct bus_wake *w, struct service *s, void (*fn)(int fd, short what, void *arg), void *arg);
void bus_wake_close(struct bus_wake *w);
void bus_wake_on(struct bus_wake *w, rd_kafka_queue_t *q);      /* this queue wakes */
void bus_wake_again(struct bus_wake *w);                        /* next turn, event or not */
void bus_wake_read(struct bus_wake *w);

/* What the service waits for before it may stop: one hold however many. */
struct bus_hold { struct service *s; size_t n; };
void bus_hold_add(struct bus_hold *h);
void bus_hold_drop(struct bus_hold *h);

/* A topic we send to or expect to exist; the handle keeps librdkafka looking after it. */
struct bus_out {
	struct bus_out   *next;         /* bus.outs */
	rd_kafka_topic_t *rkt;
	char             *name;         /* ours, "waddle.dlq" */
	bool              wanted;       /* consumed: absent means not ready */
	bool              seen;         /* in these statistics */
	int               absent;       /* from how many in a row, at most 2 */
};

/* Who wants to know what became of a sent message. */
struct bus_report {
	struct bus_report  *next;
	bus_sent           *sent;
	void               *arg;
	rd_kafka_resp_err_t error;
};

struct bus {
	unsigned          magic;
	struct service   *s;
	struct bus_prefix prefix;
	char             *brokers;

	rd_kafka_t       *rk;           /* the producer; also watches brokers and topics */
	rd_kafka_queue_t *main;
	struct bus_wake   wake;
	struct timer      tick;
	struct bus_hold   unsent;       /* until sent() has run */
	size_t            in_flight;    /* until librdkafka has reported */
	struct bus_out   *outs[BUS_OUT_CHAINS];
	size_t            n_outs;
	struct bus_report *done, **done_end;    /* acknowledged or failed, sent() still to run */
	struct bus_report *spare;
	void             *blocks;       /* memory of reports and messages, freed on close */
	struct bus_held  *spare_held;

	struct list       subs;
	struct list       rejects;      /* held messages on their way to waddle.dlq */
	bool              broker_up, topics_there, was_up, told;
	const char       *last_seen;
	bool              closing;
	int               depth;        /* inside a callback of ours */
	struct err        fatal;        /* noticed inside librdkafka's callbacks, acted upon outside */
};

enum bus_sub_state { SUB_RUNS, SUB_DRAINS, SUB_LEFT };

struct bus_sub {
	unsigned            magic;
	struct list         node;       /* bus.subs */
	struct bus         *b;
	struct bus_consumer c;          /* its strings are copies */
	enum bus_sub_state  state;
	rd_kafka_t         *rk;
	rd_kafka_queue_t   *control, *data;
	struct bus_wake     wake;
	struct timer        tick, store;
	struct bus_hold     held;       /* messages without bus_done(), void ones too */
	struct list         held_list;
	struct list         parts;
	struct bus_assigned *last;      /* memo: messages come in runs */
	bool                paused, full, storing;
	struct timer        nudge;
	int64_t             nudge_mono_ms;      /* not before */
	bool                nudged, nudging;    /* an old library; the timer runs */
	int                 nudges;     /* since the last message taken */
	int                 wide;       /* partitions whose mark is too far behind */
};

/* One assignment of a partition; lives until its last held message is done. */
struct bus_assigned {
	struct list       node;         /* bus_sub.parts; alone after the loss */
	struct bus_sub   *sub;
	struct bus_part   at;           /* our name */
	char             *name, *wire;
	rd_kafka_topic_t *rkt;          /* as seen in messages, valid while assigned */
	struct bus_mark   mark;
	int64_t           stored;       /* offset last given to librdkafka */
	int64_t           first, next;  /* offset first taken, and after the last; -1: none yet */
	int64_t           told_lag;     /* by librdkafka's statistics; INT64_MIN: not yet */
	unsigned          refs;         /* the list, and each held message */
	bool              gone, wide;
};

struct bus_held {
	struct bus_msg       m;         /* first */
	unsigned             magic;
	struct list          node;      /* bus_sub.held_list */
	struct bus_sub      *sub;
	struct bus_assigned *part;
	uint64_t             number;    /* in part->mark */
	rd_kafka_message_t  *rkm;
	struct bus_header   *far;       /* more headers than fit below */
	struct bus_header    near[BUS_HEADERS_NEAR];
	bool                 unpacked;
	struct list          reject;    /* bus.rejects */
	char                 reason[32], why[sizeof(((struct err *)0)->text)];
	struct bus_held     *next;      /* bus.spare_held */
};

/* bus_conf.c: properties for librdkafka. */
rd_kafka_conf_t *bus_conf_producer(struct bus *b, struct err *err);
rd_kafka_conf_t *bus_conf_consumer(struct bus_sub *sub, struct err *err);
rd_kafka_t      *bus_client(rd_kafka_type_t type, rd_kafka_conf_t *conf, struct err *err);
int              bus_errno(rd_kafka_resp_err_t e);

/* bus_pool.c: memory of reports and messages. */
struct bus_report *bus_report_new(struct bus *b);
void               bus_report_free(struct bus *b, struct bus_report *r);
struct bus_held   *bus_held_new(struct bus *b);
void               bus_held_free(struct bus *b, struct bus_held *h);
void               bus_pool_clear(struct bus *b);

/* bus_send.c */
void            bus_delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque);
void            bus_reports_run(struct bus *b, size_t max);
struct bus_out *bus_out_get(struct bus *b, const char *name);
void            bus_outs_clear(struct bus *b);
int             bus_produce(struct bus *b, const char *topic, struct str key, struct str value,
                            const struct bus_header *h, size_t n, bus_sent *sent, void *arg);

/* bus_consume.c */
void bus_sub_poll(struct bus_sub *sub);
void bus_sub_kick(struct bus_sub *sub);
void bus_store(struct bus_sub *sub);
void bus_drain(struct bus_sub *sub);

/* bus_nudge.c */
void bus_nudge(struct bus_sub *sub);

/* bus_group.c */
void bus_committed(rd_kafka_t *rk, rd_kafka_resp_err_t e, rd_kafka_topic_partition_list_t *list, void *opaque);
void bus_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t e, rd_kafka_topic_partition_list_t *list, void *opaque);
struct bus_assigned *bus_part_gain(struct bus_sub *sub, const char *wire, int32_t partition);
struct bus_assigned *bus_part_again(struct bus_assigned *p, int64_t offset);
void bus_part_unref(struct bus_assigned *p);
void bus_lose_all(struct bus_sub *sub, bool lost);

/* bus_tail.c */
int  bus_tail_start(struct bus_sub *sub, struct err *err);

/* bus_sub.c */
void bus_sub_close(struct bus_sub *sub, int64_t until_mono_ms);

/* bus_reject.c */
void bus_rejects_run(struct bus *b);

/* bus_watch.c: is the broker there, are the topics there; lag and other gauges. */
int  bus_stats(rd_kafka_t *rk, char *json, size_t n, void *opaque);
int  bus_lag_stats(rd_kafka_t *rk, char *json, size_t n, void *opaque);
void bus_trouble(rd_kafka_t *rk, int code, const char *reason, void *opaque);
void bus_log(const rd_kafka_t *rk, int level, const char *what, const char *text);
void bus_watch_tick(struct bus *b);
void bus_fatal_check(struct bus *b);

enum bus_metric {
	BM_CONSUMED, BM_DONE, BM_PRODUCED, BM_ACKED, BM_FAILED, BM_FULL, BM_LAG, BM_HELD, BM_UNSENT,
	BM_PARTITIONS, BM_REBALANCES, BM_LOST, BM_DLQ, BM_DLQ_AGAIN, BM_UP, BM_END
};
unsigned bus_reason_cell(const char *reason);

#endif

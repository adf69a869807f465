/* bus.h - Kafka on the loop, at least once.
 *
 * An offset is stored only when bus_done() was called for that message and for all before it in
 * its partition (low-water mark), and only forward.  Work is done, then committed elsewhere,
 * then bus_done(): a crash repeats messages and loses none; idempotency keys make the repetition
 * harmless.  librdkafka's threads never run our code: every callback comes from the loop.
 *
 * Topic names are those of contracts.md ("waddle.events").  With TOPIC_PREFIX set to something
 * else the leading "waddle" is replaced on the wire - two installations can share a broker - and
 * put back on receipt, so no caller ever sees the prefix.  Group ids get the same treatment. */
#ifndef BUS_H
#define BUS_H

#include "str.h"

struct bus_header { const char *name; struct str value; };
struct bus_part   { struct str topic; int32_t partition; };

struct bus_msg {                        /* the bus's until bus_done(), then gone */
	struct bus_part          at;
	int64_t                  offset, sent_at_ms;
	struct str               key, value;    /* value.p NULL: tombstone */
	const struct bus_header *headers;       /* in order, names may repeat */
	size_t                   n_headers;
	void                    *user;          /* yours, NULL at first */
};

struct bus_consumer {
	const char        *group;       /* "waddle.router"; NULL: no group, every partition from its
	                                 * end at this moment, nothing stored (a terminal's view) */
	const char *const *topics;      /* ends with NULL; "^waddle\\.responses\\." is a pattern */
	int                max_held;    /* messages without bus_done() before fetching stops */
	void (*message)(void *arg, struct bus_msg *m);
	/* Before the first message of a partition: load its state (limits, caches).  NULL: none. */
	void (*gained)(void *arg, struct bus_part p);
	/* After the last: flush now if !lost, drop if lost; its held messages are void, their late
	 * bus_done() does nothing but free.  Return soon: the group waits.  NULL: none. */
	void (*losing)(void *arg, struct bus_part p, bool lost);
	void  *arg;
};

typedef void bus_sent(void *arg, const struct err *err);  /* NULL: all in-sync replicas have it */

/* brokers: KAFKA_BROKERS.  Other KAFKA_* settings and TOPIC_PREFIX are read from the environment
 * by cfg_each_kafka()/settings; every bad property is named in err (kind ERR_BROKEN). */
struct bus *bus_open(struct service *s, struct str brokers, struct str prefix, struct err *err) MUST_CHECK;
/* One or several consumers per process, each with a group of its own.  Returns at once; the
 * assignment comes later.  service_ready(s, "kafka", up) follows the broker connection and the
 * presence of the topics. */
struct bus_sub;
int  bus_consume(struct bus *b, const struct bus_consumer *c, struct bus_sub **ret, struct err *err) MUST_CHECK;
void bus_pause(struct bus_sub *c);      /* stop draining; heartbeats go on, up to 5 min */
void bus_resume(struct bus_sub *c);
void bus_unsubscribe(struct bus_sub *c);/* drain: no new messages; held ones may still be done */

void bus_done(struct bus_msg *m) NONNULL;
/* To waddle.dlq with headers waddle-origin-topic, -partition, -offset and -reason; bus_done() by
 * itself once the broker has it.  reason is a word of router.md 19 ("bad_json").  For what can
 * never succeed, not for what may later. */
void bus_reject(struct bus_msg *m, const char *reason, const struct err *why);
struct str bus_header(const struct bus_msg *m, const char *name) NONNULL;  /* last one; STR_NONE */
bool bus_msg_void(const struct bus_msg *m) NONNULL;     /* its partition was lost meanwhile */

/* Copies all.  sent() exactly once, never from inside, in order per partition; may be NULL.
 * -EAGAIN: local queue full, stop consuming.  -EMSGSIZE: larger than 256 KiB.  Compaction
 * tombstone: value STR_NONE. */
int  bus_send(struct bus *b, const char *topic, struct str key, struct str value,
              const struct bus_header *h, size_t n, bus_sent *sent, void *arg) MUST_CHECK;

int64_t bus_lag(const struct bus *b);   /* messages behind over all our partitions; a metric */
size_t  bus_unsent(const struct bus *b);/* handed to bus_send(), not yet acknowledged; a metric */
void bus_close(struct bus *b);          /* store offsets, leave the group, flush <= 10 s, free */

/* Administration (waddle topics): blocking, for command line tools only. */
struct bus_topic { const char *name; int partitions; const char *const *config; /* "k=v", NULL */ };
int  bus_topics_create(struct bus *b, const struct bus_topic *t, size_t n, int replicas,
                       void (*each)(void *arg, const char *name, const char *outcome), void *arg,
                       struct err *err) MUST_CHECK;
int  bus_topics_list(struct bus *b,
                     void (*each)(void *arg, const char *name, int partitions, int replicas), void *arg,
                     struct err *err) MUST_CHECK;

extern struct metric *const bus_metrics[];      /* for a service's table; ends with NULL */

#endif

/* bus.h - Kafka on the loop, at least once.
 *
 * An offset is stored only when bus_done() was called for that message and for all before it in
 * its partition (low-water mark), and only forward.  Work is done, then committed elsewhere,
 * then bus_done(): a crash repeats messages and loses none; idempotency keys make the repetition
 * harmless.  librdkafka's threads never run our code: every callback comes from the loop.
 *
 * Topic names are those of contracts.md ("waddle.events").  With TOPIC_PREFIX set to something
 * else the leading "waddle" is replaced on the wire - two installations can share a broker - and
 * put back on receipt, so no caller ever sees the prefix.  Group ids get the same treatment.
 *
 * The bus holds its service (service_hold) while a message waits for bus_done() or for the
 * broker's acknowledgement, so a drain ends by itself when both are gone. */
#ifndef BUS_H
#define BUS_H

#include "str.h"

struct bus_header { const char *name; struct str value; };      /* value.p NULL: has none */
struct bus_part   { struct str topic; int32_t partition; };     /* topic is NUL-terminated */

/* The bus's until bus_done(), then gone.  Headers are read through bus_header() and
 * bus_headers(): librdkafka unpacks them, one malloc each, on the first look. */
struct bus_msg {
	struct bus_part          at;
	int64_t                  offset, sent_at_ms;
	struct str               key, value;    /* value.p NULL: tombstone */
	void                    *user;          /* yours, NULL at first */
	void                    *wire;          /* the bus's; NULL in a message made by hand (tests) */
	const struct bus_header *headers;       /* bus_headers() gives them; set by hand without wire */
	size_t                   n_headers;
};

struct bus_consumer {
	/* "waddle.router".  NULL: no group, every partition from its end at this moment, nothing
	 * stored (a terminal's view); bus_consume() then blocks up to 5 s to learn the ends. */
	const char        *group;
	const char *const *topics;      /* ends with NULL; "^waddle\\.responses\\." is a pattern */
	int                max_held;    /* messages without bus_done() before fetching stops */
	void (*message)(void *arg, struct bus_msg *m);
	/* Before the first message of a partition: load its state (limits, caches).  NULL: none. */
	void (*gained)(void *arg, struct bus_part p);
	/* After the last: flush now if !lost, drop if lost.  What was not done when it returns is
	 * void, a late bus_done() does nothing but free.  Return soon: the group waits.  NULL: none. */
	void (*losing)(void *arg, struct bus_part p, bool lost);
	void  *arg;
};

typedef void bus_sent(void *arg, const struct err *err);  /* NULL: all in-sync replicas have it */

/* brokers: KAFKA_BROKERS, prefix: TOPIC_PREFIX ("": waddle).  Other KAFKA_* settings are read
 * by cfg_each_kafka(); every bad property is named in err (kind ERR_BROKEN).  Does not wait for
 * the broker: service_ready(s, "kafka", up) follows the connection and the presence of the
 * topics consumed; what is absent is logged. */
struct bus *bus_open(struct service *s, struct str brokers, struct str prefix, struct err *err) MUST_CHECK;
/* One or several consumers per process, each with a group of its own.  Returns at once; the
 * assignment comes later.  c and its strings are copied. */
struct bus_sub;
int  bus_consume(struct bus *b, const struct bus_consumer *c, struct bus_sub **ret, struct err *err) MUST_CHECK;
void bus_pause(struct bus_sub *sub);      /* no message() until bus_resume(); the group is kept */
void bus_resume(struct bus_sub *sub);
/* Drain: no new messages; held ones may still be done and their offsets are stored.  After the
 * last the group is left, so that others take over before bus_close(). */
void bus_unsubscribe(struct bus_sub *sub);

void bus_done(struct bus_msg *m) NONNULL;       /* exactly once per message */
/* To waddle.dlq with its headers and waddle-origin-topic, -partition, -offset, waddle-reason
 * and waddle-error; bus_done() by itself once the broker has it, tried again until then.
 * reason is a word of router.md 19 ("bad_json").  For what can never succeed, not for what may
 * later.  why may be NULL.  A body the broker would refuse is cut (waddle-cut: its size). */
void bus_reject(struct bus_msg *m, const char *reason, const struct err *why);
struct str bus_header(const struct bus_msg *m, const char *name) NONNULL;  /* last one; STR_NONE */
const struct bus_header *bus_headers(const struct bus_msg *m, size_t *ret_n) NONNULL; /* in order */
bool bus_msg_void(const struct bus_msg *m) NONNULL;     /* its partition was lost meanwhile */

/* Copies all.  sent() exactly once, never from inside bus_send(), in order per partition; may
 * be NULL.  Waits for the broker without limit: only bus_close() gives up (-ECANCELED).
 * -EAGAIN: local queue full, stop consuming until a sent().  -EMSGSIZE: larger than 256 KiB.
 * -ENOENT, -EACCES: the broker has no such topic, or it is not ours to write; looked at again
 * every 5 s.  -ESHUTDOWN: bus_close() has begun.  Compaction tombstone: value STR_NONE. */
int  bus_send(struct bus *b, const char *topic, struct str key, struct str value,
              const struct bus_header *h, size_t n, bus_sent *sent, void *arg) MUST_CHECK;
#define BUS_BODY_MAX ((size_t)256 * 1024)

int64_t bus_lag(const struct bus *b);   /* messages behind over all our partitions; a metric */
size_t  bus_unsent(const struct bus *b);/* handed to bus_send(), not yet acknowledged; a metric */

/* Flush <= 10 s (outstanding sent() run from here), store offsets, leave the group, free.
 * Messages not done are gone; others get them again.  Not from inside a bus callback. */
void bus_close(struct bus *b);          /* NULL is fine */

/* Administration (waddle topics): blocking, for command line tools only.  outcome: "created",
 * "exists", "exists with 4 partitions, not 16", or the broker's refusal.  Creating twice changes
 * nothing.  0 when every topic is there in the end. */
struct bus_topic { const char *name; int partitions; const char *const *config; /* "k=v", NULL */ };
int  bus_topics_create(struct bus *b, const struct bus_topic *t, size_t n, int replicas,
                       void (*each)(void *arg, const char *name, const char *outcome), void *arg,
                       struct err *err) MUST_CHECK;
int  bus_topics_list(struct bus *b,
                     void (*each)(void *arg, const char *name, int partitions, int replicas), void *arg,
                     struct err *err) MUST_CHECK;

extern struct metric *const bus_metrics[];      /* for a service's table; ends with NULL */

#endif

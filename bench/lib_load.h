/* lib_load.h - the running suite under load: events in, figures out, with bare librdkafka on the
 * measuring side so that our own wrappers measure nothing about themselves.
 *
 * The load: 20,000 users, each at home in one of SUITE_COMMUNITIES channels, all moderators. */
#ifndef BENCH_LIB_LOAD_H
#define BENCH_LIB_LOAD_H

#include "stack.h"

#include <librdkafka/rdkafka.h>

enum { SUITE_COMMUNITIES = 64, SUITE_BODY = 2048 };

/* Database, topics, SUITE_COMMUNITIES channels ("terminal:c0" ...) of as many communities. */
void load_open(struct stack *st, const char *name, int partitions);
/* The command of a module that is not there; or once the module has registered it: enabled in all
 * channels, 60 s of time, no limit. */
void load_register(struct stack *st, const char *module, const char *command);
void load_enable(struct stack *st, const char *command);
/* Twenty quotes in every community. */
void load_memories(struct stack *st);

/* The i-th event of a load: i stands in its reply_ref, hexadecimal, first. */
struct load_event { size_t key_n, n; char key[32], body[SUITE_BODY]; };
void load_event(struct load_event *e, size_t i, const char *text);
/* n of them; returns when the broker has them. */
void load_fill(struct stack *st, const char *topic, size_t n, const char *text);

/* librdkafka, as we set it: idempotent, acks=all, lz4, no linger.  delivered may be NULL. */
rd_kafka_t *load_producer(struct stack *st, void (*delivered)(rd_kafka_t *, const rd_kafka_message_t *, void *),
                           void *opaque);
void load_produce(rd_kafka_t *rk, const char *topic, const char *key, size_t key_n, const char *body, size_t n);
/* group NULL: a fresh one; from the beginning of the topic, or where the group was. */
rd_kafka_t *load_consumer(struct stack *st, const char *topic, const char *group);
char *load_wire(struct stack *st, const char *topic);          /* its name on the broker; free() */

/* Counts messages of a topic as they come. */
struct load_meter;
struct load_meter *load_meter_open(struct stack *st, const char *topic);
/* Until `want` have come in all or limit_s passed; *first_s and *last_s as of bench_now_s(). */
size_t load_meter_run(struct load_meter *m, size_t want, double limit_s, double *first_s, double *last_s);
void load_meter_close(struct load_meter *m);

/* Commands per second all the way to the outbound topic, from the first answer to the last.  At
 * most 2048 wait for their answer, evenly from all channels: a stream that goes on as fast as it is
 * served.  (Of a backlog, a community's share beyond its queue would be refused as "busy".) */
double load_trip(struct stack *st, size_t n, const char *text);

#endif

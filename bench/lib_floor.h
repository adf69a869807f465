/* lib_floor.h - the least that has to be done, by bare loops over librdkafka, json-c and libpq.
 *
 * A hop is one loop on a thread of its own: consume what is there (at most 512), json-c parse, one
 * UNNEST statement committed with fsync while the next batch is consumed, then produce (acks=all).
 * No checks, no limits, no state that survives a crash: what the service does on top is its price. */
#ifndef BENCH_LIB_FLOOR_H
#define BENCH_LIB_FLOOR_H

#include "lib_load.h"

enum floor_step {
	FLOOR_EXECUTION,        /* insert the execution row, the event as its payload */
	FLOOR_LIST,             /* the five newest memories of each message's community */
	FLOOR_ADD,              /* insert a memory and an inbox row */
	FLOOR_RESPONSE,         /* settle the execution, insert the response */
	FLOOR_STEPS
};

struct floor_hop;
/* Runs until n messages have gone through.  group NULL: a fresh one, from the beginning of the
 * topic.  wait: returns when its consumer has partitions, whose messages are all taken so far. */
struct floor_hop *floor_hop_start(struct stack *st, enum floor_step step, const char *from, const char *to,
                                  const char *group, bool wait, size_t n) RETURNS_NONNULL;
/* Waits for its end; when the first message came in and the last was acknowledged. */
void floor_hop_join(struct floor_hop *h, double *first_s, double *last_s) NONNULL;

/* Messages per second: consume and parse; one hop; execution, list or add, response in a row. */
double load_floor_chat(struct stack *st, const char *topic, size_t n);
double load_floor_dispatch(struct stack *st, const char *from, const char *to, size_t n);
double load_floor_round_trip(struct stack *st, bool write, size_t n, const char *text);

#endif

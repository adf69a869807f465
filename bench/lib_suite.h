/* lib_suite.h - the running suite under load: events in, figures out, with bare librdkafka and
 * libpq on the measuring side so that our own wrappers measure nothing about themselves. */
#ifndef BENCH_LIB_SUITE_H
#define BENCH_LIB_SUITE_H

#include "stack.h"

enum { SUITE_COMMUNITIES = 64 };

/* Database, topics, SUITE_COMMUNITIES channels ("terminal:c0" ...) of as many communities; the
 * command of `module` (timeout 60 s, no limit) is enabled everywhere once it is registered. */
void suite_open(struct stack *st, const char *name, int partitions);
void suite_register(struct stack *st, const char *module, const char *command);
void suite_enable(struct stack *st, const char *command);

/* n events with this text, from 20,000 users in all channels; {n} in text becomes the number.
 * Returns when the broker has them.  at_ms: received_at of all. */
void suite_fill(struct stack *st, const char *topic, size_t n, const char *text);

/* Counts messages of a topic as they come, by a thread-less consumer of its own. */
struct suite_meter;
struct suite_meter *suite_meter_open(struct stack *st, const char *topic);
/* Until `want` have come in all or limit_s passed; *first_s and *last_s as of bench_now_s(). */
size_t suite_meter_run(struct suite_meter *m, size_t want, double limit_s, double *first_s, double *last_s);
void suite_meter_close(struct suite_meter *m);

/* The floors, run on the same topics' data with the same partitions. */
double suite_floor_chat(struct stack *st, const char *topic, size_t n);
double suite_floor_dispatch(struct stack *st, const char *from, const char *to, size_t n);

#endif

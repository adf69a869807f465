/* bus_stats.h - the few facts we want out of librdkafka's statistics, a JSON object of its own
 * making (STATISTICS.md): is a broker connected, which topics are there, how far behind are we. */
#ifndef BUS_STATS_H
#define BUS_STATS_H

#include "str.h"

struct bus_stats {
	bool broker_up;                 /* at least one */
	void (*topic)(void *arg, struct str name);      /* one that exists, possibly several times */
	/* A consumer's own reckoning, -1: unknown.  NULL: not wanted. */
	void (*lag)(void *arg, struct str topic, struct str partition, struct str messages);
	void *arg;
};

/* -EBADMSG: not JSON as far as it was read.  Nesting deeper than known is skipped. */
int bus_stats_read(struct str json, struct bus_stats *ret) MUST_CHECK;

#endif

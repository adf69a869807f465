/* bus_client.h - a service with a bus for tests: counts and keeps what it gets.
 *
 *      struct bus_client c;
 *      bus_client_open(&c, brokers, "test-1f2e");
 *      bus_client_consume(&c, "waddle.test", topics, 1000);
 *      bus_client_send(&c, "waddle.events", "key", "value");
 *      assert_true(bus_client_run(&c, &c.seen, 1, 10000)); */
#ifndef BUS_CLIENT_H
#define BUS_CLIENT_H

#include "bus.h"
#include "service.h"

struct bus_client_msg { char *topic, *key, *value; int32_t partition; int64_t offset; };

struct bus_client {
	struct service  s;
	struct bus     *b;
	struct bus_sub *sub;

	bool            keep;           /* true: message() leaves bus_done() to the test */
	struct bus_msg **held;          /* then in here, in order */
	size_t          n_held;

	struct bus_client_msg *msgs;    /* everything seen */
	size_t          seen, gained, losing, lost;

	size_t          sent, acked, failed, reordered;
	int             last_code;      /* of the last failure */
	struct bus_client_key *keys;
	size_t          n_keys;
};

/* prefix: TOPIC_PREFIX; the bus connects by itself later. */
void bus_client_open(struct bus_client *c, const char *brokers, const char *prefix) NONNULL;
void bus_client_close(struct bus_client *c) NONNULL;    /* bus_close() first, unless b is NULL */
void bus_client_consume(struct bus_client *c, const char *group, const char *const *topics, int max_held);
/* bus_send() with a report into acked, failed, reordered (a later send was reported before an
 * earlier one of the same key).  value NULL: tombstone. */
int  bus_client_send(struct bus_client *c, const char *topic, const char *key, const char *value);
/* Runs the loop until *count >= n. */
bool bus_client_run(struct bus_client *c, const size_t *count, size_t n, int64_t max_ms) MUST_CHECK;
void bus_client_for(struct bus_client *c, int64_t ms);  /* whatever happens in that time */
bool bus_client_ready(struct bus_client *c);            /* as /readyz says now */
bool bus_client_wait_ready(struct bus_client *c, bool up, int64_t max_ms) MUST_CHECK;
void bus_client_done_all(struct bus_client *c);         /* of what is kept, in order */

#endif

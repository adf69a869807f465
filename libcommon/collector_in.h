/* collector_in.h - between storing an event and sweeping up what was not published. */
#ifndef COLLECTOR_IN_H
#define COLLECTOR_IN_H

#include "batch.h"
#include "clock.h"
#include "collector.h"
#include "collector_int.h"

struct collector {
	unsigned        magic;
	struct service *s;
	struct db      *db;
	struct bus     *bus;
	struct arena   *mem;            /* of the statements below */
	const char     *platform;
	int             store_ms;
	int64_t         backlog_max, dedupe_ms;
	struct batch_spec store_spec, processed_spec, scored_spec;
	struct batch   *store, *processed, *scored;
	const char     *sweep_sql, *sweep_activities_sql, *backlog_sql, *tidy_sql;
	struct timer    sweep, tidy;
	int             sweeping;       /* statements under way */
	bool            swept_full, backlog_full, closing;
	struct hash_table flying;       /* publishings by event id: not for the sweeper */
	struct list     all;
};
enum { COLLECTOR_MAGIC = 0xc011ec70 };

/* An event between its commit and the broker's acknowledgements. */
struct flight {
	unsigned         magic;
	struct collector *c;
	struct list      node;
	struct hash_node by_id;
	struct timer     timer;
	collector_stored *done;         /* NULL once told */
	void            *arg;
	struct arena    *mem;
	struct str       event_id, entity, message, traceparent;   /* message.p NULL: not forwarded */
	struct activity  act;           /* activity_type.p NULL: none */
	int64_t          created_at_ms, started_us;
	unsigned         open;          /* things that still have to call back */
};
enum { FLIGHT_MAGIC = 0xc011ec71 };

struct flight *flight_new(struct collector *c) RETURNS_NONNULL;
void flight_publish(struct flight *f);
void flight_end(struct flight *f);              /* when nothing is open any more */

void sweeper_open(struct collector *c);
void sweeper_close(struct collector *c);

#endif

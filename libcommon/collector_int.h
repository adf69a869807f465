/* collector_int.h - between the files of the collector. */
#ifndef COLLECTOR_INT_H
#define COLLECTOR_INT_H

#include "batch.h"
#include "clock.h"
#include "collector_out.h"
#include "hash.h"
#include "list.h"

/* The statement with the platform's name for each @; lives in mem. */
const char *collector_sql(struct arena *mem, const char *platform, const char *with) RETURNS_NONNULL;

/* Outbound: collector_out.c keeps and ends messages, collector_lane.c decides whose turn it is and
 * makes the calls.
 *
 *      PLACING -> WAITING <-> RESERVING -> CALLING -> NOTING (more parts, again later) -> WAITING
 *                                             \-> ECHOING -> WAITING or ENDING -> reported */
enum sending_state { PLACING, WAITING, RESERVING, CALLING, NOTING, ECHOING, ENDING };
enum final { FINAL_SENT, FINAL_REFUSED, FINAL_FAILED, FINAL_EXPIRED, FINAL_UNKNOWN, FINALS };

/* A channel: one message of it is active, the others wait in order. */
struct lane {
	struct hash_node by_entity;
	struct list      node, waiting;         /* of sending, by rank, then arrival */
	struct sending  *active;
	struct str       entity;
	struct arena    *mem;
	int64_t          not_before_mono_ms;
	uint64_t         turn;                  /* when it had its last */
};

struct sending {
	unsigned         magic;
	enum sending_state state;
	struct sender   *d;
	struct list      node, all;             /* node: in its lane */
	struct hash_node by_id;
	struct lane     *lane;
	struct arena    *mem;
	struct outbound  what;
	struct str       message, login, trace; /* message: as it came */
	struct bus_msg  *m;                     /* until its row is committed */
	int              rank;
	int64_t          arrival, taken_mono_ms;
	struct str       parts[SPLIT_PARTS], ids[SPLIT_PARTS];
	struct str       parts_json;            /* JSON list of ids[] */
	size_t           n_parts, part;
	int              attempts;              /* calls of this part that may have arrived */
	unsigned         tries;                 /* calls of this part that did not leave */
	bool             asks;                  /* taken over: was it sent? */
	int64_t          echo_until_mono_ms;
	struct timer     timer;
	enum final       final;
	struct str       error;
};
enum { SENDING_MAGIC = 0xc011ec73 };

struct sender {
	unsigned         magic;
	struct service  *s;
	struct sender_conf conf;
	struct bus_sub  *sub;
	struct arena    *mem;                   /* of the statements */
	const char      *begin_sql, *note_sql, *renew_sql, *claim_sql, *release_sql, *echo_sql, *seen_sql;
	const char      *responses_topic;
	struct batch_spec insert_spec, final_spec, reported_spec, echo_spec;
	struct batch    *insert, *final, *reported, *echo;
	struct hash_table lanes, by_id;
	struct list      all, lane_list;
	size_t           n_all;
	struct timer     turn, sweep, renew;
	uint64_t         turns;
	unsigned         failures;
	bool             ready, asking, paused, sweeping, draining, stopped;
};
enum { SENDER_MAGIC = 0xc011ec72 };

/* collector_lane.c */
void lane_add(struct sending *s);               /* behind its rank; s is WAITING */
void lane_leave(struct sending *s);             /* its turn is over */
void lanes_turn(struct sender *d, int64_t in_ms);       /* look whose turn it is, at the latest then */
void lanes_free(struct sender *d);

/* collector_out.c */
void sending_end(struct sending *s, enum final final, struct str error);
void sending_drop(struct sending *s);           /* others have it, or will */
void sending_part(struct sending *s, struct str platform_message_id);  /* the next part is sent */

#endif

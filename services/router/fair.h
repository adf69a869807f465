/* fair.h - how much of a module each community has in hand: at most so many unanswered executions per
 * (community, module), the others wait their turn (router.md 19).  In memory only, no I/O.
 *
 * A slot is an execution that was sent and not answered, known by its id; a share is one community at
 * one module.  Answers that other replicas take are learned late (waiting.c asks), and a slot whose
 * execution has timed out is free by itself: a count can be too high for a while, never for ever. */
#ifndef FAIR_H
#define FAIR_H

#include "hash.h"
#include "list.h"
#include "str.h"

struct fair_share {
	struct hash_node by_key;
	struct list      node;          /* of fair.ready, or of fair.idle when all below are 0 */
	struct list      slots;
	size_t           n_slots;
	int64_t          waiting;       /* rows known to wait in the database */
	int64_t          entering;      /* rows of transactions under way that will wait */
	int64_t          asked, had;    /* by the claim under way; waiting when it was sent */
	int64_t          community_id;
	struct str       module;
};

struct fair_slot {
	struct hash_node   by_id;
	struct list        node, all;   /* of its share; of fair.slots */
	struct fair_share *share;
	int64_t            created_ms, sent_mono_ms, until_mono_ms;
	char               id[37];
};

struct fair {
	struct hash_table shares, ids;
	struct list       ready;        /* shares with free slots and rows waiting */
	struct list       idle, slots, spare;
	size_t            n_idle, n_slots, limit;
	int64_t           backlog, waiting;     /* waiting: all of them */
};

void fair_init(struct fair *f, size_t limit, int64_t backlog);
void fair_clear(struct fair *f);

struct fair_share *fair_share(struct fair *f, int64_t community_id, struct str module) RETURNS_NONNULL;

/* Whether one more may go now.  Who has waited goes first. */
static inline bool fair_may_go(const struct fair *f, const struct fair_share *s)
{
	return s->waiting + s->entering == 0 && s->n_slots < f->limit;
}

static inline bool fair_is_full(const struct fair *f, const struct fair_share *s)
{
	return s->waiting + s->entering >= f->backlog;
}

/* NULL: this execution has one already. */
struct fair_slot *fair_take(struct fair *f, struct fair_share *s, const char *id, int64_t created_ms, int64_t timeout_ms);
struct fair_slot *fair_find(const struct fair *f, struct str id);
void fair_free(struct fair *f, struct fair_slot *slot);

/* So many more (fewer) rows wait in the database. */
void fair_waits(struct fair *f, struct fair_share *s, int64_t more);
void fair_enters(struct fair *f, struct fair_share *s, int64_t more);

#endif

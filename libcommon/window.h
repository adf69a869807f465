/* window.h - at most N in any window: exact sliding windows in memory, over rows somewhere else.
 *
 * The owner is whoever owns the Kafka partition, so no lock is needed: what is here is what the
 * store (table rate_limits) has, and what the owner is about to write there.  A key knows
 * everything that happened from an instant on; what lies before it, or everything when the key is
 * new, was evicted or came with a partition, is learned from the store first.
 *
 * Exact means: no window (t-W, t] anywhere in time holds more than N admitted takes.  Refused ones
 * do not count.  Takes have ids: the same id again gets the same answer and counts nothing.
 *
 * Clocks: wall time of the events, made non-decreasing per key: an event that comes a little late
 * is judged at the time of the newest one before it. */
#ifndef WINDOW_H
#define WINDOW_H

#include "str.h"

struct windows;                   /* many keys, one window */
struct window_key;

struct window_stamp { int64_t at_ms; uint64_t id; };     /* id: hash_of() the event's */
enum { WINDOW_REFUSED_IDS = 100 };                       /* remembered per key and window */

struct window_answer {
	int64_t  wait_ms;       /* 0: admitted.  > 0: refused; until one would be admitted */
	int64_t  at_ms;         /* the instant it was judged at */
	uint32_t refused;       /* how many were in its window slot, itself included; 0: again */
	bool     again;         /* its first answer */
};

/* Keys that are not held are forgotten when there are too many, the one idle longest first.  Held
 * ones stay, so a key is held from the take until the store has it. */
struct windows *windows_open(size_t max_keys, int64_t window_ms) RETURNS_NONNULL;
void windows_close(struct windows *l);                              /* NULL is fine */

/* group: the partition. */
struct window_key *window_hold(struct windows *l, struct str key, int group) RETURNS_NONNULL;
void   window_drop(struct windows *l, struct window_key *k);        /* NULL is fine */
void **window_user(struct window_key *k) RETURNS_NONNULL;         /* NULL at first; the caller's while it holds */

bool   window_gone(const struct window_key *k) NONNULL;           /* forgotten while held: hold anew */

/* Everything since at_ms is known: a take of that time may be judged. */
bool window_knows(const struct window_key *k, int64_t at_ms) NONNULL;

/* What the store has from from_ms on, in any order; what is known already is not taken twice.
 * slot_ms, refused: how many were refused in the newest slot. */
struct window_past {
	int64_t from_ms, slot_ms;
	uint32_t refused;
	struct window_stamp *admitted, *turned_away;
	size_t n_admitted, n_turned_away;
};
void window_learn(struct windows *l, struct window_key *k, struct window_past *past);

/* window_knows(k, at_ms) must hold.  since_ms: the same id is not older than that. */
struct window_answer window_take(struct windows *l, struct window_key *k, uint32_t max, uint64_t id, int64_t at_ms,
                               int64_t since_ms);

/* The partition is gone: its keys are new ones from here on; held ones go when they are dropped. */
void window_forget(struct windows *l, int group);

size_t windows_keys(const struct windows *l) NONNULL;

extern struct metric *const window_metrics[];    /* ends with NULL */

#endif

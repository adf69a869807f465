/* hash.h - the one hash of the process and a table of embedded nodes.
 *
 * hash_of() is SipHash-1-3 (Aumasson, Bernstein) with a key drawn at start: whoever chooses keys -
 * user names, command words - cannot choose which bucket they meet in.  Not for anything stored.
 *
 * The table holds nodes embedded in their owners, chained, doubling at load 1.  It owns no node
 * and compares no key: the owner walks the few nodes of one hash and looks. */
#ifndef HASH_H
#define HASH_H

#include "str.h"

uint64_t hash_of(struct str key);
uint64_t hash_int(int64_t key);

struct hash_node { struct hash_node *next; uint64_t hash; };
struct hash_table { struct hash_node **slot; size_t n, mask; };       /* zero is a valid empty one */

void hash_add(struct hash_table *t, struct hash_node *node, uint64_t hash) NONNULL;
void hash_del(struct hash_table *t, struct hash_node *node) NONNULL;  /* asserts it is in there */
void hash_clear(struct hash_table *t) NONNULL;  /* frees the slots, touches no node */

/* The next node of this hash: hash_find(t, h), then hash_next(node) until NULL. */
static inline struct hash_node *hash_match(struct hash_node *node, uint64_t hash)
{
	while (node != NULL && node->hash != hash)
		node = node->next;
	return node;
}

static inline struct hash_node *hash_find(const struct hash_table *t, uint64_t hash)
{
	return t->slot == NULL ? NULL : hash_match(t->slot[hash & t->mask], hash);
}

static inline struct hash_node *hash_next(const struct hash_node *node)
{
	return hash_match(node->next, node->hash);
}

#endif

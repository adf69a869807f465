/* hash.c - SipHash-1-3 and the table that grows by doubling. */
#include "hash.h"

#include <stdlib.h>
#include <sys/random.h>

enum { FIRST_SLOTS = 64 };

static uint64_t key0, key1;

/* Before main(): no table can exist with another key. */
__attribute__((constructor)) static void draw_key(void)
{
	uint64_t k[2];

	if (getrandom(k, sizeof k, 0) != (ssize_t)sizeof k)
		abort();
	key0 = k[0];
	key1 = k[1];
}

static inline uint64_t rotl(uint64_t x, int b)
{
	return x << b | x >> (64 - b);
}

struct sip {
	uint64_t v0, v1, v2, v3;
};

static inline void sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v2 += s->v3;
	s->v1 = rotl(s->v1, 13) ^ s->v0;
	s->v3 = rotl(s->v3, 16) ^ s->v2;
	s->v0 = rotl(s->v0, 32);
	s->v2 += s->v1;
	s->v0 += s->v3;
	s->v1 = rotl(s->v1, 17) ^ s->v2;
	s->v3 = rotl(s->v3, 21) ^ s->v0;
	s->v2 = rotl(s->v2, 32);
}

static inline void sip_word(struct sip *s, uint64_t m)
{
	s->v3 ^= m;
	sip_round(s);
	s->v0 ^= m;
}

uint64_t hash_of(struct str key)
{
	struct sip s = { 0x736f6d6570736575u ^ key0, 0x646f72616e646f6du ^ key1, 0x6c7967656e657261u ^ key0,
			 0x7465646279746573u ^ key1 };
	uint64_t last = (uint64_t)key.n << 56, m;
	size_t i = 0;

	for (; i + 8 <= key.n; i += 8) {
		memcpy(&m, key.p + i, 8);
		sip_word(&s, m);
	}
	for (size_t j = 0; i + j < key.n; j++)
		last |= (uint64_t)(unsigned char)key.p[i + j] << (8 * j);
	sip_word(&s, last);
	s.v2 ^= 0xff;
	sip_round(&s);
	sip_round(&s);
	sip_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

uint64_t hash_int(int64_t key)
{
	char bytes[sizeof key];

	memcpy(bytes, &key, sizeof key);
	return hash_of((struct str){ bytes, sizeof key });
}

static void grow(struct hash_table *t)
{
	size_t slots = t->slot == NULL ? FIRST_SLOTS : (t->mask + 1) * 2;
	struct hash_node **slot = XNEW_N(struct hash_node *, slots);

	for (size_t i = 0; t->slot != NULL && i <= t->mask; i++) {
		for (struct hash_node *n = t->slot[i], *next; n != NULL; n = next) {
			next = n->next;
			n->next = slot[n->hash & (slots - 1)];
			slot[n->hash & (slots - 1)] = n;
		}
	}
	free(t->slot);
	t->slot = slot;
	t->mask = slots - 1;
}

void hash_add(struct hash_table *t, struct hash_node *node, uint64_t hash)
{
	if (t->slot == NULL || t->n > t->mask)
		grow(t);
	node->hash = hash;
	node->next = t->slot[hash & t->mask];
	t->slot[hash & t->mask] = node;
	t->n++;
}

void hash_del(struct hash_table *t, struct hash_node *node)
{
	struct hash_node **at;

	ASSERT(t->slot != NULL);
	for (at = &t->slot[node->hash & t->mask]; *at != node; at = &(*at)->next)
		ASSERT(*at != NULL);
	*at = node->next;
	node->next = NULL;
	t->n--;
}

void hash_clear(struct hash_table *t)
{
	free(t->slot);
	*t = (struct hash_table){ 0 };
}

/* breaker.c - a hash of failing places and a list of them, longest silent first. */
#include "breaker.h"
#include "hash.h"
#include "list.h"

struct circuit {
	struct hash_node node;
	struct list      age;
	unsigned         failures;
	bool             probing;       /* half open and somebody tries */
	int64_t          open_until_mono_ms;    /* 0: closed */
	size_t           n;
	char             place[];
};

struct breaker {
	struct hash_table table;
	struct list       age;
	size_t            n, max;
};

struct breaker *breaker_new(size_t max)
{
	struct breaker *b = XNEW(struct breaker);

	b->max = max;
	list_init(&b->age);
	return b;
}

static void forget(struct breaker *b, struct circuit *c)
{
	hash_del(&b->table, &c->node);
	list_del(&c->age);
	free(c);
	b->n--;
}

void breaker_free(struct breaker *b)
{
	if (b == NULL)
		return;
	LIST_EACH(n, tmp, &b->age)
		forget(b, CONTAINER_OF(n, struct circuit, age));
	hash_clear(&b->table);
	free(b);
}

static struct circuit *find(const struct breaker *b, struct str place)
{
	uint64_t hash = hash_of(place);

	for (struct hash_node *n = hash_find(&b->table, hash); n != NULL; n = hash_next(n)) {
		struct circuit *c = CONTAINER_OF(n, struct circuit, node);

		if (c->n == place.n && memcmp(c->place, place.p, c->n) == 0)
			return c;
	}
	return NULL;
}

static struct circuit *add(struct breaker *b, struct str place)
{
	struct circuit *c;

	if (b->n == b->max)
		forget(b, CONTAINER_OF(list_first(&b->age), struct circuit, age));
	c = xnew_(1, sizeof *c + place.n);
	c->n = place.n;
	if (place.n > 0)
		memcpy(c->place, place.p, place.n);
	hash_add(&b->table, &c->node, hash_of(place));
	list_init(&c->age);
	list_add_tail(&b->age, &c->age);
	b->n++;
	return c;
}

bool breaker_allows(struct breaker *b, struct str place, int64_t now_mono_ms)
{
	struct circuit *c = find(b, place);

	if (c == NULL || c->open_until_mono_ms == 0)
		return true;
	if (now_mono_ms < c->open_until_mono_ms || c->probing)
		return false;
	c->probing = true;
	return true;
}

void breaker_report(struct breaker *b, struct str place, bool worked, int64_t now_mono_ms)
{
	struct circuit *c = find(b, place);

	if (worked) {
		if (c != NULL)
			forget(b, c);
		return;
	}
	if (c == NULL)
		c = add(b, place);
	list_move(&b->age, &c->age);
	if (++c->failures >= BREAKER_FAILURES || c->probing)
		c->open_until_mono_ms = now_mono_ms + BREAKER_OPEN_MS;
	c->probing = false;
}

size_t breaker_open_now(const struct breaker *b, int64_t now_mono_ms)
{
	size_t n = 0;

	LIST_EACH(pos, tmp, &b->age)
		n += CONTAINER_OF(pos, struct circuit, age)->open_until_mono_ms > now_mono_ms;
	return n;
}

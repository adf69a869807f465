/* bus_pool.c - memory of reports and messages: taken in blocks, used again, freed with the bus.
 *
 * Their number is bounded by the queues they belong to; a block is never given back before. */
#include "bus_impl.h"

enum { PER_BLOCK = 64 };

struct block {
	void *next;
};

static void *block_new(struct bus *b, size_t size)
{
	struct block *k = xnew_(1, sizeof(struct block) + 8 + PER_BLOCK * size);

	k->next = b->blocks;
	b->blocks = k;
	return (char *)k + sizeof(struct block) + 8;
}

struct bus_report *bus_report_new(struct bus *b)
{
	struct bus_report *r = b->spare;

	if (r == NULL) {
		struct bus_report *all = block_new(b, sizeof(*all));

		for (size_t i = 0; i < PER_BLOCK; i++)
			bus_report_free(b, &all[i]);
		r = b->spare;
	}
	b->spare = r->next;
	return r;
}

void bus_report_free(struct bus *b, struct bus_report *r)
{
	r->next = b->spare;
	b->spare = r;
}

struct bus_held *bus_held_new(struct bus *b)
{
	struct bus_held *h = b->spare_held;

	if (h == NULL) {
		struct bus_held *all = block_new(b, sizeof(*all));

		for (size_t i = 0; i < PER_BLOCK; i++)
			bus_held_free(b, &all[i]);
		h = b->spare_held;
	}
	b->spare_held = h->next;
	return h;
}

void bus_held_free(struct bus *b, struct bus_held *h)
{
	h->next = b->spare_held;
	b->spare_held = h;
}

void bus_pool_clear(struct bus *b)
{
	while (b->blocks != NULL) {
		struct block *k = b->blocks;

		b->blocks = k->next;
		free(k);
	}
	b->spare = NULL;
	b->spare_held = NULL;
}

/* due.c - a ring of slots, each with a few spans. */
#include "due.h"

/* Spans closer than this are one: reading across is cheaper than looking twice. */
enum { NEAR_MS = 1000 };

void due_init(struct due *d, int64_t now_ms)
{
	*d = (struct due){ .next = now_ms / DUE_SLOT_MS };
}

static int64_t distance(const struct due_span *a, const struct due_span *b)
{
	if (b->from_ms > a->to_ms)
		return b->from_ms - a->to_ms;
	return a->from_ms > b->to_ms ? a->from_ms - b->to_ms : 0;
}

static void join(struct due_span *a, const struct due_span *b)
{
	if (b->from_ms < a->from_ms)
		a->from_ms = b->from_ms;
	if (b->to_ms > a->to_ms)
		a->to_ms = b->to_ms;
}

void due_add(struct due *d, struct due_span s, int64_t at_ms)
{
	int64_t number = at_ms / DUE_SLOT_MS + 1;       /* never early */
	struct due_slot *slot;
	unsigned nearest = 0;

	if (number < d->next)
		number = d->next;
	if (number >= d->next + DUE_SLOTS)
		number = d->next + DUE_SLOTS - 1;
	slot = &d->slot[number % DUE_SLOTS];
	for (unsigned i = 1; i < slot->n; i++)
		if (distance(&slot->span[i], &s) < distance(&slot->span[nearest], &s))
			nearest = i;
	if (slot->n == DUE_SPANS || (slot->n > 0 && distance(&slot->span[nearest], &s) <= NEAR_MS))
		join(&slot->span[nearest], &s);
	else
		slot->span[slot->n++] = s;
}

/* In its place among out[0..n), joined with what it touches. */
static size_t insert(struct due_span *out, size_t n, size_t max, struct due_span s)
{
	size_t i = n;

	while (i > 0 && out[i - 1].from_ms > s.from_ms)
		i--;
	if (n == max) {
		join(&out[i > 0 ? i - 1 : 0], &s);
	} else {
		memmove(out + i + 1, out + i, (n - i) * sizeof *out);
		out[i] = s;
		n++;
	}
	for (i = 1; i < n;) {
		if (distance(&out[i - 1], &out[i]) > NEAR_MS) {
			i++;
			continue;
		}
		join(&out[i - 1], &out[i]);
		memmove(out + i, out + i + 1, (n - i - 1) * sizeof *out);
		n--;
	}
	return n;
}

size_t due_take(struct due *d, int64_t now_ms, struct due_span *out, size_t max)
{
	int64_t until = now_ms / DUE_SLOT_MS, last = d->next + DUE_SLOTS - 1;
	size_t n = 0;

	for (int64_t number = d->next; number <= until && number <= last; number++) {
		struct due_slot *slot = &d->slot[number % DUE_SLOTS];

		for (unsigned i = 0; i < slot->n; i++)
			n = insert(out, n, max, slot->span[i]);
		slot->n = 0;
	}
	if (until >= d->next)
		d->next = until + 1;
	return n;
}

int64_t due_oldest(const struct due *d)
{
	int64_t oldest = INT64_MAX;

	for (size_t i = 0; i < DUE_SLOTS; i++)
		for (unsigned k = 0; k < d->slot[i].n; k++)
			if (d->slot[i].span[k].from_ms < oldest)
				oldest = d->slot[i].span[k].from_ms;
	return oldest;
}

/* bus_mark.c - low-water marks: a ring of (offset, done), one slot per message taken. */
#include "bus_mark.h"

enum { FIRST_ROOM = 16 };

static void grow(struct bus_mark *m)
{
	uint64_t room = m->room == 0 ? FIRST_ROOM : m->room * 2;
	uint64_t *slot = XNEW_N(uint64_t, room);

	for (uint64_t i = m->head; i != m->tail; i++)
		slot[i & (room - 1)] = m->slot[i & (m->room - 1)];
	free(m->slot);
	m->slot = slot;
	m->room = room;
}

uint64_t bus_mark_take(struct bus_mark *m, int64_t offset)
{
	ASSERT(offset >= 0);
	if (m->tail - m->head == m->room)
		grow(m);
	else
		ASSERT(m->room > 0);
	if (m->tail > 0 && m->tail != m->head)
		ASSERT((int64_t)(m->slot[(m->tail - 1) & (m->room - 1)] >> 1) < offset);
	else
		ASSERT(offset >= m->low);
	m->slot[m->tail & (m->room - 1)] = (uint64_t)offset << 1;
	return m->tail++;
}

bool bus_mark_done(struct bus_mark *m, uint64_t number)
{
	uint64_t mask = m->room - 1;
	bool risen = false;

	ASSERT(number - m->head < m->tail - m->head); /* taken, and not below the mark already */
	ASSERT((m->slot[number & mask] & 1) == 0);    /* done once */
	m->slot[number & mask] |= 1;
	while (m->head != m->tail && (m->slot[m->head & mask] & 1) != 0) {
		m->low = (int64_t)(m->slot[m->head & mask] >> 1) + 1;
		m->head++;
		risen = true;
	}
	return risen;
}

size_t bus_mark_open(const struct bus_mark *m)
{
	return m->tail - m->head;
}

void bus_mark_clear(struct bus_mark *m)
{
	free(m->slot);
	*m = (struct bus_mark){ .low = -1 };
}

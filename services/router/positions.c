/* positions.c - the highest write position per community, shared by replicas. */
#include "positions.h"
#include "clock.h"
#include "log.h"
#include "lsn.h"

enum { SLOTS = 1 << 14 };

struct positions {
	/* Communities that share a slot share the higher position: a read goes to the primary a
	 * little more often, never a stale answer. */
	uint64_t slot[SLOTS];
	uint64_t floor;                 /* of all communities */
	int64_t  blind_us;              /* since then something may have been missed; 0: nothing */
};

void positions_saw(struct positions *p, int64_t community, uint64_t lsn)
{
	uint64_t *slot = &p->slot[(uint64_t)community % SLOTS];

	if (lsn > *slot)
		*slot = lsn;
}

uint64_t positions_of(const struct positions *p, int64_t community)
{
	uint64_t slot = p->slot[(uint64_t)community % SLOTS];

	return slot > p->floor ? slot : p->floor;
}

void positions_gained(struct positions *p)
{
	p->blind_us = clock_exact_us();
}

void positions_committed(struct positions *p, int64_t begun_us, uint64_t lsn)
{
	if (p->blind_us == 0)
		return;
	/* Also of a transaction begun before: better than nothing until one begun after it is there. */
	if (lsn > p->floor)
		p->floor = lsn;
	if (begun_us > p->blind_us)
		p->blind_us = 0;
}

/* "16/B374D848:7,42", or "16/B374D848:*" for everyone. */
static void told(void *arg, struct str payload)
{
	struct positions *p = arg;
	struct str rest, position = str_cut(payload, ':', &rest);
	uint64_t lsn;

	if (payload.p == NULL) {
		positions_gained(p);
		return;
	}
	if (lsn_parse(position, &lsn) != 0) {
		log_rarely(60000, L_WARN, NULL, "position_unreadable", "a notice on waddle_position");
		return;
	}
	if (str_eq(rest, STR("*")) && lsn > p->floor)
		p->floor = lsn;
	while (rest.n > 0) {
		struct str one = str_cut(rest, ',', &rest);
		int64_t community;

		if (str_int(one, 1, INT64_MAX, &community) == 0)
			positions_saw(p, community, lsn);
	}
}

struct positions *positions_open(struct router *r)
{
	struct positions *p = XNEW(struct positions);

	db_listen(r->db, "waddle_position", told, p);
	return p;
}

void positions_close(struct positions *p)
{
	free(p);
}

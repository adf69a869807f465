/* room.c - counting 10,000 memories at every add would cost more than the add.
 *
 * After a count this process may add half of what is left, at most 500 and for one minute, before
 * it counts again.  Commands of a community come through one process at a time, so the limit can
 * only be passed when its partition leaves and returns within that minute, and then by less than
 * the room that was left. */
#include "memories.h"

#include "clock.h"
#include "hash.h"

enum { ROOM_MAX = 500, ROOM_MS = 60000, COMMUNITIES_MAX = 20000 };

struct room {
	struct hash_node node;
	int64_t community, until_ms, left;
};

static struct hash_table rooms;

static struct room *room_find(int64_t community)
{
	for (struct hash_node *n = hash_find(&rooms, hash_int(community)); n != NULL; n = hash_next(n)) {
		struct room *room = CONTAINER_OF(n, struct room, node);

		if (room->community == community)
			return room;
	}
	return NULL;
}

bool room_take(int64_t community)
{
	struct room *room = room_find(community);

	if (room == NULL || room->left <= 0 || room->until_ms <= clock_mono_ms())
		return false;
	room->left--;
	return true;
}

void room_clear(struct module *m)
{
	(void)m;
	for (size_t i = 0; rooms.slot != NULL && i <= rooms.mask; i++) {
		for (struct hash_node *n = rooms.slot[i], *next; n != NULL; n = next) {
			next = n->next;
			free(CONTAINER_OF(n, struct room, node));
		}
	}
	hash_clear(&rooms);
}

void room_counted(int64_t community, int64_t active)
{
	struct room *room = room_find(community);
	int64_t left = (ACTIVE_MAX - active - 1) / 2;

	if (room == NULL) {
		if (rooms.n >= COMMUNITIES_MAX)
			room_clear(NULL); /* rare, and costs each a count */
		room = XNEW(struct room);
		room->community = community;
		hash_add(&rooms, &room->node, hash_int(community));
	}
	room->left = left < ROOM_MAX ? left : ROOM_MAX;
	room->until_ms = clock_mono_ms() + ROOM_MS;
}

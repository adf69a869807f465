/* module_lanes.c - see lanes.h; lane_move() is the only way between the lists. */
#include "module_lanes.h"

enum state { IDLE, READY, RUNNING };

struct lane {
	struct hash_node node;
	struct list place;
	enum state state;
	struct list waiting;
	unsigned n_waiting;
	int64_t community;
	uint64_t lsn;
};

void lanes_init(struct lanes *l, unsigned max_running, unsigned max_waiting, size_t max_idle)
{
	*l = (struct lanes){ .max_running = max_running, .max_waiting = max_waiting, .max_idle = max_idle };
	list_init(&l->ready);
	list_init(&l->running);
	list_init(&l->idle);
}

static void lane_free(struct lanes *l, struct lane *lane)
{
	hash_del(&l->all, &lane->node);
	list_del(&lane->place);
	free(lane);
}

void lanes_clear(struct lanes *l)
{
	struct list *all[] = { &l->ready, &l->running, &l->idle };

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		LIST_EACH(n, tmp, all[i])
			lane_free(l, CONTAINER_OF(n, struct lane, place));
	hash_clear(&l->all);
}

static struct lane *lane_find(const struct lanes *l, int64_t community)
{
	struct hash_node *n = hash_find(&l->all, hash_int(community));

	for (; n != NULL; n = hash_next(n)) {
		struct lane *lane = CONTAINER_OF(n, struct lane, node);

		if (lane->community == community)
			return lane;
	}
	return NULL;
}

/* The lane idle longest gives up its memory; readers of it then go by the highest forgotten. */
static void forget_one(struct lanes *l)
{
	struct lane *old = CONTAINER_OF(l->idle.next, struct lane, place);

	if (old->lsn > l->forgotten_lsn)
		l->forgotten_lsn = old->lsn;
	l->n_idle--;
	lane_free(l, old);
}

static void lane_move(struct lanes *l, struct lane *lane, enum state to)
{
	static const uint8_t may[] = {
		[IDLE] = 1u << READY,
		[READY] = 1u << RUNNING,
		[RUNNING] = 1u << IDLE | 1u << READY,
	};
	struct list *lists[] = { [IDLE] = &l->idle, [READY] = &l->ready, [RUNNING] = &l->running };

	ASSERT((may[lane->state] & 1u << to) != 0);
	l->n_idle -= lane->state == IDLE;
	l->n_running -= lane->state == RUNNING;
	list_move(lists[to], &lane->place);
	lane->state = to;
	l->n_idle += to == IDLE;
	l->n_running += to == RUNNING;
	if (l->n_idle > l->max_idle)
		forget_one(l);
}

static struct lane *lane_new(struct lanes *l, int64_t community)
{
	struct lane *lane = XNEW(struct lane);

	lane->community = community;
	lane->lsn = l->forgotten_lsn;
	list_init(&lane->place);
	list_init(&lane->waiting);
	hash_add(&l->all, &lane->node, hash_int(community));
	list_add_tail(&l->idle, &lane->place);
	lane->state = IDLE;
	l->n_idle++;
	return lane;
}

int lanes_add(struct lanes *l, int64_t community, struct lane_job *job)
{
	struct lane *lane = lane_find(l, community);

	if (lane == NULL)
		lane = lane_new(l, community);
	if (lane->n_waiting >= l->max_waiting)
		return -EBUSY;
	job->lane = lane;
	list_init(&job->node);
	list_add_tail(&lane->waiting, &job->node);
	lane->n_waiting++;
	l->n_waiting++;
	if (lane->state == IDLE)
		lane_move(l, lane, READY);
	return 0;
}

struct lane_job *lanes_next(struct lanes *l)
{
	struct list *first = list_first(&l->ready);
	struct lane *lane;

	if (first == NULL || l->n_running >= l->max_running)
		return NULL;
	lane = CONTAINER_OF(first, struct lane, place);
	lane_move(l, lane, RUNNING);
	lane->n_waiting--;
	l->n_waiting--;
	return CONTAINER_OF(list_pop(&lane->waiting), struct lane_job, node);
}

void lanes_done(struct lanes *l, struct lane_job *job)
{
	struct lane *lane = job->lane;

	job->lane = NULL;
	lane_move(l, lane, lane->n_waiting > 0 ? READY : IDLE);
}

uint64_t lanes_lsn(const struct lanes *l, int64_t community)
{
	const struct lane *lane = lane_find(l, community);

	return lane != NULL ? lane->lsn : l->forgotten_lsn;
}

void lanes_wrote(struct lanes *l, struct lane_job *job, uint64_t lsn)
{
	(void)l;
	if (lsn > job->lane->lsn)
		job->lane->lsn = lsn;
}

/* fair.c - shares and slots; a share with free slots and rows waiting is on the ready list. */
#include "fair.h"
#include "clock.h"

enum { IDLE_MAX = 4096, GRACE_MS = 5000 };

void fair_init(struct fair *f, size_t limit, int64_t backlog)
{
	*f = (struct fair){ .limit = limit, .backlog = backlog };
	list_init(&f->ready);
	list_init(&f->idle);
	list_init(&f->slots);
	list_init(&f->spare);
}

static void forget(struct fair *f, struct fair_share *s)
{
	list_del(&s->node);
	hash_del(&f->shares, &s->by_key);
	free(s);
}

/* To the list it belongs on now. */
static void place(struct fair *f, struct fair_share *s)
{
	bool was_idle = s->n_slots == 0 && s->waiting == 0 && s->entering == 0 && s->asked == 0;

	list_del(&s->node);
	if (was_idle) {
		list_add_tail(&f->idle, &s->node);
		if (++f->n_idle > IDLE_MAX) {
			struct fair_share *oldest = CONTAINER_OF(list_first(&f->idle), struct fair_share, node);

			f->n_idle--;
			forget(f, oldest);
		}
	} else if (s->waiting > 0 && s->asked == 0 && s->n_slots < f->limit) {
		list_add_tail(&f->ready, &s->node);
	}
}

static void wake(struct fair *f, struct fair_share *s)
{
	if (s->n_slots == 0 && s->waiting == 0 && s->entering == 0 && s->asked == 0 && list_linked(&s->node)) {
		list_del(&s->node);
		f->n_idle--;
	}
}

struct fair_share *fair_share(struct fair *f, int64_t community_id, struct str module)
{
	uint64_t hash = hash_of(module) ^ hash_int(community_id);
	struct fair_share *s;

	for (struct hash_node *n = hash_find(&f->shares, hash); n != NULL; n = hash_next(n)) {
		s = CONTAINER_OF(n, struct fair_share, by_key);
		if (s->community_id == community_id && str_eq(s->module, module))
			return s;
	}
	s = xnew_(1, sizeof *s + module.n);
	memcpy((char *)(s + 1), module.p, module.n);
	s->module = (struct str){ (char *)(s + 1), module.n };
	s->community_id = community_id;
	list_init(&s->slots);
	list_init(&s->node);
	hash_add(&f->shares, &s->by_key, hash);
	place(f, s);
	return s;
}

struct fair_slot *fair_find(const struct fair *f, struct str id)
{
	for (struct hash_node *n = hash_find(&f->ids, hash_of(id)); n != NULL; n = hash_next(n)) {
		struct fair_slot *slot = CONTAINER_OF(n, struct fair_slot, by_id);

		if (str_eq(str_of(slot->id), id))
			return slot;
	}
	return NULL;
}

struct fair_slot *fair_take(struct fair *f, struct fair_share *s, const char *id, int64_t created_ms, int64_t timeout_ms)
{
	struct list *n;
	struct fair_slot *slot;

	if (fair_find(f, str_of(id)) != NULL)
		return NULL;
	n = list_pop(&f->spare);
	slot = n != NULL ? CONTAINER_OF(n, struct fair_slot, all) : XNEW(struct fair_slot);
	(void)snprintf(slot->id, sizeof slot->id, "%s", id);
	slot->share = s;
	slot->created_ms = created_ms;
	slot->sent_mono_ms = clock_mono_ms();
	slot->until_mono_ms = slot->sent_mono_ms + timeout_ms + GRACE_MS;
	wake(f, s);
	list_add_tail(&s->slots, &slot->node);
	list_add_tail(&f->slots, &slot->all);
	hash_add(&f->ids, &slot->by_id, hash_of(str_of(id)));
	f->n_slots++;
	if (++s->n_slots >= f->limit)
		list_del(&s->node);             /* ready no more */
	return slot;
}

void fair_free(struct fair *f, struct fair_slot *slot)
{
	struct fair_share *s = slot->share;

	list_del(&slot->node);
	list_del(&slot->all);
	hash_del(&f->ids, &slot->by_id);
	list_add_head(&f->spare, &slot->all);
	f->n_slots--;
	s->n_slots--;
	if (s->n_slots == 0 || s->waiting > 0)
		place(f, s);
}

void fair_waits(struct fair *f, struct fair_share *s, int64_t more)
{
	if (more < -s->waiting)
		more = -s->waiting;
	wake(f, s);
	s->waiting += more;
	f->waiting += more;
	place(f, s);
}

void fair_enters(struct fair *f, struct fair_share *s, int64_t more)
{
	wake(f, s);
	s->entering += more;
	place(f, s);
}

static void all_free(struct list *slots)
{
	struct list *n;

	while ((n = list_pop(slots)) != NULL)
		free(CONTAINER_OF(n, struct fair_slot, all));
}

void fair_clear(struct fair *f)
{
	for (size_t i = 0; f->shares.slot != NULL && i <= f->shares.mask; i++)
		for (struct hash_node *n = f->shares.slot[i], *next; n != NULL; n = next) {
			next = n->next;
			free(CONTAINER_OF(n, struct fair_share, by_key));
		}
	all_free(&f->slots);
	all_free(&f->spare);
	hash_clear(&f->shares);
	hash_clear(&f->ids);
}

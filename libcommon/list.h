/* list.h - doubly linked, embedded in its members; the list an object is on is its state. */
#ifndef LIST_H
#define LIST_H

#include "common.h"

struct list { struct list *next, *prev; };

static inline void list_init(struct list *l) { l->next = l->prev = l; }
static inline bool list_empty(const struct list *l) { return l->next == l; }
static inline bool list_linked(const struct list *n) { return n->next != NULL && n->next != n; }

static inline void list_del(struct list *n)
{
	n->next->prev = n->prev;
	n->prev->next = n->next;
	list_init(n);
}

static inline void list_add_tail(struct list *l, struct list *n)
{
	n->prev = l->prev;
	n->next = l;
	l->prev->next = n;
	l->prev = n;
}

static inline void list_add_head(struct list *l, struct list *n)
{
	n->next = l->next;
	n->prev = l;
	l->next->prev = n;
	l->next = n;
}

/* n must be initialised (on a list or alone). */
static inline void list_move(struct list *l, struct list *n)
{
	list_del(n);
	list_add_tail(l, n);
}

static inline struct list *list_first(const struct list *l) { return list_empty(l) ? NULL : l->next; }

static inline struct list *list_pop(struct list *l)
{
	struct list *n = list_first(l);

	if (n != NULL)
		list_del(n);
	return n;
}

#define LIST_EACH(pos, tmp, l) \
	for (struct list *pos = (l)->next, *tmp = pos->next; pos != (l); pos = tmp, tmp = pos->next)

#endif

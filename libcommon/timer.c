/* timer.c - the timers of a loop: one binary heap, one libevent timer for its top.
 *
 * An own heap rather than an event per timer: starting one costs no allocation, and the same order
 * serves the real clock and the faked one. */
#include "clock.h"
#include "list.h"
#include "service.h"

#include <event2/event.h>

struct timers {
	struct service *s;
	struct event   *wake;
	int64_t         armed_ms;       /* due time the wake-up is set for; INT64_MAX: not set */
	struct timer  **heap;
	size_t          n, cap;
	uint64_t        order;
	struct list     node;           /* in `all` */
};

static struct list all = { &all, &all };        /* clock_advance() has no service to ask */

static bool before(const struct timer *a, const struct timer *b)
{
	return a->due_mono_ms != b->due_mono_ms ? a->due_mono_ms < b->due_mono_ms : a->order < b->order;
}

static void put(struct timers *h, size_t slot, struct timer *t)
{
	h->heap[slot] = t;
	t->slot = slot;
}

/* Moves the timer in this slot to where it belongs. */
static void settle(struct timers *h, size_t slot)
{
	struct timer *t = h->heap[slot];

	while (slot > 0 && before(t, h->heap[(slot - 1) / 2])) {
		put(h, slot, h->heap[(slot - 1) / 2]);
		slot = (slot - 1) / 2;
	}
	for (;;) {
		size_t child = slot * 2 + 1;

		if (child + 1 < h->n && before(h->heap[child + 1], h->heap[child]))
			child++;
		if (child >= h->n || !before(h->heap[child], t))
			break;
		put(h, slot, h->heap[child]);
		slot = child;
	}
	put(h, slot, t);
}

static void drop(struct timers *h, struct timer *t)
{
	struct timer *last = h->heap[--h->n];

	if (last != t) {
		put(h, t->slot, last);
		settle(h, t->slot);
	}
	t->on = NULL;
}

/* A faked clock wakes nobody by itself, except for what is due already. */
void timers_arm(struct timers *h)
{
	struct timer *top = h->n > 0 ? h->heap[0] : NULL;
	int64_t wait_ms;
	struct timeval tv;

	if (top == NULL || (clock_is_fake() && top->due_mono_ms > clock_mono_ms())) {
		if (h->armed_ms != INT64_MAX)
			event_del(h->wake);
		h->armed_ms = INT64_MAX;
		return;
	}
	if (h->armed_ms <= top->due_mono_ms)
		return;                         /* it will look again */
	wait_ms = top->due_mono_ms - clock_exact_us() / 1000;
	if (wait_ms < 0)
		wait_ms = 0;
	tv = (struct timeval){ wait_ms / 1000, wait_ms % 1000 * 1000 };
	event_add(h->wake, &tv);
	h->armed_ms = top->due_mono_ms;
}

/* Only timers started before this pass: one that starts itself with 0 ms waits for the next turn. */
static void run_due(struct timers *h)
{
	uint64_t limit = h->order;

	while (h->n > 0 && h->heap[0]->due_mono_ms <= clock_mono_ms() && h->heap[0]->order <= limit) {
		struct timer *t = h->heap[0];

		drop(h, t);
		t->fn(t->arg);                  /* may free t */
	}
	h->armed_ms = INT64_MAX;
	timers_arm(h);
}

static void woken(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	run_due(arg);
}

struct timers *timers_new(struct service *s)
{
	struct timers *h = XNEW(struct timers);

	h->s = s;
	h->armed_ms = INT64_MAX;
	h->wake = evtimer_new(s->loop, woken, h);
	ASSERT(h->wake != NULL);
	list_init(&h->node);
	list_add_tail(&all, &h->node);
	return h;
}

void timers_free(struct timers *h)
{
	if (h == NULL)
		return;
	while (h->n > 0)
		drop(h, h->heap[h->n - 1]);
	list_del(&h->node);
	event_free(h->wake);
	free(h->heap);
	free(h);
}

void timer_start(struct service *s, struct timer *t, int64_t in_ms, void (*fn)(void *), void *arg)
{
	struct timers *h = s->timers;
	int64_t now = clock_mono_ms();

	timer_stop(t);
	if (h->n == h->cap) {
		h->cap = h->cap > 0 ? h->cap * 2 : 64;
		h->heap = xgrow(h->heap, h->cap, sizeof(struct timer *));
	}
	t->fn = fn;
	t->arg = arg;
	t->due_mono_ms = in_ms <= 0 ? now : in_ms < INT64_MAX - now ? now + in_ms : INT64_MAX;
	t->order = ++h->order;
	t->on = h;
	h->heap[h->n++] = t;
	settle(h, h->n - 1);
	timers_arm(h);
}

void timer_stop(struct timer *t)
{
	if (t->on != NULL)
		drop(t->on, t);                 /* the wake-up stays: it finds nothing due */
}

/* Of all loops the timer that is due next, and no later than until_ms. */
static struct timers *next_due(int64_t until_ms)
{
	struct timers *best = NULL;

	LIST_EACH(node, tmp, &all) {
		struct timers *h = CONTAINER_OF(node, struct timers, node);

		if (h->n > 0 && h->heap[0]->due_mono_ms <= until_ms &&
		    (best == NULL || h->heap[0]->due_mono_ms < best->heap[0]->due_mono_ms))
			best = h;
	}
	return best;
}

void clock_advance(int64_t ms)
{
	int64_t until = clock_mono_ms() + ms;
	unsigned runs = 0;
	struct timers *h;

	ASSERT(clock_is_fake());
	while ((h = next_due(until)) != NULL) {
		struct timer *t = h->heap[0];
		int64_t step = t->due_mono_ms - clock_mono_ms();

		ASSERT(++runs < 1000000);       /* a timer that restarts itself with 0 ms */
		clock_fake_move(step > 0 ? step : 0);
		drop(h, t);
		t->fn(t->arg);
		service_turn_over(h->s);
	}
	clock_fake_move(until - clock_mono_ms());
}

/* bus_wake.c - from librdkafka's threads to the loop: an eventfd, and what keeps a drain alive.
 *
 * The library writes only when a queue turns from empty to one.  So whoever drains reads the
 * eventfd first, and asks for another turn when it stopped before the queue was empty. */
#include "bus_impl.h"

#include <event2/event.h>
#include <sys/eventfd.h>
#include <unistd.h>

static const uint64_t one = 1;

void bus_wake_open(struct bus_wake *w, struct service *s, void (*fn)(int fd, short what, void *arg),
		   void *arg)
{
	int r;

	w->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ASSERT(w->fd >= 0);
	w->ev = event_new(s->loop, w->fd, EV_READ | EV_PERSIST, fn, arg);
	ASSERT(w->ev != NULL);
	r = event_add(w->ev, NULL);
	ASSERT(r == 0);
}

void bus_wake_close(struct bus_wake *w)
{
	if (w->ev == NULL)
		return;
	event_free(w->ev);
	close(w->fd);
	*w = (struct bus_wake){ .fd = -1 };
}

void bus_wake_on(struct bus_wake *w, rd_kafka_queue_t *q)
{
	rd_kafka_queue_io_event_enable(q, w->fd, &one, sizeof(one));
	bus_wake_again(w); /* what came before is not announced */
}

/* Through the descriptor rather than event_active(), which would run again in this very turn
 * and keep every other descriptor waiting. */
void bus_wake_again(struct bus_wake *w)
{
	if (w->ev != NULL && write(w->fd, &one, sizeof(one)) < 0)
		ASSERT(errno == EAGAIN); /* the counter is full: awake it is */
}

void bus_wake_read(struct bus_wake *w)
{
	uint64_t n;

	if (read(w->fd, &n, sizeof(n)) < 0)
		ASSERT(errno == EAGAIN);
}

void bus_hold_add(struct bus_hold *h)
{
	if (h->n++ == 0)
		service_hold(h->s);
}

void bus_hold_drop(struct bus_hold *h)
{
	ASSERT(h->n > 0);
	if (--h->n == 0)
		service_release(h->s);
}

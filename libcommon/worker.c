/* worker.c - two lists under one lock; an eventfd tells the loop that the second has something. */
#include "worker.h"
#include "service.h"

#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct worker {
	unsigned        magic;
	pthread_t       thread;
	pthread_mutex_t lock;
	pthread_cond_t  more;
	struct list     waiting, finished;
	bool            closing;
	int             fd;
	struct event   *ev;
};
enum { WORKER_MAGIC = 0x30c0310 };

static void wake(struct worker *w)
{
	const uint64_t one = 1;

	if (write(w->fd, &one, sizeof one) < 0)
		ASSERT(errno == EAGAIN);        /* the counter is full: it will wake up */
}

static void *work(void *arg)
{
	struct worker *w = arg;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		struct list *n;

		while (!w->closing && list_empty(&w->waiting))
			pthread_cond_wait(&w->more, &w->lock);
		if (w->closing)
			break;
		n = list_pop(&w->waiting);
		pthread_mutex_unlock(&w->lock);

		struct worker_job *job = CONTAINER_OF(n, struct worker_job, node);

		job->run(job->arg);
		pthread_mutex_lock(&w->lock);
		list_add_tail(&w->finished, n);
		wake(w);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static struct worker_job *take(struct worker *w, struct list *from)
{
	struct list *n;

	pthread_mutex_lock(&w->lock);
	n = list_pop(from);
	pthread_mutex_unlock(&w->lock);
	return n != NULL ? CONTAINER_OF(n, struct worker_job, node) : NULL;
}

static void finished(int fd, short what, void *arg)
{
	struct worker *w = arg;
	struct worker_job *job;
	uint64_t n;

	(void)what;
	IS_A(w, WORKER_MAGIC);
	if (read(fd, &n, sizeof n) < 0)
		ASSERT(errno == EAGAIN);
	while ((job = take(w, &w->finished)) != NULL)
		job->done(job->arg, true);
}

struct worker *worker_open(struct service *s, const char *name)
{
	struct worker *w = XNEW(struct worker);
	sigset_t all, before;
	int r;

	MAKE_A(w, WORKER_MAGIC);
	list_init(&w->waiting);
	list_init(&w->finished);
	w->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ASSERT(w->fd >= 0);
	w->ev = event_new(s->loop, w->fd, EV_READ | EV_PERSIST, finished, w);
	ASSERT(w->ev != NULL);
	r = event_add(w->ev, NULL);
	ASSERT(r == 0);
	r = pthread_mutex_init(&w->lock, NULL);
	ASSERT(r == 0);
	r = pthread_cond_init(&w->more, NULL);
	ASSERT(r == 0);
	sigfillset(&all);               /* signals are the loop's */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&w->thread, NULL, work, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	ASSERT(r == 0);
	(void)pthread_setname_np(w->thread, name);
	return w;
}

void worker_do(struct worker *w, struct worker_job *job)
{
	IS_A(w, WORKER_MAGIC);
	pthread_mutex_lock(&w->lock);
	list_add_tail(&w->waiting, &job->node);
	pthread_cond_signal(&w->more);
	pthread_mutex_unlock(&w->lock);
}

void worker_close(struct worker *w)
{
	struct worker_job *job;

	if (w == NULL)
		return;
	pthread_mutex_lock(&w->lock);
	w->closing = true;
	pthread_cond_signal(&w->more);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	while ((job = take(w, &w->finished)) != NULL)
		job->done(job->arg, true);
	while ((job = take(w, &w->waiting)) != NULL)
		job->done(job->arg, false);
	event_free(w->ev);
	close(w->fd);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->more);
	NOT_A_MORE(w, WORKER_MAGIC);
	free(w);
}

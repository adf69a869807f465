/* worker.h - one thread beside the loop, for work that takes longer than a turn may.
 *
 * Jobs run one after the other in the order they were given.  run() touches only what arg owns: no
 * loop, no metrics, no log, nothing that somebody else might read; memory comes from malloc or an
 * arena handed over with the job.  done() is called on the loop. */
#ifndef WORKER_H
#define WORKER_H

#include "list.h"

struct worker;

struct worker_job {                     /* embedded in its owner; zeroed at first */
	struct list node;
	void (*run)(void *arg);         /* in the thread */
	void (*done)(void *arg, bool ran);      /* on the loop; ran false: worker_close() came first */
	void  *arg;
};

struct worker *worker_open(struct service *s, const char *name) RETURNS_NONNULL;
/* Waits for the job that runs; done() of all others is called from inside.  NULL is fine. */
void worker_close(struct worker *w);
void worker_do(struct worker *w, struct worker_job *job) NONNULL;

#endif

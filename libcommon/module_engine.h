/* module_engine.h - inside the module framework: what its files share.  Modules include module.h only.
 *
 * A run is one command message from its arrival until the broker has the reply:
 *      waiting in its lane -> running -> sending -> gone
 * A wave is one transaction for the changes of several running commands of different communities:
 *      gathering (this loop turn) -> flying (until all have answered) -> committing
 * With MODULE_TOGETHER=1 every command has a transaction of its own. */
#ifndef MODULE_ENGINE_H
#define MODULE_ENGINE_H

#include "announce.h"
#include "bus.h"
#include "clock.h"
#include "err.h"
#include "module_lanes.h"
#include "log.h"
#include "metrics.h"
#include "module.h"

enum run_state { RUN_WAITING, RUN_RUNNING, RUN_SENDING };

struct run {
	unsigned magic;
	struct request r;               /* what handlers see */
	struct engine *e;
	struct list all, place;         /* place: retry or unsent list, or the wave's members */
	struct lane_job job;
	struct bus_msg *m;
	struct arena *mem;
	size_t mark;                    /* of mem, when the message was decoded */
	struct command_msg msg;
	struct envelope env;
	struct log_ctx log;
	enum run_state state;
	const struct module_command *root;
	const struct command *cmd;      /* NULL until found */
	struct wave *wave;              /* the transaction it takes part in, or NULL */
	struct list calls;              /* changes waiting for a transaction */
	unsigned pending;               /* statements without their callback */
	unsigned tries;                 /* refused by the database so far */
	bool alone;                     /* its transaction is not shared any more */
	bool inside;                    /* a handler of it is on the stack */
	bool orphan;                    /* gone, but statements are pending */
	struct err broken;              /* a statement was refused while the handler ran */
	int64_t began_us;
	struct response *parts;         /* the answer; NULL: none yet */
	size_t n_parts, n_sent, unacked;
	enum outcome outcome;
	uint64_t lsn;                   /* of the commit */
	bool lost;                      /* a part was not taken: no offset is stored */
};

struct wave {
	struct list place;              /* on the engine's waves */
	struct engine *e;
	struct db_tx *tx;
	struct list members;
	unsigned n, open;               /* members; those that have not answered */
	unsigned outstanding;           /* statements without their callback */
	enum { GATHERING, FLYING, COMMITTING, FAILED } state;
	bool repeated;                  /* an execution of it is in the inbox already */
	bool undoing;
	struct run *culprit;
	struct err why;
};

enum { RUN_MAGIC = 0x52554e21, WAVES_MAX = 4 };

struct engine_conf { int64_t parallel, waiting, together, held; };

struct engine {
	unsigned magic;
	struct module *m;
	struct service *s;
	struct db *db;
	struct bus *bus;
	struct bus_sub *sub;
	struct engine_conf conf;
	struct lanes lanes;
	struct list runs, retry, unsent, waves, want_wave;
	unsigned n_waves, max_waves;
	struct wave *gathering;
	bool kicking, away, paused, stopping;
	unsigned away_tries;
	struct timer retry_timer, send_timer;
	struct announce announce;
	struct registry registry;
	struct arena *registry_mem;
	struct arena *spare[64];
	unsigned n_spare;
	char *inbox_insert, *inbox_find, *commands_topic, *responses_topic, *group;
	struct js_field stored[2];      /* {"parts":[...]} */
};

/* module_run.c.  arg is always the engine. */
void run_arrived(void *arg, struct bus_msg *m);
void run_kick(struct engine *e);                /* starts what may start */
void run_step_end(struct run *run);             /* after each handler of it */
void run_again(struct run *run);                /* from the beginning */
void run_failed(struct run *run, const struct err *err);
bool run_database_lost(const struct err *err);  /* the connection's fault, not the statement's */
void run_settled(struct run *run);              /* the answer stands: send it */
void run_handed_over(struct run *run);          /* the bus has it: the lane goes on */
void run_free(struct run *run, bool done);
void engine_back(struct engine *e);             /* the database answered */

/* module_sql.c */
void run_calls_flush(struct run *run);          /* it has its transaction now */

/* module_wave.c */
int  wave_join(struct run *run, struct err *err) MUST_CHECK;    /* -EBUSY: later */
void wave_answered(struct run *run);
void wave_turn(void *arg);
void wave_statement_failed(struct run *run, const struct err *err);
void wave_statement_over(struct wave *w);

/* module_answer.c */
void answer_send(struct run *run);
void answer_text(struct run *run, enum outcome why, bool success, struct str text);
void answer_encode(const struct run *run, struct buf *out);
int  answer_stored(struct run *run, struct str text, struct err *err) MUST_CHECK;
void answer_retry_unsent(void *arg);

/* module_registry.c */
void registry_open(struct engine *e);
void registry_close(struct engine *e);          /* says goodbye; before bus_close() */

extern struct metric *const module_metrics[];
void module_count(const struct run *run);       /* outcome and seconds, once per answer */
void module_count_expired(void);
void module_count_inbox(void);
void module_gauge_waiting(size_t n);

#endif

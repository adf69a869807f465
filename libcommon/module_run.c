/* module_run.c - one command message: decode, wait for its turn, check, run, answer. */
#include "module_engine.h"

#include "module_table.h"
#include "module_rights.h"

enum {
	ARENA_FIRST = 4096,
	ARENA_MAX = 4 << 20,
	RETRY_BASE_MS = 50,
	RETRY_MAX_MS = 1000,
	TRIES = 3,
	COMMUNITY_GLOBAL = 1
};

static struct arena *arena_take(struct engine *e)
{
	return e->n_spare > 0 ? e->spare[--e->n_spare] : arena_new(ARENA_FIRST, ARENA_MAX);
}

static void arena_give(struct engine *e, struct arena *mem)
{
	arena_reset(mem);
	if (e->n_spare < ARRAY_LEN(e->spare))
		e->spare[e->n_spare++] = mem;
	else
		arena_free(mem);
}

/* done: its offset may be stored.  A run whose statements are pending stays as an orphan. */
void run_free(struct run *run, bool done)
{
	struct engine *e = run->e;

	IS_A(run, RUN_MAGIC);
	ASSERT(run->wave == NULL && run->job.lane == NULL);
	if (run->m != NULL && done)
		bus_done(run->m);
	run->m = NULL;
	run->orphan = true;
	if (run->pending > 0)
		return;
	list_del(&run->all);
	list_del(&run->place);
	arena_give(e, run->mem);
	NOT_A_MORE(run, RUN_MAGIC);
	free(run);
}

static void lane_go_on(struct run *run)
{
	if (run->job.lane != NULL)
		lanes_done(&run->e->lanes, &run->job);
}

static void drop(struct run *run)
{
	lane_go_on(run);
	run_free(run, true);
}

static bool past_deadline(const struct run *run)
{
	return run->env.deadline_ms != 0 && run->env.deadline_ms <= clock_unix_ms();
}

/* Nothing is to be done any more: others own the partition, or nobody waits for the answer. */
static bool pointless(struct run *run)
{
	if (bus_msg_void(run->m))
		return true;
	if (!past_deadline(run))
		return false;
	module_count_expired();
	log_debug(&run->log, "command_expired", "dropped a command past its deadline");
	return true;
}

void run_handed_over(struct run *run)
{
	lane_go_on(run);
}

void run_settled(struct run *run)
{
	run->state = RUN_SENDING;
	module_count(run);
	answer_send(run);
}

void run_step_end(struct run *run)
{
	struct err broken;

	if (run->inside || run->orphan || run->state != RUN_RUNNING)
		return;
	if (run->broken.code != 0) {
		broken = run->broken;
		run->broken = (struct err){ 0 };
		if (run->wave != NULL)
			wave_statement_failed(run, &broken);
		else
			run_failed(run, &broken);
		return;
	}
	ASSERT(run->parts != NULL || run->pending > 0); /* a handler that forgot its request */
	if (run->parts == NULL)
		return;
	if (run->wave != NULL)
		wave_answered(run);
	else if (list_empty(&run->calls))
		run_settled(run);
}

/* --- checks, in the order of modules.md 1.1 ------------------------------------------------ */

static const struct module_command *root_find(const struct module *m, struct str name)
{
	for (const struct module_command *c = m->commands; c->name != NULL; c++) {
		if (str_eq_fold(name, str_of(c->name)))
			return c;
		for (const char *const *also = c->also; also != NULL && *also != NULL; also++)
			if (str_eq_fold(name, str_of(*also)))
				return c;
	}
	return NULL;
}

struct may {
	struct run *run;
};

static bool may_use(void *arg, const struct command *c)
{
	const struct may *may = arg;
	enum need need = rights_need(c, may->run->msg.config, may->run->mem);

	return rights_check(&may->run->msg.user, need, c->label) == 0;
}

static void answer_buf(struct run *run, enum outcome why, struct buf *text)
{
	struct str s;

	if (buf_str(text, &s) != 0)
		s = (struct str){ text->p, text->n };
	answer_text(run, why, true, s);
	buf_clear(text);
}

static void help(struct run *run, const struct str *words, size_t n)
{
	struct may may = { run };
	struct buf text = BUF(16 * 1024);
	const char *newline = platform_ways(run->msg.platform).newline;
	const struct command *c;
	size_t used;

	c = n > 0 ? command_find(run->root->subs, words, n, &used) : NULL;
	if (c != NULL)
		command_help_one(c, run->msg.command, newline, rights_need(c, run->msg.config, run->mem),
		                 &text);
	else if (n > 0)
		command_unknown(run->root->subs, words, n, &text);
	else
		command_help(run->root->subs, run->msg.command, newline, may_use, &may, &text);
	answer_buf(run, c == NULL && n > 0 ? USAGE : DONE, &text);
}

bool request_may(const struct request *r, enum need need, const char *label)
{
	return rights_check(&r->msg->user, need, label) == 0;
}

void refuse_rights(struct request *r, enum need need, const char *label)
{
	if (rights_check(&r->msg->user, need, label) == -EAGAIN)
		refuse(r, UNAVAILABLE, "I cannot check your rights right now.");
	else
		refuse(r, FORBIDDEN, "That needs %s%s%s.", need_name(need),
		       label != NULL ? " or the label " : "", label != NULL ? label : "");
}

static void check_and_run(struct run *run)
{
	const struct str *words = run->msg.parameters.items;
	size_t n = run->msg.parameters.n, used;
	struct buf text = BUF(4096);
	enum need need;
	void *args;
	struct str why;

	if (run->msg.community_id == COMMUNITY_GLOBAL && !run->e->m->in_global) {
		refuse(&run->r, CONFLICT,
		       "This channel has no community yet. Its owner can type "
		       "!community create {name}.");
		return;
	}
	run->root = root_find(run->e->m, run->msg.command);
	if (run->root == NULL || run->msg.trigger == TRIGGER_EVENT) {
		answer_text(run, USAGE, true, STR("That is nothing I can do."));
		return;
	}
	if (n > 0 && str_eq_fold(words[0], STR("help"))) {
		help(run, words + 1, n - 1);
		return;
	}
	run->cmd = command_find(run->root->subs, words, n, &used);
	if (run->cmd == NULL && n == 0) {
		help(run, NULL, 0);
		return;
	}
	if (run->cmd == NULL) {
		command_unknown(run->root->subs, words, n, &text);
		answer_buf(run, USAGE, &text);
		return;
	}
	need = rights_need(run->cmd, run->msg.config, run->mem);
	if (!request_may(&run->r, need, run->cmd->label)) {
		refuse_rights(&run->r, need, run->cmd->label);
		return;
	}
	args = arena_alloc(run->mem, run->cmd->args_size + 1);
	if (args_parse(run->cmd->args, words + used, n - used, args, run->mem, &why) != 0) {
		refuse_usage(&run->r, STR_FMT, STR_ARG(why));
		return;
	}
	run->r.args = args;
	run->cmd->run(&run->r);
}

static void start(struct run *run)
{
	ASSERT(run->pending == 0 && run->wave == NULL);
	if (run->e->stopping) {
		lane_go_on(run);
		run_free(run, false);
		return;
	}
	if (pointless(run)) {
		drop(run);
		return;
	}
	run->state = RUN_RUNNING;
	run->began_us = clock_exact_us();
	run->inside = true;
	check_and_run(run);
	run->inside = false;
	run_step_end(run);
}

void run_again(struct run *run)
{
	arena_back(run->mem, run->mark);
	run->parts = NULL;
	run->n_parts = 0;
	run->r.user = NULL;
	run->r.args = NULL;
	run->cmd = NULL;
	run->broken = (struct err){ 0 };
	list_init(&run->calls);
	start(run);
}

/* --- the database ------------------------------------------------------------------------- */

static void retry_all(void *arg);

static void retry_later(struct engine *e)
{
	if (e->away && !timer_running(&e->retry_timer))
		timer_start(e->s, &e->retry_timer,
		            RETRY_BASE_MS / 2 +
		                    clock_backoff_ms(e->away_tries++, RETRY_BASE_MS, RETRY_MAX_MS),
		            retry_all, e);
}

static void retry_all(void *arg)
{
	struct engine *e = arg;
	struct list now;

	list_init(&now);
	while (!list_empty(&e->retry))
		list_move(&now, e->retry.next);
	if (list_empty(&now))
		engine_back(e); /* past their deadlines: a new one has to find out */
	for (struct list *n; (n = list_pop(&now)) != NULL;)
		run_again(CONTAINER_OF(n, struct run, place));
	retry_later(e);
	run_kick(e);
}

void engine_back(struct engine *e)
{
	if (!e->away)
		return;
	e->away = false;
	e->away_tries = 0;
	log_rarely(1000, L_INFO, NULL, "database_back", "the database answers, going on");
	if (e->paused && list_empty(&e->unsent)) {
		e->paused = false;
		bus_resume(e->sub);
	}
}

/* Nothing new is begun until the database has answered one of those that wait here. */
static void wait_for_database(struct run *run, const struct err *err)
{
	struct engine *e = run->e;

	if (e->stopping) {
		lane_go_on(run);
		run_free(run, false);
		return;
	}
	if (!e->away) {
		e->away = true;
		log_rarely(1000, L_WARN, &run->log, "database_away", "pausing: %s", err->text);
		if (!e->paused) {
			e->paused = true;
			bus_pause(e->sub);
		}
	}
	list_move(&e->retry, &run->place);
	retry_later(e);
}

static bool is_state(const struct err *err, const char *sqlstate)
{
	return strcmp(err->sqlstate, sqlstate) == 0;
}

static bool collided(const struct err *err)
{
	return is_state(err, "40001") || is_state(err, "40P01");
}

static bool too_late(const struct err *err)
{
	return is_state(err, "57014") || is_state(err, "55P03");
}

bool run_database_lost(const struct err *err)
{
	return !collided(err) && !too_late(err) &&
	       (err_kind(err) == ERR_AGAIN || err_kind(err) == ERR_UNKNOWN);
}

static void give_up(struct run *run, enum outcome why, const char *text)
{
	struct str s = arena_printf(run->mem, "%s", text);

	run->parts = NULL;
	answer_text(run, why, false, s.p != NULL ? s : STR("Sorry."));
	run->state = RUN_RUNNING;
	run_settled(run);
}

void run_failed(struct run *run, const struct err *err)
{
	bool again = collided(err) || too_late(err);
	char text[160];

	ASSERT(run->wave == NULL);
	run->parts = NULL;
	run->broken = (struct err){ 0 };
	if (run->pending > 0) { /* its other statements come back first */
		run->broken = *err;
		return;
	}
	if (again && ++run->tries < TRIES && !run->e->stopping) {
		run->alone = true;
		run_again(run);
		return;
	}
	if (again) {
		log_warn(&run->log, "command_unavailable", "gave up after %d tries: %s", TRIES, err->text);
		give_up(run, UNAVAILABLE, "That takes too long right now, please try again in a minute.");
		return;
	}
	if (run_database_lost(err)) {
		wait_for_database(run, err);
		return;
	}
	log_error(&run->log, "command_failed", "%s: %s", run->cmd != NULL ? run->cmd->name : "?", err->text);
	snprintf(text, sizeof text, "Something went wrong on our side (" STR_FMT ").",
	         STR_ARG(run->msg.execution_id));
	give_up(run, INTERNAL, text);
}

/* --- arrival ------------------------------------------------------------------------------ */

void run_kick(struct engine *e)
{
	struct lane_job *job;

	if (e->kicking || e->away || e->stopping)
		return;
	e->kicking = true;
	while (!e->away && (job = lanes_next(&e->lanes)) != NULL)
		start(CONTAINER_OF(job, struct run, job));
	e->kicking = false;
	module_gauge_waiting(e->lanes.n_waiting);
}

static struct run *run_new(struct engine *e, struct bus_msg *m)
{
	struct run *run = XNEW(struct run);

	MAKE_A(run, RUN_MAGIC);
	run->e = e;
	run->m = m;
	run->mem = arena_take(e);
	run->r.msg = &run->msg;
	run->r.mem = run->mem;
	run->r.log = &run->log;
	list_init(&run->place);
	list_init(&run->calls);
	list_init(&run->all);
	list_add_tail(&e->runs, &run->all);
	return run;
}

static void refuse_message(struct run *run, int code, const struct err *err)
{
	struct bus_msg *m = run->m;

	run->m = NULL;
	run_free(run, false);
	if (code == -ETIME || code == -ENODATA) {
		if (code == -ETIME)
			module_count_expired();
		bus_done(m);
		return;
	}
	log_rarely(10000, L_WARN, NULL, "command_rejected", "%s", err->text);
	bus_reject(m, envelope_reason(ENV_COMMAND, code), err);
}

void run_arrived(void *arg, struct bus_msg *m)
{
	struct engine *e = arg;
	struct run *run = run_new(e, m);
	struct err err = { 0 };
	int r = envelope_decode(m, ENV_COMMAND, &run->env, &run->msg, run->mem, &err);

	if (r != 0) {
		refuse_message(run, r, &err);
		return;
	}
	run->mark = arena_mark(run->mem);
	run->log = (struct log_ctx){ .event_id = run->msg.event_id,
		                     .module = str_of(e->s->name),
		                     .community = run->msg.community_id };
	if (run->env.traceparent.n >= 35)
		run->log.trace = (struct str){ run->env.traceparent.p + 3, 32 };
	if (lanes_add(&e->lanes, run->msg.community_id, &run->job) != 0) {
		run->state = RUN_RUNNING;
		run->began_us = clock_exact_us();
		answer_text(run, BUSY, true, STR("Too much at once here, please try again in a moment."));
		run_settled(run);
		return;
	}
	run_kick(e);
}

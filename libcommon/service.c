/* service.c - the loop and its turns, what runs at their ends, what keeps a process alive and
 * ready.  The life around it - settings, signals, drain, exit status - is in service_main.c. */
#include "service_state.h"

#include "clock.h"
#include "log.h"
#include "str.h"

#include <event2/event.h>
#include <signal.h>
#include <unistd.h>

enum { STATE_MAGIC = 0x5e271ce5, DEPS_MAX = 16 };

struct call { void (*fn)(void *arg); void *arg; };
struct calls { struct call *at; size_t n, cap; };

struct service_state {
	unsigned     magic;
	bool         in_turn, draining;
	uint64_t     holds, turns;
	struct calls later, each_turn;
	struct call *running;           /* laters of the pass that runs now, to give the memory back */
	size_t       running_cap;
	struct { const char *what; bool up; } deps[DEPS_MAX];
	size_t       n_deps;
};

static struct service_state *state_of(const struct service *s)
{
	IS_A(s->state, (unsigned)STATE_MAGIC);
	return s->state;
}

static void calls_add(struct calls *c, void (*fn)(void *arg), void *arg)
{
	if (c->n == c->cap) {
		c->cap = c->cap > 0 ? c->cap * 2 : 16;
		c->at = xgrow(c->at, c->cap, sizeof(struct call));
	}
	c->at[c->n++] = (struct call){ fn, arg };
}

static void libevent_says(int severity, const char *msg)
{
	if (severity >= EVENT_LOG_WARN)
		log_warn(NULL, "libevent", "%s", msg);
}

static void libevent_gives_up(int err)
{
	log_error(NULL, "libevent", "fatal error %d", err);
	abort();
}

void service_init(struct service *s)
{
	struct event_config *conf = event_config_new();

	signal(SIGPIPE, SIG_IGN);
	log_to(STDERR_FILENO, s->name);
	event_set_log_callback(libevent_says);
	event_set_fatal_callback(libevent_gives_up);
	ASSERT(conf != NULL);
	/* Behaviour that depends on EVENT_* variables, or a clock that stands still in long
	 * callbacks so that time-outs start in the past: neither. */
	event_config_set_flag(conf, EVENT_BASE_FLAG_IGNORE_ENV);
	event_config_set_flag(conf, EVENT_BASE_FLAG_NO_CACHE_TIME);
	s->loop = event_base_new_with_config(conf);
	event_config_free(conf);
	ASSERT(s->loop != NULL);
	s->state = XNEW(struct service_state);
	MAKE_A(s->state, (unsigned)STATE_MAGIC);
	s->timers = timers_new(s);
}

/* One pass: what these queue waits for the next. */
static void run_later(struct service_state *st)
{
	struct calls now = st->later;

	if (now.n == 0)
		return;
	st->later = (struct calls){ st->running, 0, st->running_cap };
	st->running = NULL;
	st->running_cap = 0;
	for (size_t i = 0; i < now.n; i++)
		now.at[i].fn(now.at[i].arg);
	if (st->running != NULL) {              /* a nested pass left its own here */
		free(now.at);
		return;
	}
	st->running = now.at;
	st->running_cap = now.cap;
}

void service_clear(struct service *s)
{
	struct service_state *st = state_of(s);

	for (int i = 0; i < 100 && st->later.n > 0; i++)
		run_later(st);                  /* what they free would leak; some queue themselves again */
	timers_free(s->timers);
	event_base_free(s->loop);
	free(st->later.at);
	free(st->each_turn.at);
	free(st->running);
	NOT_A_MORE(st, (unsigned)STATE_MAGIC);
	free(st);
	s->state = NULL;
	s->timers = NULL;
	s->loop = NULL;
}

static void run_each_turn(struct service_state *st)
{
	size_t kept = 0;

	for (size_t i = 0; i < st->each_turn.n; i++) {  /* n may grow, entries may become NULL */
		struct call c = st->each_turn.at[i];

		if (c.fn != NULL)
			c.fn(c.arg);
	}
	for (size_t i = 0; i < st->each_turn.n; i++)
		if (st->each_turn.at[i].fn != NULL)
			st->each_turn.at[kept++] = st->each_turn.at[i];
	st->each_turn.n = kept;
}

void service_turn_over(struct service *s)
{
	struct service_state *st = state_of(s);

	if (st->in_turn)
		return;
	run_later(st);
	run_each_turn(st);
	run_later(st);
}

void service_turn(struct service *s)
{
	struct service_state *st = state_of(s);
	int flags = EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY;

	ASSERT(!st->in_turn);
	st->in_turn = true;
	run_each_turn(st);
	if (st->later.n > 0)                    /* they may make work for the turn functions */
		flags |= EVLOOP_NONBLOCK;
	timers_arm(s->timers);
	clock_turn_begin();
	if (event_base_loop(s->loop, flags) < 0) {
		log_error(NULL, "loop", "the event loop failed: %s", strerrordesc_np(errno));
		abort();
	}
	run_later(st);
	clock_turn_end();
	st->in_turn = false;
	st->turns++;
}

static void deadline_over(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	*(bool *)arg = true;
}

/* An event of its own and not a struct timer: max_ms is real time whatever the clock says. */
bool service_run(struct service *s, bool (*until)(void *arg), void *arg, int64_t max_ms)
{
	struct timeval tv = { max_ms / 1000, max_ms % 1000 * 1000 };
	bool over = false, done = until(arg);
	struct event *deadline;

	if (done)
		return true;
	deadline = evtimer_new(s->loop, deadline_over, &over);
	ASSERT(deadline != NULL);
	evtimer_add(deadline, &tv);
	while (!done && !over) {
		service_turn(s);
		done = until(arg);
	}
	event_free(deadline);
	return done;
}

void service_hold(struct service *s)
{
	state_of(s)->holds++;
}

void service_release(struct service *s)
{
	ASSERT(state_of(s)->holds > 0);
	s->state->holds--;
}

uint64_t service_held(const struct service *s)
{
	return state_of(s)->holds;
}

bool service_quiet(const struct service *s)
{
	return state_of(s)->holds == 0 && s->state->later.n == 0;
}

bool service_draining(const struct service *s)
{
	return state_of(s)->draining;
}

void service_drain(struct service *s)
{
	if (state_of(s)->draining)
		return;
	s->state->draining = true;
	log_info(NULL, "drain", "taking no new work, finishing %llu held",
	         (unsigned long long)s->state->holds);
	if (s->drain != NULL)
		s->drain(s);
}

void service_later(struct service *s, void (*fn)(void *arg), void *arg)
{
	calls_add(&state_of(s)->later, fn, arg);
}

void service_on_turn(struct service *s, void (*fn)(void *arg), void *arg)
{
	calls_add(&state_of(s)->each_turn, fn, arg);
}

void service_off_turn(struct service *s, void (*fn)(void *arg), void *arg)
{
	struct calls *c = &state_of(s)->each_turn;

	for (size_t i = 0; i < c->n; i++) {
		if (c->at[i].fn == fn && c->at[i].arg == arg) {
			c->at[i].fn = NULL;     /* compacted after the pass that may be running */
			return;
		}
	}
	assert_failed("it was registered", __FILE__, __LINE__, __func__);
}

void service_ready(struct service *s, const char *what, bool up)
{
	struct service_state *st = state_of(s);
	size_t i = 0;

	while (i < st->n_deps && strcmp(st->deps[i].what, what) != 0)
		i++;
	if (i == st->n_deps) {
		ASSERT(st->n_deps < DEPS_MAX);
		st->deps[st->n_deps].what = what;
		st->deps[st->n_deps++].up = false;
	}
	if (st->deps[i].up == up)
		return;
	st->deps[i].up = up;
	if (up)
		log_info(NULL, "dependency_up", "%s is there", what);
	else
		log_warn(NULL, "dependency_down", "%s is gone, waiting for it", what);
}

static bool is_spared(const struct service *s, const char *what)
{
	for (const char *const *spare = s->spares; spare != NULL && *spare != NULL; spare++)
		if (strcmp(*spare, what) == 0)
			return true;
	return false;
}

bool service_ready_text(const struct service *s, struct buf *out)
{
	const struct service_state *st = state_of(s);
	const char *status = "ready";
	bool ready = !st->draining;

	for (size_t i = 0; i < st->n_deps; i++)
		ready = ready && (st->deps[i].up || is_spared(s, st->deps[i].what));
	if (!ready)
		status = st->draining ? "draining" : "waiting";
	buf_printf(out, "{\"status\":\"%s\",\"checks\":{", status);
	for (size_t i = 0; i < st->n_deps; i++) {
		buf_add(out, i > 0 ? STR(",") : STR_NONE);
		buf_json(out, str_of(st->deps[i].what));
		buf_add(out, st->deps[i].up ? STR(":true") : STR(":false"));
	}
	buf_add(out, STR("}}\n"));
	return ready;
}

const char *service_dependency(const struct service *s, size_t i, bool *ret_up)
{
	if (i >= state_of(s)->n_deps)
		return NULL;
	*ret_up = s->state->deps[i].up;
	return s->state->deps[i].what;
}

uint64_t service_turns(const struct service *s)
{
	return state_of(s)->turns;
}

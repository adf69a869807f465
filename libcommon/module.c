/* module.c - the life of a module's process: settings, connections, consumer, drain. */
#include "module_engine.h"

#include "module_table.h"

enum { ENGINE_MAGIC = 0x454e4749, LANES_REMEMBERED = 10000 };

static const struct cfg_var vars[] = {
	CFG(struct engine_conf, parallel, "MODULE_PARALLEL", CFG_INT, "64",
	    "Communities whose commands run at the same time.", .min = 1, .max = 1024),
	CFG(struct engine_conf, waiting, "MODULE_WAITING", CFG_INT, "100",
	    "Commands that may wait for one community; more are answered with busy.", .min = 1, .max = 10000),
	CFG(struct engine_conf, together, "MODULE_TOGETHER", CFG_INT, "64",
	    "Commands of different communities that share one transaction; 1: none.", .min = 1, .max = 512),
	CFG(struct engine_conf, held, "MODULE_HELD", CFG_INT, "1000",
	    "Commands taken from the topic and not answered yet.", .min = 1, .max = 100000),
	{ 0 }
};

/* --- metrics ------------------------------------------------------------------------------ */

static const char *const outcome_names[] = {
	[DONE] = "ok",           [USAGE] = "usage", [NOT_FOUND] = "not_found", [FORBIDDEN] = "forbidden",
	[CONFLICT] = "conflict", [LIMIT] = "limit", [BUSY] = "busy",           [UNAVAILABLE] = "unavailable",
	[INTERNAL] = "internal",
};
METRIC_BY(commands_total, METRIC_COUNTER, "waddle_module_commands_total", "Commands answered, by outcome.",
          "outcome", outcome_names);
METRIC(command_seconds, METRIC_HISTOGRAM, "waddle_module_command_seconds",
       "From the start of a command until its answer stands.");
METRIC(inbox_hits, METRIC_COUNTER, "waddle_module_inbox_hits_total",
       "Repeated executions answered with the stored reply.");
METRIC(dropped, METRIC_COUNTER, "waddle_module_deadline_dropped_total",
       "Commands dropped because their deadline had passed.");
METRIC(waiting, METRIC_GAUGE, "waddle_module_waiting", "Commands waiting for others of their community.");
struct metric *const module_metrics[] = { &commands_total, &command_seconds, &inbox_hits,
	                                  &dropped,        &waiting,         NULL };

/* One cell per row of the tables, and one for what was none of them. */
static struct metric by_sub = {
	.name = "waddle_module_sub_commands_total",
	.help = "Commands that ran, by sub-command; none: help, unknown or refused before.",
	.kind = METRIC_COUNTER,
	.label = "sub"
};
static struct metric *const by_sub_table[] = { &by_sub, NULL };
static const struct command **subs;

static void sub_metric_make(const struct module *m)
{
	const char **names;
	unsigned n = 1;

	for (const struct module_command *c = m->commands; c->name != NULL; c++)
		for (const struct command *s = c->subs; s->name != NULL; s++)
			n++;
	names = XNEW_N(const char *, n);
	subs = XNEW_N(const struct command *, n);
	by_sub.values = names;
	by_sub.cells = XNEW_N(struct metric_cell, n);
	names[by_sub.n_cells++] = "none";
	for (const struct module_command *c = m->commands; c->name != NULL; c++) {
		for (const struct command *s = c->subs; s->name != NULL; s++) {
			subs[by_sub.n_cells] = s;
			names[by_sub.n_cells++] = s->name[0] != '\0' ? s->name : c->name;
		}
	}
}

static unsigned sub_cell(const struct command *c)
{
	unsigned i = by_sub.n_cells;

	while (--i > 0 && subs[i] != c)
		;
	return i;
}

void module_count(const struct run *run)
{
	metric_add(&commands_total, (unsigned)run->outcome, 1);
	metric_add(&by_sub, sub_cell(run->cmd), 1);
	metric_observe_us(&command_seconds, 0, clock_exact_us() - run->began_us);
}

void module_count_expired(void)
{
	metric_add(&dropped, 0, 1);
}

void module_count_inbox(void)
{
	metric_add(&inbox_hits, 0, 1);
}

void module_gauge_waiting(size_t n)
{
	metric_set(&waiting, 0, (int64_t)n);
}

/* --- life --------------------------------------------------------------------------------- */

static char *text_of(const char *fmt, ...) PRINTF(1, 2);
static char *text_of(const char *fmt, ...)
{
	va_list ap;
	char *p = NULL;

	va_start(ap, fmt);
	if (vasprintf(&p, fmt, ap) < 0)
		abort();
	va_end(ap);
	return p;
}

/* Tables are named after the module, with _ for -. */
static void make_names(struct engine *e)
{
	char *table = text_of("%s", e->s->name);

	for (char *c = table; *c != '\0'; c++)
		if (*c == '-')
			*c = '_';
	e->inbox_insert = text_of("INSERT INTO %s_inbox (execution_id, created_at, reply) "
	                          "SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::jsonb[])",
	                          table);
	e->inbox_find = text_of("SELECT i.execution_id::text, i.reply::text FROM %s_inbox i "
	                        "JOIN unnest($1::uuid[], $2::timestamptz[]) AS w (execution_id, created_at) "
	                        "USING (execution_id, created_at) WHERE i.state = 'done'",
	                        table);
	e->commands_topic = text_of("waddle.commands.%s", e->s->name);
	e->responses_topic = text_of("waddle.responses.%s", e->s->name);
	e->group = text_of("waddle.%s", e->s->name);
	e->stored[0] = (struct js_field){ .key = "parts",
		                          .type = JS_OBJECTS,
		                          .size = sizeof(struct response),
		                          .max = 64,
		                          .fields = envelope_fields[ENV_RESPONSE] };
	free(table);
}

static struct module *module_of(struct service *s)
{
	return CONTAINER_OF(s, struct module, service);
}

static struct engine *engine_new(struct module *m)
{
	struct engine *e = XNEW(struct engine);

	MAKE_A(e, ENGINE_MAGIC);
	e->m = m;
	e->s = &m->service;
	e->conf = *(const struct engine_conf *)m->service.settings;
	e->max_waves = m->service.base.database_pool_write < WAVES_MAX ?
	                       (unsigned)m->service.base.database_pool_write :
	                       WAVES_MAX;
	if (e->conf.together <= 1 || e->max_waves == 0)
		e->max_waves = (unsigned)m->service.base.database_pool_write;
	if (e->max_waves == 0)
		e->max_waves = WAVES_MAX;
	lanes_init(&e->lanes, (unsigned)e->conf.parallel, (unsigned)e->conf.waiting, LANES_REMEMBERED);
	list_init(&e->runs);
	list_init(&e->retry);
	list_init(&e->unsent);
	list_init(&e->waves);
	list_init(&e->want_wave);
	make_names(e);
	return e;
}

static int start(struct service *s, struct err *err)
{
	struct module *m = module_of(s);
	struct engine *e = engine_new(m);
	const char *const topics[] = { e->commands_topic, NULL };
	const struct bus_consumer consumer = { .group = e->group,
		                               .topics = topics,
		                               .max_held = (int)e->conf.held,
		                               .message = run_arrived,
		                               .arg = e };
	const struct db_conf db = { .write_url = s->base.database_url,
		                    .read_url = s->base.database_read_url,
		                    .write_conns = (int)s->base.database_pool_write,
		                    .read_conns = (int)s->base.database_pool_read };
	int r;

	m->engine = e;
	service_on_turn(s, wave_turn, e); /* before db's own: what it adds travels this turn */
	e->db = m->db = db_open(s, &db);
	e->bus = bus_open(s, s->base.kafka_brokers, s->base.topic_prefix, err);
	r = e->bus == NULL ? err->code : bus_consume(e->bus, &consumer, &e->sub, err);
	if (r != 0)
		return r;
	if (m->start != NULL)
		m->start(m);
	registry_open(e);
	return 0;
}

static void drain(struct service *s)
{
	struct engine *e = module_of(s)->engine;

	announce_pause(&e->announce);
	bus_unsubscribe(e->sub);
}

/* What is still here was not finished before DRAIN_TIMEOUT_MS: it is delivered again. */
static void free_rest(struct engine *e)
{
	while (!list_empty(&e->runs)) {
		struct run *run = CONTAINER_OF(e->runs.next, struct run, all);

		run->pending = 0;
		run->wave = NULL;
		run->job.lane = NULL;
		run_free(run, false);
	}
	while (!list_empty(&e->waves)) {
		struct wave *w = CONTAINER_OF(e->waves.next, struct wave, place);

		list_del(&w->place);
		free(w);
	}
}

/* Last of all: what was to happen at the end of this turn still sees the engine. */
static void engine_free(void *arg)
{
	struct engine *e = arg;

	free_rest(e);
	lanes_clear(&e->lanes);
	while (e->n_spare > 0)
		arena_free(e->spare[--e->n_spare]);
	free(e->inbox_insert);
	free(e->inbox_find);
	free(e->commands_topic);
	free(e->responses_topic);
	free(e->group);
	NOT_A_MORE(e, ENGINE_MAGIC);
	free(e);
}

static void stop(struct service *s)
{
	struct module *m = module_of(s);
	struct engine *e = m->engine;

	e->stopping = true;
	timer_stop(&e->retry_timer);
	timer_stop(&e->send_timer);
	registry_close(e);
	db_close(e->db);
	bus_close(e->bus);
	service_off_turn(s, wave_turn, e);
	if (m->stop != NULL)
		m->stop(m);
	m->engine = NULL;
	service_later(s, engine_free, e);
}

int module_main(struct module *m, int argc, char **argv)
{
	static struct engine_conf conf;
	static struct metric *const *const metrics[] = { module_metrics, by_sub_table, db_metrics,
		                                         bus_metrics, NULL };

	sub_metric_make(m);
	m->service.vars = vars;
	m->service.settings = &conf;
	m->service.needs = NEEDS_DATABASE | NEEDS_KAFKA;
	m->service.metrics = metrics;
	m->service.start = start;
	m->service.drain = drain;
	m->service.stop = stop;
	return service_main(&m->service, argc, argv); /* the names above are wanted until the end */
}

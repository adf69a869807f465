/* module_registry.c - what the router shall know: our commands at start, a heartbeat every 30 s.
 *
 * waddle.registry is compacted, so every message is the whole table. */
#include "module_engine.h"

#include "module_table.h"

enum { BEAT_MS = 30000, MAX_ROOTS = 64 };

static struct js_list sub_names(const struct module_command *c, struct arena *mem)
{
	struct js_list l = { 0 };
	struct str *names;
	size_t n = 0;

	for (const struct command *s = c->subs; s->name != NULL; s++)
		n++;
	names = arena_alloc(mem, (n + 1) * sizeof *names);
	for (const struct command *s = c->subs; s->name != NULL; s++)
		if (s->name[0] != '\0')
			names[l.n++] = str_of(s->name);
	l.items = names;
	return l;
}

static struct registry_command row(const struct module_command *c, const char *name, struct arena *mem)
{
	struct registry_command r = { REGISTRY_COMMAND };
	struct str usage = arena_printf(mem, "!%s {command} (!%s help lists them)", name, name);

	r.command = str_of(name);
	r.prefix = STR("!");
	r.description = str_of(c->help);
	r.usage = usage;
	r.location = LOCATION_INTERNAL;
	r.type = ENDPOINT_CONTAINER;
	r.trigger_type = FIRES_ON_COMMAND;
	r.execution_mode = MODE_SEQUENTIAL;
	r.timeout = c->timeout_s;
	r.rate_limit = c->per_minute;
	r.parameters = sub_names(c, mem);
	return r;
}

void registry_send(struct engine *e, int status)
{
	struct arena *mem = arena_new(4096, 1 << 20);
	struct registry_command *rows = arena_alloc(mem, MAX_ROOTS * sizeof *rows);
	struct registry reg = { .name = str_of(e->s->name),
		                .version = str_of(e->s->version),
		                .instance = e->s->base.instance,
		                .kind = KIND_MODULE,
		                .status = status,
		                .heartbeat_at_ms = clock_unix_ms() };
	struct envelope env = { .kind = ENV_REGISTRY, .source = str_of(e->s->name) };
	size_t n = 0;
	int r;

	for (const struct module_command *c = e->m->commands; c->name != NULL; c++) {
		ASSERT(n < MAX_ROOTS);
		rows[n++] = row(c, c->name, mem);
		for (const char *const *also = c->also; also != NULL && *also != NULL; also++) {
			ASSERT(n < MAX_ROOTS);
			rows[n++] = row(c, *also, mem);
		}
	}
	reg.commands = (struct js_list){ rows, n };
	r = envelope_send(e->bus, "waddle.registry", reg.name, &env, &reg, NULL, NULL);
	if (r != 0)
		log_rarely(60000, L_WARN, NULL, "registry_not_sent", "cannot announce our commands (%d)", r);
	arena_free(mem);
}

void registry_beat(void *arg)
{
	struct engine *e = arg;

	registry_send(e, SERVICE_ACTIVE);
	timer_start(e->s, &e->beat_timer, BEAT_MS, registry_beat, e);
}

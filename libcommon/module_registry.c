/* module_registry.c - what the router shall know: our commands; announce.c sends them. */
#include "module_engine.h"

#include "module_table.h"

enum { MAX_ROOTS = 64 };

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

void registry_open(struct engine *e)
{
	struct registry_command *rows;
	size_t n = 0;

	e->registry_mem = arena_new(4096, 1 << 20);
	rows = arena_alloc(e->registry_mem, MAX_ROOTS * sizeof *rows);
	for (const struct module_command *c = e->m->commands; c->name != NULL; c++) {
		ASSERT(n < MAX_ROOTS);
		rows[n++] = row(c, c->name, e->registry_mem);
		for (const char *const *also = c->also; also != NULL && *also != NULL; also++) {
			ASSERT(n < MAX_ROOTS);
			rows[n++] = row(c, *also, e->registry_mem);
		}
	}
	e->registry = (struct registry){ .name = str_of(e->s->name),
					 .version = str_of(e->s->version),
					 .kind = KIND_MODULE,
					 .commands = { rows, n } };
	announce_start(&e->announce, e->s, e->bus, &e->registry);
}

void registry_close(struct engine *e)
{
	announce_stop(&e->announce);
	arena_free(e->registry_mem);
	e->registry_mem = NULL;
}

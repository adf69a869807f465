/* registrar.c - who is there, and which commands they offer (router.md 17).
 *
 * One message at a time, in order: the topic has one partition and little traffic.  A message
 * that changes nothing - every heartbeat - writes one row and notifies nobody. */
#include "router.h"
#include "clock.h"
#include "err.h"
#include "log.h"
#include "service.h"

enum { STALE_CHECK_MS = 15000 };

struct registrar {
	struct router  *r;
	struct bus_sub *sub;
	struct list     queue;
	struct timer    retry, stale;
	unsigned        failures;
	bool            busy, stale_busy;
};

struct entry { struct list node; struct bus_msg *m; };

static void next(struct registrar *g);

static void retry(void *arg)
{
	struct registrar *g = arg;

	g->busy = false;
	next(g);
}

static void stored(void *arg, const struct db_result *res, const struct err *err)
{
	struct registrar *g = arg;
	struct entry *e = CONTAINER_OF(list_first(&g->queue), struct entry, node);
	bool data;

	(void)res;
	data = err != NULL && err_is_data(err);
	if (err != NULL && !data) {
		log_rarely(5000, L_WARN, NULL, "registry_retry", "a registration will be stored again: %s",
		           err->text);
		timer_start(g->r->s, &g->retry, clock_backoff_ms(g->failures++, 100, 5000), retry, g);
		return;
	}
	if (data) {
		log_error(NULL, "registration_refused", "to the dead-letter topic: %s", err->text);
		bus_reject(e->m, "database", err);
	} else {
		bus_done(e->m);
	}
	list_del(&e->node);
	free(e);
	g->failures = 0;
	g->busy = false;
	next(g);
}

/* What an administrator may tune - is_active, timeout, rate_limit, min_role, priority,
 * execution_mode - is taken from the first message only. */
static const char commands_sql[] =
	"INSERT INTO commands (command, prefix, description, usage, location_url, location, type, timeout, "
	"rate_limit, module_id, version, trigger_type, event_types, priority, execution_mode, min_role, parameters) "
	"SELECT lower(c.command), c.prefix, coalesce(c.description, ''), coalesce(c.usage, ''), "
	"coalesce(c.location_url, 'kafka:' || split_part(r.name, ':', 1)), "
	"CASE c.prefix WHEN '!' THEN 'internal' ELSE 'community' END, coalesce(c.type, 'container'), "
	"coalesce(c.timeout, 30), coalesce(c.rate_limit, 0), r.name, coalesce(r.version, '1.0'), "
	"coalesce(c.trigger_type, 'command'), coalesce(c.event_types, '[]'), coalesce(c.priority, 100), "
	"coalesce(c.execution_mode, 'sequential'), coalesce(c.min_role, 'member'), coalesce(c.parameters, '[]') "
	"FROM jsonb_to_record($1::jsonb) AS r(name text, version text, commands jsonb), "
	"jsonb_to_recordset(r.commands) AS c(command text, prefix text, description text, usage text, "
	"location_url text, type text, timeout integer, rate_limit integer, trigger_type text, event_types jsonb, "
	"priority integer, execution_mode text, min_role text, parameters jsonb) "
	"ON CONFLICT (prefix, command, module_id) DO UPDATE SET description = excluded.description, "
	"usage = excluded.usage, version = excluded.version, event_types = excluded.event_types, "
	"trigger_type = excluded.trigger_type, parameters = excluded.parameters, location_url = excluded.location_url "
	"WHERE (commands.description, commands.usage, commands.version, commands.event_types, commands.trigger_type, "
	"commands.parameters, commands.location_url) IS DISTINCT FROM (excluded.description, excluded.usage, "
	"excluded.version, excluded.event_types, excluded.trigger_type, excluded.parameters, excluded.location_url)";

/* A command that a newer version no longer names. */
static const char gone_sql[] =
	"UPDATE commands SET is_active = false FROM jsonb_to_record($1::jsonb) AS r(name text, version text, "
	"commands jsonb) WHERE module_id = r.name AND is_active AND commands.version <> r.version "
	"AND NOT EXISTS (SELECT FROM jsonb_to_recordset(r.commands) AS c(command text, prefix text) "
	"WHERE c.prefix = commands.prefix AND lower(c.command) = commands.command)";

static const char module_sql[] =
	"INSERT INTO collector_modules (module_name, module_version, kind, platform, endpoint_url, "
	"health_check_url, status, last_heartbeat, instances) "
	"SELECT name, coalesce(version, ''), kind, platform, endpoint_url, health_check_url, "
	"coalesce(status, 'active'), least(heartbeat_at, now()), "
	"jsonb_build_object(coalesce(instance, ''), heartbeat_at) "
	"FROM jsonb_to_record($1::jsonb) AS r(name text, version text, kind text, platform text, "
	"endpoint_url text, health_check_url text, status text, heartbeat_at timestamptz, instance text) "
	"ON CONFLICT (module_name) DO UPDATE SET module_version = excluded.module_version, "
	"kind = excluded.kind, platform = excluded.platform, endpoint_url = excluded.endpoint_url, "
	"health_check_url = excluded.health_check_url, status = excluded.status, "
	"last_heartbeat = greatest(collector_modules.last_heartbeat, excluded.last_heartbeat), "
	"instances = collector_modules.instances || excluded.instances";

static void next(struct registrar *g)
{
	struct list *n;

	while (!g->busy && (n = list_first(&g->queue)) != NULL) {
		struct entry *e = CONTAINER_OF(n, struct entry, node);
		struct db_param text = DB_STR(e->m->value);
		struct db_tx *tx;

		if (bus_msg_void(e->m)) {
			bus_done(e->m);
			list_del(n);
			free(e);
			continue;
		}
		g->busy = true;
		tx = db_tx_begin(g->r->db, 0);
		if (tx == NULL) {
			timer_start(g->r->s, &g->retry, 100, retry, g);
			return;
		}
		if (db_tx_send(tx, NULL, NULL, module_sql, &text, 1) != 0 ||
		    db_tx_send(tx, NULL, NULL, commands_sql, &text, 1) != 0 ||
		    db_tx_send(tx, NULL, NULL, gone_sql, &text, 1) != 0) {
			db_tx_abort(tx);
			timer_start(g->r->s, &g->retry, 100, retry, g);
			return;
		}
		db_tx_commit(tx, stored, g);
	}
}

static void arrived(void *arg, struct bus_msg *m)
{
	struct registrar *g = arg;
	struct arena *mem;
	struct registry reg;
	struct entry *e;
	struct err err = { 0 };
	int r;

	if (m->value.p == NULL) {
		bus_done(m);            /* a tombstone: the compacted entry is gone, the row tells the past */
		return;
	}
	mem = arena_new(16384, 4 << 20);
	r = envelope_decode(m, ENV_REGISTRY, NULL, &reg, mem, &err);
	arena_free(mem);
	if (r != 0) {
		log_warn(NULL, "registration_refused", "to the dead-letter topic: %s", err.text);
		bus_reject(m, envelope_reason(ENV_REGISTRY, r), &err);
		return;
	}
	e = XNEW(struct entry);
	e->m = m;
	list_add_tail(&g->queue, &e->node);
	next(g);
}

static void stale(void *arg);

static void stale_marked(void *arg, const struct db_result *res, const struct err *err)
{
	struct registrar *g = arg;

	for (int i = 0; err == NULL && i < db_rows(res); i++)
		log_warn(NULL, "module_silent", STR_FMT " missed three heartbeats and counts as inactive",
		         STR_ARG(db_str(res, i, 0)));
	g->stale_busy = false;
}

static void stale(void *arg)
{
	struct registrar *g = arg;

	if (!g->stale_busy)
		g->stale_busy = db_query(g->r->db, ((struct db_opts){ .to = DB_WRITE }), stale_marked, g,
		                         "UPDATE collector_modules SET status = 'inactive' WHERE status = 'active' "
		                         "AND kind <> 'workflow' AND last_heartbeat < now() - interval '90 s' "
		                         "RETURNING module_name") == 0;
	timer_start(g->r->s, &g->stale, STALE_CHECK_MS, stale, g);
}

struct registrar *registrar_open(struct router *r, struct err *err)
{
	static const char *const from[] = { "waddle.registry", NULL };
	struct registrar *g = XNEW(struct registrar);
	struct bus_consumer c = {
		.group = "waddle.router-registry", .topics = from, .max_held = 256, .message = arrived, .arg = g,
	};

	g->r = r;
	list_init(&g->queue);
	if (bus_consume(r->bus, &c, &g->sub, err) != 0) {
		free(g);
		return NULL;
	}
	timer_start(r->s, &g->stale, STALE_CHECK_MS, stale, g);
	return g;
}

void registrar_drain(struct registrar *g)
{
	bus_unsubscribe(g->sub);
}

/* After db_close() and bus_close(). */
void registrar_close(struct registrar *g)
{
	struct list *n;

	if (g == NULL)
		return;
	timer_stop(&g->retry);
	timer_stop(&g->stale);
	while ((n = list_pop(&g->queue)) != NULL)
		free(CONTAINER_OF(n, struct entry, node));
	free(g);
}

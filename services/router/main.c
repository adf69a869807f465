/* waddle-router - resolves chat to commands, and modules' answers to messages. */
#include "router.h"
#include "api.h"
#include "coordination.h"
#include "cache.h"
#include "clock.h"
#include "config.h"
#include "err.h"
#include "inbox.h"
#include "log.h"
#include "metrics.h"
#include "positions.h"
#include "service.h"

static const struct cfg_var vars[] = {
	CFG(struct router_settings, batch_rows, "BATCH_ROWS", CFG_INT, "512",
	    "Events or responses in one transaction.", .min = 1, .max = 2048),
	CFG(struct router_settings, batches_in_flight, "BATCHES_IN_FLIGHT", CFG_INT, "2",
	    "Transactions under way at a time, of events and of responses each.", .min = 1, .max = 4),
	CFG(struct router_settings, events_held, "EVENTS_HELD", CFG_INT, "2048",
	    "Events taken from the broker and not finished; more stay there.", .min = 1, .max = 65536),
	CFG(struct router_settings, responses_held, "RESPONSES_HELD", CFG_INT, "2048",
	    "Responses taken from the broker and not finished.", .min = 1, .max = 65536),
	CFG(struct router_settings, limit_keys, "LIMIT_KEYS", CFG_INT, "200000",
	    "Rate limit windows kept in memory; others are read when needed.", .min = 1, .max = 10000000),
	CFG(struct router_settings, session_ttl_ms, "SESSION_TTL", CFG_MS, "3600s",
	    "How long after its last use a session may still be answered.", .min = 1000, .max = 86400000),
	CFG(struct router_settings, platforms, "PLATFORMS", CFG_STR, "twitch,discord,slack,kick,youtube,terminal",
	    "Platforms whose events are taken over HTTP, separated by commas.", .min = 1, .max = 500),
	{ 0 }
};

static struct router router;

static void changed(void *arg, struct str notice)
{
	struct router *r = arg;

	IS_A(r, ROUTER_MAGIC);
	lookup_invalidate(r->lookup, notice);
	api_invalidate(r->api, notice);
}

static int start(struct service *s, struct err *err)
{
	struct router *r = s->priv;
	struct db_conf conf = {
		.write_url = s->base.database_url, .read_url = s->base.database_read_url,
		.write_conns = (int)s->base.database_pool_write, .read_conns = (int)s->base.database_pool_read,
	};
	int e;

	MAKE_A(r, ROUTER_MAGIC);
	r->s = s;
	r->began_mono_ms = clock_mono_ms();
	r->settings = s->settings;
	r->bus = bus_open(s, s->base.kafka_brokers, s->base.topic_prefix, err);
	if (r->bus == NULL)
		return err->code;
	r->db = db_open(s, &conf);
	r->lookup = lookup_open(s, r->db);
	r->limits = limits_open(r);
	r->partitions = partitions_open(r);
	r->positions = positions_open(r);
	r->notices = notices_open();
	r->dispatch = dispatch_open(r);
	r->sweeper = sweeper_open(r);
	r->coordination = coordination_open(r);
	db_listen(r->db, "waddle_invalidate", changed, r);
	r->intake = intake_open(r, err);
	r->replies = r->intake != NULL ? replies_open(r, err) : NULL;
	r->registrar = r->replies != NULL ? registrar_open(r, err) : NULL;
	r->inbox = inbox_open(r);
	r->api = r->registrar != NULL ? api_open(r, err) : NULL;
	e = r->api != NULL ? 0 : err->code;
	return e;
}

static void drain(struct service *s)
{
	struct router *r = s->priv;

	api_drain(r->api);
	intake_drain(r->intake);
	replies_drain(r->replies);
	registrar_drain(r->registrar);
}

/* The database first: what its callbacks touch is still there.  Then the bus: what is held and
 * not done is delivered to somebody else. */
static void stop(struct service *s)
{
	struct router *r = s->priv;

	api_drain(r->api);
	db_close(r->db);
	bus_close(r->bus);
	api_close(r->api);
	inbox_close(r->inbox);
	dispatch_close(r->dispatch);
	intake_close(r->intake);
	replies_close(r->replies);
	registrar_close(r->registrar);
	sweeper_close(r->sweeper);
	coordination_close(r->coordination);
	positions_close(r->positions);
	lookup_close(r->lookup);
	notices_close(r->notices);
	partitions_close(r->partitions);
	limits_close(r->limits);
}

static struct metric *const *const metrics[] = {
	intake_metrics, lookup_metrics, notice_metrics, dispatch_metrics, replies_metrics, sweeper_metrics, api_keys_metrics,
	coordination_metrics,
	partition_metrics, limits_metrics, window_metrics,
	inbox_metrics,
	cache_metrics, db_metrics, bus_metrics, NULL,
};

int main(int argc, char **argv)
{
	struct router_settings settings;
	struct service s = {
		.name = "router", .version = "1.0", .vars = vars, .settings = &settings,
		.needs = NEEDS_DATABASE | NEEDS_KAFKA, .metrics = metrics,
		.start = start, .drain = drain, .stop = stop, .priv = &router,
	};

	return service_main(&s, argc, argv);
}

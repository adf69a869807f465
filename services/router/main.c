/* waddle-router - resolves chat to commands, and modules' answers to messages. */
#include "router.h"
#include "api.h"
#include "batch.h"
#include "coordination.h"
#include "cache.h"
#include "clock.h"
#include "config.h"
#include "crypto.h"
#include "deliveries.h"
#include "err.h"
#include "inbox.h"
#include "fetch.h"
#include "log.h"
#include "metrics.h"
#include "positions.h"
#include "redis.h"
#include "rules_hooks.h"
#include "rules_store.h"
#include "service.h"
#include "waiting.h"

enum { OUTBOUND_CONNS = 512 };

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
	CFG(struct router_settings, redis_url, "REDIS_URL", CFG_SECRET, "",
	    "Second level of the look-up caches, redis://[[user]:password@]host[:port][/database]; empty: none."),
	CFG(struct router_settings, redis_timeout_ms, "REDIS_TIMEOUT", CFG_MS, "50ms",
	    "How long Redis may take to answer before the database is asked.", .min = 1, .max = 5000),
	CFG(struct router_settings, session_ttl_ms, "SESSION_TTL", CFG_MS, "3600s",
	    "How long after its last use a session may still be answered.", .min = 1000, .max = 86400000),
	CFG(struct router_settings, platforms, "PLATFORMS", CFG_STR, "twitch,discord,slack,kick,youtube,terminal",
	    "Platforms whose events are taken over HTTP, separated by commas.", .min = 1, .max = 500),
	CFG(struct router_settings, outbound_allow_http, "OUTBOUND_ALLOW_HTTP", CFG_BOOL, "0",
	    "Commands may be called without TLS: for tests."),
	CFG(struct router_settings, outbound_ports, "OUTBOUND_PORTS", CFG_STR, "",
	    "Ports that may be called beside 443 and 8443, separated by commas."),
	CFG(struct router_settings, outbound_allow_cidr, "OUTBOUND_ALLOW_CIDR", CFG_STR, "",
	    "Networks that may be called though they are not public, separated by commas."),
	CFG(struct router_settings, http_total_ms, "HTTP_TOTAL_MAX", CFG_MS, "120s",
	    "How long all attempts of a command called over HTTP may take together.", .min = 1000, .max = 600000),
	CFG(struct router_settings, http_per_community, "HTTP_PER_COMMUNITY", CFG_INT, "8",
	    "Commands of one community called over HTTP at a time; others wait in order.", .min = 1, .max = 256),
	CFG(struct router_settings, http_per_host, "HTTP_PER_HOST", CFG_INT, "16",
	    "Commands called over HTTP on one host at a time; others wait in order.", .min = 1, .max = 256),
	CFG(struct router_settings, fair_outstanding, "FAIR_OUTSTANDING", CFG_INT, "32",
	    "Unanswered commands of a community at a module; more wait their turn.", .min = 1, .max = 1000000),
	CFG(struct router_settings, fair_backlog, "FAIR_BACKLOG", CFG_INT, "10000",
	    "Commands of a community that may wait for a module; more are refused.", .min = 1, .max = 10000000),
	CFG(struct router_settings, queue_timeout_ms, "QUEUE_TIMEOUT", CFG_MS, "60s",
	    "How long a command may wait for its turn.", .min = 100, .max = 3600000),
	{ 0 }
};

static struct router router;

static void changed(void *arg, struct str notice)
{
	struct router *r = arg;

	IS_A(r, ROUTER_MAGIC);
	lookup_invalidate(r->lookup, notice);
	rules_invalidate(r->rules, notice);
	api_invalidate(r->api, notice);
}

/* What leads out of the house, and what opens the secrets that go along. */
static int outbound_open(struct router *r, struct err *err)
{
	const struct router_settings *set = r->settings;
	int e;

	if (r->s->base.sealing_key_file.n > 0) {
		r->seal = crypto_seal_open_file(r->s->base.sealing_key_file, err);
		if (r->seal == NULL)
			return err->code;
	}
	r->fetch = fetch_open(r->s, OUTBOUND_CONNS, OUTBOUND_CONNS);
	e = fetch_guard(r->fetch, set->outbound_allow_http, set->outbound_ports, set->outbound_allow_cidr, err);
	if (e == 0)
		e = guard_set(&r->guard, set->outbound_allow_http, set->outbound_ports, set->outbound_allow_cidr, err);
	return e;
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
	e = outbound_open(r, err);
	if (e != 0)
		return e;
	r->bus = bus_open(s, s->base.kafka_brokers, s->base.topic_prefix, err);
	if (r->bus == NULL)
		return err->code;
	r->db = db_open(s, &conf);
	r->lookup = lookup_open(s, r->db, r->settings->redis_url, (int)r->settings->redis_timeout_ms, err);
	if (r->lookup == NULL)
		return err->code;
	r->limits = limits_open(r);
	r->partitions = partitions_open(r);
	r->positions = positions_open(r);
	r->notices = notices_open();
	r->deliveries = deliveries_open(r);
	r->dispatch = dispatch_open(r);
	r->waiting = waiting_open(r);
	r->sweeper = sweeper_open(r);
	r->coordination = coordination_open(r);
	r->calls = calls_open(r);
	r->standby = standby_open(r);
	r->rules = rules_open(r, err);
	if (r->rules == NULL)
		return err->code;
	r->hooks = rules_hooks_open(r);
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
	calls_drain(r->calls);
	rules_hooks_drain(r->hooks);
	replies_drain(r->replies);
	registrar_drain(r->registrar);
	waiting_drain(r->waiting);
}

/* The database first: what its callbacks touch is still there.  Then the bus: what is held and
 * not done is delivered to somebody else. */
static void stop(struct service *s)
{
	struct router *r = s->priv;

	api_drain(r->api);
	calls_close(r->calls);
	deliveries_close(r->deliveries);
	rules_hooks_drain(r->hooks);
	waiting_stop(r->waiting);
	db_close(r->db);
	fetch_close(r->fetch);
	rules_hooks_close(r->hooks);
	bus_close(r->bus);
	api_close(r->api);
	inbox_close(r->inbox);
	dispatch_close(r->dispatch);
	waiting_close(r->waiting);
	intake_close(r->intake);
	replies_close(r->replies);
	registrar_close(r->registrar);
	sweeper_close(r->sweeper);
	coordination_close(r->coordination);
	standby_close(r->standby);
	positions_close(r->positions);
	rules_close(r->rules);
	lookup_close(r->lookup);
	notices_close(r->notices);
	partitions_close(r->partitions);
	limits_close(r->limits);
	guard_clear(&r->guard);
	crypto_seal_close(r->seal);
}

static struct metric *const *const metrics[] = {
	intake_metrics, lookup_metrics, notice_metrics, dispatch_metrics, waiting_metrics, replies_metrics, deliveries_metrics, sweeper_metrics, api_keys_metrics,
	call_metrics, call_row_metrics, call_send_metrics, fetch_metrics,
	coordination_metrics, standby_metrics, redis_metrics,
	partition_metrics, limits_metrics, window_metrics,
	inbox_metrics,
	rules_metrics, rules_act_metrics, rules_hooks_metrics,
	cache_metrics, db_metrics, batch_metrics, bus_metrics, NULL,
};

int main(int argc, char **argv)
{
	struct router_settings settings;
	struct service s = {
		.name = "router", .version = "1.0", .vars = vars, .settings = &settings,
		.spares = (const char *const[]){ "redis", NULL }, .needs = NEEDS_DATABASE | NEEDS_KAFKA, .metrics = metrics,
		.start = start, .drain = drain, .stop = stop, .priv = &router,
	};

	return service_main(&s, argc, argv);
}

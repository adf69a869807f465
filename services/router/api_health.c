/* api_health.c - GET /router/health and /router/metrics (router.md 20). */
#include "api.h"
#include "clock.h"
#include "metrics.h"
#include "service.h"

static int64_t uptime_s(const struct router *r) { return (clock_mono_ms() - r->began_mono_ms) / 1000; }

static bool is_up(const struct service *s, const char *name)
{
	const char *what;
	bool up;

	for (size_t i = 0; (what = service_dependency(s, i, &up)) != NULL; i++)
		if (strcmp(what, name) == 0)
			return up;
	return false;
}

static bool is_named(const struct service *s, const char *name)
{
	const char *what;
	bool up;

	for (size_t i = 0; (what = service_dependency(s, i, &up)) != NULL; i++)
		if (strcmp(what, name) == 0)
			return true;
	return false;
}

struct health { struct str status, database, standby, kafka, redis, version; int64_t uptime_seconds; };

static const struct js_field health_fields[] = {
	JS(struct health, status, JS_STR, .help = "healthy, degraded or unhealthy"),
	JS(struct health, database, JS_STR),
	JS(struct health, standby, JS_STR),
	JS(struct health, kafka, JS_STR),
	JS(struct health, redis, JS_STR),
	JS(struct health, uptime_seconds, JS_INT),
	JS(struct health, version, JS_STR),
	{ 0 }
};

static struct str word(bool up) { return up ? STR("up") : STR("down"); }

static void health(struct http_req *r, void *arg)
{
	struct router *router = arg;
	struct service *s = router->s;
	enum db_standby standby = db_standby(router->db);
	bool database = is_up(s, "postgres-write"), kafka = is_up(s, "kafka");
	bool redis_used = is_named(s, "redis"), redis = !redis_used || is_up(s, "redis");
	bool works = database && kafka, all = works && standby != DB_STANDBY_DOWN && redis;
	struct health h = {
		.status = all ? STR("healthy") : works ? STR("degraded") : STR("unhealthy"),
		.database = word(database),
		.standby = standby == DB_STANDBY_NONE ? STR("none") : word(standby == DB_STANDBY_UP),
		.kafka = word(kafka),
		.redis = redis_used ? word(redis) : STR("none"),
		.version = str_of(s->version),
		.uptime_seconds = uptime_s(router),
	};

	http_reply(r, works ? 200 : 503, health_fields, &h);
}

/* All cells of a metric of this process, whoever counts it. */
static struct metric_cell sum(const struct service *s, const char *name, const char *only)
{
	struct metric_cell all = { 0 };

	for (struct metric *const *const *table = s->metrics; *table != NULL; table++)
		for (struct metric *const *m = *table; *m != NULL; m++) {
			if (strcmp((*m)->name, name) != 0)
				continue;
			for (unsigned i = 0; i < (*m)->n_cells; i++) {
				if (only != NULL && strstr((*m)->values[i], only) == NULL)
					continue;
				all.value += (*m)->cells[i].value;
				all.sum_us += (*m)->cells[i].sum_us;
			}
		}
	return all;
}

static void numbers(struct http_req *r, void *arg)
{
	const struct service *s = ((struct router *)arg)->s;
	struct metric_cell took = sum(s, "waddle_router_command_seconds", NULL);
	uint64_t hits = sum(s, "waddle_cache_requests_total", "hit").value;
	uint64_t lookups = sum(s, "waddle_cache_requests_total", NULL).value;
	struct str text = arena_printf(
		http_mem(r),
		"{\"total_events\":%llu,\"total_executions\":%llu,\"avg_execution_time_ms\":%.3f,"
		"\"cache_hit_rate\":%.4f,\"string_matches\":%llu,\"rate_limit_hits\":%llu,\"uptime_seconds\":%lld}",
		(unsigned long long)sum(s, "waddle_router_events_total", NULL).value,
		(unsigned long long)sum(s, "waddle_router_executions_total", NULL).value,
		took.value > 0 ? (double)took.sum_us / 1000.0 / (double)took.value : 0.0,
		lookups > 0 ? (double)hits / (double)lookups : 0.0,
		(unsigned long long)sum(s, "waddle_router_rule_hits_total", NULL).value,
		(unsigned long long)sum(s, "waddle_router_rate_limited_total", NULL).value,
		(long long)uptime_s(arg));

	http_reply_raw(r, 200, "application/json", text);
}

const struct http_route health_routes[] = {
	{ .method = "GET", .path = "/router/health", .handle = health,
	  .summary = "Whether the router and what it needs work: healthy, degraded (200) or unhealthy (503)." },
	{ .method = "GET", .path = "/router/metrics", .auth = HTTP_KEY_ADMIN, .handle = numbers,
	  .summary = "A few numbers of this replica since its start; all of them are on ADMIN_LISTEN." },
	{ 0 }
};

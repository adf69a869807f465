/* call.c - which execution is called over HTTP when, and by whom (router.md 11, 12).
 *
 *      WAITING -> CLAIMING -> TRYING -> RECORDING -> SENDING -> gone
 *                               ^ v
 *                             PAUSED                       each may also be gone: not ours any more
 *
 * Waiting costs a few bytes and no lease: a replica with a free slot may be faster, and what does not
 * fit in memory stays a row that the search finds.  A lease is a time in the row; as long as it is the
 * one we wrote, the call is ours, and each attempt moves it on.  So a call whose replica died, slept or
 * lost the database is made again by another, and the one that comes too late finds it is not asked. */
#include "call.h"
#include "clock.h"
#include "err.h"
#include "log.h"
#include "metrics.h"
#include "service.h"

enum { MAX_WAITING = 4096, MAX_RUNNING = 256, MAX_PLACES = 10000 };
enum { SWEEP_MS = 3000, SWEEP_ROWS = 256, SWEEP_ALL = 20, RECENT_MS = 300000, DAY_MS = 86400000 };

METRIC(waiting_now, METRIC_GAUGE, "waddle_router_http_waiting", "Executions waiting for a slot to be called.");
METRIC(running_now, METRIC_GAUGE, "waddle_router_http_running", "Executions being called.");
METRIC(left_over, METRIC_COUNTER, "waddle_router_http_left_total",
       "Executions left to the search because too many were waiting here.");
METRIC(orphans, METRIC_COUNTER, "waddle_router_http_orphans_total",
       "Executions found whose caller is gone, or that nobody had begun.");
METRIC(open_circuits, METRIC_GAUGE, "waddle_router_http_circuits_open", "Addresses left alone after failures in a row.");
struct metric *const call_metrics[] = { &waiting_now, &running_now, &left_over, &orphans,
                                        &open_circuits, NULL };

static void pump_soon(struct calls *cs);

/* --- slots: how many run for a community, on a host ----------------------------------------- */

struct slot { struct hash_node node; int64_t community_id; unsigned n; char host[]; };  /* host "": a community */

static struct slot *slot_of(struct calls *cs, int64_t community_id, const char *host, bool make)
{
	uint64_t hash = *host != '\0' ? hash_of(str_of(host)) : hash_int(community_id);
	struct slot *s;

	for (struct hash_node *n = hash_find(&cs->slots, hash); n != NULL; n = hash_next(n)) {
		s = CONTAINER_OF(n, struct slot, node);
		if (s->community_id == community_id && strcmp(s->host, host) == 0)
			return s;
	}
	if (!make)
		return NULL;
	s = xnew_(1, sizeof *s + strlen(host) + 1);
	s->community_id = community_id;
	memcpy(s->host, host, strlen(host) + 1);
	hash_add(&cs->slots, &s->node, hash);
	return s;
}

static bool is_full(struct calls *cs, int64_t community_id, const char *host, int64_t most)
{
	const struct slot *s = slot_of(cs, community_id, host, false);

	return s != NULL && s->n >= (uint64_t)most;
}

static void slot_leave(struct calls *cs, int64_t community_id, const char *host)
{
	struct slot *s = slot_of(cs, community_id, host, false);

	ASSERT(s != NULL && s->n > 0);
	if (--s->n == 0) {
		hash_del(&cs->slots, &s->node);
		free(s);
	}
}

/* --- one call ------------------------------------------------------------------------------ */

void call_move(struct call *c, enum call_state to)
{
	static const unsigned may[CALL_STATES] = {
		[CALL_WAITING] = 1u << CALL_CLAIMING,
		[CALL_CLAIMING] = 1u << CALL_TRYING | 1u << CALL_RECORDING,
		[CALL_TRYING] = 1u << CALL_PAUSED | 1u << CALL_RECORDING | 1u << CALL_RELEASING,
		[CALL_PAUSED] = 1u << CALL_TRYING | 1u << CALL_RELEASING,
		[CALL_RECORDING] = 1u << CALL_SENDING,
	};

	ASSERT(may[c->state] & 1u << to);
	c->state = to;
	list_move(&c->calls->in[to], &c->node);
}

static void maybe_free(struct calls *cs)
{
	if (!cs->closing || cs->n > 0 || cs->sweeping || cs->pump_soon)
		return;
	hash_clear(&cs->ids);
	hash_clear(&cs->slots);
	breaker_free(cs->breaker);
	NOT_A_MORE(cs, CALLS_MAGIC);
	free(cs);
}

void call_gone(struct call *c)
{
	struct calls *cs = c->calls;

	if (c->state == CALL_WAITING) {
		cs->n_waiting--;
	} else {
		slot_leave(cs, c->community_id, "");
		slot_leave(cs, 0, c->host);
		cs->n_running--;
		service_release(cs->r->s);
		pump_soon(cs);
	}
	if (c->asked)
		breaker_report(cs->breaker, c->url,
		               c->end.outcome != CALL_TIMEOUT && c->end.outcome != CALL_UNREACHABLE &&
		                       c->end.status < 500,
		               clock_mono_ms());
	timer_stop(&c->timer);
	list_del(&c->node);
	hash_del(&cs->ids, &c->by_id);
	cs->n--;
	metric_set(&waiting_now, 0, (int64_t)cs->n_waiting);
	metric_set(&running_now, 0, (int64_t)cs->n_running);
	if (c->mem != NULL)
		arena_free(c->mem);
	free(c->host);
	NOT_A_MORE(c, CALL_MAGIC);
	free(c);
	maybe_free(cs);
}

/* --- who may be called now ------------------------------------------------------------------ */

static void claim(struct call *c)
{
	struct calls *cs = c->calls;

	cs->n_waiting--;
	cs->n_running++;
	slot_of(cs, c->community_id, "", true)->n++;
	slot_of(cs, 0, c->host, true)->n++;
	service_hold(cs->r->s);
	call_move(c, CALL_CLAIMING);
	call_claim(c);
	metric_set(&waiting_now, 0, (int64_t)cs->n_waiting);
	metric_set(&running_now, 0, (int64_t)cs->n_running);
}

static void pump(void *arg)
{
	struct calls *cs = arg;
	const struct router_settings *set = cs->r->settings;

	IS_A(cs, CALLS_MAGIC);
	cs->pump_soon = false;
	if (cs->closing) {
		maybe_free(cs);
		return;
	}
	if (service_draining(cs->r->s))
		return;
	LIST_EACH(n, tmp, &cs->in[CALL_WAITING]) {
		struct call *c = CONTAINER_OF(n, struct call, node);

		if (cs->n_running >= MAX_RUNNING)
			return;
		if (!is_full(cs, c->community_id, "", set->http_per_community) &&
		    !is_full(cs, 0, c->host, set->http_per_host))
			claim(c);
	}
}

static void pump_soon(struct calls *cs)
{
	if (cs->pump_soon || cs->closing)
		return;
	cs->pump_soon = true;
	service_later(cs->r->s, pump, cs);
}

static char *host_text(struct str url)
{
	char *text = xnew_(1, 300);
	struct url u;

	if (url_split(url, &u) == 0)
		(void)snprintf(text, 300, "%s://" STR_FMT ":%u", u.https ? "https" : "http", STR_ARG(u.host),
		               u.port);
	else
		text[0] = '?';
	return text;
}

void call_start(struct calls *cs, struct str execution_id, int64_t created_at_ms, int64_t community_id, struct str url)
{
	uint64_t hash = hash_of(execution_id);
	struct call *c;

	IS_A(cs, CALLS_MAGIC);
	ASSERT(execution_id.n < sizeof c->id);
	if (cs->closing || service_draining(cs->r->s))
		return;                         /* another replica finds it */
	for (struct hash_node *n = hash_find(&cs->ids, hash); n != NULL; n = hash_next(n))
		if (str_eq(str_of(CONTAINER_OF(n, struct call, by_id)->id), execution_id))
			return;
	if (cs->n_waiting >= MAX_WAITING) {
		metric_add(&left_over, 0, 1);
		return;
	}
	c = XNEW(struct call);
	MAKE_A(c, CALL_MAGIC);
	c->calls = cs;
	memcpy(c->id, execution_id.p, execution_id.n);
	c->created_ms = created_at_ms;
	c->community_id = community_id;
	c->host = host_text(url);
	list_init(&c->node);
	list_add_tail(&cs->in[CALL_WAITING], &c->node);
	hash_add(&cs->ids, &c->by_id, hash);
	cs->n++;
	cs->n_waiting++;
	metric_set(&waiting_now, 0, (int64_t)cs->n_waiting);
	pump_soon(cs);
}

/* --- rows without a caller ----------------------------------------------------------------- */

static void sweep(void *arg);

static void found(void *arg, const struct db_result *res, const struct err *err)
{
	struct calls *cs = arg;

	IS_A(cs, CALLS_MAGIC);
	cs->sweeping = false;
	if (err != NULL && !db_closing(cs->r->db))
		log_rarely(10000, L_WARN, NULL, "sweep_failed", "%s", err->text);
	for (int i = 0; err == NULL && i < db_rows(res); i++) {
		size_t before = cs->n;

		call_start(cs, db_str(res, i, 0), db_time(res, i, 1), db_int(res, i, 2), db_str(res, i, 3));
		metric_add(&orphans, 0, cs->n - before);
	}
	maybe_free(cs);
}

/* Every few seconds among what is young, now and then among all of a day: a backlog has old rows too. */
static void sweep(void *arg)
{
	struct calls *cs = arg;
	int64_t back_ms = cs->sweeps++ % SWEEP_ALL == 0 ? DAY_MS : RECENT_MS;

	metric_set(&open_circuits, 0, (int64_t)breaker_open_now(cs->breaker, clock_mono_ms()));
	if (!cs->sweeping && !service_draining(cs->r->s))
		cs->sweeping = db_query(cs->r->db, (struct db_opts){ .to = DB_WRITE }, found, cs,
		                        "SELECT execution_id, created_at, community_id, location_url "
		                        "FROM command_executions WHERE location_url NOT LIKE 'kafka:%' "
		                        "AND created_at >= $1 AND status = 'pending' AND sent_at IS NOT NULL AND waits IS NULL "
		                        "AND coalesce(lease_until, sent_at + interval '5 s') < now() "
		                        "ORDER BY created_at LIMIT $2",
		                        DB_TIME(clock_unix_ms() - back_ms), DB_INT(SWEEP_ROWS)) == 0;
	timer_start(cs->r->s, &cs->sweep, SWEEP_MS, sweep, cs);
}

struct calls *calls_open(struct router *r)
{
	struct calls *cs = XNEW(struct calls);

	MAKE_A(cs, CALLS_MAGIC);
	cs->r = r;
	for (size_t i = 0; i < CALL_STATES; i++)
		list_init(&cs->in[i]);
	cs->breaker = breaker_new(MAX_PLACES);
	timer_start(r->s, &cs->sweep, SWEEP_MS, sweep, cs);
	return cs;
}

static void release_all(struct calls *cs, enum call_state of)
{
	LIST_EACH(n, tmp, &cs->in[of])
		call_release(CONTAINER_OF(n, struct call, node));
}

static void drain_late(void *arg)
{
	struct calls *cs = arg;

	IS_A(cs, CALLS_MAGIC);
	release_all(cs, CALL_TRYING);
}

/* What waits here is found by others; what runs may end, as long as there is time for its answer. */
void calls_drain(struct calls *cs)
{
	if (cs == NULL)
		return;
	timer_stop(&cs->sweep);
	while (!list_empty(&cs->in[CALL_WAITING]))
		call_gone(CONTAINER_OF(list_first(&cs->in[CALL_WAITING]), struct call, node));
	release_all(cs, CALL_PAUSED);
	timer_start(cs->r->s, &cs->late, cs->r->s->base.drain_timeout_ms / 2, drain_late, cs);
}

/* Before db_close(), fetch_close() and bus_close(): their callbacks free what is still under way. */
void calls_close(struct calls *cs)
{
	if (cs == NULL)
		return;
	calls_drain(cs);
	timer_stop(&cs->late);
	cs->closing = true;
	LIST_EACH(n, tmp, &cs->in[CALL_PAUSED]) {
		struct call *c = CONTAINER_OF(n, struct call, node);

		if (timer_running(&c->timer))
			call_gone(c);
	}
	LIST_EACH(n, tmp, &cs->in[CALL_TRYING]) {
		struct call *c = CONTAINER_OF(n, struct call, node);

		if (c->job == NULL)             /* between two requests for an activation's result */
			call_gone(c);
	}
	LIST_EACH(n, tmp, &cs->in[CALL_SENDING]) {
		struct call *c = CONTAINER_OF(n, struct call, node);

		if (timer_running(&c->timer))
			call_gone(c);
	}
	maybe_free(cs);
}

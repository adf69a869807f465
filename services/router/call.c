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
#include "crypto.h"
#include "err.h"
#include "fetch.h"
#include "log.h"
#include "metrics.h"
#include "service.h"
#include "sign.h"

enum { MAX_WAITING = 4096, MAX_RUNNING = 256, MAX_PLACES = 10000, LEASE_MORE_MS = 10000, RECORD_LEASE_MS = 30000 };
enum { SWEEP_MS = 3000, SWEEP_ROWS = 256, SWEEP_ALL = 20, RECENT_MS = 300000, DAY_MS = 86400000 };
enum { SEND_AGAIN_MS = 50, HEADERS_EACH = 20, REPEATS = 3 };

static const int64_t waits_ms[REPEATS] = { 1000, 2000, 4000 };

static const char *const types[] = { "container", "lambda", "openwhisk", "webhook" };
static const char *const outcomes[CALL_OUTCOME_COUNT] = {
#define X(name, text) text,
	CALL_OUTCOMES(X)
#undef X
};
METRIC_BY2(ended, METRIC_COUNTER, "waddle_router_http_calls_total", "Executions called over HTTP, by how it ended.",
           "type", types, "outcome", outcomes);
METRIC(tries, METRIC_COUNTER, "waddle_router_http_tries_total", "Attempts of executions called over HTTP.");
METRIC(waiting_now, METRIC_GAUGE, "waddle_router_http_waiting", "Executions waiting for a slot to be called.");
METRIC(running_now, METRIC_GAUGE, "waddle_router_http_running", "Executions being called.");
METRIC(left_over, METRIC_COUNTER, "waddle_router_http_left_total",
       "Executions left to the search because too many were waiting here.");
METRIC(orphans, METRIC_COUNTER, "waddle_router_http_orphans_total",
       "Executions found whose caller is gone, or that nobody had begun.");
METRIC(open_circuits, METRIC_GAUGE, "waddle_router_http_circuits_open", "Addresses left alone after failures in a row.");
struct metric *const call_metrics[] = { &ended, &tries, &waiting_now, &running_now, &left_over, &orphans,
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

static void call_move(struct call *c, enum call_state to)
{
	static const unsigned may[CALL_STATES] = {
		[CALL_WAITING] = 1u << CALL_CLAIMING,
		[CALL_CLAIMING] = 1u << CALL_TRYING | 1u << CALL_RECORDING,
		[CALL_TRYING] = 1u << CALL_PAUSED | 1u << CALL_RECORDING,
		[CALL_PAUSED] = 1u << CALL_TRYING,
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

static void call_free(struct call *c)
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
		breaker_report(cs->breaker, c->url, c->end.outcome != CALL_TIMEOUT && c->end.outcome != CALL_UNREACHABLE &&
		               c->end.status < 500, clock_mono_ms());
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

/* --- the answer on its way ----------------------------------------------------------------- */

static void acknowledged(void *arg, const struct err *err)
{
	struct call *c = arg;

	IS_A(c, CALL_MAGIC);
	(void)err;              /* closing: the lease runs out, another replica calls again */
	call_free(c);
}

static void respond(void *arg)
{
	struct call *c = arg;
	char key[24], traceparent[56];
	int n = snprintf(key, sizeof key, "%lld", (long long)c->community_id);
	struct envelope env = { .kind = ENV_RESPONSE, .source = STR("waddle/router"), .created_ms = c->created_ms };
	int r;

	IS_A(c, CALL_MAGIC);
	if (c->trace_id.n == 32) {
		int len = snprintf(traceparent, sizeof traceparent, "00-" STR_FMT "-%.16s-01", STR_ARG(c->trace_id),
		                   c->trace_id.p);

		env.traceparent = (struct str){ traceparent, (size_t)len };
	}
	r = envelope_send(c->calls->r->bus, "waddle.responses.http", (struct str){ key, (size_t)n }, &env, &c->resp,
	                  acknowledged, c);
	if (r == -EAGAIN) {
		timer_start(c->calls->r->s, &c->timer, SEND_AGAIN_MS, respond, c);
	} else if (r != 0) {
		/* Each part is within its limit, the whole is not: once more, without it. */
		if (c->end.outcome == CALL_BAD_RESPONSE) {
			log_error(NULL, "call_lost", "the answer of %s cannot be sent: %d", c->id, r);
			call_free(c);
			return;
		}
		c->end.outcome = CALL_BAD_RESPONSE;
		call_failed(c);
		timer_start(c->calls->r->s, &c->timer, 0, respond, c);
	}
}

static void recorded(void *arg, const struct db_result *res, const struct err *err)
{
	struct call *c = arg;

	IS_A(c, CALL_MAGIC);
	if (err != NULL) {
		log_rarely(5000, L_WARN, NULL, "call_unrecorded", "it will be made again: %s", err->text);
		call_free(c);
		return;
	}
	/* Settled meanwhile: by an answer posted while the call was open, or by its time-out.  What came
	 * back is still worth saying, unless another caller has the row. */
	if (db_int(res, 0, 0) == 0 && (!c->says || db_bool(res, 0, 2) || clock_mono_ms() >= c->lease_mono_ms)) {
		call_free(c);
		return;
	}
	c->resp.response_index = db_int(res, 0, 1);
	call_move(c, CALL_SENDING);
	respond(c);
}

static int64_t code_of(const struct call *c)
{
	switch (c->end.outcome) {
	case CALL_TIMEOUT:
		return 504;
	case CALL_MODULE_FAILED:
		return c->end.status >= 300 ? c->end.status : 502;
	case CALL_URL_REFUSED:
		return 403;
	case CALL_UNREACHABLE:
	case CALL_BAD_RESPONSE:
		return 502;
	case CALL_ANSWERED:
	case CALL_REFUSED:
	case CALL_OUTCOME_COUNT:
		break;
	}
	return 0;               /* replies.c: 200 or 422 */
}

/* Into the row first: what the response does not tell, and until when it may take to arrive. */
static void record(struct call *c)
{
	bool failed = c->end.outcome != CALL_ANSWERED && c->end.outcome != CALL_REFUSED;
	struct str why = STR_NONE;
	int r;

	metric_add(&ended, METRIC_AT(&ended, (unsigned)c->type, c->end.outcome), 1);
	if (failed) {
		/* A time-out is one word: replies.c and explain look for it. */
		why = c->end.outcome == CALL_TIMEOUT || c->end.detail.n == 0 ?
			arena_printf(c->mem, "%s", outcomes[c->end.outcome]) :
			arena_printf(c->mem, "%s: " STR_FMT, outcomes[c->end.outcome],
		                     STR_ARG(str_clip(c->end.detail, 300)));
		call_failed(c);
		log_rarely(1000, L_WARN, NULL, "call_failed", STR_FMT STR_FMT ": " STR_FMT, STR_ARG(c->prefix),
		           STR_ARG(c->command), STR_ARG(why));
	}
	call_move(c, CALL_RECORDING);
	r = db_query(c->calls->r->db, (struct db_opts){ .to = DB_WRITE }, recorded, c,
	             "WITH u AS (UPDATE command_executions SET response_status = $4, error_message = $5, "
	             "retry_count = $6, "
	             "lease_until = date_trunc('milliseconds', now()) + $7 * interval '1 ms' "
	             "WHERE execution_id = $1 AND created_at = $2 AND status = 'pending' AND lease_until = $3 "
	             "RETURNING 1) "
	             "SELECT (SELECT count(*) FROM u), (SELECT coalesce(max(response_index) + 1, 0) "
	             "FROM module_responses WHERE execution_id = $1 AND created_at = $2), "
	             "coalesce((SELECT status = 'pending' FROM command_executions WHERE execution_id = $1 "
	             "AND created_at = $2), true)",
	             DB_STR(str_of(c->id)), DB_TIME(c->created_ms), DB_TIME(c->lease_ms),
	             code_of(c) != 0 ? DB_INT(code_of(c)) : DB_NULL, why.p != NULL ? DB_STR(why) : DB_NULL,
	             DB_INT(c->retries), DB_INT(RECORD_LEASE_MS));
	if (r != 0)
		call_free(c);   /* the queue is full: the lease runs out */
}

/* --- attempts ------------------------------------------------------------------------------ */

static void try_now(void *arg)
{
	struct call *c = arg;

	IS_A(c, CALL_MAGIC);
	if (c->state == CALL_PAUSED)
		call_move(c, CALL_TRYING);
	metric_add(&tries, 0, 1);
	call_try(c);
}

static void extended(void *arg, const struct db_result *res, const struct err *err)
{
	struct call *c = arg;
	int64_t wait_ms = c->end.wait_ms;

	IS_A(c, CALL_MAGIC);
	if (err != NULL || db_rows(res) == 0 || service_draining(c->calls->r->s)) {
		call_free(c);   /* not ours any more; or another replica goes on when the lease is over */
		return;
	}
	c->lease_ms = db_time(res, 0, 0);
	c->lease_mono_ms = clock_mono_ms() + wait_ms + c->timeout_ms + LEASE_MORE_MS / 2;
	timer_start(c->calls->r->s, &c->timer, wait_ms, try_now, c);
}

static bool may_repeat(struct call *c)
{
	int64_t wait_ms;

	if (!c->end.again || c->retries >= REPEATS || (c->type != ENDPOINT_LAMBDA && c->type != ENDPOINT_OPENWHISK))
		return false;
	wait_ms = waits_ms[c->retries];
	if (c->end.wait_ms < wait_ms)
		c->end.wait_ms = wait_ms;
	return clock_mono_ms() + c->end.wait_ms < c->due_mono_ms;
}

void call_tried(struct call *c)
{
	IS_A(c, CALL_MAGIC);
	if (c->calls->closing) {
		call_free(c);
		return;
	}
	if (!may_repeat(c)) {
		record(c);
		return;
	}
	c->retries++;
	call_move(c, CALL_PAUSED);
	if (db_query(c->calls->r->db, (struct db_opts){ .to = DB_WRITE }, extended, c,
	             "UPDATE command_executions SET retry_count = $4, "
	             "lease_until = date_trunc('milliseconds', now()) + $5 * interval '1 ms' "
	             "WHERE execution_id = $1 AND created_at = $2 AND status = 'pending' AND lease_until = $3 "
	             "RETURNING lease_until",
	             DB_STR(str_of(c->id)), DB_TIME(c->created_ms), DB_TIME(c->lease_ms), DB_INT(c->retries),
	             DB_INT(c->end.wait_ms + c->timeout_ms + LEASE_MORE_MS)) != 0)
		call_free(c);
}

/* --- taking a row -------------------------------------------------------------------------- */

static bool unseal(struct call *c, const struct db_result *res, int col, const char *column, struct str *ret)
{
	struct seal *seal = c->calls->r->seal;
	struct str sealed = db_bytes(res, 0, col, c->mem);
	int64_t command_id = db_int(res, 0, 16);
	int r;

	*ret = STR_NONE;
	if (db_null(res, 0, col))
		return true;
	r = seal == NULL ? -ENOKEY : crypto_unseal(seal, sign_place(c->mem, column, command_id), sealed, c->mem, ret);
	if (r != 0)
		log_rarely(5000, L_ERROR, NULL, "secret_sealed", "%s of command %lld cannot be opened: %d", column,
		           (long long)command_id, r);
	return r == 0;
}

static bool read_secrets(struct call *c, const struct db_result *res)
{
	struct str hidden, plain = db_str(res, 0, 7);
	size_t n = 0;

	c->header = arena_alloc(c->mem, 2 * HEADERS_EACH * sizeof c->header[0]);
	if (js_texts(plain, c->header, HEADERS_EACH, &n, c->mem, NULL) != 0)
		return false;
	c->n_headers = n;
	if (!unseal(c, res, 8, "commands.secret_headers", &hidden))
		return false;
	if (hidden.n > 0 && js_texts(hidden, c->header + n, HEADERS_EACH, &c->n_secret, c->mem, NULL) != 0)
		return false;
	c->n_headers += c->n_secret;
	for (int i = 0; i < 2; i++) {
		if (!unseal(c, res, 9 + i, "commands.signing_secret", &c->secret[c->n_secrets]))
			return false;
		c->n_secrets += c->secret[c->n_secrets].n > 0;
	}
	return true;
}

static struct str keep(struct call *c, const struct db_result *res, int col)
{
	return arena_str(c->mem, db_str(res, 0, col));
}

static void give_up(struct call *c, enum call_outcome outcome, const char *detail)
{
	c->end = (struct call_end){ .outcome = outcome, .detail = str_of(detail) };
	record(c);
}

static void claimed(void *arg, const struct db_result *res, const struct err *err)
{
	struct call *c = arg;
	int64_t left_ms;

	IS_A(c, CALL_MAGIC);
	if (err != NULL || db_rows(res) == 0) {
		if (err != NULL)
			log_rarely(5000, L_WARN, NULL, "call_unclaimed", "somebody will find it: %s", err->text);
		call_free(c);   /* settled, or somebody else calls */
		return;
	}
	c->mem = arena_new(8192, 64 << 20);
	c->lease_ms = db_time(res, 0, 0);
	left_ms = db_int(res, 0, 1);
	c->retries = (int)db_int(res, 0, 2);
	c->type = js_name(endpoint_names, db_str(res, 0, 3));
	c->type = c->type < 0 ? ENDPOINT_WEBHOOK : c->type;
	c->method = keep(c, res, 4);
	c->timeout_ms = db_int(res, 0, 5) * 1000;
	c->lease_mono_ms = clock_mono_ms() + c->timeout_ms + LEASE_MORE_MS / 2;
	c->due_mono_ms = clock_mono_ms() + left_ms;
	c->url = keep(c, res, 6);
	c->body = keep(c, res, 11);
	c->platform = keep(c, res, 12);
	c->session_id = keep(c, res, 13);
	c->module = keep(c, res, 14);
	c->trace_id = keep(c, res, 15);
	c->prefix = keep(c, res, 17);
	c->command = keep(c, res, 18);
	if (c->type == ENDPOINT_OPENWHISK)
		c->method = STR("POST");
	if (left_ms <= 0) {
		give_up(c, CALL_TIMEOUT, "");
	} else if (!breaker_allows(c->calls->breaker, c->url, clock_mono_ms())) {
		give_up(c, CALL_UNREACHABLE, "it failed several times in a row and is left alone for a while");
	} else {
		c->asked = true;
		if (!read_secrets(c, res)) {
			give_up(c, CALL_MODULE_FAILED, "its headers or secrets cannot be read");
			return;
		}
		call_move(c, CALL_TRYING);
		try_now(c);
	}
}

static void claim(struct call *c)
{
	struct calls *cs = c->calls;
	int r;

	cs->n_waiting--;
	cs->n_running++;
	slot_of(cs, c->community_id, "", true)->n++;
	slot_of(cs, 0, c->host, true)->n++;
	service_hold(cs->r->s);
	call_move(c, CALL_CLAIMING);
	r = db_query(cs->r->db, (struct db_opts){ .to = DB_WRITE }, claimed, c,
	             "UPDATE command_executions e SET sent_at = coalesce(e.sent_at, now()), waits = NULL, "
	             "lease_until = date_trunc('milliseconds', now()) + c.timeout * interval '1 s' + "
	             "$3 * interval '1 ms' FROM commands c, entities n "
	             "WHERE e.execution_id = $1 AND e.created_at = $2 AND e.status = 'pending' "
	             "AND (e.lease_until IS NULL OR e.lease_until < now() OR e.waits = 'turn') "
	             "AND c.id = e.command_id AND n.entity_id = e.entity_id "
	             "RETURNING e.lease_until, "
	             "(extract(epoch FROM e.sent_at + $4 * interval '1 ms' - now()) * 1000)::bigint, e.retry_count, "
	             "c.type, c.method, c.timeout, e.location_url, c.headers::text, c.secret_headers, "
	             "c.signing_secret, CASE WHEN c.previous_secret_until > now() THEN c.previous_secret END, "
	             "(e.request_payload || jsonb_build_object('context', jsonb_build_object("
	             "'platform', n.platform, 'server_id', n.server_id, 'channel_id', n.channel_id, "
	             "'entity_id', e.entity_id, 'message_id', e.request_payload #>> '{event_data,message_id}', "
	             "'timestamp', to_char(e.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'))))::text, "
	             "n.platform, e.session_id, e.module_name, e.trace_id, c.id, c.prefix, c.command",
	             DB_STR(str_of(c->id)), DB_TIME(c->created_ms), DB_INT(LEASE_MORE_MS),
	             DB_INT(cs->r->settings->http_total_ms));
	if (r != 0)
		call_free(c);
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
		(void)snprintf(text, 300, "%s://" STR_FMT ":%u", u.https ? "https" : "http", STR_ARG(u.host), u.port);
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

/* What waits here is found by others; what runs is held and may end. */
void calls_drain(struct calls *cs)
{
	if (cs == NULL)
		return;
	timer_stop(&cs->sweep);
	while (!list_empty(&cs->in[CALL_WAITING]))
		call_free(CONTAINER_OF(list_first(&cs->in[CALL_WAITING]), struct call, node));
}

/* Before db_close(), fetch_close() and bus_close(): their callbacks free what is still under way. */
void calls_close(struct calls *cs)
{
	if (cs == NULL)
		return;
	calls_drain(cs);
	cs->closing = true;
	LIST_EACH(n, tmp, &cs->in[CALL_PAUSED]) {
		struct call *c = CONTAINER_OF(n, struct call, node);

		if (timer_running(&c->timer))
			call_free(c);
	}
	LIST_EACH(n, tmp, &cs->in[CALL_TRYING]) {
		struct call *c = CONTAINER_OF(n, struct call, node);

		if (c->job == NULL)             /* between two requests for an activation's result */
			call_free(c);
	}
	LIST_EACH(n, tmp, &cs->in[CALL_SENDING]) {
		struct call *c = CONTAINER_OF(n, struct call, node);

		if (timer_running(&c->timer))
			call_free(c);
	}
	maybe_free(cs);
}

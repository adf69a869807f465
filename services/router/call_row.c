/* call_row.c - a call and its row: taken under a lease, moved on by each attempt, settled by a response.
 *
 * The lease is the time we wrote into lease_until; whoever finds another one there has lost the row.
 * What a response cannot tell - the endpoint's code, why it failed, how often it was asked - is noted
 * before the response is sent; the row itself is settled by replies.c, as every other. */
#include "call.h"
#include "crypto.h"
#include "err.h"
#include "fetch.h"
#include "log.h"
#include "metrics.h"
#include "service.h"
#include "sign.h"

enum { LEASE_MORE_MS = 10000, RECORD_LEASE_MS = 30000, SEND_AGAIN_MS = 50, HEADERS_EACH = 20, REPEATS = 3 };

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
struct metric *const call_row_metrics[] = { &ended, &tries, NULL };

/* --- the answer on its way ----------------------------------------------------------------- */

static void acknowledged(void *arg, const struct err *err)
{
	struct call *c = arg;

	IS_A(c, CALL_MAGIC);
	(void)err;              /* closing: the lease runs out, another replica calls again */
	call_gone(c);
}

static void respond(void *arg)
{
	struct call *c = arg;
	char key[24], traceparent[56];
	int n = snprintf(key, sizeof key, "%lld", (long long)c->community_id);
	struct envelope env = { .kind = ENV_RESPONSE,
		                .source = STR("waddle/router"),
		                .created_ms = c->created_ms };
	int r;

	IS_A(c, CALL_MAGIC);
	if (c->trace_id.n == 32) {
		int len = snprintf(traceparent, sizeof traceparent, "00-" STR_FMT "-%.16s-01",
		                   STR_ARG(c->trace_id), c->trace_id.p);

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
			call_gone(c);
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
		call_gone(c);
		return;
	}
	/* Settled meanwhile: by an answer posted while the call was open, or by its time-out.  What came
	 * back is still worth saying, unless another caller has the row. */
	if (db_int(res, 0, 0) == 0 &&
	    (!c->says || db_bool(res, 0, 2) || clock_mono_ms() >= c->lease_mono_ms)) {
		call_gone(c);
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
		log_rarely(1000, L_WARN, NULL, "call_failed", STR_FMT STR_FMT ": " STR_FMT,
		           STR_ARG(c->prefix), STR_ARG(c->command), STR_ARG(why));
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
		call_gone(c);   /* the queue is full: the lease runs out */
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

static void given_back(void *arg, const struct db_result *res, const struct err *err)
{
	struct call *c = arg;

	IS_A(c, CALL_MAGIC);
	(void)res, (void)err;
	call_gone(c);
}

static void release(struct call *c)
{
	c->asked = false;
	call_move(c, CALL_RELEASING);
	if (db_query(c->calls->r->db, (struct db_opts){ .to = DB_WRITE }, given_back, c,
	             "UPDATE command_executions SET lease_until = now(), retry_count = $4 "
	             "WHERE execution_id = $1 AND created_at = $2 AND status = 'pending' AND lease_until = $3",
	             DB_STR(str_of(c->id)), DB_TIME(c->created_ms), DB_TIME(c->lease_ms), DB_INT(c->retries)) != 0)
		call_gone(c);
}

void call_release(struct call *c)
{
	IS_A(c, CALL_MAGIC);
	if (c->job != NULL) {
		c->released = true;
		fetch_cancel(c->job);           /* call_tried() comes */
	} else if (timer_running(&c->timer)) {
		timer_stop(&c->timer);
		release(c);
	}                                       /* else the database has the word: extended() */
}

static void extended(void *arg, const struct db_result *res, const struct err *err)
{
	struct call *c = arg;
	int64_t wait_ms = c->end.wait_ms;

	IS_A(c, CALL_MAGIC);
	if (err != NULL || db_rows(res) == 0) {
		call_gone(c);   /* not ours any more, or nobody knows: the lease ends by itself */
		return;
	}
	c->lease_ms = db_time(res, 0, 0);
	if (service_draining(c->calls->r->s)) {
		release(c);
		return;
	}
	c->lease_mono_ms = clock_mono_ms() + wait_ms + c->timeout_ms + LEASE_MORE_MS / 2;
	timer_start(c->calls->r->s, &c->timer, wait_ms, try_now, c);
}

static bool may_repeat(struct call *c)
{
	int64_t wait_ms;

	if (!c->end.again || c->retries >= REPEATS ||
	    (c->type != ENDPOINT_LAMBDA && c->type != ENDPOINT_OPENWHISK))
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
		call_gone(c);
		return;
	}
	if (c->released) {
		release(c);
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
		call_gone(c);
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
	r = seal == NULL ? -ENOKEY :
	                   crypto_unseal(seal, sign_place(c->mem, column, command_id), sealed, c->mem, ret);
	if (r != 0)
		log_rarely(5000, L_ERROR, NULL, "secret_sealed", "%s of command %lld cannot be opened: %d",
		           column, (long long)command_id, r);
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
			log_rarely(5000, L_WARN, NULL, "call_unclaimed", "somebody will find it: %s",
			           err->text);
		call_gone(c);   /* settled, or somebody else calls */
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
		give_up(c, CALL_UNREACHABLE,
		        "it failed several times in a row and is left alone for a while");
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

void call_claim(struct call *c)
{
	struct calls *cs = c->calls;
	int r = db_query(cs->r->db, (struct db_opts){ .to = DB_WRITE }, claimed, c,
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
		call_gone(c);           /* the queue is full: somebody will find it */
}

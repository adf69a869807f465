/* call_send.c - one attempt of a call: the request as router.md 11 words it, and what became of it.
 *
 * The body is the same text at every attempt, so is the webhook-id; only the time of the signature
 * moves.  OpenWhisk may answer 202 with an activation: its result is then asked for each second. */
#include "call.h"
#include "clock.h"
#include "err.h"
#include "fetch.h"
#include "guard.h"
#include "log.h"
#include "metrics.h"
#include "service.h"
#include "sign.h"

enum { POLL_MS = 1000, POLL_TIMEOUT_MS = 5000, RETRY_AFTER_MAX_S = 10, URL_MAX = 8192, CALL_TIME_LEFT_MS = 5 };

static const char *const guard_reasons[GUARD_REASONS] = {
	[GUARD_FINE] = "other", [GUARD_MALFORMED] = "malformed", [GUARD_SCHEME] = "scheme",
	[GUARD_USER] = "user_info", [GUARD_PORT] = "port", [GUARD_NAME] = "host_name",
	[GUARD_NUMBER] = "host_number", [GUARD_ADDRESS] = "address",
};
METRIC_BY(refusals, METRIC_COUNTER, "waddle_router_url_refused_total",
          "Calls not made because of where their URL leads.", "reason", guard_reasons);
struct metric *const call_send_metrics[] = { &refusals, NULL };

struct lines { const char *at[CALL_HEADERS + 16]; size_t n; };

static void line(struct lines *l, struct str text)
{
	if (text.p != NULL && l->n + 1 < ARRAY_LEN(l->at))
		l->at[l->n++] = text.p;
}

/* What an own header may not set: ours, and those that say how the request is framed. */
static bool is_ours(struct str name)
{
	static const char *const names[] = { "Host", "Content-Length", "Connection", "Transfer-Encoding", "Expect",
	                                     "Upgrade", "TE", "Trailer", "Accept-Encoding", "User-Agent", "traceparent",
	                                     "aws_access_key_id", "aws_secret_access_key", "aws_region",
	                                     "aws_session_token" };
	static const struct str starts[] = { STR("webhook-"), STR("x-waddlebot-") };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_eq_fold(name, str_of(names[i])))
			return true;
	for (size_t i = 0; i < ARRAY_LEN(starts); i++)
		if (name.n >= starts[i].n && str_eq_fold((struct str){ name.p, starts[i].n }, starts[i]))
			return true;
	return false;
}

static struct str secret_header(const struct call *c, const char *name)
{
	for (size_t i = c->n_headers - c->n_secret; i < c->n_headers; i++)
		if (str_eq_fold(c->header[i].name, str_of(name)))
			return c->header[i].value;
	return STR_NONE;
}

static bool has_header(const struct call *c, struct str name)
{
	for (size_t i = 0; i < c->n_headers; i++)
		if (str_eq_fold(c->header[i].name, name))
			return true;
	return false;
}

static bool has_body(const struct call *c)
{
	return !str_eq(c->method, STR("GET")) && !str_eq(c->method, STR("DELETE"));
}

static void sign_for_aws(struct call *c, struct lines *l, struct str url, struct str body, struct err *err)
{
	const struct aws key = {
		.access_key = secret_header(c, "aws_access_key_id"), .region = secret_header(c, "aws_region"),
		.secret_key = secret_header(c, "aws_secret_access_key"), .service = STR("lambda"),
		.token = secret_header(c, "aws_session_token"),
	};
	struct url_pair h[4];
	struct str date, value;
	char at[CLOCK_TEXT];
	struct url u;
	size_t n = 0;

	if (c->type != ENDPOINT_LAMBDA || key.access_key.n == 0 || key.secret_key.n == 0 ||
	    key.region.n == 0 || url_split(url, &u) != 0)
		return;
	clock_text(clock_unix_ms(), at);        /* 2015-08-30T12:36:00.000Z */
	date = arena_printf(c->mem, "%.4s%.2s%.2sT%.2s%.2s%.2sZ", at, at + 5, at + 8, at + 11, at + 14,
	                    at + 17);
	value = u.port == (u.https ? 443 : 80) ? u.host :
	                                         arena_printf(c->mem, STR_FMT ":%u", STR_ARG(u.host), u.port);
	h[n++] = (struct url_pair){ STR("host"), value };
	h[n++] = (struct url_pair){ STR("x-amz-date"), date };
	line(l, arena_printf(c->mem, "X-Amz-Date: " STR_FMT, STR_ARG(date)));
	if (key.token.n > 0) {
		h[n++] = (struct url_pair){ STR("x-amz-security-token"), key.token };
		line(l, arena_printf(c->mem, "X-Amz-Security-Token: " STR_FMT, STR_ARG(key.token)));
	}
	if (sign_aws(&key, c->method.p, &u, h, n, date, body, c->mem, &value) != 0)
		(void)!err_set(err, -EINVAL, "cannot be signed for AWS");
	else
		line(l, arena_printf(c->mem, "Authorization: " STR_FMT, STR_ARG(value)));
}

static void headers(struct call *c, struct lines *l, struct str url, struct str body, struct err *err)
{
	struct str sig[SIGN_HEADERS];

	line(l, STR("User-Agent: WaddleBot-Router/1.0"));
	line(l, STR("X-WaddleBot-Source: router"));
	line(l, STR("X-WaddleBot-Type: community-interaction"));
	if (c->trace_id.n == 32)
		line(l, arena_printf(c->mem, "traceparent: 00-" STR_FMT "-%.16s-01", STR_ARG(c->trace_id),
		                     c->trace_id.p));
	if (body.n > 0 && !has_header(c, STR("Content-Type")))
		line(l, STR("Content-Type: application/json"));
	for (size_t i = 0; i < c->n_headers; i++)
		if (!is_ours(c->header[i].name))
			line(l, arena_printf(c->mem, STR_FMT ": " STR_FMT, STR_ARG(c->header[i].name),
			                     STR_ARG(c->header[i].value)));
	if (c->n_secrets == 0) {
		line(l, arena_printf(c->mem, "webhook-id: %s", c->id));
	} else if (sign_webhook(c->secret, c->n_secrets, str_of(c->id), clock_unix_ms() / 1000, body, c->mem,
	                        sig) != 0) {
		(void)!err_set(err, -EINVAL, "its signing secret is none");
	} else {
		for (size_t i = 0; i < SIGN_HEADERS; i++)
			line(l, sig[i]);
	}
	sign_for_aws(c, l, url, body, err);
}

static void add_pair(struct buf *b, const char *name, struct str value)
{
	buf_printf(b, "%s%s=", memchr(b->p, '?', b->n) != NULL ? "&" : "?", name);
	url_encode(value, b);
}

/* Without a body the command travels in the query. */
static struct str url_of(struct call *c)
{
	struct buf b = BUF(URL_MAX);
	struct command_msg m;
	struct str rest, base = str_cut(c->url, '#', &rest), ret = STR_NONE;
	struct err err;
	char number[24];

	buf_add(&b, base);
	if (c->type == ENDPOINT_OPENWHISK && memchr(base.p, '?', base.n) == NULL)
		buf_add(&b, STR("?blocking=true&result=true"));
	if (!has_body(c) && b.n > 0 &&
	    js_decode(c->body, envelope_fields[ENV_COMMAND], &m, c->mem, &err) == 0) {
		add_pair(&b, "execution_id", m.execution_id);
		add_pair(&b, "session_id", m.session_id);
		add_pair(&b, "command", m.command);
		for (size_t i = 0; i < m.parameters.n; i++)
			add_pair(&b, "param", ((const struct str *)m.parameters.items)[i]);
		add_pair(&b, "user_id", m.user.id);
		add_pair(&b, "user_name", m.user.name);
		add_pair(&b, "entity", m.entity);
		(void)snprintf(number, sizeof number, "%lld", (long long)m.community_id);
		add_pair(&b, "community_id", str_of(number));
	}
	if (buf_str(&b, &ret) == 0)
		ret = arena_str(c->mem, ret);
	else
		ret = STR_NONE;
	buf_clear(&b);
	return ret;
}

/* --- how it ended -------------------------------------------------------------------------- */

static void refused(struct call *c, const struct err *err)
{
	const char *last = strrchr(err->text, ' ');
	unsigned reason = GUARD_FINE;

	for (unsigned i = 1; last != NULL && i < GUARD_REASONS; i++)
		if (strcmp(last + 1, guard_reason_name((enum guard_reason)i)) == 0)
			reason = i;
	metric_add(&refusals, reason, 1);
	c->end.outcome = CALL_URL_REFUSED;
	c->end.detail = str_of(guard_reasons[reason]);
}

static void broken(struct call *c, const struct err *err)
{
	c->end = (struct call_end){ .outcome = CALL_UNREACHABLE, .again = true };
	c->end.detail = arena_printf(c->mem, "%s", err->text);
	if (err_kind(err) == ERR_DENIED) {
		c->end.again = false;
		refused(c, err);
	} else if (err->code == -EMSGSIZE || err->code == -EBADMSG) {
		c->end.outcome = CALL_BAD_RESPONSE;
		c->end.again = err->code == -EBADMSG;
	} else if (clock_mono_ms() + CALL_TIME_LEFT_MS >= c->try_mono_ms) {
		c->end.outcome = CALL_TIMEOUT;
	}
}

struct activation { struct str activationId; };
static const struct js_field activation_fields[] = { JS(struct activation, activationId, JS_STR, .min = 1, .max = 64), { 0 } };

/* ".../actions/[package/]name?..." -> ".../activations/<id>/result" */
static bool activated(struct call *c, const struct fetch_result *res)
{
	struct activation a;
	struct str rest, base = str_cut(c->url, '?', &rest);
	const char *actions;

	if (js_decode(res->body, activation_fields, &a, c->mem, NULL) != 0)
		return false;
	for (size_t i = 0; i < a.activationId.n; i++)
		if (strchr("0123456789abcdefABCDEF-", a.activationId.p[i]) == NULL)
			return false;
	actions = memmem(base.p, base.n, "/actions/", 9);
	if (actions == NULL)
		return false;
	c->activation = arena_printf(c->mem, "%.*s/activations/" STR_FMT "/result", (int)(actions - base.p),
	                             base.p, STR_ARG(a.activationId));
	return c->activation.p != NULL;
}

static void poll_later(struct call *c);

static void answered(void *arg, const struct fetch_result *res, const struct err *err)
{
	struct call *c = arg;
	bool polled = c->activation.p != NULL;
	int64_t wait_s = 0;

	IS_A(c, CALL_MAGIC);
	c->job = NULL;
	if (c->released || c->calls->closing) {
		call_tried(c);
		return;
	}
	if (polled && ((err != NULL && err_kind(err) != ERR_DENIED) || (res != NULL && res->status == 404)) &&
	    clock_mono_ms() + POLL_MS < c->try_mono_ms) {
		poll_later(c);                  /* not there yet, or not this time */
		return;
	}
	if (err != NULL) {
		broken(c, err);
	} else if (c->type == ENDPOINT_OPENWHISK && !polled && res->status == 202 && activated(c, res)) {
		poll_later(c);
		return;
	} else if (polled && res->status == 404) {
		c->end = (struct call_end){ .outcome = CALL_TIMEOUT,
			                    .again = true,
			                    .detail = STR("no result in time") };
	} else {
		call_answer(c, res->status, res->header(res, "Content-Type"),
		            c->type == ENDPOINT_LAMBDA && res->header(res, "X-Amz-Function-Error").n > 0,
		            res->body, polled);
		if (c->end.again && str_int(res->header(res, "Retry-After"), 0, 86400, &wait_s) == 0)
			c->end.wait_ms = (wait_s < RETRY_AFTER_MAX_S ? wait_s : RETRY_AFTER_MAX_S) * 1000;
	}
	call_tried(c);
}

/* Asks for what is there now; its end is answered(), at once only by way of the next turn. */
static void gone(void *arg)
{
	struct call *c = arg;

	IS_A(c, CALL_MAGIC);
	call_tried(c);
}

static void go(struct call *c, struct fetch *f, struct lines *l, struct err *err)
{
	int r = err->code;

	l->at[l->n] = NULL;
	f->headers = l->at;
	f->where = FETCH_PUBLIC;
	f->fresh = true;
	if (r == 0)
		r = fetch_start(c->calls->r->fetch, f, answered, c, &c->job, err);
	if (r == 0)
		return;
	broken(c, err);
	if (r == -EINVAL) {
		c->end.outcome = CALL_MODULE_FAILED;
		c->end.again = false;
	}
	c->job = NULL;
	timer_start(c->calls->r->s, &c->timer, 0, gone, c);
}

static void poll(void *arg)
{
	struct call *c = arg;
	int64_t left = c->try_mono_ms - clock_mono_ms();
	struct fetch f = { .method = "GET", .url = c->activation,
		           .timeout_ms = (int)(left < 1 ? 1 : left < POLL_TIMEOUT_MS ? left : POLL_TIMEOUT_MS) };
	struct lines l = { .n = 0 };
	struct err err = { 0 };
	struct str credentials = secret_header(c, "Authorization");

	IS_A(c, CALL_MAGIC);
	line(&l, STR("User-Agent: WaddleBot-Router/1.0"));
	if (credentials.n > 0)
		line(&l, arena_printf(c->mem, "Authorization: " STR_FMT, STR_ARG(credentials)));
	go(c, &f, &l, &err);
}

static void poll_later(struct call *c)
{
	timer_start(c->calls->r->s, &c->timer, POLL_MS, poll, c);
}

void call_try(struct call *c)
{
	int64_t left = c->due_mono_ms - clock_mono_ms();
	struct fetch f = { .method = c->method.p };
	struct lines l = { .n = 0 };
	struct err err = { 0 };

	if (left > c->timeout_ms)
		left = c->timeout_ms;
	if (left < 1)
		left = 1;
	c->try_mono_ms = clock_mono_ms() + left;
	c->activation = STR_NONE;
	f.timeout_ms = (int)left;
	f.url = url_of(c);
	f.body = has_body(c) ? c->body : STR_NONE;
	if (f.url.p == NULL)
		(void)!err_set(&err, -EINVAL, "its URL is too long");
	else
		headers(c, &l, f.url, f.body, &err);
	go(c, &f, &l, &err);
}

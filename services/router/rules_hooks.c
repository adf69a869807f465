/* rules_hooks.c - takes due calls from the table, makes them, writes what became of them. */
#include "rules_hooks.h"
#include "rules_act.h"
#include "router.h"
#include "clock.h"
#include "columns.h"
#include "err.h"
#include "fetch.h"
#include "ids.h"
#include "log.h"
#include "metrics.h"
#include "service.h"
#include "sign.h"

enum { MAX_CALLS = 32, TIMEOUT_MS = 10000, ATTEMPTS = 4, LOOK_MS = 5000, COLUMNS = 6, HEADERS = 8,
	FORGET_EVERY_MS = 3600000 };

static const char *const outcome_names[] = { "done", "again", "given_up" };
METRIC_BY(outcomes, METRIC_COUNTER, "waddle_router_rule_calls_total", "Attempts to call a rule's webhook.", "outcome",
          outcome_names);
METRIC(running_now, METRIC_GAUGE, "waddle_router_rule_calls_running", "Webhooks of rules being called.");
struct metric *const rules_hooks_metrics[] = { &outcomes, &running_now, NULL };

struct hook {
	struct list         node;
	struct rules_hooks *h;
	struct arena       *mem;
	struct str          event_id;
	int64_t             rule_id, attempt;
};

struct rules_hooks {
	struct router *r;
	struct list    running;
	size_t         n_running;
	struct timer   look, soon;
	int64_t        forgot_mono_ms;
	bool           looking, again, draining;
};

static void look(void *arg);

/* --- writing ------------------------------------------------------------------------------- */

int rules_hooks_write(struct rules_hooks *h, struct db_tx *tx, const struct list *works, struct arena *mem)
{
	struct columns cols;
	struct db_param param[COLUMNS];
	size_t n = 0;

	(void)h;
	LIST_EACH(pos, tmp, works) {
		const struct rule_effect *e = CONTAINER_OF(pos, struct work, node)->rule.of;

		n += e != NULL && e->hook_url.n > 0;
	}
	if (n == 0)
		return 0;
	columns_init(&cols, mem, COLUMNS, n);
	LIST_EACH(pos, tmp, works) {
		const struct work *w = CONTAINER_OF(pos, struct work, node);
		const struct rule_effect *e = w->rule.of;

		if (e != NULL && e->hook_url.n > 0)
			columns_add(&cols, ROW(DB_STR(w->ev.event_id), DB_INT(w->rule.id), DB_STR(e->hook_url),
			                       DB_STR(e->hook_body), DB_STR(str_of(w->trace_id)),
			                       DB_TIME(w->ev.received_at_ms)));
	}
	columns_params(&cols, param);
	return db_tx_send(tx, NULL, NULL,
	                  "INSERT INTO rule_calls (event_id, rule_id, url, body, trace_id, created_at) "
	                  "SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], "
	                  "$6::timestamptz[]) ON CONFLICT DO NOTHING",
	                  param, COLUMNS);
}

/* --- calling ------------------------------------------------------------------------------- */

static void hook_free(struct hook *k)
{
	list_del(&k->node);
	k->h->n_running--;
	metric_set(&running_now, 0, (int64_t)k->h->n_running);
	service_release(k->h->r->s);
	arena_free(k->mem);
	free(k);
}

static void recorded(void *arg, const struct db_result *res, const struct err *err)
{
	struct hook *k = arg;
	struct rules_hooks *h = k->h;

	(void)res;
	if (err != NULL)                /* its lease ends, then it is called again */
		log_rarely(10000, L_WARN, NULL, "rule_call_unrecorded", "%s", err->text);
	hook_free(k);
	if (h->again)
		look(h);
}

static void record(struct hook *k, bool done, int64_t wait_ms, int status, const char *error)
{
	struct rules_hooks *h = k->h;

	metric_add(&outcomes, done ? error == NULL ? 0 : 2 : 1, 1);
	if (db_query(h->r->db, ((struct db_opts){ .to = DB_WRITE }), recorded, k,
	             "UPDATE rule_calls SET done_at = CASE WHEN $3::boolean THEN now() END, "
	             "due_at = now() + $4::integer * interval '1 ms', response_status = nullif($5::integer, 0), "
	             "error = $6::text WHERE event_id = $1::text AND rule_id = $2::bigint AND attempts = $7::integer",
	             DB_STR(k->event_id), DB_INT(k->rule_id), DB_BOOL(done), DB_INT(wait_ms), DB_INT(status),
	             error != NULL ? DB_STR(str_of(error)) : DB_NULL, DB_INT(k->attempt)) != 0)
		hook_free(k);
	else if (!done && !h->draining && (!timer_running(&h->soon) || h->soon.due_mono_ms > clock_mono_ms() + wait_ms))
		timer_start(h->r->s, &h->soon, wait_ms + 20, look, h);
}

static void answered(void *arg, const struct fetch_result *res, const struct err *err)
{
	static const int64_t waits_ms[ATTEMPTS] = { 1000, 4000, 16000, 0 };
	struct hook *k = arg;
	bool fine = err == NULL && res->status / 100 == 2, last = k->attempt >= ATTEMPTS, repeat;
	char text[280];

	if (err != NULL && err->code == -ECANCELED) {
		hook_free(k);           /* the process ends: its lease will, too */
		return;
	}
	repeat = err != NULL ? err_kind(err) == ERR_AGAIN || err_kind(err) == ERR_UNKNOWN :
	                       res->status == 429 || res->status >= 500;
	if (err != NULL)
		(void)snprintf(text, sizeof text, "%s", err->text);
	else
		(void)snprintf(text, sizeof text, "answered %d", res->status);
	record(k, fine || last || !repeat, fine || last ? 0 : waits_ms[k->attempt - 1],
	       err == NULL ? res->status : 0, fine ? NULL : text);
}

static void refused(struct hook *k, const struct err *err)
{
	record(k, true, 0, 0, err->text);
}

static int post(struct hook *k, struct str url, struct str body, struct str sealed, struct str trace, struct err *err)
{
	struct rules_hooks *h = k->h;
	struct str lines[HEADERS], secret = STR_NONE;
	const char *header[HEADERS + 1] = { NULL };
	char id[ID_TEXT];
	size_t n = 0;

	lines[n++] = STR("User-Agent: WaddleBot-Router/1.0");
	lines[n++] = STR("X-WaddleBot-Source: string-matcher");
	lines[n++] = STR("X-WaddleBot-Type: string-match-webhook");
	lines[n++] = arena_printf(k->mem, "traceparent: 00-" STR_FMT "-%.16s-01", STR_ARG(trace), trace.p);
	id_rule_webhook(k->event_id, k->rule_id, id);
	if (sealed.n > 0 && h->r->seal != NULL &&
	    crypto_unseal(h->r->seal, sign_place(k->mem, "stringmatch.signing_secret", k->rule_id), sealed,
	                  k->mem, &secret) != 0)
		return err_set(err, -EACCES, "the rule's signing secret cannot be opened");
	if (secret.n > 0) {
		if (sign_webhook(&secret, 1, str_of(id), clock_unix_ms() / 1000, body, k->mem, &lines[n]) != 0)
			return err_set(err, -EACCES, "the rule's signing secret is none");
		n += SIGN_HEADERS;
	} else {
		lines[n++] = arena_printf(k->mem, "webhook-id: %s", id);
	}
	for (size_t i = 0; i < n; i++)
		header[i] = arena_str(k->mem, lines[i]).p;
	return fetch_start(h->r->fetch,
	                   &(const struct fetch){ .method = "POST", .url = url, .headers = header, .body = body,
	                                          .where = FETCH_PUBLIC, .timeout_ms = TIMEOUT_MS },
	                   answered, k, NULL, err);
}

static void call(struct rules_hooks *h, const struct db_result *res, int row)
{
	struct hook *k = XNEW(struct hook);
	struct err err = { 0 };
	int r;

	k->h = h;
	k->mem = arena_new(4096, 4 << 20);
	list_add_tail(&h->running, &k->node);
	h->n_running++;
	metric_set(&running_now, 0, (int64_t)h->n_running);
	service_hold(h->r->s);
	k->event_id = arena_str(k->mem, db_str(res, row, 0));
	k->rule_id = db_int(res, row, 1);
	k->attempt = db_int(res, row, 4);
	r = post(k, arena_str(k->mem, db_str(res, row, 2)), arena_str(k->mem, db_str(res, row, 3)),
	         db_bytes(res, row, 5, k->mem), arena_str(k->mem, db_str(res, row, 6)), &err);
	if (r == -EAGAIN)
		hook_free(k);           /* all connections are taken; due again when its lease ends */
	else if (r != 0)
		refused(k, &err);
}

static void taken(void *arg, const struct db_result *res, const struct err *err)
{
	struct rules_hooks *h = arg;

	h->looking = false;
	if (err != NULL) {
		log_rarely(10000, L_WARN, NULL, "rule_calls_not_read", "%s", err->text);
		return;
	}
	for (int i = 0; i < db_rows(res) && !h->draining; i++)
		call(h, res, i);
	if (h->again || db_rows(res) == MAX_CALLS)
		look(h);
}

/* Rows stay for two days, so that an event that comes again finds its call made. */
static void forget_old(struct rules_hooks *h)
{
	if (h->forgot_mono_ms + FORGET_EVERY_MS > clock_mono_ms())
		return;
	h->forgot_mono_ms = clock_mono_ms();
	(void)!db_query(h->r->db, ((struct db_opts){ .to = DB_WRITE }), NULL, NULL,
	                "DELETE FROM rule_calls WHERE done_at < now() - interval '2 days'");
}

static void look(void *arg)
{
	struct rules_hooks *h = arg;

	if (h->draining)
		return;
	forget_old(h);
	if (!timer_running(&h->look))
		timer_start(h->r->s, &h->look, LOOK_MS, look, h);       /* what others have left behind */
	h->again = h->looking || h->n_running >= MAX_CALLS;
	if (h->again)
		return;
	/* The attempt and the writing of its end fit into 20 s. */
	h->looking = db_query(h->r->db, ((struct db_opts){ .to = DB_WRITE }), taken, h,
	                      "WITH due AS (SELECT event_id, rule_id FROM rule_calls WHERE done_at IS NULL "
	                      "AND due_at <= now() ORDER BY due_at LIMIT 32 FOR UPDATE SKIP LOCKED) "
	                      "UPDATE rule_calls c SET due_at = now() + interval '20 seconds', "
	                      "attempts = c.attempts + 1 FROM due WHERE c.event_id = due.event_id "
	                      "AND c.rule_id = due.rule_id RETURNING c.event_id, c.rule_id, c.url, c.body, "
	                      "c.attempts, (SELECT s.signing_secret FROM stringmatch s WHERE s.id = c.rule_id), "
	                      "c.trace_id") == 0;
}

void rules_hooks_due(struct rules_hooks *h)
{
	look(h);
}

struct rules_hooks *rules_hooks_open(struct router *r)
{
	struct rules_hooks *h = XNEW(struct rules_hooks);

	h->r = r;
	list_init(&h->running);
	h->forgot_mono_ms = clock_mono_ms();
	timer_start(r->s, &h->look, LOOK_MS, look, h);
	return h;
}

void rules_hooks_drain(struct rules_hooks *h)
{
	h->draining = true;
	timer_stop(&h->look);
	timer_stop(&h->soon);
}

void rules_hooks_close(struct rules_hooks *h)
{
	if (h == NULL)
		return;
	rules_hooks_drain(h);
	/* db_close() and fetch_close() have ended every call: nothing is left that could come back. */
	while (!list_empty(&h->running))
		hook_free(CONTAINER_OF(list_first(&h->running), struct hook, node));
	free(h);
}

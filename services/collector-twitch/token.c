/* token.c - who is to have a token asks here; one asks Twitch, the others read what it got.
 *
 * Under an advisory lock of the transaction: read the row; if it is another token than the refused
 * one and lives for five minutes, that is it; else ask Twitch, write, commit, use.  What a person
 * stores as client secret never leaves this file. */
#include "token.h"
#include "clock.h"
#include "crypto.h"
#include "err.h"
#include "fetch.h"
#include "list.h"
#include "log.h"
#include "metrics.h"
#include "service.h"
#include "url.h"

enum { LEFT_MS = 300000, TX_MS = 15000, CALL_MS = 8000, LIFE_MAX_S = 90 * 86400 };

static const char place[] = "twitch_tokens.access_token:app";

struct waiter { struct list node; token_done *done; void *arg; };

struct tokens {
	struct twitch *t;
	struct seal   *seal;
	struct arena  *mem, *next_mem;  /* of token, of the one being got */
	struct str     token, refused, next;
	int64_t        expires_at_ms, next_expires_at_ms;
	struct list    waiters;
	struct timer   turn;
	struct db_tx  *tx;
	struct err     err;
	bool           busy;
};

static const char *const results[] = { "read", "made", "failed" };
METRIC_BY(refreshes, METRIC_COUNTER, "waddle_collector_token_refresh_total", "App tokens looked for, by outcome.",
          "result", results);
struct metric *const token_metrics[] = { &refreshes, NULL };

static void look(void *arg);

static bool usable(const struct tokens *k)
{
	return k->token.n > 0 && !str_eq(k->token, k->refused) &&
	       k->expires_at_ms - clock_unix_ms() > LEFT_MS;
}

static void tell(struct tokens *k, const struct err *err)
{
	struct list now = { 0 };
	struct list *n;

	list_init(&now);
	while ((n = list_pop(&k->waiters)) != NULL)
		list_add_tail(&now, n);
	while ((n = list_pop(&now)) != NULL) {
		struct waiter *w = CONTAINER_OF(n, struct waiter, node);

		w->done(w->arg, err == NULL ? k->token : STR_NONE, err);
		free(w);
	}
}

static void failed(struct tokens *k, const struct err *err)
{
	struct err why = *err;

	k->busy = false;
	if (!db_closing(k->t->db))
		service_ready(k->t->s, "twitch-token", false);
	metric_add(&refreshes, 2, 1);
	log_rarely(60000, L_ERROR, NULL, "no_token", "nothing can be sent: %s", why.text);
	tell(k, &why);
}

static void committed(void *arg, const struct db_result *res, const struct err *err)
{
	struct tokens *k = arg;
	struct arena *old = k->mem;

	(void)res;
	k->tx = NULL;
	if (err != NULL) {
		failed(k, err);
		return;
	}
	k->busy = false;
	k->mem = k->next_mem;
	k->next_mem = old;
	k->token = k->next;
	k->expires_at_ms = k->next_expires_at_ms;
	k->refused = STR_NONE;          /* it is another one than this */
	arena_reset(old);
	service_ready(k->t->s, "twitch-token", true);
	tell(k, NULL);
}

static void aborted(struct tokens *k, const struct err *err)
{
	db_tx_abort(k->tx);
	k->tx = NULL;
	failed(k, err);
}

static void written(void *arg, const struct db_result *res, const struct err *err)
{
	(void)arg;
	(void)res;
	(void)err;              /* the commit reports it */
}

struct answer { struct str access_token; int64_t expires_in; };
static const struct js_field answer_fields[] = {
	JS(struct answer, access_token, JS_STR, .min = 1, .max = 4096),
	JS(struct answer, expires_in, JS_INT, .optional = true, .min = 1, .max = LIFE_MAX_S),
	{ 0 }
};

static void got(void *arg, const struct fetch_result *res, const struct err *err)
{
	struct tokens *k = arg;
	struct answer a;
	struct err why = { 0 };
	struct str sealed;

	if (k->tx == NULL)              /* the database has gone meanwhile: the commit says so */
		return;
	if (err != NULL) {
		aborted(k, err);
		return;
	}
	if (res->status != 200) {
		(void)err_set(&why, res->status >= 500 ? -EAGAIN : -EACCES,
		              "Twitch answers %d to the client credentials", res->status);
		aborted(k, &why);
		return;
	}
	if (js_decode(res->body, answer_fields, &a, k->next_mem, &why) != 0) {
		(void)err_wrap(&why, "token");
		aborted(k, &why);
		return;
	}
	k->next = a.access_token;
	k->next_expires_at_ms = clock_unix_ms() + (a.expires_in > 0 ? a.expires_in : 3600) * 1000;
	sealed = crypto_seal(k->seal, str_of(place), k->next, k->next_mem);
	metric_add(&refreshes, 1, 1);
	if (db_tx_query(k->tx, written, k,
	                "INSERT INTO twitch_tokens (team_id, access_token, expires_at) VALUES ('app', "
	                "$1::bytea, $2::timestamptz) "
	                "ON CONFLICT (team_id) DO UPDATE SET access_token = excluded.access_token, "
	                "expires_at = excluded.expires_at, is_valid = true",
	                DB_BYTES(sealed), DB_TIME(k->next_expires_at_ms)) != 0) {
		(void)err_set(&why, -EAGAIN, "the database's queue is full");
		aborted(k, &why);
		return;
	}
	db_tx_commit(k->tx, committed, k);
}

static void make(struct tokens *k)
{
	static const char *const headers[] = { "Content-Type: application/x-www-form-urlencoded", NULL };
	struct arena *mem = arena_new(1024, 64 * 1024);
	const struct twitch_settings *set = k->t->settings;
	struct err err = { 0 };
	struct buf form = BUF(4096);
	struct str body = STR_NONE;
	struct fetch call = {
		.method = "POST", .headers = headers, .where = FETCH_TRUSTED, .timeout_ms = CALL_MS, .retries = 2,
		.url = arena_printf(mem, STR_FMT "/oauth2/token", STR_ARG(set->id_url)),
	};

	buf_add(&form, STR("client_id="));
	url_encode(set->client_id, &form);
	buf_add(&form, STR("&client_secret="));
	url_encode(set->client_secret, &form);
	buf_add(&form, STR("&grant_type=client_credentials"));
	if (buf_str(&form, &body) != 0) {
		buf_clear(&form);
		arena_free(mem);
		(void)err_set(&err, -EMSGSIZE, "the client's id and secret are too long");
		aborted(k, &err);
		return;
	}
	call.body = body;
	if (fetch_start(k->t->fetch, &call, got, k, NULL, &err) != 0)
		aborted(k, &err);
	crypto_wipe(form.p, form.n);
	buf_clear(&form);
	arena_free(mem);
}

/* access_token, expires_at */
static void row_read(void *arg, const struct db_result *res, const struct err *err)
{
	struct tokens *k = arg;

	if (err != NULL) {
		aborted(k, err);
		return;
	}
	if (db_rows(res) == 1 &&
	    crypto_unseal(k->seal, str_of(place), db_bytes(res, 0, 0, k->next_mem), k->next_mem, &k->next) == 0 &&
	    !str_eq(k->next, k->refused) && db_time(res, 0, 1) - clock_unix_ms() > LEFT_MS) {
		k->next_expires_at_ms = db_time(res, 0, 1);
		metric_add(&refreshes, 0, 1);
		db_tx_commit(k->tx, committed, k);
		return;
	}
	make(k);
}

static void look(void *arg)
{
	struct tokens *k = arg;
	struct err err = { 0 };

	if (k->busy)
		return;
	if (usable(k)) {
		tell(k, NULL);
		return;
	}
	k->busy = true;
	arena_reset(k->next_mem);
	k->tx = db_tx_begin(k->t->db, TX_MS);
	if (k->tx == NULL) {
		(void)err_set(&err, -EAGAIN, "the database's queue is full");
		failed(k, &err);
		return;
	}
	if (db_tx_query(k->tx, written, k,
	                "SELECT pg_advisory_xact_lock(hashtext('twitch_tokens'), hashtext('app'))") != 0 ||
	    db_tx_query(k->tx, row_read, k,
	                "SELECT access_token, expires_at FROM twitch_tokens "
	                "WHERE team_id = 'app' AND is_valid") != 0) {
		(void)err_set(&err, -EAGAIN, "the database's queue is full");
		aborted(k, &err);
	}
}

void token_get(struct tokens *k, token_done *done, void *arg)
{
	struct waiter *w = XNEW(struct waiter);

	w->done = done;
	w->arg = arg;
	list_add_tail(&k->waiters, &w->node);
	timer_start(k->t->s, &k->turn, 0, look, k);
}

void token_refused(struct tokens *k, struct str token)
{
	if (str_eq(token, k->token))
		k->refused = k->token;
}

struct tokens *tokens_open(struct twitch *t, struct err *err)
{
	struct seal *seal = crypto_seal_open_file(t->s->base.sealing_key_file, err);
	struct tokens *k;

	if (seal == NULL)
		return NULL;
	k = XNEW(struct tokens);
	k->t = t;
	k->seal = seal;
	k->mem = arena_new(4096, 64 * 1024);
	k->next_mem = arena_new(4096, 64 * 1024);
	list_init(&k->waiters);
	service_ready(t->s, "twitch-token", true);      /* until the first call shows otherwise */
	return k;
}

void tokens_close(struct tokens *k)
{
	struct err err = { 0 };

	if (k == NULL)
		return;
	timer_stop(&k->turn);
	(void)err_set(&err, -ECANCELED, "the service ends");
	tell(k, &err);
	crypto_seal_close(k->seal);
	arena_free(k->mem);
	arena_free(k->next_mem);
	free(k);
}

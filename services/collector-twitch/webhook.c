/* webhook.c - EventSub deliveries, in the order of collectors.md 1.1.
 *
 * The signature covers the raw bytes and is judged before anything is parsed; the time-stamp is
 * the guard against replays and is refused in both directions.  Every refusal for those reasons
 * has the same body: who forges learns nothing.  The answer to an event is given when its row is
 * committed, never before. */
#include "twitch.h"
#include "clock.h"
#include "crypto.h"
#include "err.h"
#include "eventsub.h"
#include "log.h"
#include "metrics.h"
#include "repair.h"
#include "service.h"

enum { WINDOW_MS = 600000 };            /* Twitch names ten minutes */

enum refusal { REFUSED_MISSING, REFUSED_SIGNATURE, REFUSED_TIME, REFUSALS };
static const char *const refusal_names[REFUSALS] = { "missing_header", "signature", "time" };
METRIC_BY(refused, METRIC_COUNTER, "waddle_collector_signature_failures_total", "Deliveries refused, by cause.",
          "cause", refusal_names);

enum kind { NOTIFICATION, CHALLENGE, REVOCATION, UNKNOWN };
static const char *const kind_names[] = {
	"notification", "webhook_callback_verification", "revocation", "unknown",
};
METRIC_BY(deliveries, METRIC_COUNTER, "waddle_collector_deliveries_total", "Verified deliveries by kind.", "kind",
          kind_names);
METRIC(unmonitored, METRIC_COUNTER, "waddle_collector_unmonitored_total", "Deliveries about channels that are not ours.");
METRIC(own, METRIC_COUNTER, "waddle_collector_own_total", "The bot's own messages, seen and dropped.");
METRIC(malformed, METRIC_COUNTER, "waddle_collector_malformed_event_total",
       "Events of a known type without a mandatory member, kept as other.");
struct metric *const webhook_metrics[] = { &refused, &deliveries, &unmonitored, &own, &malformed, NULL };

static void forbid(struct http_req *r, enum refusal why)
{
	metric_add(&refused, why, 1);
	log_rarely(60000, L_WARN, NULL, "delivery_refused", "cause: %s", refusal_names[why]);
	http_refuse(r, 403, "SIGNATURE_INVALID", "The delivery is not signed as it must be.", NULL, 0);
}

static bool verified(struct twitch *t, struct http_req *r, struct str id, struct str at)
{
	const struct str parts[] = { id, at, http_raw(r) };
	struct str given = http_header(r, "Twitch-Eventsub-Message-Signature");
	struct str secrets[] = { t->settings->webhook_secret, t->settings->webhook_secret_previous };

	if (id.n == 0 || at.n == 0 || given.n == 0) {
		forbid(r, REFUSED_MISSING);
		return false;
	}
	for (size_t i = 0; i < ARRAY_LEN(secrets); i++)
		if (secrets[i].n > 0 &&
		    crypto_hmac_check(secrets[i], parts, ARRAY_LEN(parts), STR("sha256="), given) == 0) {
			if (crypto_fresh(at, WINDOW_MS) == 0)
				return true;
			forbid(r, REFUSED_TIME);
			return false;
		}
	forbid(r, REFUSED_SIGNATURE);
	return false;
}

static void event_stored(void *arg, enum stored what)
{
	struct http_req *r = arg;

	if (what == STORED_FAILED)
		http_refuse(r, 503, "NOT_STORED", "The event could not be stored; send it again.", NULL, 0);
	else
		http_reply(r, 204, NULL, NULL);
}

static void notification(struct twitch *t, struct http_req *r, const struct eventsub *e, struct str raw, struct str id)
{
	struct eventsub_in from = {
		.message_id = id, .bot_user_id = t->settings->bot_user_id, .received_at_ms = clock_unix_ms(),
	};
	struct mapped *m = ARENA_NEW(http_mem(r), struct mapped);
	struct err err = { 0 };
	struct str at = http_header(r, "Twitch-Eventsub-Message-Timestamp");

	if (eventsub_map(e, &from, raw, m, http_mem(r), &err) != 0) {
		http_fail(r, &err);
		return;
	}
	if (!channels_known(t->channels)) {
		http_refuse(r, 503, "NOT_READY", "The list of channels is not known yet; send it again.",
		            NULL, 0);
		return;
	}
	if (m->channel_id.n == 0 || !channels_monitored(t->channels, m->channel_id)) {
		metric_add(&unmonitored, 0, 1);
		http_reply(r, 204, NULL, NULL);
		return;
	}
	if (m->own || channels_ignores(t->channels, m->channel_id, m->user_id)) {
		metric_add(&own, 0, m->own);
		if (m->own)
			channels_learn(t->channels, m->channel_id, m->event.user.roles);
		if (m->own && t->send != NULL &&
		    sender_echo(send_sender(t->send), m->event.entity, m->event.message_content,
		                m->chat_id) != 0) {
			event_stored(r, STORED_FAILED);
			return;
		}
		http_reply(r, 204, NULL, NULL);
		return;
	}
	metric_add(&malformed, 0, m->malformed);
	/* Its window was checked, so it is a time. */
	(void)!clock_parse(at, &m->event.occurred_at_ms);
	if (collector_store(t->collector, &m->in, event_stored, r) != 0)
		event_stored(r, STORED_FAILED);
}

static void revoked(void *arg, const struct db_result *res, const struct err *err)
{
	struct http_req *r = arg;

	(void)res;
	event_stored(r, err != NULL ? STORED_FAILED : STORED_NEW);
}

static void revocation(struct twitch *t, struct http_req *r, const struct eventsub *e)
{
	log_warn(NULL, "subscription_revoked",
	         "Twitch ended subscription " STR_FMT " (" STR_FMT "): " STR_FMT, STR_ARG(e->subscription.id),
	         STR_ARG(e->subscription.type), STR_ARG(e->subscription.status));
	if (db_query(t->db, ((struct db_opts){ .to = DB_WRITE, .timeout_ms = 2500 }), revoked, r,
	             "UPDATE twitch_subscriptions SET status = $2, reason = $2 WHERE subscription_id = $1",
	             DB_STR(e->subscription.id), DB_STR(e->subscription.status)) != 0)
		event_stored(r, STORED_FAILED);
}

static bool is_json(struct str type)
{
	struct str rest;

	return type.n == 0 || str_eq_fold(str_trim(str_cut(type, ';', &rest)), STR("application/json"));
}

void webhook_handle(struct http_req *r, void *arg)
{
	struct twitch *t = arg;
	struct str id = http_header(r, "Twitch-Eventsub-Message-Id");
	struct str at = http_header(r, "Twitch-Eventsub-Message-Timestamp");
	struct str type = http_header(r, "Twitch-Eventsub-Message-Type");
	enum kind kind = NOTIFICATION;
	struct eventsub *e = ARENA_NEW(http_mem(r), struct eventsub);
	struct err err = { 0 };
	struct str json;

	IS_A(t, TWITCH_MAGIC);
	if (!verified(t, r, id, at))
		return;
	while (kind < UNKNOWN && !str_eq(type, str_of(kind_names[kind])))
		kind++;
	metric_add(&deliveries, kind, 1);
	if (kind == UNKNOWN || id.n > 120 || !str_utf8_ok(id)) {
		http_refuse(r, 400, "INVALID_REQUEST", "This kind of delivery is not known here.", NULL, 0);
		return;
	}
	json = is_json(http_header(r, "Content-Type")) ? repair_json(http_raw(r), http_mem(r)) : STR_NONE;
	if (json.p == NULL)
		(void)err_set(&err, -EINVAL, "not JSON by its Content-Type");
	if (json.p == NULL || eventsub_decode(json, e, http_mem(r), &err) != 0) {
		http_refuse(r, 400, "INVALID_REQUEST", err.text, NULL, 0);
		return;
	}
	switch (kind) {
	case NOTIFICATION:
		notification(t, r, e, json, id);
		break;
	case CHALLENGE:
		if (e->challenge.n == 0)
			http_refuse(r, 400, "INVALID_REQUEST", "There is no challenge in it.", NULL, 0);
		else
			http_reply_raw(r, 200, "text/plain", e->challenge);
		break;
	case REVOCATION:
		revocation(t, r, e);
		break;
	case UNKNOWN:
		break;
	}
}

/* waddle-collector-twitch - Twitch in and out: EventSub deliveries to events, answers to chat. */
#include "twitch.h"
#include "token.h"
#include "batch.h"
#include "bus.h"
#include "config.h"
#include "crypto.h"
#include "err.h"
#include "fetch.h"
#include "log.h"
#include "metrics.h"
#include "service.h"

static const char *const schemes[] = { "https", "http", NULL };

static const struct cfg_var vars[] = {
	CFG(struct twitch_settings, webhook_secret, "TWITCH_WEBHOOK_SECRET", CFG_SECRET, NULL,
	    "Secret of the EventSub subscriptions, 16 to 100 characters.", .min = 16, .max = 100),
	CFG(struct twitch_settings, webhook_secret_previous, "TWITCH_WEBHOOK_SECRET_PREVIOUS", CFG_SECRET, "",
	    "The secret before, while subscriptions are made anew with the present one.", .max = 100),
	CFG(struct twitch_settings, backlog_max, "EVENT_BACKLOG_MAX", CFG_INT, "1000000",
	    "Events stored and not taken by the broker, above which Twitch gets 503.", .min = 1, .max = 1000000000),
	CFG(struct twitch_settings, dedupe_window_ms, "DEDUPE_WINDOW", CFG_MS, "48h",
	    "How long an event is recognised when it is delivered again.", .min = 60000, .max = 30LL * 86400000),
	CFG(struct twitch_settings, bot_user_id, "TWITCH_BOT_USER_ID", CFG_STR, "",
	    "Account the bot writes as, a number; its own messages are never events.", .max = 64),
	CFG(struct twitch_settings, client_id, "TWITCH_CLIENT_ID", CFG_STR, "",
	    "Client id of the application; without it nothing is sent.", .max = 100),
	CFG(struct twitch_settings, client_secret, "TWITCH_CLIENT_SECRET", CFG_SECRET, "",
	    "Client secret of the application.", .max = 100),
	CFG(struct twitch_settings, api_url, "TWITCH_API_URL", CFG_URL, "https://api.twitch.tv/helix",
	    "Where the Helix API is.", .choices = schemes),
	CFG(struct twitch_settings, id_url, "TWITCH_ID_URL", CFG_URL, "https://id.twitch.tv",
	    "Where tokens come from.", .choices = schemes),
	CFG(struct twitch_settings, send_limit, "TWITCH_SEND_LIMIT", CFG_INT, "19",
	    "Messages of the bot in 30 s, over all channels, for one more to a channel it does not moderate.",
	    .min = 1, .max = 7500),
	CFG(struct twitch_settings, send_limit_mod, "TWITCH_SEND_LIMIT_MOD", CFG_INT, "99",
	    "The same for one more to a channel where it is moderator or broadcaster.", .min = 1, .max = 7500),
	{ 0 }
};

static struct twitch twitch;

static const struct http_route routes[] = {
	{ .method = "POST", .path = "/twitch/webhook", .auth = HTTP_SIGNED, .max_body = 1 << 20,
	  .handle = webhook_handle, .summary = "EventSub deliveries: notification, challenge, revocation." },
	{ 0 }
};

static void changed(void *arg, struct str notice)
{
	struct twitch *t = arg;

	IS_A(t, TWITCH_MAGIC);
	if (notice.n == 0 || str_starts(notice, STR("twitch_channels:")))
		channels_changed(t->channels);
}

/* All of the three, or none: then Twitch is only listened to. */
static int sending_open(struct twitch *t, struct err *err)
{
	const struct twitch_settings *set = t->settings;
	int given = (set->client_id.n > 0) + (set->client_secret.n > 0) + (set->bot_user_id.n > 0);

	if (set->client_id.n == 0 && set->client_secret.n == 0) {
		log_warn(NULL, "not_sending", "TWITCH_CLIENT_ID is not set: answers stay on the topic");
		return 0;
	}
	if (given != 3)
		return err_set(err, -EINVAL,
		               "TWITCH_CLIENT_ID, TWITCH_CLIENT_SECRET and TWITCH_BOT_USER_ID: all or none");
	t->fetch = fetch_open(t->s, 64, 64);
	t->tokens = tokens_open(t, err);
	t->send = t->tokens != NULL ? send_open(t, err) : NULL;
	return t->send != NULL ? 0 : err->code;
}

static int start(struct service *s, struct err *err)
{
	struct twitch *t = s->priv;
	struct db_conf conf = {
		.write_url = s->base.database_url, .read_url = s->base.database_read_url,
		.write_conns = (int)s->base.database_pool_write, .read_conns = (int)s->base.database_pool_read,
	};
	struct collector_conf collector = { .platform = "twitch" };

	MAKE_A(t, TWITCH_MAGIC);
	t->s = s;
	t->settings = s->settings;
	if (t->settings->webhook_secret_previous.n > 0 &&
	    !crypto_secret_ok(t->settings->webhook_secret_previous))
		return err_set(err, -EINVAL, "TWITCH_WEBHOOK_SECRET_PREVIOUS: shorter than %d characters",
		               CRYPTO_SECRET_MIN);
	t->bus = bus_open(s, s->base.kafka_brokers, s->base.topic_prefix, err);
	if (t->bus == NULL)
		return err->code;
	t->db = db_open(s, &conf);
	collector.db = t->db;
	collector.bus = t->bus;
	collector.backlog_max = t->settings->backlog_max;
	collector.dedupe_ms = t->settings->dedupe_window_ms;
	t->collector = collector_open(s, &collector);
	if (sending_open(t, err) != 0)
		return err->code;
	t->channels = channels_open(t);
	db_listen(t->db, "waddle_invalidate", changed, t);
	t->http = http_open(s, s->base.http_listen, routes, t, (struct http_limits){ .max_per_addr = 256 },
	                    err);
	if (t->http == NULL)
		return err->code;
	t->registry = (struct registry){
		.name = STR("collector-twitch"), .version = str_of(s->version), .platform = STR("twitch"), .kind = KIND_COLLECTOR,
	};
	if (s->base.public_url.n > 0 && s->base.public_url.n <= 2000) {
		snprintf(t->endpoint, sizeof t->endpoint, STR_FMT "/twitch/webhook",
		         STR_ARG(s->base.public_url));
		t->registry.endpoint_url = str_of(t->endpoint);
	}
	announce_start(&t->announce, s, t->bus, &t->registry);
	return 0;
}

static void drain(struct service *s)
{
	struct twitch *t = s->priv;

	announce_pause(&t->announce);
	http_close(t->http);
	if (t->send != NULL)
		sender_drain(send_sender(t->send));
}

static void stop(struct service *s)
{
	struct twitch *t = s->priv;

	announce_stop(&t->announce);
	if (t->send != NULL)
		sender_stop(send_sender(t->send));
	collector_stop(t->collector);
	db_close(t->db);
	fetch_close(t->fetch);
	bus_close(t->bus);
	channels_close(t->channels);
	send_free(t->send);
	tokens_close(t->tokens);
	collector_free(t->collector);
}

static struct metric *const *const metrics[] = {
	webhook_metrics, channels_metrics, collector_in_metrics, collector_sweep_metrics, sender_metrics, lane_metrics, send_metrics, token_metrics,
	fetch_metrics, db_metrics, batch_metrics, bus_metrics, http_metrics, NULL,
};

int main(int argc, char **argv)
{
	struct twitch_settings settings;
	struct service s = {
		.name = "collector-twitch", .version = "1.0", .vars = vars, .settings = &settings,
		.needs = NEEDS_DATABASE | NEEDS_KAFKA | NEEDS_HTTP | NEEDS_SEALING, .metrics = metrics,
		.spares = (const char *const[]){ "kafka", "twitch-token", NULL },
		.start = start, .drain = drain, .stop = stop, .priv = &twitch,
	};

	return service_main(&s, argc, argv);
}

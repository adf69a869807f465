/* waddle-collector-twitch - Twitch in and out: EventSub deliveries to events, answers to chat. */
#include "twitch.h"
#include "batch.h"
#include "bus.h"
#include "config.h"
#include "err.h"
#include "metrics.h"
#include "service.h"

static const struct cfg_var vars[] = {
	CFG(struct twitch_settings, webhook_secret, "TWITCH_WEBHOOK_SECRET", CFG_SECRET, NULL,
	    "Secret of the EventSub subscriptions, 16 to 100 characters.", .min = 16, .max = 100),
	CFG(struct twitch_settings, webhook_secret_previous, "TWITCH_WEBHOOK_SECRET_PREVIOUS", CFG_SECRET, "",
	    "The secret before, while subscriptions are made anew with the present one.", .max = 100),
	CFG(struct twitch_settings, bot_user_id, "TWITCH_BOT_USER_ID", CFG_STR, "",
	    "Account the bot writes as; its own messages are never events.", .max = 64),
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
	t->bus = bus_open(s, s->base.kafka_brokers, s->base.topic_prefix, err);
	if (t->bus == NULL)
		return err->code;
	t->db = db_open(s, &conf);
	collector.db = t->db;
	collector.bus = t->bus;
	t->collector = collector_open(s, &collector);
	t->channels = channels_open(t);
	db_listen(t->db, "waddle_invalidate", changed, t);
	t->http = http_open(s, s->base.http_listen, routes, t, (struct http_limits){ .max_per_addr = 256 }, err);
	return t->http == NULL ? err->code : 0;
}

static void drain(struct service *s)
{
	struct twitch *t = s->priv;

	http_close(t->http);
}

static void stop(struct service *s)
{
	struct twitch *t = s->priv;

	collector_stop(t->collector);
	db_close(t->db);
	bus_close(t->bus);
	channels_close(t->channels);
	collector_free(t->collector);
}

static struct metric *const *const metrics[] = {
	webhook_metrics, channels_metrics, collector_in_metrics, db_metrics, batch_metrics, bus_metrics, http_metrics, NULL,
};

int main(int argc, char **argv)
{
	struct twitch_settings settings;
	struct service s = {
		.name = "collector-twitch", .version = "1.0", .vars = vars, .settings = &settings,
		.needs = NEEDS_DATABASE | NEEDS_KAFKA | NEEDS_HTTP, .metrics = metrics,
		.start = start, .drain = drain, .stop = stop, .priv = &twitch,
	};

	return service_main(&s, argc, argv);
}

/* twitch.h - the parts of the Twitch collector and what they share. */
#ifndef TWITCH_H
#define TWITCH_H

#include "collector.h"
#include "db.h"
#include "http.h"

struct twitch_settings {
	struct str webhook_secret, webhook_secret_previous;
	struct str bot_user_id;
};

struct twitch {
	unsigned magic;
	struct service *s;
	const struct twitch_settings *settings;
	struct db        *db;
	struct bus       *bus;
	struct collector *collector;
	struct channels  *channels;
	struct http      *http;
};
enum { TWITCH_MAGIC = 0x7317c4 };

/* channels.c: the monitored channels, from twitch_channels; decisions never wait for the router. */
struct channels *channels_open(struct twitch *t) RETURNS_NONNULL;
void channels_close(struct channels *c);        /* NULL is fine */
bool channels_known(const struct channels *c) NONNULL;         /* the list has been read once */
bool channels_monitored(const struct channels *c, struct str channel_id) NONNULL;
/* config.ignored_users names this account. */
bool channels_ignores(const struct channels *c, struct str channel_id, struct str user_id) NONNULL;
void channels_changed(struct channels *c) NONNULL;             /* read it again */

/* webhook.c: POST /twitch/webhook. */
void webhook_handle(struct http_req *r, void *arg);

extern struct metric *const webhook_metrics[], *const channels_metrics[];

#endif

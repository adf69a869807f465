/* twitch.h - the parts of the Twitch collector and what they share. */
#ifndef TWITCH_H
#define TWITCH_H

#include "announce.h"
#include "collector.h"
#include "collector_out.h"
#include "db.h"
#include "http.h"

struct twitch_settings {
	struct str webhook_secret, webhook_secret_previous;
	struct str api_url, id_url, client_id, client_secret, bot_user_id;
	int64_t    send_limit, send_limit_mod, backlog_max, dedupe_window_ms;
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
	struct fetch_client *fetch;
	struct tokens    *tokens;       /* NULL, as the next: nothing is sent */
	struct send      *send;
	struct announce   announce;
	struct registry   registry;
	char              endpoint[2048 + 32];
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
enum bot_role { BOT_NONE, BOT_VIP, BOT_MODERATOR, BOT_BROADCASTER };
enum bot_role channels_bot_role(const struct channels *c, struct str channel_id) NONNULL;      /* unknown: none */

/* What the bot is there, by the roles of its own message. */
void channels_learn(struct channels *c, struct str channel_id, uint32_t roles) NONNULL;

/* send.c: waddle.outbound.twitch to chat. */
struct send *send_open(struct twitch *t, struct err *err) MUST_CHECK;
struct sender *send_sender(struct send *d) RETURNS_NONNULL;
void send_free(struct send *d);                 /* after db_close(), bus_close(), fetch_close() */

/* webhook.c: POST /twitch/webhook. */
void webhook_handle(struct http_req *r, void *arg);

extern struct metric *const webhook_metrics[], *const channels_metrics[], *const send_metrics[], *const token_metrics[];

#endif

/* channels.c - which channels are ours, read at start, on a notice and every minute. */
#include "twitch.h"
#include "clock.h"
#include "err.h"
#include "hash.h"
#include "list.h"
#include "log.h"
#include "metrics.h"
#include "service.h"

enum { EVERY_MS = 60000, RETRY_MS = 500 };

struct channel {
	struct hash_node by_id;
	struct list      node;
	struct str       id, ignored;   /* ignored: ",17,42," */
	enum bot_role    bot_role;
};

struct set { struct hash_table by_id; struct list all; struct arena *mem; };

struct channels {
	struct twitch *t;
	struct set    *set;             /* NULL: never read */
	struct timer   timer;
	bool           asking, again;
};

METRIC(monitored, METRIC_GAUGE, "waddle_collector_channels", "Channels that are monitored.");
struct metric *const channels_metrics[] = { &monitored, NULL };

static void ask(void *arg);

static const char *const bot_role_names[] = { "none", "vip", "moderator", "broadcaster", NULL };

static enum bot_role role_of(struct str name)
{
	int i = js_name(bot_role_names, name);

	return i < 0 ? BOT_NONE : (enum bot_role)i;
}

static void set_free(struct set *set)
{
	if (set == NULL)
		return;
	hash_clear(&set->by_id);
	arena_free(set->mem);
	free(set);
}

static void answered(void *arg, const struct db_result *res, const struct err *err)
{
	struct channels *c = arg;
	struct set *set;

	c->asking = false;
	if (err != NULL) {
		log_rarely(30000, L_WARN, NULL, "channels_unread",
		           "the list of channels is as old as its last reading: %s", err->text);
		timer_start(c->t->s, &c->timer, RETRY_MS, ask, c);
		return;
	}
	set = XNEW(struct set);
	set->mem = arena_new(16384, 256 << 20);
	list_init(&set->all);
	for (int i = 0; i < db_rows(res); i++) {
		struct channel *ch = ARENA_NEW(set->mem, struct channel);

		ch->id = arena_str(set->mem, db_str(res, i, 0));
		ch->ignored = arena_str(set->mem, db_str(res, i, 1));
		ch->bot_role = role_of(db_str(res, i, 2));
		hash_add(&set->by_id, &ch->by_id, hash_of(ch->id));
		list_add_tail(&set->all, &ch->node);
	}
	metric_set(&monitored, 0, db_rows(res));
	if (c->set == NULL) {
		log_info(NULL, "channels_read", "%d channels are monitored", db_rows(res));
		service_ready(c->t->s, "channels", true);
	}
	set_free(c->set);
	c->set = set;
	if (c->t->send != NULL)
		sender_ready(send_sender(c->t->send));
	timer_start(c->t->s, &c->timer, c->again ? 0 : EVERY_MS, ask, c);
	c->again = false;
}

static void ask(void *arg)
{
	struct channels *c = arg;

	if (c->asking) {
		c->again = true;
		return;
	}
	/* The primary: a standby may be behind the notice that made us ask. */
	c->asking = db_query(c->t->db, ((struct db_opts){ .to = DB_WRITE }), answered, c,
	                     "SELECT channel_id, CASE jsonb_typeof(config->'ignored_users') WHEN 'array' THEN "
	                     "',' || (SELECT string_agg(u, ',') FROM jsonb_array_elements_text(config->'ignored_users') u) "
	                     "|| ',' END, bot_role FROM twitch_channels WHERE is_active") == 0;
	if (!c->asking)
		timer_start(c->t->s, &c->timer, RETRY_MS, ask, c);
}

static const struct channel *find(const struct channels *c, struct str id)
{
	if (c->set == NULL)
		return NULL;
	for (struct hash_node *n = hash_find(&c->set->by_id, hash_of(id)); n != NULL; n = hash_next(n)) {
		const struct channel *ch = CONTAINER_OF(n, struct channel, by_id);

		if (str_eq(ch->id, id))
			return ch;
	}
	return NULL;
}

bool channels_known(const struct channels *c)
{
	return c->set != NULL;
}

bool channels_monitored(const struct channels *c, struct str channel_id)
{
	return find(c, channel_id) != NULL;
}

bool channels_ignores(const struct channels *c, struct str channel_id, struct str user_id)
{
	const struct channel *ch = find(c, channel_id);
	char text[300];
	int n;

	if (ch == NULL || ch->ignored.n == 0 || user_id.n > 255)
		return false;
	n = snprintf(text, sizeof text, "," STR_FMT ",", STR_ARG(user_id));
	return memmem(ch->ignored.p, ch->ignored.n, text, (size_t)n) != NULL;
}

enum bot_role channels_bot_role(const struct channels *c, struct str channel_id)
{
	const struct channel *ch = find(c, channel_id);

	return ch == NULL ? BOT_NONE : ch->bot_role;
}

void channels_learn(struct channels *c, struct str channel_id, uint32_t roles)
{
	const struct channel *ch = find(c, channel_id);
	enum bot_role is = roles & 1u << ROLE_OWNER     ? BOT_BROADCASTER :
	                   roles & 1u << ROLE_MODERATOR ? BOT_MODERATOR :
	                   roles & 1u << ROLE_VIP       ? BOT_VIP :
	                                                  BOT_NONE;

	if (ch == NULL || ch->bot_role == is)
		return;
	/* The notice of the change makes every replica read it; lost, it is learnt again. */
	(void)!db_query(c->t->db, ((struct db_opts){ .to = DB_WRITE }), NULL, NULL,
	                "UPDATE twitch_channels SET bot_role = $2::text, bot_role_at = now() "
	                "WHERE channel_id = $1::text AND bot_role <> $2::text",
	                DB_STR(channel_id), DB_STR(str_of(bot_role_names[is])));
}

void channels_changed(struct channels *c)
{
	ask(c);
}

struct channels *channels_open(struct twitch *t)
{
	struct channels *c = XNEW(struct channels);

	c->t = t;
	service_ready(t->s, "channels", false);
	ask(c);
	return c;
}

void channels_close(struct channels *c)
{
	if (c == NULL)
		return;
	timer_stop(&c->timer);
	set_free(c->set);
	free(c);
}

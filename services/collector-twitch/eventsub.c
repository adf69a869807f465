/* eventsub.c - EventSub payloads to events.
 *
 * Member names and shapes: Twitch, "EventSub Subscription Types", channel.chat.message version 1.
 * What we do not know is kept under its raw name and goes nowhere. */
#include "eventsub.h"
#include "clock.h"
#include "err.h"

enum { CONTENT_CHARS = 5000, NAME_CHARS = 255, WORD_CHARS = 64, BADGES = 32, RAW_BYTES = 256 * 1024, METADATA_BYTES = 64 * 1024 };

#define SUB(f, ...) { .key = #f, .type = JS_STR, .offset = offsetof(struct eventsub, subscription.f), __VA_ARGS__ }
static const struct js_field sub_fields[] = {
	SUB(id, .min = 1, .max = 255), SUB(type, .min = 1, .max = 255),
	SUB(version, .optional = true, .max = 32), SUB(status, .optional = true, .max = 64),
	{ 0 }
};
static const struct js_field delivery_fields[] = {
	{ .key = "subscription", .type = JS_OBJECT, .offset = 0, .fields = sub_fields },
	JS(struct eventsub, challenge, JS_STR, .optional = true, .max = 4096),
	JS(struct eventsub, event, JS_RAW_OBJECT, .optional = true),
	{ 0 }
};

struct badge { struct str set_id, id, info; };
struct chat {
	struct str broadcaster_user_id, broadcaster_user_login, chatter_user_id, chatter_user_login,
		chatter_user_name, message_id, text, color, message_type, channel_points_custom_reward_id,
		source_broadcaster_user_id, parent_message_id, parent_user_id;
	struct js_list badges;
	int64_t bits;
};

static const struct js_field badge_fields[] = {
	JS(struct badge, set_id, JS_STR), JS(struct badge, id, JS_STR, .optional = true),
	JS(struct badge, info, JS_STR, .optional = true),
	{ 0 }
};
static const struct js_field text_fields[] = { JS(struct chat, text, JS_STR), { 0 } };
static const struct js_field cheer_fields[] = { JS(struct chat, bits, JS_INT, .optional = true), { 0 } };
static const struct js_field reply_fields[] = {
	JS(struct chat, parent_message_id, JS_STR, .optional = true),
	JS(struct chat, parent_user_id, JS_STR, .optional = true),
	{ 0 }
};
static const struct js_field chat_fields[] = {
	JS(struct chat, broadcaster_user_id, JS_STR, .min = 1, .max = 255),
	JS(struct chat, broadcaster_user_login, JS_STR, .optional = true),
	JS(struct chat, chatter_user_id, JS_STR, .min = 1, .max = 255),
	JS(struct chat, chatter_user_login, JS_STR, .optional = true),
	JS(struct chat, chatter_user_name, JS_STR, .optional = true),
	JS(struct chat, message_id, JS_STR, .min = 1, .max = 200),
	JS(struct chat, color, JS_STR, .optional = true),
	JS(struct chat, message_type, JS_STR, .optional = true),
	JS(struct chat, channel_points_custom_reward_id, JS_STR, .optional = true),
	JS(struct chat, source_broadcaster_user_id, JS_STR, .optional = true),
	JS(struct chat, badges, JS_OBJECTS, .optional = true, .size = sizeof(struct badge), .fields = badge_fields,
	   .max = 100),
	{ .key = "message", .type = JS_OBJECT, .offset = 0, .fields = text_fields },
	{ .key = "cheer", .type = JS_OBJECT, .offset = 0, .fields = cheer_fields, .optional = true },
	{ .key = "reply", .type = JS_OBJECT, .offset = 0, .fields = reply_fields, .optional = true },
	{ 0 }
};

int eventsub_decode(struct str json, struct eventsub *ret, struct arena *mem, struct err *err)
{
	return js_decode(json, delivery_fields, ret, mem, err);
}

/* collectors.md 1.5 */
static uint32_t roles_of(struct js_list badges)
{
	static const struct { const char *set_id; enum role role; } of[] = {
		{ "broadcaster", ROLE_OWNER }, { "moderator", ROLE_MODERATOR }, { "lead_moderator", ROLE_MODERATOR },
		{ "vip", ROLE_VIP }, { "subscriber", ROLE_SUBSCRIBER }, { "founder", ROLE_SUBSCRIBER },
	};
	const struct badge *b = badges.items;
	uint32_t roles = 1u << ROLE_MEMBER;

	for (size_t i = 0; i < badges.n; i++)
		for (size_t k = 0; k < ARRAY_LEN(of); k++)
			if (str_eq(b[i].set_id, str_of(of[k].set_id)))
				roles |= 1u << of[k].role;
	return roles;
}

static void member(struct buf *b, const char *key, struct str value)
{
	if (value.n == 0)
		return;
	if (b->n > 1)
		buf_add(b, STR(","));
	buf_printf(b, "\"%s\":", key);
	buf_json(b, value);
}

/* What a receiver takes: texts and their number have limits, the rest of the message counts more. */
static int metadata_of(const struct chat *c, bool truncated, struct arena *mem, struct str *ret)
{
	const struct badge *badge = c->badges.items;
	struct buf b = BUF(METADATA_BYTES);
	struct str text;
	int r;

	buf_add(&b, STR("{"));
	member(&b, "message_id", c->message_id);
	member(&b, "color", str_clip(c->color, WORD_CHARS));
	member(&b, "message_kind", str_clip(c->message_type, WORD_CHARS));
	member(&b, "reward_id", str_clip(c->channel_points_custom_reward_id, NAME_CHARS));
	member(&b, "parent_message_id", str_clip(c->parent_message_id, NAME_CHARS));
	member(&b, "parent_user_id", str_clip(c->parent_user_id, NAME_CHARS));
	if (c->bits > 0)
		buf_printf(&b, ",\"bits\":%lld", (long long)c->bits);
	if (truncated)
		buf_add(&b, STR(",\"truncated\":true"));
	buf_add(&b, STR(",\"badges\":["));
	for (size_t i = 0; i < c->badges.n && i < BADGES; i++) {
		buf_add(&b, i > 0 ? STR(",{") : STR("{"));
		buf_add(&b, STR("\"set_id\":"));
		buf_json(&b, str_clip(badge[i].set_id, WORD_CHARS));
		buf_add(&b, STR(",\"id\":"));
		buf_json(&b, str_clip(badge[i].id, WORD_CHARS));
		buf_add(&b, STR("}"));
	}
	buf_add(&b, STR("]}"));
	r = buf_str(&b, &text);
	if (r == 0) {
		*ret = arena_str(mem, text);
		r = ret->p == NULL ? -ENOBUFS : 0;
	}
	buf_clear(&b);
	return r;
}

/* The payload as it is kept; one that cannot be is cut to what tells it apart. */
static struct str kept(const struct eventsub *e, struct str raw, struct arena *mem)
{
	struct buf b = BUF(4096);
	struct str text = STR("{\"truncated\":true}");

	if (raw.n <= RAW_BYTES)
		return raw;
	buf_add(&b, STR("{\"truncated\":true"));
	member(&b, "subscription_id", e->subscription.id);
	member(&b, "type", e->subscription.type);
	buf_add(&b, STR("}"));
	if (buf_str(&b, &text) == 0)
		text = arena_str(mem, text);
	buf_clear(&b);
	return text;
}

static int map_chat(const struct eventsub *e, const struct eventsub_in *from, struct mapped *m, struct arena *mem,
                    struct err *err)
{
	struct chat c;
	struct str content;
	int r = js_decode(e->event, chat_fields, &c, mem, err);

	if (r == -ENOBUFS)
		return r;
	if (r != 0) {
		m->malformed = true;
		return 0;
	}
	m->channel_id = c.broadcaster_user_id;
	m->user_id = c.chatter_user_id;
	m->chat_id = c.message_id;
	m->own = from->bot_user_id.n > 0 && str_eq(c.chatter_user_id, from->bot_user_id);
	content = str_clip(c.text, CONTENT_CHARS);
	m->event.channel_id = c.broadcaster_user_id;
	m->event.user = (struct user){
		.id = c.chatter_user_id, .name = str_clip(c.chatter_user_login, NAME_CHARS),
		.display_name = str_clip(c.chatter_user_name, NAME_CHARS), .roles = roles_of(c.badges),
	};
	m->event.message_type = MSG_CHAT;
	m->event.message_content = content;
	m->event.dedupe_key = arena_printf(mem, "twitch:chat:" STR_FMT, STR_ARG(c.message_id));
	m->event.reply_ref = arena_printf(mem, "twitch:" STR_FMT, STR_ARG(c.message_id));
	r = metadata_of(&c, content.n < c.text.n, mem, &m->event.metadata);
	if (r != 0)
		return err_set(err, r, "the metadata of a message is too large");
	r = event_check(&m->event, from->received_at_ms, mem, err);
	if (r == -ENOBUFS)
		return r;
	if (r != 0) {
		m->malformed = true;    /* ids of nothing but blanks */
		return 0;
	}
	m->channel_id = m->event.channel_id;
	m->user_id = m->event.user.id;
	m->in.event_type = STR("message");
	/* Shared chat: the source channel's own copy counts (6.2). */
	m->in.forward = c.source_broadcaster_user_id.n == 0 ||
	                str_eq(c.source_broadcaster_user_id, c.broadcaster_user_id);
	if (m->in.forward) {
		m->in.activity = "message";
		m->in.points = 5;
		m->in.quantity = 1;
	}
	return 0;
}

struct anywhere { struct str broadcaster_user_id, to_broadcaster_user_id, user_id; };
static const struct js_field anywhere_fields[] = {
	JS(struct anywhere, broadcaster_user_id, JS_STR, .optional = true),
	JS(struct anywhere, to_broadcaster_user_id, JS_STR, .optional = true),
	JS(struct anywhere, user_id, JS_STR, .optional = true),
	{ 0 }
};

static void map_other(const struct eventsub *e, const struct eventsub_in *from, struct mapped *m, struct arena *mem)
{
	struct anywhere a = { 0 };
	struct err ignored = { 0 };

	if (e->event.n > 0 && js_decode(e->event, anywhere_fields, &a, mem, &ignored) == 0) {
		m->channel_id =
			a.broadcaster_user_id.n > 0 ? a.broadcaster_user_id : a.to_broadcaster_user_id;
		m->user_id = a.user_id;
	}
	m->event.channel_id = m->channel_id;
	m->event.user = (struct user){ .id = m->user_id, .name = m->user_id, .roles = 1u << ROLE_MEMBER };
	m->event.reply_ref = STR_NONE;
	m->event.dedupe_key = arena_printf(mem, "twitch:" STR_FMT, STR_ARG(from->message_id));
	m->event.metadata = STR("{}");
	m->in.event_type = STR("other");
	m->in.forward = false;
}

int eventsub_map(const struct eventsub *e, const struct eventsub_in *from, struct str raw, struct mapped *ret,
                 struct arena *mem, struct err *err)
{
	struct buf address = BUF(1024);
	struct str text;
	int r = 0;

	*ret = (struct mapped){ 0 };
	ret->event.event_id = arena_printf(mem, "twitch:" STR_FMT, STR_ARG(from->message_id));
	ret->event.platform = STR("twitch");
	ret->event.received_at_ms = ret->event.occurred_at_ms = from->received_at_ms;
	if (str_eq(e->subscription.type, STR("channel.chat.message")) && e->event.n > 0)
		r = map_chat(e, from, ret, mem, err);
	else if (str_eq(e->subscription.type, STR("channel.chat.message")))
		ret->malformed = true;
	if (r == 0 && ret->in.event_type.n == 0)
		map_other(e, from, ret, mem);
	if (r == 0 && ret->event.entity.n == 0) {
		entity_make((struct entity){ STR("twitch"), STR_NONE, ret->channel_id }, &address);
		ret->event.entity = buf_str(&address, &text) == 0 ? arena_str(mem, text) : STR_NONE;
	}
	buf_clear(&address);
	ret->in.event = &ret->event;
	ret->in.raw = kept(e, raw, mem);
	return r;
}

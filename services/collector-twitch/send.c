/* send.c - what is said to chat: which text, at which rate, by which call, and how it went.
 *
 * POST /helix/chat/messages with the app token, as the bot.  200 does not mean delivered: is_sent
 * says it.  A private answer is never written where others read it: the channel gets a notice. */
#include "collector_out.h"
#include "token.h"
#include "clock.h"
#include "err.h"
#include "fetch.h"
#include "log.h"
#include "metrics.h"
#include "service.h"

enum { MESSAGE_CHARS = 500, PARTS = 3, GAP_MS = 1100, CALL_MS = 10000, BLOCKED_MS = 30000, BLOCKED_MAX_MS = 300000,
	NO_TOKEN_MS = 3000 };

#define WORD_JOINER "\xE2\x81\xA0"

struct send { struct twitch *t; struct sender *sender; };

struct call {
	struct send    *d;
	struct sending *s;
	struct arena   *mem;
	struct str      body, token;
	bool            again;          /* with a second token */
};

static const char *const statuses[] = { "2xx", "4xx", "5xx", "none" };
METRIC_BY(requests, METRIC_COUNTER, "waddle_collector_platform_requests_total", "Messages posted, by answer.", "status",
          statuses);
struct metric *const send_metrics[] = { &requests, NULL };

static void go(struct call *c);

static void call_free(struct call *c)
{
	arena_free(c->mem);
	free(c);
}

struct drop_reason { struct str code, message; };
struct datum { struct str message_id; bool is_sent; struct drop_reason drop; };
struct answer { struct js_list data; };
static const struct js_field drop_fields[] = {
	JS(struct drop_reason, code, JS_STR, .optional = true),
	JS(struct drop_reason, message, JS_STR, .optional = true),
	{ 0 }
};
static const struct js_field datum_fields[] = {
	JS(struct datum, message_id, JS_STR, .optional = true, .max = 200), JS(struct datum, is_sent, JS_BOOL),
	JS_AS("drop_reason", struct datum, drop, JS_OBJECT, .optional = true, .fields = drop_fields),
	{ 0 }
};
static const struct js_field answer_fields[] = {
	JS(struct answer, data, JS_OBJECTS, .size = sizeof(struct datum), .fields = datum_fields, .max = 10), { 0 }
};

static void accepted(struct call *c, struct str body)
{
	struct answer a;
	struct err err = { 0 };
	const struct datum *d;

	if (js_decode(body, answer_fields, &a, c->mem, &err) != 0 || a.data.n != 1) {
		sending_unknown(c->s, STR("200 with a body that says nothing"));
		return;
	}
	d = a.data.items;
	if (d->is_sent)
		sending_sent(c->s, d->message_id);
	else
		sending_refused(c->s, d->drop.code.n > 0 ? d->drop.code : STR("not_sent"));
}

/* Ratelimit-Reset is in epoch seconds, Retry-After in seconds from now. */
static int64_t wait_of(const struct fetch_result *res)
{
	int64_t at = 0, ms = BLOCKED_MS;

	if (str_int(res->header(res, "Ratelimit-Reset"), 1, INT32_MAX, &at) == 0)
		ms = at * 1000 - clock_unix_ms() + 500;         /* their clock is cut to seconds */
	else if (str_int(res->header(res, "Retry-After"), 0, 86400, &at) == 0)
		ms = at * 1000;
	return ms < 1000 ? 1000 : ms > BLOCKED_MAX_MS ? BLOCKED_MAX_MS : ms;
}

struct no { struct str message; };
static const struct js_field no_fields[] = { JS(struct no, message, JS_STR, .optional = true), { 0 } };

static struct str complaint(struct call *c, const struct fetch_result *res)
{
	struct no no = { 0 };
	struct err ignored = { 0 };

	if (js_decode(res->body, no_fields, &no, c->mem, &ignored) != 0 || no.message.n == 0)
		return arena_printf(c->mem, "http_%d", res->status);
	return arena_printf(c->mem, "http_%d: " STR_FMT, res->status, STR_ARG(str_clip(no.message, 300)));
}

static void answered(void *arg, const struct fetch_result *res, const struct err *err)
{
	struct call *c = arg;

	metric_add(&requests, res == NULL ? 3 : res->status >= 500 ? 2 : res->status >= 300 ? 1 : 0, 1);
	if (err != NULL) {
		/* The certificate is judged before anything is sent. */
		if (err_kind(err) == ERR_AGAIN || err_kind(err) == ERR_DENIED || err->code == -EPROTO)
			sending_retry(c->s, str_of(err->text));
		else
			sending_unknown(c->s, str_of(err->text));
	} else if (res->status == 200) {
		accepted(c, res->body);
	} else if (res->status == 401 && !c->again) {
		c->again = true;
		token_refused(c->d->t->tokens, c->token);
		go(c);
		return;
	} else if (res->status == 429) {
		sending_blocked(c->s, wait_of(res));
	} else if (res->status == 503) {
		sending_retry(c->s, STR("503"));
	} else if (res->status >= 500) {
		sending_unknown(c->s, arena_printf(c->mem, "%d", res->status));
	} else {
		sending_failed(c->s, complaint(c, res));
	}
	call_free(c);
}

static void with_token(void *arg, struct str token, const struct err *err)
{
	struct call *c = arg;
	const struct twitch_settings *set = c->d->t->settings;
	struct err why = { 0 };

	if (err != NULL) {
		sending_later(c->s, NO_TOKEN_MS);
		call_free(c);
		return;
	}
	c->token = arena_str(c->mem, token);

	const char *const headers[] = {
		arena_printf(c->mem, "Authorization: Bearer " STR_FMT, STR_ARG(token)).p,
		arena_printf(c->mem, "Client-Id: " STR_FMT, STR_ARG(set->client_id)).p, NULL,
	};
	const struct fetch call = {
		.method = "POST", .headers = headers, .body = c->body, .where = FETCH_TRUSTED, .timeout_ms = CALL_MS,
		.url = arena_printf(c->mem, STR_FMT "/chat/messages", STR_ARG(set->api_url)),
	};

	if (fetch_start(c->d->t->fetch, &call, answered, c, NULL, &why) != 0) {
		sending_retry(c->s, str_of(why.text));
		call_free(c);
	}
}

static void go(struct call *c)
{
	token_get(c->d->t->tokens, with_token, c);
}

/* The message that is answered: what the router names, else the one that came with the command. */
static struct str parent_of(const struct outbound *what)
{
	if (what->in_reply_to.n > 0)
		return what->in_reply_to;
	if (str_starts(what->reply_ref, STR("twitch:")))
		return (struct str){ what->reply_ref.p + 7, what->reply_ref.n - 7 };
	return STR_NONE;
}

static void send_part(void *arg, struct sending *s, const struct outbound *what, struct str text, unsigned part)
{
	struct send *d = arg;
	struct call *c = XNEW(struct call);
	struct str parent = part == 0 ? parent_of(what) : STR_NONE, body = STR_NONE;
	struct buf b = BUF(16384);

	c->d = d;
	c->s = s;
	c->mem = arena_new(4096, 4 << 20);
	buf_add(&b, STR("{\"broadcaster_id\":"));
	buf_json(&b, what->channel_id);
	buf_add(&b, STR(",\"sender_id\":"));
	buf_json(&b, d->t->settings->bot_user_id);
	buf_add(&b, STR(",\"message\":"));
	buf_json(&b, text);
	if (parent.n > 0) {
		buf_add(&b, STR(",\"reply_parent_message_id\":"));
		buf_json(&b, parent);
	}
	buf_add(&b, STR("}"));
	ASSERT(buf_str(&b, &body) == 0);        /* 500 characters and three ids */
	c->body = arena_str(c->mem, body);
	buf_clear(&b);
	go(c);
}

/* What is written ------------------------------------------------------------------------------- */

static struct str text_of(void *arg, const struct outbound *what, struct str login, struct arena *mem,
                          const char **refusal)
{
	struct send *d = arg;
	struct str text = what->text;

	if (!channels_monitored(d->t->channels, what->channel_id)) {
		*refusal = "inactive";
		return STR_NONE;
	}
	if (what->kind != OUT_CHAT && !(what->kind == OUT_FORM && text.n > 0)) {
		*refusal = "unsupported";
		return STR_NONE;
	}
	if (what->private) {
		text = STR("there is a private answer for you that could not be delivered here. Allow direct "
		           "messages, "
		           "or ask again on another platform that you have linked.");
		return login.n > 0 ?
		               arena_printf(mem, "@" STR_FMT " " STR_FMT, STR_ARG(login), STR_ARG(text)) :
		               text;
	}
	if (what->user_id.n > 0 && what->reply_ref.n == 0 && login.n > 0)
		return arena_printf(mem, "@" STR_FMT " " STR_FMT, STR_ARG(login), STR_ARG(text));
	text = str_trim(text);
	/* A command to Twitch's chat otherwise. */
	if (text.n > 0 && (text.p[0] == '/' || text.p[0] == '.'))
		text = arena_printf(mem, WORD_JOINER STR_FMT, STR_ARG(text));
	return text;
}

static void budget_of(void *arg, const struct outbound *what, struct budget *ret)
{
	struct send *d = arg;
	const struct twitch_settings *set = d->t->settings;
	enum bot_role role = channels_bot_role(d->t->channels, what->channel_id);

	ret->account = set->bot_user_id;
	ret->max_slots = (int)(role >= BOT_MODERATOR ? set->send_limit_mod : set->send_limit);
	ret->gap_ms = role >= BOT_VIP ? 0 : GAP_MS;
}

struct send *send_open(struct twitch *t, struct err *err)
{
	struct send *d = XNEW(struct send);
	const struct sender_conf conf = {
		.platform = "twitch", .db = t->db, .bus = t->bus, .arg = d,
		.split = { .max_chars = MESSAGE_CHARS, .max_parts = PARTS, .one_line = true },
		.reserve_sql = "twitch_reserve($4::text, $1::uuid, $2::integer, $3::text, $5::integer, $6::integer)",
		.answered_sql = "UPDATE twitch_sends SET answered_at = clock_timestamp() "
		                "WHERE account_id = $1::text AND message_id = $2::uuid AND part = $3::integer",
		.blocked_sql = "UPDATE twitch_budget SET blocked_until = greatest(blocked_until, now() + "
		               "make_interval(secs => $2::bigint / 1000.0)), updated_at = now() WHERE account_id = $1::text",
		.budget_of = budget_of, .text_of = text_of, .send = send_part,
	};

	d->t = t;
	d->sender = sender_open(t->s, &conf, err);
	if (d->sender == NULL) {
		free(d);
		return NULL;
	}
	return d;
}

struct sender *send_sender(struct send *d)
{
	return d->sender;
}

void send_free(struct send *d)
{
	if (d == NULL)
		return;
	sender_free(d->sender);
	free(d);
}

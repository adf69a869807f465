/* waddle-fake-twitch - the part of Twitch that a sender of chat meets, and a witness of it.
 *
 * Speaks POST /oauth2/token, GET /oauth2/validate and POST /helix/chat/messages as Twitch does, in
 * memory.  It counts every message against the limits of one account (20 in 30 s, 100 where the
 * bot moderates; Twitch mutes an account that passes them) at the time it arrives, and tells:
 *
 *      GET  /_sent?channel=ID     what was written, in order
 *      GET  /_violations          how often a limit was passed, and the fullest window seen
 *      POST /_behave              what the next calls meet: see struct behaviour
 *      POST /_echo                {"url","secret"}: messages come back as EventSub deliveries
 *      POST /_tokens              {"refuse":true}: no credentials are good
 *      POST /_reset               forget messages, violations, behaviour and tokens */
#include "clock.h"
#include "config.h"
#include "crypto.h"
#include "fetch.h"
#include "http.h"
#include "ids.h"
#include "list.h"
#include "service.h"

enum { TEXT_CHARS = 500, SENT_MAX = 100000 };

struct settings {
	struct str client_id, client_secret, moderated;
	int64_t    window_ms, limit, limit_moderated;
};

static const struct cfg_var vars[] = {
	CFG(struct settings, client_id, "FAKE_CLIENT_ID", CFG_STR, "", "The one client id it knows; empty: any."),
	CFG(struct settings, client_secret, "FAKE_CLIENT_SECRET", CFG_STR, "", "And its secret; empty: any."),
	CFG(struct settings, moderated, "FAKE_MODERATED", CFG_STR, "",
	    "Channels where the bot is a moderator: ids with commas between."),
	CFG(struct settings, window_ms, "FAKE_WINDOW", CFG_MS, "30s", "Window of the limits."),
	CFG(struct settings, limit, "FAKE_LIMIT", CFG_INT, "20", "Messages in a window.", .min = 1, .max = 100000),
	CFG(struct settings, limit_moderated, "FAKE_LIMIT_MOD", CFG_INT, "100",
	    "The same for messages to channels where the bot moderates.", .min = 1, .max = 100000),
	{ 0 }
};

/* One misbehaviour, for `count` calls (0: one) of the channel, or of any. */
struct behaviour {
	struct list node;
	struct str  channel;
	int64_t     count;
	int64_t     status;             /* of the answer; 0: what is right */
	struct str  drop;               /* 200 with is_sent false and this code */
	int64_t     hang_ms;            /* before the answer */
	bool        lose;               /* written all the same, whatever the answer says */
	bool        mute;               /* not echoed */
	int64_t     reset_s;            /* Ratelimit-Reset of a 429, from now */
};
static const struct js_field behaviour_fields[] = {
	JS(struct behaviour, channel, JS_STR, .optional = true), JS(struct behaviour, count, JS_INT, .optional = true),
	JS(struct behaviour, status, JS_INT, .optional = true), JS(struct behaviour, drop, JS_STR, .optional = true),
	JS(struct behaviour, hang_ms, JS_INT, .optional = true), JS(struct behaviour, lose, JS_BOOL, .optional = true),
	JS(struct behaviour, mute, JS_BOOL, .optional = true), JS(struct behaviour, reset_s, JS_INT, .optional = true),
	{ 0 }
};

struct sent { struct list node; struct str channel, sender, text, parent; char id[ID_TEXT]; int64_t at_ms; };

struct fake {
	struct service      *s;
	struct settings     *set;
	struct http         *http;
	struct fetch_client *fetch;
	struct arena        *mem;       /* of everything below, until /_reset */
	struct list          sent, behaviour;
	int64_t              n_sent, violations, fullest, calls, tokens_made;
	bool                 no_tokens;
	char                 token[ID_TEXT];
	struct str           echo_url, echo_secret;
};

/* Answers that wait. */
struct late { struct timer timer; struct http_req *r; int status; struct str body; };

static void say(struct http_req *r, int status, struct buf *b)
{
	struct str body = STR_NONE;

	if (buf_str(b, &body) != 0)
		http_reply_raw(r, 500, "text/plain", STR("too long"));
	else
		http_reply_raw(r, status, "application/json", body);
	buf_clear(b);
}

/* As Twitch says no. */
static void complain(struct http_req *r, int status, const char *error, const char *message)
{
	struct buf b = BUF(4096);

	buf_printf(&b, "{\"error\":\"%s\",\"status\":%d,\"message\":\"%s\"}", error, status, message);
	say(r, status, &b);
}

/* Forms are short and plain here: no value of ours needs percent signs. */
static struct str form_value(struct str form, const char *name)
{
	while (form.p != NULL) {
		struct str pair = str_cut(form, '&', &form), value, key = str_cut(pair, '=', &value);

		if (str_eq(key, str_of(name)))
			return value;
	}
	return STR_NONE;
}

static void token_handle(struct http_req *r, void *arg)
{
	struct fake *f = arg;
	struct str form = http_raw(r);
	struct buf b = BUF(4096);

	if (!str_eq(form_value(form, "grant_type"), STR("client_credentials")))
		complain(r, 400, "Bad Request", "unsupported grant type");
	else if (form_value(form, "client_id").n == 0 ||
	         (f->set->client_id.n > 0 && !str_eq(form_value(form, "client_id"), f->set->client_id)))
		complain(r, 400, "Bad Request", "invalid client");
	else if (f->no_tokens || (f->set->client_secret.n > 0 &&
	                          !str_eq(form_value(form, "client_secret"), f->set->client_secret)))
		complain(r, 403, "Forbidden", "invalid client secret");
	else {
		if (f->token[0] == '\0')
			id_random(f->token);
		f->tokens_made++;
		buf_printf(&b, "{\"access_token\":\"%s\",\"expires_in\":5011271,\"token_type\":\"bearer\"}",
		           f->token);
		say(r, 200, &b);
	}
}

static bool authorised(struct fake *f, struct http_req *r, const char *scheme)
{
	struct str given = http_header(r, "Authorization"), token = STR_NONE;

	return f->token[0] != '\0' && str_eq_fold(str_cut(given, ' ', &token), str_of(scheme)) &&
	       str_eq(token, str_of(f->token));
}

static void validate_handle(struct http_req *r, void *arg)
{
	struct fake *f = arg;
	struct buf b = BUF(4096);

	if (!authorised(f, r, "OAuth")) {
		complain(r, 401, "Unauthorized", "invalid access token");
		return;
	}
	buf_add(&b, STR("{\"client_id\":"));
	buf_json(&b, f->set->client_id);
	buf_add(&b, STR(",\"expires_in\":5011271}"));
	say(r, 200, &b);
}

/* Messages --------------------------------------------------------------------------------------- */

struct message { struct str broadcaster_id, sender_id, message, reply_parent_message_id; };
static const struct js_field message_fields[] = {
	JS(struct message, broadcaster_id, JS_STR, .min = 1), JS(struct message, sender_id, JS_STR, .min = 1),
	JS(struct message, message, JS_STR, .min = 1),
	JS(struct message, reply_parent_message_id, JS_STR, .optional = true),
	{ 0 }
};

static bool is_moderated(const struct fake *f, struct str channel)
{
	struct str rest = f->set->moderated;

	while (rest.p != NULL)
		if (str_eq(str_cut(rest, ',', &rest), channel))
			return true;
	return false;
}

/* The account's window that ends now, this message in it. */
static void count(struct fake *f, const struct sent *m)
{
	int64_t n = 0, limit = is_moderated(f, m->channel) ? f->set->limit_moderated : f->set->limit;

	for (struct list *l = f->sent.prev; l != &f->sent; l = l->prev) {
		const struct sent *other = CONTAINER_OF(l, struct sent, node);

		if (other->at_ms <= m->at_ms - f->set->window_ms)
			break;
		n += str_eq(other->sender, m->sender);
	}
	if (n > f->fullest)
		f->fullest = n;
	f->violations += n > limit;
}

static void echoed(void *arg, const struct fetch_result *res, const struct err *err)
{
	(void)arg;
	(void)res;
	(void)err;
}

/* The bot's own message, as EventSub delivers it. */
static void echo(struct fake *f, const struct sent *m)
{
	struct arena *mem = arena_new(8192, 1 << 20);
	struct buf b = BUF(64 * 1024);
	char id[ID_TEXT], at[CLOCK_TEXT], hex[2 * CRYPTO_SHA256 + 1];
	unsigned char mac[CRYPTO_SHA256];
	struct str body = STR_NONE;
	struct err err = { 0 };

	id_random(id);
	clock_text(clock_unix_ms(), at);
	buf_add(&b,
	        STR("{\"subscription\":{\"id\":\"fake\",\"type\":\"channel.chat.message\",\"version\":\"1\","
	            "\"status\":\"enabled\"},\"event\":{\"broadcaster_user_id\":"));
	buf_json(&b, m->channel);
	buf_add(&b, STR(",\"broadcaster_user_login\":\"channel\",\"chatter_user_id\":"));
	buf_json(&b, m->sender);
	buf_add(&b, STR(",\"chatter_user_login\":\"bot\",\"chatter_user_name\":\"Bot\",\"message_type\":"
	                "\"text\",\"badges\":["));
	if (is_moderated(f, m->channel))
		buf_add(&b, STR("{\"set_id\":\"moderator\",\"id\":\"1\",\"info\":\"\"}"));
	buf_printf(&b, "],\"message_id\":\"%s\",\"message\":{\"text\":", m->id);
	buf_json(&b, m->text);
	buf_add(&b, STR(",\"fragments\":[]}}}"));
	if (buf_str(&b, &body) == 0 &&
	    crypto_hmac(f->echo_secret, (const struct str[]){ str_of(id), str_of(at), body }, 3, mac) == 0) {
		crypto_hex(mac, sizeof mac, hex);

		const char *const headers[] = {
			arena_printf(mem, "Twitch-Eventsub-Message-Id: %s", id).p,
			arena_printf(mem, "Twitch-Eventsub-Message-Timestamp: %s", at).p,
			arena_printf(mem, "Twitch-Eventsub-Message-Signature: sha256=%s", hex).p,
			"Twitch-Eventsub-Message-Type: notification", "Twitch-Eventsub-Subscription-Type: channel.chat.message",
			"Twitch-Eventsub-Subscription-Version: 1", NULL,
		};
		const struct fetch call = {
			.method = "POST", .url = f->echo_url, .headers = headers, .body = body, .where = FETCH_TRUSTED,
		};

		(void)!fetch_start(f->fetch, &call, echoed, f, NULL, &err);
	}
	buf_clear(&b);
	arena_free(mem);
}

static struct sent *keep(struct fake *f, const struct message *in, bool mute)
{
	struct sent *m = ARENA_NEW(f->mem, struct sent);

	*m = (struct sent){
		.channel = arena_str(f->mem, in->broadcaster_id), .sender = arena_str(f->mem, in->sender_id),
		.text = arena_str(f->mem, in->message), .parent = arena_str(f->mem, in->reply_parent_message_id),
		.at_ms = clock_exact_us() / 1000,
	};
	id_random(m->id);
	list_add_tail(&f->sent, &m->node);
	f->n_sent++;
	count(f, m);
	if (f->echo_url.n > 0 && !mute)
		echo(f, m);
	return m;
}

static struct behaviour *next_behaviour(struct fake *f, struct str channel)
{
	LIST_EACH(l, tmp, &f->behaviour) {
		struct behaviour *b = CONTAINER_OF(l, struct behaviour, node);

		if (b->channel.n > 0 && !str_eq(b->channel, channel))
			continue;
		if (--b->count <= 0)
			list_del(l);
		return b;
	}
	return NULL;
}

static void answer_late(void *arg)
{
	struct late *late = arg;

	http_reply_raw(late->r, late->status, "application/json", late->body);
}

static void answer(struct fake *f, struct http_req *r, int status, struct buf *b, int64_t in_ms)
{
	struct late *late = ARENA_NEW(http_mem(r), struct late);
	struct str body = STR_NONE;

	if (in_ms <= 0) {
		say(r, status, b);
		return;
	}
	ASSERT(buf_str(b, &body) == 0);
	late->r = r;
	late->status = status;
	late->body = arena_str(http_mem(r), body);
	buf_clear(b);
	timer_start(f->s, &late->timer, in_ms, answer_late, late);
}

static void message_handle(struct http_req *r, void *arg)
{
	struct fake *f = arg;
	const struct message *in = http_body(r);
	struct str client = http_header(r, "Client-Id");
	struct buf out = BUF(8192);
	struct behaviour *b;
	int status;

	f->calls++;
	if (!authorised(f, r, "Bearer") || (f->set->client_id.n > 0 && !str_eq(client, f->set->client_id))) {
		complain(r, 401, "Unauthorized", "Invalid OAuth token");
		return;
	}
	if (str_clip(in->message, TEXT_CHARS).n < in->message.n) {
		complain(r, 422, "Unprocessable Entity", "The message is too large");
		return;
	}
	b = next_behaviour(f, in->broadcaster_id);
	status = b != NULL && b->status != 0 ? (int)b->status : 200;
	if (status == 429) {
		long long at = clock_unix_ms() / 1000 + b->reset_s;

		(void)!http_set(r, "Ratelimit-Reset", arena_printf(http_mem(r), "%lld", at));
	}
	if (b != NULL && b->drop.n > 0) {
		buf_add(&out,
		        STR("{\"data\":[{\"message_id\":\"\",\"is_sent\":false,\"drop_reason\":{\"code\":"));
		buf_json(&out, b->drop);
		buf_add(&out, STR(",\"message\":\"dropped\"}}]}"));
	} else if (status != 200) {
		if (b->lose)
			(void)keep(f, in, b->mute);
		buf_printf(&out, "{\"error\":\"fake\",\"status\":%d,\"message\":\"as it was told\"}", status);
	} else if (f->n_sent >= SENT_MAX) {
		status = 507;
		buf_add(&out, STR("{\"message\":\"full\"}"));
	} else if (b != NULL && b->hang_ms > 0 && !b->lose) {
		status = 503;           /* nobody waits for it any more */
		buf_add(&out, STR("{\"message\":\"hung\"}"));
	} else {
		struct sent *m = keep(f, in, b != NULL && b->mute);

		buf_printf(&out, "{\"data\":[{\"message_id\":\"%s\",\"is_sent\":true}]}", m->id);
	}
	answer(f, r, status, &out, b != NULL ? b->hang_ms : 0);
}

/* Control ---------------------------------------------------------------------------------------- */

struct which { struct str channel; };
static const struct js_field which_fields[] = { JS(struct which, channel, JS_STR, .optional = true), { 0 } };

static void sent_handle(struct http_req *r, void *arg)
{
	struct fake *f = arg;
	const struct which *q = http_query(r);
	struct buf b = BUF(8 << 20);
	const char *between = "";

	buf_add(&b, STR("{\"messages\":["));
	LIST_EACH(l, tmp, &f->sent) {
		const struct sent *m = CONTAINER_OF(l, struct sent, node);

		if (q->channel.n > 0 && !str_eq(q->channel, m->channel))
			continue;
		buf_printf(&b, "%s{\"message_id\":\"%s\",\"broadcaster_id\":", between, m->id);
		buf_json(&b, m->channel);
		buf_add(&b, STR(",\"sender_id\":"));
		buf_json(&b, m->sender);
		buf_add(&b, STR(",\"message\":"));
		buf_json(&b, m->text);
		buf_add(&b, STR(",\"reply_parent_message_id\":"));
		buf_json(&b, m->parent);
		buf_printf(&b, ",\"at_ms\":%lld}", (long long)m->at_ms);
		between = ",";
	}
	buf_printf(&b, "],\"calls\":%lld,\"tokens\":%lld}", (long long)f->calls, (long long)f->tokens_made);
	say(r, 200, &b);
}

static void violations_handle(struct http_req *r, void *arg)
{
	struct fake *f = arg;
	struct buf b = BUF(256);

	buf_printf(&b, "{\"violations\":%lld,\"fullest\":%lld,\"sent\":%lld}", (long long)f->violations,
	           (long long)f->fullest, (long long)f->n_sent);
	say(r, 200, &b);
}

static void behave_handle(struct http_req *r, void *arg)
{
	struct fake *f = arg;
	struct behaviour *b = ARENA_NEW(f->mem, struct behaviour);

	*b = *(const struct behaviour *)http_body(r);
	b->channel = arena_str(f->mem, b->channel);
	b->drop = arena_str(f->mem, b->drop);
	list_add_tail(&f->behaviour, &b->node);
	http_reply(r, 204, NULL, NULL);
}

struct echo_to { struct str url, secret; };
static const struct js_field echo_fields[] = {
	JS(struct echo_to, url, JS_STR), JS(struct echo_to, secret, JS_STR, .optional = true), { 0 }
};

static void echo_handle(struct http_req *r, void *arg)
{
	struct fake *f = arg;
	const struct echo_to *to = http_body(r);

	f->echo_url = arena_str(f->mem, to->url);
	f->echo_secret = arena_str(f->mem, to->secret);
	http_reply(r, 204, NULL, NULL);
}

struct tokens { bool refuse; };
static const struct js_field tokens_fields[] = { JS(struct tokens, refuse, JS_BOOL), { 0 } };

static void tokens_handle(struct http_req *r, void *arg)
{
	struct fake *f = arg;

	f->no_tokens = ((const struct tokens *)http_body(r))->refuse;
	http_reply(r, 204, NULL, NULL);
}

static void forget(struct fake *f)
{
	arena_reset(f->mem);
	list_init(&f->sent);
	list_init(&f->behaviour);
	f->n_sent = f->violations = f->fullest = f->calls = f->tokens_made = 0;
	f->token[0] = '\0';
	f->echo_url = f->echo_secret = STR_NONE;
	f->no_tokens = false;
}

static void reset_handle(struct http_req *r, void *arg)
{
	forget(arg);
	http_reply(r, 204, NULL, NULL);
}

enum { LONG_MS = 120000 };
static const struct http_route routes[] = {
	{ .method = "POST", .path = "/oauth2/token", .max_body = 4096, .handle = token_handle, .summary = "App tokens." },
	{ .method = "GET", .path = "/oauth2/validate", .handle = validate_handle, .summary = "Is this a token?" },
	{ .method = "POST", .path = "/helix/chat/messages", .max_body = 64 * 1024, .max_ms = LONG_MS,
	  .body = message_fields, .body_size = sizeof(struct message), .handle = message_handle, .summary = "Say it." },
	{ .method = "GET", .path = "/_sent", .query = which_fields, .query_size = sizeof(struct which),
	  .handle = sent_handle, .summary = "What was written." },
	{ .method = "GET", .path = "/_violations", .handle = violations_handle, .summary = "Limits that were passed." },
	{ .method = "POST", .path = "/_behave", .max_body = 4096, .body = behaviour_fields,
	  .body_size = sizeof(struct behaviour), .handle = behave_handle, .summary = "What the next calls meet." },
	{ .method = "POST", .path = "/_echo", .max_body = 4096, .body = echo_fields, .body_size = sizeof(struct echo_to),
	  .handle = echo_handle, .summary = "Where own messages come back." },
	{ .method = "POST", .path = "/_tokens", .max_body = 4096, .body = tokens_fields, .body_size = sizeof(struct tokens),
	  .handle = tokens_handle, .summary = "Whether there are any." },
	{ .method = "POST", .path = "/_reset", .max_body = 16, .handle = reset_handle, .summary = "Forget." },
	{ 0 }
};

static int start(struct service *s, struct err *err)
{
	struct fake *f = s->priv;

	f->s = s;
	f->set = s->settings;
	f->mem = arena_new(64 * 1024, (size_t)1 << 30);
	forget(f);
	f->fetch = fetch_open(s, 32, 32);
	f->http = http_open(s, s->base.http_listen, routes, f,
	                    (struct http_limits){ .max_conns = 2048, .max_per_addr = 2048 }, err);
	return f->http == NULL ? err->code : 0;
}

static void drain(struct service *s)
{
	struct fake *f = s->priv;

	http_close(f->http);
}

static void stop(struct service *s)
{
	struct fake *f = s->priv;

	fetch_close(f->fetch);
	arena_free(f->mem);
}

static struct metric *const *const metrics[] = { http_metrics, fetch_metrics, NULL };

int main(int argc, char **argv)
{
	static struct fake fake;
	struct settings settings;
	struct service s = {
		.name = "fake-twitch", .version = "1.0", .vars = vars, .settings = &settings, .needs = NEEDS_HTTP,
		.metrics = metrics, .start = start, .drain = drain, .stop = stop, .priv = &fake,
	};

	return service_main(&s, argc, argv);
}

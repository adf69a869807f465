/* notice.c - one message a person, private where the platform can. */
#include "notice.h"
#include "clock.h"
#include "err.h"
#include "ids.h"
#include "limit.h"
#include "log.h"
#include "metrics.h"
#include "router.h"
#include "topics.h"

enum { LIFE_MS = 300000, ONCE_MS = 60000, KEYS = 100000, TEXT_CHARS = 450 };

struct notices { struct limit *limit; };

METRIC_BY(told, METRIC_COUNTER, "waddle_router_notices_total", "Notices to users, by verdict.", "verdict",
          verdict_names);
struct metric *const notice_metrics[] = { &told, NULL };

enum when { ALWAYS, ASKED };            /* ASKED: only slash commands and interactions */
static const struct { const char *text; enum when when; bool public; } texts[VERDICT_COUNT] = {
	[VERDICT_NOT_MONITORED] = { "{command} is not available here.", ASKED, false },
	[VERDICT_ENTITY_INACTIVE] = { "{command} is not available here.", ASKED, false },
	[VERDICT_UNKNOWN_COMMAND] = { "{command} is not available here.", ASKED, false },
	[VERDICT_NOT_ENABLED] = { "{command} is not available here.", ASKED, false },
	[VERDICT_ALIAS_LOOP] = { "{command} is not available here.", ASKED, false },
	[VERDICT_DENIED_USER] = { "You may not use {command} here.", ALWAYS, false },
	[VERDICT_DENIED_ROLE] = { "You may not use {command} here.", ALWAYS, false },
	[VERDICT_DENIED_LABEL] = { "You may not use {command} here.", ALWAYS, false },
	[VERDICT_AUTH_REQUIRED] = { "Link your account first: !identity link", ALWAYS, false },
	[VERDICT_RATE_LIMITED] = { "Slow down: {command} again in {n} s.", ALWAYS, false },
	[VERDICT_TIMEOUT] = { "{command} did not answer in time.", ALWAYS, true },
	[VERDICT_MODULE_FAILED] = { "{command} failed.", ALWAYS, true },
	[VERDICT_UNREACHABLE] = { "{command} failed.", ALWAYS, true },
	[VERDICT_URL_REFUSED] = { "{command} failed.", ALWAYS, true },
	[VERDICT_BAD_RESPONSE] = { "{command} failed.", ALWAYS, true },
	[VERDICT_OVERLOADED] = { "Too busy right now, try again in a minute.", ALWAYS, true },
	[VERDICT_QUEUE_TIMEOUT] = { "Too busy right now, try again in a minute.", ALWAYS, true },
};

struct replaced { struct str at[VERDICT_COUNT]; };
static const struct js_field message_fields[] = {
#define X(name, text, code, why) { .key = text, .type = JS_STR, .optional = true, \
	.offset = offsetof(struct replaced, at) + VERDICT_##name * sizeof(struct str) },
	VERDICTS(X)
#undef X
	{ 0 }
};

struct config { bool silent; struct replaced messages; };
static const struct js_field config_fields[] = {
	JS(struct config, silent, JS_BOOL, .optional = true),
	JS(struct config, messages, JS_OBJECT, .fields = message_fields, .optional = true),
	{ 0 }
};

/* Where an answer can be for one pair of eyes. */
static bool has_private(struct str platform)
{
	return str_eq(platform, STR("discord")) || str_eq(platform, STR("slack")) ||
	       str_eq(platform, STR("terminal"));
}

bool notice_told(enum verdict v, bool asked, struct str platform)
{
	if (texts[v].text == NULL)
		return false;
	if (asked)
		return true;
	return texts[v].when == ALWAYS && (texts[v].public || has_private(platform));
}

static struct str words(const struct notice *n, const struct config *conf, struct arena *mem)
{
	struct str from = conf->messages.at[n->verdict], text = STR_NONE;
	struct buf b = BUF(16384);

	if (from.n == 0 && n->verdict == VERDICT_MODULE_FAILED && n->why.n > 0)
		return str_clip(n->why, TEXT_CHARS);
	if (from.n == 0)
		from = str_of(texts[n->verdict].text);
	while (from.n > 0) {
		if (str_starts(from, STR("{command}"))) {
			buf_add(&b, n->command);
			from = (struct str){ from.p + 9, from.n - 9 };
		} else if (str_starts(from, STR("{n}"))) {
			buf_printf(&b, "%lld", (long long)((n->retry_after_ms + 999) / 1000));
			from = (struct str){ from.p + 3, from.n - 3 };
		} else {
			buf_add(&b, (struct str){ from.p, 1 });
			from = (struct str){ from.p + 1, from.n - 1 };
		}
	}
	if (buf_str(&b, &text) == 0)
		text = str_clip(arena_str(mem, text), TEXT_CHARS);
	buf_clear(&b);
	return text;
}

static int hand_over(struct router *r, const struct notice *n, const char *topic, struct str text, bus_sent *sent,
                     void *arg)
{
	char message_id[ID_TEXT], traceparent[56];
	struct envelope env = {
		.kind = ENV_OUTBOUND, .source = STR("waddle/router"), .time_ms = clock_unix_ms(),
	};
	struct outbound out = {
		.kind = OUT_CHAT, .entity = n->entity, .server_id = n->server_id, .channel_id = n->channel_id,
		.user_id = n->user_id, .reply_ref = n->reply_ref, .in_reply_to = n->in_reply_to, .text = text,
		.priority = PRIORITY_NORMAL, .private = n->asked || has_private(n->platform),
		.expires_at_ms = env.time_ms + LIFE_MS,
	};

	id_outbound(n->of, -1, 0, message_id);
	env.id = out.message_id = str_of(message_id);
	if (n->trace_id.n == 32) {
		(void)snprintf(traceparent, sizeof traceparent, "00-" STR_FMT "-%.16s-01",
		               STR_ARG(n->trace_id), n->trace_id.p);
		env.traceparent = str_of(traceparent);
	}
	return envelope_send(r->bus, topic, n->outbound_key, &env, &out, sent, arg);
}

/* Counted against the 60 s; taken back with limit_give_back() when it could not be sent. */
static struct str key_of(const struct notice *n, struct arena *mem)
{
	return arena_printf(mem, STR_FMT ":" STR_FMT ":" STR_FMT ":%d", STR_ARG(n->platform),
	                    STR_ARG(n->user_id), STR_ARG(n->command), (int)n->verdict);
}

struct str notice_words(struct router *r, const struct notice *n, struct arena *mem)
{
	struct config conf = { 0 };
	struct err err = { 0 };

	if (!notice_told(n->verdict, n->asked, n->platform))
		return STR_NONE;
	/* What nobody can read replaces nothing. */
	if (n->config.n > 0 && js_decode(n->config, config_fields, &conf, mem, &err) != 0)
		conf = (struct config){ 0 };
	if (!n->asked && (conf.silent || limit_take(r->notices->limit, key_of(n, mem),
	                                            (struct limit_rule){ 1, ONCE_MS }, clock_unix_ms()) > 0))
		return STR_NONE;
	metric_add(&told, n->verdict, 1);
	return words(n, &conf, mem);
}

int notice_send(struct router *r, const struct notice *n, bus_sent *sent, void *arg)
{
	struct arena *mem;
	struct str topic, text;
	int e = 0;

	if (!notice_told(n->verdict, n->asked, n->platform))
		return 0;
	mem = arena_new(4096, 1 << 20);
	topic = arena_printf(mem, "waddle.outbound." STR_FMT, STR_ARG(n->platform));
	text = topics_find(topic.p) != NULL ? notice_words(r, n, mem) : STR_NONE;
	if (text.n > 0) {
		e = hand_over(r, n, topic.p, text, sent, arg);
		if (e == -EAGAIN && !n->asked)
			limit_give_back(r->notices->limit, key_of(n, mem));
		else if (e != 0)
			log_rarely(10000, L_WARN, NULL, "notice_dropped", "%s: %d", topic.p, e);
		/* No such topic, too large: the command itself is settled. */
		e = e == 0 ? 1 : e == -EAGAIN ? e : 0;
	}
	arena_free(mem);
	return e;
}

/* What the author of w is to hear about; PENDING: nothing, something runs. */
static enum verdict about(const struct work *w, const struct candidate **of)
{
	enum verdict worst = VERDICT_COUNT;

	*of = NULL;
	for (size_t i = 0; i < w->n_cand; i++) {
		const struct candidate *c = &w->cand[i];

		/* What a rule runs nobody has asked for. */
		if (c->trigger == TRIGGER_STRING_MATCH)
			return VERDICT_PENDING;
		if (c->trigger == TRIGGER_EVENT)
			continue;
		if (c->verdict == VERDICT_PENDING)
			return VERDICT_PENDING;
		if (worst == VERDICT_COUNT || verdict_progress(c->verdict) > verdict_progress(worst)) {
			worst = c->verdict;
			*of = c;
		}
	}
	return worst != VERDICT_COUNT ? worst : w->base;
}

static bool asked(const struct work *w)
{
	return w->asks == ASKS_SLASH || w->asks == ASKS_CUSTOM || w->asks == ASKS_FORM;
}

bool notice_due(const struct work *w)
{
	const struct candidate *c;

	return w->asks != ASKS_NOTHING && notice_told(about(w, &c), asked(w), w->ev.platform);
}

bool notice_work(struct work *w)
{
	const struct place *place = w->place != NULL ? cache_value(w->place) : NULL;
	const struct candidate *c;
	enum verdict v = about(w, &c);
	int e;

	if (!notice_due(w))
		return true;

	struct notice n = {
		.verdict = v, .asked = asked(w), .retry_after_ms = c != NULL ? c->retry_after_ms : 0,
		.of = str_of(w->session_id), .platform = w->ev.platform, .entity = w->ev.entity,
		.server_id = w->ev.server_id, .channel_id = w->ev.channel_id, .user_id = w->ev.user.id,
		.outbound_key = place != NULL ? place->outbound_key : w->ev.channel_id,
		.reply_ref = w->ev.reply_ref, .in_reply_to = parse_message_id(w->ev.metadata, w->mem),
		.config = place != NULL ? place->config : STR_NONE, .trace_id = str_of(w->trace_id),
		.command = arena_printf(w->mem, STR_FMT STR_FMT,
		                        STR_ARG(w->asks == ASKS_SLASH ? STR("/") : w->cmd.prefix),
		                        STR_ARG(w->cmd.name)),
	};

	if (w->cmd.name.n == 0 || w->asks == ASKS_FORM)
		n.command = STR("This");
	else if (w->asks == ASKS_CUSTOM)
		n.command = w->cmd.name;
	e = notice_send(w->r, &n, work_acknowledged, w);
	if (e == 1)
		w->unacked++;
	return e >= 0;
}

struct notices *notices_open(void)
{
	struct notices *n = XNEW(struct notices);

	n->limit = limit_open(KEYS);
	return n;
}

void notices_close(struct notices *n)
{
	if (n == NULL)
		return;
	limit_close(n->limit);
	free(n);
}

/* rules_act.c - string rules in the life of an event (router.md 14).
 *
 * What a hit leads to is put together while the set is at hand, and sent once the decision is
 * committed.  Ids of messages are derived from event and rule: whatever is sent again is the same
 * message.  The decision row counts the hit; no counter is touched here. */
#include "rules_act.h"
#include "router.h"
#include "clock.h"
#include "entity.h"
#include "ids.h"
#include "metrics.h"
#include "rules_hooks.h"
#include "rules_store.h"

enum { TEXT_CHARS = 5000, EXPIRES_MS = 300000 };

METRIC(match_s, METRIC_HISTOGRAM, "waddle_router_rule_match_seconds", "Comparing one text with all rules of its place.");
METRIC_BY(hits, METRIC_COUNTER, "waddle_router_rule_hits_total", "Texts a rule acted on, by its action.", "action",
          ((const char *const[]){ "warn", "block", "command", "webhook" }));
struct metric *const rules_act_metrics[] = { &match_s, &hits, NULL };

/* --- texts --------------------------------------------------------------------------------- */

struct str rule_render(struct str text, const struct rule_words *words, struct arena *mem)
{
	const struct { struct str name, value; } known[] = {
		{ STR("{user}"), words->user }, { STR("{user_id}"), words->user_id },
		{ STR("{channel}"), words->channel }, { STR("{match}"), words->match },
		{ STR("{message}"), words->message },
	};
	struct buf b = BUF(1 << 20);
	struct str out = text;

	while (text.n > 0) {
		const char *brace = memchr(text.p, '{', text.n);
		size_t plain = brace != NULL ? (size_t)(brace - text.p) : text.n, k = 0;

		buf_add(&b, (struct str){ text.p, plain });
		text = (struct str){ text.p + plain, text.n - plain };
		while (k < ARRAY_LEN(known) && !str_starts(text, known[k].name))
			k++;
		if (k < ARRAY_LEN(known)) {
			buf_add(&b, known[k].value);
			text = (struct str){ text.p + known[k].name.n, text.n - known[k].name.n };
		} else if (text.n > 0) {
			buf_add(&b, STR("{"));
			text = (struct str){ text.p + 1, text.n - 1 };
		}
	}
	/* Larger than anything that could be sent: the text as it was written. */
	(void)!buf_str(&b, &out);
	out = arena_str(mem, str_clip(out, TEXT_CHARS));
	buf_clear(&b);
	return out.p != NULL ? out : STR("");
}

/* --- messages ------------------------------------------------------------------------------ */

struct plan {
	struct work        *w;
	const struct rule  *rule;
	struct rule_effect *e;
	struct rule_words   words;
	struct str          message_id;
	char                id[ID_TEXT];        /* of this rule acting on this event */
};

static struct outbound *add(struct plan *p, enum outbound_kind kind, int64_t index, int part)
{
	const struct place *place = cache_value(p->w->place);
	struct outbound *o = &p->e->out[p->e->n_out];
	char id[ID_TEXT];

	ASSERT(p->e->n_out < RULE_MESSAGES);
	id_outbound(str_of(p->id), index, part, id);
	p->e->key[p->e->n_out++] = arena_str(p->w->mem, place->outbound_key);
	*o = (struct outbound){
		.message_id = arena_str(p->w->mem, str_of(id)), .kind = (int)kind, .entity = p->w->ev.entity,
		.server_id = p->w->ev.server_id, .channel_id = p->w->ev.channel_id,
		.user_id = p->w->ev.user.id, .in_reply_to = p->message_id, .priority = PRIORITY_HIGH,
	};
	return o;
}

/* To the user: privately where that is possible for a message of a channel, else by name. */
static void say(struct plan *p, int64_t index, struct str text)
{
	struct work *w = p->w;
	bool private = str_eq(w->ev.platform, STR("discord")) || str_eq(w->ev.platform, STR("slack"));
	struct response a = { .success = true, .final = true, .response_action = ACTION_CHAT, .private = private };
	struct home home = { .address = w->ev.entity, .platform = w->ev.platform };
	struct fanout f;

	text = rule_render(text, &p->words, w->mem);
	a.chat_message = private ? text : arena_printf(w->mem, "@" STR_FMT " " STR_FMT,
	                                               STR_ARG(w->ev.user.name), STR_ARG(text));
	fanout_plan(&a, &home, w->mem, &f);
	for (size_t i = 0; i < f.n_parts; i++) {
		struct outbound *o = add(p, OUT_CHAT, index, (int)i);

		o->text = f.part[i];
		o->private = private;
		o->reply_ref = w->ev.reply_ref;
		if (p->rule->action == RULE_BLOCK)
			o->in_reply_to = STR_NONE;      /* it is gone by then */
		if (!private)
			o->user_id = STR_NONE;          /* named in the text; the collector would do it again */
	}
}

/* A line for the moderators, in the channel that entities.config names; it lies in the same server. */
static void tell_moderators(struct plan *p, struct str channel)
{
	struct work *w = p->w;
	struct entity where = { .platform = w->ev.platform, .server = w->ev.server_id, .channel = channel };
	struct home home = { .platform = w->ev.platform };
	struct response a = { .success = true, .final = true, .response_action = ACTION_CHAT };
	struct buf b = BUF(2048);
	struct fanout f;
	struct str address;

	entity_make(where, &b);
	a.chat_message = arena_printf(w->mem, "Rule %lld (" STR_FMT ") removed a message of " STR_FMT ": " STR_FMT,
	                              (long long)p->rule->id, STR_ARG(p->rule->string), STR_ARG(p->words.user),
	                              STR_ARG(p->words.message));
	fanout_plan(&a, &home, w->mem, &f);
	for (size_t i = 0; i < f.n_parts && buf_str(&b, &address) == 0; i++) {
		struct outbound *o = add(p, OUT_CHAT, 3, (int)i);

		o->text = f.part[i];
		o->entity = arena_str(w->mem, address);
		o->channel_id = arena_str(w->mem, channel);
		o->user_id = o->in_reply_to = STR_NONE;
		if (!str_eq(w->ev.platform, STR("twitch")))
			p->e->key[p->e->n_out - 1] = o->channel_id;
	}
	buf_clear(&b);
}

static struct str mod_channel(const struct work *w)
{
	const struct place *place = cache_value(w->place);
	struct { struct str mod_channel; } c = { STR_NONE };
	const struct js_field fields[] = {
		{ .key = "mod_channel", .type = JS_STR, .optional = true, .max = 255 }, { 0 }
	};

	/* A number or anything else there is a mistake of whoever wrote it: no line, no harm. */
	if (place->config.n > 0 && js_decode(place->config, fields, &c, w->mem, NULL) != 0)
		return STR_NONE;
	return c.mod_channel;
}

static void block(struct plan *p)
{
	struct str moderators = mod_channel(p->w);

	if (p->message_id.n > 0)
		(void)add(p, OUT_DELETE, 0, 0);
	if (p->rule->timeout_s > 0) {
		struct outbound *o = add(p, OUT_TIMEOUT, 1, 0);

		o->duration = p->rule->timeout_s;
		o->text = STR("A rule of this channel.");
	}
	if (p->rule->block.n > 0)
		say(p, 2, p->rule->block);
	if (moderators.n > 0)
		tell_moderators(p, moderators);
}

/* --- commands and webhooks ----------------------------------------------------------------- */

static void command(struct plan *p)
{
	struct arena *mem = p->w->mem;
	struct parsed *cmd = &p->w->rule.cmd;
	struct str name = p->rule->command;
	struct { struct js_list p; } list = { { 0 } };
	const struct js_field fields[] = { { .key = "p", .type = JS_STRS, .optional = true, .max = PARSE_MAX_PARAMS }, { 0 } };
	bool own = str_starts(name, STR("!")) || str_starts(name, STR("#"));
	struct str *param;

	cmd->prefix = own && name.p[0] == '!' ? STR("!") : STR("#");
	cmd->name = parse_name((struct str){ name.p + own, name.n - own }, mem);
	if (p->rule->parameters.n > 0 &&
	    js_decode(arena_printf(mem, "{\"p\":" STR_FMT "}", STR_ARG(p->rule->parameters)), fields, &list, mem, NULL) != 0)
		list.p.n = 0;
	param = list.p.items;
	for (size_t i = 0; i < list.p.n; i++)
		param[i] = rule_render(param[i], &p->words, mem);
	cmd->params = list.p;
}

static void member(struct buf *b, const char *key, struct str value)
{
	buf_printf(b, "\"%s\":", key);
	if (value.p != NULL)
		buf_json(b, value);
	else
		buf_add(b, STR("null"));
	buf_add(b, STR(","));
}

static void webhook(struct plan *p)
{
	const struct event *ev = &p->w->ev;
	const struct place *place = cache_value(p->w->place);
	struct buf b = BUF(256 * 1024);
	char when[CLOCK_TEXT];

	clock_text(ev->occurred_at_ms, when);
	buf_printf(&b, "{\"type\":\"string_match\",\"rule_id\":%lld,", (long long)p->rule->id);
	member(&b, "pattern", p->rule->string);
	member(&b, "match_type", str_of(rule_match_names[p->rule->match]));
	member(&b, "message_content", ev->message_content);
	buf_add(&b, STR("\"user\":{"));
	member(&b, "id", ev->user.id);
	buf_add(&b, STR("\"name\":"));
	buf_json(&b, ev->user.name);
	buf_add(&b, STR("},\"context\":{"));
	member(&b, "platform", ev->platform);
	member(&b, "server_id", ev->server_id);
	member(&b, "channel_id", ev->channel_id);
	member(&b, "message_id", p->message_id);
	member(&b, "match", p->words.match);
	buf_printf(&b, "\"entity_id\":%lld,\"timestamp\":\"%s\"}}", (long long)place->entity_id, when);
	if (buf_str(&b, &p->e->hook_body) == 0)
		p->e->hook_body = arena_str(p->w->mem, p->e->hook_body);
	buf_clear(&b);
	p->e->hook_url = arena_str(p->w->mem, p->rule->webhook_url);
}

/* --- the pipeline's calls ------------------------------------------------------------------ */

static void keep(struct work *w, struct rules_scan *scan, const struct rule *r)
{
	static const enum verdict verdicts[] = {
		[RULE_WARN] = VERDICT_RULE_WARN, [RULE_BLOCK] = VERDICT_RULE_BLOCK,
		[RULE_COMMAND] = VERDICT_RULE_COMMAND, [RULE_WEBHOOK] = VERDICT_RULE_WEBHOOK,
	};
	const struct user *u = &w->ev.user;
	struct response nothing = { .success = true, .response_action = ACTION_CHAT };
	struct home home = { .platform = w->ev.platform };
	struct plan p = {
		.w = w, .rule = r, .e = ARENA_NEW(w->mem, struct rule_effect), .message_id = parse_message_id(w->ev.metadata, w->mem),
		.words = {
			.user = u->display_name.n > 0 ? u->display_name : u->name, .user_id = u->id,
			.channel = w->ev.channel_id, .match = arena_str(w->mem, rules_matched(scan, r)),
			.message = w->ev.message_content,
		},
	};
	struct fanout f;

	nothing.chat_message = STR(".");
	fanout_plan(&nothing, &home, w->mem, &f);
	p.e->topic = f.topic;
	id_rule_webhook(w->ev.event_id, r->id, p.id);
	w->rule = (struct rule_hit){ .id = r->id, .verdict = verdicts[r->action], .of = p.e };
	switch ((enum rule_action)r->action) {
	case RULE_WARN:
		say(&p, 2, r->warning.n > 0 ? r->warning : STR("Please mind the rules of this channel."));
		break;
	case RULE_BLOCK:
		block(&p);
		break;
	case RULE_COMMAND:
		command(&p);
		break;
	case RULE_WEBHOOK:
		webhook(&p);
		break;
	}
	metric_add(&hits, (unsigned)r->action, 1);
}

bool rules_any(const struct router *r)
{
	return rules_exist(r->rules);
}

enum verdict rules_apply(struct work *w)
{
	const struct place *place = cache_value(w->place);
	struct rules_scan *scan = rules_scan_of(w->r->rules);
	struct rules_who who = { ROLE_MEMBER, w->ev.message_type == MSG_EDIT ? RULES_NO_COMMANDS : RULES_ANY_ACTION };
	const struct rule *found = NULL;
	struct rules_set *set[2];
	int64_t began;

	if (!rules_sets(w->r->rules, place->entity_id, place->server_wide_id, set, intake_again, w)) {
		w->loads++;
		return VERDICT_PENDING;
	}
	if (set[0] == NULL && set[1] == NULL)
		return VERDICT_PLAIN;
	for (int i = 0; i < 2; i++)
		if (set[i] != NULL && rules_set_has_exempt(set[i]) && w->person == NULL)
			return VERDICT_PENDING;
	who.rank = judge_role(w);
	began = clock_exact_us();
	rules_scan_text(scan, w->ev.message_content);
	for (int i = 0; i < 2; i++) {
		const struct rule *one = set[i] != NULL ? rules_find(scan, set[i], who) : NULL;

		if (one != NULL && (found == NULL || rule_before(one, found)))
			found = one;
	}
	metric_observe_us(&match_s, 0, clock_exact_us() - began);
	if (found == NULL)
		return VERDICT_PLAIN;
	keep(w, scan, found);
	return w->rule.verdict;
}

bool rules_act(struct work *w)
{
	const struct rule_effect *e = w->rule.of;
	struct envelope env = { .kind = ENV_OUTBOUND, .source = STR("waddle/router"), .time_ms = clock_unix_ms() };
	char traceparent[TRACE_TEXT];
	int n = snprintf(traceparent, sizeof traceparent, "00-%s-%.16s-01", w->trace_id, w->trace_id);

	if (e == NULL)
		return true;
	env.traceparent = (struct str){ traceparent, (size_t)n };
	for (size_t i = 0; e->topic != NULL && i < e->n_out; i++) {
		struct outbound o = e->out[i];

		o.expires_at_ms = env.time_ms + EXPIRES_MS;
		if (envelope_send(w->r->bus, e->topic, e->key[i], &env, &o, work_acknowledged, w) != 0)
			return false;
		w->unacked++;
	}
	if (e->hook_url.n > 0)
		rules_hooks_due(w->r->hooks);
	return true;
}

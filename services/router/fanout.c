/* fanout.c - where a stored response goes, and in how many messages (router.md 15).
 *
 * Private means the user and nobody else: an overlay is seen by everyone, so what is private is
 * shown on none.  A failure without a word of its own becomes a notice to the user. */
#include "response.h"
#include "ids.h"

enum { FORM_MAX = 128 * 1024, OVERLAY_MAX = 128 * 1024 };

const char *const place_names[PLACE_NOWHERE] = {
	[PLACE_TWITCH] = "twitch", [PLACE_DISCORD] = "discord", [PLACE_SLACK] = "slack",
	[PLACE_TERMINAL] = "terminal", [PLACE_OVERLAY] = "overlay",
};

static const struct platform {
	const char       *topic;
	struct split_rule split;
	bool              forms;        /* shows a form's structure */
} platforms[] = {
	[PLACE_TWITCH] = { "waddle.outbound.twitch", { 500, 3, true }, false },
	[PLACE_DISCORD] = { "waddle.outbound.discord", { 2000, 3, false }, true },
	[PLACE_SLACK] = { "waddle.outbound.slack", { 4000, 3, false }, true },
	[PLACE_TERMINAL] = { "waddle.outbound.terminal", { 2000, 3, false }, false },
};

static enum place_kind place_of(struct str platform)
{
	for (size_t i = 0; i < ARRAY_LEN(platforms); i++)
		if (str_eq(platform, str_of(place_names[i])))
			return (enum place_kind)i;
	return PLACE_NOWHERE;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Nearly every answer: nothing to cut, nothing to trim, one line. */
static bool is_whole(struct str text, struct split_rule rule)
{
	return text.n > 0 && text.n <= rule.max_chars && !is_blank(text.p[0]) && !is_blank(text.p[text.n - 1]) &&
	       (!rule.one_line ||
	        (memchr(text.p, '\n', text.n) == NULL && memchr(text.p, '\r', text.n) == NULL));
}

static void say(struct fanout *ret, const struct home *home, struct str text, struct arena *mem)
{
	struct split_rule rule;

	ret->place = place_of(home->platform);
	if (ret->place == PLACE_NOWHERE)
		return;
	rule = platforms[ret->place].split;
	ret->topic = platforms[ret->place].topic;
	if (is_whole(text, rule)) {
		ret->part[0] = text;
		ret->n_parts = 1;
	} else {
		ret->n_parts = split_text(text, rule, mem, ret->part);
	}
}

static void show(struct fanout *ret, const struct response *a, const struct home *home)
{
	static const int priorities[] = { [PRIORITY_NORMAL] = 5, [PRIORITY_HIGH] = 1, [PRIORITY_LOW] = 9 };
	bool ticker = a->response_action == ACTION_TICKER, general = a->response_action == ACTION_GENERAL;
	int64_t duration = ticker ? a->ticker_duration : general ? a->duration : 0;
	struct { int priority; } wish = { 0 };
	const struct js_field fields[] = {
		{ .key = "priority", .type = JS_ENUM, .optional = true, .names = priority_names }, { 0 }
	};
	int n;

	if (a->private || home->overlay.n == 0 || home->overlay.n > OVERLAY_MAX ||
	    (ticker && a->ticker_text.n == 0))
		return;
	if (ticker && a->response_data.n > 0) {
		struct arena *scratch = arena_new(1024, 1 << 20);

		/* A word that is none of the three means normal. */
		(void)!js_decode(a->response_data, fields, &wish, scratch, NULL);
		arena_free(scratch);
	}
	ret->place = PLACE_OVERLAY;
	ret->topic = "waddle.overlay";
	n = snprintf(ret->key_text, sizeof ret->key_text, "%lld", (long long)home->community_id);
	ret->key = (struct str){ ret->key_text, (size_t)n };
	ret->n_parts = 1;
	id_overlay(a->execution_id, a->response_index, ret->item_id);
	ret->item = (struct overlay){
		.item_id = str_of(ret->item_id), .content = home->overlay, .session_id = a->session_id,
		.source_type = ticker ? OVERLAY_TICKER : general ? OVERLAY_GENERAL : OVERLAY_MEDIA,
		.mode = ticker || (general && duration > 0) ? OVERLAY_ONCE : OVERLAY_STATE,
		.priority = priorities[wish.priority], .community_id = home->community_id, .duration = duration,
	};
}

/* The user learns that it failed: privately, or in the channel where chat has no private answer. */
static void complain(struct fanout *ret, const struct response *a, const struct home *home, struct arena *mem)
{
	struct str text = a->error_message;

	if (text.n == 0)
		text = home->command.n > 0 ? arena_printf(mem, STR_FMT " failed.", STR_ARG(home->command)) :
		                             STR("That failed.");
	say(ret, home, text, mem);
	ret->out.private = ret->place != PLACE_TWITCH;
	ret->index = -1;
}

static void ask(struct fanout *ret, const struct response *a, const struct home *home, struct arena *mem)
{
	enum place_kind place = place_of(home->platform);

	if (place != PLACE_NOWHERE && platforms[place].forms)
		ret->out.form = form_structure(a, mem);
	if (ret->out.form.n == 0 || ret->out.form.n > FORM_MAX) {
		ret->out.form = STR_NONE;
		say(ret, home, form_flat(a, mem), mem);
		return;
	}
	ret->place = place;
	ret->topic = platforms[place].topic;
	ret->out.kind = OUT_FORM;
	ret->n_parts = 1;
	ret->part[0] = STR_NONE;
}

void fanout_plan(const struct response *a, const struct home *home, struct arena *mem, struct fanout *ret)
{
	*ret = (struct fanout){
		.place = PLACE_NOWHERE, .key = home->key, .index = a->response_index,
		.out = {
			.kind = OUT_CHAT, .entity = home->address, .server_id = home->server_id,
			.channel_id = home->channel_id, .user_id = home->user_id, .reply_ref = home->reply_ref,
			.in_reply_to = home->message_id, .private = a->private, .priority = PRIORITY_NORMAL,
		},
	};
	if (!a->success) {
		if (a->chat_message.n > 0)
			say(ret, home, a->chat_message, mem);
		else if (a->final)
			complain(ret, a, home, mem);
		return;
	}
	switch ((enum action)a->response_action) {
	case ACTION_CHAT:
		if (a->chat_message.n > 0)
			say(ret, home, a->chat_message, mem);
		break;
	case ACTION_FORM:
		ask(ret, a, home, mem);
		break;
	case ACTION_MEDIA: case ACTION_TICKER: case ACTION_GENERAL:
		show(ret, a, home);
		break;
	}
}

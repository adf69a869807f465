/* call_answer.c - what an HTTP module answered, as the response it stands for (router.md 11, Answer).
 *
 * Who answers is known from the row: ids and module name in the body are not looked at, so no module
 * can answer for another execution. */
#include "call.h"
#include "err.h"
#include "response.h"

enum { CHAT_MAX = 5000, DATA_MAX = 65536, DETAIL_MAX = 200, FIELDS_MAX = 32 };

/* The members that say which kind of answer it is; all of them as they came. */
struct kind { struct str action, success, response, message, result; };
static const struct js_field kind_fields[] = {
	JS_AS("response_action", struct kind, action, JS_RAW, .optional = true),
	JS(struct kind, success, JS_RAW, .optional = true),
	JS(struct kind, response, JS_RAW, .optional = true),
	JS(struct kind, message, JS_RAW, .optional = true),
	JS(struct kind, result, JS_RAW_OBJECT, .optional = true),
	{ 0 }
};

struct text { struct str v; };
static const struct js_field text_fields[] = { JS(struct text, v, JS_STR), { 0 } };
struct raw { struct str v; };
static const struct js_field raw_fields[] = { JS(struct raw, v, JS_RAW, .optional = true), { 0 } };

static void bad(struct call *c, const char *why)
{
	c->end.outcome = CALL_BAD_RESPONSE;
	c->end.detail = arena_printf(c->mem, "%.*s", DETAIL_MAX, why);
}

/* {"v":<json>}: lets one value of any kind be checked and read like a member. */
static struct str wrapped(struct call *c, struct str json)
{
	return arena_printf(c->mem, "{\"v\":" STR_FMT "}", STR_ARG(json));
}

static bool as_text(struct call *c, struct str json, struct str *ret)
{
	struct text t;
	struct str all;

	if (json.n == 0 || json.p[0] != '"')
		return false;
	all = wrapped(c, json);
	if (all.p == NULL || js_decode(all, text_fields, &t, c->mem, NULL) != 0)
		return false;
	*ret = str_clip(str_trim(t.v), CHAT_MAX);
	return true;
}

/* The fields of a response but for those that only the row can know. */
static const struct js_field *own_fields(void)
{
	static const char *const known[] = { "execution_id", "session_id", "module_name", "response_index",
		                             "final" };
	static struct js_field table[FIELDS_MAX];
	size_t n = 0;

	if (table[0].key != NULL)
		return table;
	for (const struct js_field *f = envelope_fields[ENV_RESPONSE]; f->key != NULL; f++) {
		bool skip = false;

		for (size_t i = 0; i < ARRAY_LEN(known); i++)
			skip = skip || strcmp(f->key, known[i]) == 0;
		if (skip)
			continue;
		ASSERT(n + 1 < FIELDS_MAX);
		table[n] = *f;
		table[n].optional = table[n].optional || strcmp(f->key, "success") == 0;
		n++;
	}
	return table;
}

static void whole_response(struct call *c, struct str body, bool success)
{
	struct response r;
	struct err err = { 0 };

	int e = js_decode(body, own_fields(), &r, c->mem, &err);

	r.success = success;
	if (e == 0)
		e = response_check(&r, &c->calls->r->guard, &err);
	if (e != 0)
		bad(c, err.text);
	else
		c->resp = r;
}

static void from_object(struct call *c, struct str body, bool polled)
{
	struct kind k;
	struct err err = { 0 };
	bool success;

	if (js_decode(body, kind_fields, &k, c->mem, &err) != 0) {
		bad(c, err.text);
		c->end.again = true;
		return;
	}
	success = !str_eq(k.success, STR("false"));
	if (polled) {                           /* {"result": {...}, "success": true, "logs": [...]} */
		if (!success) {
			c->end.outcome = CALL_MODULE_FAILED;
			c->end.detail = STR("the activation failed");
		} else if (k.result.n > 0) {
			from_object(c, k.result, false);
		}
		return;
	}
	c->resp.success = success;
	if (k.action.n > 0) {
		whole_response(c, body, success);
	} else if (!as_text(c, k.response, &c->resp.chat_message) &&
	           !as_text(c, k.message, &c->resp.chat_message)) {
		c->resp.response_data = body;
		c->resp.success = true;
	}
}

static void from_json(struct call *c, struct str body, bool polled)
{
	struct raw r;
	struct err err = { 0 };
	struct str all;

	if (body.p[0] == '{') {
		from_object(c, body, polled);
	} else {
		all = wrapped(c, body);
		if (all.p == NULL || js_decode(all, raw_fields, &r, c->mem, &err) != 0) {
			bad(c, err.text);
			c->end.again = true;
			return;
		}
		if (r.v.n > 0)                  /* else null */
			c->resp.response_data = arena_printf(c->mem, "{\"value\":" STR_FMT "}", STR_ARG(r.v));
	}
	if (c->end.outcome == CALL_ANSWERED && c->resp.response_data.n > DATA_MAX)
		bad(c, "response_data over 64 KiB");
}

static void from_text(struct call *c, struct str body)
{
	if (!str_utf8_ok(body)) {
		bad(c, "text that is not UTF-8");
		c->end.again = true;
		return;
	}
	c->resp.chat_message = arena_str(c->mem, str_clip(body, CHAT_MAX));
}

static bool is_type(struct str given, struct str wanted)
{
	struct str parameters;

	return str_eq_fold(str_trim(str_cut(given, ';', &parameters)), wanted);
}

static void who(struct call *c)
{
	c->resp.execution_id = str_of(c->id);
	c->resp.session_id = c->session_id;
	c->resp.module_name = c->module;
	c->resp.final = true;
}

void call_answer(struct call *c, int status, struct str type, bool function_error, struct str body, bool polled)
{
	static const struct response none = { .success = true, .final = true, .ticker_duration = 10 };

	c->end = (struct call_end){ .outcome = CALL_ANSWERED, .status = status };
	c->resp = none;
	c->says = false;
	body = arena_str(c->mem, str_trim(body));       /* the answer itself is gone after this turn */
	if (status < 200 || status > 299 || function_error) {
		c->end.outcome = CALL_MODULE_FAILED;
		c->end.again = status == 429 || status == 503;
		c->end.detail = arena_printf(c->mem,
		                             status < 300 ? "the function failed" :
		                             status < 400 ? "HTTP %d, redirects are not followed" :
		                                            "HTTP %d",
		                             status);
	} else if (body.n > 0 && is_type(type, STR("text/plain")) && !polled) {
		from_text(c, body);
	} else if (body.n > 0) {
		from_json(c, body, polled);
	}
	who(c);
	if (c->end.outcome != CALL_ANSWERED)
		return;
	c->says = c->resp.chat_message.n > 0 || c->resp.response_action != ACTION_CHAT ||
	          c->resp.response_data.n > 0;
	if (!c->resp.success)
		c->end.outcome = CALL_REFUSED;
}

void call_failed(struct call *c)
{
	bool silent = c->end.outcome == CALL_TIMEOUT || c->end.outcome == CALL_UNREACHABLE;

	/* A platform without private messages says it in the channel (router.md 9). */
	c->resp = (struct response){ .private = !str_eq(c->platform, STR("twitch")) };
	c->resp.ticker_duration = 10;
	c->resp.error_message =
		arena_printf(c->mem, STR_FMT STR_FMT "%s", STR_ARG(c->prefix), STR_ARG(c->command),
	                     silent ? " did not answer in time." : " failed.");
	c->says = false;
	who(c);
}

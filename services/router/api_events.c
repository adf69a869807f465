/* api_events.c - POST /router/events and /router/events/batch (router.md 2.1).
 *
 *      decode -> check -> predict the executions -> inbox -> 202 with the ids
 *
 * A batch is so many single events that are answered together: each is judged alone.  What the
 * inbox cannot do now - no database, no broker - is a 503 for the whole request. */
#include "api.h"
#include "clock.h"
#include "err.h"
#include "ids.h"
#include "inbox.h"
#include "service.h"

enum { ANSWER_MS = 5000, BATCH_MAX = 100, OLD_MS = 24 * 3600 * 1000, AHEAD_MS = 300000, EVENT_MAX = 192 * 1024 };
enum { POST_MAGIC = 0x706f7374 };

/* What a client may write: the event and the other names of its fields. */
struct body {
	struct event ev;
	struct str   entity_id, user_id, user_name, username, message;
	int64_t      timestamp_ms;
};

#define OPTIONAL .optional = true
enum { ID_MAX = 255, TEXT_MAX = 5000, RAW_MAX = 64 * 1024 };

static const struct js_field user_fields[] = {
	JS(struct user, id, JS_STR, OPTIONAL, .max = ID_MAX, .help = "required for chat and interactions, else anonymous"),
	JS(struct user, name, JS_STR, OPTIONAL, .max = ID_MAX, .help = "default: the id"),
	JS(struct user, display_name, JS_STR, OPTIONAL, .max = ID_MAX, .help = "default: the name"),
	JS(struct user, roles, JS_FLAGS, OPTIONAL, .names = role_names, .closed = true, .help = "those that hold"),
	{ 0 }
};

static const struct js_field body_fields[] = {
	JS_AS("event_id", struct body, ev.event_id, JS_STR, OPTIONAL, .min = 1, .max = 128, .help = "or header Idempotency-Key; absent: one is made, and nothing can be de-duplicated"),
	JS_AS("dedupe_key", struct body, ev.dedupe_key, JS_STR, OPTIONAL, .max = ID_MAX, .help = "id of the thing that happened; default: event_id"),
	JS_AS("platform", struct body, ev.platform, JS_STR, .min = 1, .max = 32),
	JS_AS("server_id", struct body, ev.server_id, JS_STR, OPTIONAL, .max = ID_MAX, .help = "guild or team; DM for a direct message"),
	JS_AS("channel_id", struct body, ev.channel_id, JS_STR, OPTIONAL, .max = ID_MAX, .help = "may be missing only where there is a server_id"),
	JS_AS("entity", struct body, ev.entity, JS_STR, OPTIONAL, .max = 2000, .help = "the address; must agree with the three fields above"),
	JS_AS("user", struct body, ev.user, JS_OBJECT, OPTIONAL, .fields = user_fields),
	JS_AS("message_type", struct body, ev.message_type, JS_ENUM, .names = message_type_names),
	JS_AS("message_content", struct body, ev.message_content, JS_STR, OPTIONAL, .max = TEXT_MAX),
	JS_AS("amount", struct body, ev.amount, JS_INT, OPTIONAL),
	JS_AS("occurred_at", struct body, ev.occurred_at_ms, JS_TIME, OPTIONAL, .help = "default: now; at most 24 h ago, at most 5 min ahead"),
	JS_AS("reply_ref", struct body, ev.reply_ref, JS_STR, OPTIONAL, .max = 4096, .help = "opaque to everyone but the collector"),
	JS_AS("metadata", struct body, ev.metadata, JS_RAW_OBJECT, OPTIONAL, .max = RAW_MAX, .help = "what only this platform or type knows"),
	JS(struct body, entity_id, JS_STR, OPTIONAL, .max = 2000, .help = "the same as entity"),
	JS(struct body, user_id, JS_STR, OPTIONAL, .max = ID_MAX, .help = "the same as user.id"),
	JS(struct body, user_name, JS_STR, OPTIONAL, .max = ID_MAX, .help = "the same as user.name"),
	JS(struct body, username, JS_STR, OPTIONAL, .max = ID_MAX, .help = "the same as user.name"),
	JS(struct body, message, JS_STR, OPTIONAL, .max = TEXT_MAX, .help = "the same as message_content"),
	JS_AS("timestamp", struct body, timestamp_ms, JS_TIME, OPTIONAL, .help = "the same as occurred_at"),
	{ 0 }
};

struct batch_body { struct str events; };
static const struct js_field batch_fields[] = {
	JS(struct batch_body, events, JS_RAW, .max = 1 << 20, .help = "1 to 100 events"),
	{ 0 }
};
/* The same for the description, which wants to know what is inside. */
struct batch_shown { struct js_list events; };
static const struct js_field batch_shown_fields[] = {
	JS(struct batch_shown, events, JS_OBJECTS, .min = 1, .max = BATCH_MAX, .size = sizeof(struct body), .fields = body_fields),
	{ 0 }
};

enum standing { ACCEPTED, DUPLICATE, REJECTED };
static const char *const standing_names[] = { "accepted", "duplicate", "rejected" };

struct one {                            /* an event of a request */
	struct post         *post;
	struct body          b;
	struct parsed        cmd;
	struct cache_item   *routes[2]; /* by name, by event type */
	unsigned             loads;
	struct inbox_flight *flight;
	enum standing        standing;
	struct err           err;       /* rejected */
	char                *event_id;  /* the first one's, in the request's memory */
};

/* Outlives its request, in which all else lives: a look-up cannot be called back. */
struct post {
	unsigned         magic;
	struct router   *router;
	struct http_req *r;             /* NULL: answered */
	struct timer     timer;
	struct one      *one;
	size_t           n, left;       /* left: without an outcome */
	unsigned         loads;         /* look-ups under way */
	bool             batch, later;
	char             trace[TRACE_TEXT];
};

/* --- answers ------------------------------------------------------------------------------------- */

static void post_free(struct post *p)
{
	if (p->loads > 0)
		return;                         /* the last look-up will */
	NOT_A_MORE(p, POST_MAGIC);
	free(p);
}

static void forget(struct post *p)
{
	timer_stop(&p->timer);
	for (size_t i = 0; i < p->n; i++) {
		struct one *o = &p->one[i];

		if (o->flight != NULL)
			inbox_forget(o->flight);
		cache_release(o->routes[0]);
		cache_release(o->routes[1]);
		o->routes[0] = o->routes[1] = NULL;
	}
	p->r = NULL;
	p->one = NULL;
	p->n = 0;
}

static void add_ids(const struct one *o, struct buf *out)
{
	struct str id = str_of(o->event_id);
	char text[ID_TEXT];
	const char *sep = "";

	buf_add(out, STR("\"event_id\":"));
	buf_json(out, id);
	id_session(id, text);
	buf_printf(out, ",\"session_id\":\"%s\",\"execution_id\":", text);
	for (int pass = 0; pass < 2; pass++) {          /* the first one; all of them */
		bool first = true;

		for (size_t k = 0; k < 2; k++) {
			const struct routes *routes = o->routes[k] != NULL ? cache_value(o->routes[k]) : NULL;

			for (size_t i = 0; routes != NULL && i < routes->n && (pass == 1 || first); i++) {
				id_execution(id, routes->at[i].id, 0, text);
				buf_printf(out, "%s\"%s\"", pass == 1 ? sep : "", text);
				sep = pass == 1 ? "," : "";
				first = false;
			}
		}
		if (pass == 0)
			buf_add(out, first ? STR("null,\"execution_ids\":[") : STR(",\"execution_ids\":["));
	}
	buf_printf(out, "],\"status\":\"%s\"", standing_names[o->standing]);
}

/* "message_type: not one of ..." does not fit an error's line. */
static struct str detail_of(const struct one *o, struct arena *mem, struct str *ret_field)
{
	struct str message;
	struct buf b = BUF(4096);

	*ret_field = str_cut(str_of(o->err.text), ':', &message);
	message = str_trim(message);
	if (message.n == 0) {
		message = *ret_field;
		*ret_field = STR("event");
	}
	if (!str_eq(*ret_field, STR("message_type")) || o->b.ev.message_type >= 0)
		return message;
	buf_add(&b, STR("one of "));
	for (size_t i = 0; message_type_names[i] != NULL; i++)
		buf_printf(&b, "%s%s", i > 0 ? ", " : "", message_type_names[i]);
	message = arena_str(mem, (struct str){ b.p, b.n });
	buf_clear(&b);
	return message;
}

static void answer_single(struct post *p, struct http_req *r)
{
	const struct one *o = &p->one[0];
	struct buf b = BUF(64 * 1024);
	struct http_detail d;

	if (o->standing == REJECTED) {
		d.message = detail_of(o, http_mem(r), &d.field);
		forget(p);
		http_refuse(r, err_http_status(&o->err), NULL, o->err.text, &d, 1);
		return;
	}
	buf_add(&b, STR("{"));
	add_ids(o, &b);
	buf_add(&b, STR("}"));
	forget(p);
	http_reply_raw(r, 202, "application/json", (struct str){ b.p, b.n });
	buf_clear(&b);
}

static void answer_batch(struct post *p, struct http_req *r)
{
	struct buf b = BUF(2 << 20);
	size_t rejected = 0;

	buf_add(&b, STR("{\"results\":["));
	for (size_t i = 0; i < p->n; i++) {
		const struct one *o = &p->one[i];

		buf_printf(&b, "%s{\"index\":%zu,", i > 0 ? "," : "", i);
		if (o->standing == REJECTED) {
			struct str field, message = detail_of(o, http_mem(r), &field);

			rejected++;
			buf_add(&b, STR("\"status\":\"rejected\",\"error\":{\"code\":\"INVALID_REQUEST\",\"message\":"));
			buf_json(&b, str_of(o->err.text));
			buf_add(&b, STR(",\"details\":[{\"field\":"));
			buf_json(&b, field);
			buf_add(&b, STR(",\"message\":"));
			buf_json(&b, message);
			buf_add(&b, STR("}]}"));
		} else {
			add_ids(o, &b);
		}
		buf_add(&b, STR("}"));
	}
	buf_printf(&b, "],\"count\":%zu,\"accepted\":%zu,\"rejected\":%zu}", p->n, p->n - rejected, rejected);
	forget(p);
	http_reply_raw(r, 202, "application/json", (struct str){ b.p, b.n });
	buf_clear(&b);
}

/* Nothing of the request may be touched once it is answered: its memory goes with it. */
static void answer(struct post *p)
{
	struct http_req *r = p->r;

	if (p->later) {
		forget(p);
		http_refuse(r, 503, NULL, "The event cannot be stored or published at the moment; repeat it.", NULL, 0);
	} else if (p->batch) {
		answer_batch(p, r);
	} else {
		answer_single(p, r);
	}
	post_free(p);
}

static void late(void *arg)
{
	struct post *p = arg;

	IS_A(p, POST_MAGIC);
	p->later = true;
	answer(p);
}

static void settled(struct post *p)
{
	ASSERT(p->left > 0);
	if (--p->left == 0)
		answer(p);
}

/* --- the way of one event --------------------------------------------------------------------------- */

static void stored(void *arg, enum inbox_result what, struct str event_id, int64_t received_at_ms)
{
	struct one *o = arg;
	struct post *p = o->post;

	(void)received_at_ms;
	o->flight = NULL;
	if (what == INBOX_LATER) {
		p->later = true;
	} else if (what == INBOX_TOO_LARGE) {
		o->standing = REJECTED;
		(void)!err_set(&o->err, -EMSGSIZE, "event: larger than 256 KiB");
	} else {
		o->standing = what == INBOX_NEW ? ACCEPTED : DUPLICATE;
		o->event_id = (char *)(uintptr_t)arena_str(http_mem(p->r), event_id).p;
	}
	settled(p);
}

/* A look-up under way; it cannot be called back, so it does not lie in the request's memory. */
struct question { struct post *p; struct one *o; size_t k; };

static void again(void *arg);

/* The commands of this name (0), and those that fire on such events (1): registered, not yet allowed. */
static void ask(struct one *o, size_t k)
{
	struct post *p = o->post;
	struct arena *mem = http_mem(p->r);
	struct question *q;
	struct str key;
	bool none = false;

	key = k == 0 ? arena_printf(mem, STR_FMT STR_FMT, STR_ARG(o->cmd.prefix), STR_ARG(o->cmd.name))
	             : arena_printf(mem, "@%s", message_type_names[o->b.ev.message_type]);
	if (key.n < 2)
		return;
	q = XNEW(struct question);
	*q = (struct question){ p, o, k };
	o->routes[k] = lookup_get(p->router->lookup, LOOKUP_ROUTES, &key, 1, &none, again, q);
	if (o->routes[k] == NULL && !none) {
		o->loads++;
		p->loads++;
	} else {
		free(q);
	}
}

static void store(struct one *o)
{
	struct post *p = o->post;

	if (o->loads == 0)
		o->flight = inbox_add(p->router->inbox, &o->b.ev, str_of(p->trace), stored, o);
}

static void again(void *arg)
{
	struct question q = *(struct question *)arg;

	free(arg);
	IS_A(q.p, POST_MAGIC);
	q.p->loads--;
	if (q.p->r == NULL) {
		post_free(q.p);
		return;
	}
	q.o->loads--;
	ask(q.o, q.k);
	store(q.o);
}

static int check_time(const struct event *ev, int64_t now, struct err *err)
{
	if (ev->occurred_at_ms != 0 && ev->occurred_at_ms < now - OLD_MS)
		return err_set(err, -EINVAL, "occurred_at: more than 24 hours ago");
	if (ev->occurred_at_ms > now + AHEAD_MS)
		return err_set(err, -EINVAL, "occurred_at: more than 5 minutes ahead");
	return 0;
}

static int check(struct post *p, struct one *o, struct arena *mem, struct err *err)
{
	struct body *b = &o->b;
	struct event *ev = &b->ev;
	int64_t now = clock_unix_ms();
	char id[ID_TEXT];
	int r;

	if (ev->user.id.p == NULL)
		ev->user.id = b->user_id;
	if (ev->user.name.n == 0)
		ev->user.name = b->user_name.n > 0 ? b->user_name : b->username;
	if (ev->message_content.n == 0)
		ev->message_content = b->message;
	if (ev->occurred_at_ms == 0)
		ev->occurred_at_ms = b->timestamp_ms;
	if (ev->entity.n == 0)
		ev->entity = b->entity_id;
	else if (b->entity_id.n > 0 && !str_eq(ev->entity, b->entity_id))
		return err_set(err, -EINVAL, "entity_id: disagrees with entity");
	if (!api_platform_known(p->router, ev->platform))
		return err_set(err, -EINVAL, "platform: one of " STR_FMT, STR_ARG(p->router->settings->platforms));
	r = check_time(ev, now, err);
	if (r == 0)
		r = event_check(ev, now, mem, err);
	if (r != 0)
		return r;
	ev->received_at_ms = now;
	if (ev->event_id.n == 0) {
		id_random(id);
		ev->event_id = arena_printf(mem, "http:%s", id);
		if (ev->dedupe_key.n == 0)
			ev->dedupe_key = ev->event_id;
	}
	return 0;
}

static bool has_text(int type) { return type == MSG_CHAT || type == MSG_APP_MENTION || type == MSG_SLASH; }

static void begin(struct one *o, struct str json, struct str given_id)
{
	struct post *p = o->post;
	struct arena *mem = http_mem(p->r);
	int r;

	r = js_decode(json, body_fields, &o->b, mem, &o->err);
	if (r != 0)
		o->b.ev.message_type = -1;      /* detail_of() */
	if (r == 0 && o->b.ev.event_id.n == 0)
		o->b.ev.event_id = given_id;
	if (r == 0)
		r = check(p, o, mem, &o->err);
	if (r != 0) {
		o->standing = REJECTED;
		settled(p);
		return;
	}
	if (has_text(o->b.ev.message_type))
		(void)parse_command(o->b.ev.message_content, mem, &o->cmd);
	ask(o, 0);
	ask(o, 1);
	store(o);
}

/* --- requests ---------------------------------------------------------------------------------------- */

/* left counts one more than there are events: whoever calls this takes it back with settled(). */
static struct post *post_new(struct http_req *r, struct router *router, size_t n, bool batch)
{
	struct post *p = XNEW(struct post);

	MAKE_A(p, POST_MAGIC);
	p->router = router;
	p->r = r;
	p->n = n;
	p->left = n + 1;
	p->batch = batch;
	p->one = arena_alloc(http_mem(r), n * sizeof(struct one));
	for (size_t i = 0; i < n; i++)
		p->one[i].post = p;
	trace_next(http_header(r, "traceparent"), p->trace);
	timer_start(router->s, &p->timer, ANSWER_MS, late, p);
	return p;
}

static void post_event(struct http_req *r, void *arg)
{
	struct str key = http_header(r, "idempotency-key");
	struct post *p;

	if (key.n > 0 && (!str_utf8_ok(key) || str_clip(key, 128).n != key.n)) {
		api_bad(r, "Idempotency-Key", "longer than 128 characters, or not UTF-8");
		return;
	}
	if (http_raw(r).n > EVENT_MAX) {
		http_refuse(r, 413, NULL, "An event is at most 192 KiB.", NULL, 0);
		return;
	}
	p = post_new(r, arg, 1, false);
	begin(&p->one[0], http_raw(r), key);
	settled(p);
}

/* Elements of an array that has been checked already: ends where no bracket and no text is open. */
static size_t cut(struct str array, struct str *ret, size_t max)
{
	size_t n = 0, from = 1, depth = 0;
	bool text = false;

	for (size_t i = 0; i < array.n; i++) {
		char c = array.p[i];

		if (text) {
			i += c == '\\';
			text = c != '"';
			continue;
		}
		text = c == '"';
		depth += c == '[' || c == '{';
		if ((c == ',' && depth == 1) || (c == ']' && depth == 1)) {
			struct str e = { array.p + from, i - from };

			while (e.n > 0 && (unsigned char)e.p[0] <= ' ')
				e.p++, e.n--;
			if (e.n > 0 && n < max)
				ret[n] = e;
			n += e.n > 0;
			from = i + 1;
		}
		depth -= c == ']' || c == '}';
	}
	return n;
}

static void post_batch(struct http_req *r, void *arg)
{
	const struct batch_body *b;
	struct batch_body body;
	struct str each[BATCH_MAX];
	struct err err = { 0 };
	struct post *p;
	size_t n;

	if (js_decode(http_raw(r), batch_fields, &body, http_mem(r), &err) != 0) {
		http_fail(r, &err);
		return;
	}
	b = &body;
	n = b->events.n > 0 && b->events.p[0] == '[' ? cut(b->events, each, BATCH_MAX) : 0;
	if (n < 1 || n > BATCH_MAX) {
		api_bad(r, "events", "an array of 1 to %d events is needed", BATCH_MAX);
		return;
	}
	p = post_new(r, arg, n, true);
	for (size_t i = 0; i < n; i++)
		begin(&p->one[i], each[i], STR_NONE);
	settled(p);
}

const struct http_route events_routes[] = {
	{ .method = "POST", .path = "/router/events", .auth = HTTP_KEY_COLLECTOR | HTTP_KEY_ADMIN, .max_body = 1 << 20,
	  .body = body_fields, .by_hand = true, .handle = post_event,
	  .summary = "Takes an event; 202 once the broker has it, or when it is known already." },
	{ .method = "POST", .path = "/router/events/batch", .auth = HTTP_KEY_COLLECTOR | HTTP_KEY_ADMIN,
	  .max_body = 1 << 20, .body = batch_shown_fields, .by_hand = true, .handle = post_batch,
	  .summary = "Takes 1 to 100 events, each judged alone; results in their order." },
	{ 0 }
};

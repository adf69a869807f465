/* forms.c - a form of ours was submitted (router.md 15).
 *
 * The form is found by its custom id among the stored responses; it must be of this entity, its
 * session alive, and if it was private, of this user.  With form_submit_url the values are posted
 * there, signed like any other call, and the answer is handled as one more response of the
 * execution; else the module gets them as an interaction.  The event is done when all that is
 * done: after a crash the post is repeated under the same webhook-id. */
#include "router.h"
#include "call.h"
#include "clock.h"
#include "err.h"
#include "fetch.h"
#include "ids.h"
#include "log.h"
#include "replies.h"
#include "sign.h"

enum { POST_MS = 10000, AGAIN_MS = 200, TRIES = 4, ANSWER_MAX = 256 * 1024, BODY_MAX = 512 * 1024, NOTICE_LIFE_MS = 300000,
	LINES = SIGN_HEADERS + 5 };

struct form {
	unsigned     magic;
	struct work *w;
	struct arena *mem;              /* ends with w->mem */
	struct timer timer;
	int64_t      index, next_index, command_id;
	struct str   prefix, command, module, session_id, missing, title, url, method, callback;
	struct str   secret[SIGN_SECRETS], values;
	size_t       n_secrets;
	struct response answer;
	struct outcome *outcome;        /* for form_callback_url; NULL: there was no answer */
	int          tries;
};
enum { FORM_MAGIC = 0x40073420 };

enum { F_COMMAND, F_PREFIX, F_NAME, F_MODULE, F_SESSION, F_OURS, F_ALIVE, F_MISSING, F_TITLE, F_URL, F_METHOD,
	F_CALLBACK, F_SECRET, F_OLD_SECRET, F_NEXT };
/* A value that is required and absent, blank, false or an empty list. */
#define FORM_SQL \
	"WITH form AS (SELECT e.command_id, c.prefix, c.command, e.module_name, e.session_id, e.created_at, e.execution_id, " \
	"e.entity_id = $3::integer AND (NOT m.private OR e.user_id = $4) AS ours, m.form_fields, m.form_title, " \
	"m.form_submit_url, m.form_submit_method, m.form_callback_url, c.signing_secret, " \
	"CASE WHEN c.previous_secret_until > now() THEN c.previous_secret END AS previous_secret " \
	"FROM command_executions e JOIN module_responses m ON m.execution_id = e.execution_id " \
	"AND m.created_at = e.created_at JOIN commands c ON c.id = e.command_id " \
	"WHERE e.execution_id = $1::uuid AND m.response_index = $2::integer AND m.response_action = 'form' LIMIT 1), " \
	"renewed AS (UPDATE sessions s SET last_activity = now() FROM form f WHERE s.session_id = f.session_id " \
	"AND s.last_activity < now() - interval '60 s' AND s.last_activity > now() - $6::bigint * interval '1 ms') " \
	"SELECT f.command_id, f.prefix, f.command, f.module_name, f.session_id, f.ours, " \
	"EXISTS (SELECT FROM sessions s WHERE s.session_id = f.session_id " \
	"AND s.last_activity > now() - $6::bigint * interval '1 ms'), " \
	"(SELECT string_agg(coalesce(nullif(x->>'label', ''), x->>'name'), ', ') " \
	"FROM jsonb_array_elements(f.form_fields) x WHERE (x->>'required')::boolean " \
	"AND btrim(coalesce($5::jsonb ->> (x->>'name'), '')) IN ('', '[]', 'false')), " \
	"f.form_title, f.form_submit_url, f.form_submit_method, f.form_callback_url, f.signing_secret, f.previous_secret, " \
	"(SELECT max(m.response_index) + 1 FROM module_responses m WHERE m.execution_id = f.execution_id " \
	"AND m.created_at = f.created_at) FROM form f"

static void clear(void *arg)
{
	struct form *f = arg;

	timer_stop(&f->timer);
	arena_free(f->mem);
	NOT_A_MORE(f, FORM_MAGIC);
}

/* f is gone after this. */
static void end(struct form *f, enum verdict v)
{
	struct work *w = f->w;

	w->base = v;
	intake_judge(w);
}

static struct str execution_of(const struct work *w) { return ((const struct str *)w->cmd.params.items)[0]; }

/* The execution's own module, as if a button of its had been pressed. */
static void to_module(struct form *f)
{
	struct work *w = f->w;
	struct parsed cmd = { .prefix = arena_str(w->mem, f->prefix), .name = arena_str(w->mem, f->command) };
	struct str *params = arena_alloc(w->mem, 2 * sizeof *params);

	params[0] = STR("form_submit");
	params[1] = arena_printf(w->mem, "%lld", (long long)f->index);
	cmd.params = (struct js_list){ params, 2 };
	intake_as_command(w, cmd, f->command_id);
}

/* Posting --------------------------------------------------------------------------------------- */

struct posting { struct str session_id, execution_id; struct user user; struct str values; };

static struct str encoded(struct form *f, const struct js_field *fields, const void *body)
{
	struct buf b = BUF(BODY_MAX);
	struct str text = STR_NONE;

	js_encode(fields, body, &b);
	if (buf_str(&b, &text) == 0)
		text = arena_str(f->mem, text);
	buf_clear(&b);
	return text;
}

static struct str posting_of(struct form *f)
{
	const struct work *w = f->w;
	const struct js_field fields[] = {
		JS(struct posting, session_id, JS_UUID), JS(struct posting, execution_id, JS_UUID),
		JS(struct posting, user, JS_OBJECT, .fields = js_field(envelope_fields[ENV_EVENT], "user")->fields),
		JS(struct posting, values, JS_RAW_OBJECT), { 0 }
	};
	struct posting p = { f->session_id, execution_of(w), w->ev.user, f->values };

	return encoded(f, fields, &p);
}

static int send_to(struct form *f, struct str method, struct str url, struct str id, struct str body, fetch_done *then,
                   struct err *err)
{
	struct work *w = f->w;
	const char *lines[LINES + 1] = { "User-Agent: WaddleBot-Router/1.0", "X-WaddleBot-Source: router",
		"X-WaddleBot-Type: community-interaction" };
	struct str sig[SIGN_HEADERS];
	size_t n = 3;
	struct fetch job = {
		.method = method.p, .url = url, .body = body, .headers = lines, .where = FETCH_PUBLIC, .timeout_ms = POST_MS,
		.max_body = ANSWER_MAX,
	};

	lines[n++] = arena_printf(f->mem, "traceparent: 00-%s-%.16s-01", w->trace_id, w->trace_id).p;
	if (f->n_secrets == 0) {
		lines[n++] = arena_printf(f->mem, "webhook-id: " STR_FMT, STR_ARG(id)).p;
	} else {
		int r = sign_webhook(f->secret, f->n_secrets, id, clock_unix_ms() / 1000, body, f->mem, sig);

		if (r != 0)
			return err_set(err, r, "cannot be signed");
		for (size_t i = 0; i < SIGN_HEADERS; i++)
			lines[n++] = sig[i].p;
	}
	lines[n] = NULL;
	return fetch_start(w->r->fetch, &job, then, f, NULL, err);
}

static void called_back(void *arg, const struct fetch_result *res, const struct err *err)
{
	struct form *f = arg;

	IS_A(f, FORM_MAGIC);
	if (err != NULL && err->code == -ECANCELED)
		return;                 /* closing; the event comes again */
	if (err != NULL || res->status > 299)
		log_rarely(5000, L_WARN, NULL, "form_callback", "a form's answer could not be passed on: %s",
		           err != NULL ? err->text : "refused");
	end(f, VERDICT_ANSWERED);
}

struct passed { struct str execution_id, body; int64_t status; };

static void call_back(struct form *f, int status, struct str body)
{
	static const struct js_field fields[] = {
		JS(struct passed, execution_id, JS_UUID), JS(struct passed, status, JS_INT), JS(struct passed, body, JS_STR),
		{ 0 }
	};
	struct passed p = { execution_of(f->w), str_utf8_ok(body) ? body : STR(""), status };
	struct err err = { 0 };
	struct str id = arena_printf(f->mem, "%s/callback", f->w->session_id);

	if (send_to(f, STR("POST"), f->callback, id, encoded(f, fields, &p), called_back, &err) != 0) {
		log_rarely(5000, L_WARN, NULL, "form_callback", "a form's answer could not be passed on: %s", err.text);
		end(f, VERDICT_ANSWERED);
	}
}

static void say(struct form *f);

/* The answer's own status and text, for form_callback_url. */
struct outcome { int status; struct str body; };

static void finish(struct form *f)
{
	if (f->callback.n > 0 && f->outcome != NULL)
		call_back(f, f->outcome->status, f->outcome->body);
	else
		end(f, VERDICT_ANSWERED);
}

static void said(void *arg, const struct reply_outcome *o, const struct err *why)
{
	struct form *f = arg;

	IS_A(f, FORM_MAGIC);
	if (why != NULL && o->status == 409 && ++f->tries < TRIES) {
		f->answer.response_index++;     /* somebody took it */
		say(f);
		return;
	}
	if (why != NULL)
		log_rarely(5000, L_WARN, NULL, "form_answer_refused", "%s", why->text);
	finish(f);
}

static void say(struct form *f)
{
	struct err err = { 0 };

	if (replies_submit(f->w->r->replies, &f->answer, said, f, &err) != 0) {
		log_rarely(5000, L_WARN, NULL, "form_answer_refused", "%s", err.text);
		finish(f);
	}
}

static void posted(void *arg, const struct fetch_result *res, const struct err *err)
{
	struct form *f = arg;
	struct work *w = f->w;
	struct call c = { .calls = w->r->calls, .mem = f->mem, .session_id = f->session_id, .module = f->module };
	struct str id = execution_of(w);

	IS_A(f, FORM_MAGIC);
	if (err != NULL && err->code == -ECANCELED)
		return;                 /* closing; the event comes again */
	memcpy(c.id, id.p, id.n < sizeof c.id ? id.n : sizeof c.id - 1);
	if (err == NULL) {
		f->outcome = ARENA_NEW(f->mem, struct outcome);
		*f->outcome = (struct outcome){ res->status, arena_str(f->mem, res->body) };
		call_answer(&c, res->status, res->header(res, "Content-Type"), false, res->body, false);
	}
	f->answer = c.resp;
	if (err != NULL || (c.end.outcome != CALL_ANSWERED && c.end.outcome != CALL_REFUSED)) {
		log_rarely(1000, L_WARN, NULL, "form_not_delivered", "a form_submit_url failed: " STR_FMT,
		           STR_ARG(err != NULL ? str_of(err->text) : c.end.detail));
		f->answer = (struct response){
			.success = false, .ticker_duration = 10, .private = true,
			.chat_message = STR("Your answers could not be delivered; please try again later."),
		};
	} else if (!c.says) {
		finish(f);
		return;
	}
	f->answer.execution_id = id;
	f->answer.session_id = f->session_id;
	f->answer.module_name = f->module;
	f->answer.final = true;
	f->answer.response_index = f->next_index;
	say(f);
}

static void post(void *arg)
{
	struct form *f = arg;
	struct err err = { 0 };
	struct str body = posting_of(f), url = f->url;

	if (str_eq(f->method, STR("GET"))) {            /* carries no body but the query */
		struct buf b = BUF(16 * 1024);

		buf_printf(&b, STR_FMT "%cexecution_id=" STR_FMT "&session_id=" STR_FMT "&user_id=", STR_ARG(url),
		           memchr(url.p, '?', url.n) != NULL ? '&' : '?', STR_ARG(execution_of(f->w)), STR_ARG(f->session_id));
		url_encode(f->w->ev.user.id, &b);
		buf_add(&b, STR("&values="));
		url_encode(f->values, &b);
		if (buf_str(&b, &url) == 0)
			url = arena_str(f->mem, url);
		buf_clear(&b);
		body = STR_NONE;
	}
	switch (send_to(f, f->method, url, str_of(f->w->session_id), body, posted, &err)) {
	case 0:
		break;
	case -EAGAIN:
		timer_start(f->w->r->s, &f->timer, AGAIN_MS, post, f);
		break;
	default:
		posted(f, NULL, &err);
	}
}

/* Finding --------------------------------------------------------------------------------------- */

static void told(void *arg, const struct err *err)
{
	struct form *f = arg;

	IS_A(f, FORM_MAGIC);
	if (err == NULL)
		end(f, VERDICT_ANSWERED);
}

static void complain(void *arg)
{
	struct form *f = arg;
	struct work *w = f->w;
	char id[ID_TEXT];
	struct str topic = arena_printf(f->mem, "waddle.outbound." STR_FMT, STR_ARG(w->ev.platform));
	struct envelope env = { .kind = ENV_OUTBOUND, .source = STR("waddle/router"), .time_ms = clock_unix_ms() };
	struct outbound out = {
		.kind = OUT_CHAT, .entity = w->ev.entity, .server_id = w->ev.server_id, .channel_id = w->ev.channel_id,
		.user_id = w->ev.user.id, .reply_ref = w->ev.reply_ref, .private = true, .priority = PRIORITY_NORMAL,
		.text = arena_printf(f->mem, "Please fill in: " STR_FMT ".", STR_ARG(f->missing)),
		.expires_at_ms = env.time_ms + NOTICE_LIFE_MS,
	};
	int r;

	id_outbound(str_of(w->session_id), -1, 0, id);
	env.id = out.message_id = str_of(id);
	r = envelope_send(w->r->bus, topic.p, w->ev.channel_id, &env, &out, told, f);
	if (r == -EAGAIN)
		timer_start(w->r->s, &f->timer, AGAIN_MS, complain, f);
	else if (r != 0)
		end(f, VERDICT_ANSWERED);       /* a platform without a collector */
}

static void unseal(struct form *f, const struct db_result *res, int col)
{
	struct seal *seal = f->w->r->seal;
	struct str sealed = db_bytes(res, 0, col, f->mem);

	if (sealed.n == 0 || seal == NULL ||
	    crypto_unseal(seal, sign_place(f->mem, "commands.signing_secret", f->command_id), sealed, f->mem,
	                  &f->secret[f->n_secrets]) != 0)
		return;
	f->n_secrets++;
}

static void ask(void *arg);

static void found(void *arg, const struct db_result *res, const struct err *err)
{
	struct form *f = arg;
	struct router *r = f->w->r;

	IS_A(f, FORM_MAGIC);
	if (err != NULL && !err_is_data(err)) {
		if (!db_closing(r->db))
			timer_start(r->s, &f->timer, AGAIN_MS, ask, f);
		return;
	}
	if (err != NULL || db_rows(res) == 0 || !db_bool(res, 0, F_OURS) || !db_bool(res, 0, F_ALIVE)) {
		end(f, VERDICT_UNKNOWN_COMMAND);
		return;
	}
	f->command_id = db_int(res, 0, F_COMMAND);
	f->prefix = arena_str(f->mem, db_str(res, 0, F_PREFIX));
	f->command = arena_str(f->mem, db_str(res, 0, F_NAME));
	f->module = arena_str(f->mem, db_str(res, 0, F_MODULE));
	f->session_id = arena_str(f->mem, db_str(res, 0, F_SESSION));
	f->missing = arena_str(f->mem, db_str(res, 0, F_MISSING));
	f->url = arena_str(f->mem, db_str(res, 0, F_URL));
	f->method = arena_str(f->mem, db_str(res, 0, F_METHOD));
	f->callback = arena_str(f->mem, db_str(res, 0, F_CALLBACK));
	f->next_index = db_int(res, 0, F_NEXT);
	unseal(f, res, F_SECRET);
	unseal(f, res, F_OLD_SECRET);
	if (f->missing.n > 0)
		complain(f);
	else if (f->url.n > 0)
		post(f);
	else
		to_module(f);
}

static void ask(void *arg)
{
	struct form *f = arg;
	struct work *w = f->w;
	const struct place *place = cache_value(w->place);

	if (db_query(w->r->db, (struct db_opts){ .to = DB_WRITE }, found, f, FORM_SQL, DB_STR(execution_of(w)),
	             DB_INT(f->index), DB_INT(place->entity_id), DB_STR(w->ev.user.id), DB_STR(f->values),
	             DB_INT(w->r->settings->session_ttl_ms)) != 0)
		timer_start(w->r->s, &f->timer, AGAIN_MS, ask, f);
}

struct submitted { struct str values; };

bool form_submission(struct work *w)
{
	static const struct js_field fields[] = { JS(struct submitted, values, JS_RAW_OBJECT, .optional = true), { 0 } };
	const struct str *params = w->cmd.params.items;
	struct submitted s = { 0 };
	struct form *f;
	int64_t index;

	if (w->cmd.params.n != 2 || params[0].n != ID_TEXT - 1 || str_int(params[1], 0, 9999, &index) != 0)
		return false;
	f = ARENA_NEW(w->mem, struct form);
	MAKE_A(f, FORM_MAGIC);
	f->w = w;
	f->index = index;
	f->mem = arena_new(4096, 8 << 20);
	arena_defer(w->mem, clear, f);
	if (w->ev.metadata.n > 0)
		(void)!js_decode(w->ev.metadata, fields, &s, f->mem, NULL);
	f->values = s.values.n > 0 ? s.values : STR("{}");
	ask(f);
	return true;
}

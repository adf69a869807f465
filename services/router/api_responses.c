/* api_responses.c - /router/responses: modules answer over HTTP, and people look at answers.
 *
 * A posted response takes the way of all others (replies.c); the request is answered when the row
 * is committed and the broker has what follows.  A reader may wait for the final response: the row
 * is looked at again and again, less often with time, because any replica may settle it. */
#include "api.h"
#include "clock.h"
#include "err.h"
#include "replies.h"
#include "service.h"

enum { BODY_MAX = 256 * 1024, WAIT_MAX = 10000, TRIES = 4, LOOK_MS = 25, LOOK_MAX_MS = 250 };

#define OPTIONAL .optional = true

/* POST ------------------------------------------------------------------------------------------ */

struct post {
	struct router  *r;
	struct http_req *req;
	struct response resp;
	bool            next;           /* the index is ours to choose */
	int             tries;
};

struct posted { int64_t response_id, response_index; struct str execution_id; };
static const struct js_field posted_fields[] = {
	JS(struct posted, response_id, JS_INT),
	JS(struct posted, execution_id, JS_UUID),
	JS(struct posted, response_index, JS_INT),
	{ 0 }
};

static void choose(struct post *p);

static void told(void *arg, const struct reply_outcome *o, const struct err *why)
{
	struct post *p = arg;
	struct posted ok = { o->id, o->index, p->resp.execution_id };

	if (why == NULL)
		http_reply(p->req, o->status, posted_fields, &ok);
	else if (o->status == 409 && p->next && ++p->tries < TRIES)
		choose(p);              /* somebody took it */
	else
		http_refuse(p->req, o->status, NULL, why->text, NULL, 0);
}

static void submit(struct post *p)
{
	struct err err = { 0 };

	if (replies_submit(p->r->replies, &p->resp, told, p, &err) != 0)
		http_fail(p->req, &err);
}

static void chosen(void *arg, const struct db_result *res, const struct err *err)
{
	struct post *p = arg;

	if (err != NULL) {
		api_fail_db(p->req, err);
		return;
	}
	p->resp.response_index = db_int(res, 0, 0);
	submit(p);
}

static void choose(struct post *p)
{
	if (db_query(p->r->db, (struct db_opts){ .to = DB_WRITE }, chosen, p,
	             "SELECT coalesce(max(response_index) + 1, 0) FROM module_responses WHERE execution_id = $1::uuid",
	             DB_STR(p->resp.execution_id)) != 0)
		http_refuse(p->req, 503, NULL, "The database has too much to do at the moment.", NULL, 0);
}

static void post(struct http_req *req, void *arg)
{
	struct post *p = ARENA_NEW(http_mem(req), struct post);

	*p = (struct post){ .r = arg, .req = req, .resp = *(const struct response *)http_body(req) };
	p->next = p->resp.response_index < 0;
	if (p->next)
		choose(p);
	else
		submit(p);
}

/* GET of one ------------------------------------------------------------------------------------ */

struct look { int64_t wait_ms; };
static const struct js_field look_fields[] = {
	JS(struct look, wait_ms, JS_INT, OPTIONAL, .min = 0, .max = WAIT_MAX,
	   .help = "How long to wait for the final response."),
	{ 0 }
};

struct watch {
	struct router   *r;
	struct http_req *req;
	struct str       execution_id;
	int64_t          until_mono_ms, next_ms, created_ms;    /* created 0: not known yet */
	struct timer     timer;
};

struct answers { struct str execution_id, status, responses; int64_t total; };
static const struct js_field answers_fields[] = {
	JS(struct answers, execution_id, JS_UUID),
	JS(struct answers, status, JS_STR, .help = "pending, success or failed"),
	JS(struct answers, responses, JS_RAW, .help = "By index, with what each has."),
	JS(struct answers, total, JS_INT),
	{ 0 }
};

#define ANSWERS(AND_WHEN) \
	"SELECT e.status, e.created_at, " \
	"(SELECT coalesce(jsonb_agg(jsonb_strip_nulls(to_jsonb(m) - 'id' - 'execution_id' - 'created_at') " \
	"|| jsonb_build_object('response_id', m.id) ORDER BY m.response_index), '[]')::text FROM module_responses m " \
	"WHERE m.execution_id = e.execution_id AND m.created_at = e.created_at), " \
	"(SELECT count(*) FROM module_responses m WHERE m.execution_id = e.execution_id AND m.created_at = e.created_at), " \
	"e.status <> 'pending' OR EXISTS (SELECT FROM module_responses m WHERE m.execution_id = e.execution_id " \
	"AND m.created_at = e.created_at AND m.final) " \
	"FROM command_executions e WHERE e.execution_id = $1::uuid " AND_WHEN "LIMIT 1"
enum { A_STATUS, A_CREATED, A_RESPONSES, A_TOTAL, A_FINAL };

static void look(void *arg);

static void looked(void *arg, const struct db_result *res, const struct err *err)
{
	struct watch *w = arg;
	struct answers a = { .execution_id = w->execution_id };

	if (err != NULL) {
		api_fail_db(w->req, err);
		return;
	}
	if (db_rows(res) == 0) {
		api_absent(w->req, "execution");
		return;
	}
	if (!db_bool(res, 0, A_FINAL) && clock_mono_ms() < w->until_mono_ms && !http_left(w->req) &&
	    !service_draining(w->r->s)) {
		w->created_ms = db_time(res, 0, A_CREATED);
		timer_start(w->r->s, &w->timer, w->next_ms, look, w);
		w->next_ms = w->next_ms * 3 / 2 < LOOK_MAX_MS ? w->next_ms * 3 / 2 : LOOK_MAX_MS;
		return;
	}
	a.status = db_str(res, 0, A_STATUS);
	a.responses = db_str(res, 0, A_RESPONSES);
	a.total = db_int(res, 0, A_TOTAL);
	http_reply(w->req, 200, answers_fields, &a);
}

static void look(void *arg)
{
	struct watch *w = arg;
	struct db_opts opts = { .to = DB_WRITE };
	int r;

	if (w->created_ms == 0)
		r = db_query(w->r->db, opts, looked, w, ANSWERS("ORDER BY e.created_at "), DB_STR(w->execution_id));
	else
		/* cut to ms, as everything in a message is */
		r = db_query(w->r->db, opts, looked, w,
		             ANSWERS("AND e.created_at >= $2::timestamptz "
		                     "AND e.created_at < $2::timestamptz + interval '1 ms' "),
		             DB_STR(w->execution_id), DB_TIME(w->created_ms));
	if (r != 0)
		http_refuse(w->req, 503, NULL, "The database has too much to do at the moment.", NULL, 0);
}

static bool is_uuid(struct str s)
{
	for (size_t i = 0; s.n == 36 && i < 36; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? s.p[i] != '-' : !((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'f')))
			return false;
	}
	return s.n == 36;
}

static void get(struct http_req *req, void *arg)
{
	const struct look *q = http_query(req);
	struct watch *w = ARENA_NEW(http_mem(req), struct watch);

	*w = (struct watch){
		.r = arg, .req = req, .execution_id = http_path(req, "execution_id"),
		.until_mono_ms = clock_mono_ms() + q->wait_ms, .next_ms = LOOK_MS,
	};
	if (!is_uuid(w->execution_id))
		api_bad(req, "execution_id", "not a UUID in lower case");
	else
		look(w);
}

/* GET of the newest ----------------------------------------------------------------------------- */

struct filter { int64_t limit, entity_id; struct str module_name; int response_action, success; };
static const char *const action_filter[] = { "", "chat", "media", "ticker", "general", "form", NULL },
	*const yes_no[] = { "", "true", "false", NULL };
static const struct js_field filter_fields[] = {
	JS(struct filter, limit, JS_INT, OPTIONAL, .absent = 50, .min = 1, .max = 100),
	JS(struct filter, module_name, JS_STR, OPTIONAL, .max = 100),
	JS(struct filter, response_action, JS_ENUM, OPTIONAL, .names = action_filter),
	JS(struct filter, entity_id, JS_INT, OPTIONAL, .min = 1, .max = INT32_MAX),
	JS(struct filter, success, JS_ENUM, OPTIONAL, .names = yes_no),
	{ 0 }
};

/* From the newest command on, which needs no index of its own; the limit is written out, or the
 * planner would read and sort everything. */
#define RECENT(OF) \
	"SELECT coalesce(jsonb_agg(j), '[]')::text, count(*) FROM (SELECT j FROM (" \
	"SELECT jsonb_strip_nulls(jsonb_build_object('response_id', m.id, 'execution_id', m.execution_id, " \
	"'response_index', m.response_index, 'final', m.final, 'module_name', m.module_name, 'success', m.success, " \
	"'response_action', m.response_action, 'entity_id', e.entity_id, 'session_id', m.session_id, " \
	"'private', m.private, 'late', m.late, 'chat_message', left(m.chat_message, 100), " \
	"'ticker_text', left(m.ticker_text, 50), 'media_type', m.media_type, 'media_url', m.media_url, " \
	"'form_title', m.form_title, 'form_description', left(m.form_description, 100), " \
	"'content_type', m.content_type, 'error_message', m.error_message, " \
	"'processing_time_ms', m.processing_time_ms, 'responded_at', m.responded_at, " \
	"'delivered_at', m.delivered_at, 'delivery_error', m.delivery_error)) AS j " \
	"FROM command_executions e CROSS JOIN LATERAL (SELECT * FROM module_responses r " \
	"WHERE r.execution_id = e.execution_id AND r.created_at = e.created_at " \
	"AND ($2::text = '' OR r.response_action = $2::text) " \
	"AND ($3::boolean IS NULL OR r.success = $3::boolean)) m " \
	"WHERE ($1::text = '' OR e.module_name = $1::text) " OF \
	"ORDER BY e.created_at DESC, e.id DESC, m.response_index DESC LIMIT 100) x LIMIT $4::integer) y"

struct recent { struct str responses; int64_t total; };
static const struct js_field recent_fields[] = {
	JS(struct recent, responses, JS_RAW, .help = "Newest first; long texts are cut."),
	JS(struct recent, total, JS_INT),
	{ 0 }
};

static void found(void *arg, const struct db_result *res, const struct err *err)
{
	struct http_req *req = arg;
	struct recent a = { 0 };

	if (err != NULL) {
		api_fail_db(req, err);
		return;
	}
	a.responses = db_str(res, 0, 0);
	a.total = db_int(res, 0, 1);
	http_reply(req, 200, recent_fields, &a);
}

static void recent(struct http_req *req, void *arg)
{
	struct router *r = arg;
	const struct filter *f = http_query(req);
	struct db_param success = f->success == 0 ? DB_NULL : DB_BOOL(f->success == 1);
	struct str action = str_of(action_filter[f->response_action]);
	struct str module = f->module_name.n > 0 ? f->module_name : STR("");

	if (f->entity_id != 0)
		api_query(r, req, DB_READ, found, RECENT("AND e.entity_id = $5::integer "), DB_STR(module),
		          DB_STR(action), success, DB_INT(f->limit), DB_INT(f->entity_id));
	else
		api_query(r, req, DB_READ, found, RECENT(""), DB_STR(module), DB_STR(action), success,
		          DB_INT(f->limit));
}

const struct http_route responses_routes[] = {
	{ "POST", "/router/responses", HTTP_KEY_INTERACTION | HTTP_KEY_WEBHOOK | HTTP_KEY_ADMIN, BODY_MAX, 0,
	  .body = response_posted_fields, .body_size = sizeof(struct response), .handle = post,
	  .summary = "A module's response; the session's entity must be the execution's." },
	{ "GET", "/router/responses/recent", API_READERS, 0, 0,
	  .query = filter_fields, .query_size = sizeof(struct filter), .handle = recent,
	  .summary = "The newest responses, with filters." },
	{ "GET", "/router/responses/{execution_id}", API_READERS, 0, WAIT_MAX + 5000,
	  .query = look_fields, .query_size = sizeof(struct look), .handle = get,
	  .summary = "The responses of an execution, if wanted as soon as the final one is there." },
	{ 0 }
};

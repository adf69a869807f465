/* api_executions.c - GET /router/executions (router.md 17).
 *
 * Newest first, by keyset: the cursor is (created_at, id) of the last row shown, so page 1000 costs
 * what page 1 costs.  command_executions is partitioned by day and every statement is planned once
 * (plan_cache_mode=force_generic_plan), therefore one statement per way in:
 *
 *      by entity     Limit > Sort > Append > Index Scan on (entity_id, created_at): that entity's rows
 *                    since `from` (Merge Append with Incremental Sort once they are very many)
 *      by command    the same on (command_id, created_at)
 *      by event      the event's instant from its decision, session or inbox row, each by its key;
 *                    then Index Scan on the primary key (created_at, id) with that one instant
 *      else          Limit > Merge Append > Index Scan Backward on the primary key: the rows shown
 *
 * Three things keep the last one so (PostgreSQL 15, looked at with EXPLAIN): the limit is a number
 * (of a parameter a tenth of all rows is expected); the upper end is one comparison
 * of rows and no second bound of a range, of which a generic plan thinks it leaves next to nothing; and
 * all other conditions stand in one CASE, or their guesses would multiply to nothing.  A filter that is rarely
 * true walks back to `from`, which is a day ago unless the request says otherwise. */
#include "api.h"
#include "clock.h"
#include "err.h"
#include "ids.h"

enum { DAY_MS = 86400000 };

static const char *const status_words[] = { "", "pending", "success", "failed", NULL };

struct filter { int64_t entity_id, community_id, command_id, from, to, per_page; int status; bool full;
	struct str module_id, user_id, session_id, event_id, cursor; };

#define OPTIONAL .optional = true
static const struct js_field filter_fields[] = {
	JS(struct filter, entity_id, JS_INT, OPTIONAL, .min = 1, .max = INT32_MAX),
	JS(struct filter, community_id, JS_INT, OPTIONAL, .min = 1, .max = INT32_MAX),
	JS(struct filter, command_id, JS_INT, OPTIONAL, .min = 1, .max = INT64_MAX),
	JS(struct filter, module_id, JS_STR, OPTIONAL, .max = 100),
	JS(struct filter, user_id, JS_STR, OPTIONAL, .max = 255),
	JS(struct filter, session_id, JS_UUID, OPTIONAL),
	JS(struct filter, event_id, JS_STR, OPTIONAL, .max = 128),
	JS(struct filter, status, JS_ENUM, OPTIONAL, .names = status_words),
	JS(struct filter, from, JS_TIME, OPTIONAL, .help = "default: a day ago; 30 days with entity_id, command_id, event_id or session_id"),
	JS(struct filter, to, JS_TIME, OPTIONAL),
	JS(struct filter, per_page, JS_INT, OPTIONAL, .absent = 50, .min = 1, .max = 100),
	JS(struct filter, cursor, JS_STR, OPTIONAL, .max = 64, .help = "next_cursor of the page before"),
	JS(struct filter, full, JS_BOOL, OPTIONAL, .help = "adds request_payload and response_data"),
	{ 0 }
};

struct asking { struct http_req *r; struct router *router; const struct filter *f; bool primary; };

/* $1 is that of the way in; $11 the page and one more, $12 whether payloads are wanted. */
#define ROWS(way, also) \
	"SELECT (json_agg(x.row) FILTER (WHERE x.n < $11::bigint))::text, count(*), " \
	"max(x.cursor) FILTER (WHERE x.n = $11::bigint - 1) FROM (SELECT row_number() OVER () AS n, " \
	"(extract(epoch FROM p.created_at) * 1000000)::bigint || '-' || p.id AS cursor, " \
	"jsonb_build_object('execution_id', p.execution_id, 'event_id', p.event_id, 'session_id', p.session_id, " \
	"'command_id', p.command_id, 'command', (SELECT c.prefix || c.command FROM commands c WHERE c.id = p.command_id), " \
	"'module_name', p.module_name, 'entity_id', p.entity_id, 'community_id', p.community_id, " \
	"'user_id', p.user_id, 'user_name', p.user_name, 'parameters', p.parameters, 'message_content', p.message_content, " \
	"'trigger', p.trigger, 'status', p.status, 'response_status', p.response_status, 'retry_count', p.retry_count, " \
	"'execution_time_ms', p.execution_time_ms, 'error_message', p.error_message, 'trace_id', p.trace_id, " \
	"'location_url', p.location_url) || jsonb_build_object('sent_at', " T("p.sent_at") ", 'completed_at', " \
	T("p.completed_at") ", 'created_at', " T("p.created_at") ") || CASE WHEN $12::boolean THEN " \
	"jsonb_build_object('request_payload', p.request_payload, 'response_data', p.response_data) ELSE '{}' END AS row " \
	"FROM (SELECT e.* FROM command_executions e WHERE " way " AND e.created_at >= $2::timestamptz " \
	"AND (e.created_at, e.id) < ($3::timestamptz, $4::bigint) AND CASE WHEN " also \
	" AND ($5::text IS NULL OR e.user_id = $5::text) AND ($6::text IS NULL OR e.status = $6::text) " \
	"AND ($7::bigint IS NULL OR e.command_id = $7::bigint) AND ($8::bigint IS NULL OR e.entity_id = $8::bigint) " \
	"AND ($9::bigint IS NULL OR e.community_id = $9::bigint) AND ($10::text IS NULL OR e.module_name = " \
	"split_part($10::text, ':', 1) AND EXISTS (SELECT FROM commands c WHERE c.id = e.command_id AND c.module_id = $10::text)) " \
	"THEN true ELSE false END " \
	"ORDER BY e.created_at DESC, e.id DESC LIMIT 101) AS p) AS x"
#define T(at) "to_char(" at " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
/* Of one session or event: its instant first. */
#define OF_EVENT "e.session_id = $1::uuid AND e.created_at = ANY (ARRAY(SELECT s.created_at FROM sessions s " \
	"WHERE s.session_id = $1::uuid UNION ALL SELECT d.created_at FROM event_decisions d WHERE d.event_id = $13::text " \
	"UNION ALL SELECT i.received_at FROM router_inbox i WHERE i.key = $13::text))"

static bool cursor_read(struct str text, int64_t *us, int64_t *id)
{
	struct str rest, first = str_cut(text, '-', &rest);

	return str_int(first, 1, INT64_MAX / 2, us) == 0 && str_int(rest, 1, INT64_MAX, id) == 0;
}

static void ask(struct asking *a);

static void answered(void *arg, const struct db_result *res, const struct err *err)
{
	struct asking *a = arg;
	struct buf b = BUF(8 << 20);
	struct str rows, text;
	bool more;

	if (err != NULL) {
		api_fail_db(a->r, err);
		return;
	}
	/* One event's rows may be younger than what the standby has. */
	if (db_int(res, 0, 1) == 0 && !a->primary && (a->f->event_id.n > 0 || a->f->session_id.n > 0)) {
		a->primary = true;
		ask(a);
		return;
	}
	rows = db_str(res, 0, 0);
	more = db_int(res, 0, 1) > a->f->per_page;
	buf_add(&b, STR("{\"executions\":"));
	buf_add(&b, rows.n > 0 ? rows : STR("[]"));
	buf_add(&b, STR(",\"next_cursor\":"));
	if (more)
		buf_json(&b, db_str(res, 0, 2));
	else
		buf_add(&b, STR("null"));
	buf_add(&b, STR("}"));
	if (buf_str(&b, &text) == 0)
		http_reply_raw(a->r, 200, "application/json", text);
	else
		http_refuse(a->r, 500, "ANSWER_SIZE", "The answer is larger than 8 MiB: ask for less per_page.", NULL, 0);
	buf_clear(&b);
}

static struct db_param number(int64_t v) { return v != 0 ? DB_INT(v) : DB_NULL; }
static struct db_param text_of(struct str s) { return s.n > 0 ? DB_STR(s) : DB_NULL; }

static void ask(struct asking *a)
{
	enum { BY_EVENT, BY_ENTITY, BY_COMMAND, BY_TIME };
	static const char *const sql[] = {
		[BY_EVENT] = ROWS(OF_EVENT, "true"), [BY_ENTITY] = ROWS("e.entity_id = $1::bigint", "$13::text IS NULL"),
		[BY_COMMAND] = ROWS("e.command_id = $1::bigint", "$13::text IS NULL"),
		[BY_TIME] = ROWS("true", "$1::bigint IS NULL AND $13::text IS NULL"),
	};
	const struct filter *f = a->f;
	struct arena *mem = http_mem(a->r);
	int way = f->event_id.n > 0 || f->session_id.n > 0 ? BY_EVENT : f->entity_id != 0 ? BY_ENTITY
	          : f->command_id != 0 ? BY_COMMAND : BY_TIME;
	int64_t now = clock_unix_ms(), us = 0, id = 0;
	char session[ID_TEXT], at[40];
	struct db_param first, end = DB_TIME(f->to != 0 ? f->to : now + DAY_MS);
	struct str sid = f->session_id;

	if (f->event_id.n > 0) {
		id_session(f->event_id, session);
		if (sid.n > 0 && !str_eq(sid, str_of(session))) {       /* of two different events */
			http_reply_raw(a->r, 200, "application/json", STR("{\"executions\":[],\"next_cursor\":null}"));
			return;
		}
		sid = arena_str(mem, str_of(session));
	}
	if (f->cursor.n > 0) {
		if (!cursor_read(f->cursor, &us, &id)) {
			api_bad(a->r, "cursor", "none of ours");
			return;
		}
		/* Microseconds: as text, DB_TIME() has milliseconds. */
		clock_text(us / 1000, at);
		at[23] = '\0';
		end = DB_STR(arena_printf(mem, "%s%03dZ", at, (int)(us % 1000)));
	}
	first = way == BY_EVENT ? DB_STR(sid) : way == BY_ENTITY ? DB_INT(f->entity_id)
	        : way == BY_COMMAND ? DB_INT(f->command_id) : DB_NULL;
	if (db_send(a->router->db, (struct db_opts){ .to = a->primary ? DB_WRITE : DB_READ }, answered, a, sql[way],
	         DB_PARAMS(first, DB_TIME(f->from != 0 ? f->from : now - (way == BY_TIME ? DAY_MS : 30LL * DAY_MS)),
	                   end, DB_INT(id), text_of(f->user_id),
	                   f->status > 0 ? DB_STR(str_of(status_words[f->status])) : DB_NULL, number(f->command_id),
	                   number(f->entity_id), number(f->community_id), text_of(f->module_id),
	                   DB_INT(f->per_page + 1), DB_BOOL(f->full), way == BY_EVENT ? text_of(f->event_id) : DB_NULL)) != 0)
		http_refuse(a->r, 503, NULL, "The database has too much to do at the moment.", NULL, 0);
}

static void list(struct http_req *r, void *arg)
{
	struct asking *a = ARENA_NEW(http_mem(r), struct asking);

	*a = (struct asking){ .r = r, .router = arg, .f = http_query(r) };
	ask(a);
}

const struct http_route executions_routes[] = {
	{ .method = "GET", .path = "/router/executions", .auth = HTTP_KEY_ADMIN, .query = filter_fields,
	  .query_size = sizeof(struct filter), .handle = list, .summary = "What ran, newest first; pages by cursor." },
	{ 0 }
};

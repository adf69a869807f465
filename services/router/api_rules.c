/* api_rules.c - /router/string-rules: what rules there are, and changing them.
 *
 * A change is checked as a whole: PUT lays its body over the stored row, and what comes out is
 * judged like a new rule.  Reading, judging and writing are one transaction. */
#include "api.h"
#include "api_rules.h"
#include "crypto.h"
#include "err.h"
#include "guard.h"
#include "pattern.h"
#include "sign.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

enum { BODY_BYTES = 128 * 1024, PLACES_BYTES = 32 * 1024, PARAMS_BYTES = 32 * 1024, NAME_CHARS = 101 };

static const char *const matches[] = { "exact", "contains", "word", "regex", NULL };
static const char *const actions[] = { "", "warn", "block", "command", "webhook", NULL };
static const char *const exempt_names[] = { "", "owner", "admin", "moderator", "vip", "subscriber", "member", NULL };

#define OPTIONAL .optional = true
const struct js_field rule_fields[] = {
	JS(struct rule_body, string, JS_STR, OPTIONAL, .max = PATTERN_CHARS,
	   .help = "What is looked for; * alone takes any text."),
	JS(struct rule_body, match_type, JS_ENUM, OPTIONAL, .names = matches, .help = "Default exact."),
	JS(struct rule_body, action, JS_ENUM, OPTIONAL, .names = actions),
	JS(struct rule_body, case_sensitive, JS_BOOL, OPTIONAL),
	JS(struct rule_body, normalize, JS_BOOL, OPTIONAL,
	   .help = "Compare folded: look-alikes, invisible characters, escapes."),
	JS(struct rule_body, enabled_entity_ids, JS_RAW, OPTIONAL, .max = PLACES_BYTES,
	   .help = "Ids or addresses of channels or servers; empty: everywhere."),
	JS(struct rule_body, command_to_execute, JS_STR, OPTIONAL, .max = NAME_CHARS, .help = "With its prefix, else #."),
	JS(struct rule_body, command_parameters, JS_RAW, OPTIONAL, .max = PARAMS_BYTES,
	   .help = "A list, or an object by the names the command gives its parameters."),
	JS(struct rule_body, webhook_url, JS_STR, OPTIONAL, .max = 2000),
	JS(struct rule_body, warning_message, JS_STR, OPTIONAL, .max = 2000),
	JS(struct rule_body, block_message, JS_STR, OPTIONAL, .max = 2000),
	JS(struct rule_body, priority, JS_INT, OPTIONAL, .absent = 100, .min = 0, .max = 10000,
	   .help = "Smaller goes first; only the first that hits acts."),
	JS(struct rule_body, timeout_seconds, JS_INT, OPTIONAL, .min = 0, .max = 1209600),
	JS(struct rule_body, exempt_role, JS_ENUM, OPTIONAL, .names = exempt_names,
	   .help = "Users of this rank and above are spared."),
	JS(struct rule_body, is_active, JS_BOOL, OPTIONAL, .absent = true),
	{ 0 }
};

/* --- is it one? ---------------------------------------------------------------------------- */

struct rule rule_of_body(const struct rule_body *b)
{
	return (struct rule){
		.priority = b->priority, .timeout_s = b->timeout_seconds, .match = b->match_type,
		.action = b->action - 1, .exempt = b->exempt_role - 1, .case_sensitive = b->case_sensitive,
		.normalize = b->normalize, .string = b->string, .warning = b->warning_message,
		.block = b->block_message, .command = b->command_to_execute, .parameters = b->command_parameters,
		.webhook_url = b->webhook_url,
	};
}

static bool is_command_name(struct str s)
{
	size_t at = s.n > 0 && (s.p[0] == '!' || s.p[0] == '#') ? 1 : 0;
	bool first = true;

	if (at == s.n)
		return false;
	for (; at < s.n; first = false) {
		int32_t i = (int32_t)at, c;

		U8_NEXT((const uint8_t *)s.p, i, (int32_t)s.n, c);
		at = (size_t)i;
		if (first && !u_isalnum(c) && c != '_')
			return false;
		if (u_isUWhiteSpace(c) || u_iscntrl(c) || c == '"' || c == '\'')
			return false;
	}
	return true;
}

/* A list or object of at most 64 plain values: no containers within. */
static bool are_parameters(struct str json)
{
	size_t n = 0;
	bool in_text = false;

	if (json.n < 2 || (json.p[0] != '[' && json.p[0] != '{'))
		return false;
	for (size_t i = 1; i < json.n; i++) {
		char c = json.p[i];

		if (in_text && c == '\\') {
			i++;
		} else if (c == '"') {
			in_text = !in_text;
		} else if (!in_text) {
			n += c == ',';
			if (c == '[' || c == '{')
				return false;
		}
	}
	return n < PARSE_MAX_PARAMS;
}

const char *rule_body_bad(const struct rule_body *b, const struct guard *guard, struct err *err)
{
	struct rule r = rule_of_body(b);
	enum guard_reason reason;
	size_t at;

	(void)err_set(err, -EINVAL, "needed");
	if (b->string.n == 0)
		return "string";
	if (b->action == 0)
		return "action";
	if (r.action == RULE_COMMAND && b->command_to_execute.n == 0)
		return "command_to_execute";
	if (r.action == RULE_WEBHOOK && b->webhook_url.n == 0)
		return "webhook_url";
	if (b->command_to_execute.n > 0 && !is_command_name(b->command_to_execute)) {
		(void)err_set(err, -EINVAL, "not the name of a command");
		return "command_to_execute";
	}
	if (b->command_parameters.n > 0 && !are_parameters(b->command_parameters)) {
		(void)err_set(err, -EINVAL, "a list or an object of at most 64 plain values");
		return "command_parameters";
	}
	if (b->enabled_entity_ids.n > 0 && b->enabled_entity_ids.p[0] != '[') {
		(void)err_set(err, -EINVAL, "expected a list");
		return "enabled_entity_ids";
	}
	reason = guard != NULL && b->webhook_url.n > 0 ? guard_url(guard, b->webhook_url) : GUARD_FINE;
	if (reason != GUARD_FINE) {
		(void)err_set(err, -EINVAL, "this URL may not be called: %s", guard_reason_name(reason));
		return "webhook_url";
	}
	*err = (struct err){ 0 };
	return rule_check(&r, &at, err) != 0 ? "string" : NULL;
}

/* --- writing ------------------------------------------------------------------------------- */

#define ROW_JSON "(to_jsonb(s) - 'signing_secret')"
#define VERSION "(extract(epoch FROM s.updated_at) * 1000000)::bigint"

struct change {                         /* in the request's memory */
	struct router   *router;
	struct http_req *r;
	struct db_tx    *tx;
	struct rule_body body;
	int64_t          id, if_match, version;
	bool             is_new, has_secret, replied;
	struct str       json, secret;
};

/* The transaction is over, the request is answered. */
static void stop(struct change *c)
{
	struct db_tx *tx = c->tx;

	c->tx = NULL;
	c->replied = true;
	db_tx_abort(tx);
}

static void stop_with(struct change *c, const struct err *err)
{
	if (c->replied)
		return;
	stop(c);
	api_fail_db(c->r, err);
}

static void finished(void *arg, const struct db_result *res, const struct err *err)
{
	struct change *c = arg;
	struct arena *mem = http_mem(c->r);

	(void)res;
	c->replied = true;
	if (err != NULL) {
		api_fail_db(c->r, err);
		return;
	}
	if (c->secret.n > 0)            /* shown this once */
		c->json = arena_printf(mem, "%.*s,\"signing_secret\":\"" STR_FMT "\"}", (int)c->json.n - 1,
		                       c->json.p, STR_ARG(c->secret));
	api_reply_row(c->r, c->is_new ? 201 : 200, c->json, c->version);
}

static void commit(struct change *c)
{
	struct db_tx *tx = c->tx;

	c->tx = NULL;
	db_tx_commit(tx, finished, c);
}

static void sealed(void *arg, const struct db_result *res, const struct err *err)
{
	struct change *c = arg;

	(void)res;
	if (err != NULL)
		stop_with(c, err);
	else if (!c->replied)
		commit(c);
}

static void stored(void *arg, const struct db_result *res, const struct err *err)
{
	struct change *c = arg;
	struct arena *mem = http_mem(c->r);
	struct str box;

	if (err != NULL) {
		stop_with(c, err);
		return;
	}
	if (c->replied)
		return;
	if (db_rows(res) == 0) {
		stop(c);
		api_bad(c->r, "enabled_entity_ids", "names an entity that is not there");
		return;
	}
	c->id = db_int(res, 0, 0);
	c->json = arena_str(mem, db_str(res, 0, 1));
	c->version = db_int(res, 0, 2);
	if (rule_of_body(&c->body).action != RULE_WEBHOOK || c->has_secret) {
		commit(c);
		return;
	}
	c->secret = sign_secret_new(mem);
	box = crypto_seal(c->router->seal, sign_place(mem, "stringmatch.signing_secret", c->id), c->secret, mem);
	if (box.n == 0 || db_tx_query(c->tx, sealed, c, "UPDATE stringmatch SET signing_secret = $2 WHERE id = $1",
	                              DB_INT(c->id), DB_BYTES(box)) != 0) {
		stop(c);
		http_refuse(c->r, 503, NULL, "The secret could not be stored.", NULL, 0);
	}
}

/* Ids stay, addresses become ids; no row when one of them is none. */
#define PLACES \
	"WITH given AS (SELECT x, i FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS t(x, i)), " \
	"found AS (SELECT count(*) AS n, count(coalesce(a.entity_id, b.entity_id)) AS known, " \
	"coalesce(jsonb_agg(DISTINCT coalesce(a.entity_id, b.entity_id)), '[]') AS ids FROM given " \
	"LEFT JOIN entities a ON jsonb_typeof(x) = 'number' AND a.entity_id = CASE WHEN x #>> '{}' ~ '^[0-9]{1,9}$' " \
	"THEN (x #>> '{}')::integer END " \
	"LEFT JOIN entities b ON jsonb_typeof(x) = 'string' AND b.address = x #>> '{}') "

static struct db_param opt(struct str s)
{
	return s.n > 0 ? DB_STR(s) : DB_NULL;
}

static int store(struct change *c)
{
	const struct rule_body *b = &c->body;
	struct str places = b->enabled_entity_ids.n > 0 ? b->enabled_entity_ids : STR("[]");
	const char *exempt = exempt_names[b->exempt_role];
	struct str by = api_keys_name(c->router->keys, http_key_id(c->r));

#define VALUES \
	DB_STR(places), DB_STR(b->string), DB_STR(str_of(matches[b->match_type])), \
	DB_STR(str_of(actions[b->action])), DB_BOOL(b->case_sensitive), DB_BOOL(b->normalize), \
	opt(b->command_to_execute), opt(b->command_parameters), opt(b->webhook_url), opt(b->warning_message), \
	opt(b->block_message), DB_INT(b->priority), DB_INT(b->timeout_seconds), opt(str_of(exempt)), \
	DB_BOOL(b->is_active)
	if (c->is_new)
		return db_tx_query(
			c->tx, stored, c,
			PLACES "INSERT INTO stringmatch AS s (enabled_entity_ids, string, match_type, action, "
			"case_sensitive, normalize, command_to_execute, command_parameters, webhook_url, "
			"warning_message, block_message, priority, timeout_seconds, exempt_role, is_active, created_by) "
			"SELECT ids, $2::text, $3::text, $4::text, $5::boolean, $6::boolean, $7::text, $8::jsonb, "
			"$9::text, $10::text, $11::text, $12::integer, $13::integer, $14::text, $15::boolean, $16::text "
			"FROM found WHERE n = known RETURNING s.id, " ROW_JSON "::text, " VERSION,
			VALUES, DB_STR(by.p != NULL ? by : STR("")));
	return db_tx_query(
		c->tx, stored, c,
		PLACES "UPDATE stringmatch AS s SET enabled_entity_ids = ids, string = $2::text, match_type = $3::text, "
		"action = $4::text, case_sensitive = $5::boolean, normalize = $6::boolean, "
		"command_to_execute = $7::text, command_parameters = $8::jsonb, webhook_url = $9::text, "
		"warning_message = $10::text, block_message = $11::text, priority = $12::integer, "
		"timeout_seconds = $13::integer, exempt_role = $14::text, is_active = $15::boolean "
		"FROM found WHERE n = known AND s.id = $16::bigint RETURNING s.id, " ROW_JSON "::text, " VERSION,
		VALUES, DB_INT(c->id));
#undef VALUES
}

/* The rule is whole: judged, then written. */
static void judge_and_store(struct change *c)
{
	struct err err = { 0 };
	const char *bad = rule_body_bad(&c->body, &c->router->guard, &err);
	int r;

	if (bad == NULL && rule_of_body(&c->body).action == RULE_WEBHOOK && c->router->seal == NULL) {
		bad = "action";
		(void)err_set(&err, -EINVAL, "webhooks need SEALING_KEY_FILE for their signing secrets");
	}
	if (bad != NULL) {
		stop(c);
		api_bad(c->r, bad, "%s", err.text);
		return;
	}
	r = store(c);
	if (r == 0)
		return;
	stop(c);
	if (r == -EINVAL)
		http_refuse(c->r, 400, NULL, "A text that cannot be stored.", NULL, 0);
	else
		http_refuse(c->r, 503, NULL, "The database has too much to do at the moment.", NULL, 0);
}

static struct change *begin(struct http_req *r, struct router *router)
{
	struct change *c = ARENA_NEW(http_mem(r), struct change);

	c->router = router;
	c->r = r;
	c->tx = db_tx_begin(router->db, 0);
	if (c->tx == NULL) {
		http_refuse(r, 503, NULL, "The database has too much to do at the moment.", NULL, 0);
		return NULL;
	}
	return c;
}

static void create(struct http_req *r, void *arg)
{
	struct change *c = begin(r, arg);

	if (c == NULL)
		return;
	c->is_new = true;
	c->body = *(const struct rule_body *)http_body(r);
	judge_and_store(c);
}

static void merged(void *arg, const struct db_result *res, const struct err *err)
{
	struct change *c = arg;
	struct err bad = { 0 };

	if (err != NULL) {
		stop_with(c, err);
		return;
	}
	if (c->replied)
		return;
	if (db_rows(res) == 0) {
		stop(c);
		api_absent(c->r, "string rule");
		return;
	}
	if (c->if_match != 0 && c->if_match != db_int(res, 0, 2)) {
		stop(c);
		http_refuse(c->r, 412, NULL, "The rule has changed since this version.", NULL, 0);
		return;
	}
	c->has_secret = db_bool(res, 0, 1);
	if (js_decode(db_str(res, 0, 0), rule_fields, &c->body, http_mem(c->r), &bad) != 0) {
		stop(c);
		http_fail(c->r, &bad);
		return;
	}
	judge_and_store(c);
}

static void update(struct http_req *r, void *arg)
{
	struct err err = { 0 };
	int64_t id, if_match;
	struct change *c;

	if (http_path_int(r, "id", &id, &err) != 0) {
		http_fail(r, &err);
		return;
	}
	if (!api_if_match(r, &if_match))
		return;
	c = begin(r, arg);
	if (c == NULL)
		return;
	c->id = id;
	c->if_match = if_match;
	if (db_tx_query(c->tx, merged, c,
	                "SELECT (to_jsonb(s) - 'signing_secret' || $2::jsonb)::text, signing_secret IS NOT NULL, "
	                VERSION " FROM stringmatch s WHERE id = $1::bigint FOR UPDATE",
	                DB_INT(id), DB_STR(http_raw(r))) != 0) {
		stop(c);
		http_refuse(r, 503, NULL, "The database has too much to do at the moment.", NULL, 0);
	}
}

static void removed(void *arg, const struct db_result *res, const struct err *err)
{
	struct http_req *r = arg;

	if (err != NULL)
		api_fail_db(r, err);
	else if (db_rows(res) == 0)
		api_absent(r, "string rule");
	else
		http_reply(r, 204, NULL, NULL);
}

static void remove_rule(struct http_req *r, void *arg)
{
	struct err err = { 0 };
	int64_t id;

	if (http_path_int(r, "id", &id, &err) != 0)
		http_fail(r, &err);
	else
		api_query(arg, r, DB_WRITE, removed,
		          "UPDATE stringmatch SET is_active = false WHERE id = $1::bigint RETURNING id", DB_INT(id));
}

/* --- reading ------------------------------------------------------------------------------- */

struct listing { struct api_page page; struct str entity_id; int action, is_active; };
static const char *const yes_no[] = { "", "true", "false", NULL };
static const struct js_field listing_fields[] = {
	API_PAGE_FIELDS,
	JS(struct listing, entity_id, JS_STR, OPTIONAL, .max = 1024,
	   .help = "Those that act there: an id or an address; rules of everywhere are among them."),
	JS(struct listing, action, JS_ENUM, OPTIONAL, .names = actions),
	JS(struct listing, is_active, JS_ENUM, OPTIONAL, .names = yes_no),
	{ 0 }
};

static void listed(void *arg, const struct db_result *res, const struct err *err)
{
	struct http_req *r = arg;

	if (err != NULL)
		api_fail_db(r, err);
	else
		api_reply_page(r, "string_rules", db_str(res, 0, 0), &((const struct listing *)http_query(r))->page,
		               db_int(res, 0, 1));
}

static void list(struct http_req *r, void *arg)
{
	const struct listing *q = http_query(r);

	api_query(arg, r, DB_WRITE, listed,
	          "WITH here AS (SELECT to_jsonb(e.entity_id) AS id, to_jsonb(coalesce(w.entity_id, e.entity_id)) AS wide "
	          "FROM entities e LEFT JOIN entities w ON w.platform = e.platform AND w.channel_id IS NULL "
	          "AND coalesce(w.server_id, '') = coalesce(e.server_id, '') "
	          "WHERE e.address = $1::text OR e.entity_id::text = $1::text LIMIT 1), "
	          "mine AS (SELECT s.* FROM stringmatch s WHERE ($1::text = '' OR s.enabled_entity_ids = '[]' OR EXISTS "
	          "(SELECT FROM here WHERE s.enabled_entity_ids @> here.id OR s.enabled_entity_ids @> here.wide)) "
	          "AND ($2::text = '' OR s.action = $2::text) AND ($3::text = '' OR s.is_active = ($3::text = 'true'))) "
	          "SELECT coalesce((SELECT jsonb_agg(" ROW_JSON " ORDER BY s.priority, s.id) FROM (SELECT * FROM mine "
	          "ORDER BY priority, id LIMIT $4::bigint OFFSET ($5::bigint - 1) * $4::bigint) s), '[]')::text, "
	          "(SELECT count(*) FROM mine)",
	          DB_STR(q->entity_id.n > 0 ? q->entity_id : STR("")), DB_STR(str_of(actions[q->action])),
	          DB_STR(str_of(yes_no[q->is_active])), DB_INT(q->page.per_page), DB_INT(q->page.page));
}

const struct http_route rules_routes[] = {
	{ .method = "GET", .path = "/router/string-rules", .auth = API_READERS, .query = listing_fields,
	  .query_size = sizeof(struct listing), .handle = list, .summary = "String rules, by priority and id." },
	{ .method = "POST", .path = "/router/string-rules", .auth = HTTP_KEY_ADMIN, .max_body = BODY_BYTES,
	  .body = rule_fields, .body_size = sizeof(struct rule_body), .known = true, .handle = create,
	  .summary = "Makes a rule; one with a webhook shows its signing secret this once." },
	{ .method = "POST", .path = "/router/string-rules/test", .auth = HTTP_KEY_ADMIN, .max_body = 1 << 20,
	  .body = rule_test_fields, .body_size = sizeof(struct rule_test), .known = true,
	  .handle = rules_test_handle, .max_ms = 30000,
	  .summary = "What the rules of a place, or drafts, would do to texts; nothing is done or counted." },
	{ .method = "PUT", .path = "/router/string-rules/{id}", .auth = HTTP_KEY_ADMIN, .max_body = BODY_BYTES,
	  .body = rule_fields, .body_size = sizeof(struct rule_body), .known = true, .handle = update,
	  .summary = "Changes those fields of a rule that are given." },
	{ .method = "DELETE", .path = "/router/string-rules/{id}", .auth = HTTP_KEY_ADMIN, .handle = remove_rule,
	  .summary = "Ends a rule; its row stays." },
	{ 0 }
};

/* api_commands.c - /router/commands (router.md 2.2). */
#include "api_table.h"
#include "err.h"
#include "parse.h"
#include "sign.h"

enum { HEADERS_MAX = 20, HEADERS_BYTES = 4096 };

static const char *const prefix_names[] = { "", "!", "#", NULL };
static const char *const location_words[] = { "", "internal", "community", NULL };
static const char *const type_words[] = { "", "container", "lambda", "openwhisk", "webhook", NULL };
static const char *const method_words[] = { "", "GET", "POST", "PUT", "PATCH", "DELETE", NULL };
static const char *const module_words[] = { "", "trigger", "action", "core", NULL };
static const char *const trigger_words[] = { "", "command", "event", "both", NULL };
static const char *const mode_words[] = { "", "sequential", "parallel", NULL };
static const char *const role_words[] = { "", "owner", "admin", "moderator", "vip", "subscriber", "member", NULL };
static const char *const bool_words[] = { "", "true", "false", NULL };

struct command { struct str command, module_id, location_url, headers, secret_headers, version, description, usage;
	int prefix, location, type, method, module_type, trigger_type, execution_mode, min_role;
	int64_t timeout, rate_limit, priority; bool auth_required, is_active, rotate_secret;
	struct js_list event_types, parameters; };

#define OPTIONAL .optional = true
#define FIELDS \
	JS(struct command, prefix, JS_ENUM, OPTIONAL, .names = prefix_names), \
	JS(struct command, module_id, JS_STR, OPTIONAL, .min = 1, .max = 100), \
	JS(struct command, location, JS_ENUM, OPTIONAL, .names = location_words, .help = "follows from the prefix"), \
	JS(struct command, type, JS_ENUM, OPTIONAL, .names = type_words, .help = "default container; ! needs it"), \
	JS(struct command, location_url, JS_STR, OPTIONAL, .max = 2048, .help = "container: kafka:<module>; others: an https URL"), \
	JS(struct command, method, JS_ENUM, OPTIONAL, .names = method_words), \
	JS(struct command, timeout, JS_INT, OPTIONAL, .absent = 30, .min = 1, .max = 300, .help = "seconds, each attempt"), \
	JS(struct command, headers, JS_RAW_OBJECT, OPTIONAL, .max = HEADERS_BYTES, .help = "at most 20"), \
	JS(struct command, secret_headers, JS_RAW_OBJECT, OPTIONAL, .max = HEADERS_BYTES, .help = "sealed, never shown"), \
	JS(struct command, auth_required, JS_BOOL, OPTIONAL), \
	JS(struct command, rate_limit, JS_INT, OPTIONAL, .min = 0, .max = 10000, .help = "a minute; 0: none"), \
	JS(struct command, is_active, JS_BOOL, OPTIONAL, .absent = 1), \
	JS(struct command, module_type, JS_ENUM, OPTIONAL, .names = module_words), \
	JS(struct command, version, JS_STR, OPTIONAL, .min = 1, .max = 50), \
	JS(struct command, trigger_type, JS_ENUM, OPTIONAL, .names = trigger_words), \
	JS(struct command, event_types, JS_STRS, OPTIONAL, .max = 64, .help = "message types; needed unless it fires on commands only"), \
	JS(struct command, priority, JS_INT, OPTIONAL, .absent = 100, .min = 0, .max = 10000, .help = "smaller goes first"), \
	JS(struct command, execution_mode, JS_ENUM, OPTIONAL, .names = mode_words), \
	JS(struct command, min_role, JS_ENUM, OPTIONAL, .names = role_words), \
	JS(struct command, description, JS_STR, OPTIONAL, .max = 1000), \
	JS(struct command, usage, JS_STR, OPTIONAL, .max = 1000), \
	JS(struct command, parameters, JS_STRS, OPTIONAL, .max = 64, .help = "names")

static const struct js_field create_fields[] = {
	JS(struct command, command, JS_STR, .min = 1, .max = 100),
	FIELDS,
	{ 0 }
};
static const struct js_field change_fields[] = {
	JS(struct command, command, JS_STR, OPTIONAL, .min = 1, .max = 100),
	FIELDS,
	JS(struct command, rotate_secret, JS_BOOL, OPTIONAL, .help = "a new signing secret; the present one signs for 24 h more"),
	{ 0 }
};

static const struct api_col columns[] = {
	{ "command", COL_SET, NULL }, { "prefix", COL_SET, NULL }, { "description", COL_SET, NULL },
	{ "location_url", COL_SET, NULL }, { "location", COL_SET, NULL }, { "type", COL_SET, NULL },
	{ "method", COL_SET, NULL }, { "timeout", COL_SET, NULL }, { "headers", COL_SET, NULL },
	{ "auth_required", COL_SET, NULL }, { "rate_limit", COL_SET, NULL }, { "is_active", COL_SET, NULL },
	{ "module_type", COL_SET, NULL }, { "module_id", COL_SET, NULL }, { "version", COL_SET, NULL },
	{ "trigger_type", COL_SET, NULL }, { "event_types", COL_SET, NULL }, { "priority", COL_SET, NULL },
	{ "execution_mode", COL_SET, NULL }, { "min_role", COL_SET, NULL }, { "usage", COL_SET, NULL },
	{ "parameters", COL_SET, NULL }, { "created_at", COL_TIME, NULL }, { "updated_at", COL_TIME, NULL }, { 0 }
};

static struct api_table commands = {
	.name = "commands", .one = "command", .many = "commands", .cols = columns, .order = "t.prefix, t.command, t.id",
	.defaults = "{\"description\":\"\",\"type\":\"container\",\"method\":\"POST\",\"timeout\":30,\"headers\":{},"
	            "\"auth_required\":false,\"rate_limit\":0,\"is_active\":true,\"module_type\":\"action\","
	            "\"version\":\"1.0\",\"trigger_type\":\"command\",\"event_types\":[],\"priority\":100,"
	            "\"execution_mode\":\"sequential\",\"min_role\":\"member\",\"usage\":\"\",\"parameters\":[]}",
};

/* --- rules of fields -------------------------------------------------------------------------------- */

/* As the parser reads a name: what it would not read can never be called. */
static bool name_ok(struct str name, struct arena *mem, struct str *ret)
{
	struct str text = arena_printf(mem, "!" STR_FMT, STR_ARG(name));
	struct parsed p;

	for (size_t i = 0; i < name.n; i++)
		if ((unsigned char)name.p[i] < 0x21 || name.p[i] == 0x7f || name.p[i] == '"' || name.p[i] == '\'')
			return false;
	if (!parse_command(text, mem, &p) || p.rest.n > 0)
		return false;
	*ret = p.name;
	return true;
}

/* Names that the router sets itself, or that would change what the request is. */
static bool header_ok(struct str name)
{
	static const char *const refused[] = { "host", "content-length", "connection", "transfer-encoding" };

	if (name.n == 0 || name.n > 100)
		return false;
	for (size_t i = 0; i < name.n; i++)
		if (!((name.p[i] >= 'a' && name.p[i] <= 'z') || (name.p[i] >= 'A' && name.p[i] <= 'Z') ||
		      (name.p[i] >= '0' && name.p[i] <= '9') || name.p[i] == '-' || name.p[i] == '_'))
			return false;
	for (size_t i = 0; i < ARRAY_LEN(refused); i++)
		if (str_eq_fold(name, str_of(refused[i])))
			return false;
	return !(name.n >= 8 && str_eq_fold((struct str){ name.p, 8 }, STR("webhook-"))) &&
	       !(name.n >= 12 && str_eq_fold((struct str){ name.p, 12 }, STR("x-waddlebot-")));
}

/* An object of texts whose bytes the body's scan has checked: "name":"value" pairs. */
static bool headers_ok(struct str json)
{
	struct str rest = json, name = STR_NONE;
	size_t n = 0;
	bool value = false;

	while (rest.n > 0) {
		const char *from;

		if (*rest.p != '"') {
			/* Only blanks, commas, colons and the braces may stand between the texts. */
			if (strchr(" \t\r\n,:{}", *rest.p) == NULL)
				return false;
			rest.p++, rest.n--;
			continue;
		}
		rest.p++, rest.n--;
		from = rest.p;
		while (rest.n > 0 && *rest.p != '"') {
			size_t step = *rest.p == '\\' ? 2 : 1;

			if (step == 2 && rest.n > 1 && (rest.p[1] == 'n' || rest.p[1] == 'r'))
				return false;
			rest.p += step, rest.n -= step;
		}
		name = (struct str){ from, (size_t)(rest.p - from) };
		rest.p++, rest.n--;
		if (!value && (!header_ok(name) || ++n > HEADERS_MAX))
			return false;
		value = !value;
	}
	return !value;
}

static bool fields_ok(struct http_req *r, const struct command *c, struct str *ret_name)
{
	if (c->command.n > 0 && !name_ok(c->command, http_mem(r), ret_name)) {
		api_bad(r, "command", "begins with a letter, digit or _ and holds no white space, quotes or control characters");
		return false;
	}
	if (c->prefix > 0 && c->location > 0 && c->prefix != c->location) {
		api_bad(r, "location", "contradicts the prefix");
		return false;
	}
	if (c->prefix == 1 && c->type > 1) {
		api_bad(r, "type", "a command with ! needs type container");
		return false;
	}
	if (!headers_ok(c->headers) || !headers_ok(c->secret_headers)) {
		api_bad(r, headers_ok(c->headers) ? "secret_headers" : "headers",
		        "at most 20 texts, none of them set by the router itself");
		return false;
	}
	for (size_t i = 0; i < c->event_types.n; i++)
		if (js_name(message_type_names, ((const struct str *)c->event_types.items)[i]) < 0) {
			api_bad(r, "event_types", "not a message type: " STR_FMT,
			        STR_ARG(((const struct str *)c->event_types.items)[i]));
			return false;
		}
	return true;
}

/* --- secrets ------------------------------------------------------------------------------------------ */

static struct str sealed(struct api_change *c, const char *column, struct str secret)
{
	struct arena *mem = http_mem(c->r);

	return crypto_seal(c->router->seal, sign_place(mem, column, c->id), secret, mem);
}

/* Rules between fields, looked at in the row they make; then what must be sealed under its id. */
static bool check_row(struct api_change *c)
{
	const struct command *b = c->body_struct;
	struct str url = api_change_member(c, "location_url"), type = api_change_member(c, "type");
	struct str prefix = api_change_member(c, "prefix"), secret = STR_NONE, headers = STR_NONE, text;
	bool http = !str_eq(type, STR("container"));

	if (str_eq(prefix, STR("!")) && http) {
		api_change_refuse(c, 400, "type", "a command with ! needs type container");
		return false;
	}
	if (!http && (!str_starts(url, STR("kafka:")) || url.n < 7)) {
		api_change_refuse(c, 400, "location_url", "of a container is kafka:<module>");
		return false;
	}
	if (http && guard_url(&c->router->guard, url) != GUARD_FINE) {
		api_change_refuse(c, 400, "location_url", "not a URL that may be called: %s",
		                  guard_reason_name(guard_url(&c->router->guard, url)));
		return false;
	}
	if (http && (c->status == 201 || b->rotate_secret)) {
		if (c->router->seal == NULL) {
			api_change_refuse(c, 503, "type", "the router has no SEALING_KEY_FILE for its secret");
			return false;
		}
		text = sign_secret_new(http_mem(c->r));
		secret = sealed(c, "commands.signing_secret", text);
		c->tail = arena_printf(http_mem(c->r), ",\"signing_secret\":\"" STR_FMT "\"", STR_ARG(text));
	}
	if (b->secret_headers.n > 0) {
		if (c->router->seal == NULL) {
			api_change_refuse(c, 503, "secret_headers", "the router has no SEALING_KEY_FILE");
			return false;
		}
		headers = sealed(c, "commands.secret_headers", b->secret_headers);
	}
	if (secret.n == 0 && headers.n == 0)
		return true;
	if (db_tx_query(c->tx, NULL, NULL,
	                "UPDATE commands SET previous_secret = CASE WHEN $2::bytea IS NULL THEN previous_secret "
	                "ELSE signing_secret END, previous_secret_until = CASE WHEN $2::bytea IS NULL OR signing_secret "
	                "IS NULL THEN previous_secret_until ELSE now() + interval '24 hours' END, "
	                "signing_secret = coalesce($2::bytea, signing_secret), "
	                "secret_headers = coalesce($3::bytea, secret_headers) WHERE id = $1::bigint",
	                DB_INT(c->id), secret.n > 0 ? DB_BYTES(secret) : DB_NULL,
	                headers.n > 0 ? DB_BYTES(headers) : DB_NULL) != 0) {
		api_change_refuse(c, 503, "command", "the database has too much to do");
		return false;
	}
	return true;
}

/* --- requests ------------------------------------------------------------------------------------------ */

/* What follows from the body: the folded name, the location, a container's address. */
static void set_extra(struct api_change *c, const struct command *b, struct str name, bool create)
{
	struct str module, rest, url;
	struct buf e = BUF(8192);
	const char *sep = "{";

	if (name.n > 0) {
		buf_printf(&e, "%s\"command\":", sep);
		buf_json(&e, name);
		sep = ",";
	}
	if (b->prefix > 0) {
		buf_printf(&e, "%s\"location\":\"%s\"", sep, location_words[b->prefix]);
		sep = ",";
	}
	if (create && b->location_url.n == 0) {
		module = str_cut(b->module_id, ':', &rest);
		url = arena_printf(http_mem(c->r), "kafka:" STR_FMT, STR_ARG(module));
		buf_printf(&e, "%s\"location_url\":", sep);
		buf_json(&e, url);
		sep = ",";
	}
	buf_printf(&e, "%s}", *sep == '{' ? "{" : "");
	c->extra = arena_str(http_mem(c->r), (struct str){ e.p, e.n });
	buf_clear(&e);
	c->check = check_row;
}

static void create(struct http_req *r, void *arg)
{
	const struct command *b = http_body(r);
	struct str name = STR_NONE;
	struct api_change *c;

	if (b->prefix == 0 || b->module_id.n == 0) {
		api_bad(r, b->prefix == 0 ? "prefix" : "module_id", "missing");
		return;
	}
	if (b->type > 1 && b->location_url.n == 0) {
		api_bad(r, "location_url", "missing");
		return;
	}
	if (b->trigger_type > 1 && b->event_types.n == 0) {
		api_bad(r, "event_types", "missing: it fires on events");
		return;
	}
	if (!fields_ok(r, b, &name))
		return;
	c = api_change_new(r, arg, &commands);
	set_extra(c, b, name, true);
	api_insert(c);
}

static void change(struct http_req *r, void *arg)
{
	const struct command *b = http_body(r);
	struct str name = STR_NONE;
	struct api_change *c;

	if (!fields_ok(r, b, &name))
		return;
	c = api_change_new(r, arg, &commands);
	set_extra(c, b, name, false);
	api_update(c);
}

static void deactivate(struct http_req *r, void *arg)
{
	struct api_change *c = api_change_new(r, arg, &commands);

	c->body = STR("{\"is_active\":false}");
	c->gone = true;
	api_update(c);
}

/* --- the list -------------------------------------------------------------------------------------------- */

struct filter { struct api_page page; int64_t entity_id; struct str module_id; int prefix, module_type, is_active, trigger_type; };

static const struct js_field filter_fields[] = {
	API_PAGE_FIELDS,
	JS(struct filter, prefix, JS_ENUM, OPTIONAL, .names = prefix_names),
	JS(struct filter, module_type, JS_ENUM, OPTIONAL, .names = module_words),
	JS(struct filter, module_id, JS_STR, OPTIONAL, .max = 100),
	JS(struct filter, is_active, JS_ENUM, OPTIONAL, .names = bool_words),
	JS(struct filter, trigger_type, JS_ENUM, OPTIONAL, .names = trigger_words),
	JS(struct filter, entity_id, JS_INT, OPTIONAL, .min = 1, .max = INT32_MAX, .help = "adds enabled, enabled_by and config of this entity"),
	{ 0 }
};
/* The same without the entity: what api_list() filters by. */
static const struct js_field plain_filter_fields[] = {
	API_PAGE_FIELDS,
	JS(struct filter, prefix, JS_ENUM, OPTIONAL, .names = prefix_names),
	JS(struct filter, module_type, JS_ENUM, OPTIONAL, .names = module_words),
	JS(struct filter, module_id, JS_STR, OPTIONAL, .max = 100),
	JS(struct filter, is_active, JS_ENUM, OPTIONAL, .names = bool_words),
	JS(struct filter, trigger_type, JS_ENUM, OPTIONAL, .names = trigger_words),
	{ 0 }
};

static void listed(void *arg, const struct db_result *res, const struct err *err)
{
	struct http_req *r = arg;
	const struct filter *f = http_query(r);

	if (err != NULL)
		api_fail_db(r, err);
	else if (!db_bool(res, 0, 2))
		api_absent(r, "entity");
	else
		api_reply_page(r, "commands", db_str(res, 0, 1), &f->page, db_int(res, 0, 0));
}

static struct db_param word(const char *const *names, int i) { return i > 0 ? DB_STR(str_of(names[i])) : DB_NULL; }

/* The row of the channel decides, else that of the server-wide entity (router.md 7). */
static void list(struct http_req *r, void *arg)
{
	const struct filter *f = http_query(r);

	if (f->entity_id == 0) {
		api_list(r, arg, &commands, plain_filter_fields, &f->page);
		return;
	}
	api_query(arg, r, DB_WRITE, listed,
	          "WITH here AS (SELECT e.entity_id, e.platform, coalesce(e.server_id, '') AS server_id FROM entities e "
	          "WHERE e.entity_id = $1::integer), wide AS (SELECT e.entity_id FROM entities e, here h "
	          "WHERE e.platform = h.platform AND e.server_id = h.server_id AND coalesce(e.channel_id, '') = '' "
	          "AND e.entity_id <> h.entity_id), hits AS (SELECT c.*, p.is_enabled, p.entity_id AS by_entity, "
	          "p.config AS p_config FROM commands c LEFT JOIN LATERAL (SELECT p.* FROM command_permissions p "
	          "WHERE p.command_id = c.id AND (p.entity_id = (SELECT entity_id FROM here) OR "
	          "p.entity_id = (SELECT entity_id FROM wide)) "
	          "ORDER BY p.entity_id = (SELECT entity_id FROM here) DESC LIMIT 1) p ON true "
	          "WHERE ($2::text IS NULL OR c.prefix = $2::text) AND ($3::text IS NULL OR c.module_type = $3::text) "
	          "AND ($4::text IS NULL OR c.module_id = $4::text) AND ($5::text IS NULL OR c.is_active = $5::text::boolean) "
	          "AND ($6::text IS NULL OR c.trigger_type = $6::text)) "
	          "SELECT (SELECT count(*) FROM hits), (SELECT json_agg(x.row)::text FROM (SELECT "
	          "(to_jsonb(h) - '{secret_headers,signing_secret,previous_secret,previous_secret_until,is_enabled,"
	          "by_entity,p_config}'::text[]) || jsonb_build_object('created_at', " API_TIME("h.created_at") ", "
	          "'updated_at', " API_TIME("h.updated_at") ", 'enabled', coalesce(h.is_enabled, false), 'enabled_by', "
	          "CASE WHEN h.by_entity IS NULL THEN 'none' WHEN h.by_entity = (SELECT entity_id FROM here) THEN 'channel' "
	          "ELSE 'server' END, 'config', coalesce(h.p_config, '{}')) AS row FROM hits h "
	          "ORDER BY h.prefix, h.command, h.id LIMIT $7::bigint OFFSET $8::bigint) x), "
	          "EXISTS (SELECT FROM here)",
	          DB_INT(f->entity_id), word(prefix_names, f->prefix), word(module_words, f->module_type),
	          f->module_id.n > 0 ? DB_STR(f->module_id) : DB_NULL, word(bool_words, f->is_active),
	          word(trigger_words, f->trigger_type), DB_INT(f->page.per_page),
	          DB_INT((f->page.page - 1) * f->page.per_page));
}

enum { BODY = 64 * 1024 };
const struct http_route commands_routes[] = {
	{ .method = "GET", .path = "/router/commands", .auth = API_READERS, .query = filter_fields,
	  .query_size = sizeof(struct filter), .handle = list, .summary = "Commands; of an entity also whether they are enabled there." },
	{ .method = "POST", .path = "/router/commands", .auth = HTTP_KEY_ADMIN, .max_body = BODY, .known = true,
	  .body = create_fields, .body_size = sizeof(struct command), .handle = create,
	  .summary = "Registers a command; its signing secret is shown this once." },
	{ .method = "PATCH", .path = "/router/commands/{id}", .auth = HTTP_KEY_ADMIN, .max_body = BODY, .known = true,
	  .body = change_fields, .body_size = sizeof(struct command), .handle = change, .summary = "Changes a command." },
	{ .method = "DELETE", .path = "/router/commands/{id}", .auth = HTTP_KEY_ADMIN, .handle = deactivate,
	  .summary = "Deactivates a command; its row stays." },
	{ 0 }
};

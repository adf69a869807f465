/* api_entities.c - /router/entities, /router/servers and /router/aliases (router.md 2.2). */
#include "api_table.h"
#include "err.h"
#include "parse.h"

#define OPTIONAL .optional = true
enum { BODY = 80 * 1024, RAW_MAX = 64 * 1024 };

static const char *const bool_words[] = { "", "true", "false", NULL };

/* The three parts of an address as a body gives them: known platform, not blank, and one that can be. */
static bool address_ok(struct http_req *r, const struct router *router, struct entity e, const char *channel_field)
{
	if (!api_platform_known(router, e.platform)) {
		api_bad(r, "platform", "one of " STR_FMT, STR_ARG(router->settings->platforms));
		return false;
	}
	if ((e.server.p != NULL && str_trim(e.server).n != e.server.n) || (e.server.p != NULL && e.server.n == 0)) {
		api_bad(r, "server_id", "blank, or with blanks around it");
		return false;
	}
	if ((e.channel.p != NULL && str_trim(e.channel).n != e.channel.n) || (e.channel.p != NULL && e.channel.n == 0)) {
		api_bad(r, channel_field, "blank, or with blanks around it");
		return false;
	}
	if (entity_check(e) != 0) {
		api_bad(r, "server_id", "no place of this platform has such an address");
		return false;
	}
	return true;
}

static struct str json_member(struct arena *mem, const char *name, struct str value)
{
	struct buf b = BUF(16384);
	struct str text;

	buf_printf(&b, "{\"%s\":", name);
	buf_json(&b, value);
	buf_add(&b, STR("}"));
	text = arena_str(mem, (struct str){ b.p, b.n });
	buf_clear(&b);
	return text;
}

/* --- entities -------------------------------------------------------------------------------------- */

struct entity_body { struct str platform, server_id, channel_id, owner, config; int64_t community_id; bool is_active; };

#define ENTITY_FIELDS \
	JS(struct entity_body, community_id, JS_INT, OPTIONAL, .min = 1, .max = INT32_MAX), \
	JS(struct entity_body, owner, JS_STR, OPTIONAL, .min = 1, .max = 255), \
	JS(struct entity_body, is_active, JS_BOOL, OPTIONAL, .absent = 1), \
	JS(struct entity_body, config, JS_RAW_OBJECT, OPTIONAL, .max = RAW_MAX)

static const struct js_field entity_create[] = {
	JS(struct entity_body, platform, JS_STR, .min = 1, .max = 32),
	JS(struct entity_body, server_id, JS_STR, OPTIONAL, .max = 255),
	JS(struct entity_body, channel_id, JS_STR, OPTIONAL, .max = 255),
	ENTITY_FIELDS,
	{ 0 }
};
static const struct js_field entity_change[] = { ENTITY_FIELDS, { 0 } };

static const struct api_col entity_columns[] = {
	{ "entity_id", 0, NULL }, { "platform", COL_SET, NULL }, { "server_id", COL_SET, NULL }, { "channel_id", COL_SET, NULL },
	{ "owner", COL_SET, "coalesce(r.owner, s.owner)" }, { "is_active", COL_SET, NULL }, { "config", COL_SET, NULL },
	{ "address", COL_SET, NULL },
	{ "community_id", COL_SET, "coalesce(r.community_id, (SELECT w.community_id FROM entities w WHERE w.platform = "
	  "r.platform AND w.server_id = r.server_id AND coalesce(w.channel_id, '') = ''), "
	  "(s.config->>'community_id')::integer, 1)" },
	{ "created_at", COL_TIME, NULL }, { "updated_at", COL_TIME, NULL }, { 0 }
};

/* An entity lies in an active server, of which it is a channel or the whole. */
static struct api_table entities = {
	.name = "entities", .one = "entity", .many = "entities", .cols = entity_columns, .order = "t.id",
	.defaults = "{\"is_active\":true,\"config\":{}}",
	.from_extra = "JOIN LATERAL (SELECT s.owner, s.config FROM servers s WHERE s.is_active AND s.platform = r.platform "
	              "AND coalesce(s.server_id, '') = coalesce(r.server_id, '') "
	              "AND (s.channel IS NULL OR s.channel = r.channel_id) ORDER BY s.channel NULLS LAST LIMIT 1) s ON true",
};

static void entity_post(struct http_req *r, void *arg)
{
	const struct entity_body *b = http_body(r);
	struct entity e = { b->platform, b->server_id, b->channel_id };
	struct buf address = BUF(16384);
	struct api_change *c;
	struct str text;

	if (!address_ok(r, arg, e, "channel_id"))
		return;
	entity_make(e, &address);
	if (buf_str(&address, &text) != 0) {
		buf_clear(&address);
		api_bad(r, "server_id", "no place of this platform has such an address");
		return;
	}
	c = api_change_new(r, arg, &entities);
	c->extra = json_member(http_mem(r), "address", text);
	c->none = "No active server covers this address: POST /router/servers first.";
	buf_clear(&address);
	api_insert(c);
}

static void patch_entity(struct http_req *r, void *arg) { api_update(api_change_new(r, arg, &entities)); }

struct entity_filter { struct api_page page; struct str platform, server_id, channel_id, owner, address;
	int64_t community_id; int is_active; };
static const struct js_field entity_filter[] = {
	API_PAGE_FIELDS,
	JS(struct entity_filter, platform, JS_STR, OPTIONAL, .max = 32),
	JS(struct entity_filter, server_id, JS_STR, OPTIONAL, .max = 255),
	JS(struct entity_filter, channel_id, JS_STR, OPTIONAL, .max = 255),
	JS(struct entity_filter, owner, JS_STR, OPTIONAL, .max = 255),
	JS(struct entity_filter, address, JS_STR, OPTIONAL, .max = 2000),
	JS(struct entity_filter, community_id, JS_INT, OPTIONAL, .min = 1, .max = INT32_MAX),
	JS(struct entity_filter, is_active, JS_ENUM, OPTIONAL, .names = bool_words),
	{ 0 }
};

static void entity_list(struct http_req *r, void *arg)
{
	const struct entity_filter *f = http_query(r);

	api_list(r, arg, &entities, entity_filter, &f->page);
}

/* --- servers ---------------------------------------------------------------------------------------- */

struct server_body { struct str owner, platform, server_id, channel, webhook_url, config; bool is_active; };

#define SERVER_FIELDS \
	JS(struct server_body, webhook_url, JS_STR, OPTIONAL, .max = 2048), \
	JS(struct server_body, config, JS_RAW_OBJECT, OPTIONAL, .max = RAW_MAX), \
	JS(struct server_body, is_active, JS_BOOL, OPTIONAL, .absent = 1)

static const struct js_field server_create[] = {
	JS(struct server_body, owner, JS_STR, .min = 1, .max = 255),
	JS(struct server_body, platform, JS_STR, .min = 1, .max = 32),
	JS(struct server_body, server_id, JS_STR, OPTIONAL, .max = 255),
	JS(struct server_body, channel, JS_STR, OPTIONAL, .max = 255),
	SERVER_FIELDS,
	{ 0 }
};
static const struct js_field server_change[] = {
	JS(struct server_body, owner, JS_STR, OPTIONAL, .min = 1, .max = 255),
	SERVER_FIELDS,
	{ 0 }
};

static const struct api_col server_columns[] = {
	{ "owner", COL_SET, NULL }, { "platform", COL_SET, NULL }, { "channel", COL_SET, NULL }, { "server_id", COL_SET, NULL },
	{ "is_active", COL_SET, NULL }, { "webhook_url", COL_SET | COL_NULL, NULL }, { "config", COL_SET, NULL },
	{ "last_activity", COL_TIME, NULL }, { "created_at", COL_TIME, NULL }, { "updated_at", COL_TIME, NULL }, { 0 }
};

static struct api_table servers = {
	.name = "servers", .one = "server", .many = "servers", .cols = server_columns, .order = "t.id",
	.defaults = "{\"is_active\":true,\"config\":{}}",
	.conflict = "ON CONFLICT (platform, (coalesce(server_id, '')), (coalesce(channel, '')))",
};

static bool webhook_ok(struct http_req *r, const struct router *router, struct str url)
{
	enum guard_reason why = url.n > 0 ? guard_url(&router->guard, url) : GUARD_FINE;

	if (why != GUARD_FINE)
		api_bad(r, "webhook_url", "not a URL that may be called: %s", guard_reason_name(why));
	return why == GUARD_FINE;
}

static void server_post(struct http_req *r, void *arg)
{
	const struct server_body *b = http_body(r);

	if (address_ok(r, arg, (struct entity){ b->platform, b->server_id, b->channel }, "channel") &&
	    webhook_ok(r, arg, b->webhook_url))
		api_insert(api_change_new(r, arg, &servers));
}

static void patch_server(struct http_req *r, void *arg)
{
	const struct server_body *b = http_body(r);

	if (webhook_ok(r, arg, b->webhook_url))
		api_update(api_change_new(r, arg, &servers));
}

struct server_filter { struct api_page page; struct str platform, server_id, channel, owner; int is_active; };
static const struct js_field server_filter[] = {
	API_PAGE_FIELDS,
	JS(struct server_filter, platform, JS_STR, OPTIONAL, .max = 32),
	JS(struct server_filter, server_id, JS_STR, OPTIONAL, .max = 255),
	JS(struct server_filter, channel, JS_STR, OPTIONAL, .max = 255),
	JS(struct server_filter, owner, JS_STR, OPTIONAL, .max = 255),
	JS(struct server_filter, is_active, JS_ENUM, OPTIONAL, .names = bool_words),
	{ 0 }
};

static void server_list(struct http_req *r, void *arg)
{
	const struct server_filter *f = http_query(r);

	api_list(r, arg, &servers, server_filter, &f->page);
}

/* --- aliases ------------------------------------------------------------------------------------------ */

struct alias_body { int64_t community_id; struct str alias, target_command, description; };
static const struct js_field alias_create[] = {
	JS(struct alias_body, community_id, JS_INT, .min = 1, .max = INT32_MAX),
	JS(struct alias_body, alias, JS_STR, .min = 1, .max = 100),
	JS(struct alias_body, target_command, JS_STR, .min = 2, .max = 500, .help = "with its prefix; may hold {user} {args} {arg1}.."),
	JS(struct alias_body, description, JS_STR, OPTIONAL, .max = 1000),
	{ 0 }
};

static const struct api_col alias_columns[] = {
	{ "community_id", COL_SET, NULL }, { "alias", COL_SET, NULL }, { "target_command", COL_SET, NULL },
	{ "description", COL_SET, NULL }, { "created_by", COL_SET, NULL },
	{ "created_at", COL_TIME, NULL }, { "updated_at", COL_TIME, NULL }, { 0 }
};

/* No row comes of an alias that hides a command of the community, or that is met again when its
 * target is followed from alias to alias. */
static struct api_table aliases = {
	.name = "command_aliases", .one = "alias", .many = "aliases", .cols = alias_columns, .order = "t.community_id, t.alias",
	.defaults = "{\"description\":\"\",\"created_by\":\"\"}",
	.from_extra =
		"WHERE NOT EXISTS (SELECT FROM commands c JOIN command_permissions p ON p.command_id = c.id AND p.is_enabled "
		"JOIN entities e ON e.entity_id = p.entity_id WHERE e.community_id = r.community_id AND c.is_active "
		"AND c.prefix = '!' AND c.command = r.alias) AND NOT EXISTS (WITH RECURSIVE way(name) AS ("
		"SELECT lower(substring(r.target_command FROM '^!([^[:space:]]+)')) UNION "
		"SELECT lower(substring(a.target_command FROM '^!([^[:space:]]+)')) FROM way JOIN command_aliases a "
		"ON a.community_id = r.community_id AND lower(a.alias) = way.name) SELECT FROM way WHERE name = lower(r.alias))",
};

static void alias_post(struct http_req *r, void *arg)
{
	struct router *router = arg;
	const struct alias_body *b = http_body(r);
	struct arena *mem = http_mem(r);
	struct str who = api_keys_name(router->keys, http_key_id(r));
	struct parsed name, target;
	struct api_change *c;
	struct buf e = BUF(4096);

	if (!parse_command(arena_printf(mem, "!" STR_FMT, STR_ARG(b->alias)), mem, &name) || name.rest.n > 0 ||
	    memchr(b->alias.p, '"', b->alias.n) != NULL || memchr(b->alias.p, '\'', b->alias.n) != NULL) {
		api_bad(r, "alias", "a name without prefix, white space or quotes");
		return;
	}
	if (!parse_command(b->target_command, mem, &target)) {
		api_bad(r, "target_command", "begins with ! or # and a command's name");
		return;
	}
	c = api_change_new(r, arg, &aliases);
	buf_add(&e, STR("{\"alias\":"));
	buf_json(&e, name.name);
	buf_add(&e, STR(",\"created_by\":"));
	buf_json(&e, who);
	buf_add(&e, STR("}"));
	c->extra = arena_str(mem, (struct str){ e.p, e.n });
	buf_clear(&e);
	c->none = "A command of this community has that name, or the alias would lead back to itself.";
	api_insert(c);
}

struct alias_filter { struct api_page page; struct str alias; int64_t community_id; };
static const struct js_field alias_filter[] = {
	API_PAGE_FIELDS,
	JS(struct alias_filter, community_id, JS_INT, OPTIONAL, .min = 1, .max = INT32_MAX),
	JS(struct alias_filter, alias, JS_STR, OPTIONAL, .max = 100),
	{ 0 }
};

static void alias_list(struct http_req *r, void *arg)
{
	const struct alias_filter *f = http_query(r);

	api_list(r, arg, &aliases, alias_filter, &f->page);
}

static void alias_gone(void *arg, const struct db_result *res, const struct err *err)
{
	if (err != NULL)
		api_fail_db(arg, err);
	else if (db_rows(res) == 0)
		api_absent(arg, "alias");
	else
		http_reply(arg, 204, NULL, NULL);
}

static void alias_delete(struct http_req *r, void *arg)
{
	struct err err = { 0 };
	int64_t id;

	if (http_path_int(r, "id", &id, &err) != 0)
		http_fail(r, &err);
	else
		api_query(arg, r, DB_WRITE, alias_gone, "DELETE FROM command_aliases WHERE id = $1::bigint RETURNING id", DB_INT(id));
}

#define READ .auth = API_READERS
#define WRITE .auth = HTTP_KEY_ADMIN, .max_body = BODY, .known = true

const struct http_route entities_routes[] = {
	{ .method = "GET", .path = "/router/entities", READ, .query = entity_filter, .query_size = sizeof(struct entity_filter),
	  .handle = entity_list, .summary = "Entities: channels and servers that events come from." },
	{ .method = "POST", .path = "/router/entities", WRITE, .body = entity_create, .body_size = sizeof(struct entity_body),
	  .handle = entity_post, .summary = "Makes an entity of an active server." },
	{ .method = "PATCH", .path = "/router/entities/{id}", WRITE, .body = entity_change, .body_size = sizeof(struct entity_body),
	  .handle = patch_entity, .summary = "Changes an entity; its address stays." },
	{ .method = "GET", .path = "/router/servers", READ, .query = server_filter, .query_size = sizeof(struct server_filter),
	  .handle = server_list, .summary = "Servers: what is monitored." },
	{ .method = "POST", .path = "/router/servers", WRITE, .body = server_create, .body_size = sizeof(struct server_body),
	  .handle = server_post, .summary = "Monitors a server or channel (201), or changes one that is known (200)." },
	{ .method = "PATCH", .path = "/router/servers/{id}", WRITE, .body = server_change, .body_size = sizeof(struct server_body),
	  .handle = patch_server, .summary = "Changes a server; its address stays." },
	{ .method = "GET", .path = "/router/aliases", READ, .query = alias_filter, .query_size = sizeof(struct alias_filter),
	  .handle = alias_list, .summary = "Aliases of communities." },
	{ .method = "POST", .path = "/router/aliases", WRITE, .body = alias_create, .body_size = sizeof(struct alias_body),
	  .handle = alias_post, .summary = "Makes an alias; one that leads in a circle is refused." },
	{ .method = "DELETE", .path = "/router/aliases/{id}", .auth = HTTP_KEY_ADMIN, .handle = alias_delete,
	  .summary = "Removes an alias." },
	{ 0 }
};

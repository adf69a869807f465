/* api_permissions.c - /router/entities/{id}/permissions/{command} (router.md 2.2, 7). */
#include "api.h"
#include "err.h"
#include "parse.h"

#define OPTIONAL .optional = true
enum { BODY = 160 * 1024, RAW_MAX = 64 * 1024 };

struct permission { bool is_enabled; struct str config, permissions; };
static const struct js_field fields[] = {
	JS(struct permission, is_enabled, JS_BOOL, OPTIONAL, .absent = 1),
	JS(struct permission, config, JS_RAW_OBJECT, OPTIONAL, .max = RAW_MAX),
	JS(struct permission, permissions, JS_RAW_OBJECT, OPTIONAL, .max = RAW_MAX, .help = "min_role, labels, allow_users, deny_users"),
	{ 0 }
};

/* {command}: an id, or prefix and name.  False: answered. */
static bool parameters(struct http_req *r, int64_t *entity, struct db_param ret[2])
{
	struct str text = http_path(r, "command");
	struct parsed p;
	struct err err = { 0 };
	int64_t id;

	if (http_path_int(r, "id", entity, &err) != 0) {
		http_fail(r, &err);
		return false;
	}
	ret[0] = ret[1] = DB_NULL;
	if (str_int(text, 1, INT64_MAX, &id) == 0) {
		ret[0] = DB_INT(id);
	} else if (parse_command(text, http_mem(r), &p) && p.rest.n == 0) {
		ret[1] = DB_STR(arena_printf(http_mem(r), STR_FMT STR_FMT, STR_ARG(p.prefix), STR_ARG(p.name)));
	} else {
		api_bad(r, "command", "an id, or prefix and name");
		return false;
	}
	return true;
}

/* The commands meant, and the entity with its server-wide one.  Three columns come first: ids,
 * whether the entity is there, the answer. */
#define MEANT \
	"WITH meant AS (SELECT id FROM commands WHERE id = $2::bigint OR ($3::text IS NOT NULL AND " \
	"prefix = left($3::text, 1) AND command = substr($3::text, 2) AND is_active)), " \
	"one AS (SELECT id FROM meant WHERE (SELECT count(*) FROM meant) = 1), " \
	"here AS (SELECT entity_id, platform, server_id FROM entities WHERE entity_id = $1::bigint)"
#define COUNTED "(SELECT string_agg(id::text, ', ' ORDER BY id) FROM meant), EXISTS (SELECT FROM here), " \
	"(SELECT count(*) FROM meant)"
#define ROW "json_build_object('command_id', p.command_id, 'entity_id', p.entity_id, 'is_enabled', p.is_enabled, " \
	"'source', CASE WHEN p.entity_id = $1::bigint THEN 'channel' ELSE 'server' END, 'config', p.config, " \
	"'permissions', p.permissions, 'usage_count', p.usage_count, 'last_used', " \
	"to_char(p.last_used AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'))::text"

/* False: answered. */
static bool meant(struct http_req *r, const struct db_result *res, const struct err *err)
{
	if (err != NULL) {
		api_fail_db(r, err);
		return false;
	}
	if (!db_bool(res, 0, 1) || db_int(res, 0, 2) == 0) {
		api_absent(r, db_bool(res, 0, 1) ? "command" : "entity");
		return false;
	}
	if (db_int(res, 0, 2) > 1) {
		api_conflict(r, "SEVERAL_MODULES", "Several modules have a command of that name; name one by its id: " STR_FMT,
		             STR_ARG(db_str(res, 0, 0)));
		return false;
	}
	return true;
}

static void shown(void *arg, const struct db_result *res, const struct err *err)
{
	struct http_req *r = arg;

	if (!meant(r, res, err))
		return;
	if (db_null(res, 0, 3))
		http_reply_raw(r, 200, "application/json",
		               STR("{\"is_enabled\":false,\"source\":\"none\",\"config\":{},\"permissions\":{},"
		                   "\"usage_count\":0,\"last_used\":null}"));
	else
		http_reply_raw(r, 200, "application/json", db_str(res, 0, 3));
}

static void show(struct http_req *r, void *arg)
{
	struct db_param p[2];
	int64_t entity;

	if (parameters(r, &entity, p))
		api_query(arg, r, DB_WRITE, shown,
		          MEANT " SELECT " COUNTED ", (SELECT " ROW " FROM command_permissions p WHERE p.command_id = "
		          "(SELECT id FROM one) AND p.entity_id IN (SELECT entity_id FROM here UNION ALL SELECT w.entity_id "
		          "FROM entities w, here h WHERE w.platform = h.platform AND w.server_id = h.server_id "
		          "AND coalesce(w.channel_id, '') = '') ORDER BY p.entity_id = $1::bigint DESC LIMIT 1)",
		          DB_INT(entity), p[0], p[1]);
}

static void put(struct http_req *r, void *arg)
{
	const struct permission *b = http_body(r);
	struct db_param p[2];
	int64_t entity;

	if (parameters(r, &entity, p))
		api_query(arg, r, DB_WRITE, shown,
		          MEANT ", p AS (INSERT INTO command_permissions (command_id, entity_id, is_enabled, config, permissions) "
		          "SELECT one.id, here.entity_id, $4::boolean, $5::jsonb, $6::jsonb FROM one, here "
		          "ON CONFLICT (command_id, entity_id) DO UPDATE SET is_enabled = excluded.is_enabled, "
		          "config = excluded.config, permissions = excluded.permissions RETURNING *) SELECT " COUNTED
		          ", (SELECT " ROW " FROM p)",
		          DB_INT(entity), p[0], p[1], DB_BOOL(b->is_enabled), DB_STR(b->config.n > 0 ? b->config : STR("{}")),
		          DB_STR(b->permissions.n > 0 ? b->permissions : STR("{}")));
}

static void removed(void *arg, const struct db_result *res, const struct err *err)
{
	struct http_req *r = arg;

	if (!meant(r, res, err))
		return;
	if (db_null(res, 0, 3))
		api_absent(r, "permission row of this entity");
	else
		http_reply(r, 204, NULL, NULL);
}

static void delete(struct http_req *r, void *arg)
{
	struct db_param p[2];
	int64_t entity;

	if (parameters(r, &entity, p))
		api_query(arg, r, DB_WRITE, removed,
		          MEANT ", p AS (DELETE FROM command_permissions d USING one, here WHERE d.command_id = one.id "
		          "AND d.entity_id = here.entity_id RETURNING d.id) SELECT " COUNTED ", (SELECT id FROM p)",
		          DB_INT(entity), p[0], p[1]);
}

#define PATH .path = "/router/entities/{id}/permissions/{command}"
const struct http_route permissions_routes[] = {
	{ .method = "GET", PATH, .auth = API_READERS, .handle = show,
	  .summary = "The row that decides whether a command is enabled here: the channel's, else the server's." },
	{ .method = "PUT", PATH, .auth = HTTP_KEY_ADMIN, .max_body = BODY, .known = true, .body = fields,
	  .body_size = sizeof(struct permission), .handle = put, .summary = "Replaces this entity's row." },
	{ .method = "DELETE", PATH, .auth = HTTP_KEY_ADMIN, .handle = delete, .summary = "Removes this entity's row." },
	{ 0 }
};

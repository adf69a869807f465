/* api_coordination.c - /router/coordination: containers of collectors share the channels. */
#include "api.h"
#include "coordination.h"
#include "err.h"

enum { MAX_ENTITIES = 1000 };

struct asked { int64_t entity_id, fence; struct str entity; };
struct ask {                            /* every call's body; each takes its own fields of it */
	struct str container_id, platform, error_message, metadata;
	int64_t max_claims, viewer_count, live_since_ms;
	bool prioritize_live, extend_claims, is_live, has_activity;
	struct asked one;
	struct js_list entities;        /* of struct asked */
};

#define OPTIONAL .optional = true
#define CONTAINER \
	JS(struct ask, container_id, JS_STR, .min = 1, .max = 255, \
	   .help = "Of this process; new at every start of it.")
#define PLATFORM JS(struct ask, platform, JS_STR, .min = 1, .max = 32)
#define MAX_CLAIMS \
	JS(struct ask, max_claims, JS_INT, OPTIONAL, .absent = 5, .min = 1, .max = 1000, \
	   .help = "How many the container holds at most, with what it holds already.")
#define ENTITY(s, at) \
	JS_AS("entity_id", s, at entity_id, JS_INT, OPTIONAL, .min = 0, .max = INT32_MAX), \
	JS_AS("entity", s, at entity, JS_STR, OPTIONAL, .max = 1024, .help = "Its address, instead of entity_id."), \
	JS_AS("fence", s, at fence, JS_INT, .min = 0, .max = INT64_MAX)

static const struct js_field asked_fields[] = { ENTITY(struct asked, ), { 0 } };
static const struct js_field claim_fields[] = {
	CONTAINER, PLATFORM, MAX_CLAIMS,
	JS(struct ask, prioritize_live, JS_BOOL, OPTIONAL, .absent = true, .help = "Live channels first."),
	{ 0 }
};
static const struct js_field swap_fields[] = { CONTAINER, PLATFORM, MAX_CLAIMS, { 0 } };
static const struct js_field release_fields[] = {
	CONTAINER,
	JS(struct ask, entities, JS_OBJECTS, OPTIONAL, .size = sizeof(struct asked), .fields = asked_fields,
	   .min = 1, .max = MAX_ENTITIES, .help = "Absent: all that it holds."),
	{ 0 }
};
static const struct js_field checkin_fields[] = {
	CONTAINER,
	JS_AS("claimed_entities", struct ask, entities, JS_OBJECTS, .size = sizeof(struct asked),
	      .fields = asked_fields, .max = MAX_ENTITIES),
	{ 0 }
};
static const struct js_field heartbeat_fields[] = {
	CONTAINER, JS(struct ask, extend_claims, JS_BOOL, OPTIONAL, .absent = true), { 0 }
};
static const struct js_field status_fields[] = {
	CONTAINER, ENTITY(struct ask, one.), JS(struct ask, is_live, JS_BOOL),
	JS(struct ask, viewer_count, JS_INT, OPTIONAL, .absent = -1, .min = 0, .max = INT32_MAX),
	JS_AS("live_since", struct ask, live_since_ms, JS_TIME, OPTIONAL, .help = "Default: now, when it goes live."),
	JS(struct ask, has_activity, JS_BOOL, OPTIONAL),
	JS(struct ask, metadata, JS_RAW_OBJECT, OPTIONAL, .max = 65536),
	{ 0 }
};
static const struct js_field error_fields[] = {
	CONTAINER, ENTITY(struct ask, one.), JS(struct ask, error_message, JS_STR, OPTIONAL, .max = 2000), { 0 }
};
static const struct js_field populate_fields[] = { PLATFORM, { 0 } };

struct listing {
	struct api_page page;
	struct str platform, container_id;
	int is_live, claimed, status;
};
static const char *const yes_no[] = { "", "true", "false", NULL };
static const char *const status_names[] = { "", "available", "claimed", "error", "offline", NULL };
static const struct js_field listing_fields[] = {
	API_PAGE_FIELDS,
	JS(struct listing, platform, JS_STR, OPTIONAL, .max = 32),
	JS(struct listing, container_id, JS_STR, OPTIONAL, .max = 255),
	JS(struct listing, is_live, JS_ENUM, OPTIONAL, .names = yes_no),
	JS(struct listing, claimed, JS_ENUM, OPTIONAL, .names = yes_no),
	JS(struct listing, status, JS_ENUM, OPTIONAL, .names = status_names),
	{ 0 }
};
struct stats_query { struct str platform; };
static const struct js_field stats_fields[] = { JS(struct stats_query, platform, JS_STR, OPTIONAL, .max = 32), { 0 } };

static void answered(void *arg, const struct db_result *res, const struct err *err)
{
	struct http_req *r = arg;

	if (err != NULL)
		api_fail_db(r, err);
	else if (db_rows(res) == 0)
		api_conflict(r, "NOT_HELD", "This container does not hold the entity with this fence.");
	else
		http_reply_raw(r, 200, "application/json", db_str(res, 0, 0));
}

static void released(void *arg, const struct db_result *res, const struct err *err)
{
	if (err == NULL && db_bool(res, 0, 1))
		api_conflict(arg, "NOT_HELD", "This container holds none of these entities with these fences.");
	else
		answered(arg, res, err);
}

static void listed(void *arg, const struct db_result *res, const struct err *err)
{
	struct http_req *r = arg;
	const struct listing *q = http_query(r);

	if (err != NULL)
		api_fail_db(r, err);
	else
		api_reply_page(r, "entities", db_str(res, 0, 0), &q->page, db_int(res, 0, 1));
}

#define ASK(arg, call, done, r, ...) \
	coordination_do(((struct router *)(arg))->coordination, (call), DB_PARAMS(__VA_ARGS__), (done), (r))

/* Answers 400 itself when it is false. */
static bool is_named(struct http_req *r, const struct asked *a, const char *field)
{
	if ((a->entity_id != 0) != (a->entity.n > 0))
		return true;
	api_bad(r, field, "entity_id or entity is needed, and not both");
	return false;
}

static void swap_or_claim(struct http_req *r, void *arg, bool live_first, bool swap)
{
	const struct ask *b = http_body(r);

	ASK(arg, COORD_CLAIM, answered, r, DB_STR(b->container_id), DB_STR(b->platform), DB_INT(b->max_claims),
	    DB_BOOL(live_first), DB_BOOL(swap));
}

static void claim(struct http_req *r, void *arg)
{
	swap_or_claim(r, arg, ((const struct ask *)http_body(r))->prioritize_live, false);
}

static void release_offline(struct http_req *r, void *arg)
{
	swap_or_claim(r, arg, true, true);
}

/* A list as the three arrays of coordination.h. */
static bool list_of(struct http_req *r, const char *field, struct db_param list[3])
{
	const struct ask *b = http_body(r);
	const struct asked *a = b->entities.items;
	size_t n = b->entities.n;
	struct db_param *of[3];

	for (int k = 0; k < 3; k++) {
		of[k] = arena_alloc(http_mem(r), (n + 1) * sizeof(struct db_param));
		list[k] = DB_ARRAY(of[k], n);
	}
	for (size_t i = 0; i < n; i++) {
		if (!is_named(r, &a[i], field))
			return false;
		of[0][i] = DB_INT(a[i].entity_id);
		of[1][i] = DB_STR(a[i].entity);
		of[2][i] = DB_INT(a[i].fence);
	}
	return true;
}

static void release(struct http_req *r, void *arg)
{
	const struct ask *b = http_body(r);
	struct db_param list[3];

	if (list_of(r, "entities", list))
		ASK(arg, COORD_RELEASE, released, r, DB_STR(b->container_id), list[0], list[1], list[2],
		    DB_BOOL(b->entities.n == 0));
}

static void checkin(struct http_req *r, void *arg)
{
	const struct ask *b = http_body(r);
	struct db_param list[3];

	if (list_of(r, "claimed_entities", list))
		ASK(arg, COORD_RENEW, answered, r, DB_STR(b->container_id), list[0], list[1], list[2],
		    DB_BOOL(false), DB_BOOL(true), DB_BOOL(false));
}

static void heartbeat(struct http_req *r, void *arg)
{
	const struct ask *b = http_body(r);
	struct db_param none = DB_ARRAY(NULL, 0);

	ASK(arg, COORD_RENEW, answered, r, DB_STR(b->container_id), none, none, none, DB_BOOL(true),
	    DB_BOOL(b->extend_claims), DB_BOOL(true));
}

static void status(struct http_req *r, void *arg)
{
	const struct ask *b = http_body(r);

	if (is_named(r, &b->one, "entity_id"))
		ASK(arg, COORD_STATUS, answered, r, DB_STR(b->container_id), DB_INT(b->one.entity_id),
		    DB_STR(b->one.entity), DB_INT(b->one.fence), DB_BOOL(b->is_live), DB_INT(b->viewer_count),
		    b->live_since_ms != 0 ? DB_TIME(b->live_since_ms) : DB_NULL, DB_BOOL(b->has_activity),
		    DB_STR(b->metadata));
}

static void error(struct http_req *r, void *arg)
{
	const struct ask *b = http_body(r);

	if (is_named(r, &b->one, "entity_id"))
		ASK(arg, COORD_ERROR, answered, r, DB_STR(b->container_id), DB_INT(b->one.entity_id),
		    DB_STR(b->one.entity), DB_INT(b->one.fence), DB_STR(b->error_message));
}

static void populate(struct http_req *r, void *arg)
{
	ASK(arg, COORD_POPULATE, answered, r, DB_STR(((const struct ask *)http_body(r))->platform));
}

static void stats(struct http_req *r, void *arg)
{
	ASK(arg, COORD_STATS, answered, r, DB_STR(((const struct stats_query *)http_query(r))->platform));
}

static void list(struct http_req *r, void *arg)
{
	const struct listing *q = http_query(r);

	ASK(arg, COORD_ENTITIES, listed, r, DB_STR(q->platform), DB_STR(str_of(yes_no[q->is_live])),
	    DB_STR(str_of(yes_no[q->claimed])), DB_STR(q->container_id), DB_STR(str_of(status_names[q->status])),
	    DB_INT(q->page.per_page), DB_INT((q->page.page - 1) * q->page.per_page));
}

#define POST(name, fields, does, text, ...) \
	{ .method = "POST", .path = "/router/coordination/" name, .auth = HTTP_KEY_COLLECTOR | HTTP_KEY_ADMIN, \
	  .max_body = 256 << 10, .body = (fields), .body_size = sizeof(struct ask), .handle = (does), \
	  .summary = (text), __VA_ARGS__ }
#define GET(name, fields, type, does, text) \
	{ .method = "GET", .path = "/router/coordination/" name, .auth = HTTP_KEY_COLLECTOR | HTTP_KEY_ADMIN, \
	  .query = (fields), .query_size = sizeof(type), .handle = (does), .summary = (text) }

const struct http_route coordination_routes[] = {
	POST("claim", claim_fields, claim, "Takes free entities of a platform, up to max_claims in all."),
	POST("release", release_fields, release, "Gives entities back, or all that the container holds."),
	POST("release-offline", swap_fields, release_offline, "Gives back what is not live and takes others."),
	POST("checkin", checkin_fields, checkin, "Renews claims; says which are lost."),
	POST("heartbeat", heartbeat_fields, heartbeat, "Renews all claims of the container."),
	POST("status", status_fields, status, "What the holder sees: live or not, viewers, activity."),
	POST("error", error_fields, error, "The holder cannot work the entity; the third time it stays in error."),
	POST("populate", populate_fields, populate, "Makes a row for each entity of the platform's active servers.",
	     .max_ms = 40000),
	GET("stats", stats_fields, struct stats_query, stats, "How many entities and claims there are."),
	GET("entities", listing_fields, struct listing, list, "The rows, live ones first."),
	{ 0 }
};

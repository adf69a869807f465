/* lookup.c - misses of one turn become one statement per cache; rows become values in one block.
 *
 * A cache key is its fields joined by US (0x1f), which no field can hold: addresses and ids are
 * checked at the edge.  Each field is one text array of the statement. */
#include "lookup.h"
#include "clock.h"
#include "err.h"
#include "list.h"
#include "log.h"
#include "lookup_store.h"
#include "metrics.h"
#include "service.h"

enum { MAX_COLUMNS = 5, MAX_ROWS = 512, MAX_IN_FLIGHT = 4, MAX_KEY = 2048 };
enum { DEAF_TTL_MS = 10000, WATCH_MS = 1000 };
#define US "\x1f"

struct loader;
struct spec {
	struct cache_spec cache;
	const char *sql;
	size_t      fields;             /* of the key */
	size_t      columns;            /* of the statement */
	/* Makes the columns of one key; texts in mem.  False: nobody has such a key. */
	bool (*split)(struct str key, struct arena *mem, struct str *cols);
	/* Rows [row, row + n) of one key; NULL: there is none.  Sets *bytes. */
	void *(*value)(const struct db_result *res, int row, int n, size_t *bytes);
	bool  (*absent)(const struct db_result *res, int row);  /* to be created first; NULL: never */
	const char *create;             /* same arrays as sql, on the primary */
};

struct load {                           /* one statement's worth of keys */
	struct loader *of;
	bool        creating;
	uint64_t    epoch, stamp;       /* for the second level; epoch 0: not for it */
	size_t      n;
	struct str  key[MAX_ROWS];
};

struct loader {
	struct lookup     *l;
	const struct spec *spec;
	struct cache      *cache;
	struct str        *waiting;     /* keys, valid until filled */
	size_t             n, cap;
	int                in_flight;
	uint64_t           after_lsn;   /* what a notice was about: older standbys are not asked */
	bool               primary;     /* ... until that position is known */
	struct timer       retry;
	bool               resting;
};

struct lookup {
	unsigned magic;
	struct service *s;
	struct db      *db;
	struct lookup_store *store;     /* NULL: no Redis */
	struct loader   loader[LOOKUP_KINDS];
	struct list     told;
	struct timer    watch;
	bool            listening;              /* notices arrive */
	bool            closing;
	bool            asking, ask_again;      /* for the primary's position */
};
enum { LOOKUP_MAGIC = 0x10c0109 };

static const char *const kind_names[] = { "place", "routes", "grants", "person", "alias", "context" };
METRIC_BY(loads, METRIC_COUNTER, "waddle_router_lookup_loads_total",
          "Statements that filled a lookup cache.", "cache", kind_names);
METRIC_BY(keys, METRIC_COUNTER, "waddle_router_lookup_keys_total",
          "Keys asked for by those statements.", "cache", kind_names);
static const char *const result_names[] = { "hit", "none", "miss", "redis" };
enum { RESULT_HIT, RESULT_NONE, RESULT_MISS, RESULT_REDIS };
METRIC_BY2(requests, METRIC_COUNTER, "waddle_router_cache_requests_total",
           "Look-ups in memory, and misses that Redis could answer.", "cache", kind_names, "result", result_names);
METRIC_BY(retries, METRIC_COUNTER, "waddle_router_lookup_retries_total",
          "Statements that failed and were repeated.", "cache", kind_names);
static const char *const table_names[] = { "all", "commands", "command_permissions", "entities", "servers",
	"communities", "community_members", "community_labels", "community_contexts", "command_aliases",
	"identities", "stringmatch", "service_accounts", "other" };
METRIC_BY(invalidations, METRIC_COUNTER, "waddle_router_invalidations_total",
          "Notices of changed rows, by table; all: after the connection for notices was lost.", "table",
          table_names);
struct metric *const lookup_metrics[] = { &requests, &loads, &keys, &retries, &invalidations, NULL };

/* Values are one block: the struct and, behind it, what its texts point to. */

static struct str put(char **at, struct str s)
{
	struct str ret = { *at, s.n };

	if (s.n > 0)
		memcpy(*at, s.p, s.n);
	*at += s.n;
	return ret;
}

static void *place_value(const struct db_result *res, int row, int n, size_t *bytes)
{
	struct str community = db_str(res, row, 5), key = db_str(res, row, 6), config = db_str(res, row, 7);
	struct str bot = db_str(res, row, 8);

	(void)n;
	*bytes = sizeof(struct place) + community.n + key.n + config.n + bot.n;

	struct place *p = xnew_(1, *bytes);
	char *at = (char *)(p + 1);

	p->entity_id = db_int(res, row, 1);
	p->community_id = db_int(res, row, 2);
	p->active = db_bool(res, row, 3);
	p->server_wide_id = db_int(res, row, 4);
	p->community = put(&at, community);
	p->outbound_key = put(&at, key);
	p->config = put(&at, config);
	p->bot_account = put(&at, bot);
	return p;
}

static bool place_absent(const struct db_result *res, int row)
{
	return db_null(res, row, 1);
}

/* An unknown name is the safest one for a requirement: owner. */
static int role_of(struct str name, int otherwise)
{
	for (int i = 0; role_names[i] != NULL; i++)
		if (str_eq(name, str_of(role_names[i])))
			return i;
	return otherwise;
}

static void *routes_value(const struct db_result *res, int row, int n, size_t *bytes)
{
	*bytes = sizeof(struct routes) + (size_t)n * sizeof(struct route);
	for (int i = row; i < row + n; i++)
		*bytes += db_str(res, i, 6).n + db_str(res, i, 7).n + sizeof "waddle.commands." +
		          db_str(res, i, 7).n + db_str(res, i, 11).n + 1;

	struct routes *r = xnew_(1, *bytes);
	char *at = (char *)&r->at[n];
	uint64_t stamp = 0xcbf29ce484222325u;   /* FNV-1a over the ids */

	for (int i = row; i < row + n; i++) {
		struct route *to = &r->at[r->n++];
		struct str rest, url = db_str(res, i, 7);

		to->id = db_int(res, i, 1);
		to->timeout_ms = db_int(res, i, 2) * 1000;
		to->rate_limit = (uint32_t)db_int(res, i, 3);
		to->min_role = role_of(db_str(res, i, 4), ROLE_OWNER);
		to->auth_required = db_bool(res, i, 5);
		stamp = (stamp ^ (uint64_t)to->id) * 0x100000001b3u;
		to->priority = (int)db_int(res, i, 8);
		to->parallel = db_bool(res, i, 9);
		to->prefix = put(&at, db_str(res, i, 10));
		to->command = put(&at, db_str(res, i, 11));
		to->type = js_name(endpoint_names, db_str(res, i, 12));
		to->module_id = put(&at, db_str(res, i, 6));
		to->module = str_cut(to->module_id, ':', &rest);
		to->location_url = put(&at, url);
		if (str_starts(url, STR("kafka:"))) {
			struct str module = { to->location_url.p + 6, to->location_url.n - 6 };

			to->topic = put(&at, STR("waddle.commands."));
			to->topic.n += put(&at, module).n;
			*at++ = '\0';           /* bus_send() takes a C string */
		}
	}
	(void)snprintf(r->stamp, sizeof r->stamp, "%016llx", (unsigned long long)stamp);
	return r;
}

struct permissions { struct str min_role; struct js_list labels, allow_users, deny_users; };
static const struct js_field permission_fields[] = {
	JS(struct permissions, min_role, JS_STR, .optional = true),
	JS(struct permissions, labels, JS_STRS, .optional = true),
	JS(struct permissions, allow_users, JS_STRS, .optional = true),
	JS(struct permissions, deny_users, JS_STRS, .optional = true),
	{ 0 }
};

static size_t list_bytes(struct js_list list)
{
	size_t n = list.n * sizeof(struct str);

	for (size_t i = 0; i < list.n; i++)
		n += ((const struct str *)list.items)[i].n;
	return n;
}

static struct js_list put_list(struct str **slot, char **at, struct js_list list)
{
	struct js_list ret = { *slot, list.n };

	for (size_t i = 0; i < list.n; i++)
		*(*slot)++ = put(at, ((const struct str *)list.items)[i]);
	return ret;
}

static void *grants_value(const struct db_result *res, int row, int n, size_t *bytes)
{
	struct arena *mem = arena_new(4096, 64 << 20);
	struct permissions *p = arena_alloc(mem, (size_t)n * sizeof *p);
	bool *legible = arena_alloc(mem, (size_t)n * sizeof *legible);
	size_t slots = 0, texts = 0;

	for (int i = 0; i < n; i++) {
		struct err err = { 0 };

		legible[i] = js_decode(db_str(res, row + i, 3), permission_fields, &p[i], mem, &err) == 0;
		/* A row nobody can read must not open what it was meant to close. */
		if (!legible[i])
			log_rarely(60000, L_ERROR, NULL, "permissions_unreadable",
			           "a command_permissions row counts as disabled: %s", err.text);
		slots += p[i].labels.n + p[i].allow_users.n + p[i].deny_users.n;
		texts += db_str(res, row + i, 2).n + list_bytes(p[i].labels) + list_bytes(p[i].allow_users) +
		         list_bytes(p[i].deny_users);
	}
	*bytes = sizeof(struct grants) + (size_t)n * sizeof(struct grant) + texts;

	struct grants *g = xnew_(1, *bytes);
	struct str *slot = (struct str *)&g->at[n];
	char *at = (char *)(slot + slots);

	for (int i = 0; i < n; i++) {
		struct grant *to = &g->at[g->n++];

		to->command_id = db_int(res, row + i, 5);
		to->permission_id = db_int(res, row + i, 4);
		to->enabled = legible[i] && db_bool(res, row + i, 1);
		to->min_role = p[i].min_role.n == 0 ? -1 : role_of(p[i].min_role, ROLE_OWNER);
		to->labels = put_list(&slot, &at, p[i].labels);
		to->allow = put_list(&slot, &at, p[i].allow_users);
		to->deny = put_list(&slot, &at, p[i].deny_users);
		to->config = put(&at, db_str(res, row + i, 2));
	}
	arena_free(mem);
	return g;
}

static void *alias_value(const struct db_result *res, int row, int n, size_t *bytes)
{
	struct str target = db_str(res, row, 1);

	(void)n;
	*bytes = sizeof(struct alias) + target.n;

	struct alias *a = xnew_(1, *bytes);
	char *at = (char *)(a + 1);

	a->target = put(&at, target);
	return a;
}

static void *context_value(const struct db_result *res, int row, int n, size_t *bytes)
{
	struct str community = db_str(res, row, 3);

	(void)n;
	*bytes = sizeof(struct context) + community.n;

	struct context *c = xnew_(1, *bytes);
	char *at = (char *)(c + 1);

	c->community_id = db_int(res, row, 1);
	c->until_ms = db_time(res, row, 2);
	c->community = put(&at, community);
	return c;
}

static void *person_value(const struct db_result *res, int row, int n, size_t *bytes)
{
	size_t labels = 0;

	*bytes = sizeof(struct person);
	for (int i = row; i < row + n; i++)
		if (!db_null(res, i, 3)) {
			labels++;
			*bytes += sizeof(struct held_label) + db_str(res, i, 3).n;
		}

	struct person *p = xnew_(1, *bytes);
	char *at = (char *)&p->labels[labels];

	p->role = role_of(db_str(res, row, 1), ROLE_MEMBER);
	p->linked = db_bool(res, row, 2);
	for (int i = row; i < row + n; i++)
		if (!db_null(res, i, 3)) {
			p->labels[p->n_labels].name = put(&at, db_str(res, i, 3));
			p->labels[p->n_labels++].until_ms = db_time(res, i, 4);
		}
	return p;
}

static bool split_fields(struct str key, struct arena *mem, struct str *cols)
{
	(void)mem;
	for (size_t f = 0; key.p != NULL; f++)
		cols[f] = str_cut(key, US[0], &key);
	return true;
}

/* An address is platform, server, channel - and the address of the whole server behind it. */
static bool split_address(struct str key, struct arena *mem, struct str *cols)
{
	struct entity e;
	struct buf wide = BUF(MAX_KEY);
	struct str text;

	if (entity_parse(key, mem, &e) != 0)
		return false;
	cols[0] = key;
	cols[1] = e.platform;
	cols[2] = e.server;
	cols[3] = e.channel;
	e.channel = STR_NONE;
	entity_make(e, &wide);
	cols[4] = buf_str(&wide, &text) == 0 ? arena_str(mem, text) : STR_NONE;
	buf_clear(&wide);
	return true;
}

static void load(void *arg, struct cache *c, struct str key);

static const struct spec specs[LOOKUP_KINDS] = {
	[LOOKUP_PLACE] = {
		.cache = { .name = "place", .max_items = 200000, .max_bytes = 64 << 20, .ttl_ms = 600000,
		           .ttl_none_ms = 60000, .load = load },
		.fields = 1,
		.columns = 5,
		.split = split_address,
		.sql = "SELECT k.i, e.entity_id, e.community_id, e.is_active, w.entity_id, "
		       "jsonb_strip_nulls(jsonb_build_object('name', c.name, "
		       "'timezone', c.settings->'timezone', 'locale', c.settings->'locale', "
		       "'bot_account_id', coalesce(e.config->'bot_account_id', m.config->'bot_account_id')))::text, "
		       "coalesce(e.config->>'bot_account_id', m.config->>'bot_account_id', k.channel), "
		       "jsonb_strip_nulls(jsonb_build_object('messages', e.config->'messages', "
		       "'silent', e.config->'silent', 'mod_channel', e.config->'mod_channel'))::text, "
		       "coalesce(e.config->'bot_account_id', m.config->'bot_account_id')::text "
		       "FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) "
		       "WITH ORDINALITY AS k(address, platform, server, channel, wide, i) "
		       "JOIN LATERAL (SELECT s.config FROM servers s WHERE s.platform = k.platform "
		       "AND coalesce(s.server_id, '') = k.server AND coalesce(s.channel, '') IN ('', k.channel) "
		       "AND s.is_active ORDER BY s.channel NULLS LAST LIMIT 1) m ON true "
		       "LEFT JOIN entities e ON e.address = k.address "
		       "LEFT JOIN entities w ON w.address = k.wide "
		       "LEFT JOIN communities c ON c.id = e.community_id ORDER BY k.i",
		.value = place_value,
		.absent = place_absent,
		/* router.md 6: the server's owner; community of the server-wide entity, else of the server, else global. */
		.create = "INSERT INTO entities (address, platform, server_id, channel_id, owner, community_id) "
		          "SELECT k.address, k.platform, nullif(k.server, ''), nullif(k.channel, ''), m.owner, "
		          "coalesce(w.community_id, (m.config->>'community_id')::integer, 1) "
		          "FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) "
		          "AS k(address, platform, server, channel, wide) "
		          "JOIN LATERAL (SELECT s.owner, s.config FROM servers s WHERE s.platform = k.platform "
		          "AND coalesce(s.server_id, '') = k.server AND coalesce(s.channel, '') IN ('', k.channel) "
		          "AND s.is_active ORDER BY s.channel NULLS LAST LIMIT 1) m ON true "
		          "LEFT JOIN entities w ON w.address = k.wide "
		          "ON CONFLICT (address) DO NOTHING",
	},
	[LOOKUP_ROUTES] = {
		.cache = { .name = "routes", .max_items = 20000, .max_bytes = 16 << 20, .ttl_ms = 300000,
		           .ttl_none_ms = 60000, .load = load },
		.fields = 1,
		.columns = 1,
		.split = split_fields,
		.sql = "SELECT k.i, c.id, c.timeout, c.rate_limit, c.min_role, c.auth_required, c.module_id, "
		       "c.location_url, c.priority, c.execution_mode = 'parallel', c.prefix, c.command, c.type "
		       "FROM unnest($1::text[]) WITH ORDINALITY AS k(name, i) "
		       "JOIN LATERAL (SELECT * FROM commands n WHERE n.prefix = left(k.name, 1) "
		       "AND n.command = substr(k.name, 2) AND n.is_active AND n.trigger_type <> 'event' "
		       "UNION ALL SELECT * FROM commands v WHERE left(k.name, 1) = '@' AND v.is_active "
		       "AND v.trigger_type <> 'command' AND v.event_types ? substr(k.name, 2)) c ON true "
		       "ORDER BY k.i, c.priority, c.id",
		.value = routes_value,
	},
	[LOOKUP_GRANTS] = {
		.cache = { .name = "grants", .max_items = 200000, .max_bytes = 64 << 20, .ttl_ms = 300000,
		           .ttl_none_ms = 60000, .load = load },
		.fields = 3,
		.columns = 3,
		.split = split_fields,
		/* The stamp is not asked for: with other rows of the name it is another key. */
		.sql = "SELECT k.i, p.is_enabled, p.config::text, p.permissions::text, p.id, p.command_id "
		       "FROM unnest($1::text[], $2::text[], $3::text[]) "
		       "WITH ORDINALITY AS k(entity_id, name, stamp, i) "
		       "JOIN LATERAL (SELECT q.* FROM commands n JOIN command_permissions q ON q.command_id = n.id "
		       "AND q.entity_id = k.entity_id::integer WHERE n.prefix = left(k.name, 1) "
		       "AND n.command = substr(k.name, 2) UNION ALL SELECT q.* FROM commands v "
		       "JOIN command_permissions q ON q.command_id = v.id AND q.entity_id = k.entity_id::integer "
		       "WHERE left(k.name, 1) = '@' AND v.is_active AND v.trigger_type <> 'command' "
		       "AND v.event_types ? substr(k.name, 2)) p ON true ORDER BY k.i, p.command_id",
		.value = grants_value,
	},
	[LOOKUP_ALIAS] = {
		.cache = { .name = "alias", .max_items = 50000, .max_bytes = 16 << 20, .ttl_ms = 300000,
		           .ttl_none_ms = 60000, .load = load },
		.fields = 2,
		.columns = 2,
		.split = split_fields,
		.sql = "SELECT k.i, a.target_command FROM unnest($1::text[], $2::text[]) "
		       "WITH ORDINALITY AS k(community_id, alias, i) JOIN command_aliases a "
		       "ON a.community_id = k.community_id::integer AND lower(a.alias) = lower(k.alias) ORDER BY k.i",
		.value = alias_value,
	},
	[LOOKUP_CONTEXT] = {
		.cache = { .name = "context", .max_items = 100000, .max_bytes = 16 << 20, .ttl_ms = 60000,
		           .ttl_none_ms = 60000, .load = load },
		.fields = 3,
		.columns = 3,
		.split = split_fields,
		.sql = "SELECT k.i, x.community_id, x.expires_at, jsonb_strip_nulls(jsonb_build_object("
		       "'name', c.name, 'timezone', c.settings->'timezone', 'locale', c.settings->'locale'))::text "
		       "FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS k(platform, user_id, entity, i) "
		       "JOIN community_contexts x ON x.platform = k.platform AND x.user_id = k.user_id "
		       "AND x.entity = k.entity AND x.expires_at > now() JOIN communities c ON c.id = x.community_id "
		       "ORDER BY k.i",
		.value = context_value,
	},
	[LOOKUP_PERSON] = {
		.cache = { .name = "person", .max_items = 100000, .max_bytes = 32 << 20, .ttl_ms = 60000,
		           .ttl_none_ms = 60000, .load = load },
		.fields = 3,
		.columns = 3,
		.split = split_fields,
		.sql = "SELECT k.i, m.role, EXISTS (SELECT FROM identities a JOIN identities b ON b.person = a.person "
		       "AND b.id <> a.id WHERE a.platform = k.platform AND a.user_id = k.user_id), "
		       "l.label, l.expires_at "
		       "FROM unnest($1::text[], $2::text[], $3::text[]) "
		       "WITH ORDINALITY AS k(platform, user_id, community_id, i) "
		       "LEFT JOIN community_members m ON m.community_id = k.community_id::integer "
		       "AND m.platform = k.platform AND m.user_id = k.user_id AND m.left_at IS NULL "
		       "LEFT JOIN community_labels l ON l.community_id = k.community_id::integer "
		       "AND l.platform = k.platform AND l.user_id = k.user_id ORDER BY k.i",
		.value = person_value,
	},
};

static void load(void *arg, struct cache *c, struct str key)
{
	struct loader *ld = arg;

	(void)c;
	if (ld->n == ld->cap) {
		ld->cap = ld->cap == 0 ? 64 : ld->cap * 2;
		ld->waiting = reallocarray(ld->waiting, ld->cap, sizeof ld->waiting[0]);
		ASSERT(ld->waiting != NULL);
	}
	ld->waiting[ld->n++] = key;
}

static void wait_again(struct loader *ld, const struct str *key, size_t n)
{
	for (size_t i = 0; i < n; i++)
		load(ld, ld->cache, key[i]);
}

static void rested(void *arg)
{
	struct loader *ld = arg;

	ld->resting = false;            /* the end of this turn sends */
}

static void rest(struct loader *ld, int64_t ms)
{
	if (ld->l->closing || ld->resting)
		return;
	ld->resting = true;
	timer_start(ld->l->s, &ld->retry, ms, rested, ld);
}

static void loaded(void *arg, const struct db_result *res, const struct err *err);

/* b's keys as the arrays of sql; keys nobody can have are settled here. */
static void send(struct load *b, const char *sql)
{
	struct loader *ld = b->of;
	struct arena *mem = arena_new(16384, 8 << 20);
	struct db_param *cols[MAX_COLUMNS], param[MAX_COLUMNS];
	bool primary = ld->primary || !ld->l->listening;
	struct db_opts opts = { .to = primary ? DB_WRITE : DB_READ, .after_lsn = ld->after_lsn };
	size_t columns = ld->spec->columns, n = 0;

	for (size_t f = 0; f < columns; f++)
		cols[f] = arena_alloc(mem, b->n * sizeof cols[f][0]);
	for (size_t i = 0; i < b->n; i++) {
		struct str col[MAX_COLUMNS];

		if (!ld->spec->split(b->key[i], mem, col)) {
			cache_fill(ld->cache, b->key[i], NULL, 0);
			continue;
		}
		for (size_t f = 0; f < columns; f++)
			cols[f][n] = DB_STR(col[f]);
		b->key[n++] = b->key[i];
	}
	b->n = n;
	b->stamp = ld->after_lsn;
	for (size_t f = 0; f < columns; f++)
		param[f] = DB_ARRAY(cols[f], n);
	if (n == 0) {
		free(b);
	} else if (db_send(ld->l->db, opts, loaded, b, sql, param, columns) == 0) {
		ld->in_flight++;
	} else {
		wait_again(ld, b->key, b->n);   /* the queue of the pool is full */
		rest(ld, 10);
		free(b);
	}
	arena_free(mem);
}

static void loaded(void *arg, const struct db_result *res, const struct err *err)
{
	struct load *b = arg;
	struct loader *ld = b->of;
	size_t absent = 0;
	int row = 0;

	ld->in_flight--;
	if (err != NULL) {
		metric_add(&retries, (unsigned)(ld - ld->l->loader), 1);
		log_rarely(10000, L_WARN, NULL, "lookup_failed", "%s lookup will be repeated: %s",
		           ld->spec->cache.name, err->text);
		wait_again(ld, b->key, b->n);
		rest(ld, 100);
		free(b);
		return;
	}
	if (b->creating) {
		wait_again(ld, b->key, b->n);   /* now they exist, or their server was just removed */
		free(b);
		return;
	}
	for (size_t i = 0; i < b->n; i++) {
		int first = row;
		void *value = NULL;
		size_t bytes = 0;

		while (row < db_rows(res) && db_int(res, row, 0) == (int64_t)i + 1)
			row++;
		if (row > first && ld->spec->absent != NULL && ld->spec->absent(res, first)) {
			b->key[absent++] = b->key[i];
			continue;
		}
		if (row > first)
			value = ld->spec->value(res, first, row - first, &bytes);
		store_put(ld->l->store, (unsigned)(ld - ld->l->loader), b->key[i], res, first, row - first,
		          b->epoch, b->stamp);
		cache_fill(ld->cache, b->key[i], value, bytes);
	}
	b->n = absent;
	if (absent == 0) {
		free(b);
		return;
	}
	b->creating = true;
	ld->primary = true;             /* what is being made is not on a standby yet */
	send(b, ld->spec->create);
}

/* What the second level had is settled, the rest is asked of the database. */
static void stored(void *arg, const struct stored *at, uint64_t epoch)
{
	struct load *b = arg;
	struct loader *ld = b->of;
	unsigned kind = (unsigned)(ld - ld->l->loader);
	size_t left = 0;

	ld->in_flight--;
	b->epoch = epoch;
	for (size_t i = 0; i < b->n; i++) {
		void *value = NULL;
		size_t bytes = 0;

		if (!at[i].found || ld->l->closing || !ld->l->listening) {
			db_release(at[i].rows);
			b->key[left++] = b->key[i];
			continue;
		}
		if (at[i].rows != NULL)
			value = ld->spec->value(at[i].rows, 0, db_rows(at[i].rows), &bytes);
		db_release(at[i].rows);
		metric_add(&requests, METRIC_AT(&requests, kind, RESULT_REDIS), 1);
		cache_fill_aged(ld->cache, b->key[i], value, bytes, at[i].age_ms);
	}
	b->n = left;
	if (left == 0 || ld->l->closing) {
		wait_again(ld, b->key, left);
		free(b);
		return;
	}
	metric_add(&loads, kind, 1);
	metric_add(&keys, kind, left);
	send(b, ld->spec->sql);
}

static void send_load(struct loader *ld)
{
	struct load *b = XNEW(struct load);
	unsigned kind = (unsigned)(ld - ld->l->loader);

	b->of = ld;
	b->n = ld->n < MAX_ROWS ? ld->n : MAX_ROWS;
	memcpy(b->key, ld->waiting, b->n * sizeof b->key[0]);
	memmove(ld->waiting, ld->waiting + b->n, (ld->n - b->n) * sizeof b->key[0]);
	ld->n -= b->n;
	if (ld->l->listening && !ld->primary &&
	    store_get(ld->l->store, kind, b->key, b->n, stored, b)) {
		ld->in_flight++;
		return;
	}
	metric_add(&loads, kind, 1);
	metric_add(&keys, kind, b->n);
	send(b, ld->spec->sql);
}

/* Somebody waits for a load; told from the loop, never from inside lookup_get(). */
struct waiter {
	struct list    node;            /* of lookup.told once the load is over */
	struct lookup *l;
	void (*again)(void *arg);
	void *arg;
};

static void got(void *arg, struct cache_item *item, const struct err *err)
{
	struct waiter *w = arg;

	(void)err;                      /* too many waiting: asking again is the answer to that, too */
	cache_release(item);
	list_add_tail(&w->l->told, &w->node);
}

static void tell_waiters(struct lookup *l)
{
	struct list now, *n;

	list_init(&now);
	while ((n = list_pop(&l->told)) != NULL)
		list_add_tail(&now, n);
	while ((n = list_pop(&now)) != NULL) {
		struct waiter *w = CONTAINER_OF(n, struct waiter, node);

		w->again(w->arg);
		free(w);
	}
}

static void turn(void *arg)
{
	struct lookup *l = arg;

	tell_waiters(l);
	for (int k = 0; k < LOOKUP_KINDS; k++) {
		struct loader *ld = &l->loader[k];

		while (ld->n > 0 && ld->in_flight < MAX_IN_FLIGHT && !ld->resting && !l->closing)
			send_load(ld);
	}
}

/* A notice tells that something changed, not how far a standby must be to show it: the primary's
 * position now is far enough. */
static void ask_position(struct lookup *l);

static void position(void *arg, const struct db_result *res, const struct err *err)
{
	struct lookup *l = arg;
	uint64_t lsn = 0;

	if (err == NULL && db_rows(res) == 1)
		(void)!lsn_parse(db_str(res, 0, 0), &lsn);

	l->asking = false;
	if (l->closing)
		return;
	if (l->ask_again || lsn == 0) {
		l->ask_again = err != NULL;     /* the next notice or reconnect asks again */
		if (err == NULL)
			ask_position(l);
		return;
	}
	for (int k = 0; k < LOOKUP_KINDS; k++) {
		l->loader[k].after_lsn = lsn_end(lsn);
		l->loader[k].primary = false;
	}
	store_position(l->store, db_str(res, 0, 1), lsn_end(lsn));
}

static void ask_position(struct lookup *l)
{
	for (int k = 0; k < LOOKUP_KINDS; k++)
		l->loader[k].primary = true;
	if (l->asking) {
		l->ask_again = true;
		return;
	}
	l->ask_again = false;
	l->asking = db_query(l->db, ((struct db_opts){ .to = DB_WRITE }), position, l,
	                     "SELECT pg_current_wal_insert_lsn()::text, (SELECT system_identifier FROM "
	                     "pg_control_system()) || ':' || (SELECT oid FROM pg_database "
	                     "WHERE datname = current_database())") == 0;
}

/* What a notice about a table means for a cache. */
enum drop {
	DROP_FIELDS,            /* the notice's key is ours, with ':' between the fields */
	DROP_ADDRESS,           /* an address; of a whole server: everything in it */
	DROP_SECOND,            /* its second field is our first */
	DROP_MEMBER,            /* its first field is our last */
	DROP_ACCOUNT,           /* it is what our keys begin with, ':' between the fields */
	DROP_COMMAND,           /* the key is ours, and so is all that fires on events */
	DROP_ALL,
};

static const struct { const char *table; enum lookup_kind kind; enum drop drop; } notices[] = {
	{ "commands", LOOKUP_ROUTES, DROP_COMMAND },            /* commands:!memories */
	{ "command_permissions", LOOKUP_GRANTS, DROP_SECOND },  /* command id:entity id */
	{ "command_aliases", LOOKUP_ALIAS, DROP_FIELDS },       /* community:alias */
	{ "community_contexts", LOOKUP_CONTEXT, DROP_FIELDS },  /* platform:user:address */
	{ "entities", LOOKUP_PLACE, DROP_ADDRESS },
	{ "servers", LOOKUP_PLACE, DROP_ALL },
	{ "communities", LOOKUP_PLACE, DROP_ALL },
	{ "communities", LOOKUP_CONTEXT, DROP_ALL },
	{ "community_members", LOOKUP_PERSON, DROP_MEMBER },    /* community:platform:user */
	{ "community_labels", LOOKUP_PERSON, DROP_MEMBER },
	{ "identities", LOOKUP_PERSON, DROP_ACCOUNT },          /* platform:user */
};

static void drop_key(struct lookup *l, enum lookup_kind kind, struct str key)
{
	cache_drop(l->loader[kind].cache, key);
	store_drop(l->store, kind, key);
}

/* The second level cannot tell which keys begin so: all of it goes. */
static void drop_prefix(struct lookup *l, enum lookup_kind kind, struct str prefix)
{
	cache_drop_prefix(l->loader[kind].cache, prefix);
	store_drop(l->store, kind, STR_NONE);
}

static void drop_events(struct lookup *l, enum lookup_kind kind)
{
	char name[64];

	for (int i = 0; message_type_names[i] != NULL; i++) {
		int n = snprintf(name, sizeof name, "@%s", message_type_names[i]);

		drop_key(l, kind, (struct str){ name, (size_t)n });
	}
}

/* community:platform:user -> platform, user, community. */
static struct str account_key(char *text, size_t room, struct str key)
{
	struct str account, community = str_cut(key, ':', &account), user, platform = str_cut(account, ':', &user);
	int n = snprintf(text, room, STR_FMT US STR_FMT US STR_FMT, STR_ARG(platform), STR_ARG(user),
	                 STR_ARG(community));

	return (struct str){ text, (size_t)n };
}

static void drop(struct lookup *l, enum lookup_kind kind, enum drop how, struct str key)
{
	char text[MAX_KEY];
	struct str rest = STR_NONE, mine = { text, 0 };

	if (key.n == 0 || key.n >= sizeof text || str_eq(key, STR("*")))
		how = DROP_ALL;
	else
		memcpy(text, key.p, key.n);
	switch (how) {
	case DROP_FIELDS:
		for (size_t i = 0, seen = 1; i < key.n && seen < specs[kind].fields; i++)
			if (text[i] == ':') {
				text[i] = US[0];
				seen++;
			}
		mine.n = key.n;
		drop_key(l, kind, mine);
		break;
	case DROP_ADDRESS:
		drop_key(l, kind, key);
		if (key.p[key.n - 1] == ':')
			drop_prefix(l, kind, key);
		break;
	case DROP_SECOND:
		(void)str_cut(key, ':', &rest);
		mine.n = rest.n;
		memcpy(text, rest.p, rest.n);
		text[mine.n++] = US[0];
		drop_prefix(l, kind, mine);
		break;
	case DROP_MEMBER:
		mine = account_key(text, sizeof text, key);
		drop_key(l, kind, mine);
		break;
	case DROP_ACCOUNT:
		for (size_t i = 0; i < key.n; i++)
			if (text[i] == ':') {
				text[i] = US[0];
				break;
			}
		mine.n = key.n;
		text[mine.n++] = US[0];
		drop_prefix(l, kind, mine);
		break;
	case DROP_COMMAND:
		drop_key(l, kind, key);
		drop_events(l, kind);
		break;
	case DROP_ALL:
		drop_prefix(l, kind, STR_NONE);
		break;
	}
}

static void count_notice(struct str table)
{
	unsigned i = 0;

	while (i < ARRAY_LEN(table_names) - 1 && !str_eq(table, str_of(table_names[i])))
		i++;
	metric_add(&invalidations, i, 1);
}

static void watch(void *arg);

/* Without notices an entry is only as good as it is young (router.md 18). */
static void listening(struct lookup *l, bool yes)
{
	if (yes && !l->listening)
		log_info(NULL, "notices_arrive", "changes are seen at once");
	else if (!yes && l->listening)
		log_warn(NULL, "notices_lost", "changes are seen within %d s", DEAF_TTL_MS / 1000);
	l->listening = yes;
	for (int k = 0; k < LOOKUP_KINDS; k++)
		cache_cap_age(l->loader[k].cache, yes ? 0 : DEAF_TTL_MS);
	timer_start(l->s, &l->watch, WATCH_MS, watch, l);
}

bool lookup_listening(const struct lookup *l)
{
	return l->listening;
}

static void watch(void *arg)
{
	struct lookup *l = arg;

	/* That it is back is told by the first notice, with which all is dropped. */
	listening(l, l->listening && db_listening(l->db));
}

void lookup_invalidate(struct lookup *l, struct str notice)
{
	struct str key, table = str_cut(notice, ':', &key);

	ask_position(l);
	count_notice(notice.n == 0 ? STR("all") : table);
	for (size_t i = 0; i < ARRAY_LEN(notices); i++)
		if (notice.n == 0 || str_eq(table, str_of(notices[i].table)))
			drop(l, notices[i].kind, notice.n == 0 ? DROP_ALL : notices[i].drop, key);
	if (notice.n == 0)
		listening(l, true);
}

struct cache_item *lookup_get(struct lookup *l, enum lookup_kind kind, const struct str *fields, size_t n,
                              bool *ret_none, void (*again)(void *arg), void *arg)
{
	char text[MAX_KEY];
	struct str key = { text, 0 };

	IS_A(l, LOOKUP_MAGIC);
	ASSERT(n == specs[kind].fields);
	for (size_t i = 0; i < n; i++) {
		/* Longer than any address or id the edge lets through: nobody has it. */
		if (key.n + fields[i].n + 1 > sizeof text ||
		    memchr(fields[i].p, US[0], fields[i].n) != NULL) {
			*ret_none = true;
			return NULL;
		}
		if (i > 0)
			text[key.n++] = US[0];
		memcpy(text + key.n, fields[i].p, fields[i].n);
		key.n += fields[i].n;
	}

	struct cache_item *item = cache_peek(l->loader[kind].cache, key, ret_none);

	metric_add(&requests,
	           METRIC_AT(&requests, kind, item != NULL ? RESULT_HIT : *ret_none ? RESULT_NONE : RESULT_MISS), 1);
	if (item != NULL || *ret_none)
		return item;

	struct waiter *w = XNEW(struct waiter);

	*w = (struct waiter){ .l = l, .again = again, .arg = arg };
	cache_get(l->loader[kind].cache, key, got, w);
	return NULL;
}

struct lookup *lookup_open(struct service *s, struct db *db, struct str redis_url, int redis_timeout_ms,
                           struct err *err)
{
	struct lookup *l = XNEW(struct lookup);
	struct store_kind kinds[LOOKUP_KINDS];

	MAKE_A(l, LOOKUP_MAGIC);
	l->s = s;
	l->db = db;
	list_init(&l->told);
	service_on_turn(s, turn, l);
	for (int k = 0; k < LOOKUP_KINDS; k++) {
		struct loader *ld = &l->loader[k];
		struct cache_spec c = specs[k].cache;

		ld->l = l;
		ld->spec = &specs[k];
		c.arg = ld;
		ld->cache = cache_open(s, &c);
		kinds[k] = (struct store_kind){ kind_names[k], specs[k].sql, c.ttl_ms, c.ttl_none_ms };
	}
	if (redis_url.n > 0) {
		l->store = store_open(s, redis_url, redis_timeout_ms, kinds, LOOKUP_KINDS, err);
		if (l->store == NULL) {
			lookup_close(l);
			return NULL;
		}
	}
	listening(l, false);
	ask_position(l);
	return l;
}

void lookup_close(struct lookup *l)
{
	struct err err = { 0 };
	struct list *n;

	if (l == NULL)
		return;
	l->closing = true;
	service_off_turn(l->s, turn, l);
	timer_stop(&l->watch);
	store_close(l->store);
	(void)!err_set(&err, -ECANCELED, "closing");
	for (int k = 0; k < LOOKUP_KINDS; k++) {
		struct loader *ld = &l->loader[k];

		timer_stop(&ld->retry);
		for (size_t i = 0; i < ld->n; i++)
			cache_fail(ld->cache, ld->waiting[i], &err);
		cache_close(ld->cache);
		free(ld->waiting);
	}
	while ((n = list_pop(&l->told)) != NULL)
		free(CONTAINER_OF(n, struct waiter, node));
	NOT_A_MORE(l, LOOKUP_MAGIC);
	free(l);
}

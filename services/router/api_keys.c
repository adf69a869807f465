/* api_keys.c - who a key belongs to, and what is left of its hour (router.md 2).
 *
 * A verdict is kept for a minute and dropped by NOTIFY; it is then asked for again, on the primary.
 * While the database does not answer, an account that was known stays known: what it may do has
 * been decided before, and an outage of the database must not become one of the chat.
 *
 * The budget is shared by all replicas: each counts for itself and every 5 s adds its count to
 * the row of the hour, whose sum comes back.  Between two refreshes a key can therefore get past its
 * budget by what the other replicas let in within 5 s. */
#include "api.h"
#include "clock.h"
#include "err.h"
#include "hash.h"
#include "log.h"
#include "metrics.h"
#include "service.h"

enum { FRESH_MS = 60000, ASK_MS = 2000, REST_MS = 5000, FLUSH_MS = 5000, UNKNOWN_MAX = 4096, FLUSH_MAX = 512,
       HOUR_MS = 3600000 };
enum { KEYS_MAGIC = 0x6b657973, KEY_MAGIC = 0x6b657900 };

static const char *const result_names[] = { "hit", "asked", "stale", "unknown", "spent", "unchecked" };
enum result { R_HIT, R_ASKED, R_STALE, R_UNKNOWN, R_SPENT, R_UNCHECKED };
METRIC_BY(checks, METRIC_COUNTER, "waddle_router_key_checks_total", "Keys checked, by how.", "result", result_names);
METRIC(unflushed, METRIC_GAUGE, "waddle_router_key_usage_unflushed", "Calls counted here and not yet in the database.");
struct metric *const api_keys_metrics[] = { &checks, &unflushed, NULL };

struct key {
	unsigned         magic;
	struct hash_node by_sha;
	struct list      node;          /* keys.known or keys.unknown, least recently asked first */
	struct list      waiting;       /* of struct waiter, while asking */
	struct api_keys *keys;
	unsigned char    sha256[32];
	bool             asking, again;
	int64_t          fresh_until_mono_ms;   /* 0: ask */
	int64_t          id;            /* 0: unknown */
	unsigned         type;
	bool             may_act;
	char             name[404];     /* 100 characters */
	int64_t          limit, expires_at_ms;  /* 0: none */
	int64_t          hour;          /* the numbers below are of this one */
	int64_t          shared;        /* all replicas' count at the last refresh */
	int64_t          own, sending;  /* counted since; of them on their way */
};

struct waiter { struct list node; struct http_req *r; };

struct api_keys {
	unsigned          magic;
	struct service   *s;
	struct db        *db;
	struct hash_table by_sha;
	struct list       known, unknown;
	size_t            n_unknown;
	struct timer      flush;
	bool              flushing;
};

static uint64_t hash_sha(const unsigned char sha[32])
{
	return hash_of((struct str){ (const char *)sha, 32 });
}

static struct key *find(const struct api_keys *k, const unsigned char sha[32])
{
	for (struct hash_node *n = hash_find(&k->by_sha, hash_sha(sha)); n != NULL; n = hash_next(n)) {
		struct key *key = CONTAINER_OF(n, struct key, by_sha);

		if (memcmp(key->sha256, sha, 32) == 0)
			return key;
	}
	return NULL;
}

static void drop(struct key *key)
{
	hash_del(&key->keys->by_sha, &key->by_sha);
	list_del(&key->node);
	NOT_A_MORE(key, KEY_MAGIC);
	free(key);
}

/* Guesses must not fill the memory, nor push out the keys that are in use. */
static void make_room(struct api_keys *k)
{
	LIST_EACH(n, next, &k->unknown) {
		struct key *key = CONTAINER_OF(n, struct key, node);

		if (k->n_unknown < UNKNOWN_MAX)
			return;
		if (!key->asking) {
			k->n_unknown--;
			drop(key);
		}
	}
}

static struct key *add(struct api_keys *k, const unsigned char sha[32])
{
	struct key *key = XNEW(struct key);

	MAKE_A(key, KEY_MAGIC);
	key->keys = k;
	memcpy(key->sha256, sha, 32);
	list_init(&key->waiting);
	list_init(&key->node);
	hash_add(&k->by_sha, &key->by_sha, hash_sha(sha));
	list_add_tail(&k->unknown, &key->node);
	k->n_unknown++;
	return key;
}

static void refile(struct key *key, bool was_known)
{
	struct api_keys *k = key->keys;

	list_move(key->id != 0 ? &k->known : &k->unknown, &key->node);
	k->n_unknown += (key->id == 0) - (size_t)!was_known;
}

static void verdict(struct key *key, struct http_req *r, enum http_key_state state, enum result how)
{
	int64_t now = clock_unix_ms();
	struct http_verdict v = { .state = state, .type = key->type, .id = key->id };

	if (state == HTTP_KEY_KNOWN && (key->id == 0 || (key->expires_at_ms != 0 && key->expires_at_ms <= now))) {
		v.state = HTTP_KEY_UNKNOWN;
		how = R_UNKNOWN;
	} else if (state == HTTP_KEY_KNOWN && (http_auth_of(r) & key->type) != 0) {
		if (key->hour != now / HOUR_MS) {
			/* What was counted late in the old hour and not sent is given away. */
			key->hour = now / HOUR_MS;
			key->shared = key->own = key->sending = 0;
		}
		if (key->limit > 0 && key->shared + key->own >= key->limit) {
			v.state = HTTP_KEY_SPENT;
			v.retry_after_s = (HOUR_MS - now % HOUR_MS + 999) / 1000;
			how = R_SPENT;
		} else {
			key->own++;
		}
	}
	metric_add(&checks, how, 1);
	http_key_verdict(r, &v);
}

/* A verdict may bring the next request of that connection here: it joins the queue, and the key
 * is not thrown away meanwhile. */
static void answer_all(struct key *key, enum http_key_state state, enum result how)
{
	struct list *n;

	key->asking = true;
	while ((n = list_pop(&key->waiting)) != NULL)
		verdict(key, CONTAINER_OF(n, struct waiter, node)->r, state, how);
	key->asking = false;
}

static unsigned type_of(struct str name)
{
	static const struct { const char *name; unsigned type; } types[] = {
		{ "collector", HTTP_KEY_COLLECTOR }, { "interaction", HTTP_KEY_INTERACTION },
		{ "webhook", HTTP_KEY_WEBHOOK }, { "admin", HTTP_KEY_ADMIN },
	};

	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (str_eq(name, str_of(types[i].name)))
			return types[i].type;
	return 0;
}

static void ask(struct key *key);

static void asked(void *arg, const struct db_result *res, const struct err *err)
{
	struct key *key = arg;
	bool was_known = key->id != 0;

	IS_A(key, KEY_MAGIC);
	if (err != NULL && was_known) {
		key->fresh_until_mono_ms = clock_mono_ms() + REST_MS;
		answer_all(key, HTTP_KEY_KNOWN, R_STALE);
		return;
	}
	if (err != NULL) {
		log_rarely(5000, L_WARN, NULL, "keys_unchecked", "keys cannot be checked: %s", err->text);
		answer_all(key, HTTP_KEY_UNCHECKED, R_UNCHECKED);
		return;
	}
	if (key->again) {                       /* the answer may be from before the change */
		key->again = false;
		ask(key);
		return;
	}
	key->id = 0;
	if (db_rows(res) == 1) {
		struct str name = db_str(res, 0, 1);
		int64_t hour = db_time(res, 0, 6) / HOUR_MS;

		key->id = db_int(res, 0, 0);
		snprintf(key->name, sizeof(key->name), STR_FMT, STR_ARG(name));
		key->type = type_of(db_str(res, 0, 2));
		key->limit = db_int(res, 0, 3);
		key->expires_at_ms = db_time(res, 0, 4);
		key->may_act = db_bool(res, 0, 7);
		if (!was_known || key->hour != hour) {
			key->hour = hour;
			key->shared = db_int(res, 0, 5);
			key->own = key->sending = 0;
		}
	}
	refile(key, was_known);
	key->fresh_until_mono_ms = clock_mono_ms() + FRESH_MS;
	answer_all(key, HTTP_KEY_KNOWN, R_ASKED);
}

/* The hour is the caller's clock's, as in flush(): a row of it may not be there yet. */
static void ask(struct key *key)
{
	struct api_keys *k = key->keys;
	int64_t hour_ms = clock_unix_ms() / HOUR_MS * HOUR_MS;

	key->asking = true;
	key->again = false;
	if (db_query(k->db, ((struct db_opts){ .to = DB_WRITE, .timeout_ms = ASK_MS }), asked, key,
	             "SELECT a.id, a.name, a.key_type, a.rate_limit, a.expires_at, coalesce(u.used, 0), "
	             "$2::timestamptz, a.may_act FROM service_accounts a LEFT JOIN service_account_usage u "
	             "ON u.account_id = a.id AND u.hour = $2::timestamptz "
	             "WHERE a.key_sha256 = $1::bytea AND a.is_active "
	             "AND (a.expires_at IS NULL OR a.expires_at > now())",
	             DB_BYTES(((struct str){ (const char *)key->sha256, 32 })), DB_TIME(hour_ms)) != 0) {
		answer_all(key, key->id != 0 ? HTTP_KEY_KNOWN : HTTP_KEY_UNCHECKED,
		           key->id != 0 ? R_STALE : R_UNCHECKED);
	}
}

void api_keys_check(void *arg, struct http_req *r, const unsigned char sha256[32])
{
	struct api_keys *k = arg;
	struct waiter *w;
	struct key *key;

	IS_A(k, KEYS_MAGIC);
	key = find(k, sha256);
	if (key == NULL) {
		make_room(k);
		key = add(k, sha256);
	}
	if (!key->asking && clock_mono_ms() < key->fresh_until_mono_ms) {
		verdict(key, r, HTTP_KEY_KNOWN, R_HIT);
		return;
	}
	w = ARENA_NEW(http_mem(r), struct waiter);
	w->r = r;
	list_add_tail(&key->waiting, &w->node);
	if (!key->asking)
		ask(key);
}

void api_keys_changed(struct api_keys *k)
{
	IS_A(k, KEYS_MAGIC);
	for (int known = 0; known < 2; known++)
		LIST_EACH(n, next, known ? &k->known : &k->unknown) {
			struct key *key = CONTAINER_OF(n, struct key, node);

			key->fresh_until_mono_ms = 0;
			key->again = key->asking;
		}
}

static const struct key *of_id(const struct api_keys *k, int64_t id)
{
	LIST_EACH(n, next, &k->known) {
		const struct key *key = CONTAINER_OF(n, struct key, node);

		if (key->id == id)
			return key;
	}
	return NULL;
}

struct str api_keys_name(const struct api_keys *k, int64_t id)
{
	const struct key *key = of_id(k, id);

	return key != NULL ? str_of(key->name) : STR_NONE;
}

bool api_keys_may_act(const struct api_keys *k, int64_t id)
{
	const struct key *key = of_id(k, id);

	return key != NULL && key->may_act;
}

/* --- the budget -------------------------------------------------------------------------------- */

static void flush(void *arg);

/* Rows by account: of a key that went meanwhile nobody waits for the sum. */
static void flushed(void *arg, const struct db_result *res, const struct err *err)
{
	struct api_keys *k = arg;
	int64_t open = 0;

	k->flushing = false;
	for (int i = 0; err == NULL && i < db_rows(res); i++) {
		int64_t id = db_int(res, i, 0), hour = db_time(res, i, 1) / HOUR_MS;

		LIST_EACH(n, next, &k->known) {
			struct key *key = CONTAINER_OF(n, struct key, node);

			if (key->id == id && key->hour == hour) {
				key->own -= key->sending;
				key->shared = db_int(res, i, 2);
			}
		}
	}
	LIST_EACH(n, next, &k->known) {
		struct key *key = CONTAINER_OF(n, struct key, node);

		key->sending = 0;
		open += key->own;
	}
	metric_set(&unflushed, 0, open);
	if (err != NULL)
		log_rarely(30000, L_WARN, NULL, "key_usage", "budgets of keys are not shared: %s", err->text);
}

static void flush(void *arg)
{
	struct api_keys *k = arg;
	struct db_param id[FLUSH_MAX], used[FLUSH_MAX];
	int64_t hour = clock_unix_ms() / HOUR_MS;
	size_t m = 0;

	timer_start(k->s, &k->flush, FLUSH_MS, flush, k);
	if (k->flushing)
		return;
	LIST_EACH(n, next, &k->known) {
		struct key *key = CONTAINER_OF(n, struct key, node);

		/* The others' count is wanted also by a replica that has nothing to add. */
		if (key->hour != hour || key->limit == 0 || m == FLUSH_MAX)
			continue;
		key->sending = key->own;
		id[m] = DB_INT(key->id);
		used[m++] = DB_INT(key->own);
	}
	if (m == 0)
		return;
	k->flushing = db_query(k->db, ((struct db_opts){ .to = DB_WRITE, .timeout_ms = FLUSH_MS }), flushed, k,
	                       "INSERT INTO service_account_usage AS u (account_id, hour, used) "
	                       "SELECT i.id, $3::timestamptz, i.used "
	                       "FROM unnest($1::bigint[], $2::bigint[]) AS i(id, used) "
	                       "JOIN service_accounts a ON a.id = i.id ORDER BY i.id "
	                       "ON CONFLICT (account_id, hour) DO UPDATE SET used = u.used + excluded.used "
	                       "RETURNING account_id, hour, used",
	                       DB_ARRAY(id, m), DB_ARRAY(used, m), DB_TIME(hour * HOUR_MS)) == 0;
}

struct api_keys *api_keys_open(struct service *s, struct db *db)
{
	struct api_keys *k = XNEW(struct api_keys);

	MAKE_A(k, KEYS_MAGIC);
	k->s = s;
	k->db = db;
	list_init(&k->known);
	list_init(&k->unknown);
	timer_start(s, &k->flush, FLUSH_MS, flush, k);
	return k;
}

void api_keys_close(struct api_keys *k)
{
	if (k == NULL)
		return;
	IS_A(k, KEYS_MAGIC);
	timer_stop(&k->flush);
	for (int known = 0; known < 2; known++)
		LIST_EACH(n, next, known ? &k->known : &k->unknown)
			drop(CONTAINER_OF(n, struct key, node));
	hash_clear(&k->by_sha);
	NOT_A_MORE(k, KEYS_MAGIC);
	free(k);
}

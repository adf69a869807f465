/* lookup_store.c - see lookup_store.h.
 *
 * Positions are kept for 1024 groups of keys per kind: groups share the highest, which costs a read
 * of the database now and then, never a stale answer. */
#include "lookup_store.h"
#include "clock.h"
#include "crypto.h"
#include "hash.h"
#include "list.h"
#include "log.h"
#include "redis.h"
#include "service.h"

enum { GROUPS = 1024, MAX_KEYS = 512, MAX_VALUE = 65536, MAX_CELLS = 4096, MAX_NAME = 4096, VERSION = 1 };
#define NOT_YET UINT64_MAX              /* a notice came, the position is being asked for */

struct kind {
	struct store_kind spec;
	char     version[17];           /* digest of the statement */
	bool     renewing;              /* a new epoch is on its way */
	unsigned renewals;              /* wanted so far; 0: none */
	unsigned renewed;               /* of them, the last one done */
	uint64_t least;                 /* stamp, for all of the kind */
	uint64_t least_of[GROUPS];
};

struct lookup_store {
	unsigned magic;
	struct service *s;
	struct redis *redis;
	size_t n;
	char   database[64];
	bool   placed;
	struct kind kind[STORE_KINDS_MAX];
};
enum { STORE_MAGIC = 0x5704e };

struct header {
	unsigned char digest[8];        /* of name and all that follows: what was cut or altered is none */
	uint32_t magic;
	uint16_t rows, columns;
	uint64_t epoch, stamp;
	int64_t  born_unix_ms;
};
enum { HEADER_MAGIC = 0x57424c00 + VERSION };

/* --- names ---------------------------------------------------------------------------------------- */

static void name_of(const struct lookup_store *st, const struct kind *k, struct str key, struct buf *out)
{
	buf_printf(out, "waddle:%s:%s:%s:", st->database, k->spec.name, k->version);
	buf_add(out, key);
}

static void name_of_epoch(const struct lookup_store *st, const struct kind *k, struct buf *out)
{
	buf_printf(out, "waddle:%s:%s:epoch", st->database, k->spec.name);
}

static uint64_t *group_of(struct kind *k, struct str key)
{
	return &k->least_of[hash_of(key) % GROUPS];
}

/* --- epochs --------------------------------------------------------------------------------------- */

static void renew(struct lookup_store *st, struct kind *k);
struct renewal { struct lookup_store *st; struct kind *k; unsigned which; };

static void renewal_done(void *arg, const struct redis_answer *a)
{
	struct renewal *w = arg;
	struct kind *k = w->k;

	k->renewing = false;
	if (a != NULL && a->ok)
		k->renewed = w->which;
	if (k->renewed != k->renewals && redis_up(w->st->redis) && a != NULL && a->ok)
		renew(w->st, k);                /* another was wanted meanwhile */
	free(w);
}

/* What fails is tried again when the connection is up, and with the next notice. */
static void renew(struct lookup_store *st, struct kind *k)
{
	struct buf name = BUF(MAX_NAME);
	struct renewal *w;
	unsigned char dice[8];
	char text[20];
	uint64_t n;

	if (!st->placed || k->renewing || k->renewed == k->renewals)
		return;
	crypto_random(dice, sizeof dice);
	memcpy(&n, dice, sizeof n);
	(void)snprintf(text, sizeof text, "%llu", (unsigned long long)(n >> 2 | 1));
	name_of_epoch(st, k, &name);
	w = XNEW(struct renewal);
	*w = (struct renewal){ st, k, k->renewals };
	k->renewing = redis_send(st->redis, (const struct str[]){ STR("SET"), { name.p, name.n }, str_of(text) }, 3,
	                         renewal_done, w) == 0;
	if (!k->renewing)
		free(w);
	buf_clear(&name);
}

static void renew_all(void *arg)
{
	struct lookup_store *st = arg;

	for (size_t i = 0; i < st->n; i++)
		renew(st, &st->kind[i]);
}

static void want_renewal(struct lookup_store *st, struct kind *k)
{
	k->renewals++;
	renew(st, k);
}

/* --- notices -------------------------------------------------------------------------------------- */

static void deleted(void *arg, const struct redis_answer *a)
{
	struct renewal *w = arg;

	if (a == NULL || !a->ok)
		want_renewal(w->st, w->k);      /* it may still be there */
	free(w);
}

void store_drop(struct lookup_store *st, unsigned kind, struct str key)
{
	struct kind *k;
	struct buf name = BUF(MAX_NAME);
	struct renewal *w;

	if (st == NULL)
		return;
	IS_A(st, STORE_MAGIC);
	k = &st->kind[kind];
	if (key.n == 0) {
		k->least = NOT_YET;
		want_renewal(st, k);
		return;
	}
	*group_of(k, key) = NOT_YET;
	if (!st->placed || k->renewed != k->renewals)
		return;                         /* all of it is void anyway */
	name_of(st, k, key, &name);
	w = XNEW(struct renewal);
	*w = (struct renewal){ .st = st, .k = k };
	if (redis_send(st->redis, (const struct str[]){ STR("DEL"), { name.p, name.n } }, 2, deleted, w) != 0) {
		free(w);
		want_renewal(st, k);
	}
	buf_clear(&name);
}

void store_position(struct lookup_store *st, struct str database, uint64_t lsn)
{
	if (st == NULL || lsn == 0 || database.n == 0 || database.n >= sizeof st->database)
		return;
	IS_A(st, STORE_MAGIC);
	if (!str_eq(database, str_of(st->database))) {
		memcpy(st->database, database.p, database.n);
		st->database[database.n] = '\0';
		st->placed = true;
		for (size_t i = 0; i < st->n; i++)
			want_renewal(st, &st->kind[i]);
	}
	for (size_t i = 0; i < st->n; i++) {
		struct kind *k = &st->kind[i];

		if (k->least == NOT_YET)
			k->least = lsn;
		for (size_t g = 0; g < GROUPS; g++)
			if (k->least_of[g] == NOT_YET)
				k->least_of[g] = lsn;
	}
}

/* --- entries -------------------------------------------------------------------------------------- */

static void digest(struct str name, struct str value, unsigned char out[8])
{
	struct buf all = BUF(MAX_NAME + MAX_VALUE);
	unsigned char sum[CRYPTO_SHA256];

	buf_add(&all, name);
	buf_add(&all, (struct str){ value.p + 8, value.n - 8 });
	crypto_sha256((struct str){ all.p, all.n }, sum);
	memcpy(out, sum, 8);
	buf_clear(&all);
}

/* False: not an entry, or one that is void. */
static bool decode(struct lookup_store *st, struct kind *k, struct str key, struct str value, uint64_t epoch,
                   struct stored *ret)
{
	struct str cells[MAX_CELLS];
	struct buf name = BUF(MAX_NAME);
	struct header h;
	unsigned char want[8];
	size_t at = sizeof h, n;
	int64_t age;

	if (value.n < sizeof h || value.n > MAX_VALUE)
		return false;
	memcpy(&h, value.p, sizeof h);
	if (h.magic != HEADER_MAGIC || h.epoch != epoch || h.stamp < k->least || h.stamp < *group_of(k, key))
		return false;
	name_of(st, k, key, &name);
	digest((struct str){ name.p, name.n }, value, want);
	buf_clear(&name);
	age = clock_unix_ms() - h.born_unix_ms;
	n = (size_t)h.rows * h.columns;
	if (memcmp(want, h.digest, sizeof want) != 0 || n > MAX_CELLS ||
	    age >= (h.rows > 0 ? k->spec.ttl_ms : k->spec.ttl_none_ms))
		return false;
	for (size_t i = 0; i < n; i++) {
		int32_t len;

		if (value.n - at < sizeof len)
			return false;
		memcpy(&len, value.p + at, sizeof len);
		at += sizeof len;
		if (len < 0) {
			cells[i] = STR_NONE;
			continue;
		}
		if (value.n - at < (size_t)len)
			return false;
		cells[i] = (struct str){ value.p + at, (size_t)len };
		at += (size_t)len;
	}
	*ret = (struct stored){ .found = true, .age_ms = age > 0 ? age : 0 };
	if (h.rows > 0)
		ret->rows = db_made(h.rows, h.columns, cells);
	return true;
}

struct get {
	struct lookup_store *st;
	struct kind *k;
	const struct str *keys;
	size_t n;
	store_got *got;
	void *arg;
};

static void answered(void *arg, const struct redis_answer *a)
{
	struct get *g = arg;
	struct kind *k = g->k;
	struct stored at[MAX_KEYS] = { 0 };
	uint64_t epoch = 0;
	int64_t n = 0;

	if (a != NULL && a->ok && a->n_values == g->n + 1 && k->renewed == k->renewals) {
		if (str_int(a->values[0], 1, INT64_MAX, &n) == 0)
			epoch = (uint64_t)n;
		else
			want_renewal(g->st, k); /* forgotten, or never there: whatever is there is void */
	}
	for (size_t i = 0; epoch != 0 && i < g->n; i++)
		if (a->values[i + 1].p == NULL ||
		    !decode(g->st, k, g->keys[i], a->values[i + 1], epoch, &at[i]))
			at[i].found = false;
	g->got(g->arg, at, epoch);
	free(g);
}

bool store_get(struct lookup_store *st, unsigned kind, const struct str *keys, size_t n, store_got *got, void *arg)
{
	struct str words[MAX_KEYS + 2] = { STR("MGET") };
	size_t start[MAX_KEYS + 2];
	struct buf names = BUF(4 << 20);
	struct kind *k;
	struct get *g;
	bool sent;

	if (st == NULL)
		return false;
	IS_A(st, STORE_MAGIC);
	ASSERT(n > 0 && n <= MAX_KEYS);
	k = &st->kind[kind];
	if (!st->placed || !redis_up(st->redis))
		return false;
	if (k->renewed != k->renewals) {
		renew(st, k);
		return false;
	}
	if (k->least == NOT_YET)
		return false;
	start[1] = 0;
	name_of_epoch(st, k, &names);
	for (size_t i = 0; i < n; i++) {
		start[i + 2] = names.n;
		name_of(st, k, keys[i], &names);
	}
	if (names.failed != 0) {
		buf_clear(&names);
		return false;
	}
	for (size_t i = 1; i < n + 2; i++)
		words[i] = (struct str){ names.p + start[i], (i + 1 < n + 2 ? start[i + 1] : names.n) - start[i] };
	g = XNEW(struct get);
	*g = (struct get){ st, k, keys, n, got, arg };
	sent = redis_send(st->redis, words, n + 2, answered, g) == 0;
	if (!sent)
		free(g);
	buf_clear(&names);
	return sent;
}

void store_put(struct lookup_store *st, unsigned kind, struct str key, const struct db_result *res, int row, int n,
               uint64_t epoch, uint64_t stamp)
{
	struct buf name = BUF(MAX_NAME), value = BUF(MAX_VALUE);
	struct header h = {
		.magic = HEADER_MAGIC, .rows = (uint16_t)n, .columns = (uint16_t)(n > 0 ? db_columns(res) : 0),
		.epoch = epoch, .stamp = stamp, .born_unix_ms = clock_unix_ms(),
	};
	struct kind *k;
	char ttl[24];

	if (st == NULL || epoch == 0 || n > MAX_CELLS || (n > 0 && n * db_columns(res) > MAX_CELLS))
		return;
	IS_A(st, STORE_MAGIC);
	k = &st->kind[kind];
	if (k->renewed != k->renewals || stamp < k->least || stamp < *group_of(k, key))
		return;                         /* void already */
	buf_add(&value, (struct str){ (const char *)&h, sizeof h });
	for (int i = row; i < row + n; i++)
		for (int c = 0; c < h.columns; c++) {
			struct str cell = db_str(res, i, c);
			int32_t len = db_null(res, i, c) ? -1 : (int32_t)cell.n;

			buf_add(&value, (struct str){ (const char *)&len, sizeof len });
			buf_add(&value, cell);
		}
	name_of(st, k, key, &name);
	if (value.failed == 0 && name.failed == 0) {    /* a larger one stays in memory alone */
		digest((struct str){ name.p, name.n }, (struct str){ value.p, value.n }, h.digest);
		memcpy(value.p, h.digest, sizeof h.digest);
		(void)snprintf(ttl, sizeof ttl, "%lld",
		               (long long)(n > 0 ? k->spec.ttl_ms : k->spec.ttl_none_ms));
		(void)!redis_send(st->redis,
		                  (const struct str[]){ STR("SET"), { name.p, name.n }, { value.p, value.n },
		                                        STR("PX"), str_of(ttl) },
		                  5, NULL, NULL);
	}
	buf_clear(&name);
	buf_clear(&value);
}

struct lookup_store *store_open(struct service *s, struct str url, int timeout_ms, const struct store_kind *kinds,
                                size_t n, struct err *err)
{
	struct lookup_store *st = XNEW(struct lookup_store);
	struct redis_conf conf = { .url = url, .timeout_ms = timeout_ms, .up = renew_all, .arg = st };

	ASSERT(n <= STORE_KINDS_MAX);
	MAKE_A(st, STORE_MAGIC);
	st->s = s;
	st->n = n;
	for (size_t i = 0; i < n; i++) {
		unsigned char sum[CRYPTO_SHA256];

		st->kind[i].spec = kinds[i];
		st->kind[i].least = NOT_YET;
		crypto_sha256(str_of(kinds[i].sql), sum);
		for (int b = 0; b < 8; b++)
			(void)snprintf(st->kind[i].version + 2 * b, 3, "%02x", sum[b]);
	}
	st->redis = redis_open(s, &conf, err);
	if (st->redis == NULL) {
		free(st);
		return NULL;
	}
	return st;
}

void store_close(struct lookup_store *st)
{
	if (st == NULL)
		return;
	IS_A(st, STORE_MAGIC);
	redis_close(st->redis);
	NOT_A_MORE(st, STORE_MAGIC);
	free(st);
}

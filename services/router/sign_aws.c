/* sign_aws.c - AWS Signature Version 4: a canonical form of the request, its hash, and a key for the
 * day, region and service derived by HMAC.  libcurl could sign too, but its date cannot be set, so
 * nothing could compare it with the vectors AWS publishes. */
#include "sign.h"

enum { HEADERS_MAX = 32, QUERY_MAX = 128, CANONICAL_MAX = 64 * 1024 };

static int by_name(const void *a, const void *b)
{
	const struct url_pair *x = a, *y = b;
	size_t n = x->name.n < y->name.n ? x->name.n : y->name.n;
	int c = n > 0 ? memcmp(x->name.p, y->name.p, n) : 0;

	if (c == 0 && x->name.n != y->name.n)
		c = x->name.n < y->name.n ? -1 : 1;
	if (c != 0 || x->value.n + y->value.n == 0)
		return c;
	n = x->value.n < y->value.n ? x->value.n : y->value.n;
	c = n > 0 ? memcmp(x->value.p, y->value.p, n) : 0;
	return c != 0 ? c : (x->value.n > y->value.n) - (x->value.n < y->value.n);
}

/* Each part escaped once more, as every service but S3 wants it. */
static void add_path(struct buf *b, struct str path)
{
	if (path.n == 0)
		buf_add(b, STR("/"));
	while (path.n > 0) {
		const char *slash = memchr(path.p, '/', path.n);
		size_t n = slash != NULL ? (size_t)(slash - path.p) : path.n;

		url_encode((struct str){ path.p, n }, b);
		if (slash != NULL) {
			buf_add(b, STR("/"));
			n++;
		}
		path = (struct str){ path.p + n, path.n - n };
	}
}

static struct str encoded(struct str in, struct arena *mem)
{
	struct buf b = BUF(CANONICAL_MAX);
	struct str raw, ret = STR_NONE;

	if (url_decode(in, false, mem, &raw) == 0) {
		url_encode(raw, &b);
		ret = arena_str(mem, (struct str){ b.p, b.failed == 0 ? b.n : 0 });
	}
	buf_clear(&b);
	return ret;
}

static int add_query(struct buf *b, struct str query, struct arena *mem)
{
	struct url_pair pair[QUERY_MAX];
	size_t n = 0;

	while (query.n > 0) {
		struct str value, one = str_cut(query, '&', &query), name = str_cut(one, '=', &value);

		if (n == QUERY_MAX)
			return -EINVAL;
		pair[n].name = encoded(name, mem);
		pair[n].value = encoded(value, mem);
		if (pair[n].name.p == NULL || pair[n].value.p == NULL)
			return -EINVAL;
		n++;
	}
	if (n > 1)
		qsort(pair, n, sizeof pair[0], by_name);
	for (size_t i = 0; i < n; i++)
		buf_printf(b, "%s" STR_FMT "=" STR_FMT, i > 0 ? "&" : "", STR_ARG(pair[i].name),
		           STR_ARG(pair[i].value));
	return 0;
}

/* Lower case, blanks at the ends gone and one in the middle. */
static void add_headers(struct buf *b, const struct url_pair *in, size_t n, struct arena *mem, struct str *names)
{
	struct url_pair at[HEADERS_MAX];
	struct buf list = BUF(4096);

	ASSERT(n <= HEADERS_MAX);
	for (size_t i = 0; i < n; i++) {
		char *name = arena_alloc(mem, in[i].name.n + 1);

		for (size_t c = 0; c < in[i].name.n; c++) {
			char ch = in[i].name.p[c];

			name[c] = ch >= 'A' && ch <= 'Z' ? (char)(ch + 32) : ch;
		}
		at[i] = (struct url_pair){ { name, in[i].name.n }, str_trim(in[i].value) };
	}
	qsort(at, n, sizeof at[0], by_name);
	for (size_t i = 0; i < n; i++) {
		buf_printf(b, STR_FMT ":", STR_ARG(at[i].name));
		for (size_t c = 0; c < at[i].value.n; c++)
			if (at[i].value.p[c] != ' ' || at[i].value.p[c - 1] != ' ')
				buf_add(b, (struct str){ at[i].value.p + c, 1 });
		buf_add(b, STR("\n"));
		buf_printf(&list, "%s" STR_FMT, i > 0 ? ";" : "", STR_ARG(at[i].name));
	}
	*names = arena_str(mem, (struct str){ list.p, list.n });
	buf_clear(&list);
}

static void hash_hex(struct str data, char hex[2 * CRYPTO_SHA256 + 1])
{
	unsigned char sum[CRYPTO_SHA256];

	crypto_sha256(data, sum);
	crypto_hex(sum, sizeof sum, hex);
}

static int signature(const struct aws *k, struct str day, struct str text, char hex[2 * CRYPTO_SHA256 + 1],
                     struct arena *mem)
{
	const struct str steps[] = { day, k->region, k->service, STR("aws4_request"), text };
	struct str key = arena_printf(mem, "AWS4" STR_FMT, STR_ARG(k->secret_key));
	unsigned char mac[2][CRYPTO_SHA256];
	int r = key.p != NULL ? 0 : -ENOBUFS;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(steps); i++) {
		r = crypto_hmac(key, &steps[i], 1, mac[i % 2]);
		key = (struct str){ (const char *)mac[i % 2], CRYPTO_SHA256 };
	}
	if (r == 0)
		crypto_hex(key.p, key.n, hex);
	crypto_wipe(mac, sizeof mac);
	return r;
}

int sign_aws(const struct aws *key, const char *method, const struct url *u, const struct url_pair *headers,
             size_t n, struct str date, struct str body, struct arena *mem, struct str *ret)
{
	struct buf canonical = BUF(CANONICAL_MAX);
	char hash[2 * CRYPTO_SHA256 + 1];
	struct str names, scope, text, day = { date.p, date.n < 8 ? date.n : 8 };
	int r;

	buf_printf(&canonical, "%s\n", method);
	add_path(&canonical, u->path);
	buf_add(&canonical, STR("\n"));
	r = add_query(&canonical, u->query, mem);
	buf_add(&canonical, STR("\n"));
	add_headers(&canonical, headers, n, mem, &names);
	hash_hex(body, hash);
	buf_printf(&canonical, "\n" STR_FMT "\n%s", STR_ARG(names), hash);
	if (r == 0)
		r = canonical.failed;
	if (r == 0) {
		hash_hex((struct str){ canonical.p, canonical.n }, hash);
		scope = arena_printf(mem, STR_FMT "/" STR_FMT "/" STR_FMT "/aws4_request", STR_ARG(day),
		                     STR_ARG(key->region), STR_ARG(key->service));
		text = arena_printf(mem, "AWS4-HMAC-SHA256\n" STR_FMT "\n" STR_FMT "\n%s", STR_ARG(date),
		                    STR_ARG(scope), hash);
		r = signature(key, day, text, hash, mem);
		*ret = arena_printf(mem,
		                    "AWS4-HMAC-SHA256 Credential=" STR_FMT "/" STR_FMT
		                    ", SignedHeaders=" STR_FMT ", Signature=%s",
		                    STR_ARG(key->access_key), STR_ARG(scope), STR_ARG(names), hash);
		if (r == 0 && ret->p == NULL)
			r = -ENOBUFS;
	}
	buf_clear(&canonical);
	return r;
}

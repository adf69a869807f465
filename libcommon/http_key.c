/* http_key.c - who calls: the key from its header, the verdict from whoever keeps the keys. */
#include "crypto.h"
#include "http_int.h"

enum { KEY_TEXT = 5 + 43 };             /* "wbot_" and 256 bits in URL-safe characters */

static bool key_form_ok(struct str key)
{
	if (key.n != KEY_TEXT || !str_starts(key, STR("wbot_")))
		return false;
	for (size_t i = 5; i < key.n; i++) {
		char c = key.p[i];

		if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
		      c == '-' || c == '_'))
			return false;
	}
	return true;
}

/* X-API-Key: wbot_...  or  Authorization: Bearer wbot_...; not both, not twice. */
static struct str key_of(const struct http_req *r)
{
	size_t n, m;
	struct str key = http_head_field(&r->head, "x-api-key", &n);
	struct str bearer = http_head_field(&r->head, "authorization", &m), scheme;

	if (n + m != 1)
		return STR_NONE;
	if (n == 1)
		return key;
	scheme = str_cut(bearer, ' ', &bearer);
	return str_eq_fold(scheme, STR("bearer")) ? str_trim(bearer) : STR_NONE;
}

static void unauthorized(struct http_req *r)
{
	http_count(WHY_KEY);
	req_set(r, "WWW-Authenticate", STR("Bearer"));
	http_refuse(r, 401, NULL, "A valid key is needed in X-API-Key or as Bearer token.", NULL, 0);
}

void http_keys(struct http *h, http_key_check *check, void *arg)
{
	IS_A(h, HTTP_MAGIC);
	h->key_check = check;
	h->key_arg = arg;
}

unsigned http_auth_of(const struct http_req *r) { return r->path->route->auth; }

void req_key(struct http_req *r)
{
	unsigned char sha[CRYPTO_SHA256];
	struct http *h = r->http;
	struct str key = key_of(r);

	if (!key_form_ok(key)) {
		unauthorized(r);
		return;
	}
	if (h->key_check == NULL) {
		http_refuse(r, 503, NULL, "Keys cannot be checked here.", NULL, 0);
		return;
	}
	crypto_sha256(key, sha);
	r->state = REQ_KEY;
	conn_work(r->conn);
	h->key_check(h->key_arg, r, sha);
	crypto_wipe(sha, sizeof(sha));
}

void http_key_verdict(struct http_req *r, const struct http_verdict *v)
{
	IS_A(r, REQ_MAGIC);
	ASSERT(r->state == REQ_KEY);
	r->state = REQ_READING;
	if (r->conn == NULL) {                  /* the client left meanwhile, or was told 503 */
		req_drop(r);
		return;
	}
	switch (v->state) {
	case HTTP_KEY_KNOWN:
		if ((r->path->route->auth & v->type) == 0) {
			http_count(WHY_KEY);
			http_refuse(r, 403, "KEY_TYPE", "This key is of a type that may not call this.", NULL,
			            0);
			return;
		}
		r->key_id = v->id;
		req_admitted(r);
		break;
	case HTTP_KEY_UNKNOWN:
		unauthorized(r);
		break;
	case HTTP_KEY_SPENT: {
		struct str after = arena_printf(r->mem, "%lld",
		                                (long long)(v->retry_after_s > 1 ? v->retry_after_s : 1));

		http_count(WHY_KEY);
		req_set(r, "Retry-After", after);
		http_refuse(r, 429, NULL, "The budget of this key is used up.", NULL, 0);
		break;
	}
	case HTTP_KEY_UNCHECKED:
		http_refuse(r, 503, NULL, "The key cannot be checked at the moment.", NULL, 0);
		break;
	}
}

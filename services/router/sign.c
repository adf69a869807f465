/* sign.c - Standard Webhooks 1.0 (github.com/standard-webhooks) and the older header beside it.
 *
 * The one keys with the bytes that the secret's base64 stands for and covers id, time and body; the
 * other with the secret's text and covers the body. */
#include "sign.h"

enum { SECRET_BYTES = 32, SECRET_MAX = 64 };
static const char scheme[] = "whsec_";

struct str sign_secret_new(struct arena *mem)
{
	unsigned char raw[SECRET_BYTES];
	char text[CRYPTO_BASE64(SECRET_BYTES)];
	struct str ret;

	crypto_random(raw, sizeof raw);
	(void)crypto_base64(BASE64, (struct str){ (const char *)raw, sizeof raw }, text);
	ret = arena_printf(mem, "%s%s", scheme, text);
	crypto_wipe(raw, sizeof raw);
	crypto_wipe(text, sizeof text);
	return ret;
}

struct str sign_place(struct arena *mem, const char *column, int64_t row)
{
	return arena_printf(mem, "%s:%lld", column, (long long)row);
}

static int sign_one(struct str secret, const struct str *parts, size_t n, struct buf *standard, struct buf *plain)
{
	unsigned char key[SECRET_MAX], mac[CRYPTO_SHA256];
	char text[CRYPTO_BASE64(CRYPTO_SHA256)], hex[2 * CRYPTO_SHA256 + 1];
	struct str coded = { secret.p + sizeof scheme - 1, secret.n - (sizeof scheme - 1) };
	size_t key_n = 0;
	int r;

	if (!str_starts(secret, str_of(scheme)) ||
	    crypto_unbase64(BASE64, coded, key, sizeof key, &key_n) != 0)
		return -EINVAL;
	r = crypto_hmac((struct str){ (const char *)key, key_n }, parts, n, mac);
	crypto_wipe(key, sizeof key);
	if (r != 0)
		return r;
	(void)crypto_base64(BASE64, (struct str){ (const char *)mac, sizeof mac }, text);
	buf_printf(standard, "%sv1,%s", standard->n > 0 ? " " : "", text);
	r = crypto_hmac(secret, &parts[n - 1], 1, mac);
	crypto_hex(mac, sizeof mac, hex);
	buf_printf(plain, "%ssha256=%s", plain->n > 0 ? "," : "", hex);
	return r;
}

int sign_webhook(const struct str *secrets, size_t n, struct str id, int64_t unix_s, struct str body,
                 struct arena *mem, struct str ret[SIGN_HEADERS])
{
	struct buf standard = BUF(512), plain = BUF(512);
	char at[24];
	int len = snprintf(at, sizeof at, "%lld", (long long)unix_s), r = n > 0 ? 0 : -EINVAL;
	const struct str parts[] = { id, STR("."), { at, (size_t)len }, STR("."), body };

	for (size_t i = 0; r == 0 && i < n; i++)
		r = sign_one(secrets[i], parts, ARRAY_LEN(parts), &standard, &plain);
	if (r == 0) {
		ret[0] = arena_printf(mem, "webhook-id: " STR_FMT, STR_ARG(id));
		ret[1] = arena_printf(mem, "webhook-timestamp: %s", at);
		ret[2] = arena_printf(mem, "webhook-signature: %.*s", (int)standard.n, standard.p);
		ret[3] = arena_printf(mem, "X-WaddleBot-Signature: %.*s", (int)plain.n, plain.p);
		for (size_t i = 0; i < SIGN_HEADERS; i++)
			r = ret[i].p == NULL ? -ENOBUFS : r;
	}
	buf_clear(&standard);
	buf_clear(&plain);
	return r;
}

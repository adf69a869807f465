/* crypto.c - hashes, signatures, random bytes.  Contexts are made once and used again: making one
 * costs more than hashing a chat line with it.  One thread, see architecture.md 4. */
#include "crypto.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "clock.h"
#include "err.h"

enum { ED25519_MAGIC = 0xed255190, ED25519_KEY = 32, ED25519_SIGNATURE = 64 };

struct ed25519 {
	unsigned magic;
	EVP_PKEY *key;
};

bool crypto_equal(const void *a, const void *b, size_t n)
{
	return CRYPTO_memcmp(a, b, n) == 0;
}

void crypto_wipe(void *p, size_t n)
{
	OPENSSL_cleanse(p, n);
}

void crypto_random(void *p, size_t n)
{
	ASSERT(n <= INT_MAX && RAND_bytes(p, (int)n) == 1);
}

/* Nothing here can fail but for want of memory or of a usable OpenSSL. */
static void hash(EVP_MD_CTX *ctx, const EVP_MD *md, const struct str *parts, size_t n, unsigned char *out)
{
	ASSERT(EVP_DigestInit_ex2(ctx, md, NULL) == 1);
	for (size_t i = 0; i < n; i++)
		if (parts[i].n > 0)
			ASSERT(EVP_DigestUpdate(ctx, parts[i].p, parts[i].n) == 1);
	ASSERT(EVP_DigestFinal_ex(ctx, out, NULL) == 1);
}

void crypto_sha256(struct str data, unsigned char out[CRYPTO_SHA256])
{
	static EVP_MD_CTX *ctx;
	static EVP_MD *md;

	if (ctx == NULL) {
		ctx = EVP_MD_CTX_new();
		md = EVP_MD_fetch(NULL, "SHA256", NULL);
	}
	ASSERT(ctx != NULL && md != NULL);
	hash(ctx, md, &data, 1, out);
}

/* UUIDv5(URL namespace, "urn:waddlebot:ids:v1"), router.md section 1. */
static const unsigned char our_ids[16] = {
	0x9a, 0x8c, 0x72, 0x5e, 0xc8, 0xec, 0x51, 0x85, 0xb8, 0xab, 0xb5, 0xf5, 0x24, 0x8e, 0x91, 0x09,
};

void crypto_uuid_text(const unsigned char bytes[16], int version, char out[37])
{
	unsigned char b[16];
	char hex[33];

	memcpy(b, bytes, sizeof(b));
	b[6] = (unsigned char)((b[6] & 0x0f) | version << 4);
	b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
	crypto_hex(b, sizeof(b), hex);
	memcpy(out, hex, 8);
	memcpy(out + 9, hex + 8, 4);
	memcpy(out + 14, hex + 12, 4);
	memcpy(out + 19, hex + 16, 4);
	memcpy(out + 24, hex + 20, 12);
	out[8] = out[13] = out[18] = out[23] = '-';
	out[36] = '\0';
}

/* SHA-1 because the RFC says so: names, not secrets. */
void crypto_uuid5(const struct str *parts, size_t n, char out[37])
{
	static EVP_MD_CTX *begun, *ctx; /* begun: the namespace is hashed already */
	unsigned char digest[20];

	if (begun == NULL) {
		EVP_MD *md = EVP_MD_fetch(NULL, "SHA1", NULL);

		begun = EVP_MD_CTX_new();
		ctx = EVP_MD_CTX_new();
		ASSERT(md != NULL && begun != NULL && ctx != NULL);
		ASSERT(EVP_DigestInit_ex2(begun, md, NULL) == 1);
		ASSERT(EVP_DigestUpdate(begun, our_ids, sizeof(our_ids)) == 1);
		EVP_MD_free(md);
	}
	ASSERT(EVP_MD_CTX_copy_ex(ctx, begun) == 1);
	for (size_t i = 0; i < n; i++)
		if (parts[i].n > 0)
			ASSERT(EVP_DigestUpdate(ctx, parts[i].p, parts[i].n) == 1);
	ASSERT(EVP_DigestFinal_ex(ctx, digest, NULL) == 1);
	crypto_uuid_text(digest, 5, out);
}

struct str crypto_token(const char *prefix, struct arena *mem)
{
	unsigned char secret[32];
	char text[CRYPTO_BASE64(sizeof(secret))];
	struct str s;

	crypto_random(secret, sizeof(secret));
	crypto_base64(BASE64URL, (struct str){ (const char *)secret, sizeof(secret) }, text);
	s = arena_printf(mem, "%s%s", prefix, text);
	crypto_wipe(secret, sizeof(secret));
	crypto_wipe(text, sizeof(text));
	return s;
}

bool crypto_secret_ok(struct str secret)
{
	return secret.n >= CRYPTO_SECRET_MIN;
}

int crypto_hmac(struct str secret, const struct str *parts, size_t n, unsigned char out[CRYPTO_SHA256])
{
	static EVP_MAC_CTX *ctx;
	char name[] = "SHA256";
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0),
		OSSL_PARAM_construct_end(),
	};
	size_t len;

	memset(out, 0, CRYPTO_SHA256);
	if (!crypto_secret_ok(secret))
		return -EINVAL;
	if (ctx == NULL) {
		EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);

		ctx = EVP_MAC_CTX_new(mac);
		EVP_MAC_free(mac);
	}
	ASSERT(ctx != NULL);
	ASSERT(EVP_MAC_init(ctx, (const unsigned char *)secret.p, secret.n, params) == 1);
	for (size_t i = 0; i < n; i++)
		if (parts[i].n > 0)
			ASSERT(EVP_MAC_update(ctx, (const unsigned char *)parts[i].p, parts[i].n) == 1);
	ASSERT(EVP_MAC_final(ctx, out, &len, CRYPTO_SHA256) == 1);
	return 0;
}

/* The work does not depend on where the first wrong digit is; that the form is wrong is no secret. */
int crypto_hmac_check(struct str secret, const struct str *parts, size_t n, struct str prefix,
		      struct str given)
{
	unsigned char right[CRYPTO_SHA256], theirs[CRYPTO_SHA256];
	bool same;

	if (!str_starts(given, prefix))
		return -EACCES;
	given = (struct str){ given.p + prefix.n, given.n - prefix.n };
	if (crypto_unhex(given, theirs, sizeof(theirs)) != 0 || crypto_hmac(secret, parts, n, right) != 0)
		return -EACCES;
	same = crypto_equal(right, theirs, sizeof(right));
	crypto_wipe(right, sizeof(right));
	return same ? 0 : -EACCES;
}

struct ed25519 *crypto_ed25519_open(struct str hex_key, struct err *err)
{
	const unsigned char zero[ED25519_KEY] = { 0 };
	unsigned char raw[ED25519_KEY];
	struct ed25519 *key;
	EVP_PKEY *pkey;

	if (crypto_unhex(hex_key, raw, sizeof(raw)) != 0 || memcmp(raw, zero, sizeof(raw)) == 0) {
		err_set(err, -EINVAL, "an Ed25519 key is 64 hexadecimal digits");
		return NULL;
	}
	pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, raw, sizeof(raw));
	if (pkey == NULL) {
		ERR_clear_error();
		err_set(err, -EINVAL, "not an Ed25519 key");
		return NULL;
	}
	key = XNEW(struct ed25519);
	MAKE_A(key, ED25519_MAGIC);
	key->key = pkey;
	return key;
}

/* A fresh init each time: using a context again without one works on OpenSSL 3.0 and fails on 3.5.
 * A refusal leaves an entry in 3.5's error queue, where the next TLS call would find it. */
int crypto_ed25519_check(const struct ed25519 *key, struct str timestamp, struct str body,
			 struct str hex_signature)
{
	unsigned char signature[ED25519_SIGNATURE];
	struct buf signed_text = BUF(timestamp.n + body.n);
	EVP_MD_CTX *ctx;
	struct str s = STR_NONE;
	bool right;

	IS_A(key, ED25519_MAGIC);
	if (crypto_unhex(hex_signature, signature, sizeof(signature)) != 0)
		return -EACCES;
	buf_add(&signed_text, timestamp); /* Ed25519 wants the whole text at once */
	buf_add(&signed_text, body);
	ctx = EVP_MD_CTX_new();
	right = ctx != NULL && buf_str(&signed_text, &s) == 0 &&
		EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key->key) == 1 &&
		EVP_DigestVerify(ctx, signature, sizeof(signature),
				 (const unsigned char *)(s.p != NULL ? s.p : ""), s.n) == 1;
	ERR_clear_error();
	EVP_MD_CTX_free(ctx);
	buf_clear(&signed_text);
	return right ? 0 : -EACCES;
}

void crypto_ed25519_close(struct ed25519 *key)
{
	if (key == NULL)
		return;
	EVP_PKEY_free(key->key);
	NOT_A_MORE(key, ED25519_MAGIC);
	free(key);
}

int crypto_fresh(struct str timestamp, int64_t window_ms)
{
	int64_t at_ms, off_ms;

	if (str_int(timestamp, 0, INT64_MAX / 1000, &at_ms) == 0)
		at_ms *= 1000;
	else if (clock_parse(timestamp, &at_ms) != 0)
		return -EINVAL;
	if (__builtin_sub_overflow(clock_unix_ms(), at_ms, &off_ms))
		return -ETIME;
	return off_ms > window_ms || off_ms < -window_ms ? -ETIME : 0;
}

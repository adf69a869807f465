/* crypto_seal.c - secrets at rest under AES-256-GCM, with old keys kept while rows are sealed anew.
 *
 * OpenSSL verifies a tag cut to one byte, and shows the text before it has looked at the tag: so
 * the tag is always 16 bytes, and what did not verify is wiped before anybody can see it. */
#include "crypto.h"
#include "err.h"

#include <openssl/err.h>
#include <openssl/evp.h>

#include "list.h"

enum { SEAL_MAGIC = 0x5ea10000, VERSION = 1, HEAD = 2, OVERHEAD = HEAD + CRYPTO_NONCE + CRYPTO_TAG };
#define SECRET_MAX ((size_t)65536)

struct seal {
	unsigned magic;
	uint8_t current;
	unsigned char known[256 / 8];       /* bit per key id */
	unsigned char key[256][CRYPTO_KEY]; /* 8 KiB once per process */
};

static void add_key(struct seal *s, const unsigned char key[CRYPTO_KEY], uint8_t key_id)
{
	memcpy(s->key[key_id], key, CRYPTO_KEY);
	s->known[key_id / 8] |= (unsigned char)(1u << key_id % 8);
}

struct seal *crypto_seal_open(const unsigned char key[CRYPTO_KEY], uint8_t key_id)
{
	struct seal *s = XNEW(struct seal);

	MAKE_A(s, SEAL_MAGIC);
	s->current = key_id;
	add_key(s, key, key_id);
	return s;
}

struct seal *crypto_seal_open_file(struct str path, struct err *err)
{
	unsigned char key[CRYPTO_KEY];
	char text[2 * CRYPTO_KEY + 2] = "";
	FILE *f = fopen(path.p, "re");
	struct seal *s = NULL;
	size_t n;

	if (f == NULL) {
		(void)!err_sys(err, "SEALING_KEY_FILE " STR_FMT, STR_ARG(path));
		return NULL;
	}
	n = fread(text, 1, sizeof text, f);
	fclose(f);
	if (crypto_unhex(str_trim((struct str){ text, strnlen(text, n) }), key, CRYPTO_KEY) == 0)
		s = crypto_seal_open(key, 1);
	else
		(void)!err_set(err, -EINVAL, "SEALING_KEY_FILE " STR_FMT ": not 64 hex digits", STR_ARG(path));
	crypto_wipe(text, sizeof text);
	crypto_wipe(key, sizeof key);
	return s;
}

void crypto_seal_old_key(struct seal *s, const unsigned char key[CRYPTO_KEY], uint8_t key_id)
{
	IS_A(s, SEAL_MAGIC);
	ASSERT(key_id != s->current);
	add_key(s, key, key_id);
}

void crypto_seal_close(struct seal *s)
{
	if (s == NULL)
		return;
	IS_A(s, SEAL_MAGIC);
	crypto_wipe(s, sizeof(*s));
	free(s);
}

struct str crypto_seal(const struct seal *s, struct str place, struct str secret, struct arena *mem)
{
	unsigned char *box;
	EVP_CIPHER_CTX *c;
	int len = 0, end = 0;

	IS_A(s, SEAL_MAGIC);
	if (secret.n > SECRET_MAX || place.n > SECRET_MAX)
		return STR_NONE;
	box = arena_try(mem, 1, OVERHEAD + secret.n);
	if (box == NULL)
		return STR_NONE;
	box[0] = VERSION;
	box[1] = s->current;
	crypto_random(box + HEAD, CRYPTO_NONCE);
	c = EVP_CIPHER_CTX_new();
	ASSERT(c != NULL &&
	       EVP_EncryptInit_ex2(c, EVP_aes_256_gcm(), s->key[s->current], box + HEAD, NULL) == 1);
	if (place.n > 0)
		ASSERT(EVP_EncryptUpdate(c, NULL, &len, (const unsigned char *)place.p, (int)place.n) == 1);
	len = 0;
	if (secret.n > 0)
		ASSERT(EVP_EncryptUpdate(c, box + HEAD + CRYPTO_NONCE, &len, (const unsigned char *)secret.p,
					 (int)secret.n) == 1);
	ASSERT(EVP_EncryptFinal_ex(c, box + HEAD + CRYPTO_NONCE + len, &end) == 1);
	ASSERT((size_t)len + (size_t)end == secret.n);
	ASSERT(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, CRYPTO_TAG,
				   box + OVERHEAD - CRYPTO_TAG + secret.n) == 1);
	EVP_CIPHER_CTX_free(c);
	return (struct str){ (const char *)box, OVERHEAD + secret.n };
}

/* The room of a secret in an arena, wiped when the arena forgets it. */
struct secret {
	size_t n;
	unsigned char text[];
};

static void wipe_secret(void *arg)
{
	struct secret *s = arg;

	crypto_wipe(s->text, s->n);
}

static bool open_box(const unsigned char key[CRYPTO_KEY], struct str place, const unsigned char *box,
		     size_t n, unsigned char *out)
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	unsigned char tag[CRYPTO_TAG];
	int len = 0, end = 0;
	bool ok;

	memcpy(tag, box + n - CRYPTO_TAG, CRYPTO_TAG);
	n -= OVERHEAD;
	ok = c != NULL && EVP_DecryptInit_ex2(c, EVP_aes_256_gcm(), key, box + HEAD, NULL) == 1 &&
	     EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, CRYPTO_TAG, tag) == 1 &&
	     (place.n == 0 ||
	      EVP_DecryptUpdate(c, NULL, &len, (const unsigned char *)place.p, (int)place.n) == 1) &&
	     (n == 0 || EVP_DecryptUpdate(c, out, &len, box + HEAD + CRYPTO_NONCE, (int)n) == 1) &&
	     EVP_DecryptFinal_ex(c, out + n, &end) == 1;
	EVP_CIPHER_CTX_free(c);
	ERR_clear_error();
	return ok;
}

int crypto_unseal(const struct seal *s, struct str place, struct str sealed, struct arena *mem,
		  struct str *ret)
{
	const unsigned char *box = (const unsigned char *)sealed.p;
	struct secret *secret;
	size_t mark = arena_mark(mem);

	IS_A(s, SEAL_MAGIC);
	*ret = STR_NONE;
	if (sealed.n < OVERHEAD || sealed.n - OVERHEAD > SECRET_MAX || place.n > SECRET_MAX ||
	    box[0] != VERSION)
		return -EBADMSG;
	if (!(s->known[box[1] / 8] & 1u << box[1] % 8))
		return -ENOKEY;
	secret = arena_try(mem, 1, sizeof(*secret) + sealed.n - OVERHEAD + 1);
	if (secret == NULL)
		return -ENOBUFS;
	secret->n = sealed.n - OVERHEAD;
	if (!open_box(s->key[box[1]], place, box, sealed.n, secret->text)) {
		crypto_wipe(secret->text, secret->n);
		arena_back(mem, mark);
		return -EBADMSG;
	}
	arena_defer(mem, wipe_secret, secret);
	*ret = (struct str){ (const char *)secret->text, secret->n };
	return 0;
}

bool crypto_seal_is_old(const struct seal *s, struct str sealed)
{
	return sealed.n >= HEAD && (uint8_t)sealed.p[1] != s->current;
}

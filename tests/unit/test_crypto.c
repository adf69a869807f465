/* Published vectors first, then what OpenSSL would let pass and crypto.h does not. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "common.h"

#include <openssl/err.h>

#include "clock.h"
#include "crypto.h"
#include "decode.h"
#include "err.h"
#include "ids.h"
#include "shared.h"

static struct arena *mem;

static int setup(void **state)
{
	(void)state;
	mem = arena_new(4096, 1 << 20);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	clock_real();
	arena_free(mem);
	assert_int_equal(ERR_peek_error(), 0); /* nothing left for the next TLS call to find */
	return 0;
}

static struct str bytes(const char *hex)
{
	size_t n = strlen(hex) / 2;
	char *p = arena_alloc(mem, n);

	assert_int_equal(crypto_unhex(str_of(hex), p, n), 0);
	return (struct str){ p, n };
}

static struct str repeated(int byte, size_t n)
{
	char *p = arena_alloc(mem, n);

	memset(p, byte, n);
	return (struct str){ p, n };
}

static void assert_hex(const void *p, size_t n, const char *is)
{
	char text[512];

	assert_true(2 * n < sizeof(text));
	crypto_hex(p, n, text);
	assert_string_equal(text, is);
}

/* FIPS 180-4, examples. */
static void sha256_gives_the_published_digests(void **state)
{
	unsigned char d[CRYPTO_SHA256];

	(void)state;
	crypto_sha256(STR("abc"), d);
	assert_hex(d, sizeof(d), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	crypto_sha256(STR_NONE, d);
	assert_hex(d, sizeof(d), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	crypto_sha256(STR("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"), d);
	assert_hex(d, sizeof(d), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

/* RFC 4231, test cases 1, 3, 4, 6, 7; case 2 has a key of four bytes, which is no secret here. */
static void hmac_gives_the_published_digests(void **state)
{
	const struct {
		struct str key, data;
		const char *is;
	} vectors[] = {
		{ repeated(0x0b, 20), STR("Hi There"),
		  "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7" },
		{ repeated(0xaa, 20), repeated(0xdd, 50),
		  "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe" },
		{ bytes("0102030405060708090a0b0c0d0e0f10111213141516171819"), repeated(0xcd, 50),
		  "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b" },
		{ repeated(0xaa, 131), STR("Test Using Larger Than Block-Size Key - Hash Key First"),
		  "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54" },
		{ repeated(0xaa, 131),
		  STR("This is a test using a larger than block-size key and a larger than "
		      "block-size data. The key needs to be hashed before being used by the "
		      "HMAC algorithm."),
		  "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2" },
	};
	unsigned char d[CRYPTO_SHA256];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		for (size_t cut = 0; cut <= vectors[i].data.n; cut++) { /* in two parts, anywhere */
			const struct str parts[] = {
				{ vectors[i].data.p, cut },
				{ vectors[i].data.p + cut, vectors[i].data.n - cut },
			};

			assert_int_equal(crypto_hmac(vectors[i].key, parts, 2, d), 0);
			assert_hex(d, sizeof(d), vectors[i].is);
		}
	}
}

static void a_short_secret_signs_nothing(void **state)
{
	const unsigned char zero[CRYPTO_SHA256] = { 0 };
	unsigned char d[CRYPTO_SHA256];
	struct str data = STR("data");
	char given[2 * CRYPTO_SHA256 + 1];

	(void)state;
	memset(d, 1, sizeof(d));
	assert_int_equal(crypto_hmac(STR("fifteen bytes.."), &data, 1, d), -EINVAL);
	assert_memory_equal(d, zero, sizeof(d));
	assert_int_equal(crypto_hmac(STR_NONE, &data, 1, d), -EINVAL);
	assert_int_equal(crypto_hmac(STR("sixteen bytes..."), &data, 1, d), 0);
	assert_false(crypto_secret_ok(STR_NONE));
	/* What anybody could compute for an unset secret. */
	crypto_hex("\xe5\x28\xc4\xd9\x9e\x61\x77\xf5\x84\x1f\x71\x2a\x14\x3b\x90\x84"
		   "\x32\x99\xa4\xaa\x18\x1a\x06\x50\x14\x22\xd9\xca\x86\x2b\xd2\xa5",
		   CRYPTO_SHA256, given);
	assert_int_equal(crypto_hmac_check(STR_NONE, &data, 1, STR_NONE, str_of(given)), -EACCES);
}

static void a_signature_is_right_only_in_full(void **state)
{
	const struct str secret = STR("a secret that is long enough"),
			 parts[] = { STR("id"), STR("time"), STR("body") };
	unsigned char d[CRYPTO_SHA256];
	char given[80] = "sha256=";

	(void)state;
	assert_int_equal(crypto_hmac(secret, parts, 3, d), 0);
	crypto_hex(d, sizeof(d), given + 7);
	assert_int_equal(crypto_hmac_check(secret, parts, 3, STR("sha256="), str_of(given)), 0);
	for (size_t i = 0; i < 71; i++) { /* each character is needed */
		char was = given[i];

		given[i] = (char)(was ^ 1);
		assert_int_equal(crypto_hmac_check(secret, parts, 3, STR("sha256="), str_of(given)), -EACCES);
		given[i] = was;
		assert_int_equal(
			crypto_hmac_check(secret, parts, 3, STR("sha256="), (struct str){ given, i }),
			-EACCES);
	}
	given[71] = '0'; /* and no more than these */
	assert_int_equal(crypto_hmac_check(secret, parts, 3, STR("sha256="), (struct str){ given, 72 }),
			 -EACCES);
	assert_int_equal(crypto_hmac_check(secret, parts, 3, STR("sha256="), STR_NONE), -EACCES);
	assert_int_equal(crypto_hmac_check(secret, parts, 2, STR("sha256="), (struct str){ given, 71 }),
			 -EACCES);
	assert_int_equal(crypto_hmac_check(STR("a secret that is long enougi"), parts, 3, STR("sha256="),
					   (struct str){ given, 71 }),
			 -EACCES);
}

/* RFC 8032 7.1, tests 1 to 3. */
static void ed25519_takes_the_published_signatures(void **state)
{
	static const struct {
		const char *key, *message, *signature;
	} vectors[] = {
		{ "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
		  "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701c"
		  "f9b46b"
		  "d25bf5f0595bbe24655141438e7a100b" },
		{ "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
		  "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0"
		  "f11d8c"
		  "387b2eaeb4302aeeb00d291612bb0c00" },
		{ "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
		  "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f76098"
		  "4dc659"
		  "4a7c15e9716ed28dc027beceea1ec40a" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		struct err err;
		struct ed25519 *key = crypto_ed25519_open(str_of(vectors[i].key), &err);
		struct str message = bytes(vectors[i].message), signature = str_of(vectors[i].signature);
		char bad[129];

		assert_non_null(key);
		for (int again = 0; again < 2; again++) {
			assert_int_equal(crypto_ed25519_check(key, STR_NONE, message, signature), 0);
			assert_int_equal(crypto_ed25519_check(key, message, STR_NONE, signature), 0);
			assert_int_equal(crypto_ed25519_check(key, message, STR("x"), signature), -EACCES);
		}
		for (size_t at = 0; at < 128; at += 9) {
			memcpy(bad, signature.p, 129);
			bad[at] = bad[at] == '0' ? '1' : '0';
			assert_int_equal(crypto_ed25519_check(key, STR_NONE, message, str_of(bad)), -EACCES);
		}
		assert_int_equal(
			crypto_ed25519_check(key, STR_NONE, message, (struct str){ signature.p, 126 }),
			-EACCES);
		assert_int_equal(crypto_ed25519_check(key, STR_NONE, message, STR_NONE), -EACCES);
		crypto_ed25519_close(key);
	}
}

static void ed25519_keys_are_64_digits_and_not_zero(void **state)
{
	static const char *const bad[] = {
		"",
		"d75a",
		"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f70751",
		"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a00",
		"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511g",
		"0000000000000000000000000000000000000000000000000000000000000000",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err err = { 0 };

		assert_null(crypto_ed25519_open(str_of(bad[i]), &err));
		assert_int_equal(err.code, -EINVAL);
	}
	crypto_ed25519_close(NULL);
}

/* McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 13 to 16 (256-bit keys),
 * also among NIST's examples: a box is version, key id, nonce, text, tag. */
static void unseal_opens_the_published_boxes(void **state)
{
	static const struct {
		const char *key, *place, *box, *text;
	} vectors[] = {
		{ "0000000000000000000000000000000000000000000000000000000000000000", "",
		  "0107"
		  "000000000000000000000000"
		  ""
		  "530f8afbc74536b9a963b4f1c4cb738b",
		  "" },
		{ "0000000000000000000000000000000000000000000000000000000000000000", "",
		  "0107"
		  "000000000000000000000000"
		  "cea7403d4d606b6e074ec5d3baf39d18"
		  "d0d1c8a799996bf0265b98b5d48ab919",
		  "00000000000000000000000000000000" },
		{ "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", "",
		  "0107"
		  "cafebabefacedbaddecaf888"
		  "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
		  "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
		  "b094dac5d93471bdec1a502270e3cc6c",
		  "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
		  "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255" },
		{ "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
		  "feedfacedeadbeeffeedfacedeadbeefabaddad2",
		  "0107"
		  "cafebabefacedbaddecaf888"
		  "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
		  "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
		  "76fc6ece0f4e1768cddf8853bb2d551b",
		  "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
		  "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		struct seal *s = crypto_seal_open((const unsigned char *)bytes(vectors[i].key).p, 7);
		struct str text;

		assert_int_equal(crypto_unseal(s, bytes(vectors[i].place), bytes(vectors[i].box), mem, &text),
				 0);
		assert_hex(text.p, text.n, vectors[i].text);
		crypto_seal_close(s);
	}
}

static void a_sealed_value_opens_only_where_it_belongs(void **state)
{
	unsigned char key[CRYPTO_KEY], other[CRYPTO_KEY];
	struct str place = STR("twitch_tokens.access_token:141981764"), secret = STR("oauth token"), box,
		   text;
	struct seal *s, *t;
	char *copy;

	(void)state;
	crypto_random(key, sizeof(key));
	crypto_random(other, sizeof(other));
	s = crypto_seal_open(key, 1);
	t = crypto_seal_open(other, 1);
	box = crypto_seal(s, place, secret, mem);
	assert_int_equal(box.n, 2 + CRYPTO_NONCE + secret.n + CRYPTO_TAG);
	assert_null(memmem(box.p, box.n, secret.p, secret.n));
	assert_int_equal(crypto_unseal(s, place, box, mem, &text), 0);
	assert_true(str_eq(text, secret));
	assert_int_equal(crypto_unseal(s, STR("twitch_tokens.access_token:141981765"), box, mem, &text),
			 -EBADMSG);
	assert_true(text.p == NULL && text.n == 0);
	assert_int_equal(crypto_unseal(s, STR_NONE, box, mem, &text), -EBADMSG);
	assert_int_equal(crypto_unseal(t, place, box, mem, &text), -EBADMSG);
	copy = arena_alloc(mem, box.n);
	for (size_t bit = 0; bit < box.n * 8; bit++) { /* one flipped bit anywhere */
		size_t used = arena_used(mem);

		memcpy(copy, box.p, box.n);
		copy[bit / 8] = (char)(copy[bit / 8] ^ 1 << bit % 8);
		assert_int_equal(crypto_unseal(s, place, (struct str){ copy, box.n }, mem, &text),
				 bit / 8 == 1 ? -ENOKEY : -EBADMSG);
		assert_null(text.p);
		assert_int_equal(arena_used(mem), used);
	}
	for (size_t n = 0; n < box.n; n++) /* cut anywhere: also within the tag */
		assert_int_equal(crypto_unseal(s, place, (struct str){ box.p, n }, mem, &text), -EBADMSG);
	crypto_seal_close(s);
	crypto_seal_close(t);
	crypto_seal_close(NULL);
}

static void old_keys_open_until_they_are_forgotten(void **state)
{
	unsigned char key[CRYPTO_KEY], next[CRYPTO_KEY];
	struct seal *before, *after, *later;
	struct str box, fresh, text;

	(void)state;
	crypto_random(key, sizeof(key));
	crypto_random(next, sizeof(next));
	before = crypto_seal_open(key, 1);
	after = crypto_seal_open(next, 2);
	crypto_seal_old_key(after, key, 1);
	later = crypto_seal_open(next, 2);
	box = crypto_seal(before, STR("p"), STR("text"), mem);
	fresh = crypto_seal(after, STR("p"), STR("text"), mem);
	assert_int_equal(crypto_unseal(after, STR("p"), box, mem, &text), 0);
	assert_true(str_eq(text, STR("text")));
	assert_true(crypto_seal_is_old(after, box));
	assert_false(crypto_seal_is_old(after, fresh));
	assert_int_equal(crypto_unseal(later, STR("p"), box, mem, &text), -ENOKEY);
	assert_int_equal(crypto_unseal(later, STR("p"), fresh, mem, &text), 0);
	assert_int_equal(crypto_unseal(before, STR("p"), fresh, mem, &text), -ENOKEY);
	crypto_seal_close(before);
	crypto_seal_close(after);
	crypto_seal_close(later);
}

static void two_seals_of_the_same_secret_differ(void **state)
{
	const unsigned char key[CRYPTO_KEY] = { 1 };
	struct seal *s = crypto_seal_open(key, 9);
	struct str a = crypto_seal(s, STR("p"), STR("same"), mem),
		   b = crypto_seal(s, STR("p"), STR("same"), mem);

	(void)state;
	assert_memory_not_equal(a.p + 2, b.p + 2, CRYPTO_NONCE);
	assert_memory_not_equal(a.p + 14, b.p + 14, 4);
	crypto_seal_close(s);
}

static void sealing_knows_its_limits(void **state)
{
	const unsigned char key[CRYPTO_KEY] = { 1 };
	struct seal *s = crypto_seal_open(key, 0);
	struct str empty, whole, text, box;

	(void)state;
	empty = crypto_seal(s, STR("p"), STR_NONE, mem);
	assert_int_equal(crypto_unseal(s, STR("p"), empty, mem, &text), 0);
	assert_int_equal(text.n, 0);
	whole = repeated('s', 65536);
	box = crypto_seal(s, STR("p"), whole, mem);
	assert_int_equal(crypto_unseal(s, STR("p"), box, mem, &text), 0);
	assert_true(str_eq(text, whole));
	assert_null(crypto_seal(s, STR("p"), repeated('s', 65537), mem).p);
	arena_fail_after(mem, 1);
	assert_null(crypto_seal(s, STR("p"), STR("x"), mem).p);
	arena_fail_after(mem, 1);
	assert_int_equal(crypto_unseal(s, STR("p"), box, mem, &text), -ENOBUFS);
	assert_null(text.p);
	crypto_seal_close(s);
}

/* RFC 4648 section 10. */
static void base64_gives_the_published_texts(void **state)
{
	static const char *const vectors[][2] = { { "", "" },
						  { "f", "Zg==" },
						  { "fo", "Zm8=" },
						  { "foo", "Zm9v" },
						  { "foob", "Zm9vYg==" },
						  { "fooba", "Zm9vYmE=" },
						  { "foobar", "Zm9vYmFy" } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		char out[16], back[16];
		size_t n;

		assert_int_equal(crypto_base64(BASE64, str_of(vectors[i][0]), out), strlen(vectors[i][1]));
		assert_string_equal(out, vectors[i][1]);
		assert_int_equal(crypto_unbase64(BASE64, str_of(out), back, sizeof(back), &n), 0);
		assert_true(str_eq((struct str){ back, n }, str_of(vectors[i][0])));
	}
}

static void base64_is_read_strictly(void **state)
{
	static const char *const bad[] = { "Z",    "Zg",   "Zg=",      "Zg===", "Zh==",   "Zm9=",
					   "Z===", "====", "Zg==Zg==", "Zm 9v", "Zm9v\n", "Zm9-",
					   "Zm9_", "=Zm9", "Zm=v",     "Zm9vY" };
	static const char *const bad_url[] = { "Z",      "Zg==",   "Zh",      "Zm9",
					       "Zm9v+A", "Zm9v/A", "Zm9v YQ", "Zm9vYQ=" };
	char out[16], exact[4];
	size_t n = 77;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (crypto_unbase64(BASE64, str_of(bad[i]), out, sizeof(out), &n) != -EINVAL)
			fail_msg("%s was taken", bad[i]);
	for (size_t i = 0; i < ARRAY_LEN(bad_url); i++)
		if (crypto_unbase64(BASE64URL, str_of(bad_url[i]), out, sizeof(out), &n) != -EINVAL)
			fail_msg("%s was taken", bad_url[i]);
	assert_int_equal(n, 77);
	assert_int_equal(crypto_unbase64(BASE64URL, STR("__79-w"), exact, 4, &n), 0);
	assert_memory_equal(exact, "\xff\xfe\xfd\xfb", 4);
	assert_int_equal(crypto_unbase64(BASE64URL, STR("__79-w"), exact, 3, &n), -EINVAL);
}

static void every_length_of_bytes_survives_its_texts(void **state)
{
	unsigned char data[70], back[70];
	char text[2 * sizeof(data) + 1];
	size_t n;

	(void)state;
	crypto_random(data, sizeof(data));
	for (size_t len = 0; len <= sizeof(data); len++) {
		for (int kind = BASE64; kind <= BASE64URL; kind++) {
			size_t chars =
				crypto_base64((enum base64)kind, (struct str){ (char *)data, len }, text);

			assert_true(chars < CRYPTO_BASE64(len));
			assert_int_equal(crypto_unbase64((enum base64)kind, (struct str){ text, chars }, back,
							 len, &n),
					 0);
			assert_int_equal(n, len);
			assert_memory_equal(back, data, len);
		}
		crypto_hex(data, len, text);
		assert_int_equal(crypto_unhex((struct str){ text, 2 * len }, back, len), 0);
		assert_memory_equal(back, data, len);
	}
}

static void hexadecimal_is_read_strictly(void **state)
{
	static const char *const bad[] = { "",       "a",      "aabb0",  "aabb01c", "aa:bb:cc",
					   "aabbcg", "0xaabb", " aabbc", "aabbc ",  "aabb-1" };
	const unsigned char zero[3] = { 0 };
	unsigned char out[3];

	(void)state;
	assert_int_equal(crypto_unhex(STR("aAbBcC"), out, 3), 0);
	assert_memory_equal(out, "\xaa\xbb\xcc", 3);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		memset(out, 1, sizeof(out));
		assert_int_equal(crypto_unhex(str_of(bad[i]), out, 3), -EINVAL);
		assert_memory_equal(out, zero, 3);
	}
}

static void tokens_are_new_and_url_safe(void **state)
{
	struct str a = crypto_token("wbot_", mem), b = crypto_token("wbot_", mem);
	unsigned char raw[32];
	size_t n;

	(void)state;
	assert_int_equal(a.n, 48);
	assert_true(str_starts(a, STR("wbot_")));
	assert_false(str_eq(a, b));
	assert_int_equal(crypto_unbase64(BASE64URL, (struct str){ a.p + 5, 43 }, raw, sizeof(raw), &n), 0);
	assert_int_equal(n, 32);
}

static void a_timestamp_is_fresh_on_both_sides(void **state)
{
	(void)state;
	clock_fake(1772388300000);
	assert_int_equal(crypto_fresh(STR("1772388000"), 300000), 0);
	assert_int_equal(crypto_fresh(STR("1772387999"), 300000), -ETIME);
	assert_int_equal(crypto_fresh(STR("1772388600"), 300000), 0);
	assert_int_equal(crypto_fresh(STR("1772388601"), 300000), -ETIME);
	assert_int_equal(crypto_fresh(STR("2026-03-01T18:00:00Z"), 300000), 0);
	assert_int_equal(crypto_fresh(STR("2026-03-01T17:59:59.999999999Z"), 300000), -ETIME);
	assert_int_equal(crypto_fresh(STR("9223372036854775"), 300000), -ETIME);
	assert_int_equal(crypto_fresh(STR("0"), 300000), -ETIME);
	assert_int_equal(crypto_fresh(STR("9223372036854776"), 300000), -EINVAL);
	assert_int_equal(crypto_fresh(STR("-5"), 300000), -EINVAL);
	assert_int_equal(crypto_fresh(STR("1772388000.5"), 300000), -EINVAL);
	assert_int_equal(crypto_fresh(STR(""), 300000), -EINVAL);
	assert_int_equal(crypto_fresh(STR_NONE, 300000), -EINVAL);
}

/* router.md section 1, check value. */
static void derived_ids_are_those_of_the_rules(void **state)
{
	struct str event = STR("twitch:8b0e2a54-0000-4000-8000-000000000001");
	char id[ID_TEXT], again[ID_TEXT];

	(void)state;
	id_execution(event, 17, 0, id);
	assert_string_equal(id, "b2d087ad-ea76-557a-a7b5-23c1d08f979e");
	id_session(event, id);
	assert_string_equal(id, "e892ef4e-fde1-546e-9115-98236dd9f0d2");
	id_execution(event, 17, 0, again);
	assert_string_equal(again, "b2d087ad-ea76-557a-a7b5-23c1d08f979e");
	/* The others, each computed once with another implementation of RFC 9562. */
	id_execution(event, 17, 5, id);
	assert_string_equal(id, "39b518cb-d650-5f5b-af85-965722064fa2");
	id_outbound(STR("b2d087ad-ea76-557a-a7b5-23c1d08f979e"), 0, 2, id);
	assert_string_equal(id, "92afd8f8-f012-5718-9f81-d3c53dddcd6b");
	id_outbound(STR("b2d087ad-ea76-557a-a7b5-23c1d08f979e"), -1, 0, id);
	assert_string_equal(id, "1d1411d6-52a4-546b-bb77-0da7595aa06e");
	id_overlay(STR("b2d087ad-ea76-557a-a7b5-23c1d08f979e"), 3, id);
	assert_string_equal(id, "c2b907ad-a9bc-52b4-8bbb-91e73de31c4b");
	id_rule_webhook(event, 5, id);
	assert_string_equal(id, "f658da5e-639b-5b4a-8da6-94022ed47c17");
}

static void random_ids_are_version_four(void **state)
{
	char a[ID_TEXT], b[ID_TEXT];

	(void)state;
	for (int i = 0; i < 200; i++) { /* more than one page of random bytes */
		id_random(a);
		id_random(b);
		assert_int_equal(strlen(a), 36);
		assert_int_equal(a[14], '4');
		assert_non_null(strchr("89ab", a[19]));
		assert_string_not_equal(a, b);
	}
}

/* W3C Trace Context 3.2. */
static void a_trace_goes_on_with_a_new_span(void **state)
{
	static const char good[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
	static const char *const bad[] = {
		"",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
		"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
		"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
	};
	char next[TRACE_TEXT], fresh[TRACE_TEXT];

	(void)state;
	assert_true(trace_ok(STR("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")));
	assert_true(trace_ok(STR("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more")));
	trace_next(str_of(good), next);
	assert_memory_equal(next, good, 36);               /* same trace */
	assert_memory_not_equal(next + 36, good + 36, 16); /* another span */
	assert_string_equal(next + 52, "-01");
	assert_true(trace_ok(str_of(next)));
	trace_next(STR("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0a"), next);
	assert_string_equal(next + 52, "-00"); /* not sampled stays not sampled */
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (trace_ok(str_of(bad[i])))
			fail_msg("%s was taken", bad[i]);
		trace_next(str_of(bad[i]), fresh);
		assert_true(trace_ok(str_of(fresh)));
		assert_null(strstr(fresh, "4bf92f3577b34da6"));
		assert_string_equal(fresh + 52, "-01");
	}
}

struct headers {
	struct str slack_time, slack_signature, discord_time, discord_signature, twitch_id, twitch_time,
		twitch_signature;
};
struct sample {
	struct str scheme, name, secret, public_key, body;
	int64_t now;
	struct headers headers;
	bool accept, signature_valid;
};

static const struct js_field header_fields[] = {
	JS_AS("X-Slack-Request-Timestamp", struct headers, slack_time, JS_STR, .optional = true),
	JS_AS("X-Slack-Signature", struct headers, slack_signature, JS_STR, .optional = true),
	JS_AS("X-Signature-Timestamp", struct headers, discord_time, JS_STR, .optional = true),
	JS_AS("X-Signature-Ed25519", struct headers, discord_signature, JS_STR, .optional = true),
	JS_AS("Twitch-Eventsub-Message-Id", struct headers, twitch_id, JS_STR, .optional = true),
	JS_AS("Twitch-Eventsub-Message-Timestamp", struct headers, twitch_time, JS_STR, .optional = true),
	JS_AS("Twitch-Eventsub-Message-Signature", struct headers, twitch_signature, JS_STR,
	      .optional = true),
	{ 0 }
};
static const struct js_field sample_fields[] = {
	JS(struct sample, scheme, JS_STR, .optional = true),
	JS_AS("case", struct sample, name, JS_STR),
	JS(struct sample, secret, JS_STR, .optional = true),
	JS(struct sample, public_key, JS_STR, .optional = true),
	JS_AS("now_epoch", struct sample, now, JS_INT, .optional = true),
	JS(struct sample, headers, JS_OBJECT, .fields = header_fields),
	JS(struct sample, body, JS_STR),
	JS(struct sample, accept, JS_BOOL, .optional = true),
	JS(struct sample, signature_valid, JS_BOOL, .optional = true),
	{ 0 }
};

/* Calls check for every line of a file of samples; gives their number, 0 when it is not there. */
static size_t each_sample(const char *file, bool (*accepted)(const struct sample *s), bool use_valid)
{
	struct buf text = BUF(1 << 20);
	struct str rest, line;
	size_t n = 0;

	if (!shared_file(file, &text)) {
		buf_clear(&text);
		skip();
	}
	assert_int_equal(buf_str(&text, &rest), 0);
	while (rest.n > 0) {
		struct sample s;
		struct err err = { 0 };

		line = str_cut(rest, '\n', &rest);
		if (line.n == 0)
			continue;
		if (js_decode(line, sample_fields, &s, mem, &err) != 0)
			fail_msg("%s: %s", file, err.text);
		if (accepted(&s) != (use_valid ? s.signature_valid : s.accept))
			fail_msg(STR_FMT ": not as the sample says", STR_ARG(s.name));
		n++;
	}
	buf_clear(&text);
	return n;
}

static bool slack_or_discord(const struct sample *s)
{
	struct err err;
	struct ed25519 *key;
	int r;

	if (str_eq(s->scheme, STR("slack-v0"))) {
		const struct str parts[] = { STR("v0:"), s->headers.slack_time, STR(":"), s->body };

		clock_fake(s->now * 1000);
		return crypto_fresh(s->headers.slack_time, 300000) == 0 &&
		       crypto_hmac_check(s->secret, parts, 4, STR("v0="), s->headers.slack_signature) == 0;
	}
	key = crypto_ed25519_open(s->public_key, &err);
	assert_non_null(key);
	r = crypto_ed25519_check(key, s->headers.discord_time, s->body, s->headers.discord_signature);
	crypto_ed25519_close(key);
	return r == 0;
}

static bool twitch(const struct sample *s)
{
	const struct str parts[] = { s->headers.twitch_id, s->headers.twitch_time, s->body };

	clock_fake(1772388001000);
	return crypto_fresh(s->headers.twitch_time, 600000) == 0 &&
	       crypto_hmac_check(s->secret, parts, 3, STR("sha256="), s->headers.twitch_signature) == 0;
}

static void requests_signed_like_slack_and_discord_are_judged_rightly(void **state)
{
	(void)state;
	assert_int_equal(each_sample("signature-vectors.jsonl", slack_or_discord, false), 15);
}

static void requests_signed_like_twitch_are_judged_rightly(void **state)
{
	(void)state;
	assert_int_equal(each_sample("eventsub/webhook-deliveries.jsonl", twitch, true), 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		TEST(sha256_gives_the_published_digests),
		TEST(hmac_gives_the_published_digests),
		TEST(a_short_secret_signs_nothing),
		TEST(a_signature_is_right_only_in_full),
		TEST(ed25519_takes_the_published_signatures),
		TEST(ed25519_keys_are_64_digits_and_not_zero),
		TEST(unseal_opens_the_published_boxes),
		TEST(a_sealed_value_opens_only_where_it_belongs),
		TEST(old_keys_open_until_they_are_forgotten),
		TEST(two_seals_of_the_same_secret_differ),
		TEST(sealing_knows_its_limits),
		TEST(base64_gives_the_published_texts),
		TEST(base64_is_read_strictly),
		TEST(every_length_of_bytes_survives_its_texts),
		TEST(hexadecimal_is_read_strictly),
		TEST(tokens_are_new_and_url_safe),
		TEST(a_timestamp_is_fresh_on_both_sides),
		TEST(derived_ids_are_those_of_the_rules),
		TEST(random_ids_are_version_four),
		TEST(a_trace_goes_on_with_a_new_span),
		TEST(requests_signed_like_slack_and_discord_are_judged_rightly),
		TEST(requests_signed_like_twitch_are_judged_rightly),
	};

	return !!cmocka_run_group_tests(tests, NULL, NULL);
}

/* Any bytes as hexadecimal, base64, time, write position and trace: what is read is what would
 * have been written, to the character (but for the case of hex digits and the forms of a time). */
#include "common.h"

#include "clock.h"
#include "crypto.h"
#include "envelope.h"
#include "ids.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hex(struct str text)
{
	size_t n = text.n / 2;
	unsigned char *raw = xnew_(n, 1);
	char *again = xnew_(2 * n + 1, 1);

	if (crypto_unhex(text, raw, n) == 0) {
		crypto_hex(raw, n, again);
		ASSERT(str_eq_fold(text, (struct str){ again, 2 * n }));
	} else {
		for (size_t i = 0; i < n; i++)
			ASSERT(raw[i] == 0);
	}
	crypto_hex(text.p, n, again);
	ASSERT(crypto_unhex((struct str){ again, 2 * n }, raw, n) == 0 &&
	       (n == 0 || memcmp(raw, text.p, n) == 0));
	free(raw);
	free(again);
}

static void base64(struct str text, enum base64 kind)
{
	size_t room = text.n, chars, n = 0;
	unsigned char *raw = xnew_(room, 1);
	char *again = xnew_(CRYPTO_BASE64(text.n), 1);

	if (crypto_unbase64(kind, text, raw, room, &n) == 0) {
		chars = crypto_base64(kind, (struct str){ (char *)raw, n }, again);
		ASSERT(str_eq(text, (struct str){ again, chars }));
	}
	chars = crypto_base64(kind, text, again);
	ASSERT(chars < CRYPTO_BASE64(text.n));
	ASSERT(crypto_unbase64(kind, (struct str){ again, chars }, raw, room, &n) == 0);
	ASSERT(n == text.n && (n == 0 || memcmp(raw, text.p, n) == 0));
	free(raw);
	free(again);
}

static void times(struct str text)
{
	char again[CLOCK_TEXT];
	int64_t ms, back;
	int r;

	if (clock_parse(text, &ms) == 0) {
		clock_text(ms, again);
		ASSERT(clock_parse(str_of(again), &back) == 0 && back == ms);
	}
	r = crypto_fresh(text, 300000);
	ASSERT(r == 0 || r == -ETIME || r == -EINVAL);
}

static void positions(struct str text)
{
	char again[LSN_TEXT];
	uint64_t lsn, back;

	if (lsn_parse(text, &lsn) == 0) {
		lsn_text(lsn, again);
		ASSERT(lsn_parse(str_of(again), &back) == 0 && back == lsn);
	}
}

static void traces(struct str text)
{
	char next[TRACE_TEXT];

	trace_next(text, next);
	ASSERT(trace_ok(str_of(next)));
	if (trace_ok(text))
		ASSERT(memcmp(next + 3, text.p + 3, 32) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = { (const char *)data, size };

	clock_fake(1772388000000);
	hex(text);
	base64(text, BASE64);
	base64(text, BASE64URL);
	times(text);
	positions(text);
	traces(text);
	return 0;
}

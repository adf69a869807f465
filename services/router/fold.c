/* fold.c - one character in, what it is compared as out; remembered, because ICU is asked in UTF-16
 * and takes a microsecond. */
#include "fold.h"
#include "err.h"
#include "hash.h"
#include "pattern.h"

#include <stdlib.h>
#include <string.h>
#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/uspoof.h>
#include <unicode/utf16.h>
#include <unicode/utf8.h>

enum { SLOTS = 4096, KEPT = 23, PIECE = 256, PERCENT_ROUNDS = 2 };

struct known { int32_t c; uint8_t n; char to[KEPT]; };   /* c 0: nothing yet */

struct fold {
	const UNormalizer2 *nfkd;
	USpoofChecker      *look;
	struct known       *known[2];   /* [case_sensitive][c % SLOTS] */
	struct buf          one, two;
};

struct fold *fold_open(struct err *err)
{
	struct fold *f = XNEW(struct fold);
	UErrorCode e = U_ZERO_ERROR;

	f->one = f->two = BUF(1 << 20);
	f->nfkd = unorm2_getNFKDInstance(&e);
	f->look = uspoof_open(&e);
	if (U_FAILURE(e)) {
		(void)!err_set(err, -ENOENT, "ICU has no normalisation or confusables data: %s",
		               u_errorName(e));
		fold_close(f);
		return NULL;
	}
	for (int i = 0; i < 2; i++)
		f->known[i] = XNEW_N(struct known, SLOTS);
	return f;
}

void fold_close(struct fold *f)
{
	if (f == NULL)
		return;
	if (f->look != NULL)
		uspoof_close(f->look);
	free(f->known[0]);
	free(f->known[1]);
	buf_clear(&f->one);
	buf_clear(&f->two);
	free(f);
}

static bool dropped(int32_t c)
{
	return (U_GET_GC_MASK(c) & U_GC_M_MASK) != 0 ||
	       u_hasBinaryProperty(c, UCHAR_DEFAULT_IGNORABLE_CODE_POINT) ||
	       u_hasBinaryProperty(c, UCHAR_BIDI_CONTROL);
}

/* The ASCII letters and digits c looks like, in out; 0: it does not. */
static size_t prototype(const struct fold *f, int32_t c, char out[PIECE])
{
	UChar text[2], skeleton[PIECE];
	uint32_t u = (uint32_t)c;
	UErrorCode e = U_ZERO_ERROR;
	int32_t n = 0, got;

	U16_APPEND_UNSAFE(text, n, u);
	got = uspoof_getSkeleton(f->look, 0, text, n, skeleton, PIECE, &e);
	if (U_FAILURE(e) || got <= 0 || got >= PIECE)
		return 0;
	for (int32_t i = 0; i < got; i++) {
		UChar a = skeleton[i];

		if (!((a >= '0' && a <= '9') || (a >= 'a' && a <= 'z') || (a >= 'A' && a <= 'Z')))
			return 0;
		out[i] = (char)a;
	}
	return (size_t)got;
}

/* One character of the decomposition. */
static size_t fold_part(const struct fold *f, int32_t c, bool case_sensitive, char *out)
{
	char like[PIECE];
	size_t n = 0, n_like;
	int32_t end = 0;

	if (dropped(c))
		return 0;
	if (!case_sensitive)
		c = u_foldCase(c, U_FOLD_CASE_DEFAULT);
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	n_like = prototype(f, c, like);
	if (n_like == 0) {
		uint32_t u = (uint32_t)c;

		U8_APPEND_UNSAFE((uint8_t *)out, end, u);
		return (size_t)end;
	}
	for (; n < n_like; n++)                 /* a prototype may be a capital: NKo zero looks like O */
		out[n] = (char)(case_sensitive ? like[n] : u_foldCase(like[n], U_FOLD_CASE_DEFAULT));
	return n;
}

static size_t fold_char(const struct fold *f, int32_t c, bool case_sensitive, char out[PIECE])
{
	UChar apart[PIECE / 4];
	UErrorCode e = U_ZERO_ERROR;
	int32_t n = unorm2_getDecomposition(f->nfkd, c, apart, ARRAY_LEN(apart), &e);
	size_t made = 0;

	if (n <= 0 || U_FAILURE(e))
		return fold_part(f, c, case_sensitive, out);
	for (int32_t i = 0; i < n && made < PIECE / 2;) {
		int32_t part = apart[i++];

		if ((part & 0xfc00) == 0xd800 && i < n)
			part = U16_GET_SUPPLEMENTARY(part, apart[i++]);
		made += fold_part(f, part, case_sensitive, out + made);
	}
	return made;
}

/* --- percent escapes ----------------------------------------------------------------------- */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

/* The character written as escapes at the beginning of s: its bytes in out, their number, 0: none. */
static size_t escaped(struct str s, char out[4])
{
	size_t n = 0;

	for (; n < 4 && 3 * n + 2 < s.n && s.p[3 * n] == '%'; n++) {
		int high = hex(s.p[3 * n + 1]), low = hex(s.p[3 * n + 2]);

		if (high < 0 || low < 0)
			break;
		out[n] = (char)(unsigned char)(high << 4 | low);
		if (str_utf8_len((struct str){ out, n + 1 }) == n + 1)
			return n + 1;
	}
	return 0;
}

static void unescape(struct str s, struct buf *out)
{
	while (s.n > 0) {
		const char *next = memchr(s.p, '%', s.n);
		size_t plain = next != NULL ? (size_t)(next - s.p) : s.n, n;
		char c[4];

		buf_add(out, (struct str){ s.p, plain });
		s = (struct str){ s.p + plain, s.n - plain };
		if (s.n == 0)
			break;
		n = escaped(s, c);
		buf_add(out, n > 0 ? (struct str){ c, n } : (struct str){ s.p, 1 });
		n = n > 0 ? 3 * n : 1;
		s = (struct str){ s.p + n, s.n - n };
	}
}

/* The text without its escapes, in f's buffers unless there were none. */
static struct str without_escapes(struct fold *f, struct str text)
{
	struct buf *to[PERCENT_ROUNDS] = { &f->one, &f->two };

	for (int i = 0; i < PERCENT_ROUNDS && memchr(text.p != NULL ? text.p : "", '%', text.n) != NULL;
	     i++) {
		buf_reset(to[i]);
		unescape(text, to[i]);
		if (buf_str(to[i], &text) != 0)
			return STR_NONE;        /* only shorter texts come out */
	}
	return text;
}

/* --- the whole ----------------------------------------------------------------------------- */

/* What c becomes, from memory if it was asked lately; n bytes, valid until the next. */
static struct str folded(struct fold *f, int32_t c, bool case_sensitive, char space[PIECE])
{
	struct known *k = &f->known[case_sensitive][(uint32_t)c % SLOTS];
	size_t n;

	if (k->c == c)
		return (struct str){ k->to, k->n };
	n = fold_char(f, c, case_sensitive, space);
	if (n <= KEPT) {
		k->c = c;
		k->n = (uint8_t)n;
		memcpy(k->to, space, n);
	}
	return (struct str){ space, n };
}

static bool is_space(int32_t c)
{
	return c < 0x80 ? (c == ' ' || (c >= '\t' && c <= '\r')) : u_isUWhiteSpace(c);
}

void fold_text(struct fold *f, struct str text, bool case_sensitive, bool normalize, struct buf *out)
{
	bool blank = false;
	char space[PIECE];

	if (!normalize) {
		if (case_sensitive)
			buf_add(out, text);
		else
			pattern_fold(text, out);
		return;
	}
	text = without_escapes(f, text);
	for (size_t at = 0; at < text.n;) {
		int32_t i = (int32_t)at, c;
		struct str to;

		U8_NEXT((const uint8_t *)text.p, i, (int32_t)text.n, c);
		at = (size_t)i;
		if (is_space(c)) {
			if (!blank)
				buf_add(out, STR(" "));
			blank = true;
			continue;
		}
		if (c < 0x80) {
			space[0] = (char)(case_sensitive || c < 'A' || c > 'Z' ? c : c + ('a' - 'A'));
			to = (struct str){ space, 1 };
		} else {
			to = folded(f, c, case_sensitive, space);
		}
		/* What decomposes to a blank is one: the ideographic space did above, a lone diaeresis here. */
		for (size_t k = 0; k < to.n && to.p[k] == ' '; k++)
			to = blank ? (struct str){ to.p + 1, to.n - 1 } : to;
		buf_add(out, to);
		if (to.n > 0)
			blank = to.p[to.n - 1] == ' ';
	}
}

struct str fold_trim(struct str text)
{
	size_t from = 0, end = text.n;

	while (from < text.n) {
		int32_t i = (int32_t)from, c;

		U8_NEXT((const uint8_t *)text.p, i, (int32_t)text.n, c);
		if (!is_space(c))
			break;
		from = (size_t)i;
	}
	while (end > from) {
		int32_t i = (int32_t)end, c;

		U8_PREV((const uint8_t *)text.p, 0, i, c);
		if (!is_space(c))
			break;
		end = (size_t)i;
	}
	return (struct str){ text.p != NULL ? text.p + from : NULL, end - from };
}

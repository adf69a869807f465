/* Any valid text folds to valid text without marks or runs of blanks, at most 36 times as long, and
 * what has no escapes in it folds to itself the second time. */
#include "../../services/router/fold.h"
#include "err.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fold *fold;
	struct err err = { 0 };
	struct str text = { (const char *)data, size }, once, twice;

	if (size > 20000 || !str_utf8_ok(text))
		return 0;
	if (fold == NULL) {
		fold = fold_open(&err);
		ASSERT(fold != NULL);
	}
	for (unsigned form = 0; form < 4; form++) {
		struct buf a = BUF(1 << 20), b = BUF(1 << 20);
		struct str inner;

		fold_text(fold, text, form & 1, form & 2, &a);
		ASSERT(buf_str(&a, &once) == 0 && str_utf8_ok(once) && once.n <= 36 * size);
		inner = fold_trim(once);
		ASSERT(inner.n <= once.n);
		fold_text(fold, once, form & 1, form & 2, &b);
		ASSERT(buf_str(&b, &twice) == 0);
		if (!(form & 2))
			ASSERT(str_eq(once, twice));
		else
			ASSERT(once.n < 2 || memmem(once.p, once.n, "  ", 2) == NULL);
		if (form & 2 && (once.n == 0 || memchr(once.p, '%', once.n) == NULL))
			ASSERT(str_eq(once, twice));
		buf_clear(&a);
		buf_clear(&b);
	}
	return 0;
}

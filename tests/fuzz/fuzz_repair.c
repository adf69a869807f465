/* Any bytes as a platform's JSON: afterwards every text in it can be kept, doing it twice changes
 * nothing, and what was clean before is the same bytes. */
#include "repair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct arena *mem;
	struct str text = { (const char *)data, size }, once, twice;

	if (mem == NULL)
		mem = arena_new(65536, 64 << 20);
	once = repair_json(text, mem);
	ASSERT(once.n <= 3 * size);
	ASSERT(once.p == text.p || str_utf8_ok(once));
	ASSERT(once.p == text.p || memmem(once.p, once.n, "\\u0000", 6) == NULL ||
	       memmem(once.p, once.n, "\\\\u0000", 7) != NULL);
	twice = repair_json(once, mem);
	ASSERT(str_eq(once, twice));
	arena_reset(mem);
	return 0;
}

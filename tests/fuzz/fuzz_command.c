/* Any valid text as chat: the name is folded and has no blank, there are at most 64 parameters,
 * nothing of the text appears that was not in it, and memory stays in proportion. */
#include "../../services/router/parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t bytes_of(struct js_list params)
{
	size_t n = 0;

	for (size_t i = 0; i < params.n; i++)
		n += ((const struct str *)params.items)[i].n;
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct arena *mem;
	struct str text = { (const char *)data, size };
	struct parsed p, again;
	struct buf back = BUF(1 << 20);
	struct str folded;

	if (size > 20000 || !str_utf8_ok(text))
		return 0;
	if (mem == NULL)
		mem = arena_new(65536, 8 << 20);
	if (parse_command(text, mem, &p)) {
		ASSERT(p.prefix.n == 1 && (p.prefix.p[0] == '!' || p.prefix.p[0] == '#'));
		ASSERT(p.name.n > 0 && str_utf8_ok(p.name) && memchr(p.name.p, ' ', p.name.n) == NULL);
		ASSERT(p.params.n <= PARSE_MAX_PARAMS && bytes_of(p.params) <= size);
		for (size_t i = 0; i < p.params.n; i++)
			ASSERT(str_utf8_ok(((const struct str *)p.params.items)[i]));
		/* Folding twice is folding once: what was stored is what is looked up. */
		buf_add(&back, p.prefix);
		buf_add(&back, p.name);
		ASSERT(buf_str(&back, &folded) == 0 && parse_command(folded, mem, &again));
		ASSERT(str_eq(again.name, p.name) && again.params.n == 0);
	} else {
		ASSERT(p.name.n == 0 && p.params.n == 0);
	}
	ASSERT(arena_used(mem) <= 4 * size + 8192);
	buf_clear(&back);
	arena_reset(mem);
	return 0;
}

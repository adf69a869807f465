/* Any bytes as an address, and any three parts as an entity: one address each, one entity each. */
#include "common.h"

#include "entity.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool same(struct entity a, struct entity b)
{
	return str_eq(a.platform, b.platform) && str_eq(a.server, b.server) && str_eq(a.channel, b.channel);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct arena *mem;
	struct buf out = BUF(1 << 24);
	struct str text = { (const char *)data, size }, s;
	struct entity e, back;
	int r;

	if (mem == NULL)
		mem = arena_new(65536, 64 << 20);
	r = entity_parse(text, mem, &e);
	ASSERT(r == 0 || r == -EINVAL);
	if (r == 0) {
		entity_make(e, &out);
		ASSERT(buf_str(&out, &s) == 0 && str_eq(s, text));
	}
	buf_clear(&out);

	e.platform = str_cut(text, '|', &text);
	e.server = str_cut(text, '|', &e.channel);
	entity_make(e, &out);
	r = buf_str(&out, &s);
	ASSERT(r == entity_check(e));
	if (r == 0)
		ASSERT(entity_parse(s, mem, &back) == 0 && same(e, back));
	buf_clear(&out);
	arena_reset(mem);
	return 0;
}

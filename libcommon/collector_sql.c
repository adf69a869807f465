/* collector_sql.c - one statement for every platform. */
#include "collector_int.h"

const char *collector_sql(struct arena *mem, const char *platform, const char *with)
{
	struct buf b = BUF(16384);
	struct str text = STR_NONE, rest = str_of(with);

	while (rest.p != NULL) {
		buf_add(&b, str_cut(rest, '@', &rest));
		if (rest.p != NULL)
			buf_add(&b, str_of(platform));
	}
	ASSERT(buf_str(&b, &text) == 0);
	text = arena_str(mem, text);
	buf_clear(&b);
	return text.p;
}

/* lsn.c - two halves of up to eight hexadecimal digits, as PostgreSQL prints and reads them. */
#include "lsn.h"

void lsn_text(uint64_t lsn, char out[LSN_TEXT])
{
	snprintf(out, LSN_TEXT, "%X/%X", (unsigned)(lsn >> 32), (unsigned)lsn);
}

static bool half(struct str s, uint32_t *ret)
{
	uint32_t v = 0;

	if (s.n < 1 || s.n > 8)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (c >= '0' && c <= '9')
			v = v << 4 | (uint32_t)(c - '0');
		else if (c >= 'A' && c <= 'F')
			v = v << 4 | (uint32_t)(c - 'A' + 10);
		else if (c >= 'a' && c <= 'f')
			v = v << 4 | (uint32_t)(c - 'a' + 10);
		else
			return false;
	}
	*ret = v;
	return true;
}

int lsn_parse(struct str text, uint64_t *ret)
{
	struct str low, high = str_cut(text, '/', &low);
	uint32_t h, l;

	if (!half(high, &h) || !half(low, &l))
		return -EINVAL;
	*ret = (uint64_t)h << 32 | l;
	return 0;
}

uint64_t lsn_end(uint64_t insert)
{
	uint64_t in_page = insert % 8192;

	return in_page <= 40 ? insert - in_page : insert;
}

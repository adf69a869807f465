/* db_encode.c - parameters on their way to the server.
 *
 * Scalars travel as text.  An array travels in binary as soon as the statement has been described
 * and its element type is one of those below, else as an array literal: unnest() of 512 rows of
 * bigint, text, timestamptz, uuid and jsonb cost the server 2.5 us a row in binary, 3 to 5 us as
 * literals and 5 us as text[] with casts.  An element that does not fit its type (a malformed
 * uuid, an int out of range) sends its array back to text, so that the server words the error. */
#include "db_private.h"

#include <endian.h>

#define UNIX_MS_MAX   INT64_C(253402300799999)  /* the end of 9999 */
#define PG_EPOCH_MS   INT64_C(946684800000)     /* 2000-01-01 */

enum elem { ELEM_NONE, ELEM_INT2, ELEM_INT4, ELEM_INT8, ELEM_TEXT, ELEM_JSONB, ELEM_TIME, ELEM_UUID,
            ELEM_BOOL, ELEM_BYTES };
/* catalog/pg_type.dat */
static const struct { Oid array, element; enum elem as; } known[] = {
	{ 1016, 20, ELEM_INT8 },   { 1009, 25, ELEM_TEXT },   { 1185, 1184, ELEM_TIME }, { 2951, 2950, ELEM_UUID },
	{ 3807, 3802, ELEM_JSONB }, { 1007, 23, ELEM_INT4 },  { 1005, 21, ELEM_INT2 },   { 1000, 16, ELEM_BOOL },
	{ 1015, 1043, ELEM_TEXT }, { 199, 114, ELEM_TEXT },   { 1001, 17, ELEM_BYTES },
};

static char *put(char *o, const void *p, size_t n)
{
	memcpy(o, p, n);
	return o + n;
}

static char *put16(char *o, int16_t v)
{
	uint16_t be = htobe16((uint16_t)v);

	return put(o, &be, 2);
}

static char *put32(char *o, int32_t v)
{
	uint32_t be = htobe32((uint32_t)v);

	return put(o, &be, 4);
}

static char *put64(char *o, int64_t v)
{
	uint64_t be = htobe64((uint64_t)v);

	return put(o, &be, 8);
}

static char *put_uuid(char *o, struct str s)
{
	size_t at = 0;

	if (s.n != 36)
		return NULL;
	for (int i = 0; i < 16; i++) {
		int high, low;

		if ((i == 4 || i == 6 || i == 8 || i == 10) && s.p[at++] != '-')
			return NULL;
		high = nibble(s.p[at++]);
		low = nibble(s.p[at++]);
		if (high < 0 || low < 0)
			return NULL;
		*o++ = (char)(high << 4 | low);
	}
	return o;
}

/* NULL: does not fit. */
static char *put_element(char *o, const struct db_param *p, enum elem as)
{
	char *length = o;

	if (p->type == DBP_NULL)
		return put32(o, -1);
	o += 4;
	switch (as) {
	case ELEM_INT2:
		if (p->type != DBP_INT || p->i < INT16_MIN || p->i > INT16_MAX)
			return NULL;
		o = put16(o, (int16_t)p->i);
		break;
	case ELEM_INT4:
		if (p->type != DBP_INT || p->i < INT32_MIN || p->i > INT32_MAX)
			return NULL;
		o = put32(o, (int32_t)p->i);
		break;
	case ELEM_INT8:
		if (p->type != DBP_INT)
			return NULL;
		o = put64(o, p->i);
		break;
	case ELEM_TIME:
		if (p->type != DBP_TIME)
			return NULL;
		o = put64(o, (p->i - PG_EPOCH_MS) * 1000);
		break;
	case ELEM_JSONB:
		*o++ = 1;               /* its version */
		/* fall through */
	case ELEM_TEXT:
		if (p->type != DBP_STR)
			return NULL;
		o = put(o, p->s.n > 0 ? p->s.p : "", p->s.n);
		break;
	case ELEM_BYTES:
		if (p->type != DBP_BYTES)
			return NULL;
		o = put(o, p->s.n > 0 ? p->s.p : "", p->s.n);
		break;
	case ELEM_BOOL:
		if (p->type != DBP_BOOL)
			return NULL;
		*o++ = p->b;
		break;
	case ELEM_UUID:
		o = p->type == DBP_STR ? put_uuid(o, p->s) : NULL;
		if (o == NULL)
			return NULL;
		break;
	case ELEM_NONE:
		return NULL;
	}
	put32(length, (int32_t)(o - length - 4));
	return o;
}

/* array_recv(): dimensions, has NULLs, element type, then length and lower bound of each. */
static char *put_binary(char *o, const struct db_param *p, Oid array)
{
	for (size_t k = 0; k < ARRAY_LEN(known); k++) {
		if (known[k].array != array)
			continue;
		o = put32(put32(put32(o, p->n > 0), 1), (int32_t)known[k].element);
		if (p->n > 0)
			o = put32(put32(o, (int32_t)p->n), 1);
		for (size_t i = 0; i < p->n && o != NULL; i++)
			o = put_element(o, &p->array[i], known[k].as);
		return o;
	}
	return NULL;
}

static char *put_hex(char *o, struct str s)
{
	static const char digit[] = "0123456789abcdef";

	for (size_t i = 0; i < s.n; i++) {
		*o++ = digit[(unsigned char)s.p[i] >> 4];
		*o++ = digit[(unsigned char)s.p[i] & 15];
	}
	return o;
}

static char *put_int(char *o, int64_t v)
{
	char text[24];
	uint64_t u = v < 0 ? -(uint64_t)v : (uint64_t)v;
	size_t at = sizeof(text);

	do
		text[--at] = (char)('0' + u % 10);
	while ((u /= 10) > 0);
	if (v < 0)
		text[--at] = '-';
	return put(o, text + at, sizeof(text) - at);
}

static char *put_scalar(char *o, const struct db_param *p)
{
	switch (p->type) {
	case DBP_INT:
		return put_int(o, p->i);
	case DBP_BOOL:
		*o++ = p->b ? 't' : 'f';
		return o;
	case DBP_TIME:
		clock_text(p->i, o);
		return o + CLOCK_TEXT - 1;
	case DBP_STR:
		return put(o, p->s.n > 0 ? p->s.p : "", p->s.n);
	case DBP_BYTES:
		return put_hex(put(o, "\\x", 2), p->s);
	case DBP_NULL:
	case DBP_ARRAY:
		break;
	}
	assert_failed("a scalar", __FILE__, __LINE__, __func__);
}

/* {1,NULL,"a \"quoted\" one"}: text is always quoted, so that null and {} stay text. */
static char *put_literal(char *o, const struct db_param *p)
{
	*o++ = '{';
	for (size_t i = 0; i < p->n; i++) {
		const struct db_param *e = &p->array[i];

		if (i > 0)
			*o++ = ',';
		if (e->type == DBP_NULL) {
			o = put(o, "NULL", 4);
		} else if (e->type == DBP_BYTES) {
			o = put(put_hex(put(o, "\"\\\\x", 4), e->s), "\"", 1);
		} else if (e->type == DBP_STR) {
			*o++ = '"';
			for (size_t k = 0; k < e->s.n; k++) {
				if (e->s.p[k] == '"' || e->s.p[k] == '\\')
					*o++ = '\\';
				*o++ = e->s.p[k];
			}
			*o++ = '"';
		} else {
			o = put_scalar(o, e);
		}
	}
	*o++ = '}';
	return o;
}

/* The most it can take on the wire in either form; SIZE_MAX: refused. */
static size_t room(const struct db_param *p)
{
	size_t n = 32, one;

	switch (p->type) {
	case DBP_NULL:
	case DBP_INT:
	case DBP_BOOL:
		return 32;
	case DBP_TIME:
		return p->i >= 0 && p->i <= UNIX_MS_MAX ? 32 : SIZE_MAX;
	case DBP_STR:
		return p->s.n <= INT32_MAX / 4 && str_utf8_ok(p->s) ? 2 * p->s.n + 16 : SIZE_MAX;
	case DBP_BYTES:
		return p->s.n <= INT32_MAX / 4 ? 2 * p->s.n + 16 : SIZE_MAX;
	case DBP_ARRAY:
		for (size_t i = 0; i < p->n; i++) {
			ASSERT(p->array[i].type != DBP_ARRAY);
			one = room(&p->array[i]);
			if (one == SIZE_MAX || (n += one) > INT32_MAX)
				return SIZE_MAX;
		}
		return n;
	}
	return SIZE_MAX;
}

bool db_param_ok(const struct db_param *p)
{
	return room(p) != SIZE_MAX;
}

int wire_new(struct db_wire **ret, const struct db_stmt *st, const struct db_param *p, size_t n)
{
	size_t tables = n * (sizeof(char *) + 2 * sizeof(int)), data = 0;
	struct db_wire *w;
	char *o;

	if (n > DB_PARAMS_MAX)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		size_t one = room(&p[i]);

		if (one == SIZE_MAX)
			return -EINVAL;
		data += one + 1;
	}
	w = xnew_(1, sizeof(*w) + tables + data);
	w->n = (int)n;
	w->value = (const char **)(void *)(w + 1);
	w->length = (int *)(void *)(w->value + n);
	w->format = w->length + n;
	o = (char *)(w->format + n);
	w->bytes = sizeof(*w) + tables;
	for (size_t i = 0; i < n; i++) {
		char *start = o, *end = NULL;

		w->value[i] = p[i].type == DBP_NULL ? NULL : start;
		w->format[i] = 0;
		w->length[i] = 0;
		if (p[i].type == DBP_NULL)
			continue;
		if (p[i].type == DBP_ARRAY) {
			if (st->described && i < (size_t)st->n_types)
				end = put_binary(start, &p[i], st->types[i]);
			w->format[i] = end != NULL;
			if (end == NULL)
				end = put_literal(start, &p[i]);
		} else {
			end = put_scalar(start, &p[i]);
		}
		w->length[i] = (int)(end - start);
		*end++ = '\0';
		o = end;
		w->bytes += (size_t)w->length[i];
	}
	*ret = w;
	return 0;
}

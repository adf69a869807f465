/* js_encode.c - structs to JSON by table.  What is written here js_decode() reads back. */
#include "clock.h"
#include "decode.h"

static void add_text(struct buf *out, const char *text)
{
	buf_add(out, str_of(text));
}

static void add_int(struct buf *out, int64_t v)
{
	char digits[24], *p = digits + sizeof(digits);
	uint64_t left = v < 0 ? -(uint64_t)v : (uint64_t)v;

	do {
		*--p = (char)('0' + left % 10);
		left /= 10;
	} while (left > 0);
	if (v < 0)
		*--p = '-';
	buf_add(out, (struct str){ p, (size_t)(digits + sizeof(digits) - p) });
}

static void add_time(struct buf *out, int64_t unix_ms)
{
	char text[CLOCK_TEXT];

	clock_text(unix_ms, text);
	buf_add(out, STR("\""));
	add_text(out, text);
	buf_add(out, STR("\""));
}

/* Names are ours: nothing in them needs escaping. */
static void add_name(struct buf *out, const char *name)
{
	buf_add(out, STR("\""));
	add_text(out, name);
	buf_add(out, STR("\""));
}

static void add_flags(struct buf *out, const char *const *names, uint32_t flags)
{
	const char *between = "";

	buf_add(out, STR("["));
	for (size_t i = 0; names[i] != NULL; i++) {
		if (!(flags & UINT32_C(1) << i))
			continue;
		add_text(out, between);
		add_name(out, names[i]);
		between = ",";
	}
	buf_add(out, STR("]"));
}

static void add_list(struct buf *out, const struct js_field *f, const struct js_list *list)
{
	const char *items = list->items;

	buf_add(out, STR("["));
	for (size_t i = 0; i < list->n; i++) {
		if (i > 0)
			buf_add(out, STR(","));
		if (f->type == JS_STRS)
			buf_json(out, ((const struct str *)list->items)[i]);
		else
			js_encode(f->fields, items + i * f->size, out);
	}
	buf_add(out, STR("]"));
}

static bool all_absent(const struct js_field *fields, const char *in);

/* True when "not there" says the same - or when there is a zero that was never set, because the
 * field does not allow it: the 0 seconds of a ticker in a response that is none. */
static bool is_absent(const struct js_field *f, const char *at)
{
	switch (f->type) {
	case JS_STR:
	case JS_UUID:
	case JS_RAW:
	case JS_RAW_OBJECT:
		return ((const struct str *)(const void *)at)->n == 0;
	case JS_INT:
		return *(const int64_t *)(const void *)at == f->absent ||
		       (f->min > 0 && *(const int64_t *)(const void *)at == 0);
	case JS_TIME:
		return *(const int64_t *)(const void *)at == 0;
	case JS_BOOL:
		return *(const bool *)at == (f->absent != 0);
	case JS_ENUM:
		return *(const int *)(const void *)at == (int)f->absent;
	case JS_FLAGS:
		return *(const uint32_t *)(const void *)at == 0;
	case JS_STRS:
	case JS_OBJECTS:
		return ((const struct js_list *)(const void *)at)->n == 0;
	case JS_OBJECT:
		return all_absent(f->fields, at);
	case JS_END:
		break;
	}
	return true;
}

static bool all_absent(const struct js_field *fields, const char *in)
{
	for (const struct js_field *f = fields; f->key != NULL; f++)
		if (!is_absent(f, in + f->offset))
			return false;
	return true;
}

static void add_value(struct buf *out, const struct js_field *f, const char *at)
{
	const struct str *s;

	switch (f->type) {
	case JS_STR:
	case JS_UUID:
		buf_json(out, *(const struct str *)(const void *)at);
		break;
	case JS_INT:
		add_int(out, *(const int64_t *)(const void *)at);
		break;
	case JS_BOOL:
		add_text(out, *(const bool *)at ? "true" : "false");
		break;
	case JS_TIME:
		add_time(out, *(const int64_t *)(const void *)at);
		break;
	case JS_ENUM:
		add_name(out, f->names[*(const int *)(const void *)at]);
		break;
	case JS_FLAGS:
		add_flags(out, f->names, *(const uint32_t *)(const void *)at);
		break;
	case JS_STRS:
	case JS_OBJECTS:
		add_list(out, f, (const struct js_list *)(const void *)at);
		break;
	case JS_RAW:
	case JS_RAW_OBJECT:
		s = (const struct str *)(const void *)at;
		buf_add(out, s->n > 0 ? *s : f->type == JS_RAW ? STR("null") : STR("{}"));
		break;
	case JS_OBJECT:
		js_encode(f->fields, at, out);
		break;
	case JS_END:
		break;
	}
}

void js_encode(const struct js_field *fields, const void *in, struct buf *out)
{
	const char *before = "{\"", *base = in;

	for (const struct js_field *f = fields; f->key != NULL; f++) {
		if (f->optional && is_absent(f, base + f->offset))
			continue;
		add_text(out, before);
		add_text(out, f->key);
		buf_add(out, STR("\":"));
		add_value(out, f, base + f->offset);
		before = ",\"";
	}
	add_text(out, before[0] == '{' ? "{}" : "}");
}

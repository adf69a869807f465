/* decode.c - JSON to structs: scan strictly, let json-c parse, walk its members beside the table.
 *
 * json-c keeps members in the order of the text, and so does the scan: the n-th member met here is
 * the n-th one noted there.  Duplicate keys are found by that count: json-c keeps one of them, so
 * the walk then meets fewer members than the scan saw.  It costs nothing and no hashing of ours. */
#include "common.h"

#include <json-c/json.h>

#include "clock.h"
#include "decode.h"
#include "err.h"
#include "json_scan.h"

struct place {
	const char *key;
	size_t index; /* 1 more than shown; 0: no list */
};

struct walk {
	struct str text;
	const struct json_span *member;
	size_t met;  /* members so far, skipped ones too */
	char *copy;  /* where the next text goes */
	size_t room; /* bytes left there */
	struct arena *mem;
	struct err *err;
	bool known; /* an unknown key is a mistake */
	size_t depth;
	struct place path[JSON_DEPTH + 1];
};

static int read_object(struct walk *w, struct json_object *o, const struct js_field *fields, char *out);

static int wrong(struct walk *w, const char *fmt, ...) PRINTF(2, 3);
static int wrong(struct walk *w, const char *fmt, ...)
{
	struct buf path = BUF(128);
	struct str where;
	char what[sizeof(((struct err *)0)->text)];
	va_list ap;

	for (size_t i = 0; i < w->depth; i++) {
		buf_printf(&path, "%s%s", i > 0 ? "." : "", w->path[i].key);
		if (w->path[i].index > 0)
			buf_printf(&path, "[%zu]", w->path[i].index - 1);
	}
	if (buf_str(&path, &where) != 0)
		where = STR("...");
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	err_set(w->err, -EINVAL, STR_FMT "%s%s", STR_ARG(where), w->depth > 0 ? ": " : "", what);
	buf_clear(&path);
	return -EINVAL;
}

static int no_room(struct walk *w)
{
	return err_set(w->err, -ENOBUFS, "no memory left for the parts of the message");
}

/* Members of a value that is not looked at, however deep. */
static size_t members_of(struct json_object *v)
{
	struct lh_entry *e;
	size_t n = 0;

	if (json_object_is_type(v, json_type_object)) {
		for (e = lh_table_head(json_object_get_object(v)); e != NULL; e = lh_entry_next(e))
			n += 1 + members_of((struct json_object *)lh_entry_v(e));
	} else if (json_object_is_type(v, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(v); i++)
			n += members_of(json_object_array_get_idx(v, i));
	}
	return n;
}

/* All texts of a message with their NULs are shorter than the message - unless a key came twice
 * and the spans are those of other members: then this says no, and js_decode() says why. */
static int keep(struct walk *w, const char *p, size_t n, struct str *ret)
{
	if (n >= w->room)
		return wrong(w, "too long");
	*ret = (struct str){ w->copy, n };
	memcpy(w->copy, p, n);
	w->copy[n] = '\0';
	w->copy += n + 1;
	w->room -= n + 1;
	return 0;
}

static struct str text_of(struct json_object *v)
{
	return (struct str){ json_object_get_string(v), (size_t)json_object_get_string_len(v) };
}

static size_t code_points(struct str s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
	return n;
}

static int read_str(struct walk *w, struct json_object *v, int64_t min, int64_t max, struct str *ret)
{
	struct str s;

	if (!json_object_is_type(v, json_type_string))
		return wrong(w, "expected a string");
	s = text_of(v);
	if (max > 0 && s.n > (size_t)max && code_points(s) > (size_t)max)
		return wrong(w, "longer than %lld characters", (long long)max);
	if (min > 0 && (s.n < (size_t)min || code_points(s) < (size_t)min))
		return min == 1 ? wrong(w, "empty")
				: wrong(w, "shorter than %lld characters", (long long)min);
	return keep(w, s.p, s.n, ret);
}

static int read_int(struct walk *w, struct json_object *v, const struct js_field *f, int64_t *ret)
{
	int64_t n;

	if (!json_object_is_type(v, json_type_int))
		return wrong(w, json_object_is_type(v, json_type_double)
					? "expected an integer, not a fraction"
					: "expected an integer");
	n = json_object_get_int64(v);
	if ((f->min != 0 || f->max != 0) && (n < f->min || n > f->max))
		return wrong(w, "not in %lld..%lld", (long long)f->min, (long long)f->max);
	*ret = n;
	return 0;
}

static int read_time(struct walk *w, struct json_object *v, int64_t *ret)
{
	if (!json_object_is_type(v, json_type_string) || clock_parse(text_of(v), ret) != 0)
		return wrong(w, "expected a time such as 2025-03-09T07:30:00.000Z");
	return 0;
}

static bool is_uuid(struct str s)
{
	if (s.n != 36)
		return false;
	for (size_t i = 0; i < 36; i++) {
		char c = s.p[i];

		if (i == 8 || i == 13 || i == 18 || i == 23) {
			if (c != '-')
				return false;
		} else if ((c < '0' || c > '9') && (c < 'a' || c > 'f')) {
			return false;
		}
	}
	return true;
}

static int read_uuid(struct walk *w, struct json_object *v, struct str *ret)
{
	struct str s;

	if (!json_object_is_type(v, json_type_string))
		return wrong(w, "expected a UUID");
	s = text_of(v);
	if (!is_uuid(s))
		return wrong(w, "expected a UUID, 36 characters in lower case");
	return keep(w, s.p, s.n, ret);
}

int js_name(const char *const *names, struct str name)
{
	for (int i = 0; name.n > 0 && names[i] != NULL; i++)
		if (names[i][0] == name.p[0] && strlen(names[i]) == name.n &&
		    memcmp(names[i], name.p, name.n) == 0)
			return i;
	return -1;
}

static int wrong_name(struct walk *w, const char *const *names)
{
	struct buf list = BUF(1024);
	struct str s = STR_NONE;
	int r;

	for (size_t i = 0; names[i] != NULL; i++)
		if (names[i][0] != '\0')
			buf_printf(&list, "%s%s", list.n > 0 ? ", " : "", names[i]);
	if (buf_str(&list, &s) != 0)
		s = STR_NONE;
	r = wrong(w, "not one of " STR_FMT, STR_ARG(s));
	buf_clear(&list);
	return r;
}

static int read_enum(struct walk *w, struct json_object *v, const struct js_field *f, int *ret)
{
	int i;

	if (!json_object_is_type(v, json_type_string))
		return wrong(w, "expected a string");
	i = js_name(f->names, text_of(v));
	if (i < 0)
		return wrong_name(w, f->names);
	*ret = i;
	return 0;
}

/* The array of a list field, its elements within limits. */
static int array_of(struct walk *w, struct json_object *v, const struct js_field *f, size_t *ret_n)
{
	size_t n;

	if (!json_object_is_type(v, json_type_array))
		return wrong(w, "expected an array");
	n = json_object_array_length(v);
	if (f->max > 0 && n > (size_t)f->max)
		return wrong(w, "more than %lld elements", (long long)f->max);
	if (f->min > 0 && n < (size_t)f->min)
		return wrong(w, "fewer than %lld elements", (long long)f->min);
	*ret_n = n;
	return 0;
}

static int read_flags(struct walk *w, struct json_object *v, const struct js_field *f, uint32_t *ret)
{
	struct place *here = &w->path[w->depth - 1];
	uint32_t flags = 0;
	size_t n = 0;
	int r = array_of(w, v, f, &n);

	for (size_t i = 0; r == 0 && i < n; i++) {
		struct json_object *e = json_object_array_get_idx(v, i);
		int bit;

		here->index = i + 1;
		if (!json_object_is_type(e, json_type_string))
			return wrong(w, "expected a string");
		bit = js_name(f->names, text_of(e));
		if (bit >= 0)
			flags |= 1u << bit;
		else if (f->closed)
			return wrong_name(w, f->names);
	}
	here->index = 0;
	*ret = flags;
	return r;
}

static int read_strs(struct walk *w, struct json_object *v, const struct js_field *f, struct js_list *ret)
{
	struct place *here = &w->path[w->depth - 1];
	struct str *items = NULL;
	size_t n = 0;
	int r = array_of(w, v, f, &n);

	if (r == 0 && n > 0 && (items = ARENA_TRY(w->mem, struct str, n)) == NULL)
		return no_room(w);
	for (size_t i = 0; r == 0 && i < n; i++) {
		here->index = i + 1;
		r = read_str(w, json_object_array_get_idx(v, i), 0, 0, &items[i]);
	}
	here->index = 0;
	*ret = (struct js_list){ items, r == 0 ? n : 0 };
	return r;
}

static int read_objects(struct walk *w, struct json_object *v, const struct js_field *f, struct js_list *ret)
{
	struct place *here = &w->path[w->depth - 1];
	char *items = NULL;
	size_t n = 0;
	int r = array_of(w, v, f, &n);

	if (r == 0 && n > 0 && (items = arena_try(w->mem, n, f->size)) == NULL)
		return no_room(w);
	for (size_t i = 0; r == 0 && i < n; i++) {
		here->index = i + 1;
		r = read_object(w, json_object_array_get_idx(v, i), f->fields, items + i * f->size);
	}
	here->index = 0;
	*ret = (struct js_list){ items, r == 0 ? n : 0 };
	return r;
}

/* The bytes as they came. */
static int read_raw(struct walk *w, struct json_object *v, const struct js_field *f, struct str *ret)
{
	const struct json_span *span = &w->member[w->met];

	if (f->type == JS_RAW_OBJECT && !json_object_is_type(v, json_type_object))
		return wrong(w, "expected an object");
	if (f->max > 0 && span->n > (uint64_t)f->max)
		return wrong(w, "longer than %lld bytes", (long long)f->max);
	w->met += members_of(v);
	return keep(w, w->text.p + span->at, span->n, ret);
}

static int read_value(struct walk *w, struct json_object *v, const struct js_field *f, char *at)
{
	switch (f->type) {
	case JS_STR:
		return read_str(w, v, f->min, f->max, (struct str *)(void *)at);
	case JS_INT:
		return read_int(w, v, f, (int64_t *)(void *)at);
	case JS_BOOL:
		if (!json_object_is_type(v, json_type_boolean))
			return wrong(w, "expected true or false");
		*(bool *)at = json_object_get_boolean(v);
		return 0;
	case JS_TIME:
		return read_time(w, v, (int64_t *)(void *)at);
	case JS_UUID:
		return read_uuid(w, v, (struct str *)(void *)at);
	case JS_ENUM:
		return read_enum(w, v, f, (int *)(void *)at);
	case JS_FLAGS:
		return read_flags(w, v, f, (uint32_t *)(void *)at);
	case JS_STRS:
		return read_strs(w, v, f, (struct js_list *)(void *)at);
	case JS_RAW:
	case JS_RAW_OBJECT:
		return read_raw(w, v, f, (struct str *)(void *)at);
	case JS_OBJECT:
		return read_object(w, v, f->fields, at);
	case JS_OBJECTS:
		return read_objects(w, v, f, (struct js_list *)(void *)at);
	case JS_END:
		break;
	}
	ASSERT(f->type != JS_END);
	return -EINVAL;
}

static void zero_field(const struct js_field *f, char *at)
{
	switch (f->type) {
	case JS_STR:
	case JS_UUID:
	case JS_RAW:
	case JS_RAW_OBJECT:
		*(struct str *)(void *)at = STR_NONE;
		break;
	case JS_INT:
		*(int64_t *)(void *)at = f->absent;
		break;
	case JS_TIME:
		*(int64_t *)(void *)at = 0;
		break;
	case JS_BOOL:
		*(bool *)at = f->absent != 0;
		break;
	case JS_ENUM:
		*(int *)(void *)at = (int)f->absent;
		break;
	case JS_FLAGS:
		*(uint32_t *)(void *)at = 0;
		break;
	case JS_STRS:
	case JS_OBJECTS:
		*(struct js_list *)(void *)at = (struct js_list){ 0 };
		break;
	case JS_OBJECT:
		js_zero(f->fields, at);
		break;
	case JS_END:
		break;
	}
}

/* What a struct holds when nothing was said: zero, or the rows' own values for that. */
void js_zero(const struct js_field *fields, void *out)
{
	for (const struct js_field *f = fields; f->key != NULL; f++)
		zero_field(f, (char *)out + f->offset);
}

/* Senders follow the table's order, so the next row is nearly always the right one. */
static const struct js_field *row_of(const struct js_field *fields, const struct js_field *next,
				     const char *key)
{
	const struct js_field *f;

	for (f = next; f->key != NULL; f++)
		if (f->key[0] == key[0] && strcmp(f->key, key) == 0)
			return f;
	for (f = fields; f < next; f++)
		if (f->key[0] == key[0] && strcmp(f->key, key) == 0)
			return f;
	return NULL;
}

const struct js_field *js_field(const struct js_field *fields, const char *key)
{
	return row_of(fields, fields, key);
}

/* A key that differs from the table's only in being escaped is the same key: json-c has undone it. */
static int read_object(struct walk *w, struct json_object *o, const struct js_field *fields, char *out)
{
	const struct js_field *f, *next = fields;
	struct place *here = &w->path[w->depth];
	struct lh_entry *e;
	uint64_t seen = 0;
	int r;

	if (!json_object_is_type(o, json_type_object))
		return wrong(w, "expected an object");
	ASSERT(w->depth < ARRAY_LEN(w->path));
	w->depth++;
	here->index = 0;
	for (e = lh_table_head(json_object_get_object(o)); e != NULL; e = lh_entry_next(e)) {
		struct json_object *v = (struct json_object *)lh_entry_v(e);

		w->met++;
		f = row_of(fields, next, lh_entry_k(e));
		if (f == NULL) {
			here->key = lh_entry_k(e);
			if (w->known)
				return wrong(w, "unknown field");
			w->met += members_of(v);
			continue;
		}
		next = f + 1;
		if (v == NULL)
			continue; /* null is absent */
		seen |= UINT64_C(1) << (f - fields);
		here->key = f->key;
		r = read_value(w, v, f, out + f->offset);
		if (r != 0)
			return r;
	}
	for (f = fields; f->key != NULL; f++) {
		if (seen & UINT64_C(1) << (f - fields))
			continue;
		here->key = f->key;
		if (!f->optional)
			return wrong(w, "missing");
		zero_field(f, out + f->offset);
	}
	w->depth--;
	return 0;
}

/* One tokener and one list of spans for the whole process: one thread decodes.  Not STRICT: the scan
 * is stricter, and STRICT of json-c 0.18 refuses every byte above 0x7f as a control character. */
static struct json_tokener *tokener(void)
{
	static struct json_tokener *tok;

	if (tok == NULL) {
		tok = json_tokener_new_ex(JSON_DEPTH + 1);
		ASSERT(tok != NULL);
	}
	json_tokener_reset(tok);
	return tok;
}

/* Fails only where json-c refuses what the scan let pass, or has no memory. */
static int parse(struct str json, struct json_object **ret, struct err *err)
{
	struct json_tokener *tok = tokener();
	struct json_object *o = json_tokener_parse_ex(tok, json.p, (int)json.n);
	enum json_tokener_error e = json_tokener_get_error(tok);

	if (o != NULL && e == json_tokener_success) {
		*ret = o;
		return 0;
	}
	json_object_put(o);
	return err_set(err, -EBADMSG, "byte %zu: %s", json_tokener_get_parse_end(tok),
		       json_tokener_error_desc(e));
}

static int decode(struct str json, const struct js_field *fields, void *out, bool known, struct arena *mem,
		  struct err *err)
{
	static struct json_scan scan;
	struct walk w = { .text = json, .room = json.n, .mem = mem, .err = err, .known = known };
	size_t mark = arena_mark(mem);
	struct json_object *o = NULL;
	int r;

	if (json.n > JSON_TEXT_MAX)
		r = err_set(err, -EMSGSIZE, "%zu bytes of JSON", json.n);
	else if (json_scan(&scan, json) != 0)
		r = err_set(err, -EBADMSG, "byte %zu: %s", scan.at, scan.why);
	else
		r = parse(json, &o, err);
	if (r != 0) {
		js_zero(fields, out);
		return r;
	}
	w.member = scan.member;
	w.copy = arena_try(mem, 1, json.n);
	r = w.copy == NULL ? no_room(&w) : read_object(&w, o, fields, out);
	if ((r == 0 && w.met != scan.members) || (r == -EINVAL && members_of(o) != scan.members))
		r = err_set(err, -EBADMSG, "the same key twice in one object");
	json_object_put(o);
	if (r != 0) {
		js_zero(fields, out);
		arena_back(mem, mark);
	}
	return r;
}

int js_decode(struct str json, const struct js_field *fields, void *out, struct arena *mem, struct err *err)
{
	return decode(json, fields, out, false, mem, err);
}

int js_decode_known(struct str json, const struct js_field *fields, void *out, struct arena *mem,
		    struct err *err)
{
	return decode(json, fields, out, true, mem, err);
}

static int read_texts(struct json_object *o, struct js_text *ret, size_t max, size_t *ret_n, struct arena *mem,
		      struct err *err)
{
	size_t n = 0;

	if (!json_object_is_type(o, json_type_object))
		return err_set(err, -EINVAL, "expected an object");
	for (struct lh_entry *e = lh_table_head(json_object_get_object(o)); e != NULL; e = lh_entry_next(e)) {
		struct json_object *v = (struct json_object *)lh_entry_v(e);

		if (n == max)
			return err_set(err, -E2BIG, "more than %zu fields", max);
		if (!json_object_is_type(v, json_type_string))
			return err_set(err, -EINVAL, "%s: expected a string", (const char *)lh_entry_k(e));
		ret[n].name = arena_str(mem, str_of(lh_entry_k(e)));
		ret[n].value = arena_str(mem, text_of(v));
		if (ret[n].name.p == NULL || ret[n].value.p == NULL)
			return err_set(err, -ENOBUFS, "no memory left for the parts of the message");
		n++;
	}
	*ret_n = n;
	return 0;
}

int js_texts(struct str json, struct js_text *ret, size_t max, size_t *ret_n, struct arena *mem, struct err *err)
{
	static struct json_scan scan;
	struct json_object *o = NULL;
	int r;

	if (json.n > JSON_TEXT_MAX)
		return err_set(err, -EMSGSIZE, "%zu bytes of JSON", json.n);
	if (json_scan(&scan, json) != 0)
		return err_set(err, -EBADMSG, "byte %zu: %s", scan.at, scan.why);
	r = parse(json, &o, err);
	if (r == 0 && members_of(o) != scan.members)
		r = err_set(err, -EBADMSG, "the same key twice in one object");
	if (r == 0)
		r = read_texts(o, ret, max, ret_n, mem, err);
	json_object_put(o);
	return r;
}

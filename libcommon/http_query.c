/* http_query.c - a query string through the same table, limits and messages as a JSON body.
 *
 * The pairs are written as a JSON object, each as the type its field wants, and decoded by
 * js_decode().  A list is separated by commas.  Unknown names are skipped, as in bodies. */
#include "http_int.h"
#include "url.h"

enum { PAIRS = 64 };

static bool is_number(struct str s)
{
	int64_t v;
	size_t i = s.n > 0 && s.p[0] == '-' ? 1 : 0;

	return str_int(s, INT64_MIN, INT64_MAX, &v) == 0 && (s.p[i] != '0' || s.n == 1);
}

static void add_list(struct str s, struct buf *out)
{
	const char *sep = "[";

	while (s.n > 0) {
		buf_printf(out, "%s", sep);
		buf_json(out, str_cut(s, ',', &s));
		sep = ",";
	}
	buf_printf(out, "%s]", *sep == '[' ? "[" : "");
}

/* A value that is not of its field's type goes as text: js_decode() says what it is not. */
static void add_value(const struct js_field *f, struct str v, struct buf *out)
{
	if (f->type == JS_INT && is_number(v))
		buf_add(out, v);
	else if (f->type == JS_BOOL && (str_eq(v, STR("true")) || str_eq(v, STR("1"))))
		buf_add(out, STR("true"));
	else if (f->type == JS_BOOL && (str_eq(v, STR("false")) || str_eq(v, STR("0"))))
		buf_add(out, STR("false"));
	else if (f->type == JS_FLAGS || f->type == JS_STRS)
		add_list(v, out);
	else
		buf_json(out, v);
}

int query_decode(struct str query, const struct js_field *fields, void *out, struct arena *mem,
                 struct err *err)
{
	struct url_pair pair[PAIRS];
	struct buf json = BUF(64 << 10);
	struct str text = STR_NONE;
	const char *sep = "";
	size_t n;
	int r = url_query(query, pair, PAIRS, &n, mem, err);

	if (r != 0)
		return r;
	buf_add(&json, STR("{"));
	for (const struct js_field *f = fields; f->key != NULL; f++)
		for (size_t i = 0; i < n; i++)
			if (str_eq(pair[i].name, str_of(f->key)) && (pair[i].value.n > 0 || !f->optional)) {
				buf_printf(&json, "%s\"%s\":", sep, f->key);
				add_value(f, pair[i].value, &json);
				sep = ",";
			}
	buf_add(&json, STR("}"));
	r = buf_str(&json, &text);
	if (r == 0)
		r = js_decode(text, fields, out, mem, err);
	else
		err_set(err, r, "the query is too long");
	buf_clear(&json);
	return r;
}

/* http_openapi.c - the route table as OpenAPI 3.1: one description, of what runs. */
#include "http_int.h"

static const struct { unsigned auth; const char *name; } key_types[] = {
	{ HTTP_KEY_COLLECTOR, "collector" }, { HTTP_KEY_INTERACTION, "interaction" },
	{ HTTP_KEY_WEBHOOK, "webhook" }, { HTTP_KEY_ADMIN, "admin" },
};

static const char error_schema[] =
	"{\"type\":\"object\",\"required\":[\"error\"],\"properties\":{\"error\":{\"type\":\"object\","
	"\"required\":[\"code\",\"message\"],\"properties\":{\"code\":{\"type\":\"string\"},"
	"\"message\":{\"type\":\"string\"},\"reason\":{\"type\":\"string\"},"
	"\"details\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{"
	"\"field\":{\"type\":\"string\"},\"message\":{\"type\":\"string\"}}}}}}}}";

static void add_param(struct buf *out, unsigned *n, struct str name, const char *in, bool required)
{
	buf_add(out, (*n)++ > 0 ? STR(",{\"name\":") : STR(",\"parameters\":[{\"name\":"));
	buf_json(out, name);
	buf_printf(out, ",\"in\":\"%s\",\"required\":%s", in, required ? "true" : "false");
}

/* What a value of a query looks like; every other type is text there. */
static const char *query_type(enum js_type type)
{
	static const char *const types[] = {
		[JS_INT] = "\"integer\"", [JS_BOOL] = "\"boolean\"",
		[JS_TIME] = "\"string\",\"format\":\"date-time\"", [JS_UUID] = "\"string\",\"format\":\"uuid\"",
		[JS_FLAGS] = "\"string\",\"description\":\"separated by commas\"",
		[JS_STRS] = "\"string\",\"description\":\"separated by commas\"",
	};

	return (size_t)type < ARRAY_LEN(types) && types[type] != NULL ? types[type] : "\"string\"";
}

static void add_query(struct buf *out, unsigned *n, const struct js_field *f)
{
	add_param(out, n, str_of(f->key), "query", !f->optional);
	if (f->help != NULL) {
		buf_add(out, STR(",\"description\":"));
		buf_json(out, str_of(f->help));
	}
	buf_printf(out, ",\"schema\":{\"type\":%s", query_type(f->type));
	if (f->type == JS_INT && (f->min != 0 || f->max != 0))
		buf_printf(out, ",\"minimum\":%lld,\"maximum\":%lld", (long long)f->min, (long long)f->max);
	if (f->type == JS_STR && f->max != 0)
		buf_printf(out, ",\"minLength\":%lld,\"maxLength\":%lld", (long long)f->min,
		           (long long)f->max);
	for (size_t i = 0; f->type == JS_ENUM && f->names[i] != NULL; i++) {
		buf_add(out, i > 0 ? STR(",") : STR(",\"enum\":["));
		buf_json(out, str_of(f->names[i]));
		if (f->names[i + 1] == NULL)
			buf_add(out, STR("]"));
	}
	buf_add(out, STR("}}"));
}

static void add_params(struct buf *out, const struct http_route *r)
{
	struct str rest = str_of(r->path);
	unsigned n = 0;

	while (rest.n > 0) {
		struct str s = str_cut(rest, '/', &rest);

		if (s.n > 2 && s.p[0] == '{') {
			add_param(out, &n, (struct str){ s.p + 1, s.n - 2 }, "path", true);
			buf_add(out, STR(",\"schema\":{\"type\":\"string\",\"minLength\":1}}"));
		}
	}
	for (const struct js_field *f = r->query; f != NULL && f->key != NULL; f++)
		add_query(out, &n, f);
	if (n > 0)
		buf_add(out, STR("]"));
}

static void add_security(struct buf *out, unsigned auth)
{
	const char *sep = "";

	if ((auth & ~(unsigned)HTTP_SIGNED) == 0)
		return;
	buf_add(out, STR(",\"security\":[{\"key\":[]},{\"bearer\":[]}],\"x-key-types\":["));
	for (size_t i = 0; i < ARRAY_LEN(key_types); i++)
		if ((auth & key_types[i].auth) != 0) {
			buf_printf(out, "%s\"%s\"", sep, key_types[i].name);
			sep = ",";
		}
	buf_add(out, STR("]"));
}

static void add_operation(struct buf *out, const struct http_route *r)
{
	bool keyed = (r->auth & ~(unsigned)HTTP_SIGNED) != 0;

	buf_add(out, STR("\""));
	for (const char *p = r->method; *p != '\0'; p++)
		buf_printf(out, "%c", *p >= 'A' && *p <= 'Z' ? *p + ('a' - 'A') : *p);
	buf_add(out, STR("\":{\"summary\":"));
	buf_json(out, str_of(r->summary));
	add_params(out, r);
	add_security(out, r->auth);
	if (r->max_body > 0) {
		buf_printf(out,
		           ",\"requestBody\":{\"required\":%s,\"content\":{\"application/json\":{\"schema\":",
		           r->body != NULL ? "true" : "false");
		if (r->body != NULL)
			js_schema(r->body, out);
		else
			buf_add(out, STR("{}"));
		buf_printf(out, "}},\"x-max-bytes\":%zu}", r->max_body);
	}
	buf_add(out, STR(",\"responses\":{\"2XX\":{\"description\":\"Done.\"}"));
	if (keyed)
		buf_add(out, STR(",\"401\":{\"$ref\":\"#/components/responses/error\"}"
		                 ",\"403\":{\"$ref\":\"#/components/responses/error\"}"
		                 ",\"429\":{\"$ref\":\"#/components/responses/error\"}"));
	if (r->max_body > 0)
		buf_add(out, STR(",\"413\":{\"$ref\":\"#/components/responses/error\"}"));
	buf_add(out, STR(",\"4XX\":{\"$ref\":\"#/components/responses/error\"}"
	                 ",\"5XX\":{\"$ref\":\"#/components/responses/error\"}}}"));
}

/* All rows of one path stand together, at the place of the first. */
static bool seen_before(const struct http_route *routes, const struct http_route *r)
{
	for (const struct http_route *o = routes; o < r; o++)
		if (strcmp(o->path, r->path) == 0)
			return true;
	return false;
}

void http_openapi(const struct http_route *routes, const char *title, struct buf *out)
{
	const char *sep = "";

	buf_add(out, STR("{\"openapi\":\"3.1.0\",\"info\":{\"title\":"));
	buf_json(out, str_of(title));
	buf_add(out, STR(",\"version\":\"1\"},\"paths\":{"));
	for (const struct http_route *r = routes; r->method != NULL; r++) {
		const char *comma = "";

		if (seen_before(routes, r))
			continue;
		buf_printf(out, "%s", sep);
		buf_json(out, str_of(r->path));
		buf_add(out, STR(":{"));
		for (const struct http_route *o = r; o->method != NULL; o++)
			if (strcmp(o->path, r->path) == 0) {
				buf_printf(out, "%s", comma);
				add_operation(out, o);
				comma = ",";
			}
		buf_add(out, STR("}"));
		sep = ",";
	}
	buf_printf(out,
	           "},\"components\":{\"securitySchemes\":{"
	           "\"key\":{\"type\":\"apiKey\",\"in\":\"header\",\"name\":\"X-API-Key\"},"
	           "\"bearer\":{\"type\":\"http\",\"scheme\":\"bearer\"}},"
	           "\"responses\":{\"error\":{\"description\":\"The call was refused or failed.\","
	           "\"content\":{\"application/json\":{\"schema\":%s}}}}}}",
	           error_schema);
}

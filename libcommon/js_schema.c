/* js_schema.c - a table as JSON Schema 2020-12, in one line of JSON or as a block of YAML.
 *
 * One walk over the rows, two ways to write what it says: a YAML text in double quotes is a JSON
 * string, so only the brackets differ. */
#include "decode.h"

struct writer {
	struct buf *out;
	bool yaml;
	int indent; /* of the line being written */
	bool first; /* in this object */
};

static void key(struct writer *w, const char *name)
{
	if (w->yaml) {
		buf_printf(w->out, "%*s%s: ", w->indent, "", name);
		return;
	}
	buf_printf(w->out, "%s\"%s\":", w->first ? "" : ",", name);
	w->first = false;
}

static void end_line(struct writer *w)
{
	if (w->yaml)
		buf_add(w->out, STR("\n"));
}

static void text(struct writer *w, const char *name, const char *value)
{
	key(w, name);
	buf_json(w->out, str_of(value));
	end_line(w);
}

static void number(struct writer *w, const char *name, int64_t value)
{
	key(w, name);
	buf_printf(w->out, "%lld", (long long)value);
	end_line(w);
}

static void open(struct writer *w, const char *name)
{
	key(w, name);
	if (w->yaml) {
		w->out->n -= w->out->failed == 0; /* the blank behind the colon */
		buf_add(w->out, STR("\n"));
		w->indent += 2;
	} else {
		buf_add(w->out, STR("{"));
	}
	w->first = true;
}

static void close(struct writer *w)
{
	if (w->yaml)
		w->indent -= 2;
	else
		buf_add(w->out, STR("}"));
	w->first = false;
}

static void type(struct writer *w, const struct js_field *f, const char *name)
{
	key(w, "type");
	if (f->optional)
		buf_printf(w->out, "[\"%s\",\"null\"]", name);
	else
		buf_printf(w->out, "\"%s\"", name);
	end_line(w);
}

/* An enum's null stands for absence, like that of the types. */
static void names(struct writer *w, const char *const *list, bool with_null)
{
	const char *between = "";

	key(w, "enum");
	buf_add(w->out, STR("["));
	for (size_t i = 0; list[i] != NULL; i++) {
		if (list[i][0] == '\0')
			continue;
		buf_printf(w->out, "%s\"%s\"", between, list[i]);
		between = ",";
	}
	buf_add(w->out, with_null ? STR(",null]") : STR("]"));
	end_line(w);
}

static void limits(struct writer *w, const struct js_field *f, const char *min, const char *max)
{
	if (f->min != 0 || (f->max != 0 && f->type == JS_INT))
		number(w, min, f->min);
	if (f->max != 0 && f->max != INT64_MAX)
		number(w, max, f->max);
}

static void object(struct writer *w, const struct js_field *fields);

static void property(struct writer *w, const struct js_field *f)
{
	open(w, f->key);
	if (f->help != NULL)
		text(w, "description", f->help);
	switch (f->type) {
	case JS_STR:
		type(w, f, "string");
		limits(w, f, "minLength", "maxLength");
		break;
	case JS_INT:
		type(w, f, "integer");
		limits(w, f, "minimum", "maximum");
		if (f->absent != 0)
			number(w, "default", f->absent);
		break;
	case JS_BOOL:
		type(w, f, "boolean");
		if (f->absent != 0) {
			key(w, "default");
			buf_add(w->out, STR("true"));
			end_line(w);
		}
		break;
	case JS_TIME:
		type(w, f, "string");
		text(w, "format", "date-time");
		break;
	case JS_UUID:
		type(w, f, "string");
		text(w, "format", "uuid");
		break;
	case JS_ENUM:
		names(w, f->names, f->optional);
		if (f->optional && f->names[f->absent][0] != '\0')
			text(w, "default", f->names[f->absent]);
		break;
	case JS_FLAGS:
		type(w, f, "array");
		open(w, "items");
		if (f->closed)
			names(w, f->names, false);
		else
			text(w, "type", "string");
		close(w);
		break;
	case JS_STRS:
		type(w, f, "array");
		limits(w, f, "minItems", "maxItems");
		open(w, "items");
		text(w, "type", "string");
		close(w);
		break;
	case JS_RAW:
		if (f->help == NULL)
			text(w, "description", "any JSON value");
		break;
	case JS_RAW_OBJECT:
		type(w, f, "object");
		break;
	case JS_OBJECT:
		type(w, f, "object");
		object(w, f->fields);
		break;
	case JS_OBJECTS:
		type(w, f, "array");
		limits(w, f, "minItems", "maxItems");
		open(w, "items");
		text(w, "type", "object");
		object(w, f->fields);
		close(w);
		break;
	case JS_END:
		break;
	}
	close(w);
}

/* The part that is the same for the whole and for a nested object: its type is written already. */
static void object(struct writer *w, const struct js_field *fields)
{
	const char *between = "";
	bool any = false;

	for (const struct js_field *f = fields; f->key != NULL; f++)
		any = any || !f->optional;
	if (any) {
		key(w, "required");
		buf_add(w->out, STR("["));
		for (const struct js_field *f = fields; f->key != NULL; f++) {
			if (f->optional)
				continue;
			buf_printf(w->out, "%s\"%s\"", between, f->key);
			between = ",";
		}
		buf_add(w->out, STR("]"));
		end_line(w);
	}
	open(w, "properties");
	for (const struct js_field *f = fields; f->key != NULL; f++)
		property(w, f);
	close(w);
}

void js_schema(const struct js_field *fields, struct buf *out)
{
	struct writer w = { .out = out, .first = true };

	buf_add(out, STR("{"));
	text(&w, "type", "object");
	object(&w, fields);
	buf_add(out, STR("}"));
}

void js_schema_yaml(const struct js_field *fields, int indent, struct buf *out)
{
	struct writer w = { .out = out, .yaml = true, .indent = indent };

	text(&w, "type", "object");
	object(&w, fields);
}

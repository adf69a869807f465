/* flatten.c - a form as a structure, and as one line for platforms that have no forms. */
#include "response.h"

enum { FORM_BYTES = 256 * 1024 };

static struct str kept(struct buf *b, struct arena *mem)
{
	struct str text = STR_NONE;

	if (buf_str(b, &text) == 0)
		text = arena_str(mem, text);
	buf_clear(b);
	return text;
}

/* title: description | 1. Label* (type: a, b, c) | 2. ... | Answer: <form_submit_url> */
struct str form_flat(const struct response *a, struct arena *mem)
{
	const struct form_field *f = a->form_fields.items;
	struct buf b = BUF(FORM_BYTES);
	int shown = 0;

	buf_add(&b, a->form_title.n > 0 ? a->form_title : STR("Form"));
	if (a->form_description.n > 0)
		buf_printf(&b, ": " STR_FMT, STR_ARG(a->form_description));
	for (size_t i = 0; i < a->form_fields.n; i++) {
		struct str label = f[i].label.n > 0 ? f[i].label : f[i].name;
		const struct str *option = f[i].options.items;

		if (f[i].type == FORM_HIDDEN)
			continue;
		buf_printf(&b, " | %d. " STR_FMT "%s (%s", ++shown, STR_ARG(label), f[i].required ? "*" : "",
		           form_type_names[f[i].type]);
		for (size_t o = 0; o < f[i].options.n; o++)
			buf_printf(&b, "%s" STR_FMT, o == 0 ? ": " : ", ", STR_ARG(option[o]));
		buf_add(&b, STR(")"));
	}
	if (a->form_submit_url.n > 0)
		buf_printf(&b, " | Answer: " STR_FMT, STR_ARG(a->form_submit_url));
	return kept(&b, mem);
}

struct structure { struct str custom_id, title, description; struct js_list fields; };

struct str form_structure(const struct response *a, struct arena *mem)
{
	const struct js_field *of_response = js_field(envelope_fields[ENV_RESPONSE], "form_fields");
	const struct js_field fields[] = {
		JS(struct structure, custom_id, JS_STR),
		JS(struct structure, title, JS_STR, .optional = true),
		JS(struct structure, description, JS_STR, .optional = true),
		JS(struct structure, fields, JS_OBJECTS, .size = sizeof(struct form_field),
		   .fields = of_response->fields),
		{ 0 }
	};
	struct structure s = {
		.custom_id = arena_printf(mem, "form:" STR_FMT ":%lld", STR_ARG(a->execution_id),
		                          (long long)a->response_index),
		.title = a->form_title, .description = a->form_description, .fields = a->form_fields,
	};
	struct buf b = BUF(FORM_BYTES);

	js_encode(fields, &s, &b);
	return kept(&b, mem);
}

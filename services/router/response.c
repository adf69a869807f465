/* response.c - the rules of a response that are between its fields (router.md 15). */
#include "response.h"
#include "err.h"

enum { TICKER_MAX = 200 };

static bool has_options(int type)
{
	return type == FORM_SELECT || type == FORM_MULTISELECT || type == FORM_RADIO || type == FORM_CHECKBOX;
}

static int check_url(const struct guard *g, const char *name, struct str url, struct err *err)
{
	enum guard_reason why = url.n == 0 ? GUARD_FINE : guard_url(g, url);

	if (why == GUARD_FINE)
		return 0;
	return err_set(err, -EINVAL, "%s: not a URL that may be used (%s)", name, guard_reason_name(why));
}

static int check_form(const struct response *a, struct err *err)
{
	const struct form_field *f = a->form_fields.items;

	if (a->form_fields.n == 0)
		return err_set(err, -EINVAL, "form_fields: a form needs 1 to 25 of them");
	for (size_t i = 0; i < a->form_fields.n; i++) {
		for (size_t j = 0; j < i; j++)
			if (str_eq(f[i].name, f[j].name))
				return err_set(err, -EINVAL, "form_fields[%zu].name: the name of field %zu, too", i, j);
		/* One checkbox without options is a yes or no. */
		if (has_options(f[i].type) && f[i].options.n == 0 && f[i].type != FORM_CHECKBOX)
			return err_set(err, -EINVAL, "form_fields[%zu].options: 1 to 25 to choose from", i);
	}
	return 0;
}

int response_check(struct response *a, const struct guard *g, struct err *err)
{
	int r = check_url(g, "media_url", a->media_url, err);

	if (r == 0)
		r = check_url(g, "form_submit_url", a->form_submit_url, err);
	if (r == 0)
		r = check_url(g, "form_callback_url", a->form_callback_url, err);
	if (r == 0 && a->response_action == ACTION_FORM && a->success)
		r = check_form(a, err);
	if (r == 0)
		a->ticker_text = str_clip(a->ticker_text, TICKER_MAX);
	return r;
}

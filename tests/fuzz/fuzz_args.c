/* fuzz_args - what people type behind a command.
 *
 * Holds always: a refusal has a sentence; a link we accept is http or https, ASCII, and accepted
 * again as itself; a time span lies between one minute and five years; tags are at most ten, each
 * once; ids are positive; texts keep their limits. */
#include "args.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct all {
	struct str title, url, rest, where;
	int64_t count, id, page;
	int kind;
	struct js_list tags;
	struct duration every;
};
static const char *const kinds[] = { "quote", "url", "note", NULL };

static const struct arg links[] = { ARG(struct all, title, ARG_WORD, .min = 1, .max = 20),
	                            ARG(struct all, url, ARG_URL),
	                            ARG(struct all, rest, ARG_REST, .optional = true, .max = 40),
	                            ARG(struct all, tags, ARG_TAGS, .keyed = true),
	                            ARG(struct all, where, ARG_WORD, .keyed = true, .max = 10),
	                            ARG(struct all, page, ARG_PAGE),
	                            { 0 } };
static const struct arg plans[] = { ARG(struct all, kind, ARG_ENUM, .names = kinds),
	                            ARG(struct all, count, ARG_INT, .min = -5, .max = 100),
	                            ARG(struct all, id, ARG_ID, .optional = true),
	                            ARG(struct all, every, ARG_DURATION, .optional = true),
	                            { 0 } };

static void url_holds(struct str url, struct arena *mem)
{
	struct str again;

	ASSERT(str_starts(url, STR("http")) || str_eq_fold((struct str){ url.p, 4 }, STR("http")));
	ASSERT(url.n <= 2048);
	for (size_t i = 0; i < url.n; i++)
		ASSERT(url.p[i] > ' ' && url.p[i] < 0x7f);
	ASSERT(args_url(url, mem, &again) == 0 && str_eq(url, again));
}

static void tags_hold(const struct js_list *tags)
{
	const struct str *t = tags->items;

	ASSERT(tags->n <= 10);
	for (size_t i = 0; i < tags->n; i++) {
		ASSERT(t[i].n > 0 && args_chars(t[i]) <= 50);
		for (size_t j = 0; j < i; j++)
			ASSERT(!str_eq(t[i], t[j]));
	}
}

static void both(const struct str *words, size_t n, struct arena *mem)
{
	struct all a = { 0 }, b = { 0 };
	struct str why = STR_NONE;

	if (args_parse(links, words, n, &a, mem, &why) == 0) {
		ASSERT(args_chars(a.title) >= 1 && args_chars(a.title) <= 20 && args_chars(a.rest) <= 40);
		ASSERT(args_chars(a.where) <= 10 && a.page >= 1);
		url_holds(a.url, mem);
		tags_hold(&a.tags);
	} else {
		ASSERT(why.n > 0);
	}
	why = STR_NONE;
	if (args_parse(plans, words, n, &b, mem, &why) == 0) {
		ASSERT(b.kind >= 1 && b.kind <= 3 && b.count >= -5 && b.count <= 100 && b.id >= 0);
		ASSERT(b.every.months >= 0 && b.every.months <= 60 && b.every.ms >= 0);
	} else {
		ASSERT(why.n > 0);
	}
}

/* Words are the parts between NULs. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *mem = arena_new(4096, 1 << 20);
	struct str words[40], text = { (const char *)data, size }, url;
	struct duration d;
	struct js_list tags = { 0 };
	int64_t id;
	size_t n = 0;

	if (args_url(text, mem, &url) == 0)
		url_holds(url, mem);
	if (args_duration(text, &d) == 0)
		ASSERT(d.months >= 0 && d.months <= 60 && (d.months > 0 || d.ms >= 60000));
	if (args_id(text, &id) == 0)
		ASSERT(id > 0);
	while (n < ARRAY_LEN(words) && text.p != NULL) {
		words[n] = str_cut(text, '\0', &text);
		if (str_utf8_ok(words[n]))
			n++;
	}
	if (n > 0 && args_tags(words[0], mem, &tags) == 0)
		tags_hold(&tags);
	both(words, n, mem);
	arena_free(mem);
	return 0;
}

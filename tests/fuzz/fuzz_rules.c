/* Any pattern over any text, as each kind of rule: an expression compiles or is refused at a place
 * within it; the set says what the expression alone says, so nothing is lost on the way through the
 * prefilter; work stays in proportion; literals are found where a plain search finds them. */
#include "../../services/router/fold.h"
#include "../../services/router/rules.h"
#include "err.h"
#include "pattern.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct rules_scan *scan;
static struct pattern_scratch *run;

static size_t chars(struct str s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
	return n;
}

static bool hits(struct rule r, struct str text)
{
	struct arena *mem = arena_new(4096, 64 << 20);
	struct rule *own = ARENA_NEW(mem, struct rule);
	struct rules_set *s;
	const struct rule *found;

	*own = r;
	s = rules_compile(own, 1, mem);
	rules_scan_fit(scan, s);
	rules_scan_text(scan, text);
	found = rules_find(scan, s, (struct rules_who){ 5, RULES_ANY_ACTION });
	if (found != NULL) {
		struct rules_span at = rules_span(scan, found);

		ASSERT(at.from <= at.to && at.to <= rules_folded(scan, found).n);
		ASSERT(str_utf8_ok(rules_folded(scan, found)) && str_utf8_ok(rules_matched(scan, found)));
	}
	rules_set_free(s);
	return found != NULL;
}

static void expression(struct rule r, struct str text)
{
	struct pattern *p;
	struct pattern_span span;
	struct err err = { 0 };
	size_t at = 0;
	uint64_t before = pattern_steps(run);
	bool found;

	r.match = RULE_REGEX;
	if (pattern_compile(r.string, !r.case_sensitive, &p, &at, &err) != 0) {
		ASSERT(err.code == -EINVAL && at <= chars(r.string));
		return;
	}
	ASSERT(pattern_size(p) <= PATTERN_PROGRAM);
	found = pattern_find(p, run, text, &span);
	ASSERT(pattern_steps(run) - before <= 2 * (chars(text) + 1) * (uint64_t)pattern_size(p));
	ASSERT(!found || (span.from <= span.to && span.to <= text.n));
	if (!str_eq(r.string, STR("*")) && pattern_size(p) < 500)
		ASSERT(hits(r, text) == found);
	pattern_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = { 0 };
	struct str all = { (const char *)data + 1, size > 0 ? size - 1 : 0 };
	const char *cut = size > 1 ? memchr(all.p, '\n', all.n) : NULL;
	struct rule r = { .id = 1, .exempt = -1 };
	struct str text;

	if (cut == NULL || size > 6000)
		return 0;
	r.string = (struct str){ all.p, (size_t)(cut - all.p) };
	text = (struct str){ cut + 1, all.n - r.string.n - 1 };
	if (r.string.n == 0 || !str_utf8_ok(r.string) || !str_utf8_ok(text))
		return 0;
	if (scan == NULL) {
		scan = rules_scan_new(&err);
		run = pattern_scratch_new();
		ASSERT(scan != NULL);
	}
	r.case_sensitive = data[0] & 1;
	expression(r, text);
	r.normalize = data[0] & 2;
	for (r.match = RULE_EXACT; r.match <= RULE_WORD; r.match++) {
		bool hit = hits(r, text);

		if (r.case_sensitive && !r.normalize && r.match == RULE_CONTAINS &&
		    !str_eq(r.string, STR("*")))
			ASSERT(hit == (text.n > 0 && memmem(text.p, text.n, r.string.p, r.string.n) != NULL));
	}
	return 0;
}

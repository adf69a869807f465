/* rules.c - a compiled set and the search in it.
 *
 * The rules of a set are sorted into four forms of the text (case_sensitive, normalize).  In each:
 * exact patterns are sorted texts; contains and word patterns are the literals of one vectorscan
 * database, each once, with the rules that have it in order; regular expressions are one database
 * of approximations, and only those it reports are run.  A rule is its index in the order of the
 * set, so that "comes before" is one comparison.
 *
 * vectorscan works on bytes here: literals of valid UTF-8 can only begin where a character does,
 * and the approximations spell characters as their bytes. */
#include "rules.h"
#include "err.h"
#include "fold.h"
#include "hash.h"
#include "pattern.h"

#include <hs.h>
#include <stdlib.h>
#include <string.h>
#include <unicode/utf8.h>

enum { FORMS = 4, NEVER = INT32_MAX, MAX_TOO_LARGE = 16 };

const char *const rule_match_names[] = { "exact", "contains", "word", "regex", NULL };
const char *const rule_action_names[] = { "warn", "block", "command", "webhook", NULL };

struct literal {                        /* one text, and who looks for it */
	struct str text;
	int32_t   *contains, *word;     /* indexes of rules, ascending */
	size_t     n_contains, n_word;
};

struct exact { struct str text; int32_t rule; };

struct regex { struct pattern *p; int32_t rule; };

struct form {
	struct exact   *exact;          /* by text, then rule */
	struct literal *literal;
	struct regex   *regex;
	size_t          n_exact, n_literals, n_regex;
	size_t          n_sorted;       /* regex[0 .. n_sorted) are in the database, the others not */
	hs_database_t  *literals, *regexes;
};

struct rules_set {
	const struct rule *rule;
	size_t             n;
	struct arena      *mem;
	struct form        form[FORMS];
	int32_t           *any;         /* those of `*`, ascending */
	size_t             n_any, bytes;
	bool               has_exempt;
	uint64_t           print;
	const struct rules_scan *fits;  /* whose scratch has room for it */
};

struct rules_scan {
	struct fold            *fold;
	struct pattern_scratch *run;
	hs_scratch_t           *scratch;
	struct str              text;
	struct buf              made[FORMS];
	struct str              folded[FORMS];
	bool                    has[FORMS];
	/* of the search under way */
	const struct rules_set *set;
	const struct form      *form;
	struct str              in;     /* text of the form */
	int                     rank;
	unsigned                actions;
	int32_t                 best;
	bool                   *hit;    /* all: what hit; NULL: only the best */
	int32_t                *maybe;  /* regexes the database reported */
	size_t                  n_maybe, room;
};

static unsigned form_of(const struct rule *r)
{
	return (r->case_sensitive ? 1u : 0u) | (r->normalize ? 2u : 0u);
}

static bool is_any(const struct rule *r)
{
	return str_eq(r->string, STR("*"));
}

bool rule_before(const struct rule *a, const struct rule *b)
{
	return a->priority != b->priority ? a->priority < b->priority : a->id < b->id;
}

/* --- compiling ----------------------------------------------------------------------------- */

struct making { struct rules_set *s; struct fold *fold; struct buf b; };

/* What is looked for, in the set's memory; empty: nothing could hit. */
static struct str needle(struct making *m, const struct rule *r)
{
	struct str s;

	buf_reset(&m->b);
	fold_text(m->fold, r->match == RULE_EXACT ? fold_trim(r->string) : r->string, r->case_sensitive,
	          r->normalize, &m->b);
	if (buf_str(&m->b, &s) != 0)
		return STR_NONE;
	return r->match == RULE_EXACT ? fold_trim(s) : s;
}

int rule_check(const struct rule *r, size_t *ret_at, struct err *err)
{
	struct pattern *p = NULL;
	struct making m = { .b = BUF(1 << 16) };
	struct str text;
	int e = 0;

	*ret_at = 0;
	if (is_any(r))
		return 0;
	if (r->match == RULE_REGEX) {
		e = pattern_compile(r->string, !r->case_sensitive, &p, ret_at, err);
		pattern_free(p);
		return e;
	}
	m.fold = fold_open(err);
	if (m.fold == NULL)
		return err->code;
	text = needle(&m, r);
	if (text.n == 0)
		e = err_set(err, -EINVAL, "character 0: nothing of it is left to look for");
	buf_clear(&m.b);
	fold_close(m.fold);
	return e;
}

static int exact_order(const void *a, const void *b)
{
	const struct exact *x = a, *y = b;
	size_t n = x->text.n < y->text.n ? x->text.n : y->text.n;
	int r = n > 0 ? memcmp(x->text.p, y->text.p, n) : 0;

	if (r != 0)
		return r;
	if (x->text.n != y->text.n)
		return x->text.n < y->text.n ? -1 : 1;
	return (x->rule > y->rule) - (x->rule < y->rule);
}

/* From the rules of one form that look for a text within: each text once.  wanted is sorted. */
static void make_literals(struct making *m, struct form *f, const struct exact *wanted, size_t n)
{
	struct arena *mem = m->s->mem;
	struct literal *l = NULL;

	f->literal = arena_alloc(mem, (n > 0 ? n : 1) * sizeof f->literal[0]);
	for (size_t i = 0; i < n; i++) {
		bool word = m->s->rule[wanted[i].rule].match == RULE_WORD;

		if (l == NULL || !str_eq(l->text, wanted[i].text)) {
			size_t same = i;

			while (same < n && str_eq(wanted[same].text, wanted[i].text))
				same++;
			l = &f->literal[f->n_literals++];
			l->text = wanted[i].text;
			l->contains = arena_alloc(mem, (same - i) * sizeof l->contains[0]);
			l->word = arena_alloc(mem, (same - i) * sizeof l->word[0]);
		}
		if (word)
			l->word[l->n_word++] = wanted[i].rule;
		else
			l->contains[l->n_contains++] = wanted[i].rule;
	}
}

static void compile_literals(struct rules_set *s, struct form *f)
{
	const char **text = XNEW_N(const char *, f->n_literals);
	size_t *n = XNEW_N(size_t, f->n_literals);
	unsigned *flags = XNEW_N(unsigned, f->n_literals), *ids = XNEW_N(unsigned, f->n_literals);
	hs_compile_error_t *bad = NULL;
	size_t bytes = 0;
	hs_error_t e;

	for (size_t i = 0; i < f->n_literals; i++) {
		text[i] = f->literal[i].text.p;
		n[i] = f->literal[i].text.n;
		ids[i] = (unsigned)i;
		/* One is enough, except where the edges decide. */
		flags[i] = f->literal[i].n_word == 0 ? HS_FLAG_SINGLEMATCH : 0;
	}
	e = hs_compile_lit_multi(text, flags, ids, n, (unsigned)f->n_literals, HS_MODE_BLOCK, NULL,
	                         &f->literals, &bad);
	ASSERT(e == HS_SUCCESS);        /* nothing in a literal can be wrong */
	(void)hs_database_size(f->literals, &bytes);
	s->bytes += bytes;
	free(text);
	free(n);
	free(flags);
	free(ids);
}

static struct str approx_of(const struct regex *x, struct arena *mem)
{
	struct buf b = BUF(1 << 20);
	struct str s = STR_NONE;

	pattern_approx(x->p, &b);
	if (buf_str(&b, &s) == 0)
		s = arena_str(mem, s);
	buf_clear(&b);
	return s;
}

/* What the library finds too large is run on every text: slower, and as right. */
static void compile_regexes(struct rules_set *s, struct form *f)
{
	const char **text = XNEW_N(const char *, f->n_regex);
	unsigned *flags = XNEW_N(unsigned, f->n_regex), *ids = XNEW_N(unsigned, f->n_regex);
	struct arena *mem = arena_new(65536, 256 << 20);
	size_t n = f->n_regex, tries = 0, bytes = 0;
	hs_error_t e = HS_COMPILER_ERROR;

	for (size_t i = 0; i < n; i++) {
		text[i] = approx_of(&f->regex[i], mem).p;
		flags[i] = HS_FLAG_PREFILTER | HS_FLAG_SINGLEMATCH | HS_FLAG_DOTALL | HS_FLAG_ALLOWEMPTY;
		ids[i] = (unsigned)i;
	}
	while (n > 0 && tries++ <= MAX_TOO_LARGE) {
		hs_compile_error_t *bad = NULL;
		struct regex last;
		size_t i;

		e = hs_compile_multi(text, flags, ids, (unsigned)n, HS_MODE_BLOCK, NULL, &f->regexes, &bad);
		if (e == HS_SUCCESS)
			break;
		i = bad->expression >= 0 ? (size_t)bad->expression : n - 1;
		hs_free_compile_error(bad);
		n--;
		last = f->regex[n];
		f->regex[n] = f->regex[i];
		f->regex[i] = last;
		text[i] = text[n];
	}
	f->n_sorted = e == HS_SUCCESS ? n : 0;
	if (f->regexes != NULL)
		(void)hs_database_size(f->regexes, &bytes);
	s->bytes += bytes;
	arena_free(mem);
	free(text);
	free(flags);
	free(ids);
}

static void make_form(struct making *m, unsigned which)
{
	struct rules_set *s = m->s;
	struct form *f = &s->form[which];
	struct exact *wanted = XNEW_N(struct exact, s->n + 1);
	size_t n_wanted = 0, exact = 0, regex = 0;
	struct err err = { 0 };

	for (size_t i = 0; i < s->n; i++) {
		exact += form_of(&s->rule[i]) == which && s->rule[i].match == RULE_EXACT;
		regex += form_of(&s->rule[i]) == which && s->rule[i].match == RULE_REGEX;
	}
	f->exact = arena_alloc(s->mem, (exact + 1) * sizeof f->exact[0]);
	f->regex = arena_alloc(s->mem, (regex + 1) * sizeof f->regex[0]);
	for (size_t i = 0; i < s->n; i++) {
		const struct rule *r = &s->rule[i];
		struct exact one = { STR_NONE, (int32_t)i };
		size_t at;

		if (form_of(r) != which || is_any(r))
			continue;
		if (r->match == RULE_REGEX) {
			struct regex *x = &f->regex[f->n_regex];

			x->rule = (int32_t)i;
			if (pattern_compile(r->string, !r->case_sensitive, &x->p, &at, &err) == 0) {
				s->bytes += pattern_size(x->p) * 16;
				f->n_regex++;
			}
			continue;
		}
		one.text = needle(m, r);
		if (one.text.n == 0)
			continue;
		one.text = arena_str(s->mem, one.text);
		if (r->match == RULE_EXACT)
			f->exact[f->n_exact++] = one;
		else
			wanted[n_wanted++] = one;
	}
	qsort(f->exact, f->n_exact, sizeof f->exact[0], exact_order);
	qsort(wanted, n_wanted, sizeof wanted[0], exact_order);
	make_literals(m, f, wanted, n_wanted);
	free(wanted);
	if (f->n_literals > 0)
		compile_literals(s, f);
	if (f->n_regex > 0)
		compile_regexes(s, f);
}

static uint64_t mix(uint64_t h, struct str s)
{
	return (h ^ hash_of(s)) * UINT64_C(0x9e3779b97f4a7c15) + s.n;
}

static uint64_t print_of(const struct rule *r, size_t n)
{
	uint64_t h = n;

	for (size_t i = 0; i < n; i++, r++) {
		const int64_t number[] = { r->id, r->priority, r->timeout_s, r->match, r->action, r->exempt,
		                           r->case_sensitive, r->normalize };

		h = mix(h, (struct str){ (const char *)number, sizeof number });
		h = mix(mix(mix(h, r->string), r->warning), r->block);
		h = mix(mix(mix(mix(h, r->command), r->parameters), r->webhook_url), r->secret);
	}
	return h;
}

struct rules_set *rules_compile(const struct rule *rules, size_t n, struct arena *mem)
{
	struct rules_set *s = XNEW(struct rules_set);
	struct err err = { 0 };
	struct making m = { .s = s, .fold = fold_open(&err), .b = BUF(1 << 20) };

	ASSERT(m.fold != NULL);         /* rules_scan_new() was asked first */
	*s = (struct rules_set){ .rule = rules, .n = n, .mem = mem, .print = print_of(rules, n) };
	s->any = arena_alloc(mem, (n + 1) * sizeof s->any[0]);
	for (size_t i = 0; i < n; i++) {
		if (is_any(&rules[i]))
			s->any[s->n_any++] = (int32_t)i;
		s->has_exempt = s->has_exempt || rules[i].exempt >= 0;
	}
	for (unsigned i = 0; i < FORMS; i++)
		make_form(&m, i);
	s->bytes += arena_used(mem);
	buf_clear(&m.b);
	fold_close(m.fold);
	return s;
}

void rules_set_free(struct rules_set *s)
{
	if (s == NULL)
		return;
	for (unsigned i = 0; i < FORMS; i++) {
		struct form *f = &s->form[i];

		for (size_t k = 0; k < f->n_regex; k++)
			pattern_free(f->regex[k].p);
		hs_free_database(f->literals);
		hs_free_database(f->regexes);
	}
	arena_free(s->mem);
	free(s);
}

size_t rules_set_size(const struct rules_set *s)
{
	return s->n;
}

const struct rule *rules_set_at(const struct rules_set *s, size_t i)
{
	ASSERT(i < s->n);
	return &s->rule[i];
}

bool rules_set_has_exempt(const struct rules_set *s)
{
	return s->has_exempt;
}

size_t rules_set_bytes(const struct rules_set *s)
{
	return s->bytes;
}

uint64_t rules_set_print(const struct rules_set *s)
{
	return s->print;
}

/* --- searching ----------------------------------------------------------------------------- */

struct rules_scan *rules_scan_new(struct err *err)
{
	struct rules_scan *c;
	struct fold *fold = fold_open(err);

	if (fold == NULL)
		return NULL;
	if (hs_valid_platform() != HS_SUCCESS) {
		(void)!err_set(err, -ENOSYS, "this processor lacks what vectorscan needs");
		fold_close(fold);
		return NULL;
	}
	c = XNEW(struct rules_scan);
	c->fold = fold;
	c->run = pattern_scratch_new();
	for (int i = 0; i < FORMS; i++)
		c->made[i] = BUF(1 << 20);
	return c;
}

void rules_scan_free(struct rules_scan *c)
{
	if (c == NULL)
		return;
	for (int i = 0; i < FORMS; i++)
		buf_clear(&c->made[i]);
	hs_free_scratch(c->scratch);
	pattern_scratch_free(c->run);
	fold_close(c->fold);
	free(c->maybe);
	free(c);
}

void rules_scan_text(struct rules_scan *c, struct str text)
{
	c->text = text;
	memset(c->has, 0, sizeof c->has);
}

static struct str form_text(struct rules_scan *c, unsigned which)
{
	if (!c->has[which]) {
		bool plain = which == 1;        /* as it is */

		c->folded[which] = c->text;
		buf_reset(&c->made[which]);
		if (!plain)
			fold_text(c->fold, c->text, which & 1, which & 2, &c->made[which]);
		if (!plain && buf_str(&c->made[which], &c->folded[which]) != 0)
			c->folded[which] = STR_NONE;    /* 1 MiB from at most 20 kB: it cannot grow so */
		c->has[which] = true;
	}
	return c->folded[which];
}

static bool spared(const struct rules_scan *c, int32_t i)
{
	const struct rule *r = &c->set->rule[i];

	return (r->exempt >= 0 && c->rank <= r->exempt) || (c->actions >> r->action & 1) == 0;
}

static void note(struct rules_scan *c, int32_t i)
{
	if (c->hit != NULL)
		c->hit[i] = true;
	if (i < c->best)
		c->best = i;
}

/* The rules at `rule` all hit; only those that could still be the first are looked at. */
static void note_all(struct rules_scan *c, const int32_t *rule, size_t n)
{
	for (size_t i = 0; i < n && (c->hit != NULL || rule[i] < c->best); i++)
		if (!spared(c, rule[i])) {
			note(c, rule[i]);
			if (c->hit == NULL)
				return;
		}
}

static bool word_at(struct str s, size_t at, bool before)
{
	int32_t i = (int32_t)at, c;

	if (before ? at == 0 : at >= s.n)
		return false;
	if (before)
		U8_PREV((const uint8_t *)s.p, 0, i, c);
	else
		U8_NEXT((const uint8_t *)s.p, i, (int32_t)s.n, c);
	return pattern_word_char(c);
}

/* Where the found text's own edge is a word character, its neighbour must not be one. */
static bool is_word(struct str text, size_t from, size_t to)
{
	return !(word_at(text, from, false) && word_at(text, from, true)) &&
	       !(word_at(text, to, true) && word_at(text, to, false));
}

static int literal_found(unsigned id, unsigned long long from, unsigned long long to, unsigned flags, void *arg)
{
	struct rules_scan *c = arg;
	const struct literal *l = &c->form->literal[id];

	(void)from;
	(void)flags;
	note_all(c, l->contains, l->n_contains);
	if (l->n_word > 0 && (c->hit != NULL || l->word[0] < c->best) &&
	    is_word(c->in, (size_t)to - l->text.n, (size_t)to))
		note_all(c, l->word, l->n_word);
	return c->hit == NULL && c->best == 0;  /* nothing can come before */
}

static int regex_found(unsigned id, unsigned long long from, unsigned long long to, unsigned flags, void *arg)
{
	struct rules_scan *c = arg;

	(void)from;
	(void)to;
	(void)flags;
	c->maybe[c->n_maybe++] = (int32_t)id;
	return 0;
}

static int ascending(const void *a, const void *b)
{
	const int32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void scan(struct rules_scan *c, const hs_database_t *db, match_event_handler found)
{
	hs_error_t e =
		hs_scan(db, c->in.p != NULL ? c->in.p : "", (unsigned)c->in.n, 0, c->scratch, found, c);

	ASSERT(e == HS_SUCCESS || e == HS_SCAN_TERMINATED);
}

static void find_exact(struct rules_scan *c)
{
	struct exact want = { fold_trim(c->in), -1 };
	size_t low = 0, high = c->form->n_exact;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (exact_order(&c->form->exact[mid], &want) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	for (; low < c->form->n_exact && str_eq(c->form->exact[low].text, want.text); low++)
		note_all(c, &c->form->exact[low].rule, 1);
}

/* Indexes into form->regex in the order of their rules: sorted ones need not be, some were moved. */
static void find_regex(struct rules_scan *c)
{
	const struct form *f = c->form;

	if (f->n_regex > c->room) {
		c->room = f->n_regex;
		c->maybe = xgrow(c->maybe, c->room, sizeof c->maybe[0]);
	}
	c->n_maybe = 0;
	if (f->n_sorted > 0)
		scan(c, f->regexes, regex_found);
	for (size_t i = f->n_sorted; i < f->n_regex; i++)
		c->maybe[c->n_maybe++] = (int32_t)i;
	qsort(c->maybe, c->n_maybe, sizeof c->maybe[0], ascending);
	for (size_t i = 0; i < c->n_maybe; i++) {
		const struct regex *x = &f->regex[c->maybe[i]];

		if ((c->hit == NULL && x->rule >= c->best) || spared(c, x->rule))
			continue;
		/* It folds by itself, so the text need not be altered. */
		if (pattern_find(x->p, c->run, rules_folded(c, &c->set->rule[x->rule]), NULL))
			note(c, x->rule);
	}
}

/* Not at each search: the library sums up the whole database before it looks at its size. */
void rules_scan_fit(struct rules_scan *c, struct rules_set *s)
{
	for (unsigned i = 0; i < FORMS; i++) {
		const hs_database_t *db[] = { s->form[i].literals, s->form[i].regexes };

		for (size_t k = 0; k < ARRAY_LEN(db); k++) {
			hs_error_t e = db[k] != NULL ? hs_alloc_scratch(db[k], &c->scratch) : HS_SUCCESS;

			ASSERT(e == HS_SUCCESS);
		}
	}
	s->fits = c;
}

static void search(struct rules_scan *c, const struct rules_set *s, struct rules_who who)
{
	ASSERT(s->fits == c);
	c->set = s;
	c->rank = who.rank;
	c->actions = who.actions;
	c->best = NEVER;
	note_all(c, s->any, s->n_any);
	for (unsigned i = 0; i < FORMS; i++) {
		c->form = &s->form[i];
		if (c->form->n_exact + c->form->n_literals + c->form->n_regex == 0)
			continue;
		c->in = form_text(c, i);
		if (c->form->n_exact > 0)
			find_exact(c);
		if (c->form->n_literals > 0)
			scan(c, c->form->literals, literal_found);
		if (c->form->n_regex > 0)
			find_regex(c);
	}
}

const struct rule *rules_find(struct rules_scan *c, const struct rules_set *s, struct rules_who who)
{
	c->hit = NULL;
	search(c, s, who);
	return c->best != NEVER ? &s->rule[c->best] : NULL;
}

size_t rules_find_all(struct rules_scan *c, const struct rules_set *s, struct rules_who who,
                      const struct rule **out, size_t max)
{
	bool *hit = XNEW_N(bool, s->n + 1);
	size_t n = 0;

	c->hit = hit;
	search(c, s, who);
	c->hit = NULL;
	for (size_t i = 0; i < s->n && n < max; i++)
		if (hit[i])
			out[n++] = &s->rule[i];
	free(hit);
	return n;
}

/* --- where ----------------------------------------------------------------------------------- */

static unsigned shown_form(const struct rule *r)
{
	/* Not normalised: what people see; folding keeps the number of characters. */
	return r->normalize ? form_of(r) : 1;
}

struct str rules_folded(struct rules_scan *c, const struct rule *r)
{
	return form_text(c, shown_form(r));
}

/* Bytes of the first `chars` characters. */
static size_t bytes_of(struct str s, size_t chars)
{
	return str_clip(s, chars).n;
}

static size_t chars_of(struct str s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
	return n;
}

static struct rules_span literal_span(struct str in, struct str what, bool word)
{
	for (size_t from = 0; from + what.n <= in.n; from++) {
		const char *at = memmem(in.p + from, in.n - from, what.p, what.n);

		if (at == NULL)
			break;
		from = (size_t)(at - in.p);
		if (!word || is_word(in, from, from + what.n))
			return (struct rules_span){ from, from + what.n };
	}
	return (struct rules_span){ 0, 0 };
}

struct rules_span rules_span(struct rules_scan *c, const struct rule *r)
{
	struct str shown = rules_folded(c, r), in = form_text(c, form_of(r));
	struct making m = { .fold = c->fold, .b = BUF(1 << 20) };
	struct rules_span span = { 0, shown.n };
	struct pattern_span p;
	struct pattern *re;
	struct err err = { 0 };
	size_t at;

	if (is_any(r))
		return span;
	if (r->match == RULE_REGEX) {
		if (pattern_compile(r->string, !r->case_sensitive, &re, &at, &err) != 0)
			return (struct rules_span){ 0, 0 };
		span = pattern_find(re, c->run, shown, &p) ? (struct rules_span){ p.from, p.to } :
		                                             (struct rules_span){ 0, 0 };
		pattern_free(re);
		return span;
	}
	if (r->match == RULE_EXACT) {
		struct str inner = fold_trim(shown);

		span.from = inner.n > 0 ? (size_t)(inner.p - shown.p) : 0;
		span.to = span.from + inner.n;
		return span;
	}
	span = literal_span(in, needle(&m, r), r->match == RULE_WORD);
	buf_clear(&m.b);
	if (!r->normalize) {
		size_t from = chars_of((struct str){ in.p, span.from }),
		       to = chars_of((struct str){ in.p, span.to });

		span = (struct rules_span){ bytes_of(shown, from), bytes_of(shown, to) };
	}
	return span;
}

struct str rules_matched(struct rules_scan *c, const struct rule *r)
{
	struct rules_span s = rules_span(c, r);

	return (struct str){ rules_folded(c, r).p + s.from, s.to - s.from };
}

uint64_t rules_steps(const struct rules_scan *c)
{
	return pattern_steps(c->run);
}

/* pattern.c - from text to tree to program, and what of it a prefilter can use.
 *
 * The tree has at most as many nodes as the pattern has characters.  Repeats are copied when the
 * program is made, which is where its limit is checked.  pattern_run.c searches. */
#include "pattern_int.h"
#include "err.h"

#include <unicode/utf8.h>

enum node_type { N_EMPTY, N_CHAR, N_ANY, N_CLASS, N_ASSERT, N_CAT, N_ALT, N_REPEAT };

struct node {
	enum node_type type;
	int32_t        c;               /* N_CHAR; N_ASSERT: its op; N_CLASS: its index */
	int32_t        a, b;            /* operands, indexes of nodes */
	int            min, max;        /* N_REPEAT; max -1: without end */
};

struct parser {
	struct pattern *p;
	const int32_t  *c;              /* the pattern as code points */
	size_t          n, at;
	struct node    *node;
	int32_t         n_nodes;
	bool            dot_all;
	size_t          bad_at;         /* of the mistake */
	const char     *bad;            /* what it is; NULL: none yet */
};

static int32_t refuse(struct parser *x, size_t at, const char *why)
{
	if (x->bad == NULL) {
		x->bad = why;
		x->bad_at = at;
	}
	return -1;
}

static int32_t node_new(struct parser *x, struct node n)
{
	x->node[x->n_nodes] = n;
	return x->n_nodes++;
}

static int32_t peek(const struct parser *x)
{
	return x->at < x->n ? x->c[x->at] : -1;
}

static bool accept(struct parser *x, int32_t c)
{
	if (peek(x) != c)
		return false;
	x->at++;
	return true;
}

/* --- classes ------------------------------------------------------------------------------- */

static void add_range(struct class *k, int32_t from, int32_t to)
{
	k->range = xgrow(k->range, k->n_ranges + 1, sizeof k->range[0]);
	k->range[k->n_ranges++] = (struct range){ from, to };
}

/* What else equals a member when case does not count: its folded form, if the range is short;
 * in a long one both forms are there, or the test of the other cases at run time finds it. */
static void add_member(const struct pattern *p, struct class *k, int32_t from, int32_t to)
{
	static const int32_t to_ascii[] = { 0x17f, 0x212a };    /* long s, Kelvin */

	add_range(k, from, to);
	if (!p->ignore_case)
		return;
	for (int32_t c = from; c <= to && to - from < 256; c++)
		if (pattern_fold_char(c) != c)
			add_range(k, pattern_fold_char(c), pattern_fold_char(c));
	for (size_t i = 0; i < ARRAY_LEN(to_ascii); i++)
		if (to_ascii[i] >= from && to_ascii[i] <= to)
			add_range(k, pattern_fold_char(to_ascii[i]), pattern_fold_char(to_ascii[i]));
}

static const struct range spaces[] = {
	{ 0x09, 0x0d }, { 0x20, 0x20 }, { 0x85, 0x85 }, { 0xa0, 0xa0 }, { 0x1680, 0x1680 },
	{ 0x2000, 0x200a }, { 0x2028, 0x2029 }, { 0x202f, 0x202f }, { 0x205f, 0x205f }, { 0x3000, 0x3000 },
};

static void add_space(struct class *k, bool not)
{
	int32_t from = 0;

	for (size_t i = 0; i < ARRAY_LEN(spaces); i++) {
		if (not )
			add_range(k, from, spaces[i].from - 1);
		else
			add_range(k, spaces[i].from, spaces[i].to);
		from = spaces[i].to + 1;
	}
	if (not )
		add_range(k, from, 0x10ffff);
}

static void add_property(struct class *k, uint32_t mask, bool not, bool underscore)
{
	if (underscore && !not )
		add_range(k, '_', '_');
	if (underscore && not ) {
		mask |= U_GC_PC_MASK;           /* the connectors but `_` are asked for apart */
		k->gc_but_underscore = true;
	}
	k->gc |= not ? ~mask : mask;
}

/* \p{Lu} and its like; x->at is behind the p. */
static bool property(struct parser *x, struct class *k, size_t began, bool not)
{
	static const struct { const char *name; uint32_t mask; bool cased; } all[] = {
		{ "L", U_GC_L_MASK, false }, { "Lu", U_GC_LU_MASK, true }, { "Ll", U_GC_LL_MASK, true },
		{ "M", U_GC_M_MASK, false }, { "N", U_GC_N_MASK, false }, { "P", U_GC_P_MASK, false },
		{ "S", U_GC_S_MASK, false },
	};
	char name[4] = "";
	size_t n = 0;

	if (!accept(x, '{'))
		return refuse(x, began, "a property is written \\p{L}") >= 0;
	while (n < sizeof name - 1 && peek(x) > 0 && peek(x) < 0x80 && peek(x) != '}') {
		name[n++] = (char)peek(x);
		x->at++;
	}
	for (size_t i = 0; i < ARRAY_LEN(all) && peek(x) == '}'; i++) {
		if (strcmp(all[i].name, name) != 0)
			continue;
		x->at++;
		add_property(k, all[i].cased && x->p->ignore_case ? U_GC_LC_MASK : all[i].mask, not, false);
		return true;
	}
	return refuse(x, began, "not one of L, Lu, Ll, M, N, P, S") >= 0;
}

/* The escapes that stand for many characters.  False: it is none of them, or refused. */
static bool escaped_class(struct parser *x, struct class *k, size_t began, int32_t c)
{
	bool not = c >= 'A' && c <= 'Z';

	switch (not ? c + ('a' - 'A') : c) {
	case 'd': add_property(k, U_GC_ND_MASK, not, false); return true;
	case 'w': add_property(k, WORD_MASK, not, true); return true;
	case 's': add_space(k, not); return true;
	case 'p': return property(x, k, began, not);
	default:
		return false;
	}
}

/* The one character an escape stands for, or -1. */
static int32_t escaped_char(struct parser *x, size_t began, int32_t c)
{
	switch (c) {
	case 'n': return '\n';
	case 'r': return '\r';
	case 't': return '\t';
	case -1: return refuse(x, began, "a backslash with nothing behind it");
	default:
		if (c < 0x80 && !(c >= '0' && c <= '9') && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))
			return c;
		return refuse(x, began, "no such escape");
	}
}

static int32_t class_end(struct parser *x, struct class *k)
{
	struct pattern *p = x->p;

	/* What is asked most is answered at once. */
	for (int32_t c = 0; c < 0x80; c++) {
		int32_t folded = p->ignore_case ? pattern_fold_char(c) : c;

		if (pattern_class_has(p, k, c, folded))
			k->ascii[c / 64] |= UINT64_C(1) << c % 64;
	}
	p->class = xgrow(p->class, p->n_classes + 1, sizeof p->class[0]);
	p->class[p->n_classes] = *k;
	return node_new(x, (struct node){ .type = N_CLASS, .c = (int32_t)p->n_classes++ });
}

/* One member of [...] that may begin a range; -1: it was a whole class, or refused. */
static int32_t class_char(struct parser *x, struct class *k)
{
	size_t began = x->at;
	int32_t c = x->c[x->at++];

	if (c == '[' && (peek(x) == ':' || peek(x) == '.' || peek(x) == '='))
		return refuse(x, began, "POSIX classes are not known");
	if (c != '\\')
		return c;
	c = peek(x);
	x->at++;
	if (escaped_class(x, k, began, c) || x->bad != NULL)
		return -1;
	return escaped_char(x, began, c);
}

static int32_t class_parse(struct parser *x, size_t began)
{
	struct class k = { .not = accept(x, '^') };
	bool first = true;

	for (; x->bad == NULL; first = false) {
		size_t at = x->at;
		int32_t from, to;

		if (x->at >= x->n) {
			refuse(x, began, "a class without its ]");
			break;
		}
		if (!first && accept(x, ']'))
			return class_end(x, &k);
		from = to = class_char(x, &k);
		if (peek(x) == '-' && x->at + 1 < x->n && x->c[x->at + 1] != ']') {
			x->at++;
			to = class_char(x, &k);
			if (x->bad == NULL && (from < 0 || to < 0 || to < from))
				refuse(x, at, "a range that is none");
		}
		if (x->bad == NULL && from >= 0)
			add_member(x->p, &k, from, to);
	}
	free(k.range);
	return -1;
}

/* --- the rest of the grammar --------------------------------------------------------------- */

static int32_t alternatives(struct parser *x);

static int32_t group(struct parser *x, size_t began)
{
	int32_t inner;

	if (accept(x, '?') && !accept(x, ':'))
		return refuse(x, began,
		              peek(x) == 'i' || peek(x) == 's' ?
		                      "flags stand at the very start" :
		                      "look-around, names, atomic groups and recursion are not known");
	inner = alternatives(x);
	if (x->bad == NULL && !accept(x, ')'))
		refuse(x, began, "a group without its )");
	return inner;
}

static int32_t escape(struct parser *x, size_t began)
{
	struct class k = { 0 };
	int32_t c = peek(x);

	x->at++;
	if (c == 'b' || c == 'B')
		return node_new(x, (struct node){ .type = N_ASSERT, .c = c == 'b' ? OP_EDGE : OP_NO_EDGE });
	if (c >= '1' && c <= '9')
		return refuse(x, began, "back-references are not known");
	if (escaped_class(x, &k, began, c))
		return class_end(x, &k);
	free(k.range);
	if (x->bad != NULL)
		return -1;
	c = escaped_char(x, began, c);
	return c < 0 ? -1 : node_new(x, (struct node){ .type = N_CHAR, .c = c });
}

static int32_t atom(struct parser *x)
{
	size_t began = x->at;
	int32_t c = x->c[x->at++];

	switch (c) {
	case '(': return group(x, began);
	case '[': return class_parse(x, began);
	case '\\': return escape(x, began);
	case '.': return node_new(x, (struct node){ .type = N_ANY, .c = x->dot_all ? OP_ANY : OP_LINE });
	case '^': return node_new(x, (struct node){ .type = N_ASSERT, .c = OP_BEGIN });
	case '$': return node_new(x, (struct node){ .type = N_ASSERT, .c = OP_END });
	case '*': case '+': case '?': case '{': return refuse(x, began, "nothing to repeat");
	default:
		return node_new(x, (struct node){ .type = N_CHAR, .c = c });
	}
}

static bool number(struct parser *x, int *ret)
{
	int v = 0;
	size_t began = x->at;

	while (peek(x) >= '0' && peek(x) <= '9' && v <= PATTERN_REPEAT)
		v = v * 10 + (int)(x->c[x->at++] - '0');
	*ret = v;
	return x->at > began;
}

/* True: there is a quantifier, in *min and *max. */
static bool quantifier(struct parser *x, int *min, int *max)
{
	size_t began = x->at;

	*min = 0;
	*max = -1;
	if (accept(x, '*'))
		return true;
	if (accept(x, '+')) {
		*min = 1;
		return true;
	}
	if (accept(x, '?')) {
		*max = 1;
		return true;
	}
	if (!accept(x, '{'))
		return false;
	if (!number(x, min)) {
		refuse(x, began, "a repeat is {n}, {n,} or {n,m}; a brace itself is written \\{");
		return false;
	}
	*max = *min;
	if (accept(x, ',') && !number(x, max))
		*max = -1;
	if (!accept(x, '}'))
		refuse(x, began, "a repeat is {n}, {n,} or {n,m}; a brace itself is written \\{");
	else if (*min > PATTERN_REPEAT || *max > PATTERN_REPEAT)
		refuse(x, began, "repeated more than 1000 times");
	else if (*max >= 0 && *max < *min)
		refuse(x, began, "a repeat whose end is before its beginning");
	return x->bad == NULL;
}

static int32_t repeated(struct parser *x)
{
	int32_t one = atom(x);
	size_t at = x->at;
	int min, max;

	if (x->bad != NULL || !quantifier(x, &min, &max))
		return one;
	if (x->node[one].type == N_ASSERT)
		return refuse(x, at, "nothing to repeat");
	accept(x, '?');                         /* lazy: finds the same texts */
	if (peek(x) == '+')
		return refuse(x, x->at, "possessive repeats are not known");
	if (peek(x) == '*' || peek(x) == '?' || peek(x) == '{')
		return refuse(x, x->at, "a repeat of a repeat");
	return node_new(x, (struct node){ .type = N_REPEAT, .a = one, .min = min, .max = max });
}

static int32_t sequence(struct parser *x)
{
	int32_t all = -1;

	while (x->bad == NULL && x->at < x->n && peek(x) != '|' && peek(x) != ')') {
		int32_t next = repeated(x);

		if (x->bad == NULL)
			all = all < 0 ? next :
			                node_new(x, (struct node){ .type = N_CAT, .a = all, .b = next });
	}
	return all < 0 ? node_new(x, (struct node){ .type = N_EMPTY }) : all;
}

static int32_t alternatives(struct parser *x)
{
	int32_t all = sequence(x);

	while (x->bad == NULL && accept(x, '|')) {
		int32_t next = sequence(x);

		all = node_new(x, (struct node){ .type = N_ALT, .a = all, .b = next });
	}
	return all;
}

static void leading_flags(struct parser *x)
{
	while (x->at + 3 < x->n && x->c[x->at] == '(' && x->c[x->at + 1] == '?' &&
	       (x->c[x->at + 2] == 'i' || x->c[x->at + 2] == 's')) {
		size_t began = x->at;

		for (x->at += 2; peek(x) == 'i' || peek(x) == 's'; x->at++) {
			if (peek(x) == 'i')
				x->p->ignore_case = true;
			else
				x->dot_all = true;
		}
		if (!accept(x, ')')) {
			refuse(x, began, "flags are (?i) and (?s)");
			return;
		}
	}
}

/* --- the program --------------------------------------------------------------------------- */

static int32_t emit(struct parser *x, enum op op, int32_t a, int32_t b)
{
	struct pattern *p = x->p;

	if (p->n == PATTERN_PROGRAM) {
		refuse(x, 0, "larger than 10000 instructions");
		return 0;
	}
	if (p->n % 64 == 0)
		p->code = xgrow(p->code, p->n + 64, sizeof p->code[0]);
	p->code[p->n] = (struct instr){ op, a, b };
	return (int32_t)p->n++;
}

static void emit_node(struct parser *x, int32_t i);

/* x{n,m}: n copies, then m - n that may be left out, or a loop. */
static void emit_repeat(struct parser *x, const struct node *d)
{
	struct pattern *p = x->p;
	int32_t last = -1, skip = -1;

	for (int k = 0; k < d->min && x->bad == NULL; k++) {
		last = (int32_t)p->n;
		emit_node(x, d->a);
		if ((int32_t)p->n == last)
			return;                 /* the empty text, however often */
	}
	if (d->max < 0 && last >= 0) {
		int32_t split = emit(x, OP_SPLIT, last, 0);

		p->code[split].b = split + 1;
		return;
	}
	if (d->max < 0) {
		int32_t split = emit(x, OP_SPLIT, (int32_t)p->n + 1, 0);

		emit_node(x, d->a);
		emit(x, OP_JUMP, split, 0);
		p->code[split].b = (int32_t)p->n;
		return;
	}
	/* Each of them leaves to the end of all: the places to be filled are chained by .b. */
	for (int k = d->min; k < d->max && x->bad == NULL; k++) {
		int32_t split = emit(x, OP_SPLIT, (int32_t)p->n + 1, skip);

		skip = split;
		emit_node(x, d->a);
	}
	while (skip >= 0 && x->bad == NULL) {
		int32_t next = p->code[skip].b;

		p->code[skip].b = (int32_t)p->n;
		skip = next;
	}
}

static void emit_node(struct parser *x, int32_t i)
{
	const struct node *d = &x->node[i];
	struct pattern *p = x->p;

	if (x->bad != NULL)
		return;
	switch (d->type) {
	case N_EMPTY:
		break;
	case N_CHAR:
		emit(x, OP_CHAR, p->ignore_case ? pattern_fold_char(d->c) : d->c, 0);
		break;
	case N_ANY:
	case N_ASSERT:
		emit(x, (enum op)d->c, 0, 0);
		break;
	case N_CLASS:
		emit(x, OP_CLASS, d->c, 0);
		break;
	case N_CAT:
		emit_node(x, d->a);
		emit_node(x, d->b);
		break;
	case N_ALT: {
		int32_t split = emit(x, OP_SPLIT, (int32_t)p->n + 1, 0), jump;

		emit_node(x, d->a);
		jump = emit(x, OP_JUMP, 0, 0);
		p->code[split].b = (int32_t)p->n;
		emit_node(x, d->b);
		p->code[jump].a = (int32_t)p->n;
		break;
	}
	case N_REPEAT:
		emit_repeat(x, d);
		break;
	}
}

/* --- what a prefilter sees ----------------------------------------------------------------- */

static void approx_char(struct buf *out, int32_t c)
{
	uint8_t b[4];
	int32_t n = 0;

	pattern_put(b, &n, c);
	if (n > 1)
		buf_add(out, STR("(?:"));
	for (int32_t i = 0; i < n; i++)
		buf_printf(out, "\\x%02x", b[i]);
	if (n > 1)
		buf_add(out, STR(")"));
}

/* ASCII members as they are, any other character for the others. */
static void approx_class(const struct class *k, struct buf *out)
{
	bool others = k->not || k->gc != 0;

	for (size_t i = 0; i < k->n_ranges; i++)
		others = others || k->range[i].to >= 0x80;
	if (others)
		buf_add(out, STR("(?:"));
	if ((k->ascii[0] | k->ascii[1]) != 0) {
		buf_add(out, STR("["));
		for (unsigned c = 0; c < 0x80; c++)
			if (k->ascii[c / 64] >> c % 64 & 1)
				buf_printf(out, "\\x%02x", c);
		buf_add(out, others ? STR("]|") : STR("]"));
	}
	if (others)
		buf_add(out, STR("[\\xc2-\\xf4][\\x80-\\xbf]+)"));
}

static void approx_times(struct buf *out, int min, int max)
{
	enum { SMALL = 8 };                     /* larger counts cost states and sort out little more */

	if (min == 0 && max == 1)
		buf_add(out, STR("?"));
	else if (min <= SMALL && max >= 0 && max <= SMALL)
		buf_printf(out, "{%d,%d}", min, max);
	else
		buf_printf(out, "{%d,}", min < SMALL ? min : SMALL);
}

/* edge: this is the first (1) or last (2) of the whole pattern; anchors elsewhere are left out. */
static void approx_node(const struct parser *x, int32_t i, unsigned edge, struct buf *out)
{
	const struct node *d = &x->node[i];

	switch (d->type) {
	case N_EMPTY:
		break;
	case N_CHAR:
		approx_char(out, x->p->ignore_case ? pattern_fold_char(d->c) : d->c);
		break;
	case N_ANY:
		buf_add(out, STR(".{1,4}"));
		break;
	case N_CLASS:
		approx_class(&x->p->class[d->c], out);
		break;
	case N_ASSERT:
		if (d->c == OP_BEGIN && edge & 1)
			buf_add(out, STR("^"));
		else if (d->c == OP_END && edge & 2)
			buf_add(out, STR("$"));
		break;
	case N_CAT:
		approx_node(x, d->a, edge & 1, out);
		approx_node(x, d->b, edge & 2, out);
		break;
	case N_ALT:
		buf_add(out, STR("(?:"));
		approx_node(x, d->a, 0, out);
		buf_add(out, STR("|"));
		approx_node(x, d->b, 0, out);
		buf_add(out, STR(")"));
		break;
	case N_REPEAT:
		if (x->node[d->a].type == N_ANY) {
			buf_printf(out, ".{%d,}", d->min);
			break;
		}
		if (d->max == 0)
			break;
		buf_add(out, STR("(?:"));
		approx_node(x, d->a, 0, out);
		buf_add(out, STR(")"));
		approx_times(out, d->min, d->max);
		break;
	}
}

void pattern_approx(const struct pattern *p, struct buf *out)
{
	buf_add(out, p->approx);
}

/* --- entry --------------------------------------------------------------------------------- */

static void make_approx(struct parser *x, int32_t top)
{
	struct buf b = BUF(1 << 20);
	struct str s;

	approx_node(x, top, 3, &b);
	if (buf_str(&b, &s) != 0)
		s = STR(".{0,}");
	x->p->approx_text = xnew_(s.n + 1, 1);
	if (s.n > 0)                    /* edges alone leave nothing */
		memcpy(x->p->approx_text, s.p, s.n);
	x->p->approx = (struct str){ x->p->approx_text, s.n };
	buf_clear(&b);
}

int pattern_compile(struct str text, bool ignore_case, struct pattern **ret, size_t *ret_at, struct err *err)
{
	int32_t c[PATTERN_CHARS];
	/* Each character makes at most two nodes, and each branch an empty one. */
	struct node node[4 * PATTERN_CHARS + 4];
	struct parser x = { .p = XNEW(struct pattern), .c = c, .node = node };
	int32_t top;

	x.p->ignore_case = ignore_case;
	for (size_t at = 0; at < text.n && x.bad == NULL;) {
		if (x.n == PATTERN_CHARS)
			refuse(&x, x.n, "longer than 500 characters");
		else
			c[x.n++] = pattern_next(text, &at);
	}
	leading_flags(&x);
	top = x.bad == NULL ? alternatives(&x) : -1;
	if (x.bad == NULL && x.at < x.n)
		refuse(&x, x.at, "a ) without its group");
	if (x.bad == NULL)
		emit_node(&x, top);
	emit(&x, OP_MATCH, 0, 0);
	if (x.bad != NULL) {
		pattern_free(x.p);
		*ret_at = x.bad_at;
		return err_set(err, -EINVAL, "character %zu: %s", x.bad_at, x.bad);
	}
	make_approx(&x, top);
	*ret = x.p;
	return 0;
}

void pattern_free(struct pattern *p)
{
	if (p == NULL)
		return;
	for (size_t i = 0; i < p->n_classes; i++)
		free(p->class[i].range);
	free(p->class);
	free(p->code);
	free(p->approx_text);
	free(p);
}

size_t pattern_size(const struct pattern *p)
{
	return p->n;
}

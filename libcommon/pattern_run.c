/* pattern_run.c - all ways through the program at once (Thompson 1968; Pike's threads).
 *
 * At each character every instruction is looked at once at most, so that time is text times
 * program for any pattern.  Threads stand in the order of where they began; of two at the same
 * instruction the earlier one stays, which makes the match found the leftmost. */
#include "pattern_int.h"

struct thread { int32_t pc; uint32_t from; };
struct threads { struct thread *at; size_t n; uint32_t *mark; };

struct pattern_scratch {
	struct threads now, next;
	int32_t *stack;
	size_t   room;                  /* instructions all of these have room for */
	uint32_t turn;                  /* mark[pc] == turn: pc is in the list already */
	uint64_t steps;
};

struct pattern_scratch *pattern_scratch_new(void)
{
	return XNEW(struct pattern_scratch);
}

static void make_room(struct pattern_scratch *s, size_t n)
{
	if (s->room >= n)
		return;
	s->now.at = xgrow(s->now.at, n, sizeof s->now.at[0]);
	s->next.at = xgrow(s->next.at, n, sizeof s->next.at[0]);
	s->now.mark = xgrow(s->now.mark, n, sizeof s->now.mark[0]);
	s->next.mark = xgrow(s->next.mark, n, sizeof s->next.mark[0]);
	s->stack = xgrow(s->stack, 2 * n + 2, sizeof s->stack[0]);
	memset(s->now.mark, 0, n * sizeof s->now.mark[0]);
	memset(s->next.mark, 0, n * sizeof s->next.mark[0]);
	s->turn = 0;
	s->room = n;
}

void pattern_scratch_free(struct pattern_scratch *s)
{
	if (s == NULL)
		return;
	free(s->now.at);
	free(s->next.at);
	free(s->now.mark);
	free(s->next.mark);
	free(s->stack);
	free(s);
}

uint64_t pattern_steps(const struct pattern_scratch *s)
{
	return s->steps;
}

bool pattern_word_char(int32_t c)
{
	if (c < 0x80)
		return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
	return (U_GET_GC_MASK(c) & WORD_MASK) != 0;
}

static bool in_ranges(const struct class *k, int32_t c)
{
	for (size_t i = 0; i < k->n_ranges; i++)
		if (c >= k->range[i].from && c <= k->range[i].to)
			return true;
	return false;
}

bool pattern_class_has(const struct pattern *p, const struct class *k, int32_t raw, int32_t folded)
{
	bool has = in_ranges(k, raw) || (k->gc != 0 && (U_GET_GC_MASK(raw) & k->gc) != 0) ||
	           (k->gc_but_underscore && raw != '_' && (U_GET_GC_MASK(raw) & U_GC_PC_MASK) != 0);

	if (!has && p->ignore_case)
		has = in_ranges(k, folded) || in_ranges(k, u_toupper(folded)) ||
		      in_ranges(k, u_totitle(folded));
	return has != k->not ;
}

void pattern_fold(struct str text, struct buf *out)
{
	size_t at = 0;
	char piece[256];
	int32_t n = 0;

	while (at < text.n) {
		int32_t c = pattern_fold_char(pattern_next(text, &at));

		if (n > (int32_t)sizeof piece - 4) {
			buf_add(out, (struct str){ piece, (size_t)n });
			n = 0;
		}
		if (c < 0x80)
			piece[n++] = (char)c;
		else
			pattern_put((uint8_t *)piece, &n, c);
	}
	buf_add(out, (struct str){ piece, (size_t)n });
}

/* Where the search stands: between two characters. */
struct place { size_t at; bool begin, end, edge; };

static bool holds(enum op op, const struct place *where)
{
	if (op == OP_BEGIN)
		return where->begin;
	if (op == OP_END)
		return where->end;
	return where->edge == (op == OP_EDGE);
}

/* Puts pc, and all that is reached from it without a character, behind those in the list. */
static void follow(const struct pattern *p, struct pattern_scratch *s, struct threads *list, int32_t pc,
                   uint32_t from, const struct place *where)
{
	size_t n = 0;

	s->stack[n++] = pc;
	while (n > 0) {
		const struct instr *i;

		pc = s->stack[--n];
		if (list->mark[pc] == s->turn)
			continue;
		list->mark[pc] = s->turn;
		s->steps++;
		i = &p->code[pc];
		switch (i->op) {
		case OP_JUMP:
			s->stack[n++] = i->a;
			break;
		case OP_SPLIT:
			s->stack[n++] = i->b;
			s->stack[n++] = i->a;
			break;
		case OP_BEGIN:
		case OP_END:
		case OP_EDGE:
		case OP_NO_EDGE:
			if (holds(i->op, where))
				s->stack[n++] = pc + 1;
			break;
		case OP_CHAR:
		case OP_ANY:
		case OP_LINE:
		case OP_CLASS:
		case OP_MATCH:
			list->at[list->n++] = (struct thread){ pc, from };
			break;
		}
	}
}

static bool takes(const struct pattern *p, const struct instr *i, int32_t raw, int32_t folded)
{
	if (i->op == OP_CHAR)
		return folded == i->a;
	if (i->op == OP_CLASS) {
		const struct class *k = &p->class[i->a];

		return raw < 0x80 ? k->ascii[raw / 64] >> raw % 64 & 1 : pattern_class_has(p, k, raw, folded);
	}
	return i->op == OP_ANY || (i->op == OP_LINE && raw != '\n');
}

static void new_turn(struct pattern_scratch *s)
{
	if (++s->turn != 0)
		return;
	memset(s->now.mark, 0, s->room * sizeof s->now.mark[0]);
	memset(s->next.mark, 0, s->room * sizeof s->next.mark[0]);
	s->turn = 1;
}

bool pattern_find(const struct pattern *p, struct pattern_scratch *s, struct str text, struct pattern_span *span)
{
	struct pattern_span best = { 0, 0 };
	struct place where = { .begin = true };
	bool found = false, was_word = false;
	int32_t raw = -1;
	size_t after = 0;

	make_room(s, p->n);
	s->now.n = 0;
	new_turn(s);
	for (;;) {
		struct threads swap;
		int32_t folded;
		bool is_word;

		after = where.at;
		raw = after < text.n ? pattern_next(text, &after) : -1;
		is_word = raw >= 0 && pattern_word_char(raw);
		where.end = raw < 0;
		where.edge = is_word != was_word;
		/* The threads here were put down before it was known what comes: their assertions are
		 * looked at now. */
		s->next.n = 0;
		new_turn(s);
		for (size_t i = 0; i < s->now.n && (!found || s->now.at[i].from <= best.from); i++)
			follow(p, s, &s->next, s->now.at[i].pc, s->now.at[i].from, &where);
		if (!found)
			follow(p, s, &s->next, 0, (uint32_t)where.at, &where);
		swap = s->now;
		s->now = s->next;
		s->next = swap;
		for (size_t i = 0; i < s->now.n; i++) {
			const struct thread *t = &s->now.at[i];

			if (p->code[t->pc].op != OP_MATCH || (found && t->from > best.from))
				continue;
			if (span == NULL)
				return true;
			best = (struct pattern_span){ t->from, where.at };
			found = true;
		}
		if (raw < 0 || (found && s->now.n == 0))
			break;
		folded = p->ignore_case ? pattern_fold_char(raw) : raw;
		s->next.n = 0;
		new_turn(s);
		for (size_t i = 0; i < s->now.n; i++) {
			const struct thread *t = &s->now.at[i];

			if (found && t->from > best.from)
				break;
			s->steps++;
			if (takes(p, &p->code[t->pc], raw, folded) && s->next.mark[t->pc + 1] != s->turn) {
				s->next.mark[t->pc + 1] = s->turn;
				s->next.at[s->next.n++] = (struct thread){ t->pc + 1, t->from };
			}
		}
		swap = s->now;
		s->now = s->next;
		s->next = swap;
		where.at = after;
		where.begin = false;
		was_word = is_word;
	}
	if (found)
		*span = best;
	return found;
}

/* pattern_int.h - the program of a pattern; internal to pattern.c and pattern_run.c. */
#ifndef PATTERN_INT_H
#define PATTERN_INT_H

#include "pattern.h"

#include <stdlib.h>
#include <string.h>
#include <unicode/uchar.h>
#include <unicode/utf8.h>

#define WORD_MASK (U_GC_L_MASK | U_GC_M_MASK | U_GC_ND_MASK)

enum op { OP_CHAR, OP_ANY, OP_LINE, OP_CLASS, OP_SPLIT, OP_JUMP, OP_BEGIN, OP_END, OP_EDGE, OP_NO_EDGE,
	OP_MATCH };

/* OP_CHAR: a is the (folded) character; OP_CLASS: its index; OP_SPLIT, OP_JUMP: where to go. */
struct instr { enum op op; int32_t a, b; };

struct range { int32_t from, to; };
struct class {
	uint64_t      ascii[2];         /* the answer for ASCII, negation included */
	struct range *range;
	size_t        n_ranges;
	uint32_t      gc;               /* general categories, U_GC_*_MASK */
	bool          gc_but_underscore;        /* \W: connectors but `_` */
	bool          not;
};

struct pattern {
	struct instr *code;
	size_t        n;
	struct class *class;
	size_t        n_classes;
	bool          ignore_case;
	char         *approx_text;
	struct str    approx;
};

/* The code point at *at of valid UTF-8; *at moves behind it. */
static inline int32_t pattern_next(struct str s, size_t *at)
{
	const uint8_t *p = (const uint8_t *)s.p;
	int32_t i = (int32_t)*at, c = p[i];

	if (c < 0x80) {
		(*at)++;
		return c;
	}
	U8_NEXT(p, i, (int32_t)s.n, c);
	*at = (size_t)i;
	return c;
}

static inline void pattern_put(uint8_t *out, int32_t *n, int32_t c)
{
	uint32_t u = (uint32_t)c;

	U8_APPEND_UNSAFE(out, *n, u);
}

static inline int32_t pattern_fold_char(int32_t c)
{
	if (c < 0x80)
		return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
	return u_foldCase(c, U_FOLD_CASE_DEFAULT);
}

bool pattern_class_has(const struct pattern *p, const struct class *k, int32_t raw, int32_t folded) NONNULL;

#endif

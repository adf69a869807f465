/* columns.h - rows of a batch as the columns a statement takes: one array per parameter. */
#ifndef COLUMNS_H
#define COLUMNS_H

#include "arena.h"
#include "db.h"

enum { COLUMNS_MAX = 32 };

struct columns { struct db_param *at[COLUMNS_MAX]; size_t n, cols; };

static inline void columns_init(struct columns *c, struct arena *mem, size_t cols, size_t rows_max)
{
	ASSERT(cols <= COLUMNS_MAX);
	c->n = 0;
	c->cols = cols;
	for (size_t i = 0; i < cols; i++)
		c->at[i] = arena_alloc(mem, rows_max * sizeof(struct db_param));
}

static inline void columns_add(struct columns *c, const struct db_param *row, size_t n)
{
	ASSERT(n == c->cols);
	for (size_t i = 0; i < n; i++)
		c->at[i][c->n] = row[i];
	c->n++;
}

static inline void columns_params(const struct columns *c, struct db_param *out)
{
	for (size_t i = 0; i < c->cols; i++)
		out[i] = DB_ARRAY(c->at[i], c->n);
}

#define ROW(...) (const struct db_param[]){ __VA_ARGS__ }, \
	sizeof((const struct db_param[]){ __VA_ARGS__ }) / sizeof(struct db_param)

#endif

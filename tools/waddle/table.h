/* table.h - rows for people or for scripts: aligned columns, or one JSON array of objects. */
#ifndef TABLE_H
#define TABLE_H

#include "common.h"
#include "str.h"

#include <libpq-fe.h>

/* Column names are the headings and keys.  JSON: numbers, booleans and jsonb as they are, other
 * types as texts, NULL as null. */
void table_print(const PGresult *rows, bool json) NONNULL;

/* By hand, cell by cell, row by row; "" where there is nothing.  Texts are copied. */
struct table;
struct table *table_new(const char *const *headings, size_t n) RETURNS_NONNULL;
void table_text(struct table *t, const char *fmt, ...) PRINTF(2, 3);
void table_int(struct table *t, int64_t n) NONNULL;
void table_end(struct table *t, bool json) NONNULL; /* prints */
void table_free(struct table *t) NONNULL;

#endif

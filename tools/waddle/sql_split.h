/* sql_split.h - a file of SQL, statement by statement, so that an error can name its line. */
#ifndef SQL_SPLIT_H
#define SQL_SPLIT_H

#include "str.h"

struct sql_text {
	struct str rest;
	int line;
}; /* line of rest's first byte, from 1 */

/* The next statement without its semicolon, and the line it starts on; leading comments and blanks
 * are skipped.  False: nothing is left.  Knows '..', E'..', "..", $tag$..$tag$, -- and nested
 * comments; an unterminated one ends with the text, and PostgreSQL will say so. */
bool sql_next(struct sql_text *t, struct str *ret, int *ret_line) NONNULL;

#endif

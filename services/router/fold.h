/* fold.h - texts as rules compare them (router.md 14): what looks alike becomes alike.
 *
 * Normalising decodes percent escapes (twice, only where the result is UTF-8), takes characters
 * apart (NFKD), drops marks and everything invisible, folds case, replaces what looks like ASCII
 * letters and digits (Unicode TR39 prototypes) by these, and makes runs of white space one blank.
 * ASCII itself stays as it is.  Linear in the text; one character at a time, so that a run of 5000
 * combining marks is nothing to put in order. */
#ifndef FOLD_H
#define FOLD_H

#include "str.h"

struct fold;                            /* the tables and what was asked of them lately; not for threads */

/* NULL: ICU has no data here. */
struct fold *fold_open(struct err *err) MUST_CHECK;
void fold_close(struct fold *f);        /* NULL is fine */

/* Appends to out; text is valid UTF-8. */
void fold_text(struct fold *f, struct str text, bool case_sensitive, bool normalize, struct buf *out) NONNULL;

struct str fold_trim(struct str text);  /* white space at both ends, of any script */

#endif

/* lsn.h - a write position of PostgreSQL and its text, as in the waddle-lsn header: "16/B374D848".
 *
 * Positions of one server compare as numbers; 0 is none. */
#ifndef LSN_H
#define LSN_H

#include "str.h"

enum { LSN_TEXT = 18 };                 /* with the NUL */
void lsn_text(uint64_t lsn, char out[LSN_TEXT]);
int  lsn_parse(struct str text, uint64_t *ret) MUST_CHECK;      /* -EINVAL, *ret untouched */

#endif

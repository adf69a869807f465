/* lsn.h - a write position of PostgreSQL and its text, as in the waddle-lsn header: "16/B374D848".
 *
 * Positions of one server compare as numbers; 0 is none. */
#ifndef LSN_H
#define LSN_H

#include "str.h"

enum { LSN_TEXT = 18 };                 /* with the NUL */
void lsn_text(uint64_t lsn, char out[LSN_TEXT]);
int  lsn_parse(struct str text, uint64_t *ret) MUST_CHECK;      /* -EINVAL, *ret untouched */

/* The end of the last record before an insert position (pg_current_wal_insert_lsn()), the most a
 * standby can have replayed.  The two differ when that record fills its page: the insert position
 * is then behind the next page's header, which a standby reaches only with the next record - in a
 * quiet system 15 seconds later.  A page is 8 KiB, its header 24 bytes and 40 in the first page
 * of a segment; no record that begins in a page ends in its first 40 bytes (a record is at least
 * 24 long), so that rounding down never goes behind a record's end. */
uint64_t lsn_end(uint64_t insert);

#endif

/* shared.h - sample data of the platforms that is not part of this tree: signed requests, recorded
 * frames.  Looked for in WADDLE_SHARED_DATA, then in ../shared/data beside the checkout. */
#ifndef SHARED_H
#define SHARED_H

#include "str.h"

/* Appends the file to out.  False: there is no such data here; a line on stdout then says which
 * file was not found, and the test skips. */
bool shared_file(const char *name, struct buf *out) MUST_CHECK;

#endif

/* asyncapi.h - docs/asyncapi.yaml from the tables the code decodes with, so that they cannot drift.
 *
 * `make docs` writes the file, test_envelope compares it. */
#ifndef ASYNCAPI_H
#define ASYNCAPI_H

#include "str.h"

void asyncapi_text(struct buf *out) NONNULL;

#endif

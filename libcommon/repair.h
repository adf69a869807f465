/* repair.h - JSON from a platform, made such that every string in it is text we can keep.
 *
 * Bytes that are not UTF-8 and halves of surrogate pairs become U+FFFD; U+0000, raw or escaped, is
 * removed.  Nothing else changes; what holds an escape that is none comes back as it was.  A signature is
 * checked over the bytes as they came, before this. */
#ifndef REPAIR_H
#define REPAIR_H

#include "arena.h"
#include "str.h"

/* json itself when nothing had to be done; STR_NONE: mem is full. */
struct str repair_json(struct str json, struct arena *mem);

#endif

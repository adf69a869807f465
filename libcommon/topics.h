/* topics.h - every topic of the suite with its partitions and retention (contracts.md 1).
 *
 * `waddle topics create` makes them; a test compares the table with the contract.  Adding a
 * module or a platform is one line here. */
#ifndef TOPICS_H
#define TOPICS_H

#include "bus.h"

extern const struct bus_topic topics_all[];
extern const size_t           topics_n;

const struct bus_topic *topics_find(const char *name) NONNULL;  /* NULL: not one of ours */

#endif

/* bus_name.h - our topic names and those on the wire: TOPIC_PREFIX stands for "waddle". */
#ifndef BUS_NAME_H
#define BUS_NAME_H

#include "str.h"

enum { BUS_NAME_MAX = 250 };    /* Kafka allows 249 characters */

struct bus_prefix { char text[100]; size_t n; };

/* Letters, digits, '.', '_' and '-', as Kafka has it; "" means "waddle".  -EINVAL otherwise. */
int bus_prefix_set(struct bus_prefix *p, struct str text, struct err *err) MUST_CHECK;

/* "waddle.events" -> "test7.events"; "^waddle\\.responses" -> "^test7\\.responses", the prefix
 * quoted for the regular expression.  Names that do not start with waddle stay as they are.
 * -ENAMETOOLONG. */
int bus_name_out(const struct bus_prefix *p, const char *name, char out[BUS_NAME_MAX]) MUST_CHECK;
int bus_name_in(const struct bus_prefix *p, const char *wire, char out[BUS_NAME_MAX]) MUST_CHECK;
/* It carries our prefix as its whole first part. */
bool bus_name_is_ours(const struct bus_prefix *p, const char *wire);

#endif

/* entity.h - the one place that makes and reads "platform:server:channel" (contracts.md 2).
 *
 *      twitch:141981764                a platform without servers: two parts
 *      discord:<guild>:<channel>       discord and slack always have a server
 *      discord:<guild>:                the server-wide entity: no channel
 *      slack:DM:<channel>              a direct message has server "DM", on every platform
 *
 * A ':' or '%' inside a part is written %3A or %25, and nothing else is, so each entity has one
 * address and each address one entity.  Parts are any text: ids are never looked into. */
#ifndef ENTITY_H
#define ENTITY_H

#include "arena.h"
#include "str.h"

struct entity { struct str platform, server, channel; };        /* server "" on Twitch */

/* Appends the address.  An entity that cannot be - no platform, neither server nor channel, Twitch
 * with a server, Discord without - sets out->failed to -EINVAL, so buf_str() tells. */
void entity_make(struct entity e, struct buf *out) NONNULL;
int  entity_check(struct entity e) MUST_CHECK;          /* 0 or -EINVAL, the same rules */

/* Parts point into text; those that held an escape are copied to mem.  -EINVAL: not an address
 * that entity_make() makes.  -ENOBUFS: mem is full. */
int  entity_parse(struct str text, struct arena *mem, struct entity *ret) MUST_CHECK;

bool entity_is_dm(struct entity e);

#endif

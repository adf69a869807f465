/* ids.h - ids that a redelivery makes again, and ids that nobody has seen before.
 *
 * Derived ids are UUIDv5 (RFC 9562 5.5) in the namespace of router.md section 1: the same event
 * and command give the same execution, whoever computes it and how often.  Nothing is allocated. */
#ifndef IDS_H
#define IDS_H

#include "common.h"
#include "str.h"

enum { ID_TEXT = 37, TRACE_TEXT = 56 };         /* with the NUL */

/* rule_id: the string rule that runs the command, 0 for none. */
void id_execution(struct str event_id, int64_t command_id, int64_t rule_id, char out[ID_TEXT]);
void id_session(struct str event_id, char out[ID_TEXT]);
/* index: of the response; -1 for a notice.  part: from 0, of a split text. */
void id_outbound(struct str execution_id, int64_t index, int part, char out[ID_TEXT]);
void id_overlay(struct str execution_id, int64_t index, char out[ID_TEXT]);
void id_rule_webhook(struct str event_id, int64_t rule_id, char out[ID_TEXT]);

void id_random(char out[ID_TEXT]) NONNULL;      /* UUIDv4 */

/* W3C traceparent: a new span within parent's trace; a new, sampled trace if parent is absent or
 * not one.  Same text form as the header: "00-<32 hex>-<16 hex>-01". */
void trace_next(struct str parent, char out[TRACE_TEXT]);
bool trace_ok(struct str traceparent);

#endif

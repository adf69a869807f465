/* deliveries.h - what collectors report about messages, kept with the response they came from.
 *
 * Message ids are hashes and say nothing, so the router gives each message a report_ref that names
 * the response's key, and the collector repeats it: a report is one update by exact key.  What has
 * no report_ref (notices, messages of modules) is counted only. */
#ifndef DELIVERIES_H
#define DELIVERIES_H

#include "router.h"

struct deliveries;
struct deliveries *deliveries_open(struct router *r) RETURNS_NONNULL;
void deliveries_close(struct deliveries *d);    /* before db_close(); NULL is fine */

/* Takes a waddle.delivery.v1: bus_done() or bus_reject() follows. */
void deliveries_take(struct deliveries *d, struct bus_msg *m) NONNULL;

/* The report_ref of a part of a response; created_ms: of its execution. */
enum { REPORT_REF_TEXT = 96 };
struct str deliveries_ref(struct str execution_id, int64_t index, int part, int64_t created_ms,
                          char out[REPORT_REF_TEXT]);

extern struct metric *const deliveries_metrics[];

#endif

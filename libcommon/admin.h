/* admin.h - what supervisors and Prometheus ask a process, on ADMIN_LISTEN.
 *
 *      GET /healthz   200 while the loop turns
 *      GET /readyz    200 or 503 with {"status","checks"}: see service_ready()
 *      GET /metrics   the service's tables, then this process and this listener
 *
 * service_main() opens it before start(), so that a process that waits for its dependencies can
 * already be asked, and answers until the end of a drain.  No keys: the address is private. */
#ifndef ADMIN_H
#define ADMIN_H

#include "common.h"
#include "str.h"

struct http;

/* Ends with http_close(), http_port() tells the port.  s->metrics are printed. */
struct http *admin_open(struct service *s, struct str listen, struct err *err) MUST_CHECK;

/* What /metrics answers; each table once however often it is listed. */
void admin_metrics_text(const struct service *s, struct buf *out) NONNULL;

extern struct metric *const process_metrics[];  /* printed without being listed */

#endif

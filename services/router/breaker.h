/* breaker.h - circuit breakers: a place that failed several times in a row is left alone for a while.
 *
 *      closed --5 failures in a row--> open --30 s--> half open: one call may try
 *         ^------------- it worked -----------------------|----- it failed ----> open
 *
 * Only places with failures are kept, at most so many; the one longest silent makes room. */
#ifndef BREAKER_H
#define BREAKER_H

#include "str.h"

enum { BREAKER_FAILURES = 5, BREAKER_OPEN_MS = 30000 };

struct breaker;
struct breaker *breaker_new(size_t max) RETURNS_NONNULL;
void breaker_free(struct breaker *b);           /* NULL is fine */

/* May there be a call now?  Each true is followed by one breaker_report(). */
bool breaker_allows(struct breaker *b, struct str place, int64_t now_mono_ms) NONNULL MUST_CHECK;
void breaker_report(struct breaker *b, struct str place, bool worked, int64_t now_mono_ms) NONNULL;
size_t breaker_open_now(const struct breaker *b, int64_t now_mono_ms) NONNULL;  /* a metric */

#endif

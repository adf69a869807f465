/* lib.h - what all benchmarks share: a clock, and a report that can be compared later.
 *
 * A figure without its floor says nothing: the floor is the least that must be done, measured in
 * the same run on the same machine (a bare loop over the library), and the ratio is what counts. */
#ifndef BENCH_LIB_H
#define BENCH_LIB_H

#include "common.h"

struct bench_extra { const char *key; double value; const char *text; };   /* text NULL: the value */

/* Writes <dir>/<name>.json - name, value, floor, ratio, unit, the extras, machine, versions, time -
 * and one line for people.  dir: BENCH_DIR, or build/bench.  A floor of 0 has no ratio.
 * Returns the exit status for main(): 0, or 1 when the file could not be written. */
int bench_report(const char *name, double value, double floor, const char *unit,
                 const struct bench_extra *extra, size_t n);

double bench_now_s(void);                       /* monotonic */

/* p in 0..100 of sorted or unsorted samples; sorts them. */
double bench_percentile(double *samples, size_t n, double p);
double bench_median(double *samples, size_t n);

/* Calls round() again and again for about this long and gives calls per second. */
double bench_rate(void (*round)(void *arg), void *arg, double seconds);

#endif

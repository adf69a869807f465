/* common.h - attributes, assertions and forward declarations; the first include of every file.
 *
 * Nothing in it allocates, logs or does I/O.  It also includes banned.h, which turns strcpy, strcat,
 * strncpy, sprintf, strtok, atoi, gmtime, localtime, getenv (outside config.c) and others into
 * compile errors.
 *
 * Units are in the name everywhere: _ms, _us (int64_t), _bytes (size_t); a point in time is
 * _at_ms, milliseconds since 1970-01-01 UTC; a point on the monotonic clock is _mono_ms.
 * Failing functions return 0 or a negative errno and take struct err * last; see err.h. */
#ifndef COMMON_H
#define COMMON_H

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_CHECK      __attribute__((warn_unused_result))
#define PRINTF(f, a)    __attribute__((format(printf, f, a)))
#define NONNULL         __attribute__((nonnull))
#define RETURNS_NONNULL __attribute__((returns_nonnull, warn_unused_result))
#define NORETURN        __attribute__((noreturn))
#define CLEANUP(fn)     __attribute__((cleanup(fn)))      /* fn(T **) runs when the scope ends */

/* Refuses pointers, for which sizeof would give a wrong count. */
#define ARRAY_LEN(a) \
	(sizeof(a) / sizeof((a)[0]) + \
	 0 * sizeof(char[1 - 2 * __builtin_types_compatible_p(__typeof__(a), __typeof__(&(a)[0]))]))

/* The object around a member: what a library hands back when the node is embedded. */
#define CONTAINER_OF(p, type, member) \
	((type *)(void *)((char *)(1 ? (p) : &((type *)0)->member) - offsetof(type, member)))

/* For bugs only, in release builds too; anything that came from outside is checked, not asserted. */
#define ASSERT(e) ((e) ? (void)0 : assert_failed(#e, __FILE__, __LINE__, __func__))
NORETURN void assert_failed(const char *what, const char *file, int line, const char *func);

/* Every long-lived struct starts with `unsigned magic`.  MAKE_A at birth, IS_A wherever a void *
 * comes back from a library, NOT_A_MORE just before free(): a stale pointer dies at once. */
static inline bool is_null_(const void *p) { return p == NULL; }  /* also where p is NONNULL */
#define MAKE_A(p, m)     ((p)->magic = (m))
#define IS_A(p, m)       ASSERT(!is_null_(p) && (p)->magic == (m))
#define NOT_A_MORE(p, m) do { IS_A(p, m); (p)->magic = 0xdeadu; } while (0)

/* The process ends with status 111 when memory is out; never NULL.  Freed with free(). */
void *xnew_(size_t n, size_t size) RETURNS_NONNULL;
#define XNEW(type)       ((type *)xnew_(1, sizeof(type)))
#define XNEW_N(type, n)  ((type *)xnew_((n), sizeof(type)))

/* realloc() that never returns NULL, not zeroed: for what grows (arena blocks, buffers, tables).
 * p may be NULL. */
void *xgrow(void *p, size_t n, size_t size) RETURNS_NONNULL;

struct arena;                   /* arena.h   memory of one request */
struct err;                     /* err.h     why it failed */
struct service;                 /* service.h the process and its loop */
struct db;                      /* db.h      PostgreSQL */
struct bus;                     /* bus.h     Kafka */
struct timers;                  /* clock.h   what is due on a loop */
struct metric;                  /* metrics.h a number to alert on */
struct buf;                     /* str.h     text that grows */
struct log_ctx;                 /* log.h     whose work this is */

#include "banned.h"

#endif

/* banned.h - functions whose use is a compile error, with what to use instead.
 *
 * Included last by common.h.  A file that must wrap one of them (config.c: getenv) defines
 * BANNED_EXCEPT_GETENV before its first include.  Done by declaring them again as `unavailable`
 * rather than by a poison pragma or a macro: headers of libraries may come after this one and
 * mention the names as often as they like; only our uses fail.  gcc only: clang refuses to add the
 * attribute to functions which the C library defines inline. */
#ifndef BANNED_H
#define BANNED_H

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef __clang__

#define BANNED(fn, instead) extern __typeof__(fn) fn __attribute__((unavailable(instead)))

#undef strcpy
#undef strcat
#undef strncpy
#undef strncat
#undef strtok
#undef alloca
BANNED(strcpy, "use arena_str() or struct buf");
BANNED(strcat, "use struct buf");
BANNED(strncpy, "use arena_str() or memcpy()");
BANNED(strncat, "use struct buf");
BANNED(strtok, "use str_cut()");
BANNED(sprintf, "use snprintf() or buf_printf()");
BANNED(vsprintf, "use vsnprintf() or arena_printf()");
BANNED(atoi, "use str_int()");
BANNED(atol, "use str_int()");
BANNED(atoll, "use str_int()");
BANNED(atof, "use str_int(); there are no floats on the wire");
BANNED(gmtime, "use clock_text()");
BANNED(localtime, "use civil_from_unix()");
BANNED(localtime_r, "TZ is process-wide: use civil_from_unix()");
BANNED(mktime, "TZ is process-wide: use civil_to_unix()");
BANNED(rand, "use crypto_random() or clock_backoff_ms()");
BANNED(srand, "use crypto_random() or clock_backoff_ms()");
BANNED(alloca, "use an arena");
BANNED(setlocale, "the locale stays C");
#ifndef BANNED_EXCEPT_GETENV
BANNED(getenv, "settings come from a table, see config.h");
#endif
#undef BANNED

#endif

#endif

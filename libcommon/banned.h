/* banned.h - functions whose use is a compile error, with what to use instead.
 *
 * Included last by common.h.  A file that must wrap one of them (config.c: getenv) defines
 * BANNED_EXCEPT_GETENV before its first include. */
#ifndef BANNED_H
#define BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#undef strcpy
#undef strcat
#undef strncpy
#undef strncat
#undef strtok
#pragma GCC poison strcpy strcat strncpy strncat strtok sprintf vsprintf atoi atol atof
#pragma GCC poison gmtime localtime rand srand alloca setlocale
#ifndef BANNED_EXCEPT_GETENV
#pragma GCC poison getenv
#endif

#endif

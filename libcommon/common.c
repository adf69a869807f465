/* common.c - the two ways a process of ours dies on the spot: a broken invariant, no memory. */
#include "common.h"

#include <unistd.h>

enum { EXIT_AGAIN = 111 };

void assert_failed(const char *what, const char *file, int line, const char *func)
{
	fprintf(stderr, "%s:%d: %s: assertion failed: %s\n", file, line, func, what);
	abort();
}

/* No allocation on this path, stderr is unbuffered. */
NORETURN static void out_of_memory(size_t n, size_t size)
{
	fprintf(stderr, "out of memory: %zu x %zu bytes\n", n, size);
	_exit(EXIT_AGAIN);
}

void *xnew_(size_t n, size_t size)
{
	void *p = calloc(n > 0 ? n : 1, size > 0 ? size : 1);

	if (p == NULL)
		out_of_memory(n, size);
	return p;
}

void *xgrow(void *p, size_t n, size_t size)
{
	void *q = reallocarray(p, n > 0 ? n : 1, size > 0 ? size : 1);

	if (q == NULL)
		out_of_memory(n, size);
	return q;
}

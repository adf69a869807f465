/* arena.c - bump allocation in a chain of blocks.
 *
 * Positions are counted over all blocks: `used` is the number of bytes handed out, each block
 * remembers the count at which it began, so a mark is one number.  Blocks are not zeroed when
 * made: what is handed out is, which touches only memory that is going to be used.  Under
 * AddressSanitizer the rest is poisoned: a pointer kept past reset or back dies at once. */
#include "arena.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(WITH_ASAN)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum { ARENA_MAGIC = 0x0a2e4a00, ALIGN = _Alignof(max_align_t), BLOCK_MIN = 1024, BLOCK_STEP_MAX = 1 << 20 };

struct block {
	struct block *below;            /* the one filled before; NULL: the first */
	size_t        base, size;       /* count at which it began; room in bytes */
	_Alignas(max_align_t) char at[];
};

struct defer {
	struct defer *below;
	size_t        mark;             /* count before it was registered */
	void        (*fn)(void *arg);
	void         *arg;
};

struct arena {
	unsigned      magic, fail_after;
	size_t        used, max;
	struct block *top;
	struct defer *defers;
};

static size_t align_up(size_t n) { return (n + ALIGN - 1) & ~(size_t)(ALIGN - 1); }

static struct block *block_new(size_t size)
{
	struct block *b = xgrow(NULL, 1, sizeof(struct block) + size);

	b->below = NULL;
	b->base = 0;
	b->size = size;
	ASAN_POISON_MEMORY_REGION(b->at, size);
	return b;
}

static void block_free(struct block *b)
{
	ASAN_UNPOISON_MEMORY_REGION(b->at, b->size);
	free(b);
}

struct arena *arena_new(size_t first, size_t max)
{
	struct arena *a = XNEW(struct arena);

	MAKE_A(a, ARENA_MAGIC);
	a->max = max;
	a->top = block_new(align_up(first < BLOCK_MIN ? BLOCK_MIN : first));
	return a;
}

void arena_free(struct arena *a)
{
	if (a == NULL)
		return;
	arena_back(a, 0);
	block_free(a->top);
	NOT_A_MORE(a, ARENA_MAGIC);
	free(a);
}

void arena_reset(struct arena *a)
{
	arena_back(a, 0);
}

size_t arena_mark(const struct arena *a)
{
	return a->used;
}

void arena_back(struct arena *a, size_t mark)
{
	IS_A(a, ARENA_MAGIC);
	ASSERT(mark <= a->used);
	while (a->defers != NULL && a->defers->mark >= mark) {
		struct defer d = *a->defers;

		a->defers = d.below;            /* before the call: it may look at the arena */
		d.fn(d.arg);
	}
	while (a->top->below != NULL && a->top->base >= mark) {
		struct block *b = a->top;

		a->top = b->below;
		a->used = b->base;
		block_free(b);
	}
	ASAN_POISON_MEMORY_REGION(a->top->at + (mark - a->top->base), a->used - mark);
	a->used = mark;
}

/* n is aligned.  The end of a block that is too short for n is left unused. */
static void *take(struct arena *a, size_t n)
{
	size_t at = a->used - a->top->base;
	void *p;

	if (n > a->top->size - at) {
		size_t size = a->top->size < BLOCK_STEP_MAX ? a->top->size * 2 : a->top->size;
		struct block *b = block_new(n > size ? n : size);

		b->below = a->top;
		b->base = a->used;
		a->top = b;
		at = 0;
	}
	p = a->top->at + at;
	a->used += n;
	ASAN_UNPOISON_MEMORY_REGION(p, n);
	return p;
}

/* Defers may have carried `used` past the limit. */
static bool fits(const struct arena *a, size_t n)
{
	return n <= a->max && a->used <= a->max && align_up(n) <= a->max - a->used;
}

/* Room for n bytes within the limit, not zeroed; NULL past it. */
static void *try_raw(struct arena *a, size_t n)
{
	IS_A(a, ARENA_MAGIC);
	if (n == 0)
		n = 1;
	if (a->fail_after > 0 && --a->fail_after == 0)
		return NULL;
	return fits(a, n) ? take(a, align_up(n)) : NULL;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
	size_t n = bytes > 0 ? bytes : 1;

	IS_A(a, ARENA_MAGIC);
	ASSERT(fits(a, n));
	return memset(take(a, align_up(n)), 0, bytes);
}

void *arena_try(struct arena *a, size_t n, size_t size)
{
	size_t bytes;
	void *p;

	if (__builtin_mul_overflow(n, size, &bytes))
		return NULL;
	p = try_raw(a, bytes);
	return p != NULL ? memset(p, 0, bytes) : NULL;
}

struct str arena_str(struct arena *a, struct str s)
{
	char *p = s.n < SIZE_MAX ? try_raw(a, s.n + 1) : NULL;

	if (p == NULL)
		return STR_NONE;
	if (s.n > 0)
		memcpy(p, s.p, s.n);
	p[s.n] = '\0';
	return (struct str){ p, s.n };
}

struct str arena_printf(struct arena *a, const char *fmt, ...)
{
	char small[256], *p;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(small, sizeof(small), fmt, ap);
	va_end(ap);
	if (n < 0)
		return STR_NONE;
	if ((size_t)n < sizeof(small))
		return arena_str(a, (struct str){ small, (size_t)n });
	p = try_raw(a, (size_t)n + 1);
	if (p == NULL)
		return STR_NONE;
	va_start(ap, fmt);
	vsnprintf(p, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return (struct str){ p, (size_t)n };
}

/* Not counted against the limit: a defer that could fail would leak what it guards. */
void arena_defer(struct arena *a, void (*fn)(void *arg), void *arg)
{
	size_t mark = a->used;
	struct defer *d;

	IS_A(a, ARENA_MAGIC);
	d = take(a, align_up(sizeof(*d)));
	*d = (struct defer){ a->defers, mark, fn, arg };
	a->defers = d;
}

size_t arena_used(const struct arena *a)
{
	return a->used;
}

void arena_fail_after(struct arena *a, unsigned n)
{
	a->fail_after = n;
}

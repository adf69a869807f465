/* test_arena.c - one end of life: limits, marks, defers, and that nothing outlives them. */
#include "arena.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

static bool all_zero(const void *p, size_t n)
{
	const unsigned char *c = p;

	for (size_t i = 0; i < n; i++)
		if (c[i] != 0)
			return false;
	return true;
}

static void memory_is_zeroed_and_aligned_for_any_type(void **state)
{
	struct arena *a = arena_new(1024, 1 << 20);

	(void)state;
	for (int life = 0; life < 3; life++) {          /* the second life gets used memory */
		for (size_t n = 0; n < 300; n++) {
			void *p = arena_alloc(a, n);

			assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
			assert_true(all_zero(p, n));
			memset(p, 0xee, n);
		}
		arena_reset(a);
		assert_int_equal(arena_used(a), 0);
	}
	arena_free(a);
}

static void blocks_do_not_overlap(void **state)
{
	struct arena *a = arena_new(1024, 4 << 20);
	unsigned char *p[400];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(p); i++) {
		p[i] = arena_alloc(a, i * 7 + 1);
		memset(p[i], (int)(i & 0xff), i * 7 + 1);
	}
	for (size_t i = 0; i < ARRAY_LEN(p); i++)
		for (size_t j = 0; j < i * 7 + 1; j++)
			assert_int_equal(p[i][j], i & 0xff);
	arena_free(a);
}

static void the_limit_is_an_answer_and_not_the_end(void **state)
{
	struct arena *a = arena_new(1024, 4096);

	(void)state;
	assert_null(arena_try(a, 1, 4097));
	assert_non_null(arena_try(a, 1, 4000));
	assert_null(arena_try(a, 1, 4000));
	assert_non_null(arena_str(a, STR("0123456789")).p);
	assert_non_null(arena_try(a, 1, 64));
	assert_null(arena_try(a, 1, 64));
	arena_reset(a);
	assert_non_null(arena_try(a, 1, 4096));
	arena_free(a);
}

static void sizes_that_overflow_are_past_the_limit(void **state)
{
	struct arena *a = arena_new(1024, SIZE_MAX);
	char byte = 'x';

	(void)state;
	assert_null(arena_try(a, SIZE_MAX, 2));
	assert_null(arena_try(a, SIZE_MAX / 2 + 1, 2));
	assert_null(arena_str(a, (struct str){ &byte, SIZE_MAX }).p);
	assert_int_equal(arena_used(a), 0);
	arena_free(a);

	a = arena_new(1024, 1024);
	assert_null(arena_try(a, 1, SIZE_MAX));
	assert_null(arena_try(a, 1, SIZE_MAX - 7));
	arena_free(a);
}

static void copies_have_an_uncounted_nul(void **state)
{
	struct arena *a = arena_new(1024, 64 * 1024);
	struct str s = arena_str(a, (struct str){ "abcdef", 3 }), empty = arena_str(a, STR_NONE);

	(void)state;
	assert_int_equal(s.n, 3);
	assert_string_equal(s.p, "abc");
	assert_non_null(empty.p);
	assert_int_equal(empty.n, 0);
	assert_string_equal(empty.p, "");
	arena_free(a);
}

static void printf_gives_exactly_what_it_would_print(void **state)
{
	struct arena *a = arena_new(1024, 64 * 1024);
	char expected[1200];

	(void)state;
	for (int n = 0; n < 1000; n += 37) {
		struct str s = arena_printf(a, "%0*d|", n, 42);

		snprintf(expected, sizeof(expected), "%0*d|", n, 42);
		assert_string_equal(s.p, expected);
		assert_int_equal(s.n, strlen(expected));
	}
	assert_null(arena_printf(a, "%070000d", 1).p);
	arena_free(a);
}

static void back_undoes_what_came_after_the_mark(void **state)
{
	struct arena *a = arena_new(1024, 1 << 20);
	char *kept = arena_alloc(a, 100);
	size_t mark = arena_mark(a);

	(void)state;
	memcpy(kept, "kept", 5);
	for (int i = 0; i < 10; i++) {
		assert_non_null(arena_try(a, 1, 700));          /* several blocks */
		assert_non_null(arena_try(a, 1, 9000));
		arena_back(a, mark);
		assert_int_equal(arena_used(a), mark);
		assert_string_equal(kept, "kept");
	}
	arena_back(a, 0);
	assert_int_equal(arena_used(a), 0);
	arena_free(a);
}

struct trail { char text[64]; size_t n; };
struct step { struct trail *trail; char name; };

static void leave(void *arg)
{
	struct step *s = arg;

	s->trail->text[s->trail->n++] = s->name;
}

static void defers_run_last_first_and_once(void **state)
{
	struct trail t = { 0 };
	struct step steps[] = { { &t, 'a' }, { &t, 'b' }, { &t, 'c' }, { &t, 'd' } };
	struct arena *a = arena_new(1024, 1 << 20);
	size_t mark;

	(void)state;
	arena_defer(a, leave, &steps[0]);
	assert_non_null(arena_alloc(a, 5000));
	arena_defer(a, leave, &steps[1]);
	mark = arena_mark(a);
	arena_defer(a, leave, &steps[2]);
	arena_defer(a, leave, &steps[3]);
	arena_back(a, mark);
	assert_string_equal(t.text, "dc");
	arena_reset(a);
	assert_string_equal(t.text, "dcba");
	arena_defer(a, leave, &steps[0]);
	arena_free(a);
	assert_string_equal(t.text, "dcbaa");
}

static void a_defer_is_taken_even_at_the_limit(void **state)
{
	struct trail t = { 0 };
	struct step step = { &t, 'x' };
	struct arena *a = arena_new(1024, 1024);

	(void)state;
	assert_non_null(arena_try(a, 1, 1024));
	arena_defer(a, leave, &step);
	assert_null(arena_try(a, 1, 1));
	arena_free(a);
	assert_string_equal(t.text, "x");
}

static void the_nth_try_fails_on_request(void **state)
{
	struct arena *a = arena_new(1024, 1 << 20);

	(void)state;
	arena_fail_after(a, 3);
	assert_non_null(arena_try(a, 1, 8));
	assert_non_null(arena_str(a, STR("x")).p);
	assert_null(arena_printf(a, "%d", 1).p);
	assert_non_null(arena_try(a, 1, 8));
	arena_fail_after(a, 0);
	for (int i = 0; i < 100; i++)
		assert_non_null(arena_try(a, 1, 8));
	arena_free(a);
}

/* Runs fn in a child and returns its wait status; what it says is not of interest. */
static int in_child(void (*fn)(void))
{
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		close(STDERR_FILENO);
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void alloc_past_max(void)
{
	memset(arena_alloc(arena_new(1024, 1024), 1025), 1, 1);
}

static void alloc_past_max_is_a_bug(void **state)
{
	int status = in_child(alloc_past_max);

	(void)state;
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void use_after_free(void)
{
	struct arena *a = arena_new(1024, 1024);

	arena_free(a);
	arena_reset(a);
}

static void a_freed_arena_is_noticed(void **state)
{
	(void)state;
	assert_int_not_equal(in_child(use_after_free), 0);
}

#ifdef __SANITIZE_ADDRESS__
static void read_after_reset(void)
{
	struct arena *a = arena_new(1024, 1024);
	volatile char *p = arena_alloc(a, 16);

	arena_reset(a);
	p[0] = 'x';
}

static void a_pointer_kept_past_reset_is_noticed(void **state)
{
	(void)state;
	assert_int_not_equal(in_child(read_after_reset), 0);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_is_zeroed_and_aligned_for_any_type),
		cmocka_unit_test(blocks_do_not_overlap),
		cmocka_unit_test(the_limit_is_an_answer_and_not_the_end),
		cmocka_unit_test(sizes_that_overflow_are_past_the_limit),
		cmocka_unit_test(copies_have_an_uncounted_nul),
		cmocka_unit_test(printf_gives_exactly_what_it_would_print),
		cmocka_unit_test(back_undoes_what_came_after_the_mark),
		cmocka_unit_test(defers_run_last_first_and_once),
		cmocka_unit_test(a_defer_is_taken_even_at_the_limit),
		cmocka_unit_test(the_nth_try_fails_on_request),
		cmocka_unit_test(alloc_past_max_is_a_bug),
		cmocka_unit_test(a_freed_arena_is_noticed),
#ifdef __SANITIZE_ADDRESS__
		cmocka_unit_test(a_pointer_kept_past_reset_is_noticed),
#endif
	};

	return !!cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_clock.c - the two clocks, RFC 3339, back-off, and timers on real and faked time. */
#include "clock.h"

#include "service.h"

#include <time.h>

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

static const struct { const char *text; int64_t ms; } good[] = {
	{ "1970-01-01T00:00:00Z", 0 },
	{ "1970-01-01T00:00:00.001Z", 1 },
	{ "2025-03-09T07:30:00.000Z", 1741505400000 },
	{ "2025-03-09t07:30:00z", 1741505400000 },
	{ "2025-03-09T02:30:00-05:00", 1741505400000 },
	{ "2025-03-09T13:00:00+05:30", 1741505400000 },
	{ "2025-03-10T07:29:00+23:59", 1741505400000 },
	{ "2025-03-09T07:30:00-00:00", 1741505400000 },
	{ "2025-03-09T07:30:00.1Z", 1741505400100 },
	{ "2025-03-09T07:30:00.12Z", 1741505400120 },
	{ "2025-03-09T07:30:00.123456789Z", 1741505400123 },
	{ "2025-03-09T07:30:00.999999999Z", 1741505400999 },
	{ "1990-12-31T23:59:60Z", 662687999999 },
	{ "1990-12-31T15:59:60-08:00", 662687999999 },
	{ "1990-12-31T23:59:60.5Z", 662687999999 },
	{ "2000-02-29T00:00:00Z", 951782400000 },
	{ "2024-02-29T12:00:00Z", 1709208000000 },
	{ "9999-12-31T23:59:59.999Z", 253402300799999 },
};

static const char *const bad[] = {
	"", "2025", "2025-03-09", "2025-03-09T07:30:00", "2025-03-09 07:30:00Z", "2025-03-09T07:30Z",
	"2025-3-09T07:30:00Z", "25-03-09T07:30:00Z", "2025/03/09T07:30:00Z", "2025-03-09T07:30:00.Z",
	"2025-03-09T07:30:00.1234567890Z", "2025-03-09T07:30:00,5Z", "2025-03-09T07:30:00+0530",
	"2025-03-09T07:30:00+05", "2025-03-09T07:30:00+24:00", "2025-03-09T07:30:00+05:60",
	"2025-03-09T07:30:00Z ", " 2025-03-09T07:30:00Z", "2025-03-09T07:30:00Zz", "2025-03-09T07:30:00+05:30Z",
	"2025-02-29T00:00:00Z", "2025-02-30T00:00:00Z", "2100-02-29T00:00:00Z", "2025-04-31T00:00:00Z",
	"2025-00-10T00:00:00Z", "2025-13-10T00:00:00Z", "2025-01-00T00:00:00Z", "2025-01-32T00:00:00Z",
	"2025-01-01T24:00:00Z", "2025-01-01T00:60:00Z", "2025-01-01T00:00:61Z", "2025-01-01T00:00:99Z",
	"1969-12-31T23:59:59Z", "1970-01-01T00:30:00+01:00", "10000-01-01T00:00:00Z", "0000-01-01T00:00:00Z",
	"9999-12-31T23:59:59-01:00", "2025-03-09T07:30:0\xd9\xa1Z", "-025-03-09T07:30:00Z", "2025-03-09T07:30:-1Z",
	"2025-03-09T+7:30:00Z", "20250309T073000Z", "2025-W10-7T07:30:00Z", "now", "1741505400",
};

static void parse_reads_every_form_of_rfc_3339(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		int64_t ms = -1;

		if (clock_parse(str_of(good[i].text), &ms) != 0 || ms != good[i].ms)
			fail_msg("%s: %lld", good[i].text, (long long)ms);
	}
}

static void parse_refuses_everything_else_and_leaves_the_result(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		int64_t ms = -7;

		if (clock_parse(str_of(bad[i]), &ms) != -EINVAL || ms != -7)
			fail_msg("\"%s\" passed as %lld", bad[i], (long long)ms);
	}
	assert_int_equal(clock_parse(STR_NONE, &(int64_t){ 0 }), -EINVAL);
}

/* Each good text with one byte changed to each other byte, and each prefix: no crash, and what is
 * accepted means the same when printed and read again. */
static void parse_survives_every_single_byte_change(void **state)
{
	char text[CLOCK_TEXT], again[CLOCK_TEXT];

	(void)state;
	for (size_t at = 0; at < 24; at++) {
		for (int byte = 0; byte < 256; byte++) {
			int64_t ms = 0, twice = 0;

			memcpy(text, "2024-02-29T23:59:59.999Z", CLOCK_TEXT);
			text[at] = (char)byte;
			if (clock_parse((struct str){ text, 24 }, &ms) != 0)
				continue;
			clock_text(ms, again);
			assert_int_equal(clock_parse(str_of(again), &twice), 0);
			assert_int_equal(ms, twice);
		}
		assert_int_equal(clock_parse((struct str){ "2024-02-29T23:59:59.999Z", at }, &(int64_t){ 0 }),
		                 -EINVAL);
	}
}

/* Against the C library, every day of 180 years and the seconds around midnight. */
static void text_agrees_with_the_c_library(void **state)
{
	char text[CLOCK_TEXT], expected[32];

	(void)state;
	for (int64_t day = 0; day < 180 * 366; day++) {
		for (int64_t sec = day * 86400 - 1; sec <= day * 86400 + 1; sec++) {
			time_t t = sec < 0 ? 0 : (time_t)sec;
			int64_t ms = 0;
			struct tm tm;

			gmtime_r(&t, &tm);
			strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%S.007Z", &tm);
			clock_text((int64_t)t * 1000 + 7, text);
			assert_string_equal(text, expected);
			assert_int_equal(clock_parse(str_of(text), &ms), 0);
			assert_int_equal(ms, (int64_t)t * 1000 + 7);
		}
	}
}

static void text_of_a_time_outside_the_calendar_is_its_nearest_end(void **state)
{
	char text[CLOCK_TEXT];

	(void)state;
	clock_text(-1, text);
	assert_string_equal(text, "1970-01-01T00:00:00.000Z");
	clock_text(INT64_MAX, text);
	assert_string_equal(text, "9999-12-31T23:59:59.999Z");
}

static void civil_ok_knows_the_calendar(void **state)
{
	(void)state;
	assert_true(civil_ok(&(struct civil){ 2024, 2, 29, 23, 59, 59 }));
	assert_false(civil_ok(&(struct civil){ 2023, 2, 29, 0, 0, 0 }));
	assert_false(civil_ok(&(struct civil){ 2100, 2, 29, 0, 0, 0 }));
	assert_true(civil_ok(&(struct civil){ 2000, 2, 29, 0, 0, 0 }));
	assert_false(civil_ok(&(struct civil){ 2024, 2, 30, 0, 0, 0 }));
	assert_false(civil_ok(&(struct civil){ 2024, 13, 1, 0, 0, 0 }));
	assert_false(civil_ok(&(struct civil){ 2024, 0, 1, 0, 0, 0 }));
	assert_false(civil_ok(&(struct civil){ 2024, 1, 1, 24, 0, 0 }));
	assert_false(civil_ok(&(struct civil){ 2024, 1, 1, 0, 0, 60 }));
	assert_false(civil_ok(&(struct civil){ 2024, 1, 1, -1, 0, 0 }));
	assert_false(civil_ok(&(struct civil){ 1969, 1, 1, 0, 0, 0 }));
}

static void backoff_stays_in_its_bounds_and_uses_them(void **state)
{
	int64_t top = 0, low = INT64_MAX;

	(void)state;
	for (unsigned tries = 0; tries < 200; tries++) {
		int64_t bound = tries < 10 ? INT64_C(100) << tries : 60000;

		if (bound > 60000)
			bound = 60000;
		for (int i = 0; i < 50; i++) {
			int64_t ms = clock_backoff_ms(tries, 100, 60000);

			assert_true(ms >= 0 && ms <= bound);
			if (tries > 20 && ms > top)
				top = ms;
			if (tries > 20 && ms < low)
				low = ms;
		}
	}
	assert_true(top > 54000);       /* 9,000 draws: the chance of missing the last tenth is nil */
	assert_true(low < 6000);
	for (int i = 0; i < 1000; i++)
		assert_true(clock_backoff_ms(UINT32_MAX, INT64_MAX / 2, INT64_MAX) >= 0);
	assert_true(clock_backoff_ms(0, 1000, 10) <= 10);
}

static void the_faked_clocks_move_only_when_told(void **state)
{
	int64_t mono;

	(void)state;
	clock_fake(1741505400123);
	mono = clock_mono_ms();
	assert_int_equal(clock_unix_ms(), 1741505400123);
	clock_advance(77);
	assert_int_equal(clock_unix_ms(), 1741505400200);
	assert_int_equal(clock_mono_ms(), mono + 77);
	assert_int_equal(clock_exact_us(), (mono + 77) * 1000);
	clock_fake(5);                  /* a jump of the wall clock */
	assert_int_equal(clock_unix_ms(), 5);
	assert_int_equal(clock_mono_ms(), mono + 77);
	clock_real();
	assert_true(clock_unix_ms() > 1741505400200);
}

struct fixture {
	struct service s;
	struct timer   t[64];
	struct note { struct fixture *f; int i; } notes[64];
	int            order[128], n, stop_at;
	int64_t        at[128];
	bool           bad;
};

static int set_up(void **state)
{
	struct fixture *f = XNEW(struct fixture);

	f->s.name = "clock";
	service_init(&f->s);
	for (int i = 0; i < 64; i++)
		f->notes[i] = (struct note){ f, i };
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	service_clear(&f->s);
	clock_real();
	free(f);
	return 0;
}

static void ring(void *arg)
{
	struct note *note = arg;
	struct fixture *f = note->f;

	f->bad = f->bad || timer_running(&f->t[note->i]) || clock_mono_ms() < f->t[note->i].due_mono_ms;
	f->at[f->n] = clock_mono_ms();
	f->order[f->n++] = note->i;
}

static void start(struct fixture *f, int i, int64_t ms)
{
	timer_start(&f->s, &f->t[i], ms, ring, &f->notes[i]);
}

static bool rung(void *arg)
{
	struct fixture *f = arg;

	return f->n >= f->stop_at;
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

static void due_timers_run_in_order_at_their_time(void **state)
{
	struct fixture *f = *state;
	static const int ms[] = { 50, 10, 30, 10, 0, 40, 20, 60 }, expected[] = { 4, 1, 3, 6, 2, 5, 0 };
	int64_t began;

	clock_fake(0);
	began = clock_mono_ms();
	for (int i = 0; i < (int)ARRAY_LEN(ms); i++)
		start(f, i, ms[i]);
	assert_int_equal(f->n, 0);              /* never from inside */
	clock_advance(55);
	assert_int_equal(f->n, ARRAY_LEN(expected));
	for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
		assert_int_equal(f->order[i], expected[i]);
		assert_int_equal(f->at[i] - began, ms[expected[i]]);
	}
	assert_int_equal(clock_unix_ms(), 55);
	assert_true(timer_running(&f->t[7]));
	clock_advance(5);
	assert_int_equal(f->n, ARRAY_LEN(ms));
	assert_false(f->bad);
}

static void a_stopped_timer_does_not_run_and_a_moved_one_runs_once(void **state)
{
	struct fixture *f = *state;

	clock_fake(0);
	timer_stop(&f->t[9]);                   /* never started */
	start(f, 0, 10);
	start(f, 1, 10);
	start(f, 2, 10);
	timer_stop(&f->t[1]);
	timer_stop(&f->t[1]);
	start(f, 2, 30);
	clock_advance(20);
	assert_int_equal(f->n, 1);
	clock_advance(100);
	assert_int_equal(f->n, 2);
	assert_int_equal(f->order[1], 2);
}

static void again(void *arg)
{
	struct note *note = arg;

	ring(arg);
	timer_start(&note->f->s, &note->f->t[note->i], 100, again, arg);
}

static void a_timer_may_start_itself_again(void **state)
{
	struct fixture *f = *state;

	clock_fake(0);
	timer_start(&f->s, &f->t[0], 100, again, &f->notes[0]);
	clock_advance(1000);
	assert_int_equal(f->n, 10);
	for (int i = 1; i < f->n; i++)
		assert_int_equal(f->at[i] - f->at[i - 1], 100);
}

/* Heap against a plain search: random starts, moves, stops and steps. */
static void any_order_of_starts_and_stops_keeps_the_order(void **state)
{
	struct fixture *f = *state;
	uint32_t seed = 12345;
	int64_t due[64];

	clock_fake(0);
	for (int i = 0; i < 64; i++)
		due[i] = -1;
	for (int step = 0; step < 20000; step++) {
		int i, expected = 0;
		int64_t ms;

		seed = seed * 1664525u + 1013904223u;
		i = (int)(seed >> 8 & 63);
		ms = (int64_t)(seed >> 16 & 1023);
		if ((seed >> 28) < 9) {
			start(f, i, ms);
			due[i] = clock_mono_ms() + ms;
		} else if ((seed >> 28) < 12) {
			timer_stop(&f->t[i]);
			due[i] = -1;
		} else {
			f->n = 0;
			clock_advance(ms / 16);
			for (int k = 0; k < 64; k++)
				if (due[k] >= 0 && due[k] <= clock_mono_ms()) {
					expected++;
					due[k] = -1;
				}
			assert_int_equal(f->n, expected);
			for (int k = 1; k < f->n; k++)
				assert_true(f->at[k] >= f->at[k - 1]);
		}
		for (int k = 0; k < 64; k++)
			assert_int_equal(timer_running(&f->t[k]), due[k] >= 0);
	}
	assert_false(f->bad);
}

static void a_real_timer_is_never_early(void **state)
{
	struct fixture *f = *state;
	int64_t began = clock_exact_us();

	for (int i = 0; i < 20; i++)
		start(f, i, 3 + i * 2);
	f->stop_at = 20;
	assert_true(service_run(&f->s, rung, f, 5000));
	assert_true(clock_exact_us() - began >= 40 * 1000);
	assert_false(f->bad);
	for (int i = 0; i < 20; i++)
		assert_int_equal(f->order[i], i);
}

static void zero(void *arg)
{
	struct note *note = arg;

	note->f->order[0]++;
	note->f->at[0] = (int64_t)service_turns(&note->f->s);
	if (note->f->order[0] < 5)
		timer_start(&note->f->s, &note->f->t[note->i], 0, zero, arg);
	else
		note->f->n = 1;
}

static void a_timer_of_0_ms_waits_for_the_next_turn(void **state)
{
	struct fixture *f = *state;

	f->stop_at = 1;
	timer_start(&f->s, &f->t[0], -5, zero, &f->notes[0]);
	assert_true(service_run(&f->s, rung, f, 5000));
	assert_true(f->at[0] >= 4);             /* five runs in five turns */
}

static void with_a_faked_clock_the_loop_runs_only_what_is_due(void **state)
{
	struct fixture *f = *state;

	clock_fake(0);
	start(f, 0, 0);
	start(f, 1, 1);
	f->stop_at = 1;
	assert_true(service_run(&f->s, rung, f, 5000));
	assert_false(service_run(&f->s, never, f, 30));         /* 30 ms of real time */
	assert_int_equal(f->n, 1);
	clock_real();
	f->stop_at = 2;
	assert_true(service_run(&f->s, rung, f, 5000));
}

static void look(void *arg)
{
	struct note *note = arg;
	int64_t mono = clock_mono_ms(), us = clock_exact_us();

	while (clock_exact_us() - us < 5000)
		;
	note->f->bad = note->f->bad || clock_mono_ms() != mono;
	note->f->at[note->f->n++] = mono;
}

static void one_turn_has_one_time(void **state)
{
	struct fixture *f = *state;

	timer_start(&f->s, &f->t[0], 0, look, &f->notes[0]);
	timer_start(&f->s, &f->t[1], 0, look, &f->notes[1]);
	f->stop_at = 2;
	assert_true(service_run(&f->s, rung, f, 5000));
	assert_false(f->bad);
	assert_int_equal(f->at[0], f->at[1]);
	assert_true(clock_mono_ms() > f->at[0]);        /* outside it goes on */
}

static void clearing_the_loop_stops_its_timers(void **state)
{
	struct fixture *f = *state;
	struct service other = { .name = "other" };

	service_init(&other);
	timer_start(&other, &f->t[0], 1000, ring, &f->notes[0]);
	service_clear(&other);
	assert_false(timer_running(&f->t[0]));
}

#define ON_LOOP(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parse_reads_every_form_of_rfc_3339),
		cmocka_unit_test(parse_refuses_everything_else_and_leaves_the_result),
		cmocka_unit_test(parse_survives_every_single_byte_change),
		cmocka_unit_test(text_agrees_with_the_c_library),
		cmocka_unit_test(text_of_a_time_outside_the_calendar_is_its_nearest_end),
		cmocka_unit_test(civil_ok_knows_the_calendar),
		cmocka_unit_test(backoff_stays_in_its_bounds_and_uses_them),
		cmocka_unit_test(the_faked_clocks_move_only_when_told),
		ON_LOOP(due_timers_run_in_order_at_their_time),
		ON_LOOP(a_stopped_timer_does_not_run_and_a_moved_one_runs_once),
		ON_LOOP(a_timer_may_start_itself_again),
		ON_LOOP(any_order_of_starts_and_stops_keeps_the_order),
		ON_LOOP(a_real_timer_is_never_early),
		ON_LOOP(a_timer_of_0_ms_waits_for_the_next_turn),
		ON_LOOP(with_a_faked_clock_the_loop_runs_only_what_is_due),
		ON_LOOP(one_turn_has_one_time),
		ON_LOOP(clearing_the_loop_stops_its_timers),
	};

	return !!cmocka_run_group_tests(tests, NULL, NULL);
}

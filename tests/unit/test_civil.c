/* test_civil.c - wall clocks in zones, around the changes where programs go wrong.
 *
 * The expected values were computed with another implementation (Python's zoneinfo) over the same
 * IANA data; the dates are past ones, which no law changes any more. */
#include "clock.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

static const struct { const char *zone; struct civil local; int64_t unix_s; enum civil_fit fit; } known[] = {
	{ "America/New_York", { 2025, 3, 9, 1, 59, 59 }, 1741503599, CIVIL_ONCE },
	{ "America/New_York", { 2025, 3, 9, 2, 0, 0 }, 1741503600, CIVIL_GAP },
	{ "America/New_York", { 2025, 3, 9, 2, 30, 0 }, 1741505400, CIVIL_GAP },
	{ "America/New_York", { 2025, 3, 9, 2, 59, 59 }, 1741507199, CIVIL_GAP },
	{ "America/New_York", { 2025, 3, 9, 3, 0, 0 }, 1741503600, CIVIL_ONCE },
	{ "America/New_York", { 2025, 11, 2, 0, 59, 59 }, 1762059599, CIVIL_ONCE },
	{ "America/New_York", { 2025, 11, 2, 1, 0, 0 }, 1762059600, CIVIL_TWICE },
	{ "America/New_York", { 2025, 11, 2, 1, 30, 0 }, 1762061400, CIVIL_TWICE },
	{ "America/New_York", { 2025, 11, 2, 1, 59, 59 }, 1762063199, CIVIL_TWICE },
	{ "America/New_York", { 2025, 11, 2, 2, 0, 0 }, 1762066800, CIVIL_ONCE },
	{ "America/New_York", { 2025, 7, 1, 12, 0, 0 }, 1751385600, CIVIL_ONCE },
	{ "America/New_York", { 2025, 1, 1, 12, 0, 0 }, 1735750800, CIVIL_ONCE },
	{ "Europe/London", { 2025, 3, 30, 1, 30, 0 }, 1743298200, CIVIL_GAP },
	{ "Europe/London", { 2025, 10, 26, 1, 30, 0 }, 1761438600, CIVIL_TWICE },
	{ "Europe/Dublin", { 2025, 3, 30, 1, 30, 0 }, 1743298200, CIVIL_GAP },
	{ "Europe/Dublin", { 2025, 10, 26, 1, 30, 0 }, 1761438600, CIVIL_TWICE },
	{ "Europe/Berlin", { 2024, 3, 31, 2, 0, 0 }, 1711846800, CIVIL_GAP },
	{ "Europe/Berlin", { 2024, 10, 27, 2, 59, 59 }, 1729990799, CIVIL_TWICE },
	{ "Australia/Lord_Howe", { 2025, 10, 5, 2, 15, 0 }, 1759592700, CIVIL_GAP },
	{ "Australia/Lord_Howe", { 2025, 4, 6, 1, 45, 0 }, 1743864300, CIVIL_TWICE },
	{ "Australia/Lord_Howe", { 2025, 4, 6, 1, 29, 59 }, 1743863399, CIVIL_ONCE },
	{ "Australia/Sydney", { 2024, 10, 6, 2, 30, 0 }, 1728145800, CIVIL_GAP },
	{ "Australia/Sydney", { 2024, 4, 7, 2, 30, 0 }, 1712417400, CIVIL_TWICE },
	{ "Pacific/Chatham", { 2024, 9, 29, 2, 50, 0 }, 1727532300, CIVIL_GAP },
	{ "Pacific/Chatham", { 2024, 4, 7, 3, 0, 0 }, 1712409300, CIVIL_TWICE },
	{ "America/Santiago", { 2024, 9, 8, 0, 30, 0 }, 1725769800, CIVIL_GAP },
	{ "America/Santiago", { 2024, 4, 6, 23, 30, 0 }, 1712457000, CIVIL_TWICE },
	{ "Asia/Beirut", { 2024, 3, 31, 0, 15, 0 }, 1711836900, CIVIL_GAP },
	{ "Asia/Beirut", { 2024, 10, 26, 23, 30, 0 }, 1729974600, CIVIL_TWICE },
	{ "Africa/Cairo", { 2024, 4, 26, 0, 30, 0 }, 1714084200, CIVIL_GAP },
	{ "Africa/Cairo", { 2024, 10, 31, 23, 30, 0 }, 1730406600, CIVIL_TWICE },
	{ "America/Havana", { 2024, 3, 10, 0, 30, 0 }, 1710048600, CIVIL_GAP },
	{ "Antarctica/Troll", { 2024, 3, 31, 1, 30, 0 }, 1711848600, CIVIL_GAP },
	{ "Antarctica/Troll", { 2024, 10, 27, 2, 0, 0 }, 1729987200, CIVIL_TWICE },
	{ "Asia/Kathmandu", { 2024, 6, 1, 0, 0, 0 }, 1717179300, CIVIL_ONCE },
	{ "Asia/Kolkata", { 2024, 6, 1, 0, 0, 0 }, 1717180200, CIVIL_ONCE },
	{ "America/Sao_Paulo", { 2024, 11, 3, 0, 30, 0 }, 1730604600, CIVIL_ONCE },
	{ "Asia/Tokyo", { 2024, 2, 29, 23, 59, 59 }, 1709218799, CIVIL_ONCE },
	{ "Pacific/Kiritimati", { 2024, 1, 1, 0, 0, 0 }, 1704016800, CIVIL_ONCE },
	{ "Pacific/Pago_Pago", { 2024, 1, 1, 0, 0, 0 }, 1704106800, CIVIL_ONCE },
	{ "UTC", { 2024, 2, 29, 12, 0, 0 }, 1709208000, CIVIL_ONCE },
	{ "Etc/GMT+5", { 2024, 6, 1, 0, 0, 0 }, 1717218000, CIVIL_ONCE },
	{ "US/Eastern", { 2024, 11, 3, 1, 15, 0 }, 1730610900, CIVIL_TWICE },
	{ "Asia/Gaza", { 2023, 4, 29, 2, 30, 0 }, 1682728200, CIVIL_GAP },
	{ "Africa/Casablanca", { 2024, 3, 10, 2, 30, 0 }, 1710034200, CIVIL_TWICE },
	{ "Africa/Casablanca", { 2024, 4, 14, 2, 30, 0 }, 1713061800, CIVIL_GAP },
	{ "America/St_Johns", { 2024, 3, 10, 2, 30, 0 }, 1710050400, CIVIL_GAP },
	{ "America/Scoresbysund", { 2024, 3, 31, 0, 30, 0 }, 1711848600, CIVIL_ONCE },
};

static void known_times_mean_what_they_are_known_to_mean(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		const struct civil *c = &known[i].local;
		enum civil_fit fit = CIVIL_ONCE;
		int64_t ms = -1;
		int r = civil_to_unix(c, str_of(known[i].zone), &ms, &fit);

		if (r != 0 || ms != known[i].unix_s * 1000 || fit != known[i].fit)
			fail_msg("%s %d-%02d-%02d %02d:%02d:%02d: %d, %lld and not %lld, fit %d and not %d",
			         known[i].zone, c->year, c->month, c->day, c->hour, c->minute, c->second, r,
			         (long long)ms / 1000, (long long)known[i].unix_s, (int)fit,
			         (int)known[i].fit);
	}
}

static bool same(const struct civil *a, const struct civil *b)
{
	return civil_as_utc_s(a) == civil_as_utc_s(b);
}

/* Every half hour of a leap year: there and back again.  Only the second of two equal
 * wall times comes back as the first. */
static void what_the_clock_shows_leads_back_to_the_same_instant(void **state)
{
	static const char *const zones[] = { "America/New_York", "Europe/Dublin", "Australia/Lord_Howe",
		"America/Santiago", "Asia/Kathmandu", "Pacific/Chatham", "UTC", "Africa/Cairo" };

	(void)state;
	for (size_t z = 0; z < ARRAY_LEN(zones); z++) {
		unsigned twice = 0;

		for (int64_t ms = 1704067200000; ms < 1735689600000; ms += 1800000) {
			enum civil_fit fit = CIVIL_GAP;
			struct civil c, again;
			int64_t back = -1;

			assert_int_equal(civil_from_unix(ms, str_of(zones[z]), &c), 0);
			assert_int_equal(civil_to_unix(&c, str_of(zones[z]), &back, &fit), 0);
			assert_int_not_equal(fit, CIVIL_GAP);
			if (fit == CIVIL_ONCE && back != ms)
				fail_msg("%s: %lld became %lld", zones[z], (long long)ms, (long long)back);
			if (fit == CIVIL_TWICE) {
				twice++;
				assert_true(back == ms || (back < ms && ms - back <= 3 * 3600000));
				assert_int_equal(civil_from_unix(back, str_of(zones[z]), &again), 0);
				assert_true(same(&c, &again));
			}
		}
		assert_true(z == 4 || z == 6 ? twice == 0 : twice > 0);
	}
}

static void unknown_zones_and_tricks_with_names_are_absent(void **state)
{
	static const char *const bad[] = { "", "Nowhere/Land", "Mars", "/etc/passwd", "../../../../etc/passwd",
		"Europe/../Europe/London", "Europe/London/", "Europe//London", "zone.tab", "Europe", "Europe/London ",
		"Europe/L\xc3\xb3ndon", "%s", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" };
	struct civil c = { 2024, 1, 1, 0, 0, 0 }, out = c;
	int64_t ms = 5;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (civil_to_unix(&c, str_of(bad[i]), &ms, NULL) != -ENOENT || ms != 5)
			fail_msg("\"%s\" is a zone", bad[i]);
		if (civil_from_unix(0, str_of(bad[i]), &out) != -ENOENT || !same(&c, &out))
			fail_msg("\"%s\" is a zone", bad[i]);
	}
	assert_int_equal(civil_to_unix(&c, STR("Europe/London\0x"), &ms, NULL), -ENOENT);
	assert_int_equal(civil_to_unix(&c, STR_NONE, &ms, NULL), -ENOENT);
}

static void days_that_do_not_exist_are_refused(void **state)
{
	int64_t ms = 5;

	(void)state;
	assert_int_equal(civil_to_unix(&(struct civil){ 2025, 2, 29, 0, 0, 0 }, STR("UTC"), &ms, NULL),
	                 -EINVAL);
	assert_int_equal(civil_to_unix(&(struct civil){ 2025, 6, 31, 0, 0, 0 }, STR("UTC"), &ms, NULL),
	                 -EINVAL);
	assert_int_equal(civil_to_unix(&(struct civil){ 2025, 6, 1, 24, 0, 0 }, STR("UTC"), &ms, NULL),
	                 -EINVAL);
	assert_int_equal(ms, 5);
}

static void the_ends_of_the_calendar_hold(void **state)
{
	struct civil c;
	int64_t ms;

	(void)state;
	assert_int_equal(civil_from_unix(0, STR("UTC"), &c), 0);
	assert_true(same(&c, &(struct civil){ 1970, 1, 1, 0, 0, 0 }));
	assert_int_equal(civil_from_unix(0, STR("America/New_York"), &c), -EINVAL);     /* still 1969 there */
	assert_int_equal(civil_from_unix(-1, STR("UTC"), &c), -EINVAL);
	assert_int_equal(civil_from_unix(253402300799999, STR("UTC"), &c), 0);
	assert_true(same(&c, &(struct civil){ 9999, 12, 31, 23, 59, 59 }));
	assert_int_equal(civil_from_unix(253402300800000, STR("UTC"), &c), -EINVAL);
	assert_int_equal(civil_from_unix(253402300799999, STR("Asia/Tokyo"), &c), -EINVAL);
	assert_int_equal(
		civil_to_unix(&(struct civil){ 9999, 12, 31, 23, 59, 59 }, STR("Asia/Tokyo"), &ms, NULL), 0);
	assert_int_equal(ms, 253402300799000 - 9 * 3600000);
}

static void seconds_as_utc_and_back_are_the_same(void **state)
{
	(void)state;
	for (int64_t s = 0; s < 253402300800; s += 86399 * 7 + 13) {
		struct civil c = civil_of_utc_s(s);

		assert_true(civil_ok(&c));
		assert_int_equal(civil_as_utc_s(&c), s);
	}
	assert_int_equal(civil_of_utc_s(-1).year, 1969);
	assert_int_equal(civil_of_utc_s(-1).second, 59);
}

enum { NOT_ALLOWED = 77, WRONG = 1 };

/* In a child with an empty file system in place of the zone data. */
static int without_zone_data(void)
{
	struct civil c = { 2024, 1, 1, 0, 0, 0 };
	int64_t ms = 5;

	if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
		return NOT_ALLOWED;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("none", "/usr/share/zoneinfo", "tmpfs", 0, NULL) != 0)
		return NOT_ALLOWED;
	if (civil_to_unix(&c, STR("Europe/London"), &ms, NULL) != -ESTALE || ms != 5)
		return WRONG;
	return civil_from_unix(0, STR("Mars/Olympus"), &c) == -ESTALE ? 0 : WRONG;
}

static void a_machine_without_zone_data_is_told_from_a_wrong_name(void **state)
{
	int status = 0;
	pid_t pid;

	(void)state;
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(without_zone_data());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == NOT_ALLOWED) {
		print_message("skipped: this machine does not let us hide its zone data\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_machine_without_zone_data_is_told_from_a_wrong_name),   /* before any is cached */
		cmocka_unit_test(known_times_mean_what_they_are_known_to_mean),
		cmocka_unit_test(what_the_clock_shows_leads_back_to_the_same_instant),
		cmocka_unit_test(unknown_zones_and_tricks_with_names_are_absent),
		cmocka_unit_test(days_that_do_not_exist_are_refused),
		cmocka_unit_test(the_ends_of_the_calendar_hold),
		cmocka_unit_test(seconds_as_utc_and_back_are_the_same),
	};

	return !!cmocka_run_group_tests(tests, NULL, NULL);
}

/* Rate limits over several routers, restarts, backlogs and full memory. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "fleet.h"

static struct fleet f;

enum { WAIT_MS = 15000, CHANNELS = 8 };

static void send(const char *run, int i, const char *user, int channel, const char *text, int64_t at_ms)
{
	char *id = text_of("twitch:%s-%s-%d-%d", run, user, channel, i);

	fleet_send(&f, (struct fleet_event){ .id = id, .user = user, .channel = channel, .text = text,
	                                     .received_ms = at_ms });
	free(id);
}

static int64_t counted(const char *user, const char *what)
{
	return sql_int(f.st.sql, "SELECT coalesce(sum(%s), 0) FROM rate_limits WHERE user_id = '%s'", what, user);
}

static int up(void **state)
{
	(void)state;
	fleet_open(&f, "limits", CHANNELS);
	fleet_command(&f, "sixty", 60);
	fleet_command(&f, "three", 3);
	fleet_command(&f, "free", 0);
	fleet_start(&f, 0, NULL);
	fleet_start(&f, 1, NULL);
	fleet_wait_owners(&f, 2, (const int[]){ 0, 1 });
	return 0;
}

static int down(void **state)
{
	(void)state;
	fleet_close(&f);
	return 0;
}

/* router 13: everything at once, in every channel, so that both replicas have their part. */
static void of_sixty_five_at_once_sixty_run_in_each_channel(void **state)
{
	int64_t at = fleet_now_ms() - 20000;

	(void)state;
	for (int i = 0; i < 65; i++)
		for (int c = 0; c < CHANNELS; c++)
			send("once", i, "10", c, "!sixty", at + i);
	fleet_flush(&f);
	fleet_wait_verdicts(&f, 65 * CHANNELS, "twitch:once-%", WAIT_MS);
	for (int c = 0; c < CHANNELS; c++) {
		char *like = text_of("twitch:once-10-%d-%%", c);

		assert_int_equal(fleet_ran(&f, like), 60);
		assert_int_equal(fleet_refused(&f, like), 5);
		free(like);
	}
	assert_int_equal(counted("10", "request_count"), 60 * CHANNELS);
	assert_int_equal(counted("10", "rejected_count"), 5 * CHANNELS);
	assert_int_equal(
		sql_int(f.st.sql, "SELECT count(*) FROM rate_limits WHERE request_count <> (SELECT count(*) "
	                          "FROM jsonb_object_keys(hits))"),
		0);
}

/* router 14 */
static void others_pass_and_so_does_the_first_after_sixty_seconds(void **state)
{
	int64_t at = fleet_now_ms() - 100000;

	(void)state;
	for (int i = 0; i < 3; i++)
		send("slide", i, "20", 0, "!three", at + i * 1000);
	for (int i = 3; i < 10; i++)
		send("slide", i, "20", 0, "!three", at + 50000 + i);      /* refused, and move nothing */
	send("slide", 0, "21", 0, "!three", at + 50000);
	send("slide", 0, "20", 1, "!three", at + 50000);
	send("slide", 11, "20", 0, "!three", at + 59999);
	send("slide", 12, "20", 0, "!three", at + 60000);
	send("slide", 13, "20", 0, "!three", at + 60001);
	fleet_flush(&f);
	fleet_wait_verdicts(&f, 15, "twitch:slide-%", WAIT_MS);
	assert_int_equal(fleet_ran(&f, "twitch:slide-%"), 6);
	assert_int_equal(fleet_ran(&f, "twitch:slide-20-0-12"), 1);
	assert_int_equal(fleet_ran(&f, "twitch:slide-20-0-13"), 0);
	assert_int_equal(fleet_refused(&f, "twitch:slide-20-0-%"), 9);
}

/* router 15 */
static void a_limit_of_zero_is_none(void **state)
{
	int64_t at = fleet_now_ms();

	(void)state;
	for (int i = 0; i < 300; i++)
		send("zero", i, "30", 2, "!free", at);
	fleet_flush(&f);
	sql_wait_int(f.st.sql, 300, WAIT_MS,
	             "SELECT count(*) FROM command_executions WHERE event_id LIKE 'twitch:zero-%%'");
	assert_int_equal(sql_int(f.st.sql, "SELECT count(*) FROM rate_limits WHERE user_id = '30'"), 0);
}

/* router 62, 64: the owner dies inside the minute; what it judged is not judged otherwise. */
static void after_the_owner_was_killed_the_sixty_first_is_refused(void **state)
{
	int64_t at = fleet_now_ms() - 10000;
	int owner, other;

	(void)state;
	for (int i = 0; i < 60; i++)
		send("kill", i, "40", 3, "!sixty", at + i);
	for (int i = 0; i < 5; i++)
		send("again", 0, "40", 4, "!sixty", at);        /* the same event five times */
	fleet_flush(&f);
	sql_wait_int(f.st.sql, 60, WAIT_MS,
	             "SELECT count(*) FROM command_executions WHERE event_id LIKE 'twitch:kill-%%'");
	owner = fleet_owner(&f, 3);
	other = 1 - owner;
	child_kill(f.router[owner]);
	fleet_wait_owners(&f, 1, &other);
	send("kill", 60, "40", 3, "!sixty", at + 30000);
	for (int i = 0; i < 5; i++)
		send("kill", i, "40", 3, "!sixty", at + i);     /* delivered again */
	for (int i = 0; i < 5; i++)
		send("again", 0, "40", 4, "!sixty", at);
	send("kill", 61, "40", 3, "!sixty", at + 30001);
	fleet_flush(&f);
	fleet_wait_verdicts(&f, 62, "twitch:kill-%", WAIT_MS);
	assert_int_equal(fleet_ran(&f, "twitch:kill-%"), 60);
	assert_int_equal(fleet_refused(&f, "twitch:kill-40-3-60"), 1);
	assert_int_equal(fleet_refused(&f, "twitch:kill-40-3-61"), 1);
	assert_int_equal(fleet_refused(&f, "twitch:kill-%"), 2);
	assert_int_equal(fleet_ran(&f, "twitch:again-%"), 1);
	assert_int_equal(counted("40", "request_count"), 61);
	assert_int_equal(counted("40", "rejected_count"), 2);
	fleet_start(&f, owner, NULL);
	fleet_wait_owners(&f, 2, (const int[]){ 0, 1 });
}

/* router, section 9: a backlog is judged by its own times, and what was refused stays refused. */
static void an_old_backlog_is_judged_by_its_own_times_also_after_a_restart(void **state)
{
	int64_t at = fleet_now_ms() - 3 * 3600000;
	int owner;

	(void)state;
	for (int i = 0; i < 4; i++)
		send("old", i, "50", 5, "!three", at + i * 10000);
	send("old", 4, "50", 5, "!three", at + 61000);
	fleet_flush(&f);
	fleet_wait_verdicts(&f, 5, "twitch:old-%", WAIT_MS);
	owner = fleet_owner(&f, 5);
	assert_int_equal(child_end(f.router[owner], WAIT_MS), 0);
	fleet_start(&f, owner, NULL);
	fleet_wait_owners(&f, 2, (const int[]){ 0, 1 });
	for (int i = 0; i < 5; i++)
		send("old", i, "50", 5, "!three", i == 4 ? at + 61000 : at + i * 10000);
	send("old", 5, "50", 5, "!three", at + 69000);
	send("old", 6, "50", 5, "!three", at + 71000);
	fleet_flush(&f);
	fleet_wait_verdicts(&f, 7, "twitch:old-%", WAIT_MS);
	assert_int_equal(fleet_ran(&f, "twitch:old-%"), 5);
	assert_int_equal(fleet_refused(&f, "twitch:old-50-5-3"), 1);
	assert_int_equal(fleet_refused(&f, "twitch:old-50-5-5"), 1);
	assert_int_equal(fleet_ran(&f, "twitch:old-50-5-6"), 1);
	assert_int_equal(counted("50", "request_count"), 5);
	assert_int_equal(counted("50", "rejected_count"), 2);
}

/* One key in memory, twenty users: each is read back, none gets a fourth. */
static void windows_that_do_not_fit_into_memory_are_read_back(void **state)
{
	int64_t at = fleet_now_ms() - 5000;

	(void)state;
	for (int i = 0; i < 2; i++)
		assert_int_equal(child_end(f.router[i], WAIT_MS), 0);
	fleet_start(&f, 2, (const char *const[]){ "LIMIT_KEYS=1", NULL });
	fleet_wait_owners(&f, 1, (const int[]){ 2 });
	for (int i = 0; i < 6; i++) {
		for (int user = 600; user < 620; user++) {
			char *name = text_of("%d", user);

			send("many", i, name, user % CHANNELS, "!three", at + i);
			free(name);
		}
		fleet_flush(&f);
		fleet_wait_verdicts(&f, 20 * (i + 1), "twitch:many-%", WAIT_MS);
	}
	assert_int_equal(fleet_ran(&f, "twitch:many-%"), 60);
	assert_int_equal(fleet_refused(&f, "twitch:many-%"), 60);
	assert_int_equal(sql_int(f.st.sql, "SELECT count(*) FROM rate_limits WHERE user_id LIKE '6__' "
	                                   "AND (request_count, rejected_count) <> (3, 3)"),
	                 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(of_sixty_five_at_once_sixty_run_in_each_channel),
		cmocka_unit_test(others_pass_and_so_does_the_first_after_sixty_seconds),
		cmocka_unit_test(a_limit_of_zero_is_none),
		cmocka_unit_test(after_the_owner_was_killed_the_sixty_first_is_refused),
		cmocka_unit_test(an_old_backlog_is_judged_by_its_own_times_also_after_a_restart),
		cmocka_unit_test(windows_that_do_not_fit_into_memory_are_read_back),
	};

	return !!cmocka_run_group_tests_name("limits", tests, up, down);
}

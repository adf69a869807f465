/* test_db_listen.c - notifications arrive, and after every reconnect the listener is told. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "db_fixture.h"
#include "wait.h"

static struct db_fixture f;

struct heard { int fresh, notes; char last[32]; };
static struct heard heard[2];

static int set_up(void **state)
{
	(void)state;
	stack_open(&f.st, "db_listen", STACK_DATABASE);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	stack_close(&f.st);
	return 0;
}

static int open_db(void **state)
{
	(void)state;
	memset(heard, 0, sizeof(heard));
	fixture_open(&f, (struct db_conf){ 0 }, false);
	return 0;
}

static int close_db(void **state)
{
	(void)state;
	if (f.db != NULL)
		fixture_close(&f);
	return 0;
}

static void note(void *arg, struct str payload)
{
	struct heard *h = arg;

	if (payload.p == NULL) {
		h->fresh++;
		return;
	}
	h->notes++;
	snprintf(h->last, sizeof(h->last), STR_FMT, STR_ARG(payload));
}

static bool fresh_is(struct db_fixture *fix, int64_t n)
{
	(void)fix;
	return heard[0].fresh >= n && heard[1].fresh >= n;
}

static bool notes_are(struct db_fixture *fix, int64_t n)
{
	(void)fix;
	return heard[0].notes >= n && heard[1].notes >= n;
}

static void both_channels_hear_their_own_notifications(void **state)
{
	(void)state;
	db_listen(f.db, "first", note, &heard[0]);
	db_listen(f.db, "Second \"one\"", note, &heard[1]);
	fixture_until(&f, "both listen", fresh_is, 1, 10000);
	sql_run(f.st.sql, "NOTIFY first, 'a'");
	sql_run(f.st.sql, "NOTIFY \"Second \"\"one\"\"\", ''");
	fixture_until(&f, "both were notified", notes_are, 1, 5000);
	assert_string_equal(heard[0].last, "a");
	assert_string_equal(heard[1].last, "");
	assert_true(heard[0].notes == 1 && heard[1].notes == 1 && heard[0].fresh == 1 && heard[1].fresh == 1);
}

static void a_channel_added_later_is_listened_to_at_once(void **state)
{
	(void)state;
	db_listen(f.db, "first", note, &heard[0]);
	heard[1].fresh = 1;
	fixture_until(&f, "the first listens", fresh_is, 1, 10000);
	heard[1].fresh = 0;
	db_listen(f.db, "second", note, &heard[1]);
	assert_int_equal(heard[1].fresh, 0);
	fixture_until(&f, "the second listens", fresh_is, 1, 10000);
	sql_run(f.st.sql, "SELECT pg_notify('first', 'x'), pg_notify('second', 'y')");
	fixture_until(&f, "both were notified", notes_are, 1, 5000);
	assert_string_equal(heard[1].last, "y");
	assert_int_equal(heard[0].fresh, 1);
}

static void after_a_lost_connection_it_listens_again_and_says_so(void **state)
{
	(void)state;
	db_listen(f.db, "first", note, &heard[0]);
	db_listen(f.db, "second", note, &heard[1]);
	for (int64_t round = 1; round <= 3; round++) {
		fixture_until(&f, "both listen", fresh_is, round, 10000);
		sql_run(f.st.sql, "SELECT pg_notify('first', '%d'), pg_notify('second', '%d')", (int)round, (int)round);
		fixture_until(&f, "both were notified", notes_are, round, 5000);
		fixture_terminate(&f);
		sql_run(f.st.sql, "NOTIFY first, 'nobody hears this'");
	}
	fixture_until(&f, "both listen", fresh_is, 4, 10000);
	assert_true(heard[0].notes >= 3 && heard[1].notes == 3);
}

static void notifications_sent_together_all_arrive_in_order(void **state)
{
	(void)state;
	db_listen(f.db, "first", note, &heard[0]);
	heard[1].fresh = 1;
	fixture_until(&f, "it listens", fresh_is, 1, 10000);
	sql_run(f.st.sql, "SELECT pg_notify('first', n::text) FROM generate_series(1, 5000) n");
	heard[1].notes = 5000;
	fixture_until(&f, "all arrive", notes_are, 5000, 10000);
	assert_int_equal(heard[0].notes, 5000);
	assert_string_equal(heard[0].last, "5000");
}

static void close_from_here(void *arg, struct str payload)
{
	struct heard *h = arg;

	h->fresh++;
	if (payload.p == NULL && h->fresh == 1) {
		db_close(f.db);
		f.db = NULL;
	}
}

static bool is_closed(struct db_fixture *fix, int64_t n)
{
	(void)n;
	return fix->db == NULL;
}

static void the_db_may_be_closed_from_a_notification(void **state)
{
	(void)state;
	db_listen(f.db, "first", close_from_here, &heard[0]);
	db_listen(f.db, "second", close_from_here, &heard[1]);
	fixture_until(&f, "it was closed", is_closed, 0, 10000);
	fixture_turns(&f, 20);
	assert_true(heard[0].fresh == 1 && heard[1].fresh == 0);
	service_clear(&f.s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(both_channels_hear_their_own_notifications, open_db, close_db),
		cmocka_unit_test_setup_teardown(a_channel_added_later_is_listened_to_at_once, open_db, close_db),
		cmocka_unit_test_setup_teardown(after_a_lost_connection_it_listens_again_and_says_so, open_db, close_db),
		cmocka_unit_test_setup_teardown(notifications_sent_together_all_arrive_in_order, open_db, close_db),
		cmocka_unit_test_setup_teardown(the_db_may_be_closed_from_a_notification, open_db, close_db),
	};

	return !!cmocka_run_group_tests_name("db_listen", tests, set_up, tear_down);
}

/* test_schema_partitions.c - time partitions: made ahead, caught by default, moved, dropped. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "stack.h"

#include <libpq-fe.h>

static struct stack st;

static int set_up(void **state)
{
	(void)state;
	stack_open(&st, "schema_partitions", STACK_SCHEMA);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	stack_close(&st);
	return 0;
}

static int64_t ensure(const char *ahead)
{
	return sql_int(st.sql, "SELECT waddle_partitions_ensure(%s)", ahead);
}

/* An event at a time given as SQL, and the partition it went to. */
static char *put_event(const char *id, const char *at)
{
	sql_run(st.sql,
	        "INSERT INTO twitch_events (event_id, event_type, platform_ids, event_data, created_at, "
	        "dedupe_key, entity) "
	        "VALUES ('%s', 'message', '{}', '{}', %s, '%s', 'twitch:1')",
	        id, at, id);
	return sql_text(st.sql, "SELECT tableoid::regclass FROM twitch_events WHERE event_id = '%s'", id);
}

/* to_char of a day, as in the names; free() */
static char *name_of(const char *parent, const char *at)
{
	return sql_text(st.sql, "SELECT '%s_p' || to_char((%s) AT TIME ZONE 'UTC', 'YYYYMMDD')", parent, at);
}

static void two_days_back_and_seven_ahead_exist_for_every_table(void **state)
{
	(void)state;
	assert_int_equal(
		sql_int(st.sql,
	                "SELECT count(*) FROM pg_partitioned_table t JOIN pg_class c ON c.oid = t.partrelid "
	                "WHERE NOT EXISTS (SELECT FROM waddle_partitions WHERE parent = c.relname)"),
		0);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM waddle_partitions"), 21);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM waddle_partitions p, generate_series(-2, 7) n "
	                                 "WHERE unit = 'day' AND NOT EXISTS "
	                                 "(SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
	                                 "WHERE i.inhparent = parent::regclass "
	                                 "AND c.relname = parent || '_p' || to_char((now() AT TIME ZONE "
	                                 "'UTC')::date + n, 'YYYYMMDD'))"),
	                 0);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM waddle_partitions p, generate_series(-1, 2) n "
	                                 "WHERE unit = 'month' AND NOT EXISTS "
	                                 "(SELECT FROM pg_class c WHERE c.relname = parent || '_p' || "
	                                 "to_char(date_trunc('month', now() AT TIME "
	                                 "ZONE 'UTC') + n * interval '1 month', 'YYYYMM'))"),
	                 0);
	assert_int_equal(ensure(""), 0);
}

static void a_day_begins_at_midnight_utc_whatever_the_session_says(void **state)
{
	char *at = put_event("edge-1", "date_trunc('day', now(), 'UTC')"),
	     *want = name_of("twitch_events", "now()");

	(void)state;
	assert_string_equal(at, want);
	free(at);
	free(want);
	at = put_event("edge-2", "date_trunc('day', now(), 'UTC') - interval '1 microsecond'");
	want = name_of("twitch_events", "now() - interval '1 day'");
	assert_string_equal(at, want);
	free(at);
	free(want);

	/* Made by a session elsewhere on earth, and still UTC. */
	sql_run(st.sql, "SET timezone = 'Pacific/Auckland'");
	assert_true(ensure("8") > 0);
	at = put_event("edge-3", "date_trunc('day', now(), 'UTC') + interval '8 days'");
	want = name_of("twitch_events", "now() + interval '8 days'");
	assert_string_equal(at, want);
	sql_run(st.sql, "RESET timezone");
	free(at);
	free(want);
}

static void a_row_of_an_unexpected_day_is_kept_and_moved_later(void **state)
{
	char *at = put_event("far-1", "now() + interval '20 days'"), *want;

	(void)state;
	assert_string_equal(at, "twitch_events_default");
	free(at);
	at = put_event("far-2", "now() - interval '9 days'");
	assert_string_equal(at, "twitch_events_default");
	free(at);

	assert_int_equal(ensure(""), 2);
	at = sql_text(st.sql, "SELECT tableoid::regclass FROM twitch_events WHERE event_id = 'far-1'");
	want = name_of("twitch_events", "now() + interval '20 days'");
	assert_string_equal(at, want);
	free(at);
	free(want);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM ONLY twitch_events_default"), 0);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM twitch_events WHERE event_id LIKE 'far-%%'"),
	                 2);
	assert_int_equal(ensure(""), 0);
}

static void a_batch_with_one_wild_date_is_stored_whole(void **state)
{
	(void)state;
	sql_run(st.sql, "INSERT INTO command_executions (execution_id, command_id, entity_id, user_id, "
	                "location_url, session_id, "
	                "event_id, community_id, created_at) SELECT gen_random_uuid(), 1, 1, 'u', 'x', "
	                "gen_random_uuid(), 'wild', 1, at "
	                "FROM unnest(ARRAY[now(), '2150-01-01', '1970-01-01', now() + interval '1 day']) at");
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM command_executions WHERE event_id = 'wild'"),
	                 4);
	/* No partition is made for what is beyond reason; nothing fails. */
	assert_int_equal(ensure(""), 0);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM ONLY command_executions_default"), 2);
}

static void what_is_too_old_is_dropped_by_day(void **state)
{
	char *oldest = name_of("sessions", "now() - interval '2 days'");
	char *kept = name_of("sessions", "now() - interval '1 day'");

	(void)state;
	/* Nothing but the row of 1970 is past its 30 days. */
	assert_int_equal(sql_int(st.sql, "SELECT waddle_partitions_drop()"), 0);
	assert_int_equal(
		sql_int(st.sql, "SELECT count(*) FROM command_executions WHERE created_at < '1971-01-01'"),
		0);
	assert_int_equal(
		sql_int(st.sql, "SELECT count(*) FROM command_executions WHERE created_at > '2100-01-01'"),
		1);

	sql_run(st.sql, "UPDATE waddle_partitions SET retain_days = 1 WHERE parent = 'sessions'");
	assert_int_equal(sql_int(st.sql, "SELECT waddle_partitions_drop()"), 1);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM pg_class WHERE relname = '%s'", oldest), 0);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM pg_class WHERE relname = '%s'", kept), 1);
	/* What is kept for ever stays, however old. */
	sql_run(st.sql, "INSERT INTO twitch_activities (event_id, activity_type, user_id, amount, "
	                "created_at, entity) "
	                "VALUES ('old', 'message', 'u', 5, '2019-05-05', 'twitch:1')");
	assert_int_equal(sql_int(st.sql, "SELECT waddle_partitions_drop()"), 0);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM twitch_activities"), 1);
	free(oldest);
	free(kept);
}

static void a_locked_table_does_not_hold_up_the_others(void **state)
{
	struct sql *other = sql_open(st.url);
	int64_t start = harness_now_ms(), made;

	(void)state;
	sql_run(other, "BEGIN");
	sql_run(other, "LOCK TABLE rate_limits_default IN ACCESS EXCLUSIVE MODE");
	made = ensure("10");
	assert_true(harness_now_ms() - start < 20000);
	assert_true(made > 0);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM pg_class WHERE relname = 'rate_limits_p' || "
	                                 "to_char((now() AT TIME ZONE 'UTC')::date + 10, 'YYYYMMDD')"),
	                 0);
	sql_run(other, "COMMIT");
	assert_true(ensure("10") > 0);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM pg_class WHERE relname = 'rate_limits_p' || "
	                                 "to_char((now() AT TIME ZONE 'UTC')::date + 10, 'YYYYMMDD')"),
	                 1);
	sql_close(other);
}

static void writers_go_on_while_partitions_are_made(void **state)
{
	struct sql *writer = sql_open(st.url);

	(void)state;
	/* An open transaction that has written to a partition of the same table. */
	sql_run(writer, "BEGIN");
	sql_run(writer, "INSERT INTO sessions (session_id, created_at, entity_id) VALUES (gen_random_uuid(), "
	                "now(), 1)");
	assert_true(ensure("12") > 0);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM pg_class WHERE relname = 'sessions_p' || "
	                                 "to_char((now() AT TIME ZONE 'UTC')::date + 12, 'YYYYMMDD')"),
	                 1);
	sql_run(writer, "COMMIT");
	sql_close(writer);
}

static void several_services_at_once_make_each_partition_once(void **state)
{
	enum { SERVICES = 4 };
	static const char *const roles[SERVICES] = { "waddle_router", "waddle_memories",
		                                     "waddle_collector_twitch", "waddle_community" };
	PGconn *conn[SERVICES];
	int64_t made = 0, before = sql_int(st.sql, "SELECT max(oid::bigint) + 1 FROM pg_class");

	(void)state;
	for (int i = 0; i < SERVICES; i++) {
		conn[i] = PQconnectdb(stack_url(&st, roles[i]));
		assert_int_equal(PQstatus(conn[i]), CONNECTION_OK);
	}
	for (int i = 0; i < SERVICES; i++)
		assert_int_equal(PQsendQuery(conn[i], "SELECT waddle_partitions_ensure(14)"), 1);
	for (int i = 0; i < SERVICES; i++) {
		PGresult *res = PQgetResult(conn[i]);

		assert_int_equal(PQresultStatus(res), PGRES_TUPLES_OK);
		made += strtol(PQgetvalue(res, 0, 0), NULL, 10);
		PQclear(res);
		PQfinish(conn[i]);
	}
	/* Who comes while another is at it has nothing to do. */
	assert_int_equal(made, sql_int(st.sql,
	                               "SELECT count(*) FROM pg_class WHERE oid >= %lld AND relispartition "
	                               "AND relkind = 'r'",
	                               (long long)before));
	assert_int_equal(ensure("14"), 0);
	assert_int_equal(sql_int(st.sql,
	                         "SELECT count(*) FROM pg_class WHERE relname = 'memories_inbox_p' || "
	                         "to_char((now() AT TIME ZONE 'UTC')::date + 14, 'YYYYMMDD')"),
	                 1);
}

static void a_number_of_days_beyond_reason_is_refused(void **state)
{
	char got[6];

	(void)state;
	(void)!sql_try(st.sql, got, "SELECT waddle_partitions_ensure(401)");
	assert_string_equal(got, "22023");
	(void)!sql_try(st.sql, got, "SELECT waddle_partitions_ensure(-1)");
	assert_string_equal(got, "22023");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_days_back_and_seven_ahead_exist_for_every_table),
		cmocka_unit_test(a_day_begins_at_midnight_utc_whatever_the_session_says),
		cmocka_unit_test(a_row_of_an_unexpected_day_is_kept_and_moved_later),
		cmocka_unit_test(a_batch_with_one_wild_date_is_stored_whole),
		cmocka_unit_test(what_is_too_old_is_dropped_by_day),
		cmocka_unit_test(a_locked_table_does_not_hold_up_the_others),
		cmocka_unit_test(writers_go_on_while_partitions_are_made),
		cmocka_unit_test(several_services_at_once_make_each_partition_once),
		cmocka_unit_test(a_number_of_days_beyond_reason_is_refused),
	};

	return !!cmocka_run_group_tests_name("schema_partitions", tests, set_up, tear_down);
}

/* test_lookup_cache.c - what the router remembers is never older than it may be: notices, standby,
 * Redis, and each of them away.
 *
 * Two replicas share eight channels; what one of them believes is asked by sending it a command. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "redis.h"
#include "service.h"
#include "stack.h"
#include "str.h"

static struct stack st;
static struct child *replica[2];

/* AT_ONCE: far below any time to live; a busy machine is slow, not wrong. */
enum { CHANNELS = 8, WAIT_MS = 30000, AT_ONCE_MS = 8000, DEAF_MS = 18000 };

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Sends !echo from every channel; the ids begin with `round`. */
static void say_everywhere(const char *round)
{
	const char *const headers[] = { "ce_type: waddle.event.v1", "ce_specversion: 1.0", NULL };
	time_t now = (time_t)(now_ms() / 1000);
	char when[32];
	struct tm tm;

	gmtime_r(&now, &tm);
	(void)snprintf(when, sizeof when, "%04d-%02d-%02dT%02d:%02d:%02d.000Z", tm.tm_year + 1900, tm.tm_mon + 1,
	               tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
	for (int i = 0; i < CHANNELS; i++) {
		char *key = text_of("twitch:%d", 1001 + i);
		char *body = text_of(
			"{\"event_id\":\"%s-%d\",\"dedupe_key\":\"%s-%d\",\"platform\":\"twitch\",\"channel_id\":\"%d\","
			"\"entity\":\"%s\",\"user\":{\"id\":\"7\",\"name\":\"n7\",\"roles\":[\"member\"]},"
			"\"message_type\":\"chatMessage\",\"occurred_at\":\"%s\",\"received_at\":\"%s\",\"metadata\":{},"
			"\"message_content\":\"!echo\"}",
			round, i, round, i, 1001 + i, key, when, when);

		probe_send(st.kafka, stack_topic(&st, "waddle.events"), -1, key, body, strlen(body), headers);
		free(key);
		free(body);
	}
}

/* In how many channels the command ran; the others were not_enabled, nothing else happens here. */
static int64_t ran(void)
{
	static unsigned n;
	char *round = text_of("r%u-%llx", n++, (unsigned long long)rnd_next());
	int64_t ran_n;

	say_everywhere(round);
	sql_wait_int(st.sql, CHANNELS, WAIT_MS,
	             "SELECT count(*) FROM (SELECT event_id FROM command_executions WHERE event_id LIKE '%s-%%' UNION "
	             "SELECT event_id FROM event_decisions WHERE event_id LIKE '%s-%%' AND verdict = 'not_enabled') x",
	             round, round);
	ran_n = sql_int(st.sql, "SELECT count(*) FROM command_executions WHERE event_id LIKE '%s-%%'", round);
	free(round);
	return ran_n;
}

static bool ran_in(void *arg) { return ran() == *(int64_t *)arg; }

static void wait_ran(const char *what, int64_t channels, int64_t max_ms)
{
	wait_for(what, ran_in, &channels, max_ms);
}

static void enable(bool yes)
{
	sql_run(st.sql, "UPDATE command_permissions SET is_enabled = %s", yes ? "true" : "false");
}

static double metric(int of, const char *series)
{
	char *url = text_of("http://127.0.0.1:%d", child_port(replica[of], "ADMIN_LISTEN"));
	double v = probe_metric(url, series);

	free(url);
	return v;
}

static bool redis_is(void *arg)
{
	double want = *(bool *)arg ? 1 : 0;

	return metric(0, "waddle_redis_up") == want && metric(1, "waddle_redis_up") == want;
}

static void wait_redis(bool up)
{
	wait_for(up ? "Redis to be used" : "Redis to be missed", redis_is, &up, WAIT_MS);
}

static bool both_own_partitions(void *arg)
{
	(void)arg;
	return sql_int(st.sql, "SELECT count(DISTINCT owner) FROM router_partitions WHERE topic = 'waddle.events' "
	                       "AND owner <> ''") == 2;
}

static void start(int i)
{
	static char *redis[3];

	if (redis[0] == NULL) {
		redis[0] = text_of("REDIS_URL=%s", env_of("TEST_REDIS"));
		redis[1] = text_of("REDIS_TIMEOUT=2s");  /* a busy machine is not a slow Redis */
	}
	replica[i] = stack_service(&st, "waddle-router", "waddle_router", (const char *const *)redis);
	child_wait_ready(replica[i], true, WAIT_MS);
}

static int up(void **state)
{
	(void)state;
	stack_open(&st, "lookup_cache", STACK_SCHEMA | STACK_TOPICS);
	sql_run(st.sql, "INSERT INTO communities (name, display_name) VALUES ('cats', 'Cats')");
	sql_run(st.sql, "INSERT INTO servers (owner, platform, channel, config) SELECT 'o', 'twitch', i::text, "
	                "'{\"community_id\":2}' FROM generate_series(1001, %d) i", 1000 + CHANNELS);
	sql_run(st.sql, "INSERT INTO entities (address, platform, channel_id, owner, community_id) "
	                "SELECT 'twitch:' || channel, 'twitch', channel, 'o', 2 FROM servers");
	sql_run(st.sql, "INSERT INTO commands (command, prefix, location, location_url, module_id, timeout) "
	                "VALUES ('echo', '!', 'internal', 'kafka:echo', 'echo', 300)");
	sql_run(st.sql, "INSERT INTO command_permissions (command_id, entity_id, is_enabled) "
	                "SELECT c.id, e.entity_id, true FROM commands c, entities e");
	stack_topic_create(&st, "waddle.commands.echo", 4);
	start(0);
	start(1);
	wait_for("both replicas to own partitions", both_own_partitions, NULL, WAIT_MS);
	return 0;
}

static int down(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(child_end(replica[i], WAIT_MS), 0);
		child_free(replica[i]);
	}
	stack_close(&st);
	return 0;
}

/* Every test starts with the command enabled everywhere, and everybody knowing it. */
static int all_enabled(void **state)
{
	(void)state;
	enable(true);
	wait_ran("the command to run everywhere", CHANNELS, WAIT_MS);
	return 0;
}

/* router 23 */
static void both_replicas_see_a_change_at_once(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		enable(false);
		wait_ran("both replicas to refuse", 0, AT_ONCE_MS);
		enable(true);
		wait_ran("both replicas to run it", CHANNELS, AT_ONCE_MS);
	}
	sql_run(st.sql, "UPDATE command_permissions SET is_enabled = false WHERE entity_id = "
	                "(SELECT entity_id FROM entities WHERE address = 'twitch:1003')");
	wait_ran("one channel alone to refuse", CHANNELS - 1, AT_ONCE_MS);
	for (int i = 0; i < 2; i++)
		assert_true(metric(i, "waddle_router_invalidations_total{table=\"command_permissions\"}") > 0);
}

/* router 22, 23, 67: the standby shows the past, and nobody believes it. */
static void a_standby_that_is_far_behind_misleads_nobody(void **state)
{
	double behind = metric(0, "waddle_router_standby_reads_total{result=\"behind\"}") +
	                metric(1, "waddle_router_standby_reads_total{result=\"behind\"}");

	(void)state;
	stack_pg("pause-replay");
	enable(false);
	wait_ran("both replicas to refuse", 0, AT_ONCE_MS);
	enable(true);
	wait_ran("both replicas to run it", CHANNELS, AT_ONCE_MS);
	stack_pg("resume-replay");
	assert_true(metric(0, "waddle_router_standby_reads_total{result=\"behind\"}") +
	            metric(1, "waddle_router_standby_reads_total{result=\"behind\"}") > behind);
	assert_true(metric(0, "waddle_router_standby_lag_bytes") >= 0);
}

static double from_redis(void)
{
	double n = 0;

	for (int i = 0; i < 2; i++) {
		n += metric(i, "waddle_router_cache_requests_total{cache=\"place\",result=\"redis\"}");
		n += metric(i, "waddle_router_cache_requests_total{cache=\"routes\",result=\"redis\"}");
	}
	return n;
}

static bool read_from_redis(void *arg)
{
	/* One of the replicas forgets and the other does not hear of it: the first finds in Redis what
	 * the second has put there. */
	sql_run(st.sql, "UPDATE commands SET description = description || '.'");
	(void)ran();
	return from_redis() > *(double *)arg;
}

static void one_replica_finds_what_the_other_has_read(void **state)
{
	double before = from_redis();

	(void)state;
	wait_for("an answer of Redis", read_from_redis, &before, WAIT_MS);
}

static void health_is(const char *status, const char *redis)
{
	for (int i = 0; i < 2; i++) {
		struct probe_answer a;

		assert_int_equal(stack_ask(replica[i], "GET", "/router/health", NULL, NULL, &a), 200);
		if (strstr(a.body, status) == NULL || strstr(a.body, redis) == NULL)
			fail_msg("not %s and %s: %s", status, redis, a.body);
		probe_answer_free(&a);
	}
}

/* router 24 */
static void without_redis_everything_works(void **state)
{
	(void)state;
	health_is("\"status\":\"healthy\"", "\"redis\":\"up\"");
	stack_redis("kill");
	wait_redis(false);
	health_is("\"status\":\"degraded\"", "\"redis\":\"down\"");
	enable(false);
	wait_ran("both replicas to refuse", 0, AT_ONCE_MS);
	for (int i = 0; i < 2; i++)
		child_wait_ready(replica[i], true, 1000);
	stack_redis("start");
	wait_redis(true);
	enable(true);
	wait_ran("both replicas to run it", CHANNELS, AT_ONCE_MS);
}

/* Paused, it keeps what it holds; deletions do not reach it. */
static void what_changed_while_redis_was_silent_is_not_believed_afterwards(void **state)
{
	(void)state;
	stack_redis("pause");
	enable(false);
	wait_ran("both replicas to refuse", 0, WAIT_MS);
	stack_redis("resume");
	wait_redis(true);
	assert_int_equal(ran(), 0);
	/* A replica that knows nothing asks Redis first. */
	child_kill(replica[1]);
	child_start(replica[1]);
	child_wait_ready(replica[1], true, WAIT_MS);
	wait_redis(true);
	assert_int_equal(ran(), 0);
}

/* --- a store full of nonsense ------------------------------------------------------------------- */

struct spoil { struct redis *r; int under_way, spoiled; bool listed; };

static void spoiled(void *arg, const struct redis_answer *a)
{
	struct spoil *sp = arg;

	assert_non_null(a);
	sp->under_way--;
}

static void listed(void *arg, const struct redis_answer *a)
{
	static const struct str nonsense[] = { { "", 0 }, { "x", 1 }, { "\1\0LBW, and then a text that is too short", 40 } };
	struct spoil *sp = arg;

	assert_non_null(a);
	for (size_t i = 0; i < a->n_values; i++) {
		struct str name = a->values[i];
		struct str words[4] = { STR("SET"), name, nonsense[i % ARRAY_LEN(nonsense)] };
		bool epoch = name.n > 6 && memcmp(name.p + name.n - 6, ":epoch", 6) == 0;

		/* Half of the entries cut short, the others nonsense; epochs stay, so that they are looked at. */
		if (epoch)
			continue;
		if (i % 2 == 0) {
			words[0] = STR("SETRANGE");
			words[2] = STR("50");
			words[3] = STR("\xff\xff\xff\x7f");
		}
		assert_int_equal(redis_send(sp->r, words, i % 2 == 0 ? 4 : 3, spoiled, sp), 0);
		sp->under_way++;
		sp->spoiled++;
	}
	sp->listed = true;
}

static bool redis_there(void *arg) { return redis_up(((struct spoil *)arg)->r); }
static bool done(void *arg) { return ((struct spoil *)arg)->listed && ((struct spoil *)arg)->under_way == 0; }

static int spoil_redis(void)
{
	struct service s = { .name = "test" };
	struct redis_conf conf = { .url = str_of(env_of("TEST_REDIS")), .timeout_ms = 5000 };
	struct spoil sp = { 0 };
	struct err err;

	service_init(&s);
	sp.r = redis_open(&s, &conf, &err);
	assert_non_null(sp.r);
	assert_true(service_run(&s, redis_there, &sp, WAIT_MS));
	assert_int_equal(redis_send(sp.r, (const struct str[]){ STR("KEYS"), STR("waddle:*") }, 2, listed, &sp), 0);
	assert_true(service_run(&s, done, &sp, WAIT_MS));
	redis_close(sp.r);
	service_clear(&s);
	return sp.spoiled;
}

static bool some_are_spoiled(void *arg)
{
	(void)arg;
	(void)ran();
	return spoil_redis() > 0;
}

static void an_altered_or_foreign_value_is_a_miss(void **state)
{
	(void)state;
	wait_for("entries to spoil", some_are_spoiled, NULL, WAIT_MS);
	/* Memory forgets the commands' row and asks Redis for the places of new channels. */
	for (int i = 0; i < 3; i++) {
		sql_run(st.sql, "UPDATE commands SET description = description || '.'");
		assert_int_equal(ran(), CHANNELS);
		(void)spoil_redis();
	}
	for (int i = 0; i < 2; i++)
		assert_true(child_running(replica[i]));
}

/* --- notices ------------------------------------------------------------------------------------ */

static int64_t listeners(void)
{
	return sql_int(st.sql, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'waddle_router' "
	                       "AND (query LIKE 'LISTEN%%' OR query = '') AND datname = '%s'", st.database);
}

static bool nobody_listens(void *arg)
{
	(void)arg;
	sql_run(st.sql, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'waddle_router' "
	                "AND (query LIKE 'LISTEN%%' OR query = '') AND datname = '%s'", st.database);
	return listeners() == 0 && child_log_has(replica[0], "notices_lost") && child_log_has(replica[1], "notices_lost");
}

static bool everybody_listens(void *arg)
{
	(void)arg;
	return listeners() == 2;
}

/* router 68: the connections for notices end and cannot be made anew; all others go on. */
static void without_notices_a_change_is_seen_within_ten_seconds_and_afterwards_at_once(void **state)
{
	(void)state;
	sql_run(st.sql, "ALTER ROLE waddle_router CONNECTION LIMIT 0");
	wait_for("both replicas to miss the notices", nobody_listens, NULL, WAIT_MS);
	stack_pg("pause-replay");               /* nor does the standby help */
	enable(false);
	wait_ran("both replicas to refuse", 0, DEAF_MS);
	assert_int_equal(listeners(), 0);
	stack_pg("resume-replay");
	sql_run(st.sql, "ALTER ROLE waddle_router CONNECTION LIMIT -1");
	wait_for("both replicas to listen again", everybody_listens, NULL, WAIT_MS);
	enable(true);
	wait_ran("both replicas to run it", CHANNELS, AT_ONCE_MS);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup(f, all_enabled)
	const struct CMUnitTest tests[] = {
		TEST(both_replicas_see_a_change_at_once),
		TEST(a_standby_that_is_far_behind_misleads_nobody),
		TEST(one_replica_finds_what_the_other_has_read),
		TEST(without_redis_everything_works),
		TEST(what_changed_while_redis_was_silent_is_not_believed_afterwards),
		TEST(an_altered_or_foreign_value_is_a_miss),
		TEST(without_notices_a_change_is_seen_within_ten_seconds_and_afterwards_at_once),
	};

	return !!cmocka_run_group_tests_name("lookup_cache", tests, up, down);
}

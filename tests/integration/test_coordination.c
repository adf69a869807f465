/* test_coordination.c - containers share the channels: nobody works one twice, nobody is left out.
 *
 * Two replicas of the router; time passes by moving a row's times back. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "stack.h"
#include "str.h"

#include <pthread.h>

static struct stack st;
static struct child *replica[2];
static char *collector;

enum { WAIT_MS = 20000, SWEEP_WAIT_MS = 45000, ENTITIES = 10 };

static int up(void **state)
{
	(void)state;
	stack_open(&st, "coordination", STACK_SCHEMA | STACK_TOPICS);
	for (int i = 0; i < 2; i++)
		replica[i] = stack_service(&st, "waddle-router", "waddle_router", NULL);
	collector = stack_key(&st, "collector", "collector");
	for (int i = 0; i < 2; i++)
		child_wait_ready(replica[i], true, WAIT_MS);
	sql_run(st.sql, "UPDATE service_accounts SET rate_limit = 0");
	return 0;
}

static int down(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(child_end(replica[i], WAIT_MS), 0);
		child_free(replica[i]);
	}
	free(collector);
	stack_close(&st);
	return 0;
}

/* Ten free channels with entity ids 1 to 10. */
static int ten_channels(void **state)
{
	(void)state;
	sql_run(st.sql, "TRUNCATE servers, entities, coordination, coordination_claims RESTART IDENTITY CASCADE");
	sql_run(st.sql, "INSERT INTO servers (owner, platform, channel) "
	                "SELECT 'o', 'twitch', i::text FROM generate_series(1, %d) i", ENTITIES);
	sql_run(st.sql, "INSERT INTO entities (address, platform, channel_id, owner) "
	                "SELECT 'twitch:' || i, 'twitch', i::text, 'o' FROM generate_series(1, %d) i", ENTITIES);
	sql_run(st.sql, "INSERT INTO coordination (platform, channel_id, entity_id) "
	                "SELECT platform, channel_id, entity_id FROM entities ORDER BY entity_id");
	return 0;
}

/* The answer's body without blanks; free(). */
static char *call(int status, const char *name, const char *fmt, ...) PRINTF(3, 4);
static char *call(int status, const char *name, const char *fmt, ...)
{
	char body[4096], *path = text_of("/router/coordination/%s", name);
	struct probe_answer a;
	va_list ap;
	size_t n = 0;
	int got;

	va_start(ap, fmt);
	(void)vsnprintf(body, sizeof body, fmt, ap);
	va_end(ap);
	got = stack_ask(replica[0], body[0] != '\0' ? "POST" : "GET", path, collector,
	                body[0] != '\0' ? body : NULL, &a);
	if (got != status)
		fail_msg("%s %s: %d %s", path, body, got, a.body);
	for (size_t i = 0; i < a.body_n; i++)
		if (a.body[i] != ' ')
			a.body[n++] = a.body[i];
	a.body[n] = '\0';
	free(a.head);
	free(path);
	return a.body;
}

static void has(char *answer, const char *text)
{
	if (strstr(answer, text) == NULL)
		fail_msg("no %s in %s", text, answer);
	free(answer);
}

static int count_of(const char *in, const char *text)
{
	int n = 0;

	for (const char *p = in; (p = strstr(p, text)) != NULL; p++)
		n++;
	return n;
}

/* Which of the entities 1 to 10 an answer names, as bits. */
static unsigned entities_in(const char *answer)
{
	unsigned bits = 0;

	for (const char *p = answer; (p = strstr(p, "\"entity_id\"")) != NULL; p++)
		bits |= 1u << strtol(p + strcspn(p, "0123456789"), NULL, 10);
	return bits;
}

static int64_t held(const char *container)
{
	return sql_int(st.sql, "SELECT count(*) FROM coordination WHERE claimed_by = '%s'", container);
}

static char *row_of(int entity)
{
	return sql_rows(st.sql, "SELECT c.*, xmin FROM coordination c WHERE entity_id = %d", entity);
}

static void claim(const char *container, int n)
{
	free(call(200, "claim", "{\"container_id\":\"%s\",\"platform\":\"twitch\",\"max_claims\":%d}", container, n));
}

/* Of both: either may have been the one that noticed. */
static double lapsed_so_far(void)
{
	double n = 0;

	for (int i = 0; i < 2; i++) {
		char *url = text_of("http://127.0.0.1:%d", child_port(replica[i], "ADMIN_LISTEN"));

		n += probe_metric(url, "waddle_router_claims_lapsed_total{platform=\"twitch\"}");
		free(url);
	}
	return n;
}

/* --- 48 ------------------------------------------------------------------------------------------ */

enum { REPETITIONS = 1000 };
struct claimer {
	pthread_barrier_t *together;
	int      which, repetitions;
	unsigned got[REPETITIONS];
	bool     five[REPETITIONS];
};

static void *claims(void *arg)
{
	struct claimer *c = arg;
	char *body = text_of("{\"container_id\":\"box-%d\",\"platform\":\"twitch\"}", c->which);

	for (int i = 0; i < c->repetitions; i++) {
		struct probe_answer a = { 0 };

		pthread_barrier_wait(c->together);
		if (stack_ask(replica[c->which], "POST", "/router/coordination/claim", collector, body, &a) == 200) {
			c->got[i] = entities_in(a.body);
			c->five[i] = strstr(a.body, "\"held\" : 5") != NULL;
		}
		probe_answer_free(&a);
		pthread_barrier_wait(c->together);      /* both have theirs; the rows are set free */
	}
	free(body);
	return NULL;
}

static void two_containers_at_the_same_instant_get_five_each_router_48(void **state)
{
	static struct claimer c[2];
	pthread_barrier_t together;
	pthread_t thread[2];

	(void)state;
	pthread_barrier_init(&together, NULL, 3);
	for (int i = 0; i < 2; i++) {
		c[i] = (struct claimer){ .together = &together, .which = i, .repetitions = REPETITIONS };
		assert_int_equal(pthread_create(&thread[i], NULL, claims, &c[i]), 0);
	}
	for (int i = 0; i < REPETITIONS; i++) {
		pthread_barrier_wait(&together);
		pthread_barrier_wait(&together);
		sql_run(st.sql, "UPDATE coordination SET claimed_by = NULL, status = 'available'");
	}
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	pthread_barrier_destroy(&together);
	for (int i = 0; i < REPETITIONS; i++) {
		assert_true(c[0].five[i] && c[1].five[i]);
		assert_int_equal(c[0].got[i] & c[1].got[i], 0);
		assert_int_equal(c[0].got[i] | c[1].got[i], (1u << (ENTITIES + 1)) - 2);
	}
}

/* One container that asks twice at once still holds no more than it may. */
static void one_container_asking_twice_at_once_does_not_get_twice_as_many(void **state)
{
	struct sql *other = sql_open(st.url);
	pthread_barrier_t together;
	static struct claimer c[2];
	pthread_t thread[2];

	(void)state;
	pthread_barrier_init(&together, NULL, 3);
	for (int i = 0; i < 2; i++)
		c[i] = (struct claimer){ .together = &together, .which = i, .repetitions = 50 };
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, claims, &c[i]), 0);
	for (int i = 0; i < 50; i++) {
		/* A third one competes through the other replica, under the name of the first. */
		struct probe_answer a = { 0 };

		pthread_barrier_wait(&together);
		assert_int_equal(stack_ask(replica[1], "POST", "/router/coordination/claim", collector,
		                           "{\"container_id\":\"box-0\",\"platform\":\"twitch\"}", &a), 200);
		probe_answer_free(&a);
		pthread_barrier_wait(&together);
		assert_in_range(sql_int(other, "SELECT count(*) FROM coordination WHERE claimed_by = 'box-0'"), 1, 5);
		sql_run(other, "UPDATE coordination SET claimed_by = NULL, status = 'available'");
	}
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	pthread_barrier_destroy(&together);
	sql_close(other);
}

/* --- 49 to 55 ------------------------------------------------------------------------------------ */

static void live_ones_come_first_then_priority_then_viewers_router_49(void **state)
{
	char *answer;
	const char *at;

	(void)state;
	sql_run(st.sql, "UPDATE coordination SET is_live = entity_id IN (7, 8, 9), "
	                "priority = CASE entity_id WHEN 9 THEN 10 WHEN 3 THEN 1 ELSE 100 END, "
	                "viewer_count = CASE entity_id WHEN 8 THEN 50 WHEN 7 THEN 40 ELSE 0 END");
	answer = call(200, "claim", "{\"container_id\":\"a\",\"platform\":\"twitch\",\"max_claims\":4}");
	at = answer;
	for (const char *const *id = (const char *const[]){ "9", "8", "7", "3", NULL }; *id != NULL; id++) {
		char *text = text_of("\"entity_id\":%s,\"entity\":\"twitch:%s\",\"fence\":1", *id, *id);

		at = strstr(at, text);
		assert_non_null(at);
		free(text);
	}
	assert_non_null(strstr(answer, "\"held\":4}"));
	free(answer);
	free(call(200, "release", "{\"container_id\":\"a\"}"));
	/* Not asked to look at that: 3 has the first priority. */
	answer = call(200, "claim", "{\"container_id\":\"a\",\"platform\":\"twitch\",\"max_claims\":1,"
	                            "\"prioritize_live\":false}");
	assert_int_equal(entities_in(answer), 1u << 3);
	free(answer);
	has(call(200, "claim", "{\"container_id\":\"b\",\"platform\":\"discord\"}"), "\"claimed_entities\":[],");
}

static void a_silent_container_loses_its_claims_after_360_seconds_router_50(void **state)
{
	double lapsed = lapsed_so_far();
	char *answer;

	(void)state;
	claim("a", 2);
	claim("b", 2);
	claim("c", 10);
	sql_run(st.sql, "UPDATE coordination SET last_checkin = now() - interval '355 s'");
	has(call(200, "claim", "{\"container_id\":\"d\",\"platform\":\"twitch\"}"), "\"held\":0");
	/* a checks in, b sends a heartbeat, c is silent. */
	answer = call(200, "checkin", "{\"container_id\":\"a\",\"claimed_entities\":[{\"entity_id\":1,\"fence\":1},"
	                              "{\"entity\":\"twitch:2\",\"fence\":1},{\"entity_id\":3,\"fence\":1}]}");
	assert_non_null(strstr(answer, "\"kept\":[{\"entity_id\":1,"));
	assert_non_null(strstr(answer, "\"lost\":[{\"entity_id\":3,\"entity\":\"twitch:3\",\"fence\":1}]"));
	free(answer);
	answer = call(200, "heartbeat", "{\"container_id\":\"b\"}");
	assert_non_null(strstr(answer, "\"claimed_count\":2,\"entities\":[{\"entity_id\":3,"));
	assert_non_null(strstr(answer, "{\"timestamp\":\"20"));
	free(answer);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM coordination WHERE last_check IS NOT NULL"), 2);
	sql_run(st.sql, "UPDATE coordination SET last_checkin = last_checkin - interval '6 s'");
	answer = call(200, "claim", "{\"container_id\":\"d\",\"platform\":\"twitch\",\"max_claims\":3}");
	assert_non_null(strstr(answer, "\"held\":3"));
	assert_int_equal(count_of(answer, "\"fence\":2"), 3);
	free(answer);
	assert_int_equal(held("a"), 2);
	assert_int_equal(held("b"), 2);
	assert_int_equal(held("c"), 0);
	/* What it had is lost, with the old fence too; the claim's own end counts as well. */
	has(call(200, "heartbeat", "{\"container_id\":\"c\"}"), "\"claimed_count\":0");
	has(call(200, "checkin", "{\"container_id\":\"c\",\"claimed_entities\":[{\"entity_id\":5,\"fence\":1}]}"),
	    "\"kept\":[],\"lost\":[{\"entity_id\":5,");
	assert_true(lapsed_so_far() == lapsed + 6);
	sql_run(st.sql, "UPDATE coordination SET claim_expires = now() - interval '1 s' WHERE claimed_by = 'a'");
	claim("e", 10);
	assert_int_equal(held("a"), 0);
}

/* Nobody claims: the sweeper resets what lapsed and forgives errors after 15 minutes. */
static void the_sweeper_resets_lapsed_claims_and_old_errors(void **state)
{
	(void)state;
	claim("a", 1);
	sql_run(st.sql, "UPDATE coordination SET last_checkin = now() - interval '361 s'");
	sql_run(st.sql, "UPDATE coordination SET status = 'error', error_count = 3, "
	                "error_at = now() - interval '14 minutes 59 s' + (entity_id - 5) * interval '5 minutes' "
	                "WHERE entity_id IN (4, 5, 6)");
	sql_run(st.sql, "UPDATE coordination SET claimed_by = 'b', last_checkin = now(), "
	                "claim_expires = now() + interval '1 hour' WHERE entity_id = 4");
	sql_wait_int(st.sql, 0, SWEEP_WAIT_MS, "SELECT count(*) FROM coordination WHERE claimed_by = 'a' "
	             "OR entity_id = 5 AND status <> 'available' OR entity_id = 1 AND status <> 'available'");
	assert_int_equal(sql_int(st.sql, "SELECT error_count FROM coordination WHERE entity_id = 5"), 0);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM coordination WHERE status = 'error' AND "
	                                 "entity_id IN (4, 6)"), 2);
}

static void a_stranger_or_an_old_fence_changes_nothing_router_51(void **state)
{
	static const struct { const char *container; int fence; } wrong[] = { { "b", 1 }, { "a", 2 }, { "a", 0 } };
	char *before, *after;

	(void)state;
	claim("a", 1);
	before = row_of(1);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		char *who = text_of("\"container_id\":\"%s\"", wrong[i].container);
		char *what = text_of("\"entity_id\":1,\"fence\":%d", wrong[i].fence);

		has(call(409, "status", "{%s,%s,\"is_live\":true,\"viewer_count\":5}", who, what), "\"NOT_HELD\"");
		has(call(409, "error", "{%s,%s,\"error_message\":\"x\"}", who, what), "\"CONFLICT\"");
		has(call(409, "release", "{%s,\"entities\":[{%s}]}", who, what), "\"CONFLICT\"");
		has(call(200, "checkin", "{%s,\"claimed_entities\":[{%s}]}", who, what), "\"kept\":[],\"lost\":[{");
		free(who);
		free(what);
	}
	has(call(409, "status", "{\"container_id\":\"a\",\"entity_id\":999,\"fence\":1,\"is_live\":true}"), "NOT_HELD");
	after = row_of(1);
	assert_string_equal(before, after);
	free(before);
	free(after);
	/* Part of a list may be right. */
	has(call(200, "release", "{\"container_id\":\"a\",\"entities\":[{\"entity_id\":1,\"fence\":1},"
	                         "{\"entity_id\":2,\"fence\":1}]}"),
	    "{\"released\":[{\"entity_id\":1,\"entity\":\"twitch:1\",\"fence\":1}],\"refused\":[{\"entity_id\":2,");
	assert_int_equal(held("a"), 0);
	/* Claimed anew, the old fence is stale. */
	claim("a", 10);
	has(call(409, "error", "{\"container_id\":\"a\",\"entity_id\":1,\"fence\":1}"), "NOT_HELD");
	has(call(200, "error", "{\"container_id\":\"a\",\"entity\":\"twitch:1\",\"fence\":2}"), "\"error_count\":1");
}

static void three_errors_make_an_error_that_good_news_ends_router_52(void **state)
{
	static const char error[] = "{\"container_id\":\"a\",\"entity_id\":1,\"fence\":1,\"error_message\":\"no \\\"token\\\"\"}";

	(void)state;
	claim("a", 1);
	has(call(200, "error", "%s", error), "\"status\":\"claimed\",\"error_count\":1");
	has(call(200, "error", "%s", error), "\"status\":\"claimed\",\"error_count\":2");
	has(call(200, "status", "{\"container_id\":\"a\",\"entity_id\":1,\"fence\":1,\"is_live\":true,\"viewer_count\":7}"),
	    "\"status\":\"claimed\",\"is_live\":true,\"viewer_count\":7,\"live_since\":\"20");
	for (int i = 0; i < 2; i++)
		has(call(200, "error", "%s", error), "\"status\":\"claimed\"");
	has(call(200, "error", "%s", error), "\"status\":\"error\",\"error_count\":3");
	assert_int_equal(sql_int(st.sql, "SELECT (error_message = 'no \"token\"')::int FROM coordination WHERE entity_id = 1"), 1);
	assert_int_equal(held("a"), 1);
	claim("b", 10);
	assert_int_equal(held("b"), 9);
	/* Without its holder too. */
	has(call(200, "release", "{\"container_id\":\"a\"}"), "\"refused\":[]");
	claim("b", 100);
	assert_int_equal(held("b"), 9);
	sql_run(st.sql, "UPDATE coordination SET claimed_by = 'a' WHERE entity_id = 1");
	has(call(200, "status", "{\"container_id\":\"a\",\"entity_id\":1,\"fence\":1,\"is_live\":false,\"has_activity\":true,"
	                        "\"metadata\":{\"title\":\"x\"}}"),
	    "\"status\":\"claimed\",\"is_live\":false,\"viewer_count\":7,\"live_since\":null");
	assert_int_equal(sql_int(st.sql, "SELECT (error_count = 0 AND last_activity IS NOT NULL AND "
	                                 "metadata->>'title' = 'x')::int FROM coordination WHERE entity_id = 1"), 1);
}

static void a_container_never_holds_more_than_it_may_router_53(void **state)
{
	char *answer;

	(void)state;
	claim("a", 5);
	has(call(200, "claim", "{\"container_id\":\"a\",\"platform\":\"twitch\",\"max_claims\":5}"),
	    "{\"claimed_entities\":[],\"released\":[],\"held\":5}");
	sql_run(st.sql, "UPDATE coordination SET is_live = entity_id IN (1, 2, 3)");
	answer = call(200, "release-offline", "{\"container_id\":\"a\",\"platform\":\"twitch\"}");
	assert_non_null(strstr(answer, "\"held\":5}"));
	assert_non_null(strstr(answer, "\"released\":[{\"entity_id\":4,"));
	free(answer);
	/* 4 and 5 went, two others came, not the ones that went. */
	assert_int_equal(sql_int(st.sql, "SELECT sum(1 << entity_id) FROM coordination WHERE claimed_by = 'a'"),
	                 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 7);
	claim("b", 10);
	/* Nothing is free but what it gives back itself: not taken again at once. */
	answer = call(200, "release-offline", "{\"container_id\":\"a\",\"platform\":\"twitch\",\"max_claims\":5}");
	assert_non_null(strstr(answer, "\"claimed_entities\":[],"));
	assert_non_null(strstr(answer, "\"held\":3}"));
	free(answer);
}

static void numbers_of_all_claims_router_54(void **state)
{
	char *answer;

	(void)state;
	has(call(200, "stats", "%s", ""), "\"active_containers\":0,\"avg_claims_per_container\":0.0,\"containers\":{}");
	claim("a", 5);
	claim("b", 5);
	has(call(200, "stats", "%s", ""),
	    "{\"total_entities\":10,\"claimed_entities\":10,\"live_entities\":0,\"available\":0,\"error\":0,\"offline\":0,"
	    "\"active_containers\":2,\"avg_claims_per_container\":5.0,\"containers\":{\"a\":5,\"b\":5}}");
	answer = call(200, "entities?container_id=b&claimed=true&per_page=2", "%s", "");
	assert_int_equal(count_of(answer, "\"claimed_by\":\"b\""), 2);
	assert_non_null(strstr(answer, "\"pagination\":{\"page\":1,\"per_page\":2,\"total_pages\":3,\"total_items\":5}"));
	free(answer);
	has(call(200, "entities?is_live=true", "%s", ""), "\"entities\":[],\"pagination\":");
	has(call(400, "entities?status=sleeping", "%s", ""), "\"INVALID_REQUEST\"");
}

static void each_claim_carries_its_own_container_router_55(void **state)
{
	(void)state;
	claim("one", 2);
	claim("two", 3);
	assert_int_equal(held("one"), 2);
	assert_int_equal(held("two"), 3);
	has(call(400, "claim", "%s", "{\"platform\":\"twitch\"}"), "container_id");
	has(call(400, "claim", "%s", "{\"container_id\":\"\",\"platform\":\"twitch\"}"), "container_id");
	has(call(400, "claim", "%s", "{\"container_id\":\"a\",\"platform\":\"twitch\",\"max_claims\":1001}"), "max_claims");
	has(call(400, "release", "%s", "{\"container_id\":\"one\",\"entities\":[]}"), "entities");
	has(call(400, "status", "%s", "{\"container_id\":\"one\",\"fence\":1,\"is_live\":true}"), "entity_id");
	assert_int_equal(held("one"), 2);
}

static void a_shared_channel_has_as_many_holders_as_it_may(void **state)
{
	char *answer;

	(void)state;
	sql_run(st.sql, "DELETE FROM coordination WHERE entity_id > 1");
	sql_run(st.sql, "UPDATE coordination SET max_containers = 2");
	for (const char *const *who = (const char *const[]){ "a", "b", "c", "a", NULL }; *who != NULL; who++)
		claim(*who, 5);
	answer = sql_rows(st.sql, "SELECT container_id, fence FROM coordination_claims ORDER BY fence");
	assert_string_equal(answer, "a|1\nb|2\n");
	free(answer);
	has(call(200, "stats", "%s", ""), "\"claimed_entities\":1,\"live_entities\":0,\"available\":0");
	has(call(200, "status", "{\"container_id\":\"b\",\"entity_id\":1,\"fence\":2,\"is_live\":true}"), "\"claimed\"");
	has(call(409, "status", "{\"container_id\":\"a\",\"entity_id\":1,\"fence\":2,\"is_live\":false}"), "NOT_HELD");
	has(call(200, "heartbeat", "{\"container_id\":\"a\"}"), "\"claimed_count\":1");
	sql_run(st.sql, "UPDATE coordination_claims SET last_checkin = now() - interval '361 s' WHERE container_id = 'a'");
	has(call(200, "claim", "{\"container_id\":\"c\",\"platform\":\"twitch\"}"), "\"fence\":3");
	has(call(200, "heartbeat", "{\"container_id\":\"a\"}"), "\"claimed_count\":0");
	has(call(200, "release", "{\"container_id\":\"b\"}"), "\"fence\":2");
	has(call(200, "release", "{\"container_id\":\"c\"}"), "\"fence\":3");
	assert_int_equal(sql_int(st.sql, "SELECT (holders = 0 AND status = 'available')::int FROM coordination"), 1);
}

static void populate_follows_the_servers(void **state)
{
	(void)state;
	sql_run(st.sql, "DELETE FROM coordination");
	has(call(200, "populate", "{\"platform\":\"twitch\"}"), "{\"added\":10,\"disabled\":0}");
	has(call(200, "populate", "{\"platform\":\"twitch\"}"), "{\"added\":0,\"disabled\":0}");
	claim("a", 10);
	sql_run(st.sql, "UPDATE servers SET is_active = false WHERE channel IN ('3', '4')");
	has(call(200, "populate", "{\"platform\":\"twitch\"}"), "{\"added\":0,\"disabled\":2}");
	has(call(200, "heartbeat", "{\"container_id\":\"a\"}"), "\"claimed_count\":8");
	claim("b", 10);
	assert_int_equal(held("b"), 0);
	sql_run(st.sql, "UPDATE servers SET is_active = true WHERE channel = '3'");
	has(call(200, "populate", "{\"platform\":\"twitch\"}"), "{\"added\":0,\"disabled\":0}");
	claim("b", 10);
	assert_int_equal(held("b"), 1);
	assert_int_equal(sql_int(st.sql, "SELECT fence FROM coordination WHERE claimed_by = 'b'"), 2);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup(f, ten_channels)
	const struct CMUnitTest tests[] = {
		TEST(two_containers_at_the_same_instant_get_five_each_router_48),
		TEST(one_container_asking_twice_at_once_does_not_get_twice_as_many),
		TEST(live_ones_come_first_then_priority_then_viewers_router_49),
		TEST(a_silent_container_loses_its_claims_after_360_seconds_router_50),
		TEST(the_sweeper_resets_lapsed_claims_and_old_errors),
		TEST(a_stranger_or_an_old_fence_changes_nothing_router_51),
		TEST(three_errors_make_an_error_that_good_news_ends_router_52),
		TEST(a_container_never_holds_more_than_it_may_router_53),
		TEST(numbers_of_all_claims_router_54),
		TEST(each_claim_carries_its_own_container_router_55),
		TEST(a_shared_channel_has_as_many_holders_as_it_may),
		TEST(populate_follows_the_servers),
	};

	return !!cmocka_run_group_tests_name("coordination", tests, up, down);
}

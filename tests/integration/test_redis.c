/* test_redis.c - a cache that is fast, or absent at once: Redis answering, killed, silent, strange. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "redis.h"
#include "service.h"
#include "stack.h"

enum { WAIT_MS = 15000 };

static struct service s;
static struct redis *r;
static int ups;

struct got { int calls, none; bool ok; int64_t n; size_t n_values; char text[64]; bool is_null; };

static void got(void *arg, const struct redis_answer *a)
{
	struct got *g = arg;

	g->calls++;
	if (a == NULL) {
		g->none++;
		return;
	}
	g->ok = a->ok;
	g->n = a->n;
	g->n_values = a->n_values;
	for (size_t i = 0; i < a->n_values; i++) {
		g->is_null = a->values[i].p == NULL;
		(void)snprintf(g->text, sizeof g->text, STR_FMT, STR_ARG(a->values[i]));
	}
}

static void came_up(void *arg) { ++*(int *)arg; }
static bool answered(void *arg) { return ((struct got *)arg)->calls > 0; }
static bool is_up(void *arg) { return *(bool *)arg == redis_up(r); }

static void wait_up(bool up)
{
	if (!service_run(&s, is_up, &up, WAIT_MS))
		fail_msg("Redis is not %s", up ? "up" : "away");
}

static struct redis *opened(const char *url, int timeout_ms)
{
	struct redis_conf conf = { .url = str_of(url), .timeout_ms = timeout_ms, .up = came_up, .arg = &ups };
	struct err err = { 0 };
	struct redis *c = redis_open(&s, &conf, &err);

	if (c == NULL)
		fail_msg("%s", err.text);
	return c;
}

static int set_up(void **state)
{
	(void)state;
	s = (struct service){ .name = "test" };
	service_init(&s);
	ups = 0;
	r = opened(env_of("TEST_REDIS"), 2000);
	wait_up(true);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	redis_close(r);
	service_clear(&s);
	return 0;
}

static struct got ask(const struct str *words, size_t n)
{
	struct got g = { 0 };

	assert_int_equal(redis_send(r, words, n, got, &g), 0);
	assert_int_equal(g.calls, 0);           /* never from inside */
	assert_true(service_run(&s, answered, &g, WAIT_MS));
	assert_int_equal(g.calls, 1);
	return g;
}
#define ASK(...) ask((const struct str[]){ __VA_ARGS__ }, sizeof((const struct str[]){ __VA_ARGS__ }) / sizeof(struct str))

static void values_are_bytes_and_absent_ones_are_absent(void **state)
{
	struct str odd = STR("a b\r\nFLUSHALL\r\n\0\xff");
	struct got g;

	(void)state;
	g = ASK(STR("SET"), STR("test:k\x1fk"), odd, STR("PX"), STR("60000"));
	assert_true(g.ok);
	assert_string_equal(g.text, "OK");
	g = ASK(STR("STRLEN"), STR("test:k\x1fk"));
	assert_int_equal(g.n, odd.n);
	g = ASK(STR("MGET"), STR("test:none"), STR("test:k\x1fk"), STR("test:none"));
	assert_int_equal(g.n_values, 3);
	assert_true(g.is_null);
	g = ASK(STR("DEL"), STR("test:k\x1fk"));
	assert_int_equal(g.n, 1);
	g = ASK(STR("NOSUCHCOMMAND"));
	assert_false(g.ok);
	assert_true(redis_up(r));
}

static void commands_travel_together_and_too_many_are_refused(void **state)
{
	static struct got all[1200];
	size_t sent = 0;
	int e = 0;

	(void)state;
	memset(all, 0, sizeof all);
	while (sent < ARRAY_LEN(all) && e == 0)
		if ((e = redis_send(r, &STR("PING"), 1, got, &all[sent])) == 0)
			sent++;
	assert_int_equal(e, -EAGAIN);
	assert_int_equal(sent, 1024);
	assert_true(service_run(&s, answered, &all[sent - 1], WAIT_MS));
	for (size_t i = 0; i < sent; i++)
		assert_true(all[i].calls == 1 && all[i].ok);
}

static void a_killed_redis_is_absent_at_once_and_used_again_when_it_is_back(void **state)
{
	struct got g = { 0 };

	(void)state;
	assert_int_equal(ups, 1);
	assert_true(ASK(STR("SET"), STR("test:gone"), STR("1")).ok);
	stack_redis("pause");
	assert_int_equal(redis_send(r, &STR("PING"), 1, got, &g), 0);
	stack_redis("kill");
	assert_true(service_run(&s, answered, &g, WAIT_MS));
	assert_int_equal(g.none, 1);
	assert_false(redis_up(r));
	assert_int_equal(redis_send(r, &STR("PING"), 1, got, &g), -ENOTCONN);
	stack_redis("start");
	wait_up(true);
	assert_int_equal(ups, 2);
	assert_true(ASK(STR("GET"), STR("test:gone")).is_null);
	assert_int_equal(g.calls, 1);
}

/* A server that takes commands and says nothing costs one deadline; after that nobody waits. */
static void a_silent_redis_costs_one_deadline(void **state)
{
	struct got g[3] = { 0 };

	(void)state;
	redis_close(r);
	r = opened(env_of("TEST_REDIS"), 30);
	wait_up(true);
	stack_redis("pause");
	for (int i = 0; i < 3; i++)
		assert_int_equal(redis_send(r, &STR("PING"), 1, got, &g[i]), 0);
	assert_true(service_run(&s, answered, &g[2], WAIT_MS));
	for (int i = 0; i < 3; i++)
		assert_true(g[i].calls == 1 && g[i].none == 1);
	assert_false(redis_up(r));
	assert_int_equal(redis_send(r, &STR("PING"), 1, NULL, NULL), -ENOTCONN);
	stack_redis("resume");
	wait_up(true);
}

static void closing_ends_what_is_under_way(void **state)
{
	struct got g = { 0 };

	(void)state;
	stack_redis("pause");
	assert_int_equal(redis_send(r, &STR("PING"), 1, got, &g), 0);
	redis_close(r);
	assert_int_equal(g.none, 1);
	stack_redis("resume");
	r = opened(env_of("TEST_REDIS"), 2000);
	redis_close(r);                         /* before it could connect */
	r = opened("redis://localhost:1/3", 0);
	redis_close(r);
	r = opened(env_of("TEST_REDIS"), 2000);
	wait_up(true);
}

static void a_name_is_resolved_and_a_password_is_shown(void **state)
{
	const char *port = strrchr(env_of("TEST_REDIS"), ':') + 1;
	char *named = text_of("redis://localhost:%s/2", port), *with = text_of("redis://:s%%20x@127.0.0.1:%s", port);

	(void)state;
	redis_close(r);
	r = opened(named, 2000);
	wait_up(true);
	assert_true(ASK(STR("CONFIG"), STR("SET"), STR("requirepass"), STR("s x")).ok);
	redis_close(r);
	r = opened(with, 2000);
	wait_up(true);
	assert_true(ASK(STR("CONFIG"), STR("SET"), STR("requirepass"), STR("")).ok);
	free(named);
	free(with);
}

static void a_url_that_is_none_is_refused(void **state)
{
	static const char *const bad[] = { "", "http://h", "redis://", "redis://h:0", "redis://h:x", "redis://h/x",
					   "redis://h/9999", "rediss://h", "redis://:%zz@h", "redis://[::1" };
	struct err err;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad) - 1; i++) {
		struct redis_conf conf = { .url = str_of(bad[i]) };

		assert_null(redis_open(&s, &conf, &err));
		assert_int_equal(err.code, -EINVAL);
	}
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(values_are_bytes_and_absent_ones_are_absent),
		TEST(commands_travel_together_and_too_many_are_refused),
		TEST(a_killed_redis_is_absent_at_once_and_used_again_when_it_is_back),
		TEST(a_silent_redis_costs_one_deadline),
		TEST(closing_ends_what_is_under_way),
		TEST(a_name_is_resolved_and_a_password_is_shown),
		TEST(a_url_that_is_none_is_refused),
	};

	return !!cmocka_run_group_tests_name("redis", tests, NULL, NULL);
}

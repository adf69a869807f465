/* test_api.c - the router's HTTP listener: who gets in, how often, and whether it says it is well. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "stack.h"
#include "str.h"

enum { WAIT_MS = 20000 };

static struct stack st;
static struct child *router, *second;
static char *admin, *collector, *interaction, *webhook;

static int up(void **state)
{
	(void)state;
	stack_open(&st, "api", STACK_SCHEMA | STACK_TOPICS);
	router = stack_service(&st, "waddle-router", "waddle_router", NULL);
	admin = stack_key(&st, "admin", "admin");
	collector = stack_key(&st, "collector", "collector");
	interaction = stack_key(&st, "interaction", "interaction");
	webhook = stack_key(&st, "webhook", "webhook");
	child_wait_ready(router, true, WAIT_MS);
	return 0;
}

static int down(void **state)
{
	(void)state;
	assert_int_equal(child_end(router, WAIT_MS), 0);
	child_free(router);
	if (second != NULL)
		assert_int_equal(child_end(second, WAIT_MS), 0);
	child_free(second);
	free(admin);
	free(collector);
	free(interaction);
	free(webhook);
	stack_close(&st);
	return 0;
}

static int ask(const char *method, const char *path, const char *key)
{
	return stack_ask(router, method, path, key, NULL, NULL);
}

/* The answer holds this text. */
static void assert_says(const char *method, const char *path, const char *key, int status, const char *text)
{
	struct probe_answer a;

	assert_int_equal(stack_ask(router, method, path, key, NULL, &a), status);
	if (strstr(a.body, text) == NULL)
		fail_msg("%s %s: no %s in %s", method, path, text, a.body);
	probe_answer_free(&a);
}

/* router 5 */
static void unknown_paths_and_methods_are_answered_in_the_envelope(void **state)
{
	struct probe_answer a;

	(void)state;
	assert_says("GET", "/router/nothing", NULL, 404, "{\"error\":{\"code\":\"NOT_FOUND\"");
	assert_int_equal(stack_ask(router, "DELETE", "/router/health", NULL, NULL, &a), 405);
	assert_non_null(strstr(a.head, "Allow: GET"));
	assert_non_null(strstr(a.body, "METHOD_NOT_ALLOWED"));
	probe_answer_free(&a);
}

static void health_needs_no_key_and_says_what_works(void **state)
{
	(void)state;
	assert_says("GET", "/router/health", NULL, 200, "\"status\":\"healthy\",\"database\":\"up\",\"standby\":\"up\","
	            "\"kafka\":\"up\",\"redis\":\"none\"");
}

/* router 59 */
static void a_key_is_known_of_the_right_type_enabled_and_not_expired(void **state)
{
	char *late = stack_key(&st, "late", "admin");

	(void)state;
	assert_int_equal(ask("GET", "/router/metrics", NULL), 401);
	assert_int_equal(ask("GET", "/router/metrics", "X-API-Key: nonsense"), 401);
	assert_int_equal(ask("GET", "/router/metrics",
	                     "X-API-Key: wbot_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), 401);
	assert_int_equal(ask("GET", "/router/metrics", interaction), 403);
	assert_int_equal(ask("GET", "/router/metrics", webhook), 403);
	assert_int_equal(ask("GET", "/router/metrics", collector), 403);
	assert_says("GET", "/router/metrics", admin, 200, "\"total_events\":0");
	assert_int_equal(ask("GET", "/router/metrics", late), 200);
	sql_run(st.sql, "UPDATE service_accounts SET expires_at = now() - interval '1 s' WHERE name = 'late'");
	free(late);
}

struct waited { const char *key; int status; };

static bool answers_so(void *arg)
{
	const struct waited *w = arg;

	return ask("GET", "/router/metrics", w->key) == w->status;
}

static void wait_status(const char *key, int status)
{
	struct waited w = { key, status };

	wait_for("the other status", answers_so, &w, 5000);
}

static void a_revoked_key_is_refused_at_once_and_a_new_one_known(void **state)
{
	char *gone = stack_key(&st, "gone", "admin");
	static const char fresh[] = "X-API-Key: wbot_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";

	(void)state;
	wait_status(gone, 200);
	sql_run(st.sql, "UPDATE service_accounts SET is_active = false WHERE name = 'gone'");
	wait_status(gone, 401);         /* by notice: the verdict would hold for a minute */
	assert_int_equal(ask("GET", "/router/metrics", fresh), 401);
	sql_run(st.sql, "INSERT INTO service_accounts (name, key_type, key_sha256) "
	                "VALUES ('fresh', 'admin', sha256('%s'))", fresh + 11);
	wait_status(fresh, 200);
	free(gone);
}

/* router 59: the hour's budget, and that a refusal says when it ends. */
static void a_spent_budget_is_429_with_the_seconds_to_the_full_hour(void **state)
{
	char *poor = stack_key(&st, "poor", "admin"), *at;
	struct probe_answer a;
	long after;

	(void)state;
	sql_run(st.sql, "UPDATE service_accounts SET rate_limit = 3 WHERE name = 'poor'");
	for (int i = 0; i < 3; i++)
		assert_int_equal(ask("GET", "/router/metrics", poor), 200);
	assert_int_equal(stack_ask(router, "GET", "/router/metrics", poor, NULL, &a), 429);
	at = strstr(a.head, "Retry-After: ");
	assert_non_null(at);
	after = strtol(at + 13, NULL, 10);
	assert_in_range(after, 1, 3600);
	probe_answer_free(&a);
	/* A call of a type that may not is refused without costing: the budget of others stays theirs. */
	assert_int_equal(ask("GET", "/router/health", NULL), 200);
	free(poor);
}

static void replicas_share_the_budget(void **state)
{
	char *shared = stack_key(&st, "shared", "admin");

	(void)state;
	second = stack_service(&st, "waddle-router", "waddle_router", NULL);
	child_wait_ready(second, true, WAIT_MS);
	sql_run(st.sql, "UPDATE service_accounts SET rate_limit = 4 WHERE name = 'shared'");
	for (int i = 0; i < 4; i++)
		assert_int_equal(stack_ask(second, "GET", "/router/metrics", shared, NULL, NULL), 200);
	assert_int_equal(stack_ask(second, "GET", "/router/metrics", shared, NULL, NULL), 429);
	sql_wait_int(st.sql, 4, WAIT_MS, "SELECT used FROM service_account_usage u JOIN service_accounts a "
	             "ON a.id = u.account_id WHERE a.name = 'shared'");
	assert_int_equal(ask("GET", "/router/metrics", shared), 429);
	free(shared);
}

/* router 24 (health), section 2: a key that was known goes on working, an unknown one is 503. */
static void without_the_database_known_keys_work_and_others_wait(void **state)
{
	struct waited sick = { admin, 200 };

	(void)state;
	wait_status(admin, 200);
	stack_pg("stop primary");
	assert_int_equal(ask("GET", "/router/metrics",
	                     "X-API-Key: wbot_CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC"), 503);
	assert_true(answers_so(&sick));
	assert_says("GET", "/router/health", NULL, 503, "\"status\":\"unhealthy\"");
	stack_pg("start primary");
	child_wait_ready(router, true, WAIT_MS);
	child_wait_ready(second, true, WAIT_MS);
	stack_pg("stop standby");
	sql_close(st.standby);
	st.standby = NULL;
	assert_says("GET", "/router/health", NULL, 200, "\"status\":\"degraded\",\"database\":\"up\",\"standby\":\"down\"");
	stack_pg("start standby");
	st.standby = sql_open(st.read_url);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unknown_paths_and_methods_are_answered_in_the_envelope),
		cmocka_unit_test(health_needs_no_key_and_says_what_works),
		cmocka_unit_test(a_key_is_known_of_the_right_type_enabled_and_not_expired),
		cmocka_unit_test(a_revoked_key_is_refused_at_once_and_a_new_one_known),
		cmocka_unit_test(a_spent_budget_is_429_with_the_seconds_to_the_full_hour),
		cmocka_unit_test(replicas_share_the_budget),
		cmocka_unit_test(without_the_database_known_keys_work_and_others_wait),
	};

	return !!cmocka_run_group_tests_name("api", tests, up, down);
}

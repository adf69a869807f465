/* test_api_admin.c - commands, entities, servers, permissions and aliases over HTTP. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "stack.h"
#include "str.h"

enum { WAIT_MS = 20000 };

static struct stack st;
static struct child *router;
static char *admin, *collector;

static int up(void **state)
{
	(void)state;
	stack_open(&st, "api_admin", STACK_SCHEMA | STACK_TOPICS);
	router = stack_service(&st, "waddle-router", "waddle_router", NULL);
	admin = stack_key(&st, "admin", "admin");
	collector = stack_key(&st, "collector", "collector");
	sql_run(st.sql, "INSERT INTO communities (name, display_name) VALUES ('cats', 'Cats')");
	child_wait_ready(router, true, WAIT_MS);
	return 0;
}

static int down(void **state)
{
	(void)state;
	assert_int_equal(child_end(router, WAIT_MS), 0);
	child_free(router);
	free(admin);
	free(collector);
	stack_close(&st);
	return 0;
}

/* The answer, which holds all of these texts; free(). */
static char *call(const char *method, const char *path, const char *body, int status, const char *const *texts)
{
	struct probe_answer a;
	char *text;
	int got = stack_ask(router, method, path, admin, body, &a);

	if (got != status)
		fail_msg("%s %s %s answered %d, not %d: %s", method, path, body != NULL ? body : "", got, status, a.body);
	for (; *texts != NULL; texts++)
		if (strstr(a.body, *texts) == NULL && strstr(a.head, *texts) == NULL)
			fail_msg("%s %s: no %s in %s", method, path, *texts, a.body);
	text = text_of("%s%s", a.head, a.body);
	probe_answer_free(&a);
	return text;
}
#define CALL(method, path, body, status, ...) free(call(method, path, body, status, (const char *const[]){ __VA_ARGS__, NULL }))

static int64_t id_in(const char *answer)
{
	const char *at = strstr(answer, "\"id\" : ");

	assert_non_null(at);
	return strtoll(at + 7, NULL, 10);
}

static char *path_of(const char *before, int64_t id) { return text_of("%s%lld", before, (long long)id); }

static void a_command_is_registered_with_its_defaults_changed_and_deactivated(void **state)
{
	char *a = call("POST", "/router/commands", "{\"command\":\"QuOtE\",\"prefix\":\"!\",\"module_id\":\"memories:x\"}", 201,
	               (const char *const[]){ "\"command\" : \"quote\"", "\"location_url\" : \"kafka:memories\"",
	               "\"location\" : \"internal\"", "\"timeout\" : 30", "\"min_role\" : \"member\"", "ETag: \"", NULL });
	int64_t id = id_in(a);
	char *path = path_of("/router/commands/", id), *old = strstr(a, "ETag: ");
	char *match = text_of("If-Match: %.*s", (int)strcspn(old + 6, "\r"), old + 6);

	(void)state;
	assert_null(strstr(a, "secret"));
	CALL("POST", "/router/commands", "{\"command\":\"quote\",\"prefix\":\"!\",\"module_id\":\"memories:x\"}", 409, "CONFLICT");
	CALL("PATCH", path, "{\"timeout\":5,\"description\":null}", 200, "\"timeout\" : 5", "\"command\" : \"quote\"");
	/* An edit of what has changed meanwhile. */
	{
		char *url = text_of("http://127.0.0.1:%d%s", child_port(router, "HTTP_LISTEN"), path);
		const char *headers[] = { admin, match, "Content-Type: application/json", NULL };
		struct probe_answer pa;

		assert_int_equal(probe_http("PATCH", url, headers, "{\"timeout\":6}", 13, 10000, &pa), 0);
		assert_int_equal(pa.status, 412);
		probe_answer_free(&pa);
		free(url);
	}
	CALL("GET", "/router/commands?prefix=!&module_id=memories:x", NULL, 200, "\"commands\":[{", "\"total_items\":1", "\"timeout\" : 5");
	CALL("DELETE", path, NULL, 204, "204");
	CALL("GET", "/router/commands?is_active=true&module_id=memories:x", NULL, 200, "\"commands\":[]");
	CALL("GET", "/router/commands?is_active=false&module_id=memories:x", NULL, 200, "\"total_items\":1");
	CALL("PATCH", "/router/commands/999999", "{\"timeout\":5}", 404, "NOT_FOUND");
	CALL("DELETE", "/router/commands/999999", NULL, 404, "NOT_FOUND");
	CALL("PATCH", "/router/commands/nonsense", "{\"timeout\":5}", 400, "\"field\":\"id\"");
	free(match);
	free(path);
	free(a);
}

static void a_signing_secret_is_shown_once_and_sealed(void **state)
{
	static const char body[] = "{\"command\":\"hook\",\"prefix\":\"#\",\"module_id\":\"m\",\"type\":\"webhook\","
	                           "\"location_url\":\"https://example.com/hook\",\"secret_headers\":{\"Authorization\":\"Bearer s3cret\"}}";
	char *a = call("POST", "/router/commands", body, 201, (const char *const[]){ "\"signing_secret\":\"whsec_", NULL });
	int64_t id = id_in(a);
	char *path = path_of("/router/commands/", id), *first = text_of("%.44s", strstr(a, "whsec_") + 6), *b;

	(void)state;
	assert_null(strstr(a, "s3cret"));
	b = call("PATCH", path, "{\"timeout\":9}", 200, (const char *const[]){ "\"timeout\" : 9", NULL });
	assert_null(strstr(b, "whsec_"));
	free(b);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM commands WHERE id = %lld AND signing_secret IS NOT NULL AND "
	                         "secret_headers IS NOT NULL AND previous_secret IS NULL AND position('s3cret'::bytea in "
	                         "secret_headers) = 0", (long long)id), 1);
	b = call("PATCH", path, "{\"rotate_secret\":true}", 200, (const char *const[]){ "\"signing_secret\":\"whsec_", NULL });
	assert_null(strstr(b, first));
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM commands WHERE id = %lld AND previous_secret IS NOT NULL AND "
	                         "previous_secret_until > now() + interval '23 hours'", (long long)id), 1);
	free(b);
	free(a);
	free(first);
	free(path);
}

/* router 2.2: fields, and section 21 */
static void bad_commands_are_refused_and_the_field_named(void **state)
{
#define BASE "{\"command\":\"c\",\"prefix\":\"!\",\"module_id\":\"m\""
#define HOOK "{\"command\":\"c\",\"prefix\":\"#\",\"module_id\":\"m\",\"type\":\"webhook\",\"location_url\":"
	static const struct { const char *body, *field; } bad[] = {
		{ BASE ",\"colour\":\"red\"}", "colour" }, { BASE ",\"timeout\":301}", "timeout" }, { BASE ",\"timeout\":0}", "timeout" },
		{ BASE ",\"priority\":10001}", "priority" }, { BASE ",\"rate_limit\":-1}", "rate_limit" },
		{ BASE ",\"location\":\"community\"}", "location" }, { BASE ",\"min_role\":\"king\"}", "min_role" },
		{ BASE ",\"trigger_type\":\"event\"}", "event_types" }, { BASE ",\"event_types\":[\"shout\"]}", "event_types" },
		{ BASE ",\"type\":\"webhook\",\"location_url\":\"https://example.com/\"}", "type" },
		{ BASE ",\"location_url\":\"https://example.com/\"}", "location_url" },
		{ BASE ",\"headers\":{\"Host\":\"x\"}}", "headers" }, { BASE ",\"headers\":{\"X-WaddleBot-A\":\"x\"}}", "headers" },
		{ BASE ",\"headers\":{\"webhook-id\":\"x\"}}", "headers" }, { BASE ",\"headers\":{\"a\":1}}", "headers" },
		{ BASE ",\"headers\":{\"a\":\"x\\r\\nb: c\"}}", "headers" },
		{ "{\"command\":\"a b\",\"prefix\":\"!\",\"module_id\":\"m\"}", "command" },
		{ "{\"command\":\"-a\",\"prefix\":\"!\",\"module_id\":\"m\"}", "command" },
		{ "{\"command\":\"a'b\",\"prefix\":\"!\",\"module_id\":\"m\"}", "command" },
		{ "{\"prefix\":\"!\",\"module_id\":\"m\"}", "command" }, { "{\"command\":\"c\",\"module_id\":\"m\"}", "prefix" },
		{ "{\"command\":\"c\",\"prefix\":\"?\",\"module_id\":\"m\"}", "prefix" }, { "{\"command\":\"c\",\"prefix\":\"!\"}", "module_id" },
		{ HOOK "\"http://example.com/\"}", "location_url" }, { HOOK "\"https://127.0.0.1/\"}", "location_url" },
		{ HOOK "\"https://0x7f.1/\"}", "location_url" }, { HOOK "\"https://localhost/\"}", "location_url" },
		{ HOOK "\"kafka:m\"}", "location_url" },
		{ "{\"command\":\"c\",\"prefix\":\"#\",\"module_id\":\"m\",\"type\":\"lambda\"}", "location_url" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		char *field = text_of("\"field\":\"%s", bad[i].field);

		CALL("POST", "/router/commands", bad[i].body, 400, "INVALID_REQUEST", field);
		free(field);
	}
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM commands WHERE command = 'c'"), 0);
	assert_int_equal(stack_ask(router, "POST", "/router/commands", collector, BASE "}", NULL), 403);
	assert_int_equal(stack_ask(router, "GET", "/router/commands", collector, NULL, NULL), 200);
	CALL("GET", "/router/commands?per_page=101", NULL, 400, "per_page");
}

static void servers_and_entities_are_made_and_changed(void **state)
{
	char *a;
	int64_t id;

	(void)state;
	CALL("POST", "/router/entities", "{\"platform\":\"discord\",\"server_id\":\"g1\",\"channel_id\":\"c1\"}", 409, "CONFLICT");
	a = call("POST", "/router/servers", "{\"owner\":\"o\",\"platform\":\"discord\",\"server_id\":\"g1\",\"config\":{\"community_id\":2}}", 201,
	         (const char *const[]){ "\"is_active\" : true", NULL });
	id = id_in(a);
	free(a);
	a = call("POST", "/router/servers", "{\"owner\":\"other\",\"platform\":\"discord\",\"server_id\":\"g1\"}", 200,
	         (const char *const[]){ "\"owner\" : \"other\"", "\"community_id\": 2", NULL });
	assert_int_equal(id_in(a), id);
	free(a);
	a = path_of("/router/servers/", id);
	CALL("PATCH", a, "{\"webhook_url\":\"https://example.com/x\"}", 200, "\"webhook_url\" : \"https://example.com/x\"");
	CALL("PATCH", a, "{\"webhook_url\":null}", 200, "\"webhook_url\" : null");
	CALL("PATCH", a, "{\"platform\":\"slack\"}", 400, "\"field\":\"platform\"");
	free(a);
	CALL("POST", "/router/servers", "{\"owner\":\"o\",\"platform\":\"aol\",\"server_id\":\"g1\"}", 400, "\"field\":\"platform\"");
	CALL("POST", "/router/servers", "{\"owner\":\"o\",\"platform\":\"discord\"}", 400, "\"field\":\"server_id\"");
	CALL("POST", "/router/servers", "{\"owner\":\"o\",\"platform\":\"twitch\",\"channel\":\"  \"}", 400, "\"field\":\"channel\"");
	a = call("POST", "/router/entities", "{\"platform\":\"discord\",\"server_id\":\"g1\",\"channel_id\":\"c1\"}", 201,
	         (const char *const[]){ "\"address\" : \"discord:g1:c1\"", "\"community_id\" : 2", "\"owner\" : \"other\"", NULL });
	id = id_in(a);
	free(a);
	CALL("POST", "/router/entities", "{\"platform\":\"discord\",\"server_id\":\"g1\",\"channel_id\":\"c1\"}", 409, "CONFLICT");
	CALL("POST", "/router/entities", "{\"platform\":\"discord\",\"server_id\":\"g1\",\"channel_id\":\"c2\",\"community_id\":77}", 404, "NOT_FOUND");
	a = path_of("/router/entities/", id);
	CALL("PATCH", a, "{\"config\":{\"silent\":true},\"community_id\":1}", 200, "\"silent\": true", "\"community_id\" : 1");
	free(a);
	CALL("GET", "/router/entities?platform=discord&server_id=g1", NULL, 200, "\"total_items\":1");
	CALL("GET", "/router/servers?platform=discord&page=2&per_page=1", NULL, 200, "\"servers\":[],\"pagination\":{\"page\":2,\"per_page\":1,\"total_pages\":1");
}

/* router 7, 11: the channel's row decides, else the server's */
static void permissions_are_those_of_the_channel_or_the_server(void **state)
{
	char *a, *channel, *wide, *byid;
	int64_t one, two;

	(void)state;
	CALL("POST", "/router/servers", "{\"owner\":\"o\",\"platform\":\"discord\",\"server_id\":\"g2\"}", 201, "g2");
	a = call("POST", "/router/entities", "{\"platform\":\"discord\",\"server_id\":\"g2\"}", 201, (const char *const[]){ "discord:g2:", NULL });
	wide = text_of("/router/entities/%lld/permissions/%%21greet", (long long)id_in(a));
	free(a);
	a = call("POST", "/router/entities", "{\"platform\":\"discord\",\"server_id\":\"g2\",\"channel_id\":\"c\"}", 201, (const char *const[]){ "discord:g2:c", NULL });
	one = id_in(a);
	channel = text_of("/router/entities/%lld/permissions/%%21greet", (long long)one);
	free(a);
	CALL("GET", channel, NULL, 404, "command");
	CALL("POST", "/router/commands", "{\"command\":\"greet\",\"prefix\":\"!\",\"module_id\":\"m1\"}", 201, "greet");
	CALL("GET", channel, NULL, 200, "\"source\":\"none\"");
	CALL("PUT", wide, "{\"config\":{\"a\":1}}", 200, "\"is_enabled\" : true", "\"source\" : \"channel\"");
	CALL("GET", channel, NULL, 200, "\"source\" : \"server\"", "\"a\": 1");
	CALL("PUT", channel, "{\"is_enabled\":false,\"permissions\":{\"min_role\":\"vip\"}}", 200, "\"is_enabled\" : false");
	CALL("GET", channel, NULL, 200, "\"source\" : \"channel\"", "\"is_enabled\" : false", "\"config\" : {}", "vip");
	a = path_of("/router/commands?module_id=m1&entity_id=", one);
	CALL("GET", a, NULL, 200, "\"enabled\": false", "\"enabled_by\": \"channel\"");
	CALL("PUT", channel, "{\"enabled\":true}", 400, "\"field\":\"enabled\"");
	CALL("DELETE", channel, NULL, 204, "204");
	CALL("GET", a, NULL, 200, "\"enabled\": true", "\"enabled_by\": \"server\"", "\"config\": {\"a\": 1}");
	CALL("DELETE", channel, NULL, 404, "NOT_FOUND");
	free(a);
	a = call("POST", "/router/commands", "{\"command\":\"greet\",\"prefix\":\"!\",\"module_id\":\"m2\"}", 201, (const char *const[]){ "greet", NULL });
	two = id_in(a);
	free(a);
	a = text_of("%lld", (long long)two);
	CALL("PUT", channel, "{}", 409, a);
	byid = text_of("/router/entities/%lld/permissions/%lld", (long long)one, (long long)two);
	CALL("PUT", byid, "{}", 200, "\"is_enabled\" : true");
	CALL("GET", "/router/entities/99999/permissions/%21greet", NULL, 404, "entity");
	CALL("GET", "/router/commands?entity_id=99999", NULL, 404, "entity");
	free(a);
	free(byid);
	free(channel);
	free(wide);
}

/* router 60: refused at creation */
static void an_alias_may_not_hide_a_command_or_lead_in_a_circle(void **state)
{
	char *a, *path;

	(void)state;
	a = call("POST", "/router/aliases", "{\"community_id\":2,\"alias\":\"Q\",\"target_command\":\"!memories get\"}", 201,
	         (const char *const[]){ "\"alias\" : \"q\"", "\"created_by\" : \"admin\"", NULL });
	CALL("POST", "/router/aliases", "{\"community_id\":2,\"alias\":\"q\",\"target_command\":\"!other\"}", 409, "CONFLICT");
	CALL("POST", "/router/aliases", "{\"community_id\":2,\"alias\":\"b\",\"target_command\":\"!q {args}\"}", 201, "\"alias\" : \"b\"");
	CALL("POST", "/router/aliases", "{\"community_id\":2,\"alias\":\"memories\",\"target_command\":\"!b\"}", 409, "back to itself");
	CALL("POST", "/router/aliases", "{\"community_id\":2,\"alias\":\"self\",\"target_command\":\"!SELF x\"}", 409, "back to itself");
	CALL("POST", "/router/aliases", "{\"community_id\":1,\"alias\":\"memories\",\"target_command\":\"!b\"}", 201, "memories");
	CALL("POST", "/router/aliases", "{\"community_id\":2,\"alias\":\"c\",\"target_command\":\"hello\"}", 400, "target_command");
	CALL("POST", "/router/aliases", "{\"community_id\":99,\"alias\":\"c\",\"target_command\":\"!x\"}", 404, "NOT_FOUND");
	CALL("GET", "/router/aliases?community_id=2", NULL, 200, "\"total_items\":2", "\"target_command\" : \"!memories get\"");
	path = path_of("/router/aliases/", id_in(a));
	CALL("DELETE", path, NULL, 204, "204");
	CALL("DELETE", path, NULL, 404, "NOT_FOUND");
	free(path);
	free(a);
}

struct expected { struct child *replica; bool runs; };

/* What a replica predicts for !fresh: the rows it knows. */
static bool predicts(void *arg)
{
	const struct expected *e = arg;
	struct probe_answer a;
	bool runs;

	assert_int_equal(stack_ask(e->replica, "POST", "/router/events", collector, "{\"platform\":\"discord\",\"server_id\":\"g9\","
	                           "\"channel_id\":\"c\",\"user_id\":\"7\",\"message_type\":\"chatMessage\",\"message\":\"!fresh\"}", &a), 202);
	runs = strstr(a.body, "\"execution_id\":null") == NULL;
	probe_answer_free(&a);
	return runs == e->runs;
}

/* router 23 */
static void a_change_on_one_replica_is_followed_by_the_other_also_with_the_standby_paused(void **state)
{
	struct child *second = stack_service(&st, "waddle-router", "waddle_router", NULL);
	char *a = call("POST", "/router/commands", "{\"command\":\"fresh\",\"prefix\":\"!\",\"module_id\":\"f\"}", 201, (const char *const[]){ "fresh", NULL });
	char *path = path_of("/router/commands/", id_in(a));

	(void)state;
	child_wait_ready(second, true, WAIT_MS);
	wait_for("the second replica knows it", predicts, &(struct expected){ second, true }, 5000);
	stack_pg("pause-replay");
	CALL("DELETE", path, NULL, 204, "204");
	wait_for("the second replica has forgotten it", predicts, &(struct expected){ second, false }, 5000);
	CALL("PATCH", path, "{\"is_active\":true}", 200, "\"is_active\" : true");
	wait_for("the second replica knows it again", predicts, &(struct expected){ second, true }, 5000);
	stack_pg("resume-replay");
	assert_int_equal(child_end(second, WAIT_MS), 0);
	child_free(second);
	free(path);
	free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_command_is_registered_with_its_defaults_changed_and_deactivated),
		cmocka_unit_test(a_signing_secret_is_shown_once_and_sealed),
		cmocka_unit_test(bad_commands_are_refused_and_the_field_named),
		cmocka_unit_test(servers_and_entities_are_made_and_changed),
		cmocka_unit_test(permissions_are_those_of_the_channel_or_the_server),
		cmocka_unit_test(an_alias_may_not_hide_a_command_or_lead_in_a_circle),
		cmocka_unit_test(a_change_on_one_replica_is_followed_by_the_other_also_with_the_standby_paused),
	};

	return !!cmocka_run_group_tests_name("api_admin", tests, up, down);
}

/* test_api_explain.c - what ran, and why nothing did: GET /router/executions and /router/explain. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ids.h"
#include "stack.h"
#include "str.h"

enum { WAIT_MS = 20000 };

static struct stack st;
static struct child *router;
static char *admin, *collector;

static int up(void **state)
{
	(void)state;
	stack_open(&st, "api_explain", STACK_SCHEMA | STACK_TOPICS);
	sql_run(st.sql, "INSERT INTO servers (owner, platform, channel) VALUES ('o', 'twitch', '1001'); "
	        "INSERT INTO entities (address, platform, channel_id, owner) VALUES ('twitch:1001', 'twitch', '1001', 'o'); "
	        "INSERT INTO commands (id, command, prefix, location_url, location, module_id) OVERRIDING SYSTEM VALUE "
	        "VALUES (17, 'memories', '!', 'kafka:memories', 'internal', 'memories'), "
	        "(18, 'other', '!', 'kafka:other', 'internal', 'other')");
	router = stack_service(&st, "waddle-router", "waddle_router", NULL);
	admin = stack_key(&st, "admin", "admin");
	collector = stack_key(&st, "collector", "collector");
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
static char *get(const char *path, int status, const char *const *texts)
{
	struct probe_answer a;
	char *body;
	int got;

	stack_wait_replay(&st, WAIT_MS);        /* both are read on the standby */
	got = stack_ask(router, "GET", path, admin, NULL, &a);
	if (got != status)
		fail_msg("%s answered %d, not %d: %s", path, got, status, a.body);
	for (; *texts != NULL; texts++)
		if (strstr(a.body, *texts) == NULL)
			fail_msg("%s: no %s in %s", path, *texts, a.body);
	body = text_of("%s", a.body);
	probe_answer_free(&a);
	return body;
}
#define GET(path, status, ...) free(get(path, status, (const char *const[]){ __VA_ARGS__, NULL }))

static void explain(const char *event, int status, const char *const *texts)
{
	char *path = text_of("/router/explain/%s", event);

	free(get(path, status, texts));
	free(path);
}
#define EXPLAIN(event, ...) explain(event, 200, (const char *const[]){ __VA_ARGS__, NULL })

/* Of !memories or !other; more: ", column = value" to set afterwards.  With its session, or without. */
static void add_execution(const char *event, int command, bool session, const char *more)
{
	char id[ID_TEXT], sid[ID_TEXT];

	id_execution(str_of(event), command, 0, id);
	id_session(str_of(event), sid);
	sql_run(st.sql, "WITH at AS (SELECT coalesce((SELECT created_at FROM sessions WHERE session_id = '%s'), now()) AS at), "
	        "s AS (INSERT INTO sessions (session_id, created_at, entity_id) SELECT '%s', at, 1 FROM at WHERE %s ON CONFLICT DO NOTHING) "
	        "INSERT INTO command_executions (execution_id, command_id, entity_id, user_id, location_url, session_id, event_id, "
	        "community_id, module_name, created_at, sent_at) SELECT '%s', %d, 1, 'u7', 'kafka:x', '%s', '%s', 1, '%s', at, "
	        "at + interval '5 ms' FROM at", sid, sid, session ? "true" : "false", id, command, sid, event,
	        command == 17 ? "memories" : "other");
	sql_run(st.sql, "UPDATE command_executions SET retry_count = 0%s WHERE execution_id = '%s'", more, id);
}

/* router 83: a command that was answered shows every hop with its time */
static void an_answered_command_shows_every_hop(void **state)
{
	static const char *const hops[] = { "received", "decided", "sent", "module", "responded", "outbound", "delivered" };
	const char *at;
	char *body;

	(void)state;
	add_execution("twitch:answered", 17, true, ", status = 'success', execution_time_ms = 12, completed_at = created_at + interval '12 ms'");
	sql_run(st.sql, "INSERT INTO module_responses (execution_id, module_name, success, response_action, chat_message, response_index, "
	        "created_at, responded_at, processing_time_ms, delivered_at) SELECT execution_id, 'memories', true, 'chat', 'hi', 0, created_at, "
	        "created_at + interval '12 ms', 3, created_at + interval '40 ms' FROM command_executions WHERE event_id = 'twitch:answered'");
	body = get("/router/explain/twitch:answered", 200, (const char *const[]){
		"\"verdict\":\"answered\",\"code\":200,\"text\":\"memories ran !memories and answered after 12 ms.\"",
		"\"entity\":\"twitch:1001\"", "\"responses\":[{\"index\" : 0, \"action\" : \"chat\"", "\"rule\":null", NULL });
	assert_null(strstr(body, "\"hi\""));
	at = body;
	for (size_t i = 0; i < ARRAY_LEN(hops); i++) {
		char *hop = text_of("{\"hop\":\"%s\",\"at\":\"", hops[i]);

		at = strstr(at, hop);
		if (at == NULL)
			fail_msg("no %s, or not in its place: %s", hop, body);
		free(hop);
	}
	free(body);
}

/* router 84 */
static void what_the_platform_refused_is_send_refused(void **state)
{
	(void)state;
	add_execution("twitch:refused", 17, true, ", status = 'success', execution_time_ms = 12");
	sql_run(st.sql, "INSERT INTO module_responses (execution_id, module_name, success, response_action, response_index, created_at, "
	        "delivery_error) SELECT execution_id, 'memories', true, 'chat', 0, created_at, 'bot is banned' "
	        "FROM command_executions WHERE event_id = 'twitch:refused'");
	EXPLAIN("twitch:refused", "\"verdict\":\"send_refused\",\"code\":502", "bot is banned");
}

static void executions_tell_their_own_end(void **state)
{
	static const struct { const char *event, *more, *verdict; int code; } ends[] = {
		{ "e:pending", "", "pending", 202 }, { "e:waits", ", sent_at = NULL", "pending", 202 },
		{ "e:timeout", ", status = 'failed', error_message = 'timeout'", "timeout", 504 },
		{ "e:queue", ", status = 'failed', error_message = 'queue_timeout'", "queue_timeout", 504 },
		{ "e:unreachable", ", status = 'failed', error_message = 'unreachable'", "unreachable", 502 },
		{ "e:url", ", status = 'failed', error_message = 'url_refused'", "url_refused", 403 },
		{ "e:bad", ", status = 'failed', error_message = 'bad_response'", "bad_response", 502 },
		{ "e:failed", ", status = 'failed', error_message = 'no such quote'", "module_failed", 422 },
		{ "e:event", ", trigger = 'event'", "event_modules", 202 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		char *verdict = text_of("\"verdict\":\"%s\",\"code\":%d,\"text\":\"", ends[i].verdict, ends[i].code);

		/* Every second one is found without a session: by the ids its commands would have. */
		add_execution(ends[i].event, 17, i % 2 == 0, ends[i].more);
		EXPLAIN(ends[i].event, verdict, "\"command\":\"!memories\"", "\"hop\":\"received\"");
		free(verdict);
	}
}

/* router 83: each verdict that leaves a decision, with the check that failed */
static void every_decision_is_told_with_its_check_and_a_sentence(void **state)
{
	static const struct { const char *verdict; int code; } all[] = {
		{ "rule_warn", 200 }, { "rule_block", 200 }, { "rule_command", 202 }, { "rule_webhook", 200 }, { "rule_command_unknown", 404 },
		{ "duplicate", 200 }, { "not_monitored", 404 }, { "entity_inactive", 403 }, { "unknown_command", 404 }, { "not_enabled", 403 },
		{ "denied_user", 403 }, { "denied_role", 403 }, { "denied_label", 403 }, { "auth_required", 401 }, { "rate_limited", 429 },
		{ "alias_loop", 508 }, { "overloaded", 503 }, { "bad_event", 400 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		char *event = text_of("d:%s", all[i].verdict), *said = text_of("\"verdict\":\"%s\",\"code\":%d,\"text\":\"", all[i].verdict, all[i].code);

		sql_run(st.sql, "INSERT INTO event_decisions (event_id, created_at, verdict, code, reason, checks, entity, platform, user_id, rule_id) "
		        "VALUES ('%s', now(), '%s', %d, %s, '[{\"check\":\"it\",\"ok\":false}]', 'twitch:1001', 'twitch', 'u7', %s)",
		        event, all[i].verdict, all[i].code, i % 2 == 0 ? "NULL" : "'The reason given.'", i < 5 ? "9" : "NULL");
		EXPLAIN(event, said, "\"check\": \"it\"", "\"hop\":\"decided\"", i < 5 ? "\"rule\":9" : "\"rule\":null");
		free(event);
		free(said);
	}
}

/* router 28: several candidates, each with its outcome; the most successful one names the event */
static void several_candidates_are_all_listed(void **state)
{
	(void)state;
	add_execution("twitch:several", 17, true, ", status = 'failed', error_message = 'timeout'");
	add_execution("twitch:several", 18, true, ", status = 'success', execution_time_ms = 7");
	EXPLAIN("twitch:several", "\"verdict\":\"answered\"", "\"command\":\"!memories\"", "\"command\":\"!other\"", "\"error_message\":\"timeout\"");
}

static void of_an_unknown_event_it_is_said_that_plain_chat_is_not_kept(void **state)
{
	(void)state;
	GET("/router/explain/twitch:never", 404, "NOT_FOUND", "plain chat");
	assert_int_equal(stack_ask(router, "GET", "/router/explain/twitch:never", collector, NULL, NULL), 403);
}

static void executions_are_filtered_and_paged(void **state)
{
	char *first, *second, *at, *path, sid[ID_TEXT];
	int seen = 0;

	(void)state;
	for (int i = 0; i < 7; i++) {
		char *event = text_of("p:%d", i);

		add_execution(event, 18, true, ", user_id = 'pager', status = 'success', request_payload = '{\"secret\":1}'");
		free(event);
	}
	first = get("/router/executions?user_id=pager&per_page=4", 200, (const char *const[]){ "\"event_id\": \"p:6\"", "\"next_cursor\":\"", NULL });
	assert_null(strstr(first, "\"p:2\""));
	assert_null(strstr(first, "request_payload"));
	at = strstr(first, "\"next_cursor\":\"") + 15;
	path = text_of("/router/executions?user_id=pager&per_page=4&cursor=%.*s", (int)strcspn(at, "\""), at);
	second = get(path, 200, (const char *const[]){ "\"event_id\": \"p:2\"", "\"event_id\": \"p:0\"", "\"next_cursor\":null", NULL });
	for (int i = 0; i < 7; i++) {
		char *event = text_of("\"event_id\": \"p:%d\"", i);

		assert_true((strstr(first, event) != NULL) != (strstr(second, event) != NULL));
		seen++;
		free(event);
	}
	assert_int_equal(seen, 7);
	free(first);
	free(second);
	free(path);
	GET("/router/executions?event_id=p:3&full=1", 200, "\"event_id\": \"p:3\"", "request_payload", "\"next_cursor\":null");
	id_session(str_of("p:4"), sid);
	path = text_of("/router/executions?session_id=%s", sid);
	GET(path, 200, "\"event_id\": \"p:4\"");
	free(path);
	GET("/router/executions?entity_id=1&command_id=18&status=success&user_id=pager&per_page=1", 200, "\"p:6\"");
	GET("/router/executions?command_id=18&module_id=other&user_id=pager&per_page=1", 200, "\"p:6\"");
	GET("/router/executions?module_id=memories&user_id=pager", 200, "{\"executions\":[],\"next_cursor\":null}");
	GET("/router/executions?community_id=2", 200, "{\"executions\":[],\"next_cursor\":null}");
	GET("/router/executions?to=2020-01-01T00:00:00Z", 200, "{\"executions\":[],\"next_cursor\":null}");
	GET("/router/executions?status=done", 400, "\"field\":\"status\"");
	GET("/router/executions?session_id=nonsense", 400, "\"field\":\"session_id\"");
	GET("/router/executions?cursor=nonsense", 400, "\"field\":\"cursor\"");
	GET("/router/executions?per_page=0", 400, "\"field\":\"per_page\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answered_command_shows_every_hop),
		cmocka_unit_test(what_the_platform_refused_is_send_refused),
		cmocka_unit_test(executions_tell_their_own_end),
		cmocka_unit_test(every_decision_is_told_with_its_check_and_a_sentence),
		cmocka_unit_test(several_candidates_are_all_listed),
		cmocka_unit_test(of_an_unknown_event_it_is_said_that_plain_chat_is_not_kept),
		cmocka_unit_test(executions_are_filtered_and_paged),
	};

	return !!cmocka_run_group_tests_name("api_explain", tests, up, down);
}

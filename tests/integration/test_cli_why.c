/* test_cli_why.c - waddle why: each reason for silence, each hop of an answer. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli.h"
#include "ids.h"
#include "str.h"

static int set_up(void **state)
{
	(void)state;
	cli_open("cli_why", STACK_SCHEMA);
	sql_run(cli.st.sql, "INSERT INTO commands (command, prefix, location_url, location, module_id) "
	                    "VALUES ('memories', '!', 'kafka:memories', 'internal', 'memories')");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	cli_close();
	return 0;
}

static void add_event(const char *id, const char *processed, const char *message)
{
	sql_run(cli.st.sql,
	        "INSERT INTO twitch_events (event_id, event_type, platform_ids, event_data, processed, "
	        "created_at, dedupe_key, "
	        "entity, message, received_at, published_at) VALUES ('%s', 'message', '{}', '{}', %s, "
	        "now() - interval '30 ms', '%s', 'twitch:141981764', %s, now() - interval '20 ms', "
	        "CASE WHEN %s THEN now() - interval '15 ms' END)",
	        id, processed, id, message, processed);
}

static void add_decision(const char *id, const char *verdict, const char *reason)
{
	sql_run(cli.st.sql,
	        "INSERT INTO event_decisions (event_id, created_at, verdict, reason, decided_at) VALUES "
	        "('%s', now() - interval '20 ms', '%s', %s, now() - interval '10 ms')",
	        id, verdict, reason);
}

/* Of !memories; more: ", column = value" to set afterwards. */
static void add_execution(const char *event, char id[ID_TEXT], const char *more)
{
	int64_t command = sql_int(cli.st.sql, "SELECT id FROM commands WHERE command = 'memories'");

	id_execution(str_of(event), command, 0, id);
	sql_run(cli.st.sql,
	        "INSERT INTO command_executions (execution_id, command_id, entity_id, user_id, location_url, "
	        "session_id, "
	        "event_id, community_id, module_name, created_at, sent_at) VALUES ('%s', %lld, 1, 'u', "
	        "'kafka:memories', "
	        "gen_random_uuid(), '%s', 2, 'memories', now() - interval '20 ms', now() - interval '9 ms')",
	        id, (long long)command, event);
	sql_run(cli.st.sql, "UPDATE command_executions SET retry_count = 0%s WHERE execution_id = '%s'", more,
	        id);
}

static void add_response(const char *execution)
{
	sql_run(cli.st.sql,
	        "INSERT INTO module_responses (execution_id, module_name, success, response_action, "
	        "response_index, "
	        "created_at, responded_at) SELECT execution_id, 'memories', true, 'chat', 0, created_at, "
	        "now() - interval '5 ms' "
	        "FROM command_executions WHERE execution_id = '%s'",
	        execution);
}

static void add_outbox(const char *execution, const char *state, const char *error)
{
	char id[ID_TEXT];

	id_outbound(str_of(execution), 0, 0, id);
	sql_run(cli.st.sql,
	        "INSERT INTO twitch_outbox (message_id, kind, entity, message, state, error, expires_at, "
	        "sent_at, created_at) "
	        "VALUES ('%s', 'chat', 'twitch:141981764', '{}', '%s', %s, now(), now(), now() - interval '3 "
	        "ms')",
	        id, state, error);
}

static void why_is(const char *event, const char *verdict, const char *text)
{
	char *words = text_of("why|%s|--json", event), *plain = text_of("why|%s", event), *line;

	assert_int_equal(cli_run(words), strcmp(verdict, "unknown") == 0 ? 1 : 0);
	cli_json_is("{verdict}", verdict);
	cli_json_is("{event_id}", event);
	cli_says(text);
	(void)cli_run(plain);
	line = text_of("%s: ", verdict);
	cli_says(line);
	cli_says(text);
	free(line);
	free(words);
	free(plain);
}

static void why_names_the_one_reason_for_silence(void **state)
{
	char id[ID_TEXT];

	(void)state;
	why_is("twitch:never", "unknown", "Nothing is known of it");
	why_is("http:never", "unknown", "Nothing is known of it");
	why_is("x'; DROP TABLE commands; --", "unknown", "Nothing is known of it");

	add_event("twitch:unpublished", "false", "'{}'");
	why_is("twitch:unpublished", "unpublished", "not on waddle.events yet");
	add_event("twitch:kept", "true", "NULL");
	why_is("twitch:kept", "not_forwarded", "forwards none");
	add_event("twitch:plain", "true", "'{}'");
	why_is("twitch:plain", "plain", "plain chat");

	add_event("twitch:disabled", "true", "'{}'");
	add_decision("twitch:disabled", "not_enabled", "NULL");
	why_is("twitch:disabled", "not_enabled", "not enabled in this channel");
	add_decision("terminal:limited", "rate_limited", "'5 of 5 in a minute, again in 12 s'");
	why_is("terminal:limited", "rate_limited", "again in 12 s");

	add_execution("twitch:late", id,
	              ", status = 'failed', error_message = 'timeout', completed_at = now()");
	why_is("twitch:late", "timeout", "memories did not answer !memories in time");
	add_execution("twitch:broken", id,
	              ", status = 'failed', error_message = 'disk full', completed_at = now()");
	why_is("twitch:broken", "module_failed", "!memories failed in memories: disk full.");
	add_execution("twitch:asked", id, "");
	why_is("twitch:asked", "pending", "was asked to run !memories and has not answered yet");
	add_execution("twitch:waits", id, ", sent_at = NULL");
	why_is("twitch:waits", "pending", "waits its turn");

	add_execution("twitch:refused", id,
	              ", status = 'success', execution_time_ms = 4, completed_at = now()");
	add_response(id);
	add_outbox(id, "refused", "'msg_duplicate'");
	why_is("twitch:refused", "send_refused", "its message is refused at the collector: msg_duplicate");
}

static void why_shows_every_hop_of_an_answer_with_its_time(void **state)
{
	static const char *const hops[] = { "happened", "received",  "published", "decided",
		                            "sent",     "responded", "completed", "outbound" };
	char id[ID_TEXT], path[32];

	(void)state;
	sql_run(cli.st.sql, "BEGIN"); /* one now() for all */
	add_event("twitch:good", "true", "'{}'");
	add_decision("twitch:good", "pending", "NULL");
	add_execution("twitch:good", id,
	              ", status = 'success', execution_time_ms = 16, completed_at = now() - interval '4 ms'");
	add_response(id);
	add_outbox(id, "sent", "NULL");
	sql_run(cli.st.sql, "COMMIT");
	why_is("twitch:good", "answered", "memories ran !memories and answered after 16 ms");
	cli_fine("why|twitch:good|--json");
	cli_json_is("{hops,0,ms}", "0.0");
	for (size_t i = 0; i < ARRAY_LEN(hops); i++) {
		snprintf(path, sizeof(path), "{hops,%zu,hop}", i);
		cli_json_is(path, hops[i]);
	}
	cli_json_is("{hops,8,hop}", "delivered");
	cli_json_is("{hops,8,detail}", "sent");
	cli_json_is("{executions,0,status}", "success");
	cli_json_is("{executions,0,responses}", "1");
	add_execution("terminal:good", id,
	              ", status = 'success', execution_time_ms = 1, completed_at = now()");
	cli_fine("why|terminal:good|--json");
	cli_json_is("{hops,0,hop}", "received");
	cli_json_is("{hops,0,service}", "terminal");
	cli_json_is("{hops,2,hop}", "completed");
	assert_int_equal(
		sql_int(cli.st.sql,
	                "SELECT count(*) FROM jsonb_array_elements(($json$%s$json$::jsonb)->'hops') WITH "
	                "ORDINALITY h(x, n) JOIN jsonb_array_elements(($json$%s$json$::jsonb)->'hops') WITH "
	                "ORDINALITY "
	                "g(y, m) ON m = n + 1 WHERE (x->>'ms')::numeric > (y->>'ms')::numeric",
	                cli.out, cli.out),
		0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(why_names_the_one_reason_for_silence),
		cmocka_unit_test(why_shows_every_hop_of_an_answer_with_its_time),
	};

	return !!cmocka_run_group_tests_name("cli_why", tests, set_up, tear_down);
}

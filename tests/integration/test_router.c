/* The router against PostgreSQL and Kafka; the test plays collectors and modules. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ids.h"
#include "stack.h"
#include "str.h"

#include <signal.h>

static struct stack st;
static struct child *router;

enum { WAIT_MS = 8000 };

static const char *const topics[] = {
	"waddle.events", "waddle.registry", "waddle.dlq", "waddle.commands.echo", "waddle.commands.other",
	"waddle.responses.echo", "waddle.responses.other", "waddle.outbound.twitch", "waddle.outbound.terminal",
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static char *time_text(int64_t unix_ms)
{
	time_t s = (time_t)(unix_ms / 1000);
	struct tm tm;

	gmtime_r(&s, &tm);
	return text_of("%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
	               tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(unix_ms % 1000));
}

/* Where and who an event is from; everything else has a default. */
struct event {
	const char *id, *user, *roles, *text, *channel, *platform;
	int64_t received_ms;
	const char *metadata;
};

static void send_event(struct event e)
{
	const char *platform = e.platform != NULL ? e.platform : "twitch";
	const char *channel = e.channel != NULL ? e.channel : "1001";
	int64_t at = e.received_ms != 0 ? e.received_ms : now_ms();
	struct buf b = BUF(1 << 20);
	struct str body;
	char *key = text_of("%s:%s", platform, channel), *when = time_text(at);
	const char *const headers[] = { "ce_type: waddle.event.v1", "ce_specversion: 1.0", NULL };

	buf_printf(&b,
	           "{\"event_id\":\"%s\",\"dedupe_key\":\"d:%s\",\"platform\":\"%s\",\"channel_id\":\"%s\","
	           "\"entity\":\"%s\",\"user\":{\"id\":\"%s\",\"name\":\"n%s\",\"roles\":[%s]},"
	           "\"message_type\":\"chatMessage\",\"occurred_at\":\"%s\",\"received_at\":\"%s\","
	           "\"metadata\":%s,\"reply_ref\":\"ref-%s\",\"message_content\":",
	           e.id, e.id, platform, channel, key, e.user != NULL ? e.user : "7",
	           e.user != NULL ? e.user : "7", e.roles != NULL ? e.roles : "\"member\"", when, when,
	           e.metadata != NULL ? e.metadata : "{\"message_id\":\"m-1\"}", e.id);
	buf_json(&b, str_of(e.text));
	buf_add(&b, STR("}"));
	assert_int_equal(buf_str(&b, &body), 0);
	probe_send(st.kafka, stack_topic(&st, "waddle.events"), -1, key, body.p, body.n, headers);
	buf_clear(&b);
	free(key);
	free(when);
}

static void respond_as(const char *module, const char *execution_id, int index, bool final, bool success,
                       const char *chat)
{
	const char *const headers[] = { "ce_type: waddle.response.v1", "ce_specversion: 1.0", NULL };
	char *topic = text_of("waddle.responses.%s", module);
	char *session = sql_text(st.sql, "SELECT coalesce((SELECT session_id FROM command_executions "
	                         "WHERE execution_id = '%s'), '%s')", execution_id, execution_id);
	char *body =
		text_of("{\"execution_id\":\"%s\",\"session_id\":\"%s\",\"response_index\":%d,\"final\":%s,"
	                "\"module_name\":\"%s\",\"success\":%s,\"response_action\":\"chat\","
	                "\"chat_message\":\"%s\",\"processing_time_ms\":1}",
	                execution_id, session, index, final ? "true" : "false", module,
	                success ? "true" : "false", chat);

	probe_send(st.kafka, stack_topic(&st, topic), -1, "twitch:1001", body, strlen(body), headers);
	free(session);
	free(topic);
	free(body);
}

static char *execution_of(const char *event_id)
{
	sql_wait_at_least(st.sql, 1, WAIT_MS, "SELECT count(*) FROM command_executions WHERE event_id = '%s'",
	                  event_id);
	return sql_text(st.sql, "SELECT execution_id FROM command_executions WHERE event_id = '%s'",
	                event_id);
}

static void wait_decision(const char *event_id, const char *verdict)
{
	char *got;

	sql_wait_at_least(st.sql, 1, WAIT_MS, "SELECT count(*) FROM event_decisions WHERE event_id = '%s'",
	                  event_id);
	got = sql_text(st.sql, "SELECT verdict FROM event_decisions WHERE event_id = '%s'", event_id);
	assert_string_equal(got, verdict);
	free(got);
	assert_int_equal(
		sql_int(st.sql, "SELECT count(*) FROM command_executions WHERE event_id = '%s'", event_id),
		0);
}

static const char *event_name(const char *word)
{
	static char name[8][80];
	static unsigned at, n;

	at = (at + 1) % 8;
	(void)snprintf(name[at], sizeof name[at], "twitch:%s-%u-%llx", word, n++,
	               (unsigned long long)rnd_next());
	return name[at];
}

static void register_module(const char *name, const char *commands)
{
	const char *const headers[] = { "ce_type: waddle.registry.v1", "ce_specversion: 1.0", NULL };
	char *when = time_text(now_ms());
	char *body = text_of("{\"name\":\"%s\",\"kind\":\"module\",\"version\":\"1.0\",\"instance\":\"i1\","
	                     "\"status\":\"active\",\"heartbeat_at\":\"%s\",\"commands\":[%s]}",
	                     name, when, commands);

	probe_send(st.kafka, stack_topic(&st, "waddle.registry"), 0, name, body, strlen(body), headers);
	free(when);
	free(body);
}

static double notices(void)
{
	char *url = text_of("http://127.0.0.1:%d", child_port(router, "ADMIN_LISTEN"));
	double n = probe_metric(url, "waddle_router_invalidations_total{table=\"command_permissions\"}");

	free(url);
	return n;
}

static bool has_heard(void *before)
{
	return notices() > *(double *)before;
}

/* Returns when the router knows. */
static void enable(const char *command, const char *address, const char *permissions, bool enabled)
{
	double before = notices();

	sql_run(st.sql,
	        "INSERT INTO command_permissions (command_id, entity_id, is_enabled, config, permissions) "
	        "SELECT c.id, e.entity_id, %s, '{\"a\":1}', '%s' FROM commands c, entities e WHERE c.command "
	        "= '%s' "
	        "AND e.address = '%s' ON CONFLICT (command_id, entity_id) DO UPDATE SET "
	        "is_enabled = excluded.is_enabled, permissions = excluded.permissions",
	        enabled ? "true" : "false", permissions, command, address);
	wait_for("the notice", has_heard, &before, WAIT_MS);
}

static int up(void **state)
{
	static const char *const env[] = { "LOG_LEVEL=info", NULL };

	(void)state;
	stack_open(&st, "router", STACK_SCHEMA);
	for (size_t i = 0; i < ARRAY_LEN(topics); i++)
		stack_topic_create(&st, topics[i], i == 1 ? 1 : 4);
	sql_run(st.sql, "INSERT INTO communities (name, display_name, settings) "
	                "VALUES ('cats', 'Cats', '{\"timezone\":\"Europe/Berlin\"}')");
	sql_run(st.sql,
	        "INSERT INTO servers (owner, platform, channel, config) VALUES ('o', 'twitch', '1001', "
	        "'{\"community_id\":2}'), ('o', 'twitch', '1002', '{\"community_id\":2}'), "
	        "('o', 'terminal', 'main', '{\"community_id\":2}')");
	sql_run(st.sql, "INSERT INTO entities (address, platform, channel_id, owner, community_id) "
	                "VALUES ('twitch:1001', 'twitch', '1001', 'o', 2)");
	router = stack_service(&st, "waddle-router", "waddle_router", env);
	child_wait_ready(router, true, 20000);
	register_module(
		"echo",
		"{\"command\":\"echo\",\"prefix\":\"!\",\"description\":\"says it again\",\"timeout\":5},"
		"{\"command\":\"slow\",\"prefix\":\"!\",\"timeout\":1},"
		"{\"command\":\"few\",\"prefix\":\"!\",\"rate_limit\":60},"
		"{\"command\":\"mods\",\"prefix\":\"!\",\"min_role\":\"moderator\"},"
		"{\"command\":\"off\",\"prefix\":\"!\"}");
	sql_wait_int(st.sql, 5, WAIT_MS, "SELECT count(*) FROM commands WHERE module_id = 'echo'");
	enable("echo", "twitch:1001", "{}", true);
	enable("slow", "twitch:1001", "{}", true);
	enable("few", "twitch:1001", "{}", true);
	enable("mods", "twitch:1001", "{\"labels\":[]}", true);
	return 0;
}

static int down(void **state)
{
	(void)state;
	assert_int_equal(child_end(router, WAIT_MS), 0);
	child_free(router);
	stack_close(&st);
	return 0;
}

/* router 8, 16, 45, 56 */
static void a_command_goes_all_the_way(void **state)
{
	const char *id = event_name("way");
	char *execution, *text, *rows, expected[ID_TEXT], message[ID_TEXT];
	struct probe_topic t;
	const struct probe_msg *m = NULL;

	(void)state;
	send_event((struct event){ .id = id, .text = "!EcHo add quote \"a b\" “C D” don't" });
	execution = execution_of(id);
	id_execution(str_of(id), sql_int(st.sql, "SELECT id FROM commands WHERE command = 'echo'"), 0,
	             expected);
	assert_string_equal(execution, expected);
	stack_wait_mentions(&st, "waddle.commands.echo", execution, 1, WAIT_MS);

	probe_read(st.kafka, stack_topic(&st, "waddle.commands.echo"), &t);
	for (size_t i = 0; i < t.n; i++)
		if (strstr(t.msgs[i].value, execution) != NULL)
			m = &t.msgs[i];
	assert_non_null(m);
	assert_string_equal(m->key, "2");
	assert_string_equal(probe_header(m, "ce_type"), "waddle.command.v1");
	assert_string_equal(probe_header(m, "ce_id"), execution);
	assert_non_null(probe_header(m, "traceparent"));
	assert_non_null(probe_header(m, "waddle-deadline"));
	assert_non_null(strstr(m->value, "\"command\":\"echo\""));
	assert_non_null(strstr(m->value, "\"parameters\":[\"add\",\"quote\",\"a b\",\"C D\",\"don't\"]"));
	assert_non_null(strstr(m->value, "\"community_id\":2"));
	assert_non_null(strstr(m->value, "\"a\": 1"));
	assert_non_null(strstr(m->value, "\"timezone\": \"Europe/Berlin\""));
	assert_non_null(strstr(m->value, "\"community_role\":\"member\""));
	probe_free(&t);

	rows = sql_rows(st.sql,
	                "SELECT status, community_id, user_id, module_name, parameters->>2 "
	                "FROM command_executions WHERE execution_id = '%s'",
	                execution);
	assert_string_equal(rows, "pending|2|7|echo|a b\n");
	free(rows);

	respond_as("echo", execution, 0, true, true, "so be it");
	sql_wait_int(st.sql, 1, WAIT_MS,
	             "SELECT count(*) FROM command_executions WHERE execution_id = '%s' "
	             "AND status = 'success' AND response_status = 200 AND completed_at IS NOT NULL "
	             "AND execution_time_ms >= 0",
	             execution);
	assert_int_equal(sql_int(st.sql,
	                         "SELECT count(*) FROM module_responses WHERE execution_id = '%s' "
	                         "AND chat_message = 'so be it' AND final",
	                         execution),
	                 1);
	assert_int_equal(sql_int(st.sql,
	                         "SELECT p.usage_count FROM command_permissions p JOIN commands c "
	                         "ON c.id = p.command_id WHERE c.command = 'echo' AND last_used IS NOT NULL"),
	                 1);
	stack_wait_mentions(&st, "waddle.outbound.twitch", "so be it", 1, WAIT_MS);
	probe_read(st.kafka, stack_topic(&st, "waddle.outbound.twitch"), &t);
	id_outbound(str_of(execution), 0, 0, message);
	text = text_of("\"message_id\":\"%s\"", message);
	assert_int_equal(t.n, 1);
	assert_non_null(strstr(t.msgs[0].value, text));
	assert_non_null(strstr(t.msgs[0].value, "\"entity\":\"twitch:1001\""));
	assert_non_null(strstr(t.msgs[0].value, "\"in_reply_to\":\"m-1\""));
	assert_string_equal(t.msgs[0].key, "1001");
	free(text);
	probe_free(&t);
	free(execution);
}

/* router 62 */
static void an_event_delivered_five_times_runs_once(void **state)
{
	const char *id = event_name("five");
	int64_t at = now_ms(), used;
	char *execution;

	(void)state;
	used = sql_int(st.sql, "SELECT p.usage_count FROM command_permissions p JOIN commands c "
	                       "ON c.id = p.command_id WHERE c.command = 'echo'");
	for (int i = 0; i < 5; i++)
		send_event((struct event){ .id = id, .text = "!echo five", .received_ms = at });
	execution = execution_of(id);
	stack_wait_mentions(&st, "waddle.commands.echo", execution, 5, WAIT_MS);       /* the module's inbox tells them apart */
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM command_executions WHERE event_id = '%s'", id),
	                 1);
	assert_int_equal(sql_int(st.sql, "SELECT p.usage_count FROM command_permissions p JOIN commands c "
	                                 "ON c.id = p.command_id WHERE c.command = 'echo'"),
	                 used + 1);
	free(execution);
}

/* router 11, 12 */
static void what_is_not_enabled_or_unknown_does_not_run(void **state)
{
	const char *unknown = event_name("unknown"), *off = event_name("off"),
		   *strange = event_name("strange");

	(void)state;
	send_event((struct event){ .id = unknown, .text = "!nosuch" });
	wait_decision(unknown, "unknown_command");
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM event_decisions WHERE event_id = '%s' AND code = 404 "
	                         "AND reason = '!nosuch: no module offers a command of that name'", unknown), 1);
	send_event((struct event){ .id = off, .text = "!off" });
	wait_decision(off, "not_enabled");
	send_event((struct event){ .id = strange, .text = "!echo", .channel = "9999" });
	wait_decision(strange, "not_monitored");
}

/* router, section 6: made once, with the community its server names; then a change is seen at once
 * (router 23, in one process). */
static void a_monitored_channel_gets_its_entity(void **state)
{
	const char *first = event_name("new"), *second = event_name("new");
	char *execution;

	(void)state;
	send_event((struct event){ .id = first, .text = "!echo", .channel = "1002" });
	wait_decision(first, "not_enabled");
	assert_int_equal(sql_int(st.sql, "SELECT community_id FROM entities WHERE address = 'twitch:1002'"),
	                 2);
	enable("echo", "twitch:1002", "{}", true);
	send_event((struct event){ .id = second, .text = "!echo again", .channel = "1002" });
	execution = execution_of(second);
	assert_non_null(execution);
	free(execution);
}

/* router 58 */
static void roles_labels_and_lists_decide(void **state)
{
	const char *id = event_name("member");

	(void)state;
	send_event((struct event){ .id = id, .text = "!mods" });
	wait_decision(id, "denied_role");
	id = event_name("moderator");
	send_event((struct event){ .id = id, .text = "!mods", .roles = "\"moderator\",\"member\"" });
	free(execution_of(id));

	sql_run(st.sql, "INSERT INTO community_labels (community_id, platform, user_id, label, applied_by) "
	                "VALUES (2, 'twitch', '20', 'dj', 'o')");
	sql_run(st.sql, "INSERT INTO community_members (community_id, platform, user_id, role) "
	                "VALUES (2, 'twitch', '30', 'owner')");
	enable("mods", "twitch:1001",
	       "{\"min_role\":\"member\",\"labels\":[\"DJ\"],\"deny_users\":[\"30\"],"
	       "\"allow_users\":[\"40\"]}",
	       true);
	id = event_name("nolabel");
	send_event((struct event){ .id = id, .text = "!mods", .user = "21" });
	wait_decision(id, "denied_label");
	id = event_name("label");
	send_event((struct event){ .id = id, .text = "!mods", .user = "20" });
	free(execution_of(id));
	id = event_name("denied");
	send_event((struct event){ .id = id, .text = "!mods", .user = "30" });
	wait_decision(id, "denied_user");
	enable("mods", "twitch:1001", "{\"min_role\":\"admin\",\"allow_users\":[\"40\"]}", true);
	id = event_name("allowed");
	send_event((struct event){ .id = id, .text = "!mods", .user = "40" });
	free(execution_of(id));
}

/* router 13, 14 */
static void sixty_a_minute_and_not_one_more(void **state)
{
	int64_t at = now_ms() - 30000;
	const char *like = "twitch:few-%";

	(void)state;
	for (int i = 0; i < 65; i++) {
		char *id = text_of("twitch:few-%d", i);

		send_event(
			(struct event){ .id = id, .text = "!few", .user = "50", .received_ms = at + i * 10 });
		free(id);
	}
	send_event((struct event){
		.id = "twitch:few-else", .text = "!few", .user = "51", .received_ms = at + 700 });
	send_event((struct event){
		.id = "twitch:few-later", .text = "!few", .user = "50", .received_ms = at + 60001 });

	sql_wait_int(st.sql, 62, WAIT_MS, "SELECT count(*) FROM command_executions WHERE event_id LIKE '%s'",
	             like);
	sql_wait_int(st.sql, 5, WAIT_MS,
	             "SELECT count(*) FROM event_decisions WHERE event_id LIKE '%s' "
	             "AND verdict = 'rate_limited' AND code = 429",
	             like);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM command_executions WHERE event_id IN "
	                                 "('twitch:few-else', 'twitch:few-later')"),
	                 2);
}

/* router 69 */
static void poison_goes_to_the_dead_letters_and_the_partition_goes_on(void **state)
{
	const char *after = event_name("after");
	const char *const headers[] = { "ce_type: waddle.event.v1", NULL };
	struct probe_topic t;
	const struct probe_msg *m = NULL;
	char *execution;

	(void)state;
	probe_send(st.kafka, stack_topic(&st, "waddle.events"), -1, "twitch:1001", "{\"event_id\":", 12,
	           headers);
	send_event((struct event){ .id = after, .text = "!echo after" });
	execution = execution_of(after);
	stack_wait_mentions(&st, "waddle.dlq", "{\"event_id\":", 1, WAIT_MS);
	probe_read(st.kafka, stack_topic(&st, "waddle.dlq"), &t);
	for (size_t i = 0; i < t.n; i++)
		if (t.msgs[i].value_n == 12)
			m = &t.msgs[i];
	assert_non_null(m);
	assert_string_equal(probe_header(m, "waddle-reason"), "bad_json");
	assert_string_equal(probe_header(m, "waddle-origin-topic"), "waddle.events");
	assert_non_null(probe_header(m, "waddle-origin-partition"));
	assert_non_null(probe_header(m, "waddle-origin-offset"));
	probe_free(&t);
	free(execution);
}

/* router 42, the Kafka side */
static void answers_to_nothing_and_of_others_are_refused(void **state)
{
	const char *id = event_name("theft");
	char *execution;

	(void)state;
	respond_as("echo", "11111111-1111-5111-8111-111111111111", 0, true, true, "to nobody");
	stack_wait_mentions(&st, "waddle.dlq", "to nobody", 1, WAIT_MS);
	send_event((struct event){ .id = id, .text = "!echo theft" });
	execution = execution_of(id);
	respond_as("other", execution, 0, true, true, "not mine");
	stack_wait_mentions(&st, "waddle.dlq", "not mine", 1, WAIT_MS);
	assert_int_equal(sql_int(st.sql,
	                         "SELECT count(*) FROM command_executions WHERE execution_id = '%s' "
	                         "AND status = 'pending'",
	                         execution),
	                 1);
	assert_int_equal(stack_mentions(&st, "waddle.outbound.twitch", "not mine"), 0);
	free(execution);
}

/* router 17, 71 */
static void silence_is_a_time_out_and_a_late_answer_is_delivered(void **state)
{
	const char *id = event_name("silent");
	char *execution;

	(void)state;
	send_event((struct event){ .id = id, .text = "!slow" });
	execution = execution_of(id);
	sql_wait_int(st.sql, 1, WAIT_MS,
	             "SELECT count(*) FROM command_executions WHERE execution_id = '%s' "
	             "AND status = 'failed' AND response_status = 504 AND error_message = 'timeout'",
	             execution);
	stack_wait_mentions(&st, "waddle.outbound.twitch", "!slow did not answer in time.", 1, WAIT_MS);
	respond_as("echo", execution, 0, true, true, "better late");
	stack_wait_mentions(&st, "waddle.outbound.twitch", "better late", 1, WAIT_MS);
	assert_int_equal(sql_int(st.sql,
	                         "SELECT count(*) FROM module_responses WHERE execution_id = '%s' AND late",
	                         execution),
	                 1);
	assert_int_equal(sql_int(st.sql,
	                         "SELECT count(*) FROM command_executions WHERE execution_id = '%s' "
	                         "AND status = 'failed'",
	                         execution),
	                 1);
	free(execution);
}

/* router 73 */
static void several_answers_are_kept_once_each(void **state)
{
	const char *id = event_name("several");
	char *execution, first[ID_TEXT], second[ID_TEXT];

	(void)state;
	send_event((struct event){ .id = id, .text = "!echo several" });
	execution = execution_of(id);
	respond_as("echo", execution, 0, false, true, "part one");
	respond_as("echo", execution, 1, true, true, "part two");
	respond_as("echo", execution, 1, true, true, "part two");
	id_outbound(str_of(execution), 0, 0, first);
	id_outbound(str_of(execution), 1, 0, second);
	stack_wait_mentions(&st, "waddle.outbound.twitch", first, 1, WAIT_MS);
	stack_wait_mentions(&st, "waddle.outbound.twitch", second, 2, WAIT_MS);     /* the same id: the collector sends it once */
	assert_int_equal(
		sql_int(st.sql, "SELECT count(*) FROM module_responses WHERE execution_id = '%s'", execution),
		2);
	sql_wait_int(st.sql, 1, WAIT_MS,
	             "SELECT count(*) FROM command_executions WHERE execution_id = '%s' "
	             "AND status = 'success'",
	             execution);
	free(execution);
}

/* router 9, section 19: plain chat is only counted. */
static void plain_chat_leaves_no_trace(void **state)
{
	const char *id = event_name("end");
	int64_t rows = sql_int(st.sql, "SELECT count(*) FROM command_executions");
	int64_t decided = sql_int(st.sql, "SELECT count(*) FROM event_decisions");

	(void)state;
	for (int i = 0; i < 200; i++) {
		char *chat = text_of("twitch:chat-%d", i);

		send_event((struct event){ .id = chat, .text = i % 2 ? "hello" : "! not a command" });
		free(chat);
	}
	send_event((struct event){ .id = id, .text = "!echo end" });
	free(execution_of(id));
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM command_executions"), rows + 1);
	assert_int_equal(sql_int(st.sql, "SELECT count(*) FROM event_decisions"), decided);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_command_goes_all_the_way),
		cmocka_unit_test(an_event_delivered_five_times_runs_once),
		cmocka_unit_test(what_is_not_enabled_or_unknown_does_not_run),
		cmocka_unit_test(a_monitored_channel_gets_its_entity),
		cmocka_unit_test(roles_labels_and_lists_decide),
		cmocka_unit_test(sixty_a_minute_and_not_one_more),
		cmocka_unit_test(poison_goes_to_the_dead_letters_and_the_partition_goes_on),
		cmocka_unit_test(answers_to_nothing_and_of_others_are_refused),
		cmocka_unit_test(silence_is_a_time_out_and_a_late_answer_is_delivered),
		cmocka_unit_test(several_answers_are_kept_once_each),
		cmocka_unit_test(plain_chat_leaves_no_trace),
	};

	return !!cmocka_run_group_tests_name("router", tests, up, down);
}

/* cast.c - see cast.h. */
#include "cast.h"
#include "ids.h"
#include "str.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

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

void cast_open(struct cast *c, const char *name, int channels, const char *const *modules, const char *const *env)
{
	static const char *const topics[] = { "waddle.events", "waddle.dlq", "waddle.outbound.twitch" };

	*c = (struct cast){ .channels = channels };
	stack_open(&c->st, name, STACK_SCHEMA);
	stack_topic_create(&c->st, "waddle.registry", 1);
	for (size_t i = 0; i < ARRAY_LEN(topics); i++)
		stack_topic_create(&c->st, topics[i], 2);
	for (; *modules != NULL; modules++) {
		char *commands = text_of("waddle.commands.%s", *modules), *responses = text_of("waddle.responses.%s", *modules);

		stack_topic_create(&c->st, commands, 2);
		stack_topic_create(&c->st, responses, 2);
		free(commands);
		free(responses);
	}
	for (int i = 0; i < channels; i++) {
		sql_run(c->st.sql, "INSERT INTO communities (id, name, display_name) OVERRIDING SYSTEM VALUE "
		                   "VALUES (%d, 'c%d', 'C%d')", i + 2, i, i);
		sql_run(c->st.sql, "INSERT INTO servers (owner, platform, channel, config) VALUES ('o', 'twitch', '%d', "
		                   "'{\"community_id\":%d}')", 1001 + i, i + 2);
		sql_run(c->st.sql, "INSERT INTO entities (address, platform, channel_id, owner, community_id) "
		                   "VALUES ('twitch:%d', 'twitch', '%d', 'o', %d)", 1001 + i, 1001 + i, i + 2);
	}
	c->router = stack_service(&c->st, "waddle-router", "waddle_router", env);
	child_wait_ready(c->router, true, 20000);
}

void cast_close(struct cast *c)
{
	if (child_end(c->router, CAST_WAIT_MS) != 0)
		harness_fail("the router did not end with status 0");
	child_free(c->router);
	stack_close(&c->st);
}

void cast_register(struct cast *c, const char *module, const char *commands, int n)
{
	const char *const headers[] = { "ce_type: waddle.registry.v1", "ce_specversion: 1.0", NULL };
	char *when = time_text(now_ms());
	char *body = text_of("{\"name\":\"%s\",\"kind\":\"module\",\"version\":\"1.0\",\"instance\":\"i1\","
	                     "\"status\":\"active\",\"heartbeat_at\":\"%s\",\"commands\":[%s]}",
	                     module, when, commands);

	probe_send(c->st.kafka, stack_topic(&c->st, "waddle.registry"), 0, module, body, strlen(body), headers);
	free(when);
	free(body);
	sql_wait_int(c->st.sql, n, CAST_WAIT_MS, "SELECT count(*) FROM commands WHERE module_id = '%s'", module);
	sql_run(c->st.sql, "INSERT INTO command_permissions (command_id, entity_id, is_enabled) "
	                   "SELECT c.id, e.entity_id, true FROM commands c, entities e WHERE c.module_id = '%s' "
	                   "ON CONFLICT DO NOTHING", module);
}

static void deliver(struct cast *c, int channel, const char *event_id, int64_t at_ms, const char *text)
{
	const char *const headers[] = { "ce_type: waddle.event.v1", "ce_specversion: 1.0", NULL };
	char *when = time_text(at_ms), *key = text_of("twitch:%d", 1001 + channel);
	char *body = text_of("{\"event_id\":\"%s\",\"dedupe_key\":\"d:%s\",\"platform\":\"twitch\",\"channel_id\":\"%d\","
	                     "\"entity\":\"%s\",\"user\":{\"id\":\"7\",\"name\":\"n7\",\"roles\":[\"member\"]},"
	                     "\"message_type\":\"chatMessage\",\"occurred_at\":\"%s\",\"received_at\":\"%s\","
	                     "\"metadata\":{\"message_id\":\"m-%s\"},\"message_content\":\"%s\"}",
	                     event_id, event_id, 1001 + channel, key, when, when, event_id, text);

	probe_send(c->st.kafka, stack_topic(&c->st, "waddle.events"), -1, key, body, strlen(body), headers);
	free(when);
	free(key);
	free(body);
}

/* The time of an event stands in its id, so that it can be delivered again as it was. */
char *cast_say(struct cast *c, int channel, const char *fmt, ...)
{
	static unsigned n;
	int64_t at = now_ms();
	char text[256], *id = text_of("twitch:%lld-%u-%llx", (long long)at, n++, (unsigned long long)rnd_next());
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	deliver(c, channel, id, at, text);
	return id;
}

void cast_again(struct cast *c, int channel, const char *event_id, const char *text)
{
	deliver(c, channel, event_id, strtoll(event_id + 7, NULL, 10), text);
}

size_t cast_told(struct cast *c, const char *module, const char *event_id)
{
	char *topic = text_of("waddle.commands.%s", module);
	struct probe_topic t;
	size_t n = 0;

	probe_read(c->st.kafka, stack_topic(&c->st, topic), &t);
	for (size_t i = 0; i < t.n; i++)
		n += t.msgs[i].value != NULL && strstr(t.msgs[i].value, event_id) != NULL;
	probe_free(&t);
	free(topic);
	return n;
}

struct wanted { struct cast *c; const char *module, *event_id; size_t n; };

static bool is_told(void *arg)
{
	const struct wanted *w = arg;

	return cast_told(w->c, w->module, w->event_id) >= w->n;
}

void cast_wait_told(struct cast *c, const char *module, const char *event_id, size_t n)
{
	struct wanted w = { c, module, event_id, n };

	wait_for(module, is_told, &w, CAST_WAIT_MS);
}

void cast_answer(struct cast *c, const char *module, const char *event_id, bool success)
{
	const char *const headers[] = { "ce_type: waddle.response.v1", "ce_specversion: 1.0", NULL };
	char *topic = text_of("waddle.responses.%s", module), session[ID_TEXT], *body;
	char *execution = sql_text(c->st.sql, "SELECT execution_id FROM command_executions WHERE event_id = '%s' "
	                                      "AND module_name = '%s'", event_id, module);

	if (execution == NULL)
		harness_fail("%s has no execution of %s", module, event_id);
	id_session(str_of(event_id), session);
	body = text_of("{\"execution_id\":\"%s\",\"session_id\":\"%s\",\"response_index\":0,\"final\":true,"
	               "\"module_name\":\"%s\",\"success\":%s,\"response_action\":\"chat\","
	               "\"chat_message\":\"%s of %s\",\"processing_time_ms\":1}",
	               execution, session, module, success ? "true" : "false", module, event_id);
	probe_send(c->st.kafka, stack_topic(&c->st, topic), -1, "twitch:1001", body, strlen(body), headers);
	free(topic);
	free(execution);
	free(body);
}

void cast_wait_status(struct cast *c, const char *module, const char *event_id, const char *status)
{
	sql_wait_int(c->st.sql, 1, CAST_WAIT_MS, "SELECT count(*) FROM command_executions WHERE event_id = '%s' "
	                                         "AND module_name = '%s' AND status = '%s'", event_id, module, status);
}

double cast_metric(struct cast *c, const char *series)
{
	char *url = text_of("http://127.0.0.1:%d", child_port(c->router, "ADMIN_LISTEN"));
	double v = probe_metric(url, series);

	free(url);
	return v;
}

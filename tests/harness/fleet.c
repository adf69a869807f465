/* fleet.c - see fleet.h. */
#include "fleet.h"

#include "clock.h"

#include <time.h>

enum { WAIT_MS = 20000 };

int64_t fleet_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void fleet_open(struct fleet *f, const char *name, int channels)
{
	static const char *const topics[] = {
		"waddle.registry", "waddle.dlq", "waddle.commands.fleet", "waddle.responses.fleet", "waddle.outbound.twitch",
	};

	stack_open(&f->st, name, STACK_SCHEMA);
	stack_topic_create(&f->st, "waddle.events", FLEET_PARTITIONS);
	for (size_t i = 0; i < ARRAY_LEN(topics); i++)
		stack_topic_create(&f->st, topics[i], i == 0 ? 1 : 2);
	f->channels = channels;
	for (int i = 0; i < channels; i++)
		sql_run(f->st.sql,
		        "WITH s AS (INSERT INTO servers (owner, platform, channel) VALUES ('o', 'twitch', '%d')) "
		        "INSERT INTO entities (address, platform, channel_id, owner) "
		        "VALUES ('twitch:%d', 'twitch', '%d', 'o')",
		        1001 + i, 1001 + i, 1001 + i);
	bus_client_open(&f->bus, f->st.kafka, f->st.prefix);
}

void fleet_close(struct fleet *f)
{
	for (int i = 0; i < FLEET_ROUTERS; i++)
		if (f->router[i] != NULL && child_running(f->router[i]) && child_end(f->router[i], WAIT_MS) != 0) {
			child_show_log(f->router[i]);
			harness_fail("router %d did not end with 0", i);
		}
	for (int i = 0; i < FLEET_ROUTERS; i++)
		child_free(f->router[i]);
	bus_client_close(&f->bus);
	stack_close(&f->st);
}

/* A dead process's partitions are free when its session has ended: 6 s, the broker's least. */
void fleet_start(struct fleet *f, int i, const char *const *more)
{
	const char *env[16] = { "KAFKA_SESSION_TIMEOUT_MS=6000", "KAFKA_HEARTBEAT_INTERVAL_MS=1000" };
	char *name = text_of("INSTANCE=r%d", i);
	size_t n = 2;

	env[n++] = name;
	while (more != NULL && *more != NULL && n < ARRAY_LEN(env) - 1)
		env[n++] = *more++;
	if (f->router[i] != NULL)
		child_start(f->router[i]);
	else
		f->router[i] = stack_service(&f->st, "waddle-router", "waddle_router", env);
	child_wait_ready(f->router[i], true, WAIT_MS);
	free(name);
}

void fleet_wait_owners(struct fleet *f, int n, const int *routers)
{
	char list[64] = "";

	for (int i = 0; i < n; i++) {
		size_t at = strlen(list);

		(void)snprintf(list + at, sizeof list - at, "%s'r%d'", i > 0 ? "," : "", routers[i]);
	}
	sql_wait_int(f->st.sql, FLEET_PARTITIONS * 100 + n, 2 * WAIT_MS,
	             "SELECT count(*) FILTER (WHERE owner IN (%s)) * 100 + count(DISTINCT owner) FROM router_partitions",
	             list);
}

/* The default partitioner, so that the test need not know it: where the last event of the channel went. */
int fleet_owner(struct fleet *f, int channel)
{
	struct probe_topic t;
	char *key = text_of("twitch:%d", 1001 + channel);
	int partition = -1;

	probe_read(f->st.kafka, stack_topic(&f->st, "waddle.events"), &t);
	for (size_t i = 0; i < t.n; i++)
		if (t.msgs[i].key != NULL && strcmp(t.msgs[i].key, key) == 0)
			partition = t.msgs[i].partition;
	probe_free(&t);
	free(key);
	return (int)sql_int(f->st.sql, "SELECT substr(owner, 2)::integer FROM router_partitions WHERE partition = %d",
	                    partition);
}

void fleet_command(struct fleet *f, const char *name, int rate_limit)
{
	sql_run(f->st.sql,
	        "WITH c AS (INSERT INTO commands (command, prefix, location, location_url, module_id, rate_limit) "
	        "VALUES ('%s', '!', 'internal', 'kafka:fleet', 'fleet', %d) RETURNING id) "
	        "INSERT INTO command_permissions (command_id, entity_id) SELECT c.id, e.entity_id FROM c, entities e",
	        name, rate_limit);
}

void fleet_send(struct fleet *f, struct fleet_event e)
{
	char when[CLOCK_TEXT], *key = text_of("twitch:%d", 1001 + e.channel), *body;

	clock_text(e.received_ms != 0 ? e.received_ms : fleet_now_ms(), when);
	body = text_of("{\"event_id\":\"%s\",\"dedupe_key\":\"d:%s\",\"platform\":\"twitch\",\"channel_id\":\"%d\","
	               "\"entity\":\"%s\",\"user\":{\"id\":\"%s\",\"name\":\"n%s\",\"roles\":[\"member\"]},"
	               "\"message_type\":\"chatMessage\",\"occurred_at\":\"%s\",\"received_at\":\"%s\","
	               "\"metadata\":{},\"message_content\":\"%s\"}",
	               e.id, e.id, 1001 + e.channel, key, e.user, e.user, when, when, e.text);
	if (bus_client_send(&f->bus, "waddle.events", key, body) != 0)
		harness_fail("an event could not be sent");
	free(key);
	free(body);
}

void fleet_flush(struct fleet *f)
{
	if (!bus_client_run(&f->bus, &f->bus.acked, f->bus.sent, WAIT_MS))
		harness_fail("the broker did not take all events");
}

void fleet_wait_verdicts(struct fleet *f, int64_t n, const char *like, int64_t max_ms)
{
	sql_wait_int(f->st.sql, n, max_ms,
	             "SELECT count(*) FROM (SELECT event_id FROM command_executions WHERE event_id LIKE '%s' "
	             "UNION SELECT event_id FROM event_decisions WHERE event_id LIKE '%s') v",
	             like, like);
}

int64_t fleet_ran(struct fleet *f, const char *like)
{
	return sql_int(f->st.sql, "SELECT count(*) FROM command_executions WHERE event_id LIKE '%s'", like);
}

int64_t fleet_refused(struct fleet *f, const char *like)
{
	return sql_int(f->st.sql,
	               "SELECT count(*) FROM event_decisions WHERE event_id LIKE '%s' AND verdict = 'rate_limited' "
	               "AND code = 429",
	               like);
}

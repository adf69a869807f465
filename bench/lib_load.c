/* lib_load.c - events by the hundred thousand, and what to compare with. */
#include "lib_load.h"
#include "lib.h"
#include "ids.h"
#include "probe.h"
#include "str.h"
#include "wait.h"

enum { USERS = 20000, WINDOW = 2048 };

char *load_wire(struct stack *st, const char *topic)
{
	return text_of("%s", stack_topic(st, topic));
}

void load_open(struct stack *st, const char *name, int partitions)
{
	static const char *const topics[] = {
		"waddle.events", "waddle.commands.sink", "waddle.commands.memories", "waddle.responses.memories",
		"waddle.responses.sink", "waddle.outbound.terminal", "waddle.outbound.twitch", "waddle.registry",
		"waddle.dlq", "waddle.floor.in", "waddle.floor.trips", "waddle.floor.commands", "waddle.floor.responses", "waddle.floor.out",
	};

	stack_open(st, name, STACK_SCHEMA);
	for (size_t i = 0; i < ARRAY_LEN(topics); i++)
		stack_topic_create(st, topics[i], strcmp(topics[i], "waddle.registry") == 0 ? 1 : partitions);
	sql_run(st->sql,
	        "INSERT INTO communities (name, display_name) "
	        "SELECT 'c' || i, 'Community ' || i FROM generate_series(0, %d) i",
	        SUITE_COMMUNITIES - 1);
	sql_run(st->sql,
	        "INSERT INTO servers (owner, platform, channel, config) SELECT 'o', 'terminal', 'c' || i, "
	        "'{}' "
	        "FROM generate_series(0, %d) i",
	        SUITE_COMMUNITIES - 1);
	sql_run(st->sql,
	        "INSERT INTO entities (address, platform, channel_id, owner, community_id) "
	        "SELECT 'terminal:c' || i, 'terminal', 'c' || i, 'o', c.id FROM generate_series(0, %d) i "
	        "JOIN communities c ON c.name = 'c' || i",
	        SUITE_COMMUNITIES - 1);
}

void load_enable(struct stack *st, const char *command)
{
	sql_wait_at_least(st->sql, 1, 20000, "SELECT count(*) FROM commands WHERE command = '%s'", command);
	/* The limit is the user's, not the suite's: it would only turn commands into refusals. */
	sql_run(st->sql, "UPDATE commands SET rate_limit = 0, timeout = 60 WHERE command = '%s'", command);
	sql_run(st->sql,
	        "INSERT INTO command_permissions (command_id, entity_id) SELECT c.id, e.entity_id "
	        "FROM commands c, entities e WHERE c.command = '%s' ON CONFLICT DO NOTHING",
	        command);
}

void load_register(struct stack *st, const char *module, const char *command)
{
	sql_run(st->sql,
	        "INSERT INTO commands (command, prefix, location_url, location, module_id, timeout) "
	        "VALUES ('%s', '!', 'kafka:%s', 'internal', '%s', 60)",
	        command, module, module);
	load_enable(st, command);
}

void load_memories(struct stack *st)
{
	sql_run(st->sql,
	        "INSERT INTO memories (community_id, entity_id, memory_type, title, content, author, "
	        "created_by, "
	        "created_by_name) SELECT community_id, entity_id, 'quote', 'Quote by Ada', 'we ship on "
	        "Friday, ' || i, "
	        "'Ada', 'u', 'u' FROM entities, generate_series(1, 20) i WHERE platform = 'terminal'");
	stack_wait_replay(st, 30000);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char text[512];

	if (rd_kafka_conf_set(conf, name, value, text, sizeof text) != RD_KAFKA_CONF_OK)
		harness_fail("%s: %s", name, text);
}

rd_kafka_t *load_producer(struct stack *st, void (*delivered)(rd_kafka_t *, const rd_kafka_message_t *, void *),
                           void *opaque)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *rk;
	char text[512];

	set(conf, "bootstrap.servers", st->kafka);
	set(conf, "enable.idempotence", "true");
	set(conf, "acks", "all");
	set(conf, "compression.type", "lz4");
	set(conf, "partitioner", "murmur2_random");
	set(conf, "linger.ms", "0");
	set(conf, "queue.buffering.max.messages", "1000000");
	rd_kafka_conf_set_dr_msg_cb(conf, delivered);
	rd_kafka_conf_set_opaque(conf, opaque);
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
	if (rk == NULL)
		harness_fail("producer: %s", text);
	return rk;
}

void load_produce(rd_kafka_t *rk, const char *topic, const char *key, size_t key_n, const char *body, size_t n)
{
	for (;;) {
		rd_kafka_resp_err_t e = rd_kafka_producev(
			rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_KEY(key, key_n),
			RD_KAFKA_V_VALUE((void *)(uintptr_t)body, n),
			RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
			RD_KAFKA_V_HEADER("ce_type", "waddle.event.v1", -1), RD_KAFKA_V_END);

		if (e == RD_KAFKA_RESP_ERR_NO_ERROR)
			return;
		if (e != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			harness_fail("produce: %s", rd_kafka_err2str(e));
		rd_kafka_poll(rk, 100);
	}
}

static void time_text(char out[96])
{
	struct timespec t;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &t);
	gmtime_r(&t.tv_sec, &tm);
	(void)snprintf(out, 96, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ", tm.tm_year + 1900, tm.tm_mon + 1,
	               tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, t.tv_nsec / 1000000);
}

void load_event(struct load_event *e, size_t i, const char *text)
{
	char when[96], id[ID_TEXT], first[9];
	unsigned channel = (unsigned)(i % SUITE_COMMUNITIES);
	unsigned long user =
		(unsigned long)rnd_below(USERS / SUITE_COMMUNITIES) * SUITE_COMMUNITIES + channel;
	int n;

	id_random(id);
	(void)snprintf(first, sizeof first, "%08x", (unsigned)i);
	memcpy(id, first, 8);
	time_text(when);
	e->key_n = (size_t)snprintf(e->key, sizeof e->key, "terminal:c%u", channel);
	n = snprintf(
		e->body, sizeof e->body,
		"{\"event_id\":\"terminal:%s\",\"dedupe_key\":\"terminal:chat:%s\",\"platform\":\"terminal\","
		"\"server_id\":null,\"channel_id\":\"c%u\",\"entity\":\"%s\",\"user\":{\"id\":\"%lu\","
		"\"name\":\"viewer_%lu\",\"display_name\":\"Viewer_%lu\",\"roles\":[\"moderator\",\"member\"]"
	        "},"
		"\"message_type\":\"chatMessage\",\"message_content\":\"%s\",\"amount\":null,\"occurred_at\":"
	        "\"%s\","
		"\"received_at\":\"%s\",\"reply_ref\":\"%s\",\"metadata\":{\"message_id\":\"%s\",\"color\":"
	        "\"#1E90FF\","
		"\"badges\":[{\"set_id\":\"subscriber\",\"id\":\"6\"}]}}",
		id, id, channel, e->key, user, user, user, text, when, when, id, id);
	if (n < 0 || (size_t)n >= sizeof e->body)
		harness_fail("an event does not fit");
	e->n = (size_t)n;
}

void load_fill(struct stack *st, const char *topic, size_t n, const char *text)
{
	rd_kafka_t *rk = load_producer(st, NULL, NULL);
	char *name = load_wire(st, topic);
	struct load_event e;

	for (size_t i = 0; i < n; i++) {
		load_event(&e, i, text);
		load_produce(rk, name, e.key, e.key_n, e.body, e.n);
		if (i % 1000 == 0)
			rd_kafka_poll(rk, 0);
	}
	if (rd_kafka_flush(rk, 60000) != RD_KAFKA_RESP_ERR_NO_ERROR)
		harness_fail("the broker did not take the load within a minute");
	rd_kafka_destroy(rk);
	free(name);
}

/* Measuring ------------------------------------------------------------------------------------ */

struct load_meter { rd_kafka_t *rk; size_t n; };

rd_kafka_t *load_consumer(struct stack *st, const char *topic, const char *group)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	char *name = load_wire(st, topic), id[ID_TEXT], text[512];
	rd_kafka_t *rk;

	id_random(id);
	set(conf, "bootstrap.servers", st->kafka);
	set(conf, "group.id", group != NULL ? group : id);
	set(conf, "auto.offset.reset", "earliest");
	set(conf, "enable.auto.commit", group != NULL ? "true" : "false");
	set(conf, "fetch.wait.max.ms", "50");
	rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text);
	if (rk == NULL)
		harness_fail("consumer: %s", text);
	rd_kafka_poll_set_consumer(rk);
	rd_kafka_topic_partition_list_add(list, name, RD_KAFKA_PARTITION_UA);
	if (rd_kafka_subscribe(rk, list) != RD_KAFKA_RESP_ERR_NO_ERROR)
		harness_fail("cannot subscribe %s", name);
	rd_kafka_topic_partition_list_destroy(list);
	free(name);
	return rk;
}

struct load_meter *load_meter_open(struct stack *st, const char *topic)
{
	struct load_meter *m = XNEW(struct load_meter);

	m->rk = load_consumer(st, topic, NULL);
	return m;
}

size_t load_meter_run(struct load_meter *m, size_t want, double limit_s, double *first_s, double *last_s)
{
	double until = bench_now_s() + limit_s;

	*first_s = *last_s = 0;
	while (m->n < want && bench_now_s() < until) {
		rd_kafka_message_t *msg = rd_kafka_consumer_poll(m->rk, 100);

		if (msg == NULL)
			continue;
		if (msg->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
			m->n++;
			if (*first_s == 0 || m->n % 256 == 0 || m->n == want)
				*last_s = bench_now_s();
			if (*first_s == 0)
				*first_s = *last_s;
		}
		rd_kafka_message_destroy(msg);
	}
	return m->n;
}

void load_meter_close(struct load_meter *m)
{
	rd_kafka_consumer_close(m->rk);
	rd_kafka_destroy(m->rk);
	free(m);
}

double load_trip(struct stack *st, size_t n, const char *text)
{
	rd_kafka_t *to = load_producer(st, NULL, NULL),
		   *from = load_consumer(st, "waddle.outbound.terminal", "trip");
	char *topic = load_wire(st, "waddle.events");
	double first = 0, last = 0, until = bench_now_s() + 120;
	size_t sent = 0, got = 0;

	while (got < n && bench_now_s() < until) {
		rd_kafka_message_t *msg;
		struct load_event e;

		for (; sent < n && sent - got < WINDOW; sent++) {
			load_event(&e, sent, text);
			load_produce(to, topic, e.key, e.key_n, e.body, e.n);
		}
		rd_kafka_poll(to, 0);
		msg = rd_kafka_consumer_poll(from, 20);
		for (; msg != NULL; msg = rd_kafka_consumer_poll(from, 0)) {
			got += msg->err == RD_KAFKA_RESP_ERR_NO_ERROR;
			rd_kafka_message_destroy(msg);
			if (first == 0 && got > 0)
				first = bench_now_s();
			if (sent - got < WINDOW / 2)
				break;
		}
		last = bench_now_s();
	}
	rd_kafka_consumer_close(from);
	rd_kafka_destroy(from);
	rd_kafka_destroy(to);
	free(topic);
	if (got < n)
		harness_fail("only %zu of %zu answers came", got, n);
	return (double)n / (last - first);
}

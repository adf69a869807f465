/* lib_suite.c - events by the hundred thousand, and what to compare with. */
#include "lib_suite.h"
#include "lib.h"
#include "ids.h"
#include "probe.h"
#include "str.h"
#include "wait.h"

#include <json.h>
#include <libpq-fe.h>
#include <librdkafka/rdkafka.h>

enum { USERS = 20000, BATCH = 512 };

static char *wire(struct stack *st, const char *topic)
{
	return text_of("%s", stack_topic(st, topic));
}

void suite_open(struct stack *st, const char *name, int partitions)
{
	static const char *const topics[] = {
		"waddle.events", "waddle.commands.sink", "waddle.commands.memories", "waddle.responses.memories",
		"waddle.responses.sink", "waddle.outbound.terminal", "waddle.outbound.twitch", "waddle.registry",
		"waddle.dlq", "waddle.floor.in", "waddle.floor.out",
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

void suite_enable(struct stack *st, const char *command)
{
	sql_wait_at_least(st->sql, 1, 20000, "SELECT count(*) FROM commands WHERE command = '%s'", command);
	/* The limit is the user's, not the suite's: it would only turn commands into refusals. */
	sql_run(st->sql, "UPDATE commands SET rate_limit = 0, timeout = 60 WHERE command = '%s'", command);
	sql_run(st->sql,
	        "INSERT INTO command_permissions (command_id, entity_id) SELECT c.id, e.entity_id "
	        "FROM commands c, entities e WHERE c.command = '%s' ON CONFLICT DO NOTHING",
	        command);
}

void suite_register(struct stack *st, const char *module, const char *command)
{
	sql_run(st->sql,
	        "INSERT INTO commands (command, prefix, location_url, location, module_id, timeout) "
	        "VALUES ('%s', '!', 'kafka:%s', 'internal', '%s', 60)",
	        command, module, module);
	suite_enable(st, command);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char text[512];

	if (rd_kafka_conf_set(conf, name, value, text, sizeof text) != RD_KAFKA_CONF_OK)
		harness_fail("%s: %s", name, text);
}

static rd_kafka_t *producer_new(struct stack *st)
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
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
	if (rk == NULL)
		harness_fail("producer: %s", text);
	return rk;
}

static void produce(rd_kafka_t *rk, const char *topic, const char *key, size_t key_n, const char *body, size_t n)
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

static size_t event_body(char *out, size_t cap, size_t i, const char *text, char key[32], size_t *key_n)
{
	char when[96], id[ID_TEXT];
	unsigned char channel = (unsigned char)(i % SUITE_COMMUNITIES);
	unsigned long user = (unsigned long)(rnd_next() % USERS);
	int n;

	id_random(id);
	time_text(when);
	*key_n = (size_t)snprintf(key, 32, "terminal:c%u", channel);
	n = snprintf(
		out, cap,
		"{\"event_id\":\"terminal:%s\",\"dedupe_key\":\"terminal:chat:%s\",\"platform\":\"terminal\","
		"\"server_id\":null,\"channel_id\":\"c%u\",\"entity\":\"%s\",\"user\":{\"id\":\"%lu\","
		"\"name\":\"viewer_%lu\",\"display_name\":\"Viewer_%lu\",\"roles\":[\"moderator\",\"member\"]"
	        "},"
		"\"message_type\":\"chatMessage\",\"message_content\":\"%s\",\"amount\":null,\"occurred_at\":"
	        "\"%s\","
		"\"received_at\":\"%s\",\"reply_ref\":\"%s\",\"metadata\":{\"message_id\":\"%s\",\"color\":"
	        "\"#1E90FF\","
		"\"badges\":[{\"set_id\":\"subscriber\",\"id\":\"6\"}]}}",
		id, id, channel, key, user, user, user, text, when, when, id, id);
	if (n < 0 || (size_t)n >= cap)
		harness_fail("an event does not fit");
	return (size_t)n;
}

void suite_fill(struct stack *st, const char *topic, size_t n, const char *text)
{
	rd_kafka_t *rk = producer_new(st);
	char *name = wire(st, topic);

	for (size_t i = 0; i < n; i++) {
		char body[2048], key[32];
		size_t key_n, len = event_body(body, sizeof body, i, text, key, &key_n);

		produce(rk, name, key, key_n, body, len);
		if (i % 1000 == 0)
			rd_kafka_poll(rk, 0);
	}
	if (rd_kafka_flush(rk, 60000) != RD_KAFKA_RESP_ERR_NO_ERROR)
		harness_fail("the broker did not take the load within a minute");
	rd_kafka_destroy(rk);
	free(name);
}

/* Measuring ------------------------------------------------------------------------------------ */

struct suite_meter { rd_kafka_t *rk; size_t n; };

static rd_kafka_t *consumer_new(struct stack *st, const char *topic, const char *group)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	char *name = wire(st, topic), id[ID_TEXT], text[512];
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

struct suite_meter *suite_meter_open(struct stack *st, const char *topic)
{
	struct suite_meter *m = XNEW(struct suite_meter);

	m->rk = consumer_new(st, topic, NULL);
	return m;
}

size_t suite_meter_run(struct suite_meter *m, size_t want, double limit_s, double *first_s, double *last_s)
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

void suite_meter_close(struct suite_meter *m)
{
	rd_kafka_consumer_close(m->rk);
	rd_kafka_destroy(m->rk);
	free(m);
}

/* Floors --------------------------------------------------------------------------------------- */

double suite_floor_chat(struct stack *st, const char *topic, size_t n)
{
	rd_kafka_t *rk = consumer_new(st, topic, NULL);
	json_tokener *tok = json_tokener_new_ex(16);
	double first = 0, last = 0;
	size_t seen = 0;

	while (seen < n) {
		rd_kafka_message_t *msg = rd_kafka_consumer_poll(rk, 1000);
		json_object *o;

		if (msg == NULL || msg->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
			if (msg != NULL)
				rd_kafka_message_destroy(msg);
			continue;
		}
		if (seen++ == 0)
			first = bench_now_s();
		json_tokener_reset(tok);
		o = json_tokener_parse_ex(tok, msg->payload, (int)msg->len);
		if (o == NULL)
			harness_fail("the floor cannot parse its own event");
		json_object_put(o);
		rd_kafka_offset_store(msg->rkt, msg->partition, msg->offset);
		rd_kafka_message_destroy(msg);
	}
	last = bench_now_s();
	json_tokener_free(tok);
	rd_kafka_consumer_close(rk);
	rd_kafka_destroy(rk);
	return (double)n / (last - first);
}

/* A batch between its insert and its last acknowledgement. */
struct floor_batch { size_t n, key_n[BATCH], len[BATCH]; char key[BATCH][32]; char *body[BATCH]; };
enum { FLOOR_COLUMNS = 12 };
struct text { char *p; size_t n, cap; };

static size_t acked;

static void delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *arg)
{
	(void)rk;
	(void)arg;
	if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		harness_fail("the floor lost a message: %s", rd_kafka_err2str(m->err));
	acked++;
}

static void put(struct text *t, const char *p, size_t n, bool quoted)
{
	if (t->n + 2 * n + 8 > t->cap) {
		t->cap = (t->n + 2 * n + 8) * 2;
		t->p = realloc(t->p, t->cap);
		if (t->p == NULL)
			harness_fail("memory");
	}
	if (!quoted) {
		memcpy(t->p + t->n, p, n);
		t->n += n;
		return;
	}
	t->p[t->n++] = '"';
	for (size_t i = 0; i < n; i++) {
		if (p[i] == '"' || p[i] == '\\')
			t->p[t->n++] = '\\';
		t->p[t->n++] = p[i];
	}
	t->p[t->n++] = '"';
}

static void element(struct text *t, size_t i, const char *p, bool quoted)
{
	put(t, i == 0 ? "{" : ",", 1, false);
	put(t, p, strlen(p), quoted);
}

static const char *member(json_object *o, const char *key)
{
	json_object *v = NULL;

	if (!json_object_object_get_ex(o, key, &v))
		harness_fail("no %s", key);
	return json_object_get_string(v);
}

static const char floor_sql[] =
	"INSERT INTO command_executions (execution_id, created_at, command_id, entity_id, community_id, user_id, "
	"message_content, parameters, location_url, request_payload, session_id, event_id) "
	"SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::integer[], $5::integer[], $6::text[], "
	"$7::text[], $8::jsonb[], $9::text[], $10::jsonb[], $11::uuid[], $12::text[]) ON CONFLICT DO NOTHING";

static void floor_insert(PGconn *pg, struct floor_batch *b, json_tokener *tok)
{
	static struct text col[FLOOR_COLUMNS];
	const char *values[FLOOR_COLUMNS];

	for (int c = 0; c < FLOOR_COLUMNS; c++)
		col[c].n = 0;
	for (size_t i = 0; i < b->n; i++) {
		json_object *o;
		const char *id;

		json_tokener_reset(tok);
		o = json_tokener_parse_ex(tok, b->body[i], (int)b->len[i]);
		if (o == NULL)
			harness_fail("the floor cannot parse its own event");
		id = member(o, "reply_ref");
		element(&col[0], i, id, false);
		element(&col[1], i, member(o, "received_at"), true);
		element(&col[2], i, "1", false);
		element(&col[3], i, "1", false);
		element(&col[4], i, "1", false);
		element(&col[5], i, "7", true);
		element(&col[6], i, member(o, "message_content"), true);
		element(&col[7], i, "[\"list\"]", true);
		element(&col[8], i, "kafka:sink", true);
		put(&col[9], i == 0 ? "{" : ",", 1, false);
		put(&col[9], b->body[i], b->len[i], true);
		element(&col[10], i, id, false);
		element(&col[11], i, member(o, "event_id"), true);
		json_object_put(o);
	}
	for (int c = 0; c < FLOOR_COLUMNS; c++) {
		put(&col[c], "}", 2, false);    /* with its NUL */
		values[c] = col[c].p;
	}
	if (PQsendQueryPrepared(pg, "floor", FLOOR_COLUMNS, values, NULL, NULL, 0) != 1 ||
	    PQpipelineSync(pg) != 1)
		harness_fail("floor: %s", PQerrorMessage(pg));
}

static void floor_committed(PGconn *pg)
{
	for (int i = 0; i < 3;) {
		PGresult *r = PQgetResult(pg);
		ExecStatusType s = PQresultStatus(r);

		if (r != NULL && s != PGRES_COMMAND_OK && s != PGRES_PIPELINE_SYNC)
			harness_fail("floor: %s", PQresultErrorMessage(r));
		PQclear(r);
		i = r != NULL && s == PGRES_PIPELINE_SYNC ? 3 : i;
	}
}

double suite_floor_dispatch(struct stack *st, const char *from, const char *to, size_t n)
{
	rd_kafka_t *in = consumer_new(st, from, NULL), *out;
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	PGconn *pg = PQconnectdb(st->url);
	json_tokener *tok = json_tokener_new_ex(16);
	struct floor_batch *flying = NULL, *next = XNEW(struct floor_batch);
	char *topic = wire(st, to), text[512];
	double first = 0, last;
	size_t seen = 0, sent = 0;

	acked = 0;
	set(conf, "bootstrap.servers", st->kafka);
	set(conf, "enable.idempotence", "true");
	set(conf, "compression.type", "lz4");
	set(conf, "partitioner", "murmur2_random");
	set(conf, "linger.ms", "0");
	rd_kafka_conf_set_dr_msg_cb(conf, delivered);
	out = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
	if (out == NULL || PQstatus(pg) != CONNECTION_OK)
		harness_fail("floor: %s", out == NULL ? text : PQerrorMessage(pg));
	PQclear(PQprepare(pg, "floor", floor_sql, FLOOR_COLUMNS, NULL));
	if (PQenterPipelineMode(pg) != 1)
		harness_fail("pipeline");
	while (sent < n) {
		while (next->n < BATCH && seen < n) {
			rd_kafka_message_t *msg =
				rd_kafka_consumer_poll(in, next->n == 0 && flying == NULL ? 1000 : 0);
			size_t i = next->n;

			if (msg == NULL)
				break;
			if (msg->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
				if (seen++ == 0)
					first = bench_now_s();
				next->key_n[i] = msg->key_len;
				memcpy(next->key[i], msg->key, msg->key_len);
				next->len[i] = msg->len;
				next->body[i] = xnew_(1, msg->len);
				memcpy(next->body[i], msg->payload, msg->len);
				next->n++;
			}
			rd_kafka_message_destroy(msg);
		}
		if (next->n > 0)
			floor_insert(pg, next, tok);    /* while the one before commits */
		if (flying != NULL) {
			floor_committed(pg);
			for (size_t i = 0; i < flying->n; i++) {
				produce(out, topic, flying->key[i], flying->key_n[i], flying->body[i],
				        flying->len[i]);
				free(flying->body[i]);
			}
			sent += flying->n;
			free(flying);
			flying = NULL;
		}
		if (next->n > 0) {
			flying = next;
			next = XNEW(struct floor_batch);
		}
		rd_kafka_poll(out, 0);
	}
	while (acked < n)
		rd_kafka_poll(out, 100);
	last = bench_now_s();
	free(next);
	json_tokener_free(tok);
	PQfinish(pg);
	rd_kafka_consumer_close(in);
	rd_kafka_destroy(in);
	rd_kafka_destroy(out);
	free(topic);
	return (double)n / (last - first);
}

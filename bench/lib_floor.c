/* lib_floor.c - see lib_floor.h. */
#include "lib_floor.h"
#include "lib.h"

#include <json.h>
#include <libpq-fe.h>
#include <pthread.h>

enum { BATCH = 512, COLUMNS = 12 };

/* What a column of a statement is taken from. */
enum column { NONE, ID, AT, CHANNEL, TEXT, EVENT, BODY, ONE, WORDS, PLACE };

static const struct {
	const char *sql;
	enum column column[COLUMNS + 1];        /* ends with NONE */
} steps[FLOOR_STEPS] = {
	[FLOOR_EXECUTION] = {
		"INSERT INTO command_executions (execution_id, created_at, command_id, entity_id, community_id, user_id, "
		"message_content, parameters, location_url, request_payload, session_id, event_id) "
		"SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::integer[], $5::integer[], "
		"$6::text[], $7::text[], $8::jsonb[], $9::text[], $10::jsonb[], $11::uuid[], $12::text[]) "
		"ON CONFLICT DO NOTHING",
		{ ID, AT, ONE, ONE, ONE, ONE, TEXT, WORDS, PLACE, BODY, ID, EVENT },
	},
	[FLOOR_LIST] = {
		"SELECT m.* FROM unnest($1::text[]) AS x (channel) JOIN communities c ON c.name = x.channel "
		"JOIN LATERAL (SELECT id, memory_type, title, content, author FROM memories WHERE community_id = c.id "
		"AND is_active ORDER BY id DESC LIMIT 5) m ON true",
		{ CHANNEL },
	},
	[FLOOR_ADD] = {
		"WITH x AS (SELECT u.*, e.community_id, e.entity_id FROM unnest($1::uuid[], $2::timestamptz[], "
		"$3::text[], $4::text[]) AS u (id, at, channel, said) JOIN entities e ON e.address = 'terminal:' || channel), "
		"m AS (INSERT INTO memories (community_id, entity_id, memory_type, title, content, author, created_by, "
		"created_by_name) SELECT community_id, entity_id, 'quote', 'Quote by Ada', said, 'Ada', '7', '7' FROM x) "
		"INSERT INTO memories_inbox (execution_id, created_at, reply) SELECT id, at, '{\"parts\":[]}' FROM x",
		{ ID, AT, CHANNEL, TEXT },
	},
	[FLOOR_RESPONSE] = {
		"WITH x AS (SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::text[]) AS u (id, at, said)), "
		"e AS (UPDATE command_executions e SET status = 'success', response_status = 200, completed_at = now() "
		"FROM x WHERE e.execution_id = x.id AND e.created_at = x.at) "
		"INSERT INTO module_responses (execution_id, created_at, response_index, module_name, success, "
		"response_action, chat_message) SELECT id, at, 0, 'memories', true, 'chat', said FROM x",
		{ ID, AT, TEXT },
	},
};

/* A batch between its statement and its last acknowledgement. */
struct batch {
	size_t n, key_n[BATCH], len[BATCH];
	char key[BATCH][32], *body[BATCH];
};
struct text { char *p; size_t n, cap; };

struct floor_hop {
	pthread_t    thread;
	enum floor_step step;
	size_t       n, seen, sent, acked;
	char        *to;
	rd_kafka_t  *in, *out;
	PGconn      *pg;
	json_tokener *tok;
	struct batch *next, *flying;
	struct text  col[COLUMNS];
	double       first_s, last_s;
};

static void delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
	struct floor_hop *h = opaque;

	(void)rk;
	if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		harness_fail("the floor lost a message: %s", rd_kafka_err2str(m->err));
	h->acked++;
}

static void put(struct text *t, const char *p, size_t n, bool quoted)
{
	if (t->n + 2 * n + 8 > t->cap) {
		t->cap = (t->n + 2 * n + 8) * 2;
		t->p = xgrow(t->p, t->cap, 1);
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

static const char *member(json_object *o, const char *key)
{
	json_object *v = NULL;

	if (!json_object_object_get_ex(o, key, &v))
		harness_fail("no %s", key);
	return json_object_get_string(v);
}

static void cell(struct text *t, enum column c, json_object *o, const char *body, size_t len)
{
	const char *p = NULL;

	switch (c) {
	case ID:
		p = member(o, "reply_ref");
		break;
	case AT:
		p = member(o, "received_at");
		break;
	case CHANNEL:
		p = member(o, "channel_id");
		break;
	case TEXT:
		p = member(o, "message_content");
		break;
	case EVENT:
		p = member(o, "event_id");
		break;
	case ONE:
		p = "1";
		break;
	case WORDS:
		p = "[\"list\"]";
		break;
	case PLACE:
		p = "kafka:memories";
		break;
	case BODY:
	case NONE:
		put(t, body, len, true);
		return;
	}
	put(t, p, strlen(p), c != ID && c != ONE);
}

static void send_statement(struct floor_hop *h)
{
	const enum column *column = steps[h->step].column;
	const struct batch *b = h->next;
	const char *values[COLUMNS];
	int n = 0;

	for (int c = 0; c < COLUMNS; c++)
		h->col[c].n = 0;
	for (size_t i = 0; i < b->n; i++) {
		json_object *o;

		json_tokener_reset(h->tok);
		o = json_tokener_parse_ex(h->tok, b->body[i], (int)b->len[i]);
		if (o == NULL)
			harness_fail("the floor cannot parse its own event");
		for (n = 0; n < COLUMNS && column[n] != NONE; n++) {
			put(&h->col[n], i == 0 ? "{" : ",", 1, false);
			cell(&h->col[n], column[n], o, b->body[i], b->len[i]);
		}
		json_object_put(o);
	}
	for (int c = 0; c < n; c++) {
		put(&h->col[c], "}", 2, false); /* with its NUL */
		values[c] = h->col[c].p;
	}
	if (PQsendQueryPrepared(h->pg, "floor", n, values, NULL, NULL, 0) != 1 || PQpipelineSync(h->pg) != 1)
		harness_fail("floor: %s", PQerrorMessage(h->pg));
}

static void wait_committed(PGconn *pg)
{
	bool synced = false;

	while (!synced) {
		PGresult *r = PQgetResult(pg);
		ExecStatusType s = PQresultStatus(r);

		if (r != NULL && s != PGRES_COMMAND_OK && s != PGRES_TUPLES_OK && s != PGRES_PIPELINE_SYNC)
			harness_fail("floor: %s", PQresultErrorMessage(r));
		synced = r != NULL && s == PGRES_PIPELINE_SYNC;
		PQclear(r);
	}
}

static void take(struct floor_hop *h)
{
	struct batch *b = h->next;

	while (b->n < BATCH && h->seen < h->n) {
		rd_kafka_message_t *msg =
			rd_kafka_consumer_poll(h->in, b->n == 0 && h->flying == NULL ? 1000 : 0);
		size_t i = b->n;

		if (msg == NULL)
			return;
		if (msg->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
			if (h->seen++ == 0)
				h->first_s = bench_now_s();
			b->key_n[i] = msg->key_len;
			memcpy(b->key[i], msg->key, msg->key_len);
			b->len[i] = msg->len;
			b->body[i] = xnew_(1, msg->len);
			memcpy(b->body[i], msg->payload, msg->len);
			b->n++;
		}
		rd_kafka_message_destroy(msg);
	}
}

static void send_on(struct floor_hop *h)
{
	struct batch *b = h->flying;

	wait_committed(h->pg);
	for (size_t i = 0; i < b->n; i++) {
		load_produce(h->out, h->to, b->key[i], b->key_n[i], b->body[i], b->len[i]);
		free(b->body[i]);
	}
	h->sent += b->n;
	free(b);
	h->flying = NULL;
}

static void *run(void *arg)
{
	struct floor_hop *h = arg;

	while (h->sent < h->n) {
		take(h);
		if (h->next->n > 0)
			send_statement(h);      /* while the one before commits */
		if (h->flying != NULL)
			send_on(h);
		if (h->next->n > 0) {
			h->flying = h->next;
			h->next = XNEW(struct batch);
		}
		rd_kafka_poll(h->out, 0);
	}
	while (h->acked < h->n)
		rd_kafka_poll(h->out, 100);
	h->last_s = bench_now_s();
	return NULL;
}

static bool has_partitions(void *arg)
{
	struct floor_hop *h = arg;
	rd_kafka_topic_partition_list_t *list = NULL;
	rd_kafka_message_t *msg = rd_kafka_consumer_poll(h->in, 0);
	bool any;

	if (msg != NULL && msg->err == RD_KAFKA_RESP_ERR_NO_ERROR)
		harness_fail("the floor's topic is not empty");
	if (msg != NULL)
		rd_kafka_message_destroy(msg);
	any = rd_kafka_assignment(h->in, &list) == RD_KAFKA_RESP_ERR_NO_ERROR && list->cnt > 0;
	if (list != NULL)
		rd_kafka_topic_partition_list_destroy(list);
	return any;
}

struct floor_hop *floor_hop_start(struct stack *st, enum floor_step step, const char *from, const char *to,
                                  const char *group, bool wait, size_t n)
{
	struct floor_hop *h = XNEW(struct floor_hop);
	PGresult *r;

	h->step = step;
	h->n = n;
	h->to = load_wire(st, to);
	h->in = load_consumer(st, from, group);
	h->out = load_producer(st, delivered, h);
	h->pg = PQconnectdb(st->url);
	h->tok = json_tokener_new_ex(16);
	h->next = XNEW(struct batch);
	if (PQstatus(h->pg) != CONNECTION_OK)
		harness_fail("floor: %s", PQerrorMessage(h->pg));
	r = PQprepare(h->pg, "floor", steps[step].sql, 0, NULL);
	if (PQresultStatus(r) != PGRES_COMMAND_OK || PQenterPipelineMode(h->pg) != 1)
		harness_fail("floor: %s", PQerrorMessage(h->pg));
	PQclear(r);
	if (wait)
		wait_for("the floor has its partitions", has_partitions, h, 20000);
	if (pthread_create(&h->thread, NULL, run, h) != 0)
		harness_fail("no thread");
	return h;
}

void floor_hop_join(struct floor_hop *h, double *first_s, double *last_s)
{
	pthread_join(h->thread, NULL);
	*first_s = h->first_s;
	*last_s = h->last_s;
	for (int c = 0; c < COLUMNS; c++)
		free(h->col[c].p);
	free(h->next);
	json_tokener_free(h->tok);
	PQfinish(h->pg);
	rd_kafka_consumer_close(h->in);
	rd_kafka_destroy(h->in);
	rd_kafka_destroy(h->out);
	free(h->to);
	free(h);
}

double load_floor_dispatch(struct stack *st, const char *from, const char *to, size_t n)
{
	double first, last;

	floor_hop_join(floor_hop_start(st, FLOOR_EXECUTION, from, to, NULL, false, n), &first, &last);
	return (double)n / (last - first);
}

double load_floor_round_trip(struct stack *st, bool write, size_t n, const char *text)
{
	struct floor_hop *back = floor_hop_start(st, FLOOR_RESPONSE, "waddle.floor.responses",
	                                         "waddle.floor.out", "floor-back", true, n);
	struct floor_hop *module =
		floor_hop_start(st, write ? FLOOR_ADD : FLOOR_LIST, "waddle.floor.commands",
	                        "waddle.floor.responses", "floor-module", true, n);
	struct floor_hop *there;
	double first, last, unused;

	load_fill(st, "waddle.floor.trips", n, text);
	there = floor_hop_start(st, FLOOR_EXECUTION, "waddle.floor.trips", "waddle.floor.commands",
	                        "floor-there", false, n);
	floor_hop_join(there, &first, &unused);
	floor_hop_join(module, &unused, &last);
	floor_hop_join(back, &unused, &last);
	return (double)n / (last - first);
}

double load_floor_chat(struct stack *st, const char *topic, size_t n)
{
	rd_kafka_t *rk = load_consumer(st, topic, NULL);
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

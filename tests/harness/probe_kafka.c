/* probe_kafka.c - topics seen with plain librdkafka, none of our own bus; see probe.h. */
#include "probe.h"
#include "wait.h"

#include <librdkafka/rdkafka.h>
#include <poll.h>

enum { TIMEOUT_MS = 15000, PARTITIONS_MAX = 1024 };

static rd_kafka_t *client(rd_kafka_type_t type, const char *brokers)
{
	static const char *const consumer[][2] = {
		{ "enable.auto.commit", "false" }, { "enable.partition.eof", "true" },
		{ "group.id", "harness-probe" }, { "auto.offset.reset", "error" },
		{ "check.crcs", "true" }, { "fetch.wait.max.ms", "20" },
	};
	static const char *const producer[][2] = {
		{ "acks", "all" }, { "partitioner", "murmur2_random" }, { "linger.ms", "0" },
	};
	bool reads = type == RD_KAFKA_CONSUMER;
	const char *const (*set)[2] = reads ? consumer : producer;
	size_t n = reads ? ARRAY_LEN(consumer) : ARRAY_LEN(producer);
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char why[512] = "";
	bool ok = rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof(why)) == RD_KAFKA_CONF_OK &&
		  rd_kafka_conf_set(conf, "allow.auto.create.topics", "false", why, sizeof(why)) == RD_KAFKA_CONF_OK &&
		  rd_kafka_conf_set(conf, "log_level", "3", why, sizeof(why)) == RD_KAFKA_CONF_OK;
	rd_kafka_t *rk;

	for (size_t i = 0; ok && i < n; i++)
		ok = rd_kafka_conf_set(conf, set[i][0], set[i][1], why, sizeof(why)) == RD_KAFKA_CONF_OK;
	rk = ok ? rd_kafka_new(type, conf, why, sizeof(why)) : NULL;
	if (rk == NULL)
		harness_fail("librdkafka: %s", why);
	return rk;
}

/* Partitions of the topic; 0: it does not exist.  -1: ask again. */
static int partitions_of(rd_kafka_t *rk, const char *topic)
{
	rd_kafka_topic_t *t = rd_kafka_topic_new(rk, topic, NULL);
	const rd_kafka_metadata_t *md = NULL;
	rd_kafka_resp_err_t e = rd_kafka_metadata(rk, 0, t, &md, TIMEOUT_MS);
	int n = -1;

	if (e == RD_KAFKA_RESP_ERR_NO_ERROR && md->topic_cnt == 1) {
		if (md->topics[0].err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
			n = 0;
		else if (md->topics[0].err == RD_KAFKA_RESP_ERR_NO_ERROR)
			n = md->topics[0].partition_cnt;
		for (int i = 0; n > 0 && i < md->topics[0].partition_cnt; i++)
			if (md->topics[0].partitions[i].leader < 0)
				n = -1;
	}
	if (md != NULL)
		rd_kafka_metadata_destroy(md);
	rd_kafka_topic_destroy(t);
	return n;
}

struct asked { rd_kafka_t *rk; const char *topic; int n; };

static bool partitions_known(void *arg)
{
	struct asked *a = arg;

	a->n = partitions_of(a->rk, a->topic);
	return a->n >= 0;
}

static int partitions(rd_kafka_t *rk, const char *topic)
{
	struct asked a = { rk, topic, -1 };

	wait_for(topic, partitions_known, &a, TIMEOUT_MS);
	if (a.n > PARTITIONS_MAX)
		harness_fail("%s has %d partitions", topic, a.n);
	return a.n;
}

/* A leader needs a moment to know that it is one: after a creation, after a restart. */
static void span(rd_kafka_t *rk, const char *topic, int partition, int64_t *first, int64_t *end)
{
	int64_t deadline = harness_now_ms() + TIMEOUT_MS;
	rd_kafka_resp_err_t e;

	for (;;) {
		e = rd_kafka_query_watermark_offsets(rk, topic, partition, first, end, TIMEOUT_MS);
		if (e == RD_KAFKA_RESP_ERR_NO_ERROR || harness_now_ms() > deadline)
			break;
		poll(NULL, 0, 20);
	}
	if (e != RD_KAFKA_RESP_ERR_NO_ERROR)
		harness_fail("offsets of %s[%d]: %s", topic, partition, rd_kafka_err2str(e));
}

static char *copy(const void *p, size_t n)
{
	char *c;

	if (p == NULL)
		return NULL;
	c = XNEW_N(char, n + 1);
	memcpy(c, p, n);
	return c;
}

static void take(struct probe_topic *t, const rd_kafka_message_t *m)
{
	struct probe_msg *to;
	rd_kafka_headers_t *h = NULL;
	const char *name;
	const void *value;
	size_t n;

	if ((t->n & (t->n - 1)) == 0) {         /* full at every power of two */
		t->msgs = reallocarray(t->msgs, t->n > 0 ? t->n * 2 : 1, sizeof(*t->msgs));
		if (t->msgs == NULL)
			harness_fail("out of memory");
	}
	to = &t->msgs[t->n++];
	*to = (struct probe_msg){
		.topic = text_of("%s", rd_kafka_topic_name(m->rkt)), .partition = m->partition, .offset = m->offset,
		.key = copy(m->key, m->key_len), .key_n = m->key_len,
		.value = copy(m->payload, m->len), .value_n = m->len,
		.sent_at_ms = rd_kafka_message_timestamp(m, NULL),
	};
	if (rd_kafka_message_headers(m, &h) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	to->headers = XNEW_N(struct probe_header, rd_kafka_header_cnt(h) + 1);
	while (rd_kafka_header_get_all(h, to->n_headers, &name, &value, &n) == RD_KAFKA_RESP_ERR_NO_ERROR)
		to->headers[to->n_headers++] = (struct probe_header){ text_of("%s", name), copy(value, n) };
}

static int by_place(const void *a, const void *b)
{
	const struct probe_msg *x = a, *y = b;

	if (x->partition != y->partition)
		return x->partition < y->partition ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* The end of a partition is its EOF event, not a count: compaction and transactions leave gaps. */
void probe_read(const char *brokers, const char *topic, struct probe_topic *ret)
{
	rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, brokers);
	int n = partitions(rk, topic), open = 0;
	bool *reading = XNEW_N(bool, (size_t)n + 1);
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(n + 1);
	int64_t deadline = harness_now_ms() + 60000;

	*ret = (struct probe_topic){ 0 };
	rd_kafka_poll_set_consumer(rk);
	for (int i = 0; i < n; i++) {
		int64_t first, end;

		span(rk, topic, i, &first, &end);
		if (end <= first)
			continue;
		rd_kafka_topic_partition_list_add(list, topic, i)->offset = first;
		reading[i] = true;
		open++;
	}
	if (open > 0 && rd_kafka_assign(rk, list) != RD_KAFKA_RESP_ERR_NO_ERROR)
		harness_fail("%s: cannot read it", topic);
	while (open > 0) {
		rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, 1000);

		if (harness_now_ms() > deadline)
			harness_fail("%s: not read within 60 s", topic);
		if (m == NULL)
			continue;
		if (m->err == RD_KAFKA_RESP_ERR_NO_ERROR)
			take(ret, m);
		else if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF && reading[m->partition]) {
			reading[m->partition] = false;  /* comes again when more is written meanwhile */
			open--;
		}
		rd_kafka_message_destroy(m);
	}
	rd_kafka_topic_partition_list_destroy(list);
	rd_kafka_consumer_close(rk);
	rd_kafka_destroy(rk);
	free(reading);
	if (ret->n > 1)
		qsort(ret->msgs, ret->n, sizeof(*ret->msgs), by_place);
}

void probe_free(struct probe_topic *t)
{
	for (size_t i = 0; i < t->n; i++) {
		for (size_t k = 0; k < t->msgs[i].n_headers; k++) {
			free(t->msgs[i].headers[k].name);
			free(t->msgs[i].headers[k].value);
		}
		free(t->msgs[i].headers);
		free(t->msgs[i].topic);
		free(t->msgs[i].key);
		free(t->msgs[i].value);
	}
	free(t->msgs);
	*t = (struct probe_topic){ 0 };
}

const char *probe_header(const struct probe_msg *m, const char *name)
{
	for (size_t i = m->n_headers; i > 0; i--)
		if (strcmp(m->headers[i - 1].name, name) == 0)
			return m->headers[i - 1].value;
	return NULL;
}

static int64_t sum_of_spans(rd_kafka_t *rk, const char *topic)
{
	int64_t first, end, sum = 0;
	int n = partitions(rk, topic);

	for (int i = 0; i < n; i++) {
		span(rk, topic, i, &first, &end);
		sum += end - first;
	}
	return sum;
}

int64_t probe_count(const char *brokers, const char *topic)
{
	rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, brokers);
	int64_t sum = sum_of_spans(rk, topic);

	rd_kafka_destroy(rk);
	return sum;
}

void probe_wait(const char *brokers, const char *topic, size_t n, int64_t max_ms, struct probe_topic *ret)
{
	rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, brokers);
	int64_t end = harness_now_ms() + max_ms, seen;

	while ((seen = sum_of_spans(rk, topic)) < (int64_t)n && harness_now_ms() < end)
		poll(NULL, 0, 20);
	rd_kafka_destroy(rk);
	if (seen < (int64_t)n)
		harness_fail("%s: %lld messages after %lld ms, wanted %zu", topic, (long long)seen, (long long)max_ms, n);
	probe_read(brokers, topic, ret);
}

static void delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *arg)
{
	(void)rk;
	(void)arg;
	*(rd_kafka_resp_err_t *)m->_private = m->err;
}

static rd_kafka_headers_t *make_headers(const char *const *headers)
{
	rd_kafka_headers_t *h = rd_kafka_headers_new(8);

	for (; headers != NULL && *headers != NULL; headers++) {
		const char *colon = strstr(*headers, ": ");

		if (colon == NULL)
			harness_fail("header without \": \": %s", *headers);
		rd_kafka_header_add(h, *headers, colon - *headers, colon + 2, -1);
	}
	return h;
}

void probe_send(const char *brokers, const char *topic, int32_t partition, const char *key,
		const void *value, size_t value_n, const char *const *headers)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_resp_err_t verdict = RD_KAFKA_RESP_ERR__IN_PROGRESS, e;
	int64_t deadline = harness_now_ms() + TIMEOUT_MS;
	char why[512] = "";
	rd_kafka_t *rk;

	rd_kafka_conf_set_dr_msg_cb(conf, delivered);
	if (rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof(why)) != RD_KAFKA_CONF_OK ||
	    rd_kafka_conf_set(conf, "partitioner", "murmur2_random", why, sizeof(why)) != RD_KAFKA_CONF_OK ||
	    rd_kafka_conf_set(conf, "log_level", "3", why, sizeof(why)) != RD_KAFKA_CONF_OK)
		harness_fail("librdkafka: %s", why);
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
	if (rk == NULL)
		harness_fail("librdkafka: %s", why);
	{
		rd_kafka_vu_t vus[] = {
			{ .vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = topic },
			{ .vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = partition },
			{ .vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY },
			{ .vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = make_headers(headers) },
			{ .vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = &verdict },
			{ .vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = { (void *)(uintptr_t)value, value_n } },
			{ .vtype = RD_KAFKA_VTYPE_KEY, .u.mem = { (void *)(uintptr_t)key, key == NULL ? 0 : strlen(key) } },
		};
		rd_kafka_error_t *error = rd_kafka_produceva(rk, vus, ARRAY_LEN(vus));

		e = error == NULL ? RD_KAFKA_RESP_ERR_NO_ERROR : rd_kafka_error_code(error);
		if (error != NULL)
			rd_kafka_error_destroy(error);
	}
	if (e != RD_KAFKA_RESP_ERR_NO_ERROR)
		harness_fail("send to %s: %s", topic, rd_kafka_err2str(e));
	while (verdict == RD_KAFKA_RESP_ERR__IN_PROGRESS && harness_now_ms() < deadline)
		rd_kafka_poll(rk, 50);
	if (verdict != RD_KAFKA_RESP_ERR_NO_ERROR)
		harness_fail("send to %s: %s", topic, rd_kafka_err2str(verdict));
	rd_kafka_destroy(rk);
}

/* Runs one administrative request and gives back its event. */
static rd_kafka_event_t *admin_event(rd_kafka_queue_t *q, const char *what)
{
	rd_kafka_event_t *ev = rd_kafka_queue_poll(q, TIMEOUT_MS);

	if (ev == NULL)
		harness_fail("%s: no answer", what);
	if (rd_kafka_event_error(ev) != RD_KAFKA_RESP_ERR_NO_ERROR)
		harness_fail("%s: %s", what, rd_kafka_event_error_string(ev));
	return ev;
}

static bool has_leaders(void *arg)
{
	struct asked *a = arg;

	return partitions_of(a->rk, a->topic) == a->n;
}

void probe_create(const char *brokers, const char *topic, int n, const char *const *config)
{
	rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, brokers);
	rd_kafka_queue_t *q = rd_kafka_queue_new(rk);
	char why[512] = "";
	rd_kafka_NewTopic_t *t = rd_kafka_NewTopic_new(topic, n, 1, why, sizeof(why));
	const rd_kafka_topic_result_t **results;
	struct asked a = { rk, topic, n };
	rd_kafka_event_t *ev;
	size_t count;

	if (t == NULL)
		harness_fail("topic %s: %s", topic, why);
	for (; config != NULL && *config != NULL; config++) {
		const char *eq = strchr(*config, '=');
		char *name = eq == NULL ? NULL : text_of("%.*s", (int)(eq - *config), *config);

		if (name == NULL || rd_kafka_NewTopic_set_config(t, name, eq + 1) != RD_KAFKA_RESP_ERR_NO_ERROR)
			harness_fail("topic %s: bad setting %s", topic, *config);
		free(name);
	}
	rd_kafka_CreateTopics(rk, &t, 1, NULL, q);
	ev = admin_event(q, topic);
	results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(ev), &count);
	if (count != 1 || rd_kafka_topic_result_error(results[0]) != RD_KAFKA_RESP_ERR_NO_ERROR)
		harness_fail("topic %s: %s", topic, count == 1 ? rd_kafka_topic_result_error_string(results[0]) : "no result");
	rd_kafka_event_destroy(ev);
	rd_kafka_NewTopic_destroy(t);
	wait_for("leaders of a new topic", has_leaders, &a, TIMEOUT_MS);
	rd_kafka_queue_destroy(q);
	rd_kafka_destroy(rk);
}

void probe_delete(const char *brokers, const char *topic)
{
	rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, brokers);
	rd_kafka_queue_t *q = rd_kafka_queue_new(rk);
	rd_kafka_DeleteTopic_t *t = rd_kafka_DeleteTopic_new(topic);

	rd_kafka_DeleteTopics(rk, &t, 1, NULL, q);
	rd_kafka_event_destroy(admin_event(q, topic));
	rd_kafka_DeleteTopic_destroy(t);
	rd_kafka_queue_destroy(q);
	rd_kafka_destroy(rk);
}

/* bus_conf.c - what we ask of librdkafka: one table for all clients, one for each kind. */
#include "bus_impl.h"

#include "config.h"

struct property {
	const char *name, *value;
};

static const struct property common[] = {
	{ "log.queue", "true" },                            /* log_cb only from our poll */
	{ "socket.nagle.disable", "true" },
	{ "socket.keepalive.enable", "true" },
	{ "reconnect.backoff.ms", "50" },
	{ "reconnect.backoff.max.ms", "1000" },             /* a restarted broker is back within seconds */
	{ "topic.metadata.refresh.interval.ms", "5000" },   /* sees a topic that was made meanwhile */
	{ "allow.auto.create.topics", "false" },
	{ "topic.metadata.propagation.max.ms", "5000" },    /* then "no such topic" is believed */
};

static const struct property producer[] = {
	{ "enable.idempotence", "true" },                   /* order and no doubles across retries */
	{ "acks", "all" },
	{ "compression.type", "lz4" },
	{ "partitioner", "murmur2_random" },                /* as Java clients do */
	{ "linger.ms", "0" },                               /* full pipes make batches, waiting does not */
	{ "message.timeout.ms", "0" },                      /* never given up */
	{ "message.max.bytes", "1000000" },
	{ "queue.buffering.max.kbytes", "16384" },
	{ "statistics.interval.ms", "1000" },               /* which brokers and topics are there */
};

static const struct property consumer[] = {
	{ "enable.auto.offset.store", "false" },            /* bus_store() says when */
	{ "enable.partition.eof", "false" },
	{ "auto.offset.reset", "earliest" },                /* a new group misses nothing */
	{ "auto.commit.interval.ms", "500" },
	{ "partition.assignment.strategy", "range" },       /* cooperative is sound only from 2.4 on */
	{ "session.timeout.ms", "10000" },                  /* a dead process is replaced in that time */
	{ "queued.min.messages", "10000" },
	{ "queued.max.messages.kbytes", "4096" },
	{ "fetch.max.bytes", "1048576" },                  /* compressed: five of chat, and as much in memory */
	{ "statistics.interval.ms", "10000" },              /* lag of what we did not reach yet */
	{ "max.partition.fetch.bytes", "262144" },
};

/* What correctness rests on: not for the environment to change. */
static const char *const ours[] = {
	"bootstrap.servers", "metadata.broker.list", "group.id", "enable.auto.commit",
	"auto.commit.enable", "enable.auto.offset.store", "enable.idempotence", "acks",
	"request.required.acks", "partitioner", "message.timeout.ms", "delivery.timeout.ms",
	"log.queue", "allow.auto.create.topics", "enable.partition.eof", "statistics.interval.ms",
	"delivery.report.only.error", "transactional.id", "queue.buffering.max.messages",
	"message.max.bytes",
};

int bus_errno(rd_kafka_resp_err_t e)
{
	static const struct {
		rd_kafka_resp_err_t e;
		int code;
	} table[] = {
		{ RD_KAFKA_RESP_ERR_NO_ERROR, 0 },
		{ RD_KAFKA_RESP_ERR__QUEUE_FULL, -EAGAIN },
		{ RD_KAFKA_RESP_ERR__MSG_TIMED_OUT, -ETIMEDOUT },
		{ RD_KAFKA_RESP_ERR__TIMED_OUT, -ETIMEDOUT },
		{ RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, -ETIMEDOUT },
		{ RD_KAFKA_RESP_ERR__TRANSPORT, -ENOTCONN },
		{ RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, -ENOTCONN },
		{ RD_KAFKA_RESP_ERR__RESOLVE, -ENOTCONN },
		{ RD_KAFKA_RESP_ERR__PURGE_QUEUE, -ECANCELED },
		{ RD_KAFKA_RESP_ERR__PURGE_INFLIGHT, -ECANCELED },
		{ RD_KAFKA_RESP_ERR__DESTROY, -ECANCELED },
		{ RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, -EMSGSIZE },
		{ RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE, -EMSGSIZE },
		{ RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, -ENOENT },
		{ RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, -ENOENT },
		{ RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, -ENOENT },
		{ RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS, -EEXIST },
		{ RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, -EACCES },
		{ RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, -EACCES },
		{ RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED, -EACCES },
		{ RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE, -EOPNOTSUPP },
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (table[i].e == e)
			return table[i].code;
	return -EIO;
}

struct wishes {
	rd_kafka_conf_t *conf;
	char bad[160];
	size_t n;
};

static void complain(struct wishes *w, const char *name, const char *why)
{
	int n = snprintf(w->bad + w->n, sizeof(w->bad) - w->n, "%s%s: %s", w->n > 0 ? "; " : "", name, why);

	w->n += n > 0 ? (size_t)n : 0;
	if (w->n >= sizeof(w->bad))
		w->n = sizeof(w->bad) - 1;
}

/* KAFKA_SECURITY_PROTOCOL=ssl and the like.  The value stays out of the text: it may be a password. */
static void wish(void *arg, const char *name, const char *value)
{
	struct wishes *w = arg;
	char why[120];

	if (strcmp(name, "brokers") == 0)
		return;
	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		if (strcmp(name, ours[i]) == 0) {
			complain(w, name, "not for the environment to set");
			return;
		}
	switch (rd_kafka_conf_set(w->conf, name, value, why, sizeof(why))) {
	case RD_KAFKA_CONF_OK:
		return;
	case RD_KAFKA_CONF_UNKNOWN:
		complain(w, name, "no such property");
		return;
	case RD_KAFKA_CONF_INVALID:
		complain(w, name, "bad value");
		return;
	}
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char why[200];

	ASSERT(rd_kafka_conf_set(conf, name, value, why, sizeof(why)) == RD_KAFKA_CONF_OK);
}

static void set_all(rd_kafka_conf_t *conf, const struct property *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		set(conf, p[i].name, p[i].value);
}

/* Our choices first, then the environment's, which wins except for `ours`. */
static rd_kafka_conf_t *conf_new(struct bus *b, const struct property *kind, size_t n, struct err *err)
{
	struct wishes w = { .conf = rd_kafka_conf_new() };
	char why[120];

	set_all(w.conf, common, ARRAY_LEN(common));
	set_all(w.conf, kind, n);
	set(w.conf, "client.id", b->s->name);
	if (b->brokers[0] == '\0')
		complain(&w, "brokers", "none given");
	else if (rd_kafka_conf_set(w.conf, "bootstrap.servers", b->brokers, why, sizeof(why)) !=
	         RD_KAFKA_CONF_OK)
		complain(&w, "brokers", why);
	cfg_each_kafka(wish, &w);
	if (w.n > 0) {
		rd_kafka_conf_destroy(w.conf);
		err_set(err, -ENOPROTOOPT, "Kafka settings: %s", w.bad);
		return NULL;
	}
	rd_kafka_conf_set_log_cb(w.conf, bus_log);
	rd_kafka_conf_set_error_cb(w.conf, bus_trouble);
	return w.conf;
}

rd_kafka_conf_t *bus_conf_producer(struct bus *b, struct err *err)
{
	rd_kafka_conf_t *conf = conf_new(b, producer, ARRAY_LEN(producer), err);
	char most[24];

	if (conf == NULL)
		return NULL;
	snprintf(most, sizeof(most), "%d", BUS_QUEUE_MAX);
	set(conf, "queue.buffering.max.messages", most);
	rd_kafka_conf_set_opaque(conf, b);
	rd_kafka_conf_set_dr_msg_cb(conf, bus_delivered);
	rd_kafka_conf_set_stats_cb(conf, bus_stats);
	return conf;
}

rd_kafka_conf_t *bus_conf_consumer(struct bus_sub *sub, struct err *err)
{
	rd_kafka_conf_t *conf = conf_new(sub->b, consumer, ARRAY_LEN(consumer), err);
	char group[BUS_NAME_MAX], why[100];

	if (conf == NULL)
		return NULL;
	/* From 2.2 on; without it see bus_nudge.c. */
	sub->nudged =
		rd_kafka_conf_set(conf, "fetch.queue.backoff.ms", "10", why, sizeof(why)) != RD_KAFKA_CONF_OK;
	ASSERT(bus_name_out(&sub->b->prefix, sub->c.group != NULL ? sub->c.group : "waddle.tail", group) ==
	       0);
	set(conf, "group.id", group);
	set(conf, "enable.auto.commit", sub->c.group != NULL ? "true" : "false");
	rd_kafka_conf_set_opaque(conf, sub);
	rd_kafka_conf_set_rebalance_cb(conf, bus_rebalance);
	rd_kafka_conf_set_offset_commit_cb(conf, bus_committed);
	rd_kafka_conf_set_stats_cb(conf, bus_lag_stats);
	return conf;
}

/* Consumes conf, also when it fails. */
rd_kafka_t *bus_client(rd_kafka_type_t type, rd_kafka_conf_t *conf, struct err *err)
{
	char why[160];
	rd_kafka_t *rk = rd_kafka_new(type, conf, why, sizeof(why));

	if (rk == NULL) {
		rd_kafka_conf_destroy(conf);
		err_set(err, -ENOPROTOOPT, "Kafka settings: %s", why);
		return NULL;
	}
	rd_kafka_set_log_queue(rk, NULL);
	return rk;
}

/* bus_watch.c - is the broker there, are our topics there; and what librdkafka has to say. */
#include "bus_impl.h"

#include "bus_stats.h"
#include "log.h"

enum {
	ABSENT_TWICE = 2, /* in a row, before it is said: at first nothing is known */
	LAG_UNKNOWN = -1, /* in the statistics */
};

static struct bus *bus_of(const rd_kafka_t *rk, void *opaque)
{
	if (rd_kafka_type(rk) == RD_KAFKA_CONSUMER) {
		struct bus_sub *sub = opaque;

		IS_A(sub, SUB_MAGIC);
		return sub->b;
	}
	IS_A((struct bus *)opaque, BUS_MAGIC);
	return opaque;
}

static void tell(struct bus *b)
{
	bool up = b->broker_up && b->topics_there;

	metric_set(bus_metrics[BM_UP], 0, up);
	if (b->told && up == b->was_up)
		return;
	b->told = true;
	b->was_up = up;
	service_ready(b->s, "kafka", up);
}

/* A topic of the statistics; many partitions of it come one after another. */
static void seen(void *arg, struct str wire)
{
	struct bus *b = arg;

	if (wire.p == b->last_seen)
		return;
	b->last_seen = wire.p;
	for (size_t i = 0; i < BUS_OUT_CHAINS; i++)
		for (struct bus_out *o = b->outs[i]; o != NULL; o = o->next)
			if (o->wanted && str_eq(str_of(rd_kafka_topic_name(o->rkt)), wire))
				o->seen = true;
}

static bool judge(struct bus_out *o, bool broker_up)
{
	if (o->seen) {
		if (o->absent >= ABSENT_TWICE)
			log_info(NULL, "topic_present", "topic %s exists now", rd_kafka_topic_name(o->rkt));
		o->absent = 0;
	} else if (broker_up && o->absent < ABSENT_TWICE && ++o->absent == ABSENT_TWICE) {
		log_error(NULL, "topic_absent",
		          "topic %s does not exist, create it with waddle topics create",
		          rd_kafka_topic_name(o->rkt));
	}
	return o->seen;
}

static void not_understood(size_t n)
{
	log_rarely(60000, L_ERROR, NULL, "bus_stats", "%zu bytes of statistics not understood", n);
}

int bus_stats(rd_kafka_t *rk, char *json, size_t n, void *opaque)
{
	struct bus *b = bus_of(rk, opaque);
	struct bus_stats s = { .topic = seen, .arg = b };
	bool all = true;

	for (size_t i = 0; i < BUS_OUT_CHAINS; i++)
		for (struct bus_out *o = b->outs[i]; o != NULL; o = o->next)
			o->seen = false;
	b->last_seen = NULL;
	if (bus_stats_read((struct str){ json, n }, &s) < 0) {
		not_understood(n);
		return 0;
	}
	for (size_t i = 0; i < BUS_OUT_CHAINS; i++)
		for (struct bus_out *o = b->outs[i]; o != NULL; o = o->next)
			if (o->wanted && !judge(o, s.broker_up))
				all = false;
	b->broker_up = s.broker_up;
	b->topics_there = all;
	tell(b);
	return 0;
}

/* An error_cb of either kind of client, inside its poll.  Fatal ones are acted upon outside. */
void bus_trouble(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
	struct bus *b = bus_of(rk, opaque);
	char why[200];

	switch (code) {
	case RD_KAFKA_RESP_ERR__FATAL:
		if (b->fatal.code == 0 &&
		    rd_kafka_fatal_error(rk, why, sizeof(why)) != RD_KAFKA_RESP_ERR_NO_ERROR)
			err_set(&b->fatal, -ECONNABORTED, "Kafka: %s", why);
		return;
	case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
		b->broker_up = false;
		tell(b);
		log_rarely(10000, L_WARN, NULL, "bus_down", "%s", reason);
		return;
	case RD_KAFKA_RESP_ERR__AUTHENTICATION:
	case RD_KAFKA_RESP_ERR__SSL:
	case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
	case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
	case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
		log_rarely(10000, L_ERROR, NULL, "bus_refused", "%s", reason);
		return;
	default:
		log_rarely(10000, L_WARN, NULL, "bus_trouble", "%s", reason);
		return;
	}
}

/* Syslog levels.  Properties of the other kind of client are ours to mix (CONFWARN). */
void bus_log(const rd_kafka_t *rk, int level, const char *what, const char *text)
{
	(void)rk;
	if (level <= 4 && strcmp(what, "CONFWARN") != 0)
		log_rarely(10000, L_WARN, NULL, "bus_library", "%s: %s", what, text);
	else
		log_debug(NULL, "bus_library", "%s: %s", what, text);
}

static void lag_told(void *arg, struct str topic, struct str partition, struct str messages)
{
	struct bus_sub *sub = arg;
	int64_t number, lag;

	if (str_int(partition, 0, INT32_MAX, &number) < 0 || str_int(messages, -1, INT64_MAX, &lag) < 0)
		return;
	LIST_EACH(n, tmp, &sub->parts) {
		struct bus_assigned *p = CONTAINER_OF(n, struct bus_assigned, node);

		if (p->at.partition == number && str_eq(str_of(p->wire), topic))
			p->told_lag = lag;
	}
}

/* Of a consumer: only for partitions that gave us nothing yet. */
int bus_lag_stats(rd_kafka_t *rk, char *json, size_t n, void *opaque)
{
	struct bus_stats s = { .lag = lag_told, .arg = opaque };

	IS_A((struct bus_sub *)opaque, SUB_MAGIC);
	(void)rk;
	if (bus_stats_read((struct str){ json, n }, &s) < 0)
		not_understood(n);
	return 0;
}

/* Behind what we know of the end, counting what is held as not done.  librdkafka cannot tell the
 * lag of a group that never committed in that partition: it starts at the beginning. */
static int64_t part_lag(const struct bus_sub *sub, const struct bus_assigned *p)
{
	int64_t low, high, at = p->mark.low >= 0 ? p->mark.low : p->first;

	if (at < 0 && (p->told_lag != LAG_UNKNOWN || sub->c.group == NULL))
		return p->told_lag > 0 ? p->told_lag : 0;
	if (rd_kafka_get_watermark_offsets(sub->rk, p->wire, p->at.partition, &low, &high) !=
	    RD_KAFKA_RESP_ERR_NO_ERROR)
		return 0;
	if (at < 0)
		at = low > 0 ? low : 0;
	return high > at ? high - at : 0;
}

int64_t bus_lag(const struct bus *b)
{
	int64_t lag = 0;

	LIST_EACH(n, tmp, &b->subs) {
		const struct bus_sub *sub = CONTAINER_OF(n, struct bus_sub, node);

		LIST_EACH(k, tmp2, &sub->parts)
			lag += part_lag(sub, CONTAINER_OF(k, struct bus_assigned, node));
	}
	return lag;
}

void bus_watch_tick(struct bus *b)
{
	size_t held = 0;

	LIST_EACH(n, tmp, &b->subs)
		held += CONTAINER_OF(n, struct bus_sub, node)->held.n;
	metric_set(bus_metrics[BM_HELD], 0, (int64_t)held);
	metric_set(bus_metrics[BM_UNSENT], 0, (int64_t)b->unsent.n);
	metric_set(bus_metrics[BM_LAG], 0, bus_lag(b));
}

/* Only where none of librdkafka's and no caller's frame is left: the service stops from here. */
void bus_fatal_check(struct bus *b)
{
	if (b->fatal.code < 0 && !b->closing)
		service_fatal(b->s, &b->fatal);
}

/* bench_bus.c - messages per second through the bus against bare librdkafka with the same settings,
 * except that the floor has librdkafka's own, far larger queues.
 *      TEST_KAFKA=host:port build/release/bench/bench_bus [messages]
 *
 * consume   taken, looked at and done; offsets stored        floor: rd_kafka_consumer_poll()
 * produce   sent and acknowledged by all (acks=all)          floor: rd_kafka_produceva(), poll
 * hop       sent, seen; p50 of 500 a second, open loop     floor: the same in one bare loop
 * pipeline  taken, sent on, acknowledged, then done          floor: both in one bare loop
 *
 * Floor and ours take turns; medians of the rounds count.  The clock runs from the first message
 * to the last, so joining the group is not measured. */
#include "lib.h"

#include "bus_impl.h"
#include "probe.h"
#include "wait.h"

enum { ROUNDS = 3, PARTITIONS = 16, BODY = 400, HELD = 4000 };

static struct service service = { .name = "bench_bus" };
static const char *brokers;
static char prefix[40];
static size_t many = 200000;
static char bodies[256][BODY]; /* chat compresses to about a half, so do these */
static const struct bus_header heads[] = {
	{ "ce_specversion", { "1.0", 3 } },
	{ "ce_id", { "twitch:8b0e5a0c-1f6f-4a52-9f4e-6c5f5d1d6f5e", 43 } },
	{ "ce_type", { "waddle.event.v1", 15 } },
	{ "ce_source", { "collector-twitch", 16 } },
	{ "content-type", { "application/json", 16 } },
	{ "traceparent", { "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", 55 } },
};

static struct str key_of(char to[24], size_t i)
{
	return (struct str){ to, (size_t)snprintf(to, 24, "twitch:%zu", 141981764 + i % 997) };
}

static struct str body_of(size_t i)
{
	return (struct str){ bodies[i % ARRAY_LEN(bodies)], BODY };
}

static void fill_bodies(void)
{
	static const char *const words[] = { "\"user\":{\"id\":\"", "\",\"name\":\"", "\",\"text\":\"",
					     "twitch:" };

	for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
		for (size_t at = 0; at < BODY;) {
			char piece[48];
			int n = snprintf(piece, sizeof(piece), "%s%llx", words[rnd_below(4)],
			                 (unsigned long long)rnd_next());

			for (int k = 0; k < n && at < BODY; k++)
				bodies[i][at++] = piece[k];
		}
}

static char *wire(const char *name)
{
	return text_of("%s.%s", prefix, name);
}

static void create(const char *name)
{
	char *topic = wire(name);

	probe_create(brokers, topic, PARTITIONS, NULL);
	free(topic);
}

static void drop(const char *name)
{
	char *topic = wire(name);

	probe_delete(brokers, topic);
	free(topic);
}

static struct bus *open_bus(void)
{
	struct err err;
	struct bus *b = bus_open(&service, str_of(brokers), str_of(prefix), &err);

	if (b == NULL)
		harness_fail("%s", err.text);
	return b;
}

/* ---- produce ----------------------------------------------------------------------------- */

static size_t acked;

static void ack(void *arg, const struct err *err)
{
	(void)arg;
	if (err != NULL)
		harness_fail("%s", err->text);
	acked++;
}

static bool half_empty(void *arg)
{
	return bus_unsent(arg) < BUS_QUEUE_MAX / 2;
}
static bool all_acked(void *arg)
{
	(void)arg;
	return acked >= many;
}

static double produce_ours(const char *topic)
{
	struct bus *b = open_bus();
	char key[24];
	double from;

	acked = 0;
	if (bus_send(b, topic, STR("warm"), STR("up"), NULL, 0, NULL, NULL) < 0)
		harness_fail("the first message");
	while (bus_unsent(b) > 0)
		if (!service_run(&service, half_empty, b, 10))
			continue;
		else
			rd_kafka_poll(b->rk, 10);
	from = bench_now_s();
	for (size_t i = 0; i < many;) {
		int r = bus_send(b, topic, key_of(key, i), body_of(i), heads, ARRAY_LEN(heads), ack, NULL);

		if (r == 0)
			i++;
		else if (r != -EAGAIN || !service_run(&service, half_empty, b, 30000))
			harness_fail("bus_send: %d", r);
	}
	if (!service_run(&service, all_acked, NULL, 60000))
		harness_fail("not acknowledged");
	from = bench_now_s() - from;
	bus_close(b);
	return (double)many / from;
}

static void bare_ack(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
	(void)rk, (void)opaque;
	if (m->err != 0)
		harness_fail("%s", rd_kafka_err2str(m->err));
	if (m->_private != NULL)
		acked++;
}

/* A client with the settings of ours and none of our code behind it. */
static rd_kafka_t *bare(rd_kafka_t *like, rd_kafka_type_t type,
			void (*report)(rd_kafka_t *, const rd_kafka_message_t *, void *))
{
	rd_kafka_conf_t *conf = rd_kafka_conf_dup(rd_kafka_conf(like));
	struct err err;
	rd_kafka_t *rk;

	char why[100];

	/* Its own defaults, for speed: a local queue of 64 MiB, for which we have no memory. */
	rd_kafka_conf_set(conf, "queued.min.messages", "100000", why, sizeof(why));
	rd_kafka_conf_set(conf, "queued.max.messages.kbytes", "65536", why, sizeof(why));
	rd_kafka_conf_set(conf, "fetch.max.bytes", "52428800", why, sizeof(why));
	rd_kafka_conf_set_dr_msg_cb(conf, report);
	rd_kafka_conf_set_rebalance_cb(conf, NULL);
	rd_kafka_conf_set_stats_cb(conf, NULL);
	rd_kafka_conf_set_error_cb(conf, NULL);
	rd_kafka_conf_set_log_cb(conf, NULL);
	rk = bus_client(type, conf, &err);
	if (rk == NULL)
		harness_fail("%s", err.text);
	return rk;
}

static rd_kafka_resp_err_t bare_send(rd_kafka_t *rk, rd_kafka_topic_t *t, const void *key, size_t key_n,
				     const void *value, size_t value_n, void *opaque)
{
	rd_kafka_headers_t *h = rd_kafka_headers_new(ARRAY_LEN(heads));
	rd_kafka_resp_err_t e;

	for (size_t i = 0; i < ARRAY_LEN(heads); i++)
		rd_kafka_header_add(h, heads[i].name, -1, heads[i].value.p, (ssize_t)heads[i].value.n);
	e = rd_kafka_producev(rk, RD_KAFKA_V_RKT(t), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
	                      RD_KAFKA_V_VALUE((void *)(uintptr_t)value, value_n), RD_KAFKA_V_KEY(key, key_n),
	                      RD_KAFKA_V_OPAQUE(opaque), RD_KAFKA_V_HEADERS(h), RD_KAFKA_V_END);
	if (e != 0)
		rd_kafka_headers_destroy(h);
	return e;
}

static double produce_floor(const char *topic)
{
	struct bus *b = open_bus();
	rd_kafka_t *rk = bare(b->rk, RD_KAFKA_PRODUCER, bare_ack);
	char *name = wire(topic + strlen("waddle."));
	rd_kafka_topic_t *t = rd_kafka_topic_new(rk, name, NULL);
	char key[24];
	double from;

	acked = 0;
	bare_send(rk, t, "warm", 4, "up", 2, NULL);
	rd_kafka_flush(rk, 10000);
	from = bench_now_s();
	for (size_t i = 0; i < many;) {
		struct str k = key_of(key, i);

		if (bare_send(rk, t, k.p, k.n, bodies[i % 256], BODY, key) == 0)
			i++;
		else
			rd_kafka_poll(rk, 10);
		if (i % 64 == 0)
			rd_kafka_poll(rk, 0);
	}
	rd_kafka_flush(rk, 60000);
	from = bench_now_s() - from;
	if (acked != many)
		harness_fail("%zu acknowledged", acked);
	rd_kafka_topic_destroy(t);
	rd_kafka_destroy(rk);
	free(name);
	bus_close(b);
	return (double)many / from;
}

/* ---- consume ----------------------------------------------------------------------------- */

struct taking {
	struct bus *b;
	size_t seen, done;
	double first;
	bool forward;
	const char *group;
};

static bool all_seen(void *arg)
{
	return ((struct taking *)arg)->done >= many;
}

static void message(void *arg, struct bus_msg *m)
{
	struct taking *k = arg;

	if (k->seen++ == 0)
		k->first = bench_now_s();
	k->done++;
	bus_done(m);
}

static void forwarded(void *arg, const struct err *err)
{
	struct bus_msg *m = arg;
	struct taking *k = m->user;

	if (err != NULL)
		harness_fail("%s", err->text);
	bus_done(m);
	k->done++;
}

static void forward(void *arg, struct bus_msg *m)
{
	struct taking *k = arg;

	if (k->seen++ == 0)
		k->first = bench_now_s();
	m->user = k;
	if (bus_send(k->b, "waddle.out", m->key, m->value, heads, ARRAY_LEN(heads), forwarded, m) < 0)
		harness_fail("bus_send refused below its limit");
}

static double take_ours(bool on, int round)
{
	struct taking k = { .b = open_bus(), .forward = on };
	char *group = text_of("waddle.ours-%d-%d", on, round);
	static const char *const topics[] = { "waddle.in", NULL };
	const struct bus_consumer c = {
		.group = group,
		.topics = topics,
		.max_held = HELD,
		.message = on ? forward : message,
		.arg = &k,
	};
	struct bus_sub *sub;
	struct err err;
	double took;

	if (bus_consume(k.b, &c, &sub, &err) < 0 || !service_run(&service, all_seen, &k, 120000))
		harness_fail("%zu of %zu messages", k.done, many);
	took = bench_now_s() - k.first;
	bus_close(k.b);
	free(group);
	return (double)many / took;
}

static void bare_forwarded(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
	(void)rk, (void)opaque;
	rd_kafka_message_destroy(m->_private);
	acked++;
}

static double take_floor(bool on, int round)
{
	struct bus *b = open_bus();
	struct bus_sub like = { .b = b, .magic = SUB_MAGIC };
	char *group = text_of("waddle.floor-%d-%d", on, round), *in = wire("in"), *out = wire("out");
	rd_kafka_t *tx = bare(b->rk, RD_KAFKA_PRODUCER, bare_forwarded), *rx, *model;
	rd_kafka_topic_t *t = rd_kafka_topic_new(tx, out, NULL);
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	struct err err;
	size_t seen = 0;
	double from = 0;

	acked = 0;
	like.c.group = group;
	model = rd_kafka_new(RD_KAFKA_CONSUMER, bus_conf_consumer(&like, &err), NULL, 0);
	rx = bare(model, RD_KAFKA_CONSUMER, NULL);
	rd_kafka_poll_set_consumer(rx);
	rd_kafka_topic_partition_list_add(list, in, -1);
	rd_kafka_subscribe(rx, list);
	while ((on ? acked : seen) < many) {
		rd_kafka_message_t *m = rd_kafka_consumer_poll(rx, on && acked < seen ? 0 : 100);

		if (m != NULL && m->err == 0) {
			if (seen++ == 0)
				from = bench_now_s();
			if (!on)
				rd_kafka_message_destroy(m);
			else
				while (bare_send(tx, t, m->key, m->key_len, m->payload, m->len, m) != 0)
					rd_kafka_poll(tx, 1);
		} else if (m != NULL) {
			rd_kafka_message_destroy(m);
		}
		if (on && (m == NULL || seen % 64 == 0))
			rd_kafka_poll(tx, m == NULL && acked < seen ? 1 : 0);
	}
	from = bench_now_s() - from;
	rd_kafka_topic_partition_list_destroy(list);
	rd_kafka_topic_destroy(t);
	rd_kafka_destroy(tx);
	rd_kafka_consumer_close(rx);
	rd_kafka_destroy(rx);
	rd_kafka_destroy(model);
	bus_close(b);
	free(group);
	free(in);
	free(out);
	return (double)many / from;
}

/* ---- one hop ----------------------------------------------------------------------------- */

enum { HOPS = 1500, HOP_US = 2000 };    /* 500 a second, whether or not the one before has arrived */

struct hopping {
	struct bus *b;
	struct timer timer;
	size_t sent, seen;
	int64_t next_us;
	double us[HOPS];
};

static void hop_seen(struct hopping *h, const void *value, size_t n)
{
	int64_t at;

	if (n != sizeof(at) || h->seen == HOPS)
		return;
	memcpy(&at, value, sizeof(at));
	h->us[h->seen++] = (double)(clock_exact_us() - at);
}

static void hop_message(void *arg, struct bus_msg *m)
{
	hop_seen(arg, m->value.p, m->value.n);
	bus_done(m);
}

static void hop_due(void *arg)
{
	struct hopping *h = arg;
	char key[24];

	for (; h->sent < HOPS && clock_exact_us() >= h->next_us; h->sent++, h->next_us += HOP_US) {
		int64_t now = clock_exact_us();

		if (bus_send(h->b, "waddle.hop", key_of(key, h->sent), (struct str){ (char *)&now, sizeof(now) }, heads,
			     ARRAY_LEN(heads), NULL, NULL) < 0)
			harness_fail("bus_send");
	}
	if (h->sent < HOPS)
		timer_start(&service, &h->timer, 1, hop_due, h);
}

static bool all_hopped(void *arg) { return ((struct hopping *)arg)->seen == HOPS; }

static void hop_ours(double *p50, double *p99)
{
	static struct hopping h;
	static const char *const topics[] = { "waddle.hop", NULL };
	const struct bus_consumer c = {
		.topics = topics, .max_held = HELD, .message = hop_message, .arg = &h
	};
	struct bus_sub *sub;
	struct err err;

	h = (struct hopping){ .b = open_bus() };
	if (bus_consume(h.b, &c, &sub, &err) < 0)
		harness_fail("%s", err.text);
	h.next_us = clock_exact_us() + 200000;
	timer_start(&service, &h.timer, 200, hop_due, &h);
	if (!service_run(&service, all_hopped, &h, 60000))
		harness_fail("%zu hops", h.seen);
	bus_close(h.b);
	*p50 = bench_percentile(h.us, HOPS, 50);
	*p99 = bench_percentile(h.us, HOPS, 99);
}

static void ignore(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
	(void)rk, (void)m, (void)opaque;
}

static void hop_floor(double *p50, double *p99)
{
	static struct hopping h;
	struct bus *b = open_bus();
	struct bus_sub like = { .b = b, .magic = SUB_MAGIC };
	char *name = wire("hop");
	rd_kafka_t *tx = bare(b->rk, RD_KAFKA_PRODUCER, ignore), *rx, *model;
	rd_kafka_topic_t *t = rd_kafka_topic_new(tx, name, NULL);
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(PARTITIONS);
	struct err err;
	char key[24];

	h = (struct hopping){ 0 };
	model = rd_kafka_new(RD_KAFKA_CONSUMER, bus_conf_consumer(&like, &err), NULL, 0);
	rx = bare(model, RD_KAFKA_CONSUMER, NULL);
	rd_kafka_poll_set_consumer(rx);
	for (int i = 0; i < PARTITIONS; i++)
		rd_kafka_topic_partition_list_add(list, name, i)->offset = RD_KAFKA_OFFSET_END;
	while (rd_kafka_offsets_for_times(rx, list, 10000) != 0 || list->elems[0].offset < 0)
		for (int i = 0; i < PARTITIONS; i++)    /* a fresh leader does not know yet that it is one */
			list->elems[i].offset = RD_KAFKA_OFFSET_END;
	rd_kafka_assign(rx, list);
	h.next_us = clock_exact_us() + 200000;
	while (h.seen < HOPS) {
		int64_t wait = (h.next_us - clock_exact_us()) / 1000;
		rd_kafka_message_t *m = rd_kafka_consumer_poll(rx, h.sent == HOPS ? 100 :
		                                                   wait > 1       ? (int)wait :
		                                                                    1);

		if (m != NULL && m->err == 0)
			hop_seen(&h, m->payload, m->len);
		if (m != NULL)
			rd_kafka_message_destroy(m);
		for (; h.sent < HOPS && clock_exact_us() >= h.next_us; h.sent++, h.next_us += HOP_US) {
			int64_t now = clock_exact_us();
			struct str k = key_of(key, h.sent);

			bare_send(tx, t, k.p, k.n, &now, sizeof(now), NULL);
		}
		rd_kafka_poll(tx, 0);
	}
	rd_kafka_topic_partition_list_destroy(list);
	rd_kafka_topic_destroy(t);
	rd_kafka_destroy(tx);
	rd_kafka_consumer_close(rx);
	rd_kafka_destroy(rx);
	rd_kafka_destroy(model);
	bus_close(b);
	free(name);
	*p50 = bench_percentile(h.us, HOPS, 50);
	*p99 = bench_percentile(h.us, HOPS, 99);
}

static int hops(void)
{
	double p50[2][ROUNDS], p99[2][ROUNDS], value, floor_;

	for (int i = 0; i < ROUNDS; i++) {
		hop_floor(&p50[0][i], &p99[0][i]);
		hop_ours(&p50[1][i], &p99[1][i]);
	}
	value = bench_median(p99[1], ROUNDS);
	floor_ = bench_median(p99[0], ROUNDS);
	return bench_report("bus-hop", bench_median(p50[1], ROUNDS), bench_median(p50[0], ROUNDS), "us",
	                    (const struct bench_extra[]){ { "p99", value, NULL },
	                                                  { "floor_p99", floor_, NULL },
	                                                  { "p99_ratio", value / floor_, NULL } },
	                    3);
}

int main(int argc, char **argv)
{
	double ours[3][ROUNDS], bare_[3][ROUNDS];
	static const char *const names[] = { "bus-produce", "bus-consume", "bus-pipeline" };
	int status = 0;

	if (argc > 1)
		many = strtoul(argv[1], NULL, 10);
	brokers = env_of("TEST_KAFKA");
	fill_bodies();
	snprintf(prefix, sizeof(prefix), "bench-%llx", (unsigned long long)(rnd_next() & 0xffffff));
	service_init(&service);
	create("in");
	create("out");
	create("spare");
	create("hop");
	status |= hops();
	produce_floor("waddle.in"); /* what the consumers take */
	for (int i = 0; i < ROUNDS; i++) {
		bare_[0][i] = produce_floor("waddle.spare");
		ours[0][i] = produce_ours("waddle.spare");
		bare_[1][i] = take_floor(false, i);
		ours[1][i] = take_ours(false, i);
		bare_[2][i] = take_floor(true, i);
		ours[2][i] = take_ours(true, i);
	}
	for (int k = 0; k < 3; k++)
		status |= bench_report(names[k], bench_median(ours[k], ROUNDS),
		                       bench_median(bare_[k], ROUNDS), "messages/s", NULL, 0);
	drop("in");
	drop("out");
	drop("spare");
	drop("hop");
	service_clear(&service);
	return status;
}

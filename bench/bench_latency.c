/* bench_latency.c - how long an answer takes at a rate the suite keeps up with easily.
 *
 *      bench_latency [rate] [seconds per round] [rounds]
 *
 * Open loop: `!memories list` is produced on schedule, 500 a second, whatever became of those
 * before, and each latency counts from its scheduled instant until its answer is seen on the
 * outbound topic; a stall is thus felt by everybody who would have come meanwhile.
 * Floor, in the same program at the same rate: three Kafka hops and two commits one after another,
 * topic -> execution row -> topic -> response row -> topic, by bare loops (lib_floor.h).
 * Value and floor are the p50s in milliseconds, p99_ratio compares the p99s; medians of the rounds. */
#include "lib.h"
#include "lib_floor.h"

#include <pthread.h>
#include <time.h>

enum { ROUNDS = 9, WARM_UP_S = 2 };

static struct stack st;
static size_t rate = 500, many;

struct load {
	pthread_t   thread;
	const char *text;
	char       *topic;
	rd_kafka_t *to;
	double      start_s;
};

static double due(const struct load *l, size_t i)
{
	return l->start_s + (double)i / (double)rate;
}

static void *produce_on_schedule(void *arg)
{
	struct load *l = arg;
	struct load_event e;

	for (size_t i = 0; i < many; i++) {
		double at = due(l, i);
		struct timespec ts = { .tv_sec = (time_t)at,
			               .tv_nsec = (long)((at - (double)(time_t)at) * 1e9) };

		load_event(&e, i, l->text);
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) != 0)
			;
		load_produce(l->to, l->topic, e.key, e.key_n, e.body, e.n);
		rd_kafka_poll(l->to, 0);
	}
	rd_kafka_flush(l->to, 30000);
	return NULL;
}

/* The number in the reply_ref; the event's own in the floor, whose messages are the events. */
static size_t number_of(const rd_kafka_message_t *m)
{
	static const char key[] = "\"reply_ref\":\"";
	const char *at = memmem(m->payload, m->len, key, sizeof key - 1);
	char text[9] = "";

	if (at == NULL || (size_t)((const char *)m->payload + m->len - at) < sizeof key + 8)
		harness_fail("an answer without its reply_ref");
	memcpy(text, at + sizeof key - 1, 8);
	return strtoul(text, NULL, 16);
}

/* Percentiles of what is answered after the warm-up. */
static void measure(const char *from, const char *to, const char *group, const char *text, double *p50, double *p99)
{
	struct load l = { .text = text,
		          .topic = load_wire(&st, from),
		          .to = load_producer(&st, NULL, NULL) };
	rd_kafka_t *seen = load_consumer(&st, to, group);
	double *ms = XNEW_N(double, many);
	size_t got = 0, n = 0;
	int64_t last_ms;

	/* It has its partitions, the producer its connection. */
	for (int cnt = 0; cnt == 0;) {
		rd_kafka_topic_partition_list_t *list = NULL;
		rd_kafka_message_t *msg = rd_kafka_consumer_poll(seen, 50);

		if (msg != NULL)
			rd_kafka_message_destroy(msg);
		if (rd_kafka_assignment(seen, &list) == RD_KAFKA_RESP_ERR_NO_ERROR)
			cnt = list->cnt;
		if (list != NULL)
			rd_kafka_topic_partition_list_destroy(list);
	}
	l.start_s = bench_now_s() + 0.5;
	if (pthread_create(&l.thread, NULL, produce_on_schedule, &l) != 0)
		harness_fail("no thread");
	last_ms = harness_now_ms() + 60000 + (int64_t)(many * 1000 / rate);
	while (got < many && harness_now_ms() < last_ms) {
		rd_kafka_message_t *msg = rd_kafka_consumer_poll(seen, 100);
		double now = bench_now_s();

		if (msg != NULL && msg->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
			size_t i = number_of(msg);

			got++;
			if (i >= WARM_UP_S * rate)
				ms[n++] = (now - due(&l, i)) * 1000;
		}
		if (msg != NULL)
			rd_kafka_message_destroy(msg);
	}
	pthread_join(l.thread, NULL);
	if (got < many)
		harness_fail("%zu of %zu answers came from %s", got, many, to);
	*p50 = bench_percentile(ms, n, 50);
	*p99 = bench_percentile(ms, n, 99);
	free(ms);
	rd_kafka_consumer_close(seen);
	rd_kafka_destroy(seen);
	rd_kafka_destroy(l.to);
	free(l.topic);
}

static void floor_round(double *p50, double *p99)
{
	struct floor_hop *back = floor_hop_start(&st, FLOOR_RESPONSE, "waddle.floor.commands",
	                                         "waddle.floor.out", "floor-back", true, many);
	struct floor_hop *there = floor_hop_start(&st, FLOOR_EXECUTION, "waddle.floor.trips",
	                                          "waddle.floor.commands", "floor-there", true, many);
	double first, last;

	measure("waddle.floor.trips", "waddle.floor.out", "latency-floor", "!memories list", p50, p99);
	floor_hop_join(there, &first, &last);
	floor_hop_join(back, &first, &last);
}

int main(int argc, char **argv)
{
	double p50[ROUNDS], p99[ROUNDS], floor50[ROUNDS], floor99[ROUNDS], floor, seconds;
	struct child *router, *memories;
	int rounds, bad;

	rate = argc > 1 ? (size_t)strtoul(argv[1], NULL, 10) : 500;
	seconds = argc > 2 ? strtod(argv[2], NULL) : 10;
	rounds = argc > 3 ? (int)strtoul(argv[3], NULL, 10) : 3;
	rounds = rounds > ROUNDS ? ROUNDS : rounds;
	many = (size_t)((seconds + WARM_UP_S) * (double)rate);
	load_open(&st, "bench_latency", 16);
	load_memories(&st);
	router = stack_service(&st, "waddle-router", "waddle_router", NULL);
	memories = stack_service(&st, "waddle-memories", "waddle_memories", NULL);
	child_wait_ready(router, true, 30000);
	child_wait_ready(memories, true, 30000);
	load_enable(&st, "memories");
	for (int i = 0; i < rounds; i++) {
		floor_round(&floor50[i], &floor99[i]);
		measure("waddle.events", "waddle.outbound.terminal", "latency", "!memories list", &p50[i],
		        &p99[i]);
		printf("  latency %d: p50 %.2f ms, p99 %.2f ms; floor %.2f and %.2f ms\n", i + 1, p50[i],
		       p99[i], floor50[i], floor99[i]);
		fflush(stdout);
	}
	floor = bench_median(floor99, (size_t)rounds);
	bad = bench_report("latency", bench_median(p50, (size_t)rounds),
	                   bench_median(floor50, (size_t)rounds), "ms",
	                   (const struct bench_extra[]){
				   { "p99", bench_median(p99, (size_t)rounds), NULL },
				   { "p99_floor", floor, NULL },
				   { "p99_ratio", bench_median(p99, (size_t)rounds) / floor, NULL },
				   { "rate", (double)rate, NULL },
			   },
	                   4);
	child_end(memories, 30000);
	child_end(router, 30000);
	child_free(memories);
	child_free(router);
	stack_close(&st);
	return bad;
}

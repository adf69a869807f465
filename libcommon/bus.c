/* bus.c - the life of the bus: open, the producer's turns of the loop, close. */
#include "bus_impl.h"

#include "log.h"

enum { FLUSH_MS = 10000, LEAVE_MS = 5000 };

static void turn(struct bus *b)
{
	rd_kafka_poll(b->rk, 0);
	bus_reports_run(b, BUS_TURN_MESSAGES);
	bus_fatal_check(b);
}

static void woken(int fd, short what, void *arg)
{
	struct bus *b = arg;

	(void)fd, (void)what;
	IS_A(b, BUS_MAGIC);
	bus_wake_read(&b->wake);
	turn(b);
}

static void ticked(void *arg)
{
	struct bus *b = arg;

	IS_A(b, BUS_MAGIC);
	timer_start(b->s, &b->tick, BUS_TICK_MS, ticked, b);
	bus_rejects_run(b);
	bus_watch_tick(b);
	turn(b);
}

static void bus_free(struct bus *b)
{
	bus_wake_close(&b->wake);
	bus_outs_clear(b);
	if (b->main != NULL)
		rd_kafka_queue_destroy(b->main);
	if (b->rk != NULL)
		rd_kafka_destroy(b->rk);
	bus_pool_clear(b);
	free(b->brokers);
	NOT_A_MORE(b, BUS_MAGIC);
	free(b);
}

struct bus *bus_open(struct service *s, struct str brokers, struct str prefix, struct err *err)
{
	struct bus *b = XNEW(struct bus);
	rd_kafka_conf_t *conf = NULL;

	MAKE_A(b, BUS_MAGIC);
	b->s = s;
	b->wake.fd = -1;
	b->unsent.s = s;
	b->done_end = &b->done;
	list_init(&b->subs);
	list_init(&b->rejects);
	b->brokers = strndup(brokers.n > 0 ? brokers.p : "", brokers.n);
	ASSERT(b->brokers != NULL);
	if (bus_prefix_set(&b->prefix, prefix, err) == 0)
		conf = bus_conf_producer(b, err);
	if (conf != NULL)
		b->rk = bus_client(RD_KAFKA_PRODUCER, conf, err);
	if (b->rk == NULL) {
		bus_free(b);
		return NULL;
	}
	b->main = rd_kafka_queue_get_main(b->rk);
	bus_wake_open(&b->wake, s, woken, b);
	bus_wake_on(&b->wake, b->main);
	timer_start(s, &b->tick, BUS_TICK_MS, ticked, b);
	service_ready(s, "kafka", false);
	return b;
}

static int left_ms(int64_t until_mono_ms, int64_t most)
{
	int64_t left = until_mono_ms - clock_exact_us() / 1000;

	return (int)(left < 0 ? 0 : left < most ? left : most);
}

/* sent() runs between the waits, so that what follows from an acknowledgement (bus_done) counts. */
static void flush(struct bus *b, int64_t until_mono_ms)
{
	size_t unsent;

	while (b->in_flight > 0 && left_ms(until_mono_ms, 1) > 0) {
		rd_kafka_flush(b->rk, left_ms(until_mono_ms, 100));
		bus_reports_run(b, SIZE_MAX);
	}
	unsent = b->in_flight;
	if (unsent > 0) {
		log_warn(NULL, "bus_unsent",
		         "the broker did not take %zu messages in time, they are given up", unsent);
		rd_kafka_purge(b->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
		while (b->in_flight > 0)
			rd_kafka_poll(b->rk, 100);
	}
	bus_reports_run(b, SIZE_MAX);
	ASSERT(b->unsent.n == 0);
}

void bus_close(struct bus *b)
{
	int64_t now = clock_exact_us() / 1000;

	if (b == NULL)
		return;
	IS_A(b, BUS_MAGIC);
	ASSERT(b->depth == 0);
	b->closing = true;
	timer_stop(&b->tick);
	flush(b, now + FLUSH_MS);
	now = clock_exact_us() / 1000;
	while (!list_empty(&b->subs))
		bus_sub_close(CONTAINER_OF(list_first(&b->subs), struct bus_sub, node), now + LEAVE_MS);
	bus_free(b);
}

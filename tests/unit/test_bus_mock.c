/* test_bus_mock.c - the bus against librdkafka's mock cluster: what a real broker cannot be asked
 * to do on demand. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "bus.h"
#include "err.h"
#include "service.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

enum { MANY = 500, API_PRODUCE = 0 };

struct fixture {
	struct service s;
	rd_kafka_t *host;
	rd_kafka_mock_cluster_t *mock;
	struct bus *b;
	struct bus_sub *sub;
	int seen, wanted, acked, failed, last_code, reordered, last_acked;
	struct bus_msg *held[MANY];
	int n_held;
	bool keep;
};

static int set_up(void **state)
{
	struct fixture *f = XNEW(struct fixture);
	char why[200];
	struct err err;

	f->s.name = "test_bus_mock";
	service_init(&f->s);
	f->host = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), why, sizeof(why));
	assert_non_null(f->host);
	f->mock = rd_kafka_mock_cluster_new(f->host, 1);
	assert_non_null(f->mock);
	assert_int_equal(rd_kafka_mock_topic_create(f->mock, "waddle.events", 4, 1), 0);
	assert_int_equal(rd_kafka_mock_topic_create(f->mock, "waddle.dlq", 1, 1), 0);
	f->b = bus_open(&f->s, str_of(rd_kafka_mock_cluster_bootstraps(f->mock)), STR_NONE, &err);
	assert_non_null(f->b);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	bus_close(f->b);
	rd_kafka_mock_cluster_destroy(f->mock);
	rd_kafka_destroy(f->host);
	service_clear(&f->s);
	free(f);
	return 0;
}

static void message(void *arg, struct bus_msg *m)
{
	struct fixture *f = arg;

	f->seen++;
	if (f->keep && f->n_held < MANY)
		f->held[f->n_held++] = m;
	else
		bus_done(m);
}

static void consume(struct fixture *f, const char *const *topics, int max_held)
{
	const struct bus_consumer c = {
		.group = "waddle.test",
		.topics = topics,
		.max_held = max_held,
		.message = message,
		.arg = f,
	};
	struct err err;

	assert_int_equal(bus_consume(f->b, &c, &f->sub, &err), 0);
}

static const char *const events[] = { "waddle.events", NULL };

struct one {
	struct fixture *f;
	int number;
};

static void sent(void *arg, const struct err *err)
{
	struct one *o = arg;
	struct fixture *f = o->f;

	if (err != NULL) {
		f->failed++;
		f->last_code = err->code;
	} else {
		if (o->number < f->last_acked)
			f->reordered++;
		f->last_acked = o->number;
		f->acked++;
	}
	free(o);
}

static int send_one(struct fixture *f, int number)
{
	struct one *o = XNEW(struct one);
	int r;

	*o = (struct one){ f, number };
	r = bus_send(f->b, "waddle.events", STR("one key"), STR("{}"), NULL, 0, sent, o);
	if (r < 0)
		free(o);
	return r;
}

static bool all_seen(void *arg)
{
	struct fixture *f = arg;
	return f->seen >= f->wanted;
}
static bool all_reported(void *arg)
{
	struct fixture *f = arg;
	return f->acked + f->failed >= f->wanted;
}

static void what_is_sent_is_acknowledged_and_consumed(void **state)
{
	struct fixture *f = *state;

	consume(f, events, 1000);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(send_one(f, i), 0);
	assert_int_equal(f->acked, 0); /* never from inside bus_send() */
	f->wanted = MANY;
	assert_true(service_run(&f->s, all_reported, f, 20000));
	assert_int_equal(f->failed, 0);
	assert_int_equal(f->reordered, 0);
	assert_true(service_run(&f->s, all_seen, f, 20000));
	assert_int_equal(f->seen, MANY);
	assert_int_equal(bus_unsent(f->b), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_sent_is_acknowledged_and_consumed, set_up, tear_down),
	};

	return !!cmocka_run_group_tests_name("bus_mock", tests, NULL, NULL);
}

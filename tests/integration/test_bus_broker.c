/* test_bus_broker.c - the broker stops, dies and comes back under the bus. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "bus_client.h"
#include "probe.h"
#include "stack.h"
#include "wait.h"

enum { KEYS = 23, PARTITIONS = 4, VALUES_MAX = 50000 };

struct fixture {
	const char *brokers;
	char *prefix, *topic;
	struct bus_client c;
	bool down;
	int n_sent;
};

static const char *const events[] = { "waddle.events", NULL };

static int set_up(void **state)
{
	struct fixture *f = XNEW(struct fixture);

	f->brokers = env_of("TEST_KAFKA");
	f->prefix = text_of("test-broker-%llx", (unsigned long long)(rnd_next() & 0xffffff));
	f->topic = text_of("%s.events", f->prefix);
	probe_create(f->brokers, f->topic, PARTITIONS, NULL);
	bus_client_open(&f->c, f->brokers, f->prefix);
	*state = f;
	return 0;
}

static void broker(struct fixture *f, const char *word)
{
	stack_broker(word);
	f->down = strcmp(word, "stop") == 0 || strcmp(word, "kill") == 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	if (f->down)
		broker(f, "start"); /* a failed test must not spoil the next */
	if (f->c.b != NULL)
		bus_client_close(&f->c);
	probe_delete(f->brokers, f->topic);
	free(f->prefix);
	free(f->topic);
	free(f);
	return 0;
}

static void send(struct fixture *f, int n)
{
	for (int i = 0; i < n; i++) {
		char value[20], key[20];

		snprintf(value, sizeof(value), "%d", f->n_sent);
		snprintf(key, sizeof(key), "k%d", f->n_sent % KEYS);
		assert_int_equal(bus_client_send(&f->c, "waddle.events", key, value), 0);
		f->n_sent++;
		if (i % 10 == 9)
			bus_client_for(&f->c, 2);
	}
}

/* Values are numbers in the order of sending: each once, rising in each partition. */
static void check_topic(const struct fixture *f)
{
	bool *there = XNEW_N(bool, VALUES_MAX);
	long last[PARTITIONS] = { -1, -1, -1, -1 };
	size_t wrong_order = 0, twice = 0, missing = 0;
	struct probe_topic t;

	probe_read(f->brokers, f->topic, &t);
	for (size_t i = 0; i < t.n; i++) {
		long value = strtol(t.msgs[i].value, NULL, 10);

		wrong_order += value <= last[t.msgs[i].partition];
		last[t.msgs[i].partition] = value;
		twice += there[value];
		there[value] = true;
	}
	for (int i = 0; i < f->n_sent; i++)
		missing += !there[i];
	probe_free(&t);
	free(there);
	assert_int_equal(missing, 0);
	assert_int_equal(twice, 0);
	assert_int_equal(wrong_order, 0);
}

static size_t consumer_missed(const struct fixture *f)
{
	bool *there = XNEW_N(bool, VALUES_MAX);
	size_t missing = 0;

	for (size_t i = 0; i < f->c.seen; i++)
		there[strtol(f->c.msgs[i].value, NULL, 10)] = true;
	for (int i = 0; i < f->n_sent; i++)
		missing += !there[i];
	free(there);
	return missing;
}

static bool all_consumed(void *arg)
{
	const struct fixture *f = arg;

	return f->c.seen >= (size_t)f->n_sent && consumer_missed(f) == 0;
}

/* Sends in front of the closed door until the queue is full. */
static void fill(struct fixture *f)
{
	int r = 0;

	while (r == 0 && f->n_sent < VALUES_MAX - 2000) {
		char value[20], key[20];

		snprintf(value, sizeof(value), "%d", f->n_sent);
		snprintf(key, sizeof(key), "k%d", f->n_sent % KEYS);
		r = bus_client_send(&f->c, "waddle.events", key, value);
		f->n_sent += r == 0;
	}
	assert_int_equal(r, -EAGAIN);
	assert_in_range(bus_unsent(f->c.b), 1000, f->n_sent);
}

static void nothing_is_lost_doubled_or_reordered_when_the_broker_restarts(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;

	bus_client_consume(c, "waddle.test", events, 500);
	assert_true(bus_client_wait_ready(c, true, 20000));
	send(f, 1000);
	broker(f, "stop"); /* blocks: messages wait in the queue meanwhile */
	assert_true(bus_client_wait_ready(c, false, 20000));
	send(f, 1000);
	broker(f, "start");
	send(f, 1000);
	assert_true(bus_client_wait_ready(c, true, 30000));
	assert_true(bus_client_run(c, &c->acked, (size_t)f->n_sent, 60000));
	assert_true(service_run(&c->s, all_consumed, f, 60000));
	assert_int_equal(c->failed, 0);
	assert_int_equal(c->reordered, 0);
	check_topic(f);
}

static void a_full_queue_says_eagain_and_takes_again_after_a_broker_was_killed(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;

	bus_client_consume(c, "waddle.test", events, 500);
	assert_true(bus_client_wait_ready(c, true, 20000));
	send(f, 1000);
	broker(f, "kill");
	fill(f);
	broker(f, "start");
	assert_true(bus_client_run(c, &c->acked, 2000, 60000));
	send(f, 1000);
	assert_true(bus_client_run(c, &c->acked, (size_t)f->n_sent, 60000));
	assert_true(service_run(&c->s, all_consumed, f, 60000));
	assert_int_equal(c->failed, 0);
	assert_int_equal(c->reordered, 0);
	check_topic(f);
}

static void without_a_broker_closing_tells_every_sender_and_a_new_bus_waits(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;
	int64_t from;

	c->keep = true;
	bus_client_consume(c, "waddle.test", events, 500);
	send(f, 50);
	assert_true(bus_client_run(c, &c->seen, 50, 20000));
	assert_true(bus_client_run(c, &c->acked, 50, 20000));
	broker(f, "kill");
	send(f, 100);
	bus_client_for(c, 200);
	from = harness_now_ms();
	bus_close(c->b);
	c->b = NULL;
	assert_in_range(harness_now_ms() - from, 9000, 20000);
	assert_int_equal(c->failed, 100);
	assert_int_equal(c->last_code, -ECANCELED);
	assert_int_equal(c->losing, PARTITIONS);
	bus_client_close(c);

	bus_client_open(c, f->brokers, f->prefix);
	bus_client_consume(c, "waddle.test", events, 500);
	send(f, 100);
	bus_client_for(c, 1500);
	assert_false(bus_client_ready(c));
	broker(f, "start");
	assert_true(bus_client_run(c, &c->acked, 100, 60000));
	assert_true(bus_client_run(c, &c->seen, 150, 60000)); /* those held before come again */
	assert_true(bus_client_wait_ready(c, true, 20000));
}

#define RUN(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RUN(nothing_is_lost_doubled_or_reordered_when_the_broker_restarts),
		RUN(a_full_queue_says_eagain_and_takes_again_after_a_broker_was_killed),
		RUN(without_a_broker_closing_tells_every_sender_and_a_new_bus_waits),
	};

	return !!cmocka_run_group_tests_name("bus_broker", tests, NULL, NULL);
}

/* test_bus_mock.c - the bus against librdkafka's mock cluster: what a real broker does not do on
 * demand - refusing, failing, being absent for a moment. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "bus_client.h"
#include "bus_impl.h"
#include "child.h"
#include "wait.h"

#include <librdkafka/rdkafka_mock.h>

enum { API_PRODUCE = 0, API_FETCH = 1, API_INIT_PRODUCER = 22 };

struct cluster {
	rd_kafka_t *host;
	rd_kafka_mock_cluster_t *mock;
};

static void cluster_open(struct cluster *k)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char why[200];

	rd_kafka_conf_set(conf, "log_level", "3", why, sizeof(why));
	k->host = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
	ASSERT(k->host != NULL);
	k->mock = rd_kafka_mock_cluster_new(k->host, 1);
	ASSERT(k->mock != NULL);
	rd_kafka_mock_topic_create(k->mock, "waddle.events", 4, 1);
	rd_kafka_mock_topic_create(k->mock, "waddle.dlq", 1, 1);
}

static void cluster_close(struct cluster *k)
{
	rd_kafka_mock_cluster_destroy(k->mock);
	rd_kafka_destroy(k->host);
}

struct fixture {
	struct cluster k;
	struct bus_client c;
};

static int set_up(void **state)
{
	struct fixture *f = XNEW(struct fixture);

	cluster_open(&f->k);
	bus_client_open(&f->c, rd_kafka_mock_cluster_bootstraps(f->k.mock), "");
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	bus_client_close(&f->c);
	cluster_close(&f->k);
	free(f);
	return 0;
}

static const char *const events[] = { "waddle.events", NULL };

static void send_some(struct bus_client *c, int n)
{
	for (int i = 0; i < n; i++) {
		char key[20];

		snprintf(key, sizeof(key), "k%d", i % 11);
		assert_int_equal(bus_client_send(c, "waddle.events", key, "{}"), 0);
	}
}

static void what_is_sent_is_acknowledged_and_consumed(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;

	bus_client_consume(c, "waddle.test", events, 1000);
	send_some(c, 500);
	assert_int_equal(c->acked, 0); /* never from inside bus_send() */
	assert_int_equal(bus_unsent(c->b), 500);
	assert_true(bus_client_run(c, &c->acked, 500, 20000));
	assert_true(bus_client_run(c, &c->seen, 500, 20000));
	assert_int_equal(c->failed + c->reordered, 0);
	assert_int_equal(bus_unsent(c->b), 0);
}

static void refusals_that_pass_are_tried_again_in_order(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;

	rd_kafka_mock_push_request_errors(f->k.mock, API_PRODUCE, 4,
	                                  RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
	                                  RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, RD_KAFKA_RESP_ERR__TRANSPORT,
	                                  RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT);
	send_some(c, 300);
	assert_true(bus_client_run(c, &c->acked, 300, 30000));
	assert_int_equal(c->failed + c->reordered, 0);
}

static void a_final_refusal_is_reported_and_the_next_message_passes(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;

	send_some(c, 1);
	assert_true(bus_client_run(c, &c->acked, 1, 20000));
	rd_kafka_mock_push_request_errors(f->k.mock, API_PRODUCE, 1,
	                                  RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
	send_some(c, 1);
	assert_true(bus_client_run(c, &c->failed, 1, 20000));
	assert_int_equal(c->last_code, -EACCES);
	/* Believed until the topic was looked at again. */
	for (int i = 0; i < 200 && bus_client_send(c, "waddle.events", "k", "{}") == -EACCES; i++)
		bus_client_for(c, 100);
	assert_true(bus_client_run(c, &c->acked, 2, 20000));
	assert_int_equal(c->failed, 1);
}

static void a_broker_that_goes_away_is_noticed_and_waited_for(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;

	bus_client_consume(c, "waddle.test", events, 1000);
	assert_true(bus_client_wait_ready(c, true, 20000));
	rd_kafka_mock_broker_set_down(f->k.mock, 1);
	assert_true(bus_client_wait_ready(c, false, 20000));
	send_some(c, 100);
	bus_client_for(c, 300);
	assert_int_equal(c->acked + c->failed, 0);
	rd_kafka_mock_broker_set_up(f->k.mock, 1);
	assert_true(bus_client_wait_ready(c, true, 20000));
	assert_true(bus_client_run(c, &c->acked, 100, 20000));
	assert_true(bus_client_run(c, &c->seen, 100, 20000));
}

static void failing_fetches_are_repeated_and_skip_nothing(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;

	send_some(c, 200);
	assert_true(bus_client_run(c, &c->acked, 200, 20000));
	rd_kafka_mock_push_request_errors(f->k.mock, API_FETCH, 3, RD_KAFKA_RESP_ERR__TRANSPORT,
	                                  RD_KAFKA_RESP_ERR__TRANSPORT, RD_KAFKA_RESP_ERR__TRANSPORT);
	bus_client_consume(c, "waddle.test", events, 1000);
	assert_true(bus_client_run(c, &c->seen, 200, 30000));
	bus_client_for(c, 300);
	assert_int_equal(c->seen, 200);
}

static void a_full_queue_refuses_and_nothing_accepted_is_forgotten(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;
	size_t n = 0;

	rd_kafka_mock_broker_set_down(f->k.mock, 1);
	while (bus_client_send(c, "waddle.events", "k", "{}") == 0)
		n++;
	assert_int_equal(n, BUS_QUEUE_MAX);
	assert_int_equal(bus_client_send(c, "waddle.events", "k", "{}"), -EAGAIN);
	rd_kafka_mock_broker_set_up(f->k.mock, 1);
	assert_true(bus_client_run(c, &c->acked, n, 60000));
	assert_int_equal(bus_client_send(c, "waddle.events", "k", "{}"), 0);
	assert_true(bus_client_run(c, &c->acked, n + 1, 20000));
	assert_int_equal(c->failed + c->reordered, 0);
}

/* Delivered messages count against librdkafka's queue until they were reported. */
static void delivered_messages_make_room_before_the_loop_turns(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;
	int64_t until = harness_now_ms() + 60000;
	size_t n = 0;

	while (n < BUS_QUEUE_MAX + 5000 && harness_now_ms() < until) {
		int r = bus_client_send(c, "waddle.events", "k", "{}");

		if (r == 0)
			n++;
		else
			assert_int_equal(r, -EAGAIN);
	}
	assert_int_equal(n, BUS_QUEUE_MAX + 5000);
	assert_int_equal(c->acked, 0); /* reported from the loop only */
	assert_true(bus_client_run(c, &c->acked, n, 60000));
	assert_int_equal(c->reordered, 0);
}

static void topics_that_cannot_be_are_refused_at_once(void **state)
{
	struct fixture *f = *state;
	char name[400];

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(bus_client_send(&f->c, name, "k", "v"), -ENOENT);
	assert_int_equal(bus_client_send(&f->c, "", "k", "v"), -ENOENT);
}

static void one_process_sends_to_a_limited_number_of_topics(void **state)
{
	struct fixture *f = *state;
	int refused = 0;

	for (int i = 0; i < BUS_OUT_MAX + 10; i++) {
		char name[40];

		snprintf(name, sizeof(name), "waddle.responses.m%d", i);
		refused += bus_out_get(f->c.b, name) == NULL;
	}
	assert_int_equal(refused, 10);
	assert_non_null(bus_out_get(f->c.b, "waddle.responses.m0"));
}

static void closing_reports_what_was_sent_and_frees_what_is_held(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;

	c->keep = true;
	bus_client_consume(c, "waddle.test", events, 1000);
	send_some(c, 100);
	assert_true(bus_client_run(c, &c->seen, 100, 20000));
	send_some(c, 50);
	bus_close(c->b);
	c->b = NULL;
	assert_int_equal(c->acked, 150);
	assert_int_equal(c->losing, 4);
}

/* ---- the end of a process ---------------------------------------------------------------- */

static struct {
	struct cluster k;
	struct bus *b;
} doomed;

static int doomed_start(struct service *s, struct err *err)
{
	cluster_open(&doomed.k);
	rd_kafka_mock_push_request_errors(doomed.k.mock, API_INIT_PRODUCER, 1,
	                                  RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED);
	doomed.b = bus_open(s, str_of(rd_kafka_mock_cluster_bootstraps(doomed.k.mock)), STR_NONE, err);
	if (doomed.b == NULL)
		return err->code;
	return bus_send(doomed.b, "waddle.events", STR("k"), STR("v"), NULL, 0, NULL, NULL);
}

static void doomed_stop(struct service *s)
{
	(void)s;
	bus_close(doomed.b);
	cluster_close(&doomed.k);
}

static int doomed_main(char *name)
{
	struct service s = { .name = "doomed", .version = "1", .start = doomed_start, .stop = doomed_stop };
	char *argv[] = { name, NULL };

	return service_main(&s, 1, argv);
}

static void a_fatal_error_of_the_library_ends_the_process_with_111(void **state)
{
	static const char *const argv[] = { "/proc/self/exe", "doomed", NULL };
	static const char *const env[] = { "ADMIN_LISTEN=127.0.0.1:0", NULL };
	struct child *c = child_new("doomed", argv, env);
	int status;

	(void)state;
	child_start(c);
	status = child_wait(c, 30000);
	if (status != 111 || !child_log_has(c, "Cluster authorization failed"))
		child_show_log(c);
	assert_int_equal(status, 111);
	assert_true(child_log_has(c, "Cluster authorization failed"));
	child_free(c);
}

#define RUN(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		RUN(what_is_sent_is_acknowledged_and_consumed),
		RUN(refusals_that_pass_are_tried_again_in_order),
		RUN(a_final_refusal_is_reported_and_the_next_message_passes),
		RUN(a_broker_that_goes_away_is_noticed_and_waited_for),
		RUN(failing_fetches_are_repeated_and_skip_nothing),
		RUN(a_full_queue_refuses_and_nothing_accepted_is_forgotten),
		RUN(delivered_messages_make_room_before_the_loop_turns),
		RUN(topics_that_cannot_be_are_refused_at_once),
		RUN(one_process_sends_to_a_limited_number_of_topics),
		RUN(closing_reports_what_was_sent_and_frees_what_is_held),
		cmocka_unit_test(a_fatal_error_of_the_library_ends_the_process_with_111),
	};

	if (argc == 2 && strcmp(argv[1], "doomed") == 0)
		return doomed_main(argv[0]);
	return !!cmocka_run_group_tests_name("bus_mock", tests, NULL, NULL);
}

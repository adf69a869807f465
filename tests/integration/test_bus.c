/* test_bus.c - one process and its bus against a real broker. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "bus_client.h"
#include "err.h"
#include "log.h"
#include "probe.h"
#include "wait.h"

#include <unistd.h>

struct fixture {
	const char *brokers;
	char *prefix;
	struct bus_client c;
};

static char *wire(const struct fixture *f, const char *name)
{
	return text_of("%s.%s", f->prefix, name);
}

static void create(const struct fixture *f, const char *name, int partitions)
{
	char *topic = wire(f, name);

	probe_create(f->brokers, topic, partitions, NULL);
	free(topic);
}

static int set_up(void **state)
{
	struct fixture *f = XNEW(struct fixture);

	f->brokers = env_of("TEST_KAFKA");
	f->prefix = text_of("test-bus-%llx", (unsigned long long)(rnd_next() & 0xffffff));
	create(f, "events", 4);
	create(f, "dlq", 1);
	bus_client_open(&f->c, f->brokers, f->prefix);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	static const char *const all[] = { "events",  "dlq",           "late",
		                           "overlay", "responses.one", "responses.two" };
	struct fixture *f = *state;

	bus_client_close(&f->c);
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		char *topic = wire(f, all[i]);

		probe_delete(f->brokers, topic);
		free(topic);
	}
	free(f->prefix);
	free(f);
	return 0;
}

static const char *const events[] = { "waddle.events", NULL };

/* Every value once, in order within its partition; keys k0..k7. */
static void send_numbered(struct bus_client *c, int from, int n)
{
	for (int i = from; i < from + n; i++) {
		char *key = text_of("k%d", i % 8), *value = text_of("%d", i);

		assert_int_equal(bus_client_send(c, "waddle.events", key, value), 0);
		free(key);
		free(value);
	}
}

static size_t out_of_order(const struct bus_client *c)
{
	int last[16];
	size_t bad = 0;

	memset(last, -1, sizeof(last));
	for (size_t i = 0; i < c->seen; i++) {
		int value = (int)strtol(c->msgs[i].value, NULL, 10);

		bad += value <= last[c->msgs[i].partition];
		last[c->msgs[i].partition] = value;
	}
	return bad;
}

static void what_is_sent_arrives_once_and_in_order(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;

	bus_client_consume(c, "waddle.test", events, 100);
	send_numbered(c, 0, 5000);
	assert_int_equal(c->acked, 0);
	assert_true(bus_client_run(c, &c->acked, 5000, 20000));
	assert_true(bus_client_run(c, &c->seen, 5000, 20000));
	assert_int_equal(c->seen, 5000);
	assert_int_equal(c->failed + c->reordered, 0);
	assert_int_equal(out_of_order(c), 0);
	assert_int_equal(c->gained, 4);
	assert_string_equal(c->msgs[0].topic, "waddle.events");
}

/* ---- done, offsets, draining ------------------------------------------------------------- */

static void reopen(struct fixture *f)
{
	bus_client_close(&f->c);
	bus_client_open(&f->c, f->brokers, f->prefix);
}

static void an_offset_never_passes_a_message_that_is_not_done(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;
	char *stuck[4] = { NULL };
	bool first[4] = { false };
	size_t n_stuck = 0;

	c->keep = true;
	bus_client_consume(c, "waddle.test", events, 1000);
	send_numbered(c, 0, 200);
	assert_true(bus_client_run(c, &c->seen, 200, 20000));
	/* Newest first, and of each partition one in the middle never. */
	for (size_t i = c->n_held; i-- > 0;) {
		struct bus_msg *m = c->held[i];

		if (stuck[m->at.partition] == NULL && strtol(c->msgs[i].value, NULL, 10) < 100) {
			stuck[m->at.partition] = text_of("%s", c->msgs[i].value);
			n_stuck++;
			continue;
		}
		bus_done(m);
	}
	assert_true(n_stuck > 1);
	bus_client_for(c, 1500); /* stored and committed */
	reopen(f);
	bus_client_consume(c, "waddle.test", events, 1000);
	assert_true(bus_client_run(c, &c->seen, 100 + n_stuck, 20000));
	bus_client_for(c, 300);
	assert_int_equal(c->seen, 100 + n_stuck);
	for (size_t i = 0; i < c->seen; i++) {
		int32_t p = c->msgs[i].partition;

		if (!first[p]) /* the first to come again is the stuck one */
			assert_string_equal(c->msgs[i].value, stuck[p]);
		first[p] = true;
	}
	for (int p = 0; p < 4; p++)
		free(stuck[p]);
}

static void no_more_than_max_held_is_given_and_done_gives_more(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;

	c->keep = true;
	bus_client_consume(c, "waddle.test", events, 10);
	send_numbered(c, 0, 100);
	assert_true(bus_client_run(c, &c->seen, 10, 20000));
	bus_client_for(c, 2500); /* also the tick once a second takes no more */
	assert_int_equal(c->seen, 10);
	while (c->seen < 100) {
		size_t want = c->seen + 1;

		bus_client_done_all(c);
		assert_true(bus_client_run(c, &c->seen, want, 5000));
		assert_true(c->n_held <= 10);
	}
	assert_int_equal(out_of_order(c), 0);
	bus_client_done_all(c);
}

static void a_paused_consumer_gets_nothing_and_stays_in_its_group(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c, other;

	bus_client_consume(c, "waddle.test", events, 100);
	assert_true(bus_client_run(c, &c->gained, 4, 20000));
	bus_pause(c->sub);
	send_numbered(c, 0, 50);
	bus_client_for(c, 2500);
	assert_int_equal(c->seen, 0);
	/* A second member comes: the paused one must hand over although it takes no messages. */
	bus_client_open(&other, f->brokers, f->prefix);
	bus_client_consume(&other, "waddle.test", events, 100);
	for (int i = 0; i < 100 && other.gained == 0; i++) {
		bus_client_for(c, 50);
		bus_client_for(&other, 50);
	}
	assert_int_equal(other.gained, 2);
	assert_int_equal(c->losing, 4);
	assert_int_equal(c->lost, 0);
	bus_resume(c->sub);
	for (int i = 0; i < 100 && c->seen + other.seen < 50; i++) {
		bus_client_for(c, 20);
		bus_client_for(&other, 20);
	}
	assert_int_equal(c->seen + other.seen, 50);
	bus_client_close(&other);
}

static void unsubscribing_takes_nothing_new_and_stores_what_is_done_later(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;
	size_t n;

	c->keep = true;
	bus_client_consume(c, "waddle.test", events, 1000);
	send_numbered(c, 0, 100);
	assert_true(bus_client_run(c, &c->seen, 100, 20000));
	bus_unsubscribe(c->sub);
	send_numbered(c, 100, 20);
	assert_true(bus_client_run(c, &c->acked, 120, 20000));
	bus_client_for(c, 500);
	assert_int_equal(c->seen, 100);
	assert_int_equal(c->losing, 0); /* the partitions are kept for the offsets */
	bus_client_done_all(c);
	assert_true(bus_client_run(c, &c->losing, 4, 20000));
	assert_int_equal(c->lost, 0);
	reopen(f);
	bus_client_consume(c, "waddle.test", events, 1000);
	assert_true(bus_client_run(c, &c->seen, 20, 20000));
	bus_client_for(c, 300);
	n = c->seen;
	assert_int_equal(n, 20); /* none of the hundred again */
	for (size_t i = 0; i < n; i++)
		assert_true(strtol(c->msgs[i].value, NULL, 10) >= 100);
}

static void closing_with_messages_held_gives_them_to_the_next(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;

	c->keep = true;
	bus_client_consume(c, "waddle.test", events, 1000);
	send_numbered(c, 0, 40);
	assert_true(bus_client_run(c, &c->seen, 40, 20000));
	reopen(f);
	bus_client_consume(c, "waddle.test", events, 1000);
	assert_true(bus_client_run(c, &c->seen, 40, 20000));
}

/* ---- dead letters, bodies ---------------------------------------------------------------- */

struct judge {
	struct fixture *f;
	size_t seen, rejected;
};

static void reject_the_bad(void *arg, struct bus_msg *m)
{
	struct judge *j = arg;
	struct err why;

	j->seen++;
	if (str_starts(m->value, STR("bad"))) {
		j->rejected++;
		err_set(&why, -EBADMSG, "line 1: no JSON");
		bus_reject(m, "bad_json", &why);
	} else {
		bus_done(m);
	}
}

/* router 69 */
static void a_poison_message_goes_to_the_dlq_and_its_partition_goes_on(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;
	struct judge j = { .f = f };
	const struct bus_consumer what = {
		.group = "waddle.test",
		.topics = events,
		.max_held = 100,
		.message = reject_the_bad,
		.arg = &j,
	};
	static const char *const headers[] = { "ce_type: waddle.event.v1", "twice: 1", "twice: 2", NULL };
	char *topic = wire(f, "events"), *dlq = wire(f, "dlq");
	struct probe_topic t;
	struct err err;

	probe_send(f->brokers, topic, 2, "k", "good", 4, NULL);
	probe_send(f->brokers, topic, 2, "the key", "bad", 3, headers);
	probe_send(f->brokers, topic, 2, "k", "good", 4, NULL);
	assert_int_equal(bus_consume(c->b, &what, &c->sub, &err), 0);
	assert_true(bus_client_run(c, &j.seen, 3, 20000));
	assert_int_equal(j.rejected, 1);
	bus_client_for(c, 1000);
	probe_wait(f->brokers, dlq, 1, 10000, &t);
	assert_int_equal(t.n, 1);
	assert_string_equal(t.msgs[0].key, "the key");
	assert_string_equal(t.msgs[0].value, "bad");
	assert_string_equal(probe_header(&t.msgs[0], "waddle-origin-topic"), "waddle.events");
	assert_string_equal(probe_header(&t.msgs[0], "waddle-origin-partition"), "2");
	assert_string_equal(probe_header(&t.msgs[0], "waddle-origin-offset"), "1");
	assert_string_equal(probe_header(&t.msgs[0], "waddle-reason"), "bad_json");
	assert_string_equal(probe_header(&t.msgs[0], "waddle-error"), "line 1: no JSON");
	assert_string_equal(probe_header(&t.msgs[0], "ce_type"), "waddle.event.v1");
	assert_string_equal(probe_header(&t.msgs[0], "twice"), "2");
	probe_free(&t);
	/* It counts as done: the next of the group starts behind all three. */
	reopen(f);
	bus_client_consume(c, "waddle.test", events, 10);
	assert_true(bus_client_run(c, &c->gained, 4, 20000));
	bus_client_for(c, 500);
	assert_int_equal(c->seen, 0);
	free(topic);
	free(dlq);
}

static void a_dead_letter_too_large_for_the_dlq_is_cut(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;
	struct judge j = { .f = f };
	const struct bus_consumer what = {
		.group = "waddle.test", .topics = events, .max_held = 100, .message = reject_the_bad, .arg = &j,
	};
	char *topic = wire(f, "events"), *dlq = wire(f, "dlq"), *huge = XNEW_N(char, 990000);
	struct probe_topic t;
	struct err err;

	memset(huge, 'x', 990000);
	memcpy(huge, "bad", 3);
	probe_send(f->brokers, topic, 0, "k", huge, 990000, NULL);
	assert_int_equal(bus_consume(c->b, &what, &c->sub, &err), 0);
	assert_true(bus_client_run(c, &j.rejected, 1, 20000));
	bus_client_for(c, 1000);
	probe_wait(f->brokers, dlq, 1, 10000, &t);
	assert_int_equal(t.msgs[0].value_n, 900000);
	assert_string_equal(probe_header(&t.msgs[0], "waddle-cut"), "990000");
	assert_string_equal(probe_header(&t.msgs[0], "waddle-reason"), "bad_json");
	probe_free(&t);
	free(topic);
	free(dlq);
	free(huge);
}

static void a_dead_letter_waits_for_its_topic_and_holds_its_partition(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;
	struct judge j = { .f = f };
	const struct bus_consumer what = {
		.group = "waddle.test",
		.topics = events,
		.max_held = 100,
		.message = reject_the_bad,
		.arg = &j,
	};
	char *topic = wire(f, "events"), *dlq = wire(f, "dlq");
	struct probe_topic t;
	struct err err;

	probe_delete(f->brokers, dlq);
	probe_send(f->brokers, topic, 0, "k", "bad", 3, NULL);
	probe_send(f->brokers, topic, 0, "k", "good", 4, NULL);
	assert_int_equal(bus_consume(c->b, &what, &c->sub, &err), 0);
	assert_true(bus_client_run(c, &j.seen, 2, 20000));
	bus_client_for(c, 7000); /* long enough for "no such topic" to be believed */
	probe_create(f->brokers, dlq, 1, NULL);
	for (int i = 0; i < 100 && probe_count(f->brokers, dlq) == 0; i++)
		bus_client_for(c, 200);
	probe_wait(f->brokers, dlq, 1, 1000, &t);
	assert_int_equal(t.n, 1);
	probe_free(&t);
	free(topic);
	free(dlq);
}

static void tombstones_empty_bodies_and_missing_keys_stay_what_they_are(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;

	bus_client_consume(c, "waddle.test", events, 100);
	assert_int_equal(bus_client_send(c, "waddle.events", "k", NULL), 0);
	assert_int_equal(bus_client_send(c, "waddle.events", "k", ""), 0);
	assert_int_equal(bus_client_send(c, "waddle.events", NULL, "no key"), 0);
	assert_true(bus_client_run(c, &c->seen, 3, 20000));
	for (size_t i = 0; i < 3; i++) {
		const struct bus_client_msg *m = &c->msgs[i];

		if (m->key == NULL)
			assert_string_equal(m->value, "no key");
		else if (m->value != NULL)
			assert_string_equal(m->value, "");
	}
	assert_int_equal((c->msgs[0].value == NULL) + (c->msgs[1].value == NULL) + (c->msgs[2].value == NULL),
	                 1);
	assert_int_equal((c->msgs[0].key == NULL) + (c->msgs[1].key == NULL) + (c->msgs[2].key == NULL), 1);
}

static void a_body_of_256_kib_passes_and_one_more_byte_does_not(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;
	char *big = XNEW_N(char, BUS_BODY_MAX + 1);

	memset(big, 'x', BUS_BODY_MAX + 1);
	bus_client_consume(c, "waddle.test", events, 100);
	assert_int_equal(bus_send(c->b, "waddle.events", STR("k"), (struct str){ big, BUS_BODY_MAX + 1 },
	                          NULL, 0, NULL, NULL),
	                 -EMSGSIZE);
	assert_int_equal(bus_send(c->b, "waddle.events", STR("k"), (struct str){ big, BUS_BODY_MAX }, NULL, 0,
	                          NULL, NULL),
	                 0);
	assert_true(bus_client_run(c, &c->seen, 1, 20000));
	assert_int_equal(strlen(c->msgs[0].value), BUS_BODY_MAX);
	free(big);
}

struct heads {
	size_t seen, n, wrong;
};

static void look_at_headers(void *arg, struct bus_msg *m)
{
	struct heads *h = arg;
	const struct bus_header *all = bus_headers(m, &h->n);

	for (size_t i = 0; i < h->n; i++) {
		char name[32];

		snprintf(name, sizeof(name), "h%zu", i);
		h->wrong += strcmp(all[i].name, name) != 0 || (i % 2 == 0) != (all[i].value.p == NULL);
		h->wrong += !str_eq(bus_header(m, name), all[i].value);
	}
	h->wrong += bus_header(m, "absent").p != NULL;
	h->seen++;
	bus_done(m);
}

static void forty_headers_arrive_in_order_with_and_without_values(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;
	struct bus_header h[40];
	char names[40][32];
	struct heads seen = { 0 };
	const struct bus_consumer what = {
		.group = "waddle.test",
		.topics = events,
		.max_held = 100,
		.message = look_at_headers,
		.arg = &seen,
	};
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(h); i++) {
		snprintf(names[i], sizeof(names[i]), "h%zu", i);
		h[i] = (struct bus_header){ names[i], i % 2 == 0 ? STR_NONE : STR("value") };
	}
	assert_int_equal(bus_send(c->b, "waddle.events", STR("k"), STR("v"), h, ARRAY_LEN(h), NULL, NULL), 0);
	assert_int_equal(bus_consume(c->b, &what, &c->sub, &err), 0);
	assert_true(bus_client_run(c, &seen.seen, 1, 20000));
	assert_int_equal(seen.n, 40);
	assert_int_equal(seen.wrong, 0);
}

/* ---- names, tails, topics ---------------------------------------------------------------- */

static void two_prefixes_on_one_broker_do_not_see_each_other(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c, other;
	char *prefix = text_of("%s-b", f->prefix), *topic = text_of("%s.events", prefix);

	probe_create(f->brokers, topic, 4, NULL);
	bus_client_open(&other, f->brokers, prefix);
	bus_client_consume(c, "waddle.test", events, 100);
	bus_client_consume(&other, "waddle.test", events, 100);
	assert_int_equal(bus_client_send(c, "waddle.events", "k", "mine"), 0);
	assert_int_equal(bus_client_send(&other, "waddle.events", "k", "theirs"), 0);
	assert_true(bus_client_run(c, &c->seen, 1, 20000));
	assert_true(bus_client_run(&other, &other.seen, 1, 20000));
	bus_client_for(c, 300);
	bus_client_for(&other, 300);
	assert_int_equal(c->seen, 1);
	assert_int_equal(other.seen, 1);
	assert_string_equal(c->msgs[0].value, "mine");
	assert_string_equal(other.msgs[0].value, "theirs");
	assert_string_equal(other.msgs[0].topic, "waddle.events");
	bus_client_close(&other);
	probe_delete(f->brokers, topic);
	free(topic);
	free(prefix);
}

static void a_tail_sees_what_comes_after_it_and_nothing_before(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;

	send_numbered(c, 0, 100);
	assert_true(bus_client_run(c, &c->acked, 100, 20000));
	bus_client_consume(c, NULL, events, 100);
	send_numbered(c, 100, 100);
	assert_true(bus_client_run(c, &c->seen, 100, 20000));
	bus_client_for(c, 300);
	assert_int_equal(c->seen, 100);
	for (size_t i = 0; i < c->seen; i++)
		assert_true(strtol(c->msgs[i].value, NULL, 10) >= 100);
	assert_int_equal(out_of_order(c), 0);
}

static void a_tail_of_a_topic_that_is_not_there_says_so(void **state)
{
	static const char *const none[] = { "waddle.late", NULL };
	struct fixture *f = *state;
	const struct bus_consumer what = { .topics = none, .max_held = 1, .message = reject_the_bad };
	struct bus_sub *sub;
	struct err err;

	assert_int_equal(bus_consume(f->c.b, &what, &sub, &err), -ENOENT);
	assert_non_null(strstr(err.text, "waddle.late"));
}

static void a_pattern_finds_topics_that_come_later(void **state)
{
	static const char *const pattern[] = { "^waddle\\.responses\\.", NULL };
	struct fixture *f = *state;
	struct bus_client *c = &f->c;

	create(f, "responses.one", 1);
	bus_client_consume(c, "waddle.test", pattern, 100);
	assert_int_equal(bus_client_send(c, "waddle.responses.one", "k", "first"), 0);
	assert_true(bus_client_run(c, &c->seen, 1, 20000));
	create(f, "responses.two", 1);
	assert_int_equal(bus_client_send(c, "waddle.responses.two", "k", "second"), 0);
	assert_true(bus_client_run(c, &c->seen, 2, 20000));
	assert_string_equal(c->msgs[1].topic, "waddle.responses.two");
	assert_true(bus_client_wait_ready(c, true, 5000));
}

static void a_missing_topic_keeps_the_service_from_being_ready_and_is_named(void **state)
{
	static const char *const two[] = { "waddle.events", "waddle.late", NULL };
	struct fixture *f = *state;
	struct bus_client *c = &f->c;
	FILE *log = tmpfile();
	char text[4096];
	char *late = wire(f, "late"), *want = text_of("topic %s does not exist", late);
	size_t n;

	assert_non_null(log);
	log_to(fileno(log), "test");
	bus_client_consume(c, "waddle.test", two, 100);
	assert_false(bus_client_wait_ready(c, true, 5000));
	assert_true(c->gained >= 4); /* the other topic is served all the same */
	log_to(STDERR_FILENO, "test");
	rewind(log);
	n = fread(text, 1, sizeof(text) - 1, log);
	text[n] = '\0';
	fclose(log);
	assert_non_null(strstr(text, "topic_absent"));
	assert_non_null(strstr(text, want));
	assert_int_equal(probe_count(f->brokers, late), 0);
	create(f, "late", 1);
	assert_true(bus_client_wait_ready(c, true, 20000));
	assert_int_equal(bus_client_send(c, "waddle.late", "k", "v"), 0);
	assert_true(bus_client_run(c, &c->seen, 1, 20000));
	free(late);
	free(want);
}

static void sending_to_a_topic_that_is_not_there_fails_and_does_not_make_it(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;
	char *late = wire(f, "late");

	assert_int_equal(bus_client_send(c, "waddle.late", "k", "v"), 0);
	assert_true(bus_client_run(c, &c->failed, 1, 20000));
	assert_int_equal(c->last_code, -ENOENT);
	assert_int_equal(probe_count(f->brokers, late), 0);
	free(late);
}

struct outcomes {
	size_t created, exists, other;
	char last[100];
};

static void outcome(void *arg, const char *name, const char *what)
{
	struct outcomes *o = arg;

	assert_int_equal(strncmp(name, "waddle.", 7), 0);
	if (strcmp(what, "created") == 0)
		o->created++;
	else if (strcmp(what, "exists") == 0)
		o->exists++;
	else
		o->other++;
	snprintf(o->last, sizeof(o->last), "%s", what);
}

static void listed(void *arg, const char *name, int partitions, int replicas)
{
	size_t *n = arg;

	(void)partitions;
	if (replicas == 1 && strncmp(name, "waddle.", 7) == 0)
		++*n;
}

static void creating_topics_twice_changes_nothing(void **state)
{
	static const char *const config[] = { "cleanup.policy=compact", "retention.ms=1000", NULL };
	static const struct bus_topic t[] = {
		{ "waddle.events", 16, NULL },
		{ "waddle.overlay", 2, config },
		{ "waddle.late", 1, NULL },
	};
	struct fixture *f = *state;
	struct outcomes o = { 0 }, again = { 0 };
	struct err err;
	size_t n = 0;

	assert_int_equal(bus_topics_create(f->c.b, t, 3, 1, outcome, &o, &err), 0);
	assert_int_equal(o.created, 2);
	assert_int_equal(o.other, 1);
	for (int i = 0; i < 100 && again.exists < 2; i++) { /* until the broker tells everybody */
		again = (struct outcomes){ 0 };
		assert_int_equal(bus_topics_create(f->c.b, t, 3, 1, outcome, &again, &err), 0);
		bus_client_for(&f->c, 20);
	}
	assert_int_equal(again.created, 0);
	assert_int_equal(again.exists, 2);
	assert_int_equal(again.other, 1);
	again = (struct outcomes){ 0 };
	assert_int_equal(bus_topics_create(f->c.b, t, 1, 1, outcome, &again, &err), 0);
	assert_string_equal(again.last, "exists with 4 partitions, not 16");
	assert_int_equal(bus_topics_list(f->c.b, listed, &n, &err), 0);
	assert_int_equal(n, 4); /* with the dlq */
}

static void more_replicas_than_brokers_are_refused_by_name(void **state)
{
	static const struct bus_topic t[] = { { "waddle.late", 1, NULL } };
	struct fixture *f = *state;
	struct outcomes o = { 0 };
	struct err err;

	assert_int_equal(bus_topics_create(f->c.b, t, 1, 3, outcome, &o, &err), -EPROTO);
	assert_int_equal(o.other, 1);
	assert_non_null(strstr(o.last, "replica"));
}

/* ---- the rest ---------------------------------------------------------------------------- */

static void lag_counts_what_is_behind_and_what_is_held(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;

	c->keep = true;
	bus_client_consume(c, "waddle.test", events, 1000);
	send_numbered(c, 0, 100);
	assert_true(bus_client_run(c, &c->seen, 100, 20000));
	assert_int_equal(bus_lag(c->b), 100);
	bus_client_done_all(c);
	assert_int_equal(bus_lag(c->b), 0);
}

static void a_topic_made_anew_is_read_from_its_beginning(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;
	char *topic = wire(f, "events");
	bool voided = false;

	c->keep = true;
	bus_client_consume(c, "waddle.test", events, 1000);
	send_numbered(c, 0, 400);
	assert_true(bus_client_run(c, &c->seen, 400, 20000));
	probe_delete(f->brokers, topic);
	probe_create(f->brokers, topic, 4, NULL);
	for (int i = 0; i < 8; i++) {
		char key[20];

		snprintf(key, sizeof(key), "k%d", i);
		probe_send(f->brokers, topic, -1, key, "new", 3, NULL);
	}
	assert_true(bus_client_run(c, &c->seen, 408, 60000));
	for (size_t i = 0; i < 400; i++)
		voided = voided || bus_msg_void(c->held[i]);
	assert_true(voided);
	assert_string_equal(c->msgs[407].value, "new");
	bus_client_done_all(c); /* those of the old life do nothing */
	free(topic);
}

static bool lag_is_told(void *arg)
{
	struct bus_client *c = arg;

	return bus_lag(c->b) == 70;
}

static void lag_counts_what_was_never_reached(void **state)
{
	struct fixture *f = *state;
	struct bus_client *c = &f->c;

	bus_client_consume(c, "waddle.test", events, 1000);
	bus_pause(c->sub);
	send_numbered(c, 0, 70);
	assert_true(service_run(&c->s, lag_is_told, c, 40000));
	assert_int_equal(c->seen, 0);
}

static void bad_settings_are_all_named_and_no_bus_is_opened(void **state)
{
	struct service s = { .name = "test" };
	struct err err;

	(void)state;
	service_init(&s);
	setenv("KAFKA_NO_SUCH_THING", "1", 1);
	setenv("KAFKA_FETCH_MIN_BYTES", "secret", 1);
	setenv("KAFKA_ACKS", "1", 1);
	assert_null(bus_open(&s, STR("127.0.0.1:1"), STR_NONE, &err));
	unsetenv("KAFKA_NO_SUCH_THING");
	unsetenv("KAFKA_FETCH_MIN_BYTES");
	unsetenv("KAFKA_ACKS");
	assert_int_equal(err_kind(&err), ERR_BROKEN);
	assert_non_null(strstr(err.text, "no.such.thing: no such property"));
	assert_non_null(strstr(err.text, "fetch.min.bytes: bad value"));
	assert_non_null(strstr(err.text, "acks: not for the environment"));
	assert_null(strstr(err.text, "secret"));
	assert_null(bus_open(&s, STR_NONE, STR_NONE, &err));
	assert_non_null(strstr(err.text, "brokers: none given"));
	assert_null(bus_open(&s, STR("127.0.0.1:1"), STR("no spaces"), &err));
	assert_non_null(strstr(err.text, "TOPIC_PREFIX"));
	service_clear(&s);
}

#define RUN(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		RUN(what_is_sent_arrives_once_and_in_order),
		RUN(an_offset_never_passes_a_message_that_is_not_done),
		RUN(no_more_than_max_held_is_given_and_done_gives_more),
		RUN(a_paused_consumer_gets_nothing_and_stays_in_its_group),
		RUN(unsubscribing_takes_nothing_new_and_stores_what_is_done_later),
		RUN(closing_with_messages_held_gives_them_to_the_next),
		RUN(a_poison_message_goes_to_the_dlq_and_its_partition_goes_on),
		RUN(a_dead_letter_too_large_for_the_dlq_is_cut),
		RUN(a_dead_letter_waits_for_its_topic_and_holds_its_partition),
		RUN(tombstones_empty_bodies_and_missing_keys_stay_what_they_are),
		RUN(a_body_of_256_kib_passes_and_one_more_byte_does_not),
		RUN(forty_headers_arrive_in_order_with_and_without_values),
		RUN(two_prefixes_on_one_broker_do_not_see_each_other),
		RUN(a_tail_sees_what_comes_after_it_and_nothing_before),
		RUN(a_tail_of_a_topic_that_is_not_there_says_so),
		RUN(a_pattern_finds_topics_that_come_later),
		RUN(a_missing_topic_keeps_the_service_from_being_ready_and_is_named),
		RUN(sending_to_a_topic_that_is_not_there_fails_and_does_not_make_it),
		RUN(creating_topics_twice_changes_nothing),
		RUN(more_replicas_than_brokers_are_refused_by_name),
		RUN(lag_counts_what_is_behind_and_what_is_held),
		RUN(a_topic_made_anew_is_read_from_its_beginning),
		RUN(lag_counts_what_was_never_reached),
		RUN(bad_settings_are_all_named_and_no_bus_is_opened),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return !!cmocka_run_group_tests_name("bus", tests, NULL, NULL);
}

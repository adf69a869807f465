/* test_bus_group.c - several processes share a group, die, stop and drain; nothing is lost.
 *
 * The workers are this program itself, run as a service: each message is held for a random time,
 * its effect is a line in the journal (the child's log, which survives SIGKILL), then bus_done(). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "bus_client.h"
#include "child.h"
#include "clock.h"
#include "err.h"
#include "metrics.h"
#include "probe.h"
#include "wait.h"

#include <signal.h>
#include <unistd.h>

/* ---- the worker -------------------------------------------------------------------------- */

enum { HELD_MAX = 300 };

static struct worker {
	struct bus *bus;
	struct bus_sub *sub;
	struct timer work;
	struct bus_msg *held[HELD_MAX];
	size_t n;
} w;

static void journal(const char *fmt, ...) PRINTF(1, 2);
static void journal(const char *fmt, ...)
{
	char line[200] = "@ ";
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line + 2, sizeof(line) - 3, fmt, ap);
	va_end(ap);
	line[n + 2] = '\n';
	if (write(STDOUT_FILENO, line, (size_t)n + 3) != n + 3)
		abort();
}

static void finish(size_t i)
{
	struct bus_msg *m = w.held[i];

	w.held[i] = w.held[--w.n];
	journal("%s " STR_FMT, bus_msg_void(m) ? "void" : "done", STR_ARG(m->value));
	bus_done(m);
}

static void work_on(void *arg)
{
	for (size_t k = rnd_below(40); k > 0 && w.n > 0; k--)
		finish(rnd_below(w.n));
	timer_start(arg, &w.work, 5, work_on, arg);
}

static void message(void *arg, struct bus_msg *m)
{
	(void)arg;
	ASSERT(w.n < HELD_MAX);
	w.held[w.n++] = m;
}

static void gained(void *arg, struct bus_part p)
{
	(void)arg;
	journal("gained %d", (int)p.partition);
}

static void losing(void *arg, struct bus_part p, bool lost)
{
	(void)arg;
	for (size_t i = w.n; i-- > 0 && !lost;) /* flush */
		if (w.held[i]->at.partition == p.partition && !bus_msg_void(w.held[i]))
			finish(i);
	journal("losing %d lost=%d", (int)p.partition, lost);
}

static int start(struct service *s, struct err *err)
{
	static const char *const topics[] = { "waddle.events", NULL };
	const struct bus_consumer c = {
		.group = "waddle.workers",
		.topics = topics,
		.max_held = HELD_MAX,
		.message = message,
		.gained = gained,
		.losing = losing,
	};

	w.bus = bus_open(s, s->base.kafka_brokers, s->base.topic_prefix, err);
	if (w.bus == NULL)
		return err->code;
	timer_start(s, &w.work, 5, work_on, s);
	return bus_consume(w.bus, &c, &w.sub, err);
}

static void drain(struct service *s)
{
	(void)s;
	bus_unsubscribe(w.sub);
}

static void stop(struct service *s)
{
	(void)s;
	timer_stop(&w.work);
	bus_close(w.bus);
}

static int worker(char *name)
{
	static struct metric *const *const metrics[] = { bus_metrics, NULL };
	struct service s = {
		.name = "worker",
		.version = "1",
		.needs = NEEDS_KAFKA,
		.metrics = metrics,
		.start = start,
		.drain = drain,
		.stop = stop,
	};
	char *argv[] = { name, NULL };

	return service_main(&s, 1, argv);
}

/* ---- the tests --------------------------------------------------------------------------- */

enum { PARTITIONS = 6, VALUES_MAX = 20000 };

struct fixture {
	const char *brokers;
	char *prefix, *topic;
	struct bus_client c;
	struct child *a, *b;
	int n_sent;
	size_t times[VALUES_MAX];
};

/* A machine under load must not look like a dead member, where that is not the point. */
#define PATIENT "KAFKA_SESSION_TIMEOUT_MS=30000"
#define HASTY	"KAFKA_SESSION_TIMEOUT_MS=6000"

static struct child *worker_new(struct fixture *f, const char *name, bool is_static, const char *session)
{
	const char *const argv[] = { "/proc/self/exe", "worker", NULL };
	char *brokers = text_of("KAFKA_BROKERS=%s", f->brokers),
	     *prefix = text_of("TOPIC_PREFIX=%s", f->prefix);
	char *instance = text_of("KAFKA_GROUP_INSTANCE_ID=%s", name);
	const char *const env[] = {
		brokers,
		prefix,
		"ADMIN_LISTEN=127.0.0.1:{port}",
		session,
		"KAFKA_HEARTBEAT_INTERVAL_MS=500",
		is_static ? instance : NULL,
		NULL,
	};
	struct child *c = child_new(name, argv, env);

	free(brokers);
	free(prefix);
	free(instance);
	return c;
}

static int set_up(void **state)
{
	struct fixture *f = XNEW(struct fixture);

	f->brokers = env_of("TEST_KAFKA");
	f->prefix = text_of("test-group-%llx", (unsigned long long)(rnd_next() & 0xffffff));
	f->topic = text_of("%s.events", f->prefix);
	probe_create(f->brokers, f->topic, PARTITIONS, NULL);
	bus_client_open(&f->c, f->brokers, f->prefix);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	child_free(f->a);
	child_free(f->b);
	bus_client_close(&f->c);
	probe_delete(f->brokers, f->topic);
	free(f->prefix);
	free(f->topic);
	free(f);
	return 0;
}

/* About n messages a second, for as long as it takes. */
static void send(struct fixture *f, int n)
{
	for (int i = 0; i < n; i++) {
		char value[20], key[20];

		snprintf(value, sizeof(value), "%d", f->n_sent);
		snprintf(key, sizeof(key), "k%d", f->n_sent % 61);
		assert_int_equal(bus_client_send(&f->c, "waddle.events", key, value), 0);
		f->n_sent++;
		if (i % 10 == 9)
			bus_client_for(&f->c, 5);
	}
}

static void read_journal(struct fixture *f, const struct child *c)
{
	FILE *in = c != NULL ? fopen(child_log(c), "r") : NULL;
	char line[8192];

	if (in == NULL)
		return;
	while (fgets(line, sizeof(line), in) != NULL)
		if (strncmp(line, "@ done ", 7) == 0) {
			long value = strtol(line + 7, NULL, 10);

			if (value >= 0 && value < VALUES_MAX)
				f->times[value]++;
		}
	fclose(in);
}

static void count(struct fixture *f, size_t *missing, size_t *doubled)
{
	memset(f->times, 0, sizeof(f->times));
	read_journal(f, f->a);
	read_journal(f, f->b);
	*missing = *doubled = 0;
	for (int i = 0; i < f->n_sent; i++) {
		*missing += f->times[i] == 0;
		*doubled += f->times[i] > 1;
	}
}

static bool none_missing(void *arg)
{
	size_t missing, doubled;

	count(arg, &missing, &doubled);
	return missing == 0;
}

static size_t lines(const struct child *c, const char *with)
{
	FILE *in = fopen(child_log(c), "r");
	char line[8192];
	size_t n = 0;

	if (in == NULL)
		return 0;
	while (fgets(line, sizeof(line), in) != NULL)
		n += line[0] == '@' && strstr(line, with) != NULL;
	fclose(in);
	return n;
}

struct lines_are {
	const struct child *c;
	const char *with;
	size_t n;
};

static bool enough_lines(void *arg)
{
	const struct lines_are *l = arg;

	return lines(l->c, l->with) >= l->n;
}

static void wait_lines(const struct child *c, const char *with, size_t n, int64_t max_ms)
{
	struct lines_are l = { c, with, n };

	wait_for(with, enough_lines, &l, max_ms);
}

/* A member that was killed and starts again under its name goes on at once. */
static void nothing_is_missing_after_kill_9_at_random_instants(void **state)
{
	struct fixture *f = *state;
	size_t missing, doubled;

	f->a = worker_new(f, "static-a", true, PATIENT);
	child_start(f->a);
	wait_lines(f->a, "gained", PARTITIONS, 20000);
	for (int i = 0; i < 6; i++) {
		send(f, 300 + (int)rnd_below(400));
		child_kill(f->a);
		child_start(f->a);
	}
	send(f, 500);
	assert_true(bus_client_run(&f->c, &f->c.acked, (size_t)f->n_sent, 30000));
	wait_for("every message done", none_missing, f, 60000);
	count(f, &missing, &doubled);
	print_message("%d messages, %zu missing, %zu more than once\n", f->n_sent, missing, doubled);
	assert_int_equal(missing, 0);
	assert_int_equal(f->c.failed, 0);
	assert_int_equal(child_end(f->a, 20000), 0);
}

static void two_members_share_and_hand_over_without_doing_anything_twice(void **state)
{
	struct fixture *f = *state;
	size_t missing, doubled;

	f->a = worker_new(f, "first", false, PATIENT);
	f->b = worker_new(f, "second", false, PATIENT);
	child_start(f->a);
	wait_lines(f->a, "gained", PARTITIONS, 20000);
	send(f, 500);
	child_start(f->b);
	send(f, 1500);
	wait_lines(f->b, "gained", PARTITIONS / 2, 30000);
	send(f, 1000);
	child_signal(f->b, SIGTERM); /* drains while messages flow */
	send(f, 1000);
	assert_int_equal(child_wait(f->b, 20000), 0);
	wait_lines(f->a, "gained", PARTITIONS + PARTITIONS / 2 + PARTITIONS, 30000);
	send(f, 300);
	assert_true(bus_client_run(&f->c, &f->c.acked, (size_t)f->n_sent, 30000));
	wait_for("every message done", none_missing, f, 60000);
	count(f, &missing, &doubled);
	assert_int_equal(missing, 0);
	assert_int_equal(doubled, 0);
	assert_true(lines(f->b, "done") > 100);
	assert_true(lines(f->a, "lost=0") >= PARTITIONS);
	assert_int_equal(lines(f->a, "lost=1") + lines(f->b, "lost=1"), 0);
	assert_int_equal(child_end(f->a, 20000), 0);
}

static void a_member_that_stood_still_loses_its_partitions_and_says_so(void **state)
{
	struct fixture *f = *state;
	size_t missing, doubled, before;

	f->a = worker_new(f, "sleeper", false, HASTY);
	f->b = worker_new(f, "waker", false, HASTY);
	child_start(f->a);
	child_start(f->b);
	wait_lines(f->a, "gained", PARTITIONS / 2, 30000);
	wait_lines(f->b, "gained", PARTITIONS / 2, 30000);
	send(f, 500);
	before = lines(f->b, "gained");
	child_signal(f->a, SIGSTOP);
	send(f, 500);
	wait_lines(f->b, "gained", before + PARTITIONS, 30000); /* all of them, after the session */
	child_signal(f->a, SIGCONT);
	wait_lines(f->a, "lost=1", 1, 30000);
	send(f, 500);
	assert_true(bus_client_run(&f->c, &f->c.acked, (size_t)f->n_sent, 30000));
	wait_for("every message done", none_missing, f, 60000);
	count(f, &missing, &doubled);
	print_message("%d messages, %zu more than once\n", f->n_sent, doubled);
	assert_int_equal(missing, 0);
	assert_int_equal(lines(f->b, "lost=1"), 0);
	assert_int_equal(child_end(f->a, 20000), 0);
	assert_int_equal(child_end(f->b, 20000), 0);
}

#define RUN(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		RUN(nothing_is_missing_after_kill_9_at_random_instants),
		RUN(two_members_share_and_hand_over_without_doing_anything_twice),
		RUN(a_member_that_stood_still_loses_its_partitions_and_says_so),
	};

	if (argc == 2 && strcmp(argv[1], "worker") == 0)
		return worker(argv[0]);
	return !!cmocka_run_group_tests_name("bus_group", tests, NULL, NULL);
}

/* test_service.c - turns of the loop, and whole lives of a process in a child. */
#define BANNED_EXCEPT_GETENV
#include "service.h"

#include "clock.h"
#include "err.h"
#include "log.h"
#include "str.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

/* ---- turns ---- */

struct fixture {
	struct service s;
	char   trail[64];
	size_t n;
	int    left;
	struct note { struct fixture *f; char name; } a, b, c;
};

static int set_up(void **state)
{
	struct fixture *f = XNEW(struct fixture);

	f->s.name = "tester";
	f->a = (struct note){ f, 'a' };
	f->b = (struct note){ f, 'b' };
	f->c = (struct note){ f, 'c' };
	service_init(&f->s);
	log_threshold = L_ERROR;                /* what it says is looked at in the children */
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	if (f->s.loop != NULL)
		service_clear(&f->s);
	free(f);
	return 0;
}

static void write_down(void *arg)
{
	struct note *note = arg;

	if (note->f->n < sizeof(note->f->trail) - 1)
		note->f->trail[note->f->n++] = note->name;
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

static bool four_notes(void *arg)
{
	return ((struct fixture *)arg)->n >= 4;
}

static bool nothing_left(void *arg)
{
	return ((struct fixture *)arg)->left <= 0;
}

static void run_gives_up_after_its_time(void **state)
{
	struct fixture *f = *state;
	int64_t began = clock_exact_us();

	assert_false(service_run(&f->s, never, NULL, 30));
	assert_true(clock_exact_us() - began >= 25000);
	assert_true(service_turns(&f->s) < 10);         /* it waited, it did not spin */
}

static void run_does_nothing_when_the_condition_holds_already(void **state)
{
	struct fixture *f = *state;

	assert_true(service_run(&f->s, nothing_left, f, 0));
	assert_int_equal(service_turns(&f->s), 0);
}

static void later_functions_run_in_order_after_the_callbacks(void **state)
{
	struct fixture *f = *state;

	service_later(&f->s, write_down, &f->b);
	service_later(&f->s, write_down, &f->c);
	write_down(&f->a);
	f->left = 1;
	assert_false(service_run(&f->s, nothing_left, f, 1));
	assert_string_equal(f->trail, "abc");
}

static void once_more(void *arg)
{
	struct fixture *f = arg;

	if (--f->left > 0)
		service_later(&f->s, once_more, f);
}

static void later_from_inside_runs_in_the_next_turn_without_a_wait(void **state)
{
	struct fixture *f = *state;
	int64_t began = clock_exact_us();

	f->left = 50;
	service_later(&f->s, once_more, f);
	assert_true(service_run(&f->s, nothing_left, f, 10000));
	assert_true(service_turns(&f->s) >= 49);
	assert_true(clock_exact_us() - began < 5000000);
}

static void each_turn(void *arg)
{
	write_down(arg);
	service_later(&((struct note *)arg)->f->s, write_down, &((struct note *)arg)->f->b);
}

static void turn_functions_run_before_the_wait_even_in_the_first_turn(void **state)
{
	struct fixture *f = *state;

	service_on_turn(&f->s, each_turn, &f->a);
	assert_true(service_run(&f->s, four_notes, f, 1000));
	assert_memory_equal(f->trail, "abab", 4);
}

static void leave_while_running(void *arg)
{
	struct note *note = arg;

	write_down(arg);
	service_off_turn(&note->f->s, leave_while_running, arg);
	service_off_turn(&note->f->s, write_down, &note->f->b);
	service_on_turn(&note->f->s, write_down, &note->f->c);
}

static void turn_functions_may_come_and_go_while_they_run(void **state)
{
	struct fixture *f = *state;

	service_on_turn(&f->s, leave_while_running, &f->a);
	service_on_turn(&f->s, write_down, &f->b);
	f->left = 1;
	assert_false(service_run(&f->s, nothing_left, f, 1));
	assert_memory_equal(f->trail, "acc", f->n < 3 ? f->n : 3);
	assert_null(strchr(f->trail, 'b'));
	service_off_turn(&f->s, write_down, &f->c);
	f->n = 0;
	assert_false(service_run(&f->s, nothing_left, f, 1));
	assert_int_equal(f->n, 0);
}

static void clear_runs_what_was_left_for_later(void **state)
{
	struct fixture *f = *state;

	service_later(&f->s, write_down, &f->a);
	f->left = 1000;
	service_later(&f->s, once_more, f);             /* would never end */
	service_clear(&f->s);
	assert_string_equal(f->trail, "a");
	assert_null(f->s.loop);
}

static void advancing_a_faked_clock_ends_the_turn(void **state)
{
	struct fixture *f = *state;
	struct timer t = { 0 };

	clock_fake(0);
	service_later(&f->s, write_down, &f->b);
	timer_start(&f->s, &t, 10, write_down, &f->a);
	clock_advance(10);
	assert_string_equal(f->trail, "ab");
	clock_real();
}

static const char *ready_text(struct fixture *f, bool expected)
{
	static char text[256];
	struct buf b = BUF(sizeof(text) - 1);

	assert_int_equal(service_ready_text(&f->s, &b), expected);
	snprintf(text, sizeof(text), "%.*s", (int)b.n, b.p);
	buf_clear(&b);
	return text;
}

static void ready_means_everything_named_is_up_and_no_drain(void **state)
{
	struct fixture *f = *state;
	char copy[] = "kafka";                  /* compared by text, not by address */

	assert_string_equal(ready_text(f, true), "{\"status\":\"ready\",\"checks\":{}}\n");
	service_ready(&f->s, "kafka", false);
	service_ready(&f->s, "postgres-write", true);
	assert_string_equal(
		ready_text(f, false),
		"{\"status\":\"waiting\",\"checks\":{\"kafka\":false,\"postgres-write\":true}}\n");
	service_ready(&f->s, copy, true);
	assert_string_equal(ready_text(f, true),
	                    "{\"status\":\"ready\",\"checks\":{\"kafka\":true,\"postgres-write\":true}}\n");
	assert_false(service_draining(&f->s));
	service_drain(&f->s);
	service_drain(&f->s);
	assert_true(service_draining(&f->s));
	assert_string_equal(
		ready_text(f, false),
		"{\"status\":\"draining\",\"checks\":{\"kafka\":true,\"postgres-write\":true}}\n");
}

static void a_change_of_a_dependency_is_logged_once(void **state)
{
	struct fixture *f = *state;
	char text[2000];
	ssize_t n;
	int fd[2], lines = 0;

	assert_int_equal(pipe2(fd, O_CLOEXEC | O_NONBLOCK), 0);
	log_to(fd[1], "tester");
	log_threshold = L_INFO;
	for (int i = 0; i < 3; i++)
		service_ready(&f->s, "kafka", false);
	for (int i = 0; i < 3; i++)
		service_ready(&f->s, "kafka", true);
	for (int i = 0; i < 3; i++)
		service_ready(&f->s, "kafka", false);
	n = read(fd[0], text, sizeof(text) - 1);
	log_to(STDERR_FILENO, "tester");
	close(fd[0]);
	close(fd[1]);
	assert_true(n > 0);
	text[n] = '\0';
	for (ssize_t i = 0; i < n; i++)
		lines += text[i] == '\n';
	assert_int_equal(lines, 2);
	assert_true(strstr(text, "\"dependency_up\"") < strstr(text, "\"dependency_down\""));
}

/* ---- lives ---- */

struct tester { struct str word; };

static const struct cfg_var vars[] = {
	CFG(struct tester, word, "TESTER_WORD", CFG_STR, "plain", "What to do in this life."),
	{ 0 }
};

static struct tester settings;
static struct timer tick;

static void say(const char *event)
{
	log_at(L_INFO, NULL, event, "%s", "-");
}

static bool word_is(const char *w)
{
	return strcmp(settings.word.p, w) == 0;
}

static void release(void *arg)
{
	say("released");
	service_release(arg);
}

static void break_down(void *arg)
{
	struct err err = { 0 };

	err_set(&err, word_is("fatal") ? -ENOKEY : -ECONNREFUSED, "the world broke");
	service_fatal(arg, &err);
}

static int start(struct service *s, struct err *err)
{
	s->priv = xnew_(1, 16);                 /* for LeakSanitizer to ask after */
	if (word_is("no-port") || word_is("no-key") || word_is("bad-listen")) {
		free(s->priv);
		return err_set(err,
		               word_is("no-port") ? -EADDRINUSE :
		               word_is("no-key")  ? -ENOKEY :
		                                    -EINVAL,
		               "cannot start");
	}
	if (getenv("PGHOST") != NULL || getenv("PGPASSWORD") != NULL || getenv("PGX") != NULL)
		return err_set(err, -EBADE, "a PG variable is left");
	if (getenv("PAGER") == NULL)
		return err_set(err, -EBADE, "PAGER is not ours to remove");
	if (word_is("hold") || word_is("stuck"))
		service_hold(s);
	if (word_is("fatal") || word_is("fatal-again"))
		timer_start(s, &tick, 1, break_down, s);
	say("ready_for_signals");
	return 0;
}

static void drain(struct service *s)
{
	say("draining");
	if (word_is("hold"))
		timer_start(s, &tick, 20, release, s);
}

static void stop(struct service *s)
{
	say("stopping");
	timer_stop(&tick);
	free(s->priv);
}

struct life { pid_t pid; int out; char said[16384]; size_t n; int status; };

/* A process of the service with these words in its environment, NULL at the end. */
static void begin(struct life *l, const char *const *env, const char *arg)
{
	int fd[2];

	memset(l, 0, sizeof(*l));
	assert_int_equal(pipe2(fd, 0), 0);
	fflush(NULL);
	l->pid = fork();
	assert_true(l->pid >= 0);
	if (l->pid == 0) {
		static struct service s = { .name = "tester", .version = "1.2.3", .vars = vars,
			.settings = &settings, .start = start, .drain = drain, .stop = stop };
		char *argv[] = { (char[]){ "tester" }, (char *)(uintptr_t)arg, NULL };

		dup2(fd[1], STDOUT_FILENO);
		dup2(fd[1], STDERR_FILENO);
		close(fd[0]);
		close(fd[1]);
		clearenv();
		setenv("PAGER", "less", 1);
		for (; *env != NULL; env += 2)
			setenv(env[0], env[1], 1);
		log_threshold = L_INFO;
		exit(service_main(&s, arg != NULL ? 2 : 1, argv));
	}
	close(fd[1]);
	l->out = fd[0];
}

/* Reads what it says until the word comes or it ends; false: 20 s without. */
static bool heard(struct life *l, const char *word)
{
	struct pollfd p = { .fd = l->out, .events = POLLIN };

	while (strstr(l->said, word) == NULL) {
		ssize_t n;

		if (poll(&p, 1, 20000) != 1)
			return false;
		n = read(l->out, l->said + l->n, sizeof(l->said) - 1 - l->n);
		if (n <= 0)
			return false;
		l->n += (size_t)n;
	}
	return true;
}

static int end(struct life *l)
{
	if (heard(l, "no one ever says this"))
		fail();
	close(l->out);
	assert_int_equal(waitpid(l->pid, &l->status, 0), l->pid);
	return WIFEXITED(l->status) ? WEXITSTATUS(l->status) : 1000 + WTERMSIG(l->status);
}

static const char *const plain[] = { NULL };

#define HEARD(l, word) \
	do { if (!heard(l, word)) { kill((l)->pid, SIGKILL); fail_msg("no %s in: %s", word, (l)->said); } } while (0)
#define ENDS_WITH(l, expected) \
	do { int got_ = end(l); if (got_ != (expected)) fail_msg("status %d: %s", got_, (l)->said); } while (0)

static void sigterm_drains_stops_and_exits_0(void **state)
{
	static const char *const env[] = { "PGHOST", "evil", "PGPASSWORD", "x", "PGX", "y", NULL };
	struct life l;
	const char *drained, *stopped;

	(void)state;
	begin(&l, env, NULL);
	HEARD(&l, "ready_for_signals");
	HEARD(&l, "\"started\"");
	kill(l.pid, SIGTERM);
	ENDS_WITH(&l, 0);
	drained = strstr(l.said, "\"draining\"");
	stopped = strstr(l.said, "\"stopping\"");
	assert_true(drained != NULL && stopped != NULL && drained < stopped);
}

static void sigint_does_the_same(void **state)
{
	struct life l;

	(void)state;
	begin(&l, plain, NULL);
	HEARD(&l, "\"started\"");
	kill(l.pid, SIGINT);
	ENDS_WITH(&l, 0);
	assert_non_null(strstr(l.said, "\"draining\""));
}

static void a_drain_waits_for_what_is_held(void **state)
{
	static const char *const env[] = { "TESTER_WORD", "hold", NULL };
	struct life l;

	(void)state;
	begin(&l, env, NULL);
	HEARD(&l, "\"started\"");
	kill(l.pid, SIGTERM);
	ENDS_WITH(&l, 0);
	assert_non_null(strstr(l.said, "\"released\""));
	assert_true(strstr(l.said, "\"released\"") < strstr(l.said, "\"stopping\""));
}

static void a_drain_that_takes_too_long_is_cut(void **state)
{
	static const char *const env[] = { "TESTER_WORD", "stuck", "DRAIN_TIMEOUT_MS", "150", NULL };
	struct life l;

	(void)state;
	begin(&l, env, NULL);
	HEARD(&l, "\"started\"");
	kill(l.pid, SIGTERM);
	ENDS_WITH(&l, 111);
	assert_non_null(strstr(l.said, "\"drain_late\""));
	assert_non_null(strstr(l.said, "\"stopping\""));
}

static void a_second_signal_ends_a_drain_at_once(void **state)
{
	static const char *const env[] = { "TESTER_WORD", "stuck", "DRAIN_TIMEOUT_MS", "10m", NULL };
	struct life l;

	(void)state;
	begin(&l, env, NULL);
	HEARD(&l, "\"started\"");
	kill(l.pid, SIGTERM);
	HEARD(&l, "\"draining\"");
	kill(l.pid, SIGTERM);
	ENDS_WITH(&l, 111);
	assert_non_null(strstr(l.said, "\"drain_cut\""));
	assert_non_null(strstr(l.said, "\"stopping\""));
}

static void sigusr1_switches_debug_on_and_off(void **state)
{
	struct life l;

	(void)state;
	begin(&l, plain, NULL);
	HEARD(&l, "\"started\"");
	kill(l.pid, SIGUSR1);
	HEARD(&l, "debug lines are on now");
	kill(l.pid, SIGUSR1);
	HEARD(&l, "debug lines are off now");
	kill(l.pid, SIGTERM);
	ENDS_WITH(&l, 0);
}

static void a_closed_pipe_or_socket_does_not_kill(void **state)
{
	struct life l;

	(void)state;
	begin(&l, plain, NULL);
	HEARD(&l, "\"started\"");
	kill(l.pid, SIGPIPE);
	kill(l.pid, SIGTERM);
	ENDS_WITH(&l, 0);
}

static void bad_settings_exit_100_and_all_are_named(void **state)
{
	static const char *const env[] = { "LOG_LEVEL", "loud", "DATABASE_POOL_READ", "0", NULL };
	struct life l;

	(void)state;
	begin(&l, env, NULL);
	ENDS_WITH(&l, 100);
	assert_non_null(strstr(l.said, "LOG_LEVEL=loud"));
	assert_non_null(strstr(l.said, "DATABASE_POOL_READ=0"));
	assert_null(strstr(l.said, "ready_for_signals"));
}

static void how_start_fails_decides_who_must_act(void **state)
{
	static const struct { const char *env[3]; int status; } cases[] = {
		{ { "TESTER_WORD", "no-port", NULL }, 111 },
		{ { "TESTER_WORD", "no-key", NULL }, 100 },
		{ { "TESTER_WORD", "bad-listen", NULL }, 100 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct life l;

		begin(&l, cases[i].env, NULL);
		ENDS_WITH(&l, cases[i].status);
		assert_non_null(strstr(l.said, "\"start_failed\",\"msg\":\"cannot start\""));
		assert_null(strstr(l.said, "\"stopping\""));
	}
}

static void what_breaks_later_stops_and_exits_by_kind(void **state)
{
	static const struct { const char *env[3]; int status; } cases[] = {
		{ { "TESTER_WORD", "fatal", NULL }, 100 }, { { "TESTER_WORD", "fatal-again", NULL }, 111 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct life l;

		begin(&l, cases[i].env, NULL);
		ENDS_WITH(&l, cases[i].status);
		assert_non_null(strstr(l.said, "\"fatal\",\"msg\":\"the world broke\""));
		assert_non_null(strstr(l.said, "\"stopping\""));
	}
}

static void help_shows_both_tables_and_version_the_version(void **state)
{
	struct life l;

	(void)state;
	begin(&l, plain, "--help");
	ENDS_WITH(&l, 0);
	assert_non_null(strstr(l.said, "TESTER_WORD  (default plain)"));
	for (const struct cfg_var *v = cfg_base_vars; v->env != NULL; v++)
		assert_non_null(strstr(l.said, v->env));
	for (char *line = l.said, *next; *line != '\0'; line = next + 1) {
		next = strchr(line, '\n');
		assert_non_null(next);
		if (next - line > 100)
			fail_msg("too wide: %.*s", (int)(next - line), line);
	}
	begin(&l, plain, "--version");
	ENDS_WITH(&l, 0);
	assert_string_equal(l.said, "tester 1.2.3\n");
	begin(&l, plain, "--verbose");
	ENDS_WITH(&l, 100);
	assert_non_null(strstr(l.said, "unknown argument --verbose"));
}

static int connect_to(int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
		.sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static void the_admin_listener_answers_through_the_whole_life(void **state)
{
	static const char *const env[] = { "ADMIN_LISTEN", "127.0.0.1:0", "TESTER_WORD", "hold", NULL };
	static const char request[] = "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
	char text[2000];
	const char *at;
	size_t n = 0;
	struct life l;
	struct str rest;
	int64_t port = 0;
	ssize_t got;
	int fd, half;

	(void)state;
	begin(&l, env, NULL);
	HEARD(&l, "\"started\"");
	at = strstr(l.said, "on port ");
	assert_non_null(at);
	assert_int_equal(str_int(str_cut(str_of(at + strlen("on port ")), '"', &rest), 1, 65535, &port), 0);
	half = connect_to((int)port);           /* never finishes its request */
	assert_int_equal(write(half, request, 10), 10);
	fd = connect_to((int)port);
	assert_int_equal(write(fd, request, sizeof(request) - 1), (ssize_t)sizeof(request) - 1);
	while ((got = read(fd, text + n, sizeof(text) - 1 - n)) > 0)
		n += (size_t)got;
	text[n] = '\0';
	close(fd);
	assert_true(str_starts(str_of(text), STR("HTTP/1.1 200 ")));
	assert_non_null(strstr(text, "{\"status\":\"ready\",\"checks\":{}}"));
	kill(l.pid, SIGTERM);
	ENDS_WITH(&l, 0);
	close(half);
	assert_null(strstr(l.said, "closed_late"));
}

static void an_admin_address_in_use_exits_111(void **state)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const char *env[] = { "ADMIN_LISTEN", NULL, NULL };
	char listening[40];
	struct life l;

	(void)state;
	assert_int_equal(bind(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	snprintf(listening, sizeof(listening), "127.0.0.1:%d", ntohs(a.sin_port));
	env[1] = listening;
	begin(&l, env, NULL);
	ENDS_WITH(&l, 111);
	close(fd);
	assert_non_null(strstr(l.said, "ADMIN_LISTEN=127.0.0.1:"));
	assert_null(strstr(l.said, "ready_for_signals"));
}

/* What a service says it needs is reported with everything else. */
static void needs_of_a_service_must_be_set(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct service s = { .name = "needy", .vars = NULL, .start = start,
			.needs = NEEDS_DATABASE | NEEDS_HTTP | NEEDS_ROUTER | NEEDS_PUBLIC | NEEDS_SEALING };
		char *argv[] = { (char[]){ "needy" }, NULL };

		clearenv();
		close(STDERR_FILENO);
		exit(service_main(&s, 1, argv));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 100);
}

#define ON_LOOP(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_LOOP(run_gives_up_after_its_time),
		ON_LOOP(run_does_nothing_when_the_condition_holds_already),
		ON_LOOP(later_functions_run_in_order_after_the_callbacks),
		ON_LOOP(later_from_inside_runs_in_the_next_turn_without_a_wait),
		ON_LOOP(turn_functions_run_before_the_wait_even_in_the_first_turn),
		ON_LOOP(turn_functions_may_come_and_go_while_they_run),
		ON_LOOP(clear_runs_what_was_left_for_later),
		ON_LOOP(advancing_a_faked_clock_ends_the_turn),
		ON_LOOP(ready_means_everything_named_is_up_and_no_drain),
		ON_LOOP(a_change_of_a_dependency_is_logged_once),
		cmocka_unit_test(sigterm_drains_stops_and_exits_0),
		cmocka_unit_test(sigint_does_the_same),
		cmocka_unit_test(a_drain_waits_for_what_is_held),
		cmocka_unit_test(a_drain_that_takes_too_long_is_cut),
		cmocka_unit_test(a_second_signal_ends_a_drain_at_once),
		cmocka_unit_test(sigusr1_switches_debug_on_and_off),
		cmocka_unit_test(a_closed_pipe_or_socket_does_not_kill),
		cmocka_unit_test(bad_settings_exit_100_and_all_are_named),
		cmocka_unit_test(how_start_fails_decides_who_must_act),
		cmocka_unit_test(what_breaks_later_stops_and_exits_by_kind),
		cmocka_unit_test(help_shows_both_tables_and_version_the_version),
		cmocka_unit_test(the_admin_listener_answers_through_the_whole_life),
		cmocka_unit_test(an_admin_address_in_use_exits_111),
		cmocka_unit_test(needs_of_a_service_must_be_set),
	};

	return !!cmocka_run_group_tests(tests, NULL, NULL);
}

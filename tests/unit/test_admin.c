/* test_admin.c - the admin listener through real sockets. */
#include "admin.h"

#include "clock.h"
#include "err.h"
#include "http.h"
#include "log.h"
#include "metrics.h"
#include "raw_client.h"
#include "service.h"

#include <sys/resource.h>
#include <unistd.h>

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

METRIC(mine, METRIC_COUNTER, "waddle_test_mine_total", "Counted here.");
static struct metric *const own_metrics[] = { &mine, NULL };
static struct metric *const *const tables[] = { own_metrics, http_metrics, own_metrics, NULL };

struct fixture {
	struct service    s;
	struct http      *admin;
	struct raw_client c;
	char              text[65536];
};

static int set_up(void **state)
{
	struct fixture *f = XNEW(struct fixture);
	struct err err = { 0 };

	f->s.name = "tester";
	f->s.metrics = tables;
	log_threshold = L_ERROR;
	service_init(&f->s);
	f->admin = admin_open(&f->s, STR("127.0.0.1:0"), &err);
	if (f->admin == NULL)
		print_error("%s\n", err.text);
	*state = f;
	return f->admin != NULL ? 0 : -1;
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	bool late;

	raw_close(&f->c);
	http_close(f->admin);
	late = service_run(&f->s, never, NULL, 1);
	service_clear(&f->s);
	free(f);
	return late ? -1 : 0;
}

/* Status of GET path; its body is in f->text. */
static int get(struct fixture *f, const char *path)
{
	char request[200];
	struct str body;
	int status;

	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
	raw_close(&f->c);
	status = raw_ask(&f->c, &f->s, http_port(f->admin), request);
	body = raw_body(&f->c, 0);
	snprintf(f->text, sizeof(f->text), STR_FMT, STR_ARG(body));
	return status;
}

static void healthz_answers_while_the_loop_turns(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(get(f, "/healthz"), 200);
	assert_string_equal(f->text, "{\"status\":\"alive\"}\n");
	service_ready(&f->s, "kafka", false);           /* waiting is not being dead */
	assert_int_equal(get(f, "/healthz"), 200);
	service_drain(&f->s);
	assert_int_equal(get(f, "/healthz"), 200);
}

static void readyz_follows_the_dependencies_and_the_drain(void **state)
{
	struct fixture *f = *state;

	service_ready(&f->s, "kafka", false);
	service_ready(&f->s, "postgres-write", true);
	assert_int_equal(get(f, "/readyz"), 503);
	assert_string_equal(
		f->text, "{\"status\":\"waiting\",\"checks\":{\"kafka\":false,\"postgres-write\":true}}\n");
	assert_true(str_eq(raw_header(&f->c, 0, "Content-Type"), STR("application/json")));
	service_ready(&f->s, "kafka", true);
	assert_int_equal(get(f, "/readyz"), 200);
	assert_non_null(strstr(f->text, "\"ready\""));
	service_drain(&f->s);
	assert_int_equal(get(f, "/readyz"), 503);
	assert_non_null(strstr(f->text, "\"draining\""));
}

/* The number behind "name " at the start of a line; -1: there is none. */
static int64_t number(struct fixture *f, const char *name)
{
	char wanted[120];
	const char *at;
	struct str line, rest;
	int64_t v = -1;

	snprintf(wanted, sizeof(wanted), "\n%s ", name);
	at = strstr(f->text, wanted);
	if (at == NULL)
		return -1;
	line = str_cut(str_of(at + strlen(wanted)), '\n', &rest);
	return str_int(line, INT64_MIN, INT64_MAX, &v) == 0 ? v : -1;
}

static void metrics_has_every_table_once_and_the_process(void **state)
{
	struct fixture *f = *state;
	struct rlimit fds;
	int64_t turns;
	const char *first;

	getrlimit(RLIMIT_NOFILE, &fds);
	metric_add(&mine, 0, 42);
	service_ready(&f->s, "kafka", true);
	service_ready(&f->s, "postgres-write", false);
	assert_int_equal(get(f, "/metrics"), 200);
	assert_true(str_eq(raw_header(&f->c, 0, "Content-Type"),
	                   STR("text/plain; version=0.0.4; charset=utf-8")));
	assert_int_equal(number(f, "waddle_test_mine_total"), 42);
	first = strstr(f->text, "# TYPE waddle_test_mine_total");
	assert_non_null(first);
	assert_null(strstr(first + 1, "# TYPE waddle_test_mine_total"));
	first = strstr(f->text, "# TYPE waddle_http_request_seconds");
	assert_non_null(first);
	assert_null(strstr(first + 1, "# TYPE waddle_http_request_seconds"));

	assert_in_range(number(f, "waddle_process_resident_bytes"), 1 << 20, INT64_C(1) << 40);
	assert_in_range(number(f, "waddle_process_open_fds"), 5, 200);
	assert_int_equal(number(f, "waddle_process_max_fds"), fds.rlim_cur);
	assert_in_range(number(f, "waddle_process_uptime_seconds"), 0, 60);
	assert_true(number(f, "waddle_process_cpu_ms_total") >= 0);
	assert_int_equal(number(f, "waddle_process_held"), 1);          /* this very request */
	assert_int_equal(number(f, "waddle_process_log_dropped_total"), 0);
	assert_int_equal(number(f, "waddle_process_dependency_up{what=\"kafka\"}"), 1);
	assert_int_equal(number(f, "waddle_process_dependency_up{what=\"postgres-write\"}"), 0);
	turns = number(f, "waddle_process_loop_turns_total");
	assert_true(turns > 0);
	assert_int_equal(get(f, "/metrics"), 200);
	assert_true(number(f, "waddle_process_loop_turns_total") > turns);
}

static void open_fds_are_counted_exactly(void **state)
{
	struct fixture *f = *state;
	int64_t before;
	int fd[2];

	assert_int_equal(get(f, "/metrics"), 200);
	before = number(f, "waddle_process_open_fds");
	assert_int_equal(pipe(fd), 0);
	assert_int_equal(get(f, "/metrics"), 200);
	close(fd[0]);
	close(fd[1]);
	assert_int_equal(number(f, "waddle_process_open_fds"), before + 2);
}

/* Format 0.0.4: every line is a comment or "name[{labels}] value", HELP then TYPE before samples. */
static void every_line_of_metrics_is_well_formed(void **state)
{
	struct fixture *f = *state;
	struct str rest, name = STR_NONE;
	unsigned samples = 0;

	assert_int_equal(get(f, "/metrics"), 200);
	rest = str_of(f->text);
	while (rest.n > 0) {
		struct str line = str_cut(rest, '\n', &rest), after, value;

		assert_non_null(rest.p);                /* each ends with a newline */
		if (str_starts(line, STR("# HELP "))) {
			name = str_cut((struct str){ line.p + 7, line.n - 7 }, ' ', &after);
			assert_true(str_starts(name, STR("waddle_")));
			assert_true(after.n > 10 && after.p[after.n - 1] == '.');
			continue;
		}
		if (str_starts(line, STR("# TYPE "))) {
			assert_true(
				str_eq(str_cut((struct str){ line.p + 7, line.n - 7 }, ' ', &after), name));
			continue;
		}
		assert_true(str_starts(line, name));
		value = (struct str){ memrchr(line.p, ' ', line.n), 0 };
		assert_non_null(value.p);
		value = (struct str){ value.p + 1, line.n - (size_t)(value.p - line.p) - 1 };
		assert_true(value.n > 0);
		for (size_t i = 0; i < value.n; i++)
			assert_true((value.p[i] >= '0' && value.p[i] <= '9') || value.p[i] == '.' ||
			            value.p[i] == '-');
		samples++;
	}
	assert_true(samples > 20);
}

static void anything_else_is_404_or_405(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(get(f, "/"), 404);
	assert_int_equal(get(f, "/metrics/x"), 404);
	raw_close(&f->c);
	assert_int_equal(raw_ask(&f->c, &f->s, http_port(f->admin),
	                         "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"),
	                 405);
}

static void an_address_in_use_is_told_with_its_setting(void **state)
{
	struct fixture *f = *state;
	struct err err = { 0 };
	char listen[40];

	snprintf(listen, sizeof(listen), "127.0.0.1:%d", http_port(f->admin));
	assert_null(admin_open(&f->s, str_of(listen), &err));
	assert_int_equal(err.code, -EADDRINUSE);
	assert_int_equal(err_kind(&err), ERR_AGAIN);
	assert_true(str_starts(str_of(err.text), STR("ADMIN_LISTEN=127.0.0.1:")));
}

#define ON_PORT(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_PORT(healthz_answers_while_the_loop_turns),
		ON_PORT(readyz_follows_the_dependencies_and_the_drain),
		ON_PORT(metrics_has_every_table_once_and_the_process),
		ON_PORT(open_fds_are_counted_exactly),
		ON_PORT(every_line_of_metrics_is_well_formed),
		ON_PORT(anything_else_is_404_or_405),
		ON_PORT(an_address_in_use_is_told_with_its_setting),
	};

	return !!cmocka_run_group_tests(tests, NULL, NULL);
}

/* admin.c - /healthz, /readyz and /metrics. */
#include "admin.h"

#include "clock.h"
#include "err.h"
#include "http.h"
#include "log.h"
#include "metrics.h"
#include "service.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

enum { TEXT_MAX = 4 << 20, TABLES_MAX = 32 };

METRIC(resident, METRIC_GAUGE, "waddle_process_resident_bytes", "Memory of this process that is in RAM.");
METRIC(open_fds, METRIC_GAUGE, "waddle_process_open_fds", "File descriptors in use.");
METRIC(max_fds, METRIC_GAUGE, "waddle_process_max_fds", "File descriptors this process may use.");
METRIC(uptime, METRIC_GAUGE, "waddle_process_uptime_seconds", "Time since this process started.");
METRIC(cpu, METRIC_COUNTER, "waddle_process_cpu_ms_total", "Processor time used, all threads.");
METRIC(turns, METRIC_COUNTER, "waddle_process_loop_turns_total", "Turns of the event loop.");
METRIC(held, METRIC_GAUGE, "waddle_process_held", "Pieces of work a drain would wait for.");
METRIC(dropped, METRIC_COUNTER, "waddle_process_log_dropped_total",
       "Log lines nobody could take without making this process wait.");

struct metric *const process_metrics[] = { &resident, &open_fds, &max_fds, &uptime, &cpu, &turns, &held,
	&dropped, NULL };

/* The second number of statm: resident pages. */
static int64_t resident_bytes(void)
{
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	struct str rest, pages;
	char text[128];
	int64_t n = 0;
	ssize_t got;

	if (fd < 0)
		return 0;
	got = read(fd, text, sizeof(text));
	close(fd);
	if (got <= 0)
		return 0;
	str_cut((struct str){ text, (size_t)got }, ' ', &rest);
	pages = str_cut(rest, ' ', &rest);
	return str_int(pages, 0, INT64_MAX / 65536, &n) == 0 ? n * sysconf(_SC_PAGESIZE) : 0;
}

static int64_t count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int64_t n = -3;                         /* ".", ".." and the directory itself */

	if (dir == NULL)
		return 0;
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

static int64_t ms_of(struct timeval tv) { return (int64_t)tv.tv_sec * 1000 + tv.tv_usec / 1000; }

static int64_t began_mono_ms;           /* of the first listener: near enough to the start */

static void measure(const struct service *s)
{
	struct rusage used = { 0 };
	struct rlimit fds = { 0 };

	getrusage(RUSAGE_SELF, &used);
	getrlimit(RLIMIT_NOFILE, &fds);
	metric_set(&resident, 0, resident_bytes());
	metric_set(&open_fds, 0, count_fds());
	metric_set(&max_fds, 0, fds.rlim_cur < INT64_MAX ? (int64_t)fds.rlim_cur : -1);
	metric_set(&uptime, 0, (clock_mono_ms() - began_mono_ms) / 1000);
	metric_set(&cpu, 0, ms_of(used.ru_utime) + ms_of(used.ru_stime));
	metric_set(&turns, 0, (int64_t)service_turns(s));
	metric_set(&held, 0, (int64_t)service_held(s));
	metric_set(&dropped, 0, (int64_t)log_dropped);
}

static void add_table(struct metric *const **seen, size_t *n, struct metric *const *table, struct buf *out)
{
	for (size_t i = 0; i < *n; i++)
		if (seen[i] == table)
			return;
	ASSERT(*n < TABLES_MAX);
	seen[(*n)++] = table;
	metric_text(table, out);
}

/* By hand, since its values are named at run time by service_ready(). */
static void add_dependencies(const struct service *s, struct buf *out)
{
	const char *what;
	bool up;

	buf_add(out, STR("# HELP waddle_process_dependency_up Whether what this process needs is there.\n"
	                 "# TYPE waddle_process_dependency_up gauge\n"));
	for (size_t i = 0; (what = service_dependency(s, i, &up)) != NULL; i++)
		buf_printf(out, "waddle_process_dependency_up{what=\"%s\"} %d\n", what, up ? 1 : 0);
}

void admin_metrics_text(const struct service *s, struct buf *out)
{
	struct metric *const *seen[TABLES_MAX];
	size_t n = 0;

	measure(s);
	for (struct metric *const *const *table = s->metrics; table != NULL && *table != NULL; table++)
		add_table(seen, &n, *table, out);
	add_table(seen, &n, process_metrics, out);
	add_table(seen, &n, http_metrics, out);
	add_dependencies(s, out);
}

static void healthz(struct http_req *r, void *arg)
{
	(void)arg;
	http_reply_raw(r, 200, "application/json", STR("{\"status\":\"alive\"}\n"));
}

static void answer(struct http_req *r, int status, const char *type, struct buf *b)
{
	struct err err = { 0 };
	struct str text;

	if (buf_str(b, &text) == 0) {
		http_reply_raw(r, status, type, text);
	} else {
		err_set(&err, -EIO, "the answer would be larger than %zu bytes", b->max);
		http_fail(r, &err);
	}
	buf_clear(b);
}

static void readyz(struct http_req *r, void *arg)
{
	struct buf b = BUF(TEXT_MAX);
	bool ready = service_ready_text(arg, &b);

	answer(r, ready ? 200 : 503, "application/json", &b);
}

static void metrics(struct http_req *r, void *arg)
{
	struct buf b = BUF(TEXT_MAX);

	admin_metrics_text(arg, &b);
	answer(r, 200, "text/plain; version=0.0.4; charset=utf-8", &b);
}

static const struct http_route routes[] = {
	{ .method = "GET", .path = "/healthz", .handle = healthz, .summary = "Whether the loop turns." },
	{ .method = "GET", .path = "/readyz", .handle = readyz, .summary = "Whether all it needs is there." },
	{ .method = "GET", .path = "/metrics", .handle = metrics, .summary = "Numbers in Prometheus text format." },
	{ 0 }
};

struct http *admin_open(struct service *s, struct str listen, struct err *err)
{
	/* Short: a half request must not delay the end of a drain. */
	const struct http_limits limits = { .max_conns = 64, .header_bytes = 4096, .head_ms = 2000,
		.send_ms = 5000, .while_draining = true };
	struct http *h = http_open(s, listen, routes, s, limits, err);

	if (h == NULL) {
		err_wrap(err, "ADMIN_LISTEN=" STR_FMT, STR_ARG(listen));
		return NULL;
	}
	if (began_mono_ms == 0)
		began_mono_ms = clock_mono_ms();
	log_info(NULL, "admin_listening", "/healthz, /readyz and /metrics on port %d", http_port(h));
	return h;
}

#define BANNED_EXCEPT_GETENV
#include "lib.h"

#include <curl/curl.h>
#include <event2/event.h>
#include <json-c/json_c_version.h>
#include <librdkafka/rdkafka.h>
#include <libpq-fe.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "str.h"

double bench_now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int smaller_first(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

double bench_percentile(double *samples, size_t n, double p)
{
	size_t at;

	if (n == 0)
		return 0;
	qsort(samples, n, sizeof(*samples), smaller_first);
	at = (size_t)(p / 100 * (double)n);
	return samples[at < n ? at : n - 1];
}

double bench_median(double *samples, size_t n)
{
	return bench_percentile(samples, n, 50);
}

double bench_rate(void (*round)(void *arg), void *arg, double seconds)
{
	double start = bench_now_s(), now = start;
	unsigned long rounds = 0;

	while (now - start < seconds) {
		for (int i = 0; i < 64; i++)
			round(arg);
		rounds += 64;
		now = bench_now_s();
	}
	return (double)rounds / (now - start);
}

/* "model name" of the first processor. */
static void cpu_model(char *out, size_t room)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[256];

	snprintf(out, room, "unknown");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		char *colon = strchr(line, ':');

		if (strncmp(line, "model name", 10) != 0 || colon == NULL)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(out, room, "%s", colon + 2);
		break;
	}
	if (f != NULL)
		fclose(f);
}

static void add_pair(struct buf *b, const char *key, const char *text, bool last)
{
	buf_json(b, str_of(key));
	buf_add(b, STR(": "));
	buf_json(b, str_of(text));
	buf_add(b, last ? STR("") : STR(", "));
}

static void add_machine(struct buf *b)
{
	struct utsname u;
	char cpu[128];

	uname(&u);
	cpu_model(cpu, sizeof(cpu));
	buf_printf(b, "  \"machine\": {\"nproc\": %ld, ", sysconf(_SC_NPROCESSORS_ONLN));
	add_pair(b, "cpu", cpu, false);
	add_pair(b, "kernel", u.release, true);
	buf_add(b, STR("},\n"));
}

static void add_versions(struct buf *b)
{
	char pq[16];

	snprintf(pq, sizeof(pq), "%d.%d", PQlibVersion() / 10000, PQlibVersion() % 10000);
	buf_add(b, STR("  \"versions\": {"));
	add_pair(b, "json-c", json_c_version(), false);
	add_pair(b, "librdkafka", rd_kafka_version_str(), false);
	add_pair(b, "libpq", pq, false);
	add_pair(b, "libevent", event_get_version(), false);
	add_pair(b, "openssl", OpenSSL_version(OPENSSL_VERSION_STRING), false);
	for (size_t i = 0; i < 2; i++) {        /* bench/run says what is beside us */
		const char *is = getenv(i == 0 ? "BENCH_POSTGRESQL" : "BENCH_KAFKA");

		if (is != NULL && is[0] != '\0')
			add_pair(b, i == 0 ? "postgresql" : "kafka", is, false);
	}
	add_pair(b, "libcurl", curl_version_info(CURLVERSION_NOW)->version, false);
	add_pair(b, "compiler", __VERSION__, true);
	buf_add(b, STR("}\n"));
}

static int write_file(const char *path, const struct buf *b)
{
	struct str text;
	FILE *f;
	bool ok;

	if (buf_str(b, &text) != 0)
		return -1;
	f = fopen(path, "we");
	if (f == NULL)
		return -1;
	ok = fwrite(text.p, 1, text.n, f) == text.n;
	ok = fclose(f) == 0 && ok;
	return ok ? 0 : -1;
}

static const char *directory(void)
{
	const char *dir = getenv("BENCH_DIR");

	if (dir != NULL && dir[0] != '\0')
		return dir;
	mkdir("build", 0777);
	return "build/bench";
}

int bench_report(const char *name, double value, double floor, const char *unit,
		 const struct bench_extra *extra, size_t n)
{
	struct buf b = BUF(64 * 1024);
	const char *dir = directory();
	char path[512], time[CLOCK_TEXT];
	int r;

	clock_text(clock_unix_ms(), time);
	buf_add(&b, STR("{\n  "));
	add_pair(&b, "name", name, false);
	buf_printf(&b, "\"value\": %.6g, \"floor\": %.6g, ", value, floor);
	if (floor > 0)
		buf_printf(&b, "\"ratio\": %.4g, ", value / floor);
	add_pair(&b, "unit", unit, false);
	add_pair(&b, "at", time, false);
	buf_add(&b, STR("\n"));
	for (size_t i = 0; i < n; i++) {
		buf_add(&b, STR("  "));
		buf_json(&b, str_of(extra[i].key));
		buf_add(&b, STR(": "));
		if (extra[i].text != NULL)
			buf_json(&b, str_of(extra[i].text));
		else
			buf_printf(&b, "%.6g", extra[i].value);
		buf_add(&b, STR(",\n"));
	}
	add_machine(&b);
	add_versions(&b);
	buf_add(&b, STR("}\n"));
	mkdir(dir, 0777);
	snprintf(path, sizeof(path), "%s/%s.json", dir, name);
	r = write_file(path, &b);
	buf_clear(&b);
	printf("%-20s %14.1f %s", name, value, unit);
	if (floor > 0)
		printf(", floor %.1f, ratio %.3f", floor, value / floor);
	printf("%s\n", r == 0 ? "" : " (report not written)");
	for (size_t i = 0; i < n; i++) {
		if (extra[i].text != NULL)
			printf("  %-30s %s\n", extra[i].key, extra[i].text);
		else
			printf("  %-30s %.6g\n", extra[i].key, extra[i].value);
	}
	return r == 0 ? 0 : 1;
}

/* bench_http_events.c - events per second over HTTP, single and in batches of 100.
 *      bench/run http_events; by hand: bench_http_events [PERCENT]
 * 64 connections post to the real router, each as soon as it has its answer: key checked, both
 * keys of the event stored, acknowledged by the broker, marked.  At least 8,000 single events a second and
 * 25,000 in batches on 2 cores that PostgreSQL, Kafka and the asking side share.
 * The floor is what the same listener and the same client do without any of that: GET /router/health. */
#include "lib.h"
#include "lib_load.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNS = 64, SINGLE = 60000, BATCHES = 2000, PER_BATCH = 100, FLOOR = 60000, WARM_UP = 2000, BODY = 40000 };

struct load { const char *key, *path; size_t per_request; unsigned long long salt; };

static int connect_to(int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ASSERT(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
	return fd;
}

/* The i-th request; its length. */
static size_t request(const struct load *l, size_t i, char *out, size_t room)
{
	static char body[BODY];
	size_t n = 0;

	if (l->per_request == 0)
		return (size_t)snprintf(out, room, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", l->path);
	if (l->per_request > 1)
		n += (size_t)snprintf(body, sizeof(body), "{\"events\":[");
	for (size_t k = 0; k < l->per_request; k++)
		n += (size_t)snprintf(body + n, sizeof(body) - n,
		                      "%s{\"event_id\":\"terminal:%llx-%zu-%zu\",\"platform\":\"terminal\",\"channel_id\":\"c%zu\","
		                      "\"user\":{\"id\":\"u%zu\",\"name\":\"someone\",\"roles\":[\"subscriber\"]},"
		                      "\"message_type\":\"chatMessage\",\"message_content\":\"hello to all of you out there\","
		                      "\"reply_ref\":\"x\",\"metadata\":{\"bits\":0}}", k > 0 ? "," : "", l->salt, i, k,
		                      (i + k) % SUITE_COMMUNITIES, i % 20000);
	if (l->per_request > 1)
		n += (size_t)snprintf(body + n, sizeof(body) - n, "]}");
	return (size_t)snprintf(out, room,
	                        "POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n%s\r\nContent-Length: %zu\r\n\r\n%s",
	                        l->path, l->key, n, body);
}

static void send_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t done = send(fd, p, n, MSG_NOSIGNAL);

		ASSERT(done > 0);
		p += done;
		n -= (size_t)done;
	}
}

/* True: a whole answer is in; it must be 2xx. */
static bool whole(const char *in, size_t n)
{
	const char *end = memmem(in, n, "\r\n\r\n", 4), *length;

	if (end == NULL)
		return false;
	if (memcmp(in, "HTTP/1.1 20", 11) != 0) {
		fprintf(stderr, "%.*s\n", (int)n, in);
		exit(1);
	}
	length = memmem(in, (size_t)(end - in), "Content-Length: ", 16);
	ASSERT(length != NULL);
	return n >= (size_t)(end + 4 - in) + strtoul(length + 16, NULL, 10);
}

/* Requests per second; took (may be NULL): of each, in s. */
static double drive(int port, const struct load *l, size_t requests, double *took)
{
	static char in[CONNS][1 << 16], out[BODY + 1024];
	struct pollfd fds[CONNS];
	size_t have[CONNS] = { 0 }, sent = 0, got = 0;
	double began[CONNS], start;

	start = bench_now_s();
	for (int c = 0; c < CONNS; c++) {
		fds[c] = (struct pollfd){ .fd = connect_to(port), .events = POLLIN };
		began[c] = bench_now_s();
		send_all(fds[c].fd, out, request(l, sent++, out, sizeof(out)));
	}
	while (got < requests) {
		ASSERT(poll(fds, CONNS, 10000) > 0);
		for (int c = 0; c < CONNS && got < requests; c++) {
			ssize_t n;

			if ((fds[c].revents & POLLIN) == 0)
				continue;
			n = recv(fds[c].fd, in[c] + have[c], sizeof(in[c]) - have[c], MSG_DONTWAIT);
			ASSERT(n > 0);
			have[c] += (size_t)n;
			if (!whole(in[c], have[c]))
				continue;
			have[c] = 0;
			if (took != NULL)
				took[got] = bench_now_s() - began[c];
			got++;
			began[c] = bench_now_s();
			send_all(fds[c].fd, out, request(l, sent++, out, sizeof(out)));
		}
	}
	start = bench_now_s() - start;
	for (int c = 0; c < CONNS; c++)
		close(fds[c].fd);
	return (double)requests / start;
}

int main(int argc, char **argv)
{
	size_t percent = argc > 1 ? (size_t)strtoul(argv[1], NULL, 10) : 100;
	struct stack st;
	struct child *router;
	char *key;
	double *took = calloc(SINGLE, sizeof(*took)), single, batch, floor;
	unsigned long long salt = (unsigned long long)(bench_now_s() * 1e6);
	struct load warm = { NULL, "/router/events", 1, salt }, one = { NULL, "/router/events", 1, salt + 1 };
	struct load many = { NULL, "/router/events/batch", PER_BATCH, salt + 2 }, none = { NULL, "/router/health", 0, 0 };
	int port, status;

	load_open(&st, "bench_http_events", 8);
	key = stack_key(&st, "bench", "collector");
	sql_run(st.sql, "UPDATE service_accounts SET rate_limit = 0");
	warm.key = one.key = many.key = key;
	router = stack_service(&st, "waddle-router", "waddle_router", NULL);
	child_wait_ready(router, true, 30000);
	port = child_port(router, "HTTP_LISTEN");
	(void)drive(port, &warm, WARM_UP, NULL);
	floor = drive(port, &none, FLOOR * percent / 100, NULL);
	single = drive(port, &one, SINGLE * percent / 100, took);
	printf("  health %.0f/s, single %.0f/s\n", floor, single);
	batch = drive(port, &many, BATCHES * percent / 100, NULL) * PER_BATCH;
	status = bench_report("http-events", single, floor, "events/s", (struct bench_extra[]){
		{ "batch_events", batch, NULL }, { "p50_ms", bench_percentile(took, SINGLE * percent / 100, 50) * 1000, NULL },
		{ "p99_ms", bench_percentile(took, SINGLE * percent / 100, 99) * 1000, NULL }, { "connections", CONNS, NULL } }, 4);
	printf("http-events: %.0f single/s, %.0f events/s in batches of %d\n", single, batch, PER_BATCH);
	if (child_end(router, 30000) != 0)
		status = 1;
	child_free(router);
	stack_close(&st);
	free(key);
	free(took);
	return status;
}

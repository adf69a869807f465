/* bench_http.c - requests per second and core of a trivial route, and of a bare evhttp handler.
 *      build/release/bench/bench_http
 * The server is a process of its own with one loop; 32 connections ask it, each as soon as it has
 * its answer.  The figure is requests per second of the server's processor time, because the
 * asking takes a core too and the machine may be shared; requests per second of wall time stand
 * beside it.  20,000 is the least (for the floor: what libevent's own server does here). */
#include "lib.h"

#include "http.h"
#include "service.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CONNS = 32, WARM_UP = 2000, REQUESTS = 120000 };

static const char request[] = "GET /ping HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";

/* --- the two servers ----------------------------------------------------------------------- */

static void ping(struct http_req *r, void *arg)
{
	(void)arg;
	http_reply_raw(r, 200, "application/json", STR("{\"status\":\"ok\"}"));
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

static void serve_ours(int port_pipe)
{
	static const struct http_route routes[] = {
		{ .method = "GET", .path = "/ping", .handle = ping, .summary = "Answers." }, { 0 }
	};
	struct service s = { .name = "bench" };
	struct err err;
	struct http *h;
	int port;

	service_init(&s);
	h = http_open(&s, STR("127.0.0.1:0"), routes, NULL, (struct http_limits){ .max_per_addr = 1000 },
	              &err);
	ASSERT(h != NULL);
	port = http_port(h);
	ASSERT(write(port_pipe, &port, sizeof(port)) == sizeof(port));
	ASSERT(!service_run(&s, never, NULL, 600000));
}

static void bare(struct evhttp_request *r, void *arg)
{
	struct evbuffer *body = evbuffer_new();

	(void)arg;
	evbuffer_add(body, "{\"status\":\"ok\"}", 15);
	evhttp_add_header(evhttp_request_get_output_headers(r), "Content-Type", "application/json");
	evhttp_send_reply(r, 200, "OK", body);
	evbuffer_free(body);
}

static void serve_evhttp(int port_pipe)
{
	struct event_base *base = event_base_new();
	struct evhttp *h = evhttp_new(base);
	struct evhttp_bound_socket *bound = evhttp_bind_socket_with_handle(h, "127.0.0.1", 0);
	struct sockaddr_in at;
	socklen_t n = sizeof(at);
	int port;

	ASSERT(bound != NULL && evhttp_set_cb(h, "/ping", bare, NULL) == 0);
	ASSERT(getsockname(evhttp_bound_socket_get_fd(bound), (struct sockaddr *)&at, &n) == 0);
	port = ntohs(at.sin_port);
	ASSERT(write(port_pipe, &port, sizeof(port)) == sizeof(port));
	event_base_dispatch(base);
}

/* --- asking -------------------------------------------------------------------------------- */

static int connect_to(int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ASSERT(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
	return fd;
}

static void ask(int fd) { ASSERT(send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) == (ssize_t)sizeof(request) - 1); }

/* Each answer must be whole: the status line is looked at, the length is that of the first one. */
static void drive(int port, int requests)
{
	struct pollfd fds[CONNS];
	size_t have[CONNS] = { 0 }, length = 0;
	int sent = 0, got = 0;

	for (int i = 0; i < CONNS; i++) {
		fds[i] = (struct pollfd){ .fd = connect_to(port), .events = POLLIN };
		ask(fds[i].fd);
		sent++;
	}
	while (got < requests) {
		ASSERT(poll(fds, CONNS, 5000) > 0);
		for (int i = 0; i < CONNS; i++) {
			char in[4096];
			ssize_t n;

			if ((fds[i].revents & POLLIN) == 0)
				continue;
			n = recv(fds[i].fd, in, sizeof(in), MSG_DONTWAIT);
			ASSERT(n > 0 && (have[i] > 0 || memcmp(in, "HTTP/1.1 200", 12) == 0));
			if (length == 0)
				length = (size_t)n;
			have[i] += (size_t)n;
			ASSERT(have[i] <= length);
			if (have[i] < length)
				continue;
			have[i] = 0;
			got++;
			if (sent < requests) {
				ask(fds[i].fd);
				sent++;
			}
		}
	}
	for (int i = 0; i < CONNS; i++)
		close(fds[i].fd);
}

static double cpu_s(const struct rusage *u)
{
	return (double)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) +
	       (double)(u->ru_utime.tv_usec + u->ru_stime.tv_usec) / 1e6;
}

static double measure(void (*serve)(int), double *wall_rate)
{
	struct rusage used;
	int pipes[2], port = 0, status;
	double from;
	pid_t pid;

	ASSERT(pipe(pipes) == 0);
	pid = fork();
	ASSERT(pid >= 0);
	if (pid == 0) {
		serve(pipes[1]);
		_exit(0);
	}
	ASSERT(read(pipes[0], &port, sizeof(port)) == sizeof(port));
	drive(port, WARM_UP);
	from = bench_now_s();
	drive(port, REQUESTS);
	*wall_rate = REQUESTS / (bench_now_s() - from);
	ASSERT(kill(pid, SIGKILL) == 0 && wait4(pid, &status, 0, &used) == pid);
	close(pipes[0]);
	close(pipes[1]);
	return (REQUESTS + WARM_UP) / cpu_s(&used);
}

int main(void)
{
	double wall, floor_wall, value = measure(serve_ours, &wall),
				 floor = measure(serve_evhttp, &floor_wall);
	const struct bench_extra extra[] = {
		{ "wall_per_s", wall, NULL }, { "floor_wall_per_s", floor_wall, NULL },
		{ "connections", CONNS, NULL }, { "least", 20000, NULL },
	};

	return bench_report("http", value, floor, "requests/s/core", extra, ARRAY_LEN(extra)) != 0 ||
	       value < 20000;
}

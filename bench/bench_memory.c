/* bench_memory.c - resident memory of each service, idle and after every load of the other benches.
 *
 *      bench_memory [share of the loads in per cent]
 *
 * memory-idle   VmRSS, ten seconds after the service is ready.
 * memory-load   VmHWM - the most it ever was - after chat, commands nobody answers, reading and
 *               writing round trips, and signed EventSub deliveries.
 * Each value is that of the largest service; all stand beside it, in MiB. */
#include "lib.h"
#include "lib_load.h"
#include "eventsub.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SERVICES = 3, CONNS = 16, ANSWER_MAX = 4096 };

static const char secret[] = "a secret of the bench only";
static struct stack st;
static struct { const char *binary, *role, *name; struct child *child; } service[SERVICES] = {
	{ "waddle-router", "waddle_router", "router", NULL },
	{ "waddle-collector-twitch", "waddle_collector_twitch", "collector_twitch", NULL },
	{ "waddle-memories", "waddle_memories", "memories", NULL },
};
enum { ROUTER, COLLECTOR };

/* A line of /proc/<pid>/status, in MiB. */
static double status_mib(int i, const char *line)
{
	char path[64], text[256];
	long kib = -1;
	FILE *f;

	(void)snprintf(path, sizeof path, "/proc/%d/status", (int)child_pid(service[i].child));
	f = fopen(path, "re");
	while (f != NULL && kib < 0 && fgets(text, sizeof text, f) != NULL)
		if (strncmp(text, line, strlen(line)) == 0)
			kib = strtol(text + strlen(line), NULL, 10);
	if (f != NULL)
		fclose(f);
	if (kib < 0)
		harness_fail("%s of %s cannot be read", line, service[i].binary);
	return (double)kib / 1024;
}

static int report(const char *name, const char *line)
{
	struct bench_extra extra[SERVICES];
	double most = 0;

	for (int i = 0; i < SERVICES; i++) {
		extra[i] = (struct bench_extra){ service[i].name, status_mib(i, line), NULL };
		most = extra[i].value > most ? extra[i].value : most;
	}
	return bench_report(name, most, 0, "MiB", extra, SERVICES);
}

static double metric(int i, const char *series)
{
	char *url = text_of("http://127.0.0.1:%d", child_port(service[i].child, "ADMIN_LISTEN"));
	double v = probe_metric(url, series);

	free(url);
	return v;
}

struct count { int i; const char *series; double want; };

static bool reached(void *arg)
{
	const struct count *c = arg;

	return metric(c->i, c->series) >= c->want;
}

static void chat(size_t n)
{
	struct count plain = { ROUTER, "waddle_router_events_total{platform=\"terminal\",message_type=\"chatMessage\",verdict=\"plain\"}", (double)n };

	load_fill(&st, "waddle.events", n, "hello there, this is a perfectly ordinary line of chat");
	wait_for("all of the chat is read", reached, &plain, 60000);
}

static void unanswered(size_t n)
{
	struct load_meter *m = load_meter_open(&st, "waddle.commands.sink");
	double first, last;

	load_fill(&st, "waddle.events", n, "!sink list");
	if (load_meter_run(m, n, 120, &first, &last) < n)
		harness_fail("not every command was dispatched");
	load_meter_close(m);
	/* Nobody will answer: else, a minute later, notices about them would be taken for answers. */
	sql_run(st.sql, "TRUNCATE command_executions");
}

static void say(int fd)
{
	struct eventsub_post post;
	char *head = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&head, &n);

	eventsub_chat(&post, secret, &(struct eventsub_chat){ .channel = "1001", .text = "hello" }, NULL);
	fprintf(out, "POST /twitch/webhook HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n",
	        post.body_n);
	for (size_t i = 0; post.headers[i] != NULL; i++)
		if (strncasecmp(post.headers[i], "Content-Length:", 15) != 0)
			fprintf(out, "%s\r\n", post.headers[i]);
	fprintf(out, "\r\n%s", post.body);
	fclose(out);
	if (send(fd, head, n, MSG_NOSIGNAL) != (ssize_t)n)
		harness_fail("the collector does not take a delivery");
	free(head);
	eventsub_free(&post);
}

/* An answer without a body. */
static void hear(int fd)
{
	char text[ANSWER_MAX + 1] = "";
	size_t n = 0;
	ssize_t got = 1;

	while (got > 0 && n < ANSWER_MAX && strstr(text, "\r\n\r\n") == NULL) {
		got = recv(fd, text + n, ANSWER_MAX - n, 0);
		n += got > 0 ? (size_t)got : 0;
		text[n] = '\0';
	}
	if (strncmp(text, "HTTP/1.1 204", 12) != 0)
		harness_fail("a delivery was answered with: %s", text);
}

static void deliveries(size_t n)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd[CONNS];

	at.sin_port = htons((uint16_t)child_port(service[COLLECTOR].child, "HTTP_LISTEN"));
	for (int i = 0; i < CONNS; i++) {
		fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd[i] < 0 || connect(fd[i], (struct sockaddr *)&at, sizeof at) != 0)
			harness_fail("connect: %s", strerror(errno));
	}
	for (size_t done = 0; done < n; done += CONNS) {
		for (int i = 0; i < CONNS; i++)
			say(fd[i]);
		for (int i = 0; i < CONNS; i++)
			hear(fd[i]);
	}
	for (int i = 0; i < CONNS; i++)
		close(fd[i]);
}

int main(int argc, char **argv)
{
	static const char *const env[] = { "HTTP_LISTEN=127.0.0.1:{port}",
		                           "TWITCH_WEBHOOK_SECRET=a secret of the bench only", NULL };
	size_t share = argc > 1 ? (size_t)strtoul(argv[1], NULL, 10) : 100;
	int bad;

	load_open(&st, "bench_memory", 16);
	load_memories(&st);
	load_register(&st, "sink", "sink");
	sql_run(st.sql, "INSERT INTO twitch_channels (channel_id, broadcaster_id) VALUES ('1001', '1001')");
	for (int i = 0; i < SERVICES; i++) {
		service[i].child =
			stack_service(&st, service[i].binary, service[i].role, i == COLLECTOR ? env : NULL);
		child_wait_ready(service[i].child, true, 30000);
	}
	load_enable(&st, "memories");
	sleep(10);      /* what idle is */
	bad = report("memory-idle", "VmRSS:");
	chat(1000 * share);
	unanswered(500 * share);
	load_trip(&st, 200 * share, "!memories list");
	load_trip(&st, 200 * share, "!memories add quote \\\"bench we ship on Friday\\\" Ada");
	deliveries(50 * share);
	bad |= report("memory-load", "VmHWM:");
	for (int i = 0; i < SERVICES; i++) {
		child_end(service[i].child, 30000);
		child_free(service[i].child);
	}
	stack_close(&st);
	return bad;
}

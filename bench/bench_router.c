/* bench_router.c - the router's two hot paths, on real Kafka and PostgreSQL beside it.
 *
 *      bench_router [events] [rounds]
 *
 * router-dispatch   event in -> execution row committed -> command on the topic.
 *                   Floor: consume, json-c parse, UNNEST insert of the same row, produce (acks=all).
 * router-chat       chat that is no command.  Floor: consume, json-c parse.
 *
 * The topic is filled first; the router is then started, and the clock runs from the first to the
 * last message seen (dispatch: on the command topic; chat: by its counter). */
#include "lib.h"
#include "lib_floor.h"

#include <signal.h>
#include <stdio.h>

static struct stack st;

static double metric(struct child *router, const char *series)
{
	char *url = text_of("http://127.0.0.1:%d", child_port(router, "ADMIN_LISTEN"));
	double v = probe_metric(url, series);

	free(url);
	return v;
}

static double dispatch(struct child *router, size_t n, size_t before)
{
	struct load_meter *m = load_meter_open(&st, "waddle.commands.sink");
	double first, last;
	size_t got;

	load_meter_run(m, before, 60, &first, &last);
	child_signal(router, SIGSTOP);
	load_fill(&st, "waddle.events", n, "!sink list");
	child_signal(router, SIGCONT);
	got = load_meter_run(m, before + n, 300, &first, &last);
	load_meter_close(m);
	if (got < before + n)
		harness_fail("only %zu of %zu commands came", got - before, n);
	return (double)n / (last - first);
}

static double chat(struct child *router, size_t n)
{
	static const char series[] = "waddle_router_events_total{platform=\"terminal\",message_type=\"chatMessage\",verdict=\"plain\"}";
	double had = metric(router, series), now = had, first = 0, last = 0;

	child_signal(router, SIGSTOP);
	load_fill(&st, "waddle.events", n, "hello there, this is a perfectly ordinary line of chat");
	child_signal(router, SIGCONT);
	while (now < had + (double)n) {
		double v = metric(router, series);

		if (v > now && first == 0) {
			first = bench_now_s();
			had = v;
			n -= (size_t)(v - now);
		}
		now = v;
		last = bench_now_s();
	}
	return (now - had) / (last - first);
}

int main(int argc, char **argv)
{
	size_t n = argc > 1 ? (size_t)strtoul(argv[1], NULL, 10) : 100000;
	int rounds = argc > 2 ? (int)strtoul(argv[2], NULL, 10) : 3, bad = 0;
	double ours[16], floors[16];
	static const char *const patient[] = { "KAFKA_SESSION_TIMEOUT_MS=60000", NULL };        /* it is stopped */
	struct child *router;
	struct bench_extra extra[3];

	load_open(&st, "bench_router", 16);
	load_register(&st, "sink", "sink");
	load_fill(&st, "waddle.floor.in", n, "!sink list");
	router = stack_service(&st, "waddle-router", "waddle_router", patient);
	child_wait_ready(router, true, 30000);
	for (int i = 0; i < rounds && i < 16; i++) {
		child_signal(router, SIGSTOP);
		floors[i] = load_floor_dispatch(&st, "waddle.floor.in", "waddle.floor.out", n);
		sql_run(st.sql, "TRUNCATE command_executions");
		ours[i] = dispatch(router, n, n * (size_t)i);
		printf("  dispatch round %d: %.0f/s, floor %.0f/s\n", i + 1, ours[i], floors[i]);
		sql_run(st.sql, "TRUNCATE command_executions");
	}
	extra[0] = (struct bench_extra){ "rss_mib", (double)child_rss_kib(router) / 1024, NULL };
	extra[1] = (struct bench_extra){ "events", (double)n, NULL };
	bad |= bench_report("router-dispatch", bench_median(ours, (size_t)rounds),
	                    bench_median(floors, (size_t)rounds), "commands/s", extra, 2);

	for (int i = 0; i < rounds && i < 16; i++) {
		floors[i] = load_floor_chat(&st, "waddle.floor.in", n);
		ours[i] = chat(router, n * 2);
		printf("  chat round %d: %.0f/s, floor %.0f/s\n", i + 1, ours[i], floors[i]);
	}
	extra[0] = (struct bench_extra){ "rss_mib", (double)child_rss_kib(router) / 1024, NULL };
	bad |= bench_report("router-chat", bench_median(ours, (size_t)rounds),
	                    bench_median(floors, (size_t)rounds), "messages/s", extra, 2);
	child_end(router, 30000);
	child_free(router);
	stack_close(&st);
	return bad;
}

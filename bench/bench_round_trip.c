/* bench_round_trip.c - commands per second all the way: event -> router -> memories -> router ->
 * outbound topic, on real Kafka and PostgreSQL (fsync on) beside them.
 *
 *      bench_round_trip [commands] [rounds]
 *
 * round-trip        `!memories list`: the execution row, the page, the response row.
 * round-trip-write  `!memories add quote ...`: the memory and its inbox row as well.
 * Floor: three bare loops, each on a thread of its own, with the same topics between them and the
 * same statements in batches (lib_floor.h).
 *
 * The clock runs from the first to the last message on the outbound topic.  Every command must
 * have been answered, once and with "ok"; for a write the memory must be there. */
#include "lib.h"
#include "lib_floor.h"

enum { ROUNDS = 9 };

static struct stack st;
static struct child *router, *memories;

/* All answered as they should be, nothing twice. */
static void check(size_t n, bool write)
{
	char *outcomes;

	sql_wait_int(st.sql, (int64_t)n, 20000,
	             "SELECT count(*) FROM command_executions WHERE status <> 'pending'");
	outcomes = sql_rows(
		st.sql,
		"SELECT coalesce(response_data->>'outcome', 'ok'), status, count(*), min(error_message) "
		"FROM command_executions GROUP BY 1, 2 ORDER BY 3 DESC");
	if (strchr(outcomes, '\n')[1] != '\0' || strncmp(outcomes, "ok|success|", 11) != 0)
		harness_fail("not every command succeeded:\n%s", outcomes);
	free(outcomes);
	if (sql_int(st.sql, "SELECT count(*) FROM module_responses") != (int64_t)n)
		harness_fail("not one response for each command");
	if (write &&
	    sql_int(st.sql, "SELECT count(*) FROM memories WHERE content LIKE 'bench %%'") != (int64_t)n)
		harness_fail("not one memory for each command");
}

static void clear(void)
{
	sql_run(st.sql, "TRUNCATE command_executions, module_responses, memories_inbox");
	sql_run(st.sql, "DELETE FROM memories WHERE content LIKE 'bench %%'");
	sql_run(st.sql, "VACUUM ANALYZE memories");
}

static void measure(const char *name, bool write, const char *text, size_t n, int rounds, int *bad)
{
	double ours[ROUNDS], floors[ROUNDS];
	struct bench_extra extra[4];

	for (int i = 0; i < rounds; i++) {
		floors[i] = load_floor_round_trip(&st, write, n, text);
		clear();
		ours[i] = load_trip(&st, n, text);
		check(n, write);
		printf("  %s %d: %.0f/s, floor %.0f/s\n", name, i + 1, ours[i], floors[i]);
		fflush(stdout);
		clear();
	}
	extra[0] = (struct bench_extra){ "commands", (double)n, NULL };
	extra[1] = (struct bench_extra){ "router_rss_mib", (double)child_rss_kib(router) / 1024, NULL };
	extra[2] = (struct bench_extra){ "memories_rss_mib", (double)child_rss_kib(memories) / 1024, NULL };
	*bad |= bench_report(name, bench_median(ours, (size_t)rounds), bench_median(floors, (size_t)rounds),
	                     "commands/s", extra, 3);
}

int main(int argc, char **argv)
{
	size_t n = argc > 1 ? (size_t)strtoul(argv[1], NULL, 10) : 30000;
	int rounds = argc > 2 ? (int)strtoul(argv[2], NULL, 10) : 3, bad = 0;

	load_open(&st, "bench_trip", 16);
	load_memories(&st);
	router = stack_service(&st, "waddle-router", "waddle_router", NULL);
	memories = stack_service(&st, "waddle-memories", "waddle_memories", NULL);
	child_wait_ready(router, true, 30000);
	child_wait_ready(memories, true, 30000);
	load_enable(&st, "memories");
	rounds = rounds > ROUNDS ? ROUNDS : rounds;
	measure("round-trip", false, "!memories list", n, rounds, &bad);
	measure("round-trip-write", true, "!memories add quote \\\"bench we ship on Friday\\\" Ada", n,
	        rounds, &bad);
	child_end(memories, 30000);
	child_end(router, 30000);
	child_free(memories);
	child_free(router);
	stack_close(&st);
	return bad;
}

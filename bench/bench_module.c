/* bench_module.c - commands per second through one module process, over real Kafka and PostgreSQL.
 *      tests/run's environment (TEST_PG_PRIMARY ...), then: build/release/bench/bench_module [seconds]
 * The module is waddle-memories; this program stands for the router.  Reads (`list`), writes
 * (`add quote`), and writes with one transaction per command. */
#include "lib.h"
#include "player.h"

#include "clock.h"

#include <unistd.h>

enum { COMMUNITIES = 64, WINDOW = 512 };

static struct stack st;
static struct player p;
static int status;

/* User and system time of the process so far. */
static int64_t cpu_us(const struct child *c)
{
	char path[48], text[1024] = "";
	const char *at;
	long ticks = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)child_pid(c));
	f = fopen(path, "r");
	if (f == NULL)
		return 0;
	at = fgets(text, sizeof text, f) != NULL ? strrchr(text, ')') : NULL;
	for (int field = 2; at != NULL && field < 15; field++) { /* utime and stime are 14 and 15 */
		at = strchr(at + 1, ' ');
		if (at != NULL && field >= 13)
			ticks += strtol(at, NULL, 10);
	}
	fclose(f);
	return (int64_t)ticks * 1000000 / sysconf(_SC_CLK_TCK);
}

static void run(const char *name, const char *together, bool write, int64_t seconds)
{
	char setting[64];
	const char *env[] = { setting, NULL };
	struct child *mod;
	int64_t began, us, cpu;
	size_t said = 0, bad = 0, from;

	snprintf(setting, sizeof setting, "MODULE_TOGETHER=%s", together);
	mod = stack_service(&st, "waddle-memories", "waddle_memories", env);
	child_wait_ready(mod, true, 20000);
	player_ask(&p, &(struct said){ .words = { "help" } });
	from = p.n;
	cpu = cpu_us(mod);
	began = clock_exact_us();
	while (clock_exact_us() - began < seconds * 1000000) {
		while (said - (p.n - from) < WINDOW) {
			struct said what = { .community = 2 + (int64_t)(said % COMMUNITIES),
				             .words = { "list" } };

			if (write) {
				what.words[0] = "add";
				what.words[1] = "quote";
				what.words[2] = "we ship on Friday, said the one who never shipped";
				what.words[3] = "Ada";
			}
			player_say(&p, &what, NULL);
			said++;
		}
		player_wait_n(&p, from + said - WINDOW / 2, 30000);
	}
	player_wait_n(&p, from + said, 30000);
	us = clock_exact_us() - began;
	cpu = cpu_us(mod) - cpu;
	for (size_t i = from; i < p.n; i++)
		bad += strcmp(p.heard[i].outcome, "ok") != 0;
	if (bad > 0)
		harness_fail("%zu of %zu commands were not answered with ok", bad, said);
	status |= bench_report(name, (double)said * 1e6 / (double)us, 0, "commands/s",
	                       (const struct bench_extra[]){
				       { "cpu_us_per_command", (double)cpu / (double)said, NULL },
				       { "rss_mib", (double)child_rss_kib(mod) / 1024, NULL },
			       },
	                       2);
	fflush(stdout);
	child_end(mod, 20000);
	child_free(mod);
}

int main(int argc, char **argv)
{
	int64_t seconds = argc > 1 ? strtol(argv[1], NULL, 10) : 5;

	stack_open(&st, "bench_module", STACK_SCHEMA | STACK_TOPICS);
	sql_run(st.sql,
	        "INSERT INTO communities (id, name, display_name) OVERRIDING SYSTEM VALUE "
	        "SELECT i, 'c' || i, 'C' || i FROM generate_series(2, %d) AS i",
	        COMMUNITIES + 1);
	sql_run(st.sql,
	        "INSERT INTO entities (id, platform, channel_id, owner, address, community_id) "
	        "OVERRIDING SYSTEM VALUE SELECT i, 'twitch', i::text, 'o', 'twitch:' || i, i "
	        "FROM generate_series(2, %d) AS i",
	        COMMUNITIES + 1);
	sql_run(st.sql,
	        "INSERT INTO memories (community_id, entity_id, memory_type, title, content, author, "
	        "created_by, "
	        "created_by_name) SELECT 2 + i %% %d, 2 + i %% %d, 'quote', 'Quote by A', 'text ' || i, 'A', "
	        "'u', 'u' "
	        "FROM generate_series(1, %d) AS i",
	        COMMUNITIES, COMMUNITIES, COMMUNITIES * 20);
	stack_wait_replay(&st, 10000);
	player_open(&p, &st, "memories");
	run("module-read", "64", false, seconds);
	run("module-write", "64", true, seconds);
	run("module-write-alone", "1", true, seconds);
	player_close(&p);
	stack_close(&st);
	return status;
}

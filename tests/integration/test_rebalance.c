/* Partitions move between routers: by joining, leaving, dying and standing still. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "fleet.h"

#include <signal.h>

static struct fleet f;

enum { WAIT_MS = 20000, CHANNELS = 12, USERS = 4, KEYS = CHANNELS * USERS, A_STEP = 15 };

static int up(void **state)
{
	(void)state;
	fleet_open(&f, "rebalance", CHANNELS);
	fleet_command(&f, "sixty", 60);
	fleet_command(&f, "three", 3);
	fleet_start(&f, 0, NULL);
	fleet_wait_owners(&f, 1, (const int[]){ 0 });
	return 0;
}

static int down(void **state)
{
	(void)state;
	fleet_close(&f);
	return 0;
}

static void send(const char *run, int user, int channel, int i, const char *text, int64_t at_ms)
{
	char *id = text_of("twitch:%s-%d-%d-%d", run, user, channel, i), *name = text_of("%d", user);

	fleet_send(&f, (struct fleet_event){ .id = id, .user = name, .channel = channel, .text = text,
	                                     .received_ms = at_ms });
	free(id);
	free(name);
}

/* Step s of the load: the next 15 commands of each key, half a second apart by their stamps. */
static void load(int s, int64_t start_ms)
{
	for (int i = s * A_STEP; i < (s + 1) * A_STEP; i++)
		for (int key = 0; key < KEYS; key++)
			send("load", key / CHANNELS, key % CHANNELS, i, "!sixty", start_ms + i * 500);
	fleet_flush(&f);
}

/* Different executions that left as commands. */
static int64_t commands_sent(const char *like)
{
	struct probe_topic t;
	char **seen;
	int64_t n = 0;

	probe_read(f.st.kafka, stack_topic(&f.st, "waddle.commands.fleet"), &t);
	seen = XNEW_N(char *, t.n + 1);
	for (size_t i = 0; i < t.n; i++) {
		bool again = false;

		if (strstr(t.msgs[i].value, like) == NULL)
			continue;
		for (int64_t k = n; k-- > 0 && !again;)
			again = strcmp(seen[k], probe_header(&t.msgs[i], "ce_id")) == 0;
		if (!again)
			seen[n++] = (char *)(uintptr_t)probe_header(&t.msgs[i], "ce_id");
	}
	free(seen);
	probe_free(&t);
	return n;
}

struct wanted { const char *like; int64_t n; };

static bool all_sent(void *arg)
{
	const struct wanted *w = arg;

	return commands_sent(w->like) >= w->n;
}

static double metric(int router, const char *name)
{
	char *url = text_of("http://127.0.0.1:%d", child_port(f.router[router], "ADMIN_LISTEN"));
	double v = probe_metric(url, name);

	free(url);
	return v;
}

/* The test, and router 65, 66, 90: of the 75 commands of each key in 37 seconds the first 60
 * run, each once, whoever had the partition meanwhile. */
static void moving_partitions_lose_nothing_and_never_let_more_than_the_limit_pass(void **state)
{
	int64_t start = fleet_now_ms() - 40000;
	struct wanted commands = { "\"event_id\":\"twitch:load-", 60 * KEYS };
	char *rows;

	(void)state;
	load(0, start);
	fleet_start(&f, 1, NULL);
	load(1, start);
	fleet_start(&f, 2, NULL);
	fleet_wait_owners(&f, 3, (const int[]){ 0, 1, 2 });

	load(2, start);
	assert_int_equal(child_end(f.router[1], WAIT_MS), 0);
	load(3, start);
	child_kill(f.router[2]);
	fleet_start(&f, 1, NULL);
	fleet_wait_owners(&f, 2, (const int[]){ 0, 1 });

	load(4, start);
	child_signal(f.router[0], SIGSTOP);
	fleet_wait_owners(&f, 1, (const int[]){ 1 });
	child_signal(f.router[0], SIGCONT);
	fleet_wait_owners(&f, 2, (const int[]){ 0, 1 });

	fleet_wait_verdicts(&f, 5 * A_STEP * KEYS, "twitch:load-%", WAIT_MS);
	assert_int_equal(fleet_ran(&f, "twitch:load-%"), 60 * KEYS);
	assert_int_equal(fleet_refused(&f, "twitch:load-%"), A_STEP * KEYS);
	rows = sql_rows(f.st.sql,
	                "SELECT regexp_replace(event_id, '-[0-9]+$', ''), count(*), "
	                "max(regexp_replace(event_id, '.*-', '')::integer) "
	                "FROM command_executions WHERE event_id LIKE 'twitch:load-%%' "
	                "GROUP BY 1 HAVING count(*) <> 60 OR max(regexp_replace(event_id, '.*-', '')::integer) <> 59");
	assert_string_equal(rows, "");
	free(rows);
	assert_int_equal(sql_int(f.st.sql, "SELECT sum(request_count) FROM rate_limits"), 60 * KEYS);
	assert_int_equal(sql_int(f.st.sql, "SELECT sum(rejected_count) FROM rate_limits"), A_STEP * KEYS);
	assert_int_equal(sql_int(f.st.sql, "SELECT sum(usage_count) FROM command_permissions"), 60 * KEYS);
	wait_for("every command on its topic", all_sent, &commands, WAIT_MS);
	assert_int_equal(commands_sent(commands.like), commands.n);
	assert_true(metric(0, "waddle_router_partitions_owned") + metric(1, "waddle_router_partitions_owned") ==
	            FLEET_PARTITIONS);
	assert_true(metric(0, "waddle_router_rebalances_total") >= 4);
}

static struct sql *locked(void)
{
	struct sql *q = sql_open(f.st.url);

	sql_run(q, "BEGIN");
	sql_run(q, "LOCK TABLE event_decisions, command_executions IN SHARE MODE");
	return q;
}

/* router 65: it stands still with a batch in its hands. */
static void what_a_stopped_owner_holds_is_written_by_the_next_one_only(void **state)
{
	int64_t at = fleet_now_ms() - 20000;
	struct sql *lock;

	(void)state;
	assert_int_equal(child_end(f.router[1], WAIT_MS), 0);
	fleet_wait_owners(&f, 1, (const int[]){ 0 });
	lock = locked();
	for (int i = 0; i < 5; i++)
		for (int c = 0; c < CHANNELS; c++)
			send("stop", 70, c, i, "!three", at + i);
	fleet_flush(&f);
	sql_wait_at_least(f.st.sql, 1, WAIT_MS,
	                  "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
	                  "AND wait_event_type = 'Lock' AND query LIKE '%%INSERT INTO command_executions%%'");
	child_signal(f.router[0], SIGSTOP);
	/* The server ends what it was given; the rest is in the stopped process. */
	sql_wait_int(f.st.sql, 0, WAIT_MS,
	             "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
	             "AND wait_event_type = 'Lock' AND query LIKE '%%INSERT INTO command_executions%%'");
	sql_run(lock, "COMMIT");
	sql_close(lock);
	fleet_start(&f, 1, NULL);
	fleet_wait_owners(&f, 1, (const int[]){ 1 });
	fleet_wait_verdicts(&f, 5 * CHANNELS, "twitch:stop-%", WAIT_MS);
	child_signal(f.router[0], SIGCONT);
	fleet_wait_owners(&f, 2, (const int[]){ 0, 1 });
	for (int c = 0; c < CHANNELS; c++)
		send("stop", 70, c, 5, "!three", at + 5);
	fleet_flush(&f);
	fleet_wait_verdicts(&f, 6 * CHANNELS, "twitch:stop-%", WAIT_MS);
	assert_int_equal(fleet_ran(&f, "twitch:stop-%"), 3 * CHANNELS);
	assert_int_equal(fleet_refused(&f, "twitch:stop-%"), 3 * CHANNELS);
	assert_int_equal(sql_int(f.st.sql, "SELECT sum(request_count) FROM rate_limits WHERE user_id = '70'"),
	                 3 * CHANNELS);
	assert_int_equal(sql_int(f.st.sql, "SELECT sum(p.usage_count) FROM command_permissions p JOIN commands c "
	                                   "ON c.id = p.command_id WHERE c.command = 'three'"),
	                 3 * CHANNELS);
}

/* An epoch raised by somebody else: nothing is written under the old one.  When the group goes on
 * to say that the partitions are ours they are taken again, and nothing is lost. */
static void a_batch_under_an_old_epoch_commits_nothing(void **state)
{
	int64_t at = fleet_now_ms() - 20000, epochs;

	(void)state;
	for (int i = 0; i < 2; i++)
		for (int c = 0; c < CHANNELS; c++)
			send("stale", 80, c, i, "!three", at + i);
	fleet_flush(&f);
	fleet_wait_verdicts(&f, 2 * CHANNELS, "twitch:stale-%", WAIT_MS);
	sql_run(f.st.sql, "UPDATE router_partitions SET epoch = epoch + 1, owner = 'somebody'");
	epochs = sql_int(f.st.sql, "SELECT sum(epoch) FROM router_partitions");
	for (int i = 2; i < 5; i++)
		for (int c = 0; c < CHANNELS; c++)
			send("stale", 80, c, i, "!three", at + i);
	fleet_flush(&f);
	fleet_wait_owners(&f, 2, (const int[]){ 0, 1 });
	fleet_wait_verdicts(&f, 5 * CHANNELS, "twitch:stale-%", WAIT_MS);
	assert_int_equal(sql_int(f.st.sql, "SELECT sum(epoch) FROM router_partitions"), epochs + FLEET_PARTITIONS);
	assert_int_equal(fleet_ran(&f, "twitch:stale-%"), 3 * CHANNELS);
	assert_int_equal(fleet_refused(&f, "twitch:stale-%"), 2 * CHANNELS);
	assert_true(metric(0, "waddle_router_stale_batches_total") >= 1);
	assert_true(metric(1, "waddle_router_stale_batches_total") >= 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(moving_partitions_lose_nothing_and_never_let_more_than_the_limit_pass),
		cmocka_unit_test(what_a_stopped_owner_holds_is_written_by_the_next_one_only),
		cmocka_unit_test(a_batch_under_an_old_epoch_commits_nothing),
	};

	return !!cmocka_run_group_tests_name("rebalance", tests, up, down);
}

/* test_cli_chat.c - waddle chat from a pipe and at a terminal, with the test as its router. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli.h"
#include "ids.h"

#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static int set_up(void **state)
{
	(void)state;
	cli_open("cli_chat", STACK_SCHEMA | STACK_TOPICS);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	cli_close();
	return 0;
}

/* Lines into `waddle chat` from a pipe. */
static struct child *chat_from_pipe(const char *name, const char *lines, const char *options)
{
	char *brokers = text_of("KAFKA_BROKERS=%s", cli.st.kafka),
	     *prefix = text_of("TOPIC_PREFIX=%s", cli.st.prefix);
	char *url = text_of("DATABASE_URL=%s", cli.st.url);
	char *script = text_of("printf '%s' | '%s/waddle' chat %s", lines, cli.st.build, options);
	const char *argv[] = { "/bin/sh", "-c", script, NULL };
	const char *env[] = { brokers, prefix, url, NULL };
	struct child *c = child_new(name, argv, env);

	free(brokers);
	free(prefix);
	free(url);
	free(script);
	return c;
}

/* The n-th event that was said (from 0), as JSON in `cli.out`. */
static void event_said(size_t n)
{
	struct probe_topic t;
	const struct probe_msg *last = NULL;

	probe_wait(cli.st.kafka, stack_topic(&cli.st, "waddle.events"), n + 1, 30000, &t);
	for (size_t i = 0; i < t.n; i++)
		if (last == NULL || t.msgs[i].sent_at_ms >= last->sent_at_ms)
			last = &t.msgs[i];
	assert_non_null(last);
	free(cli.out);
	cli.out = text_of("%s", last->value);
	assert_string_equal(last->key, "terminal:demo");
	assert_string_equal(probe_header(last, "ce_type"), "waddle.event.v1");
	probe_free(&t);
}

/* What a router would send: an answer to the event in `cli.out`. */
static void answer(const char *reply_ref, const char *text, const char *more)
{
	char id[ID_TEXT], *body;

	id_random(id);
	body = text_of("{\"message_id\":\"%s\",\"kind\":\"chat\",\"entity\":\"terminal:demo\",\"channel_id\":"
	               "\"demo\","
	               "\"text\":\"%s\",\"reply_ref\":\"%s\"%s}",
	               id, text, reply_ref, more);
	probe_send(cli.st.kafka, stack_topic(&cli.st, "waddle.outbound.terminal"), -1, "demo", body,
	           strlen(body), NULL);
	free(body);
}

static size_t said_before(void)
{
	return (size_t)probe_count(cli.st.kafka, stack_topic(&cli.st, "waddle.events"));
}

static void a_piped_command_waits_for_its_answer_and_shows_the_time_it_took(void **state)
{
	size_t n = said_before();
	struct child *c =
		chat_from_pipe("chat", "hello\\n\\n!memories add note \"a b\" ä\\n",
	                       "--expect-reply --user ada --role moderator --settle 3000 --timeout 30000");
	char *ref;

	(void)state;
	child_start(c);
	event_said(n + 1);
	cli_json_is("{message_content}", "!memories add note \"a b\" ä");
	cli_json_is("{platform}", "terminal");
	cli_json_is("{channel_id}", "demo");
	cli_json_is("{entity}", "terminal:demo");
	cli_json_is("{user,id}", "ada");
	cli_json_is("{user,roles}", "[\"moderator\", \"member\"]");
	cli_json_is("{message_type}", "chatMessage");
	ref = cli_json("{reply_ref}");
	/* Somebody else's, one to an older run, then ours in two parts, the second private. */
	answer("somebody", "not for us", "");
	answer("0f0e0d0c-0000-4000-8000-000000000000/2", "not for us either", "");
	answer(ref, "Saved note #1\\u001b[31m: a b", "");
	answer(ref, "part two", ",\"private\":true");
	assert_int_equal(child_wait(c, 30000), 0);
	assert_true(child_log_has(c, "> hello\n> !memories add note"));
	assert_true(child_log_has(c, "Saved note #1 [31m: a b  ("));
	assert_true(child_log_has(c, "part two  ("));
	assert_true(child_log_has(c, " ms, private)\n"));
	assert_false(child_log_has(c, "not for us"));
	assert_int_equal(said_before(), n + 2);
	child_free(c);
	free(ref);
}

static void an_unanswered_command_is_a_failure_when_an_answer_was_expected(void **state)
{
	struct child *c = chat_from_pipe("chat-silent", "!memories list\\n", "--timeout 300 --expect-reply");

	(void)state;
	child_start(c);
	assert_int_equal(child_wait(c, 30000), 1);
	assert_true(child_log_has(c, "(no answer within 300 ms)"));
	assert_true(child_log_has(c, "waddle: 1 command was not answered"));
	child_free(c);
	c = chat_from_pipe("chat-patient", "!memories list\\n", "--timeout 300");
	child_start(c);
	assert_int_equal(child_wait(c, 30000), 0);
	child_free(c);
	c = chat_from_pipe("chat-plain", "hello\\n", "--timeout 300 --expect-reply");
	child_start(c);
	assert_int_equal(child_wait(c, 30000), 0);
	child_free(c);
}

static void a_channel_that_is_not_served_is_pointed_out(void **state)
{
	struct child *c = chat_from_pipe("chat-unserved", "hello\\n", "--channel nowhere");

	(void)state;
	child_start(c);
	assert_int_equal(child_wait(c, 30000), 0);
	assert_true(
		child_log_has(c, "terminal:nowhere is not served yet: waddle servers add terminal nowhere"));
	child_free(c);
	c = chat_from_pipe("chat-bytes", "\\377\\n", "");
	child_start(c);
	assert_int_equal(child_wait(c, 30000), 1);
	assert_true(child_log_has(c, "the line is not UTF-8"));
	child_free(c);
}

/* Reads from the terminal until the text has come; everything read stays in `seen`. */
static char seen[65536];
static void wait_seen(int fd, const char *text)
{
	size_t n = strlen(seen);

	for (int64_t end = harness_now_ms() + 30000; strstr(seen, text) == NULL;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t got;

		if (harness_now_ms() > end)
			harness_fail("not on the terminal: \"%s\", but: %s", text, seen);
		if (poll(&p, 1, 100) <= 0)
			continue;
		got = read(fd, seen + n, sizeof(seen) - 1 - n);
		if (got <= 0)
			harness_fail("the terminal has gone before \"%s\": %s", text, seen);
		n += (size_t)got;
		seen[n] = '\0';
	}
}

static void type(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static bool has_ended(void *arg)
{
	int *status = arg;

	return waitpid(status[1], status, WNOHANG) == status[1];
}

/* waddle chat on a terminal of its own. */
static int on_terminal(int *ret_fd)
{
	char *brokers = text_of("KAFKA_BROKERS=%s", cli.st.kafka),
	     *prefix = text_of("TOPIC_PREFIX=%s", cli.st.prefix);
	char *program = text_of("%s/waddle", cli.st.build);
	struct winsize size = { .ws_row = 24, .ws_col = 100 };
	pid_t pid = forkpty(ret_fd, NULL, NULL, &size);

	assert_true(pid >= 0);
	if (pid == 0) {
		char term[] = "TERM=xterm", name[] = "waddle", chat[] = "chat", user[] = "--user=ada";
		char *argv[] = { name, chat, user, NULL };
		char *env[] = { brokers, prefix, term, NULL };

		execve(program, argv, env);
		_exit(127);
	}
	free(brokers);
	free(prefix);
	free(program);
	seen[0] = '\0';
	return pid;
}

static void at_a_terminal_answers_appear_above_the_line_being_typed(void **state)
{
	size_t n = said_before();
	int fd, status[2] = { 0, 0 };
	char *ref;

	(void)state;
	status[1] = on_terminal(&fd);
	wait_seen(fd, "terminal:demo as ada");
	wait_seen(fd, "> ");
	type(fd, "!memories add note größe\n");
	event_said(n);
	cli_json_is("{message_content}", "!memories add note größe");
	ref = cli_json("{reply_ref}");
	type(fd, "half a li");
	wait_seen(fd, "half a li");
	answer(ref, "Saved note #7", "");
	wait_seen(fd, "Saved note #7  (");
	type(fd, "ne\n");
	event_said(n + 1);
	cli_json_is("{message_content}", "half a line");
	type(fd, "\x04");
	wait_for("the end of the chat", has_ended, status, 30000);
	assert_true(WIFEXITED(status[0]));
	assert_int_equal(WEXITSTATUS(status[0]), 0);
	close(fd);
	free(ref);
}

static void a_signal_ends_the_chat_and_leaves_the_terminal_in_order(void **state)
{
	int fd, status[2] = { 0, 0 };
	struct termios before, after;

	(void)state;
	status[1] = on_terminal(&fd);
	assert_int_equal(tcgetattr(fd, &before), 0);
	wait_seen(fd, "terminal:demo as ada");
	wait_seen(fd, "> ");
	assert_int_equal(kill(status[1], SIGTERM), 0);
	wait_for("the end of the chat", has_ended, status, 30000);
	assert_true(WIFEXITED(status[0]));
	assert_int_equal(WEXITSTATUS(status[0]), 0);
	assert_int_equal(tcgetattr(fd, &after), 0);
	assert_int_equal(after.c_lflag & (ICANON | ECHO), before.c_lflag & (ICANON | ECHO));
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_piped_command_waits_for_its_answer_and_shows_the_time_it_took),
		cmocka_unit_test(an_unanswered_command_is_a_failure_when_an_answer_was_expected),
		cmocka_unit_test(a_channel_that_is_not_served_is_pointed_out),
		cmocka_unit_test(at_a_terminal_answers_appear_above_the_line_being_typed),
		cmocka_unit_test(a_signal_ends_the_chat_and_leaves_the_terminal_in_order),
	};

	return !!cmocka_run_group_tests_name("cli_chat", tests, set_up, tear_down);
}

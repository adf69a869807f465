/* cmd_chat.c - waddle chat: a prompt on a terminal, or lines from a pipe one after another. */
#include "chat.h"
#include "chat_prompt.h"
#include "cli.h"
#include "clock.h"
#include "commands.h"
#include "pg.h"
#include "settings.h"

#include <pwd.h>
#include <unistd.h>

struct talk {
	struct chat chat;
	struct chat_line *line; /* the one that is waited for */
	int64_t timeout_ms, settle_ms;
	unsigned unanswered;
	bool expect_reply;
};

static const char *who_am_i(void)
{
	const struct passwd *pw = getpwuid(getuid());

	return pw != NULL && pw->pw_name[0] != '\0' ? pw->pw_name : "operator";
}

/* What others wrote may hold anything; a terminal must not obey it. */
static void put_text(struct str text)
{
	for (size_t i = 0; i < text.n; i++) {
		unsigned char c = (unsigned char)text.p[i];

		putchar((c < 0x20 && c != '\n') || c == 0x7f ? ' ' : c);
	}
}

static void answered(void *arg, const struct chat_answer *a)
{
	(void)arg;
	chat_prompt_hide();
	if (a->kind != OUT_CHAT)
		printf("[%s] ", outbound_kind_names[a->kind]);
	put_text(a->text);
	printf("  (%.1f ms%s)\n", (double)a->after_us / 1000, a->private ? ", private" : "");
	fflush(stdout);
	chat_prompt_show();
}

static bool is_command(struct str line)
{
	return line.n >= 2 && (line.p[0] == '!' || line.p[0] == '#') && line.p[1] != ' ';
}

/* How many parts an answer has is not in it: the last one is followed by silence. */
static bool settled(void *arg)
{
	const struct talk *t = arg;

	return t->line->err.code != 0 ||
	       (t->line->answers > 0 && clock_exact_us() - t->line->answered_us > t->settle_ms * 1000);
}

static bool on_broker(void *arg)
{
	const struct talk *t = arg;

	return t->line->err.code != 0 || t->line->on_broker;
}

/* Silence wakes nobody up: look every few ms. */
static bool wait_settled(struct talk *t)
{
	enum { LOOK_EVERY_MS = 5 };

	for (int64_t end_us = clock_exact_us() + t->timeout_ms * 1000; clock_exact_us() < end_us;)
		if (service_run(&t->chat.service, settled, t, LOOK_EVERY_MS))
			return true;
	return false;
}

/* One line to its last answer, or to the end of the patience with it. */
static int say(struct talk *t, struct str text, struct err *err)
{
	printf("> " STR_FMT "\n", STR_ARG(text));
	fflush(stdout);
	t->line = chat_send(&t->chat, text, err);
	if (t->line == NULL)
		return err->code;
	if (!service_run(&t->chat.service, on_broker, t, t->timeout_ms))
		return err_set(err, -ETIMEDOUT, "no broker took the line within %lld ms",
		               (long long)t->timeout_ms);
	if (is_command(text) && !wait_settled(t) && t->line->answers == 0) {
		printf("  (no answer within %lld ms)\n", (long long)t->timeout_ms);
		t->unanswered++;
	}
	if (t->line->err.code != 0)
		*err = t->line->err;
	return err->code;
}

static int piped(struct talk *t, struct err *err)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	int r = 0;

	while (r == 0 && (n = getline(&line, &cap, stdin)) >= 0) {
		struct str text = str_trim((struct str){ line, (size_t)n });

		if (!str_utf8_ok(text))
			r = err_set(err, -EINVAL, "the line is not UTF-8");
		else if (text.n > 0)
			r = say(t, text, err);
	}
	free(line);
	return r;
}

static void typed(void *arg, struct str text)
{
	struct talk *t = arg;
	struct err err = { 0 };

	text = str_trim(text);
	if (text.n > 0 && chat_send(&t->chat, text, &err) == NULL)
		(void)cli_fail(&err);
}

static bool left(void *arg)
{
	(void)arg;
	return chat_prompt_ended();
}

static int at_terminal(struct talk *t)
{
	printf("%s as %.*s; commands begin with !, Ctrl-D leaves\n", t->chat.entity, STR_ARG(t->chat.user));
	chat_prompt_open(&t->chat.service, "> ", typed, t);
	while (!service_run(&t->chat.service, left, NULL, 1000))
		;
	chat_prompt_close();
	putchar('\n');
	return 0;
}

/* Silence has a common reason that the database knows; without one it is not asked. */
static void warn_if_not_served(const struct chat *c)
{
	const struct cfg_base *base;
	struct err err;
	PGconn *pg;
	PGresult *res;

	if (settings_read(&base, &err) < 0 || base->database_url.n == 0 || pg_open(&pg, &err) < 0)
		return;
	res = PG_QUERY(pg, &err,
	               "SELECT FROM servers WHERE platform = 'terminal' AND channel = $1 AND is_active",
	               c->channel);
	if (res != NULL && PQntuples(res) == 0)
		fprintf(stderr, "%s is not served yet: waddle servers add terminal %s --enable all\n",
		        c->entity, c->channel);
	PQclear(res);
	pg_close(&pg);
}

static int role_of(const char *name)
{
	for (int i = 0; role_names[i] != NULL; i++)
		if (strcmp(role_names[i], name) == 0)
			return i;
	return -1;
}

int cmd_chat(int argc, char **argv)
{
	const char *channel = "demo", *user = who_am_i(), *role_name = "owner";
	struct talk t = { .timeout_ms = 5000, .settle_ms = 50 };
	const struct cfg_base *base;
	struct err err = { 0 };
	int r, role, status;
	const struct opt opts[] = {
		{ .name = "channel",
		  .type = OPT_TEXT,
		  .to = &channel,
		  .value = "name",
		  .help = "where to speak (demo)" },
		{ .name = "user",
		  .type = OPT_TEXT,
		  .to = &user,
		  .value = "name",
		  .help = "who speaks (your login name)" },
		{ .name = "role",
		  .type = OPT_TEXT,
		  .to = &role_name,
		  .value = "role",
		  .help = "owner, admin, moderator, vip, subscriber, member (owner)" },
		{ .name = "timeout",
		  .type = OPT_INT,
		  .to = &t.timeout_ms,
		  .value = "ms",
		  .min = 1,
		  .max = 600000,
		  .help = "from a pipe: how long a command may go unanswered (5000)" },
		{ .name = "settle",
		  .type = OPT_INT,
		  .to = &t.settle_ms,
		  .value = "ms",
		  .min = 0,
		  .max = 60000,
		  .help = "from a pipe: silence after which an answer is complete (50)" },
		{ .name = "expect-reply",
		  .type = OPT_FLAG,
		  .to = &t.expect_reply,
		  .help = "from a pipe: fail when a command was not answered" },
		{ 0 },
	};

	if (cli_options(opts, "[--channel <name>] [--user <name>] [--role <role>]",
	                "Talks to the bot as somebody in a channel of the platform \"terminal\", through the "
	                "same\n"
	                "topics as everybody else, and shows each answer with the time it took.",
	                argc, argv, 0, 0, &status) < 0)
		return status;
	role = role_of(role_name);
	if (role < 0)
		return cli_misused(argv[0], "there is no role \"%s\"", role_name);
	if (strlen(channel) >= sizeof(t.chat.channel) || !str_utf8_ok(str_of(channel)) ||
	    !str_utf8_ok(str_of(user)))
		return cli_misused(argv[0], "channel and user must be short texts in UTF-8");
	snprintf(t.chat.channel, sizeof(t.chat.channel), "%s", channel);
	t.chat.user = str_of(user);
	t.chat.roles = 1u << role | 1u << ROLE_MEMBER;
	t.chat.answer = answered;
	t.chat.arg = &t;
	if (settings_read(&base, &err) < 0 ||
	    chat_open(&t.chat, base->kafka_brokers, base->topic_prefix, &err) < 0)
		return cli_fail(&err);
	warn_if_not_served(&t.chat);
	r = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) ? at_terminal(&t) : piped(&t, &err);
	chat_close(&t.chat);
	if (r < 0)
		return cli_fail(&err);
	if (t.expect_reply && t.unanswered > 0)
		return cli_failed("%u command%s not answered", t.unanswered,
		                  t.unanswered == 1 ? " was" : "s were");
	return CLI_OK;
}

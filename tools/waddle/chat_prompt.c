/* chat_prompt.c - see chat_prompt.h. */
#include "chat_prompt.h"

#include <editline/readline.h>
#include <event2/event.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

static struct prompt {
	bool open, ended, taken;
	const char *prompt;
	void (*line)(void *arg, struct str text);
	void *arg;
	struct event *input, *interrupt, *terminate;
	locale_t locale;
} the;

static void typed(char *text)
{
	if (text == NULL) {
		the.ended = true;
		return;
	}
	the.taken = true;
	if (*text != '\0')
		add_history(text);
	the.line(the.arg, str_of(text));
	free(text);
}

/* libedit's callbacks do not tell an end of input: Ctrl-D on an empty line comes as a key ... */
static int end_key(int count, int key)
{
	(void)count;
	(void)key;
	if (rl_end == 0)
		the.ended = true;
	return 0;
}

/* ... and a terminal that has gone would be read for ever. */
static bool hung_up(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}

static void readable(evutil_socket_t fd, short what, void *arg)
{
	(void)what;
	(void)arg;
	if (hung_up(fd))
		the.ended = true;
	if (the.ended)
		return;
	rl_callback_read_char();
	/* After a line libedit leaves the terminal in line mode until the next key, which it then
	 * waits for inside its read.  Beginning anew puts it right. */
	if (the.taken && !the.ended) {
		the.taken = false;
		rl_callback_handler_remove();
		rl_callback_handler_install(the.prompt, typed);
	}
}

static void interrupted(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	the.ended = true;
}

void chat_prompt_open(struct service *s, const char *prompt, void (*line)(void *arg, struct str text),
                      void *arg)
{
	/* libedit asks the locale how many bytes a character has.  Only this thread's, and only what
	 * concerns characters: numbers stay as they are. */
	locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);

	the = (struct prompt){ .open = true, .line = line, .arg = arg, .prompt = prompt, .locale = utf8 };
	if (utf8 != (locale_t)0)
		uselocale(utf8);
	the.input = event_new(s->loop, STDIN_FILENO, EV_READ | EV_PERSIST, readable, NULL);
	the.interrupt = evsignal_new(s->loop, SIGINT, interrupted, NULL);
	the.terminate = evsignal_new(s->loop, SIGTERM, interrupted, NULL);
	event_add(the.input, NULL);
	event_add(the.interrupt, NULL);
	event_add(the.terminate, NULL);
	rl_initialize();
	rl_add_defun("waddle-end", end_key, 'D' - '@');
	rl_callback_handler_install(prompt, typed);
}

void chat_prompt_close(void)
{
	rl_callback_handler_remove();
	event_free(the.input);
	event_free(the.interrupt);
	event_free(the.terminate);
	if (the.locale != (locale_t)0) {
		uselocale(LC_GLOBAL_LOCALE);
		freelocale(the.locale);
	}
	the = (struct prompt){ 0 };
}

bool chat_prompt_ended(void)
{
	return the.ended;
}

void chat_prompt_hide(void)
{
	if (the.open)
		fputs("\r\033[K", stdout);
}

void chat_prompt_show(void)
{
	if (the.open && !the.ended)
		rl_forced_update_display();
}

/* log.c - one line, one write(2), never a wait. */
#include "log.h"

#include "arena.h"
#include "clock.h"

#include <poll.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 4096, VALUE_MAX = 128 };    /* a pipe takes 4096 bytes whole or not at all */

enum log_level log_threshold = L_INFO;
uint64_t       log_dropped;

static int         log_fd = STDERR_FILENO;
static const char *log_service = "-";
static uint64_t    held_back;           /* by the gate that opened last, for the line that follows */

static const char *const level_names[] = {
	[L_DEBUG] = "debug", [L_INFO] = "info", [L_WARN] = "warn", [L_ERROR] = "error",
};

void log_to(int fd, const char *service)
{
	log_fd = fd;
	log_service = service;
}

struct line { char text[LINE_MAX_BYTES]; size_t n; };

static void add(struct line *l, const char *p, size_t n)
{
	memcpy(l->text + l->n, p, n);
	l->n += n;
}

/* ,"key":"value" with at most `room` bytes of value, escapes included; nothing is cut in half. */
static void add_text(struct line *l, const char *key, struct str value, size_t room)
{
	static const char hex[] = "0123456789abcdef";
	size_t end;

	add(l, l->n > 1 ? ",\"" : "\"", l->n > 1 ? 2 : 1);
	add(l, key, strlen(key));
	add(l, "\":\"", 3);
	end = l->n + room;
	for (size_t i = 0; i < value.n;) {
		unsigned char c = (unsigned char)value.p[i];
		size_t len = str_utf8_len((struct str){ value.p + i, value.n - i });
		char esc[6] = { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] };
		struct str as = { value.p + i, len };

		if (c == '"' || c == '\\') {
			esc[1] = (char)c;
			as = (struct str){ esc, 2 };
		} else if (c == '\n') {
			as = STR("\\n");
		} else if (c < 0x20 || c == 0x7f) {
			as = (struct str){ esc, 6 };
		} else if (len == 0) {
			as = STR("\xef\xbf\xbd");       /* U+FFFD */
		}
		if (as.n > end - l->n)
			break;
		add(l, as.p, as.n);
		i += len > 0 ? len : 1;
	}
	add(l, "\"", 1);
}

static void add_number(struct line *l, const char *key, int64_t v)
{
	int n = snprintf(l->text + l->n, sizeof(l->text) - l->n, ",\"%s\":%lld", key, (long long)v);

	l->n += (size_t)n;
}

static void send_line(const struct line *l)
{
	struct pollfd p = { .fd = log_fd, .events = POLLOUT };
	ssize_t n;

	/* Not O_NONBLOCK: the open file belongs to others as well, often to the shell. */
	if (poll(&p, 1, 0) != 1 || (p.revents & POLLOUT) == 0) {
		log_dropped++;
		return;
	}
	do
		n = write(log_fd, l->text, l->n);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)l->n)
		log_dropped++;
}

void log_at(enum log_level level, const struct log_ctx *ctx, const char *event, const char *fmt, ...)
{
	char msg[LINE_MAX_BYTES], ts[CLOCK_TEXT];
	struct line l = { .n = 0 };
	int saved = errno;
	va_list ap;
	int n;

	if (level < log_threshold) {
		held_back = 0;
		return;
	}
	va_start(ap, fmt);
	n = vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	if (n < 0)
		n = 0;
	clock_text(clock_unix_ms(), ts);
	add(&l, "{", 1);
	add_text(&l, "ts", str_of(ts), VALUE_MAX);
	add_text(&l, "level", str_of(level_names[level]), VALUE_MAX);
	add_text(&l, "service", str_of(log_service), VALUE_MAX);
	add_text(&l, "event", str_of(event), VALUE_MAX);
	if (ctx != NULL && ctx->trace.n > 0)
		add_text(&l, "trace", ctx->trace, VALUE_MAX);
	if (ctx != NULL && ctx->event_id.n > 0)
		add_text(&l, "event_id", ctx->event_id, VALUE_MAX);
	if (ctx != NULL && ctx->community != 0)
		add_number(&l, "community", ctx->community);
	if (ctx != NULL && ctx->module.n > 0)
		add_text(&l, "module", ctx->module, VALUE_MAX);
	if (held_back > 0)
		add_number(&l, "held_back", (int64_t)held_back);
	held_back = 0;
	add_text(&l, "msg", (struct str){ msg, (size_t)n < sizeof(msg) ? (size_t)n : sizeof(msg) - 1 },
	         sizeof(l.text) - l.n - sizeof(",\"msg\":\"\"}\n"));
	add(&l, "}\n", 2);
	send_line(&l);
	errno = saved;
}

bool log_gate_open(struct log_gate *gate, int64_t period_ms)
{
	int64_t now = clock_mono_ms();

	if (now < gate->next_mono_ms) {
		gate->held_back++;
		return false;
	}
	gate->next_mono_ms = now + period_ms;
	held_back = gate->held_back;
	gate->held_back = 0;
	return true;
}

struct str log_redact(struct arena *mem, struct str secret)
{
	const char *kind = secret.n >= 24 ? memchr(secret.p, '_', 12) : NULL;
	size_t shown = kind != NULL ? (size_t)(kind - secret.p) + 5 : 0;
	struct str out = str_utf8_ok((struct str){ secret.p, shown }) ?
		arena_printf(mem, "%.*s(%zu)", (int)shown, secret.p, secret.n) :
		arena_printf(mem, "(%zu)", secret.n);

	return out.p != NULL ? out : STR("(secret)");
}

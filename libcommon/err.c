/* err.c - failures as values: setting, wrapping and judging them. */
#include "err.h"

#include "str.h"

/* The text goes to logs, JSON and the dead-letter topic: one line, no control characters, valid
 * UTF-8.  vsnprintf() may have cut a character in half at the end. */
static void tidy(char *text)
{
	size_t n = strlen(text), i = 0;

	while (i < n) {
		unsigned char c = (unsigned char)text[i];
		size_t len;

		if (c < 0x80) {
			if (c < 0x20 || c == 0x7f)
				text[i] = ' ';
			i++;
			continue;
		}
		len = str_utf8_len((struct str){ text + i, n - i });
		if (len > 0) {
			i += len;
		} else if (n - i < 4 && c >= 0xc0) {
			text[i] = '\0';         /* the cut one */
			return;
		} else {
			text[i++] = '?';
		}
	}
	while (n > 0 && text[n - 1] == ' ')
		text[--n] = '\0';
}

static int PRINTF(4, 0) fill(struct err *err, int code, const char *suffix, const char *fmt, va_list ap)
{
	size_t n;

	ASSERT(code < 0);
	if (err == NULL)
		return code;
	err->code = code;
	err->sqlstate[0] = '\0';
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	n = strlen(err->text);
	if (suffix != NULL)
		snprintf(err->text + n, sizeof(err->text) - n, "%s%s", n > 0 ? ": " : "", suffix);
	tidy(err->text);
	if (err->text[0] == '\0')
		snprintf(err->text, sizeof(err->text), "error %d", -code);
	return code;
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fill(err, code, NULL, fmt, ap);
	va_end(ap);
	return code;
}

int err_sys(struct err *err, const char *fmt, ...)
{
	int saved = errno > 0 ? errno : EIO;
	const char *why = strerrordesc_np(saved);
	va_list ap;

	va_start(ap, fmt);
	fill(err, -saved, why != NULL ? why : "unknown error", fmt, ap);
	va_end(ap);
	return -saved;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
	char old[sizeof(err->text)];
	va_list ap;
	size_t n;

	if (err == NULL)
		return -EIO;
	ASSERT(err->code < 0);
	memcpy(old, err->text, sizeof(old));
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	n = strlen(err->text);
	snprintf(err->text + n, sizeof(err->text) - n, "%s%s", n > 0 ? ": " : "", old);
	tidy(err->text);
	return err->code;
}

/* PostgreSQL appendix A.  Whole codes first, then classes. */
static enum err_kind kind_of_sqlstate(const char *state)
{
	static const struct { char what[6]; enum err_kind kind; } table[] = {
		{ "08007", ERR_UNKNOWN },       /* transaction resolution unknown */
		{ "40003", ERR_UNKNOWN },       /* statement completion unknown */
		{ "08", ERR_AGAIN },            /* connection */
		{ "40", ERR_AGAIN },            /* serialization failure, deadlock */
		{ "53", ERR_AGAIN },            /* disk, memory, connections exhausted */
		{ "25006", ERR_AGAIN },         /* write on a standby: we hold the old primary */
		{ "55P03", ERR_AGAIN },         /* lock not available */
		{ "55006", ERR_AGAIN },         /* object in use */
		{ "57014", ERR_AGAIN },         /* statement timeout */
		{ "57P", ERR_AGAIN },           /* server starts, stops or crashed */
		{ "22", ERR_INPUT },            /* data exception */
		{ "23502", ERR_INPUT },         /* not null */
		{ "23514", ERR_INPUT },         /* check */
		{ "23", ERR_CONFLICT },         /* unique, exclusion, foreign key */
		{ "P0002", ERR_ABSENT },        /* no data found */
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (strncmp(state, table[i].what, strlen(table[i].what)) == 0)
			return table[i].kind;
	return ERR_BROKEN;
}

enum err_kind err_kind(const struct err *err)
{
	if (err->sqlstate[0] != '\0')
		return kind_of_sqlstate(err->sqlstate);
	switch (-err->code) {
	case 0:
		return ERR_NONE;
	case EAGAIN: case EBUSY: case ETIMEDOUT: case ECANCELED: case EINTR: case ENOMEM: case ENOBUFS:
	case EMFILE: case ENFILE: case ENOSPC: case EPIPE: case ENOTCONN: case ESHUTDOWN:
	case EADDRINUSE: case EADDRNOTAVAIL: case ECONNREFUSED: case ECONNRESET: case ECONNABORTED:
	case ENETDOWN: case ENETUNREACH: case ENETRESET: case EHOSTDOWN: case EHOSTUNREACH:
		return ERR_AGAIN;
	case EINVAL: case ERANGE: case EBADMSG: case EMSGSIZE: case EILSEQ: case ETIME: case EDOM:
	case E2BIG: case ENAMETOOLONG: case EOVERFLOW:
		return ERR_INPUT;
	case EACCES: case EPERM:
		return ERR_DENIED;
	case ENOENT: case ENODATA:
		return ERR_ABSENT;
	case EEXIST: case ESTALE:
		return ERR_CONFLICT;
	case EINPROGRESS:
		return ERR_UNKNOWN;
	}
	return ERR_BROKEN;
}

bool err_is_data(const struct err *err)
{
	static const char classes[][3] = { "21", "22", "23", "44", "54" };

	for (size_t i = 0; i < ARRAY_LEN(classes); i++)
		if (strncmp(err->sqlstate, classes[i], 2) == 0)
			return true;
	return false;
}

const char *err_kind_name(enum err_kind kind)
{
	static const char *const names[] = {
		[ERR_NONE] = "none", [ERR_AGAIN] = "try_again", [ERR_INPUT] = "bad_input",
		[ERR_DENIED] = "denied", [ERR_ABSENT] = "absent", [ERR_CONFLICT] = "conflict",
		[ERR_UNKNOWN] = "unknown", [ERR_BROKEN] = "broken",
	};

	ASSERT((size_t)kind < ARRAY_LEN(names));
	return names[kind];
}

int err_http_status(const struct err *err)
{
	switch (err_kind(err)) {
	case ERR_NONE:     return 200;
	case ERR_AGAIN:    return 503;
	case ERR_INPUT:    return err->code == -EMSGSIZE ? 413 : 400;
	case ERR_DENIED:   return 403;
	case ERR_ABSENT:   return 404;
	case ERR_CONFLICT: return 409;
	case ERR_UNKNOWN:
	case ERR_BROKEN:   return 500;
	}
	return 500;
}

/* bus_stats.c - a walk over librdkafka's statistics: one pass, no memory. */
#include "bus_stats.h"

enum { DEPTH = 8 };

struct walk {
	struct str text;
	struct str name;        /* read before a ':' */
	struct str path[DEPTH]; /* path[d - 1]: the member we are in at depth d */
	int depth;
};

static void visit(struct bus_stats *ret, const struct str *path, int depth, struct str value)
{
	if (depth == 3 && str_eq(path[0], STR("brokers")) && str_eq(path[2], STR("state"))) {
		if (str_eq(value, STR("UP")) || str_eq(value, STR("UPDATE")))
			ret->broker_up = true;
		return;
	}
	/* Partition -1 is for messages without a home yet; the others come from the broker. */
	if (depth != 5 || !str_eq(path[0], STR("topics")) || !str_eq(path[2], STR("partitions")) ||
	    str_starts(path[3], STR("-")))
		return;
	if (ret->topic != NULL && str_eq(path[4], STR("unknown")) && str_eq(value, STR("false")))
		ret->topic(ret->arg, path[1]);
	if (ret->lag != NULL && str_eq(path[4], STR("consumer_lag")))
		ret->lag(ret->arg, path[1], path[3], value);
}

static void skip(struct str *text, size_t n)
{
	*text = (struct str){ text->p + n, text->n - n };
}

/* A string without its quotes, or a number or word.  false: cut off. */
static bool token(struct str *text, struct str *ret)
{
	size_t n = 1;

	if (text->p[0] == '"') {
		while (n < text->n && text->p[n] != '"')
			n += text->p[n] == '\\' ? 2 : 1;
		if (n >= text->n)
			return false;
		*ret = (struct str){ text->p + 1, n - 1 };
		skip(text, n + 1);
		return true;
	}
	while (n < text->n && memchr(",:}] \t\r\n", text->p[n], 8) == NULL)
		n++;
	*ret = (struct str){ text->p, n };
	skip(text, n);
	return true;
}

static void enter(struct walk *w)
{
	if (w->depth > 0 && w->depth <= DEPTH)
		w->path[w->depth - 1] = w->name;
	w->name = STR_NONE;
	w->depth++;
}

static int step(struct walk *w, struct bus_stats *ret)
{
	struct str value;

	switch (w->text.p[0]) {
	case '{':
	case '[':
		enter(w);
		skip(&w->text, 1);
		return 0;
	case '}':
	case ']':
		skip(&w->text, 1);
		return --w->depth < 0 ? -EBADMSG : 0;
	case ' ':
	case '\t':
	case '\r':
	case '\n':
	case ',':
		skip(&w->text, 1);
		return 0;
	case ':': /* its name was seen already */
		skip(&w->text, 1);
		return 0;
	}
	if (!token(&w->text, &value))
		return -EBADMSG;
	while (w->text.n > 0 && w->text.p[0] == ' ')
		skip(&w->text, 1);
	if (w->text.n > 0 && w->text.p[0] == ':') {
		w->name = value;
		return 0;
	}
	if (w->depth > 0 && w->depth <= DEPTH) {
		w->path[w->depth - 1] = w->name;
		visit(ret, w->path, w->depth, value);
	}
	return 0;
}

int bus_stats_read(struct str json, struct bus_stats *ret)
{
	struct walk w = { .text = json };
	int r = 0;

	ret->broker_up = false;
	while (r == 0 && w.text.n > 0)
		r = step(&w, ret);
	return r < 0 || w.depth != 0 ? -EBADMSG : 0;
}

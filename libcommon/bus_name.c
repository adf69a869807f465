/* bus_name.c - topic prefixes. */
#include "bus_name.h"

#include "err.h"

static const struct str OURS = { "waddle", 6 };

static bool name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
	       c == '_' || c == '-';
}

int bus_prefix_set(struct bus_prefix *p, struct str text, struct err *err)
{
	if (text.n == 0)
		text = OURS;
	if (text.n >= sizeof(p->text))
		return err_set(err, -EPROTO, "TOPIC_PREFIX: %zu characters, at most %zu", text.n,
		               sizeof(p->text) - 1);
	for (size_t i = 0; i < text.n; i++)
		if (!name_char(text.p[i]))
			return err_set(err, -EPROTO, "TOPIC_PREFIX: only letters, digits, '.', '_' and '-'");
	memcpy(p->text, text.p, text.n);
	p->text[text.n] = '\0';
	p->n = text.n;
	return 0;
}

/* Does name begin with the whole first part `with`, so that "waddlebot" does not? */
static bool has_part(const char *name, struct str with)
{
	char next;

	if (strncmp(name, with.p, with.n) != 0)
		return false;
	next = name[with.n];
	return next == '\0' || next == '.' || next == '\\';
}

static int join(char out[BUS_NAME_MAX], const char *hat, const char *first, const char *rest)
{
	int n = snprintf(out, BUS_NAME_MAX, "%s%s%s", hat, first, rest);

	return n < 0 || n >= BUS_NAME_MAX ? -ENAMETOOLONG : 0;
}

int bus_name_out(const struct bus_prefix *p, const char *name, char out[BUS_NAME_MAX])
{
	char quoted[2 * sizeof(p->text)];
	size_t n = 0;

	if (name[0] != '^')
		return has_part(name, OURS) ? join(out, "", p->text, name + OURS.n) : join(out, "", "", name);
	if (!has_part(name + 1, OURS))
		return join(out, "", "", name);
	for (size_t i = 0; i < p->n; i++) {
		if (p->text[i] == '.')
			quoted[n++] = '\\';
		quoted[n++] = p->text[i];
	}
	quoted[n] = '\0';
	return join(out, "^", quoted, name + 1 + OURS.n);
}

bool bus_name_is_ours(const struct bus_prefix *p, const char *wire)
{
	return has_part(wire, (struct str){ p->text, p->n });
}

int bus_name_in(const struct bus_prefix *p, const char *wire, char out[BUS_NAME_MAX])
{
	if (bus_name_is_ours(p, wire))
		return join(out, "", OURS.p, wire + p->n);
	return join(out, "", "", wire);
}

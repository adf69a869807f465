/* args_duration.c - "1h30m", "1 hour 30 minutes", "2 weeks and 1 day". */
#include "args.h"

#include <ctype.h>

#define MINUTE_MS INT64_C(60000)
#define HOUR_MS   (60 * MINUTE_MS)
#define DAY_MS    (24 * HOUR_MS)
#define MONTH_MS  (DAY_MS * 365 / 12)
enum { MAX_NUMBER = 10000000, MAX_MONTHS = 60 };

static const struct unit {
	const char *name;
	int64_t months, ms;
} units[] = {
	{ "m", 0, MINUTE_MS },
	{ "min", 0, MINUTE_MS },
	{ "mins", 0, MINUTE_MS },
	{ "minute", 0, MINUTE_MS },
	{ "minutes", 0, MINUTE_MS },
	{ "h", 0, HOUR_MS },
	{ "hr", 0, HOUR_MS },
	{ "hrs", 0, HOUR_MS },
	{ "hour", 0, HOUR_MS },
	{ "hours", 0, HOUR_MS },
	{ "d", 0, DAY_MS },
	{ "day", 0, DAY_MS },
	{ "days", 0, DAY_MS },
	{ "w", 0, 7 * DAY_MS },
	{ "week", 0, 7 * DAY_MS },
	{ "weeks", 0, 7 * DAY_MS },
	{ "mo", 1, 0 },
	{ "mos", 1, 0 },
	{ "month", 1, 0 },
	{ "months", 1, 0 },
	{ "y", 12, 0 },
	{ "yr", 12, 0 },
	{ "yrs", 12, 0 },
	{ "year", 12, 0 },
	{ "years", 12, 0 },
};

static const struct unit *unit_of(struct str word)
{
	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		if (str_eq_fold(word, str_of(units[i].name)))
			return &units[i];
	return NULL;
}

static struct str span(struct str s, int (*is)(int))
{
	size_t n = 0;

	while (n < s.n && is((unsigned char)s.p[n]))
		n++;
	return (struct str){ s.p, n };
}

static struct str skip(struct str s, struct str part)
{
	return (struct str){ s.p + part.n, s.n - part.n };
}

static int is_gap(int c)
{
	return c == ' ' || c == '\t' || c == ',';
}

/* "and" stands between two amounts only. */
static struct str skip_gap(struct str s, bool between)
{
	struct str word;

	s = skip(s, span(s, is_gap));
	word = span(s, isalpha);
	if (between && str_eq_fold(word, STR("and"))) {
		s = skip(s, word);
		s = skip(s, span(s, is_gap));
	}
	return s;
}

int args_duration(struct str text, struct duration *ret)
{
	struct duration d = { 0 };
	struct str s = skip_gap(text, false);

	if (s.n == 0)
		return -EINVAL;
	while (s.n > 0) {
		struct str digits = span(s, isdigit), word;
		const struct unit *u;
		int64_t n;

		if (str_int(digits, 0, MAX_NUMBER, &n) != 0)
			return -EINVAL;
		s = skip(s, digits);
		s = skip(s, span(s, isblank));
		word = span(s, isalpha);
		u = unit_of(word);
		if (u == NULL)
			return -EINVAL;
		d.months += n * u->months;
		d.ms += n * u->ms;
		if (d.months > MAX_MONTHS || d.ms > MAX_MONTHS * MONTH_MS + 2 * DAY_MS)
			return -EINVAL;
		s = skip(s, word);
		if (s.n > 0) {
			s = skip_gap(s, true);
			if (s.n == 0 && s.p[-1] != ' ' && s.p[-1] != ',')
				return -EINVAL; /* ends with "and" */
		}
	}
	if (d.months == 0 && d.ms < MINUTE_MS)
		return -EINVAL;
	if (d.months * MONTH_MS + d.ms > MAX_MONTHS * MONTH_MS + 2 * DAY_MS)
		return -EINVAL;
	*ret = d;
	return 0;
}

/* civil.c - the calendar, and what a clock on the wall in a zone means (libical's zones). */
#include "clock.h"

#include <libical/ical.h>

/* Days since 1970-01-01 of a proleptic Gregorian date and back; years start in March, so that the
 * leap day is the last (Hinnant, "chrono-Compatible Low-Level Date Algorithms"). */
static int64_t days_of(int year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year, era = (y >= 0 ? y : y - 399) / 400, of_era = y - era * 400;
	int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static void date_of(int64_t days, int *year, int *month, int *day)
{
	int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097, doe = z - era * 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;

	*day = (int)(doy - (153 * mp + 2) / 5 + 1);
	*month = (int)(mp < 10 ? mp + 3 : mp - 9);
	*year = (int)(yoe + era * 400 + (*month <= 2 ? 1 : 0));
}

bool civil_ok(const struct civil *c)
{
	static const int8_t len[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = (c->year % 4 == 0 && c->year % 100 != 0) || c->year % 400 == 0;

	return c->year >= 1970 && c->year <= 9999 && c->month >= 1 && c->month <= 12 && c->day >= 1 &&
	       c->day <= len[c->month - 1] + (leap && c->month == 2 ? 1 : 0) && c->hour >= 0 &&
	       c->hour <= 23 && c->minute >= 0 && c->minute <= 59 && c->second >= 0 && c->second <= 59;
}

int64_t civil_as_utc_s(const struct civil *c)
{
	ASSERT(civil_ok(c));
	return days_of(c->year, c->month, c->day) * 86400 + (c->hour * 60 + c->minute) * 60 + c->second;
}

struct civil civil_of_utc_s(int64_t utc_s)
{
	int64_t days = (utc_s >= 0 ? utc_s : utc_s - 86399) / 86400;
	int of_day = (int)(utc_s - days * 86400), year, month, day;

	date_of(days, &year, &month, &day);
	return (struct civil){ (int16_t)year, (int8_t)month, (int8_t)day, (int8_t)(of_day / 3600),
		(int8_t)(of_day / 60 % 60), (int8_t)(of_day % 60) };
}

/* libical opens a file of this name below the zone directory, and the name is a user's. */
static bool name_ok(struct str zone)
{
	for (size_t i = 0; i < zone.n; i++) {
		char c = zone.p[i];

		if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		      c == '_' || c == '+' || c == '-' ||
		      (c == '/' && i > 0 && i + 1 < zone.n && zone.p[i - 1] != '/')))
			return false;
	}
	return zone.n > 0 && zone.n < 64;
}

static int find_zone(struct str zone, icaltimezone **ret)
{
	char name[64];

	if (!name_ok(zone))
		return -ENOENT;
	memcpy(name, zone.p, zone.n);
	name[zone.n] = '\0';
	icalerror_set_errors_are_fatal(0);
	*ret = icaltimezone_get_builtin_timezone(name);
	if (*ret != NULL)
		return 0;
	/* NULL for any name when there is no zone data at all. */
	return icaltimezone_get_builtin_timezone("Europe/London") != NULL ? -ENOENT : -ESTALE;
}

static int64_t offset_at(icaltimezone *zone, int64_t utc_s)
{
	struct icaltimetype t =
		icaltime_from_timet_with_zone((time_t)utc_s, 0, icaltimezone_get_utc_timezone());
	int dst;

	return icaltimezone_get_utc_offset_of_utc_time(zone, &t, &dst);
}

/* libical's own conversion reads a time in a gap an hour early and takes the second of two; so
 * the offsets a day before and after are tried, which are the two a change lies between. */
int civil_to_unix(const struct civil *local, struct str zone, int64_t *ret_unix_ms, enum civil_fit *ret_fit)
{
	int64_t wall, before, after, first, second, found;
	enum civil_fit fit = CIVIL_ONCE;
	bool first_fits, second_fits;
	icaltimezone *z;
	int r;

	if (!civil_ok(local))
		return -EINVAL;
	r = find_zone(zone, &z);
	if (r < 0)
		return r;
	wall = civil_as_utc_s(local);
	before = wall - offset_at(z, wall - 86400);
	after = wall - offset_at(z, wall + 86400);
	first = before < after ? before : after;
	second = before < after ? after : before;
	first_fits = first + offset_at(z, first) == wall;
	second_fits = second + offset_at(z, second) == wall;
	found = first_fits ? first : second_fits ? second : before;
	if (!first_fits && !second_fits)
		fit = CIVIL_GAP;
	else if (first_fits && second_fits && first != second)
		fit = CIVIL_TWICE;
	*ret_unix_ms = found * 1000;
	if (ret_fit != NULL)
		*ret_fit = fit;
	return 0;
}

int civil_from_unix(int64_t unix_ms, struct str zone, struct civil *ret)
{
	int64_t s = (unix_ms >= 0 ? unix_ms : unix_ms - 999) / 1000;
	struct civil c;
	icaltimezone *z;
	int r = find_zone(zone, &z);

	if (r < 0)
		return r;
	if (s < 0 || s >= 253402300800)
		return -EINVAL;
	c = civil_of_utc_s(s + offset_at(z, s));
	if (!civil_ok(&c))
		return -EINVAL;                 /* the last hours of 1969 or the first of 10000 there */
	*ret = c;
	return 0;
}

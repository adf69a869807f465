/* clock.c - reading the clocks, and RFC 3339.  Timers are in timer.c, zones in civil.c. */
#include "clock.h"

#include <time.h>

static struct {
	bool    fake;
	bool    in_turn, read;          /* read: the two below are this turn's */
	int64_t mono_ms, unix_ms;
} now;

static int64_t us_of(clockid_t id)
{
	struct timespec ts;
	int r = clock_gettime(id, &ts);

	ASSERT(r == 0);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* The wait lies between the beginning of a turn and its first callback, which is why the clocks
 * are read by the first who asks and not at the beginning. */
static void look(void)
{
	if (now.fake || (now.in_turn && now.read))
		return;
	now.mono_ms = us_of(CLOCK_MONOTONIC) / 1000;
	now.unix_ms = us_of(CLOCK_REALTIME) / 1000;
	now.read = now.in_turn;
}

int64_t clock_mono_ms(void)
{
	look();
	return now.mono_ms;
}

int64_t clock_unix_ms(void)
{
	look();
	return now.unix_ms;
}

int64_t clock_exact_us(void)
{
	return now.fake ? now.mono_ms * 1000 : us_of(CLOCK_MONOTONIC);
}

void clock_turn_begin(void)
{
	now.in_turn = true;
	now.read = false;
}

void clock_turn_end(void)
{
	now.in_turn = false;
}

void clock_fake(int64_t unix_ms)
{
	look();
	now.fake = true;
	now.unix_ms = unix_ms;
}

void clock_real(void)
{
	now.fake = false;
	now.read = false;
}

bool clock_is_fake(void)
{
	return now.fake;
}

void clock_fake_move(int64_t ms)
{
	ASSERT(now.fake && ms >= 0);
	now.mono_ms += ms;
	now.unix_ms += ms;
}

int64_t clock_backoff_ms(unsigned tries, int64_t base_ms, int64_t max_ms)
{
	int64_t top = base_ms;

	ASSERT(base_ms > 0 && max_ms > 0);
	for (; tries > 0 && top < max_ms; tries--)
		top = top > INT64_MAX / 2 ? INT64_MAX : top * 2;
	if (top > max_ms)
		top = max_ms;
	return (int64_t)arc4random_uniform(top < UINT32_MAX ? (uint32_t)top + 1 : UINT32_MAX);
}

static const int64_t END_MS = 253402300800000;       /* of the year 9999 */

void clock_text(int64_t unix_ms, char out[CLOCK_TEXT])
{
	int64_t ms = unix_ms < 0 ? 0 : unix_ms >= END_MS ? END_MS - 1 : unix_ms;
	struct civil c = civil_of_utc_s(ms / 1000);
	int year = c.year, fields[] = { c.month, c.day, c.hour, c.minute, c.second, (int)(ms % 1000) };
	static const struct { uint8_t at, digits; } put[] = {
		{ 5, 2 }, { 8, 2 }, { 11, 2 }, { 14, 2 }, { 17, 2 }, { 20, 3 }
	};

	memcpy(out, "0000-00-00T00:00:00.000Z", CLOCK_TEXT);
	for (int i = 3; i >= 0; i--, year /= 10)
		out[i] = (char)('0' + year % 10);
	for (size_t f = 0; f < ARRAY_LEN(put); f++)     /* by hand: it is in every message and log line */
		for (int i = put[f].digits - 1; i >= 0; i--, fields[f] /= 10)
			out[put[f].at + i] = (char)('0' + fields[f] % 10);
}

/* n digits at the start of *s, which moves past them; -1 if there are fewer. */
static int digits(struct str *s, size_t n)
{
	int v = 0;

	if (s->n < n)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (s->p[i] < '0' || s->p[i] > '9')
			return -1;
		v = v * 10 + (s->p[i] - '0');
	}
	s->p += n;
	s->n -= n;
	return v;
}

static bool skip(struct str *s, char a, char b)
{
	if (s->n == 0 || (s->p[0] != a && s->p[0] != b))
		return false;
	s->p++;
	s->n--;
	return true;
}

/* ".5" -> 500; 0 to 9 decimals, the rest below a millisecond is dropped. */
static int decimals(struct str *s)
{
	int ms = 0, n = 0;

	for (; n < 9 && s->n > 0 && s->p[0] >= '0' && s->p[0] <= '9'; n++, s->p++, s->n--)
		if (n < 3)
			ms = ms * 10 + (s->p[0] - '0');
	for (int i = n; i < 3; i++)
		ms *= 10;
	return n > 0 ? ms : -1;
}

int clock_parse(struct str text, int64_t *ret_unix_ms)
{
	struct civil c = { 0 };
	struct str s = text;
	int f[6], ms = 0, oh = 0, om = 0;
	int64_t at;
	bool minus;

	if ((f[0] = digits(&s, 4)) < 0 || !skip(&s, '-', '-') || (f[1] = digits(&s, 2)) < 0 ||
	    !skip(&s, '-', '-') || (f[2] = digits(&s, 2)) < 0 || !skip(&s, 'T', 't') ||
	    (f[3] = digits(&s, 2)) < 0 || !skip(&s, ':', ':') || (f[4] = digits(&s, 2)) < 0 ||
	    !skip(&s, ':', ':') || (f[5] = digits(&s, 2)) < 0)
		return -EINVAL;
	if (skip(&s, '.', '.') && (ms = decimals(&s)) < 0)
		return -EINVAL;
	if (!skip(&s, 'Z', 'z')) {
		minus = s.n > 0 && s.p[0] == '-';
		if (!skip(&s, '+', '-') || (oh = digits(&s, 2)) < 0 || !skip(&s, ':', ':') ||
		    (om = digits(&s, 2)) < 0 || oh > 23 || om > 59)
			return -EINVAL;
		if (minus) {
			oh = -oh;
			om = -om;
		}
	}
	if (s.n > 0)
		return -EINVAL;
	if (f[5] == 60) {
		f[5] = 59;
		ms = 999;
	}
	c = (struct civil){ (int16_t)f[0], (int8_t)f[1], (int8_t)f[2],
		            (int8_t)f[3],  (int8_t)f[4], (int8_t)f[5] };
	if (!civil_ok(&c))
		return -EINVAL;
	at = (civil_as_utc_s(&c) - (oh * 60 + om) * 60) * 1000 + ms;
	if (at < 0 || at >= END_MS)
		return -EINVAL;
	*ret_unix_ms = at;
	return 0;
}

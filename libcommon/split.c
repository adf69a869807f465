/* split.c - boundaries come from ICU's character iterator, so that what looks like one character
 * stays one; a character is from here on the bytes between two of them. */
#include "split.h"

#include <unicode/ubrk.h>
#include <unicode/utext.h>

#define ELLIPSIS "\xE2\x80\xA6"

/* at[i] is where character i begins, at[n] is the end. */
struct chars { struct str text; uint32_t *at; size_t n; };

static size_t code_points(const char *p, size_t n)
{
	size_t count = 0;

	for (size_t i = 0; i < n; i++)
		count += ((unsigned char)p[i] & 0xC0) != 0x80;
	return count;
}

/* Up to `end`; a letter under more marks than a part has room for is several characters. */
static void add(struct chars *c, size_t end, size_t max)
{
	size_t points = 0;

	for (size_t i = c->at[c->n]; i < end; i++) {
		if (((unsigned char)c->text.p[i] & 0xC0) == 0x80)
			continue;
		if (points++ == max) {
			c->at[++c->n] = (uint32_t)i;
			points = 1;
		}
	}
	c->at[++c->n] = (uint32_t)end;
}

static void characters(struct str text, size_t max, struct arena *mem, struct chars *ret)
{
	UErrorCode e = U_ZERO_ERROR;
	UText ut = UTEXT_INITIALIZER;
	UBreakIterator *it;

	*ret = (struct chars){ text, arena_alloc(mem, (text.n + 1) * sizeof ret->at[0]), 0 };
	utext_openUTF8(&ut, text.p, (int64_t)text.n, &e);
	it = ubrk_open(UBRK_CHARACTER, "", NULL, 0, &e);
	if (U_SUCCESS(e))
		ubrk_setUText(it, &ut, &e);
	if (U_SUCCESS(e)) {
		(void)ubrk_first(it);
		for (int32_t b = ubrk_next(it); b != UBRK_DONE; b = ubrk_next(it))
			add(ret, (size_t)b, max);
	} else {
		/* Without ICU's data: between code points, which is still no broken text. */
		for (size_t i = 0; i < text.n;) {
			i += str_utf8_len((struct str){ text.p + i, text.n - i });
			add(ret, i, max);
		}
	}
	if (it != NULL)
		ubrk_close(it);
	utext_close(&ut);
}

static struct str of(const struct chars *c, size_t from, size_t to)
{
	return (struct str){ c->text.p + c->at[from], c->at[to] - c->at[from] };
}

/* "\r\n" is one character. */
static bool is_line_end(const struct chars *c, size_t i)
{
	return c->text.p[c->at[i + 1] - 1] == '\n';
}

/* A blank that carries a mark is none. */
static bool is_blank(const struct chars *c, size_t i)
{
	struct str one = of(c, i, i + 1);

	return is_line_end(c, i) || (one.n == 1 && (one.p[0] == ' ' || one.p[0] == '\t' || one.p[0] == '\r'));
}

/* The character behind the last that fits from `from` on; one always does. */
static size_t fitting(const struct chars *c, size_t from, size_t max)
{
	size_t used = 0, i = from;

	while (i < c->n) {
		struct str one = of(c, i, i + 1);

		used += code_points(one.p, one.n);
		if (used > max)
			break;
		i++;
	}
	return i > from ? i : from + 1;
}

/* Where a part that may end at `end` does end. */
static size_t good_end(const struct chars *c, size_t from, size_t end)
{
	for (size_t i = end; i > from; i--)
		if (is_line_end(c, i - 1))
			return i;
	for (size_t i = end; i > from + (end - from) / 2; i--)
		if (is_blank(c, i) || is_blank(c, i - 1))
			return i;
	return end;
}

static size_t skip_blanks(const struct chars *c, size_t i)
{
	while (i < c->n && is_blank(c, i))
		i++;
	return i;
}

static struct str part(const struct chars *c, size_t from, size_t to)
{
	while (to > from && is_blank(c, to - 1))
		to--;
	return of(c, from, to);
}

static struct str one_line(struct str text, struct arena *mem)
{
	char *p = arena_alloc(mem, text.n + 1);
	size_t n = 0;

	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] == '\r' && i + 1 < text.n && text.p[i + 1] == '\n')
			continue;
		p[n++] = text.p[i] == '\n' || text.p[i] == '\r' ? ' ' : text.p[i];
	}
	return (struct str){ p, n };
}

size_t split_text(struct str text, struct split_rule rule, struct arena *mem, struct str parts[SPLIT_PARTS])
{
	struct chars c;
	size_t from, count = 0;

	ASSERT(rule.max_chars > 1 && rule.max_parts >= 1 && rule.max_parts <= SPLIT_PARTS);
	if (rule.one_line)
		text = one_line(text, mem);
	characters(text, rule.max_chars, mem, &c);
	while (c.n > 0 && is_blank(&c, c.n - 1))
		c.n--;
	for (from = skip_blanks(&c, 0); from < c.n; from = skip_blanks(&c, from)) {
		size_t end = fitting(&c, from, rule.max_chars);

		if (end < c.n && count + 1 == rule.max_parts) {         /* room for the ellipsis */
			end = fitting(&c, from, rule.max_chars - 1);
			parts[count++] =
				arena_printf(mem, STR_FMT ELLIPSIS,
			                     STR_ARG(str_clip(part(&c, from, end), rule.max_chars - 1)));
			break;
		}
		if (end < c.n)
			end = good_end(&c, from, end);
		parts[count++] = part(&c, from, end);
		from = end;
	}
	return count;
}

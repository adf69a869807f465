/* split.c - boundaries come from ICU's character iterator, so that what looks like one character
 * stays one. */
#include "split.h"

#include <unicode/ubrk.h>
#include <unicode/utext.h>

#define ELLIPSIS "\xE2\x80\xA6"

/* All boundaries between characters as byte offsets: at[0] = 0 ... at[n] = text.n. */
static size_t boundaries(struct str text, struct arena *mem, uint32_t **ret)
{
	UErrorCode e = U_ZERO_ERROR;
	UText ut = UTEXT_INITIALIZER;
	UBreakIterator *it;
	uint32_t *at = arena_alloc(mem, (text.n + 1) * sizeof at[0]);
	size_t n = 0;

	utext_openUTF8(&ut, text.p, (int64_t)text.n, &e);
	it = ubrk_open(UBRK_CHARACTER, "", NULL, 0, &e);
	if (U_SUCCESS(e))
		ubrk_setUText(it, &ut, &e);
	if (U_SUCCESS(e)) {
		for (int32_t b = ubrk_first(it); b != UBRK_DONE; b = ubrk_next(it))
			at[n++] = (uint32_t)b;
	} else {
		/* Without ICU's data: between code points, which is still no broken text. */
		for (size_t i = 0; i < text.n; i += str_utf8_len((struct str){ text.p + i, text.n - i }))
			at[n++] = (uint32_t)i;
		at[n++] = (uint32_t)text.n;
	}
	if (it != NULL)
		ubrk_close(it);
	utext_close(&ut);
	*ret = at;
	return n - 1;
}

static size_t code_points(const char *p, size_t n)
{
	size_t count = 0;

	for (size_t i = 0; i < n; i++)
		count += ((unsigned char)p[i] & 0xC0) != 0x80;
	return count;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* The character index behind the last that fits into max code points from `from`; at least one. */
static size_t fitting(struct str text, const uint32_t *at, size_t n, size_t from, size_t max)
{
	size_t used = 0, i = from;

	while (i < n) {
		used += code_points(text.p + at[i], at[i + 1] - at[i]);
		if (used > max)
			break;
		i++;
	}
	return i > from ? i : from + 1;
}

/* Where a part that may end at `end` does end. */
static size_t good_end(struct str text, const uint32_t *at, size_t from, size_t end)
{
	for (size_t i = end; i > from; i--)
		if (text.p[at[i - 1]] == '\n')
			return i;
	for (size_t i = end; i > from + (end - from) / 2; i--)
		if (is_blank(text.p[at[i]]) || is_blank(text.p[at[i - 1]]))
			return i;
	return end;
}

static struct str trim(struct str s)
{
	while (s.n > 0 && (is_blank(s.p[0]) || s.p[0] == '\n' || s.p[0] == '\r')) {
		s.p++;
		s.n--;
	}
	while (s.n > 0 && (is_blank(s.p[s.n - 1]) || s.p[s.n - 1] == '\n' || s.p[s.n - 1] == '\r'))
		s.n--;
	return s;
}

static struct str one_line(struct str text, struct arena *mem)
{
	char *p;

	text = arena_str(mem, text);
	p = arena_alloc(mem, text.n + 1);
	memcpy(p, text.p, text.n);
	for (size_t i = 0; i < text.n; i++)
		if (p[i] == '\n' || p[i] == '\r')
			p[i] = ' ';
	return (struct str){ p, text.n };
}

size_t split_text(struct str text, struct split_rule rule, struct arena *mem, struct str parts[SPLIT_PARTS])
{
	uint32_t *at;
	size_t n, from = 0, count = 0;

	ASSERT(rule.max_chars > 1 && rule.max_parts >= 1 && rule.max_parts <= SPLIT_PARTS);
	text = trim(text);
	if (text.n == 0)
		return 0;
	if (rule.one_line)
		text = one_line(text, mem);
	n = boundaries(text, mem, &at);
	while (from < n && count < rule.max_parts) {
		bool last = count + 1 == rule.max_parts;
		size_t end = fitting(text, at, n, from, rule.max_chars);
		struct str part;

		if (end < n && last) {          /* room for the ellipsis */
			end = fitting(text, at, n, from, rule.max_chars - 1);
			part = str_clip(trim((struct str){ text.p + at[from], at[end] - at[from] }), rule.max_chars - 1);
			parts[count++] = arena_printf(mem, STR_FMT ELLIPSIS, STR_ARG(part));
			return count;
		}
		if (end < n)
			end = good_end(text, at, from, end);
		/* One "character" of more marks than a part has room for is cut after all. */
		part = str_clip(trim((struct str){ text.p + at[from], at[end] - at[from] }), rule.max_chars);
		if (part.n > 0)
			parts[count++] = part;
		from = end;
		while (from < n && (is_blank(text.p[at[from]]) || text.p[at[from]] == '\n'))
			from++;
	}
	return count;
}

/* sql_split.c - PostgreSQL's lexical rules (manual 4.1), as far as semicolons are concerned. */
#include "sql_split.h"

static bool word_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
	       (unsigned char)c >= 0x80;
}

static size_t skip_line(struct str s, size_t i)
{
	while (i < s.n && s.p[i] != '\n')
		i++;
	return i;
}

static size_t skip_comment(struct str s, size_t i)
{
	int depth = 1;

	for (i += 2; i + 1 < s.n; i++) {
		if (s.p[i] == '*' && s.p[i + 1] == '/') {
			i++;
			if (--depth == 0)
				return i + 1;
		} else if (s.p[i] == '/' && s.p[i + 1] == '*') {
			i++;
			depth++;
		}
	}
	return s.n;
}

/* A doubled quote simply ends one text and begins the next. */
static size_t skip_quoted(struct str s, size_t i)
{
	char quote = s.p[i];
	bool escapes = quote == '\'' && i > 0 && (s.p[i - 1] == 'E' || s.p[i - 1] == 'e') &&
	               (i < 2 || !word_char(s.p[i - 2]));

	for (i++; i < s.n; i++) {
		if (escapes && s.p[i] == '\\')
			i++;
		else if (s.p[i] == quote)
			return i + 1;
	}
	return s.n;
}

static size_t skip_dollar(struct str s, size_t i)
{
	size_t end = i + 1;

	if (i > 0 && word_char(s.p[i - 1]))
		return i + 1; /* part of a name */
	while (end < s.n && word_char(s.p[end]))
		end++;
	if (end >= s.n || s.p[end] != '$' || (end > i + 1 && s.p[i + 1] >= '0' && s.p[i + 1] <= '9'))
		return i + 1; /* $1 */

	struct str tag = { s.p + i, end + 1 - i };

	for (size_t at = end + 1; at + tag.n <= s.n; at++)
		if (memcmp(s.p + at, tag.p, tag.n) == 0)
			return at + tag.n;
	return s.n;
}

/* Past what starts at i. */
static size_t skip(struct str s, size_t i)
{
	char c = s.p[i], next = i + 1 < s.n ? s.p[i + 1] : '\0';

	if (c == '-' && next == '-')
		return skip_line(s, i);
	if (c == '/' && next == '*')
		return skip_comment(s, i);
	if (c == '\'' || c == '"')
		return skip_quoted(s, i);
	if (c == '$')
		return skip_dollar(s, i);
	return i + 1;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static void advance(struct sql_text *t, size_t n)
{
	for (size_t i = 0; i < n; i++)
		t->line += t->rest.p[i] == '\n';
	t->rest = (struct str){ t->rest.p + n, t->rest.n - n };
}

bool sql_next(struct sql_text *t, struct str *ret, int *ret_line)
{
	size_t start = 0, end;

	while (start < t->rest.n) {
		char c = t->rest.p[start], next = start + 1 < t->rest.n ? t->rest.p[start + 1] : '\0';

		if (is_blank(c) || c == ';')
			start++;
		else if ((c == '-' && next == '-') || (c == '/' && next == '*'))
			start = skip(t->rest, start);
		else
			break;
	}
	advance(t, start);
	if (t->rest.n == 0)
		return false;
	end = 0;
	while (end < t->rest.n && t->rest.p[end] != ';')
		end = skip(t->rest, end);
	*ret = (struct str){ t->rest.p, end };
	*ret_line = t->line;
	advance(t, end < t->rest.n ? end + 1 : end);
	return true;
}

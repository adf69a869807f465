/* table.c - see table.h. */
#include "table.h"

enum { COLUMN_MAX = 100, TABLE_MAX = 16 * 1024 * 1024 };

/* Types of pg_type.dat that are JSON already. */
enum {
	OID_BOOL = 16,
	OID_INT8 = 20,
	OID_INT2 = 21,
	OID_INT4 = 23,
	OID_JSON = 114,
	OID_NUMERIC = 1700,
	OID_JSONB = 3802
};

struct table {
	const char *const *headings;
	size_t columns, n, cap;
	char **cells;
	Oid *types;
};

static size_t width_of(const char *text)
{
	size_t n = 0;

	for (; *text != '\0'; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

/* Text from chat may hold anything; a terminal must not obey it. */
static void put_plain(const char *text, size_t pad)
{
	size_t n = 0;

	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		putchar(c < 0x20 || c == 0x7f ? ' ' : c);
		n += (c & 0xc0) != 0x80;
	}
	while (n++ < pad)
		putchar(' ');
}

static void print_columns(const char *const *headings, size_t columns, const char *const *cells, size_t n)
{
	size_t *width = XNEW_N(size_t, columns);

	for (size_t c = 0; c < columns; c++)
		width[c] = width_of(headings[c]);
	for (size_t i = 0; i < n; i++) {
		size_t w = width_of(cells[i]);

		w = w > COLUMN_MAX ? COLUMN_MAX : w;
		width[i % columns] = w > width[i % columns] ? w : width[i % columns];
	}
	for (size_t c = 0; c < columns; c++) {
		put_plain(headings[c], c + 1 < columns ? width[c] + 2 : 0);
		if (c + 1 == columns)
			putchar('\n');
	}
	for (size_t i = 0; i < n; i++) {
		put_plain(cells[i], (i + 1) % columns != 0 ? width[i % columns] + 2 : 0);
		if ((i + 1) % columns == 0)
			putchar('\n');
	}
	free(width);
}

static void put_json(struct buf *out, const char *text, Oid type, bool null)
{
	if (null)
		buf_add(out, STR("null"));
	else if (type == OID_BOOL)
		buf_add(out, *text == 't' ? STR("true") : STR("false"));
	else if (type == OID_INT8 || type == OID_INT4 || type == OID_INT2 || type == OID_NUMERIC ||
	         type == OID_JSON || type == OID_JSONB)
		buf_add(out, str_of(text));
	else
		buf_json(out, str_of(text));
}

static void flush(struct buf *out)
{
	struct str s;

	if (buf_str(out, &s) == 0)
		printf(STR_FMT "\n", STR_ARG(s));
	else
		fprintf(stderr, "waddle: the answer is larger than %d bytes\n", TABLE_MAX);
	buf_clear(out);
}

static void print_json(const PGresult *rows)
{
	struct buf out = BUF(TABLE_MAX);

	buf_add(&out, STR("["));
	for (int r = 0; r < PQntuples(rows); r++) {
		buf_add(&out, r == 0 ? STR("{") : STR(",\n{"));
		for (int c = 0; c < PQnfields(rows); c++) {
			if (c > 0)
				buf_add(&out, STR(","));
			buf_json(&out, str_of(PQfname(rows, c)));
			buf_add(&out, STR(":"));
			put_json(&out, PQgetvalue(rows, r, c), PQftype(rows, c), PQgetisnull(rows, r, c));
		}
		buf_add(&out, STR("}"));
	}
	buf_add(&out, STR("]"));
	flush(&out);
}

void table_print(const PGresult *rows, bool json)
{
	size_t columns = (size_t)PQnfields(rows), n = (size_t)PQntuples(rows);

	if (json) {
		print_json(rows);
		return;
	}
	const char **headings = XNEW_N(const char *, columns), **cells = XNEW_N(const char *, columns *n);

	for (size_t c = 0; c < columns; c++)
		headings[c] = PQfname(rows, (int)c);
	for (size_t i = 0; i < columns * n; i++) {
		int r = (int)(i / columns), c = (int)(i % columns);
		const char *text = PQgetvalue(rows, r, c);

		if (PQftype(rows, c) == OID_BOOL && !PQgetisnull(rows, r, c))
			text = *text == 't' ? "yes" : "no";
		cells[i] = text;
	}
	print_columns(headings, columns, cells, columns * n);
	free(cells);
	free(headings);
}

struct table *table_new(const char *const *headings, size_t n)
{
	struct table *t = XNEW(struct table);

	t->headings = headings;
	t->columns = n;
	return t;
}

static void add(struct table *t, char *text, Oid type)
{
	if (t->n == t->cap) {
		t->cap = t->cap > 0 ? t->cap * 2 : 64;
		t->cells = xgrow(t->cells, t->cap, sizeof(*t->cells));
		t->types = xgrow(t->types, t->cap, sizeof(*t->types));
	}
	t->cells[t->n] = text;
	t->types[t->n++] = type;
}

void table_text(struct table *t, const char *fmt, ...)
{
	char *text;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	ASSERT(n >= 0);
	add(t, text, InvalidOid);
}

void table_int(struct table *t, int64_t n)
{
	char *text;
	int len = asprintf(&text, "%lld", (long long)n);

	ASSERT(len >= 0);
	add(t, text, OID_INT8);
}

void table_end(struct table *t, bool json)
{
	struct buf out = BUF(TABLE_MAX);

	ASSERT(t->n % t->columns == 0);
	if (!json) {
		print_columns(t->headings, t->columns, (const char *const *)t->cells, t->n);
		return;
	}
	buf_add(&out, STR("["));
	for (size_t i = 0; i < t->n; i++) {
		if (i % t->columns == 0)
			buf_add(&out, i == 0 ? STR("{") : STR(",\n{"));
		else
			buf_add(&out, STR(","));
		buf_json(&out, str_of(t->headings[i % t->columns]));
		buf_add(&out, STR(":"));
		put_json(&out, t->cells[i], t->types[i], false);
		if ((i + 1) % t->columns == 0)
			buf_add(&out, STR("}"));
	}
	buf_add(&out, STR("]"));
	flush(&out);
}

void table_free(struct table *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->cells[i]);
	free(t->cells);
	free(t->types);
	free(t);
}

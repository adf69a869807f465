/* metrics.c - counting, and the Prometheus text format 0.0.4. */
#include "metrics.h"

static const int64_t bounds_ms[] = METRIC_BOUNDS_MS;
_Static_assert(ARRAY_LEN(bounds_ms) == METRIC_BUCKETS, "one bucket per bound");

static struct metric_cell *cell_of(struct metric *m, unsigned cell)
{
	ASSERT(cell < m->n_cells);
	return &m->cells[cell];
}

void metric_add(struct metric *m, unsigned cell, uint64_t n)
{
	cell_of(m, cell)->value += n;
}

void metric_set(struct metric *m, unsigned cell, int64_t v)
{
	cell_of(m, cell)->value = (uint64_t)v;
}

void metric_observe_us(struct metric *m, unsigned cell, int64_t us)
{
	struct metric_cell *c = cell_of(m, cell);
	size_t i = 0;

	ASSERT(m->kind == METRIC_HISTOGRAM);
	if (us < 0)
		us = 0;
	while (i < METRIC_BUCKETS && us > bounds_ms[i] * 1000)
		i++;
	c->bucket[i]++;
	c->sum_us += (uint64_t)us;
	c->value++;
}

void metric_observe(struct metric *m, unsigned cell, int64_t n)
{
	metric_observe_us(m, cell, n < INT64_MAX / 1000 ? n * 1000 : INT64_MAX);
}

/* In help texts \ and newline are escaped, in label values also " (the format's own rules). */
static void escaped(struct buf *out, const char *text, bool quotes)
{
	for (const char *p = text; *p != '\0'; p++) {
		if (*p == '\\')
			buf_add(out, STR("\\\\"));
		else if (*p == '\n')
			buf_add(out, STR("\\n"));
		else if (*p == '"' && quotes)
			buf_add(out, STR("\\\""));
		else
			buf_add(out, (struct str){ p, 1 });
	}
}

static void label_of(struct buf *out, const char *name, const char *value, const char *before)
{
	buf_printf(out, "%s%s=\"", before, name);
	escaped(out, value, true);
	buf_add(out, STR("\""));
}

/* name_suffix{label="value",le="5"} - either, both or none of the two. */
static void name_of(struct buf *out, const struct metric *m, unsigned cell, const char *suffix, const char *le)
{
	buf_printf(out, "%s%s", m->name, suffix);
	if (m->label == NULL && le == NULL)
		return;
	buf_add(out, STR("{"));
	if (m->label != NULL) {
		unsigned n[2] = { m->more[0].n > 0 ? m->more[0].n : 1, m->more[1].n > 0 ? m->more[1].n : 1 };

		label_of(out, m->label, m->values[cell / (n[0] * n[1])], "");
		if (m->more[0].n > 0)
			label_of(out, m->more[0].name, m->more[0].values[cell / n[1] % n[0]], ",");
		if (m->more[1].n > 0)
			label_of(out, m->more[1].name, m->more[1].values[cell % n[1]], ",");
	}
	if (le != NULL)
		label_of(out, "le", le, m->label != NULL ? "," : "");
	buf_add(out, STR("}"));
}

/* Bounds and sum in the unit of the name; exact, no floating point. */
static void histogram(struct buf *out, const struct metric *m, unsigned cell)
{
	const struct metric_cell *c = &m->cells[cell];
	struct str name = str_of(m->name), unit = STR("_seconds");
	bool seconds = name.n > unit.n && str_eq((struct str){ name.p + name.n - unit.n, unit.n }, unit);
	uint64_t below = 0, per = seconds ? 1000000 : 1000;

	for (size_t i = 0; i <= METRIC_BUCKETS; i++) {
		char le[24] = "+Inf";

		if (i < METRIC_BUCKETS && seconds && bounds_ms[i] < 1000)
			snprintf(le, sizeof(le), "0.%03d", (int)bounds_ms[i]);
		else if (i < METRIC_BUCKETS)
			snprintf(le, sizeof(le), "%d", (int)(bounds_ms[i] / (seconds ? 1000 : 1)));
		below += c->bucket[i];
		name_of(out, m, cell, "_bucket", le);
		buf_printf(out, " %llu\n", (unsigned long long)below);
	}
	name_of(out, m, cell, "_sum", NULL);
	buf_printf(out, " %llu.%0*llu\n", (unsigned long long)(c->sum_us / per), seconds ? 6 : 3,
	           (unsigned long long)(c->sum_us % per));
	name_of(out, m, cell, "_count", NULL);
	buf_printf(out, " %llu\n", (unsigned long long)c->value);
}

void metric_text(struct metric *const *all, struct buf *out)
{
	static const char *const kinds[] = {
		[METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram",
	};

	for (; *all != NULL; all++) {
		const struct metric *m = *all;

		buf_printf(out, "# HELP %s ", m->name);
		escaped(out, m->help, false);
		buf_printf(out, "\n# TYPE %s %s\n", m->name, kinds[m->kind]);
		for (unsigned cell = 0; cell < m->n_cells; cell++) {
			/* Of three labels most combinations never happen. */
			if (m->more[1].n > 0 && m->cells[cell].value == 0)
				continue;
			if (m->kind == METRIC_HISTOGRAM) {
				histogram(out, m, cell);
				continue;
			}
			name_of(out, m, cell, "", NULL);
			if (m->kind == METRIC_GAUGE)
				buf_printf(out, " %lld\n", (long long)m->cells[cell].value);
			else
				buf_printf(out, " %llu\n", (unsigned long long)m->cells[cell].value);
		}
	}
}

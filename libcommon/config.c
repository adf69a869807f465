/* config.c - the environment read through tables.  Values of one type are in config_value.c. */
#define BANNED_EXCEPT_GETENV
#include "config_value.h"

#include "err.h"

#include <fcntl.h>
#include <unistd.h>

enum { VALUE_BYTES_MAX = 64 * 1024, COMPLAINTS_MAX = 16 * 1024 };

/* What is read before anything is stored: either all of it is right or nothing is touched. */
struct value { bool ok; struct str text; };     /* text is owned, with a NUL behind */

static struct str own(struct str s)
{
	char *p = xgrow(NULL, s.n + 1, 1);

	if (s.n > 0)
		memcpy(p, s.p, s.n);
	p[s.n] = '\0';
	return (struct str){ p, s.n };
}

static void disown(struct str *s)
{
	char *p = (char *)(uintptr_t)s->p;

	if (p != NULL)
		explicit_bzero(p, s->n);
	free(p);
	*s = STR_NONE;
}

/* The first line of a file, blanks at its ends removed. */
static int first_line(const char *path, struct str *ret, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text = NULL;
	size_t n = 0;
	ssize_t got;
	struct str rest;

	if (fd < 0)
		return err_sys(err, "%s", path);
	text = xgrow(NULL, VALUE_BYTES_MAX, 1);
	while ((got = read(fd, text + n, VALUE_BYTES_MAX - n)) > 0)
		n += (size_t)got;
	if (got < 0)
		err_sys(err, "%s", path);
	close(fd);
	if (got == 0)
		*ret = own(str_trim(str_cut((struct str){ text, n }, '\n', &rest)));
	explicit_bzero(text, n);
	free(text);
	return got < 0 ? err->code : 0;
}

static bool is_text(enum cfg_type type)
{
	switch (type) {
	case CFG_STR: case CFG_SECRET: case CFG_URL: case CFG_LISTEN:
		return true;
	case CFG_KEY: case CFG_INT: case CFG_MS: case CFG_BYTES: case CFG_BOOL: case CFG_ENUM:
		return false;
	}
	return false;
}

static bool is_required(const struct cfg_var *v, const char *const *required)
{
	for (; required != NULL && *required != NULL; required++)
		if (strcmp(*required, v->env) == 0)
			return true;
	return v->def == NULL;
}

/* From NAME, NAME_FILE or the default; complains and returns false when there is none. */
static bool fetch(const struct cfg_var *v, bool required, struct str *ret, struct buf *complaints)
{
	char name[128];
	struct err err = { 0 };
	const char *direct = getenv(v->env), *path;

	snprintf(name, sizeof(name), "%s_FILE", v->env);
	path = getenv(name);
	if (path != NULL && path[0] == '\0')
		path = NULL;
	if (direct != NULL && direct[0] != '\0' && path != NULL) {
		buf_printf(complaints, "%s and %s are both set\n", v->env, name);
		return false;
	}
	if (path != NULL) {
		if (first_line(path, ret, &err) < 0) {
			buf_printf(complaints, "%s: %s\n", name, err.text);
			return false;
		}
	} else {
		*ret = own(str_of(direct != NULL ? direct : v->def));
	}
	if (ret->n == 0 && (required || !is_text(v->type)) &&
	    !(direct == NULL && path == NULL && !required)) {
		buf_printf(complaints, "%s: must be set (%s)\n", v->env, v->help);
		disown(ret);
		return false;
	}
	return true;
}

/* Everything of a table, checked and kept as text. */
static struct value *read_table(const struct cfg_var *vars, const char *const *required, struct buf *complaints)
{
	size_t n = 0;
	struct value *values;

	while (vars[n].env != NULL)
		n++;
	values = XNEW_N(struct value, n);
	for (size_t i = 0; i < n; i++) {
		const struct cfg_var *v = &vars[i];
		struct err err = { 0 };

		if (!fetch(v, is_required(v, required), &values[i].text, complaints))
			continue;
		if (cfg_value_parse(v, values[i].text, NULL, &err) == 0)
			values[i].ok = true;
		else if (cfg_value_is_secret(v, values[i].text))
			buf_printf(complaints, "%s: %s (value of %zu bytes not shown)\n", v->env, err.text,
			           values[i].text.n);
		else
			buf_printf(complaints, "%s=%.200s: %s\n", v->env, values[i].text.p, err.text);
	}
	return values;
}

static void drop_table(const struct cfg_var *vars, struct value *values)
{
	for (size_t i = 0; vars[i].env != NULL; i++)
		disown(&values[i].text);
	free(values);
}

static void store_table(const struct cfg_var *vars, struct value *values, void *settings)
{
	for (size_t i = 0; vars[i].env != NULL; i++) {
		char *field = (char *)settings + vars[i].offset;
		int r;

		if (is_text(vars[i].type)) {
			memcpy(field, &values[i].text, sizeof(struct str));
			values[i].text = STR_NONE;      /* given away */
			continue;
		}
		r = cfg_value_parse(&vars[i], values[i].text, field, NULL);
		ASSERT(r == 0);
	}
}

/* What the container platform puts into every environment for services of any name. */
static bool set_by_platform(struct str name)
{
	static const char *const marks[] = { "_SERVICE_HOST", "_SERVICE_PORT", "_PORT_" };
	struct str last = STR("_PORT");

	for (size_t i = 0; i < ARRAY_LEN(marks); i++)
		if (memmem(name.p, name.n, marks[i], strlen(marks[i])) != NULL)
			return true;
	return name.n > last.n && str_eq((struct str){ name.p + name.n - last.n, last.n }, last);
}

static bool is_known(const struct cfg_part *parts, size_t n, struct str name)
{
	struct str file = STR("_FILE"), bare = name;

	if (name.n > file.n && str_eq((struct str){ name.p + name.n - file.n, file.n }, file))
		bare.n -= file.n;
	for (size_t i = 0; i < n; i++)
		for (const struct cfg_var *v = parts[i].vars; v->env != NULL; v++)
			if (str_eq(name, str_of(v->env)) || str_eq(bare, str_of(v->env)))
				return true;
	return false;
}

/* The known name this one looks like, or NULL. */
static const char *meant(const struct cfg_part *parts, size_t n, struct str name)
{
	struct str rest, ignored, word = str_cut(name, '_', &rest);

	for (size_t i = 0; i < n; i++)
		for (const struct cfg_var *v = parts[i].vars; v->env != NULL; v++)
			if (strlen(v->env) >= 8 && cfg_distance(str_of(v->env), name) <= 2)
				return v->env;
	for (size_t i = 0; i < n; i++) {
		const char *same_word = NULL;

		for (const struct cfg_var *v = parts[i].vars; v->env != NULL; v++) {
			if (rest.n == 0 || !str_eq(word, str_cut(str_of(v->env), '_', &ignored)))
				continue;
			if (same_word != NULL)
				return v->env;
			same_word = v->env;
		}
	}
	return NULL;
}

static void look_for_typos(const struct cfg_part *parts, size_t n, struct buf *complaints)
{
	for (char **e = environ; e != NULL && *e != NULL; e++) {
		struct str value, name = str_cut(str_of(*e), '=', &value);
		const char *like;

		if (str_starts(name, STR("KAFKA_")) || set_by_platform(name) || is_known(parts, n, name))
			continue;
		like = meant(parts, n, name);
		if (like != NULL)
			buf_printf(complaints, STR_FMT ": unknown, see --help; like %s\n", STR_ARG(name),
			           like);
	}
}

static void check_kafka_files(struct buf *complaints);

int cfg_load_all(const struct cfg_part *parts, size_t n, const char *const *required,
                 struct buf *complaints, struct err *err)
{
	struct value **values = XNEW_N(struct value *, n);
	struct buf own_complaints = BUF(COMPLAINTS_MAX);
	struct str all, first, rest = STR_NONE;
	unsigned count = 0;
	int r = 0;

	for (size_t i = 0; i < n; i++)
		values[i] = read_table(parts[i].vars, required, &own_complaints);
	look_for_typos(parts, n, &own_complaints);
	check_kafka_files(&own_complaints);
	if (own_complaints.failed != 0 || own_complaints.n > 0) {
		all = (struct str){ own_complaints.p, own_complaints.n };
		buf_add(complaints, all);
		for (size_t i = 0; i < all.n; i++)
			count += all.p[i] == '\n';
		first = str_cut(all, '\n', &rest);
		r = err_set(err, -EINVAL, "%u bad setting%s: " STR_FMT "%s", count, count == 1 ? "" : "s",
		            STR_ARG(first), count == 1 ? "" : " ...");
	}
	for (size_t i = 0; i < n; i++) {
		if (r == 0)
			store_table(parts[i].vars, values[i], parts[i].settings);
		drop_table(parts[i].vars, values[i]);
	}
	free(values);
	buf_clear(&own_complaints);
	return r;
}

/* All complaints on the one line of an err, cut to fit. */
int cfg_load(const struct cfg_var *vars, void *settings, struct err *err)
{
	struct cfg_part part = { vars, settings };
	struct buf complaints = BUF(COMPLAINTS_MAX);
	int r = cfg_load_all(&part, 1, NULL, &complaints, err);

	if (r < 0 && complaints.n > 0) {
		for (size_t i = 0; i < complaints.n; i++)
			if (complaints.p[i] == '\n')
				complaints.p[i] = i + 1 < complaints.n ? ';' : ' ';
		r = err_set(err, r, "%.*s", (int)complaints.n, complaints.p);
	}
	buf_clear(&complaints);
	return r;
}

void cfg_clear(const struct cfg_var *vars, void *settings)
{
	for (const struct cfg_var *v = vars; v->env != NULL; v++) {
		char *field = (char *)settings + v->offset;

		if (is_text(v->type)) {
			struct str s;

			memcpy(&s, field, sizeof(s));
			disown(&s);
			memcpy(field, &s, sizeof(s));
		} else if (v->type == CFG_KEY) {
			explicit_bzero(field, 32);
		}
	}
}

/* "    help text wrapped at 80 columns" */
static void print_wrapped(const char *text)
{
	struct str rest = str_of(text);
	size_t column = 0;

	while (rest.n > 0) {
		struct str word = str_cut(rest, ' ', &rest);

		if (column == 0 || column + 1 + word.n > 80) {
			printf("%s        " STR_FMT, column > 0 ? "\n" : "", STR_ARG(word));
			column = 8 + word.n;
		} else {
			printf(" " STR_FMT, STR_ARG(word));
			column += 1 + word.n;
		}
	}
	printf("\n");
}

void cfg_help(const struct cfg_var *vars)
{
	for (const struct cfg_var *v = vars; v->env != NULL; v++) {
		printf("  %s", v->env);
		if (v->def == NULL)
			printf("  (must be set)");
		else if (v->def[0] != '\0')
			printf("  (default %s)", v->def);
		if (v->choices != NULL) {
			printf("  one of:");
			for (const char *const *c = v->choices; *c != NULL; c++)
				printf(" %s", *c);
		}
		printf("\n");
		print_wrapped(v->help);
	}
}

/* "KAFKA_SECURITY_PROTOCOL" -> "security.protocol"; false: not a setting of the library. */
static bool kafka_name(struct str env, char *out, size_t size, bool *ret_file)
{
	struct str prefix = STR("KAFKA_"), file = STR("_FILE"), opts = STR("_OPTS");

	if (!str_starts(env, prefix) || env.n - prefix.n >= size || env.n == prefix.n ||
	    str_eq(env, STR("KAFKA_BROKERS")) || str_eq(env, STR("KAFKA_HOME")) || set_by_platform(env) ||
	    str_eq((struct str){ env.p + env.n - opts.n, opts.n }, opts))
		return false;
	*ret_file = env.n > prefix.n + file.n && str_eq((struct str){ env.p + env.n - file.n, file.n }, file);
	env = (struct str){ env.p + prefix.n, env.n - prefix.n - (*ret_file ? file.n : 0) };
	for (size_t i = 0; i < env.n; i++) {
		char c = env.p[i];

		out[i] = (char)(c == '_' ? '.' : c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
	}
	out[env.n] = '\0';
	if (strcmp(out, "log.level") == 0)      /* the one property with an underscore that makes sense here */
		out[3] = '_';
	return true;
}

static void each_kafka(void (*fn)(void *arg, const char *name, const char *value), void *arg,
                       struct buf *complaints)
{
	for (char **e = environ; e != NULL && *e != NULL; e++) {
		struct str value, name = str_cut(str_of(*e), '=', &value);
		char property[128];
		struct err err = { 0 };
		bool file;

		if (!kafka_name(name, property, sizeof(property), &file))
			continue;
		if (!file) {
			if (fn != NULL)
				fn(arg, property, value.n > 0 ? value.p : "");
			continue;
		}
		if (first_line(value.n > 0 ? value.p : "", &value, &err) < 0) {
			if (complaints != NULL)
				buf_printf(complaints, STR_FMT ": %s\n", STR_ARG(name), err.text);
			continue;
		}
		if (fn != NULL)
			fn(arg, property, value.p);
		disown(&value);
	}
}

void cfg_each_kafka(void (*fn)(void *arg, const char *name, const char *value), void *arg)
{
	each_kafka(fn, arg, NULL);
}

static void check_kafka_files(struct buf *complaints)
{
	each_kafka(NULL, NULL, complaints);
}

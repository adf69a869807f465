/* enable.c - see enable.h. */
#include "enable.h"

#include "cli.h"

#include <unistd.h>

enum { LOOK_EVERY_MS = 200 };

/* Names with their prefix, as an array for PostgreSQL; in, "all" is no name. */
static int names_of(const char *list, struct buf *out, bool *ret_all, struct err *err)
{
	struct str rest = str_of(list);
	int n = 0;

	*ret_all = strcmp(list, "all") == 0;
	buf_add(out, STR("["));
	while (rest.n > 0 && !*ret_all) {
		struct str name = str_trim(str_cut(rest, ',', &rest));
		bool prefixed = name.n > 0 && (*name.p == '!' || *name.p == '#');
		char text[256];

		if (name.n <= (prefixed ? 1u : 0u) || name.n > 101)
			return err_set(err, -EINVAL, "\"" STR_FMT "\" is not a command's name",
			               STR_ARG(name));
		snprintf(text, sizeof(text), "%s" STR_FMT, prefixed ? "" : "!", STR_ARG(name));
		if (n++ > 0)
			buf_add(out, STR(","));
		buf_json(out, str_of(text));
	}
	buf_add(out, STR("]"));
	if (n == 0 && !*ret_all)
		return err_set(err, -EINVAL, "no command was named");
	return 0;
}

/* What is not registered, as "!a, !b"; free().  NULL: everything is. */
static int missing(PGconn *pg, const char *names, bool all, char **ret, struct err *err)
{
	PGresult *res =
		all ? PG_QUERY(pg, err,
	                       "SELECT 'any command' WHERE NOT EXISTS (SELECT FROM commands WHERE "
	                       "is_active)") :
		      PG_QUERY(pg, err,
	                       "SELECT string_agg(n, ', ') FROM jsonb_array_elements_text($1::jsonb) n WHERE "
	                       "NOT EXISTS "
	                       "(SELECT FROM commands c WHERE c.is_active AND c.prefix = left(n, 1) "
	                       "AND c.command = lower(substr(n, 2)))",
	                       names);

	if (res == NULL)
		return err->code;
	*ret = PQntuples(res) == 1 && !PQgetisnull(res, 0, 0) ? strdup(PQgetvalue(res, 0, 0)) : NULL;
	PQclear(res);
	return 0;
}

static int wait_registered(PGconn *pg, const char *names, bool all, int64_t wait_s, struct err *err)
{
	char *what = NULL;
	int r;

	for (int64_t left_ms = wait_s * 1000;; left_ms -= LOOK_EVERY_MS) {
		r = missing(pg, names, all, &what, err);
		if (r < 0 || what == NULL || left_ms <= 0)
			break;
		cli_progress("waiting for %s to be registered", what);
		free(what);
		usleep(LOOK_EVERY_MS * 1000);
	}
	cli_progress_end();
	if (r == 0 && what != NULL)
		r = err_set(err, -ENOENT,
		            "%s is not registered: start its module, then `waddle commands enable`", what);
	free(what);
	return r;
}

int enable_commands(PGconn *pg, const char *entity_id, const char *list, bool on, int64_t wait_s, int *ret_n,
                    struct err *err)
{
	struct buf out = BUF(64 * 1024);
	struct str names = STR_NONE;
	PGresult *res = NULL;
	bool all;
	int r = names_of(list, &out, &all, err);

	buf_add(&out, (struct str){ "", 1 }); /* the NUL libpq wants */
	if (r == 0 && buf_str(&out, &names) < 0)
		r = err_set(err, -EMSGSIZE, "too many commands were named");
	if (r == 0)
		r = wait_registered(pg, names.p, all, wait_s, err);
	if (r == 0) {
		res = PG_QUERY(
			pg, err,
			"INSERT INTO command_permissions AS p (command_id, entity_id, is_enabled) "
			"SELECT c.id, $1::integer, $4::boolean FROM commands c WHERE c.is_active AND "
			"($3::boolean OR "
			"c.prefix || c.command IN (SELECT left(n, 1) || lower(substr(n, 2)) "
			"FROM jsonb_array_elements_text($2::jsonb) n)) ORDER BY c.id "
			"ON CONFLICT (command_id, entity_id) DO UPDATE SET is_enabled = excluded.is_enabled",
			entity_id, names.p, all ? "true" : "false", on ? "true" : "false");
		r = res == NULL ? err->code : 0;
	}
	if (r == 0) {
		int64_t n = 0;

		r = str_int(str_of(PQcmdTuples(res)), 0, INT32_MAX, &n);
		*ret_n = (int)n;
	}
	PQclear(res);
	buf_clear(&out);
	return r;
}

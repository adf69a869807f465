/* db_stmt.c - prepared statements, known by the address of their SQL literal.
 *
 * The table is the db's: names and parameter types are the same on every connection.  Which
 * connection has prepared what is the connection's own knowledge (db_conn.prepared). */
#include "db_private.h"

static uint64_t place_of(const char *sql)
{
	return (uint64_t)(uintptr_t)sql * 0x9e3779b97f4a7c15u >> 20;
}

struct db_stmt *stmt_of(struct db_stmts *s, const char *sql)
{
	size_t at = place_of(sql) % ARRAY_LEN(s->slot);
	struct db_stmt *st;

	for (; s->slot[at] != 0; at = (at + 1) % ARRAY_LEN(s->slot)) {
		st = s->all[s->slot[at] - 1];
		if (st->sql == sql) {
			ASSERT(strcmp(st->text, sql) == 0);     /* a literal, not a buffer used twice */
			return st;
		}
	}
	ASSERT(s->n < DB_STMTS);
	st = XNEW(struct db_stmt);
	st->sql = sql;
	st->text = strdup(sql);
	ASSERT(st->text != NULL);
	st->index = s->n;
	snprintf(st->name, sizeof(st->name), "w%u", s->n);
	s->all[s->n++] = st;
	s->slot[at] = (uint16_t)s->n;
	return st;
}

void stmt_described(struct db_stmt *st, const PGresult *res)
{
	int n = PQnparams(res);

	if (st->described)
		return;
	st->types = XNEW_N(Oid, (size_t)n + 1);
	for (int i = 0; i < n; i++)
		st->types[i] = PQparamtype(res, i);
	st->n_types = n;
	st->described = true;
}

void stmt_forget_types(struct db_stmt *st)
{
	free(st->types);
	st->types = NULL;
	st->n_types = 0;
	st->described = false;
}

void stmts_clear(struct db_stmts *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		free(s->all[i]->types);
		free(s->all[i]->text);
		free(s->all[i]);
	}
	memset(s, 0, sizeof(*s));
}

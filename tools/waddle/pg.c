/* pg.c - see pg.h. */
#include "pg.h"

#include "settings.h"

/* Warnings of the server are for the person in front of the terminal; notices are not. */
static void noticed(void *arg, const PGresult *res)
{
	const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);

	(void)arg;
	if (severity != NULL && strcmp(severity, "WARNING") == 0)
		fprintf(stderr, "waddle: warning: %s\n", PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY));
}

int pg_err(PGconn *pg, const PGresult *res, struct err *err)
{
	const char *state = res != NULL ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
	const char *text = res != NULL ? PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY) : NULL;
	int code = state != NULL ? -EIO : -ENOTCONN;

	err_set(err, code, "%s", text != NULL ? text : PQerrorMessage(pg));
	if (state != NULL && err != NULL)
		snprintf(err->sqlstate, sizeof(err->sqlstate), "%s", state);
	return code;
}

int pg_open(PGconn **ret, struct err *err)
{
	const struct cfg_base *base;
	int r = settings_read(&base, err);

	if (r < 0)
		return r;
	if (base->database_url.n == 0)
		return err_set(err, -EINVAL, "DATABASE_URL is not set (postgresql://user@host/database)");
	const char *keys[] = { "dbname", "connect_timeout", "application_name", "client_encoding", NULL };
	const char *values[] = { base->database_url.p, "5", "waddle", "UTF8", NULL };
	PGconn *pg = PQconnectdbParams(keys, values, 1);

	if (pg == NULL)
		return err_set(err, -ENOMEM, "no memory for a connection");
	if (PQstatus(pg) != CONNECTION_OK) {
		r = err_set(err, -ENOTCONN, "no database: %s", PQerrorMessage(pg));
		PQfinish(pg);
		return r;
	}
	PQsetNoticeReceiver(pg, noticed, NULL);
	*ret = pg;
	return 0;
}

void pg_close(PGconn **pg)
{
	PQfinish(*pg);
	*pg = NULL;
}

PGresult *pg_query(PGconn *pg, struct err *err, const char *sql, int n, const char *const *params)
{
	PGresult *res = PQexecParams(pg, sql, n, NULL, params, NULL, NULL, 0);
	ExecStatusType status = PQresultStatus(res);

	if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
		return res;
	pg_err(pg, res, err);
	PQclear(res);
	return NULL;
}

int pg_run(PGconn *pg, struct err *err, const char *sql)
{
	PGresult *res = PQexec(pg, sql);
	ExecStatusType status = PQresultStatus(res);
	int r = 0;

	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
		r = pg_err(pg, res, err);
	PQclear(res);
	return r;
}

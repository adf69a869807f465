/* db_url.c - a connection string, taken apart: hosts to try one by one, options for all of them.
 *
 * What would make a connection depend on the machine is fixed here: encoding, time zone, date
 * style, time-outs.  TLS is required unless the host is this machine or the URL says otherwise. */
#include "db_private.h"

#include <arpa/inet.h>

static char *copy(const char *s)
{
	size_t n = strlen(s) + 1;
	char *p = XNEW_N(char, n);

	memcpy(p, s, n);
	return p;
}

static void add(struct db_url *url, const char *key, const char *value)
{
	ASSERT(url->n_opts < DB_OPTS - 8);      /* libpq 17 knows 45; link_connect() adds five */
	url->key[url->n_opts] = copy(key);
	url->value[url->n_opts++] = copy(value);
}

static const char *find(const struct db_url *url, const char *key)
{
	for (int i = 0; i < url->n_opts; i++)
		if (strcmp(url->key[i], key) == 0)
			return url->value[i];
	return NULL;
}

static char *copy_str(struct str s)
{
	char *p = XNEW_N(char, s.n + 1);

	memcpy(p, s.n > 0 ? s.p : "", s.n);
	return p;
}

static bool is_local(const char *host, const char *addr)
{
	const char *a = addr[0] != '\0' ? addr : host;

	return a[0] == '\0' || a[0] == '/' || a[0] == '@' || strcmp(a, "localhost") == 0 ||
	       strncmp(a, "127.", 4) == 0 || strcmp(a, "::1") == 0;
}

/* libpq: each list has one entry per host, or the port list a single one for all. */
static int hosts(struct db_url *url, const char *host, const char *addr, const char *port, struct err *err)
{
	struct str h = str_of(host), a = str_of(addr), p = str_of(port), one_port = p;

	do {
		struct str host1 = str_cut(h, ',', &h), addr1 = str_cut(a, ',', &a);
		struct str port1 = str_cut(p, ',', &p);

		if (url->n_hosts == DB_HOSTS)
			return err_set(err, -ENOEXEC, "more than %d database hosts", DB_HOSTS);
		if (port1.n == 0 && memchr(one_port.p != NULL ? one_port.p : "", ',', one_port.n) == NULL)
			port1 = one_port;
		url->hosts[url->n_hosts].host = copy_str(host1);
		url->hosts[url->n_hosts].addr = copy_str(addr1);
		url->hosts[url->n_hosts++].port = copy_str(port1);
	} while (h.n > 0 || a.n > 0);
	return 0;
}

static void options(struct db_url *url, const char *theirs, enum db_role role, int timeout_ms)
{
	struct buf b = BUF(4096);
	struct str s;

	/* Theirs last: the last one counts.
	 *
	 * Every statement is prepared and short.  Planning it anew with its values, as PostgreSQL does
	 * when there are arrays, costs several times its execution (3 ms over a partitioned table):
	 * one plan for all values, renewed now and then (conn_replan()). */
	buf_printf(&b, "-c plan_cache_mode=force_generic_plan -c jit=off "
	           "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c bytea_output=hex "
	           "-c statement_timeout=%d -c lock_timeout=%d -c idle_in_transaction_session_timeout=%d",
	           timeout_ms, timeout_ms / 4 * 3, timeout_ms + 1000);
	if (role == DB_ROLE_READ)
		buf_printf(&b, " -c default_transaction_read_only=on");
	if (theirs != NULL)
		buf_printf(&b, " %s", theirs);
	buf_add(&b, (struct str){ "", 1 });
	if (buf_str(&b, &s) == 0)
		add(url, "options", s.p);
	buf_clear(&b);
}

int db_url_parse(struct db_url *url, struct str text, enum db_role role, const char *app,
                 int timeout_ms, struct err *err)
{
	static const char *const ours[] = { "host", "hostaddr", "port", "options", "connect_timeout",
		"client_encoding", "fallback_application_name", "target_session_attrs", "load_balance_hosts" };
	const char *host = NULL, *addr = NULL, *port = NULL, *opts = NULL;
	char *copied = copy_str(text), *why = NULL;
	PQconninfoOption *all = PQconninfoParse(copied, &why);
	bool local = true;
	int r = 0;

	*url = (struct db_url){ 0 };
	free(copied);
	if (why != NULL)
		PQfreemem(why);                 /* may quote the password */
	if (all == NULL)
		return err_set(err, -ENOEXEC, "not a PostgreSQL connection URL");
	for (const PQconninfoOption *o = all; o->keyword != NULL; o++) {
		bool taken = false;

		if (o->val == NULL)
			continue;
		if (strcmp(o->keyword, "host") == 0)
			host = o->val;
		else if (strcmp(o->keyword, "hostaddr") == 0)
			addr = o->val;
		else if (strcmp(o->keyword, "port") == 0)
			port = o->val;
		else if (strcmp(o->keyword, "options") == 0)
			opts = o->val;
		for (size_t i = 0; i < ARRAY_LEN(ours); i++)
			taken |= strcmp(o->keyword, ours[i]) == 0;
		if (!taken)
			add(url, o->keyword, o->val);
	}
	r = hosts(url, host, addr, port, err);
	options(url, opts, role, timeout_ms);
	PQconninfoFree(all);
	for (int i = 0; i < url->n_hosts; i++)
		local &= is_local(url->hosts[i].host, url->hosts[i].addr);
	add(url, "client_encoding", "UTF8");
	add(url, "fallback_application_name", app);
	if (find(url, "sslmode") == NULL)
		add(url, "sslmode", local ? "disable" : "verify-full");
	if (find(url, "gssencmode") == NULL)
		add(url, "gssencmode", "disable");      /* Kerberos blocks */
	if (find(url, "keepalives_idle") == NULL)
		add(url, "keepalives_idle", "30");
	if (find(url, "tcp_user_timeout") == NULL)
		add(url, "tcp_user_timeout", "15000");
	return r;
}

void db_url_clear(struct db_url *url)
{
	for (int i = 0; i < url->n_hosts; i++) {
		free(url->hosts[i].host);
		free(url->hosts[i].addr);
		free(url->hosts[i].port);
	}
	for (int i = 0; i < url->n_opts; i++) {
		free(url->key[i]);
		free(url->value[i]);
	}
	*url = (struct db_url){ 0 };
}

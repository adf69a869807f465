/* cmd_keys.c - waddle keys: API keys of services (contracts.md 3); only their SHA-256 is kept. */
#include "arena.h"
#include "cli.h"
#include "commands.h"
#include "crypto.h"
#include "pg.h"
#include "table.h"

static const char *const types[] = { "collector", "interaction", "webhook", "admin" };

enum { HINT_CHARS = 9 }; /* "wbot_" and four more: enough to tell keys apart, not to guess */

static bool known_type(const char *type)
{
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (strcmp(types[i], type) == 0)
			return true;
	return false;
}

/* A new key and what of it is stored. */
struct key {
	struct str text;
	char sha256[3 + 2 * CRYPTO_SHA256], hint[HINT_CHARS + 1];
};

static void make_key(struct key *k, struct arena *mem)
{
	unsigned char sha[CRYPTO_SHA256];

	k->text = crypto_token("wbot_", mem);
	crypto_sha256(k->text, sha);
	memcpy(k->sha256, "\\x", 2);
	for (size_t i = 0; i < sizeof(sha); i++)
		snprintf(k->sha256 + 2 + 2 * i, 3, "%02x", sha[i]);
	snprintf(k->hint, sizeof(k->hint), "%s", k->text.p);
}

static int insert(const char *name, const char *type, int64_t rate, int64_t days, bool may_act,
                  const struct key *k, struct err *err)
{
	char rate_text[24], days_text[24];
	PGconn *pg;
	PGresult *res;

	snprintf(rate_text, sizeof(rate_text), "%lld", (long long)rate);
	snprintf(days_text, sizeof(days_text), "%lld", (long long)days);
	if (pg_open(&pg, err) < 0)
		return err->code;
	res = PG_QUERY(
		pg, err,
		"INSERT INTO service_accounts (name, key_sha256, key_hint, key_type, rate_limit, may_act, "
		"expires_at, created_by) VALUES ($1, $2, $3, $4, $5, $6, "
		"CASE WHEN $7::integer > 0 THEN now() + make_interval(days => $7::integer) END, "
		"current_user)",
		name, k->sha256, k->hint, type, rate_text, may_act ? "true" : "false", days_text);
	if (res == NULL && strcmp(err->sqlstate, "23505") == 0)
		err_set(err, -EEXIST, "there is a key named \"%s\" already; names are not used again", name);
	PQclear(res);
	pg_close(&pg);
	return res != NULL ? 0 : err->code;
}

static int create(int argc, char **argv)
{
	const char *type = "";
	int64_t rate = 10000, days = 0;
	bool json = false, may_act = false;
	struct err err = { 0 };
	struct arena *mem;
	struct key k;
	int r, status;
	const struct opt opts[] = {
		{ .name = "type",
		  .type = OPT_TEXT,
		  .to = &type,
		  .value = "type",
		  .help = "collector, interaction, webhook or admin; must be given" },
		{ .name = "rate-limit",
		  .type = OPT_INT,
		  .to = &rate,
		  .value = "n",
		  .min = 0,
		  .max = INT32_MAX,
		  .help = "requests an hour (10000); 0: no limit" },
		{ .name = "expires-days",
		  .type = OPT_INT,
		  .to = &days,
		  .value = "n",
		  .min = 1,
		  .max = 36500,
		  .help = "valid so long; otherwise until it is revoked" },
		{ .name = "may-act",
		  .type = OPT_FLAG,
		  .to = &may_act,
		  .help = "its X-Acting-* headers are believed: for services that act for people" },
		{ .name = "json", .type = OPT_FLAG, .to = &json, .help = "for scripts" },
		{ 0 },
	};

	if (cli_options(opts, "<name> --type <type>", "Makes a key and prints it, this once.", argc, argv, 1,
	                1, &status) < 0)
		return status;
	if (!known_type(type))
		return cli_misused(argv[0], "--type must be collector, interaction, webhook or admin%s%s%s",
		                   *type != '\0' ? ", not \"" : "", type, *type != '\0' ? "\"" : "");
	mem = arena_new(4096, 65536);
	make_key(&k, mem);
	r = insert(argv[1], type, rate, days, may_act, &k, &err);
	if (r == 0 && json) {
		struct buf out = BUF(4096);
		struct str s = STR_NONE;

		buf_add(&out, STR("{\"name\":"));
		buf_json(&out, str_of(argv[1]));
		buf_printf(&out, ",\"key_type\":\"%s\",\"key\":\"" STR_FMT "\"}", type, STR_ARG(k.text));
		if (buf_str(&out, &s) == 0)
			printf(STR_FMT "\n", STR_ARG(s));
		buf_clear(&out);
	} else if (r == 0) {
		printf(STR_FMT "\n", STR_ARG(k.text));
		fprintf(stderr, "This is the only time the key of \"%s\" (%s) is shown.\n", argv[1], type);
	}
	arena_free(mem);
	return r == 0 ? CLI_OK : cli_fail(&err);
}

static int list(int argc, char **argv)
{
	bool json = false;
	struct err err = { 0 };
	PGconn *pg;
	PGresult *res;
	int status;
	const struct opt opts[] = {
		{ .name = "json", .type = OPT_FLAG, .to = &json, .help = "for scripts" },
		{ 0 },
	};

	if (cli_options(opts, "[--json]", "Shows the keys, without what is secret.", argc, argv, 0, 0,
	                &status) < 0)
		return status;
	if (pg_open(&pg, &err) < 0)
		return cli_fail(&err);
	res = PG_QUERY(pg, &err,
	               "SELECT name, key_type AS type, key_hint || '…' AS key, "
	               "CASE WHEN NOT is_active THEN 'revoked' WHEN expires_at <= now() THEN 'expired' ELSE "
	               "'active' END AS state, "
	               "rate_limit AS per_hour, may_act, to_char(expires_at AT TIME ZONE 'UTC', "
	               "'YYYY-MM-DD') AS expires, "
	               "to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS created FROM "
	               "service_accounts ORDER BY name");
	if (res != NULL)
		table_print(res, json);
	PQclear(res);
	pg_close(&pg);
	return res != NULL ? CLI_OK : cli_fail(&err);
}

static int revoke(int argc, char **argv)
{
	struct err err = { 0 };
	PGconn *pg;
	PGresult *res;
	int status;
	const struct opt opts[] = { { 0 } };

	if (cli_options(opts, "<name>", "Makes a key useless; within a minute every service refuses it.",
	                argc, argv, 1, 1, &status) < 0)
		return status;
	if (pg_open(&pg, &err) < 0)
		return cli_fail(&err);
	res = PG_QUERY(pg, &err, "UPDATE service_accounts SET is_active = false WHERE name = $1", argv[1]);
	if (res != NULL && strcmp(PQcmdTuples(res), "0") == 0)
		err_set(&err, -ENOENT, "there is no key named \"%s\"", argv[1]);
	PQclear(res);
	pg_close(&pg);
	if (err.code != 0)
		return cli_fail(&err);
	printf("revoked \"%s\"\n", argv[1]);
	return CLI_OK;
}

int cmd_keys(int argc, char **argv)
{
	static const struct cli_command commands[] = {
		{ "create", "<name> --type <type>", "make a key and print it, this once", create },
		{ "list", "[--json]", "show names, types and states", list },
		{ "revoke", "<name>", "make a key useless", revoke },
		{ 0 },
	};

	return cli_run(commands, "waddle keys - API keys of services", argc, argv);
}

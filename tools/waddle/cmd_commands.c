/* cmd_commands.c - waddle commands: what modules registered, and where it may run. */
#include "cli.h"
#include "commands.h"
#include "enable.h"
#include "pg.h"
#include "table.h"

static int entity_id_of(PGconn *pg, const char *address, char out[24], struct err *err)
{
	PGresult *res = PG_QUERY(pg, err, "SELECT entity_id FROM entities WHERE address = $1", address);
	int r = res == NULL ? err->code : 0;

	if (r == 0 && PQntuples(res) == 0)
		r = err_set(err, -ENOENT, "there is no entity \"%s\"; waddle servers add makes one", address);
	if (r == 0)
		snprintf(out, 24, "%s", PQgetvalue(res, 0, 0));
	PQclear(res);
	return r;
}

static int list(int argc, char **argv)
{
	const char *entity = NULL;
	char entity_id[24] = "";
	bool json = false;
	struct err err = { 0 };
	PGconn *pg;
	PGresult *res = NULL;
	int r = 0, status;
	const struct opt opts[] = {
		{ .name = "entity",
		  .type = OPT_TEXT,
		  .to = &entity,
		  .value = "address",
		  .help = "also show what is enabled there, and how often it was used" },
		{ .name = "json", .type = OPT_FLAG, .to = &json, .help = "for scripts" },
		{ 0 },
	};

	if (cli_options(opts, "[--entity <address>] [--json]", "Shows the registered commands.", argc, argv,
	                0, 0, &status) < 0)
		return status;
	if (pg_open(&pg, &err) < 0)
		return cli_fail(&err);
	if (entity != NULL)
		r = entity_id_of(pg, entity, entity_id, &err);
	if (r == 0 && entity == NULL)
		res = PG_QUERY(pg, &err,
		               "SELECT prefix || command AS command, module_id AS module, type, min_role, "
		               "rate_limit, timeout, "
		               "is_active AS active, (SELECT count(*) FROM command_permissions p WHERE "
		               "p.command_id = c.id "
		               "AND p.is_enabled) AS enabled_in, description FROM commands c ORDER BY "
		               "command, prefix, module_id");
	else if (r == 0)
		/* The row of the channel decides; without one that of its whole server (router.md 7). */
		res = PG_QUERY(pg, &err,
		               "SELECT c.prefix || c.command AS command, c.module_id AS module, c.is_active "
		               "AS active, "
		               "coalesce(p.is_enabled, s.is_enabled, false) AS enabled, "
		               "CASE WHEN p.id IS NOT NULL THEN 'channel' WHEN s.id IS NOT NULL THEN "
		               "'server' ELSE 'none' END AS by, "
		               "coalesce(p.usage_count, s.usage_count, 0) AS used, "
		               "to_char(coalesce(p.last_used, s.last_used) AT TIME ZONE 'UTC', 'YYYY-MM-DD "
		               "HH24:MI') AS last_used "
		               "FROM commands c JOIN entities e ON e.entity_id = $1 "
		               "LEFT JOIN command_permissions p ON p.command_id = c.id AND p.entity_id = "
		               "e.entity_id "
		               "LEFT JOIN entities w ON w.platform = e.platform AND w.server_id = "
		               "e.server_id AND w.channel_id IS NULL "
		               "AND e.channel_id IS NOT NULL "
		               "LEFT JOIN command_permissions s ON s.command_id = c.id AND s.entity_id = "
		               "w.entity_id "
		               "ORDER BY c.command, c.prefix, c.module_id",
		               entity_id);
	if (res != NULL)
		table_print(res, json);
	PQclear(res);
	pg_close(&pg);
	return err.code == 0 ? CLI_OK : cli_fail(&err);
}

static int change(int argc, char **argv, bool on)
{
	struct err err = { 0 };
	char entity_id[24];
	PGconn *pg;
	int64_t wait_s = 0;
	int n = 0, r, status;
	const struct opt opts[] = {
		{ .name = "wait",
		  .type = OPT_INT,
		  .to = &wait_s,
		  .value = "s",
		  .min = 0,
		  .max = 3600,
		  .help = "seconds to wait for a command that is not registered yet (0)" },
		{ 0 },
	};

	if (cli_options(
		    opts, "<command>[,<command>...] <entity>",
		    on ? "Lets commands run in a channel (twitch:141981764) or whole server (discord:42:);\n"
			 "\"all\" means every command that is registered now." :
			 "Stops commands in a channel or whole server; they are silent there.",
		    argc, argv, 2, 2, &status) < 0)
		return status;
	if (pg_open(&pg, &err) < 0)
		return cli_fail(&err);
	r = entity_id_of(pg, argv[2], entity_id, &err);
	if (r == 0)
		r = enable_commands(pg, entity_id, argv[1], on, wait_s, &n, &err);
	pg_close(&pg);
	if (r < 0)
		return cli_fail(&err);
	printf("%s %d command%s in %s\n", on ? "enabled" : "disabled", n, n == 1 ? "" : "s", argv[2]);
	return CLI_OK;
}

static int enable(int argc, char **argv)
{
	return change(argc, argv, true);
}

static int disable(int argc, char **argv)
{
	return change(argc, argv, false);
}

int cmd_commands(int argc, char **argv)
{
	static const struct cli_command commands[] = {
		{ "list", "[--entity <address>] [--json]", "show what is registered", list },
		{ "enable", "<command> <entity>", "let it run there", enable },
		{ "disable", "<command> <entity>", "stop it there", disable },
		{ 0 },
	};

	return cli_run(commands, "waddle commands - what is registered, and where it is enabled", argc, argv);
}

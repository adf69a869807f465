/* cmd_servers.c - waddle servers: which channels and servers the suite serves.
 *
 * Adding one makes everything a channel needs to get answers: the community, the servers row, the
 * entity, the collector's own row, the enabled commands.  Adding it again changes what is given
 * and repairs what is missing. */
#include "cli.h"
#include "commands.h"
#include "enable.h"
#include "entity.h"
#include "pg.h"
#include "table.h"

struct server {
	const char *platform, *server, *channel; /* NULL: not on this platform; the whole server */
	const char *community, *owner, *name, *enable, *bot;
	int64_t wait_s;
	char address[600], community_id[24], entity_id[24];
};

static bool has_servers(const char *platform)
{
	return strcmp(platform, "discord") == 0 || strcmp(platform, "slack") == 0;
}

static bool platform_ok(const char *platform)
{
	size_t n = strlen(platform);

	return n >= 1 && n <= 32 && strspn(platform, "abcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

static int address_of(struct server *s, struct err *err)
{
	struct buf out = BUF(sizeof(s->address) - 1);
	struct str text;
	int r;

	entity_make((struct entity){ str_of(s->platform), str_of(s->server), str_of(s->channel) }, &out);
	r = buf_str(&out, &text);
	if (r == 0)
		snprintf(s->address, sizeof(s->address), STR_FMT, STR_ARG(text));
	buf_clear(&out);
	return r == 0 ? 0 : err_set(err, -EINVAL, "this is not an address on %s", s->platform);
}

/* First column of the first row, or what err says. */
static int get(PGresult *res, char *out, size_t n, struct err *err)
{
	if (res == NULL)
		return err->code;
	snprintf(out, n, "%s", PQntuples(res) > 0 ? PQgetvalue(res, 0, 0) : "");
	PQclear(res);
	return 0;
}

static int done(PGresult *res, struct err *err)
{
	PQclear(res);
	return res == NULL ? err->code : 0;
}

/* Its owner is who brought it here; a community that exists keeps the owner it has. */
static int add_community(PGconn *pg, struct server *s, struct err *err)
{
	char made[24];
	int r;

	if (s->community == NULL) {
		s->community_id[0] = '\0';
		return 0;
	}
	r = get(PG_QUERY(pg, err,
	                 "INSERT INTO communities (name, display_name) VALUES ($1, $1) ON CONFLICT "
	                 "(lower(name)) DO NOTHING "
	                 "RETURNING id",
	                 s->community),
	        made, sizeof(made), err);
	if (r == 0)
		r = get(PG_QUERY(pg, err, "SELECT id FROM communities WHERE lower(name) = lower($1)",
		                 s->community),
		        s->community_id, sizeof(s->community_id), err);
	if (r == 0 && made[0] != '\0')
		r = done(PG_QUERY(pg, err,
		                  "INSERT INTO community_members (community_id, platform, user_id, "
		                  "user_name, role) "
		                  "VALUES ($1, $2, $3, $3, 'owner') ON CONFLICT DO NOTHING",
		                  made, s->platform, s->owner),
		         err);
	return r;
}

static int add_server(PGconn *pg, struct server *s, struct err *err)
{
	const char *community = s->community_id[0] != '\0' ? s->community_id : NULL;
	int r = done(
		PG_QUERY(pg, err,
	                 "INSERT INTO servers AS s (owner, platform, server_id, channel, config) VALUES ($1, "
	                 "$2, $3, $4, "
	                 "jsonb_strip_nulls(jsonb_build_object('community_id', $5::integer))) "
	                 "ON CONFLICT (platform, (coalesce(server_id, '')), (coalesce(channel, ''))) DO "
	                 "UPDATE "
	                 "SET owner = excluded.owner, is_active = true, config = s.config || excluded.config",
	                 s->owner, s->platform, s->server, s->channel, community),
		err);

	if (r == 0)
		r = get(PG_QUERY(pg, err,
		                 "INSERT INTO entities AS e (platform, server_id, channel_id, owner, "
		                 "address, community_id, config) "
		                 "VALUES ($1, $2, $3, $4, $5, coalesce($6::integer, 1), "
		                 "jsonb_strip_nulls(jsonb_build_object('bot_account_id', $7::text))) "
		                 "ON CONFLICT (address) DO UPDATE SET owner = excluded.owner, is_active = "
		                 "true, "
		                 "community_id = coalesce($6::integer, e.community_id), config = e.config || "
		                 "excluded.config "
		                 "RETURNING entity_id",
		                 s->platform, s->server, s->channel, s->owner, s->address, community, s->bot),
		        s->entity_id, sizeof(s->entity_id), err);
	return r;
}

/* The collector decides by its own table, so that a stopped router changes nothing. */
static int add_monitored(PGconn *pg, const struct server *s, struct err *err)
{
	if (strcmp(s->platform, "twitch") == 0)
		return done(
			PG_QUERY(pg, err,
		                 "INSERT INTO twitch_channels AS c (channel_id, broadcaster_id, "
		                 "broadcaster_name) "
		                 "VALUES ($1, $1, coalesce($2, '')) ON CONFLICT (channel_id) DO UPDATE "
		                 "SET is_active = true, broadcaster_name = coalesce($2, c.broadcaster_name)",
		                 s->channel, s->name),
			err);
	if (strcmp(s->platform, "discord") == 0)
		return done(PG_QUERY(pg, err,
		                     "INSERT INTO discord_guilds AS g (guild_id, name, owner_id) VALUES ($1, "
		                     "coalesce($2, ''), $3) "
		                     "ON CONFLICT (guild_id) DO UPDATE SET is_active = true, name = "
		                     "coalesce($2, g.name)",
		                     s->server, s->name, s->owner),
		            err);
	if (strcmp(s->platform, "slack") == 0)
		return done(PG_QUERY(pg, err,
		                     "INSERT INTO slack_guilds AS g (guild_id, name, owner_id) VALUES ($1, "
		                     "coalesce($2, ''), $3) "
		                     "ON CONFLICT (guild_id) DO UPDATE SET is_active = true, name = "
		                     "coalesce($2, g.name)",
		                     s->server, s->name, s->owner),
		            err);
	return 0;
}

static int add_all(PGconn *pg, struct server *s, struct err *err)
{
	int r = pg_run(pg, err, "BEGIN");

	if (r == 0)
		r = add_community(pg, s, err);
	if (r == 0)
		r = add_server(pg, s, err);
	if (r == 0)
		r = add_monitored(pg, s, err);
	if (r == 0)
		return pg_run(pg, err, "COMMIT");
	PQclear(PQexec(pg, "ROLLBACK"));
	return r;
}

static int add(int argc, char **argv)
{
	struct server s = { .wait_s = 10 };
	struct err err = { 0 };
	PGconn *pg;
	int r, n = 0, words, status;
	const struct opt opts[] = {
		{ .name = "community",
		  .type = OPT_TEXT,
		  .to = &s.community,
		  .value = "name",
		  .help = "community it belongs to, made if new (otherwise none: Global)" },
		{ .name = "owner",
		  .type = OPT_TEXT,
		  .to = &s.owner,
		  .value = "user id",
		  .help = "its owner on that platform (Twitch: the channel itself)" },
		{ .name = "name",
		  .type = OPT_TEXT,
		  .to = &s.name,
		  .value = "name",
		  .help = "how it is called, for lists" },
		{ .name = "bot",
		  .type = OPT_TEXT,
		  .to = &s.bot,
		  .value = "user id",
		  .help = "bot account that answers there, where there are several" },
		{ .name = "enable",
		  .type = OPT_TEXT,
		  .to = &s.enable,
		  .value = "commands",
		  .help = "memories,inventory or all: commands that may run there" },
		{ .name = "wait",
		  .type = OPT_INT,
		  .to = &s.wait_s,
		  .value = "s",
		  .min = 0,
		  .max = 3600,
		  .help = "seconds to wait for commands that are not registered yet (10)" },
		{ 0 },
	};

	words = cli_options(
		opts, "<platform> <channel> | discord|slack <server> [<channel>]",
		"Serves a channel from now on: waddle servers add twitch 141981764 --community \"Cat Café\"\n"
		"--enable memories.  Adding it again changes what is given.",
		argc, argv, 2, 3, &status);
	if (words < 0)
		return status;
	s.platform = argv[1];
	if (!platform_ok(s.platform))
		return cli_misused(argv[0], "\"%s\" is not a platform", s.platform);
	if (words == 3 && !has_servers(s.platform))
		return cli_misused(argv[0], "\"%s\" is too much: %s has channels only", argv[3], s.platform);
	s.server = has_servers(s.platform) ? argv[2] : NULL;
	s.channel = has_servers(s.platform) ? (words == 3 ? argv[3] : NULL) : argv[2];
	if (s.owner == NULL && has_servers(s.platform))
		return cli_misused(argv[0], "--owner must be given on %s", s.platform);
	if (s.owner == NULL)
		s.owner = argv[2];
	if (address_of(&s, &err) < 0 || pg_open(&pg, &err) < 0)
		return cli_fail(&err);
	r = add_all(pg, &s, &err);
	if (r == 0)
		printf("%s is served, entity %s%s%s\n", s.address, s.entity_id,
		       s.community != NULL ? ", community " : "", s.community != NULL ? s.community : "");
	fflush(stdout); /* what comes now may take a while */
	if (r == 0 && s.enable != NULL)
		r = enable_commands(pg, s.entity_id, s.enable, true, s.wait_s, &n, &err);
	if (r == 0 && s.enable != NULL)
		printf("enabled %d command%s\n", n, n == 1 ? "" : "s");
	pg_close(&pg);
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

	if (cli_options(opts, "[--json]", "Shows what is served.", argc, argv, 0, 0, &status) < 0)
		return status;
	if (pg_open(&pg, &err) < 0)
		return cli_fail(&err);
	res = PG_QUERY(
		pg, &err,
		"SELECT s.id, s.platform, s.server_id AS server, s.channel, s.is_active AS active, s.owner, "
		"c.name AS community, (SELECT count(*) FROM command_permissions p WHERE p.entity_id = "
		"e.entity_id "
		"AND p.is_enabled) AS commands, to_char(s.last_activity AT TIME ZONE 'UTC', 'YYYY-MM-DD "
		"HH24:MI') AS last_activity "
		"FROM servers s LEFT JOIN entities e ON e.platform = s.platform "
		"AND e.server_id IS NOT DISTINCT FROM s.server_id AND e.channel_id IS NOT DISTINCT FROM "
		"s.channel "
		"LEFT JOIN communities c ON c.id = e.community_id ORDER BY s.platform, s.server_id, "
		"s.channel");
	if (res != NULL)
		table_print(res, json);
	PQclear(res);
	pg_close(&pg);
	return res != NULL ? CLI_OK : cli_fail(&err);
}

int cmd_servers(int argc, char **argv)
{
	static const struct cli_command commands[] = {
		{ "add", "<platform> <channel>", "serve a channel or server", add },
		{ "list", "[--json]", "show what is served", list },
		{ 0 },
	};

	return cli_run(commands, "waddle servers - channels and servers that are served", argc, argv);
}

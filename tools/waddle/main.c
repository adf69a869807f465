/* main.c - waddle, the operator's command line tool: one row per subcommand. */
#include "cli.h"
#include "commands.h"
#include "log.h"
#include "settings.h"

/* libpq would take what is missing in DATABASE_URL from PG* variables: a tool that changes a schema
 * must not end up in another database than the one named. */
extern char **environ;

static void forget_pg_variables(void)
{
	for (size_t i = 0; environ != NULL && environ[i] != NULL;) {
		const char *eq = strchr(environ[i], '=');
		char name[64];

		if (strncmp(environ[i], "PG", 2) == 0 && eq != NULL &&
		    (size_t)(eq - environ[i]) < sizeof(name)) {
			memcpy(name, environ[i], (size_t)(eq - environ[i]));
			name[eq - environ[i]] = '\0';
			unsetenv(name);
		} else {
			i++;
		}
	}
}

static const struct cli_command commands[] = {
	{ "migrate", "[--dry-run]", "bring the database to this version's schema", cmd_migrate },
	{ "topics", "create|list", "make the Kafka topics, or show them", cmd_topics },
	{ "keys", "create|list|revoke", "API keys of services", cmd_keys },
	{ "servers", "add|list", "channels and servers that are served", cmd_servers },
	{ "commands", "list|enable|disable", "what is registered, and where it is enabled", cmd_commands },
	{ "rules", "list|add|test", "string rules on chat, and what they would do", cmd_rules },
	{ "chat", "[--channel <name>]", "talk to the bot from here", cmd_chat },
	{ "why", "<event-id>", "what became of an event, hop by hop", cmd_why },
	{ 0 },
};

int main(int argc, char **argv)
{
	static char name[] = "waddle";
	int status;

	log_threshold = L_ERROR; /* errors are reported by the command that meets them */
	forget_pg_variables();
	if (argc > 0)
		argv[0] = name;
	status = cli_run(commands, "waddle - operate a WaddleBot installation", argc, argv);
	settings_forget();
	return status;
}

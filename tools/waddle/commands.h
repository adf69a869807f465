/* commands.h - the subcommands; each in its cmd_<name>.c. */
#ifndef COMMANDS_H
#define COMMANDS_H

int cmd_migrate(int argc, char **argv);
int cmd_topics(int argc, char **argv);
int cmd_keys(int argc, char **argv);
int cmd_servers(int argc, char **argv);
int cmd_commands(int argc, char **argv);
int cmd_rules(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_why(int argc, char **argv);

#endif

/* commands.h - the subcommands; each in the file of its name. */
#ifndef COMMANDS_H
#define COMMANDS_H

int cmd_migrate(int argc, char **argv);

#endif

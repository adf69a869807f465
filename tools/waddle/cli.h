/* cli.h - subcommands as tables, options as tables, one way to fail.
 *
 * Exit status: 0 done, 1 failed (one line on standard error says why), 2 wrong usage.  Help is
 * printed from the tables, so it cannot lag behind them. */
#ifndef CLI_H
#define CLI_H

#include "common.h"
#include "err.h"
#include "str.h"

enum { CLI_OK, CLI_FAILED, CLI_USAGE };

struct cli_command {
	const char *name;                  /* NULL ends the table */
	const char *args;                  /* "<name> --type <type>" */
	const char *help;                  /* one line */
	int (*run)(int argc, char **argv); /* argv[0] is the whole "waddle keys create" */
};

/* Runs the command that argv[1] names, or prints the list. */
int cli_run(const struct cli_command *commands, const char *about, int argc, char **argv) NONNULL;

enum opt_type {
	OPT_FLAG, /* bool */
	OPT_TEXT, /* const char * */
	OPT_INT,  /* int64_t, min..max */
};
struct opt {
	const char *name; /* "dry-run"; NULL ends the table */
	enum opt_type type;
	void *to;
	const char *value; /* what stands for it in the help; NULL for a flag */
	const char *help;
	int64_t min, max;
};

/* Options anywhere, "--" ends them, both "--x y" and "--x=y".  The other words are left in
 * argv[1..] and counted.  A negative count: *status is what main() returns, all is said (help
 * asked for, or wrong usage; also when fewer than min or more than max words remain). */
int cli_options(const struct opt *opts, const char *args, const char *about, int argc, char **argv, int min,
		int max, int *status) NONNULL;

/* One line on standard error; returns CLI_FAILED, CLI_USAGE. */
int cli_fail(const struct err *err) NONNULL;
int cli_failed(const char *fmt, ...) PRINTF(1, 2);
int cli_misused(const char *argv0, const char *fmt, ...) PRINTF(2, 3);

/* Progress: to standard error, only when that is a terminal; a later line replaces it. */
void cli_progress(const char *fmt, ...) PRINTF(1, 2);
void cli_progress_end(void);

#endif

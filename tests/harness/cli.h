/* cli.h - `waddle` as a test runs it: words in, what it said out.
 *
 * One stack per test program; a failure ends the test. */
#ifndef CLI_HARNESS_H
#define CLI_HARNESS_H

#include "stack.h"

struct cli {
	struct stack st;
	char        *out;       /* of the last run, both streams; the next one frees it */
};
extern struct cli cli;

void cli_open(const char *name, unsigned want) NONNULL; /* as stack_open() */
void cli_close(void);

int  cli_run(const char *words) NONNULL;                /* split at '|': "keys|list"; its status */
void cli_fine(const char *words) NONNULL;               /* the status must be 0 */
void cli_says(const char *text) NONNULL;                /* the last run said it */
void cli_says_not(const char *text) NONNULL;

/* A value of cli.out as JSON, by a path that PostgreSQL knows: "{hops,0,ms}"; free(). */
char *cli_json(const char *path) NONNULL;
void  cli_json_is(const char *path, const char *want) NONNULL;

#endif

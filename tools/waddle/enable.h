/* enable.h - which commands run in which channel (command_permissions). */
#ifndef ENABLE_H
#define ENABLE_H

#include "pg.h"
#include "str.h"

/* Sets is_enabled of the commands in `list` ("memories,#greet", "all") for the entity; a name
 * without prefix means "!".  A command that modules have not registered yet is waited for, wait_s
 * seconds at most; then -ENOENT, err names it and nothing was changed. */
int enable_commands(PGconn *pg, const char *entity_id, const char *list, bool on, int64_t wait_s, int *ret_n,
		    struct err *err) MUST_CHECK;

#endif

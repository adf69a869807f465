/* settings.h - the few settings of the tool, from the environment (contracts.md 4). */
#ifndef SETTINGS_H
#define SETTINGS_H

#include "common.h"
#include "err.h"

/* Valid until the process ends.  -EINVAL: not set, or set wrongly; err says which. */
int settings_database_url(const char **ret, struct err *err) MUST_CHECK;
/* WADDLE_SCHEMA_DIR, or NULL: the files built into the binary. */
const char *settings_schema_dir(void);

#endif

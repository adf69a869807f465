/* settings.h - the settings of the tool, from the environment (contracts.md 4). */
#ifndef SETTINGS_H
#define SETTINGS_H

#include "common.h"
#include "config.h"
#include "err.h"

/* The common table (DATABASE_URL, KAFKA_BROKERS, TOPIC_PREFIX ...), read once, valid until the
 * process ends.  -EINVAL: err names what is wrong. */
int settings_read(const struct cfg_base **ret, struct err *err) MUST_CHECK;
/* WADDLE_SCHEMA_DIR, or NULL: the files built into the binary. */
int settings_schema_dir(const char **ret, struct err *err) MUST_CHECK;

void settings_forget(void); /* at the end; LeakSanitizer looks */

#endif

/* config.h - settings: environment in, a plain struct out, every mistake at once.
 *
 * One table per service binds name, type, field, default, range and help; the same table prints
 * --help, docs/settings.md and the list a test compares with deploy/.  NAME_FILE may stand for
 * NAME and names a file whose first line is the value: Kubernetes secrets, no secret in ps. */
#ifndef CONFIG_H
#define CONFIG_H

#include "common.h"
#include "str.h"

enum cfg_type {
	CFG_STR,                /* struct str */
	CFG_SECRET,             /* struct str; never printed, wiped by cfg_clear() */
	CFG_KEY,                /* unsigned char[32]; 64 hex digits or 44 base64 characters */
	CFG_URL,                /* struct str; scheme and host present, scheme in .choices */
	CFG_LISTEN,             /* struct str; "127.0.0.1:9102", "[::]:8000" */
	CFG_INT,                /* int64_t */
	CFG_MS,                 /* int64_t milliseconds; "250", "250ms", "10s", "5m" */
	CFG_BYTES,              /* int64_t; "65536", "64k", "1m" */
	CFG_BOOL,               /* bool; true false yes no on off 1 0 */
	CFG_ENUM,               /* int; index into .choices */
};

struct cfg_var {
	const char        *env;         /* "DATABASE_URL"; NULL ends the table */
	enum cfg_type      type;
	size_t             offset;      /* of the field in the settings struct */
	const char        *def;         /* NULL: must be set; "": may be empty */
	int64_t            min, max;    /* of the value, or of a string's length; 0,0: any */
	const char *const *choices;     /* CFG_ENUM, CFG_URL; ends with NULL */
	const char        *help;        /* one sentence with the unit; shown to operators */
};

#define CFG(s, field, env_, type_, def_, help_, ...) \
	{ .env = (env_), .type = (type_), .offset = offsetof(s, field), \
	  .def = (def_), .help = (help_), __VA_ARGS__ }

/* Fills *settings, or leaves it alone and puts every bad variable into err: one line each,
 * value shown unless secret.  Strings live until cfg_clear().  Unknown variables that start
 * with a known prefix of the table ("KAFKA_" excepted) are an error too: a typo must not pass. */
int  cfg_load(const struct cfg_var *vars, void *settings, struct err *err) MUST_CHECK;
void cfg_clear(const struct cfg_var *vars, void *settings) NONNULL;
void cfg_help(const struct cfg_var *vars) NONNULL;      /* --help, 80 columns */

/* KAFKA_SECURITY_PROTOCOL=ssl -> fn(arg, "security.protocol", "ssl") for every one that is set. */
void cfg_each_kafka(void (*fn)(void *arg, const char *name, const char *value), void *arg);

/* The variables every service has (contracts.md 4); service.h holds the filled struct. */
struct cfg_base {
	struct str kafka_brokers, topic_prefix;         /* TOPIC_PREFIX: "waddle" */
	struct str database_url, database_read_url;
	struct str http_listen, admin_listen;           /* "": no listener */
	struct str router_url, service_key, public_url, sealing_key_file;
	struct str instance;                            /* INSTANCE: default host name and pid */
	int64_t    database_pool_write, database_pool_read;
	int64_t    drain_timeout_ms;
	int        log_level;
};
extern const struct cfg_var cfg_base_vars[];

#endif

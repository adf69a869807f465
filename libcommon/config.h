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
	CFG_LISTEN,             /* struct str; "127.0.0.1:9102", "[::]:8000"; port 0: any free one */
	CFG_INT,                /* int64_t */
	CFG_MS,                 /* int64_t milliseconds; "250", "250ms", "10s", "5m", "1h" */
	CFG_BYTES,              /* int64_t; "65536", "64k", "1m", "1g" */
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

/* Fills *settings, or leaves it alone and names every bad variable in err (-EINVAL), values shown
 * unless secret.  Strings have a NUL behind and live until cfg_clear().
 *
 * A variable that is set but empty is an empty string where the table allows one (.def not NULL)
 * and an error elsewhere.  A typo must not pass: unknown variables are an error if they begin
 * with a first word that two variables of the table share ("TWITCH_"; "KAFKA_" excepted), or
 * differ from a known name by one or two letters.  What Kubernetes sets by itself
 * (<NAME>_SERVICE_HOST, <NAME>_PORT_...) is left alone. */
int  cfg_load(const struct cfg_var *vars, void *settings, struct err *err) MUST_CHECK;
void cfg_clear(const struct cfg_var *vars, void *settings) NONNULL;
void cfg_help(const struct cfg_var *vars) NONNULL;      /* to stdout, for --help, 80 columns */

/* The same for several tables at once; required: names that must not be empty, NULL at the end,
 * or NULL.  complaints gets one line per mistake; err says how many and the first. */
struct cfg_part { const struct cfg_var *vars; void *settings; };
int  cfg_load_all(const struct cfg_part *parts, size_t n, const char *const *required,
                  struct buf *complaints, struct err *err) MUST_CHECK;

/* KAFKA_SECURITY_PROTOCOL=ssl -> fn(arg, "security.protocol", "ssl") for every one that is set,
 * but for KAFKA_BROKERS, what Kubernetes sets, and KAFKA_HOME, KAFKA_*_OPTS of Kafka's own tools.
 * KAFKA_SASL_PASSWORD_FILE names a file with the value of KAFKA_SASL_PASSWORD. */
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

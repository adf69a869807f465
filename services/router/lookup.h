/* lookup.h - what the router knows about places, commands, enablement and people.
 *
 * Six caches, filled from the read pool in arrays: the misses of one loop turn travel as one
 * statement each.  Values are immutable and counted; an entry is dropped by NOTIFY and, as the
 * safety net, by its time to live (router.md 18).  A database error is never an answer: the load
 * is repeated until it succeeds and the event waits. */
#ifndef LOOKUP_H
#define LOOKUP_H

#include "cache.h"
#include "db.h"
#include "envelope.h"
#include "err.h"

/* An entity of a monitored server: where something happened (router.md 6). */
struct place {
	int64_t    entity_id, community_id;
	int64_t    server_wide_id;      /* entity whose permission rows are the default; 0: none */
	bool       active;
	struct str community;           /* JSON object for command.config.community */
	struct str bot_account;         /* JSON value within it, or empty: whoever acts elsewhere keeps it */
	struct str outbound_key;        /* Twitch: bot account id when known, else channel id */
	struct str config;              /* JSON: messages, silent, mod_channel of entities.config */
};

struct route {                          /* one row of commands */
	int64_t    id, timeout_ms;
	int        type;                /* enum endpoint */
	uint32_t   rate_limit;          /* per minute, 0: none */
	int        min_role;            /* enum role */
	int        priority;            /* smaller first, then by id */
	bool       parallel;            /* does not wait for those before it, nor they for it */
	bool       auth_required;
	struct str prefix, command;
	struct str module_id, module;   /* "workflow:<uuid>" and "workflow" */
	struct str topic;               /* "waddle.commands.memories"; empty: not a Kafka module */
	struct str location_url;
};
struct routes { char stamp[17]; size_t n; struct route at[]; };   /* by priority, then id */

struct grant {                          /* a command_permissions row (router.md 7) */
	int64_t    command_id;
	bool       enabled;
	int        min_role;            /* -1: the command's own */
	int64_t    permission_id;
	struct str config;              /* JSON object */
	struct js_list labels, allow, deny;     /* of struct str */
};
struct grants { size_t n; struct grant at[]; };   /* one entity's, of the commands of one name or event */

struct held_label { struct str name; int64_t until_ms; };       /* until 0: for ever */
struct person {                         /* community_members, community_labels, identities */
	int        role;                /* enum role */
	bool       linked;
	size_t     n_labels;
	struct held_label labels[];
};

struct alias { struct str target; };    /* command_aliases.target_command */

struct context {                        /* where this person acts instead (router.md 6) */
	int64_t    community_id, until_ms;
	struct str community;           /* as in struct place, without the bot account */
};

enum lookup_kind { LOOKUP_PLACE, LOOKUP_ROUTES, LOOKUP_GRANTS, LOOKUP_PERSON, LOOKUP_ALIAS, LOOKUP_CONTEXT,
	LOOKUP_KINDS };

struct lookup;
/* redis_url: the caches' second level (lookup_store.h); "": none.  NULL, -EINVAL: no such URL. */
struct lookup *lookup_open(struct service *s, struct db *db, struct str redis_url, int redis_timeout_ms,
                           struct err *err) MUST_CHECK;
void lookup_close(struct lookup *l);

/* The value, or NULL with *ret_none true: there is none.  NULL and false: being loaded, again()
 * is called once when it is worth asking again - never from inside.  The item is the caller's to
 * release.  fields:
 *      place     {address}
 *      routes    {prefix and name, or "@" and the message type for what fires on events}
 *      grants    {entity id, the routes' name, their stamp}: other rows of that name, other grants
 *      person    {platform, user, community}
 *      alias     {community, folded name}
 *      context   {platform, user, address} */
struct cache_item *lookup_get(struct lookup *l, enum lookup_kind kind, const struct str *fields, size_t n,
                              bool *ret_none, void (*again)(void *arg), void *arg) MUST_CHECK;

/* A notification of waddle_invalidate: "table" or "table:key".  STR_NONE: everything, notices
 * arrive from now on.  While they do not, entries live 10 s and are read from the primary. */
void lookup_invalidate(struct lookup *l, struct str notice);

/* Whether notices of changes arrive; while they do not, nothing is good for longer than 10 s. */
bool lookup_listening(const struct lookup *l) NONNULL;

extern struct metric *const lookup_metrics[];

#endif

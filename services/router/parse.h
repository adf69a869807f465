/* parse.h - events and chat text to command name and parameters (router.md 3 and 5).
 *
 * Everything is linear in the text.  Results point into the text or into `mem`. */
#ifndef PARSE_H
#define PARSE_H

#include "arena.h"
#include "decode.h"
#include "envelope.h"

enum { PARSE_MAX_PARAMS = 64 };

struct parsed {
	struct str     prefix;          /* "!" or "#" */
	struct str     name;            /* folded to lower case */
	struct str     rest;            /* text after the name, trimmed, raw */
	struct js_list params;          /* of struct str, at most PARSE_MAX_PARAMS */
};

/* False: plain chat - no prefix, a lone prefix, "! x", "!!" - and *ret is zero.  text is valid UTF-8. */
bool parse_command(struct str text, struct arena *mem, struct parsed *ret) NONNULL;

/* A name as commands have it: folded.  It points into name when there is nothing to fold. */
struct str parse_name(struct str name, struct arena *mem) NONNULL;

/* What an event asks for. */
enum asks {
	ASKS_NOTHING,           /* chat, or an event that happened */
	ASKS_COMMAND,           /* by text: aliases apply, rules when nobody has that name */
	ASKS_SLASH,             /* always answered, no rules */
	ASKS_CUSTOM,            /* pressed, chosen, submitted: custom_id name:action:context */
	ASKS_FORM,              /* a form of ours: params are execution id and index */
};
enum rules_for { RULES_NONE, RULES_ALL, RULES_NO_COMMAND };

/* ret is zero for ASKS_NOTHING; its name is empty when an interaction names nothing. */
enum asks parse_event(const struct event *e, struct arena *mem, struct parsed *ret) NONNULL;
enum rules_for parse_rules(int message_type);

/* metadata.message_id, or STR_NONE. */
struct str parse_message_id(struct str metadata, struct arena *mem);

/* The parameter rules alone, as used for aliases and stored parameters. */
struct js_list parse_params(struct str text, struct arena *mem);

#endif

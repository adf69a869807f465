/* parse.h - chat text to command name and parameters (router.md 5).
 *
 * Everything is linear in the text.  Results point into the text or into `mem`. */
#ifndef PARSE_H
#define PARSE_H

#include "arena.h"
#include "decode.h"

enum { PARSE_MAX_PARAMS = 64 };

struct parsed {
	struct str     prefix;          /* "!" or "#" */
	struct str     name;            /* folded to lower case */
	struct str     rest;            /* text after the name, trimmed, raw */
	struct js_list params;          /* of struct str, at most PARSE_MAX_PARAMS */
};

/* False: plain chat - no prefix, a lone prefix, "! x", "!!" - and *ret is zero.  text is valid UTF-8. */
bool parse_command(struct str text, struct arena *mem, struct parsed *ret) NONNULL;

/* The parameter rules alone, as used for aliases and stored parameters. */
struct js_list parse_params(struct str text, struct arena *mem);

#endif

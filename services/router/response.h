/* response.h - what a module answered: whether it may be said so, and what becomes of it
 * (router.md 15).  No I/O: replies.c stores and sends. */
#ifndef RESPONSE_H
#define RESPONSE_H

#include "envelope.h"
#include "guard.h"
#include "split.h"

/* The rules that are between the fields, beyond envelope.h's table: texts clipped that may be,
 * URLs that may be called, fields a form must have.  Changes *a.  -EINVAL with the path. */
int response_check(struct response *a, const struct guard *g, struct err *err) MUST_CHECK;

/* Where an execution came from: its own place, never one that the module names. */
struct home {
	struct str address, platform, server_id, channel_id, user_id, reply_ref, message_id;
	struct str key;                 /* of the outbound topic */
	struct str command;             /* "!memories", for a notice; may be empty */
	struct str overlay;             /* content of an overlay item, a JSON object; STR_NONE for chat */
	int64_t    community_id;
};

/* The platforms somebody sends for; PLACE_OVERLAY and PLACE_NOWHERE beside them. */
enum place_kind { PLACE_TWITCH, PLACE_DISCORD, PLACE_SLACK, PLACE_TERMINAL, PLACE_OVERLAY, PLACE_NOWHERE };
extern const char *const place_names[PLACE_NOWHERE];

/* What is sent for a response: parts of one text, a form, an overlay item, or nothing. */
struct fanout {
	enum place_kind place;          /* PLACE_NOWHERE: stored only */
	const char     *topic;
	struct str      key;
	size_t          n_parts;        /* messages; an overlay item is one */
	struct str      part[SPLIT_PARTS];
	int64_t         index;          /* for message ids; -1: a notice */
	struct outbound out;            /* of every part, but message_id, text and expires_at */
	struct overlay  item;           /* PLACE_OVERLAY, all of it */
	char            item_id[37], key_text[24];
};

/* Texts are in mem, in a and in home; *ret must stay where it is. */
void fanout_plan(const struct response *a, const struct home *home, struct arena *mem, struct fanout *ret) NONNULL;

/* One line of text for a platform that has no forms. */
struct str form_flat(const struct response *a, struct arena *mem) NONNULL;
/* {custom_id, title, description, fields}: what Discord's and Slack's collectors show. */
struct str form_structure(const struct response *a, struct arena *mem) NONNULL;

#endif

/* player.h - plays the router for one module: sends commands, collects replies.
 *
 * Runs on a loop of its own inside the test, so that hundreds of commands are under way at once. */
#ifndef PLAYER_H
#define PLAYER_H

#include "bus.h"
#include "service.h"
#include "stack.h"

enum { PLAYER_WORDS = 12 };

struct said {                           /* what a test fills in; zero is a sensible default */
	int64_t community;              /* 0: 2 */
	int64_t entity_id;              /* 0: the community's own */
	const char *user, *role;        /* NULL: "u1", "moderator"; role "": not known */
	const char *label, *platform;   /* NULL: none, "twitch" */
	const char *command;            /* NULL: the module's name */
	const char *words[PLAYER_WORDS];
	const char *exec;               /* NULL: a new one */
	const char *config;             /* JSON object */
	const char *reply_topic;
	int64_t deadline_ms, created_at_ms;     /* unix; 0: none, now */
	uint64_t lsn;
};

struct heard {                          /* one response message */
	char exec[37], *text, *outcome, *error, *body;
	bool success, final;
	int64_t index;
	uint64_t lsn;
	int64_t at_us;                  /* when it came */
};

struct player {
	struct service s;
	struct bus *bus;
	struct bus_sub *sub;
	const char *module;
	char *commands, *responses;     /* topics */
	struct heard *heard;
	size_t n, cap, unacked;
	uint64_t seed;
	unsigned count;
};

void player_open(struct player *p, struct stack *st, const char *module);
void player_close(struct player *p);

/* Queued; the execution id is written to exec when that is not NULL. */
void player_say(struct player *p, const struct said *what, char exec[37]);
/* Anything at all, as a command message. */
void player_send_raw(struct player *p, const char *body, size_t n, const char *ce_type);

/* A failure when it does not come within max_ms. */
const struct heard *player_wait(struct player *p, const char *exec, int64_t max_ms);
void player_wait_n(struct player *p, size_t n, int64_t max_ms);        /* n replies in all */
void player_listen(struct player *p, int64_t ms);                       /* runs the loop so long */
size_t player_heard(const struct player *p, const char *exec);          /* how often */

/* Both: the reply of one command. */
const struct heard *player_ask(struct player *p, const struct said *what);

#endif

/* token.h - the app token: one for all replicas, in twitch_tokens, sealed (collectors.md 4, 6.6). */
#ifndef TOKEN_H
#define TOKEN_H

#include "twitch.h"

struct tokens;

/* err: the sealing key cannot be read. */
struct tokens *tokens_open(struct twitch *t, struct err *err) MUST_CHECK;
void tokens_close(struct tokens *k);            /* after db_close() and fetch_close(); NULL is fine */

/* token is valid during the call; err NULL on success.  Exactly once, never from inside. */
typedef void token_done(void *arg, struct str token, const struct err *err);
void token_get(struct tokens *k, token_done *done, void *arg);
/* Twitch said 401 to this one: the next token_get() brings another. */
void token_refused(struct tokens *k, struct str token);

#endif

/* sign.h - what proves to a receiver that a request is ours: webhook signatures and AWS SigV4.
 *
 * A command's signing secret is "whsec_" and the base64 of 32 random bytes; it rests sealed in
 * commands.signing_secret and is shown once.  After a rotation the previous one signs too, until
 * commands.previous_secret_until (router.md 11). */
#ifndef SIGN_H
#define SIGN_H

#include "crypto.h"
#include "err.h"
#include "url.h"

enum { SIGN_SECRETS = 2 };              /* the current one and, for a day, the one before */

struct str sign_secret_new(struct arena *mem) NONNULL;
/* The place that a sealed column of a row is bound to: sign_place(mem, "commands.signing_secret", 17).
 * previous_secret keeps the place it was sealed for: a rotation copies the column. */
struct str sign_place(struct arena *mem, const char *column, int64_t row) NONNULL;

/* Header lines of Standard Webhooks (webhook-id, -timestamp, -signature) and of X-WaddleBot-Signature,
 * one text each, in mem.  With two secrets both signatures stand in one header, as each format lists
 * them.  -EINVAL: a secret is none; -ENOBUFS: mem is full. */
enum { SIGN_HEADERS = 4 };
int sign_webhook(const struct str *secrets, size_t n, struct str id, int64_t unix_s, struct str body,
                 struct arena *mem, struct str ret[SIGN_HEADERS]) MUST_CHECK;

struct aws { struct str access_key, secret_key, token, region, service; };     /* token: may be empty */

/* Signature Version 4: the value of Authorization.  headers: those that are signed, "host" and
 * "x-amz-date" among them, in any order and case; path and query as they are sent.  date: "20150830T123600Z".
 * -EINVAL: an escape of the query is none; -ENOBUFS: mem is full. */
int sign_aws(const struct aws *key, const char *method, const struct url *u, const struct url_pair *headers,
             size_t n, struct str date, struct str body, struct arena *mem, struct str *ret) MUST_CHECK;

#endif

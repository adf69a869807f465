/* verdict.h - the one outcome an event or a candidate gets (router.md 19, closed list). */
#ifndef VERDICT_H
#define VERDICT_H

#define VERDICTS(X) \
	X(PENDING, "pending", 202, "it runs") \
	X(PLAIN, "plain", 200, "it is no command") \
	X(NOT_MONITORED, "not_monitored", 404, "this channel is not served") \
	X(ENTITY_INACTIVE, "entity_inactive", 403, "this channel is switched off") \
	X(UNKNOWN_COMMAND, "unknown_command", 404, "no module offers a command of that name") \
	X(NOT_ENABLED, "not_enabled", 403, "it is not enabled in this channel") \
	X(DENIED_USER, "denied_user", 403, "this user is on its deny list") \
	X(DENIED_ROLE, "denied_role", 403, "this user's role is too low for it") \
	X(DENIED_LABEL, "denied_label", 403, "this user lacks a label it needs") \
	X(AUTH_REQUIRED, "auth_required", 401, "it needs a linked account") \
	X(RATE_LIMITED, "rate_limited", 429, "this user reached its limit a minute") \
	X(UNREACHABLE, "unreachable", 502, "its module cannot be reached over Kafka, or the command is too large") \
	X(BAD_EVENT, "bad_event", 400, "the event could not be read")

enum verdict {
#define X(name, text, code, why) VERDICT_##name,
	VERDICTS(X)
#undef X
	VERDICT_COUNT
};

extern const char *const verdict_names[VERDICT_COUNT];
extern const int verdict_codes[VERDICT_COUNT];
extern const char *const verdict_reasons[VERDICT_COUNT];       /* the rest of a sentence about a command */

#endif

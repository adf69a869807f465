/* verdict.h - the one outcome an event or a candidate gets (router.md 19, closed list). */
#ifndef VERDICT_H
#define VERDICT_H

#define VERDICTS(X)                                                                                        \
	X(PENDING, "pending", 202)                                                                         \
	X(PLAIN, "plain", 200)                                                                             \
	X(NOT_MONITORED, "not_monitored", 404)                                                             \
	X(ENTITY_INACTIVE, "entity_inactive", 403)                                                         \
	X(UNKNOWN_COMMAND, "unknown_command", 404)                                                         \
	X(NOT_ENABLED, "not_enabled", 403)                                                                 \
	X(DENIED_USER, "denied_user", 403)                                                                 \
	X(DENIED_ROLE, "denied_role", 403)                                                                 \
	X(DENIED_LABEL, "denied_label", 403)                                                               \
	X(AUTH_REQUIRED, "auth_required", 401)                                                             \
	X(RATE_LIMITED, "rate_limited", 429)                                                               \
	X(UNREACHABLE, "unreachable", 502)                                                                 \
	X(BAD_EVENT, "bad_event", 400)

enum verdict {
#define X(name, text, code) VERDICT_##name,
	VERDICTS(X)
#undef X
	VERDICT_COUNT
};

extern const char *const verdict_names[VERDICT_COUNT];
extern const int verdict_codes[VERDICT_COUNT];

#endif

/* verdict.h - the one outcome an event or a candidate gets (router.md 19, closed list). */
#ifndef VERDICT_H
#define VERDICT_H

/* name, as stored, code, the rest of a sentence about a command */
#define VERDICTS(X) \
	X(PENDING, "pending", 202, "it runs") \
	X(ANSWERED, "answered", 200, "it was answered") \
	X(PLAIN, "plain", 200, "it is no command") \
	X(EVENT_MODULES, "event_modules", 202, "modules that wait for such events run") \
	X(RULE_WARN, "rule_warn", 200, "a rule warned its author") \
	X(RULE_BLOCK, "rule_block", 200, "a rule removed it") \
	X(RULE_COMMAND, "rule_command", 202, "a rule runs a command for it") \
	X(RULE_WEBHOOK, "rule_webhook", 200, "a rule calls a webhook about it") \
	X(RULE_COMMAND_UNKNOWN, "rule_command_unknown", 404, "the command that a rule names is not enabled in this channel") \
	X(DUPLICATE, "duplicate", 200, "the same thing was delivered before") \
	X(NOT_MONITORED, "not_monitored", 404, "this channel is not served") \
	X(ENTITY_INACTIVE, "entity_inactive", 403, "this channel is switched off") \
	X(UNKNOWN_COMMAND, "unknown_command", 404, "no module offers a command of that name") \
	X(NOT_ENABLED, "not_enabled", 403, "it is not enabled in this channel") \
	X(DENIED_USER, "denied_user", 403, "this user is on its deny list") \
	X(DENIED_ROLE, "denied_role", 403, "this user's role is too low for it") \
	X(DENIED_LABEL, "denied_label", 403, "this user lacks a label it needs") \
	X(AUTH_REQUIRED, "auth_required", 401, "it needs a linked account") \
	X(RATE_LIMITED, "rate_limited", 429, "this user reached its limit a minute") \
	X(ALIAS_LOOP, "alias_loop", 508, "its alias leads in a circle") \
	X(OVERLOADED, "overloaded", 503, "too many commands of this community wait for its module") \
	X(QUEUE_TIMEOUT, "queue_timeout", 504, "it waited too long for its turn") \
	X(TIMEOUT, "timeout", 504, "its module did not answer in time") \
	X(MODULE_FAILED, "module_failed", 422, "its module could not do it") \
	X(UNREACHABLE, "unreachable", 502, "its module cannot be reached, or the command is too large") \
	X(URL_REFUSED, "url_refused", 403, "its address is not one that may be called") \
	X(BAD_RESPONSE, "bad_response", 502, "its module answered with what nobody can read") \
	X(BAD_EVENT, "bad_event", 400, "the event could not be read") \
	X(SEND_REFUSED, "send_refused", 502, "the platform refused the answer")

enum verdict {
#define X(name, text, code, why) VERDICT_##name,
	VERDICTS(X)
#undef X
	VERDICT_COUNT
};

extern const char *const verdict_names[VERDICT_COUNT];
extern const int verdict_codes[VERDICT_COUNT];
extern const char *const verdict_reasons[VERDICT_COUNT];       /* the rest of a sentence about a command */

/* Of several candidates the one that came furthest names the event: greater is more successful. */
int verdict_progress(enum verdict v);

#endif

/* api_rules.h - a string rule as people write it; shared by the calls that store and those that try. */
#ifndef API_RULES_H
#define API_RULES_H

#include "decode.h"
#include "rules.h"

struct http_req;

struct rule_body {
	struct str string, enabled_entity_ids, command_to_execute, command_parameters, webhook_url,
		warning_message, block_message;
	int        match_type, action, exempt_role;     /* exempt_role: 0 nobody, else 1 + enum role */
	int64_t    priority, timeout_seconds;
	bool       case_sensitive, normalize, is_active;
};
extern const struct js_field rule_fields[];

struct rule rule_of_body(const struct rule_body *b) NONNULL;
/* What the table of fields cannot say; the field at fault, or NULL.  guard NULL: the URL is not looked at. */
struct guard;
const char *rule_body_bad(const struct rule_body *b, const struct guard *guard, struct err *err);

/* api_rules_test.c */
struct rule_test {
	struct str     text, entity_id;
	struct js_list texts;           /* of struct str */
	struct js_list rules;           /* of struct rule_body: drafts, instead of the stored ones */
	int            rank;            /* enum role + 1; 0: member */
};
extern const struct js_field rule_test_fields[];
void rules_test_handle(struct http_req *r, void *arg);

#endif

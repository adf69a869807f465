/* module_rights.c - roles, labels and the setting min_role. */
#include "module_rights.h"

#include "err.h"
#include "log.h"

static const char *const names[] = { "everybody", "member", "subscriber", "vip",
	                             "moderator", "admin",  "owner",      NULL };

const char *need_name(enum need need)
{
	return names[need];
}

static enum need by_name(struct str role, enum need otherwise)
{
	for (int i = MEMBER; names[i] != NULL; i++)
		if (str_eq_fold(role, str_of(names[i])))
			return (enum need)i;
	return otherwise;
}

/* Owner, admin and moderator count only as the router's verdict; vip and subscriber are facts. */
static enum need rank(const struct user *u)
{
	enum need role = by_name(u->community_role, MEMBER);

	if ((u->roles & 1u << ROLE_VIP) != 0 && role < VIP)
		role = VIP;
	else if ((u->roles & 1u << ROLE_SUBSCRIBER) != 0 && role < SUBSCRIBER)
		role = SUBSCRIBER;
	return role;
}

int rights_check(const struct user *u, enum need need, const char *label)
{
	const struct str *labels = u->labels.items;

	if (need <= MEMBER)
		return 0;
	if (u->community_role.n == 0) /* an empty list of labels is not sent, a role always is */
		return -EAGAIN;
	if (rank(u) >= need)
		return 0;
	for (size_t i = 0; label != NULL && i < u->labels.n; i++)
		if (str_eq_fold(labels[i], str_of(label)))
			return 0;
	return -EACCES;
}

/* {"min_role":{"add quote":"member"}}.  An unknown role or another type counts as absent. */
static bool role_of(const struct command *c, struct str config, struct arena *mem, enum need *ret)
{
	static const struct js_field min_role[] = { { .key = "min_role", .type = JS_RAW, .optional = true },
		                                    { 0 } };
	const struct js_field by_sub[] = { { .key = c->name, .type = JS_RAW, .optional = true }, { 0 } };
	struct str roles = STR_NONE, role = STR_NONE;
	struct err ignored = { 0 };

	*ret = c->need;
	if (js_decode(config, min_role, &roles, mem, &ignored) != 0)
		return false;
	if (roles.n == 0)
		return true;
	if (js_decode(roles, by_sub, &role, mem, &ignored) != 0)
		return false;
	if (role.n == 0)
		return true;
	if (role.n < 2 || role.p[0] != '"')
		return false;
	*ret = by_name((struct str){ role.p + 1, role.n - 2 }, ANYONE);
	if (*ret != ANYONE)
		return true;
	*ret = c->need;
	return false;
}

enum need rights_need(const struct command *c, struct str config, struct arena *mem)
{
	enum need need;

	if (config.n == 0 || memmem(config.p, config.n, "\"min_role\"", 10) == NULL)
		return c->need;
	if (!role_of(c, config, mem, &need))
		log_rarely(600000, L_WARN, NULL, "setting_ignored", "min_role of \"%s\" is no role", c->name);
	return need;
}

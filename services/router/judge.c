/* judge.c - may this user run this command here, now?  (router.md 8 and 9)
 *
 * Everything asked for is at hand: no I/O.  The checks stand in the order of the table there, the
 * first that fails is the verdict.  The limit comes last, so that a refused try counts nothing. */
#include "router.h"
#include "clock.h"

const char *const verdict_names[VERDICT_COUNT] = {
#define X(name, text, code, why) text,
	VERDICTS(X)
#undef X
};

const int verdict_codes[VERDICT_COUNT] = {
#define X(name, text, code, why) code,
	VERDICTS(X)
#undef X
};

const char *const verdict_reasons[VERDICT_COUNT] = {
#define X(name, text, code, why) why,
	VERDICTS(X)
#undef X
};

int verdict_progress(enum verdict v)
{
	/* Worst first: the checks in their order, then what gets past them. */
	static const enum verdict order[] = {
		VERDICT_PLAIN, VERDICT_NOT_MONITORED, VERDICT_ENTITY_INACTIVE, VERDICT_UNKNOWN_COMMAND,
		VERDICT_RULE_COMMAND_UNKNOWN, VERDICT_ALIAS_LOOP, VERDICT_NOT_ENABLED, VERDICT_DENIED_USER,
		VERDICT_DENIED_ROLE, VERDICT_DENIED_LABEL, VERDICT_AUTH_REQUIRED, VERDICT_RATE_LIMITED,
		VERDICT_OVERLOADED, VERDICT_UNREACHABLE, VERDICT_URL_REFUSED, VERDICT_EVENT_MODULES,
		VERDICT_RULE_WARN, VERDICT_RULE_BLOCK, VERDICT_RULE_WEBHOOK, VERDICT_RULE_COMMAND,
		VERDICT_PENDING,
	};
	int at = 0;

	while (at < (int)ARRAY_LEN(order) && order[at] != v)
		at++;
	return at;
}

enum { GLOBAL_COMMUNITY = 1 };

int judge_role(const struct work *w)
{
	const struct place *place = cache_value(w->place);
	const struct person *person = w->person != NULL ? cache_value(w->person) : NULL;
	int rank = person != NULL ? person->role : ROLE_MEMBER;

	/* Whose channel it is gives no rights over everyone, nor over another community. */
	if (place->community_id == GLOBAL_COMMUNITY || w->community_id != place->community_id)
		return rank;
	for (int role = ROLE_OWNER; role < rank; role++)
		if (w->ev.user.roles & 1u << role)
			rank = role == ROLE_OWNER ? ROLE_ADMIN : role;  /* owner only by the stored role */
	if (person != NULL && person->role < rank)
		rank = person->role;
	return rank;
}

static bool listed(struct js_list list, struct str who)
{
	const struct str *at = list.items;

	for (size_t i = 0; i < list.n; i++)
		if (str_eq(at[i], who))
			return true;
	return false;
}

static bool lasts(const struct held_label *l, int64_t now_ms)
{
	return l->until_ms == 0 || l->until_ms > now_ms;
}

static bool holds(const struct person *p, struct str label, int64_t now_ms)
{
	for (size_t i = 0; p != NULL && i < p->n_labels; i++)
		if (str_eq_fold(p->labels[i].name, label) && lasts(&p->labels[i], now_ms))
			return true;
	return false;
}

struct js_list judge_labels(const struct work *w, struct arena *mem)
{
	const struct person *p = w->person != NULL ? cache_value(w->person) : NULL;
	struct js_list list = { 0 };
	int64_t now_ms = clock_unix_ms();

	if (p == NULL || p->n_labels == 0)
		return list;
	list.items = arena_alloc(mem, p->n_labels * sizeof(struct str));
	for (size_t i = 0; i < p->n_labels; i++)
		if (lasts(&p->labels[i], now_ms))
			((struct str *)list.items)[list.n++] = p->labels[i].name;
	return list;
}

static bool holds_all(const struct person *p, struct js_list labels)
{
	const struct str *at = labels.items;
	int64_t now_ms = clock_unix_ms();

	for (size_t i = 0; i < labels.n; i++)
		if (!holds(p, at[i], now_ms))
			return false;
	return true;
}

static enum verdict judge_one(struct work *w, struct candidate *c, int role)
{
	const struct person *person = w->person != NULL ? cache_value(w->person) : NULL;
	const struct grant *g = c->grant;

	if (g == NULL || !g->enabled)
		return VERDICT_NOT_ENABLED;
	if (c->trigger == TRIGGER_EVENT)
		return c->route->topic.n > 0 ? VERDICT_PENDING : VERDICT_UNREACHABLE;
	if (listed(g->deny, w->ev.user.id))
		return VERDICT_DENIED_USER;
	if (!listed(g->allow, w->ev.user.id) && role > (g->min_role >= 0 ? g->min_role : c->route->min_role))
		return VERDICT_DENIED_ROLE;
	if (!holds_all(person, g->labels))
		return VERDICT_DENIED_LABEL;
	if (c->route->auth_required && (person == NULL || !person->linked))
		return VERDICT_AUTH_REQUIRED;
	if (c->route->topic.n == 0 && !route_is_http(c->route))
		return VERDICT_UNREACHABLE;
	return limits_take(w, c);
}

void judge_sum(struct work *w)
{
	w->verdict = w->base;
	for (size_t i = 0; i < w->n_cand; i++) {
		enum verdict v = w->cand[i].verdict;

		if (v == VERDICT_PENDING && w->cand[i].trigger == TRIGGER_EVENT)
			v = VERDICT_EVENT_MODULES;
		if (v == VERDICT_PENDING && w->cand[i].trigger == TRIGGER_STRING_MATCH)
			v = VERDICT_RULE_COMMAND;
		if (verdict_progress(v) > verdict_progress(w->verdict))
			w->verdict = v;
	}
	w->effects = w->rule.id != 0 || notice_due(w);
}

void judge(struct work *w)
{
	int role;

	IS_A(w, WORK_MAGIC);
	role = w->n_cand > 0 ? judge_role(w) : ROLE_MEMBER;
	for (size_t i = 0; i < w->n_cand; i++)
		w->cand[i].verdict = judge_one(w, &w->cand[i], role);
	judge_sum(w);
}

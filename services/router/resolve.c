/* resolve.c - what an event's verdict needs, gathered from the caches (router.md 4, steps 2 to 7).
 *
 * A machine of small steps.  Each asks for what it needs and says whether it is there; when
 * something must be loaded first, the whole is called again afterwards and goes on where it was.
 * What one step asks for at a time is loaded at a time: an event nobody has seen before costs
 * three trips to the database, not ten. */
#include "router.h"
#include "alias.h"
#include "clock.h"

enum step { STEP_START, STEP_PLACE, STEP_COMMAND, STEP_ALIAS, STEP_RULES, STEP_RULE_COMMAND, STEP_EVENTS, STEP_PERSON,
	STEP_END };

enum { NAME_MAX_BYTES = 420 };          /* 100 code points of 4 bytes and their prefix fit */

/* True: *item is settled, *none telling whether there is one.  False: being loaded. */
static bool look(struct work *w, enum lookup_kind kind, const struct str *fields, size_t n,
                 struct cache_item **item, bool *none)
{
	*none = false;
	if (*item != NULL)
		return true;
	*item = lookup_get(w->r->lookup, kind, fields, n, none, intake_again, w);
	if (*item != NULL || *none)
		return true;
	w->loads++;
	return false;
}

struct number { char text[24]; };

static struct str int_text(int64_t v, struct number *room)
{
	int n = snprintf(room->text, sizeof room->text, "%lld", (long long)v);

	return (struct str){ room->text, (size_t)n };
}

static bool to(struct work *w, enum step next)
{
	w->step = (int)next;
	return true;
}

static bool end(struct work *w, enum verdict base)
{
	w->base = base;
	return to(w, STEP_END);
}

static void forget(struct cache_item **item)
{
	cache_release(*item);
	*item = NULL;
}

/* "@follow"; made once, because every chat message asks. */
static struct str event_name(const struct work *w)
{
	static struct { char text[32]; size_t n; } names[ARRAY_LEN(message_type_names)];
	int type = w->ev.message_type;

	if (names[type].n == 0)
		names[type].n = (size_t)snprintf(names[type].text, sizeof names[type].text, "@%s",
		                                 message_type_names[type]);
	return (struct str){ names[type].text, names[type].n };
}

/* False: longer than any command can be. */
static bool command_name(const struct parsed *cmd, char room[NAME_MAX_BYTES], struct str *ret)
{
	if (cmd->name.n + 1 > NAME_MAX_BYTES)
		return false;
	room[0] = cmd->prefix.p[0];
	memcpy(room + 1, cmd->name.p, cmd->name.n);
	*ret = (struct str){ room, cmd->name.n + 1 };
	return true;
}

static bool person(struct work *w)
{
	struct number a;
	struct str who[3] = { w->ev.platform, w->ev.user.id, int_text(w->community_id, &a) };
	bool none;

	return look(w, LOOKUP_PERSON, who, 3, &w->person, &none);
}

/* The grants of a name's rows: of this entity and of the whole server. */
static bool grants(struct work *w, struct str name, const struct routes *routes, struct cache_item **items)
{
	const struct place *place = cache_value(w->place);
	struct number a, b;
	struct str here[3] = { int_text(place->entity_id, &a), name, str_of(routes->stamp) };
	struct str wide[3] = { int_text(place->server_wide_id, &b), name, str_of(routes->stamp) };
	bool none, have = look(w, LOOKUP_GRANTS, here, 3, &items[0], &none);

	if (place->server_wide_id != 0 && place->server_wide_id != place->entity_id)
		have = look(w, LOOKUP_GRANTS, wide, 3, &items[1], &none) && have;
	return have;
}

/* The deciding row: the entity's own, else the server's. */
static const struct grant *grant_of(struct cache_item *const items[2], int64_t command_id)
{
	for (size_t i = 0; i < 2; i++) {
		const struct grants *g = items[i] != NULL ? cache_value(items[i]) : NULL;

		for (size_t k = 0; g != NULL && k < g->n; k++)
			if (g->at[k].command_id == command_id)
				return &g->at[k];
	}
	return NULL;
}

static bool is_candidate(const struct work *w, int64_t command_id)
{
	for (size_t i = 0; i < w->n_cand; i++)
		if (w->cand[i].route->id == command_id)
			return true;
	return false;
}

/* An event module is told its own name. */
static const struct parsed *own_name(struct work *w, const struct route *route)
{
	struct parsed *p = ARENA_NEW(w->mem, struct parsed);

	p->prefix = route->prefix;
	p->name = route->command;
	return p;
}

/* Those of routes that are enabled here become candidates; how many. */
static size_t collect(struct work *w, const struct routes *routes, struct cache_item *const items[2],
                      enum trigger trigger, const struct parsed *cmd)
{
	size_t more = 0, before = w->n_cand;
	struct candidate *all;

	for (size_t i = 0; i < routes->n; i++) {
		const struct grant *g = grant_of(items, routes->at[i].id);

		more += g != NULL && g->enabled && !is_candidate(w, routes->at[i].id) &&
		        (w->only_command == 0 || w->only_command == routes->at[i].id);
	}
	if (more > MAX_CANDIDATES - before)
		more = MAX_CANDIDATES - before;
	if (more == 0)
		return 0;
	all = arena_alloc(w->mem, (before + more) * sizeof *all);
	if (before > 0)
		memcpy(all, w->cand, before * sizeof *all);
	for (size_t i = 0; i < routes->n && w->n_cand < before + more; i++) {
		const struct route *route = &routes->at[i];
		const struct grant *g = grant_of(items, route->id);

		if (g == NULL || !g->enabled || is_candidate(w, route->id) ||
		    (w->only_command != 0 && w->only_command != route->id))
			continue;
		all[w->n_cand] = (struct candidate){
			.route = route, .grant = g, .trigger = trigger, .rule_id = w->rule.id,
			.cmd = cmd != NULL ? cmd : own_name(w, route),
		};
		if (trigger == TRIGGER_EVENT)
			all[w->n_cand].rule_id = 0;
		w->cand = all;          /* is_candidate() looks there */
		w->n_cand++;
	}
	return more;
}

static bool start(struct work *w)
{
	struct str name = event_name(w);
	bool none;

	if (!look(w, LOOKUP_ROUTES, &name, 1, &w->events, &none))
		return false;
	if (w->asks == ASKS_NOTHING && none &&
	    (parse_rules(w->ev.message_type) == RULES_NONE || !rules_any(w->r)))
		return end(w, VERDICT_PLAIN);
	return to(w, STEP_PLACE);
}

static bool place(struct work *w)
{
	struct str who[3] = { w->ev.platform, w->ev.user.id, w->ev.entity }, name;
	char room[NAME_MAX_BYTES];
	bool none, nowhere, here = look(w, LOOKUP_PLACE, &w->ev.entity, 1, &w->place, &nowhere);

	if (w->asks != ASKS_NOTHING)
		here = look(w, LOOKUP_CONTEXT, who, 3, &w->context, &none) && here;
	if (w->cmd.name.n > 0 && command_name(&w->cmd, room, &name))
		here = look(w, LOOKUP_ROUTES, &name, 1, &w->routes, &none) && here;
	if (!here)
		return false;
	if (nowhere)
		return end(w, VERDICT_NOT_MONITORED);

	const struct place *p = cache_value(w->place);
	const struct context *c = w->context != NULL ? cache_value(w->context) : NULL;

	if (!p->active)
		return end(w, VERDICT_ENTITY_INACTIVE);
	w->community_id = p->community_id;
	w->community = p->community;
	if (c != NULL && c->until_ms > clock_unix_ms() && c->community_id != p->community_id) {
		w->community_id = c->community_id;
		w->community = c->community;
		if (p->bot_account.n > 0 && c->community.n >= 2)
			w->community = arena_printf(w->mem, "%.*s%s\"bot_account_id\":" STR_FMT "}",
			                            (int)c->community.n - 1, c->community.p,
			                            c->community.n > 2 ? "," : "", STR_ARG(p->bot_account));
	}
	w->base = w->asks == ASKS_NOTHING ? VERDICT_PLAIN : VERDICT_UNKNOWN_COMMAND;
	if (w->asks == ASKS_FORM)
		return to(w, STEP_PERSON);
	return to(w, w->cmd.name.n > 0 ? STEP_COMMAND : STEP_RULES);
}

/* Candidates of cmd; false: being loaded.  *named: somebody offers it somewhere. */
static bool candidates(struct work *w, const struct parsed *cmd, enum trigger trigger, bool *named)
{
	char room[NAME_MAX_BYTES];
	struct str name;
	bool none;

	*named = false;
	if (cmd->name.n == 0 || !command_name(cmd, room, &name))
		return true;
	if (!look(w, LOOKUP_ROUTES, &name, 1, &w->routes, &none))
		return false;
	if (none)
		return true;
	*named = true;

	bool here = person(w);

	if (!(grants(w, name, cache_value(w->routes), w->grants) && here))
		return false;
	(void)collect(w, cache_value(w->routes), w->grants, trigger, cmd);
	return true;
}

static void other_command(struct work *w)
{
	forget(&w->routes);
	forget(&w->grants[0]);
	forget(&w->grants[1]);
}

static bool command(struct work *w)
{
	bool custom = w->asks == ASKS_CUSTOM || w->asks == ASKS_FORM, named;

	if (!candidates(w, &w->cmd, custom ? TRIGGER_INTERACTION : TRIGGER_COMMAND, &named))
		return false;
	if (w->n_cand > 0)
		return to(w, STEP_EVENTS);
	if (w->base == VERDICT_UNKNOWN_COMMAND && named)
		w->base = VERDICT_NOT_ENABLED;
	other_command(w);
	if (w->cmd.prefix.p[0] != '!')
		return to(w, STEP_RULES);
	if (custom) {
		w->cmd.prefix = STR("#");
		return true;
	}
	return to(w, STEP_ALIAS);
}

/* Aliases are the place's own, whatever community this person acts in. */
static bool alias(struct work *w)
{
	const struct place *p = cache_value(w->place);
	struct number a;
	struct str key[2] = { int_text(p->community_id, &a), w->cmd.name };
	struct cache_item *item = NULL;
	struct str user = w->ev.user.display_name.n > 0 ? w->ev.user.display_name : w->ev.user.name;
	bool none, expanded;

	if (!look(w, LOOKUP_ALIAS, key, 2, &item, &none))
		return false;
	if (none)
		return to(w, STEP_RULES);
	if (w->trail == NULL)
		w->trail = ARENA_NEW(w->mem, struct alias_trail);
	expanded = alias_expand(((const struct alias *)cache_value(item))->target, user, w->trail, w->mem,
	                        &w->cmd);
	cache_release(item);
	w->base = expanded ? VERDICT_UNKNOWN_COMMAND : VERDICT_ALIAS_LOOP;
	return to(w, expanded ? STEP_COMMAND : STEP_EVENTS);
}

static bool rules(struct work *w)
{
	enum rules_for which = parse_rules(w->ev.message_type);
	enum verdict v;

	if (which == RULES_NONE || !rules_any(w->r))
		return to(w, STEP_EVENTS);
	v = rules_apply(w);
	if (w->loads > 0)
		return false;           /* the rules of this place are on their way */
	if (v == VERDICT_PENDING) {
		if (!person(w))
			return false;
		v = w->person != NULL ? rules_apply(w) : VERDICT_PLAIN;
	}
	if (v == VERDICT_PLAIN || v == VERDICT_PENDING || (v == VERDICT_RULE_COMMAND && which != RULES_ALL)) {
		w->rule = (struct rule_hit){ 0 };
		return to(w, STEP_EVENTS);
	}
	w->rule.verdict = w->base = v;
	return to(w, v == VERDICT_RULE_COMMAND ? STEP_RULE_COMMAND : STEP_EVENTS);
}

static bool rule_command(struct work *w)
{
	bool named;

	if (!candidates(w, &w->rule.cmd, TRIGGER_STRING_MATCH, &named))
		return false;
	if (w->n_cand == 0)
		w->rule.verdict = VERDICT_RULE_COMMAND_UNKNOWN;
	w->base = VERDICT_RULE_COMMAND_UNKNOWN;
	return to(w, STEP_EVENTS);
}

/* By (priority, id), whatever they were found for. */
static void sort(struct work *w)
{
	for (size_t i = 1; i < w->n_cand; i++)
		for (size_t k = i; k > 0; k--) {
			const struct route *a = w->cand[k - 1].route, *b = w->cand[k].route;
			struct candidate c = w->cand[k];

			if (a->priority < b->priority || (a->priority == b->priority && a->id <= b->id))
				break;
			w->cand[k] = w->cand[k - 1];
			w->cand[k - 1] = c;
		}
}

static bool events(struct work *w)
{
	struct str name = event_name(w);
	bool none;

	if (!look(w, LOOKUP_ROUTES, &name, 1, &w->events, &none))
		return false;
	if (!none) {
		if (!grants(w, name, cache_value(w->events), w->event_grants))
			return false;
		if (collect(w, cache_value(w->events), w->event_grants, TRIGGER_EVENT, NULL) > 0)
			sort(w);
	}
	return to(w, w->n_cand > 0 ? STEP_PERSON : STEP_END);
}

static bool (*const steps[])(struct work *w) = {
	[STEP_START] = start, [STEP_PLACE] = place,   [STEP_COMMAND] = command,
	[STEP_ALIAS] = alias, [STEP_RULES] = rules,   [STEP_RULE_COMMAND] = rule_command,
	[STEP_EVENTS] = events,
};

void resolve(struct work *w)
{
	while (w->step != STEP_END && w->step != STEP_PERSON)
		if (!steps[w->step](w))
			return;
	if (w->step == STEP_PERSON && !person(w))
		return;
	w->step = STEP_END;
	w->ready = true;
}

void resolve_as_command(struct work *w, struct parsed cmd, int64_t command_id)
{
	w->asks = ASKS_CUSTOM;
	w->cmd = cmd;
	w->only_command = command_id;
	w->ready = false;
	w->step = STEP_COMMAND;
}

void resolve_release(struct work *w)
{
	struct cache_item **const items[] = {
		&w->place, &w->context, &w->person, &w->routes, &w->grants[0], &w->grants[1],
		&w->events, &w->event_grants[0], &w->event_grants[1],
	};

	for (size_t i = 0; i < ARRAY_LEN(items); i++)
		forget(items[i]);
	w->cand = NULL;
	w->n_cand = 0;
	w->trail = NULL;
	w->step = STEP_START;
	w->only_command = 0;
	w->community_id = 0;
	w->community = STR_NONE;
	w->base = VERDICT_PLAIN;
	w->rule = (struct rule_hit){ 0 };
}

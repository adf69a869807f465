/* rules_store.c - slots of sets: wanted, loading, compiling, serving.
 *
 * Rows come in pages, because reading ten thousand at once would hold up the loop; the thread
 * compiles.  Everything is read from the primary: it is little, and a standby could be behind the
 * notice that made us ask. */
#include "rules_store.h"
#include "router.h"
#include "clock.h"
#include "err.h"
#include "hash.h"
#include "log.h"
#include "metrics.h"
#include "service.h"
#include "worker.h"

#include <stdlib.h>

enum { PAGE_ROWS = 500, MAX_RULES = 20000, MAX_LOADING = 4, MAX_IDS = 256, SET_BYTES = 48 << 20, ARENA_BYTES = 512 << 20,
	TTL_MS = 300000, DEAF_MS = 10000, IDLE_MS = 600000, SWEEP_MS = 60000, COLUMNS = 15 };

METRIC(active, METRIC_GAUGE, "waddle_router_rules_active", "String rules in the sets in use.");
METRIC(bytes, METRIC_GAUGE, "waddle_router_rules_bytes", "Memory of those sets.");
METRIC(compiled, METRIC_COUNTER, "waddle_router_rules_compiled_total", "Sets compiled.");
METRIC(compile_s, METRIC_HISTOGRAM, "waddle_router_rules_compile_seconds", "From the rows to a set that serves.");
METRIC(failed, METRIC_COUNTER, "waddle_router_rules_load_retries_total", "Loads that failed and are repeated.");
struct metric *const rules_metrics[] = { &active, &bytes, &compiled, &compile_s, &failed, NULL };

enum state { IDLE, WANTED, LOADING, COMPILING };

struct page { struct page *next; size_t n; struct rule at[PAGE_ROWS]; };

struct slot {
	struct rules    *x;
	struct hash_node node;
	struct list      all;           /* least recently used first */
	struct list      queue;         /* of x.wanted */
	struct list      waiters;
	int64_t          entity, wide;  /* 0, 0: the rules of everywhere */
	struct rules_set *set;          /* NULL: no rules */
	bool             known;         /* set is an answer */
	bool             again;         /* changed while it was being loaded */
	enum state       state;
	int64_t          loaded_mono_ms, used_mono_ms, began_us;
	/* being loaded */
	struct arena    *mem;
	struct page     *first, *last;
	size_t           n;
	int64_t          last_priority, last_id;
	/* being compiled: the thread's until done */
	struct worker_job job;
	struct rule     *rule;
	struct rules_set *made;
};

struct waiter { struct list node; void (*again)(void *arg); void *arg; };

struct rules {
	unsigned           magic;
	struct router     *r;
	struct rules_scan *scan;
	struct worker     *worker;
	struct hash_table  by_key;
	struct list        all, wanted, told;
	struct slot       *global;
	size_t             loading;
	struct timer       sweep, retry;
	bool               resting, closing;
	unsigned           failures;
	/* notices that have not been looked into */
	int64_t            id[MAX_IDS];
	size_t             n_ids;
	bool               all_changed, asking;
	int                exist;       /* -1: not known yet */
};
enum { RULES_MAGIC = 0x40073420 };

static void pump(struct rules *x);

/* --- slots --------------------------------------------------------------------------------- */

static uint64_t hash_key(int64_t entity, int64_t wide)
{
	return hash_int(entity) * UINT64_C(0x9e3779b97f4a7c15) + hash_int(wide);
}

static struct slot *slot_find(const struct rules *x, int64_t entity, int64_t wide)
{
	struct hash_node *n = hash_find(&x->by_key, hash_key(entity, wide));

	for (; n != NULL; n = hash_next(n)) {
		struct slot *s = CONTAINER_OF(n, struct slot, node);

		if (s->entity == entity && s->wide == wide)
			return s;
	}
	return NULL;
}

static struct slot *slot_new(struct rules *x, int64_t entity, int64_t wide)
{
	struct slot *s = XNEW(struct slot);

	s->x = x;
	s->entity = entity;
	s->wide = wide;
	list_init(&s->queue);
	list_init(&s->waiters);
	hash_add(&x->by_key, &s->node, hash_key(entity, wide));
	list_add_tail(&x->all, &s->all);
	return s;
}

static void count_set(const struct rules_set *s, int sign)
{
	if (s == NULL)
		return;
	metric_add(&active, 0, (uint64_t)(sign * (int64_t)rules_set_size(s)));
	metric_add(&bytes, 0, (uint64_t)(sign * (int64_t)rules_set_bytes(s)));
}

static void slot_free(struct slot *s)
{
	struct list *n;

	hash_del(&s->x->by_key, &s->node);
	list_del(&s->all);
	list_del(&s->queue);
	while ((n = list_pop(&s->waiters)) != NULL)
		free(CONTAINER_OF(n, struct waiter, node));
	count_set(s->set, -1);
	rules_set_free(s->set);
	arena_free(s->mem);
	free(s);
}

static void want(struct slot *s)
{
	if (s->state == IDLE) {
		s->state = WANTED;
		list_add_tail(&s->x->wanted, &s->queue);
	}
}

static void changed(struct slot *s)
{
	s->again = s->state == LOADING || s->state == COMPILING;  /* what is on its way may be from before */
	want(s);
}

/* Waiters are told from the loop's next turn, when nobody is inside a look-up. */
static void tell(struct slot *s)
{
	struct list *n;

	while ((n = list_pop(&s->waiters)) != NULL)
		list_add_tail(&s->x->told, n);
}

static void serve(struct slot *s, struct rules_set *set)
{
	s->loaded_mono_ms = clock_mono_ms();
	if (set != NULL && s->set != NULL && rules_set_print(set) == rules_set_print(s->set)) {
		rules_set_free(set);
	} else {
		if (set != NULL)
			rules_scan_fit(s->x->scan, set);
		count_set(s->set, -1);
		rules_set_free(s->set);
		s->set = set;
		count_set(s->set, 1);
	}
	s->known = true;
	s->state = IDLE;
	tell(s);
	if (s->again) {
		s->again = false;
		want(s);
	}
}

/* --- compiling ----------------------------------------------------------------------------- */

static void compile(void *arg)
{
	struct slot *s = arg;

	s->made = rules_compile(s->rule, s->n, s->mem);
}

static void compile_done(void *arg, bool ran)
{
	struct slot *s = arg;
	struct rules_set *made = s->made;

	s->made = NULL;
	if (ran)
		s->mem = NULL;          /* the set's now */
	if (s->x->closing) {
		rules_set_free(made);
		s->state = IDLE;
		return;
	}
	metric_add(&compiled, 0, 1);
	metric_observe_us(&compile_s, 0, clock_exact_us() - s->began_us);
	serve(s, made);
	pump(s->x);
}

static void all_loaded(struct slot *s)
{
	size_t n = 0;

	s->x->loading--;
	if (s->n == 0) {
		arena_free(s->mem);
		s->mem = NULL;
		serve(s, NULL);
		return;
	}
	s->state = COMPILING;
	s->rule = arena_alloc(s->mem, s->n * sizeof s->rule[0]);
	for (const struct page *p = s->first; p != NULL; p = p->next) {
		memcpy(s->rule + n, p->at, p->n * sizeof p->at[0]);
		n += p->n;
	}
	s->job.run = compile;
	s->job.done = compile_done;
	s->job.arg = s;
	worker_do(s->x->worker, &s->job);
}

/* --- loading ------------------------------------------------------------------------------- */

/* Parameters become a list of texts, those of an object in the order of the command's own list. */
#define COMMAND_OF "CASE WHEN left(command_to_execute, 1) IN ('!', '#') THEN lower(command_to_execute) " \
	"ELSE '#' || lower(command_to_execute) END"
#define RULE_COLUMNS \
	"id, priority, timeout_seconds, match_type, action, exempt_role, case_sensitive, normalize, string, " \
	"warning_message, block_message, command_to_execute, CASE jsonb_typeof(command_parameters) " \
	"WHEN 'array' THEN (SELECT jsonb_agg(coalesce(e.v, '') ORDER BY e.i) " \
	"FROM jsonb_array_elements_text(command_parameters) WITH ORDINALITY AS e(v, i)) " \
	"WHEN 'object' THEN (SELECT jsonb_agg(coalesce(command_parameters ->> p.name, '') ORDER BY p.i) " \
	"FROM (SELECT c.parameters FROM commands c WHERE c.is_active AND c.prefix = left(" COMMAND_OF ", 1) " \
	"AND c.command = substr(" COMMAND_OF ", 2) ORDER BY c.priority, c.id LIMIT 1) c, " \
	"jsonb_array_elements_text(c.parameters) WITH ORDINALITY AS p(name, i) WHERE p.i <= (SELECT max(q.i) " \
	"FROM jsonb_array_elements_text(c.parameters) WITH ORDINALITY AS q(name, i) " \
	"WHERE command_parameters ? q.name)) END::text, webhook_url, signing_secret"

static const char everywhere_sql[] =
	"SELECT " RULE_COLUMNS " FROM stringmatch WHERE is_active AND enabled_entity_ids = '[]' "
	"AND (priority, id) > ($1::integer, $2::bigint) ORDER BY priority, id LIMIT 500";

static const char here_sql[] =
	"WITH mine AS MATERIALIZED (SELECT * FROM stringmatch WHERE is_active AND enabled_entity_ids <> '[]' "
	"AND (enabled_entity_ids @> $3::jsonb OR enabled_entity_ids @> $4::jsonb)) "
	"SELECT " RULE_COLUMNS " FROM mine WHERE (priority, id) > ($1::integer, $2::bigint) "
	"ORDER BY priority, id LIMIT 500";

static int name_or(const char *const *names, struct str s, int otherwise)
{
	int i = s.p != NULL ? js_name(names, s) : -1;

	return i >= 0 ? i : otherwise;
}

static struct rule rule_of_row(const struct db_result *res, int row, struct arena *mem)
{
	struct rule r = {
		.id = db_int(res, row, 0), .priority = db_int(res, row, 1), .timeout_s = db_int(res, row, 2),
		.match = name_or(rule_match_names, db_str(res, row, 3), RULE_EXACT),
		.action = name_or(rule_action_names, db_str(res, row, 4), RULE_WARN),
		.exempt = name_or(role_names, db_str(res, row, 5), -1),
		.case_sensitive = db_bool(res, row, 6), .normalize = db_bool(res, row, 7),
	};
	struct str *text[] = { &r.string, &r.warning, &r.block, &r.command, &r.parameters, &r.webhook_url };

	for (size_t i = 0; i < ARRAY_LEN(text); i++)
		if (!db_null(res, row, 8 + (int)i))
			*text[i] = arena_str(mem, db_str(res, row, 8 + (int)i));
	r.secret = db_bytes(res, row, COLUMNS - 1, mem);
	return r;
}

static void load_page(struct slot *s);

static void rested(void *arg)
{
	struct rules *x = arg;

	x->resting = false;
	pump(x);
}

static void load_failed(struct slot *s, const char *why)
{
	struct rules *x = s->x;

	x->loading--;
	arena_free(s->mem);
	s->mem = NULL;
	s->state = IDLE;
	if (x->closing)
		return;
	metric_add(&failed, 0, 1);
	log_rarely(10000, L_WARN, NULL, "rules_not_loaded", "will be repeated: %s", why);
	want(s);
	if (!x->resting) {
		x->resting = true;
		timer_start(x->r->s, &x->retry, 20 + clock_backoff_ms(x->failures++, 50, 2000), rested, x);
	}
}

static void page_loaded(void *arg, const struct db_result *res, const struct err *err)
{
	struct slot *s = arg;
	struct page *p;
	bool full;
	int rows;

	if (err != NULL) {
		load_failed(s, err->text);
		return;
	}
	s->x->failures = 0;
	rows = db_rows(res);
	if (rows > 0) {
		p = ARENA_NEW(s->mem, struct page);
		for (int i = 0; i < rows; i++)
			p->at[p->n++] = rule_of_row(res, i, s->mem);
		if (s->last != NULL)
			s->last->next = p;
		else
			s->first = p;
		s->last = p;
		s->n += p->n;
		s->last_priority = p->at[p->n - 1].priority;
		s->last_id = p->at[p->n - 1].id;
	}
	full = s->n >= MAX_RULES || arena_used(s->mem) >= SET_BYTES;
	if (full && rows == PAGE_ROWS)
		log_rarely(60000, L_WARN, NULL, "rules_too_many",
		           "entity %lld has more active rules than %zu; those after them do not act",
		           (long long)s->entity, s->n);
	if (rows == PAGE_ROWS && !full)
		load_page(s);
	else
		all_loaded(s);
	pump(s->x);
}

static void load_page(struct slot *s)
{
	struct db_opts to = { .to = DB_WRITE };
	char here[32], wide[32];
	int r;

	if (s->entity == 0) {
		const struct db_param p[] = { DB_INT(s->last_priority), DB_INT(s->last_id) };

		r = db_send(s->x->r->db, to, page_loaded, s, everywhere_sql, p, ARRAY_LEN(p));
	} else {
		int n_here = snprintf(here, sizeof here, "%lld", (long long)s->entity);
		int n_wide = snprintf(wide, sizeof wide, "%lld",
		                      (long long)(s->wide != 0 ? s->wide : s->entity));
		const struct db_param p[] = {
			DB_INT(s->last_priority), DB_INT(s->last_id),
			DB_STR(((struct str){ here, (size_t)n_here })), DB_STR(((struct str){ wide, (size_t)n_wide })),
		};

		r = db_send(s->x->r->db, to, page_loaded, s, here_sql, p, ARRAY_LEN(p));
	}
	if (r != 0)
		load_failed(s, "the queue to the database is full");
}

static void load_begin(struct slot *s)
{
	s->state = LOADING;
	s->again = false;
	s->began_us = clock_exact_us();
	s->x->loading++;
	s->mem = arena_new(4096, ARENA_BYTES);
	s->first = s->last = NULL;
	s->n = 0;
	s->last_priority = -1;
	s->last_id = 0;
	load_page(s);
}

static void pump(struct rules *x)
{
	while (!x->closing && !x->resting && x->loading < MAX_LOADING && !list_empty(&x->wanted))
		load_begin(CONTAINER_OF(list_pop(&x->wanted), struct slot, queue));
}

/* --- notices ------------------------------------------------------------------------------- */

static void look_into_notices(struct rules *x);

static bool set_has(const struct rules_set *set, int64_t id)
{
	for (size_t i = 0; set != NULL && i < rules_set_size(set); i++)
		if (rules_set_at(set, i)->id == id)
			return true;
	return false;
}

/* "[7, 9]" holds the number. */
static bool listed(struct str list, int64_t id)
{
	struct str rest = list;

	for (size_t i = 0; i < rest.n;) {
		int64_t v = 0;
		size_t digits = 0;

		for (; i < rest.n && rest.p[i] >= '0' && rest.p[i] <= '9' && digits < 12; i++, digits++)
			v = v * 10 + (rest.p[i] - '0');
		if (digits > 0 && v == id)
			return true;
		i += digits == 0;
	}
	return false;
}

static void notices_answered(void *arg, const struct db_result *res, const struct err *err)
{
	struct rules *x = arg;

	x->asking = false;
	if (x->closing)
		return;
	if (err != NULL)
		x->all_changed = true;  /* whatever they were about */
	else
		x->exist = db_bool(res, 0, 2);
	LIST_EACH(pos, tmp, &x->all) {
		struct slot *s = CONTAINER_OF(pos, struct slot, all);

		for (int i = 0; err == NULL && i < db_rows(res); i++) {
			struct str places = db_str(res, i, 1);

			if (db_null(res, i, 0))
				continue;       /* only whether there are rules was asked */
			if (set_has(s->set, db_int(res, i, 0)) ||
			    (s->entity == 0 ? str_eq(places, STR("[]")) :
			                      listed(places, s->entity) || (s->wide != 0 && listed(places, s->wide)))) {
				changed(s);
				break;
			}
		}
	}
	if (err != NULL && !x->resting) {
		x->resting = true;
		timer_start(x->r->s, &x->retry, 20 + clock_backoff_ms(x->failures++, 50, 2000), rested, x);
	}
	pump(x);
}

static void look_into_notices(struct rules *x)
{
	struct db_param id[MAX_IDS];
	size_t n = x->n_ids;

	if (x->asking || x->closing || x->resting || (n == 0 && !x->all_changed && x->exist >= 0))
		return;
	if (x->all_changed)
		LIST_EACH(pos, tmp, &x->all)
			changed(CONTAINER_OF(pos, struct slot, all));
	for (size_t i = 0; i < n; i++)
		id[i] = DB_INT(x->id[i]);
	if (n == 0)
		id[n++] = DB_INT(0);    /* an empty array has no type of its own */

	const struct db_param ids = DB_ARRAY(id, n);

	x->asking = db_send(x->r->db, (struct db_opts){ .to = DB_WRITE }, notices_answered, x,
	                    "SELECT n.id, coalesce(s.enabled_entity_ids, '[0]')::text, "
	                    "EXISTS (SELECT FROM stringmatch WHERE is_active) "
	                    "FROM unnest($1::bigint[]) AS n(id) LEFT JOIN stringmatch s ON s.id = n.id",
	                    &ids, 1) == 0;
	if (x->asking) {
		x->n_ids = 0;
		x->all_changed = false;
	}
	pump(x);
}

void rules_invalidate(struct rules *x, struct str notice)
{
	struct str key, table = str_cut(notice, ':', &key);
	int64_t id;

	IS_A(x, RULES_MAGIC);
	if (notice.n > 0 && !str_eq(table, STR("stringmatch")))
		return;
	if (notice.n == 0 || x->n_ids == MAX_IDS || str_int(key, 1, INT64_MAX, &id) != 0)
		x->all_changed = true;
	else
		x->id[x->n_ids++] = id;
}

/* --- asking -------------------------------------------------------------------------------- */

/* Its set may be used now. */
static bool fresh(struct slot *s)
{
	int64_t now = clock_mono_ms(), ttl = lookup_listening(s->x->r->lookup) ? TTL_MS : DEAF_MS;

	if (s->used_mono_ms + 1000 <= now) {    /* once a second is enough to know who is idle */
		s->used_mono_ms = now;
		list_move(&s->x->all, &s->all);
	}
	if (s->known && now - s->loaded_mono_ms < ttl)
		return true;
	want(s);
	/* The old one serves while the new one comes, but not one that nobody has looked after. */
	return s->known && now - s->loaded_mono_ms < 2 * ttl;
}

bool rules_sets(struct rules *x, int64_t entity_id, int64_t server_wide_id, struct rules_set *ret[2],
                void (*again)(void *arg), void *arg)
{
	int64_t wide = server_wide_id != entity_id ? server_wide_id : 0;
	struct slot *own = NULL, *not_yet = NULL;

	IS_A(x, RULES_MAGIC);
	ret[0] = ret[1] = NULL;
	if (entity_id != 0) {
		own = slot_find(x, entity_id, wide);
		if (own == NULL)
			own = slot_new(x, entity_id, wide);
		if (!fresh(own))
			not_yet = own;
	}
	if (!fresh(x->global))
		not_yet = x->global;
	if (not_yet == NULL) {
		ret[0] = x->global->set;
		ret[1] = own != NULL ? own->set : NULL;
		return true;
	}

	struct waiter *w = XNEW(struct waiter);

	w->again = again;
	w->arg = arg;
	list_add_tail(&not_yet->waiters, &w->node);
	return false;
}

bool rules_exist(const struct rules *x)
{
	return x->exist != 0;
}

struct rules_scan *rules_scan_of(struct rules *x)
{
	return x->scan;
}

struct worker *rules_worker(struct rules *x)
{
	return x->worker;
}

/* --- life ---------------------------------------------------------------------------------- */

static void turn(void *arg)
{
	struct rules *x = arg;
	struct list now, *n;

	list_init(&now);
	while ((n = list_pop(&x->told)) != NULL)
		list_add_tail(&now, n);
	while ((n = list_pop(&now)) != NULL) {
		struct waiter *w = CONTAINER_OF(n, struct waiter, node);

		w->again(w->arg);
		free(w);
	}
	look_into_notices(x);
	pump(x);
}

static void sweep(void *arg)
{
	struct rules *x = arg;
	int64_t now = clock_mono_ms();

	LIST_EACH(pos, tmp, &x->all) {
		struct slot *s = CONTAINER_OF(pos, struct slot, all);

		if (s == x->global)
			continue;
		if (now - s->used_mono_ms < IDLE_MS)
			break;                  /* the others were used later */
		if (s->state == IDLE && list_empty(&s->waiters))
			slot_free(s);
	}
	timer_start(x->r->s, &x->sweep, SWEEP_MS, sweep, x);
}

struct rules *rules_open(struct router *r, struct err *err)
{
	struct rules_scan *scan = rules_scan_new(err);
	struct rules *x;

	if (scan == NULL)
		return NULL;
	x = XNEW(struct rules);
	MAKE_A(x, RULES_MAGIC);
	x->r = r;
	x->scan = scan;
	x->exist = -1;
	list_init(&x->all);
	list_init(&x->wanted);
	list_init(&x->told);
	x->worker = worker_open(r->s, "rules");
	x->global = slot_new(x, 0, 0);
	want(x->global);
	service_on_turn(r->s, turn, x);
	timer_start(r->s, &x->sweep, SWEEP_MS, sweep, x);
	return x;
}

void rules_close(struct rules *x)
{
	struct list *n;

	if (x == NULL)
		return;
	x->closing = true;
	service_off_turn(x->r->s, turn, x);
	timer_stop(&x->sweep);
	timer_stop(&x->retry);
	worker_close(x->worker);
	while ((n = list_first(&x->all)) != NULL)
		slot_free(CONTAINER_OF(n, struct slot, all));
	while ((n = list_pop(&x->told)) != NULL)
		free(CONTAINER_OF(n, struct waiter, node));
	hash_clear(&x->by_key);
	rules_scan_free(x->scan);
	NOT_A_MORE(x, RULES_MAGIC);
	free(x);
}

/* partition.c - epochs: taken when a partition comes, checked when a batch goes.
 *
 * Kafka alone does not keep a stopped process from writing: when it wakes it still holds events
 * of partitions that others have by then.  The epoch does, because it is checked by the database
 * in the transaction that writes; the function that raises it waits for such transactions. */
#include "partition.h"
#include "router.h"
#include "clock.h"
#include "err.h"
#include "log.h"
#include "metrics.h"
#include "service.h"

enum state { NONE, WANTED, ASKING, OURS, STALE };
enum { STALE_MS = 10000, MAX_PARTITIONS = 4096 };

struct owned {
	enum state  state;
	uint64_t    term;               /* of the assignment, in this process */
	int64_t     epoch, since_ms, stale_at_ms;
	struct list parked;             /* works judged and not written, in order */
	bool        lost;               /* and what waits is void by now */
};

struct partitions {
	struct router *r;
	struct owned **at;
	int32_t        n;
	bool           wanted, changed, looking, saving;
	int64_t        settled_ms, lower_ms;    /* being saved; the oldest of the batches begun since */
	unsigned       failures;
	struct timer   retry, stale;
	struct list    dead;            /* works given up; done once the bus says they are void */
};

struct question {                       /* partitions in one statement, each with its term */
	struct partitions *p;
	size_t             n;
	struct { int32_t number; uint64_t term; } at[];
};

METRIC(owned_now, METRIC_GAUGE, "waddle_router_partitions_owned", "Partitions of events this replica has taken.");
METRIC(rebalances, METRIC_COUNTER, "waddle_router_rebalances_total", "Times that partitions of events came or went.");
METRIC(refused, METRIC_COUNTER, "waddle_router_stale_batches_total",
       "Batches dropped whole because a partition in them had another owner.");
struct metric *const partition_metrics[] = { &owned_now, &rebalances, &refused, NULL };

static const struct str topic = { "waddle.events", sizeof "waddle.events" - 1 };

static struct owned *owned_of(struct partitions *p, int32_t number)
{
	ASSERT(number >= 0 && number < MAX_PARTITIONS);
	if (number >= p->n) {
		int32_t n = number + 16;

		p->at = reallocarray(p->at, (size_t)n, sizeof(struct owned *));
		ASSERT(p->at != NULL);
		for (; p->n < n; p->n++) {
			p->at[p->n] = XNEW(struct owned);
			list_init(&p->at[p->n]->parked);
		}
	}
	return p->at[number];
}

static void become(struct partitions *p, struct owned *o, enum state state)
{
	metric_add(&owned_now, 0, (uint64_t)((state == OURS) - (o->state == OURS)));
	o->state = state;
	p->wanted = p->wanted || state == WANTED;
}

bool partition_ready(const struct partitions *p, int32_t number)
{
	return number < p->n && p->at[number]->state == OURS;
}

void partition_gained(struct partitions *p, int32_t number)
{
	struct owned *o = owned_of(p, number);

	o->term++;
	become(p, o, WANTED);
	p->changed = true;
}

/* A work that is still valid must not be done here: its offset would count. */
void partition_losing(struct partitions *p, int32_t number)
{
	struct owned *o = owned_of(p, number);
	struct list *n;

	become(p, o, NONE);
	o->term++;
	while ((n = list_pop(&o->parked)) != NULL)
		list_add_tail(&p->dead, n);
	limits_forget(p->r->limits, number);
	o->lost = p->changed = true;
}

void partition_park(struct partitions *p, struct work *w)
{
	list_add_tail(&owned_of(p, w->m->at.partition)->parked, &w->node);
}

/* ---- taking ------------------------------------------------------------------------------ */

static struct question *ask(struct partitions *p, enum state of, struct arena *mem, struct db_param *ret)
{
	struct question *q = xnew_(1, sizeof *q + (size_t)p->n * sizeof q->at[0]);
	struct db_param *number = arena_alloc(mem, (size_t)p->n * sizeof *number + 1);

	q->p = p;
	for (int32_t i = 0; i < p->n; i++) {
		if (p->at[i]->state != of)
			continue;
		number[q->n] = DB_INT(i);
		q->at[q->n].number = i;
		q->at[q->n++].term = p->at[i]->term;
	}
	*ret = DB_ARRAY(number, q->n);
	return q;
}

static struct owned *asked(struct question *q, size_t i, enum state expected)
{
	struct owned *o = q->p->at[q->at[i].number];

	return o->term == q->at[i].term && o->state == expected ? o : NULL;
}

static void retry(void *arg)
{
	struct partitions *p = arg;

	p->wanted = true;
}

static void taken(void *arg, const struct db_result *res, const struct err *err)
{
	struct question *q = arg;
	struct partitions *p = q->p;

	for (size_t i = 0; i < q->n; i++) {
		struct owned *o = asked(q, i, ASKING);

		if (o == NULL)
			continue;
		if (err != NULL) {
			o->state = WANTED;
			continue;
		}
		for (int row = 0; row < db_rows(res); row++)
			if (db_int(res, row, 0) == q->at[i].number) {
				o->epoch = db_int(res, row, 1);
				o->since_ms = db_time(res, row, 2);     /* not known: 0, everything */
			}
		become(p, o, OURS);
		sweeper_search(p->r->sweeper, o->since_ms);
		limits_forget(p->r->limits, q->at[i].number);   /* what it knew was of an owner before */
		intake_go_on(p->r->intake, q->at[i].number, &o->parked);
	}
	if (err != NULL && !db_closing(p->r->db)) {
		log_rarely(10000, L_WARN, NULL, "partitions_not_taken", "tried again: %s", err->text);
		timer_start(p->r->s, &p->retry, clock_backoff_ms(p->failures++, 100, 2000), retry, p);
	} else {
		p->failures = 0;
	}
	free(q);
}

static void take(struct partitions *p)
{
	struct arena *mem = arena_new(4096, 1 << 20);
	struct db_param number;
	struct question *q = ask(p, WANTED, mem, &number);
	struct db_opts opts = { .to = DB_WRITE };

	p->wanted = false;
	if (q->n == 0) {
		free(q);
	} else if (db_query(p->r->db, opts, taken, q,
	                    "SELECT * FROM router_partitions_take($1::text, $2::integer[], $3::text)",
	                    DB_STR(topic), number, DB_STR(p->r->s->base.instance)) == 0) {
		for (size_t i = 0; i < q->n; i++)
			p->at[q->at[i].number]->state = ASKING;
	} else {
		free(q);
		timer_start(p->r->s, &p->retry, 100, retry, p);
	}
	arena_free(mem);
}

/* ---- the check --------------------------------------------------------------------------- */

int partition_guard(struct partitions *p, struct db_tx *tx, const struct list *works, struct arena *mem)
{
	struct db_param *number = arena_alloc(mem, (size_t)p->n * sizeof *number);
	struct db_param *epoch = arena_alloc(mem, (size_t)p->n * sizeof *epoch);
	bool *in = arena_alloc(mem, (size_t)p->n);
	int64_t oldest_ms = INT64_MAX;
	size_t n = 0;

	memset(in, 0, (size_t)p->n);
	LIST_EACH(pos, tmp, works) {
		const struct work *w = CONTAINER_OF(pos, struct work, node);

		in[w->m->at.partition] = true;
		for (size_t i = 0; i < w->n_cand; i++)
			if (w->cand[i].verdict == VERDICT_PENDING && w->ev.received_at_ms < oldest_ms)
				oldest_ms = w->ev.received_at_ms;
	}
	if (oldest_ms < p->lower_ms)
		p->lower_ms = oldest_ms;
	for (int32_t i = 0; i < p->n; i++)
		if (in[i]) {
			number[n] = DB_INT(i);
			epoch[n++] = DB_INT(p->at[i]->epoch);
		}
	return db_tx_query(tx, NULL, NULL,
	                   "SELECT router_partitions_check($1::text, $2::integer[], $3::bigint[], $4::timestamptz)",
	                   DB_STR(topic), DB_ARRAY(number, n), DB_ARRAY(epoch, n),
	                   oldest_ms < INT64_MAX ? DB_TIME(oldest_ms) : DB_NULL);
}

/* The group may not have told us yet; if it never does, it is ours and is taken again. */
static void still_stale(void *arg)
{
	struct partitions *p = arg;

	for (int32_t i = 0; i < p->n; i++) {
		struct owned *o = p->at[i];

		if (o->state != STALE)
			continue;
		if (clock_mono_ms() - o->stale_at_ms >= STALE_MS)
			become(p, o, WANTED);
		else
			timer_start(p->r->s, &p->stale, STALE_MS / 4, still_stale, p);
	}
}

static void looked(void *arg, const struct db_result *res, const struct err *err)
{
	struct question *q = arg;
	struct partitions *p = q->p;

	p->looking = false;
	for (size_t i = 0; err == NULL && i < q->n; i++) {
		struct owned *o = asked(q, i, OURS);
		bool same = false;

		for (int row = 0; row < db_rows(res); row++)
			same = same || (db_int(res, row, 0) == q->at[i].number && o != NULL &&
			                db_int(res, row, 1) == o->epoch);
		if (o == NULL || same)
			continue;
		log_warn(NULL, "partition_stale", "partition %d has another owner", (int)q->at[i].number);
		become(p, o, STALE);
		o->stale_at_ms = clock_mono_ms();
		timer_start(p->r->s, &p->stale, STALE_MS / 4, still_stale, p);
	}
	free(q);
}

bool partition_refused(struct partitions *p, const struct err *err)
{
	struct arena *mem;
	struct question *q;
	struct db_param number;
	struct db_opts opts = { .to = DB_WRITE };

	if (strcmp(err->sqlstate, "WB001") != 0)
		return false;
	metric_add(&refused, 0, 1);
	if (p->looking)
		return true;
	mem = arena_new(4096, 1 << 20);
	q = ask(p, OURS, mem, &number);
	p->looking = q->n > 0 && db_query(p->r->db, opts, looked, q,
	                                  "SELECT partition, epoch FROM router_partitions WHERE topic = $1 "
	                                  "AND partition = ANY ($2::integer[])",
	                                  DB_STR(topic), number) == 0;
	if (!p->looking)
		free(q);
	arena_free(mem);
	return true;
}

/* ---- the point from which the next owner searches ----------------------------------------- */

static void saved(void *arg, const struct db_result *res, const struct err *err)
{
	struct partitions *p = arg;

	(void)res;
	p->saving = false;
	if (err != NULL)
		log_rarely(10000, L_WARN, NULL, "settled_not_saved", "%s", err->text);
	else if (p->lower_ms < p->settled_ms)
		partitions_settled(p, p->lower_ms);
}

/* The check of a batch moves it back when its rows are older; a batch whose check came before this
 * statement, and is older all the same, is made up for by saving once more. */
void partitions_settled(struct partitions *p, int64_t before_ms)
{
	struct arena *mem;
	struct db_param *number, *epoch;
	struct db_opts opts = { .to = DB_WRITE };
	size_t n = 0;

	if (p->saving || p->n == 0)
		return;
	mem = arena_new(4096, 1 << 20);
	number = arena_alloc(mem, (size_t)p->n * sizeof *number);
	epoch = arena_alloc(mem, (size_t)p->n * sizeof *epoch);
	for (int32_t i = 0; i < p->n; i++)
		if (p->at[i]->state == OURS) {
			number[n] = DB_INT(i);
			epoch[n++] = DB_INT(p->at[i]->epoch);
		}
	p->settled_ms = before_ms;
	p->lower_ms = INT64_MAX;
	p->saving = n > 0 && db_query(p->r->db, opts, saved, p,
	                              "UPDATE router_partitions p SET pending_since = $4, updated_at = now() "
	                              "FROM unnest($2::integer[], $3::bigint[]) AS k(partition, epoch) "
	                              "WHERE p.topic = $1 AND p.partition = k.partition AND p.epoch = k.epoch",
	                              DB_STR(topic), DB_ARRAY(number, n), DB_ARRAY(epoch, n),
	                              DB_TIME(before_ms)) == 0;
	arena_free(mem);
}

/* ------------------------------------------------------------------------------------------ */

static void turn(void *arg)
{
	struct partitions *p = arg;
	struct list *n;

	while ((n = list_pop(&p->dead)) != NULL)
		intake_done(CONTAINER_OF(n, struct work, node));
	for (int32_t i = 0; p->changed && i < p->n; i++)
		if (p->at[i]->lost) {
			p->at[i]->lost = false;
			intake_go_on(p->r->intake, i, NULL);
		}
	metric_add(&rebalances, 0, p->changed);
	p->changed = false;
	if (p->wanted && !timer_running(&p->retry))
		take(p);
}

struct partitions *partitions_open(struct router *r)
{
	struct partitions *p = XNEW(struct partitions);

	p->r = r;
	list_init(&p->dead);
	service_on_turn(r->s, turn, p);
	return p;
}

/* After db_close() and bus_close(); the works are intake's. */
void partitions_close(struct partitions *p)
{
	if (p == NULL)
		return;
	service_off_turn(p->r->s, turn, p);
	timer_stop(&p->retry);
	timer_stop(&p->stale);
	for (int32_t i = 0; i < p->n; i++)
		free(p->at[i]);
	free(p->at);
	free(p);
}

/* intake.c - events in, judged events out, in the order of their partition.
 *
 * Look-ups of many events run at once; verdicts are given in order, because the rate limit and
 * the order of a community's commands depend on it.  An event whose data is not in the caches
 * holds up its own partition only. */
#include "router.h"
#include "clock.h"
#include "err.h"
#include "ids.h"
#include "log.h"
#include "metrics.h"
#include "positions.h"
#include "service.h"

struct part { struct list queue; };     /* works of one partition, oldest first */

struct intake {
	struct router  *r;
	struct bus_sub *sub;
	struct part    *part;
	int32_t         n_parts;
	struct list     idle, all;      /* works without a message; all there are */
};

METRIC_BY(verdicts, METRIC_COUNTER, "waddle_router_events_total", "Events by verdict.", "verdict", verdict_names);
METRIC(refused, METRIC_COUNTER, "waddle_router_bad_events_total", "Events sent to the dead-letter topic.");
METRIC(waiting, METRIC_GAUGE, "waddle_router_events_waiting", "Events whose look-ups are not complete.");
struct metric *const intake_metrics[] = { &verdicts, &refused, &waiting, NULL };

static struct work *take(struct intake *in)
{
	struct list *n = list_pop(&in->idle);
	struct work *w;

	if (n != NULL)
		return CONTAINER_OF(n, struct work, node);
	w = XNEW(struct work);
	MAKE_A(w, WORK_MAGIC);
	w->r = in->r;
	w->mem = arena_new(2048, 1 << 20);
	list_init(&w->node);
	list_add_tail(&in->all, &w->all);
	return w;
}

static void release(struct work *w)
{
	cache_release(w->place);
	cache_release(w->routes);
	cache_release(w->person);
	for (size_t i = 0; i < w->n_cand; i++) {
		cache_release(w->cand[i].grant_item);
		limits_release(w->r->limits, &w->cand[i]);
		w->cand[i] = (struct candidate){ 0 };
	}
	w->place = w->routes = w->person = NULL;
	w->n_cand = 0;
	w->rule = (struct rule_hit){ 0 };
	w->effects = false;
}

static void give_back(struct intake *in, struct work *w)
{
	release(w);
	w->loads = w->unacked = 0;
	w->ready = w->alone = false;
	w->m = NULL;
	arena_reset(w->mem);
	list_add_head(&in->idle, &w->node);
}

void intake_done(struct work *w)
{
	IS_A(w, WORK_MAGIC);
	bus_done(w->m);
	give_back(w->r->intake, w);
}

void intake_reject(struct work *w, const char *reason, const struct err *why)
{
	IS_A(w, WORK_MAGIC);
	metric_add(&refused, 0, 1);
	bus_reject(w->m, reason, why);
	give_back(w->r->intake, w);
}

static void again(void *arg);

/* Its partition is taken and its limits are known. */
static bool may_judge(struct work *w)
{
	if (!partition_ready(w->r->partitions, w->m->at.partition))
		return false;
	w->loads += limits_look(w->r->limits, w, again);
	w->ready = w->loads == 0;
	return w->ready;
}

static void settle(struct intake *in, struct part *p)
{
	struct list *n;

	while ((n = list_first(&p->queue)) != NULL) {
		struct work *w = CONTAINER_OF(n, struct work, node);

		if (!w->ready || !(bus_msg_void(w->m) || may_judge(w)))
			return;
		list_del(&w->node);
		metric_add(&waiting, 0, (uint64_t)-1);
		if (bus_msg_void(w->m)) {       /* somebody else has it now */
			intake_done(w);
			continue;
		}
		judge(w);
		metric_add(&verdicts, w->verdict, 1);
		dispatch_add(in->r->dispatch, w);
	}
}

static void resolve(struct work *w);

static void again(void *arg)
{
	struct work *w = arg;

	IS_A(w, WORK_MAGIC);
	ASSERT(w->loads > 0);
	if (--w->loads > 0)
		return;
	resolve(w);
	if (w->ready && (bus_msg_void(w->m) || may_judge(w)))
		settle(w->r->intake, &w->r->intake->part[w->m->at.partition]);
}

/* True: *item is settled, *none telling whether there is one.  False: being loaded. */
static bool look(struct work *w, enum lookup_kind kind, const struct str *fields, size_t n,
                 struct cache_item **item, bool *none)
{
	*none = false;
	if (*item != NULL)
		return true;
	*item = lookup_get(w->r->lookup, kind, fields, n, none, again, w);
	if (*item != NULL || *none)
		return true;
	w->loads++;
	return false;
}

static struct part *part_of(struct intake *in, int32_t partition)
{
	ASSERT(partition >= 0);
	if (partition >= in->n_parts) {
		int32_t n = partition + 64;
		struct part *grown = XNEW_N(struct part, (size_t)n);

		for (int32_t i = 0; i < n; i++) {
			struct list *q;

			list_init(&grown[i].queue);
			while (i < in->n_parts && (q = list_pop(&in->part[i].queue)) != NULL)
				list_add_tail(&grown[i].queue, q);
		}
		free(in->part);
		in->part = grown;
		in->n_parts = n;
	}
	return &in->part[partition];
}

void intake_go_on(struct intake *in, int32_t partition, struct list *back)
{
	struct part *p = part_of(in, partition);

	while (back != NULL && !list_empty(back)) {
		struct list *last = back->prev;

		list_del(last);
		list_add_head(&p->queue, last);
		metric_add(&waiting, 0, 1);
	}
	LIST_EACH(n, tmp, &p->queue) {
		struct work *w = CONTAINER_OF(n, struct work, node);

		if (w->ready && !bus_msg_void(w->m))
			(void)may_judge(w);     /* all that waited, in one statement */
	}
	settle(in, p);
}

static struct str int_text(int64_t v, char out[24])
{
	int n = snprintf(out, 24, "%lld", (long long)v);

	return (struct str){ out, (size_t)n };
}

/* Collects what the verdict needs; may be called again after each load and starts only what is
 * still missing.  Two rounds at most: people and grants need the ids of place and command. */
static void resolve(struct work *w)
{
	char a[24], b[24], c[24], name[420];
	bool no_place, no_routes, none, here;
	struct str full = { name, 0 };

	if (w->cmd.name.n + 1 > sizeof name) {
		w->ready = true;                /* longer than any command can be: unknown */
		return;
	}
	name[0] = w->cmd.prefix.p[0];
	memcpy(name + 1, w->cmd.name.p, w->cmd.name.n);
	full.n = w->cmd.name.n + 1;

	here = look(w, LOOKUP_PLACE, &w->ev.entity, 1, &w->place, &no_place);
	here = look(w, LOOKUP_ROUTES, &full, 1, &w->routes, &no_routes) && here;
	if (!here)
		return;
	if (no_place || no_routes) {
		w->ready = true;
		return;
	}

	const struct place *place = cache_value(w->place);
	const struct routes *routes = cache_value(w->routes);
	struct str who[3] = { int_text(place->community_id, a), w->ev.platform, w->ev.user.id };

	here = look(w, LOOKUP_PERSON, who, 3, &w->person, &none);
	w->n_cand = routes->n < MAX_CANDIDATES ? routes->n : MAX_CANDIDATES;
	for (size_t i = 0; i < w->n_cand; i++) {
		struct str grant[3] = { int_text(routes->at[i].id, a), int_text(place->entity_id, b),
		                        int_text(place->server_wide_id, c) };

		w->cand[i].route = &routes->at[i];
		w->cand[i].cmd = &w->cmd;
		here = look(w, LOOKUP_GRANT, grant, 3, &w->cand[i].grant_item, &none) && here;
		w->cand[i].grant = w->cand[i].grant_item != NULL ? cache_value(w->cand[i].grant_item) : NULL;
	}
	w->ready = here;
}

/* A trace that a redelivery makes again, when the sender started none. */
static void trace_of(struct work *w)
{
	struct str t = bus_header(w->m, "traceparent");
	size_t n = 0;

	if (trace_ok(t)) {
		memcpy(w->trace_id, t.p + 3, 32);
		w->trace_id[32] = '\0';
		return;
	}
	for (size_t i = 0; i < 36; i++)
		if (w->session_id[i] != '-')
			w->trace_id[n++] = w->session_id[i];
	w->trace_id[n] = '\0';
}

static bool is_text_command(int message_type)
{
	return message_type == MSG_CHAT || message_type == MSG_APP_MENTION;
}

static void arrived(void *arg, struct bus_msg *m)
{
	struct intake *in = arg;
	struct work *w = take(in);
	struct part *p = part_of(in, m->at.partition);
	struct err err = { 0 };
	int r;

	w->m = m;
	r = envelope_decode(m, ENV_EVENT, NULL, &w->ev, w->mem, &err);
	if (r != 0) {
		log_rarely(1000, L_WARN, NULL, "event_refused", "partition %d offset %lld: %s",
		           m->at.partition, (long long)m->offset, err.text);
		metric_add(&verdicts, VERDICT_BAD_EVENT, 1);
		intake_reject(w, envelope_reason(ENV_EVENT, r == -ENOBUFS ? -EMSGSIZE : r), &err);
		return;
	}
	if (!is_text_command(w->ev.message_type) || !parse_command(w->ev.message_content, w->mem, &w->cmd)) {
		metric_add(&verdicts, VERDICT_PLAIN, 1);
		intake_done(w);
		return;
	}
	id_session(w->ev.event_id, w->session_id);
	trace_of(w);
	list_add_tail(&p->queue, &w->node);
	metric_add(&waiting, 0, 1);
	resolve(w);
	if (w->ready)
		(void)may_judge(w);             /* so that its limits are read while it waits */
	settle(in, p);
}

/* What waits for look-ups finds its messages void and is dropped when they are complete. */
static void losing(void *arg, struct bus_part at, bool lost)
{
	struct intake *in = arg;

	partition_losing(in->r->partitions, at.partition);
	log_info(NULL, "partition_lost", STR_FMT " %d%s", STR_ARG(at.topic), at.partition,
	         lost ? ", without warning" : "");
}

static void gained(void *arg, struct bus_part at)
{
	struct intake *in = arg;

	partition_gained(in->r->partitions, at.partition);
	positions_gained(in->r->positions);
}

struct intake *intake_open(struct router *r, struct err *err)
{
	static const char *const from[] = { "waddle.events", NULL };
	struct intake *in = XNEW(struct intake);
	struct bus_consumer c = {
		.group = "waddle.router", .topics = from, .max_held = (int)r->settings->events_held,
		.message = arrived, .gained = gained, .losing = losing, .arg = in,
	};

	in->r = r;
	list_init(&in->idle);
	list_init(&in->all);
	if (bus_consume(r->bus, &c, &in->sub, err) != 0) {
		free(in);
		return NULL;
	}
	return in;
}

void intake_drain(struct intake *in)
{
	bus_unsubscribe(in->sub);
}

/* After bus_close() and db_close(): nothing calls back any more. */
void intake_close(struct intake *in)
{
	struct list *n;

	if (in == NULL)
		return;
	while ((n = list_pop(&in->all)) != NULL) {
		struct work *w = CONTAINER_OF(n, struct work, all);

		release(w);
		arena_free(w->mem);
		NOT_A_MORE(w, WORK_MAGIC);
		free(w);
	}
	free(in->part);
	free(in);
}

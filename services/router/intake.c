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

static const char *const platforms[] = { "twitch", "discord", "slack", "kick", "youtube", "terminal", "other", NULL };
METRIC_BY3(verdicts, METRIC_COUNTER, "waddle_router_events_total", "Events by verdict.", "platform", platforms,
           "message_type", message_type_names, "verdict", verdict_names);
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
	w->mem = arena_new(2048, 4 << 20);
	list_init(&w->node);
	list_add_tail(&in->all, &w->all);
	return w;
}

static void release(struct work *w)
{
	for (size_t i = 0; i < w->n_cand; i++)
		limits_release(w->r->limits, &w->cand[i]);
	resolve_release(w);
	w->effects = w->formed = false;
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

/* Its partition is taken and its limits are known. */
static bool may_judge(struct work *w)
{
	if (!partition_ready(w->r->partitions, w->m->at.partition))
		return false;
	w->loads += limits_look(w->r->limits, w, intake_again);
	w->ready = w->loads == 0;
	return w->ready;
}

static void count(const struct work *w, enum verdict v)
{
	int platform = js_name(platforms, w->ev.platform);

	if (platform < 0)
		platform = ARRAY_LEN(platforms) - 2;
	metric_add(&verdicts, METRIC_AT3(&verdicts, platform, w->ev.message_type, v), 1);
}

/* Most events are this: chat that is no command, where nothing waits for chat. */
static bool nothing_to_do(const struct work *w)
{
	return w->asks == ASKS_NOTHING && w->n_cand == 0 && w->rule.id == 0;
}

__attribute__((weak)) bool form_submission(struct work *w)
{
	(void)w;
	return false;
}

void intake_judge(struct work *w)
{
	judge(w);
	count(w, w->verdict);
	if (nothing_to_do(w))
		intake_done(w);
	else
		dispatch_add(w->r->dispatch, w);
}

static void settle(struct part *p)
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
		if (w->asks == ASKS_FORM && !w->formed && w->place != NULL) {
			w->formed = true;
			if (form_submission(w))
				continue;
		}
		intake_judge(w);
	}
}

void intake_again(void *arg)
{
	struct work *w = arg;

	IS_A(w, WORK_MAGIC);
	ASSERT(w->loads > 0);
	if (--w->loads > 0)
		return;
	resolve(w);
	if (w->ready && (bus_msg_void(w->m) || may_judge(w)))
		settle(&w->r->intake->part[w->m->at.partition]);
}

void intake_as_command(struct work *w, struct parsed cmd, int64_t command_id)
{
	struct intake *in = w->r->intake;
	struct part *p = &in->part[w->m->at.partition];

	resolve_as_command(w, cmd, command_id);
	list_add_head(&p->queue, &w->node);
	metric_add(&waiting, 0, 1);
	resolve(w);
	settle(p);
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
	settle(p);
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
		w->ev = (struct event){ 0 };
		count(w, VERDICT_BAD_EVENT);
		intake_reject(w, envelope_reason(ENV_EVENT, r == -ENOBUFS ? -EMSGSIZE : r), &err);
		return;
	}
	w->asks = parse_event(&w->ev, w->mem, &w->cmd);
	resolve(w);
	if (w->ready && nothing_to_do(w)) {
		count(w, w->base);
		intake_done(w);
		return;
	}
	id_session(w->ev.event_id, w->session_id);
	trace_of(w);
	list_add_tail(&p->queue, &w->node);
	metric_add(&waiting, 0, 1);
	if (w->ready)
		(void)may_judge(w);             /* so that its limits are read while it waits */
	settle(p);
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

/* bus_consume.c - from the broker's messages to message(), and back to stored offsets. */
#include "bus_impl.h"

#include "log.h"

/* ---- taking ------------------------------------------------------------------------------ */

static bool may_take(const struct bus_sub *sub)
{
	return sub->state == SUB_RUNS && !sub->paused && !sub->full && sub->wide == 0 && !sub->b->closing &&
	       sub->b->fatal.code == 0;
}

static struct bus_assigned *part_find(struct bus_sub *sub, const rd_kafka_message_t *rkm)
{
	struct bus_assigned *p = sub->last;
	const char *topic;

	if (p != NULL && p->rkt == rkm->rkt && p->at.partition == rkm->partition)
		return p;
	topic = rd_kafka_topic_name(rkm->rkt);
	LIST_EACH(n, tmp, &sub->parts) {
		p = CONTAINER_OF(n, struct bus_assigned, node);
		if (p->at.partition != rkm->partition || (p->rkt != rkm->rkt && strcmp(p->wire, topic) != 0))
			continue;
		p->rkt = rkm->rkt;
		sub->last = p;
		return p;
	}
	return NULL;
}

/* How far behind the newest message the oldest one not done may be. */
static size_t span_max(const struct bus_sub *sub)
{
	size_t n = 16 * (size_t)sub->c.max_held;

	return n < 1024 ? 1024 : n;
}

static void trouble(struct bus_sub *sub, const rd_kafka_message_t *rkm)
{
	const char *topic = rkm->rkt != NULL ? rd_kafka_topic_name(rkm->rkt) : "";

	if (rkm->err == RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED)
		log_warn(NULL, "bus_stalled", "%s was not served for too long, its partitions went to others",
		         sub->c.group);
	else if (rkm->err == RD_KAFKA_RESP_ERR__FATAL)
		bus_trouble(sub->rk, rkm->err, rd_kafka_message_errstr(rkm), sub);
	else
		log_rarely(10000, L_WARN, NULL, "bus_consume", "%s: %s", topic, rd_kafka_message_errstr(rkm));
}

static void take(struct bus_sub *sub, rd_kafka_message_t *rkm)
{
	struct bus_assigned *p;
	struct bus_held *h;
	rd_kafka_timestamp_type_t kind;

	if (rkm->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
		trouble(sub, rkm);
		rd_kafka_message_destroy(rkm);
		return;
	}
	p = part_find(sub, rkm);
	if (p != NULL && rkm->offset < p->next)
		p = bus_part_again(p, rkm->offset);
	if (p == NULL) { /* of an assignment that is over: its next owner gets it */
		rd_kafka_message_destroy(rkm);
		return;
	}
	h = bus_held_new(sub->b);
	h->m = (struct bus_msg){
		.at = p->at,
		.offset = rkm->offset,
		.sent_at_ms = rd_kafka_message_timestamp(rkm, &kind),
		.key = { rkm->key, rkm->key_len },
		.value = { rkm->payload, rkm->len },
		.wire = rkm,
	};
	h->sub = sub;
	h->part = p;
	h->rkm = rkm;
	h->far = NULL;
	h->unpacked = false;
	MAKE_A(h, HELD_MAGIC);
	list_init(&h->reject);
	list_init(&h->node);
	list_add_tail(&sub->held_list, &h->node);
	p->refs++;
	if (p->first < 0)
		p->first = rkm->offset;
	p->next = rkm->offset + 1;
	sub->nudges = 0;
	h->number = bus_mark_take(&p->mark, rkm->offset);
	if (!p->wide && bus_mark_open(&p->mark) >= span_max(sub)) {
		p->wide = true;
		sub->wide++;
	}
	bus_hold_add(&sub->held);
	sub->full = sub->held.n >= (size_t)sub->c.max_held;
	metric_add(bus_metrics[BM_CONSUMED], 0, 1);
	sub->b->depth++;
	sub->c.message(sub->c.arg, &h->m);
	sub->b->depth--;
}

/* The group's own queue first: rebalances, errors, logs. */
void bus_sub_poll(struct bus_sub *sub)
{
	int64_t until_us = clock_exact_us() + BUS_TURN_US;
	rd_kafka_message_t *rkm;
	int n;

	while ((rkm = rd_kafka_consumer_poll(sub->rk, 0)) != NULL)
		take(sub, rkm);
	for (n = 0; n < BUS_TURN_MESSAGES && may_take(sub); n++) {
		if (n % 32 == 31 && clock_exact_us() > until_us)
			break;
		rkm = rd_kafka_consume_queue(sub->data, 0);
		if (rkm == NULL) {
			bus_nudge(sub);
			return;
		}
		take(sub, rkm);
	}
	bus_nudge(sub);
	if (may_take(sub))
		bus_wake_again(&sub->wake);
}

void bus_sub_kick(struct bus_sub *sub)
{
	if (may_take(sub))
		bus_wake_again(&sub->wake);
}

void bus_pause(struct bus_sub *sub)
{
	IS_A(sub, SUB_MAGIC);
	sub->paused = true;
}

void bus_resume(struct bus_sub *sub)
{
	IS_A(sub, SUB_MAGIC);
	sub->paused = false;
	bus_sub_kick(sub);
}

/* ---- done -------------------------------------------------------------------------------- */

/* What librdkafka may commit, for every partition whose mark rose.  An error means that the
 * partition is no longer ours: its next owner starts where the last commit was. */
void bus_store(struct bus_sub *sub)
{
	rd_kafka_topic_partition_list_t *list = NULL;

	sub->storing = false;
	timer_stop(&sub->store);
	if (sub->c.group == NULL)
		return;
	LIST_EACH(n, tmp, &sub->parts) {
		struct bus_assigned *p = CONTAINER_OF(n, struct bus_assigned, node);

		if (p->mark.low <= p->stored)
			continue;
		if (list == NULL)
			list = rd_kafka_topic_partition_list_new(8);
		rd_kafka_topic_partition_list_add(list, p->wire, p->at.partition)->offset = p->mark.low;
		p->stored = p->mark.low;
	}
	if (list == NULL)
		return;
	rd_kafka_offsets_store(sub->rk, list);
	for (int i = 0; i < list->cnt; i++)
		if (list->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR &&
		    list->elems[i].err != RD_KAFKA_RESP_ERR__STATE)
			log_rarely(10000, L_WARN, NULL, "bus_store", "offset of %s/%d: %s",
			           list->elems[i].topic, (int)list->elems[i].partition,
			           rd_kafka_err2str(list->elems[i].err));
	rd_kafka_topic_partition_list_destroy(list);
}

static void store_due(void *arg)
{
	struct bus_sub *sub = arg;

	IS_A(sub, SUB_MAGIC);
	bus_store(sub);
}

static void leave(struct bus_sub *sub)
{
	sub->state = SUB_LEFT;
	bus_store(sub);
	if (sub->c.group != NULL)
		rd_kafka_unsubscribe(sub->rk);
	else
		rd_kafka_assign(sub->rk, NULL);
}

void bus_drain(struct bus_sub *sub)
{
	sub->state = SUB_DRAINS;
	if (sub->held.n == 0)
		leave(sub);
}

static void advance(struct bus_sub *sub, struct bus_assigned *p, uint64_t number)
{
	if (p->gone || !bus_mark_done(&p->mark, number))
		return;
	if (!sub->storing) {
		sub->storing = true;
		timer_start(sub->b->s, &sub->store, BUS_STORE_MS, store_due, sub);
	}
	if (p->wide && bus_mark_open(&p->mark) < span_max(sub) / 2) {
		p->wide = false;
		sub->wide--;
		bus_sub_kick(sub);
	}
}

void bus_done(struct bus_msg *m)
{
	struct bus_held *h = CONTAINER_OF(m, struct bus_held, m);
	struct bus_sub *sub;
	size_t max;

	IS_A(h, HELD_MAGIC);
	sub = h->sub;
	max = (size_t)sub->c.max_held;
	advance(sub, h->part, h->number);
	bus_part_unref(h->part);
	list_del(&h->node);
	list_del(&h->reject);
	free(h->far);
	rd_kafka_message_destroy(h->rkm);
	NOT_A_MORE(h, HELD_MAGIC);
	bus_held_free(sub->b, h);
	metric_add(bus_metrics[BM_DONE], 0, 1);
	bus_hold_drop(&sub->held);
	if (sub->full && sub->held.n < max && sub->held.n <= max - max / 4) {
		sub->full = false;
		bus_sub_kick(sub);
	}
	if (sub->state == SUB_DRAINS && sub->held.n == 0)
		leave(sub);
}

/* NULL: made by hand. */
static struct bus_held *held_of(const struct bus_msg *m)
{
	struct bus_held *h;

	if (m->wire == NULL)
		return NULL;
	h = CONTAINER_OF((struct bus_msg *)(uintptr_t)m, struct bus_held, m);
	IS_A(h, HELD_MAGIC);
	return h;
}

bool bus_msg_void(const struct bus_msg *m)
{
	const struct bus_held *h = held_of(m);

	return h != NULL && h->part->gone;
}

/* ---- headers ----------------------------------------------------------------------------- */

static void unpack(struct bus_held *h)
{
	rd_kafka_headers_t *list;
	struct bus_header *to = h->near;
	size_t n;

	h->unpacked = true;
	if (rd_kafka_message_headers(h->rkm, &list) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	n = rd_kafka_header_cnt(list);
	if (n > ARRAY_LEN(h->near))
		to = h->far = XNEW_N(struct bus_header, n);
	h->m.headers = to;
	for (size_t i = 0; i < n; i++) {
		const void *value;
		size_t len;

		if (rd_kafka_header_get_all(list, i, &to[i].name, &value, &len) != RD_KAFKA_RESP_ERR_NO_ERROR)
			return;
		to[i].value = (struct str){ value, value != NULL ? len : 0 };
		h->m.n_headers = i + 1;
	}
}

const struct bus_header *bus_headers(const struct bus_msg *m, size_t *ret_n)
{
	struct bus_held *h = held_of(m);

	if (h != NULL && !h->unpacked)
		unpack(h);
	*ret_n = m->n_headers;
	return m->headers;
}

struct str bus_header(const struct bus_msg *m, const char *name)
{
	size_t n;
	const struct bus_header *h = bus_headers(m, &n);

	while (n-- > 0)
		if (strcmp(h[n].name, name) == 0)
			return h[n].value;
	return STR_NONE;
}

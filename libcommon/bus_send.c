/* bus_send.c - the producer: from bus_send() to sent().
 *
 * librdkafka reports inside rd_kafka_poll(), which bus_send() itself may have to call before it
 * can say "full".  So a report is only noted there, and sent() runs from the loop. */
#include "bus_impl.h"

static unsigned chain_of(const char *name)
{
	uint32_t h = 2166136261u;

	for (; *name != '\0'; name++)
		h = (h ^ (unsigned char)*name) * 16777619u;
	return h % BUS_OUT_CHAINS;
}

/* NULL: the name is impossible, or there are too many topics. */
struct bus_out *bus_out_get(struct bus *b, const char *name)
{
	struct bus_out **chain = &b->outs[chain_of(name)], *o;
	char wire[BUS_NAME_MAX];
	rd_kafka_topic_t *rkt;

	for (o = *chain; o != NULL; o = o->next)
		if (strcmp(o->name, name) == 0)
			return o;
	if (b->n_outs == BUS_OUT_MAX || name[0] == '\0' || bus_name_out(&b->prefix, name, wire) < 0)
		return NULL;
	rkt = rd_kafka_topic_new(b->rk, wire, NULL);
	if (rkt == NULL)
		return NULL;
	o = XNEW(struct bus_out);
	o->rkt = rkt;
	o->name = strdup(name);
	ASSERT(o->name != NULL);
	o->next = *chain;
	*chain = o;
	b->n_outs++;
	return o;
}

void bus_outs_clear(struct bus *b)
{
	for (size_t i = 0; i < BUS_OUT_CHAINS; i++)
		while (b->outs[i] != NULL) {
			struct bus_out *o = b->outs[i];

			b->outs[i] = o->next;
			rd_kafka_topic_destroy(o->rkt);
			free(o->name);
			free(o);
		}
}

/* Inside rd_kafka_poll() or rd_kafka_flush(). */
void bus_delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
	struct bus *b = opaque;
	struct bus_report *r = m->_private;

	(void)rk;
	ASSERT(b->in_flight > 0);
	b->in_flight--;
	metric_add(bus_metrics[m->err == RD_KAFKA_RESP_ERR_NO_ERROR ? BM_ACKED : BM_FAILED], 0, 1);
	if (r == NULL) {
		bus_hold_drop(&b->unsent);
		return;
	}
	r->error = m->err;
	r->next = NULL;
	*b->done_end = r;
	b->done_end = &r->next;
}

static bool report_run(struct bus *b)
{
	struct bus_report *r = b->done;
	bus_sent *sent;
	void *arg;
	struct err err;

	if (r == NULL)
		return false;
	b->done = r->next;
	if (b->done == NULL)
		b->done_end = &b->done;
	sent = r->sent;
	arg = r->arg;
	err.code = bus_errno(r->error);
	if (err.code < 0)
		err_set(&err, err.code, "Kafka: %s", rd_kafka_err2str(r->error));
	bus_report_free(b, r);
	b->depth++;
	sent(arg, err.code < 0 ? &err : NULL);
	b->depth--;
	bus_hold_drop(&b->unsent);
	return true;
}

void bus_reports_run(struct bus *b, size_t max)
{
	while (max-- > 0 && report_run(b))
		;
	if (b->done != NULL)
		bus_wake_again(&b->wake);
}

/* librdkafka takes mutable pointers and copies from them. */
static void *mutable(const char *p)
{
	return (void *)(uintptr_t)p;
}

static rd_kafka_resp_err_t produce(struct bus *b, const struct bus_out *o, struct str key, struct str value,
				   const struct bus_header *h, size_t n, struct bus_report *r)
{
	rd_kafka_headers_t *headers = NULL;
	rd_kafka_vu_t v[6] = {
		{ .vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = o->rkt },
		{ .vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY },
		{ .vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = { mutable(value.p), value.n } },
		{ .vtype = RD_KAFKA_VTYPE_KEY, .u.mem = { mutable(key.p), key.n } },
		{ .vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = r },
	};
	size_t n_v = 5;
	rd_kafka_error_t *refused;
	rd_kafka_resp_err_t e = RD_KAFKA_RESP_ERR_NO_ERROR;

	if (n > 0) {
		headers = rd_kafka_headers_new(n);
		for (size_t i = 0; i < n; i++)
			rd_kafka_header_add(headers, h[i].name, -1, h[i].value.p, (ssize_t)h[i].value.n);
		v[n_v++] = (rd_kafka_vu_t){ .vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers };
	}
	refused = rd_kafka_produceva(b->rk, v, n_v);
	if (refused != NULL) {
		e = rd_kafka_error_code(refused);
		rd_kafka_error_destroy(refused);
		if (headers != NULL)
			rd_kafka_headers_destroy(headers);
	}
	return e;
}

/* Delivered messages count against the library's queue until they were reported: look first. */
static bool full(struct bus *b)
{
	if (b->in_flight < BUS_QUEUE_MAX)
		return false;
	rd_kafka_poll(b->rk, 0);
	bus_wake_again(&b->wake);
	return b->in_flight >= BUS_QUEUE_MAX;
}

/* bus_send() without its limit on the body. */
int bus_produce(struct bus *b, const char *topic, struct str key, struct str value,
		const struct bus_header *h, size_t n, bus_sent *sent, void *arg)
{
	struct bus_out *o;
	struct bus_report *r = NULL;
	rd_kafka_resp_err_t e;

	if (b->closing)
		return -ESHUTDOWN;
	o = bus_out_get(b, topic);
	if (o == NULL)
		return -ENOENT;
	if (full(b)) {
		metric_add(bus_metrics[BM_FULL], 0, 1);
		return -EAGAIN;
	}
	if (sent != NULL) {
		r = bus_report_new(b);
		r->sent = sent;
		r->arg = arg;
	}
	e = produce(b, o, key, value, h, n, r);
	if (e == RD_KAFKA_RESP_ERR__QUEUE_FULL) { /* of bytes */
		rd_kafka_poll(b->rk, 0);
		bus_wake_again(&b->wake);
		e = produce(b, o, key, value, h, n, r);
	}
	if (e != RD_KAFKA_RESP_ERR_NO_ERROR) {
		if (r != NULL)
			bus_report_free(b, r);
		if (e == RD_KAFKA_RESP_ERR__QUEUE_FULL)
			metric_add(bus_metrics[BM_FULL], 0, 1);
		return bus_errno(e);
	}
	b->in_flight++;
	bus_hold_add(&b->unsent);
	metric_add(bus_metrics[BM_PRODUCED], 0, 1);
	return 0;
}

int bus_send(struct bus *b, const char *topic, struct str key, struct str value, const struct bus_header *h,
	     size_t n, bus_sent *sent, void *arg)
{
	if (value.n > BUS_BODY_MAX)
		return -EMSGSIZE;
	return bus_produce(b, topic, key, value, h, n, sent, arg);
}

size_t bus_unsent(const struct bus *b)
{
	return b->unsent.n;
}

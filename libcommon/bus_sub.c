/* bus_sub.c - the life of a subscription: start, drain, close. */
#include "bus_impl.h"

static void woken(int fd, short what, void *arg)
{
	struct bus_sub *sub = arg;

	(void)fd, (void)what;
	IS_A(sub, SUB_MAGIC);
	bus_wake_read(&sub->wake);
	bus_sub_poll(sub);
	bus_fatal_check(sub->b);
}

/* A member that never polls is thrown out of its group; an event may have been missed. */
static void ticked(void *arg)
{
	struct bus_sub *sub = arg;

	IS_A(sub, SUB_MAGIC);
	timer_start(sub->b->s, &sub->tick, BUS_TICK_MS, ticked, sub);
	bus_sub_poll(sub);
	bus_fatal_check(sub->b);
}

static char *copy(const char *s)
{
	char *c = s != NULL ? strdup(s) : NULL;

	ASSERT(s == NULL || c != NULL);
	return c;
}

static void copy_wishes(struct bus_sub *sub, const struct bus_consumer *c)
{
	size_t n = 0;
	const char **names;

	while (c->topics[n] != NULL)
		n++;
	names = XNEW_N(const char *, n + 1);
	for (size_t i = 0; i < n; i++)
		names[i] = copy(c->topics[i]);
	sub->c = *c;
	sub->c.group = copy(c->group);
	sub->c.topics = names;
}

static void drop(const char *s)
{
	free((void *)(uintptr_t)s);
}

static void sub_free(struct bus_sub *sub)
{
	bus_wake_close(&sub->wake);
	for (size_t i = 0; sub->c.topics[i] != NULL; i++)
		drop(sub->c.topics[i]);
	free((void *)(uintptr_t)sub->c.topics);
	drop(sub->c.group);
	list_del(&sub->node);
	NOT_A_MORE(sub, SUB_MAGIC);
	free(sub);
}

static int subscribe(struct bus_sub *sub, struct err *err)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(4);
	char wire[BUS_NAME_MAX];
	rd_kafka_resp_err_t e;
	int r = 0;

	for (size_t i = 0; sub->c.topics[i] != NULL; i++) {
		if (bus_name_out(&sub->b->prefix, sub->c.topics[i], wire) < 0) {
			r = err_set(err, -ENAMETOOLONG, "topic %.40s...: name too long", sub->c.topics[i]);
			break;
		}
		rd_kafka_topic_partition_list_add(list, wire, RD_KAFKA_PARTITION_UA);
	}
	e = r == 0 ? rd_kafka_subscribe(sub->rk, list) : RD_KAFKA_RESP_ERR_NO_ERROR;
	if (e != RD_KAFKA_RESP_ERR_NO_ERROR)
		r = err_set(err, -EPROTO, "subscribe %s: %s", sub->c.group, rd_kafka_err2str(e));
	rd_kafka_topic_partition_list_destroy(list);
	return r;
}

/* Patterns match what is there; plain names are expected to be there. */
static void want_topics(struct bus_sub *sub)
{
	for (size_t i = 0; sub->c.topics[i] != NULL; i++) {
		struct bus_out *o = sub->c.topics[i][0] != '^' ? bus_out_get(sub->b, sub->c.topics[i]) : NULL;

		if (o != NULL)
			o->wanted = true;
	}
	sub->b->topics_there = false;
}

int bus_consume(struct bus *b, const struct bus_consumer *c, struct bus_sub **ret, struct err *err)
{
	struct bus_sub *sub = XNEW(struct bus_sub);
	rd_kafka_conf_t *conf;
	int r;

	ASSERT(c->message != NULL && c->max_held > 0 && !b->closing);
	MAKE_A(sub, SUB_MAGIC);
	sub->b = b;
	sub->held.s = b->s;
	list_init(&sub->held_list);
	list_init(&sub->parts);
	list_init(&sub->node);
	list_add_tail(&b->subs, &sub->node);
	sub->wake.fd = -1;
	copy_wishes(sub, c);
	conf = bus_conf_consumer(sub, err);
	sub->rk = conf != NULL ? bus_client(RD_KAFKA_CONSUMER, conf, err) : NULL;
	if (sub->rk == NULL) {
		sub_free(sub);
		return err != NULL ? err->code : -EPROTO;
	}
	rd_kafka_poll_set_consumer(sub->rk);
	sub->control = rd_kafka_queue_get_consumer(sub->rk);
	sub->data = rd_kafka_queue_new(sub->rk);
	r = sub->c.group != NULL ? subscribe(sub, err) : bus_tail_start(sub, err);
	if (r < 0) {
		bus_sub_close(sub, clock_mono_ms());
		return r;
	}
	bus_wake_open(&sub->wake, b->s, woken, sub);
	bus_wake_on(&sub->wake, sub->control);
	bus_wake_on(&sub->wake, sub->data);
	timer_start(b->s, &sub->tick, BUS_TICK_MS, ticked, sub);
	want_topics(sub);
	*ret = sub;
	return 0;
}

void bus_unsubscribe(struct bus_sub *sub)
{
	IS_A(sub, SUB_MAGIC);
	if (sub->state == SUB_RUNS)
		bus_drain(sub);
}

/* What the program still holds is void; librdkafka waits for ever for a message not given back. */
static void void_held(struct bus_sub *sub)
{
	LIST_EACH(n, tmp, &sub->held_list) {
		struct bus_held *h = CONTAINER_OF(n, struct bus_held, node);

		bus_done(&h->m);
	}
}

/* The order matters: offsets, leaving (losing() runs), messages, queues, client. */
void bus_sub_close(struct bus_sub *sub, int64_t until_mono_ms)
{
	rd_kafka_error_t *e;
	bool left;

	timer_stop(&sub->tick);
	timer_stop(&sub->nudge);
	sub->state = SUB_LEFT;
	bus_store(sub);
	timer_stop(&sub->store);
	e = rd_kafka_consumer_close_queue(sub->rk, sub->control);
	if (e != NULL)
		rd_kafka_error_destroy(e);
	while (!(left = rd_kafka_consumer_closed(sub->rk)) && clock_exact_us() / 1000 < until_mono_ms) {
		rd_kafka_message_t *rkm = rd_kafka_consume_queue(sub->control, 50);

		if (rkm != NULL)
			rd_kafka_message_destroy(rkm);
	}
	bus_lose_all(sub, sub->c.group != NULL); /* those that the group could not be asked for */
	void_held(sub);
	timer_stop(&sub->store);
	rd_kafka_queue_destroy(sub->control);
	rd_kafka_queue_destroy(sub->data);
	if (left)
		rd_kafka_destroy(sub->rk);
	else
		rd_kafka_destroy_flags(sub->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	sub_free(sub);
}

/* bus_tail.c - a view without a group: every partition from its end at this moment.
 *
 * The ends are asked for here rather than left to librdkafka, which would look them up some time
 * after bus_consume() has returned: what the caller sends next must be seen. */
#include "bus_impl.h"

#include <poll.h>

enum { TAIL_WAIT_MS = 5000 };

static int add_partitions(struct bus_sub *sub, const char *name, rd_kafka_topic_partition_list_t *list,
			  int wait_ms, struct err *err)
{
	const struct rd_kafka_metadata *md;
	struct bus_out *o = bus_out_get(sub->b, name);
	rd_kafka_resp_err_t e;
	int r = 0;

	if (name[0] == '^' || o == NULL)
		return err_set(err, -EINVAL, "%s: no such topic can be", name);
	e = rd_kafka_metadata(sub->b->rk, 0, o->rkt, &md, wait_ms);
	if (e != RD_KAFKA_RESP_ERR_NO_ERROR)
		return err_set(err, bus_errno(e), "%s: %s", name, rd_kafka_err2str(e));
	if (md->topic_cnt != 1 || md->topics[0].err != RD_KAFKA_RESP_ERR_NO_ERROR ||
	    md->topics[0].partition_cnt == 0)
		r = err_set(err, -ENOENT, "%s: no such topic", name);
	for (int i = 0; r == 0 && i < md->topics[0].partition_cnt; i++)
		rd_kafka_topic_partition_list_add(list, md->topics[0].topic, md->topics[0].partitions[i].id)
			->offset = RD_KAFKA_OFFSET_END;
	rd_kafka_metadata_destroy(md);
	return r;
}

static int left_ms(int64_t until_us)
{
	int64_t ms = (until_us - clock_exact_us()) / 1000;

	return ms > 1 ? (int)ms : 1;
}

/* A leader needs a moment to know that it is one: after a creation, after a restart. */
static rd_kafka_resp_err_t ask_ends(struct bus_sub *sub, rd_kafka_topic_partition_list_t *list, int64_t until_us)
{
	rd_kafka_resp_err_t e;

	for (;;) {
		for (int i = 0; i < list->cnt; i++)
			list->elems[i].offset = RD_KAFKA_OFFSET_END;
		e = rd_kafka_offsets_for_times(sub->rk, list, left_ms(until_us));
		for (int i = 0; e == RD_KAFKA_RESP_ERR_NO_ERROR && i < list->cnt; i++)
			e = list->elems[i].err;
		if (e == RD_KAFKA_RESP_ERR_NO_ERROR || clock_exact_us() >= until_us)
			return e;
		poll(NULL, 0, 20);
	}
}

int bus_tail_start(struct bus_sub *sub, struct err *err)
{
	int64_t until_us = clock_exact_us() + TAIL_WAIT_MS * 1000;
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);
	rd_kafka_resp_err_t e;
	int r = 0;

	for (size_t i = 0; r == 0 && sub->c.topics[i] != NULL; i++)
		r = add_partitions(sub, sub->c.topics[i], list, left_ms(until_us), err);
	if (r == 0) {
		e = ask_ends(sub, list, until_us);
		if (e != RD_KAFKA_RESP_ERR_NO_ERROR)
			r = err_set(err, bus_errno(e), "ends of the topics: %s", rd_kafka_err2str(e));
	}
	if (r == 0) {
		for (int i = 0; i < list->cnt; i++)
			bus_part_gain(sub, list->elems[i].topic, list->elems[i].partition);
		e = rd_kafka_assign(sub->rk, list);
		if (e != RD_KAFKA_RESP_ERR_NO_ERROR)
			r = err_set(err, -EPROTO, "assign: %s", rd_kafka_err2str(e));
	}
	rd_kafka_topic_partition_list_destroy(list);
	return r;
}

/* bus_nudge.c - keeps old librdkafka fetching while a backlog is worked off.
 *
 * Before 2.2 a client whose local queue was full looks at it again after a second, or when its
 * connection has something to do.  With a queue that is drained in 0.1 s nine tenths of the time
 * are lost (bench_bus: 25 thousand/s become 220 thousand/s), and a queue that lasts a second
 * would need the memory we promised not to use.  So, while the local queue runs low and the
 * broker is known to have more, we ask for a little metadata and do not wait for the answer:
 * its arrival wakes the connection.  From 2.2 on fetch.queue.backoff.ms does this. */
#include "bus_impl.h"

enum {
	NUDGE_MS = 10,
	LOW_WATER = 2500, /* of queued.min.messages, 10000 */
	IN_VAIN = 3,      /* without a message in between; then the second is waited for */
};

static bool broker_has_more(const struct bus_sub *sub)
{
	int64_t low, high;

	LIST_EACH(n, tmp, &sub->parts) {
		const struct bus_assigned *p = CONTAINER_OF(n, struct bus_assigned, node);

		if (p->next >= 0 &&
		    rd_kafka_get_watermark_offsets(sub->rk, p->wire, p->at.partition, &low, &high) ==
		            RD_KAFKA_RESP_ERR_NO_ERROR &&
		    high > p->next)
			return true;
	}
	return false;
}

static void nudge_due(void *arg)
{
	struct bus_sub *sub = arg;
	const struct rd_kafka_metadata *md = NULL;

	IS_A(sub, SUB_MAGIC);
	sub->nudging = false;
	sub->nudge_mono_ms = clock_mono_ms() + NUDGE_MS;
	if (sub->last == NULL || sub->last->rkt == NULL || ++sub->nudges > IN_VAIN || !broker_has_more(sub))
		return;
	if (rd_kafka_metadata(sub->rk, 0, sub->last->rkt, &md, 0) == RD_KAFKA_RESP_ERR_NO_ERROR)
		rd_kafka_metadata_destroy(md);
	bus_nudge(sub);
}

void bus_nudge(struct bus_sub *sub)
{
	int64_t in_ms = sub->nudge_mono_ms - clock_mono_ms();

	if (!sub->nudged || sub->nudging || sub->nudges > IN_VAIN ||
	    rd_kafka_queue_length(sub->data) >= LOW_WATER)
		return;
	sub->nudging = true;
	timer_start(sub->b->s, &sub->nudge, in_ms > 0 ? in_ms : 0, nudge_due, sub);
}

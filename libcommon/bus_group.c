/* bus_group.c - partitions come and go.
 *
 * Everything here runs inside rd_kafka_consumer_poll(), that is from the loop.  librdkafka wants
 * its assign or unassign call every time, whatever we think of the change. */
#include "bus_impl.h"

#include "log.h"

/* Messages of this partition go to our own queue, so that the group's is never behind them. */
static void forward(struct bus_sub *sub, const char *wire, int32_t partition)
{
	rd_kafka_queue_t *q = rd_kafka_queue_get_partition(sub->rk, wire, partition);

	if (q == NULL)
		return;
	rd_kafka_queue_forward(q, sub->data);
	rd_kafka_queue_destroy(q);
}

struct bus_assigned *bus_part_gain(struct bus_sub *sub, const char *wire, int32_t partition)
{
	struct bus_assigned *p = XNEW(struct bus_assigned);
	char name[BUS_NAME_MAX];

	if (bus_name_in(&sub->b->prefix, wire, name) < 0)
		snprintf(name, sizeof(name), "%s", wire);
	p->sub = sub;
	p->wire = strdup(wire);
	p->name = strdup(name);
	ASSERT(p->wire != NULL && p->name != NULL);
	p->at = (struct bus_part){ str_of(p->name), partition };
	bus_mark_clear(&p->mark);
	p->stored = p->first = p->next = -1;
	p->told_lag = INT64_MIN;
	p->refs = 1;
	list_init(&p->node);
	list_add_tail(&sub->parts, &p->node);
	forward(sub, wire, partition);
	metric_add(bus_metrics[BM_PARTITIONS], 0, 1);
	if (sub->c.gained != NULL) {
		sub->b->depth++;
		sub->c.gained(sub->c.arg, p->at);
		sub->b->depth--;
	}
	return p;
}

void bus_part_unref(struct bus_assigned *p)
{
	ASSERT(p->refs > 0);
	if (--p->refs > 0)
		return;
	bus_mark_clear(&p->mark);
	free(p->name);
	free(p->wire);
	free(p);
}

static void void_part(struct bus_assigned *p)
{
	struct bus_sub *sub = p->sub;

	if (p->gone)
		return;
	p->gone = true;
	if (p->wide) {
		p->wide = false;
		sub->wide--;
		bus_sub_kick(sub);
	}
	if (sub->last == p)
		sub->last = NULL;
}

static void lose(struct bus_assigned *p, bool lost)
{
	struct bus_sub *sub = p->sub;

	if (lost)
		void_part(p); /* what is done from now on no longer counts */
	if (sub->c.losing != NULL) {
		sub->b->depth++;
		sub->c.losing(sub->c.arg, p->at, lost);
		sub->b->depth--;
	}
	if (!lost)
		bus_store(sub);
	void_part(p);
	list_del(&p->node);
	metric_add(bus_metrics[BM_PARTITIONS], 0, (uint64_t)-1);
	if (lost)
		metric_add(bus_metrics[BM_LOST], 0, 1);
	bus_part_unref(p);
}

/* The topic was made anew, or the broker lost its end: what we hold is of another life. */
struct bus_assigned *bus_part_again(struct bus_assigned *p, int64_t offset)
{
	struct bus_sub *sub = p->sub;
	struct bus_assigned *fresh;

	log_warn(NULL, "bus_went_back", "%s/%d goes on at offset %lld after %lld", p->wire,
	         (int)p->at.partition, (long long)offset, (long long)p->next - 1);
	p->refs++; /* its name is needed once more */
	lose(p, true);
	fresh = bus_part_gain(sub, p->wire, p->at.partition);
	bus_part_unref(p);
	return fresh;
}

void bus_lose_all(struct bus_sub *sub, bool lost)
{
	LIST_EACH(n, tmp, &sub->parts)
		lose(CONTAINER_OF(n, struct bus_assigned, node), lost);
}

static void lose_listed(struct bus_sub *sub, const rd_kafka_topic_partition_list_t *list, bool lost)
{
	for (int i = 0; i < list->cnt; i++)
		LIST_EACH(n, tmp, &sub->parts) {
			struct bus_assigned *p = CONTAINER_OF(n, struct bus_assigned, node);

			if (p->at.partition == list->elems[i].partition &&
			    strcmp(p->wire, list->elems[i].topic) == 0) {
				lose(p, lost);
				break;
			}
		}
}

/* Of the automatic commits: what fails is tried again with the next. */
void bus_committed(rd_kafka_t *rk, rd_kafka_resp_err_t e, rd_kafka_topic_partition_list_t *list, void *opaque)
{
	const struct bus_sub *sub = opaque;

	(void)rk, (void)list;
	if (e != RD_KAFKA_RESP_ERR_NO_ERROR && e != RD_KAFKA_RESP_ERR__NO_OFFSET)
		log_rarely(10000, L_WARN, NULL, "bus_commit", "%s: %s", sub->c.group, rd_kafka_err2str(e));
}

static void check(const char *what, rd_kafka_error_t *e)
{
	if (e == NULL)
		return;
	log_error(NULL, "bus_rebalance", "%s: %s", what, rd_kafka_error_string(e));
	rd_kafka_error_destroy(e);
}

static bool is_cooperative(rd_kafka_t *rk)
{
	const char *how = rd_kafka_rebalance_protocol(rk);

	return how != NULL && strcmp(how, "COOPERATIVE") == 0;
}

void bus_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t e, rd_kafka_topic_partition_list_t *list, void *opaque)
{
	struct bus_sub *sub = opaque;
	bool some = is_cooperative(rk), lost;

	IS_A(sub, SUB_MAGIC);
	metric_add(bus_metrics[BM_REBALANCES], 0, 1);
	if (e == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
		for (int i = 0; i < list->cnt; i++)
			bus_part_gain(sub, list->elems[i].topic, list->elems[i].partition);
		log_info(NULL, "bus_gained", "%s: %d partitions", sub->c.group, list->cnt);
		if (some)
			check("assign", rd_kafka_incremental_assign(rk, list));
		else
			rd_kafka_assign(rk, list);
		return;
	}
	lost = e != RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS || rd_kafka_assignment_lost(rk);
	if (e == RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS)
		log_info(NULL, "bus_lost", "%s: %d partitions%s", sub->c.group, list->cnt,
		         lost ? ", others may have them already" : "");
	else
		log_error(NULL, "bus_rebalance", "%s: %s", sub->c.group, rd_kafka_err2str(e));
	if (some && e == RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS) {
		lose_listed(sub, list, lost);
		check("unassign", rd_kafka_incremental_unassign(rk, list));
	} else {
		bus_lose_all(sub, lost);
		rd_kafka_assign(rk, NULL);
	}
}

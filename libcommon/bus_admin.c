/* bus_admin.c - topics made and listed; blocking, for command line tools. */
#include "bus_impl.h"

enum { ADMIN_MS = 30000 };

static int ask_metadata(struct bus *b, const struct rd_kafka_metadata **ret, struct err *err)
{
	rd_kafka_resp_err_t e = rd_kafka_metadata(b->rk, 1, NULL, ret, ADMIN_MS);

	if (e != RD_KAFKA_RESP_ERR_NO_ERROR)
		return err_set(err, bus_errno(e), "list of topics: %s", rd_kafka_err2str(e));
	return 0;
}

static const rd_kafka_metadata_topic_t *find(const struct rd_kafka_metadata *md, const char *wire)
{
	for (int i = 0; i < md->topic_cnt; i++)
		if (strcmp(md->topics[i].topic, wire) == 0 &&
		    md->topics[i].err == RD_KAFKA_RESP_ERR_NO_ERROR && md->topics[i].partition_cnt > 0)
			return &md->topics[i];
	return NULL;
}

static void set_config(rd_kafka_NewTopic_t *t, const char *pair)
{
	char name[100];
	const char *is = strchr(pair, '=');

	ASSERT(is != NULL && (size_t)(is - pair) < sizeof(name));
	memcpy(name, pair, (size_t)(is - pair));
	name[is - pair] = '\0';
	rd_kafka_NewTopic_set_config(t, name, is + 1);
}

static rd_kafka_NewTopic_t *new_topic(const char *wire, const struct bus_topic *t, int replicas,
				      struct err *err)
{
	char why[160];
	rd_kafka_NewTopic_t *n = rd_kafka_NewTopic_new(wire, t->partitions, replicas, why, sizeof(why));

	if (n == NULL) {
		err_set(err, -EPROTO, "%s: %s", wire, why);
		return NULL;
	}
	for (size_t i = 0; t->config != NULL && t->config[i] != NULL; i++)
		set_config(n, t->config[i]);
	if (replicas >= 3) /* acks=all with one replica down goes on, with two it waits */
		set_config(n, "min.insync.replicas=2");
	return n;
}

/* One request for all; the answers come back through a queue. */
static rd_kafka_event_t *create(struct bus *b, rd_kafka_NewTopic_t **list, size_t n)
{
	rd_kafka_queue_t *q = rd_kafka_queue_new(b->rk);
	rd_kafka_AdminOptions_t *opt = rd_kafka_AdminOptions_new(b->rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
	rd_kafka_event_t *ev;
	char why[100];

	rd_kafka_AdminOptions_set_request_timeout(opt, ADMIN_MS, why, sizeof(why));
	rd_kafka_AdminOptions_set_operation_timeout(opt, ADMIN_MS, why, sizeof(why));
	rd_kafka_CreateTopics(b->rk, list, n, opt, q);
	ev = rd_kafka_queue_poll(q, ADMIN_MS + 5000);
	rd_kafka_AdminOptions_destroy(opt);
	rd_kafka_queue_destroy(q);
	return ev;
}

struct telling {
	struct bus *b;
	const struct bus_topic *t;
	size_t n;
	void (*each)(void *arg, const char *name, const char *outcome);
	void *arg;
	size_t missing;
};

static void tell_created(struct telling *k, rd_kafka_event_t *ev)
{
	size_t n;
	const rd_kafka_topic_result_t **res =
		rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(ev), &n);

	for (size_t i = 0; i < n; i++) {
		rd_kafka_resp_err_t e = rd_kafka_topic_result_error(res[i]);
		char name[BUS_NAME_MAX];

		if (bus_name_in(&k->b->prefix, rd_kafka_topic_result_name(res[i]), name) < 0)
			continue;
		if (e == RD_KAFKA_RESP_ERR_NO_ERROR) {
			k->each(k->arg, name, "created");
		} else if (e == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS) { /* somebody was faster */
			k->each(k->arg, name, "exists");
		} else {
			k->missing++;
			k->each(k->arg, name, rd_kafka_topic_result_error_string(res[i]));
		}
	}
}

static void tell_existing(struct telling *k, const struct bus_topic *t, const rd_kafka_metadata_topic_t *is)
{
	char text[80];

	if (is->partition_cnt == t->partitions) {
		k->each(k->arg, t->name, "exists");
		return;
	}
	snprintf(text, sizeof(text), "exists with %d partitions, not %d", is->partition_cnt, t->partitions);
	k->each(k->arg, t->name, text);
}

/* Those not there yet.  Negative: a name that cannot be. */
static int collect(struct telling *k, const struct rd_kafka_metadata *md, int replicas,
		   rd_kafka_NewTopic_t **list, size_t *ret_n, struct err *err)
{
	for (size_t i = 0; i < k->n; i++) {
		const rd_kafka_metadata_topic_t *is;
		char wire[BUS_NAME_MAX];

		if (bus_name_out(&k->b->prefix, k->t[i].name, wire) < 0)
			return err_set(err, -ENAMETOOLONG, "%s: name too long", k->t[i].name);
		is = find(md, wire);
		if (is != NULL) {
			tell_existing(k, &k->t[i], is);
			continue;
		}
		list[*ret_n] = new_topic(wire, &k->t[i], replicas, err);
		if (list[*ret_n] == NULL)
			return -EPROTO;
		++*ret_n;
	}
	return 0;
}

int bus_topics_create(struct bus *b, const struct bus_topic *t, size_t n, int replicas,
		      void (*each)(void *arg, const char *name, const char *outcome), void *arg,
		      struct err *err)
{
	struct telling k = { .b = b, .t = t, .n = n, .each = each, .arg = arg };
	const struct rd_kafka_metadata *md;
	rd_kafka_NewTopic_t **list;
	rd_kafka_event_t *ev = NULL;
	size_t n_list = 0;
	int r = ask_metadata(b, &md, err);

	if (r < 0)
		return r;
	list = XNEW_N(rd_kafka_NewTopic_t *, n);
	r = collect(&k, md, replicas, list, &n_list, err);
	rd_kafka_metadata_destroy(md);
	if (r == 0 && n_list > 0) {
		ev = create(b, list, n_list);
		if (ev == NULL || rd_kafka_event_error(ev) != RD_KAFKA_RESP_ERR_NO_ERROR)
			r = err_set(err, ev != NULL ? bus_errno(rd_kafka_event_error(ev)) : -ETIMEDOUT,
			            "create topics: %s",
			            ev != NULL ? rd_kafka_event_error_string(ev) : "no answer");
		else
			tell_created(&k, ev);
	}
	if (r == 0 && k.missing > 0)
		r = err_set(err, -EPROTO, "%zu of %zu topics could not be created", k.missing, n);
	if (ev != NULL)
		rd_kafka_event_destroy(ev);
	rd_kafka_NewTopic_destroy_array(list, n_list);
	free(list);
	return r;
}

/* The installation's own; others may share the broker. */
int bus_topics_list(struct bus *b, void (*each)(void *arg, const char *name, int partitions, int replicas),
		    void *arg, struct err *err)
{
	const struct rd_kafka_metadata *md;
	int r = ask_metadata(b, &md, err);

	if (r < 0)
		return r;
	for (int i = 0; i < md->topic_cnt; i++) {
		const rd_kafka_metadata_topic_t *t = &md->topics[i];
		char name[BUS_NAME_MAX];

		if (bus_name_is_ours(&b->prefix, t->topic) && bus_name_in(&b->prefix, t->topic, name) == 0)
			each(arg, name, t->partition_cnt,
			     t->partition_cnt > 0 ? t->partitions[0].replica_cnt : 0);
	}
	rd_kafka_metadata_destroy(md);
	return 0;
}

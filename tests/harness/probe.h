/* probe.h - looking at the running system from outside: topics and HTTP, blocking. */
#ifndef PROBE_H
#define PROBE_H

#include "common.h"

struct probe_header { char *name, *value; };
struct probe_msg {
	char   *topic, *key, *value;    /* NUL behind; key or value NULL: none */
	size_t  key_n, value_n;
	int32_t partition;
	int64_t offset, sent_at_ms;
	struct probe_header *headers;
	size_t  n_headers;
};
struct probe_topic { struct probe_msg *msgs; size_t n; };

/* Everything in the topic at this moment, by partition and offset.  A topic that does not exist
 * has no messages. */
void probe_read(const char *brokers, const char *topic, struct probe_topic *ret) NONNULL;
void probe_free(struct probe_topic *t) NONNULL;
const char *probe_header(const struct probe_msg *m, const char *name) NONNULL;  /* last; or NULL */

int64_t probe_count(const char *brokers, const char *topic) NONNULL;    /* messages now in it */
/* A failure when there are fewer than n after max_ms; *ret as of probe_read(). */
void probe_wait(const char *brokers, const char *topic, size_t n, int64_t max_ms,
		struct probe_topic *ret) NONNULL;

/* One message, acknowledged by the broker on return.  headers: "name: value", ends with NULL, may
 * be NULL; key or value NULL: none.  partition -1: by key, murmur2. */
void probe_send(const char *brokers, const char *topic, int32_t partition, const char *key,
		const void *value, size_t value_n, const char *const *headers);

void probe_create(const char *brokers, const char *topic, int partitions, const char *const *config);
void probe_delete(const char *brokers, const char *topic);

struct probe_answer { int status; char *head, *body; size_t body_n; int64_t took_us; };

/* One request on a fresh connection; 0, or a negative errno when there was no whole answer.
 * headers: "Name: value", ends with NULL, may be NULL.  Redirects and proxies are not followed. */
int  probe_http(const char *method, const char *url, const char *const *headers,
		const void *body, size_t body_n, int64_t max_ms, struct probe_answer *ret) MUST_CHECK;
/* GET that must be answered; for /metrics and /readyz. */
void probe_get(const char *url, struct probe_answer *ret) NONNULL;
void probe_answer_free(struct probe_answer *a) NONNULL;

/* The value of a metric line: "waddle_db_reads_total{pool=\"standby\"}"; -1: not there. */
double probe_metric(const char *admin_url, const char *series) NONNULL;

#endif

/* mockbroker - librdkafka's mock cluster as a process: the broker of a demonstration.
 *
 *      mockbroker FILE
 *
 * Writes "host:port" to FILE once it listens and the topics exist; ends on SIGTERM.
 *
 * It speaks enough of the protocol for our producers and consumer groups, but creates no topics for
 * an administrator (so all of ours are made at once), keeps messages in memory (5 MiB a partition)
 * and forgets them at its end.  Not for tests of what a broker promises: those use Apache Kafka. */
#include "topics.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <signal.h>
#include <unistd.h>

enum { TOPIC_MS = 10000 };

static int write_file(const char *path, const char *text)
{
	char tmp[PATH_MAX];
	FILE *f;
	int n = snprintf(tmp, sizeof(tmp), "%s.new", path);

	if (n < 0 || (size_t)n >= sizeof(tmp))
		return -ENAMETOOLONG;
	f = fopen(tmp, "we");
	if (f == NULL)
		return -errno;
	n = fprintf(f, "%s\n", text) < 0 ? -EIO : 0;
	if (fclose(f) != 0 && n == 0)
		n = -EIO;
	if (n == 0 && rename(tmp, path) != 0)
		n = -errno;
	return n;
}

/* Every topic of the suite, made by asking for it as a producer does.  Not by
 * rd_kafka_mock_topic_create(): the mock's thread notices each such call up to a second late. */
static int create_topics(const char *brokers)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_resp_err_t e = RD_KAFKA_RESP_ERR_NO_ERROR;
	char problem[512] = "";
	rd_kafka_t *rk;

	if (rd_kafka_conf_set(conf, "bootstrap.servers", brokers, problem, sizeof(problem)) != RD_KAFKA_CONF_OK ||
	    rd_kafka_conf_set(conf, "allow.auto.create.topics", "true", problem, sizeof(problem)) != RD_KAFKA_CONF_OK ||
	    (rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, problem, sizeof(problem))) == NULL) {
		fprintf(stderr, "mockbroker: %s\n", problem);
		return -EINVAL;
	}
	for (size_t i = 0; i < topics_n && e == RD_KAFKA_RESP_ERR_NO_ERROR; i++) {
		rd_kafka_topic_t *t = rd_kafka_topic_new(rk, topics_all[i].name, NULL);
		const rd_kafka_metadata_t *md = NULL;

		e = rd_kafka_metadata(rk, 0, t, &md, TOPIC_MS);
		if (e == RD_KAFKA_RESP_ERR_NO_ERROR)
			e = md->topic_cnt == 1 ? md->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
		if (e != RD_KAFKA_RESP_ERR_NO_ERROR)
			fprintf(stderr, "mockbroker: topic %s: %s\n", topics_all[i].name, rd_kafka_err2str(e));
		if (md != NULL)
			rd_kafka_metadata_destroy(md);
		rd_kafka_topic_destroy(t);
	}
	rd_kafka_destroy(rk);
	return e == RD_KAFKA_RESP_ERR_NO_ERROR ? 0 : -EIO;
}

int main(int argc, char **argv)
{
	char problem[512] = "";
	rd_kafka_mock_cluster_t *cluster;
	rd_kafka_conf_t *conf;
	rd_kafka_t *rk;
	sigset_t end;
	int sig, r;

	if (argc != 2) {
		fprintf(stderr, "usage: mockbroker FILE\n");
		return 100;
	}
	/* Before librdkafka's threads begin, which inherit the mask. */
	sigemptyset(&end);
	sigaddset(&end, SIGTERM);
	sigaddset(&end, SIGINT);
	pthread_sigmask(SIG_BLOCK, &end, NULL);

	conf = rd_kafka_conf_new();
	(void)rd_kafka_conf_set(conf, "log_level", "4", NULL, 0);      /* it has no brokers to name, on purpose */
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, problem, sizeof(problem));
	cluster = rk == NULL ? NULL : rd_kafka_mock_cluster_new(rk, 1);
	if (cluster == NULL) {
		fprintf(stderr, "mockbroker: no mock cluster: %s\n", problem);
		return 111;
	}
	r = create_topics(rd_kafka_mock_cluster_bootstraps(cluster));
	if (r == 0) {
		r = write_file(argv[1], rd_kafka_mock_cluster_bootstraps(cluster));
		if (r != 0)
			fprintf(stderr, "mockbroker: cannot write %s: %s\n", argv[1], strerror(-r));
	}
	if (r == 0)
		sigwait(&end, &sig);
	rd_kafka_mock_cluster_destroy(cluster);
	rd_kafka_destroy(rk);
	return r == 0 ? 0 : 111;
}

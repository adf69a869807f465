/* cmd_topics.c - waddle topics: the suite's topics on the broker (contracts.md 1). */
#include "cli.h"
#include "commands.h"
#include "service.h"
#include "settings.h"
#include "table.h"
#include "topics.h"

struct broker {
	struct service service;
	struct bus *bus;
};

static int broker_open(struct broker *b, struct err *err)
{
	const struct cfg_base *base;

	if (settings_read(&base, err) < 0)
		return err->code;
	*b = (struct broker){ .service = { .name = "waddle" } };
	service_init(&b->service);
	b->bus = bus_open(&b->service, base->kafka_brokers, base->topic_prefix, err);
	if (b->bus == NULL)
		service_clear(&b->service);
	return b->bus != NULL ? 0 : err->code;
}

static void broker_close(struct broker *b)
{
	bus_close(b->bus);
	service_clear(&b->service);
}

/* "events=8,outbound.twitch=2,default=4", or just "4": the default.  -1: there is no such topic. */
static int partitions_of(const char *spec, const char *name, int otherwise)
{
	struct str rest = str_of(spec), short_name = str_of(name + strlen("waddle."));
	int64_t n = otherwise;

	while (rest.n > 0) {
		struct str value, item = str_cut(rest, ',', &rest), key = str_cut(item, '=', &value);

		if (value.p == NULL || str_eq(key, STR("default"))) {
			if (str_int(value.p == NULL ? key : value, 1, 10000, &n) < 0)
				return -1;
		} else if (str_eq(key, short_name)) {
			return str_int(value, 1, 10000, &n) == 0 ? (int)n : -1;
		}
	}
	return (int)n;
}

static int check_spec(const char *spec, struct err *err)
{
	struct str rest = str_of(spec);

	while (rest.n > 0) {
		struct str value, item = str_cut(rest, ',', &rest), key = str_cut(item, '=', &value);
		char name[256];
		int64_t n;

		if (str_int(value.p == NULL ? key : value, 1, 10000, &n) < 0)
			return err_set(err, -EINVAL,
			               "--partitions: \"" STR_FMT "\" is not <topic>=<1 to 10000>",
			               STR_ARG(item));
		snprintf(name, sizeof(name), "waddle." STR_FMT, STR_ARG(key));
		if (value.p != NULL && !str_eq(key, STR("default")) && topics_find(name) == NULL)
			return err_set(err, -EINVAL, "--partitions: there is no topic \"" STR_FMT "\"",
			               STR_ARG(key));
	}
	return 0;
}

static void created(void *arg, const char *name, const char *outcome)
{
	(void)arg;
	printf("%-36s %s\n", name, outcome);
}

static int create(int argc, char **argv)
{
	const char *spec = "";
	int64_t replicas = 1;
	struct broker b;
	struct err err = { 0 };
	int r, status;
	const struct opt opts[] = {
		{ .name = "partitions",
		  .type = OPT_TEXT,
		  .to = &spec,
		  .value = "spec",
		  .help = "events=8,default=4: other numbers than the usual ones" },
		{ .name = "replicas",
		  .type = OPT_INT,
		  .to = &replicas,
		  .value = "n",
		  .min = 1,
		  .max = 9,
		  .help = "copies of each partition (1; 3 where there are three brokers)" },
		{ 0 },
	};

	if (cli_options(opts, "[--partitions <spec>] [--replicas <n>]",
	                "Makes every topic of the suite on the brokers in KAFKA_BROKERS; those that exist\n"
	                "are left as they are.",
	                argc, argv, 0, 0, &status) < 0)
		return status;
	if (check_spec(spec, &err) < 0)
		return cli_misused(argv[0], "%s", err.text);
	if (broker_open(&b, &err) < 0)
		return cli_fail(&err);

	struct bus_topic *topics = XNEW_N(struct bus_topic, topics_n);

	for (size_t i = 0; i < topics_n; i++) {
		topics[i] = topics_all[i];
		/* The registry is one sequence of facts: its order matters. */
		if (strcmp(topics[i].name, "waddle.registry") != 0)
			topics[i].partitions = partitions_of(spec, topics[i].name, topics[i].partitions);
	}
	r = bus_topics_create(b.bus, topics, topics_n, (int)replicas, created, NULL, &err);
	free(topics);
	broker_close(&b);
	return r == 0 ? CLI_OK : cli_fail(&err);
}

static void listed(void *arg, const char *name, int partitions, int replicas)
{
	struct table *t = arg;

	table_text(t, "%s", name);
	table_int(t, partitions);
	table_int(t, replicas);
	table_text(t, "%s", topics_find(name) != NULL ? "" : "not one of ours");
}

static int list(int argc, char **argv)
{
	static const char *const headings[] = { "topic", "partitions", "replicas", "note" };
	bool json = false;
	struct broker b;
	struct err err = { 0 };
	struct table *t;
	int r, status;
	const struct opt opts[] = {
		{ .name = "json", .type = OPT_FLAG, .to = &json, .help = "for scripts" },
		{ 0 },
	};

	if (cli_options(opts, "[--json]", "Shows the topics of the suite that are on the broker.", argc, argv,
	                0, 0, &status) < 0)
		return status;
	if (broker_open(&b, &err) < 0)
		return cli_fail(&err);
	t = table_new(headings, ARRAY_LEN(headings));
	r = bus_topics_list(b.bus, listed, t, &err);
	if (r == 0)
		table_end(t, json);
	table_free(t);
	broker_close(&b);
	return r == 0 ? CLI_OK : cli_fail(&err);
}

int cmd_topics(int argc, char **argv)
{
	static const struct cli_command commands[] = {
		{ "create", "[--partitions <spec>]", "make what is missing", create },
		{ "list", "[--json]", "show what is there", list },
		{ 0 },
	};

	return cli_run(commands, "waddle topics - the Kafka topics of the suite", argc, argv);
}

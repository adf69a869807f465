/* test_bus_name.c - topic prefixes, the table of topics, and librdkafka's statistics. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "bus_name.h"
#include "bus_stats.h"
#include "err.h"
#include "topics.h"

static void the_prefix_replaces_waddle_on_the_wire_and_comes_back(void **state)
{
	static const struct {
		const char *prefix, *name, *wire;
	} cases[] = {
		{ "", "waddle.events", "waddle.events" },
		{ "waddle", "waddle.events", "waddle.events" },
		{ "test-7", "waddle.events", "test-7.events" },
		{ "test-7", "waddle", "test-7" },
		{ "a.b", "waddle.commands.memories", "a.b.commands.memories" },
		{ "test-7", "waddlebot.events", "waddlebot.events" },
		{ "test-7", "other", "other" },
	};
	char out[BUS_NAME_MAX];
	struct bus_prefix p;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(bus_prefix_set(&p, str_of(cases[i].prefix), NULL), 0);
		assert_int_equal(bus_name_out(&p, cases[i].name, out), 0);
		assert_string_equal(out, cases[i].wire);
		assert_int_equal(bus_name_in(&p, cases[i].wire, out), 0);
		assert_string_equal(out, cases[i].name);
	}
}

static void a_pattern_gets_the_prefix_quoted(void **state)
{
	char out[BUS_NAME_MAX];
	struct bus_prefix p;

	(void)state;
	assert_int_equal(bus_prefix_set(&p, STR("a.b-c"), NULL), 0);
	assert_int_equal(bus_name_out(&p, "^waddle\\.responses\\.", out), 0);
	assert_string_equal(out, "^a\\.b-c\\.responses\\.");
	assert_int_equal(bus_name_out(&p, "^other\\.", out), 0);
	assert_string_equal(out, "^other\\.");
}

static void another_installations_topics_are_not_ours(void **state)
{
	struct bus_prefix p;

	(void)state;
	assert_int_equal(bus_prefix_set(&p, STR("test"), NULL), 0);
	assert_true(bus_name_is_ours(&p, "test.events"));
	assert_false(bus_name_is_ours(&p, "test2.events"));
	assert_false(bus_name_is_ours(&p, "tes"));
	assert_false(bus_name_is_ours(&p, "waddle.events"));
}

static void impossible_prefixes_and_names_are_refused(void **state)
{
	char out[BUS_NAME_MAX], long_name[300] = "waddle.", long_prefix[200];
	struct bus_prefix p;
	struct err err;

	(void)state;
	memset(long_prefix, 'p', sizeof(long_prefix));
	assert_int_equal(bus_prefix_set(&p, STR("with space"), &err), -EPROTO);
	assert_int_equal(err_kind(&err), ERR_BROKEN);
	assert_int_equal(bus_prefix_set(&p, STR("sl/ash"), &err), -EPROTO);
	assert_int_equal(bus_prefix_set(&p, (struct str){ long_prefix, sizeof(long_prefix) }, &err), -EPROTO);
	assert_int_equal(bus_prefix_set(&p, STR("t"), NULL), 0);
	memset(long_name + 7, 'x', sizeof(long_name) - 8);
	assert_int_equal(bus_name_out(&p, long_name, out), -ENAMETOOLONG);
	assert_int_equal(bus_name_in(&p, long_name, out), -ENAMETOOLONG);
}

/* ---- contracts.md 1 ---------------------------------------------------------------------- */

#define DAY "86400000"

static const char *retention(const struct bus_topic *t)
{
	for (size_t i = 0; t->config[i] != NULL; i++)
		if (strncmp(t->config[i], "retention.ms=", 13) == 0)
			return t->config[i] + 13;
	return "";
}

static bool is_compacted(const struct bus_topic *t)
{
	for (size_t i = 0; t->config[i] != NULL; i++)
		if (strcmp(t->config[i], "cleanup.policy=compact") == 0)
			return true;
	return false;
}

static void expect(const char *name, int partitions, const char *keep)
{
	const struct bus_topic *t = topics_find(name);

	if (t == NULL)
		print_error("%s is not in the table\n", name);
	assert_non_null(t);
	assert_int_equal(t->partitions, partitions);
	assert_string_equal(retention(t), keep);
	assert_int_equal(is_compacted(t), keep[0] == '\0');
}

static void the_table_has_every_topic_of_the_contract(void **state)
{
	static const char *const modules[] = { "memories",       "calendar",  "inventory", "music",
		                               "browser-source", "community", "workflow" };
	static const char *const platforms[] = { "twitch", "discord", "slack" };
	char name[BUS_NAME_MAX];

	(void)state;
	expect("waddle.events", 64, "604800000");
	expect("waddle.overlay", 16, DAY);
	expect("waddle.activities", 16, "604800000");
	expect("waddle.registry", 1, "");
	expect("waddle.dlq", 4, "2592000000");
	expect("waddle.responses.workflow-actions", 16, DAY);
	expect("waddle.responses.http", 16, DAY);
	expect("waddle.outbound.terminal", 4, DAY); /* of our own: `waddle chat` */
	for (size_t i = 0; i < ARRAY_LEN(modules); i++) {
		snprintf(name, sizeof(name), "waddle.commands.%s", modules[i]);
		expect(name, 16, DAY);
		snprintf(name, sizeof(name), "waddle.responses.%s", modules[i]);
		expect(name, 16, DAY);
	}
	for (size_t i = 0; i < ARRAY_LEN(platforms); i++) {
		snprintf(name, sizeof(name), "waddle.outbound.%s", platforms[i]);
		expect(name, 16, DAY);
		snprintf(name, sizeof(name), "waddle.responses.collector-%s", platforms[i]);
		expect(name, 16, DAY);
	}
	assert_int_equal(topics_n, 8 + 2 * ARRAY_LEN(modules) + 2 * ARRAY_LEN(platforms));
	assert_null(topics_find("waddle.nothing"));
}

static void no_topic_is_in_the_table_twice(void **state)
{
	(void)state;
	for (size_t i = 0; i < topics_n; i++)
		assert_ptr_equal(topics_find(topics_all[i].name), &topics_all[i]);
}

/* ---- statistics -------------------------------------------------------------------------- */

struct found {
	char names[200];
};

static void topic(void *arg, struct str name)
{
	struct found *f = arg;
	size_t n = strlen(f->names);

	snprintf(f->names + n, sizeof(f->names) - n, STR_FMT ",", STR_ARG(name));
}

static int read(const char *json, bool *up, struct found *f)
{
	struct bus_stats s = { .topic = topic, .arg = f };
	int r;

	f->names[0] = '\0';
	r = bus_stats_read(str_of(json), &s);
	*up = s.broker_up;
	return r;
}

static void statistics_tell_the_broker_and_the_topics(void **state)
{
	struct found f;
	bool up;

	(void)state;
	assert_int_equal(
		read("{ \"name\": \"x\", \"brokers\":{ \"b:1/1\": { \"name\":\"b:1/1\", \"nodeid\":1, "
	             "\"state\":\"UP\", \"rtt\": { \"min\":0 }, \"toppars\":{ \"t-0\": "
	             "{ \"topic\":\"t\"} } } }, \"topics\":{ \"one\": { \"topic\":\"one\", \"batchsize\": "
	             "{ \"min\":0}, \"partitions\":{ \"0\": { \"partition\":0, \"unknown\":false } , \"-1\": "
	             "{ \"partition\":-1, \"unknown\":false } } }, \"two\": { \"partitions\":{ \"-1\": "
	             "{ \"unknown\":false } } }, \"three\": { \"partitions\":{ \"0\": { \"unknown\":true } } "
	             "} "
	             "} , \"tx\":0 }",
	             &up, &f),
		0);
	assert_true(up);
	assert_string_equal(f.names, "one,");
}

static void a_broker_that_is_not_up_counts_as_down(void **state)
{
	struct found f;
	bool up;

	(void)state;
	assert_int_equal(read("{\"brokers\":{\"b\":{\"state\":\"CONNECT\"}},\"state\":\"UP\"}", &up, &f), 0);
	assert_false(up);
	assert_int_equal(
		read("{\"brokers\":{\"a\":{\"state\":\"DOWN\"},\"b\":{\"state\":\"UPDATE\"}}}", &up, &f), 0);
	assert_true(up);
}

static void lagging(void *arg, struct str name, struct str partition, struct str messages)
{
	struct found *f = arg;
	size_t n = strlen(f->names);

	snprintf(f->names + n, sizeof(f->names) - n, STR_FMT "/" STR_FMT "=" STR_FMT ",", STR_ARG(name),
	         STR_ARG(partition), STR_ARG(messages));
}

static void a_consumers_statistics_tell_its_lag(void **state)
{
	struct found f = { "" };
	struct bus_stats s = { .lag = lagging, .arg = &f };

	(void)state;
	assert_int_equal(
		bus_stats_read(
			STR("{\"topics\":{\"t\":{\"partitions\":{\"0\":{\"consumer_lag\":12},"
	                    "\"7\":{\"unknown\":false,\"consumer_lag\":-1},\"-1\":{\"consumer_lag\":3}}"
	                    "}},\"consumer_lag\":9}"),
			&s),
		0);
	assert_string_equal(f.names, "t/0=12,t/7=-1,");
}

static void strange_statistics_do_no_harm(void **state)
{
	static const char *const bad[] = {
		"{", "}", "{\"a", "{\"a\\", "{\"a\":{}", "]", "{\"brokers\":{\"x\":"
	};
	struct found f;
	bool up;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(read(bad[i], &up, &f), -EBADMSG);
	assert_int_equal(read("", &up, &f), 0);
	assert_int_equal(read("[[[[[[[[[[[[[[[[[[\"x\",1,{\"\\\"\":2}]]]]]]]]]]]]]]]]]]", &up, &f), 0);
	assert_int_equal(read("{\"topics\":{\"t\":{\"partitions\":{\"\":{\"unknown\":false}}}}}", &up, &f),
	                 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_prefix_replaces_waddle_on_the_wire_and_comes_back),
		cmocka_unit_test(a_pattern_gets_the_prefix_quoted),
		cmocka_unit_test(another_installations_topics_are_not_ours),
		cmocka_unit_test(impossible_prefixes_and_names_are_refused),
		cmocka_unit_test(the_table_has_every_topic_of_the_contract),
		cmocka_unit_test(no_topic_is_in_the_table_twice),
		cmocka_unit_test(statistics_tell_the_broker_and_the_topics),
		cmocka_unit_test(a_broker_that_is_not_up_counts_as_down),
		cmocka_unit_test(a_consumers_statistics_tell_its_lag),
		cmocka_unit_test(strange_statistics_do_no_harm),
	};

	return !!cmocka_run_group_tests_name("bus_name", tests, NULL, NULL);
}

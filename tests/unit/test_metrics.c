/* test_metrics.c - what Prometheus will read. */
#include "metrics.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

static const char *const reasons[] = { "full", "too \"late\"\\\n" };

METRIC(rows, METRIC_COUNTER, "waddle_test_rows_total", "Rows written; back\\slash\nand line.");
METRIC(depth, METRIC_GAUGE, "waddle_test_depth", "Entries waiting.");
METRIC(took, METRIC_HISTOGRAM, "waddle_test_took_seconds", "How long it took.");
METRIC(batch, METRIC_HISTOGRAM, "waddle_test_batch_rows", "Rows of a batch.");
METRIC_BY(refused, METRIC_COUNTER, "waddle_test_refused_total", "Requests refused.", "why", reasons);
METRIC_BY(by, METRIC_HISTOGRAM, "waddle_test_by_seconds", "How long, by reason.", "why", reasons);


static const char *const types[] = { "lambda", "webhook" }, *const outcomes[] = { "ok", "late", "bad" };
METRIC_BY2(calls, METRIC_COUNTER, "waddle_test_calls_total", "Calls.", "type", types, "outcome", outcomes);
METRIC_BY3(events, METRIC_COUNTER, "waddle_test_events_total", "Events.", "why", reasons, "type", types, "outcome",
           outcomes);
static struct metric *const two_labels[] = { &calls, NULL }, *const three_labels[] = { &events, NULL };

static struct metric *const one_counter[] = { &rows, NULL }, *const one_gauge[] = { &depth, NULL },
	*const one_histogram[] = { &took, NULL }, *const labelled[] = { &refused, NULL },
	*const one_batch[] = { &batch, NULL }, *const labelled_histogram[] = { &by, NULL }, *const all[] = { &rows, &depth, &took, NULL },
	*const none[] = { NULL };

static struct buf out = BUF(64 * 1024);

static const char *text_of(struct metric *const *table)
{
	buf_reset(&out);
	metric_text(table, &out);
	assert_int_equal(out.failed, 0);
	buf_add(&out, (struct str){ "", 1 });           /* a NUL, for the assertions below */
	return out.p;
}

static void a_counter_adds_and_its_help_is_escaped(void **state)
{
	(void)state;
	metric_add(&rows, 0, 3);
	metric_add(&rows, 0, UINT64_C(10000000000));
	assert_string_equal(text_of(one_counter),
	                    "# HELP waddle_test_rows_total Rows written; back\\\\slash\\nand line.\n"
	                    "# TYPE waddle_test_rows_total counter\n"
	                    "waddle_test_rows_total 10000000003\n");
}

static void a_gauge_goes_both_ways_and_below_zero(void **state)
{
	(void)state;
	metric_set(&depth, 0, 17);
	metric_set(&depth, 0, -2);
	assert_string_equal(text_of(one_gauge), "# HELP waddle_test_depth Entries waiting.\n"
	                                        "# TYPE waddle_test_depth gauge\n"
	                                        "waddle_test_depth -2\n");
}

static void a_label_has_one_line_per_value_escaped(void **state)
{
	(void)state;
	metric_add(&refused, 1, 5);
	assert_string_equal(text_of(labelled),
	                    "# HELP waddle_test_refused_total Requests refused.\n"
	                    "# TYPE waddle_test_refused_total counter\n"
	                    "waddle_test_refused_total{why=\"full\"} 0\n"
	                    "waddle_test_refused_total{why=\"too \\\"late\\\"\\\\\\n\"} 5\n");
}

static void histogram_buckets_are_cumulative_and_bounds_belong_to_them(void **state)
{
	(void)state;
	metric_observe_us(&took, 0, -5);                /* a clock that went back counts as 0 */
	metric_observe_us(&took, 0, 1000);
	metric_observe_us(&took, 0, 1001);
	metric_observe_us(&took, 0, 10000000);
	metric_observe_us(&took, 0, 10000001);
	assert_string_equal(text_of(one_histogram), "# HELP waddle_test_took_seconds How long it took.\n"
	                                            "# TYPE waddle_test_took_seconds histogram\n"
	                                            "waddle_test_took_seconds_bucket{le=\"0.001\"} 2\n"
	                                            "waddle_test_took_seconds_bucket{le=\"0.002\"} 3\n"
	                                            "waddle_test_took_seconds_bucket{le=\"0.005\"} 3\n"
	                                            "waddle_test_took_seconds_bucket{le=\"0.010\"} 3\n"
	                                            "waddle_test_took_seconds_bucket{le=\"0.020\"} 3\n"
	                                            "waddle_test_took_seconds_bucket{le=\"0.050\"} 3\n"
	                                            "waddle_test_took_seconds_bucket{le=\"0.100\"} 3\n"
	                                            "waddle_test_took_seconds_bucket{le=\"0.200\"} 3\n"
	                                            "waddle_test_took_seconds_bucket{le=\"0.500\"} 3\n"
	                                            "waddle_test_took_seconds_bucket{le=\"1\"} 3\n"
	                                            "waddle_test_took_seconds_bucket{le=\"2\"} 3\n"
	                                            "waddle_test_took_seconds_bucket{le=\"5\"} 3\n"
	                                            "waddle_test_took_seconds_bucket{le=\"10\"} 4\n"
	                                            "waddle_test_took_seconds_bucket{le=\"+Inf\"} 5\n"
	                                            "waddle_test_took_seconds_sum 20.002002\n"
	                                            "waddle_test_took_seconds_count 5\n");
}

static void a_histogram_of_things_has_whole_bounds(void **state)
{
	const char *text;

	(void)state;
	metric_observe(&batch, 0, 512);
	metric_observe(&batch, 0, 1);
	metric_observe(&batch, 0, INT64_MAX);
	text = text_of(one_batch);
	assert_non_null(strstr(text, "waddle_test_batch_rows_bucket{le=\"1\"} 1\n"));
	assert_non_null(strstr(text, "waddle_test_batch_rows_bucket{le=\"500\"} 1\n"));
	assert_non_null(strstr(text, "waddle_test_batch_rows_bucket{le=\"1000\"} 2\n"));
	assert_non_null(strstr(text, "waddle_test_batch_rows_bucket{le=\"10000\"} 2\n"));
	assert_non_null(strstr(text, "waddle_test_batch_rows_bucket{le=\"+Inf\"} 3\n"));
}

static void a_labelled_histogram_keeps_its_cells_apart(void **state)
{
	const char *text;

	(void)state;
	metric_observe_us(&by, 0, 3000);
	metric_observe_us(&by, 1, 30000);
	text = text_of(labelled_histogram);
	assert_non_null(strstr(text, "waddle_test_by_seconds_bucket{why=\"full\",le=\"0.005\"} 1\n"));
	assert_non_null(strstr(
		text, "waddle_test_by_seconds_bucket{why=\"too \\\"late\\\"\\\\\\n\",le=\"0.005\"} 0\n"));
	assert_non_null(strstr(text, "waddle_test_by_seconds_sum{why=\"full\"} 0.003000\n"));
	assert_non_null(strstr(text, "waddle_test_by_seconds_count{why=\"too \\\"late\\\"\\\\\\n\"} 1\n"));
	assert_ptr_equal(strstr(text, "# TYPE"), strrchr(text, '#'));  /* once per metric */
}

static void a_table_prints_in_order_and_an_empty_one_nothing(void **state)
{
	const char *text = text_of(all);

	(void)state;
	assert_true(strstr(text, "waddle_test_rows_total ") < strstr(text, "waddle_test_depth "));
	assert_true(strstr(text, "waddle_test_depth ") < strstr(text, "waddle_test_took_seconds "));
	assert_string_equal(text_of(none), "");
}

static void a_buffer_too_small_is_told(void **state)
{
	struct buf small = BUF(100);
	struct str s;

	(void)state;
	metric_text(all, &small);
	assert_int_equal(buf_str(&small, &s), -EMSGSIZE);
	buf_clear(&small);
}

static void two_labels_have_a_line_for_each_combination(void **state)
{
	(void)state;
	metric_add(&calls, METRIC_AT(&calls, 1, 2), 7);
	metric_add(&calls, METRIC_AT(&calls, 0, 1), 3);
	assert_string_equal(text_of(two_labels),
	                    "# HELP waddle_test_calls_total Calls.\n"
	                    "# TYPE waddle_test_calls_total counter\n"
	                    "waddle_test_calls_total{type=\"lambda\",outcome=\"ok\"} 0\n"
	                    "waddle_test_calls_total{type=\"lambda\",outcome=\"late\"} 3\n"
	                    "waddle_test_calls_total{type=\"lambda\",outcome=\"bad\"} 0\n"
	                    "waddle_test_calls_total{type=\"webhook\",outcome=\"ok\"} 0\n"
	                    "waddle_test_calls_total{type=\"webhook\",outcome=\"late\"} 0\n"
	                    "waddle_test_calls_total{type=\"webhook\",outcome=\"bad\"} 7\n");
}

static void of_three_labels_only_what_happened_is_printed(void **state)
{
	(void)state;
	metric_add(&events, METRIC_AT3(&events, 0, 1, 2), 1);
	assert_string_equal(
		text_of(three_labels),
		"# HELP waddle_test_events_total Events.\n"
		"# TYPE waddle_test_events_total counter\n"
		"waddle_test_events_total{why=\"full\",type=\"webhook\",outcome=\"bad\"} 1\n");
}

static int done(void **state)
{
	(void)state;
	buf_clear(&out);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_counter_adds_and_its_help_is_escaped),
		cmocka_unit_test(a_gauge_goes_both_ways_and_below_zero),
		cmocka_unit_test(a_label_has_one_line_per_value_escaped),
		cmocka_unit_test(histogram_buckets_are_cumulative_and_bounds_belong_to_them),
		cmocka_unit_test(a_histogram_of_things_has_whole_bounds),
		cmocka_unit_test(a_labelled_histogram_keeps_its_cells_apart),
		cmocka_unit_test(two_labels_have_a_line_for_each_combination),
		cmocka_unit_test(of_three_labels_only_what_happened_is_printed),
		cmocka_unit_test(a_table_prints_in_order_and_an_empty_one_nothing),
		cmocka_unit_test(a_buffer_too_small_is_told),
	};

	return !!cmocka_run_group_tests(tests, NULL, done);
}

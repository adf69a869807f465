/* bus_metrics.c - what the bus counts. */
#include "bus_impl.h"

static const char *const reasons[] = {          /* router.md 19, and the collectors' */
	"bad_json", "bad_event", "bad_response", "bad_outbound", "unknown_execution", "wrong_module", "too_large",
	"database", "other",
};

METRIC(consumed, METRIC_COUNTER, "waddle_bus_consumed_total", "Messages taken from Kafka.");
METRIC(done, METRIC_COUNTER, "waddle_bus_done_total", "Messages whose work is over.");
METRIC(produced, METRIC_COUNTER, "waddle_bus_produced_total", "Messages handed to the producer.");
METRIC(acked, METRIC_COUNTER, "waddle_bus_acked_total", "Messages all in-sync replicas have.");
METRIC(failed, METRIC_COUNTER, "waddle_bus_failed_total", "Messages the broker refused or close gave up.");
METRIC(full, METRIC_COUNTER, "waddle_bus_full_total", "Sends refused because the local queue was full.");
METRIC(lag, METRIC_GAUGE, "waddle_bus_lag", "Messages behind the end, over all partitions of this process.");
METRIC(held, METRIC_GAUGE, "waddle_bus_held", "Messages taken whose work is not over.");
METRIC(unsent, METRIC_GAUGE, "waddle_bus_unsent", "Messages handed to the producer and not acknowledged.");
METRIC(partitions, METRIC_GAUGE, "waddle_bus_partitions", "Partitions assigned to this process.");
METRIC(rebalances, METRIC_COUNTER, "waddle_bus_rebalances_total", "Assignments and revocations.");
METRIC(lost, METRIC_COUNTER, "waddle_bus_lost_total", "Partitions lost without being asked first.");
METRIC_BY(dlq, METRIC_COUNTER, "waddle_bus_dlq_total", "Messages sent to waddle.dlq.", "reason", reasons);
METRIC(dlq_again, METRIC_COUNTER, "waddle_bus_dlq_retries_total", "Dead letters that had to be tried again.");
METRIC(up, METRIC_GAUGE, "waddle_bus_up", "1 while a broker is connected and all topics consumed exist.");

struct metric *const bus_metrics[] = { [BM_CONSUMED] = &consumed,
				       [BM_DONE] = &done,
				       [BM_PRODUCED] = &produced,
				       [BM_ACKED] = &acked,
				       [BM_FAILED] = &failed,
				       [BM_FULL] = &full,
				       [BM_LAG] = &lag,
				       [BM_HELD] = &held,
				       [BM_UNSENT] = &unsent,
				       [BM_PARTITIONS] = &partitions,
				       [BM_REBALANCES] = &rebalances,
				       [BM_LOST] = &lost,
				       [BM_DLQ] = &dlq,
				       [BM_DLQ_AGAIN] = &dlq_again,
				       [BM_UP] = &up,
				       [BM_END] = NULL };

unsigned bus_reason_cell(const char *reason)
{
	unsigned i = 0;

	while (i < ARRAY_LEN(reasons) - 1 && strcmp(reasons[i], reason) != 0)
		i++;
	return i;
}

/* deliveries.c - delivery reports become delivered_at or delivery_error of module_responses. */
#include "deliveries.h"
#include "batch.h"
#include "clock.h"
#include "err.h"
#include "ids.h"
#include "log.h"
#include "metrics.h"
#include "service.h"

enum { COLUMNS = 5, ERROR_MAX = 1000, AGAIN_MS = 20 };

/* A report the batch had no room for. */
struct waiting { struct list node; struct bus_msg *m; };

struct deliveries {
	struct router *r;
	struct batch  *batch;
	struct arena  *mem;             /* of the report at hand */
	struct list    waiting;
	struct timer   again;
};

static const char *const outcomes[] = { "sent", "refused", "expired", "unreadable" };
enum { UNREADABLE = ARRAY_LEN(outcomes) - 1 };
METRIC_BY(deliveries, METRIC_COUNTER, "waddle_router_deliveries_total", "Delivery reports of collectors.", "status",
          outcomes);
METRIC(unmatched, METRIC_COUNTER, "waddle_router_deliveries_of_others_total",
       "Delivery reports of messages that are no response: notices, messages of modules.");
struct metric *const deliveries_metrics[] = { &deliveries, &unmatched, NULL };

/* The parts of a response share a row: the last time counts, and the first error. */
static const struct batch_spec spec = {
	.name = "deliveries", .columns = COLUMNS, .max_rows = 512, .max_ms = 0, .max_in_flight = 1, .key_column = -1,
	.idempotent = true,
	.sql = "UPDATE module_responses m SET delivered_at = greatest(m.delivered_at, x.at), "
	       "delivery_error = coalesce(m.delivery_error, x.error) FROM ("
	       "SELECT execution_id, response_index, created_at, max(at) AS at, min(error) AS error "
	       "FROM unnest($1::uuid[], $2::integer[], $3::timestamptz[], $4::timestamptz[], $5::text[]) "
	       "AS t(execution_id, response_index, created_at, at, error) GROUP BY 1, 2, 3) x "
	       "WHERE m.execution_id = x.execution_id AND m.response_index = x.response_index "
	       "AND m.created_at = x.created_at AND (m.delivered_at IS DISTINCT FROM greatest(m.delivered_at, x.at) "
	       "OR m.delivery_error IS NULL AND x.error IS NOT NULL)",
};

struct str deliveries_ref(struct str execution_id, int64_t index, int part, int64_t created_ms,
                          char out[REPORT_REF_TEXT])
{
	int n = snprintf(out, REPORT_REF_TEXT, STR_FMT "/%lld/%d/%lld", STR_ARG(execution_id), (long long)index, part,
	                 (long long)created_ms);

	return (struct str){ out, (size_t)n };
}

/* False: not one of ours, or of another message than it says. */
static bool ref_read(const struct delivery *v, struct str *execution, int64_t *index, int64_t *created_ms)
{
	struct str rest;
	int64_t part;
	char id[ID_TEXT];

	*execution = str_cut(v->report_ref, '/', &rest);
	if (execution->n != ID_TEXT - 1 || str_int(str_cut(rest, '/', &rest), 0, INT32_MAX, index) != 0 ||
	    str_int(str_cut(rest, '/', &rest), 0, 99, &part) != 0 ||
	    str_int(rest, 1, INT64_C(253402300799000), created_ms) != 0)
		return false;
	id_outbound(*execution, *index, (int)part, id);
	return str_eq(str_of(id), v->message_id);
}

static void kept(void *arg, const struct db_result *res, int row, const struct err *err)
{
	struct bus_msg *m = arg;

	(void)res;
	(void)row;
	if (err == NULL)
		bus_done(m);
	else if (err_is_data(err))
		bus_reject(m, "database", err);
	/* else: closing; the offset stays */
}

/* -EAGAIN: no room, the report is untouched. */
static int take(struct deliveries *d, struct bus_msg *m)
{
	struct delivery v;
	struct err err = { 0 };
	struct str execution, error;
	int64_t index, created_ms;
	int r;

	arena_reset(d->mem);
	r = envelope_decode(m, ENV_DELIVERY, NULL, &v, d->mem, &err);
	if (r != 0) {
		metric_add(&deliveries, UNREADABLE, 1);
		bus_reject(m, envelope_reason(ENV_DELIVERY, r == -ENOBUFS ? -EMSGSIZE : r), &err);
		return 0;
	}
	if (!ref_read(&v, &execution, &index, &created_ms)) {
		metric_add(&deliveries, (unsigned)v.status, 1);
		metric_add(&unmatched, 0, 1);
		bus_done(m);
		return 0;
	}
	error = arena_printf(d->mem, "%s%s" STR_FMT, delivery_status_names[v.status], v.error.n > 0 ? ": " : "",
	                     STR_ARG(str_clip(v.error, ERROR_MAX)));

	const struct db_param row[COLUMNS] = {
		DB_STR(execution), DB_INT(index), DB_TIME(created_ms),
		v.status == DELIVERY_SENT ? DB_TIME(v.at_ms) : DB_NULL,
		v.status == DELIVERY_SENT ? DB_NULL : DB_STR(error),
	};

	r = batch_add(d->batch, row, kept, m);
	if (r == -EAGAIN)
		return r;
	metric_add(&deliveries, (unsigned)v.status, 1);
	if (r != 0) {
		(void)!err_set(&err, r, "a delivery report that cannot be kept");
		bus_reject(m, "bad_response", &err);
	}
	return 0;
}

static void again(void *arg)
{
	struct deliveries *d = arg;
	struct list *n;

	while ((n = list_first(&d->waiting)) != NULL) {
		struct waiting *w = CONTAINER_OF(n, struct waiting, node);

		if (take(d, w->m) == -EAGAIN) {
			timer_start(d->r->s, &d->again, AGAIN_MS, again, d);
			return;
		}
		list_del(n);
		free(w);
	}
}

/* What waits is bounded by the consumer's max_held. */
void deliveries_take(struct deliveries *d, struct bus_msg *m)
{
	struct waiting *w;

	if (list_empty(&d->waiting) && take(d, m) == 0)
		return;
	w = XNEW(struct waiting);
	w->m = m;
	list_add_tail(&d->waiting, &w->node);
	if (!timer_running(&d->again))
		timer_start(d->r->s, &d->again, AGAIN_MS, again, d);
}

struct deliveries *deliveries_open(struct router *r)
{
	struct deliveries *d = XNEW(struct deliveries);

	d->r = r;
	d->mem = arena_new(4096, 1 << 20);
	list_init(&d->waiting);
	d->batch = batch_open(r->s, r->db, &spec);
	return d;
}

void deliveries_close(struct deliveries *d)
{
	struct list *n;

	if (d == NULL)
		return;
	timer_stop(&d->again);
	while ((n = list_pop(&d->waiting)) != NULL)
		free(CONTAINER_OF(n, struct waiting, node));
	batch_close(d->batch);
	arena_free(d->mem);
	free(d);
}

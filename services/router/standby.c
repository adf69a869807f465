/* standby.c - how far behind the standby is, and how often it could not answer (router.md 20). */
#include "router.h"
#include "clock.h"
#include "err.h"
#include "metrics.h"
#include "service.h"

enum { ASK_MS = 5000 };

struct standby {
	struct router *r;
	struct timer   timer;
	uint64_t       primary;         /* its position when it was asked last */
};

METRIC(lag, METRIC_GAUGE, "waddle_router_standby_lag_bytes",
       "Log the standby has not replayed, when last looked; 0 without a standby.");
/* db's own count under the router's name: the same cells. */
static struct metric reads = { .name = "waddle_router_standby_reads_total", .kind = METRIC_COUNTER,
	                       .help = "Reads by what the standby could do: answer, or leave it to the primary." };
struct metric *const standby_metrics[] = { &lag, &reads, NULL };

static void ask(void *arg);

static void replayed(void *arg, const struct db_result *res, const struct err *err)
{
	struct standby *w = arg;
	uint64_t lsn = 0;

	if (err == NULL && db_null(res, 0, 0))
		metric_set(&lag, 0, 0);         /* the primary answered */
	else if (err == NULL && lsn_parse(db_str(res, 0, 0), &lsn) == 0)
		metric_set(&lag, 0, lsn < w->primary ? (int64_t)(w->primary - lsn) : 0);
	if (!db_closing(w->r->db))
		timer_start(w->r->s, &w->timer, ASK_MS, ask, w);
}

static void written(void *arg, const struct db_result *res, const struct err *err)
{
	struct standby *w = arg;

	if (db_closing(w->r->db))
		return;
	if (err == NULL && lsn_parse(db_str(res, 0, 0), &w->primary) == 0 &&
	    db_query(w->r->db, ((struct db_opts){ .to = DB_READ }), replayed, w,
	             "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() END::text") == 0)
		return;
	timer_start(w->r->s, &w->timer, ASK_MS, ask, w);
}

static void ask(void *arg)
{
	struct standby *w = arg;

	if (db_query(w->r->db, ((struct db_opts){ .to = DB_WRITE }), written, w,
	             "SELECT pg_current_wal_flush_lsn()::text") != 0)
		timer_start(w->r->s, &w->timer, ASK_MS, ask, w);
}

struct standby *standby_open(struct router *r)
{
	struct standby *w = XNEW(struct standby);

	w->r = r;
	for (struct metric *const *m = db_metrics; *m != NULL; m++)
		if (strcmp((*m)->name, "waddle_db_standby_reads_total") == 0) {
			reads.label = (*m)->label;
			reads.values = (*m)->values;
			reads.cells = (*m)->cells;
			reads.n_cells = (*m)->n_cells;
		}
	ASSERT(reads.cells != NULL);
	if (db_standby(r->db) != DB_STANDBY_NONE)
		timer_start(r->s, &w->timer, 0, ask, w);
	return w;
}

/* After db_close(). */
void standby_close(struct standby *w)
{
	if (w == NULL)
		return;
	timer_stop(&w->timer);
	free(w);
}

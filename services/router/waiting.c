/* waiting.c - turns: taken under a lease, sent, cleared when the broker has them; looked for when
 * nobody may know of them; given up when they waited too long. */
#include "waiting.h"
#include "batch.h"
#include "clock.h"
#include "command_send.h"
#include "err.h"
#include "ids.h"
#include "log.h"
#include "metrics.h"
#include "router.h"
#include "service.h"

enum { CLAIM_SHARES = 64, CLAIM_ROWS = 256, POLL_ROWS = 512, POLL_LOOKS = 4096 };
enum { LOOK_MS = 1000, POLL_MIN_MS = 20, POLL_MAX_MS = 1000, STALE_MS = 2000, REPAIR_LOOKS = 10 };
enum { MODULES = 64 };

struct named { struct list node; struct waiting *w; int64_t created_ms; char id[37]; };

struct waiting {
	struct router *r;
	struct fair    fair;
	struct batch  *clear;
	struct list    acked, lost;     /* of struct named: the broker has it; will never take it */
	struct timer   look, poll, rest;
	bool           draining, claiming, losing, resting, polling;
	unsigned       looking, looks, failures;
	int64_t        poll_ms;
	/* the claim that came back: rows before `sent` are with the bus */
	struct db_result  *claimed;
	int                sent;
	size_t             n_claim;
	struct fair_share *claim[CLAIM_SHARES];
	size_t             n_polled;
};

enum { RUN_PENDING, RUN_SUCCESS, RUN_FAILED };
static const char *const types[] = { "container" }, *const statuses[] = { "pending", "success", "failed" };
METRIC_BY2(executions, METRIC_COUNTER, "waddle_router_executions_total", "Executions written as pending, and settled.",
           "type", types, "status", statuses);
METRIC(fair_waiting, METRIC_GAUGE, "waddle_router_fair_waiting", "Commands known to wait for a slot of their community.");
METRIC(fair_wait, METRIC_HISTOGRAM, "waddle_router_fair_wait_seconds", "How long commands waited for a slot.");
METRIC(overloaded, METRIC_COUNTER, "waddle_router_overloaded_total",
       "Commands refused because too many of their community waited.");
METRIC(unanswered, METRIC_GAUGE, "waddle_router_unanswered", "Executions sent and, as far as is known here, not answered.");
METRIC(repaired, METRIC_COUNTER, "waddle_router_waits_repaired_total",
       "Waiting executions set right: links whose chain was gone, turns that were settled meanwhile.");
static const char *const whys[] = { "queue_timeout", "unreachable" };

/* Modules are known at run time only; those beyond the table share its last cell. */
static const char *modules[MODULES] = { "other" };
static char module_text[MODULES][104];
static struct metric_cell module_cell[MODULES];
static struct metric command_time = {
	"waddle_router_command_seconds", "From the receipt of an event to the final response.", METRIC_HISTOGRAM,
	"module", modules, module_cell, 1, { { 0 } },
};
struct metric *const waiting_metrics[] = {
	&executions, &fair_waiting, &fair_wait, &overloaded, &unanswered, &repaired, &command_time, NULL,
};

static void observe(struct str module, int64_t created_ms)
{
	unsigned cell = 1;

	while (cell < command_time.n_cells && !str_eq(str_of(modules[cell]), module))
		cell++;
	if (cell == command_time.n_cells) {
		if (cell == MODULES || module.n >= sizeof module_text[0]) {
			cell = 0;
		} else {
			memcpy(module_text[cell], module.p, module.n);
			modules[cell] = module_text[cell];
			command_time.n_cells++;
		}
	}
	metric_observe_us(&command_time, cell, (clock_unix_ms() - created_ms) * 1000);
}

/* --- asked by dispatch --------------------------------------------------------------------------- */

static void poll_soon(struct waiting *w);

enum waiting_what waiting_ask(struct waiting *w, int64_t community_id, struct str module, bool link,
                              const char *execution_id, int64_t created_ms, int64_t timeout_ms,
                              struct waiting_asked *ret)
{
	struct fair_share *s = fair_share(&w->fair, community_id, module);

	*ret = (struct waiting_asked){ 0 };
	if (fair_is_full(&w->fair, s)) {
		metric_add(&overloaded, 0, 1);
		return WAITING_REFUSED;
	}
	if (link)
		return WAITING_LINK;
	if (fair_may_go(&w->fair, s)) {
		ret->slot = fair_take(&w->fair, s, execution_id, created_ms, timeout_ms);
		return WAITING_GOES;
	}
	if (fair_find(&w->fair, str_of(execution_id)) != NULL)
		return WAITING_GOES;    /* delivered again; its first sending holds a slot */
	fair_enters(&w->fair, s, 1);
	ret->share = s;
	return WAITING_TURN;
}

void waiting_end(struct waiting *w, const struct waiting_asked *asked, size_t n, bool committed)
{
	if (committed)
		metric_add(&executions, METRIC_AT(&executions, 0, RUN_PENDING), n);
	for (size_t i = 0; i < n; i++) {
		struct fair_share *s = asked[i].share;

		if (s != NULL) {
			if (committed) {
				if (s->waiting == 0)
					poll_soon(w);
				fair_waits(&w->fair, s, 1);
			}
			fair_enters(&w->fair, s, -1);
		}
		if (!committed && asked[i].slot != NULL)
			fair_free(&w->fair, asked[i].slot);
	}
}

static void answered(struct waiting *w, struct str execution_id, int64_t community_id, struct str next_module)
{
	struct fair_slot *slot = fair_find(&w->fair, execution_id);

	if (slot != NULL)
		fair_free(&w->fair, slot);
	if (next_module.n > 0)
		fair_waits(&w->fair, fair_share(&w->fair, community_id, next_module), 1);
}

void waiting_gave_up(struct waiting *w, struct str execution_id, int64_t community_id, struct str next_module)
{
	metric_add(&executions, METRIC_AT(&executions, 0, RUN_FAILED), 1);
	answered(w, execution_id, community_id, next_module);
}

void waiting_answered(struct waiting *w, const struct answered *a)
{
	observe(a->module, a->created_ms);
	metric_add(&executions, METRIC_AT(&executions, 0, a->success ? RUN_SUCCESS : RUN_FAILED), 1);
	answered(w, a->execution_id, a->community_id, a->next_module);
}

static void name(struct waiting *w, struct list *to, const char *id, int64_t created_ms)
{
	struct named *n = XNEW(struct named);

	n->w = w;
	n->created_ms = created_ms;
	(void)snprintf(n->id, sizeof n->id, "%s", id);
	list_add_tail(to, &n->node);
}

void waiting_unreachable(struct waiting *w, const char *execution_id, int64_t created_ms)
{
	name(w, &w->lost, execution_id, created_ms);
}

/* --- what is given up ------------------------------------------------------------------------------- */

#define GIVE_UP(STATUS, ERROR, FROM) \
	"u AS (UPDATE command_executions e SET status = 'failed', response_status = " STATUS ", error_message = " \
	"'" ERROR "', completed_at = now(), waits = NULL, lease_until = NULL, execution_time_ms = " \
	"least(extract(epoch FROM now() - e.created_at) * 1000, 2147483647)::integer FROM " FROM " f " \
	"WHERE e.execution_id = f.execution_id AND e.created_at = f.created_at AND e.status = 'pending' " \
	"RETURNING e.*), " RELEASES_NEXT " " \
	"SELECT u.execution_id, u.community_id, u.module_name, u.next_module, n.platform, n.address, n.server_id, " \
	"n.channel_id, u.user_id, u.reply_ref, u.request_payload #>> '{event_data,message_id}', c.command, " \
	"coalesce(n.config->>'bot_account_id', n.channel_id) " \
	"FROM u JOIN entities n ON n.entity_id = u.entity_id JOIN commands c ON c.id = u.command_id"

static const char unreachable_sql[] =
	"WITH x AS (SELECT * FROM unnest($1::uuid[], $2::timestamptz[]) AS t(execution_id, created_at)), "
	GIVE_UP("502", "unreachable", "x");

static const char too_long_sql[] =
	"WITH due AS (SELECT execution_id, created_at FROM command_executions WHERE waits = 'turn' "
	"AND sent_at IS NULL AND status = 'pending' AND queued_at < now() - $1::bigint * interval '1 ms' "
	"ORDER BY queued_at LIMIT 512 FOR UPDATE SKIP LOCKED), "
	GIVE_UP("504", "queue_timeout", "due");

static void given_up(struct waiting *w, const struct db_result *res, unsigned why)
{
	int n = db_rows(res);

	sweeper_counted(why == 0 ? SWEPT_QUEUE_TIMEOUT : SWEPT_UNREACHABLE, (uint64_t)n);
	for (int i = 0; i < n; i++) {
		if (why == 0)
			fair_waits(&w->fair, fair_share(&w->fair, db_int(res, i, 1), db_str(res, i, 2)), -1);
		waiting_gave_up(w, db_str(res, i, 0), db_int(res, i, 1), db_str(res, i, 3));
	}
	if (n > 0)
		log_rarely(1000, L_WARN, NULL, "given_up", "%d commands were not sent: %s, the last to " STR_FMT, n,
		           whys[why], STR_ARG(db_str(res, n - 1, 2)));
}

static void rested(void *arg)
{
	struct waiting *w = arg;

	w->resting = false;
}

/* A statement failed: none is sent for a while. */
static void rest(struct waiting *w, const char *what, const struct err *err)
{
	log_rarely(5000, L_WARN, NULL, "waiting_failed", "%s: %s", what, err->text);
	if (!w->resting) {
		w->resting = true;
		timer_start(w->r->s, &w->rest, clock_backoff_ms(w->failures++, 50, 2000), rested, w);
	}
}

static void names_end(struct list *names, size_t n)
{
	struct list *x;

	while (n-- > 0 && (x = list_pop(names)) != NULL)
		free(CONTAINER_OF(x, struct named, node));
}

static void unreachables(void *arg, const struct db_result *res, const struct err *err)
{
	struct waiting *w = arg;

	w->losing = false;
	if (err != NULL)
		rest(w, "unreachable modules", err);    /* their time-out will find them */
	else
		given_up(w, res, 1);
}

static void lose(struct waiting *w)
{
	struct db_param id[POLL_ROWS], at[POLL_ROWS], param[2];
	size_t n = 0;

	LIST_EACH(pos, tmp, &w->lost) {
		const struct named *x = CONTAINER_OF(pos, struct named, node);

		if (n == POLL_ROWS)
			break;
		id[n] = DB_STR(str_of(x->id));
		at[n++] = DB_TIME(x->created_ms);
	}
	param[0] = DB_ARRAY(id, n);
	param[1] = DB_ARRAY(at, n);
	w->losing = db_send(w->r->db, (struct db_opts){ .to = DB_WRITE }, unreachables, w, unreachable_sql, param, 2) == 0;
	if (w->losing)
		names_end(&w->lost, n);
}

/* --- turns are taken ------------------------------------------------------------------------------------ */

static const char claim_sql[] =
	"WITH g AS (SELECT * FROM unnest($1::integer[], $2::integer[], $3::text[], $4::integer[]) "
	"AS t(i, community_id, module_name, n)), "
	"due AS MATERIALIZED (SELECT g.i, q.* FROM g CROSS JOIN LATERAL (SELECT e.execution_id, e.created_at "
	"FROM command_executions e WHERE e.waits = 'turn' AND e.community_id = g.community_id "
	"AND e.module_name = g.module_name AND e.status = 'pending' AND (e.lease_until IS NULL "
	"OR e.lease_until < now()) ORDER BY e.queued_at, e.id LIMIT g.n FOR UPDATE SKIP LOCKED) q), "
	/* a call has a lease of its own */
	"u AS (UPDATE command_executions e SET sent_at = coalesce(e.sent_at, now()), "
	"waits = CASE WHEN e.location_url LIKE 'kafka:%' THEN 'turn' END, "
	"lease_until = CASE WHEN e.location_url LIKE 'kafka:%' THEN now() + interval '5 s' END FROM due WHERE e.execution_id = due.execution_id "
	"AND e.created_at = due.created_at RETURNING due.i, e.*) "
	"SELECT i, execution_id, created_at, queued_at, community_id, location_url, request_payload::text, trace_id, "
	"timeout_ms, sent_at FROM u ORDER BY queued_at, id";
enum { ROW_SHARE, ROW_ID, ROW_CREATED, ROW_QUEUED, ROW_COMMUNITY, ROW_URL, ROW_BODY, ROW_TRACE, ROW_TIMEOUT, ROW_SENT };

static void acknowledged(void *arg, const struct err *err)
{
	struct named *n = arg;

	if (err == NULL)
		list_add_tail(&n->w->acked, &n->node);
	else
		free(n);                /* closing: the lease ends by itself */
}

/* False: the local queue is full, go on next turn of the loop. */
static bool send_row(struct waiting *w, const struct db_result *res, int row)
{
	struct str url = db_str(res, row, ROW_URL);
	struct named *n;
	int r;

	if (!str_starts(url, STR("kafka:"))) {
		call_start(w->r->calls, db_str(res, row, ROW_ID), db_time(res, row, ROW_CREATED),
		           db_int(res, row, ROW_COMMUNITY), url);
		return true;
	}
	n = XNEW(struct named);
	n->w = w;
	n->created_ms = db_time(res, row, ROW_CREATED);
	list_init(&n->node);
	(void)snprintf(n->id, sizeof n->id, STR_FMT, STR_ARG(db_str(res, row, ROW_ID)));
	r = command_send(w->r, &(struct command_send){
		.id = n->id, .module = (struct str){ url.p + 6, url.n - 6 }, .body = db_str(res, row, ROW_BODY),
		.trace_id = db_str(res, row, ROW_TRACE), .community_id = db_int(res, row, ROW_COMMUNITY),
		.sent_at_ms = db_time(res, row, ROW_SENT), .timeout_ms = db_int(res, row, ROW_TIMEOUT),
	}, acknowledged, n);
	if (r == 0)
		return true;
	free(n);
	if (!command_never(r))
		return false;
	waiting_unreachable(w, db_str(res, row, ROW_ID).p, db_time(res, row, ROW_CREATED));
	return true;
}

static void send_claimed(struct waiting *w)
{
	while (w->claimed != NULL && w->sent < db_rows(w->claimed))
		if (!send_row(w, w->claimed, w->sent))
			return;
		else
			w->sent++;
	db_release(w->claimed);
	w->claimed = NULL;
}

static void claimed(void *arg, const struct db_result *res, const struct err *err)
{
	struct waiting *w = arg;
	int64_t got[CLAIM_SHARES] = { 0 }, now_ms = clock_unix_ms();
	int rows = err == NULL ? db_rows(res) : 0;

	w->claiming = false;
	for (int i = 0; i < rows; i++) {
		int64_t share = db_int(res, i, ROW_SHARE);

		got[share]++;
		(void)!fair_take(&w->fair, w->claim[share], db_str(res, i, ROW_ID).p, db_time(res, i, ROW_CREATED),
		                 db_int(res, i, ROW_TIMEOUT));
		sweeper_watch(w->r->sweeper, db_time(res, i, ROW_CREATED), db_int(res, i, ROW_TIMEOUT));
		metric_observe_us(&fair_wait, 0, (now_ms - db_time(res, i, ROW_QUEUED)) * 1000);
	}
	for (size_t i = 0; i < w->n_claim; i++) {
		struct fair_share *s = w->claim[i];
		bool all = err != NULL || got[i] == s->asked;
		int64_t had = s->had;

		s->asked = s->had = 0;
		/* Fewer than asked for: others have taken them, or they are settled. */
		fair_waits(&w->fair, s, all ? -got[i] : -had);
	}
	if (err != NULL) {
		rest(w, "turns", err);
		return;
	}
	w->failures = 0;
	w->claimed = db_keep(res);
	w->sent = 0;
	send_claimed(w);
}

static void claim(struct waiting *w)
{
	struct db_param col[4][CLAIM_SHARES], param[4];
	int64_t rows = CLAIM_ROWS;
	struct list *n;

	w->n_claim = 0;
	while (w->n_claim < CLAIM_SHARES && rows > 0 && (n = list_pop(&w->fair.ready)) != NULL) {
		struct fair_share *s = CONTAINER_OF(n, struct fair_share, node);
		size_t i = w->n_claim++;

		s->had = s->waiting;
		s->asked = (int64_t)(w->fair.limit - s->n_slots);
		if (s->asked > s->waiting)
			s->asked = s->waiting;
		if (s->asked > rows)
			s->asked = rows;
		rows -= s->asked;
		col[0][i] = DB_INT((int64_t)i);
		col[1][i] = DB_INT(s->community_id);
		col[2][i] = DB_STR(s->module);
		col[3][i] = DB_INT(s->asked);
		w->claim[i] = s;
	}
	for (size_t i = 0; i < 4; i++)
		param[i] = DB_ARRAY(col[i], w->n_claim);
	w->claiming = db_send(w->r->db, (struct db_opts){ .to = DB_WRITE }, claimed, w, claim_sql, param, 4) == 0;
	if (!w->claiming) {
		for (size_t i = 0; i < w->n_claim; i++) {
			w->claim[i]->asked = w->claim[i]->had = 0;
			fair_waits(&w->fair, w->claim[i], 0);
		}
		rest(w, "turns", &(struct err){ .code = -EAGAIN, .text = "the database queue is full" });
	}
}

/* --- answers that other replicas took -------------------------------------------------------------------- */

static void poll(void *arg);

static void poll_in(struct waiting *w, int64_t ms)
{
	w->poll_ms = ms;
	timer_start(w->r->s, &w->poll, ms, poll, w);
}

static void poll_soon(struct waiting *w)
{
	if (!w->polling && w->poll_ms > POLL_MIN_MS)
		poll_in(w, POLL_MIN_MS);
}

static void polled(void *arg, const struct db_result *res, const struct err *err)
{
	struct waiting *w = arg;
	int n = err == NULL ? db_rows(res) : 0;

	w->polling = false;
	for (int i = 0; i < n; i++) {
		struct fair_slot *slot = fair_find(&w->fair, db_str(res, i, 0));

		if (slot != NULL)
			fair_free(&w->fair, slot);
	}
	/* Soon again while it helps; what is answered here is known without asking. */
	poll_in(w, n > 0 && (size_t)n * 2 >= w->n_polled ? POLL_MIN_MS :
	           w->poll_ms * 2 < POLL_MAX_MS ? w->poll_ms * 2 : POLL_MAX_MS);
}

/* Slots that others wait for, and old ones. */
static void poll(void *arg)
{
	struct waiting *w = arg;
	struct db_param id[POLL_ROWS], at[POLL_ROWS];
	int64_t now_ms = clock_mono_ms();
	size_t n = 0, looks = w->fair.n_slots < POLL_LOOKS ? w->fair.n_slots : POLL_LOOKS;

	while (looks-- > 0 && n < POLL_ROWS) {
		struct fair_slot *slot = CONTAINER_OF(list_first(&w->fair.slots), struct fair_slot, all);

		list_move(&w->fair.slots, &slot->all);          /* the next look begins behind it */
		if (slot->until_mono_ms <= now_ms) {
			fair_free(&w->fair, slot);
		} else if (slot->share->waiting > 0 || slot->sent_mono_ms + STALE_MS <= now_ms) {
			id[n] = DB_STR(str_of(slot->id));
			at[n++] = DB_TIME(slot->created_ms);
		}
	}
	w->n_polled = n;
	w->polling = n > 0 && !service_draining(w->r->s) &&
	             db_query(w->r->db, (struct db_opts){ .to = DB_WRITE }, polled, w,
	                      "SELECT e.execution_id FROM unnest($1::uuid[], $2::timestamptz[]) AS x(execution_id, created_at) "
	                      "JOIN command_executions e ON e.execution_id = x.execution_id AND e.created_at = x.created_at "
	                      "WHERE e.status <> 'pending'", DB_ARRAY(id, n), DB_ARRAY(at, n)) == 0;
	if (!w->polling)
		poll_in(w, POLL_MAX_MS);
}

/* --- turns nobody may know of ------------------------------------------------------------------------------ */

static void look(void *arg);

static void looked(struct waiting *w, const char *what, const struct err *err)
{
	if (err != NULL)
		log_rarely(10000, L_WARN, NULL, "look_failed", "%s: %s", what, err->text);
	if (--w->looking == 0)
		timer_start(w->r->s, &w->look, LOOK_MS, look, w);
}

static void found(void *arg, const struct db_result *res, const struct err *err)
{
	struct waiting *w = arg;
	int n = err == NULL ? db_rows(res) : 0;

	for (int i = 0; i < n; i++) {
		struct fair_share *s = fair_share(&w->fair, db_int(res, i, 0), db_str(res, i, 1));

		/* Where we know of some, our own count is newer. */
		if (s->waiting + s->entering + s->asked == 0)
			fair_waits(&w->fair, s, db_int(res, i, 2));
	}
	looked(w, "turns", err);
}

static void too_long(void *arg, const struct db_result *res, const struct err *err)
{
	struct waiting *w = arg;

	if (err == NULL)
		given_up(w, res, 0);
	looked(w, "turns that waited too long", err);
}

static void repairs(void *arg, const struct db_result *res, const struct err *err)
{
	struct waiting *w = arg;

	if (err == NULL)
		metric_add(&repaired, 0, (uint64_t)db_rows(res));
	looked(w, "repair", err);
}

static void look(void *arg)
{
	struct waiting *w = arg;
	struct db_opts opts = { .to = DB_WRITE };

	metric_set(&fair_waiting, 0, w->fair.waiting);
	metric_set(&unanswered, 0, (int64_t)w->fair.n_slots);
	if (w->draining)
		return;
	w->looking = 1;
	if (w->looks++ % REPAIR_LOOKS == 0) {
		/* A chain whose earlier links are settled or never were: commands may have changed
		 * between two deliveries of an event. */
		w->looking += db_query(w->r->db, opts, repairs, w,
		                       "UPDATE command_executions q SET waits = 'turn', queued_at = now() "
		                       "WHERE q.waits = 'link' AND q.status = 'pending' AND coalesce((SELECT p.status "
		                       "FROM command_executions p WHERE p.created_at = q.created_at "
		                       "AND p.next_id = q.execution_id LIMIT 1), '') <> 'pending'") == 0;
		w->looking += db_query(w->r->db, opts, repairs, w,
		                       "UPDATE command_executions SET waits = NULL, lease_until = NULL "
		                       "WHERE waits = 'turn' AND status <> 'pending' "
		                       "AND (lease_until IS NULL OR lease_until < now())") == 0;
	}
	w->looking += db_send(w->r->db, opts, too_long, w, too_long_sql,
	                      &DB_INT(w->r->settings->queue_timeout_ms), 1) == 0;
	w->looking += db_query(w->r->db, opts, found, w,
	                       "SELECT community_id, module_name, count(*) FROM command_executions "
	                       "WHERE waits = 'turn' AND status = 'pending' AND (lease_until IS NULL "
	                       "OR lease_until < now()) GROUP BY 1, 2 LIMIT 4096") == 0;
	looked(w, "", NULL);
}

/* --------------------------------------------------------------------------------------------------------------- */

static void loop_turn(void *arg)
{
	struct waiting *w = arg;
	struct list *n;

	while ((n = list_first(&w->acked)) != NULL) {
		struct named *x = CONTAINER_OF(n, struct named, node);
		const struct db_param row[] = { DB_STR(str_of(x->id)), DB_TIME(x->created_ms) };

		if (batch_add(w->clear, row, NULL, NULL) != 0)
			break;
		list_del(n);
		free(x);
	}
	if (w->claimed != NULL)
		send_claimed(w);
	if (!w->losing && !w->resting && !list_empty(&w->lost))
		lose(w);
	if (!w->claiming && w->claimed == NULL && !w->resting && !w->draining && !list_empty(&w->fair.ready))
		claim(w);
}

struct waiting *waiting_open(struct router *r)
{
	static const struct batch_spec clear = {
		.name = "sent", .columns = 2, .max_rows = 512, .max_in_flight = 1, .key_column = -1, .idempotent = true,
		.sql = "UPDATE command_executions e SET waits = NULL, lease_until = NULL "
		       "FROM unnest($1::uuid[], $2::timestamptz[]) AS x(execution_id, created_at) "
		       "WHERE e.execution_id = x.execution_id AND e.created_at = x.created_at AND e.waits = 'turn'",
	};
	struct waiting *w = XNEW(struct waiting);

	w->r = r;
	fair_init(&w->fair, (size_t)r->settings->fair_outstanding, r->settings->fair_backlog);
	list_init(&w->acked);
	list_init(&w->lost);
	w->clear = batch_open(r->s, r->db, &clear);
	timer_start(r->s, &w->look, 0, look, w);
	poll_in(w, POLL_MAX_MS);
	service_on_turn(r->s, loop_turn, w);
	return w;
}

void waiting_drain(struct waiting *w)
{
	w->draining = true;
}

void waiting_stop(struct waiting *w)
{
	batch_close(w->clear);
}

void waiting_close(struct waiting *w)
{
	if (w == NULL)
		return;
	service_off_turn(w->r->s, loop_turn, w);
	timer_stop(&w->look);
	timer_stop(&w->poll);
	timer_stop(&w->rest);
	db_release(w->claimed);
	names_end(&w->lost, SIZE_MAX);
	names_end(&w->acked, SIZE_MAX);
	fair_clear(&w->fair);
	free(w);
}

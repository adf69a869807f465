/* collector_lane.c - whose turn it is, and one call of it.
 *
 * One reservation is under way at a time, asked for by the best message that may go: by rank, then
 * by which channel had its turn longest ago.  A message that got no slot goes back to its place, so
 * a better one that comes meanwhile overtakes it. */
#include "collector_int.h"
#include "crypto.h"
#include "db.h"
#include "err.h"
#include "log.h"
#include "metrics.h"
#include "service.h"

/* Lanes that were told to wait for the same slot differ by the time of their asking. */
enum { SLACK_MS = 20, TRIES_MAX = 5, ECHO_MS = 10000, ECHO_LOOK_MS = 1000, WAIT_MAX_MS = 30000 };

static const char *const settled_names[] = { "echo", "resent", "open" };
enum { SETTLED_ECHO, SETTLED_RESENT, SETTLED_OPEN };
METRIC_BY(settled, METRIC_COUNTER, "waddle_collector_outbound_unknown_total",
          "Calls whose answer is missing, by what became of them.", "settled", settled_names);
METRIC(retries, METRIC_COUNTER, "waddle_collector_outbound_retries_total", "Calls that did not leave and are repeated.");
METRIC(blocked, METRIC_COUNTER, "waddle_collector_outbound_blocked_total", "Answers that asked to wait.");
struct metric *const lane_metrics[] = { &settled, &retries, &blocked, NULL };

static void turn(void *arg);

/* Lanes ------------------------------------------------------------------------------------------ */

static struct lane *lane_of(struct sender *d, struct str entity)
{
	uint64_t hash = hash_of(entity);
	struct lane *lane;

	for (struct hash_node *n = hash_find(&d->lanes, hash); n != NULL; n = hash_next(n)) {
		lane = CONTAINER_OF(n, struct lane, by_entity);
		if (str_eq(lane->entity, entity))
			return lane;
	}
	lane = XNEW(struct lane);
	lane->mem = arena_new(256, 8192);
	lane->entity = arena_str(lane->mem, entity);
	list_init(&lane->waiting);
	list_add_tail(&d->lane_list, &lane->node);
	hash_add(&d->lanes, &lane->by_entity, hash);
	return lane;
}

static void lane_free(struct sender *d, struct lane *lane)
{
	hash_del(&d->lanes, &lane->by_entity);
	list_del(&lane->node);
	arena_free(lane->mem);
	free(lane);
}

static bool before(const struct sending *a, const struct sending *b)
{
	return a->rank < b->rank || (a->rank == b->rank && a->arrival < b->arrival);
}

void lane_add(struct sending *s)
{
	struct lane *lane = s->lane != NULL ? s->lane : lane_of(s->d, s->what.entity);
	struct list *after = lane->waiting.prev;

	s->lane = lane;
	s->state = WAITING;
	while (after != &lane->waiting && before(s, CONTAINER_OF(after, struct sending, node)))
		after = after->prev;
	list_add_head(after, &s->node);
}

void lane_leave(struct sending *s)
{
	struct lane *lane = s->lane;

	s->lane = NULL;
	list_del(&s->node);
	if (lane == NULL)
		return;
	if (lane->active == s)
		lane->active = NULL;
	lanes_turn(s->d, 0);
}

void lanes_turn(struct sender *d, int64_t in_ms)
{
	if (d->draining || d->stopped || !d->ready)
		return;
	if (!timer_running(&d->turn) || d->turn.due_mono_ms > clock_mono_ms() + in_ms)
		timer_start(d->s, &d->turn, in_ms, turn, d);
}

void lanes_free(struct sender *d)
{
	timer_stop(&d->turn);
	LIST_EACH(n, tmp, &d->lane_list)
		lane_free(d, CONTAINER_OF(n, struct lane, node));
	hash_clear(&d->lanes);
}

/* A call ----------------------------------------------------------------------------------------- */

/* A state that ends with a callback; the process waits for it when it drains. */
static void enter(struct sending *s, enum sending_state state)
{
	s->state = state;
	service_hold(s->d->s);
}

static void leave(struct sending *s, enum sending_state state)
{
	IS_A(s, SENDING_MAGIC);
	ASSERT(s->state == state);
	s->state = WAITING;
	service_release(s->d->s);
}

/* A call that may have been a message keeps its slot when the part is sent once more. */
static int64_t slot_of(const struct sending *s)
{
	return (int64_t)s->attempts * SPLIT_PARTS + (int64_t)s->part;
}

static void noted(void *arg, const struct db_result *res, const struct err *err)
{
	struct sending *s = arg;

	(void)res;
	leave(s, NOTING);
	if (err != NULL && !s->d->stopped)
		log_rarely(5000, L_WARN, NULL, "outbox_state_lost", "a state could not be written: %s",
		           err->text);
	lanes_turn(s->d, 0);
}

/* Writes how far it has come, so that nobody who takes over has to ask; then it is its turn again,
 * not before in_ms have passed. */
static void note(struct sending *s, int64_t in_ms)
{
	struct sender *d = s->d;
	const struct db_param param[] = {
		DB_STR(s->what.message_id), DB_STR(d->s->base.instance), DB_STR(s->parts_json),
		DB_INT(s->attempts), DB_INT(in_ms),
	};

	s->lane->not_before_mono_ms = clock_mono_ms() + in_ms;
	if (d->stopped)
		return;
	enter(s, NOTING);
	if (db_send(d->conf.db, (struct db_opts){ .to = DB_WRITE }, noted, s, d->note_sql, param, ARRAY_LEN(param)) != 0) {
		leave(s, NOTING);
		lanes_turn(d, in_ms);
	}
}

/* Without it the slot counts from the call's time-out on: later, never sooner. */
static void slot_answered(struct sending *s)
{
	struct sender *d = s->d;
	struct budget b = { 0 };

	d->conf.budget_of(d->conf.arg, &s->what, &b);
	s->attempts--;

	const struct db_param param[] = { DB_STR(b.account), DB_STR(s->what.message_id), DB_INT(slot_of(s)) };

	s->attempts++;
	if (!d->stopped)
		(void)!db_send(d->conf.db, (struct db_opts){ .to = DB_WRITE }, NULL, NULL,
		               d->conf.answered_sql, param, 3);
}

static void part_done(struct sending *s, struct str platform_message_id)
{
	sending_part(s, platform_message_id);
	s->tries = 0;
	s->attempts = 0;
	if (s->part == s->n_parts)
		sending_end(s, FINAL_SENT, STR_NONE);
	else
		note(s, 0);
}

void sending_sent(struct sending *s, struct str platform_message_id)
{
	leave(s, CALLING);
	slot_answered(s);
	part_done(s, platform_message_id);
}

void sending_refused(struct sending *s, struct str reason)
{
	leave(s, CALLING);
	slot_answered(s);
	sending_end(s, FINAL_REFUSED, reason);
}

void sending_failed(struct sending *s, struct str reason)
{
	leave(s, CALLING);
	slot_answered(s);
	sending_end(s, FINAL_FAILED, reason);
}

void sending_retry(struct sending *s, struct str why)
{
	leave(s, CALLING);
	s->attempts--;
	if (++s->tries >= TRIES_MAX) {
		sending_end(s, FINAL_FAILED, why);
		return;
	}
	metric_add(&retries, 0, 1);
	note(s, 1000LL << (s->tries - 1));
}

void sending_later(struct sending *s, int64_t ms)
{
	leave(s, CALLING);
	s->attempts--;
	note(s, ms);
}

void sending_blocked(struct sending *s, int64_t ms)
{
	struct sender *d = s->d;
	struct budget b = { 0 };

	leave(s, CALLING);
	s->attempts--;
	metric_add(&blocked, 0, 1);
	log_rarely(5000, L_WARN, NULL, "platform_says_wait", "%s asks to wait %lld ms", d->conf.platform,
	           (long long)ms);
	d->conf.budget_of(d->conf.arg, &s->what, &b);
	if (!d->stopped)
		(void)!db_send(d->conf.db, (struct db_opts){ .to = DB_WRITE }, NULL, NULL, d->conf.blocked_sql,
		               (const struct db_param[]){ DB_STR(b.account), DB_INT(ms) }, 2);
	note(s, ms);
}

/* Without an answer ------------------------------------------------------------------------------ */

static void echo_look(void *arg);

static struct str echo_key(struct str entity, struct str text, struct arena *mem)
{
	unsigned char sum[CRYPTO_SHA256];
	char hex[2 * CRYPTO_SHA256 + 1];

	crypto_sha256(text, sum);
	crypto_hex(sum, sizeof sum, hex);
	return arena_printf(mem, "echo:" STR_FMT ":%s", STR_ARG(entity), hex);
}

static void echo_looked(void *arg, const struct db_result *res, const struct err *err)
{
	struct sending *s = arg;

	leave(s, ECHOING);
	if (s->d->stopped)
		return;
	if (err == NULL && db_rows(res) > 0) {
		metric_add(&settled, SETTLED_ECHO, 1);
		part_done(s, db_str(res, 0, 0));
		return;
	}
	if (err != NULL || clock_mono_ms() < s->echo_until_mono_ms) {
		s->state = ECHOING;
		if (!s->d->draining)
			timer_start(s->d->s, &s->timer, ECHO_LOOK_MS, echo_look, s);
		return;
	}
	if (s->attempts >= 2) {
		metric_add(&settled, SETTLED_OPEN, 1);
		sending_end(s, FINAL_UNKNOWN, STR("sent twice, never answered nor seen"));
		return;
	}
	metric_add(&settled, SETTLED_RESENT, 1);
	lanes_turn(s->d, 0);
}

static void echo_look(void *arg)
{
	struct sending *s = arg;
	struct sender *d = s->d;
	const struct db_param param[] = {
		DB_STR(echo_key(s->what.entity, s->parts[s->part], s->mem)), DB_STR(s->what.message_id),
	};

	IS_A(s, SENDING_MAGIC);
	enter(s, ECHOING);
	if (db_send(d->conf.db, (struct db_opts){ .to = DB_WRITE }, echo_looked, s, d->seen_sql, param, 2) != 0) {
		leave(s, ECHOING);
		s->state = ECHOING;
		timer_start(d->s, &s->timer, ECHO_LOOK_MS, echo_look, s);
	}
}

static void ask(struct sending *s)
{
	s->asks = false;
	s->echo_until_mono_ms = clock_mono_ms() + ECHO_MS;
	echo_look(s);
}

void sending_unknown(struct sending *s, struct str why)
{
	leave(s, CALLING);
	if (s->d->stopped)
		return;
	log_rarely(1000, L_WARN, NULL, "send_unknown",
	           "a message was sent and the answer is missing: " STR_FMT, STR_ARG(why));
	ask(s);
}

int sender_echo(struct sender *d, struct str entity, struct str text, struct str platform_message_id)
{
	struct arena *mem = arena_new(1024, 64 * 1024);
	const struct db_param row[] = { DB_STR(echo_key(entity, text, mem)), DB_STR(platform_message_id) };
	int r = batch_add(d->echo, row, NULL, NULL);

	arena_free(mem);
	return r;
}

/* Turns ------------------------------------------------------------------------------------------ */

/* What this lane would send next, or NULL. */
static struct sending *next_of(const struct lane *lane)
{
	struct list *n;

	if (lane->active != NULL)
		return lane->active->state == WAITING ? lane->active : NULL;
	n = list_first(&lane->waiting);
	return n == NULL ? NULL : CONTAINER_OF(n, struct sending, node);
}

/* False: it is over already. */
static bool prepare(struct sending *s)
{
	struct sender *d = s->d;
	const char *refusal = NULL;
	struct str text;

	if (s->n_parts > 0)
		return true;
	text = d->conf.text_of(d->conf.arg, &s->what, s->login, s->mem, &refusal);
	if (refusal == NULL) {
		s->n_parts = split_text(text, d->conf.split, s->mem, s->parts);
		if (s->n_parts == 0)
			refusal = "empty";
	}
	if (refusal != NULL)
		sending_end(s, FINAL_REFUSED, str_of(refusal));
	else if (s->part >= s->n_parts)
		sending_end(s, FINAL_SENT, STR_NONE);   /* taken over behind its last part */
	return refusal == NULL && s->part < s->n_parts;
}

/* milliseconds to wait, whether the row is still ours */
static void reserved(void *arg, const struct db_result *res, const struct err *err)
{
	struct sending *s = arg;
	struct sender *d = s->d;
	struct lane *lane = s->lane;
	int64_t ms;

	leave(s, RESERVING);
	d->asking = false;
	if (d->stopped)
		return;
	lanes_turn(d, 0);
	ms = err != NULL || db_rows(res) != 1 ? 50 + clock_backoff_ms(d->failures++, 200, 5000) :
	                                        db_int(res, 0, 0);
	if (ms > 0) {
		lane->not_before_mono_ms = clock_mono_ms() + ms;
		if (s->part == 0 && s->attempts == 0 && s->tries == 0) {
			lane->active = NULL;
			lane_add(s);
		}
		return;
	}
	d->failures = 0;
	if (db_int(res, 0, 1) == 0) {
		log_rarely(5000, L_WARN, NULL, "lease_lost",
		           "another process sends what this one held too long");
		sending_drop(s);
		return;
	}
	lane->turn = ++d->turns;
	s->attempts++;
	enter(s, CALLING);
	d->conf.send(d->conf.arg, s, &s->what, s->parts[s->part], (unsigned)s->part);
}

static void reserve(struct sending *s)
{
	struct sender *d = s->d;
	struct budget b = { 0 };

	s->lane->active = s;
	list_del(&s->node);
	if (s->asks) {
		ask(s);
		return;
	}
	d->conf.budget_of(d->conf.arg, &s->what, &b);

	const struct db_param param[] = {
		DB_STR(s->what.message_id), DB_INT(slot_of(s)), DB_STR(s->what.channel_id), DB_STR(b.account),
		DB_INT(b.max_slots), DB_INT(b.gap_ms), DB_STR(d->s->base.instance), DB_STR(s->parts_json),
		DB_INT(s->attempts + 1),
	};

	enter(s, RESERVING);
	if (db_send(d->conf.db, (struct db_opts){ .to = DB_WRITE }, reserved, s, d->begin_sql, param, ARRAY_LEN(param)) != 0) {
		leave(s, RESERVING);
		lanes_turn(d, 100);
		return;
	}
	d->asking = true;
}

static void turn(void *arg)
{
	struct sender *d = arg;
	int64_t now = clock_mono_ms(), now_unix = clock_unix_ms(), wake = WAIT_MAX_MS;
	struct lane *best = NULL;
	struct sending *s, *best_s = NULL;

	IS_A(d, SENDER_MAGIC);
	if (d->draining || d->stopped || !d->ready || d->asking)
		return;
	LIST_EACH(n, tmp, &d->lane_list) {
		struct lane *lane = CONTAINER_OF(n, struct lane, node);

		while ((s = next_of(lane)) != NULL && !s->asks && s->what.expires_at_ms <= now_unix)
			sending_end(s, s->attempts > 0 ? FINAL_UNKNOWN : FINAL_EXPIRED,
			            STR("its time was over before it could be sent"));
		if (s == NULL) {
			if (lane->active == NULL)
				lane_free(d, lane);
			continue;
		}
		if (lane->not_before_mono_ms > now + SLACK_MS) {
			int64_t in = lane->not_before_mono_ms - now,
				life = s->what.expires_at_ms - now_unix + 1;

			wake = in < wake ? in : wake;
			wake = life > 0 && life < wake ? life : wake;
			continue;
		}
		if (best_s == NULL || s->rank < best_s->rank ||
		    (s->rank == best_s->rank && lane->turn < best->turn)) {
			best = lane;
			best_s = s;
		}
	}
	if (best_s == NULL) {
		if (!list_empty(&d->lane_list))
			lanes_turn(d, wake);
	} else {
		if (prepare(best_s))
			reserve(best_s);
		if (!d->asking)
			lanes_turn(d, 0);
	}
}

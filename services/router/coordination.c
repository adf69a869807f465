/* coordination.c - which container works which entity (router.md 16).
 *
 * A row is free, or held: by claimed_by, or where max_containers > 1 by rows of coordination_claims
 * that the row counts in `holders`.  Every claim raises the row's fence, and what a holder does names
 * the fence it was given, so that one who was thought dead changes nothing any more.
 *
 * Claims of one container wait for each other (an advisory lock), since together they must not hold
 * more than max_claims.  Claims of different containers never wait: SKIP LOCKED.  A shared row that
 * somebody else is claiming at this moment is skipped too; it is there at the next claim. */
#include "coordination.h"
#include "clock.h"
#include "err.h"
#include "log.h"
#include "metrics.h"
#include "service.h"

enum { SWEEP_MS = 30000 };

struct coordination {
	struct router *r;
	struct timer   sweep;
};

static const char *const platform_names[] = { "twitch", "discord", "slack", "kick", "youtube", "terminal", "other" };
METRIC_BY(claims, METRIC_GAUGE, "waddle_router_claims", "Entities that containers work on.", "platform",
          platform_names);
METRIC_BY(claims_lapsed, METRIC_COUNTER, "waddle_router_claims_lapsed_total",
          "Claims ended because their holder was silent.", "platform", platform_names);
struct metric *const coordination_metrics[] = { &claims, &claims_lapsed, NULL };

static unsigned platform_cell(struct str name)
{
	unsigned i = 0;

	while (i < ARRAY_LEN(platform_names) - 1 && !str_eq(name, str_of(platform_names[i])))
		i++;
	return i;
}

/* Rows a container works on, alone or with others: coordination row, container, fence. */
#define HOLDERS \
	"(SELECT id, platform, entity_id, is_live, claimed_by AS container, fence FROM coordination " \
	"WHERE claimed_by IS NOT NULL UNION ALL " \
	"SELECT c.id, c.platform, c.entity_id, c.is_live, k.container_id, k.fence " \
	"FROM coordination_claims k JOIN coordination c ON c.id = k.coordination_id)"

/* What a claim says when nobody renews it: the earlier of its end and a missed check-in. */
#define LAPSES(k) "least(" k ".claim_expires, " k ".last_checkin + (c.heartbeat_interval + 60) * interval '1 s')"
#define CLAIM_ENDS "now() + interval '30 minutes'"

/* Without its last holder a row is free again, unless it is in trouble or its server is not there. */
#define FREED \
	"claimed_by = NULL, claimed_at = NULL, claim_expires = NULL, " \
	"status = CASE status WHEN 'claimed' THEN 'available' ELSE status END"
#define FEWER(n) "holders = c.holders - " n ", " \
	"status = CASE WHEN c.status = 'claimed' AND c.holders <= " n " THEN 'available' ELSE c.status END"

static const char lapse_sql[] =
	"WITH due AS MATERIALIZED (SELECT c.id FROM coordination c WHERE c.claimed_by IS NOT NULL "
	"AND ($1 = '' OR c.platform = $1) AND " LAPSES("c") " <= now() FOR UPDATE SKIP LOCKED), "
	"alone AS (UPDATE coordination c SET " FREED " FROM due WHERE c.id = due.id RETURNING c.platform), "
	"shared AS MATERIALIZED (SELECT c.id, c.platform, c.heartbeat_interval FROM coordination c "
	"WHERE c.max_containers > 1 AND c.holders > 0 AND ($1 = '' OR c.platform = $1) "
	"AND EXISTS (SELECT FROM coordination_claims k WHERE k.coordination_id = c.id AND " LAPSES("k") " <= now()) "
	"FOR UPDATE SKIP LOCKED), "
	"gone AS (DELETE FROM coordination_claims k USING shared c WHERE k.coordination_id = c.id "
	"AND " LAPSES("k") " <= now() RETURNING c.id, c.platform), "
	"fewer AS (UPDATE coordination c SET " FEWER("g.n::integer") " "
	"FROM (SELECT id, count(*) AS n FROM gone GROUP BY id) g WHERE c.id = g.id) "
	"SELECT platform, count(*) FROM (SELECT platform FROM alone UNION ALL SELECT platform FROM gone) x GROUP BY platform";

/* The rows of a list of entities, and those of the container among them, locked in one order. */
#define ASKED(ids, addresses, fences) \
	"asked AS MATERIALIZED (SELECT coalesce(nullif(u.id, 0), e.entity_id) AS entity_id, u.address, u.fence " \
	"FROM unnest(" ids "::bigint[], " addresses "::text[], " fences "::bigint[]) AS u(id, address, fence) " \
	"LEFT JOIN entities e ON u.id = 0 AND e.address = u.address)"
#define OWN(which) \
	"own AS MATERIALIZED (SELECT c.id FROM coordination c WHERE c.id IN (SELECT h.id FROM " HOLDERS " h " \
	"WHERE h.container = $1 AND (" which ")) ORDER BY c.id FOR UPDATE)"
#define AMONG(all) all " OR EXISTS (SELECT FROM asked m WHERE m.entity_id = h.entity_id AND m.fence = h.fence)"

#define TIME(t) "to_char(" t ", 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
#define ADDRESS(row) "(SELECT e.address FROM entities e WHERE e.entity_id = " row ".entity_id)"
#define ENTITY(row) \
	"json_build_object('entity_id', " row ".entity_id, 'entity', " ADDRESS(row) ", 'fence', " row ".fence)"
/* Of the list, what is not among the done. */
#define NOT_DONE \
	"others AS (SELECT m.* FROM asked m WHERE NOT EXISTS " \
	"(SELECT FROM done d WHERE d.entity_id = m.entity_id AND d.fence = m.fence)) "
#define OTHERS \
	"(SELECT coalesce(json_agg(json_build_object('entity_id', o.entity_id, " \
	"'entity', coalesce(" ADDRESS("o") ", o.address), 'fence', o.fence)), '[]') FROM others o)"

/* Rows given back are still held in this statement's snapshot, hence not taken again. */
static const char claim_sql[] =
	"WITH " OWN("$5 AND h.platform = $2 AND NOT h.is_live") ", "
	"freed AS (UPDATE coordination c SET " FREED " FROM own WHERE c.id = own.id AND c.claimed_by = $1 "
	"RETURNING c.id, c.entity_id, c.fence), "
	"quit AS (DELETE FROM coordination_claims k USING own JOIN coordination c ON c.id = own.id "
	"WHERE k.coordination_id = own.id AND k.container_id = $1 RETURNING own.id, c.entity_id, k.fence), "
	"fewer AS (UPDATE coordination c SET " FEWER("1") " FROM quit WHERE c.id = quit.id), "
	"kept AS (SELECT (SELECT count(*) FROM " HOLDERS " h WHERE h.container = $1) "
	"- (SELECT count(*) FROM freed) - (SELECT count(*) FROM quit) AS n), "
	"free AS MATERIALIZED (SELECT c.id FROM coordination c WHERE c.platform = $2 "
	"AND c.status IN ('available', 'claimed') AND CASE WHEN c.max_containers = 1 THEN c.status = 'available' "
	"ELSE c.holders < c.max_containers AND NOT EXISTS (SELECT FROM coordination_claims k "
	"WHERE k.coordination_id = c.id AND k.container_id = $1) END "
	"ORDER BY ($4 AND c.is_live) DESC, c.priority, c.viewer_count DESC, c.last_checkin NULLS FIRST, c.id "
	"LIMIT greatest(0, $3::bigint - (SELECT n FROM kept)) FOR UPDATE OF c SKIP LOCKED), "
	"taken AS (UPDATE coordination c SET fence = c.fence + 1, status = 'claimed', last_checkin = now(), "
	"claimed_by = CASE c.max_containers WHEN 1 THEN $1 END, "
	"claimed_at = CASE c.max_containers WHEN 1 THEN now() END, "
	"claim_expires = CASE c.max_containers WHEN 1 THEN " CLAIM_ENDS " END, "
	"holders = c.holders + (c.max_containers > 1)::integer FROM free WHERE c.id = free.id RETURNING c.*), "
	"joined AS (INSERT INTO coordination_claims (coordination_id, container_id, fence, claim_expires) "
	"SELECT id, $1, fence, " CLAIM_ENDS " FROM taken WHERE max_containers > 1) "
	"SELECT json_build_object('claimed_entities', (SELECT coalesce(json_agg(json_build_object("
	"'entity_id', t.entity_id, 'entity', " ADDRESS("t") ", 'fence', t.fence, 'platform', t.platform, "
	"'server_id', t.server_id, 'channel_id', t.channel_id, 'is_live', t.is_live, 'viewer_count', t.viewer_count, "
	"'live_since', " TIME("t.live_since") ", 'claim_expires', " TIME(CLAIM_ENDS) ", 'priority', t.priority, "
	"'heartbeat_interval', t.heartbeat_interval, 'config', t.config, 'metadata', t.metadata) "
	"ORDER BY ($4 AND t.is_live) DESC, t.priority, t.viewer_count DESC, t.id), '[]') FROM taken t), "
	"'released', (SELECT coalesce(json_agg(" ENTITY("f") "), '[]') FROM (TABLE freed UNION ALL TABLE quit) f), "
	"'held', (SELECT n FROM kept) + (SELECT count(*) FROM taken))::text";

static const char release_sql[] =
	"WITH " ASKED("$2", "$3", "$4") ", " OWN(AMONG("$5")) ", "
	"freed AS (UPDATE coordination c SET " FREED " FROM own WHERE c.id = own.id AND c.claimed_by = $1 "
	"RETURNING c.id, c.entity_id, c.fence), "
	"quit AS (DELETE FROM coordination_claims k USING own JOIN coordination c ON c.id = own.id "
	"WHERE k.coordination_id = own.id AND k.container_id = $1 RETURNING own.id, c.entity_id, k.fence), "
	"fewer AS (UPDATE coordination c SET " FEWER("1") " FROM quit WHERE c.id = quit.id), "
	"done AS (TABLE freed UNION ALL TABLE quit), " NOT_DONE
	"SELECT json_build_object('released', (SELECT coalesce(json_agg(" ENTITY("d") "), '[]') FROM done d), "
	"'refused', " OTHERS ")::text, EXISTS (SELECT FROM asked) AND NOT EXISTS (SELECT FROM done)";

/* A claim past its time that nobody has taken yet is its holder's as before. */
static const char renew_sql[] =
	"WITH " ASKED("$2", "$3", "$4") ", " OWN(AMONG("$5")) ", "
	"alone AS (UPDATE coordination c SET last_checkin = now(), "
	"claim_expires = CASE WHEN $6 AND c.claimed_by IS NOT NULL THEN " CLAIM_ENDS " ELSE c.claim_expires END, "
	"last_check = CASE WHEN $7 THEN now() ELSE c.last_check END "
	"FROM own WHERE c.id = own.id AND (c.claimed_by = $1 OR c.claimed_by IS NULL AND c.holders > 0) "
	"RETURNING c.claimed_by, c.entity_id, c.fence, c.claim_expires), "
	"shared AS (UPDATE coordination_claims k SET last_checkin = now(), "
	"claim_expires = CASE WHEN $6 THEN " CLAIM_ENDS " ELSE k.claim_expires END "
	"FROM own JOIN coordination c ON c.id = own.id WHERE k.coordination_id = own.id AND k.container_id = $1 "
	"RETURNING c.entity_id, k.fence, k.claim_expires), "
	"done AS (SELECT entity_id, fence, claim_expires FROM alone WHERE claimed_by IS NOT NULL UNION ALL TABLE shared), "
	NOT_DONE
	", kept AS (SELECT coalesce(json_agg(json_build_object('entity_id', d.entity_id, 'entity', " ADDRESS("d") ", "
	"'fence', d.fence, 'claim_expires', " TIME("d.claim_expires") ") ORDER BY d.entity_id), '[]') AS list FROM done d) "
	"SELECT CASE WHEN $5 THEN json_build_object('timestamp', " TIME("now()") ", "
	"'claimed_count', (SELECT count(*) FROM done), 'entities', list) "
	"ELSE json_build_object('kept', list, 'lost', " OTHERS ") END::text FROM kept";

/* $1 container, $2 entity_id, $3 address, $4 fence */
#define HELD_BY_CALLER \
	"c.entity_id = coalesce(nullif($2::bigint, 0), (SELECT e.entity_id FROM entities e WHERE e.address = $3)) " \
	"AND (c.claimed_by = $1 AND c.fence = $4 OR EXISTS (SELECT FROM coordination_claims k " \
	"WHERE k.coordination_id = c.id AND k.container_id = $1 AND k.fence = $4))"

static const char status_sql[] =
	"UPDATE coordination c SET is_live = $5, "
	"viewer_count = CASE WHEN $6::integer < 0 THEN c.viewer_count ELSE $6::integer END, "
	"live_since = CASE WHEN $5 THEN coalesce($7::timestamptz, CASE WHEN c.is_live THEN c.live_since END, now()) END, "
	"last_activity = CASE WHEN $8 THEN now() ELSE c.last_activity END, "
	"metadata = coalesce(nullif($9, '')::jsonb, c.metadata), "
	"error_count = 0, error_at = NULL, error_message = '', status = 'claimed' WHERE " HELD_BY_CALLER
	" RETURNING json_build_object('entity_id', c.entity_id, 'entity', " ADDRESS("c") ", 'status', c.status, "
	"'is_live', c.is_live, 'viewer_count', c.viewer_count, 'live_since', " TIME("c.live_since") ")::text";

static const char error_sql[] =
	"UPDATE coordination c SET error_count = c.error_count + 1, error_at = now(), error_message = $5, "
	"status = CASE WHEN c.error_count + 1 >= 3 THEN 'error' ELSE c.status END WHERE " HELD_BY_CALLER
	" RETURNING json_build_object('entity_id', c.entity_id, 'entity', " ADDRESS("c") ", 'status', c.status, "
	"'error_count', c.error_count)::text";

static const char populate_sql[] =
	"WITH served AS MATERIALIZED (SELECT e.platform, e.server_id, e.channel_id, e.entity_id FROM entities e "
	"WHERE e.platform = $1 AND e.is_active AND EXISTS (SELECT FROM servers s WHERE s.platform = e.platform "
	"AND coalesce(s.server_id, '') = coalesce(e.server_id, '') "
	"AND coalesce(s.channel, '') IN ('', coalesce(e.channel_id, '')) AND s.is_active)), "
	"added AS (INSERT INTO coordination (platform, server_id, channel_id, entity_id) "
	"TABLE served ON CONFLICT (entity_id) DO NOTHING RETURNING id), "
	"unserved AS MATERIALIZED (SELECT c.id FROM coordination c WHERE c.platform = $1 AND c.status <> 'offline' "
	"AND NOT EXISTS (SELECT FROM served s WHERE s.entity_id = c.entity_id) ORDER BY c.id FOR UPDATE), "
	"disabled AS (UPDATE coordination c SET status = 'offline', claimed_by = NULL, claimed_at = NULL, "
	"claim_expires = NULL, holders = 0, error_count = 0, error_at = NULL, error_message = '' "
	"FROM unserved u WHERE c.id = u.id RETURNING c.id), "
	"quit AS (DELETE FROM coordination_claims k USING disabled d WHERE k.coordination_id = d.id), "
	"back AS (UPDATE coordination c SET status = 'available' FROM served s "
	"WHERE c.entity_id = s.entity_id AND c.status = 'offline') "
	"SELECT json_build_object('added', (SELECT count(*) FROM added), "
	"'disabled', (SELECT count(*) FROM disabled))::text";

static const char stats_sql[] =
	"WITH held AS (SELECT h.container, count(*) AS n FROM " HOLDERS " h WHERE $1 IN ('', h.platform) "
	"GROUP BY h.container) "
	"SELECT json_build_object('total_entities', count(*), "
	"'claimed_entities', count(*) FILTER (WHERE c.claimed_by IS NOT NULL OR c.holders > 0), "
	"'live_entities', count(*) FILTER (WHERE c.is_live), "
	"'available', count(*) FILTER (WHERE c.status = 'available'), "
	"'error', count(*) FILTER (WHERE c.status = 'error'), "
	"'offline', count(*) FILTER (WHERE c.status = 'offline'), "
	"'active_containers', (SELECT count(*) FROM held), "
	"'avg_claims_per_container', (SELECT coalesce(round(avg(n), 1), 0.0) FROM held), "
	"'containers', (SELECT coalesce(json_object_agg(container, n), '{}') FROM held))::text "
	"FROM coordination c WHERE $1 IN ('', c.platform)";

static const char entities_sql[] =
	"WITH found AS MATERIALIZED (SELECT c.* FROM coordination c WHERE $1 IN ('', c.platform) "
	"AND $2 IN ('', c.is_live::text) AND $3 IN ('', (c.claimed_by IS NOT NULL OR c.holders > 0)::text) "
	"AND ($4 IN ('', c.claimed_by) OR EXISTS (SELECT FROM coordination_claims k "
	"WHERE k.coordination_id = c.id AND k.container_id = $4)) AND $5 IN ('', c.status)), "
	"page AS (SELECT f.* FROM found f ORDER BY f.is_live DESC, f.priority, f.viewer_count DESC, f.entity_id "
	"LIMIT $6::bigint OFFSET $7::bigint) "
	"SELECT coalesce(json_agg(json_build_object('entity_id', p.entity_id, 'entity', " ADDRESS("p") ", "
	"'platform', p.platform, 'server_id', p.server_id, 'channel_id', p.channel_id, 'status', p.status, "
	"'is_live', p.is_live, 'live_since', " TIME("p.live_since") ", 'viewer_count', p.viewer_count, "
	"'priority', p.priority, 'max_containers', p.max_containers, 'fence', p.fence, 'claimed_by', p.claimed_by, "
	"'claimed_at', " TIME("p.claimed_at") ", 'claim_expires', " TIME("p.claim_expires") ", "
	"'last_checkin', " TIME("p.last_checkin") ", 'last_check', " TIME("p.last_check") ", "
	"'last_activity', " TIME("p.last_activity") ", 'heartbeat_interval', p.heartbeat_interval, "
	"'error_count', p.error_count, 'error_message', p.error_message, 'metadata', p.metadata, 'config', p.config, "
	"'claims', (SELECT coalesce(json_agg(json_build_object('container_id', k.container_id, 'fence', k.fence, "
	"'claim_expires', " TIME("k.claim_expires") ") ORDER BY k.container_id), '[]') "
	"FROM coordination_claims k WHERE k.coordination_id = p.id)) "
	"ORDER BY p.is_live DESC, p.priority, p.viewer_count DESC, p.entity_id), '[]')::text, "
	"(SELECT count(*) FROM found) FROM page p";

static const char heal_sql[] =
	"UPDATE coordination SET status = 'available', error_count = 0, error_at = NULL, error_message = '' "
	"WHERE status = 'error' AND claimed_by IS NULL AND holders = 0 AND error_at <= now() - interval '15 minutes'";

static const char count_sql[] = "SELECT h.platform, count(*) FROM " HOLDERS " h GROUP BY h.platform";

/* Claims of one container, one after the other. */
static const char lock_sql[] = "SELECT pg_advisory_xact_lock(hashtextextended($1, 7461))";

static const struct {
	const char *sql;
	bool        claims;             /* $1 waits for its own other claims; $2's lapsed ones are free first */
	int         timeout_ms;
} calls[COORD_CALLS] = {
	[COORD_CLAIM] = { claim_sql, true, 8000 },
	[COORD_RELEASE] = { release_sql, false, 5000 },
	[COORD_RENEW] = { renew_sql, false, 5000 },
	[COORD_STATUS] = { status_sql, false, 5000 },
	[COORD_ERROR] = { error_sql, false, 5000 },
	[COORD_POPULATE] = { populate_sql, false, 30000 },
	[COORD_STATS] = { stats_sql, false, 8000 },
	[COORD_ENTITIES] = { entities_sql, false, 8000 },
};

/* --- calls -------------------------------------------------------------------------------------- */

struct claiming {
	db_done          *done;
	void             *arg;
	struct db_result *taken;
};

static void count_lapsed(void *arg, const struct db_result *res, const struct err *err)
{
	(void)arg;
	for (int i = 0; err == NULL && i < db_rows(res); i++) {
		struct str platform = db_str(res, i, 0);

		metric_add(&claims_lapsed, platform_cell(platform), (uint64_t)db_int(res, i, 1));
		log_info(NULL, "claims_lapsed", "%lld claims on " STR_FMT " ended: their holders were silent",
		         (long long)db_int(res, i, 1), STR_ARG(platform));
	}
}

static void taken(void *arg, const struct db_result *res, const struct err *err)
{
	struct claiming *w = arg;

	if (err == NULL)
		w->taken = db_keep(res);
}

static void committed(void *arg, const struct db_result *res, const struct err *err)
{
	struct claiming *w = arg;

	(void)res;
	w->done(w->arg, err == NULL ? w->taken : NULL, err);
	db_release(w->taken);
	free(w);
}

struct refused { db_done *done; void *arg; };

static void full(void *arg)
{
	struct refused *f = arg;
	struct err err = { 0 };

	err_set(&err, -EAGAIN, "too many statements are waiting for the database");
	f->done(f->arg, NULL, &err);
	free(f);
}

static void refuse_later(struct coordination *c, db_done *done, void *arg)
{
	struct refused *f = XNEW(struct refused);

	*f = (struct refused){ done, arg };
	service_later(c->r->s, full, f);
}

static void claim(struct coordination *c, const struct db_param *params, size_t n, db_done *done, void *arg)
{
	struct db_tx *tx = db_tx_begin(c->r->db, calls[COORD_CLAIM].timeout_ms);
	struct claiming *w;

	if (tx == NULL) {
		refuse_later(c, done, arg);
		return;
	}
	w = XNEW(struct claiming);
	*w = (struct claiming){ .done = done, .arg = arg };
	/* A statement that cannot be queued makes the commit fail. */
	(void)!db_tx_send(tx, NULL, NULL, lock_sql, params, 1);
	(void)!db_tx_send(tx, count_lapsed, NULL, lapse_sql, params + 1, 1);
	if (db_tx_send(tx, taken, w, claim_sql, params, n) != 0) {
		db_tx_abort(tx);
		free(w);
		refuse_later(c, done, arg);
		return;
	}
	db_tx_commit(tx, committed, w);
}

void coordination_do(struct coordination *c, enum coordination_call call, const struct db_param *params,
                     size_t n, db_done *done, void *arg)
{
	struct db_opts opts = { .to = DB_WRITE, .timeout_ms = calls[call].timeout_ms };

	if (calls[call].claims)
		claim(c, params, n, done, arg);
	else if (db_send(c->r->db, opts, done, arg, calls[call].sql, params, n) != 0)
		refuse_later(c, done, arg);
}

/* --- every 30 s --------------------------------------------------------------------------------- */

static void sweep(void *arg);

static void counted(void *arg, const struct db_result *res, const struct err *err)
{
	struct coordination *c = arg;

	if (err == NULL) {
		int64_t now[ARRAY_LEN(platform_names)] = { 0 };

		for (int i = 0; i < db_rows(res); i++)
			now[platform_cell(db_str(res, i, 0))] += db_int(res, i, 1);
		for (unsigned i = 0; i < ARRAY_LEN(now); i++)
			metric_set(&claims, i, now[i]);
	} else {
		log_rarely(60000, L_WARN, NULL, "claims_not_swept", "%s", err->text);
	}
	if (!db_closing(c->r->db))
		timer_start(c->r->s, &c->sweep, SWEEP_MS, sweep, c);
}

/* Every replica does; rows another one has locked are its to reset. */
static void sweep(void *arg)
{
	struct coordination *c = arg;
	struct db_opts opts = { .to = DB_WRITE, .timeout_ms = 20000 };
	struct db_param all = DB_STR(STR(""));

	(void)!db_send(c->r->db, opts, count_lapsed, NULL, lapse_sql, &all, 1);
	(void)!db_send(c->r->db, opts, NULL, NULL, heal_sql, NULL, 0);
	if (db_send(c->r->db, opts, counted, c, count_sql, NULL, 0) != 0)
		timer_start(c->r->s, &c->sweep, SWEEP_MS, sweep, c);
}

struct coordination *coordination_open(struct router *r)
{
	struct coordination *c = XNEW(struct coordination);

	c->r = r;
	timer_start(r->s, &c->sweep, 0, sweep, c);
	return c;
}

void coordination_close(struct coordination *c)
{
	if (c == NULL)
		return;
	timer_stop(&c->sweep);
	free(c);
}

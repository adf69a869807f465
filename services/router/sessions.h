/* sessions.h - which entity may answer an execution, for how long (router.md 15).
 *
 * A session is written with the first execution of its event and lives SESSION_TTL after its last
 * use.  Its key is that of its executions: (session_id, created_at).  A response renews it, at most
 * once a minute; within the first minute there is nothing to renew and nothing to look up. */
#ifndef SESSIONS_H
#define SESSIONS_H

enum { SESSION_RENEW_MS = 60000 };

/* For the statement that writes executions: a part of its WITH, from the rows called `rows`, which
 * have session_id, created_at and entity_id. */
#define SESSIONS_MADE(rows) \
	"sessions_made AS (INSERT INTO sessions (session_id, created_at, entity_id) " \
	"SELECT session_id, created_at, min(entity_id) FROM " rows " GROUP BY 1, 2 ON CONFLICT DO NOTHING), "

/* Conditions and parts for statements over rows `x` with session_id and executions `e`; ttl_ms is a
 * parameter, "$18". */
#define SESSION_LIVES(ttl_ms) \
	"EXISTS (SELECT FROM sessions s WHERE s.session_id = x.session_id AND s.entity_id = e.entity_id " \
	"AND s.last_activity > now() - " ttl_ms " * interval '1 ms')"
#define SESSIONS_RENEWED(rows) \
	"sessions_renewed AS (UPDATE sessions s SET last_activity = now() FROM " rows " r " \
	"WHERE s.session_id = r.session_id AND s.last_activity < now() - interval '60 s')"

#endif

/* replies_sql.c - storing responses, settling their executions, and what was wrong with the others.
 *
 * What the response said goes along through the statement: a join of its parts would be a nested
 * loop, because PostgreSQL cannot know how many rows an array or an UPDATE gives. */
#include "replies_sql.h"
#include "router.h"
#include "sessions.h"

#define ARRAYS \
	"SELECT * FROM unnest($1::integer[], $2::uuid[], $3::integer[], $4::text[], $5::boolean[], " \
	"$6::boolean[], $7::text[], $8::jsonb[], $9::text[], $10::text[], $11::integer[], $12::boolean[], " \
	"$13::uuid[], $14::boolean[], $15::jsonb[], $16::timestamptz[]) AS t(i, execution_id, response_index, " \
	"module_name, success, final, response_action, response_data, chat_message, error_message, " \
	"processing_time_ms, private, session_id, settles, whole, at)"

/* A failure without a word of its own: the user gets a notice, in the channel's words. */
#define FAILED(t) "NOT " t ".success AND coalesce(" t ".chat_message, '') = ''"
#define CONFIG \
	"CASE WHEN " FAILED("f") " THEN jsonb_strip_nulls(jsonb_build_object('messages', n.config->'messages', " \
	"'silent', n.config->'silent'))::text END"

#define FOUND "x.*, e.next_id, e.next_module, e.created_at, e.entity_id, e.community_id, e.user_id, e.event_id, " \
	"e.trace_id, e.reply_ref, e.request_payload #>> '{event_data,message_id}' AS message_id, " \
	"coalesce(e.response_status = 504 AND e.completed_at < now(), false) AS late, " \
	"CASE WHEN " FAILED("x") " THEN concat(e.request_payload->>'prefix', e.request_payload->>'command') END AS command, " \
	"CASE WHEN " FAILED("x") " THEN e.request_payload->>'message_type' END AS message_type"

/* What a response keeps beside the columns of every kind; of chat it is NULL throughout. */
#define KINDS \
	"media_type, media_url, ticker_text, ticker_duration, form_title, form_description, form_fields, " \
	"form_submit_url, form_submit_method, form_callback_url, content_type, content, duration, style"
#define KINDS_OF(t) \
	t ".whole->>'media_type', " t ".whole->>'media_url', " t ".whole->>'ticker_text', " \
	"CASE " t ".response_action WHEN 'ticker' THEN coalesce((" t ".whole->>'ticker_duration')::integer, 10) END, " \
	t ".whole->>'form_title', " t ".whole->>'form_description', " t ".whole->'form_fields', " t ".whole->>'form_submit_url', " \
	"CASE " t ".response_action WHEN 'form' THEN coalesce(" t ".whole->>'form_submit_method', 'POST') END, " \
	t ".whole->>'form_callback_url', " \
	"CASE " t ".response_action WHEN 'general' THEN coalesce(" t ".whole->>'content_type', 'text') END, " t ".whole->>'content', " \
	"CASE " t ".response_action WHEN 'general' THEN coalesce((" t ".whole->>'duration')::integer, 0) END, " t ".whole->'style'"

/* What an overlay shows: response_data with the fields of the action; empty takes a card down. */
#define OVERLAY \
	"CASE f.response_action " \
	"WHEN 'media' THEN coalesce(f.response_data, '{}') || jsonb_strip_nulls(jsonb_build_object(" \
	"'media_type', f.whole->'media_type', 'media_url', f.whole->'media_url')) " \
	"WHEN 'ticker' THEN coalesce(f.response_data, '{}') || jsonb_build_object('ticker_text', f.whole->'ticker_text') " \
	"WHEN 'general' THEN CASE WHEN f.whole->'content' IS NULL AND f.whole->'form_fields' IS NULL " \
	"AND coalesce(f.response_data, '{}') = '{}' THEN '{}' ELSE " \
	"coalesce(f.response_data, '{}') || jsonb_strip_nulls(jsonb_build_object(" \
	"'content_type', coalesce(f.whole->>'content_type', 'text'), 'content', f.whole->'content', " \
	"'style', f.whole->'style', 'form_title', f.whole->'form_title', " \
	"'form_description', f.whole->'form_description', 'form_fields', f.whole->'form_fields')) END END"

/* All positions a batch carries are told as its highest, for every community in it: they are
 * milliseconds apart, and waiting for a later one is never wrong. */
#define TOLD \
	"(SELECT count(pg_notify('waddle_position', $17::text || ':' || " \
	"CASE WHEN length(c) > 7900 THEN '*' ELSE c END)) FROM " \
	"(SELECT string_agg(DISTINCT community_id::text, ',') AS c FROM f) t WHERE $17::text IS NOT NULL)"

#define STORE(WHERE_, MORE_) \
	"WITH x AS (" ARRAYS "), " \
	"u AS (UPDATE command_executions e SET " \
	"status = CASE WHEN e.status <> 'pending' THEN e.status WHEN x.success THEN 'success' ELSE 'failed' END, " \
	"response_status = coalesce(e.response_status, CASE WHEN x.success THEN 200 ELSE 422 END), " \
	"response_data = coalesce(e.response_data, x.response_data), " \
	"error_message = coalesce(e.error_message, x.error_message), " \
	"execution_time_ms = coalesce(e.execution_time_ms, " \
	"least(extract(epoch FROM clock_timestamp() - e.created_at) * 1000, 2147483647)::integer), " \
	"completed_at = coalesce(e.completed_at, now()) FROM x " \
	"WHERE x.settles AND e.execution_id = x.execution_id AND e.module_name = x.module_name " \
	WHERE_ "RETURNING " FOUND "), " RELEASES_NEXT ", " \
	"f AS (SELECT * FROM u UNION ALL SELECT " FOUND " FROM x JOIN command_executions e " \
	"ON e.execution_id = x.execution_id AND e.module_name = x.module_name " \
	WHERE_ \
	"WHERE NOT x.settles), " \
	"kept AS (INSERT INTO module_responses (execution_id, created_at, response_index, module_name, success, " \
	"final, response_action, response_data, chat_message, error_message, processing_time_ms, private, session_id, " \
	"late, " KINDS ") " \
	"SELECT execution_id, created_at, response_index, module_name, success, final, response_action, " \
	"response_data, chat_message, error_message, processing_time_ms, private, session_id, late, " KINDS_OF("f") " FROM f " \
	"ON CONFLICT (execution_id, response_index, created_at) DO NOTHING RETURNING 1)" MORE_ \
	" SELECT f.i, n.address, n.platform, n.server_id, n.channel_id, f.user_id, f.reply_ref, f.message_id, " \
	"f.community_id, coalesce(n.config->>'bot_account_id', n.channel_id), f.event_id, f.trace_id, f.created_at, " \
	"f.late, f.command, " OVERLAY ", (SELECT count(*) FROM kept), " TOLD ", f.message_type, " CONFIG \
	", f.next_module FROM f JOIN entities n ON n.entity_id = f.entity_id ORDER BY f.i"

const char *const replies_store_sql[PASS_WHY] = {
	/* $18 is named, so that both take the same parameters */
	[PASS_THERE] = STORE("AND e.created_at = x.at AND e.session_id = x.session_id AND $18::bigint > 0 ", ""),
	[PASS_ALL] = STORE("AND " SESSION_LIVES("$18::bigint") " ", ", " SESSIONS_RENEWED("f")),
};

const char replies_why_sql[] =
	"SELECT x.i, e.module_name, s.entity_id IS NOT NULL, "
	"coalesce(s.last_activity > now() - $4::bigint * interval '1 ms', false), s.entity_id = e.entity_id "
	"FROM unnest($1::integer[], $2::uuid[], $3::uuid[]) AS x(i, execution_id, session_id) "
	"LEFT JOIN LATERAL (SELECT c.module_name, c.entity_id FROM command_executions c "
	"WHERE c.execution_id = x.execution_id LIMIT 1) e ON true "
	"LEFT JOIN LATERAL (SELECT s.entity_id, s.last_activity FROM sessions s WHERE s.session_id = x.session_id "
	"ORDER BY s.last_activity DESC LIMIT 1) s ON true ORDER BY x.i";

const char replies_same_sql[] =
	"SELECT x.i, m.id, (m.module_name, m.success, m.final, m.response_action, m.response_data, m.chat_message, "
	"m.error_message, m.private, m.media_type, m.media_url, m.ticker_text, m.ticker_duration, m.form_title, "
	"m.form_description, m.form_fields, m.form_submit_url, m.form_submit_method, m.form_callback_url, "
	"m.content_type, m.content, m.duration, m.style) IS NOT DISTINCT FROM (x.module_name, x.success, x.final, "
	"x.response_action, x.response_data, x.chat_message, x.error_message, x.private, " KINDS_OF("x") ") "
	"FROM (" ARRAYS ") x JOIN module_responses m ON m.execution_id = x.execution_id "
	"AND m.response_index = x.response_index AND m.created_at = x.at ORDER BY x.i";

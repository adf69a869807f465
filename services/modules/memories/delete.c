/* delete.c - !memories delete: hides a memory; whoever may write, or made it, may. */
#include "memories.h"

/* Columns: title, whether it was hidden.  No row: no such memory here. */
static void deleted(struct request *r, const struct db_result *res)
{
	const struct id_args *a = r->args;

	if (db_rows(res) == 0)
		refuse(r, NOT_FOUND, "There is no memory #%lld.", (long long)a->id);
	else if (!db_bool(res, 0, 1))
		refuse_rights(r, MODERATOR, WRITE_LABEL);
	else
		reply(r, "Deleted #%lld " STR_FMT, (long long)a->id, STR_ARG(db_str(res, 0, 0)));
}

void delete_one(struct request *r)
{
	const struct id_args *a = r->args;

	change(r, deleted,
	       "WITH it AS (SELECT id, title, $3::boolean OR (platform = $4 AND created_by = $5) OR EXISTS "
	       "(SELECT FROM identities me JOIN identities other USING (person) WHERE me.platform = $4 "
	       "AND me.user_id = $5 AND other.platform = m.platform AND other.user_id = m.created_by) AS may "
	       "FROM memories m WHERE community_id = $1 AND id = $2 AND is_active FOR UPDATE OF m), "
	       "gone AS (UPDATE memories m SET is_active = false FROM it WHERE m.id = it.id AND it.may "
	       "RETURNING m.id) "
	       "SELECT title, EXISTS (SELECT FROM gone) FROM it",
	       DB_INT(r->msg->community_id), DB_INT(a->id), DB_BOOL(request_may(r, MODERATOR, WRITE_LABEL)),
	       DB_STR(r->msg->platform), DB_STR(r->msg->user.id));
}

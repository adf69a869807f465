/* show.c - !memories get and quotes: one memory; being shown is counted in the same statement. */
#include "memories.h"

const struct arg id_args[] = { ARG(struct id_args, id, ARG_ID), { 0 } };
const struct arg quotes_args[] = {
	ARG(struct quotes_args, author, ARG_WORD, .keyed = true, .max = AUTHOR_MAX), { 0 }
};

enum { ID, TYPE, TITLE, CONTENT, LINK, AUTHOR, CONTEXT, TAGS, ADDER, CREATED, USES, CATEGORY, REACTIONS };

static void part(struct buf *out, const char *name, struct str value)
{
	if (value.n > 0)
		buf_printf(out, ", %s " STR_FMT, name, STR_ARG(value));
}

/* Body first, then who and when, then what is known besides. */
static void shown(struct request *r, const struct db_result *res)
{
	const struct id_args *a = r->args;
	struct buf out = BUF(16 * 1024);
	struct str type, text;

	if (db_rows(res) == 0) {
		refuse(r, NOT_FOUND, "There is no memory #%lld.", (long long)a->id);
		return;
	}
	type = db_str(res, 0, TYPE);
	buf_printf(&out, "#%lld ", (long long)db_int(res, 0, ID));
	if (str_eq(type, STR("quote")))
		buf_printf(&out, "“" STR_FMT "” – " STR_FMT, STR_ARG(db_str(res, 0, CONTENT)),
			   STR_ARG(db_str(res, 0, AUTHOR)));
	else if (str_eq(type, STR("url")))
		buf_printf(&out, STR_FMT " " STR_FMT "%s" STR_FMT, STR_ARG(db_str(res, 0, TITLE)),
			   STR_ARG(db_str(res, 0, LINK)), db_str(res, 0, CONTENT).n > 0 ? " – " : "",
			   STR_ARG(db_str(res, 0, CONTENT)));
	else
		buf_printf(&out, STR_FMT ": " STR_FMT, STR_ARG(db_str(res, 0, TITLE)),
			   STR_ARG(db_str(res, 0, CONTENT)));
	buf_printf(&out, " (added by " STR_FMT " on " STR_FMT, STR_ARG(db_str(res, 0, ADDER)),
		   STR_ARG(request_when(r, db_time(res, 0, CREATED))));
	part(&out, "tags", db_str(res, 0, TAGS));
	part(&out, "category", db_str(res, 0, CATEGORY));
	part(&out, "context", db_str(res, 0, CONTEXT));
	part(&out, "reactions", db_str(res, 0, REACTIONS));
	buf_printf(&out, ", used %lld times)", (long long)db_int(res, 0, USES));
	text = (struct str){ out.p, out.n };
	reply(r, STR_FMT, STR_ARG(text));
	buf_clear(&out);
}

void get(struct request *r)
{
	const struct id_args *a = r->args;

	change(r, shown,
	       "UPDATE memories m SET usage_count = usage_count + 1, last_used = now() "
	       "WHERE community_id = $1 AND id = $2 AND is_active "
	       "RETURNING id, memory_type, title, content, url, author, context, "
	       "(SELECT string_agg(t, ', ') FROM jsonb_array_elements_text(tags) AS t), created_by_name, "
	       "created_at, "
	       "usage_count, (SELECT name FROM memory_categories c WHERE c.id = m.category_id), "
	       "(SELECT string_agg(reaction_type || ' ' || n, ', ' ORDER BY n DESC, reaction_type) FROM "
	       "(SELECT reaction_type, count(*) AS n FROM memory_reactions x WHERE x.memory_id = m.id "
	       "GROUP BY reaction_type) AS by_type)",
	       DB_INT(r->msg->community_id), DB_INT(a->id));
}

static void quoted(struct request *r, const struct db_result *res)
{
	if (db_rows(res) == 0)
		refuse(r, NOT_FOUND,
		       "No quote saved yet. Add one: !memories add quote \"text\" [\"author\"]");
	else
		reply(r, "#%lld “" STR_FMT "” – " STR_FMT, (long long)db_int(res, 0, 0),
		      STR_ARG(db_str(res, 0, 1)), STR_ARG(db_str(res, 0, 2)));
}

/* The n-th of all quotes, n drawn from 0 .. count - 1: each is as likely as any other. */
void quotes(struct request *r)
{
	const struct quotes_args *a = r->args;

	change(r, quoted,
	       "UPDATE memories SET usage_count = usage_count + 1, last_used = now() WHERE id = "
	       "(SELECT id FROM memories WHERE community_id = $1 AND memory_type = 'quote' AND is_active "
	       "AND ($2 = '' OR lower(author) = lower($2)) ORDER BY id OFFSET "
	       "(SELECT floor(random() * count(*))::bigint FROM memories WHERE community_id = $1 "
	       "AND memory_type = 'quote' AND is_active AND ($2 = '' OR lower(author) = lower($2))) LIMIT 1) "
	       "AND community_id = $1 AND is_active RETURNING id, content, author",
	       DB_INT(r->msg->community_id), DB_STR(a->author));
}

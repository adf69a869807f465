/* add.c - !memories add quote|url|note: one insert, after a look at the category when one is named. */
#include "memories.h"

#define SHARED                                                                                               \
	ARG(struct add_args, tags, ARG_TAGS, .keyed = true),                                                 \
		ARG(struct add_args, category, ARG_WORD, .keyed = true, .max = CATEGORY_MAX),                \
		ARG(struct add_args, context, ARG_WORD, .keyed = true, .max = CONTEXT_MAX)

const struct arg add_quote_args[] = { ARG(struct add_args, text, ARG_WORD, .min = 1, .max = TEXT_MAX),
				      ARG(struct add_args, author, ARG_WORD, .optional = true,
					  .max = AUTHOR_MAX),
				      SHARED,
				      { 0 } };
const struct arg add_url_args[] = { ARG(struct add_args, title, ARG_WORD, .min = 1, .max = TITLE_MAX),
				    ARG(struct add_args, url, ARG_URL),
				    ARG(struct add_args, description, ARG_WORD, .optional = true,
					.max = TEXT_MAX),
				    SHARED,
				    { 0 } };
/* A note's tags may also stand behind its content, without their name. */
const struct arg add_note_args[] = {
	ARG(struct add_args, title, ARG_WORD, .min = 1, .max = TITLE_MAX),
	ARG(struct add_args, content, ARG_WORD, .min = 1, .max = TEXT_MAX),
	{ .name = "tags", .type = ARG_TAGS, .offset = offsetof(struct add_args, tags), .optional = true },
	SHARED,
	{ 0 }
};

struct adding {
	const char *type;
	struct str title, content, url, author;
	int64_t category; /* 0: none */
	bool counted;
	request_then *added;
};

static struct str tags_json(struct request *r, const struct js_list *tags)
{
	const struct str *items = tags->items;
	struct buf out = BUF(8192);
	struct str text;

	buf_add(&out, STR("["));
	for (size_t i = 0; i < tags->n; i++) {
		if (i > 0)
			buf_add(&out, STR(","));
		buf_json(&out, items[i]);
	}
	buf_add(&out, STR("]"));
	if (buf_str(&out, &text) != 0)
		text = STR("[]");
	text = arena_str(r->mem, text);
	buf_clear(&out);
	return text;
}

static struct db_param text_or_null(struct str s)
{
	return s.n > 0 ? DB_STR(s) : DB_NULL;
}

/* Columns: the number of active ones when it was counted, else NULL; the new id, NULL when full. */
static void inserted(struct request *r, const struct db_result *res)
{
	struct adding *a = r->user;

	if (a->counted)
		room_counted(r->msg->community_id, db_int(res, 0, 0));
	if (db_null(res, 0, 1))
		refuse(r, LIMIT, "This community has %d memories, that is the limit. Delete some first.",
		       ACTIVE_MAX);
	else
		a->added(r, res);
}

static void insert(struct request *r)
{
	const struct add_args *args = r->args;
	struct adding *a = r->user;
	const struct command_msg *m = r->msg;

	a->counted = !room_take(m->community_id);
	change(r, inserted,
	       "WITH room AS (SELECT CASE WHEN $14::boolean THEN (SELECT count(*) FROM memories "
	       "WHERE community_id = $1::integer AND is_active) END AS n), "
	       "new AS (INSERT INTO memories (community_id, entity_id, memory_type, title, content, url, "
	       "author, "
	       "context, tags, created_by, created_by_name, platform, category_id) "
	       "SELECT $1::integer, $2::integer, $3, $4, $5, $6, $7, $8, $9::jsonb, $10, $11, $12, "
	       "$13::bigint FROM room "
	       "WHERE coalesce(n, 0) < 10000 RETURNING id) "
	       "SELECT room.n, new.id FROM room LEFT JOIN new ON true",
	       DB_INT(m->community_id), DB_INT(m->entity_id), DB_STR(str_of(a->type)), DB_STR(a->title),
	       DB_STR(a->content), text_or_null(a->url), text_or_null(a->author), text_or_null(args->context),
	       DB_STR(tags_json(r, &args->tags)), DB_STR(m->user.id),
	       DB_STR(m->user.display_name.n > 0 ? m->user.display_name : m->user.name), DB_STR(m->platform),
	       a->category > 0 ? DB_INT(a->category) : DB_NULL, DB_BOOL(a->counted));
}

/* Columns: id, name of every category, by name. */
static void categories(struct request *r, const struct db_result *res)
{
	const struct add_args *args = r->args;
	struct adding *a = r->user;
	struct buf names = BUF(8192);

	for (int i = 0; i < db_rows(res); i++) {
		if (str_eq_fold(db_str(res, i, 1), args->category))
			a->category = db_int(res, i, 0);
		buf_printf(&names, "%s" STR_FMT, i > 0 ? ", " : "", STR_ARG(db_str(res, i, 1)));
	}
	if (a->category > 0)
		insert(r);
	else if (names.n == 0)
		refuse(r, NOT_FOUND, "There is no category “" STR_FMT "”; this community has none.",
		       STR_ARG(args->category));
	else
		refuse(r, NOT_FOUND, "There is no category “" STR_FMT "”. There are: " STR_FMT,
		       STR_ARG(args->category), (int)names.n, names.p);
	buf_clear(&names);
}

static void add(struct request *r, struct adding what)
{
	const struct add_args *args = r->args;
	struct adding *a = ARENA_NEW(r->mem, struct adding);

	*a = what;
	r->user = a;
	if (args->category.n == 0)
		insert(r);
	else
		query(r, categories,
		      "SELECT id, name FROM memory_categories WHERE community_id = $1 ORDER BY lower(name)",
		      DB_INT(r->msg->community_id));
}

static void quote_added(struct request *r, const struct db_result *res)
{
	const struct adding *a = r->user;

	reply(r, "Saved quote #%lld by " STR_FMT ": “" STR_FMT "”", (long long)db_int(res, 0, 1),
	      STR_ARG(a->author), STR_ARG(a->content));
}

void add_quote(struct request *r)
{
	const struct add_args *args = r->args;
	struct str author = args->author.n > 0 ? args->author : STR("Unknown");

	add(r, (struct adding){ .type = "quote",
				.title = arena_printf(r->mem, "Quote by " STR_FMT, STR_ARG(author)),
				.content = args->text,
				.author = author,
				.added = quote_added });
}

static void url_added(struct request *r, const struct db_result *res)
{
	const struct adding *a = r->user;

	reply(r, "Saved link #%lld: " STR_FMT " " STR_FMT, (long long)db_int(res, 0, 1), STR_ARG(a->title),
	      STR_ARG(a->url));
}

void add_url(struct request *r)
{
	const struct add_args *args = r->args;

	add(r, (struct adding){ .type = "url",
				.title = args->title,
				.content = args->description,
				.url = args->url,
				.added = url_added });
}

static void note_added(struct request *r, const struct db_result *res)
{
	const struct adding *a = r->user;

	reply(r, "Saved note #%lld: " STR_FMT, (long long)db_int(res, 0, 1), STR_ARG(a->title));
}

void add_note(struct request *r)
{
	const struct add_args *args = r->args;

	add(r, (struct adding){
		       .type = "note", .title = args->title, .content = args->content, .added = note_added });
}

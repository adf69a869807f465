/* list.c - !memories list and search: a page, newest first. */
#include "memories.h"

const struct arg list_args[] = { ARG(struct list_args, type, ARG_WORD, .optional = true, .max = TITLE_MAX),
	                         ARG(struct list_args, category, ARG_WORD, .keyed = true,
	                             .max = CATEGORY_MAX),
	                         ARG(struct list_args, tag, ARG_WORD, .keyed = true, .max = 50),
	                         ARG(struct list_args, page, ARG_PAGE),
	                         { 0 } };
const struct arg search_args[] = { ARG(struct search_args, term, ARG_REST, .min = 1, .max = SEARCH_MAX),
	                           ARG(struct search_args, page, ARG_PAGE),
	                           { 0 } };

enum { ID, TYPE, TITLE, CONTENT, LINK, AUTHOR, ADDER, TOTAL, PAGE };

static void entry(struct listing *l, const struct db_result *res, int row, bool adder)
{
	struct str type = db_str(res, row, TYPE), title = listing_cut(l, db_str(res, row, TITLE));
	struct str content = listing_cut(l, db_str(res, row, CONTENT)), by = STR_NONE;
	long long id = db_int(res, row, ID);

	if (adder)
		by = arena_printf(l->r->mem, " (by " STR_FMT ")",
		                  STR_ARG(str_clip(db_str(res, row, ADDER), 25)));
	if (str_eq(type, STR("quote")))
		listing_entry(l, "#%lld “" STR_FMT "” – " STR_FMT STR_FMT, id, STR_ARG(content),
		              STR_ARG(listing_cut(l, db_str(res, row, AUTHOR))), STR_ARG(by));
	else if (str_eq(type, STR("url")))
		listing_entry(l, "#%lld " STR_FMT " – " STR_FMT STR_FMT, id, STR_ARG(title),
		              STR_ARG(listing_cut(l, db_str(res, row, LINK))), STR_ARG(by));
	else
		listing_entry(l, "#%lld " STR_FMT ": " STR_FMT STR_FMT, id, STR_ARG(title), STR_ARG(content),
		              STR_ARG(by));
}

static void page_of(struct request *r, const struct db_result *res, const char *title, bool adder)
{
	struct listing l;
	int rows = db_rows(res), most = platform_ways(r->msg->platform).entries;

	rows = rows < most ? rows : most;
	listing_begin(&l, r, title, db_int(res, 0, TOTAL), db_int(res, 0, PAGE), rows, adder ? 3 : 2);
	for (int i = 0; i < rows; i++)
		entry(&l, res, i, adder);
	listing_reply(&l);
}

/* "" for any other word: all types. */
static struct str type_of(struct str word)
{
	for (int i = 0; memory_types[i] != NULL; i++)
		if (str_eq_fold(word, str_of(memory_types[i])))
			return str_of(memory_types[i]);
	return STR_NONE;
}

static void listed(struct request *r, const struct db_result *res)
{
	const struct list_args *a = r->args;
	struct str type = type_of(a->type);

	if (db_rows(res) > 0)
		page_of(r, res, "Memories", false);
	else if (a->category.n > 0 || a->tag.n > 0)
		reply(r, "Nothing saved there.");
	else if (str_eq(type, STR("url")))
		reply(r, "No url saved yet. Add one: !memories add url \"title\" url [\"description\"]");
	else if (str_eq(type, STR("note")))
		reply(r, "No note saved yet. Add one: !memories add note \"title\" \"content\" [tags,…]");
	else
		reply(r, "No %s saved yet. Add one: !memories add quote \"text\" [\"author\"]",
		      type.n > 0 ? "quote" : "memory");
}

static struct str lower(struct request *r, struct str s)
{
	struct js_list one = { 0 };

	return args_tags(s, r->mem, &one) == 0 && one.n == 1 ? *(const struct str *)one.items : s;
}

/* The page counted in $2, of the rows in `counted`.  LIMIT is a constant, not a parameter, so that
 * the plan made once is as good as one made for each call: more than fits is not shown. */
#define PAGE_OF(where)                                                                                       \
	"WITH at AS MATERIALIZED (SELECT n, least($2::bigint, greatest((n + $3::bigint - 1) / $3::bigint, "  \
	"1)) "                                                                                               \
	"AS page FROM (SELECT count(*) AS n FROM memories m WHERE " where ") AS counted) "                   \
	"SELECT id, memory_type, title, left(content, 200), left(url, 200), author, created_by_name, "       \
	"(SELECT n FROM at), (SELECT page FROM at) FROM memories m WHERE " where                             \
	" ORDER BY id DESC LIMIT 10 OFFSET (SELECT (page - 1) * $3::bigint FROM at)"

void list(struct request *r)
{
	const struct list_args *a = r->args;
	struct str type = type_of(a->type);
	int entries = platform_ways(r->msg->platform).entries;

	if (a->tag.n > 0 || a->category.n > 0)
		query(r, listed,
		      PAGE_OF("community_id = $1 AND is_active AND ($4 = '' OR memory_type = $4) "
		              "AND ($5 = '' OR tags ? $5) AND ($6 = '' OR category_id = "
		              "(SELECT id FROM memory_categories c WHERE c.community_id = $1 AND "
		              "lower(c.name) = lower($6)))"),
		      DB_INT(r->msg->community_id), DB_INT(a->page), DB_INT(entries), DB_STR(type),
		      DB_STR(lower(r, a->tag)), DB_STR(a->category));
	else if (type.n > 0)
		query(r, listed, PAGE_OF("community_id = $1 AND is_active AND memory_type = $4"),
		      DB_INT(r->msg->community_id), DB_INT(a->page), DB_INT(entries), DB_STR(type));
	else
		query(r, listed, PAGE_OF("community_id = $1 AND is_active"), DB_INT(r->msg->community_id),
		      DB_INT(a->page), DB_INT(entries));
}

static void found(struct request *r, const struct db_result *res)
{
	const struct search_args *a = r->args;

	if (db_rows(res) > 0)
		page_of(r, res, "Found", true);
	else
		reply(r, "Nothing found for “" STR_FMT "”.", STR_ARG(a->term));
}

/* strpos() knows no wildcards: %, _ and \ are ordinary characters. */
void search(struct request *r)
{
	const struct search_args *a = r->args;

	query(r, found,
	      "WITH hit AS MATERIALIZED (SELECT id FROM memories WHERE community_id = $1 AND is_active "
	      "AND (strpos(lower(title), lower($2)) > 0 OR strpos(lower(content), lower($2)) > 0 "
	      "OR strpos(lower(author), lower($2)) > 0 OR strpos(lower(context), lower($2)) > 0)), "
	      "at AS (SELECT n, least($3::bigint, greatest((n + $4::bigint - 1) / $4::bigint, 1)) AS page "
	      "FROM (SELECT count(*) AS n FROM hit) c) "
	      "SELECT m.id, memory_type, title, left(content, 200), left(url, 200), author, created_by_name, "
	      "(SELECT n FROM at), (SELECT page FROM at) FROM memories m WHERE id IN (SELECT id FROM hit "
	      "ORDER BY id DESC LIMIT $4::bigint OFFSET (SELECT (page - 1) * $4::bigint FROM at)) ORDER BY "
	      "id DESC",
	      DB_INT(r->msg->community_id), DB_STR(a->term), DB_INT(a->page),
	      DB_INT(platform_ways(r->msg->platform).entries));
}

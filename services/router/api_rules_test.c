/* api_rules_test.c - POST /router/string-rules/test: the live search, shown step by step.
 *
 * The same sets, the same order; drafts are compiled in the thread of the others.  A thousand texts
 * take longer than a turn of the loop may: they are done a few at a time. */
#include "api.h"
#include "api_rules.h"
#include "err.h"
#include "rules_store.h"
#include "service.h"
#include "worker.h"

enum { MAX_TEXTS = 1000, MAX_DRAFTS = 200, NEXT = 5, SLICE = 16, ANSWER_BYTES = 8 << 20 };

static const char *const rank_names[] = { "", "owner", "admin", "moderator", "vip", "subscriber", "member", NULL };

#define OPTIONAL .optional = true
const struct js_field rule_test_fields[] = {
	JS(struct rule_test, text, JS_STR, OPTIONAL, .max = 5000),
	JS(struct rule_test, texts, JS_STRS, OPTIONAL, .max = MAX_TEXTS, .help = "Instead of text."),
	JS(struct rule_test, entity_id, JS_RAW, OPTIONAL, .max = 1024,
	   .help = "An id or an address; absent: the rules of everywhere only."),
	JS(struct rule_test, rules, JS_OBJECTS, OPTIONAL, .size = sizeof(struct rule_body), .fields = rule_fields,
	   .max = MAX_DRAFTS, .help = "Drafts, instead of the stored rules; their ids are 1, 2, ..."),
	JS(struct rule_test, rank, JS_ENUM, OPTIONAL, .names = rank_names, .help = "Of the author; default member."),
	{ 0 }
};

struct trial {                          /* in the request's memory */
	struct router   *router;
	struct http_req *r;
	const struct str *text;
	size_t           n_texts, done;
	int64_t          entity, wide;
	struct rules_who who;
	struct buf       out;
	/* drafts */
	struct worker_job job;
	struct arena    *mem;
	struct rule     *draft;
	size_t           n_drafts;
	struct rules_set *set;
};

static void go_on(void *arg);

/* --- one text ------------------------------------------------------------------------------ */

static size_t chars(struct str s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
	return n;
}

static void add_why(struct trial *t, struct rules_scan *scan, const struct rule *r)
{
	struct arena *mem = http_mem(t->r);
	struct str matched = rules_matched(scan, r);

	buf_json(&t->out, arena_printf(mem, "rule %lld: %s \"" STR_FMT "\"%s finds \"" STR_FMT "\" in the %s text",
	                               (long long)r->id, rule_match_names[r->match], STR_ARG(r->string),
	                               r->case_sensitive ? ", case counting," : "", STR_ARG(str_clip(matched, 100)),
	                               r->normalize ? "normalised" : "plain"));
	buf_add(&t->out, STR(","));
	buf_json(&t->out, arena_printf(mem, "priority %lld, id %lld: no rule before it hits%s", (long long)r->priority,
	                               (long long)r->id, r->exempt >= 0 ? ", and this rank is not spared" : ""));
}

static void add_result(struct trial *t, struct str text, struct rules_set *const set[2])
{
	struct rules_scan *scan = rules_scan_of(t->router->rules);
	const struct rule *found[2 * (NEXT + 1)], *first;
	size_t n = 0, tried = 0;

	rules_scan_text(scan, text);
	for (int i = 0; i < 2; i++)
		if (set[i] != NULL) {
			n += rules_find_all(scan, set[i], t->who, found + n, NEXT + 1);
			tried += rules_set_size(set[i]);
		}
	for (size_t i = 1; i < n; i++)          /* two sorted runs of six at most */
		for (size_t k = i; k > 0 && rule_before(found[k], found[k - 1]); k--) {
			const struct rule *swap = found[k];

			found[k] = found[k - 1];
			found[k - 1] = swap;
		}
	buf_printf(&t->out, "%s{\"hit\":%s,", t->done > 0 ? "," : "", n > 0 ? "true" : "false");
	first = n > 0 ? found[0] : NULL;
	if (first != NULL) {
		struct rules_span span = rules_span(scan, first);
		struct str folded = rules_folded(scan, first);

		buf_printf(&t->out, "\"rule_id\":%lld,\"action\":\"%s\",\"span\":[%zu,%zu],\"folded_text\":",
		           (long long)first->id, first->action >= 0 ? rule_action_names[first->action] : "",
		           chars((struct str){ folded.p, span.from }), chars((struct str){ folded.p, span.to }));
		buf_json(&t->out, folded);
	} else {
		buf_add(&t->out, STR("\"rule_id\":null,\"action\":null,\"span\":null,\"folded_text\":"));
		buf_json(&t->out, text);
	}
	buf_printf(&t->out, ",\"tried\":%zu,\"why\":[", tried);
	if (first != NULL)
		add_why(t, scan, first);
	else
		buf_json(&t->out, tried == 0 ? STR("no active rule here") : STR("no rule hits this text"));
	buf_add(&t->out, STR("],\"next\":["));
	for (size_t i = 1; i < n && i <= NEXT; i++) {
		buf_printf(&t->out, "%s{\"rule_id\":%lld,\"priority\":%lld,\"action\":\"%s\",\"match_type\":\"%s\",\"string\":",
		           i > 1 ? "," : "", (long long)found[i]->id, (long long)found[i]->priority,
		           found[i]->action >= 0 ? rule_action_names[found[i]->action] : "",
		           rule_match_names[found[i]->match]);
		buf_json(&t->out, found[i]->string);
		buf_add(&t->out, STR("}"));
	}
	buf_add(&t->out, STR("]}"));
}

/* --- all of them --------------------------------------------------------------------------- */

static void end(struct trial *t)
{
	struct str body;

	buf_add(&t->out, STR("]}"));
	rules_set_free(t->set);
	t->set = NULL;
	if (buf_str(&t->out, &body) != 0) {
		buf_clear(&t->out);
		http_refuse(t->r, 413, NULL, "The answer is larger than 8 MiB: fewer texts at a time.", NULL, 0);
		return;
	}
	/* The reply copies; the buffer is not of the request's memory. */
	struct buf out = t->out;

	http_reply_raw(t->r, 200, "application/json", body);
	buf_clear(&out);
}

static void go_on(void *arg)
{
	struct trial *t = arg;
	struct rules_set *set[2] = { t->set, NULL };
	size_t until = t->done + SLICE < t->n_texts ? t->done + SLICE : t->n_texts;

	if (t->draft == NULL && !rules_sets(t->router->rules, t->entity, t->wide, set, go_on, t))
		return;
	for (; t->done < until; t->done++)
		add_result(t, t->text[t->done], set);
	if (t->done == t->n_texts)
		end(t);
	else
		service_later(t->router->s, go_on, t);
}

static void compile(void *arg)
{
	struct trial *t = arg;

	t->set = rules_compile(t->draft, t->n_drafts, t->mem);
}

static void compiled(void *arg, bool ran)
{
	struct trial *t = arg;

	if (!ran) {
		arena_free(t->mem);
		http_refuse(t->r, 503, NULL, "This process ends; ask again.", NULL, 0);
		return;
	}
	rules_scan_fit(rules_scan_of(t->router->rules), t->set);
	go_on(t);
}

static int draft_order(const void *a, const void *b)
{
	return rule_before(a, b) ? -1 : 1;
}

/* Texts of drafts are the request's: its memory outlives the set. */
static bool take_drafts(struct trial *t, const struct rule_test *b)
{
	const struct rule_body *body = b->rules.items;
	struct err err = { 0 };

	t->mem = arena_new(4096, 64 << 20);
	t->n_drafts = b->rules.n;
	t->draft = arena_alloc(t->mem, (t->n_drafts + 1) * sizeof t->draft[0]);
	for (size_t i = 0; i < t->n_drafts; i++) {
		struct rule_body one = body[i];
		char field[64];
		const char *bad;

		if (one.action == 0)
			one.action = 1 + RULE_WARN;     /* what it would do does not matter here */
		if (one.action == 1 + RULE_COMMAND && one.command_to_execute.n == 0)
			one.command_to_execute = STR("#draft");
		if (one.action == 1 + RULE_WEBHOOK && one.webhook_url.n == 0)
			one.webhook_url = STR("https://draft.example/");
		bad = rule_body_bad(&one, NULL, &err);
		if (bad != NULL) {
			(void)snprintf(field, sizeof field, "rules[%zu].%s", i, bad);
			arena_free(t->mem);
			api_bad(t->r, field, "%s", err.text);
			return false;
		}
		t->draft[i] = rule_of_body(&one);
		t->draft[i].id = (int64_t)i + 1;
	}
	qsort(t->draft, t->n_drafts, sizeof t->draft[0], draft_order);
	return true;
}

static void placed(void *arg, const struct db_result *res, const struct err *err)
{
	struct trial *t = arg;

	if (err != NULL) {
		buf_clear(&t->out);
		api_fail_db(t->r, err);
		return;
	}
	if (db_rows(res) == 0) {
		buf_clear(&t->out);
		api_bad(t->r, "entity_id", "there is no such entity");
		return;
	}
	t->entity = db_int(res, 0, 0);
	t->wide = db_int(res, 0, 1);
	go_on(t);
}

static void find_place(struct trial *t, struct str id)
{
	const struct db_param p[] = { DB_STR(id) };

	if (db_send(t->router->db, (struct db_opts){ .to = DB_WRITE }, placed, t,
	            "SELECT e.entity_id, coalesce(w.entity_id, 0) FROM entities e LEFT JOIN entities w "
	            "ON w.platform = e.platform AND w.channel_id IS NULL AND w.entity_id <> e.entity_id "
	            "AND coalesce(w.server_id, '') = coalesce(e.server_id, '') "
	            "WHERE e.address = $1::jsonb #>> '{}' OR e.entity_id::text = $1::jsonb #>> '{}' LIMIT 1",
	            p, 1) != 0) {
		buf_clear(&t->out);
		http_refuse(t->r, 503, NULL, "The database has too much to do at the moment.", NULL, 0);
	}
}

void rules_test_handle(struct http_req *r, void *arg)
{
	const struct rule_test *b = http_body(r);
	struct trial *t = ARENA_NEW(http_mem(r), struct trial);

	t->router = arg;
	t->r = r;
	t->who = (struct rules_who){ b->rank != 0 ? b->rank - 1 : ROLE_MEMBER, RULES_ANY_ACTION };
	t->text = b->texts.n > 0 ? b->texts.items : &b->text;
	t->n_texts = b->texts.n > 0 ? b->texts.n : 1;
	if ((b->texts.n > 0) == (b->text.p != NULL)) {
		api_bad(r, "text", "text or texts is needed, and not both");
		return;
	}
	if (b->rules.items != NULL && !take_drafts(t, b))
		return;
	t->out = BUF(ANSWER_BYTES);
	buf_add(&t->out, STR("{\"results\":["));
	if (t->draft != NULL) {
		t->job = (struct worker_job){ .run = compile, .done = compiled, .arg = t };
		worker_do(rules_worker(t->router->rules), &t->job);
	} else if (b->entity_id.n > 0) {
		find_place(t, b->entity_id);
	} else {
		go_on(t);
	}
}

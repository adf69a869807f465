/* cmd_rules.c - waddle rules: string rules, and what they would do.
 *
 * Listing reads the database.  Making and trying go through the router's API, which checks a rule
 * and compares texts exactly as the live path does: ROUTER_URL and an admin key in SERVICE_KEY. */
#include "arena.h"
#include "cli.h"
#include "commands.h"
#include "decode.h"
#include "fetch.h"
#include "pg.h"
#include "service.h"
#include "settings.h"
#include "table.h"

enum { WAIT_MS = 30000, ANSWER_BYTES = 8 << 20 };

/* --- asking the router --------------------------------------------------------------------- */

struct ask { bool over; int status; struct str body; struct arena *mem; struct err err; };

static void answered(void *arg, const struct fetch_result *res, const struct err *err)
{
	struct ask *a = arg;

	a->over = true;
	if (err != NULL) {
		a->err = *err;
		return;
	}
	a->status = res->status;
	a->body = arena_str(a->mem, res->body);
}

static bool is_over(void *arg)
{
	return ((const struct ask *)arg)->over;
}

/* What the API says is wrong: {"error":{"message":...}}. */
static int refusal(const struct ask *a, struct err *err)
{
	struct { struct { struct str message; } error; } e = { { STR_NONE } };
	const struct js_field inner[] = { { .key = "message", .type = JS_STR, .optional = true }, { 0 } };
	const struct js_field fields[] = {
		{ .key = "error", .type = JS_OBJECT, .optional = true, .fields = inner }, { 0 }
	};

	if (js_decode(a->body, fields, &e, a->mem, NULL) == 0 && e.error.message.n > 0)
		return err_set(err, -EINVAL, STR_FMT, STR_ARG(e.error.message));
	return err_set(err, -EPROTO, "the router answered %d", a->status);
}

static int ask(const char *path, struct str body, struct arena *mem, struct str *ret, struct err *err)
{
	const struct cfg_base *base;
	struct service s = { .name = "waddle" };
	struct fetch_client *client;
	struct ask a = { .mem = mem };
	const char *headers[2] = { NULL, NULL };
	struct fetch f = { .method = "POST", .headers = headers, .body = body, .where = FETCH_TRUSTED,
			   .timeout_ms = WAIT_MS, .max_body = ANSWER_BYTES };
	int r = settings_read(&base, err);

	if (r < 0)
		return r;
	if (base->router_url.n == 0 || base->service_key.n == 0)
		return err_set(err, -EINVAL, "ROUTER_URL and SERVICE_KEY (an admin key) are needed for this");
	f.url = arena_printf(mem, STR_FMT "%s", STR_ARG(base->router_url), path);
	headers[0] = arena_printf(mem, "X-API-Key: " STR_FMT, STR_ARG(base->service_key)).p;
	service_init(&s);
	client = fetch_open(&s, 1, 1);
	r = fetch_start(client, &f, answered, &a, NULL, err);
	if (r == 0 && !service_run(&s, is_over, &a, WAIT_MS + 5000))
		r = err_set(err, -ETIMEDOUT, "the router does not answer");
	fetch_close(client);
	service_clear(&s);
	if (r == 0 && a.err.code != 0) {
		*err = a.err;
		r = err->code;
	}
	if (r == 0 && a.status / 100 != 2)
		r = refusal(&a, err);
	if (r == 0)
		*ret = a.body;
	return r;
}

/* --- a rule on the command line ------------------------------------------------------------ */

struct draft {
	const char *action, *match, *command, *url, *warning, *block, *entity, *exempt;
	int64_t priority, timeout;
	bool case_sensitive, normalize, json;
};

#define DRAFT_OPTIONS(d) \
	{ .name = "match", .type = OPT_TEXT, .to = &(d).match, .value = "type", \
	  .help = "exact (usual), contains, word or regex" }, \
	{ .name = "entity", .type = OPT_TEXT, .to = &(d).entity, .value = "address", \
	  .help = "only there; otherwise everywhere" }, \
	{ .name = "priority", .type = OPT_INT, .to = &(d).priority, .value = "n", .min = 0, .max = 10000, \
	  .help = "smaller goes first (100)" }, \
	{ .name = "case", .type = OPT_FLAG, .to = &(d).case_sensitive, .help = "case counts" }, \
	{ .name = "normalize", .type = OPT_FLAG, .to = &(d).normalize, \
	  .help = "see through look-alikes and invisible characters" }, \
	{ .name = "exempt", .type = OPT_TEXT, .to = &(d).exempt, .value = "role", \
	  .help = "spare users of this role and above" }, \
	{ .name = "json", .type = OPT_FLAG, .to = &(d).json, .help = "for scripts" }

static void member(struct buf *b, const char *key, const char *value)
{
	if (value == NULL)
		return;
	buf_printf(b, ",\"%s\":", key);
	buf_json(b, str_of(value));
}

static void rule_json(struct buf *b, const char *string, const struct draft *d)
{
	buf_add(b, STR("{\"string\":"));
	buf_json(b, str_of(string));
	member(b, "action", d->action);
	member(b, "match_type", d->match);
	member(b, "command_to_execute", d->command);
	member(b, "webhook_url", d->url);
	member(b, "warning_message", d->warning);
	member(b, "block_message", d->block);
	member(b, "exempt_role", d->exempt);
	if (d->entity != NULL) {
		buf_add(b, STR(",\"enabled_entity_ids\":["));
		buf_json(b, str_of(d->entity));
		buf_add(b, STR("]"));
	}
	buf_printf(b, ",\"priority\":%lld,\"timeout_seconds\":%lld,\"case_sensitive\":%s,\"normalize\":%s}",
	           (long long)d->priority, (long long)d->timeout, d->case_sensitive ? "true" : "false",
	           d->normalize ? "true" : "false");
}

static int add(int argc, char **argv)
{
	struct draft d = { .priority = 100 };
	struct { int64_t id; struct str signing_secret; } made = { 0 };
	const struct js_field fields[] = {
		{ .key = "id", .type = JS_INT }, { .key = "signing_secret", .type = JS_STR, .optional = true,
		  .offset = sizeof(int64_t) }, { 0 }
	};
	struct arena *mem;
	struct buf b = BUF(1 << 20);
	struct str body = STR_NONE, answer = STR_NONE;
	struct err err = { 0 };
	int r, status;
	const struct opt opts[] = {
		{ .name = "action", .type = OPT_TEXT, .to = &d.action, .value = "action",
		  .help = "warn, block, command or webhook; must be given" },
		{ .name = "command", .type = OPT_TEXT, .to = &d.command, .value = "name", .help = "what command runs" },
		{ .name = "url", .type = OPT_TEXT, .to = &d.url, .value = "url", .help = "where webhook calls" },
		{ .name = "warning", .type = OPT_TEXT, .to = &d.warning, .value = "text", .help = "what warn says" },
		{ .name = "block-message", .type = OPT_TEXT, .to = &d.block, .value = "text", .help = "what block says" },
		{ .name = "timeout", .type = OPT_INT, .to = &d.timeout, .value = "s", .min = 0, .max = 1209600,
		  .help = "seconds of silence that block adds" },
		DRAFT_OPTIONS(d), { 0 },
	};

	if (cli_options(opts, "<string> --action <action>", "Makes a string rule; it acts at once.", argc, argv, 1, 1,
	                &status) < 0)
		return status;
	mem = arena_new(65536, 64 << 20);
	rule_json(&b, argv[1], &d);
	r = buf_str(&b, &body) == 0 ? ask("/router/string-rules", body, mem, &answer, &err) :
	                              err_set(&err, -EMSGSIZE, "that is too long");
	if (r == 0 && d.json)
		printf(STR_FMT "\n", STR_ARG(answer));
	else if (r == 0 && js_decode(answer, fields, &made, mem, &err) == 0) {
		printf("rule %lld\n", (long long)made.id);
		if (made.signing_secret.n > 0)
			printf("signing secret " STR_FMT " (shown this once)\n", STR_ARG(made.signing_secret));
	}
	buf_clear(&b);
	arena_free(mem);
	return err.code == 0 ? CLI_OK : cli_fail(&err);
}

/* --- trying -------------------------------------------------------------------------------- */

struct result { int64_t rule_id; bool hit; struct str action, folded_text; struct js_list why; };
static const struct js_field result_fields[] = {
	JS(struct result, hit, JS_BOOL),
	JS(struct result, rule_id, JS_INT, .optional = true, .min = 0, .max = INT64_MAX),
	JS(struct result, action, JS_STR, .optional = true),
	JS(struct result, folded_text, JS_STR, .optional = true),
	JS(struct result, why, JS_STRS, .optional = true, .max = 16),
	{ 0 }
};
struct results { struct js_list results; };
static const struct js_field results_fields[] = {
	JS(struct results, results, JS_OBJECTS, .size = sizeof(struct result), .fields = result_fields, .max = 1000), { 0 }
};

static int test(int argc, char **argv)
{
	struct draft d = { .priority = 100 };
	const char *rule = NULL;
	struct results all = { { 0 } };
	struct arena *mem;
	struct buf b = BUF(1 << 20);
	struct str body = STR_NONE, answer = STR_NONE;
	struct err err = { 0 };
	int r, status;
	const struct opt opts[] = {
		{ .name = "rule", .type = OPT_TEXT, .to = &rule, .value = "string",
		  .help = "try this draft instead of the stored rules" },
		DRAFT_OPTIONS(d), { 0 },
	};

	if (cli_options(opts, "<text> [--entity <address>] [--rule <string>]",
	                "Says which rule a text would hit, and why; nothing is done or counted.", argc, argv, 1, 1,
	                &status) < 0)
		return status;
	mem = arena_new(65536, 64 << 20);
	buf_add(&b, STR("{\"text\":"));
	buf_json(&b, str_of(argv[1]));
	if (rule != NULL) {
		struct draft anywhere = d;

		anywhere.entity = NULL;
		buf_add(&b, STR(",\"rules\":["));
		rule_json(&b, rule, &anywhere);
		buf_add(&b, STR("]"));
	} else if (d.entity != NULL) {
		buf_add(&b, STR(",\"entity_id\":"));
		buf_json(&b, str_of(d.entity));
	}
	buf_add(&b, STR("}"));
	r = buf_str(&b, &body) == 0 ? ask("/router/string-rules/test", body, mem, &answer, &err) :
	                              err_set(&err, -EMSGSIZE, "that is too long");
	if (r == 0 && d.json) {
		printf(STR_FMT "\n", STR_ARG(answer));
	} else if (r == 0 && js_decode(answer, results_fields, &all, mem, &err) == 0) {
		const struct result *one = all.results.items;
		const struct str *why = all.results.n > 0 ? one->why.items : NULL;

		if (all.results.n > 0 && one->hit)
			printf("%s %lld: " STR_FMT "\n", rule != NULL ? "draft" : "rule", (long long)one->rule_id, STR_ARG(one->action));
		else
			printf("no hit\n");
		for (size_t i = 0; why != NULL && i < one->why.n; i++)
			printf("  " STR_FMT "\n", STR_ARG(why[i]));
	}
	buf_clear(&b);
	arena_free(mem);
	return err.code == 0 ? CLI_OK : cli_fail(&err);
}

static int list(int argc, char **argv)
{
	bool json = false, all = false;
	struct err err = { 0 };
	PGconn *pg;
	PGresult *res;
	int status;
	const struct opt opts[] = {
		{ .name = "all", .type = OPT_FLAG, .to = &all, .help = "those that ended, too" },
		{ .name = "json", .type = OPT_FLAG, .to = &json, .help = "for scripts" },
		{ 0 },
	};

	if (cli_options(opts, "[--all] [--json]", "Shows the string rules in the order they are tried.", argc, argv, 0,
	                0, &status) < 0)
		return status;
	if (pg_open(&pg, &err) < 0)
		return cli_fail(&err);
	res = PG_QUERY(pg, &err,
	               "SELECT s.id, s.priority, s.match_type AS match, s.string, s.action, "
	               "CASE WHEN s.enabled_entity_ids = '[]' THEN 'everywhere' ELSE (SELECT string_agg("
	               "coalesce(e.address, p.id), ' ' ORDER BY p.id) FROM jsonb_array_elements_text("
	               "s.enabled_entity_ids) p(id) LEFT JOIN entities e ON e.entity_id::text = p.id) END AS where, "
	               "s.match_count AS hits, to_char(s.last_matched AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS last, "
	               "CASE WHEN s.is_active THEN 'active' ELSE 'ended' END AS state FROM stringmatch s "
	               "WHERE s.is_active OR $1::boolean ORDER BY s.priority, s.id",
	               all ? "true" : "false");
	if (res != NULL)
		table_print(res, json);
	PQclear(res);
	pg_close(&pg);
	return res != NULL ? CLI_OK : cli_fail(&err);
}

int cmd_rules(int argc, char **argv)
{
	static const struct cli_command commands[] = {
		{ "list", "[--all] [--json]", "show the rules in the order they are tried", list },
		{ "add", "<string> --action <action>", "make a rule", add },
		{ "test", "<text> [--rule <string>]", "which rule a text would hit, and why", test },
		{ 0 },
	};

	return cli_run(commands, "waddle rules - string rules on chat", argc, argv);
}

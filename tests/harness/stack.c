/* stack.c - see stack.h. */
#include "stack.h"

#include <librdkafka/rdkafka.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TOOL_MS = 60000 };

/* Keeps a text until stack_close(). */
static const char *keep(struct stack *st, char *text)
{
	if (st->n_words == ARRAY_LEN(st->words))
		harness_fail("more than %zu names asked of one stack", ARRAY_LEN(st->words));
	return st->words[st->n_words++] = text;
}

/* "postgresql://user:password@host:port/db" with another database and user; user NULL: the same. */
static char *url_for(const char *url, const char *user, const char *database)
{
	const char *from = strstr(url, "://"), *colon, *slash;

	from = from == NULL ? NULL : from + 3;
	colon = from == NULL ? NULL : strchr(from, ':');
	slash = from == NULL ? NULL : strrchr(from, '/');
	if (colon == NULL || slash == NULL || slash < colon)
		harness_fail("not a URL of the form postgresql://user:password@host:port/database: %s", url);
	return text_of("%.*s%.*s%.*s/%s", (int)(from - url), url,
		       user == NULL ? (int)(colon - from) : (int)strlen(user), user == NULL ? from : user,
		       (int)(slash - colon), colon, database);
}

static void make_database(struct stack *st)
{
	struct sql *admin = sql_open(env_of("TEST_PG_PRIMARY"));

	sql_run(admin, "DROP DATABASE IF EXISTS %s WITH (FORCE)", st->database);
	sql_run(admin, "CREATE DATABASE %s", st->database);
	sql_close(admin);
	stack_wait_replay(st, 30000);
}

/* The password of every role is the superuser's: the stack is private. */
static void let_roles_in(struct stack *st)
{
	const char *at = strchr(strstr(st->url, "://") + 3, ':');
	char *password = text_of("%.*s", (int)strcspn(at + 1, "@"), at + 1);

	sql_run(st->sql,
		"DO $$ DECLARE r name; BEGIN"
		" FOR r IN SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolname LIKE 'waddle\\_%%' LOOP"
		" EXECUTE format('ALTER ROLE %%I LOGIN PASSWORD %%L', r, '%s'); END LOOP; END $$",
		password);
	free(password);
}

static void must_waddle(struct stack *st, const char *const *words)
{
	char *out = NULL;
	int status = stack_waddle(st, &out, words);

	if (status != 0)
		harness_fail("waddle %s ended with status %d:\n%s", words[0], status, out);
	free(out);
}

void stack_open(struct stack *st, const char *name, unsigned want)
{
	*st = (struct stack){ 0 };
	st->name = text_of("%s", name);
	st->database = text_of("test_%s", name);
	st->url = url_for(env_of("TEST_PG_PRIMARY"), NULL, st->database);
	st->read_url = url_for(env_of("TEST_PG_STANDBY"), NULL, st->database);
	st->kafka = text_of("%s", env_of("TEST_KAFKA"));
	st->prefix = text_of("test-%s-%06llx", name, (unsigned long long)rnd_below(1u << 24));
	st->build = text_of("%s", env_of("WADDLE_BUILD"));
	st->sql = sql_open(st->url);
	st->standby = sql_open(st->read_url);
	if ((want & STACK_DATABASE) != 0)
		make_database(st);
	if ((want & STACK_SCHEMA) == STACK_SCHEMA) {
		must_waddle(st, (const char *const[]){ "migrate", NULL });
		let_roles_in(st);
		stack_wait_replay(st, 30000);
	}
	if ((want & STACK_TOPICS) != 0)
		must_waddle(st, (const char *const[]){ "topics", "create", "--partitions", "registry=1,dlq=1,default=4", NULL });
}

/* Topics of this prefix, so that a broker used for many runs does not fill. */
static void drop_topics(const struct stack *st)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	const rd_kafka_metadata_t *md = NULL;
	char why[512] = "";
	rd_kafka_t *rk;

	if (rd_kafka_conf_set(conf, "bootstrap.servers", st->kafka, why, sizeof(why)) != RD_KAFKA_CONF_OK)
		harness_fail("librdkafka: %s", why);
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
	if (rk == NULL)
		harness_fail("librdkafka: %s", why);
	if (rd_kafka_metadata(rk, 1, NULL, &md, 15000) == RD_KAFKA_RESP_ERR_NO_ERROR) {
		for (int i = 0; i < md->topic_cnt; i++) {
			const char *topic = md->topics[i].topic;

			if (strncmp(topic, st->prefix, strlen(st->prefix)) == 0)
				probe_delete(st->kafka, topic);
		}
		rd_kafka_metadata_destroy(md);
	}
	rd_kafka_destroy(rk);
}

void stack_close(struct stack *st)
{
	struct sql *admin = sql_open(env_of("TEST_PG_PRIMARY"));

	sql_close(st->sql);
	sql_close(st->standby);
	sql_run(admin, "DROP DATABASE IF EXISTS %s WITH (FORCE)", st->database);
	sql_close(admin);
	drop_topics(st);
	for (size_t i = 0; i < st->n_words; i++)
		free(st->words[i]);
	free(st->name);
	free(st->database);
	free(st->url);
	free(st->read_url);
	free(st->kafka);
	free(st->prefix);
	free(st->build);
	*st = (struct stack){ 0 };
}

const char *stack_url(struct stack *st, const char *role)
{
	return role == NULL ? st->url : keep(st, url_for(st->url, role, st->database));
}

const char *stack_read_url(struct stack *st, const char *role)
{
	return role == NULL ? st->read_url : keep(st, url_for(st->read_url, role, st->database));
}

static char *on_the_wire(const struct stack *st, const char *topic)
{
	return strncmp(topic, "waddle.", 7) == 0 ? text_of("%s%s", st->prefix, topic + 6) : text_of("%s", topic);
}

const char *stack_topic(struct stack *st, const char *topic)
{
	char *name = on_the_wire(st, topic);

	for (size_t i = 0; i < st->n_words; i++)
		if (strcmp(st->words[i], name) == 0) {
			free(name);
			return st->words[i];
		}
	return keep(st, name);
}

void stack_topic_create(struct stack *st, const char *topic, int partitions)
{
	char *name = on_the_wire(st, topic);

	probe_create(st->kafka, name, partitions, NULL);
	free(name);
}

/* A name that env gives replaces ours. */
static struct child *with_env(struct stack *st, const char *name, const char *const *argv, const char *role,
			      const char *const *env)
{
	char *ours[] = {
		text_of("KAFKA_BROKERS=%s", st->kafka),
		text_of("TOPIC_PREFIX=%s", st->prefix),
		role == NULL ? text_of("DATABASE_URL=%s", st->url)
			     : text_of("DATABASE_URL=%s", stack_url(st, role)),
		role == NULL ? text_of("DATABASE_READ_URL=%s", st->read_url)
			     : text_of("DATABASE_READ_URL=%s", stack_read_url(st, role)),
		text_of("ADMIN_LISTEN=127.0.0.1:{port}"),
		text_of("SEALING_KEY_FILE=%s", env_of("SEALING_KEY_FILE")),
	};
	const char *all[64];
	size_t n = 0;
	struct child *c;

	for (size_t i = 0; env != NULL && env[i] != NULL && n < ARRAY_LEN(all) - ARRAY_LEN(ours) - 1; i++)
		all[n++] = env[i];
	for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
		size_t name_n = strcspn(ours[i], "=") + 1;
		bool given = false;

		for (size_t k = 0; env != NULL && env[k] != NULL; k++)
			given = given || strncmp(env[k], ours[i], name_n) == 0;
		if (!given)
			all[n++] = ours[i];
	}
	all[n] = NULL;
	c = child_new(name, argv, all);
	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		free(ours[i]);
	return c;
}

static bool gives(const char *const *env, const char *setting)
{
	size_t name_n = (size_t)(strchr(setting, '=') - setting) + 1;

	for (; env != NULL && *env != NULL; env++)
		if (strncmp(*env, setting, name_n) == 0)
			return true;
	return false;
}

/* The router always listens: on 8000, if nobody says where.  Modules that a test plays do not always
 * answer: without a limit on unanswered commands, unless the test is about that. */
static const char *const router_env[] = { "HTTP_LISTEN=127.0.0.1:{port}", "FAIR_OUTSTANDING=1000000" };

struct child *stack_service(struct stack *st, const char *binary, const char *role, const char *const *env)
{
	const char *more[48] = { NULL };
	struct child *c;
	size_t n = 0;

	if (strcmp(binary, "waddle-router") == 0)
		for (size_t i = 0; i < ARRAY_LEN(router_env); i++)
			if (!gives(env, router_env[i]))
				more[n++] = router_env[i];
	for (; env != NULL && *env != NULL && n < ARRAY_LEN(more) - 1; env++)
		more[n++] = *env;
	c = with_env(st, binary, (const char *const[]){ binary, NULL }, role, more);
	child_start(c);
	return c;
}

char *stack_key(struct stack *st, const char *name, const char *type)
{
	char *out = NULL, *from, *key;
	int status = stack_waddle(st, &out, (const char *const[]){ "keys", "create", name, "--type", type, NULL });

	from = status == 0 ? strstr(out, "wbot_") : NULL;
	if (from == NULL)
		harness_fail("waddle keys create ended with status %d:\n%s", status, out);
	key = text_of("X-API-Key: %.*s", (int)strcspn(from, " \n\t\"\033"), from);
	free(out);
	return key;
}

int stack_ask(struct child *service, const char *method, const char *path, const char *key, const char *body,
	      struct probe_answer *ret)
{
	const char *headers[] = { "Content-Type: application/json", key, NULL };
	char *url = text_of("http://127.0.0.1:%d%s", child_port(service, "HTTP_LISTEN"), path);
	struct probe_answer a = { 0 };
	int r = probe_http(method, url, headers, body, body != NULL ? strlen(body) : 0, 15000, &a);

	if (r != 0)
		harness_fail("%s %s: %s", method, url, strerror(-r));
	free(url);
	r = a.status;
	if (ret != NULL)
		*ret = a;
	else
		probe_answer_free(&a);
	return r;
}

static char *file_text(const char *path)
{
	FILE *f = fopen(path, "re"), *out;
	char *text = NULL, block[4096];
	size_t n = 0, got;

	out = open_memstream(&text, &n);
	if (f == NULL || out == NULL)
		harness_fail("%s: %s", path, strerror(errno));
	while ((got = fread(block, 1, sizeof(block), f)) > 0)
		fwrite(block, 1, got, out);
	fclose(f);
	fclose(out);
	return text;
}

int stack_waddle(struct stack *st, char **out, const char *const *words)
{
	const char *argv[32] = { "waddle" };
	struct child *c;
	size_t n = 1;
	int status;

	for (size_t i = 0; words[i] != NULL; i++) {
		if (n == ARRAY_LEN(argv) - 1)
			harness_fail("too many words");
		argv[n++] = words[i];
	}
	c = with_env(st, "waddle", argv, NULL, NULL);
	status = child_run(c, TOOL_MS);
	if (out != NULL)
		*out = file_text(child_log(c));
	child_free(c);
	return status;
}

static void control(const char *variable, const char *words)
{
	char *line = text_of("'%s' %s", env_of(variable), words);
	int status = system(line);      /* a constant and the path of our own program */

	if (status == -1 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		harness_fail("%s failed", line);
	free(line);
}

void stack_pg(const char *words)
{
	control("TEST_PG_CTL", words);
}

void stack_broker(const char *words)
{
	control("TEST_KAFKA_CTL", words);
}

void stack_redis(const char *words)
{
	control("TEST_REDIS_CTL", words);
}

void stack_wait_replay(struct stack *st, int64_t max_ms)
{
	struct sql *primary = sql_open(env_of("TEST_PG_PRIMARY")), *standby = sql_open(env_of("TEST_PG_STANDBY"));
	char *lsn = sql_text(primary, "SELECT pg_current_wal_flush_lsn()");

	(void)st;
	sql_wait_int(standby, 1, max_ms, "SELECT (pg_last_wal_replay_lsn() >= '%s'::pg_lsn)::int", lsn);
	free(lsn);
	sql_close(primary);
	sql_close(standby);
}

size_t stack_mentions(struct stack *st, const char *topic, const char *text)
{
	struct probe_topic t;
	size_t n = 0;

	probe_read(st->kafka, stack_topic(st, topic), &t);
	for (size_t i = 0; i < t.n; i++)
		n += t.msgs[i].value != NULL && strstr(t.msgs[i].value, text) != NULL;
	probe_free(&t);
	return n;
}

struct mentioned { struct stack *st; const char *topic, *text; size_t n; };

static bool is_mentioned(void *arg)
{
	const struct mentioned *w = arg;

	return stack_mentions(w->st, w->topic, w->text) >= w->n;
}

void stack_wait_mentions(struct stack *st, const char *topic, const char *text, size_t n, int64_t max_ms)
{
	struct mentioned w = { st, topic, text, n };

	wait_for(text, is_mentioned, &w, max_ms);
}

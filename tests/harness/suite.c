/* suite.c - see suite.h. */
#include "suite.h"

#include <poll.h>

enum { READY_MS = 60000, END_MS = 30000 };

const char *suite_channel(int i)
{
	static char id[16];

	snprintf(id, sizeof(id), "%d", 1001 + i);
	return id;
}

/* A killed process's partitions are free when its session has ended: 6 s here, not the usual 10.
 * (With group.instance.id a successor would have them at once, but librdkafka 2.0 ends with a fatal
 * error when such a member's session ends while the broker is away.) */
static struct child *service(struct suite *su, const char *binary, const char *role, const char *const *more)
{
	const char *env[32] = { "KAFKA_SESSION_TIMEOUT_MS=6000", "KAFKA_HEARTBEAT_INTERVAL_MS=1500" };

	for (size_t n = 2; more != NULL && *more != NULL && n < ARRAY_LEN(env) - 1; n++)
		env[n] = *more++;
	return stack_service(&su->st, binary, role, env);
}

static void add_channels(struct suite *su)
{
	for (int i = 0; i < su->channels; i++) {
		char *community = text_of("Community %d", i + 1), *out = NULL;
		int status = stack_waddle(&su->st, &out, (const char *const[]){
			"servers", "add", "twitch", suite_channel(i), "--community", community,
			"--enable", "memories", "--wait", "30", NULL });

		if (status != 0)
			harness_fail("waddle servers add ended with status %d:\n%s", status, out);
		free(community);
		free(out);
	}
}

/* Own messages come back as deliveries: what settles a send whose answer was lost. */
static void echo_to(struct suite *su)
{
	char *url = text_of("%s/_echo", su->fake);
	char *body = text_of("{\"url\":\"%s\",\"secret\":\"%s\"}", su->webhook, su->secret);
	const char *const headers[] = { "Content-Type: application/json", NULL };
	struct probe_answer a;

	if (probe_http("POST", url, headers, body, strlen(body), 5000, &a) != 0 || a.status > 299)
		harness_fail("%s: no echo", url);
	probe_answer_free(&a);
	free(url);
	free(body);
}

/* The bot moderates everywhere: the badge on its echoes keeps telling the collector so. */
static char *moderated(const struct suite *su)
{
	char *list = text_of("FAKE_MODERATED=%s", suite_channel(0));

	for (int i = 1; i < su->channels; i++) {
		char *longer = text_of("%s,%s", list, suite_channel(i));

		free(list);
		list = longer;
	}
	return list;
}

void suite_open(struct suite *su, const char *name, int channels)
{
	char *secret, *api, *id, *mod;

	*su = (struct suite){ .channels = channels, .secret = text_of("%s", "test-only-eventsub-secret") };
	stack_open(&su->st, name, STACK_SCHEMA | STACK_TOPICS);
	mod = moderated(su);
	su->twitch = child_new("waddle-fake-twitch", (const char *const[]){ "waddle-fake-twitch", NULL },
			       (const char *const[]){ "HTTP_LISTEN=127.0.0.1:{port}", "ADMIN_LISTEN=127.0.0.1:{port}",
						      "FAKE_LIMIT=100000", "FAKE_LIMIT_MOD=100000", mod, NULL });
	free(mod);
	child_start(su->twitch);
	su->fake = text_of("http://127.0.0.1:%d", child_port(su->twitch, "HTTP_LISTEN"));
	su->router = service(su, "waddle-router", "waddle_router",
			     (const char *const[]){ "FAIR_OUTSTANDING=32", NULL });
	/* What piles up while a process is gone is not "too much at once". */
	su->memories = service(su, "waddle-memories", "waddle_memories",
			       (const char *const[]){ "MODULE_WAITING=10000", NULL });
	child_wait_ready(su->router, true, READY_MS);
	child_wait_ready(su->memories, true, READY_MS);
	add_channels(su);
	/* Where it moderates, Twitch lets a bot write as fast as it likes within its limit. */
	sql_run(su->st.sql, "UPDATE twitch_channels SET bot_role = 'moderator', bot_role_at = now()");
	api = text_of("TWITCH_API_URL=%s/helix", su->fake);
	id = text_of("TWITCH_ID_URL=%s", su->fake);
	secret = text_of("TWITCH_WEBHOOK_SECRET=%s", su->secret);
	su->collector = service(su, "waddle-collector-twitch", "waddle_collector_twitch", (const char *const[]){
		"HTTP_LISTEN=127.0.0.1:{port}", secret, api, id, "TWITCH_BOT_USER_ID=800000199",
		"TWITCH_CLIENT_ID=test-client", "TWITCH_CLIENT_SECRET=test-client-secret",
		"TWITCH_SEND_LIMIT=7500", "TWITCH_SEND_LIMIT_MOD=7500", NULL });
	child_wait_ready(su->collector, true, READY_MS);
	su->webhook = text_of("http://127.0.0.1:%d/twitch/webhook", child_port(su->collector, "HTTP_LISTEN"));
	free(secret);
	free(api);
	free(id);
	echo_to(su);
}

static void end(struct child *c)
{
	int status;

	if (c == NULL)                  /* the set-up failed before it */
		return;
	status = child_end(c, END_MS);
	if (status != 0) {
		child_show_log(c);
		harness_fail("%s ended with status %d", child_log(c), status);
	}
	child_free(c);
}

void suite_close(struct suite *su)
{
	end(su->collector);
	end(su->router);
	end(su->memories);
	end(su->twitch);
	stack_close(&su->st);
	free(su->webhook);
	free(su->fake);
	free(su->secret);
	*su = (struct suite){ 0 };
}

int suite_post(struct suite *su, const struct eventsub_post *p)
{
	const char *headers[ARRAY_LEN(p->headers)];
	struct probe_answer a;
	int status;

	for (size_t i = 0; i < ARRAY_LEN(headers); i++)
		headers[i] = p->headers[i];
	if (probe_http("POST", su->webhook, headers, p->body, p->body_n, 10000, &a) != 0)
		return 0;
	status = a.status;
	probe_answer_free(&a);
	return status;
}

void suite_deliver(struct suite *su, const struct eventsub_post *p, int64_t max_ms)
{
	int64_t deadline = harness_now_ms() + max_ms;
	int status;

	while ((status = suite_post(su, p)) < 200 || status > 299) {
		if (status >= 400 && status < 500)
			harness_fail("delivery %s refused with %d", p->delivery_id, status);
		if (harness_now_ms() > deadline)
			harness_fail("delivery %s not taken within %lld ms, last status %d", p->delivery_id,
				     (long long)max_ms, status);
		poll(NULL, 0, 20);
	}
}

void suite_say(struct suite *su, int channel, const char *fmt, ...)
{
	struct eventsub_chat c = { .channel = suite_channel(channel), .badge = "moderator" };
	struct eventsub_post p;
	char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		harness_fail("out of memory");
	c.text = text;
	eventsub_chat(&p, su->secret, &c, NULL);
	suite_deliver(su, &p, 20000);
	eventsub_free(&p);
	free(text);
}

static int by_text(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

int64_t suite_answers(struct suite *su, const char *text, int64_t *copies)
{
	static const char key[] = "\"message_id\":\"";
	struct probe_topic t;
	int64_t distinct = 0;
	char **ids;
	size_t n = 0;

	probe_read(su->st.kafka, stack_topic(&su->st, "waddle.outbound.twitch"), &t);
	ids = XNEW_N(char *, t.n + 1);
	for (size_t i = 0; i < t.n; i++) {
		char *id = t.msgs[i].value == NULL ? NULL : strstr(t.msgs[i].value, key);

		if (id == NULL || strstr(t.msgs[i].value, text) == NULL)
			continue;
		ids[n] = id + sizeof(key) - 1;
		ids[n++][36] = '\0';
	}
	qsort(ids, n, sizeof(*ids), by_text);
	for (size_t i = 0; i < n; i++)
		distinct += i == 0 || strcmp(ids[i], ids[i - 1]) != 0;
	free(ids);
	probe_free(&t);
	if (copies != NULL)
		*copies = (int64_t)n;
	return distinct;
}

struct awaited { struct suite *su; const char *text; int64_t n, last; };

static bool is_answered(void *arg)
{
	struct awaited *a = arg;

	a->last = suite_answers(a->su, a->text, NULL);
	return a->last >= a->n;
}

void suite_wait_answers(struct suite *su, const char *text, int64_t n, int64_t max_ms)
{
	struct awaited a = { su, text, n, 0 };

	if (!wait_until(is_answered, &a, max_ms))
		harness_fail("%lld answers with \"%s\" within %lld ms, wanted %lld", (long long)a.last, text,
			     (long long)max_ms, (long long)n);
}

int64_t suite_heard(struct suite *su, const char *text)
{
	char *url = text_of("%s/_sent", su->fake);
	struct probe_answer a;
	int64_t n = 0;

	probe_get(url, &a);
	for (const char *at = a.body; (at = strstr(at, text)) != NULL; at += strlen(text))
		n++;
	probe_answer_free(&a);
	free(url);
	return n;
}

static bool is_heard(void *arg)
{
	struct awaited *a = arg;

	a->last = suite_heard(a->su, a->text);
	return a->last >= a->n;
}

void suite_wait_heard(struct suite *su, const char *text, int64_t n, int64_t max_ms)
{
	struct awaited a = { su, text, n, 0 };

	if (!wait_until(is_heard, &a, max_ms))
		harness_fail("Helix heard \"%s\" %lld times within %lld ms, wanted %lld", text, (long long)a.last,
			     (long long)max_ms, (long long)n);
}

/* fetch.c - who may send now: the list a job is on is its state, fetch_pump() the only door.
 *
 *      WAITING -> (RESOLVING) -> RUNNING -> DONE
 *         ^__________ PAUSED _______|            each may also go to DONE: deadline, cancel, close */
#include "fetch_int.h"

static const char *const outcomes[] = { "2xx", "3xx", "4xx", "5xx", "not_sent", "unknown", "refused",
                                        "bad_answer", "broken", "cancelled" };

METRIC_BY(ended, METRIC_COUNTER, "waddle_fetch_total", "Outgoing calls ended, by outcome.", "outcome", outcomes);
METRIC(tries, METRIC_COUNTER, "waddle_fetch_tries_total", "Requests sent for outgoing calls, retries included.");
METRIC(full, METRIC_COUNTER, "waddle_fetch_full_total", "Outgoing calls refused because too many are waiting.");
METRIC(jobs, METRIC_GAUGE, "waddle_fetch_jobs", "Outgoing calls waiting or running.");
METRIC(took, METRIC_HISTOGRAM, "waddle_fetch_seconds", "Outgoing calls from start to end, waiting included.");

struct metric *const fetch_metrics[] = { &ended, &tries, &full, &jobs, &took, NULL };

static unsigned outcome(const struct fetch_job *j)
{
	if (j->err.code == 0)
		return j->status < 300 ? 0 : j->status < 400 ? 1 : j->status < 500 ? 2 : 3;
	if (j->err.code == -ECANCELED)
		return 9;
	switch (err_kind(&j->err)) {
	case ERR_NONE:
	case ERR_AGAIN:
		return 4;
	case ERR_UNKNOWN:
		return 5;
	case ERR_DENIED:
		return 6;
	case ERR_INPUT:
		return 7;
	case ERR_ABSENT:
	case ERR_CONFLICT:
	case ERR_BROKEN:
		break;
	}
	return 8;
}

/* --- places -------------------------------------------------------------------------------- */

static struct fetch_host *host_of(struct fetch_client *c, struct str name, bool make)
{
	uint64_t hash = hash_of(name);
	struct fetch_host *h;

	for (struct hash_node *n = hash_find(&c->hosts, hash); n != NULL; n = hash_next(n)) {
		h = CONTAINER_OF(n, struct fetch_host, node);
		if (str_eq(h->name, name))
			return h;
	}
	if (!make)
		return NULL;
	h = xnew_(1, sizeof(*h) + name.n);
	memcpy(h->text, name.p, name.n);
	h->name = (struct str){ h->text, name.n };
	hash_add(&c->hosts, &h->node, hash);
	return h;
}

static void take_place(struct fetch_job *j)
{
	j->at = host_of(j->client, (struct str){ j->host.p, j->host.n }, true);
	j->at->running++;
	j->client->n_running++;
}

static void leave_place(struct fetch_job *j)
{
	struct fetch_host *h = j->at;

	if (h == NULL)
		return;
	j->at = NULL;
	j->client->n_running--;
	if (--h->running == 0) {
		hash_del(&j->client->hosts, &h->node);
		free(h);
	}
	fetch_pump_soon(j->client);
}

void job_move(struct fetch_job *j, enum job_state to)
{
	static const unsigned may[JOB_STATES] = {
		[JOB_WAITING] = 1u << JOB_RESOLVING | 1u << JOB_RUNNING | 1u << JOB_DONE,
		[JOB_RESOLVING] = 1u << JOB_RUNNING | 1u << JOB_PAUSED | 1u << JOB_DONE,
		[JOB_RUNNING] = 1u << JOB_PAUSED | 1u << JOB_DONE,
		[JOB_PAUSED] = 1u << JOB_WAITING | 1u << JOB_DONE,
	};

	ASSERT(may[j->state] & 1u << to);
	j->state = to;
	list_move(&j->client->jobs[to], &j->node);
	if (to != JOB_RESOLVING && to != JOB_RUNNING)
		leave_place(j);
}

/* --- the door ------------------------------------------------------------------------------ */

static void pump(void *arg);

void fetch_pump_soon(struct fetch_client *c)
{
	if (c->pump_soon || c->closing)
		return;
	c->pump_soon = true;
	service_later(c->service, pump, c);
}

static void pump_timer(void *arg) { fetch_pump_soon(arg); }

/* ms until the bucket has room; 0: taken. */
static int64_t bucket_wait(struct fetch_job *j)
{
	struct fetch_client *c = j->client;

	if (j->bucket < 0)
		return 0;
	return limit_take(c->limit, str_of(c->bucket[j->bucket].name), c->bucket[j->bucket].rule,
	                  clock_unix_ms());
}

static void pump(void *arg)
{
	struct fetch_client *c = arg;
	int64_t wait = INT64_MAX;

	IS_A(c, FETCH_MAGIC);
	c->pump_soon = false;
	if (c->closing)
		return;
	LIST_EACH(n, tmp, &c->jobs[JOB_WAITING]) {
		struct fetch_job *j = CONTAINER_OF(n, struct fetch_job, node);
		struct fetch_host *h = host_of(c, (struct str){ j->host.p, j->host.n }, false);
		int64_t in;

		if (c->n_running >= c->max_conns)
			break;
		if (h != NULL && h->running >= c->max_per_host)
			continue;
		in = bucket_wait(j);
		if (in > 0) {
			wait = in < wait ? in : wait;
			continue;
		}
		take_place(j);
		j->attempts++;
		metric_add(&tries, 0, 1);
		job_try(j);
	}
	if (wait < INT64_MAX)
		timer_start(c->service, &c->pump_timer, wait, pump_timer, c);
}

void job_try(struct fetch_job *j)
{
	if (j->where == FETCH_PUBLIC) {
		job_move(j, JOB_RESOLVING);
		job_resolve(j);
	} else {
		job_run(j);
	}
}

/* --- end of a job -------------------------------------------------------------------------- */

static struct str last_header(const struct fetch_result *r, const char *name)
{
	const struct fetch_job *j = (const void *)((const char *)r - offsetof(struct fetch_job, result));
	struct str rest = { j->head.p, j->head.n }, found = STR_NONE, wanted = str_of(name);

	while (rest.n > 0) {
		struct str value, n = str_cut(str_cut(rest, '\n', &rest), ':', &value);

		if (str_eq_fold(n, wanted))
			found = str_trim(value);
	}
	return found;
}

static void job_free(struct fetch_job *j)
{
	buf_clear(&j->url);
	buf_clear(&j->host);
	buf_clear(&j->body);
	buf_clear(&j->head);
	buf_clear(&j->in);
	curl_slist_free_all(j->headers);
	curl_slist_free_all(j->addresses);
	NOT_A_MORE(j, JOB_MAGIC);
	free(j);
}

static void deliver(void *arg)
{
	struct fetch_job *j = arg;
	struct fetch_client *c = j->client;
	struct fetch_result *r = &j->result;

	IS_A(j, JOB_MAGIC);
	*r = (struct fetch_result){ j->status, { j->in.p, j->in.n }, j->attempts,
		                    clock_mono_ms() - j->began_mono_ms, last_header };
	metric_add(&ended, outcome(j), 1);
	metric_observe_us(&took, 0, r->took_ms * 1000);
	if (j->err.code != 0)
		j->done(j->arg, NULL, &j->err);
	else
		j->done(j->arg, r, NULL);
	list_del(&j->node);
	job_free(j);
	c->n_jobs--;
	metric_add(&jobs, 0, UINT64_MAX);
	service_release(c->service);
	fetch_maybe_free(c);
}

void job_done(struct fetch_job *j)
{
	timer_stop(&j->deadline);
	timer_stop(&j->pause);
	job_move(j, JOB_DONE);
	service_later(j->client->service, deliver, j);
}

void job_fail(struct fetch_job *j, int code, const char *what)
{
	if (j->maybe_sent && !j->safe && code != -ECANCELED)
		code = -EINPROGRESS;            /* an earlier try, or this one */
	err_set(&j->err, code, "%s " STR_FMT ": %s", j->method,
	        STR_ARG(((struct str){ j->host.p, j->host.n })), what);
	job_done(j);
}

static void overdue(void *arg)
{
	struct fetch_job *j = arg;

	IS_A(j, JOB_MAGIC);
	job_overdue(j);
}

static void give_up(struct fetch_job *j)
{
	if (j->state == JOB_DONE) {             /* ended in this very turn */
		err_set(&j->err, -ECANCELED, "cancelled");
		return;
	}
	job_unresolve(j);
	job_stop(j);
	job_fail(j, -ECANCELED, "cancelled");
}

void fetch_cancel(struct fetch_job *job)
{
	IS_A(job, JOB_MAGIC);
	give_up(job);
}

/* --- beginning of a job -------------------------------------------------------------------- */

static bool token_ok(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] <= 0x20 || s.p[i] >= 0x7f || strchr("()<>@,;:\\\"/[]?={}", s.p[i]) != NULL)
			return false;
	return s.n > 0;
}

static int add_header(struct fetch_job *j, const char *line, bool *has_type, struct err *err)
{
	static const char *const ours[] = { "Host", "Content-Length", "Transfer-Encoding", "Connection", "Expect",
	                                    "Upgrade", "TE", "Trailer", "Accept-Encoding" };
	struct str value, name = str_cut(str_of(line), ':', &value);
	struct curl_slist *more;
	struct buf b = BUF(FETCH_HEAD_MAX);

	if (!token_ok(name) || name.n == strlen(line))
		return err_set(err, -EINVAL, "not a header");
	for (size_t i = 0; i < value.n; i++)
		if (((unsigned char)value.p[i] < 0x20 && value.p[i] != '\t') || value.p[i] == 0x7f)
			return err_set(err, -EINVAL, "header " STR_FMT " has a control character",
			               STR_ARG(name));
	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		if (str_eq_fold(name, str_of(ours[i])))
			return err_set(err, -EINVAL, "header " STR_FMT " is not the caller's", STR_ARG(name));
	if (str_eq_fold(name, STR("Content-Type")))
		*has_type = true;
	if (str_eq_fold(name, STR("Idempotency-Key")) || str_eq_fold(name, STR("webhook-id")))
		j->repeatable = true;
	buf_add(&b, name);                      /* "Name;" is curl's word for an empty value */
	buf_add(&b, str_trim(value).n > 0 ? STR(": ") : STR(";"));
	buf_add(&b, str_trim(value));
	buf_add(&b, (struct str){ "", 1 });
	more = b.failed == 0 ? curl_slist_append(j->headers, b.p) : NULL;
	buf_clear(&b);
	if (more == NULL)
		return err_set(err, -EINVAL, "header " STR_FMT " is too long", STR_ARG(name));
	j->headers = more;
	return 0;
}

static int set_method(struct fetch_job *j, const struct fetch *f, struct err *err)
{
	static const struct { const char *name; bool safe, repeatable; } methods[] = {
		{ "GET", true, true }, { "HEAD", true, true }, { "PUT", false, true }, { "DELETE", false, true },
		{ "POST", false, false }, { "PATCH", false, false },
	};
	const char *m = f->method != NULL ? f->method : "GET";

	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		if (strcmp(m, methods[i].name) == 0) {
			snprintf(j->method, sizeof(j->method), "%s", m);
			j->safe = methods[i].safe;
			j->repeatable = methods[i].repeatable;
			if (j->safe && f->body.n > 0)
				return err_set(err, -EINVAL, "%s has no body", m);
			return 0;
		}
	return err_set(err, -EINVAL, "not a method");
}

static int set_url(struct fetch_job *j, const struct fetch *f, struct err *err)
{
	struct url u;
	int r;

	if (url_split(f->url, &u) != 0 || u.has_user)
		return err_set(err, -EINVAL, "not a URL of http or https");
	if (f->where == FETCH_PUBLIC) {
		enum guard_reason why = guard_parts(&j->client->guard, &u);

		if (why != GUARD_FINE)
			return err_set(err, -EACCES, "URL refused: %s", guard_reason_name(why));
	}
	if (u.host.p[u.host.n - 1] == '.')
		u.host.n--;                     /* the root: curl and resolvers differ about it */
	url_join(&u, &j->url);
	if (j->url.failed != 0)
		return err_set(err, -EINVAL, "URL too long");
	r = url_split((struct str){ j->url.p, j->url.n }, &j->parts);
	ASSERT(r == 0);
	buf_add(&j->url, (struct str){ "", 1 });
	buf_printf(&j->host, "%s://" STR_FMT ":%u", u.https ? "https" : "http", STR_ARG(u.host), u.port);
	return 0;
}

static int set_bucket(struct fetch_job *j, const struct fetch *f, struct err *err)
{
	j->bucket = -1;
	if (f->bucket == NULL)
		return 0;
	for (int i = 0; i < j->client->n_buckets; i++)
		if (strcmp(j->client->bucket[i].name, f->bucket) == 0)
			j->bucket = i;
	return j->bucket >= 0 ? 0 : err_set(err, -EINVAL, "no bucket %s", f->bucket);
}

static int fill(struct fetch_job *j, const struct fetch *f, struct err *err)
{
	bool has_type = false;
	int r = set_method(j, f, err);

	if (r == 0)
		r = set_url(j, f, err);
	if (r == 0)
		r = set_bucket(j, f, err);
	for (size_t i = 0; r == 0 && f->headers != NULL && f->headers[i] != NULL; i++)
		r = add_header(j, f->headers[i], &has_type, err);
	if (r == 0 && f->body.n > 0 && !has_type)
		r = add_header(j, "Content-Type: application/json", &has_type, err);
	buf_add(&j->body, f->body);
	return r;
}

int fetch_start(struct fetch_client *c, const struct fetch *f, fetch_done *done, void *arg,
                struct fetch_job **ret, struct err *err)
{
	struct fetch_job *j;
	int timeout_ms = f->timeout_ms > 0 ? f->timeout_ms : 10000, r;

	IS_A(c, FETCH_MAGIC);
	ASSERT(!c->closing);
	if (c->n_jobs >= 2 * c->max_conns) {
		metric_add(&full, 0, 1);
		return err_set(err, -EAGAIN, "%d outgoing calls are waiting or running", c->n_jobs);
	}
	j = XNEW(struct fetch_job);
	MAKE_A(j, JOB_MAGIC);
	j->client = c;
	j->done = done;
	j->arg = arg;
	j->where = f->where;
	j->url = BUF(9000);
	j->host = BUF(9000);
	j->body = BUF(64u << 20);
	j->head = BUF(FETCH_HEAD_MAX);
	j->max_body = f->max_body > 0 ? f->max_body : 1u << 20;
	j->in = BUF(j->max_body);
	j->retries = f->retries;
	j->fresh = f->fresh;
	r = fill(j, f, err);
	if (r != 0) {
		job_free(j);
		return r;
	}
	j->began_mono_ms = clock_mono_ms();
	j->due_mono_ms = j->began_mono_ms + timeout_ms;
	j->state = JOB_WAITING;
	list_init(&j->node);
	list_add_tail(&c->jobs[JOB_WAITING], &j->node);
	c->n_jobs++;
	metric_add(&jobs, 0, 1);
	service_hold(c->service);
	timer_start(c->service, &j->deadline, timeout_ms, overdue, j);
	fetch_pump_soon(c);
	if (ret != NULL)
		*ret = j;
	return 0;
}

/* --- the client ---------------------------------------------------------------------------- */

struct fetch_client *fetch_open(struct service *s, int max_conns, int max_per_host)
{
	static bool ready;
	struct fetch_client *c = XNEW(struct fetch_client);

	if (!ready) {
		CURLcode r = curl_global_init(CURL_GLOBAL_DEFAULT);

		ASSERT(r == CURLE_OK);
		ready = true;
	}
	MAKE_A(c, FETCH_MAGIC);
	c->service = s;
	c->max_conns = max_conns;
	c->max_per_host = max_per_host;
	for (size_t i = 0; i < JOB_STATES; i++)
		list_init(&c->jobs[i]);
	for (size_t i = 0; i < ARRAY_LEN(c->multi); i++)
		multi_open(&c->multi[i], c);
	c->limit = limit_open(FETCH_BUCKETS);
	return c;
}

int fetch_guard(struct fetch_client *c, bool allow_http, struct str ports, struct str cidrs, struct err *err)
{
	return guard_set(&c->guard, allow_http, ports, cidrs, err);
}

void fetch_bucket(struct fetch_client *c, const char *name, int requests, int per_ms)
{
	ASSERT(c->n_buckets < FETCH_BUCKETS && requests > 0 && per_ms > 0);
	c->bucket[c->n_buckets].name = name;
	c->bucket[c->n_buckets++].rule = (struct limit_rule){ (uint32_t)requests, per_ms };
}

static void client_free(void *arg)
{
	struct fetch_client *c = arg;

	for (size_t i = 0; i < ARRAY_LEN(c->multi); i++)
		multi_close(&c->multi[i]);
	while (c->n_spare > 0)
		curl_easy_cleanup(c->spare[--c->n_spare]);
	dns_close(c);
	limit_close(c->limit);
	hash_clear(&c->hosts);
	guard_clear(&c->guard);
	NOT_A_MORE(c, FETCH_MAGIC);
	free(c);
}

void fetch_maybe_free(struct fetch_client *c)
{
	if (c->closing && c->n_jobs == 0 && c->n_resolves == 0)
		service_later(c->service, client_free, c);
}

void fetch_close(struct fetch_client *c)
{
	if (c == NULL)
		return;
	IS_A(c, FETCH_MAGIC);
	ASSERT(!c->closing);
	c->closing = true;
	timer_stop(&c->pump_timer);
	for (size_t i = 0; i < JOB_DONE; i++)
		LIST_EACH(n, tmp, &c->jobs[i])
			give_up(CONTAINER_OF(n, struct fetch_job, node));
	fetch_maybe_free(c);
}

/* fetch_curl.c - curl's multi interface on the loop, and one easy handle per try.
 *
 * curl tells which sockets to watch and when to wake it; it is only ever called from events of
 * the loop.  What it finished is drained after each call, and the jobs end at the end of the turn,
 * so no callback of ours runs inside curl.  Its timers are real time, whatever clock.h fakes. */
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "fetch_int.h"

enum { CONNECT_MS = 5000, IDLE_CONN_S = 30, PROBE_S = 15 };

/* Options of a handle that exists fail only when libcurl was built without them: a bug of ours. */
#define SET(easy, option, value) \
	do { CURLcode code_ = curl_easy_setopt((easy), (option), (value)); ASSERT(code_ == CURLE_OK); } while (0)
#define SET_M(multi, option, value) \
	do { CURLMcode code_ = curl_multi_setopt((multi), (option), (value)); ASSERT(code_ == CURLM_OK); } while (0)

static void drain(struct fetch_multi *m)
{
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(m->curl, &left)) != NULL) {
		CURLcode code = msg->data.result;
		char *p = NULL;
		struct fetch_job *j;

		ASSERT(msg->msg == CURLMSG_DONE);
		(void)curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &p);
		j = (struct fetch_job *)(void *)p;
		IS_A(j, JOB_MAGIC);
		job_ended(j, code);
	}
}

static void act(struct fetch_multi *m, curl_socket_t fd, int mask)
{
	int running;
	CURLMcode r = curl_multi_socket_action(m->curl, fd, mask, &running);

	ASSERT(r == CURLM_OK);
	drain(m);
}

static void socket_event(evutil_socket_t fd, short what, void *arg)
{
	act(arg, fd,
	    ((what & EV_READ) != 0 ? CURL_CSELECT_IN : 0) | ((what & EV_WRITE) != 0 ? CURL_CSELECT_OUT : 0));
}

static void timer_event(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	act(arg, CURL_SOCKET_TIMEOUT, 0);
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socketp)
{
	struct fetch_multi *m = arg;
	struct event *ev = socketp;
	short want = (short)(EV_PERSIST | ((what & CURL_POLL_IN) != 0 ? EV_READ : 0) |
	                     ((what & CURL_POLL_OUT) != 0 ? EV_WRITE : 0));

	(void)easy;
	if (ev != NULL)
		event_free(ev);
	if (what == CURL_POLL_REMOVE) {
		(void)curl_multi_assign(m->curl, fd, NULL);
		return 0;
	}
	ev = event_new(m->client->service->loop, fd, want, socket_event, m);
	ASSERT(ev != NULL);
	event_add(ev, NULL);
	(void)curl_multi_assign(m->curl, fd, ev);
	return 0;
}

static int watch_timer(CURLM *curl, long in_ms, void *arg)
{
	struct fetch_multi *m = arg;
	struct timeval tv = { in_ms / 1000, in_ms % 1000 * 1000 };

	(void)curl;
	if (in_ms < 0)
		event_del(m->timer);
	else
		event_add(m->timer, &tv);
	return 0;
}

void multi_open(struct fetch_multi *m, struct fetch_client *c)
{
	m->client = c;
	m->curl = curl_multi_init();
	m->timer = evtimer_new(c->service->loop, timer_event, m);
	ASSERT(m->curl != NULL && m->timer != NULL);
	SET_M(m->curl, CURLMOPT_SOCKETFUNCTION, watch_socket);
	SET_M(m->curl, CURLMOPT_SOCKETDATA, m);
	SET_M(m->curl, CURLMOPT_TIMERFUNCTION, watch_timer);
	SET_M(m->curl, CURLMOPT_TIMERDATA, m);
	SET_M(m->curl, CURLMOPT_MAXCONNECTS, (long)c->max_conns);       /* idle ones kept */
	SET_M(m->curl, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
}

void multi_close(struct fetch_multi *m)
{
	curl_multi_cleanup(m->curl);            /* may still take events away */
	event_free(m->timer);
}

/* --- what curl asks while it works --------------------------------------------------------- */

static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
	struct fetch_job *j = arg;
	struct in6_addr a;

	IS_A(j, JOB_MAGIC);
	if (purpose != CURLSOCKTYPE_IPCXN)
		return CURL_SOCKET_BAD;
	addr_of(&to->addr, &a);
	if (j->where == FETCH_PUBLIC && !guard_addr(&j->client->guard, &a)) {
		j->refused = true;
		return CURL_SOCKET_BAD;
	}
	return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

/* curl cannot ask for these bytes twice: what went out on a connection that then broke is not
 * silently sent again, which it would do for a body it holds itself. */
static size_t give_body(char *to, size_t size, size_t n, void *arg)
{
	struct fetch_job *j = arg;
	size_t left = j->body.n - j->uploaded, take = size * n < left ? size * n : left;

	memcpy(to, j->body.p + j->uploaded, take);
	j->uploaded += take;
	return take;
}

static size_t take_body(char *p, size_t size, size_t n, void *arg)
{
	struct fetch_job *j = arg;

	buf_add(&j->in, (struct str){ p, size * n });
	if (j->in.failed == 0)
		return size * n;
	j->too_large = true;
	return 0;
}

/* Only the head of the final answer is kept: 1xx come before it. */
static size_t take_head(char *p, size_t size, size_t n, void *arg)
{
	struct fetch_job *j = arg;
	struct str line = { p, size * n };

	if (str_starts(line, STR("HTTP/"))) {
		j->head_bytes += j->head.n;
		buf_reset(&j->head);
	}
	buf_add(&j->head, line);
	if (j->head.failed == 0 && j->head_bytes + j->head.n <= FETCH_HEAD_MAX)
		return line.n;
	j->too_large = true;
	return 0;
}

/* --- one try ------------------------------------------------------------------------------- */

static void set_request(struct fetch_job *j, CURL *e)
{
	bool body = !j->safe && (j->body.n > 0 || strcmp(j->method, "DELETE") != 0);

	if (j->fresh) {
		SET(e, CURLOPT_FRESH_CONNECT, 1L);
		SET(e, CURLOPT_FORBID_REUSE, 1L);
	}
	if (strcmp(j->method, "HEAD") == 0) {
		SET(e, CURLOPT_NOBODY, 1L);
		return;
	}
	if (!body) {
		SET(e, CURLOPT_HTTPGET, 1L);
	} else {
		SET(e, CURLOPT_POST, 1L);
		SET(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)j->body.n);
		if (j->body.n > 0 && !j->repeatable) {
			SET(e, CURLOPT_READFUNCTION, give_body);
			SET(e, CURLOPT_READDATA, j);
		} else {
			SET(e, CURLOPT_POSTFIELDS, j->body.n > 0 ? j->body.p : "");
		}
	}
	/* Nothing to ask for twice, so only a new connection keeps curl from repeating it. */
	if (!j->repeatable && j->body.n == 0)
		SET(e, CURLOPT_FRESH_CONNECT, 1L);
	SET(e, CURLOPT_CUSTOMREQUEST, j->method);
}

static void set_guards(struct fetch_job *j, CURL *e)
{
	const char *schemes =
		j->where == FETCH_TRUSTED || j->client->guard.allow_http ? "http,https" : "https";

	SET(e, CURLOPT_PROTOCOLS_STR, schemes);
	SET(e, CURLOPT_REDIR_PROTOCOLS_STR, "https");
	SET(e, CURLOPT_FOLLOWLOCATION, 0L);
	SET(e, CURLOPT_PROXY, "");
	SET(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(e, CURLOPT_SSL_VERIFYPEER, 1L);
	SET(e, CURLOPT_SSL_VERIFYHOST, 2L);
	SET(e, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(e, CURLOPT_OPENSOCKETDATA, j);
	SET(e, CURLOPT_PATH_AS_IS, 1L);
	SET(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(e, CURLOPT_HTTP09_ALLOWED, 0L);
	if (j->where == FETCH_TRUSTED)
		SET(e, CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
	if (j->addresses != NULL)
		SET(e, CURLOPT_RESOLVE, j->addresses);
}

static void set_limits(CURL *e)
{
	SET(e, CURLOPT_NOSIGNAL, 1L);
	SET(e, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
	SET(e, CURLOPT_MAXAGE_CONN, (long)IDLE_CONN_S);
	SET(e, CURLOPT_TCP_KEEPALIVE, 1L);
	SET(e, CURLOPT_TCP_KEEPIDLE, (long)PROBE_S);
#if LIBCURL_VERSION_NUM >= 0x075700
	SET(e, CURLOPT_QUICK_EXIT, 1L);         /* never wait for a thread that resolves a name */
#endif
}

void job_run(struct fetch_job *j)
{
	struct fetch_client *c = j->client;
	CURL *e = c->n_spare > 0 ? c->spare[--c->n_spare] : curl_easy_init();
	CURLMcode r;

	ASSERT(e != NULL);
	job_move(j, JOB_RUNNING);
	j->easy = e;
	j->uploaded = 0;
	j->head_bytes = 0;
	j->too_large = j->refused = false;
	j->why[0] = '\0';
	buf_reset(&j->head);
	buf_reset(&j->in);
	SET(e, CURLOPT_URL, j->url.p);
	SET(e, CURLOPT_PRIVATE, j);
	SET(e, CURLOPT_ERRORBUFFER, j->why);
	SET(e, CURLOPT_USERAGENT, "WaddleBot/1");
	SET(e, CURLOPT_HTTPHEADER, j->headers);
	SET(e, CURLOPT_WRITEFUNCTION, take_body);
	SET(e, CURLOPT_WRITEDATA, j);
	SET(e, CURLOPT_HEADERFUNCTION, take_head);
	SET(e, CURLOPT_HEADERDATA, j);
	set_request(j, e);
	set_guards(j, e);
	set_limits(e);
	r = curl_multi_add_handle(c->multi[j->where].curl, e);
	ASSERT(r == CURLM_OK);
}

void job_stop(struct fetch_job *j)
{
	struct fetch_client *c = j->client;
	CURLMcode r;

	if (j->easy == NULL)
		return;
	r = curl_multi_remove_handle(c->multi[j->where].curl, j->easy);
	ASSERT(r == CURLM_OK);
	curl_easy_reset(j->easy);
	if (c->n_spare < (int)ARRAY_LEN(c->spare))
		c->spare[c->n_spare++] = j->easy;
	else
		curl_easy_cleanup(j->easy);
	j->easy = NULL;
}

/* test_fetch.c - the client against a server that misbehaves in every way we could think of. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include "clock.h"
#include "fetch.h"
#include "metrics.h"
#include "raw_server.h"

enum { CALLS = 64 };

struct call {
	struct fixture   *f;
	struct fetch_job *job;
	int               done, status, attempts, code;
	enum err_kind     kind;
	char              text[256], body[256], header[256];
	size_t            body_bytes;
};

struct fixture {
	struct service       service;
	struct fetch_client *client;
	struct raw_server    server;
	struct call          call[CALLS];
	int                  n_done;
	/* scripts of the server */
	const char          *answer;
	size_t               answer_bytes;      /* 0: strlen */
	int                  requests, fail_first, cut_at;
	const char          *fail_with;
	char                 last[4096];
	void               (*on_request)(struct fixture *f, struct raw_conn *c);
};

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

/* Answers each whole request with f->answer; the first f->fail_first ones with f->fail_with. */
static void serve(struct raw_server *srv, struct raw_conn *c)
{
	struct fixture *f = srv->user;
	struct str last;
	int n = raw_requests(c, &last);

	if (n == 0 || n == c->answers)
		return;
	c->answers = n;
	f->requests++;
	snprintf(f->last, sizeof(f->last), STR_FMT, STR_ARG(last));
	if (f->on_request != NULL)
		f->on_request(f, c);
	else if (f->requests <= f->fail_first)
		raw_say(c, str_of(f->fail_with));
	else
		raw_say(c,
		        (struct str){ f->answer, f->answer_bytes > 0 ? f->answer_bytes : strlen(f->answer) });
}

static void done(void *arg, const struct fetch_result *r, const struct err *err)
{
	struct call *c = arg;

	c->done++;
	c->f->n_done++;
	c->job = NULL;
	if (err != NULL) {
		c->code = err->code;
		c->kind = err_kind(err);
		snprintf(c->text, sizeof(c->text), "%s", err->text);
		return;
	}
	c->status = r->status;
	c->attempts = r->attempts;
	c->body_bytes = r->body.n;
	snprintf(c->body, sizeof(c->body), STR_FMT, STR_ARG(r->body));
	snprintf(c->header, sizeof(c->header), STR_FMT, STR_ARG(r->header(r, "X-Test")));
}

static int start(void **state)
{
	struct fixture *f = XNEW(struct fixture);

	f->service.name = "test";
	service_init(&f->service);
	f->client = fetch_open(&f->service, 8, 4);
	f->answer = OK;
	raw_server_open(&f->server, &f->service, serve, f);
	*state = f;
	return 0;
}

static int end(void **state)
{
	struct fixture *f = *state;

	raw_server_close(&f->server);
	fetch_close(f->client);
	service_clear(&f->service);
	clock_real();
	free(f);
	return 0;
}

/* Begins call n of this test; the URL's port is the server's. */
static int begin(struct fixture *f, int n, struct fetch what, const char *url)
{
	struct err err = { 0 };
	const char *at;
	char text[512];
	int r;

	at = strstr(url, ":PORT");
	if (at != NULL)
		snprintf(text, sizeof(text), "%.*s:%d%s", (int)(at - url), url, f->server.port, at + 5);
	what.url = str_of(at != NULL ? text : url);
	f->call[n] = (struct call){ .f = f };
	r = fetch_start(f->client, &what, done, &f->call[n], &f->call[n].job, &err);
	assert_int_equal(f->call[n].done, 0);
	if (r != 0) {
		f->call[n].code = r;
		f->call[n].kind = err_kind(&err);
		snprintf(f->call[n].text, sizeof(f->call[n].text), "%s", err.text);
	}
	return r;
}

struct all { struct fixture *f; int n; };
static bool are_done(void *arg) { return ((struct all *)arg)->f->n_done >= ((struct all *)arg)->n; }
static bool until_done(struct fixture *f, int n) { return service_run(&f->service, are_done, &(struct all){ f, n }, 8000); }
/* Nothing more ends, however long the loop turns. */
static bool stays_at(struct fixture *f, int n)
{
	return !service_run(&f->service, are_done, &(struct all){ f, n + 1 }, 30);
}

static bool has_requests(void *arg) { return ((struct all *)arg)->f->requests >= ((struct all *)arg)->n; }
static bool until_requests(struct fixture *f, int n)
{
	return service_run(&f->service, has_requests, &(struct all){ f, n }, 8000);
}

#define URL "http://127.0.0.1:PORT/x"
#define TRUSTED .where = FETCH_TRUSTED

static struct call *one(struct fixture *f, struct fetch what)
{
	int before = f->n_done;

	what.where = FETCH_TRUSTED;
	if (begin(f, 0, what, URL) == 0)
		assert_true(until_done(f, before + 1));
	return &f->call[0];
}

/* --- what goes well ------------------------------------------------------------------------ */

static void an_answer_comes_whole(void **state)
{
	struct fixture *f = *state;
	const char *headers[] = { "X-A: 1", "X-Empty:", NULL };
	struct call *c;

	f->answer = "HTTP/1.1 201 Made\r\nX-Test: first\r\nx-test: last \r\nContent-Length: 5\r\n\r\nhello";
	c = one(f, (struct fetch){ .headers = headers });
	assert_int_equal(c->status, 201);
	assert_string_equal(c->body, "hello");
	assert_string_equal(c->header, "last");
	assert_int_equal(c->attempts, 1);
	assert_non_null(strstr(f->last, "GET /x HTTP/1.1\r\n"));
	assert_non_null(strstr(f->last, "\r\nX-A: 1\r\n"));
	assert_non_null(strstr(f->last, "\r\nX-Empty:\r\n"));
	assert_non_null(strstr(f->last, "\r\nUser-Agent: WaddleBot/1\r\n"));
	assert_int_equal(f->server.accepted, 1);
	one(f, (struct fetch){ 0 });
	assert_int_equal(f->server.accepted, 1);        /* the connection was kept */
}

static void every_method_sends_what_it_says(void **state)
{
	static const char *const methods[] = { "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE" };
	struct fixture *f = *state;
	char line[64];

	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		for (int with = 0; with < 2; with++) {
			struct fetch what = { .method = methods[i],
				              .body = with ? STR("{\"a\":1}") : STR_NONE };
			struct call *c;

			f->answer = i == 1 ? "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" : OK;
			c = one(f, what);
			if (i < 2 && with) {
				assert_int_equal(c->code, -EINVAL);
				continue;
			}
			assert_int_equal(c->status, 200);
			snprintf(line, sizeof(line), "%s /x HTTP/1.1\r\n", methods[i]);
			assert_true(strncmp(f->last, line, strlen(line)) == 0);
			assert_true((strstr(f->last, "{\"a\":1}") != NULL) == with);
			assert_true((strstr(f->last, "\r\nContent-Type: application/json\r\n") != NULL) ==
			            with);
			assert_null(strstr(f->last, "Expect"));
		}
}

static void an_error_status_and_a_redirect_are_answers(void **state)
{
	struct fixture *f = *state;
	struct raw_server other;

	f->answer = "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n";
	assert_int_equal(one(f, (struct fetch){ 0 })->status, 404);
	raw_server_open(&other, &f->service, serve, f);
	char text[256];
	snprintf(
		text, sizeof(text),
		"HTTP/1.1 302 Go\r\nX-Test: x\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n",
		other.port);
	f->answer = text;
	assert_int_equal(one(f, (struct fetch){ 0 })->status, 302);
	assert_int_equal(other.accepted, 0);
	raw_server_close(&other);
}

static void the_environment_names_no_proxy(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
	assert_int_equal(setenv("ALL_PROXY", "http://127.0.0.1:1", 1), 0);
	assert_int_equal(one(f, (struct fetch){ 0 })->status, 200);
	assert_int_equal(unsetenv("http_proxy"), 0);
	assert_int_equal(unsetenv("ALL_PROXY"), 0);
}

/* --- what is refused before a byte is sent ------------------------------------------------- */

static void nothing_can_be_smuggled_into_a_request(void **state)
{
	static const char *const headers[] = { "X: a\r\nY: b", "X\r\nY: b", "X: a\nY", "X Y: a", "X", ": a",
	                                       "Host: evil", "content-length: 3", "Transfer-Encoding: chunked",
	                                       "Connection: close" };
	static const char *const urls[] = { "http://127.0.0.1:PORT/a b", "http://127.0.0.1:PORT/\r\nX: y", "ftp://127.0.0.1:PORT/",
	                                    "file:///etc/hostname", "http://u:p@127.0.0.1:PORT/", "127.0.0.1:PORT", "" };
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
		const char *h[] = { headers[i], NULL };

		assert_int_equal(begin(f, 0, (struct fetch){ .headers = h, TRUSTED }, URL), -EINVAL);
	}
	for (size_t i = 0; i < ARRAY_LEN(urls); i++)
		assert_int_equal(begin(f, 0, (struct fetch){ TRUSTED }, urls[i]), -EINVAL);
	assert_int_equal(begin(f, 0, (struct fetch){ .method = "GET / HTTP/1.1\r\nX: y", TRUSTED }, URL),
	                 -EINVAL);
	assert_int_equal(begin(f, 0, (struct fetch){ .method = "get", TRUSTED }, URL), -EINVAL);
	assert_int_equal(begin(f, 0, (struct fetch){ .bucket = "none", TRUSTED }, URL), -EINVAL);
	assert_int_equal(f->server.accepted, 0);
}

/* --- answers that are none ----------------------------------------------------------------- */

static void an_endless_answer_is_cut_at_the_maximum(void **state)
{
	struct fixture *f = *state;
	size_t n = 8u << 20;
	struct buf big = BUF(n + 256);
	struct call *c;

	buf_add(&big, STR("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n"));
	while (big.n < n)
		buf_add(&big, STR("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"));
	f->answer = big.p;
	f->answer_bytes = big.n;
	c = one(f, (struct fetch){ 0 });
	assert_int_equal(c->code, -EMSGSIZE);
	assert_int_equal(c->kind, ERR_INPUT);
	c = one(f, (struct fetch){ .method = "POST", .max_body = 100 });
	assert_int_equal(c->code, -EMSGSIZE);
	buf_clear(&big);
}

struct bits { struct buf *out; unsigned acc, have; };

static void put_bits(struct bits *w, unsigned code, int n)      /* the first bit is the highest */
{
	while (n-- > 0) {
		w->acc |= (code >> n & 1) << w->have;
		if (++w->have == 8) {
			char byte = (char)w->acc;

			buf_add(w->out, (struct str){ &byte, 1 });
			w->acc = w->have = 0;
		}
	}
}

/* RFC 1951 by hand: one literal and then matches of 258 bytes in 13 bits each. */
static void gzip_of_zeros(struct buf *out, size_t matches)
{
	struct bits w = { out, 0, 0 };

	buf_add(out, STR("\x1f\x8b\x08\0\0\0\0\0\0\x03"));
	put_bits(&w, 6, 3);                     /* last block, fixed codes */
	put_bits(&w, 0x30, 8);
	while (matches-- > 0)
		put_bits(&w, 0xc5 << 5, 13);
	put_bits(&w, 0, 16);
}

static void a_gzip_bomb_is_cut_by_what_it_becomes(void **state)
{
	struct fixture *f = *state;
	struct buf bomb = BUF(1 << 20), answer = BUF(1 << 20);
	struct call *c;

	gzip_of_zeros(&bomb, 40000);            /* 65 KB that become 10 MB */
	buf_printf(&answer, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n",
	           bomb.n);
	buf_add(&answer, (struct str){ bomb.p, bomb.n });
	assert_true(answer.n < 70000);
	f->answer = answer.p;
	f->answer_bytes = answer.n;
	c = one(f, (struct fetch){ 0 });
	assert_int_equal(c->code, -EMSGSIZE);
	assert_non_null(strstr(f->last, "Accept-Encoding: gzip"));
	buf_clear(&bomb);
	buf_clear(&answer);
}

static void too_many_headers_are_too_many(void **state)
{
	struct fixture *f = *state;
	struct buf big = BUF(1 << 20);

	buf_add(&big, STR("HTTP/1.1 200 OK\r\n"));
	for (int i = 0; i < 2000; i++)
		buf_printf(&big, "X-%d: 0123456789\r\n", i);
	buf_add(&big, STR("Content-Length: 0\r\n\r\n"));
	f->answer = big.p;
	f->answer_bytes = big.n;
	assert_int_equal(one(f, (struct fetch){ 0 })->code, -EMSGSIZE);
	buf_reset(&big);
	for (int i = 0; i < 2000; i++)
		buf_add(&big, STR("HTTP/1.1 100 Continue\r\n\r\n"));
	f->answer_bytes = big.n;
	f->answer = big.p;
	assert_int_equal(one(f, (struct fetch){ 0 })->code, -EMSGSIZE);
	buf_clear(&big);
}

static void what_is_not_http_is_no_answer(void **state)
{
	struct fixture *f = *state;

	f->answer = "SSH-2.0-OpenSSH\r\n\r\n";
	assert_int_equal(one(f, (struct fetch){ 0 })->code, -EBADMSG);
	f->answer = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope";
	assert_int_equal(one(f, (struct fetch){ 0 })->code, -EBADMSG);
}

/* --- how far it went ----------------------------------------------------------------------- */

static void cut(struct fixture *f, struct raw_conn *c) { (void)f, raw_cut(c); }
static void finish(struct fixture *f, struct raw_conn *c) { (void)f, raw_end(c); }
static void silent(struct fixture *f, struct raw_conn *c) { (void)f, (void)c; }
static void half(struct fixture *f, struct raw_conn *c)
{
	(void)f;
	raw_say(c, STR("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"));
	raw_end(c);
}

#define POST_ONE (struct fetch){ .method = "POST", .body = STR("{}") }

/* collectors.md 5.5: reset after the body was sent */
static void a_post_that_was_sent_and_not_answered_is_unknown(void **state)
{
	struct fixture *f = *state;
	void (*const ways[])(struct fixture *, struct raw_conn *) = { cut, finish, half };

	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		struct call *c;

		f->on_request = ways[i];
		c = one(f, POST_ONE);
		assert_int_equal(c->code, -EINPROGRESS);
		assert_int_equal(c->kind, ERR_UNKNOWN);
		assert_int_equal(f->requests, (int)i + 1);      /* once each */
		c = one(f, (struct fetch){ 0 });
		assert_int_equal(c->kind, ERR_AGAIN);           /* a GET can simply be repeated */
		f->requests--;
	}
}

static void a_post_without_a_body_is_not_repeated_either(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(one(f, (struct fetch){ .method = "POST" })->status, 200);
	f->on_request = finish;
	assert_int_equal(one(f, (struct fetch){ .method = "POST", .retries = 3 })->kind, ERR_UNKNOWN);
	assert_int_equal(f->requests, 2);
}

/* collectors.md 5.5: time-out */
static void a_silent_server_costs_the_deadline_and_no_more(void **state)
{
	struct fixture *f = *state;

	clock_fake(1700000000000);
	f->on_request = silent;
	assert_int_equal(
		begin(f, 0,
	              (struct fetch){ .method = "POST", .body = STR("{}"), TRUSTED, .timeout_ms = 3000 },
	              URL),
		0);
	assert_int_equal(begin(f, 1, (struct fetch){ TRUSTED, .timeout_ms = 3000, .retries = 5 }, URL), 0);
	assert_true(until_requests(f, 2));
	clock_advance(2999);
	assert_int_equal(f->n_done, 0);
	clock_advance(1);
	assert_true(until_done(f, 2));
	assert_int_equal(f->call[0].kind, ERR_UNKNOWN);
	assert_int_equal(f->call[1].code, -ETIMEDOUT);
	assert_int_equal(f->call[1].kind, ERR_AGAIN);
}

static void drip(void *arg)
{
	struct raw_conn *c = arg;

	raw_say(c, STR("x"));
}

static void first_drop(struct fixture *f, struct raw_conn *c)
{
	(void)f;
	raw_say(c, STR("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"));
	for (int i = 0; i < 5; i++)
		drip(c);
}

static void a_dripping_server_does_not_move_the_deadline(void **state)
{
	struct fixture *f = *state;
	struct raw_conn *c;

	clock_fake(1700000000000);
	f->on_request = first_drop;
	assert_int_equal(begin(f, 0, (struct fetch){ TRUSTED, .timeout_ms = 3000 }, URL), 0);
	assert_true(until_requests(f, 1));
	c = CONTAINER_OF(list_first(&f->server.conns), struct raw_conn, node);
	for (int i = 0; i < 29; i++) {
		clock_advance(100);
		drip(c);
		assert_int_equal(f->n_done, 0);
	}
	clock_advance(100);
	assert_true(until_done(f, 1));
	assert_int_equal(f->call[0].code, -ETIMEDOUT);
}

static void cut_early(struct raw_server *srv, struct raw_conn *c)
{
	struct fixture *f = srv->user;

	if ((size_t)f->cut_at <= c->in.n)
		raw_cut(c);
}

/* collectors.md 5.5: reset before the body was sent */
static void a_post_that_did_not_leave_whole_may_be_repeated(void **state)
{
	static const int stages[] = { 0, 1, 200, 100000, 1000000 };
	struct fixture *f = *state;
	size_t n = 32u << 20;                   /* more than any socket buffer */
	char *big = XNEW_N(char, n);

	memset(big, 'x', n);
	f->server.serve = cut_early;
	for (size_t i = 0; i < ARRAY_LEN(stages); i++) {
		struct call *c;

		f->cut_at = stages[i];
		c = one(f, (struct fetch){ .method = "POST", .body = { big, n } });
		if (c->kind != ERR_AGAIN)
			fail_msg("cut at %d: %d %s", stages[i], c->code, c->text);
		c = one(f, (struct fetch){ .method = "PUT", .body = { big, n } });
		assert_int_equal(c->kind, ERR_AGAIN);
	}
	free(big);
}

static void deafen(struct raw_server *srv, struct raw_conn *c)
{
	struct fixture *f = srv->user;

	f->requests++;
	raw_deafen(c);
}

static void a_post_that_hangs_half_way_may_be_repeated(void **state)
{
	struct fixture *f = *state;
	size_t n = 32u << 20;
	char *big = XNEW_N(char, n);

	clock_fake(1700000000000);
	f->server.serve = deafen;
	assert_int_equal(begin(f, 0, (struct fetch){ .method = "POST", .body = { big, n }, TRUSTED }, URL),
	                 0);
	assert_true(until_requests(f, 1));
	clock_advance(10000);
	assert_true(until_done(f, 1));
	assert_int_equal(f->call[0].code, -ETIMEDOUT);
	assert_int_equal(f->call[0].kind, ERR_AGAIN);
	free(big);
}

static void nobody_listening_may_be_repeated(void **state)
{
	struct fixture *f = *state;
	struct call *c;

	raw_server_close(&f->server);
	c = one(f, POST_ONE);
	assert_int_equal(c->kind, ERR_AGAIN);
	c = one(f, (struct fetch){ .method = "POST", .body = STR("{}"), .retries = 2, .timeout_ms = 2000 });
	assert_int_equal(c->kind, ERR_AGAIN);
}

static void end_second(struct fixture *f, struct raw_conn *c)
{
	if (f->requests == 2)
		raw_end(c);
	else
		raw_say(c, STR(OK));
}

/* curl repeats by itself what it sent on a connection that was kept and then broke. */
static void a_kept_connection_that_breaks_repeats_no_post(void **state)
{
	struct fixture *f = *state;
	struct call *c;

	f->on_request = end_second;
	assert_int_equal(one(f, POST_ONE)->status, 200);
	c = one(f, POST_ONE);
	assert_int_equal(c->kind, ERR_UNKNOWN);
	assert_int_equal(f->requests, 2);
	f->requests = 0;
	assert_int_equal(one(f, (struct fetch){ 0 })->status, 200);
	assert_int_equal(one(f, (struct fetch){ 0 })->status, 200);
	assert_int_equal(f->requests, 3);       /* the GET went twice, unseen */
	f->requests = 0;
	f->server.accepted = 0;
	assert_int_equal(one(f, (struct fetch){ .fresh = true })->status, 200);
	assert_int_equal(one(f, (struct fetch){ .fresh = true })->kind, ERR_AGAIN);
	assert_int_equal(f->requests, 2);       /* nothing is kept, so nothing is repeated */
	assert_int_equal(f->server.accepted, 2);
}

/* --- trying again -------------------------------------------------------------------------- */

static bool advance_until(struct fixture *f, int n_done, int64_t ms)
{
	struct all a = { f, n_done };

	for (int64_t t = 0; t < ms && f->n_done < n_done; t += 50) {
		clock_advance(50);
		if (service_run(&f->service, are_done, &a, 5))
			return true;
	}
	return f->n_done >= n_done;
}

static void busy_answers_are_tried_again_after_their_time(void **state)
{
	struct fixture *f = *state;

	clock_fake(1700000000000);
	f->fail_first = 2;
	f->fail_with = "HTTP/1.1 429 Slow\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
	assert_int_equal(begin(f, 0, (struct fetch){ TRUSTED, .retries = 3, .timeout_ms = 60000 }, URL), 0);
	assert_true(until_requests(f, 1));
	assert_true(stays_at(f, 0));
	clock_advance(999);
	assert_true(stays_at(f, 0));
	assert_int_equal(f->requests, 1);       /* not before Retry-After */
	assert_true(advance_until(f, 1, 30000));
	assert_int_equal(f->call[0].status, 200);
	assert_int_equal(f->call[0].attempts, 3);
}

static void a_post_is_tried_again_only_with_a_key(void **state)
{
	struct fixture *f = *state;
	const char *key[] = { "Idempotency-Key: 1", NULL };

	f->fail_first = 1;
	f->fail_with = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
	assert_int_equal(one(f, (struct fetch){ .method = "POST", .body = STR("{}"), .retries = 3 })->status,
	                 503);
	assert_int_equal(f->requests, 1);
	f->requests = 0;
	assert_int_equal(
		one(f, (struct fetch){ .method = "POST", .body = STR("{}"), .retries = 3, .headers = key })
			->status,
		200);
	assert_int_equal(f->requests, 2);
	f->requests = 0;
	f->fail_first = 100;
	assert_int_equal(one(f, (struct fetch){ .retries = 2 })->status,
	                 503); /* the last answer is the answer */
	assert_int_equal(f->requests, 3);
}

static void a_retry_after_the_deadline_is_not_waited_for(void **state)
{
	struct fixture *f = *state;

	f->fail_first = 100;
	f->fail_with = "HTTP/1.1 503 Busy\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n";
	assert_int_equal(one(f, (struct fetch){ .retries = 5 })->status, 503);
	assert_int_equal(f->requests, 1);
}

static void a_deadline_counts_waiting_and_pausing(void **state)
{
	struct fixture *f = *state;

	clock_fake(1700000000000);
	fetch_bucket(f->client, "one", 1, 60000);
	assert_int_equal(begin(f, 0, (struct fetch){ TRUSTED, .bucket = "one" }, URL), 0);
	assert_int_equal(begin(f, 1, (struct fetch){ TRUSTED, .bucket = "one", .timeout_ms = 5000 }, URL), 0);
	assert_true(until_done(f, 1));
	clock_advance(5000);
	assert_true(until_done(f, 2));
	assert_int_equal(f->call[1].code, -ETIMEDOUT);
	assert_int_equal(f->call[1].kind, ERR_AGAIN);
	/* sent once, broken, waiting for its second try: it may have been done */
	const char *key[] = { "Idempotency-Key: 1", NULL };
	f->on_request = cut;
	fetch_bucket(f->client, "two", 1, 60000);
	assert_int_equal(begin(f, 2, (struct fetch){ .method = "POST", .body = STR("{}"), TRUSTED, .headers = key,
	                                             .retries = 5, .bucket = "two", .timeout_ms = 9000 }, URL), 0);
	assert_true(until_requests(f, 2));
	assert_true(advance_until(f, 3, 20000));
	assert_int_equal(f->call[2].kind, ERR_UNKNOWN);
	assert_int_equal(f->requests, 3);       /* curl's own try on a new connection; it may be repeated */
}

/* --- many at once -------------------------------------------------------------------------- */

static void no_more_run_than_allowed(void **state)
{
	struct fixture *f = *state;

	f->on_request = silent;
	for (int i = 0; i < 16; i++)
		assert_int_equal(begin(f, i, (struct fetch){ TRUSTED }, URL), 0);
	assert_int_equal(begin(f, 16, (struct fetch){ TRUSTED }, URL), -EAGAIN);
	assert_true(until_requests(f, 4));
	assert_true(stays_at(f, 0));
	assert_int_equal(f->requests, 4);       /* per host */
	f->on_request = NULL;
	LIST_EACH(n, tmp, &f->server.conns)
		raw_say(CONTAINER_OF(n, struct raw_conn, node), STR(OK));
	assert_true(until_done(f, 16));
	assert_int_equal(f->server.most_open, 4);
	for (int i = 0; i < 16; i++)
		assert_int_equal(f->call[i].status, 200);
}

static void a_bucket_lets_so_many_through_in_its_time(void **state)
{
	struct fixture *f = *state;

	clock_fake(1700000000000);
	fetch_bucket(f->client, "helix", 2, 1000);
	for (int i = 0; i < 5; i++)
		assert_int_equal(
			begin(f, i, (struct fetch){ TRUSTED, .bucket = "helix", .timeout_ms = 60000 }, URL),
			0);
	assert_true(until_done(f, 2));
	assert_true(stays_at(f, 2));
	assert_int_equal(f->n_done, 2);
	clock_advance(1000);
	assert_true(until_done(f, 4));
	assert_true(stays_at(f, 4));
	assert_int_equal(f->n_done, 4);
	clock_advance(1000);
	assert_true(until_done(f, 5));
}

static void a_cancelled_call_ends_once_and_not_from_inside(void **state)
{
	struct fixture *f = *state;

	f->on_request = silent;
	for (int i = 0; i < 6; i++)             /* four run, two wait */
		assert_int_equal(begin(f, i, (struct fetch){ TRUSTED }, URL), 0);
	assert_true(until_requests(f, 4));
	for (int i = 0; i < 6; i++) {
		fetch_cancel(f->call[i].job);
		assert_int_equal(f->call[i].done, 0);
	}
	assert_true(until_done(f, 6));
	for (int i = 0; i < 6; i++) {
		assert_int_equal(f->call[i].done, 1);
		assert_int_equal(f->call[i].code, -ECANCELED);
	}
}

static void closing_ends_every_call_once(void **state)
{
	struct fixture *f = *state;

	f->on_request = silent;
	for (int i = 0; i < 10; i++)
		assert_int_equal(begin(f, i, (struct fetch){ TRUSTED }, URL), 0);
	assert_true(until_requests(f, 4));
	fetch_close(f->client);
	f->client = NULL;
	assert_true(until_done(f, 10));
	for (int i = 0; i < 10; i++)
		assert_int_equal(f->call[i].code, -ECANCELED);
}

static void metrics_tell_how_calls_ended(void **state)
{
	struct fixture *f = *state;
	struct buf text = BUF(1 << 16);

	assert_int_equal(one(f, (struct fetch){ 0 })->status, 200);
	metric_text(fetch_metrics, &text);
	buf_add(&text, (struct str){ "", 1 });
	assert_non_null(strstr(text.p, "waddle_fetch_total{outcome=\"2xx\"}"));
	assert_non_null(strstr(text.p, "waddle_fetch_total{outcome=\"unknown\"}"));
	assert_non_null(strstr(text.p, "waddle_fetch_jobs 0"));
	buf_clear(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, start, end)
		T(an_answer_comes_whole),
		T(every_method_sends_what_it_says),
		T(an_error_status_and_a_redirect_are_answers),
		T(the_environment_names_no_proxy),
		T(nothing_can_be_smuggled_into_a_request),
		T(an_endless_answer_is_cut_at_the_maximum),
		T(a_gzip_bomb_is_cut_by_what_it_becomes),
		T(too_many_headers_are_too_many),
		T(what_is_not_http_is_no_answer),
		T(a_post_that_was_sent_and_not_answered_is_unknown),
		T(a_post_without_a_body_is_not_repeated_either),
		T(a_silent_server_costs_the_deadline_and_no_more),
		T(a_dripping_server_does_not_move_the_deadline),
		T(a_post_that_did_not_leave_whole_may_be_repeated),
		T(a_post_that_hangs_half_way_may_be_repeated),
		T(nobody_listening_may_be_repeated),
		T(a_kept_connection_that_breaks_repeats_no_post),
		T(busy_answers_are_tried_again_after_their_time),
		T(a_post_is_tried_again_only_with_a_key),
		T(a_retry_after_the_deadline_is_not_waited_for),
		T(a_deadline_counts_waiting_and_pausing),
		T(no_more_run_than_allowed),
		T(a_bucket_lets_so_many_through_in_its_time),
		T(a_cancelled_call_ends_once_and_not_from_inside),
		T(closing_ends_every_call_once),
		T(metrics_tell_how_calls_ended),
	};

	return !!cmocka_run_group_tests_name("fetch", tests, NULL, NULL);
}

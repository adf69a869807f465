/* test_http_limits.c - the server against clients that are slow, many, gone, greedy or cunning.
 * The table of collectors.md 1.8 and router.md 21, row by row. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/resource.h>
#include <unistd.h>

#include "clock.h"
#include "http.h"
#include "metrics.h"
#include "raw_client.h"
#include "service.h"

enum { MANY = 1100 };

struct fixture {
	struct service     service;
	struct http_limits limits;
	struct http       *http;
	int                port, calls;
	struct raw_client  c, d;
	struct http_req   *held[8];
	int                n_held;
	char              *big;
	uint64_t           wanted;
};

static void ping(struct http_req *r, void *arg)
{
	struct fixture *f = arg;

	f->calls++;
	http_reply_raw(r, 200, "text/plain", STR("pong"));
}

static void hold(struct http_req *r, void *arg)
{
	struct fixture *f = arg;

	f->calls++;
	f->held[f->n_held++] = r;
}

static void big(struct http_req *r, void *arg)
{
	struct fixture *f = arg;

	f->calls++;
	http_reply_raw(r, 200, "text/plain", (struct str){ f->big, 6u << 20 });
}

static const struct http_route routes[] = {
	{ .method = "GET", .path = "/ping", .handle = ping, .summary = "Answers." },
	{ .method = "POST", .path = "/small", .max_body = 100, .handle = ping, .summary = "Takes little." },
	{ .method = "POST", .path = "/large", .max_body = 1 << 20, .handle = ping, .summary = "Takes a megabyte." },
	{ .method = "GET", .path = "/hold", .handle = hold, .summary = "Answers when told." },
	{ .method = "GET", .path = "/patient", .max_ms = 60000, .handle = hold, .summary = "Has more time." },
	{ .method = "GET", .path = "/big", .handle = big, .summary = "Six megabytes." },
	{ 0 }
};

static void open_with(struct fixture *f, struct http_limits limits)
{
	struct err err;

	f->http = http_open(&f->service, STR("127.0.0.1:0"), routes, f, limits, &err);
	ASSERT(f->http != NULL);
	f->port = http_port(f->http);
}

static int start(void **state)
{
	struct fixture *f = XNEW(struct fixture);

	f->service.name = "test";
	service_init(&f->service);
	clock_fake(1700000000000);
	f->big = XNEW_N(char, 6u << 20);
	memset(f->big, 'b', 6u << 20);
	*state = f;
	return 0;
}

static bool nothing_held(void *arg) { return service_held(arg) == 0; }

static int end(void **state)
{
	struct fixture *f = *state;

	raw_close(&f->c);
	raw_close(&f->d);
	http_close(f->http);
	if (!service_run(&f->service, nothing_held, &f->service, 5000))
		return -1;
	service_clear(&f->service);
	clock_real();
	free(f->big);
	free(f);
	return 0;
}

static bool has(struct str s, const char *what) { return memmem(s.p, s.n, what, strlen(what)) != NULL; }
static bool is_held(void *arg) { return ((struct fixture *)arg)->n_held > 0; }
static bool held_as_wanted(void *arg)
{
	struct fixture *f = arg;

	return service_held(&f->service) == f->wanted;
}

static bool until_held(struct fixture *f, uint64_t wanted)
{
	f->wanted = wanted;
	return service_run(&f->service, held_as_wanted, f, 5000);
}

static bool stays(struct fixture *f, struct raw_client *c)
{
	struct raw_client other;
	int status = raw_ask(&other, &f->service, f->port, "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n");

	raw_close(&other);
	return status == 404 && !c->eof;
}

/* --- slow ---------------------------------------------------------------------------------- */

static void a_head_that_never_ends_is_dropped(void **state)
{
	static const char slow[] = "GET /ping HTTP/1.1\r\nHost: a\r\n";
	struct fixture *f = *state;

	open_with(f, (struct http_limits){ 0 });
	raw_open(&f->c, &f->service, f->port, false);
	for (int i = 0; i < 10; i++) {          /* one byte per second */
		assert_int_equal(raw_send(&f->c, (struct str){ slow + i, 1 }), 1);
		assert_true(stays(f, &f->c));
		clock_advance(i < 9 ? 1000 : 999);
	}
	assert_true(stays(f, &f->c));
	clock_advance(1);
	assert_true(raw_ended(&f->c));
	assert_int_equal(f->c.in.n, 0);
}

static void a_body_that_never_ends_is_answered_408(void **state)
{
	struct fixture *f = *state;

	open_with(f, (struct http_limits){ 0 });
	raw_open(&f->c, &f->service, f->port, false);
	raw_send(&f->c, STR("POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n"));
	for (int i = 0; i < 10; i++) {
		raw_send(&f->c, STR("x"));
		assert_true(stays(f, &f->c));
		clock_advance(1000);
	}
	assert_true(raw_ended(&f->c));
	assert_int_equal(raw_status(&f->c, 0), 408);
	assert_true(str_eq(raw_header(&f->c, 0, "connection"), STR("close")));
	assert_int_equal(f->calls, 0);
}

static void an_idle_connection_ends_after_its_time(void **state)
{
	struct fixture *f = *state;

	open_with(f, (struct http_limits){ 0 });
	assert_int_equal(raw_ask(&f->c, &f->service, f->port, "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"), 200);
	raw_open(&f->d, &f->service, f->port, false);   /* never says anything */
	assert_true(stays(f, &f->d));
	clock_advance(29999);
	assert_true(stays(f, &f->c) && stays(f, &f->d));
	clock_advance(1);
	assert_true(raw_ended(&f->c) && raw_ended(&f->d));
}

static void a_handler_that_is_late_is_answered_for(void **state)
{
	struct fixture *f = *state;

	open_with(f, (struct http_limits){ 0 });
	raw_open(&f->c, &f->service, f->port, false);
	raw_send(&f->c, STR("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"));
	assert_true(service_run(&f->service, is_held, f, 5000));
	clock_advance(10000);
	assert_true(raw_ended(&f->c));
	assert_int_equal(raw_status(&f->c, 0), 503);
	assert_true(has(raw_body(&f->c, 0), "\"reason\":\"LATE\""));
	assert_true(http_left(f->held[0]));
	raw_close(&f->c);
	assert_true(until_held(f, 1));                          /* the work itself goes on */
	http_reply_raw(f->held[0], 200, "text/plain", STR("too late"));
	assert_int_equal(service_held(&f->service), 0);
}

static void a_route_may_have_more_time(void **state)
{
	struct fixture *f = *state;

	open_with(f, (struct http_limits){ 0 });
	raw_open(&f->c, &f->service, f->port, false);
	raw_send(&f->c, STR("GET /patient HTTP/1.1\r\nHost: a\r\n\r\n"));
	assert_true(service_run(&f->service, is_held, f, 5000));
	clock_advance(59999);
	http_reply_raw(f->held[0], 200, "text/plain", STR("in time"));
	assert_int_equal(raw_answers(&f->c, 1), 1);
	assert_int_equal(raw_status(&f->c, 0), 200);
}

/* --- large --------------------------------------------------------------------------------- */

static void headers_end_at_eight_kilobytes(void **state)
{
	struct fixture *f = *state;
	struct buf b = BUF(65536);

	open_with(f, (struct http_limits){ 0 });
	buf_add(&b, STR("GET /ping HTTP/1.1\r\nHost: a\r\nX: "));
	while (b.n < 8192 - 4)
		buf_add(&b, STR("x"));
	buf_add(&b, STR("\r\n\r\n"));
	assert_int_equal(b.n, 8192);
	raw_open(&f->c, &f->service, f->port, false);
	raw_send(&f->c, (struct str){ b.p, b.n });
	assert_int_equal(raw_answers(&f->c, 1), 1);
	assert_int_equal(raw_status(&f->c, 0), 200);
	b.n -= 4;
	buf_add(&b, STR("x\r\n\r\n"));
	raw_send(&f->c, (struct str){ b.p, b.n });
	assert_true(raw_ended(&f->c));
	assert_int_equal(raw_status(&f->c, 1), 431);
	assert_int_equal(f->calls, 1);
	buf_clear(&b);
}

/* router 21, collectors 1.8: 413, close */
static void a_body_over_the_routes_maximum_is_refused(void **state)
{
	static const struct { const char *text; int status; } cases[] = {
		{ "POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n", 413 },
		{ "POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n", 413 },
		{ "POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n", 413 },
		{ "POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n", 413 },
		{ "POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n32\r\n"
		  "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n33\r\n", 413 },
		{ "GET /ping HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 413 },
		{ "POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400 },
	};
	struct fixture *f = *state;

	open_with(f, (struct http_limits){ 0 });
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int got = raw_ask(&f->c, &f->service, f->port, cases[i].text);

		if (got != cases[i].status)
			fail_msg("%s: %d", cases[i].text, got);
		raw_finish(&f->c);
		assert_true(raw_ended(&f->c) && !f->c.reset);
		raw_close(&f->c);
	}
	assert_int_equal(f->calls, 0);
}

/* A reset would throw away the answer that is on its way. */
static void who_is_still_sending_gets_the_refusal_all_the_same(void **state)
{
	struct fixture *f = *state;
	size_t n = 1 << 20;

	open_with(f, (struct http_limits){ 0 });
	raw_open(&f->c, &f->service, f->port, false);
	raw_send(&f->c, STR("POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n"));
	for (size_t sent = 0; sent < n;) {
		size_t took = raw_send(&f->c, (struct str){ f->big, n - sent < 65536 ? n - sent : 65536 });

		sent += took;
		if (took == 0 || f->c.eof)
			assert_true(!f->c.reset && stays(f, &f->d));
	}
	raw_finish(&f->c);
	assert_true(raw_ended(&f->c));
	assert_false(f->c.reset);
	assert_int_equal(raw_status(&f->c, 0), 413);
}

static void bodies_share_a_budget(void **state)
{
	struct fixture *f = *state;

	open_with(f, (struct http_limits){ .body_bytes = 4096 });
	raw_open(&f->c, &f->service, f->port, false);
	raw_send(&f->c, STR("POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n"));
	raw_send(&f->c, (struct str){ f->big, 4000 });
	assert_true(stays(f, &f->c));
	raw_open(&f->d, &f->service, f->port, false);
	raw_send(&f->d, STR("POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 200\r\n\r\n"));
	raw_send(&f->d, (struct str){ f->big, 200 });
	assert_int_equal(raw_answers(&f->d, 1), 1);
	assert_int_equal(raw_status(&f->d, 0), 503);
	raw_close(&f->c);                       /* gives its part back */
	raw_close(&f->d);
	assert_true(stays(f, &f->c));
	raw_open(&f->d, &f->service, f->port, false);
	raw_send(&f->d, STR("POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 200\r\n\r\n"));
	raw_send(&f->d, (struct str){ f->big, 200 });
	assert_int_equal(raw_answers(&f->d, 1), 1);
	assert_int_equal(raw_status(&f->d, 0), 200);
}

/* --- cunning ------------------------------------------------------------------------------- */

#define SECOND "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"

static void no_second_request_hides_in_a_broken_first(void **state)
{
	static const char *const cases[] = {
		"POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" SECOND,
		"POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n" SECOND,
		"POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" SECOND,
		"POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\n" SECOND,
		"POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n" SECOND,
		"POST /small HTTP/1.1\r\nHost: a\r\nX: y\r\n Content-Length: 40\r\n\r\n" SECOND,
		"POST /small HTTP/1.1\r\nHost: a\r\nContent-Length : 40\r\n\r\n" SECOND,
		"POST /small HTTP/1.1\r\nHost: a\r\nX: \rContent-Length: 40\r\n\r\n" SECOND,
		"POST /small HTTP/1.1\nHost: a\n\n" SECOND,
		"POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\n\n" SECOND,
		"POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" SECOND,
		"GET /ping HTTP/1.1\r\n\r\n" SECOND,
		"GET /ping HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" SECOND,
		"GET /ping HTTP/2.0\r\nHost: a\r\n\r\n" SECOND,
		/* not broken, but refused before the body: it must not be read as a request */
		"POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 31\r\n\r\n" SECOND,
		"PATCH /ping HTTP/1.1\r\nHost: a\r\nContent-Length: 31\r\n\r\n" SECOND,
	};
	struct fixture *f = *state;

	open_with(f, (struct http_limits){ 0 });
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		raw_open(&f->c, &f->service, f->port, false);
		raw_send(&f->c, str_of(cases[i]));
		raw_finish(&f->c);
		assert_true(raw_ended(&f->c));
		if (raw_status(&f->c, 0) < 400 || raw_status(&f->c, 1) != 0 || f->calls != 0)
			fail_msg("%s: " STR_FMT, cases[i], (int)f->c.in.n, f->c.in.p);
		assert_true(has(raw_body(&f->c, 0), "{\"error\":{\"code\":"));
		assert_true(str_eq(raw_header(&f->c, 0, "connection"), STR("close")));
		raw_close(&f->c);
	}
}

static void other_refusals_keep_the_connection(void **state)
{
	struct fixture *f = *state;

	open_with(f, (struct http_limits){ 0 });
	raw_open(&f->c, &f->service, f->port, false);
	raw_send(&f->c, STR("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"
	                    "PATCH /ping HTTP/1.1\r\nHost: a\r\n\r\n"
	                    "\r\nGET /ping HTTP/1.1\r\nHost: a\r\n\r\n"));
	assert_int_equal(raw_answers(&f->c, 3), 3);
	assert_int_equal(raw_status(&f->c, 0), 404);
	assert_int_equal(raw_status(&f->c, 1), 405);
	assert_int_equal(raw_status(&f->c, 2), 200);
}

/* --- many ---------------------------------------------------------------------------------- */

static int count_open(struct raw_client *all, int from, int to)
{
	int n = 0;

	for (int i = from; i < to; i++)
		n += !all[i].eof;
	return n;
}

static bool last_is_gone(void *arg) { return ((struct raw_client *)arg)->eof; }

static void past_the_cap_the_oldest_idle_one_goes(void **state)
{
	struct fixture *f = *state;
	struct raw_client *all = XNEW_N(struct raw_client, MANY);
	struct rlimit lim;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
	if (lim.rlim_cur < 3 * MANY) {
		lim.rlim_cur = lim.rlim_max < 3 * MANY ? lim.rlim_max : 3 * MANY;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
	}
	assert_true(lim.rlim_cur >= 2 * MANY + 100);
	open_with(f, (struct http_limits){ .max_per_addr = MANY });
	for (int i = 0; i < MANY; i++) {
		raw_open(&all[i], &f->service, f->port, false);
		if (i % 100 == 99)              /* the kernel's queue is shorter than this */
			assert_false(service_run(&f->service, last_is_gone, &all[i], 10));
	}
	raw_send(&all[MANY - 1], STR("GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"));
	assert_int_equal(raw_answers(&all[MANY - 1], 1), 1);
	assert_true(service_run(&f->service, last_is_gone, &all[MANY - 1024 - 1], 5000));
	assert_int_equal(count_open(all, 0, MANY - 1024), 0);
	assert_int_equal(count_open(all, MANY - 1024, MANY), 1024);
	for (int i = 0; i < MANY; i++)
		raw_close(&all[i]);
	free(all);
}

static void busy_connections_are_not_sacrificed(void **state)
{
	struct fixture *f = *state;

	open_with(f, (struct http_limits){ .max_conns = 2 });
	raw_open(&f->c, &f->service, f->port, false);
	raw_send(&f->c, STR("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"));
	raw_open(&f->d, &f->service, f->port, false);
	raw_send(&f->d, STR("POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"));
	assert_true(service_run(&f->service, is_held, f, 5000));
	for (int i = 0; i < 3; i++) {
		struct raw_client third;

		assert_int_equal(
			raw_ask(&third, &f->service, f->port, "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"), 0);
		raw_close(&third);
	}
	http_reply_raw(f->held[0], 200, "text/plain", STR("x"));
	assert_int_equal(raw_answers(&f->c, 1), 1);     /* idle now: makes room */
	struct raw_client third;
	assert_int_equal(raw_ask(&third, &f->service, f->port, "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"), 200);
	raw_close(&third);
	assert_true(raw_ended(&f->c));
	assert_false(f->d.eof);
}

static void one_address_cannot_have_them_all(void **state)
{
	struct fixture *f = *state;
	struct raw_client c[6];
	struct err err;

	open_with(f, (struct http_limits){ .max_per_addr = 3 });
	for (int i = 0; i < 6; i++) {
		raw_open(&c[i], &f->service, f->port, false);
		raw_send(&c[i], STR("POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"));
		assert_true(until_held(f, i < 3 ? (uint64_t)i + 1 : 3));        /* an idle one would make room */
	}
	for (int i = 3; i < 6; i++)
		assert_true(raw_ended(&c[i]));
	assert_int_equal(count_open(c, 0, 3), 3);
	raw_close(&c[0]);
	for (int i = 3; i < 6; i++)
		raw_close(&c[i]);
	assert_int_equal(http_trust(f->http, STR("127.0.0.1"), &err), 0);      /* a proxy has no such limit */
	for (int i = 3; i < 6; i++) {
		assert_int_equal(
			raw_ask(&c[i], &f->service, f->port, "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"), 200);
	}
	for (int i = 1; i < 6; i++)
		raw_close(&c[i]);
}

static void no_descriptors_left_is_survived(void **state)
{
	struct fixture *f = *state;
	struct rlimit lim, low;

	open_with(f, (struct http_limits){ 0 });
	raw_open(&f->c, &f->service, f->port, false);   /* in the kernel's queue */
	raw_send(&f->c, STR("GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"));
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
	low = lim;
	low.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_false(service_run(&f->service, last_is_gone, &f->c, 50));
	assert_int_equal(f->calls, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
	clock_advance(500);
	assert_int_equal(raw_answers(&f->c, 1), 1);
	assert_int_equal(raw_status(&f->c, 0), 200);
}

/* --- who does not listen ------------------------------------------------------------------- */

static void a_slow_reader_gets_all_in_its_own_time(void **state)
{
	struct fixture *f = *state;

	open_with(f, (struct http_limits){ 0 });
	raw_open(&f->c, &f->service, f->port, true);
	raw_send(&f->c, STR("GET /big HTTP/1.1\r\nHost: a\r\n\r\nGET /ping HTTP/1.1\r\nHost: a\r\n\r\n"));
	assert_true(stays(f, &f->c));
	assert_int_equal(f->calls, 1);          /* the second waits for room */
	assert_int_equal(service_held(&f->service), 1);
	clock_advance(60000);                   /* 10 s, and 1 ms per 16 bytes */
	raw_listen(&f->c);
	assert_int_equal(raw_answers(&f->c, 2), 2);
	assert_int_equal(raw_body(&f->c, 0).n, 6u << 20);
	assert_int_equal(raw_status(&f->c, 1), 200);
	assert_int_equal(service_held(&f->service), 0);
}

static void who_never_reads_is_dropped(void **state)
{
	struct fixture *f = *state;

	open_with(f, (struct http_limits){ .send_ms = 1000 });
	raw_open(&f->c, &f->service, f->port, true);
	raw_send(&f->c, STR("GET /big HTTP/1.1\r\nHost: a\r\n\r\n"));
	assert_true(stays(f, &f->c));
	clock_advance(1000 + (6 << 20) / 16);
	assert_int_equal(service_held(&f->service), 0);
	raw_listen(&f->c);
	assert_true(raw_ended(&f->c));
	assert_true(f->c.in.n < 6u << 20);
}

static void requests_nobody_reads_the_answers_of_do_not_pile_up(void **state)
{
	struct fixture *f = *state;
	struct buf b = BUF(1 << 20);
	size_t sent = 0;

	for (int i = 0; i < 200; i++)
		buf_add(&b, STR("GET /big HTTP/1.1\r\nHost: a\r\n\r\n"));
	open_with(f, (struct http_limits){ 0 });
	raw_open(&f->c, &f->service, f->port, true);
	sent = raw_send(&f->c, (struct str){ b.p, b.n });
	assert_int_equal(sent, b.n);
	for (int i = 0; i < 5; i++)
		assert_true(stays(f, &f->c));
	assert_true(f->calls <= 2);
	buf_clear(&b);
}

static void a_client_that_left_is_no_error(void **state)
{
	struct fixture *f = *state;

	open_with(f, (struct http_limits){ 0 });
	raw_open(&f->c, &f->service, f->port, false);
	raw_send(&f->c, STR("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"));
	assert_true(service_run(&f->service, is_held, f, 5000));
	assert_false(http_left(f->held[0]));
	raw_reset(&f->c);
	assert_true(stays(f, &f->d));
	assert_true(http_left(f->held[0]));
	http_reply_raw(f->held[0], 200, "text/plain", STR("to nobody"));
	assert_int_equal(service_held(&f->service), 0);
	/* half closed is not gone: it wants its answer */
	f->n_held = 0;
	raw_open(&f->c, &f->service, f->port, false);
	raw_send(&f->c, STR("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"));
	raw_finish(&f->c);
	assert_true(service_run(&f->service, is_held, f, 5000));
	assert_true(stays(f, &f->d));
	assert_false(http_left(f->held[0]));
	http_reply_raw(f->held[0], 200, "text/plain", STR("to you"));
	assert_true(raw_ended(&f->c));
	assert_true(str_eq(raw_body(&f->c, 0), STR("to you")));
}

/* --- the end ------------------------------------------------------------------------------- */

static void a_drain_finishes_what_runs_and_takes_nothing_new(void **state)
{
	struct fixture *f = *state;

	open_with(f, (struct http_limits){ 0 });
	assert_int_equal(raw_ask(&f->d, &f->service, f->port, "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"), 200);
	raw_open(&f->c, &f->service, f->port, false);
	raw_send(&f->c, STR("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"));
	assert_true(service_run(&f->service, is_held, f, 5000));
	service_drain(&f->service);
	raw_send(&f->d, STR("GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"));
	assert_true(raw_ended(&f->d));
	assert_int_equal(raw_status(&f->d, 1), 503);
	assert_true(str_eq(raw_header(&f->d, 1, "connection"), STR("close")));
	assert_true(has(raw_body(&f->d, 1), "DRAINING"));
	raw_close(&f->d);
	assert_true(until_held(f, 1));
	http_reply_raw(f->held[0], 200, "text/plain", STR("done"));
	assert_true(raw_ended(&f->c));
	assert_int_equal(raw_status(&f->c, 0), 200);
	assert_true(str_eq(raw_header(&f->c, 0, "connection"), STR("close")));
	raw_close(&f->c);
	assert_true(until_held(f, 0));
}

static void the_admin_listener_answers_during_a_drain(void **state)
{
	struct fixture *f = *state;

	open_with(f, (struct http_limits){ .while_draining = true });
	service_drain(&f->service);
	assert_int_equal(raw_ask(&f->c, &f->service, f->port, "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"), 200);
	assert_int_equal(raw_header(&f->c, 0, "connection").n, 0);
}

static void what_follows_a_running_request_waits_in_the_socket(void **state)
{
	struct fixture *f = *state;
	struct buf b = BUF(1 << 20);

	open_with(f, (struct http_limits){ 0 });
	raw_open(&f->c, &f->service, f->port, false);
	raw_send(&f->c, STR("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"));
	assert_true(service_run(&f->service, is_held, f, 5000));
	for (int i = 0; i < 2000; i++)          /* more than the connection's buffer */
		buf_add(&b, STR("GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"));
	assert_int_equal(raw_send(&f->c, (struct str){ b.p, b.n }), b.n);
	assert_true(stays(f, &f->c));
	assert_int_equal(f->calls, 1);
	http_reply_raw(f->held[0], 200, "text/plain", STR("x"));
	assert_int_equal(raw_answers(&f->c, 2001), 2001);
	assert_int_equal(f->calls, 2001);
	buf_clear(&b);
}

static void closing_lets_a_running_request_finish(void **state)
{
	struct fixture *f = *state;
	int port;

	open_with(f, (struct http_limits){ 0 });
	port = f->port;
	assert_int_equal(raw_ask(&f->d, &f->service, f->port, "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"), 200);
	raw_open(&f->c, &f->service, f->port, false);
	raw_send(&f->c, STR("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"));
	assert_true(service_run(&f->service, is_held, f, 5000));
	http_close(f->http);
	f->http = NULL;
	assert_true(raw_ended(&f->d));          /* was idle */
	http_reply_raw(f->held[0], 200, "text/plain", STR("last"));
	assert_true(raw_ended(&f->c));
	assert_true(str_eq(raw_body(&f->c, 0), STR("last")));
	open_with(f, (struct http_limits){ 0 });
	assert_true(f->port != 0 && port != 0);
}

static void closing_while_a_handler_holds_a_request_frees_it_later(void **state)
{
	struct fixture *f = *state;

	open_with(f, (struct http_limits){ 0 });
	raw_open(&f->c, &f->service, f->port, false);
	raw_send(&f->c, STR("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"));
	assert_true(service_run(&f->service, is_held, f, 5000));
	raw_reset(&f->c);
	http_close(f->http);
	f->http = NULL;
	assert_false(service_run(&f->service, (bool (*)(void *))last_is_gone, &f->d, 20));
	http_reply_raw(f->held[0], 200, "text/plain", STR("x"));
	assert_int_equal(service_held(&f->service), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, start, end)
		T(a_head_that_never_ends_is_dropped),
		T(a_body_that_never_ends_is_answered_408),
		T(an_idle_connection_ends_after_its_time),
		T(a_handler_that_is_late_is_answered_for),
		T(a_route_may_have_more_time),
		T(headers_end_at_eight_kilobytes),
		T(a_body_over_the_routes_maximum_is_refused),
		T(who_is_still_sending_gets_the_refusal_all_the_same),
		T(bodies_share_a_budget),
		T(no_second_request_hides_in_a_broken_first),
		T(other_refusals_keep_the_connection),
		T(past_the_cap_the_oldest_idle_one_goes),
		T(busy_connections_are_not_sacrificed),
		T(one_address_cannot_have_them_all),
		T(no_descriptors_left_is_survived),
		T(a_slow_reader_gets_all_in_its_own_time),
		T(who_never_reads_is_dropped),
		T(requests_nobody_reads_the_answers_of_do_not_pile_up),
		T(a_client_that_left_is_no_error),
		T(what_follows_a_running_request_waits_in_the_socket),
		T(a_drain_finishes_what_runs_and_takes_nothing_new),
		T(the_admin_listener_answers_during_a_drain),
		T(closing_lets_a_running_request_finish),
		T(closing_while_a_handler_holds_a_request_frees_it_later),
	};

	return !!cmocka_run_group_tests_name("http_limits", tests, NULL, NULL);
}

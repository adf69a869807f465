/* test_http.c - the server through real sockets: routing, bodies, answers, keys. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "crypto.h"
#include "http.h"
#include "log.h"
#include "metrics.h"
#include "raw_client.h"

struct note { struct str text; int64_t count; bool loud; };
struct page { int64_t page; struct str word; int kind; bool loud; struct js_list tags; };

static const char *const kinds[] = { "small", "large", NULL };
static const struct js_field note_fields[] = {
	JS(struct note, text, JS_STR, .min = 1, .max = 10),
	JS(struct note, count, JS_INT, .optional = true, .min = 0, .max = 100),
	JS(struct note, loud, JS_BOOL, .optional = true),
	{ 0 }
};
static const struct js_field page_fields[] = {
	JS(struct page, page, JS_INT, .optional = true, .min = 1, .max = 1000, .help = "From 1."),
	JS(struct page, word, JS_STR, .optional = true, .max = 20),
	JS(struct page, kind, JS_ENUM, .optional = true, .names = kinds),
	JS(struct page, loud, JS_BOOL, .optional = true),
	JS(struct page, tags, JS_STRS, .optional = true, .max = 3),
	{ 0 }
};

struct fixture {
	struct service   service;
	struct http     *http;
	int              port;
	struct raw_client c;
	struct http_req *held;          /* of /wait */
	int              calls, checks;
	struct http_verdict verdict;
	bool             later;         /* the verdict comes by hand */
	char             peer[64], seen[64];
	unsigned char    sha[32];
};

static void ping(struct http_req *r, void *arg)
{
	struct fixture *f = arg;

	f->calls++;
	snprintf(f->peer, sizeof(f->peer), STR_FMT, STR_ARG(http_peer(r)));
	http_reply_raw(r, 200, "text/plain", STR("pong"));
}

static void echo(struct http_req *r, void *arg)
{
	struct fixture *f = arg;

	f->calls++;
	http_reply(r, 201, note_fields, http_body(r));
}

static void raw(struct http_req *r, void *arg)
{
	(void)arg;
	http_reply_raw(r, 200, "application/octet-stream", http_raw(r));
}

static void search(struct http_req *r, void *arg)
{
	const struct page *p = http_query(r);
	struct str text = arena_printf(http_mem(r), "%lld " STR_FMT " %d%s %zu", (long long)p->page,
	                               STR_ARG(p->word), p->kind, p->loud ? " loud" : "", p->tags.n);

	(void)arg;
	http_reply_raw(r, 200, "text/plain", text);
}

static void one(struct http_req *r, void *arg)
{
	struct fixture *f = arg;
	struct err err;
	int64_t id;

	snprintf(f->seen, sizeof(f->seen), STR_FMT, STR_ARG(http_path(r, "id")));
	if (http_path_int(r, "id", &id, &err) != 0)
		http_fail(r, &err);
	else
		http_reply(r, 204, NULL, NULL);
}

static void test_row(struct http_req *r, void *arg)
{
	(void)arg;
	http_reply_raw(r, 200, "text/plain", STR("literal"));
}

static void word(struct http_req *r, void *arg)
{
	(void)arg;
	http_reply_raw(r, 200, "text/plain", http_path(r, "word"));
}

static void mirror(struct http_req *r, void *arg)
{
	struct str text = arena_printf(http_mem(r), STR_FMT "|" STR_FMT "|" STR_FMT "|%lld",
	                               STR_ARG(http_method(r)), STR_ARG(http_header(r, "x-one")),
	                               STR_ARG(http_header(r, "x-two")), (long long)http_key_id(r));

	(void)arg;
	http_reply_raw(r, 200, "text/plain", text);
}

static const struct js_field huge_fields[] = { JS(struct note, text, JS_STR), { 0 } };

static void huge(struct http_req *r, void *arg)
{
	size_t n = 9u << 20;
	char *p = arena_try(http_mem(r), n, 1);
	struct note note = { .text = { p, n } };

	(void)arg;
	memset(p, 'x', n);
	if (str_eq(http_path(r, "how"), STR("raw")))
		http_reply_raw(r, 200, "text/plain", note.text);
	else if (str_eq(http_path(r, "how"), STR("json")))
		http_reply(r, 200, huge_fields, &note);
	else
		http_reply_raw(r, 200, "text/plain", (struct str){ p, 1u << 20 });
}

static void wait_row(struct http_req *r, void *arg)
{
	struct fixture *f = arg;

	f->calls++;
	f->held = r;
}

static void headers(struct http_req *r, void *arg)
{
	int bad = 0;

	(void)arg;
	bad += http_set(r, "X-A", STR("1\r\nX-Evil: 2")) == -EINVAL;
	bad += http_set(r, "X-A\r\nX-Evil", STR("1")) == -EINVAL;
	bad += http_set(r, "X-A", STR("a\0b")) == -EINVAL;
	bad += http_set(r, "X-A:", STR("1")) == -EINVAL;
	bad += http_set(r, "", STR("1")) == -EINVAL;
	bad += http_set(r, "content-length", STR("1")) == -EINVAL;
	bad += http_set(r, "Transfer-Encoding", STR("chunked")) == -EINVAL;
	bad += http_set(r, "X-Good", STR("yes")) == 0;
	bad += http_set(r, "Cache-Control", STR("max-age=60")) == 0;
	http_reply_raw(r, bad == 9 ? 200 : 500, "text/plain", STR("ok"));
}

static void failing(struct http_req *r, void *arg)
{
	struct str kind = http_path(r, "kind");
	struct err err;

	(void)arg;
	if (str_eq(kind, STR("absent")))
		err_set(&err, -ENOENT, "no such \"thing\"");
	else if (str_eq(kind, STR("conflict")))
		err_set(&err, -EEXIST, "taken");
	else if (str_eq(kind, STR("again")))
		err_set(&err, -EAGAIN, "full");
	else if (str_eq(kind, STR("unknown")))
		err_set(&err, -EINPROGRESS, "sent, not confirmed");
	else
		err_set(&err, -EPROTO, "the secret reason");
	http_fail(r, &err);
}

static const struct http_route routes[] = {
	{ .method = "GET", .path = "/ping", .handle = ping, .summary = "Answers pong." },
	{ .method = "POST", .path = "/notes", .max_body = 256, .body = note_fields, .body_size = sizeof(struct note),
	  .handle = echo, .summary = "Gives the note back." },
	{ .method = "POST", .path = "/raw", .max_body = 1 << 20, .auth = HTTP_SIGNED, .handle = raw, .summary = "Bytes." },
	{ .method = "GET", .path = "/search", .query = page_fields, .query_size = sizeof(struct page),
	  .handle = search, .summary = "Finds." },
	{ .method = "PUT", .path = "/things/{id}", .handle = one, .summary = "One thing." },
	{ .method = "DELETE", .path = "/things/{id}", .handle = one, .summary = "One thing less." },
	{ .method = "GET", .path = "/words/{word}", .handle = word, .summary = "Says the word." },
	{ .method = "GET", .path = "/words/test", .handle = test_row, .summary = "A literal beats a parameter." },
	{ .method = "GET", .path = "/wait", .handle = wait_row, .summary = "Answers later." },
	{ .method = "GET", .path = "/headers", .handle = headers, .summary = "Sets headers." },
	{ .method = "GET", .path = "/fail/{kind}", .handle = failing, .summary = "Fails." },
	{ .method = "GET", .path = "/mirror", .handle = mirror, .summary = "Says what came." },
	{ .method = "GET", .path = "/huge/{how}", .handle = huge, .summary = "Too much." },
	{ .method = "POST", .path = "/keyed", .max_body = 64, .auth = HTTP_KEY_COLLECTOR | HTTP_KEY_ADMIN,
	  .handle = ping, .summary = "Wants a key." },
	{ 0 }
};

static void check(void *arg, struct http_req *r, const unsigned char sha256[32])
{
	struct fixture *f = arg;

	f->checks++;
	memcpy(f->sha, sha256, 32);
	ASSERT(http_auth_of(r) == (HTTP_KEY_COLLECTOR | HTTP_KEY_ADMIN));
	if (f->later)
		f->held = r;
	else
		http_key_verdict(r, &f->verdict);
}

static int start(void **state)
{
	struct fixture *f = XNEW(struct fixture);
	struct err err;

	f->service.name = "test";
	service_init(&f->service);
	f->http = http_open(&f->service, STR("127.0.0.1:0"), routes, f, (struct http_limits){ 0 }, &err);
	ASSERT(f->http != NULL);
	http_keys(f->http, check, f);
	f->port = http_port(f->http);
	*state = f;
	return 0;
}

static int end(void **state)
{
	struct fixture *f = *state;

	raw_close(&f->c);
	http_close(f->http);
	service_clear(&f->service);
	free(f);
	return 0;
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

static int ask(struct fixture *f, const char *bytes)
{
	raw_close(&f->c);
	return raw_ask(&f->c, &f->service, f->port, bytes);
}

static int post(struct fixture *f, const char *path, const char *body)
{
	struct buf b = BUF(1 << 20);
	int status;

	buf_printf(&b, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n%s", path, strlen(body),
	           body);
	buf_add(&b, STR("\0"));
	status = ask(f, b.p);
	buf_clear(&b);
	return status;
}

static bool has(struct str s, const char *what) { return memmem(s.p, s.n, what, strlen(what)) != NULL; }

static void a_request_gets_its_answer_and_the_connection_stays(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ask(f, GET("/ping")), 200);
	assert_true(str_eq(raw_body(&f->c, 0), STR("pong")));
	assert_true(str_eq(raw_header(&f->c, 0, "content-type"), STR("text/plain")));
	assert_true(str_eq(raw_header(&f->c, 0, "x-content-type-options"), STR("nosniff")));
	assert_true(str_eq(raw_header(&f->c, 0, "cache-control"), STR("no-store")));
	assert_int_equal(raw_header(&f->c, 0, "date").n, 29);
	assert_int_equal(raw_header(&f->c, 0, "connection").n, 0);
	assert_true(str_eq(str_of(f->peer), STR("127.0.0.1")));
	raw_send(&f->c, STR(GET("/ping")));
	assert_int_equal(raw_answers(&f->c, 2), 2);
	assert_int_equal(f->calls, 2);
}

static void a_request_may_come_byte_by_byte(void **state)
{
	static const char text[] =
		"POST /notes HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
		"Transfer-Encoding: chunked\r\n\r\n5\r\n{\"tex\r\nA\r\nt\":\"hello\"\r\n1\r\n}\r\n0\r\n\r\n";
	struct fixture *f = *state;

	raw_open(&f->c, &f->service, f->port, false);
	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		assert_int_equal(raw_send(&f->c, (struct str){ text + i, 1 }), 1);
		assert_int_equal(raw_answers(&f->c, 0), 0);
		if (i % 7 == 0) {               /* let the loop see it alone */
			struct raw_client other;

			assert_int_equal(raw_ask(&other, &f->service, f->port, GET("/ping")), 200);
			raw_close(&other);
		}
	}
	assert_int_equal(raw_answers(&f->c, 1), 1);
	assert_int_equal(raw_status(&f->c, 0), 201);
	assert_true(has(raw_body(&f->c, 0), "\"text\":\"hello\""));
}

static void pipelined_requests_are_answered_in_order(void **state)
{
	struct fixture *f = *state;
	struct buf b = BUF(1 << 20);

	for (int i = 0; i < 100; i++)
		buf_printf(&b, "GET /words/w%d HTTP/1.1\r\nHost: a\r\n\r\n", i);
	raw_open(&f->c, &f->service, f->port, false);
	assert_int_equal(raw_send(&f->c, (struct str){ b.p, b.n }), b.n);
	raw_finish(&f->c);
	assert_int_equal(raw_answers(&f->c, 100), 100);
	for (int i = 0; i < 100; i++) {
		char w[16];

		snprintf(w, sizeof(w), "w%d", i);
		assert_true(str_eq(raw_body(&f->c, i), str_of(w)));
	}
	assert_true(raw_ended(&f->c));          /* half closed and nothing owed */
	buf_clear(&b);
}

static void a_late_answer_holds_back_the_next_request(void **state)
{
	struct fixture *f = *state;

	raw_open(&f->c, &f->service, f->port, false);
	raw_send(&f->c, STR(GET("/wait") GET("/ping")));
	struct raw_client other;
	assert_int_equal(raw_ask(&other, &f->service, f->port, GET("/words/x")), 200);
	raw_close(&other);
	assert_non_null(f->held);
	assert_int_equal(f->calls, 1);
	http_reply_raw(f->held, 200, "text/plain", STR("late"));
	assert_int_equal(f->calls, 1);          /* never from inside the reply */
	assert_int_equal(raw_answers(&f->c, 2), 2);
	assert_true(str_eq(raw_body(&f->c, 0), STR("late")));
	assert_true(str_eq(raw_body(&f->c, 1), STR("pong")));
}

static void a_path_is_found_by_its_decoded_segments(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ask(f, GET("/words/%21a%2Fb")), 200);
	assert_true(str_eq(raw_body(&f->c, 0), STR("!a/b")));
	assert_int_equal(ask(f, GET("/%70ing")), 200);
	assert_int_equal(ask(f, GET("/words/test")), 200);
	assert_true(str_eq(raw_body(&f->c, 0), STR("literal")));
	assert_int_equal(ask(f, "PUT /things/12 HTTP/1.1\r\nHost: a\r\n\r\n"), 204);
	assert_int_equal(raw_body(&f->c, 0).n, 0);
	assert_int_equal(ask(f, "PUT /things/x HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
	assert_true(has(raw_body(&f->c, 0),
	                "\"details\":[{\"field\":\"id\",\"message\":\"is not a number above 0\"}]"));
	assert_int_equal(ask(f, "PUT /things/99999999999999999999 HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
}

/* router 5, router 21: unknown path 404, never 500 */
static void odd_paths_are_refused(void **state)
{
	static const struct { const char *text; int status; } cases[] = {
		{ GET("/nothing"), 404 }, { GET("/"), 404 }, { GET("//ping"), 404 }, { GET("/ping/"), 404 },
		{ GET("//evil/ping"), 404 }, { GET("/./ping"), 404 }, { GET("/words/../ping"), 404 },
		{ GET("/words/%2e%2e"), 404 }, { GET("/words/."), 404 }, { GET("/words/"), 404 },
		{ GET("/words/a%00b"), 400 }, { GET("/words/%zz"), 400 }, { GET("/words/%4"), 400 },
		{ GET("/words/%c0%80"), 400 }, { GET("/words/%ed%a0%80"), 400 },
		{ GET("/words/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18"), 404 },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int got = ask(f, cases[i].text);

		if (got != cases[i].status)
			fail_msg("%s: %d instead of %d", cases[i].text, got, cases[i].status);
		assert_true(str_starts(raw_body(&f->c, 0), STR("{\"error\":{\"code\":\"")));
		assert_true(str_eq(raw_header(&f->c, 0, "content-type"), STR("application/json")));
	}
}

/* router 5 */
static void a_wrong_method_is_told_the_right_ones(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ask(f, "PATCH /things/1 HTTP/1.1\r\nHost: a\r\n\r\n"), 405);
	assert_true(str_eq(raw_header(&f->c, 0, "allow"), STR("PUT, DELETE, OPTIONS")));
	assert_true(has(raw_body(&f->c, 0), "METHOD_NOT_ALLOWED"));
	assert_int_equal(ask(f, "BREW /ping HTTP/1.1\r\nHost: a\r\n\r\n"), 405);
	assert_true(str_eq(raw_header(&f->c, 0, "allow"), STR("GET, HEAD, OPTIONS")));
	assert_int_equal(ask(f, "get /ping HTTP/1.1\r\nHost: a\r\n\r\n"), 405);
	assert_int_equal(ask(f, "OPTIONS /ping HTTP/1.1\r\nHost: a\r\n\r\n"), 204);
	assert_true(str_eq(raw_header(&f->c, 0, "allow"), STR("GET, HEAD, OPTIONS")));
	assert_int_equal(ask(f, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), 204);
	assert_int_equal(ask(f, "TRACE /ping HTTP/1.1\r\nHost: a\r\n\r\n"), 405);
}

static void head_is_get_without_the_body(void **state)
{
	struct fixture *f = *state;

	raw_open(&f->c, &f->service, f->port, false);
	raw_send(&f->c, STR("HEAD /ping HTTP/1.1\r\nHost: a\r\n\r\n"
	                    "HEAD /nothing HTTP/1.1\r\nHost: a\r\n\r\n"
	                    "GET /words/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
	assert_true(raw_ended(&f->c));
	struct str all = { f->c.in.p, f->c.in.n };
	assert_true(has(all, "Content-Length: 4\r\n"));
	assert_false(has(all, "pong"));
	assert_true(has(all, "HTTP/1.1 404 "));
	assert_false(has(all, "NOT_FOUND"));
	assert_true(has(all, "\r\n\r\nx"));
}

static void bodies_are_decoded_or_explained(void **state)
{
	static const struct { const char *body; int status; const char *says; } cases[] = {
		{ "{\"text\":\"a\",\"count\":3,\"loud\":true,\"more\":[]}", 201, "{\"text\":\"a\",\"count\":3,\"loud\":true}" },
		{ "{\"count\":3}", 400, "\"field\":\"text\"" },
		{ "{\"text\":\"a\",\"count\":101}", 400, "\"field\":\"count\"" },
		{ "{\"text\":\"a\",\"count\":1.5}", 400, "INVALID_REQUEST" },
		{ "{\"text\":\"a\",\"text\":\"b\"}", 400, "INVALID_REQUEST" },
		{ "{\"text\":\"a\\u0000\"}", 400, "INVALID_REQUEST" },
		{ "{\"text\":\"\xff\"}", 400, "INVALID_REQUEST" },
		{ "{\"text\":\"\\ud800\"}", 400, "INVALID_REQUEST" },
		{ "{\"text\":\"a\"", 400, "INVALID_REQUEST" },
		{ "[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]", 400, "INVALID_REQUEST" },
		{ "{\"text\":\"a\"}x", 400, "INVALID_REQUEST" }, { "\"a\"", 400, "INVALID_REQUEST" },
		{ "NaN", 400, "INVALID_REQUEST" }, { "", 400, "INVALID_REQUEST" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int got = post(f, "/notes", cases[i].body);

		if (got != cases[i].status || !has(raw_body(&f->c, 0), cases[i].says))
			fail_msg("%s: %d " STR_FMT, cases[i].body, got, STR_ARG(raw_body(&f->c, 0)));
		assert_int_equal(raw_header(&f->c, 0, "connection").n, 0);      /* the whole body was read */
	}
	assert_int_equal(ask(f, "POST /notes HTTP/1.1\r\nHost: a\r\nContent-Type: "
	                        "text/plain\r\nContent-Length: 12\r\n\r\n"
	                        "{\"text\":\"a\"}"),
	                 400);
	assert_int_equal(
		ask(f, "POST /notes HTTP/1.1\r\nHost: a\r\nContent-Type: Application/JSON; charset=utf-8\r\n"
	               "Content-Length: 12\r\n\r\n{\"text\":\"a\"}"),
		201);
}

static void a_query_is_decoded_like_a_body(void **state)
{
	static const struct { const char *text; int status; const char *says; } cases[] = {
		{ GET("/search"), 200, "0  0" }, { GET("/search?"), 200, "0  0" },
		{ GET("/search?page=7&word=a+b%26c&kind=large&x=y&&"), 200, "7 a b&c 1" },
		{ GET("/search?page=&word="), 200, "0  0" },
		{ GET("/search?loud=true&tags=a,b"), 200, "0  0 loud 2" }, { GET("/search?loud=0"), 200, "0  0 0" },
		{ GET("/search?loud=1&tags=%2C"), 200, "loud 1" },
		{ GET("/search?loud=yes"), 400, "\"field\":\"loud\"" }, { GET("/search?tags=a,b,c,d"), 400, "\"field\":\"tags\"" },
		{ GET("/search?page=1&page=2"), 400, "\"field\":\"page\"" },
		{ GET("/search?page=0"), 400, "\"field\":\"page\"" }, { GET("/search?page=01"), 400, "page" },
		{ GET("/search?page=a"), 400, "\"field\":\"page\"" }, { GET("/search?page=1e3"), 400, "page" },
		{ GET("/search?page=99999999999999999999"), 400, "page" },
		{ GET("/search?kind=huge"), 400, "\"field\":\"kind\"" },
		{ GET("/search?word=%zz"), 400, "percent" }, { GET("/search?word=%00"), 400, "percent" },
		{ GET("/search?word=%ff"), 400, "percent" }, { GET("/search?word=aaaaaaaaaaaaaaaaaaaaa"), 400, "word" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int got = ask(f, cases[i].text);

		if (got != cases[i].status || !has(raw_body(&f->c, 0), cases[i].says))
			fail_msg("%s: %d " STR_FMT, cases[i].text, got, STR_ARG(raw_body(&f->c, 0)));
	}
}

static void a_megabyte_comes_back_byte_for_byte(void **state)
{
	struct fixture *f = *state;
	size_t n = 1 << 20, sent = 0;
	char *bytes = XNEW_N(char, n);
	struct buf head = BUF(256);
	struct raw_client other;

	for (size_t i = 0; i < n; i++)
		bytes[i] = (char)(i * 2654435761u >> 13);
	buf_printf(&head,
	           "POST /raw HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %zu\r\n\r\n", n);
	raw_open(&f->c, &f->service, f->port, false);
	raw_send(&f->c, (struct str){ head.p, head.n });
	assert_int_equal(raw_answers(&f->c, 1), 1);
	assert_int_equal(raw_status(&f->c, 0), 100);
	while (sent < n) {
		size_t took = raw_send(&f->c, (struct str){ bytes + sent, n - sent });

		sent += took;
		if (took == 0)
			assert_int_equal(raw_ask(&other, &f->service, f->port, GET("/ping")),
			                 200); /* turns the loop */
		if (took == 0)
			raw_close(&other);
	}
	assert_int_equal(raw_answers(&f->c, 2), 2);
	assert_int_equal(raw_status(&f->c, 1), 200);
	assert_true(str_eq(raw_body(&f->c, 1), (struct str){ bytes, n }));
	free(bytes);
	buf_clear(&head);
}

static void headers_of_handlers_cannot_be_forged(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ask(f, GET("/headers")), 200);
	assert_true(str_eq(raw_header(&f->c, 0, "x-good"), STR("yes")));
	assert_true(str_eq(raw_header(&f->c, 0, "cache-control"), STR("max-age=60")));
	assert_int_equal(raw_header(&f->c, 0, "x-evil").n, 0);
}

static void handlers_see_method_and_headers(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(
		ask(f, "GET /mirror HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nX-Two: 1\r\nx-two: 2\r\n\r\n"), 200);
	assert_true(str_eq(raw_body(&f->c, 0), STR("GET|1||0")));      /* repeated: none of them */
}

static void an_answer_that_is_too_large_becomes_500(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ask(f, GET("/huge/raw")), 500);
	assert_true(has(raw_body(&f->c, 0), "ANSWER_SIZE"));
	assert_int_equal(ask(f, GET("/huge/json")), 500);
	assert_true(has(raw_body(&f->c, 0), "ANSWER_SIZE"));
	assert_int_equal(ask(f, GET("/huge/less")), 200);
	assert_int_equal(raw_body(&f->c, 0).n, 1u << 20);
	assert_int_equal(ask(f, GET("/fail/absent")), 404);
}

static void the_older_version_keeps_a_connection_when_asked(void **state)
{
	struct fixture *f = *state;

	raw_open(&f->c, &f->service, f->port, false);
	raw_send(&f->c, STR("GET /ping HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /ping HTTP/1.0\r\n\r\n"
	                    "GET /ping HTTP/1.0\r\n\r\n"));
	assert_true(raw_ended(&f->c));
	assert_true(str_eq(raw_header(&f->c, 0, "connection"), STR("keep-alive")));
	assert_true(str_eq(raw_header(&f->c, 1, "connection"), STR("close")));
	assert_int_equal(raw_status(&f->c, 2), 0);
	assert_int_equal(f->calls, 2);
}

static void both_families_are_served_and_counted(void **state)
{
	struct fixture *f = *state;
	struct raw_client four, six, third;
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct err err;
	struct http *h = http_open(&f->service, STR("[::]:0"), routes, f,
	                           (struct http_limits){ .max_per_addr = 1 }, &err);
	int fd;

	assert_non_null(h);
	assert_int_equal(raw_ask(&four, &f->service, http_port(h), GET("/ping")), 200);
	assert_string_equal(f->peer, "127.0.0.1");
	fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	to.sin6_port = htons((uint16_t)http_port(h));
	if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0) {
		raw_from_fd(&six, &f->service, fd);
		raw_send(&six, STR(GET("/ping")));
		assert_int_equal(raw_answers(&six, 1), 1);
		assert_string_equal(f->peer, "::1");
		raw_close(&six);
	} else {
		print_message("no IPv6 on this machine: only IPv4 was asked\n");
		if (fd >= 0)
			close(fd);
	}
	assert_int_equal(raw_ask(&third, &f->service, http_port(h), GET("/ping")), 200);
	assert_true(raw_ended(&four));          /* one per address: the idle one made room */
	raw_close(&third);
	raw_close(&four);
	http_close(h);
}

static void keys_without_a_checker_are_not_believed(void **state)
{
	struct fixture *f = *state;

	http_keys(f->http, NULL, NULL);
	assert_int_equal(ask(f,
	                     "POST /keyed HTTP/1.1\r\nHost: a\r\nX-API-Key: "
	                     "wbot_0123456789012345678901234567890123456789abc\r\nContent-Length: 0\r\n\r\n"),
	                 503);
	assert_int_equal(ask(f,
	                     "POST /keyed HTTP/1.1\r\nHost: a\r\nX-API-Key: "
	                     "wbot_0123456789012345678901234567890123456789ab!\r\nContent-Length: 0\r\n\r\n"),
	                 401);
}

static void errors_become_the_envelope(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ask(f, GET("/fail/absent")), 404);
	assert_true(
		str_eq(raw_body(&f->c, 0),
	               STR("{\"error\":{\"code\":\"NOT_FOUND\",\"message\":\"no such \\\"thing\\\"\"}}")));
	assert_int_equal(ask(f, GET("/fail/conflict")), 409);
	assert_int_equal(ask(f, GET("/fail/again")), 503);
	assert_true(str_eq(raw_header(&f->c, 0, "retry-after"), STR("5")));
	assert_int_equal(ask(f, GET("/fail/unknown")), 500);
	assert_int_equal(ask(f, GET("/fail/broken")), 500);
	assert_false(has(raw_body(&f->c, 0), "secret"));
}

/* --- keys ---------------------------------------------------------------------------------- */

#define KEY "wbot_0123456789012345678901234567890123456789abc"
#define KEYED(header) "POST /keyed HTTP/1.1\r\nHost: a\r\n" header "Content-Length: 2\r\n\r\nhi"

/* router 59 */
static void a_key_is_asked_for_and_its_verdict_obeyed(void **state)
{
	struct fixture *f = *state;
	unsigned char sha[32];

	assert_int_equal(ask(f, KEYED("")), 401);
	assert_int_equal(ask(f, KEYED("X-API-Key: x\r\n")), 401);
	assert_int_equal(ask(f, KEYED("X-API-Key: " KEY "\r\nAuthorization: Bearer " KEY "\r\n")), 401);
	assert_int_equal(ask(f, KEYED("Authorization: Basic " KEY "\r\n")), 401);
	assert_true(str_eq(raw_header(&f->c, 0, "www-authenticate"), STR("Bearer")));
	assert_int_equal(f->checks, 0);
	f->verdict = (struct http_verdict){ HTTP_KEY_KNOWN, HTTP_KEY_ADMIN, 7, 0 };
	assert_int_equal(ask(f, KEYED("X-API-Key: " KEY "\r\n")), 200);
	assert_int_equal(ask(f, KEYED("Authorization: bearer " KEY "\r\n")), 200);
	assert_int_equal(f->checks, 2);
	crypto_sha256(STR(KEY), sha);
	assert_memory_equal(f->sha, sha, 32);
	f->verdict.type = HTTP_KEY_INTERACTION;
	assert_int_equal(ask(f, KEYED("X-API-Key: " KEY "\r\n")), 403);
	f->verdict = (struct http_verdict){ HTTP_KEY_SPENT, HTTP_KEY_ADMIN, 7, 90 };
	assert_int_equal(ask(f, KEYED("X-API-Key: " KEY "\r\n")), 429);
	assert_true(str_eq(raw_header(&f->c, 0, "retry-after"), STR("90")));
	f->verdict.state = HTTP_KEY_UNKNOWN;
	assert_int_equal(ask(f, KEYED("X-API-Key: " KEY "\r\n")), 401);
	f->verdict.state = HTTP_KEY_UNCHECKED;
	assert_int_equal(ask(f, KEYED("X-API-Key: " KEY "\r\n")), 503);
	assert_int_equal(f->calls, 2);
}

static bool is_held(void *arg) { return ((struct fixture *)arg)->held != NULL; }

static void a_verdict_may_come_later_or_too_late(void **state)
{
	struct fixture *f = *state;

	f->later = true;
	f->verdict = (struct http_verdict){ HTTP_KEY_KNOWN, HTTP_KEY_ADMIN, 7, 0 };
	raw_open(&f->c, &f->service, f->port, false);
	raw_send(&f->c,
	         STR("POST /keyed HTTP/1.1\r\nHost: a\r\nX-API-Key: " KEY "\r\nContent-Length: 2\r\n\r\n"));
	assert_true(service_run(&f->service, is_held, f, 5000));
	http_key_verdict(f->held, &f->verdict);
	assert_int_equal(f->calls, 0);
	raw_send(&f->c, STR("hi"));
	assert_int_equal(raw_answers(&f->c, 1), 1);
	assert_int_equal(raw_status(&f->c, 0), 200);
	raw_close(&f->c);

	f->held = NULL;
	raw_open(&f->c, &f->service, f->port, false);
	raw_send(&f->c, STR(KEYED("X-API-Key: " KEY "\r\n")));
	assert_true(service_run(&f->service, is_held, f, 5000));
	raw_reset(&f->c);
	assert_int_equal(ask(f, GET("/ping")), 200);
	assert_true(http_left(f->held));
	http_key_verdict(f->held, &f->verdict);         /* nobody is there: nothing is done */
	assert_int_equal(f->calls, 2);
}

/* --- the rest ------------------------------------------------------------------------------ */

static void the_table_describes_itself(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ask(f, GET("/openapi.json")), 200);
	for (size_t i = 0; routes[i].method != NULL; i++) {
		struct buf want = BUF(256);

		buf_add(&want, STR("\"summary\":"));
		buf_json(&want, str_of(routes[i].summary));
		buf_add(&want, STR("\0"));
		assert_true(has(raw_body(&f->c, 0), want.p));
		buf_clear(&want);
	}
	assert_true(has(raw_body(&f->c, 0), "\"/things/{id}\":{\"put\":"));
	assert_true(has(raw_body(&f->c, 0), "\"x-key-types\":[\"collector\",\"admin\"]"));
}

static bool trusted_answer(struct fixture *f, const char *header, const char *peer)
{
	struct buf b = BUF(1024);
	int status;

	buf_printf(&b, "GET /ping HTTP/1.1\r\nHost: a\r\n%s\r\n", header);
	buf_add(&b, STR("\0"));
	status = ask(f, b.p);
	buf_clear(&b);
	return status == 200 && strcmp(f->peer, peer) == 0;
}

static void only_our_proxies_may_name_the_client(void **state)
{
	struct fixture *f = *state;
	struct err err;

	assert_true(trusted_answer(f, "X-Forwarded-For: 1.2.3.4\r\n", "127.0.0.1"));
	assert_int_equal(http_trust(f->http, STR("127.0.0.0/8, 10.0.0.0/8"), &err), 0);
	assert_true(trusted_answer(f, "X-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4"));
	assert_true(trusted_answer(f, "X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.1.1.1\r\n", "1.2.3.4"));
	assert_true(trusted_answer(f, "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 2001:DB8::1\r\n",
	                           "2001:db8::1"));
	assert_true(trusted_answer(f, "X-Forwarded-For: 10.1.1.1\r\n", "10.1.1.1"));
	assert_true(trusted_answer(f, "X-Forwarded-For: 6.6.6.6, nonsense, 10.1.1.1\r\n", "10.1.1.1"));
	assert_true(trusted_answer(f, "", "127.0.0.1"));
	assert_int_equal(http_trust(f->http, STR("10.0.0.1/8"), &err), -EINVAL);
	assert_true(trusted_answer(f, "X-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4"));     /* unchanged */
}

static void an_address_in_use_is_an_error_with_its_name(void **state)
{
	struct fixture *f = *state;
	struct err err;
	char where[32];

	snprintf(where, sizeof(where), "127.0.0.1:%d", f->port);
	assert_null(http_open(&f->service, str_of(where), routes, f, (struct http_limits){ 0 }, &err));
	assert_int_equal(err.code, -EADDRINUSE);
	assert_non_null(strstr(err.text, where));
	assert_null(http_open(&f->service, STR("nonsense"), routes, f, (struct http_limits){ 0 }, &err));
	assert_null(http_open(&f->service, STR("[::1:0"), routes, f, (struct http_limits){ 0 }, &err));
	assert_null(http_open(&f->service, STR("::1:80"), routes, f, (struct http_limits){ 0 }, &err));
	assert_null(
		http_open(&f->service, STR("127.0.0.1:65536"), routes, f, (struct http_limits){ 0 }, &err));
	assert_null(http_open(&f->service, STR("1.2.3.4"), routes, f, (struct http_limits){ 0 }, &err));
	assert_int_equal(err.code, -EINVAL);
}

static void what_was_answered_is_counted_by_route(void **state)
{
	struct fixture *f = *state;
	struct buf text = BUF(1 << 20);

	assert_int_equal(ask(f, GET("/nothing")), 404);
	metric_text(http_metrics, &text);
	assert_true(has((struct str){ text.p, text.n }, "waddle_test_http_requests_total{route=\"GET /ping\",code=\"2xx\"}"));
	assert_true(has((struct str){ text.p, text.n }, "waddle_test_http_requests_total{route=\"none\",code=\"4xx\"}"));
	buf_clear(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, start, end)
		T(a_request_gets_its_answer_and_the_connection_stays),
		T(a_request_may_come_byte_by_byte),
		T(pipelined_requests_are_answered_in_order),
		T(a_late_answer_holds_back_the_next_request),
		T(a_path_is_found_by_its_decoded_segments),
		T(odd_paths_are_refused),
		T(a_wrong_method_is_told_the_right_ones),
		T(head_is_get_without_the_body),
		T(bodies_are_decoded_or_explained),
		T(a_query_is_decoded_like_a_body),
		T(a_megabyte_comes_back_byte_for_byte),
		T(headers_of_handlers_cannot_be_forged),
		T(errors_become_the_envelope),
		T(handlers_see_method_and_headers),
		T(an_answer_that_is_too_large_becomes_500),
		T(the_older_version_keeps_a_connection_when_asked),
		T(both_families_are_served_and_counted),
		T(keys_without_a_checker_are_not_believed),
		T(a_key_is_asked_for_and_its_verdict_obeyed),
		T(a_verdict_may_come_later_or_too_late),
		T(the_table_describes_itself),
		T(only_our_proxies_may_name_the_client),
		T(an_address_in_use_is_an_error_with_its_name),
		T(what_was_answered_is_counted_by_route),
	};

	return !!cmocka_run_group_tests_name("http", tests, NULL, NULL);
}

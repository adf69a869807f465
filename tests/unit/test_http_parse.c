/* test_http_parse.c - the request parser on its own: what passes, what is refused and why. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include "http_parse.h"

struct head_case { const char *text; int status; };

/* The status of a head; 0: accepted; -1: the scanner never found an end; -2: it refused a byte. */
static int judge(struct str text, struct http_head *h)
{
	const char *why = "";
	size_t seen = 0;
	ptrdiff_t n = http_head_end(text.p, text.n, &seen);
	int status;

	if (n <= 0)
		return n == 0 ? -1 : -2;
	status = http_head_parse((struct str){ text.p, (size_t)n }, h, &why);
	assert_true((status == 0) == (*why == '\0'));
	return status;
}

#define H "Host: a\r\n"

static const struct head_case cases[] = {
	{ "GET / HTTP/1.1\r\n" H "\r\n", 0 },
	{ "GET / HTTP/1.0\r\n\r\n", 0 },
	{ "GET /a?b=c HTTP/1.1\r\nhost:a:80\r\n\r\n", 0 },
	{ "GET http://other/x HTTP/1.1\r\n" H "\r\n", 0 },
	{ "OPTIONS * HTTP/1.1\r\n" H "\r\n", 0 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc", 0 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n", 0 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\n\r\n", 0 },
	{ "GET / HTTP/1.1\r\nHost: [::1]:8000\r\nX:\r\nY: \ta \t\r\n\r\n", 0 },
	/* incomplete */
	{ "", -1 }, { "GET", -1 }, { "GET / HTTP/1.1\r\n" H, -1 }, { "GET / HTTP/1.1\r\n" H "\r", -1 },
	/* bytes no request has */
	{ "GET / HTTP/1.1\n" "Host: a\n\n", -2 },
	{ "GET / HTTP/1.1\r\n" "Host: a\n\r\n", -2 },
	{ "GET / HTTP/1.1\r\n" H "X: a\rb\r\n\r\n", -2 },
	{ "GET / HTTP/1.1\r\n" H "X: a\x01\r\n\r\n", -2 },
	{ "GET / HTTP/1.1\r\n" H "X: a\x7f\r\n\r\n", -2 },
	{ "\n", -2 }, { "\x16\x03\x01", -2 },
	/* request line */
	{ "\r\n\r\n", 400 },
	{ "GET /\r\n" H "\r\n", 400 },
	{ "GET  / HTTP/1.1\r\n" H "\r\n", 400 },
	{ "GET /  HTTP/1.1\r\n" H "\r\n", 400 },
	{ "GET / HTTP/1.1 \r\n" H "\r\n", 400 },
	{ " GET / HTTP/1.1\r\n" H "\r\n", 400 },
	{ "G(T / HTTP/1.1\r\n" H "\r\n", 400 },
	{ "GET x HTTP/1.1\r\n" H "\r\n", 400 },
	{ "GET /a#b HTTP/1.1\r\n" H "\r\n", 400 },
	{ "GET /\xc3\xa9 HTTP/1.1\r\n" H "\r\n", 400 },
	{ "GET /\t HTTP/1.1\r\n" H "\r\n", 400 },
	{ "GET * HTTP/1.1\r\n" H "\r\n", 400 },
	{ "CONNECT a:1 HTTP/1.1\r\n" H "\r\n", 400 },
	{ "GET http:///x HTTP/1.1\r\n" H "\r\n", 400 },
	{ "GET http://a HTTP/1.1\r\n" H "\r\n", 400 },
	{ "GET / http/1.1\r\n" H "\r\n", 400 },
	{ "GET / HTTP/1.10\r\n" H "\r\n", 400 },
	{ "GET / HTTP/2.0\r\n" H "\r\n", 505 },
	{ "PRI * HTTP/2.0\r\n\r\n", 505 },
	{ "GET / HTTP/1.2\r\n" H "\r\n", 505 },
	{ "AVERYVERYLONGMETHOD / HTTP/1.1\r\n" H "\r\n", 400 },
	/* fields */
	{ "GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400 },
	{ "GET / HTTP/1.1\r\n" H "X: a\r\n b\r\n\r\n", 400 },
	{ "GET / HTTP/1.1\r\n" H "X: a\r\n\tb: c\r\n\r\n", 400 },
	{ "GET / HTTP/1.1\r\n" H "X\r\n\r\n", 400 },
	{ "GET / HTTP/1.1\r\n" H ": x\r\n\r\n", 400 },
	{ "GET / HTTP/1.1\r\n" H "X y: x\r\n\r\n", 400 },
	/* Host */
	{ "GET / HTTP/1.1\r\n\r\n", 400 },
	{ "GET / HTTP/1.1\r\n" H H "\r\n", 400 },
	{ "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400 },
	{ "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400 },
	{ "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400 },
	{ "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400 },
	/* where the body ends: every known way of making two programs disagree */
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", 400 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 4\r\n\r\n", 400 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 3, 3\r\n\r\n", 400 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: +3\r\n\r\n", 400 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: -3\r\n\r\n", 400 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 0x3\r\n\r\n", 400 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 3 4\r\n\r\n", 400 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n", 400 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n", 400 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n", 400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, identity\r\n\r\n", 400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n", 400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", 400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: \"chunked\"\r\n\r\n", 400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n\r\n", 400 },
	{ "POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n", 400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding : chunked\r\n\r\n", 400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0 },
	{ "POST / HTTP/1.1\r\n" H "Expect: something\r\n\r\n", 417 },
	{ "POST / HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 1\r\n\r\n", 0 },
};

static void every_head_of_the_table_gets_its_verdict(void **state)
{
	static struct http_head h;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int got = judge(str_of(cases[i].text), &h);

		if (got != cases[i].status)
			fail_msg("%s: %d instead of %d", cases[i].text, got, cases[i].status);
	}
}

static void a_nul_is_refused_where_it_stands(void **state)
{
	static struct http_head h;

	(void)state;
	assert_int_equal(judge(STR("GET / HTTP/1.1\r\n" H "X: a\0b\r\n\r\n"), &h), -2);
	assert_int_equal(judge(STR("GET /\0 HTTP/1.1\r\n" H "\r\n"), &h), -2);
}

static void the_scanner_finds_the_same_end_byte_by_byte(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct str t = str_of(cases[i].text);
		size_t seen = 0, whole_seen = 0;
		ptrdiff_t whole = http_head_end(t.p, t.n, &whole_seen), n = 0;

		for (size_t k = 1; k <= t.n && n == 0; k++)
			n = http_head_end(t.p, k, &seen);
		assert_int_equal(n, whole);
	}
}

static void the_parts_of_a_head_are_what_was_sent(void **state)
{
	static struct http_head h;
	size_t n;

	(void)state;
	assert_int_equal(
		judge(STR("POST http://evil:1/a/b?x=%20&y HTTP/1.1\r\n" H "X-A:  1 2 \r\nx-b: 3\r\nX-B: 4\r\n"
	                  "Content-Length: 12\r\nConnection: Close\r\n\r\n"),
	              &h),
		0);
	assert_true(str_eq(h.method, STR("POST")));
	assert_true(str_eq(h.path, STR("/a/b")));
	assert_true(str_eq(h.query, STR("x=%20&y")));
	assert_true(h.http11 && !h.keep_alive && !h.chunked);
	assert_int_equal(h.length, 12);
	assert_int_equal(h.n_fields, 6);
	assert_true(str_eq(http_head_field(&h, "x-a", &n), STR("1 2")));
	assert_int_equal(n, 1);
	assert_int_equal(http_head_field(&h, "X-b", &n).n, 0);
	assert_int_equal(n, 2);
}

static void connections_stay_open_by_version_and_by_wish(void **state)
{
	static struct http_head h;

	(void)state;
	assert_int_equal(judge(STR("GET / HTTP/1.1\r\n" H "\r\n"), &h), 0);
	assert_true(h.keep_alive);
	assert_int_equal(
		judge(STR("GET / HTTP/1.1\r\n" H "Connection: a, close\r\nConnection: keep-alive\r\n\r\n"),
	              &h),
		0);
	assert_false(h.keep_alive);
	assert_int_equal(judge(STR("GET / HTTP/1.0\r\n\r\n"), &h), 0);
	assert_false(h.keep_alive);
	assert_int_equal(judge(STR("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), &h), 0);
	assert_true(h.keep_alive);
}

static void more_than_a_hundred_headers_are_too_many(void **state)
{
	static struct http_head h;
	struct buf b = BUF(8192);

	(void)state;
	buf_add(&b, STR("GET / HTTP/1.1\r\n" H));
	for (int i = 0; i < 99; i++)
		buf_add(&b, STR("a:b\r\n"));
	buf_add(&b, STR("\r\n"));
	assert_int_equal(judge((struct str){ b.p, b.n }, &h), 0);
	b.n -= 2;
	buf_add(&b, STR("a:b\r\n\r\n"));
	assert_int_equal(judge((struct str){ b.p, b.n }, &h), 431);
	buf_clear(&b);
}

/* --- chunks ------------------------------------------------------------------------------- */

struct chunk_case { const char *text, *body; ptrdiff_t used; };

static const struct chunk_case chunks[] = {
	{ "0\r\n\r\n", "", 5 },
	{ "3\r\nabc\r\n0\r\n\r\n", "abc", 13 },
	{ "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nGET", "abcde", 20 },
	{ "A\r\n0123456789\r\n00\r\n\r\n", "0123456789", 21 },
	{ "3;a=b\r\nabc\r\n0;x\r\n\r\n", "abc", 19 },
	{ "0\r\nX: y\r\nZ: 1\r\n\r\n", "", 17 },
	{ "\r\n", NULL, -EBADMSG }, { "g\r\n", NULL, -EBADMSG }, { "-1\r\n", NULL, -EBADMSG },
	{ "0x1\r\na\r\n", NULL, -EBADMSG }, { " 1\r\na\r\n", NULL, -EBADMSG }, { "1 \r\na\r\n", NULL, -EBADMSG },
	{ "1\na\n0\n\n", NULL, -EBADMSG }, { "1\r\nab\r\n", NULL, -EBADMSG }, { "1\r\na\n", NULL, -EBADMSG },
	{ "000000001\r\na", NULL, -EBADMSG }, { "1;\x01\r\na", NULL, -EBADMSG },
	{ "0\r\n X\r\n\r\n", NULL, -EBADMSG }, { "0\r\nX\n\r\n", NULL, -EBADMSG },
	{ "41\r\n", NULL, -EMSGSIZE }, { "ffffffff\r\n", NULL, -EMSGSIZE },
};

static ptrdiff_t feed(struct str text, size_t step, struct buf *out, struct http_chunks *c)
{
	ptrdiff_t used = 0;

	*c = (struct http_chunks){ 0 };
	while ((size_t)used < text.n && !c->done) {
		size_t n = text.n - (size_t)used < step ? text.n - (size_t)used : step;
		ptrdiff_t r = http_chunks_feed(c, text.p + used, n, out);

		if (r < 0)
			return r;
		used += r;
	}
	return used;
}

static void chunks_are_joined_or_refused_in_pieces_of_any_size(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(chunks); i++)
		for (size_t step = 1; step < 32; step += 5) {
			struct buf out = BUF(64);
			struct http_chunks c;
			ptrdiff_t got = feed(str_of(chunks[i].text), step, &out, &c);

			if (got != chunks[i].used)
				fail_msg("%s: %td instead of %td", chunks[i].text, got, chunks[i].used);
			if (got > 0) {
				assert_true(c.done);
				assert_true(str_eq((struct str){ out.p, out.n }, str_of(chunks[i].body)));
			}
			buf_clear(&out);
		}
}

static void extensions_and_trailers_have_an_end(void **state)
{
	struct buf text = BUF(8192), out = BUF(64);
	struct http_chunks c;

	(void)state;
	buf_add(&text, STR("1;"));
	for (int i = 0; i < 200; i++)
		buf_add(&text, STR("x"));
	assert_int_equal(feed((struct str){ text.p, text.n }, 7, &out, &c), -EBADMSG);
	buf_reset(&text);
	buf_add(&text, STR("0\r\n"));
	for (int i = 0; i < 300; i++)
		buf_add(&text, STR("X: y\r\n"));
	assert_int_equal(feed((struct str){ text.p, text.n }, 7, &out, &c), -EBADMSG);
	buf_clear(&text);
	buf_clear(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_head_of_the_table_gets_its_verdict),
		cmocka_unit_test(a_nul_is_refused_where_it_stands),
		cmocka_unit_test(the_scanner_finds_the_same_end_byte_by_byte),
		cmocka_unit_test(the_parts_of_a_head_are_what_was_sent),
		cmocka_unit_test(connections_stay_open_by_version_and_by_wish),
		cmocka_unit_test(more_than_a_hundred_headers_are_too_many),
		cmocka_unit_test(chunks_are_joined_or_refused_in_pieces_of_any_size),
		cmocka_unit_test(extensions_and_trailers_have_an_end),
	};

	return !!cmocka_run_group_tests_name("http_parse", tests, NULL, NULL);
}

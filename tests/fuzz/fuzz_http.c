/* fuzz_http - a whole connection: bytes in, answers out.
 *
 * Holds always: the server ends every connection that ends; what it says is a row of well-formed
 * answers; and it says the same however the bytes are cut into packets. */
#include "common.h"

#include <sys/socket.h>
#include <unistd.h>

#include "http_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUT_MAX = 1 << 20, TURN_MS = 1000 };

struct body { struct str text; int64_t n; };
struct query { struct str word; int64_t page; };

static const struct js_field body_fields[] = {
	JS(struct body, text, JS_STR, .max = 100), JS(struct body, n, JS_INT, .optional = true), { 0 }
};
static const struct js_field query_fields[] = {
	JS(struct query, word, JS_STR, .optional = true, .max = 20),
	JS(struct query, page, JS_INT, .optional = true, .min = 1, .max = 10), { 0 }
};

static void echo(struct http_req *r, void *arg)
{
	(void)arg;
	http_reply_raw(r, 200, "text/plain", http_raw(r));
}

static void decoded(struct http_req *r, void *arg)
{
	(void)arg;
	http_reply(r, 200, body_fields, http_body(r));
}

static void found(struct http_req *r, void *arg)
{
	(void)arg;
	http_reply(r, 200, query_fields, http_query(r));
}

static void word(struct http_req *r, void *arg)
{
	(void)arg;
	http_reply_raw(r, 200, "text/plain", http_path(r, "word"));
}

/* The verdict is in the first byte of the hash: every branch can be reached. */
static void check(void *arg, struct http_req *r, const unsigned char sha256[32])
{
	const struct http_verdict v = { sha256[0] % 4, HTTP_KEY_ADMIN, 1, 9 };

	(void)arg;
	http_key_verdict(r, &v);
}

static const struct http_route routes[] = {
	{ .method = "POST", .path = "/raw", .max_body = 4096, .handle = echo, .summary = "Echo." },
	{ .method = "PUT", .path = "/json", .max_body = 512, .body = body_fields, .body_size = sizeof(struct body),
	  .handle = decoded, .summary = "Decode." },
	{ .method = "GET", .path = "/find", .query = query_fields, .query_size = sizeof(struct query),
	  .handle = found, .summary = "Query." },
	{ .method = "GET", .path = "/w/{word}", .handle = word, .summary = "Path." },
	{ .method = "POST", .path = "/k", .max_body = 16, .auth = HTTP_KEY_ADMIN, .handle = echo, .summary = "Key." },
	{ 0 }
};

static struct service service = { .name = "fuzz" };
static struct http *http;

static bool all_gone(void *arg)
{
	(void)arg;
	return http->n_conns == 0;
}

static void collect(int fd, struct buf *out)
{
	char bytes[65536];
	ssize_t n;

	while ((n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
		buf_add(out, (struct str){ bytes, (size_t)n });
}

static bool one_turn(void *arg) { return (*(int *)arg)-- <= 0; }

static void connection(const uint8_t *data, size_t size, size_t step, struct buf *out)
{
	struct sockaddr from = { .sa_family = AF_UNIX };
	int fd[2], turns;

	ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0);
	conn_accept(http, fd[1], &from);
	for (size_t at = 0; at < size && http->n_conns > 0; at += step) {
		size_t n = size - at < step ? size - at : step;

		if (send(fd[0], data + at, n, MSG_NOSIGNAL) != (ssize_t)n)
			break;                  /* it has closed: what follows would not be read */
		turns = 1;
		(void)!service_run(&service, one_turn, &turns, TURN_MS);
		collect(fd[0], out);
	}
	(void)shutdown(fd[0], SHUT_WR);
	for (int i = 0; http->n_conns > 0 && i < 1000; i++) {
		turns = 1;
		(void)!service_run(&service, one_turn, &turns, TURN_MS);
		collect(fd[0], out);
	}
	ASSERT(service_run(&service, all_gone, http, TURN_MS));
	collect(fd[0], out);
	close(fd[0]);
	ASSERT(service_held(&service) == 0);
}

/* A row of answers; interim ones are taken out, they depend on what had come when. */
static void check_answers(struct buf *b)
{
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	size_t at = 0;

	for (char *p; b->n > 0 && (p = memmem(b->p, b->n, go_on, sizeof(go_on) - 1)) != NULL;) {
		memmove(p, p + sizeof(go_on) - 1, b->n - (size_t)(p - b->p) - (sizeof(go_on) - 1));
		b->n -= sizeof(go_on) - 1;
	}
	if (b->n > 0)
		ASSERT(b->n > 15 && memcmp(b->p, "HTTP/1.1 ", 9) == 0 && b->p[9] >= '2' && b->p[9] <= '5');
	while (at < b->n) {
		const char *end = memmem(b->p + at, b->n - at, "\r\n\r\n", 4);

		if (end == NULL)
			break;
		at = (size_t)(end - b->p) + 4;
	}
	ASSERT(b->n == 0 || at > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t steps[] = { 1, 7, 61 };
	struct buf whole = BUF(OUT_MAX), cut = BUF(OUT_MAX);

	if (http == NULL) {
		service_init(&service);
		clock_fake(1700000000000);
		http = http_new(&service, routes, NULL,
		                (struct http_limits){ .header_bytes = 512, .max_per_addr = 10 });
		http_keys(http, check, NULL);
	}
	if (size > 4096)
		return 0;
	connection(data, size, size > 0 ? size : 1, &whole);
	check_answers(&whole);
	connection(data, size, steps[size % 3], &cut);
	check_answers(&cut);
	ASSERT(str_eq((struct str){ whole.p, whole.n }, (struct str){ cut.p, cut.n }));
	buf_clear(&whole);
	buf_clear(&cut);
	return 0;
}

/* test_fetch_guard.c - addresses that came from users, through a name server that lies, and peers
 * whose certificate does not fit. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <event2/dns.h>
#include <event2/dns_struct.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "fetch.h"
#include "raw_server.h"

struct fixture {
	struct service          service;
	struct fetch_client    *client;
	struct raw_server       server;
	struct evdns_server_port *dns;
	int                     dns_fd, dns_port, questions;
	bool                    dns_silent, asked;
	int                     done, status, code;
	enum err_kind           kind;
	char                    text[256];
	SSL_CTX                *tls;
};

static void serve(struct raw_server *srv, struct raw_conn *c)
{
	struct str last;

	(void)srv;
	if (raw_requests(c, &last) > c->answers) {
		c->answers++;
		raw_say(c, STR("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
	}
}

/* The first label says what to answer. */
static void answer_name(struct evdns_server_request *q, void *arg)
{
	static const struct { const char *label, *v4[3], *v6; } zone[] = {
		{ "good", { "127.0.0.1" }, NULL },
		{ "bad", { "10.0.0.1" }, NULL },
		{ "mixed", { "127.0.0.1", "10.0.0.1" }, NULL },
		{ "meta", { "169.254.169.254" }, NULL },
		{ "six", { NULL }, "fd00::1" },
		{ "half", { "127.0.0.1" }, "::1" },
		{ "none", { NULL }, NULL },
	};
	struct fixture *f = arg;
	int code = DNS_ERR_NOTEXIST;

	f->asked = true;
	if (f->dns_silent) {
		evdns_server_request_drop(q);
		return;
	}
	for (int i = 0; i < q->nquestions; i++) {
		const char *name = q->questions[i]->name;

		f->questions++;
		for (size_t z = 0; z < ARRAY_LEN(zone); z++) {
			size_t n = strlen(zone[z].label);

			if (strncasecmp(name, zone[z].label, n) != 0 || name[n] != '.')
				continue;
			code = DNS_ERR_NONE;
			if (q->questions[i]->type == EVDNS_TYPE_A)
				for (int a = 0; a < 3 && zone[z].v4[a] != NULL; a++) {
					struct in_addr v4;

					ASSERT(inet_pton(AF_INET, zone[z].v4[a], &v4) == 1);
					evdns_server_request_add_a_reply(q, name, 1, &v4, 60);
				}
			if (q->questions[i]->type == EVDNS_TYPE_AAAA && zone[z].v6 != NULL) {
				struct in6_addr v6;

				ASSERT(inet_pton(AF_INET6, zone[z].v6, &v6) == 1);
				evdns_server_request_add_aaaa_reply(q, name, 1, &v6, 60);
			}
		}
	}
	evdns_server_request_respond(q, code);
}

static void done(void *arg, const struct fetch_result *r, const struct err *err)
{
	struct fixture *f = arg;

	f->done++;
	f->status = r != NULL ? r->status : 0;
	f->code = err != NULL ? err->code : 0;
	f->kind = err != NULL ? err_kind(err) : ERR_NONE;
	snprintf(f->text, sizeof(f->text), "%s", err != NULL ? err->text : "");
}

static int start(void **state)
{
	struct fixture *f = XNEW(struct fixture);
	struct sockaddr_in at = { .sin_family = AF_INET };
	socklen_t n = sizeof(at);
	struct err err;
	char text[64];

	f->service.name = "test";
	service_init(&f->service);
	f->client = fetch_open(&f->service, 8, 4);
	raw_server_open(&f->server, &f->service, serve, f);
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	f->dns_fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	ASSERT(bind(f->dns_fd, (struct sockaddr *)&at, sizeof(at)) == 0);
	ASSERT(getsockname(f->dns_fd, (struct sockaddr *)&at, &n) == 0);
	f->dns = evdns_add_server_port_with_base(f->service.loop, f->dns_fd, 0, answer_name, f);
	ASSERT(f->dns != NULL);
	snprintf(text, sizeof(text), "127.0.0.1:%d", ntohs(at.sin_port));
	ASSERT(fetch_dns(f->client, str_of(text), &err) == 0);
	*state = f;
	return 0;
}

static bool nothing_held(void *arg) { return service_held(arg) == 0; }

static int end(void **state)
{
	struct fixture *f = *state;

	raw_server_close(&f->server);
	fetch_close(f->client);
	if (!service_run(&f->service, nothing_held, &f->service, 5000))
		return -1;
	evdns_close_server_port(f->dns);
	service_clear(&f->service);
	SSL_CTX_free(f->tls);
	clock_real();
	free(f);
	return 0;
}

static void allow(struct fixture *f, const char *cidrs)
{
	char port[16];
	struct err err;

	snprintf(port, sizeof(port), "%d", f->server.port);
	assert_int_equal(fetch_guard(f->client, true, str_of(port), str_of(cidrs), &err), 0);
}

static bool is_done(void *arg) { return ((struct fixture *)arg)->done > 0; }

/* 0 and the outcome in *f, or what fetch_start() said. */
static int call(struct fixture *f, const char *scheme, const char *host, enum fetch_where where)
{
	char url[256];
	struct fetch what = { .where = where };
	struct err err;
	int r;

	snprintf(url, sizeof(url), "%s://%s:%d/", scheme, host, f->server.port);
	what.url = str_of(url);
	f->done = 0;
	r = fetch_start(f->client, &what, done, f, NULL, &err);
	if (r != 0) {
		snprintf(f->text, sizeof(f->text), "%s", err.text);
		return r;
	}
	assert_int_equal(f->done, 0);
	assert_true(service_run(&f->service, is_done, f, 8000));
	return 0;
}

static void the_text_alone_refuses_before_anything_is_sent(void **state)
{
	static const struct { const char *host, *why; } cases[] = {
		{ "127.0.0.1", "address" }, { "localhost", "host_name" }, { "2130706433", "host_number" },
		{ "0x7f.1", "host_number" }, { "127.1", "host_number" }, { "[::1]", "address" },
		{ "[::ffff:127.0.0.1]", "address" }, { "a.internal", "host_name" }, { "u@good.example.org", "" },
	};
	struct fixture *f = *state;

	allow(f, "");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int r = call(f, "http", cases[i].host, FETCH_PUBLIC);

		assert_int_equal(r, *cases[i].why != '\0' ? -EACCES : -EINVAL);
		assert_non_null(strstr(f->text, cases[i].why));
	}
	assert_int_equal(f->server.accepted, 0);
	assert_int_equal(f->questions, 0);
}

static void any_address_that_is_not_public_refuses_the_call(void **state)
{
	static const char *const hosts[] = { "bad.example.org", "mixed.example.org", "meta.example.org",
	                                     "six.example.org", "half.example.org" };
	struct fixture *f = *state;

	allow(f, "127.0.0.0/8");                /* where the test's server is */
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		assert_int_equal(call(f, "http", hosts[i], FETCH_PUBLIC), 0);
		assert_int_equal(f->code, -EACCES);
		assert_int_equal(f->kind, ERR_DENIED);
		assert_non_null(strstr(f->text, ": address"));
		assert_null(strstr(f->text, "10.0.0.1"));       /* never told */
	}
	assert_int_equal(f->server.accepted, 0);
	allow(f, "");
	assert_int_equal(call(f, "http", "good.example.org", FETCH_PUBLIC), 0);
	assert_int_equal(f->code, -EACCES);
	assert_int_equal(f->server.accepted, 0);
}

static void the_connection_goes_to_a_checked_address_without_a_second_look(void **state)
{
	struct fixture *f = *state;

	allow(f, "127.0.0.0/8");
	assert_int_equal(call(f, "http", "good.example.org", FETCH_PUBLIC), 0);
	assert_int_equal(f->status, 200);
	assert_int_equal(f->questions, 2);      /* A and AAAA, once */
	assert_int_equal(call(f, "http", "GOOD.example.org.", FETCH_PUBLIC), 0);
	assert_int_equal(f->status, 200);
	assert_int_equal(f->questions, 4);      /* asked again for each call: rebinding is seen */
	assert_int_equal(call(f, "http", "127.0.0.1", FETCH_PUBLIC), 0);
	assert_int_equal(f->status, 200);
	assert_int_equal(f->questions, 4);
}

static void the_address_is_judged_again_when_the_socket_is_made(void **state)
{
	struct fixture *f = *state;
	struct fetch what = { .where = FETCH_PUBLIC };
	struct err err;
	char url[128];

	allow(f, "127.0.0.0/8");
	snprintf(url, sizeof(url), "http://127.0.0.1:%d/", f->server.port);
	what.url = str_of(url);
	f->done = 0;
	assert_int_equal(fetch_start(f->client, &what, done, f, NULL, &err), 0);
	allow(f, "");                           /* between the text and the connection */
	assert_true(service_run(&f->service, is_done, f, 5000));
	assert_int_equal(f->code, -EACCES);
	assert_int_equal(f->server.accepted, 0);
}

static void plain_http_needs_the_setting(void **state)
{
	struct fixture *f = *state;
	struct err err;
	char port[16];

	snprintf(port, sizeof(port), "%d", f->server.port);
	assert_int_equal(fetch_guard(f->client, false, str_of(port), STR("127.0.0.0/8"), &err), 0);
	assert_int_equal(call(f, "http", "good.example.org", FETCH_PUBLIC), -EACCES);
	assert_non_null(strstr(f->text, "scheme"));
	assert_int_equal(fetch_guard(f->client, true, STR(""), STR("127.0.0.0/8"), &err), 0);
	assert_int_equal(call(f, "http", "good.example.org", FETCH_PUBLIC), -EACCES);
	assert_non_null(strstr(f->text, "port"));
}

static void a_name_nobody_knows_was_not_sent(void **state)
{
	struct fixture *f = *state;

	allow(f, "127.0.0.0/8");
	assert_int_equal(call(f, "http", "unknown.example.org", FETCH_PUBLIC), 0);
	assert_int_equal(f->kind, ERR_AGAIN);
	assert_int_equal(call(f, "http", "none.example.org", FETCH_PUBLIC), 0);
	assert_int_equal(f->kind, ERR_AGAIN);
	assert_int_equal(fetch_dns(f->client, STR("nonsense"), NULL), -EINVAL);
	assert_int_equal(fetch_dns(f->client, STR(""), NULL), -EINVAL);
}

static bool was_asked(void *arg) { return ((struct fixture *)arg)->asked; }

static void a_silent_name_server_costs_the_deadline(void **state)
{
	struct fixture *f = *state;
	struct fetch what = { .where = FETCH_PUBLIC, .timeout_ms = 3000 };
	struct fetch_job *job;
	struct err err;
	char url[128];

	allow(f, "127.0.0.0/8");
	clock_fake(1700000000000);
	f->dns_silent = true;
	snprintf(url, sizeof(url), "http://good.example.org:%d/", f->server.port);
	what.url = str_of(url);
	f->done = 0;
	assert_int_equal(fetch_start(f->client, &what, done, f, &job, &err), 0);
	assert_true(service_run(&f->service, was_asked, f, 5000));
	clock_advance(3000);
	assert_true(service_run(&f->service, is_done, f, 5000));
	assert_int_equal(f->code, -ETIMEDOUT);
	assert_int_equal(f->kind, ERR_AGAIN);
	/* and cancelling while it is asked */
	f->done = 0;
	f->asked = false;
	assert_int_equal(fetch_start(f->client, &what, done, f, &job, &err), 0);
	assert_true(service_run(&f->service, was_asked, f, 5000));
	fetch_cancel(job);
	assert_true(service_run(&f->service, is_done, f, 5000));
	assert_int_equal(f->code, -ECANCELED);
}

/* --- TLS ----------------------------------------------------------------------------------- */

static void self_signed(SSL_CTX *ctx)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	X509_NAME *name;

	ASSERT(key != NULL && cert != NULL);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	name = X509_get_subject_name(cert);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"good.example.org", -1,
	                           -1, 0);
	X509_set_issuer_name(cert, name);
	ASSERT(X509_sign(cert, key, EVP_sha256()) > 0);
	ASSERT(SSL_CTX_use_certificate(ctx, cert) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1);
	X509_free(cert);
	EVP_PKEY_free(key);
}

struct tls_conn { SSL *ssl; BIO *in, *out; };

/* A TLS server of memory: what came goes into the machine, what it wants to say is said. */
static void serve_tls(struct raw_server *srv, struct raw_conn *c)
{
	static struct tls_conn t;
	struct fixture *f = srv->user;
	char bytes[8192];
	int n;

	if (c->in.n == 0)
		return;
	if (c->answers++ == 0) {
		t = (struct tls_conn){ SSL_new(f->tls), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()) };
		SSL_set_bio(t.ssl, t.in, t.out);
		SSL_set_accept_state(t.ssl);
	}
	BIO_write(t.in, c->in.p, (int)c->in.n);
	buf_reset(&c->in);
	n = SSL_do_handshake(t.ssl);
	while (BIO_ctrl_pending(t.out) > 0) {
		int m = BIO_read(t.out, bytes, sizeof(bytes));

		raw_say(c, (struct str){ bytes, (size_t)m });
	}
	if (n != 1 && SSL_get_error(t.ssl, n) != SSL_ERROR_WANT_READ) {
		SSL_free(t.ssl);
		raw_end(c);
	}
}

static void a_certificate_nobody_vouches_for_is_not_accepted(void **state)
{
	struct fixture *f = *state;

	f->tls = SSL_CTX_new(TLS_server_method());
	ASSERT(f->tls != NULL);
	self_signed(f->tls);
	f->server.serve = serve_tls;
	allow(f, "127.0.0.0/8");
	assert_int_equal(call(f, "https", "good.example.org", FETCH_PUBLIC), 0);
	assert_int_equal(f->code, -EPROTO);
	assert_int_equal(f->kind, ERR_BROKEN);
	assert_int_equal(call(f, "https", "127.0.0.1", FETCH_TRUSTED), 0);
	assert_int_equal(f->code, -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, start, end)
		T(the_text_alone_refuses_before_anything_is_sent),
		T(any_address_that_is_not_public_refuses_the_call),
		T(the_connection_goes_to_a_checked_address_without_a_second_look),
		T(the_address_is_judged_again_when_the_socket_is_made),
		T(plain_http_needs_the_setting),
		T(a_name_nobody_knows_was_not_sent),
		T(a_silent_name_server_costs_the_deadline),
		T(a_certificate_nobody_vouches_for_is_not_accepted),
	};

	return !!cmocka_run_group_tests_name("fetch_guard", tests, NULL, NULL);
}

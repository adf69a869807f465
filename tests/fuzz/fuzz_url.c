/* fuzz_url - URLs, queries and percent-encoding.
 *
 * Holds always: a URL we accept, rebuilt, is read by libcurl with the same host, port and scheme,
 * and by us as the same URL again; what is encoded decodes to itself; decoded text is UTF-8. */
#include "common.h"

#include <curl/curl.h>

#include "guard.h"
#include "url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is(char *text, struct str want, bool brackets)
{
	struct str t = str_of(text);

	if (brackets && t.n >= 2)
		t = (struct str){ t.p + 1, t.n - 2 };
	return str_eq_fold(t, want);
}

/* Numbers and IPv6 are spelled anew by curl: the guard has judged those as addresses. */
static void as_curl_reads(const char *text, const struct url *u, bool plain_name)
{
	CURLU *c = curl_url();
	char *host = NULL, *port = NULL, *scheme = NULL, *user = NULL;
	struct in6_addr a, b;

	ASSERT(c != NULL);
	if (curl_url_set(c, CURLUPART_URL, text, 0) == CURLUE_OK) {
		ASSERT(curl_url_get(c, CURLUPART_HOST, &host, 0) == CURLUE_OK);
		ASSERT(curl_url_get(c, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK);
		ASSERT(curl_url_get(c, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK);
		ASSERT(curl_url_get(c, CURLUPART_USER, &user, 0) != CURLUE_OK);
		ASSERT(is(scheme, u->https ? STR("https") : STR("http"), false));
		ASSERT(strtol(port, NULL, 10) == u->port);
		if (plain_name)
			ASSERT(is(host, u->host, false));
		else if (u->is_v6 && addr_parse(u->host, &a))
			ASSERT(addr_parse((struct str){ host + 1, strlen(host) - 2 }, &b) &&
			       memcmp(&a, &b, sizeof(a)) == 0);
	}
	curl_free(host);
	curl_free(port);
	curl_free(scheme);
	curl_free(user);
	curl_url_cleanup(c);
}

static void one_url(struct str text)
{
	const struct guard open_ports = { .allow_http = true };
	struct buf joined = BUF(16384);
	enum guard_reason why, again;
	struct url u, v;

	why = guard_url(&open_ports, text);
	if (url_split(text, &u) != 0) {
		ASSERT(why == GUARD_MALFORMED);
		return;
	}
	url_join(&u, &joined);
	buf_add(&joined, (struct str){ "", 1 });
	ASSERT(joined.failed == 0);
	joined.n--;
	ASSERT(url_split((struct str){ joined.p, joined.n }, &v) == 0);
	ASSERT(u.https == v.https && u.port == v.port && u.is_v6 == v.is_v6 && !v.has_user);
	ASSERT(str_eq(u.host, v.host) && str_eq(u.query, v.query));
	again = guard_url(&open_ports, (struct str){ joined.p, joined.n });
	ASSERT(again == why || u.has_user);
	as_curl_reads(joined.p, &v, why == GUARD_FINE && !u.is_v6);
	buf_clear(&joined);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = { (const char *)data, size }, back;
	struct url_pair pairs[16];
	struct buf encoded = BUF(65536);
	struct arena *mem = arena_new(1024, 1 << 20);
	size_t n = 0;

	if (size <= 8192) {
		one_url(text);
		if (str_utf8_ok(text)) {
			url_encode(text, &encoded);
			ASSERT(url_decode((struct str){ encoded.p, encoded.n }, false, mem, &back) == 0 &&
			       str_eq(back, text));
		}
		if (url_decode(text, true, mem, &back) == 0)
			ASSERT(str_utf8_ok(back) && back.n <= text.n);
		if (url_query(text, pairs, ARRAY_LEN(pairs), &n, mem, NULL) == 0)
			for (size_t i = 0; i < n; i++)
				ASSERT(str_utf8_ok(pairs[i].name) && str_utf8_ok(pairs[i].value));
	}
	buf_clear(&encoded);
	arena_free(mem);
	return 0;
}

/* test_url_guard.c - router.md 13: where a URL that came from a user may lead. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include "guard.h"

static const struct { const char *url; enum guard_reason why; } urls[] = {
	/* the public internet */
	{ "https://example.org", GUARD_FINE },
	{ "https://example.org/", GUARD_FINE },
	{ "HTTPS://EXAMPLE.org:443/a/../b?x=1&y=%20#frag", GUARD_FINE },
	{ "https://example.org:8443/hook", GUARD_FINE },
	{ "https://a-b.c_d.example.co.uk?x", GUARD_FINE },
	{ "https://xn--bcher-kva.example/", GUARD_FINE },
	{ "https://example.org./", GUARD_FINE },
	{ "https://1.2.3.4/", GUARD_FINE },
	{ "https://8.8.8.8:8443/", GUARD_FINE },
	{ "https://[2606:4700::1111]/", GUARD_FINE },
	{ "https://[2606:4700::1111]:8443/x", GUARD_FINE },
	{ "https://[::ffff:8.8.8.8]/", GUARD_FINE },
	{ "https://[64:ff9b::8.8.8.8]/", GUARD_FINE },
	{ "https://[2002:808:808::1]/", GUARD_FINE },
	{ "https://172.15.255.255/", GUARD_FINE },
	{ "https://172.32.0.0/", GUARD_FINE },
	{ "https://100.63.255.255/", GUARD_FINE },
	{ "https://100.128.0.0/", GUARD_FINE },
	{ "https://192.0.1.0/", GUARD_FINE },
	{ "https://223.255.255.255/", GUARD_FINE },
	{ "https://notlocalhost.com/", GUARD_FINE },
	{ "https://localhost.com/", GUARD_FINE },
	{ "https://internal.example.org/", GUARD_FINE },
	/* scheme */
	{ "http://example.org/", GUARD_SCHEME },
	{ "ftp://example.org/", GUARD_MALFORMED },
	{ "file:///etc/passwd", GUARD_MALFORMED },
	{ "gopher://example.org/", GUARD_MALFORMED },
	{ "javascript:alert(1)", GUARD_MALFORMED },
	{ "//example.org/", GUARD_MALFORMED },
	{ "example.org", GUARD_MALFORMED },
	{ "https:example.org", GUARD_MALFORMED },
	{ "https:/example.org", GUARD_MALFORMED },
	{ "", GUARD_MALFORMED },
	/* user info */
	{ "https://user@example.org/", GUARD_USER },
	{ "https://user:pass@example.org/", GUARD_USER },
	{ "https://example.org@127.0.0.1/", GUARD_USER },
	{ "https://@example.org/", GUARD_USER },
	{ "https://a@b@example.org/", GUARD_USER },
	/* port */
	{ "https://example.org:80/", GUARD_PORT },
	{ "https://example.org:22/", GUARD_PORT },
	{ "https://example.org:5432/", GUARD_PORT },
	{ "https://example.org:65535/", GUARD_PORT },
	{ "https://example.org:0/", GUARD_MALFORMED },
	{ "https://example.org:65536/", GUARD_MALFORMED },
	{ "https://example.org:+443/", GUARD_MALFORMED },
	{ "https://example.org:-1/", GUARD_MALFORMED },
	{ "https://example.org:/", GUARD_MALFORMED },
	{ "https://example.org:443:443/", GUARD_MALFORMED },
	{ "https://example.org:443a/", GUARD_MALFORMED },
	{ "https://example.org:0443/", GUARD_FINE },
	/* names of the inside */
	{ "https://localhost/", GUARD_NAME },
	{ "https://LOCALHOST./", GUARD_NAME },
	{ "https://a.localhost/", GUARD_NAME },
	{ "https://printer.local/", GUARD_NAME },
	{ "https://metadata.google.internal/", GUARD_NAME },
	{ "https://db.prod.svc.cluster.local/", GUARD_NAME },
	{ "https://router/", GUARD_NAME },
	{ "https://host.localdomain/", GUARD_NAME },
	/* numbers that are not four plain decimals */
	{ "https://2130706433/", GUARD_NUMBER },
	{ "https://0x7f000001/", GUARD_NUMBER },
	{ "https://0x7f.1/", GUARD_NUMBER },
	{ "https://0X7F.0.0.1/", GUARD_NUMBER },
	{ "https://017700000001/", GUARD_NUMBER },
	{ "https://0177.0.0.1/", GUARD_NUMBER },
	{ "https://127.1/", GUARD_NUMBER },
	{ "https://127.0.1/", GUARD_NUMBER },
	{ "https://127.0.0.01/", GUARD_NUMBER },
	{ "https://127.0.0.0x1/", GUARD_NUMBER },
	{ "https://127.0.0.1./", GUARD_NUMBER },
	{ "https://1.2.3.256/", GUARD_NUMBER },
	{ "https://1.2.3.4.5/", GUARD_NUMBER },
	{ "https://8.8/", GUARD_NUMBER },
	{ "https://0/", GUARD_NUMBER },
	{ "https://example.0x10/", GUARD_NUMBER },
	/* addresses that are not public */
	{ "https://127.0.0.1/", GUARD_ADDRESS },
	{ "https://127.255.255.254/", GUARD_ADDRESS },
	{ "https://0.0.0.0/", GUARD_ADDRESS },
	{ "https://10.1.2.3/", GUARD_ADDRESS },
	{ "https://172.16.0.1/", GUARD_ADDRESS },
	{ "https://172.31.255.255/", GUARD_ADDRESS },
	{ "https://192.168.1.1/", GUARD_ADDRESS },
	{ "https://169.254.169.254/latest/meta-data/", GUARD_ADDRESS },
	{ "https://100.64.0.1/", GUARD_ADDRESS },
	{ "https://100.127.255.255/", GUARD_ADDRESS },
	{ "https://192.0.0.1/", GUARD_ADDRESS },
	{ "https://192.0.2.1/", GUARD_ADDRESS },
	{ "https://198.18.0.1/", GUARD_ADDRESS },
	{ "https://198.19.255.255/", GUARD_ADDRESS },
	{ "https://198.51.100.1/", GUARD_ADDRESS },
	{ "https://203.0.113.1/", GUARD_ADDRESS },
	{ "https://224.0.0.1/", GUARD_ADDRESS },
	{ "https://239.255.255.255/", GUARD_ADDRESS },
	{ "https://240.0.0.1/", GUARD_ADDRESS },
	{ "https://255.255.255.255/", GUARD_ADDRESS },
	{ "https://[::]/", GUARD_ADDRESS },
	{ "https://[::1]/", GUARD_ADDRESS },
	{ "https://[0:0:0:0:0:0:0:1]/", GUARD_ADDRESS },
	{ "https://[fe80::1]/", GUARD_ADDRESS },
	{ "https://[fec0::1]/", GUARD_ADDRESS },
	{ "https://[fc00::1]/", GUARD_ADDRESS },
	{ "https://[fd12:3456::1]/", GUARD_ADDRESS },
	{ "https://[ff02::1]/", GUARD_ADDRESS },
	{ "https://[100::1]/", GUARD_ADDRESS },
	{ "https://[2001:db8::1]/", GUARD_ADDRESS },
	{ "https://[2001:2::1]/", GUARD_ADDRESS },
	{ "https://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/", GUARD_ADDRESS },
	{ "https://[64:ff9b:1::1]/", GUARD_ADDRESS },
	{ "https://[::ffff:127.0.0.1]/", GUARD_ADDRESS },
	{ "https://[::ffff:7f00:1]/", GUARD_ADDRESS },
	{ "https://[::ffff:a9fe:a9fe]/", GUARD_ADDRESS },
	{ "https://[::127.0.0.1]/", GUARD_ADDRESS },
	{ "https://[::ffff:0:10.0.0.1]/", GUARD_ADDRESS },
	{ "https://[64:ff9b::10.0.0.1]/", GUARD_ADDRESS },
	{ "https://[2002:7f00:1::1]/", GUARD_ADDRESS },
	{ "https://[2002:c0a8:101::]/", GUARD_ADDRESS },
	/* malformed */
	{ "https://", GUARD_MALFORMED },
	{ "https:///x", GUARD_MALFORMED },
	{ "https://?x", GUARD_MALFORMED },
	{ "https://.example.org/", GUARD_MALFORMED },
	{ "https://example..org/", GUARD_MALFORMED },
	{ "https://exa mple.org/", GUARD_MALFORMED },
	{ "https://example.org/a b", GUARD_MALFORMED },
	{ "https://example.org\\@127.0.0.1/", GUARD_MALFORMED },
	{ "https://127.0.0.1\\.example.org/", GUARD_MALFORMED },
	{ "https://example.org\r\nX: y/", GUARD_MALFORMED },
	{ "https://example.org/\x01", GUARD_MALFORMED },
	{ "https://b\xc3\xbc" "cher.example/", GUARD_MALFORMED },
	{ "https://\xe2\x91\xa0\xe2\x91\xa1\xe2\x91\xa6.0.0.1/", GUARD_MALFORMED },
	{ "https://%6c%6f%63alhost/", GUARD_MALFORMED },
	{ "https://127.0.0.1%00.example.org/", GUARD_MALFORMED },
	{ "https://[::1", GUARD_MALFORMED },
	{ "https://[::1]x/", GUARD_MALFORMED },
	{ "https://[fe80::1%25eth0]/", GUARD_MALFORMED },
	{ "https://[::1]:/", GUARD_MALFORMED },
	{ "https://[]/", GUARD_MALFORMED },
	{ "https://[127.0.0.1]/", GUARD_MALFORMED },
	{ "https://[1:2:3:4:5:6:7:8:9]/", GUARD_MALFORMED },
	{ "https://[::g]/", GUARD_MALFORMED },
	{ "https://*.example.org/", GUARD_MALFORMED },
	{ "https://example.org,127.0.0.1/", GUARD_MALFORMED },
	{ "https://-example.org/", GUARD_MALFORMED },
};

static void every_url_of_the_table_gets_its_verdict(void **state)
{
	const struct guard g = { 0 };

	(void)state;
	assert_true(ARRAY_LEN(urls) >= 80);
	for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
		enum guard_reason got = guard_url(&g, str_of(urls[i].url));

		if (got != urls[i].why)
			fail_msg("%s: %s instead of %s", urls[i].url, guard_reason_name(got),
			         guard_reason_name(urls[i].why));
	}
	assert_int_equal(guard_url(&g, STR("https://example.org\0.evil/")), GUARD_MALFORMED);
}

static void settings_open_what_they_name_and_nothing_else(void **state)
{
	struct guard g = { 0 };
	struct err err;

	(void)state;
	assert_int_equal(
		guard_set(&g, true, STR("8080, 9000"), STR("127.0.0.0/8, 10.1.0.0/16, fd00:1::/32"), &err),
		0);
	assert_int_equal(guard_url(&g, STR("http://127.0.0.1:8080/")), GUARD_FINE);
	assert_int_equal(guard_url(&g, STR("http://example.org/")), GUARD_FINE);
	assert_int_equal(guard_url(&g, STR("https://10.1.2.3:9000/")), GUARD_FINE);
	assert_int_equal(guard_url(&g, STR("https://[::ffff:10.1.2.3]/")), GUARD_FINE);
	assert_int_equal(guard_url(&g, STR("https://[fd00:1::5]/")), GUARD_FINE);
	assert_int_equal(guard_url(&g, STR("https://[fd00:2::5]/")), GUARD_ADDRESS);
	assert_int_equal(guard_url(&g, STR("https://10.2.2.3/")), GUARD_ADDRESS);
	assert_int_equal(guard_url(&g, STR("https://[::1]/")), GUARD_ADDRESS);
	assert_int_equal(guard_url(&g, STR("https://127.0.0.1:9001/")), GUARD_PORT);
	assert_int_equal(guard_url(&g, STR("https://localhost/")), GUARD_NAME);
	assert_int_equal(guard_set(&g, false, STR("70000"), STR(""), &err), -EINVAL);
	assert_int_equal(guard_set(&g, false, STR(""), STR("10.0.0.1/8"), &err), -EINVAL);
	assert_int_equal(guard_set(&g, false, STR(""), STR("10.0.0.0/33"), &err), -EINVAL);
	assert_int_equal(guard_set(&g, false, STR(""), STR("ten"), &err), -EINVAL);
	assert_int_equal(guard_url(&g, STR("https://10.1.2.3/")), GUARD_FINE);         /* unchanged */
	guard_clear(&g);
	assert_int_equal(guard_url(&g, STR("https://10.1.2.3/")), GUARD_ADDRESS);
}

static void a_url_is_rebuilt_from_its_parts(void **state)
{
	static const struct { const char *in, *out; } cases[] = {
		{ "https://example.org", "https://example.org/" },
		{ "HTTPS://a.b:443/x?y#z", "https://a.b/x?y" },
		{ "http://u:p@a.b:80?q=1", "http://a.b/?q=1" },
		{ "http://a.b:443/", "http://a.b:443/" },
		{ "https://[2001:DB8::1]:8443/%2e/../x", "https://[2001:DB8::1]:8443/%2e/../x" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct buf b = BUF(256);
		struct url u;

		assert_int_equal(url_split(str_of(cases[i].in), &u), 0);
		url_join(&u, &b);
		assert_true(str_eq((struct str){ b.p, b.n }, str_of(cases[i].out)));
		buf_clear(&b);
	}
}

static void networks_are_compared_bit_by_bit(void **state)
{
	static const struct { const char *net, *addr; bool in; } cases[] = {
		{ "10.0.0.0/8", "10.255.255.255", true }, { "10.0.0.0/8", "11.0.0.0", false },
		{ "192.168.1.128/25", "192.168.1.127", false }, { "192.168.1.128/25", "192.168.1.255", true },
		{ "0.0.0.0/0", "1.2.3.4", true }, { "0.0.0.0/0", "::1", false }, { "::/0", "1.2.3.4", true },
		{ "1.2.3.4", "1.2.3.4", true }, { "1.2.3.4", "1.2.3.5", false },
		{ "fc00::/7", "fdff::", true }, { "fc00::/7", "fe00::", false }, { "::1/128", "::1", true },
	};
	struct cidr c;
	struct in6_addr a;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(cidr_parse(str_of(cases[i].net), &c, NULL), 0);
		assert_true(addr_parse(str_of(cases[i].addr), &a));
		if (cidr_has(&c, &a) != cases[i].in)
			fail_msg("%s in %s", cases[i].addr, cases[i].net);
	}
	assert_int_equal(cidr_parse(STR("1.2.3.4/-1"), &c, NULL), -EINVAL);
	assert_int_equal(cidr_parse(STR("1.2.3.4/"), &c, NULL), -EINVAL);
	assert_int_equal(cidr_parse(STR(""), &c, NULL), -EINVAL);
	assert_false(addr_parse(STR("1.2.3"), &a));
	assert_false(addr_parse(STR("1.2.3.4\0"), &a));
	assert_false(addr_parse(STR("1.2.3.4 "), &a));
}

static void percent_encoding_goes_both_ways(void **state)
{
	struct arena *mem = arena_new(1024, 1 << 16);
	struct buf b = BUF(256);
	struct str s;

	(void)state;
	url_encode(STR("a b/\xc3\xa9?&=~"), &b);
	assert_true(str_eq((struct str){ b.p, b.n }, STR("a%20b%2F%C3%A9%3F%26%3D~")));
	assert_int_equal(url_decode((struct str){ b.p, b.n }, false, mem, &s), 0);
	assert_true(str_eq(s, STR("a b/\xc3\xa9?&=~")));
	assert_int_equal(url_decode(STR("%"), false, mem, &s), -EBADMSG);
	assert_int_equal(url_decode(STR("%a"), false, mem, &s), -EBADMSG);
	assert_int_equal(url_decode(STR("%gg"), false, mem, &s), -EBADMSG);
	assert_int_equal(url_decode(STR("%00"), false, mem, &s), -EBADMSG);
	assert_int_equal(url_decode(STR("%ff"), false, mem, &s), -EBADMSG);
	buf_clear(&b);
	arena_free(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_url_of_the_table_gets_its_verdict),
		cmocka_unit_test(settings_open_what_they_name_and_nothing_else),
		cmocka_unit_test(a_url_is_rebuilt_from_its_parts),
		cmocka_unit_test(networks_are_compared_bit_by_bit),
		cmocka_unit_test(percent_encoding_goes_both_ways),
	};

	return !!cmocka_run_group_tests_name("url_guard", tests, NULL, NULL);
}

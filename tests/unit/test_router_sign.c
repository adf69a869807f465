/* Signatures against the vectors their inventors publish: the Standard Webhooks reference test and
 * AWS' Signature Version 4 test suite (aws-sig-v4-test-suite). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../services/router/sign.h"

static struct arena *mem;

static int fresh(void **state)
{
	(void)state;
	mem = arena_new(4096, 1 << 20);
	return 0;
}

static int done(void **state)
{
	(void)state;
	arena_free(mem);
	return 0;
}

static void standard_webhooks_reference_signature(void **state)
{
	const struct str secret = STR("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
	struct str h[SIGN_HEADERS];

	(void)state;
	assert_int_equal(sign_webhook(&secret, 1, STR("msg_p5jXN8AQM9LWM0D4loKWxJek"), 1614265330,
	                              STR("{\"test\": 2432232314}"), mem, h),
	                 0);
	assert_string_equal(h[0].p, "webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek");
	assert_string_equal(h[1].p, "webhook-timestamp: 1614265330");
	assert_string_equal(h[2].p, "webhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

static void the_older_header_keys_with_the_text_of_the_secret(void **state)
{
	const struct str secret = STR("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), body = STR("{}");
	struct str h[SIGN_HEADERS], given;

	(void)state;
	assert_int_equal(sign_webhook(&secret, 1, STR("x"), 1, body, mem, h), 0);
	(void)str_cut(h[3], ' ', &given);
	assert_true(str_starts(h[3], STR("X-WaddleBot-Signature: sha256=")));
	assert_int_equal(crypto_hmac_check(secret, &body, 1, STR("sha256="), given), 0);
}

static void both_secrets_sign_after_a_rotation(void **state)
{
	struct str secret[2], both[SIGN_HEADERS], one[2][SIGN_HEADERS], rest;

	(void)state;
	for (int i = 0; i < 2; i++) {
		secret[i] = sign_secret_new(mem);
		assert_int_equal(secret[i].n, 6 + 44);
		assert_int_equal(sign_webhook(&secret[i], 1, STR("id"), 5, STR("b"), mem, one[i]), 0);
	}
	assert_false(str_eq(secret[0], secret[1]));
	assert_int_equal(sign_webhook(secret, 2, STR("id"), 5, STR("b"), mem, both), 0);
	for (int i = 0; i < 2; i++) {
		(void)str_cut(one[i][2], ' ', &rest);
		assert_non_null(strstr(both[2].p, rest.p));
		(void)str_cut(one[i][3], ' ', &rest);
		assert_non_null(strstr(both[3].p, rest.p));
	}
}

static void what_is_no_secret_signs_nothing(void **state)
{
	static const char *const bad[] = { "", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
	                                   "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS" };
	struct str h[SIGN_HEADERS];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct str secret = str_of(bad[i]);

		assert_int_equal(sign_webhook(&secret, 1, STR("id"), 5, STR("b"), mem, h), -EINVAL);
	}
	assert_int_equal(sign_webhook(NULL, 0, STR("id"), 5, STR("b"), mem, h), -EINVAL);
}

/* AKIDEXAMPLE, 2015-08-30, us-east-1, as in the suite. */
static void aws(const char *method, const char *url, const struct url_pair *more, size_t n_more,
                const char *service, const char *body, const char *signed_headers, const char *wanted)
{
	const struct aws key = {
		.access_key = STR("AKIDEXAMPLE"), .secret_key = STR("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
		.region = STR("us-east-1"), .service = str_of(service),
	};
	struct url_pair h[8] = { { STR("X-Amz-Date"), STR("20150830T123600Z") } };
	struct str got;
	struct url u;
	char text[512];

	assert_int_equal(url_split(str_of(url), &u), 0);
	h[1] = (struct url_pair){ STR("Host"), u.host };
	for (size_t i = 0; i < n_more; i++)
		h[2 + i] = more[i];
	assert_int_equal(
		sign_aws(&key, method, &u, h, 2 + n_more, STR("20150830T123600Z"), str_of(body), mem, &got),
		0);
	(void)snprintf(text, sizeof text,
	               "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/%s/aws4_request, "
	               "SignedHeaders=%s, Signature=%s",
	               service, signed_headers, wanted);
	assert_string_equal(got.p, text);
}

static void aws_published_vectors(void **state)
{
	static const struct url_pair form[] = {
		{ STR("Content-Type"), STR("application/x-www-form-urlencoded; charset=utf-8") },
	};
	static const struct url_pair form_plain[] = {
		{ STR("Content-Type"), STR("application/x-www-form-urlencoded") },
	};
	static const struct url_pair trim[] = {
		{ STR("My-Header1"), STR(" value1") }, { STR("My-Header2"), STR(" \"a   b   c\"") },
	};

	(void)state;
	/* get-vanilla */
	aws("GET", "https://example.amazonaws.com/", NULL, 0, "service", "", "host;x-amz-date",
	    "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
	/* post-vanilla */
	aws("POST", "https://example.amazonaws.com/", NULL, 0, "service", "", "host;x-amz-date",
	    "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
	/* get-vanilla-query-order-key-case */
	aws("GET", "https://example.amazonaws.com/?Param2=value2&Param1=value1", NULL, 0, "service", "",
	    "host;x-amz-date", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500");
	/* get-vanilla-empty-query-key */
	aws("GET", "https://example.amazonaws.com/?Param1=value1", NULL, 0, "service", "", "host;x-amz-date",
	    "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb");
	/* get-header-value-trim */
	aws("GET", "https://example.amazonaws.com/", trim, 2, "service", "",
	    "host;my-header1;my-header2;x-amz-date",
	    "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736");
	/* post-x-www-form-urlencoded */
	aws("POST", "https://example.amazonaws.com/", form_plain, 1, "service", "Param1=value1",
	    "content-type;host;x-amz-date",
	    "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a");
	/* the worked example of the manual: ListUsers */
	aws("GET", "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08", form, 1, "iam", "",
	    "content-type;host;x-amz-date",
	    "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(standard_webhooks_reference_signature, fresh, done),
		cmocka_unit_test_setup_teardown(the_older_header_keys_with_the_text_of_the_secret, fresh, done),
		cmocka_unit_test_setup_teardown(both_secrets_sign_after_a_rotation, fresh, done),
		cmocka_unit_test_setup_teardown(what_is_no_secret_signs_nothing, fresh, done),
		cmocka_unit_test_setup_teardown(aws_published_vectors, fresh, done),
	};

	return !!cmocka_run_group_tests_name("router_sign", tests, NULL, NULL);
}

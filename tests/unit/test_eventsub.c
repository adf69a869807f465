/* test_eventsub.c - the stand-in for Twitch signs as the recorded deliveries are signed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "eventsub.h"

/* One delivery with a secret, id, time and body of the published form; the sum was computed with
 * the openssl command line tool. */
static void a_known_delivery_has_the_known_signature(void **state)
{
	static const char body[] = "{\"challenge\":\"c\"}";
	struct eventsub_post p;

	(void)state;
	eventsub_sign(&p, "test-only-eventsub-secret", "webhook_callback_verification", "channel.follow",
		      "6b6b0001-0000-4000-8000-000000000042", 1772388000123, body, sizeof(body) - 1);
	assert_string_equal(p.headers[5], "Twitch-Eventsub-Message-Timestamp: 2026-03-01T18:00:00.123456789Z");
	assert_string_equal(p.headers[4], "Twitch-Eventsub-Message-Signature: sha256=bf79aba6f3830716ccf71c5e170ed1ecb98a80a3773cdd4c1231ba6f9dd9cf55");
	assert_string_equal(p.headers[3], "Twitch-Eventsub-Message-Type: webhook_callback_verification");
	eventsub_free(&p);
}

static void text_of_a_chat_message_is_escaped(void **state)
{
	struct eventsub_chat c = { .channel = "7", .text = "say \"hi\"\n\xc3\xa9", .badge = "moderator" };
	char *body;

	(void)state;
	body = eventsub_chat_body(&c);
	assert_non_null(strstr(body, "\"text\":\"say \\\"hi\\\"\\n\xc3\xa9\""));
	assert_non_null(strstr(body, "\"broadcaster_user_id\":\"7\""));
	assert_non_null(strstr(body, "\"set_id\":\"moderator\""));
	free(body);
}

static void ids_are_fresh_unless_given(void **state)
{
	struct eventsub_chat c = { .text = "x" };
	struct eventsub_post a, b;

	(void)state;
	eventsub_chat(&a, "secret-of-ten", &c, NULL);
	eventsub_chat(&b, "secret-of-ten", &c, NULL);
	assert_string_not_equal(a.delivery_id, b.delivery_id);
	assert_string_not_equal(a.body, b.body);
	eventsub_free(&b);
	eventsub_chat(&b, "secret-of-ten", &c, a.delivery_id);
	assert_string_equal(a.delivery_id, b.delivery_id);
	eventsub_free(&a);
	eventsub_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_known_delivery_has_the_known_signature),
		cmocka_unit_test(text_of_a_chat_message_is_escaped),
		cmocka_unit_test(ids_are_fresh_unless_given),
	};

	return !!cmocka_run_group_tests_name("eventsub", tests, NULL, NULL);
}

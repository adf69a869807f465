/* Addresses: one for each entity, one entity for each. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "common.h"

#include "entity.h"
#include "wait.h"

static struct arena *mem;

static int setup(void **state)
{
	(void)state;
	mem = arena_new(4096, 1 << 20);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_free(mem);
	return 0;
}

static struct entity entity(const char *platform, const char *server, const char *channel)
{
	return (struct entity){ str_of(platform), str_of(server), str_of(channel) };
}

static void made(struct entity e, const char *is)
{
	struct buf b = BUF(4096);
	struct entity back;
	struct str s;

	entity_make(e, &b);
	assert_int_equal(buf_str(&b, &s), 0);
	if (!str_eq(s, str_of(is)))
		fail_msg(STR_FMT ", not %s", STR_ARG(s), is);
	assert_int_equal(entity_parse(s, mem, &back), 0);
	assert_true(str_eq(back.platform, e.platform));
	assert_true(str_eq(back.server, e.server));
	assert_true(str_eq(back.channel, e.channel));
	buf_clear(&b);
}

static void addresses_are_those_of_the_contract(void **state)
{
	(void)state;
	made(entity("twitch", "", "141981764"), "twitch:141981764");
	made(entity("terminal", "", "demo"), "terminal:demo");
	made(entity("discord", "81384788765712384", "381870553235193857"),
	     "discord:81384788765712384:381870553235193857");
	made(entity("slack", "T0000SAMPLE", "C0000SAMPLE"), "slack:T0000SAMPLE:C0000SAMPLE");
	made(entity("discord", "81384788765712384", ""), "discord:81384788765712384:");
	made(entity("slack", "DM", "D024BE91L"), "slack:DM:D024BE91L");
	made(entity("twitch", "DM", "558712334"), "twitch:DM:558712334");
	made(entity("discord", "DM", ""), "discord:DM:");
	made(entity("youtube", "", "UC_x5XG1OV2P6uZZ5FSM9Ttw"), "youtube:UC_x5XG1OV2P6uZZ5FSM9Ttw");
}

/* router 20: any channel id text. */
static void ids_may_hold_anything(void **state)
{
	(void)state;
	made(entity("discord", "a:b", "c%d"), "discord:a%3Ab:c%25d");
	made(entity("discord", "a", "b:c"), "discord:a:b%3Ac");
	made(entity("discord", "a:b", "c"), "discord:a%3Ab:c");
	made(entity("twitch", "", "%3A"), "twitch:%253A");
	made(entity("twitch", "", ":"), "twitch:%3A");
	made(entity("twitch", "", "a b\n\xc3\xa9-\xf0\x9f\x98\x80"), "twitch:a b\n\xc3\xa9-\xf0\x9f\x98\x80");
}

static void entities_that_cannot_be_have_no_address(void **state)
{
	const struct entity bad[] = {
		entity("", "", "1"),        entity("twitch", "", ""), entity("twitch", "server", "1"),
		entity("discord", "", "1"), entity("slack", "", "1"), entity("terminal", "x", ""),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct buf b = BUF(100);
		struct str s;

		assert_int_equal(entity_check(bad[i]), -EINVAL);
		entity_make(bad[i], &b);
		assert_int_equal(buf_str(&b, &s), -EINVAL);
		buf_clear(&b);
	}
}

static void what_entity_make_does_not_write_is_no_address(void **state)
{
	static const char *const bad[] = {
		"",           ":",          "::",        "twitch",        "twitch:",      ":1",
		"twitch::1",  "discord::1", "discord:1", "discord:1:2:3", "twitch:1:2",   "twitch:%61",
		"twitch:%3a", "twitch:%",   "twitch:%2", "twitch:a%25%",  "twitch:%3A:1", "slack:%2:1"
	};
	struct entity e = entity("untouched", "", "");

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (entity_parse(str_of(bad[i]), mem, &e) != -EINVAL)
			fail_msg("%s was taken", bad[i]);
	assert_int_equal(entity_parse(STR_NONE, mem, &e), -EINVAL);
	assert_true(str_eq(e.platform, STR("untouched")));
}

static struct str any_part(char *room)
{
	static const char alphabet[] = "ab1:%3A25 \xc3\xa9";
	size_t n = rnd_below(12);

	for (size_t i = 0; i < n; i++)
		room[i] = alphabet[rnd_below(sizeof(alphabet) - 1)];
	return (struct str){ room, n };
}

static void every_entity_comes_back_from_its_address(void **state)
{
	static const char *const platforms[] = { "twitch", "discord", "slack", "terminal", "kick" };
	char a[16], b[16], text[128];
	unsigned whole = 0;

	(void)state;
	for (int i = 0; i < 50000; i++) {
		struct entity e = { str_of(platforms[rnd_below(ARRAY_LEN(platforms))]), any_part(a),
				    any_part(b) },
			      back;
		struct buf out = BUF(200);
		struct str s;

		entity_make(e, &out);
		if (entity_check(e) == 0) {
			assert_int_equal(buf_str(&out, &s), 0);
			memcpy(text, s.p, s.n);
			assert_int_equal(entity_parse((struct str){ text, s.n }, mem, &back), 0);
			assert_true(str_eq(back.platform, e.platform) && str_eq(back.server, e.server) &&
				    str_eq(back.channel, e.channel));
			whole++;
		} else {
			assert_int_equal(buf_str(&out, &s), -EINVAL);
		}
		buf_clear(&out);
		arena_reset(mem);
	}
	assert_true(whole > 20000);
}

static void every_address_comes_back_from_its_entity(void **state)
{
	static const char alphabet[] = "ad:::%%325A";
	unsigned whole = 0;

	(void)state;
	for (int i = 0; i < 200000; i++) {
		char text[24];
		size_t n = rnd_below(sizeof(text));
		struct entity e;
		struct buf out = BUF(200);
		struct str s;

		for (size_t k = 0; k < n; k++)
			text[k] = alphabet[rnd_below(sizeof(alphabet) - 1)];
		if (entity_parse((struct str){ text, n }, mem, &e) == 0) {
			entity_make(e, &out);
			assert_int_equal(buf_str(&out, &s), 0);
			assert_true(str_eq(s, (struct str){ text, n }));
			whole++;
		}
		buf_clear(&out);
		arena_reset(mem);
	}
	assert_true(whole > 1000);
}

static void a_full_arena_is_no_bad_address(void **state)
{
	struct entity e;

	(void)state;
	arena_fail_after(mem, 1);
	assert_int_equal(entity_parse(STR("twitch:a%3Ab"), mem, &e), -ENOBUFS);
	assert_int_equal(entity_parse(STR("twitch:a%3Ab"), mem, &e), 0);
	assert_true(str_eq(e.channel, STR("a:b")));
	assert_false(entity_is_dm(e));
	assert_int_equal(entity_parse(STR("slack:DM:D1"), mem, &e), 0);
	assert_true(entity_is_dm(e));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		TEST(addresses_are_those_of_the_contract),
		TEST(ids_may_hold_anything),
		TEST(entities_that_cannot_be_have_no_address),
		TEST(what_entity_make_does_not_write_is_no_address),
		TEST(every_entity_comes_back_from_its_address),
		TEST(every_address_comes_back_from_its_entity),
		TEST(a_full_arena_is_no_bad_address),
	};

	return !!cmocka_run_group_tests(tests, NULL, NULL);
}

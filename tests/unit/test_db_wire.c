/* test_db_wire.c - parameters on the wire, positions in the log, connection URLs; no server. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "db_private.h"

static struct db_wire *wire;

static int drop_wire(void **state)
{
	(void)state;
	free(wire);
	wire = NULL;
	return 0;
}

static struct db_wire *send(const struct db_stmt *st, struct db_param p)
{
	static const struct db_stmt unknown = { 0 };

	free(wire);
	wire = NULL;
	assert_int_equal(wire_new(&wire, st != NULL ? st : &unknown, &p, 1), 0);
	assert_int_equal(wire->n, 1);
	return wire;
}

static void assert_text(struct db_param p, const char *want)
{
	const struct db_wire *w = send(NULL, p);

	assert_int_equal(w->format[0], 0);
	assert_string_equal(w->value[0], want);
	assert_int_equal(w->length[0], strlen(want));
}

static void scalars_travel_as_text(void **state)
{
	(void)state;
	assert_text(DB_INT(0), "0");
	assert_text(DB_INT(-1), "-1");
	assert_text(DB_INT(INT64_MAX), "9223372036854775807");
	assert_text(DB_INT(INT64_MIN), "-9223372036854775808");
	assert_text(DB_BOOL(true), "t");
	assert_text(DB_BOOL(false), "f");
	assert_text(DB_STR(STR("it's \"fine\"")), "it's \"fine\"");
	assert_text(DB_STR(STR_NONE), "");
	assert_text(DB_TIME(1741505400123), "2025-03-09T07:30:00.123Z");
	assert_text(DB_BYTES(STR("\x01\xff")), "\\x01ff");
	assert_null(send(NULL, DB_NULL)->value[0]);
}

static void an_array_of_unknown_type_is_a_literal_that_quotes_every_text(void **state)
{
	struct db_param e[] = { DB_STR(STR("a\"b\\c")), DB_NULL, DB_STR(STR("NULL")), DB_STR(STR_NONE),
				DB_STR(STR("{,}")), DB_BYTES(STR("\xab")), DB_INT(-5), DB_BOOL(true), DB_TIME(0) };

	(void)state;
	assert_text(DB_ARRAY(e, ARRAY_LEN(e)), "{\"a\\\"b\\\\c\",NULL,\"NULL\",\"\",\"{,}\",\"\\\\xab\",-5,t,"
		    "1970-01-01T00:00:00.000Z}");
	assert_text(DB_ARRAY(e, 0), "{}");
}

static const struct db_stmt *of_type(Oid array)
{
	static struct db_stmt st;
	static Oid types[1];

	types[0] = array;
	st = (struct db_stmt){ .described = true, .n_types = 1, .types = types };
	return &st;
}

static void assert_binary(Oid array, struct db_param p, const char *bytes, size_t n)
{
	const struct db_wire *w = send(of_type(array), p);

	assert_int_equal(w->format[0], 1);
	assert_int_equal(w->length[0], n);
	assert_memory_equal(w->value[0], bytes, n);
}

static void an_array_of_a_known_type_travels_in_binary(void **state)
{
	struct db_param ints[] = { DB_INT(1), DB_NULL, DB_INT(-2) };
	struct db_param text[] = { DB_STR(STR("hi")) };
	struct db_param uuid[] = { DB_STR(STR("00112233-4455-6677-8899-AABBccddeeff")) };
	struct db_param when[] = { DB_TIME(946684800001) };
#define HEAD(oid, count) "\0\0\0\1" "\0\0\0\1" oid "\0\0\0" count "\0\0\0\1"

	(void)state;
	assert_binary(1016, DB_ARRAY(ints, 3), HEAD("\0\0\0\x14", "\3") "\0\0\0\x08\0\0\0\0\0\0\0\1" "\xff\xff\xff\xff"
		      "\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xfe", 20 + 12 + 4 + 12);
	assert_binary(1007, DB_ARRAY(ints, 1), HEAD("\0\0\0\x17", "\1") "\0\0\0\4\0\0\0\1", 28);
	assert_binary(1009, DB_ARRAY(text, 1), HEAD("\0\0\0\x19", "\1") "\0\0\0\2hi", 26);
	assert_binary(3807, DB_ARRAY(text, 1), HEAD("\0\0\x0e\xda", "\1") "\0\0\0\3\1hi", 27);
	assert_binary(2951, DB_ARRAY(uuid, 1), HEAD("\0\0\x0b\x86", "\1")
		      "\0\0\0\x10\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff", 40);
	assert_binary(1185, DB_ARRAY(when, 1), HEAD("\0\0\x04\xa0", "\1") "\0\0\0\x08\0\0\0\0\0\0\x03\xe8", 32);
	assert_binary(1016, DB_ARRAY(ints, 0), "\0\0\0\0" "\0\0\0\1" "\0\0\0\x14", 12);
}

static void what_does_not_fit_the_type_goes_back_to_text(void **state)
{
	struct db_param big = DB_INT(INT64_C(1) << 31), bad = DB_STR(STR("not-a-uuid")), text = DB_STR(STR("7"));

	(void)state;
	assert_int_equal(send(of_type(1007), DB_ARRAY(&big, 1))->format[0], 0);
	assert_int_equal(send(of_type(2951), DB_ARRAY(&bad, 1))->format[0], 0);
	assert_int_equal(send(of_type(1016), DB_ARRAY(&text, 1))->format[0], 0);
	assert_string_equal(wire->value[0], "{\"7\"}");
	assert_int_equal(send(of_type(1231), DB_ARRAY(&text, 1))->format[0], 0);        /* numeric[] */
}

static void what_postgresql_cannot_store_is_refused(void **state)
{
	struct db_param bad[] = { DB_STR(((struct str){ "\0", 1 })), DB_STR(STR("\xff")), DB_STR(STR("\xed\xa0\x80")),
				  DB_TIME(-1), DB_TIME(253402300800000) };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct db_param array = DB_ARRAY(&bad[i], 1);

		assert_false(db_param_ok(&bad[i]));
		assert_int_equal(wire_new(&wire, of_type(1016), &bad[i], 1), -EINVAL);
		assert_int_equal(wire_new(&wire, of_type(1009), &array, 1), -EINVAL);
	}
	assert_int_equal(wire_new(&wire, of_type(1009), bad, 65536), -EINVAL);
	assert_null(wire);
}

/* -- URLs ---------------------------------------------------------------------------------- */

static const char *option(const struct db_url *u, const char *key)
{
	for (int i = 0; i < u->n_opts; i++)
		if (strcmp(u->key[i], key) == 0)
			return u->value[i];
	return "(none)";
}

static void parse(struct db_url *u, const char *text, enum db_role role)
{
	struct err err;

	assert_int_equal(db_url_parse(u, str_of(text), role, "svc", 5000, &err), 0);
}

static void hosts_are_taken_apart(void **state)
{
	struct db_url u;

	(void)state;
	parse(&u, "postgresql://me:pw@a:5433,b.example:6,[::1]:7/db", DB_ROLE_WRITE);
	assert_int_equal(u.n_hosts, 3);
	assert_string_equal(u.hosts[0].host, "a");
	assert_string_equal(u.hosts[0].port, "5433");
	assert_string_equal(u.hosts[1].host, "b.example");
	assert_string_equal(u.hosts[2].host, "::1");
	assert_string_equal(u.hosts[2].port, "7");
	assert_string_equal(option(&u, "user"), "me");
	assert_string_equal(option(&u, "password"), "pw");
	assert_string_equal(option(&u, "dbname"), "db");
	assert_string_equal(option(&u, "host"), "(none)");
	db_url_clear(&u);
	parse(&u, "host=x,y port=5 user=u dbname=d", DB_ROLE_READ);
	assert_int_equal(u.n_hosts, 2);
	assert_string_equal(u.hosts[1].port, "5");
	db_url_clear(&u);
	parse(&u, "host=/run/pg user=u", DB_ROLE_WRITE);
	assert_int_equal(u.n_hosts, 1);
	assert_string_equal(u.hosts[0].host, "/run/pg");
	db_url_clear(&u);
}

static void tls_is_verified_unless_the_host_is_this_machine_or_the_url_says_otherwise(void **state)
{
	static const struct { const char *url, *mode; } cases[] = {
		{ "postgresql://u@127.0.0.1/d", "disable" }, { "postgresql://u@[::1]/d", "disable" },
		{ "postgresql://u@localhost/d", "disable" }, { "host=/tmp user=u", "disable" },
		{ "postgresql://u@db.example/d", "verify-full" }, { "postgresql://u@127.0.0.1,10.0.0.1/d", "verify-full" },
		{ "host=localhost hostaddr=10.0.0.1 user=u", "verify-full" },
		{ "postgresql://u@db.example/d?sslmode=require", "require" },
	};
	struct db_url u;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		parse(&u, cases[i].url, DB_ROLE_WRITE);
		assert_string_equal(option(&u, "sslmode"), cases[i].mode);
		db_url_clear(&u);
	}
}

static void sessions_do_not_depend_on_the_server_s_settings(void **state)
{
	struct db_url u;

	(void)state;
	parse(&u, "postgresql://u@127.0.0.1/d?options=-c%20work_mem%3D1MB", DB_ROLE_READ);
	assert_non_null(strstr(option(&u, "options"), "-c statement_timeout=5000"));
	assert_non_null(strstr(option(&u, "options"), "-c timezone=UTC"));
	assert_non_null(strstr(option(&u, "options"), "-c default_transaction_read_only=on"));
	assert_non_null(strstr(option(&u, "options"), "-c work_mem=1MB"));
	assert_string_equal(option(&u, "client_encoding"), "UTF8");
	assert_string_equal(option(&u, "fallback_application_name"), "svc");
	db_url_clear(&u);
	parse(&u, "postgresql://u@127.0.0.1/d", DB_ROLE_WRITE);
	assert_null(strstr(option(&u, "options"), "read_only"));
	db_url_clear(&u);
}

static void a_url_that_cannot_be_read_is_not_quoted_in_the_error(void **state)
{
	struct db_url u;
	struct err err;

	(void)state;
	assert_int_equal(db_url_parse(&u, STR("postgresql://u:secret@h:x:y/%zz"), DB_ROLE_WRITE, "svc", 1, &err), -ENOEXEC);
	assert_null(strstr(err.text, "secret"));
	assert_int_equal(err_kind(&err), ERR_BROKEN);
	db_url_clear(&u);
	assert_int_equal(db_url_parse(&u, STR("postgresql://a,b,c,d,e,f,g,h,i/d"), DB_ROLE_WRITE, "svc", 1, &err), -ENOEXEC);
	db_url_clear(&u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(scalars_travel_as_text, drop_wire),
		cmocka_unit_test_teardown(an_array_of_unknown_type_is_a_literal_that_quotes_every_text, drop_wire),
		cmocka_unit_test_teardown(an_array_of_a_known_type_travels_in_binary, drop_wire),
		cmocka_unit_test_teardown(what_does_not_fit_the_type_goes_back_to_text, drop_wire),
		cmocka_unit_test_teardown(what_postgresql_cannot_store_is_refused, drop_wire),
		cmocka_unit_test(hosts_are_taken_apart),
		cmocka_unit_test(tls_is_verified_unless_the_host_is_this_machine_or_the_url_says_otherwise),
		cmocka_unit_test(sessions_do_not_depend_on_the_server_s_settings),
		cmocka_unit_test(a_url_that_cannot_be_read_is_not_quoted_in_the_error),
	};

	return !!cmocka_run_group_tests_name("db_wire", tests, NULL, NULL);
}

/* test_config.c - settings: right values in, every mistake out, secrets never shown. */
#include "config.h"

#include "err.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

struct settings {
	struct str    name, secret, url, listen;
	unsigned char key[32];
	int64_t       count, wait_ms, room;
	bool          on;
	int           mode;
};

static const char *const modes[] = { "slow", "fast", NULL }, *const schemes[] = { "http", "https", NULL };

static const struct cfg_var vars[] = {
	CFG(struct settings, name, "TESTER_NAME", CFG_STR, "bob", "A name.", .min = 2, .max = 5),
	CFG(struct settings, secret, "TESTER_SECRET", CFG_SECRET, "", "A secret.", .min = 8, .max = 64),
	CFG(struct settings, url, "TESTER_URL", CFG_URL, "", "A place.", .choices = schemes),
	CFG(struct settings, listen, "TESTER_LISTEN", CFG_LISTEN, "", "A port."),
	CFG(struct settings, key, "SEAL_KEY", CFG_KEY,
	    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "A key."),
	CFG(struct settings, count, "COUNT_OF_THINGS", CFG_INT, "3", "How many.", .min = -5, .max = 10),
	CFG(struct settings, wait_ms, "WAIT_TIME_MS", CFG_MS, "10s", "How long.", .min = 1, .max = 7200000),
	CFG(struct settings, room, "ROOM_BYTES", CFG_BYTES, "64k", "How large."),
	CFG(struct settings, on, "SWITCH", CFG_BOOL, "no", "Whether."),
	CFG(struct settings, mode, "MODE_OF_WORK", CFG_ENUM, "fast", "Which.", .choices = modes),
	{ 0 }
};

static const struct cfg_var must[] = {
	CFG(struct settings, name, "MUST_BE_THERE", CFG_STR, NULL, "Has no default."),
	{ 0 }
};

static char dir[] = "/tmp/waddle-config-XXXXXX";

static int start_empty(void **state)
{
	(void)state;
	clearenv();
	return 0;
}

static int make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) != NULL ? 0 : -1;
}

static int remove_dir(void **state)
{
	char path[64];

	(void)state;
	snprintf(path, sizeof(path), "%s/value", dir);
	unlink(path);
	return rmdir(dir);
}

static const char *file_with(const char *text)
{
	static char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/value", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	return path;
}

static void an_empty_environment_gives_the_defaults(void **state)
{
	struct settings s = { 0 };

	(void)state;
	assert_int_equal(cfg_load(vars, &s, NULL), 0);
	assert_string_equal(s.name.p, "bob");
	assert_int_equal(s.name.n, 3);
	assert_int_equal(s.secret.n, 0);
	for (int i = 0; i < 32; i++)
		assert_int_equal(s.key[i], i);
	assert_int_equal(s.count, 3);
	assert_int_equal(s.wait_ms, 10000);
	assert_int_equal(s.room, 65536);
	assert_false(s.on);
	assert_int_equal(s.mode, 1);
	cfg_clear(vars, &s);
	assert_null(s.name.p);
	assert_int_equal(s.key[31], 0);
}

/* Loads with one variable set: 0 or -EINVAL with its complaint. */
static int with(const char *env, const char *value, struct settings *s, struct err *err)
{
	int r;

	memset(s, 0, sizeof(*s));
	memset(err, 0, sizeof(*err));
	clearenv();
	setenv(env, value, 1);
	r = cfg_load(vars, s, err);
	return r;
}

static void good_values_of_every_type_are_taken(void **state)
{
	static const struct { const char *env, *value; } good[] = {
		{ "TESTER_NAME", "al" }, { "TESTER_NAME", "caf\xc3\xa9" }, { "TESTER_NAME", "" },
		{ "TESTER_SECRET", "hunter2hunter2" },
		{ "TESTER_URL", "http://127.0.0.1:8000" }, { "TESTER_URL", "https://user:pw@example.org/x?y=z" },
		{ "TESTER_URL", "http://[::1]:80/" },
		{ "TESTER_LISTEN", "127.0.0.1:0" }, { "TESTER_LISTEN", "[::]:65535" }, { "TESTER_LISTEN", "0.0.0.0:80" },
		{ "SEAL_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=" },
		{ "SEAL_KEY", "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F" },
		{ "COUNT_OF_THINGS", "-5" }, { "COUNT_OF_THINGS", "10" },
	};
	struct settings s;
	struct err err;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		if (with(good[i].env, good[i].value, &s, &err) != 0)
			fail_msg("%s=%s: %s", good[i].env, good[i].value, err.text);
		if (strcmp(good[i].env, "SEAL_KEY") == 0)
			for (int k = 0; k < 32; k++)
				assert_int_equal(s.key[k], k);
		cfg_clear(vars, &s);
	}
}

static void times_sizes_and_switches_have_units_and_words(void **state)
{
	static const struct { const char *env, *value; int64_t expected; } cases[] = {
		{ "WAIT_TIME_MS", "250", 250 }, { "WAIT_TIME_MS", "250ms", 250 }, { "WAIT_TIME_MS", "7s", 7000 },
		{ "WAIT_TIME_MS", "5m", 300000 }, { "WAIT_TIME_MS", "1H", 3600000 },
		{ "ROOM_BYTES", "0", 0 }, { "ROOM_BYTES", "65536", 65536 }, { "ROOM_BYTES", "64K", 65536 },
		{ "ROOM_BYTES", "2m", 2 << 20 }, { "ROOM_BYTES", "1g", 1 << 30 },
		{ "SWITCH", "TRUE", 1 }, { "SWITCH", "yes", 1 }, { "SWITCH", "on", 1 }, { "SWITCH", "1", 1 },
		{ "SWITCH", "false", 0 }, { "SWITCH", "No", 0 }, { "SWITCH", "off", 0 }, { "SWITCH", "0", 0 },
		{ "MODE_OF_WORK", "slow", 0 }, { "MODE_OF_WORK", "fast", 1 },
	};
	struct settings s;
	struct err err;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int64_t v;

		assert_int_equal(with(cases[i].env, cases[i].value, &s, &err), 0);
		v = cases[i].env[0] == 'W' ? s.wait_ms :
		    cases[i].env[0] == 'R' ? s.room :
		    cases[i].env[0] == 'S' ? (int64_t)s.on :
		                             (int64_t)s.mode;
		if (v != cases[i].expected)
			fail_msg("%s=%s: %lld", cases[i].env, cases[i].value, (long long)v);
		cfg_clear(vars, &s);
	}
}

static void bad_values_of_every_type_are_named_with_the_reason(void **state)
{
	static const struct { const char *env, *value, *reason; } bad[] = {
		{ "TESTER_NAME", "a", "TESTER_NAME=a: must be between 2 and 5 bytes" },
		{ "TESTER_NAME", "abcdef", "between 2 and 5" }, { "TESTER_NAME", "a\xff", "UTF-8" },
		{ "TESTER_SECRET", "short", "between 8 and 64" },
		{ "TESTER_URL", "example.org", "not a URL" }, { "TESTER_URL", "ftp://example.org", "scheme other" },
		{ "TESTER_URL", "http://", "no host" }, { "TESTER_URL", "http:///x", "no host" },
		{ "TESTER_URL", "http://:80", "no host" }, { "TESTER_URL", "http://a b", "blanks" },
		{ "TESTER_LISTEN", "8000", "not an address" }, { "TESTER_LISTEN", ":8000", "not an address" },
		{ "TESTER_LISTEN", "localhost:80", "no address" }, { "TESTER_LISTEN", "127.0.0.1:65536", "no port" },
		{ "TESTER_LISTEN", "127.0.0.1:", "no port" }, { "TESTER_LISTEN", "::1:80", "no address" },
		{ "TESTER_LISTEN", "[127.0.0.1]:80", "no address" }, { "TESTER_LISTEN", "[]:80", "no address" },
		{ "SEAL_KEY", "0011", "not a key" }, { "SEAL_KEY", "", "must be set" },
		{ "SEAL_KEY", "zz0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "not a key" },
		{ "SEAL_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=", "not a key" },
		{ "SEAL_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8A", "not a key" },
		{ "COUNT_OF_THINGS", "", "must be set" }, { "COUNT_OF_THINGS", "eleven", "not a whole number" },
		{ "COUNT_OF_THINGS", "11", "between -5 and 10" }, { "COUNT_OF_THINGS", "-6", "between -5 and 10" },
		{ "COUNT_OF_THINGS", "3 ", "not a whole number" }, { "COUNT_OF_THINGS", "99999999999999999999", "too large" },
		{ "WAIT_TIME_MS", "0", "between 1 and 7200000 ms" }, { "WAIT_TIME_MS", "3h", "between" },
		{ "WAIT_TIME_MS", "10x", "not a time" }, { "WAIT_TIME_MS", "s", "not a time" },
		{ "WAIT_TIME_MS", "1.5s", "not a time" }, { "WAIT_TIME_MS", "9223372036854775807m", "too large" },
		{ "ROOM_BYTES", "-1", "negative" }, { "ROOM_BYTES", "1t", "not a size" },
		{ "SWITCH", "maybe", "true or false" }, { "SWITCH", "", "must be set" },
		{ "MODE_OF_WORK", "Fast", "must be one of slow, fast" },
	};
	struct settings s;
	struct err err;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (with(bad[i].env, bad[i].value, &s, &err) != -EINVAL)
			fail_msg("%s=%s passed", bad[i].env, bad[i].value);
		if (strstr(err.text, bad[i].reason) == NULL || strstr(err.text, bad[i].env) == NULL)
			fail_msg("%s=%s: %s", bad[i].env, bad[i].value, err.text);
	}
}

static void all_mistakes_come_at_once_and_nothing_is_stored(void **state)
{
	struct settings s, untouched;
	struct cfg_base base = { 0 };
	struct cfg_part parts[] = { { vars, &s }, { cfg_base_vars, &base } };
	static const char *const required[] = { "DATABASE_URL", NULL };
	struct buf complaints = BUF(4096);
	struct err err = { 0 };
	unsigned lines = 0;

	(void)state;
	memset(&untouched, 0x5a, sizeof(untouched));
	s = untouched;
	setenv("TESTER_NAME", "much too long", 1);
	setenv("COUNT_OF_THINGS", "x", 1);
	setenv("MODE_OF_WORK", "later", 1);
	setenv("LOG_LEVEL", "loud", 1);
	setenv("TESTER_LISTN", "127.0.0.1:1", 1);
	assert_int_equal(cfg_load_all(parts, 2, required, &complaints, &err), -EINVAL);
	assert_memory_equal(&s, &untouched, sizeof(s));
	assert_null(base.topic_prefix.p);
	for (size_t i = 0; i < complaints.n; i++)
		lines += complaints.p[i] == '\n';
	assert_int_equal(lines, 6);
	buf_add(&complaints, (struct str){ "", 1 });
	assert_non_null(strstr(complaints.p, "TESTER_NAME=much too long: "));
	assert_non_null(strstr(complaints.p, "COUNT_OF_THINGS=x: "));
	assert_non_null(strstr(complaints.p, "MODE_OF_WORK=later: "));
	assert_non_null(strstr(complaints.p, "LOG_LEVEL=loud: "));
	assert_non_null(strstr(complaints.p, "DATABASE_URL: must be set"));
	assert_non_null(strstr(complaints.p, "TESTER_LISTN: unknown"));
	assert_true(str_starts(str_of(err.text), STR("6 bad settings: ")));
	buf_clear(&complaints);
}

static void a_secret_is_never_part_of_a_complaint(void **state)
{
	struct settings s;
	struct err err;

	(void)state;
	assert_int_equal(with("TESTER_SECRET", "s3cr3t", &s, &err), -EINVAL);
	assert_null(strstr(err.text, "s3cr3t"));
	assert_non_null(strstr(err.text, "6 bytes"));
	assert_int_equal(with("SEAL_KEY", "deadbeef", &s, &err), -EINVAL);
	assert_null(strstr(err.text, "deadbeef"));
	assert_int_equal(with("TESTER_URL", "ftp://bob:s3cr3t@example.org", &s, &err), -EINVAL);
	assert_null(strstr(err.text, "s3cr3t"));
}

static void a_file_may_hold_the_value(void **state)
{
	struct settings s = { 0 };
	struct err err = { 0 };

	(void)state;
	setenv("TESTER_SECRET_FILE", file_with("  from a file \r\nsecond line\n"), 1);
	setenv("COUNT_OF_THINGS_FILE", file_with("  from a file \r\nsecond line\n"), 1);
	assert_int_equal(cfg_load(vars, &s, &err), -EINVAL);
	assert_non_null(strstr(err.text, "COUNT_OF_THINGS"));
	unsetenv("COUNT_OF_THINGS_FILE");
	assert_int_equal(cfg_load(vars, &s, &err), 0);
	assert_string_equal(s.secret.p, "from a file");
	cfg_clear(vars, &s);

	setenv("TESTER_SECRET", "also directly", 1);
	assert_int_equal(cfg_load(vars, &s, &err), -EINVAL);
	assert_non_null(strstr(err.text, "both set"));
	setenv("TESTER_SECRET", "", 1);                 /* as compose writes an unset one */
	assert_int_equal(cfg_load(vars, &s, &err), 0);
	assert_string_equal(s.secret.p, "from a file");
	cfg_clear(vars, &s);

	unsetenv("TESTER_SECRET");
	setenv("TESTER_SECRET_FILE", "/nowhere/at/all", 1);
	assert_int_equal(cfg_load(vars, &s, &err), -EINVAL);
	assert_non_null(strstr(err.text, "TESTER_SECRET_FILE: /nowhere/at/all: No such file"));
	setenv("TESTER_SECRET_FILE", dir, 1);
	assert_int_equal(cfg_load(vars, &s, &err), -EINVAL);
	assert_non_null(strstr(err.text, "Is a directory"));
}

static void what_has_no_default_must_be_set(void **state)
{
	struct settings s = { 0 };
	struct err err = { 0 };

	(void)state;
	assert_int_equal(cfg_load(must, &s, &err), -EINVAL);
	assert_non_null(strstr(err.text, "MUST_BE_THERE: must be set (Has no default.)"));
	setenv("MUST_BE_THERE", "", 1);
	assert_int_equal(cfg_load(must, &s, &err), -EINVAL);
	setenv("MUST_BE_THERE", "x", 1);
	assert_int_equal(cfg_load(must, &s, &err), 0);
	cfg_clear(must, &s);
}

static void a_typo_does_not_pass_and_strangers_do(void **state)
{
	static const struct { const char *env; bool ok; } cases[] = {
		{ "TESTER_NAMES", false },              /* one letter more */
		{ "TESTER_COLOUR", false },             /* a first word this table owns */
		{ "WAIT_TIEM_MS", false },              /* two letters swapped */
		{ "COUNT_OF_TINGS", false },
		{ "WAIT_FOR_IT", true },                /* "WAIT_" stands only once in the table */
		{ "TESTER", true }, { "PATH", true }, { "HTTP_PROXY", true }, { "MODE", true },
		{ "TESTER_SERVICE_HOST", true }, { "TESTER_PORT", true }, { "TESTER_SERVICE_PORT_HTTP", true },
		{ "TESTER_PORT_8000_TCP_ADDR", true }, { "KAFKA_ANYTHING", true }, { "SWITCHED", true },
		{ "TESTER_SECRET_FILE", true },
	};
	struct settings s;
	struct err err;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int r = with(cases[i].env, "", &s, &err);

		if ((r == 0) != cases[i].ok)
			fail_msg("%s: %d %s", cases[i].env, r, err.text);
		if (r == 0)
			cfg_clear(vars, &s);
	}
}

static void the_common_settings_have_sensible_defaults(void **state)
{
	struct cfg_base b = { 0 };
	struct err err = { 0 };

	(void)state;
	if (cfg_load(cfg_base_vars, &b, &err) != 0)
		fail_msg("%s", err.text);
	assert_string_equal(b.kafka_brokers.p, "127.0.0.1:9092");
	assert_string_equal(b.topic_prefix.p, "waddle");
	assert_int_equal(b.database_pool_write, 8);
	assert_int_equal(b.database_pool_read, 4);
	assert_int_equal(b.drain_timeout_ms, 15000);
	assert_int_equal(b.log_level, 1);
	cfg_clear(cfg_base_vars, &b);
}

static void every_common_setting_has_help_and_a_sound_default(void **state)
{
	(void)state;
	for (const struct cfg_var *v = cfg_base_vars; v->env != NULL; v++) {
		size_t n = strlen(v->help);

		if (n < 20 || v->help[n - 1] != '.')
			fail_msg("%s: help \"%s\"", v->env, v->help);
		if (v->type == CFG_INT || v->type == CFG_MS || v->type == CFG_BYTES)
			assert_true(v->max > v->min);
		for (const struct cfg_var *w = cfg_base_vars; w != v; w++)
			assert_string_not_equal(v->env, w->env);
	}
}

static struct { char text[512]; size_t n; } seen;

static void note(void *arg, const char *name, const char *value)
{
	assert_ptr_equal(arg, &seen);
	seen.n += (size_t)snprintf(seen.text + seen.n, sizeof(seen.text) - seen.n, "%s=%s;", name, value);
}

static void kafka_settings_are_handed_on_by_their_own_names(void **state)
{
	struct settings s = { 0 };
	struct err err = { 0 };

	(void)state;
	seen.n = 0;
	seen.text[0] = '\0';
	setenv("KAFKA_SECURITY_PROTOCOL", "ssl", 1);
	cfg_each_kafka(note, &seen);
	assert_string_equal(seen.text, "security.protocol=ssl;");

	seen.n = 0;
	clearenv();
	setenv("KAFKA_LOG_LEVEL", "7", 1);
	setenv("KAFKA_BROKERS", "a:1", 1);
	setenv("KAFKA_HOME", "/x", 1);
	setenv("KAFKA_HEAP_OPTS", "-Xmx1g", 1);
	setenv("KAFKA_SERVICE_HOST", "10.0.0.1", 1);
	setenv("KAFKA_PORT", "tcp://10.0.0.1:9092", 1);
	setenv("KAFKA_", "x", 1);
	setenv("KAFKA_SASL_PASSWORD_FILE", file_with("pass word\n"), 1);
	cfg_each_kafka(note, &seen);
	assert_true(strcmp(seen.text, "log_level=7;sasl.password=pass word;") == 0 ||
	            strcmp(seen.text, "sasl.password=pass word;log_level=7;") == 0);

	setenv("KAFKA_SASL_PASSWORD_FILE", "/nowhere", 1);
	assert_int_equal(cfg_load(vars, &s, &err), -EINVAL);
	assert_non_null(strstr(err.text, "KAFKA_SASL_PASSWORD_FILE: /nowhere"));
}

#define CLEAN(test) cmocka_unit_test_setup(test, start_empty)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CLEAN(an_empty_environment_gives_the_defaults),
		CLEAN(good_values_of_every_type_are_taken),
		CLEAN(times_sizes_and_switches_have_units_and_words),
		CLEAN(bad_values_of_every_type_are_named_with_the_reason),
		CLEAN(all_mistakes_come_at_once_and_nothing_is_stored),
		CLEAN(a_secret_is_never_part_of_a_complaint),
		CLEAN(a_file_may_hold_the_value),
		CLEAN(what_has_no_default_must_be_set),
		CLEAN(a_typo_does_not_pass_and_strangers_do),
		CLEAN(the_common_settings_have_sensible_defaults),
		CLEAN(every_common_setting_has_help_and_a_sound_default),
		CLEAN(kafka_settings_are_handed_on_by_their_own_names),
	};

	return !!cmocka_run_group_tests(tests, make_dir, remove_dir);
}

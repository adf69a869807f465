/* config_value.c - what each type of setting accepts, and the variables every service has. */
#include "config_value.h"

#include "err.h"

#include <arpa/inet.h>

static int check_range(const struct cfg_var *v, int64_t n, const char *unit, struct err *err)
{
	if ((v->min == 0 && v->max == 0) || (n >= v->min && n <= v->max))
		return 0;
	return err_set(err, -EINVAL, "must be between %lld and %lld%s", (long long)v->min, (long long)v->max,
	               unit);
}

struct unit { struct str name; int64_t times; };

/* A number with an optional unit behind it. */
static int parse_number(struct str text, const struct unit *units, int64_t *ret, const char *expected,
                        struct err *err)
{
	struct str digits = text;
	int64_t times = 1;
	int r;

	for (const struct unit *u = units; u != NULL && u->name.n > 0; u++) {
		size_t n = u->name.n;

		if (text.n > n && str_eq_fold((struct str){ text.p + text.n - n, n }, u->name)) {
			digits.n = text.n - n;
			times = u->times;
			break;
		}
	}
	r = str_int(digits, INT64_MIN / times, INT64_MAX / times, ret);
	if (r == -ERANGE)
		return err_set(err, -EINVAL, "is too large");
	if (r < 0)
		return err_set(err, -EINVAL, "is not %s", expected);
	*ret *= times;
	return 0;
}

static int parse_bool(struct str text, bool *ret)
{
	static const char *const words[] = { "false", "true", "no", "yes", "off", "on", "0", "1" };

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (str_eq_fold(text, str_of(words[i]))) {
			*ret = i % 2 == 1;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_choice(const struct cfg_var *v, struct str text, int *ret, struct err *err)
{
	struct buf names = BUF(160);
	int r = -EINVAL;

	for (int i = 0; v->choices[i] != NULL; i++) {
		buf_printf(&names, "%s%s", i > 0 ? ", " : "", v->choices[i]);
		if (str_eq(text, str_of(v->choices[i]))) {
			*ret = i;
			r = 0;
		}
	}
	if (r < 0)
		err_set(err, r, "must be one of %.*s", (int)names.n, names.n > 0 ? names.p : "");
	buf_clear(&names);
	return r;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' :
	       c >= 'a' && c <= 'f' ? c - 'a' + 10 :
	       c >= 'A' && c <= 'F' ? c - 'A' + 10 :
	                              -1;
}

static int base64_digit(char c)
{
	return c >= 'A' && c <= 'Z' ? c - 'A' :
	       c >= 'a' && c <= 'z' ? c - 'a' + 26 :
	       c >= '0' && c <= '9' ? c - '0' + 52 :
	       c == '+'             ? 62 :
	       c == '/'             ? 63 :
	                              -1;
}

static int parse_key(struct str text, unsigned char key[32])
{
	unsigned bits = 0, have = 0, n = 0;

	if (text.n == 64) {
		for (size_t i = 0; i < 32; i++) {
			int hi = hex_digit(text.p[2 * i]), lo = hex_digit(text.p[2 * i + 1]);

			if (hi < 0 || lo < 0)
				return -EINVAL;
			key[i] = (unsigned char)(hi << 4 | lo);
		}
		return 0;
	}
	if (text.n != 44 || text.p[43] != '=')
		return -EINVAL;
	for (size_t i = 0; i < 43; i++) {
		int d = base64_digit(text.p[i]);

		if (d < 0)
			return -EINVAL;
		bits = bits << 6 | (unsigned)d;
		have += 6;
		if (have >= 8) {
			have -= 8;
			key[n++] = (unsigned char)(bits >> have);
			bits &= (1u << have) - 1;
		}
	}
	return n == 32 && bits == 0 ? 0 : -EINVAL;
}

/* scheme://[user[:password]@]host[...] */
static int check_url(const struct cfg_var *v, struct str url, struct err *err)
{
	const char *sep = memmem(url.p, url.n, "://", 3);
	struct str scheme = { url.p, sep != NULL ? (size_t)(sep - url.p) : 0 }, host, user, rest;
	bool known = v->choices == NULL;

	if (scheme.n == 0)
		return err_set(err, -EINVAL, "is not a URL with a scheme");
	for (const char *const *c = v->choices; c != NULL && *c != NULL; c++)
		known = known || str_eq(scheme, str_of(*c));
	if (!known)
		return err_set(err, -EINVAL, "has a scheme other than %s%s", v->choices[0],
		               v->choices[1] != NULL ? " (and others, see --help)" : "");
	host = str_cut((struct str){ sep + 3, url.n - scheme.n - 3 }, '/', &rest);
	user = str_cut(host, '@', &rest);
	if (rest.p != NULL)
		host = rest;
	(void)user;
	for (size_t i = 0; i < url.n; i++)
		if ((unsigned char)url.p[i] <= ' ' || url.p[i] == 0x7f)
			return err_set(err, -EINVAL, "has blanks or control characters");
	if (host.n == 0 || host.p[0] == ':' || host.p[0] == '?' || host.p[0] == '#')
		return err_set(err, -EINVAL, "has no host");
	return 0;
}

/* Addresses only: a name would have to be looked up, and may become several. */
static int check_listen(struct str text, struct err *err)
{
	const char *colon = memrchr(text.p, ':', text.n);
	char host[64];
	struct in6_addr ignored;
	int64_t port;
	size_t n;
	int family = AF_INET;

	if (colon == NULL || colon == text.p)
		return err_set(err, -EINVAL, "is not an address with a port, like 127.0.0.1:8000");
	n = (size_t)(colon - text.p);
	if (str_int((struct str){ colon + 1, text.n - n - 1 }, 0, 65535, &port) < 0)
		return err_set(err, -EINVAL, "has no port between 0 and 65535");
	if (text.p[0] == '[' && text.p[n - 1] == ']') {
		family = AF_INET6;
		text.p++;
		n -= 2;
	}
	if (n >= sizeof(host))
		return err_set(err, -EINVAL, "has a host that is no address");
	memcpy(host, text.p, n);
	host[n] = '\0';
	if (inet_pton(family, host, &ignored) != 1)
		return err_set(err, -EINVAL, "has a host that is no address; 0.0.0.0 or [::] means all");
	return 0;
}

static int parse_scaled(const struct cfg_var *v, struct str text, void *field, struct err *err)
{
	static const struct unit ms[] = {
		{ STR("ms"), 1 }, { STR("s"), 1000 }, { STR("m"), 60000 }, { STR("h"), 3600000 }, { STR(""), 0 }
	};
	static const struct unit bytes[] = {
		{ STR("k"), 1 << 10 }, { STR("m"), 1 << 20 }, { STR("g"), 1 << 30 }, { STR(""), 0 }
	};
	int64_t n = 0;
	int r;

	if (v->type == CFG_MS)
		r = parse_number(text, ms, &n, "a time, like 250ms, 10s or 5m", err);
	else if (v->type == CFG_BYTES)
		r = parse_number(text, bytes, &n, "a size in bytes, like 65536, 64k or 1m", err);
	else
		r = parse_number(text, NULL, &n, "a whole number", err);
	if (r == 0 && v->type != CFG_INT && n < 0)
		r = err_set(err, -EINVAL, "is negative");
	if (r == 0)
		r = check_range(v, n, v->type == CFG_MS ? " ms" : v->type == CFG_BYTES ? " bytes" : "", err);
	if (r == 0 && field != NULL)
		memcpy(field, &n, sizeof(n));
	return r;
}

int cfg_value_parse(const struct cfg_var *v, struct str text, void *field, struct err *err)
{
	unsigned char key[32];
	bool yes;
	int choice, r;

	switch (v->type) {
	case CFG_STR:
	case CFG_SECRET:
	case CFG_URL:
	case CFG_LISTEN:
		if (text.n == 0)
			return 0;
		if (!str_utf8_ok(text))
			return err_set(err, -EINVAL, "is not UTF-8");
		r = check_range(v, (int64_t)text.n, " bytes", err);
		if (r == 0 && v->type == CFG_URL)
			r = check_url(v, text, err);
		if (r == 0 && v->type == CFG_LISTEN)
			r = check_listen(text, err);
		return r;
	case CFG_KEY:
		if (parse_key(text, key) < 0)
			return err_set(err, -EINVAL, "is not a key of 64 hex digits or 44 base64 characters");
		if (field != NULL)
			memcpy(field, key, sizeof(key));
		explicit_bzero(key, sizeof(key));
		return 0;
	case CFG_INT:
	case CFG_MS:
	case CFG_BYTES:
		return parse_scaled(v, text, field, err);
	case CFG_BOOL:
		if (parse_bool(text, &yes) < 0)
			return err_set(err, -EINVAL, "must be true or false");
		if (field != NULL)
			memcpy(field, &yes, sizeof(yes));
		return 0;
	case CFG_ENUM:
		r = parse_choice(v, text, &choice, err);
		if (r == 0 && field != NULL)
			memcpy(field, &choice, sizeof(choice));
		return r;
	}
	return err_set(err, -EINVAL, "has no type");
}

bool cfg_value_is_secret(const struct cfg_var *v, struct str text)
{
	return v->type == CFG_SECRET || v->type == CFG_KEY ||
	       (text.n > 0 && memchr(text.p, '@', text.n) != NULL);
}

/* Optimal string alignment, three rows of it. */
unsigned cfg_distance(struct str a, struct str b)
{
	unsigned char rows[3][65], *prev2 = rows[0], *prev = rows[1], *row = rows[2], *spare;

	if (a.n > 64 || b.n > 64 || a.n > b.n + 2 || b.n > a.n + 2)
		return 3;
	for (size_t j = 0; j <= b.n; j++)
		prev[j] = (unsigned char)j;
	memcpy(prev2, prev, sizeof(rows[0]));
	for (size_t i = 1; i <= a.n; i++) {
		row[0] = (unsigned char)i;
		for (size_t j = 1; j <= b.n; j++) {
			unsigned best = prev[j - 1] + (a.p[i - 1] != b.p[j - 1] ? 1u : 0u);

			if (prev[j] + 1u < best)
				best = prev[j] + 1u;
			if (row[j - 1] + 1u < best)
				best = row[j - 1] + 1u;
			if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] && a.p[i - 2] == b.p[j - 1] &&
			    prev2[j - 2] + 1u < best)
				best = prev2[j - 2] + 1u;
			row[j] = (unsigned char)best;
		}
		spare = prev2;
		prev2 = prev;
		prev = row;
		row = spare;
	}
	return prev[b.n] < 3 ? prev[b.n] : 3;
}

static const char *const http_schemes[] = { "http", "https", NULL };
static const char *const level_names[] = { "debug", "info", "warn", "error", NULL };   /* enum log_level */

/* DATABASE_URL is a secret and not a CFG_URL: it may hold a password, and may be any conninfo
 * string of libpq, such as "host=/run/postgresql dbname=waddle". */
const struct cfg_var cfg_base_vars[] = {
	CFG(struct cfg_base, kafka_brokers, "KAFKA_BROKERS", CFG_STR, "127.0.0.1:9092",
	    "Kafka brokers to ask first, host:port, separated by commas.  Any other KAFKA_NAME is given "
	    "to librdkafka: KAFKA_SECURITY_PROTOCOL=ssl sets security.protocol."),
	CFG(struct cfg_base, topic_prefix, "TOPIC_PREFIX", CFG_STR, "waddle",
	    "First word of all topics and groups; two installations can share brokers.", .min = 1, .max = 64),
	CFG(struct cfg_base, database_url, "DATABASE_URL", CFG_SECRET, "",
	    "PostgreSQL to write to: postgresql://user:password@address:port/database or a conninfo string."),
	CFG(struct cfg_base, database_read_url, "DATABASE_READ_URL", CFG_SECRET, "",
	    "Replicas to read from, several hosts separated by commas; empty: the one to write to."),
	CFG(struct cfg_base, database_pool_write, "DATABASE_POOL_WRITE", CFG_INT, "8",
	    "Connections for writing.", .min = 1, .max = 100),
	CFG(struct cfg_base, database_pool_read, "DATABASE_POOL_READ", CFG_INT, "4",
	    "Connections for reading.", .min = 1, .max = 100),
	CFG(struct cfg_base, http_listen, "HTTP_LISTEN", CFG_LISTEN, "",
	    "Address and port of the public listener, like 127.0.0.1:8000; empty: none."),
	CFG(struct cfg_base, admin_listen, "ADMIN_LISTEN", CFG_LISTEN, "",
	    "Address and port of /healthz, /readyz and /metrics, like 127.0.0.1:9100; empty: none."),
	CFG(struct cfg_base, router_url, "ROUTER_URL", CFG_URL, "",
	    "Where the router's HTTP interface is, like http://127.0.0.1:8000.", .choices = http_schemes),
	CFG(struct cfg_base, service_key, "SERVICE_KEY", CFG_SECRET, "",
	    "The key this service shows to others; made by `waddle keys create`."),
	CFG(struct cfg_base, public_url, "PUBLIC_URL", CFG_URL, "",
	    "How people and platforms reach this service from outside.", .choices = http_schemes),
	CFG(struct cfg_base, sealing_key_file, "SEALING_KEY_FILE", CFG_STR, "",
	    "File with the keys that seal tokens in the database."),
	CFG(struct cfg_base, instance, "INSTANCE", CFG_STR, "",
	    "Name of this process among its like; empty: host name and process id.", .min = 1, .max = 128),
	CFG(struct cfg_base, drain_timeout_ms, "DRAIN_TIMEOUT_MS", CFG_MS, "15s",
	    "How long a stopping process may take to finish what it holds.", .min = 100, .max = 600000),
	CFG(struct cfg_base, log_level, "LOG_LEVEL", CFG_ENUM, "info",
	    "Least serious lines to log; SIGUSR1 switches debug on and off.", .choices = level_names),
	{ 0 }
};

/* ids.c - names of things, hashed into ids.  The names are fixed for ever: router.md section 1. */
#include "ids.h"

#include "crypto.h"

struct number {
	char text[24];
};

static struct str decimal(int64_t v, struct number *room)
{
	int n = snprintf(room->text, sizeof(room->text), "%lld", (long long)v);

	return (struct str){ room->text, (size_t)n };
}

void id_execution(struct str event_id, int64_t command_id, int64_t rule_id, char out[ID_TEXT])
{
	struct number command = { "" }, rule = { "" };
	const struct str name[] = {
		STR("exec/"),
		event_id,
		rule_id != 0 ? STR("/rule/") : STR_NONE,
		rule_id != 0 ? decimal(rule_id, &rule) : STR_NONE,
		STR("/"),
		decimal(command_id, &command),
	};

	crypto_uuid5(name, ARRAY_LEN(name), out);
}

void id_session(struct str event_id, char out[ID_TEXT])
{
	crypto_uuid5((const struct str[]){ STR("session/"), event_id }, 2, out);
}

void id_outbound(struct str execution_id, int64_t index, int part, char out[ID_TEXT])
{
	struct number i = { "" }, p = { "" };
	const struct str name[] = {
		STR("out/"), execution_id,      STR("/"), index < 0 ? STR("n") : decimal(index, &i),
		STR("/"),    decimal(part, &p),
	};

	crypto_uuid5(name, ARRAY_LEN(name), out);
}

void id_overlay(struct str execution_id, int64_t index, char out[ID_TEXT])
{
	struct number i = { "" };
	const struct str name[] = { STR("overlay/"), execution_id, STR("/"), decimal(index, &i) };

	crypto_uuid5(name, ARRAY_LEN(name), out);
}

void id_rule_webhook(struct str event_id, int64_t rule_id, char out[ID_TEXT])
{
	struct number rule = { "" };
	const struct str name[] = { STR("rule/"), event_id, STR("/"), decimal(rule_id, &rule) };

	crypto_uuid5(name, ARRAY_LEN(name), out);
}

/* Random bytes for what need not be secret, drawn from the generator by the page: one draw each
 * would cost as much as the rest of a message. */
static void some_bytes(unsigned char *p, size_t n)
{
	static unsigned char pool[1024];
	static size_t left;

	if (left < n) {
		crypto_random(pool, sizeof(pool));
		left = sizeof(pool);
	}
	left -= n;
	memcpy(p, pool + left, n);
}

void id_random(char out[ID_TEXT])
{
	unsigned char b[16];

	some_bytes(b, sizeof(b));
	crypto_uuid_text(b, 4, out);
}

/* W3C Trace Context 3.2: lower case only, neither id all zeros; version ff is none, and a higher
 * one than 00 may go on behind a dash. */
bool trace_ok(struct str t)
{
	unsigned char version, flags, trace[16], span[8];
	const unsigned char zero[16] = { 0 };

	if (t.n < 55 || t.p[2] != '-' || t.p[35] != '-' || t.p[52] != '-')
		return false;
	for (size_t i = 0; i < 55; i++)
		if (t.p[i] >= 'A' && t.p[i] <= 'F')
			return false;
	if (crypto_unhex((struct str){ t.p, 2 }, &version, 1) != 0 ||
	    crypto_unhex((struct str){ t.p + 3, 32 }, trace, 16) != 0 ||
	    crypto_unhex((struct str){ t.p + 36, 16 }, span, 8) != 0 ||
	    crypto_unhex((struct str){ t.p + 53, 2 }, &flags, 1) != 0)
		return false;
	if (version == 0xff || (t.n > 55 && (version == 0 || t.p[55] != '-')))
		return false;
	return memcmp(trace, zero, 16) != 0 && memcmp(span, zero, 8) != 0;
}

void trace_next(struct str parent, char out[TRACE_TEXT])
{
	unsigned char b[24];
	bool known = trace_ok(parent);
	unsigned char flags = 1;

	do
		some_bytes(b, sizeof(b));
	while (b[0] == 0 || b[16] == 0); /* never all zeros */
	memcpy(out, "00-", 3);
	crypto_hex(b, 16, out + 3);
	if (known) {
		memcpy(out + 3, parent.p + 3, 32);
		(void)!crypto_unhex((struct str){ parent.p + 53, 2 }, &flags, 1);
	}
	out[35] = '-';
	crypto_hex(b + 16, 8, out + 36);
	memcpy(out + 52, flags & 1 ? "-01" : "-00", 4);
}

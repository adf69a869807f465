/* Any bytes as JSON, the first of them choosing the table.
 *      never a crash, never a byte beyond the input;
 *      what the scan takes, json-c takes - the only thing it may find is a key twice;
 *      what was decoded can be encoded, and then decoded to the same text again;
 *      the text of a raw member is one whole JSON value;
 *      a refusal leaves nothing in the arena. */
#include "common.h"

#include <json-c/json.h>

#include "clock.h"
#include "decode.h"
#include "envelope.h"
#include "err.h"
#include "json_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct all {
	struct str text, id, any, object;
	int64_t number, at_ms;
	bool yes;
	int colour;
	uint32_t flags;
	struct js_list words, parts;
};
struct part {
	struct str name, any;
};

static const char *const colours[] = { "red", "green", "blue", NULL };
static const struct js_field part_fields[] = { JS(struct part, name, JS_STR, .optional = true, .max = 3),
					       JS(struct part, any, JS_RAW, .optional = true),
					       { 0 } };
static const struct js_field all_fields[] = {
	JS(struct all, text, JS_STR, .optional = true),
	JS(struct all, id, JS_UUID, .optional = true),
	JS(struct all, any, JS_RAW, .optional = true),
	JS(struct all, object, JS_RAW_OBJECT, .optional = true),
	JS(struct all, number, JS_INT, .optional = true),
	JS_AS("at", struct all, at_ms, JS_TIME, .optional = true),
	JS(struct all, yes, JS_BOOL, .optional = true),
	JS(struct all, colour, JS_ENUM, .optional = true, .names = colours, .absent = 1),
	JS(struct all, flags, JS_FLAGS, .optional = true, .names = colours),
	JS(struct all, words, JS_STRS, .optional = true),
	JS(struct all, parts, JS_OBJECTS, .optional = true, .size = sizeof(struct part),
	   .fields = part_fields),
	{ 0 }
};

static union {
	struct all all;
	struct event event;
	struct command_msg command;
	struct response response;
	struct outbound outbound;
	struct overlay overlay;
	struct activity activity;
	struct delivery delivery;
	struct registry registry;
} out;

/* STRICT of json-c 0.18 takes every byte above 0x7f for a control character. */
enum { STRICT = JSON_C_VERSION_NUM == 18 << 8 ? 0 : JSON_TOKENER_STRICT };

static bool json_c_takes(struct str text)
{
	struct json_tokener *tok = json_tokener_new_ex(JSON_DEPTH + 1);
	struct json_object *o;
	bool good;

	json_tokener_set_flags(tok, STRICT | JSON_TOKENER_VALIDATE_UTF8);
	o = json_tokener_parse_ex(tok, text.p, (int)text.n);
	good = o != NULL && json_tokener_get_error(tok) == json_tokener_success;
	json_object_put(o);
	json_tokener_free(tok);
	return good;
}

static void check_raw(struct str raw)
{
	static struct json_scan scan;
	struct buf b = BUF(JSON_TEXT_MAX);
	struct str s;

	if (raw.n == 0)
		return;
	buf_add(&b, STR("["));
	buf_add(&b, raw);
	buf_add(&b, STR("]"));
	ASSERT(buf_str(&b, &s) == 0);
	/* One level more than it had: at the deepest place that is one too many. */
	ASSERT(json_scan(&scan, s) == 0 || strcmp(scan.why, "nested too deeply") == 0);
	buf_clear(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct arena *mem, *again;
	static struct json_scan scan;
	const struct js_field *fields = all_fields;
	struct buf first = BUF(64 << 20), second = BUF(64 << 20);
	struct str text, a, b;
	struct err err = { 0 };
	int r;

	if (mem == NULL) {
		mem = arena_new(65536, 256 << 20);
		again = arena_new(65536, 256 << 20);
	}
	if (size == 0)
		return 0;
	if (data[0] < ENV_COUNT)
		fields = envelope_fields[data[0]];
	text = (struct str){ (const char *)data + 1, size - 1 };
	if (json_scan(&scan, text) == 0)
		ASSERT(json_c_takes(text));
	r = js_decode(text, fields, &out, mem, &err);
	if (r != 0) {
		ASSERT(r == -EBADMSG || r == -EINVAL || r == -ENOBUFS);
		ASSERT(err.code == r && err.text[0] != '\0' && str_utf8_ok(str_of(err.text)));
		ASSERT(arena_used(mem) == 0);
		return 0;
	}
	if (fields == all_fields) {
		check_raw(out.all.any);
		check_raw(out.all.object);
		for (size_t i = 0; i < out.all.parts.n; i++)
			check_raw(((struct part *)out.all.parts.items)[i].any);
	}
	js_encode(fields, &out, &first);
	ASSERT(buf_str(&first, &a) == 0);
	r = js_decode(a, fields, &out, again, &err);
	ASSERT(r == 0);
	js_encode(fields, &out, &second);
	ASSERT(buf_str(&second, &b) == 0);
	ASSERT(str_eq(a, b));
	buf_clear(&first);
	buf_clear(&second);
	arena_reset(mem);
	arena_reset(again);
	return 0;
}

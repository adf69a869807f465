/* Any bytes as a message: lines "name: value" are headers, an empty line, the rest is the body.
 *      never a crash; a refusal has a code that is documented and a reason of the closed list;
 *      what was decoded can be sent again, and then means the same. */
#include "common.h"

#include "clock.h"
#include "envelope.h"
#include "err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static union {
	struct event event;
	struct command_msg command;
	struct response response;
	struct outbound outbound;
	struct overlay overlay;
	struct activity activity;
	struct delivery delivery;
	struct registry registry;
} out;

enum { HEADERS_MAX = 16 };

static struct str take_headers(struct str text, struct bus_header *h, char (*names)[64], size_t *n)
{
	struct str line, value;

	for (*n = 0; *n < HEADERS_MAX; ++*n) {
		struct str name;

		line = str_cut(text, '\n', &text);
		if (line.n == 0)
			break;
		name = str_cut(line, ':', &value);
		if (name.n >= sizeof(names[0]) || memchr(name.p, '\0', name.n) != NULL)
			name.n = 0;
		memcpy(names[*n], name.p, name.n);
		names[*n][name.n] = '\0';
		h[*n] = (struct bus_header){ names[*n], str_trim(value) };
	}
	return text;
}

static void check_refusal(enum envelope_kind kind, int r, const struct err *err)
{
	static const char *const reasons[] = { "bad_json", "bad_event", "bad_response", "too_large" };
	bool known = false;

	ASSERT(r == -EBADMSG || r == -EINVAL || r == -EMSGSIZE || r == -ETIME || r == -ENODATA);
	ASSERT(err->code == r && str_utf8_ok(str_of(err->text)));
	for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
		known = known || strcmp(envelope_reason(kind, r), reasons[i]) == 0;
	ASSERT(known);
}

static void sent_again(enum envelope_kind kind, const struct envelope *env, struct arena *mem)
{
	struct buf first = BUF(8 << 20), second = BUF(8 << 20);
	struct envelope_headers headers;
	struct bus_msg m = { .sent_at_ms = 1 };
	struct envelope back;
	struct err err = { 0 };
	struct str b;
	int r;

	js_encode(envelope_fields[kind], &out, &first);
	ASSERT(buf_str(&first, &m.value) == 0);
	envelope_headers(env, &out, &headers);
	m.headers = headers.h;
	m.n_headers = headers.n;
	r = envelope_decode(&m, kind, &back, &out, mem, &err);
	if (r == -EMSGSIZE) { /* defaults filled in made it longer than a body may be */
		buf_clear(&first);
		return;
	}
	ASSERT(r == 0);
	ASSERT(back.lsn == env->lsn && back.deadline_ms == env->deadline_ms && back.time_ms == env->time_ms);
	ASSERT(str_eq(back.traceparent, env->traceparent) && str_eq(back.reply_topic, env->reply_topic));
	js_encode(envelope_fields[kind], &out, &second);
	ASSERT(buf_str(&second, &b) == 0);
	ASSERT(str_eq(m.value, b));
	buf_clear(&first);
	buf_clear(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct arena *mem;
	struct bus_header headers[HEADERS_MAX];
	char names[HEADERS_MAX][64];
	struct bus_msg m = { .sent_at_ms = 1772388000000, .headers = headers };
	struct envelope env;
	enum envelope_kind kind;
	struct err err = { 0 };
	int r;

	if (mem == NULL)
		mem = arena_new(65536, 64 << 20);
	clock_fake(1772388000000);
	m.value = take_headers((struct str){ (const char *)data, size }, headers, names, &m.n_headers);
	if (envelope_kind(&m, &kind) != 0)
		kind = ENV_EVENT;
	r = envelope_decode(&m, kind, &env, &out, mem, &err);
	if (r != 0)
		check_refusal(kind, r, &err);
	else if (env.time_ms > 0)
		sent_again(kind, &env, mem);
	arena_reset(mem);
	err = (struct err){ 0 };
	r = envelope_decode(&m, kind, NULL, &out, mem, &err);
	if (r != 0)
		check_refusal(kind, r, &err);
	arena_reset(mem);
	return 0;
}

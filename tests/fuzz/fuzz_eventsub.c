/* Any bytes as the body of a signed delivery:
 *      never a crash; what is to be forwarded is a message that a receiver takes, and what is
 *      kept is the delivery, or its ids where it is too large. */
#include "common.h"

#include "../../services/collector-twitch/eventsub.h"
#include "err.h"
#include "repair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct event again;

static void forwarded(const struct mapped *m, struct arena *mem)
{
	struct buf b = BUF(BUS_BODY_MAX);
	struct err err = { 0 };
	struct str text;

	js_encode(envelope_fields[ENV_EVENT], &m->event, &b);
	ASSERT(buf_str(&b, &text) == 0);
	ASSERT(js_decode(text, envelope_fields[ENV_EVENT], &again, mem, &err) == 0);
	ASSERT(event_check(&again, 0, mem, &err) == 0);
	ASSERT(str_eq(again.dedupe_key, m->event.dedupe_key));
	buf_clear(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *mem = arena_new(64 * 1024, 64 << 20);
	const struct eventsub_in from = {
		.message_id = STR("0b7a1c1e-0000-4000-8000-000000000001"), .bot_user_id = STR("99"), .received_at_ms = 1772388000000,
	};
	struct str json = repair_json((struct str){ (const char *)data, size }, mem);
	struct eventsub e;
	struct mapped m;
	struct err err = { 0 };
	int r;

	ASSERT(size == 0 || json.p != NULL);
	r = eventsub_decode(json, &e, mem, &err);
	ASSERT(r == 0 || r == -EBADMSG || r == -EINVAL || r == -EMSGSIZE);
	if (r == 0) {
		struct eventsub kept;

		ASSERT(eventsub_map(&e, &from, json, &m, mem, &err) == 0);
		ASSERT(m.in.raw.n > 0 && m.in.raw.n <= 256 * 1024 && m.in.event == &m.event);
		if (m.in.raw.p == json.p)
			ASSERT(eventsub_decode(m.in.raw, &kept, mem, &err) == 0);
		if (m.in.forward && m.channel_id.n > 0)
			forwarded(&m, mem);
	}
	arena_free(mem);
	return 0;
}

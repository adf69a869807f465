/* bench_decode - how many events a second one core turns from JSON into a struct.
 *
 * Floor: json-c alone, one tokener used again and again, objects freed.  Ours: the strict scan,
 * json-c, the table, the event's own rules, all texts copied to an arena that is reset per event. */
#include "common.h"

#include <json-c/json.h>

#include "arena.h"
#include "crypto.h"
#include "envelope.h"
#include "ids.h"
#include "lib.h"

static const char sample[] =
	"{\"event_id\":\"twitch:8b0e2a54-0000-4000-8000-000000000001\","
	"\"dedupe_key\":\"twitch:chat:cc106a89-1814-919d-454c-f4f2f970aae7\",\"platform\":\"twitch\","
	"\"server_id\":null,\"channel_id\":\"141981764\",\"entity\":\"twitch:141981764\","
	"\"user\":{\"id\":\"558712334\",\"name\":\"some_viewer\",\"display_name\":\"Some_Viewer\","
	"\"roles\":[\"vip\",\"subscriber\",\"member\"]},\"message_type\":\"chatMessage\","
	"\"message_content\":\"did you see that last round, it was close\",\"amount\":null,"
	"\"occurred_at\":\"2026-03-01T18:00:00.123Z\",\"received_at\":\"2026-03-01T18:00:00.456Z\","
	"\"reply_ref\":\"cc106a89-1814-919d-454c-f4f2f970aae7\","
	"\"metadata\":{\"message_id\":\"cc106a89-1814-919d-454c-f4f2f970aae7\",\"color\":\"#00FF7F\","
	"\"badges\":[\"vip/1\",\"subscriber/16\"]}}";

static const struct str text = { sample, sizeof(sample) - 1 };

static void floor_round(void *arg)
{
	struct json_tokener *tok = arg;
	struct json_object *o;

	json_tokener_reset(tok);
	o = json_tokener_parse_ex(tok, text.p, (int)text.n);
	ASSERT(o != NULL);
	json_object_put(o);
}

static void decode_round(void *arg)
{
	struct arena *mem = arg;
	struct event e;
	int r;

	arena_reset(mem);
	r = js_decode(text, envelope_fields[ENV_EVENT], &e, mem, NULL);
	if (r == 0)
		r = event_check(&e, 1, mem, NULL);
	ASSERT(r == 0);
}

/* The same from a message with its headers, as a module takes its commands. */
static void envelope_round(void *arg)
{
	static const struct bus_header h[] = {
		{ "ce_specversion", { "1.0", 3 } },
		{ "ce_id", { "twitch:8b0e2a54-0000-4000-8000-000000000001", 43 } },
		{ "ce_type", { "waddle.event.v1", 15 } },
		{ "ce_source", { "waddle/collector-twitch", 23 } },
		{ "ce_time", { "2026-03-01T18:00:00.456Z", 24 } },
		{ "content-type", { "application/json", 16 } },
		{ "traceparent", { "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", 55 } },
	};
	const struct bus_msg m = { .value = text, .headers = h, .n_headers = ARRAY_LEN(h) };
	struct arena *mem = arg;
	struct envelope env;
	struct event e;
	int r;

	arena_reset(mem);
	r = envelope_decode(&m, ENV_EVENT, &env, &e, mem, NULL);
	ASSERT(r == 0);
}

struct encoding {
	struct event e;
	struct buf out;
};

static void encode_round(void *arg)
{
	struct encoding *c = arg;

	buf_reset(&c->out);
	js_encode(envelope_fields[ENV_EVENT], &c->e, &c->out);
}

static void id_round(void *arg)
{
	id_execution(STR("twitch:8b0e2a54-0000-4000-8000-000000000001"), 17, 0, arg);
}

/* Floor and ours in turns, so that both see the same neighbours on the machine; medians. */
int main(void)
{
	enum { TURNS = 9 };
	struct json_tokener *tok = json_tokener_new_ex(16);
	struct arena *mem = arena_new(16384, 1 << 20);
	struct encoding coding = { .out = BUF(BUS_BODY_MAX) };
	double floors[TURNS], ours[TURNS], wholes[TURNS], encodes[TURNS], ids[TURNS];
	char id[ID_TEXT];
	int r;

	r = js_decode(text, envelope_fields[ENV_EVENT], &coding.e, mem, NULL);
	ASSERT(r == 0);
	bench_rate(floor_round, tok, 0.2);
	for (int i = 0; i < TURNS; i++) {
		struct arena *own = arena_new(16384, 1 << 20);

		floors[i] = bench_rate(floor_round, tok, 0.3);
		ours[i] = bench_rate(decode_round, own, 0.3);
		wholes[i] = bench_rate(envelope_round, own, 0.3);
		encodes[i] = bench_rate(encode_round, &coding, 0.1);
		ids[i] = bench_rate(id_round, id, 0.1);
		arena_free(own);
	}
	r = bench_report("decode", bench_median(ours, TURNS), bench_median(floors, TURNS), "events/s",
			 (const struct bench_extra[]){
				 { "bytes", (double)text.n, NULL },
				 { "with_headers_per_s", bench_median(wholes, TURNS), NULL },
				 { "encode_events_per_s", bench_median(encodes, TURNS), NULL },
				 { "execution_ids_per_s", bench_median(ids, TURNS), NULL },
			 },
			 4);
	buf_clear(&coding.out);
	arena_free(mem);
	json_tokener_free(tok);
	return r;
}

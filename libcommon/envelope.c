/* envelope.c - messages between services: headers in, headers out, and the body between. */
#include "envelope.h"

#include "clock.h"
#include "err.h"
#include "ids.h"

#define TYPE_BEFORE "waddle."
#define TYPE_BEHIND ".v1"

static const char *const ce_types[ENV_COUNT] = {
	[ENV_EVENT] = TYPE_BEFORE "event" TYPE_BEHIND,
	[ENV_COMMAND] = TYPE_BEFORE "command" TYPE_BEHIND,
	[ENV_RESPONSE] = TYPE_BEFORE "response" TYPE_BEHIND,
	[ENV_OUTBOUND] = TYPE_BEFORE "outbound" TYPE_BEHIND,
	[ENV_OVERLAY] = TYPE_BEFORE "overlay" TYPE_BEHIND,
	[ENV_ACTIVITY] = TYPE_BEFORE "activity" TYPE_BEHIND,
	[ENV_DELIVERY] = TYPE_BEFORE "delivery" TYPE_BEHIND,
	[ENV_REGISTRY] = TYPE_BEFORE "registry" TYPE_BEHIND,
};

int envelope_kind(const struct bus_msg *m, enum envelope_kind *ret)
{
	struct str type = bus_header(m, "ce_type");

	for (int i = 0; i < ENV_COUNT; i++) {
		if (str_eq(type, str_of(ce_types[i]))) {
			*ret = (enum envelope_kind)i;
			return 0;
		}
	}
	return -EINVAL;
}

const char *envelope_reason(enum envelope_kind want, int code)
{
	if (code == -EMSGSIZE)
		return "too_large";
	if (code == -EINVAL && want == ENV_EVENT)
		return "bad_event";
	if (code == -EINVAL && want == ENV_RESPONSE)
		return "bad_response";
	return "bad_json";
}

/* A header's text lives as long as the message: the envelope may live longer. */
static int copy(struct str s, struct arena *mem, struct str *ret, struct err *err)
{
	*ret = s.n > 0 ? arena_str(mem, s) : STR_NONE;
	if (s.n > 0 && ret->p == NULL)
		return err_set(err, -ENOBUFS, "no memory left for the headers");
	return 0;
}

static int time_header(struct str s, const char *name, int64_t *ret, struct err *err)
{
	if (s.n > 0 && clock_parse(s, ret) != 0)
		return err_set(err, -EINVAL, "header %s: not a time", name);
	return 0;
}

/* A traceparent that is none is dropped, as W3C wants it: the trace starts anew, the work is done. */
static int read_headers(const struct bus_msg *m, enum envelope_kind want, struct envelope *env,
			struct arena *mem, struct err *err)
{
	struct str id = STR_NONE, source = STR_NONE, type = STR_NONE, time = STR_NONE, trace = STR_NONE;
	struct str deadline = STR_NONE, lsn = STR_NONE, reply_topic = STR_NONE, created = STR_NONE;
	const struct {
		const char *name;
		struct str *at;
	} wanted[] = {
		{ "ce_id", &id },          { "ce_type", &type },
		{ "ce_source", &source },  { "ce_time", &time },
		{ "traceparent", &trace }, { "waddle-deadline", &deadline },
		{ "waddle-lsn", &lsn },    { "waddle-reply-topic", &reply_topic },
		{ "waddle-created", &created },
	};
	size_t n;
	const struct bus_header *h = bus_headers(m, &n);
	int r;

	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < ARRAY_LEN(wanted); k++) {
			if (strcmp(h[i].name, wanted[k].name) == 0) {
				*wanted[k].at = h[i].value;
				break;
			}
		}
	}
	if (!str_eq(type, str_of(ce_types[want])))
		return err_set(err, -EINVAL, "header ce_type: \"" STR_FMT "\" instead of \"%s\"",
			       STR_ARG(type), ce_types[want]);
	if (lsn.n > 0 && lsn_parse(lsn, &env->lsn) != 0)
		return err_set(err, -EINVAL, "header waddle-lsn: not a write position");
	if (reply_topic.n > 0 && !str_starts(reply_topic, STR("waddle.responses.")))
		return err_set(err, -EINVAL, "header waddle-reply-topic: not a response topic");
	if (!str_utf8_ok(id) || !str_utf8_ok(source) || !str_utf8_ok(reply_topic))
		return err_set(err, -EINVAL, "headers: not UTF-8");
	env->kind = want;
	env->time_ms = m->sent_at_ms;
	r = time_header(time, "ce_time", &env->time_ms, err);
	if (r == 0)
		r = time_header(deadline, "waddle-deadline", &env->deadline_ms, err);
	if (r == 0)
		r = time_header(created, "waddle-created", &env->created_ms, err);
	if (r == 0)
		r = copy(id, mem, &env->id, err);
	if (r == 0)
		r = copy(source, mem, &env->source, err);
	if (r == 0)
		r = copy(reply_topic, mem, &env->reply_topic, err);
	if (r == 0 && trace_ok(trace))
		r = copy(trace, mem, &env->traceparent, err);
	return r;
}

int envelope_decode(const struct bus_msg *m, enum envelope_kind want, struct envelope *env, void *out,
		    struct arena *mem, struct err *err)
{
	size_t mark = arena_mark(mem);
	int64_t now_ms = m->sent_at_ms;
	int r = 0;

	if (env != NULL)
		*env = (struct envelope){ 0 };
	js_zero(envelope_fields[want], out);
	if (m->value.p == NULL)
		return err_set(err, -ENODATA, "a tombstone");
	if (m->value.n > BUS_BODY_MAX)
		return err_set(err, -EMSGSIZE, "a body of %zu bytes", m->value.n);
	if (env != NULL) {
		r = read_headers(m, want, env, mem, err);
		now_ms = env->time_ms;
		if (r == 0 && env->deadline_ms != 0 && env->deadline_ms <= clock_unix_ms())
			return err_set(err, -ETIME, "%lld ms past its deadline",
				       (long long)(clock_unix_ms() - env->deadline_ms));
	}
	if (r == 0)
		r = js_decode(m->value, envelope_fields[want], out, mem, err);
	if (r == 0 && want == ENV_EVENT) {
		r = event_check(out, now_ms, mem, err);
		if (r != 0)
			js_zero(envelope_fields[want], out);
	}
	if (r != 0) {
		if (env != NULL)
			*env = (struct envelope){ 0 };
		arena_back(mem, mark);
	}
	return r;
}

/* What CloudEvents calls the id: with the source it names this message and no other. */
static void body_id(enum envelope_kind kind, const void *body, char *out, size_t room)
{
	const struct command_msg *command = body;
	const struct response *response = body;
	const struct outbound *outbound = body;
	const struct overlay *overlay = body;
	const struct activity *activity = body;
	const struct delivery *delivery = body;
	const struct registry *registry = body;
	const struct event *event = body;
	char time[CLOCK_TEXT];

	out[0] = '\0';
	switch (kind) {
	case ENV_EVENT:
		snprintf(out, room, STR_FMT, STR_ARG(event->event_id));
		break;
	case ENV_COMMAND:
		snprintf(out, room, STR_FMT, STR_ARG(command->execution_id));
		break;
	case ENV_RESPONSE:
		snprintf(out, room, STR_FMT "/%lld", STR_ARG(response->execution_id),
			 (long long)response->response_index);
		break;
	case ENV_OUTBOUND:
		snprintf(out, room, STR_FMT, STR_ARG(outbound->message_id));
		break;
	case ENV_OVERLAY:
		snprintf(out, room, STR_FMT, STR_ARG(overlay->item_id));
		break;
	case ENV_ACTIVITY:
		snprintf(out, room, STR_FMT "/" STR_FMT, STR_ARG(activity->event_id),
			 STR_ARG(activity->activity_type));
		break;
	case ENV_DELIVERY:
		snprintf(out, room, STR_FMT "/%s", STR_ARG(delivery->message_id),
			 delivery_status_names[delivery->status]);
		break;
	case ENV_REGISTRY:
		clock_text(registry->heartbeat_at_ms, time);
		snprintf(out, room, STR_FMT "/" STR_FMT "/%s", STR_ARG(registry->name),
			 STR_ARG(registry->instance), time);
		break;
	case ENV_COUNT:
		break;
	}
}

static void add(struct envelope_headers *out, const char *name, struct str value)
{
	ASSERT(out->n < ENVELOPE_HEADERS);
	out->h[out->n++] = (struct bus_header){ name, value };
}

void envelope_headers(const struct envelope *env, const void *body, struct envelope_headers *out)
{
	out->n = 0;
	add(out, "ce_specversion", STR("1.0"));
	if (env->id.n > 0) {
		add(out, "ce_id", env->id);
	} else {
		body_id(env->kind, body, out->id, sizeof(out->id));
		add(out, "ce_id", str_clip(str_of(out->id), sizeof(out->id)));
	}
	add(out, "ce_type", str_of(ce_types[env->kind]));
	add(out, "ce_source", env->source.n > 0 ? env->source : STR("waddle"));
	clock_text(env->time_ms != 0 ? env->time_ms : clock_unix_ms(), out->time);
	add(out, "ce_time", str_of(out->time));
	add(out, "content-type", STR("application/json"));
	if (env->traceparent.n > 0)
		add(out, "traceparent", env->traceparent);
	if (env->deadline_ms != 0) {
		clock_text(env->deadline_ms, out->deadline);
		add(out, "waddle-deadline", str_of(out->deadline));
	}
	if (env->created_ms != 0) {
		clock_text(env->created_ms, out->created);
		add(out, "waddle-created", str_of(out->created));
	}
	if (env->lsn != 0) {
		lsn_text(env->lsn, out->lsn);
		add(out, "waddle-lsn", str_of(out->lsn));
	}
	if (env->reply_topic.n > 0)
		add(out, "waddle-reply-topic", env->reply_topic);
}

/* One buffer for all messages of the process: bus_send() copies. */
int envelope_send(struct bus *b, const char *topic, struct str key, const struct envelope *env,
		  const void *body, bus_sent *sent, void *arg)
{
	static struct buf text = { .max = BUS_BODY_MAX };
	struct envelope_headers headers;
	struct str value;
	int r;

	buf_reset(&text);
	js_encode(envelope_fields[env->kind], body, &text);
	r = buf_str(&text, &value);
	if (r != 0)
		return r;
	envelope_headers(env, body, &headers);
	return bus_send(b, topic, key, value, headers.h, headers.n, sent, arg);
}

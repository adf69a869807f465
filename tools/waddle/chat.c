/* chat.c - see chat.h. */
#include "chat.h"

#include "arena.h"
#include "clock.h"
#include "ids.h"

static struct chat_line *line_of(struct chat *c, uint64_t number)
{
	struct chat_line *l = &c->line[number % CHAT_LINES];

	return l->number == number && number > 0 ? l : NULL;
}

/* "<this run>/<number>": answers to other terminals and to what was said before are not ours. */
static struct chat_line *line_of_ref(struct chat *c, struct str ref)
{
	struct str number, run = str_cut(ref, '/', &number);
	int64_t n;

	if (!str_eq(run, str_of(c->ref)) || str_int(number, 1, INT64_MAX, &n) < 0)
		return NULL;
	return line_of(c, (uint64_t)n);
}

static void received(void *arg, struct bus_msg *m)
{
	struct chat *c = arg;
	struct arena *mem = arena_new(4096, 4 * 1024 * 1024);
	struct outbound out;
	struct chat_line *l;
	struct err err;

	if (envelope_decode(m, ENV_OUTBOUND, NULL, &out, mem, &err) == 0 &&
	    (l = line_of_ref(c, out.reply_ref)) != NULL) {
		int64_t now_us = clock_exact_us();

		l->answered_us = now_us;
		l->answers++;
		c->answer(c->arg,
		          &(struct chat_answer){ out.text, out.private, out.kind, now_us - l->sent_us });
	}
	arena_free(mem);
	bus_done(m);
}

int chat_open(struct chat *c, struct str brokers, struct str prefix, struct err *err)
{
	static const char *const topics[] = { "waddle.outbound.terminal", NULL };
	struct buf address = BUF(sizeof(c->entity) - 1);
	struct str text;
	int r;

	entity_make((struct entity){ STR("terminal"), STR_NONE, str_of(c->channel) }, &address);
	r = buf_str(&address, &text);
	if (r == 0)
		snprintf(c->entity, sizeof(c->entity), STR_FMT, STR_ARG(text));
	buf_clear(&address);
	if (r < 0)
		return err_set(err, -EINVAL, "\"%s\" cannot be a channel", c->channel);
	id_random(c->ref);
	c->service.name = "waddle";
	service_init(&c->service);
	c->bus = bus_open(&c->service, brokers, prefix, err);
	r = c->bus == NULL ? err->code : 0;
	if (r == 0) {
		struct bus_consumer consumer = {
			.topics = topics, .max_held = 100, .message = received, .arg = c
		};

		r = bus_consume(c->bus, &consumer, &c->sub, err);
	}
	if (r < 0)
		chat_close(c);
	return r;
}

void chat_close(struct chat *c)
{
	bus_close(c->bus);
	c->bus = NULL;
	service_clear(&c->service);
}

static void sent(void *arg, const struct err *err)
{
	struct chat_line *l = arg;

	l->on_broker = err == NULL;
	if (err != NULL)
		l->err = *err;
}

struct chat_line *chat_send(struct chat *c, struct str text, struct err *err)
{
	struct chat_line *l = &c->line[++c->lines % CHAT_LINES];
	char id[9 + ID_TEXT] = "terminal:", ref[ID_TEXT + 24], trace[TRACE_TEXT];
	int64_t now_ms = clock_unix_ms();
	struct event ev;
	struct envelope env;
	int r;

	*l = (struct chat_line){ .number = c->lines };
	id_random(id + 9);
	snprintf(ref, sizeof(ref), "%s/%llu", c->ref, (unsigned long long)c->lines);
	trace_next(STR_NONE, trace);
	ev = (struct event){
		.event_id = str_of(id),
		.dedupe_key = str_of(id),
		.platform = STR("terminal"),
		.channel_id = str_of(c->channel),
		.entity = str_of(c->entity),
		.user = { .id = c->user, .name = c->user, .display_name = c->user, .roles = c->roles },
		.message_type = MSG_CHAT,
		.message_content = text,
		.occurred_at_ms = now_ms,
		.received_at_ms = now_ms,
		.reply_ref = str_of(ref),
	};
	env = (struct envelope){ .kind = ENV_EVENT,
		                 .id = ev.event_id,
		                 .source = STR("waddle/chat"),
		                 .traceparent = str_of(trace),
		                 .time_ms = now_ms };
	l->sent_us = clock_exact_us();
	r = envelope_send(c->bus, "waddle.events", ev.entity, &env, &ev, sent, l);
	if (r < 0) {
		err_set(err, r, "the line could not be sent: %s", strerror(-r));
		return NULL;
	}
	return l;
}

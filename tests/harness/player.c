/* player.c - a bus on a loop of the test, typed commands out, typed responses in. */
#include "player.h"

#include "arena.h"
#include "clock.h"
#include "envelope.h"
#include "err.h"

static char *dup_str(struct str s)
{
	char *p = xnew_(1, s.n + 1);

	if (s.n > 0)
		memcpy(p, s.p, s.n);
	return p;
}

static const struct js_field outcome_field[] = { { .key = "outcome", .type = JS_STR, .optional = true },
						 { 0 } };

static void heard(void *arg, struct bus_msg *m)
{
	struct player *p = arg;
	struct arena *mem = arena_new(4096, 8 << 20);
	struct envelope env;
	struct response r;
	struct str outcome = STR_NONE;
	struct err err = { 0 };
	struct heard h = { 0 };

	if (envelope_decode(m, ENV_RESPONSE, &env, &r, mem, &err) != 0) {
		fprintf(stderr, "player: a response cannot be read: %s\n", err.text);
	} else {
		if (r.response_data.n > 0 &&
		    js_decode(r.response_data, outcome_field, &outcome, mem, &err) != 0)
			fprintf(stderr, "player: response_data: %s\n", err.text);
		snprintf(h.exec, sizeof h.exec, STR_FMT, STR_ARG(r.execution_id));
		h.text = dup_str(r.chat_message);
		h.outcome = dup_str(outcome);
		h.error = dup_str(r.error_message);
		h.body = dup_str(m->value);
		h.success = r.success;
		h.final = r.final;
		h.index = r.response_index;
		h.lsn = env.lsn;
		h.at_us = clock_exact_us();
		if (p->n == p->cap) {
			p->cap = p->cap == 0 ? 256 : p->cap * 2;
			p->heard = xgrow(p->heard, p->cap, sizeof *p->heard);
		}
		p->heard[p->n++] = h;
	}
	arena_free(mem);
	bus_done(m);
}

void player_open(struct player *p, struct stack *st, const char *module)
{
	struct err err = { 0 };
	const char *topics[2] = { NULL, NULL };
	int64_t give_up_ms = harness_now_ms() + 15000;
	struct bus_consumer c = { .topics = topics, .max_held = 10000, .message = heard, .arg = p };

	*p = (struct player){ .module = module, .seed = rnd_next() };
	p->commands = text_of("waddle.commands.%s", module);
	p->responses = text_of("waddle.responses.%s", module);
	topics[0] = p->responses;
	p->s.name = "player";
	service_init(&p->s);
	p->bus = bus_open(&p->s, str_of(st->kafka), str_of(st->prefix), &err);
	if (p->bus == NULL)
		harness_fail("player: %s", err.text);
	/* A topic made a moment ago may have no leader yet. */
	while (bus_consume(p->bus, &c, &p->sub, &err) != 0)
		if (harness_now_ms() > give_up_ms)
			harness_fail("player: %s", err.text);
}

void player_close(struct player *p)
{
	bus_close(p->bus);
	service_clear(&p->s);
	for (size_t i = 0; i < p->n; i++) {
		free(p->heard[i].text);
		free(p->heard[i].outcome);
		free(p->heard[i].error);
		free(p->heard[i].body);
	}
	free(p->heard);
	free(p->commands);
	free(p->responses);
}

static void acked(void *arg, const struct err *err)
{
	struct player *p = arg;

	(void)err;
	p->unacked--;
}

static void send_body(struct player *p, const struct envelope *env, const struct command_msg *m)
{
	char key[24];
	int r;

	snprintf(key, sizeof key, "%lld", (long long)m->community_id);
	while ((r = envelope_send(p->bus, p->commands, str_of(key), env, m, acked, p)) == -EAGAIN)
		player_listen(p, 5);
	if (r != 0)
		harness_fail("player: cannot send (%d)", r);
	p->unacked++;
}

void player_say(struct player *p, const struct said *what, char exec[37])
{
	struct str words[PLAYER_WORDS], label = str_of(what->label);
	struct command_msg m = { .community_id = what->community != 0 ? what->community : 2,
				 .platform = str_of(what->platform != NULL ? what->platform : "twitch"),
				 .command = str_of(what->command != NULL ? what->command : p->module),
				 .prefix = STR("!"),
				 .raw_message = STR("!"),
				 .config = str_of(what->config) };
	struct envelope env = { .kind = ENV_COMMAND,
				.deadline_ms = what->deadline_ms,
				.lsn = what->lsn,
				.reply_topic = str_of(what->reply_topic) };
	char id[37], event[64], entity[64];
	unsigned n = ++p->count;

	snprintf(id, sizeof id, "%08x-%04x-5000-8000-%012x", (unsigned)p->seed,
		 (unsigned)(p->seed >> 32) & 0xffff, n);
	if (what->exec != NULL)
		snprintf(id, sizeof id, "%s", what->exec);
	snprintf(event, sizeof event, "%s:%s", m.platform.p, id);
	m.entity_id = what->entity_id != 0 ? what->entity_id : m.community_id;
	snprintf(entity, sizeof entity, strcmp(m.platform.p, "twitch") == 0 ? "%s:%lld" : "%s:g:%lld",
		 m.platform.p, (long long)m.entity_id);
	m.execution_id = m.session_id = str_of(id);
	m.event_id = str_of(event);
	m.entity = str_of(entity);
	m.user.id = m.user.name = m.user.display_name = str_of(what->user != NULL ? what->user : "u1");
	m.user.roles = 1u << ROLE_MEMBER;
	m.user.community_role = str_of(what->role != NULL ? what->role : "moderator");
	if (what->label != NULL)
		m.user.labels = (struct js_list){ &label, 1 };
	while (m.parameters.n < PLAYER_WORDS && what->words[m.parameters.n] != NULL) {
		words[m.parameters.n] = str_of(what->words[m.parameters.n]);
		m.parameters.n++;
	}
	m.parameters.items = words;
	m.created_at_ms = what->created_at_ms != 0 ? what->created_at_ms : clock_unix_ms();
	send_body(p, &env, &m);
	if (exec != NULL)
		memcpy(exec, id, sizeof id);
}

void player_send_raw(struct player *p, const char *body, size_t n, const char *ce_type)
{
	struct bus_header h[] = { { "ce_specversion", STR("1.0") },
				  { "ce_id", STR("raw") },
				  { "ce_type", str_of(ce_type) },
				  { "ce_source", STR("test") } };

	if (bus_send(p->bus, p->commands, STR("2"), (struct str){ body, n }, h, ARRAY_LEN(h), acked, p) != 0)
		harness_fail("player: cannot send");
	p->unacked++;
}

size_t player_heard(const struct player *p, const char *exec)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++)
		n += strcmp(p->heard[i].exec, exec) == 0;
	return n;
}

struct until {
	struct player *p;
	const char *exec;
	size_t n;
};

static bool there(void *arg)
{
	const struct until *u = arg;

	return u->exec != NULL ? player_heard(u->p, u->exec) > 0 : u->p->n >= u->n;
}

const struct heard *player_wait(struct player *p, const char *exec, int64_t max_ms)
{
	struct until u = { .p = p, .exec = exec };
	size_t i = 0;

	if (!service_run(&p->s, there, &u, max_ms))
		harness_fail("no reply to %s within %lld ms", exec, (long long)max_ms);
	while (strcmp(p->heard[i].exec, exec) != 0)
		i++;
	return &p->heard[i];
}

void player_wait_n(struct player *p, size_t n, int64_t max_ms)
{
	struct until u = { .p = p, .n = n };

	if (!service_run(&p->s, there, &u, max_ms))
		harness_fail("%zu of %zu replies within %lld ms", p->n, n, (long long)max_ms);
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

void player_listen(struct player *p, int64_t ms)
{
	(void)!service_run(&p->s, never, NULL, ms);
}

const struct heard *player_ask(struct player *p, const struct said *what)
{
	char exec[37];

	player_say(p, what, exec);
	return player_wait(p, exec, 15000);
}

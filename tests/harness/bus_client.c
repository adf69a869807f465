/* bus_client.c - a service with a bus for tests; see bus_client.h. */
#include "bus_client.h"
#include "err.h"
#include "wait.h"

struct bus_client_key {
	char *name;
	size_t next; /* number of the send after the last one reported */
};

static char *text(struct str s)
{
	return s.p == NULL ? NULL : text_of(STR_FMT, STR_ARG(s));
}

/* For one more: doubled at every power of two. */
static void *room(void *p, size_t n, size_t size)
{
	return (n & (n - 1)) == 0 ? xgrow(p, n > 0 ? n * 2 : 1, size) : p;
}

static void message(void *arg, struct bus_msg *m)
{
	struct bus_client *c = arg;

	c->msgs = room(c->msgs, c->seen, sizeof(*c->msgs));
	c->msgs[c->seen++] = (struct bus_client_msg){
		.topic = text(m->at.topic),
		.key = text(m->key),
		.value = text(m->value),
		.partition = m->at.partition,
		.offset = m->offset,
	};
	if (!c->keep) {
		bus_done(m);
		return;
	}
	c->held = room(c->held, c->n_held, sizeof(struct bus_msg *));
	c->held[c->n_held++] = m;
}

static void gained(void *arg, struct bus_part p)
{
	(void)p;
	((struct bus_client *)arg)->gained++;
}

static void losing(void *arg, struct bus_part p, bool lost)
{
	struct bus_client *c = arg;

	(void)p;
	c->losing++;
	c->lost += lost;
}

void bus_client_open(struct bus_client *c, const char *brokers, const char *prefix)
{
	struct err err;

	*c = (struct bus_client){ .s.name = "bus_client" };
	service_init(&c->s);
	c->b = bus_open(&c->s, str_of(brokers), str_of(prefix), &err);
	if (c->b == NULL)
		harness_fail("bus_open: %s", err.text);
}

void bus_client_close(struct bus_client *c)
{
	bus_close(c->b);
	service_clear(&c->s);
	for (size_t i = 0; i < c->seen; i++) {
		free(c->msgs[i].topic);
		free(c->msgs[i].key);
		free(c->msgs[i].value);
	}
	free(c->msgs);
	free(c->held);
	for (size_t i = 0; i < c->n_keys; i++)
		free(c->keys[i].name);
	free(c->keys);
}

void bus_client_consume(struct bus_client *c, const char *group, const char *const *topics, int max_held)
{
	const struct bus_consumer what = {
		.group = group,
		.topics = topics,
		.max_held = max_held,
		.message = message,
		.gained = gained,
		.losing = losing,
		.arg = c,
	};
	struct err err;

	if (bus_consume(c->b, &what, &c->sub, &err) < 0)
		harness_fail("bus_consume: %s", err.text);
}

struct report {
	struct bus_client *c;
	size_t key, number;
};

static size_t key_number(struct bus_client *c, const char *name)
{
	for (size_t i = 0; i < c->n_keys; i++)
		if (strcmp(c->keys[i].name, name) == 0)
			return i;
	c->keys = xgrow(c->keys, c->n_keys + 1, sizeof(*c->keys));
	c->keys[c->n_keys] = (struct bus_client_key){ .name = text_of("%s", name) };
	return c->n_keys++;
}

static void reported(void *arg, const struct err *err)
{
	struct report *r = arg;
	struct bus_client *c = r->c;

	if (err != NULL) {
		c->failed++;
		c->last_code = err->code;
	} else {
		c->reordered += r->number < c->keys[r->key].next;
		c->keys[r->key].next = r->number + 1;
		c->acked++;
	}
	free(r);
}

int bus_client_send(struct bus_client *c, const char *topic, const char *key, const char *value)
{
	struct report *r = XNEW(struct report);
	int e;

	*r = (struct report){ c, key_number(c, key != NULL ? key : ""), c->sent };
	e = bus_send(c->b, topic, str_of(key), str_of(value), NULL, 0, reported, r);
	if (e < 0)
		free(r);
	else
		c->sent++;
	return e;
}

struct until {
	const size_t *count;
	size_t n;
};

static bool reached(void *arg)
{
	const struct until *u = arg;

	return *u->count >= u->n;
}

bool bus_client_run(struct bus_client *c, const size_t *count, size_t n, int64_t max_ms)
{
	struct until u = { count, n };

	return service_run(&c->s, reached, &u, max_ms);
}

void bus_client_for(struct bus_client *c, int64_t ms)
{
	static const size_t never = 0;

	if (bus_client_run(c, &never, 1, ms))
		harness_fail("zero reached one");
}

bool bus_client_ready(struct bus_client *c)
{
	struct buf out = BUF(4096);
	bool up = service_ready_text(&c->s, &out);

	buf_clear(&out);
	return up;
}

struct readiness {
	struct bus_client *c;
	bool up;
};

static bool is_ready(void *arg)
{
	struct readiness *r = arg;

	return bus_client_ready(r->c) == r->up;
}

bool bus_client_wait_ready(struct bus_client *c, bool up, int64_t max_ms)
{
	struct readiness r = { c, up };

	return service_run(&c->s, is_ready, &r, max_ms);
}

void bus_client_done_all(struct bus_client *c)
{
	for (size_t i = 0; i < c->n_held; i++)
		bus_done(c->held[i]);
	c->n_held = 0;
}

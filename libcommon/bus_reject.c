/* bus_reject.c - dead letters: a message that can never succeed goes to waddle.dlq with its
 * origin and the reason, and counts as done once the broker has it there. */
#include "bus_impl.h"

#include "log.h"

/* What one record may have, with room for keys and headers (message.max.bytes 1,000,000). */
static const size_t BODY_MAX = 900000;
enum { OWN_HEADERS = 6, HEADERS_MAX = 64 };

static void letter_sent(void *arg, const struct err *err);

static struct str number(char *to, size_t room, int64_t n)
{
	int len = snprintf(to, room, "%lld", (long long)n);

	return (struct str){ to, len > 0 ? (size_t)len : 0 };
}

static bool is_own(const char *name)
{
	static const char *const own[] = {
		"waddle-origin-topic",  "waddle-origin-partition",
		"waddle-origin-offset", "waddle-reason",
		"waddle-error",         "waddle-cut",
	};

	for (size_t i = 0; i < ARRAY_LEN(own); i++)
		if (strcmp(own[i], name) == 0)
			return true;
	return false;
}

/* bare: without what the sender could have made too large. */
static int letter(struct bus *b, struct bus_held *h, bool bare)
{
	struct bus_header to[HEADERS_MAX + OWN_HEADERS];
	char partition[16], offset[24], size[24];
	struct str body = h->m.value;
	size_t n, n_to = 0;
	const struct bus_header *from = bus_headers(&h->m, &n);

	for (size_t i = 0; i < n && n_to < HEADERS_MAX && !bare; i++)
		if (!is_own(from[i].name)) /* of an earlier life in the dlq */
			to[n_to++] = from[i];
	to[n_to++] = (struct bus_header){ "waddle-origin-topic", h->m.at.topic };
	to[n_to++] = (struct bus_header){ "waddle-origin-partition",
					  number(partition, sizeof(partition), h->m.at.partition) };
	to[n_to++] =
		(struct bus_header){ "waddle-origin-offset", number(offset, sizeof(offset), h->m.offset) };
	to[n_to++] = (struct bus_header){ "waddle-reason", str_of(h->reason) };
	if (h->why[0] != '\0')
		to[n_to++] = (struct bus_header){ "waddle-error", str_of(h->why) };
	if (body.n > (bare ? 0 : BODY_MAX)) {
		to[n_to++] = (struct bus_header){ "waddle-cut", number(size, sizeof(size), (int64_t)body.n) };
		body.n = bare ? 0 : BODY_MAX;
	}
	return bus_produce(b, "waddle.dlq", bare ? STR_NONE : h->m.key, body, to, n_to, letter_sent, h);
}

/* The message stays held, so its partition's mark does not pass it. */
static void wait_turn(struct bus *b, struct bus_held *h, const char *why)
{
	metric_add(bus_metrics[BM_DLQ_AGAIN], 0, 1);
	log_rarely(10000, L_ERROR, NULL, "dead_letter_late", "%.*s/%d offset %lld waits for waddle.dlq: %s",
	           STR_ARG(h->m.at.topic), (int)h->m.at.partition, (long long)h->m.offset, why);
	list_move(&b->rejects, &h->reject);
}

static void letter_sent(void *arg, const struct err *err)
{
	struct bus_held *h = arg;
	struct bus *b;

	IS_A(h, HELD_MAGIC);
	b = h->sub->b;
	if (err == NULL || bus_msg_void(&h->m) || b->closing) {
		if (err == NULL)
			metric_add(bus_metrics[BM_DLQ], bus_reason_cell(h->reason), 1);
		bus_done(&h->m);
		return;
	}
	wait_turn(b, h, err->text);
}

static void letter_try(struct bus *b, struct bus_held *h)
{
	struct err err;
	int r = letter(b, h, false);

	if (r == -EMSGSIZE)
		r = letter(b, h, true);
	if (r == 0) {
		list_del(&h->reject);
		return;
	}
	err_set(&err, r, "%s", strerrordesc_np(-r));
	wait_turn(b, h, err.text);
}

void bus_reject(struct bus_msg *m, const char *reason, const struct err *why)
{
	struct bus_held *h = CONTAINER_OF(m, struct bus_held, m);

	IS_A(h, HELD_MAGIC);
	if (h->part->gone) { /* its next owner judges for itself */
		bus_done(m);
		return;
	}
	snprintf(h->reason, sizeof(h->reason), "%s", reason);
	snprintf(h->why, sizeof(h->why), "%s", why != NULL ? why->text : "");
	letter_try(h->sub->b, h);
}

/* Once a second: those that found the queue full or the dlq absent. */
void bus_rejects_run(struct bus *b)
{
	struct list again = { &again, &again };

	while (!list_empty(&b->rejects))
		list_move(&again, list_first(&b->rejects));
	while (!list_empty(&again)) {
		struct bus_held *h = CONTAINER_OF(list_first(&again), struct bus_held, reject);

		list_del(&h->reject);
		if (h->part->gone)
			bus_done(&h->m);
		else
			letter_try(b, h);
	}
}

/* module_answer.c - replies: made, stored in the inbox as JSON, sent, acknowledged. */
#include "module_engine.h"

#include "module_table.h"

enum { RETRY_SEND_MS = 20 };

static const char *const outcome_data[] = {
	[DONE] = "{\"outcome\":\"ok\"}",
	[USAGE] = "{\"outcome\":\"usage\"}",
	[NOT_FOUND] = "{\"outcome\":\"not_found\"}",
	[FORBIDDEN] = "{\"outcome\":\"forbidden\"}",
	[CONFLICT] = "{\"outcome\":\"conflict\"}",
	[LIMIT] = "{\"outcome\":\"limit\"}",
	[BUSY] = "{\"outcome\":\"busy\"}",
	[UNAVAILABLE] = "{\"outcome\":\"unavailable\"}",
	[INTERNAL] = "{\"outcome\":\"internal\"}",
};

struct platform_ways platform_ways(struct str platform)
{
	if (str_eq(platform, STR("twitch")))
		return (struct platform_ways){ 5, 1400, 60, " | " };
	if (str_eq(platform, STR("slack")))
		return (struct platform_ways){ 10, 3800, 200, "\n" };
	return (struct platform_ways){ 10, 1900, 200, "\n" };
}

static struct run *run_of(struct request *r)
{
	struct run *run = CONTAINER_OF(r, struct run, r);

	IS_A(run, RUN_MAGIC);
	ASSERT(run->parts == NULL); /* answered once */
	return run;
}

static struct response *parts_new(struct run *run, size_t n)
{
	int64_t ms = (clock_exact_us() - run->began_us) / 1000;

	run->parts = arena_alloc(run->mem, n * sizeof *run->parts);
	run->n_parts = n;
	run->n_sent = 0;
	for (size_t i = 0; i < n; i++)
		run->parts[i] = (struct response){ .processing_time_ms = ms };
	return run->parts;
}

/* What is the same in every part, and its place among them. */
static void parts_finish(struct run *run, enum outcome why)
{
	run->outcome = why;
	for (size_t i = 0; i < run->n_parts; i++) {
		struct response *p = &run->parts[i];

		p->execution_id = run->msg.execution_id;
		p->session_id = run->msg.session_id;
		p->module_name = str_of(run->e->s->name);
		p->response_index = (int64_t)i;
		p->final = i + 1 == run->n_parts;
		if (p->response_data.n == 0)
			p->response_data = str_of(outcome_data[why]);
	}
}

static struct str fit(struct run *run, struct str text)
{
	size_t max = platform_ways(run->msg.platform).chars;
	struct str cut;

	if (args_chars(text) <= max)
		return text;
	cut = arena_printf(run->mem, STR_FMT "…", STR_ARG(str_clip(text, max - 1)));
	return cut.p != NULL ? cut : str_clip(text, max);
}

void answer_text(struct run *run, enum outcome why, bool success, struct str text)
{
	struct response *p = parts_new(run, 1);

	text = arena_str(run->mem, fit(run, text));
	p->response_action = ACTION_CHAT;
	p->chat_message = text;
	p->success = success;
	if (!success)
		p->error_message = arena_printf(run->mem, "%s: " STR_FMT,
		                                why == INTERNAL ? "internal" : "unavailable", STR_ARG(text));
	parts_finish(run, why);
}

static struct str vformat(struct arena *mem, const char *fmt, va_list ap)
{
	va_list again;
	char *p;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	p = n >= 0 ? arena_try(mem, (size_t)n + 1, 1) : NULL;
	if (p == NULL)
		return STR("That answer is too long.");
	vsnprintf(p, (size_t)n + 1, fmt, ap);
	return (struct str){ p, (size_t)n };
}

void reply(struct request *r, const char *fmt, ...)
{
	struct run *run = run_of(r);
	va_list ap;
	struct str text;

	va_start(ap, fmt);
	text = vformat(run->mem, fmt, ap);
	va_end(ap);
	answer_text(run, DONE, true, text);
}

void refuse(struct request *r, enum outcome why, const char *fmt, ...)
{
	struct run *run = run_of(r);
	va_list ap;
	struct str text;

	va_start(ap, fmt);
	text = vformat(run->mem, fmt, ap);
	va_end(ap);
	answer_text(run, why, why != UNAVAILABLE && why != INTERNAL, text);
}

void refuse_usage(struct request *r, const char *fmt, ...)
{
	struct run *run = run_of(r);
	struct buf text = BUF(8192);
	va_list ap;
	struct str why;

	va_start(ap, fmt);
	why = vformat(run->mem, fmt, ap);
	va_end(ap);
	buf_add(&text, why);
	buf_add(&text, STR(" "));
	command_usage(run->cmd, run->msg.command, &text);
	answer_text(run, USAGE, true, (struct str){ text.p, text.n });
	buf_clear(&text);
}

static void copy_text(struct run *run, struct str *s)
{
	if (s->n > 0)
		*s = arena_str(run->mem, *s);
}

void reply_as(struct request *r, const struct response *parts, size_t n)
{
	struct run *run = run_of(r);

	ASSERT(n > 0);
	parts_new(run, n);
	for (size_t i = 0; i < n; i++) {
		struct response *p = &run->parts[i];
		int64_t ms = p->processing_time_ms;

		*p = parts[i];
		p->processing_time_ms = ms;
		p->success = true;
		p->chat_message = fit(run, p->chat_message);
		struct str *texts[] = { &p->response_data,    &p->chat_message,     &p->media_url,
			                &p->ticker_text,      &p->content,          &p->style,
			                &p->form_title,       &p->form_description, &p->form_submit_url,
			                &p->form_callback_url };
		for (size_t t = 0; t < ARRAY_LEN(texts); t++)
			copy_text(run, texts[t]);
	}
	parts_finish(run, DONE);
}

/* --- the inbox ---------------------------------------------------------------------------- */

void answer_encode(const struct run *run, struct buf *out)
{
	buf_add(out, STR("{\"parts\":["));
	for (size_t i = 0; i < run->n_parts; i++) {
		if (i > 0)
			buf_add(out, STR(","));
		js_encode(envelope_fields[ENV_RESPONSE], &run->parts[i], out);
	}
	buf_add(out, STR("]}"));
}

int answer_stored(struct run *run, struct str text, struct err *err)
{
	struct js_list parts = { 0 };
	int r = js_decode(text, run->e->stored, &parts, run->mem, err);

	if (r == 0 && parts.n == 0)
		r = err_set(err, -EBADMSG, "the inbox row has no reply");
	if (r != 0) {
		err->code = -EUCLEAN; /* ours, not the sender's */
		return err_wrap(err, "inbox");
	}
	run->parts = parts.items;
	run->n_parts = parts.n;
	run->n_sent = 0;
	run->outcome = DONE;
	return 0;
}

/* --- sending ------------------------------------------------------------------------------ */

/* err: the bus is closing and the reply was not taken; the message will be delivered again. */
static void acked(void *arg, const struct err *err)
{
	struct run *run = arg;
	struct engine *e = run->e;

	IS_A(run, RUN_MAGIC);
	if (err != NULL)
		run->lost = true;
	if (--run->unacked == 0 && run->n_sent == run->n_parts)
		run_free(run, !run->lost);
	if (!list_empty(&e->unsent))
		answer_retry_unsent(e);
}

static void send_later(struct run *run)
{
	struct engine *e = run->e;

	list_move(&e->unsent, &run->place);
	if (!e->paused) {
		e->paused = true;
		bus_pause(e->sub);
	}
	if (!timer_running(&e->send_timer))
		timer_start(e->s, &e->send_timer, RETRY_SEND_MS, answer_retry_unsent, e);
}

/* All parts, or until the bus is full; then again when it has room. */
void answer_send(struct run *run)
{
	struct engine *e = run->e;
	struct envelope env = { .kind = ENV_RESPONSE,
		                .source = str_of(e->s->name),
		                .traceparent = run->env.traceparent,
		                .lsn = run->lsn,
		                .created_ms = run->msg.created_at_ms };
	const char *topic = run->env.reply_topic.n > 0 ? run->env.reply_topic.p : e->responses_topic;
	int r = 0;

	while (run->n_sent < run->n_parts) {
		r = envelope_send(e->bus, topic, run->msg.entity, &env, &run->parts[run->n_sent], acked, run);
		if (r == -EMSGSIZE) {
			log_error(&run->log, "reply_too_large", "a reply is larger than a message may be");
			if (run->n_sent == 0) {
				answer_text(run, INTERNAL, false, STR("The answer was too large to send."));
				continue;
			}
			r = 0;
			run->n_sent++;
			continue;
		}
		if (r != 0)
			break;
		run->n_sent++;
		run->unacked++;
	}
	if (r == -EAGAIN) {
		send_later(run);
		return;
	}
	run_handed_over(run);
	if (r != 0)
		run->lost = true; /* closing */
	run->n_sent = run->n_parts;
	if (run->unacked == 0)
		run_free(run, !run->lost);
}

void answer_retry_unsent(void *arg)
{
	struct engine *e = arg;
	struct list now;

	list_init(&now);
	while (!list_empty(&e->unsent))
		list_move(&now, e->unsent.next);
	for (struct list *n; (n = list_pop(&now)) != NULL;)
		answer_send(CONTAINER_OF(n, struct run, place));
	if (list_empty(&e->unsent) && e->paused && !e->away) {
		e->paused = false;
		bus_resume(e->sub);
	}
	run_kick(e);
}

/* event.c - what must hold between the fields of an event, and what is filled in (router.md 2.1). */
#include "envelope.h"

#include "err.h"

/* A person spoke or clicked: without a user there is nobody to answer. */
static bool needs_user(int type)
{
	return type == MSG_CHAT || type == MSG_APP_MENTION || type == MSG_SLASH || type == MSG_INTERACTION ||
	       type == MSG_MODAL_SUBMIT || type == MSG_BUTTON || type == MSG_SELECT;
}

/* Absent is fine here, there but blank is not. */
static int trimmed(struct str *id, const char *name, struct err *err)
{
	bool there = id->p != NULL;

	*id = str_trim(*id);
	return there && id->n == 0 ? err_set(err, -EINVAL, "%s: blank", name) : 0;
}

static int check_address(struct event *e, struct arena *mem, struct err *err)
{
	struct entity said, is = { e->platform, e->server_id, e->channel_id };
	struct buf address = BUF((size_t)16 * 1024);
	struct str text;
	int r;

	if (is.server.n == 0 && is.channel.n == 0)
		return err_set(err, -EINVAL, "channel_id: missing");
	if (entity_check(is) != 0)
		return err_set(err, -EINVAL,
			       is.server.n == 0 ? "server_id: missing"
						: "server_id: " STR_FMT " has no servers",
			       STR_ARG(e->platform));
	if (e->entity.n > 0) {
		r = entity_parse(e->entity, mem, &said);
		if (r == -ENOBUFS)
			return err_set(err, r, "no memory left for the address");
		if (r != 0)
			return err_set(err, -EINVAL, "entity: not an address");
		if (!str_eq(said.platform, is.platform) || !str_eq(said.server, is.server) ||
		    !str_eq(said.channel, is.channel))
			return err_set(err, -EINVAL,
				       "entity: disagrees with platform, server_id and channel_id");
		return 0;
	}
	entity_make(is, &address);
	r = buf_str(&address, &text);
	if (r == 0) {
		e->entity = arena_str(mem, text);
		if (e->entity.p == NULL)
			r = err_set(err, -ENOBUFS, "no memory left for the address");
	}
	buf_clear(&address);
	return r;
}

int event_check(struct event *e, int64_t now_ms, struct arena *mem, struct err *err)
{
	int r = trimmed(&e->server_id, "server_id", err);

	if (r == 0)
		r = trimmed(&e->channel_id, "channel_id", err);
	if (r == 0)
		r = trimmed(&e->user.id, "user.id", err);
	if (r == 0)
		r = check_address(e, mem, err);
	if (r != 0)
		return r;
	if (e->user.id.n == 0) {
		if (needs_user(e->message_type))
			return err_set(err, -EINVAL, "user.id: missing");
		e->user.id = STR("anonymous");
	}
	if (e->user.name.n == 0)
		e->user.name = e->user.id;
	if (e->user.display_name.n == 0)
		e->user.display_name = e->user.name;
	if (e->dedupe_key.n == 0)
		e->dedupe_key = e->event_id;
	if (e->received_at_ms == 0)
		e->received_at_ms = now_ms;
	if (e->occurred_at_ms == 0)
		e->occurred_at_ms = e->received_at_ms;
	if (e->metadata.n == 0)
		e->metadata = STR("{}");
	return 0;
}

/* entity.c - addresses of places where people talk. */
#include "entity.h"

static bool needs_server(struct str platform)
{
	return str_eq(platform, STR("discord")) || str_eq(platform, STR("slack"));
}

static bool has_no_servers(struct str platform)
{
	return str_eq(platform, STR("twitch")) || str_eq(platform, STR("terminal"));
}

bool entity_is_dm(struct entity e)
{
	return str_eq(e.server, STR("DM"));
}

int entity_check(struct entity e)
{
	if (e.platform.n == 0 || (e.server.n == 0 && e.channel.n == 0))
		return -EINVAL;
	if (e.server.n == 0)
		return needs_server(e.platform) ? -EINVAL : 0;
	return has_no_servers(e.platform) && !entity_is_dm(e) ? -EINVAL : 0;
}

static void add_part(struct buf *out, struct str s)
{
	size_t from = 0;

	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] != ':' && s.p[i] != '%')
			continue;
		buf_add(out, (struct str){ s.p + from, i - from });
		buf_add(out, s.p[i] == ':' ? STR("%3A") : STR("%25"));
		from = i + 1;
	}
	if (s.n > from)
		buf_add(out, (struct str){ s.p + from, s.n - from });
}

void entity_make(struct entity e, struct buf *out)
{
	if (entity_check(e) != 0) {
		if (out->failed == 0)
			out->failed = -EINVAL;
		return;
	}
	add_part(out, e.platform);
	buf_add(out, STR(":"));
	if (e.server.n > 0) {
		add_part(out, e.server);
		buf_add(out, STR(":"));
	}
	add_part(out, e.channel);
}

/* Only the two escapes that add_part() writes: "%61" would be a second address for "a". */
static int part(struct str s, struct arena *mem, struct str *ret)
{
	const char *escape = s.n > 0 ? memchr(s.p, '%', s.n) : NULL;
	char *out;
	size_t n = 0;

	if (escape == NULL) {
		*ret = s;
		return 0;
	}
	out = arena_try(mem, 1, s.n + 1);
	if (out == NULL)
		return -ENOBUFS;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] != '%') {
			out[n++] = s.p[i];
			continue;
		}
		if (s.n - i < 3)
			return -EINVAL;
		if (memcmp(s.p + i, "%3A", 3) == 0)
			out[n++] = ':';
		else if (memcmp(s.p + i, "%25", 3) == 0)
			out[n++] = '%';
		else
			return -EINVAL;
		i += 2;
	}
	*ret = (struct str){ out, n };
	return 0;
}

int entity_parse(struct str text, struct arena *mem, struct entity *ret)
{
	struct str platform, first, second, more;
	struct entity e = { .server = STR_NONE };
	int r;

	platform = str_cut(text, ':', &first);
	if (first.p == NULL)
		return -EINVAL;
	first = str_cut(first, ':', &second);
	if (second.p == NULL) { /* platform:channel */
		second = first;
		first = STR_NONE;
	} else if (first.n == 0) {
		return -EINVAL; /* platform::channel is written platform:channel */
	}
	str_cut(second, ':', &more);
	if (more.p != NULL)
		return -EINVAL;
	r = part(platform, mem, &e.platform);
	if (r == 0)
		r = part(first, mem, &e.server);
	if (r == 0)
		r = part(second, mem, &e.channel);
	if (r == 0)
		r = entity_check(e);
	if (r == 0)
		*ret = e;
	return r;
}

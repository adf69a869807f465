/* module_listing.c - a page of a list that fits into one message, and other things replies share. */
#include "module.h"

#include "clock.h"
#include "err.h"
#include "log.h"

enum { ENTRY_OVERHEAD = 32 }; /* "#1234567890 ", quotes, dashes, the newline */

void listing_begin(struct listing *l, struct request *r, const char *title, int64_t total, int64_t page,
                   int entries, int fields)
{
	struct platform_ways w = platform_ways(r->msg->platform);
	int64_t pages = (total + w.entries - 1) / w.entries;
	size_t room, each;

	*l = (struct listing){ .r = r, .text = BUF(64 * 1024), .ways = w, .field = w.field };
	buf_printf(&l->text, "%s (%lld), page %lld/%lld", title, (long long)total, (long long)page,
	           (long long)(pages > 0 ? pages : 1));
	room = w.chars - args_chars((struct str){ l->text.p, l->text.n });
	each = entries > 0 ? room / (size_t)entries : room;
	each = each > ENTRY_OVERHEAD ? (each - ENTRY_OVERHEAD) / (size_t)fields : 1;
	if (each < l->field)
		l->field = each;
}

struct str listing_cut(struct listing *l, struct str field)
{
	struct str cut;

	if (args_chars(field) <= l->field)
		return field;
	cut = arena_printf(l->r->mem, STR_FMT "…", STR_ARG(str_clip(field, l->field - 1)));
	return cut.p != NULL ? cut : str_clip(field, l->field);
}

void listing_entry(struct listing *l, const char *fmt, ...)
{
	char text[8192];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	ASSERT(n >= 0 && (size_t)n < sizeof text); /* fields are cut to far less */
	buf_printf(&l->text, "%s%s", l->ways.newline, text);
}

void listing_reply(struct listing *l)
{
	struct str text = { l->text.p, l->text.n };

	reply(l->r, STR_FMT, STR_ARG(text));
	buf_clear(&l->text);
}

struct str request_zone(const struct request *r)
{
	static const struct js_field outer[] = { { .key = "community", .type = JS_RAW, .optional = true },
		                                 { 0 } };
	static const struct js_field inner[] = {
		{ .key = "timezone", .type = JS_STR, .optional = true, .max = 64 }, { 0 }
	};
	struct str community = STR_NONE, zone = STR_NONE;
	struct err ignored = { 0 };

	if (r->msg->config.n == 0 || js_decode(r->msg->config, outer, &community, r->mem, &ignored) != 0 ||
	    community.n == 0 || js_decode(community, inner, &zone, r->mem, &ignored) != 0 || zone.n == 0)
		return STR("UTC");
	return zone;
}

struct str request_when(const struct request *r, int64_t unix_ms)
{
	struct str zone = request_zone(r);
	struct civil c;

	if (civil_from_unix(unix_ms, zone, &c) != 0) {
		log_rarely(60000, L_WARN, r->log, "zone_unknown", "no zone " STR_FMT ", showing UTC",
		           STR_ARG(zone));
		zone = STR("UTC");
		c = civil_of_utc_s(unix_ms / 1000);
	}
	return arena_printf(r->mem, "%04d-%02d-%02d %02d:%02d " STR_FMT, c.year, c.month, c.day, c.hour,
	                    c.minute, STR_ARG(zone));
}

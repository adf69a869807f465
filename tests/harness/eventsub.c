/* eventsub.c - see eventsub.h. */
#include "eventsub.h"
#include "str.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

static char *format(const char *fmt, ...) PRINTF(1, 2) RETURNS_NONNULL;

static char *format(const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	ASSERT(n >= 0);
	return text;
}

void eventsub_uuid(char out[37])
{
	unsigned char b[16];

	ASSERT(RAND_bytes(b, sizeof(b)) == 1);
	b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
	b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
	snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2],
		 b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

/* RFC 3339 with nanoseconds, as Twitch writes it. */
static char *stamp(int64_t unix_ms)
{
	time_t s = (time_t)(unix_ms / 1000);
	struct tm tm;

	gmtime_r(&s, &tm);
	return format("%04d-%02d-%02dT%02d:%02d:%02d.%03d456789Z", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
		      tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(unix_ms % 1000));
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static const char *either(const char *given, const char *otherwise)
{
	return given != NULL ? given : otherwise;
}

char *eventsub_chat_body(const struct eventsub_chat *c)
{
	const char *channel = either(c->channel, "141981764"), *login = either(c->login, "some_viewer");
	struct buf b = BUF(1 << 20);
	struct str whole;
	char id[37], *body;

	eventsub_uuid(id);
	buf_printf(&b, "{\"subscription\":{\"id\":\"6b6b0002-0000-4000-8000-00000000001a\",\"status\":\"enabled\","
		       "\"type\":\"channel.chat.message\",\"version\":\"1\",\"condition\":{\"broadcaster_user_id\":"
		       "\"%s\",\"user_id\":\"800000199\"},\"transport\":{\"method\":\"webhook\",\"callback\":"
		       "\"https://bot.example/twitch/webhook\"},\"created_at\":\"2026-03-01T17:59:00.000000001Z\","
		       "\"cost\":0},\"event\":{\"broadcaster_user_id\":\"%s\",\"broadcaster_user_login\":"
		       "\"sample_streamer\",\"broadcaster_user_name\":\"Sample_Streamer\",\"chatter_user_id\":\"%s\","
		       "\"chatter_user_login\":",
		   channel, channel, either(c->user_id, "558712334"));
	buf_json(&b, str_of(login));
	buf_printf(&b, ",\"chatter_user_name\":");
	buf_json(&b, str_of(login));
	buf_printf(&b, ",\"message_id\":\"%s\",\"message\":{\"text\":", either(c->message_id, id));
	buf_json(&b, str_of(c->text));
	buf_printf(&b, ",\"fragments\":[{\"type\":\"text\",\"text\":");
	buf_json(&b, str_of(c->text));
	buf_printf(&b, ",\"cheermote\":null,\"emote\":null,\"mention\":null}]},\"color\":\"#1E90FF\",\"badges\":[");
	if (c->badge != NULL)
		buf_printf(&b, "{\"set_id\":\"%s\",\"id\":\"1\",\"info\":\"\"}", c->badge);
	buf_printf(&b, "],\"message_type\":\"text\",\"cheer\":null,\"reply\":null,"
		       "\"channel_points_custom_reward_id\":null,\"source_broadcaster_user_id\":null,"
		       "\"source_broadcaster_user_login\":null,\"source_broadcaster_user_name\":null,"
		       "\"source_message_id\":null,\"source_badges\":null,\"is_source_only\":null}}");
	ASSERT(buf_str(&b, &whole) == 0);
	body = format(STR_FMT, STR_ARG(whole));
	buf_clear(&b);
	return body;
}

static void hmac_hex(const char *secret, const char *id, const char *at, const char *body, size_t body_n,
		     char out[65])
{
	size_t n = strlen(id) + strlen(at);
	unsigned char sum[EVP_MAX_MD_SIZE], *all = xnew_(n + body_n + 1, 1);
	unsigned sum_n = 0;

	memcpy(all, id, strlen(id));
	memcpy(all + strlen(id), at, strlen(at));
	memcpy(all + n, body, body_n);
	ASSERT(HMAC(EVP_sha256(), secret, (int)strlen(secret), all, n + body_n, sum, &sum_n) != NULL && sum_n == 32);
	for (unsigned i = 0; i < sum_n; i++)
		snprintf(out + 2 * i, 3, "%02x", sum[i]);
	free(all);
}

void eventsub_sign(struct eventsub_post *p, const char *secret, const char *kind, const char *type,
		   const char *delivery_id, int64_t sent_at_ms, const char *body, size_t body_n)
{
	char *at = stamp(sent_at_ms != 0 ? sent_at_ms : now_ms()), fresh[37], sum[65];
	size_t n = 0;

	eventsub_uuid(fresh);
	*p = (struct eventsub_post){ .delivery_id = format("%s", either(delivery_id, fresh)), .body_n = body_n };
	p->body = xnew_(body_n + 1, 1);
	memcpy(p->body, body, body_n);
	hmac_hex(secret, p->delivery_id, at, body, body_n, sum);
	p->headers[n++] = format("Content-Type: application/json");
	p->headers[n++] = format("Twitch-Eventsub-Message-Id: %s", p->delivery_id);
	p->headers[n++] = format("Twitch-Eventsub-Message-Retry: 0");
	p->headers[n++] = format("Twitch-Eventsub-Message-Type: %s", kind);
	p->headers[n++] = format("Twitch-Eventsub-Message-Signature: sha256=%s", sum);
	p->headers[n++] = format("Twitch-Eventsub-Message-Timestamp: %s", at);
	p->headers[n++] = format("Twitch-Eventsub-Subscription-Type: %s", type);
	p->headers[n++] = format("Twitch-Eventsub-Subscription-Version: 1");
	free(at);
}

void eventsub_chat(struct eventsub_post *p, const char *secret, const struct eventsub_chat *c,
		   const char *delivery_id)
{
	char *body = eventsub_chat_body(c);

	eventsub_sign(p, secret, "notification", "channel.chat.message", delivery_id, 0, body, strlen(body));
	free(body);
}

void eventsub_free(struct eventsub_post *p)
{
	free(p->delivery_id);
	free(p->body);
	for (size_t i = 0; i < ARRAY_LEN(p->headers); i++)
		free(p->headers[i]);
	*p = (struct eventsub_post){ 0 };
}

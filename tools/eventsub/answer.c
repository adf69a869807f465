/* answer.c - polls the stand-in; a few milliseconds between two looks. */
#include "answer.h"
#include "clock.h"
#include "decode.h"
#include "err.h"

#include <curl/curl.h>
#include <poll.h>

enum { LOOK_EVERY_MS = 3 };

struct message { struct str message, reply_parent_message_id; };
struct said { struct js_list messages; };

static const struct js_field message_fields[] = {
	JS(struct message, message, JS_STR), JS(struct message, reply_parent_message_id, JS_STR, .optional = true),
	{ 0 }
};
static const struct js_field said_fields[] = {
	JS(struct said, messages, JS_OBJECTS, .size = sizeof(struct message), .fields = message_fields, .max = 100000),
	{ 0 }
};

static size_t keep(char *p, size_t size, size_t n, void *arg)
{
	struct buf *b = arg;

	buf_add(b, (struct str){ p, size * n });
	return b->failed ? 0 : size * n;
}

/* Answers to parent so far, the last one's text in *text. */
static int look(CURL *h, struct buf *body, struct arena *mem, const char *parent, struct str *text)
{
	struct said said;
	struct err err = { 0 };
	struct str json;
	const struct message *m;
	int n = 0;

	buf_reset(body);
	arena_reset(mem);
	if (curl_easy_perform(h) != CURLE_OK || buf_str(body, &json) != 0 ||
	    js_decode(json, said_fields, &said, mem, &err) != 0)
		return -1;
	m = said.messages.items;
	for (size_t i = 0; i < said.messages.n; i++)
		if (str_eq(m[i].reply_parent_message_id, str_of(parent))) {
			*text = m[i].message;
			n++;
		}
	return n;
}

int answer_wait(const char *url, const char *parent, int64_t began_us, int64_t max_ms)
{
	struct buf body = BUF(16 << 20);
	struct arena *mem = arena_new(65536, 64 << 20);
	CURL *h = curl_easy_init();
	struct str text = STR_NONE;
	int n;

	curl_easy_setopt(h, CURLOPT_URL, url);
	curl_easy_setopt(h, CURLOPT_PROXY, "");
	curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, 2000L);
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, keep);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, &body);
	while ((n = look(h, &body, mem, parent, &text)) == 0 && clock_exact_us() - began_us < max_ms * 1000)
		(void)poll(NULL, 0, LOOK_EVERY_MS);
	if (n > 0) {
		int64_t us = clock_exact_us() - began_us;

		printf(STR_FMT "  (%lld.%lld ms)\n", STR_ARG(text), (long long)(us / 1000),
		       (long long)(us % 1000 / 100));
	}
	curl_easy_cleanup(h);
	arena_free(mem);
	buf_clear(&body);
	return n;
}

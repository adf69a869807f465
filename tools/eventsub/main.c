/* eventsub - posts one chat message to a collector as Twitch would: signed, over HTTP.
 *
 *      eventsub --url http://127.0.0.1:8002/twitch/webhook --secret-file FILE [options] TEXT
 *
 * For the demonstration and for trying things by hand.  Prints the status and how long the answer
 * took; ends with 0 for a 2xx, 1 for another status or none, 2 for wrong usage, 3 without the bot's answer.  With the same
 * --delivery or --message twice it is what Twitch does when it repeats itself. */
#include "answer.h"
#include "clock.h"
#include "eventsub.h"
#include "str.h"

#include <curl/curl.h>
#include <getopt.h>

static void usage(FILE *to)
{
	fputs("usage: eventsub --url URL --secret-file FILE [options] TEXT\n"
	      "  --channel ID      broadcaster (141981764)\n"
	      "  --user ID         who writes (558712334)\n"
	      "  --login NAME      and under which name (some_viewer)\n"
	      "  --badge NAME      broadcaster, moderator, vip or subscriber\n"
	      "  --delivery ID     Twitch-Eventsub-Message-Id instead of a fresh one\n"
	      "  --message ID      id of the chat message instead of a fresh one\n"
	      "  --forge           flip one bit of the body after signing it\n"
	      "  --answer URL      a fake-twitch: wait there for the bot's answer and show it\n"
	      "  --wait MS         so long at most (10000); no answer then ends with 3\n",
	      to);
}

/* First line of the file; NULL when there is none. */
static char *secret_of(const char *path)
{
	char *line = NULL;
	size_t cap = 0;
	FILE *f = fopen(path, "re");
	ssize_t n = f == NULL ? -1 : getline(&line, &cap, f);

	if (f == NULL || n < 0)
		fprintf(stderr, "eventsub: %s: %s\n", path, f == NULL ? strerror(errno) : "empty");
	else
		line[strcspn(line, "\r\n")] = '\0';
	if (f != NULL)
		fclose(f);
	if (n < 0) {
		free(line);
		line = NULL;
	}
	return line;
}

static size_t ignore(char *p, size_t size, size_t n, void *arg)
{
	(void)p;
	(void)arg;
	return size * n;
}

static int post(const char *url, const struct eventsub_post *p)
{
	struct curl_slist *list = curl_slist_append(NULL, "Expect:");
	char why[CURL_ERROR_SIZE] = "";
	CURL *h = curl_easy_init();
	curl_off_t took = 0;
	long status = 0;
	CURLcode rc;

	for (size_t i = 0; p->headers[i] != NULL; i++)
		list = curl_slist_append(list, p->headers[i]);
	curl_easy_setopt(h, CURLOPT_URL, url);
	curl_easy_setopt(h, CURLOPT_PROXY, "");
	curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, 10000L);
	curl_easy_setopt(h, CURLOPT_HTTPHEADER, list);
	curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)p->body_n);
	curl_easy_setopt(h, CURLOPT_POSTFIELDS, p->body);
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, ignore);
	curl_easy_setopt(h, CURLOPT_ERRORBUFFER, why);
	rc = curl_easy_perform(h);
	curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(h, CURLINFO_TOTAL_TIME_T, &took);
	curl_easy_cleanup(h);
	curl_slist_free_all(list);
	if (rc != CURLE_OK) {
		fprintf(stderr, "eventsub: %s: %s\n", url, *why != '\0' ? why : curl_easy_strerror(rc));
		return 1;
	}
	printf("%ld in %lld.%lld ms\n", status, (long long)(took / 1000), (long long)(took % 1000 / 100));
	return status >= 200 && status < 300 ? 0 : 1;
}

int main(int argc, char **argv)
{
	enum { URL = 1, SECRET, CHANNEL, USER, LOGIN, BADGE, DELIVERY, MESSAGE, FORGE, ANSWER, WAIT, HELP, OPTIONS };
	static const struct option options[] = {
		{ "url", required_argument, NULL, URL },         { "secret-file", required_argument, NULL, SECRET },
		{ "channel", required_argument, NULL, CHANNEL }, { "user", required_argument, NULL, USER },
		{ "login", required_argument, NULL, LOGIN },     { "badge", required_argument, NULL, BADGE },
		{ "delivery", required_argument, NULL, DELIVERY }, { "message", required_argument, NULL, MESSAGE },
		{ "forge", no_argument, NULL, FORGE },           { "answer", required_argument, NULL, ANSWER },
		{ "wait", required_argument, NULL, WAIT },       { "help", no_argument, NULL, HELP },
		{ 0 },
	};
	const char *given[OPTIONS] = { 0 };
	struct eventsub_post p;
	struct eventsub_chat c;
	char *secret, fresh[37];
	int64_t began_us, wait_ms = 10000;
	int o, r;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (o <= 0 || o >= OPTIONS) {
			usage(stderr);
			return 2;
		}
		given[o] = o == FORGE || o == HELP ? "" : optarg;
	}
	if (given[HELP] != NULL) {
		usage(stdout);
		return 0;
	}
	if (given[URL] == NULL || given[SECRET] == NULL || optind + 1 != argc) {
		usage(stderr);
		return 2;
	}
	if (!str_utf8_ok(str_of(argv[optind]))) {
		fprintf(stderr, "eventsub: the text is not UTF-8\n");
		return 2;
	}
	if (given[WAIT] != NULL && str_int(str_of(given[WAIT]), 0, 600000, &wait_ms) != 0) {
		fprintf(stderr, "eventsub: --wait takes milliseconds\n");
		return 2;
	}
	if (given[MESSAGE] == NULL) {
		eventsub_uuid(fresh);
		given[MESSAGE] = fresh;
	}
	secret = secret_of(given[SECRET]);
	if (secret == NULL)
		return 2;
	c = (struct eventsub_chat){ .channel = given[CHANNEL], .user_id = given[USER], .login = given[LOGIN],
				    .badge = given[BADGE], .message_id = given[MESSAGE], .text = argv[optind] };
	eventsub_chat(&p, secret, &c, given[DELIVERY]);
	if (given[FORGE] != NULL)
		p.body[p.body_n / 2] ^= 1;
	curl_global_init(CURL_GLOBAL_DEFAULT);
	began_us = clock_exact_us();
	r = post(given[URL], &p);
	if (r == 0 && given[ANSWER] != NULL && answer_wait(given[ANSWER], given[MESSAGE], began_us, wait_ms) <= 0) {
		printf("no answer\n");
		r = 3;
	}
	curl_global_cleanup();
	eventsub_free(&p);
	free(secret);
	return r;
}

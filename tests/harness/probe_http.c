/* probe_http.c - one HTTP request from outside; see probe.h. */
#include "probe.h"
#include "wait.h"

#include <curl/curl.h>

static size_t collect(char *p, size_t size, size_t n, void *arg)
{
	return fwrite(p, size, n, arg);
}

int probe_http(const char *method, const char *url, const char *const *headers,
	       const void *body, size_t body_n, int64_t max_ms, struct probe_answer *ret)
{
	struct probe_answer a = { 0 };
	struct curl_slist *list = curl_slist_append(NULL, "Expect:");
	CURL *h = curl_easy_init();
	FILE *head, *out;
	curl_off_t took = 0;
	long status = 0;
	size_t head_n;
	CURLcode rc;

	head = open_memstream(&a.head, &head_n);
	out = open_memstream(&a.body, &a.body_n);
	if (h == NULL || list == NULL || head == NULL || out == NULL)
		harness_fail("out of memory");
	for (; headers != NULL && *headers != NULL; headers++)
		list = curl_slist_append(list, *headers);
	curl_easy_setopt(h, CURLOPT_URL, url);
	curl_easy_setopt(h, CURLOPT_PROXY, "");
	curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, (long)max_ms);
	curl_easy_setopt(h, CURLOPT_HTTPHEADER, list);
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, collect);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, out);
	curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, collect);
	curl_easy_setopt(h, CURLOPT_HEADERDATA, head);
	if (body != NULL) {
		curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body_n);
		curl_easy_setopt(h, CURLOPT_POSTFIELDS, body);
	}
	if (strcmp(method, "HEAD") == 0)
		curl_easy_setopt(h, CURLOPT_NOBODY, 1L);
	else
		curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, method);
	rc = curl_easy_perform(h);
	curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(h, CURLINFO_TOTAL_TIME_T, &took);
	curl_easy_cleanup(h);
	curl_slist_free_all(list);
	fclose(head);
	fclose(out);
	if (rc != CURLE_OK) {
		probe_answer_free(&a);
		return rc == CURLE_OPERATION_TIMEDOUT ? -ETIMEDOUT : rc == CURLE_COULDNT_CONNECT ? -ECONNREFUSED : -EIO;
	}
	a.status = (int)status;
	a.took_us = took;
	*ret = a;
	return 0;
}

void probe_answer_free(struct probe_answer *a)
{
	free(a->head);
	free(a->body);
	memset(a, 0, sizeof(*a));
}

void probe_get(const char *url, struct probe_answer *ret)
{
	int r = probe_http("GET", url, NULL, NULL, 0, 5000, ret);

	if (r != 0)
		harness_fail("GET %s: %s", url, strerror(-r));
}

double probe_metric(const char *admin_url, const char *series)
{
	char *url = text_of("%s/metrics", admin_url);
	struct probe_answer a;
	double value = -1;
	size_t n = strlen(series);

	probe_get(url, &a);
	for (const char *line = a.body; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
		if (*line == '\n' && *++line == '\0')
			break;
		if (strncmp(line, series, n) == 0 && line[n] == ' ') {
			value = strtod(line + n, NULL);
			break;
		}
	}
	probe_answer_free(&a);
	free(url);
	return value;
}

/* fetch_end.c - what a try has come to: an answer, a reason to try again, or the truth about how
 * far it went.
 *
 * The line is drawn where the last byte of the request was taken by the kernel: before it no
 * server can have acted on the whole request, after it nobody knows until an answer comes. */
#include "fetch_int.h"

enum { BACKOFF_MS = 200, BACKOFF_MAX_MS = 5000 };

/* Everything, head and body.  Where curl asked us for the body we know what it took: its own
 * counters (REQUEST_SIZE for heads, SIZE_UPLOAD_T for bodies) begin again when it changes from a
 * kept connection that broke to a new one. */
static bool went_out(const struct fetch_job *j)
{
	long head = 0;
	curl_off_t body = 0;

	if (j->uploaded > 0)
		return j->uploaded >= j->body.n;
	(void)curl_easy_getinfo(j->easy, CURLINFO_REQUEST_SIZE, &head);
	(void)curl_easy_getinfo(j->easy, CURLINFO_SIZE_UPLOAD_T, &body);
	return head > 0 && (size_t)body >= j->body.n;
}

/* Retry-After in seconds; the date form is not used by any platform we talk to. */
static int64_t retry_after_ms(const struct fetch_job *j)
{
	struct str v = STR_NONE;
	struct str rest = { j->head.p, j->head.n };
	int64_t s = 0;

	while (rest.n > 0) {
		struct str value, n = str_cut(str_cut(rest, '\n', &rest), ':', &value);

		if (str_eq_fold(n, STR("Retry-After")))
			v = str_trim(value);
	}
	return str_int(v, 0, 86400, &s) == 0 ? s * 1000 : 0;
}

static void resume(void *arg)
{
	struct fetch_job *j = arg;

	IS_A(j, JOB_MAGIC);
	job_move(j, JOB_WAITING);
	fetch_pump_soon(j->client);
}

/* false: no try is left, or it would begin after the deadline. */
static bool again(struct fetch_job *j, int64_t at_least_ms)
{
	int64_t wait = at_least_ms + clock_backoff_ms((unsigned)j->attempts - 1, BACKOFF_MS, BACKOFF_MAX_MS);

	if (j->attempts > j->retries || clock_mono_ms() + wait >= j->due_mono_ms || j->client->closing)
		return false;
	job_move(j, JOB_PAUSED);
	timer_start(j->client->service, &j->pause, wait, resume, j);
	return true;
}

static void answered(struct fetch_job *j)
{
	long status = 0;

	(void)curl_easy_getinfo(j->easy, CURLINFO_RESPONSE_CODE, &status);
	job_stop(j);
	j->status = (int)status;
	if (status < 200 || status > 599)
		job_fail(j, -EBADMSG, "the answer is no HTTP");
	else if ((status != 429 && status != 503) || !j->repeatable || !again(j, retry_after_ms(j)))
		job_done(j);
}

void job_unsent(struct fetch_job *j, int code, const char *why)
{
	if (!again(j, 0))
		job_fail(j, code, why);
}

/* No server is wrong in these; the request, the network or the time is. */
static void broke(struct fetch_job *j, int code, const char *why)
{
	bool out = went_out(j);

	job_stop(j);
	j->maybe_sent = j->maybe_sent || out;
	if (code == -ETIMEDOUT || !(out ? j->repeatable : true) || !again(j, 0))
		job_fail(j, code, why);
}

void job_ended(struct fetch_job *j, CURLcode code)
{
	const char *why = j->why[0] != '\0' ? j->why : curl_easy_strerror(code);

	if (code == CURLE_OK) {
		answered(j);
	} else if (j->refused) {
		job_stop(j);
		job_fail(j, -EACCES, guard_reason_name(GUARD_ADDRESS));
	} else if (j->too_large) {
		job_stop(j);
		job_fail(j, -EMSGSIZE, "the answer is too large");
	} else if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
	           code == CURLE_SSL_ISSUER_ERROR || code == CURLE_SSL_INVALIDCERTSTATUS) {
		job_stop(j);
		job_fail(j, -EPROTO, why);
	} else if (code == CURLE_WEIRD_SERVER_REPLY || code == CURLE_UNSUPPORTED_PROTOCOL ||
	           code == CURLE_BAD_CONTENT_ENCODING) {
		job_stop(j);
		job_fail(j, -EBADMSG, why);
	} else if (code == CURLE_OPERATION_TIMEDOUT) {
		broke(j, -EHOSTUNREACH, why);   /* to connect; the whole call has job_overdue() */
	} else {
		broke(j, -ECONNRESET, why);
	}
}

void job_overdue(struct fetch_job *j)
{
	switch (j->state) {
	case JOB_WAITING:
		job_fail(j, -ETIMEDOUT, "no connection or budget was free in time");
		break;
	case JOB_RESOLVING:
		job_unresolve(j);
		job_fail(j, -ETIMEDOUT, "the name was not resolved in time");
		break;
	case JOB_RUNNING:
		broke(j, -ETIMEDOUT, "no answer in time");
		break;
	case JOB_PAUSED:
		job_fail(j, -ETIMEDOUT, "no answer in time");
		break;
	case JOB_DONE:
	case JOB_STATES:
		break;
	}
}

/* http_reply.c - exactly one answer per request, and nothing in its head that a caller made up. */
#include "http_int.h"
#include "log.h"

static const struct { int status; const char *reason, *code; } statuses[] = {
	{ 200, "OK", NULL },
	{ 201, "Created", NULL },
	{ 202, "Accepted", NULL },
	{ 204, "No Content", NULL },
	{ 301, "Moved Permanently", NULL },
	{ 302, "Found", NULL },
	{ 303, "See Other", NULL },
	{ 304, "Not Modified", NULL },
	{ 307, "Temporary Redirect", NULL },
	{ 400, "Bad Request", "INVALID_REQUEST" },
	{ 401, "Unauthorized", "UNAUTHORIZED" },
	{ 403, "Forbidden", "FORBIDDEN" },
	{ 404, "Not Found", "NOT_FOUND" },
	{ 405, "Method Not Allowed", "METHOD_NOT_ALLOWED" },
	{ 408, "Request Timeout", "REQUEST_TIMEOUT" },
	{ 409, "Conflict", "CONFLICT" },
	{ 410, "Gone", "GONE" },
	{ 412, "Precondition Failed", "PRECONDITION_FAILED" },
	{ 413, "Content Too Large", "PAYLOAD_TOO_LARGE" },
	{ 415, "Unsupported Media Type", "UNSUPPORTED_MEDIA_TYPE" },
	{ 417, "Expectation Failed", "EXPECTATION_FAILED" },
	{ 422, "Unprocessable Content", "UNPROCESSABLE" },
	{ 429, "Too Many Requests", "RATE_LIMIT_EXCEEDED" },
	{ 431, "Request Header Fields Too Large", "HEADERS_TOO_LARGE" },
	{ 500, "Internal Server Error", "INTERNAL_ERROR" },
	{ 502, "Bad Gateway", "BAD_GATEWAY" },
	{ 503, "Service Unavailable", "SERVICE_UNAVAILABLE" },
	{ 504, "Gateway Timeout", "GATEWAY_TIMEOUT" },
	{ 505, "HTTP Version Not Supported", "VERSION_NOT_SUPPORTED" },
};

static size_t status_row(int status)
{
	size_t i = 0;

	while (i < ARRAY_LEN(statuses) && statuses[i].status != status)
		i++;
	ASSERT(i < ARRAY_LEN(statuses));
	return i;
}

/* --- headers of the handler --------------------------------------------------------------- */

static bool value_ok(struct str v)
{
	for (size_t i = 0; i < v.n; i++)
		if (((unsigned char)v.p[i] < 0x20 && v.p[i] != '\t') || v.p[i] == 0x7f)
			return false;
	return true;
}

int http_set(struct http_req *r, const char *name, struct str value)
{
	static const char *const ours[] = { "Connection", "Content-Length", "Content-Type", "Date",
	                                    "Keep-Alive", "Transfer-Encoding", "X-Content-Type-Options" };
	struct str n = str_of(name);

	IS_A(r, REQ_MAGIC);
	if (!http_token_ok(n) || !value_ok(value))
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		if (str_eq_fold(n, str_of(ours[i])))
			return -EINVAL;
	r->has_retry_after |= str_eq_fold(n, STR("Retry-After"));
	r->has_cache_control |= str_eq_fold(n, STR("Cache-Control"));
	buf_add(&r->extra, n);
	buf_add(&r->extra, STR(": "));
	buf_add(&r->extra, value);
	buf_add(&r->extra, STR("\r\n"));
	return r->extra.failed;
}

void req_set(struct http_req *r, const char *name, struct str value)
{
	int ret = http_set(r, name, value);

	ASSERT(ret == 0);
}

/* --- the answer --------------------------------------------------------------------------- */

/* RFC 9110 5.6.7; made once a second. */
static const char *date(struct http *h)
{
	int64_t now_s = clock_unix_ms() / 1000;

	if (now_s != h->date_s) {
		time_t t = (time_t)now_s;
		struct tm tm;

		gmtime_r(&t, &tm);
		strftime(h->date, sizeof(h->date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
		h->date_s = now_s;
	}
	return h->date;
}

static void add_head(struct http_req *r, size_t row, const char *type, size_t length, bool ends, struct buf *out)
{
	int status = statuses[row].status;

	buf_printf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status, statuses[row].reason, date(r->http));
	if (type != NULL)
		buf_printf(out, "Content-Type: %s\r\n", type);
	if (status != 204 && status != 304)
		buf_printf(out, "Content-Length: %zu\r\n", length);
	buf_add(out, STR("X-Content-Type-Options: nosniff\r\n"));
	if (!r->has_cache_control)
		buf_add(out, STR("Cache-Control: no-store\r\n"));
	if ((status == 429 || status == 503) && !r->has_retry_after)
		buf_add(out, STR("Retry-After: 5\r\n"));
	buf_add(out, (struct str){ r->extra.p, r->extra.n });
	if (ends)
		buf_add(out, STR("Connection: close\r\n"));
	else if (!r->head.http11)
		buf_add(out, STR("Connection: keep-alive\r\n"));
	buf_add(out, STR("\r\n"));
}

void req_answer(struct http_req *r, int status, const char *type, struct str body)
{
	struct http_conn *c = r->conn;
	size_t row = status_row(status);

	IS_A(r, REQ_MAGIC);
	ASSERT(r->state == REQ_READING || r->state == REQ_RUNNING);
	ASSERT(body.n <= HTTP_REPLY_MAX && (body.n == 0 || (status != 204 && status != 304)));
	r->state = REQ_ANSWERED;
	http_observe(r, status);
	log_debug(NULL, "http_answer", STR_FMT " " STR_FMT ": %d to %s%s", STR_ARG(r->head.method),
	          STR_ARG(r->head.path), status, r->peer, c == NULL ? ", who has left" : "");
	if (c == NULL) {
		req_drop(r);
		return;
	}
	add_head(r, row, type, body.n, conn_ends(c), &c->out);
	if (!r->is_head)
		buf_add(&c->out, body);
	c->req = NULL;
	r->conn = NULL;
	req_free(r);
	conn_answered(c);
}

/* One large answer must not keep its memory for good. */
static void scratch_empty(struct buf *b)
{
	if (b->cap > 256 << 10)
		buf_clear(b);
	buf_reset(b);
}

void http_reply_raw(struct http_req *r, int status, const char *type, struct str body)
{
	if (body.n > HTTP_REPLY_MAX)
		http_refuse(r, 500, "ANSWER_SIZE", "The answer is larger than 8 MiB.", NULL, 0);
	else
		req_answer(r, status, type, body);
}

void http_reply(struct http_req *r, int status, const struct js_field *fields, const void *body)
{
	struct buf *json = &r->http->scratch;
	struct str text = STR_NONE;

	if (fields == NULL) {
		req_answer(r, status, NULL, STR_NONE);
		return;
	}
	scratch_empty(json);
	js_encode(fields, body, json);
	if (buf_str(json, &text) != 0)
		http_refuse(r, 500, "ANSWER_SIZE", "The answer is larger than 8 MiB.", NULL, 0);
	else
		req_answer(r, status, "application/json", text);
}

void http_refuse(struct http_req *r, int status, const char *reason, const char *message,
                 const struct http_detail *details, size_t n)
{
	struct buf *json = &r->http->scratch;
	const char *code = statuses[status_row(status)].code;

	ASSERT(code != NULL);
	scratch_empty(json);
	buf_printf(json, "{\"error\":{\"code\":\"%s\",\"message\":", code);
	buf_json(json, str_of(message));
	if (reason != NULL) {
		buf_add(json, STR(",\"reason\":"));
		buf_json(json, str_of(reason));
	}
	if (n > 0)
		buf_add(json, STR(",\"details\":["));
	for (size_t i = 0; i < n; i++) {
		buf_add(json, i > 0 ? STR(",{\"field\":") : STR("{\"field\":"));
		buf_json(json, details[i].field);
		buf_add(json, STR(",\"message\":"));
		buf_json(json, details[i].message);
		buf_add(json, STR("}"));
	}
	if (n > 0)
		buf_add(json, STR("]"));
	buf_add(json, STR("}}"));
	ASSERT(json->failed == 0);
	req_answer(r, status, "application/json", (struct str){ json->p, json->n });
}

/* What is ours to mend is not the caller's to read.  "user.roles[2]: expected a string", as
 * js_decode() says it, names the field and what is wrong with it. */
void http_fail(struct http_req *r, const struct err *err)
{
	struct str message, field = str_cut(str_of(err->text), ':', &message);
	struct http_detail d = { field, str_trim(message) };
	bool names = err_kind(err) == ERR_INPUT && d.message.n > 0 && memchr(field.p, ' ', field.n) == NULL;
	int status = err_http_status(err);

	if (status < 400)
		status = 500;
	http_refuse(r, status, NULL, status == 500 ? "This is our fault, and is logged." : err->text, &d,
	            names ? 1 : 0);
}

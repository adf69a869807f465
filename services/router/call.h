/* call.h - executions that are HTTP requests: what the files of the caller share (router.md 11).
 *
 *      call.c         which row is called when: slots, order, the search for rows without a caller
 *      call_row.c     the lease, the repetitions, the response
 *      call_send.c    one attempt: request, headers, signatures; activations of OpenWhisk
 *      call_answer.c  what came back, as a response
 *
 * A call belongs to its row.  Whoever takes the lease calls; the lease outlives the attempt, and when
 * it expires another replica calls again under the same webhook-id.  The answer is sent to
 * waddle.responses.http and comes back to whichever replica reads that: from there on it is a
 * module's response like any other, and a crash repeats what had not been confirmed. */
#ifndef CALL_H
#define CALL_H

#include "breaker.h"
#include "clock.h"
#include "hash.h"
#include "router.h"

struct fetch_result;
struct fetch_job;

#define CALL_OUTCOMES(X) \
	X(ANSWERED, "answered") X(REFUSED, "refused") X(TIMEOUT, "timeout") X(UNREACHABLE, "unreachable") \
	X(URL_REFUSED, "url_refused") X(BAD_RESPONSE, "bad_response") X(MODULE_FAILED, "module_failed")
enum call_outcome {
#define X(name, text) CALL_##name,
	CALL_OUTCOMES(X)
#undef X
	CALL_OUTCOME_COUNT
};

/* What one attempt came to. */
struct call_end {
	enum call_outcome outcome;
	int               status;       /* of HTTP; 0: none */
	bool              again;        /* of a kind that lambda and openwhisk repeat */
	int64_t           wait_ms;      /* at least, before that */
	struct str        detail;       /* for the operator: row and log, never chat */
};

enum call_state { CALL_WAITING, CALL_CLAIMING, CALL_TRYING, CALL_PAUSED, CALL_RECORDING, CALL_SENDING,
                  CALL_RELEASING, CALL_STATES };

struct call {
	unsigned         magic;
	struct calls    *calls;
	enum call_state  state;
	struct list      node;
	struct hash_node by_id;
	struct arena    *mem;           /* NULL while waiting */
	char             id[37];
	int64_t          created_ms, community_id;
	char            *host;          /* "https://example.org:443"; what HTTP_PER_HOST counts */

	/* from the row and its command, since it was claimed */
	int64_t          lease_ms;      /* the row's lease_until: ours as long as it is unchanged */
	int64_t          lease_mono_ms, due_mono_ms;    /* its end; of all attempts */
	int64_t          timeout_ms;
	int              type, retries; /* enum endpoint; so far */
	struct str       method, url, body, platform, session_id, module, trace_id, prefix, command;
	struct js_text  *header;
	size_t           n_headers, n_secret;   /* the last n_secret of them were sealed */
	struct str       secret[2];
	size_t           n_secrets;
	bool             asked;         /* the breaker: a report is due */
	bool             released;      /* its request was cut off to give the row back */

	struct fetch_job *job;
	struct timer     timer;
	int64_t          try_mono_ms;   /* when this attempt must end */
	struct str       activation;    /* OpenWhisk: URL to ask for the result */
	struct call_end  end;
	struct response  resp;
	bool             says;          /* resp is worth storing even if the row is settled */
};
enum { CALL_MAGIC = 0x40073411, CALL_HEADERS = 40 };

struct calls {
	unsigned          magic;
	struct router    *r;
	struct list       in[CALL_STATES];
	size_t            n, n_waiting, n_running;
	struct hash_table ids, slots;
	struct breaker   *breaker;
	struct timer      sweep, late;
	bool              sweeping, closing, pump_soon;
	uint64_t          sweeps;
};
enum { CALLS_MAGIC = 0x40073412 };

/* call_send.c: one attempt; call_tried() follows, never from inside. */
void call_try(struct call *c);

/* call.c */
void call_move(struct call *c, enum call_state to);
void call_gone(struct call *c);

/* call_row.c */
void call_claim(struct call *c);
void call_tried(struct call *c);
/* A draining process gives it back: another replica calls again, at once. */
void call_release(struct call *c);

/* call_answer.c: end and resp of c from a whole answer.  polled: an activation's result, one level down. */
void call_answer(struct call *c, int status, struct str type, bool function_error, struct str body, bool polled);
/* The response that stands for an end without one. */
void call_failed(struct call *c);

#endif

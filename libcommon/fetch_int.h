/* fetch_int.h - what the files of the client share; nobody outside fetch*.c includes it. */
#ifndef FETCH_INT_H
#define FETCH_INT_H

#include <curl/curl.h>

#include "clock.h"
#include "fetch.h"
#include "guard.h"
#include "hash.h"
#include "limit.h"
#include "list.h"
#include "metrics.h"
#include "service.h"

enum { FETCH_MAGIC = 0x46657463, JOB_MAGIC = 0x4a6f6221, FETCH_HEAD_MAX = 16 << 10, FETCH_BUCKETS = 32 };

enum job_state {
	JOB_WAITING,            /* for a connection, the host or the bucket */
	JOB_RESOLVING,
	JOB_RUNNING,            /* curl has it */
	JOB_PAUSED,             /* until the next try */
	JOB_DONE,               /* done() comes at the end of this turn */
	JOB_STATES
};

struct fetch_host {                     /* lives while a job of this host is running */
	struct hash_node node;
	int              running;
	struct str       name;          /* "https://host:443" */
	char             text[];
};

/* One multi handle for each kind: a connection made for a trusted address is never used again
 * for one that came from a user, nor is its name cache. */
struct fetch_multi {
	struct fetch_client *client;
	CURLM               *curl;
	struct event        *timer;
};

struct resolve;                         /* fetch_dns.c */

struct fetch_client {
	unsigned           magic;
	struct service    *service;
	int                max_conns, max_per_host;
	bool               closing, pump_soon;
	struct fetch_multi multi[2];    /* by enum fetch_where */
	struct list        jobs[JOB_STATES];
	int                n_jobs, n_running, n_resolves;
	struct hash_table  hosts;
	struct timer       pump_timer;
	struct limit      *limit;
	struct { const char *name; struct limit_rule rule; } bucket[FETCH_BUCKETS];
	int                n_buckets;
	struct guard       guard;
	struct evdns_base *dns;
	CURL              *spare[16];
	int                n_spare;
};

struct fetch_job {
	unsigned             magic;
	enum job_state       state;
	struct list          node;
	struct fetch_client *client;
	fetch_done          *done;
	void                *arg;

	/* what is asked */
	char                 method[16];
	bool                 safe, repeatable;  /* GET, HEAD; may be sent twice */
	bool                 fresh;
	enum fetch_where     where;
	struct url           parts;     /* into url */
	struct buf           url;       /* with a NUL behind */
	struct buf           host;      /* "https://host:443" */
	struct buf           body;
	struct curl_slist   *headers;
	size_t               max_body;
	int                  retries, bucket;   /* -1: none */
	int64_t              began_mono_ms, due_mono_ms;
	struct timer         deadline, pause;

	/* this try */
	CURL                *easy;
	struct fetch_host   *at;
	struct resolve      *resolve;
	struct curl_slist   *addresses; /* for CURLOPT_RESOLVE */
	size_t               uploaded;  /* given to curl */
	bool                 refused;   /* the guard, at connect time */
	bool                 too_large;
	bool                 maybe_sent;        /* a try went out whole and was not answered */
	int                  attempts;
	char                 why[CURL_ERROR_SIZE];

	/* how it ended */
	struct buf           head, in;
	size_t               head_bytes;        /* of interim answers */
	int                  status;
	struct err           err;
	struct fetch_result  result;
};

/* fetch.c */
void job_move(struct fetch_job *j, enum job_state to);
void fetch_pump_soon(struct fetch_client *c);
void job_try(struct fetch_job *j);              /* it has its place: resolve, then run */
void job_done(struct fetch_job *j);             /* status or err is set */
void job_fail(struct fetch_job *j, int code, const char *what);
void fetch_maybe_free(struct fetch_client *c);  /* closed, and nothing is left */

/* fetch_curl.c */
void multi_open(struct fetch_multi *m, struct fetch_client *c);
void multi_close(struct fetch_multi *m);
void job_run(struct fetch_job *j);
void job_stop(struct fetch_job *j);             /* takes it from curl, if it is there */

/* fetch_end.c */
void job_ended(struct fetch_job *j, CURLcode code);     /* curl is through with this try */
void job_unsent(struct fetch_job *j, int code, const char *why);        /* nothing left us in this try */
void job_overdue(struct fetch_job *j);

/* fetch_dns.c */
void job_resolve(struct fetch_job *j);          /* ends in job_run() or job_fail(), perhaps at once */
void job_unresolve(struct fetch_job *j);
void dns_close(struct fetch_client *c);

#endif

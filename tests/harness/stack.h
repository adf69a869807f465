/* stack.h - the servers an integration test runs against: a database and topics of its own.
 *
 *      struct stack st;
 *      stack_open(&st, "router", STACK_SCHEMA | STACK_TOPICS);         group set-up
 *      ...
 *      stack_close(&st);                                               group tear-down
 *
 * Comes from `tests/run integration` or, by hand, `make T=test_x check-one`: the environment says
 * where PostgreSQL (primary, standby), Kafka, their control programs and our binaries are. */
#ifndef STACK_H
#define STACK_H

#include "common.h"
#include "child.h"
#include "probe.h"
#include "sql.h"
#include "wait.h"

enum stack_want {
	STACK_DATABASE = 1,     /* a fresh empty database, on primary and standby */
	STACK_SCHEMA   = 3,     /* and `waddle migrate` has run, roles may log in */
	STACK_TOPICS   = 4,     /* and `waddle topics create` has run, few partitions each */
};

struct stack {
	char *name, *database;          /* "router", "test_router" */
	char *url, *read_url;           /* superuser, primary and standby, this database */
	char *kafka, *prefix;           /* brokers; TOPIC_PREFIX, "test-router-<random>" */
	char *build;                    /* directory of the binaries */
	struct sql *sql, *standby;      /* connected when first used */
	char *words[32];                /* stack_env()'s */
	size_t n_words;
};

/* name: of the test program, a-z 0-9 and _.  A failure says what is missing. */
void stack_open(struct stack *st, const char *name, unsigned want) NONNULL;
void stack_close(struct stack *st) NONNULL;             /* drops the database and the topics */

/* URL of a role ("waddle_router"); NULL: superuser.  Valid until stack_close(). */
const char *stack_url(struct stack *st, const char *role);
const char *stack_read_url(struct stack *st, const char *role);
/* "waddle.events" -> "test-router-1f2e.events", as it is named on the broker; same lifetime. */
const char *stack_topic(struct stack *st, const char *topic) NONNULL;
void stack_topic_create(struct stack *st, const char *topic, int partitions) NONNULL;

/* A service binary ("waddle-router") with KAFKA_BROKERS, TOPIC_PREFIX, DATABASE_URL and
 * DATABASE_READ_URL of the role, ADMIN_LISTEN (the router: HTTP_LISTEN too) on a free port, SEALING_KEY_FILE, and env (ends with
 * NULL, may be NULL; wins over those).  The router's FAIR_OUTSTANDING is without limit.  Started; not waited for. */
struct child *stack_service(struct stack *st, const char *binary, const char *role,
			    const char *const *env) RETURNS_NONNULL;
/* "X-API-Key: wbot_...": a new key of that type, as a header; free(). */
char *stack_key(struct stack *st, const char *name, const char *type) RETURNS_NONNULL;
/* One request to a service's HTTP_LISTEN: its status, the answer in *ret (may be NULL).  key: a
 * header, or NULL; body: JSON, or NULL. */
int stack_ask(struct child *service, const char *method, const char *path, const char *key, const char *body,
	      struct probe_answer *ret);
/* How often `text` is in the values of a topic; waits until it is at least n times. */
size_t stack_mentions(struct stack *st, const char *topic, const char *text) NONNULL;
void stack_wait_mentions(struct stack *st, const char *topic, const char *text, size_t n, int64_t max_ms) NONNULL;
/* The command line tool: `waddle <words>`; exit status, output in *out (free()) unless NULL. */
int stack_waddle(struct stack *st, char **out, const char *const *words);

/* "stop primary", "start standby", "kill primary", "restart primary", "pause-replay",
 * "resume-replay"; each returns when it is so. */
void stack_pg(const char *words) NONNULL;
void stack_broker(const char *words) NONNULL;           /* "stop", "start", "restart", "kill" */
/* The same, and "pause", "resume": paused it takes what is sent and answers nothing.  Where it is:
 * TEST_REDIS. */
void stack_redis(const char *words) NONNULL;
/* The standby has replayed everything the primary has now. */
void stack_wait_replay(struct stack *st, int64_t max_ms) NONNULL;

#endif

/* service_main.c - the life of a process: settings, start, run, signals, drain, exit status. */
#include "service_state.h"

#include "admin.h"
#include "clock.h"
#include "err.h"
#include "http.h"
#include "log.h"
#include "str.h"

#include <malloc.h>
#include <event2/event.h>
#include <signal.h>
#include <unistd.h>

enum { EXIT_PERSON = 100, EXIT_AGAIN = 111, CLOSE_MS = 3000, CUT_MS = 500 };

static struct {                         /* one process, one life */
	struct event *term, *intr, *usr1;
	struct timer  drain_timer;
	bool          over;             /* a drain ends here, finished or not */
	bool          started;
	struct http  *admin;
	enum log_level level;
} life;

static int exit_status(const struct err *err)
{
	switch (err_kind(err)) {
	case ERR_AGAIN: case ERR_CONFLICT: case ERR_UNKNOWN: case ERR_NONE:
		return EXIT_AGAIN;
	case ERR_INPUT: case ERR_DENIED: case ERR_ABSENT: case ERR_BROKEN:
		return EXIT_PERSON;
	}
	return EXIT_PERSON;
}

static int usage(const struct service *s)
{
	printf("usage: %s [--help | --version]\n\n"
	       "Settings come from the environment; NAME_FILE may name a file with the value of NAME.\n",
	       s->name);
	if (s->vars != NULL && s->vars[0].env != NULL) {
		printf("\nOf this service:\n");
		cfg_help(s->vars);
	}
	printf("\nOf every service:\n");
	cfg_help(cfg_base_vars);
	printf("\nExit status: 0 drained after SIGTERM, 100 a person must change something,\n"
	       "111 try again.\n");
	return 0;
}

static void require(const char **names, size_t *n, unsigned needs, unsigned flag, const char *name)
{
	if ((needs & flag) != 0)
		names[(*n)++] = name;
}

static char *no_environ[] = { NULL };   /* clearenv() leaves none */

/* libpq would take defaults from them behind the back of DATABASE_URL. */
static void drop_pg_variables(void)
{
	for (char **e = environ != NULL ? environ : no_environ; *e != NULL;) {
		struct str value, name = str_cut(str_of(*e), '=', &value);
		char copy[64];

		if (!str_starts(name, STR("PG")) || name.n >= sizeof(copy)) {
			e++;
			continue;
		}
		memcpy(copy, name.p, name.n);
		copy[name.n] = '\0';
		unsetenv(copy);                 /* moves the rest up: look at the same place again */
	}
}

static struct str copied(struct str s)
{
	char *p = xgrow(NULL, s.n + 1, 1);

	if (s.n > 0)
		memcpy(p, s.p, s.n);
	p[s.n] = '\0';
	return (struct str){ p, s.n };
}

static void replace(struct str *field, struct str with)
{
	free((char *)(uintptr_t)field->p);
	*field = copied(with);
}

static int settings_load(struct service *s)
{
	static const struct cfg_var none[] = { { 0 } };
	struct cfg_part parts[] = { { s->vars != NULL ? s->vars : none, s->settings },
		                    { cfg_base_vars, &s->base } };
	struct buf complaints = BUF(16 * 1024);
	const char *required[8] = { NULL };
	struct err err = { 0 };
	size_t n = 0;
	int r;

	require(required, &n, s->needs, NEEDS_DATABASE, "DATABASE_URL");
	require(required, &n, s->needs, NEEDS_KAFKA, "KAFKA_BROKERS");
	require(required, &n, s->needs, NEEDS_HTTP, "HTTP_LISTEN");
	require(required, &n, s->needs, NEEDS_ROUTER, "ROUTER_URL");
	require(required, &n, s->needs, NEEDS_ROUTER, "SERVICE_KEY");
	require(required, &n, s->needs, NEEDS_PUBLIC, "PUBLIC_URL");
	require(required, &n, s->needs, NEEDS_SEALING, "SEALING_KEY_FILE");
	r = cfg_load_all(parts, ARRAY_LEN(parts), required, &complaints, &err);
	for (struct str rest = { complaints.p, complaints.n }; r < 0 && rest.n > 0;) {
		struct str one = str_cut(rest, '\n', &rest);

		log_error(NULL, "bad_setting", STR_FMT, STR_ARG(one));
	}
	buf_clear(&complaints);
	if (r < 0)
		return r;
	if (s->base.database_read_url.n == 0)
		replace(&s->base.database_read_url, s->base.database_url);
	if (s->base.instance.n == 0) {
		char host[65] = "localhost", name[96];

		gethostname(host, sizeof(host) - 1);
		snprintf(name, sizeof(name), "%s-%ld", host, (long)getpid());
		replace(&s->base.instance, str_of(name));
	}
	log_threshold = life.level = (enum log_level)s->base.log_level;
	return 0;
}

static void settings_clear(struct service *s)
{
	if (s->vars != NULL)
		cfg_clear(s->vars, s->settings);
	cfg_clear(cfg_base_vars, &s->base);
}

static void drain_late(void *arg)
{
	struct service *s = arg;

	log_warn(NULL, "drain_late", "%llu still held after %lld ms, leaving them to another process",
	         (unsigned long long)service_held(s), (long long)s->base.drain_timeout_ms);
	life.over = true;
}

static void asked_to_stop(evutil_socket_t signo, short what, void *arg)
{
	struct service *s = arg;

	(void)what;
	if (service_draining(s)) {
		log_warn(NULL, "drain_cut", "second signal %d, leaving %llu held to another process",
		         (int)signo, (unsigned long long)service_held(s));
		life.over = true;
		return;
	}
	timer_start(s, &life.drain_timer, s->base.drain_timeout_ms, drain_late, s);
	service_drain(s);
}

static void toggle_debug(evutil_socket_t signo, short what, void *arg)
{
	(void)signo;
	(void)what;
	(void)arg;
	log_threshold = log_threshold == L_DEBUG && life.level != L_DEBUG ? life.level : L_DEBUG;
	log_info(NULL, "log_level", "debug lines are %s now", log_threshold == L_DEBUG ? "on" : "off");
}

static void signals_start(struct service *s)
{
	life.term = evsignal_new(s->loop, SIGTERM, asked_to_stop, s);
	life.intr = evsignal_new(s->loop, SIGINT, asked_to_stop, s);
	life.usr1 = evsignal_new(s->loop, SIGUSR1, toggle_debug, s);
	ASSERT(life.term != NULL && life.intr != NULL && life.usr1 != NULL);
	evsignal_add(life.term, NULL);
	evsignal_add(life.intr, NULL);
	evsignal_add(life.usr1, NULL);
}

static void signals_stop(void)
{
	if (life.term == NULL)
		return;
	event_free(life.term);
	event_free(life.intr);
	event_free(life.usr1);
	life.term = life.intr = life.usr1 = NULL;
}

static bool is_quiet(void *arg)
{
	return service_quiet(arg);
}

/* What stop() closed may need turns to send a last answer, but not for ever. */
static void finish(struct service *s)
{
	timer_stop(&life.drain_timer);
	if (life.started && s->stop != NULL)
		s->stop(s);
	life.started = false;
	http_close(life.admin);
	life.admin = NULL;
	if (!service_run(s, is_quiet, s, life.over ? CUT_MS : CLOSE_MS))
		log_warn(NULL, "closed_late", "%llu still held", (unsigned long long)service_held(s));
	signals_stop();
	service_clear(s);
	settings_clear(s);
}

static void nothing(void *arg)
{
	(void)arg;
}

/* Until nothing is held.  One more turn after that: what the last release left to be sent. */
static int run(struct service *s)
{
	while (!service_draining(s))
		service_turn(s);
	for (int quiet = 0; !life.over && quiet < 2; quiet = service_quiet(s) ? quiet + 1 : 0) {
		if (service_quiet(s))
			service_later(s, nothing, NULL);        /* do not wait */
		service_turn(s);
	}
	return life.over && service_held(s) > 0 ? EXIT_AGAIN : 0;
}

static int open_all(struct service *s, struct err *err)
{
	int r = 0;

	if (s->base.admin_listen.n > 0) {
		life.admin = admin_open(s, s->base.admin_listen, err);
		if (life.admin == NULL)
			return err->code;
	}
	if (s->start != NULL)
		r = s->start(s, err);
	life.started = r >= 0;
	return r;
}

int service_main(struct service *s, int argc, char **argv)
{
	struct err err = { 0 };
	int status;

	if (argc > 1 && strcmp(argv[1], "--help") == 0)
		return usage(s);
	if (argc > 1 && strcmp(argv[1], "--version") == 0) {
		printf("%s %s\n", s->name, s->version != NULL ? s->version : "unknown");
		return 0;
	}
	if (argc > 1) {
		fprintf(stderr, "%s: unknown argument %s, see --help\n", s->name, argv[1]);
		return EXIT_PERSON;
	}
	/* librdkafka has a dozen threads; an arena for each would hold several times what is in use.
	 * Buffers of fetches and batches go back to the system when they are freed: left to itself
	 * glibc would keep them on its heaps as soon as it has seen one freed. */
	mallopt(M_ARENA_MAX, 2);
	mallopt(M_MMAP_THRESHOLD, 128 * 1024);
	mallopt(M_TRIM_THRESHOLD, 1024 * 1024);
	memset(&life, 0, sizeof(life));
	log_to(STDERR_FILENO, s->name);
	drop_pg_variables();
	if (settings_load(s) < 0)
		return EXIT_PERSON;
	service_init(s);
	signals_start(s);
	if (open_all(s, &err) < 0) {
		status = exit_status(&err);
		log_error(NULL, "start_failed", "%s", err.text);
	} else {
		log_info(NULL, "started", "version %s as " STR_FMT,
		         s->version != NULL ? s->version : "unknown", STR_ARG(s->base.instance));
		status = run(s);
	}
	finish(s);
	log_info(NULL, "stopped", "exit status %d", status);
	return status;
}

void service_fatal(struct service *s, const struct err *why)
{
	int status = exit_status(why);

	log_error(NULL, "fatal", "%s", why->text);
	if (life.started && s->stop != NULL)
		s->stop(s);
	exit(status);
}

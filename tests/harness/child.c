/* child.c - see child.h. */
#define BANNED_EXCEPT_GETENV
#include "child.h"
#include "probe.h"
#include "wait.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct child {
	char  *name, *log;
	char **argv, **env;
	pid_t  pid;             /* 0: not running */
	int    status;          /* of its last end */
};

static const char *const inherited[] = {
	"PATH", "TMPDIR", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS", "GCOV_PREFIX", NULL
};

static size_t count(const char *const *list)
{
	size_t n = 0;

	while (list != NULL && list[n] != NULL)
		n++;
	return n;
}

static char *with_port(const char *word)
{
	const char *at = strstr(word, "{port}");

	if (at == NULL)
		return text_of("%s", word);
	return text_of("%.*s%d%s", (int)(at - word), word, free_port(), at + strlen("{port}"));
}

struct child *child_new(const char *name, const char *const *argv, const char *const *env)
{
	struct child *c = XNEW(struct child);
	size_t n = count(argv), e = 0;
	const char *run = getenv("TEST_RUN_DIR");

	c->name = text_of("%s", name);
	c->log = text_of("%s/%s.%ld.log", run != NULL ? run : "/tmp", name, (long)getpid());
	unlink(c->log);
	c->argv = XNEW_N(char *, n + 1);
	for (size_t i = 0; i < n; i++)
		c->argv[i] = i > 0 || strchr(argv[0], '/') != NULL ? text_of("%s", argv[i])
								   : text_of("%s/%s", env_of("WADDLE_BUILD"), argv[0]);
	c->env = XNEW_N(char *, count(env) + ARRAY_LEN(inherited));
	for (size_t i = 0; inherited[i] != NULL; i++)
		if (getenv(inherited[i]) != NULL)
			c->env[e++] = text_of("%s=%s", inherited[i], getenv(inherited[i]));
	for (size_t i = 0; i < count(env); i++)
		c->env[e++] = with_port(env[i]);
	return c;
}

static void free_list(char **list)
{
	for (size_t i = 0; list[i] != NULL; i++)
		free(list[i]);
	free(list);
}

void child_free(struct child *c)
{
	if (c == NULL)
		return;
	child_kill(c);
	free_list(c->argv);
	free_list(c->env);
	free(c->name);
	free(c->log);
	free(c);
}

/* Between fork and exec only what is async-signal-safe: librdkafka's threads may hold locks. */
static void become(const struct child *c, int log, pid_t parent)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
		_exit(126);
	if (dup2(log, 1) < 0 || dup2(log, 2) < 0)
		_exit(126);
	execve(c->argv[0], c->argv, c->env);
	_exit(127);
}

void child_start(struct child *c)
{
	pid_t parent = getpid();
	int log, null;

	if (c->pid != 0)
		harness_fail("%s runs already", c->name);
	if (access(c->argv[0], X_OK) != 0)
		harness_fail("%s: %s: %s", c->name, c->argv[0], strerror(errno));
	log = open(c->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (log < 0 || null < 0)
		harness_fail("%s: %s", c->log, strerror(errno));
	fflush(NULL);
	c->pid = fork();
	if (c->pid == 0) {
		dup2(null, 0);
		become(c, log, parent);
	}
	if (c->pid < 0)
		harness_fail("fork: %s", strerror(errno));
	close(log);
	close(null);
}

int child_port(const struct child *c, const char *variable)
{
	size_t n = strlen(variable);

	for (size_t i = 0; c->env[i] != NULL; i++) {
		const char *colon = strrchr(c->env[i], ':');

		if (strncmp(c->env[i], variable, n) == 0 && c->env[i][n] == '=' && colon != NULL)
			return (int)strtol(colon + 1, NULL, 10);
	}
	harness_fail("%s has no %s with a port", c->name, variable);
}

pid_t child_pid(const struct child *c)
{
	return c->pid;
}

static void reap(struct child *c)
{
	int status;

	if (c->pid == 0 || waitpid(c->pid, &status, WNOHANG) != c->pid)
		return;
	c->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	c->pid = 0;
}

bool child_running(struct child *c)
{
	reap(c);
	return c->pid != 0;
}

static bool has_ended(void *arg)
{
	return !child_running(arg);
}

int child_wait(struct child *c, int64_t max_ms)
{
	return wait_until(has_ended, c, max_ms) ? c->status : -1;
}

void child_signal(struct child *c, int sig)
{
	if (!child_running(c))
		harness_fail("%s does not run (status %d), no signal %d for it", c->name, c->status, sig);
	kill(c->pid, sig);
}

void child_kill(struct child *c)
{
	if (!child_running(c))
		return;
	kill(c->pid, SIGKILL);
	if (child_wait(c, 20000) < 0)
		harness_fail("%s outlives SIGKILL", c->name);
}

int child_end(struct child *c, int64_t max_ms)
{
	int status;

	if (!child_running(c))
		return c->status;
	kill(c->pid, SIGTERM);
	status = child_wait(c, max_ms);
	if (status < 0) {
		child_show_log(c);
		harness_fail("%s still runs %lld ms after SIGTERM", c->name, (long long)max_ms);
	}
	return status;
}

int child_run(struct child *c, int64_t max_ms)
{
	int status;

	child_start(c);
	status = child_wait(c, max_ms);
	if (status < 0) {
		child_show_log(c);
		harness_fail("%s did not end within %lld ms", c->name, (long long)max_ms);
	}
	return status;
}

struct ready { struct child *c; char *url; bool want; int last; };

static bool ready_is(void *arg)
{
	struct ready *r = arg;
	struct probe_answer a;

	r->last = 0;
	if (probe_http("GET", r->url, NULL, NULL, 0, 2000, &a) == 0) {
		r->last = a.status;
		probe_answer_free(&a);
	}
	return (r->last == 200) == r->want || !child_running(r->c);
}

void child_wait_ready(struct child *c, bool up, int64_t max_ms)
{
	struct ready r = { .c = c, .want = up };
	bool ok;

	r.url = text_of("http://127.0.0.1:%d/readyz", child_port(c, "ADMIN_LISTEN"));
	ok = wait_until(ready_is, &r, max_ms);
	free(r.url);
	if (ok && c->pid != 0)
		return;
	child_show_log(c);
	if (c->pid == 0)
		harness_fail("%s ended with status %d", c->name, c->status);
	harness_fail("%s: /readyz not %s within %lld ms, last status %d", c->name, up ? "200" : "other than 200",
		     (long long)max_ms, r.last);
}

const char *child_log(const struct child *c)
{
	return c->log;
}

static char *read_log(const struct child *c, size_t *n)
{
	FILE *f = fopen(c->log, "re");
	struct stat st;
	char *text;

	*n = 0;
	if (f == NULL || fstat(fileno(f), &st) != 0) {
		if (f != NULL)
			fclose(f);
		return text_of("%s", "");
	}
	text = XNEW_N(char, (size_t)st.st_size + 1);
	*n = fread(text, 1, (size_t)st.st_size, f);
	fclose(f);
	return text;
}

bool child_log_has(const struct child *c, const char *text)
{
	size_t n;
	char *log = read_log(c, &n);
	bool has = memmem(log, n, text, strlen(text)) != NULL;

	free(log);
	return has;
}

struct wanted { struct child *c; const char *text; };

static bool log_has(void *arg)
{
	const struct wanted *w = arg;

	return child_log_has(w->c, w->text);
}

void child_wait_log(struct child *c, const char *text, int64_t max_ms)
{
	struct wanted w = { c, text };

	if (wait_until(log_has, &w, max_ms))
		return;
	child_show_log(c);
	harness_fail("%s did not log \"%s\" within %lld ms", c->name, text, (long long)max_ms);
}

void child_show_log(const struct child *c)
{
	size_t n;
	char *log = read_log(c, &n), *from = log + (n > 6000 ? n - 6000 : 0);

	fprintf(stderr, "--- the end of %s\n%s\n---\n", c->log, from);
	free(log);
}

int64_t child_rss_kib(const struct child *c)
{
	char path[64], line[256];
	int64_t kib = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%ld/status", (long)c->pid);
	f = fopen(path, "re");
	while (f != NULL && kib < 0 && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "VmRSS:", 6) == 0)
			kib = strtoll(line + 6, NULL, 10);
	if (f != NULL)
		fclose(f);
	if (kib < 0)
		harness_fail("%s: no VmRSS in %s", c->name, path);
	return kib;
}

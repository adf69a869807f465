/* wait.c - see wait.h. */
#define BANNED_EXCEPT_GETENV
#include "wait.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

void harness_fail(const char *fmt, ...)
{
	va_list ap;

	fputs("harness: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	fail();
	abort();
}

int64_t harness_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

bool wait_until(bool (*cond)(void *arg), void *arg, int64_t max_ms)
{
	int64_t end = harness_now_ms() + max_ms;

	while (!cond(arg)) {
		if (harness_now_ms() >= end)
			return cond(arg);
		poll(NULL, 0, 5);
	}
	return true;
}

void wait_for(const char *what, bool (*cond)(void *arg), void *arg, int64_t max_ms)
{
	if (!wait_until(cond, arg, max_ms))
		harness_fail("not within %lld ms: %s", (long long)max_ms, what);
}

int free_port(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &n) != 0)
		harness_fail("no free port: %s", strerror(errno));
	close(fd);
	return ntohs(a.sin_port);
}

/* splitmix64 (Steele, Lea, Flood 2014): any seed will do. */
uint64_t rnd_next(void)
{
	static uint64_t state;
	static bool seeded;
	uint64_t z;

	if (!seeded) {
		const char *seed = getenv("TEST_SEED");

		state = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)harness_now_ms();
		fprintf(stderr, "harness: TEST_SEED=%llu\n", (unsigned long long)state);
		seeded = true;
	}
	state += 0x9e3779b97f4a7c15u;
	z = state;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

uint64_t rnd_below(uint64_t limit)
{
	ASSERT(limit > 0);
	return rnd_next() % limit;
}

char *text_of(const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		harness_fail("out of memory");
	return text;
}

const char *env_of(const char *name)
{
	const char *value = getenv(name);

	if (value == NULL || *value == '\0')
		harness_fail("%s is not set; run `make T=<test> check-one`, or this program after\n"
			     "  tools/dev/stack up --dir run/test --broker kafka\n"
			     "  eval \"$(tools/dev/stack env --dir run/test)\"; export WADDLE_BUILD=build/<mode>",
			     name);
	return value;
}

/* test_api_openapi.c - the description of each listener is what runs: docs/openapi-<service>.json,
 * routes, types of keys (router 88).
 *
 *      WRITE_DOCS=1 in the environment writes the files instead of comparing. */
#define BANNED_EXCEPT_GETENV
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "stack.h"
#include "str.h"

enum { WAIT_MS = 20000 };

static struct stack st;
static struct child *router, *twitch;
static const char *const types[] = { "collector", "interaction", "webhook", "admin" };
static char *keys[4];

static int up(void **state)
{
	static const char *const env[] = { "HTTP_LISTEN=127.0.0.1:{port}", "TWITCH_WEBHOOK_SECRET=test-only-eventsub-secret", NULL };

	(void)state;
	stack_open(&st, "api_openapi", STACK_SCHEMA | STACK_TOPICS);
	router = stack_service(&st, "waddle-router", "waddle_router", NULL);
	twitch = stack_service(&st, "waddle-collector-twitch", "waddle_collector_twitch", env);
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		keys[i] = stack_key(&st, types[i], types[i]);
	child_wait_ready(router, true, WAIT_MS);
	child_wait_ready(twitch, true, WAIT_MS);
	return 0;
}

static int down(void **state)
{
	(void)state;
	assert_int_equal(child_end(twitch, WAIT_MS), 0);
	child_free(twitch);
	assert_int_equal(child_end(router, WAIT_MS), 0);
	child_free(router);
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		free(keys[i]);
	stack_close(&st);
	return 0;
}

/* One line a path, so that a change is one line too. */
static char *lines(const char *json)
{
	size_t n = strlen(json), at = 0;
	char *out = malloc(2 * n + 2);

	for (size_t i = 0; i < n; i++) {
		if (json[i] == '"' && (strncmp(json + i, "\"/", 2) == 0 || strncmp(json + i, "\"components\"", 12) == 0))
			out[at++] = '\n';
		out[at++] = json[i];
	}
	out[at++] = '\n';
	out[at] = '\0';
	return out;
}

static char *described(struct child *service)
{
	struct probe_answer a;
	char *text;

	assert_int_equal(stack_ask(service, "GET", "/openapi.json", NULL, NULL, &a), 200);
	text = lines(a.body);
	probe_answer_free(&a);
	return text;
}

static void compare(struct child *service, const char *path)
{
	char *is = described(service), *was = calloc(1, 1 << 20);
	FILE *f;

	if (getenv("WRITE_DOCS") != NULL) {
		f = fopen(path, "we");
		assert_non_null(f);
		assert_true(fputs(is, f) >= 0);
		assert_int_equal(fclose(f), 0);
	}
	f = fopen(path, "re");
	assert_non_null(f);
	assert_true(fread(was, 1, (1 << 20) - 1, f) > 0);
	fclose(f);
	if (strcmp(is, was) != 0)
		fail_msg("%s is not what runs: WRITE_DOCS=1 make T=test_api_openapi check-one", path);
	free(is);
	free(was);
}

static void the_published_descriptions_are_those_of_what_runs(void **state)
{
	(void)state;
	compare(router, "docs/openapi-router.json");
	compare(twitch, "docs/openapi-collector-twitch.json");
}

/* "/router/entities/{id}" -> "/router/entities/1" */
static char *with_values(const char *path)
{
	char *out = calloc(1, strlen(path) + 64);
	size_t n = 0;

	for (; *path != '\0'; path++) {
		if (*path == '{') {
			path = strchr(path, '}');
			n += (size_t)snprintf(out + n, 8, "999999");
		} else {
			out[n++] = *path;
		}
	}
	return out;
}

/* Of one operation: who may call it is who gets further than 401 and 403. */
static void check_operation(const char *method, const char *path, const char *text)
{
	char upper[8] = "", *real = with_values(path);
	const char *list = strstr(text, "\"x-key-types\":[");
	char allowed[128] = "";

	for (size_t i = 0; method[i] != '\0'; i++)
		upper[i] = (char)(method[i] - 32);
	if (list != NULL)
		snprintf(allowed, sizeof(allowed), "%.*s", (int)strcspn(list + 15, "]"), list + 15);
	assert_true((list == NULL) == (stack_ask(router, upper, real, NULL, NULL, NULL) != 401));
	for (size_t i = 0; list != NULL && i < ARRAY_LEN(types); i++) {
		int status = stack_ask(router, upper, real, keys[i], NULL, NULL);

		if ((strstr(allowed, types[i]) != NULL) != (status != 403 && status != 401))
			fail_msg("%s %s with a key of type %s: %d", upper, real, types[i], status);
		if (status >= 500)
			fail_msg("%s %s: %d", upper, real, status);
	}
	free(real);
}

/* router 88 */
static void every_route_lets_in_whom_its_description_names(void **state)
{
	static const char *const methods[] = { "get", "post", "put", "patch", "delete" };
	char *text = described(router), *save = NULL;
	int operations = 0;

	(void)state;
	for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		char path[128];

		if (strncmp(line, "\"/router/", 9) != 0)
			continue;
		snprintf(path, sizeof(path), "%.*s", (int)strcspn(line + 1, "\""), line + 1);
		for (size_t m = 0; m < ARRAY_LEN(methods); m++) {
			char *begin = text_of("\"%s\":{\"summary\"", methods[m]), *at = strstr(line, begin), *end;

			free(begin);
			if (at == NULL)
				continue;
			end = strstr(at + 20, "\":{\"summary\"");
			at = end != NULL ? strndup(at, (size_t)(end - at)) : strdup(at);
			check_operation(methods[m], path, at);
			free(at);
			operations++;
		}
	}
	assert_true(operations >= 25);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_published_descriptions_are_those_of_what_runs),
		cmocka_unit_test(every_route_lets_in_whom_its_description_names),
	};

	return !!cmocka_run_group_tests_name("api_openapi", tests, up, down);
}

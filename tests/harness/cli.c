/* cli.c - see cli.h. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli.h"

struct cli cli;

void cli_open(const char *name, unsigned want)
{
	stack_open(&cli.st, name, want);
}

void cli_close(void)
{
	stack_close(&cli.st);
	free(cli.out);
	cli.out = NULL;
}

int cli_run(const char *words)
{
	static char text[1024];
	const char *list[24];
	size_t n = 0;
	char *at = text;

	snprintf(text, sizeof(text), "%s", words);
	while (at != NULL && n < ARRAY_LEN(list) - 1) {
		list[n++] = at;
		at = strchr(at, '|');
		if (at != NULL)
			*at++ = '\0';
	}
	if (words[0] == '\0')
		n = 0;
	list[n] = NULL;
	free(cli.out);
	cli.out = NULL;
	return stack_waddle(&cli.st, &cli.out, list);
}

void cli_says(const char *text)
{
	if (strstr(cli.out, text) == NULL)
		print_error("not said: \"%s\" in:\n%s\n", text, cli.out);
	assert_non_null(strstr(cli.out, text));
}

void cli_says_not(const char *text)
{
	if (strstr(cli.out, text) != NULL)
		print_error("said: \"%s\" in:\n%s\n", text, cli.out);
	assert_null(strstr(cli.out, text));
}

void cli_fine(const char *words)
{
	int status = cli_run(words);

	if (status != 0)
		print_error("%s: %d: %s\n", words, status, cli.out);
	assert_int_equal(status, 0);
}

char *cli_json(const char *path)
{
	return sql_text(cli.st.sql, "SELECT ($json$%s$json$::jsonb) #>> '%s'", cli.out, path);
}

void cli_json_is(const char *path, const char *want)
{
	char *got = cli_json(path);

	if (got == NULL || strcmp(got, want) != 0)
		print_error("%s in %s\n", path, cli.out);
	assert_non_null(got);
	assert_string_equal(got, want);
	free(got);
}

/* cli.c - finding the subcommand, reading its options, printing help from the same tables. */
#include "cli.h"

#include <unistd.h>

static bool is_help(const char *word)
{
	return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static void list_commands(FILE *to, const struct cli_command *commands, const char *about, const char *argv0)
{
	int width = 0;

	fprintf(to, "%s\n\nusage: %s <command> [options]\n\n", about, argv0);
	for (const struct cli_command *c = commands; c->name != NULL; c++) {
		int n = (int)(strlen(c->name) + 1 + strlen(c->args));

		width = n > width ? n : width;
	}
	width = width > 44 ? 44 : width;
	for (const struct cli_command *c = commands; c->name != NULL; c++) {
		int n = fprintf(to, "  %s %s", c->name, c->args);

		if (n > width + 2)
			n = fprintf(to, "\n  ") - 1;
		fprintf(to, "%*s  %s\n", width + 2 - n, "", c->help);
	}
	fprintf(to, "\n%s <command> --help explains one.\n", argv0);
}

int cli_run(const struct cli_command *commands, const char *about, int argc, char **argv)
{
	char whole[128];

	if (argc < 2) {
		list_commands(stderr, commands, about, argv[0]);
		return CLI_USAGE;
	}
	if (is_help(argv[1]) || (strcmp(argv[1], "help") == 0 && argc == 2)) {
		list_commands(stdout, commands, about, argv[0]);
		return CLI_OK;
	}
	for (const struct cli_command *c = commands; c->name != NULL; c++) {
		if (strcmp(c->name, argv[1]) != 0)
			continue;
		snprintf(whole, sizeof(whole), "%s %s", argv[0], c->name);
		argv[1] = whole;
		return c->run(argc - 1, argv + 1);
	}
	return cli_misused(argv[0], "there is no command \"%s\"", argv[1]);
}

static void show_help(const struct opt *opts, const char *args, const char *about, const char *argv0)
{
	printf("usage: %s%s%s\n\n%s\n", argv0, *args == '\0' ? "" : " ", args, about);
	if (opts->name != NULL)
		printf("\n");
	for (const struct opt *o = opts; o->name != NULL; o++) {
		int n = printf("  --%s%s%s%s", o->name, o->value == NULL ? "" : " <",
		               o->value == NULL ? "" : o->value, o->value == NULL ? "" : ">");

		printf("%*s  %s\n", n < 26 ? 26 - n : 0, "", o->help);
	}
}

static const struct opt *find(const struct opt *opts, const char *word, size_t n)
{
	for (const struct opt *o = opts; o->name != NULL; o++)
		if (strlen(o->name) == n && memcmp(o->name, word, n) == 0)
			return o;
	return NULL;
}

/* One option at argv[*i], with its value, which may be the next word. */
static int take(const struct opt *opts, int argc, char **argv, int *i)
{
	const char *word = argv[*i] + 2;
	const char *value = strchr(word, '=');
	const struct opt *o = find(opts, word, value != NULL ? (size_t)(value - word) : strlen(word));

	if (o == NULL)
		return cli_misused(argv[0], "there is no option \"%s\"", argv[*i]);
	value = value != NULL ? value + 1 : NULL;
	if (o->type == OPT_FLAG) {
		if (value != NULL)
			return cli_misused(argv[0], "--%s takes no value", o->name);
		*(bool *)o->to = true;
		return CLI_OK;
	}
	if (value == NULL && ++*i < argc)
		value = argv[*i];
	if (value == NULL)
		return cli_misused(argv[0], "--%s needs a value", o->name);
	if (o->type == OPT_TEXT)
		*(const char **)o->to = value;
	else if (str_int(str_of(value), o->min, o->max, o->to) < 0)
		return cli_misused(argv[0], "--%s must be a number from %lld to %lld, not \"%s\"", o->name,
		                   (long long)o->min, (long long)o->max, value);
	return CLI_OK;
}

int cli_options(const struct opt *opts, const char *args, const char *about, int argc, char **argv, int min,
                int max, int *status)
{
	int words = 0;
	bool options = true;

	*status = CLI_OK;
	for (int i = 1; i < argc; i++) {
		if (!options || argv[i][0] != '-' || argv[i][1] == '\0') {
			argv[++words] = argv[i];
		} else if (strcmp(argv[i], "--") == 0) {
			options = false;
		} else if (is_help(argv[i])) {
			show_help(opts, args, about, argv[0]);
			return -1;
		} else if (argv[i][1] != '-') {
			*status = cli_misused(argv[0], "there is no option \"%s\"", argv[i]);
			return -1;
		} else {
			*status = take(opts, argc, argv, &i);
			if (*status != CLI_OK)
				return -1;
		}
	}
	if (words < min)
		*status = cli_misused(argv[0], "something is missing: %s", args);
	else if (words > max)
		*status = cli_misused(argv[0], "\"%s\" is too much", argv[max + 1]);
	return *status == CLI_OK ? words : -1;
}

int cli_fail(const struct err *err)
{
	return cli_failed("%s", err->text);
}

int cli_failed(const char *fmt, ...)
{
	va_list ap;

	cli_progress_end();
	fputs("waddle: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return CLI_FAILED;
}

int cli_misused(const char *argv0, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", argv0);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, " (%s --help)\n", argv0);
	return CLI_USAGE;
}

static bool progress_shown;

void cli_progress(const char *fmt, ...)
{
	va_list ap;

	if (!isatty(STDERR_FILENO))
		return;
	fputs("\r\033[K", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fflush(stderr);
	progress_shown = true;
}

void cli_progress_end(void)
{
	if (progress_shown)
		fputs("\r\033[K", stderr);
	progress_shown = false;
}

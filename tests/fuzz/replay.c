/* replay - a fuzz target without a fuzzer: every file given (or in a folder given) is one input.
 *
 * `make check` runs it over tests/fuzz/corpus/<name>/.  A property that does not hold ends the
 * program by ASSERT or a sanitizer; no input at all is a failure, too. */
#include "common.h"

#include <dirent.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 4 * 1024 * 1024 };

/* The input lies in a block of exactly its size, so that one byte too far is seen. */
static int one_file(const char *path)
{
	FILE *f = fopen(path, "re");
	uint8_t *all = xnew_(INPUT_MAX, 1), *exact;
	size_t n;

	if (f == NULL) {
		fprintf(stderr, "%s: cannot be read\n", path);
		free(all);
		return -1;
	}
	n = fread(all, 1, INPUT_MAX, f);
	fclose(f);
	exact = malloc(n > 0 ? n : 1);
	ASSERT(exact != NULL);
	memcpy(exact, all, n);
	free(all);
	LLVMFuzzerTestOneInput(exact, n);
	free(exact);
	return 1;
}

/* The number of inputs, or -1. */
static int replay(const char *path)
{
	struct dirent **names;
	struct stat st;
	int n, sum = 0, r;

	if (stat(path, &st) != 0) {
		fprintf(stderr, "%s: not there\n", path);
		return -1;
	}
	if (!S_ISDIR(st.st_mode))
		return one_file(path);
	n = scandir(path, &names, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		char inner[4096];

		snprintf(inner, sizeof(inner), "%s/%s", path, names[i]->d_name);
		if (names[i]->d_name[0] != '.' && sum >= 0) {
			r = one_file(inner);
			sum = r < 0 ? r : sum + r;
		}
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	return sum;
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/') != NULL ? strrchr(argv[0], '/') + 1 : argv[0];
	int inputs = 0;

	printf("[ RUN      ] %s\n", name);
	for (int i = 1; i < argc; i++) {
		int n = replay(argv[i]);

		if (n < 0) {
			printf("[  FAILED  ] %s: %s\n", name, argv[i]);
			return 1;
		}
		inputs += n;
	}
	if (inputs == 0) {
		printf("[  FAILED  ] %s: no inputs\n", name);
		return 1;
	}
	printf("[       OK ] %s: %d inputs\n", name, inputs);
	return 0;
}

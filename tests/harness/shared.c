#define BANNED_EXCEPT_GETENV
#include "shared.h"

bool shared_file(const char *name, struct buf *out)
{
	const char *dir = getenv("WADDLE_SHARED_DATA");
	char path[512], part[4096];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir != NULL && dir[0] != '\0' ? dir : "../shared/data", name);
	f = fopen(path, "re");
	if (f == NULL) {
		printf("no sample data at %s (set WADDLE_SHARED_DATA)\n", path);
		return false;
	}
	while ((n = fread(part, 1, sizeof(part), f)) > 0)
		buf_add(out, (struct str){ part, n });
	fclose(f);
	return true;
}

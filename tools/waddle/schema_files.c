/* schema_files.c - see schema_files.h. */
#include "schema_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 1024 * 1024, FILES_MAX = 1000 };

static bool name_ok(const char *name)
{
	size_t n = strlen(name);

	if (n < 12 || strspn(name, "0123456789") != 4 || name[4] != '_' || strcmp(name + n - 4, ".sql") != 0)
		return false;
	if (strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != n - 4)
		return false;
	return strchr(name + 5, '_') != NULL;
}

static int by_name(const void *a, const void *b)
{
	const struct schema_file *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int check(const struct schema_file *files, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		if (!name_ok(files[i].name))
			return err_set(err, -EINVAL, "%s: the name must be NNNN_<owner>_<what>.sql",
			               files[i].name);
		if (i > 0 && memcmp(files[i].name, files[i - 1].name, 4) == 0)
			return err_set(err, -EINVAL, "%s and %s have the same number", files[i - 1].name,
			               files[i].name);
		if (!str_utf8_ok(str_of(files[i].text)))
			return err_set(err, -EINVAL, "%s is not UTF-8", files[i].name);
	}
	return n > 0 ? 0 : err_set(err, -ENOENT, "no schema files");
}

static int read_file(int at, const char *name, struct arena *mem, const char **ret, struct err *err)
{
	int fd = openat(at, name, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return err_sys(err, "%s", name);
	if (fstat(fd, &st) < 0 || st.st_size > FILE_MAX) {
		close(fd);
		return err_set(err, -EFBIG, "%s is larger than %d bytes", name, FILE_MAX);
	}
	size_t size = (size_t)st.st_size, n = 0;
	char *text = arena_alloc(mem, size + 1);

	for (;;) {
		ssize_t got = read(fd, text + n, size + 1 - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0 || (n += (size_t)got) > size)
			break;
	}
	close(fd);
	if (n != size || memchr(text, '\0', n) != NULL)
		return err_set(err, -EIO, "%s could not be read whole, or holds a NUL", name);
	*ret = text;
	return 0;
}

static int load_dir(const char *path, struct arena *mem, struct schema_files *files, struct err *err)
{
	DIR *dir = opendir(path);
	struct dirent *d;
	int r = 0;

	if (dir == NULL)
		return err_sys(err, "%s", path);
	while (r == 0 && (d = readdir(dir)) != NULL) {
		size_t len = strlen(d->d_name);
		const char *text = NULL;

		if (d->d_name[0] == '.' || len < 4 || strcmp(d->d_name + len - 4, ".sql") != 0)
			continue;
		if (files->n == FILES_MAX)
			r = err_set(err, -E2BIG, "%s holds more than %d files", path, FILES_MAX);
		else
			r = read_file(dirfd(dir), d->d_name, mem, &text, err);
		if (r == 0)
			files->file[files->n++] =
				(struct schema_file){ arena_str(mem, str_of(d->d_name)).p, text };
	}
	closedir(dir);
	return r;
}

int schema_files_load(const char *dir, struct arena *mem, struct schema_files *ret, struct err *err)
{
	struct schema_files files = { arena_alloc(mem, FILES_MAX * sizeof(*files.file)), 0 };
	int r = 0;

	if (dir != NULL)
		r = load_dir(dir, mem, &files, err);
	else
		while (schema_built_in[files.n].name != NULL) {
			files.file[files.n] = schema_built_in[files.n];
			files.n++;
		}
	if (r == 0) {
		qsort(files.file, files.n, sizeof(*files.file), by_name);
		r = check(files.file, files.n, err);
	}
	if (r == 0)
		*ret = files;
	return r;
}

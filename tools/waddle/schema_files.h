/* schema_files.h - the files of schema/, built into the binary or read from a directory. */
#ifndef SCHEMA_FILES_H
#define SCHEMA_FILES_H

#include "arena.h"
#include "common.h"
#include "err.h"
#include "str.h"

struct schema_file {
	const char *name;
	const char *text;
}; /* "0001_schema_roles.sql" */

/* Made by the Makefile from schema/ (sorted by name); ends with {0}. */
extern const struct schema_file schema_built_in[];

struct schema_files {
	struct schema_file *file;
	size_t n;
};

/* Files in order.  dir NULL: the built-in ones.  Names must be NNNN_<owner>_<what>.sql and numbers
 * unique; other files ending in .sql are an error.  Everything lives in mem. */
int schema_files_load(const char *dir, struct arena *mem, struct schema_files *ret,
		      struct err *err) MUST_CHECK;

#endif

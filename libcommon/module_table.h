/* module_table.h - finding the row of a module's table by what a person typed, and explaining it. */
#ifndef MODULE_TABLE_H
#define MODULE_TABLE_H

#include "module.h"

/* The row whose name, or other name, is the longest run of leading words, in any case; a row named
 * "" takes what no other takes.  NULL: none. */
const struct command *command_find(const struct command *table, const struct str *words, size_t n,
                                   size_t *ret_words);

/* "Unknown: lst. Try add, list, get. Did you mean list?" */
void command_unknown(const struct command *table, const struct str *words, size_t n, struct buf *out);

/* `!memories add url "title" "url" ["description"]  e.g. !memories add url "Rules" example.org` */
void command_usage(const struct command *c, struct str root, struct buf *out);

/* One line per row that may(arg, row). */
void command_help(const struct command *table, struct str root, const char *newline,
                  bool (*may)(void *arg, const struct command *c), void *arg, struct buf *out);
/* Usage, limits, who may. */
void command_help_one(const struct command *c, struct str root, const char *newline, enum need need,
                      struct buf *out);

#endif

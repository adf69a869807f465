/* module_rights.h - may this user run this command?  (modules.md 1.5)
 *
 * The router sends the effective role and the labels that hold; nobody else is asked.  When it
 * could not find out, what needs more than a member is refused, as its own answer. */
#ifndef MODULE_RIGHTS_H
#define MODULE_RIGHTS_H

#include "module.h"

const char *need_name(enum need need) RETURNS_NONNULL;  /* "moderator" */

/* 0; -EACCES: may not; -EAGAIN: the rights are not known. */
int rights_check(const struct user *u, enum need need, const char *label) MUST_CHECK;

/* The row's need, or what config.min_role says for this sub-command. */
enum need rights_need(const struct command *c, struct str config, struct arena *mem);

#endif

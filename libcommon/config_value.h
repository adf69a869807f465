/* config_value.h - one setting's text into its field; for config.c only. */
#ifndef CONFIG_VALUE_H
#define CONFIG_VALUE_H

#include "config.h"

/* Checks the text against the row's type and range; field NULL: only that.  Text types are only
 * checked, config.c keeps their text.  -EINVAL with the reason, without the value. */
int  cfg_value_parse(const struct cfg_var *v, struct str text, void *field, struct err *err) MUST_CHECK;
bool cfg_value_is_secret(const struct cfg_var *v, struct str text);    /* also a URL with a password */

/* Edit distance of two names, 3 meaning three or more; a swap of neighbours counts one. */
unsigned cfg_distance(struct str a, struct str b);

#endif

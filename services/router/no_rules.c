/* no_rules.c - stands for the string rules until they are there: nothing ever hits. */
#include "router.h"

__attribute__((weak)) bool rules_any(const struct router *r)
{
	(void)r;
	return false;
}

__attribute__((weak)) enum verdict rules_apply(struct work *w)
{
	(void)w;
	return VERDICT_PLAIN;
}

__attribute__((weak)) bool rules_act(struct work *w)
{
	(void)w;
	return true;
}

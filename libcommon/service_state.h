/* service_state.h - what service_main.c needs of service.c beyond service.h; for these two only. */
#ifndef SERVICE_STATE_H
#define SERVICE_STATE_H

#include "service.h"

void service_turn(struct service *s) NONNULL;               /* one, see service.h */
bool service_quiet(const struct service *s) NONNULL;        /* nothing held, nothing to free */

#endif

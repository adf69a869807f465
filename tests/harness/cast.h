/* cast.h - a router, and modules that a test plays: it sees what they are told and answers for them.
 *
 * Channels "1001", "1002" ... of twitch, each in a community of its own, numbered from 2.  Every command
 * that is registered is enabled in all of them. */
#ifndef CAST_H
#define CAST_H

#include "stack.h"

struct cast {
	struct stack st;
	struct child *router;
	int channels;
};

enum { CAST_WAIT_MS = 10000 };

/* modules and env end with NULL; modules have to be listed for their topics. */
void cast_open(struct cast *c, const char *name, int channels, const char *const *modules, const char *const *env);
void cast_close(struct cast *c) NONNULL;

/* commands: as in the registry, "{\"command\":\"x\",\"prefix\":\"!\"},{...}"; n of them. */
void cast_register(struct cast *c, const char *module, const char *commands, int n);

/* Somebody writes in channel i; the event's id.  free() it. */
char *cast_say(struct cast *c, int channel, const char *fmt, ...) PRINTF(3, 4) RETURNS_NONNULL;
/* The same event, delivered again. */
void  cast_again(struct cast *c, int channel, const char *event_id, const char *text);

/* How often the module was told of that event; its command for it, NULL: none.  free() it. */
size_t cast_told(struct cast *c, const char *module, const char *event_id);
void   cast_wait_told(struct cast *c, const char *module, const char *event_id, size_t n);
/* The module's final response to its execution of that event. */
void   cast_answer(struct cast *c, const char *module, const char *event_id, bool success);

/* status of the module's execution of that event is this, in the end. */
void   cast_wait_status(struct cast *c, const char *module, const char *event_id, const char *status);

/* A series of the router's, as of now. */
double cast_metric(struct cast *c, const char *series);

#endif

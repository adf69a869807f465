/* chat_prompt.h - an edited input line on the loop (libedit); answers appear above it.
 *
 * libedit has one line per process, so there is no handle. */
#ifndef CHAT_PROMPT_H
#define CHAT_PROMPT_H

#include "service.h"

void chat_prompt_open(struct service *s, const char *prompt, void (*line)(void *arg, struct str text),
		      void *arg) NONNULL;
void chat_prompt_close(void);
bool chat_prompt_ended(void); /* Ctrl-D, Ctrl-C, or the terminal has gone */

/* Around output; nothing happens when no prompt is open. */
void chat_prompt_hide(void);
void chat_prompt_show(void);

#endif

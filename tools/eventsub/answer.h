/* answer.h - what the stand-in for Helix was told to say in answer to one chat message. */
#ifndef ANSWER_H
#define ANSWER_H

#include "str.h"

/* Asks url (…/_sent?channel=ID) until a message answers `parent` or max_ms have passed, and prints
 * it with the time since began_us (clock_exact_us).  Number of answers then there; 0: none came;
 * negative: the stand-in cannot be asked. */
int answer_wait(const char *url, const char *parent, int64_t began_us, int64_t max_ms);

#endif

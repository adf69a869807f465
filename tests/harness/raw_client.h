/* raw_client.h - a TCP client on the test's own loop that sends exactly the bytes it is told. */
#ifndef RAW_CLIENT_H
#define RAW_CLIENT_H

#include "service.h"
#include "str.h"

struct event;

struct raw_client {
	struct service *s;
	int             fd;
	struct event   *ev;
	struct buf      in;             /* all that came */
	bool            eof, reset;     /* the other side ended; with RST */
	bool            deaf;           /* does not read until raw_listen() */
};

/* Blocking connect to 127.0.0.1:port; deaf: nothing is read, with a small receive buffer. */
void raw_open(struct raw_client *c, struct service *s, int port, bool deaf);
void raw_from_fd(struct raw_client *c, struct service *s, int fd);
void raw_close(struct raw_client *c);           /* twice is fine */
void raw_listen(struct raw_client *c);          /* a deaf one reads from now on */
void raw_reset(struct raw_client *c);           /* closes with RST */
void raw_finish(struct raw_client *c);          /* half close: no more is sent */

/* What the socket takes; the rest is lost: tests send little, or look at the result. */
size_t raw_send(struct raw_client *c, struct str bytes);

/* Runs the loop until so many complete answers are there, or the other side ended: how many are
 * there.  An answer without Content-Length ends with the connection. */
int  raw_answers(struct raw_client *c, int wanted);
bool raw_ended(struct raw_client *c);           /* runs the loop until the end; false after 5 s */

int  raw_status(const struct raw_client *c, int nth);           /* 0: there is none */
struct str raw_body(const struct raw_client *c, int nth);
struct str raw_header(const struct raw_client *c, int nth, const char *name);

/* All at once: connect, send, wait for one answer.  Its status; 0: closed without one. */
int  raw_ask(struct raw_client *c, struct service *s, int port, const char *bytes);

#endif

/* raw_server.h - a TCP server on the test's own loop that misbehaves exactly as it is told. */
#ifndef RAW_SERVER_H
#define RAW_SERVER_H

#include "list.h"
#include "service.h"
#include "str.h"

struct event;
struct evconnlistener;
struct raw_conn;

struct raw_server {
	struct service        *s;
	struct evconnlistener *listener;
	struct list            conns;
	int                    port, accepted, open, most_open;
	/* Something has come on this connection, or it is new (in.n == 0); may call raw_say() and the
	 * others below, once each end. */
	void                 (*serve)(struct raw_server *srv, struct raw_conn *c);
	void                  *user;
};

struct raw_conn {
	struct list        node;
	struct raw_server *server;
	int                fd;
	struct event      *ev, *wr;
	struct buf         in, out;
	size_t             sent;
	int                nth;         /* connection of this server, from 1 */
	int                answers;     /* a counter for serve() */
	bool               deaf, closing;
};

void raw_server_open(struct raw_server *srv, struct service *s,
                     void (*serve)(struct raw_server *, struct raw_conn *), void *user);
void raw_server_close(struct raw_server *srv);          /* twice is fine */

void raw_say(struct raw_conn *c, struct str bytes);
void raw_end(struct raw_conn *c);               /* closes when all is said */
void raw_cut(struct raw_conn *c);               /* closes with RST, at once */
void raw_deafen(struct raw_conn *c);            /* reads no more */
/* How many whole requests have come (Content-Length only), and where the last one begins. */
int  raw_requests(const struct raw_conn *c, struct str *last);

#endif

/* db_listen.c - LISTEN on a connection of its own, which is not pipelined.
 *
 * Channels are added to the end of the list and listened to in that order; a connection knows how
 * many of them it has asked for and how many are confirmed.  An empty query now and then finds
 * out whether the server still answers: nobody else would notice. */
#include "db_private.h"

#include "log.h"

enum { ASK_EVERY_MS = 2000, ANSWER_MS = 3000 };

struct channel {
	struct list node;
	char *name;
	void (*fn)(void *arg, struct str payload);
	void *arg;
};

struct db_listener {
	struct db_link link;
	struct list    channels;
	unsigned       n, asked, confirmed;     /* from the front of the list */
	bool           busy;                    /* a query is out */
	bool           alive;                   /* within db_close() nobody is told any more */
	struct timer   timer;                   /* next question, or deadline of its answer */
};

static void ask(void *arg);

static void query(struct db_listener *l, const char *sql)
{
	struct err err;

	l->busy = true;
	timer_start(l->link.db->service, &l->timer, ANSWER_MS, ask, l);
	if (PQsendQuery(l->link.pg, sql) == 1) {
		link_flush(&l->link);
		return;
	}
	err_of_conn(&err, l->link.pg);
	link_down(&l->link, &err);
}

static void listen_to_new(struct db_listener *l)
{
	struct buf sql = BUF(1024 * 1024);
	struct str text;
	unsigned i = 0;

	LIST_EACH(n, next, &l->channels) {
		const struct channel *ch = CONTAINER_OF(n, struct channel, node);
		char *quoted;

		if (i++ < l->asked)
			continue;
		quoted = PQescapeIdentifier(l->link.pg, ch->name, strlen(ch->name));
		if (quoted != NULL)
			buf_printf(&sql, "LISTEN %s;", quoted);
		PQfreemem(quoted);
	}
	buf_add(&sql, (struct str){ "", 1 });
	l->asked = l->n;
	if (buf_str(&sql, &text) == 0)
		query(l, text.p);
	buf_clear(&sql);
}

/* Of the timer: time for a question, or none came back. */
static void ask(void *arg)
{
	struct db_listener *l = arg;
	struct err err;

	if (l->link.state != LINK_UP)
		return;
	if (l->busy) {
		err_set(&err, -ETIMEDOUT, "no answer from PostgreSQL in time");
		link_down(&l->link, &err);
	} else {
		query(l, "");
	}
}

static void answered(struct db_listener *l)
{
	unsigned i = 0;

	l->busy = false;
	l->link.tries = 0;
	timer_start(l->link.db->service, &l->timer, ASK_EVERY_MS, ask, l);
	LIST_EACH(n, next, &l->channels) {
		const struct channel *ch = CONTAINER_OF(n, struct channel, node);

		if (i >= l->confirmed && i < l->asked) {
			l->confirmed = i + 1;
			ch->fn(ch->arg, STR_NONE);
			if (!l->alive)
				return;
		}
		i++;
	}
	if (l->n > l->asked)
		listen_to_new(l);
}

static void notified(struct db_listener *l, const PGnotify *what)
{
	LIST_EACH(n, next, &l->channels) {
		const struct channel *ch = CONTAINER_OF(n, struct channel, node);

		if (strcmp(ch->name, what->relname) == 0 && l->alive)
			ch->fn(ch->arg, (struct str){ what->extra, strlen(what->extra) });
	}
}

static void input(struct db_link *link)
{
	struct db_listener *l = CONTAINER_OF(link, struct db_listener, link);
	bool eof = PQconsumeInput(link->pg) != 1;
	struct err err = { 0 };
	PGnotify *what;

	while (l->busy && !PQisBusy(link->pg)) {
		PGresult *res = PQgetResult(link->pg);

		if (res == NULL) {
			if (err.code == 0)
				answered(l);
			break;
		}
		if (PQresultStatus(res) == PGRES_FATAL_ERROR)
			err_of_result(&err, res);
		PQclear(res);
	}
	while (l->alive && link->state == LINK_UP && (what = PQnotifies(link->pg)) != NULL) {
		notified(l, what);
		PQfreemem(what);
	}
	if (!l->alive || link->state != LINK_UP)
		return;
	if (eof && err.code == 0)
		err_of_conn(&err, link->pg);
	if (err.code != 0)
		link_down(link, &err);
}

static void up(struct db_link *link)
{
	struct db_listener *l = CONTAINER_OF(link, struct db_listener, link);

	l->asked = l->confirmed = 0;
	l->busy = false;
	listen_to_new(l);
}

static void down(struct db_link *link, const struct err *err)
{
	struct db_listener *l = CONTAINER_OF(link, struct db_listener, link);

	(void)err;
	timer_stop(&l->timer);
	l->busy = false;
}

void db_listen(struct db *db, const char *channel, void (*fn)(void *arg, struct str payload), void *arg)
{
	struct db_listener *l = db->listener;
	struct channel *ch = XNEW(struct channel);

	IS_A(db, DB_MAGIC);
	ASSERT(!db->closed);
	if (l == NULL) {
		l = db->listener = XNEW(struct db_listener);
		list_init(&l->channels);
		link_init(&l->link, db, &db->write.url, DB_ROLE_WRITE);
		l->link.up = up;
		l->link.input = input;
		l->link.down = down;
		l->alive = true;
		link_start(&l->link);
	}
	ch->name = strdup(channel);
	ASSERT(ch->name != NULL);
	ch->fn = fn;
	ch->arg = arg;
	list_init(&ch->node);
	list_add_tail(&l->channels, &ch->node);
	l->n++;
	if (l->link.state == LINK_UP && !l->busy)
		listen_to_new(l);
}

bool db_listening(const struct db *db)
{
	const struct db_listener *l = db->listener;

	return l != NULL && l->link.state == LINK_UP && l->confirmed > 0;
}

static void listener_free(void *arg)
{
	struct db_listener *l = arg;

	while (!list_empty(&l->channels)) {
		struct channel *ch = CONTAINER_OF(list_pop(&l->channels), struct channel, node);

		free(ch->name);
		free(ch);
	}
	free(l);
}

/* May be called from one of its callbacks. */
void listeners_close(struct db_listener *l)
{
	struct service *s;

	if (l == NULL)
		return;
	s = l->link.db->service;
	l->alive = false;
	timer_stop(&l->timer);
	link_stop(&l->link);
	service_later(s, listener_free, l);
}

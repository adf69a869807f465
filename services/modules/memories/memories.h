/* memories.h - what the files of this module share. */
#ifndef MEMORIES_H
#define MEMORIES_H

#include "module.h"

extern const char *const memory_types[];        /* "quote", "url", "note" */
#define WRITE_LABEL "memories"                  /* as good as moderator */

enum { TEXT_MAX = 2000, TITLE_MAX = 200, AUTHOR_MAX = 100, CONTEXT_MAX = 500, CATEGORY_MAX = 50,
       SEARCH_MAX = 100, ACTIVE_MAX = 10000 };

/* add.c */
struct add_args {
	struct str text, author, title, url, description, content, context, category;
	struct js_list tags;
};
extern const struct arg add_quote_args[], add_url_args[], add_note_args[];
void add_quote(struct request *r);
void add_url(struct request *r);
void add_note(struct request *r);

/* room.c - how many a community may still add before they have to be counted again. */
bool room_take(int64_t community);
void room_counted(int64_t community, int64_t active);
void room_clear(struct module *m);

/* list.c */
struct list_args { struct str type, category, tag; int64_t page; };
struct search_args { struct str term; int64_t page; };
extern const struct arg list_args[], search_args[];
void list(struct request *r);
void search(struct request *r);

/* show.c */
struct id_args { int64_t id; };
struct quotes_args { struct str author; };
extern const struct arg id_args[], quotes_args[];
void get(struct request *r);
void quotes(struct request *r);

/* delete.c */
void delete_one(struct request *r);

#endif

/* memories - what a community wants to remember: quotes, links, notes.
 *
 * Nothing here knows Kafka, libpq, JSON or redelivery.  Every id is looked up together with the
 * community, so that ids of others do not exist; content is data and is never built into SQL. */
#include "memories.h"

const char *const memory_types[] = { "quote", "url", "note", NULL };

static const struct command subs[] = { { .name = "add quote",
					 .help = "save a quote",
					 .need = MODERATOR,
					 .label = WRITE_LABEL,
					 .args = add_quote_args,
					 .args_size = sizeof(struct add_args),
					 .run = add_quote,
					 .example = "\"we ship on Friday\" Ada" },
				       { .name = "add url",
					 .help = "save a link",
					 .need = MODERATOR,
					 .label = WRITE_LABEL,
					 .args = add_url_args,
					 .args_size = sizeof(struct add_args),
					 .run = add_url,
					 .example = "\"Rules\" example.org/rules" },
				       { .name = "add note",
					 .help = "save a note",
					 .need = MODERATOR,
					 .label = WRITE_LABEL,
					 .args = add_note_args,
					 .args_size = sizeof(struct add_args),
					 .run = add_note,
					 .example = "\"Setup\" \"camera left, light right\" tags=studio" },
				       { .name = "list",
					 .help = "what is saved, newest first",
					 .need = MEMBER,
					 .args = list_args,
					 .args_size = sizeof(struct list_args),
					 .run = list,
					 .example = "quote page=2" },
				       { .name = "search",
					 .help = "find text in titles, contents, authors and contexts",
					 .need = MEMBER,
					 .args = search_args,
					 .args_size = sizeof(struct search_args),
					 .run = search,
					 .example = "friday" },
				       { .name = "get",
					 .help = "show one, with everything known about it",
					 .need = MEMBER,
					 .args = id_args,
					 .args_size = sizeof(struct id_args),
					 .run = get,
					 .example = "12" },
				       { .name = "quotes",
					 .help = "a random quote",
					 .need = MEMBER,
					 .args = quotes_args,
					 .args_size = sizeof(struct quotes_args),
					 .run = quotes,
					 .example = "author=Ada" },
				       { .name = "delete",
					 .help = "take one away: your own, or any with the right to write",
					 .need = MEMBER,
					 .args = id_args,
					 .args_size = sizeof(struct id_args),
					 .run = delete_one,
					 .example = "12" },
				       { 0 } };

static const struct module_command commands[] = { { .name = "memories",
						    .help = "quotes, links and notes of this community",
						    .per_minute = 30,
						    .timeout_s = 5,
						    .subs = subs },
						  { 0 } };

int main(int argc, char **argv)
{
	struct module m = { .service = { .name = "memories", .version = "1" },
			    .commands = commands,
			    .stop = room_clear };

	return module_main(&m, argc, argv);
}

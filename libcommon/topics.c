/* topics.c - the table of topics. */
#include "topics.h"

#define KEEP_1D  ((const char *const[]){ "cleanup.policy=delete", "retention.ms=86400000", NULL })
#define KEEP_7D  ((const char *const[]){ "cleanup.policy=delete", "retention.ms=604800000", NULL })
#define KEEP_30D ((const char *const[]){ "cleanup.policy=delete", "retention.ms=2592000000", NULL })
#define COMPACT  ((const char *const[]){ "cleanup.policy=compact", NULL })

#define MODULE(name) \
	{ "waddle.commands." name, 16, KEEP_1D }, { "waddle.responses." name, 16, KEEP_1D }
#define PLATFORM(name) \
	{ "waddle.outbound." name, 16, KEEP_1D }, { "waddle.responses.collector-" name, 16, KEEP_1D }

const struct bus_topic topics_all[] = {
	{ "waddle.events", 64, KEEP_7D },
	{ "waddle.overlay", 16, KEEP_1D },
	{ "waddle.activities", 16, KEEP_7D },
	{ "waddle.registry", 1, COMPACT },
	{ "waddle.dlq", 4, KEEP_30D },
	MODULE("memories"),
	MODULE("calendar"),
	MODULE("inventory"),
	MODULE("music"),
	MODULE("browser-source"),
	MODULE("community"),
	MODULE("workflow"),
	{ "waddle.responses.workflow-actions", 16, KEEP_1D }, /* what a workflow's own commands answer */
	{ "waddle.responses.http", 16, KEEP_1D },             /* what the router's own calls were answered */
	PLATFORM("twitch"),                                   /* with the fate of what was sent */
	PLATFORM("discord"),
	PLATFORM("slack"),
	{ "waddle.outbound.terminal", 4, KEEP_1D }, /* `waddle chat`; every terminal reads all */
};
const size_t topics_n = ARRAY_LEN(topics_all);

const struct bus_topic *topics_find(const char *name)
{
	for (size_t i = 0; i < topics_n; i++)
		if (strcmp(topics_all[i].name, name) == 0)
			return &topics_all[i];
	return NULL;
}

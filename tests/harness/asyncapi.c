#include "asyncapi.h"

#include "envelope.h"
#include "topics.h"

#define KIND(k) (1u << (k))

/* Families of topics; like: one of them, for its partitions. */
static const struct channel {
	const char *name, *address, *like, *parameter, *parameter_help, *about;
	unsigned kinds;
} channels[] = {
	{ "events", "waddle.events", "waddle.events", NULL, NULL,
	  "What happened on the platforms. From collectors and the router's HTTP listener, to the router. "
	  "Key: entity address.",
	  KIND(ENV_EVENT) },
	{ "commands", "waddle.commands.{module}", "waddle.commands.memories", "module", "name of a module",
	  "Work for a module. From router and workflow, to that module. Key: community id.",
	  KIND(ENV_COMMAND) },
	{ "responses", "waddle.responses.{module}", "waddle.responses.memories", "module",
	  "name of a module, or collector-<platform>",
	  "What a module answers, or what became of an outbound message. From that module or collector, to "
	  "the "
	  "router (or to whom waddle-reply-topic names). Key: entity address.",
	  KIND(ENV_RESPONSE) | KIND(ENV_DELIVERY) },
	{ "outbound", "waddle.outbound.{platform}", "waddle.outbound.twitch", "platform",
	  "twitch, discord, slack",
	  "What is to be sent. From router and modules, to that collector. Key: the bot's account id on "
	  "Twitch, the "
	  "channel id elsewhere.",
	  KIND(ENV_OUTBOUND) },
	{ "overlay", "waddle.overlay", "waddle.overlay", NULL, NULL,
	  "What overlays show. From router and workflow, to browser-source. Key: community id.",
	  KIND(ENV_OVERLAY) },
	{ "activities", "waddle.activities", "waddle.activities", NULL, NULL,
	  "What earns points. From collectors, to community. Key: platform:user id.", KIND(ENV_ACTIVITY) },
	{ "registry", "waddle.registry", "waddle.registry", NULL, NULL,
	  "Who is there and which commands they have. From all, to the router. Compacted; key: name of the "
	  "service.",
	  KIND(ENV_REGISTRY) },
	{ "dlq", "waddle.dlq", "waddle.dlq", NULL, NULL,
	  "What could not be worked: the message as it was, with headers waddle-origin-topic, "
	  "waddle-origin-partition, waddle-origin-offset, waddle-reason, waddle-error. Key: the original "
	  "one.",
	  ~0u >> (32 - ENV_COUNT) },
};

static void line(struct buf *out, int indent, const char *key, const char *text)
{
	buf_printf(out, "%*s%s: ", indent, "", key);
	buf_json(out, str_of(text));
	buf_add(out, STR("\n"));
}

static void add_channel(struct buf *out, const struct channel *c)
{
	const struct bus_topic *topic = topics_find(c->like);

	ASSERT(topic != NULL);
	buf_printf(out, "  %s:\n", c->name);
	line(out, 4, "address", c->address);
	line(out, 4, "description", c->about);
	if (c->parameter != NULL) {
		buf_printf(out, "    parameters:\n      %s:\n", c->parameter);
		line(out, 8, "description", c->parameter_help);
	}
	buf_printf(out, "    bindings:\n      kafka:\n        partitions: %d\n        topicConfiguration:\n",
		   topic->partitions);
	for (size_t i = 0; topic->config[i] != NULL; i++) {
		struct str value, key = str_cut(str_of(topic->config[i]), '=', &value);

		if (str_eq(key, STR("cleanup.policy")))
			buf_printf(out, "          " STR_FMT ": [\"" STR_FMT "\"]\n", STR_ARG(key),
				   STR_ARG(value));
		else
			buf_printf(out, "          " STR_FMT ": " STR_FMT "\n", STR_ARG(key), STR_ARG(value));
	}
	buf_add(out, STR("    messages:\n"));
	for (int k = 0; k < ENV_COUNT; k++)
		if (c->kinds & KIND(k))
			buf_printf(out, "      %s:\n        $ref: \"#/components/messages/%s\"\n",
				   envelope_kind_names[k], envelope_kind_names[k]);
}

static void add_header(struct buf *out, const char *name, const char *pattern, const char *about)
{
	buf_printf(out, "        %s:\n          type: \"string\"\n", name);
	if (pattern != NULL)
		line(out, 10, "pattern", pattern);
	line(out, 10, "description", about);
}

static void add_headers(struct buf *out)
{
	buf_add(out,
		STR("    headers:\n      type: \"object\"\n"
		    "      required: [\"ce_specversion\",\"ce_id\",\"ce_type\",\"ce_source\",\"ce_time\"]\n"
		    "      properties:\n"));
	add_header(out, "ce_specversion", "^1\\.0$", "CloudEvents 1.0, Kafka binding, binary mode");
	add_header(out, "ce_id", NULL, "with ce_source names this message and no other");
	add_header(out, "ce_type", "^waddle\\.[a-z]+\\.v1$", "which of the messages it is");
	add_header(out, "ce_source", NULL, "the service that sent it");
	add_header(out, "ce_time", NULL, "RFC 3339");
	add_header(out, "content-type", "^application/json$", "always JSON");
	add_header(out, "traceparent", NULL, "W3C Trace Context; one that is none is ignored");
	add_header(out, "waddle-deadline", NULL, "RFC 3339; after it the work is pointless and is not done");
	add_header(out, "waddle-created", NULL, "RFC 3339; of a response: created_at of its command, where the row is");
	add_header(out, "waddle-lsn", "^[0-9A-F]{1,8}/[0-9A-F]{1,8}$",
		   "write position of PostgreSQL that the reader must see");
	add_header(out, "waddle-reply-topic", "^waddle\\.responses\\.",
		   "where answers go; default: waddle.responses.<module>");
}

void asyncapi_text(struct buf *out)
{
	buf_add(out, STR("# Written by `make docs` from libcommon/messages.c and topics.c: change those.\n"
			 "asyncapi: \"3.0.0\"\n"
			 "info:\n"
			 "  title: \"WaddleBot messages\"\n"
			 "  version: \"1\"\n"
			 "  description: \"Ids are text, times RFC 3339 UTC. A body is JSON of at most 256 "
			 "KiB and 16 "
			 "levels, valid UTF-8 without U+0000, no key twice. Receivers skip unknown fields; "
			 "null means "
			 "absent. Versioned by the ending of ce_type.\"\n"
			 "defaultContentType: \"application/json\"\n"
			 "channels:\n"));
	for (size_t i = 0; i < ARRAY_LEN(channels); i++)
		add_channel(out, &channels[i]);
	buf_add(out, STR("components:\n  messages:\n"));
	for (int k = 0; k < ENV_COUNT; k++)
		buf_printf(out,
			   "    %s:\n      name: \"waddle.%s.v1\"\n      headers:\n"
			   "        $ref: \"#/components/schemas/headers\"\n      payload:\n"
			   "        $ref: \"#/components/schemas/%s\"\n",
			   envelope_kind_names[k], envelope_kind_names[k], envelope_kind_names[k]);
	buf_add(out, STR("  schemas:\n"));
	add_headers(out);
	for (int k = 0; k < ENV_COUNT; k++) {
		buf_printf(out, "    %s:\n", envelope_kind_names[k]);
		js_schema_yaml(envelope_fields[k], 6, out);
	}
}

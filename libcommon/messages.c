/* messages.c - the wire format: one row per field, in the order of contracts.md section 2.
 *
 * Limits are those of router.md 2.1 and 15.  A row's help becomes the description in
 * docs/asyncapi.yaml; where the name says it all there is none. */
#include "envelope.h"

/* Rows are lines. */
/* clang-format off */

enum { ID_MAX = 255, TEXT_MAX = 5000, URL_MAX = 2048, RAW_MAX = 64 * 1024, SHORT = 100 };

const char *const role_names[] = { "owner", "admin", "moderator", "vip", "subscriber", "member", NULL };

const char *const message_type_names[] = {
	[MSG_CHAT] = "chatMessage", [MSG_SLASH] = "slashCommand", [MSG_INTERACTION] = "interaction",
	[MSG_MODAL_SUBMIT] = "modal_submit", [MSG_BUTTON] = "button_click", [MSG_SELECT] = "select_menu",
	[MSG_SUBSCRIPTION] = "subscription", [MSG_RESUB] = "resub", [MSG_SUBGIFT] = "subgift",
	[MSG_FOLLOW] = "follow", [MSG_DONATION] = "donation", [MSG_CHEER] = "cheer", [MSG_RAID] = "raid",
	[MSG_HOST] = "host", [MSG_STREAM_ONLINE] = "stream_online", [MSG_STREAM_OFFLINE] = "stream_offline",
	[MSG_REACTION] = "reaction", [MSG_MEMBER_JOIN] = "member_join", [MSG_MEMBER_LEAVE] = "member_leave",
	[MSG_VOICE_JOIN] = "voice_join", [MSG_VOICE_LEAVE] = "voice_leave", [MSG_VOICE_TIME] = "voice_time",
	[MSG_BOOST] = "boost", [MSG_BAN] = "ban", [MSG_KICK] = "kick", [MSG_TIMEOUT] = "timeout",
	[MSG_WARN] = "warn", [MSG_FILE_SHARE] = "file_share", [MSG_APP_MENTION] = "app_mention",
	[MSG_CHANNEL_JOIN] = "channel_join", [MSG_EDIT] = "message_edit", [MSG_DELETE] = "message_delete",
	[MSG_REDEMPTION] = "redemption", NULL,
};

const char *const trigger_names[] = { "command", "event", "string_match", "interaction", "workflow", NULL };
const char *const action_names[] = { "chat", "media", "ticker", "general", "form", NULL };
const char *const media_names[] = { "", "music", "video", "image", NULL };
const char *const content_names[] = { "text", "html", "form", "announcement", "alert", NULL };
const char *const form_method_names[] = { "POST", "PUT", "GET", NULL };
const char *const form_type_names[] = { "text", "textarea", "select", "multiselect", "radio", "checkbox",
	"number", "email", "url", "date", "time", "hidden", NULL };
const char *const outbound_kind_names[] = { "chat", "form", "reaction", "delete", "timeout", NULL };
const char *const priority_names[] = { "normal", "high", "low", NULL };
const char *const overlay_type_names[] = { "media", "ticker", "general", NULL };
const char *const overlay_mode_names[] = { "state", "once", NULL };
const char *const delivery_status_names[] = { "sent", "refused", "expired", NULL };
const char *const service_kind_names[] = { "collector", "module", "router", "workflow", NULL };
const char *const service_status_names[] = { "active", "inactive", "error", NULL };
const char *const location_names[] = { "internal", "community", NULL };
const char *const endpoint_names[] = { "container", "lambda", "openwhisk", "webhook", NULL };
const char *const fires_on_names[] = { "command", "event", "both", NULL };
const char *const execution_mode_names[] = { "sequential", "parallel", NULL };
const char *const envelope_kind_names[] = { "event", "command", "response", "outbound", "overlay", "activity",
	"delivery", "registry", NULL };

#define OPTIONAL .optional = true

static const struct js_field event_user[] = {
	JS(struct user, id, JS_STR, OPTIONAL, .max = ID_MAX, .help = "required for chat and interactions, else anonymous"),
	JS(struct user, name, JS_STR, OPTIONAL, .max = ID_MAX, .help = "default: the id"),
	JS(struct user, display_name, JS_STR, OPTIONAL, .max = ID_MAX, .help = "default: the name"),
	JS(struct user, roles, JS_FLAGS, OPTIONAL, .names = role_names, .closed = true, .help = "those that hold; the platform's own facts"),
	{ 0 }
};

static const struct js_field event[] = {
	JS(struct event, event_id, JS_STR, .min = 1, .max = 128, .help = "id of the delivery, with the platform in front; unique"),
	JS(struct event, dedupe_key, JS_STR, OPTIONAL, .max = ID_MAX, .help = "id of the thing that happened; default: event_id"),
	JS(struct event, platform, JS_STR, .min = 1, .max = 32),
	JS(struct event, server_id, JS_STR, OPTIONAL, .max = ID_MAX, .help = "guild or team; DM for a direct message"),
	JS(struct event, channel_id, JS_STR, OPTIONAL, .max = ID_MAX, .help = "may be missing only where there is a server_id"),
	JS(struct event, entity, JS_STR, OPTIONAL, .max = 2000, .help = "the address; must agree with the three fields above"),
	JS(struct event, user, JS_OBJECT, OPTIONAL, .fields = event_user),
	JS(struct event, message_type, JS_ENUM, .names = message_type_names),
	JS(struct event, message_content, JS_STR, OPTIONAL, .max = TEXT_MAX),
	JS(struct event, amount, JS_INT, OPTIONAL, .help = "bits, viewers, cents: what the type counts"),
	JS_AS("occurred_at", struct event, occurred_at_ms, JS_TIME, OPTIONAL, .help = "default: received_at"),
	JS_AS("received_at", struct event, received_at_ms, JS_TIME, OPTIONAL, .help = "default: ce_time"),
	JS(struct event, reply_ref, JS_STR, OPTIONAL, .max = 4096, .help = "opaque to everyone but the collector"),
	JS(struct event, metadata, JS_RAW_OBJECT, OPTIONAL, .max = RAW_MAX, .help = "what only this platform or type knows"),
	{ 0 }
};

static const struct js_field command_user[] = {
	JS(struct user, id, JS_STR, .min = 1, .max = ID_MAX),
	JS(struct user, name, JS_STR, OPTIONAL, .max = ID_MAX),
	JS(struct user, display_name, JS_STR, OPTIONAL, .max = ID_MAX),
	JS(struct user, roles, JS_FLAGS, OPTIONAL, .names = role_names),
	JS(struct user, labels, JS_STRS, OPTIONAL, .max = 1000, .help = "held in this community"),
	JS(struct user, community_role, JS_STR, OPTIONAL, .max = SHORT, .help = "stored role in this community"),
	{ 0 }
};

static const struct js_field command[] = {
	JS(struct command_msg, execution_id, JS_UUID),
	JS(struct command_msg, session_id, JS_UUID),
	JS(struct command_msg, event_id, JS_STR, .min = 1, .max = 128),
	JS(struct command_msg, community_id, JS_INT, .min = 1, .max = INT64_MAX),
	JS(struct command_msg, entity_id, JS_INT, .min = 1, .max = INT64_MAX),
	JS(struct command_msg, entity, JS_STR, .min = 1, .max = 2000),
	JS(struct command_msg, platform, JS_STR, .min = 1, .max = 32),
	JS(struct command_msg, user, JS_OBJECT, .fields = command_user),
	JS(struct command_msg, trigger, JS_ENUM, .names = trigger_names),
	JS(struct command_msg, message_type, JS_ENUM, .names = message_type_names),
	JS(struct command_msg, prefix, JS_STR, OPTIONAL, .max = 8),
	JS(struct command_msg, command, JS_STR, .min = 1, .max = SHORT),
	JS(struct command_msg, parameters, JS_STRS, OPTIONAL, .max = 64),
	JS(struct command_msg, raw_message, JS_STR, OPTIONAL, .max = TEXT_MAX),
	JS(struct command_msg, event_data, JS_RAW_OBJECT, OPTIONAL, .max = 2 * RAW_MAX, .help = "metadata of the event"),
	JS(struct command_msg, config, JS_RAW_OBJECT, OPTIONAL, .max = RAW_MAX, .help = "of the enabling row, and community{}"),
	JS(struct command_msg, reply_ref, JS_STR, OPTIONAL, .max = 4096),
	JS_AS("created_at", struct command_msg, created_at_ms, JS_TIME, .help = "received_at of the event"),
	{ 0 }
};

static const struct js_field form_field[] = {
	JS(struct form_field, name, JS_STR, .min = 1, .max = SHORT),
	JS(struct form_field, type, JS_ENUM, .names = form_type_names),
	JS(struct form_field, label, JS_STR, OPTIONAL, .max = ID_MAX),
	JS(struct form_field, required, JS_BOOL, OPTIONAL),
	JS(struct form_field, options, JS_STRS, OPTIONAL, .max = 25, .help = "of the types to choose from"),
	JS(struct form_field, value, JS_STR, OPTIONAL, .max = TEXT_MAX),
	JS(struct form_field, placeholder, JS_STR, OPTIONAL, .max = ID_MAX),
	{ 0 }
};

/* But for two fields a response is the same over Kafka and over HTTP. */
#define RESPONSE_IDS \
	JS(struct response, execution_id, JS_UUID), \
	JS(struct response, session_id, JS_UUID),
#define RESPONSE_REST \
	JS(struct response, module_name, JS_STR, .min = 1, .max = SHORT), \
	JS(struct response, success, JS_BOOL), \
	JS(struct response, response_action, JS_ENUM, .names = action_names), \
	JS(struct response, response_data, JS_RAW_OBJECT, OPTIONAL, .max = RAW_MAX), \
	JS(struct response, processing_time_ms, JS_INT, OPTIONAL, .min = 0, .max = INT32_MAX), \
	JS(struct response, error_message, JS_STR, OPTIONAL, .max = TEXT_MAX), \
	JS(struct response, private, JS_BOOL, OPTIONAL, .help = "only to the user, never to the channel or an overlay"), \
	JS(struct response, chat_message, JS_STR, OPTIONAL, .max = TEXT_MAX, .help = "chat; none is an acknowledgement"), \
	JS(struct response, media_type, JS_ENUM, OPTIONAL, .names = media_names, .help = "media"), \
	JS(struct response, media_url, JS_STR, OPTIONAL, .max = URL_MAX, .help = "media; https"), \
	JS(struct response, ticker_text, JS_STR, OPTIONAL, .max = TEXT_MAX, .help = "ticker; shown up to 200 characters"), \
	JS(struct response, ticker_duration, JS_INT, OPTIONAL, .absent = 10, .min = 1, .max = 300, .help = "seconds"), \
	JS(struct response, content_type, JS_ENUM, OPTIONAL, .names = content_names, .help = "general"), \
	JS(struct response, content, JS_STR, OPTIONAL, .max = RAW_MAX, .help = "general"), \
	JS(struct response, duration, JS_INT, OPTIONAL, .min = 0, .max = 3600, .help = "general; seconds, 0 stays"), \
	JS(struct response, style, JS_RAW_OBJECT, OPTIONAL, .max = RAW_MAX, .help = "general"), \
	JS(struct response, form_title, JS_STR, OPTIONAL, .max = ID_MAX), \
	JS(struct response, form_description, JS_STR, OPTIONAL, .max = TEXT_MAX), \
	JS(struct response, form_fields, JS_OBJECTS, OPTIONAL, .size = sizeof(struct form_field), .fields = form_field, .max = 25), \
	JS(struct response, form_submit_url, JS_STR, OPTIONAL, .max = URL_MAX), \
	JS(struct response, form_submit_method, JS_ENUM, OPTIONAL, .names = form_method_names), \
	JS(struct response, form_callback_url, JS_STR, OPTIONAL, .max = URL_MAX),

static const struct js_field response[] = {
	RESPONSE_IDS
	JS(struct response, response_index, JS_INT, .min = 0, .max = 9999, .help = "from 0 within the execution"),
	JS(struct response, final, JS_BOOL, .help = "the last one of the execution"),
	RESPONSE_REST
	{ 0 }
};

const struct js_field response_posted_fields[] = {
	RESPONSE_IDS
	JS(struct response, response_index, JS_INT, OPTIONAL, .absent = -1, .min = 0, .max = 9999, .help = "default: the next one that is free"),
	JS(struct response, final, JS_BOOL, OPTIONAL, .absent = true, .help = "the last one of the execution"),
	RESPONSE_REST
	{ 0 }
};

static const struct js_field outbound[] = {
	JS(struct outbound, message_id, JS_UUID, .help = "of execution, index and part; remembered by the sender"),
	JS(struct outbound, kind, JS_ENUM, .names = outbound_kind_names),
	JS(struct outbound, entity, JS_STR, .min = 1, .max = 2000),
	JS(struct outbound, server_id, JS_STR, OPTIONAL, .max = ID_MAX),
	JS(struct outbound, channel_id, JS_STR, OPTIONAL, .max = ID_MAX),
	JS(struct outbound, user_id, JS_STR, OPTIONAL, .max = ID_MAX),
	JS(struct outbound, text, JS_STR, OPTIONAL, .max = RAW_MAX, .help = "reaction: the emoji"),
	JS(struct outbound, form, JS_RAW_OBJECT, OPTIONAL, .max = 2 * RAW_MAX),
	JS(struct outbound, duration, JS_INT, OPTIONAL, .min = 0, .max = INT32_MAX, .help = "timeout: seconds"),
	JS(struct outbound, private, JS_BOOL, OPTIONAL),
	JS(struct outbound, reply_ref, JS_STR, OPTIONAL, .max = 4096),
	JS(struct outbound, in_reply_to, JS_STR, OPTIONAL, .max = ID_MAX, .help = "the platform's id of a message"),
	JS(struct outbound, priority, JS_ENUM, OPTIONAL, .names = priority_names),
	JS_AS("expires_at", struct outbound, expires_at_ms, JS_TIME, OPTIONAL, .help = "default: 5 min after it was made"),
	JS(struct outbound, report_ref, JS_STR, OPTIONAL, .max = ID_MAX, .help = "of the sender; the delivery report repeats it"),
	{ 0 }
};

static const struct js_field overlay[] = {
	JS(struct overlay, item_id, JS_UUID),
	JS(struct overlay, community_id, JS_INT, .min = 1, .max = INT64_MAX),
	JS(struct overlay, source_type, JS_ENUM, .names = overlay_type_names),
	JS(struct overlay, content, JS_RAW_OBJECT, .max = 2 * RAW_MAX, .help = "empty with mode state takes the card down"),
	JS(struct overlay, duration, JS_INT, OPTIONAL, .min = 0, .max = 86400, .help = "seconds, 0 stays"),
	JS(struct overlay, priority, JS_INT, OPTIONAL, .absent = 5, .min = 0, .max = 9, .help = "smaller goes first: high 1, normal 5, low 9"),
	JS(struct overlay, mode, JS_ENUM, .names = overlay_mode_names),
	JS(struct overlay, session_id, JS_STR, OPTIONAL, .max = 36),
	JS_AS("expires_at", struct overlay, expires_at_ms, JS_TIME, OPTIONAL),
	{ 0 }
};

static const struct js_field activity[] = {
	JS(struct activity, event_id, JS_STR, .min = 1, .max = 128, .help = "with activity_type the idempotency key"),
	JS(struct activity, activity_type, JS_STR, .min = 1, .max = SHORT),
	JS(struct activity, platform, JS_STR, .min = 1, .max = 32),
	JS(struct activity, user_id, JS_STR, .min = 1, .max = ID_MAX),
	JS(struct activity, username, JS_STR, OPTIONAL, .max = ID_MAX),
	JS(struct activity, amount, JS_INT, .help = "points; cheer: bits"),
	JS(struct activity, quantity, JS_INT, OPTIONAL, .absent = 1, .min = 1, .max = INT64_MAX, .help = "how many"),
	JS(struct activity, entity, JS_STR, .min = 1, .max = 2000),
	JS(struct activity, community_id, JS_INT, .min = 1, .max = INT64_MAX),
	JS_AS("occurred_at", struct activity, occurred_at_ms, JS_TIME),
	{ 0 }
};

static const struct js_field delivery[] = {
	JS(struct delivery, message_id, JS_UUID),
	JS(struct delivery, status, JS_ENUM, .names = delivery_status_names),
	JS(struct delivery, platform_message_id, JS_STR, OPTIONAL, .max = ID_MAX),
	JS(struct delivery, error, JS_STR, OPTIONAL, .max = TEXT_MAX),
	JS_AS("at", struct delivery, at_ms, JS_TIME),
	JS(struct delivery, report_ref, JS_STR, OPTIONAL, .max = ID_MAX, .help = "as in the message"),
	{ 0 }
};

static const struct js_field enable_for[] = {
	JS(struct enable_for, entity_id, JS_INT, .min = 1, .max = INT64_MAX),
	JS(struct enable_for, config, JS_RAW_OBJECT, OPTIONAL, .max = RAW_MAX),
	JS(struct enable_for, permissions, JS_RAW_OBJECT, OPTIONAL, .max = RAW_MAX),
	{ 0 }
};

static const struct js_field registry_command[] = {
	JS(struct registry_command, command, JS_STR, .min = 1, .max = SHORT),
	JS(struct registry_command, prefix, JS_STR, .min = 1, .max = 1),
	JS(struct registry_command, description, JS_STR, OPTIONAL, .max = TEXT_MAX),
	JS(struct registry_command, usage, JS_STR, OPTIONAL, .max = TEXT_MAX),
	JS(struct registry_command, location, JS_ENUM, OPTIONAL, .names = location_names),
	JS(struct registry_command, type, JS_ENUM, OPTIONAL, .names = endpoint_names),
	JS(struct registry_command, location_url, JS_STR, OPTIONAL, .max = URL_MAX),
	JS(struct registry_command, timeout, JS_INT, OPTIONAL, .absent = 30, .min = 1, .max = 300, .help = "seconds"),
	JS(struct registry_command, rate_limit, JS_INT, OPTIONAL, .min = 0, .max = 10000, .help = "per minute and user, 0 for none"),
	JS(struct registry_command, trigger_type, JS_ENUM, OPTIONAL, .names = fires_on_names),
	JS(struct registry_command, event_types, JS_STRS, OPTIONAL, .max = 64),
	JS(struct registry_command, priority, JS_INT, OPTIONAL, .absent = 100, .min = 0, .max = 10000, .help = "smaller goes first"),
	JS(struct registry_command, execution_mode, JS_ENUM, OPTIONAL, .names = execution_mode_names),
	JS(struct registry_command, min_role, JS_ENUM, OPTIONAL, .absent = ROLE_MEMBER, .names = role_names),
	JS(struct registry_command, parameters, JS_STRS, OPTIONAL, .max = 64, .help = "names"),
	JS(struct registry_command, enable_for, JS_OBJECTS, OPTIONAL, .size = sizeof(struct enable_for), .fields = enable_for, .max = 1000),
	{ 0 }
};

static const struct js_field registry[] = {
	JS(struct registry, name, JS_STR, .min = 1, .max = SHORT, .help = "memories, collector-twitch, workflow:<uuid>"),
	JS(struct registry, kind, JS_ENUM, .names = service_kind_names),
	JS(struct registry, version, JS_STR, .min = 1, .max = SHORT),
	JS(struct registry, platform, JS_STR, OPTIONAL, .max = 32),
	JS(struct registry, endpoint_url, JS_STR, OPTIONAL, .max = URL_MAX),
	JS(struct registry, health_check_url, JS_STR, OPTIONAL, .max = URL_MAX),
	JS(struct registry, instance, JS_STR, .min = 1, .max = ID_MAX, .help = "one process; new at every start"),
	JS(struct registry, status, JS_ENUM, .names = service_status_names),
	JS_AS("heartbeat_at", struct registry, heartbeat_at_ms, JS_TIME),
	JS(struct registry, commands, JS_OBJECTS, OPTIONAL, .size = sizeof(struct registry_command), .fields = registry_command, .max = 1000),
	{ 0 }
};

const struct js_field *const envelope_fields[ENV_COUNT] = {
	[ENV_EVENT] = event, [ENV_COMMAND] = command, [ENV_RESPONSE] = response, [ENV_OUTBOUND] = outbound,
	[ENV_OVERLAY] = overlay, [ENV_ACTIVITY] = activity, [ENV_DELIVERY] = delivery, [ENV_REGISTRY] = registry,
};

-- Commands, entities, executions: what the router owns.
-- No foreign key and no trigger on what is written per event (see docs/schema.md, Hot tables).
SET LOCAL ROLE waddle_owner;

-- Which channels of which platforms we serve.  server_id is NULL for Twitch, channel NULL for a
-- whole server.
CREATE TABLE servers (
	id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	owner         text        NOT NULL CHECK (owner <> ''),
	platform      text        NOT NULL CHECK (platform ~ '^[a-z][a-z0-9_-]{0,31}$'),
	channel       text        CHECK (char_length(channel) BETWEEN 1 AND 255),
	server_id     text        CHECK (char_length(server_id) BETWEEN 1 AND 255),
	is_active     boolean     NOT NULL DEFAULT true,
	webhook_url   text,
	config        jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(config) = 'object'),
	last_activity timestamptz,
	created_at    timestamptz NOT NULL DEFAULT now(),
	updated_at    timestamptz NOT NULL DEFAULT now(),
	CHECK (channel IS NOT NULL OR server_id IS NOT NULL)
) WITH (fillfactor = 85);
CREATE UNIQUE INDEX servers_address_key ON servers (platform, (coalesce(server_id, '')), (coalesce(channel, '')));
CREATE INDEX servers_active_idx ON servers (platform) WHERE is_active;
CALL waddle_touch_on('servers', 'owner', 'is_active', 'webhook_url', 'config');
CALL waddle_invalidate_on('servers', $$r.platform || ':' || coalesce(r.server_id, '') || ':' || coalesce(r.channel, '')$$,
                          'platform', 'channel', 'server_id', 'owner', 'is_active', 'config');

CREATE TABLE collector_modules (
	module_name      text        PRIMARY KEY CHECK (char_length(module_name) BETWEEN 1 AND 100),
	module_version   text        NOT NULL DEFAULT '',
	kind             text        NOT NULL DEFAULT 'collector' CHECK (kind IN ('collector', 'module', 'router', 'workflow')),
	platform         text,
	endpoint_url     text,
	health_check_url text,
	status           text        NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'inactive', 'error')),
	last_heartbeat   timestamptz,
	instances        jsonb       NOT NULL DEFAULT '{}',         -- instance -> last heartbeat
	config           jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(config) = 'object'),
	created_at       timestamptz NOT NULL DEFAULT now(),
	updated_at       timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 85);
CALL waddle_touch_on('collector_modules');

CREATE TABLE commands (
	id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	command         text        NOT NULL CHECK (char_length(command) BETWEEN 1 AND 100 AND command !~ '[[:space:]"''[:cntrl:]]'),
	prefix          text        NOT NULL CHECK (prefix IN ('!', '#')),
	description     text        NOT NULL DEFAULT '',
	location_url    text        NOT NULL,
	location        text        NOT NULL CHECK (location = CASE prefix WHEN '!' THEN 'internal' ELSE 'community' END),
	type            text        NOT NULL DEFAULT 'container' CHECK (type IN ('container', 'lambda', 'openwhisk', 'webhook')),
	method          text        NOT NULL DEFAULT 'POST' CHECK (method IN ('GET', 'POST', 'PUT', 'PATCH', 'DELETE')),
	timeout         integer     NOT NULL DEFAULT 30 CHECK (timeout BETWEEN 1 AND 300),             -- seconds, per attempt
	headers         jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(headers) = 'object'),
	auth_required   boolean     NOT NULL DEFAULT false,
	rate_limit      integer     NOT NULL DEFAULT 0 CHECK (rate_limit BETWEEN 0 AND 10000),         -- a minute; 0: none
	is_active       boolean     NOT NULL DEFAULT true,
	module_type     text        NOT NULL DEFAULT 'action' CHECK (module_type IN ('trigger', 'action', 'core')),
	module_id       text        NOT NULL CHECK (char_length(module_id) BETWEEN 1 AND 100),
	version         text        NOT NULL DEFAULT '1.0',
	trigger_type    text        NOT NULL DEFAULT 'command' CHECK (trigger_type IN ('command', 'event', 'both')),
	event_types     jsonb       NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(event_types) = 'array'),
	priority        integer     NOT NULL DEFAULT 100 CHECK (priority BETWEEN 0 AND 10000),         -- smaller first
	execution_mode  text        NOT NULL DEFAULT 'sequential' CHECK (execution_mode IN ('sequential', 'parallel')),
	min_role        text        NOT NULL DEFAULT 'member'
	                CHECK (min_role IN ('member', 'subscriber', 'vip', 'moderator', 'admin', 'owner')),
	usage           text        NOT NULL DEFAULT '',
	parameters      jsonb       NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(parameters) = 'array'),
	secret_headers  bytea,                                      -- sealed
	signing_secret  bytea,                                      -- sealed
	previous_secret bytea,                                      -- sealed; signs too until:
	previous_secret_until timestamptz,
	created_at      timestamptz NOT NULL DEFAULT now(),
	updated_at      timestamptz NOT NULL DEFAULT now(),
	UNIQUE (prefix, command, module_id),
	CHECK (prefix = '#' OR type = 'container'),
	CHECK (trigger_type = 'command' OR event_types <> '[]')
);
CREATE INDEX commands_module_idx ON commands (module_id);
CREATE INDEX commands_event_idx ON commands (trigger_type) WHERE is_active AND trigger_type <> 'command';
CALL waddle_touch_on('commands');
CALL waddle_invalidate_on('commands', 'r.prefix || r.command');

-- entity_id is id under the name other tables refer to.
CREATE TABLE entities (
	id           integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	entity_id    integer     GENERATED ALWAYS AS (id) STORED UNIQUE,
	platform     text        NOT NULL CHECK (platform ~ '^[a-z][a-z0-9_-]{0,31}$'),
	server_id    text,                                  -- NULL: Twitch
	channel_id   text,                                  -- NULL: the whole server
	owner        text        NOT NULL,
	is_active    boolean     NOT NULL DEFAULT true,
	config       jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(config) = 'object'),
	address      text        NOT NULL UNIQUE CHECK (starts_with(address, platform || ':')),
	community_id integer     NOT NULL DEFAULT 1 REFERENCES communities,
	created_at   timestamptz NOT NULL DEFAULT now(),
	updated_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX entities_community_idx ON entities (community_id);
CREATE INDEX entities_platform_idx ON entities (platform) WHERE is_active;
CALL waddle_touch_on('entities');
CALL waddle_invalidate_on('entities', 'r.address');

-- usage_count and last_used change with every command: HOT, no trigger.
CREATE TABLE command_permissions (
	id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	command_id  bigint      NOT NULL REFERENCES commands,
	entity_id   integer     NOT NULL REFERENCES entities (entity_id),
	is_enabled  boolean     NOT NULL DEFAULT true,
	config      jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(config) = 'object'),
	permissions jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(permissions) = 'object'),
	usage_count bigint      NOT NULL DEFAULT 0,
	last_used   timestamptz,
	created_at  timestamptz NOT NULL DEFAULT now(),
	updated_at  timestamptz NOT NULL DEFAULT now(),
	UNIQUE (command_id, entity_id)
) WITH (fillfactor = 70);
CREATE INDEX command_permissions_entity_idx ON command_permissions (entity_id);
CALL waddle_touch_on('command_permissions', 'is_enabled', 'config', 'permissions');
CALL waddle_invalidate_on('command_permissions', $$r.command_id || ':' || r.entity_id$$,
                          'command_id', 'entity_id', 'is_enabled', 'config', 'permissions');

CREATE TABLE command_aliases (
	id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	community_id   integer     NOT NULL REFERENCES communities,
	alias          text        NOT NULL CHECK (char_length(alias) BETWEEN 1 AND 100 AND alias !~ '[[:space:]"''[:cntrl:]]'),
	target_command text        NOT NULL CHECK (char_length(target_command) BETWEEN 2 AND 500),
	description    text        NOT NULL DEFAULT '',
	created_by     text        NOT NULL DEFAULT '',
	created_at     timestamptz NOT NULL DEFAULT now(),
	updated_at     timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX command_aliases_alias_key ON command_aliases (community_id, lower(alias));
CALL waddle_touch_on('command_aliases');
CALL waddle_invalidate_on('command_aliases', $$r.community_id || ':' || lower(r.alias)$$);

-- One row per admitted candidate of an event, written as pending in a batch and settled in a batch.
-- created_at is the event's received_at: a redelivery meets the same key.
--
-- Settling is a HOT update: no index mentions a column that changes - a partial index on pending
-- rows would count as one - and a page is filled less than half, because all its rows are
-- rewritten once.  Pending rows are found by time instead: router_partitions.pending_since is the
-- point before which nothing is pending (docs/schema.md, Hot tables, has the figures).
CREATE TABLE command_executions (
	id                bigint      GENERATED ALWAYS AS IDENTITY,
	execution_id      uuid        NOT NULL,
	command_id        bigint      NOT NULL,
	entity_id         integer     NOT NULL,
	user_id           text        NOT NULL,
	message_content   text        NOT NULL DEFAULT '',
	parameters        jsonb       NOT NULL DEFAULT '[]',
	location_url      text        NOT NULL,
	request_payload   jsonb,
	response_status   integer,
	response_data     jsonb,
	execution_time_ms integer,
	error_message     text,
	retry_count       integer     NOT NULL DEFAULT 0,
	status            text        NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'success', 'failed')),
	session_id        uuid        NOT NULL,
	event_id          text        NOT NULL,
	user_name         text        NOT NULL DEFAULT '',
	community_id      integer     NOT NULL,
	trace_id          text,
	trigger           text        NOT NULL DEFAULT 'command'
	                  CHECK (trigger IN ('command', 'event', 'string_match', 'interaction', 'workflow')),
	module_name       text        NOT NULL DEFAULT '',      -- module_id up to its first ':'
	reply_ref         text,
	timeout_ms        integer     NOT NULL DEFAULT 30000,   -- counted from sent_at
	sent_at           timestamptz,                          -- NULL: waits (chain, fairness)
	lease_until       timestamptz,                          -- somebody is sending it
	completed_at      timestamptz,
	created_at        timestamptz NOT NULL,
	UNIQUE (execution_id, created_at),
	PRIMARY KEY (created_at, id)
) PARTITION BY RANGE (created_at);
CREATE INDEX command_executions_entity_idx ON command_executions (entity_id, created_at);
CREATE INDEX command_executions_command_idx ON command_executions (command_id, created_at);
CALL waddle_partition_on('command_executions', 'created_at', 'day', 30, 45);

-- created_at is that of the execution, so that both lie in the same day and a redelivered response
-- meets the same key; responded_at is when it came.
CREATE TABLE module_responses (
	id                 bigint      GENERATED ALWAYS AS IDENTITY,
	execution_id       uuid        NOT NULL,
	module_name        text        NOT NULL,
	success            boolean     NOT NULL,
	response_action    text        NOT NULL CHECK (response_action IN ('chat', 'media', 'ticker', 'general', 'form')),
	response_data      jsonb,
	media_type         text        CHECK (media_type IN ('music', 'video', 'image')),
	media_url          text,
	ticker_text        text,
	ticker_duration    integer,
	chat_message       text,
	error_message      text,
	processing_time_ms integer,
	created_at         timestamptz NOT NULL,
	response_index     integer     NOT NULL CHECK (response_index >= 0),
	final              boolean     NOT NULL DEFAULT true,
	private            boolean     NOT NULL DEFAULT false,
	late               boolean     NOT NULL DEFAULT false,
	session_id         uuid,
	form_title         text,
	form_description   text,
	form_fields        jsonb,
	form_submit_url    text,
	form_submit_method text,
	form_callback_url  text,
	content_type       text        CHECK (content_type IN ('html', 'form', 'announcement', 'alert', 'text')),
	content            text,
	duration           integer,
	style              jsonb,
	responded_at       timestamptz NOT NULL DEFAULT now(),
	delivered_at       timestamptz,
	delivery_error     text,
	PRIMARY KEY (execution_id, response_index, created_at)
) PARTITION BY RANGE (created_at);
CALL waddle_partition_on('module_responses', 'created_at', 'day', 30, 90);

-- The one verdict an event got; not for plain chat.
CREATE TABLE event_decisions (
	event_id      text        NOT NULL,
	created_at    timestamptz NOT NULL,                     -- the event's received_at
	dedupe_key    text,
	verdict       text        NOT NULL,
	code          integer,
	reason        text,                                     -- one sentence for people
	checks        jsonb       NOT NULL DEFAULT '[]',
	entity        text,
	entity_id     integer,
	community_id  integer,
	platform      text,
	message_type  text,
	user_id       text,
	session_id    uuid,
	execution_ids uuid[]      NOT NULL DEFAULT '{}',
	rule_id       bigint,
	trace_id      text,
	decided_at    timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (event_id, created_at)
) PARTITION BY RANGE (created_at);
CALL waddle_partition_on('event_decisions', 'created_at', 'day', 7, 90);

-- Lives SESSION_TTL after last_activity; created_at is the event's received_at.
CREATE TABLE sessions (
	session_id    uuid        NOT NULL,
	created_at    timestamptz NOT NULL,
	entity_id     integer     NOT NULL,
	last_activity timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (session_id, created_at)
) PARTITION BY RANGE (created_at);
CALL waddle_partition_on('sessions', 'created_at', 'day', 2, 85);

-- One row per limited key and minute; hits are the admitted events with their instants.
CREATE TABLE rate_limits (
	id             bigint      GENERATED ALWAYS AS IDENTITY,
	command_id     bigint      NOT NULL,
	entity_id      integer     NOT NULL,
	user_id        text        NOT NULL,
	window_start   timestamptz NOT NULL,
	request_count  integer     NOT NULL DEFAULT 0 CHECK (request_count >= 0),
	rejected_count integer     NOT NULL DEFAULT 0 CHECK (rejected_count >= 0),
	hits           jsonb       NOT NULL DEFAULT '[]',
	PRIMARY KEY (command_id, entity_id, user_id, window_start)
) PARTITION BY RANGE (window_start);
CALL waddle_partition_on('rate_limits', 'window_start', 'day', 2, 70);

CREATE TABLE stringmatch (
	id                 bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	string             text        NOT NULL CHECK (char_length(string) BETWEEN 1 AND 500),
	match_type         text        NOT NULL DEFAULT 'exact' CHECK (match_type IN ('exact', 'contains', 'word', 'regex')),
	case_sensitive     boolean     NOT NULL DEFAULT false,
	enabled_entity_ids jsonb       NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(enabled_entity_ids) = 'array'),
	action             text        NOT NULL CHECK (action IN ('warn', 'block', 'command', 'webhook')),
	command_to_execute text,
	command_parameters jsonb,
	webhook_url        text,
	warning_message    text,
	block_message      text,
	priority           integer     NOT NULL DEFAULT 100 CHECK (priority BETWEEN 0 AND 10000),
	is_active          boolean     NOT NULL DEFAULT true,
	match_count        bigint      NOT NULL DEFAULT 0,
	last_matched       timestamptz,
	created_by         text        NOT NULL DEFAULT '',
	normalize          boolean     NOT NULL DEFAULT false,
	timeout_seconds    integer     NOT NULL DEFAULT 0 CHECK (timeout_seconds BETWEEN 0 AND 1209600),
	exempt_role        text        CHECK (exempt_role IN ('member', 'subscriber', 'vip', 'moderator', 'admin', 'owner')),
	signing_secret     bytea,                               -- sealed
	created_at         timestamptz NOT NULL DEFAULT now(),
	updated_at         timestamptz NOT NULL DEFAULT now(),
	CHECK (action <> 'command' OR command_to_execute IS NOT NULL),
	CHECK (action <> 'webhook' OR webhook_url IS NOT NULL)
) WITH (fillfactor = 70);
CREATE INDEX stringmatch_active_idx ON stringmatch (priority, id) WHERE is_active;
CALL waddle_touch_on('stringmatch', 'string', 'match_type', 'case_sensitive', 'enabled_entity_ids', 'action',
	'command_to_execute', 'command_parameters', 'webhook_url', 'warning_message', 'block_message', 'priority',
	'is_active', 'normalize', 'timeout_seconds', 'exempt_role', 'signing_secret');
CALL waddle_invalidate_on('stringmatch', 'r.id::text', 'string', 'match_type', 'case_sensitive',
	'enabled_entity_ids', 'action', 'command_to_execute', 'command_parameters', 'webhook_url', 'warning_message',
	'block_message', 'priority', 'is_active', 'normalize', 'timeout_seconds', 'exempt_role', 'signing_secret');

CREATE TABLE coordination (
	id                 bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	platform           text        NOT NULL,
	server_id          text,                                -- NULL: Twitch
	channel_id         text,
	entity_id          integer     NOT NULL UNIQUE REFERENCES entities (entity_id),
	claimed_by         text,
	claimed_at         timestamptz,
	status             text        NOT NULL DEFAULT 'available' CHECK (status IN ('available', 'claimed', 'offline', 'error')),
	is_live            boolean     NOT NULL DEFAULT false,
	live_since         timestamptz,
	viewer_count       integer     NOT NULL DEFAULT 0 CHECK (viewer_count >= 0),
	last_activity      timestamptz,
	last_check         timestamptz,
	last_checkin       timestamptz,
	claim_expires      timestamptz,
	heartbeat_interval integer     NOT NULL DEFAULT 300 CHECK (heartbeat_interval > 0),
	error_count        integer     NOT NULL DEFAULT 0 CHECK (error_count >= 0),
	metadata           jsonb       NOT NULL DEFAULT '{}',
	priority           integer     NOT NULL DEFAULT 100,
	max_containers     integer     NOT NULL DEFAULT 1 CHECK (max_containers BETWEEN 1 AND 100),
	config             jsonb       NOT NULL DEFAULT '{}',
	fence              bigint      NOT NULL DEFAULT 0,      -- raised at every claim
	created_at         timestamptz NOT NULL DEFAULT now(),
	updated_at         timestamptz NOT NULL DEFAULT now(),
	CHECK ((status = 'claimed') <= (claimed_by IS NOT NULL OR max_containers > 1))
) WITH (fillfactor = 70);
CREATE INDEX coordination_free_idx ON coordination (platform, is_live DESC, priority, viewer_count DESC)
	WHERE status IN ('available', 'claimed');
CREATE INDEX coordination_holder_idx ON coordination (claimed_by) WHERE claimed_by IS NOT NULL;
CALL waddle_touch_on('coordination');

-- Holders of rows with max_containers > 1, each with a fence of its own.
CREATE TABLE coordination_claims (
	coordination_id bigint      NOT NULL REFERENCES coordination ON DELETE CASCADE,
	container_id    text        NOT NULL,
	fence           bigint      NOT NULL,
	claimed_at      timestamptz NOT NULL DEFAULT now(),
	last_checkin    timestamptz NOT NULL DEFAULT now(),
	claim_expires   timestamptz NOT NULL,
	PRIMARY KEY (coordination_id, container_id)
);
CREATE INDEX coordination_claims_container_idx ON coordination_claims (container_id);

-- API keys: only their SHA-256.  The first characters tell keys apart in lists.
CREATE TABLE service_accounts (
	id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name         text        NOT NULL UNIQUE CHECK (char_length(name) BETWEEN 1 AND 100),
	key_sha256   bytea       NOT NULL UNIQUE CHECK (octet_length(key_sha256) = 32),
	key_hint     text        NOT NULL DEFAULT '',
	key_type     text        NOT NULL CHECK (key_type IN ('collector', 'interaction', 'webhook', 'admin')),
	rate_limit   integer     NOT NULL DEFAULT 10000 CHECK (rate_limit >= 0),        -- an hour; 0: none
	may_act      boolean     NOT NULL DEFAULT false,        -- X-Acting-* headers are believed
	is_active    boolean     NOT NULL DEFAULT true,
	expires_at   timestamptz,
	created_by   text        NOT NULL DEFAULT '',
	created_at   timestamptz NOT NULL DEFAULT now(),
	updated_at   timestamptz NOT NULL DEFAULT now()
);
CALL waddle_touch_on('service_accounts');
CALL waddle_invalidate_on('service_accounts', 'r.id::text');

-- The hourly budget, shared by replicas.
CREATE TABLE service_account_usage (
	account_id bigint      NOT NULL REFERENCES service_accounts ON DELETE CASCADE,
	hour       timestamptz NOT NULL,
	used       bigint      NOT NULL DEFAULT 0,
	PRIMARY KEY (account_id, hour)
) WITH (fillfactor = 70);

-- Both keys of events posted over HTTP.  Not partitioned by time: a repeat after midnight is one too.
CREATE TABLE router_inbox (
	key         text        PRIMARY KEY,
	event_id    text        NOT NULL,
	received_at timestamptz NOT NULL,
	published   boolean     NOT NULL DEFAULT false,
	created_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 85);
CREATE INDEX router_inbox_created_idx ON router_inbox USING brin (created_at);

-- Every assignment of a partition raises its epoch; a batch of a stale owner does not commit.
-- pending_since: every execution of this partition's events created before it is settled; its owner
-- moves it on, the next owner searches from there.  NULL: not known, search everything.
CREATE TABLE router_partitions (
	topic         text        NOT NULL,
	partition     integer     NOT NULL CHECK (partition >= 0),
	epoch         bigint      NOT NULL DEFAULT 0,
	owner         text        NOT NULL DEFAULT '',
	pending_since timestamptz,
	updated_at    timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);

GRANT SELECT, INSERT, UPDATE, DELETE ON servers, collector_modules, commands, entities, command_permissions,
	command_aliases, command_executions, module_responses, event_decisions, sessions, rate_limits, stringmatch,
	coordination, coordination_claims, service_accounts, service_account_usage, router_inbox, router_partitions
	TO waddle_router;
-- Roles, labels, links and contexts decide what a user may (router.md 7, 8).
GRANT SELECT ON communities, identities, community_members, community_labels, community_contexts TO waddle_router;

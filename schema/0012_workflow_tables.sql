-- Names, columns and types as the data model gives them; timestamps with a time zone.
SET LOCAL ROLE waddle_owner;

CREATE TABLE workflow_definitions (
	workflow_id      uuid         PRIMARY KEY,
	community_id     integer      NOT NULL REFERENCES communities,
	entity_id        integer      NOT NULL REFERENCES entities (entity_id),
	name             varchar(255) NOT NULL,
	description      text,
	status           varchar(50)  NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'published', 'archived')),
	trigger_type     varchar(50)  NOT NULL CHECK (trigger_type IN ('command', 'event', 'webhook', 'schedule')),
	trigger_config   jsonb        NOT NULL,
	nodes            jsonb        NOT NULL,
	connections      jsonb        NOT NULL,
	global_variables jsonb        DEFAULT '{}',
	settings         jsonb        DEFAULT '{}',
	created_by       integer      NOT NULL,
	updated_by       integer      NOT NULL,
	created_at       timestamptz  NOT NULL DEFAULT now(),
	updated_at       timestamptz  NOT NULL DEFAULT now(),
	version          integer      NOT NULL DEFAULT 0,           -- last published; 0: never
	revision         integer      NOT NULL DEFAULT 1            -- of the working copy, for If-Match
);
CREATE INDEX idx_workflow_community ON workflow_definitions (community_id);
CREATE INDEX idx_workflow_entity ON workflow_definitions (entity_id);
CREATE INDEX idx_workflow_status ON workflow_definitions (status);
CALL waddle_touch_on('workflow_definitions');

CREATE TABLE workflow_versions (
	workflow_id    uuid        NOT NULL REFERENCES workflow_definitions,
	version        integer     NOT NULL CHECK (version >= 1),
	definition     jsonb       NOT NULL,
	checksum       bytea       NOT NULL CHECK (octet_length(checksum) = 32),
	published_by   integer     NOT NULL,
	created_at     timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (workflow_id, version)
);

CREATE TABLE workflow_executions (
	execution_id     uuid        PRIMARY KEY,
	workflow_id      uuid        NOT NULL REFERENCES workflow_definitions,
	community_id     integer     NOT NULL REFERENCES communities,
	entity_id        integer     NOT NULL REFERENCES entities (entity_id),
	trigger_type     varchar(50) NOT NULL,
	trigger_data     jsonb,
	status           varchar(50) NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'running', 'success', 'failed', 'cancelled')),
	started_at       timestamptz,
	completed_at     timestamptz,
	duration_ms      integer,
	error_message    text,
	output_variables jsonb       DEFAULT '{}',
	retry_count      integer     DEFAULT 0,
	is_test_run      boolean     DEFAULT false,
	created_at       timestamptz NOT NULL DEFAULT now(),
	updated_at       timestamptz NOT NULL DEFAULT now(),
	version          integer     NOT NULL DEFAULT 0,
	state            jsonb       NOT NULL DEFAULT '{}',
	fence            bigint      NOT NULL DEFAULT 0,
	lease_until      timestamptz,
	operations       bigint      NOT NULL DEFAULT 0,
	act_for          jsonb
) WITH (fillfactor = 70);
CREATE INDEX idx_execution_workflow ON workflow_executions (workflow_id);
CREATE INDEX idx_execution_community ON workflow_executions (community_id);
CREATE INDEX idx_execution_entity ON workflow_executions (entity_id);
CREATE INDEX idx_execution_status ON workflow_executions (status);
CREATE INDEX idx_execution_created ON workflow_executions (created_at);
CALL waddle_touch_on('workflow_executions');

CREATE TABLE workflow_node_executions (
	node_execution_id uuid         PRIMARY KEY,
	execution_id      uuid         NOT NULL REFERENCES workflow_executions,
	workflow_id       uuid         NOT NULL REFERENCES workflow_definitions,
	node_id           varchar(255) NOT NULL,
	node_type         varchar(50)  NOT NULL,
	status            varchar(50)  NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'running', 'success', 'failed', 'skipped')),
	input_variables   jsonb        DEFAULT '{}',
	output_variables  jsonb        DEFAULT '{}',
	output_port       varchar(50),
	started_at        timestamptz,
	completed_at      timestamptz,
	duration_ms       integer,
	error_message     text,
	result_data       jsonb,
	created_at        timestamptz  NOT NULL DEFAULT now(),
	visit             integer      NOT NULL DEFAULT 1,
	attempts          integer      NOT NULL DEFAULT 0
) WITH (fillfactor = 70);
CREATE INDEX idx_node_execution ON workflow_node_executions (execution_id);
CREATE INDEX idx_node_execution_workflow ON workflow_node_executions (workflow_id);
CREATE INDEX idx_node_execution_node ON workflow_node_executions (node_id);

CREATE TABLE workflow_schedules (
	schedule_id       uuid         PRIMARY KEY,
	workflow_id       uuid         NOT NULL REFERENCES workflow_definitions,
	community_id      integer      NOT NULL REFERENCES communities,
	entity_id         integer      NOT NULL REFERENCES entities (entity_id),
	schedule_type     varchar(50)  NOT NULL CHECK (schedule_type IN ('cron', 'interval', 'one_time')),
	cron_expression   varchar(255),
	interval_seconds  integer      CHECK (interval_seconds > 0),
	timezone          varchar(50)  DEFAULT 'UTC',
	next_execution_at timestamptz,
	last_execution_at timestamptz,
	execution_count   integer      DEFAULT 0,
	max_executions    integer,
	is_active         boolean      DEFAULT true,
	context_data      jsonb        DEFAULT '{}',
	created_by        integer      NOT NULL,
	created_at        timestamptz  NOT NULL DEFAULT now(),
	updated_at        timestamptz  NOT NULL DEFAULT now(),
	run_at            timestamptz,
	missed_policy     text         NOT NULL DEFAULT 'skip' CHECK (missed_policy IN ('skip', 'last', 'all')),
	missed_limit      integer      NOT NULL DEFAULT 1,
	grace_seconds     integer      NOT NULL DEFAULT 60,
	overlap           text         NOT NULL DEFAULT 'allow',
	node_id           varchar(255)
);
CREATE INDEX idx_schedule_workflow ON workflow_schedules (workflow_id);
CREATE INDEX idx_schedule_community ON workflow_schedules (community_id);
CREATE INDEX idx_schedule_entity ON workflow_schedules (entity_id);
CREATE INDEX idx_schedule_active ON workflow_schedules (is_active);
CREATE INDEX idx_schedule_next_exec ON workflow_schedules (next_execution_at);
CALL waddle_touch_on('workflow_schedules');

-- One row per right; user_id and role NULL: everyone who acts in the entity.
CREATE TABLE workflow_permissions (
	permission_id   uuid        PRIMARY KEY,
	workflow_id     uuid        NOT NULL REFERENCES workflow_definitions,
	entity_id       integer     NOT NULL REFERENCES entities (entity_id),
	community_id    integer     NOT NULL REFERENCES communities,
	user_id         integer,
	permission_type varchar(50) NOT NULL
	                CHECK (permission_type IN ('can_view', 'can_edit', 'can_execute', 'can_delete', 'can_manage')),
	granted_by      integer     NOT NULL,
	granted_at      timestamptz NOT NULL DEFAULT now(),
	role            text        CHECK (role IN ('member', 'moderator', 'admin', 'owner')),
	CONSTRAINT unique_permission UNIQUE NULLS NOT DISTINCT (workflow_id, entity_id, permission_type, user_id, role),
	CHECK (user_id IS NULL OR role IS NULL)
);
CREATE INDEX idx_permission_workflow ON workflow_permissions (workflow_id);
CREATE INDEX idx_permission_entity ON workflow_permissions (entity_id);
CREATE INDEX idx_permission_community ON workflow_permissions (community_id);

CREATE TABLE workflow_webhooks (
	webhook_id          uuid         PRIMARY KEY,
	workflow_id         uuid         NOT NULL REFERENCES workflow_definitions,
	token               varchar(255) NOT NULL CONSTRAINT unique_token UNIQUE,
	secret              varchar(255) NOT NULL,
	name                varchar(255) NOT NULL,
	description         text,
	url                 text         NOT NULL,
	enabled             boolean      DEFAULT true,
	require_signature   boolean      DEFAULT true,
	ip_allowlist        text[]       DEFAULT '{}',
	rate_limit_max      integer      DEFAULT 60 CHECK (rate_limit_max > 0),
	rate_limit_window   integer      DEFAULT 60 CHECK (rate_limit_window > 0),
	created_at          timestamptz  NOT NULL DEFAULT now(),
	updated_at          timestamptz  NOT NULL DEFAULT now(),
	last_triggered_at   timestamptz,
	last_execution_id   uuid,
	trigger_count       integer      DEFAULT 0,
	scheme              text         NOT NULL DEFAULT 'waddle',
	previous_secret     varchar(255),
	previous_secret_until timestamptz,
	replay_window_seconds integer    NOT NULL DEFAULT 300,
	node_id             varchar(255)
) WITH (fillfactor = 70);
CREATE INDEX idx_webhook_workflow ON workflow_webhooks (workflow_id);
CALL waddle_touch_on('workflow_webhooks', 'token', 'secret', 'name', 'description', 'enabled', 'require_signature',
	'ip_allowlist', 'rate_limit_max', 'rate_limit_window', 'scheme', 'previous_secret', 'replay_window_seconds');

CREATE TABLE workflow_webhook_deliveries (
	id            bigint      GENERATED ALWAYS AS IDENTITY,
	webhook_id    uuid        NOT NULL,
	created_at    timestamptz NOT NULL DEFAULT now(),
	delivery_key  text,
	execution_id  uuid,
	source        inet,
	outcome       text        NOT NULL,
	data          jsonb       NOT NULL DEFAULT '{}',
	PRIMARY KEY (created_at, id)
) PARTITION BY RANGE (created_at);
CREATE INDEX workflow_webhook_deliveries_key_idx ON workflow_webhook_deliveries (webhook_id, delivery_key);
CALL waddle_partition_on('workflow_webhook_deliveries', 'created_at', 'day', 7);

CREATE TABLE workflow_audit_log (
	audit_id      uuid         PRIMARY KEY,
	workflow_id   uuid         REFERENCES workflow_definitions,
	community_id  integer      NOT NULL REFERENCES communities,
	user_id       integer      NOT NULL,
	action        varchar(100) NOT NULL,
	resource_type varchar(50)  NOT NULL,
	resource_id   varchar(255),
	old_values    jsonb,
	new_values    jsonb,
	result        varchar(50)  DEFAULT 'success' CHECK (result IN ('success', 'failure')),
	error_message text,
	details       jsonb        DEFAULT '{}',
	ip_address    inet,
	created_at    timestamptz  NOT NULL DEFAULT now()
);
CREATE INDEX idx_audit_workflow ON workflow_audit_log (workflow_id);
CREATE INDEX idx_audit_community ON workflow_audit_log (community_id);
CREATE INDEX idx_audit_user ON workflow_audit_log (user_id);
CREATE INDEX idx_audit_action ON workflow_audit_log (action);
CREATE INDEX idx_audit_created ON workflow_audit_log (created_at);

CREATE TABLE workflow_templates (
	template_id       uuid         PRIMARY KEY,
	name              varchar(255) NOT NULL CONSTRAINT unique_template_name UNIQUE,
	description       text,
	category          varchar(100),
	template_workflow jsonb        NOT NULL,
	preview_image_url text,
	download_count    integer      DEFAULT 0,
	rating            decimal(3,2) CHECK (rating BETWEEN 0 AND 5),
	tags              text[],
	is_public         boolean      DEFAULT true,
	created_by        integer      NOT NULL,
	created_at        timestamptz  NOT NULL DEFAULT now(),
	updated_at        timestamptz  NOT NULL DEFAULT now()
);
CREATE INDEX idx_template_category ON workflow_templates (category);
CREATE INDEX idx_template_public ON workflow_templates (is_public);
CALL waddle_touch_on('workflow_templates', 'name', 'description', 'category', 'template_workflow', 'tags', 'is_public');

CREATE TABLE workflow_template_ratings (
	template_id uuid        NOT NULL REFERENCES workflow_templates ON DELETE CASCADE,
	user_id     integer     NOT NULL,
	rating      integer     NOT NULL CHECK (rating BETWEEN 1 AND 5),
	created_at  timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (template_id, user_id)
);

CREATE TABLE workflow_timers (
	id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	execution_id uuid        NOT NULL REFERENCES workflow_executions ON DELETE CASCADE,
	node_id      varchar(255),
	kind         text        NOT NULL CHECK (kind IN ('delay', 'retry', 'timeout', 'run_limit')),
	due_at       timestamptz NOT NULL,
	data         jsonb       NOT NULL DEFAULT '{}'
);
CREATE INDEX workflow_timers_due_idx ON workflow_timers (due_at);
CREATE INDEX workflow_timers_execution_idx ON workflow_timers (execution_id);

CREATE TABLE workflow_secrets (
	workflow_id uuid        NOT NULL REFERENCES workflow_definitions ON DELETE CASCADE,
	name        text        NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
	value       bytea       NOT NULL,                                   -- sealed
	created_at  timestamptz NOT NULL DEFAULT now(),
	updated_at  timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (workflow_id, name)
);
CALL waddle_touch_on('workflow_secrets');

GRANT SELECT, INSERT, UPDATE, DELETE ON workflow_definitions, workflow_versions, workflow_executions,
	workflow_node_executions, workflow_schedules, workflow_permissions, workflow_webhooks,
	workflow_webhook_deliveries, workflow_audit_log, workflow_templates, workflow_template_ratings,
	workflow_timers, workflow_secrets TO waddle_workflow;
GRANT SELECT ON entities, service_accounts TO waddle_workflow;

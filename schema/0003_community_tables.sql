-- Communities, their people and their points.  First, because others' foreign keys point here.
SET LOCAL ROLE waddle_owner;

CREATE TABLE communities (
	id           integer     GENERATED ALWAYS AS IDENTITY (START WITH 2) PRIMARY KEY,
	name         text        NOT NULL CHECK (char_length(name) BETWEEN 1 AND 50),
	display_name text        NOT NULL CHECK (char_length(display_name) BETWEEN 1 AND 100),
	settings     jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(settings) = 'object'),
	is_active    boolean     NOT NULL DEFAULT true,
	created_at   timestamptz NOT NULL DEFAULT now(),
	updated_at   timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX communities_name_key ON communities (lower(name));
CALL waddle_touch_on('communities');
CALL waddle_invalidate_on('communities', 'r.id::text');
-- Everybody belongs to it; channels that joined no community lie in it.
INSERT INTO communities (id, name, display_name) OVERRIDING SYSTEM VALUE VALUES (1, 'global', 'Global');

-- Accounts seen on a platform; those of one person share `person` (its first account's id).
CREATE TABLE identities (
	id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	platform   text        NOT NULL,
	user_id    text        NOT NULL,
	name       text        NOT NULL DEFAULT '',
	person     bigint      NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	UNIQUE (platform, user_id)
);
CREATE INDEX identities_person_idx ON identities (person);
CREATE INDEX identities_name_idx ON identities (platform, lower(name));
CALL waddle_touch_on('identities');
CALL waddle_invalidate_on('identities', $$r.platform || ':' || r.user_id$$);

CREATE TABLE community_members (
	id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	community_id integer     NOT NULL REFERENCES communities,
	platform     text        NOT NULL,
	user_id      text        NOT NULL,
	user_name    text        NOT NULL DEFAULT '',
	role         text        NOT NULL DEFAULT 'member' CHECK (role IN ('owner', 'admin', 'moderator', 'member')),
	joined_at    timestamptz NOT NULL DEFAULT now(),
	left_at      timestamptz,                           -- NULL: is a member
	created_at   timestamptz NOT NULL DEFAULT now(),
	updated_at   timestamptz NOT NULL DEFAULT now(),
	UNIQUE (community_id, platform, user_id)
);
CREATE INDEX community_members_user_idx ON community_members (platform, user_id);
CALL waddle_touch_on('community_members');
CALL waddle_invalidate_on('community_members', $$r.community_id || ':' || r.platform || ':' || r.user_id$$);

CREATE TABLE community_labels (
	id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	community_id integer     NOT NULL REFERENCES communities,
	platform     text        NOT NULL,
	user_id      text        NOT NULL,
	label        text        NOT NULL CHECK (char_length(label) BETWEEN 1 AND 50 AND label = lower(label)),
	expires_at   timestamptz,                           -- NULL: for ever
	applied_by   text        NOT NULL,
	created_at   timestamptz NOT NULL DEFAULT now(),
	UNIQUE (community_id, platform, user_id, label)
);
CREATE INDEX community_labels_label_idx ON community_labels (community_id, label);
CREATE INDEX community_labels_expires_idx ON community_labels (expires_at) WHERE expires_at IS NOT NULL;
CALL waddle_invalidate_on('community_labels', $$r.community_id || ':' || r.platform || ':' || r.user_id$$);

-- "!community context": for at most an hour a person's commands in one entity act elsewhere.
-- The entity by its address: entities are the router's and come later in the order of files.
CREATE TABLE community_contexts (
	platform     text        NOT NULL,
	user_id      text        NOT NULL,
	entity       text        NOT NULL,
	community_id integer     NOT NULL REFERENCES communities,
	expires_at   timestamptz NOT NULL,
	created_at   timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (platform, user_id, entity)
);
CREATE INDEX community_contexts_community_idx ON community_contexts (community_id);
CALL waddle_invalidate_on('community_contexts', $$r.platform || ':' || r.user_id || ':' || r.entity$$);

-- Single-use codes, kept as hashes: to bring a server in, to link an account.
CREATE TABLE community_codes (
	id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	kind            text        NOT NULL CHECK (kind IN ('channel', 'identity')),
	code_sha256     bytea       NOT NULL CHECK (octet_length(code_sha256) = 32),
	community_id    integer     REFERENCES communities,
	platform        text        NOT NULL,               -- identity: the account that must type it
	user_id         text        NOT NULL,
	requested_by    bigint      REFERENCES identities,
	tries           integer     NOT NULL DEFAULT 0 CHECK (tries BETWEEN 0 AND 5),
	expires_at      timestamptz NOT NULL,
	used_at         timestamptz,
	created_at      timestamptz NOT NULL DEFAULT now(),
	CHECK (kind <> 'channel' OR community_id IS NOT NULL)
);
CREATE INDEX community_codes_code_idx ON community_codes (code_sha256) WHERE used_at IS NULL;
CREATE INDEX community_codes_user_idx ON community_codes (platform, user_id);
CREATE INDEX community_codes_community_idx ON community_codes (community_id);
CREATE INDEX community_codes_requested_idx ON community_codes (requested_by);

-- The ledger and its balances; points in hundredths.  One row per activity, whatever was delivered.
CREATE TABLE reputation_events (
	id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	event_id      text        NOT NULL,
	activity_type text        NOT NULL,
	community_id  integer     NOT NULL REFERENCES communities,
	platform      text        NOT NULL,
	user_id       text        NOT NULL,
	amount        bigint      NOT NULL,                 -- as sent, whole points
	quantity      bigint      NOT NULL DEFAULT 1,
	delta         bigint      NOT NULL,                 -- what moved, hundredths; 0: suppressed
	reason        text,
	occurred_at   timestamptz NOT NULL,
	created_at    timestamptz NOT NULL DEFAULT now(),
	UNIQUE (event_id, activity_type)
);
CREATE INDEX reputation_events_user_idx ON reputation_events (community_id, platform, user_id, id);

CREATE TABLE reputation_scores (
	community_id integer     NOT NULL REFERENCES communities,
	platform     text        NOT NULL,
	user_id      text        NOT NULL,
	score        bigint      NOT NULL DEFAULT 0,        -- hundredths
	created_at   timestamptz NOT NULL DEFAULT now(),
	updated_at   timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (community_id, platform, user_id)
) WITH (fillfactor = 85);

CREATE TABLE reputation_rules (
	id               bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	community_id     integer     NOT NULL REFERENCES communities,
	platform         text        NOT NULL DEFAULT '',   -- '': any
	activity_type    text        NOT NULL,
	value            bigint      NOT NULL CHECK (value BETWEEN -1000000 AND 1000000),   -- hundredths
	per              text        NOT NULL DEFAULT 'event' CHECK (per IN ('event', 'unit')),
	cooldown_seconds integer     CHECK (cooldown_seconds > 0),
	daily_cap        bigint      CHECK (daily_cap >= 0),                                -- hundredths
	created_at       timestamptz NOT NULL DEFAULT now(),
	updated_at       timestamptz NOT NULL DEFAULT now(),
	UNIQUE (community_id, platform, activity_type)
);
CALL waddle_touch_on('reputation_rules');

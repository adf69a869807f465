SET LOCAL ROLE waddle_owner;

CREATE TABLE memory_categories (
	id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	community_id integer     NOT NULL REFERENCES communities,
	name         text        NOT NULL CHECK (char_length(name) BETWEEN 1 AND 50),
	description  text        NOT NULL DEFAULT '',
	color        text        NOT NULL DEFAULT '#007bff' CHECK (color ~ '^#[0-9a-fA-F]{6}$'),
	icon         text        NOT NULL DEFAULT '📝',
	created_by   text        NOT NULL,
	created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX memory_categories_name_key ON memory_categories (community_id, lower(name));

CREATE TABLE memories (
	id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	community_id    integer     NOT NULL REFERENCES communities,
	entity_id       integer     NOT NULL REFERENCES entities (entity_id),
	memory_type     text        NOT NULL CHECK (memory_type IN ('quote', 'url', 'note')),
	title           text        NOT NULL CHECK (char_length(title) BETWEEN 1 AND 200),
	content         text        NOT NULL DEFAULT '' CHECK (char_length(content) <= 2000),
	url             text        CHECK (octet_length(url) <= 2048),
	author          text        CHECK (char_length(author) <= 100),
	context         text        CHECK (char_length(context) <= 500),
	tags            jsonb       NOT NULL DEFAULT '[]'
	                CHECK (CASE jsonb_typeof(tags) WHEN 'array' THEN jsonb_array_length(tags) <= 10 ELSE false END),
	created_by      text        NOT NULL,
	created_by_name text        NOT NULL,
	created_at      timestamptz NOT NULL DEFAULT now(),
	updated_at      timestamptz NOT NULL DEFAULT now(),
	is_active       boolean     NOT NULL DEFAULT true,
	usage_count     bigint      NOT NULL DEFAULT 0,
	last_used       timestamptz,
	category_id     bigint      REFERENCES memory_categories ON DELETE SET NULL,
	platform        text        NOT NULL DEFAULT '',            -- of created_by
	CHECK (memory_type <> 'url' OR url IS NOT NULL),
	CHECK (memory_type = 'url' OR content <> '')
) WITH (fillfactor = 85);
-- Lists are newest first within a community, of one type or all.
CREATE INDEX memories_list_idx ON memories (community_id, memory_type, id) WHERE is_active;
CREATE INDEX memories_community_idx ON memories (community_id, id) WHERE is_active;
CREATE INDEX memories_entity_idx ON memories (entity_id);
CREATE INDEX memories_category_idx ON memories (category_id) WHERE category_id IS NOT NULL;
-- A use counts without touching updated_at.
CALL waddle_touch_on('memories', 'title', 'content', 'url', 'author', 'context', 'tags', 'is_active', 'category_id');

CREATE TABLE memory_reactions (
	id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	memory_id     bigint      NOT NULL REFERENCES memories ON DELETE CASCADE,
	user_id       text        NOT NULL,
	reaction_type text        NOT NULL CHECK (char_length(reaction_type) BETWEEN 1 AND 50),
	created_at    timestamptz NOT NULL DEFAULT now(),
	UNIQUE (memory_id, user_id, reaction_type)
);

CREATE TABLE reminders (
	id                bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	memory_id         bigint      REFERENCES memories ON DELETE SET NULL,
	community_id      integer     NOT NULL REFERENCES communities,
	entity_id         integer     NOT NULL REFERENCES entities (entity_id),
	user_id           text        NOT NULL,
	user_name         text        NOT NULL,
	reminder_text     text        NOT NULL CHECK (char_length(reminder_text) BETWEEN 1 AND 500),
	remind_at         timestamptz NOT NULL,
	created_at        timestamptz NOT NULL DEFAULT now(),
	is_sent           boolean     NOT NULL DEFAULT false,
	sent_at           timestamptz,
	is_recurring      boolean     NOT NULL DEFAULT false,
	recurring_pattern text        CHECK (recurring_pattern IN ('daily', 'weekly', 'monthly')),
	recurring_end     date,
	timezone          text        NOT NULL DEFAULT 'UTC',
	anchor_day        integer     CHECK (anchor_day BETWEEN 1 AND 31),
	platform          text        NOT NULL DEFAULT '',
	entity            text        NOT NULL DEFAULT '',          -- address to send to
	bot_account_id    text,
	cancelled_at      timestamptz,
	CHECK (is_recurring = (recurring_pattern IS NOT NULL)),
	CHECK (recurring_pattern IS DISTINCT FROM 'monthly' OR anchor_day IS NOT NULL)
);
CREATE INDEX reminders_due_idx ON reminders (remind_at) WHERE NOT is_sent AND cancelled_at IS NULL;
CREATE INDEX reminders_user_idx ON reminders (community_id, user_id) WHERE NOT is_sent AND cancelled_at IS NULL;
CREATE INDEX reminders_memory_idx ON reminders (memory_id) WHERE memory_id IS NOT NULL;
CREATE INDEX reminders_entity_idx ON reminders (entity_id);

GRANT SELECT, INSERT, UPDATE, DELETE ON memories, memory_reactions, memory_categories, reminders TO waddle_memories;

SET LOCAL ROLE waddle_owner;

-- A series is one row and its own first occurrence; later ones are rows with parent_id.
CREATE TABLE events (
	id                 bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	community_id       integer     NOT NULL REFERENCES communities,
	entity_id          integer     NOT NULL REFERENCES entities (entity_id),
	title              text        NOT NULL CHECK (char_length(title) BETWEEN 3 AND 255),
	description        text        NOT NULL DEFAULT '' CHECK (char_length(description) <= 2000),
	event_date         timestamptz NOT NULL,
	end_date           timestamptz CHECK (end_date > event_date),
	location           text        NOT NULL DEFAULT '' CHECK (char_length(location) <= 255),
	max_attendees      integer     NOT NULL DEFAULT 0 CHECK (max_attendees BETWEEN 0 AND 100000),      -- 0: no limit
	created_by         text        NOT NULL,
	created_by_name    text        NOT NULL,
	status             text        NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'rejected', 'cancelled')),
	approved_by        text,
	approved_by_name   text,
	approved_at        timestamptz,
	rejection_reason   text,
	attendees          jsonb       NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(attendees) = 'array'),
	tags               jsonb       NOT NULL DEFAULT '[]'
	                   CHECK (CASE jsonb_typeof(tags) WHEN 'array' THEN jsonb_array_length(tags) <= 20 ELSE false END),
	is_recurring       boolean     NOT NULL DEFAULT false,
	recurring_pattern  text        CHECK (recurring_pattern IN ('daily', 'weekly', 'monthly', 'yearly')),
	recurring_end_date timestamptz,
	notification_sent  boolean     NOT NULL DEFAULT false,
	created_at         timestamptz NOT NULL DEFAULT now(),
	updated_at         timestamptz NOT NULL DEFAULT now(),
	parent_id          bigint      REFERENCES events,
	timezone           text        NOT NULL DEFAULT 'UTC',
	sequence           integer     NOT NULL DEFAULT 0,
	edited_alone       boolean     NOT NULL DEFAULT false,
	platform           text        NOT NULL DEFAULT '',             -- of created_by
	entity             text        NOT NULL DEFAULT '',             -- address to send to
	bot_account_id     text,
	cancel_reason      text,
	search             tsvector    GENERATED ALWAYS AS (
	                   to_tsvector('simple', title || ' ' || description || ' ' || location)) STORED,
	CHECK (is_recurring = (recurring_pattern IS NOT NULL)),
	CHECK (status <> 'approved' OR approved_by IS NOT NULL),
	UNIQUE (parent_id, event_date)
);
CREATE INDEX events_list_idx ON events (community_id, status, event_date);
CREATE INDEX events_entity_idx ON events (entity_id);
CREATE INDEX events_creator_idx ON events (community_id, created_by);
CREATE INDEX events_search_idx ON events USING gin (search);
CREATE INDEX events_series_idx ON events (recurring_end_date) WHERE is_recurring AND status = 'approved';
CALL waddle_touch_on('events');

CREATE TABLE event_attendees (
	id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	event_id  bigint      NOT NULL REFERENCES events ON DELETE CASCADE,
	user_id   text        NOT NULL,
	user_name text        NOT NULL,
	status    text        NOT NULL CHECK (status IN ('attending', 'maybe', 'declined')),
	joined_at timestamptz NOT NULL DEFAULT now(),
	UNIQUE (event_id, user_id)
);
CREATE INDEX event_attendees_user_idx ON event_attendees (user_id);

CREATE TABLE event_waitlist (
	id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,     -- order of arrival
	event_id  bigint      NOT NULL REFERENCES events ON DELETE CASCADE,
	user_id   text        NOT NULL,
	user_name text        NOT NULL,
	joined_at timestamptz NOT NULL DEFAULT now(),
	UNIQUE (event_id, user_id)
);

CREATE TABLE event_reminders (
	id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	event_id      bigint      NOT NULL REFERENCES events ON DELETE CASCADE,
	reminder_time timestamptz NOT NULL,
	reminder_type text        NOT NULL CHECK (reminder_type IN ('1day', '1hour', '15min')),
	message       text        NOT NULL DEFAULT '',
	sent          boolean     NOT NULL DEFAULT false,
	created_at    timestamptz NOT NULL DEFAULT now(),
	UNIQUE (event_id, reminder_type)
);
CREATE INDEX event_reminders_due_idx ON event_reminders (reminder_time) WHERE NOT sent;

CREATE TABLE calendar_feeds (
	id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	community_id integer     NOT NULL REFERENCES communities,
	token_sha256 bytea       NOT NULL UNIQUE CHECK (octet_length(token_sha256) = 32),
	is_active    boolean     NOT NULL DEFAULT true,
	created_by   text        NOT NULL,
	created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX calendar_feeds_community_key ON calendar_feeds (community_id) WHERE is_active;

GRANT SELECT, INSERT, UPDATE, DELETE ON events, event_attendees, event_waitlist, event_reminders, calendar_feeds
	TO waddle_calendar;

SET LOCAL ROLE waddle_owner;

CREATE TABLE youtube_now_playing (
	community_id  integer     PRIMARY KEY REFERENCES communities,
	video_id      text        NOT NULL,
	title         text        NOT NULL,
	artist        text        NOT NULL DEFAULT '',
	album         text        NOT NULL DEFAULT '',
	duration      integer     NOT NULL CHECK (duration >= 0),          -- seconds
	thumbnail_url text,
	requested_by  text        NOT NULL,
	started_at    timestamptz NOT NULL,
	updated_at    timestamptz NOT NULL DEFAULT now(),
	requested_by_name text    NOT NULL DEFAULT '',
	paused_at     timestamptz
);
CALL waddle_touch_on('youtube_now_playing');

CREATE TABLE youtube_search_cache (
	community_id integer     NOT NULL REFERENCES communities,
	user_id      text        NOT NULL,
	query        text        NOT NULL,
	results      jsonb       NOT NULL CHECK (jsonb_typeof(results) = 'array'),
	created_at   timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (community_id, user_id, query)
);
CREATE INDEX youtube_search_cache_created_idx ON youtube_search_cache (created_at);
CREATE INDEX youtube_search_cache_query_idx ON youtube_search_cache (query, created_at);

CREATE TABLE youtube_activity (
	id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	community_id integer     NOT NULL REFERENCES communities,
	user_id      text        NOT NULL,
	action       text        NOT NULL,
	details      jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(details) = 'object'),
	created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX youtube_activity_community_idx ON youtube_activity (community_id, created_at);

-- The whole key's and each community's searches of one day (Pacific time); community 0: all.
CREATE TABLE youtube_quota (
	day          date        NOT NULL,
	community_id integer     NOT NULL,
	searches     integer     NOT NULL DEFAULT 0,
	units        integer     NOT NULL DEFAULT 0,
	exhausted_at timestamptz,
	PRIMARY KEY (day, community_id)
);

CREATE TABLE spotify_tokens (
	community_id  integer     NOT NULL REFERENCES communities,
	user_id       text        NOT NULL,
	access_token  bytea       NOT NULL,                                -- sealed
	refresh_token bytea,                                               -- sealed
	expires_at    timestamptz NOT NULL,
	scope         text        NOT NULL DEFAULT '',
	created_at    timestamptz NOT NULL DEFAULT now(),
	updated_at    timestamptz NOT NULL DEFAULT now(),
	is_host       boolean     NOT NULL DEFAULT false,
	consent_ends  timestamptz,
	warned_at     timestamptz,
	PRIMARY KEY (community_id, user_id)
);
CREATE UNIQUE INDEX spotify_tokens_host_key ON spotify_tokens (community_id) WHERE is_host;
CALL waddle_touch_on('spotify_tokens');

CREATE TABLE spotify_now_playing (
	community_id  integer     PRIMARY KEY REFERENCES communities,
	track_uri     text        NOT NULL,
	track_name    text        NOT NULL,
	artists       jsonb       NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(artists) = 'array'),
	album         text        NOT NULL DEFAULT '',
	duration_ms   integer     NOT NULL CHECK (duration_ms >= 0),
	album_art_url text,
	is_playing    boolean     NOT NULL DEFAULT true,
	progress_ms   integer     NOT NULL DEFAULT 0 CHECK (progress_ms >= 0),
	requested_by  text        NOT NULL,
	started_at    timestamptz NOT NULL,
	updated_at    timestamptz NOT NULL DEFAULT now(),
	requested_by_name text    NOT NULL DEFAULT ''
);
CALL waddle_touch_on('spotify_now_playing');

CREATE TABLE spotify_search_cache (LIKE youtube_search_cache INCLUDING ALL);
ALTER TABLE spotify_search_cache ADD FOREIGN KEY (community_id) REFERENCES communities;

-- Login links under way: only hashes (the OAuth state is in oauth_states).
CREATE TABLE spotify_login (
	ticket_sha256 bytea       PRIMARY KEY CHECK (octet_length(ticket_sha256) = 32),
	community_id  integer     NOT NULL REFERENCES communities,
	user_id       text        NOT NULL,
	expires_at    timestamptz NOT NULL,
	used_at       timestamptz,
	created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX spotify_login_community_idx ON spotify_login (community_id);

CREATE TABLE music_state (
	community_id integer     PRIMARY KEY REFERENCES communities,
	mode         text        NOT NULL DEFAULT 'youtube' CHECK (mode IN ('youtube', 'spotify', 'off')),
	client_id    text,
	client_secret bytea,                                               -- sealed; a community's own application
	updated_at   timestamptz NOT NULL DEFAULT now()
);
CALL waddle_touch_on('music_state');

CREATE TABLE music_queue (
	id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- order
	community_id integer     NOT NULL REFERENCES communities,
	service      text        NOT NULL CHECK (service IN ('youtube', 'spotify')),
	track        text        NOT NULL,
	title        text        NOT NULL,
	artist       text        NOT NULL DEFAULT '',
	duration_ms  integer     NOT NULL CHECK (duration_ms >= 0),
	data         jsonb       NOT NULL DEFAULT '{}',
	requested_by text        NOT NULL,
	requested_by_name text   NOT NULL DEFAULT '',
	created_at   timestamptz NOT NULL DEFAULT now(),
	UNIQUE (community_id, service, track)
);

CREATE TABLE music_votes (
	community_id integer     NOT NULL REFERENCES communities,
	track        text        NOT NULL,
	user_id      text        NOT NULL,
	created_at   timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (community_id, track, user_id)
);

CREATE TABLE music_timers (
	community_id integer     NOT NULL REFERENCES communities,
	kind         text        NOT NULL,
	due_at       timestamptz NOT NULL,
	data         jsonb       NOT NULL DEFAULT '{}',
	PRIMARY KEY (community_id, kind)
);
CREATE INDEX music_timers_due_idx ON music_timers (due_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON youtube_now_playing, youtube_search_cache, youtube_activity, youtube_quota,
	spotify_tokens, spotify_now_playing, spotify_search_cache, spotify_login, music_state, music_queue, music_votes,
	music_timers TO waddle_music;

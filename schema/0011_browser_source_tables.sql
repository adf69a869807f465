SET LOCAL ROLE waddle_owner;

-- token is the SHA-256 of what stands in the URL; previous_token works until previous_until.
CREATE TABLE browser_source_tokens (
	id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	community_id   integer     NOT NULL REFERENCES communities,
	source_type    text        NOT NULL CHECK (source_type IN ('ticker', 'media', 'general')),
	token          bytea       NOT NULL UNIQUE CHECK (octet_length(token) = 32),
	is_active      boolean     NOT NULL DEFAULT true,
	created_at     timestamptz NOT NULL DEFAULT now(),
	previous_token bytea       CHECK (octet_length(previous_token) = 32),
	previous_until timestamptz,
	last4          text        NOT NULL CHECK (char_length(last4) = 4),
	last_seen      timestamptz,
	CHECK ((previous_token IS NULL) = (previous_until IS NULL))
) WITH (fillfactor = 85);
CREATE UNIQUE INDEX browser_source_tokens_active_key ON browser_source_tokens (community_id, source_type) WHERE is_active;
CREATE INDEX browser_source_tokens_previous_idx ON browser_source_tokens (previous_token) WHERE previous_token IS NOT NULL;

-- The last number given out; its row lock orders the items of one source.
CREATE TABLE browser_source_seq (
	community_id integer NOT NULL REFERENCES communities,
	source_type  text    NOT NULL CHECK (source_type IN ('ticker', 'media', 'general')),
	seq          bigint  NOT NULL DEFAULT 0,
	PRIMARY KEY (community_id, source_type)
) WITH (fillfactor = 50);

CREATE TABLE browser_source_history (
	community_id integer     NOT NULL,
	source_type  text        NOT NULL CHECK (source_type IN ('ticker', 'media', 'general')),
	content      jsonb       NOT NULL,
	session_id   uuid,
	created_at   timestamptz NOT NULL,
	item_id      text        NOT NULL,
	seq          bigint      NOT NULL,
	mode         text        NOT NULL DEFAULT 'once' CHECK (mode IN ('state', 'once')),
	priority     integer     NOT NULL DEFAULT 5 CHECK (priority BETWEEN 0 AND 9),
	duration     integer     NOT NULL DEFAULT 0 CHECK (duration >= 0),
	expires_at   timestamptz NOT NULL,
	claimed_at   timestamptz,
	claimed_by   text,
	painted_at   timestamptz,
	done_at      timestamptz,
	dropped      text,
	PRIMARY KEY (item_id, created_at),
	UNIQUE (community_id, source_type, seq, created_at)
) PARTITION BY RANGE (created_at);
CALL waddle_partition_on('browser_source_history', 'created_at', 'month', 30, 85);

CREATE TABLE browser_source_access_log (
	community_id integer     NOT NULL,
	source_type  text        NOT NULL,
	ip_address   inet        NOT NULL,
	user_agent   text        NOT NULL DEFAULT '',
	accessed_at  timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (accessed_at);
CREATE INDEX browser_source_access_log_community_idx ON browser_source_access_log (community_id, accessed_at);
CALL waddle_partition_on('browser_source_access_log', 'accessed_at', 'month', 30);

GRANT SELECT, INSERT, UPDATE, DELETE ON browser_source_tokens, browser_source_seq, browser_source_history,
	browser_source_access_log TO waddle_browser_source;
GRANT SELECT ON service_accounts TO waddle_browser_source;

-- Twitch, Discord, Slack: the same tables under each platform's name, and what is each one's own.
SET LOCAL ROLE waddle_owner;

-- For migrations: tokens, events, activities, dedupe, outbox of one platform, with the rights of
-- waddle_collector_<platform>.
--
-- tokens      sealed with AES-256-GCM, the row's key as additional data; team_id is the Twitch user
--             (or "app"), Discord guild, Slack team.
-- events      created_at is when it happened on the platform; message is what goes to waddle.events,
--             byte for byte, so that a re-send sends the same; NULL: nothing is forwarded.
-- activities  outlive their events, hence no foreign key.
-- dedupe      both keys of every event; not partitioned by time, so midnight changes nothing.
-- outbox      what is to be sent; rows stay two days, so a topic consumed again finds its ids.
CREATE PROCEDURE waddle_collector_on(platform text)
LANGUAGE plpgsql AS $$
DECLARE
	role text := 'waddle_collector_' || platform;
	name text;
BEGIN
	EXECUTE format('CREATE TABLE %I (
		team_id       text        PRIMARY KEY,
		access_token  bytea       NOT NULL,
		refresh_token bytea,
		expires_at    timestamptz,
		token_type    text        NOT NULL DEFAULT ''bearer'',
		scope         text        NOT NULL DEFAULT '''',
		is_valid      boolean     NOT NULL DEFAULT true,
		validated_at  timestamptz,
		created_at    timestamptz NOT NULL DEFAULT now(),
		updated_at    timestamptz NOT NULL DEFAULT now()
	)', platform || '_tokens');
	CALL waddle_touch_on((platform || '_tokens')::regclass);

	EXECUTE format('CREATE TABLE %I (
		event_id     text        NOT NULL,
		event_type   text        NOT NULL,
		platform_ids jsonb       NOT NULL,
		event_data   jsonb       NOT NULL,
		processed    boolean     NOT NULL DEFAULT false,
		created_at   timestamptz NOT NULL,
		dedupe_key   text        NOT NULL,
		entity       text        NOT NULL,
		message      text,
		received_at  timestamptz NOT NULL DEFAULT now(),
		published_at timestamptz,
		trace_id     text,
		PRIMARY KEY (event_id, created_at),
		UNIQUE (dedupe_key, created_at)
	) PARTITION BY RANGE (created_at)', platform || '_events');
	EXECUTE format('CREATE INDEX %I ON %I (received_at) WHERE NOT processed', platform || '_events_waiting_idx', platform || '_events');
	CALL waddle_partition_on((platform || '_events')::regclass, 'created_at', 'day', 30, 85);

	EXECUTE format('CREATE TABLE %I (
		event_id        text        NOT NULL,
		activity_type   text        NOT NULL,
		user_id         text        NOT NULL,
		username        text        NOT NULL DEFAULT '''',
		amount          bigint      NOT NULL,
		context_sent    boolean     NOT NULL DEFAULT false,
		reputation_sent boolean     NOT NULL DEFAULT false,
		created_at      timestamptz NOT NULL,
		quantity        bigint      NOT NULL DEFAULT 1,
		entity          text        NOT NULL,
		community_id    integer,
		message         text,
		received_at     timestamptz NOT NULL DEFAULT now(),
		PRIMARY KEY (event_id, activity_type, created_at)
	) PARTITION BY RANGE (created_at)', platform || '_activities');
	EXECUTE format('CREATE INDEX %I ON %I (received_at) WHERE NOT (context_sent AND reputation_sent)',
		platform || '_activities_waiting_idx', platform || '_activities');
	EXECUTE format('CREATE INDEX %I ON %I (user_id, created_at)', platform || '_activities_user_idx', platform || '_activities');
	CALL waddle_partition_on((platform || '_activities')::regclass, 'created_at', 'month', NULL, 85);

	EXECUTE format('CREATE TABLE %I (
		key        text        PRIMARY KEY,
		event_id   text        NOT NULL,
		created_at timestamptz NOT NULL DEFAULT now()
	)', platform || '_dedupe');
	EXECUTE format('CREATE INDEX %I ON %I USING brin (created_at)', platform || '_dedupe_created_idx', platform || '_dedupe');

	EXECUTE format('CREATE TABLE %I (
		message_id     uuid        PRIMARY KEY,
		kind           text        NOT NULL CHECK (kind IN (''chat'', ''form'', ''reaction'', ''delete'', ''timeout'')),
		entity         text        NOT NULL,
		channel_id     text,
		priority       integer     NOT NULL DEFAULT 5 CHECK (priority BETWEEN 0 AND 9),
		arrival        bigint      GENERATED ALWAYS AS IDENTITY,
		message        text        NOT NULL,
		state          text        NOT NULL DEFAULT ''queued''
		               CHECK (state IN (''queued'', ''sending'', ''sent'', ''refused'', ''failed'', ''expired'', ''unknown'')),
		parts          jsonb       NOT NULL DEFAULT ''[]'',
		attempts       integer     NOT NULL DEFAULT 0,
		error          text,
		retry_at       timestamptz,
		lease_owner    text,
		lease_until    timestamptz,
		expires_at     timestamptz NOT NULL,
		reported       boolean     NOT NULL DEFAULT false,
		sent_at        timestamptz,
		trace_id       text,
		created_at     timestamptz NOT NULL DEFAULT now()
	) WITH (fillfactor = 70)', platform || '_outbox');
	EXECUTE format('CREATE INDEX %I ON %I (entity, priority, arrival) WHERE NOT reported',
		platform || '_outbox_waiting_idx', platform || '_outbox');
	EXECUTE format('CREATE INDEX %I ON %I USING brin (created_at)', platform || '_outbox_created_idx', platform || '_outbox');

	FOREACH name IN ARRAY ARRAY['tokens', 'events', 'activities', 'dedupe', 'outbox'] LOOP
		EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO %I', platform || '_' || name, role);
	END LOOP;
	-- Entity -> community; the router's interface stays the first source (collectors.md 1.6).
	EXECUTE format('GRANT SELECT ON entities TO %I', role);
	-- The admin pages check keys themselves.
	EXECUTE format('GRANT SELECT ON service_accounts TO %I', role);
END
$$;
REVOKE ALL ON PROCEDURE waddle_collector_on(text) FROM PUBLIC;

CALL waddle_collector_on('twitch');
CALL waddle_collector_on('discord');
CALL waddle_collector_on('slack');

-- OAuth round trips under way, of any service that has some: only hashes.  Rows are told apart by
-- purpose; each role sees its own (policies below).
CREATE TABLE oauth_states (
	state_sha256  bytea       PRIMARY KEY CHECK (octet_length(state_sha256) = 32),
	purpose       text        NOT NULL CHECK (purpose IN ('twitch', 'slack', 'spotify')),
	kind          text        NOT NULL CHECK (kind IN ('ticket', 'state')),
	target        text        NOT NULL DEFAULT '',
	cookie_sha256 bytea       CHECK (octet_length(cookie_sha256) = 32),
	verifier      bytea,                                    -- PKCE, sealed
	data          jsonb       NOT NULL DEFAULT '{}',
	expires_at    timestamptz NOT NULL,
	used_at       timestamptz,
	created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX oauth_states_expires_idx ON oauth_states (expires_at);
ALTER TABLE oauth_states ENABLE ROW LEVEL SECURITY;
CREATE POLICY twitch ON oauth_states TO waddle_collector_twitch USING (purpose = 'twitch');
CREATE POLICY slack ON oauth_states TO waddle_collector_slack USING (purpose = 'slack');
CREATE POLICY spotify ON oauth_states TO waddle_music USING (purpose = 'spotify');
GRANT SELECT, INSERT, UPDATE, DELETE ON oauth_states TO waddle_collector_twitch, waddle_collector_slack, waddle_music;

-- Twitch ---------------------------------------------------------------------------------------

CREATE TABLE twitch_channels (
	channel_id       text        PRIMARY KEY,
	broadcaster_id   text        NOT NULL,
	broadcaster_name text        NOT NULL DEFAULT '',
	config           jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(config) = 'object'),
	is_active        boolean     NOT NULL DEFAULT true,
	bot_role         text        NOT NULL DEFAULT 'none' CHECK (bot_role IN ('none', 'vip', 'moderator', 'broadcaster')),
	bot_role_at      timestamptz,
	last_event_at    timestamptz,
	created_at       timestamptz NOT NULL DEFAULT now(),
	updated_at       timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 85);
CREATE INDEX twitch_channels_active_idx ON twitch_channels (channel_id) WHERE is_active;
CALL waddle_touch_on('twitch_channels', 'broadcaster_id', 'broadcaster_name', 'config', 'is_active', 'bot_role');
CALL waddle_invalidate_on('twitch_channels', 'r.channel_id', 'channel_id', 'broadcaster_id', 'config', 'is_active', 'bot_role');

CREATE TABLE twitch_subscriptions (
	subscription_id text        PRIMARY KEY,
	channel_id      text        NOT NULL REFERENCES twitch_channels,
	type            text        NOT NULL,
	version         text        NOT NULL,
	status          text        NOT NULL,
	cost            integer     NOT NULL DEFAULT 0,
	reason          text,
	retry_at        timestamptz,
	created_at      timestamptz NOT NULL DEFAULT now(),
	updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX twitch_subscriptions_channel_idx ON twitch_subscriptions (channel_id, type);
CALL waddle_touch_on('twitch_subscriptions');

-- The budget of one bot account: blocked_until after a 429; the row is also the lock.
CREATE TABLE twitch_budget (
	account_id    text        PRIMARY KEY,
	blocked_until timestamptz,
	updated_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- One row per message from its reservation until 30 s after its answer; unanswered ones (a sender
-- died) count as answered when their call would have timed out, 10 s after the reservation.
CREATE TABLE twitch_sends (
	account_id  text        NOT NULL REFERENCES twitch_budget,
	message_id  uuid        NOT NULL,
	part        integer     NOT NULL DEFAULT 0,
	channel_id  text        NOT NULL,
	reserved_at timestamptz NOT NULL,
	answered_at timestamptz,
	PRIMARY KEY (account_id, message_id, part)
) WITH (fillfactor = 70);
CREATE INDEX twitch_sends_reserved_idx ON twitch_sends (account_id, reserved_at);

-- Reserves a slot: 0, or the milliseconds until it is worth asking again.  p_max_slots: 19, or 99
-- where the bot is broadcaster or moderator; p_gap_ms: between two messages to one channel, 1100
-- where it is no VIP either.  One statement for the caller; inside, each statement sees what was
-- committed before it got the account's row lock, so any number of senders shares one window.
-- Asking again for the same message and part is the same reservation.
CREATE FUNCTION twitch_reserve(p_account text, p_message uuid, p_part integer, p_channel text,
                               p_max_slots integer, p_gap_ms integer) RETURNS integer
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
	t       timestamptz;
	blocked timestamptz;
	until   timestamptz;
	taken   integer;
BEGIN
	INSERT INTO twitch_budget (account_id) VALUES (p_account) ON CONFLICT DO NOTHING;
	SELECT blocked_until INTO blocked FROM twitch_budget WHERE account_id = p_account FOR UPDATE;
	t := clock_timestamp();
	IF blocked > t THEN
		RETURN ceil(extract(epoch FROM blocked - t) * 1000);
	END IF;
	PERFORM FROM twitch_sends WHERE account_id = p_account AND message_id = p_message AND part = p_part
		AND answered_at IS NULL AND reserved_at > t - interval '10 seconds';
	IF FOUND THEN
		RETURN 0;
	END IF;

	DELETE FROM twitch_sends WHERE account_id = p_account AND reserved_at < t - interval '10 minutes';
	SELECT count(*), min(coalesce(answered_at, reserved_at + interval '10 seconds') + interval '30 seconds')
	  INTO taken, until FROM twitch_sends
	 WHERE account_id = p_account
	   AND coalesce(answered_at, reserved_at + interval '10 seconds') + interval '30 seconds' > t;
	IF taken >= p_max_slots THEN
		RETURN greatest(1, ceil(extract(epoch FROM until - t) * 1000));
	END IF;
	SELECT max(reserved_at) + make_interval(secs => p_gap_ms / 1000.0) INTO until
	  FROM twitch_sends WHERE account_id = p_account AND channel_id = p_channel;
	IF until > t THEN
		RETURN greatest(1, ceil(extract(epoch FROM until - t) * 1000));
	END IF;
	INSERT INTO twitch_sends (account_id, message_id, part, channel_id, reserved_at)
	VALUES (p_account, p_message, p_part, p_channel, t)
	ON CONFLICT (account_id, message_id, part) DO UPDATE SET reserved_at = t, answered_at = NULL;
	RETURN 0;
END
$$;

GRANT SELECT, INSERT, UPDATE, DELETE ON twitch_channels, twitch_subscriptions, twitch_budget, twitch_sends
	TO waddle_collector_twitch;
GRANT EXECUTE ON FUNCTION twitch_reserve(text, uuid, integer, text, integer, integer) TO waddle_collector_twitch;

-- Discord --------------------------------------------------------------------------------------

CREATE TABLE discord_guilds (
	guild_id      text        PRIMARY KEY,
	name          text        NOT NULL DEFAULT '',
	owner_id      text        NOT NULL DEFAULT '',
	config        jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(config) = 'object'),
	is_active     boolean     NOT NULL DEFAULT true,
	last_event_at timestamptz,
	created_at    timestamptz NOT NULL DEFAULT now(),
	updated_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 85);
CREATE INDEX discord_guilds_active_idx ON discord_guilds (guild_id) WHERE is_active;
CALL waddle_touch_on('discord_guilds', 'name', 'owner_id', 'config', 'is_active');
CALL waddle_invalidate_on('discord_guilds', 'r.guild_id', 'guild_id', 'owner_id', 'config', 'is_active');

-- One row per shard; seq moves in the transaction of the events up to it.
CREATE TABLE discord_sessions (
	shard              integer     PRIMARY KEY CHECK (shard >= 0),
	session_id         text,
	seq                bigint,
	resume_gateway_url text,
	holder             text,
	fence              bigint      NOT NULL DEFAULT 0,
	lease_expires      timestamptz,
	last_identify_at   timestamptz,
	identify_count     integer     NOT NULL DEFAULT 0,
	next_identify_at   timestamptz,
	closed_code        integer,
	closed_for         bytea,                               -- hash of token and settings it failed with
	updated_at         timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

CREATE TABLE discord_identifies (
	id    bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	shard integer     NOT NULL,
	at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX discord_identifies_at_idx ON discord_identifies (at);

CREATE TABLE discord_budget (
	bucket        text        PRIMARY KEY,
	remaining     integer,
	reset_at      timestamptz,
	blocked_until timestamptz,
	data          jsonb       NOT NULL DEFAULT '{}',
	updated_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

CREATE TABLE discord_interactions (
	interaction_id text        PRIMARY KEY,
	token          bytea       NOT NULL,                    -- sealed
	state          text        NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'deferred', 'done')),
	private        boolean     NOT NULL DEFAULT false,
	event_id       text        NOT NULL,
	expires_at     timestamptz NOT NULL,
	created_at     timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);
CREATE INDEX discord_interactions_open_idx ON discord_interactions (created_at) WHERE state <> 'done';

CREATE TABLE discord_voice_sessions (
	guild_id         text        NOT NULL,
	user_id          text        NOT NULL,
	channel_id       text        NOT NULL,
	started_at       timestamptz NOT NULL,
	eligible_seconds bigint      NOT NULL DEFAULT 0,
	granted_minutes  bigint      NOT NULL DEFAULT 0,
	last_tick_at     timestamptz NOT NULL,
	PRIMARY KEY (guild_id, user_id)
) WITH (fillfactor = 70);

GRANT SELECT, INSERT, UPDATE, DELETE ON discord_guilds, discord_sessions, discord_identifies, discord_budget,
	discord_interactions, discord_voice_sessions TO waddle_collector_discord;

-- Slack ----------------------------------------------------------------------------------------

CREATE TABLE slack_guilds (
	guild_id      text        PRIMARY KEY,                  -- team id
	name          text        NOT NULL DEFAULT '',
	owner_id      text        NOT NULL DEFAULT '',
	config        jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(config) = 'object'),
	is_active     boolean     NOT NULL DEFAULT true,
	last_event_at timestamptz,
	created_at    timestamptz NOT NULL DEFAULT now(),
	updated_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 85);
CREATE INDEX slack_guilds_active_idx ON slack_guilds (guild_id) WHERE is_active;
CALL waddle_touch_on('slack_guilds', 'name', 'owner_id', 'config', 'is_active');
CALL waddle_invalidate_on('slack_guilds', 'r.guild_id', 'guild_id', 'owner_id', 'config', 'is_active');

CREATE TABLE slack_budget (
	bucket        text        PRIMARY KEY,                  -- channel, or team and method
	last_at       timestamptz,
	blocked_until timestamptz,
	updated_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

CREATE TABLE slack_dm_channels (
	channel_id text        PRIMARY KEY,
	team_id    text        NOT NULL,
	user_id    text,
	created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX slack_dm_channels_team_idx ON slack_dm_channels (team_id);

GRANT SELECT, INSERT, UPDATE, DELETE ON slack_guilds, slack_budget, slack_dm_channels TO waddle_collector_slack;

-- Forms under way on platforms that show them; kept for an hour.
CREATE TABLE discord_forms (
	custom_id  text        PRIMARY KEY,
	definition jsonb       NOT NULL,
	values     jsonb       NOT NULL DEFAULT '{}',
	user_id    text,
	submitted  boolean     NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX discord_forms_created_idx ON discord_forms (created_at);
CREATE TABLE slack_forms (LIKE discord_forms INCLUDING ALL);
GRANT SELECT, INSERT, UPDATE, DELETE ON discord_forms TO waddle_collector_discord;
GRANT SELECT, INSERT, UPDATE, DELETE ON slack_forms TO waddle_collector_slack;

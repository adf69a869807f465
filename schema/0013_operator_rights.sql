-- What `waddle` may do with a database role of its own: read everything but secrets, write what its
-- subcommands write.  It cannot touch what the services produce.
SET LOCAL ROLE waddle_owner;

DO $$
DECLARE
	name text;
BEGIN
	FOR name IN SELECT c.relname FROM pg_class c
	             WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
	               AND c.relowner = 'waddle_owner'::regrole
	               AND c.relname NOT IN ('twitch_tokens', 'discord_tokens', 'slack_tokens', 'spotify_tokens',
	                                     'workflow_secrets', 'workflow_webhooks', 'oauth_states')
	LOOP
		EXECUTE format('GRANT SELECT ON %I TO waddle_operator', name);
	END LOOP;
END
$$;
GRANT INSERT, UPDATE ON servers, entities, command_permissions, twitch_channels, discord_guilds, slack_guilds,
	service_accounts, communities TO waddle_operator;
GRANT INSERT, UPDATE, DELETE ON community_members TO waddle_operator;

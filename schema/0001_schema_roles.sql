-- Roles are cluster-wide, and several databases of one cluster may be migrated at the same time:
-- whoever loses the race finds the role made.  No password is set here; pg_hba.conf or the
-- deployment decides how each role proves itself (docs/schema.md, Roles).
--
-- waddle_owner owns every object and cannot log in: functions that run with the owner's rights
-- (partitions) then run with no more than that.  A service's role owns nothing.
DO $$
DECLARE
	name text;
	-- From version 16 on, who creates a role is its member without the right to act as it.
	may_act text := CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER' END;
BEGIN
	FOREACH name IN ARRAY ARRAY[
		'waddle_owner', 'waddle_operator', 'waddle_router', 'waddle_collector_twitch',
		'waddle_collector_discord', 'waddle_collector_slack', 'waddle_workflow', 'waddle_memories',
		'waddle_calendar', 'waddle_inventory', 'waddle_music', 'waddle_browser_source',
		'waddle_community']
	LOOP
		CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = name);
		BEGIN
			EXECUTE format('CREATE ROLE %I NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT %s', name,
			               CASE name WHEN 'waddle_owner' THEN 'NOLOGIN' ELSE 'LOGIN' END);
		EXCEPTION WHEN duplicate_object OR unique_violation THEN
			NULL;
		END;
	END LOOP;

	-- A superuser may act as anybody; a managed service's administrator may not.
	IF NOT pg_has_role(current_user, 'waddle_owner', may_act) THEN
		BEGIN
			EXECUTE format('GRANT waddle_owner TO %I', current_user);
		EXCEPTION WHEN unique_violation THEN
			NULL;
		END;
	END IF;

	EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
	EXECUTE format('GRANT CONNECT ON DATABASE %I TO waddle_operator, waddle_router,
		waddle_collector_twitch, waddle_collector_discord, waddle_collector_slack, waddle_workflow,
		waddle_memories, waddle_calendar, waddle_inventory, waddle_music, waddle_browser_source,
		waddle_community', current_database());
END
$$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO waddle_owner;
GRANT USAGE ON SCHEMA public TO waddle_operator, waddle_router, waddle_collector_twitch,
	waddle_collector_discord, waddle_collector_slack, waddle_workflow, waddle_memories,
	waddle_calendar, waddle_inventory, waddle_music, waddle_browser_source, waddle_community;

-- What is new belongs to nobody until a file says otherwise.
ALTER DEFAULT PRIVILEGES FOR ROLE waddle_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- Services refuse to start on a schema they do not know.
GRANT SELECT ON schema_migrations TO waddle_operator, waddle_router, waddle_collector_twitch,
	waddle_collector_discord, waddle_collector_slack, waddle_workflow, waddle_memories,
	waddle_calendar, waddle_inventory, waddle_music, waddle_browser_source, waddle_community;

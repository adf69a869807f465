-- What every module has: an inbox and an outbox (modules.md 1.1, 1.7).
SET LOCAL ROLE waddle_owner;

-- For migrations: <module>_inbox and <module>_outbox with the rights of waddle_<module>.
--
-- Inbox: the reply to an execution, committed with its effects; created_at is the command's, so a
-- redelivery meets the same key.  started: a call to somebody else is under way, no reply yet.
-- Kept as long as a command can be delivered again.
-- Outbox: messages committed with the change that causes them; deleted when the broker has them.
CREATE PROCEDURE waddle_module_on(module text)
LANGUAGE plpgsql AS $$
DECLARE
	inbox  text := module || '_inbox';
	outbox text := module || '_outbox';
BEGIN
	EXECUTE format('CREATE TABLE %I (
		execution_id uuid        NOT NULL,
		created_at   timestamptz NOT NULL,
		state        text        NOT NULL DEFAULT ''done'' CHECK (state IN (''started'', ''done'')),
		reply        jsonb       CHECK (state = ''started'' OR reply IS NOT NULL),
		PRIMARY KEY (execution_id, created_at)
	) PARTITION BY RANGE (created_at)', inbox);
	CALL waddle_partition_on(inbox::regclass, 'created_at', 'day', 3);
	EXECUTE format('CREATE TABLE %I (
		message_id  uuid        PRIMARY KEY,
		topic       text        NOT NULL,
		key         text        NOT NULL,
		headers     jsonb       NOT NULL DEFAULT ''{}'',
		body        jsonb       NOT NULL,
		lease_until timestamptz,
		created_at  timestamptz NOT NULL DEFAULT now()
	) WITH (fillfactor = 85)', outbox);
	EXECUTE format('CREATE INDEX %I ON %I (created_at)', outbox || '_created_idx', outbox);
	EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I, %I TO %I', inbox, outbox, 'waddle_' || module);
END
$$;
REVOKE ALL ON PROCEDURE waddle_module_on(text) FROM PUBLIC;

CALL waddle_module_on('memories');
CALL waddle_module_on('calendar');
CALL waddle_module_on('inventory');
CALL waddle_module_on('music');
CALL waddle_module_on('browser_source');
CALL waddle_module_on('community');
CALL waddle_module_on('workflow');

-- Own means created by the caller or one of the caller's linked accounts (modules.md 1.5).
GRANT SELECT ON communities, identities TO waddle_memories, waddle_calendar, waddle_inventory, waddle_music,
	waddle_browser_source, waddle_workflow;
GRANT SELECT, INSERT, UPDATE, DELETE ON communities, identities, community_members, community_labels,
	community_contexts, community_codes, reputation_events, reputation_scores, reputation_rules TO waddle_community;

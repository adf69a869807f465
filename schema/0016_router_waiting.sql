-- Executions that are not sent with their event's batch: links of a chain (router.md 10) and what is
-- over a community's share of a module (router.md 19).
--
-- They are found by an index that holds nothing else: a row sent with its batch has NULL here, costs
-- no entry, and settling it stays a HOT update, because it changes none of these columns.

SET LOCAL ROLE waddle_owner;

ALTER TABLE command_executions
	-- turn: for a slot of its community at its module, until the broker has acknowledged it
	-- (sent_at and lease_until tell how far it is); link: for the execution before it
	ADD COLUMN waits       text CHECK (waits IN ('turn', 'link')),
	ADD COLUMN queued_at   timestamptz,             -- since when it waits for its turn
	-- The next link of its chain, same created_at: released by whoever settles this one.
	ADD COLUMN next_id     uuid,
	ADD COLUMN next_module text;

CREATE INDEX command_executions_waits_idx ON command_executions (waits, community_id, module_name, queued_at, id)
	WHERE waits IS NOT NULL;

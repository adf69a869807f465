-- Coordination: what its statements need beside the data model's columns.
SET LOCAL ROLE waddle_owner;

-- holders: how many rows of coordination_claims there are, for rows with max_containers > 1.  Claims
-- of the same row meet at the row itself, which a count of the other table would not show them.
ALTER TABLE coordination
	ADD COLUMN holders       integer     NOT NULL DEFAULT 0 CHECK (holders >= 0),
	ADD COLUMN error_at      timestamptz,                   -- of the last error; status error ends by itself
	ADD COLUMN error_message text        NOT NULL DEFAULT '';
CREATE INDEX coordination_shared_idx ON coordination (platform) WHERE max_containers > 1;
CREATE INDEX coordination_error_idx ON coordination (error_at) WHERE status = 'error';

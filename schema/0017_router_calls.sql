-- Executions that the router calls over HTTP (router.md 11) are found again, after their caller died,
-- by an index that holds only them.  Its predicate names a column that never changes: settling a row,
-- of any kind, stays a HOT update.
SET LOCAL ROLE waddle_owner;

CREATE INDEX command_executions_calls_idx ON command_executions (created_at) WHERE location_url NOT LIKE 'kafka:%';

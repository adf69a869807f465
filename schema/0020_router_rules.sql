SET LOCAL ROLE waddle_owner;

-- String rules of one entity are found by the lists that name it (router.md 14).
CREATE INDEX stringmatch_entities_idx ON stringmatch USING gin (enabled_entity_ids jsonb_path_ops)
	WHERE is_active AND enabled_entity_ids <> '[]';

-- Webhooks of rules (router.md 14): one row an event and rule, whoever decided it how often.
-- due_at is the next attempt and, while one is made, the end of its lease.
CREATE TABLE rule_calls (
	event_id        text        NOT NULL,
	rule_id         bigint      NOT NULL,
	url             text        NOT NULL,
	body            text        NOT NULL,
	trace_id        text        NOT NULL,
	attempts        integer     NOT NULL DEFAULT 0,
	due_at          timestamptz NOT NULL DEFAULT now(),
	done_at         timestamptz,
	response_status integer,
	error           text,
	created_at      timestamptz NOT NULL,                   -- the event's received_at
	PRIMARY KEY (event_id, rule_id)
) WITH (fillfactor = 70);
CREATE INDEX rule_calls_due_idx ON rule_calls (due_at) WHERE done_at IS NULL;
GRANT SELECT, INSERT, UPDATE, DELETE ON rule_calls TO waddle_router;
GRANT SELECT ON rule_calls TO waddle_operator;

SET LOCAL ROLE waddle_owner;

CREATE TABLE inventory_items (
	id                  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	community_id        integer     NOT NULL REFERENCES communities,
	item_name           text        NOT NULL CHECK (char_length(item_name) BETWEEN 1 AND 255),
	description         text        NOT NULL DEFAULT '' CHECK (char_length(description) <= 2000),
	labels              jsonb       NOT NULL DEFAULT '[]' CONSTRAINT inventory_items_labels_max_5
	                    CHECK (CASE jsonb_typeof(labels) WHEN 'array' THEN jsonb_array_length(labels) <= 5 ELSE false END),
	is_checked_out      boolean     NOT NULL DEFAULT false,
	checked_out_to      text,
	checked_out_at      timestamptz,
	checked_in_at       timestamptz,
	created_by          text        NOT NULL,
	created_at          timestamptz NOT NULL DEFAULT now(),
	updated_at          timestamptz NOT NULL DEFAULT now(),
	checked_out_to_name text,
	CHECK (is_checked_out = (checked_out_to IS NOT NULL))
);
CREATE UNIQUE INDEX inventory_items_name_key ON inventory_items (community_id, lower(item_name));
CREATE INDEX inventory_items_labels_idx ON inventory_items USING gin (labels);
CALL waddle_touch_on('inventory_items');

CREATE TABLE inventory_activity (
	id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	community_id integer     NOT NULL REFERENCES communities,
	item_id      bigint      REFERENCES inventory_items ON DELETE SET NULL,
	action       text        NOT NULL CHECK (action IN ('add', 'checkout', 'checkin', 'delete', 'update')),
	performed_by text        NOT NULL,
	details      jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(details) = 'object'),
	created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX inventory_activity_community_idx ON inventory_activity (community_id, id);
CREATE INDEX inventory_activity_item_idx ON inventory_activity (item_id) WHERE item_id IS NOT NULL;

GRANT SELECT, INSERT, UPDATE, DELETE ON inventory_items, inventory_activity TO waddle_inventory;

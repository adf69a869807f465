-- What all tables share: updated_at, cache invalidation, time partitions.
SET LOCAL ROLE waddle_owner;

-- updated_at ---------------------------------------------------------------------------------

CREATE FUNCTION waddle_touch() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
	IF NEW IS DISTINCT FROM OLD THEN
		NEW.updated_at := now();
	END IF;
	RETURN NEW;
END
$$;

-- For migrations.  cols: only an UPDATE that names one of them counts; none: every UPDATE.
CREATE PROCEDURE waddle_touch_on(tbl regclass, VARIADIC cols text[] DEFAULT '{}')
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TRIGGER touch BEFORE UPDATE %s ON %s FOR EACH ROW EXECUTE FUNCTION waddle_touch()',
	               CASE WHEN cols = '{}' THEN '' ELSE 'OF ' || array_to_string(cols, ', ') END, tbl);
END
$$;

-- Cache invalidation ---------------------------------------------------------------------------
--
-- Channel waddle_invalidate, payload "<table>:<key>", sent in the writing transaction.  One notice
-- per key that a statement touched, old and new; more than 64 keys become "<table>:*", which means
-- drop everything of that table.  The trigger's argument is the key as an expression over r.

CREATE FUNCTION waddle_invalidate() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
	keys text[];
	key  text;
BEGIN
	IF TG_LEVEL = 'ROW' THEN
		EXECUTE format('SELECT array_agg(DISTINCT %s) FROM (SELECT ($1).* UNION ALL SELECT ($2).*) r', TG_ARGV[0])
			INTO keys USING OLD, NEW;
	ELSIF TG_OP = 'INSERT' THEN
		EXECUTE format('SELECT array_agg(DISTINCT %s) FROM new_rows r', TG_ARGV[0]) INTO keys;
	ELSIF TG_OP = 'DELETE' THEN
		EXECUTE format('SELECT array_agg(DISTINCT %s) FROM old_rows r', TG_ARGV[0]) INTO keys;
	ELSE
		EXECUTE format('SELECT array_agg(DISTINCT %s) FROM (TABLE old_rows UNION ALL TABLE new_rows) r', TG_ARGV[0])
			INTO keys;
	END IF;
	IF cardinality(keys) > 64 THEN
		keys := '{*}';
	END IF;
	FOREACH key IN ARRAY coalesce(keys, '{}') LOOP
		PERFORM pg_notify('waddle_invalidate', TG_TABLE_NAME || ':' || key);
	END LOOP;
	RETURN NULL;
END
$$;

-- For migrations.  Tables with counters that change all the time (usage_count, match_count,
-- last_activity) name the columns that matter: an UPDATE of others then costs nothing at all.
-- PostgreSQL allows a column list only without transition tables, hence the row trigger there.
CREATE PROCEDURE waddle_invalidate_on(tbl regclass, key text, VARIADIC cols text[] DEFAULT '{}')
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TRIGGER invalidate_insert AFTER INSERT ON %s REFERENCING NEW TABLE AS new_rows
		FOR EACH STATEMENT EXECUTE FUNCTION waddle_invalidate(%L)', tbl, key);
	EXECUTE format('CREATE TRIGGER invalidate_delete AFTER DELETE ON %s REFERENCING OLD TABLE AS old_rows
		FOR EACH STATEMENT EXECUTE FUNCTION waddle_invalidate(%L)', tbl, key);
	IF cols = '{}' THEN
		EXECUTE format('CREATE TRIGGER invalidate_update AFTER UPDATE ON %s
			REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
			FOR EACH STATEMENT EXECUTE FUNCTION waddle_invalidate(%L)', tbl, key);
	ELSE
		EXECUTE format('CREATE TRIGGER invalidate_update AFTER UPDATE OF %s ON %s
			FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION waddle_invalidate(%L)',
			array_to_string(cols, ', '), tbl, key);
	END IF;
END
$$;

-- Time partitions ------------------------------------------------------------------------------
--
-- <parent>_p20261122 (day) or _p202611 (month), bounds in UTC, and <parent>_default, so that a row
-- of an unexpected day (a clock gone wrong, an old backlog) is neither lost nor stops its batch.
-- Services call waddle_partitions_ensure() hourly, `waddle migrate` at its end.

CREATE TABLE waddle_partitions (
	parent      text     PRIMARY KEY,
	key_column  text     NOT NULL,
	unit        text     NOT NULL CHECK (unit IN ('day', 'month')),
	ahead       integer  NOT NULL CHECK (ahead BETWEEN 1 AND 400),        -- units
	back        integer  NOT NULL CHECK (back BETWEEN 0 AND 400),         -- units
	retain_days integer  CHECK (retain_days >= 1),                        -- NULL: for ever
	fillfactor  integer  NOT NULL DEFAULT 100 CHECK (fillfactor BETWEEN 10 AND 100)
);

-- For migrations: registers a partitioned table and makes its default partition.
CREATE PROCEDURE waddle_partition_on(tbl regclass, key_column text, unit text, retain_days integer,
                                     fillfactor integer DEFAULT 100)
LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO waddle_partitions VALUES
		(tbl::text, key_column, unit, CASE unit WHEN 'day' THEN 7 ELSE 2 END,
		 CASE unit WHEN 'day' THEN 2 ELSE 1 END, retain_days, fillfactor);
	EXECUTE format('CREATE TABLE %I PARTITION OF %s DEFAULT', tbl::text || '_default', tbl);
END
$$;

CREATE FUNCTION waddle_partition_name(parent text, unit text, at timestamptz) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
	SELECT parent || '_p' || to_char(at AT TIME ZONE 'UTC', CASE unit WHEN 'day' THEN 'YYYYMMDD' ELSE 'YYYYMM' END)
$$;

-- One partition: made outside the parent and attached, because CREATE TABLE .. PARTITION OF would
-- lock the parent against everybody.  Rows of that time which wait in the default partition move.
CREATE FUNCTION waddle_partition_make(parent text, key_column text, unit text, fillfactor integer,
                                      lower_end timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
	child     text := waddle_partition_name(parent, unit, lower_end);
	upper_end timestamptz := lower_end + ('1 ' || unit)::interval;
BEGIN
	EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)
		WITH (fillfactor = %s)', child, parent, fillfactor);
	EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', parent || '_default');
	EXECUTE format('WITH moved AS (DELETE FROM %I WHERE %I >= $1 AND %2$I < $2 RETURNING *)
		INSERT INTO %I SELECT * FROM moved', parent || '_default', key_column, child) USING lower_end, upper_end;
	EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, child,
		to_char(lower_end, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), to_char(upper_end, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'));
END
$$;

-- Makes what is missing from `back` units ago to `ahead` (or the number given) units from now,
-- and for every time found in a default partition that is not yet due to be dropped (at most 31 a
-- call).  Returns how many were made; 0 also when another call is at it.  A parent that is locked
-- for 2 s is left for the next call.
CREATE FUNCTION waddle_partitions_ensure(ahead_units integer DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE
	p       waddle_partitions;
	missing timestamptz[];
	at      timestamptz;
	made    integer := 0;
	pass    integer;
	locked  boolean := false;
BEGIN
	IF ahead_units NOT BETWEEN 0 AND 400 THEN
		RAISE invalid_parameter_value USING MESSAGE = 'partitions ahead must be 0 to 400';
	END IF;
	FOR p IN SELECT * FROM waddle_partitions ORDER BY parent LOOP
		BEGIN
			EXECUTE format(
				'SELECT array_agg(d ORDER BY d) FROM ('
				' SELECT d FROM generate_series(date_trunc(%1$L, now()) - %2$L::interval,'
				'                               date_trunc(%1$L, now()) + %3$L::interval, %4$L::interval) d'
				' UNION (SELECT DISTINCT date_trunc(%1$L, %5$I) FROM %6$I'
				'         WHERE %5$I BETWEEN now() - %7$L::interval AND now() + interval ''400 days'' LIMIT 31)) x'
				' WHERE to_regclass(quote_ident(waddle_partition_name(%8$L, %1$L, d))) IS NULL',
				p.unit, p.back || ' ' || p.unit, coalesce(ahead_units, p.ahead) || ' ' || p.unit,
				'1 ' || p.unit, p.key_column, p.parent || '_default', coalesce(p.retain_days, 36500) || ' days',
				p.parent) INTO missing;
		EXCEPTION WHEN lock_not_available THEN
			RAISE WARNING 'partitions of % are locked, left for the next call', p.parent;
			CONTINUE;
		END;
		CONTINUE WHEN missing IS NULL;
		-- Outside the block below: what is locked inside is given up with it.
		locked := locked OR pg_try_advisory_xact_lock(hashtext('waddle_partitions'));
		IF NOT locked THEN
			RETURN made;
		END IF;
		BEGIN
			pass := 0;
			FOREACH at IN ARRAY missing LOOP
				-- It may have been made before the lock was ours.
				CONTINUE WHEN to_regclass(quote_ident(waddle_partition_name(p.parent, p.unit, at))) IS NOT NULL;
				PERFORM waddle_partition_make(p.parent, p.key_column, p.unit, p.fillfactor, at);
				pass := pass + 1;
			END LOOP;
			made := made + pass;
		EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
			RAISE WARNING 'partitions of % are locked, left for the next call', p.parent;
		END;
	END LOOP;
	RETURN made;
END
$$;

-- Drops partitions that lie wholly before now - retain_days, and such rows of default partitions.
-- Returns how many were dropped.  `waddle archive` detaches and keeps them before it comes to this.
CREATE FUNCTION waddle_partitions_drop() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE
	p       waddle_partitions;
	child   text;
	cut     timestamptz;
	dropped integer := 0;
BEGIN
	FOR p IN SELECT * FROM waddle_partitions WHERE retain_days IS NOT NULL ORDER BY parent LOOP
		cut := now() - make_interval(days => p.retain_days);
		FOR child IN
			SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
			 WHERE i.inhparent = quote_ident(p.parent)::regclass
			   AND c.relname < waddle_partition_name(p.parent, p.unit, date_trunc(p.unit, cut))
			   AND c.relname ~ '_p[0-9]{6,8}$' ORDER BY 1
		LOOP
			BEGIN
				EXECUTE format('DROP TABLE %I', child);
				dropped := dropped + 1;
			EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
				RAISE WARNING 'partition % is locked, left for the next call', child;
			END;
		END LOOP;
		EXECUTE format('DELETE FROM %I WHERE %I < $1', p.parent || '_default', p.key_column) USING cut;
	END LOOP;
	RETURN dropped;
END
$$;

REVOKE ALL ON FUNCTION waddle_partitions_ensure(integer), waddle_partitions_drop() FROM PUBLIC;
REVOKE ALL ON FUNCTION waddle_partition_name(text, text, timestamptz),
	waddle_partition_make(text, text, text, integer, timestamptz), waddle_touch(), waddle_invalidate() FROM PUBLIC;
REVOKE ALL ON PROCEDURE waddle_touch_on(regclass, text[]), waddle_invalidate_on(regclass, text, text[]),
	waddle_partition_on(regclass, text, text, integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION waddle_partitions_ensure(integer) TO waddle_operator, waddle_router,
	waddle_collector_twitch, waddle_collector_discord, waddle_collector_slack, waddle_workflow,
	waddle_memories, waddle_calendar, waddle_inventory, waddle_music, waddle_browser_source, waddle_community;
GRANT EXECUTE ON FUNCTION waddle_partitions_drop() TO waddle_operator, waddle_router;
GRANT SELECT, UPDATE ON waddle_partitions TO waddle_operator;

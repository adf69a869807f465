-- Who owns a partition of waddle.events, and what a rate limit remembers.
SET LOCAL ROLE waddle_owner;

-- Raising an epoch waits for the batches of the owner before, checking it holds the raise off until the
-- batch has ended: shared and exclusive advisory locks, because a row lock held by two batches at a time
-- would write a multixact for each.  The class of the locks: "rp".
CREATE FUNCTION router_partitions_take(which text, numbers integer[], who text)
RETURNS TABLE (number integer, raised bigint, since timestamptz)
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
	n integer;
BEGIN
	FOREACH n IN ARRAY numbers LOOP
		PERFORM pg_advisory_xact_lock(29296, n);
	END LOOP;
	RETURN QUERY INSERT INTO router_partitions AS p (topic, partition, epoch, owner)
		SELECT which, k.n, 1, who FROM unnest(numbers) AS k(n)
		ON CONFLICT (topic, partition) DO UPDATE SET epoch = p.epoch + 1, owner = excluded.owner, updated_at = now()
		RETURNING p.partition, p.epoch, p.pending_since;
END
$$;

-- WB001: one of them has another owner.  oldest: what the batch is about to write as pending must not lie
-- before the point from which the next owner searches.  numbers: rising.
CREATE FUNCTION router_partitions_check(which text, numbers integer[], epochs bigint[], oldest timestamptz)
RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
	n     integer;
	stale integer;
	late  boolean;
BEGIN
	FOREACH n IN ARRAY numbers LOOP
		PERFORM pg_advisory_xact_lock_shared(29296, n);
	END LOOP;
	SELECT min(k.n) FILTER (WHERE p.epoch IS DISTINCT FROM k.e), bool_or(p.pending_since > oldest) INTO stale, late
		FROM unnest(numbers, epochs) AS k(n, e)
		LEFT JOIN router_partitions p ON p.topic = which AND p.partition = k.n;
	IF stale IS NOT NULL THEN
		RAISE EXCEPTION 'partition % of % has another owner', stale, which USING ERRCODE = 'WB001';
	END IF;
	IF late THEN
		UPDATE router_partitions SET pending_since = oldest
			WHERE topic = which AND partition = ANY (numbers) AND pending_since > oldest;
	END IF;
END
$$;
GRANT EXECUTE ON FUNCTION router_partitions_take(text, integer[], text),
	router_partitions_check(text, integer[], bigint[], timestamptz) TO waddle_router;

-- {"event id": unix ms}: writing a batch a second time changes nothing.  refused: the first ones of the minute,
-- so that they, too, get their first verdict again.
UPDATE rate_limits SET hits = '{}' WHERE jsonb_typeof(hits) <> 'object';
ALTER TABLE rate_limits ALTER hits SET DEFAULT '{}',
	ADD CHECK (jsonb_typeof(hits) = 'object'),
	ADD refused jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(refused) = 'object');

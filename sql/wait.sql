-- Waiting for the end of a load. The state of a table changes at a commit of the stream worker, so
-- this looks at it with a new snapshot each time.
CREATE FUNCTION ods.wait_until_loaded(relation regclass, timeout interval DEFAULT '5 minutes')
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    give_up constant timestamptz := clock_timestamp() + timeout;
    status record;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'ods.wait_until_loaded needs a READ COMMITTED transaction'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'BEGIN ISOLATION LEVEL READ COMMITTED;';
    END IF;
    LOOP
        SELECT s.state, s.reason INTO status FROM ods.sync_status s WHERE s.table_name = relation;
        IF NOT FOUND THEN
            RAISE EXCEPTION '% is not a synced table', relation
                USING ERRCODE = 'undefined_object', HINT = 'TABLE ods.sync_status;';
        END IF;
        CASE
            WHEN status.state IN ('live', 'idle', 'catching up') THEN
                RETURN;
            WHEN status.state IN ('failed', 'paused', 'fenced') THEN
                RAISE EXCEPTION 'synced table % is %: %', relation, status.state, status.reason
                    USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'TABLE ods.sync_status;';
            WHEN clock_timestamp() >= give_up THEN
                RAISE EXCEPTION 'synced table % was not loaded within %', relation, timeout
                    USING ERRCODE = 'query_canceled', DETAIL = status.reason, HINT = 'TABLE ods.sync_status;';
            ELSE
                PERFORM pg_sleep(0.02);
        END CASE;
    END LOOP;
END
$$;
COMMENT ON FUNCTION ods.wait_until_loaded(regclass, interval) IS
'Returns once the synced table has been loaded and follows its stream; raises when it is paused, failed or fenced, or at the timeout.';

-- Whatever deletes a stream or a synced table takes along what is kept about it.
CREATE FUNCTION ods.release_stream() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF EXISTS (SELECT FROM ods.synced_table JOIN gone USING (stream_id)) THEN
        RAISE foreign_key_violation USING MESSAGE = 'a stream that synced tables read from cannot be deleted';
    END IF;
    DELETE FROM ods.stream_position WHERE stream_id IN (SELECT stream_id FROM gone);
    DELETE FROM ods.connector_position WHERE stream_id IN (SELECT stream_id FROM gone);
    RETURN NULL;
END
$function$;
REVOKE ALL ON FUNCTION ods.release_stream() FROM PUBLIC;
COMMENT ON FUNCTION ods.release_stream() IS 'removes what is kept about deleted streams';

CREATE TRIGGER release_stream AFTER DELETE ON ods.stream
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION ods.release_stream();
-- A session that sets session_replication_role must not leave half of it behind.
ALTER TABLE ods.stream ENABLE ALWAYS TRIGGER release_stream;

CREATE FUNCTION ods.release_table() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    -- In the order in which the loader locks the rows of a table.
    DELETE FROM ods.table_state WHERE table_id IN (SELECT table_id FROM gone);
    DELETE FROM ods.source_member WHERE table_id IN (SELECT table_id FROM gone);
    DELETE FROM ods.synced_column WHERE table_id IN (SELECT table_id FROM gone);
    DELETE FROM ods.reread WHERE table_id IN (SELECT table_id FROM gone);
    DELETE FROM ods.dead_letter WHERE table_id IN (SELECT table_id FROM gone);
    DELETE FROM ods.verify_schedule WHERE table_id IN (SELECT table_id FROM gone);
    DELETE FROM ods.verification WHERE table_id IN (SELECT table_id FROM gone);
    DELETE FROM ods.topic_source WHERE table_id IN (SELECT table_id FROM gone);
    DELETE FROM ods.partition_position WHERE table_id IN (SELECT table_id FROM gone);
    DELETE FROM ods.deferred_index WHERE table_id IN (SELECT table_id FROM gone);
    RETURN NULL;
END
$function$;
REVOKE ALL ON FUNCTION ods.release_table() FROM PUBLIC;
COMMENT ON FUNCTION ods.release_table() IS 'removes what is kept about deleted synced tables';

CREATE TRIGGER release_table AFTER DELETE ON ods.synced_table
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION ods.release_table();
ALTER TABLE ods.synced_table ENABLE ALWAYS TRIGGER release_table;

-- Dropped tables and servers leave the catalog with the statement that drops them, whichever it is.
CREATE FUNCTION ods.release_dropped() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    DELETE FROM ods.synced_table t
     USING pg_event_trigger_dropped_objects() d
     WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 AND d.objid = t.relation;

    -- The tables of a dropped server stay, with their rows, as ordinary tables.
    DELETE FROM ods.synced_table t
     USING ods.stream s, pg_event_trigger_dropped_objects() d
     WHERE d.classid = 'pg_foreign_server'::regclass AND d.address_names[1] = s.server_name
       AND s.stream_id = t.stream_id;
    DELETE FROM ods.stream s
     USING pg_event_trigger_dropped_objects() d
     WHERE d.classid = 'pg_foreign_server'::regclass AND d.address_names[1] = s.server_name;
END
$function$;

REVOKE ALL ON FUNCTION ods.release_dropped() FROM PUBLIC;
COMMENT ON FUNCTION ods.release_dropped() IS
    'removes dropped tables and servers from the catalog of ods';

CREATE EVENT TRIGGER ods_release_dropped ON sql_drop EXECUTE FUNCTION ods.release_dropped();
ALTER EVENT TRIGGER ods_release_dropped ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER ods_release_dropped IS
    'removes dropped tables and servers from the catalog of ods';

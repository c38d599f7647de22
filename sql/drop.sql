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
COMMENT ON EVENT TRIGGER ods_release_dropped IS
    'removes dropped tables and servers from the catalog of ods';

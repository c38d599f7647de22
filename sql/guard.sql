-- Every write to the list of synced tables, by whatever means, makes sessions read it anew.
CREATE TRIGGER synced_table_changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON ods.synced_table
    FOR EACH STATEMENT EXECUTE FUNCTION ods.synced_table_changed();
ALTER TABLE ods.synced_table ENABLE ALWAYS TRIGGER synced_table_changed;

REVOKE ALL ON FUNCTION ods.synced_table_changed() FROM PUBLIC;
COMMENT ON FUNCTION ods.synced_table_changed() IS
    'makes every session read anew which tables are synced';

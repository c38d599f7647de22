-- Who may do what. Reading the state is for everyone, as far as they may read the tables; what
-- changes state is for those it is granted to.
GRANT USAGE ON SCHEMA ods TO PUBLIC;
GRANT SELECT ON ods.sync_status, ods.stream_status, ods.incidents TO PUBLIC;

REVOKE ALL ON FUNCTION ods.create_synced_table(text, text, text, text, text, interval, text[], text[], text, text, text, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION ods.alter_synced_table(regclass, text, text, interval, text, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION ods.drop_synced_table(regclass, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION ods.pause(regclass) FROM PUBLIC;
REVOKE ALL ON FUNCTION ods.resume(regclass) FROM PUBLIC;

COMMENT ON FUNCTION ods.create_synced_table(text, text, text, text, text, interval, text[], text[], text, text, text, text, text) IS
    'Creates a read-only table that follows a table of a source, or adopts an existing one; loading begins at commit';
COMMENT ON FUNCTION ods.alter_synced_table(regclass, text, text, interval, text, text, text) IS
    'Changes what is promised about a synced table, its filter (read anew, online), or what its deletes and changes of the source''s columns do';
COMMENT ON FUNCTION ods.drop_synced_table(regclass, boolean) IS
    'Ends the synchronisation of a table; it stays as an ordinary table, or is dropped where keep_data is false';
COMMENT ON FUNCTION ods.pause(regclass) IS
    'Sets a synced table aside: readers keep its rows, changes pass by, the source keeps nothing for it';
COMMENT ON FUNCTION ods.resume(regclass) IS
    'Brings a paused or failed table up to date, online, and lets it follow its stream again';
COMMENT ON FUNCTION ods.wait_for_position(text, text, interval) IS
    'Waits until everything up to a position of the server is visible here and safe from a crash';

REVOKE ALL ON FUNCTION ods.check_server(text, text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION ods.discover(text) FROM PUBLIC;

-- Who may do what. Reading the state is for everyone, as far as they may read the tables; what
-- changes state is for those it is granted to.
GRANT USAGE ON SCHEMA ods TO PUBLIC;
GRANT SELECT ON ods.sync_status, ods.stream_status, ods.incidents, ods.dead_letters, ods.verifications, ods.partitions TO PUBLIC;

REVOKE ALL ON FUNCTION ods.create_synced_table(text, text, text, text, text, interval, text[], text[], text, text, text, text, text, text, text, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION ods.alter_synced_table(regclass, text, text, interval, text, text, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION ods.drop_synced_table(regclass, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION ods.pause(regclass) FROM PUBLIC;
REVOKE ALL ON FUNCTION ods.resume(regclass) FROM PUBLIC;
REVOKE ALL ON FUNCTION ods.resync(regclass, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION ods.cancel_resync(regclass) FROM PUBLIC;
REVOKE ALL ON FUNCTION ods.seek(regclass, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION ods.verify(regclass, boolean, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION ods.set_verify_schedule(regclass, interval, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION ods.remove_verify_schedule(regclass) FROM PUBLIC;

COMMENT ON FUNCTION ods.create_synced_table(text, text, text, text, text, interval, text[], text[], text, text, text, text, text, text, text, jsonb) IS
    'Creates a read-only table that follows a table or topics of a source, or adopts an existing one; loading begins at commit';
COMMENT ON FUNCTION ods.alter_synced_table(regclass, text, text, interval, text, text, text, text) IS
    'Changes what is promised about a synced table, its filter (read anew, online), or what its deletes and changes of the source''s columns do';
COMMENT ON FUNCTION ods.drop_synced_table(regclass, boolean) IS
    'Ends the synchronisation of a table; it stays as an ordinary table, or is dropped where keep_data is false';
COMMENT ON FUNCTION ods.pause(regclass) IS
    'Sets a synced table aside: readers keep its rows, changes pass by, the source keeps nothing for it';
COMMENT ON FUNCTION ods.resume(regclass) IS
    'Brings a paused or failed table up to date, online, and lets it follow its stream again';
COMMENT ON FUNCTION ods.resync(regclass, integer) IS
    'Reads a synced table anew over the rows that are here, online: what is missing comes, what differs is fixed, what is gone goes';
COMMENT ON FUNCTION ods.cancel_resync(regclass) IS
    'Ends a resync that was asked for of a table that had missed nothing; what it has fixed stays';
COMMENT ON FUNCTION ods.seek(regclass, text) IS
    'Has a synced table go on at another place of its topics: earliest, latest, a time, or offsets by partition as JSON. Records between are applied again over the rows that are here, or never; tells how many offsets that is';
COMMENT ON FUNCTION ods.verify(regclass, boolean, integer) IS
    'Compares a synced table with its source while both go on, and tells the keys that are missing here, differ, or are here alone';
COMMENT ON FUNCTION ods.set_verify_schedule(regclass, interval, boolean) IS
    'Has a synced table compared with its source again and again, and repaired where that is asked for';
COMMENT ON FUNCTION ods.remove_verify_schedule(regclass) IS
    'Has a synced table no longer compared by itself';
COMMENT ON FUNCTION ods.wait_for_position(text, text, interval) IS
    'Waits until everything up to a position of the server is visible here and safe from a crash';

REVOKE ALL ON FUNCTION ods.skip_position(text, text) FROM PUBLIC;
COMMENT ON FUNCTION ods.skip_position(text, text) IS
    'Has the stream of a server go on at a later position, where the source can''t send what comes before. WARNING: changes between are never applied one by one, and readers may see a server''s tables at different times until each is read anew, which begins at once';

REVOKE ALL ON FUNCTION ods.check_server(text, text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION ods.discover(text) FROM PUBLIC;

REVOKE ALL ON FUNCTION ods.retry_dead_letters(regclass, bigint[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION ods.discard_dead_letters(regclass, bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION ods.retry_dead_letters(regclass, bigint[]) IS
    'Has the rows of parked keys read again from the source, or their records applied again as they came; those that can be written lose their dead letters. Returns how many keys';
COMMENT ON FUNCTION ods.discard_dead_letters(regclass, bigint[]) IS
    'Forgets dead letters, and all others of their keys, and lets later changes of these keys flow again over the rows as they stand; returns what it dropped';

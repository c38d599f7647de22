-- Tables become synced here by writing the catalog, without a source; temporary, so nothing stays.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS ods;
CREATE OR REPLACE PROCEDURE pg_temp.make_synced(target regclass, server name DEFAULT 'crm') LANGUAGE sql AS $$
    INSERT INTO ods.identity (system_identifier, database_oid, timeline)
    SELECT system_identifier::text, d.oid, timeline_id
      FROM pg_control_system(), pg_control_checkpoint(), pg_database d
     WHERE datname = current_database()
        ON CONFLICT DO NOTHING;
    INSERT INTO ods.stream (server_name, stream_name, publication_name)
    VALUES (server, 'ods_of_' || server, 'ods_of_' || server)
        ON CONFLICT DO NOTHING;
    INSERT INTO ods.synced_table
           (relation, stream_id, source_schema, source_table, source_oid, on_delete, consumer, tier)
    SELECT target, stream_id, 'public', 'origin', 1, 'delete', 'test', 'real-time'
      FROM ods.stream WHERE server_name = server;
    INSERT INTO ods.table_state (table_id, state)
    SELECT table_id, 'live' FROM ods.synced_table WHERE relation = target;
    INSERT INTO ods.source_member (table_id, source_oid, source_schema, source_table, state, last_key)
    SELECT table_id, 1, 'public', 'origin', 'loaded', '{9}' FROM ods.synced_table WHERE relation = target;
    INSERT INTO ods.synced_column
           (table_id, ordinal, source_name, source_attnum, source_type_oid, source_type_modifier,
            source_type, local_type, target_name)
    SELECT table_id, attnum, attname, attnum, atttypid, atttypmod,
           format_type(atttypid, atttypmod), format_type(atttypid, atttypmod), attname
      FROM ods.synced_table, pg_attribute
     WHERE relation = target AND attrelid = target AND attnum > 0 AND attname <> 'ours'
$$;
CREATE OR REPLACE PROCEDURE pg_temp.forget_all() LANGUAGE sql AS $$
    DELETE FROM ods.synced_table; DELETE FROM ods.stream; DELETE FROM ods.identity
$$;
RESET client_min_messages;

-- The wrapper that makes a Postgres database a server of ods. It has no handler: its servers are
-- read by workers, not by foreign tables.
CREATE FOREIGN DATA WRAPPER ods_postgres NO HANDLER VALIDATOR ods.postgres_validator;
COMMENT ON FOREIGN DATA WRAPPER ods_postgres IS 'Postgres databases that ods follows by logical replication';
COMMENT ON FUNCTION ods.postgres_validator(text[], oid) IS 'checks the options of ods_postgres servers and user mappings';
COMMENT ON FUNCTION ods.check_server(text, text[]) IS 'prerequisites of a server, and of tables at its source, each with the statement that mends it';
COMMENT ON FUNCTION ods.discover(text) IS 'tables of a server''s source: key, columns, estimated rows and bytes, and why one can''t be synced';

-- The wrapper that makes a Postgres database a server of ods. It has no handler: its servers are
-- read by workers, not by foreign tables.
CREATE FOREIGN DATA WRAPPER ods_postgres NO HANDLER VALIDATOR ods.postgres_validator;
COMMENT ON FOREIGN DATA WRAPPER ods_postgres IS 'Postgres databases that ods follows by logical replication';
COMMENT ON FUNCTION ods.postgres_validator(text[], oid) IS 'checks the options of ods_postgres servers and user mappings';

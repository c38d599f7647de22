-- The wrappers that make a Postgres database or a Kafka cluster a server of ods. They have no
-- handler: servers are read by workers, not by foreign tables.
CREATE FOREIGN DATA WRAPPER ods_postgres NO HANDLER VALIDATOR ods.postgres_validator;
COMMENT ON FOREIGN DATA WRAPPER ods_postgres IS 'Postgres databases that ods follows by logical replication';
CREATE FOREIGN DATA WRAPPER ods_kafka NO HANDLER VALIDATOR ods.kafka_validator;
COMMENT ON FOREIGN DATA WRAPPER ods_kafka IS 'Kafka clusters whose topics ods reads';
COMMENT ON FUNCTION ods.kafka_validator(text[], oid) IS 'checks the options of ods_kafka servers and user mappings';
COMMENT ON FUNCTION ods.postgres_validator(text[], oid) IS 'checks the options of ods_postgres servers and user mappings';
COMMENT ON FUNCTION ods.check_server(text, text[]) IS 'prerequisites of a server, and of tables at its source, each with the statement that mends it';
COMMENT ON FUNCTION ods.discover(text) IS 'tables of a server''s source, or topics of a cluster: key, columns, estimated rows, and why one can''t be synced; of topics also partitions, messages a second, format and a sample';

-- Dropped tables leave the catalog, whatever drops them.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE SCHEMA drop_table; SET search_path = drop_table;
CREATE TABLE one (id int PRIMARY KEY);
CREATE TABLE two (id int PRIMARY KEY);
CREATE TABLE three (id int PRIMARY KEY);
CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (10);
CREATE SCHEMA drop_inner;
CREATE TABLE drop_inner.four (id int PRIMARY KEY);
CREATE TABLE stays (id int PRIMARY KEY);
CALL pg_temp.make_synced('one');
CALL pg_temp.make_synced('two');
CALL pg_temp.make_synced('three');
CALL pg_temp.make_synced('drop_inner.four');
CALL pg_temp.make_synced('root');
CALL pg_temp.make_synced('stays');

DROP TABLE one;
SELECT relation FROM ods.synced_table ORDER BY 1;
BEGIN;
DROP TABLE two;
SELECT relation FROM ods.synced_table ORDER BY 1;
ROLLBACK;
SELECT relation FROM ods.synced_table ORDER BY 1;

-- Whatever the session says of triggers.
BEGIN;
SET LOCAL session_replication_role = replica;
DROP TABLE two;
SELECT relation FROM ods.synced_table ORDER BY 1;
SELECT count(*) FROM ods.table_state;
ROLLBACK;

-- A role without any right on the catalog drops its own table.
CREATE ROLE drop_owner;
ALTER TABLE three OWNER TO drop_owner;
ALTER TABLE two OWNER TO drop_owner;
GRANT USAGE ON SCHEMA drop_table TO drop_owner;
SET ROLE drop_owner;
DROP TABLE two;
DROP OWNED BY drop_owner;
RESET ROLE;
DROP OWNED BY drop_owner;
DROP ROLE drop_owner;
SELECT relation FROM ods.synced_table ORDER BY 1;
DROP SCHEMA drop_inner CASCADE;
DROP TABLE root;
SELECT relation FROM ods.synced_table ORDER BY 1;
SELECT count(*) FROM ods.synced_column JOIN ods.table_state USING (table_id);

DROP SCHEMA drop_table CASCADE;
CALL pg_temp.forget_all();

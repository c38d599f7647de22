-- Definitions that the stream stands on.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE SCHEMA guard_definition; SET search_path = guard_definition;
CREATE TABLE customer (id int PRIMARY KEY, name text, _ods_committed_at timestamptz, ours text);
CREATE TABLE adopted (id int NOT NULL CONSTRAINT adopted_id UNIQUE, name text);
CREATE UNIQUE INDEX adopted_key ON adopted (id);
ALTER TABLE adopted REPLICA IDENTITY USING INDEX adopted_key;
CALL pg_temp.make_synced('customer');
CALL pg_temp.make_synced('adopted');

ALTER TABLE customer DROP COLUMN name;
ALTER TABLE customer RENAME COLUMN name TO title;
ALTER TABLE customer DROP COLUMN _ods_committed_at;
ALTER TABLE customer ALTER COLUMN name TYPE int USING length(name);
ALTER TABLE customer DROP CONSTRAINT customer_pkey;
ALTER TABLE customer RENAME CONSTRAINT customer_pkey TO pk;
ALTER INDEX customer_pkey RENAME TO pk;
ALTER TABLE customer REPLICA IDENTITY FULL;
ALTER TABLE customer SET UNLOGGED;
DROP INDEX adopted_key;
DROP INDEX CONCURRENTLY adopted_key;
CREATE TYPE customer_row AS (id int, name text, _ods_committed_at timestamptz, ours text);
ALTER TABLE customer OF customer_row;

-- Columns and keys do not go by a cascade either.
CREATE TYPE status AS ENUM ('open', 'closed');
CREATE DOMAIN short AS text;
CREATE TABLE typed (id short PRIMARY KEY, status status, at timestamp, size int, share real, note text, ours status);
CALL pg_temp.make_synced('typed');
DROP TYPE status CASCADE;
DROP DOMAIN short CASCADE;
DELETE FROM ods.synced_column WHERE target_name = 'status';
DROP TYPE status CASCADE;

-- A cast does not write other values than the source's text reads as.
ALTER TABLE typed ALTER COLUMN at TYPE timestamptz;
ALTER TABLE typed ALTER COLUMN share TYPE double precision;
ALTER TABLE typed ALTER COLUMN size TYPE bigint, ALTER COLUMN note TYPE varchar(50);
ALTER TABLE typed ALTER COLUMN note TYPE varchar(100), ALTER COLUMN note SET NOT NULL;
ALTER TABLE typed ALTER COLUMN note TYPE char(3);
ALTER TABLE typed ADD COLUMN free timestamp;
ALTER TABLE typed ALTER COLUMN free TYPE timestamptz;

-- What is not the stream's may change.
ALTER TABLE customer ALTER COLUMN name TYPE varchar(100);
ALTER TABLE customer ADD COLUMN more int, DROP COLUMN ours;
ALTER TABLE customer RENAME COLUMN more TO most;
ALTER TABLE customer ALTER COLUMN most TYPE text;
ALTER TABLE adopted DROP CONSTRAINT adopted_id;
ALTER TABLE customer RENAME TO client;
CREATE SCHEMA guard_elsewhere;
ALTER TABLE client SET SCHEMA guard_elsewhere;
INSERT INTO guard_elsewhere.client VALUES (1);
DROP SCHEMA guard_elsewhere CASCADE;
SELECT relation FROM ods.synced_table;

-- A transform makes its columns from whatever it likes.
CREATE TABLE made (id int PRIMARY KEY, ours text);
CALL pg_temp.make_synced('made');
ALTER TABLE made RENAME ours TO whose;
UPDATE ods.synced_table SET transform = 'SELECT 1' WHERE relation = 'made'::regclass;
ALTER TABLE made RENAME whose TO ours;

DROP SCHEMA guard_definition CASCADE;
CALL pg_temp.forget_all();

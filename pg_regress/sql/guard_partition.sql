-- A partitioned synced table, through its root and through its leaves.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE SCHEMA guard_partition; SET search_path = guard_partition;
CREATE TABLE customer (id int PRIMARY KEY, name text) PARTITION BY RANGE (id);
CREATE TABLE low PARTITION OF customer FOR VALUES FROM (0) TO (10) PARTITION BY LIST (id);
CREATE TABLE low_one PARTITION OF low FOR VALUES IN (1);
CREATE TABLE high PARTITION OF customer FOR VALUES FROM (10) TO (20);
INSERT INTO customer VALUES (1, 'one'), (11, 'eleven');
CREATE TABLE divided (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE leaf PARTITION OF divided FOR VALUES FROM (0) TO (10);
CALL pg_temp.make_synced('customer');

INSERT INTO customer VALUES (12, 'routed');
UPDATE customer SET id = 13 WHERE id = 1;
INSERT INTO low VALUES (1, 'routed');
INSERT INTO low_one VALUES (1, 'straight');
UPDATE low_one SET name = 'changed';
DELETE FROM high;
TRUNCATE high;
TRUNCATE low;
COPY low_one FROM PROGRAM 'true';

-- Partitions may be made, empty, and are guarded; rows don't come or go with a partition.
CREATE TABLE higher PARTITION OF customer FOR VALUES FROM (20) TO (30);
INSERT INTO higher VALUES (21, 'straight');
CREATE TABLE full_table (id int PRIMARY KEY, name text);
ALTER TABLE customer ATTACH PARTITION full_table FOR VALUES FROM (30) TO (40);
ALTER TABLE low ATTACH PARTITION full_table FOR VALUES IN (2);
ALTER TABLE customer DETACH PARTITION high;
ALTER TABLE customer DETACH PARTITION high CONCURRENTLY;
ALTER TABLE customer DETACH PARTITION high FINALIZE;
DROP TABLE high;

-- Nor by a cascade, or with their owner.
CREATE SCHEMA guard_archive;
ALTER TABLE high SET SCHEMA guard_archive;
DROP SCHEMA guard_archive CASCADE;
ALTER TABLE guard_archive.high SET SCHEMA guard_partition;
CREATE ROLE guard_archivist;
ALTER TABLE low_one OWNER TO guard_archivist;
DROP OWNED BY guard_archivist CASCADE;
DO $$ BEGIN DROP TABLE high; EXCEPTION WHEN read_only_sql_transaction THEN RAISE NOTICE 'refused'; END $$;
BEGIN;
SAVEPOINT before;
DROP TABLE high;
ROLLBACK TO before;
COMMIT;
REASSIGN OWNED BY guard_archivist TO CURRENT_USER;
DROP ROLE guard_archivist;

-- What is not safe from a crash, or not here, is no partition.
CREATE UNLOGGED TABLE unlogged PARTITION OF customer FOR VALUES FROM (40) TO (50);
CREATE UNLOGGED TABLE unlogged PARTITION OF low FOR VALUES IN (3);
CREATE TABLE unlogged PARTITION OF low FOR VALUES IN (3);
ALTER TABLE unlogged SET UNLOGGED;
CREATE SERVER guard_far FOREIGN DATA WRAPPER ods_postgres;
CREATE FOREIGN TABLE far PARTITION OF customer FOR VALUES FROM (40) TO (50) SERVER guard_far;
DROP SERVER guard_far;

-- Partitions of others are theirs.
INSERT INTO divided VALUES (1);
INSERT INTO leaf VALUES (2);
ALTER TABLE divided DETACH PARTITION leaf;
SELECT tableoid::regclass, * FROM customer ORDER BY id;
DROP TABLE customer, high;

DROP SCHEMA guard_partition CASCADE;
CALL pg_temp.forget_all();

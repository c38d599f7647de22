-- MERGE.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE SCHEMA guard_merge; SET search_path = guard_merge;
CREATE TABLE customer (id int PRIMARY KEY, name text);
INSERT INTO customer VALUES (1, 'one');
CALL pg_temp.make_synced('customer');

MERGE INTO customer c USING (VALUES (1)) v (id) ON c.id = v.id
    WHEN MATCHED THEN UPDATE SET name = 'changed';
MERGE INTO customer c USING (VALUES (1)) v (id) ON c.id = v.id WHEN MATCHED THEN DELETE;
MERGE INTO customer c USING (VALUES (2)) v (id) ON c.id = v.id
    WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'two');
TABLE customer;

DROP SCHEMA guard_merge CASCADE;
CALL pg_temp.forget_all();

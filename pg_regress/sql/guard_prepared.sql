-- A statement prepared before its table became synced.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE SCHEMA guard_prepared; SET search_path = guard_prepared;
CREATE TABLE customer (id int PRIMARY KEY, name text);
PREPARE add AS INSERT INTO customer VALUES ($1, 'any');
PREPARE change AS UPDATE customer SET name = 'changed' WHERE id = $1;
PREPARE look AS SELECT name FROM customer WHERE id = $1;
SET plan_cache_mode = force_generic_plan;
EXECUTE add(1);
EXECUTE change(1);
CALL pg_temp.make_synced('customer');
EXECUTE add(2);
EXECUTE change(1);
EXECUTE look(1);
DELETE FROM ods.synced_table;
EXECUTE add(2);

-- Made synced by another session, while this one has its plan and its idea of what is synced.
CREATE TABLE second (LIKE customer);
CALL pg_temp.make_synced('second');
EXECUTE add(3);
\setenv PGDATABASE :DBNAME
\! psql -Xq -c "UPDATE ods.synced_table SET relation = 'guard_prepared.customer'"
EXECUTE add(4);
INSERT INTO second VALUES (1);

DROP SCHEMA guard_prepared CASCADE;
CALL pg_temp.forget_all();

-- Writes in a WITH query.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE SCHEMA guard_cte; SET search_path = guard_cte;
CREATE TABLE customer (id int PRIMARY KEY, name text);
CREATE TABLE ordinary (id int PRIMARY KEY);
INSERT INTO customer VALUES (1, 'one');
CALL pg_temp.make_synced('customer');

WITH gone AS (DELETE FROM customer RETURNING id) SELECT * FROM gone;
WITH added AS (INSERT INTO ordinary SELECT id FROM customer RETURNING id)
UPDATE customer SET name = 'changed' FROM added WHERE added.id = customer.id;
WITH added AS (INSERT INTO ordinary SELECT id FROM customer RETURNING id) SELECT * FROM added;
EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) DELETE FROM customer;
TABLE customer;

DROP SCHEMA guard_cte CASCADE;
CALL pg_temp.forget_all();

-- INSERT … ON CONFLICT.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE SCHEMA guard_on_conflict; SET search_path = guard_on_conflict;
CREATE TABLE customer (id int PRIMARY KEY, name text);
INSERT INTO customer VALUES (1, 'one');
CALL pg_temp.make_synced('customer');

INSERT INTO customer VALUES (1, 'changed') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name;
INSERT INTO customer VALUES (1, 'changed') ON CONFLICT DO NOTHING;
TABLE customer;

DROP SCHEMA guard_on_conflict CASCADE;
CALL pg_temp.forget_all();

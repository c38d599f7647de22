-- TRUNCATE, direct and by cascade.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE SCHEMA guard_truncate; SET search_path = guard_truncate;
CREATE TABLE customer (id int PRIMARY KEY);
CREATE TABLE synced_order (id int PRIMARY KEY, customer int REFERENCES customer);
CREATE TABLE note (id int PRIMARY KEY, customer int REFERENCES customer);
CALL pg_temp.make_synced('synced_order');

TRUNCATE synced_order;
TRUNCATE customer;
TRUNCATE customer CASCADE;
TRUNCATE note;

DROP SCHEMA guard_truncate CASCADE;
CALL pg_temp.forget_all();

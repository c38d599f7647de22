-- A synced table is nobody's child, and nobody's parent by inheritance.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE SCHEMA guard_inheritance; SET search_path = guard_inheritance;
CREATE TABLE parent (id int PRIMARY KEY, name text);
CREATE TABLE divided (id int NOT NULL, name text) PARTITION BY RANGE (id);
CREATE TABLE customer (id int PRIMARY KEY, name text);
CREATE TABLE other (id int PRIMARY KEY, name text);
CALL pg_temp.make_synced('customer');

ALTER TABLE customer INHERIT parent;
ALTER TABLE divided ATTACH PARTITION customer FOR VALUES FROM (0) TO (10);
ALTER TABLE other INHERIT customer;
CREATE TABLE child () INHERITS (customer);
CREATE TABLE child (extra int) INHERITS (other, customer);

-- Others may.
ALTER TABLE other INHERIT parent;
ALTER TABLE other NO INHERIT parent;
ALTER TABLE divided ATTACH PARTITION other FOR VALUES FROM (0) TO (10);
CREATE TABLE copy (LIKE customer INCLUDING ALL);
SELECT inhrelid::regclass, inhparent::regclass FROM pg_inherits
 WHERE 'customer'::regclass IN (inhrelid, inhparent);

DROP SCHEMA guard_inheritance CASCADE;
CALL pg_temp.forget_all();

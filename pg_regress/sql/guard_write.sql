-- Plain writes, by a superuser and by the owner.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE SCHEMA guard_write; SET search_path = guard_write;
CREATE TABLE customer (id int PRIMARY KEY, name text);
CREATE TABLE ordinary (id int PRIMARY KEY);
INSERT INTO customer VALUES (1, 'one');
CALL pg_temp.make_synced('customer');

INSERT INTO customer VALUES (2, 'two');
\echo :LAST_ERROR_SQLSTATE
UPDATE customer SET name = 'changed';
UPDATE customer SET name = 'changed' WHERE false;
DELETE FROM customer;
INSERT INTO ordinary VALUES (1);

CREATE ROLE guard_owner;
GRANT ALL ON SCHEMA guard_write TO guard_owner;
ALTER TABLE customer OWNER TO guard_owner;
SET ROLE guard_owner;
INSERT INTO customer VALUES (2, 'two');
UPDATE customer SET name = 'changed';
DELETE FROM customer;
RESET ROLE;

-- A role without rights hears of its rights.
CREATE ROLE guard_nobody;
GRANT USAGE ON SCHEMA guard_write TO guard_nobody;
SET ROLE guard_nobody;
DELETE FROM customer;
RESET ROLE;

-- The hint's name can be pasted whatever the search path and the name are.
CREATE TABLE "It's Mixed" (id int PRIMARY KEY);
CALL pg_temp.make_synced('"It''s Mixed"');
RESET search_path;
DELETE FROM guard_write."It's Mixed";
SET search_path = guard_write;
TABLE customer;

-- An ordinary table again, within the transaction that releases it, and back with its rollback.
BEGIN;
DELETE FROM ods.synced_table WHERE relation = 'customer'::regclass;
INSERT INTO customer VALUES (3, 'three');
ROLLBACK;
INSERT INTO customer VALUES (3, 'three');
BEGIN;
SAVEPOINT released;
DELETE FROM ods.synced_table WHERE relation = 'customer'::regclass;
ROLLBACK TO released;
INSERT INTO customer VALUES (3, 'three');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
TABLE customer;
CALL pg_temp.make_synced('ordinary');
DELETE FROM ordinary;
ROLLBACK;
DELETE FROM ordinary;
DELETE FROM ods.synced_table WHERE relation = 'customer'::regclass;
INSERT INTO customer VALUES (3, 'three');
TABLE customer;
DROP OWNED BY guard_owner, guard_nobody;
DROP ROLE guard_owner, guard_nobody;

DROP SCHEMA guard_write CASCADE;
CALL pg_temp.forget_all();

-- Dropping the extension leaves tables and rows, and says what stays at the source.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE SCHEMA drop_extension; SET search_path = drop_extension;
\set database :DBNAME
CREATE DATABASE drop_extension;
\c drop_extension
\set ECHO none
\i :setup
\set ECHO all
CREATE TABLE customer (id int PRIMARY KEY);
INSERT INTO customer VALUES (1);
CALL pg_temp.make_synced('customer');
INSERT INTO customer VALUES (2);
BEGIN;
DROP EXTENSION ods;
INSERT INTO customer VALUES (2);
ROLLBACK;
INSERT INTO customer VALUES (2);
DROP EXTENSION ods CASCADE;
INSERT INTO customer VALUES (2);
TABLE customer;
-- A table of that name without the extension has no say.
CREATE TABLE ods.synced_table (relation regclass);
INSERT INTO ods.synced_table VALUES ('customer');
DELETE FROM customer;
DROP SCHEMA ods CASCADE;
-- And the extension may come again, in a session that has seen it go.
\set ECHO none
\i :setup
\set ECHO all
INSERT INTO customer VALUES (1);
CALL pg_temp.make_synced('customer');
DELETE FROM customer;
-- Its schema takes it along.
BEGIN;
DROP SCHEMA ods CASCADE;
ROLLBACK;
DROP SCHEMA ods CASCADE;
INSERT INTO customer VALUES (3);
-- So does its owner.
CREATE ROLE drop_owner SUPERUSER;
SET ROLE drop_owner;
\set ECHO none
\i :setup
\set ECHO all
CALL pg_temp.make_synced('customer');
RESET ROLE;
DELETE FROM customer;
DROP OWNED BY drop_owner CASCADE;
DELETE FROM customer;
DROP ROLE drop_owner;
\c :database
DROP DATABASE drop_extension;
\set ECHO none
\i :setup
\set ECHO all

DROP SCHEMA drop_extension CASCADE;
CALL pg_temp.forget_all();

-- Statements on whole databases.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE SCHEMA drop_database; SET search_path = drop_database;
CREATE DATABASE drop_first;
CREATE DATABASE drop_copy TEMPLATE drop_first;
ALTER DATABASE drop_first RENAME TO drop_second;
ALTER DATABASE drop_second SET TABLESPACE pg_default;
DROP DATABASE drop_second;
DROP DATABASE drop_copy WITH (FORCE);
DROP DATABASE drop_first;
DROP DATABASE IF EXISTS drop_first;
CREATE DATABASE drop_copy TEMPLATE drop_first;

DROP SCHEMA drop_database CASCADE;
CALL pg_temp.forget_all();

-- Statements on whole databases, while workers are connected to them.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE SCHEMA drop_database; SET search_path = drop_database;
-- A worker that is back is one that has left: a process of that name connected once more.
CREATE PROCEDURE await_worker(database name) LANGUAGE plpgsql AS $$
BEGIN
    FOR attempt IN 1 .. 1000 LOOP
        PERFORM pg_stat_clear_snapshot();
        IF EXISTS (SELECT FROM pg_stat_activity WHERE datname = database AND backend_type = 'ods maintenance') THEN
            RETURN;
        END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RAISE 'no worker came to database %', database;
END $$;
\set database :DBNAME
CREATE DATABASE drop_first;
\c drop_first
CREATE EXTENSION ods;
\c :database
SET search_path = drop_database;
CALL await_worker('drop_first');

CREATE DATABASE drop_copy TEMPLATE drop_first;
CALL await_worker('drop_first');
CALL await_worker('drop_copy');
BEGIN;
ALTER DATABASE drop_first RENAME TO drop_second;
ROLLBACK;
CALL await_worker('drop_first');
ALTER DATABASE drop_first RENAME TO drop_second;
CALL await_worker('drop_second');
ALTER DATABASE drop_second SET TABLESPACE pg_default;
CALL await_worker('drop_second');
-- A statement that fails lets the workers come back.
ALTER DATABASE drop_second RENAME TO drop_copy;
CALL await_worker('drop_second');
DROP DATABASE drop_second;
DROP DATABASE drop_copy WITH (FORCE);

DROP DATABASE drop_first;
DROP DATABASE IF EXISTS drop_first;
CREATE DATABASE drop_copy TEMPLATE drop_first;
-- Who may not drop a database doesn't make its workers leave.
CREATE ROLE drop_nobody;
SET ROLE drop_nobody;
DROP DATABASE postgres;
ALTER DATABASE postgres RENAME TO drop_first;
CREATE DATABASE drop_copy;
RESET ROLE;
DROP ROLE drop_nobody;

\set ECHO none
\i :setup
\set ECHO all
DROP SCHEMA drop_database CASCADE;
CALL pg_temp.forget_all();

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
CREATE DATABASE drop_first;
\c drop_first
CREATE EXTENSION ods;
\c :database
SET search_path = drop_database;
CALL await_worker('drop_first');
CREATE VIEW worker AS SELECT pid FROM pg_stat_activity
 WHERE datname IN ('drop_first', 'drop_other') AND backend_type = 'ods maintenance';
SELECT pid AS worker FROM worker \gset
-- May create databases, but not copy, rename or move this one.
ALTER ROLE drop_nobody CREATEDB;
SET ROLE drop_nobody;
CREATE DATABASE drop_copy TEMPLATE drop_first;
ALTER DATABASE drop_first RENAME TO drop_other;
ALTER DATABASE drop_first SET TABLESPACE pg_default;
RESET ROLE;
-- Owns it, and may not create databases.
ALTER ROLE drop_nobody NOCREATEDB;
ALTER DATABASE drop_first OWNER TO drop_nobody;
SET ROLE drop_nobody;
ALTER DATABASE drop_first RENAME TO drop_other;
RESET ROLE;
-- A block that goes on keeps nobody out for what Postgres refuses in it.
BEGIN;
SAVEPOINT a;
CREATE DATABASE drop_copy TEMPLATE drop_first;
ROLLBACK TO a;
DROP DATABASE drop_first;
ROLLBACK TO a;
ALTER DATABASE drop_first SET TABLESPACE pg_default;
ROLLBACK TO a;
SELECT pid = :worker AS stayed FROM worker;
-- Nor for what it has undone.
ALTER DATABASE drop_first RENAME TO drop_other;
SELECT pg_stat_clear_snapshot();
SELECT count(*) FROM worker;
ROLLBACK TO a;
CALL await_worker('drop_first');
-- However often: in one transaction, undone each time and not.
DO $$
BEGIN
    FOR attempt IN 1 .. 70 LOOP
        BEGIN
            ALTER DATABASE drop_first RENAME TO drop_other;
            RAISE division_by_zero;
        EXCEPTION WHEN division_by_zero THEN
        END;
    END LOOP;
    FOR attempt IN 1 .. 35 LOOP
        ALTER DATABASE drop_first RENAME TO drop_other;
        ALTER DATABASE drop_other RENAME TO drop_first;
    END LOOP;
END $$;
COMMIT;
CALL await_worker('drop_first');
DROP DATABASE drop_first;
DROP ROLE drop_nobody;

\set ECHO none
\i :setup
\set ECHO all
DROP SCHEMA drop_database CASCADE;
CALL pg_temp.forget_all();

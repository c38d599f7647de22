-- Servers: dropped, renamed, owned.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE SCHEMA drop_server; SET search_path = drop_server;
CREATE FOREIGN DATA WRAPPER drop_wrapper;
CREATE SERVER crm FOREIGN DATA WRAPPER drop_wrapper;
CREATE SERVER shop FOREIGN DATA WRAPPER drop_wrapper;
CREATE SERVER other FOREIGN DATA WRAPPER drop_wrapper;
CREATE TABLE customer (id int PRIMARY KEY);
CREATE TABLE contact (id int PRIMARY KEY);
CREATE TABLE article (id int PRIMARY KEY);
CALL pg_temp.make_synced('customer');
CALL pg_temp.make_synced('contact');
CALL pg_temp.make_synced('article', 'shop');

DROP SERVER crm;
DROP SERVER other, crm;
DROP SERVER IF EXISTS nowhere;
DROP SERVER other;

ALTER SERVER crm RENAME TO "Client's";
SELECT server_name, stream_name FROM ods.stream ORDER BY 1;
BEGIN;
ALTER SERVER shop RENAME TO store;
SELECT server_name FROM ods.stream ORDER BY 1;
ROLLBACK;
SELECT server_name FROM ods.stream ORDER BY 1;

DROP SERVER "Client's" CASCADE;
SELECT server_name FROM ods.stream ORDER BY 1;
SELECT relation FROM ods.synced_table ORDER BY 1;
INSERT INTO customer VALUES (1);
INSERT INTO article VALUES (1);

-- Workers of other servers stay.
DO $$
BEGIN
    FOR attempt IN 1 .. 1000 LOOP
        EXIT WHEN EXISTS (SELECT FROM ods.maintenance_board() WHERE state = 'running');
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$;
SELECT pid AS worker FROM ods.maintenance_board() \gset
BEGIN;
DROP SERVER shop CASCADE;
SELECT pid = :worker AS stayed FROM ods.maintenance_board();
ROLLBACK;

-- A renaming owner needs no right on the catalog; what a role owns goes with it.
CREATE ROLE drop_owner;
GRANT USAGE ON FOREIGN DATA WRAPPER drop_wrapper TO drop_owner;
ALTER SERVER shop OWNER TO drop_owner;
SET ROLE drop_owner;
ALTER SERVER shop RENAME TO store;
DROP OWNED BY drop_owner;
RESET ROLE;
SELECT server_name FROM ods.stream ORDER BY 1;
DROP OWNED BY drop_owner CASCADE;
SELECT server_name FROM ods.stream ORDER BY 1;
INSERT INTO article VALUES (1);
DROP ROLE drop_owner;

-- Through the wrapper, too.
CREATE SERVER crm FOREIGN DATA WRAPPER drop_wrapper;
CALL pg_temp.make_synced('customer');
\set VERBOSITY terse
DROP FOREIGN DATA WRAPPER drop_wrapper CASCADE;
SELECT server_name FROM ods.stream ORDER BY 1;
INSERT INTO customer VALUES (2);

DROP SCHEMA drop_server CASCADE;
CALL pg_temp.forget_all();

-- A native subscription does not write a synced table.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE SCHEMA guard_subscription; SET search_path = guard_subscription;
-- The publisher is another database of this cluster.
CREATE TABLE customer (id int PRIMARY KEY);
CREATE TABLE ordinary (id int PRIMARY KEY);
CALL pg_temp.make_synced('customer');
\set subscriber :DBNAME
CREATE DATABASE guard_publisher;
\c guard_publisher
CREATE SCHEMA guard_subscription;
CREATE TABLE guard_subscription.customer (id int PRIMARY KEY);
CREATE TABLE guard_subscription.ordinary (id int PRIMARY KEY);
CREATE PUBLICATION of_ordinary FOR TABLE guard_subscription.ordinary;
CREATE PUBLICATION of_all FOR ALL TABLES;
\c :subscriber
SET search_path = guard_subscription;
SELECT format('host=%s port=%s dbname=guard_publisher user=%s', split_part(current_setting('unix_socket_directories'), ',', 1),
              current_setting('port'), current_user) AS publisher \gset
CREATE SUBSCRIPTION into_ours CONNECTION :'publisher' PUBLICATION of_all
    WITH (create_slot = false, slot_name = none, enabled = false);
SELECT subname FROM pg_subscription;
CREATE SUBSCRIPTION into_others CONNECTION :'publisher' PUBLICATION of_ordinary
    WITH (create_slot = false, slot_name = none, enabled = false);
ALTER SUBSCRIPTION into_others SET PUBLICATION of_ordinary, of_all WITH (refresh = false);
\set VERBOSITY terse
ALTER SUBSCRIPTION into_others SET (slot_name = 'guard_any');
ALTER SUBSCRIPTION into_others ENABLE;
ALTER SUBSCRIPTION into_others REFRESH PUBLICATION WITH (copy_data = false);
ALTER SUBSCRIPTION into_others DISABLE;
SELECT srrelid::regclass FROM pg_subscription_rel;
ALTER SUBSCRIPTION into_others SET (slot_name = none);
DROP SUBSCRIPTION into_others;
DROP DATABASE guard_publisher;
\set ECHO none
\i :setup
\set ECHO all

DROP SCHEMA guard_subscription CASCADE;
CALL pg_temp.forget_all();

-- COPY FROM.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE SCHEMA guard_copy; SET search_path = guard_copy;
CREATE TABLE customer (id int PRIMARY KEY, name text);
CALL pg_temp.make_synced('customer');

COPY customer FROM PROGRAM 'echo 1';
COPY customer (id) FROM stdin;
1
\.
COPY customer TO stdout;

-- Errors of other tables keep the line they happened in.
CREATE TABLE ordinary (id int PRIMARY KEY);
COPY ordinary FROM stdin;
1
1
\.

DROP SCHEMA guard_copy CASCADE;
CALL pg_temp.forget_all();

-- A database that its catalog was not written for.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
-- In one transaction, so that no worker acts on what this makes up.
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA fence; SET search_path = fence;
CREATE TABLE customer (id int PRIMARY KEY, name text);
CREATE TABLE empty (id int PRIMARY KEY, name text);
CREATE TABLE paused (id int PRIMARY KEY, name text);
CALL pg_temp.make_synced('customer');
CALL pg_temp.make_synced('empty');
CALL pg_temp.make_synced('paused', 'shop');
UPDATE ods.table_state SET state = 'failed', reason = 'gap' WHERE table_id = (SELECT max(table_id) - 1 FROM ods.synced_table);
UPDATE ods.table_state SET state = 'paused' WHERE table_id = (SELECT max(table_id) FROM ods.synced_table);
UPDATE ods.stream SET publication_made_by_ods = false, publication_name = 'theirs' WHERE server_name = 'shop';
INSERT INTO ods.stream_position SELECT stream_id, '0/1', now(), '1', 1, 'crm' FROM ods.stream;
INSERT INTO ods.reread SELECT table_id, '{1}' FROM ods.synced_table;

SELECT ods.fence_reason();
INSERT INTO customer VALUES (1);
SELECT ods.adopt_database();

-- Another database, another cluster, another timeline.
UPDATE ods.identity SET database_oid = 1;
SELECT regexp_replace(ods.fence_reason(), '\d{3,}', 'N');
UPDATE ods.identity SET system_identifier = '1';
SELECT regexp_replace(ods.fence_reason(), '\d{3,}', 'N');
UPDATE ods.identity SET timeline = timeline + 1, database_oid = (SELECT oid FROM pg_database WHERE datname = current_database()),
    system_identifier = (SELECT system_identifier FROM pg_control_system());
SELECT ods.fence_reason() ~ '^the catalog was written on timeline \d+, this is timeline \d+$';

-- A restore goes through, in any order; nothing else does.
INSERT INTO customer VALUES (1, 'one');
COPY customer FROM stdin;
2	two
\.
TRUNCATE ONLY empty;
COPY empty FROM stdin;
1	one
\.
TRUNCATE ONLY empty;
UPDATE customer SET name = 'changed';
DELETE FROM customer;
INSERT INTO customer VALUES (1, 'two') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name;
ALTER TABLE ONLY customer REPLICA IDENTITY USING INDEX customer_pkey;
CREATE TABLE parent (id int PRIMARY KEY, name text);
ALTER TABLE customer INHERIT parent;

CREATE ROLE fence_nobody;
SET ROLE fence_nobody;
SELECT ods.adopt_database();
RESET ROLE;
DROP ROLE fence_nobody;

SELECT ods.adopt_database();
SELECT ods.fence_reason();
SELECT server_name, stream_name ~ '^ods_[0-9a-f]{16}$' AS is_new, publication_name = stream_name AS is_its_own,
       publication_name = 'theirs' AS is_theirs
  FROM ods.stream ORDER BY 1;
SELECT count(DISTINCT stream_name) FROM ods.stream;
SELECT position, source_system_identifier, source_timeline, source_database FROM ods.stream_position;
SELECT relation, s.state, s.reason, s.sweep, m.state AS member, m.last_key
  FROM ods.synced_table JOIN ods.table_state s USING (table_id) JOIN ods.source_member m USING (table_id) ORDER BY table_id;
SELECT count(*) FROM ods.reread;
INSERT INTO customer VALUES (3);

-- A catalog without identity is one being restored.
DELETE FROM ods.identity;
SELECT ods.fence_reason();
INSERT INTO customer VALUES (3);
UPDATE customer SET name = 'changed';
ROLLBACK;

-- Foreign keys, from a synced table and to one.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE SCHEMA guard_foreign_key; SET search_path = guard_foreign_key;
CREATE TABLE region (id int PRIMARY KEY);
CREATE TABLE customer (id int PRIMARY KEY, region int REFERENCES region ON DELETE CASCADE ON UPDATE CASCADE,
                       rep int REFERENCES region ON DELETE SET NULL);
CREATE TABLE note (id int PRIMARY KEY, customer int REFERENCES customer, body text);
INSERT INTO region VALUES (1), (2), (3);
INSERT INTO customer VALUES (1, 1, 2);
CALL pg_temp.make_synced('customer');

-- Actions that would write the synced table.
DELETE FROM region WHERE id = 1;
UPDATE region SET id = 9 WHERE id = 1;
DELETE FROM region WHERE id = 2;
DELETE FROM region WHERE id = 3;
TABLE customer;

-- An ordinary table may point at it.
INSERT INTO note VALUES (1, 1, 'called');
INSERT INTO note VALUES (2, 2, 'unknown');
UPDATE note SET customer = 1 WHERE id = 1;
CREATE TABLE later (customer int REFERENCES customer);
INSERT INTO later VALUES (1);
ALTER TABLE note DROP CONSTRAINT note_customer_fkey;
ALTER TABLE note ADD FOREIGN KEY (customer) REFERENCES customer ON DELETE CASCADE;

DROP SCHEMA guard_foreign_key CASCADE;
CALL pg_temp.forget_all();

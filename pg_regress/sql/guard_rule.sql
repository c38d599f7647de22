-- Rules, to a synced table and away from it.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE SCHEMA guard_rule; SET search_path = guard_rule;
CREATE TABLE customer (id int PRIMARY KEY, name text);
CREATE TABLE inbox (id int PRIMARY KEY, name text);
CREATE RULE forward AS ON INSERT TO inbox DO ALSO INSERT INTO customer VALUES (NEW.id, NEW.name);
CREATE RULE away AS ON UPDATE TO inbox DO INSTEAD DELETE FROM customer;
INSERT INTO inbox VALUES (1, 'one');
CALL pg_temp.make_synced('customer');

INSERT INTO inbox VALUES (2, 'two');
UPDATE inbox SET name = 'changed';
DELETE FROM inbox;
TABLE customer;

-- A rule would swallow what the stream writes.
CREATE RULE nothing AS ON DELETE TO customer DO INSTEAD NOTHING;
CREATE RULE more AS ON UPDATE TO customer DO ALSO INSERT INTO inbox VALUES (NEW.id, 'changed');
CREATE RULE other AS ON INSERT TO inbox DO ALSO NOTHING;
SELECT rulename FROM pg_rules WHERE tablename = 'customer';

DROP SCHEMA guard_rule CASCADE;
CALL pg_temp.forget_all();

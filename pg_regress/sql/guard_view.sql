-- Updatable views, also over views.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE SCHEMA guard_view; SET search_path = guard_view;
CREATE TABLE customer (id int PRIMARY KEY, name text);
INSERT INTO customer VALUES (1, 'one');
CREATE VIEW renamed AS SELECT id AS number, name AS title FROM customer;
CREATE VIEW upper_view AS SELECT * FROM renamed WHERE number < 10 WITH CHECK OPTION;
CALL pg_temp.make_synced('customer');

INSERT INTO renamed VALUES (2, 'two');
UPDATE upper_view SET title = 'changed';
DELETE FROM upper_view;
SELECT * FROM upper_view FOR UPDATE;

-- A trigger of a view that writes elsewhere is none of our business.
CREATE TABLE request (name text);
CREATE VIEW writable AS SELECT name FROM customer;
CREATE FUNCTION redirect() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO request VALUES (NEW.name); RETURN NEW; END $$;
CREATE TRIGGER redirect INSTEAD OF UPDATE ON writable FOR EACH ROW EXECUTE FUNCTION redirect();
UPDATE writable SET name = 'wanted';
TABLE request;
TABLE customer;

DROP SCHEMA guard_view CASCADE;
CALL pg_temp.forget_all();

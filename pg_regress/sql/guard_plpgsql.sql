-- Writes from functions, DO blocks and triggers.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE SCHEMA guard_plpgsql; SET search_path = guard_plpgsql;
CREATE TABLE customer (id int PRIMARY KEY, name text);
CREATE TABLE inbox (id int PRIMARY KEY);
CREATE FUNCTION add(id int) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS
    $$ BEGIN INSERT INTO guard_plpgsql.customer VALUES (id, 'any'); END $$;
CREATE FUNCTION change() RETURNS void LANGUAGE sql AS $$ UPDATE guard_plpgsql.customer SET name = 'changed' $$;
CREATE FUNCTION forward() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM guard_plpgsql.add(NEW.id); RETURN NEW; END $$;
CREATE TRIGGER forward AFTER INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION forward();
SELECT add(1);
CALL pg_temp.make_synced('customer');

SELECT add(2);
SELECT change();
INSERT INTO inbox VALUES (2);
DO $$ BEGIN EXECUTE 'DELETE FROM guard_plpgsql.customer'; END $$;
DO $$
BEGIN
    DELETE FROM guard_plpgsql.customer;
EXCEPTION WHEN read_only_sql_transaction THEN
    RAISE NOTICE 'refused: %', SQLERRM;
END $$;
BEGIN;
DECLARE at_row CURSOR FOR SELECT * FROM customer FOR UPDATE;
FETCH at_row;
UPDATE customer SET name = 'changed' WHERE CURRENT OF at_row;
ROLLBACK;
TABLE customer;

DROP SCHEMA guard_plpgsql CASCADE;
CALL pg_temp.forget_all();
